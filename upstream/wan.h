/* upstream/wan.h - one HTTP request to one account's cloud. Upstream thread only.
 *
 * A request is built (wan_init, then path, query and headers, copied into its arena; the body stays
 * the caller's), started, and ends in exactly one post of `done`.
 *
 * wan_start: refused at once by the breaker, else it waits its turn in the remote's queue, then it
 * is signed and sent. on_head fires once when the head of the answer is complete, on_body with its
 * bytes.
 *
 * `done`: 0 when a whole answer came, whatever its status; else a transport error. From then on it
 * may be built again (a retry) or released.
 *
 * Errors: -EHOSTUNREACH no connection or breaker open; -ETIMEDOUT it stalled; -ECONNRESET cut on
 * the way; -EPROTO not HTTP; -ECANCELED; -EBUSY queue full; else what on_body returned. */
#ifndef UPSTREAM_WAN_H
#define UPSTREAM_WAN_H

#include "base/arena.h"
#include "base/op.h"
#include "cache/cache.h"

#define WAN_WAITING_MAX       65536        /* per account and priority */
#define ANSWER_HEAD_BYTES_MAX (256u << 10) /* metadata is 8 KB at most, so this is generous */

struct remote;

enum wan_method { WAN_GET, WAN_HEAD, WAN_PUT, WAN_DELETE };
/* WAN priority: reads first; uploads leave some connections to them. */
enum wan_priority { WAN_READ, WAN_UPLOAD, WAN_PRIORITIES };

struct wan_answer {
    int status;                 /* 0: none came */
    const struct pair *headers; /* names as received */
    unsigned header_count;
    struct span code;    /* x-ms-error-code */
    uint64_t body_bytes; /* received, error bodies included */
};

#define WAN_PAUSE 1 /* on_body: take the same bytes again after wan_resume */

struct wan {
    struct remote *remote;
    struct arena *arena; /* of this attempt */
    enum wan_method method;
    enum wan_priority priority;
    struct span path; /* encoded, as signed, the endpoint's own path included */
    struct pair *query, *headers;
    unsigned query_count, header_count;
    struct span body; /* PUT */
    bool asked_check; /* a checksum of the range was asked for, of this kind: a refusal may be of
                         that */
    bool sent_crc;    /* likewise of the body's checksum */
    bool sent_both;   /* the MD5 to be stored too */
    int asked_kind;   /* enum range_check */
    bool any_body;    /* on_body gets the bodies of refusals too */
    bool once;        /* on a connection of its own: curl sends again what a kept one has lost */
    void (*on_head)(struct wan *request);
    int (*on_body)(struct wan *request,
                   struct span bytes); /* of 2xx answers; 0, WAN_PAUSE, -errno */
    struct wan_answer answer;
    bool address_refused; /* by the remote's policy */
    char failure[256];    /* what the transport said, in words */

    /* private to wan.c and remote.c */
    enum { WAN_IDLE, WAN_WAITING, WAN_RUNNING } state;
    struct completion *done;
    void *easy;
    void *header_list;
    struct wan *next;
    size_t body_sent, head_bytes;
    int abort_err;
    bool head_done, paused;
    bool connected;       /* some of it may have left */
    unsigned signed_with; /* credential_generation */
    uint64_t started_ns;
};

void wan_init(struct wan *request, struct remote *remote, enum wan_method method,
              enum wan_priority priority);
void wan_done(struct wan *request); /* frees what it holds; not while started */
/* /container or /container/blob; container empty: the account. */
void wan_path(struct wan *request, struct span container, struct span blob);
void wan_query(struct wan *request, const char *name, struct span value); /* value as it is */
void wan_header(struct wan *request, struct span name, struct span value);
void wan_start(struct wan *request, struct completion *done);
void wan_resume(struct wan *request);
/* The post still comes, with -ECANCELED. Not from within on_head or on_body. */
void wan_cancel(struct wan *request);

/* It was refused: is there another secret by now than it was signed with? */
bool wan_secret_renewed(const struct wan *request);

/* First header of that name, trimmed; base NULL when absent. */
struct span wan_answer_header(const struct wan_answer *answer, struct span name);
/* Of a request that has ended with an error: did it perhaps reach the cloud? */
static inline bool wan_was_sent(const struct wan *request)
{
    return request->connected;
}
static inline bool wan_answer_ok(const struct wan_answer *answer)
{
    return answer->status >= 200 && answer->status < 300;
}

/* remote.c's: signs and hands it to curl, or posts its end. */
void wan_send(struct wan *request);
void wan_end(struct wan *request, int err);

#endif
