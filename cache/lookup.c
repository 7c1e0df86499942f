/* cache/lookup.c - a name's durable state: from memory on the loop that asks, else from the index
 * (there too when its memory has it, else on a worker). A version known from a listing only gets
 * content to fill (a manifest of one absent object) the first time it is looked up, by a change of
 * its name: list rows themselves carry none. */
#include "cache/ask.h"
#include "cache/known.h"
#include "cache/names.h"
#include "cache/order.h"
#include "cache/snapshots.h"
#include "cache/metrics.h"

struct blob *cache_lookup_hot(struct cache *cache, const struct name *name)
{
    struct blob *blob;

    if (name->snapshot.len || name->version.len)
        return NULL;
    blob = names_get(cache, name->container, name->blob);
    if (blob && blob->state != BLOB_LIVE)
        blob = blob_unref(blob);
    if (blob)
        STAT_INC(lookups_memory);
    return blob;
}

struct lookup {
    struct cache *cache;
    uint64_t container;
    struct span name; /* owned */
    struct blob *blob;
    struct blob **ret;
    struct tx *tx;
    struct completion step, *done;
};

static void lookup_end(struct lookup *l, int err)
{
    struct completion *done = l->done;

    if (!err)
        *l->ret = TAKE(l->blob);
    blob_unref(l->blob);
    free((char *)l->name.base);
    free(l);
    completion_post(done, err);
}

static int lookup_load(void *arg) /* worker */
{
    struct lookup *l = arg;
    int err = names_load(l->cache, NULL, l->container, l->name, &l->blob);

    return err == -ENOENT ? 0 : err;
}

/* Worker: no row, but perhaps the cloud's list says it is not there. A page may have been learned
 * since there was none: its rows are never younger than its range (L3), so they are looked for
 * again. */
static int lookup_unknown(void *arg)
{
    struct lookup *l = arg;

    if (!known_absent(l->cache, l->container, l->name))
        return -ENODATA;
    return names_load(l->cache, NULL, l->container, l->name, &l->blob);
}

/* ---- content for a version that was only listed ---- */

static void opened(struct completion *done)
{
    struct lookup *l = container_of(done, struct lookup, step);
    struct blob *blob;

    blob_unref(TAKE(l->blob));
    if (done->err)
        return lookup_end(l, done->err);
    blob = names_get(l->cache, l->container, l->name);
    if (blob && blob->state == BLOB_LIVE) {
        l->blob = blob;
        return lookup_end(l, 0);
    }
    blob_unref(blob); /* changed at once again, or shed: the caller asks again */
    lookup_end(l, -ENODATA);
}

static void open_begun(struct completion *done)
{
    struct lookup *l = container_of(done, struct lookup, step);
    struct tx *tx = l->tx;

    if (done->err)
        return lookup_end(l, done->err);
    l->step.fn = opened;
    if (!tx->current || tx->current->state != BLOB_CLOUD)
        return cache_rollback(tx, &l->step);
    tx_adopt(tx, tx_cloud_blob(tx, &tx->current->record));
    cache_commit(tx, &l->step);
}

static void judge(struct lookup *l, int err)
{
    if (!err)
        err = names_judge(l->cache, l->container, l->name, l->blob);
    assert(err || l->blob);
    if (err || l->blob->state == BLOB_LIVE)
        return lookup_end(l, err);
    l->step.fn = open_begun;
    order_begin(l->cache, l->container, l->name, 0, &l->tx, &l->step);
}

static void loaded(struct completion *done)
{
    struct lookup *l = container_of(done, struct lookup, step);

    judge(l, done->err);
}

static void load_done(struct completion *done)
{
    struct lookup *l = container_of(done, struct lookup, step);

    if (!done->err && !l->blob && names_judge(l->cache, l->container, l->name, NULL) == -ENODATA) {
        l->step.fn = loaded;
        return worker_run(l->cache->workers, lookup_unknown, l, &l->step);
    }
    loaded(done);
}

void cache_lookup(struct cache *cache, const struct name *name, struct blob **ret,
                  struct completion *done)
{
    struct lookup *l;
    char *copy;

    if (name->version.len)
        return completion_post(done, -ENOENT);
    if (!name->blob.len || name->blob.len > BLOB_NAME_BYTES_MAX)
        return completion_post(done, -EINVAL);
    if (name->snapshot.len)
        return snapshot_lookup(cache, name, ret, done);
    l = xcalloc(1, sizeof(*l));
    copy = xmalloc(name->blob.len);
    memcpy(copy, name->blob.base, name->blob.len);
    *l = (struct lookup){.cache = cache,
                         .container = name->container,
                         .name = span_from(copy, name->blob.len),
                         .ret = ret,
                         .done = done,
                         .step = {.loop = done->loop}};
    l->blob = names_get(cache, name->container, name->blob);
    if (l->blob)
        return judge(l, 0);
    l->step.fn = load_done;
    l->step.err = names_load(cache, INDEX_HOT, l->container, l->name, &l->blob);
    if (l->step.err == -EAGAIN)
        return worker_run(cache->workers, lookup_load, l, &l->step);
    if (l->step.err == -ENOENT)
        l->step.err = 0;
    load_done(&l->step);
}
