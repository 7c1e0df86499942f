/* blobapi/put_block.c - Put Block: the body into an object, staged under the client's id. No
 * conditions, no name order, no ETag: the last one of an id wins, and the blob that is there does
 * not change. */
#include "blobapi/handlers.h"

#define PUT_BLOCK(op) container_of(REQUEST(op), struct put_block, r)

static struct next block_admitted(struct op *op);
static struct next block_received(struct op *op);
static struct next block_stage(struct op *op);
static struct next block_staged(struct op *op);

struct next fail_empty_block(struct request *r)
{
    request_detail(r, SPAN("HeaderName"), SPAN("Content-Length"));
    request_detail(r, SPAN("HeaderValue"), SPAN("0"));
    return fail(r, AZ_INVALID_HEADER_VALUE);
}

enum az_error block_id_input(const struct request *r, char ret[BLOCK_ID_BYTES_MAX], size_t *ret_len)
{
    struct span id = target_param(&r->target, SPAN("blockid"));

    if (!id.len)
        return AZ_MISSING_REQUIRED_QUERY_PARAMETER;
    return block_id_decode(id, ret, ret_len) < 0 ? AZ_INVALID_QUERY_PARAMETER_VALUE : AZ_OK;
}

struct next put_block_start(struct op *op)
{
    struct put_block *p = PUT_BLOCK(op);
    struct request *r = &p->r;
    struct span culprit = {NULL, 0};
    enum az_error error = block_id_input(r, p->id, &p->id_len);

    if (error)
        return fail_query(r, error, SPAN("blockid"));
    if (r->content_bytes == 0)
        return fail_empty_block(r);
    error = hash_inputs(r, &p->receive.want, &culprit);
    if (error)
        return culprit.len ? fail_header(r, error, culprit) : fail(r, error);
    return lease_gate(r, GO(block_admitted));
}

static struct next block_admitted(struct op *op)
{
    struct put_block *p = PUT_BLOCK(op);

    p->receive.staged = true;
    return receive_body(&p->r, &p->receive, GO(block_received));
}

/* Who got the lease while the body came may have staged the same id. */

static struct next block_received(struct op *op)
{
    return lease_gate(REQUEST(op), GO(block_stage));
}

static struct next block_stage(struct op *op)
{
    struct put_block *p = PUT_BLOCK(op);

    cache_stage(p->r.api->conf.cache, &p->r.name, span_from(p->id, p->id_len),
                TAKE(p->receive.object), &op->done);
    return AWAIT(block_staged);
}

struct next put_block_answer(struct request *r, int err, const unsigned char *md5, uint64_t crc64)
{
    switch (err) {
    case 0:
        break;
    case -EINVAL:
        return fail(r, AZ_INVALID_BLOB_OR_BLOCK); /* ids of one blob have one length */
    case -E2BIG:
        return fail(r, AZ_BLOCK_COUNT_EXCEEDS_LIMIT);
    case -EEXIST:
        return fail(r, AZ_INVALID_BLOB_TYPE);
    case -ENOENT:
        return fail(r, AZ_CONTAINER_NOT_FOUND);
    default:
        return fail_errno(r, err);
    }
    if (md5)
        answer_base64(r, SPAN("Content-MD5"), span_from(md5, 16));
    else
        answer_crc64(r, crc64);
    answer_add(r, SPAN("x-ms-request-server-encrypted"), SPAN("true"));
    return answer_empty(r, 201);
}

static struct next block_staged(struct op *op)
{
    struct put_block *p = PUT_BLOCK(op);
    const unsigned char *md5 = p->receive.want.has_md5 ? p->receive.md5 : NULL;

    return put_block_answer(&p->r, op->done.err, md5, p->receive.crc64);
}
