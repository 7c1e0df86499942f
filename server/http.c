/* server/http.c - a connection's life: accepted, head after head, drained or lingering, closed.
 *
 *   HANDSHAKE -> IDLE -> HEAD -> BUSY -> FINISH -> IDLE            (keep-alive)
 *                                            \-> DRAIN -> IDLE     (small unread body)
 *                         HEAD (refused) ->    \-> LINGER -> CLOSED (any other end of an answer)
 *
 * Three things move it: readiness (on_readable, on_writable), the timer, and the handler's calls in
 * http_exchange.c. EOF while an exchange runs means that the client is gone: half-closed clients,
 * which no storage client is, lose their answer. */
#include "server/http.h"

#include "base/clock.h"
#include "server/metrics.h"

/* ---- readiness and the timer ---- */

static void on_readable(h2o_socket_t *sock, const char *err);
static void on_writable(h2o_socket_t *sock, const char *err);

void http_want_read(struct http_conn *conn, bool want)
{
    if (conn->state == HTTP_CLOSED)
        return;
    if (want && !h2o_socket_is_reading(conn->sock))
        h2o_socket_read_start(conn->sock, on_readable);
    else if (!want && h2o_socket_is_reading(conn->sock))
        h2o_socket_read_stop(conn->sock);
    if (want && conn->wire.read_wants_write)
        http_want_write(conn);
}

void http_want_write(struct http_conn *conn)
{
    if (conn->state != HTTP_CLOSED && !h2o_socket_is_writing(conn->sock))
        h2o_socket_notify_write(conn->sock, on_writable);
}

static uint64_t wait_ns(const struct server_limits *limits, enum http_wait waits)
{
    switch (waits) {
    case WAIT_HEAD:
        return limits->head_ms * NS_PER_MS;
    case WAIT_BODY:
        return limits->body_idle_ms * NS_PER_MS;
    case WAIT_WRITE:
        return limits->write_stall_ms * NS_PER_MS;
    case WAIT_KEEP_ALIVE:
        return limits->keep_alive_ms * NS_PER_MS;
    default:
        return limits->linger_ms * NS_PER_MS;
    }
}

void http_wait_for(struct http_conn *conn, enum http_wait waits)
{
    uint64_t after_ns;

    conn->waits = waits;
    if (waits == WAIT_NONE || conn->state == HTTP_CLOSED)
        return;
    after_ns = wait_ns(&conn->service->limits, waits);
    conn->due_ns = clock_mono_ns() + after_ns;
    if (!conn->timer.slot || conn->timer.due_ns > conn->due_ns)
        timer_start(&conn->loop->ev.loop, &conn->timer, after_ns);
}

static void timed_out(struct http_conn *conn)
{
    switch (conn->waits) {
    case WAIT_HEAD:
        STAT_INC(server_timeouts_head);
        http_close(conn, false);
        break;
    case WAIT_BODY:
        STAT_INC(server_timeouts_body);
        conn->keep_alive = false;
        http_gone(conn, -ETIMEDOUT);
        break;
    case WAIT_WRITE:
        STAT_INC(server_timeouts_write);
        http_out_drop(conn);
        conn->failed = -ETIMEDOUT;
        if (conn->state == HTTP_BUSY)
            http_gone(conn, -ETIMEDOUT);
        else
            http_close(conn, true);
        break;
    case WAIT_KEEP_ALIVE:
        STAT_INC(server_timeouts_idle);
        http_close(conn, false);
        break;
    default:
        http_close(conn, false);
    }
}

static void on_timer(struct timer *timer)
{
    struct http_conn *conn = container_of(timer, struct http_conn, timer);
    uint64_t now = clock_mono_ns();

    assert(conn->magic == HTTP_MAGIC);
    if (conn->waits == WAIT_NONE)
        return; /* the next wait starts it again */
    if (now < conn->due_ns)
        timer_start(&conn->loop->ev.loop, timer, conn->due_ns - now);
    else
        timed_out(conn);
}

/* ---- the end ---- */

static void conn_free(struct http_conn *conn)
{
    conn->arena = arena_free(conn->arena);
    conn->magic = 0;
    free(conn);
}

static void post_again(struct http_conn *conn)
{
    if (conn->again_posted)
        return;
    conn->again_posted = true;
    completion_post(&conn->again, 0);
}

void http_close(struct http_conn *conn, bool reset)
{
    struct linger hard = {.l_onoff = 1};

    assert(conn->state != HTTP_CLOSED && !conn->read_done && !conn->send_done);
    if (reset)
        (void)setsockopt(conn->wire.fd, SOL_SOCKET, SO_LINGER, &hard,
                         sizeof(hard)); /* best effort */
    conn->state = HTTP_CLOSED;
    timer_stop(&conn->loop->ev.loop, &conn->timer);
    http_out_drop(conn);
    if (conn->in)
        http_in_free(conn);
    wire_close(&conn->wire);
    h2o_socket_close(conn->sock);
    conn->sock = NULL;
    *conn->at = conn->next;
    if (conn->next)
        conn->next->at = conn->at;
    atomic_fetch_sub_explicit(&conn->loop->work, 1, memory_order_relaxed);
    STAT_GAUGE_ADD(server_connections, -1);
    atomic_fetch_sub_explicit(&conn->service->connections, 1, memory_order_relaxed);
    post_again(conn);
}

void http_gone(struct http_conn *conn, int err)
{
    struct completion *done = conn->read_done ? conn->read_done : conn->send_done;

    assert(conn->state == HTTP_BUSY);
    conn->read_done = conn->send_done = NULL;
    conn->into = NULL;
    http_wait_for(conn, WAIT_NONE);
    if (done)
        completion_post(done, err);
    if (err != -ECANCELED)
        return; /* a timeout: the handler sees it and can still answer a slow sender */
    conn->failed = err;
    http_out_drop(conn);
    http_want_read(conn, false);
    STAT_INC(server_clients_gone);
    if (conn->exchange.op)
        op_cancel(conn->exchange.op);
}

/* ---- after an answer ---- */

/* A client that still sends has not read its answer yet: as long as bytes come it gets more time,
 * but no more than a body may pause. */
static void drop_wait(struct http_conn *conn)
{
    if (conn->state != HTTP_LINGER && conn->state != HTTP_DRAIN)
        return;
    if (clock_mono_ns() < conn->drop_until_ns)
        http_wait_for(conn, WAIT_LINGER);
    else
        http_close(conn, false);
}

static void drop_begin(struct http_conn *conn, enum http_state state)
{
    conn->state = state;
    conn->dropped = 0;
    conn->drop_until_ns = clock_mono_ns() + conn->service->limits.body_idle_ms * NS_PER_MS;
    http_wait_for(conn, WAIT_LINGER);
}

/* Reads and drops; true when the end has come: EOF, the limit, an error. */
static bool linger_is_over(struct http_conn *conn)
{
    ssize_t n = 1;

    for (int round = 0; n > 0 && round < 16; round++) {
        n = recv(conn->wire.fd, conn->loop->scratch, HTTP_SCRATCH_BYTES, 0);
        if (n > 0) {
            conn->dropped += (uint64_t)n;
            STAT_ADD(server_dropped_bytes, n);
        }
    }
    if (n > 0)
        return conn->dropped > conn->service->limits.linger_bytes;
    return n == 0 || errno != EAGAIN;
}

static void linger_more(struct http_conn *conn)
{
    uint64_t before = conn->dropped;

    if (linger_is_over(conn))
        http_close(conn, false);
    else if (conn->dropped != before)
        drop_wait(conn);
}

static void linger(struct http_conn *conn) /* closing now could reset the answer away */
{
    drop_begin(conn, HTTP_LINGER);
    if (conn->in)
        http_in_free(conn);
    wire_finish(&conn->wire);
    http_want_read(conn, true);
    linger_more(conn);
}

static void idle(struct http_conn *conn)
{
    conn->state = HTTP_IDLE;
    if (atomic_load(&conn->service->draining)) {
        linger(conn);
        return;
    }
    http_wait_for(conn, WAIT_KEEP_ALIVE);
    http_want_read(conn, true);
    if (conn->in || wire_pending(&conn->wire))
        post_again(conn); /* pipelined: from the loop, not from here, or the stack would grow */
}

static void drain_more(struct http_conn *conn)
{
    struct iobuf sink = {.base = conn->loop->scratch, .size = HTTP_SCRATCH_BYTES};
    uint64_t before = conn->dropped;
    int err;

    do {
        sink.used = 0;
        err = http_body_fill(conn, &sink);
        conn->dropped += sink.used;
    } while (!err && !conn->body.ended);
    if (conn->body.ended)
        idle(conn);
    else if (err != -EAGAIN)
        http_close(conn, false);
    else
        http_want_read(conn, true);
    if (conn->dropped != before)
        drop_wait(conn);
}

void http_next(struct http_conn *conn)
{
    if (!conn->keep_alive) {
        linger(conn);
        return;
    }
    if (conn->body.ended) {
        idle(conn);
        return;
    }
    drop_begin(conn, HTTP_DRAIN);
    drain_more(conn);
}

/* ---- what readiness does in each state ---- */

static void handshake_more(struct http_conn *conn)
{
    int err = wire_handshake(&conn->wire);

    if (err == -EAGAIN) {
        http_want_read(conn, true);
        return;
    }
    if (err) {
        STAT_INC(server_tls_failures);
        http_close(conn, false);
        return;
    }
    conn->state = HTTP_IDLE;
    http_head_more(conn);
}

/* Nobody reads: pipelined bytes, a body the handler is not ready for, or the client has gone. */
static void busy_readable(struct http_conn *conn)
{
    ssize_t n = wire_peek(&conn->wire);

    if (n == -EAGAIN)
        return;
    if (n > 0)
        http_want_read(conn, false);
    else
        http_gone(conn, -ECANCELED);
}

static void on_readable(h2o_socket_t *sock, const char *err)
{
    struct http_conn *conn = sock->data;

    assert(conn->magic == HTTP_MAGIC);
    switch (conn->state) {
    case HTTP_HANDSHAKE:
        handshake_more(conn);
        break;
    case HTTP_IDLE:
    case HTTP_HEAD:
        http_head_more(conn);
        break;
    case HTTP_BUSY:
        if (conn->read_done)
            http_read_more(conn);
        else
            busy_readable(conn);
        break;
    case HTTP_DRAIN:
        drain_more(conn);
        break;
    case HTTP_LINGER:
        linger_more(conn);
        break;
    default:
        http_want_read(conn, false);
    }
}

static void on_writable(h2o_socket_t *sock, const char *err)
{
    struct http_conn *conn = sock->data;

    assert(conn->magic == HTTP_MAGIC);
    if (conn->wire.read_wants_write)
        on_readable(sock, err);
    if (conn->state != HTTP_CLOSED && conn->out_count)
        http_send_more(conn);
}

static void on_again(struct completion *again)
{
    struct http_conn *conn = container_of(again, struct http_conn, again);

    assert(conn->magic == HTTP_MAGIC);
    conn->again_posted = false;
    if (conn->state == HTTP_CLOSED)
        conn_free(conn);
    else if (conn->state == HTTP_IDLE)
        http_head_more(conn);
}

/* ---- the loop's connections ---- */

void http_accept(struct http_loop *loop, struct http_service *service, int fd,
                 const struct sockaddr_storage *peer, bool refuse)
{
    struct http_conn *conn = xcalloc(1, sizeof(*conn));

    *conn = (struct http_conn){.magic = HTTP_MAGIC,
                               .state = service->tls ? HTTP_HANDSHAKE : HTTP_IDLE,
                               .loop = loop,
                               .service = service,
                               .next = loop->conns,
                               .at = &loop->conns,
                               .peer = *peer,
                               .refuse = refuse,
                               .timer.fn = on_timer,
                               .again = {.fn = on_again, .loop = &loop->ev.loop},
                               .arena = arena_new()};
    if (loop->conns)
        loop->conns->at = &conn->next;
    loop->conns = conn;
    STAT_GAUGE_ADD(server_connections, 1);
    conn->sock = h2o_evloop_socket_create(
        loop->ev.h2o, fd, H2O_SOCKET_FLAG_DONT_READ | H2O_SOCKET_FLAG_IS_ACCEPTED_CONNECTION);
    conn->sock->data = conn;
    if (wire_open(&conn->wire, fd, service->tls) < 0 || atomic_load(&service->draining)) {
        http_close(conn, false);
        return;
    }
    http_wait_for(conn, WAIT_HEAD);
    http_want_read(conn, true);
}

int http_loop_open(struct http_loop *loop)
{
    int err;

    *loop = (struct http_loop){.date_s = -1};
    err = evloop_open(&loop->ev);
    if (!err)
        loop->scratch = xmalloc(HTTP_SCRATCH_BYTES);
    return err;
}

void http_loop_close(struct http_loop *loop)
{
    assert(!loop->conns);
    evloop_close(&loop->ev);
    while (loop->spare_count)
        free(loop->spares[--loop->spare_count]);
    free(loop->scratch);
}

void http_loop_drain(struct http_loop *loop)
{
    for (struct http_conn *conn = loop->conns, *next; conn; conn = next) {
        next = conn->next;
        if (conn->state == HTTP_IDLE && !conn->again_posted)
            http_close(conn, false);
    }
}

void http_loop_cancel(struct http_loop *loop)
{
    for (struct http_conn *conn = loop->conns, *next; conn; conn = next) {
        next = conn->next;
        if (conn->state != HTTP_BUSY) /* what lingers has its answer: no reset */
            http_close(conn, conn->state == HTTP_FINISH);
        else if (!conn->failed)
            http_gone(conn, -ECANCELED);
    }
}
