/* tests/bench/discard_server.c - the driver alone: PUT bodies are received into I/O buffers and
 * thrown away (201), GET /anything/N is N constant bytes from I/O buffers. What the driver costs,
 * without a cache behind it. usage: discard_server [-l LOOPS] [-L HOST:PORT] [-C CERT -K KEY]
 * Prints "port N" and serves until SIGTERM. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/iobuf.h"
#include "server/server.h"

static struct iobuf *constant; /* 512 KiB */

struct call {
    struct op op;
    struct exchange *http;
    struct iobuf *buf;
    uint64_t total, sent;
    struct slice slices[8];
};
#define CALL(o) container_of(o, struct call, op)

static struct next discard_buffer(struct op *op);
static struct next discard_read(struct op *op);
static struct next discard_have(struct op *op);
static struct next answer_head(struct op *op);
static struct next answer_send(struct op *op);

static void call_free(struct op *op)
{
    struct call *c = CALL(op);

    iobuf_unref(c->buf);
    c->http->ops->end(c->http, !op->cancelled && !op->done.err);
    free(c);
}

static struct next discard_buffer(struct op *op)
{
    struct call *c = CALL(op);

    if (c->http->body_ended)
        return GO(answer_head);
    iobuf_get(c->http->body_bytes > 65536 ? IOBUF_512K : IOBUF_64K, &c->buf, &op->done);
    return AWAIT(discard_read);
}

static struct next discard_read(struct op *op)
{
    struct call *c = CALL(op);

    if (op->done.err)
        return FINISH;
    if (c->http->body_ended)
        return GO(answer_head);
    c->buf->used = 0;
    c->http->ops->read(c->http, c->buf, &op->done);
    return AWAIT(discard_have);
}

static struct next discard_have(struct op *op)
{
    return op->done.err ? FINISH : GO(discard_read);
}

static struct next answer_head(struct op *op)
{
    struct call *c = CALL(op);
    bool put = span_eq(c->http->method, SPAN("PUT"));
    const struct header headers[] = {
        {.name = SPAN("Server"), .value = SPAN("Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")},
        {.name = SPAN("ETag"), .value = SPAN("\"0x8D0123456789ABC\"")}};
    const struct response response = {.status = put ? 201 : 200,
                                      .reason = put ? SPAN("Created") : SPAN("OK"),
                                      .headers = headers,
                                      .header_count = 2,
                                      .body_bytes = (int64_t)c->total};

    c->http->ops->head(c->http, &response);
    return GO(answer_send);
}

static struct next answer_send(struct op *op)
{
    struct call *c = CALL(op);
    unsigned n = 0;

    if (op->done.err || c->sent == c->total)
        return FINISH;
    for (; n < countof(c->slices) && c->sent < c->total; n++) {
        size_t bytes = MIN(c->total - c->sent, (uint64_t)constant->size);

        c->slices[n] = slice_ref((struct slice){constant, {constant->base, bytes}, true});
        c->sent += bytes;
    }
    c->http->ops->send(c->http, c->slices, n, &op->done);
    return AWAIT(answer_send);
}

static void start(struct exchange *http)
{
    struct call *c = xcalloc(1, sizeof(*c));
    const char *slash = memrchr(http->target.base, '/', http->target.len);

    c->http = http;
    op_init(&c->op, http->loop, call_free);
    http->op = &c->op;
    if (span_eq(http->method, SPAN("GET")) && slash) {
        struct span rest,
            number = span_cut(span_skip(http->target, (size_t)(slash + 1 - http->target.base)), '?',
                              &rest);

        if (span_to_u64(number, &c->total) < 0)
            c->total = 0;
        op_start(&c->op, GO(answer_head));
        return;
    }
    op_start(&c->op, GO(discard_buffer));
}

static int usage(void)
{
    fprintf(stderr, "usage: discard_server [-l LOOPS] [-L HOST:PORT] [-C CERT -K KEY]\n");
    return 2;
}

static int parse(int argc, char **argv, struct server_conf *conf)
{
    int c;

    while ((c = getopt(argc, argv, "l:L:C:K:")) != -1) {
        if (c == 'l')
            conf->loops = (unsigned)atoi(optarg);
        else if (c == 'L')
            conf->listen = optarg;
        else if (c == 'C')
            conf->tls_cert = optarg;
        else if (c == 'K')
            conf->tls_key = optarg;
        else
            return usage();
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct iobuf_pools_conf pools = {{MIB(1), MIB(16), MIB(128)}};
    struct server_conf conf = {.listen = "127.0.0.1:0", .start = start};
    struct server *server;
    const char *why = "";
    sigset_t stop;
    int err, got;

    if (parse(argc, argv, &conf))
        return 2;
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    err = iobuf_pools_open(&pools);
    constant = err ? NULL : iobuf_try(IOBUF_512K);
    if (!err)
        err = server_open(&conf, &server, &why);
    if (err) {
        fprintf(stderr, "discard_server: %s: %s\n", why, strerror(-err));
        return 1;
    }
    memset(constant->base, 'h', constant->size);
    printf("port %u\n", server_port(server));
    fflush(stdout);
    sigwait(&stop, &got);
    server_close(server);
    return 0;
}
