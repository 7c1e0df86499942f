/* blobapi/lease_blob.c - Lease Blob and Lease Container: acquire, renew, change, release, break.
 *
 * An action is a change of the name like any other, judged on its last ordered version: one that
 * comes before it in the name's order counts, durable or not. It is made durable before it is
 * answered, but for a renewal, which only begins the period anew in memory. ETag, Last-Modified and
 * content stay as they are, and the cloud hears nothing: here only leases are granted that this box
 * keeps (lease = local, or no cloud behind). */
#include "base/clock.h"
#include "blobapi/handlers.h"

#define LEASE(op) container_of(REQUEST(op), struct lease_request, r)

static struct next lease_previewed(struct op *op);
static struct next lease_turn_blob(struct op *op);
static struct next lease_turn_container(struct op *op);
static struct next lease_done(struct op *op);

/* ---- inputs ---- */

static bool digits_parse(struct span text, uint64_t *ret)
{
    if (!text.len || text.len > 4)
        return false;
    *ret = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.base[i] < '0' || text.base[i] > '9')
            return false;
        *ret = *ret * 10 + (uint64_t)(text.base[i] - '0');
    }
    return true;
}

static enum az_error action_input(struct lease_request *l, struct span text)
{
    static const struct {
        struct span text;
        enum lease_action action;
    } actions[] = {{SPAN("acquire"), LEASE_ACQUIRE},
                   {SPAN("renew"), LEASE_RENEW},
                   {SPAN("change"), LEASE_CHANGE},
                   {SPAN("release"), LEASE_RELEASE},
                   {SPAN("break"), LEASE_BREAK}};

    if (!text.len)
        return AZ_MISSING_REQUIRED_HEADER;
    for (unsigned i = 0; i < countof(actions); i++)
        if (span_eq_nocase(text, actions[i].text)) {
            l->asked.action = actions[i].action;
            return AZ_OK;
        }
    return AZ_INVALID_HEADER_VALUE;
}

static enum az_error duration_input(struct lease_request *l, struct span text)
{
    uint64_t seconds;

    if (!text.len)
        return AZ_MISSING_REQUIRED_HEADER;
    l->asked.period_ns = LEASE_INFINITE;
    if (span_eq(text, SPAN("-1")))
        return AZ_OK;
    if (!digits_parse(text, &seconds) || seconds < LEASE_SECONDS_MIN || seconds > LEASE_SECONDS_MAX)
        return AZ_INVALID_HEADER_VALUE;
    l->asked.period_ns = seconds * NS_PER_SEC;
    return AZ_OK;
}

static enum az_error break_input(struct lease_request *l, struct span text)
{
    uint64_t seconds;

    if (!text.len)
        return AZ_OK;
    if (!digits_parse(text, &seconds) || seconds > LEASE_BREAK_MAX)
        return AZ_INVALID_HEADER_VALUE;
    l->asked.has_break = true;
    l->asked.break_ns = seconds * NS_PER_SEC;
    return AZ_OK;
}

static enum az_error id_input(struct span text, unsigned char ret[LEASE_ID_BYTES])
{
    if (!text.len)
        return AZ_MISSING_REQUIRED_HEADER;
    return lease_id_parse(text, ret) < 0 ? AZ_INVALID_HEADER_VALUE : AZ_OK;
}

/* The id a lease is acquired under: proposed, or one of ours. */
static enum az_error acquired_input(struct lease_request *l, struct span proposed)
{
    if (!proposed.len) {
        request_id_make(l->made);
        proposed = span_from(l->made, sizeof(l->made));
    }
    l->id_text = proposed;
    return id_input(proposed, l->asked.proposed);
}

/* The headers one after the other; *culprit is the one an error speaks of. */
static enum az_error lease_inputs(struct lease_request *l, struct span *culprit)
{
    const struct exchange *http = l->r.http;
    struct span proposed = exchange_header(http, SPAN("x-ms-proposed-lease-id"));
    enum az_error error;

    *culprit = SPAN("x-ms-lease-action");
    error = action_input(l, exchange_header(http, *culprit));
    if (error)
        return error;
    if (l->asked.action == LEASE_ACQUIRE) {
        *culprit = SPAN("x-ms-lease-duration");
        error = duration_input(l, exchange_header(http, *culprit));
        *culprit = error ? *culprit : SPAN("x-ms-proposed-lease-id");
        return error ? error : acquired_input(l, proposed);
    }
    if (l->asked.action == LEASE_BREAK) {
        *culprit = SPAN("x-ms-lease-break-period");
        return break_input(l, exchange_header(http, *culprit));
    }
    *culprit = SPAN("x-ms-lease-id");
    l->id_text = exchange_header(http, *culprit);
    error = id_input(l->id_text, l->asked.id);
    if (error || l->asked.action != LEASE_CHANGE)
        return error;
    *culprit = SPAN("x-ms-proposed-lease-id");
    l->id_text = proposed;
    return id_input(proposed, l->asked.proposed);
}

/* ---- the action ---- */

static struct next lease_begin(struct lease_request *l)
{
    struct request *r = &l->r;
    struct span culprit = {NULL, 0};
    enum az_error error;

    assert(leases_granted_here(r->account, r->contract)); /* else it has gone to the cloud */
    error = lease_inputs(l, &culprit);
    if (error)
        return fail_header(r, error, culprit);
    if (!lease_permitted(r))
        return fail(r, AZ_AUTHORIZATION_PERMISSION_MISMATCH);
    return r->target.blob.len ? change_preview(r, CHANGE_NEEDS_BLOB, GO(lease_previewed))
                              : container_change(r, GO(lease_turn_container));
}

struct next lease_start(struct op *op)
{
    return lease_begin(LEASE(op));
}

static struct next lease_previewed(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_NEEDS_BLOB, GO(lease_turn_blob));
}

/* Holding the turn: what becomes of the lease. */
static struct next lease_judged(struct lease_request *l, const struct lease *lease)
{
    struct request *r = &l->r;
    struct lease_now now = lease_now_of(r, r->account, r->contract, lease);
    enum az_error error = lease_act(lease, &now, &l->asked, &l->outcome);

    if (error)
        return change_refuse(r, error);
    if (l->outcome.effect == LEASE_ANOTHER) {
        tx_lease(r->tx, &l->outcome.lease);
        cache_commit(TAKE(r->tx), &r->op.done);
        return AWAIT(lease_done);
    }
    if (l->outcome.effect == LEASE_RENEWED)
        cache_lease_renew(r->api->conf.cache, lease);
    cache_rollback(TAKE(r->tx), &r->op.done); /* answered when what it rests on is durable (D5) */
    return AWAIT(lease_done);
}

static struct next lease_turn_blob(struct op *op)
{
    struct lease_request *l = LEASE(op);
    const struct blob_record *b = blob_record(l->r.blob);

    l->etag = b->etag;
    l->modified_ns = b->modified_ns;
    return lease_judged(l, &b->lease);
}

static struct next lease_turn_container(struct op *op)
{
    struct lease_request *l = LEASE(op);
    const struct container_record *c;
    enum az_error error = container_verdict(&l->r);

    if (error)
        return change_refuse(&l->r, error);
    c = container_record(l->r.ordered);
    l->etag = c->etag;
    l->modified_ns = c->modified_ns;
    return lease_judged(l, &c->lease);
}

static int lease_status(enum lease_action action)
{
    return action == LEASE_ACQUIRE ? 201 : action == LEASE_BREAK ? 202 : 200;
}

static struct next lease_done(struct op *op)
{
    struct lease_request *l = LEASE(op);
    struct request *r = &l->r;

    if (op->done.err == -ENOENT) /* deleted meanwhile */
        return fail(r, AZ_CONTAINER_NOT_FOUND);
    if (op->done.err)
        return fail_errno(r, op->done.err);
    answer_etag(r, l->etag);
    answer_date(r, SPAN("Last-Modified"), l->modified_ns);
    if (l->asked.action == LEASE_BREAK) /* begun seconds count: 0 says broken */
        answer_u64(r, SPAN("x-ms-lease-time"), (l->outcome.left_ns + NS_PER_SEC - 1) / NS_PER_SEC);
    else if (l->asked.action != LEASE_RELEASE)
        answer_add(r, SPAN("x-ms-lease-id"), l->id_text);
    return answer_empty(r, lease_status(l->asked.action));
}
