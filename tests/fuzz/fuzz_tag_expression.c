/* x-ms-if-tags, where of Find Blobs by Tags: any text; what parses is judged on two sets of tags.
 */
#include "blobapi/tag_expression.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char tags[] = "a\0b\0k\0v";
    struct arena *arena = arena_new();
    const struct tag_expression *e;
    struct span container;

    if (tag_expression_parse(span_from(data, size), arena, &e) == 0) {
        (void)tag_expression_judge(e, (struct span){NULL, 0});
        (void)tag_expression_judge(e, span_from(tags, sizeof(tags)));
    }
    if (tag_filter_parse(span_from(data, size), arena, &e, &container) == 0 && e)
        (void)(tag_expression_judge(e, span_from(tags, sizeof(tags))) &&
               tag_filter_names(e, SPAN("a")));
    arena_free(arena);
    return 0;
}
