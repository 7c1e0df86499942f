/* Eviction: clean extents go when the devices are full, in the policy's order; dirty, sole and
 * staged ones never; readers keep what they read; compaction empties sparse small slabs. See
 * content_world.h. */
#include "tests/unit/content_world.h"

#include <inttypes.h>
#include <stdio.h>

#include "cache/evict_policy.h"
#include "cache/verify.h"

#define LENGTH EXTENT_BYTES_MAX

static void fill_devices(struct world *w, enum object_state state, uint64_t *first, unsigned *count,
                         uint64_t until_free)
{
    for (*count = 0; world_free_bytes(w) > until_free; (*count)++) {
        struct object *object = world_object(w, *first + *count, LENGTH);

        world_link(w, object, *first + *count, state);
        if (state == OBJECT_CLEAN)
            world_clean(w, object, *first + *count);
        object_unref(object);
    }
}

static void test_evict__makes_room_from_clean_extents_only(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t clean = 1000, dirty = 2000, sole = 3000, staged = 4000;
    unsigned n;
    struct content_stats before, after;

    fill_devices(w, OBJECT_DIRTY, &dirty, &n, slab_space(w->cache.slabs).bytes / 4 * 3);
    fill_devices(w, OBJECT_SOLE, &sole, &n, slab_space(w->cache.slabs).bytes / 3 * 2);
    fill_devices(w, OBJECT_STAGED, &staged, &n, slab_space(w->cache.slabs).bytes / 2);
    fill_devices(w, OBJECT_CLEAN, &clean, &n, slab_space(w->cache.slabs).bytes / 40);
    before = content_stats(&w->cache);
    world_start(w);
    keeper_call(w->cache.content->keeper, KEEP_EVICT);
    WORLD_UNTIL(w, world_free_bytes(w) >= slab_space(w->cache.slabs).bytes / 16);
    content_stop(&w->cache);
    w->started = false;
    after = content_stats(&w->cache);
    assert_int_equal(after.dirty_bytes, before.dirty_bytes);
    assert_int_equal(after.sole_bytes, before.sole_bytes);
    assert_int_equal(after.staged_bytes, before.staged_bytes);
    assert_true(after.clean_bytes < before.clean_bytes);
    assert_true(after.clean_bytes > 0); /* no more than needed */
    world_free(w);
}

static void test_evict__knows_clean_extents_after_a_restart(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t clean = 1000;
    unsigned n;
    struct slab_space space;

    fill_devices(w, OBJECT_CLEAN, &clean, &n, slab_space(w->cache.slabs).bytes / 40);
    world_restart(w);
    space = slab_space(w->cache.slabs);
    world_start(w);
    keeper_call(w->cache.content->keeper, KEEP_EVICT);
    WORLD_UNTIL(w, world_free_bytes(w) >= space.bytes / 16);
    world_free(w);
}

static void test_evict__starts_before_writers_are_refused(void **state)
{
    struct world *w = world_new(8, 0);
    uint64_t clean = 1000;
    struct write_opts opts = {.bytes = EXTENT_BYTES_MAX};
    struct writer *writer;
    unsigned n;

    world_start(w);
    for (unsigned i = 0; i < 2; i++) { /* more than the devices hold: never a refusal */
        fill_devices(w, OBJECT_CLEAN, &clean, &n, slab_space(w->cache.slabs).bytes / 20);
        clean += n;
        for (unsigned k = 0; k < 30; k++) {
            struct object *object = world_object(w, ++clean, LENGTH);

            world_link(w, object, clean, OBJECT_CLEAN);
            world_clean(w, object, clean);
            object_unref(object);
            WORLD_UNTIL(w, world_free_bytes(w) >= evict_low_bytes(&w->cache));
            assert_int_equal(cache_writer_open(&w->cache, &opts, &writer), 0);
            writer_abort(writer);
        }
    }
    world_free(w);
}

/* S5: taken, but its slot stays until the change is durable and the reader is done. */
static void test_evict__slot_waits_for_durability_and_readers(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct blob *blob = world_blob_of(w, object_ref(object));
    struct reader *reader = cache_reader_open(blob, (struct range){0, LENGTH}, READ_CLIENT);
    struct change *change = change_new();
    struct slice slice = {0};
    struct awaited awaited;
    uint64_t used;

    world_link(w, object, 100, OBJECT_DIRTY);
    world_clean(w, object, 100);
    used = world_free_bytes(w);
    reader_next(reader, &slice, awaited_init(&awaited, w->loop)); /* reads under way */
    evict_extent(change, object, 0);
    world_hold();
    commit_submit(w->cache.committer, change);
    assert_int_equal(loop_await(w->poll, &awaited), 0);
    assert_true(pattern_is(slice.bytes.base, 1, 0, slice.bytes.len));
    slice_unref(slice);
    reader_close(reader);
    loop_run_ready(w->loop);
    assert_int_equal(world_free_bytes(w), used); /* early slot reuse fails here */
    world_release(0);
    WORLD_UNTIL(w, world_free_bytes(w) > used);
    assert_int_equal(world_read(w, blob, 1, 0, LENGTH), -ENODATA);
    object_unref(object);
    blob_unref(blob);
    world_free(w);
}

static void test_evict__dirty_again_before_its_turn_stays(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct change *change = change_new();
    struct extent extent;

    world_link(w, object, 100, OBJECT_DIRTY);
    world_clean(w, object, 100);
    evict_extent(change, object, 0); /* judged when ordered, not now */
    world_link(w, object, 200, OBJECT_DIRTY);
    world_commit(w, change);
    assert_true(object_extent(object, 0, &extent));
    object_unref(object);
    world_free(w);
}

static void test_evict__failed_change_puts_it_back(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    struct blob *blob = world_blob_of(w, object);
    struct change *change = change_new();

    world_link(w, object, 100, OBJECT_DIRTY);
    world_clean(w, object, 100);
    evict_extent(change, object, 0);
    world_hold();
    commit_submit(w->cache.committer, change);
    world_release(-EIO);
    assert_int_equal(world_read(w, blob, 1, 0, LENGTH), 0);
    blob_unref(blob);
    world_free(w);
}

/* What could not go stays known to eviction. */
static void test_evict__failed_run_can_be_run_again(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t clean = 1000;
    unsigned n;

    fill_devices(w, OBJECT_CLEAN, &clean, &n, LENGTH);
    loop_enter(keeper_loop(w->cache.content->keeper)); /* its thread is not running */
    world_committer.fail = -EIO;
    for (unsigned i = 0; i < 10; i++)
        evict_run(&w->cache);
    assert_true(world_free_bytes(w) < 2 * LENGTH);
    world_committer.fail = 0;
    evict_run(&w->cache);
    loop_enter(w->loop);
    assert_true(world_free_bytes(w) >= slab_space(w->cache.slabs).bytes / 16);
    world_free(w);
}

static void evict_now(struct world *w) /* the keeper's thread is not running */
{
    loop_enter(keeper_loop(w->cache.content->keeper));
    evict_run(&w->cache);
    loop_enter(w->loop);
}

static unsigned extents_on(struct world *w, unsigned device)
{
    struct index_iter *iter =
        index_iter_new(w->cache.index, NULL, FAM_SPACE, (struct span){0}, (struct span){0});
    unsigned n = 0;

    for (; index_iter_valid(iter); index_iter_next(iter)) {
        struct space_row row;

        assert_int_equal(space_row_decode(index_iter_key(iter), index_iter_value(iter), &row), 0);
        n += row.at.device == device;
    }
    index_iter_free(iter);
    return n;
}

/* Nor is anything taken from it: that would be no room. */
static void test_evict__a_device_that_takes_nothing_does_not_count(void **state)
{
    struct world *w = world_new_on(2, 6, 0);
    uint64_t all = slab_space(w->cache.slabs).bytes, clean = 1000, more = 2000, last = 3000, bytes;
    unsigned n, fenced;

    fill_devices(w, OBJECT_CLEAN, &clean, &n, all / 4);
    slab_device_fence(w->cache.slabs, 1);
    fill_devices(w, OBJECT_CLEAN, &more, &n, all / 24); /* one in twelve of what is left */
    bytes = content_stats(&w->cache).clean_bytes;
    evict_now(w);
    assert_int_equal(content_stats(&w->cache).clean_bytes, bytes);
    fenced = extents_on(w, 1);
    assert_true(fenced > 0);
    fill_devices(w, OBJECT_CLEAN, &last, &n, LENGTH);
    evict_now(w);
    assert_true(world_free_bytes(w) >= all / 2 / 16);
    assert_int_equal(extents_on(w, 1), fenced);
    world_free(w);
}

/* Bytes from the cloud are kept though the devices are full: they wait for eviction like a
 * writer's. */
static void test_evict__fills_wait_for_room(void **state)
{
    struct world *w = world_new(6, 0);
    struct blob *blob =
        world_blob_of(w, object_new_cloud(&w->cache, 8 * LENGTH, 7, SPAN("b"), SPAN("\"e\"")));
    char *bytes = xmalloc(LENGTH);
    uint64_t clean = 1000;
    struct location at;
    struct fill *fill;
    unsigned n;

    world_link(w, blob->pieces[0].object, 100, OBJECT_CLEAN);
    fill_devices(w, OBJECT_CLEAN, &clean, &n, LENGTH);
    while (slab_alloc_large(w->cache.slabs, 4096, &at) == 0)
        ; /* what the extents left over */
    world_start(w);
    for (uint64_t i = 0; i < 8; i++) {
        assert_int_equal(cache_fill_begin(blob, (struct range){i * LENGTH, LENGTH}, &fill), 0);
        pattern_fill(bytes, 5, i * LENGTH, LENGTH);
        WORLD_UNTIL(w, fill_append(fill, (struct span){bytes, LENGTH}) == 0);
        fill_end(fill, 0, NULL);
    }
    free(bytes);
    for (bool running = true; running;) {
        pthread_mutex_lock(&blob->pieces[0].object->lock);
        running = blob->pieces[0].object->fills != NULL;
        pthread_mutex_unlock(&blob->pieces[0].object->lock);
        loop_poll_once(w->poll, 1);
    }
    assert_int_equal(world_read(w, blob, 5, 0, 8 * LENGTH), 0);
    blob_unref(blob);
    world_free(w);
}

static struct evict_item *item_new(uint64_t n)
{
    struct evict_item *item = xcalloc(1, sizeof(*item));

    item->id.counter = n;
    item->length = LENGTH;
    return item;
}

static void test_evict__s3fifo_drops_the_unused_first_and_remembers_ghosts(void **state)
{
    struct evict_policy *policy = evict_s3fifo_new();
    struct evict_item *item, *items[20];

    for (unsigned i = 0; i < countof(items); i++)
        policy->ops->add(policy, items[i] = item_new(i));
    for (unsigned i = 0; i < countof(items); i += 2)
        policy->ops->use(policy, items[i]);
    for (unsigned i = 1; i < 19; i += 2) { /* odd ones, oldest first */
        item = policy->ops->victim(policy);
        assert_int_equal(item->id.counter, i);
        free(item);
    }
    policy->ops->add(policy, item = item_new(3)); /* a ghost comes back: into the main queue */
    assert_ptr_equal(policy->ops->victim(policy), items[0]); /* main is over its share */
    free(items[0]);
    policy->ops->remove(policy, item);
    free(item);
    while ((item = policy->ops->victim(policy)))
        free(item);
    policy->ops->free(policy);
}

/* ---- compaction ---- */

static void test_evict__sparse_small_slab_is_emptied(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *objects[2400];
    struct object_id kept;
    struct extent before, after;
    struct blob *blob;

    for (unsigned i = 0; i < countof(objects); i++) { /* two slabs and a bit */
        objects[i] = world_small(w, i, 60000);
        world_link(w, objects[i], 100 + i, OBJECT_DIRTY);
    }
    kept = objects[0]->id;
    assert_true(object_extent(objects[0], 0, &before));
    for (unsigned i = 0; i < countof(objects); i++) {
        if (i >= 10 && i < 2000) {
            struct change *change = change_new();

            object_unlink(change, objects[i], 100 + i);
            world_commit(w, change);
        }
        object_unref(objects[i]);
    }
    world_start(w);
    keeper_call(w->cache.content->keeper, KEEP_COMPACT);
    WORLD_UNTIL(w, slab_kind_at(w->cache.slabs, &before.at) != SLAB_SMALL);
    assert_int_equal(object_get(&w->cache, kept, &objects[0]), 0);
    assert_true(object_extent(objects[0], 0, &after));
    assert_true(after.at.slab != before.at.slab);
    blob = world_blob_of(w, objects[0]);
    assert_int_equal(world_read(w, blob, 0, 0, 60000), 0);
    blob_unref(blob);
    world_restart(w);
    assert_int_equal(object_get(&w->cache, kept, &objects[0]), 0);
    blob = world_blob_of(w, objects[0]);
    assert_int_equal(world_read(w, blob, 0, 0, 60000), 0);
    blob_unref(blob);
    world_free(w);
}

/* What a start asks of the entries of a change that was not known to be flushed. */
static int verify_change(struct world *w, struct change *change)
{
    struct verify *verify = verify_new(&w->cache);
    struct entry entry;
    size_t cursor = 0;
    int err = 0;

    while (!err && change_next(change, &cursor, &entry))
        err = verify_entry(verify, &entry, false);
    verify_free(verify);
    return err;
}

/* The reaper may have nothing to say before it. */
static struct change *compaction_held(void)
{
    SCOPED_LOCK(&world_committer.lock);
    struct change *change;

    while ((change = world_committer.first) && !change_bytes(change)) {
        world_committer.first = change->next;
        if (!change->next)
            world_committer.last = &world_committer.first;
        world_finish(&world_committer, change);
    }
    return change;
}

/* The old place is free once the move is in the log: the new one must be there. */
static void test_evict__a_moved_record_is_checked_at_start(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *kept = world_small(w, 0, 60000);
    struct change *move;
    struct extent moved;

    world_link(w, kept, 100, OBJECT_DIRTY);
    for (unsigned i = 0; i < 1200; i++) /* the slab is full, and closed */
        object_unref(world_small(w, i, 60000));
    world_start(w);
    world_hold();
    keeper_call(w->cache.content->keeper, KEEP_COMPACT);
    WORLD_UNTIL(w, (move = compaction_held()));
    assert_int_equal(verify_change(w, move), 0);
    assert_true(object_extent(kept, 0, &moved));
    io_sim_corrupt(w->devices.sim, "slab0",
                   slab_offset(w->cache.slabs, 0, moved.at.slab) + moved.at.offset + 5000, 1);
    assert_int_equal(verify_change(w, move), -EUCLEAN);
    world_release(0);
    object_unref(kept);
    world_free(w);
}

/* Large extents that must stay hold all other slabs, and every small slab is nearly empty: what is
 * in one goes to the slab that is kept for that. */
static void test_compact__has_a_place_when_nothing_else_is_left(void **state)
{
    struct world *w = world_new(10, 0);
    uint64_t staged = 1000;
    struct object *kept[8];
    struct location at;
    unsigned large, n = 0;

    fill_devices(w, OBJECT_STAGED, &staged, &large, LENGTH);
    for (unsigned i = 0; slab_small_room(w->cache.slabs) >= SMALL_BYTES_MAX + IO_ALIGN; i++) {
        struct object *object = world_small(w, i, 60000);

        if (i % 200 == 0 && n < countof(kept))
            world_link(w, kept[n++] = object, 100 + i, OBJECT_STAGED);
        else
            object_unref(object);
    }
    assert_true(n > 1);
    assert_int_equal(slab_alloc_run(w->cache.slabs, 0, 512 << 10, 512 << 10, &at), -ENOSPC);
    world_start(w);
    keeper_call(w->cache.content->keeper, KEEP_COMPACT);
    WORLD_UNTIL(w, slab_small_room(w->cache.slabs) > SLAB_PAYLOAD_BYTES / 2);
    while (n)
        object_unref(kept[--n]);
    world_free(w);
}

/* ---- bodies located by their records ---- */

#define BODY 60000

/* Put Blob of a small body, uploaded if the state is clean. */
static int put_body(struct world *w, uint64_t n, enum object_state state, struct extent *ret)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct object_origin origin = {.container = 7, .blob = SPAN("b"), .etag = SPAN("\"e\"")};
    struct blob_row row = {.state = BLOB_LIVE,
                           .manifest = n + 1,
                           .located = true,
                           .object_state = state,
                           .record.length = BODY,
                           .record.cloud_etag = state ? SPAN("") : SPAN("\"e\"")};
    struct change *change = change_new();
    struct write_opts opts = {.bytes = BODY};
    struct name who = {.container = 7};
    struct awaited awaited;
    struct writer *writer;
    struct object *object;
    struct iobuf *buf;
    char name[24];
    int err;

    assert_int_equal(cache_writer_open(&w->cache, &opts, &writer), 0);
    writer_buffer(writer, &buf, awaited_init(&awaited, w->loop));
    assert_int_equal(loop_await(w->poll, &awaited), 0);
    pattern_fill(buf->base, n, 0, BODY);
    buf->used = BODY;
    writer_push(writer, buf);
    writer_finish(writer, &object, awaited_init(&awaited, w->loop));
    err = loop_await(w->poll, &awaited);
    if (err) {
        change_free(change);
        return err;
    }
    snprintf(name, sizeof(name), "%08" PRIu64, n);
    who.blob = origin.blob = span_of(name);
    assert_true(object_extent(object, 0, ret));
    row.object = object->id;
    row.extent = *ret;
    key_blob(&key, 7, who.blob);
    blob_row_encode(&value, &row);
    change_put(change, FAM_BLOBS, row_span(&key), row_span(&value));
    object_link_record(change, object, &who, state);
    if (state == OBJECT_CLEAN)
        object_set_clean(change, object, 0, &origin);
    world_commit(w, change);
    object_unref(object);
    return 0;
}

/* More small blobs than the devices hold, all of them uploaded. */
static void test_evict__clean_small_bodies_make_room_for_new_ones(void **state)
{
    struct world *w = world_new(6, 0);
    uint64_t bytes = slab_space(w->cache.slabs).bytes;
    struct extent extent;
    uint64_t n = 0;

    world_start(w);
    for (; n * BODY < bytes / 2 * 3; n++)
        assert_int_equal(put_body(w, n, OBJECT_CLEAN, &extent), 0);
    assert_true(content_stats(&w->cache).clean_bytes > bytes / 8); /* no more than needed goes */
    for (uint64_t i = 0; i < 60; i++) { /* and large ones find room too */
        struct write_opts opts = {.bytes = EXTENT_BYTES_MAX};
        struct writer *writer;
        struct object *object;

        WORLD_UNTIL(w, world_free_bytes(w) >= evict_low_bytes(&w->cache));
        assert_int_equal(cache_writer_open(&w->cache, &opts, &writer), 0);
        writer_abort(writer);
        object = world_object(w, i, EXTENT_BYTES_MAX);
        world_link(w, object, n + 2 + i, OBJECT_CLEAN);
        world_clean(w, object, n + 2 + i);
        object_unref(object);
    }
    world_free(w);
}

/* One dirty body in a slab that is otherwise nearly empty: others are emptied all the same. */
static void test_evict__slab_that_must_stay_is_passed_over(void **state)
{
    struct world *w = world_new(8, 0);
    struct extent dirty, extent, first = {0};
    struct object *staged;
    uint64_t n = 0;

    assert_int_equal(put_body(w, n++, OBJECT_DIRTY, &dirty), 0);
    do
        assert_int_equal(put_body(w, n++, OBJECT_CLEAN, &extent), 0);
    while (extent.at.slab == dirty.at.slab);
    first = extent;
    do {
        assert_int_equal(put_body(w, n++, OBJECT_CLEAN, &extent), 0);
        if (n % 100 == 0) { /* these are written elsewhere */
            staged = world_small(w, n, 1000);
            world_link(w, staged, 100000 + n, OBJECT_STAGED);
            object_unref(staged);
        }
    } while (extent.at.slab == first.at.slab);
    world_start(w);
    for (unsigned i = 0; i < 3; i++) { /* whatever was looked at first */
        keeper_call(w->cache.content->keeper, KEEP_COMPACT);
        WORLD_UNTIL(w, slab_kind_at(w->cache.slabs, &first.at) != SLAB_SMALL);
    }
    assert_int_equal(slab_kind_at(w->cache.slabs, &dirty.at), SLAB_SMALL);
    assert_true(content_stats(&w->cache).staged_bytes >= 1000);
    world_free(w);
}

/* What somebody still holds keeps its slab: it made no room, and eviction that took it for some
 * would never end. */
static void test_evict__slab_that_is_held_made_no_room(void **state)
{
    struct world *w = world_new(8, 0);
    int64_t emptied = metric_read(&metric_compacted_slabs);
    struct object *held =
        world_small(w, 1, 1000); /* without rows, as what a reader has left of it */
    struct extent first, extent;
    uint64_t n = 0;

    assert_int_equal(put_body(w, n++, OBJECT_CLEAN, &first), 0);
    do
        assert_int_equal(put_body(w, n++, OBJECT_CLEAN, &extent), 0);
    while (extent.at.slab == first.at.slab);
    world_start(w);
    keeper_call(w->cache.content->keeper, KEEP_COMPACT);
    WORLD_UNTIL(w, content_stats(&w->cache).clean_bytes < 2 * BODY);
    keeper_call(w->cache.content->keeper, KEEP_COMPACT); /* again: now nothing is left to take */
    WORLD_UNTIL(w, w->cache.content->full_hand.slab == first.at.slab);
    assert_int_equal(slab_kind_at(w->cache.slabs, &first.at), SLAB_SMALL);
    assert_int_equal(metric_read(&metric_compacted_slabs), emptied);
    object_unref(held);
    WORLD_UNTIL(w, slab_kind_at(w->cache.slabs, &first.at) == SLAB_FREE);
    world_free(w);
}

/* Nothing could go when room was asked for: who waits for it does not ask again. */
static void test_evict__goes_on_when_bytes_become_clean(void **state)
{
    struct world *w = world_new(6, 0);
    struct object *object = world_object(w, 1, LENGTH);
    uint64_t dirty = 1000, free;
    struct extent extent;
    unsigned n;

    world_link(w, object, 100, OBJECT_DIRTY);
    for (n = 0; put_body(w, n, OBJECT_DIRTY, &extent) == 0; n++)
        ;
    fill_devices(w, OBJECT_DIRTY, &dirty, &n, slab_space(w->cache.slabs).bytes / 40);
    world_start(w);
    w->cache.content->small_refused = true;
    keeper_call(w->cache.content->keeper, KEEP_COMPACT); /* calls for eviction in turn */
    WORLD_UNTIL(w, w->cache.content->starved[KEEP_EVICT] > 0 &&
                       w->cache.content->starved[KEEP_COMPACT] > 0);
    free = world_free_bytes(w);
    world_clean(w, object, 100);
    WORLD_UNTIL(w, world_free_bytes(w) > free);
    object_unref(object);
    world_free(w);
}

enum { BATCH = 16, REST = 4 }; /* what is taken for a failed allocation, in extents */

struct made_dirty {
    struct world *w;
    struct object *objects[BATCH + REST];
};

static void make_dirty(void *arg)
{
    struct made_dirty *made = arg;

    for (unsigned i = 0; i < BATCH; i++) {
        struct change *change = change_new();

        object_link(change, made->objects[i], 200 + i, OBJECT_DIRTY);
        commit_submit(made->w->cache.committer, change);
    }
}

/* 1 an allocation fails; 2 eviction takes the first ones; 3 before its change is ordered they are
 * dirty again, so they stay; 4 who waits for room sleeps until something is given back. */
static void test_evict__victims_that_stay_are_no_room(void **state)
{
    struct world *w = world_new(8, 0);
    struct made_dirty made = {.w = w};
    uint64_t free;

    for (unsigned i = 0; i < BATCH + REST; i++) {
        made.objects[i] = world_object(w, i, LENGTH);
        world_link(w, made.objects[i], 100 + i, OBJECT_DIRTY);
        world_clean(w, made.objects[i], 100 + i);
    }
    free = world_free_bytes(w);
    assert_true(free >= slab_space(w->cache.slabs).bytes / 16); /* none is asked for by the sums */
    world_committer.before_arg = &made;
    world_committer.before = make_dirty;
    evict_large(&w->cache);
    evict_now(w);
    assert_int_equal(world_free_bytes(w), free + REST * (LENGTH + IO_ALIGN));
    for (unsigned i = 0; i < BATCH + REST; i++)
        object_unref(made.objects[i]);
    world_free(w);
}

/* 1 a duty looks and finds nothing; 2 bytes become clean; 3 it says that it found nothing. */
static void test_evict__what_became_clean_meanwhile_is_not_missed(void **state)
{
    struct world *w = world_new(6, 0);
    struct content *content = w->cache.content;
    struct object *object = world_object(w, 1, LENGTH);
    uint64_t cleaned = content->cleaned;

    world_link(w, object, 100, OBJECT_DIRTY);
    content_starved(content, KEEP_EVICT, cleaned, 1);
    assert_true(content->starved[KEEP_EVICT]);
    world_clean(w, object, 100);
    assert_false(content->starved[KEEP_EVICT]); /* called */
    content_starved(content, KEEP_EVICT, cleaned, 1);
    assert_false(content->starved[KEEP_EVICT]);
    content_starved(content, KEEP_EVICT, content->cleaned, 1);
    assert_true(content->starved[KEEP_EVICT]);
    object_unref(object);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evict__makes_room_from_clean_extents_only),
        cmocka_unit_test(test_evict__knows_clean_extents_after_a_restart),
        cmocka_unit_test(test_evict__starts_before_writers_are_refused),
        cmocka_unit_test(test_evict__slot_waits_for_durability_and_readers),
        cmocka_unit_test(test_evict__dirty_again_before_its_turn_stays),
        cmocka_unit_test(test_evict__failed_change_puts_it_back),
        cmocka_unit_test(test_evict__s3fifo_drops_the_unused_first_and_remembers_ghosts),
        cmocka_unit_test(test_evict__sparse_small_slab_is_emptied),
        cmocka_unit_test(test_evict__a_moved_record_is_checked_at_start),
        cmocka_unit_test(test_evict__clean_small_bodies_make_room_for_new_ones),
        cmocka_unit_test(test_compact__has_a_place_when_nothing_else_is_left),
        cmocka_unit_test(test_evict__slab_that_must_stay_is_passed_over),
        cmocka_unit_test(test_evict__slab_that_is_held_made_no_room),
        cmocka_unit_test(test_evict__failed_run_can_be_run_again),
        cmocka_unit_test(test_evict__a_device_that_takes_nothing_does_not_count),
        cmocka_unit_test(test_evict__fills_wait_for_room),
        cmocka_unit_test(test_evict__goes_on_when_bytes_become_clean),
        cmocka_unit_test(test_evict__victims_that_stay_are_no_room),
        cmocka_unit_test(test_evict__what_became_clean_meanwhile_is_not_missed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
