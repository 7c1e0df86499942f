/* A copy source from any bytes: first line the Host of the request, the rest the URL. What passes
 * is a blob of this box: named by an account or alias, or by the very host that was asked; and what
 * is shown of it afterwards holds no query. As a URL elsewhere it is read in one way only: what is
 * connected to is made of what was judged. */
#include <stdlib.h>

#include "base/date.h"
#include "blobapi/source.h"
#include "upstream/network.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct span aliases[] = {SPAN("contoso.blob.core.windows.net")};
static const struct account account_rows[] = {
    {.id = 1, .name = SPAN("acct")},
    {.id = 2, .name = SPAN("contoso"), .aliases = aliases, .alias_count = 1},
};
static const struct accounts accounts = {account_rows, 2};

/* But for a snapshot's id, which is a time and nothing else. */
static bool holds_no_query(struct span url)
{
    struct span query;
    uint64_t time;

    (void)span_cut(url, '?', &query);
    return !query.base || (span_starts(query, SPAN("snapshot=")) &&
                           iso8601_ticks_parse(span_skip(query, 9), &time) == 0);
}

static void source_check(const struct source_asked *asked, const struct source *source)
{
    const struct target *target = &source->target;

    if (!target->account || !target->container.len || !target->blob.len)
        abort();
    if (container_name_check(target->container) != AZ_OK || blob_name_check(target->blob) != AZ_OK)
        abort();
    if (!holds_no_query(source->url))
        abort();
    if (target->path_style && !asked->host.len)
        abort();
}

static void elsewhere_check(struct span url, struct arena *arena)
{
    struct origin_url parsed, again;
    struct span whole;

    if (origin_url_parse(url, arena, &parsed))
        return;
    if (!parsed.path.len || parsed.path.base[0] != '/' ||
        memchr(parsed.text.base, '@', parsed.text.len))
        abort();
    whole = arena_printf(arena, "%.*s%.*s", SPAN_FMT(parsed.text), SPAN_FMT(parsed.path));
    if (origin_url_parse(whole, arena, &again) || again.origin.port != parsed.origin.port ||
        again.origin.tls != parsed.origin.tls || !span_eq(again.origin.host, parsed.origin.host) ||
        !span_eq(again.path, parsed.path))
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
    elsewhere_check(url, arena);
    arena_free(arena);
    return 0;
}
