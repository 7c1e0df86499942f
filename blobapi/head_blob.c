/* blobapi/head_blob.c - Get Blob Properties and Get Blob Metadata: a version without its bytes. */
#include "blobapi/handlers.h"

static struct next head_found(struct op *op);
static struct next metadata_found(struct op *op);

struct next head_start(struct op *op)
{
    return find_blob(REQUEST(op), (struct range){0, 0}, GO(head_found));
}

static struct next head_found(struct op *op)
{
    struct request *r = REQUEST(op);
    enum az_error error = read_verdict(r);
    const struct blob_record *b;

    if (error)
        return fail(r, error);
    b = blob_record(r->blob);
    blob_headers(r, r->blob);
    if (b->content_md5.len)
        answer_base64(r, SPAN("Content-MD5"), b->content_md5);
    hearth_headers(r, b, r->learned);
    answer_ok(r, 200, (int64_t)b->length); /* a HEAD ignores ranges */
    r->whole = true;
    return FINISH;
}

struct next get_metadata_start(struct op *op)
{
    return find_blob(REQUEST(op), (struct range){0, 0}, GO(metadata_found));
}

static struct next metadata_found(struct op *op)
{
    struct request *r = REQUEST(op);
    enum az_error error = read_verdict(r);
    const struct blob_record *b;

    if (error)
        return fail(r, error);
    b = blob_record(r->blob);
    answer_etag(r, b->etag);
    answer_date(r, SPAN("Last-Modified"), b->modified_ns);
    answer_metadata(r, b->metadata, b->metadata_count);
    hearth_headers(r, b, r->learned);
    return answer_empty(r, 200);
}
