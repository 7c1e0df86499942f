/* cache/compact.c - small slabs are emptied so that they can be reclaimed whole, on the keeper's
 * thread. Of what still lives in one: clean bodies are dropped (they can be fetched again), other
 * objects with rows of their own are written to another place. Bodies located by a dirty blob
 * record stay: their location stands in a row that only the name's order may rewrite; they leave
 * when they are uploaded, replaced or deleted. So a slab is only begun when all that lives in it
 * can leave and little has to be written for it.
 *
 * Two hands go round over the closed slabs: one takes those that are nearly empty; the other, when
 * that gives nothing, the next one of all, which is roughly the oldest: that is how clean small
 * bodies are evicted. A slab that cannot be emptied is passed over. */
#include "cache/content.h"

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/loop.h"
#include "cache/metrics.h"
#include "cache/record.h"
#include "cache/store.h"

#define COMPACT_LIVE_MAX    (SLAB_PAYLOAD_BYTES / 4) /* nearly empty, from here down */
#define COMPACT_CARRIED_MAX (SLAB_PAYLOAD_BYTES / 2) /* to write elsewhere for one slab */
#define COMPACT_STARVED_BYTES                                                                      \
    (SLAB_PAYLOAD_BYTES / 4)   /* to become clean before it is worth a look */
#define COMPACT_SPARSE_MAX 16  /* slabs in one go */
#define COMPACT_LOOKED_MAX 256 /* at so many in one go: most that stay are known by one row */
#define COMPACT_BATCH      256 /* records per change */

struct compact {
    struct cache *cache;
    struct change *change;
    unsigned gathered;
    uint64_t
        carried; /* what must be written elsewhere of the slab at hand: a run for each record */
    int failed;  /* a change failed, or the keeper is to stop */
};

static int compact_flush(struct compact *compact)
{
    struct change *change = TAKE(compact->change);

    compact->change = change_new();
    if (!compact->gathered) {
        change_free(change);
        return 0;
    }
    compact->gathered = 0;
    compact->failed = keeper_commit(compact->cache->content->keeper, change);
    FAILPOINT("compacted");
    return compact->failed;
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

static bool is_at(const struct cell *cell, const struct location *at)
{
    const struct location *is = &cell->extent.at;

    return is->slab == at->slab && is->device == at->device && is->offset == at->offset;
}

/* The cell that lies where the row says; NULL: it went elsewhere meanwhile. *ret: it may be
 * dropped. */
static struct cell *compact_cell(struct object *object, const struct space_row *row, bool *ret)
{
    struct cell *cell;

    SCOPED_LOCK(&object->lock);
    *ret = object_evictable(object);
    cell = row->index < object->cell_count ? object->cells[row->index] : NULL;
    return cell && is_at(cell, &row->at) ? cell_ref(cell) : NULL;
}

static int compact_carry(struct compact *compact, struct object *object, struct cell *cell,
                         const struct space_row *row)
{
    struct extent to;
    int err = move_write(compact, object, &cell->extent, &to);

    if (err < 0)
        return err;
    to.index = row->index;
    move_add(compact->change, object, cell, &to);
    STAT_INC(compacted_records);
    return compact_gathered(compact);
}

static int compact_object(struct compact *compact, const struct space_row *row)
{
    struct object *object;
    struct cell *cell;
    bool clean;
    int err = object_get(compact->cache, row->id, &object);

    if (err < 0)
        return err == -ENOENT ? 0 : err;
    cell = compact_cell(object, row, &clean);
    if (cell && clean) {
        evict_extent(compact->change, object, row->index);
        err = compact_gathered(compact);
    } else if (cell) {
        err = compact_carry(compact, object, cell, row);
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
        struct record_body body = blob_row_body(&blob, row->container, row->blob);

        err = object_get_record(compact->cache, NULL, &body, &object);
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
            err = compact->failed = -ECANCELED;
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int compact_may_leave(struct compact *compact, const struct space_row *row)
{
    struct object *object;
    bool clean;
    int err;

    if (row->kind == SPACE_RECORD)
        return row->state == OBJECT_CLEAN ? 0 : -EBUSY;
    err = object_get(compact->cache, row->id, &object);
    if (err < 0)
        return err == -ENOENT ? 0 : err;
    (void)cell_unref(compact_cell(object, row, &clean));
    object_unref(object);
    compact->carried += clean ? 0 : ALIGN_UP(small_bytes(row->length), IO_ALIGN);
    return compact->carried > COMPACT_CARRIED_MAX ? -EBUSY : 0;
}

static int compact_leave(struct compact *compact, const struct space_row *row)
{
    return row->kind == SPACE_RECORD ? compact_drop(compact, row) : compact_object(compact, row);
}

static int compact_slab(struct compact *compact, const struct location *at)
{
    int err, flushed;

    compact->carried = 0;
    err = compact_each(compact, at->device, at->slab, compact_may_leave);
    if (!err && compact->carried > slab_small_room(compact->cache->slabs) &&
        !slab_lend(compact->cache->slabs, at->device))
        err = -EBUSY; /* not tried: a refused run would call for room that is to be made here */
    if (!err)
        err = compact_each(compact, at->device, at->slab, compact_leave);
    flushed = compact->failed ? 0 : compact_flush(compact); /* also what a slab that stays began */
    return err ? err : flushed;
}

static uint64_t place_of(const struct location *at)
{
    return (uint64_t)at->device << 32 | at->slab;
}

/* Once round from the hand on, at most. */
static unsigned compact_slabs(struct cache *cache, uint64_t live_max, struct location *hand,
                              unsigned max)
{
    struct compact compact = {.cache = cache, .change = change_new()};
    uint64_t start = place_of(hand), last = start;
    unsigned emptied = 0, rounds = 0;

    for (int i = 0; i < COMPACT_LOOKED_MAX && emptied < max && !compact.failed; i++) {
        struct location next = *hand;
        int err;

        if (!slab_small_next(cache->slabs, live_max, &next))
            break;
        rounds += place_of(&next) <= last;
        if (rounds > 1 || (rounds && place_of(&next) > start))
            break;
        last = place_of(&next);
        *hand = next;
        err = compact_slab(&compact, hand);
        /* What a reader still holds keeps its slab: counted, eviction would go on for nothing. */
        emptied += !err && slab_kind_at(cache->slabs, hand) == SLAB_FREE;
        if (err && err != -EBUSY && err != -ECANCELED && err != -ENOSPC)
            log_warn_limited("a small slab could not be emptied", KV_UINT("device", hand->device),
                             KV_UINT("slab", hand->slab), KV_ERR(err));
    }
    STAT_ADD(compacted_slabs, emptied);
    change_free(compact.change);
    return emptied;
}

unsigned compact_sparse(struct cache *cache)
{
    return compact_slabs(cache, COMPACT_LIVE_MAX, &cache->content->sparse_hand, COMPACT_SPARSE_MAX);
}

unsigned compact_full(struct cache *cache)
{
    if (!evict_small_bytes(cache))
        return 0;
    return compact_slabs(cache, UINT64_MAX, &cache->content->full_hand, 1);
}

/* Small records have no slab left behind the open one, or none at all. */
void compact_run(struct cache *cache)
{
    uint64_t cleaned = cache->content->cleaned;
    bool refused = atomic_exchange(&cache->content->small_refused, false);

    if (compact_sparse(cache) || compact_full(cache) || !refused)
        return;
    evict_large(cache); /* until a whole large slab is empty */
    cache->content->small_refused = true;
    content_starved(cache->content, KEEP_COMPACT, cleaned, COMPACT_STARVED_BYTES);
}
