/* The body of Set Blob Service Properties: any bytes. What is accepted can be shown, and what is
 * shown is accepted again and shown the same. */
#include <stdlib.h>

#include "blobapi/service.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Of the first buffer's size, which the longest properties that are accepted may exceed: then there
 * is no text. */
static struct span shown(const struct service_record *record, struct arena *arena)
{
    struct iobuf buf = {.base = arena_alloc(arena, KIB(64)), .size = KIB(64)};
    struct emit emit = {.bufs = {&buf}, .count = 1, .at = buf.base, .end = buf.base + buf.size};

    emit.limit = 1;
    service_document_emit(&emit, record, SPAN("2026-10-06"));
    return emit.full ? SPAN("") : span_from(buf.base, (size_t)(emit.at - buf.base));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct service_document document, again;
    struct xml_fault fault;
    struct service_record record = service_record_default();

    if (size <= DOCUMENT_BYTES_MAX &&
        service_document_parse(span_from(data, size), arena, &document, &fault) == AZ_OK) {
        struct span first, second;

        service_document_apply(&document, &record);
        first = shown(&record, arena);
        if (first.len) {
            if (service_document_parse(first, arena, &again, &fault) != AZ_OK)
                abort();
            record = service_record_default();
            service_document_apply(&again, &record);
            second = shown(&record, arena);
            if (!span_eq(first, second))
                abort();
        }
    }
    arena_free(arena);
    return 0;
}
