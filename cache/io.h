/* cache/io.h - the one door to a device: read, write, flush. Three implementations behind one
 * vtable: io_uring (one ring per loop), blocking (fallback and tests), simulated (drops, tears and
 * reorders what was not flushed). <liburing.h> is included by io_uring.c only.
 *
 * All offsets, lengths and buffers are multiples of IO_ALIGN; one request is at most IO_BYTES_MAX
 * (asserted). O_DIRECT where the file system has it. Errors: -EIO and what the kernel says; a short
 * transfer is -EIO. A flush that failed once fails for ever on that device: what it did not write
 * is lost, and asking again would hide that. */
#ifndef CACHE_IO_H
#define CACHE_IO_H

#include <sys/uio.h>

#include "base/loop.h"
#include "base/op.h"
#include "base/util.h"

#define IO_ALIGN     4096u
#define IO_BYTES_MAX (512u << 10)
#define IO_VECS_MAX  16

struct io; /* one open device; the first member of each implementation's own struct */

struct io_request {          /* the caller's memory until done fires (O4) */
    struct completion *done; /* posted on done->loop with 0 or -errno */
    struct iovec vec[IO_VECS_MAX];
    unsigned vecs;
    uint64_t offset;
    bool write;
    /* below here: the implementation's */
    struct io *io;
    struct io_request *queued;
    struct completion own;
};

struct io_ops {
    const char *name; /* "io_uring", "blocking", "simulated" */
    /* Creates the file at `bytes` if absent and not below /dev (sparse; slab.c writes it once),
     * extends a shorter one; a block device must be at least that long. bytes 0: what is there, as
     * long as it is, only to read. One process at a time (flock). -ENXIO not a file or block
     * device; -EFBIG the block device is shorter; -EBUSY open elsewhere. */
    int (*open)(const struct io_ops *ops, const char *path, uint64_t bytes, struct io **ret);
    void (*submit)(struct io *io,
                   struct io_request *request); /* on done->loop's thread; never blocks */
    int (*read)(struct io *io, void *into, uint32_t bytes, uint64_t offset);        /* blocks */
    int (*write)(struct io *io, const void *from, uint32_t bytes, uint64_t offset); /* blocks */
    int (*flush)(
        struct io *io); /* blocks; everything completed before the call is durable after 0 */
    void (*close)(struct io *io);
    int (*attach)(const struct io_ops *ops,
                  struct loop *loop); /* loop thread: its ring; 0 or -errno */
    void (*detach)(const struct io_ops *ops, struct loop *loop); /* nothing of it is in flight */
};
struct io {
    const struct io_ops *ops;
    uint64_t bytes;
    bool sparse; /* a file: blocks never written cost metadata, so they are written once beforehand
                  */
    _Atomic bool flush_failed;
};

static inline size_t io_request_bytes(const struct io_request *request)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < request->vecs; i++)
        bytes += request->vec[i].iov_len;
    return bytes;
}
void io_request_assert(const struct io *io,
                       const struct io_request *request); /* alignment, bounds */

extern const struct io_ops io_uring_ops, io_blocking_ops;
/* io_uring if the kernel grants a ring, else blocking with one warning that names the reason. */
const struct io_ops *io_ops_auto(void);

/* Simulated devices (tests, crash states): named in-memory files that survive close. See io_sim.c.
 */
struct io_sim;
struct io_sim *io_sim_new(uint64_t seed);
struct io_sim *io_sim_free(struct io_sim *sim); /* handles are closed first */
const struct io_ops *io_sim_ops(struct io_sim *sim);
/* A power cut: of each 4 KiB piece written since the last flush that began after the write
 * completed, any version, in any order, or a mix of versions by 512 bytes is on the medium, by the
 * seed; flushed ones stay. Open handles fail with -EIO from now on. */
void io_sim_crash(struct io_sim *sim, uint64_t seed);
struct io_sim *io_sim_clone(struct io_sim *sim); /* a state to crash without ending the run */
/* Makes the nth coming operation of that kind (1: the next) fail with err (negative errno; 0:
 * none). */
enum io_sim_kind { IO_SIM_READ, IO_SIM_WRITE, IO_SIM_FLUSH, IO_SIM_KINDS };
void io_sim_fail(struct io_sim *sim, enum io_sim_kind kind, uint64_t nth, int err);
/* Mutants: the nth coming flush (or every, 0) reports success and does nothing. */
void io_sim_skip_flush(struct io_sim *sim, uint64_t nth);
uint64_t io_sim_count(struct io_sim *sim, enum io_sim_kind kind);
/* Flips bits on the medium. */
void io_sim_corrupt(struct io_sim *sim, const char *path, uint64_t offset, uint8_t mask);

#endif
