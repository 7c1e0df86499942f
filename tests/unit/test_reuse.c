/* Slots and their bytes at a power cut (S5, C3), each as one short story with the flush of rounds
 * held back so that the cut meets the instant that matters: a slot is not used again before the
 * record that dropped what was in it is durable and its readers are gone; what compaction moved is
 * on the device before it counts. Each story passes with the engine as it is and is failed by its
 * mutants: slots that go back early (content.h), a flush left out (io_tap.h). */
#include "tests/unit/unit.h"

#include "base/log.h"
#include "cache/content.h"
#include "cache/metrics.h"
#include "cache/store.h"
#include "tests/support/cachebox.h"
#include "tests/support/io_tap.h"
#include "tests/support/tempdir.h"

#define USER         77
#define CUTS         12
#define TRIES_MAX    8
#define CAPTURES_MAX 64
#define LARGE        200000u
#define TELLINGS     4 /* of a story that a mutant must not survive */

struct story {
    struct cachebox *box;
    struct io_tap tap;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool held; /* flushes of rounds wait */
    unsigned waiting;
    bool capturing;
    struct io_sim *capture[CAPTURES_MAX]; /* before each write and flush */
    unsigned captures;
};

static void before_io(void *arg, const struct io_tap_event *event)
{
    struct story *s = arg;

    SCOPED_LOCK(&s->lock);
    if (s->capturing && s->captures < CAPTURES_MAX)
        s->capture[s->captures++] = io_sim_clone(s->box->sim);
    if (event->flush != TAP_LOG && event->flush != TAP_DATA)
        return;
    s->waiting++;
    pthread_cond_broadcast(&s->moved);
    while (s->held)
        pthread_cond_wait(&s->moved, &s->lock);
    s->waiting--;
}

static void flushes_hold(struct story *s)
{
    SCOPED_LOCK(&s->lock);
    s->held = true;
}

/* A round is written and waits for its flush. */
static void flushes_await(struct story *s)
{
    SCOPED_LOCK(&s->lock);
    while (!s->waiting)
        pthread_cond_wait(&s->moved, &s->lock);
}

static void flushes_release(struct story *s)
{
    SCOPED_LOCK(&s->lock);
    s->held = false;
    pthread_cond_broadcast(&s->moved);
}

static struct story *story_new(unsigned devices)
{
    struct story *s = xcalloc(1, sizeof(*s));

    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->moved, NULL);
    s->box = cachebox_make(1, devices);
    io_tap_init(&s->tap, io_sim_ops(s->box->sim));
    s->tap.before = before_io;
    s->tap.arg = s;
    s->box->io_ops = &s->tap.ops;
    cachebox_open(s->box);
    return s;
}

static void story_free(struct story *s)
{
    atomic_store(&slot_mutant, SLOT_BY_S5);
    for (unsigned i = 0; i < s->captures; i++)
        io_sim_free(s->capture[i]);
    cachebox_free(s->box);
    pthread_cond_destroy(&s->moved);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* A cut of that state (taken over), with the index as it is on disk now; NULL: it is refused. */
static struct cachebox *story_cut_of(struct story *s, struct io_sim *sim, uint64_t seed)
{
    _cleanup_(freep) char *copy = tempdir_path(s->box->dir, "copy");
    struct cachebox *image;
    char *why = NULL;

    cachebox_index_copy(s->box, copy);
    image = cachebox_from(sim, copy, s->box->devices);
    tempdir_free(xstrdup(copy));
    io_sim_crash(image->sim, seed);
    if (!cachebox_try_open(image, &why))
        return image;
    free(why);
    cachebox_free(image);
    return NULL;
}

static struct cachebox *story_cut(struct story *s, uint64_t seed)
{
    return story_cut_of(s, io_sim_clone(s->box->sim), seed);
}

static char *text_new(size_t len, char seed)
{
    char *text = xmalloc(len + 1);

    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + (i * 7 + (size_t)seed + i / 26) % 26);
    text[len] = 0;
    return text;
}

static void change_start(struct story *s, struct change *change)
{
    change->done = box_done(s->box);
    commit_submit(s->box->cache->committer, change);
}

/* Preparing of slabs that was under way has ended. */
static void slabs_settle(struct story *s)
{
    struct slab_store *slabs = s->box->cache->slabs;
    bool running = true;

    while (running) {
        loop_poll_once(s->box->poll, 1);
        pthread_mutex_lock(&slabs->lock);
        running = slabs->job_running;
        pthread_mutex_unlock(&slabs->lock);
    }
}

/* The change that drops its last link is ordered, and its round waits for its flush. (That a round
 * waits is not enough: it may be an earlier one.) */
static void dropped_await(struct story *s, struct object *object)
{
    unsigned links = 1;

    while (links) {
        pthread_mutex_lock(&object->lock);
        links = object->link_count;
        pthread_mutex_unlock(&object->lock);
        if (links)
            loop_poll_once(s->box->poll, 1);
    }
    flushes_await(s);
}

/* Which slab is prepared when is its worker's choice, so one story in some ten does not come to the
 * point where the mutant does harm. */
static bool is_caught(unsigned (*loses)(enum slot_mutant mutant), enum slot_mutant mutant)
{
    for (unsigned i = 0; i < TELLINGS; i++)
        if (loses(mutant))
            return true;
    return false;
}

/* ---- the last link of an object is dropped ---- */

/* 0: the object is whole, or it is gone and so says the log. */
static int dropped_holds(struct cachebox *image, struct object_id id, uint64_t dropped)
{
    struct object *object;
    struct extent extent;
    _cleanup_(freep) char *into = xaligned(IO_ALIGN, ALIGN_UP(LARGE, IO_ALIGN));
    int err = object_get(image->cache, id, &object);

    if (err == -ENOENT)
        return commit_last(image->cache->committer) >= dropped ? 0 : -ENOENT;
    if (err)
        return err;
    err = object_extent(object, 0, &extent)
              ? extent_read_now(image->cache->slabs, &extent, id, (struct range){0, LARGE}, into)
              : -ENODATA;
    object_unref(object);
    return err;
}

static struct object *linked_object(struct story *s)
{
    _cleanup_(freep) char *text = text_new(LARGE, 1);
    struct object *object = box_object(s->box, text, LARGE);
    struct change *change = change_new();

    object_link(change, object, USER, OBJECT_DIRTY);
    change_start(s, change);
    assert_int_equal(box_wait(s->box), 0);
    return object;
}

/* Cuts that lose it while another object is written and the drop waits for its flush. */
static unsigned drop_loses(enum slot_mutant mutant)
{
    struct story *s = story_new(1);
    _cleanup_(freep) char *text = text_new(LARGE, 2);
    struct object *object = linked_object(s), *other;
    struct object_id id = object->id;
    struct change *change = change_new();
    struct awaited dropped;
    uint64_t number = commit_last(s->box->cache->committer) + 1;
    unsigned lost = 0;

    atomic_store(&slot_mutant, mutant);
    flushes_hold(s);
    object_unlink(change, object, USER);
    change->done = awaited_init(&dropped, loop_poll_loop(s->box->poll));
    commit_submit(s->box->cache->committer, change);
    dropped_await(s, object);
    object_unref(object);
    other = box_object(s->box, text, LARGE);
    for (uint64_t seed = 1; seed <= CUTS; seed++) {
        struct cachebox *image = story_cut(s, seed);

        lost += !image || dropped_holds(image, id, number);
        if (image)
            cachebox_free(image);
        loop_enter(loop_poll_loop(s->box->poll));
    }
    flushes_release(s);
    assert_int_equal(loop_await(s->box->poll, &dropped), 0);
    object_unref(other);
    story_free(s);
    return lost;
}

static void test_reuse__a_slot_waits_for_the_drop_to_be_durable(void **state)
{
    assert_int_equal(drop_loses(SLOT_BY_S5), 0);
    assert_true(is_caught(drop_loses, SLOT_WHEN_ORDERED));
}

/* ---- a small body goes with its blob, and its slab with it ---- */

static bool lies_on(struct story *s, uint64_t id, const char *name, unsigned device)
{
    const struct piece *pieces;
    struct extent extent;
    struct blob *blob;
    bool ret;

    assert_int_equal(box_lookup(s->box, id, name, &blob), 0);
    assert_int_equal(blob_pieces(blob, &pieces), 1);
    ret = object_extent(pieces[0].object, 0, &extent) && extent.at.device == device;
    blob_unref(blob);
    return ret;
}

/* Small blobs, one of which lies alone in a full slab of the third device, after a restart. */
static const char *lonely_blob(struct story *s, uint64_t id)
{
    static const char *const names[] = {"x", "y", "z"};
    const char *lonely = NULL;

    for (unsigned i = 0; i < countof(names) && !lonely; i++) {
        assert_int_equal(box_put(s->box, BOX_LOCAL, "c", id, names[i], "small body", NULL), 0);
        if (lies_on(s, id, names[i], 2))
            lonely = names[i];
    }
    assert_non_null(lonely);
    cachebox_close(s->box);
    cachebox_open(s->box);
    cachebox_fill_small_slabs(s->box);
    return lonely;
}

static struct object *body_of(struct story *s, uint64_t id, const char *name) /* a reference */
{
    const struct piece *pieces;
    struct object *body;
    struct blob *blob;

    assert_int_equal(box_lookup(s->box, id, name, &blob), 0);
    assert_int_equal(blob_pieces(blob, &pieces), 1);
    body = object_ref(pieces[0].object);
    blob_unref(blob);
    return body;
}

static unsigned delete_loses(enum slot_mutant mutant)
{
    struct story *s = story_new(3);
    uint64_t id = box_container(s->box, BOX_LOCAL, "c");
    const char *lonely = lonely_blob(s, id);
    struct object *body = body_of(s, id, lonely);
    _cleanup_(freep) char *text = text_new(LARGE, 3);
    struct name name = box_name(id, lonely);
    struct object *others[9];
    struct awaited deleted;
    struct tx *tx;
    unsigned lost = 0;

    cache_begin(s->box->cache, &name, &tx, box_done(s->box));
    assert_int_equal(box_wait(s->box), 0);
    atomic_store(&slot_mutant, mutant);
    flushes_hold(s);
    tx_delete(tx);
    cache_commit(tx, awaited_init(&deleted, loop_poll_loop(s->box->poll)));
    dropped_await(s, body);
    object_unref(body);
    for (unsigned i = 0; i < countof(others); i++) /* opens slabs: others are prepared */
        others[i] = box_object(s->box, text, LARGE);
    slabs_settle(s);
    for (uint64_t seed = 1; seed <= CUTS; seed++) {
        struct cachebox *image = story_cut(s, seed);
        int err = image ? box_expect(image, id, lonely, "small body") : -EIO;

        lost += err && err != -ENOENT && err != -ENODATA;
        if (image)
            cachebox_free(image);
        loop_enter(loop_poll_loop(s->box->poll));
    }
    flushes_release(s);
    assert_int_equal(loop_await(s->box->poll, &deleted), 0);
    for (unsigned i = 0; i < countof(others); i++)
        object_unref(others[i]);
    story_free(s);
    return lost;
}

static void test_reuse__a_slab_waits_for_the_delete_to_be_durable(void **state)
{
    assert_int_equal(delete_loses(SLOT_BY_S5), 0);
    assert_true(is_caught(delete_loses, SLOT_WHEN_ORDERED));
}

/* ---- somebody reads what was deleted ---- */

/* Reads on from `at`; false: other bytes, or an error. */
static bool reads_on(struct story *s, struct reader *reader, const char *text, size_t at,
                     size_t len)
{
    bool ok = true;

    while (ok && at < len) {
        struct slice slice = {0};

        reader_next(reader, &slice, box_done(s->box));
        if (box_wait(s->box))
            return false;
        ok = memcmp(slice.bytes.base, text + at, slice.bytes.len) == 0;
        at += slice.bytes.len;
        slice_unref(slice);
    }
    return ok;
}

static bool reader_sees_it_whole(enum slot_mutant mutant)
{
    size_t len = 12u << 20;
    struct story *s = story_new(1);
    uint64_t id = box_container(s->box, BOX_LOCAL, "c");
    _cleanup_(freep) char *text = text_new(len, 4), *other_text = text_new(len, 5);
    struct slice first = {0};
    struct object *other;
    struct reader *reader;
    struct blob *blob;
    bool ok;

    assert_int_equal(box_put_bytes(s->box, BOX_LOCAL, "c", id, "x", text, len, NULL), 0);
    assert_int_equal(box_lookup(s->box, id, "x", &blob), 0);
    reader = cache_reader_open(blob, (struct range){0, len}, READ_CLIENT);
    reader_next(reader, &first, box_done(s->box));
    assert_int_equal(box_wait(s->box), 0);
    atomic_store(&slot_mutant, mutant);
    assert_int_equal(box_delete(s->box, BOX_LOCAL, "c", id, "x"), 0);
    while (cache_stats(s->box->cache).sole_bytes) /* reaped */
        loop_poll_once(s->box->poll, 1);
    other = box_object(s->box, other_text, len);
    ok = reads_on(s, reader, text, first.bytes.len, len);
    slice_unref(first);
    reader_close(reader);
    blob_unref(blob);
    object_unref(other);
    story_free(s);
    return ok;
}

static void test_reuse__a_slot_waits_for_its_readers(void **state)
{
    assert_true(reader_sees_it_whole(SLOT_BY_S5));
    assert_false(reader_sees_it_whole(SLOT_UNDER_READERS));
}

/* ---- compaction ---- */

#define BLOCKS 6

/* Staged blocks in full small slabs, after a restart. */
static void stage_blocks(struct story *s, uint64_t id, char *const *text)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        char block[] = {(char)('a' + i), 0};

        assert_int_equal(box_stage(s->box, id, "x", block, text[i]), 0);
    }
    cachebox_close(s->box);
    cachebox_open(s->box);
    cachebox_fill_small_slabs(s->box);
}

/* All blocks are there, whole. */
static bool blocks_hold(struct cachebox *image, uint64_t id, char *const *text)
{
    _cleanup_(freep) char *all = xcalloc(BLOCKS, 70000);
    size_t bad;

    for (unsigned i = 0; i < BLOCKS; i++)
        strcat(all, text[i]);
    return !box_commit_blocks(image, BOX_LOCAL, "c", id, "x", "U:a,U:b,U:c,U:d,U:e,U:f", &bad) &&
           !box_expect(image, id, "x", all);
}

static unsigned cuts_lose_blocks(struct story *s, uint64_t id, char *const *text, uint64_t seeds)
{
    unsigned lost = 0;

    for (uint64_t seed = 1; seed <= seeds && !lost; seed++)
        for (unsigned i = 0; i < s->captures && !lost; i++) {
            struct cachebox *image = story_cut_of(s, io_sim_clone(s->capture[i]), seed * 101 + i);

            lost += !image || !blocks_hold(image, id, text);
            if (image)
                cachebox_free(image);
            loop_enter(loop_poll_loop(s->box->poll));
        }
    return lost;
}

static void capture(struct story *s, bool on)
{
    SCOPED_LOCK(&s->lock);
    s->capturing = on;
}

/* Does some cut during compaction lose a block? */
static bool compaction_loses(struct io_tap_skip skip, enum slot_mutant mutant, uint64_t seeds)
{
    struct story *s = story_new(3);
    uint64_t id = box_container(s->box, BOX_LOCAL, "c");
    int64_t moved = metric_read(&metric_compacted_records);
    char *text[BLOCKS];
    struct location at = {0};
    unsigned lost;

    for (unsigned i = 0; i < BLOCKS; i++)
        text[i] = text_new(30000 + i * 5000, (char)i);
    stage_blocks(s, id, text);
    s->tap.skip = skip;
    atomic_store(&slot_mutant, mutant);
    capture(s, true);
    keeper_call(s->box->cache->content->keeper, KEEP_COMPACT);
    while (slab_small_next(s->box->cache->slabs, UINT64_MAX, &at))
        loop_poll_once(s->box->poll, 1); /* until all sparse slabs are free */
    capture(s, false);
    assert_int_equal(metric_read(&metric_compacted_records), moved + BLOCKS);
    atomic_store(&slot_mutant, SLOT_BY_S5);
    lost = cuts_lose_blocks(s, id, text, seeds);
    for (unsigned i = 0; i < BLOCKS; i++)
        free(text[i]);
    story_free(s);
    return lost > 0;
}

/* What follows a flush that was left out, or a slot given back, is the threads' affair. */
static bool compaction_mutant_is_caught(struct io_tap_skip skip, enum slot_mutant mutant)
{
    bool caught = false;

    for (unsigned i = 0; i < TRIES_MAX && !caught; i++)
        caught = compaction_loses(skip, mutant, 4);
    return caught;
}

static void test_compact__moved_bytes_are_there_or_where_they_were(void **state)
{
    static const struct io_tap_skip none = {0}, data = {.flush = TAP_DATA};

    assert_false(compaction_loses(none, SLOT_BY_S5, 2));
    assert_true(compaction_mutant_is_caught(data, SLOT_BY_S5));
    assert_true(compaction_mutant_is_caught(none, SLOT_WHEN_ORDERED));
}

static void quiet(void *arg, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse__a_slot_waits_for_the_drop_to_be_durable),
        cmocka_unit_test(test_reuse__a_slab_waits_for_the_delete_to_be_durable),
        cmocka_unit_test(test_reuse__a_slot_waits_for_its_readers),
        cmocka_unit_test(test_compact__moved_bytes_are_there_or_where_they_were),
    };

    log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
