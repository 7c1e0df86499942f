/* blobapi/structured.c - see structured.h. The CRC of all data is combined from the segments', so
 * that each byte is looked at once. Content of no bytes goes as one empty segment: decoders of JS
 * that see no segment never end. */
#include "blobapi/structured.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/crc64.h"

#define VERSION           1
#define FLAG_CRC64        1
#define BYTES_PER_MESSAGE (STRUCTURED_HEADER_BYTES + STRUCTURED_CRC_BYTES)
#define BYTES_PER_SEGMENT (STRUCTURED_BEFORE_BYTES + STRUCTURED_CRC_BYTES)

bool structured_lengths_fit(uint64_t body_bytes, uint64_t content_bytes)
{
    uint64_t rest;

    if (body_bytes < content_bytes || body_bytes - content_bytes < BYTES_PER_MESSAGE)
        return false;
    rest = body_bytes - content_bytes - BYTES_PER_MESSAGE;
    return rest % BYTES_PER_SEGMENT == 0 && rest / BYTES_PER_SEGMENT <= STRUCTURED_SEGMENTS_MAX;
}

/* ---- what comes ---- */

void structured_in_init(struct structured_in *in, uint64_t body_bytes, uint64_t content_bytes)
{
    *in = (struct structured_in){.body_bytes = body_bytes, .content_left = content_bytes};
}

static int header_read(struct structured_in *in)
{
    uint64_t bytes = le64_get(in->frame + 1);

    in->segments = le16_get(in->frame + 11);
    if (in->frame[0] != VERSION || bytes != in->body_bytes ||
        le16_get(in->frame + 9) != FLAG_CRC64 ||
        bytes - in->content_left != BYTES_PER_MESSAGE + (uint64_t)BYTES_PER_SEGMENT * in->segments)
        return -EBADMSG;
    in->region = in->segments ? STRUCTURED_BEFORE : STRUCTURED_TRAILER;
    return 0;
}

static int before_read(struct structured_in *in)
{
    in->number++;
    in->segment_bytes = in->segment_left = le64_get(in->frame + 2);
    in->segment_crc64 = 0;
    if (le16_get(in->frame) != in->number || in->segment_bytes > in->content_left)
        return -EBADMSG;
    in->region = in->segment_left ? STRUCTURED_DATA : STRUCTURED_AFTER;
    return 0;
}

static int after_read(struct structured_in *in)
{
    if (le64_get(in->frame) != in->segment_crc64)
        return -EILSEQ;
    in->crc64 = crc64_combine(in->crc64, in->segment_crc64, in->segment_bytes);
    in->region = in->number < in->segments ? STRUCTURED_BEFORE : STRUCTURED_TRAILER;
    return 0;
}

static int trailer_read(struct structured_in *in)
{
    if (in->content_left)
        return -EBADMSG;
    if (le64_get(in->frame) != in->crc64)
        return -EILSEQ;
    in->region = STRUCTURED_WHOLE;
    return 0;
}

/* Some bytes of the region that is not data; at its end, what it says. */
static int frame_read(struct structured_in *in, const char *bytes, size_t n, size_t *ret_taken)
{
    static const struct {
        unsigned bytes;
        int (*read)(struct structured_in *in);
    } regions[] = {
        [STRUCTURED_HEADER] = {STRUCTURED_HEADER_BYTES, header_read},
        [STRUCTURED_BEFORE] = {STRUCTURED_BEFORE_BYTES, before_read},
        [STRUCTURED_AFTER] = {STRUCTURED_CRC_BYTES, after_read},
        [STRUCTURED_TRAILER] = {STRUCTURED_CRC_BYTES, trailer_read},
    };
    unsigned want = regions[in->region].bytes;
    size_t taken = MIN(n, (size_t)(want - in->frame_bytes));

    memcpy(in->frame + in->frame_bytes, bytes, taken);
    in->frame_bytes += (unsigned)taken;
    *ret_taken = taken;
    if (in->frame_bytes < want)
        return 0;
    in->frame_bytes = 0;
    return regions[in->region].read(in);
}

static size_t data_read(struct structured_in *in, char *to, const char *bytes, size_t n)
{
    size_t taken = (size_t)MIN((uint64_t)n, in->segment_left);

    in->segment_crc64 = crc64(in->segment_crc64, bytes, taken);
    if (to != bytes)
        memmove(to, bytes, taken);
    in->segment_left -= taken;
    in->content_left -= taken;
    if (!in->segment_left)
        in->region = STRUCTURED_AFTER;
    return taken;
}

int structured_decode(struct structured_in *in, char *bytes, size_t n, size_t *ret)
{
    size_t at = 0, out = 0, taken = 0;

    while (at < n) {
        if (in->region == STRUCTURED_WHOLE)
            return -EBADMSG; /* and more */
        if (in->region == STRUCTURED_DATA) {
            taken = data_read(in, bytes + out, bytes + at, n - at);
            out += taken;
        } else {
            int err = frame_read(in, bytes + at, n - at, &taken);

            if (err)
                return err;
        }
        at += taken;
    }
    *ret = out;
    return 0;
}

/* ---- what goes ---- */

static uint64_t rounded_up(uint64_t n, uint64_t by)
{
    return n / by + (n % by != 0);
}

void structured_out_init(struct structured_out *out, uint64_t content_bytes)
{
    uint64_t least = rounded_up(content_bytes, STRUCTURED_SEGMENTS_MAX);
    uint64_t segment = MAX((uint64_t)STRUCTURED_SEGMENT_BYTES, least);

    *out = (struct structured_out){
        .content_bytes = content_bytes,
        .content_left = content_bytes,
        .segment_bytes = segment,
        .segments = (unsigned)MAX(rounded_up(content_bytes, segment), (uint64_t)1)};
}

uint64_t structured_body_bytes(const struct structured_out *out)
{
    return out->content_bytes + BYTES_PER_MESSAGE + (uint64_t)BYTES_PER_SEGMENT * out->segments;
}

static size_t header_write(const struct structured_out *out, char *ret)
{
    ret[0] = VERSION;
    le64_put(ret + 1, structured_body_bytes(out));
    le16_put(ret + 9, FLAG_CRC64);
    le16_put(ret + 11, (uint16_t)out->segments);
    return STRUCTURED_HEADER_BYTES;
}

static size_t before_write(struct structured_out *out, char *ret)
{
    out->segment_left = MIN(out->segment_bytes, out->content_left);
    out->segment_crc64 = 0;
    le16_put(ret, (uint16_t)++out->number);
    le64_put(ret + 2, out->segment_left);
    return STRUCTURED_BEFORE_BYTES;
}

static size_t after_write(struct structured_out *out, char *ret)
{
    uint64_t bytes = out->number < out->segments
                         ? out->segment_bytes
                         : out->content_bytes - out->segment_bytes * (out->segments - 1);

    out->crc64 = crc64_combine(out->crc64, out->segment_crc64, bytes);
    le64_put(ret, out->segment_crc64);
    return STRUCTURED_CRC_BYTES;
}

size_t structured_frame(struct structured_out *out, char ret[STRUCTURED_FRAME_MAX])
{
    size_t n = 0;

    if (out->ended || (out->begun && out->segment_left))
        return 0;
    if (!out->begun) {
        n = header_write(out, ret);
        n += before_write(out, ret + n);
        out->begun = true;
        if (out->segment_left)
            return n;
    }
    n += after_write(out, ret + n);
    if (out->number < out->segments)
        return n + before_write(out, ret + n);
    le64_put(ret + n, out->crc64);
    out->ended = true;
    return n + STRUCTURED_CRC_BYTES;
}

uint64_t structured_room(const struct structured_out *out)
{
    return out->segment_left;
}

void structured_add(struct structured_out *out, struct span data)
{
    assert(data.len <= out->segment_left);
    out->segment_crc64 = crc64(out->segment_crc64, data.base, data.len);
    out->segment_left -= data.len;
    out->content_left -= data.len;
}
