/* Crash states of the log: whatever a power cut leaves, what was answered is there and the rest is
 * wholly there or wholly absent.
 *
 * Method: short runs (open, up to 3 changes at once, restart, changes, close) over simulated
 * devices. Before each device write and flush and at each publish the devices are cloned, with how
 * many changes were published by then. Each clone is cut with some seeds, paired with any copy of
 * the index folder taken until then, and opened. A change writes a page of bytes, then a record
 * that names the page and its CRC, in two families; check_bytes judges pages as the cache would.
 * Mutants lose one log flush each and must be caught. A fifth runs by default; HEARTH_LONG=1 runs
 * all. */
#include "tests/unit/unit.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc64.h"
#include "base/log.h"
#include "tests/support/io_tap.h"
#include "tests/support/logbox.h"
#include "tests/support/tempdir.h"

#define CHANGES_MAX  16
#define KEYS         4
#define CAPTURES_MAX 400
#define COPIES_MAX   8
#define DATA_SLAB    7 /* the log takes the first ones */

struct capture {
    struct io_sim *sim;
    unsigned answered, submitted, copies;
};

struct run {
    struct logbox *box;
    struct io_tap tap;
    pthread_mutex_t lock;
    bool capturing;
    struct capture capture[CAPTURES_MAX];
    unsigned captures, mutant_at; /* capture before the flush that is left out */
    bool mutant_met;
    char *copy[COPIES_MAX];
    _Atomic unsigned copies, answered, submitted;
    unsigned changes;   /* that were made so far */
    unsigned copy_boot; /* copy of the index that the second boot began with */
    uint64_t seed;
};

static unsigned states;

static void quiet(void *arg, const char *line)
{
}

/* ---- one run ---- */

/* mutant: the flush that is left out comes next. */
static void take_at(struct run *run, bool mutant)
{
    struct capture *c;

    SCOPED_LOCK(&run->lock);
    if (mutant) {
        run->mutant_at = run->captures;
        run->mutant_met = true;
    }
    if (!run->capturing || run->captures == CAPTURES_MAX)
        return;
    c = &run->capture[run->captures++];
    c->answered = atomic_load(&run->answered); /* before the clone: these must survive */
    c->copies = atomic_load(&run->copies);
    c->sim = io_sim_clone(run->box->sim);
    c->submitted = atomic_load(&run->submitted); /* after it: no others can be there */
}

static void take(struct run *run)
{
    take_at(run, false);
}

static void before_io(void *arg, enum io_tap_kind kind, uint64_t log_flush)
{
    struct run *run = arg;

    take_at(run, log_flush && log_flush == run->tap.log_flush_skip);
}

static void copy_index(struct run *run)
{
    unsigned n = atomic_load(&run->copies);
    _cleanup_(freep) char *name = xasprintf("copy%u", n);

    if (n == COPIES_MAX)
        return;
    run->copy[n] = tempdir_path(run->box->dir, name);
    logbox_index_copy(run->box, run->copy[n]);
    atomic_store(&run->copies, n + 1);
}

static void on_publish(struct change *change, uint64_t commit, int err)
{
    struct run *run = change->arg;

    if (err)
        return;
    atomic_store(&run->answered, (unsigned)commit);
    take(run); /* the next round's flush may be running already */
}

static uint64_t page_offset(struct slab_store *slabs, unsigned i)
{
    return slab_offset(slabs, 0, DATA_SLAB) + (uint64_t)(1 + i) * IO_ALIGN;
}

static uint64_t page_crc(unsigned i, uint64_t seed)
{
    uint64_t filler = seed * 1000003 + i;

    return crc64(0, &filler, sizeof(filler));
}

/* Bytes, then the record. */
static void submit(struct run *run, unsigned i, struct completion *done)
{
    struct logbox *box = run->box;
    struct io *io = slab_device_io(box->slabs, 0);
    _cleanup_(freep) char *page = xaligned(IO_ALIGN, IO_ALIGN);
    struct change *change = change_new();
    char key[8], value[64];

    for (unsigned at = 0; at < IO_ALIGN; at += 8)
        le64_put(page + at, page_crc(i, run->seed) + at);
    assert_int_equal(io->ops->write(io, page, IO_ALIGN, page_offset(box->slabs, i)), 0);
    commit_wrote(box->committer, 0);
    snprintf(key, sizeof(key), "k%u", i % KEYS);
    snprintf(value, sizeof(value), "%u %llx", i, (unsigned long long)crc64(0, page, IO_ALIGN));
    change_put(change, FAM_BLOBS, span_of(key), span_of(value));
    change_put(change, FAM_OBJECTS, span_of(key), span_of(value));
    change->arg = run;
    change->publish = on_publish;
    change->done = done;
    atomic_fetch_add(&run->submitted, 1);
    commit_submit(box->committer, change);
}

static void submit_together(struct run *run, unsigned n)
{
    struct awaited awaited[3];
    struct loop *loop = loop_poll_loop(run->box->poll);

    loop_enter(loop);
    for (unsigned i = 0; i < n; i++)
        submit(run, ++run->changes, awaited_init(&awaited[i], loop));
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(loop_await(run->box->poll, &awaited[i]), 0);
}

/* Two boots; with two devices the log is on both. The index reaches the disk now and then. */
static struct run *run_make(uint64_t seed, unsigned devices, uint64_t mutant)
{
    struct run *run = xcalloc(1, sizeof(*run));
    uint64_t draw = seed;

    pthread_mutex_init(&run->lock, NULL);
    run->seed = seed;
    run->box = logbox_new(devices, seed);
    io_tap_init(&run->tap, io_sim_ops(run->box->sim));
    run->tap.before = before_io;
    run->tap.arg = run;
    run->box->io_ops = &run->tap.ops;
    logbox_open_ok(run->box);
    copy_index(run);
    run->capturing = true;
    run->tap.log_flush_skip = mutant ? atomic_load(&run->tap.log_flushes) + mutant : 0;
    for (int boot = 0; boot < 2; boot++) {
        for (int i = 0; i < 3; i++) {
            draw = draw * 6364136223846793005ull + 1442695040888963407ull;
            submit_together(run, 1 + (draw >> 33) % 3);
            if ((draw >> 40) % 3 == 0) {
                assert_int_equal(index_flush(run->box->index), 0);
                copy_index(run);
            }
        }
        logbox_close(run->box, boot == 0);
        copy_index(run);
        if (boot == 0)
            run->copy_boot = atomic_load(&run->copies) - 1;
        if (boot == 0)
            logbox_open_ok(run->box);
    }
    take(run);
    return run;
}

static void run_free(struct run *run)
{
    for (unsigned i = 0; i < run->captures; i++)
        io_sim_free(run->capture[i].sim);
    for (unsigned i = 0; i < run->copies; i++)
        free(run->copy[i]);
    logbox_free(run->box);
    pthread_mutex_destroy(&run->lock);
    free(run);
}

/* ---- one state ---- */

static int check_page(void *arg, const struct entry *entry, bool superseded)
{
    struct logbox *box = arg;
    struct io *io = slab_device_io(box->slabs, 0);
    _cleanup_(freep) char *page = xaligned(IO_ALIGN, IO_ALIGN);
    _cleanup_(freep) char *value = strndup(entry->value.base, entry->value.len);
    unsigned long long crc;
    unsigned i;

    if (sscanf(value, "%u %llx", &i, &crc) != 2)
        return 0; /* the row that says the chain goes on */
    if (io->ops->read(io, page, IO_ALIGN, page_offset(box->slabs, i)))
        return -EIO;
    return crc64(0, page, IO_ALIGN) == crc ? 0 : -EUCLEAN;
}

/* NULL, or what is wrong: is the state that of the first n changes, in both families, with bytes?
 */
static char *judge_rows(struct logbox *image, unsigned n)
{
    static const enum family families[] = {FAM_BLOBS, FAM_OBJECTS};
    struct index_value value;
    char key[8];
    unsigned want, got;

    for (unsigned k = 0; k < KEYS; k++)
        for (unsigned f = 0; f < countof(families); f++) {
            for (want = n; want && want % KEYS != k; want--)
                ;
            snprintf(key, sizeof(key), "k%u", k);
            got = 0;
            if (!index_get(image->index, NULL, families[f], span_of(key), &value)) {
                struct entry entry = {families[f], ENTRY_PUT, span_of(key), value.bytes};

                sscanf(value.bytes.base, "%u", &got);
                if (check_page(image, &entry, false))
                    got = 1000; /* rows without their bytes */
                index_value_done(&value);
            }
            if (got != want)
                return xasprintf("after %u changes %s of %s is of change %u, not %u", n, key,
                                 family_name(families[f]), got, want);
        }
    return NULL;
}

/* The chain goes on: one more change survives the next cut. */
static char *judge_next(struct logbox *image, unsigned n, uint64_t seed)
{
    char *why = NULL;
    struct logbox *second;

    if (logbox_put(image, "next", "1") || commit_last(image->committer) != n + 1)
        return xasprintf("the change after %u was not taken", n);
    second = logbox_image(image);
    second->conf.check_arg = second;
    io_sim_crash(second->sim, seed);
    if (!logbox_open(second, &why)) {
        if (commit_last(second->committer) != n + 1)
            why = xasprintf("after another cut the log ends at %llu, not %u",
                            (unsigned long long)commit_last(second->committer), n + 1);
        else
            why = judge_rows(second, n);
    }
    logbox_free(second);
    return why;
}

static char *judge(struct run *run, const struct capture *c, unsigned copy, uint64_t seed,
                   bool twice)
{
    struct committer_conf conf = {.check_bytes = check_page};
    struct io_sim *sim = io_sim_clone(c->sim);
    struct logbox *image = logbox_from(sim, run->copy[copy], &conf, run->box->devices);
    char *why = NULL;
    unsigned n;

    states++;
    image->conf.check_arg = image;
    io_sim_crash(sim, seed);
    if (!logbox_open(image, &why)) {
        n = (unsigned)commit_last(image->committer);
        if (n < c->answered || n > c->submitted)
            why = xasprintf("the log ends at %u; %u were answered, %u submitted", n, c->answered,
                            c->submitted);
        if (!why)
            why = judge_rows(image, n);
        if (!why && twice)
            why = judge_next(image, n, seed + 1);
    }
    logbox_free(image);
    return why;
}

/* Any copy of the index from before the capture. But with two devices a start makes the log before
 * it unneeded, since that is on one device only, and gives it back: copies from then on. */
static unsigned any_copy(const struct run *run, const struct capture *c, uint64_t seed)
{
    unsigned first = run->box->devices > 1 && c->copies > run->copy_boot ? run->copy_boot : 0;

    return first + (unsigned)(seed % (c->copies - first));
}

/* Judges states of a run: each stride-th capture with `seeds` cuts. NULL: all of them are right. */
static char *judge_run(struct run *run, unsigned stride, unsigned seeds)
{
    char *why = NULL;

    for (unsigned i = 0; i < run->captures && !why; i += stride)
        for (unsigned s = 0; s < seeds && !why; s++) {
            uint64_t seed = run->seed * 10007 + i * 101 + s;

            why = judge(run, &run->capture[i], any_copy(run, &run->capture[i], seed), seed,
                        s == 0 && i % 5 == 0);
        }
    return why;
}

static bool is_long(void)
{
    const char *text = getenv("HEARTH_LONG");

    return text && strcmp(text, "1") == 0;
}

static void test_crash__answered_changes_are_there_in_every_state(void **state)
{
    unsigned runs = is_long() ? 5 : 2;

    for (uint64_t seed = 1; seed <= runs; seed++) {
        struct run *run = run_make(seed, 1 + (unsigned)(seed + 1) % 2, 0);
        char *why = judge_run(run, is_long() ? 1 : 3, 3);

        if (why)
            fail_msg("run %llu: %s", (unsigned long long)seed, why);
        run_free(run);
    }
    print_message("%u crash states\n", states);
    assert_true(states >= (is_long() ? 500 : 100));
}

/* Without that flush: what some state soon after it loses. */
static char *judge_mutant(uint64_t mutant, uint64_t tries, bool *met)
{
    struct run *run = run_make(3, 1, mutant);
    char *why = NULL;

    *met = run->mutant_met;
    for (uint64_t seed = 1; *met && seed <= tries && !why; seed++)
        for (unsigned i = run->mutant_at + 1; i < run->captures && !why; i++) {
            if (i > run->mutant_at + 6)
                break; /* the next flush makes up for it */
            why = judge(run, &run->capture[i], 0, seed * 31 + i, false);
        }
    run_free(run);
    return why;
}

/* Each flush that makes records durable is needed: without it some state loses what was answered.
 * Which changes share a flush is the threads' affair, so how many there are differs. A superblock
 * flush that comes between may make up for a lost one: then the run is made again. */
static void test_crash__any_lost_log_flush_is_caught(void **state)
{
    bool met = true;

    for (uint64_t mutant = 1; met; mutant += is_long() ? 1 : 3) {
        _cleanup_(freep) char *why = NULL;

        for (int i = 0; i < 5 && met && !why; i++)
            why = judge_mutant(mutant, 10, &met);
        if (met)
            print_message("without log flush %llu: %s\n", (unsigned long long)mutant,
                          why ? why : "nothing is lost");
        assert_true(why || (!met && mutant > 3));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash__answered_changes_are_there_in_every_state),
        cmocka_unit_test(test_crash__any_lost_log_flush_is_caught),
    };

    log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
