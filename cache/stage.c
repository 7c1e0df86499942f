/* cache/stage.c - Put Block, and the table of uncommitted blocks (stage.h).
 *
 * The committer's thread alone changes the table, in commit order, when a change is ordered;
 * whoever reads takes the lock. A change that fails is taken out again: a failed group fails all
 * queued after it, so nothing durable was built on it. Put Block takes no name order: last one
 * ordered wins. */
#include "cache/stage.h"

#include "base/failpoint.h"
#include "base/log.h"
#include "cache/names.h"

#define STAGE_BUCKETS  16384
#define SWEEP_EVERY_NS (600 * NS_PER_SEC)
#define STAGED_TTL_NS  (7 * 24 * 3600 * NS_PER_SEC)

struct staged {
    struct object_id object;
    uint64_t length, tick;
    int64_t staged_ns;
    bool durable;
    struct staged *replaced; /* of the same id, until this one is durable */
    uint8_t id_bytes;
    char id[];
};

struct stage {
    uint64_t container, hash, generation;
    struct span blob;   /* owned */
    struct staged **at; /* in id order */
    size_t count, room;
    unsigned in_flight; /* changes that point here */
    bool gone;          /* out of the table: free when in_flight ends */
    struct stage *next;
};

struct stages {
    pthread_mutex_t lock;
    struct stage *bucket[STAGE_BUCKETS];
    size_t blocks;
    uint64_t sweep_ns; /* monotonic, when next; the keeper's */
};

/* ---- the table, lock held ---- */

static struct stage **slot_of(struct stages *stages, uint64_t hash, uint64_t container,
                              struct span blob)
{
    struct stage **at = &stages->bucket[hash % STAGE_BUCKETS];

    while (*at &&
           !((*at)->hash == hash && (*at)->container == container && span_eq((*at)->blob, blob)))
        at = &(*at)->next;
    return at;
}

static struct stage *find(struct cache *cache, uint64_t container, struct span blob)
{
    return *slot_of(cache->stages, names_hash(cache, container, blob), container, blob);
}

static struct stage *stage_new(struct cache *cache, uint64_t container, struct span blob,
                               uint64_t generation)
{
    struct stage *stage = xcalloc(1, sizeof(*stage)), **bucket;
    char *name = xmalloc(blob.len);

    memcpy(name, blob.base, blob.len);
    stage->container = container;
    stage->blob = span_from(name, blob.len);
    stage->hash = names_hash(cache, container, blob);
    stage->generation = generation;
    bucket = &cache->stages->bucket[stage->hash % STAGE_BUCKETS];
    stage->next = *bucket;
    *bucket = stage;
    return stage;
}

static void staged_free(struct staged *staged)
{
    while (staged) {
        struct staged *next = staged->replaced;

        free(staged);
        staged = next;
    }
}

static void stage_free(struct stage *stage)
{
    for (size_t i = 0; i < stage->count; i++)
        staged_free(stage->at[i]);
    free(stage->at);
    free((char *)stage->blob.base);
    free(stage);
}

static void stage_take_out(struct stages *stages, struct stage *stage)
{
    *slot_of(stages, stage->hash, stage->container, stage->blob) = stage->next;
    stage->gone = true;
    stages->blocks -= stage->count;
}

static void stage_settle(struct stages *stages,
                         struct stage *stage) /* nothing left: not a name's state */
{
    if (!stage->gone && stage->count == 0 && stage->in_flight == 0)
        stage_take_out(stages, stage);
    if (stage->gone && stage->in_flight == 0)
        stage_free(stage);
}

static struct span id_of(const struct staged *staged)
{
    return span_from(staged->id, staged->id_bytes);
}

/* Where the id is or belongs. */
static size_t place(const struct stage *stage, struct span id, bool *found)
{
    size_t low = 0, high = stage->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (span_cmp(id_of(stage->at[middle]), id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < stage->count && span_eq(id_of(stage->at[low]), id);
    return low;
}

static void enter(struct stages *stages, struct stage *stage, struct staged *staged)
{
    bool found;
    size_t i = place(stage, id_of(staged), &found);

    assert(!found || stage->at);
    if (found) {
        staged->replaced = stage->at[i];
        stage->at[i] = staged;
        return;
    }
    if (stage->count == stage->room) {
        stage->room = stage->room ? stage->room * 2 : 4;
        stage->at = xrealloc(stage->at, stage->room * sizeof(struct staged *));
    }
    memmove(stage->at + i + 1, stage->at + i, (stage->count - i) * sizeof(struct staged *));
    stage->at[i] = staged;
    stage->count++;
    if (!stage->gone)
        stages->blocks++;
}

static void take_back(struct stages *stages, struct stage *stage, struct staged *staged)
{
    bool found;
    size_t i = place(stage, id_of(staged), &found);
    struct staged **at = &stage->at[i];

    assert(found);
    while (*at != staged)
        at = &(*at)->replaced;
    *at = staged->replaced;
    if (!stage->at[i]) {
        stage->count--;
        memmove(stage->at + i, stage->at + i + 1, (stage->count - i) * sizeof(struct staged *));
        if (!stage->gone)
            stages->blocks--;
    }
    free(staged);
}

/* ---- readers ---- */

bool stage_exists(struct cache *cache, uint64_t container, struct span blob)
{
    struct stage *stage;

    SCOPED_LOCK(&cache->stages->lock);
    stage = find(cache, container, blob);
    return stage && stage->count;
}

bool stage_any_in(struct cache *cache, uint64_t container)
{
    struct stages *stages = cache->stages;

    SCOPED_LOCK(&stages->lock);
    for (unsigned i = 0; stages->blocks && i < STAGE_BUCKETS; i++)
        for (const struct stage *stage = stages->bucket[i]; stage; stage = stage->next)
            if (stage->container == container && stage->count)
                return true;
    return false;
}

bool stage_find(struct cache *cache, uint64_t container, struct span blob, struct span id,
                struct staged_block *ret)
{
    struct stage *stage;
    bool found = false;
    size_t i;

    SCOPED_LOCK(&cache->stages->lock);
    if (!(stage = find(cache, container, blob)))
        return false;
    i = place(stage, id, &found);
    if (found)
        *ret = (struct staged_block){stage->at[i]->object, stage->at[i]->length};
    return found;
}

static const struct staged *durable_of(const struct staged *staged)
{
    while (staged && !staged->durable)
        staged = staged->replaced;
    return staged;
}

int stage_list(struct cache *cache, uint64_t container, struct span blob,
               int (*row)(void *arg, const struct block_row *row), void *arg)
{
    _cleanup_(freep) char *ids = NULL;
    struct block_row *rows = NULL;
    size_t n = 0;
    int err = 0;
    struct stage *stage;

    pthread_mutex_lock(&cache->stages->lock);
    stage = find(cache, container, blob);
    if (stage && stage->count) {
        rows = xmalloc(stage->count * sizeof(*rows));
        ids = xmalloc(stage->count * BLOCK_ID_BYTES_MAX);
    }
    for (size_t i = 0; stage && i < stage->count; i++) {
        const struct staged *staged = durable_of(stage->at[i]);

        if (!staged)
            continue;
        memcpy(ids + n * BLOCK_ID_BYTES_MAX, staged->id, staged->id_bytes);
        rows[n] = (struct block_row){span_from(ids + n * BLOCK_ID_BYTES_MAX, staged->id_bytes),
                                     staged->length};
        n++;
    }
    pthread_mutex_unlock(&cache->stages->lock);
    for (size_t i = 0; i < n && !err; i++)
        err = row(arg, &rows[i]);
    free(rows);
    return err;
}

static int by_bytes(const void *a, const void *b)
{
    return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

struct span *stage_names(struct cache *cache, uint64_t container, struct span from, size_t *ret_n)
{
    struct stages *stages = cache->stages;
    struct span *names = NULL;
    size_t n = 0, room = 0;

    pthread_mutex_lock(&stages->lock);
    for (unsigned i = 0; stages->blocks && i < STAGE_BUCKETS; i++)
        for (struct stage *stage = stages->bucket[i]; stage; stage = stage->next) {
            char *copy;

            if (stage->container != container || !stage->count || span_cmp(stage->blob, from) < 0)
                continue;
            if (n == room)
                names = xrealloc(names, (room = room ? room * 2 : 16) * sizeof(*names));
            copy = xmalloc(stage->blob.len);
            memcpy(copy, stage->blob.base, stage->blob.len);
            names[n++] = span_from(copy, stage->blob.len);
        }
    pthread_mutex_unlock(&stages->lock);
    if (n)
        qsort(names, n, sizeof(*names), by_bytes);
    *ret_n = n;
    return names;
}

/* ---- Put Block ---- */

struct staging {
    struct cache *cache;
    uint64_t container;
    struct span blob; /* owned */
    struct object *object;
    struct staged *staged;
    struct stage *stage;
};

static struct staging *staging_free(struct staging *staging)
{
    object_unref(staging->object);
    free((char *)staging->blob.base);
    free(staging->staged);
    free(staging);
    return NULL;
}

static void staging_row(struct change *change, const struct staging *staging)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    const struct staged *staged = staging->staged;

    key_staged(&key, staging->container, staging->blob, staging->stage->generation, staged->tick,
               id_of(staged));
    staged_row_encode(&value, &(struct staged_row){.object = staged->object,
                                                   .length = staged->length,
                                                   .user = staged->tick,
                                                   .staged_ns = staged->staged_ns});
    change_put(change, FAM_BLOCKS, row_span(&key), row_span(&value));
}

static int staging_decide(struct change *change)
{
    struct staging *staging = change->arg;
    struct stages *stages = staging->cache->stages;
    struct stage *stage;

    if (!containers_alive_ordered(staging->cache, staging->container))
        return -ENOENT;
    SCOPED_LOCK(&stages->lock);
    stage = find(staging->cache, staging->container, staging->blob);
    if (stage && stage->count) {
        bool found;

        if (stage->at[0]->id_bytes != staging->staged->id_bytes)
            return -EINVAL;
        (void)place(stage, id_of(staging->staged), &found);
        if (!found && stage->count >= BLOCKS_STAGED_MAX)
            return -E2BIG;
    }
    if (stages->blocks >= STAGED_ALL_MAX)
        return -ENOSPC;
    if (!stage)
        stage = stage_new(staging->cache, staging->container, staging->blob, staging->staged->tick);
    enter(stages, stage, staging->staged);
    stage->in_flight++;
    staging->stage = stage;
    staging_row(change, staging);
    return 0;
}

/* A block that was put again: its row and its object's link go, in a change of their own. Until
 * then, and if this is never done, the commit or drop of the stage takes them along. */
struct unstage {
    struct cache *cache;
    uint64_t container, generation;
    struct span blob;
    struct staged *staged;
};

static void unstage_free(struct unstage *unstage)
{
    free((char *)unstage->blob.base);
    free(unstage->staged);
    free(unstage);
}

static int unstage_decide(struct change *change)
{
    struct unstage *unstage = change->arg;
    struct stage *stage;

    SCOPED_LOCK(&unstage->cache->stages->lock);
    stage = find(unstage->cache, unstage->container, unstage->blob);
    return stage && stage->generation == unstage->generation ? 0 : -ESTALE;
}

static void unstage_publish(struct change *change, uint64_t commit, int err)
{
    unstage_free(change->arg);
}

static int unstage_run(void *arg) /* worker: the object may have to be read */
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct unstage *unstage = arg;
    struct change *change;
    struct object *object;

    if (object_get(unstage->cache, unstage->staged->object, &object) < 0) {
        unstage_free(unstage);
        return 0;
    }
    change = change_new();
    change->decide = unstage_decide;
    change->publish = unstage_publish;
    change->arg = unstage;
    key_staged(&key, unstage->container, unstage->blob, unstage->generation, unstage->staged->tick,
               id_of(unstage->staged));
    change_delete(change, FAM_BLOCKS, row_span(&key));
    object_unlink(change, object, unstage->staged->tick);
    object_unref(object);
    commit_submit(unstage->cache->committer, change);
    FAILPOINT("block_unstaged");
    return 0;
}

static void unstage_later(struct staging *staging, struct staged *old)
{
    for (struct staged *next; old; old = next) {
        struct unstage *unstage = xcalloc(1, sizeof(*unstage));
        char *name = xmalloc(staging->blob.len);

        next = TAKE(old->replaced);
        memcpy(name, staging->blob.base, staging->blob.len);
        *unstage = (struct unstage){staging->cache, staging->container, staging->stage->generation,
                                    span_from(name, staging->blob.len), old};
        cache_run(staging->cache, unstage_run, unstage);
    }
}

static void staging_publish(struct change *change, uint64_t commit, int err)
{
    struct staging *staging = change->arg;
    struct stages *stages = staging->cache->stages;
    struct staged *staged = staging->staged, *old = NULL;

    pthread_mutex_lock(&stages->lock);
    if (staging->stage) {
        staging->staged = NULL; /* the table's */
        if (err) {
            take_back(stages, staging->stage, staged);
        } else {
            staged->durable = true;
            old = TAKE(staged->replaced);
            FAILPOINT("block_staged");
        }
    }
    if (old && !staging->stage->gone && !atomic_load(&staging->cache->closing))
        unstage_later(staging, old);
    else
        staged_free(old);
    if (staging->stage) {
        staging->stage->in_flight--;
        stage_settle(stages, staging->stage);
    }
    pthread_mutex_unlock(&stages->lock);
    staging_free(staging);
}

static bool of_another_type(struct cache *cache, const struct name *name)
{
    struct blob *blob = names_get(cache, name->container, name->blob);
    bool other = blob_is_there(blob) && blob->record.type != BLOB_BLOCK;

    blob_unref(blob);
    return other;
}

static struct staging *staging_new(struct cache *cache, const struct name *name, struct span id,
                                   struct object *object)
{
    struct staging *staging = xcalloc(1, sizeof(*staging));
    struct staged *staged = xcalloc(1, sizeof(*staged) + id.len);
    char *copy = xmalloc(name->blob.len);

    memcpy(copy, name->blob.base, name->blob.len);
    memcpy(staged->id, id.base, id.len);
    staged->id_bytes = (uint8_t)id.len;
    staged->object = object->id;
    staged->length = object_length(object);
    staged->tick = cache_tick(cache);
    staged->staged_ns = clock_wall_ns();
    *staging = (struct staging){.cache = cache,
                                .container = name->container,
                                .blob = span_from(copy, name->blob.len),
                                .object = object,
                                .staged = staged};
    return staging;
}

void cache_stage(struct cache *cache, const struct name *name, struct span id,
                 struct object *object, struct completion *done)
{
    struct staging *staging;
    struct change *change;
    int err = 0;

    if (!id.len || id.len > BLOCK_ID_BYTES_MAX || !name->blob.len ||
        name->blob.len > BLOB_NAME_BYTES_MAX || memchr(name->blob.base, 0, name->blob.len))
        err = -EINVAL;
    else if (of_another_type(cache, name))
        err = -EEXIST;
    if (err) {
        object_unref(object);
        return completion_post(done, err);
    }
    staging = staging_new(cache, name, id, object);
    change = change_new();
    change->decide = staging_decide;
    change->publish = staging_publish;
    change->arg = staging;
    change->done = done;
    object_link(change, object, staging->staged->tick, OBJECT_STAGED);
    tick_cover(change, cache, staging->staged->tick);
    commit_submit(cache->committer, change);
}

/* ---- the end of a stage ---- */

struct drop_hook {
    struct change_hook hook;
    struct stages *stages;
    struct stage *stage;
};

/* It failed: back the stage comes; what was staged meanwhile fails with everything queued after. */
static void drop_undo(struct stages *stages, struct stage *stage)
{
    struct stage **slot = slot_of(stages, stage->hash, stage->container, stage->blob);

    if (*slot)
        stage_take_out(stages, *slot);
    stage->next = stages->bucket[stage->hash % STAGE_BUCKETS];
    stages->bucket[stage->hash % STAGE_BUCKETS] = stage;
    stage->gone = false;
    stages->blocks += stage->count;
}

static void drop_end(struct change_hook *base, int err)
{
    struct drop_hook *hook = container_of(base, struct drop_hook, hook);
    struct stages *stages = hook->stages;

    FAILPOINT("stage_dropped");
    pthread_mutex_lock(&stages->lock);
    if (err)
        drop_undo(stages, hook->stage);
    hook->stage->in_flight--;
    stage_settle(stages, hook->stage);
    pthread_mutex_unlock(&stages->lock);
    free(hook);
}

void stage_drop(struct cache *cache, struct change *change, uint64_t container, struct span blob)
{
    _cleanup_(row_bytes_done) struct row_bytes prefix = {0};
    struct stages *stages = cache->stages;
    struct drop_hook *hook;
    struct stage *stage;

    SCOPED_LOCK(&stages->lock);
    stage = find(cache, container, blob);
    if (!stage)
        return;
    stage_take_out(stages, stage);
    stage->in_flight++; /* the hook's */
    hook = xcalloc(1, sizeof(*hook));
    *hook = (struct drop_hook){{.end = drop_end}, stages, stage};
    change_add_hook(change, &hook->hook);
    key_stage(&prefix, container, blob, stage->generation);
    reaper_add_staged(change, cache, row_span(&prefix));
}

void stage_forget_container(struct cache *cache, uint64_t container)
{
    struct stages *stages = cache->stages;

    SCOPED_LOCK(&stages->lock);
    for (unsigned i = 0; i < STAGE_BUCKETS; i++)
        for (struct stage **at = &stages->bucket[i], *stage; (stage = *at);) {
            if (stage->container != container) {
                at = &stage->next;
                continue;
            }
            stage_take_out(stages, stage);
            stage_settle(stages, stage);
        }
}

/* ---- uncommitted blocks go a time after the last one was put ---- */

struct expiry {
    struct cache *cache;
    uint64_t container, generation;
    struct span blob;    /* owned */
    struct expiry *next; /* before it is submitted */
};

static int64_t newest_ns(const struct stage *stage)
{
    int64_t newest = 0;

    for (size_t i = 0; i < stage->count; i++)
        newest = MAX(newest, stage->at[i]->staged_ns);
    return newest;
}

static bool expired(struct cache *cache, const struct stage *stage)
{
    uint64_t ttl_ns = cache->conf.staged_ttl_ns ? cache->conf.staged_ttl_ns : STAGED_TTL_NS;
    int64_t age_ns = clock_wall_ns() - newest_ns(stage);

    return stage->count && age_ns > 0 && (uint64_t)age_ns > ttl_ns;
}

static int expiry_decide(struct change *change)
{
    struct expiry *expiry = change->arg;
    struct stages *stages = expiry->cache->stages;
    struct stage *stage;
    bool still;

    pthread_mutex_lock(&stages->lock);
    stage = find(expiry->cache, expiry->container, expiry->blob);
    still = stage && stage->generation == expiry->generation && expired(expiry->cache, stage);
    pthread_mutex_unlock(&stages->lock);
    if (!still)
        return -ESTALE;
    stage_drop(expiry->cache, change, expiry->container, expiry->blob);
    return 0;
}

static void expiry_publish(struct change *change, uint64_t commit, int err)
{
    struct expiry *expiry = change->arg;

    free((char *)expiry->blob.base);
    free(expiry);
}

static struct expiry *expiry_new(struct cache *cache, const struct stage *stage)
{
    struct expiry *expiry = xcalloc(1, sizeof(*expiry));
    char *name = xmalloc(stage->blob.len);

    memcpy(name, stage->blob.base, stage->blob.len);
    *expiry = (struct expiry){.cache = cache,
                              .container = stage->container,
                              .generation = stage->generation,
                              .blob = span_from(name, stage->blob.len)};
    return expiry;
}

static struct expiry *gather_expired(struct cache *cache)
{
    struct expiry *list = NULL, *expiry;

    SCOPED_LOCK(&cache->stages->lock);
    for (unsigned i = 0; i < STAGE_BUCKETS; i++)
        for (struct stage *stage = cache->stages->bucket[i]; stage; stage = stage->next)
            if (expired(cache, stage)) {
                expiry = expiry_new(cache, stage);
                expiry->next = list;
                list = expiry;
            }
    return list;
}

void stages_sweep(struct cache *cache)
{
    uint64_t now_ns = clock_mono_ns();
    struct expiry *next;

    if (now_ns < cache->stages->sweep_ns)
        return;
    cache->stages->sweep_ns = now_ns + SWEEP_EVERY_NS;
    /* No lock while submitting: that may wait for the committer. */
    for (struct expiry *at = gather_expired(cache); at; at = next) {
        struct change *change = change_new();

        next = at->next;
        change->decide = expiry_decide;
        change->publish = expiry_publish;
        change->arg = at;
        commit_submit(cache->committer, change);
    }
}

/* ---- open and close ---- */

static int load_row(struct cache *cache, struct span key, struct span value)
{
    struct staged_row row;
    uint64_t container, generation;
    struct span blob, id;
    struct container *in;
    struct staged *staged;
    struct stage *stage;
    bool found;
    size_t i;

    if (key_staged_decode(key, &container, &blob, &generation, &id) < 0 ||
        staged_row_decode(value, &row) < 0 || id.len > BLOCK_ID_BYTES_MAX)
        return -EBADMSG;
    if (cache_container_by_id(cache, container, &in) < 0)
        return 0; /* deleted; the reaper is at it */
    container_unref(in);
    stage = find(cache, container, blob);
    if (stage && stage->generation > generation)
        return 0; /* dropped; the reaper is at it */
    if (stage && stage->generation < generation) {
        stage_take_out(cache->stages, stage);
        stage_free(stage);
        stage = NULL;
    }
    if (!stage)
        stage = stage_new(cache, container, blob, generation);
    i = place(stage, id, &found);
    assert(!found || stage->at);
    if (found && stage->at[i]->tick > row.user)
        return 0;
    staged = xcalloc(1, sizeof(*staged) + id.len);
    *staged = (struct staged){.object = row.object,
                              .length = row.length,
                              .tick = row.user,
                              .staged_ns = row.staged_ns,
                              .durable = true,
                              .id_bytes = (uint8_t)id.len};
    memcpy(staged->id, id.base, id.len);
    enter(cache->stages, stage, staged);
    staged_free(TAKE(staged->replaced));
    return 0;
}

/* A dropped generation whose rows the reaper has not reached stands in FAM_META. */
static int forget_dropped(struct cache *cache)
{
    char kind = META_DROP_BLOCKS;
    struct index_iter *iter =
        index_iter_new(cache->index, NULL, FAM_META, span_from(&kind, 1), span_from("c", 1));
    int err;

    for (; index_iter_valid(iter); index_iter_next(iter)) {
        _cleanup_(row_bytes_done) struct row_bytes key = {0};
        struct span blob, id, prefix = span_skip(index_iter_key(iter), 1);
        uint64_t container, generation;
        struct stage *stage;

        row_add(&key, prefix.base, prefix.len);
        row_add_u64(&key, 0); /* a tick: the prefix as a whole key */
        if (key_staged_decode(row_span(&key), &container, &blob, &generation, &id) < 0)
            continue;
        stage = find(cache, container, blob);
        if (stage && stage->generation == generation) {
            stage_take_out(cache->stages, stage);
            stage_free(stage);
        }
    }
    err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

int stages_open(struct cache *cache)
{
    struct index_iter *iter;
    int err = 0;

    cache->stages = xcalloc(1, sizeof(*cache->stages));
    pthread_mutex_init(&cache->stages->lock, NULL);
    iter = index_iter_new(cache->index, NULL, FAM_BLOCKS, SPAN(""), SPAN(""));
    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = load_row(cache, index_iter_key(iter), index_iter_value(iter));
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : forget_dropped(cache);
}

void stages_close(struct cache *cache)
{
    struct stages *stages = TAKE(cache->stages);

    if (!stages)
        return;
    for (unsigned i = 0; i < STAGE_BUCKETS; i++)
        while (stages->bucket[i]) {
            struct stage *stage = stages->bucket[i];

            stages->bucket[i] = stage->next;
            stage_free(stage);
        }
    pthread_mutex_destroy(&stages->lock);
    free(stages);
}
