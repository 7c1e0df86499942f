/* What the cloud says of one name: new, the same, another, absent; never over what is newer here.
 */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "cache/internal.h"
#include "cache/record.h"
#include "tests/support/cachebox.h"

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

static int setup(void **state)
{
    static const struct clock_source source = {mono, wall, NULL};

    ahead_ns = 0;
    clock_set_source(&source);
    return 0;
}

static uint64_t container_in_cloud(struct cachebox *box, const char *name)
{
    struct name all = {0};
    struct asked asked = cache_ask(box->cache, &all);
    struct container_record record = {.modified_ns = 5};
    struct container *container;
    uint64_t id;

    cache_learn_container(box->cache, BOX_CLOUD, span_of(name), &asked, &record, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(cache_container(box->cache, BOX_CLOUD, span_of(name), &container), 0);
    id = container_record(container)->id;
    container_unref(container);
    return id;
}

static uint32_t tag_count;

static int learn(struct cachebox *box, uint64_t id, const char *blob, const char *etag,
                 uint64_t length, struct blob **ret)
{
    struct name name = box_name(id, blob);
    struct asked asked = cache_ask(box->cache, &name);
    struct blob_record record = {.type = BLOB_BLOCK,
                                 .length = length,
                                 .cloud_etag = span_of(etag),
                                 .cloud_modified_ns = 1700000000000000000,
                                 .tags_unknown = tag_count};
    int err;

    *ret = NULL;
    cache_learn(box->cache, &name, &asked, etag ? &record : NULL, ret, box_done(box));
    err = box_wait(box);
    cache_ask_end(box->cache, &asked);
    return err;
}

/* As after a 304: the record that is held is what the cloud has. */
static int learn_held(struct cachebox *box, uint64_t id, const char *text)
{
    struct name name = box_name(id, text);
    struct asked asked = cache_ask(box->cache, &name);
    struct blob *held, *learned = NULL;
    int err = box_lookup(box, id, text, &held);

    if (err)
        return err;
    cache_learn(box->cache, &name, &asked, blob_record(held), &learned, box_done(box));
    err = box_wait(box);
    cache_ask_end(box->cache, &asked);
    blob_unref(held);
    if (learned)
        blob_unref(learned);
    return err;
}

static void test_learn__a_version_is_described_and_survives_a_restart(void **state)
{
    struct cachebox *box = cachebox_new(1);
    uint64_t id = container_in_cloud(box, "deny"), etag;
    const struct piece *pieces;
    struct blob *blob;

    assert_int_equal(box_lookup(box, id, "b", &blob), -ENODATA);
    assert_int_equal(learn(box, id, "b", "\"1\"", 100000, &blob), 0);
    assert_int_equal(blob_record(blob)->length, 100000);
    assert_int_equal(blob_pieces(blob, &pieces), 1);
    etag = blob_record(blob)->etag;
    assert_int_equal(etag >> 60, 1);
    blob_unref(blob);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_lookup(box, id, "b", &blob), 0);
    assert_int_equal(blob_record(blob)->etag, etag);
    assert_int_equal(blob_pieces(blob, &pieces), 1);
    assert_int_equal(blob_record(blob)->durability, DURABILITY_CLOUD);
    blob_unref(blob);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_learn__the_same_etag_is_the_same_version_checked_again(void **state)
{
    struct cachebox *box = cachebox_new(2);
    uint64_t id = container_in_cloud(box, "deny");
    struct blob *first, *again, *after;
    int64_t checked;

    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &first), 0);
    ahead_ns += 100 * (int64_t)NS_PER_SEC;
    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &again), 0);
    assert_int_equal(blob_record(again)->etag, blob_record(first)->etag);
    checked = blob_record(again)->checked_ns;
    assert_true(checked >= blob_record(first)->checked_ns + 100 * (int64_t)NS_PER_SEC);
    blob_unref(first);
    blob_unref(again);
    assert_int_equal(learn(box, id, "other", "\"1\"", 10, &again),
                     0); /* carries the fresh row along */
    blob_unref(again);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_lookup(box, id, "b", &after), 0);
    assert_int_equal(blob_record(after)->checked_ns, checked);
    blob_unref(after);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* Tags change in the cloud without a new ETag: a version that was asked for again has as many as
 * the cloud says, and which ones is not known; also after a restart. */
static void test_learn__tags_are_known_by_their_number_only(void **state)
{
    static const struct span tags = SPAN("a\0001\0");
    struct cachebox *box = cachebox_new(6);
    uint64_t id = container_in_cloud(box, "deny");
    struct name name = box_name(id, "b");
    struct blob *blob, *current;
    struct tx *tx;

    tag_count = 2;
    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &blob), 0);
    assert_int_equal(blob_record(blob)->tags_unknown, 2);
    blob_unref(blob);
    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_current(tx, &current), 0);
    tx_amend(tx, &(struct blob_record){.tags = tags});
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(box_lookup(box, id, "b", &blob), 0);
    assert_true(span_eq(blob_record(blob)->tags, tags) && !blob_record(blob)->tags_unknown);
    blob_unref(blob);
    assert_int_equal(learn_held(box, id, "b"), 0); /* a 304: nothing is said of them */
    assert_int_equal(box_lookup(box, id, "b", &blob), 0);
    assert_true(span_eq(blob_record(blob)->tags, tags) && !blob_record(blob)->tags_unknown);
    blob_unref(blob);
    tag_count = 1;
    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &blob), 0);
    blob_unref(blob);
    tag_count = 0;
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_lookup(box, id, "b", &blob), 0);
    assert_int_equal(blob_record(blob)->tags.len, 0);
    assert_int_equal(blob_record(blob)->tags_unknown, 1);
    blob_unref(blob);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_learn__another_etag_is_another_version(void **state)
{
    struct cachebox *box = cachebox_new(3);
    uint64_t id = container_in_cloud(box, "deny");
    struct blob *first, *second, *found;

    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &first), 0);
    assert_int_equal(learn(box, id, "b", "\"2\"", 20, &second), 0);
    assert_true(blob_record(second)->etag > blob_record(first)->etag);
    assert_int_equal(box_lookup(box, id, "b", &found), 0);
    assert_ptr_equal(found, second);
    blob_unref(first);
    blob_unref(second);
    blob_unref(found);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_learn__absence_counts_for_its_time(void **state)
{
    struct cachebox *box = cachebox_new(4);
    uint64_t id = container_in_cloud(box, "deny");
    struct blob *blob;

    assert_int_equal(learn(box, id, "never", NULL, 0, &blob), 0);
    assert_null(blob);
    assert_int_equal(box_lookup(box, id, "never", &blob), -ENOENT);
    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &blob), 0);
    blob_unref(blob);
    assert_int_equal(learn(box, id, "b", NULL, 0, &blob), 0);
    assert_int_equal(box_lookup(box, id, "b", &blob), -ENOENT);
    ahead_ns += 11 * (int64_t)NS_PER_SEC;
    assert_int_equal(box_lookup(box, id, "never", &blob), -ENODATA);
    assert_int_equal(box_lookup(box, id, "b", &blob), -ENODATA);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_lookup(box, id, "b", &blob), -ENODATA);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_learn__never_overrides_what_waits_for_the_cloud(void **state)
{
    struct cachebox *box = cachebox_new(5);
    uint64_t id = container_in_cloud(box, "free");
    struct blob *blob;

    assert_int_equal(box_put(box, BOX_CLOUD, "free", id, "b", "mine", NULL), 0);
    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &blob), -ESTALE);
    assert_int_equal(learn(box, id, "b", NULL, 0, &blob), -ESTALE);
    assert_int_equal(box_expect(box, id, "b", "mine"), 0);
    assert_int_equal(learn(box, id, "d", "\"1\"", 10, &blob), 0);
    blob_unref(blob);
    assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "d"), 0);
    assert_int_equal(learn(box, id, "d", "\"1\"", 10, &blob), -ESTALE);
    assert_int_equal(box_lookup(box, id, "d", &blob), -ENOENT);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(learn(box, id, "d", "\"1\"", 10, &blob),
                     -ESTALE); /* the tombstone is durable */
    assert_int_equal(box_lookup(box, id, "d", &blob), -ENOENT);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_learn__a_container_that_vanished_goes_unless_it_holds_unsent_blobs(void **state)
{
    struct cachebox *box = cachebox_new(6);
    uint64_t kept = container_in_cloud(box, "free");
    struct name all = {0};
    struct asked asked = cache_ask(box->cache, &all);
    struct container *container;

    (void)container_in_cloud(box, "deny");
    cache_ask_end(box->cache, &asked);
    assert_int_equal(box_put(box, BOX_CLOUD, "free", kept, "b", "mine", NULL), 0);
    asked = cache_ask(box->cache, &all);
    cache_learn_container(box->cache, BOX_CLOUD, SPAN("free"), &asked, NULL, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_learn_container(box->cache, BOX_CLOUD, SPAN("deny"), &asked, NULL, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(cache_container(box->cache, BOX_CLOUD, SPAN("free"), &container), 0);
    container_unref(container);
    assert_int_equal(cache_container(box->cache, BOX_CLOUD, SPAN("deny"), &container), -ENODATA);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static int stop_at_once(void *arg, const struct container_record *record)
{
    return 1;
}

static bool all_known(struct cachebox *box)
{
    bool complete = false;

    assert_in_range(
        cache_containers(box->cache, BOX_CLOUD, SPAN(""), SPAN(""), stop_at_once, NULL, &complete),
        0, 1);
    return complete;
}

/* As upstream does with a whole list. */
static void learn_containers(struct cachebox *box, const char *const *names, size_t n)
{
    struct name all = {0};
    struct asked asked = cache_ask(box->cache, &all);
    struct container_record record = {.modified_ns = 5};
    struct container *gone;
    struct span after = SPAN("");
    char copy[64];

    for (size_t i = 0; i < n; i++) {
        cache_learn_container(box->cache, BOX_CLOUD, span_of(names[i]), &asked, &record,
                              box_done(box));
        assert_int_equal(box_wait(box), 0);
    }
    while (cache_container_unlisted(box->cache, BOX_CLOUD, &asked, after, &gone) == 0) {
        snprintf(copy, sizeof(copy), "%.*s", SPAN_FMT(container_record(gone)->name));
        container_unref(gone);
        after = span_of(copy);
        cache_learn_container(box->cache, BOX_CLOUD, after, &asked, NULL, box_done(box));
        assert_int_equal(box_wait(box), 0);
    }
    cache_learn_containers_end(box->cache, BOX_CLOUD, &asked);
    cache_ask_end(box->cache, &asked);
}

static bool has_container(struct cachebox *box, const char *name)
{
    struct container *container;
    int err = cache_container(box->cache, BOX_CLOUD, span_of(name), &container);

    if (!err)
        container_unref(container);
    return !err;
}

static void test_learn__the_list_of_containers_ages_and_shrinks(void **state)
{
    static const char *const both[] = {"one", "two"};
    struct cachebox *box = cachebox_new(7);

    (void)box_container(box, BOX_CLOUD, "ours"); /* its creation is still to be uploaded */
    assert_false(all_known(box));
    learn_containers(box, both, 2);
    assert_true(all_known(box));
    assert_true(has_container(box, "one") && has_container(box, "two") &&
                has_container(box, "ours"));
    ahead_ns += 61 * (int64_t)NS_PER_SEC;
    assert_false(all_known(box)); /* somebody may have made one meanwhile */
    cachebox_close(box);
    cachebox_open(box);
    assert_false(all_known(box));
    learn_containers(box, both + 1, 1);
    assert_true(all_known(box));
    assert_false(has_container(box, "one"));
    assert_true(has_container(box, "two") && has_container(box, "ours"));
    cachebox_close(box);
    cachebox_open(box);
    assert_true(all_known(box));
    assert_false(has_container(box, "one"));
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static int learn_gone(struct cachebox *box, const char *name, const struct asked *asked)
{
    cache_learn_container(box->cache, BOX_CLOUD, span_of(name), asked, NULL, box_done(box));
    return box_wait(box);
}

static bool is_there(struct cachebox *box, const char *name, bool *in_cloud)
{
    struct container *container;

    if (cache_container(box->cache, BOX_CLOUD, span_of(name), &container))
        return false;
    *in_cloud = container_record(container)->in_cloud;
    container_unref(container);
    return true;
}

static void test_learn__a_container_that_vanished_stays_with_what_is_only_here(void **state)
{
    struct cachebox *box = cachebox_new(7);
    uint64_t id = container_in_cloud(box, "free");
    struct name all = {0};
    struct asked asked;
    bool in_cloud;

    assert_int_equal(box_stage(box, id, "b", "id", "staged"), 0);
    asked = cache_ask(box->cache, &all);
    assert_int_equal(learn_gone(box, "free", &asked), 0);
    cache_ask_end(box->cache, &asked);
    assert_true(is_there(box, "free", &in_cloud));
    assert_false(in_cloud);
    assert_int_equal(box_commit_blocks(box, BOX_CLOUD, "free", id, "b", "U:id", NULL), 0);
    assert_int_equal(box_expect(box, id, "b", "staged"), 0);
    assert_int_equal(container_in_cloud(box, "free"), id); /* somebody made it again */
    assert_true(is_there(box, "free", &in_cloud) && in_cloud);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* An answer about a blob says that the container is gone: it is about that container's id only. */
static void test_learn__a_container_made_again_is_not_the_one_that_was_asked_for(void **state)
{
    struct cachebox *box = cachebox_new(8);
    uint64_t id = container_in_cloud(box, "deny"), again;
    struct name all = {0}, name = box_name(id, "b");
    struct asked late = cache_ask(box->cache, &name), asked = cache_ask(box->cache, &all);
    bool in_cloud;

    assert_int_equal(learn_gone(box, "deny", &asked), 0);
    cache_ask_end(box->cache, &asked);
    assert_false(is_there(box, "deny", &in_cloud));
    again = container_in_cloud(box, "deny");
    assert_true(again != id);
    assert_int_equal(learn_gone(box, "deny", &late), -ESTALE);
    assert_true(is_there(box, "deny", &in_cloud));
    cache_ask_end(box->cache, &late);
    late = cache_ask(box->cache, &(struct name){.container = again, .blob = SPAN("b")});
    assert_int_equal(learn_gone(box, "deny", &late), 0);
    cache_ask_end(box->cache, &late);
    assert_false(is_there(box, "deny", &in_cloud));
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static unsigned known_rows(struct cachebox *box)
{
    struct index_iter *iter =
        index_iter_new(box->cache->index, NULL, FAM_KNOWN, SPAN(""), SPAN(""));
    unsigned n = 0;

    for (; index_iter_valid(iter); index_iter_next(iter))
        n++;
    index_iter_free(iter);
    return n;
}

static void test_learn__what_was_known_of_a_container_goes_with_it(void **state)
{
    struct cachebox *box = cachebox_new(10);
    uint64_t id = container_in_cloud(box, "deny");
    struct name all = {0}, inside = {.container = id};
    struct list_gap gap = {id, SPAN(""), SPAN("/"), SPAN("")};
    struct asked asked = cache_ask(box->cache, &inside);

    cache_learn_list(box->cache, &gap, &asked, &(struct learned_row){SPAN("d/"), NULL}, 1,
                     (struct span){NULL, 0}, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(known_rows(box), 2);
    asked = cache_ask(box->cache, &all);
    assert_int_equal(learn_gone(box, "deny", &asked), 0);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(known_rows(box), 0);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* Whoever comes first in the order: nothing that is acknowledged is lost. */
static void test_learn__a_container_that_vanished_stays_when_a_put_comes_first(void **state)
{
    struct cachebox *box = cachebox_new(9);
    uint64_t id = container_in_cloud(box, "free");
    struct name all = {0}, name = box_name(id, "b");
    struct asked asked = cache_ask(box->cache, &all);
    struct blob_record record = {.type = BLOB_BLOCK};
    struct awaited gone;
    struct tx *tx;
    bool in_cloud;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_put(tx, &record, NULL, 0, NULL, true);
    tx_upload(tx, &(struct upload_spec){UPLOAD_CONTENT, box_contract(BOX_CLOUD, "free", "b")});
    cache_commit(tx, box_done(box)); /* queued, perhaps not decided yet */
    cache_learn_container(box->cache, BOX_CLOUD, SPAN("free"), &asked, NULL,
                          awaited_init(&gone, loop_poll_loop(box->poll)));
    assert_int_equal(box_wait(box), 0);
    (void)loop_await(box->poll, &gone);
    cache_ask_end(box->cache, &asked);
    assert_true(is_there(box, "free", &in_cloud));
    assert_int_equal(box_expect(box, id, "b", ""), 0);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* A lease changes no ETag: the same version, told of anew. */
static void test_learn__a_lease_is_known_beside_the_version(void **state)
{
    struct cachebox *box = cachebox_new(21), *after;
    uint64_t id = container_in_cloud(box, "deny"), etag;
    struct name name = box_name(id, "b");
    struct blob_record record = {.type = BLOB_BLOCK,
                                 .length = 10,
                                 .cloud_etag = SPAN("\"1\""),
                                 .cloud_modified_ns = 1700000000000000000};
    struct asked asked;
    struct blob *blob;

    assert_int_equal(learn(box, id, "b", "\"1\"", 10, &blob), 0);
    etag = blob_record(blob)->etag;
    blob_unref(blob);
    asked = cache_ask(box->cache, &name);
    record.cloud_lease = CLOUD_LEASE_INFINITE;
    cache_learn(box->cache, &name, &asked, &record, &blob, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
    blob_unref(blob);
    after = cachebox_crash(box, 22);
    assert_int_equal(box_lookup(after, id, "b", &blob), 0);
    assert_int_equal(blob_record(blob)->cloud_lease, CLOUD_LEASE_INFINITE);
    assert_int_equal(blob_record(blob)->etag, etag);
    blob_unref(blob);
    cachebox_free(after);
    cachebox_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_learn__a_version_is_described_and_survives_a_restart, setup),
        cmocka_unit_test_setup(test_learn__the_same_etag_is_the_same_version_checked_again, setup),
        cmocka_unit_test_setup(test_learn__tags_are_known_by_their_number_only, setup),
        cmocka_unit_test_setup(test_learn__another_etag_is_another_version, setup),
        cmocka_unit_test_setup(test_learn__absence_counts_for_its_time, setup),
        cmocka_unit_test_setup(test_learn__never_overrides_what_waits_for_the_cloud, setup),
        cmocka_unit_test_setup(
            test_learn__a_container_that_vanished_goes_unless_it_holds_unsent_blobs, setup),
        cmocka_unit_test_setup(test_learn__the_list_of_containers_ages_and_shrinks, setup),
        cmocka_unit_test_setup(test_learn__what_was_known_of_a_container_goes_with_it, setup),
        cmocka_unit_test_setup(test_learn__a_container_that_vanished_stays_with_what_is_only_here,
                               setup),
        cmocka_unit_test_setup(test_learn__a_lease_is_known_beside_the_version, setup),
        cmocka_unit_test_setup(test_learn__a_container_made_again_is_not_the_one_that_was_asked_for,
                               setup),
        cmocka_unit_test_setup(test_learn__a_container_that_vanished_stays_when_a_put_comes_first,
                               setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
