/* cache/ask.c - questions to the cloud under way (ask.h). Any thread; one lock, held for a few
 * compares: there are about as many questions as connections. */
#include "cache/ask.h"

#define ASK_BUCKETS 64

struct ask {
    uint64_t ticket, container;
    struct span blob; /* owned; empty: a listing of the container, or of containers (container 0) */
    bool stale;
    struct span *changed; /* of a listing: names changed since; owned */
    size_t changed_count, changed_room;
    struct ask *next;
};

struct asks {
    pthread_mutex_t lock;
    uint64_t tickets;
    struct ask *bucket[ASK_BUCKETS];
};

static struct ask **bucket_of(struct asks *asks, uint64_t container)
{
    return &asks->bucket[(container * 0x9E3779B97F4A7C15ULL) >> 58];
}

static struct span span_dup(struct span s)
{
    char *copy = xmalloc(s.len);

    if (s.len)
        memcpy(copy, s.base, s.len);
    return span_from(copy, s.len);
}

static void ask_free(struct ask *ask)
{
    for (size_t i = 0; i < ask->changed_room; i++)
        free((char *)ask->changed[i].base);
    free(ask->changed);
    free((char *)ask->blob.base);
    free(ask);
}

/* ---- names changed since a listing was asked for: open addressing, half full at most ---- */

static uint64_t name_hash(struct span name)
{
    uint64_t h = 0xCBF29CE484222325ULL;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ (uint8_t)name.base[i]) * 0x100000001B3ULL;
    return h ^ (h >> 32);
}

static struct span *changed_slot(const struct ask *ask, struct span name)
{
    size_t at = name_hash(name) & (ask->changed_room - 1);

    while (ask->changed[at].base && !span_eq(ask->changed[at], name))
        at = (at + 1) & (ask->changed_room - 1);
    return &ask->changed[at];
}

static void changed_grow(struct ask *ask)
{
    struct span *old = ask->changed;
    size_t room = ask->changed_room;

    ask->changed_room = room ? room * 2 : 16;
    ask->changed = xcalloc(ask->changed_room, sizeof(*ask->changed));
    for (size_t i = 0; i < room; i++)
        if (old[i].base)
            *changed_slot(ask, old[i]) = old[i];
    free(old);
}

static void listing_changed(struct ask *ask, struct span blob)
{
    struct span *slot;

    if (ask->stale)
        return;
    if (ask->changed_count * 2 >= ask->changed_room)
        changed_grow(ask);
    slot = changed_slot(ask, blob);
    if (slot->base)
        return;
    if (ask->changed_count == ASK_CHANGED_MAX) {
        ask->stale = true;
        return;
    }
    *slot = span_dup(blob);
    ask->changed_count++;
}

void asks_answered(struct cache *cache, uint64_t ticket, uint64_t container, struct span blob)
{
    struct asks *asks = cache->asks;

    SCOPED_LOCK(&asks->lock);
    for (struct ask *ask = *bucket_of(asks, container); ask; ask = ask->next) {
        if (ask->container != container || ask->ticket == ticket)
            continue;
        if (!ask->blob.len)
            listing_changed(ask, blob);
        else if (span_eq(ask->blob, blob))
            ask->stale = true;
    }
}

void asks_changed(struct cache *cache, uint64_t container, struct span blob)
{
    asks_answered(cache, 0, container, blob);
}

void asks_overtaken(struct cache *cache, uint64_t container)
{
    struct asks *asks = cache->asks;

    SCOPED_LOCK(&asks->lock);
    for (struct ask *ask = *bucket_of(asks, container); ask; ask = ask->next)
        if (ask->container == container && !ask->blob.len)
            ask->stale = true;
}

static struct ask *find(struct asks *asks, uint64_t ticket)
{
    for (unsigned i = 0; i < ASK_BUCKETS; i++)
        for (struct ask *ask = asks->bucket[i]; ask; ask = ask->next)
            if (ask->ticket == ticket)
                return ask;
    return NULL;
}

bool asks_stale(struct cache *cache, uint64_t ticket)
{
    struct ask *ask;

    SCOPED_LOCK(&cache->asks->lock);
    ask = find(cache->asks, ticket);
    return !ask || ask->stale;
}

bool asks_row_stale(struct cache *cache, uint64_t ticket, struct span blob)
{
    struct ask *ask;

    SCOPED_LOCK(&cache->asks->lock);
    ask = find(cache->asks, ticket);
    if (!ask || ask->stale)
        return true;
    return ask->changed_count && changed_slot(ask, blob)->base;
}

uint64_t asks_container(struct cache *cache, uint64_t ticket)
{
    struct ask *ask;

    SCOPED_LOCK(&cache->asks->lock);
    ask = find(cache->asks, ticket);
    return ask ? ask->container : ASK_CONTAINERS;
}

bool asks_running(struct cache *cache, uint64_t container, struct span blob)
{
    struct asks *asks = cache->asks;

    SCOPED_LOCK(&asks->lock);
    for (struct ask *ask = *bucket_of(asks, container); ask; ask = ask->next)
        if (ask->container == container && (!ask->blob.len || span_eq(ask->blob, blob)))
            return true;
    return false;
}

struct asked cache_ask(struct cache *cache, const struct name *name)
{
    struct asks *asks = cache->asks;
    struct ask *ask = xcalloc(1, sizeof(*ask)), **bucket = bucket_of(asks, name->container);
    struct asked asked = {
        .commit = commit_last(cache->committer),
        .mono_ns = clock_mono_ns(),
        .wall_ns = clock_wall_ns(),
    };

    ask->container = name->container;
    ask->blob = span_dup(name->blob);
    SCOPED_LOCK(&asks->lock);
    asked.ticket = ask->ticket = ++asks->tickets;
    ask->next = *bucket;
    *bucket = ask;
    return asked;
}

void cache_ask_end(struct cache *cache, struct asked *asked)
{
    struct asks *asks = cache->asks;
    struct ask *ask = NULL;

    pthread_mutex_lock(&asks->lock);
    for (unsigned i = 0; i < ASK_BUCKETS && !ask; i++)
        for (struct ask **at = &asks->bucket[i]; *at; at = &(*at)->next)
            if ((*at)->ticket == asked->ticket) {
                ask = *at;
                *at = ask->next;
                break;
            }
    pthread_mutex_unlock(&asks->lock);
    if (ask)
        ask_free(ask);
    asked->ticket = 0;
}

int asks_open(struct cache *cache)
{
    cache->asks = xcalloc(1, sizeof(*cache->asks));
    pthread_mutex_init(&cache->asks->lock, NULL);
    return 0;
}

void asks_close(struct cache *cache)
{
    struct asks *asks = TAKE(cache->asks);

    if (!asks)
        return;
    for (unsigned i = 0; i < ASK_BUCKETS; i++)
        while (asks->bucket[i]) {
            struct ask *ask = asks->bucket[i];

            asks->bucket[i] = ask->next;
            ask_free(ask);
        }
    pthread_mutex_destroy(&asks->lock);
    free(asks);
}
