/* Extents and small records: byte-exact round trips through reads that verify, damage and staleness
 * found, torn runs detected. Simulated devices. */
#include "tests/unit/unit.h"

#include "base/crc64.h"
#include "base/iobuf.h"
#include "base/log.h"
#include "cache/store.h"
#include "tests/support/devices.h"

struct rig {
    struct devices devices;
    struct slab_store *store;
    struct loop_poll *poll;
    struct loop *loop;
};

static const struct object_id id = {7, 1, 42};

static void log_nowhere(void *arg, const char *line)
{
}

static int group_setup(void **state)
{
    static const struct iobuf_pools_conf conf = {{16 << 12, 16 << 16, 16 << 19}};

    log_set_sink(log_nowhere, NULL);
    return iobuf_pools_open(&conf);
}

static int group_teardown(void **state)
{
    iobuf_pools_close(); /* asserts that every buffer came back */
    return 0;
}

static void rig_init(struct rig *rig)
{
    devices_init(&rig->devices, 1, 16);
    devices_serve(&rig->devices);
    rig->store = rig->devices.store;
    rig->poll = loop_poll_new();
    rig->loop = loop_poll_loop(rig->poll);
    loop_enter(rig->loop);
}

static void rig_done(struct rig *rig)
{
    devices_done(&rig->devices);
    loop_enter(NULL);
    loop_poll_free(rig->poll);
}

/* Like a start after a power cut whose index still refers to the extents. */
static void rig_cut(struct rig *rig, uint64_t seed, const struct extent *extents, unsigned n)
{
    io_sim_crash(rig->devices.sim, seed);
    devices_close(&rig->devices, false);
    assert_int_equal(devices_open(&rig->devices), 0);
    rig->store = rig->devices.store;
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(slab_mark_extent(rig->store, &extents[i].at, extents[i].length), 0);
    slab_store_serve(rig->store);
}

static char *content(uint32_t bytes)
{
    char *p = xaligned(IO_ALIGN, ALIGN_UP(bytes, IO_ALIGN));

    for (uint32_t i = 0; i < bytes; i++)
        p[i] = (char)(i * 31 + i / 4096 * 7 + bytes);
    return p;
}

static struct extent write_large(struct rig *rig, const char *bytes, uint32_t length)
{
    struct extent_write *write;
    struct extent_piece piece;
    struct awaited awaited;

    assert_int_equal(extent_write_open(rig->store, id, 3, length, &write), 0);
    for (uint32_t at = 0; at < length; at += IO_BYTES_MAX) {
        extent_write_units(write, &piece, at, span_from(bytes + at, MIN(IO_BYTES_MAX, length - at)),
                           awaited_init(&awaited, rig->loop));
        assert_int_equal(loop_await(rig->poll, &awaited), 0);
    }
    extent_write_seal(write, length, awaited_init(&awaited, rig->loop));
    assert_int_equal(loop_await(rig->poll, &awaited), 0);
    return extent_write_end(write);
}

static struct extent write_small(struct rig *rig, const char *bytes, uint32_t length)
{
    struct extent extent = {0};
    struct awaited awaited;
    struct small_write write = {.id = id,
                                .bytes = span_from(bytes, length),
                                .crc = crc64(0, bytes, length),
                                .ret = &extent};

    write.done = awaited_init(&awaited, rig->loop);
    small_write_start(rig->store, &write);
    assert_int_equal(loop_await(rig->poll, &awaited), 0);
    return extent;
}

static int read_start(struct rig *rig, const struct extent *extent, struct object_id who,
                      struct range want, struct slice *ret)
{
    struct awaited awaited;
    struct extent_read read = {
        .store = rig->store, .extent = *extent, .id = who, .want = want, .ret = ret};

    read.done = awaited_init(&awaited, rig->loop);
    extent_read_start(&read);
    assert_false(awaited.fired);
    return loop_await(rig->poll, &awaited);
}

static void assert_reads(struct rig *rig, const struct extent *extent, const char *bytes,
                         struct range want)
{
    _cleanup_(freep) char *now = xmalloc(want.len);

    memset(now, 0x55, want.len);
    assert_int_equal(extent_read_now(rig->store, extent, id, want, now), 0);
    assert_memory_equal(now, bytes + want.start, want.len);
    while (want.len > 0) {
        struct slice slice = {0};

        assert_int_equal(read_start(rig, extent, id, want, &slice), 0);
        assert_true(slice.checked && slice.bytes.len > 0 && slice.bytes.len <= want.len);
        assert_memory_equal(slice.bytes.base, bytes + want.start, slice.bytes.len);
        want.start += slice.bytes.len;
        want.len -= slice.bytes.len;
        slice_unref(slice);
    }
}

static void test_extent__round_trips_are_byte_exact(void **state)
{
    static const uint32_t sizes[] = {
        1, 4095, 4096, 65535, 65536, 65537, 524288, 524289, EXTENT_BYTES_MAX - 1, EXTENT_BYTES_MAX};
    struct rig rig;

    rig_init(&rig);
    for (unsigned i = 0; i < countof(sizes); i++) {
        _cleanup_(freep) char *bytes = content(sizes[i]);
        struct extent extent = write_large(&rig, bytes, sizes[i]);

        assert_int_equal(extent.length, sizes[i]);
        assert_int_equal(extent.index, 3);
        assert_reads(&rig, &extent, bytes, (struct range){0, sizes[i]});
        assert_reads(&rig, &extent, bytes, (struct range){sizes[i] - 1, 1});
        assert_reads(&rig, &extent, bytes, (struct range){sizes[i] / 3, sizes[i] - sizes[i] / 3});
        slab_free(rig.store, &extent.at, extent.length);
    }
    rig_done(&rig);
}

static void test_extent__small_records_round_trip(void **state)
{
    static const uint32_t sizes[] = {1, 63, 64, 65, 4031, 4032, 4033, 4096, 65535, 65536};
    struct rig rig;
    struct extent extents[countof(sizes)];

    rig_init(&rig);
    for (unsigned i = 0; i < countof(sizes); i++) {
        _cleanup_(freep) char *bytes = content(sizes[i]);

        extents[i] = write_small(&rig, bytes, sizes[i]);
    }
    for (unsigned i = 0; i < countof(sizes); i++) {
        _cleanup_(freep) char *bytes = content(sizes[i]);

        assert_reads(&rig, &extents[i], bytes, (struct range){0, sizes[i]});
        assert_reads(&rig, &extents[i], bytes,
                     (struct range){sizes[i] / 2, sizes[i] - sizes[i] / 2});
    }
    rig_done(&rig);
}

#define MANY 200

struct many {
    struct small_write write;
    struct extent extent;
    struct completion done;
    unsigned *left;
};

static void many_done(struct completion *done)
{
    struct many *many = container_of(done, struct many, done);

    assert_int_equal(done->err, 0);
    (*many->left)--;
}

static void test_extent__many_small_records_share_a_write(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(1000);
    static struct many many[MANY];
    unsigned left = MANY;
    uint64_t writes;

    rig_init(&rig);
    write_small(&rig, bytes, 1000); /* the slab is prepared now */
    writes = io_sim_count(rig.devices.sim, IO_SIM_WRITE);
    for (unsigned i = 0; i < MANY; i++) {
        many[i] = (struct many){.left = &left, .done = {.fn = many_done, .loop = rig.loop}};
        many[i].write = (struct small_write){.id = id,
                                             .bytes = span_from(bytes + i, 1000 - i),
                                             .crc = crc64(0, bytes + i, 1000 - i),
                                             .ret = &many[i].extent,
                                             .done = &many[i].done};
        small_write_start(rig.store, &many[i].write);
    }
    while (left > 0)
        loop_poll_once(rig.poll, 1000);
    assert_int_equal(io_sim_count(rig.devices.sim, IO_SIM_WRITE) - writes,
                     2); /* one, then the rest */
    for (unsigned i = 0; i < MANY; i++)
        assert_reads(&rig, &many[i].extent, bytes + i, (struct range){0, 1000 - i});
    rig_done(&rig);
}

/* More than a run holds: the rest goes in further runs, in order, nothing is lost. */
static void test_extent__runs_are_bounded(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(60000);
    static struct many many[30];
    unsigned left = countof(many);

    rig_init(&rig);
    for (unsigned i = 0; i < countof(many); i++) {
        many[i] = (struct many){.left = &left, .done = {.fn = many_done, .loop = rig.loop}};
        many[i].write = (struct small_write){.id = id,
                                             .bytes = span_from(bytes + i, 60000 - i),
                                             .crc = crc64(0, bytes + i, 60000 - i),
                                             .ret = &many[i].extent,
                                             .done = &many[i].done};
        small_write_start(rig.store, &many[i].write);
    }
    while (left > 0)
        loop_poll_once(rig.poll, 1000);
    for (unsigned i = 0; i < countof(many); i++)
        assert_reads(&rig, &many[i].extent, bytes + i, (struct range){0, 60000 - i});
    rig_done(&rig);
}

/* The page a record is read from begins before the record: the slab's end is judged by the page. */
static void test_extent__records_of_a_slabs_last_page_are_read(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(1000);
    static struct many many[3];
    unsigned left = countof(many);
    struct location at;
    struct extent wrong;
    char byte;

    rig_init(&rig);
    write_small(&rig, bytes, 1000); /* opens the slab */
    assert_int_equal(
        slab_alloc_run(rig.store, 0, slab_bytes() - SLAB_HEADER_BYTES - 3 * IO_ALIGN, 1, &at),
        0); /* two pages are left */
    for (unsigned i = 0; i < countof(many); i++) {
        many[i] = (struct many){.left = &left, .done = {.fn = many_done, .loop = rig.loop}};
        many[i].write = (struct small_write){.id = id,
                                             .bytes = span_from(bytes, 1000),
                                             .crc = crc64(0, bytes, 1000),
                                             .ret = &many[i].extent,
                                             .done = &many[i].done};
        small_write_start(rig.store, &many[i].write);
    }
    while (left > 0)
        loop_poll_once(rig.poll, 1000);
    assert_int_equal(ALIGN_UP(many[2].extent.at.offset, IO_ALIGN), slab_bytes());
    for (unsigned i = 0; i < countof(many); i++)
        assert_reads(&rig, &many[i].extent, bytes, (struct range){0, 1000});
    wrong = many[2].extent;
    wrong.length = 9000; /* a damaged row */
    assert_int_equal(extent_read_now(rig.store, &wrong, id, (struct range){0, 1}, &byte), -EUCLEAN);
    wrong.at.device = 63;
    assert_int_equal(extent_read_now(rig.store, &wrong, id, (struct range){0, 1}, &byte), -ESTALE);
    rig_done(&rig);
}

/* ---- several loops share the lanes ---- */

#define THREADS        3
#define THREAD_RECORDS 300

struct crowd {
    struct rig *rig;
    unsigned char seed;
    unsigned failures;
};

static _Atomic int crowd_running;

static void *crowd_main(void *arg)
{
    struct crowd *crowd = arg;
    struct rig mine = {.store = crowd->rig->store, .poll = loop_poll_new()};
    _cleanup_(freep) struct many *many = xcalloc(THREAD_RECORDS, sizeof(*many));
    _cleanup_(freep) char *bytes = content(4000u + crowd->seed);
    unsigned left = THREAD_RECORDS;

    mine.loop = loop_poll_loop(mine.poll);
    loop_enter(mine.loop);
    for (unsigned i = 0; i < THREAD_RECORDS; i++) {
        many[i] = (struct many){.left = &left, .done = {.fn = many_done, .loop = mine.loop}};
        many[i].write = (struct small_write){.id = id,
                                             .bytes = span_from(bytes + i, 3000),
                                             .crc = crc64(0, bytes + i, 3000),
                                             .ret = &many[i].extent,
                                             .done = &many[i].done};
        small_write_start(mine.store, &many[i].write);
        if (i % 7 == 0)
            loop_poll_once(mine.poll, 0);
    }
    while (left > 0)
        loop_poll_once(mine.poll, 1000);
    for (unsigned i = 0; i < THREAD_RECORDS; i++) {
        char now[3000];

        crowd->failures +=
            extent_read_now(mine.store, &many[i].extent, id, (struct range){0, 3000}, now) ||
            memcmp(now, bytes + i, 3000) != 0;
        slab_free(mine.store, &many[i].extent.at, 3000);
    }
    atomic_fetch_sub(&crowd_running, 1);
    while (atomic_load(&crowd_running) > 0) /* runs with others' records may end on this loop */
        loop_poll_once(mine.poll, 1);
    loop_enter(NULL);
    loop_poll_free(mine.poll);
    return NULL;
}

static void test_extent__loops_share_small_runs(void **state)
{
    struct rig rig;
    struct crowd crowd[THREADS];
    pthread_t threads[THREADS];

    rig_init(&rig);
    atomic_store(&crowd_running, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        crowd[i] = (struct crowd){&rig, (unsigned char)i, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_main, &crowd[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(crowd[i].failures, 0);
    }
    rig_done(&rig);
}

/* Any flipped bit of payload or record header is found; nothing is handed out. */
static void test_extent__damage_is_found(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(200000);
    struct extent large, small;
    struct slice slice = {0};
    char now[100];

    rig_init(&rig);
    large = write_large(&rig, bytes, 200000);
    small = write_small(&rig, bytes, 3000);
    io_sim_corrupt(rig.devices.sim, "slab0",
                   slab_device_offset(large.at.slab) + large.at.offset + 4096 + 70000, 1);
    assert_int_equal(read_start(&rig, &large, id, (struct range){65536, 10}, &slice), -EUCLEAN);
    assert_null(slice.buf);
    assert_int_equal(extent_read_now(rig.store, &large, id, (struct range){131071, 100}, now),
                     -EUCLEAN);
    assert_reads(&rig, &large, bytes, (struct range){0, 65536}); /* the units around it are good */
    assert_reads(&rig, &large, bytes, (struct range){131072, 68928});
    for (unsigned at = 0; at < 64; at += 5) {
        uint64_t offset = slab_device_offset(small.at.slab) + small.at.offset + at;

        io_sim_corrupt(rig.devices.sim, "slab0", offset, 0x80);
        assert_int_equal(read_start(&rig, &small, id, (struct range){0, 10}, &slice), -EUCLEAN);
        io_sim_corrupt(rig.devices.sim, "slab0", offset, 0x80);
    }
    assert_reads(&rig, &small, bytes, (struct range){0, 3000});
    rig_done(&rig);
}

/* A location that names another object's record is damage, not that object's bytes. */
static void test_extent__records_say_who_they_are(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(3000);
    struct extent small;
    struct slice slice = {0};

    rig_init(&rig);
    small = write_small(&rig, bytes, 3000);
    assert_int_equal(
        read_start(&rig, &small, (struct object_id){7, 1, 43}, (struct range){0, 10}, &slice),
        -EUCLEAN);
    rig_done(&rig);
}

static void test_extent__stale_locations_are_a_miss(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(70000);
    struct extent large, small;
    struct slice slice = {0};

    rig_init(&rig);
    large = write_large(&rig, bytes, 70000);
    small = write_small(&rig, bytes, 3000);
    large.at.generation--;
    assert_int_equal(read_start(&rig, &large, id, (struct range){0, 10}, &slice), -ESTALE);
    large.at.slab = 9999;
    assert_int_equal(read_start(&rig, &large, id, (struct range){0, 10}, &slice), -ESTALE);
    small.at.generation++;
    assert_int_equal(extent_read_now(rig.store, &small, id, (struct range){0, 10}, bytes), -ESTALE);
    rig_done(&rig);
}

static void test_extent__absent_units_are_told_apart(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(4 * UNIT_BYTES);
    struct extent_write *write;
    struct extent_piece piece;
    struct awaited awaited;
    struct extent extent;
    struct slice slice = {0};

    rig_init(&rig);
    assert_int_equal(extent_write_open(rig.store, id, 0, 4 * UNIT_BYTES, &write), 0);
    extent_write_units(write, &piece, 2 * UNIT_BYTES, span_from(bytes + 2 * UNIT_BYTES, UNIT_BYTES),
                       awaited_init(&awaited, rig.loop));
    assert_int_equal(loop_await(rig.poll, &awaited), 0);
    extent_write_seal(write, 4 * UNIT_BYTES, awaited_init(&awaited, rig.loop));
    assert_int_equal(loop_await(rig.poll, &awaited), 0);
    extent = extent_write_end(write);
    assert_int_equal(extent.present, 1 << 2);
    assert_int_equal(
        read_start(&rig, &extent, id, (struct range){UNIT_BYTES, UNIT_BYTES + 1}, &slice),
        -ENODATA);
    assert_reads(&rig, &extent, bytes, (struct range){2 * UNIT_BYTES, UNIT_BYTES});
    write = extent_write_reopen(rig.store, id, &extent);
    extent_write_units(write, &piece, UNIT_BYTES, span_from(bytes + UNIT_BYTES, UNIT_BYTES),
                       awaited_init(&awaited, rig.loop));
    assert_int_equal(loop_await(rig.poll, &awaited), 0);
    extent = extent_write_end(write);
    assert_int_equal(extent.present, 3 << 1);
    assert_reads(&rig, &extent, bytes, (struct range){UNIT_BYTES, 2 * UNIT_BYTES});
    rig_done(&rig);
}

/* After a cut without a flush every read gives the right bytes or says it is damaged; both happen.
 */
static void test_extent__torn_writes_are_detected(void **state)
{
    unsigned good = 0, bad = 0;
    _cleanup_(freep) char *bytes = content(20000);

    for (uint64_t seed = 0; seed < 30; seed++) {
        struct rig rig;
        struct extent extents[4];

        rig_init(&rig);
        extents[0] = write_large(&rig, bytes, 20000);
        for (unsigned i = 1; i < countof(extents); i++)
            extents[i] = write_small(&rig, bytes, 1500 * i);
        rig_cut(&rig, seed, extents, countof(extents));
        for (unsigned i = 0; i < countof(extents); i++) {
            char *now = xmalloc(extents[i].length);
            int err = extent_read_now(rig.store, &extents[i], id,
                                      (struct range){0, extents[i].length}, now);

            assert_true(err == 0 || err == -EUCLEAN);
            if (err == 0)
                assert_memory_equal(now, bytes, extents[i].length);
            good += err == 0;
            bad += err != 0;
            free(now);
        }
        rig_done(&rig);
    }
    assert_true(good > 10 && bad > 10);
}

static void test_extent__flushed_writes_survive_any_cut(void **state)
{
    _cleanup_(freep) char *bytes = content(20000);

    for (uint64_t seed = 0; seed < 20; seed++) {
        struct rig rig;
        struct extent extents[2];
        struct io *io;

        rig_init(&rig);
        extents[0] = write_large(&rig, bytes, 20000);
        extents[1] = write_small(&rig, bytes, 3000);
        io = slab_device_io(rig.store, 0);
        assert_int_equal(io->ops->flush(io), 0);
        rig_cut(&rig, seed, extents, 2);
        assert_reads(&rig, &extents[0], bytes, (struct range){0, 20000});
        assert_reads(&rig, &extents[1], bytes, (struct range){0, 3000});
        rig_done(&rig);
    }
}

static int write_large_failing(struct rig *rig, const char *bytes, uint32_t length)
{
    struct extent_write *write;
    struct extent_piece piece;
    struct awaited awaited;
    int err = extent_write_open(rig->store, id, 0, length, &write);

    if (err)
        return err;
    io_sim_fail(rig->devices.sim, IO_SIM_WRITE, 1, -EIO);
    extent_write_units(write, &piece, 0, span_from(bytes, length),
                       awaited_init(&awaited, rig->loop));
    err = loop_await(rig->poll, &awaited);
    extent_write_failed(write, err);
    extent_write_abort(write);
    return err;
}

/* The blocks of a failed write must not be what the next one gets. */
static void test_extent__a_failed_write_retires_its_slab(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(100000);
    struct extent before, after;

    rig_init(&rig);
    before = write_large(&rig, bytes, 100000);
    assert_int_equal(write_large_failing(&rig, bytes, 100000), -EIO);
    after = write_large(&rig, bytes, 100000);
    assert_int_not_equal(after.at.slab, before.at.slab);
    assert_reads(&rig, &before, bytes, (struct range){0, 100000});
    slab_free(rig.store, &before.at, before.length); /* the last of it: not used again either */
    assert_int_equal(slab_kind_at(rig.store, &before.at), SLAB_FREE);
    for (int i = 0; i < 3; i++)
        assert_int_equal(write_large_failing(&rig, bytes, 100000), -EIO);
    (void)write_large(&rig, bytes, 100000); /* one that succeeds: these were bad blocks */
    rig_done(&rig);
}

static void test_extent__a_device_that_goes_on_failing_takes_no_more(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(100000);
    struct extent before;

    rig_init(&rig);
    before = write_large(&rig, bytes, 100000);
    for (int i = 0; i < 4; i++)
        assert_int_equal(write_large_failing(&rig, bytes, 100000), -EIO);
    assert_int_equal(write_large_failing(&rig, bytes, 100000), -ENOSPC);
    assert_int_equal(slab_space(rig.store).free_bytes, 0);
    assert_reads(&rig, &before, bytes, (struct range){0, 100000});
    rig_done(&rig);
}

static void test_extent__write_errors_free_the_record(void **state)
{
    struct rig rig;
    _cleanup_(freep) char *bytes = content(3000);
    struct extent extent = {0};
    struct awaited awaited;
    struct small_write write = {.id = id, .bytes = span_from(bytes, 3000), .ret = &extent};
    uint64_t free_bytes;

    rig_init(&rig);
    write_small(&rig, bytes, 10);
    free_bytes = slab_space(rig.store).free_bytes;
    io_sim_fail(rig.devices.sim, IO_SIM_WRITE, 1, -EIO);
    write.done = awaited_init(&awaited, rig.loop);
    small_write_start(rig.store, &write);
    assert_int_equal(loop_await(rig.poll, &awaited), -EIO);
    assert_int_equal(extent.length, 0);
    assert_int_equal(slab_space(rig.store).free_bytes, free_bytes);
    extent = write_small(&rig, bytes, 3000); /* the lane goes on */
    assert_reads(&rig, &extent, bytes, (struct range){0, 3000});
    rig_done(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_extent__round_trips_are_byte_exact),
        cmocka_unit_test(test_extent__small_records_round_trip),
        cmocka_unit_test(test_extent__many_small_records_share_a_write),
        cmocka_unit_test(test_extent__runs_are_bounded),
        cmocka_unit_test(test_extent__records_of_a_slabs_last_page_are_read),
        cmocka_unit_test(test_extent__loops_share_small_runs),
        cmocka_unit_test(test_extent__damage_is_found),
        cmocka_unit_test(test_extent__records_say_who_they_are),
        cmocka_unit_test(test_extent__stale_locations_are_a_miss),
        cmocka_unit_test(test_extent__absent_units_are_told_apart),
        cmocka_unit_test(test_extent__torn_writes_are_detected),
        cmocka_unit_test(test_extent__flushed_writes_survive_any_cut),
        cmocka_unit_test(test_extent__a_failed_write_retires_its_slab),
        cmocka_unit_test(test_extent__a_device_that_goes_on_failing_takes_no_more),
        cmocka_unit_test(test_extent__write_errors_free_the_record),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
