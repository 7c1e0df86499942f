/* server/admin.c - GET /healthz, /readyz, /metrics and / on the admin port, over the same driver as
 * the data port. Loop thread; every answer is made at once, in the exchange's arena. */
#include "server/admin.h"

#include "base/metrics.h"
#include "server/http.h"

struct admin_call { /* in the exchange's arena; lives until end() */
    struct exchange *http;
    struct completion sent;
};

struct page {
    int status;
    struct span reason, type, body;
};

static const struct span TEXT = {"text/plain; charset=utf-8", 25};

static struct page page_text(int status, struct span reason, struct span body)
{
    return (struct page){status, reason, TEXT, body};
}

static struct page page_healthz(struct exchange *http) /* it answers, so it lives */
{
    return page_text(200, SPAN("OK"), SPAN("ok\n"));
}

static struct page page_readyz(struct exchange *http)
{
    const struct server_conf *conf = http_service_of(http)->conf;

    if (conf->ready && !conf->ready(conf->arg))
        return page_text(503, SPAN("Service Unavailable"), SPAN("not ready\n"));
    return page_text(200, SPAN("OK"), SPAN("ready\n"));
}

static struct page page_metrics(struct exchange *http)
{
    size_t len = 0;
    _cleanup_(freep) char *text = metrics_text(&len);
    struct page page = page_text(200, SPAN("OK"), arena_copy(http->arena, span_from(text, len)));

    page.type = SPAN("text/plain; version=0.0.4; charset=utf-8");
    return page;
}

static struct page page_status(struct exchange *http)
{
    const struct server_conf *conf = http_service_of(http)->conf;
    size_t len = 0;
    _cleanup_(freep) char *status = conf->status ? conf->status(conf->arg, &len) : NULL;

    return page_text(200, SPAN("OK"),
                     arena_printf(http->arena,
                                  "Hearth " HEARTH_VERSION
                                  "\n\n%.*s\n/metrics  /healthz  /readyz\n",
                                  (int)len, status ? status : ""));
}

static const struct {
    struct span path;
    struct page (*page)(struct exchange *http);
} pages[] = {
    {{"/", 1}, page_status},
    {{"/healthz", 8}, page_healthz},
    {{"/readyz", 7}, page_readyz},
    {{"/metrics", 8}, page_metrics},
};

static struct page page_for(struct exchange *http)
{
    struct span query, path = span_cut(http->target, '?', &query);

    if (!span_eq(http->method, SPAN("GET")) && !span_eq(http->method, SPAN("HEAD")))
        return page_text(405, SPAN("Method Not Allowed"), SPAN("only GET and HEAD\n"));
    for (size_t i = 0; i < countof(pages); i++)
        if (span_eq(path, pages[i].path))
            return pages[i].page(http);
    return page_text(404, SPAN("Not Found"), SPAN("no such page\n"));
}

static void admin_sent(struct completion *sent)
{
    struct admin_call *call = container_of(sent, struct admin_call, sent);

    call->http->ops->end(call->http, sent->err == 0);
}

void admin_start(struct exchange *http)
{
    struct page page = page_for(http);
    struct header headers[] = {{.name = SPAN("Content-Type"), .value = page.type},
                               {.name = SPAN("Cache-Control"), .value = SPAN("no-store")}};
    struct response response = {.status = page.status,
                                .reason = page.reason,
                                .headers = headers,
                                .header_count = countof(headers),
                                .body_bytes = (int64_t)page.body.len};
    struct admin_call *call = arena_zalloc(http->arena, sizeof(*call));
    struct slice slice = {.bytes = page.body, .checked = true};

    call->http = http;
    call->sent = (struct completion){.fn = admin_sent, .loop = http->loop};
    http->ops->head(http, &response);
    http->ops->send(http, &slice, 1, &call->sent);
}
