/* cache/evict.c - room on full devices: clean extents that can be fetched again go, in the order of
 * a policy (evict_policy.h). Never dirty, sole or staged bytes (B6). Objects stay: the extent is
 * absent then. Bodies in small slabs go slab by slab (compact.c); room comes from where more clean
 * bytes lie.
 *
 * The book of evictable extents is told by object_settled, fills and load; it may be behind, so
 * whether an extent may go is judged in commit order by the hook of the change that takes it. Its
 * slot is given back when that change is durable and the last reader has dropped the cell (B4). */
#include "cache/content.h"

#include "base/failpoint.h"
#include "base/log.h"
#include "cache/evict_policy.h"
#include "cache/metrics.h"

#define EVICT_BATCH 64 /* extents per change */
/* Eviction starts when less than one in EVICT_LOW_SHARE bytes is free and goes on until one in
 * EVICT_HIGH_SHARE is. It starts before writers are refused (WRITER_HEADROOM_SHARE, 32). */
#define EVICT_LOW_SHARE  24
#define EVICT_HIGH_SHARE 16
#define EVICT_MUST_BYTES MIB(64) /* when an allocation failed whatever the sums say */

struct evict {
    struct cache *cache;
    pthread_mutex_t lock; /* guards what follows */
    struct evict_policy *policy;
    struct evict_item **buckets;
    size_t bucket_count, count;
    uint64_t bytes;    /* of all in the book */
    _Atomic bool must; /* space is low, or scattered so that an allocation failed */
};

/* ---- the book ---- */

static size_t book_hash(struct object_id id, uint32_t index)
{
    return object_id_hash(id) ^ index * 0x9E3779B1u;
}

static struct evict_item **book_place(struct evict *evict, struct object_id id, uint32_t index)
{
    struct evict_item **place = &evict->buckets[book_hash(id, index) & (evict->bucket_count - 1)];

    while (*place && ((*place)->index != index || !object_id_eq((*place)->id, id)))
        place = &(*place)->hash_next;
    return place;
}

static void book_grow(struct evict *evict)
{
    struct evict_item **old = evict->buckets;
    size_t old_count = evict->bucket_count;

    evict->bucket_count = old_count * 2;
    evict->buckets = xcalloc(evict->bucket_count, sizeof(*evict->buckets));
    for (size_t i = 0; i < old_count; i++)
        for (struct evict_item *item = old[i], *next; item; item = next) {
            struct evict_item **bucket =
                &evict->buckets[book_hash(item->id, item->index) & (evict->bucket_count - 1)];

            next = item->hash_next;
            item->hash_next = *bucket;
            *bucket = item;
        }
    free(old);
}

static void book_add(struct evict *evict, struct object_id id, uint32_t index, uint32_t length)
{
    struct evict_item **place, *item;

    SCOPED_LOCK(&evict->lock);
    place = book_place(evict, id, index);
    if (*place)
        return;
    item = *place = xcalloc(1, sizeof(*item));
    item->id = id;
    item->index = index;
    item->length = length;
    evict->bytes += length;
    evict->policy->ops->add(evict->policy, item);
    if (++evict->count > evict->bucket_count)
        book_grow(evict);
}

void evict_know(struct evict *evict, struct object_id id, const struct extent *extent)
{
    if (slab_kind_at(evict->cache->slabs, &extent->at) == SLAB_LARGE)
        book_add(evict, id, extent->index, extent->length);
}

void evict_forget(struct evict *evict, struct object_id id, uint32_t index)
{
    struct evict_item **place, *item;

    SCOPED_LOCK(&evict->lock);
    place = book_place(evict, id, index);
    item = *place;
    if (!item)
        return;
    *place = item->hash_next;
    evict->policy->ops->remove(evict->policy, item);
    evict->count--;
    evict->bytes -= item->length;
    free(item);
}

void evict_touch(struct evict *evict, struct object_id id, uint32_t index)
{
    struct evict_item *item;

    SCOPED_LOCK(&evict->lock);
    item = *book_place(evict, id, index);
    if (item)
        evict->policy->ops->use(evict->policy, item);
}

struct victim {
    struct object_id id;
    uint32_t index, length;
};

static bool evict_victim(struct evict *evict, struct victim *ret)
{
    struct evict_item *item;

    SCOPED_LOCK(&evict->lock);
    item = evict->policy->ops->victim(evict->policy);
    if (!item)
        return false;
    *ret = (struct victim){item->id, item->index, item->length};
    *book_place(evict, item->id, item->index) = item->hash_next;
    evict->count--;
    evict->bytes -= item->length;
    free(item);
    return true;
}

uint64_t cache_book_bytes(const struct device_conf *devices, unsigned count)
{
    uint64_t extents = 0;

    for (unsigned i = 0; i < count; i++)
        extents += devices[i].bytes / EXTENT_BYTES_MAX;
    return extents * (sizeof(struct evict_item) + 2 * sizeof(struct evict_item *)); /* buckets */
}

struct evict *evict_new(struct cache *cache)
{
    struct evict *evict = xcalloc(1, sizeof(*evict));

    evict->cache = cache;
    pthread_mutex_init(&evict->lock, NULL);
    evict->policy = evict_s3fifo_new();
    evict->bucket_count = 1024;
    evict->buckets = xcalloc(evict->bucket_count, sizeof(*evict->buckets));
    return evict;
}

struct evict *evict_free(struct evict *evict)
{
    if (!evict)
        return NULL;
    for (size_t i = 0; i < evict->bucket_count; i++)
        for (struct evict_item *item = evict->buckets[i], *next; item; item = next) {
            next = item->hash_next;
            free(item);
        }
    evict->policy->ops->free(evict->policy);
    pthread_mutex_destroy(&evict->lock);
    free(evict->buckets);
    free(evict);
    return NULL;
}

/* ---- the change that takes an extent ---- */

struct evict_hook {
    struct change_hook hook;
    struct object *object; /* a reference */
    uint32_t index;
    struct cell *taken; /* the object's reference; NULL: it had to stay */
    bool record;
};

static void evict_order(struct change_hook *base, struct change *change)
{
    struct evict_hook *hook = container_of(base, struct evict_hook, hook);
    struct object *object = hook->object;
    struct cell *cell;

    SCOPED_LOCK(&object->lock);
    cell = hook->index < object->cell_count ? object->cells[hook->index] : NULL;
    if (!cell || !object->rows || !object->origin.etag.len ||
        object_state_locked(object) != OBJECT_CLEAN)
        return; /* B6 */
    hook->record = object_is_located(object);
    if (hook->record) {
        change_delete_space(change, &cell->extent.at);
        object->rows = false; /* its record still says where it was: B7 */
    } else {
        change_delete_extent(change, object, &cell->extent);
    }
    object_set_cell(object, hook->index, NULL);
    hook->taken = cell;
}

/* What was filled in meanwhile goes: no row speaks of it, and what is older is still to be undone
 * (C10). */
static void evict_undo(struct evict_hook *hook)
{
    struct object *object = hook->object;
    struct cell *filled;

    SCOPED_LOCK(&object->lock);
    if (hook->record)
        object->rows = true;
    filled = object->cells[hook->index];
    object_set_cell(object, hook->index, TAKE(hook->taken));
    if (filled)
        filled->doomed = true;
    (void)cell_unref(filled);
}

/* Not every extent was taken by the book. Under the object's lock, as it is told of one anew. */
static void evict_forget_taken(struct evict_hook *hook)
{
    struct object *object = hook->object;

    SCOPED_LOCK(&object->lock);
    if (!object->cells[hook->index])
        evict_forget(object->cache->content->evict, object->id, hook->index);
}

static void evict_end(struct change_hook *base, int err)
{
    struct evict_hook *hook = container_of(base, struct evict_hook, hook);

    if (hook->taken && err < 0)
        evict_undo(hook);
    if (hook->taken && !err) {
        STAT_INC(evicted_extents);
        STAT_ADD(evicted_bytes, hook->taken->extent.length);
        hook->taken->doomed = true; /* B4: durable now; readers may still hold it */
        evict_forget_taken(hook);
        object_settled(hook->object);
    }
    hook->taken = cell_unref(hook->taken);
    hook->object = object_unref(hook->object);
    free(hook);
}

void evict_extent(struct change *change, struct object *object, uint32_t index)
{
    struct evict_hook *hook = xcalloc(1, sizeof(*hook));

    hook->hook = (struct change_hook){.order = evict_order, .end = evict_end};
    hook->object = object_ref(object);
    hook->index = index;
    change_add_hook(change, &hook->hook);
}

void object_commit_eviction(struct object *object, uint32_t index)
{
    struct change *change = change_new();

    evict_extent(change, object, index);
    commit_submit(object->cache->committer, change);
}

/* ---- keeper's thread ---- */

/* What lies where nothing is placed any more gives no room by going: it is only read from there. */
static bool victim_gives(struct object *object, uint32_t index)
{
    struct extent extent;

    return object_extent(object, index, &extent) && slab_takes(object->cache->slabs, &extent.at);
}

/* One change of up to EVICT_BATCH extents and no more bytes than needed. Number of victims, or
 * -errno. */
static int evict_batch(struct cache *cache, uint64_t need)
{
    struct evict *evict = cache->content->evict;
    struct change *change = change_new();
    struct victim victims[EVICT_BATCH];
    struct object *object;
    uint64_t bytes = 0;
    int n = 0, err = 0;

    while (!err && n < EVICT_BATCH && bytes < need && !keeper_stopping(cache->content->keeper) &&
           evict_victim(evict, &victims[n])) {
        err = object_get(cache, victims[n].id, &object);
        if (err == -ENOENT) { /* dropped since */
            err = 0;
            continue;
        }
        if (err < 0) {
            n++; /* it stays known */
            break;
        }
        if (victim_gives(object, victims[n].index)) {
            evict_extent(change, object, victims[n].index);
            bytes += victims[n++].length;
        }
        object = object_unref(object);
    }
    if (n && !err)
        err = keeper_commit(cache->content->keeper, change);
    else
        change_free(change);
    FAILPOINT("evicted");
    for (int i = 0; err < 0 && i < n; i++) /* they stay, so they stay known */
        book_add(evict, victims[i].id, victims[i].index, victims[i].length);
    return err < 0 ? err : n;
}

static uint64_t evict_book_bytes(struct evict *evict)
{
    SCOPED_LOCK(&evict->lock);

    return evict->bytes;
}

uint64_t evict_small_bytes(struct cache *cache)
{
    uint64_t clean = content_stats(cache).clean_bytes;

    return clean - MIN(clean, evict_book_bytes(cache->content->evict));
}

/* From where more clean bytes lie; from elsewhere if that gives nothing. 0: there is nothing. */
static int evict_some(struct cache *cache, uint64_t need)
{
    bool small = evict_small_bytes(cache) > evict_book_bytes(cache->content->evict);
    int n = small ? (int)compact_full(cache) : 0;

    if (n == 0)
        n = evict_batch(cache, need);
    if (n == 0 && !small)
        n = (int)compact_full(cache);
    return n ? n : (int)compact_sparse(cache);
}

/* What is still to be given back; 0: enough. When an allocation failed, something has to be. */
static uint64_t evict_need(const struct slab_space *space, bool must)
{
    uint64_t high = space->bytes / EVICT_HIGH_SHARE;

    if (space->free_bytes < high)
        return high - space->free_bytes;
    return must ? EVICT_MUST_BYTES : 0;
}

/* Until there is enough or nothing left; victims that had to stay gave nothing, so it goes on. */
void evict_run(struct cache *cache)
{
    struct content *content = cache->content;
    struct slab_space space = slab_space(cache->slabs);
    uint64_t given = slab_given(cache->slabs), cleaned = 0, need;
    bool must = atomic_exchange(&content->evict->must, false);
    int n = 1;

    while (n > 0 && !keeper_stopping(content->keeper) &&
           (need = evict_need(&space, must && slab_given(cache->slabs) == given))) {
        cleaned = content->cleaned;
        n = evict_some(cache, need);
        space = slab_space(cache->slabs);
    }
    if (n < 0)
        log_error("eviction failed", KV_ERR(n));
    if (n == 0 && must) {
        content->evict->must = true;
        content_starved(content, KEEP_EVICT, cleaned, 1);
    }
}

uint64_t evict_low_bytes(struct cache *cache)
{
    return slab_space(cache->slabs).bytes / EVICT_LOW_SHARE;
}

void evict_large(struct cache *cache)
{
    cache->content->evict->must = true;
    keeper_call(cache->content->keeper, KEEP_EVICT);
}

static void on_low(void *arg, enum slab_kind kind, bool refused)
{
    struct cache *cache = arg;

    if (kind == SLAB_LARGE) {
        evict_large(cache);
        return;
    }
    if (refused)
        cache->content->small_refused = true;
    keeper_call(cache->content->keeper, KEEP_COMPACT);
}

void evict_start(struct cache *cache)
{
    slab_on_low(cache->slabs, EVICT_LOW_SHARE, on_low, cache);
}
