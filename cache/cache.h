/* cache/cache.h - the engine: named versions, their bytes on slabs, atomic durable changes,
 * uploads.
 *
 * Knows nothing of HTTP and nothing of the cloud: it answers "not known here" (-ENODATA) and is
 * taught (cache_learn*). Loop thread unless a call says otherwise. Calls that take a completion
 * never block and follow O1-O7; `cancel` is set by begin, writer_buffer, reader_next and list,
 * never by commit or stage. Errors are negative errno; -EIO: a device or the index failed.
 * Invariants: cache/README.md.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include "base/iobuf.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/span.h"
#include "base/util.h"
#include "base/worker.h"
#include "cache/contract.h"
#include "cache/service.h"

struct cache;  /* the engine */
struct blob;   /* one version as published: its record and content, refcounted, immutable */
struct object; /* one immutable piece of content, refcounted */
struct reader;
struct writer;
struct tx;
struct fill;

/* ---- names and records ---- */

struct name {
    uint64_t container;                  /* container id, never reused */
    struct span blob, snapshot, version; /* blob empty: the container itself */
};

#define BLOB_NAME_BYTES_MAX 4096 /* 1024 UTF-16 units are at most 3072 bytes of UTF-8 */
#define UNIT_BYTES          65536u
#define EXTENT_BYTES_MAX    (4u << 20)
#define SMALL_BYTES_MAX     65536u /* bodies up to here lie in small slabs, located by their record */

enum blob_type { BLOB_BLOCK = 1, BLOB_APPEND, BLOB_PAGE };
enum durability { DURABILITY_LOCAL = 1, DURABILITY_MIRRORED, DURABILITY_CLOUD };

/* Of the service; stored, so never renumbered. NONE: never said, or one that is not here. */
enum access_tier {
    ACCESS_TIER_NONE,
    ACCESS_TIER_HOT,
    ACCESS_TIER_COOL,
    ACCESS_TIER_COLD,
    ACCESS_TIER_ARCHIVE
};

struct pair {
    struct span name, value;
};

/* The lease the cloud last told of, where leases are its; stored, so never renumbered. */
enum cloud_lease {
    CLOUD_LEASE_NONE, /* available, or never told */
    CLOUD_LEASE_FIXED,
    CLOUD_LEASE_INFINITE,
    CLOUD_LEASE_EXPIRED,
    CLOUD_LEASE_BREAKING,
    CLOUD_LEASE_BROKEN,
};
/* The lease of a blob or container as it is stored; what it is now is lease.h's of blobapi to say,
 * by when its period began (cache_lease_began). All zeros: none. */
enum lease_kind { LEASE_KIND_NONE, LEASE_KIND_HELD, LEASE_KIND_BREAKING, LEASE_KIND_BROKEN };
#define LEASE_INFINITE UINT64_MAX
struct lease {
    enum lease_kind kind; /* stored, so never renumbered */
    unsigned char id[16]; /* the GUID its holder proves it by */
    uint64_t period_ns;   /* held: its duration, or LEASE_INFINITE; breaking: until it is broken */
    uint64_t serial;      /* names this period in memory; never reused. 0: tx_lease gives one */
};

/* What a HEAD or a list row needs. Spans are borrowed from whoever gives the record. */
struct blob_record {
    enum blob_type type;
    uint64_t length;
    uint64_t etag;                   /* local name; ETAG_FMT */
    int64_t created_ns, modified_ns; /* wall clock; modified_ns is unique and rises per process */
    struct span content_type, content_encoding, content_language, content_disposition,
        cache_control;
    struct span content_md5; /* 16 bytes or empty */
    uint64_t content_crc64;  /* of the whole content */
    bool has_crc64;
    const struct pair *metadata; /* names as sent, in the order sent */
    unsigned metadata_count;
    struct span tags;      /* cache/tags.h; empty: none, or not known */
    uint32_t tags_unknown; /* so many has the cloud, whose text is not known here; 0: all known */
    enum access_tier access_tier, rehydrating; /* rehydrating: what an archived one becomes */
    bool access_tier_inferred;                 /* the account's, as the cloud said */
    int64_t access_tier_changed_ns;            /* 0: never set */
    uint32_t committed_blocks;                 /* rows of Get Block List; 0 after Put Blob */
    uint32_t contract;                         /* contract id it was acknowledged under */
    enum durability durability;
    bool sole;              /* no copy will ever exist elsewhere (write = local) */
    struct span cloud_etag; /* quoted text as the cloud gave it; empty: not in the cloud yet */
    int64_t cloud_modified_ns;
    int64_t checked_ns; /* wall time of the request that last validated it; 0 never */
    /* The copy that made it, until its content or its headers are written again; empty, 0: none. */
    struct span copy_id, copy_source; /* the source's URL without its query */
    int64_t copied_ns;
    struct lease lease; /* granted here; a new version has the one its writer gives it */
    bool sealed;        /* an append blob that takes no more */
    uint64_t snapshot;  /* of a snapshot: its time, in ISO8601_TICK_NS since 1970; else 0 */
    struct {            /* of the name's own version, the cache's to say */
        uint32_t count;
        uint64_t since; /* the oldest one's time or less: older rows are garbage of a former blob */
        bool share;     /* the newest one has the content of this version */
    } snapshots;
    enum cloud_lease cloud_lease;
};
/* Local ETags live where Azure mints none: 0x1 and 15 hex digits (Azure: 0x8D...). */
#define ETAG_FMT "\"0x%016" PRIX64 "\""

/* A stored access policy of a container, as it is shown; empty: not given. */
struct access_policy {
    struct span id, start, expiry, permission;
};
#define ACCESS_POLICIES_MAX 5

struct container_record {
    uint64_t id;
    uint32_t account; /* struct account's id */
    struct span name;
    uint64_t etag;
    int64_t modified_ns;
    const struct pair *metadata;
    unsigned metadata_count;
    struct span public_access; /* "", "container" or "blob" */
    bool in_cloud;             /* the cloud has it, or it was learned from there */
    int64_t checked_ns;
    struct lease lease; /* granted here */
    const struct access_policy *policies;
    unsigned policy_count; /* up to ACCESS_POLICIES_MAX */
    enum cloud_lease cloud_lease;
};

/* ---- open and close: main thread, blocking ---- */

struct device_conf {
    struct span name, path;
    uint64_t bytes;
};
struct cache_conf {
    struct span data; /* folder of the index */
    const struct device_conf *devices;
    unsigned device_count;
    const struct accounts *accounts;
    uint64_t memory_tier_bytes, index_cache_bytes;
    uint64_t dirty_high_bytes; /* 0: three quarters of the devices */
    uint64_t staged_ttl_ns;    /* 0: a week */
    struct workers *workers;
    enum { CACHE_IO_AUTO, CACHE_IO_URING, CACHE_IO_BLOCKING } io;
    const struct io_ops *io_ops; /* tests: simulated devices; NULL by `io` */
    bool format_discard;         /* hearth format --discard: forget what the devices hold */
    void (*fatal)(void *arg,
                  const char *why); /* durable truth and index part: the process must end */
    void *fatal_arg;
};
/* What eviction's book takes in memory when the devices are full of whole extents (4 MiB); of
 * smaller bodies in more of them, beside what `memory` counts. */
uint64_t cache_book_bytes(const struct device_conf *devices, unsigned count);
/* Replays the log, checks its tail, serves. On failure *why says in words what to do (malloc'ed).
 */
int cache_open(const struct cache_conf *conf, struct cache **ret, char **why) must_check;
struct cache *cache_close(struct cache *cache); /* loops have stopped; flushes, marks clean */
/* Once per loop, on its thread, before requests: its I/O ring. */
int cache_attach_loop(struct cache *cache, struct loop *loop) must_check;
void cache_detach_loop(struct cache *cache, struct loop *loop);
/* `hearth check` on a stopped box: walks everything; prints findings to report; number of them or
 * -errno */
int cache_check(const struct cache_conf *conf, void (*report)(void *arg, const char *line),
                void *arg) must_check;

/* ---- what accounts have set for their service ---- */

/* Any thread, no I/O: a reference, valid until service_unref; NULL: nothing was ever set. */
struct service;
struct service *cache_service(struct cache *cache, const struct account *account);
const struct service_record *service_record(const struct service *service);
struct service *service_unref(struct service *service);
/* Durable, then done. -ESTALE: `from`, which the caller has made the record of, is not the newest
 * any more: make it anew. Any thread. */
void cache_put_service(struct cache *cache, const struct account *account, struct service *from,
                       const struct service_record *record, struct completion *done);

/* ---- containers: all described in memory ---- */

/* Any thread, no I/O. 0, -ENOENT certainly absent, -ENODATA not known here: ask the cloud. The
 * record stays valid until container_unref. */
struct container;
int cache_container(struct cache *cache, uint32_t account, struct span name,
                    struct container **ret) must_check;
/* By id: upstream's requests need the name. Any thread, no I/O. 0, -ENOENT (gone). */
int cache_container_by_id(struct cache *cache, uint64_t id, struct container **ret) must_check;
const struct container_record *container_record(const struct container *container);
struct container *container_unref(struct container *container);
/* Rows in name order from `from` (inclusive); row returns non-zero to stop. Any thread. Sets
 * *complete when the account's containers are all known here, as of a time its contracts accept. */
int cache_containers(struct cache *cache, uint32_t account, struct span prefix, struct span from,
                     int (*row)(void *arg, const struct container_record *record), void *arg,
                     bool *complete) must_check;

/* ---- lookup: durable state only ---- */

/* Memory, no I/O, any thread. NULL: use cache_lookup. Known absence also gives NULL. */
struct blob *cache_lookup_hot(struct cache *cache, const struct name *name);
/* 0; -ENOENT certainly absent (tombstone too); -ENODATA not known here: upstream_open; -EINVAL: a
 * snapshot that is no time. */
void cache_lookup(struct cache *cache, const struct name *name, struct blob **ret,
                  struct completion *done);
const struct blob_record *blob_record(const struct blob *blob);
const struct name *blob_name(const struct blob *blob); /* as long as the reference */
/* A blob's content is a list of pieces. */
struct piece {
    struct object *object;
    uint64_t offset, length;
};
/* Pieces of the whole content, in order, and their count (0: empty blob). Copy by reference gives
 * them to tx_put. */
size_t blob_pieces(const struct blob *blob, const struct piece **ret);
struct blob *blob_ref(struct blob *blob);
struct blob *
blob_unref(struct blob *blob); /* a reference pins record and content whatever replaces the name */

/* ---- read: one version's bytes in order; reads ahead; joins running fills ---- */

/* Only READ_CLIENT counts as access. READ_AGAIN: what its client has just read, from memory where
 * it lies. READ_KEEP: gives no bytes; 0 when all of them have come onto the devices. */
enum read_for { READ_CLIENT, READ_AGAIN, READ_UPLOAD, READ_SCRUB, READ_KEEP };
struct reader *cache_reader_open(struct blob *blob, struct range range, enum read_for why);
/* 0: *ret holds the next bytes. -ENODATA: reader_gap is absent and nobody fetches it:
 * upstream_fill, call again. -EUCLEAN: dirty or sole bytes are damaged. Else the fill's error. */
void reader_next(struct reader *reader, struct slice *ret, struct completion *done);
struct range reader_gap(const struct reader *reader);
/* 0: all slices given are checked; awaited before the withheld end (last 64 KiB) is sent. */
void reader_settle(struct reader *reader, struct completion *done);
struct reader *
reader_close(struct reader *reader); /* never waits; leaves joined fills; NULL is fine */

/* ---- write: bytes to a new object, invisible until a change refers to it ---- */

struct write_opts {
    const struct contract *contract;
    int64_t bytes; /* expected length, -1 unknown; up to SMALL_BYTES_MAX goes to a small slab */
    bool
        staged; /* a block: may use the reserved headroom when its blob has staged blocks already */
};
/* -ENOSPC: only dirty, sole, pinned or staged bytes are left (503); -EDQUOT: the contract's quota.
 */
int cache_writer_open(struct cache *cache, const struct write_opts *opts,
                      struct writer **ret) must_check;
/* Gives an empty buffer to receive into; waits while the writer's share is in flight:
 * back-pressure. */
void writer_buffer(struct writer *writer, struct iobuf **ret, struct completion *done);
/* Takes the buffer; never waits; checksums base..used once, hot; starts device writes; errors
 * stick. */
void writer_push(struct writer *writer, struct iobuf *buf);
/* Consumes the writer; the object is written, not yet flushed. */
void writer_finish(struct writer *writer, struct object **ret, struct completion *done);
struct writer *writer_abort(
    struct writer *writer); /* NULL fine; never waits; buffers go back when their I/O ends */
uint64_t object_length(const struct object *object);
uint64_t object_crc64(const struct object *object);
/* Never reused in this box; with cache_box_uuid in the world. Names the blocks upstream sends. */
#define OBJECT_ID_BYTES 16
void object_id_bytes(const struct object *object, unsigned char ret[OBJECT_ID_BYTES]);
void cache_box_uuid(const struct cache *cache, uint64_t ret[2]);
struct object *object_ref(struct object *object);
struct object *object_unref(struct object *object);

/* ---- change: one name, atomically ---- */

/* FIFO per name; await no client between begin and commit or rollback. -ETIMEDOUT never: FIFO only.
 */
void cache_begin(struct cache *cache, const struct name *name, struct tx **ret,
                 struct completion *done);
/* Creating, deleting, describing a container is ordered by (account, name). */
void cache_begin_container(struct cache *cache, uint32_t account, struct span name, struct tx **ret,
                           struct completion *done);
/* Last ordered version: 0, -ENOENT, -ENODATA (roll back, ask the cloud, begin again). Conditions
 * are judged on this. The reference is the tx's. */
int tx_current(struct tx *tx, struct blob **ret) must_check;
int tx_current_container(struct tx *tx, struct container **ret) must_check;
bool tx_has_staged(
    struct tx *tx); /* uncommitted blocks exist: DELETE of an uncommitted blob, listing */

enum block_source { BLOCK_LATEST, BLOCK_COMMITTED, BLOCK_UNCOMMITTED };
struct block_ref {
    enum block_source source;
    struct span id; /* decoded, 1..64 bytes */
};
#define BLOCKS_COMMITTED_MAX 50000 /* of an append blob too */
#define BLOCKS_STAGED_MAX    100000
/* Block list -> pieces (ret has n places; a reference each). -ENOENT: entry *bad. -ENODATA: some
 * are committed blocks whose bytes are not all here. Those have no object and are `length` bytes of
 * the current version from `offset` on, the others are 0: roll back, READ_KEEP them, begin again.
 * 50 000 take about 100 ms, on a worker. */
void tx_blocks(struct tx *tx, const struct block_ref *blocks, size_t n, struct piece *ret,
               size_t *bad, struct completion *done);
/* Puts a version. Fills in record->etag and record->modified_ns (and created_ns when 0). Takes one
 * reference per piece. blocks: the client's ids beside the pieces (Put Block List), NULL for Put
 * Blob and copies; drop_staged: what is uncommitted goes. The record is copied. */
void tx_put(struct tx *tx, struct blob_record *record, const struct piece *pieces, size_t n,
            const struct block_ref *blocks, bool drop_staged);
/* Puts a version that has the content of `source`, any name's: its objects by reference and the
 * client's block ids beside them. A body located by its record is never shared: the caller writes
 * its bytes anew, tx_put, tx_copied. -ENODATA: bytes of it are absent: roll back, READ_KEEP the
 * source, begin again. Blocks on a worker; the record is the tx's until done. */
void tx_copy(struct tx *tx, struct blob_record *record, struct blob *source,
             struct completion *done);
/* Puts the version that has the piece (not empty) behind what the current one has: an append blob
 * whose bytes are all this box's. Sets the record as tx_put does, its length and committed_blocks
 * too; takes the piece's reference. Costs the same however long the blob is: one manifest row of
 * at most 512 pieces. */
void tx_append(struct tx *tx, struct blob_record *record, const struct piece *piece);
bool blob_is_shared(const struct blob *blob); /* its content can be copied by reference */
/* After a tx_put of the source's bytes: what the cloud has of the source is deleted or overwritten
 * there after this version has arrived (tx_copy says so itself). */
void tx_copied(struct tx *tx, const struct blob *source);
/* New properties or metadata, same content. */
void tx_describe(struct tx *tx, struct blob_record *record);
/* The same version: ETag, times and all but the record's tags and access tier stay as they are. */
void tx_amend(struct tx *tx, const struct blob_record *record);
/* Tombstone until the cloud has confirmed; staged blocks go too, and all snapshots. */
void tx_delete(struct tx *tx);

/* Snapshots: read-only versions of a name beside its own, under the time they were taken at, which
 * rises and is never given out twice. They share content with the version they were taken of, but
 * for bodies located by their record: those are copied. The name's own version stays what it is,
 * its ETag too. They go with the name, one by one, or all at once. */
bool blob_is_copied(const struct blob *blob); /* a snapshot of it needs its bytes anew */
struct snapshot_spec {
    const struct pair *metadata; /* NULL: the version's own, and its ETag and time */
    unsigned metadata_count;
    const struct blob *copied; /* blob_is_copied: the version whose bytes `copy` holds */
    struct piece copy;         /* its reference is taken if the current version is copied */
};
struct snapshot_made {
    uint64_t snapshot, etag;
    int64_t modified_ns;
};
/* Of the current version. -ESTALE: that one's bytes were not copied: roll back, begin again. */
int tx_snapshot(struct tx *tx, const struct snapshot_spec *spec,
                struct snapshot_made *ret) must_check;
/* For its deletion: when all that was ordered before is durable. -ENOENT. The reference is the
 * tx's. On a worker. */
void tx_find_snapshot(struct tx *tx, uint64_t snapshot, struct blob **ret, struct completion *done);
void tx_delete_snapshot(struct tx *tx);  /* the one that was found */
void tx_delete_snapshots(struct tx *tx); /* all; the name's own version stays */

void tx_put_container(struct tx *tx,
                      struct container_record *record); /* fills in id (when 0), etag, time */
void tx_delete_container(struct tx *tx);                /* one row, whatever is in it */
/* Another lease of the same version or container: ETag, times and content stay, the cloud hears
 * nothing. There is a version. serial 0: a new period, which begins now. */
void tx_lease(struct tx *tx, struct lease *lease);

enum upload_kind { /* one per operation of the dialect; stored, so never renumbered */
                   UPLOAD_CONTENT = 1, /* the whole version: Put Blob or blocks + Put Block List */
                   UPLOAD_PROPERTIES = 2,
                   UPLOAD_METADATA = 3,
                   UPLOAD_DELETE = 4,
                   UPLOAD_CONTAINER_CREATE = 5,
                   UPLOAD_CONTAINER_DELETE = 6,
                   UPLOAD_CONTAINER_METADATA = 7,
                   UPLOAD_SNAPSHOT = 8,
                   UPLOAD_TIER = 9,
                   UPLOAD_TAGS = 10,
                   UPLOAD_COPY = 11,
                   UPLOAD_APPEND = 12,
                   UPLOAD_PAGES = 13,
                   UPLOAD_SEAL = 14,
                   UPLOAD_UNDELETE = 15,
                   UPLOAD_CONTAINER_ACL = 16,
                   UPLOAD_SERVICE_PROPERTIES = 17,
                   UPLOAD_EXPIRY = 18,
};
/* Adds an upload entry to the same record. Its base (any, absent, cloud ETag) is derived by the
 * cache from the version it follows. Contracts that are not `back` add none. */
struct upload_spec {
    enum upload_kind kind;
    const struct contract *contract;
    bool create_only; /* the client said If-None-Match: *: of a name nobody here knows, base absent
                       */
};
void tx_upload(struct tx *tx, const struct upload_spec *spec);
/* Consumes. Queued, flushed, visible, then done. On error nothing has changed: -EIO, -ENOSPC,
 * -ENOENT (container gone meanwhile), -EDQUOT. */
void cache_commit(struct tx *tx, struct completion *done);
/* Consumes. A refusal that rests on a queued change: done when that change is durable (or failed).
 */
void cache_rollback(struct tx *tx, struct completion *done);

/* When the lease's period began, monotonic: when it was granted or renewed last. Both are known in
 * memory only: after a start each begins anew, with the start. Any thread. */
uint64_t cache_lease_began(struct cache *cache, const struct lease *lease);
/* A renewal: its period begins anew. For who has the turn of its name; not made durable. */
void cache_lease_renew(struct cache *cache, const struct lease *lease);

/* Put Block: durable, no name order, last one wins. Takes the reference. -EINVAL: id length differs
 * from the staged ones; -E2BIG: BLOCKS_STAGED_MAX; -EEXIST: blob of another type; -ENOENT container
 * gone. */
void cache_stage(struct cache *cache, const struct name *name, struct span id,
                 struct object *object, struct completion *done);
struct block_row {
    struct span id;
    uint64_t bytes;
};
/* Worker thread. Committed in blob order, uncommitted in id order. */
int cache_list_blocks(struct cache *cache, const struct name *name, struct blob *blob,
                      int (*committed)(void *arg, const struct block_row *row),
                      int (*uncommitted)(void *arg, const struct block_row *row),
                      void *arg) must_check;

/* ---- what the cloud said ---- */

/* Stamp of an upstream request, taken before it is sent: commit number, monotonic and wall time.
 * Keeps tombstones until cache_ask_end. Any thread. */
struct asked {
    uint64_t commit, mono_ns;
    int64_t wall_ns;
    uint64_t ticket;
    uint64_t doubt; /* the name's number (cache_doubt): learning the answer takes the mark away */
};
struct asked cache_ask(struct cache *cache, const struct name *name);
void cache_ask_end(struct cache *cache, struct asked *asked);
/* NULL cloud: absent. The record carries cloud_etag, cloud_modified_ns, length, headers, metadata;
 * the cache gives it its local name. Never overrides newer state: -ESTALE (look up again). */
void cache_learn(struct cache *cache, const struct name *name, const struct asked *asked,
                 const struct blob_record *cloud, struct blob **ret, struct completion *done);
/* NULL cloud: absent. */
void cache_learn_container(struct cache *cache, uint32_t account, struct span name,
                           const struct asked *asked, const struct container_record *cloud,
                           struct completion *done);
/* The first container behind `after` that was in the cloud before `asked` and that a whole list,
 * learned with it, did not name: learn each as absent. 0, -ENOENT (no more). Any thread. */
int cache_container_unlisted(struct cache *cache, uint32_t account, const struct asked *asked,
                             struct span after, struct container **ret) must_check;
/* The account's containers are all known as of asked. */
void cache_learn_containers_end(struct cache *cache, uint32_t account, const struct asked *asked);

/* Listing: worker thread; one index snapshot per call. */
struct list_query {
    uint64_t container;
    struct span prefix, delimiter; /* delimiter empty: flat */
    struct span from; /* first name or prefix that may appear (inclusive), or a row's place */
    unsigned max;     /* rows, prefixes counted as one each */
    bool uncommitted; /* blobs that only have staged blocks too */
    bool snapshots;   /* theirs before each name; not with a delimiter */
    bool offline;     /* give what is known, however old */
};
struct list_row {
    struct span name;                 /* or the prefix */
    const struct blob_record *record; /* NULL: a prefix */
    bool uncommitted;
    struct span place; /* as list_query.from: a listing that begins with this row */
};
/* What must be asked of the cloud before a listing can go on. */
struct list_gap {
    uint64_t container;
    struct span prefix, delimiter, from; /* owned by list_end, free with list_end_done */
};
struct list_end {
    struct span next; /* continue with from = next; base NULL: complete. malloc'ed */
    struct list_gap gap;
};
/* 0; -ENODATA: ret->gap is unknown or too old: upstream_list, go on from gap.from (rows given so
 * far stand); else row's own non-zero result. */
int cache_list(struct cache *cache, const struct list_query *query,
               int (*row)(void *arg, const struct list_row *row), void *arg,
               struct list_end *ret) must_check;
void list_end_done(struct list_end *end);
struct learned_row {
    struct span name;
    const struct blob_record *cloud; /* NULL: a prefix */
};
/* One page from the cloud: rows in order from gap->from up to `to` (base NULL: to the end). Never
 * touches dirty rows; names that vanished go. */
void cache_learn_list(struct cache *cache, const struct list_gap *gap, const struct asked *asked,
                      const struct learned_row *rows, size_t n, struct span to,
                      struct completion *done);

/* Names in doubt: the cloud is asked to change something of its own, or its answer was lost. Any
 * thread. A blob of a container of this box; container 0: a container of the account. */
struct doubtful {
    uint32_t account;
    uint64_t container;
    struct span name;
};
/* 0: not in doubt. Else it is to be asked for before it is answered; the number is another one when
 * questions asked earlier say nothing of it any more. */
uint64_t cache_doubt(struct cache *cache, const struct doubtful *of);
/* Marks it; done when that is durable: then the request may leave. -EBUSY too many. */
void cache_doubt_begin(struct cache *cache, const struct doubtful *of, struct completion *done);
/* What was under way has ended over there, however: a question that carries the number returned
 * (asked.doubt), once learned, takes the mark away in the same change. */
uint64_t cache_doubt_over(struct cache *cache, const struct doubtful *of);
void cache_doubt_drop(struct cache *cache, const struct doubtful *of); /* nothing has happened */
/* each must call nothing of the cache. Returns their count. */
int cache_doubts(struct cache *cache, uint32_t account,
                 void (*each)(void *arg, const struct doubtful *of), void *arg);
/* Does the cloud still have to hear of changes of it, or of its container (that name)? */
bool cache_uploads_of(struct cache *cache, const struct doubtful *of, struct span container);

/* Fills: one per 64 KiB unit however many wait, on all loops. Upstream threads. */
/* Begins one run of absent units that nobody fetches: it starts with the unit of want.start and
 * goes on to the end of want at most, never past its extent, a running fill or a present unit. 0:
 * run it, fill_range says what began. -EALREADY: want.start's unit is being fetched; -EEXIST: it is
 * there; -ENOSPC. want: bytes of the blob; a fill ends at the blob's last byte, else at a unit's
 * end. */
int cache_fill_begin(struct blob *blob, struct range want, struct fill **ret) must_check;
struct range fill_range(const struct fill *fill); /* bytes of the blob */
/* The cloud blob and version the run is a copy of, and the run in it (a copied blob's differ from
 * its own). Spans until fill_end. */
struct fill_source {
    uint64_t container;
    struct span blob, etag;
    struct range bytes;
};
struct fill_source fill_source(const struct fill *fill);
int fill_append(struct fill *fill, struct span bytes)
    must_check; /* a fill's one copy. -EAGAIN pause, retry after `resume`; -EFBIG too much */
void fill_on_resume(struct fill *fill, void (*resume)(void *arg),
                    void *arg); /* any thread calls it */
/* 0: length and checksum checked (crc64 NULL: the cloud gave none), then published; else readers
 * get err. */
void fill_end(struct fill *fill, int err, const uint64_t *crc64);

/* ---- uploads: the write-back queue; upstream's threads ---- */

struct upload {
    uint64_t seq;
    enum upload_kind kind;
    uint32_t account;
    const struct contract *contract;
    struct span container;       /* its name in the cloud */
    struct name name;            /* blob part valid while the upload is held */
    struct blob *blob;           /* the immutable version; NULL for deletes and containers */
    struct container *described; /* container entries: the record */
    enum { BASE_ANY, BASE_ABSENT, BASE_ETAG } base;
    struct span base_etag; /* quoted */
    unsigned attempts;
    struct upload_entry *entry; /* the queue's */
};
/* wake(arg) from any thread whenever an entry may have become ready. */
void cache_uploads_watch(struct cache *cache, void (*wake)(void *arg), void *arg);
/* Worker or upstream thread; may read the index. The next entry whose turn it is (scope batches,
 * per blob order, container barriers), pins its content and marks it in flight. -EAGAIN: none now;
 * then *retry_ns is how long until a backed-off one is due (UINT64_MAX: until woken). */
int cache_upload_next(struct cache *cache, uint32_t account, struct upload **ret,
                      uint64_t *retry_ns) must_check;
enum upload_end { UPLOAD_CONFIRMED, UPLOAD_RETRY, UPLOAD_HELD, UPLOAD_SUPERSEDED };
struct upload_result {
    enum upload_end end;
    struct span cloud_etag; /* CONFIRMED: what it produced; next base of the name */
    int64_t cloud_modified_ns;
    uint64_t retry_after_ns; /* RETRY */
    struct span reason;      /* HELD, RETRY: for operators: status, code, message */
};
/* Consumes the upload. done when the outcome is durable. */
void cache_upload_end(struct cache *cache, struct upload *upload,
                      const struct upload_result *result, struct completion *done);

/* ---- what operators see ---- */

struct cache_stats {
    uint64_t device_bytes, free_bytes, clean_bytes, dirty_bytes, staged_bytes, sole_bytes;
    uint64_t uploads_waiting, uploads_in_flight, uploads_held, oldest_upload_ns; /* age */
    uint64_t commits, applied, log_bytes;
    bool read_only; /* a device is fenced */
};
struct cache_stats cache_stats(struct cache *cache); /* any thread */

#endif
