/* Goal: the breaker opens after failures in a row, refuses at once, lets one probe through after
 * each pause, and closes with any answer. Time is injected. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "upstream/breaker.h"

static uint64_t now_ns = NS_PER_SEC;

static uint64_t fake_mono(void *arg)
{
    return now_ns;
}

static int64_t fake_wall(void *arg)
{
    return 0;
}

static int setup(void **state)
{
    static const struct clock_source source = {fake_mono, fake_wall, NULL};

    clock_set_source(&source);
    random_seed(7);
    return 0;
}

static void fail_open(struct breaker *b)
{
    for (int i = 0; i < BREAKER_FAILURES; i++) {
        assert_true(breaker_admit(b));
        breaker_failed(b);
    }
}

static void test_breaker__opens_after_failures_in_a_row(void **state)
{
    struct breaker b = {0};

    for (int i = 0; i < BREAKER_FAILURES - 1; i++)
        breaker_failed(&b);
    breaker_answered(&b);
    assert_true(breaker_admit(&b));
    fail_open(&b);
    assert_int_equal(b.state, BREAKER_OPEN);
    assert_false(breaker_admit(&b));
    assert_true(breaker_wait_ns(&b) > 0);
}

static void test_breaker__one_probe_after_the_pause(void **state)
{
    struct breaker b = {0};

    fail_open(&b);
    now_ns += breaker_wait_ns(&b);
    assert_true(breaker_admit(&b));
    assert_false(breaker_admit(&b)); /* one only */
    breaker_answered(&b);
    assert_true(breaker_admit(&b));
    assert_true(breaker_admit(&b));
    assert_true(breaker_wait_ns(&b) == 0);
}

static void test_breaker__pauses_grow_up_to_a_limit(void **state)
{
    struct breaker b = {0};
    uint64_t last = 0;

    fail_open(&b);
    for (int i = 0; i < 12; i++) {
        uint64_t wait = breaker_wait_ns(&b);

        assert_true(wait <= BREAKER_PAUSE_MAX_NS * 5 / 4);
        assert_true(i > 3 || wait > last);
        last = wait;
        now_ns += wait;
        assert_true(breaker_admit(&b));
        breaker_failed(&b);
        breaker_failed(&b); /* a straggler of the same outage */
    }
    assert_true(last >= BREAKER_PAUSE_MAX_NS * 3 / 4);
}

static void test_breaker__a_cancelled_probe_makes_room_for_another(void **state)
{
    struct breaker b = {0};

    fail_open(&b);
    now_ns += breaker_wait_ns(&b);
    assert_true(breaker_admit(&b));
    breaker_abandoned(&b);
    assert_true(breaker_admit(&b));
}

static void test_backoff__doubles_jitters_and_stops(void **state)
{
    for (unsigned attempts = 0; attempts < 70; attempts++) {
        uint64_t pause = backoff_ns(attempts, 100, 1600);
        uint64_t top = attempts < 4 ? 100ULL << attempts : 1600;

        assert_true(pause >= top / 2 && pause <= top);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_breaker__opens_after_failures_in_a_row),
        cmocka_unit_test(test_breaker__one_probe_after_the_pause),
        cmocka_unit_test(test_breaker__pauses_grow_up_to_a_limit),
        cmocka_unit_test(test_breaker__a_cancelled_probe_makes_room_for_another),
        cmocka_unit_test(test_backoff__doubles_jitters_and_stops),
    };

    return cmocka_run_group_tests(tests, setup, NULL);
}
