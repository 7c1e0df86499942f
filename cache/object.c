/* cache/object.c - objects in memory by id: one struct per object however many refer to it, found
 * in a sharded table or made from its rows. Any thread; object_get and object_get_record may read
 * the index.
 *
 * A struct may be made from rows only if they are what a struct that was in memory until now would
 * say. The interleaving that must not happen, and what stops it: 1 A finds no struct and reads the
 * rows. 2 B makes the struct, a change through it alters the rows and is applied, B drops it. 3 A
 * inserts what it read in 1: stale. A change holds a reference until it is applied, so a struct
 * that leaves the table has nothing under way; and a shard counts what leaves it: in 3 the count
 * differs from 1, A reads again. */
#include "cache/content.h"

/* ---- cells ---- */

_Atomic int slot_mutant = SLOT_BY_S5;

struct cell *cell_new(struct slab_store *slabs, const struct extent *extent)
{
    struct cell *cell = xcalloc(1, sizeof(*cell));

    cell->refs = 1;
    cell->slabs = slabs;
    cell->extent = *extent;
    return cell;
}

struct cell *cell_ref(struct cell *cell)
{
    atomic_fetch_add_explicit(&cell->refs, 1, memory_order_relaxed);
    return cell;
}

static void cell_give(struct cell *cell)
{
    if (!atomic_exchange(&cell->given, true))
        slab_free(cell->slabs, &cell->extent.at, cell->extent.length);
}

struct cell *cell_unref(struct cell *cell)
{
    if (!cell || atomic_fetch_sub(&cell->refs, 1) != 1)
        return NULL;
    if (cell->doomed)
        cell_give(cell); /* B4 */
    free(cell);
    return NULL;
}

void cell_mutant(struct cell *cell, enum slot_mutant when)
{
    if (cell && atomic_load_explicit(&slot_mutant, memory_order_relaxed) == (int)when)
        cell_give(cell);
}

bool cell_takes_units(const struct cell *cell)
{
    return slab_kind_at(cell->slabs, &cell->extent.at) == SLAB_LARGE &&
           slab_takes(cell->slabs, &cell->extent.at);
}

/* ---- identity and the table ---- */

bool object_id_eq(struct object_id a, struct object_id b)
{
    return a.node == b.node && a.epoch == b.epoch && a.counter == b.counter;
}

uint64_t object_id_hash(struct object_id id)
{
    uint64_t h = id.counter ^ ((uint64_t)id.epoch << 40) ^ ((uint64_t)id.node << 52);

    h *= 0x9E3779B97F4A7C15ULL;
    return h ^ h >> 29;
}

struct object_id object_id_next(struct cache *cache)
{
    return (struct object_id){.node = slab_super(cache->slabs)->node,
                              .epoch = commit_epoch(cache->committer),
                              .counter = atomic_fetch_add(&cache->content->counter, 1)};
}

static struct object_shard *table_shard(struct cache *cache, struct object_id id)
{
    return &cache->content->shards[object_id_hash(id) % TABLE_SHARDS];
}

static struct object **table_place(struct object_shard *shard, struct object_id id)
{
    struct object **place = &shard->bucket[object_id_hash(id) / TABLE_SHARDS % TABLE_BUCKETS];

    while (*place && !object_id_eq((*place)->id, id))
        place = &(*place)->table_next;
    return place;
}

static struct object *object_alloc(struct cache *cache, struct object_id id)
{
    struct object *object = xcalloc(1, sizeof(*object));

    object->refs = 1;
    object->cache = cache;
    object->id = id;
    pthread_mutex_init(&object->lock, NULL);
    return object;
}

static void object_destroy(struct object *object)
{
    assert(!object->fills);
    for (unsigned i = 0; i < object->cell_count; i++) {
        if (object->cells[i] && !object->rows)
            object->cells[i]->doomed = true; /* B4: nothing durable refers to the slot */
        object->cells[i] = cell_unref(object->cells[i]);
    }
    free(object->cells);
    free(object->links);
    object_set_origin(object, NULL);
    pthread_mutex_destroy(&object->lock);
    free(object);
}

struct object *object_ref(struct object *object)
{
    atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
    return object;
}

/* The last reference goes under the shard's lock, so that object_find cannot revive what is going.
 */
struct object *object_unref(struct object *object)
{
    struct object_shard *shard;
    uint32_t refs;
    bool last;

    if (!object)
        return NULL;
    refs = atomic_load(&object->refs);
    while (refs > 1)
        if (atomic_compare_exchange_weak(&object->refs, &refs, refs - 1))
            return NULL;
    shard = table_shard(object->cache, object->id);
    pthread_mutex_lock(&shard->lock);
    last = atomic_fetch_sub(&object->refs, 1) == 1;
    if (last) {
        *table_place(shard, object->id) = object->table_next;
        shard->moved++;
    }
    pthread_mutex_unlock(&shard->lock);
    if (last)
        object_destroy(object);
    return NULL;
}

struct object *object_find(struct cache *cache, struct object_id id)
{
    struct object_shard *shard = table_shard(cache, id);
    struct object *object;

    SCOPED_LOCK(&shard->lock);
    object = *table_place(shard, id);
    return object ? object_ref(object) : NULL;
}

/* Puts a struct into the table; NULL when rows may have changed since `moved` was read, else the
 * struct to use: the given one or, then the given one is dropped, the one that was there first. */
static struct object *table_insert(struct object *object, uint64_t moved)
{
    struct object_shard *shard = table_shard(object->cache, object->id);
    struct object **place, *use;

    pthread_mutex_lock(&shard->lock);
    place = table_place(shard, object->id);
    if (*place) {
        use = object_ref(*place);
    } else if (shard->moved != moved) {
        use = NULL;
    } else {
        use = *place = object;
    }
    pthread_mutex_unlock(&shard->lock);
    if (use != object) {
        object->rows = true; /* a copy of what others own: its slots stay */
        object_destroy(object);
    }
    return use;
}

static uint64_t table_moved(struct cache *cache, struct object_id id)
{
    struct object_shard *shard = table_shard(cache, id);

    SCOPED_LOCK(&shard->lock);
    return shard->moved;
}

/* Ids are never used twice: no rows, no other struct, so nothing that moves meanwhile matters. */
static struct object *table_insert_new(struct object *object)
{
    struct object_shard *shard = table_shard(object->cache, object->id);
    struct object **place;

    SCOPED_LOCK(&shard->lock);
    place = table_place(shard, object->id);
    assert(!*place);
    return *place = object;
}

/* ---- objects that are new ---- */

static struct span span_copy(struct span s)
{
    char *copy = s.len ? xmalloc(s.len) : NULL;

    if (copy)
        memcpy(copy, s.base, s.len);
    return (struct span){copy, s.len};
}

struct object_origin origin_copy(const struct object_origin *origin)
{
    return (struct object_origin){.container = origin->container,
                                  .blob = span_copy(origin->blob),
                                  .etag = span_copy(origin->etag),
                                  .offset = origin->offset};
}

void origin_done(struct object_origin *origin)
{
    free((void *)origin->blob.base);
    free((void *)origin->etag.base);
    *origin = (struct object_origin){0};
}

void object_set_origin(struct object *object, const struct object_origin *origin)
{
    origin_done(&object->origin);
    if (origin)
        object->origin = origin_copy(origin);
}

static void object_room(struct object *object, unsigned cells)
{
    if (cells <= object->cell_count)
        return;
    object->cells = xrealloc(object->cells, cells * sizeof(struct cell *));
    memset(object->cells + object->cell_count, 0,
           (cells - object->cell_count) * sizeof(struct cell *));
    object->cell_count = cells;
}

void object_set_cell(struct object *object, unsigned index, struct cell *cell)
{
    struct cell *old = object->cells[index];

    object->cell_bytes += cell ? cell->extent.length : 0;
    object->cell_bytes -= old ? old->extent.length : 0;
    object->cells[index] = cell;
}

static unsigned extents_of(uint64_t length)
{
    return (unsigned)((length + EXTENT_BYTES_MAX - 1) / EXTENT_BYTES_MAX);
}

struct object *object_new(struct cache *cache, struct object_id id)
{
    return table_insert_new(object_alloc(cache, id));
}

void object_add_extent(struct object *object, const struct extent *extent)
{
    SCOPED_LOCK(&object->lock);
    assert(extent->index == object->cell_count);
    object_room(object, extent->index + 1);
    object_set_cell(object, extent->index, cell_new(object->cache->slabs, extent));
    object->length += extent->length;
}

struct object *object_new_cloud(struct cache *cache, uint64_t length, uint64_t container,
                                struct span blob, struct span etag)
{
    struct object *object = object_alloc(cache, object_id_next(cache));

    assert(etag.len);
    object->length = length;
    object_room(object, extents_of(length));
    object_set_origin(object,
                      &(struct object_origin){.container = container, .blob = blob, .etag = etag});
    return table_insert_new(object);
}

/* ---- objects from their rows ---- */

static int object_take_row(struct object *object, enum object_row row, uint64_t number,
                           struct span value)
{
    struct extent extent;
    int err;

    switch (row) {
    case ROW_OBJECT:
        err = object_row_decode(value, object);
        if (err < 0)
            return err;
        object->rows = true;
        object_room(object, extents_of(object->length));
        return 0;
    case ROW_EXTENT:
        err = extent_row_decode(value, &extent);
        if (err < 0 || number >= object->cell_count)
            return -EBADMSG;
        extent.index = (uint32_t)number;
        object_set_cell(object, (unsigned)number, cell_new(object->cache->slabs, &extent));
        return 0;
    case ROW_LINK:
        if (value.len != 1 || (uint8_t)value.base[0] > OBJECT_SOLE)
            return -EBADMSG;
        object_add_link(object, number, (enum object_state)value.base[0]);
        return 0;
    }
    return -EBADMSG;
}

static int object_read_rows(struct object *object)
{
    struct object_key from = object_prefix(object->id);
    struct object_id next = {object->id.node, object->id.epoch, object->id.counter + 1};
    struct object_key to = object_prefix(next);
    struct index_iter *iter = index_iter_new(object->cache->index, NULL, FAM_OBJECTS,
                                             object_key_span(&from), object_key_span(&to));
    int err = 0;

    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        struct object_id id;
        enum object_row row;
        uint64_t number;

        err = object_key_decode(index_iter_key(iter), &id, &row, &number);
        if (!err)
            err = object_take_row(object, row, number, index_iter_value(iter));
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : object->rows ? 0 : -ENOENT;
}

/* What the rows count for in content_stats already. */
static void object_count_as_read(struct object *object)
{
    object->counted = object_state_locked(object);
    object->counted_bytes = object->cell_bytes;
    object->known = object_evictable(object);
}

int object_get(struct cache *cache, struct object_id id, struct object **ret)
{
    struct object *object;
    uint64_t moved;
    int err;

    do {
        moved = table_moved(cache, id);
        object = object_find(cache, id);
        if (object)
            break;
        object = object_alloc(cache, id);
        err = object_read_rows(object);
        if (err < 0) {
            object->rows = true; /* what was read of it belongs to nobody here */
            object_destroy(object);
            return err;
        }
        object_count_as_read(object);
        object = table_insert(object, moved);
    } while (!object);
    *ret = object;
    return 0;
}

/* The place that a record names may be another's by now: its space row says whose, and in which
 * state the body is (B3, B7). */
static int record_body_present(struct cache *cache, const struct index_view *view,
                               const struct record_body *body, bool *ret,
                               enum object_state *ret_state)
{
    struct index_value value = {0};
    struct space_row row;
    char key[SPACE_KEY_BYTES];
    int err;

    space_key_encode(&body->extent.at, key);
    err = index_get(cache->index, view, FAM_SPACE, (struct span){key, sizeof(key)}, &value);
    if (err < 0 && err != -ENOENT)
        return err;
    *ret = !err && !space_row_decode((struct span){key, sizeof(key)}, value.bytes, &row) &&
           row.kind == SPACE_RECORD && object_id_eq(row.id, body->id) &&
           row.at.generation == body->extent.at.generation;
    *ret_state = *ret ? row.state : body->state;
    if (!err)
        index_value_done(&value);
    return 0;
}

static struct object *object_of_record(struct cache *cache, const struct record_body *body,
                                       bool present, enum object_state state)
{
    struct object *object = object_alloc(cache, body->id);

    object->length = body->extent.length;
    object->crc64 = body->crc64;
    object->has_crc64 = object->small = true;
    object_room(object, 1);
    object_add_link(object, LINK_RECORD, state);
    object_set_origin(object, &body->origin);
    object->rows = present;
    if (present)
        object_set_cell(object, 0, cell_new(cache->slabs, &body->extent));
    object_count_as_read(object);
    return object;
}

int object_get_record(struct cache *cache, const struct index_view *view,
                      const struct record_body *body, struct object **ret)
{
    struct object *object;
    enum object_state state;
    bool present;

    assert(body->extent.length && body->extent.length <= UNIT_BYTES);
    do {
        uint64_t moved = table_moved(cache, body->id);
        int err;

        object = object_find(cache, body->id);
        if (object)
            break;
        err = record_body_present(cache, view, body, &present, &state);
        if (err < 0)
            return err;
        object = table_insert(object_of_record(cache, body, present, state), moved);
    } while (!object);
    *ret = object;
    return 0;
}

/* ---- what others ask ---- */

uint64_t object_length(const struct object *object)
{
    return object->length;
}

uint64_t object_crc64(const struct object *object)
{
    return object->crc64;
}

void object_id_bytes(const struct object *object, unsigned char ret[OBJECT_ID_BYTES])
{
    struct object_key key = object_prefix(object->id);

    memcpy(ret, key.bytes, OBJECT_ID_BYTES);
}

bool object_extent(struct object *object, unsigned index, struct extent *ret)
{
    SCOPED_LOCK(&object->lock);
    if (index >= object->cell_count || !object->cells[index])
        return false;
    *ret = object->cells[index]->extent;
    return true;
}

bool object_placed(struct object *object, struct extent *ret)
{
    SCOPED_LOCK(&object->lock);
    if (!object->cells[0] || (object->link_count && !object->rows))
        return false;
    *ret = object->cells[0]->extent;
    return true;
}

enum object_state object_state(struct object *object)
{
    SCOPED_LOCK(&object->lock);
    return object_state_locked(object);
}
