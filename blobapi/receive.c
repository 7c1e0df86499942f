/* blobapi/receive.c - a request's body into an object of the cache: Put Blob and Put Block.
 *
 * Steps: (space) -> wait for bytes -> (buffer, read, push)* -> finish -> hashes compared. The body
 * A structured body is decoded in the buffer it was read into, its checksums compared as each
 * segment ends; what is left of it after the last byte of content is read for itself. The body lies
 * written but invisible until a change refers to it; every other way out gives it back. Bytes of
 * bodies larger than MD5_INLINE_BYTES are hashed by workers beside the receive (measured: 0.65 GB/s
 * of one core, which on the loop would halve what the socket can take). */
#include "base/clock.h"
#include "base/log.h"
#include "blobapi/md5_chain.h"
#include "blobapi/metrics.h"
#include "blobapi/request.h"

#define MD5_INLINE_BYTES  KIB(32)
#define SPACE_WAIT_NS     (5 * NS_PER_SEC) /* queued before it is refused: a 503 costs Python 15 s */
#define SPACE_RETRY_NS    (50 * NS_PER_MS)
#define SPACE_WAITING_MAX 1024 /* requests queued for space at once */

static struct next receive_open(struct op *op);
static struct next receive_wait(struct op *op);
static struct next receive_buffer(struct op *op);
static struct next receive_read(struct op *op);
static struct next receive_push(struct op *op);
static struct next receive_pushed(struct op *op);
static struct next receive_rest(struct op *op);
static struct next receive_rest_wait(struct op *op);
static struct next receive_rest_buffer(struct op *op);
static struct next receive_rest_read(struct op *op);
static struct next receive_finish(struct op *op);
static struct next receive_written(struct op *op);
static struct next receive_hashed(struct op *op);

static bool receive_hashes_md5(const struct receive *rx)
{
    return rx->want_md5 || rx->want.has_md5;
}

static bool receive_inline_md5(const struct request *r)
{
    return r->content_bytes <= MD5_INLINE_BYTES;
}

struct next receive_body(struct request *r, struct receive *receive, struct next after)
{
    assert(!r->receive && r->http->body_bytes >= 0);
    r->receive = receive;
    r->receive_after = after;
    if (r->structured)
        structured_in_init(&receive->structured, (uint64_t)r->http->body_bytes, r->content_bytes);
    return GO(receive_open);
}

/* Space for the whole body is not there: what is clean is being evicted, what is dirty goes to the
 * cloud. Wait a moment, then say so. */
static struct next receive_no_space(struct request *r)
{
    struct receive *rx = r->receive;
    uint64_t now = clock_mono_ns();

    if (!rx->space_deadline_ns) {
        if (atomic_fetch_add(&r->api->waiting_for_space, 1) >= SPACE_WAITING_MAX) {
            atomic_fetch_sub(&r->api->waiting_for_space, 1);
            return fail_errno(r, -ENOSPC);
        }
        rx->space_deadline_ns = now + SPACE_WAIT_NS;
    }
    if (now >= rx->space_deadline_ns)
        return fail_errno(r, -ENOSPC);
    request_sleep(r, SPACE_RETRY_NS);
    return AWAIT(receive_open);
}

static void receive_has_space(struct request *r)
{
    if (r->receive->space_deadline_ns)
        atomic_fetch_sub(&r->api->waiting_for_space, 1);
    r->receive->space_deadline_ns = 0;
}

static struct next receive_open(struct op *op)
{
    struct request *r = REQUEST(op);
    struct receive *rx = r->receive;
    struct write_opts opts = {r->contract, (int64_t)r->content_bytes, rx->staged};
    int err;

    if (r->content_bytes == 0)
        return GO(receive_rest); /* no bytes, no object */
    err = cache_writer_open(r->api->conf.cache, &opts, &rx->writer);
    if (err == -ENOSPC)
        return receive_no_space(r);
    receive_has_space(r); /* an upload that waited once is no longer in the queue */
    if (err)
        return fail_errno(r, err);
    if (receive_hashes_md5(rx) && !receive_inline_md5(r))
        rx->chain = md5_chain_open(r->api->conf.workers, r->http->loop);
    r->http->ops->read(r->http, NULL, &op->done); /* a silent client holds no buffer */
    return AWAIT(receive_wait);
}

static struct next receive_failed(struct request *r, int err)
{
    if (err == -EBADMSG)
        return fail(r, AZ_INVALID_INPUT);
    if (err == -ECANCELED)
        return cut(r);
    return fail_errno(r, err);
}

static struct next receive_wait(struct op *op)
{
    struct request *r = REQUEST(op);

    return op->done.err ? receive_failed(r, op->done.err) : GO(receive_buffer);
}

static struct next receive_buffer(struct op *op)
{
    struct request *r = REQUEST(op);

    r->receive->decoded = 0;
    writer_buffer(r->receive->writer, &r->buf, &op->done);
    return AWAIT(receive_read);
}

static struct next receive_read(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return receive_failed(r, op->done.err);
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(receive_push);
}

static void receive_hash(struct request *r, struct receive *rx)
{
    struct md5 *md5;

    if (rx->chain)
        md5_chain_push(rx->chain, r->buf);
    else if (receive_hashes_md5(rx)) { /* a small body comes in one buffer */
        md5 = md5_new();
        md5_add(md5, span_from(r->buf->base, r->buf->used));
        md5_end(md5, rx->md5);
        md5_free(md5);
    }
}

/* Of what was read just now into the buffer. */
static int receive_decode(struct request *r)
{
    struct receive *rx = r->receive;
    struct iobuf *buf = r->buf;
    size_t content;
    int err;

    if (!r->structured)
        return 0;
    err = structured_decode(&rx->structured, buf->base + rx->decoded, buf->used - rx->decoded,
                            &content);
    if (!err)
        buf->used = rx->decoded += (uint32_t)content;
    return err;
}

/* What structured the body took room from its content: only the last buffer may be part full. */
static bool receive_has_room(const struct request *r)
{
    return r->structured && !r->http->body_ended && r->buf->used < r->buf->size &&
           r->receive->received + r->buf->used < r->content_bytes;
}

static struct next receive_undecodable(struct request *r, int err)
{
    return fail(r, err == -EILSEQ ? AZ_CRC64_MISMATCH : AZ_INVALID_INPUT);
}

static struct next receive_push(struct op *op)
{
    struct request *r = REQUEST(op);
    struct receive *rx = r->receive;
    int err = op->done.err;

    if (err)
        return receive_failed(r, err);
    err = receive_decode(r);
    if (err)
        return receive_undecodable(r, err);
    if (receive_has_room(r))
        return GO(receive_read);
    rx->received += r->buf->used;
    if (r->buf->used) {
        receive_hash(r, rx);
        writer_push(rx->writer, TAKE(r->buf));
    }
    r->buf = iobuf_unref(r->buf);
    if (r->http->body_ended || rx->received == r->content_bytes)
        return GO(receive_rest);
    if (!rx->chain || md5_chain_waiting(rx->chain) < MD5_CHAIN_MAX)
        return GO(receive_buffer);
    md5_chain_wait(rx->chain, MD5_CHAIN_MAX - 1, &op->done);
    return AWAIT(receive_pushed);
}

static struct next receive_pushed(struct op *op)
{
    return GO(receive_buffer);
}

/* All content is there; a structured body has its last checksums still to come. */
static struct next receive_rest(struct op *op)
{
    struct request *r = REQUEST(op);

    if (!r->http->body_ended) {
        r->http->ops->read(r->http, NULL, &op->done);
        return AWAIT(receive_rest_wait);
    }
    if (r->structured && r->receive->structured.region != STRUCTURED_WHOLE)
        return receive_undecodable(r, -EBADMSG);
    return r->receive->writer ? GO(receive_finish) : GO(receive_written);
}

static struct next receive_rest_wait(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return receive_failed(r, op->done.err);
    if (r->http->body_ended)
        return GO(receive_rest);
    iobuf_get(IOBUF_4K, &r->buf, &op->done);
    return AWAIT(receive_rest_buffer);
}

static struct next receive_rest_buffer(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return receive_failed(r, op->done.err);
    r->receive->decoded = 0;
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(receive_rest_read);
}

static struct next receive_rest_read(struct op *op)
{
    struct request *r = REQUEST(op);
    int err = op->done.err;

    if (err)
        return receive_failed(r, err);
    err = receive_decode(r);
    r->buf = iobuf_unref(r->buf);
    return err ? receive_undecodable(r, err) : GO(receive_rest);
}

static struct next receive_finish(struct op *op)
{
    struct request *r = REQUEST(op);

    STAT_ADD(blobapi_bytes_in, r->receive->received);
    writer_finish(TAKE(r->receive->writer), &r->receive->object, &op->done);
    return AWAIT(receive_written);
}

static void receive_empty_md5(struct receive *rx)
{
    struct md5 *md5 = md5_new();

    md5_end(md5, rx->md5);
    md5_free(md5);
}

static struct next receive_written(struct op *op)
{
    struct request *r = REQUEST(op);
    struct receive *rx = r->receive;

    if (r->content_bytes == 0) {
        receive_empty_md5(rx);
        return GO(receive_hashed);
    }
    if (op->done.err)
        return fail_errno(r, op->done.err);
    rx->crc64 = object_crc64(rx->object);
    if (!rx->chain)
        return GO(receive_hashed);
    md5_chain_wait(rx->chain, 0, &op->done);
    return AWAIT(receive_hashed);
}

static struct next receive_hashed(struct op *op)
{
    struct request *r = REQUEST(op);
    struct receive *rx = r->receive;

    if (rx->chain)
        md5_chain_end(rx->chain, rx->md5);
    rx->chain = md5_chain_close(rx->chain);
    if (rx->want.has_md5 && memcmp(rx->want.md5, rx->md5, sizeof(rx->md5)) != 0)
        return fail(r, AZ_MD5_MISMATCH);
    if (rx->want.has_crc64 && rx->want.crc64 != rx->crc64)
        return fail(r, AZ_CRC64_MISMATCH);
    if (r->structured && rx->structured.crc64 != rx->crc64) /* what was written is what was sent */
        return fail(r, AZ_CRC64_MISMATCH);
    if (r->structured)
        answer_add(r, SPAN("x-ms-structured-body"), SPAN(STRUCTURED_TYPE));
    return r->receive_after;
}

void receive_done(struct request *r)
{
    struct receive *rx = r->receive;

    if (!rx)
        return;
    rx->writer = writer_abort(rx->writer);
    rx->chain = md5_chain_close(rx->chain);
    rx->object = rx->object ? object_unref(rx->object) : NULL;
    receive_has_space(r);
    r->receive = NULL;
}
