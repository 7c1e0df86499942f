/* blobapi/put_block_list.c - Put Block List: reads the list, finds the blocks, makes one version of
 * them.
 *
 * A short list (most are) is parsed on the loop; a longer one buffer by buffer on a worker, since
 * 50 000 entries take tens of milliseconds. The blocks are looked up inside the change, so that
 * what is committed is what was staged at its turn. Committed ones may have been evicted: once
 * their bytes are here again (refill.c), list_begun comes again. */
#include "base/crc64.h"
#include "base/digest.h"
#include "blobapi/handlers.h"

#define PUT_LIST(op)           container_of(REQUEST(op), struct put_block_list, r)
#define PARSE_INLINE_BYTES_MAX KIB(16)

static struct next list_admitted(struct op *op);
static struct next list_receive(struct op *op);
static struct next list_waited(struct op *op);
static struct next list_buffered(struct op *op);
static struct next list_read(struct op *op);
static struct next list_parsed(struct op *op);
static struct next list_complete(struct op *op);
static struct next list_begun(struct op *op);
static struct next list_found(struct op *op);
static struct next list_committed(struct op *op);

static enum az_error list_inputs(struct put_block_list *p, struct span *culprit)
{
    enum az_error error = hash_inputs(&p->r, &p->want, culprit);

    if (error)
        return error;
    error = content_inputs(&p->r, false, &p->content, culprit);
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

struct next put_block_list_start(struct op *op)
{
    struct put_block_list *p = PUT_LIST(op);
    struct span culprit = {NULL, 0};
    enum az_error error = list_inputs(p, &culprit);

    if (error)
        return culprit.len ? fail_header(&p->r, error, culprit) : fail(&p->r, error);
    return change_preview(&p->r, CHANGE_PLAIN, GO(list_admitted));
}

static struct next list_admitted(struct op *op)
{
    struct put_block_list *p = PUT_LIST(op);

    p->parser = block_list_open(p->r.http->arena);
    if (p->want.has_md5)
        p->md5 = md5_new();
    return GO(list_receive);
}

static struct next list_receive(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->http->body_ended)
        return GO(list_complete);
    r->http->ops->read(r->http, NULL, &op->done); /* a silent client holds no buffer */
    return AWAIT(list_waited);
}

static struct next list_read_failed(struct request *r, int err)
{
    return err == -EBADMSG ? fail(r, AZ_INVALID_INPUT) : cut(r);
}

static struct next list_waited(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return list_read_failed(r, op->done.err);
    if (r->http->body_ended)
        return GO(list_complete);
    iobuf_get(IOBUF_64K, &r->buf, &op->done);
    return AWAIT(list_buffered);
}

static struct next list_buffered(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return cut(r);
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(list_read);
}

static int list_parse(void *arg) /* loop or worker */
{
    struct put_block_list *p = arg;
    struct span text = span_from(p->r.buf->base, p->r.buf->used);

    p->crc64 = crc64(p->crc64, text.base, text.len);
    if (p->md5)
        md5_add(p->md5, text);
    return block_list_feed(p->parser, text);
}

static struct next list_parse_failed(struct request *r, int err)
{
    switch (err) {
    case -E2BIG:
        return fail(r, AZ_BLOCK_LIST_TOO_LONG);
    case -EINVAL: /* an id no block can have */
        return fail(r, AZ_INVALID_BLOCK_LIST);
    case -EBADMSG:
        return fail(r, AZ_INVALID_XML_DOCUMENT);
    default:
        return fail_errno(r, err);
    }
}

static struct next list_got(struct put_block_list *p, int err)
{
    p->r.buf = iobuf_unref(p->r.buf);
    return err ? list_parse_failed(&p->r, err) : GO(list_receive);
}

static struct next list_read(struct op *op)
{
    struct put_block_list *p = PUT_LIST(op);
    struct request *r = &p->r;

    if (op->done.err)
        return list_read_failed(r, op->done.err);
    p->received += r->buf->used;
    if (p->received > BLOCK_LIST_BYTES_MAX) /* chunked: no length said so before */
        return fail(r, AZ_REQUEST_BODY_TOO_LARGE);
    if (r->buf->used <= PARSE_INLINE_BYTES_MAX)
        return list_got(p, list_parse(p));
    worker_run(r->api->conf.workers, list_parse, p, &op->done);
    return AWAIT(list_parsed);
}

static struct next list_parsed(struct op *op)
{
    return list_got(PUT_LIST(op), op->done.err);
}

static struct next list_complete(struct op *op)
{
    struct put_block_list *p = PUT_LIST(op);
    int err;

    if (p->md5)
        md5_end(p->md5, p->md5_got);
    if (p->want.has_md5 && memcmp(p->md5_got, p->want.md5, sizeof(p->md5_got)) != 0)
        return fail(&p->r, AZ_MD5_MISMATCH);
    if (p->want.has_crc64 && p->crc64 != p->want.crc64)
        return fail(&p->r, AZ_CRC64_MISMATCH);
    err = block_list_finish(p->parser, &p->blocks, &p->count);
    if (err)
        return list_parse_failed(&p->r, err);
    return change_begin(&p->r, CHANGE_PLAIN, GO(list_begun));
}

static struct next list_begun(struct op *op)
{
    struct put_block_list *p = PUT_LIST(op);

    if (p->r.blob && blob_record(p->r.blob)->type != BLOB_BLOCK)
        return change_refuse(&p->r, AZ_INVALID_BLOB_TYPE);
    if (!p->count)
        return GO(list_found); /* an empty list makes an empty blob */
    if (!p->pieces)
        p->pieces = arena_zalloc(p->r.http->arena, p->count * sizeof(*p->pieces));
    tx_blocks(p->r.tx, p->blocks, p->count, p->pieces, &p->bad, &op->done);
    return AWAIT(list_found);
}

static void list_put(struct put_block_list *p)
{
    const struct pair *metadata = p->record.metadata;
    struct span tags = p->record.tags;
    unsigned metadata_count = p->record.metadata_count;

    p->record = record_new(&p->r);
    record_describe(&p->record, &p->content, metadata,
                    metadata_count); /* MD5 as given, unchecked */
    p->record.tags = tags;
    record_set_tier(&p->record, p->tier);
    tx_put(p->r.tx, &p->record, p->pieces, p->count, p->blocks, true);
    p->pieces = NULL; /* the change has their references */
}

static struct next list_absent(struct put_block_list *p)
{
    p->refill.pieces = p->pieces;
    p->refill.count = p->count;
    return change_refill(&p->r, &p->refill);
}

static struct next list_found(struct op *op)
{
    struct put_block_list *p = PUT_LIST(op);

    if (p->count && op->done.err == -ENODATA)
        return list_absent(p);
    if (p->count && op->done.err) {
        p->pieces = NULL; /* a failed look-up gives none */
        if (op->done.err == -ENOENT)
            return change_refuse(&p->r, AZ_INVALID_BLOCK_LIST);
        change_drop(&p->r); /* D4: an error's answer waits for the client */
        return fail_errno(&p->r, op->done.err);
    }
    list_put(p);
    return change_commit(&p->r, UPLOAD_CONTENT, GO(list_committed));
}

static struct next list_committed(struct op *op)
{
    struct put_block_list *p = PUT_LIST(op);

    if (p->want.has_md5)
        answer_base64(&p->r, SPAN("Content-MD5"), span_from(p->md5_got, sizeof(p->md5_got)));
    else
        answer_crc64(&p->r, p->crc64);
    written_headers(&p->r, &p->record);
    return answer_empty(&p->r, 201);
}

void put_block_list_done(struct request *r)
{
    struct put_block_list *p = container_of(r, struct put_block_list, r);

    for (size_t i = 0; p->pieces && i < p->count; i++)
        if (p->pieces[i].object)
            object_unref(p->pieces[i].object);
    p->parser = block_list_close(p->parser);
    p->md5 = md5_free(p->md5);
}
