/* upstream/breaker.h - stops hammering a dead WAN and finds out when it is back. One per account.
 *
 * closed   every request goes; BREAKER_FAILURES connection failures in a row open it
 * open     every request is refused at once, until the pause (doubling, jittered) is over
 * probing  one request goes; its answer, any HTTP status, closes; its failure opens, for longer
 * Upstream thread only. Time comes from base/clock. */
#ifndef UPSTREAM_BREAKER_H
#define UPSTREAM_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

#define BREAKER_FAILURES     3
#define BREAKER_PAUSE_MIN_NS 250000000ULL
#define BREAKER_PAUSE_MAX_NS 5000000000ULL /* a WAN that came back is found within this */

struct breaker {
    enum { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING } state;
    unsigned failures; /* in a row */
    uint64_t pause_ns; /* the next open lasts this, give or take a quarter */
    uint64_t until_ns; /* open: monotonic end of the pause */
};

bool breaker_admit(
    struct breaker *breaker); /* may a request go now? It then owes one of the three below */
void breaker_answered(struct breaker *breaker);
void breaker_failed(struct breaker *breaker);
void breaker_abandoned(struct breaker *breaker); /* cancelled: says nothing of the WAN */
uint64_t
breaker_wait_ns(const struct breaker *breaker); /* until a request may be admitted; 0: now */

/* Pause before the attempt after `attempts` failed ones: doubling from min to max, the upper half
 * jittered. */
uint64_t backoff_ns(unsigned attempts, uint64_t min_ns, uint64_t max_ns);

#endif
