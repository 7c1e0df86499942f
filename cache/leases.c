/* cache/leases.c - when the periods of leases began: the part of a lease that lives in memory.
 *
 * A lease's row says who holds it and for how long, not since when, so that renewing it writes
 * nothing (design section 4). Here stands when each period began that was granted or renewed by
 * this process, by the lease's serial; what is not here began when the process did: after a start
 * each gets its full period again. An entry is dropped once its period has passed, which is then so
 * by either rule. Any thread; one lock, held for a few pointer moves. */
#include "cache/internal.h"

#include <pthread.h>

#include "base/clock.h"

#define LEASE_BUCKETS 1024 /* more periods under way only make longer chains */

struct period {
    uint64_t serial, began_ns, ends_ns;
    struct period *next;
};

struct leases {
    pthread_mutex_t lock;
    uint64_t started_ns;
    struct period *bucket[LEASE_BUCKETS];
};

static struct period **bucket_of(struct leases *leases, uint64_t serial)
{
    return &leases->bucket[(serial * 0x9E3779B97F4A7C15ULL >> 32) % LEASE_BUCKETS];
}

void leases_open(struct cache *cache)
{
    cache->leases = xcalloc(1, sizeof(*cache->leases));
    pthread_mutex_init(&cache->leases->lock, NULL);
    cache->leases->started_ns = clock_mono_ns();
}

void leases_close(struct cache *cache)
{
    struct leases *leases = TAKE(cache->leases);

    if (!leases)
        return;
    for (unsigned i = 0; i < LEASE_BUCKETS; i++)
        for (struct period *at = leases->bucket[i], *next; at; at = next) {
            next = at->next;
            free(at);
        }
    pthread_mutex_destroy(&leases->lock);
    free(leases);
}

uint64_t cache_lease_began(struct cache *cache, const struct lease *lease)
{
    struct leases *leases = cache->leases;

    SCOPED_LOCK(&leases->lock);
    for (struct period *at = *bucket_of(leases, lease->serial); at; at = at->next)
        if (at->serial == lease->serial)
            return at->began_ns;
    return leases->started_ns;
}

/* Lock held. The one of that serial, if any, and all that have passed leave the chain. */
static void sweep(struct period **at, uint64_t serial, uint64_t now_ns)
{
    struct period *period;

    while ((period = *at)) {
        if (period->serial != serial && period->ends_ns > now_ns) {
            at = &period->next;
            continue;
        }
        *at = period->next;
        free(period);
    }
}

void cache_lease_renew(struct cache *cache, const struct lease *lease)
{
    struct leases *leases = cache->leases;
    struct period *period, **bucket = bucket_of(leases, lease->serial);
    uint64_t now_ns = clock_mono_ns();

    if (lease->period_ns == LEASE_INFINITE || !lease->period_ns)
        return; /* it never passes, or has no period */
    period = xmalloc(sizeof(*period));
    SCOPED_LOCK(&leases->lock);
    sweep(bucket, lease->serial, now_ns);
    *period = (struct period){lease->serial, now_ns, now_ns + lease->period_ns, *bucket};
    *bucket = period;
}
