/* Ranges of reads: which texts are ranges, and what each asks of blobs of several sizes. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "blobapi/range.h"

static void test_range__well_formed_texts(void **unused)
{
    static const struct {
        const char *text;
        uint64_t first, last;
        bool open;
    } rows[] = {{"bytes=0-0", 0, 0, false},
                {"bytes=5-104", 5, 104, false},
                {"Bytes=5-104", 5, 104, false},
                {"bytes=7-", 7, UINT64_MAX, true},
                {"bytes=0-18446744073709551615", 0, UINT64_MAX, false}};

    for (size_t i = 0; i < countof(rows); i++) {
        struct range_request r = {0};

        assert_int_equal(range_parse(span_of(rows[i].text), &r), 0);
        assert_true(r.given);
        assert_int_equal(r.first, rows[i].first);
        assert_int_equal(r.last, rows[i].last);
        assert_int_equal(r.open, rows[i].open);
    }
}

static void test_range__anything_else_is_no_range(void **unused)
{
    static const char *const bad[] = {"",
                                      "bytes",
                                      "bytes=",
                                      "bytes=-",
                                      "bytes=-5",
                                      "bytes=5",
                                      "bytes=5-4",
                                      "bytes=a-b",
                                      "bytes=1-2,4-5",
                                      "bytes= 1-2",
                                      "bytes=1 - 2",
                                      "byte=1-2",
                                      "bytes=1-2-3",
                                      "bytes=+1-2",
                                      "bytes=18446744073709551616-",
                                      "bytes=0-18446744073709551616",
                                      "items=1-2"};

    for (size_t i = 0; i < countof(bad); i++) {
        struct range_request r = {0};

        assert_int_equal(range_parse(span_of(bad[i]), &r), -EINVAL);
        assert_false(r.given);
    }
}

static enum az_error parse(const char *range, const char *ms, const char *md5, const char *crc64,
                           struct range_request *ret)
{
    struct span culprit;
    struct header headers[5];
    unsigned n = 0;

    if (range)
        headers[n++] = (struct header){SPAN("range"), span_of(range)};
    if (md5)
        headers[n++] = (struct header){SPAN("x-ms-range-get-content-md5"), span_of(md5)};
    if (ms)
        headers[n++] = (struct header){SPAN("x-ms-range"), span_of(ms)};
    if (crc64)
        headers[n++] = (struct header){SPAN("x-ms-range-get-content-crc64"), span_of(crc64)};
    return range_request_parse(headers, n, ret, &culprit);
}

static void test_range__ms_form_wins_and_malformed_is_absent(void **unused)
{
    struct range_request r;

    assert_int_equal(parse("bytes=1-2", "bytes=3-4", NULL, NULL, &r), AZ_OK);
    assert_int_equal(r.first, 3);
    assert_int_equal(parse("bytes=1-2", "", NULL, NULL, &r), AZ_OK);
    assert_int_equal(r.first, 1);
    assert_int_equal(parse("bytes=1-2", "lines=3-4", NULL, NULL, &r), AZ_OK);
    assert_false(r.given);
    assert_int_equal(parse(NULL, NULL, NULL, NULL, &r), AZ_OK);
    assert_false(r.given);
}

static void test_range__hashes_need_a_range(void **unused)
{
    struct range_request r;

    assert_int_equal(parse(NULL, NULL, "true", NULL, &r), AZ_INVALID_HEADER_VALUE);
    assert_int_equal(parse(NULL, NULL, NULL, "True", &r), AZ_INVALID_HEADER_VALUE);
    assert_int_equal(parse(NULL, NULL, "false", NULL, &r), AZ_OK);
    assert_int_equal(parse("bytes=0-1", NULL, "maybe", NULL, &r), AZ_INVALID_HEADER_VALUE);
    assert_int_equal(parse("bytes=0-1", NULL, "true", "true", &r), AZ_INVALID_HEADER_VALUE);
    assert_int_equal(parse("bytes=0-1", NULL, NULL, "true", &r), AZ_OK);
    assert_true(r.crc64 && !r.md5);
}

static void test_range__resolved_against_sizes(void **unused)
{
    static const struct {
        const char *text, *md5;
        uint64_t size;
        enum az_error error;
        uint64_t start, len;
    } rows[] = {
        {NULL, NULL, 0, AZ_OK, 0, 0},
        {NULL, NULL, 10, AZ_OK, 0, 10},
        {"bytes=0-9", NULL, 10, AZ_OK, 0, 10},
        {"bytes=0-99", NULL, 10, AZ_OK, 0, 10},
        {"bytes=9-9", NULL, 10, AZ_OK, 9, 1},
        {"bytes=3-", NULL, 10, AZ_OK, 3, 7},
        {"bytes=10-", NULL, 10, AZ_INVALID_RANGE, 0, 0},
        {"bytes=10-20", NULL, 10, AZ_INVALID_RANGE, 0, 0},
        {"bytes=0-0", NULL, 0, AZ_INVALID_RANGE, 0, 0},
        {"bytes=0-", NULL, 0, AZ_INVALID_RANGE, 0, 0},
        {"bytes=1-18446744073709551615", NULL, 10, AZ_OK, 1, 9},
        {"bytes=0-4194303", "true", 1 << 30, AZ_OK, 0, 4194304},
        {"bytes=0-4194304", "true", 1 << 30, AZ_OUT_OF_RANGE_INPUT, 0, 0},
        {"bytes=0-4194304", "true", 10, AZ_OUT_OF_RANGE_INPUT, 0, 0},
        {"bytes=0-", "true", 4194304, AZ_OK, 0, 4194304},
        {"bytes=0-", "true", 4194305, AZ_OUT_OF_RANGE_INPUT, 0, 0},
        {"bytes=0-18446744073709551615", "true", 10, AZ_OUT_OF_RANGE_INPUT, 0, 0},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        struct range_request r;
        struct range got = {0, 0};

        assert_int_equal(parse(NULL, rows[i].text, rows[i].md5, NULL, &r), AZ_OK);
        assert_int_equal(range_resolve(&r, rows[i].size, &got), rows[i].error);
        assert_int_equal(got.start, rows[i].start);
        assert_int_equal(got.len, rows[i].len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_range__well_formed_texts),
        cmocka_unit_test(test_range__anything_else_is_no_range),
        cmocka_unit_test(test_range__ms_form_wins_and_malformed_is_absent),
        cmocka_unit_test(test_range__hashes_need_a_range),
        cmocka_unit_test(test_range__resolved_against_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
