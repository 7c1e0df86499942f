/* blobapi/describe_blob.c - Set Blob Properties (the content headers) and Set Blob Metadata: a new
 * version of the record over the same content. Each replaces all of its half: what the request
 * leaves out is cleared. */
#include "blobapi/handlers.h"

#define DESCRIBE(op) container_of(REQUEST(op), struct describe_blob, r)

static struct next properties_previewed(struct op *op);
static struct next properties_begun(struct op *op);
static struct next metadata_previewed(struct op *op);
static struct next metadata_begun(struct op *op);
static struct next describe_done(struct op *op);

struct next set_properties_start(struct op *op)
{
    struct describe_blob *d = DESCRIBE(op);
    struct span culprit = {NULL, 0};
    enum az_error error = content_inputs(&d->r, false, &d->content, &culprit);

    if (error)
        return fail_header(&d->r, error, culprit);
    return change_preview(&d->r, CHANGE_NEEDS_BLOB, GO(properties_previewed));
}

static struct next properties_previewed(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_NEEDS_BLOB, GO(properties_begun));
}

static struct next describe(struct describe_blob *d, enum upload_kind kind)
{
    if (tier_verdict(&d->record))
        return change_refuse(&d->r, AZ_BLOB_ARCHIVED);
    tx_describe(d->r.tx, &d->record);
    return change_commit(&d->r, kind, GO(describe_done));
}

static struct next properties_begun(struct op *op)
{
    struct describe_blob *d = DESCRIBE(op);

    d->record = *blob_record(d->r.blob);
    d->record.lease = lease_kept(&d->r);
    record_describe(&d->record, &d->content, d->record.metadata, d->record.metadata_count);
    d->record.copy_id = d->record.copy_source = (struct span){NULL, 0}; /* as the service does */
    d->record.copied_ns = 0;
    return describe(d, UPLOAD_PROPERTIES);
}

struct next set_metadata_start(struct op *op)
{
    struct describe_blob *d = DESCRIBE(op);
    enum az_error error = metadata_inputs(&d->r, &d->metadata, &d->metadata_count);

    if (error)
        return fail(&d->r, error);
    return change_preview(&d->r, CHANGE_NEEDS_BLOB, GO(metadata_previewed));
}

static struct next metadata_previewed(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_NEEDS_BLOB, GO(metadata_begun));
}

static struct next metadata_begun(struct op *op)
{
    struct describe_blob *d = DESCRIBE(op);

    d->record = *blob_record(d->r.blob);
    d->record.lease = lease_kept(&d->r);
    d->record.metadata = d->metadata;
    d->record.metadata_count = d->metadata_count;
    return describe(d, UPLOAD_METADATA);
}

static struct next describe_done(struct op *op)
{
    struct describe_blob *d = DESCRIBE(op);

    written_headers(&d->r, &d->record);
    return answer_empty(&d->r, 200);
}
