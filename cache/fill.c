/* cache/fill.c - bytes of cloud blobs on their way in (fill.h): begin, append, end on upstream's
 * threads; take and wait on readers' loops.
 *
 * The appending thread writes into buffers without the lock and publishes `received` under it:
 * bytes below never change. Waiters are woken at most once per FILL_WAKE_BYTES or FILL_WAKE_NS, and
 * at the end. */
#include "cache/fill.h"

#include <string.h>

#include "base/clock.h"
#include "base/crc64.h"
#include "base/log.h"
#include "cache/metrics.h"
#include "cache/names.h"

#define FILL_WAKE_BYTES KIB(256)
#define FILL_WAKE_NS    NS_PER_MS

static struct filler *filler_of(const struct fill *fill)
{
    return fill->object->cache->content->filler;
}

/* ---- lifetime ---- */

struct fill *fill_ref(struct fill *fill)
{
    atomic_fetch_add_explicit(&fill->refs, 1, memory_order_relaxed);
    return fill;
}

struct fill *fill_unref(struct fill *fill)
{
    if (!fill || atomic_fetch_sub(&fill->refs, 1) != 1)
        return NULL;
    assert(!fill->waiters);
    fill_release(fill);
    fill->spare = iobuf_unref(fill->spare);
    origin_done(&fill->origin);
    fill->object = object_unref(fill->object);
    pthread_mutex_destroy(&fill->lock);
    pthread_mutex_destroy(&fill->resume_lock);
    free(fill);
    return NULL;
}

void fill_release(struct fill *fill)
{
    struct iobuf *bufs[EXTENT_UNITS_MAX];

    pthread_mutex_lock(&fill->lock);
    memcpy(bufs, fill->bufs, sizeof(bufs));
    memset(fill->bufs, 0, sizeof(fill->bufs));
    pthread_mutex_unlock(&fill->lock);
    for (unsigned i = 0; i < fill->buf_count; i++)
        iobuf_unref(bufs[i]); /* slices that were taken have references of their own */
    filler_give(filler_of(fill), fill);
}

static struct fill *fill_at(const struct object *object, uint64_t at)
{
    struct fill *fill = object->fills;

    while (fill && (at < fill->start || at - fill->start >= fill->length))
        fill = fill->object_next;
    return fill;
}

bool fill_running(const struct object *object, uint64_t at)
{
    return fill_at(object, at) != NULL;
}

struct fill *fill_find(struct object *object, uint64_t at)
{
    struct fill *fill = fill_at(object, at);

    return fill ? fill_ref(fill) : NULL;
}

/* Is there nothing to wait for any more? Lock held. */
static bool fill_reached(const struct fill *fill, uint64_t at)
{
    if (at == FILL_LEFT)
        return fill->ended && fill->left;
    return fill->ended || at < fill->start + fill->received;
}

static void fill_wake(struct fill *fill) /* lock held */
{
    struct fill_waiter **at = &fill->waiters, *waiter;

    while ((waiter = *at)) {
        if (!fill_reached(fill, waiter->at)) {
            at = &waiter->next;
            continue;
        }
        *at = waiter->next;
        completion_post(&waiter->wake, 0);
    }
    fill->woken_bytes = fill->received;
    fill->woken_ns = clock_mono_ns();
}

void fill_leave_object(struct fill *fill)
{
    struct object *object = fill->object;
    struct fill **at;

    pthread_mutex_lock(&object->lock);
    for (at = &object->fills; *at != fill;)
        at = &(*at)->object_next;
    *at = fill->object_next;
    pthread_mutex_unlock(&object->lock);
    pthread_mutex_lock(&fill->lock);
    fill->left = true;
    fill_wake(fill);
    pthread_mutex_unlock(&fill->lock);
    fill_unref(fill);
}

/* ---- begin ---- */

static bool unit_present(const struct object *object, uint64_t at)
{
    const struct cell *cell = object->cells[at / EXTENT_BYTES_MAX];

    return cell && cell->extent.present >> (at % EXTENT_BYTES_MAX / UNIT_BYTES) & 1;
}

/* Bytes from `at`, a unit's first, that may be fetched in one run; object's lock held. */
static uint64_t run_length(const struct object *object, uint64_t at, uint64_t end)
{
    uint64_t extent_end = (at / EXTENT_BYTES_MAX + 1) * EXTENT_BYTES_MAX;
    uint64_t stop = MIN(MIN(ALIGN_UP(end, UNIT_BYTES), extent_end), object->length);
    uint64_t next = at;

    do
        next = MIN(next + UNIT_BYTES, stop);
    while (next < stop && !unit_present(object, next) && !fill_running(object, next));
    return next - at;
}

/* Where it is fetched from: the name that is read, if the cloud has the content under it, whatever
 * other name of the same objects was confirmed last (a copy, which may be gone by now). */
static struct object_origin source_for(struct blob *blob, const struct piece *piece,
                                       uint64_t piece_start)
{
    struct object_origin own = {.container = blob->name.container,
                                .blob = blob->name.blob,
                                .etag = blob_body_etag(blob),
                                .offset = piece_start};
    bool whole = !piece->offset && piece->length == object_length(piece->object);

    return own.etag.len && whole ? own : piece->object->origin;
}

static struct fill *fill_new(struct object *object, uint64_t start, uint64_t length,
                             const struct object_origin *origin)
{
    struct fill *fill = xcalloc(1, sizeof(*fill));

    fill->refs = 2; /* upstream's and the object's list's */
    fill->object = object_ref(object);
    fill->index = (uint32_t)(start / EXTENT_BYTES_MAX);
    fill->start = start;
    fill->length = length;
    fill->origin = origin_copy(origin);
    fill->class = length > UNIT_BYTES ? IOBUF_512K : IOBUF_64K;
    fill->buf_count =
        (unsigned)((length + IOBUF_BYTES(fill->class) - 1) / IOBUF_BYTES(fill->class));
    pthread_mutex_init(&fill->lock, NULL);
    pthread_mutex_init(&fill->resume_lock, NULL);
    fill->object_next = object->fills;
    object->fills = fill;
    return fill;
}

/* The piece of the blob that byte `at` lies in, and where the piece starts. */
static const struct piece *blob_piece_at(struct blob *blob, uint64_t at, uint64_t *ret_start)
{
    const struct piece *pieces;
    size_t n = blob_pieces(blob, &pieces);
    uint64_t start = 0;

    for (size_t i = 0; i < n; start += pieces[i++].length)
        if (at - start < pieces[i].length) {
            *ret_start = start;
            return &pieces[i];
        }
    return NULL;
}

int cache_fill_begin(struct blob *blob, struct range want, struct fill **ret)
{
    uint64_t piece_start, at, end, max;
    const struct piece *piece = blob_piece_at(blob, want.start, &piece_start);
    struct object_origin origin;
    struct object *object;
    struct fill *fill;

    if (!piece || !want.len)
        return -EINVAL;
    object = piece->object;
    max = (uint64_t)filler_buffers_max(object->cache->content->filler) * IOBUF_BYTES(IOBUF_512K);
    at = (piece->offset + want.start - piece_start) / UNIT_BYTES * UNIT_BYTES;
    end = piece->offset + MIN(want.start - piece_start + want.len, piece->length);
    pthread_mutex_lock(&object->lock);
    if (!object->origin.etag.len || unit_present(object, at) || fill_running(object, at)) {
        int err = !object->origin.etag.len   ? -EINVAL
                  : fill_running(object, at) ? -EALREADY
                                             : -EEXIST;

        pthread_mutex_unlock(&object->lock);
        return err;
    }
    origin = source_for(blob, piece, piece_start);
    fill = fill_new(object, at, MIN(run_length(object, at, end), max), &origin);
    pthread_mutex_unlock(&object->lock);
    fill->shift = (int64_t)piece_start - (int64_t)piece->offset;
    filler_ask(filler_of(fill), fill);
    STAT_INC(fills);
    *ret = fill;
    return 0;
}

struct range fill_range(const struct fill *fill)
{
    return (struct range){(uint64_t)((int64_t)fill->start + fill->shift), fill->length};
}

struct fill_source fill_source(const struct fill *fill)
{
    return (struct fill_source){.container = fill->origin.container,
                                .blob = fill->origin.blob,
                                .etag = fill->origin.etag,
                                .bytes = {fill->origin.offset + fill->start, fill->length}};
}

/* ---- append ---- */

/* Buffers up to `end`, of the fill. -EAGAIN: resume comes. */
static int fill_room(struct fill *fill, uint64_t end)
{
    unsigned n = (unsigned)((end + IOBUF_BYTES(fill->class) - 1) / IOBUF_BYTES(fill->class));

    SCOPED_LOCK(&fill->lock);
    if (!fill->granted)
        return -EAGAIN;
    for (unsigned i = 0; i < n; i++) {
        if (fill->bufs[i])
            continue;
        fill->bufs[i] = fill->spare ? TAKE(fill->spare) : iobuf_try(fill->class);
        if (fill->bufs[i])
            continue;
        if (!fill->short_of_buffer)
            filler_want_buffer(filler_of(fill), fill);
        fill->short_of_buffer = true;
        return -EAGAIN;
    }
    return 0;
}

/* Copies what fits the unit and the buffer at `received`; returns how much. */
static size_t fill_copy(struct fill *fill, uint64_t at, struct span bytes)
{
    struct iobuf *buf = fill->bufs[at / IOBUF_BYTES(fill->class)];
    uint64_t in_unit = at % UNIT_BYTES;
    size_t n = MIN(bytes.len, UNIT_BYTES - in_unit);
    char *into = buf->base + at % IOBUF_BYTES(fill->class);
    uint64_t *crc = &fill->crc[at / UNIT_BYTES];

    memcpy(into, bytes.base, n);
    *crc = crc64(*crc, into, n);
    return n;
}

int fill_append(struct fill *fill, struct span bytes)
{
    uint64_t at = fill->received; /* only this thread changes it */
    int err;

    assert(!fill->ended);
    if (bytes.len > fill->length - at)
        return -EFBIG;
    err = fill_room(fill, at + bytes.len);
    if (err < 0)
        return err;
    STAT_ADD(fill_bytes, bytes.len);
    while (bytes.len) {
        size_t n = fill_copy(fill, at, bytes);

        at += n;
        bytes = span_skip(bytes, n);
    }
    SCOPED_LOCK(&fill->lock);
    fill->received = at;
    if (at - fill->woken_bytes >= FILL_WAKE_BYTES ||
        clock_mono_ns() - fill->woken_ns >= FILL_WAKE_NS)
        fill_wake(fill);
    return 0;
}

void fill_on_resume(struct fill *fill, void (*resume)(void *arg), void *arg)
{
    SCOPED_LOCK(&fill->resume_lock);
    fill->resume = resume;
    fill->resume_arg = arg;
}

void fill_resume(struct fill *fill)
{
    SCOPED_LOCK(&fill->resume_lock);
    if (fill->resume)
        fill->resume(fill->resume_arg);
}

/* ---- end ---- */

static uint64_t fill_crc(const struct fill *fill)
{
    uint64_t crc = 0;

    for (uint64_t at = 0; at < fill->length; at += UNIT_BYTES)
        crc = crc64_combine(crc, fill->crc[at / UNIT_BYTES], MIN(UNIT_BYTES, fill->length - at));
    return crc;
}

static int fill_judge(const struct fill *fill, int err, const uint64_t *crc)
{
    if (err)
        return err;
    if (fill->received != fill->length)
        return -EIO;
    if (!crc || *crc == fill_crc(fill))
        return 0;
    log_warn("bytes from the cloud do not match its checksum", KV_SPAN("blob", fill->origin.blob),
             KV_UINT("offset", fill->start), KV_UINT("bytes", fill->length));
    STAT_INC(fills_mismatched);
    return -EIO;
}

void fill_end(struct fill *fill, int err, const uint64_t *crc64)
{
    assert(err <= 0);
    fill_on_resume(fill, NULL, NULL);
    err = fill_judge(fill, err, crc64);
    if (err) /* first out of the list: nobody new may join what has failed */
        fill_leave_object(fill);
    pthread_mutex_lock(&fill->lock);
    fill->ended = true;
    fill->err = err;
    fill_wake(fill);
    pthread_mutex_unlock(&fill->lock);
    if (err) {
        fill_release(fill);
        fill_unref(fill);
    } else {
        filler_store(filler_of(fill), fill);
    }
}

/* ---- readers' loops ---- */

int fill_take(struct fill *fill, uint64_t at, uint64_t max, struct slice *ret)
{
    uint64_t in_buf, off = at - fill->start;
    struct iobuf *buf;

    SCOPED_LOCK(&fill->lock);
    if (fill->ended && fill->err)
        return fill->err;
    if (off >= fill->received)
        return -EAGAIN;
    buf = fill->bufs[off / IOBUF_BYTES(fill->class)];
    if (!buf)
        return -EEXIST;
    in_buf = off % IOBUF_BYTES(fill->class);
    max = MIN(MIN(max, fill->received - off), IOBUF_BYTES(fill->class) - in_buf);
    *ret = (struct slice){
        .buf = iobuf_ref(buf), .bytes = {buf->base + in_buf, max}, .checked = fill->ended};
    return 0;
}

bool fill_wait(struct fill *fill, struct fill_waiter *waiter)
{
    SCOPED_LOCK(&fill->lock);
    if (fill_reached(fill, waiter->at))
        return false;
    waiter->next = fill->waiters;
    fill->waiters = waiter;
    return true;
}

bool fill_unwait(struct fill *fill, struct fill_waiter *waiter)
{
    struct fill_waiter **at;

    SCOPED_LOCK(&fill->lock);
    for (at = &fill->waiters; *at && *at != waiter;)
        at = &(*at)->next;
    if (!*at)
        return false;
    *at = waiter->next;
    return true;
}

int fill_outcome(struct fill *fill)
{
    SCOPED_LOCK(&fill->lock);
    return fill->ended ? fill->err : -EINPROGRESS;
}
