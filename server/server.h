/* server/server.h - the process's HTTP front: loop threads, the data port and the admin port.
 *
 * server_open starts the loops and listens; each complete request head is given to conf->start as a
 * struct exchange (blobapi/exchange.h) on one of the loop threads. Main thread only, except where
 * it says otherwise. The process must ignore SIGPIPE; the loops block all signals. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/util.h"
#include "blobapi/exchange.h"

struct server;

/* Each has a default, taken for 0. */
struct server_limits {
    unsigned connections_max; /* 10000; more are answered 503 ServerBusy, far more are closed */
    uint64_t head_ms; /* 10 000: from the first byte of a head to its last, and TLS handshakes */
    uint64_t body_idle_ms;   /* 60 000: for 64 KiB of a read(), or the rest of it */
    uint64_t write_stall_ms; /* 60 000: for the client to take 64 KiB of a send(), or the rest */
    uint64_t keep_alive_ms;  /* 120 000: between requests */
    uint64_t linger_ms; /* 5 000: without a byte of a body that nobody wants; body_idle_ms in all */
    uint64_t drain_bytes;  /* 1 MiB: more unread body than this ends the connection */
    uint64_t linger_bytes; /* 64 MiB: read and dropped so that no reset eats the answer */
};

/* How an exchange went, for the access log. */
struct server_outcome {
    int status; /* 0: no answer */
    bool whole;
    uint64_t bytes_in, bytes_out, duration_ns;
};

struct server_conf {
    const char *listen;             /* "host:port", "[v6]:port"; port 0: the kernel's choice */
    const char *admin;              /* NULL: no admin port */
    unsigned loops;                 /* threads; 0: one per core it may use */
    const char *tls_cert, *tls_key; /* PEM files of the data port; NULL: plain */
    struct server_limits limits;

    struct blobapi *api;                      /* handed to each exchange */
    void (*start)(struct exchange *exchange); /* blobapi_start, or what a test or bench puts here */
    /* Just before an exchange is gone; may be NULL. Loop threads. Also for heads that were refused:
     * then of the exchange only the peer is sure to be set. */
    void (*finished)(void *arg, const struct exchange *exchange,
                     const struct server_outcome *outcome);

    /* On each loop's thread, before its first and after its last connection; may be NULL. */
    int (*attach)(void *arg, struct loop *loop);
    void (*detach)(void *arg, struct loop *loop);
    /* For the admin port, on loop threads, so they must not block. ready NULL: always. status NULL:
     * none; else malloc'ed plain text for the page at /. */
    bool (*ready)(void *arg);
    char *(*status)(void *arg, size_t *ret_len);
    void *arg; /* of all hooks */
};

/* 0; -EINVAL an address or the TLS files, -EADDRINUSE and other errors of bind, or attach's error;
 * *why then says which in words (constant text). */
int server_open(const struct server_conf *conf, struct server **ret, const char **why) must_check;
uint16_t server_port(const struct server *server);       /* where it really listens */
uint16_t server_admin_port(const struct server *server); /* 0: none */
/* Stops accepting, closes idle connections, lets running exchanges end for at most grace_ns, then
 * cancels them. Returns when all connections are gone. */
void server_drain(struct server *server, uint64_t grace_ns);
/* Drains without grace if that was not done, ends the threads, frees. NULL is fine; returns NULL.
 */
struct server *server_close(struct server *server);

#endif
