/* tests/unit/content_world.h - the bytes half of the engine on simulated devices and a real index,
 * with a committer played by the test: changes are ordered as submitted and then applied at once,
 * held until the test says so, or failed. Included by one test file each: it defines the
 * committer's calls. */
#ifndef TESTS_CONTENT_WORLD_H
#define TESTS_CONTENT_WORLD_H

#include "tests/unit/unit.h"

#include "base/clock.h"
#include "base/crc64.h"
#include "base/log.h"
#include "base/loop.h"
#include "cache/fill.h"
#include "cache/metrics.h"
#include "cache/names.h"
#include "cache/record.h"
#include "tests/support/devices.h"
#include "tests/support/tempdir.h"

/* ---- the committer ---- */

struct committer {
    pthread_mutex_t lock;
    struct index *index;
    uint64_t number;
    uint32_t epoch;
    bool hold;                 /* keep ordered changes until committer_release */
    int fail;                  /* instead of applying */
    void (*before)(void *arg); /* once, before the next change is ordered */
    void *before_arg;
    struct change *first, **last;
};

static struct committer world_committer = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void world_finish(struct committer *committer, struct change *change)
{
    struct completion *done = change->done;
    struct entry entries[4096];
    size_t n = 0, cursor = 0;
    int err = committer->fail;

    while (!err && change_next(change, &cursor, &entries[n])) {
        n++;
        assert_true(n < countof(entries));
    }
    if (!err)
        assert_int_equal(index_apply(committer->index, ++committer->number, entries, n), 0);
    change_end(change, committer->number, err);
    change_free(change);
    if (done)
        completion_post(done, err);
}

void commit_submit(struct committer *committer, struct change *change)
{
    void (*before)(void *arg);
    int err;

    pthread_mutex_lock(&committer->lock);
    if ((before = TAKE(committer->before))) {
        pthread_mutex_unlock(&committer->lock);
        before(committer->before_arg);
        pthread_mutex_lock(&committer->lock);
    }
    err = change_order(change);
    assert_int_equal(err, 0);
    change->next = NULL;
    if (committer->hold) {
        *committer->last = change;
        committer->last = &change->next;
    } else {
        world_finish(committer, change);
    }
    pthread_mutex_unlock(&committer->lock);
}

uint32_t commit_epoch(const struct committer *committer)
{
    return committer->epoch;
}

static _Atomic unsigned world_wrote; /* flushes owed, as told */

void commit_wrote(struct committer *committer, unsigned device)
{
    world_wrote++;
}

static inline void world_hold(void)
{
    SCOPED_LOCK(&world_committer.lock);
    world_committer.hold = true;
}

static inline void world_undo(struct change *change, int fail)
{
    if (!change)
        return;
    world_undo(change->next, fail);
    change_end_hooks(change, fail);
}

static inline void world_release(int fail)
{
    struct change *change, *next;

    SCOPED_LOCK(&world_committer.lock);
    world_committer.fail = fail;
    if (fail) /* as the committer does: newest first */
        world_undo(world_committer.first, fail);
    for (change = world_committer.first; change; change = next) {
        next = change->next;
        world_finish(&world_committer, change);
    }
    world_committer.fail = 0;
    world_committer.hold = false;
    world_committer.first = NULL;
    world_committer.last = &world_committer.first;
}

/* ---- the world ---- */

struct world {
    struct devices devices;
    struct cache cache;
    struct loop_poll *poll;
    struct loop *loop;
    char *dir;
    bool started;
};

static inline void world_mute(void *arg, const char *line)
{
}

static inline void world_open_parts(struct world *w)
{
    struct index_conf conf = {.path = w->dir, .cache_bytes = 8 << 20};
    char *why = NULL;

    assert_int_equal(index_open(&conf, &w->cache.index, &why), 0);
    world_committer.index = w->cache.index;
    world_committer.epoch++;
    world_wrote = 0;
    world_committer.last = &world_committer.first;
    w->cache.committer = &world_committer;
    assert_int_equal(devices_open(&w->devices), 0);
    w->cache.slabs = w->devices.store;
    assert_int_equal(content_open(&w->cache, &w->cache.content), 0);
    assert_int_equal(content_load(&w->cache), 0);
    slab_store_serve(w->cache.slabs);
    w->poll = loop_poll_new();
    w->loop = loop_poll_loop(w->poll);
    loop_enter(w->loop);
    assert_int_equal(w->devices.slab_conf.io_ops->attach(w->devices.slab_conf.io_ops, w->loop), 0);
}

static inline void world_close_parts(struct world *w)
{
    if (w->started)
        content_stop(&w->cache);
    w->started = false;
    w->devices.slab_conf.io_ops->detach(w->devices.slab_conf.io_ops, w->loop);
    loop_enter(NULL);
    w->poll = loop_poll_free(w->poll);
    w->cache.content = content_close(w->cache.content);
    devices_close(&w->devices, true);
    w->cache.index = index_close(w->cache.index);
}

/* slabs: of one device. tier: bytes of the memory tier. */
static inline struct world *world_new_on(unsigned devices, unsigned slabs, uint64_t tier)
{
    static const struct iobuf_pools_conf pools = {.bytes = {MIB(1), MIB(8), MIB(32)}};
    struct world *w = xcalloc(1, sizeof(*w));

    log_set_sink(world_mute, NULL);
    assert_int_equal(iobuf_pools_open(&pools), 0);
    devices_init(&w->devices, devices, slabs);
    w->dir = tempdir_new("content");
    w->cache.conf.memory_tier_bytes = tier;
    world_open_parts(w);
    return w;
}

static inline struct world *world_new(unsigned slabs, uint64_t tier)
{
    return world_new_on(1, slabs, tier);
}

static inline void world_start(struct world *w)
{
    assert_int_equal(content_start(&w->cache), 0);
    w->started = true;
}

/* An orderly restart; what is in memory is gone. */
static inline void world_restart(struct world *w)
{
    world_close_parts(w);
    world_open_parts(w);
}

static inline void world_free(struct world *w)
{
    world_close_parts(w);
    devices_done(&w->devices);
    tempdir_free(w->dir);
    free(w);
    iobuf_pools_close();
}

static inline void world_commit(struct world *w, struct change *change)
{
    struct awaited awaited;

    change->done = awaited_init(&awaited, w->loop);
    commit_submit(w->cache.committer, change);
    assert_int_equal(loop_await(w->poll, &awaited), 0);
}

/* Rounds until the condition holds; the test's time limit is the runner's. */
#define WORLD_UNTIL(w, condition)                                                                  \
    while (!(condition))                                                                           \
    loop_poll_once((w)->poll, 1)

/* ---- content ---- */

static inline uint64_t pattern_word(uint64_t seed, uint64_t word)
{
    return (seed * 0x9E3779B97F4A7C15ULL ^ word) * 0xD6E8FEB86659FD93ULL;
}

static inline void pattern_fill(char *into, uint64_t seed, uint64_t at, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint64_t word = pattern_word(seed, (at + i) / 8);
        size_t skip = (at + i) % 8, take = MIN(8 - skip, n - i);

        memcpy(into + i, (const char *)&word + skip, take);
        i += take;
    }
}

static inline bool pattern_is(const char *bytes, uint64_t seed, uint64_t at, size_t n)
{
    char *want = xmalloc(n);
    bool same;

    pattern_fill(want, seed, at, n);
    same = memcmp(want, bytes, n) == 0;
    free(want);
    return same;
}

static inline struct extent world_extent(struct world *w, struct object_id id, uint32_t index,
                                         uint64_t seed, uint32_t length)
{
    char *bytes = aligned_alloc(IO_ALIGN, ALIGN_UP(length, IO_ALIGN));
    struct extent_write *write;
    struct awaited awaited;

    pattern_fill(bytes, seed, (uint64_t)index * EXTENT_BYTES_MAX, length);
    assert_int_equal(extent_write_open(w->cache.slabs, id, index, length, &write), 0);
    for (uint32_t at = 0; at < length; at += IO_BYTES_MAX) {
        struct extent_piece piece;

        extent_write_units(write, &piece, at,
                           (struct span){bytes + at, MIN(IO_BYTES_MAX, length - at)},
                           awaited_init(&awaited, w->loop));
        assert_int_equal(loop_await(w->poll, &awaited), 0);
    }
    extent_write_seal(write, length, awaited_init(&awaited, w->loop));
    assert_int_equal(loop_await(w->poll, &awaited), 0);
    free(bytes);
    return extent_write_end(write);
}

/* What a writer would make. */
static inline struct object *world_object(struct world *w, uint64_t seed, uint64_t length)
{
    struct object *object = object_new(&w->cache, object_id_next(&w->cache));

    for (uint64_t at = 0; at < length; at += EXTENT_BYTES_MAX) {
        struct extent extent = world_extent(w, object->id, (uint32_t)(at / EXTENT_BYTES_MAX), seed,
                                            (uint32_t)MIN(length - at, (uint64_t)EXTENT_BYTES_MAX));

        object_add_extent(object, &extent);
    }
    object->has_crc64 = true;
    return object;
}

static inline struct object *world_small(struct world *w, uint64_t seed, uint32_t length)
{
    struct object *object = object_new(&w->cache, object_id_next(&w->cache));
    char *bytes = xmalloc(length);
    struct extent extent;
    struct awaited awaited;
    struct small_write write = {.id = object->id, .bytes = {bytes, length}, .ret = &extent};

    pattern_fill(bytes, seed, 0, length);
    write.crc = crc64(0, bytes, length);
    write.done = awaited_init(&awaited, w->loop);
    small_write_start(w->cache.slabs, &write);
    assert_int_equal(loop_await(w->poll, &awaited), 0);
    object->small = object->has_crc64 = true;
    object->crc64 = write.crc;
    object_add_extent(object, &extent);
    free(bytes);
    return object;
}

/* A version over pieces of one object each; takes the references. */
static inline struct blob *world_blob(struct world *w, const struct piece *pieces, size_t n)
{
    struct blob *blob = xcalloc(1, sizeof(*blob));

    blob->refs = 1;
    blob->cache = &w->cache;
    blob->list = piece_list_new(pieces, n, n);
    blob->pieces = blob->list->at;
    blob->piece_count = n;
    for (size_t i = 0; i < n; i++)
        blob->record.length += pieces[i].length;
    return blob;
}

static inline struct blob *world_blob_of(struct world *w, struct object *object)
{
    return world_blob(w, &(struct piece){object, 0, object->length}, 1);
}

/* The manifest rows of one object, linked. */
static inline void world_link(struct world *w, struct object *object, uint64_t manifest,
                              enum object_state state)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct manifest_piece piece = {.object = object->id, .length = object->length};
    struct change *change = change_new();

    key_manifest(&key, manifest, 0);
    manifest_row_begin(&value);
    manifest_row_add(&value, &piece);
    change_put(change, FAM_MANIFESTS, row_span(&key), row_span(&value));
    object_link(change, object, manifest, state);
    world_commit(w, change);
}

static inline void world_clean(struct world *w, struct object *object, uint64_t manifest)
{
    struct change *change = change_new();

    struct object_origin origin = {
        .container = 7, .blob = SPAN("origin"), .etag = SPAN("\"0x8D1\""), .offset = 4096};

    object_set_clean(change, object, manifest, &origin);
    world_commit(w, change);
}

static inline void world_drop(struct world *w, uint64_t manifest)
{
    struct change *change = change_new();

    reaper_add(change, &w->cache, manifest);
    world_commit(w, change);
}

static inline uint64_t world_free_bytes(struct world *w)
{
    return slab_space(w->cache.slabs).free_bytes;
}

static inline unsigned world_rows(struct world *w, enum family family)
{
    struct index_iter *iter =
        index_iter_new(w->cache.index, NULL, family, (struct span){0}, (struct span){0});
    unsigned n = 0;

    for (; index_iter_valid(iter); index_iter_next(iter))
        n++;
    index_iter_free(iter);
    return n;
}

/* ---- reading ---- */

static inline int world_next(struct world *w, struct reader *reader, struct slice *ret)
{
    struct awaited awaited;

    *ret = (struct slice){0};
    reader_next(reader, ret, awaited_init(&awaited, w->loop));
    return loop_await(w->poll, &awaited);
}

static inline int world_settle(struct world *w, struct reader *reader)
{
    struct awaited awaited;

    reader_settle(reader, awaited_init(&awaited, w->loop));
    return loop_await(w->poll, &awaited);
}

/* Reads a range to its end and compares. 0 or the first error. */
static inline int world_read(struct world *w, struct blob *blob, uint64_t seed, uint64_t start,
                             uint64_t length)
{
    struct reader *reader = cache_reader_open(blob, (struct range){start, length}, READ_CLIENT);
    struct slice slice;
    int err = 0;

    for (uint64_t at = start; !err && at < start + length; at += slice.bytes.len) {
        err = world_next(w, reader, &slice);
        if (err)
            break;
        assert_true(slice.bytes.len > 0 && slice.bytes.len <= start + length - at);
        if (!pattern_is(slice.bytes.base, seed, at, slice.bytes.len))
            err = -EBADMSG;
        slice_unref(slice);
    }
    if (!err)
        err = world_settle(w, reader);
    reader_close(reader);
    return err;
}

#endif
