/* base/loop.h - a thread that runs completions, timers and watched descriptors.
 *
 * `struct loop` is the part every loop shares; what sleeps is its owner's: h2o's evloop in server/,
 * curl's poll in upstream/, poll(2) in loop_poll.c (tests, tools). The owner's thread calls
 * loop_enter once, then forever: loop_run_ready, sleep at most loop_timeout_ms, dispatch.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/op.h"

struct loop_ops {
    void (*wake)(struct loop *loop); /* any thread: makes the sleeping owner return */
    /* Owner's thread: calls fn(arg) whenever fd is readable, until unwatch. fn may unwatch its own
     * fd. fd outlives the watch. */
    void (*watch)(struct loop *loop, int fd, void (*fn)(void *arg), void *arg);
    void (*unwatch)(struct loop *loop, int fd);
};

/* One-shot timer. Owner's thread only. Zero-initialise; the memory must stay until fired or
 * stopped. */
struct timer {
    void (*fn)(struct timer *timer);
    uint64_t due_ns;
    unsigned slot; /* 1-based place in the loop's heap; 0: not running */
};

/* Work gathered while completions run and sent in one go before the loop sleeps (io_uring submit).
 * Owner's thread. */
struct loop_hook {
    void (*fn)(struct loop_hook *hook);
    struct loop_hook *next;
};

struct loop {
    const struct loop_ops *ops;
    _Atomic(struct completion *) inbox;     /* posted by other threads, newest first */
    struct completion *ready, **ready_tail; /* posted by this thread, in order */
    struct loop_hook *hooks;                /* before_sleep */
    struct timer **timers;                  /* binary heap by due_ns */
    unsigned timer_count, timer_room;
    unsigned held; /* loop_hold; the owner turns until it is 0 before it leaves */
    void *io;      /* cache/io_uring's ring on this loop, or NULL */
};

void loop_init(struct loop *loop, const struct loop_ops *ops);
void loop_done(struct loop *loop);          /* nothing may be queued any more */
void loop_enter(struct loop *loop);         /* makes the calling thread its owner; NULL leaves */
bool loop_is_mine(const struct loop *loop); /* does the calling thread own it? */
struct loop *loop_current(void);            /* NULL on threads that own none */

/* Runs due timers, posted completions and hooks until nothing is ready. Did anything run? */
bool loop_run_ready(struct loop *loop);
/* How long the owner may sleep: 0 when something is ready, else until the next timer, at most max.
 */
int loop_timeout_ms(const struct loop *loop, int max);
void loop_add_hook(struct loop *loop, struct loop_hook *hook);
/* Something of this loop is under way that nobody waits for any more. Owner's thread. */
void loop_hold(struct loop *loop);
void loop_release(struct loop *loop);

void timer_start(struct loop *loop, struct timer *timer,
                 uint64_t after_ns);                     /* restarts a running one */
void timer_stop(struct loop *loop, struct timer *timer); /* idle is fine */

/* A loop over poll(2), for tests, tools and simple threads. */
struct loop_poll;
struct loop_poll *loop_poll_new(void);
struct loop_poll *loop_poll_free(struct loop_poll *poll);
struct loop *loop_poll_loop(struct loop_poll *poll);
void loop_poll_once(struct loop_poll *poll, int max_ms);            /* one round */
void loop_poll_until(struct loop_poll *poll, const bool *finished); /* rounds until *finished */
/* Waits on the calling thread for one start call: sets up `done` for this loop; run the start call,
 * then loop_await returns its err. */
struct awaited {
    struct completion done;
    bool fired;
};
struct completion *awaited_init(struct awaited *awaited, struct loop *loop);
int loop_await(struct loop_poll *poll, struct awaited *awaited);

#endif
