/* Copies by reference and renames: whatever order the queue has, what is deleted or overwritten in
 * the cloud stays there until every copy of it that was ordered before has arrived (U9), also after
 * a restart and a crash; and every name always has all its bytes. */
#include "tests/unit/queue_fixture.h"

#include "cache/content.h"

#define BIG 300000

static char *big;

static const char *take_all(void)
{
    return queue_take(false);
}

static void end_first(enum upload_end end)
{
    queue_end_first(end, "\"e\"");
}

static void confirm_everything(void)
{
    while (*take_all())
        confirm_all();
}

static int setup(void **state)
{
    queue_open(cachebox_new(1));
    big = xmalloc(BIG + 1);
    for (unsigned i = 0; i < BIG; i++)
        big[i] = (char)('a' + i * 31 % 26);
    big[BIG] = 0;
    return 0;
}

/* All containers in one scope. */
static int setup_one_scope(void **state)
{
    static const struct span markers[] = {SPAN("latest")};
    static const struct contract contracts[] = {{.id = 1,
                                                 .pattern = SPAN("*"),
                                                 .write = WRITE_BACK,
                                                 .order = ORDER_SAFE,
                                                 .markers = markers,
                                                 .marker_count = 1,
                                                 .copies = 1,
                                                 .fresh_ns = 60 * NS_PER_SEC,
                                                 .absent_ns = 10 * NS_PER_SEC}};
    static const struct account rows[] = {{.id = BOX_CLOUD,
                                           .name = SPAN("cloud"),
                                           .contracts = contracts,
                                           .contract_count = 1,
                                           .upstream.endpoint = SPAN("http://cloud")}};
    static const struct accounts accounts = {rows, 1};

    cachebox_accounts = &accounts;
    return setup(state);
}

static int teardown(void **state)
{
    queue_close();
    cachebox_accounts = NULL;
    free(big);
    return 0;
}

static uint64_t container(const char *name)
{
    return box_container(box, BOX_CLOUD, name);
}

static void copy_to(uint64_t id, const char *blob, uint64_t to_id, const char *to_in,
                    const char *to)
{
    struct blob *source;

    assert_int_equal(box_lookup(box, id, blob, &source), 0);
    assert_int_equal(box_copy(box, source, BOX_CLOUD, to_in, to_id, to), 0);
    blob_unref(source);
}

static void delete_(uint64_t id, const char *in, const char *blob)
{
    assert_int_equal(box_delete(box, BOX_CLOUD, in, id, blob), 0);
}

static void rename_in(uint64_t id, const char *in, const char *from, const char *to)
{
    copy_to(id, from, id, in, to);
    delete_(id, in, from);
}

static void restart(void)
{
    struct upload_result result = {.end = UPLOAD_RETRY};

    while (out_count) {
        cache_upload_end(box->cache, out[--out_count], &result, box_done(box));
        assert_int_equal(box_wait(box), 0);
    }
    cachebox_close(box);
    cachebox_open(box);
    cache_uploads_watch(box->cache, queue_wake, NULL);
}

static void test_copy__is_independent_of_its_source(void **state)
{
    const char *texts[] = {"", "small", big};
    uint64_t id = container("local");
    struct blob *a, *b;

    for (unsigned i = 0; i < countof(texts); i++) {
        put(id, "local", "a", texts[i]);
        copy_to(id, "a", id, "local", "b");
        assert_int_equal(box_lookup(box, id, "a", &a), 0);
        assert_int_equal(box_lookup(box, id, "b", &b), 0);
        assert_true(blob_record(a)->etag != blob_record(b)->etag);
        if (i == 2) /* references moved, no bytes */
            assert_ptr_equal(a->pieces[0].object, b->pieces[0].object);
        blob_unref(a);
        blob_unref(b);
        put(id, "local", "a", "another");
        assert_int_equal(box_expect(box, id, "b", texts[i]), 0);
        delete_(id, "local", "a");
        restart();
        assert_int_equal(box_expect(box, id, "b", texts[i]), 0);
        copy_to(id, "b", id, "local", "b"); /* onto itself */
        assert_int_equal(box_expect(box, id, "b", texts[i]), 0);
    }
}

static void test_copy__has_the_block_list(void **state)
{
    uint64_t id = container("free");
    size_t bad;

    assert_int_equal(box_stage(box, id, "a", "1", big), 0);
    assert_int_equal(box_stage(box, id, "a", "2", "tail"), 0);
    assert_int_equal(box_commit_blocks(box, BOX_CLOUD, "free", id, "a", "L:1,L:2", &bad), 0);
    restart(); /* the ids are read from rows */
    copy_to(id, "a", id, "free", "b");
    delete_(id, "free", "a");
    assert_int_equal(box_commit_blocks(box, BOX_CLOUD, "free", id, "b", "C:2,C:1,C:2", &bad), 0);
    restart();
    copy_to(id, "b", id, "free", "c");
    assert_int_equal(box_commit_blocks(box, BOX_CLOUD, "free", id, "c", "C:2", &bad), 0);
    assert_int_equal(box_expect(box, id, "c", "tail"), 0);
}

static void test_rename__old_name_outlives_the_copy(void **state)
{
    uint64_t id = container("free");

    put(id, "free", "old", big);
    confirm_everything();
    rename_in(id, "free", "old", "new");
    assert_string_equal(take_all(), "new ");
    restart();
    assert_string_equal(take_all(), "new ");
    end_first(UPLOAD_RETRY);
    assert_string_equal(take_all(), "new ");
    end_first(UPLOAD_HELD);
    assert_string_equal(take_all(), "");
    restart();
    assert_string_equal(take_all(), ""); /* held: the old name stays in the cloud */
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 1);
    assert_int_equal(box_expect(box, id, "new", big), 0);
}

/* In every order, with every size: a body of its own, one in a record, none. */
static void test_rename__goes_on_when_the_copy_is_confirmed(void **state)
{
    const char *scopes[] = {"safe", "free"}, *texts[] = {big, "small", ""};
    uint64_t ids[] = {container("safe"), container("free")};

    for (unsigned i = 0; i < 6; i++) {
        put(ids[i % 2], scopes[i % 2], "old", texts[i / 2]);
        confirm_everything();
        rename_in(ids[i % 2], scopes[i % 2], "old", "new");
        assert_string_equal(take_all(), "new ");
        confirm_all();
        assert_string_equal(take_all(), "-old ");
        confirm_all();
        assert_string_equal(take_all(), "");
        assert_int_equal(box_expect(box, ids[i % 2], "new", texts[i / 2]), 0);
        delete_(ids[i % 2], scopes[i % 2], "new");
        confirm_everything();
    }
}

static void test_rename__waits_over_a_crash(void **state)
{
    struct cachebox *before = box;
    uint64_t id = container("free");

    put(id, "free", "old", big);
    confirm_everything();
    rename_in(id, "free", "old", "new");
    box = cachebox_crash(before, 7);
    cachebox_free(before);
    loop_enter(loop_poll_loop(box->poll));
    cache_uploads_watch(box->cache, queue_wake, NULL);
    assert_string_equal(take_all(), "new ");
    assert_int_equal(box_expect(box, id, "new", big), 0);
    confirm_all();
    assert_string_equal(take_all(), "-old ");
    confirm_all();
}

static void test_overwrite__of_the_source_waits_in_any_scope(void **state)
{
    uint64_t safe = container("safe"), other = container("free");

    put(other, "free", "a", big);
    confirm_everything();
    copy_to(other, "a", safe, "safe", "b");
    put(other, "free", "a", "new");
    put(other, "free", "a", "newer"); /* replaces it, and waits as well */
    assert_string_equal(take_all(), "b ");
    assert_string_equal(take_all(), "");
    confirm_all();
    assert_string_equal(take_all(), "a ");
    confirm_all();
    assert_int_equal(box_expect(box, safe, "b", big), 0);
}

static void test_rename__of_a_rename_holds_the_first_name(void **state)
{
    uint64_t id = container("free");

    put(id, "free", "a", big);
    confirm_everything();
    rename_in(id, "free", "a", "b");
    rename_in(id, "free", "b", "c"); /* b is awaited by the delete of a: it is not cancelled */
    assert_string_equal(take_all(), "b c ");
    end_first(UPLOAD_CONFIRMED);
    assert_string_equal(take_all(), "-a "); /* b is there */
    confirm_all();
    assert_string_equal(take_all(), "-b ");
    confirm_all();
    assert_int_equal(box_expect(box, id, "c", big), 0);
}

/* Nobody waits for b yet: it is never sent, and a's delete waits for what was made of it. */
static void test_rename__over_a_name_that_never_was_in_the_cloud(void **state)
{
    uint64_t id = container("safe");

    put(id, "safe", "a", "small");
    confirm_everything();
    copy_to(id, "a", id, "safe", "b");
    rename_in(id, "safe", "b", "c");
    delete_(id, "safe", "a");
    assert_string_equal(take_all(), "c ");
    restart();
    assert_string_equal(take_all(), "c ");
    confirm_all();
    assert_string_equal(take_all(), "-b -a ");
    confirm_all();
}

/* DCP: .metadata.tmp becomes .metadata, then the next one is written under the first name. The
 * marker's phase is behind that of overwrites: whoever waits for it has to stand behind it too. */
static void test_marker__as_a_copy_is_no_dead_end(void **state)
{
    uint64_t id = container("safe");

    put(id, "safe", "tmp", "1");
    put(id, "safe", "latest", "0");
    confirm_everything();
    put(id, "safe", "shard", big);
    copy_to(id, "tmp", id, "safe", "latest");
    put(id, "safe", "tmp", "2");
    assert_string_equal(take_all(), "shard ");
    confirm_all();
    assert_string_equal(take_all(), "latest ");
    confirm_all();
    assert_string_equal(take_all(), "tmp ");
    confirm_all();
    assert_string_equal(take_all(), "");
}

static void test_container__of_the_source_outlives_the_copy(void **state)
{
    uint64_t from = container("from"), to = container("to");

    put(from, "from", "a", big);
    confirm_everything();
    copy_to(from, "a", to, "to", "a");
    assert_int_equal(box_delete_container(box, BOX_CLOUD, "from"), 0);
    assert_string_equal(take_all(), "a ");
    restart();
    assert_string_equal(take_all(), "a ");
    confirm_all();
    assert_string_equal(take_all(), "-/from ");
    confirm_all();
    assert_int_equal(box_expect(box, to, "a", big), 0);
}

/* The copy is a marker and waits for a new blob in a new container of the old one's name, whose
 * create waits for the delete, which waits for the copy. */
static void test_container__made_again_is_no_dead_end(void **state)
{
    uint64_t to = container("to"), from = container("from");

    put(from, "from", "a", "1");
    put(to, "to", "latest", "0");
    confirm_everything();
    copy_to(from, "a", to, "to", "latest");
    assert_int_equal(box_delete_container(box, BOX_CLOUD, "from"), 0);
    from = container("from");
    put(from, "from", "x", "1");
    assert_string_equal(take_all(), "-/from "); /* nobody else could move */
    confirm_all();
    confirm_everything();
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 0);
    assert_int_equal(box_expect(box, to, "latest", "1"), 0);
    assert_int_equal(box_expect(box, from, "x", "1"), 0);
}

/* One object under two names, the copy confirmed last and deleted again: what is read of the first
 * comes from the first. */
static void test_fill__of_shared_bytes_comes_from_the_name_that_is_read(void **state)
{
    uint64_t id = container("free");
    struct change *change = change_new();
    struct blob *a;
    struct fill *fill;

    put(id, "free", "a", big);
    confirm_everything();
    copy_to(id, "a", id, "free", "b");
    confirm_everything();
    delete_(id, "free", "b");
    confirm_everything();
    assert_int_equal(box_lookup(box, id, "a", &a), 0);
    assert_span_equal(a->pieces[0].object->origin.blob, "b");
    evict_extent(change, a->pieces[0].object, 0);
    change->done = box_done(box);
    commit_submit(box->cache->committer, change);
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(cache_fill_begin(a, (struct range){0, BIG}, &fill), 0);
    assert_span_equal(fill_source(fill).blob, "a");
    fill_end(fill, -ECANCELED, NULL);
    assert_int_equal(box_copy(box, a, BOX_CLOUD, "free", id, "c"), -ENODATA); /* not all here */
    blob_unref(a);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_copy__is_independent_of_its_source),
        CASE(test_copy__has_the_block_list),
        CASE(test_rename__old_name_outlives_the_copy),
        CASE(test_rename__goes_on_when_the_copy_is_confirmed),
        CASE(test_rename__waits_over_a_crash),
        CASE(test_overwrite__of_the_source_waits_in_any_scope),
        CASE(test_rename__of_a_rename_holds_the_first_name),
        CASE(test_rename__over_a_name_that_never_was_in_the_cloud),
        CASE(test_marker__as_a_copy_is_no_dead_end),
        CASE(test_container__of_the_source_outlives_the_copy),
        cmocka_unit_test_setup_teardown(test_container__made_again_is_no_dead_end, setup_one_scope,
                                        teardown),
        CASE(test_fill__of_shared_bytes_comes_from_the_name_that_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
