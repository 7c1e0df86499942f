/* Staged blocks and block lists: last one wins, one id length, three sources, restart and crash,
 * what a commit drops, expiry. */
#include "tests/unit/unit.h"

#include <semaphore.h>

#include "base/clock.h"
#include "cache/content.h"
#include "tests/support/cachebox.h"
#include "tests/support/io_tap.h"

struct listed {
    char text[1024];
};

static int committed(void *arg, const struct block_row *row)
{
    struct listed *l = arg;
    size_t at = strlen(l->text);

    snprintf(l->text + at, sizeof(l->text) - at, "%.*s=%u ", SPAN_FMT(row->id),
             (unsigned)row->bytes);
    return 0;
}

static int uncommitted(void *arg, const struct block_row *row)
{
    struct listed *l = arg;
    size_t at = strlen(l->text);

    snprintf(l->text + at, sizeof(l->text) - at, "(%.*s=%u) ", SPAN_FMT(row->id),
             (unsigned)row->bytes);
    return 0;
}

static const char *blocks_of(struct cachebox *box, uint64_t id, const char *blob)
{
    static struct listed l;
    struct name name = box_name(id, blob);
    struct blob *found = NULL;

    l.text[0] = 0;
    (void)!box_lookup(box, id, blob, &found);
    assert_int_equal(cache_list_blocks(box->cache, &name, found, committed, uncommitted, &l), 0);
    blob_unref(found);
    return l.text;
}

static void test_stage__last_one_wins_and_ids_sort(void **state)
{
    struct cachebox *box = cachebox_new(1);
    uint64_t id = box_container(box, BOX_LOCAL, "c");

    assert_int_equal(box_stage(box, id, "b", "bb", "22"), 0);
    assert_int_equal(box_stage(box, id, "b", "aa", "1"), 0);
    assert_int_equal(box_stage(box, id, "b", "bb", "333"), 0);
    assert_string_equal(blocks_of(box, id, "b"), "(aa=1) (bb=3) ");
    assert_int_equal(box_stage(box, id, "b", "long", "1"), -EINVAL);
    assert_int_equal(box_stage(box, id + 1, "b", "aa", "1"), -ENOENT);
    assert_int_equal(box_expect(box, id, "b", ""), -ENOENT); /* not a blob yet */
    cachebox_close(box);
    cachebox_open(box);
    assert_string_equal(blocks_of(box, id, "b"), "(aa=1) (bb=3) ");
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "U:bb,U:aa,L:bb", NULL), 0);
    assert_int_equal(box_expect(box, id, "b", "3331333"), 0);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_commit__takes_from_three_sources(void **state)
{
    struct cachebox *box = cachebox_new(2);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    size_t bad = 99;

    assert_int_equal(box_stage(box, id, "b", "a", "old-a"), 0);
    assert_int_equal(box_stage(box, id, "b", "b", "old-b"), 0);
    assert_int_equal(box_stage(box, id, "b", "x", "never"), 0);
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "L:a,U:b", &bad), 0);
    assert_string_equal(blocks_of(box, id, "b"), "a=5 b=5 "); /* x was dropped */
    assert_int_equal(box_stage(box, id, "b", "a", "new-a"), 0);
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "C:b,U:b", &bad), -ENOENT);
    assert_int_equal(bad, 1);
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "C:z", &bad), -ENOENT);
    assert_int_equal(box_expect(box, id, "b", "old-aold-b"), 0); /* nothing changed */
    cachebox_close(box);
    cachebox_open(box); /* block ids of the committed list come from rows now */
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "C:a,L:a,L:b", &bad), 0);
    assert_int_equal(box_expect(box, id, "b", "old-anew-aold-b"), 0);
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "U:a", &bad), -ENOENT);
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "", &bad), 0);
    assert_int_equal(box_expect(box, id, "b", ""), 0);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_stage__survives_a_crash_and_put_blob_drops_it(void **state)
{
    struct cachebox *box = cachebox_new(3), *image;
    uint64_t id = box_container(box, BOX_LOCAL, "c");

    assert_int_equal(box_stage(box, id, "b", "a", "one"), 0);
    assert_int_equal(box_stage(box, id, "b", "a", "two"), 0);
    assert_int_equal(box_stage(box, id, "p", "a", "x"), 0);
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "p", "put", NULL), 0);
    for (uint64_t seed = 0; seed < 3; seed++) {
        image = cachebox_crash(box, seed);
        assert_string_equal(blocks_of(image, id, "b"), "(a=3) ");
        assert_int_equal(box_commit_blocks(image, BOX_LOCAL, "c", id, "b", "L:a", NULL), 0);
        assert_int_equal(box_expect(image, id, "b", "two"), 0);
        assert_string_equal(blocks_of(image, id, "p"), "");
        assert_int_equal(box_expect(image, id, "p", "put"), 0);
        assert_int_equal(cachebox_check(image), 0);
        cachebox_free(image);
    }
    loop_enter(loop_poll_loop(box->poll));
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_delete__drops_staged_blocks_too(void **state)
{
    struct cachebox *box = cachebox_new(4);
    uint64_t id = box_container(box, BOX_LOCAL, "c");

    assert_int_equal(box_stage(box, id, "b", "a", "one"), 0);
    assert_int_equal(box_delete(box, BOX_LOCAL, "c", id, "b"), 0);
    assert_string_equal(blocks_of(box, id, "b"), "");
    assert_int_equal(box_stage(box, id, "b", "other-length", "one"), 0);
    cachebox_close(box);
    cachebox_open(box);
    assert_string_equal(blocks_of(box, id, "b"), "(other-length=3) ");
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_commit__of_a_thousand_blocks_is_split_and_whole(void **state)
{
    enum { N = 5000, DISTINCT = 50 };
    struct cachebox *box = cachebox_new(5), *image;
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct blob_record record = {.type = BLOB_BLOCK};
    struct block_ref *refs = xcalloc(N, sizeof(*refs));
    struct piece *pieces = xcalloc(N, sizeof(*pieces));
    struct name name = box_name(id, "b");
    char ids[DISTINCT][8], *text = xmalloc(N + 1);
    struct tx *tx;
    size_t bad;

    for (unsigned i = 0; i < DISTINCT; i++) {
        char body[2] = {(char)('A' + i % 26), 0};

        snprintf(ids[i], sizeof(ids[i]), "id%03u", i);
        assert_int_equal(box_stage(box, id, "b", ids[i], body), 0);
    }
    for (unsigned i = 0; i < N; i++) {
        refs[i] = (struct block_ref){BLOCK_LATEST, span_of(ids[i * 7 % DISTINCT])};
        text[i] = (char)('A' + i * 7 % DISTINCT % 26);
    }
    text[N] = 0;
    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_blocks(tx, refs, N, pieces, &bad, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_put(tx, &record, pieces, N, refs, true);
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(record.length, N);
    image = cachebox_crash(box, 1);
    assert_int_equal(box_expect(image, id, "b", text), 0);
    cachebox_free(image);
    loop_enter(loop_poll_loop(box->poll));
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
    free(refs);
    free(pieces);
    free(text);
}

/* ---- expiry ---- */

static _Atomic int64_t ahead_ns;
static uint64_t mono(void *arg)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec + (uint64_t)ahead_ns;
}
static int64_t wall(void *arg)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * (int64_t)NS_PER_SEC + now.tv_nsec + ahead_ns;
}

/* ---- a round that fails ---- */

static sem_t flush_gate;
static _Atomic bool flush_held;

static void hold_flush(void *arg, const struct io_tap_event *event)
{
    if (event->flush != TAP_LOG || !flush_held)
        return;
    sem_wait(&flush_gate);
    sem_post(&flush_gate); /* the other device's */
}

/* Queued only: what replaces it all drops what is staged. */
static void replace_queued(struct cachebox *box, uint64_t id, struct awaited *done)
{
    struct blob_record record = {.type = BLOB_BLOCK};
    struct name name = box_name(id, "b");
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_put(tx, &record, NULL, 0, NULL, true);
    cache_commit(tx, awaited_init(done, loop_poll_loop(box->poll)));
}

static void stage_queued(struct cachebox *box, uint64_t id, const char *blob, struct awaited *done)
{
    struct name name = box_name(id, blob);

    cache_stage(box->cache, &name, SPAN("q"), box_object(box, "queued", 6),
                awaited_init(done, loop_poll_loop(box->poll)));
}

/* Twice dropped and staged anew between, in vain: it is there again, not what came after it. */
static void test_stage__comes_back_when_what_drops_it_fails(void **state)
{
    struct cachebox *box = cachebox_make(7, 2);
    struct awaited done[4];
    struct io_tap tap;
    uint64_t id;

    io_tap_init(&tap, io_sim_ops(box->sim));
    tap.before = hold_flush;
    box->io_ops = &tap.ops;
    cachebox_open(box);
    id = box_container(box, BOX_LOCAL, "c");
    assert_int_equal(box_stage(box, id, "b", "a", "one"), 0);
    sem_init(&flush_gate, 0, 0);
    flush_held = true;
    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    stage_queued(box, id, "other", &done[0]);
    replace_queued(box, id, &done[1]);
    stage_queued(box, id, "b", &done[2]);
    replace_queued(box, id, &done[3]);
    sem_post(&flush_gate);
    for (unsigned i = 0; i < countof(done); i++)
        assert_int_equal(loop_await(box->poll, &done[i]), -EIO);
    flush_held = false;
    assert_string_equal(blocks_of(box, id, "b"), "(a=3) ");
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "b", "U:a", NULL), 0);
    assert_int_equal(box_expect(box, id, "b", "one"), 0);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static struct cachebox *box_with_stage(uint64_t *id)
{
    static const struct clock_source source = {mono, wall, NULL};
    struct cachebox *box;

    ahead_ns = 0;
    clock_set_source(&source);
    box = cachebox_new(6);
    *id = box_container(box, BOX_LOCAL, "c");
    assert_int_equal(box_stage(box, *id, "b", "a", "one"), 0);
    return box;
}

static void wait_until_gone(struct cachebox *box, uint64_t id)
{
    for (unsigned i = 0; i < 2000 && blocks_of(box, id, "b")[0]; i++)
        loop_poll_once(box->poll, 5);
    assert_string_equal(blocks_of(box, id, "b"), "");
}

/* Nothing but time goes on: no Put Block comes that would look around. */
static void test_stage__goes_after_a_week(void **state)
{
    struct cachebox *box;
    uint64_t id;

    box = box_with_stage(&id);
    ahead_ns = 6 * 24 * 3600 * (int64_t)NS_PER_SEC;
    assert_int_equal(box_stage(box, id, "other", "a", "one"), 0);
    assert_string_equal(blocks_of(box, id, "b"), "(a=3) ");
    ahead_ns = 8 * 24 * 3600 * (int64_t)NS_PER_SEC;
    keeper_call(box->cache->content->keeper, KEEP_REAP); /* wakes it */
    wait_until_gone(box, id);
    assert_string_equal(blocks_of(box, id, "other"), "(a=3) ");
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
    clock_set_source(NULL);
}

static void test_stage__of_a_week_ago_goes_at_a_start(void **state)
{
    struct cachebox *box;
    uint64_t id;

    box = box_with_stage(&id);
    cachebox_close(box);
    ahead_ns = 8 * 24 * 3600 * (int64_t)NS_PER_SEC;
    cachebox_open(box);
    wait_until_gone(box, id);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
    clock_set_source(NULL);
}

static void confirm_uploads(struct cachebox *box)
{
    struct upload_result confirmed = {
        .end = UPLOAD_CONFIRMED, .cloud_etag = SPAN("\"1\""), .cloud_modified_ns = 1};
    struct upload *upload;
    uint64_t retry_ns;

    while (cache_upload_next(box->cache, BOX_CLOUD, &upload, &retry_ns) == 0) {
        cache_upload_end(box->cache, upload, &confirmed, box_done(box));
        assert_int_equal(box_wait(box), 0);
    }
}

static void evict_first(struct cachebox *box, uint64_t id, const char *blob)
{
    const struct piece *pieces;
    struct change *change = change_new();
    struct blob *found;

    assert_int_equal(box_lookup(box, id, blob, &found), 0);
    assert_true(blob_pieces(found, &pieces) > 0);
    evict_extent(change, pieces[0].object, 0);
    change->done = box_done(box);
    commit_submit(box->cache->committer, change);
    assert_int_equal(box_wait(box), 0);
    blob_unref(found);
}

/* With "a" of 100 000 bytes committed and evicted, "n" staged. */
static void assert_absent_is_named(struct cachebox *box, uint64_t id)
{
    const struct block_ref refs[] = {
        {BLOCK_LATEST, SPAN("n")}, {BLOCK_LATEST, SPAN("a")}, {BLOCK_LATEST, SPAN("z")}};
    struct name name = box_name(id, "b");
    struct piece pieces[countof(refs)];
    size_t bad = 99;
    struct tx *tx;

    assert_int_equal(box_stage(box, id, "b", "n", "new"), 0);
    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_blocks(tx, refs, 2, pieces, &bad, box_done(box));
    assert_int_equal(box_wait(box), -ENODATA);
    assert_true(!pieces[0].object && !pieces[0].length);
    assert_true(!pieces[1].object && !pieces[1].offset && pieces[1].length == 100000);
    tx_blocks(tx, refs, 3, pieces, &bad, box_done(box));
    assert_int_equal(box_wait(box), -ENOENT); /* rather than to say what would be needed */
    assert_int_equal(bad, 2);
    cache_rollback(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
}

/* Bytes that the cloud has may be evicted: acknowledged under a new version they would be lost. */
static void test_commit__of_committed_blocks_needs_their_bytes(void **state)
{
    struct cachebox *box = cachebox_new(12), *image;
    uint64_t id = box_container(box, BOX_CLOUD, "free");
    char *text = xmalloc(100001);
    size_t bad = 99;

    memset(text, 'q', 100000);
    text[100000] = 0;
    assert_int_equal(box_stage(box, id, "b", "a", text), 0);
    assert_int_equal(box_commit_blocks(box, BOX_CLOUD, "free", id, "b", "U:a", NULL), 0);
    confirm_uploads(box);
    assert_int_equal(cache_stats(box->cache).dirty_bytes, 0);
    assert_int_equal(box_commit_blocks(box, BOX_CLOUD, "free", id, "b", "C:a", &bad), 0);
    assert_true(cache_stats(box->cache).dirty_bytes > 0);
    evict_first(box, id, "b"); /* dirty: it stays */
    assert_int_equal(box_expect(box, id, "b", text), 0);
    image = cachebox_crash(box, 1);
    assert_int_equal(box_expect(image, id, "b", text), 0);
    assert_int_equal(cachebox_check(image), 0);
    cachebox_free(image);
    loop_enter(loop_poll_loop(box->poll));

    confirm_uploads(box);
    evict_first(box, id, "b");
    assert_int_equal(box_commit_blocks(box, BOX_CLOUD, "free", id, "b", "C:a", &bad), -ENODATA);
    assert_absent_is_named(box, id);
    assert_int_equal(cachebox_check(box), 0);
    free(text);
    cachebox_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stage__last_one_wins_and_ids_sort),
        cmocka_unit_test(test_commit__takes_from_three_sources),
        cmocka_unit_test(test_stage__survives_a_crash_and_put_blob_drops_it),
        cmocka_unit_test(test_delete__drops_staged_blocks_too),
        cmocka_unit_test(test_commit__of_a_thousand_blocks_is_split_and_whole),
        cmocka_unit_test(test_stage__comes_back_when_what_drops_it_fails),
        cmocka_unit_test(test_stage__goes_after_a_week),
        cmocka_unit_test(test_stage__of_a_week_ago_goes_at_a_start),
        cmocka_unit_test(test_commit__of_committed_blocks_needs_their_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
