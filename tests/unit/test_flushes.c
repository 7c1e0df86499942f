/* Each flush of log, rounds and start is needed: without it some crash state loses what was
 * answered, or refuses to open. Method: the runs of log_run.h with one flush, or one place that
 * flushes, left out (io_tap.h); a mutant must be caught within a few runs, and what kills it must
 * find nothing in the engine as it is. Headers of slabs: test_slab; superblocks: test_super; bytes
 * that compaction moved, early reuse of slots: test_reuse. */
#include "tests/unit/log_run.h"

#define RUNS_MAX 5 /* which changes share a flush is the threads' affair */

/* Judges captures from..to with several cuts each. NULL: all are right. */
static char *judge_captures(struct run *run, unsigned from, unsigned to, unsigned stride,
                            unsigned seeds)
{
    char *why = NULL;

    for (unsigned s = 1; s <= seeds && !why; s++)
        for (unsigned i = from; i < to && !why; i += stride)
            why =
                judge(run, &run->capture[i], any_copy(run, &run->capture[i], s), s * 31 + i, false);
    return why;
}

/* Captures of the first boot only: while the second one starts, the log is on one device. */
static unsigned first_boot(const struct run *run)
{
    unsigned n = 0;

    while (n < run->captures && run->capture[n].copies <= run->copy_boot)
        n++;
    return n;
}

/* ---- one flush of a round ---- */

/* *ret_met false: the run had fewer log flushes than that. */
static char *judge_nth(uint64_t nth, bool *ret_met)
{
    struct plan plan = {.seed = 1, .devices = 1, .skip = {.flush = TAP_LOG, .number = nth}};
    struct run *run = run_make(&plan);
    char *why = NULL;

    *ret_met = atomic_load(&run->tap.skipped) > 0;
    if (*ret_met) /* the flush after next makes up for it */
        why =
            judge_captures(run, run->mutant_at + 1, MIN(run->captures, run->mutant_at + 7), 1, 10);
    run_free(run);
    return why;
}

/* A superblock's flush that comes between may make up for a lost one: then the run is made again.
 */
static void test_flush__any_one_log_flush_is_needed(void **state)
{
    bool met = true;

    for (uint64_t nth = 1; met; nth += is_long() ? 1 : 3) {
        _cleanup_(freep) char *why = NULL;

        for (int i = 0; i < RUNS_MAX && met && !why; i++)
            why = judge_nth(nth, &met);
        if (met)
            print_message("without log flush %llu: %s\n", (unsigned long long)nth,
                          why ? why : "nothing is lost");
        assert_true(why || (!met && nth > 3));
    }
}

/* ---- one place that flushes ---- */

struct mutant {
    const char *name;
    struct plan plan;
    int lost; /* the copy of the log that is gone after the cut */
};

static const struct mutant mutants[] = {
    {"rounds do not flush the log", {.devices = 1, .skip = {.flush = TAP_LOG}}, LOSE_NONE},
    {"rounds do not flush the first copy",
     {.devices = 2, .skip = {.flush = TAP_LOG, .devices = 1}},
     1},
    {"rounds do not flush the second copy",
     {.devices = 2, .skip = {.flush = TAP_LOG, .devices = 2}},
     0},
    {"rounds do not flush a device of data only",
     {.devices = 3, .skip = {.flush = TAP_DATA}},
     LOSE_NONE},
    {"nobody tells that a device was written", {.devices = 3, .untold = true}, LOSE_NONE},
    {"the cut record is not flushed", {.devices = 1, .skip = {.flush = TAP_EPOCH}}, LOSE_NONE},
};

static char *judge_mutant(const struct mutant *mutant, uint64_t seed)
{
    struct plan plan = mutant->plan;
    struct run *run;
    char *why;

    plan.seed = seed;
    run = run_make(&plan);
    assert_true(plan.untold || atomic_load(&run->tap.skipped) > 0);
    lost_device = mutant->lost;
    why = judge_captures(run, 0, lost_device == LOSE_NONE ? run->captures : first_boot(run), 1, 2);
    lost_device = LOSE_NONE;
    run_free(run);
    return why;
}

static void test_flush__each_place_is_needed(void **state)
{
    for (unsigned i = 0; i < countof(mutants); i++) {
        _cleanup_(freep) char *why = NULL;

        for (uint64_t seed = 3; seed < 3 + RUNS_MAX && !why; seed++)
            why = judge_mutant(&mutants[i], seed);
        print_message("%s: %s\n", mutants[i].name, why ? why : "nothing is lost");
        assert_non_null(why);
    }
}

static void test_flush__either_copy_of_the_log_is_enough_after_a_cut(void **state)
{
    struct plan plan = {.seed = 4, .devices = 2};
    struct run *run = run_make(&plan);
    char *why = NULL;

    for (lost_device = 0; lost_device < 2 && !why; lost_device++)
        why = judge_captures(run, (unsigned)lost_device, first_boot(run), is_long() ? 1 : 4, 1);
    if (why)
        fail_msg("without the log of device %d: %s", lost_device - 1, why);
    lost_device = LOSE_NONE;
    run_free(run);
}

/* ---- what a killed process left in the devices' caches ---- */

/* The start has replayed and, with its log on several devices, flushed the index: older copies of
 * it go with no state from here on. Its own thread. */
static void before_start_io(void *arg, const struct io_tap_event *event)
{
    struct run *run = arg;

    if (event->flush == TAP_SLAB_LOG && !run->copy_boot) {
        copy_index(run);
        run->copy_boot = 1;
    }
    before_io(arg, event);
}

/* The process is killed at the capture: the next one finds all that was written, flushed or not.
 * A cut under its start, or right after it, must not take what it built on. */
static char *judge_killed(struct run *killed, const struct capture *c, struct io_tap_skip skip)
{
    struct committer_conf conf = {.check_bytes = check_page};
    struct plan plan = killed->plan;
    struct run *run;
    char *why = NULL;

    plan.skip = skip;
    run = run_of(&plan, logbox_from(io_sim_clone(c->sim), killed->copy[0], &conf, plan.devices));
    run->box->conf.check_arg = run->box;
    run->tap.before = before_start_io;
    copy_index(run);
    atomic_store(&run->answered, c->answered);
    atomic_store(&run->submitted, c->submitted);
    run_begin(run);
    if (!logbox_open(run->box, &why)) {
        atomic_store(&run->answered, (unsigned)commit_last(run->box->committer));
        why = judge_rows(run->box, run->answered); /* read: from now on it must stay */
        take(run);
        logbox_close(run->box, false);
    }
    if (!why)
        why = judge_captures(run, 0, run->captures, 1, 1);
    run_free(run);
    return why;
}

/* Kills where records and bytes are written and not all of it is flushed. */
static char *judge_kills(struct io_tap_skip skip, unsigned stride)
{
    struct plan plan = {.seed = 3, .devices = 3};
    struct run *run = run_make(&plan);
    unsigned end = first_boot(run);
    char *why = NULL;

    for (unsigned i = 1; i < end && !why; i += stride)
        if (run->capture[i].answered < run->capture[i].submitted)
            why = judge_killed(run, &run->capture[i], skip);
    run_free(run);
    return why;
}

static void test_flush__start_builds_on_nothing_that_a_cut_can_take(void **state)
{
    char *why = judge_kills((struct io_tap_skip){0}, is_long() ? 2 : 9);

    if (why)
        fail_msg("%s", why);
}

static void test_flush__start_needs_its_flush(void **state)
{
    _cleanup_(freep) char *why = judge_kills((struct io_tap_skip){.flush = TAP_START}, 1);

    print_message("start does not flush: %s\n", why ? why : "nothing is lost");
    assert_non_null(why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flush__any_one_log_flush_is_needed),
        cmocka_unit_test(test_flush__each_place_is_needed),
        cmocka_unit_test(test_flush__either_copy_of_the_log_is_enough_after_a_cut),
        cmocka_unit_test(test_flush__start_builds_on_nothing_that_a_cut_can_take),
        cmocka_unit_test(test_flush__start_needs_its_flush),
    };

    log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
