/* cache/slab.h - devices cut into slabs; space in them; verified reads and checked writes of
 * extents.
 *
 * A slab is 64 MiB of payload and room for headers. Kinds: large (4 KiB-aligned extents, freed one
 * by one), small (runs of records, reclaimed whole), log (the commit log, log.c's). The superblock
 * holds the binding of devices to the box and a lower bound of what was answered. cache/FORMAT.md
 * has every byte. Invariants: cache/README.md S1-S9. Space calls: any thread, never block. */
#ifndef CACHE_SLAB_H
#define CACHE_SLAB_H

#include "base/span.h"
#include "base/util.h"
#include "cache/cache.h"
#include "cache/io.h"

#define SLAB_PAYLOAD_BYTES (64u << 20)
#define SLAB_HEADER_BYTES  4096u /* a slab's first page; its use starts behind it */
#define DEVICES_MAX        64

enum slab_kind { SLAB_FREE, SLAB_LARGE, SLAB_SMALL, SLAB_LOG }; /* stored: never renumbered */

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

/* One extent or small record as rows and memory hold it. crc: CRC-64/NVME of each UNIT_BYTES unit.
 */
#define EXTENT_UNITS_MAX (EXTENT_BYTES_MAX / UNIT_BYTES)
struct extent {
    struct location at;
    uint32_t length; /* payload bytes */
    uint32_t index;  /* which extent of its object, from 0: bytes index * EXTENT_BYTES_MAX .. */
    uint64_t crc[EXTENT_UNITS_MAX];
    /* Clean extents of cloud content may hold holes: unit i is there iff bit i is set. Whole: all
     * bits. */
    uint64_t present;
};

struct slab_store;

struct slab_conf {
    const struct device_conf *devices;
    unsigned device_count;
    const struct io_ops *io_ops;
    uint64_t index_uuid[2]; /* of the index found (zeros: it is new) */
    bool format_discard;
    bool read_only; /* hearth check: what is not there as it was left is refused, not made */
    struct workers *workers; /* prepare slabs; NULL (tests): the allocating call does, and blocks */
};
/* What the superblocks say; log.c and cache.c read it at start. */
struct super_state {
    uint64_t box_uuid[2], index_uuid[2];
    uint32_t node, epoch;
    uint64_t answered; /* commit number: the log must not end below it */
    bool clean;        /* closed in order */
    bool fresh;        /* devices were just formatted; ends with the first slab_super_write */
};
/* Opens and binds the devices, refusing in words: another box's device, a device missing, unknown
 * incompat bits, an index of another box. Blocking, main thread. Device numbers of all calls below
 * are those of the superblocks, 0..slab_device_count-1, whatever their order in the configuration.
 */
int slab_store_open(const struct slab_conf *conf, struct slab_store **ret, char **why) must_check;
/* clean: everything was flushed and the index is up to date; written to the superblocks. */
struct slab_store *slab_store_close(struct slab_store *store, bool clean);
const struct super_state *slab_super(const struct slab_store *store);
/* Rewrites the older superblock copy on every device, flushed. Blocking. box_uuid, node and
 * fresh are ignored.
 */
int slab_super_write(struct slab_store *store, const struct super_state *state) must_check;

unsigned slab_device_count(const struct slab_store *store);
struct io *slab_device_io(struct slab_store *store, unsigned device);
const struct io_ops *slab_io_ops(const struct slab_store *store);
/* A flush failed: nothing is placed on this device any more. */
void slab_device_fence(struct slab_store *store, unsigned device);
uint32_t slab_count(const struct slab_store *store, unsigned device);
/* Device offset of a slab's first byte (its header page), and how much of it may be used, that page
 * included; what a location's offset counts from. */
uint64_t slab_offset(const struct slab_store *store, unsigned device, uint32_t slab);
uint32_t slab_bytes(void);

/* ---- start: telling the store what is in use; before slab_store_serve everything is taken ---- */
/* -ESTALE: the slab has another generation or kind (a miss); -EEXIST: overlaps what was marked. */
int slab_mark_extent(struct slab_store *store, const struct location *at, uint32_t length);
void slab_mark_log(struct slab_store *store, unsigned device, uint32_t slab);
void slab_store_serve(struct slab_store *store); /* what was not marked is free */

/* ---- log slabs: log.c ---- */
/* Takes a free slab, raises its generation and writes its header (kind log), flushed. Blocking.
 * Allowed before slab_store_serve too. -ENOSPC; -EIO. */
int slab_take_log(struct slab_store *store, unsigned device, uint32_t *ret_slab,
                  uint32_t *ret_generation) must_check;
void slab_give_log(struct slab_store *store, unsigned device, uint32_t slab);
/* Kind and generation of a slab as its header on the device said at open or was written since. */
int slab_header_read(struct slab_store *store, unsigned device, uint32_t slab, enum slab_kind *kind,
                     uint32_t *generation) must_check;

/* ---- space ---- */
/* Of the devices that data may be placed on. */
struct slab_space {
    uint64_t bytes, free_bytes,
        reserved_bytes; /* payload; reserved: kept for the log, not in free */
};
struct slab_space slab_space(const struct slab_store *store);
/* fn is called (any thread, no lock held) when an allocation is refused, when one of a large extent
 * finds less than one in `share` bytes free (0: never), and when small records open the last slab
 * they may have. */
void slab_on_low(struct slab_store *store, unsigned share,
                 void (*fn)(void *arg, enum slab_kind kind, bool refused), void *arg);

/* Room for one extent of `length` payload bytes and its header page. -ENOSPC: evict first. -EAGAIN:
 * a slab is being prepared, slab_wait_large. */
int slab_alloc_large(struct slab_store *store, uint32_t length, struct location *ret) must_check;
/* Gives back the tail of an extent that turned out shorter than asked for. */
void slab_trim(struct slab_store *store, const struct location *at, uint32_t asked,
               uint32_t length);
/* Room for a run of small records: `bytes` on the device, 4 KiB-aligned, `live` of them in records.
 * -EAGAIN: slab_wait_run. */
int slab_alloc_run(struct slab_store *store, unsigned device, uint32_t bytes, uint32_t live,
                   struct location *ret) must_check;
/* done: 0 when asking again is worth it, -ENOSPC. */
void slab_wait_large(struct slab_store *store, struct completion *done);
void slab_wait_run(struct slab_store *store, unsigned device, struct completion *done);
/* done: 0 when something was given back or prepared since slab_given, asked before the allocation
 * that failed, was `given`. Bound the wait. */
uint64_t slab_given(const struct slab_store *store);
void slab_wait_free(struct slab_store *store, uint64_t given, struct completion *done);
/* Ends any of these waits with -ECANCELED, if it has not ended. Not by done's cancel: that is
 * cleared by a post from any thread. */
void slab_wait_cancel(struct slab_store *store, struct completion *done);
/* The slot is free for reuse from now on: the record dropping its last reference is durable and all
 * readers are gone (S5); the caller's duty. */
void slab_free(struct slab_store *store, const struct location *at, uint32_t length);
/* How a write of data to an allocated place ended. After a failure nothing more is placed in its
 * slab until the next start, nor on its device if that goes on; what lives there stays readable. */
void slab_wrote(struct slab_store *store, const struct location *at, int err);
/* SLAB_FREE when the location is stale. */
enum slab_kind slab_kind_at(const struct slab_store *store, const struct location *at);
/* May more be placed in the slab of this place? If not, what is freed there is no room. */
bool slab_takes(const struct slab_store *store, const struct location *at);
/* Small slabs are reclaimed whole: the next closed one after *at (device and slab), going round,
 * with at most live_max live bytes, that can be used again. With the last slab_free of what lives
 * in it it is free. */
bool slab_small_next(struct slab_store *store, uint64_t live_max, struct location *at);
/* Compaction's: the slab that is kept for it becomes room for small records, until the next one
 * that is free takes its place. False: there is none. */
bool slab_lend(struct slab_store *store, unsigned device);
uint64_t
slab_small_room(const struct slab_store *store); /* bytes that small records may still take */

/* ---- writing an object's bytes (cache_writer_* of cache.h stand in writer.c, on these) ---- */
/* Loop thread. One extent being written: its units in any order, then its header page. */
struct extent_write;
struct extent_piece { /* one device write: the caller's memory until its done fires */
    struct io_request request;
};
/* Allocates a large extent of up to `length` bytes. -ENOSPC, -EAGAIN as slab_alloc_large. */
int extent_write_open(struct slab_store *store, struct object_id id, uint32_t index,
                      uint32_t length, struct extent_write **ret) must_check;
/* Goes on with an extent some of whose units are there (fills). */
struct extent_write *extent_write_reopen(struct slab_store *store, struct object_id id,
                                         const struct extent *extent);
/* Checksums the units and starts writing them. offset: within the payload, a multiple of
 * UNIT_BYTES; bytes: IO_ALIGN-aligned memory, room to pad to IO_ALIGN, at most IO_BYTES_MAX; only
 * the extent's last unit may be short. Not yet in `present` for readers: extent_write_end gives it.
 */
void extent_write_units(struct extent_write *write, struct extent_piece *piece, uint32_t offset,
                        struct span bytes, struct completion *done);
/* Writes the header page: identity, length, checksums so far. */
void extent_write_seal(struct extent_write *write, uint32_t length, struct completion *done);
/* All I/O has ended. Consumes; gives back what was allocated behind `length`. */
struct extent extent_write_end(struct extent_write *write);
/* One of its writes has failed; before extent_write_abort. */
void extent_write_failed(struct extent_write *write, int err);
/* All I/O has ended. Consumes; NULL is fine. A reopened extent keeps its slot. */
struct extent_write *extent_write_abort(struct extent_write *write);
const struct extent *extent_write_peek(const struct extent_write *write);

/* Small objects: one record in a run that many share. Loop thread; the payload stays the caller's
 * until done fires with the extent in *ret. -ENOSPC. */
struct small_write {
    struct object_id id;
    struct span bytes; /* up to SMALL_BYTES_MAX */
    uint64_t crc;      /* of bytes */
    struct extent *ret;
    struct completion *done;
    struct location at; /* below here: the callee's */
    struct small_write *next;
};
void small_write_start(struct slab_store *store, struct small_write *write);

/* ---- reading ---- */
/* Reads and verifies the units that cover `want` (bytes within the extent's payload) into buffers
 * of their own: loop thread, async. *ret gets a slice of at most IO_BYTES_MAX starting at
 * want.start. -ESTALE slab reused (a miss); -EUCLEAN checksum mismatch; -ENODATA a unit is not
 * present; -EIO. */
struct extent_plan { /* one device read and what it covers */
    bool small;
    uint64_t device_offset;
    uint32_t bytes; /* on the device */
    uint32_t skip;  /* from the first byte read to the record or payload */
    uint32_t first_unit, units;
    uint32_t start, end; /* payload bytes that are answered: want, cut to one read */
};
struct extent_read {
    struct completion *done;
    struct slab_store *store;
    struct extent extent; /* copied in by the caller */
    struct object_id id;
    struct range want;
    struct slice *ret;
    struct io_request request; /* below here: the callee's */
    struct completion io_done;
    struct iobuf *buf;
    struct extent_plan plan;
};
void extent_read_start(struct extent_read *read);
/* The same, blocking, into memory: workers, start, check. */
int extent_read_now(struct slab_store *store, const struct extent *extent, struct object_id id,
                    struct range want, void *into) must_check;

#endif
