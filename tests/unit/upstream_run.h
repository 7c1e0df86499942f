/* tests/unit/upstream_run.h - upstream with its thread between the fake cache and the scripted
 * cloud. */
#ifndef TESTS_UPSTREAM_RUN_H
#define TESTS_UPSTREAM_RUN_H

#include "tests/unit/unit.h"

#include "base/digest.h"
#include "base/text.h"
#include "tests/support/fake_cloud.h"
#include "tests/unit/fake_cache.h"
#include "upstream/internal.h"

struct run {
    struct fake_cloud *cloud;
    struct cache *cache;
    struct workers *workers;
    struct upstream *upstream;
    struct account account;
    struct accounts accounts;
    struct loop_poll *poll;
    struct loop *loop;
};

/* doubtful: a mark that an earlier run has left; NULL: none. */
__attribute__((unused)) static void run_open_doubtful(struct run *run, fake_handler *handler,
                                                      void *arg, const struct doubtful *doubtful)
{
    struct upstream_conf conf;

    *run = (struct run){.account = {.id = 1, .name = SPAN("acct")}};
    run->cloud = fake_cloud_new(handler, arg);
    run->cache = fake_cache_new();
    if (doubtful)
        run->cache->doubtful = *doubtful;
    run->workers = workers_new(1, "test");
    run->account.upstream.endpoint = span_of(fake_cloud_endpoint(run->cloud));
    run->account.upstream.key = SPAN("secret");
    run->accounts = (struct accounts){&run->account, 1};
    run->poll = loop_poll_new();
    run->loop = loop_poll_loop(run->poll);
    loop_enter(run->loop);
    conf = (struct upstream_conf){.cache = run->cache,
                                  .accounts = &run->accounts,
                                  .workers = run->workers,
                                  .stall_timeout_ms = 1000,
                                  .block_bytes = 256 << 10,
                                  .settle_ms = 1};
    assert_int_equal(upstream_open_all(&conf, &run->upstream), 0);
}

static void run_open(struct run *run, fake_handler *handler, void *arg)
{
    run_open_doubtful(run, handler, arg, NULL);
}

static void run_close(struct run *run)
{
    upstream_close(run->upstream, 2 * NS_PER_SEC);
    loop_poll_once(run->poll, 0); /* answers nobody waited for any more */
    workers_free(run->workers);
    fake_cloud_free(run->cloud);
    fake_cache_free(run->cache);
    loop_enter(NULL);
    loop_poll_free(run->poll);
}

/* Waits on this thread until *count is at least n; 10 s at most. */
#define RUN_UNTIL(condition)                                                                       \
    do {                                                                                           \
        uint64_t give_up_ = clock_mono_ns() + 10 * NS_PER_SEC;                                     \
        while (!(condition) && clock_mono_ns() < give_up_)                                         \
            usleep(500);                                                                           \
        assert_true(condition);                                                                    \
    } while (0)

#endif
