/* upstream/breaker.c - see breaker.h. */
#include "upstream/breaker.h"

#include "base/clock.h"
#include "base/util.h"

uint64_t backoff_ns(unsigned attempts, uint64_t min_ns, uint64_t max_ns)
{
    uint64_t pause = min_ns;

    while (attempts-- && pause < max_ns)
        pause *= 2;
    pause = MIN(pause, max_ns);
    return pause / 2 + random_u64() % (pause / 2 + 1);
}

bool breaker_admit(struct breaker *breaker)
{
    if (breaker->state == BREAKER_CLOSED)
        return true;
    if (breaker->state == BREAKER_PROBING || clock_mono_ns() < breaker->until_ns)
        return false;
    breaker->state = BREAKER_PROBING;
    return true;
}

void breaker_answered(struct breaker *breaker)
{
    *breaker = (struct breaker){0};
}

static void breaker_open(struct breaker *breaker)
{
    uint64_t pause = breaker->pause_ns ? breaker->pause_ns : BREAKER_PAUSE_MIN_NS;

    breaker->state = BREAKER_OPEN;
    breaker->until_ns = clock_mono_ns() + pause * 3 / 4 + random_u64() % (pause / 2);
    breaker->pause_ns = MIN(pause * 2, BREAKER_PAUSE_MAX_NS);
}

/* While open, failures of requests sent before it opened change nothing: they are the same outage.
 */
void breaker_failed(struct breaker *breaker)
{
    breaker->failures++;
    if (breaker->state == BREAKER_PROBING ||
        (breaker->state == BREAKER_CLOSED && breaker->failures >= BREAKER_FAILURES))
        breaker_open(breaker);
}

void breaker_abandoned(struct breaker *breaker)
{
    if (breaker->state == BREAKER_PROBING) {
        breaker->state = BREAKER_OPEN;
        breaker->until_ns = clock_mono_ns();
    }
}

uint64_t breaker_wait_ns(const struct breaker *breaker)
{
    uint64_t now;

    if (breaker->state == BREAKER_CLOSED)
        return 0;
    now = clock_mono_ns();
    if (breaker->until_ns > now)
        return breaker->until_ns - now;
    return breaker->state == BREAKER_PROBING ? BREAKER_PAUSE_MIN_NS : 0;
}
