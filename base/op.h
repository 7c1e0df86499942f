/* base/op.h - one asynchronous request as a row of named steps, and the completions it awaits.
 *
 * Rules (base/README.md explains each): O1 one outstanding await per op. O2 a completion never
 * fires inside the call that started it. O3 every started call completes exactly once. O4 the start
 * call is the last statement before `return AWAIT`; its buffers belong to the callee until then.
 * O5 only the runner frees an op. O6 steps do not block and hold no lock across AWAIT. O7 an op
 * never changes thread; other threads only post.
 */
#ifndef BASE_OP_H
#define BASE_OP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

struct loop;
struct op;

/* One start call -> one completion_post, from any thread; fn runs later on `loop` (O2, O3). */
struct completion {
    void (*fn)(struct completion *);
    /* Set by a callee that can stop waiting, with its own `callee`. Called on `loop`, at most once;
     * the callee still posts, once. Both are cleared on `loop`: by a post of its own thread at
     * once, by another's when it is taken in. Until then cancel may come after that post, and has
     * nothing to do. */
    void (*cancel)(struct completion *);
    void *callee;
    struct loop *loop;
    int err; /* 0 or negative errno of the finished call */
    struct completion *queued;
};

/* Any thread. On the completion's own loop: a list run before the loop sleeps, no system call. */
void completion_post(struct completion *done, int err);

/* What a step returns: which step comes next, now or when op->done fires. */
struct next {
    struct next (*step)(struct op *);
    const char *name;
    bool wait;
};
#define GO(fn)    ((struct next){fn, #fn, false}) /* run fn now */
#define AWAIT(fn) ((struct next){fn, #fn, true})  /* run fn when op->done fires */
#define FINISH    ((struct next){NULL, "finish", false})

#define OP_TRAIL_MAX 24
struct trail { /* the last steps and what each was resumed with, for the slow log and panics */
    struct {
        const char *step;
        int err;
    } at[OP_TRAIL_MAX];
    unsigned count;
};

#define OP_MAGIC 0x6f705f31u
struct op {
    uint32_t magic;
    bool cancelled;         /* seen between steps: the op then finishes */
    bool waiting;           /* between AWAIT and the post's fn */
    struct completion done; /* the one await (O1) */
    struct next next;
    struct trail trail;
    void (*free)(struct op *); /* returns leases and refs; accepts a half-built op (O5) */
};

/* Loop thread. Prepares the op; op_start runs its first step at once, up to its first await. */
void op_init(struct op *op, struct loop *loop, void (*free)(struct op *));
void op_start(struct op *op, struct next first);
/* Loop thread. Sets op->cancelled and calls done.cancel when there is one; the op ends with its
 * outstanding post, never before it. Idempotent. */
void op_cancel(struct op *op);
/* "step>step(-5)>step" into text; returns the length. */
size_t trail_print(const struct trail *trail, char *text, size_t bytes);

#endif
