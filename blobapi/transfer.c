/* blobapi/transfer.c - see transfer.h. Steps: (a place) -> open -> (read -> (buffer, copy, push)*)*
 * -> settle -> finish, object by object; from elsewhere (buffer, receive, push)* instead.
 *
 * A large body holds a buffer while it waits for another one of the same pool (a writer wants its
 * buffers full), so only a few go at once: they must not be able to hold the whole pool and wait
 * for each other. A small body (renames of many small files) is copied out of its read buffers
 * first and holds none. */
#include "blobapi/transfer.h"

#include "base/clock.h"
#include "upstream/external.h"

#define TRANSFERS_MAX     8  /* large ones: each holds about six buffers of 512 KiB */
#define RECEIVES_MAX      16 /* from elsewhere: each holds one while its source is slow */
#define TRANSFER_WAIT_NS  (20 * NS_PER_MS)
#define TRANSFER_PATIENCE (60 * NS_PER_SEC) /* then 503 */
#define TRANSFER_ASKS_MAX 4

static struct next transfer_begin(struct op *op);
static struct next transfer_open(struct op *op);
static struct next transfer_read(struct op *op);
static struct next transfer_have(struct op *op);
static struct next transfer_filled(struct op *op);
static struct next transfer_buffer(struct op *op);
static struct next transfer_push(struct op *op);
static struct next transfer_receive(struct op *op);
static struct next transfer_received(struct op *op);
static struct next transfer_pushed(struct op *op);
static struct next transfer_settled(struct op *op);
static struct next transfer_finish(struct op *op);
static struct next transfer_written(struct op *op);
static struct next transfer_hashed(struct op *op);

static bool is_small(const struct transfer *t)
{
    return t->range.len <= SMALL_BYTES_MAX;
}

struct next transfer_run(struct request *r, struct transfer *t, struct next after)
{
    assert(t->range.len && !t->reader && !t->count);
    r->transfer = t;
    t->after = after;
    t->done = t->object_end = 0;
    t->small = NULL;
    t->small_len = 0;
    t->deadline_ns = clock_mono_ns() + TRANSFER_PATIENCE;
    t->room = (t->range.len + t->object_max - 1) / t->object_max;
    t->pieces = arena_zalloc(r->http->arena, t->room * sizeof(*t->pieces));
    return GO(transfer_begin);
}

/* False: as many as may be are under way. */
static bool transfer_count(struct request *r, struct transfer *t)
{
    _Atomic unsigned *of = t->external ? &r->api->receives : &r->api->transfers;

    if (!t->external && is_small(t))
        return true;
    if (atomic_fetch_add(of, 1) >= (t->external ? RECEIVES_MAX : TRANSFERS_MAX)) {
        atomic_fetch_sub(of, 1);
        return false;
    }
    t->counted = of;
    return true;
}

static struct next transfer_begin(struct op *op)
{
    struct request *r = REQUEST(op);
    struct transfer *t = r->transfer;

    if (!transfer_count(r, t)) {
        if (clock_mono_ns() >= t->deadline_ns)
            return fail_errno(r, -EBUSY);
        request_sleep(r, TRANSFER_WAIT_NS);
        return AWAIT(transfer_begin);
    }
    if (!t->external)
        t->reader = cache_reader_open(t->from, t->range, READ_CLIENT);
    if (t->want_md5)
        t->chain = md5_chain_open(r->api->conf.workers, r->http->loop);
    return GO(transfer_open);
}

static struct next transfer_failed(struct request *r, int err)
{
    struct transfer *t = r->transfer;

    transfer_done(r, t);
    if (err == -ESTALE)
        return t->changed;
    return err == -ECANCELED ? cut(r) : fail_errno(r, err);
}

/* What is clean is being evicted, what is dirty goes to the cloud: room may come. */
static struct next transfer_no_space(struct request *r)
{
    if (clock_mono_ns() >= r->transfer->deadline_ns)
        return transfer_failed(r, -ENOSPC);
    request_sleep(r, TRANSFER_WAIT_NS);
    return AWAIT(transfer_open);
}

static struct next transfer_open(struct op *op)
{
    struct request *r = REQUEST(op);
    struct transfer *t = r->transfer;
    uint64_t bytes = MIN(t->range.len - t->done, t->object_max);
    struct write_opts opts = {r->contract, (int64_t)bytes, t->staged};
    int err = cache_writer_open(r->api->conf.cache, &opts, &t->writer);

    if (err == -ENOSPC)
        return transfer_no_space(r);
    if (err)
        return transfer_failed(r, err);
    t->object_start = t->done;
    t->object_end = t->done + bytes;
    return t->external || t->slice.bytes.len ? GO(transfer_buffer) : GO(transfer_read);
}

static struct next transfer_read(struct op *op)
{
    struct transfer *t = REQUEST(op)->transfer;

    reader_next(t->reader, &t->slice, &op->done);
    return AWAIT(transfer_have);
}

static struct next transfer_fill(struct request *r)
{
    struct transfer *t = r->transfer;

    if (t->asks++ == TRANSFER_ASKS_MAX)
        return transfer_failed(r, -EIO);
    upstream_fill(r->api->conf.upstream, t->from, reader_gap(t->reader), &r->op.done);
    return AWAIT(transfer_filled);
}

/* True when all of it is at hand: t->slice is the whole then. */
static bool small_take(struct request *r, struct transfer *t)
{
    struct span bytes = t->slice.bytes;

    if (!t->small)
        t->small = arena_alloc(r->http->arena, SMALL_BYTES_MAX);
    memcpy(t->small + t->small_len, bytes.base, bytes.len);
    t->small_len += bytes.len;
    t->slice = slice_unref(t->slice);
    if (t->small_len < t->range.len)
        return false;
    t->slice = (struct slice){.bytes = span_from(t->small, t->small_len)};
    return true;
}

static struct next transfer_have(struct op *op)
{
    struct request *r = REQUEST(op);
    struct transfer *t = r->transfer;

    if (op->done.err == -ENODATA && r->api->conf.upstream)
        return transfer_fill(r);
    if (op->done.err)
        return transfer_failed(r, op->done.err);
    t->asks = 0;
    if (is_small(t) && !small_take(r, t))
        return GO(transfer_read);
    if (!r->buf)
        return GO(transfer_buffer);
    op->done.err = 0;
    return GO(transfer_push); /* the one begun has room */
}

static struct next transfer_filled(struct op *op)
{
    struct request *r = REQUEST(op);

    return op->done.err ? transfer_failed(r, op->done.err) : GO(transfer_read);
}

static struct next transfer_buffer(struct op *op)
{
    struct request *r = REQUEST(op);

    writer_buffer(r->transfer->writer, &r->buf, &op->done);
    return r->transfer->external ? AWAIT(transfer_receive) : AWAIT(transfer_push);
}

static struct next transfer_push_buffer(struct request *r)
{
    struct transfer *t = r->transfer;

    if (t->chain)
        md5_chain_push(t->chain, r->buf);
    writer_push(t->writer, TAKE(r->buf));
    if (!t->chain || md5_chain_waiting(t->chain) < MD5_CHAIN_MAX)
        return GO(transfer_pushed);
    md5_chain_wait(t->chain, MD5_CHAIN_MAX - 1, &r->op.done);
    return AWAIT(transfer_pushed);
}

static struct next transfer_receive(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return transfer_failed(r, op->done.err);
    external_read(r->transfer->external, r->buf, &op->done);
    return AWAIT(transfer_received);
}

static struct next transfer_cut_off(struct request *r, int err)
{
    if (err == -ESTALE || err == -ECANCELED)
        return transfer_failed(r, err);
    transfer_done(r, r->transfer);
    return fail(r, AZ_COPY_SOURCE_UNREACHABLE); /* half of it is nobody's fault here */
}

/* Objects of what is large are whole buffers long, so that none holds bytes of two. */
static struct next transfer_received(struct op *op)
{
    struct request *r = REQUEST(op);
    struct transfer *t = r->transfer;

    if (op->done.err)
        return transfer_cut_off(r, op->done.err);
    t->done += r->buf->used;
    if ((r->buf->used < r->buf->size && t->done < t->range.len) || t->done > t->object_end)
        return transfer_cut_off(r, -EPROTO);
    return transfer_push_buffer(r);
}

static struct next transfer_push(struct op *op)
{
    struct request *r = REQUEST(op);
    struct transfer *t = r->transfer;
    size_t n;

    if (op->done.err)
        return transfer_failed(r, op->done.err);
    n = MIN(MIN((size_t)(r->buf->size - r->buf->used), t->slice.bytes.len),
            t->object_end - t->done);
    memcpy(r->buf->base + r->buf->used, t->slice.bytes.base, n);
    r->buf->used += (uint32_t)n;
    t->slice.bytes = span_skip(t->slice.bytes, n);
    t->done += n;
    if (r->buf->used < r->buf->size && t->done < t->object_end)
        return GO(transfer_pushed); /* a writer wants its buffers full */
    return transfer_push_buffer(r);
}

static struct next transfer_pushed(struct op *op)
{
    struct transfer *t = REQUEST(op)->transfer;

    if (!t->slice.bytes.len)
        t->slice = slice_unref(t->slice);
    if (t->external)
        return t->done == t->object_end ? GO(transfer_finish) : GO(transfer_buffer);
    if (t->done == t->range.len) {
        reader_settle(t->reader, &op->done); /* what was given may not have been checked yet */
        return AWAIT(transfer_settled);
    }
    if (t->done == t->object_end)
        return GO(transfer_finish);
    return t->slice.bytes.len ? GO(transfer_buffer) : GO(transfer_read);
}

static struct next transfer_settled(struct op *op)
{
    struct request *r = REQUEST(op);

    return op->done.err ? transfer_failed(r, op->done.err) : GO(transfer_finish);
}

static struct next transfer_finish(struct op *op)
{
    struct transfer *t = REQUEST(op)->transfer;

    writer_finish(TAKE(t->writer), &t->pieces[t->count].object, &op->done);
    return AWAIT(transfer_written);
}

static struct next transfer_written(struct op *op)
{
    struct request *r = REQUEST(op);
    struct transfer *t = r->transfer;

    if (op->done.err)
        return transfer_failed(r, op->done.err);
    t->pieces[t->count].length = t->done - t->object_start;
    t->count++;
    if (t->done < t->range.len)
        return GO(transfer_open);
    if (!t->chain)
        return GO(transfer_hashed);
    md5_chain_wait(t->chain, 0, &op->done);
    return AWAIT(transfer_hashed);
}

/* Buffers and the place go back at once; the objects are the caller's. */
static void transfer_end(struct request *r, struct transfer *t)
{
    t->slice = slice_unref(t->slice);
    r->buf = iobuf_unref(r->buf); /* begun, not pushed */
    t->reader = reader_close(t->reader);
    t->writer = writer_abort(t->writer);
    t->chain = md5_chain_close(t->chain);
    if (t->counted)
        atomic_fetch_sub(t->counted, 1);
    t->counted = NULL;
}

static struct next transfer_hashed(struct op *op)
{
    struct request *r = REQUEST(op);
    struct transfer *t = r->transfer;

    if (t->chain)
        md5_chain_end(t->chain, t->md5);
    transfer_end(r, t);
    return t->after;
}

void transfer_done(struct request *r, struct transfer *t)
{
    transfer_end(r, t);
    for (size_t i = 0; i < t->room; i++) /* the last one may not be counted yet */
        if (t->pieces[i].object)
            t->pieces[i].object = object_unref(t->pieces[i].object);
    t->count = t->room = 0;
}
