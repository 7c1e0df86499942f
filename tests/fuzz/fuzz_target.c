/* A request target from any bytes: first line Host, the rest the target. What parses is held to the
 * rules of target.h again: names of the service's form, the blob a tail of the decoded path,
 * parameters in bounds. */
#include <stdlib.h>

#include "base/text.h"
#include "blobapi/range.h"
#include "blobapi/target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct span aliases[] = {SPAN("contoso.blob.core.windows.net")};
static const struct account account_rows[] = {
    {.id = 1, .name = SPAN("acct")},
    {.id = 2, .name = SPAN("contoso"), .aliases = aliases, .alias_count = 1},
};
static const struct accounts accounts = {account_rows, 2};

static void target_check(const struct target *target, struct arena *arena)
{
    char *plain = arena_alloc(arena, target->path.len);
    size_t len;

    if (!target->account || target->param_count > TARGET_PARAMS_MAX || target->path.base[0] != '/')
        abort();
    if (target->container.len && container_name_check(target->container) != AZ_OK)
        abort();
    if (target->blob.len && (!target->container.len || blob_name_check(target->blob) != AZ_OK))
        abort();
    if (percent_decode(target->path, plain, &len) < 0 || len < target->blob.len ||
        !span_eq(span_from(plain + len - target->blob.len, target->blob.len), target->blob))
        abort();
    for (unsigned i = 0; i < target->param_count; i++)
        if (target->params[i].value.len > target->params[i].raw.len ||
            memchr(target->params[i].value.base, '\n', target->params[i].value.len))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct span text, host = span_cut(span_from(data, size), '\n', &text);
    struct range_request range = {0};
    struct target target;

    if (target_parse(&accounts, host, text, arena, &target) == AZ_OK)
        target_check(&target, arena);
    if (range_parse(host, &range) == 0 && (!range.given || range.last < range.first))
        abort();
    arena_free(arena);
    return 0;
}
