/* Objects: rows appear with the first link and go with the last, in commit order whatever the order
 * of building; slots follow (S5, B1-B5). The committer is the test's: see content_world.h. */
#include "tests/unit/content_world.h"

#define LENGTH (5u << 20)

static void test_object__never_linked_gives_its_slots_back(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t before = world_free_bytes(w);
    struct object *object = world_object(w, 1, LENGTH);

    assert_true(world_free_bytes(w) < before);
    object = object_unref(object);
    assert_int_equal(world_free_bytes(w), before);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    world_free(w);
}

static void test_object__linked_comes_back_from_its_rows(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH), *again;
    struct object_id id = object->id;
    struct blob *blob;
    uint64_t used;

    object->crc64 = 42;
    world_link(w, object, 100, OBJECT_DIRTY);
    object = object_unref(object);
    used = world_free_bytes(w);
    world_restart(w);
    assert_int_equal(world_free_bytes(w), used);
    assert_int_equal(object_get(&w->cache, id, &again), 0);
    assert_int_equal(again->length, LENGTH);
    assert_int_equal(object_crc64(again), 42);
    assert_int_equal(object_state(again), OBJECT_DIRTY);
    assert_int_equal(content_stats(&w->cache).dirty_bytes, LENGTH);
    blob = world_blob_of(w, again);
    assert_int_equal(world_read(w, blob, 1, 0, LENGTH), 0);
    blob_unref(blob);
    world_free(w);
}

static void test_object__one_struct_however_many_ask(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH), *again;

    world_link(w, object, 100, OBJECT_DIRTY);
    assert_int_equal(object_get(&w->cache, object->id, &again), 0);
    assert_ptr_equal(again, object);
    object_unref(again);
    object_unref(object);
    assert_int_equal(object_get(&w->cache, (struct object_id){9, 9, 9}, &again), -ENOENT);
    world_free(w);
}

static void test_object__slots_wait_for_the_drop_to_be_durable(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t before = world_free_bytes(w);
    struct object *object = world_object(w, 1, LENGTH);
    struct change *change = change_new();

    world_link(w, object, 100, OBJECT_DIRTY);
    object_unlink(change, object, 100);
    object = object_unref(object);
    world_hold();
    commit_submit(w->cache.committer, change);
    assert_true(world_free_bytes(w) < before); /* the mutant "early slot reuse" fails here */
    world_release(0);
    assert_int_equal(world_free_bytes(w), before);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    assert_int_equal(world_rows(w, FAM_SPACE), 0);
    world_free(w);
}

static void test_object__slots_wait_for_the_last_reader(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t before = world_free_bytes(w);
    struct object *object = world_object(w, 1, LENGTH);
    struct blob *blob = world_blob_of(w, object);
    struct reader *reader;
    struct slice slice;
    struct change *change = change_new();

    world_link(w, object, 100, OBJECT_DIRTY);
    reader = cache_reader_open(blob, (struct range){0, LENGTH}, READ_CLIENT);
    assert_int_equal(world_next(w, reader, &slice), 0);
    object_unlink(change, object, 100);
    world_commit(w, change);
    blob = blob_unref(blob);
    assert_true(world_free_bytes(w) < before);
    slice_unref(slice);
    assert_int_equal(world_next(w, reader, &slice), 0);
    slice_unref(slice);
    reader_close(reader);
    WORLD_UNTIL(w, world_free_bytes(w) == before);
    world_free(w);
}

static void test_object__shared_survives_one_of_two_users(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct object_id id = object->id;
    struct change *change = change_new();

    world_link(w, object, 100, OBJECT_DIRTY);
    world_link(w, object, 200, OBJECT_DIRTY);
    object_unlink(change, object, 100);
    world_commit(w, change);
    object = object_unref(object);
    world_restart(w);
    assert_int_equal(object_get(&w->cache, id, &object), 0);
    assert_int_equal(object->link_count, 1);
    object_unref(object);
    world_free(w);
}

/* A copy by reference ordered after the drop: the rows come back, the slots were never free. */
static void test_object__link_after_the_last_unlink_revives_it(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct object_id id = object->id;
    struct change *drop = change_new(), *copy = change_new();
    uint64_t used = world_free_bytes(w);
    struct blob *blob;

    world_link(w, object, 100, OBJECT_DIRTY);
    object_link(copy, object, 200, OBJECT_DIRTY); /* built before the drop, ordered after it */
    object_unlink(drop, object, 100);
    object = object_unref(object);
    world_hold();
    commit_submit(w->cache.committer, drop);
    commit_submit(w->cache.committer, copy);
    world_release(0);
    assert_int_equal(world_free_bytes(w), used);
    world_restart(w);
    assert_int_equal(world_free_bytes(w), used);
    assert_int_equal(object_get(&w->cache, id, &object), 0);
    blob = world_blob_of(w, object);
    assert_int_equal(world_read(w, blob, 1, 0, LENGTH), 0);
    blob_unref(blob);
    world_free(w);
}

/* What the committer must not acknowledge once a device is fenced. */
static void test_object__a_change_says_which_devices_its_new_bytes_are_on(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct change *change = change_new();

    object_link(change, object, 100, OBJECT_CLEAN);
    assert_int_equal(change_devices(change), 0); /* owed no flush */
    object_link(change, object, 101, OBJECT_STAGED);
    assert_int_equal(change_devices(change), 1);
    world_commit(w, change);
    change = change_new();
    object_link(change, object, 102, OBJECT_DIRTY);
    assert_int_equal(change_devices(change), 0); /* durable by now */
    world_commit(w, change);
    object_unref(object);
    world_free(w);
}

static void test_object__failed_changes_leave_no_trace(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t before = world_free_bytes(w);
    struct object *object = world_object(w, 1, LENGTH);
    struct change *change = change_new();

    object_link(change, object, 100, OBJECT_DIRTY);
    world_hold();
    commit_submit(w->cache.committer, change);
    world_release(-EIO);
    assert_int_equal(object->link_count, 0);
    assert_false(object->rows);
    world_link(w, object, 100, OBJECT_DIRTY);
    change = change_new();
    object_unlink(change, object, 100);
    world_hold();
    commit_submit(w->cache.committer, change);
    world_release(-EIO);
    assert_true(object->rows);
    assert_int_equal(object->link_count, 1);
    change = change_new();
    object_unlink(change, object, 100);
    change_free(change); /* never submitted */
    assert_int_equal(object->refs, 1);
    object_unref(object);
    assert_true(world_free_bytes(w) < before);
    world_free(w);
}

static void test_object__neediest_link_decides_the_state(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct object_id id = object->id;

    world_link(w, object, 100, OBJECT_STAGED);
    assert_int_equal(content_stats(&w->cache).staged_bytes, LENGTH);
    world_link(w, object, 200, OBJECT_DIRTY);
    assert_int_equal(content_stats(&w->cache).staged_bytes, 0);
    assert_int_equal(content_stats(&w->cache).dirty_bytes, LENGTH);
    world_clean(w, object, 100);
    assert_int_equal(object_state(object), OBJECT_DIRTY);
    world_clean(w, object, 200);
    assert_int_equal(object_state(object), OBJECT_CLEAN);
    assert_int_equal(content_stats(&w->cache).clean_bytes, LENGTH);
    object = object_unref(object);
    world_restart(w);
    assert_int_equal(content_stats(&w->cache).clean_bytes, LENGTH);
    assert_int_equal(object_get(&w->cache, id, &object), 0);
    assert_span_equal(object->origin.blob, "origin");
    object_unref(object);
    world_free(w);
}

static struct record_body body_of(struct object *object, enum object_state state)
{
    struct record_body body = {.id = object->id, .crc64 = object->crc64, .state = state};

    assert_true(object_extent(object, 0, &body.extent));
    return body;
}

static void test_object__body_located_by_its_record(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_small(w, 3, 5000);
    struct name who = {.container = 7, .blob = SPAN("small")};
    struct record_body body = body_of(object, OBJECT_DIRTY);
    struct change *change = change_new();
    struct blob *blob;
    uint64_t used;

    object_link_record(change, object, &who, OBJECT_DIRTY);
    world_commit(w, change);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    assert_int_equal(world_rows(w, FAM_SPACE), 1);
    object = object_unref(object);
    used = world_free_bytes(w);
    world_restart(w);
    assert_int_equal(content_stats(&w->cache).dirty_bytes, 5000);
    assert_int_equal(object_get_record(&w->cache, NULL, &body, &object), 0);
    blob = world_blob_of(w, object_ref(object));
    assert_int_equal(world_read(w, blob, 3, 1, 4999), 0);
    blob_unref(blob);
    change = change_new();
    object_unlink_record(change, object);
    world_commit(w, change);
    object = object_unref(object);
    assert_int_equal(world_rows(w, FAM_SPACE), 0);
    assert_int_equal(content_stats(&w->cache).dirty_bytes, 0);
    (void)used;
    world_free(w);
}

/* B7: evicted without its record being told; the record's location is not believed. */
static void test_object__evicted_body_is_absent_when_its_record_is_read(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_small(w, 3, 5000);
    struct name who = {.container = 7, .blob = SPAN("small")};
    struct record_body body = body_of(object, OBJECT_CLEAN);
    struct change *change = change_new();
    struct object_origin origin = {.container = 7, .blob = SPAN("small"), .etag = SPAN("\"1\"")};
    struct extent extent;

    object_link_record(change, object, &who, OBJECT_DIRTY);
    object_set_clean(change, object, 0, &origin);
    evict_extent(change, object, 0);
    world_commit(w, change);
    assert_false(object_extent(object, 0, &extent));
    object = object_unref(object);
    assert_int_equal(object_get_record(&w->cache, NULL, &body, &object), 0);
    assert_false(object_extent(object, 0, &extent));
    change = change_new();
    object_unlink_record(change, object);
    world_commit(w, change);
    object_unref(object); /* must not free a slot that is not its own: slab.c would assert */
    world_free(w);
}

/* Two changes of one object in one failed round: its link comes and goes, and neither was. */
static void test_object__changes_that_fail_together_are_undone_backwards(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t before = world_free_bytes(w);
    struct object *object = world_object(w, 1, LENGTH);
    struct change *link = change_new(), *unlink = change_new();

    object_link(link, object, 100, OBJECT_DIRTY);
    object_unlink(unlink, object, 100);
    world_hold();
    commit_submit(w->cache.committer, link);
    commit_submit(w->cache.committer, unlink);
    world_release(-EIO);
    assert_int_equal(object->link_count, 0);
    assert_false(object->rows);
    assert_int_equal(object->refs, 1);
    object_unref(object);
    assert_int_equal(world_free_bytes(w), before);
    assert_int_equal(content_stats(&w->cache).dirty_bytes, 0);
    world_free(w);
}

static void *make_and_drop(void *arg)
{
    struct world *w = arg;

    for (unsigned i = 0; i < 200000; i++)
        object_unref(object_new(&w->cache, object_id_next(&w->cache)));
    return NULL;
}

static void test_object__new_ones_come_while_others_go(void **state)
{
    struct world *w = world_new(6, 0);
    pthread_t threads[4];

    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_and_drop, w), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_object__never_linked_gives_its_slots_back),
        cmocka_unit_test(test_object__linked_comes_back_from_its_rows),
        cmocka_unit_test(test_object__one_struct_however_many_ask),
        cmocka_unit_test(test_object__slots_wait_for_the_drop_to_be_durable),
        cmocka_unit_test(test_object__slots_wait_for_the_last_reader),
        cmocka_unit_test(test_object__shared_survives_one_of_two_users),
        cmocka_unit_test(test_object__link_after_the_last_unlink_revives_it),
        cmocka_unit_test(test_object__a_change_says_which_devices_its_new_bytes_are_on),
        cmocka_unit_test(test_object__failed_changes_leave_no_trace),
        cmocka_unit_test(test_object__changes_that_fail_together_are_undone_backwards),
        cmocka_unit_test(test_object__neediest_link_decides_the_state),
        cmocka_unit_test(test_object__body_located_by_its_record),
        cmocka_unit_test(test_object__evicted_body_is_absent_when_its_record_is_read),
        cmocka_unit_test(test_object__new_ones_come_while_others_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
