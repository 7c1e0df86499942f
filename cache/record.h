/* cache/record.h - rows of the index as structs: keys and values of every family this half of the
 * engine writes. Pure; any thread. cache/FORMAT.md "Rows" has the bytes.
 *
 * A value is a format byte and fields {tag u8, length varint, bytes}: a field this version does not
 * know is kept as it is (`unknown`) and written back by every rewrite of the same row (R1).
 * Decoders take any bytes: -EBADMSG, never a read outside. */
#ifndef CACHE_RECORD_H
#define CACHE_RECORD_H

#include "cache/cache.h"
#include "cache/object.h"
#include "cache/slab.h"

#define ROW_FORMAT         1
#define ROW_KEY_BYTES_MAX  9000 /* two names, ids and separators */
#define METADATA_PAIRS_MAX 1024 /* 8 KB of metadata cannot hold more */

/* A growing byte string: keys and values are built in one. */
struct row_bytes {
    char *base;
    size_t used, room;
};
void row_bytes_done(struct row_bytes *bytes); /* _cleanup_ fits */
static inline struct span row_span(const struct row_bytes *bytes)
{
    return (struct span){bytes->base, bytes->used};
}
void row_add(struct row_bytes *bytes, const void *base, size_t len);
void row_add_u32(struct row_bytes *bytes, uint32_t v); /* big-endian: keys */
void row_add_u64(struct row_bytes *bytes, uint64_t v);

/* What decoded metadata lies in; reused from row to row by scans. */
struct row_space {
    struct pair *pairs;
    unsigned room;
    struct access_policy policies[ACCESS_POLICIES_MAX]; /* of containers */
};
void row_space_done(struct row_space *space);

/* ---- blobs: container u64, name. versions: container u64, name, 0, number u64: the time of a
 * snapshot, or from VERSION_ETAGS on the etag of one that is kept for an upload ---- */
#define VERSION_ETAGS      0x1000000000000000ULL /* no time comes near it */
#define VERSION_TAIL_BYTES 9

enum blob_state { /* BLOB_ABSENT is never stored */
                  BLOB_LIVE = 1,
                  BLOB_TOMBSTONE = 2, /* deleted here; the cloud may still have it */
                  BLOB_CLOUD =
                      3, /* learned from a listing: described, content never opened, no manifest */
                  BLOB_ABSENT = 4, /* the cloud said so; in memory only */
};
struct blob_row {
    enum blob_state state;
    struct blob_record record; /* spans into the value; tombstone: etag and modified_ns only */
    uint64_t manifest;         /* names the content; 0: none */
    bool located;              /* a small body: no object row, no manifest rows */
    struct object_id object;
    struct extent extent;           /* of a located body: one unit; else not set */
    enum object_state object_state; /* likewise */
    struct span body_etag;          /* the cloud's where the body is from, if the record has none */
    bool confirmed;                 /* tombstone: the cloud has deleted it too */
    uint64_t lineage; /* manifest of the content it was copied from in the end; 0: no copy */
    struct span unknown;
};
void key_blob(struct row_bytes *ret, uint64_t container, struct span blob);
int key_blob_decode(struct span key, uint64_t *container, struct span *blob) must_check;
void key_version(struct row_bytes *ret, uint64_t container, struct span blob, uint64_t number);
int key_version_decode(struct span key, uint64_t *container, struct span *blob,
                       uint64_t *number) must_check;
void blob_row_encode(struct row_bytes *ret, const struct blob_row *row);
/* extent is set where located is; on failure *ret is of no use. */
int blob_row_decode(struct span value, struct blob_row *ret, struct row_space *space) must_check;

/* What object_get_record wants to know of a located body. Spans are the row's and the name's. */
struct record_body blob_row_body(const struct blob_row *row, uint64_t container, struct span name);

/* ---- fresh: key of the blob -> when the cloud last said so of that ETag ---- */
struct fresh_row {
    int64_t checked_ns;
    uint64_t etag;
};
void fresh_row_encode(struct row_bytes *ret, const struct fresh_row *row);
int fresh_row_decode(struct span value, struct fresh_row *ret) must_check;

/* ---- manifests: manifest u64, start offset u64 -> up to MANIFEST_ROW_PIECES pieces ---- */
#define MANIFEST_ROW_PIECES 512
struct manifest_piece {
    struct object_id object;
    uint64_t offset, length;  /* within the object */
    struct span block, cloud; /* the client's block id and the cloud's; empty: none */
};
void key_manifest(struct row_bytes *ret, uint64_t manifest, uint64_t start);
void manifest_row_begin(struct row_bytes *ret);
void manifest_row_add(struct row_bytes *ret, const struct manifest_piece *piece);
/* 1: *ret; 0: the end; -EBADMSG. *cursor starts at 0. */
int manifest_row_next(struct span value, size_t *cursor, struct manifest_piece *ret) must_check;

/* ---- blocks: container u64, name, 0, generation u64, tick u64, block id. A generation is what one
 * commit takes or drops; of one id in it the row with the highest tick counts ---- */
struct staged_row {
    struct object_id object;
    uint64_t length;
    uint64_t user; /* of its object's link: the tick in the key */
    int64_t staged_ns;
    struct span unknown;
};
void key_stage(struct row_bytes *ret, uint64_t container, struct span blob, uint64_t generation);
void key_staged(struct row_bytes *ret, uint64_t container, struct span blob, uint64_t generation,
                uint64_t tick, struct span id);
int key_staged_decode(struct span key, uint64_t *container, struct span *blob, uint64_t *generation,
                      struct span *id) must_check;
void staged_row_encode(struct row_bytes *ret, const struct staged_row *row);
int staged_row_decode(struct span value, struct staged_row *ret) must_check;

/* ---- containers: account u32, name ---- */
struct container_row {
    bool tombstone;                 /* deleted here, the cloud may still have it */
    struct container_record record; /* name is in the key */
    struct span unknown;
};
void key_container(struct row_bytes *ret, uint32_t account, struct span name);
int key_container_decode(struct span key, uint32_t *account, struct span *name) must_check;
void container_row_encode(struct row_bytes *ret, const struct container_row *row);
int container_row_decode(struct span value, struct container_row *ret,
                         struct row_space *space) must_check;

/* ---- uploads: seq u64. upload_names: container u64, name -> seq of the newest ---- */
enum upload_base {
    ROW_BASE_ANY,
    ROW_BASE_ABSENT,
    ROW_BASE_ETAG,
    ROW_BASE_FORMER /* what the one before
                      produces */
};
struct upload_row {
    enum upload_kind kind;
    uint32_t account, contract;
    uint64_t container;
    struct span container_name, blob;
    uint64_t etag;    /* of the version (blobs or versions row); container: its etag */
    uint64_t content; /* the version's manifest */
    uint64_t lineage; /* that of a copy; 0: it is none */
    uint64_t removes; /* lineage of what it deletes or overwrites in the cloud; 0: nothing known */
    uint64_t batch;   /* order = safe: of its scope */
    enum upload_base base;
    struct span base_etag;
    int64_t queued_ns; /* wall clock */
    struct span held;  /* why it is held; empty: it is not */
    struct span unknown;
};
void key_upload(struct row_bytes *ret, uint64_t seq);
int key_upload_decode(struct span key, uint64_t *seq) must_check;
void upload_row_encode(struct row_bytes *ret, const struct upload_row *row);
int upload_row_decode(struct span value, struct upload_row *ret) must_check;
void upload_name_encode(struct row_bytes *ret, uint64_t seq);
int upload_name_decode(struct span value, uint64_t *seq) must_check;

/* ---- known: listing knowledge. 'R': container u64, prefix, delimiter, from -> to, as of (a range
 * of names all known). 'S': container u64, prefix, delimiter, name: a prefix the cloud listed ----
 */
struct known_row {
    bool to_end; /* else to is the first name not known */
    struct span to;
    int64_t as_of_ns;
    struct span unknown;
};
enum known_kind { KNOWN_RANGE = 'R', KNOWN_STUB = 'S', KNOWN_CONTAINERS = 'C' /* account u32 */ };
void key_known(struct row_bytes *ret, enum known_kind kind, uint64_t container, struct span prefix,
               struct span delimiter, struct span from);
int key_known_decode(struct span key, enum known_kind *kind, uint64_t *container,
                     struct span *prefix, struct span *delimiter, struct span *from) must_check;
void known_row_encode(struct row_bytes *ret, const struct known_row *row);
int known_row_decode(struct span value, struct known_row *ret) must_check;

/* ---- meta: by name ---- */
#define META_TICK           SPAN("tick") /* u64: no tick above it was given out */
#define META_ACCOUNT        'a'          /* 'a', account u32: whose that number is */
#define META_DROP_BLOCKS    'b'          /* 'b', key_stage: rows to free */
#define META_DROP_CONTAINER 'c'          /* 'c', container u64: rows of a deleted one to free */
#define META_DOUBT          'd'          /* 'd', container u64, name: in doubt, see doubt.h */
#define META_SERVICE        'p'          /* 'p', account u32: properties of its Blob service */
#define META_DROP_SNAPSHOTS 'v'          /* 'v', key_version: those of a name up to that time */
void meta_u64_encode(struct row_bytes *ret, uint64_t v);
int meta_u64_decode(struct span value, uint64_t *ret) must_check;
struct account_row {
    struct span name, endpoint; /* endpoint: of its cloud, the last one it had; empty: never any */
};
void key_account(struct row_bytes *ret, uint32_t account);
int key_account_decode(struct span key, uint32_t *account) must_check;
void account_row_encode(struct row_bytes *ret, const struct account_row *row);
int account_row_decode(struct span value, struct account_row *ret) must_check;
/* Names as orders have them: a container's own under CONTAINER_NAMES, as key_container. */
struct doubt_row {
    uint32_t account;
    int64_t since_ns;
};
void key_doubt(struct row_bytes *ret, uint64_t container, struct span name);
int key_doubt_decode(struct span key, uint64_t *container, struct span *name) must_check;
void doubt_row_encode(struct row_bytes *ret, const struct doubt_row *row);
int doubt_row_decode(struct span value, struct doubt_row *ret) must_check;
struct service_row {
    struct service_record record;
    struct span unknown;
};
void key_service(struct row_bytes *ret, uint32_t account);
void service_row_encode(struct row_bytes *ret, const struct service_row *row);
int service_row_decode(struct span value, struct service_row *ret) must_check;

#endif
