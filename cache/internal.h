/* cache/internal.h - the parts of the engine and who owns which. Private to cache/.
 *
 *   cache.c     opens and closes the parts in order, stats
 *   names.c     published descriptors of blobs and containers, FIFO order per name     (struct names)
 *   tx.c        one change of one name; blocks.c staging; record.c rows <-> structs
 *   list.c      listings over index snapshots, listing knowledge; learn.c what the cloud said
 *   uploads.c   the write-back queue                                                     (struct uploads)
 *   object.c    objects by id; writer.c bytes in; reader.c bytes out; fill.c bytes from the cloud
 *   tier.c      hot bytes in memory; evict.c, reaper.c, compact.c space                  (struct content)
 *   commit.c log.c index.c   truth and view;  slab.c super.c extent.c io_*.c  devices
 */
#ifndef CACHE_INTERNAL_H
#define CACHE_INTERNAL_H

#include "cache/cache.h"
#include "cache/commit.h"
#include "cache/index.h"
#include "cache/object.h"
#include "cache/slab.h"

struct names;   /* names.c */
struct uploads; /* uploads.c */
struct content; /* object.c, tier.c, evict.c, reaper.c */

struct cache {
    struct cache_conf conf;
    struct slab_store *slabs;
    struct index *index;
    struct committer *committer;
    struct workers *workers;
    struct names *names;
    struct uploads *uploads;
    struct content *content;
    _Atomic uint64_t id_counter; /* manifests, containers: unique within the epoch, never reused */
};

/* names.c - a published version */
#define INLINE_PIECES 1
struct blob {
    _Atomic uint32_t refs;
    struct cache *cache;
    struct name name;          /* owned */
    struct blob_record record; /* spans owned */
    uint64_t manifest;         /* 0: empty or located by the record (small) */
    struct piece *pieces;      /* resident list; a reference each */
    size_t piece_count;
    void *memory;              /* what the spans point into */
    struct blob *hash_next;
    _Atomic uint64_t used;     /* access clock, tier.c and names.c shed by it */
};

/* content: opened before replay ends, told of every slot in use at start */
int content_open(struct cache *cache, struct content **ret) must_check;
struct content *content_close(struct content *content);
/* Start, after replay: walks FAM_SPACE, marks slots in the slab store, sums bytes by state. Blocks. */
int content_load(struct cache *cache) must_check;
struct content_stats {
    uint64_t clean_bytes, dirty_bytes, staged_bytes, sole_bytes;
};
struct content_stats content_stats(struct cache *cache);
/* Background threads of reaper, eviction and small-slab reclaim; after replay. */
int content_start(struct cache *cache) must_check;

#endif
