/* cache/log.h - the commit log on the devices: log slabs, appending, finding and walking it again.
 * Private to the committer. Blocks. Bytes: cache/FORMAT.md "The commit log"; cache/log_record.h.
 *
 * A log slab: 1 header page (slab.c's) 2 head: epoch, sequence, first number, CRC before it 3
 * groups of records, each group at a 4 KiB boundary. A group is one or a few device writes; nothing
 * written is ever written over. Every epoch starts in a slab of its own: what an older epoch left
 * behind the cut stays where it is and is never joined.
 *
 * With two or more devices the log is written whole to two of them ("copies"), slab by slab in
 * step.
 *
 * Finding it: of all heads the newest is the one with the highest (epoch, sequence); before it in
 * the chain stands the one with the highest epoch of sequence - 1, and so on back. A void slab has
 * a lower epoch than the true one of the same sequence, since it was void before that one was
 * written. */
#ifndef CACHE_LOG_H
#define CACHE_LOG_H

#include "cache/log_record.h"
#include "cache/slab.h"

#define LOG_COPIES_MAX 2
#define LOG_SLABS_MIN  4u
/* One batch of log_add calls between two log_reserve calls: at most this much record bytes when the
 * last one is added. */
#define LOG_BATCH_BYTES_MAX (2u << 20)
#define LOG_ROUND_BYTES_MAX (32u << 20) /* written and not flushed: no further batch */

/* ---- reading: log_read.c ---- */

struct log_slab { /* one found on a device */
    uint32_t slab;
    struct log_head head;
};
/* The log as one device has it: slabs in chain order, oldest first. */
struct log_path {
    struct slab_store *slabs;
    unsigned device;
    uint64_t box;
    struct log_slab *slab;
    unsigned count;
    uint32_t epoch_max; /* highest of all heads, void ones too */
};
/* Reads all slab headers. count 0: the device has no log. -EIO. */
int log_path_find(struct slab_store *slabs, unsigned device, uint64_t box,
                  struct log_path *ret) must_check;
void log_path_done(struct log_path *path);
/* Forgets the slabs whose records are all below `from`; the first one left holds it or begins after
 * it. */
void log_path_trim(struct log_path *path, uint64_t from);
/* What a walk found at its end. */
struct log_end {
    struct log_chain chain;
    unsigned slab; /* place in the path where the chain ends */
    bool damaged;  /* records that were flushed stand behind it: not a tail */
};
/* Walks the chain; visit (may be NULL) returns < 0 to stop, which is returned. 0 or -EIO else. */
int log_path_walk(const struct log_path *path,
                  int (*visit)(void *arg, const struct log_record *record), void *arg,
                  struct log_end *ret) must_check;

/* ---- writing: log.c; the committer's thread but where said ---- */

struct log_store;
/* keep: slabs of older epochs that may still be needed (count 0: none), marked as used at once;
 * copied. devices: bit per device that may carry the log. */
struct log_store *log_new(struct slab_store *slabs, uint64_t box, uint64_t bytes_max,
                          const struct log_path *keep);
struct log_store *log_free(struct log_store *log);
/* Starts an epoch behind the chain's end on the first one or two devices of the mask: a new slab,
 * head and cut record, flushed on all copies. On failure log_failed() says which devices, if any.
 */
int log_begin_epoch(struct log_store *log, const struct log_chain *end, uint32_t epoch,
                    uint64_t devices, uint64_t fenced) must_check;
/* Before a batch of log_add: room for all of it. -ENOSPC: no slab, or the log is as long as
 * allowed. */
int log_reserve(struct log_store *log) must_check;
/* Is it time to take the next slab, so that log_reserve need not? Then log_take_ahead, any thread.
 */
bool log_wants_next(struct log_store *log);
void log_take_ahead(struct log_store *log);
/* Adds a change's record; errors show at log_batch_write. */
void log_add(struct log_store *log, struct span entries, uint32_t entry_count, uint64_t flushed);
/* Writes what was added, on all copies. 0: all of it is written, not yet flushed. */
int log_batch_write(struct log_store *log) must_check;
uint64_t log_batch_bytes(const struct log_store *log); /* added since log_reserve */
uint64_t log_written(const struct log_store *log);     /* bytes of one copy since log_new */
struct log_chain log_chain(const struct log_store *log);
uint64_t log_devices(const struct log_store *log); /* bit per device that carries a copy */
uint64_t log_failed(const struct log_store *log);  /* bit per device whose write or flush failed */
/* Gives back slabs whose records the index has on disk up to `persisted`; durable: newest flushed
 * number. Any thread. */
void log_trim(struct log_store *log, uint64_t persisted, uint64_t durable);
struct log_usage {
    uint64_t slabs, slabs_max, bytes; /* of one copy */
};
struct log_usage log_usage(struct log_store *log); /* any thread */

#endif
