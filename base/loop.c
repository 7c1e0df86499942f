/* base/loop.c - completions, hooks and timers of a loop; who sleeps is the owner's business.
 *
 * A post from the loop's own thread appends to `ready`; one from elsewhere is pushed on `inbox`
 * (newest first), and only the push that finds it empty wakes the owner:
 *   1. poster: push; found empty -> wake
 *   2. owner: exchanges inbox for NULL and reverses what it got, so each thread's posts stay in
 * order A post between 2 and the owner's sleep finds it empty again and wakes: no completion is
 * left behind. */
#include "base/loop.h"

#include <stdlib.h>

#include "base/clock.h"

static __thread struct loop *current;

/* Owner's thread, which alone touches cancel and callee from the start call on: so op_cancel reads
 * them without a lock, and a callee it reaches finds itself. */
static void ready_append(struct loop *loop, struct completion *done)
{
    done->cancel = NULL;
    done->callee = NULL;
    done->queued = NULL;
    *loop->ready_tail = done;
    loop->ready_tail = &done->queued;
}

static void inbox_push(struct loop *loop, struct completion *done)
{
    struct completion *newest = atomic_load_explicit(&loop->inbox, memory_order_relaxed);

    do {
        done->queued = newest;
    } while (!atomic_compare_exchange_weak_explicit(&loop->inbox, &newest, done,
                                                    memory_order_release, memory_order_relaxed));
    if (!newest)
        loop->ops->wake(loop);
}

static void inbox_take(struct loop *loop)
{
    struct completion *newest = atomic_exchange_explicit(&loop->inbox, NULL, memory_order_acquire);
    struct completion *oldest = NULL;

    while (newest) {
        struct completion *next = newest->queued;

        newest->queued = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct completion *next = oldest->queued;

        ready_append(loop, oldest);
        oldest = next;
    }
}

static void ready_run(struct loop *loop) /* what is queued now; new posts wait for the next round */
{
    struct completion *done = loop->ready;

    loop->ready = NULL;
    loop->ready_tail = &loop->ready;
    while (done) {
        struct completion *next = done->queued; /* fn may reuse or free done */

        done->queued = NULL;
        done->fn(done);
        done = next;
    }
}

static void timer_place(struct loop *loop, struct timer *timer, unsigned slot)
{
    loop->timers[slot] = timer;
    timer->slot = slot;
}

static void timer_up(struct loop *loop, struct timer *timer, unsigned slot)
{
    while (slot > 1 && loop->timers[slot / 2]->due_ns > timer->due_ns) {
        timer_place(loop, loop->timers[slot / 2], slot);
        slot /= 2;
    }
    timer_place(loop, timer, slot);
}

static void timer_down(struct loop *loop, struct timer *timer, unsigned slot)
{
    for (;;) {
        unsigned child = slot * 2;

        if (child > loop->timer_count)
            break;
        if (child < loop->timer_count &&
            loop->timers[child + 1]->due_ns < loop->timers[child]->due_ns)
            child++;
        if (loop->timers[child]->due_ns >= timer->due_ns)
            break;
        timer_place(loop, loop->timers[child], slot);
        slot = child;
    }
    timer_place(loop, timer, slot);
}

static bool timers_run(struct loop *loop)
{
    uint64_t now = loop->timer_count ? clock_mono_ns() : 0;
    bool any = false;

    while (loop->timer_count && loop->timers[1]->due_ns <= now) {
        struct timer *timer = loop->timers[1];

        timer_stop(loop, timer);
        timer->fn(timer);
        any = true;
    }
    return any;
}

void completion_post(struct completion *done, int err)
{
    struct loop *loop = done->loop;

    done->err = err;
    if (current == loop)
        ready_append(loop, done);
    else
        inbox_push(loop, done);
}

void loop_init(struct loop *loop, const struct loop_ops *ops)
{
    *loop = (struct loop){.ops = ops};
    loop->ready_tail = &loop->ready;
}

void loop_done(struct loop *loop)
{
    assert(!loop->ready && !atomic_load(&loop->inbox));
    free(loop->timers);
    loop->timers = NULL;
}

void loop_enter(struct loop *loop)
{
    current = loop;
}

bool loop_is_mine(const struct loop *loop)
{
    return current == loop;
}

void loop_hold(struct loop *loop)
{
    assert(loop_is_mine(loop));
    loop->held++;
}

void loop_release(struct loop *loop)
{
    assert(loop_is_mine(loop) && loop->held > 0);
    loop->held--;
}

struct loop *loop_current(void)
{
    return current;
}

bool loop_run_ready(struct loop *loop)
{
    bool any, ever = false;

    assert(current == loop);
    do {
        any = timers_run(loop);
        inbox_take(loop);
        any |= loop->ready != NULL;
        ready_run(loop);
        for (struct loop_hook *hook = loop->hooks; !loop->ready && hook; hook = hook->next)
            hook->fn(hook);
        ever |= any;
    } while (any);
    return ever;
}

int loop_timeout_ms(const struct loop *loop, int max)
{
    uint64_t now, wait_ms;

    if (loop->ready || atomic_load_explicit(&loop->inbox, memory_order_acquire))
        return 0;
    if (!loop->timer_count)
        return max;
    now = clock_mono_ns();
    if (loop->timers[1]->due_ns <= now)
        return 0;
    wait_ms = (loop->timers[1]->due_ns - now) / NS_PER_MS + 1;
    return wait_ms < (uint64_t)max ? (int)wait_ms : max;
}

void loop_add_hook(struct loop *loop, struct loop_hook *hook)
{
    hook->next = loop->hooks;
    loop->hooks = hook;
}

void timer_start(struct loop *loop, struct timer *timer, uint64_t after_ns)
{
    assert(current == loop);
    timer_stop(loop, timer);
    timer->due_ns = clock_mono_ns() + after_ns;
    if (loop->timer_count + 2 > loop->timer_room) {
        loop->timer_room = loop->timer_room ? loop->timer_room * 2 : 16;
        loop->timers = xrealloc(loop->timers, loop->timer_room * sizeof(*loop->timers));
    }
    timer_up(loop, timer, ++loop->timer_count);
}

void timer_stop(struct loop *loop, struct timer *timer)
{
    struct timer *last;
    unsigned slot = timer->slot;

    assert(current == loop);
    if (!slot)
        return;
    timer->slot = 0;
    last = loop->timers[loop->timer_count--];
    if (last == timer)
        return;
    if (slot > 1 && loop->timers[slot / 2]->due_ns > last->due_ns)
        timer_up(loop, last, slot);
    else
        timer_down(loop, last, slot);
}
