/* cache/services.c - what accounts have set for their Blob service, in memory: one place for each
 * configured account. A change is made of what was read before it and names that; the committer
 * refuses it when something else was ordered meanwhile, so that two of them never lose a part. */
#include "cache/names.h"

struct service {
    _Atomic uint32_t refs;
    struct service_row row; /* spans into value */
    struct row_bytes value; /* the row's, as it is stored */
};

struct services {
    pthread_mutex_t lock; /* published; held for a pointer move */
    struct service_slot {
        _Atomic bool set; /* spares everybody else the lock */
        struct service *published;
        struct service *ordered; /* in commit order; committer thread */
    } * slots;                   /* as conf.accounts->at */
};

struct service_change {
    struct change_hook hook;
    struct services *services;
    struct service_slot *slot;
    struct service *from, *next; /* a reference each; from NULL: nothing was set */
    bool ordered;
};

/* ---- one ---- */

static struct service *service_ref(struct service *service)
{
    if (service)
        atomic_fetch_add_explicit(&service->refs, 1, memory_order_relaxed);
    return service;
}

struct service *service_unref(struct service *service)
{
    if (service && atomic_fetch_sub_explicit(&service->refs, 1, memory_order_acq_rel) == 1) {
        row_bytes_done(&service->value);
        free(service);
    }
    return NULL;
}

const struct service_record *service_record(const struct service *service)
{
    return &service->row.record;
}

/* Takes what the row says out of a copy of it, so that its spans have an owner. */
static int service_new(struct span value, struct service **ret)
{
    struct service *service = xcalloc(1, sizeof(*service));
    int err;

    service->refs = 1;
    row_add(&service->value, value.base, value.len);
    err = service_row_decode(row_span(&service->value), &service->row);
    if (err < 0)
        service_unref(service);
    else
        *ret = service;
    return err;
}

/* ---- published ---- */

static struct service_slot *slot_of(struct cache *cache, const struct account *account)
{
    return &cache->services->slots[account - cache->conf.accounts->at];
}

struct service *cache_service(struct cache *cache, const struct account *account)
{
    struct service_slot *slot = slot_of(cache, account);

    if (!atomic_load_explicit(&slot->set, memory_order_acquire))
        return NULL;
    SCOPED_LOCK(&cache->services->lock);
    return service_ref(slot->published);
}

static void publish(struct services *services, struct service_slot *slot, struct service *next)
{
    struct service *old;

    pthread_mutex_lock(&services->lock);
    old = slot->published;
    slot->published = service_ref(next);
    pthread_mutex_unlock(&services->lock);
    atomic_store_explicit(&slot->set, true, memory_order_release);
    service_unref(old);
}

/* ---- changes ---- */

static int service_decide(struct change *change)
{
    const struct service_change *sc = change->arg;

    return sc->slot->ordered == sc->from ? 0 : -ESTALE;
}

static void service_order(struct change_hook *hook, struct change *change)
{
    struct service_change *sc = container_of(hook, struct service_change, hook);

    (void)change;
    sc->slot->ordered = sc->next;
    sc->ordered = true;
}

/* Those that fail together are undone newest first: each leaves what it was made of. */
static void service_end(struct change_hook *hook, int err)
{
    struct service_change *sc = container_of(hook, struct service_change, hook);

    if (!err)
        publish(sc->services, sc->slot, sc->next);
    else if (sc->ordered)
        sc->slot->ordered = sc->from;
    service_unref(sc->from);
    service_unref(sc->next);
    free(sc);
}

void cache_put_service(struct cache *cache, const struct account *account, struct service *from,
                       const struct service_record *record, struct completion *done)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct service_row row = {*record, from ? from->row.unknown : SPAN("")};
    struct service_change *sc = xcalloc(1, sizeof(*sc));
    struct change *change = change_new();

    service_row_encode(&value, &row);
    if (service_new(row_span(&value), &sc->next) < 0)
        abort(); /* what was just encoded */
    sc->hook = (struct change_hook){.order = service_order, .end = service_end};
    sc->services = cache->services;
    sc->slot = slot_of(cache, account);
    sc->from = service_ref(from);
    key_service(&key, account->id);
    change_put(change, FAM_META, row_span(&key), row_span(&value));
    change_add_hook(change, &sc->hook);
    change->decide = service_decide;
    change->arg = sc;
    change->done = done;
    commit_submit(cache->committer, change);
}

/* ---- open and close ---- */

static int load(struct cache *cache, const struct account *account)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct service_slot *slot = slot_of(cache, account);
    struct index_value value;
    int err;

    key_service(&key, account->id);
    err = index_get(cache->index, NULL, FAM_META, row_span(&key), &value);
    if (err)
        return err == -ENOENT ? 0 : err;
    err = service_new(value.bytes, &slot->published);
    index_value_done(&value);
    slot->ordered = slot->published;
    atomic_store(&slot->set, slot->published != NULL);
    return err;
}

int services_open(struct cache *cache)
{
    const struct accounts *accounts = cache->conf.accounts;
    int err = 0;

    cache->services = xcalloc(1, sizeof(*cache->services));
    pthread_mutex_init(&cache->services->lock, NULL);
    cache->services->slots = xcalloc(accounts->count, sizeof(*cache->services->slots));
    for (unsigned i = 0; !err && i < accounts->count; i++)
        err = load(cache, &accounts->at[i]);
    return err;
}

void services_close(struct cache *cache)
{
    struct services *services = TAKE(cache->services);

    if (!services)
        return;
    for (unsigned i = 0; i < cache->conf.accounts->count; i++)
        service_unref(services->slots[i].published);
    pthread_mutex_destroy(&services->lock);
    free(services->slots);
    free(services);
}
