/* blobapi/copy_blob.c - Copy Blob (done when it is answered), Copy Blob From URL, Put Blob From
 * URL, Abort Copy Blob. The source is a version of this box (source.c), pinned before the change
 * begins.
 *
 * References move where they can: the new version is made of the source's objects, which the engine
 * makes whole, durable and dirty first (tx_copy); bytes that were evicted come back from the cloud
 * outside of the change (refill.c). A body located by its record, one with a hash to be checked and
 * one too large for one change are read and written (transfer.c), also outside of it (D4). */
#include "blobapi/handlers.h"

#include "base/clock.h"

#define COPY(op)            container_of(REQUEST(op), struct copy_blob, r)
#define COPY_SYNC_BYTES_MAX MIB(256)
#define COPY_OBJECT_BYTES   MIB(256) /* of what is larger than one Put Blob could bring */

static struct next copy_admitted(struct op *op);
static struct next copy_sourced(struct op *op);
static struct next copy_changed(struct op *op);
static struct next copy_moved(struct op *op);
static struct next copy_begun(struct op *op);
static struct next copy_linked(struct op *op);
static struct next copy_committed(struct op *op);

static bool is(const struct copy_blob *c, enum operation_id id)
{
    return c->r.operation == &operations[id];
}

/* ---- inputs ---- */

/* REPLACE, the default: the copy has the tags that are given, or none. */
static enum az_error tag_inputs(struct copy_blob *c, struct span *culprit)
{
    struct span option = exchange_header(c->r.http, SPAN("x-ms-copy-source-tag-option"));
    enum az_error error = tags_header(&c->r, &c->tags, culprit);

    if (error)
        return error;
    c->copies_tags = tags_are_copied(&c->r);
    if (c->copies_tags && exchange_header(c->r.http, *culprit).len)
        return AZ_BOTH_USER_TAGS_AND_SOURCE_TAGS_COPY_PRESENT;
    *culprit = SPAN("x-ms-copy-source-tag-option");
    return c->copies_tags || !option.len || span_eq_nocase(option, SPAN("REPLACE"))
               ? AZ_OK
               : AZ_INVALID_HEADER_VALUE;
}

static enum az_error put_from_url_inputs(struct copy_blob *c, struct span *culprit)
{
    struct span properties = exchange_header(c->r.http, SPAN("x-ms-copy-source-blob-properties"));
    enum az_error error;

    *culprit = SPAN("x-ms-blob-type");
    if (!span_eq_nocase(exchange_header(c->r.http, *culprit), SPAN("BlockBlob")))
        return AZ_INVALID_HEADER_VALUE;
    *culprit = SPAN("x-ms-copy-source-blob-properties");
    c->properties = !span_eq_nocase(properties, SPAN("false"));
    if (properties.len && c->properties && !span_eq_nocase(properties, SPAN("true")))
        return AZ_INVALID_HEADER_VALUE;
    *culprit = SPAN("Content-Length");
    if (c->r.http->body_bytes != 0)
        return AZ_INVALID_HEADER_VALUE;
    error = source_hash_inputs(&c->r, &c->want, culprit);
    return error ? error : content_inputs(&c->r, false, &c->content, culprit);
}

static enum az_error copy_inputs(struct copy_blob *c, struct span *culprit)
{
    enum az_error error = source_inputs(&c->r, &c->source, culprit);

    c->properties = true;
    if (!error && is(c, OPERATION_COPY_BLOB_FROM_URL))
        error = source_hash_inputs(&c->r, &c->want, culprit);
    if (!error && is(c, OPERATION_PUT_BLOB_FROM_URL))
        error = put_from_url_inputs(c, culprit);
    if (!error)
        error = tag_inputs(c, culprit);
    if (!error)
        error = tier_inputs(&c->r, &c->tier, culprit);
    if (error)
        return error;
    *culprit = (struct span){NULL, 0};
    return metadata_inputs(&c->r, &c->metadata, &c->metadata_count);
}

struct next copy_start(struct op *op)
{
    struct copy_blob *c = COPY(op);
    struct span culprit = {NULL, 0};
    enum az_error error = copy_inputs(c, &culprit);

    if (error)
        return fail_source_input(&c->r, error, culprit);
    return change_preview(&c->r, CHANGE_PLAIN, GO(copy_admitted));
}

static struct next copy_admitted(struct op *op)
{
    struct copy_blob *c = COPY(op);

    return source_find(&c->r, &c->source, is(c, OPERATION_COPY_BLOB), GO(copy_sourced));
}

/* ---- the source's bytes ---- */

static uint64_t bytes_max(const struct copy_blob *c)
{
    return is(c, OPERATION_COPY_BLOB_FROM_URL)  ? COPY_SYNC_BYTES_MAX
           : is(c, OPERATION_PUT_BLOB_FROM_URL) ? PUT_BLOB_BYTES_MAX
                                                : UINT64_MAX;
}

/* What a source elsewhere says its MD5 is, is checked: it would be told as the copy's. */
static bool md5_is_claimed(const struct copy_blob *c)
{
    return c->source.external && source_record(&c->source)->content_md5.len;
}

/* An MD5 that is to be stored is checked, as a Put Blob's is, unless it is the source's own. */
static bool md5_to_check(const struct copy_blob *c)
{
    const struct blob_record *b = source_record(&c->source);

    return c->content.md5.len &&
           !(b->content_md5.len && memcmp(c->content.md5.base, b->content_md5.base, 16) == 0);
}

static struct next copy_transfer(struct copy_blob *c, uint64_t bytes, bool md5)
{
    c->transfer.from = c->source.blob;
    c->transfer.external = c->source.external;
    c->transfer.range = (struct range){0, bytes};
    c->transfer.object_max = bytes > PUT_BLOB_BYTES_MAX ? COPY_OBJECT_BYTES : PUT_BLOB_BYTES_MAX;
    c->transfer.want_md5 = md5;
    c->transfer.changed = GO(copy_changed);
    return transfer_run(&c->r, &c->transfer, GO(copy_moved));
}

/* Copy Blob brings an archived source back as a blob of another tier; where the bytes are here. */
static bool copy_is_readable(const struct copy_blob *c)
{
    const struct blob_record *from = source_record(&c->source);

    return !tier_verdict(from) || (is(c, OPERATION_COPY_BLOB) && !from->cloud_etag.len && c->tier &&
                                   c->tier != ACCESS_TIER_ARCHIVE);
}

static struct next copy_sourced(struct op *op)
{
    struct copy_blob *c = COPY(op);
    uint64_t bytes = source_record(&c->source)->length;
    bool md5 = c->want.has_md5 || md5_to_check(c) || md5_is_claimed(c),
         hashed = md5 || c->want.has_crc64;

    if (c->tier && is(c, OPERATION_COPY_BLOB) && source_record(&c->source)->type != BLOB_BLOCK)
        return fail_header(&c->r, AZ_INVALID_BLOB_TIER, SPAN("x-ms-access-tier"));
    if (!copy_is_readable(c))
        return fail(&c->r, AZ_BLOB_ARCHIVED);
    if (c->copies_tags && (!c->source.blob || blob_record(c->source.blob)->tags_unknown))
        return fail(&c->r, AZ_TAGS_NOT_KNOWN);
    if (bytes > bytes_max(c))
        return fail_detail(
            &c->r, AZ_REQUEST_BODY_TOO_LARGE, SPAN("MaxLimit"),
            arena_printf(c->r.http->arena, "%llu", (unsigned long long)bytes_max(c)));
    c->by_reference = c->source.blob && blob_is_shared(c->source.blob) && !hashed;
    if (!c->by_reference && bytes)
        return copy_transfer(c, bytes, md5);
    return GO(copy_moved);
}

static struct next copy_changed(struct op *op)
{
    struct copy_blob *c = COPY(op);

    return source_find_again(&c->r, &c->source, GO(copy_sourced));
}

/* An empty source has no object, and the hashes of nothing. */
static enum az_error copy_hashes(struct copy_blob *c)
{
    struct transfer *t = &c->transfer;
    uint64_t crc64 = t->count ? object_crc64(t->pieces[0].object) : 0;

    if (!t->count) {
        struct md5 *md5 = md5_new();

        md5_end(md5, t->md5);
        md5_free(md5);
    }
    if ((c->want.has_md5 && memcmp(c->want.md5, t->md5, 16) != 0) ||
        (md5_to_check(c) && memcmp(c->content.md5.base, t->md5, 16) != 0) ||
        (md5_is_claimed(c) && memcmp(source_record(&c->source)->content_md5.base, t->md5, 16) != 0))
        return AZ_MD5_MISMATCH;
    return c->want.has_crc64 && c->want.crc64 != crc64 ? AZ_CRC64_MISMATCH : AZ_OK;
}

static struct next copy_moved(struct op *op)
{
    struct copy_blob *c = COPY(op);
    enum az_error error = c->by_reference ? AZ_OK : copy_hashes(c);

    return error ? fail(&c->r, error) : change_begin(&c->r, CHANGE_PLAIN, GO(copy_begun));
}

/* ---- the new version ---- */

static struct span given_or(struct span given, struct span source)
{
    return given.len ? given : source;
}

/* Content headers: a copy has the source's; Put Blob From URL those it names, and the source's for
 * the rest unless it says not to. */
static void copy_describe(struct copy_blob *c)
{
    const struct blob_record *from = source_record(&c->source);
    bool puts = is(c, OPERATION_PUT_BLOB_FROM_URL);
    struct content_inputs content = c->content;

    if (c->properties) {
        content.type = given_or(content.type, from->content_type);
        content.encoding = given_or(content.encoding, from->content_encoding);
        content.language = given_or(content.language, from->content_language);
        content.disposition = given_or(content.disposition, from->content_disposition);
        content.cache_control = given_or(content.cache_control, from->cache_control);
    }
    if (!content.md5.len && c->transfer.want_md5)
        content.md5 = span_from(c->transfer.md5, sizeof(c->transfer.md5));
    content.md5 = given_or(content.md5, from->content_md5); /* it speaks of the bytes */
    if (c->metadata_count || puts)
        record_describe(&c->record, &content, c->metadata, c->metadata_count);
    else
        record_describe(&c->record, &content, from->metadata, from->metadata_count);
}

static void copy_record(struct copy_blob *c)
{
    const struct blob_record *from = source_record(&c->source);
    const struct transfer *t = &c->transfer;

    c->record = record_new(&c->r);
    if (is(c, OPERATION_COPY_BLOB))
        c->record.type = from->type;
    copy_describe(c);
    c->record.tags = c->copies_tags ? from->tags : c->tags;
    record_set_tier(&c->record, c->tier);
    c->record.has_crc64 = from->has_crc64 || t->count == 1;
    c->record.content_crc64 =
        t->count == 1 ? object_crc64(t->pieces[0].object) : from->content_crc64;
    if (is(c, OPERATION_PUT_BLOB_FROM_URL))
        return;
    c->record.copy_id = span_from(c->r.id, REQUEST_ID_BYTES);
    c->record.copy_source = c->source.url;
    c->record.copied_ns = clock_wall_ns();
}

/* Copy Blob does not change the type of what is there, as Put Blob does. */
static bool copy_type_differs(const struct copy_blob *c)
{
    return is(c, OPERATION_COPY_BLOB) && c->r.blob &&
           blob_record(c->r.blob)->type != source_record(&c->source)->type;
}

static struct next copy_begun(struct op *op)
{
    struct copy_blob *c = COPY(op);
    struct request *r = &c->r;

    if (copy_type_differs(c))
        return change_refuse(r, AZ_INVALID_BLOB_TYPE);
    if (!is(c, OPERATION_COPY_BLOB) && change_forbidden_type(r, BLOB_BLOCK))
        return change_refuse(r, AZ_SNAPSHOTS_PRESENT);
    copy_record(c);
    if (c->by_reference) {
        tx_copy(r->tx, &c->record, c->source.blob, &op->done);
        return AWAIT(copy_linked);
    }
    tx_put(r->tx, &c->record, c->transfer.pieces, c->transfer.count, NULL, true);
    c->transfer.count = c->transfer.room = 0; /* the change has their references */
    if (c->source.blob)
        tx_copied(r->tx, c->source.blob);
    return change_commit(r, UPLOAD_CONTENT, GO(copy_committed));
}

static struct next copy_absent(struct copy_blob *c)
{
    c->all = (struct piece){NULL, 0, source_record(&c->source)->length};
    c->refill.pieces = &c->all;
    c->refill.count = 1;
    c->refill.from = c->source.blob;
    c->refill.changed = GO(copy_changed);
    return change_refill(&c->r, &c->refill);
}

static struct next copy_linked(struct op *op)
{
    struct copy_blob *c = COPY(op);

    if (op->done.err == -ENODATA)
        return copy_absent(c);
    if (op->done.err) {
        change_drop(&c->r); /* D4: an error's answer waits for the client */
        return fail_errno(&c->r, op->done.err);
    }
    return change_commit(&c->r, UPLOAD_CONTENT, GO(copy_committed));
}

static struct next copy_committed(struct op *op)
{
    struct copy_blob *c = COPY(op);
    struct request *r = &c->r;

    written_headers(r, &c->record);
    if (!is(c, OPERATION_COPY_BLOB)) {
        if (c->record.content_md5.len)
            answer_base64(r, SPAN("Content-MD5"), c->record.content_md5);
        if (c->record.has_crc64)
            answer_crc64(r, c->record.content_crc64);
    }
    if (is(c, OPERATION_PUT_BLOB_FROM_URL))
        return answer_empty(r, 201);
    answer_add(r, SPAN("x-ms-copy-id"), c->record.copy_id);
    answer_add(r, SPAN("x-ms-copy-status"), SPAN("success"));
    return answer_empty(r, 202);
}

void copy_done(struct request *r)
{
    struct copy_blob *c = container_of(r, struct copy_blob, r);

    refill_done(r);
    transfer_done(r, &c->transfer);
    source_done(r, &c->source);
}

/* ---- Abort Copy Blob: no copy is ever pending ---- */

static struct next abort_found(struct op *op);

struct next abort_copy_start(struct op *op)
{
    struct request *r = REQUEST(op);
    struct span action = exchange_header(r->http, SPAN("x-ms-copy-action"));

    if (!target_param(&r->target, SPAN("copyid")).len)
        return fail_query(r, AZ_MISSING_REQUIRED_QUERY_PARAMETER, SPAN("copyid"));
    if (!action.len)
        return fail_header(r, AZ_MISSING_REQUIRED_HEADER, SPAN("x-ms-copy-action"));
    if (!span_eq_nocase(action, SPAN("abort")))
        return fail_header(r, AZ_INVALID_HEADER_VALUE, SPAN("x-ms-copy-action"));
    return find_blob(r, (struct range){0, 0}, GO(abort_found));
}

static struct next abort_found(struct op *op)
{
    struct request *r = REQUEST(op);
    enum az_error error = read_verdict(r);

    return fail(r, error ? error : AZ_NO_PENDING_COPY_OPERATION);
}
