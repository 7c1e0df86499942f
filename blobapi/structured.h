/* blobapi/structured.h - structured bodies, "XSM/1.0; properties=crc64": content in segments, each
 * followed by its CRC64, all of it by one more (surface section 3).
 *
 *     header 13: version u8 1 | bytes of the whole u64 | flags u16 1 | segments u16
 *     segment: number u16 from 1 | bytes u64 | data | crc64 u64        trailer 8: crc64 of all data
 *
 * Little-endian. Decodes and encodes piece by piece; keeps no data. Pure; any thread, one at a
 * time.
 */
#ifndef BLOBAPI_STRUCTURED_H
#define BLOBAPI_STRUCTURED_H

#include "base/span.h"
#include "base/util.h"

#define STRUCTURED_TYPE          "XSM/1.0; properties=crc64" /* of x-ms-structured-body */
#define STRUCTURED_HEADER_BYTES  13
#define STRUCTURED_BEFORE_BYTES  10 /* a segment's data */
#define STRUCTURED_CRC_BYTES     8
#define STRUCTURED_SEGMENTS_MAX  UINT16_MAX
#define STRUCTURED_SEGMENT_BYTES MIB(4) /* of what is sent, as the SDKs' */
/* The most that stands between two pieces of data, or before the first, or after the last. */
#define STRUCTURED_FRAME_MAX                                                                       \
    (STRUCTURED_HEADER_BYTES + STRUCTURED_BEFORE_BYTES + 2 * STRUCTURED_CRC_BYTES)

/* Can a body of that many bytes hold so much content, in some number of segments? */
bool structured_lengths_fit(uint64_t body_bytes, uint64_t content_bytes);

/* ---- what comes ---- */

enum structured_region {
    STRUCTURED_HEADER,
    STRUCTURED_BEFORE, /* a segment's data */
    STRUCTURED_DATA,
    STRUCTURED_AFTER, /* it */
    STRUCTURED_TRAILER,
    STRUCTURED_WHOLE,
};
struct structured_in {
    enum structured_region region;
    uint64_t body_bytes;   /* as Content-Length says */
    uint64_t content_left; /* of what x-ms-structured-content-length says */
    uint64_t segment_bytes, segment_left;
    unsigned segments, number;
    unsigned char frame[STRUCTURED_HEADER_BYTES]; /* what is there of the region, but of data */
    unsigned frame_bytes;
    uint64_t segment_crc64;
    uint64_t crc64; /* of the segments that have ended: STRUCTURED_WHOLE: of the content */
};
void structured_in_init(struct structured_in *in, uint64_t body_bytes, uint64_t content_bytes);
/* The next bytes of the body; the content among them moves to their front. 0: *ret bytes of it.
 * -EBADMSG: not such a body, or not of these lengths; -EILSEQ: a checksum is not that of the data.
 */
int structured_decode(struct structured_in *in, char *bytes, size_t n, size_t *ret) must_check;

/* ---- what goes ---- */

struct structured_out {
    uint64_t content_bytes, content_left;
    uint64_t segment_bytes, segment_left;
    unsigned segments, number;
    bool begun, ended;
    uint64_t segment_crc64, crc64;
};
void structured_out_init(struct structured_out *out, uint64_t content_bytes);
/* Of the whole body. */
uint64_t structured_body_bytes(const struct structured_out *out);
/* What goes before the next data, or after the last: 0 bytes in the middle of a segment. */
size_t structured_frame(struct structured_out *out, char ret[STRUCTURED_FRAME_MAX]);
/* How much data may go before structured_frame is to be asked again. */
uint64_t structured_room(const struct structured_out *out);
/* That data goes; no more than there is room for. */
void structured_add(struct structured_out *out, struct span data);

#endif
