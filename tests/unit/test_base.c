/* Arena, iobuf pools, spans, log lines, metrics, failpoints. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/failpoint.h"
#include "base/iobuf.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/metrics.h"
#include "base/worker.h"

static struct metric metric_probe = {.name = "probe", .help = "h", .kind = METRIC_COUNTER};
static struct metric metric_slow = {.name = "slow_seconds", .help = "h", .kind = METRIC_HISTOGRAM};

static void test_arena__pieces_are_aligned_and_keep_their_bytes(void **state)
{
    struct arena *arena = arena_new();
    struct span pieces[200];
    char *grown = arena_alloc(arena, 10);

    memcpy(grown, "0123456789", 10);
    assert_ptr_equal(arena_grow(arena, grown, 10, 100), grown); /* newest: in place */
    for (unsigned i = 0; i < 200; i++) {
        pieces[i] = arena_printf(arena, "%0*u", (int)(i * 7 + 1), i);
        assert_int_equal((uintptr_t)pieces[i].base % 16, 0);
    }
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(atoi(pieces[i].base), i);
    grown = arena_grow(arena, grown, 10, 5000); /* not the newest any more: copied */
    assert_memory_equal(grown, "0123456789", 10);
    arena_free(arena);
}

static void test_span__numbers_are_digits_only_and_do_not_overflow(void **state)
{
    uint64_t v = 7;

    assert_int_equal(span_to_u64(SPAN("18446744073709551615"), &v), 0);
    assert_true(v == UINT64_MAX);
    assert_int_equal(span_to_u64(SPAN("18446744073709551616"), &v), -EINVAL);
    assert_int_equal(span_to_u64(SPAN("-1"), &v), -EINVAL);
    assert_int_equal(span_to_u64(SPAN("1 "), &v), -EINVAL);
    assert_int_equal(span_to_u64(SPAN(""), &v), -EINVAL);
    assert_true(v == UINT64_MAX);
}

static void test_iobuf__an_empty_pool_serves_waiters_in_order(void **state)
{
    struct iobuf_pools_conf conf = {.bytes = {0, 0, 0}}; /* 4 buffers each */
    struct loop_poll *poll = loop_poll_new();
    struct iobuf *held[4], *got[3] = {NULL};
    struct awaited waits[3];

    loop_enter(loop_poll_loop(poll));
    assert_int_equal(iobuf_pools_open(&conf), 0);
    for (int i = 0; i < 4; i++) {
        held[i] = iobuf_try(IOBUF_4K);
        assert_int_equal((uintptr_t)held[i]->base % IOBUF_ALIGN, 0);
    }
    assert_null(iobuf_try(IOBUF_4K));
    for (int i = 0; i < 3; i++)
        iobuf_get(IOBUF_4K, &got[i], awaited_init(&waits[i], loop_poll_loop(poll)));
    assert_int_equal(iobuf_pool_stats(IOBUF_4K).waiting, 3);
    waits[1].done.cancel(&waits[1].done);
    assert_int_equal(loop_await(poll, &waits[1]), -ECANCELED);
    iobuf_unref(held[0]);
    assert_int_equal(loop_await(poll, &waits[0]), 0);
    assert_ptr_equal(got[0], held[0]);
    iobuf_unref(iobuf_ref(held[1])); /* still held */
    assert_false(waits[2].fired);
    iobuf_unref(held[1]);
    assert_int_equal(loop_await(poll, &waits[2]), 0);
    iobuf_unref(held[2]);
    iobuf_unref(held[3]);
    iobuf_unref(got[0]);
    iobuf_unref(got[2]);
    loop_poll_free(poll);
    iobuf_pools_close();
}

static int give_back(void *arg)
{
    iobuf_unref(arg);
    return 0;
}

static void test_iobuf__cancel_of_a_waiter_served_by_another_thread_does_nothing(void **state)
{
    struct iobuf_pools_conf conf = {.bytes = {0, 0, 0}}; /* 4 buffers each */
    struct loop_poll *poll = loop_poll_new();
    struct iobuf *held[4], *got = NULL;
    struct workers *workers = workers_new(1, "test");
    struct awaited wait;

    loop_enter(loop_poll_loop(poll));
    assert_int_equal(iobuf_pools_open(&conf), 0);
    for (int i = 0; i < 4; i++)
        held[i] = iobuf_try(IOBUF_4K);
    iobuf_get(IOBUF_4K, &got, awaited_init(&wait, loop_poll_loop(poll)));
    worker_run(workers, give_back, held[0], NULL);
    workers_free(workers); /* served: its post waits to be taken in */
    assert_non_null(wait.done.cancel);
    wait.done.cancel(&wait.done);
    assert_int_equal(loop_await(poll, &wait), 0);
    assert_ptr_equal(got, held[0]);
    iobuf_unref(got);
    for (int i = 1; i < 4; i++)
        iobuf_unref(held[i]);
    loop_poll_free(poll);
    iobuf_pools_close();
}

static char last_line[512];

static void keep_line(void *arg, const char *line)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
}

static void test_log__values_cannot_break_the_line(void **state)
{
    log_set_sink(keep_line, NULL);
    log_warn("disk failed", KV_STR("path", "a b\n\"c\""), KV_INT("n", -5), KV_ERR(-EIO));
    assert_non_null(strstr(last_line, "Z warning \"disk failed\" path=\"a b\\x0a\\x22c\\x22\" n=-5 "
                                      "error=\"Input/output error\""));
    log_set_sink(NULL, NULL);
}

/* Standard error is a pipe that nobody reads. */
static void test_log__does_not_wait_for_its_reader(void **state)
{
    int saved = dup(STDERR_FILENO), ends[2];
    char filler[1000], text[8192];
    unsigned written = 0;
    ssize_t got;

    memset(filler, 'x', sizeof(filler) - 1);
    filler[sizeof(filler) - 1] = 0;
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    dup2(ends[1], STDERR_FILENO);
    log_wait_ms = 0;
    for (unsigned i = 0; i < 200; i++)
        log_warn(filler);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    while ((got = read(ends[0], text, sizeof(text))) > 0)
        for (ssize_t i = 0; i < got; i++)
            written += text[i] == '\n';
    log_warn("read again");
    got = read(ends[0], text, sizeof(text) - 1);
    dup2(saved, STDERR_FILENO);
    close(saved);
    log_wait_ms = 1000;
    assert_in_range(written, 1, 199);
    assert_true(got > 0);
    text[got] = 0;
    snprintf(filler, sizeof(filler), " warning \"log messages dropped\" messages=%u\n",
             200 - written);
    assert_non_null(strstr(text, filler));
    assert_non_null(strstr(text, " warning \"read again\"\n"));
    close(ends[0]);
    close(ends[1]);
}

static void test_metrics__text_has_totals_and_buckets(void **state)
{
    _cleanup_(freep) char *text = NULL;
    size_t len;

    metric_register(&metric_probe);
    metric_register(&metric_slow);
    STAT_ADD(probe, 41);
    STAT_INC(probe);
    STAT_OBSERVE(slow, 1500); /* 2 us bucket */
    text = metrics_text(&len);
    assert_non_null(strstr(text, "hearth_probe_total 42\n"));
    assert_non_null(strstr(text, "hearth_slow_seconds_bucket{le=\"0.000001\"} 0\n"));
    assert_non_null(strstr(text, "hearth_slow_seconds_bucket{le=\"0.000002\"} 1\n"));
    assert_non_null(strstr(text, "hearth_slow_seconds_bucket{le=\"+Inf\"} 1\n"));
}

/* The wait status of a child that passes the point three times. */
static int status_with(const char *failpoint)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        setenv("HEARTH_FAILPOINT", failpoint, 1);
        for (int i = 0; i < 3; i++) {
            FAILPOINT("probe");
            FAILPOINT("probe_of_another_name");
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void test_failpoint__the_nth_hit_is_the_last(void **state)
{
#ifdef HEARTH_FAILPOINTS
    const int killed = SIGKILL;
#else
    const int killed = 0; /* they are not there */
#endif

    assert_int_equal(status_with("probe:1"), killed);
    assert_int_equal(status_with("probe:3"), killed);
    assert_int_equal(status_with("probe:4"), 0);
    assert_int_equal(status_with("prob:1"), 0);
    assert_int_equal(status_with("nonsense"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena__pieces_are_aligned_and_keep_their_bytes),
        cmocka_unit_test(test_span__numbers_are_digits_only_and_do_not_overflow),
        cmocka_unit_test(test_iobuf__an_empty_pool_serves_waiters_in_order),
        cmocka_unit_test(test_iobuf__cancel_of_a_waiter_served_by_another_thread_does_nothing),
        cmocka_unit_test(test_log__values_cannot_break_the_line),
        cmocka_unit_test(test_log__does_not_wait_for_its_reader),
        cmocka_unit_test(test_metrics__text_has_totals_and_buckets),
        cmocka_unit_test(test_failpoint__the_nth_hit_is_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
