/* The reaper: dropped manifests and stages go in bounded changes, shared objects survive, a restart
 * in the middle goes on, guarded manifests of a crash go; orphans too. See content_world.h. */
#include "tests/unit/content_world.h"

#define LENGTH  (100u << 10)
#define OBJECTS 40

static void reaped(struct world *w)
{
    WORLD_UNTIL(w, world_rows(w, FAM_META) == 0);
}

/* A manifest of n objects in rows of `per_row`. */
static void put_manifest(struct world *w, struct change *change, uint64_t manifest,
                         struct object *const *objects, unsigned n, unsigned per_row)
{
    for (unsigned i = 0; i < n; i += per_row) {
        _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};

        key_manifest(&key, manifest, (uint64_t)i * LENGTH);
        manifest_row_begin(&value);
        for (unsigned k = i; k < MIN(i + per_row, n); k++)
            manifest_row_add(&value,
                             &(struct manifest_piece){.object = objects[k]->id, .length = LENGTH});
        change_put(change, FAM_MANIFESTS, row_span(&key), row_span(&value));
    }
    for (unsigned i = 0; i < n; i++)
        object_link(change, objects[i], manifest, OBJECT_DIRTY);
}

static void make_objects(struct world *w, struct object **ret)
{
    for (unsigned i = 0; i < OBJECTS; i++)
        ret[i] = world_object(w, i, LENGTH);
}

static void drop_objects(struct object **objects)
{
    for (unsigned i = 0; i < OBJECTS; i++)
        objects[i] = object_unref(objects[i]);
}

static void test_reaper__dropped_manifest_gives_everything_back(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t before = world_free_bytes(w);
    struct object *objects[OBJECTS];
    struct change *change = change_new();

    world_start(w);
    make_objects(w, objects);
    put_manifest(w, change, 100, objects, OBJECTS, 7);
    world_commit(w, change);
    drop_objects(objects);
    assert_true(world_free_bytes(w) < before);
    world_drop(w, 100);
    reaped(w);
    WORLD_UNTIL(w, world_free_bytes(w) == before);
    assert_int_equal(world_rows(w, FAM_MANIFESTS), 0);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    assert_int_equal(world_rows(w, FAM_SPACE), 0);
    assert_int_equal(content_stats(&w->cache).dirty_bytes, 0);
    world_free(w);
}

static void test_reaper__shared_objects_survive(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *objects[OBJECTS];
    struct change *change = change_new();

    world_start(w);
    make_objects(w, objects);
    put_manifest(w, change, 100, objects, OBJECTS, 512);
    put_manifest(w, change, 200, objects, 10, 512);
    world_commit(w, change);
    world_drop(w, 100);
    reaped(w);
    for (unsigned i = 0; i < OBJECTS; i++)
        assert_int_equal(objects[i]->link_count, i < 10 ? 1 : 0);
    drop_objects(objects);
    WORLD_UNTIL(w, content_stats(&w->cache).dirty_bytes == 10 * LENGTH);
    world_drop(w, 200);
    reaped(w);
    WORLD_UNTIL(w, world_rows(w, FAM_OBJECTS) == 0);
    world_free(w);
}

/* The reaper's changes are held, the first is applied, then the box stops: the rest goes after a
 * start. */
static void test_reaper__goes_on_after_a_restart_in_the_middle(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *objects[OBJECTS];
    struct change *change = change_new();
    struct object *gone;
    struct object_id first;

    make_objects(w, objects);
    first = objects[0]->id;
    put_manifest(w, change, 100, objects, OBJECTS, 7);
    world_commit(w, change);
    world_drop(w, 100);
    change = change_new(); /* what a first change of the reaper may have done */
    for (unsigned i = 0; i < 5; i++)
        object_unlink(change, objects[i], 100);
    world_commit(w, change);
    drop_objects(objects);
    world_restart(w);
    assert_int_equal(object_get(&w->cache, first, &gone), -ENOENT);
    world_start(w);
    reaped(w);
    WORLD_UNTIL(w, world_rows(w, FAM_SPACE) == 0);
    assert_int_equal(world_rows(w, FAM_MANIFESTS), 0);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    world_free(w);
}

static void test_reaper__guarded_manifest_goes_only_after_a_crash(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *objects[OBJECTS];
    struct change *change = change_new();

    world_start(w);
    make_objects(w, objects);
    reaper_guard(change, &w->cache, 100);
    put_manifest(w, change, 100, objects, OBJECTS, 512);
    world_commit(w, change);
    change = change_new();
    reaper_guard(change, &w->cache, 200);
    put_manifest(w, change, 200, objects, 3, 512);
    reaper_unguard(change, &w->cache, 200);
    world_commit(w, change);
    drop_objects(objects);
    world_drop(w, 999); /* another drop makes the reaper run: it must leave the guarded alone */
    WORLD_UNTIL(w, world_rows(w, FAM_META) == 1);
    assert_int_equal(world_rows(w, FAM_MANIFESTS), 2);
    world_restart(w);
    world_start(w);
    reaped(w);
    assert_int_equal(world_rows(w, FAM_MANIFESTS), 1);
    WORLD_UNTIL(w, content_stats(&w->cache).dirty_bytes == 3 * LENGTH);
    world_free(w);
}

static void test_reaper__staged_blocks_of_a_generation(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *kept = world_object(w, 1, LENGTH), *gone = world_object(w, 2, LENGTH);
    struct change *change = change_new();
    _cleanup_(row_bytes_done) struct row_bytes prefix = {0};

    world_start(w);
    for (unsigned i = 0; i < 2; i++) {
        _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
        struct staged_row row = {
            .object = i ? kept->id : gone->id, .length = LENGTH, .user = 50 + i};

        key_staged(&key, 7, SPAN("blob"), 1 + i, 1, SPAN("id"));
        staged_row_encode(&value, &row);
        change_put(change, FAM_BLOCKS, row_span(&key), row_span(&value));
        object_link(change, i ? kept : gone, row.user, OBJECT_STAGED);
    }
    world_commit(w, change);
    kept = object_unref(kept);
    gone = object_unref(gone);
    key_stage(&prefix, 7, SPAN("blob"), 1);
    change = change_new();
    reaper_add_staged(change, &w->cache, row_span(&prefix));
    world_commit(w, change);
    reaped(w);
    assert_int_equal(world_rows(w, FAM_BLOCKS), 1);
    WORLD_UNTIL(w, content_stats(&w->cache).staged_bytes == LENGTH);
    world_free(w);
}

static void test_reaper__orphans_of_a_start_go(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct object_key key = object_key(object->id, ROW_LINK, 100);
    struct change *change = change_new();

    world_link(w, object, 100, OBJECT_DIRTY);
    object = object_unref(object);
    change_delete(change, FAM_OBJECTS, object_key_span(&key)); /* as no change of ours would */
    world_commit(w, change);
    world_restart(w);
    world_start(w);
    WORLD_UNTIL(w, world_rows(w, FAM_SPACE) == 0);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reaper__dropped_manifest_gives_everything_back),
        cmocka_unit_test(test_reaper__shared_objects_survive),
        cmocka_unit_test(test_reaper__goes_on_after_a_restart_in_the_middle),
        cmocka_unit_test(test_reaper__guarded_manifest_goes_only_after_a_crash),
        cmocka_unit_test(test_reaper__staged_blocks_of_a_generation),
        cmocka_unit_test(test_reaper__orphans_of_a_start_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
