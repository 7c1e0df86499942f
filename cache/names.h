/* cache/names.h - versions in memory: descriptors, the table of published ones, the table of
 * containers. Private to cache/. Invariants: cache/README.md N1-N9. */
#ifndef CACHE_NAMES_H
#define CACHE_NAMES_H

#include "cache/internal.h"
#include "cache/record.h"

/* ---- services.c: what accounts have set ---- */

int services_open(struct cache *cache) must_check;
void services_close(struct cache *cache);

/* ---- blob.c: one version ---- */

struct piece_list { /* blob.c; versions hold one together */
    _Atomic uint32_t refs;
    size_t count, room;
    struct piece at[]; /* a reference each */
};
struct piece_list *piece_list_new(const struct piece *pieces, size_t count, size_t room);

struct blob_parts { /* copied, but for the pieces, whose references are taken */
    uint64_t container;
    struct span name;
    enum blob_state state;
    const struct blob_record *record;
    uint64_t manifest, lineage;
    bool located, confirmed;
    const struct piece *pieces;
    size_t piece_count, row_first;
    const struct span *ids; /* beside the pieces, or NULL */
    struct span body_etag, unknown;
};
struct blob *blob_new(struct cache *cache, const struct blob_parts *parts);
/* The same version with another record (checked, confirmed); shares the pieces. */
struct blob *blob_with_record(const struct blob *blob, const struct blob_record *record);
/* What an append makes of it: the piece, whose reference is taken, behind its own, under the same
 * manifest or, if it has none, that one. By who has the name's turn only. */
struct blob *blob_with_piece(const struct blob *blob, const struct blob_record *record,
                             uint64_t manifest, const struct piece *piece);
/* From a row of FAM_BLOBS or FAM_VERSIONS. Worker thread: reads manifest and objects; with
 * INDEX_HOT any thread: -EAGAIN. -ENOENT: what it refers to went away meanwhile, read the row
 * again. */
int blob_load(struct cache *cache, const struct index_view *view, uint64_t container,
              struct span name, struct span value, struct blob **ret) must_check;
void blob_row_of(const struct blob *blob, struct row_bytes *ret); /* its row's value */
enum object_state blob_object_state(const struct blob_record *record);
bool blob_is_there(const struct blob *blob); /* live or described by the cloud */
/* The cloud's ETag of this content under this name; empty: it is not known to be there. */
struct span blob_body_etag(const struct blob *blob);
/* What copies of it, and copies of those, have in common with it; 0: it was never opened, or is
 * none. */
uint64_t blob_lineage(const struct blob *blob);
/* Bytes that go when the last row that names them goes: the manifest, or the located object. */
bool blob_same_content(const struct blob *a, const struct blob *b);
void blob_drop_content(struct change *change, struct blob *blob);

/* ---- blocks.c ---- */

/* Is every byte of its objects on the devices? Owes their flush to the round of this change.
 * Committer thread, in decide: what is whole there stays so, if the change makes it dirty. */
bool blob_make_whole(struct blob *blob) must_check;
#define RESTATED_EXTENT_BYTES 768 /* at most: rows of one, written again when it becomes dirty */

/* ---- names.c: published versions by name ---- */

#define NAMES_SHARDS    64
#define NAMES_BYTES_MIN (16u << 20)
#define LOAD_TRIES_MAX  64 /* a name changed that often while it was being read: -EIO */

uint64_t names_hash(const struct cache *cache, uint64_t container, struct span name);
int names_open(struct cache *cache);
void names_close(struct cache *cache);
/* Any state, also tombstones and known absence; NULL: not in memory. A reference. */
struct blob *names_get(struct cache *cache, uint64_t container, struct span name);
/* From the index. how NULL: worker thread; INDEX_HOT: any thread, -EAGAIN when a worker has to do
 * it. -ENOENT: no row. Enters it in the table unless something of the shard was published since
 * before it was read (N2). */
int names_load(struct cache *cache, const struct index_view *how, uint64_t container,
               struct span name, struct blob **ret) must_check;
/* The new durable state of a name; committer thread (and known absence, any). */
void names_publish(struct cache *cache, struct blob *blob);
void names_forget(struct cache *cache, uint64_t container, struct span name);
/* The container is published as gone: none of its versions is in the table any more (N8). */
void names_forget_container(struct cache *cache, uint64_t container);
/* What a lookup of that answers: 0, -ENOENT, -ENODATA. blob NULL: no row. */
int names_judge(struct cache *cache, uint64_t container, struct span name, const struct blob *blob);

/* ---- containers.c: all containers, in memory ---- */

struct container {
    _Atomic uint32_t refs;
    struct cache *cache;
    struct container_record record; /* spans owned */
    bool tombstone;                 /* deleted here, perhaps not yet in the cloud */
    struct span unknown;
    void *memory;
    struct container *name_next, *id_next;
};
int containers_open(struct cache *cache); /* reads FAM_CONTAINERS */
void containers_close(struct cache *cache);
struct container *container_new(struct cache *cache, const struct container_record *record,
                                bool tombstone, struct span unknown);
struct container *container_ref(struct container *container);
/* Tombstones too. NULL: none. */
struct container *containers_get(struct cache *cache, uint32_t account, struct span name);
void containers_publish(struct cache *cache, struct container *container); /* replaces its name's */
void containers_forget(struct cache *cache, uint32_t account, struct span name);
/* Committer thread: what is ordered, durable or not. Blobs of a container that is gone are refused.
 */
void containers_order_gone(struct cache *cache, uint64_t id, bool gone);
bool containers_alive_ordered(struct cache *cache, uint64_t id);
int containers_judge(struct cache *cache, uint32_t account, struct span name,
                     const struct container *container);
unsigned containers_count(struct cache *cache, uint32_t account); /* tombstones too */
void containers_all_known(struct cache *cache, uint32_t account, int64_t as_of_ns);
/* The contract of a blob by its container's id; NULL: container gone. */
const struct contract *cache_contract(struct cache *cache, uint64_t container, struct span blob);

#endif
