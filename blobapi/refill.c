/* blobapi/refill.c - a change that uses committed blocks again whose bytes were evicted: it gives
 * its turn back, has what is missing brought onto the devices, and begins again (D4). Sub-routine
 * of steps; loop thread.
 *
 * Bounded whatever the client and the cloud do: a round goes forward through the list once, a gap
 * that stays one is asked for REFILL_ASKS_MAX times, and what was evicted again before its turn
 * came, REFILL_ROUNDS_MAX times. Then 503: there is no room for all of it at once. */
#include "blobapi/request.h"

#define REFILL_ROUNDS_MAX 4
#define REFILL_ASKS_MAX   3 /* of one gap, without a byte of it having stayed */

static struct next refill_run(struct op *op);
static struct next refill_read(struct op *op);
static struct next refill_have(struct op *op);
static struct next refill_asked(struct op *op);

struct next change_refill(struct request *r, struct refill *refill)
{
    r->refill = refill;
    if (refill->rounds++ == REFILL_ROUNDS_MAX) {
        change_drop(r);
        return fail_errno(r, -ENOSPC);
    }
    refill->at = 0;
    cache_rollback(TAKE(r->tx), &r->op.done);
    return AWAIT(refill_run);
}

/* What is absent and lies in a row, from entry `at` on; empty: nothing more. */
static struct range refill_next_run(struct refill *refill)
{
    struct range run = {0, 0};

    for (; refill->at < refill->count; refill->at++) {
        const struct piece *piece = &refill->pieces[refill->at];

        if (!piece->length) /* it is here */
            continue;
        if (!run.len)
            run.start = piece->offset;
        else if (piece->offset != run.start + run.len)
            break;
        run.len += piece->length;
    }
    return run;
}

static struct blob *refill_blob(const struct request *r)
{
    return r->refill->from ? r->refill->from : r->blob;
}

static struct next refill_run(struct op *op)
{
    struct request *r = REQUEST(op);
    struct refill *refill = r->refill;

    refill->run = refill_next_run(refill);
    if (!refill->run.len)
        return change_again(r);
    refill->asks = 0;
    refill->reader = cache_reader_open(refill_blob(r), refill->run, READ_KEEP);
    return GO(refill_read);
}

static struct next refill_read(struct op *op)
{
    struct refill *refill = REQUEST(op)->refill;

    reader_next(refill->reader, &refill->nothing, &op->done);
    return AWAIT(refill_have);
}

static struct next refill_failed(struct request *r, int err)
{
    refill_done(r);
    switch (err) {
    case -ESTALE: /* the cloud has another version by now: the list is judged on that one */
        return r->refill->from ? r->refill->changed : change_ask_again(r);
    case -ENOENT:
        return fail(r, AZ_CONTAINER_NOT_FOUND);
    case -ECANCELED:
        return cut(r);
    default:
        return fail_errno(r, err);
    }
}

/* All of the run is asked for, not this gap alone: blocks may be small and the cloud far. */
static struct next refill_ask(struct request *r)
{
    struct refill *refill = r->refill;
    uint64_t gap = reader_gap(refill->reader).start;
    uint64_t end = refill->run.start + refill->run.len;

    if (gap != refill->gap)
        refill->asks = 0;
    refill->gap = gap;
    if (refill->asks++ == REFILL_ASKS_MAX)
        return refill_failed(r, -ENOSPC);
    upstream_fill(r->api->conf.upstream, refill_blob(r), (struct range){gap, end - gap},
                  &r->op.done);
    return AWAIT(refill_asked);
}

static struct next refill_have(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err == -ENODATA && r->api->conf.upstream)
        return refill_ask(r);
    if (op->done.err)
        return refill_failed(r, op->done.err);
    refill_done(r);
    return GO(refill_run);
}

static struct next refill_asked(struct op *op)
{
    struct request *r = REQUEST(op);

    return op->done.err ? refill_failed(r, op->done.err) : GO(refill_read);
}

void refill_done(struct request *r)
{
    if (r->refill)
        r->refill->reader = reader_close(r->refill->reader);
}
