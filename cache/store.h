/* cache/store.h - the slab store from inside: devices, their slabs, what each slab is used for.
 * Private to super.c, slab.c, slab_open.c, space.c, extent.c, small.c.
 *
 * Life of a slab (`use`), all under store->lock:
 *   UNWRITTEN  a file's blocks that were never written; a worker writes them once      -> FREE
 *   FREE       nothing in it is referred to                                             ->
 * PREPARING PREPARING  header with a raised generation on its way to the device, then flushed   ->
 * READY, LOG READY      its header is durable, nothing is in it; an allocation opens it          ->
 * DATA DATA       large: extents come and go one by one (empty again: READY); small: runs are
 * appended, then live records only become fewer (none: FREE) LOG        log.c's, until
 * slab_give_log                                             -> FREE BAD        header damaged, or
 * writing it failed: not used until formatted From open to slab_store_serve, DATA and LOG are what
 * the headers say; marks tell what is live. */
#ifndef CACHE_STORE_H
#define CACHE_STORE_H

#include "cache/slab.h"
#include "cache/super.h"

#define SLAB_STRIDE_BYTES  (65u << 20)
#define SLAB_BLOCKS        (SLAB_STRIDE_BYTES / IO_ALIGN) /* the last one is the header's second copy */
#define SLAB_USABLE_BLOCKS (SLAB_BLOCKS - 2)
#define SLAB_MAP_WORDS     (SLAB_BLOCKS / 64)
#define DEVICE_FIRST_SLAB  (2u << 20) /* device offset; superblocks stand before it */
#define DEVICE_SLABS_MIN   4
#define SMALL_HEADER_BYTES 64u
#define SMALL_ALIGN        64u

enum slab_use {
    USE_UNWRITTEN,
    USE_FREE,
    USE_PREPARING,
    USE_READY,
    USE_DATA,
    USE_LOG,
    USE_BAD,
    USE_COUNT
};

struct slab {
    uint32_t generation;
    uint8_t kind;                  /* what the header on the device says */
    uint8_t use;                   /* enum slab_use */
    bool retired;                  /* a write to it failed: nothing more is placed in it */
    uint32_t free_blocks, run_max; /* large; no run of free blocks is longer than run_max */
    uint64_t *map;                 /* large: taken blocks; NULL: none but the headers */
    uint32_t live, next;           /* small: bytes in live records; where the next run goes */
};

struct device {
    char *path;
    struct io *io;
    uint64_t uuid[2];
    struct slab *slabs;
    uint32_t slab_count;
    _Atomic bool fenced; /* never cleared; superblock writers read it without the lock */
    /* by store->lock */
    uint32_t use_count[USE_COUNT];
    uint32_t ready[SLAB_LOG + 1];     /* READY ones by kind */
    uint32_t data[SLAB_LOG + 1];      /* DATA ones by kind */
    uint32_t log_reserve;             /* slabs that only the log may take */
    uint32_t small_reserve;           /* slabs that large extents leave to small records */
    uint32_t move_kept, move_reserve; /* slabs that only compaction may take: in all, and left */
    uint32_t large_slab;              /* where the last extent went */
    uint32_t run_max;                 /* no large slab in use has a longer free run */
    uint32_t small_slab;              /* open for runs; UINT32_MAX: none */
    uint64_t large_free_blocks;       /* in DATA slabs */
    bool wanted[SLAB_LOG + 1];        /* an allocation found no slab of this kind */
    bool failing;                     /* writes of data go on failing: no more */

    _Atomic unsigned write_failures; /* of data, since the last success; any thread */
};

struct slab_store {
    const struct io_ops *io_ops;
    struct workers *workers;
    struct device device[DEVICES_MAX];
    unsigned device_count;
    pthread_mutex_t lock;       /* guards slabs, counts and all below */
    pthread_mutex_t super_lock; /* one writer of superblocks; guards super and sequence */
    struct super super;         /* device fields unused */
    bool serving, stopping, job_running;
    pthread_cond_t job_ended;
    struct completion *waiting, **waiting_last; /* slab_wait_.. */
    _Atomic uint64_t given;                     /* space_wake calls; written under the lock */
    unsigned turn;                              /* round robin over devices */
    unsigned low_share;                         /* of all space; 0: nobody asks */
    void (*low_fn)(void *arg, enum slab_kind kind, bool refused);
    void *low_arg;
    struct small_lanes *lanes;         /* small.c */
    struct extent_pages *extent_pages; /* extent.c: header pages for reuse */
};

/* slab.c */
uint64_t slab_device_offset(uint32_t slab);
void slab_set_use(struct device *device, struct slab *slab, enum slab_use use); /* lock held */
void slab_clear(struct slab *slab);                                /* nothing lies in it */
void slab_headers_load(struct slab_store *store, unsigned device); /* blocking, at open */
void slab_prepare_kick(struct slab_store *store);                  /* lock held */
bool slab_prepare_now(
    struct slab_store *store); /* lock held, dropped meanwhile; false: nothing to do */
/* space.c */
/* Slabs that this kind of data may still take; lock held. */
uint32_t space_slabs(const struct device *device, enum slab_kind kind);
unsigned space_small_device(struct slab_store *store,
                            unsigned turn); /* for the next small record */
void space_wake(struct slab_store *store);  /* lock held; those in slab_wait_.. try again */
/* Lock held; nothing is being prepared: what was wanted and was taken by others will not come. */
void space_give_up(struct slab_store *store);
/* small.c, extent.c */
struct small_lanes *small_lanes_new(struct slab_store *store);
struct small_lanes *small_lanes_free(struct small_lanes *lanes);
struct extent_pages *extent_pages_new(void);
struct extent_pages *extent_pages_free(struct extent_pages *pages);

/* May data be placed on it? */
static inline bool device_takes(const struct device *device)
{
    return !device->fenced && !device->failing;
}

static inline struct slab *store_slab(const struct slab_store *store, const struct location *at)
{
    const struct device *device = &store->device[at->device];

    if (at->device >= store->device_count || at->slab >= device->slab_count)
        return NULL;
    return &device->slabs[at->slab];
}
/* Payload of `length` bytes on the device: a large extent with its header page, a small record. */
static inline uint32_t large_blocks(uint32_t length)
{
    return 1 + (length + IO_ALIGN - 1) / IO_ALIGN;
}
static inline uint32_t small_bytes(uint32_t length)
{
    return ALIGN_UP(SMALL_HEADER_BYTES + length, SMALL_ALIGN);
}

#endif
