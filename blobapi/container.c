/* blobapi/container.c - containers: create, properties, metadata, delete.
 *
 * A change is ordered by (account, name) and judged on the last ordered record, like a blob's. The
 * cloud gets it when a line of the configuration that can match inside the container is not local.
 */
#include "blobapi/handlers.h"

#define CHANGE(op) container_of(REQUEST(op), struct container_change, r)

static struct next container_turn(struct op *op);
static struct next container_begun(struct op *op);
static struct next container_ask(struct op *op);
static struct next container_asked(struct op *op);
static struct next container_committed(struct op *op);
static struct next create_judged(struct op *op);
static struct next create_done(struct op *op);
static struct next delete_container_judged(struct op *op);
static struct next delete_container_done(struct op *op);
static struct next metadata_judged(struct op *op);
static struct next metadata_done(struct op *op);

/* ---- reads ---- */

static void container_properties(struct request *r)
{
    const struct container_record *c = container_record(r->container);

    lease_headers(r, &c->lease, c->cloud_lease);
    if (c->public_access.len)
        answer_add(r, SPAN("x-ms-blob-public-access"), c->public_access);
    answer_add(r, SPAN("x-ms-has-immutability-policy"), SPAN("false"));
    answer_add(r, SPAN("x-ms-has-legal-hold"), SPAN("false"));
    answer_add(r, SPAN("x-ms-immutable-storage-with-versioning-enabled"), SPAN("false"));
    answer_add(r, SPAN("x-ms-default-encryption-scope"), SPAN("$account-encryption-key"));
    answer_add(r, SPAN("x-ms-deny-encryption-scope-override"), SPAN("false"));
}

struct next get_container_start(struct op *op)
{
    struct request *r = REQUEST(op);
    const struct container_record *c = container_record(r->container);
    enum az_error error = lease_verdict(r, &c->lease);

    if (error)
        return fail(r, error);
    answer_etag(r, c->etag);
    answer_date(r, SPAN("Last-Modified"), c->modified_ns);
    answer_metadata(r, c->metadata, c->metadata_count);
    if (r->operation == &operations[OPERATION_GET_CONTAINER_PROPERTIES])
        container_properties(r);
    return answer_empty(r, 200);
}

/* ---- changes: the turn ---- */

struct next container_change(struct request *r, struct next judged)
{
    r->change_after = judged;
    r->change_rounds = 0;
    r->taken_absent = false;
    return GO(container_turn);
}

static struct next container_turn(struct op *op)
{
    struct request *r = REQUEST(op);

    cache_begin_container(r->api->conf.cache, r->account->id, r->target.container, &r->tx,
                          &op->done);
    return AWAIT(container_begun);
}

/* r->found: 0 with r->container, or -ENOENT. */
static struct next container_begun(struct op *op)
{
    struct request *r = REQUEST(op);
    struct container *current = NULL;

    if (op->done.err)
        return fail_errno(r, op->done.err);
    r->found = tx_current_container(r->tx, &current);
    if (r->found == -ENODATA && request_has_cloud(r) && !r->taken_absent) {
        cache_rollback(TAKE(r->tx), &op->done);
        return AWAIT(container_ask);
    }
    if (r->found == -ENODATA)
        r->found = -ENOENT; /* a container's absence is not remembered: the answer counts for this
                               change */
    if (r->found && r->found != -ENOENT) {
        change_drop(r);
        return fail_errno(r, r->found);
    }
    r->ordered = r->found ? NULL : current;
    return r->change_after;
}

static struct next container_ask(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->change_rounds++ == FIND_ROUNDS_MAX)
        return fail_errno(r, -EBUSY);
    upstream_open_container(r->api->conf.upstream, r->account->id, r->target.container, &op->done);
    return AWAIT(container_asked);
}

static struct next container_asked(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err && op->done.err != -ENOENT && op->done.err != -ESTALE)
        return fail_errno(r, op->done.err);
    r->taken_absent = op->done.err == -ENOENT;
    return GO(container_turn);
}

struct next container_commit(struct container_change *c, enum upload_kind kind, struct next after)
{
    struct request *r = &c->r;
    struct upload_spec spec = {kind, r->contract};

    r->change_after = after;
    if (request_has_cloud(r) && contract_container_in_cloud(r->account, r->target.container))
        tx_upload(r->tx, &spec);
    cache_commit(TAKE(r->tx), &r->op.done);
    return AWAIT(container_committed);
}

static struct next container_committed(struct op *op)
{
    struct request *r = REQUEST(op);

    switch (op->done.err) {
    case 0:
        return r->change_after;
    case -ENOENT: /* as fail_errno, but of the container */
        return fail(r, AZ_CONTAINER_NOT_FOUND);
    case -EEXIST:
        return fail(r, AZ_CONTAINER_ALREADY_EXISTS);
    default:
        return fail_errno(r, op->done.err);
    }
}

enum az_error container_verdict(const struct request *r)
{
    const struct container_record *now;
    struct condition_subject subject;
    enum az_error error;

    if (!r->ordered)
        return AZ_CONTAINER_NOT_FOUND;
    now = container_record(r->ordered);
    subject = (struct condition_subject){.etag = now->etag, .modified_ns = now->modified_ns};
    error = lease_verdict(r, &now->lease);
    return error ? error : conditions_judge(&r->conditions, &subject);
}

/* ---- create ---- */

/* What a container of ours cannot have would be lost without a word. */
static enum az_error create_inputs(struct container_change *c, struct span *culprit)
{
    struct request *r = &c->r;
    struct span scope = exchange_header(r->http, SPAN("x-ms-default-encryption-scope"));
    enum az_error error = access_input(r, &c->record.public_access, culprit);

    if (error)
        return error;
    if (scope.len && !span_eq(scope, SPAN("$account-encryption-key"))) {
        *culprit = SPAN("x-ms-default-encryption-scope");
        return AZ_UNSUPPORTED_HEADER;
    }
    return metadata_inputs(r, &c->record.metadata, &c->record.metadata_count);
}

struct next create_container_start(struct op *op)
{
    struct container_change *c = CHANGE(op);
    struct span culprit;
    enum az_error error = create_inputs(c, &culprit);

    if (error)
        return culprit.len ? fail_header(&c->r, error, culprit) : fail(&c->r, error);
    return container_change(&c->r, GO(create_judged));
}

static struct next create_judged(struct op *op)
{
    struct container_change *c = CHANGE(op);

    if (c->r.ordered)
        return change_refuse(&c->r, AZ_CONTAINER_ALREADY_EXISTS);
    c->record.account = c->r.account->id;
    c->record.name = c->r.target.container;
    tx_put_container(c->r.tx, &c->record);
    return container_commit(c, UPLOAD_CONTAINER_CREATE, GO(create_done));
}

static struct next create_done(struct op *op)
{
    struct container_change *c = CHANGE(op);

    answer_etag(&c->r, c->record.etag);
    answer_date(&c->r, SPAN("Last-Modified"), c->record.modified_ns);
    return answer_empty(&c->r, 201);
}

/* ---- delete ---- */

struct next delete_container_start(struct op *op)
{
    return container_change(REQUEST(op), GO(delete_container_judged));
}

static struct next delete_container_judged(struct op *op)
{
    struct container_change *c = CHANGE(op);
    enum az_error error = container_verdict(&c->r);

    if (error)
        return change_refuse(&c->r, error);
    tx_delete_container(c->r.tx);
    return container_commit(c, UPLOAD_CONTAINER_DELETE, GO(delete_container_done));
}

static struct next delete_container_done(struct op *op)
{
    return answer_empty(REQUEST(op), 202);
}

/* ---- metadata ---- */

struct next set_container_metadata_start(struct op *op)
{
    struct container_change *c = CHANGE(op);
    enum az_error error = metadata_inputs(&c->r, &c->record.metadata, &c->record.metadata_count);

    return error ? fail(&c->r, error) : container_change(&c->r, GO(metadata_judged));
}

static struct next metadata_judged(struct op *op)
{
    struct container_change *c = CHANGE(op);
    const struct pair *metadata = c->record.metadata;
    unsigned metadata_count = c->record.metadata_count;
    enum az_error error = container_verdict(&c->r);

    if (error)
        return change_refuse(&c->r, error);
    c->record = *container_record(c->r.ordered);
    c->record.metadata = metadata;
    c->record.metadata_count = metadata_count;
    tx_put_container(c->r.tx, &c->record);
    return container_commit(c, UPLOAD_CONTAINER_METADATA, GO(metadata_done));
}

static struct next metadata_done(struct op *op)
{
    struct container_change *c = CHANGE(op);

    answer_etag(&c->r, c->record.etag);
    answer_date(&c->r, SPAN("Last-Modified"), c->record.modified_ns);
    return answer_empty(&c->r, 200);
}
