/* tests/unit/log_run.h - short runs over a box without content, their crash states, and what a
 * state must be: for test_crash_log.c and test_flushes.c.
 *
 * A run: open, up to 3 changes at once, restart, changes, close. Before each device write and flush
 * and at each publish the devices are cloned, with how many changes were published by then. A clone
 * is cut with some seed, paired with any copy of the index folder taken until then, and opened. A
 * change writes a page of bytes, then a record that names the page and its CRC, in two families;
 * check_bytes judges pages as the cache would. With three devices the pages lie on the third, which
 * has no log. */
#ifndef TESTS_LOG_RUN_H
#define TESTS_LOG_RUN_H

#include "tests/unit/unit.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/crc64.h"
#include "base/log.h"
#include "tests/support/io_tap.h"
#include "tests/support/logbox.h"
#include "tests/support/tempdir.h"

#define KEYS         4
#define CAPTURES_MAX 400
#define COPIES_MAX   8
#define DATA_SLAB    7 /* the log takes the first ones */

struct capture {
    struct io_sim *sim;
    unsigned answered, submitted, copies;
};

struct plan {
    uint64_t seed;
    unsigned devices;
    struct io_tap_skip skip; /* mutant; its number counts from the first capture on */
    bool untold;             /* mutant: nobody calls commit_wrote */
};

struct run {
    struct plan plan;
    struct logbox *box;
    struct io_tap tap;
    pthread_mutex_t lock;
    bool capturing;
    struct capture capture[CAPTURES_MAX];
    unsigned captures, mutant_at; /* capture before the flush that was left out last */
    char *copy[COPIES_MAX];
    _Atomic unsigned copies, answered, submitted;
    unsigned changes;   /* that were made so far */
    unsigned copy_boot; /* copy of the index that the second boot began with */
};

static unsigned states;

static inline void quiet(void *arg, const char *line)
{
}

/* ---- one run ---- */

static void take(struct run *run)
{
    struct capture *c;

    SCOPED_LOCK(&run->lock);
    if (!run->capturing || run->captures == CAPTURES_MAX)
        return;
    c = &run->capture[run->captures++];
    c->answered = atomic_load(&run->answered); /* before the clone: these must survive */
    c->copies = atomic_load(&run->copies);
    c->sim = io_sim_clone(run->box->sim);
    c->submitted = atomic_load(&run->submitted); /* after it: no others can be there */
}

static void before_io(void *arg, const struct io_tap_event *event)
{
    struct run *run = arg;

    take(run);
    if (!event->skipped)
        return;
    SCOPED_LOCK(&run->lock);
    run->mutant_at = run->captures - 1;
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

static unsigned page_device(const struct logbox *box)
{
    return box->devices > 2 ? 2 : 0;
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
    struct io *io = slab_device_io(box->slabs, page_device(box));
    _cleanup_(freep) char *page = xaligned(IO_ALIGN, IO_ALIGN);
    struct change *change = change_new();
    char key[8], value[64];

    for (unsigned at = 0; at < IO_ALIGN; at += 8)
        le64_put(page + at, page_crc(i, run->plan.seed) + at);
    assert_int_equal(io->ops->write(io, page, IO_ALIGN, page_offset(box->slabs, i)), 0);
    if (!run->plan.untold)
        commit_wrote(box->committer, page_device(box));
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

static struct run *run_of(const struct plan *plan, struct logbox *box)
{
    struct run *run = xcalloc(1, sizeof(*run));

    pthread_mutex_init(&run->lock, NULL);
    run->plan = *plan;
    run->box = box;
    io_tap_init(&run->tap, io_sim_ops(run->box->sim));
    run->tap.before = before_io;
    run->tap.arg = run;
    run->box->io_ops = &run->tap.ops;
    return run;
}

static void run_begin(struct run *run)
{
    run->tap.skip = run->plan.skip;
    if (run->tap.skip.number)
        run->tap.skip.number += atomic_load(&run->tap.flushes[run->tap.skip.flush]);
    run->capturing = true;
}

/* Two boots; with two devices the log is on both. The index reaches the disk now and then. */
static struct run *run_make(const struct plan *plan)
{
    struct run *run = run_of(plan, logbox_new(plan->devices, plan->seed));
    uint64_t draw = plan->seed;

    logbox_open_ok(run->box);
    copy_index(run);
    run_begin(run);
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
    struct io *io = slab_device_io(box->slabs, page_device(box));
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

/* Of the device's log no head can be read any more. */
static void lose_log(struct io_sim *sim, unsigned device)
{
    _cleanup_(freep) char *path = xasprintf("device%u", device);

    for (uint64_t slab = 0; slab < DATA_SLAB; slab++)
        io_sim_corrupt(sim, path, (2u << 20) + slab * (65u << 20) + IO_ALIGN, 0xff);
}

enum { LOSE_NONE = -1 };
static int lost_device = LOSE_NONE; /* after each cut its copy of the log is gone */

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
    if (lost_device != LOSE_NONE)
        lose_log(sim, (unsigned)lost_device);
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
static inline char *judge_run(struct run *run, unsigned stride, unsigned seeds)
{
    char *why = NULL;

    for (unsigned i = 0; i < run->captures && !why; i += stride)
        for (unsigned s = 0; s < seeds && !why; s++) {
            uint64_t seed = run->plan.seed * 10007 + i * 101 + s;

            why = judge(run, &run->capture[i], any_copy(run, &run->capture[i], seed), seed,
                        s == 0 && i % 5 == 0);
        }
    return why;
}

static inline bool is_long(void)
{
    const char *text = getenv("HEARTH_LONG");

    return text && strcmp(text, "1") == 0;
}

#endif
