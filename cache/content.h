/* cache/content.h - what object.c, link.c, reader.c, fill.c, tier.c, evict.c, reaper.c and
 * compact.c share. Private to them. Lock order: object lock, then evict's or tier's own; a table
 * shard's lock is innermost. */
#ifndef CACHE_CONTENT_H
#define CACHE_CONTENT_H

#include "cache/internal.h"

#define TABLE_SHARDS  64
#define TABLE_BUCKETS 1024 /* per shard */

/* Objects in memory, by id. `moved` counts removals: who read rows without the lock inserts what it
 * made of them only if nothing of the shard went out of memory meanwhile, since that may have
 * changed the rows. */
struct object_shard {
    pthread_mutex_t lock;
    uint64_t moved;
    struct object *bucket[TABLE_BUCKETS];
};

struct tier;
struct evict;
struct keeper;
struct reaper;
struct filler;

enum keeper_duty { KEEP_REAP, KEEP_EVICT, KEEP_COMPACT, KEEP_DUTIES };

struct content {
    struct cache *cache;
    _Atomic uint64_t counter;   /* object ids of this epoch */
    _Atomic int64_t bytes[4];   /* by enum object_state: extents of objects with rows */
    struct tier *tier;          /* tier.c */
    struct evict *evict;        /* evict.c */
    struct filler *filler;      /* filler.c */
    struct reaper *reaper;      /* reaper.c */
    struct keeper *keeper;      /* keeper.c: the background thread */
    _Atomic bool small_refused; /* a small record found no room */
    _Atomic uint64_t cleaned;   /* bytes that have become clean, ever: what eviction may look at */
    /* A duty that was to make room found none; writers wait for it: at how many cleaned bytes it is
     * called again. 0: it is not waiting. */
    _Atomic uint64_t starved[KEEP_DUTIES];
    struct location sparse_hand, full_hand; /* compact.c: the small slabs it looked at last */
    struct object_shard shards[TABLE_SHARDS];
};

/* ---- object.c ---- */
struct cell *cell_new(struct slab_store *slabs, const struct extent *extent);
struct cell *cell_ref(struct cell *cell);
struct cell *
cell_unref(struct cell *cell); /* NULL is fine; the last one of a doomed cell frees its slot */
/* Mutants of S5, set by tests only, to see that they are noticed: a slot goes back when the record
 * that drops it is ordered, or when that is durable whoever still reads it. */
enum slot_mutant { SLOT_BY_S5, SLOT_WHEN_ORDERED, SLOT_UNDER_READERS };
extern _Atomic int slot_mutant;
void cell_mutant(struct cell *cell, enum slot_mutant when);
/* Single units can be written into it again: it still is a large extent of this object, where data
 * may be placed. A small record shares its pages with others'. What takes none goes as a whole when
 * units of it are lost or wanted, so that the next fill finds another place. */
bool cell_takes_units(const struct cell *cell);
struct object *object_find(struct cache *cache, struct object_id id); /* memory only; NULL */
bool object_id_eq(struct object_id a, struct object_id b);
uint64_t object_id_hash(struct object_id id);
void object_set_origin(struct object *object, const struct object_origin *origin); /* NULL: none */
struct object_origin origin_copy(const struct object_origin *origin);
void origin_done(struct object_origin *origin);
/* Lock held; takes the reference. The former cell is the caller's to doom and unref. */
void object_set_cell(struct object *object, unsigned index, struct cell *cell);
enum object_state object_state_locked(const struct object *object);
/* After a change of the object is durable: what content_stats and eviction make of it. */
void object_settled(struct object *object);         /* content.c */
bool object_evictable(const struct object *object); /* content.c; lock held */
/* The duty found no room when `cleaned` was as it says: it is called when `bytes` more have become
 * clean since then, so none that came while it looked is missed. */
void content_starved(struct content *content, enum keeper_duty duty, uint64_t cleaned,
                     uint64_t bytes); /* content.c */

/* ---- link.c ---- */
#define LINK_RECORD 0 /* the user of a body located by its blob record */
void object_add_link(struct object *object, uint64_t user,
                     enum object_state state); /* object's lock held */
/* The link rows that are not clean, as they are: a start that finds this change in the log's tail
 * asks for the bytes of an object only when a row says that somebody needs them. Lock held. */
void change_put_needs(struct change *change, const struct object *object);
/* Located by a blob record: no row but that of its slot. Object's lock held. */
static inline bool object_is_located(const struct object *object)
{
    return object->link_count && object->links[0].user == LINK_RECORD;
}

/* ---- filler.c ---- */
/* The extent's row as it is when ordered; nobody waits. After units were added or lost. */
void object_commit_extent(struct object *object, struct cell *cell);

/* ---- rows.c: keys and values of FAM_OBJECTS and FAM_SPACE (cache/FORMAT.md) ---- */
#define OBJECT_KEY_MAX  25
#define SPACE_KEY_BYTES 10
#define EXTENT_ROW_MAX  (27 + 8 * EXTENT_UNITS_MAX)
enum object_row { ROW_OBJECT = 0, ROW_EXTENT = 1, ROW_LINK = 2 };
struct object_key {
    char bytes[OBJECT_KEY_MAX];
    size_t len;
};
struct object_key object_key(struct object_id id, enum object_row row, uint64_t number);
struct object_key object_prefix(struct object_id id);
int object_key_decode(struct span key, struct object_id *id, enum object_row *row,
                      uint64_t *number) must_check;
struct span object_key_span(const struct object_key *key);

struct span object_row_encode(const struct object *object); /* malloc'ed */
int object_row_decode(struct span row, struct object *object) must_check;
size_t extent_row_encode(const struct extent *extent, char ret[EXTENT_ROW_MAX]);
int extent_row_decode(struct span row, struct extent *ret) must_check;

enum space_kind {
    SPACE_LARGE = 1,
    SPACE_SMALL = 2,
    SPACE_RECORD = 3 /* small, located by a blob record */
};
struct space_row {
    struct location at; /* from key and value */
    uint32_t length, index;
    struct object_id id;
    enum space_kind kind;
    enum object_state state; /* of SPACE_RECORD */
    uint64_t container;      /* of SPACE_RECORD: whose record */
    struct span blob;
};
void space_key_encode(const struct location *at, char ret[SPACE_KEY_BYTES]);
struct span space_row_encode(const struct space_row *row); /* malloc'ed */
int space_row_decode(struct span key, struct span value, struct space_row *ret) must_check;

/* Entries that say or unsay where an extent lies. Object's lock held. */
void change_put_extent(struct change *change, const struct object *object,
                       const struct extent *extent);
void change_delete_extent(struct change *change, const struct object *object,
                          const struct extent *extent);

void change_delete_space(struct change *change, const struct location *at);

/* ---- keeper.c: one background thread with a loop; the duties run on it, one after another ---- */
struct keeper *keeper_new(struct cache *cache);
struct keeper *keeper_free(struct keeper *keeper); /* not running; NULL is fine */
/* Before the start. Called on the keeper's thread once a second at least, and after its duties. */
void keeper_on_tick(struct keeper *keeper, void (*fn)(struct cache *cache));
int keeper_start(struct keeper *keeper) must_check;
void keeper_stop(struct keeper *keeper);                        /* idempotent */
void keeper_call(struct keeper *keeper, enum keeper_duty duty); /* any thread: it runs soon, once */
bool keeper_stopping(const struct keeper *keeper);
/* On its thread: a change submitted and waited for. Consumes the change. */
int keeper_commit(struct keeper *keeper, struct change *change) must_check;
struct loop *keeper_loop(struct keeper *keeper);
struct awaited;
int keeper_await(struct keeper *keeper, struct awaited *awaited) must_check; /* on its thread */

/* ---- tier.c: verified units of objects in memory ---- */
struct tier;
struct tier_stats {
    uint64_t bytes, used_bytes; /* used: slots, readers' too */
};
int tier_open(uint64_t bytes, struct tier **ret) must_check; /* 0 bytes: nothing is ever kept */
struct tier *tier_close(struct tier *tier); /* NULL is fine; all slices must be back */
/* Any thread. *ret: the whole unit, a reference. Counts as a use. */
bool tier_get(struct tier *tier, struct object_id id, uint32_t unit, struct slice *ret);
/* Copies a verified unit in, if there is room after dropping less used ones. */
void tier_put(struct tier *tier, struct object_id id, uint32_t unit, struct span bytes);
struct tier_stats tier_stats(struct tier *tier);

/* ---- evict.c ---- */
struct evict *evict_new(struct cache *cache);
struct evict *evict_free(struct evict *evict); /* NULL is fine */
/* Any thread: a clean extent that can be fetched again (in a large slab: others go with their
 * slab), or no more; a client read it. */
void evict_know(struct evict *evict, struct object_id id, const struct extent *extent);
void evict_forget(struct evict *evict, struct object_id id, uint32_t index);
void evict_touch(struct evict *evict, struct object_id id, uint32_t index);
/* Within a change: the extent goes if it is still clean when the change is ordered. */
void evict_extent(struct change *change, struct object *object, uint32_t index);
void object_commit_eviction(struct object *object, uint32_t index); /* that alone; nobody waits */
void evict_run(struct cache *cache);                                /* keeper's thread */
void evict_large(struct cache *cache);           /* an allocation failed whatever the sums say */
uint64_t evict_small_bytes(struct cache *cache); /* clean ones that no single eviction would free */
uint64_t evict_low_bytes(struct cache *cache);
void evict_start(struct cache *cache); /* told by the slab store from now on */

/* ---- compact.c: keeper's thread. How many small slabs were emptied ---- */
void compact_run(struct cache *cache);
unsigned compact_sparse(struct cache *cache); /* of those with little in them */
unsigned compact_full(struct cache *cache);   /* the next one of clean bodies */

/* ---- reaper.c ---- */
#define META_DROP_MANIFEST 'm' /* 'm', manifest u64: rows to free */
#define META_GUARD_MANIFEST                                                                        \
    'g' /* 'g', manifest u64: being written; found at start it is dropped                          \
         */
struct reaper *reaper_new(void);
struct reaper *reaper_free(struct reaper *reaper); /* NULL is fine */
void reaper_run(struct cache *cache);              /* keeper's thread */
int reaper_load(struct cache *cache) must_check;   /* start: what a crash left half made */
void reaper_orphan(struct cache *cache, struct object_id id); /* start: an object without a link */

#endif
