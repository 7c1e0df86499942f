/* blobapi/append_blob.c - an append blob as a whole: Put Blob of an empty one, and its seal, after
 * which nothing is appended any more. What is appended is append_block.c's. */
#include "blobapi/handlers.h"

#define PUT_APPEND(op) container_of(REQUEST(op), struct put_append, r)
#define SEAL(op)       container_of(REQUEST(op), struct seal_blob, r)

static struct next put_append_admitted(struct op *op);
static struct next put_append_begun(struct op *op);
static struct next put_append_done(struct op *op);

/* The cloud would have to hear of each append, in order; the queue cannot say that yet. */
bool append_is_served(const struct request *r)
{
    return !request_has_cloud(r) || r->contract->write == WRITE_LOCAL;
}

/* ---- Put Blob ---- */

static enum az_error put_append_inputs(struct put_append *p, struct span *culprit)
{
    enum az_error error;

    *culprit = SPAN("Content-Length");
    if (p->r.http->body_bytes != 0)
        return AZ_INVALID_HEADER_VALUE;
    error = content_inputs(&p->r, true, &p->content, culprit);
    if (!error)
        error = tags_header(&p->r, &p->record.tags, culprit);
    if (error)
        return error;
    *culprit = (struct span){NULL, 0};
    return metadata_inputs(&p->r, &p->record.metadata, &p->record.metadata_count);
}

struct next put_append_start(struct op *op)
{
    struct put_append *p = PUT_APPEND(op);
    struct span culprit = {NULL, 0};
    enum az_error error;

    if (!append_is_served(&p->r))
        return fail_header(&p->r, AZ_UNSUPPORTED_HEADER, SPAN("x-ms-blob-type"));
    error = put_append_inputs(p, &culprit);
    if (error)
        return culprit.len ? fail_header(&p->r, error, culprit) : fail(&p->r, error);
    return change_preview(&p->r, CHANGE_PLAIN, GO(put_append_admitted));
}

static struct next put_append_admitted(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_PLAIN, GO(put_append_begun));
}

static struct next put_append_begun(struct op *op)
{
    struct put_append *p = PUT_APPEND(op);
    const struct pair *metadata = p->record.metadata;
    struct span tags = p->record.tags;
    unsigned metadata_count = p->record.metadata_count;

    if (change_forbidden_type(&p->r, BLOB_APPEND))
        return change_refuse(&p->r, AZ_SNAPSHOTS_PRESENT);
    p->record = record_new(&p->r);
    p->record.type = BLOB_APPEND;
    p->record.tags = tags;
    record_describe(&p->record, &p->content, metadata, metadata_count); /* MD5 as given */
    tx_put(p->r.tx, &p->record, NULL, 0, NULL, true);
    return change_commit(&p->r, UPLOAD_CONTENT, GO(put_append_done));
}

static struct next put_append_done(struct op *op)
{
    struct put_append *p = PUT_APPEND(op);

    written_headers(&p->r, &p->record);
    return answer_empty(&p->r, 201);
}

/* ---- Append Blob Seal ---- */

static struct next seal_admitted(struct op *op);
static struct next seal_begun(struct op *op);
static struct next seal_done(struct op *op);

struct next seal_start(struct op *op)
{
    struct seal_blob *s = SEAL(op);
    struct span culprit = {NULL, 0};
    enum az_error error;

    if (!append_is_served(&s->r))
        return fail_query(&s->r, AZ_UNSUPPORTED_QUERY_PARAMETER, SPAN("comp"));
    error = append_conditions(&s->r, &s->conditions, &culprit);
    if (error)
        return fail_header(&s->r, error, culprit);
    return change_preview(&s->r, CHANGE_NEEDS_BLOB, GO(seal_admitted));
}

static struct next seal_admitted(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_NEEDS_BLOB, GO(seal_begun));
}

static struct next seal_begun(struct op *op)
{
    struct seal_blob *s = SEAL(op);

    s->record = *blob_record(s->r.blob);
    if (s->record.type != BLOB_APPEND)
        return change_refuse(&s->r, AZ_INVALID_BLOB_TYPE);
    if (s->conditions.has_position && s->conditions.position != s->record.length)
        return change_refuse(&s->r, AZ_APPEND_POSITION_CONDITION_NOT_MET);
    if (s->record.sealed) { /* as it was: answered when that is durable */
        cache_rollback(TAKE(s->r.tx), &op->done);
        return AWAIT(seal_done);
    }
    s->record.sealed = true;
    s->record.lease = lease_kept(&s->r);
    tx_describe(s->r.tx, &s->record);
    return change_commit(&s->r, UPLOAD_SEAL, GO(seal_done));
}

static struct next seal_done(struct op *op)
{
    struct seal_blob *s = SEAL(op);

    if (op->done.err)
        return fail_errno(&s->r, op->done.err);
    written_headers(&s->r, &s->record);
    answer_add(&s->r, SPAN("x-ms-blob-sealed"), SPAN("true"));
    return answer_empty(&s->r, 200);
}
