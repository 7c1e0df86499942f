/* server/http.h - the HTTP/1.1 driver: connections on one loop, each with one exchange at a time.
 * Private to server/. Everything runs on the loop's thread.
 *
 *   struct http_service   what to serve with: hooks, limits, TLS. Shared by all loops
 *   struct http_loop      a loop thread's connections
 *   struct http_conn      one connection: wire, input buffer, the exchange, the answer's output
 * queue
 *
 * A connection is freed by a completion posted to its own loop, never inside a call, so no caller
 * has to ask whether it still exists. */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include <netinet/in.h>

#include "server/evloop.h"
#include "server/http_body.h"
#include "server/http_head.h"
#include "server/server.h"
#include "server/wire.h"

#define HTTP_SEND_SLICES_MAX 16u                        /* of one send() */
#define HTTP_OUT_MAX         (HTTP_SEND_SLICES_MAX + 5) /* 100, head, chunk line, CRLF, last chunk */
#define HTTP_RECV_BYTES      16384u /* one recv for a head or for chunk framing */
#define HTTP_SPARES_MAX      64u    /* input buffers a loop keeps for the next request */
/* Moved for one connection before the others get their turn. */
#define HTTP_TURN_BYTES_MAX 1048576u
#define HTTP_MOVED_MIN      65536u /* bytes of a body or an answer that earn another timeout */

struct http_service {
    void (*start)(struct exchange *exchange);
    const struct server_conf *conf; /* hooks */
    struct server_limits limits;    /* defaults filled in */
    SSL_CTX *tls;                   /* NULL: plain */
    _Atomic bool draining; /* answers end with Connection: close, new connections are closed */
    _Atomic unsigned connections; /* open ones; counted up by who accepts */
};

struct http_conn;

struct http_loop {
    struct evloop ev;
    struct http_conn *conns;
    _Atomic unsigned work;         /* open connections + running exchanges, for the hand-off */
    char *spares[HTTP_SPARES_MAX]; /* empty input buffers of HTTP_RECV_BYTES */
    unsigned spare_count;
    char *scratch;  /* what drained bytes are read into */
    int64_t date_s; /* second that date[] shows */
    char date[32];
};
#define HTTP_SCRATCH_BYTES 65536u

int http_loop_open(struct http_loop *loop) must_check; /* on the owner's thread */
void http_loop_close(struct http_loop *loop);          /* no connection is left */
void http_loop_drain(struct http_loop *loop);  /* closes what idles; service->draining is set */
void http_loop_cancel(struct http_loop *loop); /* cancels what runs */

/* Takes the descriptor, which service->connections and loop->work count already. refuse: answer the
 * first head with 503. */
void http_accept(struct http_loop *loop, struct http_service *service, int fd,
                 const struct sockaddr_storage *peer, bool refuse);

enum http_state {
    HTTP_HANDSHAKE, /* TLS is being agreed on */
    HTTP_IDLE,      /* nothing of the next head has come */
    HTTP_HEAD,      /* part of a head has */
    HTTP_BUSY,      /* an exchange runs: its ops move the connection */
    HTTP_FINISH,    /* the exchange has ended, last bytes of its answer wait for the kernel */
    HTTP_DRAIN,     /* the rest of its body is read and dropped, then IDLE */
    HTTP_LINGER,    /* FIN sent; what the client still sends is dropped until it closes too */
    HTTP_CLOSED,    /* freed by the completion under way */
};

enum http_wait { WAIT_NONE, WAIT_HEAD, WAIT_BODY, WAIT_WRITE, WAIT_KEEP_ALIVE, WAIT_LINGER };

#define HTTP_MAGIC 0x68747470u
struct http_conn {
    uint32_t magic;
    enum http_state state;
    struct http_loop *loop;
    struct http_service *service;
    struct http_conn *next, **at; /* in loop->conns */
    h2o_socket_t *sock;           /* tells readiness; the bytes go through wire */
    struct wire wire;
    struct sockaddr_storage peer;
    bool refuse;
    int failed; /* negative errno: no byte goes in or out any more */

    struct timer timer; /* due at or before due_ns: restarting it with every byte would be dear */
    enum http_wait waits;
    uint64_t due_ns, moved;    /* bytes in or out when the wait began */
    uint64_t turn, turn_bytes; /* moved in this turn of the loop */

    char *in; /* NULL while empty */
    size_t in_room, in_start, in_end, scanned;

    struct completion again; /* next head, or free: never from within a call */
    bool again_posted;

    /* the exchange */
    struct exchange exchange;
    struct arena *arena;
    struct http_body body;
    bool http11, keep_alive, is_head, continue_wanted;
    uint64_t started_ns, bytes_in, bytes_out, dropped, drop_until_ns;
    struct completion *read_done, *send_done; /* the one outstanding call (O1) */
    struct iobuf *into;

    /* the answer */
    int status;
    bool head_given, chunked, bodiless;
    int64_t answer_left; /* -1: unknown */
    char chunk_line[20];
    struct slice out[HTTP_OUT_MAX];
    unsigned out_first, out_count;
};

/* http.c */
void http_close(struct http_conn *conn,
                bool reset); /* reset: RST, so that a cut answer looks cut */
void http_wait_for(struct http_conn *conn, enum http_wait waits);
void http_want_read(struct http_conn *conn, bool want);
void http_want_write(struct http_conn *conn);
void http_next(struct http_conn *conn); /* the answer is out: drain, keep alive, linger */
void http_gone(struct http_conn *conn,
               int err); /* the client is: completes what waits, cancels the op */

/* http_request.c */
void http_head_more(
    struct http_conn *conn); /* readiness, or pipelined bytes, while no exchange runs */
/* Sends an error in the service's form on its own account, then closes. */
void http_refuse(struct http_conn *conn, const struct http_refusal *why);
const struct http_service *http_service_of(const struct exchange *exchange);

/* http_io.c: the body in, the answer out */
int http_body_fill(struct http_conn *conn,
                   struct iobuf *into) must_check; /* 0 full or ended; -EAGAIN; error */
void http_out_push(struct http_conn *conn, struct slice s);
int http_out_flush(struct http_conn *conn) must_check; /* 0 all gone; -EAGAIN; error */
void http_out_drop(struct http_conn *conn);
struct span http_in_bytes(const struct http_conn *conn); /* base NULL: none */
ssize_t http_in_recv(struct http_conn *conn) must_check;
void http_in_took(struct http_conn *conn, size_t bytes);
void http_in_free(struct http_conn *conn);

/* http_exchange.c: struct exchange_ops */
extern const struct exchange_ops http_exchange_ops;
void http_read_more(struct http_conn *conn); /* readiness while a read() waits */
void http_send_more(struct http_conn *conn); /* room while a send() or the end waits */
void http_answer_done(struct http_conn *conn);

/* http_answer.c: pure but for time and randomness */
struct http_answer {
    bool http11, keep_alive, chunked, bodiless;
    const char *date;
};
struct span http_answer_head(struct arena *arena, const struct response *response,
                             const struct http_answer *how);
/* An error body in the service's form (surface, section 8) and the headers that go with it. */
struct span http_error_body(struct arena *arena, const struct http_refusal *why,
                            struct span request_id);
struct span http_request_id(struct arena *arena);
const char *http_date_now(struct http_loop *loop);

#endif
