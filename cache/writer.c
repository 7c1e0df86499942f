/* cache/writer.c - bytes to a new object: cache_writer_open .. writer_finish of cache.h. Loop
 * thread.
 *
 * A body of more than 64 KiB (or of unknown length) goes piece by piece into extents of up to 4
 * MiB: 1 writer_push: the piece joins `queue`; writer_pump checksums it and starts its device write
 *   2 the piece that fills an extent also starts the write of its header page (the seal)
 *   3 when all writes of the oldest extent have ended it joins the object, in order
 * Only a full device (then eviction is waited for, a while) or one whose next slab is still being
 * prepared keeps pieces in the queue.
 * Pieces pushed and not yet on the device are at most WRITER_PIECES_MAX: writer_buffer waits beyond
 * that. A short body is one record in a run that many share (small.c); it waits for room likewise.
 * Nothing here is flushed: finishing tells the committer which devices owe a flush. An error
 * sticks; what was written is free space again, since nothing durable ever refers to it. */
#include "cache/internal.h"

#include "base/clock.h"
#include "base/crc64.h"
#include "base/failpoint.h"

#define WRITER_PIECES_MAX     4    /* 512 KiB each, per writer */
#define WRITER_HEADROOM_SHARE 64   /* of all space: for blocks (design section 7) */
#define WRITER_DIRTY_SHARE    16   /* of all space: how far blocks may go above the dirty mark */
#define WRITER_ROOM_WAIT_MS   5000 /* for eviction, which every failed allocation asks for */

struct piece_write {
    struct extent_piece piece;
    struct completion done;
    struct writer *writer;
    struct iobuf *buf; /* NULL: unused */
    struct extent_part *part;
    struct piece_write *next;
};

struct extent_part { /* one extent of the object being written */
    struct extent_write *write;
    struct writer *writer;
    uint32_t asked, used;
    unsigned io; /* device writes under way */
    bool sealed;
    struct completion seal_done;
    struct extent_part *next;
};

struct writer {
    struct cache *cache;
    struct loop *loop;
    struct object *object;
    int64_t expected; /* length, -1 unknown */
    uint64_t length, crc;
    int err; /* the first one sticks */
    bool small, last_seen, aborted;
    struct piece_write pieces[WRITER_PIECES_MAX];
    unsigned busy;                           /* pieces in use */
    struct piece_write *queue, **queue_last; /* not started */
    struct extent_part *parts, **parts_last; /* oldest first; not yet in the object */
    struct extent_part *open;                /* the newest, not sealed; NULL: none */
    uint32_t extent_count;
    uint64_t devices; /* bit per device written to */
    unsigned io;
    bool slab_waiting; /* for a slab, or for room */
    struct completion slab_ready;
    struct timer room_timer;
    uint64_t room_until_ns; /* 0: not waiting for room */
    struct small_write small_write;
    uint64_t small_given; /* what had been given back when it was tried (slab_given) */
    struct extent small_extent;
    struct completion small_done;
    struct completion *buffer_done; /* a writer_buffer that waits */
    struct iobuf **buffer_ret;
    struct completion *finish_done;
    struct object **finish_ret;
};

static void writer_settle(struct writer *w);
static void writer_pump(struct writer *w);
static void small_again(struct writer *w);

static enum iobuf_class buffer_class(const struct writer *w)
{
    if (w->expected < 0 || w->expected > SMALL_BYTES_MAX)
        return IOBUF_512K;
    return w->expected <= IOBUF_BYTES(IOBUF_4K) ? IOBUF_4K : IOBUF_64K;
}

/* ---- a writer_buffer that waits ---- */

static void buffer_cancel(struct completion *done)
{
    struct writer *w = done->callee;

    w->buffer_done = NULL;
    completion_post(done, -ECANCELED);
}

static void buffer_serve(struct writer *w) /* a piece is unused again, or the writer failed */
{
    struct completion *done = TAKE(w->buffer_done);

    if (!done)
        return;
    done->cancel = NULL;
    done->callee = NULL;
    if (w->err < 0)
        completion_post(done, w->err);
    else
        iobuf_get(buffer_class(w), w->buffer_ret, done);
}

/* ---- pieces and extents ---- */

static void piece_drop(struct piece_write *piece)
{
    piece->buf = iobuf_unref(piece->buf);
    piece->writer->busy--;
}

static void writer_fail(struct writer *w, int err)
{
    if (w->err == 0)
        w->err = err;
    while (w->queue) {
        struct piece_write *piece = w->queue;

        w->queue = piece->next;
        piece_drop(piece);
    }
    w->queue_last = &w->queue;
    buffer_serve(w);
}

/* Whole extents join the object in order; of a failed writer none does any more. */
static void parts_reap(struct writer *w)
{
    struct extent_part *part;

    while ((part = w->parts) && part->io == 0 && (part->sealed || w->err < 0)) {
        w->parts = part->next;
        if (!w->parts)
            w->parts_last = &w->parts;
        if (w->open == part)
            w->open = NULL;
        if (w->err == 0) {
            struct extent extent = extent_write_end(part->write);

            object_add_extent(w->object, &extent);
            FAILPOINT("extent_written");
        } else {
            extent_write_abort(part->write);
        }
        free(part);
    }
}

static void write_ended(struct writer *w, struct extent_part *part, int err)
{
    part->io--;
    w->io--;
    if (err < 0) {
        extent_write_failed(part->write, err);
        writer_fail(w, err);
    }
    parts_reap(w);
}

static void piece_written(struct completion *done)
{
    struct piece_write *piece = container_of(done, struct piece_write, done);
    struct writer *w = piece->writer;

    piece_drop(piece);
    buffer_serve(w);
    write_ended(w, piece->part, done->err);
    writer_settle(w);
}

static void seal_written(struct completion *done)
{
    struct extent_part *part = container_of(done, struct extent_part, seal_done);
    struct writer *w = part->writer;

    write_ended(w, part, done->err); /* part may be gone */
    writer_settle(w);
}

static void part_seal(struct writer *w)
{
    struct extent_part *part = TAKE(w->open);

    part->sealed = true;
    part->io++;
    w->io++;
    part->seal_done = (struct completion){.fn = seal_written, .loop = w->loop};
    extent_write_seal(part->write, part->used, &part->seal_done);
}

static uint32_t part_length(const struct writer *w, const struct piece_write *first)
{
    uint64_t left = w->expected < 0
                        ? EXTENT_BYTES_MAX
                        : (uint64_t)w->expected - (uint64_t)w->extent_count * EXTENT_BYTES_MAX;

    if (first->buf->used < first->buf->size) /* the body ends with it */
        return first->buf->used;
    return (uint32_t)MIN(left, EXTENT_BYTES_MAX);
}

static int part_open(struct writer *w)
{
    uint32_t asked = part_length(w, w->queue);
    struct extent_write *write;
    struct extent_part *part;
    int err = extent_write_open(w->cache->slabs, w->object->id, w->extent_count, asked, &write);

    if (err < 0)
        return err;
    part = xcalloc(1, sizeof(*part));
    *part = (struct extent_part){.write = write, .writer = w, .asked = asked};
    *w->parts_last = part;
    w->parts_last = &part->next;
    w->open = part;
    w->extent_count++;
    w->devices |= 1ULL << extent_write_peek(write)->at.device;
    return 0;
}

static void crc_add(struct writer *w, const struct extent *extent, uint32_t offset, uint32_t bytes)
{
    for (uint32_t at = 0; at < bytes; at += UNIT_BYTES)
        w->crc = crc64_combine(w->crc, extent->crc[(offset + at) / UNIT_BYTES],
                               MIN(UNIT_BYTES, bytes - at));
}

static void piece_start(struct writer *w)
{
    struct piece_write *piece = w->queue;
    struct extent_part *part = w->open;
    uint32_t offset = part->used, bytes = piece->buf->used;

    w->queue = piece->next;
    if (!w->queue)
        w->queue_last = &w->queue;
    piece->part = part;
    piece->done = (struct completion){.fn = piece_written, .loop = w->loop};
    part->used += bytes;
    part->io++;
    w->io++;
    extent_write_units(part->write, &piece->piece, offset, span_from(piece->buf->base, bytes),
                       &piece->done);
    crc_add(w, extent_write_peek(part->write), offset, bytes);
    if (part->used == part->asked)
        part_seal(w);
}

static void slab_is_ready(struct completion *done) /* or will not be: the next allocation tells */
{
    struct writer *w = container_of(done, struct writer, slab_ready);

    timer_stop(w->loop, &w->room_timer);
    w->slab_waiting = false;
    if (w->small)
        small_again(w);
    else
        writer_pump(w);
    writer_settle(w);
}

static void wait_cancel(struct writer *w)
{
    if (w->slab_waiting)
        slab_wait_cancel(w->cache->slabs, &w->slab_ready);
}

static void room_timer_fired(struct timer *timer)
{
    wait_cancel(container_of(timer, struct writer, room_timer));
}

/* No room just now, but clean bytes that eviction can give: worth waiting for, not for ever. */
static bool room_wait(struct writer *w, uint64_t given)
{
    uint64_t now = clock_mono_ns();

    if (w->room_until_ns == 0)
        w->room_until_ns = now + WRITER_ROOM_WAIT_MS * NS_PER_MS;
    if (now >= w->room_until_ns || content_stats(w->cache).clean_bytes == 0)
        return false;
    w->slab_waiting = true;
    w->slab_ready = (struct completion){.fn = slab_is_ready, .loop = w->loop};
    slab_wait_free(w->cache->slabs, given, &w->slab_ready);
    w->room_timer.fn = room_timer_fired;
    timer_start(w->loop, &w->room_timer, w->room_until_ns - now);
    return true;
}

static void writer_pump(struct writer *w)
{
    while (w->queue && !w->slab_waiting) {
        uint64_t given = slab_given(w->cache->slabs);
        int err = w->open ? 0 : part_open(w);

        if (err == -EAGAIN) {
            w->slab_waiting = true;
            w->slab_ready = (struct completion){.fn = slab_is_ready, .loop = w->loop};
            slab_wait_large(w->cache->slabs, &w->slab_ready);
        } else if (err == 0) {
            w->room_until_ns = 0;
            piece_start(w);
        } else if (err != -ENOSPC || !room_wait(w, given)) {
            writer_fail(w, err);
        }
    }
    if (w->finish_done && w->err == 0 && !w->queue && w->open) /* the last extent is not full */
        part_seal(w);
}

/* ---- a short body ---- */

static void small_ended(struct writer *w, int err)
{
    w->io--;
    piece_drop(&w->pieces[0]);
    if (err == 0) {
        w->devices = 1ULL << w->small_extent.at.device;
        object_add_extent(w->object, &w->small_extent);
    } else {
        writer_fail(w, err);
    }
    buffer_serve(w);
}

static void small_written(struct completion *done)
{
    struct writer *w = container_of(done, struct writer, small_done);

    if (done->err == -ENOSPC && w->err == 0 && room_wait(w, w->small_given))
        return;
    small_ended(w, done->err);
    writer_settle(w);
}

static void small_try(struct writer *w)
{
    w->small_given = slab_given(w->cache->slabs);
    small_write_start(w->cache->slabs, &w->small_write);
}

static void small_again(struct writer *w) /* there may be room by now */
{
    if (w->err == 0)
        small_try(w);
    else
        small_ended(w, w->err);
}

static void small_start(struct writer *w, struct iobuf *buf)
{
    w->pieces[0].writer = w;
    w->pieces[0].buf = buf;
    w->busy++;
    w->io++;
    w->crc = crc64(0, buf->base, buf->used);
    w->object->small = true;
    w->small_done = (struct completion){.fn = small_written, .loop = w->loop};
    w->small_write = (struct small_write){.id = w->object->id,
                                          .bytes = span_from(buf->base, buf->used),
                                          .crc = w->crc,
                                          .ret = &w->small_extent,
                                          .done = &w->small_done};
    small_try(w);
}

/* ---- the end ---- */

static void writer_give_object(struct writer *w)
{
    FAILPOINT("body_written");
    w->object->crc64 = w->crc;
    w->object->has_crc64 = true;
    for (unsigned i = 0; i < DEVICES_MAX; i++)
        if (w->devices >> i & 1)
            commit_wrote(w->cache->committer, i);
    *w->finish_ret = TAKE(w->object);
}

/* Ends the writer once it was finished or aborted and nothing of it is under way. */
static void writer_settle(struct writer *w)
{
    if ((!w->finish_done && !w->aborted) || w->io > 0 || w->queue || w->slab_waiting)
        return;
    parts_reap(w);
    assert(!w->parts && w->busy == 0);
    if (w->finish_done && w->err == 0)
        writer_give_object(w);
    object_unref(w->object); /* not given: its extents are free again */
    if (w->finish_done)
        completion_post(w->finish_done, w->err);
    else
        loop_release(w->loop);
    free(w);
}

/* ---- the calls ---- */

/* Clean bytes count as room: eviction gives them. What the cloud does not have yet may fill the
 * devices up to a mark only, so that reads keep some cache; blocks may go above it, so that blobs
 * that were begun can be finished. Sole bytes have no such mark: nobody would ever take them away.
 */
static int room_check(struct cache *cache, const struct write_opts *opts)
{
    struct slab_space space = slab_space(cache->slabs);
    struct content_stats content = content_stats(cache);
    uint64_t usable = space.bytes - MIN(space.bytes, space.reserved_bytes);
    uint64_t high = cache->conf.dirty_high_bytes ? cache->conf.dirty_high_bytes : usable / 4 * 3;
    uint64_t keep = opts->staged ? 0 : space.bytes / WRITER_HEADROOM_SHARE;
    uint64_t need = opts->bytes < 0 ? EXTENT_BYTES_MAX : (uint64_t)opts->bytes;

    if (opts->staged)
        high += space.bytes / WRITER_DIRTY_SHARE;
    if (need == 0)
        return 0;
    if (content.dirty_bytes + content.staged_bytes + need > high)
        return -ENOSPC;
    if (need <= SMALL_BYTES_MAX) /* small slabs have their own share: the write itself tells */
        return 0;
    return space.free_bytes + content.clean_bytes < need + keep ? -ENOSPC : 0;
}

int cache_writer_open(struct cache *cache, const struct write_opts *opts, struct writer **ret)
{
    struct writer *w;
    int err = room_check(cache, opts);

    if (err < 0)
        return err;
    w = xcalloc(1, sizeof(*w));
    w->cache = cache;
    w->loop = loop_current();
    w->object = object_new(cache, object_id_next(cache));
    w->expected = opts->bytes;
    w->queue_last = &w->queue;
    w->parts_last = &w->parts;
    *ret = w;
    return 0;
}

void writer_buffer(struct writer *w, struct iobuf **ret, struct completion *done)
{
    assert(loop_is_mine(w->loop) && !w->buffer_done && !w->finish_done);
    w->buffer_done = done;
    w->buffer_ret = ret;
    if (w->err < 0 || w->busy < WRITER_PIECES_MAX) {
        buffer_serve(w);
        return;
    }
    done->callee = w;
    done->cancel = buffer_cancel;
}

void writer_push(struct writer *w, struct iobuf *buf)
{
    struct piece_write *piece = w->pieces;
    bool first = w->length == 0;

    assert(loop_is_mine(w->loop) && !w->finish_done);
    if (w->err < 0 || buf->used == 0) {
        iobuf_unref(buf);
        return;
    }
    assert(!w->last_seen); /* only the last buffer may be part full */
    w->last_seen = buf->used < buf->size;
    w->length += buf->used;
    if (first)
        w->small = buffer_class(w) != IOBUF_512K ||
                   (w->expected < 0 && w->last_seen && buf->used <= SMALL_BYTES_MAX);
    if ((w->expected >= 0 && w->length > (uint64_t)w->expected) || (w->small && !first)) {
        writer_fail(w, -EFBIG); /* more than was announced */
        iobuf_unref(buf);
        return;
    }
    if (w->small) {
        small_start(w, buf);
        return;
    }
    while (piece->buf)
        piece++; /* writer_buffer sees to it that one is unused */
    assert(piece < w->pieces + WRITER_PIECES_MAX);
    *piece = (struct piece_write){.writer = w, .buf = buf};
    w->busy++;
    *w->queue_last = piece;
    w->queue_last = &piece->next;
    writer_pump(w);
}

void writer_finish(struct writer *w, struct object **ret, struct completion *done)
{
    assert(loop_is_mine(w->loop) && !w->buffer_done && !w->finish_done && !w->aborted);
    w->finish_ret = ret;
    w->finish_done = done;
    w->expected = (int64_t)w->length; /* what waits for a slab need not ask for more */
    writer_pump(w);
    writer_settle(w);
}

struct writer *writer_abort(struct writer *w)
{
    if (!w)
        return NULL;
    assert(loop_is_mine(w->loop) && !w->buffer_done && !w->finish_done);
    w->aborted = true;
    loop_hold(w->loop); /* device writes under way end on it */
    writer_fail(w, -ECANCELED);
    wait_cancel(w);
    writer_settle(w);
    return NULL;
}
