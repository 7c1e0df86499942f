/* blobapi/find.c - the version or container a request speaks of, as reads see it: durable state,
 * fresh enough for the contract, from the cloud where the box does not know (design section 6).
 *
 *   known, fresh           r->blob from memory without a thread hop, else from the index
 *   known, expired         asked again with a budget; the cloud silent: stale, or 503 by `offline`.
 *                          One that let a budget run out is asked for SILENCE_NS without waiting
 *   known, but not so      asked again (r->refetch): the cloud refused its bytes
 *   in doubt               the cloud is changing it: asked whatever is known, as if expired
 *   known absent           -ENOENT
 *   not known              asked, once for all who wait; the cloud silent: -EHOSTUNREACH, a 503
 * An answer that is older than what the box learned meanwhile (-ESTALE) starts over,
 * FIND_ROUNDS_MAX times. */
#include "base/clock.h"
#include "blobapi/metrics.h"
#include "blobapi/request.h"

#define REVALIDATE_BUDGET_NS (50 * NS_PER_MS)  /* design section 5, revalidate_budget */
#define REVALIDATE_WAIT_NS   (30 * NS_PER_SEC) /* offline = fail: nothing else to answer with */
#define SILENCE_NS           NS_PER_SEC

static struct next find_hot(struct op *op);
static struct next find_looked_up(struct op *op);
static struct next find_fresh(struct op *op);
static struct next find_revalidated(struct op *op);
static struct next find_open(struct op *op);
static struct next find_opened(struct op *op);

bool request_has_cloud(const struct request *r)
{
    return r->api->conf.upstream && !account_is_local(r->account);
}

struct name request_name(const struct request *r)
{
    return (struct name){.container = container_record(r->container)->id,
                         .blob = r->target.blob,
                         .snapshot = target_param(&r->target, SPAN("snapshot"))};
}

struct next find_blob(struct request *r, struct range first, struct next after)
{
    r->first = first;
    r->find_after = after;
    r->asks = 0;
    r->blob = r->blob ? blob_unref(r->blob) : NULL;
    return GO(find_hot);
}

static struct next found(struct request *r, int err)
{
    r->found = err;
    if (err && r->blob)
        r->blob = blob_unref(r->blob);
    return r->find_after;
}

/* A number under which this request has not asked yet; 0: no doubt. */
static uint64_t new_doubt(const struct request *r, const struct doubtful *of)
{
    uint64_t doubt = request_has_cloud(r) ? cache_doubt(r->api->conf.cache, of) : 0;

    return doubt != r->doubt ? doubt : 0;
}

static struct doubtful blob_of(const struct request *r)
{
    return (struct doubtful){r->account->id, r->name.container, r->name.blob};
}

/* Bytes are here or not as before: what is asked is which version there is. */
static struct next find_doubtful(struct request *r, uint64_t doubt)
{
    struct doubtful of = blob_of(r);
    bool patient = !r->blob || r->contract->offline != OFFLINE_SERVE;

    r->doubt = doubt;
    r->asked_cloud = true;
    upstream_ask_doubtful(r->api->conf.upstream, &of, doubt,
                          patient ? REVALIDATE_WAIT_NS : REVALIDATE_BUDGET_NS, &r->newer,
                          &r->op.done);
    return AWAIT(find_revalidated);
}

static struct next find_hot(struct op *op)
{
    struct request *r = REQUEST(op);

    if ((r->blob = cache_lookup_hot(r->api->conf.cache, &r->name)))
        return GO(find_fresh);
    cache_lookup(r->api->conf.cache, &r->name, &r->blob, &op->done);
    return AWAIT(find_looked_up);
}

static struct next find_looked_up(struct op *op)
{
    struct request *r = REQUEST(op);

    struct doubtful of = blob_of(r);
    uint64_t doubt;

    switch (op->done.err) {
    case 0:
        return GO(find_fresh);
    case -ENODATA:
        return request_has_cloud(r) ? GO(find_open) : found(r, -ENOENT);
    case -ENOENT:
        doubt = new_doubt(r, &of);
        return doubt ? find_doubtful(r, doubt) : found(r, -ENOENT);
    default:
        return found(r, op->done.err);
    }
}

/* Only what the cloud has can have changed there: what waits for upload is newer than that. */
static bool can_have_changed(const struct request *r, const struct blob_record *record)
{
    return request_has_cloud(r) && record->cloud_etag.len && record->durability == DURABILITY_CLOUD;
}

static bool expired(const struct request *r, const struct blob_record *record)
{
    int64_t age = clock_wall_ns() - record->checked_ns;

    switch (r->contract->fresh) {
    case FRESH_BOUNDED:
        return age < 0 || (uint64_t)age > r->contract->fresh_ns; /* a time to come is expired */
    case FRESH_STRICT:
        return true;
    default:
        return false;
    }
}

/* Until when the account's cloud is taken for silent, monotonic; 0: it answers. */
static _Atomic uint64_t *silence_of(struct request *r)
{
    return &r->api->silent_until_ns[r->account - r->api->conf.accounts->at];
}

static struct next find_stale(struct request *r)
{
    if (r->contract->offline != OFFLINE_SERVE)
        return found(r, -EHOSTUNREACH);
    r->stale = true;
    STAT_INC(blobapi_stale);
    return found(r, 0);
}

static struct next find_fresh(struct op *op)
{
    struct request *r = REQUEST(op);
    const struct blob_record *record = blob_record(r->blob);
    struct doubtful of = blob_of(r);
    bool forced = r->refetch;
    uint64_t doubt;
    /* When the bytes are not here either, there is nothing to serve stale: worth a real wait. */
    bool patient = r->contract->offline != OFFLINE_SERVE || forced;

    r->refetch = false;
    if (can_have_changed(r, record) && (doubt = new_doubt(r, &of)))
        return find_doubtful(r, doubt);
    if (!can_have_changed(r, record) || (!forced && (r->asked_cloud || !expired(r, record))))
        return found(r, 0);
    r->asked_cloud = true;
    if (!patient && clock_mono_ns() < atomic_load_explicit(silence_of(r), memory_order_relaxed)) {
        upstream_revalidate(r->api->conf.upstream, r->blob, 0, NULL, NULL); /* nobody waits */
        return find_stale(r);
    }
    upstream_revalidate(r->api->conf.upstream, r->blob,
                        patient ? REVALIDATE_WAIT_NS : REVALIDATE_BUDGET_NS, &r->newer, &op->done);
    return AWAIT(find_revalidated);
}

static struct next find_again(struct request *r)
{
    r->doubt = 0; /* overtaken: its number is another one, or nothing is in doubt any more */
    r->blob = r->blob ? blob_unref(r->blob) : NULL;
    return ++r->asks < FIND_ROUNDS_MAX ? GO(find_hot) : found(r, -EBUSY);
}

static struct next find_silent(struct request *r)
{
    if (!r->blob) /* it may be there by now */
        return found(r, -EHOSTUNREACH);
    atomic_store_explicit(silence_of(r), clock_mono_ns() + SILENCE_NS, memory_order_relaxed);
    return find_stale(r);
}

static struct next find_revalidated(struct op *op)
{
    struct request *r = REQUEST(op);

    if (!op->done.err || op->done.err == -ENOENT)
        atomic_store_explicit(silence_of(r), 0, memory_order_relaxed);
    switch (op->done.err) {
    case 0:
        r->learned |= !r->blob || blob_record(r->newer)->etag != blob_record(r->blob)->etag;
        r->blob = r->blob ? blob_unref(r->blob) : NULL;
        r->blob = TAKE(r->newer);
        return found(r, 0);
    case -ENOENT:
        return found(r, -ENOENT);
    case -ESTALE:
        return find_again(r);
    case -ECANCELED:
        return found(r, -ECANCELED);
    default:
        return find_silent(r);
    }
}

static struct next find_open(struct op *op) /* one request per name, however many wait */
{
    struct request *r = REQUEST(op);

    r->asked_cloud = true;
    r->refetch = false;
    upstream_open(r->api->conf.upstream, &r->name, r->first, &r->blob, &op->done);
    return AWAIT(find_opened);
}

static struct next find_opened(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err == -ESTALE)
        return find_again(r);
    r->learned |= !op->done.err;
    return found(r, op->done.err);
}

/* ---- containers ---- */

static struct next find_container_hot(struct op *op);
static struct next find_container_asked(struct op *op);
static struct next find_container_told(struct op *op);

struct next find_container(struct request *r, struct next after)
{
    r->find_after = after;
    r->asks = 0;
    return GO(find_container_hot);
}

/* What is told of the container itself; blobs in it are found as before. */
static uint64_t container_doubt(const struct request *r, const struct doubtful *of)
{
    return r->target.blob.len || request_forwards(r) ? 0 : new_doubt(r, of);
}

static struct next find_container_hot(struct op *op)
{
    struct request *r = REQUEST(op);
    struct doubtful of = {.account = r->account->id, .name = r->target.container};
    uint64_t doubt = container_doubt(r, &of);
    int err =
        cache_container(r->api->conf.cache, r->account->id, r->target.container, &r->container);

    if (err == -ENODATA && request_has_cloud(r)) {
        if (r->asks++ == FIND_ROUNDS_MAX)
            return found(r, -EBUSY);
        upstream_open_container(r->api->conf.upstream, r->account->id, r->target.container,
                                &op->done);
        return AWAIT(find_container_asked);
    }
    if (doubt && (!err || err == -ENOENT) && r->asks++ < FIND_ROUNDS_MAX) {
        r->doubt = doubt;
        upstream_ask_doubtful(r->api->conf.upstream, &of, doubt,
                              err ? REVALIDATE_WAIT_NS : REVALIDATE_BUDGET_NS, NULL, &op->done);
        return AWAIT(find_container_told);
    }
    return found(r, err == -ENODATA ? -ENOENT : err);
}

/* Learned or overtaken: looked at again. A silent cloud: what is known, if it is there. */
static struct next find_container_told(struct op *op)
{
    struct request *r = REQUEST(op);
    bool known = r->container != NULL;

    if (op->done.err == -ECANCELED)
        return found(r, -ECANCELED);
    if (op->done.err && op->done.err != -ESTALE && op->done.err != -ENOENT) {
        r->stale = known;
        return found(r, known && r->contract->offline == OFFLINE_SERVE ? 0 : -EHOSTUNREACH);
    }
    r->container = known ? container_unref(r->container) : NULL;
    return GO(find_container_hot);
}

static struct next find_container_asked(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err && op->done.err != -ESTALE)
        return found(r, op->done.err);
    return GO(find_container_hot);
}
