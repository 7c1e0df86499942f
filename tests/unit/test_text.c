/* Goal: the shared encodings are exact both ways and refuse what is not canonical. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/digest.h"
#include "base/text.h"

static void test_base64__known_values_both_ways(void **state)
{
    static const struct {
        const char *plain, *text;
    } cases[] = {{"", ""},
                 {"f", "Zg=="},
                 {"fo", "Zm8="},
                 {"foo", "Zm9v"},
                 {"foob", "Zm9vYg=="},
                 {"fooba", "Zm9vYmE="},
                 {"\xff\xfe", "//4="}};

    for (size_t i = 0; i < countof(cases); i++) {
        char text[32], plain[32];
        size_t n = base64_encode(span_of(cases[i].plain), text), m = 99;

        assert_true(span_eq(span_from(text, n), span_of(cases[i].text)));
        assert_int_equal(base64_decode(span_of(cases[i].text), plain, &m), 0);
        assert_true(span_eq(span_from(plain, m), span_of(cases[i].plain)));
    }
}

static void test_base64__refuses_what_is_not_canonical(void **state)
{
    static const char *const bad[] = {
        "Z", "Zg=", "Zg==Zg==", "Zh==", "Z===", "====", "Zm9v\n", "Zm-_", "Zm9="};
    char plain[32];

    for (size_t i = 0; i < countof(bad); i++) {
        size_t n = 77;

        assert_int_equal(base64_decode(span_of(bad[i]), plain, &n), -EINVAL);
        assert_int_equal(n, 77);
    }
}

static void test_percent__keeps_unreserved_and_asked_for(void **state)
{
    char text[64], plain[64];
    size_t n = percent_encode(SPAN("a b/%+~\xc3\xa9"), "/", text), m;

    assert_true(span_eq(span_from(text, n), SPAN("a%20b/%25%2B~%C3%A9")));
    assert_int_equal(percent_decode(span_from(text, n), plain, &m), 0);
    assert_true(span_eq(span_from(plain, m), SPAN("a b/%+~\xc3\xa9")));
    n = percent_encode(span_from("/\0", 2), "", text);
    assert_true(span_eq(span_from(text, n), SPAN("%2F%00")));
}

static void test_percent__refuses_broken_escapes(void **state)
{
    char plain[16];
    size_t n;

    assert_int_equal(percent_decode(SPAN("%"), plain, &n), -EINVAL);
    assert_int_equal(percent_decode(SPAN("%4"), plain, &n), -EINVAL);
    assert_int_equal(percent_decode(SPAN("%4g"), plain, &n), -EINVAL);
    assert_int_equal(percent_decode(SPAN("%41"), plain, &n), 0);
    assert_true(span_eq(span_from(plain, n), SPAN("A")));
}

static void test_http_date__both_ways_and_strict(void **state)
{
    char text[HTTP_DATE_BYTES + 1];
    int64_t ns = 1;

    http_date_print(784111777999999999, text);
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_int_equal(http_date_parse(span_of(text), &ns), 0);
    assert_true(ns == 784111777000000000);
    http_date_print(-1, text);
    assert_string_equal(text, "Wed, 31 Dec 1969 23:59:59 GMT");
    assert_int_equal(http_date_parse(SPAN("Sun, 06 Nov 1994 08:49:37"), &ns), -EINVAL);
    assert_int_equal(http_date_parse(SPAN("Sun, 06 Nvo 1994 08:49:37 GMT"), &ns), -EINVAL);
    assert_int_equal(http_date_parse(SPAN("Sun, 06 Nov 1994 28:49:37 GMT"), &ns), -EINVAL);
}

static void test_hex__round_trip_and_refusals(void **unused)
{
    char text[8], bytes[4];
    size_t len;

    hex_encode(SPAN("\x00\xff\x1a\x09"), text);
    assert_memory_equal(text, "00ff1a09", 8);
    assert_int_equal(hex_decode(SPAN("00fF1A09"), bytes, &len), 0);
    assert_int_equal(len, 4);
    assert_memory_equal(bytes, "\x00\xff\x1a\x09", 4);
    assert_int_equal(hex_decode(SPAN("0"), bytes, &len), -EINVAL);
    assert_int_equal(hex_decode(SPAN("0g"), bytes, &len), -EINVAL);
}

static void test_guid__round_trip_and_refusals(void **unused)
{
    static const char *const bad[] = {"",
                                      "95e15e381dcc475f9b79984d1a4b07a1",
                                      "95e15e38-1dcc-475f-9b79-984d1a4b07a",
                                      "95e15e38-1dcc-475f-9b79-984d1a4b07a1x",
                                      "95e15e38-1dcc-475f-9b79+984d1a4b07a1",
                                      "95e15e38-1dcc-475f-9b79-984d1a4b07ag",
                                      "(95e15e38-1dcc-475f-9b79-984d1a4b07a1)"};
    unsigned char guid[16];
    char text[GUID_BYTES + 1];

    assert_int_equal(guid_parse(SPAN("95E15e38-1dcc-475f-9b79-984d1a4b07a1"), guid), 0);
    guid_print(guid, text);
    assert_string_equal(text, "95e15e38-1dcc-475f-9b79-984d1a4b07a1");
    assert_int_equal(guid_parse(SPAN("{95e15e38-1dcc-475f-9b79-984d1a4b07a1}"), guid), 0);
    for (size_t i = 0; i < countof(bad); i++)
        assert_int_equal(guid_parse(span_of(bad[i]), guid), -EINVAL);
}

static void test_utf8__counts_utf16_units(void **unused)
{
    static const char *const bad[] = {"\x80",
                                      "\xC0\x80",
                                      "\xC3",
                                      "\xE0\x80\x80",
                                      "\xED\xA0\x80",
                                      "\xF0\x80\x80\x80",
                                      "\xF4\x90\x80\x80",
                                      "\xFF",
                                      "a\xC3"};
    size_t units = 42;

    assert_int_equal(utf8_units(SPAN("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"), &units), 0);
    assert_int_equal(units, 5);
    for (size_t i = 0; i < countof(bad); i++)
        assert_int_equal(utf8_units(span_of(bad[i]), &units), -EINVAL);
    assert_int_equal(units, 5);
}

static void test_digest__published_values(void **state)
{
    unsigned char mac[SHA256_BYTES], sum[MD5_BYTES];
    struct md5 *md5 = md5_new();
    char hex[64], long_key[131];

    hmac_sha256(SPAN("Jefe"), SPAN("what do ya want for nothing?"), mac); /* RFC 4231 case 2 */
    hex_encode(span_from(mac, 4), hex);
    assert_memory_equal(hex, "5bdcc146", 8);
    memset(long_key, 0xaa, sizeof(long_key)); /* case 6 */
    hmac_sha256(span_from(long_key, sizeof(long_key)),
                SPAN("Test Using Larger Than Block-Size Key - Hash Key First"), mac);
    hex_encode(span_from(mac, 4), hex);
    assert_memory_equal(hex, "60e43159", 8);
    md5_add(md5, SPAN("123456"));
    md5_add(md5, SPAN("789"));
    md5_end(md5, sum);
    hex_encode(span_from(sum, 16), hex);
    assert_memory_equal(hex, "25f9e794323b453885f5181f1b624d0b", 32);
    md5_end(md5, sum); /* started over */
    hex_encode(span_from(sum, 16), hex);
    assert_memory_equal(hex, "d41d8cd98f00b204e9800998ecf8427e", 32);
    md5_free(md5);
    assert_true(equal_constant_time(SPAN("ab"), SPAN("ab")));
    assert_false(equal_constant_time(SPAN("ab"), SPAN("ac")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64__known_values_both_ways),
        cmocka_unit_test(test_base64__refuses_what_is_not_canonical),
        cmocka_unit_test(test_percent__keeps_unreserved_and_asked_for),
        cmocka_unit_test(test_percent__refuses_broken_escapes),
        cmocka_unit_test(test_http_date__both_ways_and_strict),
        cmocka_unit_test(test_hex__round_trip_and_refusals),
        cmocka_unit_test(test_guid__round_trip_and_refusals),
        cmocka_unit_test(test_utf8__counts_utf16_units),
        cmocka_unit_test(test_digest__published_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
