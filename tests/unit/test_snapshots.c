/* Snapshots over the real engine: what each holds whatever becomes of the name, who counts them,
 * that content goes with the last that names it and not before, restarts and cuts, changes that
 * fail. Each test ends with the consistency walk. */
#include "tests/unit/unit.h"

#include "cache/content.h"
#include "cache/snapshots.h"
#include "tests/support/cachebox.h"

#define BIG 300000

static struct cachebox *box;
static uint64_t id;
static char *big;

static int setup(void **state)
{
    box = cachebox_new(1);
    id = box_container(box, BOX_LOCAL, "c");
    big = xmalloc(BIG + 1);
    for (unsigned i = 0; i < BIG; i++)
        big[i] = (char)('a' + i * 31 % 26);
    big[BIG] = 0;
    return 0;
}

static int teardown(void **state)
{
    int findings = cachebox_close_and_check(box);

    box = cachebox_free(box);
    free(big);
    assert_int_equal(findings, 0);
    return 0;
}

static void put(const char *blob, const char *text)
{
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, blob, text, NULL), 0);
}

static uint64_t take(const char *blob)
{
    uint64_t snapshot;

    assert_int_equal(box_snapshot(box, id, blob, &snapshot), 0);
    return snapshot;
}

static int drop(const char *blob, uint64_t snapshot)
{
    return box_delete_snapshot(box, id, blob, snapshot);
}

static void expect(const char *blob, uint64_t snapshot, const char *text)
{
    struct blob *found;
    size_t len;
    int err = box_lookup_snapshot(box, id, blob, snapshot, &found);
    char *got;

    assert_int_equal(err, text ? 0 : -ENOENT);
    if (!text)
        return;
    assert_int_equal(blob_record(found)->snapshot, snapshot);
    got = box_read(box, found, &len, &err);
    assert_int_equal(err, 0);
    assert_string_equal(got, text);
    free(got);
    blob_unref(found);
}

static unsigned counted(const char *blob)
{
    struct blob *found;
    unsigned n;

    assert_int_equal(box_lookup(box, id, blob, &found), 0);
    n = blob_record(found)->snapshots.count;
    blob_unref(found);
    return n;
}

/* All that is to be reaped has been, when a duty after it has run. */
static void reaped(void)
{
    struct index_iter *iter;
    bool any = true;

    while (any) {
        char kind = META_DROP_BLOCKS;

        keeper_call(box->cache->content->keeper, KEEP_REAP);
        loop_poll_once(box->poll, 1);
        any = false;
        iter = index_iter_new(box->cache->index, NULL, FAM_META, (struct span){&kind, 1},
                              (struct span){0});
        for (; !any && index_iter_valid(iter); index_iter_next(iter)) {
            char at = index_iter_key(iter).base[0];

            any = index_iter_key(iter).len >= 9 &&
                  (at == META_DROP_BLOCKS || at == META_DROP_CONTAINER ||
                   at == META_DROP_MANIFEST || at == META_DROP_SNAPSHOTS);
        }
        index_iter_free(iter);
    }
}

static uint64_t bytes_kept(void)
{
    reaped();
    return content_stats(box->cache).sole_bytes;
}

/* ---- content ---- */

static void test_content__stays_that_of_its_time(void **state)
{
    const char *texts[] = {"", "small", big};

    for (unsigned i = 0; i < countof(texts); i++)
        for (unsigned k = 0; k < countof(texts); k++) {
            uint64_t first, second;

            put("a", texts[i]);
            first = take("a");
            put("a", texts[k]);
            second = take("a");
            expect("a", first, texts[i]);
            expect("a", second, texts[k]);
            assert_true(first < second);
            assert_int_equal(box_expect(box, id, "a", texts[k]), 0);
            assert_int_equal(counted("a"), 2);
            assert_int_equal(box_delete(box, BOX_LOCAL, "c", id, "a"), 0);
            expect("a", first, NULL);
            expect("a", second, NULL);
        }
    assert_int_equal(bytes_kept(), 0);
}

static void test_content__is_shared_and_counted_once(void **state)
{
    uint64_t snapshots[4];

    put("a", big);
    for (unsigned i = 0; i < countof(snapshots); i++)
        snapshots[i] = take("a");
    assert_int_equal(bytes_kept(), BIG);
    put("a", "small");
    assert_int_equal(bytes_kept(), BIG + 5);
    for (unsigned i = 0; i < countof(snapshots); i++)
        expect("a", snapshots[i], big);
}

/* Whichever goes last takes it along: any order of the name's own version and three snapshots. */
static void test_content__goes_with_the_last_that_names_it(void **state)
{
    for (unsigned order = 0; order < 24; order++) {
        unsigned left[4] = {0, 1, 2, 3}, n = 4, rest = order;
        uint64_t snapshots[3];

        put("a", big);
        for (unsigned i = 0; i < 3; i++)
            snapshots[i] = take("a");
        while (n) {
            unsigned at = rest % n, which = left[at];

            rest /= n;
            left[at] = left[--n];
            if (which == 3)
                put("a", "small");
            else
                assert_int_equal(drop("a", snapshots[which]), 0);
            assert_int_equal(bytes_kept() >= BIG, n > 0);
        }
        assert_int_equal(counted("a"), 0);
        assert_int_equal(bytes_kept(), 5);
    }
}

static void test_content__of_blocks_can_be_used_again(void **state)
{
    uint64_t snapshot;
    struct blob *found;
    size_t bad;

    assert_int_equal(box_stage(box, id, "a", "1", "one"), 0);
    assert_int_equal(box_stage(box, id, "a", "2", "two"), 0);
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "a", "U:1,U:2", &bad), 0);
    snapshot = take("a");
    assert_int_equal(box_stage(box, id, "a", "3", "three"), 0);
    assert_int_equal(box_commit_blocks(box, BOX_LOCAL, "c", id, "a", "C:2,U:3", &bad), 0);
    expect("a", snapshot, "onetwo");
    assert_int_equal(box_lookup_snapshot(box, id, "a", snapshot, &found), 0);
    assert_int_equal(box_copy(box, found, BOX_LOCAL, "c", id, "a"), 0); /* promoted */
    blob_unref(found);
    assert_int_equal(box_expect(box, id, "a", "onetwo"), 0);
    assert_int_equal(drop("a", snapshot), 0);
    assert_int_equal(bytes_kept(), 6);
    assert_int_equal(box_expect(box, id, "a", "onetwo"), 0);
}

/* ---- all at once ---- */

static void test_drop__all_at_once_frees_all(void **state)
{
    const char *texts[] = {"small", big, "", big, "other"};
    uint64_t snapshots[2 * countof(texts)], again;

    for (unsigned i = 0; i < countof(snapshots); i++) {
        if (i % 2 == 0)
            put("a", texts[i / 2]);
        snapshots[i] = take("a");
    }
    assert_int_equal(box_delete_snapshots(box, id, "a"), 0);
    for (unsigned i = 0; i < countof(snapshots); i++)
        expect("a", snapshots[i], NULL);
    assert_int_equal(box_expect(box, id, "a", "other"), 0);
    again = take("a"); /* perhaps before the reaper was there */
    assert_int_equal(bytes_kept(), 10);
    expect("a", again, "other");
    assert_int_equal(counted("a"), 1);
}

/* The name's own version has the content of what is reaped, and then of what is taken anew. */
static void test_drop__content_that_goes_on_being_named(void **state)
{
    uint64_t again;

    put("a", big);
    take("a");
    take("a");
    assert_int_equal(box_delete_snapshots(box, id, "a"), 0);
    again = take("a");
    put("a", "small");
    assert_int_equal(bytes_kept(), BIG + 5);
    expect("a", again, big);
    assert_int_equal(drop("a", again), 0);
    assert_int_equal(bytes_kept(), 5);
}

static void test_drop__a_name_that_is_made_again_has_none(void **state)
{
    uint64_t old, young;

    put("a", big);
    old = take("a");
    assert_int_equal(box_delete(box, BOX_LOCAL, "c", id, "a"), 0);
    put("a", "again");
    expect("a", old, NULL);
    assert_int_equal(counted("a"), 0);
    young = take("a");
    expect("a", old, NULL);
    expect("a", young, "again");
    assert_int_equal(drop("a", old), -ENOENT);
    assert_int_equal(bytes_kept(), 10);
}

/* Garbage is not seen, and not taken for a neighbour, as long as the reaper has not come; when it
 * comes it leaves what a younger snapshot names. */
static void test_drop__before_the_reaper_comes(void **state)
{
    uint64_t old[2], kept, young;

    put("a", big);
    old[0] = take("a");
    old[1] = take("a");
    put("b", big);
    take("b");
    keeper_stop(box->cache->content->keeper);
    assert_int_equal(box_delete_snapshots(box, id, "a"), 0);
    kept = take("a");
    put("a", "small");
    expect("a", old[1], NULL);
    expect("a", kept, big);
    assert_int_equal(drop("a", old[0]), -ENOENT);
    assert_int_equal(box_delete_snapshots(box, id, "b"), 0);
    young = take("b");
    put("b", "small");
    assert_int_equal(drop("b", young), 0); /* the last one that counts */
    assert_int_equal(cachebox_check(box), 0);
    expect("a", kept, big);
    assert_int_equal(bytes_kept(), BIG + 10);
    expect("a", kept, big);
    expect("a", old[1], NULL);
}

static void test_drop__a_container_takes_them_along(void **state)
{
    put("a", big);
    take("a");
    put("a", "small");
    take("a");
    assert_int_equal(box_delete_container(box, BOX_LOCAL, "c"), 0);
    assert_int_equal(bytes_kept(), 0);
}

/* ---- what is under way ---- */

struct changing {
    struct tx *tx;
    struct completion done;
    bool ended;
};

static void ended(struct completion *done)
{
    struct changing *c = container_of(done, struct changing, done);

    assert_int_equal(done->err, 0);
    c->ended = true;
}

/* A snapshot is taken of what is ordered; its deletion waits for what is queued and keeps its turn.
 */
static void test_turns__what_is_queued_counts(void **state)
{
    struct name name = box_name(id, "a");
    struct blob_record record = {.type = BLOB_BLOCK};
    struct piece piece = {box_object(box, big, BIG), 0, BIG};
    struct changing c = {.done = {.fn = ended, .loop = loop_poll_loop(box->poll)}}, d = c;
    struct snapshot_spec spec = {0};
    struct snapshot_made made;
    struct blob *found;
    struct tx *tx;

    cache_begin(box->cache, &name, &c.tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_put(c.tx, &record, &piece, 1, NULL, true);
    cache_commit(c.tx, &c.done);
    cache_begin(box->cache, &name, &tx, box_done(box)); /* rests on the put */
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_snapshot(tx, &spec, &made), 0);
    cache_commit(tx, &d.done);
    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_find_snapshot(tx, made.snapshot, &found, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_true(c.ended && d.ended);
    tx_delete_snapshot(tx);
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    expect("a", made.snapshot, NULL);
    assert_int_equal(box_expect(box, id, "a", big), 0);
}

static void test_turns__bytes_of_another_version_are_refused(void **state)
{
    struct name name = box_name(id, "a");
    struct snapshot_spec spec = {0};
    struct snapshot_made made;
    struct blob *old;
    struct tx *tx;

    put("a", "first");
    assert_int_equal(box_lookup(box, id, "a", &old), 0);
    put("a", "second");
    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    spec.copied = old;
    assert_int_equal(tx_snapshot(tx, &spec, &made), -ESTALE);
    cache_rollback(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    blob_unref(old);
    assert_int_equal(counted("a"), 0);
}

/* ---- lists ---- */

static int list_row(void *arg, const struct list_row *row)
{
    char *at = arg;

    sprintf(at + strlen(at), "%.*s%s ", SPAN_FMT(row->name), row->record->snapshot ? "@" : "");
    return 0;
}

static void test_list__in_pages_of_any_size(void **state)
{
    put("a", "1");
    for (unsigned i = 0; i < 3; i++)
        take("a");
    put("a/b", big);
    put("b", "2");
    take("b");
    for (unsigned max = 1; max < 9; max++) {
        struct list_query query = {.container = id, .max = max, .snapshots = true};
        struct list_end end = {0};
        char text[200] = "", from[64];

        do {
            assert_int_equal(cache_list(box->cache, &query, list_row, text, &end), 0);
            if (!end.next.base)
                break;
            memcpy(from, end.next.base, end.next.len);
            query.from = span_from(from, end.next.len);
            list_end_done(&end);
        } while (true);
        assert_string_equal(text, "a@ a@ a@ a a/b b@ b ");
    }
}

/* ---- restarts ---- */

static void test_restart__finds_them_again(void **state)
{
    const char *texts[] = {"", "small", big};
    uint64_t snapshots[countof(texts)];
    struct cachebox *image;

    for (unsigned i = 0; i < countof(texts); i++) {
        put("a", texts[i]);
        snapshots[i] = take("a");
    }
    put("b", big);
    take("b");
    assert_int_equal(box_delete(box, BOX_LOCAL, "c", id, "b"), 0);
    image = cachebox_crash(box, 7);
    cachebox_free(box);
    box = image;
    loop_enter(loop_poll_loop(box->poll));
    for (unsigned i = 0; i < countof(texts); i++)
        expect("a", snapshots[i], texts[i]);
    cachebox_close(box);
    cachebox_open(box);
    for (unsigned i = 0; i < countof(texts); i++)
        expect("a", snapshots[i], texts[i]);
    assert_int_equal(counted("a"), 3);
    assert_int_equal(bytes_kept(), BIG + 5);
    assert_int_equal(drop("a", snapshots[2]), 0);
    assert_int_equal(bytes_kept(), BIG + 5);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_content__stays_that_of_its_time),
        TEST(test_content__is_shared_and_counted_once),
        TEST(test_content__goes_with_the_last_that_names_it),
        TEST(test_content__of_blocks_can_be_used_again),
        TEST(test_drop__all_at_once_frees_all),
        TEST(test_drop__content_that_goes_on_being_named),
        TEST(test_drop__a_name_that_is_made_again_has_none),
        TEST(test_drop__before_the_reaper_comes),
        TEST(test_drop__a_container_takes_them_along),
        TEST(test_turns__what_is_queued_counts),
        TEST(test_turns__bytes_of_another_version_are_refused),
        TEST(test_list__in_pages_of_any_size),
        TEST(test_restart__finds_them_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
