/* cache/keeper.c - the background thread of the bytes half: reaping, eviction, compaction. It has a
 * loop of its own to wait for changes on; reading the index and the devices blocks it, which is its
 * purpose. */
#include "cache/content.h"

#include "base/loop.h"
#include "base/log.h"

#define KEEPER_SLEEP_MS 1000 /* for on_tick; no duty depends on it: every call wakes the loop */

struct keeper {
    struct cache *cache;
    struct loop_poll *poll;
    pthread_t thread;
    bool running;
    _Atomic bool stop;
    _Atomic bool called[KEEP_DUTIES];
    void (*on_tick)(struct cache *cache);
};

static void (*const keeper_duties[KEEP_DUTIES])(struct cache *) = {
    [KEEP_REAP] = reaper_run,
    [KEEP_EVICT] = evict_run,
    [KEEP_COMPACT] = compact_run,
};

struct keeper *keeper_new(struct cache *cache)
{
    struct keeper *keeper = xcalloc(1, sizeof(*keeper));

    keeper->cache = cache;
    keeper->poll = loop_poll_new();
    return keeper;
}

struct keeper *keeper_free(struct keeper *keeper)
{
    if (!keeper)
        return NULL;
    assert(!keeper->running);
    loop_poll_free(keeper->poll);
    free(keeper);
    return NULL;
}

struct loop *keeper_loop(struct keeper *keeper)
{
    return loop_poll_loop(keeper->poll);
}

void keeper_on_tick(struct keeper *keeper, void (*fn)(struct cache *cache))
{
    assert(!keeper->running);
    keeper->on_tick = fn;
}

bool keeper_stopping(const struct keeper *keeper)
{
    return keeper->stop;
}

void keeper_call(struct keeper *keeper, enum keeper_duty duty)
{
    struct loop *loop = keeper_loop(keeper);

    if (!atomic_exchange(&keeper->called[duty], true))
        loop->ops->wake(loop);
}

int keeper_await(struct keeper *keeper, struct awaited *awaited)
{
    return loop_await(keeper->poll, awaited);
}

int keeper_commit(struct keeper *keeper, struct change *change)
{
    struct awaited awaited;

    change->done = awaited_init(&awaited, keeper_loop(keeper));
    commit_submit(keeper->cache->committer, change);
    return loop_await(keeper->poll, &awaited);
}

/* A duty that waits for a change eats the wakes of what was called meanwhile. */
static bool keeper_due(struct keeper *keeper)
{
    for (int duty = 0; duty < KEEP_DUTIES; duty++)
        if (atomic_load(&keeper->called[duty]))
            return true;
    return keeper->stop;
}

static void keeper_work(struct keeper *keeper)
{
    while (!keeper->stop) {
        for (int duty = 0; duty < KEEP_DUTIES && !keeper->stop; duty++)
            if (atomic_exchange(&keeper->called[duty], false))
                keeper_duties[duty](keeper->cache);
        if (keeper->on_tick)
            keeper->on_tick(keeper->cache);
        loop_poll_once(keeper->poll, keeper_due(keeper) ? 0 : KEEPER_SLEEP_MS);
    }
}

static void *keeper_main(void *arg)
{
    struct keeper *keeper = arg;
    struct loop *loop = keeper_loop(keeper);
    const struct io_ops *ops = slab_io_ops(keeper->cache->slabs);

    pthread_setname_np(pthread_self(), "keeper");
    loop_enter(loop);
    if (ops->attach && ops->attach(ops, loop) < 0)
        log_error("the keeper has no I/O ring: space is not reclaimed");
    else
        keeper_work(keeper);
    while (loop->held) /* small records of others in a run that this loop began */
        loop_poll_once(keeper->poll, KEEPER_SLEEP_MS);
    if (ops->detach)
        ops->detach(ops, loop);
    loop_enter(NULL);
    return NULL;
}

int keeper_start(struct keeper *keeper)
{
    int err = pthread_create(&keeper->thread, NULL, keeper_main, keeper);

    keeper->running = !err;
    return -err;
}

void keeper_stop(struct keeper *keeper)
{
    struct loop *loop = keeper_loop(keeper);

    if (!keeper->running)
        return;
    keeper->stop = true;
    loop->ops->wake(loop);
    pthread_join(keeper->thread, NULL);
    keeper->running = false;
}
