/* blobapi/snapshot_blob.c - Snapshot Blob: a read-only version of a blob beside it.
 *
 * It shares what the blob's content is made of. A body that its record locates is never shared
 * (design section 3): its bytes are read and written before the change begins (D4), and once more
 * when the blob was overwritten meanwhile. */
#include "base/date.h"
#include "blobapi/handlers.h"

#define SNAPSHOT(op)        container_of(REQUEST(op), struct snapshot_blob, r)
#define SNAPSHOT_ROUNDS_MAX 3

static struct next snapshot_known(struct op *op);
static struct next snapshot_copied(struct op *op);
static struct next snapshot_begun(struct op *op);
static struct next snapshot_stale(struct op *op);
static struct next snapshot_committed(struct op *op);

struct next snapshot_start(struct op *op)
{
    struct snapshot_blob *s = SNAPSHOT(op);
    enum az_error error;

    if (request_has_cloud(&s->r)) /* the cloud would have to take it too */
        return fail_query(&s->r, AZ_UNSUPPORTED_QUERY_PARAMETER, SPAN("comp"));
    error = metadata_inputs(&s->r, &s->metadata, &s->metadata_count);
    if (error)
        return fail(&s->r, error);
    return change_preview(&s->r, CHANGE_NEEDS_BLOB, GO(snapshot_known));
}

/* What a cloud has or had, before the account lost it, can go from here: a snapshot could not keep
 * it. */
static enum az_error snapshot_verdict(struct request *r)
{
    if (tier_verdict(blob_record(r->blob)))
        return AZ_BLOB_ARCHIVED;
    if (blob_record(r->blob)->sole)
        return AZ_OK;
    request_detail(r, SPAN("QueryParameterName"), SPAN("comp"));
    return AZ_UNSUPPORTED_QUERY_PARAMETER;
}

static struct next snapshot_known(struct op *op)
{
    struct snapshot_blob *s = SNAPSHOT(op);
    struct request *r = &s->r;
    enum az_error error = snapshot_verdict(r);

    if (error)
        return fail(r, error);
    if (!blob_is_copied(r->blob))
        return GO(snapshot_copied);
    s->copied = blob_ref(r->blob);
    s->transfer = (struct transfer){.from = s->copied,
                                    .range = {0, blob_record(s->copied)->length},
                                    .object_max = SMALL_BYTES_MAX,
                                    .changed = GO(snapshot_stale)};
    return transfer_run(r, &s->transfer, GO(snapshot_copied));
}

static struct next snapshot_copied(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_NEEDS_BLOB, GO(snapshot_begun));
}

static struct next snapshot_begun(struct op *op)
{
    struct snapshot_blob *s = SNAPSHOT(op);
    struct request *r = &s->r;
    struct snapshot_spec spec = {.metadata = s->metadata_count ? s->metadata : NULL,
                                 .metadata_count = s->metadata_count,
                                 .copied = s->copied};
    enum az_error error;

    error = snapshot_verdict(r);
    if (error)
        return change_refuse(r, error);
    if (s->transfer.count)
        spec.copy = s->transfer.pieces[0];
    if (tx_snapshot(r->tx, &spec, &s->made) < 0) {
        cache_rollback(TAKE(r->tx), &op->done); /* what took its place is durable then */
        return AWAIT(snapshot_stale);
    }
    if (blob_is_copied(r->blob))
        s->transfer.count = s->transfer.room = 0; /* the change has the reference */
    return change_commit(r, UPLOAD_SNAPSHOT, GO(snapshot_committed));
}

/* Overwritten while its bytes were copied. */
static struct next snapshot_stale(struct op *op)
{
    struct snapshot_blob *s = SNAPSHOT(op);

    transfer_done(&s->r, &s->transfer);
    s->copied = s->copied ? blob_unref(s->copied) : NULL;
    if (s->rounds++ == SNAPSHOT_ROUNDS_MAX)
        return fail_errno(&s->r, -EBUSY);
    return change_preview(&s->r, CHANGE_NEEDS_BLOB, GO(snapshot_known));
}

static struct next snapshot_committed(struct op *op)
{
    struct snapshot_blob *s = SNAPSHOT(op);
    struct request *r = &s->r;
    char id[ISO8601_BYTES + 1];

    iso8601_print((int64_t)(s->made.snapshot * ISO8601_TICK_NS), id);
    answer_etag(r, s->made.etag);
    answer_date(r, SPAN("Last-Modified"), s->made.modified_ns);
    answer_add_text(r, SPAN("x-ms-snapshot"), "%s", id);
    answer_add(r, SPAN("x-ms-request-server-encrypted"), SPAN("false")); /* nothing was written */
    answer_add(r, SPAN("x-hearth-durability"), SPAN("local"));
    return answer_empty(r, 201);
}

void snapshot_done(struct request *r)
{
    struct snapshot_blob *s = container_of(r, struct snapshot_blob, r);

    transfer_done(r, &s->transfer);
    s->copied = s->copied ? blob_unref(s->copied) : NULL;
}
