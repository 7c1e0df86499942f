/* cache/slab.h - devices cut into slabs; space in them; verified reads and checked writes of extents.
 *
 * A slab is 64 MiB of payload and room for headers. Kinds: large (4 KiB-aligned extents, freed one by
 * one), small (runs of records, reclaimed whole), log (the commit log, log.c's). The superblock holds
 * the binding of devices to the box and a lower bound of what was answered. cache/FORMAT.md has every
 * byte. Invariants: cache/README.md S1-S9. Space calls: any thread, never block. */
#ifndef CACHE_SLAB_H
#define CACHE_SLAB_H

#include "base/span.h"
#include "base/util.h"
#include "cache/cache.h"
#include "cache/io.h"

#define SLAB_PAYLOAD_BYTES (64u << 20)
#define DEVICES_MAX        64

enum slab_kind { SLAB_FREE, SLAB_LARGE, SLAB_SMALL, SLAB_LOG };

struct object_id { /* never reused */
    uint32_t node, epoch;
    uint64_t counter;
};

/* Where something lies. The generation was raised durably before the slab's present use: a location
 * with another one is stale (a miss). */
struct location {
    uint16_t device;
    uint32_t slab, generation;
    uint32_t offset; /* within the slab, of the header page (large) or record (small) */
};

/* One extent or small record as rows and memory hold it. crc: CRC-64/NVME of each UNIT_BYTES unit. */
#define EXTENT_UNITS_MAX (EXTENT_BYTES_MAX / UNIT_BYTES)
struct extent {
    struct location at;
    uint32_t length; /* payload bytes */
    uint32_t index;  /* which extent of its object, from 0: bytes index * EXTENT_BYTES_MAX .. */
    uint64_t crc[EXTENT_UNITS_MAX];
    /* Clean extents of cloud content may hold holes: unit i is there iff bit i is set. Whole: all bits. */
    uint64_t present;
};

struct slab_store;

struct slab_conf {
    const struct device_conf *devices;
    unsigned device_count;
    const struct io_ops *io_ops;
    uint64_t index_uuid[2]; /* of the index found (zeros: it is new) */
    bool format_discard;
    struct workers *workers;
};
/* What the superblocks say; log.c and cache.c read it at start. */
struct super_state {
    uint64_t box_uuid[2], index_uuid[2];
    uint32_t node, epoch;
    uint64_t answered; /* commit number: the log must not end below it */
    bool clean;        /* closed in order */
    bool fresh;        /* devices were just formatted */
};
/* Opens and binds the devices, refusing in words: another box's device, a device missing, unknown
 * incompat bits, an index of another box. Blocking, main thread. */
int slab_store_open(const struct slab_conf *conf, struct slab_store **ret, char **why) must_check;
struct slab_store *slab_store_close(struct slab_store *store, bool clean);
const struct super_state *slab_super(const struct slab_store *store);
/* Rewrites the older superblock copy on every device, flushed. Blocking. */
int slab_super_write(struct slab_store *store, const struct super_state *state) must_check;

unsigned slab_device_count(const struct slab_store *store);
struct io *slab_device_io(struct slab_store *store, unsigned device);
const struct io_ops *slab_io_ops(const struct slab_store *store);
uint32_t slab_count(const struct slab_store *store, unsigned device);
/* Device offset of a slab's first byte (its header page) and its size with header room. */
uint64_t slab_offset(const struct slab_store *store, unsigned device, uint32_t slab);
uint32_t slab_bytes(void);

/* ---- start: telling the store what is in use; before slab_store_serve everything is taken ---- */
void slab_mark_extent(struct slab_store *store, const struct location *at, uint32_t length);
void slab_mark_log(struct slab_store *store, unsigned device, uint32_t slab);
void slab_store_serve(struct slab_store *store); /* what was not marked is free */

/* ---- log slabs: log.c ---- */
/* Takes a free slab, raises its generation and writes its header (kind log), flushed. Blocking. */
int slab_take_log(struct slab_store *store, unsigned device, uint32_t *ret_slab, uint32_t *ret_generation)
    must_check;
void slab_give_log(struct slab_store *store, unsigned device, uint32_t slab);
/* Log slabs found on a device at start: kind and generation by header. */
int slab_header_read(struct slab_store *store, unsigned device, uint32_t slab, enum slab_kind *kind,
                     uint32_t *generation) must_check;

/* ---- space ---- */
struct slab_space {
    uint64_t bytes, free_bytes, reserved_bytes;
};
struct slab_space slab_space(const struct slab_store *store);
/* Called (any thread) when an allocation finds less than `low` bytes free: evict. */
void slab_on_low(struct slab_store *store, uint64_t low, void (*fn)(void *arg), void *arg);

/* The slot is free for reuse from now on: the record dropping its last reference is durable and all
 * readers are gone (S5); the caller's duty. */
void slab_free(struct slab_store *store, const struct location *at, uint32_t length);

/* ---- writing an object's bytes (cache_writer_* of cache.h stand in writer.c, on these) ---- */
struct extent_write;
/* Allocates a large extent of up to `length` bytes. -ENOSPC. */
int extent_write_open(struct slab_store *store, struct object_id id, uint32_t index, uint32_t length,
                      struct extent_write **ret) must_check;

/* ---- fills: extents written run by run; workers, blocking ---- */
/* Allocates a large extent of `length` payload bytes with nothing in it yet (present 0). -ENOSPC. */
int extent_alloc(struct slab_store *store, struct object_id id, uint32_t index, uint32_t length,
                 struct extent *ret) must_check;
/* Writes payload bytes from `start`, a unit's first byte: whole units or up to the extent's end. The vecs are
 * 4 KiB aligned, multiples of 4 KiB but for the last, which has room up to one. Sets their crc and
 * present bits in *extent; the first write of an extent also writes who it is. */
int extent_write_now(struct slab_store *store, struct extent *extent, struct object_id id, uint32_t start,
                     const struct iovec *vec, unsigned vecs) must_check;

/* ---- reading ---- */
/* Reads and verifies the units that cover `want` (bytes within the extent's payload) into buffers of
 * their own: loop thread, async. *ret gets a slice of at most IO_BYTES_MAX starting at want.start.
 * -ESTALE slab reused (a miss); -EUCLEAN checksum mismatch; -EIO. */
struct extent_read {
    struct completion *done;
    struct slab_store *store;
    struct extent extent;   /* copied in by the caller */
    struct object_id id;
    struct range want;
    struct slice *ret;
    struct io_request request; /* below here: the callee's */
    struct completion io_done;
    struct iobuf *buf;
    uint64_t first_unit, units;
};
void extent_read_start(struct extent_read *read);
/* The same, blocking, into memory: workers, start, check. */
int extent_read_now(struct slab_store *store, const struct extent *extent, struct object_id id,
                    struct range want, void *into) must_check;

#endif
