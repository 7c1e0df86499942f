/* cache/compact.c - sparse small slabs are emptied so that they can be reclaimed whole, on the
 * keeper's thread. Of what still lives in one: clean bodies are dropped (they can be fetched
 * again), objects with rows of their own are written to another place. Bodies located by a dirty
 * blob record stay: their location stands in a row that only the name's order may rewrite; they
 * leave when they are uploaded, replaced or deleted. So a slab is only begun when all that lives in
 * it can leave. */
#include "cache/content.h"

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/loop.h"
#include "cache/metrics.h"
#include "cache/record.h"

#define COMPACT_LIVE_MAX  (SLAB_PAYLOAD_BYTES / 4) /* a slab is worth it from here down */
#define COMPACT_SLABS_MAX 16                       /* in one go */
#define COMPACT_BATCH     64                       /* records per change */

struct compact {
    struct cache *cache;
    struct change *change;
    unsigned gathered;
};

static int compact_flush(struct compact *compact)
{
    struct change *change = TAKE(compact->change);
    int err;

    compact->change = change_new();
    if (!compact->gathered) {
        change_free(change);
        return 0;
    }
    compact->gathered = 0;
    err = keeper_commit(compact->cache->content->keeper, change);
    FAILPOINT("compacted");
    return err;
}

static int compact_gathered(struct compact *compact)
{
    return ++compact->gathered == COMPACT_BATCH ? compact_flush(compact) : 0;
}

/* ---- a record with rows of its own moves ---- */

struct move_hook {
    struct change_hook hook;
    struct object *object; /* references */
    struct cell *from, *to;
    bool moved;
};

static uint64_t move_devices(struct change_hook *base)
{
    return 1ull << container_of(base, struct move_hook, hook)->to->extent.at.device;
}

static void move_order(struct change_hook *base, struct change *change)
{
    struct move_hook *hook = container_of(base, struct move_hook, hook);
    struct object *object = hook->object;
    uint32_t index = hook->to->extent.index;

    SCOPED_LOCK(&object->lock);
    if (!object->rows || object->cells[index] != hook->from)
        return; /* dropped meanwhile */
    change_delete_space(change, &hook->from->extent.at);
    change_put_extent(change, object, &hook->to->extent);
    change_put_needs(change, object);
    object_set_cell(object, index, cell_ref(hook->to));
    hook->moved = true;
    cell_mutant(hook->from, SLOT_WHEN_ORDERED);
}

static void move_undo(struct move_hook *hook)
{
    SCOPED_LOCK(&hook->object->lock);
    object_set_cell(hook->object, hook->to->extent.index, hook->from); /* the reference it had */
}

/* The slot that is left is free when this is durable and its last reader is done (B4); the new one
 * if the move did not happen. */
static void move_end(struct change_hook *base, int err)
{
    struct move_hook *hook = container_of(base, struct move_hook, hook);
    struct cell *left = hook->moved && !err ? hook->from : hook->to;

    if (hook->moved && err < 0)
        move_undo(hook);
    left->doomed = true;
    if (hook->moved) /* the reference that the object held */
        cell_unref(left);
    hook->from = cell_unref(hook->from);
    hook->to = cell_unref(hook->to);
    hook->object = object_unref(hook->object);
    free(hook);
}

static void move_add(struct change *change, struct object *object, struct cell *from,
                     const struct extent *to)
{
    struct move_hook *hook = xcalloc(1, sizeof(*hook));

    hook->hook =
        (struct change_hook){.devices = move_devices, .order = move_order, .end = move_end};
    hook->object = object_ref(object);
    hook->from = cell_ref(from);
    hook->to = cell_new(object->cache->slabs, to);
    change_add_hook(change, &hook->hook);
}

static int move_write(struct compact *compact, struct object *object, const struct extent *from,
                      struct extent *ret)
{
    struct keeper *keeper = compact->cache->content->keeper;
    char bytes[SMALL_BYTES_MAX];
    struct small_write write = {
        .id = object->id, .bytes = {bytes, from->length}, .crc = from->crc[0], .ret = ret};
    int err = extent_read_now(compact->cache->slabs, from, object->id,
                              (struct range){0, from->length}, bytes);
    struct awaited awaited;

    if (err < 0)
        return err;
    write.done = awaited_init(&awaited, keeper_loop(keeper));
    small_write_start(compact->cache->slabs, &write);
    err = keeper_await(keeper, &awaited);
    if (!err)
        commit_wrote(compact->cache->committer, ret->at.device);
    FAILPOINT("record_moved");
    return err;
}

static int compact_move(struct compact *compact, const struct space_row *row)
{
    struct object *object;
    struct cell *cell = NULL;
    struct extent to;
    int err = object_get(compact->cache, row->id, &object);

    if (err < 0)
        return err == -ENOENT ? 0 : err;
    pthread_mutex_lock(&object->lock);
    if (row->index < object->cell_count && object->cells[row->index])
        cell = cell_ref(object->cells[row->index]);
    pthread_mutex_unlock(&object->lock);
    if (cell && cell->extent.at.slab == row->at.slab && cell->extent.at.device == row->at.device &&
        cell->extent.at.offset == row->at.offset) {
        err = move_write(compact, object, &cell->extent, &to);
        if (!err) {
            to.index = row->index;
            move_add(compact->change, object, cell, &to);
            STAT_INC(compacted_records);
            err = compact_gathered(compact);
        }
    }
    (void)cell_unref(cell);
    object_unref(object);
    return err;
}

/* ---- a clean body located by its blob record goes ---- */

static int compact_body_of(struct compact *compact, const struct space_row *row, struct span value)
{
    struct row_space space = {0};
    struct blob_row blob;
    struct object *object;
    int err = blob_row_decode(value, &blob, &space);

    if (!err && blob.located && object_id_eq(blob.object, row->id)) {
        struct record_body body = {.id = blob.object,
                                   .crc64 = blob.record.content_crc64,
                                   .extent = blob.extent,
                                   .state = blob.object_state,
                                   .origin.container = row->container,
                                   .origin.blob = row->blob,
                                   .origin.etag = blob.record.cloud_etag};

        err = object_get_record(compact->cache, &body, &object);
        if (!err) {
            evict_extent(compact->change, object, 0);
            object = object_unref(object);
            err = compact_gathered(compact);
        }
    }
    row_space_done(&space);
    return err;
}

static int compact_drop(struct compact *compact, const struct space_row *row)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct index_value value;
    int err;

    key_blob(&key, row->container, row->blob);
    err = index_get(compact->cache->index, NULL, FAM_BLOBS, row_span(&key), &value);
    if (err < 0)
        return err == -ENOENT ? 0 : err; /* deleted meanwhile */
    err = compact_body_of(compact, row, value.bytes);
    index_value_done(&value);
    return err;
}

/* ---- slabs ---- */

static int compact_each(struct compact *compact, unsigned device, uint32_t slab,
                        int (*fn)(struct compact *, const struct space_row *))
{
    char from[SPACE_KEY_BYTES], to[SPACE_KEY_BYTES];
    struct index_iter *iter;
    struct space_row row;
    int err = 0;

    space_key_encode(&(struct location){.device = (uint16_t)device, .slab = slab}, from);
    space_key_encode(&(struct location){.device = (uint16_t)device, .slab = slab + 1}, to);
    iter = index_iter_new(compact->cache->index, NULL, FAM_SPACE, (struct span){from, sizeof(from)},
                          (struct span){to, sizeof(to)});
    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        err = space_row_decode(index_iter_key(iter), index_iter_value(iter), &row);
        if (!err)
            err = fn(compact, &row);
        if (!err && keeper_stopping(compact->cache->content->keeper))
            err = -ECANCELED;
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int compact_may_leave(struct compact *compact, const struct space_row *row)
{
    (void)compact;
    return row->kind == SPACE_RECORD && row->state != OBJECT_CLEAN ? -EBUSY : 0;
}

static int compact_leave(struct compact *compact, const struct space_row *row)
{
    return row->kind == SPACE_RECORD ? compact_drop(compact, row) : compact_move(compact, row);
}

static int compact_slab(struct compact *compact, unsigned device, uint32_t slab)
{
    int err = compact_each(compact, device, slab, compact_may_leave);

    if (!err)
        err = compact_each(compact, device, slab, compact_leave);
    return err ? err : compact_flush(compact);
}

void compact_run(struct cache *cache)
{
    struct compact compact = {.cache = cache, .change = change_new()};
    uint64_t live_max = COMPACT_LIVE_MAX;
    unsigned device;
    uint32_t slab;
    int err = 0;

    for (int i = 0; !err && i < COMPACT_SLABS_MAX; i++) {
        if (!slab_small_sparsest(cache->slabs, live_max, &device, &slab))
            break;
        err = compact_slab(&compact, device, slab);
        STAT_INC(compacted_slabs);
    }
    if (err && err != -EBUSY && err != -ECANCELED && err != -ENOSPC)
        log_error("a sparse slab could not be emptied", KV_ERR(err));
    change_free(compact.change);
}
