/* The body of Set Container ACL: any bytes. What is accepted is within its limits, can be shown,
 * and what is shown is accepted again and shown the same. */
#include <stdlib.h>

#include "blobapi/handlers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct span shown(const struct acl_document *document, struct arena *arena)
{
    struct iobuf buf = {.base = arena_alloc(arena, KIB(64)), .size = KIB(64)};
    struct emit emit = {.bufs = {&buf}, .count = 1, .at = buf.base, .end = buf.base + buf.size};

    emit.limit = 1;
    acl_emit(&emit, document->policies, document->count);
    return emit.full ? SPAN("") : span_from(buf.base, (size_t)(emit.at - buf.base));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct acl_document document, again;
    struct xml_fault fault;
    struct span first;

    if (size <= DOCUMENT_BYTES_MAX &&
        acl_parse(span_from(data, size), arena, &document, &fault) == AZ_OK) {
        for (unsigned i = 0; i < document.count; i++)
            if (!document.policies[i].id.len || document.policies[i].id.len > 64 * 3)
                abort();
        first = shown(&document, arena);
        if (first.len && (acl_parse(first, arena, &again, &fault) != AZ_OK ||
                          !span_eq(first, shown(&again, arena))))
            abort();
    }
    arena_free(arena);
    return 0;
}
