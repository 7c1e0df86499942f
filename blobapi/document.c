/* blobapi/document.c - a small XML body, whole in one buffer and checked against the hashes the
 * request gives. A silent client holds no buffer. Loop thread. */
#include "base/crc64.h"
#include "base/digest.h"
#include "blobapi/request.h"

static struct next document_receive(struct op *op);
static struct next document_waited(struct op *op);
static struct next document_buffered(struct op *op);
static struct next document_read(struct op *op);

struct next receive_document(struct request *r, struct next after)
{
    r->receive_after = after;
    return GO(document_receive);
}

static enum az_error document_judge(struct request *r, struct span *culprit)
{
    struct hash_inputs want = {0};
    struct span text = document_text(r);
    unsigned char got[16];
    enum az_error error = hash_inputs(r, &want, culprit);

    if (error)
        return error;
    if (want.has_md5) {
        struct md5 *md5 = md5_new();

        md5_add(md5, text);
        md5_end(md5, got);
        md5_free(md5);
        if (memcmp(got, want.md5, sizeof(got)) != 0)
            return AZ_MD5_MISMATCH;
    }
    return want.has_crc64 && crc64(0, text.base, text.len) != want.crc64 ? AZ_CRC64_MISMATCH
                                                                         : AZ_OK;
}

static struct next document_complete(struct request *r)
{
    struct span culprit = {NULL, 0};
    enum az_error error = document_judge(r, &culprit);

    if (error)
        return culprit.len ? fail_header(r, error, culprit) : fail(r, error);
    return r->receive_after;
}

static struct next document_receive(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->http->body_ended)
        return document_complete(r);
    r->http->ops->read(r->http, NULL, &op->done);
    return AWAIT(document_waited);
}

static struct next document_failed(struct request *r, int err)
{
    return err == -EBADMSG ? fail(r, AZ_INVALID_INPUT) : cut(r);
}

static struct next document_waited(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return document_failed(r, op->done.err);
    if (r->http->body_ended)
        return document_complete(r);
    iobuf_get(IOBUF_64K, &r->buf, &op->done);
    return AWAIT(document_buffered);
}

static struct next document_buffered(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return cut(r);
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(document_read);
}

static struct next document_read(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return document_failed(r, op->done.err);
    if (!r->http->body_ended || r->buf->used > r->operation->body_max) /* chunked: only now known */
        return fail_detail(
            r, AZ_REQUEST_BODY_TOO_LARGE, SPAN("MaxLimit"),
            arena_printf(r->http->arena, "%llu", (unsigned long long)r->operation->body_max));
    return document_complete(r);
}

struct span document_text(const struct request *r)
{
    return r->buf ? span_from(r->buf->base, r->buf->used) : SPAN("");
}

void document_drop(struct request *r)
{
    r->buf = iobuf_unref(r->buf);
}

struct next fail_xml(struct request *r, const struct xml_fault *fault)
{
    if (fault->node.len)
        request_detail(r, SPAN("XmlNodeName"), fault->node);
    if (fault->value.len)
        request_detail(r, SPAN("XmlNodeValue"), fault->value);
    return fail(r, fault->error);
}
