/* blobapi/change.c - one change of one blob: its turn, the judgement, the commit.
 *
 * Conditions and rights are judged on the last *ordered* version, inside the change (D3); what is
 * known at the request's head only allows to refuse early, before a body is read. Nothing here
 * waits for the client or the cloud while it holds a name's turn: an unknown name is asked for
 * outside of it, then it begins again (D4). A refusal leaves when what it rests on is durable. */
#include "blobapi/request.h"

static struct next change_turn(struct op *op);
static struct next change_begun(struct op *op);
static struct next change_ask(struct op *op);
static struct next change_asked(struct op *op);

static bool change_must_know(const struct request *r)
{
    /* A right to create but not to overwrite depends on what is there, as a condition does. */
    return r->needs != CHANGE_PLAIN || conditions_given(&r->conditions) ||
           !(r->granted.rights & AUTH_WRITE) || r->lease.has_id;
}

static struct condition_subject subject_of(const struct blob_record *record)
{
    return (struct condition_subject){record->etag, record->cloud_etag, record->modified_ns,
                                      record->tags};
}

enum az_error request_judge(const struct request *r, const struct blob *blob)
{
    struct condition_subject subject;

    if (blob && r->conditions.tags && blob_record(blob)->tags_unknown)
        return AZ_TAGS_NOT_KNOWN;
    if (blob)
        subject = subject_of(blob_record(blob));
    return conditions_judge(&r->conditions, blob ? &subject : NULL);
}

/* Without a committed blob. Only the change itself sees what is staged. */
static bool change_has_enough(const struct request *r)
{
    return r->needs == CHANGE_PLAIN ||
           (r->needs == CHANGE_OR_STAGED && (!r->tx || tx_has_staged(r->tx)));
}

/* Of what is there: lease, then conditions (Put Blob with If-None-Match: * of a leased blob is 412
 * LeaseIdMissing at the service, Azurite#2637), then rights. Of what is not: conditions, existence,
 * and then there is no lease. */
static enum az_error change_verdict(const struct request *r)
{
    enum az_error error = r->blob ? lease_verdict_blob(r) : AZ_OK;

    if (!error)
        error = request_judge(r, r->blob);
    if (error)
        return error;
    if (!r->blob && !change_has_enough(r))
        return AZ_BLOB_NOT_FOUND;
    if (!r->blob && (r->tx || r->needs == CHANGE_PLAIN) && (error = lease_verdict_blob(r)))
        return error; /* at the head it may be a 404 yet */
    if (r->blob && r->operation->conditions == CONDITIONS_CREATE &&
        !(r->granted.rights & AUTH_WRITE))
        return AZ_UNAUTHORIZED_BLOB_OVERWRITE;
    return AZ_OK;
}

/* ---- at the head ---- */

/* Create-only, in a scope that goes on while the cloud is silent: the cloud itself judges the
 * If-None-Match: * when the upload arrives; a conflict is then held and shown, nothing is lost. */
static bool change_may_assume_absent(const struct request *r)
{
    return r->found == -EHOSTUNREACH && r->contract->offline == OFFLINE_SERVE &&
           r->contract->write == WRITE_BACK && r->needs == CHANGE_PLAIN &&
           conditions_create_only(&r->conditions);
}

static struct next change_previewed(struct op *op)
{
    struct request *r = REQUEST(op);
    enum az_error error;

    if (change_may_assume_absent(r))
        return r->change_after;
    if (r->found && r->found != -ENOENT)
        return fail_errno(r, r->found);
    error = change_verdict(r);
    return error ? fail(r, error) : r->change_after;
}

/* A plain overwrite asks for nothing; but of what is in memory it is seen that it is leased, before
 * a body is sent for nothing. */
static struct next change_glance(struct request *r)
{
    enum az_error error;

    if (!(r->blob = cache_lookup_hot(r->api->conf.cache, &r->name)))
        return r->change_after;
    error = lease_verdict_blob(r);
    r->blob = blob_unref(r->blob);
    return error ? fail(r, error) : r->change_after;
}

struct next change_preview(struct request *r, enum change_needs needs, struct next after)
{
    r->needs = needs;
    r->change_after = after;
    if (!change_must_know(r))
        return change_glance(r);
    return find_blob(r, (struct range){0, 0}, GO(change_previewed));
}

/* ---- the change ---- */

struct next change_begin(struct request *r, enum change_needs needs, struct next after)
{
    r->needs = needs;
    r->change_after = after;
    r->change_rounds = 0;
    r->taken_absent = false;
    return GO(change_turn);
}

static struct next change_turn(struct op *op)
{
    struct request *r = REQUEST(op);

    r->blob = r->blob ? blob_unref(r->blob) : NULL;
    cache_begin(r->api->conf.cache, &r->name, &r->tx, &op->done);
    return AWAIT(change_begun);
}

static struct next change_begun(struct op *op)
{
    struct request *r = REQUEST(op);
    struct blob *current = NULL;
    enum az_error error;
    int err;

    if (op->done.err)
        return fail_errno(r, op->done.err);
    err = tx_current(r->tx, &current);
    if (err == -ENODATA && !r->taken_absent && change_must_know(r) && request_has_cloud(r)) {
        cache_rollback(TAKE(r->tx), &op->done);
        return AWAIT(change_ask);
    }
    if (err && err != -ENOENT && err != -ENODATA) {
        change_drop(r);
        return fail_errno(r, err);
    }
    r->blob = current ? blob_ref(current) : NULL;
    error = change_verdict(r);
    return error ? change_refuse(r, error) : r->change_after;
}

static struct next change_ask(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->change_rounds++ == FIND_ROUNDS_MAX)
        return fail_errno(r, -EBUSY);
    return find_blob(r, (struct range){0, 0}, GO(change_asked));
}

static struct next change_asked(struct op *op)
{
    struct request *r = REQUEST(op);

    r->taken_absent = r->found == -ENOENT || change_may_assume_absent(r);
    return r->found && !r->taken_absent ? fail_errno(r, r->found) : GO(change_turn);
}

bool change_forbidden_type(const struct request *r, enum blob_type type)
{
    const struct blob_record *b = r->blob ? blob_record(r->blob) : NULL;

    return b && b->type != type && b->snapshots.count;
}

static struct next change_refused(struct op *op)
{
    struct request *r = REQUEST(op);

    return op->done.err ? fail_errno(r, op->done.err) : fail(r, r->error);
}

struct next change_again(struct request *r)
{
    assert(!r->tx);
    return GO(change_turn);
}

struct next change_ask_again(struct request *r)
{
    assert(!r->tx);
    r->refetch = true; /* what is known here looks fresh and is not */
    return GO(change_ask);
}

struct next change_refuse(struct request *r, enum az_error error)
{
    r->error = error;
    cache_rollback(TAKE(r->tx), &r->op.done);
    return AWAIT(change_refused);
}

static struct next change_committed(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err == -ENOENT) /* deleted between the head and here */
        return fail(r, AZ_CONTAINER_NOT_FOUND);
    return op->done.err ? fail_errno(r, op->done.err) : r->change_after;
}

struct next change_commit(struct request *r, enum upload_kind kind, struct next after)
{
    struct upload_spec spec = {kind, r->contract, conditions_create_only(&r->conditions)};

    r->change_after = after;
    if (request_has_cloud(r) && r->contract->write == WRITE_BACK)
        tx_upload(r->tx, &spec);
    cache_commit(TAKE(r->tx), &r->op.done);
    return AWAIT(change_committed);
}

static void change_dropped(struct completion *done)
{
    loop_release(done->loop);
    free(done);
}

/* The client went away between begin and commit: nobody waits, the name's turn must go on. */
void change_drop(struct request *r)
{
    struct completion *done;

    if (!r->tx)
        return;
    done = xcalloc(1, sizeof(*done));
    *done = (struct completion){.fn = change_dropped, .loop = r->http->loop};
    loop_hold(done->loop); /* it ends there, perhaps when nothing else is left to do */
    cache_rollback(TAKE(r->tx), done);
}
