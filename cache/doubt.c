/* cache/doubt.c - see doubt.h. One lock for the table, held for no I/O; nobody takes it while
 * nothing is marked.
 *
 * Life of a mark: 1 entered and its row submitted (cache_doubt_begin); who looks sees it from here
 * on. 2 durable: the request may leave. 3 over (cache_doubt_over): a question asked now tells the
 * outcome. 4 its row deleted by the change that learns the answer; gone when that is durable. In
 * each of them another request for the name may begin: the number is another one, 2 holds as long
 * as the row stays. */
#include "cache/doubt.h"

#include "cache/ask.h"
#include "cache/metrics.h"
#include "cache/order.h"
#include "cache/record.h"
#include "cache/uploads.h"

#define DOUBT_BUCKETS 1024

struct doubt {
    uint64_t container; /* CONTAINER_NAMES: a container, name is account and name */
    struct span name;   /* behind it */
    uint32_t account;
    uint64_t number;
    bool durable, over;
    struct doubt *next;
};

struct doubts {
    pthread_mutex_t lock;
    _Atomic unsigned count;
    uint64_t numbers;
    struct doubt *bucket[DOUBT_BUCKETS];
};

/* ---- the table, lock held ---- */

static struct doubt **slot_of(struct doubts *doubts, uint64_t container, struct span name)
{
    uint64_t h = 0xCBF29CE484222325ULL ^ container;
    struct doubt **at;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (uint8_t)name.base[i]) * 0x100000001B3ULL;
    at = &doubts->bucket[(h ^ h >> 32) % DOUBT_BUCKETS];
    while (*at && !((*at)->container == container && span_eq((*at)->name, name)))
        at = &(*at)->next;
    return at;
}

static struct doubt *enter(struct doubts *doubts, uint64_t container, struct span name,
                           uint32_t account)
{
    struct doubt **slot = slot_of(doubts, container, name), *doubt;

    assert(!*slot);
    doubt = xcalloc(1, sizeof(*doubt) + name.len);
    doubt->container = container;
    doubt->name = span_from((char *)(doubt + 1), name.len);
    memcpy(doubt + 1, name.base, name.len);
    doubt->account = account;
    *slot = doubt;
    atomic_fetch_add(&doubts->count, 1);
    STAT_GAUGE_ADD(doubts, 1);
    return doubt;
}

static void leave(struct doubts *doubts, struct doubt **slot)
{
    struct doubt *doubt = *slot;

    *slot = doubt->next;
    free(doubt);
    atomic_fetch_sub(&doubts->count, 1);
    STAT_GAUGE_ADD(doubts, -1);
}

/* ---- names as the tables of the engine have them ---- */

struct doubt_key {
    struct row_bytes bytes; /* of a container's name */
    uint64_t container;
    struct span name;
};

static void doubt_key_done(struct doubt_key *key)
{
    row_bytes_done(&key->bytes);
}

static struct doubt_key key_of(const struct doubtful *of)
{
    struct doubt_key key = {.container = of->container, .name = of->name};

    if (of->container)
        return key;
    key_container(&key.bytes, of->account, of->name);
    key.container = CONTAINER_NAMES;
    key.name = row_span(&key.bytes);
    return key;
}

/* ---- marking ---- */

struct marking {
    struct cache *cache;
    uint64_t container, number;
    struct span name;
};

static void marking_ended(struct change *change, uint64_t commit, int err)
{
    struct marking *m = change->arg;
    struct doubts *doubts = m->cache->doubts;
    struct doubt **slot;

    pthread_mutex_lock(&doubts->lock);
    slot = slot_of(doubts, m->container, m->name);
    if (*slot && (*slot)->number == m->number && err)
        leave(doubts, slot);
    else if (*slot && (*slot)->number == m->number)
        (*slot)->durable = true;
    pthread_mutex_unlock(&doubts->lock);
    free(m);
}

static void submit_mark(struct cache *cache, const struct doubt_key *key, uint32_t account,
                        uint64_t number, struct completion *done)
{
    _cleanup_(row_bytes_done) struct row_bytes row_key = {0}, value = {0};
    struct marking *m = xcalloc(1, sizeof(*m) + key->name.len);
    struct change *change = change_new();

    *m = (struct marking){cache, key->container, number, span_from((char *)(m + 1), key->name.len)};
    memcpy(m + 1, key->name.base, key->name.len);
    key_doubt(&row_key, key->container, key->name);
    doubt_row_encode(&value, &(struct doubt_row){account, clock_wall_ns()});
    change_put(change, FAM_META, row_span(&row_key), row_span(&value));
    change->publish = marking_ended;
    change->arg = m;
    change->done = done;
    commit_submit(cache->committer, change);
}

void cache_doubt_begin(struct cache *cache, const struct doubtful *of, struct completion *done)
{
    _cleanup_(doubt_key_done) struct doubt_key key = key_of(of);
    struct doubts *doubts = cache->doubts;
    struct doubt *doubt;
    uint64_t number = 0;

    pthread_mutex_lock(&doubts->lock);
    doubt = *slot_of(doubts, key.container, key.name);
    if (!doubt && atomic_load(&doubts->count) < DOUBTS_MAX)
        doubt = enter(doubts, key.container, key.name, of->account);
    if (doubt) {
        doubt->number = ++doubts->numbers;
        doubt->over = false;
        number = doubt->durable ? 0 : doubt->number;
    }
    pthread_mutex_unlock(&doubts->lock);
    if (!doubt)
        completion_post(done, -EBUSY);
    else if (number)
        submit_mark(cache, &key, of->account, number, done);
    else
        completion_post(done, 0);
}

uint64_t cache_doubt_over(struct cache *cache, const struct doubtful *of)
{
    _cleanup_(doubt_key_done) struct doubt_key key = key_of(of);
    struct doubts *doubts = cache->doubts;
    struct doubt *doubt;
    uint64_t number = 0;

    pthread_mutex_lock(&doubts->lock);
    doubt = *slot_of(doubts, key.container, key.name);
    if (doubt) {
        number = doubt->number = ++doubts->numbers;
        doubt->over = true;
    }
    pthread_mutex_unlock(&doubts->lock);
    asks_changed(cache, of->container ? of->container : ASK_CONTAINERS, key.name);
    return number;
}

uint64_t cache_doubt(struct cache *cache, const struct doubtful *of)
{
    struct doubts *doubts = cache->doubts;
    const struct doubt *doubt;

    if (!atomic_load_explicit(&doubts->count, memory_order_relaxed))
        return 0;
    {
        _cleanup_(doubt_key_done) struct doubt_key key = key_of(of);
        SCOPED_LOCK(&doubts->lock);

        doubt = *slot_of(doubts, key.container, key.name);
        return doubt ? doubt->number : 0;
    }
}

bool cache_uploads_of(struct cache *cache, const struct doubtful *of, struct span container)
{
    return uploads_have(cache, of->account, container) ||
           (of->container && uploads_have(cache, of->container, of->name));
}

/* ---- lifting ---- */

static bool order_lift(struct cache *cache, struct change *change, uint64_t container,
                       struct span name, uint64_t number, bool over)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct doubts *doubts = cache->doubts;
    struct doubt *doubt;

    SCOPED_LOCK(&doubts->lock);
    doubt = *slot_of(doubts, container, name);
    if (!doubt || doubt->number != number || (over && !doubt->over))
        return false;
    doubt->durable = false; /* who begins again from here on writes the row again, behind this */
    key_doubt(&key, container, name);
    change_delete(change, FAM_META, row_span(&key));
    return true;
}

bool doubts_order_lift(struct cache *cache, struct change *change, uint64_t container,
                       struct span name, uint64_t number)
{
    return order_lift(cache, change, container, name, number, true);
}

void doubts_lifted(struct cache *cache, uint64_t container, struct span name, uint64_t number,
                   int err)
{
    struct doubts *doubts = cache->doubts;
    struct doubt **slot;

    if (err)
        return; /* it stands, its row perhaps: the next one to begin writes it */
    SCOPED_LOCK(&doubts->lock);
    slot = slot_of(doubts, container, name);
    if (*slot && (*slot)->number == number)
        leave(doubts, slot);
}

struct lifting {
    struct cache *cache;
    uint64_t container, number;
    struct span name;
    bool over;
    struct completion *done;
};

static int lifting_decide(struct change *change)
{
    struct lifting *l = change->arg;

    return order_lift(l->cache, change, l->container, l->name, l->number, l->over) ? 0 : -ESTALE;
}

static void lifting_ended(struct change *change, uint64_t commit, int err)
{
    struct lifting *l = change->arg;

    doubts_lifted(l->cache, l->container, l->name, l->number, err);
    if (l->done)
        completion_post(l->done, err == -ESTALE ? 0 : err);
    free(l);
}

void doubts_lift_alone(struct cache *cache, uint64_t container, struct span name, uint64_t number,
                       bool over, struct completion *done)
{
    struct lifting *l = xcalloc(1, sizeof(*l) + name.len);
    struct change *change = change_new();

    *l = (struct lifting){cache, container, number, span_from((char *)(l + 1), name.len),
                          over,  done};
    memcpy(l + 1, name.base, name.len);
    change->decide = lifting_decide;
    change->publish = lifting_ended;
    change->arg = l;
    commit_submit(cache->committer, change);
}

void cache_doubt_drop(struct cache *cache, const struct doubtful *of)
{
    _cleanup_(doubt_key_done) struct doubt_key key = key_of(of);
    uint64_t number = cache_doubt(cache, of);

    if (number)
        doubts_lift_alone(cache, key.container, key.name, number, false, NULL);
}

/* ---- all of them ---- */

int cache_doubts(struct cache *cache, uint32_t account,
                 void (*each)(void *arg, const struct doubtful *of), void *arg)
{
    struct doubts *doubts = cache->doubts;
    int n = 0;

    SCOPED_LOCK(&doubts->lock);
    for (unsigned i = 0; i < DOUBT_BUCKETS; i++)
        for (const struct doubt *at = doubts->bucket[i]; at; at = at->next) {
            struct doubtful of = {
                .account = at->account, .container = at->container, .name = at->name};

            if (at->account != account)
                continue;
            if (at->container == CONTAINER_NAMES) {
                of.container = 0;
                of.name = span_skip(at->name, 4);
            }
            each(arg, &of);
            n++;
        }
    return n;
}

static int load_one(struct doubts *doubts, struct span key, struct span value)
{
    struct doubt_row row;
    struct doubt *doubt;
    struct span name;
    uint64_t container;

    if (key_doubt_decode(key, &container, &name) < 0 || doubt_row_decode(value, &row) < 0)
        return -EBADMSG;
    doubt = enter(doubts, container, name, row.account);
    doubt->number = ++doubts->numbers;
    doubt->durable = true;
    return 0;
}

int doubts_open(struct cache *cache)
{
    static const char kind = META_DOUBT, end = META_DOUBT + 1;
    struct index_iter *iter;
    int err = 0;

    cache->doubts = xcalloc(1, sizeof(*cache->doubts));
    pthread_mutex_init(&cache->doubts->lock, NULL);
    iter = index_iter_new(cache->index, NULL, FAM_META, span_from(&kind, 1), span_from(&end, 1));
    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = load_one(cache->doubts, index_iter_key(iter), index_iter_value(iter));
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

void doubts_close(struct cache *cache)
{
    struct doubts *doubts = TAKE(cache->doubts);

    if (!doubts)
        return;
    for (unsigned i = 0; i < DOUBT_BUCKETS; i++)
        while (doubts->bucket[i])
            leave(doubts, &doubts->bucket[i]);
    pthread_mutex_destroy(&doubts->lock);
    free(doubts);
}
