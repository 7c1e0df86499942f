/* server/http_request.c - from received bytes to an exchange, or to a refusal the driver sends
 * itself. */
#include "server/http.h"

#include "base/clock.h"
#include "server/metrics.h"

/* What never became a request is in the access log too, with what is known of it. */
static void refusal_tell(struct http_conn *conn, const struct http_refusal *why)
{
    const struct server_conf *conf = conn->service->conf;
    struct server_outcome outcome = {.status = why->status, .whole = true};

    if (conf->finished)
        conf->finished(conf->arg, &conn->exchange, &outcome);
}

void http_refuse(struct http_conn *conn, const struct http_refusal *why)
{
    struct span id = http_request_id(conn->arena), body = http_error_body(conn->arena, why, id);
    struct header headers[] = {
        {.name = SPAN("Content-Type"), .value = SPAN("application/xml")},
        {.name = SPAN("Server"), .value = SPAN("Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")},
        {.name = SPAN("x-ms-error-code"), .value = span_of(why->code)},
        {.name = SPAN("x-ms-request-id"), .value = id},
        {.name = SPAN("x-ms-version"), .value = SPAN("2021-12-02")},
        {.name = SPAN("Retry-After"), .value = SPAN("1")},
    };
    struct response response = {.status = why->status,
                                .reason = span_of(why->message),
                                .headers = headers,
                                .header_count = countof(headers) - (why->status != 503),
                                .body_bytes = (int64_t)body.len};
    struct http_answer how = {.date = http_date_now(conn->loop)};

    refusal_tell(conn, why);
    conn->keep_alive = false;
    http_out_push(conn, (struct slice){.bytes = http_answer_head(conn->arena, &response, &how)});
    if (!conn->is_head)
        http_out_push(conn, (struct slice){.bytes = body});
    conn->state = HTTP_FINISH;
    http_send_more(conn);
}

const struct http_service *http_service_of(const struct exchange *exchange)
{
    return container_of(exchange, struct http_conn, exchange)->service;
}

static void exchange_fill(struct http_conn *conn, const struct http_head *head)
{
    struct exchange *exchange = &conn->exchange;
    size_t bytes = head->header_count * sizeof(head->headers[0]);
    struct header *headers = arena_alloc(conn->arena, bytes);

    memcpy(headers, head->headers, bytes);
    *exchange = (struct exchange){.ops = &http_exchange_ops,
                                  .api = conn->service->conf->api,
                                  .loop = &conn->loop->ev.loop,
                                  .arena = conn->arena,
                                  .method = head->method,
                                  .target = head->target,
                                  .host = head->host,
                                  .headers = headers,
                                  .header_count = head->header_count,
                                  .peer = (struct sockaddr *)&conn->peer,
                                  .tls = conn->wire.ssl != NULL,
                                  .body_bytes = head->body_bytes,
                                  .body_ended = head->body_bytes == 0};
}

/* Of the body: received with the head. */
static size_t came_along(const struct http_conn *conn, const struct http_head *head)
{
    size_t bytes = conn->in ? http_in_bytes(conn).len : 0;

    return head->body_bytes < 0 ? bytes : MIN(bytes, (size_t)head->body_bytes);
}

static void request_begin(struct http_conn *conn, const struct http_head *head, size_t bytes)
{
    http_body_init(&conn->body, head->body_bytes);
    conn->http11 = head->http11;
    conn->keep_alive = head->keep_alive;
    conn->continue_wanted = head->expect_continue && head->body_bytes != 0;
    conn->started_ns = clock_mono_ns();
    conn->bytes_in = bytes + came_along(conn, head);
    conn->bytes_out = 0;
    conn->status = 0;
    conn->head_given = conn->chunked = conn->bodiless = false;
    conn->answer_left = 0;
    conn->state = HTTP_BUSY;
    http_wait_for(conn, WAIT_NONE);
    atomic_fetch_add_explicit(&conn->loop->work, 1, memory_order_relaxed);
    STAT_INC(server_requests);
    conn->service->start(&conn->exchange);
}

/* The head moves to the arena: the input buffer is needed for what follows, the exchange for
 * longer. */
static void head_complete(struct http_conn *conn, size_t bytes)
{
    struct header room[HTTP_HEADERS_MAX];
    struct span text = arena_copy(conn->arena, span_from(http_in_bytes(conn).base, bytes));
    char *lower = arena_alloc(conn->arena, bytes);
    struct http_refusal why;
    struct http_head head;
    int err = http_head_parse(text, lower, room, &head, &why);

    conn->scanned = 0;
    conn->is_head = !err && span_eq(head.method, SPAN("HEAD"));
    conn->exchange = (struct exchange){.peer = (struct sockaddr *)&conn->peer};
    if (!err)
        exchange_fill(conn, &head);
    http_in_took(conn, bytes);
    if (!err && conn->refuse) {
        why = (struct http_refusal){503, "ServerBusy", "The server is busy: too many connections."};
        err = -EBUSY;
    } else if (err) {
        STAT_INC(server_heads_refused);
    }
    if (err)
        http_refuse(conn, &why);
    else
        request_begin(conn, &head, bytes);
}

/* A head out of what has been received. False: more is needed. */
static bool head_take(struct http_conn *conn)
{
    size_t blank = http_head_blank(http_in_bytes(conn));
    struct http_refusal why;
    ssize_t n;

    if (blank) {
        conn->scanned = 0;
        http_in_took(conn, blank);
    }
    if (!conn->in)
        return false;
    n = http_head_end(http_in_bytes(conn), &conn->scanned, &why);
    if (n == 0)
        return false;
    if (n > 0) {
        head_complete(conn, (size_t)n);
        return true;
    }
    STAT_INC(server_heads_refused);
    conn->is_head = false;
    conn->exchange = (struct exchange){.peer = (struct sockaddr *)&conn->peer};
    http_in_free(conn);
    http_refuse(conn, &why);
    return true;
}

void http_head_more(struct http_conn *conn)
{
    for (;;) {
        ssize_t n;

        if (conn->in && head_take(conn))
            return;
        n = http_in_recv(conn);
        if (n == -EAGAIN)
            break;
        if (n <= 0) {
            http_close(conn, false);
            return;
        }
    }
    if (conn->in && conn->state == HTTP_IDLE) {
        conn->state = HTTP_HEAD;
        http_wait_for(conn, WAIT_HEAD);
    }
    http_want_read(conn, true);
}
