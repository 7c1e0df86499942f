/* upstream/request.h - one HTTP request to one account's cloud. Upstream thread only.
 *
 * Life of a request:
 *   1 init, then path, query, headers are added (all copied into its arena); the body stays the
 * caller's. 2 request_start: refused at once by the breaker, else waits its turn in the remote's
 * queue, then is signed and sent. on_head fires once when the answer's head is complete, on_body
 * with its bytes. 3 `done` is posted, exactly once: 0 an answer came whole, whatever its status;
 * else a transport error. From then on it may be initialised again (a retry) or released. Errors:
 * -EHOSTUNREACH no connection or breaker open; -ETIMEDOUT it stalled; -ECONNRESET cut on the way;
 * -EPROTO not HTTP; -ECANCELED; -EBUSY queue full; else what on_body returned. */
#ifndef UPSTREAM_REQUEST_H
#define UPSTREAM_REQUEST_H

#include "base/arena.h"
#include "base/op.h"
#include "cache/cache.h"

#define REQUESTS_WAITING_MAX   65536        /* per account and priority */
#define ANSWER_HEAD_BYTES_MAX  (256u << 10) /* metadata is 8 KB at most, so this is generous */
#define ANSWER_ERROR_BYTES_MAX (64u << 10)  /* of an error body kept; the rest is dropped */

struct remote;

enum request_method { METHOD_GET, METHOD_HEAD, METHOD_PUT, METHOD_DELETE };
/* WAN priority: reads first; uploads leave some connections to them. */
enum request_priority { PRIORITY_READ, PRIORITY_UPLOAD, PRIORITIES };

struct answer {
    int status;                 /* 0: none came */
    const struct pair *headers; /* names as received */
    unsigned header_count;
    struct span code;    /* x-ms-error-code */
    uint64_t body_bytes; /* received, error bodies included */
};

#define REQUEST_PAUSE 1 /* on_body: take the same bytes again after request_resume */

struct request {
    struct remote *remote;
    struct arena *arena; /* of this attempt */
    enum request_method method;
    enum request_priority priority;
    struct span path; /* encoded, as signed, the endpoint's own path included */
    struct pair *query, *headers;
    unsigned query_count, header_count;
    struct span body; /* PUT */
    void (*on_head)(struct request *request);
    int (*on_body)(struct request *request,
                   struct span bytes); /* of 2xx answers; 0, REQUEST_PAUSE, -errno */
    struct answer answer;
    char failure[256]; /* what the transport said, in words */

    /* private to request.c and remote.c */
    enum { REQUEST_IDLE, REQUEST_WAITING, REQUEST_RUNNING } state;
    struct completion *done;
    void *easy;
    void *header_list;
    struct request *next;
    size_t body_sent, head_bytes;
    unsigned header_room;
    int abort_err;
    bool head_done, paused;
    uint64_t started_ns;
};

void request_init(struct request *request, struct remote *remote, enum request_method method,
                  enum request_priority priority);
void request_done(struct request *request); /* frees what it holds; not while started */
/* /container or /container/blob; container empty: the account. */
void request_path(struct request *request, struct span container, struct span blob);
void request_query(struct request *request, const char *name,
                   struct span value); /* value as it is */
void request_header(struct request *request, struct span name, struct span value);
void request_start(struct request *request, struct completion *done);
void request_resume(struct request *request);
/* The post still comes, with -ECANCELED. Not from within on_head or on_body. */
void request_cancel(struct request *request);

/* First header of that name, trimmed; base NULL when absent. */
struct span answer_header(const struct answer *answer, struct span name);
static inline bool answer_ok(const struct answer *answer)
{
    return answer->status >= 200 && answer->status < 300;
}

/* remote.c's: signs and hands it to curl, or posts its end. */
void request_send(struct request *request);
void request_end(struct request *request, int err);

#endif
