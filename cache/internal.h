/* cache/internal.h - the parts of the engine and who owns which. Private to cache/.
 *
 *   cache.c     opens and closes the parts in order, stats
 *   blob.c      descriptors of versions; names.c the table of them; containers.c the table of
 * containers order.c     FIFO order per name; tx.c one change of one name; record.c rows <->
 * structs stage.c     uncommitted blocks; blocks.c block lists; ask.c questions to the cloud under
 * way list.c      listings over index snapshots, known.c what of them is known; learn.c what the
 * cloud said uploads.c   the write-back queue; upload_order.c whose turn it is object.c    objects
 * by id; writer.c bytes in; reader.c bytes out; fill.c bytes from the cloud tier.c      hot bytes
 * in memory; evict.c, reaper.c, compact.c space                  (struct content) commit.c log.c
 * index.c   truth and view;  slab.c super.c extent.c io_*.c  devices
 */
#ifndef CACHE_INTERNAL_H
#define CACHE_INTERNAL_H

#include "base/clock.h"
#include "cache/cache.h"
#include "cache/commit.h"
#include "cache/index.h"
#include "cache/object.h"
#include "cache/slab.h"

struct names;      /* names.c */
struct orders;     /* order.c */
struct containers; /* containers.c */
struct stages;     /* stage.c */
struct services;   /* services.c */
struct asks;       /* ask.c */
struct uploads;    /* uploads.c */
struct doubts;     /* doubt.c */
struct content;    /* object.c, tier.c, evict.c, reaper.c */

struct cache {
    struct cache_conf conf;
    struct slab_store *slabs;
    struct index *index;
    struct committer *committer;
    struct workers *workers;
    struct names *names;
    struct orders *orders;
    struct containers *containers;
    struct leases *leases;
    struct stages *stages;
    struct services *services;
    struct asks *asks;
    struct uploads *uploads;
    struct doubts *doubts;
    struct content *content;
    _Atomic uint64_t tick;         /* newest given out, see cache_tick */
    _Atomic uint64_t tick_durable; /* what META_TICK says on the devices */
    uint64_t tick_ordered;         /* and in commit order; committer thread */
    bool serving;
    _Atomic bool closing;
    pthread_mutex_t jobs_lock;
    pthread_cond_t jobs_done;
    unsigned jobs; /* cache_run's that have not ended */
};

/* fn(arg) on a worker, nobody waits but cache_close. Any thread. */
void cache_run(struct cache *cache, int (*fn)(void *arg), void *arg);

/* A rising number, 100 ns since 1970 or one more than the last: never given out twice in the life
 * of the box (N7). Times, ETags, manifests, stages and containers are made of it. Any thread. */
uint64_t cache_tick(struct cache *cache);
/* The change that makes a tick visible also says on the devices that it is used up. */
void tick_cover(struct change *change, struct cache *cache, uint64_t tick);
#define TICK_NS         100
#define TICK_ETAG(tick) (0x1000000000000000ULL | (tick))
#define TICK_RANGE      (NS_PER_SEC / TICK_NS) /* covered ahead: one row a second under load */

/* One version as published; immutable but for `used`. State and what follows is for names and tx.
 */
struct blob {
    _Atomic uint32_t refs;
    struct cache *cache;
    struct name name;          /* owned */
    struct blob_record record; /* spans owned */
    uint64_t manifest;         /* names the content; 0: empty, or never opened */
    uint64_t lineage;          /* of a copy: the manifest it comes from in the end; else 0 */
    struct piece_list *list;   /* a reference; NULL: no pieces */
    struct piece *pieces;      /* the list's first ones */
    size_t piece_count;
    size_t row_first;     /* of an append blob: the first piece of its manifest's last row */
    size_t content_bytes; /* of memory, its objects */
    uint8_t state;        /* enum blob_state */
    bool located, confirmed;
    struct span
        body_etag;       /* the cloud's of this content, if the record has none: described since */
    struct span *ids;    /* block ids beside the pieces; NULL: not in memory, see the manifest */
    struct span unknown; /* fields of a newer version */
    void *memory;        /* what the spans point into */
    size_t bytes;        /* of memory, all told, its objects included */
    uint64_t hash;
    struct blob *hash_next, *ring_next, *ring_prev; /* the shard's */
    _Atomic bool used;                              /* since the shard's hand last passed */
};

/* leases.c */
void leases_open(struct cache *cache);
void leases_close(struct cache *cache);

/* content: opened before replay ends, told of every slot in use at start */
int content_open(struct cache *cache, struct content **ret) must_check;
struct content *content_close(struct content *content);
/* Start, after replay: walks FAM_SPACE, marks slots in the slab store, sums bytes by state. Blocks.
 */
int content_load(struct cache *cache) must_check;
struct content_stats {
    uint64_t clean_bytes, dirty_bytes, staged_bytes, sole_bytes;
};
struct content_stats content_stats(struct cache *cache);
/* The background thread of reaper, eviction and small-slab reclaim; after content_load. */
int content_start(struct cache *cache) must_check;
/* Ends that thread and what it has under way; before committer_close. */
void content_stop(struct cache *cache);

#endif
