/* blobapi/append_block.c - Append Block and Append Block From URL: the bytes into an object, then
 * one change that puts it behind what the blob has by then. Appends to one name are ordered as
 * their changes are; none waits for another's body. */
#include "blobapi/handlers.h"

#define APPEND(op)              container_of(REQUEST(op), struct append_block, r)
#define APPEND_BYTES_MAX_BEFORE MIB(4)
#define APPEND_LARGE_SINCE      SPAN("2022-11-02")

static struct next append_admitted(struct op *op);
static struct next append_received(struct op *op);
static struct next append_sourced(struct op *op);
static struct next append_changed(struct op *op);
static struct next append_copied(struct op *op);
static struct next append_begun(struct op *op);
static struct next append_done(struct op *op);

/* ---- inputs ---- */

static enum az_error number_input(struct request *r, struct span name, bool *has, uint64_t *ret)
{
    struct span text = exchange_header(r->http, name);

    *has = text.len > 0;
    return *has && span_to_u64(text, ret) < 0 ? AZ_INVALID_HEADER_VALUE : AZ_OK;
}

enum az_error append_conditions(struct request *r, struct append_conditions *ret,
                                struct span *culprit)
{
    enum az_error error;

    *culprit = SPAN("x-ms-blob-condition-appendpos");
    error = number_input(r, *culprit, &ret->has_position, &ret->position);
    if (error)
        return error;
    *culprit = SPAN("x-ms-blob-condition-maxsize");
    return number_input(r, *culprit, &ret->has_max, &ret->bytes_max);
}

static bool is_from_url(const struct append_block *a)
{
    return a->r.operation == &operations[OPERATION_APPEND_BLOCK_FROM_URL];
}

static enum az_error append_inputs(struct append_block *a, struct span *culprit)
{
    enum az_error error = append_conditions(&a->r, &a->conditions, culprit);

    if (error)
        return error;
    return is_from_url(a) ? block_url_inputs(&a->r, &a->source, &a->range, &a->want, culprit)
                          : hash_inputs(&a->r, &a->want, culprit);
}

static uint64_t append_bytes_max(const struct request *r)
{
    return span_cmp(r->version, APPEND_LARGE_SINCE) < 0 ? APPEND_BYTES_MAX_BEFORE
                                                        : APPEND_BLOCK_BYTES_MAX;
}

static struct next append_too_large(struct request *r)
{
    return fail_detail(
        r, AZ_REQUEST_BODY_TOO_LARGE, SPAN("MaxLimit"),
        arena_printf(r->http->arena, "%llu", (unsigned long long)append_bytes_max(r)));
}

struct next append_block_start(struct op *op)
{
    struct append_block *a = APPEND(op);
    struct request *r = &a->r;
    struct span culprit = {NULL, 0};
    enum az_error error;

    if (!append_is_served(r))
        return fail_query(r, AZ_UNSUPPORTED_QUERY_PARAMETER, SPAN("comp"));
    error = append_inputs(a, &culprit);
    if (error && is_from_url(a))
        return fail_source_input(r, error, culprit);
    if (error)
        return culprit.len ? fail_header(r, error, culprit) : fail(r, error);
    if (!is_from_url(a) && r->content_bytes == 0)
        return fail_empty_block(r);
    if (!is_from_url(a) && r->content_bytes > append_bytes_max(r))
        return append_too_large(r);
    return change_preview(r, CHANGE_NEEDS_BLOB, GO(append_admitted));
}

/* ---- judgement ---- */

/* At the head what is known may be older than what is ordered: of a position only one that has been
 * passed already is refused there. */
static enum az_error append_verdict(struct append_block *a, uint64_t bytes, bool at_head)
{
    const struct blob_record *b = blob_record(a->r.blob);
    const struct append_conditions *c = &a->conditions;

    if (b->type != BLOB_APPEND)
        return AZ_INVALID_BLOB_TYPE;
    if (!b->sole) { /* written under another contract, or learned: the cloud has some of it */
        request_detail(&a->r, SPAN("QueryParameterName"), SPAN("comp"));
        return AZ_UNSUPPORTED_QUERY_PARAMETER;
    }
    if (b->sealed)
        return AZ_BLOB_IS_SEALED;
    if (b->committed_blocks >= BLOCKS_COMMITTED_MAX)
        return AZ_COMMITTED_COUNT_EXCEEDS_LIMIT;
    if (c->has_max && (b->length > c->bytes_max || bytes > c->bytes_max - b->length))
        return AZ_MAX_BLOB_SIZE_CONDITION_NOT_MET;
    if (c->has_position && (at_head ? c->position < b->length : c->position != b->length))
        return AZ_APPEND_POSITION_CONDITION_NOT_MET;
    return AZ_OK;
}

static struct next append_admitted(struct op *op)
{
    struct append_block *a = APPEND(op);
    uint64_t bytes = is_from_url(a) ? 0 : a->r.content_bytes;
    enum az_error error = append_verdict(a, bytes, true);

    if (error)
        return fail(&a->r, error);
    if (is_from_url(a))
        return source_find(&a->r, &a->source, false, GO(append_sourced));
    a->receive.want = a->want;
    return receive_body(&a->r, &a->receive, GO(append_received));
}

/* ---- the bytes ---- */

static struct next append_received(struct op *op)
{
    struct append_block *a = APPEND(op);

    memcpy(a->md5, a->receive.md5, sizeof(a->md5));
    a->crc64 = a->receive.crc64;
    a->piece = (struct piece){TAKE(a->receive.object), 0, a->receive.received};
    return change_begin(&a->r, CHANGE_NEEDS_BLOB, GO(append_begun));
}

static struct next append_sourced(struct op *op)
{
    struct append_block *a = APPEND(op);
    struct range range;
    enum az_error error = tier_verdict(source_record(&a->source));

    if (!error)
        error = range_resolve(&a->range, source_record(&a->source)->length, &range);
    if (error)
        return fail(&a->r, error);
    if (!range.len) /* of an empty blob: as little a block as an empty body is */
        return fail_source_input(&a->r, AZ_INVALID_HEADER_VALUE, SPAN("x-ms-copy-source"));
    if (range.len > append_bytes_max(&a->r))
        return append_too_large(&a->r);
    a->transfer.from = a->source.blob;
    a->transfer.external = a->source.external;
    a->transfer.range = range;
    a->transfer.object_max = APPEND_BLOCK_BYTES_MAX;
    a->transfer.want_md5 = a->want.has_md5;
    a->transfer.changed = GO(append_changed);
    return transfer_run(&a->r, &a->transfer, GO(append_copied));
}

static struct next append_changed(struct op *op)
{
    struct append_block *a = APPEND(op);

    return source_find_again(&a->r, &a->source, GO(append_sourced));
}

static struct next append_copied(struct op *op)
{
    struct append_block *a = APPEND(op);
    struct transfer *t = &a->transfer;

    if (a->want.has_md5 && memcmp(a->want.md5, t->md5, sizeof(t->md5)) != 0)
        return fail(&a->r, AZ_MD5_MISMATCH);
    a->crc64 = object_crc64(t->pieces[0].object);
    if (a->want.has_crc64 && a->want.crc64 != a->crc64)
        return fail(&a->r, AZ_CRC64_MISMATCH);
    memcpy(a->md5, t->md5, sizeof(a->md5));
    a->piece = (struct piece){TAKE(t->pieces[0].object), 0, t->range.len};
    t->count = 0;
    return change_begin(&a->r, CHANGE_NEEDS_BLOB, GO(append_begun));
}

/* ---- the change ---- */

static struct next append_begun(struct op *op)
{
    struct append_block *a = APPEND(op);
    enum az_error error = append_verdict(a, a->piece.length, false);

    if (error)
        return change_refuse(&a->r, error);
    a->record = *blob_record(a->r.blob);
    a->record.lease = lease_kept(&a->r);
    a->offset = a->record.length;
    a->record.copy_id = a->record.copy_source = (struct span){NULL, 0}; /* it is a copy no more */
    a->record.copied_ns = 0;
    tx_append(a->r.tx, &a->record, &a->piece);
    a->piece.object = NULL; /* the change has its reference */
    return change_commit(&a->r, UPLOAD_APPEND, GO(append_done));
}

static struct next append_done(struct op *op)
{
    struct append_block *a = APPEND(op);
    struct request *r = &a->r;

    if (a->want.has_md5)
        answer_base64(r, SPAN("Content-MD5"), span_from(a->md5, sizeof(a->md5)));
    else
        answer_crc64(r, a->crc64);
    written_headers(r, &a->record);
    answer_u64(r, SPAN("x-ms-blob-append-offset"), a->offset);
    answer_u64(r, SPAN("x-ms-blob-committed-block-count"), a->record.committed_blocks);
    return answer_empty(r, 201);
}

void append_block_done(struct request *r)
{
    struct append_block *a = container_of(r, struct append_block, r);

    a->piece.object = a->piece.object ? object_unref(a->piece.object) : NULL;
    transfer_done(r, &a->transfer);
    source_done(r, &a->source);
}
