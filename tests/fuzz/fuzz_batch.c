/* A Blob Batch: the first line is the Content-Type, the rest the body. */
#include "blobapi/batch_parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct span body, boundary, type = span_cut(span_from(data, size), '\n', &body);
    const struct batch_part *parts = NULL;
    unsigned n = 0;

    if (batch_boundary(type, &boundary) == 0 &&
        batch_parse(body, boundary, arena, &parts, &n) == 0) {
        assert(n >= 1 && n <= BATCH_PARTS_MAX);
        for (unsigned i = 0; i < n; i++) {
            assert(parts[i].method.len && parts[i].target.len && parts[i].target.base[0] == '/');
            for (unsigned j = 0; j < parts[i].header_count; j++)
                assert(parts[i].headers[j].name.len);
        }
    }
    arena_free(arena);
    return 0;
}
