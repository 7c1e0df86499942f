/* The committer over simulated devices and a real index: order, groups, refusals, failures,
 * restarts. */
#include "tests/unit/committer_fixture.h"

#include <semaphore.h>

#include "tests/support/tempdir.h"

static void test_commit__change_is_applied_when_done(void **state)
{
    struct logbox *box = *state;

    assert_int_equal(commit_last(box->committer), 0);
    assert_int_equal(logbox_put(box, "a", "1"), 0);
    expect(box, "a", "1");
    assert_int_equal(commit_last(box->committer), 1);
    assert_int_equal(commit_ordered(box->committer), 1);
    assert_int_equal(logbox_put(box, "a", NULL), 0);
    expect(box, "a", NULL);
    assert_int_equal(committer_stats(box->committer).commits, 2);
}

/* ---- order ---- */

#define MANY 500

struct watched {
    struct completion done;
    struct logbox *box;
    int place, err;
};
static int published[MANY], publish_count, decided;
static uint64_t published_number[MANY];
static bool all_done;
static int done_count;

static int decide_odd_only(struct change *change)
{
    struct watched *w = change->arg;

    assert_int_equal(w->place, decided); /* in the order submitted */
    decided++;
    return w->place % 3 == 2 ? -EDQUOT : 0;
}

static void publish_note(struct change *change, uint64_t commit, int err)
{
    struct watched *w = change->arg;

    published_number[publish_count] = commit;
    published[publish_count++] = w->place;
    w->err = err;
}

static void on_done(struct completion *done)
{
    struct watched *w = container_of(done, struct watched, done);

    assert_int_equal(done->err, w->err);
    all_done = ++done_count == MANY;
}

static void test_commit__many_keep_their_order_and_share_flushes(void **state)
{
    struct logbox *box = *state;
    static struct watched watched[MANY];
    uint64_t flushes = io_sim_count(box->sim, IO_SIM_FLUSH), number = 0;
    char key[16];

    for (int i = 0; i < MANY; i++) {
        struct change *change;

        snprintf(key, sizeof(key), "k%d", i);
        change = logbox_change(key, "v");
        watched[i] = (struct watched){
            .done = {.fn = on_done, .loop = loop_poll_loop(box->poll)}, .box = box, .place = i};
        change->arg = &watched[i];
        change->decide = decide_odd_only;
        change->publish = publish_note;
        change->done = &watched[i].done;
        commit_submit(box->committer, change);
    }
    loop_poll_until(box->poll, &all_done);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(published[i], i);
        assert_int_equal(watched[i].err, i % 3 == 2 ? -EDQUOT : 0);
        if (i % 3 != 2)
            assert_int_equal(published_number[i], ++number); /* refusals take no number */
        snprintf(key, sizeof(key), "k%d", i);
        expect(box, key, i % 3 == 2 ? NULL : "v");
    }
    assert_int_equal(commit_last(box->committer), number);
    assert_true(io_sim_count(box->sim, IO_SIM_FLUSH) - flushes < MANY / 2);
}

static int decide_adds(struct change *change)
{
    change_put(change, FAM_META, SPAN("added"), SPAN("by decide"));
    return 0;
}

static void test_commit__decide_may_add_entries(void **state)
{
    struct logbox *box = *state;
    struct change *change = logbox_change("a", "1");
    struct index_value value;

    change->decide = decide_adds;
    assert_int_equal(logbox_commit(box, change), 0);
    assert_int_equal(index_get(box->index, NULL, FAM_META, SPAN("added"), &value), 0);
    assert_span_equal(value.bytes, "by decide");
    index_value_done(&value);
}

/* ---- restarts ---- */

static void test_commit__clean_restart_goes_on(void **state)
{
    struct logbox *box = *state;
    uint32_t epoch = commit_epoch(box->committer);

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    logbox_close(box, true);
    logbox_open_ok(box);
    assert_true(commit_epoch(box->committer) > epoch);
    expect(box, "a", "1");
    assert_int_equal(logbox_put(box, "b", "2"), 0);
    assert_int_equal(commit_last(box->committer), 2);
    logbox_close(box, true);
    logbox_open_ok(box);
    expect(box, "a", "1");
    expect(box, "b", "2");
    assert_int_equal(commit_last(box->committer), 2);
}

static void test_commit__unclean_restart_replays(void **state)
{
    struct logbox *box = *state, *image;
    char key[16];

    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(logbox_put(box, key, "v"), 0);
    }
    assert_int_equal(logbox_put(box, "k7", NULL), 0);
    image = logbox_image(box);
    io_sim_crash(image->sim, 5);
    logbox_open_ok(image);
    assert_int_equal(commit_last(image->committer), 51);
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        expect(image, key, i == 7 ? NULL : "v");
    }
    logbox_free(image);
}

static void test_commit__crash_after_crash_does_not_fill_the_devices_with_log(void **state)
{
    struct logbox *box = *state, *image;
    char key[16];

    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(logbox_put(box, key, "v"), 0);
        image = logbox_image(box);
        logbox_free(box);
        box = *state = image;
        io_sim_crash(box->sim, (uint64_t)i);
        logbox_open_ok(box);
        assert_true(committer_stats(box->committer).log_slabs <= 5);
    }
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        expect(box, key, "v");
    }
}

static void test_commit__older_index_folder_replays_to_the_same_state(void **state)
{
    struct logbox *box = *state;
    _cleanup_(freep) char *old = tempdir_path(box->dir, "old");

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    assert_int_equal(logbox_put(box, "b", "1"), 0);
    assert_int_equal(index_flush(box->index), 0);
    logbox_index_copy(box, old);
    assert_int_equal(logbox_put(box, "a", "2"), 0);
    assert_int_equal(logbox_put(box, "b", NULL), 0);
    assert_int_equal(logbox_put(box, "c", "3"), 0);
    logbox_close(box, true);
    logbox_index_restore(box, old);
    logbox_open_ok(box);
    expect(box, "a", "2");
    expect(box, "b", NULL);
    expect(box, "c", "3");
}

/* Twice what the log may hold, faster than the index can follow: changes wait for it, again and
 * again. */
static void test_commit__big_changes_cross_slabs_and_old_log_is_freed(void **state)
{
    struct logbox *box = *state, *image;
    static char value[(1 << 20) - 64];
    struct awaited awaited[24];
    struct committer_stats stats;
    struct change *change;
    char key[16];

    memset(value, 'v', sizeof(value) - 1);
    for (unsigned round = 0; round < 24; round++) {
        for (unsigned i = 0; i < countof(awaited); i++) {
            snprintf(key, sizeof(key), "k%u", i);
            value[0] = (char)('a' + round);
            change = logbox_change(key, value);
            change->done = awaited_init(&awaited[i], loop_poll_loop(box->poll));
            commit_submit(box->committer, change);
        }
        for (unsigned i = 0; i < countof(awaited); i++)
            assert_int_equal(loop_await(box->poll, &awaited[i]), 0);
    }
    stats = committer_stats(box->committer);
    assert_true(stats.applied_persisted > 0);
    assert_true(stats.log_slabs <= 4);
    image = logbox_image(box);
    io_sim_crash(image->sim, 3);
    logbox_open_ok(image);
    assert_int_equal(commit_last(image->committer), 24 * 24);
    expect(image, "k9", value);
    logbox_free(image);
}

/* ---- refusals at start ---- */

static void test_commit__foreign_index_is_refused(void **state)
{
    struct logbox *box = *state, *other = logbox_new(1, 2);

    logbox_open_ok(other);
    assert_int_equal(logbox_put(other, "a", "1"), 0);
    logbox_close(other, true);
    logbox_close(box, true);
    logbox_index_restore(box, other->index_path);
    expect_refused(box, "belongs to other devices");
    logbox_free(other);
}

static void test_commit__devices_gone_back_in_time_are_refused(void **state)
{
    struct logbox *box = *state;
    struct io_sim *before;

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    logbox_close(box, true);
    before = io_sim_clone(box->sim);
    logbox_open_ok(box);
    assert_int_equal(logbox_put(box, "b", "1"), 0);
    logbox_close(box, true);
    io_sim_free(box->sim);
    box->sim = before;
    expect_refused(box, "the index is ahead of the commit log");
}

/* The last record, durable and answered, goes bad; nothing behind it tells but the superblock. */
static void test_commit__log_below_what_was_answered_is_refused(void **state)
{
    struct logbox *box = *state;
    _cleanup_(freep) char *old = tempdir_path(box->dir, "old");

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    assert_int_equal(index_flush(box->index), 0);
    logbox_index_copy(box, old);
    assert_int_equal(logbox_put(box, "b", "1"), 0);
    logbox_close(box, true);
    for (unsigned slab = 0; slab < 8; slab++)
        corrupt_block(box, "device0", slab, 4);
    logbox_index_restore(box, old);
    expect_refused(box, "the commit log ends at change 1 but 2 was answered");
}

static void test_commit__index_behind_the_oldest_record_is_refused(void **state)
{
    struct logbox *box = *state;
    _cleanup_(freep) char *old = tempdir_path(box->dir, "old");

    assert_int_equal(index_flush(box->index), 0);
    logbox_index_copy(box, old);
    for (int i = 0; i < 3; i++) { /* each start takes a new log slab and frees what the index has */
        assert_int_equal(logbox_put(box, "a", "1"), 0);
        logbox_close(box, true);
        logbox_open_ok(box);
    }
    /* Free slabs are reused. */
    for (int i = 0; i < 6; i++) {
        logbox_close(box, true);
        logbox_open_ok(box);
    }
    logbox_close(box, true);
    logbox_index_restore(box, old);
    expect_refused(box, "behind the oldest record");
}

static void test_commit__damage_below_a_known_flush_is_refused(void **state)
{
    struct logbox *box = *state, *image;

    for (int i = 0; i < 5; i++)
        assert_int_equal(logbox_put(box, "a", "1"), 0);
    image = logbox_image(box);
    for (unsigned slab = 0; slab < 8; slab++)
        corrupt_block(image, "device0", slab, 4);
    expect_refused(image, "damaged behind change 1");
    logbox_free(image);
}

/* ---- failures ---- */

static void test_commit__failed_flush_fences_and_fails_all(void **state)
{
    struct logbox *box = *state, *image;

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    assert_int_equal(logbox_put(box, "b", "2"), -EIO);
    expect(box, "b", NULL);
    assert_non_null(box->fatal);
    assert_true(committer_stats(box->committer).dead);
    assert_int_equal(logbox_put(box, "c", "3"), -EIO); /* never retried */
    assert_int_equal(commit_last(box->committer), 1);
    image = logbox_image(box);
    io_sim_crash(image->sim, 1);
    logbox_open_ok(image);
    expect(image, "a", "1");
    expect(image, "c", NULL);
    logbox_free(image);
}

static void test_commit__failed_log_write_fails_all(void **state)
{
    struct logbox *box = *state;

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    io_sim_fail(box->sim, IO_SIM_WRITE, 1, -EIO);
    assert_int_equal(logbox_put(box, "b", "2"), -EIO);
    assert_non_null(box->fatal);
    expect(box, "a", "1");
    expect(box, "b", NULL);
}

/* ---- bytes behind the last known flush ---- */

static const char *bad_key;
static int checks;

static int check_bytes(void *arg, const struct entry *entry, bool superseded)
{
    checks++;
    return bad_key && span_eq(entry->key, span_of(bad_key)) ? -EUCLEAN : 0;
}

static void test_commit__bytes_not_whole_cut_the_log(void **state)
{
    struct logbox *box = *state, *image;

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    assert_int_equal(logbox_put(box, "b", "1"), 0);
    image = logbox_image(box); /* as if the flush of b had not finished: b was never answered */
    image->conf.check_bytes = check_bytes;
    bad_key = "b";
    logbox_open_ok(image);
    assert_int_equal(checks, 1); /* a is known to be flushed */
    assert_int_equal(commit_last(image->committer), 1);
    expect(image, "a", "1");
    expect(image, "b", NULL);
    assert_int_equal(logbox_put(image, "c", "1"), 0);
    logbox_close(image, false);
    bad_key = NULL; /* the cut is in the log: b stays void */
    logbox_open_ok(image);
    expect(image, "b", NULL);
    expect(image, "c", "1");
    assert_int_equal(commit_last(image->committer), 2);
    logbox_free(image);
}

static sem_t gate;

static int wait_at_gate(struct change *change)
{
    sem_wait(&gate);
    return 0;
}

static int check_value(void *arg, const struct entry *entry, bool superseded)
{
    return !superseded && span_eq(entry->value, SPAN("bad")) ? -EUCLEAN : 0;
}

/* Three changes, the last two of one batch: neither is known to be flushed. */
static struct logbox *image_of_tail(struct logbox *box, const char *second, const char *third)
{
    struct change *changes[] = {logbox_change("x", "good"), logbox_change("a", second),
                                third ? logbox_change("a", third) : logbox_change("b", "good")};
    struct awaited awaited[3];
    struct logbox *image;

    sem_init(&gate, 0, 0);
    changes[0]->decide = wait_at_gate;
    for (int i = 0; i < 3; i++) {
        changes[i]->done = awaited_init(&awaited[i], loop_poll_loop(box->poll));
        commit_submit(box->committer, changes[i]);
    }
    sem_post(&gate);
    for (int i = 0; i < 3; i++)
        assert_int_equal(loop_await(box->poll, &awaited[i]), 0);
    sem_destroy(&gate);
    image = logbox_image(box);
    image->conf.check_bytes = check_value;
    logbox_open_ok(image);
    return image;
}

static void test_commit__replaced_rows_need_no_bytes(void **state)
{
    struct logbox *image = image_of_tail(*state, "bad", "good");

    assert_int_equal(commit_last(image->committer), 3);
    expect(image, "a", "good");
    logbox_free(image);
}

static void test_commit__what_a_cut_brings_back_is_judged_again(void **state)
{
    struct logbox *image = image_of_tail(*state, "bad", "bad");

    assert_int_equal(commit_last(image->committer), 1);
    expect(image, "a", NULL);
    expect(image, "x", "good");
    logbox_free(image);
}

static void test_commit__cut_takes_all_that_follows(void **state)
{
    struct logbox *image = image_of_tail(*state, "bad", NULL);

    assert_int_equal(commit_last(image->committer), 1);
    expect(image, "b", NULL);
    logbox_free(image);
}

/* ---- two devices ---- */

static void test_commit__one_of_two_devices_fails_and_it_goes_on(void **state)
{
    struct logbox *box = *state, *image;

    assert_int_equal(logbox_put(box, "a", "1"), 0);
    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    assert_int_equal(logbox_put(box, "b", "2"), -EIO);
    assert_null(box->fatal);
    assert_int_not_equal(committer_stats(box->committer).fenced, 0);
    expect(box, "b", NULL);
    assert_int_equal(logbox_put(box, "c", "3"), 0);
    assert_int_equal(commit_last(box->committer), 2);
    image = logbox_image(box);
    io_sim_crash(image->sim, 9);
    logbox_open_ok(image);
    expect(image, "a", "1");
    expect(image, "b", NULL);
    expect(image, "c", "3");
    assert_int_not_equal(committer_stats(image->committer).fenced, 0);
    logbox_free(image);
}

static void test_commit__either_of_two_copies_is_enough(void **state)
{
    struct logbox *box = *state;

    for (int i = 0; i < 5; i++)
        assert_int_equal(logbox_put(box, "a", "1"), 0);
    assert_int_equal(logbox_put(box, "b", "2"), 0);
    for (int d = 0; d < 2; d++) {
        struct logbox *image = logbox_image(box);

        for (unsigned slab = 0; slab < 8; slab++)
            corrupt_block(image, d ? "device1" : "device0", slab, 4);
        logbox_open_ok(image);
        expect(image, "b", "2");
        assert_int_equal(commit_last(image->committer), 6);
        assert_int_equal(logbox_put(image, "c", "3"), 0);
        logbox_close(image, true);
        logbox_open_ok(image);
        expect(image, "c", "3");
        logbox_free(image);
    }
}

#define CASE(name)     cmocka_unit_test_setup_teardown(name, setup, teardown)
#define CASE_TWO(name) cmocka_unit_test_setup_teardown(name, setup_two, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_commit__change_is_applied_when_done),
        CASE(test_commit__many_keep_their_order_and_share_flushes),
        CASE(test_commit__decide_may_add_entries),
        CASE(test_commit__clean_restart_goes_on),
        CASE(test_commit__unclean_restart_replays),
        CASE(test_commit__crash_after_crash_does_not_fill_the_devices_with_log),
        CASE(test_commit__older_index_folder_replays_to_the_same_state),
        CASE(test_commit__big_changes_cross_slabs_and_old_log_is_freed),
        CASE(test_commit__foreign_index_is_refused),
        CASE(test_commit__devices_gone_back_in_time_are_refused),
        CASE(test_commit__log_below_what_was_answered_is_refused),
        CASE(test_commit__index_behind_the_oldest_record_is_refused),
        CASE(test_commit__damage_below_a_known_flush_is_refused),
        CASE(test_commit__failed_flush_fences_and_fails_all),
        CASE(test_commit__failed_log_write_fails_all),
        CASE(test_commit__bytes_not_whole_cut_the_log),
        CASE(test_commit__replaced_rows_need_no_bytes),
        CASE(test_commit__what_a_cut_brings_back_is_judged_again),
        CASE(test_commit__cut_takes_all_that_follows),
        CASE_TWO(test_commit__one_of_two_devices_fails_and_it_goes_on),
        CASE_TWO(test_commit__either_of_two_copies_is_enough),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
