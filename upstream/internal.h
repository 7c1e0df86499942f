/* upstream/internal.h - the upstream thread and what runs on it. Private to upstream/.
 *
 *   upstream.c   starts and stops the thread, public entry points
 *   client.c     the loop of that thread over curl; wan.c one request; remote.c an account's cloud
 *   call.c       callers on other loops, and flights many callers share
 *   open.c container.c listing.c   flights: one name, one container, one page of a listing
 *   forward.c    a client's request as it is
 *   sink.c fetch.c fill.c          bytes into a fill; one range, resumed when cut; the runs of a
 * gap upload.c blocks.c prove.c      write-back of one entry; its blocks; its lost answers pump.c
 * which entries run now, per account; network.c external.c: copy sources elsewhere
 */
#ifndef UPSTREAM_INTERNAL_H
#define UPSTREAM_INTERNAL_H

#include <semaphore.h>
#include <stdatomic.h>

#include "upstream/call.h"
#include "upstream/remote.h"
#include "upstream/turn.h"
#include "upstream/upstream.h"

struct pump;
struct markers;
struct buffers;

#define BLOCK_BYTES_MIN (128ULL << 10)
#define BLOCK_BYTES_DEF (8ULL << 20) /* also: what fits goes up as one Put Blob */

#define UPSTREAM_ORIGINS_MAX 64 /* copy sources elsewhere that are read from at once */
struct external_origin {
    struct remote *remote;
    unsigned users;
};

struct upstream {
    struct upstream_conf conf;
    struct client *client;
    struct remote **remotes; /* by place in conf.accounts; NULL: a local account */
    struct pump **pumps;
    struct external_origin origins[UPSTREAM_ORIGINS_MAX];
    struct flights flights;
    struct buffers *buffers;        /* of uploads */
    struct markers *markers;        /* listing.c: the cloud's continuation markers */
    struct forwarding *forwardings; /* forward.c: all that run */
    struct turns *turns;            /* forward.c: changes of one name go one at a time */
    unsigned active;                /* ops that live on the thread */
    struct completion wake;         /* the cache's queue has something; posted by any thread */
    _Atomic bool waking;
    bool stopping; /* upstream thread only */
    _Atomic unsigned calls;
    pthread_t thread;
    sem_t started;
    int start_err; /* of the thread, before `started` */
    _Atomic bool stop;
    _Atomic uint64_t grace_ns;
};

struct remote *upstream_remote(struct upstream *upstream,
                               uint32_t account); /* NULL: local, unknown */
struct remote *upstream_remote_of(struct upstream *upstream,
                                  const struct blob *blob); /* its container is gone: NULL too */

/* ---- answers of the cloud as records (answer.c). Spans live in the answer's arena ---- */
int answer_blob(const struct wan *wan, struct blob_record *ret) must_check; /* 200, 206; -EPROTO */
/* 200, 206 of any server: what it leaves out is left empty, but not how long it is. record->length:
 * the whole; *ret_range: what this answer brings. */
int answer_external(const struct wan *wan, struct blob_record *ret,
                    struct range *ret_range) must_check;
int answer_container(const struct wan *wan, struct container_record *ret) must_check;
enum cloud_lease answer_lease(struct span state, struct span duration); /* of headers or XML */
/* "bytes a-b/total" of a 206; a 200 is all of it. */
int answer_range(const struct wan *wan, struct range *ret, uint64_t *total) must_check;
bool answer_absent(const struct wan *wan); /* the service says that there is no such thing */
uint64_t answer_retry_after_ns(const struct wan *wan); /* 0: none said */
/* For operators: "409 SnapshotsPresent" or what the transport said; in the arena. */
struct span answer_reason(struct wan *wan, int err);
int64_t answer_modified_ns(const struct wan *wan);
/* x-ms-meta-*, Content-* ... of an upload (answer.c knows both directions). */
void record_to_headers(struct wan *wan, const struct blob_record *record);
void metadata_to_headers(struct wan *wan, const struct pair *metadata, unsigned count);
void tags_to_header(struct wan *wan, struct span tags); /* x-ms-tags */
void access_tier_to_header(struct wan *wan,
                           const struct blob_record *record); /* one that was set */

/* What an answer that is not what was hoped for means to a reader. */
enum read_turn {
    READ_TURN_AGAIN, /* at once: the credential was renewed, a check is asked for differently */
    READ_TURN_LATER, /* after a pause */
    READ_TURN_FAIL,  /* *err */
};
enum read_turn read_turn(struct wan *wan, int wan_err, bool *refreshed, int *err);

void forward_free(
    struct forward *forward); /* a copy that upstream_forward has made; NULL is fine */

/* Marks that an earlier run has left are proved. Upstream thread, at its start. */
void forward_resume(struct upstream *upstream);
void forward_stop(struct upstream *upstream); /* stopping is set: what pauses or waits ends */

/* ---- content ---- */
struct sink;
/* Begins the fill that starts at range.start of the blob. A GET of `range` will feed it; what lies
 * beyond the fill is dropped but counts in the checksum. Errors of cache_fill_begin. */
int sink_new(struct upstream *upstream, struct blob *blob, struct range range,
             struct sink **ret) must_check;
/* Fills get their buffers in turn. A GET is sent only when its fill has them: bodies that wait
 * would keep connections from those whose turn it is. */
bool sink_has_room(struct sink *sink);
void sink_await(struct sink *sink, struct completion *done);
void sink_ask_check(struct sink *sink, struct wan *wan); /* the headers that ask for a checksum */
/* The head of a GET that feeds it has come. -EPROTO: another range than asked for; -ESTALE: of
 * another version. */
int sink_head(struct sink *sink, struct wan *wan) must_check;
int sink_take(struct sink *sink, struct wan *wan, struct span bytes) must_check;
void sink_detach(struct sink *sink); /* the request that fed it goes away */
bool sink_complete(const struct sink *sink);
struct range
sink_left(const struct sink *sink); /* of the source blob: what a further GET must bring */
struct fill_source sink_source(const struct sink *sink);
uint64_t sink_blob_end(const struct sink *sink); /* of its fill, in the reading blob */
/* Checks and ends the fill, frees the sink. 0 published, -EIO mismatch, else err. */
int sink_end(struct sink *sink, int err);

/* Runs GETs until the sink is complete or hopeless, then ends it; over(arg, err) on the thread. */
void fetch_start(struct remote *remote, struct sink *sink, void (*over)(void *arg, int err),
                 void *arg);
/* Asks for that name, known or not: something contradicts what we know of it. Nobody waits; or
 * `done`, on the upstream thread's loop, until it is learned. */
void open_refresh(struct upstream *upstream, const struct name *name);
void container_doubt_call(struct call *call); /* upstream_ask_doubtful's of a container */
void open_ask_again(struct upstream *upstream, const struct name *name, struct completion *done);

/* ---- write-back ---- */
/* buffer.c: a fixed number of buffers, so that uploads together hold no more than that. What is
 * sent lies in one piece while it is in flight: it can be sent again without another read. */
#define UPLOAD_BUFFERS_LARGE 8 /* of block_bytes */
#define UPLOAD_BUFFERS_SMALL 64
#define UPLOAD_SMALL_BYTES   65536u
struct buffer {
    char *base;
    size_t room, used;
    struct buffer *next;
};
struct buffers *buffers_new(uint64_t large_bytes);
struct buffers *buffers_free(struct buffers *buffers); /* all are back; NULL is fine */
/* Upstream thread; waits its turn. bytes <= block_bytes. */
void buffer_get(struct buffers *buffers, uint64_t bytes, struct buffer **ret,
                struct completion *done);
void buffer_put(struct buffers *buffers, struct buffer *buffer); /* NULL is fine */

/* load.c: bytes of a version into a buffer, verified by the reader, with their CRC. */
struct load {
    struct op op;
    struct upstream *upstream;
    struct blob *blob; /* the caller's reference */
    struct range range;
    struct buffer *buffer; /* the caller puts it back */
    uint64_t crc64;
    struct reader *reader;
    struct slice slice;
    struct completion *done;
    int err;
};
/* -EUCLEAN damaged, -ENODATA absent, -EIO. */
void load_start(struct load *load, struct upstream *upstream, struct blob *blob, struct range range,
                struct completion *done);
void load_done(struct load *load); /* gives the buffer back */

struct pump *pump_new(struct upstream *upstream, struct remote *remote);
struct pump *pump_free(struct pump *pump); /* stopped; NULL is fine */
void pump_wake(struct pump *pump);         /* an entry may have become ready */
void pump_stop(struct pump *pump);         /* takes no further entry */
void pump_upload_over(struct pump *pump);
/* Sends one entry and tells the cache how it went; then pump_upload_over. */
void upload_start(struct upstream *upstream, struct remote *remote, struct pump *pump,
                  struct upload *upload);

struct markers *markers_new(void);
struct markers *markers_free(struct markers *markers);

#endif
