/* blobapi/exchange.h - one HTTP request as blobapi sees it; server/http.c fills it from h2o,
 * tests/support from memory. Loop thread only. */
#ifndef BLOBAPI_EXCHANGE_H
#define BLOBAPI_EXCHANGE_H

#include <sys/socket.h>

#include "base/arena.h"
#include "base/iobuf.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/span.h"

struct header {
    struct span name,
        value; /* name lower-case, value trimmed; all headers as received, framing ones too */
    struct span sent_name; /* requests: the name in the case it was sent in (metadata keeps it);
                              else empty */
};

struct response {
    int status;
    struct span reason;
    const struct header
        *headers; /* names as they go out; Date, Connection and framing are the driver's */
    unsigned header_count;
    int64_t body_bytes; /* -1: chunked. HEAD and 304: what Content-Length says; no bytes are sent */
};

struct blobapi;
struct exchange_ops;

struct exchange {
    const struct exchange_ops *ops;
    struct blobapi *api; /* whose request this is; the server sets it */
    struct loop *loop;
    struct arena *arena; /* lives until end() */
    struct op *op; /* set by blobapi_start; the server cancels it: client gone, stalled, shutdown */
    struct span method, target, host; /* target: path and query exactly as sent */
    const struct header *headers;
    unsigned header_count;
    const struct sockaddr *peer;
    bool tls;
    struct span version; /* of a batch's part: what the whole runs under; else empty */
    int64_t body_bytes;  /* Content-Length; 0: none; -1: chunked */
    bool body_ended;     /* everything has been read (true from the start when body_bytes == 0) */
};

struct exchange_ops { /* at most one start call outstanding (O1) */
    /* recv into into->base + used .. size; done when the buffer is full or the body has ended
     * (body_ended). No call, no recv: back-pressure. The first call sends 100 Continue where asked
     * for. into NULL: done when bytes wait, so that a silent client holds no buffer. -EBADMSG
     * framing, -ETIMEDOUT idle, -ECANCELED client gone or shutdown. */
    void (*read)(struct exchange *, struct iobuf *into, struct completion *done);
    /* Copied at once; leaves with the first send or with end. Called once, before both. */
    void (*head)(struct exchange *, const struct response *);
    /* Takes the references, drops each when the kernel has its bytes; done when more may be sent.
     * -ECANCELED: the client is gone. -ETIMEDOUT: it took nothing for the write-stall limit. */
    void (*send)(struct exchange *, const struct slice *, unsigned n, struct completion *done);
    /* Last call, from op->free; the exchange and its arena are gone after it.
     * whole: finish the answer, drain what is unread of the body, keep alive; else cut the
     * connection. Without a head() before it, the connection is closed without an answer. */
    void (*end)(struct exchange *, bool whole);
};

/* Server calls it when the head is complete; blobapi answers through ops and ends with end(). */
void blobapi_start(struct exchange *exchange);

/* First header of that (lower-case) name, trimmed; base NULL when absent. */
static inline struct span exchange_header(const struct exchange *exchange, struct span name)
{
    for (unsigned i = 0; i < exchange->header_count; i++)
        if (span_eq(exchange->headers[i].name, name))
            return exchange->headers[i].value;
    return (struct span){NULL, 0};
}

#endif
