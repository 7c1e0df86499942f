/* upstream/sink.c - the bytes of one ranged answer into one fill, and the proof that they are
 * right.
 *
 * The checksum is of the whole range asked for first: a cut answer is continued by further GETs
 * (same ETag), and what counts in the end is that the running digest over all of them equals it. */
#include "upstream/internal.h"

#include "base/crc64.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/text.h"
#include "upstream/metrics.h"

struct sink {
    struct upstream *upstream;
    struct blob *blob;
    struct fill *fill;
    struct fill_source source; /* of the fill's own run */
    uint64_t length;           /* bytes the GETs bring, >= the fill's */
    uint64_t at;               /* of these, taken so far */
    enum range_check want;     /* how the first answer is proved */
    bool have_want;
    uint64_t crc, want_crc;
    struct md5 *md5;
    unsigned char want_md5[MD5_BYTES];
    /* Back-pressure: the fill tells any thread; `hop` brings it to ours. */
    struct completion hop;
    _Atomic bool hopping;
    bool ended; /* while hopping: the hop frees */
    struct wan *feeder;
    struct completion *room; /* sink_await's */
};

static void sink_free(struct sink *sink)
{
    md5_free(sink->md5);
    blob_unref(sink->blob);
    free(sink);
}

bool sink_has_room(struct sink *sink)
{
    return fill_append(sink->fill, (struct span){NULL, 0}) != -EAGAIN;
}

void sink_await(struct sink *sink, struct completion *done)
{
    if (sink_has_room(sink))
        completion_post(done, 0);
    else
        sink->room = done;
}

static void sink_resumed(struct completion *hop)
{
    struct sink *sink = container_of(hop, struct sink, hop);

    atomic_store(&sink->hopping, false);
    if (sink->ended) {
        sink_free(sink);
        return;
    }
    if (sink->room && sink_has_room(sink))
        completion_post(TAKE(sink->room), 0);
    if (sink->feeder)
        wan_resume(sink->feeder);
}

static void sink_resume(void *arg) /* any thread */
{
    struct sink *sink = arg;

    if (!atomic_exchange(&sink->hopping, true))
        completion_post(&sink->hop, 0);
}

int sink_new(struct upstream *upstream, struct blob *blob, struct range range, struct sink **ret)
{
    struct fill *fill = NULL;
    int err = cache_fill_begin(blob, range, &fill);
    struct sink *sink;

    if (err)
        return err;
    sink = xcalloc(1, sizeof(*sink));
    sink->upstream = upstream;
    sink->blob = blob_ref(blob);
    sink->fill = fill;
    sink->source = fill_source(fill);
    sink->length = sink->source.bytes.len;
    sink->hop = (struct completion){.fn = sink_resumed, .loop = client_loop(upstream->client)};
    fill_on_resume(fill, sink_resume, sink);
    *ret = sink;
    return 0;
}

void sink_ask_check(struct sink *sink, struct wan *wan)
{
    if (sink &&
        (sink->have_want || sink->at)) /* a continuation: the first answer's checksum counts */
        return;
    wan->asked_kind = wan->remote->range_check;
    wan->asked_check = wan->asked_kind != RANGE_LENGTH;
    if (wan->remote->range_check == RANGE_CRC64)
        wan_header(wan, SPAN("x-ms-range-get-content-crc64"), SPAN("true"));
    else if (wan->remote->range_check == RANGE_MD5)
        wan_header(wan, SPAN("x-ms-range-get-content-md5"), SPAN("true"));
}

static bool take_crc(struct sink *sink, struct wan *wan)
{
    struct span text = wan_answer_header(&wan->answer, SPAN("x-ms-content-crc64"));
    unsigned char bytes[12];
    size_t n = 0;

    if (text.len != BASE64_BYTES(8) || base64_decode(text, bytes, &n) || n != 8)
        return false;
    memcpy(&sink->want_crc, bytes, 8);
    sink->want_crc = le64toh(sink->want_crc);
    sink->want = RANGE_CRC64;
    return true;
}

static bool take_md5(struct sink *sink, struct wan *wan)
{
    struct span text = wan_answer_header(&wan->answer, SPAN("content-md5"));
    unsigned char bytes[20];
    size_t n = 0;

    if (wan->answer.status != 206 || text.len != BASE64_BYTES(MD5_BYTES) ||
        base64_decode(text, bytes, &n) || n != MD5_BYTES)
        return false;
    memcpy(sink->want_md5, bytes, MD5_BYTES);
    sink->md5 = md5_new();
    sink->want = RANGE_MD5;
    return true;
}

static void take_check(struct sink *sink, struct wan *wan)
{
    sink->have_want = true;
    sink->want = RANGE_LENGTH;
    if (!take_crc(sink, wan) && !take_md5(sink, wan) && wan->asked_check)
        remote_lower_check(wan->remote, wan->asked_kind);
}

int sink_head(struct sink *sink, struct wan *wan)
{
    struct range got;
    uint64_t total;
    int err = answer_range(wan, &got, &total);

    if (err)
        return err;
    /* If-Match is only as good as what lies between: a proxy that drops it would mix versions. */
    if (!span_eq(wan_answer_header(&wan->answer, SPAN("etag")), sink->source.etag))
        return -ESTALE;
    if (got.start != sink->source.bytes.start + sink->at)
        return -EPROTO;
    if (!sink->at) {
        if (got.len < sink->source.bytes.len)
            return -EPROTO;
        sink->length = got.len; /* a first GET may bring more than the fill takes */
    }
    if (!sink->have_want)
        take_check(sink, wan);
    return sink->at + got.len == sink->length ? 0 : -EPROTO;
}

int sink_take(struct sink *sink, struct wan *wan, struct span bytes)
{
    uint64_t fill_left = sink->at < sink->source.bytes.len ? sink->source.bytes.len - sink->at : 0;
    struct span mine = span_from(bytes.base, MIN(bytes.len, fill_left));
    int err;

    if (sink->at + bytes.len > sink->length)
        return -EPROTO;
    sink->feeder = wan;
    err = mine.len ? fill_append(sink->fill, mine) : 0;
    if (err)
        return err == -EAGAIN ? WAN_PAUSE : err;
    if (sink->want == RANGE_CRC64)
        sink->crc = crc64(sink->crc, bytes.base, bytes.len);
    else if (sink->want == RANGE_MD5)
        md5_add(sink->md5, bytes);
    sink->at += bytes.len;
    return 0;
}

bool sink_complete(const struct sink *sink)
{
    return sink->have_want && sink->at == sink->length;
}

struct range sink_left(const struct sink *sink)
{
    return (struct range){sink->source.bytes.start + sink->at, sink->length - sink->at};
}

struct fill_source sink_source(const struct sink *sink)
{
    return sink->source;
}

void sink_detach(struct sink *sink)
{
    sink->feeder = NULL;
}

uint64_t sink_blob_end(const struct sink *sink)
{
    struct range run = fill_range(sink->fill);

    return run.start + run.len;
}

static int sink_verify(struct sink *sink)
{
    unsigned char md5[MD5_BYTES];

    if (!sink_complete(sink))
        return -EIO;
    if (sink->want == RANGE_CRC64)
        return sink->crc == sink->want_crc ? 0 : -EIO;
    if (sink->want == RANGE_LENGTH)
        return 0;
    md5_end(sink->md5, md5);
    return memcmp(md5, sink->want_md5, MD5_BYTES) ? -EIO : 0;
}

static void sink_count(struct sink *sink, int err)
{
    STAT_INC(upstream_fills);
    if (!err)
        STAT_ADD(upstream_fill_bytes, sink->source.bytes.len);
}

int sink_end(struct sink *sink, int err)
{
    bool exact = sink->length == sink->source.bytes.len && sink->want == RANGE_CRC64;

    if (!err && (err = sink_verify(sink))) {
        STAT_INC(upstream_fill_mismatches);
        log_warn_limited("bytes from the cloud do not match their checksum",
                         KV_SPAN("blob", blob_name(sink->blob)->blob),
                         KV_UINT("offset", sink->source.bytes.start));
    }
    sink_count(sink, err);
    fill_end(sink->fill, err, !err && exact ? &sink->want_crc : NULL);
    sink->ended = true;
    sink->feeder = NULL;
    if (!atomic_load(&sink->hopping)) /* after fill_end nobody resumes any more */
        sink_free(sink);
    return err;
}
