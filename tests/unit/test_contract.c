/* Patterns, first match, what of an account the cloud is to have, markers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/util.h"
#include "cache/contract.h"

static void test_pattern_matches__star_takes_any_run(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"*", "", true},
        {"*", "a/b", true},
        {"ckpt/*", "ckpt/", true},
        {"ckpt/*", "ckpt", false},
        {"ckpt/*", "ckpt/a/b", true},
        {"kv-*", "kv-1/x", true},
        {"a*b*c", "aXbYbZc", true},
        {"a*b*c", "aXbYbZ", false},
        {"", "", true},
        {"", "a", false},
        {"*.pt", "x/y.pt", true},
        {"*.pt", "x/y.ptx", false},
        {"a**b", "ab", true},
        {"*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaa", false},
    };

    for (unsigned i = 0; i < countof(cases); i++)
        assert_int_equal(pattern_matches(span_of(cases[i].pattern), span_of(cases[i].text)),
                         cases[i].matches);
}

static const struct span markers[] = {{"latest", 6}, {"*.metadata", 10}, {"m/*/x", 5}};
static const struct contract contracts[] = {
    {.id = 1, .pattern = {"ckpt/*", 6}, .write = WRITE_BACK, .markers = markers, .marker_count = 3},
    {.id = 2, .pattern = {"kv-*", 4}, .write = WRITE_LOCAL},
    {.id = 3, .pattern = {"mix/scratch/*", 13}, .write = WRITE_LOCAL},
    {.id = 4, .pattern = {"*", 1}, .write = WRITE_DENY},
};
static const struct account account = {
    .id = 1,
    .name = {"a", 1},
    .contracts = contracts,
    .contract_count = 4,
    .upstream.endpoint = {"http://x", 8},
};

static void test_contract_for__first_match_wins(void **state)
{
    assert_int_equal(contract_for(&account, SPAN("ckpt"), SPAN("x"))->id, 1);
    assert_int_equal(contract_for(&account, SPAN("ckpt"), SPAN(""))->id, 1);
    assert_int_equal(contract_for(&account, SPAN("kv-7"), SPAN("x"))->id, 2);
    assert_int_equal(contract_for(&account, SPAN("mix"), SPAN("scratch/1"))->id, 3);
    assert_int_equal(contract_for(&account, SPAN("mix"), SPAN("other"))->id, 4);
    assert_int_equal(contract_for(&account, SPAN("ckptx"), SPAN("x"))->id, 4);
}

static void test_contract__container_is_in_the_cloud_if_a_line_inside_is(void **state)
{
    struct account local = account;

    assert_true(contract_container_in_cloud(&account, SPAN("ckpt")));
    assert_false(contract_container_in_cloud(&account, SPAN("kv-7")));
    assert_true(contract_container_in_cloud(&account, SPAN("mix")));
    local.upstream.endpoint = SPAN("");
    assert_false(contract_container_in_cloud(&local, SPAN("ckpt")));
}

static void test_contract__lines_that_can_match_below_a_prefix(void **state)
{
    static const struct {
        const char *container, *prefix, *ids;
    } cases[] = {
        {"ckpt", "", "1"},          {"kv-7", "a", "2"},       {"mix", "", "34"},
        {"mix", "scr", "34"},       {"mix", "scratch/", "3"}, {"mix", "scratch/a", "3"},
        {"mix", "scratchy/a", "4"}, {"other", "", "4"},       {"mi", "x/scratch/a", "4"},
    };

    for (unsigned i = 0; i < countof(cases); i++) {
        const struct contract *contract;
        char ids[8] = "";
        unsigned at = 0;

        while ((contract = contract_below(&account, span_of(cases[i].container),
                                          span_of(cases[i].prefix), &at)))
            ids[strlen(ids)] = (char)('0' + contract->id);
        assert_string_equal(ids, cases[i].ids);
    }
    assert_true(contract_container_holds_local(&account, SPAN("mix")));
    assert_true(contract_container_holds_local(&account, SPAN("kv-7")));
    assert_false(contract_container_holds_local(&account, SPAN("ckpt")));
}

static void test_contract__markers_match_the_last_segment(void **state)
{
    assert_true(contract_is_marker(&contracts[0], SPAN("a/b/latest")));
    assert_true(contract_is_marker(&contracts[0], SPAN("latest")));
    assert_false(contract_is_marker(&contracts[0], SPAN("latest/x")));
    assert_true(contract_is_marker(&contracts[0], SPAN("q/1.metadata")));
    assert_true(contract_is_marker(&contracts[0], SPAN("m/1/x")));
    assert_false(contract_is_marker(&contracts[0], SPAN("n/m/1/x")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pattern_matches__star_takes_any_run),
        cmocka_unit_test(test_contract_for__first_match_wins),
        cmocka_unit_test(test_contract__container_is_in_the_cloud_if_a_line_inside_is),
        cmocka_unit_test(test_contract__lines_that_can_match_below_a_prefix),
        cmocka_unit_test(test_contract__markers_match_the_last_segment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
