/* The step runner and the rules O1-O7 that can be seen from outside. */
#include "tests/unit/unit.h"

#include "base/loop.h"
#include "base/op.h"
#include "base/worker.h"

struct probe {
    struct op op;
    struct loop_poll *poll;
    struct workers *workers;
    int steps, cancels;
    bool freed;
    int last_err;
};

static struct probe *probe_of(struct op *op)
{
    return container_of(op, struct probe, op);
}

static void probe_free(struct op *op)
{
    probe_of(op)->freed = true;
}

static struct next probe_end(struct op *op)
{
    probe_of(op)->steps++;
    probe_of(op)->last_err = op->done.err;
    return FINISH;
}

static struct next probe_post_now(struct op *op)
{
    probe_of(op)->steps++;
    completion_post(&op->done, -ENOENT);
    return AWAIT(probe_end);
}

static void held_cancel(struct completion *done)
{
    struct probe *probe = done->callee;

    probe->cancels++;
    completion_post(done, -ECANCELED);
}

static struct next probe_hold(struct op *op)
{
    struct probe *probe = probe_of(op);

    probe->steps++;
    op->done.callee = probe;
    op->done.cancel = held_cancel;
    return AWAIT(probe_end);
}

static int answer_42(void *arg)
{
    *(int *)arg = 42;
    return -EDOM;
}

static struct next probe_work(struct op *op)
{
    struct probe *probe = probe_of(op);

    worker_run(probe->workers, answer_42, &probe->steps, &op->done);
    return AWAIT(probe_end);
}

static int setup(void **state)
{
    struct probe *probe = xcalloc(1, sizeof(*probe));

    probe->poll = loop_poll_new();
    loop_enter(loop_poll_loop(probe->poll));
    op_init(&probe->op, loop_poll_loop(probe->poll), probe_free);
    *state = probe;
    return 0;
}

static int teardown(void **state)
{
    struct probe *probe = *state;

    loop_enter(NULL);
    loop_poll_free(probe->poll);
    workers_free(probe->workers);
    free(probe);
    return 0;
}

static void test_op__a_posted_answer_arrives_after_the_step_that_asked(void **state)
{
    struct probe *probe = *state;
    char text[128];

    op_start(&probe->op, GO(probe_post_now));
    assert_int_equal(probe->steps, 1); /* O2 */
    assert_false(probe->freed);
    loop_poll_until(probe->poll, &probe->freed);
    assert_int_equal(probe->steps, 2);
    assert_int_equal(probe->last_err, -ENOENT);
    trail_print(&probe->op.trail, text, sizeof(text));
    assert_string_equal(text, "probe_post_now>probe_end(-2)");
}

static void test_op__cancel_reaches_the_callee_once_and_ends_the_op(void **state)
{
    struct probe *probe = *state;

    op_start(&probe->op, GO(probe_hold));
    op_cancel(&probe->op);
    op_cancel(&probe->op);
    assert_int_equal(probe->cancels, 1);
    assert_false(probe->freed); /* O5: not before the outstanding post */
    loop_poll_until(probe->poll, &probe->freed);
    assert_int_equal(probe->steps, 1); /* the next step never ran */
}

static int post_from_there(void *arg)
{
    completion_post(arg, 0);
    return 0;
}

static void late_cancel(struct completion *done) /* as a callee that finds its post on the way */
{
    struct probe *probe = done->callee;

    probe->cancels++;
}

static void test_op__cancel_after_a_post_of_another_thread_finds_the_callee(void **state)
{
    struct probe *probe = *state;

    op_start(&probe->op, GO(probe_hold));
    probe->op.done.cancel = late_cancel;
    probe->workers = workers_new(1, "test");
    worker_run(probe->workers, post_from_there, &probe->op.done, NULL);
    probe->workers = workers_free(probe->workers); /* posted, not taken in */
    op_cancel(&probe->op);
    assert_int_equal(probe->cancels, 1);
    loop_poll_until(probe->poll, &probe->freed);
    assert_null(probe->op.done.cancel);
    assert_int_equal(probe->steps, 1);
}

static void test_op__worker_result_comes_back_on_the_loop(void **state)
{
    struct probe *probe = *state;

    probe->workers = workers_new(1, "test");
    op_start(&probe->op, GO(probe_work));
    loop_poll_until(probe->poll, &probe->freed);
    assert_int_equal(probe->steps, 43);
    assert_int_equal(probe->last_err, -EDOM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_op__a_posted_answer_arrives_after_the_step_that_asked,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_op__cancel_reaches_the_callee_once_and_ends_the_op,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_op__cancel_after_a_post_of_another_thread_finds_the_callee, setup, teardown),
        cmocka_unit_test_setup_teardown(test_op__worker_result_comes_back_on_the_loop, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
