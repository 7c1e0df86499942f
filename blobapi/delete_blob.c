/* blobapi/delete_blob.c - Delete Blob: of a blob with or without its snapshots, of these alone, of
 * one of them, and of a blob that only has uncommitted blocks. */
#include "base/date.h"
#include "blobapi/handlers.h"

#define DELETE_BLOB(op) container_of(REQUEST(op), struct delete_blob, r)

static struct next delete_previewed(struct op *op);
static struct next delete_begun(struct op *op);
static struct next delete_done(struct op *op);
static struct next snapshot_turn(struct op *op);
static struct next snapshot_find(struct op *op);
static struct next snapshot_found(struct op *op);

static enum az_error delete_inputs(struct delete_blob *d, struct span *culprit)
{
    struct span snapshots = exchange_header(d->r.http, SPAN("x-ms-delete-snapshots"));
    struct span snapshot = target_param(&d->r.target, SPAN("snapshot"));

    *culprit = (struct span){NULL, 0};
    if (snapshot.len && (snapshots.len || iso8601_ticks_parse(snapshot, &d->snapshot) < 0))
        return AZ_INVALID_OPERATION; /* that header is for the blob itself */
    *culprit = SPAN("x-ms-delete-snapshots");
    if (span_eq_nocase(snapshots, SPAN("include")))
        d->snapshots = DELETE_INCLUDE;
    else if (span_eq_nocase(snapshots, SPAN("only")))
        d->snapshots = DELETE_ONLY;
    else if (snapshots.len)
        return AZ_INVALID_HEADER_VALUE;
    /* What snapshots the cloud has is not known here. */
    return d->snapshots == DELETE_ONLY && request_has_cloud(&d->r) ? AZ_UNSUPPORTED_HEADER : AZ_OK;
}

static enum change_needs delete_needs(const struct delete_blob *d)
{
    return d->snapshots == DELETE_ONLY ? CHANGE_NEEDS_BLOB : CHANGE_OR_STAGED;
}

struct next delete_start(struct op *op)
{
    struct delete_blob *d = DELETE_BLOB(op);
    struct span culprit;
    enum az_error error = delete_inputs(d, &culprit);

    if (error)
        return culprit.len ? fail_header(&d->r, error, culprit) : fail(&d->r, error);
    if (target_param(&d->r.target, SPAN("deletetype")).len)
        return fail_query(&d->r, AZ_UNSUPPORTED_QUERY_PARAMETER, SPAN("deletetype"));
    if (d->snapshot)
        return GO(snapshot_turn);
    return change_preview(&d->r, delete_needs(d), GO(delete_previewed));
}

/* ---- the blob itself ---- */

static struct next delete_previewed(struct op *op)
{
    struct delete_blob *d = DELETE_BLOB(op);

    return change_begin(&d->r, delete_needs(d), GO(delete_begun));
}

static struct next delete_begun(struct op *op)
{
    struct delete_blob *d = DELETE_BLOB(op);
    struct request *r = &d->r;

    if (d->snapshots == DELETE_BASE && r->blob && blob_record(r->blob)->snapshots.count)
        return change_refuse(r, AZ_SNAPSHOTS_PRESENT);
    if (d->snapshots == DELETE_ONLY)
        tx_delete_snapshots(r->tx);
    else
        tx_delete(r->tx);
    return change_commit(r, UPLOAD_DELETE, GO(delete_done));
}

static struct next delete_done(struct op *op)
{
    struct request *r = REQUEST(op);

    answer_add(r, SPAN("x-ms-delete-type-permanent"), SPAN("true"));
    return answer_empty(r, 202);
}

/* ---- one snapshot: what is judged is that one, under the name's turn ---- */

static struct next snapshot_turn(struct op *op)
{
    struct request *r = REQUEST(op);

    cache_begin(r->api->conf.cache, &r->name, &r->tx, &op->done);
    return AWAIT(snapshot_find);
}

static struct next snapshot_find(struct op *op)
{
    struct delete_blob *d = DELETE_BLOB(op);

    if (op->done.err)
        return fail_errno(&d->r, op->done.err);
    tx_find_snapshot(d->r.tx, d->snapshot, &d->found, &op->done);
    return AWAIT(snapshot_found);
}

static struct next snapshot_found(struct op *op)
{
    struct delete_blob *d = DELETE_BLOB(op);
    struct request *r = &d->r;
    enum az_error error;

    if (op->done.err && op->done.err != -ENOENT) {
        change_drop(r); /* D4: an error's answer waits for the client */
        return fail_errno(r, op->done.err);
    }
    error = d->found ? lease_verdict(r, &blob_record(d->found)->lease) : AZ_OK; /* it has none */
    if (!error)
        error = request_judge(r, d->found);
    if (!error && !d->found)
        error = AZ_BLOB_NOT_FOUND;
    if (error)
        return change_refuse(r, error);
    tx_delete_snapshot(r->tx);
    return change_commit(r, UPLOAD_DELETE, GO(delete_done));
}
