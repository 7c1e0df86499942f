/* Goal: structured bodies are read and written as the service's, and no damaged one is taken for a
 * good one. Method: the SDK's own bytes (test-vectors.json); bodies fed in pieces of every size,
 * cut short, with every byte changed; what is written is read back. */
#include "tests/unit/unit.h"

#include "base/bytes.h"
#include "base/crc64.h"
#include "base/text.h"
#include "blobapi/structured.h"

/* "hello" as @azure/storage-common 12.5.0 wrote it. */
static const unsigned char hello[] = {
    0x01, 0x2c, 0,    0,    0,    0,    0,    0,    0,    0x01, 0,    0x01, 0,    0x01, 0,
    0x05, 0,    0,    0,    0,    0,    0,    0,    'h',  'e',  'l',  'l',  'o',  0x57, 0x42,
    0x52, 0x06, 0x70, 0x85, 0x77, 0x33, 0x57, 0x42, 0x52, 0x06, 0x70, 0x85, 0x77, 0x33};

struct body {
    char bytes[4096];
    size_t n;
};

static void body_add(struct body *b, const void *bytes, size_t n)
{
    assert_true(b->n + n <= sizeof(b->bytes));
    if (n)
        memcpy(b->bytes + b->n, bytes, n);
    b->n += n;
}

static void body_u64(struct body *b, uint64_t v)
{
    char le[8];

    le64_put(le, v);
    body_add(b, le, 8);
}

static void body_u16(struct body *b, unsigned v)
{
    char le[2];

    le16_put(le, (uint16_t)v);
    body_add(b, le, 2);
}

/* Segments of these lengths over the digits. */
static struct body body_of(const size_t *lengths, unsigned count)
{
    static const char digits[] = "0123456789012345678901234567890123456789";
    struct body b = {.n = 0};
    size_t at = 0, all = 0;

    for (unsigned i = 0; i < count; i++)
        all += lengths[i];
    body_add(&b, "\x01", 1);
    body_u64(&b, all + 21 + 18 * count);
    body_u16(&b, 1);
    body_u16(&b, count);
    for (unsigned i = 0; i < count; i++) {
        body_u16(&b, i + 1);
        body_u64(&b, lengths[i]);
        body_add(&b, digits + at, lengths[i]);
        body_u64(&b, crc64(0, digits + at, lengths[i]));
        at += lengths[i];
    }
    body_u64(&b, crc64(0, digits, all));
    return b;
}

/* Fed in pieces; 0 when it is whole and good, the content then in ret. */
static int decode(struct body b, size_t piece, uint64_t body_bytes, uint64_t content_bytes,
                  struct body *ret)
{
    struct structured_in in;

    ret->n = 0;
    structured_in_init(&in, body_bytes, content_bytes);
    for (size_t at = 0; at < b.n; at += piece) {
        size_t n = MIN(piece, b.n - at), got = 0;
        int err = structured_decode(&in, b.bytes + at, n, &got);

        if (err)
            return err;
        assert_true(got <= n);
        body_add(ret, b.bytes + at, got);
    }
    if (in.region != STRUCTURED_WHOLE)
        return -EAGAIN;
    assert_int_equal(ret->n, content_bytes);
    assert_true(in.crc64 == crc64(0, ret->bytes, ret->n));
    return 0;
}

static void test_structured__reads_what_the_sdk_wrote(void **state)
{
    struct body b = {.n = 0}, got;

    body_add(&b, hello, sizeof(hello));
    for (size_t piece = 1; piece <= b.n; piece++) {
        assert_int_equal(decode(b, piece, 44, 5, &got), 0);
        assert_memory_equal(got.bytes, "hello", 5);
    }
}

static const size_t shapes[][4] = {{0}, {1}, {40}, {3, 3, 1}, {0, 5, 0, 2}, {7, 0}, {1, 1, 1, 1}};
static const unsigned counts[] = {1, 1, 1, 3, 4, 2, 4};

static size_t content_of(unsigned shape)
{
    size_t all = 0;

    for (unsigned i = 0; i < counts[shape]; i++)
        all += shapes[shape][i];
    return all;
}

static void test_structured__segments_of_any_length_in_any_pieces(void **state)
{
    struct body got;

    for (unsigned s = 0; s < countof(counts); s++) {
        struct body b = body_of(shapes[s], counts[s]);

        assert_true(structured_lengths_fit(b.n, content_of(s)));
        for (size_t piece = 1; piece <= b.n; piece++) {
            assert_int_equal(decode(b, piece, b.n, content_of(s), &got), 0);
            assert_memory_equal(got.bytes, "0123456789012345678901234567890123456789", got.n);
        }
    }
    assert_int_equal(decode(body_of(NULL, 0), 100, 21, 0, &got), 0);
}

static void test_structured__no_changed_byte_passes(void **state)
{
    struct body got;

    for (unsigned s = 0; s < countof(counts); s++) {
        struct body b = body_of(shapes[s], counts[s]);

        for (size_t at = 0; at < b.n; at++)
            for (unsigned bit = 0; bit < 8; bit++) {
                struct body bad = b;
                int err;

                bad.bytes[at] = (char)(bad.bytes[at] ^ 1 << bit);
                err = decode(bad, 7, b.n, content_of(s), &got);
                assert_true(err == -EBADMSG || err == -EILSEQ || err == -EAGAIN);
            }
    }
}

static void test_structured__data_and_checksums_are_told_from_framing(void **state)
{
    static const size_t at[] = {23, 28, 36}; /* data, its CRC, the CRC of all */
    struct body b = {.n = 0}, got;

    body_add(&b, hello, sizeof(hello));
    for (unsigned i = 0; i < countof(at); i++) {
        struct body bad = b;

        bad.bytes[at[i]] ^= 1;
        assert_int_equal(decode(bad, 44, 44, 5, &got), -EILSEQ);
    }
    b.bytes[0] = 2; /* version */
    assert_int_equal(decode(b, 44, 44, 5, &got), -EBADMSG);
}

static void test_structured__lengths_must_agree(void **state)
{
    static const struct {
        uint64_t body, content;
        bool fit;
    } cases[] = {{44, 5, true},
                 {44, 4, false},
                 {43, 5, false},
                 {62, 5, true},
                 {21, 0, true},
                 {20, 0, false},
                 {39, 0, true},
                 {0, 0, false},
                 {21, UINT64_MAX, false},
                 {21 + 18 * 65535, 0, true},
                 {21 + 18 * 65536, 0, false}};
    struct body b = {.n = 0}, got;

    for (unsigned i = 0; i < countof(cases); i++)
        assert_int_equal(structured_lengths_fit(cases[i].body, cases[i].content), cases[i].fit);
    body_add(&b, hello, sizeof(hello));
    assert_int_equal(decode(b, 44, 62, 5, &got), -EBADMSG); /* not that of the headers */
    body_add(&b, "x", 1);
    assert_int_equal(decode(b, 45, 44, 5, &got), -EBADMSG); /* more than it says */
    for (size_t n = 0; n < 44; n++) {
        b.n = n;
        assert_int_equal(decode(b, 5, 44, 5, &got), -EAGAIN); /* cut short */
    }
}

/* All of an encoded body, its data in pieces. */
static char *encode(const char *data, size_t bytes, size_t piece, size_t *ret_n)
{
    struct structured_out out;
    char *body, frame[STRUCTURED_FRAME_MAX];
    size_t n = 0, at = 0;

    structured_out_init(&out, bytes);
    body = malloc(structured_body_bytes(&out));
    assert_non_null(body);
    while (!out.ended) {
        size_t len = structured_frame(&out, frame), room;

        memcpy(body + n, frame, len);
        n += len;
        room = MIN(MIN((size_t)structured_room(&out), piece), bytes - at);
        structured_add(&out, span_from(data + at, room));
        memcpy(body + n, data + at, room);
        n += room;
        at += room;
    }
    assert_int_equal(structured_frame(&out, frame), 0);
    assert_int_equal(at, bytes);
    assert_int_equal(n, structured_body_bytes(&out));
    *ret_n = n;
    return body;
}

static void test_structured__writes_what_the_sdk_reads(void **state)
{
    size_t n;
    char *body = encode("hello", 5, 2, &n);

    assert_int_equal(n, sizeof(hello));
    assert_memory_equal(body, hello, n);
    free(body);
    body = encode("", 0, 1, &n); /* one empty segment */
    assert_int_equal(n, 39);
    assert_memory_equal(body, body_of(shapes[0], 1).bytes, n);
    free(body);
}

static void test_structured__what_is_written_is_read(void **state)
{
    static const size_t sizes[] = {0, 1, MIB(4) - 1, MIB(4), MIB(4) + 1, MIB(9)};
    char *data = malloc(MIB(9));

    assert_non_null(data);
    for (size_t i = 0; i < MIB(9); i++)
        data[i] = (char)(i * 2654435761u >> 13);
    for (unsigned i = 0; i < countof(sizes); i++) {
        struct structured_in in;
        size_t n = 0, got = 0;
        char *body = encode(data, sizes[i], MIB(1) + 7, &n);

        structured_in_init(&in, n, sizes[i]);
        assert_int_equal(structured_decode(&in, body, n, &got), 0);
        assert_int_equal(in.region, STRUCTURED_WHOLE);
        assert_int_equal(got, sizes[i]);
        assert_memory_equal(body, data, got);
        free(body);
    }
    free(data);
}

static void test_structured__the_longest_blob_has_as_many_segments_as_can_be(void **state)
{
    struct structured_out out;
    uint64_t longest = (uint64_t)50000 * MIB(4000);

    structured_out_init(&out, longest);
    assert_true(out.segments <= STRUCTURED_SEGMENTS_MAX && out.segments > 65000);
    assert_true(structured_lengths_fit(structured_body_bytes(&out), longest));
    assert_true(out.segment_bytes * out.segments >= longest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_structured__reads_what_the_sdk_wrote),
        cmocka_unit_test(test_structured__segments_of_any_length_in_any_pieces),
        cmocka_unit_test(test_structured__no_changed_byte_passes),
        cmocka_unit_test(test_structured__data_and_checksums_are_told_from_framing),
        cmocka_unit_test(test_structured__lengths_must_agree),
        cmocka_unit_test(test_structured__writes_what_the_sdk_reads),
        cmocka_unit_test(test_structured__what_is_written_is_read),
        cmocka_unit_test(test_structured__the_longest_blob_has_as_many_segments_as_can_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
