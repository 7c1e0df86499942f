/* Crash states of the log: whatever a power cut leaves, what was answered is there and the rest is
 * wholly there or wholly absent. Method: log_run.h. A fifth runs by default; HEARTH_LONG=1 runs
 * all. */
#include "tests/unit/log_run.h"

static void test_crash__answered_changes_are_there_in_every_state(void **state)
{
    unsigned runs = is_long() ? 6 : 3;

    for (uint64_t seed = 1; seed <= runs; seed++) {
        struct plan plan = {.seed = seed, .devices = 1 + (unsigned)seed % 3};
        struct run *run = run_make(&plan);
        char *why = judge_run(run, is_long() ? 1 : 5, 3);

        if (why)
            fail_msg("run %llu: %s", (unsigned long long)seed, why);
        run_free(run);
    }
    print_message("%u crash states\n", states);
    assert_true(states >= (is_long() ? 500 : 100));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash__answered_changes_are_there_in_every_state),
    };

    log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
