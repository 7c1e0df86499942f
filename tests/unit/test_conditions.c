/* Conditional headers: the tables of the reference (section 3) for reads and writes, absent and
 * present blobs, both names of a version, and the combinations the service refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "blobapi/conditions.h"

#define LOCAL   "\"0x00000000000000AB\""
#define CLOUD   "\"0x8D4BCC2E4835CD0\""
#define OTHER   "\"0x8DFFFFFFFFFFFFF\""
#define BEFORE  "Sun, 06 Nov 1994 08:49:36 GMT"
#define EXACTLY "Sun, 06 Nov 1994 08:49:37 GMT"
#define AFTER   "Sun, 06 Nov 1994 08:49:38 GMT"

static const struct condition_subject blob = {
    .etag = 0xAB, .cloud_etag = SPAN(CLOUD), .modified_ns = 784111777999999999};
static struct arena *arena;

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

/* "if-match: x", up to three of them; NULL ends */
struct lines {
    const char *at[3];
};

static enum az_error parse(enum condition_rule rule, struct lines lines, struct conditions *ret)
{
    struct header headers[4] = {{SPAN("x-ms-version"), SPAN("2021-10-04")}};
    struct span culprit;
    unsigned n = 1;

    for (size_t i = 0; i < countof(lines.at) && lines.at[i]; i++, n++) {
        headers[n].name = span_cut(span_of(lines.at[i]), ':', &headers[n].value);
        headers[n].value = span_trim(headers[n].value);
    }
    return conditions_parse(headers, n, rule, arena, ret, &culprit);
}

static enum az_error verdict(enum condition_rule rule, struct lines lines,
                             const struct condition_subject *subject)
{
    struct conditions c;

    assert_int_equal(parse(rule, lines, &c), AZ_OK);
    return conditions_judge(&c, subject);
}

#define PASSES AZ_OK
#define IS_304 AZ_CONDITION_NOT_MET_READ
#define IS_412 AZ_CONDITION_NOT_MET
#define IS_409 AZ_BLOB_ALREADY_EXISTS

static const struct verdict_row {
    struct lines lines;
    enum az_error read, write, create, read_absent, write_absent;
} verdict_rows[] = {
    {{{NULL}}, PASSES, PASSES, PASSES, PASSES, PASSES},
    {{{"if-match: " LOCAL}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: " CLOUD}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: 0x00000000000000AB"}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: 0x8D4BCC2E4835CD0"}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: *"}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: \"*\""}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: " OTHER}}, IS_412, IS_412, IS_412, PASSES, IS_412},
    {{{"if-match: W/" LOCAL}}, IS_412, IS_412, IS_412, PASSES, IS_412},
    {{{"if-match: \"0x00000000000000ab\""}}, IS_412, IS_412, IS_412, PASSES, IS_412},
    {{{"if-match: " OTHER ", " LOCAL}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: " OTHER "," CLOUD}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: " OTHER, "if-match: " LOCAL}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match: \"a,b\", 0x00000000000000AB"}}, PASSES, PASSES, PASSES, PASSES, IS_412},
    {{{"if-match:"}}, PASSES, PASSES, PASSES, PASSES, PASSES},
    {{{"if-none-match: " LOCAL}}, IS_304, IS_412, IS_412, PASSES, PASSES},
    {{{"if-none-match: " CLOUD}}, IS_304, IS_412, IS_412, PASSES, PASSES},
    {{{"if-none-match: " OTHER}}, PASSES, PASSES, PASSES, PASSES, PASSES},
    {{{"if-none-match: " OTHER ", " CLOUD}}, IS_304, IS_412, IS_412, PASSES, PASSES},
    {{{"if-modified-since: " BEFORE}}, PASSES, PASSES, PASSES, PASSES, PASSES},
    {{{"if-modified-since: " EXACTLY}}, IS_304, IS_412, IS_412, PASSES, PASSES},
    {{{"if-modified-since: " AFTER}}, IS_304, IS_412, IS_412, PASSES, PASSES},
    {{{"if-unmodified-since: " BEFORE}}, IS_412, IS_412, IS_412, PASSES, PASSES},
    {{{"if-unmodified-since: " EXACTLY}}, PASSES, PASSES, PASSES, PASSES, PASSES},
    {{{"if-unmodified-since: " AFTER}}, PASSES, PASSES, PASSES, PASSES, PASSES},
    /* pairs */
    {{{"if-match: " LOCAL, "if-unmodified-since: " EXACTLY}},
     PASSES,
     PASSES,
     PASSES,
     PASSES,
     IS_412},
    {{{"if-match: " LOCAL, "if-unmodified-since: " BEFORE}},
     IS_412,
     IS_412,
     IS_412,
     PASSES,
     IS_412},
    {{{"if-match: " OTHER, "if-unmodified-since: " AFTER}}, IS_412, IS_412, IS_412, PASSES, IS_412},
    {{{"if-none-match: " LOCAL, "if-modified-since: " EXACTLY}},
     IS_304,
     IS_412,
     IS_412,
     PASSES,
     PASSES},
    {{{"if-none-match: " LOCAL, "if-modified-since: " BEFORE}},
     PASSES,
     PASSES,
     PASSES,
     PASSES,
     PASSES},
    {{{"if-none-match: " OTHER, "if-modified-since: " AFTER}},
     PASSES,
     PASSES,
     PASSES,
     PASSES,
     PASSES},
};

static void test_conditions__table_of_verdicts(void **unused)
{
    for (size_t i = 0; i < countof(verdict_rows); i++) {
        const struct verdict_row *row = &verdict_rows[i];

        if (verdict(CONDITIONS_READ, row->lines, &blob) != row->read ||
            verdict(CONDITIONS_WRITE, row->lines, &blob) != row->write ||
            verdict(CONDITIONS_CREATE, row->lines, &blob) != row->create ||
            verdict(CONDITIONS_READ, row->lines, NULL) != row->read_absent ||
            verdict(CONDITIONS_WRITE, row->lines, NULL) != row->write_absent ||
            verdict(CONDITIONS_CREATE, row->lines, NULL) != row->write_absent)
            fail_msg("row %zu: %s", i, row->lines.at[0]);
    }
}

static void test_conditions__none_match_any(void **unused)
{
    const struct lines star = {{"if-none-match: *"}};
    const struct lines dated = {{"if-none-match: *", "if-modified-since: " BEFORE}};
    struct conditions c;

    assert_int_equal(parse(CONDITIONS_READ, star, &c), AZ_UNSATISFIABLE_CONDITION);
    assert_int_equal(verdict(CONDITIONS_CREATE, star, &blob), IS_409);
    assert_int_equal(verdict(CONDITIONS_WRITE, star, &blob), IS_412);
    assert_int_equal(verdict(CONDITIONS_CREATE, star, NULL), PASSES);
    assert_int_equal(verdict(CONDITIONS_CREATE, dated, &blob), IS_409);
}

/* On reads all four may stand together: (If-Match and If-Unmodified-Since) and (either of the
 * others). */
static void test_conditions__reads_combine_all(void **unused)
{
    assert_int_equal(verdict(CONDITIONS_READ,
                             (struct lines){{"if-match: " LOCAL, "if-none-match: " OTHER,
                                             "if-unmodified-since: " AFTER}},
                             &blob),
                     PASSES);
    assert_int_equal(verdict(CONDITIONS_READ,
                             (struct lines){{"if-match: " OTHER, "if-none-match: " LOCAL}}, &blob),
                     IS_412);
    assert_int_equal(verdict(CONDITIONS_READ,
                             (struct lines){{"if-match: " LOCAL, "if-none-match: " LOCAL}}, &blob),
                     IS_304);
}

static void test_conditions__refused_combinations(void **unused)
{
    static const struct {
        enum condition_rule rule;
        struct lines lines;
        enum az_error error;
    } rows[] = {
        {CONDITIONS_WRITE,
         {{"if-match: *", "if-none-match: *"}},
         AZ_MULTIPLE_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_WRITE,
         {{"if-match: *", "if-modified-since: " AFTER}},
         AZ_MULTIPLE_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_CREATE,
         {{"if-none-match: *", "if-unmodified-since: " AFTER}},
         AZ_MULTIPLE_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_CREATE,
         {{"if-modified-since: " AFTER, "if-unmodified-since: " AFTER}},
         AZ_MULTIPLE_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_CREATE,
         {{"if-match: x", "if-modified-since: " AFTER, "if-unmodified-since: " AFTER}},
         AZ_MULTIPLE_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_DATES, {{"if-match: *"}}, AZ_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_DATES, {{"if-none-match: x"}}, AZ_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_DATES, {{"if-modified-since: " AFTER, "if-unmodified-since: " AFTER}}, AZ_OK},
        {CONDITIONS_MODIFIED_SINCE, {{"if-modified-since: " AFTER}}, AZ_OK},
        {CONDITIONS_MODIFIED_SINCE,
         {{"if-unmodified-since: " AFTER}},
         AZ_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_MODIFIED_SINCE, {{"if-match: *"}}, AZ_CONDITION_HEADERS_NOT_SUPPORTED},
        {CONDITIONS_READ, {{"if-modified-since: yesterday"}}, AZ_INVALID_HEADER_VALUE},
        {CONDITIONS_READ, {{"if-unmodified-since: 2026-01-01"}}, AZ_INVALID_HEADER_VALUE},
        {CONDITIONS_READ, {{"if-modified-since:"}}, AZ_OK},
        {CONDITIONS_READ, {{"x-ms-if-tags: \"a\" = b"}}, AZ_INVALID_HEADER_VALUE},
        {CONDITIONS_NONE, {{"if-match: *", "if-none-match: *", "if-modified-since: x"}}, AZ_OK},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        struct conditions c;

        if (parse(rows[i].rule, rows[i].lines, &c) != rows[i].error)
            fail_msg("row %zu: %s", i, rows[i].lines.at[0]);
        if (rows[i].rule == CONDITIONS_NONE)
            assert_false(conditions_given(&c));
    }
}

static void test_conditions__too_many_etags_are_refused(void **unused)
{
    struct span list = SPAN("if-match: a");
    struct conditions c;

    for (unsigned i = 1; i < CONDITION_ETAGS_MAX; i++)
        list = arena_printf(arena, "%.*s, b", SPAN_FMT(list));
    assert_int_equal(parse(CONDITIONS_READ, (struct lines){{list.base}}, &c), AZ_OK);
    assert_int_equal(c.match.count, CONDITION_ETAGS_MAX);
    list = arena_printf(arena, "%.*s, b", SPAN_FMT(list));
    assert_int_equal(parse(CONDITIONS_READ, (struct lines){{list.base}}, &c),
                     AZ_INVALID_HEADER_VALUE);
}

static void test_conditions__a_version_without_cloud_name(void **unused)
{
    const struct condition_subject local = {.etag = 0xAB, .modified_ns = 784111777000000000};

    assert_int_equal(verdict(CONDITIONS_READ, (struct lines){{"if-match: " LOCAL}}, &local),
                     PASSES);
    assert_int_equal(verdict(CONDITIONS_READ, (struct lines){{"if-match: \"\""}}, &local), IS_412);
    assert_int_equal(verdict(CONDITIONS_READ, (struct lines){{"if-match: " CLOUD}}, &local),
                     IS_412);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_conditions__table_of_verdicts),
        T(test_conditions__none_match_any),
        T(test_conditions__reads_combine_all),
        T(test_conditions__refused_combinations),
        T(test_conditions__too_many_etags_are_refused),
        T(test_conditions__a_version_without_cloud_name),
#undef T
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
