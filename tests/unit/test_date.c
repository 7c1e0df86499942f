/* RFC 1123 and ISO 8601 dates: tables of good and bad texts, and every day of three centuries. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/date.h"
#include "base/util.h"

static void test_http_date__formats_and_parses(void **unused)
{
    static const struct {
        int64_t seconds;
        const char *text;
    } rows[] = {{0, "Thu, 01 Jan 1970 00:00:00 GMT"},
                {784111777, "Sun, 06 Nov 1994 08:49:37 GMT"},
                {951782400, "Tue, 29 Feb 2000 00:00:00 GMT"},
                {4102444799, "Thu, 31 Dec 2099 23:59:59 GMT"},
                {-1, "Wed, 31 Dec 1969 23:59:59 GMT"}};

    for (size_t i = 0; i < countof(rows); i++) {
        char text[HTTP_DATE_BYTES + 1];
        int64_t ns = 42;

        http_date_print(rows[i].seconds * (int64_t)NS_PER_SEC, text);
        assert_string_equal(text, rows[i].text);
        assert_int_equal(http_date_parse(span_of(rows[i].text), &ns), 0);
        assert_int_equal(ns, rows[i].seconds * (int64_t)NS_PER_SEC);
    }
}

static void test_http_date__refuses_other_forms(void **unused)
{
    static const char *const bad[] = {"",
                                      "yesterday",
                                      "Sun, 6 Nov 1994 08:49:37 GMT",
                                      "Sunday, 06-Nov-94 08:49:37 GMT",
                                      "Sun Nov  6 08:49:37 1994",
                                      "Sun, 06 Nov 1994 08:49:37 UTC",
                                      "Sun, 06 Nov 1994 08:49:37 GMT ",
                                      "Sun, 31 Nov 1994 08:49:37 GMT",
                                      "Mon, 29 Feb 2100 08:49:37 GMT",
                                      "Sun, 06 Nov 1994 24:00:00 GMT",
                                      "Sun, 00 Nov 1994 08:49:37 GMT",
                                      "1994-11-06T08:49:37Z"};
    int64_t ns = 42;

    for (size_t i = 0; i < countof(bad); i++)
        assert_int_equal(http_date_parse(span_of(bad[i]), &ns), -EINVAL);
    assert_int_equal(ns, 42);
}

static void test_iso8601__all_precisions(void **unused)
{
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {{"1970-01-01", 0},
                {"1994-11-06", 784080000000000000},
                {"1994-11-06T08:49Z", 784111740000000000},
                {"1994-11-06T08:49:37Z", 784111777000000000},
                {"1994-11-06T08:49:37.5Z", 784111777500000000},
                {"1994-11-06T08:49:37.1234567Z", 784111777123456700},
                {"1994-11-06T08:49:37.123456789Z", 784111777123456789},
                {"1994-11-06T10:49:37+02:00", 784111777000000000},
                {"1994-11-06T00:19:37-08:30", 784111777000000000},
                {"9999-12-31T23:59:59Z", INT64_MAX},
                {"0001-01-01T00:00:00Z", INT64_MIN}};

    for (size_t i = 0; i < countof(rows); i++) {
        int64_t ns = 42;

        assert_int_equal(iso8601_parse(span_of(rows[i].text), &ns), 0);
        assert_int_equal(ns, rows[i].ns);
    }
}

static void test_iso8601__refuses_other_forms(void **unused)
{
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-1-1",
                                      "2026-13-01",
                                      "2026-02-29",
                                      "2026-01-01T",
                                      "2026-01-01Z",
                                      "2026-01-01T10Z",
                                      "2026-01-01T10:00",
                                      "2026-01-01T10:00:00",
                                      "2026-01-01T10:00:00.Z",
                                      "2026-01-01T10:00:00.1234567890Z",
                                      "2026-01-01T10:00:60Z",
                                      "2026-01-01 10:00:00Z",
                                      "2026-01-01T10:00:00Zx",
                                      "2026-01-01T10:00:00+0200",
                                      "2026-01-01T10:00:00+99:00"};
    int64_t ns;

    for (size_t i = 0; i < countof(bad); i++)
        assert_int_equal(iso8601_parse(span_of(bad[i]), &ns), -EINVAL);
}

static void test_iso8601__formats_100_ns(void **unused)
{
    char text[ISO8601_BYTES + 1];

    iso8601_print(784111777123456789, text);
    assert_string_equal(text, "1994-11-06T08:49:37.1234567Z");
    iso8601_print(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.0000000Z");
}

static void test_dates__every_day_of_three_centuries_round_trips(void **unused)
{
    for (int64_t day = -30000; day < 100000; day++) {
        char text[HTTP_DATE_BYTES + 1];
        int64_t ns;

        http_date_print((day * 86400 + 3661) * (int64_t)NS_PER_SEC, text);
        assert_int_equal(http_date_parse(span_of(text), &ns), 0);
        assert_int_equal(ns, (day * 86400 + 3661) * (int64_t)NS_PER_SEC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_date__formats_and_parses),
        cmocka_unit_test(test_http_date__refuses_other_forms),
        cmocka_unit_test(test_iso8601__all_precisions),
        cmocka_unit_test(test_iso8601__refuses_other_forms),
        cmocka_unit_test(test_iso8601__formats_100_ns),
        cmocka_unit_test(test_dates__every_day_of_three_centuries_round_trips),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
