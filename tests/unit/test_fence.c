/* What the committer makes of devices that fail: fences, what they refuse, and the starts after
 * them, on devices whose writes and reads the test plays with. */
#include "tests/unit/committer_fixture.h"

#include <semaphore.h>

#include "tests/support/tempdir.h"

static sem_t gate;

static int wait_at_gate(struct change *change)
{
    sem_wait(&gate);
    return 0;
}

/* ---- a write that fails right after the log went on in another slab ---- */

static struct io_ops failing_ops;
static struct io_sim *failing_sim;
static pthread_t failing_thread;
static bool fail_write;
static struct io *unreadable_io; /* of "device0" */
static uint64_t unreadable_from; /* device offset */

static int failing_open(const struct io_ops *ops, const char *path, uint64_t bytes, struct io **ret)
{
    int err = io_sim_ops(failing_sim)->open(io_sim_ops(failing_sim), path, bytes, ret);

    if (!err)
        (*ret)->ops = &failing_ops;
    if (!err && strcmp(path, "device0") == 0)
        unreadable_io = *ret;
    return err;
}

static int failing_read(struct io *io, void *into, uint32_t bytes, uint64_t offset)
{
    if (io == unreadable_io && offset <= unreadable_from && unreadable_from < offset + bytes)
        return -EIO;
    return io_sim_ops(failing_sim)->read(io, into, bytes, offset);
}

static int failing_write(struct io *io, const void *from, uint32_t bytes, uint64_t offset)
{
    bool fail = pthread_equal(pthread_self(), failing_thread) && fail_write;

    if (fail) {
        fail_write = false; /* only its own thread looks at it */
        return -EIO;
    }
    return io_sim_ops(failing_sim)->write(io, from, bytes, offset);
}

/* Of two copies' writes the first comes after the second, and in between is `cut_between`. */
static bool swap_writes;
static struct io_sim *cut_between;

static int swapped_write(struct io *io, const void *from, uint32_t bytes, uint64_t offset)
{
    static struct io *first;
    static uint64_t first_offset;
    const struct io_ops *ops = io_sim_ops(failing_sim);
    int err;

    if (!pthread_equal(pthread_self(), failing_thread) || !swap_writes)
        return ops->write(io, from, bytes, offset);
    if (!first) {
        first = io;
        first_offset = offset;
        return 0;
    }
    swap_writes = false;
    err = ops->write(io, from, bytes, offset);
    cut_between = io_sim_clone(failing_sim);
    return err ? err : ops->write(TAKE(first), from, bytes, first_offset);
}

static int decide_swaps_the_writes(struct change *change)
{
    failing_thread = pthread_self();
    swap_writes = true;
    return 0;
}

static int decide_fails_the_write(struct change *change)
{
    failing_thread = pthread_self();
    fail_write = true;
    return 0;
}

static struct logbox *failing_box(unsigned devices)
{
    struct logbox *box = logbox_new(devices, 1);

    log_set_sink(quiet, NULL);
    failing_sim = box->sim;
    failing_ops = *io_sim_ops(box->sim);
    failing_ops.open = failing_open;
    failing_ops.write = failing_write;
    failing_ops.read = failing_read;
    unreadable_from = UINT64_MAX;
    failing_thread = (pthread_t){0};
    box->io_ops = &failing_ops;
    logbox_open_ok(box);
    return box;
}

/* A record of 1 MiB to the byte: its batch pads nothing. */
static struct change *change_of_1mib(void)
{
    static char value[(1 << 20) - 84];

    memset(value, 'v', sizeof(value) - 1);
    return logbox_change("big", value);
}

static void test_fence__a_fence_while_the_log_turns_to_a_new_slab(void **state)
{
    struct logbox *box = failing_box(2), *image;
    struct change *changes[3] = {logbox_change("x", "1"), change_of_1mib(), change_of_1mib()};
    struct awaited awaited[3];
    uint64_t slabs = committer_stats(box->committer).log_slabs;

    for (unsigned i = 0; i < 63; i++) /* room is left for one more of them and a bit */
        assert_int_equal(logbox_commit(box, change_of_1mib()), 0);
    assert_int_equal(committer_stats(box->committer).log_slabs, slabs);
    sem_init(&gate, 0, 0);
    changes[0]->decide = wait_at_gate; /* so that they are one round; the last one turns */
    changes[2]->decide = decide_fails_the_write;
    for (int i = 0; i < 3; i++) {
        changes[i]->done = awaited_init(&awaited[i], loop_poll_loop(box->poll));
        commit_submit(box->committer, changes[i]);
    }
    sem_post(&gate);
    for (int i = 0; i < 3; i++)
        assert_int_equal(loop_await(box->poll, &awaited[i]), -EIO);
    sem_destroy(&gate);
    assert_int_not_equal(committer_stats(box->committer).fenced, 0);
    assert_int_equal(logbox_put(box, "c", "3"), 0);
    image = logbox_image(box);
    io_sim_crash(image->sim, 4);
    logbox_open_ok(image);
    expect(image, "c", "3");
    assert_int_equal(commit_last(image->committer), 64);
    logbox_free(image);
    logbox_free(box);
}

/* A copy that is one only since the fence is longer by what was never answered. */
static void test_fence__the_longer_copy_must_not_lack_the_history(void **state)
{
    struct logbox *box = failing_box(3), *image;
    struct change *change = logbox_change("d", "4");
    _cleanup_(freep) char *old = tempdir_path(box->dir, "old");

    logbox_index_copy(box, old);
    assert_int_equal(logbox_put(box, "a", "1"), 0);
    change->decide = decide_fails_the_write;
    assert_int_equal(logbox_commit(box, change), -EIO);
    assert_int_equal(committer_stats(box->committer).fenced, 1);
    assert_int_equal(logbox_put(box, "c", "3"), 0);
    failing_ops.write = swapped_write;
    change = logbox_change("d", "4");
    change->decide = decide_swaps_the_writes;
    assert_int_equal(logbox_commit(box, change), 0);
    image = logbox_from(cut_between, old, &box->conf, 3);
    logbox_open_ok(image);
    expect(image, "a", "1");
    expect(image, "c", "3");
    logbox_free(image);
    logbox_free(box);
}

/* A lost record, and the next that says it was flushed is a whole round away. */
static void test_fence__damage_is_told_from_a_tail_a_round_away(void **state)
{
    struct logbox *box = *state, *image;
    struct change *change = logbox_change("g", "1");
    struct awaited awaited[13];

    assert_int_equal(logbox_put(box, "a", "1"), 0); /* block 3; then "g" */
    sem_init(&gate, 0, 0);
    change->decide = wait_at_gate; /* one round with all that follows */
    for (unsigned i = 0; i < countof(awaited); i++) {
        change->done = awaited_init(&awaited[i], loop_poll_loop(box->poll));
        commit_submit(box->committer, change);
        change = change_of_1mib();
    }
    change_free(change);
    sem_post(&gate);
    for (unsigned i = 0; i < countof(awaited); i++)
        assert_int_equal(loop_await(box->poll, &awaited[i]), 0);
    sem_destroy(&gate);
    assert_int_equal(logbox_put(box, "z", "1"), 0);
    image = logbox_image(box);
    for (unsigned slab = 0; slab < 8; slab++)
        corrupt_block(image, "device0", slab, 4);
    expect_refused(image, "damaged behind change 1");
    logbox_free(image);
}

/* Long after the slab with the cut record was freed. */
static void test_fence__a_fence_is_for_ever(void **state)
{
    struct logbox *box = *state;
    uint64_t fenced;

    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    assert_int_equal(logbox_put(box, "b", "2"), -EIO);
    fenced = committer_stats(box->committer).fenced;
    assert_int_not_equal(fenced, 0);
    for (unsigned i = 0; i < 70; i++)
        assert_int_equal(logbox_commit(box, change_of_1mib()), 0);
    for (int i = 0; i < 2; i++) {
        logbox_close(box, true);
        logbox_open_ok(box);
        assert_int_equal(committer_stats(box->committer).fenced, fenced);
    }
}

static void test_fence__an_unreadable_copy_of_the_log_is_not_needed(void **state)
{
    struct logbox *box = failing_box(2);

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    for (unsigned block = 1; block < 5; block++) { /* head, cut record, change */
        logbox_close(box, false);
        unreadable_from = (2u << 20) + block * 4096;
        logbox_open_ok(box);
        expect(box, "a", "1");
        assert_int_equal(logbox_put(box, "b", "2"), 0);
    }
    logbox_close(box, false);
    for (unsigned slab = 0; slab < 8; slab++) /* now the other copy ends early */
        corrupt_block(box, "device1", slab, 2);
    expect_refused(box, "device number 0 cannot be flushed or read");
    logbox_free(box);
}

struct bytes_hook {
    struct change_hook hook;
    uint64_t devices;
    bool ordered;
    int err;
};

static uint64_t bytes_devices(struct change_hook *base)
{
    return container_of(base, struct bytes_hook, hook)->devices;
}

static void bytes_order(struct change_hook *base, struct change *change)
{
    container_of(base, struct bytes_hook, hook)->ordered = true;
}

static void bytes_end(struct change_hook *base, int err)
{
    container_of(base, struct bytes_hook, hook)->err = err;
}

static int put_with_bytes(struct logbox *box, struct bytes_hook *hook, uint64_t devices)
{
    struct change *change = logbox_change("bytes", "1");

    *hook = (struct bytes_hook){
        .hook = {.devices = bytes_devices, .order = bytes_order, .end = bytes_end},
        .devices = devices};
    change_add_hook(change, &hook->hook);
    for (unsigned d = 0; d < box->devices; d++)
        if (devices >> d & 1)
            commit_wrote(box->committer, d);
    return logbox_commit(box, change);
}

/* Written before the fence, submitted after it: no flush covers the bytes. */
static void test_fence__bytes_on_a_fenced_device_are_not_acknowledged(void **state)
{
    struct logbox *box = *state;
    struct bytes_hook hook;
    uint64_t fenced;

    assert_int_equal(put_with_bytes(box, &hook, 3), 0);
    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    assert_int_equal(logbox_put(box, "b", "2"), -EIO);
    fenced = committer_stats(box->committer).fenced;
    assert_int_equal(__builtin_popcountll(fenced), 1);
    assert_int_equal(put_with_bytes(box, &hook, 3), -EIO);
    assert_false(hook.ordered);
    assert_int_equal(hook.err, -EIO);
    assert_int_equal(put_with_bytes(box, &hook, fenced), -EIO);
    assert_int_equal(put_with_bytes(box, &hook, 3 & ~fenced), 0);
    assert_true(hook.ordered);
    assert_int_equal(commit_last(box->committer), 2);
}

/* ---- what failed together is undone newest first ---- */

#define FAILED_TOGETHER 20
struct undo_hook {
    struct change_hook hook;
    unsigned place; /* 1.. when it was ordered */
};
static unsigned ordered_now; /* and not ended */

static void undo_order(struct change_hook *base, struct change *change)
{
    container_of(base, struct undo_hook, hook)->place = ++ordered_now;
}

static void undo_end(struct change_hook *base, int err)
{
    assert_int_equal(err, -EIO);
    assert_int_equal(container_of(base, struct undo_hook, hook)->place, ordered_now);
    ordered_now--;
}

static int decide_when_all_are_there(struct change *change)
{
    sem_wait(&gate);
    return 0;
}

static void test_fence__what_fails_together_is_undone_newest_first(void **state)
{
    struct logbox *box = *state;
    struct undo_hook hooks[FAILED_TOGETHER][2];
    struct awaited awaited[FAILED_TOGETHER];

    sem_init(&gate, 0, 0);
    loop_enter(loop_poll_loop(box->poll));
    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    for (unsigned i = 0; i < FAILED_TOGETHER; i++) {
        struct change *change = logbox_change("a", "1");

        for (unsigned h = 0; h < 2; h++) {
            hooks[i][h] = (struct undo_hook){.hook = {.order = undo_order, .end = undo_end}};
            change_add_hook(change, &hooks[i][h].hook);
        }
        change->decide = i ? NULL : decide_when_all_are_there;
        change->done = awaited_init(&awaited[i], loop_poll_loop(box->poll));
        commit_submit(box->committer, change);
    }
    sem_post(&gate);
    for (unsigned i = 0; i < FAILED_TOGETHER; i++)
        assert_int_equal(loop_await(box->poll, &awaited[i]), -EIO);
    assert_int_equal(ordered_now, 0);
    sem_destroy(&gate);
    expect(box, "a", NULL);
}

#define CASE(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CASE_TWO(name) cmocka_unit_test_setup_teardown(name, setup_two, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fence__a_fence_while_the_log_turns_to_a_new_slab),
        cmocka_unit_test(test_fence__the_longer_copy_must_not_lack_the_history),
        CASE(test_fence__damage_is_told_from_a_tail_a_round_away),
        CASE_TWO(test_fence__a_fence_is_for_ever),
        cmocka_unit_test(test_fence__an_unreadable_copy_of_the_log_is_not_needed),
        CASE_TWO(test_fence__bytes_on_a_fenced_device_are_not_acknowledged),
        CASE_TWO(test_fence__what_fails_together_is_undone_newest_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
