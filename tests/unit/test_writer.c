/* cache_writer_*: byte-exact objects at the sizes where paths change, checksums, back-pressure,
 * errors that stick, abort at any moment. Objects and the committer are stand-ins of this file: the
 * writer needs nothing of them but what stands here. */
#include "tests/unit/unit.h"

#include "tests/support/stand_in_objects.h"

#include "base/crc64.h"
#include "base/log.h"
#include "cache/internal.h"
#include "tests/support/devices.h"

struct rig {
    struct devices devices;
    struct cache cache;
    struct loop_poll *poll;
    struct loop *loop;
    struct slab_space empty; /* space before anything was written, with slabs opened */
};

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
    iobuf_pools_close();
    return 0;
}

static void rig_init(struct rig *rig, unsigned devices)
{
    *rig = (struct rig){.poll = loop_poll_new()};
    devices_init(&rig->devices, devices, 8);
    devices_serve(&rig->devices);
    rig->cache.slabs = rig->devices.store;
    rig->loop = loop_poll_loop(rig->poll);
    loop_enter(rig->loop);
    wrote = 0;
}

static void rig_done(struct rig *rig)
{
    for (int i = 0; i < 10; i++) /* what aborted writers left under way */
        loop_poll_once(rig->poll, 0);
    assert_int_equal(objects_alive, 0);
    devices_done(&rig->devices);
    loop_enter(NULL);
    loop_poll_free(rig->poll);
}

static void fill(char *to, uint64_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (char)((at + i) * 131 + (at + i) / 4096 * 17);
}

static struct writer *start(struct rig *rig, int64_t expected)
{
    struct write_opts opts = {.bytes = expected};
    struct writer *w = NULL;

    assert_int_equal(cache_writer_open(&rig->cache, &opts, &w), 0);
    return w;
}

static int push(struct rig *rig, struct writer *w, uint64_t at, uint64_t left)
{
    struct awaited awaited;
    struct iobuf *buf = NULL;
    int err;

    writer_buffer(w, &buf, awaited_init(&awaited, rig->loop));
    err = loop_await(rig->poll, &awaited);
    if (err < 0)
        return err;
    buf->used = (uint32_t)MIN(left, buf->size);
    fill(buf->base, at, buf->used);
    err = (int)buf->used;
    writer_push(w, buf);
    return err;
}

static int finish(struct rig *rig, struct writer *w, struct object **ret)
{
    struct awaited awaited;

    writer_finish(w, ret, awaited_init(&awaited, rig->loop));
    assert_false(awaited.fired);
    return loop_await(rig->poll, &awaited);
}

static struct object *write_object(struct rig *rig, uint64_t bytes, int64_t expected)
{
    struct writer *w = start(rig, expected);
    struct object *object = NULL;

    for (uint64_t at = 0; at < bytes;) {
        int n = push(rig, w, at, bytes - at);

        assert_true(n > 0);
        at += (uint64_t)n;
    }
    assert_int_equal(finish(rig, w, &object), 0);
    return object;
}

static void assert_object(struct rig *rig, struct object *object, uint64_t bytes)
{
    struct kept *kept = container_of(object, struct kept, object);
    _cleanup_(freep) char *want = xmalloc(EXTENT_BYTES_MAX), *got = xmalloc(EXTENT_BYTES_MAX);
    uint64_t at = 0, crc = 0;

    assert_int_equal(object->length, bytes);
    assert_true(object->has_crc64);
    for (unsigned i = 0; i < kept->count; i++) {
        uint32_t n = kept->extents[i].length;

        assert_true(i + 1 == kept->count || n == EXTENT_BYTES_MAX);
        fill(want, at, n);
        assert_int_equal(extent_read_now(rig->cache.slabs, &kept->extents[i], object->id,
                                         (struct range){0, n}, got),
                         0);
        assert_memory_equal(got, want, n);
        crc = crc64(crc, want, n);
        at += n;
    }
    assert_int_equal(at, bytes);
    assert_true(object->crc64 == crc);
    assert_int_equal(object->small, bytes > 0 && bytes <= SMALL_BYTES_MAX);
}

static const uint64_t sizes[] = {0,
                                 1,
                                 4095,
                                 4096,
                                 4097,
                                 65535,
                                 65536,
                                 65537,
                                 524288,
                                 524289,
                                 EXTENT_BYTES_MAX - 1,
                                 EXTENT_BYTES_MAX,
                                 EXTENT_BYTES_MAX + 1,
                                 9 << 20};

static void test_writer__objects_are_byte_exact(void **state)
{
    for (unsigned known = 0; known < 2; known++) {
        struct rig rig;
        struct object *objects[countof(sizes)];

        rig_init(&rig, 1);
        for (unsigned i = 0; i < countof(sizes); i++)
            objects[i] = write_object(&rig, sizes[i], known ? (int64_t)sizes[i] : -1);
        for (unsigned i = 0; i < countof(sizes); i++) {
            assert_object(&rig, objects[i], sizes[i]);
            object_unref(objects[i]);
        }
        rig_done(&rig);
    }
}

static void test_writer__extents_take_turns_over_devices(void **state)
{
    struct rig rig;
    struct object *object;
    struct kept *kept;

    rig_init(&rig, 2);
    object = write_object(&rig, 9 << 20, 9 << 20);
    kept = container_of(object, struct kept, object);
    assert_int_not_equal(kept->extents[0].at.device, kept->extents[1].at.device);
    assert_int_equal(wrote, 3);
    object_unref(object);
    rig_done(&rig);
}

/* The announced length is a promise: less is fine, the tail goes back; more is refused. */
static void test_writer__length_is_judged(void **state)
{
    struct rig rig;
    struct object *object = NULL;
    struct writer *w;
    uint64_t before;

    rig_init(&rig, 1);
    object_unref(write_object(&rig, 100000, 100000)); /* opens the slab */
    before = slab_space(rig.cache.slabs).free_bytes;
    object = write_object(&rig, 100000, 3 << 20);
    assert_object(&rig, object, 100000);
    assert_int_equal(before - slab_space(rig.cache.slabs).free_bytes, 26 * 4096);
    object = object_unref(object);
    w = start(&rig, 600000);
    assert_true(push(&rig, w, 0, 1 << 20) > 0);
    assert_true(push(&rig, w, 524288, 1 << 20) > 0);
    assert_int_equal(finish(&rig, w, &object), -EFBIG);
    assert_null(object);
    assert_int_equal(slab_space(rig.cache.slabs).free_bytes, before);
    rig_done(&rig);
}

/* No more than a writer's share is under way: the fifth buffer waits until a write has ended. */
static void test_writer__buffers_are_back_pressure(void **state)
{
    struct rig rig;
    struct writer *w;
    struct awaited awaited;
    struct iobuf *buf = NULL, *bufs[4];
    struct object *object = NULL;

    rig_init(&rig, 1);
    w = start(&rig, -1);
    for (unsigned i = 0; i < 4; i++)
        bufs[i] = iobuf_try(IOBUF_512K);
    for (unsigned i = 0; i < 4; i++) {
        bufs[i]->used = bufs[i]->size;
        fill(bufs[i]->base, i * 524288, bufs[i]->used);
        writer_push(w, bufs[i]);
    }
    writer_buffer(w, &buf, awaited_init(&awaited, rig.loop));
    assert_null(buf);
    assert_non_null(awaited.done.cancel);
    assert_int_equal(loop_await(rig.poll, &awaited), 0);
    assert_non_null(buf);
    buf->used = 0;
    writer_push(w, buf);
    assert_int_equal(finish(&rig, w, &object), 0);
    assert_object(&rig, object, 2 << 20);
    object_unref(object);
    rig_done(&rig);
}

static void test_writer__a_waiting_buffer_can_be_cancelled(void **state)
{
    struct rig rig;
    struct writer *w;
    struct awaited awaited;
    struct iobuf *buf = NULL;

    rig_init(&rig, 1);
    w = start(&rig, -1);
    for (unsigned i = 0; i < 4; i++) {
        struct iobuf *full = iobuf_try(IOBUF_512K);

        full->used = full->size;
        memset(full->base, 0, full->size);
        writer_push(w, full);
    }
    writer_buffer(w, &buf, awaited_init(&awaited, rig.loop));
    awaited.done.cancel(&awaited.done);
    assert_int_equal(loop_await(rig.poll, &awaited), -ECANCELED);
    assert_null(writer_abort(w));
    rig_done(&rig);
}

/* The nth write fails, for every n until none does: finish says so, and all space is free again. */
static void test_writer__any_failed_write_fails_the_object(void **state)
{
    static const uint64_t lengths[] = {1000, 100000, 5 << 20};

    for (unsigned i = 0; i < countof(lengths); i++) {
        int err = -EIO;

        for (uint64_t nth = 1; err < 0; nth++) {
            struct rig rig;
            struct writer *w;
            struct object *object = NULL;
            uint64_t before;

            rig_init(&rig, 1);
            object_unref(write_object(&rig, lengths[i], -1)); /* prepares slabs */
            before = slab_space(rig.cache.slabs).free_bytes;
            io_sim_fail(rig.devices.sim, IO_SIM_WRITE, nth, -EIO);
            w = start(&rig, (int64_t)lengths[i]);
            for (uint64_t at = 0; at < lengths[i];) {
                int n = push(&rig, w, at, lengths[i] - at);

                assert_true(n > 0 || n == -EIO);
                if (n < 0)
                    break;
                at += (uint64_t)n;
            }
            err = finish(&rig, w, &object);
            assert_true(err == 0 || err == -EIO);
            assert_true((err == 0) == (object != NULL));
            object_unref(object);
            /* at most the slab that the write failed in is lost */
            assert_true(slab_space(rig.cache.slabs).free_bytes <= before);
            assert_true(before - slab_space(rig.cache.slabs).free_bytes <= DEVICES_SLAB_BYTES);
            rig_done(&rig);
        }
    }
}

static void test_writer__abort_at_any_moment_gives_all_back(void **state)
{
    for (unsigned pushes = 0; pushes < 11; pushes += 2)
        for (unsigned rounds = 0; rounds < 3; rounds++) {
            struct rig rig;
            struct writer *w;
            uint64_t before;

            rig_init(&rig, 1);
            object_unref(write_object(&rig, 5 << 20, -1));
            before = slab_space(rig.cache.slabs).free_bytes;
            w = start(&rig, -1);
            for (unsigned i = 0; i < pushes; i++)
                assert_true(push(&rig, w, i * 524288ull, 1 << 20) > 0);
            for (unsigned i = 0; i < rounds; i++)
                loop_poll_once(rig.poll, 0);
            assert_null(writer_abort(w));
            while (rig.loop->held) /* a loop may end when it is not held */
                loop_poll_once(rig.poll, 0);
            assert_int_equal(slab_space(rig.cache.slabs).free_bytes, before);
            rig_done(&rig);
        }
    assert_null(writer_abort(NULL));
}

static void test_writer__full_devices_refuse(void **state)
{
    struct rig rig;
    struct writer *w = NULL;
    struct object *objects[64] = {0}, *none = NULL;
    struct write_opts client = {.bytes = EXTENT_BYTES_MAX}, block = {.bytes = 4096, .staged = true};
    unsigned n = 0;

    rig_init(&rig, 1);
    while (cache_writer_open(&rig.cache, &client, &w) == 0) {
        writer_abort(w);
        assert_true(n < countof(objects));
        objects[n++] = write_object(&rig, EXTENT_BYTES_MAX, EXTENT_BYTES_MAX);
    }
    assert_int_equal(n, 46); /* three slabs but the headroom */
    assert_int_equal(cache_writer_open(&rig.cache, &client, &w), -ENOSPC);
    assert_int_equal(cache_writer_open(&rig.cache, &block, &w), 0); /* the headroom */
    writer_abort(w);
    block.bytes = -1; /* what does not fit after all fails when it is written */
    assert_int_equal(cache_writer_open(&rig.cache, &block, &w), 0);
    for (uint64_t at = 0, m; at < (64 << 20); at += m) {
        int got = push(&rig, w, at, 64 << 20);

        if (got < 0)
            break;
        m = (uint64_t)got;
    }
    assert_int_equal(finish(&rig, w, &none), -ENOSPC);
    for (unsigned i = 0; i < n; i++)
        object_unref(objects[i]);
    rig_done(&rig);
}

/* What the cloud lacks has a mark; blocks may go above it, a little. */
static void test_writer__dirty_bytes_have_a_mark(void **state)
{
    struct rig rig;
    struct writer *w = NULL;
    struct write_opts body = {.bytes = 1 << 20}, block = {.bytes = 1 << 20, .staged = true};
    struct write_opts empty = {.bytes = 0};

    rig_init(&rig, 1);
    rig.cache.conf.dirty_high_bytes = 100 << 20;
    content_is.dirty_bytes = 60 << 20;
    content_is.staged_bytes = 39 << 20;
    content_is.sole_bytes = 1ull << 40; /* not limited by it */
    assert_int_equal(cache_writer_open(&rig.cache, &body, &w), 0);
    writer_abort(w);
    content_is.dirty_bytes++;
    assert_int_equal(cache_writer_open(&rig.cache, &body, &w), -ENOSPC);
    assert_int_equal(cache_writer_open(&rig.cache, &empty, &w), 0);
    writer_abort(w);
    assert_int_equal(cache_writer_open(&rig.cache, &block, &w), 0);
    writer_abort(w);
    content_is.dirty_bytes = 200 << 20;
    assert_int_equal(cache_writer_open(&rig.cache, &block, &w), -ENOSPC);
    content_is = (struct content_stats){0};
    rig_done(&rig);
}

static uint64_t fake_now;

static uint64_t fake_mono(void *arg)
{
    return fake_now;
}

static int64_t fake_wall(void *arg)
{
    return (int64_t)fake_now;
}

/* A full device with clean bytes: the write waits until eviction gives room, but not for ever. */
static void test_writer__waits_for_eviction(void **state)
{
    struct clock_source source = {fake_mono, fake_wall, NULL};

    fake_now = NS_PER_SEC;
    clock_set_source(&source);
    for (unsigned evicts = 0; evicts < 2; evicts++) {
        struct rig rig;
        struct object *objects[64], *object = NULL;
        unsigned n = 0;
        struct location at;
        struct writer *w;
        struct awaited awaited;
        struct iobuf *buf = iobuf_try(IOBUF_512K);

        rig_init(&rig, 1);
        content_is.clean_bytes = 1 << 30;
        while (slab_space(rig.cache.slabs).free_bytes > EXTENT_BYTES_MAX)
            objects[n++] = write_object(&rig, EXTENT_BYTES_MAX, EXTENT_BYTES_MAX);
        while (slab_alloc_large(rig.cache.slabs, 4096, &at) == 0)
            ; /* what the extents left over */
        w = start(&rig, EXTENT_BYTES_MAX);
        buf->used = buf->size;
        fill(buf->base, 0, buf->used);
        writer_push(w, buf);
        writer_finish(w, &object, awaited_init(&awaited, rig.loop));
        for (unsigned i = 0; i < 10; i++)
            loop_poll_once(rig.poll, 0);
        assert_false(awaited.fired);
        if (evicts)
            objects[0] = object_unref(objects[0]);
        else
            fake_now += 6 * NS_PER_SEC;
        assert_int_equal(loop_await(rig.poll, &awaited), evicts ? 0 : -ENOSPC);
        if (evicts)
            assert_object(&rig, object, 524288);
        object_unref(object);
        for (unsigned i = 0; i < n; i++)
            object_unref(objects[i]);
        content_is = (struct content_stats){0};
        rig_done(&rig);
    }
    clock_set_source(NULL);
}

/* So does a short body when small slabs are full. */
static void test_writer__short_body_waits_for_eviction(void **state)
{
    enum { TIME_OUT, EVICTS, ABORTS };
    struct clock_source source = {fake_mono, fake_wall, NULL};

    fake_now = NS_PER_SEC;
    clock_set_source(&source);
    for (unsigned what = TIME_OUT; what <= ABORTS; what++) {
        struct rig rig;
        struct location runs[1000] = {0};
        struct object *object = NULL;
        struct awaited awaited;
        struct writer *w;
        struct iobuf *buf = iobuf_try(IOBUF_64K);
        unsigned n = 0, freed = 0;

        rig_init(&rig, 1);
        content_is.clean_bytes = 1 << 30;
        while (slab_alloc_run(rig.cache.slabs, 0, 512 << 10, 65536 + 64, &runs[n]) == 0)
            assert_true(++n < countof(runs));
        w = start(&rig, 60000);
        buf->used = 60000;
        fill(buf->base, 0, buf->used);
        writer_push(w, buf);
        if (what != ABORTS)
            writer_finish(w, &object, awaited_init(&awaited, rig.loop));
        for (unsigned i = 0; i < 10; i++)
            loop_poll_once(rig.poll, 0);
        if (what == ABORTS) {
            writer_abort(w);
            loop_poll_once(rig.poll, 0);
        } else {
            assert_false(awaited.fired);
            for (; what == EVICTS && freed < n && runs[freed].slab == runs[0].slab; freed++)
                slab_free(rig.cache.slabs, &runs[freed], 65536);
            fake_now += what == TIME_OUT ? 6 * NS_PER_SEC : 0;
            assert_int_equal(loop_await(rig.poll, &awaited), what == EVICTS ? 0 : -ENOSPC);
        }
        if (what == EVICTS)
            assert_object(&rig, object, 60000);
        object_unref(object);
        for (; freed < n; freed++)
            slab_free(rig.cache.slabs, &runs[freed], 65536);
        content_is = (struct content_stats){0};
        rig_done(&rig);
    }
    clock_set_source(NULL);
}

/* A slab that is being prepared by a worker delays the write, it does not fail or block it. */
static void test_writer__waits_for_slabs_being_prepared(void **state)
{
    struct rig rig = {.poll = loop_poll_new()};
    struct object *objects[12];

    devices_init(&rig.devices, 1, 8);
    rig.devices.slab_conf.workers = workers_new(1, "prepare");
    devices_serve(&rig.devices);
    rig.cache.slabs = rig.devices.store;
    rig.loop = loop_poll_loop(rig.poll);
    loop_enter(rig.loop);
    for (unsigned i = 0; i < countof(objects); i++) {
        struct writer *w = start(&rig, -1);

        writer_abort(w);
        objects[i] = write_object(&rig, i % 2 ? 9 << 20 : 5000, -1);
    }
    for (unsigned i = 0; i < countof(objects); i++) {
        assert_object(&rig, objects[i], i % 2 ? 9 << 20 : 5000);
        object_unref(objects[i]);
    }
    rig_done(&rig);
    workers_free(rig.devices.slab_conf.workers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer__objects_are_byte_exact),
        cmocka_unit_test(test_writer__extents_take_turns_over_devices),
        cmocka_unit_test(test_writer__length_is_judged),
        cmocka_unit_test(test_writer__buffers_are_back_pressure),
        cmocka_unit_test(test_writer__a_waiting_buffer_can_be_cancelled),
        cmocka_unit_test(test_writer__any_failed_write_fails_the_object),
        cmocka_unit_test(test_writer__abort_at_any_moment_gives_all_back),
        cmocka_unit_test(test_writer__full_devices_refuse),
        cmocka_unit_test(test_writer__dirty_bytes_have_a_mark),
        cmocka_unit_test(test_writer__waits_for_eviction),
        cmocka_unit_test(test_writer__short_body_waits_for_eviction),
        cmocka_unit_test(test_writer__waits_for_slabs_being_prepared),
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
