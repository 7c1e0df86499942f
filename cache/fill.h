/* cache/fill.h - a running fill as readers see it. Private to fill.c, filler.c and reader.c.
 *
 * A fill brings one run of absent 64 KiB units of one extent. It stands in object->fills from
 * cache_fill_begin until its bytes are on a device (or it failed), so one fill per unit runs
 * however many wait, and readers on all loops take its bytes from its buffers as they arrive. Bytes
 * taken before fill_end(0) are unchecked. Lock order: object, fill, filler. */
#ifndef CACHE_FILL_H
#define CACHE_FILL_H

#include "cache/content.h"

/* A reader waiting for a fill: woken once when there is more to take, or when it ended. */
struct fill_waiter {
    struct completion wake; /* posted with 0; fn and loop are the reader's */
    uint64_t at;            /* of the object: bytes from here on; or FILL_ENDED, FILL_LEFT */
    struct fill_waiter *next;
};
#define FILL_ENDED UINT64_MAX       /* only its end */
#define FILL_LEFT  (UINT64_MAX - 1) /* its end, and its bytes are on a device or never will be */

struct fill {
    _Atomic uint32_t refs;
    struct object *object;  /* a reference */
    uint32_t index;         /* extent */
    uint64_t start, length; /* bytes of the object; start is a unit's first byte */
    struct object_origin
        origin;    /* the object's own may change meanwhile: metadata got it a new ETag */
    int64_t shift; /* what to add for bytes of the blob it was begun for */
    struct fill *object_next; /* object's lock */

    pthread_mutex_t lock; /* guards what follows; bytes below `received` never change */
    uint64_t received;
    bool ended, left /* object->fills */, granted, short_of_buffer;
    int err;
    enum iobuf_class class;
    unsigned buf_count;
    struct iobuf *bufs[EXTENT_UNITS_MAX], *spare;
    struct iobuf *arriving;         /* the pool's until `got` fires */
    uint64_t crc[EXTENT_UNITS_MAX]; /* of each unit so far: the appending thread's */
    struct fill_waiter *waiters;
    uint64_t woken_bytes, woken_ns; /* when waiters were last woken */

    pthread_mutex_t resume_lock; /* held while resume runs, so that fill_end waits it out */
    void (*resume)(void *arg);
    void *resume_arg;
    struct completion want, got; /* filler's loop: a buffer for a paused fill */
    struct fill *queued;         /* filler's */
    struct fill *wanting_next;   /* filler's thread: `got` is outstanding */
};

struct fill *fill_ref(struct fill *fill);
struct fill *fill_unref(struct fill *fill);                  /* NULL is fine */
struct fill *fill_find(struct object *object, uint64_t at);  /* a reference; object's lock held */
bool fill_running(const struct object *object, uint64_t at); /* object's lock held */
/* The next bytes at `at`, of the object: 0; -EAGAIN none yet; -EEXIST they are elsewhere by now,
 * look again; else the fill's error. */
int fill_take(struct fill *fill, uint64_t at, uint64_t max, struct slice *ret) must_check;
/* false: there is something to take at waiter->at, or it ended, or left. */
bool fill_wait(struct fill *fill, struct fill_waiter *waiter);
bool fill_unwait(struct fill *fill, struct fill_waiter *waiter); /* false: its wake is on its way */
int fill_outcome(struct fill *fill);                             /* -EINPROGRESS, 0, or the error */
void fill_resume(struct fill *fill);                             /* append may go on */
void fill_release(struct fill *fill); /* ended and left: its buffers go, references only tell how */
void fill_leave_object(struct fill *fill); /* out of object->fills, and that reference dropped */

/* ---- filler.c: a thread that puts ended fills on the devices, and the buffers fills may hold ----
 */
struct filler *filler_new(struct cache *cache);
struct filler *filler_free(struct filler *filler); /* NULL is fine */
int filler_start(struct filler *filler) must_check;
void filler_stop(struct filler *filler); /* what is queued is dropped: it was clean */
unsigned filler_buffers_max(const struct filler *filler); /* that one fill may ask for */
/* A fill holds all buffers it needs until it has ended, so they are granted together, in order. */
void filler_ask(struct filler *filler, struct fill *fill);
void filler_give(struct filler *filler, struct fill *fill); /* its buffers are back */
void filler_want_buffer(struct filler *filler,
                        struct fill *fill);                  /* fill_resume when there is one */
void filler_store(struct filler *filler, struct fill *fill); /* takes the reference */

#endif
