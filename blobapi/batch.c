/* blobapi/batch.c - Blob Batch: up to 256 Delete Blob or Set Blob Tier in one request.
 *
 * Steps: room for the body -> (wait, buffer, read, copy)* -> parse -> judge -> run -> answer. The
 * body is read whole before anything runs: a batch cut short changes nothing. What is wrong with
 * the whole is, as the service has it, a 202 whose one part is the error and has no Content-ID; the
 * SDKs look for it there. Parts answer in the order they were sent, which Python's relies on. */
#include <errno.h>

#include "base/clock.h"
#include "blobapi/handlers.h"
#include "blobapi/metrics.h"

#define BATCH(op)              container_of(REQUEST(op), struct batch, r)
#define BODIES_BYTES_MAX       MIB(16) /* of all batches at once, as announced */
#define ROOM_WAIT_NS           (5 * NS_PER_SEC)
#define ROOM_RETRY_NS          (20 * NS_PER_MS)
#define PARSE_INLINE_BYTES_MAX KIB(64)
#define FIRST_ROOM_BYTES       KIB(16)

static struct next batch_room(struct op *op);
static struct next batch_receive(struct op *op);
static struct next batch_waited(struct op *op);
static struct next batch_buffered(struct op *op);
static struct next batch_read(struct op *op);
static struct next batch_complete(struct op *op);
static struct next batch_parsed(struct op *op);
static struct next batch_refused(struct op *op);
static struct next batch_ran(struct op *op);
static struct next batch_answer(struct op *op);
static struct next batch_send(struct op *op);
static struct next batch_fill(struct op *op);
static struct next batch_sent(struct op *op);

struct next batch_start(struct op *op)
{
    struct batch *b = BATCH(op);
    struct span type = exchange_header(b->r.http, SPAN("content-type"));

    if (!type.len)
        return fail_header(&b->r, AZ_MISSING_REQUIRED_HEADER, SPAN("content-type"));
    if (batch_boundary(type, &b->boundary) < 0)
        return fail_header(&b->r, AZ_INVALID_HEADER_VALUE, SPAN("content-type"));
    b->deadline_ns = clock_mono_ns() + ROOM_WAIT_NS;
    return GO(batch_room);
}

/* ---- the body ---- */

static struct next batch_room(struct op *op)
{
    struct batch *b = BATCH(op);
    struct request *r = &b->r;
    uint64_t want = r->http->body_bytes < 0 ? BATCH_BYTES_MAX : (uint64_t)r->http->body_bytes;

    if (atomic_fetch_add(&r->api->batch_bytes, want) + want > BODIES_BYTES_MAX) {
        atomic_fetch_sub(&r->api->batch_bytes, want);
        if (clock_mono_ns() >= b->deadline_ns)
            return fail_errno(r, -EBUSY);
        request_sleep(r, ROOM_RETRY_NS);
        return AWAIT(batch_room);
    }
    b->reserved = want;
    return GO(batch_receive);
}

static struct next batch_receive(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->http->body_ended)
        return GO(batch_complete);
    r->http->ops->read(r->http, NULL, &op->done); /* a silent client holds no buffer */
    return AWAIT(batch_waited);
}

static struct next batch_read_failed(struct request *r, int err)
{
    return err == -EBADMSG ? fail(r, AZ_INVALID_INPUT) : cut(r);
}

static struct next batch_waited(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return batch_read_failed(r, op->done.err);
    if (r->http->body_ended)
        return GO(batch_complete);
    iobuf_get(IOBUF_64K, &r->buf, &op->done);
    return AWAIT(batch_buffered);
}

static struct next batch_buffered(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return cut(r);
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(batch_read);
}

static void text_add(struct batch *b, struct span bytes)
{
    if (b->room - b->len < bytes.len) {
        b->room = MAX(MAX(b->room * 2, (size_t)FIRST_ROOM_BYTES), b->len + bytes.len);
        b->text = xrealloc(b->text, b->room);
    }
    memcpy(b->text + b->len, bytes.base, bytes.len);
    b->len += bytes.len;
}

static struct next batch_read(struct op *op)
{
    struct batch *b = BATCH(op);
    struct request *r = &b->r;

    if (op->done.err)
        return batch_read_failed(r, op->done.err);
    if (b->len + r->buf->used > BATCH_BYTES_MAX) /* chunked: no length said so before */
        return fail(r, AZ_REQUEST_BODY_TOO_LARGE);
    text_add(b, span_from(r->buf->base, r->buf->used));
    r->buf = iobuf_unref(r->buf);
    return GO(batch_receive);
}

/* ---- its parts ---- */

static int batch_parse_job(void *arg) /* loop or worker */
{
    struct batch *b = arg;

    return batch_parse(span_from(b->text, b->len), b->boundary, b->r.http->arena, &b->run.parts,
                       &b->run.count);
}

static struct next batch_refuse(struct batch *b, enum az_error error)
{
    b->r.error = error;
    return emit_begin(&b->r, IOBUF_4K, GO(batch_refused));
}

static struct next batch_judge(struct batch *b, int err)
{
    struct request *r = &b->r;
    char *boundary = arena_alloc(r->http->arena, sizeof(BATCH_BOUNDARY) - 1 + REQUEST_ID_BYTES);
    enum az_error error;

    if (err == -EBUSY)
        return fail_errno(r, err);
    memcpy(boundary, BATCH_BOUNDARY, sizeof(BATCH_BOUNDARY) - 1);
    request_id_make(boundary + sizeof(BATCH_BOUNDARY) - 1);
    b->run.whole = r;
    b->run.boundary = span_from(boundary, sizeof(BATCH_BOUNDARY) - 1 + REQUEST_ID_BYTES);
    if (err)
        return batch_refuse(b,
                            err == -E2BIG ? AZ_EXCEEDS_MAX_BATCH_REQUEST_COUNT : AZ_INVALID_INPUT);
    error = batch_run_judge(&b->run);
    if (error)
        return batch_refuse(b, error);
    b->run.answers = arena_zalloc(r->http->arena, b->run.count * sizeof(*b->run.answers));
    batch_run_start(&b->run, &r->op.done);
    return AWAIT(batch_ran);
}

static struct next batch_complete(struct op *op)
{
    struct batch *b = BATCH(op);

    if (b->len <= PARSE_INLINE_BYTES_MAX)
        return batch_judge(b, batch_parse_job(b));
    worker_run(b->r.api->conf.workers, batch_parse_job, b, &op->done);
    return AWAIT(batch_parsed);
}

static struct next batch_parsed(struct op *op)
{
    return batch_judge(BATCH(op), op->done.err);
}

/* ---- the answer ---- */

static struct next batch_refused(struct op *op)
{
    struct batch *b = BATCH(op);
    struct request *r = &b->r;
    struct header headers[] = {
        {.name = SPAN("x-ms-error-code"), .value = az_code(r->error)},
        {.name = SPAN("x-ms-request-id"), .value = span_from(r->id, REQUEST_ID_BYTES)},
        {.name = SPAN("x-ms-version"), .value = r->version},
        {.name = SPAN("Content-Type"), .value = SPAN("application/xml")},
        {.name = SPAN("Server"), .value = SPAN("")}, /* the part's own is written */
    };
    struct response response = {.status = az_status(r->error),
                                .reason = az_message(r->error),
                                .headers = headers,
                                .header_count = countof(headers)};
    struct slice body;

    STAT_INC(blobapi_refusals);
    error_emit(r);
    (void)emit_take(r->emit, &body, 1); /* 4 KiB hold it: no text of the client's is in it */
    b->run.count = 1;
    b->run.answers = arena_alloc(r->http->arena, sizeof(*b->run.answers));
    b->run.answers[0] = batch_part_text(&b->run, (struct span){NULL, 0}, &response, body.bytes);
    slice_unref(body);
    return GO(batch_answer);
}

static struct next batch_ran(struct op *op)
{
    return op->done.err ? cut(REQUEST(op)) : GO(batch_answer);
}

static struct next batch_answer(struct op *op)
{
    struct batch *b = BATCH(op);
    struct span boundary = b->run.boundary;

    b->closing = arena_printf(b->r.http->arena, "--%.*s--", SPAN_FMT(boundary));
    answer_add_text(&b->r, SPAN("Content-Type"), "multipart/mixed; boundary=%.*s",
                    SPAN_FMT(boundary));
    answer_ok(&b->r, 202, -1);
    return GO(batch_send);
}

static struct next batch_send(struct op *op)
{
    struct batch *b = BATCH(op);

    if (b->at > b->run.count) {
        b->r.whole = true;
        return FINISH;
    }
    iobuf_get(IOBUF_64K, &b->r.buf, &op->done);
    return AWAIT(batch_fill);
}

static struct next batch_fill(struct op *op)
{
    struct batch *b = BATCH(op);
    struct iobuf *buf = b->r.buf;
    struct slice slice;

    if (op->done.err)
        return cut(&b->r);
    while (b->at <= b->run.count && buf->used < buf->size) {
        struct span *text = b->at < b->run.count ? &b->run.answers[b->at] : &b->closing;
        size_t n = MIN(text->len, (size_t)(buf->size - buf->used));

        memcpy(buf->base + buf->used, text->base, n);
        buf->used += (uint32_t)n;
        *text = span_skip(*text, n);
        b->at += !text->len;
    }
    slice = (struct slice){TAKE(b->r.buf), span_from(buf->base, buf->used), true};
    b->r.http->ops->send(b->r.http, &slice, 1, &op->done);
    return AWAIT(batch_sent);
}

static struct next batch_sent(struct op *op)
{
    return op->done.err ? cut(REQUEST(op)) : GO(batch_send);
}

void batch_done(struct request *r)
{
    struct batch *b = container_of(r, struct batch, r);

    assert(!b->run.running);
    free(b->text);
    atomic_fetch_sub(&r->api->batch_bytes, b->reserved);
}
