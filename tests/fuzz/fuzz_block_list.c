/* The body of Put Block List: any bytes, cut in two at a place the first byte names. */
#include "blobapi/block_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct block_list *list = block_list_open(arena);
    size_t cut = size > 1 ? 1 + data[0] % (size - 1) : size;
    const struct block_ref *at = NULL;
    size_t n = 0;

    if (size > 1 && block_list_feed(list, span_from(data + 1, cut - 1)) == 0 &&
        block_list_feed(list, span_from(data + cut, size - cut)) == 0 &&
        block_list_finish(list, &at, &n) == 0)
        for (size_t i = 0; i < n; i++)
            assert(at[i].id.len >= 1 && at[i].id.len <= BLOCK_ID_BYTES_MAX);
    block_list_close(list);
    arena_free(arena);
    return 0;
}
