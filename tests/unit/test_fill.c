/* Fills: one per unit however many readers wait, unchecked bytes flow but their end is withheld,
 * failures and mismatches never complete an answer, back-pressure, what is kept. A cloud played by
 * the test feeds running fills piece by piece. See content_world.h. */
#include "tests/unit/content_world.h"

#define LENGTH  (9u << 20)
#define SEED    5
#define READERS 64
#define FEED    40000 /* bytes per append: never a unit's end by accident */

/* ---- the cloud ---- */

struct cloud {
    struct fill *fill[64];
    uint64_t fed[64];
    unsigned count;
    uint64_t bytes; /* fed in all */
    bool wrong_crc;
    uint64_t fail_after; /* bytes of a fill, then -EHOSTUNREACH; 0: never */
    _Atomic bool resumed;
};

static void cloud_begin(struct cloud *cloud, struct fill *fill)
{
    assert_true(cloud->count < countof(cloud->fill));
    cloud->fill[cloud->count] = fill;
    cloud->fed[cloud->count++] = 0;
}

static void cloud_end(struct cloud *cloud, unsigned i, int err)
{
    struct range range = fill_range(cloud->fill[i]);
    char *bytes = xmalloc(range.len);
    uint64_t crc;

    pattern_fill(bytes, SEED, range.start, range.len);
    crc = crc64(0, bytes, range.len) ^ (cloud->wrong_crc ? 1 : 0);
    free(bytes);
    fill_end(cloud->fill[i], err, err ? NULL : &crc);
    cloud->count--;
    cloud->fill[i] = cloud->fill[cloud->count];
    cloud->fed[i] = cloud->fed[cloud->count];
}

/* One append to each running fill. */
static void cloud_feed(struct cloud *cloud)
{
    char bytes[FEED];

    for (unsigned i = 0; i < cloud->count; i++) {
        struct range range = fill_range(cloud->fill[i]);
        size_t n = MIN(sizeof(bytes), range.len - cloud->fed[i]);
        int err;

        if (cloud->fail_after && cloud->fed[i] >= cloud->fail_after) {
            cloud_end(cloud, i--, -EHOSTUNREACH);
            continue;
        }
        pattern_fill(bytes, SEED, range.start + cloud->fed[i], n);
        err = fill_append(cloud->fill[i], (struct span){bytes, n});
        if (err == -EAGAIN)
            continue;
        assert_int_equal(err, 0);
        cloud->fed[i] += n;
        cloud->bytes += n;
        if (cloud->fed[i] == range.len)
            cloud_end(cloud, i--, 0);
    }
}

/* ---- readers as clients: they withhold the end until all is checked ---- */

struct client {
    struct completion done;
    struct blob *blob;
    struct reader *reader;
    struct cloud *cloud;
    struct slice slice;
    uint64_t start, at, end;
    bool settling, finished, unchecked_seen;
    int err;
};

static void client_next(struct client *client)
{
    client->slice = (struct slice){0};
    if (client->at == client->end) {
        client->settling = true;
        reader_settle(client->reader, &client->done);
    } else {
        reader_next(client->reader, &client->slice, &client->done);
    }
}

static void client_end(struct client *client, int err)
{
    client->err = err;
    client->finished = true;
    client->reader = reader_close(client->reader);
}

static void client_gap(struct client *client)
{
    struct fill *fill;
    int err = cache_fill_begin(client->blob, reader_gap(client->reader), &fill);

    assert_true(!err || err == -EALREADY || err == -EEXIST);
    if (!err)
        cloud_begin(client->cloud, fill);
    client_next(client);
}

static void client_on(struct completion *done)
{
    struct client *client = container_of(done, struct client, done);
    struct slice slice = client->slice;

    if (client->settling || (done->err && done->err != -ENODATA)) {
        client_end(client, done->err);
    } else if (done->err) {
        client_gap(client);
    } else {
        assert_true(slice.bytes.len > 0 && slice.bytes.len <= client->end - client->at);
        assert_true(pattern_is(slice.bytes.base, SEED, client->at, slice.bytes.len));
        client->unchecked_seen |= !slice.checked;
        client->at += slice.bytes.len;
        slice_unref(slice);
        client_next(client);
    }
}

static void client_start(struct world *w, struct client *client, struct blob *blob,
                         struct cloud *cloud, uint64_t start, uint64_t length)
{
    *client = (struct client){.done = {.fn = client_on, .loop = w->loop},
                              .blob = blob,
                              .cloud = cloud,
                              .start = start,
                              .at = start,
                              .end = start + length};
    client->reader = cache_reader_open(blob, (struct range){start, length}, READ_CLIENT);
    client_next(client);
}

static bool clients_finished(const struct client *clients, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!clients[i].finished)
            return false;
    return true;
}

static void run(struct world *w, struct cloud *cloud, const struct client *clients, unsigned n)
{
    while (!clients_finished(clients, n)) {
        cloud_feed(cloud);
        loop_poll_once(w->poll, 1);
    }
}

static struct blob *cold_blob(struct world *w)
{
    return world_blob_of(w, object_new_cloud(&w->cache, LENGTH, 7, SPAN("b"), SPAN("\"e\"")));
}

static void fills_settled(struct world *w, struct object *object)
{
    bool running = true;

    while (running) {
        pthread_mutex_lock(&object->lock);
        running = object->fills != NULL;
        pthread_mutex_unlock(&object->lock);
        loop_poll_once(w->poll, 1);
    }
}

/* ---- tests ---- */

static void test_fill__64_readers_cost_the_cloud_the_blob_once(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {0};
    struct client *clients = xcalloc(READERS, sizeof(*clients));
    struct object_id id = blob->pieces[0].object->id;
    bool unchecked = false;

    world_start(w);
    world_link(w, blob->pieces[0].object, 100, OBJECT_CLEAN);
    for (unsigned i = 0; i < READERS; i++)
        client_start(w, &clients[i], blob, &cloud, 0, LENGTH);
    run(w, &cloud, clients, READERS);
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(clients[i].err, 0);
        assert_int_equal(clients[i].at, LENGTH);
        unchecked |= clients[i].unchecked_seen;
    }
    assert_true(unchecked); /* bytes flowed before the fill was checked */
    assert_int_equal(cloud.bytes, LENGTH);
    fills_settled(w, blob->pieces[0].object);
    blob_unref(blob);
    world_restart(w); /* and it is on the device, by its rows */
    assert_int_equal(object_get(&w->cache, id, &(struct object *){NULL}), 0);
    blob = world_blob_of(w, object_find(&w->cache, id));
    assert_int_equal(world_read(w, blob, SEED, 0, LENGTH), 0);
    object_unref(blob->pieces[0].object); /* object_get's */
    blob_unref(blob);
    free(clients);
    world_free(w);
}

static void test_fill__scattered_ranges_fetch_each_unit_once(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {0};
    struct client *clients = xcalloc(READERS, sizeof(*clients));
    bool touched[LENGTH / UNIT_BYTES] = {0};
    uint64_t want = 0, draw = 12345;

    world_start(w);
    for (unsigned i = 0; i < READERS; i++) {
        uint64_t start, length;

        draw = draw * 6364136223846793005ULL + 1442695040888963407ULL;
        start = draw / 4096 % (LENGTH - 1);
        length = MIN(1 + (draw >> 40) % 300000, LENGTH - start);
        for (uint64_t unit = start / UNIT_BYTES; unit <= (start + length - 1) / UNIT_BYTES; unit++)
            touched[unit] = true;
        client_start(w, &clients[i], blob, &cloud, start, length);
        if (i % 3 == 0)
            cloud_feed(&cloud);
    }
    run(w, &cloud, clients, READERS);
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(clients[i].err, 0);
    for (unsigned i = 0; i < countof(touched); i++)
        want += touched[i] ? UNIT_BYTES : 0;
    assert_int_equal(cloud.bytes, want);
    fills_settled(w, blob->pieces[0].object);
    for (unsigned i = 0; i < READERS; i++) /* all there now: from the device */
        assert_int_equal(
            world_read(w, blob, SEED, clients[i].start, clients[i].end - clients[i].start), 0);
    blob_unref(blob);
    free(clients);
    world_free(w);
}

static void test_fill__failure_in_the_middle_reaches_every_reader(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {.fail_after = 100000};
    struct client clients[8];

    world_start(w);
    for (unsigned i = 0; i < countof(clients); i++)
        client_start(w, &clients[i], blob, &cloud, 0, 1 << 20);
    run(w, &cloud, clients, countof(clients));
    for (unsigned i = 0; i < countof(clients); i++)
        assert_int_equal(clients[i].err, -EHOSTUNREACH);
    cloud.fail_after = 0; /* nothing was kept; the next try works */
    cloud.bytes = 0;
    client_start(w, &clients[0], blob, &cloud, 0, 1 << 20);
    run(w, &cloud, clients, 1);
    assert_int_equal(clients[0].err, 0);
    assert_int_equal(cloud.bytes, 1 << 20);
    fills_settled(w, blob->pieces[0].object);
    blob_unref(blob);
    world_free(w);
}

/* The cloud has another version (412), or refuses: who waits is told so, and not that there is a
 * gap. */
static void test_fill__failure_before_the_first_byte_reaches_every_reader(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {0};
    struct client clients[8];
    struct reader *reader;
    struct slice slice;

    world_start(w);
    for (unsigned i = 0; i < countof(clients); i++)
        client_start(w, &clients[i], blob, &cloud, i * 1000, 1 << 20);
    for (unsigned i = 0; i < 10; i++)
        loop_poll_once(w->poll, 0); /* all sleep */
    while (cloud.count)
        cloud_end(&cloud, 0, -ESTALE);
    run(w, &cloud, clients, countof(clients));
    for (unsigned i = 0; i < countof(clients); i++) {
        assert_int_equal(clients[i].err, -ESTALE);
        assert_int_equal(clients[i].at, clients[i].start);
    }
    reader = cache_reader_open(blob, (struct range){0, 1000}, READ_CLIENT);
    assert_int_equal(world_next(w, reader, &slice), -ENODATA); /* who comes later may try */
    reader_close(reader);
    blob_unref(blob);
    world_free(w);
}

static void test_fill__mismatch_never_settles(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {.wrong_crc = true};
    struct client clients[4];
    struct extent extent;

    world_start(w);
    for (unsigned i = 0; i < countof(clients); i++)
        client_start(w, &clients[i], blob, &cloud, 0, 200000);
    run(w, &cloud, clients, countof(clients));
    for (unsigned i = 0; i < countof(clients); i++)
        assert_int_equal(clients[i].err, -EIO);
    assert_false(object_extent(blob->pieces[0].object, 0, &extent));
    blob_unref(blob);
    world_free(w);
}

/* A client that does not take its bytes holds the one slice it was given, not the fill's buffers.
 */
static void test_fill__stalled_readers_hold_no_buffers_of_fills(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blobs[16];
    struct reader *readers[countof(blobs)];
    struct slice slices[countof(blobs)];

    world_start(w);
    for (unsigned i = 0; i < countof(blobs); i++) {
        char bytes[FEED];
        struct fill *fill;
        struct awaited awaited;

        blobs[i] = cold_blob(w);
        readers[i] = cache_reader_open(blobs[i], (struct range){0, LENGTH}, READ_CLIENT);
        assert_int_equal(world_next(w, readers[i], &slices[i]), -ENODATA);
        assert_int_equal(cache_fill_begin(blobs[i], reader_gap(readers[i]), &fill), 0);
        reader_next(readers[i], &slices[i], awaited_init(&awaited, w->loop));
        for (uint64_t at = 0; at < fill_range(fill).len;) {
            size_t n = MIN(sizeof(bytes), fill_range(fill).len - at);

            pattern_fill(bytes, SEED, at, n);
            assert_int_equal(fill_append(fill, (struct span){bytes, n}), 0);
            at += n;
        }
        assert_int_equal(loop_await(w->poll, &awaited), 0);
        assert_false(slices[i].checked); /* it has joined */
        fill_end(fill, i % 2 ? -EIO : 0, NULL);
        fills_settled(w, blobs[i]->pieces[0].object);
    }
    for (unsigned i = 0; i < countof(blobs); i++) {
        assert_int_equal(world_settle(w, readers[i]), i % 2 ? -EIO : 0);
        slice_unref(slices[i]);
        reader_close(readers[i]);
        blob_unref(blobs[i]);
    }
    world_free(w);
}

static void test_fill__too_short_and_too_long_are_refused(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct fill *fill, *second;
    struct extent extent;
    char bytes[UNIT_BYTES + 1] = {0};

    world_start(w);
    assert_int_equal(cache_fill_begin(blob, (struct range){70000, 10}, &fill), 0);
    assert_int_equal(fill_range(fill).start, UNIT_BYTES);
    assert_int_equal(fill_range(fill).len, UNIT_BYTES);
    assert_int_equal(cache_fill_begin(blob, (struct range){UNIT_BYTES, 1}, &second), -EALREADY);
    assert_int_equal(cache_fill_begin(blob, (struct range){0, LENGTH}, &second), 0); /* up to it */
    assert_int_equal(fill_range(second).len, UNIT_BYTES);
    assert_span_equal(fill_source(fill).blob, "b");
    assert_int_equal(fill_append(fill, (struct span){bytes, sizeof(bytes)}), -EFBIG);
    assert_int_equal(fill_append(fill, (struct span){bytes, 100}), 0);
    fill_end(fill, 0, NULL); /* short */
    fill_end(second, -ECANCELED, NULL);
    assert_false(object_extent(blob->pieces[0].object, 0, &extent));
    blob_unref(blob);
    world_free(w);
}

static void on_resume(void *arg)
{
    ((struct cloud *)arg)->resumed = true;
}

/* More fills than buffers: the later ones pause at once and go on, in order, as the earlier end. */
static void test_fill__back_pressure_pauses_and_resumes(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct fill *fill[9];
    struct cloud waiting = {0};
    char *bytes = xcalloc(1, EXTENT_BYTES_MAX);
    unsigned extents =
        filler_buffers_max(w->cache.content->filler) * IOBUF_BYTES(IOBUF_512K) / EXTENT_BYTES_MAX;
    struct object *object = object_new_cloud(&w->cache, (uint64_t)(extents + 1) * EXTENT_BYTES_MAX,
                                             7, SPAN("c"), SPAN("\"e\""));
    struct blob *big = world_blob_of(w, object);

    world_start(w);
    assert_true(extents >= 1 && extents <= countof(fill) - 1);
    for (unsigned i = 0; i <= extents; i++)
        assert_int_equal(
            cache_fill_begin(big, (struct range){(uint64_t)i * EXTENT_BYTES_MAX, EXTENT_BYTES_MAX},
                             &fill[i]),
            0);
    fill_on_resume(fill[extents], on_resume, &waiting);
    assert_int_equal(fill_append(fill[extents], (struct span){bytes, 1000}), -EAGAIN);
    for (unsigned i = 0; i < extents; i++) {
        assert_int_equal(fill_append(fill[i], (struct span){bytes, EXTENT_BYTES_MAX}), 0);
        fill_end(fill[i], 0, NULL);
    }
    WORLD_UNTIL(w, waiting.resumed);
    assert_int_equal(fill_append(fill[extents], (struct span){bytes, 1000}), 0);
    fill_end(fill[extents], -ECANCELED, NULL);
    fills_settled(w, object);
    blob_unref(big);
    blob_unref(blob);
    free(bytes);
    world_free(w);
}

/* A block that was uploaded is refilled from its place in the cloud blob, by the ETag of when it
 * began. */
static void test_fill__of_a_block_asks_for_its_place_in_the_cloud_blob(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, 1 << 20);
    struct blob *blob = world_blob_of(w, object_ref(object));
    struct object_origin later = {.container = 7, .blob = SPAN("origin"), .etag = SPAN("\"2\"")};
    struct change *change = change_new();
    struct fill *fill;

    world_link(w, object, 100, OBJECT_DIRTY);
    world_clean(w, object, 100); /* at 4096 of "origin" */
    evict_extent(change, object, 0);
    world_commit(w, change);
    assert_int_equal(cache_fill_begin(blob, (struct range){UNIT_BYTES, 1 << 20}, &fill), 0);
    change = change_new();
    object_set_clean(change, object, 100, &later);
    world_commit(w, change);
    assert_span_equal(fill_source(fill).blob, "origin");
    assert_span_equal(fill_source(fill).etag, "\"0x8D1\"");
    assert_int_equal(fill_source(fill).bytes.start, 4096 + UNIT_BYTES);
    assert_int_equal(fill_range(fill).start, UNIT_BYTES);
    fill_end(fill, -ECANCELED, NULL);
    object_unref(object);
    blob_unref(blob);
    world_free(w);
}

/* Not linked: what was fetched lives as long as the object, and its slots are free space
 * afterwards. */
static void test_fill__of_an_unlinked_object_leaves_nothing(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t before = world_free_bytes(w);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {0};
    struct client client;

    world_start(w);
    client_start(w, &client, blob, &cloud, 0, LENGTH);
    run(w, &cloud, &client, 1);
    assert_int_equal(client.err, 0);
    fills_settled(w, blob->pieces[0].object);
    assert_int_equal(world_read(w, blob, SEED, 0, LENGTH), 0);
    assert_true(world_free_bytes(w) < before);
    blob_unref(blob);
    WORLD_UNTIL(w, world_free_bytes(w) == before);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    world_free(w);
}

/* What a READ_KEEP reader of the whole is told of a fill of its first MiB. */
static int keep(struct world *w, struct blob *blob, struct cloud *cloud, struct reader **ret)
{
    struct awaited awaited;
    struct slice slice = {0};
    struct fill *fill;
    int err;

    *ret = cache_reader_open(blob, (struct range){100, LENGTH - 100}, READ_KEEP);
    assert_int_equal(world_next(w, *ret, &slice), -ENODATA);
    assert_int_equal(reader_gap(*ret).start, 100);
    assert_int_equal(cache_fill_begin(blob, (struct range){100, 1 << 20}, &fill), 0);
    cloud_begin(cloud, fill);
    reader_next(*ret, &slice, awaited_init(&awaited, w->loop));
    while (cloud->count) {
        cloud_feed(cloud);
        loop_run_ready(w->loop);
        assert_true(!awaited.fired || !cloud->count); /* bytes that flow are not what it wants */
    }
    err = loop_await(w->poll, &awaited);
    assert_null(slice.buf);
    return err;
}

static void test_fill__keeping_waits_for_the_devices(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {.fail_after = 3 * FEED};
    struct extent extent;
    struct reader *reader;
    struct slice slice;

    assert_int_equal(keep(w, blob, &cloud, &reader), -EHOSTUNREACH);
    reader_close(reader);
    cloud.fail_after = 0;
    assert_int_equal(keep(w, blob, &cloud, &reader), -ENODATA); /* nobody stores: it was not kept */
    assert_int_equal(reader_gap(reader).start, 100);
    reader_close(reader);
    world_start(w);
    assert_int_equal(keep(w, blob, &cloud, &reader), -ENODATA);
    assert_true(object_extent(blob->pieces[0].object, 0, &extent)); /* by now, not soon */
    assert_true(extent.present & 1);
    assert_int_equal(reader_gap(reader).start, ALIGN_UP(100 + (1 << 20), UNIT_BYTES));
    reader_close(reader);
    reader = cache_reader_open(blob, (struct range){0, 1 << 20}, READ_KEEP);
    assert_int_equal(world_next(w, reader, &slice), 0);
    assert_int_equal(slice.bytes.len, 0);
    reader_close(reader);
    blob_unref(blob);
    world_free(w);
}

static void test_fill__reader_may_leave_at_any_time(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {0};
    struct awaited awaited;
    struct slice slice = {0};
    struct fill *fill;

    world_start(w);
    assert_int_equal(cache_fill_begin(blob, (struct range){0, 1 << 20}, &fill), 0);
    cloud_begin(&cloud, fill);
    for (unsigned i = 0; i < 40; i++) {
        struct reader *reader =
            cache_reader_open(blob, (struct range){0, 1 << 20}, i % 3 ? READ_CLIENT : READ_KEEP);
        int err = 0;

        for (unsigned k = 0; !err && k <= i % 4; k++) {
            struct completion *done = awaited_init(&awaited, w->loop);

            reader_next(reader, &slice, done);
            if (i % 2)
                cloud_feed(&cloud);
            loop_run_ready(w->loop);
            if (!awaited.fired && done->cancel)
                done->cancel(done);
            err = loop_await(w->poll, &awaited);
            if (!err)
                slice_unref(slice);
        }
        reader_close(reader);
    }
    while (cloud.count)
        cloud_feed(&cloud);
    fills_settled(w, blob->pieces[0].object);
    assert_int_equal(world_read(w, blob, SEED, 0, 1 << 20), 0);
    blob_unref(blob);
    world_free(w);
}

/* 1 a call sleeps for a fill, which fails; 2 the call is cancelled before the wake is there; 3 the
 * next call sleeps for another fill: what came of the first is none of its business. */
static void test_fill__failure_is_told_to_who_slept_for_it(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {0};
    struct reader *reader = cache_reader_open(blob, (struct range){0, LENGTH}, READ_CLIENT);
    struct fill *failed, *next;
    struct awaited first, awaited;
    struct slice slice = {0};

    world_start(w);
    assert_int_equal(cache_fill_begin(blob, (struct range){0, UNIT_BYTES}, &failed), 0);
    reader_next(reader, &slice, awaited_init(&first, w->loop));
    loop_enter(NULL); /* upstream's thread: its posts come behind those of the loop */
    fill_end(failed, -EHOSTUNREACH, NULL);
    loop_enter(w->loop);
    assert_int_equal(cache_fill_begin(blob, (struct range){0, UNIT_BYTES}, &next), 0);
    cloud_begin(&cloud, next);
    first.done.cancel(&first.done);
    reader_next(reader, &slice, awaited_init(&awaited, w->loop)); /* by who is told of that first */
    loop_run_ready(w->loop);
    while (cloud.count)
        cloud_feed(&cloud);
    assert_int_equal(loop_await(w->poll, &awaited), 0);
    slice_unref(slice);
    reader_close(reader);
    blob_unref(blob);
    world_free(w);
}

/* A cold small GET does not stand behind the read-ahead of large ones. */
/* A dirty object with holes: what fills them is checked by the next start like all it owes. */
static void test_fill__of_an_object_that_is_owed_is_flushed(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct object *object = blob->pieces[0].object;

    world_start(w);
    for (unsigned i = 0; i < 2; i++) {
        struct cloud cloud = {0};
        struct client client;

        world_link(w, object, 100 + i, i ? OBJECT_DIRTY : OBJECT_CLEAN);
        client_start(w, &client, blob, &cloud, i << 20, 4096);
        run(w, &cloud, &client, 1);
        fills_settled(w, object);
        assert_int_equal(world_wrote, i);
    }
    blob_unref(blob);
    world_free(w);
}

static void test_fill__one_unit_waits_for_no_grant(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blobs[5], *small = cold_blob(w);
    struct fill *fills[5], *fill;
    char bytes[FEED];

    for (unsigned i = 0; i < 5; i++) { /* 8 of 32 buffers each: the last one is not granted */
        blobs[i] = cold_blob(w);
        assert_int_equal(cache_fill_begin(blobs[i], (struct range){0, LENGTH}, &fills[i]), 0);
        pattern_fill(bytes, SEED, 0, sizeof(bytes));
        assert_int_equal(fill_append(fills[i], (struct span){bytes, sizeof(bytes)}),
                         i < 4 ? 0 : -EAGAIN);
    }
    assert_int_equal(cache_fill_begin(small, (struct range){0, 4096}, &fill), 0);
    assert_int_equal(fill_append(fill, (struct span){bytes, sizeof(bytes)}), 0);
    fill_end(fill, -EIO, NULL);
    for (unsigned i = 0; i < 5; i++) {
        fill_end(fills[i], -EIO, NULL);
        blob_unref(blobs[i]);
    }
    blob_unref(small);
    world_free(w);
}

static void test_fill__stop_ends_the_wait_for_a_buffer(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob = cold_blob(w);
    struct iobuf *bufs[256];
    struct fill *fill;
    char bytes[FEED];
    unsigned n = 0;

    world_start(w);
    while ((bufs[n] = iobuf_try(IOBUF_512K)))
        assert_true(++n < countof(bufs));
    assert_int_equal(cache_fill_begin(blob, (struct range){0, LENGTH}, &fill), 0);
    pattern_fill(bytes, SEED, 0, sizeof(bytes));
    assert_int_equal(fill_append(fill, (struct span){bytes, sizeof(bytes)}), -EAGAIN);
    WORLD_UNTIL(w, iobuf_pool_stats(IOBUF_512K).waiting);
    fill_end(fill, -ECANCELED, NULL);
    content_stop(&w->cache);
    w->started = false;
    while (n)
        iobuf_unref(bufs[--n]);
    blob_unref(blob);
    world_free(w); /* all buffers are back */
}

/* ---- damaged small bodies ---- */

#define SMALL 1000

/* Uploaded bodies located by their records: the first in a run of its own, the others share one. */
static void small_run(struct world *w, struct object **objects, unsigned n)
{
    static char bytes[SMALL];
    struct small_write *writes = xcalloc(n, sizeof(*writes));
    struct awaited *awaited = xcalloc(n, sizeof(*awaited));
    struct extent *extents = xcalloc(n, sizeof(*extents));
    struct object_origin origin = {.container = 7, .blob = SPAN("b"), .etag = SPAN("\"e\"")};
    struct name who = {.container = 7, .blob = SPAN("b")};

    pattern_fill(bytes, SEED, 0, SMALL);
    for (unsigned i = 0; i < n; i++) {
        objects[i] = object_new(&w->cache, object_id_next(&w->cache));
        writes[i] = (struct small_write){.id = objects[i]->id,
                                         .bytes = {bytes, SMALL},
                                         .crc = crc64(0, bytes, SMALL),
                                         .ret = &extents[i],
                                         .done = awaited_init(&awaited[i], w->loop)};
        small_write_start(w->cache.slabs, &writes[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        struct change *change = change_new();

        assert_int_equal(loop_await(w->poll, &awaited[i]), 0);
        objects[i]->small = objects[i]->has_crc64 = true;
        object_add_extent(objects[i], &extents[i]);
        object_link_record(change, objects[i], &who, OBJECT_DIRTY);
        object_set_clean(change, objects[i], 0, &origin);
        world_commit(w, change);
    }
    free(extents);
    free(awaited);
    free(writes);
}

/* It lies among others' records: it is never written again in place. */
static void test_fill__of_a_damaged_small_body_spares_its_neighbours(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *objects[4];
    struct blob *blobs[4];
    struct extent extent;
    unsigned rows;

    small_run(w, objects, 4);
    for (unsigned i = 0; i < 4; i++)
        blobs[i] = world_blob_of(w, objects[i]);
    world_start(w);
    rows = world_rows(w, FAM_SPACE);
    for (unsigned i = 1; i < 4; i++) { /* first in its run, and in the midst of it */
        struct cloud cloud = {0};
        struct client client;

        assert_true(object_extent(objects[i], 0, &extent));
        assert_int_equal(extent.at.offset % IO_ALIGN == 0, i == 1);
        io_sim_corrupt(w->devices.sim, "slab0",
                       slab_offset(w->cache.slabs, 0, extent.at.slab) + extent.at.offset + 500, 4);
        for (unsigned n = 0; n < 3; n++) {
            client_start(w, &client, blobs[i], &cloud, 0, SMALL);
            run(w, &cloud, &client, 1);
            assert_int_equal(client.err, 0);
            fills_settled(w, objects[i]);
        }
        assert_true(cloud.bytes <= 2 * SMALL); /* it stays, once the damaged one has gone */
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(world_read(w, blobs[k], SEED, 0, SMALL), 0);
    }
    assert_int_equal(world_rows(w, FAM_SPACE), rows - 3);
    assert_int_equal(world_rows(w, FAM_OBJECTS), 0);
    for (unsigned i = 0; i < 4; i++)
        blob_unref(blobs[i]);
    world_free(w);
}

/* ---- clean extents where nothing is placed any more ---- */

static void fetch(struct world *w, struct blob *blob, struct cloud *cloud, uint64_t start)
{
    struct client client;

    client_start(w, &client, blob, cloud, start, MIB(1));
    run(w, cloud, &client, 1);
    assert_int_equal(client.err, 0);
    fills_settled(w, blob->pieces[0].object);
}

static struct extent extent_of(struct blob *blob)
{
    struct extent extent;

    assert_true(object_extent(blob->pieces[0].object, 0, &extent));
    return extent;
}

/* Twice at the most, then it lies elsewhere: with units that are lost, with such as never came, and
 * when the write that says so is the one that brings them. */
static void test_fill__of_an_extent_that_takes_nothing_goes_elsewhere(void **state)
{
    struct world *w = world_new(12, 0);
    struct blob *blob = cold_blob(w);
    struct cloud cloud = {0};
    struct extent extent;

    world_link(w, blob->pieces[0].object, 100, OBJECT_CLEAN);
    world_start(w);
    fetch(w, blob, &cloud, 0);
    for (unsigned how = 0; how < 3; how++) {
        uint64_t start = how == 0 ? 0 : MIB(how), bytes = cloud.bytes;

        extent = extent_of(blob);
        if (how == 0)
            io_sim_corrupt(
                w->devices.sim, "slab0",
                slab_offset(w->cache.slabs, 0, extent.at.slab) + extent.at.offset + 70000, 4);
        if (how == 2)
            io_sim_fail(w->devices.sim, IO_SIM_WRITE, 1, -EIO);
        else
            slab_wrote(w->cache.slabs, &extent.at, -EIO);
        for (unsigned i = 0; i < 4; i++)
            fetch(w, blob, &cloud, start);
        assert_true(cloud.bytes - bytes <= MIB(2));
        assert_false(slab_takes(w->cache.slabs, &extent.at));
        extent = extent_of(blob);
        assert_true(slab_takes(w->cache.slabs, &extent.at));
    }
    blob_unref(blob);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill__64_readers_cost_the_cloud_the_blob_once),
        cmocka_unit_test(test_fill__scattered_ranges_fetch_each_unit_once),
        cmocka_unit_test(test_fill__failure_in_the_middle_reaches_every_reader),
        cmocka_unit_test(test_fill__failure_before_the_first_byte_reaches_every_reader),
        cmocka_unit_test(test_fill__mismatch_never_settles),
        cmocka_unit_test(test_fill__stalled_readers_hold_no_buffers_of_fills),
        cmocka_unit_test(test_fill__too_short_and_too_long_are_refused),
        cmocka_unit_test(test_fill__back_pressure_pauses_and_resumes),
        cmocka_unit_test(test_fill__of_a_block_asks_for_its_place_in_the_cloud_blob),
        cmocka_unit_test(test_fill__of_an_unlinked_object_leaves_nothing),
        cmocka_unit_test(test_fill__reader_may_leave_at_any_time),
        cmocka_unit_test(test_fill__keeping_waits_for_the_devices),
        cmocka_unit_test(test_fill__of_an_object_that_is_owed_is_flushed),
        cmocka_unit_test(test_fill__failure_is_told_to_who_slept_for_it),
        cmocka_unit_test(test_fill__one_unit_waits_for_no_grant),
        cmocka_unit_test(test_fill__stop_ends_the_wait_for_a_buffer),
        cmocka_unit_test(test_fill__of_a_damaged_small_body_spares_its_neighbours),
        cmocka_unit_test(test_fill__of_an_extent_that_takes_nothing_goes_elsewhere),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
