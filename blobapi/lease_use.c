/* blobapi/lease_use.c - leases as requests meet them: x-ms-lease-id on every operation, and how a
 * lease is shown. What it means is lease.c's; whether it counts here is the contract's. */
#include "base/clock.h"
#include "blobapi/handlers.h"

bool leases_granted_here(const struct account *account, const struct contract *contract)
{
    return account_is_local(account) || contract->lease == LEASE_LOCAL;
}

struct lease_now lease_now_of(const struct request *r, const struct account *account,
                              const struct contract *contract, const struct lease *lease)
{
    struct cache *cache = r->api->conf.cache;

    /* One from before the contract said that the cloud grants them: nobody could end it. */
    if (lease->kind == LEASE_KIND_NONE || !leases_granted_here(account, contract))
        return (struct lease_now){.state = LEASE_AVAILABLE};
    return lease_now(lease, lease_has_end(lease) ? cache_lease_began(cache, lease) : 0,
                     clock_mono_ns());
}

bool lease_permitted(const struct request *r)
{
    return (r->granted.rights & AUTH_WRITE) ||
           span_eq_nocase(exchange_header(r->http, SPAN("x-ms-lease-action")), SPAN("break"));
}

/* ---- x-ms-lease-id ---- */

enum az_error lease_id_input(struct request *r, struct span *culprit)
{
    struct span text = exchange_header(r->http, SPAN("x-ms-lease-id"));

    r->lease.rule = r->operation->lease;
    r->lease.of_container = !r->target.blob.len;
    if (!text.len || r->lease.rule == LEASE_RULE_IGNORED)
        return AZ_OK;
    *culprit = SPAN("x-ms-lease-id");
    r->lease.has_id = true;
    return lease_id_parse(text, r->lease.id) < 0 ? AZ_INVALID_HEADER_VALUE : AZ_OK;
}

enum az_error lease_verdict(const struct request *r, const struct lease *lease)
{
    struct lease_now now = {.state = LEASE_AVAILABLE};

    if (lease && lease->kind != LEASE_KIND_NONE &&
        (r->lease.has_id || r->lease.rule != LEASE_RULE_READ))
        now = lease_now_of(r, r->account, r->contract, lease);
    return lease_check(lease, &now, &r->lease);
}

enum az_error lease_verdict_blob(const struct request *r)
{
    return lease_verdict(r, r->blob ? &blob_record(r->blob)->lease : NULL);
}

static struct next gate_judged(struct request *r)
{
    enum az_error error = lease_verdict_blob(r);

    r->blob = r->blob ? blob_unref(r->blob) : NULL;
    return error ? fail(r, error) : r->gate_after;
}

static struct next gate_looked_up(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err && op->done.err != -ENOENT && op->done.err != -ENODATA)
        return fail_errno(r, op->done.err);
    return gate_judged(r); /* a name that is not known here has no lease of ours */
}

struct next lease_gate(struct request *r, struct next after)
{
    struct cache *cache = r->api->conf.cache;

    assert(!r->blob);
    r->gate_after = after;
    if (!leases_granted_here(r->account, r->contract) ||
        (r->blob = cache_lookup_hot(cache, &r->name)))
        return gate_judged(r);
    cache_lookup(cache, &r->name, &r->blob, &r->op.done);
    return AWAIT(gate_looked_up);
}

struct lease lease_kept(const struct request *r)
{
    const struct lease *lease;
    struct lease_now now;

    if (!r->blob)
        return (struct lease){.kind = LEASE_KIND_NONE};
    lease = &blob_record(r->blob)->lease;
    now = lease_now_of(r, r->account, r->contract, lease);
    return lease_written(lease, &now);
}

/* ---- shown ---- */

static struct lease_now lease_told(enum cloud_lease told)
{
    static const struct lease_now now[] = {
        [CLOUD_LEASE_NONE] = {.state = LEASE_AVAILABLE},
        [CLOUD_LEASE_FIXED] = {.state = LEASE_LEASED},
        [CLOUD_LEASE_INFINITE] = {.state = LEASE_LEASED, .infinite = true},
        [CLOUD_LEASE_EXPIRED] = {.state = LEASE_EXPIRED},
        [CLOUD_LEASE_BREAKING] = {.state = LEASE_BREAKING},
        [CLOUD_LEASE_BROKEN] = {.state = LEASE_BROKEN},
    };

    return now[told < countof(now) ? told : CLOUD_LEASE_NONE];
}

static struct lease_now lease_shown(const struct request *r, const struct contract *contract,
                                    const struct lease *lease, enum cloud_lease told)
{
    return leases_granted_here(r->account, contract) ? lease_now_of(r, r->account, contract, lease)
                                                     : lease_told(told);
}

void lease_headers(struct request *r, const struct lease *lease, enum cloud_lease told)
{
    struct lease_now now = lease_shown(r, r->contract, lease, told);

    answer_add(r, SPAN("x-ms-lease-status"),
               lease_is_locked(&now) ? SPAN("locked") : SPAN("unlocked"));
    answer_add(r, SPAN("x-ms-lease-state"), lease_state_name(now.state));
    if (now.state == LEASE_LEASED)
        answer_add(r, SPAN("x-ms-lease-duration"), now.infinite ? SPAN("infinite") : SPAN("fixed"));
}

void emit_lease(const struct request *r, struct span container, struct span blob,
                const struct lease *lease, enum cloud_lease told, struct emit *e)
{
    struct lease_now now = {.state = LEASE_AVAILABLE};

    if (lease->kind != LEASE_KIND_NONE || told) /* a page has 5 000 rows, nearly all without */
        now = lease_shown(r, contract_for(r->account, container, blob), lease, told);
    if (lease_is_locked(&now))
        EMIT(e, "<LeaseStatus>locked</LeaseStatus><LeaseState>");
    else
        EMIT(e, "<LeaseStatus>unlocked</LeaseStatus><LeaseState>");
    emit_span(e, lease_state_name(now.state));
    EMIT(e, "</LeaseState>");
    if (now.state == LEASE_LEASED && now.infinite)
        EMIT(e, "<LeaseDuration>infinite</LeaseDuration>");
    else if (now.state == LEASE_LEASED)
        EMIT(e, "<LeaseDuration>fixed</LeaseDuration>");
}
