/* cache/containers.c - all containers in memory, by account and name and by id. Any thread; one
 * lock, held for a few pointer moves. Changes are made durable by tx.c and learn.c; here is what is
 * published, and for the committer which containers an ordered change has already deleted. */
#include "cache/known.h"
#include "cache/names.h"

#include "base/clock.h"
#include "base/log.h"

#define CONTAINER_BUCKETS 4096 /* per process; more containers only make longer chains */

struct gone { /* deleted in commit order, perhaps not durable yet; committer thread */
    uint64_t id;
    struct gone *next;
};

struct containers {
    pthread_mutex_t lock;
    struct container *by_name[CONTAINER_BUCKETS], *by_id[CONTAINER_BUCKETS];
    struct gone *gone[CONTAINER_BUCKETS];
    struct all_known {
        uint32_t account;
        int64_t as_of_ns;
        struct all_known *next;
    } * all_known;
};

static unsigned bucket_of(uint64_t key)
{
    return (unsigned)((key * 0x9E3779B97F4A7C15ULL) >> 32) % CONTAINER_BUCKETS;
}

static unsigned name_bucket(uint32_t account, struct span name)
{
    uint64_t h = account;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (uint8_t)name.base[i]) * 0x100000001B3ULL;
    return bucket_of(h);
}

/* ---- one container ---- */

static struct span copy_span(char **at, struct span s)
{
    struct span copy = {*at, s.len};

    if (s.len)
        memcpy(*at, s.base, s.len);
    *at += s.len;
    return copy;
}

static size_t policy_bytes(const struct access_policy *policy)
{
    return policy->id.len + policy->start.len + policy->expiry.len + policy->permission.len;
}

static size_t texts_bytes(const struct container_record *record)
{
    size_t bytes = record->name.len + record->public_access.len;

    for (unsigned i = 0; i < record->metadata_count; i++)
        bytes += record->metadata[i].name.len + record->metadata[i].value.len;
    for (unsigned i = 0; i < record->policy_count; i++)
        bytes += policy_bytes(&record->policies[i]);
    return bytes;
}

struct container *container_new(struct cache *cache, const struct container_record *record,
                                bool tombstone, struct span unknown)
{
    struct container *container = xcalloc(1, sizeof(*container));
    size_t arrays = record->metadata_count * sizeof(struct pair) +
                    record->policy_count * sizeof(struct access_policy);
    struct pair *pairs;
    struct access_policy *policies;
    char *at;

    container->memory = pairs = xmalloc(arrays + texts_bytes(record) + unknown.len);
    policies = (struct access_policy *)(pairs + record->metadata_count);
    at = (char *)(policies + record->policy_count);
    container->refs = 1;
    container->cache = cache;
    container->tombstone = tombstone;
    container->record = *record;
    container->record.name = copy_span(&at, record->name);
    container->record.public_access = copy_span(&at, record->public_access);
    container->unknown = copy_span(&at, unknown);
    for (unsigned i = 0; i < record->metadata_count; i++) {
        pairs[i].name = copy_span(&at, record->metadata[i].name);
        pairs[i].value = copy_span(&at, record->metadata[i].value);
    }
    for (unsigned i = 0; i < record->policy_count; i++) {
        const struct access_policy *from = &record->policies[i];

        policies[i] =
            (struct access_policy){copy_span(&at, from->id), copy_span(&at, from->start),
                                   copy_span(&at, from->expiry), copy_span(&at, from->permission)};
    }
    container->record.metadata = pairs;
    container->record.policies = policies;
    return container;
}

struct container *container_ref(struct container *container)
{
    atomic_fetch_add_explicit(&container->refs, 1, memory_order_relaxed);
    return container;
}

struct container *container_unref(struct container *container)
{
    if (container && atomic_fetch_sub_explicit(&container->refs, 1, memory_order_acq_rel) == 1) {
        free(container->memory);
        free(container);
    }
    return NULL;
}

const struct container_record *container_record(const struct container *container)
{
    return &container->record;
}

/* ---- the table, lock held ---- */

static struct container **name_slot(struct containers *all, uint32_t account, struct span name)
{
    struct container **at = &all->by_name[name_bucket(account, name)];

    while (*at && !((*at)->record.account == account && span_eq((*at)->record.name, name)))
        at = &(*at)->name_next;
    return at;
}

static struct container **id_slot(struct containers *all, uint64_t id)
{
    struct container **at = &all->by_id[bucket_of(id)];

    while (*at && (*at)->record.id != id)
        at = &(*at)->id_next;
    return at;
}

static struct container *remove_name(struct containers *all, uint32_t account, struct span name)
{
    struct container **at = name_slot(all, account, name), *old = *at, **id;

    if (!old)
        return NULL;
    *at = old->name_next;
    id = id_slot(all, old->record.id);
    assert(*id == old);
    *id = old->id_next;
    return old;
}

static void enter(struct containers *all, struct container *container)
{
    struct container **name =
        &all->by_name[name_bucket(container->record.account, container->record.name)];
    struct container **id = &all->by_id[bucket_of(container->record.id)];

    container->name_next = *name;
    *name = container;
    container->id_next = *id;
    *id = container;
}

/* ---- published ---- */

struct container *containers_get(struct cache *cache, uint32_t account, struct span name)
{
    struct containers *all = cache->containers;
    struct container *container;

    SCOPED_LOCK(&all->lock);
    container = *name_slot(all, account, name);
    return container ? container_ref(container) : NULL;
}

void containers_publish(struct cache *cache, struct container *container)
{
    struct containers *all = cache->containers;
    struct container *old;

    pthread_mutex_lock(&all->lock);
    old = remove_name(all, container->record.account, container->record.name);
    enter(all, container_ref(container));
    pthread_mutex_unlock(&all->lock);
    container_unref(old);
}

void containers_forget(struct cache *cache, uint32_t account, struct span name)
{
    struct containers *all = cache->containers;
    struct container *old;

    pthread_mutex_lock(&all->lock);
    old = remove_name(all, account, name);
    pthread_mutex_unlock(&all->lock);
    container_unref(old);
}

/* The list of an account's containers ages as its most demanding line says that looks at a cloud
 * others write to. */
static int64_t oldest_allowed(const struct account *account, int64_t now_ns)
{
    uint64_t fresh_ns = UINT64_MAX;

    for (unsigned i = 0; i < account->contract_count; i++) {
        const struct contract *c = &account->contracts[i];

        if (c->write != WRITE_LOCAL && c->fresh != FRESH_EXCLUSIVE)
            fresh_ns = MIN(fresh_ns, c->fresh_ns ? c->fresh_ns : FRESH_DEFAULT_NS);
    }
    return fresh_ns == UINT64_MAX ? INT64_MIN : now_ns - (int64_t)fresh_ns;
}

static bool account_all_known(struct containers *all, const struct account *account)
{
    int64_t now_ns = clock_wall_ns(), oldest = oldest_allowed(account, now_ns);
    bool known = account_is_local(account);

    SCOPED_LOCK(&all->lock);
    for (struct all_known *at = all->all_known; at && !known; at = at->next)
        known = at->account == account->id && at->as_of_ns >= oldest && at->as_of_ns <= now_ns;
    return known;
}

int containers_judge(struct cache *cache, uint32_t account, struct span name,
                     const struct container *container)
{
    const struct account *of = account_by_id(cache->conf.accounts, account);

    if (container)
        return container->tombstone ? -ENOENT : 0;
    if (!of || !contract_container_in_cloud(of, name))
        return -ENOENT;
    return -ENODATA; /* the cloud may have got it since all were listed: one question tells */
}

int cache_container(struct cache *cache, uint32_t account, struct span name, struct container **ret)
{
    struct container *container = containers_get(cache, account, name);
    int err = containers_judge(cache, account, name, container);

    if (err)
        container_unref(container);
    else
        *ret = container;
    return err;
}

int cache_container_by_id(struct cache *cache, uint64_t id, struct container **ret)
{
    struct containers *all = cache->containers;
    struct container *container;

    SCOPED_LOCK(&all->lock);
    container = *id_slot(all, id);
    if (!container || container->tombstone)
        return -ENOENT;
    *ret = container_ref(container);
    return 0;
}

const struct contract *cache_contract(struct cache *cache, uint64_t container, struct span blob)
{
    struct container *in;
    const struct account *account;
    const struct contract *contract = NULL;

    if (cache_container_by_id(cache, container, &in) < 0)
        return NULL;
    account = account_by_id(cache->conf.accounts, in->record.account);
    if (account)
        contract = contract_for(account, in->record.name, blob);
    container_unref(in);
    return contract;
}

/* ---- listing ---- */

static int by_name(const void *a, const void *b)
{
    return span_cmp((*(struct container *const *)a)->record.name,
                    (*(struct container *const *)b)->record.name);
}

static struct container **gather(struct containers *all, uint32_t account, struct span prefix,
                                 struct span from, size_t *ret_n)
{
    struct container **rows = NULL;
    size_t n = 0, room = 0;

    SCOPED_LOCK(&all->lock);
    for (unsigned i = 0; i < CONTAINER_BUCKETS; i++)
        for (struct container *at = all->by_name[i]; at; at = at->name_next) {
            if (at->record.account != account || at->tombstone ||
                !span_starts(at->record.name, prefix) || span_cmp(at->record.name, from) < 0)
                continue;
            if (n == room)
                rows = xrealloc(rows, (room = room ? room * 2 : 64) * sizeof(struct container *));
            rows[n++] = container_ref(at);
        }
    *ret_n = n;
    return rows;
}

int cache_containers(struct cache *cache, uint32_t account, struct span prefix, struct span from,
                     int (*row)(void *arg, const struct container_record *record), void *arg,
                     bool *complete)
{
    const struct account *of = account_by_id(cache->conf.accounts, account);
    struct container **rows;
    size_t n;
    int err = 0;

    if (!of)
        return -ENOENT;
    *complete = account_all_known(cache->containers, of);
    rows = gather(cache->containers, account, prefix, from, &n);
    if (n)
        qsort(rows, n, sizeof(struct container *), by_name);
    for (size_t i = 0; i < n; i++) {
        if (!err)
            err = row(arg, &rows[i]->record);
        container_unref(rows[i]);
    }
    free(rows);
    return err;
}

unsigned containers_count(struct cache *cache, uint32_t account)
{
    unsigned n = 0;

    SCOPED_LOCK(&cache->containers->lock);
    for (unsigned i = 0; i < CONTAINER_BUCKETS; i++)
        for (struct container *at = cache->containers->by_name[i]; at; at = at->name_next)
            n += at->record.account == account;
    return n;
}

void containers_all_known(struct cache *cache, uint32_t account, int64_t as_of_ns)
{
    struct containers *all = cache->containers;
    struct all_known *at;

    SCOPED_LOCK(&all->lock);
    for (at = all->all_known; at && at->account != account; at = at->next)
        ;
    if (!at) {
        at = xcalloc(1, sizeof(*at));
        at->account = account;
        at->next = all->all_known;
        all->all_known = at;
    }
    at->as_of_ns = as_of_ns;
}

int cache_container_unlisted(struct cache *cache, uint32_t account, const struct asked *asked,
                             struct span after, struct container **ret)
{
    struct containers *all = cache->containers;
    struct container *first = NULL;

    SCOPED_LOCK(&all->lock);
    for (unsigned i = 0; i < CONTAINER_BUCKETS; i++)
        for (struct container *at = all->by_name[i]; at; at = at->name_next) {
            const struct container_record *r = &at->record;

            if (r->account != account || at->tombstone || !r->in_cloud ||
                r->checked_ns >= asked->wall_ns || r->name.base[0] == '$' || /* never all listed */
                span_cmp(r->name, after) <= 0)
                continue;
            if (!first || span_cmp(r->name, first->record.name) < 0)
                first = at;
        }
    if (!first)
        return -ENOENT;
    *ret = container_ref(first);
    return 0;
}

/* ---- commit order ---- */

void containers_order_gone(struct cache *cache, uint64_t id, bool gone)
{
    struct gone **at = &cache->containers->gone[bucket_of(id)], *entry;

    while (*at && (*at)->id != id)
        at = &(*at)->next;
    if (gone && !*at) {
        *at = xcalloc(1, sizeof(**at));
        (*at)->id = id;
    } else if (!gone && *at) {
        entry = *at;
        *at = entry->next;
        free(entry);
    }
}

bool containers_alive_ordered(struct cache *cache, uint64_t id)
{
    struct container *container;

    for (struct gone *at = cache->containers->gone[bucket_of(id)]; at; at = at->next)
        if (at->id == id)
            return false;
    if (cache_container_by_id(cache, id, &container) < 0)
        return false;
    container_unref(container);
    return true;
}

/* ---- open and close ---- */

static int load_row(struct cache *cache, struct span key, struct span value)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    struct container_row row;
    uint32_t account;
    struct span name;

    if (key_container_decode(key, &account, &name) < 0 ||
        container_row_decode(value, &row, &space) < 0)
        return -EBADMSG;
    row.record.account = account;
    row.record.name = name;
    enter(cache->containers, container_new(cache, &row.record, row.tombstone, row.unknown));
    return 0;
}

static int load_all_known(struct cache *cache)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    for (unsigned i = 0; i < cache->conf.accounts->count; i++) {
        struct index_value value;
        struct known_row row;
        uint32_t account = cache->conf.accounts->at[i].id;
        int err;

        key_known(&key, KNOWN_CONTAINERS, account, SPAN(""), SPAN(""), SPAN(""));
        err = index_get(cache->index, NULL, FAM_KNOWN, row_span(&key), &value);
        if (err == -ENOENT)
            continue;
        if (err < 0)
            return err;
        if (known_row_decode(value.bytes, &row) == 0)
            containers_all_known(cache, account, row.as_of_ns);
        index_value_done(&value);
    }
    return 0;
}

int containers_open(struct cache *cache)
{
    struct index_iter *iter;
    int err = 0;

    cache->containers = xcalloc(1, sizeof(*cache->containers));
    pthread_mutex_init(&cache->containers->lock, NULL);
    iter = index_iter_new(cache->index, NULL, FAM_CONTAINERS, SPAN(""), SPAN(""));
    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = load_row(cache, index_iter_key(iter), index_iter_value(iter));
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : load_all_known(cache);
}

void containers_close(struct cache *cache)
{
    struct containers *all = TAKE(cache->containers);

    if (!all)
        return;
    for (unsigned i = 0; i < CONTAINER_BUCKETS; i++) {
        struct container *at, *next;
        struct gone *gone;

        for (at = all->by_name[i]; at; at = next) {
            next = at->name_next;
            container_unref(at);
        }
        while ((gone = all->gone[i])) {
            all->gone[i] = gone->next;
            free(gone);
        }
    }
    while (all->all_known) {
        struct all_known *next = all->all_known->next;

        free(all->all_known);
        all->all_known = next;
    }
    pthread_mutex_destroy(&all->lock);
    free(all);
}
