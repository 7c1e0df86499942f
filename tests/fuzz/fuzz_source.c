/* A copy source from any bytes: first line the Host of the request, the rest the URL. What passes
 * is a blob of this box: named by an account or alias, or by the very host that was asked; and what
 * is shown of it afterwards holds no query. */
#include <stdlib.h>

#include "blobapi/source.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct span aliases[] = {SPAN("contoso.blob.core.windows.net")};
static const struct account account_rows[] = {
    {.id = 1, .name = SPAN("acct")},
    {.id = 2, .name = SPAN("contoso"), .aliases = aliases, .alias_count = 1},
};
static const struct accounts accounts = {account_rows, 2};

static void source_check(const struct source_asked *asked, const struct source *source)
{
    const struct target *target = &source->target;

    if (!target->account || !target->container.len || !target->blob.len)
        abort();
    if (container_name_check(target->container) != AZ_OK || blob_name_check(target->blob) != AZ_OK)
        abort();
    if (source->url.len && memchr(source->url.base, '?', source->url.len))
        abort();
    if (target->path_style && !asked->host.len)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct span url, host = span_cut(span_from((const char *)data, size), '\n', &url);
    struct source_asked asked = {&accounts, host, false};
    struct source source = {0};

    if (source_url_parse(&asked, url, arena, &source) == AZ_OK)
        source_check(&asked, &source);
    arena_free(arena);
    return 0;
}
