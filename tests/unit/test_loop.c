/* Completions across threads keep each thread's order and are never left behind; timers by injected
 * clock. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "base/loop.h"

#define POSTS 20000

static uint64_t fake_mono = 1000;

static uint64_t fake_mono_ns(void *arg)
{
    return fake_mono;
}

static int64_t fake_wall_ns(void *arg)
{
    return 0;
}

struct numbered {
    struct completion done;
    int thread, number;
};

static struct numbered posts[2][POSTS];
static int next_number[2], arrived;
static bool all_arrived;

static void on_numbered(struct completion *done)
{
    struct numbered *post = container_of(done, struct numbered, done);

    assert_int_equal(post->number, next_number[post->thread]);
    next_number[post->thread]++;
    all_arrived = ++arrived == 2 * POSTS;
}

static void *post_all(void *arg)
{
    struct numbered *mine = arg;

    for (int i = 0; i < POSTS; i++)
        completion_post(&mine[i].done, 0);
    return NULL;
}

static void test_loop__posts_of_other_threads_all_arrive_in_their_order(void **state)
{
    struct loop_poll *poll = loop_poll_new();
    struct loop *loop = loop_poll_loop(poll);
    pthread_t threads[2];

    loop_enter(loop);
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < POSTS; i++)
            posts[t][i] = (struct numbered){{.fn = on_numbered, .loop = loop}, t, i};
    for (int t = 0; t < 2; t++)
        pthread_create(&threads[t], NULL, post_all, posts[t]);
    loop_poll_until(poll, &all_arrived);
    for (int t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    loop_poll_free(poll);
}

static int fired[8], fired_count;
static struct timer timers[8];

static void on_timer(struct timer *timer)
{
    fired[fired_count++] = (int)(timer - timers);
}

static void test_loop__timers_fire_in_order_of_their_time_and_stopped_ones_never(void **state)
{
    static const struct clock_source fake = {fake_mono_ns, fake_wall_ns, NULL};
    static const int after[8] = {50, 10, 70, 30, 20, 60, 40, 80};
    struct loop_poll *poll = loop_poll_new();
    struct loop *loop = loop_poll_loop(poll);

    clock_set_source(&fake);
    loop_enter(loop);
    for (int i = 0; i < 8; i++) {
        timers[i].fn = on_timer;
        timer_start(loop, &timers[i], (uint64_t)after[i] * NS_PER_MS);
    }
    timer_stop(loop, &timers[3]);
    timer_start(loop, &timers[1], 75 * NS_PER_MS); /* restarted later */
    assert_int_equal(loop_timeout_ms(loop, 1000), 21);
    fake_mono += 45 * NS_PER_MS;
    loop_run_ready(loop);
    assert_int_equal(fired_count, 2);
    assert_int_equal(fired[0], 4);
    assert_int_equal(fired[1], 6);
    fake_mono += 100 * NS_PER_MS;
    loop_run_ready(loop);
    assert_int_equal(fired_count, 7);
    assert_int_equal(fired[2], 0);
    assert_int_equal(fired[5], 1);
    assert_int_equal(loop_timeout_ms(loop, 1000), 1000);
    clock_set_source(NULL);
    loop_poll_free(poll);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loop__posts_of_other_threads_all_arrive_in_their_order),
        cmocka_unit_test(test_loop__timers_fire_in_order_of_their_time_and_stopped_ones_never),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
