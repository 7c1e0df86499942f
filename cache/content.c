/* cache/content.c - opens and closes the bytes half, tells the slab store at start what is in use,
 * and keeps the sums that operators see. Open, load, start, stop, close: main thread, blocking. */
#include "cache/fill.h"

#include "base/log.h"
#include "cache/metrics.h"

static struct content *content_new(struct cache *cache)
{
    struct content *content = xcalloc(1, sizeof(*content));

    content->cache = cache;
    content->counter = 1;
    for (unsigned i = 0; i < TABLE_SHARDS; i++)
        pthread_mutex_init(&content->shards[i].lock, NULL);
    content->evict = evict_new(cache);
    content->reaper = reaper_new();
    content->filler = filler_new(cache);
    content->keeper = keeper_new(cache);
    return content;
}

int content_open(struct cache *cache, struct content **ret)
{
    struct content *content = content_new(cache);
    int err = tier_open(cache->conf.memory_tier_bytes, &content->tier);

    if (err < 0) {
        content_close(content);
        return err;
    }
    *ret = content;
    return 0;
}

struct content *content_close(struct content *content)
{
    if (!content)
        return NULL;
    keeper_stop(content->keeper);
    filler_stop(content->filler);
    content->filler = filler_free(content->filler);
    content->keeper = keeper_free(content->keeper);
    content->reaper = reaper_free(content->reaper);
    content->evict = evict_free(content->evict);
    content->tier = tier_close(content->tier);
    for (unsigned i = 0; i < TABLE_SHARDS; i++)
        pthread_mutex_destroy(&content->shards[i].lock);
    free(content);
    return NULL;
}

int content_start(struct cache *cache)
{
    int err;

    evict_start(cache);
    keeper_call(cache->content->keeper, KEEP_REAP);
    err = filler_start(cache->content->filler);
    return err ? err : keeper_start(cache->content->keeper);
}

void content_stop(struct cache *cache)
{
    keeper_stop(cache->content->keeper);
    filler_stop(cache->content->filler);
}

/* ---- sums ---- */

static void count(struct content *content, enum object_state state, int64_t bytes)
{
    atomic_fetch_add_explicit(&content->bytes[state], bytes, memory_order_relaxed);
}

bool object_evictable(const struct object *object)
{
    return object->rows && !object_is_located(object) && object->origin.etag.len &&
           object_state_locked(object) == OBJECT_CLEAN;
}

/* What may be evicted changed with the object's state; lock held. */
static void object_tell_evict(struct object *object)
{
    struct evict *evict = object->cache->content->evict;
    bool know = object_evictable(object);

    if (know == object->known)
        return;
    object->known = know;
    for (unsigned i = 0; i < object->cell_count; i++)
        if (!object->cells[i])
            continue;
        else if (know)
            evict_know(evict, object->id, &object->cells[i]->extent);
        else
            evict_forget(evict, object->id, i);
}

/* One side writes `starved` and reads `cleaned`, the other the other way round: one of them sees.
 */
static void starved_call(struct content *content, enum keeper_duty duty)
{
    uint64_t at = content->starved[duty];

    if (at && content->cleaned >= at &&
        atomic_compare_exchange_strong(&content->starved[duty], &at, 0))
        keeper_call(content->keeper, duty);
}

void content_starved(struct content *content, enum keeper_duty duty, uint64_t cleaned,
                     uint64_t bytes)
{
    content->starved[duty] = cleaned + bytes;
    starved_call(content, duty);
}

static void tell_cleaned(struct content *content, uint64_t bytes)
{
    atomic_fetch_add(&content->cleaned, bytes);
    for (int duty = 0; duty < KEEP_DUTIES; duty++)
        starved_call(content, (enum keeper_duty)duty);
}

void object_settled(struct object *object)
{
    struct content *content = object->cache->content;
    uint64_t clean;

    SCOPED_LOCK(&object->lock);
    clean = object->counted == OBJECT_CLEAN ? object->counted_bytes : 0;
    count(content, object->counted, -(int64_t)object->counted_bytes);
    object->counted = object_state_locked(object);
    object->counted_bytes = object->rows ? object->cell_bytes : 0;
    count(content, object->counted, (int64_t)object->counted_bytes);
    object_tell_evict(object);
    if (object->counted == OBJECT_CLEAN && object->counted_bytes > clean)
        tell_cleaned(content, object->counted_bytes - clean);
}

struct content_stats content_stats(struct cache *cache)
{
    _Atomic int64_t *bytes = cache->content->bytes;

    return (struct content_stats){
        .clean_bytes = (uint64_t)MAX(bytes[OBJECT_CLEAN], 0),
        .staged_bytes = (uint64_t)MAX(bytes[OBJECT_STAGED], 0),
        .dirty_bytes = (uint64_t)MAX(bytes[OBJECT_DIRTY], 0),
        .sole_bytes = (uint64_t)MAX(bytes[OBJECT_SOLE], 0),
    };
}

/* ---- start ---- */

static int load_space_row(struct cache *cache, struct span key, struct span value)
{
    struct space_row row;
    int err = space_row_decode(key, value, &row);

    if (err < 0)
        return err;
    if (slab_mark_extent(cache->slabs, &row.at, row.length) == -EEXIST)
        log_error("two bodies at one place of a device", KV_UINT("device", row.at.device),
                  KV_UINT("slab", row.at.slab), KV_UINT("offset", row.at.offset),
                  KV_UINT("object", row.id.counter));
    if (row.kind == SPACE_RECORD)
        count(cache->content, row.state, row.length);
    return 0;
}

static int load_space(struct cache *cache)
{
    struct index_iter *iter =
        index_iter_new(cache->index, NULL, FAM_SPACE, (struct span){0}, (struct span){0});
    int err = 0;

    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = load_space_row(cache, index_iter_key(iter), index_iter_value(iter));
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

/* One object's rows as they pass by in key order. */
struct load_object {
    struct object_id id;
    bool any, row, origin, link;
    enum object_state state;
    uint64_t bytes;
    struct extent *extents;
    unsigned extent_count, extent_room;
};

static void load_object_end(struct cache *cache, struct load_object *load)
{
    if (load->row && load->link) {
        count(cache->content, load->state, (int64_t)load->bytes);
        for (unsigned i = 0; load->state == OBJECT_CLEAN && load->origin && i < load->extent_count;
             i++)
            evict_know(cache->content->evict, load->id, &load->extents[i]);
    } else if (load->any) {
        log_warn("an object that nothing refers to", KV_UINT("counter", load->id.counter),
                 KV_UINT("bytes", load->bytes));
        reaper_orphan(cache, load->id);
    }
    load->any = load->row = load->origin = load->link = false;
    load->state = OBJECT_CLEAN;
    load->bytes = load->extent_count = 0;
}

static int load_extent(struct load_object *load, uint64_t index, struct span value)
{
    struct extent extent;
    int err = extent_row_decode(value, &extent);

    if (err < 0)
        return err;
    if (load->extent_count == load->extent_room) {
        load->extent_room = load->extent_room ? load->extent_room * 2 : 16;
        load->extents = xrealloc(load->extents, load->extent_room * sizeof(*load->extents));
    }
    extent.index = (uint32_t)index;
    load->extents[load->extent_count++] = extent;
    load->bytes += extent.length;
    return 0;
}

static int load_object_row(struct cache *cache, struct load_object *load, struct span key,
                           struct span value)
{
    struct object probe = {0};
    struct object_id id;
    enum object_row row;
    uint64_t number;
    int err = object_key_decode(key, &id, &row, &number);

    if (err < 0)
        return err;
    if (load->any && !object_id_eq(load->id, id))
        load_object_end(cache, load);
    load->any = true;
    load->id = id;
    if (row == ROW_EXTENT)
        return load_extent(load, number, value);
    if (row == ROW_LINK) {
        load->link = true;
        load->state = MAX(load->state, value.len ? (enum object_state)value.base[0] : OBJECT_SOLE);
        return 0;
    }
    err = object_row_decode(value, &probe);
    load->row = !err;
    load->origin = probe.origin.etag.len > 0;
    object_set_origin(&probe, NULL);
    return err;
}

static int load_objects(struct cache *cache)
{
    struct load_object load = {0};
    struct index_iter *iter =
        index_iter_new(cache->index, NULL, FAM_OBJECTS, (struct span){0}, (struct span){0});
    int err = 0;

    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = load_object_row(cache, &load, index_iter_key(iter), index_iter_value(iter));
    if (!err)
        err = index_iter_err(iter);
    if (!err)
        load_object_end(cache, &load);
    index_iter_free(iter);
    free(load.extents);
    return err;
}

int content_load(struct cache *cache)
{
    int err = load_space(cache);

    if (!err)
        err = load_objects(cache);
    if (!err)
        err = reaper_load(cache);
    if (err < 0)
        log_error("the index does not say what lies on the devices", KV_ERR(err));
    return err;
}
