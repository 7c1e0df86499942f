/* blobapi/put_blob.c - Put Blob of a block blob: the body into an object, then one change that
 * names it. */
#include "blobapi/handlers.h"

#define PUT_BLOB(op) container_of(REQUEST(op), struct put_blob, r)

static struct next put_admitted(struct op *op);
static struct next put_received(struct op *op);
static struct next put_begun(struct op *op);
static struct next put_done(struct op *op);

static enum az_error put_inputs(struct put_blob *p, struct span *culprit)
{
    enum az_error error = hash_inputs(&p->r, &p->receive.want, culprit);

    if (error)
        return error;
    error = content_inputs(&p->r, true, &p->content, culprit);
    if (error)
        return error;
    error = tags_header(&p->r, &p->record.tags, culprit);
    if (!error)
        error = tier_inputs(&p->r, &p->tier, culprit);
    if (error)
        return error;
    *culprit = (struct span){NULL, 0};
    return metadata_inputs(&p->r, &p->record.metadata, &p->record.metadata_count);
}

struct next put_blob_start(struct op *op)
{
    struct put_blob *p = PUT_BLOB(op);
    struct span culprit = {NULL, 0};
    enum az_error error = put_inputs(p, &culprit);

    if (error)
        return culprit.len ? fail_header(&p->r, error, culprit) : fail(&p->r, error);
    /* The service stores an MD5 with every Put Blob; a contract may say no to the cost. */
    p->receive.want_md5 = p->r.contract->md5 || p->content.md5.len;
    return change_preview(&p->r, CHANGE_PLAIN, GO(put_admitted));
}

static struct next put_admitted(struct op *op)
{
    struct put_blob *p = PUT_BLOB(op);

    return receive_body(&p->r, &p->receive, GO(put_received));
}

static struct next put_received(struct op *op)
{
    struct put_blob *p = PUT_BLOB(op);

    if (p->content.md5.len && memcmp(p->content.md5.base, p->receive.md5, 16) != 0)
        return fail_header(&p->r, AZ_MD5_MISMATCH, SPAN("x-ms-blob-content-md5"));
    return change_begin(&p->r, CHANGE_PLAIN, GO(put_begun));
}

static struct next put_begun(struct op *op)
{
    struct put_blob *p = PUT_BLOB(op);
    struct request *r = &p->r;
    bool has_md5 = p->receive.want_md5 || p->receive.want.has_md5;
    const struct pair *metadata = p->record.metadata;
    struct span tags = p->record.tags;
    unsigned metadata_count = p->record.metadata_count, pieces = p->receive.object ? 1 : 0;

    if (change_forbidden_type(r, BLOB_BLOCK))
        return change_refuse(r, AZ_SNAPSHOTS_PRESENT);
    p->record = record_new(r);
    record_describe(&p->record, &p->content, metadata, metadata_count);
    p->record.tags = tags;
    record_set_tier(&p->record, p->tier);
    p->record.content_md5 = has_md5 ? span_from(p->receive.md5, 16) : (struct span){NULL, 0};
    p->record.content_crc64 = p->receive.crc64;
    p->record.has_crc64 = true;
    if (pieces)
        p->piece = (struct piece){TAKE(p->receive.object), 0, p->receive.received};
    tx_put(r->tx, &p->record, &p->piece, pieces, NULL, true);
    return change_commit(r, UPLOAD_CONTENT, GO(put_done));
}

static struct next put_done(struct op *op)
{
    struct put_blob *p = PUT_BLOB(op);

    if (p->record.content_md5.len)
        answer_base64(&p->r, SPAN("Content-MD5"), p->record.content_md5);
    answer_crc64(&p->r, p->receive.crc64);
    written_headers(&p->r, &p->record);
    return answer_empty(&p->r, 201);
}
