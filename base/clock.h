/* base/clock.h - time and randomness, both replaceable by tests. Any thread; never blocks.
 * Nothing else in the tree calls clock_gettime, time, getrandom or rand. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define NS_PER_SEC 1000000000ULL
#define NS_PER_MS  1000000ULL

uint64_t clock_mono_ns(void); /* for durations and timers; never goes back */
int64_t clock_wall_ns(void);  /* since 1970; for what clients see and for expiry */

void random_fill(void *ret, size_t bytes); /* cryptographic, unless a test has seeded it */
uint64_t random_u64(void);

/* Tests only. A source replaces both clocks (NULL: the real ones again); a seed makes random_* a
 * reproducible sequence. Set before other threads run. */
struct clock_source {
    uint64_t (*mono_ns)(void *arg);
    int64_t (*wall_ns)(void *arg);
    void *arg;
};
void clock_set_source(const struct clock_source *source);
void random_seed(uint64_t seed);

#endif
