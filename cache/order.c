/* cache/order.c - changes of one name go one at a time from begin to queued, in the order they came
 * (N1). What is queued and not durable yet is what the next one is judged on; a change whose ground
 * has failed is refused (N3).
 *
 * Turn of a tx:  order_begin -> [waiting] -> granted: current is found, begun is posted -> the
 * owner judges -> order_queued (pending is set) -> commit_submit -> order_leave -> ... order_ended,
 * or order_await_rest without a change. Any thread; one lock per shard of names, never held across
 * a call out of this file. */
#include "cache/order.h"

#include "cache/names.h"
#include "cache/parts.h"
#include "cache/metrics.h"

struct rest { /* a rollback waiting for the change it rests on */
    uint64_t serial;
    struct completion *done;
    struct rest *next;
};

struct order {
    uint64_t container, hash;
    struct span name; /* owned */
    struct order *next;
    struct tx *active, *waiting, **waiting_tail;
    unsigned waiting_count, in_flight;
    uint64_t serial, agreed, failed; /* newest queued; newest decided; newest that failed */
    uint64_t newest; /* the queued change whose outcome `pending` is; 0: durable state counts */
    struct blob *pending; /* NULL: nothing */
    bool pending_unknown; /* nothing here, that is */
    struct container *pending_container;
    struct rest *rests;
};

struct order_shard {
    pthread_mutex_t lock;
    struct order *table[ORDER_BUCKETS];
};

struct orders {
    struct order_shard shard[ORDER_SHARDS];
};

int orders_open(struct cache *cache)
{
    cache->orders = xcalloc(1, sizeof(*cache->orders));
    for (unsigned i = 0; i < ORDER_SHARDS; i++)
        pthread_mutex_init(&cache->orders->shard[i].lock, NULL);
    return 0;
}

void orders_close(struct cache *cache) /* nothing is under way any more */
{
    struct orders *orders = TAKE(cache->orders);

    if (!orders)
        return;
    for (unsigned i = 0; i < ORDER_SHARDS; i++)
        pthread_mutex_destroy(&orders->shard[i].lock);
    free(orders);
}

static struct order_shard *shard_of(struct cache *cache, uint64_t hash)
{
    return &cache->orders->shard[hash % ORDER_SHARDS];
}

static struct order **slot_of(struct order_shard *shard, uint64_t hash, uint64_t container,
                              struct span name)
{
    struct order **at = &shard->table[(hash / ORDER_SHARDS) % ORDER_BUCKETS];

    while (*at &&
           !((*at)->hash == hash && (*at)->container == container && span_eq((*at)->name, name)))
        at = &(*at)->next;
    return at;
}

static struct span span_dup(struct span s)
{
    char *copy = xmalloc(s.len);

    if (s.len)
        memcpy(copy, s.base, s.len);
    return span_from(copy, s.len);
}

static struct order *order_new(uint64_t hash, uint64_t container, struct span name)
{
    struct order *order = xcalloc(1, sizeof(*order));

    order->container = container;
    order->hash = hash;
    order->name = span_dup(name);
    order->waiting_tail = &order->waiting;
    return order;
}

static void order_free_idle(struct order_shard *shard, struct order *order) /* lock held */
{
    struct order **at;

    if (order->active || order->waiting || order->in_flight)
        return;
    assert(!order->rests && !order->pending && !order->pending_container);
    at = slot_of(shard, order->hash, order->container, order->name);
    assert(*at == order);
    *at = order->next;
    free((char *)order->name.base);
    free(order);
}

struct tx *tx_free(struct tx *tx)
{
    if (!tx)
        return NULL;
    blob_unref(tx->current);
    container_unref(tx->current_container);
    blob_unref(tx->blob);
    blob_unref(tx->snapshot);
    container_unref(tx->described);
    change_free(tx->change);
    parts_unref(tx->parts);
    free(tx->resolving);
    free((char *)tx->name.base);
    free(tx);
    return NULL;
}

/* ---- the grant ---- */

static void grant_post(struct tx *tx, int err)
{
    struct completion *begun = tx->begun;

    if (!err)
        *tx->ret = tx;
    completion_post(begun, err);
}

/* On begun's loop: until there waiting_cancel may come and look at the tx. */
static void grant_failed(struct completion *unread)
{
    struct tx *tx = container_of(unread, struct tx, unread);
    struct completion *begun = tx->begun;
    int err = unread->err;

    order_leave(tx);
    tx_free(tx);
    completion_post(begun, err);
}

static int grant_load(void *arg) /* worker */
{
    struct tx *tx = arg;
    int err = names_load(tx->cache, NULL, tx->container, tx->name, &tx->current);

    if (err == -ENOENT)
        err = 0;
    if (err) {
        tx->unread = (struct completion){.fn = grant_failed, .loop = tx->begun->loop};
        completion_post(&tx->unread, err);
        return 0;
    }
    grant_post(tx, 0);
    return 0;
}

/* The turn is the tx's; no lock held. */
static void grant(struct tx *tx)
{
    struct order_shard *shard = shard_of(tx->cache, tx->hash);
    struct order *order = tx->order;
    bool rests;
    int err = 0;

    pthread_mutex_lock(&shard->lock);
    rests = order->newest;
    if (rests) {
        tx->rests_on = order->serial;
        tx->rests_unknown = order->pending_unknown;
        tx->current = order->pending ? blob_ref(order->pending) : NULL;
        tx->current_container =
            order->pending_container ? container_ref(order->pending_container) : NULL;
    }
    pthread_mutex_unlock(&shard->lock);
    if (rests)
        return grant_post(tx, 0);
    if (tx->container == CONTAINER_NAMES)
        tx->current_container = containers_get(tx->cache, tx->account, span_skip(tx->name, 4));
    else if (!(tx->current = names_get(tx->cache, tx->container, tx->name)))
        err = names_load(tx->cache, INDEX_HOT, tx->container, tx->name, &tx->current);
    if (err && err != -ENOENT)
        return cache_run(tx->cache, grant_load, tx);
    grant_post(tx, 0);
}

/* ---- begin ---- */

static void waiting_cancel(struct completion *done)
{
    struct tx *tx = done->callee, **at;
    struct order_shard *shard = shard_of(tx->cache, tx->hash);
    bool found = false;

    pthread_mutex_lock(&shard->lock);
    for (at = &tx->order->waiting; *at && !found; at = found ? at : &(*at)->next)
        if (*at == tx) {
            *at = tx->next;
            if (tx->order->waiting_tail == &tx->next)
                tx->order->waiting_tail = at;
            tx->order->waiting_count--;
            found = true;
        }
    pthread_mutex_unlock(&shard->lock);
    if (!found)
        return; /* granted meanwhile: its completion is on the way, the owner rolls back */
    tx_free(tx);
    completion_post(done, -ECANCELED);
}

static bool order_join(struct tx *tx, int *err) /* true: the turn is its own at once */
{
    struct order_shard *shard = shard_of(tx->cache, tx->hash);
    struct order **at;
    bool free_now;

    SCOPED_LOCK(&shard->lock);
    at = slot_of(shard, tx->hash, tx->container, tx->name);
    if (!*at)
        *at = order_new(tx->hash, tx->container, tx->name);
    tx->order = *at;
    free_now = !(*at)->active;
    if (free_now) {
        (*at)->active = tx;
    } else if ((*at)->waiting_count == NAME_WAITING_MAX) {
        *err = -EBUSY;
    } else {
        tx->begun->callee = tx;
        tx->begun->cancel = waiting_cancel;
        *(*at)->waiting_tail = tx;
        (*at)->waiting_tail = &tx->next;
        (*at)->waiting_count++;
        STAT_INC(name_turns_waited);
    }
    return free_now;
}

void order_begin(struct cache *cache, uint64_t container, struct span name, uint32_t account,
                 struct tx **ret, struct completion *done)
{
    struct tx *tx = xcalloc(1, sizeof(*tx));
    int err = 0;

    tx->cache = cache;
    tx->container = container;
    tx->account = account;
    tx->name = span_dup(name);
    tx->hash = names_hash(cache, container, name);
    tx->ret = ret;
    tx->begun = done;
    if (order_join(tx, &err))
        return grant(tx);
    if (err) {
        tx_free(tx);
        completion_post(done, err);
    }
}

/* ---- leaving ---- */

void order_leave(struct tx *tx)
{
    struct order_shard *shard = shard_of(tx->cache, tx->hash);
    struct order *order = tx->order;
    struct tx *next;

    pthread_mutex_lock(&shard->lock);
    assert(order->active == tx);
    next = order->waiting;
    order->active = next;
    if (next) {
        order->waiting = next->next;
        if (!order->waiting)
            order->waiting_tail = &order->waiting;
        order->waiting_count--;
    }
    order_free_idle(shard, order);
    pthread_mutex_unlock(&shard->lock);
    if (next)
        grant(next);
}

void order_queued(struct tx *tx)
{
    struct order_shard *shard = shard_of(tx->cache, tx->hash);
    struct order *order = tx->order;
    struct blob *old;
    struct container *old_container;

    pthread_mutex_lock(&shard->lock);
    assert(order->active == tx);
    tx->serial = ++order->serial;
    order->in_flight++;
    order->newest = tx->serial;
    old = order->pending;
    old_container = order->pending_container;
    order->pending = tx->blob ? blob_ref(tx->blob) : NULL;
    order->pending_unknown = tx->unknown;
    order->pending_container = tx->described ? container_ref(tx->described) : NULL;
    pthread_mutex_unlock(&shard->lock);
    blob_unref(old);
    container_unref(old_container);
}

/* ---- the end of a change ---- */

/* Changes of a name are decided one after another. So if the last one that was agreed to is not the
 * one it rests on, that one was refused, perhaps in this very batch, without a decision or not. */
bool order_refused(const struct tx *tx)
{
    struct order_shard *shard = shard_of(tx->cache, tx->hash);

    SCOPED_LOCK(&shard->lock);
    return tx->rests_on && (tx->order->agreed != tx->rests_on || tx->order->failed == tx->rests_on);
}

void order_agreed(const struct tx *tx)
{
    struct order_shard *shard = shard_of(tx->cache, tx->hash);

    SCOPED_LOCK(&shard->lock);
    tx->order->agreed = tx->serial;
}

static struct rest *take_rests(struct order *order, uint64_t serial)
{
    struct rest **at = &order->rests, *taken = NULL, *rest;

    while ((rest = *at)) {
        if (rest->serial > serial) {
            at = &rest->next;
            continue;
        }
        *at = rest->next;
        rest->next = taken;
        taken = rest;
    }
    return taken;
}

static void post_rests(struct rest *rest, int err)
{
    struct rest *next;

    for (; rest; rest = next) {
        next = rest->next;
        completion_post(rest->done, err);
        free(rest);
    }
}

static void ended(struct order_shard *shard, struct order *order, uint64_t serial, int err)
{
    struct blob *old = NULL;
    struct container *old_container = NULL;
    struct rest *rests;

    pthread_mutex_lock(&shard->lock);
    order->in_flight--;
    if (err)
        order->failed = serial;
    if (order->newest == serial) {
        order->newest = 0;
        old = TAKE(order->pending);
        old_container = TAKE(order->pending_container);
    }
    rests = take_rests(order, serial);
    order_free_idle(shard, order);
    pthread_mutex_unlock(&shard->lock);
    blob_unref(old);
    container_unref(old_container);
    post_rests(rests, err);
}

void order_ended(struct tx *tx, int err)
{
    ended(shard_of(tx->cache, tx->hash), tx->order, tx->serial, err);
}

/* ---- changes without a turn ---- */

bool order_claim(struct cache *cache, uint64_t container, struct span name, struct blob *blob,
                 struct order_claim *ret, bool *undecided)
{
    uint64_t hash = names_hash(cache, container, name);
    struct order_shard *shard = shard_of(cache, hash);
    struct order **at, *order;

    SCOPED_LOCK(&shard->lock);
    at = slot_of(shard, hash, container, name);
    *undecided = *at && ((*at)->active || (*at)->agreed != (*at)->serial);
    if (*at)
        return false;
    order = *at = order_new(hash, container, name);
    order->serial = order->agreed = order->newest = 1;
    order->in_flight = 1;
    order->pending = blob ? blob_ref(blob) : NULL;
    *ret = (struct order_claim){order, hash, order->serial};
    return true;
}

void order_unclaim(struct cache *cache, const struct order_claim *claim, int err)
{
    ended(shard_of(cache, claim->hash), claim->order, claim->serial, err);
}

/* Does the change it rests on still run? Then done is kept for its end. */
static bool keep_rest(struct tx *tx, struct completion *done, int *err)
{
    struct order_shard *shard = shard_of(tx->cache, tx->hash);
    struct order *order = tx->order;
    struct rest *rest;

    SCOPED_LOCK(&shard->lock);
    *err = tx->rests_on && order->failed == tx->rests_on ? -EIO : 0;
    if (!tx->rests_on || !order->newest || order->serial != tx->rests_on)
        return false; /* nobody can have queued since: the turn is ours */
    rest = xmalloc(sizeof(*rest));
    *rest = (struct rest){tx->rests_on, done, order->rests};
    order->rests = rest;
    return true;
}

void order_settle(struct tx *tx, struct completion *done)
{
    int err = 0;

    if (!keep_rest(tx, done, &err))
        completion_post(done, err);
}

void order_await_rest(struct tx *tx, struct completion *done)
{
    int err = 0;
    bool kept = keep_rest(tx, done, &err);

    order_leave(tx);
    tx_free(tx);
    if (!kept)
        completion_post(done, err);
}
