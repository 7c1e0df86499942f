/* upstream/pump.c - which entries of an account's write-back queue run now.
 *
 * The queue is the cache's; here is only how many run. While the breaker is not closed one entry at
 * a time goes out as its probe; when it closes, all that wait go. cache_upload_next may read the
 * index, so it runs on a worker; one at a time, so entries start in the queue's order. */
#include "upstream/internal.h"

#include "base/clock.h"
#include "base/log.h"

#define PUMP_UPLOADS_MAX    48 /* entries of one account in flight */
#define PUMP_PAUSE_MIN_NS   (20 * NS_PER_MS)
#define PUMP_PAUSE_ERROR_NS NS_PER_SEC

struct pump {
    struct upstream *upstream;
    struct remote *remote;
    unsigned running;
    bool stopped, taking, again; /* again: a wake came while taking */
    struct completion taken;     /* the worker's */
    struct completion put_back;
    struct upload *next;
    uint64_t retry_ns;
    struct timer timer;
};

static void pump_kick(struct pump *pump);

static int pump_take(void *arg) /* worker */
{
    struct pump *pump = arg;

    pump->retry_ns = UINT64_MAX;
    return cache_upload_next(pump->upstream->conf.cache, pump->remote->account->id, &pump->next,
                             &pump->retry_ns);
}

static void pump_sleep(struct pump *pump, uint64_t ns)
{
    if (ns != UINT64_MAX)
        timer_start(client_loop(pump->upstream->client), &pump->timer, MAX(ns, PUMP_PAUSE_MIN_NS));
}

static void pump_timer(struct timer *timer)
{
    pump_kick(container_of(timer, struct pump, timer));
}

static void pump_is_back(struct completion *put_back)
{
    container_of(put_back, struct pump, put_back)->upstream->active--;
}

static void pump_put_back(struct pump *pump, struct upload *upload) /* taken while stopping */
{
    const struct upload_result result = {.end = UPLOAD_RETRY, .reason = SPAN("shutting down")};

    pump->upstream->active++;
    cache_upload_end(pump->upstream->conf.cache, upload, &result, &pump->put_back);
}

static void pump_taken(struct completion *taken)
{
    struct pump *pump = container_of(taken, struct pump, taken);

    pump->taking = false;
    pump->upstream->active--;
    if (!taken->err && pump->stopped) {
        pump_put_back(pump, TAKE(pump->next));
        return;
    }
    if (!taken->err) {
        pump->running++;
        upload_start(pump->upstream, pump->remote, pump, TAKE(pump->next));
        pump_kick(pump);
        return;
    }
    if (taken->err != -EAGAIN) {
        log_warn_limited("the upload queue cannot be read", KV_ERR(taken->err));
        pump_sleep(pump, PUMP_PAUSE_ERROR_NS);
    } else if (pump->again) {
        pump_kick(pump);
    } else {
        pump_sleep(pump, pump->retry_ns);
    }
}

static unsigned pump_limit(const struct pump *pump)
{
    return pump->remote->breaker.state == BREAKER_CLOSED ? PUMP_UPLOADS_MAX : 1;
}

static void pump_kick(struct pump *pump)
{
    uint64_t wait_ns = breaker_wait_ns(&pump->remote->breaker);

    pump->again = pump->taking;
    if (pump->stopped || pump->taking || pump->running >= pump_limit(pump))
        return;
    timer_stop(client_loop(pump->upstream->client), &pump->timer);
    if (wait_ns) {
        pump_sleep(pump, wait_ns);
        return;
    }
    pump->taking = true;
    pump->upstream->active++;
    worker_run(pump->upstream->conf.workers, pump_take, pump, &pump->taken);
}

static void pump_online(void *arg)
{
    pump_kick(arg);
}

struct pump *pump_new(struct upstream *upstream, struct remote *remote)
{
    struct pump *pump = xcalloc(1, sizeof(*pump));

    pump->upstream = upstream;
    pump->remote = remote;
    pump->taken = (struct completion){.fn = pump_taken, .loop = client_loop(upstream->client)};
    pump->put_back = (struct completion){.fn = pump_is_back, .loop = pump->taken.loop};
    pump->timer.fn = pump_timer;
    remote->on_online = pump_online;
    remote->on_online_arg = pump;
    return pump;
}

struct pump *pump_free(struct pump *pump)
{
    if (pump)
        assert(!pump->running && !pump->taking);
    free(pump);
    return NULL;
}

void pump_wake(struct pump *pump)
{
    pump_kick(pump);
}

void pump_stop(struct pump *pump)
{
    pump->stopped = true;
    timer_stop(client_loop(pump->upstream->client), &pump->timer);
}

void pump_upload_over(struct pump *pump)
{
    pump->running--;
    pump_kick(pump);
}
