/* tests/unit/server_fixture.h - a real server on the kernel's ports with handlers of the test's
 * own, and a raw client. Handlers by target: PUT /echo          reads the body through 4 KiB
 * buffers, answers with it PUT /peek          the same, but read(NULL) before each buffer PUT
 * /early         403 at once, the body unread PUT /hold          reads only after hold_release()
 *   PUT /bulk          as echo, through one 512 KiB buffer
 *   GET /bytes/N       N bytes of pattern(), from 64 KiB slices
 *   GET /chunked/N     the same without a length
 *   GET /status/N      no body
 *   GET /inject        a header value with a line break
 *   GET /wait          awaits something that only a cancel ends
 *   GET /flood         sends until it fails */
#ifndef TESTS_SERVER_FIXTURE_H
#define TESTS_SERVER_FIXTURE_H

#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/iobuf.h"
#include "server/metrics.h"
#include "server/server.h"

#define fixture_unused __attribute__((unused))

static struct {
    struct server *server;
    struct iobuf *pattern; /* 64 KiB */
    _Atomic int started, ended, whole, cancelled, read_err, send_err, last_status, bytes_in;
    _Atomic(struct completion *) held;
    _Atomic(struct loop *) loops[2];
    _Atomic int loops_used;
} fix;

static char pattern(uint64_t at)
{
    return (char)(at % 65536 * 31 >> 3);
}

/* ---- handlers ---- */

struct call {
    struct op op;
    struct exchange *http;
    struct iobuf *buf;
    char *body;
    size_t body_len, total, sent;
    int status;
    bool peek, chunked, bulk;
    struct slice slice;
};
#define CALL(op) container_of(op, struct call, op)

static struct next call_read(struct op *op);
static struct next call_have(struct op *op);
static struct next call_answer(struct op *op);
static struct next call_send(struct op *op);

static void call_free(struct op *op)
{
    struct call *c = CALL(op);
    bool whole = !op->cancelled && !op->done.err;

    fix.cancelled += op->cancelled;
    iobuf_unref(c->buf);
    free(c->body);
    c->http->ops->end(c->http, whole);
    free(c);
}

static struct next call_read(struct op *op)
{
    struct call *c = CALL(op);

    if (c->http->body_ended)
        return GO(call_answer);
    c->buf = c->buf ? c->buf : iobuf_try(c->bulk ? IOBUF_512K : IOBUF_4K);
    assert_non_null(c->buf);
    if (c->peek && !c->buf->used) {
        c->buf->used = 1; /* peeked: read for real next time */
        c->http->ops->read(c->http, NULL, &op->done);
        return AWAIT(call_read);
    }
    c->buf->used = 0;
    c->http->ops->read(c->http, c->buf, &op->done);
    return AWAIT(call_have);
}

static struct next call_have(struct op *op)
{
    struct call *c = CALL(op);

    fix.read_err = op->done.err;
    if (op->done.err == -ETIMEDOUT || op->done.err == -EBADMSG) {
        c->status = op->done.err == -EBADMSG ? 400 : 408;
        op->done.err = 0;
        return GO(call_answer);
    }
    if (op->done.err)
        return FINISH;
    c->body = xrealloc(c->body, c->body_len + c->buf->used);
    memcpy(c->body + c->body_len, c->buf->base, c->buf->used);
    c->body_len += c->buf->used;
    c->total = c->body_len;
    c->buf->used = 0;
    return GO(call_read);
}

static struct next call_answer(struct op *op)
{
    struct call *c = CALL(op);
    struct header headers[] = {{.name = SPAN("x-test"), .value = c->http->target}};
    struct response response = {.status = c->status,
                                .reason = SPAN("Because"),
                                .headers = headers,
                                .header_count = 1,
                                .body_bytes = c->chunked ? -1 : (int64_t)c->total};

    if (span_eq(c->http->target, SPAN("/inject")))
        headers[0].value = SPAN("a long value\tis \xc3\xa4 \x7f\r\nInjected: yes, also \x01");
    c->http->ops->head(c->http, &response);
    return GO(call_send);
}

static struct next call_send(struct op *op)
{
    struct call *c = CALL(op);
    size_t at = c->sent % 65536, n = MIN(c->total - c->sent, 65536 - at);

    if (op->done.err)
        fix.send_err = op->done.err;
    if (op->done.err || c->sent == c->total)
        return FINISH;
    c->slice = c->body ? (struct slice){.bytes = {c->body + c->sent, n = c->total - c->sent}}
                       : slice_ref((struct slice){fix.pattern, {fix.pattern->base + at, n}, true});
    c->sent += n;
    c->http->ops->send(c->http, &c->slice, 1, &op->done);
    return AWAIT(call_send);
}

static void wait_cancel(struct completion *done)
{
    completion_post(done, -ECANCELED);
}

static struct next call_wait(struct op *op)
{
    op->done.cancel = wait_cancel;
    return AWAIT(call_answer);
}

static struct next call_hold(struct op *op)
{
    atomic_store(&fix.held, &op->done);
    return AWAIT(call_read);
}

static struct next call_first(struct call *c)
{
    struct span number = {NULL, 0}, path = span_skip(c->http->target, 1),
                name = span_cut(path, '/', &number);
    uint64_t n = 0;

    c->peek = span_eq(name, SPAN("peek"));
    c->chunked = span_eq(name, SPAN("chunked"));
    c->bulk = span_eq(name, SPAN("bulk"));
    c->status = span_eq(name, SPAN("early")) ? 403 : 200;
    if (number.base && span_to_u64(number, &n) < 0)
        n = 0;
    if (span_eq(name, SPAN("status")))
        c->status = (int)n;
    else
        c->total = n;
    if (span_eq(name, SPAN("flood")))
        c->total = SIZE_MAX / 2;
    if (span_eq(name, SPAN("wait")))
        return GO(call_wait);
    if (span_eq(name, SPAN("hold")))
        return GO(call_hold);
    return span_eq(c->http->method, SPAN("PUT")) && c->status == 200 ? GO(call_read)
                                                                     : GO(call_answer);
}

static void loop_seen(struct loop *loop)
{
    struct loop *none = NULL;

    for (int i = 0; i < 2; i++, none = NULL) {
        if (atomic_load(&fix.loops[i]) == loop)
            return;
        if (atomic_compare_exchange_strong(&fix.loops[i], &none, loop)) {
            fix.loops_used++;
            return;
        }
    }
}

static void fixture_start(struct exchange *http)
{
    struct call *c = xcalloc(1, sizeof(*c));

    loop_seen(http->loop);
    c->http = http;
    op_init(&c->op, http->loop, call_free);
    http->op = &c->op;
    fix.started++;
    op_start(&c->op, call_first(c));
}

static void fixture_finished(void *arg, const struct exchange *http,
                             const struct server_outcome *outcome)
{
    fix.last_status = outcome->status;
    fix.whole += outcome->whole;
    fix.bytes_in = (int)outcome->bytes_in;
    fix.ended++;
}

/* ---- the server ---- */

static void fixture_open(struct server_conf conf)
{
    const struct iobuf_pools_conf pools = {{MIB(1), MIB(1), MIB(4)}};
    const char *why = NULL;
    int err;

    signal(SIGPIPE, SIG_IGN);
    memset(&fix, 0, sizeof(fix));
    assert_int_equal(iobuf_pools_open(&pools), 0);
    fix.pattern = iobuf_try(IOBUF_64K);
    for (unsigned i = 0; i < fix.pattern->size; i++)
        fix.pattern->base[i] = pattern(i);
    conf.listen = "127.0.0.1:0";
    conf.start = fixture_start;
    conf.finished = fixture_finished;
    conf.loops = conf.loops ? conf.loops : 2;
    err = server_open(&conf, &fix.server, &why);
    if (err)
        fail_msg("server_open: %s: %s", why, strerror(-err));
}

static void fixture_close(void)
{
    fix.server = server_close(fix.server);
    fix.pattern = iobuf_unref(fix.pattern);
    iobuf_pools_close(); /* asserts that every buffer is back */
}

/* Waits for a condition that another thread makes true; never longer than a test may hang. */
#define eventually(condition)                                                                      \
    do {                                                                                           \
        uint64_t until_ = clock_mono_ns() + 10 * NS_PER_SEC;                                       \
        while (!(condition) && clock_mono_ns() < until_)                                           \
            poll(NULL, 0, 1);                                                                      \
        assert_true(condition);                                                                    \
    } while (0)

fixture_unused static void hold_release(void)
{
    eventually(atomic_load(&fix.held));
    completion_post(atomic_exchange(&fix.held, NULL), 0);
}

/* ---- a raw client ---- */

static int client_to(uint16_t port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct timeval limit = {.tv_sec = 10};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    return fd;
}

static int client(void)
{
    return client_to(server_port(fix.server));
}

static void client_send(int fd, struct span s)
{
    while (s.len) {
        ssize_t n = send(fd, s.base, s.len, MSG_NOSIGNAL);

        assert_true(n > 0);
        s = span_skip(s, (size_t)n);
    }
}

#define client_say(fd, text) client_send(fd, span_of(text))

struct answer {
    int status;
    char head[8192];
    size_t head_len, body_len; /* body_len: received, chunk framing included */
    char *body;
};

static const char *answer_header(const struct answer *a, const char *name)
{
    return strcasestr(a->head, name);
}

/* One byte at a time up to the empty line, so that nothing of the next answer is taken. */
static void client_head(int fd, struct answer *a)
{
    *a = (struct answer){0};
    while (!strstr(a->head, "\r\n\r\n")) {
        ssize_t n = recv(fd, a->head + a->head_len, 1, 0);

        if (n != 1)
            fail_msg("no whole head (%zd, %s) after: %s", n, strerror(errno), a->head);
        a->head_len++;
    }
    assert_int_equal(sscanf(a->head, "HTTP/1.1 %d ", &a->status), 1);
}

static void client_body(int fd, struct answer *a, size_t bytes)
{
    a->body = xmalloc(bytes + 1);
    while (a->body_len < bytes) {
        ssize_t n = recv(fd, a->body + a->body_len, bytes - a->body_len, 0);

        if (n <= 0)
            fail_msg("body ends after %zu of %zu", a->body_len, bytes);
        a->body_len += (size_t)n;
    }
    a->body[a->body_len] = 0;
}

static void client_answer(int fd, struct answer *a)
{
    const char *length;

    client_head(fd, a);
    length = answer_header(a, "\r\nContent-Length: ");
    client_body(fd, a, length ? strtoull(length + 18, NULL, 10) : 0);
}

fixture_unused static void client_expect(int fd, int status, const char *body)
{
    struct answer a;

    client_answer(fd, &a);
    assert_int_equal(a.status, status);
    assert_string_equal(a.body, body);
    free(a.body);
}

fixture_unused static void client_expect_closed(int fd)
{
    char byte;

    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

#endif
