/* Power cuts while snapshots come and go. Goal: whatever the instant, the names, their snapshots
 * and the bytes of each are what they were after the last acknowledged change, or after the one
 * under way; the consistency walk finds nothing; what is deleted afterwards leaves no byte behind.
 *
 * Method: a seeded mix of puts (empty, located, shared, of blocks), snapshots, deletes of one, of
 * all, of a name with all, and promotions, one at a time, with the reaper and compaction behind
 * them; a restart in the middle. After each change the whole state is written down as a text. The
 * devices are cloned before writes and flushes (an even sample of all), each clone is cut and
 * opened with a copy of the index from before it, and its text must be one of two. One device and
 * two. */
#include "tests/unit/unit.h"

#include <inttypes.h>

#include "base/crc64.h"
#include "base/log.h"
#include "cache/content.h"
#include "tests/support/cachebox.h"
#include "tests/support/io_tap.h"
#include "tests/support/tempdir.h"

#define STEPS        40 /* per boot */
#define STATES_MAX   (2 * STEPS + 2)
#define CAPTURES_MAX 13
#define COPIES_MAX   8
#define PAIRS        2

struct capture {
    struct io_sim *sim;
    unsigned acked, copies;
};

struct run {
    struct cachebox *box;
    struct io_tap tap;
    uint64_t id, seed, draw;
    char *state[STATES_MAX]; /* after that many changes */
    pthread_mutex_t lock;    /* guards all below: captures are taken on any thread */
    unsigned acked;
    bool capturing;
    struct capture capture[CAPTURES_MAX];
    unsigned captures;
    uint64_t events;
    char *copy[COPIES_MAX];
    unsigned copies, copy_boot;
};

static const char *const names[] = {"a", "b", "dir/c"};

static uint64_t rnd_of(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % below;
}

static uint64_t rnd(struct run *run, uint64_t below)
{
    return rnd_of(&run->seed, below);
}

/* ---- the state as a text ---- */

struct state {
    struct cachebox *box;
    uint64_t id;
    char name[STATES_MAX][8];
    uint64_t snapshot[STATES_MAX];
    unsigned rows;
};

static int state_row(void *arg, const struct list_row *row)
{
    struct state *s = arg;

    assert_true(s->rows < STATES_MAX);
    snprintf(s->name[s->rows], sizeof(s->name[0]), "%.*s", SPAN_FMT(row->name));
    s->snapshot[s->rows++] = row->record->snapshot;
    return 0;
}

/* NULL: something that is listed cannot be read. */
static char *state_add(struct state *s, unsigned i, char *text)
{
    struct blob *blob = NULL;
    char *bytes = NULL, *more = NULL;
    size_t len = 0;
    int err = s->snapshot[i] ? box_lookup_snapshot(s->box, s->id, s->name[i], s->snapshot[i], &blob)
                             : box_lookup(s->box, s->id, s->name[i], &blob);

    if (!err)
        bytes = box_read(s->box, blob, &len, &err);
    if (!err)
        more = xasprintf("%s%s@%" PRIu64 " %zu %016" PRIx64 " of %u\n", text, s->name[i],
                         s->snapshot[i], len, crc64(0, bytes, len),
                         blob_record(blob)->snapshots.count);
    free(bytes);
    free(text);
    blob_unref(blob);
    return more;
}

static char *state_text(struct cachebox *box, uint64_t id)
{
    struct state s = {.box = box, .id = id};
    struct list_query query = {.container = id, .max = 1000, .snapshots = true};
    struct list_end end;
    char *text = xstrdup("");

    if (cache_list(box->cache, &query, state_row, &s, &end)) {
        free(text);
        return NULL;
    }
    list_end_done(&end);
    for (unsigned i = 0; text && i < s.rows; i++)
        text = state_add(&s, i, text);
    return text;
}

/* ---- captures ---- */

static void before_io(void *arg, const struct io_tap_event *event)
{
    struct run *run = arg;
    uint64_t place;

    SCOPED_LOCK(&run->lock);
    if (!run->capturing)
        return;
    place = run->captures < CAPTURES_MAX ? run->captures : rnd_of(&run->draw, run->events + 1);
    run->events++;
    if (place >= CAPTURES_MAX)
        return;
    run->captures = MAX(run->captures, (unsigned)place + 1);
    io_sim_free(run->capture[place].sim);
    run->capture[place] = (struct capture){io_sim_clone(run->box->sim), run->acked, run->copies};
}

static void copy_index(struct run *run)
{
    _cleanup_(freep) char *name = xasprintf("copy%u", run->copies);
    char *copy;

    if (run->copies == COPIES_MAX)
        return;
    copy = tempdir_path(run->box->dir, name);
    cachebox_index_copy(run->box, copy);
    SCOPED_LOCK(&run->lock);
    run->copy[run->copies++] = copy;
}

/* ---- changes ---- */

static void put(struct run *run, const char *name)
{
    static const size_t sizes[] = {0, 30, 3000, 65500, 70000, 300000};
    size_t len = sizes[rnd(run, countof(sizes))];
    char *text = xmalloc(len + 1);
    uint64_t of = rnd(run, UINT64_MAX);

    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + rnd_of(&of, 26));
    text[len] = 0;
    assert_int_equal(box_put(run->box, BOX_LOCAL, "c", run->id, name, text, NULL), 0);
    free(text);
}

static void put_blocks(struct run *run, const char *name)
{
    size_t bad;

    assert_int_equal(box_stage(run->box, run->id, name, "1", name), 0);
    assert_int_equal(box_stage(run->box, run->id, name, "2", "two"), 0);
    assert_int_equal(
        box_commit_blocks(run->box, BOX_LOCAL, "c", run->id, name, "U:2,U:1,U:2", &bad), 0);
}

struct choice {
    struct span name;
    uint64_t at, seen, snapshot;
};

static int choose_row(void *arg, const struct list_row *row)
{
    struct choice *c = arg;

    if (span_eq(row->name, c->name) && row->record->snapshot && c->seen++ <= c->at)
        c->snapshot = row->record->snapshot;
    return 0;
}

/* One of its snapshots; 0: it has none. */
static uint64_t any_snapshot(struct run *run, const char *name)
{
    struct list_query query = {.container = run->id, .max = 1000, .snapshots = true};
    struct choice c = {.name = span_of(name), .at = rnd(run, 5)};
    struct list_end end;

    assert_int_equal(cache_list(run->box->cache, &query, choose_row, &c, &end), 0);
    list_end_done(&end);
    return c.snapshot;
}

static void promote(struct run *run, const char *name, uint64_t snapshot)
{
    struct blob *found;

    assert_int_equal(box_lookup_snapshot(run->box, run->id, name, snapshot, &found), 0);
    assert_int_equal(box_copy(run->box, found, BOX_LOCAL, "c", run->id, name), 0);
    blob_unref(found);
}

static bool is_there(struct run *run, const char *name)
{
    struct blob *blob;

    if (box_lookup(run->box, run->id, name, &blob))
        return false;
    blob_unref(blob);
    return true;
}

static void change(struct run *run)
{
    const char *name = names[rnd(run, countof(names))];
    uint64_t snapshot, what = rnd(run, 20);

    if (what < 5 || !is_there(run, name))
        put(run, name);
    else if (what < 6)
        put_blocks(run, name);
    else if (what < 13)
        assert_int_equal(box_snapshot(run->box, run->id, name, NULL), 0);
    else if (what < 14)
        assert_int_equal(box_delete_snapshots(run->box, run->id, name), 0);
    else if (what < 15)
        assert_int_equal(box_delete(run->box, BOX_LOCAL, "c", run->id, name), 0);
    else if (!(snapshot = any_snapshot(run, name)))
        put(run, name);
    else if (what < 18)
        assert_int_equal(box_delete_snapshot(run->box, run->id, name, snapshot), 0);
    else
        promote(run, name, snapshot);
}

static void step(struct run *run)
{
    char *text;

    change(run);
    text = state_text(run->box, run->id);
    assert_non_null(text);
    if (rnd(run, 10) == 0) {
        assert_int_equal(index_flush(run->box->cache->index), 0);
        copy_index(run);
    }
    if (rnd(run, 8) == 0)
        keeper_call(run->box->cache->content->keeper, KEEP_COMPACT);
    SCOPED_LOCK(&run->lock);
    run->state[++run->acked] = text;
}

/* ---- what a state must be ---- */

static char *judge_open(struct run *run, const struct capture *c, struct cachebox *image)
{
    _cleanup_(freep) char *text = state_text(image, run->id);
    const char *next = c->acked < run->acked ? run->state[c->acked + 1] : NULL;

    if (!text)
        return xstrdup("what is listed cannot be read");
    if (strcmp(text, run->state[c->acked]) == 0 || (next && strcmp(text, next) == 0))
        return NULL;
    return xasprintf("after %u changes it is\n%snot\n%s", c->acked, text, run->state[c->acked]);
}

/* Everything is deleted: nothing stays, not even for the walk. */
static char *judge_space(struct run *run, struct cachebox *image)
{
    for (unsigned i = 0; i < countof(names); i++)
        (void)!box_delete(image, BOX_LOCAL, "c", run->id, names[i]);
    for (unsigned i = 0; content_stats(image->cache).sole_bytes && i < 100000; i++) {
        keeper_call(image->cache->content->keeper, KEEP_REAP);
        loop_poll_once(image->poll, 1);
    }
    return content_stats(image->cache).sole_bytes ? xstrdup("bytes stay behind") : NULL;
}

static char *judge(struct run *run, const struct capture *c, const char *copy, uint64_t seed)
{
    struct cachebox *image = cachebox_from(io_sim_clone(c->sim), copy, run->box->devices);
    char *why = NULL;

    io_sim_crash(image->sim, seed);
    if (!cachebox_try_open(image, &why))
        why = judge_open(run, c, image);
    if (!why && seed % 2)
        why = judge_space(run, image);
    if (!why && cachebox_close_and_check(image) != 0)
        why = xstrdup("the walk finds something");
    cachebox_free(image);
    return why;
}

/* With two devices a start makes the log before it unneeded, since that is on one device only. */
static const char *any_copy(const struct run *run, const struct capture *c, uint64_t n)
{
    unsigned first = run->box->devices > 1 && c->copies > run->copy_boot ? run->copy_boot : 0;

    return run->copy[first + n % (c->copies - first)];
}

/* ---- runs ---- */

static struct run *run_make(uint64_t seed, unsigned devices, struct io_tap_skip skip)
{
    struct run *run = xcalloc(1, sizeof(*run));

    pthread_mutex_init(&run->lock, NULL);
    run->seed = seed * 0x9E3779B97F4A7C15ULL + 1;
    run->draw = run->seed + 1;
    run->box = cachebox_make(seed, devices);
    io_tap_init(&run->tap, io_sim_ops(run->box->sim));
    run->tap.before = before_io;
    run->tap.arg = run;
    run->box->io_ops = &run->tap.ops;
    cachebox_open(run->box);
    run->id = box_container(run->box, BOX_LOCAL, "c");
    run->state[0] = xstrdup("");
    copy_index(run);
    run->tap.skip = skip;
    run->capturing = true;
    for (unsigned i = 0; i < STEPS; i++)
        step(run);
    cachebox_close(run->box);
    copy_index(run);
    run->copy_boot = run->copies - 1;
    cachebox_open(run->box);
    for (unsigned i = 0; i < STEPS; i++)
        step(run);
    run->capturing = false;
    return run;
}

static void run_free(struct run *run)
{
    for (unsigned i = 0; i < run->captures; i++)
        io_sim_free(run->capture[i].sim);
    for (unsigned i = 0; i <= run->acked; i++)
        free(run->state[i]);
    for (unsigned i = 0; i < run->copies; i++)
        free(run->copy[i]);
    run->box = cachebox_free(run->box);
    pthread_mutex_destroy(&run->lock);
    free(run);
}

static char *judge_run(struct run *run, uint64_t seed, unsigned *states)
{
    char *why = NULL, *where = NULL;

    for (unsigned i = 0; i < run->captures && !why; i++)
        for (unsigned pair = 0; pair < PAIRS && !why; pair++) {
            const struct capture *c = &run->capture[i];

            why = judge(run, c, any_copy(run, c, i + pair), seed * 7919 + i * 31 + pair);
            if (why)
                where = xasprintf("run %llu, capture %u, pair %u: %s", (unsigned long long)seed, i,
                                  pair, why);
            ++*states;
        }
    free(why);
    return where;
}

static void test_cut__at_any_instant_leaves_one_of_two_states(void **state)
{
    const char *is_long = getenv("HEARTH_LONG");
    unsigned wanted = is_long && strcmp(is_long, "1") == 0 ? 500 : 100, states = 0;
    uint64_t events = 0;

    for (uint64_t seed = 1; states < wanted; seed++) {
        struct run *run = run_make(seed, 1 + (unsigned)seed % 2, (struct io_tap_skip){0});
        char *why = judge_run(run, seed, &states);

        if (why)
            fail_msg("%s", why);
        events += run->events;
        run_free(run);
    }
    print_message("%u crash states of %llu writes and flushes\n", states,
                  (unsigned long long)events);
}

/* Rounds that do not flush are caught. */
static void test_cut__rounds_need_their_flushes(void **state)
{
    _cleanup_(freep) char *why = NULL;
    unsigned states = 0;

    for (uint64_t seed = 1; seed <= 8 && !why; seed++) {
        struct run *run = run_make(seed, 1, (struct io_tap_skip){.flush = TAP_LOG});

        why = judge_run(run, seed, &states);
        run_free(run);
    }
    assert_non_null(why);
}

static void quiet(void *arg, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut__at_any_instant_leaves_one_of_two_states),
        cmocka_unit_test(test_cut__rounds_need_their_flushes),
    };

    log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
