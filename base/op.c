/* base/op.c - the step runner (O1, O5, O7). Completions travel in loop.c. */
#include "base/op.h"

#include <stdio.h>
#include <string.h>

#include "base/loop.h"

static void trail_add(struct trail *trail, const char *step, int err)
{
    unsigned i = trail->count % OP_TRAIL_MAX;

    trail->at[i].step = step;
    trail->at[i].err = err;
    trail->count++;
}

static void op_run(struct op *op)
{
    int err = op->done.err;

    do {
        trail_add(&op->trail, op->next.name, err);
        op->next = op->cancelled ? FINISH : op->next.step(op);
        err = 0;
    } while (op->next.step && !op->next.wait);
    if (op->next.step)
        op->waiting = true;
    else
        op->free(op);
}

static void op_resume(struct completion *done)
{
    struct op *op = container_of(done, struct op, done);

    assert(op->magic == OP_MAGIC && op->waiting);
    assert(loop_is_mine(done->loop));
    op->waiting = false;
    op_run(op);
}

void op_init(struct op *op, struct loop *loop, void (*free)(struct op *))
{
    *op = (struct op){.magic = OP_MAGIC, .free = free};
    op->done.fn = op_resume;
    op->done.loop = loop;
}

void op_start(struct op *op, struct next first)
{
    assert(op->magic == OP_MAGIC && loop_is_mine(op->done.loop));
    op->next = first;
    op->next.wait = false;
    op_run(op);
}

void op_cancel(struct op *op)
{
    void (*cancel)(struct completion *) = op->done.cancel;

    assert(op->magic == OP_MAGIC && loop_is_mine(op->done.loop));
    op->cancelled = true;
    if (!op->waiting || !cancel)
        return;
    op->done.cancel = NULL; /* at most once */
    cancel(&op->done);
}

size_t trail_print(const struct trail *trail, char *text, size_t bytes)
{
    unsigned first = trail->count > OP_TRAIL_MAX ? trail->count - OP_TRAIL_MAX : 0;
    size_t used = 0;

    for (unsigned i = first; i < trail->count && used < bytes; i++) {
        const char *step = trail->at[i % OP_TRAIL_MAX].step;
        int err = trail->at[i % OP_TRAIL_MAX].err, n;

        n = err ? snprintf(text + used, bytes - used, "%s%s(%d)", i > first ? ">" : "", step, err)
                : snprintf(text + used, bytes - used, "%s%s", i > first ? ">" : "", step);
        used = MIN(used + (size_t)n, bytes - 1);
    }
    return used;
}
