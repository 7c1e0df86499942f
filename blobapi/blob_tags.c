/* blobapi/blob_tags.c - Set Blob Tags and Get Blob Tags. Tags belong to the version: setting them
 * changes neither its ETag nor its times. Of a version the cloud taught, or has shown since, only
 * their number is known: they can be replaced, not told. */
#include "base/crc64.h"
#include "base/digest.h"
#include "blobapi/handlers.h"

#define SET_TAGS(op) container_of(REQUEST(op), struct set_tags, r)

static struct next tags_admitted(struct op *op);
static struct next tags_receive(struct op *op);
static struct next tags_waited(struct op *op);
static struct next tags_buffered(struct op *op);
static struct next tags_read(struct op *op);
static struct next tags_complete(struct op *op);
static struct next tags_begun(struct op *op);
static struct next tags_set(struct op *op);
static struct next tags_found(struct op *op);
static struct next tags_write(struct op *op);

struct next set_tags_start(struct op *op)
{
    struct set_tags *s = SET_TAGS(op);
    struct span culprit = {NULL, 0};
    enum az_error error = hash_inputs(&s->r, &s->want, &culprit);

    if (error)
        return culprit.len ? fail_header(&s->r, error, culprit) : fail(&s->r, error);
    return change_preview(&s->r, CHANGE_NEEDS_BLOB, GO(tags_admitted));
}

static struct next tags_admitted(struct op *op)
{
    struct set_tags *s = SET_TAGS(op);

    s->reader = tags_reader_open(s->r.http->arena);
    if (s->want.has_md5)
        s->md5 = md5_new();
    return GO(tags_receive);
}

static struct next tags_receive(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->http->body_ended)
        return GO(tags_complete);
    r->http->ops->read(r->http, NULL, &op->done); /* a silent client holds no buffer */
    return AWAIT(tags_waited);
}

static struct next tags_read_failed(struct request *r, int err)
{
    return err == -EBADMSG ? fail(r, AZ_INVALID_INPUT) : cut(r);
}

static struct next tags_waited(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return tags_read_failed(r, op->done.err);
    if (r->http->body_ended)
        return GO(tags_complete);
    iobuf_get(IOBUF_64K, &r->buf, &op->done);
    return AWAIT(tags_buffered);
}

static struct next tags_buffered(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return cut(r);
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(tags_read);
}

static struct next tags_read(struct op *op)
{
    struct set_tags *s = SET_TAGS(op);
    struct request *r = &s->r;
    struct span text;

    if (op->done.err)
        return tags_read_failed(r, op->done.err);
    text = span_from(r->buf->base, r->buf->used);
    s->received += text.len;
    if (s->received > TAGS_XML_BYTES_MAX) /* chunked: no length said so before */
        return fail(r, AZ_REQUEST_BODY_TOO_LARGE);
    s->crc64 = crc64(s->crc64, text.base, text.len);
    if (s->md5)
        md5_add(s->md5, text);
    tags_reader_feed(s->reader, text);
    r->buf = iobuf_unref(r->buf);
    return GO(tags_receive);
}

static struct next tags_complete(struct op *op)
{
    struct set_tags *s = SET_TAGS(op);
    unsigned char md5[16];
    enum az_error error;

    if (s->md5)
        md5_end(s->md5, md5);
    if (s->md5 && memcmp(md5, s->want.md5, sizeof(md5)) != 0)
        return fail(&s->r, AZ_MD5_MISMATCH);
    if (s->want.has_crc64 && s->crc64 != s->want.crc64)
        return fail(&s->r, AZ_CRC64_MISMATCH);
    error = tags_reader_finish(s->reader, &s->tags);
    return error ? fail(&s->r, error) : change_begin(&s->r, CHANGE_NEEDS_BLOB, GO(tags_begun));
}

static struct next tags_begun(struct op *op)
{
    struct set_tags *s = SET_TAGS(op);
    struct blob_record record = *blob_record(s->r.blob);

    record.tags = s->tags;
    record.tags_unknown = 0;
    tx_amend(s->r.tx, &record);
    return change_commit(&s->r, UPLOAD_TAGS, GO(tags_set));
}

static struct next tags_set(struct op *op)
{
    return answer_empty(REQUEST(op), 204);
}

void set_tags_done(struct request *r)
{
    struct set_tags *s = container_of(r, struct set_tags, r);

    s->reader = tags_reader_close(s->reader);
    s->md5 = md5_free(s->md5);
}

/* ---- get ---- */

struct next get_tags_start(struct op *op)
{
    struct request *r = REQUEST(op);

    return find_blob(r, (struct range){0, 0}, GO(tags_found));
}

static struct next tags_found(struct op *op)
{
    struct request *r = REQUEST(op);
    enum az_error error = read_verdict(r);

    if (!error && blob_record(r->blob)->tags_unknown)
        error = AZ_TAGS_NOT_KNOWN;
    return error ? fail(r, error) : emit_begin(r, IOBUF_64K, GO(tags_write));
}

static struct next tags_write(struct op *op)
{
    struct request *r = REQUEST(op);

    EMIT(r->emit, "<?xml version=\"1.0\" encoding=\"utf-8\"?>");
    tags_emit(r->emit, blob_record(r->blob)->tags);
    return answer_emitted(r, 200);
}
