/* Readers: every border (unit, extent, piece), read-ahead, memory hits, damage of clean and of
 * dirty content. See content_world.h. */
#include "tests/unit/content_world.h"

#define LENGTH (9u << 20)

static void test_reader__ranges_at_every_border(void **state)
{
    static const uint64_t starts[] = {
        0,       1,       4095,    65535,   65536,   65537,      524287,         524288,
        4194303, 4194304, 4194305, 8388607, 8388608, LENGTH - 1, LENGTH - 65536, LENGTH - 65537};
    static const uint64_t lengths[] = {1, 2, 4096, 65536, 65537, 524288, 600000, LENGTH};
    struct world *w = world_new(6, 0);
    struct blob *blob = world_blob_of(w, world_object(w, 1, LENGTH));

    for (unsigned i = 0; i < countof(starts); i++)
        for (unsigned k = 0; k < countof(lengths); k++)
            assert_int_equal(world_read(w, blob, 1, starts[i], MIN(lengths[k], LENGTH - starts[i])),
                             0);
    blob_unref(blob);
    world_free(w);
}

static void test_reader__crosses_pieces_of_many_objects(void **state)
{
    struct world *w = world_new(6, 0);
    struct piece pieces[40];
    struct blob *blob;
    struct reader *reader;
    struct slice slice;
    uint64_t at = 0;

    for (unsigned i = 0; i < countof(pieces); i++) { /* parts of objects, small ones among them */
        uint32_t length = i % 3 ? 70000 + i * 1000 : 3000 + i;
        uint64_t offset = i % 5 * 100;

        pieces[i] = (struct piece){i % 3 ? world_object(w, i, length) : world_small(w, i, length),
                                   offset, length - offset};
    }
    blob = world_blob(w, pieces, countof(pieces));
    reader = cache_reader_open(blob, (struct range){0, blob->record.length}, READ_CLIENT);
    for (unsigned i = 0; i < countof(pieces); i++)
        for (uint64_t done = 0; done < pieces[i].length; done += slice.bytes.len) {
            assert_int_equal(world_next(w, reader, &slice), 0);
            assert_true(slice.checked && slice.bytes.len <= pieces[i].length - done);
            assert_true(pattern_is(slice.bytes.base, i, pieces[i].offset + done, slice.bytes.len));
            at += slice.bytes.len;
            slice_unref(slice);
        }
    assert_int_equal(at, blob->record.length);
    assert_int_equal(world_next(w, reader, &slice), 0); /* the end: nothing */
    assert_int_equal(slice.bytes.len, 0);
    assert_int_equal(world_settle(w, reader), 0);
    reader_close(reader);
    blob_unref(blob);
    world_free(w);
}

static void test_reader__reads_ahead_of_the_asker(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = world_blob_of(w, world_object(w, 1, LENGTH));
    struct reader *reader = cache_reader_open(blob, (struct range){0, LENGTH}, READ_UPLOAD);
    uint64_t before = io_sim_count(w->devices.sim, IO_SIM_READ);
    struct slice slice;

    assert_int_equal(world_next(w, reader, &slice), 0);
    slice_unref(slice);
    WORLD_UNTIL(w, io_sim_count(w->devices.sim, IO_SIM_READ) >= before + 4);
    reader_close(reader); /* with reads under way */
    blob_unref(blob);
    loop_poll_once(w->poll, 1);
    world_free(w);
}

static void test_reader__small_body_is_in_memory_the_second_time(void **state)
{
    struct world *w = world_new(6, MIB(4));
    struct blob *blob = world_blob_of(w, world_small(w, 3, 4096));
    uint64_t reads;

    assert_int_equal(world_read(w, blob, 3, 0, 4096), 0);
    reads = io_sim_count(w->devices.sim, IO_SIM_READ);
    assert_int_equal(world_read(w, blob, 3, 0, 4096), 0);
    assert_int_equal(world_read(w, blob, 3, 4000, 96), 0);
    assert_int_equal(io_sim_count(w->devices.sim, IO_SIM_READ), reads);
    blob_unref(blob);
    world_free(w);
}

/* A hit is answered on the loop with nothing to wait for: one round. */
static void test_reader__memory_hit_needs_one_round(void **state)
{
    struct world *w = world_new(6, MIB(4));
    struct blob *blob = world_blob_of(w, world_small(w, 3, 4096));
    struct reader *reader;
    struct awaited awaited;
    struct slice slice = {0};

    assert_int_equal(world_read(w, blob, 3, 0, 4096), 0);
    reader = cache_reader_open(blob, (struct range){0, 4096}, READ_CLIENT);
    reader_next(reader, &slice, awaited_init(&awaited, w->loop));
    assert_false(awaited.fired); /* O2 */
    loop_run_ready(w->loop);
    assert_true(awaited.fired);
    assert_int_equal(slice.bytes.len, 4096);
    slice_unref(slice);
    reader_close(reader);
    blob_unref(blob);
    world_free(w);
}

static void test_reader__large_content_enters_memory_when_read_twice(void **state)
{
    struct world *w = world_new(6, MIB(32));
    struct blob *blob = world_blob_of(w, world_object(w, 1, 1 << 20));
    uint64_t reads;

    assert_int_equal(world_read(w, blob, 1, 0, 1 << 20), 0);
    assert_int_equal(tier_stats(w->cache.content->tier).used_bytes, 0);
    assert_int_equal(world_read(w, blob, 1, 0, 1 << 20), 0);
    assert_int_equal(tier_stats(w->cache.content->tier).used_bytes, 1 << 20);
    reads = io_sim_count(w->devices.sim, IO_SIM_READ);
    assert_int_equal(world_read(w, blob, 1, 100, (1 << 20) - 100), 0);
    assert_int_equal(io_sim_count(w->devices.sim, IO_SIM_READ), reads);
    blob_unref(blob);
    world_free(w);
}

static void test_reader__uploads_do_not_enter_memory(void **state)
{
    struct world *w = world_new(6, MIB(4));
    struct blob *blob = world_blob_of(w, world_small(w, 3, 4096));
    struct reader *reader = cache_reader_open(blob, (struct range){0, 4096}, READ_UPLOAD);
    struct slice slice;

    assert_int_equal(world_next(w, reader, &slice), 0);
    slice_unref(slice);
    reader_close(reader);
    assert_int_equal(tier_stats(w->cache.content->tier).used_bytes, 0);
    blob_unref(blob);
    world_free(w);
}

static void corrupt(struct world *w, struct object *object, uint32_t at)
{
    struct extent extent;

    assert_true(object_extent(object, 0, &extent));
    io_sim_corrupt(
        w->devices.sim, "slab0",
        slab_offset(w->cache.slabs, 0, extent.at.slab) + extent.at.offset + IO_ALIGN + at, 4);
}

static void test_reader__damaged_dirty_bytes_are_never_given(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, 1 << 20);
    struct blob *blob = world_blob_of(w, object);
    int64_t before = STAT_READ(content_quarantined);

    world_link(w, object, 100, OBJECT_DIRTY);
    corrupt(w, object, 70000);
    assert_int_equal(world_read(w, blob, 1, 0, 1 << 20), -EUCLEAN);
    assert_true(STAT_READ(content_quarantined) > before);
    assert_int_equal(world_read(w, blob, 1, 600000, 1000), 0); /* the rest stays readable */
    blob_unref(blob);
    world_free(w);
}

static void test_reader__damaged_clean_bytes_become_a_gap(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, 1 << 20);
    struct object_id id = object->id;
    struct blob *blob = world_blob_of(w, object);
    struct reader *reader;
    struct slice slice;
    struct extent extent;

    world_link(w, object, 100, OBJECT_DIRTY);
    world_clean(w, object, 100);
    corrupt(w, object, 600000);
    reader = cache_reader_open(blob, (struct range){0, 1 << 20}, READ_CLIENT);
    assert_int_equal(world_next(w, reader, &slice), 0);
    assert_int_equal(slice.bytes.len, 1 << 19);
    slice_unref(slice);
    assert_int_equal(world_next(w, reader, &slice), -ENODATA);
    assert_int_equal(reader_gap(reader).start, 1 << 19);
    assert_int_equal(reader_gap(reader).len, 1 << 19);
    reader_close(reader);
    blob_unref(blob);
    world_restart(w); /* the row says so too */
    assert_int_equal(object_get(&w->cache, id, &object), 0);
    assert_true(object_extent(object, 0, &extent));
    assert_int_equal(extent.present, 0xFF);
    object_unref(object);
    world_free(w);
}

static void test_reader__failed_device_read_of_dirty_bytes_is_an_error(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = world_blob_of(w, world_object(w, 1, 1 << 20));

    io_sim_fail(w->devices.sim, IO_SIM_READ, 1, -EIO);
    assert_int_equal(world_read(w, blob, 1, 0, 1 << 20), -EIO);
    io_sim_fail(w->devices.sim, IO_SIM_READ, 0, 0);
    assert_int_equal(world_read(w, blob, 1, 0, 1 << 20), 0);
    blob_unref(blob);
    world_free(w);
}

static void test_reader__absent_content_is_a_gap_within_the_range(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = object_new_cloud(&w->cache, LENGTH, 7, SPAN("b"), SPAN("\"e\""));
    struct blob *blob = world_blob_of(w, object);
    struct reader *reader = cache_reader_open(blob, (struct range){70000, 5000000}, READ_CLIENT);
    struct slice slice;

    assert_int_equal(world_next(w, reader, &slice), -ENODATA);
    assert_int_equal(reader_gap(reader).start, 70000);
    assert_int_equal(reader_gap(reader).len, 5000000);
    reader_close(reader);
    blob_unref(blob);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reader__ranges_at_every_border),
        cmocka_unit_test(test_reader__crosses_pieces_of_many_objects),
        cmocka_unit_test(test_reader__reads_ahead_of_the_asker),
        cmocka_unit_test(test_reader__small_body_is_in_memory_the_second_time),
        cmocka_unit_test(test_reader__memory_hit_needs_one_round),
        cmocka_unit_test(test_reader__large_content_enters_memory_when_read_twice),
        cmocka_unit_test(test_reader__uploads_do_not_enter_memory),
        cmocka_unit_test(test_reader__damaged_dirty_bytes_are_never_given),
        cmocka_unit_test(test_reader__damaged_clean_bytes_become_a_gap),
        cmocka_unit_test(test_reader__failed_device_read_of_dirty_bytes_is_an_error),
        cmocka_unit_test(test_reader__absent_content_is_a_gap_within_the_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
