/* server/http_exchange.c - struct exchange_ops: what a handler can do with its request.
 *
 * The handler has at most one call outstanding (O1), read_done or send_done. It is completed by
 * readiness (http_read_more, http_send_more), by a timer, or by http_gone; each of these clears the
 * pointer before it posts. After a failure every later call gets conn->failed. */
#include "server/http.h"

#include <stdio.h>

#include "base/clock.h"
#include "server/metrics.h"

static struct http_conn *conn_of(struct exchange *exchange)
{
    struct http_conn *conn = container_of(exchange, struct http_conn, exchange);

    assert(conn->magic == HTTP_MAGIC && conn->state == HTTP_BUSY);
    assert(!conn->read_done && !conn->send_done);
    return conn;
}

static void call_done(struct http_conn *conn, struct completion **call, int err)
{
    struct completion *done = *call;

    *call = NULL;
    conn->into = NULL;
    http_wait_for(conn, WAIT_NONE);
    completion_post(done, err);
}

/* The handler's op was cancelled by someone else than this driver: its call ends, the connection is
 * cut when the exchange does. */
static void call_cancel(struct completion *done)
{
    struct http_conn *conn = done->callee;

    conn->failed = -ECANCELED;
    http_out_drop(conn);
    call_done(conn, conn->read_done ? &conn->read_done : &conn->send_done, -ECANCELED);
}

static void call_begin(struct http_conn *conn, struct completion **call, struct completion *done)
{
    *call = done;
    done->cancel = call_cancel;
    done->callee = conn;
}

/* A wait begins anew when so much has moved, not with every byte: what trickles holds an I/O buffer
 * that others wait for. */
static void wait_moving(struct http_conn *conn, enum http_wait waits, uint64_t moved)
{
    if (conn->waits == waits && moved - conn->moved < HTTP_MOVED_MIN)
        return;
    conn->moved = moved;
    http_wait_for(conn, waits);
}

/* ---- read ---- */

void http_read_more(struct http_conn *conn)
{
    int err = http_body_fill(conn, conn->into);

    conn->exchange.body_ended = conn->body.ended;
    if (err == -EAGAIN) {
        wait_moving(conn, WAIT_BODY, conn->bytes_in);
        http_want_read(conn, true);
    } else if (err == 0 || err == -EBADMSG) {
        call_done(conn, &conn->read_done, err);
    } else {
        http_gone(conn, -ECANCELED);
    }
}

static void read_grant(struct http_conn *conn) /* a client that did not wait needs no 100 */
{
    conn->continue_wanted = false;
    if (conn->in)
        return;
    http_out_push(conn,
                  (struct slice){.bytes = SPAN("HTTP/1.1 100 Continue\r\n\r\n"), .checked = true});
    if (http_out_flush(conn) == -EAGAIN)
        http_want_write(conn);
}

static void exchange_read(struct exchange *exchange, struct iobuf *into, struct completion *done)
{
    struct http_conn *conn = conn_of(exchange);

    if (conn->failed || conn->body.ended) {
        completion_post(done, conn->failed);
        return;
    }
    if (conn->continue_wanted)
        read_grant(conn);
    conn->into = into;
    call_begin(conn, &conn->read_done, done);
    http_read_more(conn);
}

/* ---- head ---- */

/* Can the connection outlive this answer? An unread body must be small enough to be dropped, and a
 * client still waiting for its 100 may or may not send the body at all. */
static bool keeps_alive(const struct http_conn *conn)
{
    if (!conn->keep_alive || atomic_load(&conn->service->draining))
        return false;
    if (conn->body.ended)
        return true;
    return !conn->continue_wanted && conn->exchange.body_bytes >= 0 &&
           conn->body.left <= conn->service->limits.drain_bytes;
}

static void exchange_head(struct exchange *exchange, const struct response *response)
{
    struct http_conn *conn = conn_of(exchange);
    int status = response->status;
    struct http_answer how = {.date = http_date_now(conn->loop)};

    assert(!conn->head_given && status >= 200 && status <= 999);
    conn->head_given = true;
    conn->status = status;
    conn->bodiless = conn->is_head || status == 204 || status == 304;
    conn->chunked = !conn->bodiless && response->body_bytes < 0 && conn->http11;
    if (!conn->bodiless && response->body_bytes < 0 && !conn->http11)
        conn->keep_alive = false; /* the end of the connection is the end of the body */
    conn->keep_alive = keeps_alive(conn);
    conn->answer_left = conn->bodiless ? 0 : response->body_bytes;
    how.keep_alive = conn->keep_alive;
    how.chunked = conn->chunked;
    http_out_push(conn, (struct slice){.bytes = http_answer_head(conn->arena, response, &how),
                                       .checked = true});
}

/* ---- send ---- */

/* The client takes nothing more: drop what waits, tell the handler if it waits too. */
static void out_failed(struct http_conn *conn, int err)
{
    conn->failed = err;
    http_out_drop(conn);
    if (conn->state == HTTP_BUSY)
        http_gone(conn, err);
    else
        http_close(conn, true);
}

void http_send_more(struct http_conn *conn)
{
    int err = http_out_flush(conn);

    if (err == -EAGAIN) {
        wait_moving(conn, WAIT_WRITE, conn->bytes_out);
        http_want_write(conn);
    } else if (err) {
        out_failed(conn, -ECANCELED);
    } else if (conn->send_done) {
        call_done(conn, &conn->send_done, 0);
    } else if (conn->state == HTTP_FINISH) {
        http_answer_done(conn);
    }
}

static void push_body(struct http_conn *conn, const struct slice *slices, unsigned n, size_t total)
{
    if (conn->chunked) {
        size_t len = (size_t)sprintf(conn->chunk_line, "%zx\r\n", total);

        http_out_push(conn, (struct slice){.bytes = {conn->chunk_line, len}, .checked = true});
    }
    for (unsigned i = 0; i < n; i++)
        http_out_push(conn, slices[i]);
    if (conn->chunked)
        http_out_push(conn, (struct slice){.bytes = SPAN("\r\n"), .checked = true});
}

static void exchange_send(struct exchange *exchange, const struct slice *slices, unsigned n,
                          struct completion *done)
{
    struct http_conn *conn = conn_of(exchange);
    size_t total = 0;

    assert(conn->head_given && n <= HTTP_SEND_SLICES_MAX);
    for (unsigned i = 0; i < n; i++)
        total += slices[i].bytes.len;
    if (conn->failed || conn->bodiless || !total) {
        for (unsigned i = 0; i < n; i++)
            (void)slice_unref(slices[i]);
        total = 0;
    }
    if (conn->failed) {
        completion_post(done, conn->failed);
        return;
    }
    if (total)
        push_body(conn, slices, n, total);
    if (conn->answer_left >= 0) {
        assert((int64_t)total <= conn->answer_left);
        conn->answer_left -= (int64_t)total;
    }
    call_begin(conn, &conn->send_done, done);
    http_send_more(conn);
}

/* ---- end ---- */

static void outcome_tell(struct http_conn *conn, bool whole)
{
    const struct server_conf *conf = conn->service->conf;
    struct server_outcome outcome = {.status = conn->status,
                                     .whole = whole,
                                     .bytes_in = conn->bytes_in,
                                     .bytes_out = conn->bytes_out,
                                     .duration_ns = clock_mono_ns() - conn->started_ns};

    atomic_fetch_sub_explicit(&conn->loop->work, 1, memory_order_relaxed);
    STAT_OBSERVE(server_request_seconds, outcome.duration_ns);
    if (conf->finished)
        conf->finished(conf->arg, &conn->exchange, &outcome);
    conn->exchange.op = NULL;
}

static void exchange_end(struct exchange *exchange, bool whole)
{
    struct http_conn *conn = conn_of(exchange);

    whole = whole && !conn->failed && conn->head_given && conn->answer_left <= 0;
    outcome_tell(conn, whole);
    if (!whole) {
        http_close(conn, true);
        return;
    }
    if (conn->chunked)
        http_out_push(conn, (struct slice){.bytes = SPAN("0\r\n\r\n"), .checked = true});
    conn->state = HTTP_FINISH;
    http_send_more(conn);
}

void http_answer_done(struct http_conn *conn)
{
    http_wait_for(conn, WAIT_NONE);
    arena_reset(conn->arena);
    http_next(conn);
}

const struct exchange_ops http_exchange_ops = {
    .read = exchange_read, .head = exchange_head, .send = exchange_send, .end = exchange_end};
