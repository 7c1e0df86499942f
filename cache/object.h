/* cache/object.h - objects in memory: identity, extents, links to what refers to them. Private to cache/.
 *
 * Lifetime of an object:
 *   1 made by a writer (object_new): its extents are allocated, nothing durable refers to it.
 *     The last object_unref now gives its slots back: it was free space all along.
 *   2 linked (object_link, within a change): rows in FAM_OBJECTS and FAM_SPACE and one link row per
 *     manifest (or staged block) that uses it, all in that change. Once durable, `durable` is set.
 *   3 unlinked: the reaper (reaper.c) deletes link rows in bounded changes; with the last one the
 *     object's rows go too; its slots are free when that change is durable and refs are gone (S5).
 *   Content of a cloud blob (has an origin) may be partly absent: extents come by fills (fill.c) and go
 *   by eviction (evict.c) while the object stays. */
#ifndef CACHE_OBJECT_H
#define CACHE_OBJECT_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache/cache.h"
#include "cache/commit.h"
#include "cache/slab.h"

enum object_state { OBJECT_CLEAN, OBJECT_DIRTY, OBJECT_SOLE };

struct object {
    _Atomic uint32_t refs;
    struct cache *cache;
    struct object_id id;
    uint64_t length;
    uint64_t crc64; /* of all bytes; 0 and !has_crc64 for cloud content not seen whole */
    bool has_crc64, small;
    /* lock guards what follows; extents of a writer's object never change after writer_finish. */
    pthread_mutex_t lock;
    struct extent *extents; /* by index; at.generation == 0: absent */
    unsigned extent_count;
    enum object_state state;
    uint32_t links;   /* link rows, durable or queued, known of; see links_known */
    bool links_known, durable;
    /* Refill source: the cloud blob and the ETag these bytes belong to. etag empty: none. */
    uint64_t origin_container;
    struct span origin_blob, origin_etag; /* malloc'ed */
    struct fill *fills; /* running ones, fill.c */
    struct object *table_next;
};

struct object_id object_id_next(struct cache *cache); /* any thread */
/* A writer's object: refs 1, no extents yet. object_add_extent while writing, in index order. */
struct object *object_new(struct cache *cache, struct object_id id);
void object_add_extent(struct object *object, const struct extent *extent);
/* Cloud content: all extents absent. */
struct object *object_new_cloud(struct cache *cache, uint64_t length, uint64_t container, struct span blob,
                                struct span etag);
/* Finds it in memory, else reads its rows (worker thread, blocks). -ENOENT. */
int object_get(struct cache *cache, struct object_id id, struct object **ret) must_check;
/* Within a change: a row that says manifest (or stage) `user` uses the object, and the object's own rows
 * when they are not durable yet. state only rises here: clean -> dirty. */
void object_link(struct change *change, struct object *object, uint64_t user, enum object_state state);
/* The manifest of that id is not referred to any more: its rows and links go, in the background, in
 * bounded changes. Within the change that drops the last reference. */
void reaper_add(struct change *change, struct cache *cache, uint64_t manifest);
/* Whole version confirmed in the cloud: its objects become clean, with that refill source (design 3). */
void object_set_clean(struct change *change, struct object *object, uint64_t container, struct span blob,
                      struct span etag);

#endif
