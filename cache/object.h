/* cache/object.h - objects in memory: identity, extents, who refers to them. Private to cache/.
 *
 * Lifetime of an object (invariants B1-B9 in cache/README.md):
 *   1 made by a writer or for a cloud blob: nothing durable refers to it. The last object_unref now
 *     gives its slots back: it was free space all along.
 *   2 linked by a change (object_link): rows in FAM_OBJECTS and FAM_SPACE and one link row per user
 *     (manifest or stage). Links and unlinks are judged on the committer's thread in commit order,
 * on the links in memory: whoever links or unlinks holds a reference, so the object is in memory.
 *   3 its last link goes: its rows go in the same change. When that is durable it is as in 1; a
 * link ordered later than that (copy by reference of a deleted blob) writes the rows again. A body
 * whose blob record holds its location has no rows but the space row: object_link_record. Content
 * of a cloud blob (has an origin) may be partly absent: extents come by fills (fill.c) and go by
 * eviction (evict.c) while the object stays.
 * States rank: what any link still needs wins. */
#ifndef CACHE_OBJECT_H
#define CACHE_OBJECT_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache/cache.h"
#include "cache/commit.h"
#include "cache/slab.h"

enum object_state { OBJECT_CLEAN, OBJECT_STAGED, OBJECT_DIRTY, OBJECT_SOLE }; /* stored */

struct fill;

/* One extent in memory. Whoever reads holds a reference; the last one gives the slot back if it is
 * doomed by then (S5). */
struct cell {
    _Atomic uint32_t refs;
    _Atomic bool doomed;
    _Atomic bool given; /* its slot went back */
    struct slab_store *slabs;
    struct extent extent; /* crc, present: object's lock */
    _Atomic uint64_t
        read_once; /* units a client has read: the next time they enter the memory tier */
};

struct object_link_row { /* user 0: the blob record */
    uint64_t user;
    enum object_state state;
};

/* Refill source: the cloud blob, the ETag these bytes belong to, and where in it the object's first
 * byte is. etag empty: none. */
struct object_origin {
    uint64_t container;
    struct span blob, etag;
    uint64_t offset;
};

struct object {
    _Atomic uint32_t refs;
    struct cache *cache;
    struct object_id id;
    uint64_t length;
    uint64_t crc64; /* of all bytes; 0 and !has_crc64 for cloud content not seen whole */
    bool has_crc64;
    bool small;           /* lies in a small slab */
    pthread_mutex_t lock; /* guards what follows */
    struct cell **cells;  /* by extent index; NULL: absent */
    unsigned cell_count;
    uint64_t cell_bytes; /* of slots */
    bool rows; /* in commit order: its rows are written. Changed on the committer's thread only */
    struct object_link_row *links; /* in commit order, by user */
    unsigned link_count, link_room;
    enum object_state counted; /* what of it stands in content_stats, and under which state */
    uint64_t counted_bytes;
    bool known;                  /* its extents are in eviction's book */
    struct object_origin origin; /* spans malloc'ed */
    struct fill *fills;          /* running ones, fill.c */
    struct object *table_next;
};

struct object_id object_id_next(struct cache *cache); /* any thread */
/* A writer's object: refs 1, no extents yet. object_add_extent while writing, in index order; the
 * writer sets crc64, has_crc64 and small before writer_finish ends; object_add_extent sums length.
 */
struct object *object_new(struct cache *cache, struct object_id id);
void object_add_extent(struct object *object, const struct extent *extent);
/* Cloud content: all extents absent. Durable only once linked; until then fills live as long as it
 * does. */
struct object *object_new_cloud(struct cache *cache, uint64_t length, uint64_t container,
                                struct span blob, struct span etag);
/* Finds it in memory, else reads its rows (worker thread, blocks). -ENOENT. */
int object_get(struct cache *cache, struct object_id id, struct object **ret) must_check;
/* Where extent `index` lies; false: absent. */
bool object_extent(struct object *object, unsigned index, struct extent *ret);
/* The same of a located body, for its record: false also when the place is in no row, so that
 * others may take it with the object's last reference. Not linked yet: the record will be its row.
 */
bool object_placed(struct object *object, struct extent *ret);
enum object_state object_state(struct object *object); /* as ordered */

/* Within a change: a row says that manifest (or stage) `user` needs the object in that state;
 * linking again replaces the state. Rows the object lacks are added when the change is ordered. The
 * change holds a reference of its own until it ends. */
void object_link(struct change *change, struct object *object, uint64_t user,
                 enum object_state state);
/* The opposite; with the last link the object's rows go too. The caller knows that `user` needs the
 * object no more (stages: a block id put again). Manifests: reaper_add. */
void object_unlink(struct change *change, struct object *object, uint64_t user);
/* Whole version confirmed in the cloud: what `user` refers to is clean, refilled from there. The
 * source must have the whole object. user 0: a body located by its record. */
void object_set_clean(struct change *change, struct object *object, uint64_t user,
                      const struct object_origin *origin);

/* Small bodies located by their blob record (never shared, no object row; design 3). The caller
 * encodes id, length, crc64, state, object_extent(0) (one unit, one crc) into the record. */
void object_link_record(struct change *change, struct object *object, const struct name *who,
                        enum object_state state);
void object_unlink_record(struct change *change,
                          struct object *object); /* the record goes, or its body */
struct record_body {
    struct object_id id;
    uint64_t crc64;
    struct extent extent; /* index 0 */
    enum object_state state;
    struct object_origin origin; /* when clean */
};
/* Finds it in memory, else makes it from what the record says. A clean body may have been evicted
 * without its record being told, and become clean likewise, so its space row is asked (no such row:
 * it is absent, not an error): worker thread, or INDEX_HOT as view and -EAGAIN. */
int object_get_record(struct cache *cache, const struct index_view *view,
                      const struct record_body *body, struct object **ret) must_check;

/* ---- reaper.c: what is referred to no more goes in the background, in bounded changes ---- */

/* The manifest is dropped by this change. Durable with it, so also after a restart. */
void reaper_add(struct change *change, struct cache *cache, uint64_t manifest);
/* The staged blocks whose FAM_BLOCKS keys start with `prefix` (a name and a generation) are dropped
 * by this change; each row says its link user. */
void reaper_add_staged(struct change *change, struct cache *cache, struct span prefix);
/* The snapshots of a name up to `number` (key_version) are dropped by this change. */
void reaper_add_snapshots(struct change *change, struct cache *cache, struct span key);
/* Every blob, version and staged block of a container whose deletion is this change. */
void reaper_add_container(struct change *change, struct cache *cache, uint64_t container);
/* A manifest too big for one change is written in several before the one that makes it visible: the
 * first guards it, so that a crash in between reaps it; the last one unguards it. */
void reaper_guard(struct change *change, struct cache *cache, uint64_t manifest);
void reaper_unguard(struct change *change, struct cache *cache, uint64_t manifest);

#endif
