/* Goal: list parameters are judged as the service judges them, markers survive the way through a
 * client, and names come out as XML can hold them. */
#include "blobapi/listing.h" /* before cmocka, which makes `fail` a macro */

#include "base/text.h"
#include "tests/unit/unit.h"

static enum az_error max_of(const char *value, uint64_t *ret)
{
    struct query_param param = {SPAN("maxresults"), span_of(value), span_of(value)};
    struct target target = {.params = &param, .param_count = 1};

    return list_max_parse(&target, ret);
}

static void test_listing__maxresults(void **state)
{
    uint64_t n = 0;

    assert_int_equal(list_max_parse(&(struct target){0}, &n), AZ_OK);
    assert_int_equal(n, 5000);
    assert_int_equal(max_of("", &n), AZ_OK);
    assert_int_equal(n, 5000);
    assert_int_equal(max_of("1", &n), AZ_OK);
    assert_int_equal(n, 1);
    assert_int_equal(max_of("5001", &n), AZ_OK); /* clamped, not refused */
    assert_int_equal(n, 5000);
    assert_int_equal(max_of("99999999999999999999999", &n), AZ_OK);
    assert_int_equal(max_of("0", &n), AZ_OUT_OF_RANGE_QUERY_PARAMETER_VALUE);
    assert_int_equal(max_of("-1", &n), AZ_OUT_OF_RANGE_QUERY_PARAMETER_VALUE);
    assert_int_equal(max_of("x", &n), AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(max_of("-", &n), AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(max_of("1.5", &n), AZ_INVALID_QUERY_PARAMETER_VALUE);
}

static void test_listing__plus_is_a_space_and_2b_a_plus(void **state)
{
    struct query_param param = {SPAN("prefix"), SPAN("a+b+c/"), SPAN("a+b%2Bc%2F")};
    struct target target = {.params = &param, .param_count = 1};
    struct arena *arena = arena_new();

    assert_true(span_eq(list_text(&target, SPAN("prefix"), arena), SPAN("a b+c/")));
    assert_null(list_text(&target, SPAN("delimiter"), arena).base);
    param.raw = SPAN("a%20b");
    param.value = SPAN("a b");
    assert_true(span_eq(list_text(&target, SPAN("prefix"), arena), SPAN("a b")));
    arena_free(arena);
}

static void test_listing__include(void **state)
{
    static const struct span names[] = {SPAN("metadata"), SPAN("tags")};
    uint32_t bits = 7;

    assert_int_equal(list_include_parse((struct span){NULL, 0}, names, 2, &bits), AZ_OK);
    assert_int_equal(bits, 0);
    assert_int_equal(list_include_parse(SPAN(""), names, 2, &bits), AZ_OK);
    assert_int_equal(list_include_parse(SPAN("tags,metadata"), names, 2, &bits), AZ_OK);
    assert_int_equal(bits, 3);
    assert_int_equal(list_include_parse(SPAN("metadata,permissions"), names, 2, &bits),
                     AZ_INVALID_QUERY_PARAMETER_VALUE);
}

static void test_listing__marker_leads_back(void **state)
{
    static const char *const names[] = {
        "a", "ab", "abc", "d/e f+g", "\xff\xfe\xfb\xef\xbf", "\xf0\x9f\x98\x80/\xc3\xa9"};
    struct arena *arena = arena_new();

    for (unsigned i = 0; i < countof(names); i++) {
        struct span marker = list_marker_make(span_of(names[i]), arena), back;

        assert_null(memchr(marker.base, '+', marker.len));
        assert_null(memchr(marker.base, '/', marker.len));
        assert_int_equal(list_marker_parse(marker, arena, &back), AZ_OK);
        assert_true(span_eq(back, span_of(names[i])));
    }
    arena_free(arena);
}

static void test_listing__bad_marker_is_refused(void **state)
{
    struct arena *arena = arena_new();
    struct span back, whole = list_marker_make(SPAN("some/longer/name/of/a/blob"), arena);

    assert_int_equal(list_marker_parse(SPAN("x"), arena, &back), AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(list_marker_parse(SPAN("2!"), arena, &back), AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(list_marker_parse(SPAN("2!x!YQ"), arena, &back),
                     AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(list_marker_parse(SPAN("3!1!YQ"), arena, &back),
                     AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(list_marker_parse(SPAN("2!0!"), arena, &back),
                     AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(list_marker_parse(SPAN("2!1!Y Q"), arena, &back),
                     AZ_INVALID_QUERY_PARAMETER_VALUE);
    assert_int_equal(list_marker_parse(SPAN("2!1!YWFhYWFh"), arena, &back),
                     AZ_INVALID_QUERY_PARAMETER_VALUE);
    for (size_t cut = 5; cut < whole.len; cut++)
        assert_int_equal(list_marker_parse(span_from(whole.base, cut), arena, &back),
                         AZ_INVALID_INPUT);
    arena_free(arena);
}

static void assert_name(struct span name, const char *want)
{
    char text[256];
    struct emit e;
    struct slice slice;

    emit_init(&e, iobuf_try(IOBUF_4K));
    list_emit_name(&e, SPAN("Name"), name);
    assert_int_equal(emit_take(&e, &slice, 1), 1);
    snprintf(text, sizeof(text), "%.*s", SPAN_FMT(slice.bytes));
    assert_string_equal(text, want);
    slice_unref(slice);
}

static void test_listing__names_xml_cannot_hold_are_encoded(void **state)
{
    assert_name(SPAN("a/b & c"), "<Name>a/b &amp; c</Name>");
    assert_name(SPAN("\xef\xbf\xbd"), "<Name>\xef\xbf\xbd</Name>");
    assert_name(SPAN("a/\xef\xbf\xbf"), "<Name Encoded=\"true\">a%2F%EF%BF%BF</Name>");
    assert_name(SPAN("\xef\xbf\xbe"
                     "b c"),
                "<Name Encoded=\"true\">%EF%BF%BEb%20c</Name>");
    assert_name(SPAN("x\xef\xbf"), "<Name Encoded=\"true\">x%EF%BF</Name>");
}

static void test_listing__metadata_that_is_no_xml_name(void **state)
{
    const struct pair pairs[] = {{SPAN("a_1"), SPAN("<v>")}, {SPAN("1 a"), SPAN("v")}};
    struct slice slice;
    struct emit e;

    emit_init(&e, iobuf_try(IOBUF_4K));
    list_emit_metadata(&e, pairs, 2);
    list_emit_metadata(&e, NULL, 0);
    assert_int_equal(emit_take(&e, &slice, 1), 1);
    assert_true(span_eq(slice.bytes, SPAN("<Metadata><a_1>&lt;v&gt;</a_1><x-ms-invalid-name>1 a"
                                          "</x-ms-invalid-name></Metadata><Metadata />")));
    slice_unref(slice);
}

static int open_pools(void **state)
{
    return iobuf_pools_open(&(struct iobuf_pools_conf){{0}});
}

static int close_pools(void **state)
{
    iobuf_pools_close();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listing__maxresults),
        cmocka_unit_test(test_listing__plus_is_a_space_and_2b_a_plus),
        cmocka_unit_test(test_listing__include),
        cmocka_unit_test(test_listing__marker_leads_back),
        cmocka_unit_test(test_listing__bad_marker_is_refused),
        cmocka_unit_test(test_listing__names_xml_cannot_hold_are_encoded),
        cmocka_unit_test(test_listing__metadata_that_is_no_xml_name),
    };

    return cmocka_run_group_tests(tests, open_pools, close_pools);
}
