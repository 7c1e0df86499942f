/* What a request is about: tables of (Host, target) and the account, container and blob they mean,
 * of query strings, and of names the service refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "blobapi/target.h"

static const struct span aliases[] = {SPAN("contoso.blob.core.windows.net"), SPAN("warm.lan")};
static const struct account account_rows[] = {
    {.id = 1, .name = SPAN("devstoreaccount1")},
    {.id = 2, .name = SPAN("contoso"), .aliases = aliases, .alias_count = 2},
    {.id = 3, .name = SPAN("127")},
};
static const struct accounts accounts = {account_rows, 3};
static struct arena *arena;
static struct target target;

static int setup(void **unused)
{
    arena = arena_new();
    return 0;
}

static int teardown(void **unused)
{
    arena = arena_free(arena);
    return 0;
}

static enum az_error parse(const char *host, const char *text)
{
    return target_parse(&accounts, span_of(host), span_of(text), arena, &target);
}

static void assert_span(struct span s, const char *text)
{
    if (!span_eq(s, span_of(text)))
        fail_msg("'%.*s' is not '%s'", SPAN_FMT(s), text);
}

static void test_target__finds_account_container_and_blob(void **unused)
{
    static const struct {
        const char *host, *text, *account, *container, *blob;
        bool secondary;
    } rows[] = {
        /* path style */
        {"127.0.0.1:10000", "/devstoreaccount1", "devstoreaccount1", "", ""},
        {"127.0.0.1:10000", "/devstoreaccount1/", "devstoreaccount1", "", ""},
        {"127.0.0.1:10000", "/devstoreaccount1?comp=list", "devstoreaccount1", "", ""},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr", "devstoreaccount1", "ctr", ""},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/", "devstoreaccount1", "ctr", ""},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/b", "devstoreaccount1", "ctr", "b"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/b/", "devstoreaccount1", "ctr", "b/"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr//b", "devstoreaccount1", "ctr", "/b"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr///", "devstoreaccount1", "ctr", "//"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/a/../b/./c", "devstoreaccount1", "ctr",
         "a/../b/./c"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/..", "devstoreaccount1", "ctr", ".."},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/a%2Fb", "devstoreaccount1", "ctr", "a/b"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/a%252Fb", "devstoreaccount1", "ctr", "a%2Fb"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/a+b%20c%2Bd", "devstoreaccount1", "ctr",
         "a+b c+d"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/%C3%A9\xC3\xA9", "devstoreaccount1", "ctr",
         "\xC3\xA9\xC3\xA9"},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr/a\\b.", "devstoreaccount1", "ctr", "a\\b."},
        {"127.0.0.1:10000", "/devstoreaccount1/ctr%2Fx", "devstoreaccount1", "ctr", "x"},
        {"127.0.0.1:10000", "/devstoreaccount1/%24logs/x", "devstoreaccount1", "$logs", "x"},
        {"127.0.0.1", "/127/ctr/x", "127", "ctr", "x"},
        {"[::1]:10000", "/contoso/ctr/x", "contoso", "ctr", "x"},
        {"localhost:10000", "/contoso/ctr/x", "contoso", "ctr", "x"},
        {"hearth.lan", "/contoso/ctr/x", "contoso", "ctr", "x"},
        {"", "/contoso/ctr/x", "contoso", "ctr", "x"},
        {"x", "http://x:1/contoso/ctr/x?a=b", "contoso", "ctr", "x"},
        {"127.0.0.1", "/contoso-secondary/ctr/x", "contoso", "ctr", "x", .secondary = true},
        /* host style */
        {"contoso.blob.cache.lan", "/", "contoso", "", ""},
        {"contoso.blob.cache.lan:10000", "/ctr?restype=container", "contoso", "ctr", ""},
        {"contoso.blob.cache.lan", "/ctr/x/y", "contoso", "ctr", "x/y"},
        {"contoso.blob.cache.lan", "/ctr//y", "contoso", "ctr", "/y"},
        {"Contoso.Blob.core.windows.NET", "/ctr/x", "contoso", "ctr", "x"},
        {"WARM.lan:443", "/contoso/x", "contoso", "contoso", "x"},
        {"contoso-secondary.blob.lan", "/ctr/x", "contoso", "ctr", "x", .secondary = true},
        {"contoso.lan", "/index.html", "contoso", "$root", "index.html"},
        {"contoso.lan", "/$root/index.html", "contoso", "$root", "index.html"},
        {"contoso.lan", "/$web", "contoso", "$web", ""},
        {"contoso.lan", "/ctr/", "contoso", "ctr", ""},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        assert_int_equal(parse(rows[i].host, rows[i].text), AZ_OK);
        assert_span(target.account->name, rows[i].account);
        assert_span(target.container, rows[i].container);
        assert_span(target.blob, rows[i].blob);
        assert_int_equal(target.secondary, rows[i].secondary);
    }
}

static void test_target__keeps_path_and_query_as_sent(void **unused)
{
    assert_int_equal(parse("127.0.0.1", "/devstoreaccount1/ctr/%2f%41?Comp=list&Prefix=a%2Fb"),
                     AZ_OK);
    assert_span(target.path, "/devstoreaccount1/ctr/%2f%41");
    assert_span(target.query, "Comp=list&Prefix=a%2Fb");
    assert_true(target.path_style);
    assert_int_equal(parse("contoso.x", "/ctr/b"), AZ_OK);
    assert_false(target.path_style);
    assert_int_equal(target.query.len, 0);
}

static void test_target__query_is_decoded_once_with_raw_kept(void **unused)
{
    assert_int_equal(parse("127.0.0.1", "/contoso/ctr?&COMP=list&prefix=a%2Fb+c&empty=&bare&"
                                        "sig=a%2Bb%3D=&comp=second&%63=1"),
                     AZ_OK);
    assert_int_equal(target.param_count, 7);
    assert_span(target_param(&target, SPAN("comp")), "list");
    assert_span(target_param(&target, SPAN("prefix")), "a/b+c");
    assert_span(target_find(&target, SPAN("prefix"))->raw, "a%2Fb+c");
    assert_span(target_param(&target, SPAN("sig")), "a+b==");
    assert_span(target_param(&target, SPAN("c")), "1");
    assert_non_null(target_param(&target, SPAN("empty")).base);
    assert_non_null(target_param(&target, SPAN("bare")).base);
    assert_int_equal(target_param(&target, SPAN("bare")).len, 0);
    assert_null(target_param(&target, SPAN("absent")).base);
    assert_null(target_find(&target, SPAN("absent")));
}

static void test_target__refuses_what_it_cannot_read(void **unused)
{
    static const struct {
        const char *host, *text;
        enum az_error error;
    } rows[] = {
        {"127.0.0.1", "", AZ_INVALID_URI},
        {"127.0.0.1", "*", AZ_INVALID_URI},
        {"127.0.0.1", "contoso/ctr", AZ_INVALID_URI},
        {"127.0.0.1", "?comp=list", AZ_INVALID_URI},
        {"127.0.0.1", "/", AZ_INVALID_URI},
        {"127.0.0.1", "//ctr/x", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso//x", AZ_INVALID_URI},
        {"contoso.lan", "//x", AZ_INVALID_URI},
        {"127.0.0.1", "/nobody/ctr/x", AZ_RESOURCE_NOT_FOUND},
        {"127.0.0.1", "/Contoso/ctr/x", AZ_RESOURCE_NOT_FOUND},
        {"127.0.0.1", "/contoso-tertiary/ctr/x", AZ_RESOURCE_NOT_FOUND},
        {"nobody.blob.lan", "/ctr/x", AZ_RESOURCE_NOT_FOUND},
        {"127.0.0.1", "/contoso/ctr/%", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso/ctr/%4", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso/ctr/%4g", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso/ctr/%C3", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso/ctr/\xff", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso/ctr/%C0%80", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso/ctr/%ED%A0%80", AZ_INVALID_URI},
        {"127.0.0.1", "/contoso/ctr/a%00b", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/ctr/a%1Fb", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/ctr/%7f", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/ab/x", AZ_OUT_OF_RANGE_INPUT},
        {"127.0.0.1", "/contoso/Ctr/x", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/c_r/x", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/c--r/x", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/-ctr/x", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/ctr-/x", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/$other/x", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/c.r?restype=container", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/%C3%A9%C3%A9%C3%A9", AZ_INVALID_RESOURCE_NAME},
        {"127.0.0.1", "/contoso/ctr?a=%", AZ_REQUEST_URL_FAILED_TO_PARSE},
        {"127.0.0.1", "/contoso/ctr?%zz=1", AZ_REQUEST_URL_FAILED_TO_PARSE},
        {"127.0.0.1", "/contoso/ctr?a=%00", AZ_INVALID_QUERY_PARAMETER_VALUE},
        {"127.0.0.1", "/contoso/ctr?a=b%0D%0Ac", AZ_INVALID_QUERY_PARAMETER_VALUE},
        {"127.0.0.1", "/contoso/ctr?a=%7F", AZ_INVALID_QUERY_PARAMETER_VALUE},
        {"127.0.0.1", "/contoso/ctr?a=%FF", AZ_INVALID_QUERY_PARAMETER_VALUE},
    };

    for (size_t i = 0; i < countof(rows); i++)
        if (parse(rows[i].host, rows[i].text) != rows[i].error)
            fail_msg("%s %s", rows[i].host, rows[i].text);
}

static enum az_error parse_blob_of(const char *unit, unsigned times)
{
    struct span text = SPAN("/contoso/ctr/");

    for (unsigned i = 0; i < times; i++)
        text = arena_printf(arena, "%.*s%s", SPAN_FMT(text), unit);
    return target_parse(&accounts, SPAN("127.0.0.1"), text, arena, &target);
}

static void test_target__name_limits_count_utf16_units(void **unused)
{
    assert_int_equal(parse_blob_of("a", 1024), AZ_OK);
    assert_int_equal(parse_blob_of("a", 1025), AZ_OUT_OF_RANGE_INPUT);
    assert_int_equal(parse_blob_of("\xE2\x82\xAC", 1024), AZ_OK);
    assert_int_equal(parse_blob_of("\xE2\x82\xAC", 1025), AZ_OUT_OF_RANGE_INPUT);
    assert_int_equal(parse_blob_of("\xF0\x9F\x98\x80", 512), AZ_OK);
    assert_int_equal(parse_blob_of("\xF0\x9F\x98\x80", 513), AZ_OUT_OF_RANGE_INPUT);
    assert_int_equal(parse_blob_of("a/", 253), AZ_OK);
    assert_int_equal(parse_blob_of("a/", 254), AZ_OUT_OF_RANGE_INPUT);
}

static void test_target__container_name_limits(void **unused)
{
    char name[80];

    memset(name, 'a', sizeof(name));
    assert_int_equal(container_name_check(span_from(name, 2)), AZ_OUT_OF_RANGE_INPUT);
    assert_int_equal(container_name_check(span_from(name, 3)), AZ_OK);
    assert_int_equal(container_name_check(span_from(name, 63)), AZ_OK);
    assert_int_equal(container_name_check(span_from(name, 64)), AZ_OUT_OF_RANGE_INPUT);
    assert_int_equal(container_name_check(SPAN("a-b-9")), AZ_OK);
    assert_int_equal(container_name_check(SPAN("$web")), AZ_OK);
}

static void test_target__too_many_parameters_are_refused(void **unused)
{
    struct span text = SPAN("/contoso/ctr?a=1");

    for (unsigned i = 1; i < TARGET_PARAMS_MAX; i++)
        text = arena_printf(arena, "%.*s&a=1", SPAN_FMT(text));
    assert_int_equal(target_parse(&accounts, SPAN("x"), text, arena, &target), AZ_OK);
    assert_int_equal(target.param_count, TARGET_PARAMS_MAX);
    text = arena_printf(arena, "%.*s&a=1", SPAN_FMT(text));
    assert_int_equal(target_parse(&accounts, SPAN("x"), text, arena, &target),
                     AZ_REQUEST_URL_FAILED_TO_PARSE);
}

static void test_errors__table_is_whole(void **unused)
{
    for (int e = AZ_OK + 1; e < AZ_ERRORS; e++) {
        assert_true(az_status(e) >= 304 && az_status(e) <= 503);
        assert_true(az_code(e).len > 3);
        assert_true(az_message(e).len > 10);
        assert_null(memchr(az_message(e).base, '\n', az_message(e).len));
    }
    assert_span(az_code(AZ_BLOB_NOT_FOUND), "BlobNotFound");
    assert_int_equal(az_status(AZ_BLOB_NOT_FOUND), 404);
    assert_int_equal(az_status(AZ_CONDITION_NOT_MET_READ), 304);
    assert_span(az_code(AZ_CONDITION_NOT_MET_READ), "ConditionNotMet");
    assert_int_equal(az_from_errno(0), AZ_OK);
    assert_int_equal(az_from_errno(-ENOENT), AZ_BLOB_NOT_FOUND);
    assert_int_equal(az_from_errno(-ENOSPC), AZ_SERVER_BUSY);
    assert_int_equal(az_from_errno(-EUCLEAN), AZ_INTERNAL_ERROR);
    assert_int_equal(az_from_errno(-EXDEV), AZ_INTERNAL_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_target__finds_account_container_and_blob, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_target__keeps_path_and_query_as_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(test_target__query_is_decoded_once_with_raw_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_target__refuses_what_it_cannot_read, setup, teardown),
        cmocka_unit_test_setup_teardown(test_target__name_limits_count_utf16_units, setup,
                                        teardown),
        cmocka_unit_test(test_target__container_name_limits),
        cmocka_unit_test_setup_teardown(test_target__too_many_parameters_are_refused, setup,
                                        teardown),
        cmocka_unit_test(test_errors__table_is_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
