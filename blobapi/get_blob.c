/* blobapi/get_blob.c - Get Blob. A hit: find, head, (read, send)*; a miss adds open and fill. Steps
 * stand in the order a miss runs them. Loop thread.
 *
 * The head leaves with the first bytes, so that whatever fails before them is a proper error.
 * Afterwards only a cut can say "failed". The last 64 KiB wait until every byte given is confirmed
 * (G1): no complete answer ever holds unchecked bytes.
 *
 * A hash of the range stands in the head, so the range is read twice: hashed slice by slice, then
 * sent. Holding it instead (4 MiB are eight buffers) while waiting for the next buffer let some
 * hundred such requests empty the pool and wait for each other.
 *
 * A structured answer has the same bytes in segments: what stands between them is made as they are
 * sent, so all of the above holds for it too, and its last checksums leave with the last bytes. */
#include "base/crc64.h"
#include "base/digest.h"
#include "blobapi/handlers.h"
#include "blobapi/metrics.h"

#define GET_BLOB(op)    container_of(REQUEST(op), struct get_blob, r)
#define HELD_ROOM       16
#define FIRST_BYTES_MAX EXTENT_BYTES_MAX /* asked for along with an unknown blob's properties */
#define WITHHELD_BYTES  UNIT_BYTES
#define HASH_INLINE_MAX KIB(32) /* 50 us of MD5; a worker hashes what is longer */
#define SENT_MAX        16      /* slices, of one send */
#define FRAMED_MAX      3       /* slices of data that leave room for what structures them */
#define REFILLS_MAX     4       /* of one gap, without a byte of it having come in between */

static struct next get_found(struct op *op);
static struct next get_open(struct op *op);
static struct next get_read(struct op *op);
static struct next get_have(struct op *op);
static struct next get_filled(struct op *op);
static struct next get_hashed(struct op *op);
static struct next get_send(struct op *op);
static struct next get_sent(struct op *op);
static struct next get_settle(struct op *op);
static struct next get_settled(struct op *op);
static struct next get_end(struct op *op);
static struct next get_end_sent(struct op *op);

struct next get_start(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);
    struct span culprit = {NULL, 0};
    struct range first = {0, FIRST_BYTES_MAX};
    enum az_error error =
        range_request_parse(g->r.http->headers, g->r.http->header_count, &g->asked, &culprit);

    if (error)
        return culprit.len ? fail_header(&g->r, error, culprit) : fail(&g->r, error);
    if (g->asked.given) {
        first.start = g->asked.first;
        first.len = MIN(g->asked.last - g->asked.first, (uint64_t)FIRST_BYTES_MAX - 1) + 1;
    }
    return find_blob(&g->r, first, GO(get_found));
}

static struct next get_found(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);
    enum az_error error = read_verdict(&g->r);

    if (!error)
        error = tier_verdict(blob_record(g->r.blob));
    if (!error)
        error = range_resolve(&g->asked, blob_record(g->r.blob)->length, &g->range);
    if (error)
        return fail(&g->r, error);
    g->missed = g->r.learned;
    return GO(get_open);
}

static bool get_hashes(const struct get_blob *g)
{
    return g->asked.given && (g->asked.md5 || g->asked.crc64);
}

static void get_range_headers(struct get_blob *g, const struct blob_record *b)
{
    struct request *r = &g->r;

    if (!g->asked.given) {
        if (b->content_md5.len)
            answer_base64(r, SPAN("Content-MD5"), b->content_md5);
        return;
    }
    answer_add_text(
        r, SPAN("Content-Range"), "bytes %llu-%llu/%llu", (unsigned long long)g->range.start,
        (unsigned long long)(g->range.start + g->range.len - 1), (unsigned long long)b->length);
    if (b->content_md5.len)
        answer_base64(r, SPAN("x-ms-blob-content-md5"), b->content_md5);
    if (g->asked.md5)
        answer_base64(r, SPAN("Content-MD5"), span_from(g->md5, sizeof(g->md5)));
    if (g->asked.crc64)
        answer_crc64(r, g->crc64);
}

/* Content-Length of the answer. */
static uint64_t get_answer_bytes(struct get_blob *g)
{
    if (!g->r.structured)
        return g->range.len;
    structured_out_init(&g->structured, g->range.len);
    answer_add(&g->r, SPAN("x-ms-structured-body"), SPAN(STRUCTURED_TYPE));
    answer_u64(&g->r, SPAN("x-ms-structured-content-length"), g->range.len);
    return structured_body_bytes(&g->structured);
}

static void get_head(struct get_blob *g)
{
    const struct blob_record *b = blob_record(g->r.blob);

    if (g->r.head_sent)
        return;
    blob_headers(&g->r, g->r.blob);
    get_range_headers(g, b);
    hearth_headers(&g->r, b, g->missed);
    if (g->missed)
        STAT_INC(blobapi_misses);
    else
        STAT_INC(blobapi_hits);
    answer_ok(&g->r, g->asked.given ? 206 : 200, (int64_t)get_answer_bytes(g));
}

static struct next get_open(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);

    if (g->range.len == 0)
        return GO(get_end);
    g->hashing = get_hashes(g);
    if (g->hashing && g->asked.md5)
        g->hash = md5_new();
    g->crc64 = 0;
    g->reader = cache_reader_open(g->r.blob, g->range, READ_CLIENT);
    return GO(get_read);
}

/* What was read goes back. */
static void get_drop(struct get_blob *g)
{
    g->slice = slice_unref(g->slice);
    while (g->held_sent < g->held_count)
        slice_unref(g->held[g->held_sent++]);
    g->held_sent = g->held_count = 0;
    g->reader = reader_close(g->reader);
    g->hash = md5_free(g->hash);
    g->given = 0;
    g->refills = 0;
    g->unchecked = false;
}

/* The cloud has another version by now: before the head is out, answer with that one. */
static bool get_may_restart(struct get_blob *g, int err)
{
    return err == -ESTALE && !g->r.head_sent && g->restarts++ < FIND_ROUNDS_MAX;
}

static struct next get_failed(struct get_blob *g, int err)
{
    if (get_may_restart(g, err)) {
        get_drop(g);
        g->r.refetch = true; /* what is known here looks fresh and is not */
        return get_start(&g->r.op);
    }
    return g->r.head_sent || err == -ECANCELED ? cut(&g->r) : fail_errno(&g->r, err);
}

static struct next get_read(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);

    if (g->given == g->range.len)
        return g->unchecked || g->hashing ? GO(get_settle) : GO(get_end);
    reader_next(g->reader, &g->slice, &op->done);
    return AWAIT(get_have);
}

static void get_hold(struct get_blob *g, struct slice slice)
{
    if (g->held_count == g->held_room) {
        unsigned room = g->held_room ? g->held_room * 2 : HELD_ROOM;

        g->held = arena_grow(g->r.http->arena, g->held, g->held_room * sizeof(*g->held),
                             room * sizeof(*g->held));
        g->held_room = room;
    }
    g->held[g->held_count++] = slice;
}

/* Which bytes of the answer wait for get_settle: from here on. */
static uint64_t get_hold_from(const struct get_blob *g)
{
    if (!g->unchecked)
        return g->range.len;
    return g->range.len > WITHHELD_BYTES ? g->range.len - WITHHELD_BYTES : 0;
}

/* ---- the first pass, when a hash is asked for ---- */

static int get_hash_job(void *arg) /* loop or worker */
{
    struct get_blob *g = arg;

    if (g->hash)
        md5_add(g->hash, g->slice.bytes);
    else
        g->crc64 = crc64(g->crc64, g->slice.bytes.base, g->slice.bytes.len);
    return 0;
}

static struct next get_hash(struct get_blob *g)
{
    if (g->slice.bytes.len <= HASH_INLINE_MAX) {
        g->r.op.done.err = get_hash_job(g);
        return GO(get_hashed);
    }
    worker_run(g->r.api->conf.workers, get_hash_job, g, &g->r.op.done);
    return AWAIT(get_hashed);
}

static struct next get_hashed(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);

    if (op->done.err)
        return get_failed(g, op->done.err);
    if (g->slice.bytes.len == g->range.len) { /* one buffer is no more than any Get has */
        get_hold(g, g->slice);
        g->slice = (struct slice){0};
    }
    g->slice = slice_unref(g->slice);
    return GO(get_read);
}

/* All of it was read and is right: again, to send it, unless it is still at hand. */
static struct next get_second_pass(struct get_blob *g)
{
    g->hashing = false;
    if (g->hash)
        md5_end(g->hash, g->md5);
    if (g->held_count)
        return GO(get_end);
    get_drop(g);
    g->reader = cache_reader_open(g->r.blob, g->range, READ_AGAIN);
    return GO(get_read);
}

/* ---- reading and sending ---- */

/* A fill that fails is told to who reads it; one that ends well and leaves nothing to read (evicted
 * at once, refused before it began) must not become a loop of questions. */
static struct next get_fill(struct get_blob *g)
{
    if (g->refills++ == REFILLS_MAX)
        return get_failed(g, -EIO);
    g->missed = true;
    upstream_fill(g->r.api->conf.upstream, g->r.blob, reader_gap(g->reader), &g->r.op.done);
    return AWAIT(get_filled);
}

static struct next get_have(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);
    uint64_t start = g->given, from;

    if (op->done.err == -ENODATA && g->r.api->conf.upstream)
        return get_fill(g);
    if (op->done.err)
        return get_failed(g, op->done.err);
    g->refills = 0;
    g->given += g->slice.bytes.len;
    g->unchecked |= !g->slice.checked;
    if (g->hashing)
        return get_hash(g);
    from = get_hold_from(g);
    if (g->given <= from)
        return GO(get_send);
    if (start < from) { /* its front may leave */
        struct slice back = slice_ref(g->slice);

        back.bytes = span_skip(back.bytes, from - start);
        g->slice.bytes.len = from - start;
        get_hold(g, back);
        return GO(get_send);
    }
    get_hold(g, g->slice);
    g->slice = (struct slice){0};
    return GO(get_read);
}

static struct next get_filled(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);

    return op->done.err ? get_failed(g, op->done.err) : GO(get_read);
}

static unsigned get_frame(struct get_blob *g, struct slice *ret)
{
    char frame[STRUCTURED_FRAME_MAX];
    size_t n = structured_frame(&g->structured, frame);

    if (n)
        *ret = (struct slice){.bytes = arena_copy(g->r.http->arena, span_from(frame, n)),
                              .checked = true};
    return n != 0;
}

static_assert(EXTENT_BYTES_MAX <= STRUCTURED_SEGMENT_BYTES, "a slice lies in one extent");
/* data with what goes before, between and after its segments; takes the reference. It is no longer
 * than a segment: five slices at most. */
static unsigned get_framed(struct get_blob *g, struct slice data, struct slice *ret)
{
    unsigned n = 0;

    for (;;) {
        size_t room, len;

        n += get_frame(g, ret + n);
        room = (size_t)MIN(structured_room(&g->structured), (uint64_t)SIZE_MAX);
        len = MIN(room, data.bytes.len);
        if (!len)
            break;
        ret[n] = slice_ref(data);
        ret[n].bytes.len = len;
        structured_add(&g->structured, ret[n++].bytes);
        data.bytes = span_skip(data.bytes, len);
    }
    slice_unref(data);
    return n;
}

/* Takes the references. */
static void get_put(struct get_blob *g, const struct slice *slices, unsigned count)
{
    struct slice framed[SENT_MAX];
    unsigned n = 0;

    get_head(g);
    for (unsigned i = 0; i < count; i++) {
        STAT_ADD(blobapi_bytes_out, slices[i].bytes.len);
        if (g->r.structured)
            n += get_framed(g, slices[i], framed + n);
    }
    if (g->r.structured && !count)
        n = get_frame(g, framed); /* of no content */
    g->r.http->ops->send(g->r.http, g->r.structured ? framed : slices, g->r.structured ? n : count,
                         &g->r.op.done);
}

static struct next get_send(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);
    struct slice slice = g->slice;

    g->slice = (struct slice){0};
    get_put(g, &slice, 1);
    return AWAIT(get_sent);
}

static struct next get_sent(struct op *op)
{
    return op->done.err ? cut(REQUEST(op)) : GO(get_read);
}

static struct next get_settle(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);

    reader_settle(g->reader, &op->done);
    return AWAIT(get_settled);
}

static struct next get_settled(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);

    if (op->done.err)
        return get_failed(g, op->done.err);
    return g->hashing ? get_second_pass(g) : GO(get_end);
}

static struct next get_end(struct op *op)
{
    struct get_blob *g = GET_BLOB(op);
    unsigned n = MIN(g->held_count - g->held_sent, g->r.structured ? FRAMED_MAX : SENT_MAX);
    const struct slice *slices = g->held + g->held_sent;

    get_head(g); /* an empty blob, or all of it was withheld */
    if (!n && (!g->r.structured || g->structured.ended)) {
        g->r.whole = true;
        return FINISH;
    }
    g->held_sent += n;
    get_put(g, slices, n);
    return AWAIT(get_end_sent);
}

static struct next get_end_sent(struct op *op)
{
    return op->done.err ? cut(REQUEST(op)) : GO(get_end);
}

void get_done(struct request *r)
{
    get_drop(container_of(r, struct get_blob, r));
}
