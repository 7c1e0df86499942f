/* cache/names.c - the table of published versions, sharded by name: what a request is answered from
 * without leaving its loop. Any thread; a shard's lock is held for a few pointer moves only.
 *
 * An entry is the newest durable state of its name: versions, tombstones, known absence. It may be
 * shed at any time (the index has the same), oldest use first; then a lookup reads the index, from
 * memory where it stands and else on a worker, and enters what it read, unless the shard's change
 * counter has moved since before its read (N2). */
#include "cache/names.h"
#include "cache/metrics.h"

#include "base/log.h"

struct shard {
    pthread_mutex_t lock;
    struct blob **table;
    size_t room, count; /* room: a power of two */
    uint64_t changes;   /* publishes and forgets */
    size_t bytes;
    struct blob *hand; /* ring in order of entry; shed from here, used ones get another round */
};

struct names {
    struct shard shard[NAMES_SHARDS];
    size_t shard_bytes_max;
    uint64_t seed;
};

static struct shard *shard_of(struct names *names, uint64_t hash)
{
    return &names->shard[hash % NAMES_SHARDS];
}

uint64_t names_hash(const struct cache *cache, uint64_t container, struct span name)
{
    uint64_t h = container ^ cache->names->seed;

    for (size_t i = 0; i < name.len; i += 8) {
        uint64_t word = 0;

        memcpy(&word, name.base + i, MIN(name.len - i, 8));
        h = (h ^ word) * 0x9E3779B97F4A7C15ULL;
        h ^= h >> 29;
    }
    h = (h ^ name.len) * 0xBF58476D1CE4E5B9ULL;
    return h ^ (h >> 32);
}

/* ---- one shard, its lock held ---- */

static struct blob **slot_of(struct shard *shard, uint64_t hash, uint64_t container,
                             struct span name)
{
    struct blob **at = &shard->table[(hash / NAMES_SHARDS) & (shard->room - 1)];

    while (*at && !((*at)->hash == hash && (*at)->name.container == container &&
                    span_eq((*at)->name.blob, name)))
        at = &(*at)->hash_next;
    return at;
}

static void shard_grow(struct shard *shard)
{
    size_t old_room = shard->room;
    struct blob **old = shard->table, *blob, *next;

    shard->room *= 2;
    shard->table = xcalloc(shard->room, sizeof(*shard->table));
    for (size_t i = 0; i < old_room; i++)
        for (blob = old[i]; blob; blob = next) {
            struct blob **at = &shard->table[(blob->hash / NAMES_SHARDS) & (shard->room - 1)];

            next = blob->hash_next;
            blob->hash_next = *at;
            *at = blob;
        }
    free(old);
}

static void ring_add(struct shard *shard, struct blob *blob) /* behind the hand: last to be shed */
{
    if (!shard->hand) {
        shard->hand = blob->ring_next = blob->ring_prev = blob;
        return;
    }
    blob->ring_next = shard->hand;
    blob->ring_prev = shard->hand->ring_prev;
    blob->ring_prev->ring_next = blob;
    shard->hand->ring_prev = blob;
}

static void ring_remove(struct shard *shard, struct blob *blob)
{
    if (shard->hand == blob)
        shard->hand = blob->ring_next == blob ? NULL : blob->ring_next;
    blob->ring_prev->ring_next = blob->ring_next;
    blob->ring_next->ring_prev = blob->ring_prev;
}

/* Takes the entry out; the table's reference is the caller's, to drop without the lock. */
static struct blob *shard_remove(struct shard *shard, struct blob **at)
{
    struct blob *blob = *at;

    if (!blob)
        return NULL;
    *at = blob->hash_next;
    ring_remove(shard, blob);
    shard->count--;
    shard->bytes -= blob->bytes;
    STAT_GAUGE_ADD(names_bytes, -(int64_t)blob->bytes);
    return blob;
}

static void shard_enter(struct shard *shard, struct blob *blob) /* takes the reference */
{
    struct blob **at = &shard->table[(blob->hash / NAMES_SHARDS) & (shard->room - 1)];

    blob->hash_next = *at;
    *at = blob;
    ring_add(shard, blob);
    shard->bytes += blob->bytes;
    STAT_GAUGE_ADD(names_bytes, blob->bytes);
    if (++shard->count > shard->room)
        shard_grow(shard);
}

#define SHED_MAX 16 /* entries looked at per entry that comes in */
/* What left the table, to be unreferenced without the lock. Not linked through the blobs: one that
 * somebody else holds may be published again at once. */
struct shed {
    struct blob *blobs[SHED_MAX];
    unsigned count;
};

/* Sheds the oldest that nobody used since the hand last passed. */
static void shard_shed(struct shard *shard, size_t bytes_max, struct shed *ret)
{
    for (unsigned i = 0; i < SHED_MAX && shard->bytes > bytes_max && shard->count > 1; i++) {
        struct blob *blob = shard->hand;

        assert(blob);
        shard->hand = blob->ring_next;
        if (atomic_exchange_explicit(&blob->used, false, memory_order_relaxed))
            continue;
        ret->blobs[ret->count++] =
            shard_remove(shard, slot_of(shard, blob->hash, blob->name.container, blob->name.blob));
    }
}

static void shed_unref(struct shed *shed)
{
    for (unsigned i = 0; i < shed->count; i++)
        blob_unref(shed->blobs[i]);
}

/* ---- the table ---- */

struct blob *names_get(struct cache *cache, uint64_t container, struct span name)
{
    uint64_t hash = names_hash(cache, container, name);
    struct shard *shard = shard_of(cache->names, hash);
    struct blob *blob;

    SCOPED_LOCK(&shard->lock);
    blob = *slot_of(shard, hash, container, name);
    if (!blob)
        return NULL;
    atomic_store_explicit(&blob->used, true, memory_order_relaxed);
    return blob_ref(blob);
}

void names_publish(struct cache *cache, struct blob *blob)
{
    struct shard *shard = shard_of(cache->names, blob->hash);
    struct shed shed = {.count = 0};
    struct blob *old;

    pthread_mutex_lock(&shard->lock);
    shard->changes++;
    old = shard_remove(shard, slot_of(shard, blob->hash, blob->name.container, blob->name.blob));
    shard_enter(shard, blob_ref(blob));
    shard_shed(shard, cache->names->shard_bytes_max, &shed);
    pthread_mutex_unlock(&shard->lock);
    blob_unref(old);
    shed_unref(&shed);
}

void names_forget(struct cache *cache, uint64_t container, struct span name)
{
    uint64_t hash = names_hash(cache, container, name);
    struct shard *shard = shard_of(cache->names, hash);
    struct blob *old;

    pthread_mutex_lock(&shard->lock);
    shard->changes++;
    old = shard_remove(shard, slot_of(shard, hash, container, name));
    pthread_mutex_unlock(&shard->lock);
    blob_unref(old);
}

void names_forget_container(struct cache *cache, uint64_t container)
{
    for (unsigned i = 0; i < NAMES_SHARDS; i++) {
        struct shard *shard = &cache->names->shard[i];
        struct blob **gone = NULL;
        size_t n = 0, room = 0;

        pthread_mutex_lock(&shard->lock);
        shard->changes++;
        for (size_t k = 0; k < shard->room; k++)
            for (struct blob **at = &shard->table[k], *blob; (blob = *at);) {
                if (blob->name.container != container) {
                    at = &blob->hash_next;
                    continue;
                }
                if (n == room)
                    gone = xrealloc(gone, (room = room ? room * 2 : 64) * sizeof(*gone));
                gone[n++] = shard_remove(shard, at);
            }
        pthread_mutex_unlock(&shard->lock);
        while (n)
            blob_unref(gone[--n]);
        free(gone);
    }
}

/* Rows of a container that is gone stay until the reaper has been there: they never enter (N8). */
static bool container_is_there(struct cache *cache, uint64_t container)
{
    struct container *in;

    if (cache_container_by_id(cache, container, &in) < 0)
        return false;
    container_unref(in);
    return true;
}

/* Enters what was read when the counter stood at `changes`; returns what now counts (N2). */
static struct blob *names_enter(struct cache *cache, struct blob *blob, uint64_t changes)
{
    struct shard *shard = shard_of(cache->names, blob->hash);
    struct shed shed = {.count = 0};
    struct blob *there;

    pthread_mutex_lock(&shard->lock);
    there = *slot_of(shard, blob->hash, blob->name.container, blob->name.blob);
    if (there) {
        blob_ref(there);
    } else if (shard->changes == changes) {
        shard_enter(shard, blob_ref(blob));
        shard_shed(shard, cache->names->shard_bytes_max, &shed);
    }
    pthread_mutex_unlock(&shard->lock);
    shed_unref(&shed);
    if (!there)
        return blob;
    blob_unref(blob);
    return there;
}

static int fresh_checked(struct cache *cache, const struct index_view *how, struct span key,
                         struct blob **blob)
{
    struct index_value value;
    struct blob_record record = (*blob)->record;
    struct fresh_row fresh;
    struct blob *newer;
    int err = index_get(cache->index, how, FAM_FRESH, key, &value);

    if (err == -ENOENT)
        return 0;
    if (err < 0)
        return err;
    err = fresh_row_decode(value.bytes, &fresh);
    index_value_done(&value);
    if (err < 0 || fresh.etag != record.etag || fresh.checked_ns <= record.checked_ns ||
        fresh.checked_ns > clock_wall_ns())
        return 0; /* of another version, older, or from a clock that was wrong: the row says less */
    record.checked_ns = fresh.checked_ns;
    newer = blob_with_record(*blob, &record);
    blob_unref(*blob);
    *blob = newer;
    return 0;
}

static int load_once(struct cache *cache, const struct index_view *how, uint64_t container,
                     struct span name, struct blob **ret)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct index_value value;
    int err;

    key_blob(&key, container, name);
    err = index_get(cache->index, how, FAM_BLOBS, row_span(&key), &value);
    if (err)
        return err;
    err = blob_load(cache, how, container, name, value.bytes, ret);
    index_value_done(&value);
    if (!err && (*ret)->record.cloud_etag.len)
        err = fresh_checked(cache, how, row_span(&key), ret);
    if (err)
        *ret = blob_unref(*ret);
    return err == -ENOENT ? -EAGAIN : err;
}

int names_load(struct cache *cache, const struct index_view *how, uint64_t container,
               struct span name, struct blob **ret)
{
    uint64_t hash = names_hash(cache, container, name);
    struct shard *shard = shard_of(cache->names, hash);
    struct blob *blob = NULL;

    for (unsigned i = 0; i < LOAD_TRIES_MAX; i++) {
        uint64_t changes;
        int err;

        pthread_mutex_lock(&shard->lock);
        changes = shard->changes;
        pthread_mutex_unlock(&shard->lock);
        err = load_once(cache, how, container, name, &blob);
        if (err == -EAGAIN && how == INDEX_HOT)
            return err;
        if (err == -EAGAIN)
            continue;
        STAT_INC(lookups_index);
        if (!err)
            *ret = container_is_there(cache, container) ? names_enter(cache, blob, changes) : blob;
        return err;
    }
    log_error("a blob's content is missing", KV_UINT("container", container),
              KV_SPAN("blob", name));
    return -EIO;
}

/* Known absence counts for the contract's time; a time in the future is expired. */
static bool absence_counts(const struct contract *contract, const struct blob *blob)
{
    int64_t age_ns = clock_wall_ns() - blob->record.checked_ns;

    return age_ns >= 0 && (uint64_t)age_ns < contract->absent_ns;
}

int names_judge(struct cache *cache, uint64_t container, struct span name, const struct blob *blob)
{
    struct container *in;
    const struct contract *contract;
    bool in_cloud;

    if (cache_container_by_id(cache, container, &in) < 0)
        return -ENOENT;
    in_cloud = in->record.in_cloud;
    container_unref(in);
    if (blob_is_there(blob))
        return 0;
    contract = cache_contract(cache, container, name);
    if (!in_cloud || !contract || contract->write == WRITE_LOCAL)
        return -ENOENT;
    if (!blob)
        return -ENODATA;
    if (blob->state == BLOB_TOMBSTONE && !blob->confirmed)
        return -ENOENT;
    return absence_counts(contract, blob) ? -ENOENT : -ENODATA;
}

int names_open(struct cache *cache)
{
    struct names *names = xcalloc(1, sizeof(*names));

    names->seed = random_u64();
    names->shard_bytes_max =
        MAX(cache->conf.memory_tier_bytes / 4, (uint64_t)NAMES_BYTES_MIN) / NAMES_SHARDS;
    for (unsigned i = 0; i < NAMES_SHARDS; i++) {
        pthread_mutex_init(&names->shard[i].lock, NULL);
        names->shard[i].room = 64;
        names->shard[i].table = xcalloc(64, sizeof(struct blob *));
    }
    cache->names = names;
    return 0;
}

void names_close(struct cache *cache)
{
    struct names *names = TAKE(cache->names);

    if (!names)
        return;
    for (unsigned i = 0; i < NAMES_SHARDS; i++) {
        struct shard *shard = &names->shard[i];

        while (shard->hand)
            blob_unref(
                shard_remove(shard, slot_of(shard, shard->hand->hash, shard->hand->name.container,
                                            shard->hand->name.blob)));
        free(shard->table);
        pthread_mutex_destroy(&shard->lock);
    }
    free(names);
}
