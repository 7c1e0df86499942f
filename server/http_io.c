/* server/http_io.c - bytes of a connection: the input buffer, the body into an iobuf, the answer's
 * output queue. Nothing here knows of completions or timers; -EAGAIN says that readiness must come
 * first, and it also ends a connection's share of a turn (HTTP_TURN_BYTES_MAX). */
#include "server/http.h"

#include "server/metrics.h"

static bool turn_is_used_up(struct http_conn *conn)
{
    if (conn->turn != conn->loop->ev.turn) {
        conn->turn = conn->loop->ev.turn;
        conn->turn_bytes = 0;
    }
    return conn->turn_bytes >= HTTP_TURN_BYTES_MAX && !wire_pending(&conn->wire);
}

static void count_in(struct http_conn *conn, size_t bytes)
{
    conn->bytes_in += bytes;
    conn->turn_bytes += bytes;
    STAT_ADD(server_received_bytes, bytes);
}

/* ---- input buffer: heads, chunk framing, and what of a body came with them ---- */

static void in_room(struct http_conn *conn)
{
    struct http_loop *loop = conn->loop;

    if (!conn->in) {
        conn->in_room = HTTP_RECV_BYTES;
        conn->in = loop->spare_count ? loop->spares[--loop->spare_count] : xmalloc(HTTP_RECV_BYTES);
    }
    if (conn->in_start) {
        memmove(conn->in, conn->in + conn->in_start, conn->in_end - conn->in_start);
        conn->in_end -= conn->in_start;
        conn->in_start = 0;
    }
    if (conn->in_end == conn->in_room) { /* a long head: up to HTTP_HEAD_BYTES_MAX */
        conn->in_room *= 2;
        conn->in = xrealloc(conn->in, conn->in_room);
    }
}

void http_in_free(struct http_conn *conn)
{
    struct http_loop *loop = conn->loop;

    if (conn->in_room == HTTP_RECV_BYTES && loop->spare_count < HTTP_SPARES_MAX)
        loop->spares[loop->spare_count++] = conn->in;
    else
        free(conn->in);
    conn->in = NULL;
    conn->in_start = conn->in_end = conn->in_room = conn->scanned = 0;
}

ssize_t http_in_recv(struct http_conn *conn)
{
    ssize_t n;

    in_room(conn);
    assert(conn->in_room <= 2 * HTTP_HEAD_BYTES_MAX);
    n = wire_recv(&conn->wire, conn->in + conn->in_end,
                  MIN(conn->in_room - conn->in_end, (size_t)HTTP_RECV_BYTES));
    if (n > 0) {
        conn->in_end += (size_t)n;
        count_in(conn, (size_t)n);
    } else if (conn->in_start == conn->in_end) {
        http_in_free(conn); /* an idle connection holds no buffer */
    }
    return n;
}

/* ---- body ---- */

struct span http_in_bytes(const struct http_conn *conn)
{
    return span_from(conn->in + conn->in_start, conn->in_end - conn->in_start);
}

void http_in_took(struct http_conn *conn, size_t bytes)
{
    conn->in_start += bytes;
    if (conn->in_start == conn->in_end)
        http_in_free(conn);
}

static void body_copy(struct http_conn *conn,
                      struct iobuf *into) /* what came along with the head */
{
    struct span in = http_in_bytes(conn);
    size_t n = MIN(MIN(in.len, (size_t)(into->size - into->used)), (size_t)conn->body.left);

    memcpy(into->base + into->used, in.base, n);
    into->used += (uint32_t)n;
    http_body_took(&conn->body, n);
    http_in_took(conn, n);
}

static int body_recv(struct http_conn *conn,
                     struct iobuf *into) /* the fast path: kernel -> iobuf */
{
    size_t room = MIN((size_t)(into->size - into->used), (size_t)conn->body.left);
    ssize_t n;

    if (turn_is_used_up(conn))
        return -EAGAIN;
    n = wire_recv(&conn->wire, into->base + into->used, room);
    if (n <= 0)
        return n ? (int)n : -ECONNRESET;
    into->used += (uint32_t)n;
    http_body_took(&conn->body, (uint64_t)n);
    count_in(conn, (size_t)n);
    /* Short on plain TCP: the socket is empty, so the next recv would only say so. */
    return (size_t)n < room && !conn->wire.ssl ? -EAGAIN : 0;
}

static int body_wait(struct http_conn *conn) /* read() without a buffer: is there a byte? */
{
    ssize_t n = conn->in ? 1 : wire_peek(&conn->wire);

    return n > 0 ? 0 : n ? (int)n : -ECONNRESET;
}

static int body_framing(struct http_conn *conn)
{
    ssize_t n;

    if (!conn->in && (n = http_in_recv(conn)) <= 0)
        return n ? (int)n : -ECONNRESET;
    n = http_body_framing(&conn->body, http_in_bytes(conn));
    if (n < 0)
        return (int)n;
    http_in_took(conn, (size_t)n);
    return 0;
}

int http_body_fill(struct http_conn *conn, struct iobuf *into)
{
    int err = 0;

    while (!err && !conn->body.ended) {
        if (!conn->body.left)
            err = body_framing(conn);
        else if (!into)
            return body_wait(conn);
        else if (into->used == into->size)
            return 0;
        else if (conn->in)
            body_copy(conn, into);
        else
            err = body_recv(conn, into);
    }
    return conn->body.ended ? 0 : err;
}

/* ---- output queue ---- */

static void out_took(struct http_conn *conn, size_t bytes)
{
    conn->bytes_out += bytes;
    conn->turn_bytes += bytes;
    STAT_ADD(server_sent_bytes, bytes);
    while (bytes) {
        struct slice *first = &conn->out[conn->out_first];
        size_t n = MIN(bytes, first->bytes.len);

        first->bytes = span_skip(first->bytes, n);
        bytes -= n;
        if (first->bytes.len)
            return;
        *first = slice_unref(*first);
        conn->out_first++;
        conn->out_count--;
    }
    if (!conn->out_count)
        conn->out_first = 0;
}

void http_out_push(struct http_conn *conn, struct slice s)
{
    if (!s.bytes.len) {
        (void)slice_unref(s);
        return;
    }
    if (conn->out_first + conn->out_count == HTTP_OUT_MAX) {
        memmove(conn->out, conn->out + conn->out_first, conn->out_count * sizeof(conn->out[0]));
        conn->out_first = 0;
    }
    assert(conn->out_count < HTTP_OUT_MAX);
    conn->out[conn->out_first + conn->out_count++] = s;
}

int http_out_flush(struct http_conn *conn)
{
    while (conn->out_count) {
        struct iovec iov[HTTP_OUT_MAX];
        ssize_t n;

        if (turn_is_used_up(conn))
            return -EAGAIN;
        for (unsigned i = 0; i < conn->out_count; i++) {
            struct span bytes = conn->out[conn->out_first + i].bytes;

            iov[i] = (struct iovec){(void *)bytes.base, bytes.len};
        }
        n = wire_send(&conn->wire, iov, conn->out_count);
        if (n < 0)
            return (int)n;
        out_took(conn, (size_t)n);
    }
    return 0;
}

void http_out_drop(struct http_conn *conn)
{
    for (; conn->out_count; conn->out_count--, conn->out_first++)
        conn->out[conn->out_first] = slice_unref(conn->out[conn->out_first]);
    conn->out_first = 0;
}
