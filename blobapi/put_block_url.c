/* blobapi/put_block_url.c - Put Block From URL: a range of a version of this box becomes an object
 * of its own, staged under the client's id. The bytes are read and written: a range seldom falls on
 * objects, and a block is checked by its own hash. */
#include "blobapi/handlers.h"

#define PUT_BLOCK_URL(op) container_of(REQUEST(op), struct put_block_url, r)

static struct next block_admitted(struct op *op);
static struct next block_sourced(struct op *op);
static struct next block_changed(struct op *op);
static struct next block_copied(struct op *op);
static struct next block_stage(struct op *op);
static struct next block_staged(struct op *op);

static enum az_error block_range(struct request *r, struct range_request *ret, struct span *culprit)
{
    struct span text = exchange_header(r->http, SPAN("x-ms-source-range"));

    *culprit = SPAN("x-ms-source-range");
    return text.len && range_parse(text, ret) < 0 ? AZ_INVALID_HEADER_VALUE : AZ_OK;
}

enum az_error block_url_inputs(struct request *r, struct source *source,
                               struct range_request *range, struct hash_inputs *want,
                               struct span *culprit)
{
    enum az_error error = source_inputs(r, source, culprit);

    if (!error)
        error = block_range(r, range, culprit);
    if (!error && range->given)
        source->range =
            (struct range){range->first, range->open ? UINT64_MAX : range->last - range->first + 1};
    if (!error)
        error = source_hash_inputs(r, want, culprit);
    *culprit = error ? *culprit : SPAN("Content-Length");
    return !error && r->http->body_bytes != 0 ? AZ_INVALID_HEADER_VALUE : error;
}

struct next put_block_url_start(struct op *op)
{
    struct put_block_url *p = PUT_BLOCK_URL(op);
    struct request *r = &p->r;
    struct span culprit = {NULL, 0};
    enum az_error error = block_id_input(r, p->id, &p->id_len);

    if (error)
        return fail_query(r, error, SPAN("blockid"));
    error = block_url_inputs(r, &p->source, &p->range, &p->want, &culprit);
    if (error)
        return fail_source_input(r, error, culprit);
    return lease_gate(r, GO(block_admitted));
}

static struct next block_admitted(struct op *op)
{
    struct put_block_url *p = PUT_BLOCK_URL(op);

    return source_find(&p->r, &p->source, false, GO(block_sourced));
}

static struct next block_sourced(struct op *op)
{
    struct put_block_url *p = PUT_BLOCK_URL(op);
    struct range range;
    enum az_error error = range_resolve(&p->range, source_record(&p->source)->length, &range);

    if (tier_verdict(source_record(&p->source)))
        return fail(&p->r, AZ_BLOB_ARCHIVED);
    if (error)
        return fail(&p->r, error);
    if (!range.len) /* of an empty blob: as little a block as an empty body is */
        return fail_source_input(&p->r, AZ_INVALID_HEADER_VALUE, SPAN("x-ms-copy-source"));
    if (range.len > PUT_BLOCK_BYTES_MAX)
        return fail_detail(
            &p->r, AZ_REQUEST_BODY_TOO_LARGE, SPAN("MaxLimit"),
            arena_printf(p->r.http->arena, "%llu", (unsigned long long)PUT_BLOCK_BYTES_MAX));
    p->transfer.from = p->source.blob;
    p->transfer.external = p->source.external;
    p->transfer.range = range;
    p->transfer.object_max = PUT_BLOCK_BYTES_MAX;
    p->transfer.staged = true;
    p->transfer.want_md5 = p->want.has_md5;
    p->transfer.changed = GO(block_changed);
    return transfer_run(&p->r, &p->transfer, GO(block_copied));
}

static struct next block_changed(struct op *op)
{
    struct put_block_url *p = PUT_BLOCK_URL(op);

    return source_find_again(&p->r, &p->source, GO(block_sourced));
}

static struct next block_copied(struct op *op)
{
    struct put_block_url *p = PUT_BLOCK_URL(op);
    struct transfer *t = &p->transfer;

    if (p->want.has_md5 && memcmp(p->want.md5, t->md5, sizeof(t->md5)) != 0)
        return fail(&p->r, AZ_MD5_MISMATCH);
    p->crc64 = object_crc64(t->pieces[0].object);
    if (p->want.has_crc64 && p->want.crc64 != p->crc64)
        return fail(&p->r, AZ_CRC64_MISMATCH);
    return lease_gate(&p->r, GO(block_stage)); /* as after a body (put_block.c) */
}

static struct next block_stage(struct op *op)
{
    struct put_block_url *p = PUT_BLOCK_URL(op);

    cache_stage(p->r.api->conf.cache, &p->r.name, span_from(p->id, p->id_len),
                TAKE(p->transfer.pieces[0].object), &op->done);
    return AWAIT(block_staged);
}

static struct next block_staged(struct op *op)
{
    struct put_block_url *p = PUT_BLOCK_URL(op);

    return put_block_answer(&p->r, op->done.err, p->want.has_md5 ? p->transfer.md5 : NULL,
                            p->crc64);
}

void put_block_url_done(struct request *r)
{
    struct put_block_url *p = container_of(r, struct put_block_url, r);

    transfer_done(r, &p->transfer);
    source_done(r, &p->source);
}
