/* base/iobuf.h - I/O buffers from pools that are mapped and touched once at start, and references
 * to parts of them. 4 KiB aligned; refcounted; given back by the last unref, from any thread.
 *
 * A pool that is empty makes its caller wait (iobuf_get) or try again (iobuf_try): buffers are
 * never malloc'ed per request (design section 9). */
#ifndef BASE_IOBUF_H
#define BASE_IOBUF_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/op.h"
#include "base/span.h"

#define IOBUF_ALIGN 4096u
enum iobuf_class { IOBUF_4K, IOBUF_64K, IOBUF_512K, IOBUF_CLASSES };
#define IOBUF_BYTES(class) ((class) == IOBUF_4K ? 4096u : (class) == IOBUF_64K ? 65536u : 524288u)

struct iobuf {
    char *base;
    uint32_t size, used; /* used: filled from the front */
    _Atomic uint32_t refs;
    uint8_t class;
    struct iobuf *free_next;
    /* Memory that is no pool's (the memory tier's): called by the last unref, on any thread. */
    void (*release)(struct iobuf *buf);
};

struct iobuf_pools_conf {
    uint64_t bytes[IOBUF_CLASSES]; /* rounded down to whole buffers, at least 4 each */
};
/* Once per process, before any loop starts; -ENOMEM. Unit tests may use small ones. */
int iobuf_pools_open(const struct iobuf_pools_conf *conf) must_check;
void iobuf_pools_close(void); /* all buffers must be back (asserted) */

/* Any thread. NULL when the class is used up. refs = 1, used = 0. */
struct iobuf *iobuf_try(enum iobuf_class class);
/* Loop thread. Waits its turn (FIFO) when the class is used up; sets done->cancel. */
void iobuf_get(enum iobuf_class class, struct iobuf **ret, struct completion *done);
struct iobuf *iobuf_ref(struct iobuf *buf);
struct iobuf *iobuf_unref(struct iobuf *buf); /* NULL is fine; returns NULL */

struct iobuf_stats {
    uint64_t total, free, waiting; /* buffers; waiting iobuf_get calls */
};
struct iobuf_stats iobuf_pool_stats(enum iobuf_class class);

/* A reference to part of a buffer. !checked: its checksum is still to be confirmed (bytes arriving
 * from the cloud), so the last 64 KiB of an answer may not leave yet (design section 6).
 * buf NULL: bytes that outlive every user (constants); ref and unref do nothing. */
struct slice {
    struct iobuf *buf;
    struct span bytes;
    bool checked;
};
struct slice slice_ref(struct slice s);
struct slice slice_unref(struct slice s); /* any thread; gives back an empty slice */

#endif
