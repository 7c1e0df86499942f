#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static const struct clock_source *source;
static uint64_t seed; /* 0: real randomness */
static pthread_mutex_t seed_lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t now(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * (int64_t)NS_PER_SEC + t.tv_nsec;
}

static uint64_t seeded_u64(void) /* splitmix64: enough for a reproducible sequence */
{
    uint64_t z;

    pthread_mutex_lock(&seed_lock);
    z = (seed += 0x9e3779b97f4a7c15ULL);
    pthread_mutex_unlock(&seed_lock);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

uint64_t clock_mono_ns(void)
{
    return source ? source->mono_ns(source->arg) : (uint64_t)now(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
    return source ? source->wall_ns(source->arg) : now(CLOCK_REALTIME);
}

void random_fill(void *ret, size_t bytes)
{
    unsigned char *at = ret;

    while (bytes) {
        uint64_t v = seed ? seeded_u64() : 0;
        size_t n = bytes < sizeof(v) ? bytes : sizeof(v);

        if (!seed) {
            ssize_t got = getrandom(at, bytes, 0);

            if (got <= 0)
                abort(); /* a kernel without randomness: nothing here may go on */
            n = (size_t)got;
        } else {
            memcpy(at, &v, n);
        }
        at += n;
        bytes -= n;
    }
}

uint64_t random_u64(void)
{
    uint64_t v;

    random_fill(&v, sizeof(v));
    return v;
}

void clock_set_source(const struct clock_source *replacement)
{
    source = replacement;
}

void random_seed(uint64_t value)
{
    seed = value;
}
