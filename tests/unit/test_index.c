/* The index on a real RocksDB in a folder of its own: reads, iterators, views, and `applied` per
 * family. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "cache/index.h"
#include "tests/support/tempdir.h"

struct place {
    char *dir, *path;
    struct index *index;
};

static struct index *open_at(const char *path)
{
    struct index_conf conf = {.path = path, .cache_bytes = 8 << 20};
    struct index *index;
    char *why = NULL;

    if (index_open(&conf, &index, &why))
        fail_msg("%s", why);
    return index;
}

static int setup(void **state)
{
    struct place *p = xcalloc(1, sizeof(*p));

    p->dir = tempdir_new("index");
    p->path = tempdir_path(p->dir, "index");
    p->index = open_at(p->path);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;

    index_close(p->index);
    free(p->path);
    tempdir_free(p->dir);
    free(p);
    return 0;
}

static void put(struct index *index, uint64_t number, enum family family, const char *key,
                const char *value)
{
    struct entry entry = {family, ENTRY_PUT, span_of(key), span_of(value)};

    assert_int_equal(index_apply(index, number, &entry, 1), 0);
}

static void expect(struct index *index, const struct index_view *view, enum family family,
                   const char *key, const char *value)
{
    struct index_value got = {0};

    if (!value) {
        assert_int_equal(index_get(index, view, family, span_of(key), &got), -ENOENT);
        return;
    }
    assert_int_equal(index_get(index, view, family, span_of(key), &got), 0);
    assert_span_equal(got.bytes, value);
    index_value_done(&got);
}

static void test_index__get_gives_what_was_applied(void **state)
{
    struct place *p = *state;
    struct index_value got = {0};
    struct entry both[] = {
        {FAM_BLOBS, ENTRY_DELETE, SPAN("a"), {0}},
        {FAM_UPLOADS, ENTRY_PUT, SPAN("u"), SPAN("2")},
    };

    put(p->index, 1, FAM_BLOBS, "a", "1");
    expect(p->index, NULL, FAM_BLOBS, "a", "1");
    expect(p->index, NULL, FAM_VERSIONS, "a", NULL);
    assert_int_equal(index_get(p->index, INDEX_HOT, FAM_BLOBS, SPAN("a"), &got), 0);
    assert_span_equal(got.bytes, "1");
    index_value_done(&got);
    assert_int_equal(index_apply(p->index, 2, both, 2), 0);
    expect(p->index, NULL, FAM_BLOBS, "a", NULL);
    expect(p->index, NULL, FAM_UPLOADS, "u", "2");
    assert_string_equal(index_error(p->index), "");
}

static void test_index__cold_read_is_refused_in_memory_only(void **state)
{
    struct place *p = *state;
    struct index_value got = {0};
    static char big[65536]; /* keeps "b" out of the block that opening has read */
    struct entry first = {FAM_BLOBS, ENTRY_PUT, SPAN("a"), {big, sizeof(big)}};

    random_seed(1);
    random_fill(big, sizeof(big));
    assert_int_equal(index_apply(p->index, 1, &first, 1), 0);
    put(p->index, 2, FAM_BLOBS, "b", "1");
    p->index = index_close(p->index);
    p->index = open_at(p->path);
    assert_int_equal(index_get(p->index, INDEX_HOT, FAM_BLOBS, SPAN("b"), &got), -EAGAIN);
    expect(p->index, NULL, FAM_BLOBS, "b", "1");
    assert_int_equal(index_get(p->index, INDEX_HOT, FAM_BLOBS, SPAN("b"), &got), 0);
    index_value_done(&got);
}

static void expect_keys(struct index_iter *iter, const char *keys)
{
    char got[64] = "";

    for (; index_iter_valid(iter); index_iter_next(iter))
        strncat(got, index_iter_key(iter).base, index_iter_key(iter).len);
    assert_int_equal(index_iter_err(iter), 0);
    assert_string_equal(got, keys);
}

static void test_index__iterator_keeps_its_bounds(void **state)
{
    struct place *p = *state;
    struct index_iter *iter;

    for (const char *k = "acbed"; *k; k++)
        put(p->index, (uint64_t)(k - "acbed") + 1, FAM_BLOBS, (char[]){*k, 0}, "v");
    iter = index_iter_new(p->index, NULL, FAM_BLOBS, SPAN("b"), SPAN("e"));
    expect_keys(iter, "bcd");
    index_iter_seek(iter, SPAN("c"));
    expect_keys(iter, "cd");
    index_iter_seek(iter, (struct span){0}); /* below the lower bound: stands on it */
    expect_keys(iter, "bcd");
    index_iter_free(iter);
    iter = index_iter_new(p->index, NULL, FAM_BLOBS, (struct span){0}, (struct span){0});
    expect_keys(iter, "abcde"); /* `applied` is not shown */
    index_iter_seek(iter, (struct span){0});
    expect_keys(iter, "abcde");
    index_iter_free(iter);
}

static void test_index__view_stays_as_it_was_in_all_families(void **state)
{
    struct place *p = *state;
    struct index_view *view;
    struct index_iter *iter;

    put(p->index, 1, FAM_BLOBS, "a", "old");
    view = index_view_new(p->index);
    put(p->index, 2, FAM_BLOBS, "a", "new");
    put(p->index, 3, FAM_UPLOADS, "u", "new");
    expect(p->index, view, FAM_BLOBS, "a", "old");
    expect(p->index, view, FAM_UPLOADS, "u", NULL);
    iter = index_iter_new(p->index, view, FAM_BLOBS, (struct span){0}, (struct span){0});
    assert_span_equal(index_iter_value(iter), "old");
    index_iter_free(iter);
    index_view_free(p->index, view);
    expect(p->index, NULL, FAM_BLOBS, "a", "new");
}

static void test_index__range_delete_leaves_applied(void **state)
{
    struct place *p = *state;
    struct entry range = {FAM_BLOBS, ENTRY_DELETE_RANGE, {0}, SPAN("b")};
    uint64_t persisted;

    put(p->index, 1, FAM_BLOBS, "a", "1");
    put(p->index, 2, FAM_BLOBS, "b", "1");
    assert_int_equal(index_apply(p->index, 3, &range, 1), 0);
    expect(p->index, NULL, FAM_BLOBS, "a", NULL);
    expect(p->index, NULL, FAM_BLOBS, "b", "1");
    assert_int_equal(index_flush(p->index), 0);
    assert_int_equal(index_applied_persisted(p->index, &persisted), 0);
    assert_int_equal(persisted, 3);
}

static void test_index__applied_is_persisted_by_flush_only(void **state)
{
    struct place *p = *state;
    uint64_t persisted;

    put(p->index, 7, FAM_BLOBS, "a", "1");
    for (int f = 0; f < FAM_COUNT; f++)
        assert_int_equal(index_applied(p->index, f), 7);
    assert_int_equal(index_applied_persisted(p->index, &persisted), 0);
    assert_int_equal(persisted, 0);
    assert_int_equal(index_flush(p->index), 0);
    assert_int_equal(index_applied_persisted(p->index, &persisted), 0);
    assert_int_equal(persisted, 7);
}

/* A copy of the folder of an open index is what a crash leaves. */
static void test_index__copy_after_crash_is_behind_and_takes_replay(void **state)
{
    struct place *p = *state;
    _cleanup_(freep) char *copy = tempdir_path(p->dir, "copy");
    struct index *old;

    put(p->index, 1, FAM_BLOBS, "a", "1");
    assert_int_equal(index_flush(p->index), 0);
    put(p->index, 2, FAM_BLOBS, "a", "2");
    tempdir_copy(p->path, copy);
    old = open_at(copy);
    assert_int_equal(index_applied(old, FAM_BLOBS), 1);
    expect(old, NULL, FAM_BLOBS, "a", "1");
    put(old, 1, FAM_BLOBS, "a", "not again"); /* it has 1: skipped */
    expect(old, NULL, FAM_BLOBS, "a", "1");
    put(old, 2, FAM_BLOBS, "a", "2");
    expect(old, NULL, FAM_BLOBS, "a", "2");
    index_close(old);
}

static void test_index__batch_of_commits_lands_at_once(void **state)
{
    struct place *p = *state;
    struct entry a = {FAM_BLOBS, ENTRY_PUT, SPAN("a"), SPAN("1")};
    struct entry b = {FAM_BLOBS, ENTRY_PUT, SPAN("a"), SPAN("2")};

    index_batch_add(p->index, 1, &a);
    index_batch_add(p->index, 2, &b);
    expect(p->index, NULL, FAM_BLOBS, "a", NULL);
    assert_int_equal(index_batch_write(p->index, 2), 0);
    expect(p->index, NULL, FAM_BLOBS, "a", "2");
    assert_int_equal(index_applied(p->index, FAM_KNOWN), 2);
}

static void test_index__is_bound_once_and_discarded(void **state)
{
    struct place *p = *state;
    uint64_t uuid[2];
    char *why = NULL;

    index_uuid(p->index, uuid);
    assert_true(uuid[0] == 0 && uuid[1] == 0);
    assert_int_equal(index_bind(p->index, (uint64_t[]){3, 4}), 0);
    p->index = index_close(p->index);
    p->index = open_at(p->path);
    index_uuid(p->index, uuid);
    assert_true(uuid[0] == 3 && uuid[1] == 4);
    p->index = index_close(p->index);
    assert_int_equal(index_discard(p->path, &why), 0);
    p->index = open_at(p->path);
    index_uuid(p->index, uuid);
    assert_true(uuid[0] == 0 && uuid[1] == 0);
}

static void test_index__broken_folder_is_refused_in_words(void **state)
{
    struct place *p = *state;
    struct index_conf conf = {.path = p->path};
    struct index *second;
    char *why = NULL;

    assert_int_equal(index_open(&conf, &second, &why), -EIO); /* open already: locked */
    assert_non_null(strstr(why, "cannot be opened"));
    free(why);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_index__get_gives_what_was_applied),
        CASE(test_index__cold_read_is_refused_in_memory_only),
        CASE(test_index__iterator_keeps_its_bounds),
        CASE(test_index__view_stays_as_it_was_in_all_families),
        CASE(test_index__range_delete_leaves_applied),
        CASE(test_index__applied_is_persisted_by_flush_only),
        CASE(test_index__copy_after_crash_is_behind_and_takes_replay),
        CASE(test_index__batch_of_commits_lands_at_once),
        CASE(test_index__is_bound_once_and_discarded),
        CASE(test_index__broken_folder_is_refused_in_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
