/* upstream/upstream.h - Azure as a client: opens unknown names, fills gaps, lists, writes back.
 *
 * Own threads with a curl multi handle each; completions come back on the caller's loop. Errors:
 * -ENOENT the cloud says absent; -EHOSTUNREACH no answer within the budget or the breaker is open;
 * -EACCES it refuses our credentials; -ESTALE what it has now is another version (a fill that ends
 * so comes after the name was asked for again); -EPROTO nonsense; -EBUSY too many calls wait
 * (UPSTREAM_CALLS_MAX). Every call sets done->cancel; a cancelled call leaves its request running,
 * the cache learns the answer. */
#ifndef UPSTREAM_UPSTREAM_H
#define UPSTREAM_UPSTREAM_H

#include "base/arena.h"
#include "cache/cache.h"

struct upstream;
struct copy_policy;

#define UPSTREAM_CALLS_MAX 65536 /* waiting calls of all loops together */

struct upstream_conf {
    struct cache *cache;
    const struct accounts *accounts;
    struct workers *workers;                       /* cache_upload_next reads the index */
    unsigned connections;                          /* per account, 0: 32 */
    uint64_t connect_timeout_ms, stall_timeout_ms; /* 0: 5 000, 30 000 */
    uint64_t block_bytes;                          /* of uploads, 0: 8 MiB */
    const struct copy_policy *copy_policy;         /* external.h; outlives the upstream */
    uint64_t settle_ms; /* what was given up may still arrive so long, 0: 5 000 */
};
/* What its buffers may take with the defaults; 0 when no account has an upstream. */
uint64_t upstream_memory(const struct accounts *accounts);
/* Main thread. Starts threads and the write-back of every account that has an upstream. */
int upstream_open_all(const struct upstream_conf *conf, struct upstream **ret) must_check;
/* Main thread. Ends what is in flight, within grace_ns; nothing is lost: the queue is in the cache.
 * Nothing may be asked of it from here on but its stats. A second call does nothing. */
void upstream_stop(struct upstream *upstream, uint64_t grace_ns);
/* The same if that was not done, then gives all back: no other thread may know it any more. */
struct upstream *upstream_close(struct upstream *upstream, uint64_t grace_ns);

/* Loop thread. Unknown or expired name: one ranged GET (HEAD if empty), single flight; done at its
 * head. first: bytes the caller will read (len 0: none, a HEAD). The container's name comes from
 * the cache. */
void upstream_open(struct upstream *upstream, const struct name *name, struct range first,
                   struct blob **ret, struct completion *done);
/* Expired name whose version is held here: asked with If-None-Match, the bytes stay. After
 * budget_ns -ETIMEDOUT: serve what is held or refuse; the request goes on and teaches the cache.
 * Single flight. done and ret NULL: nobody waits. */
void upstream_revalidate(struct upstream *upstream, struct blob *held, uint64_t budget_ns,
                         struct blob **ret, struct completion *done);
/* Unknown container: Get Container Properties, single flight. 0, -ENOENT, ... ; the cache has
 * learned it. */
void upstream_open_container(struct upstream *upstream, uint32_t account, struct span name,
                             struct completion *done);
/* A name in doubt, whatever is known of it: HEAD, single flight for those who ask under the same
 * number. ret is of blobs; the rest as upstream_revalidate. */
void upstream_ask_doubtful(struct upstream *upstream, const struct doubtful *of, uint64_t doubt,
                           uint64_t budget_ns, struct blob **ret, struct completion *done);
/* Starts or joins; done when gap.start flows (call reader_next again) or cannot. */
void upstream_fill(struct upstream *upstream, struct blob *blob, struct range gap,
                   struct completion *done);
/* One page of List Blobs into the cache. */
void upstream_list(struct upstream *upstream, const struct list_gap *gap, struct completion *done);
/* All pages of List Containers into the cache. */
void upstream_list_containers(struct upstream *upstream, uint32_t account, struct completion *done);

/* ---- forward: a client's request as it is, Azure's answer as the answer (design section 7) ----
 */

#define FORWARD_BODY_BYTES_MAX   (64u << 10)  /* XML; kept until the answer is there */
#define FORWARD_ANSWER_BYTES_MAX (256u << 10) /* likewise */
enum forward_method { FORWARD_GET, FORWARD_HEAD, FORWARD_PUT, FORWARD_DELETE };
/* All is copied. What authenticates the client and what is of its connection only is left out by
 * the caller; ours is added here. */
struct forward {
    uint32_t account;
    enum forward_method method;
    struct span container, blob; /* names; empty: the account, the container */
    const struct pair *query, *headers;
    unsigned query_count, header_count;
    struct span body;
    /* A change: the name it is of, in doubt until it is known what became of it; 0, empty: of the
     * account. It waits at most so long for its turn and for what the cloud has to hear before. */
    uint64_t container_id;
    uint64_t wait_ns;
};
struct forwarded {
    int status;
    const struct pair *headers; /* names as received */
    unsigned header_count;
    struct span body;
    struct arena *arena; /* all of it lies there */
};
/* Loop thread. 0: *ret is the cloud's answer, whatever its status. Else nothing has happened there,
 * except: -EINPROGRESS it was sent and its outcome is not known. -ETIMEDOUT its turn has not come
 * within wait_ns. -EFBIG the answer is too long. A cancelled call that has been sent is ended all
 * the same. A change is answered when the cache knows what it has made, if that is soon. */
void upstream_forward(struct upstream *upstream, const struct forward *forward,
                      struct forwarded *ret, struct completion *done);
void forwarded_done(struct forwarded *forwarded); /* any thread; zeroed is fine */

struct upstream_stats {
    bool online; /* the breaker is closed */
    uint64_t requests, errors, bytes_in, bytes_out, retries;
};
struct upstream_stats upstream_stats(struct upstream *upstream, uint32_t account); /* any thread */

#endif
