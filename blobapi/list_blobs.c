/* blobapi/list_blobs.c - List Blobs: one page of a container, flat or by directory.
 *
 * A worker walks one snapshot of the index and writes the rows as XML into buffers; what it does
 * not know is asked of the cloud (upstream_list), then it goes on from there. The page leaves when
 * it is complete: it ends early, with a marker, when buffers run out (8 MiB, or an empty pool), as
 * the service's may. */
#include "base/date.h"
#include "blobapi/handlers.h"
#include "blobapi/listing.h"

#define LIST_BLOBS(op) container_of(REQUEST(op), struct list_blobs, r)
#define CLOUD_ROUNDS_MAX                                                                           \
    64                 /* pages asked of the cloud for one page of ours; then it ends early        \
                        */
#define PAGE_FULL    1 /* what a row answers to end the page before it */
#define TAGS_UNKNOWN 2 /* and where include=tags cannot be served */

static struct next list_open(struct op *op);
static struct next list_walk(struct op *op);
static struct next list_walked(struct op *op);
static struct next list_asked(struct op *op);
static struct next list_end(struct op *op);

/* ---- what is asked for ---- */

enum {
    INCLUDE_METADATA,
    INCLUDE_UNCOMMITTED,
    INCLUDE_SNAPSHOTS,
    INCLUDE_COPY,
    INCLUDE_DELETED,
    INCLUDE_TAGS,
};
static const struct span include_names[] = {
    SPAN("metadata"),
    SPAN("uncommittedblobs"),
    SPAN("snapshots"),
    SPAN("copy"),
    SPAN("deleted"),
    SPAN("tags"),
    SPAN("versions"),
    SPAN("deletedwithversions"),
    SPAN("immutabilitypolicy"),
    SPAN("legalhold"),
};

static enum az_error list_include(struct list_blobs *l, struct span *culprit)
{
    uint32_t include = 0;
    /* "permissions" is no name here: by refusing it a flat account is told from a hierarchical one
     */
    enum az_error error = list_include_parse(target_param(&l->r.target, SPAN("include")),
                                             include_names, countof(include_names), &include);

    *culprit = SPAN("include");
    if (error)
        return error;
    if (l->delimiter.len && (include & 1u << INCLUDE_SNAPSHOTS))
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    l->tags = include & 1u << INCLUDE_TAGS;
    if (l->tags && !(l->r.granted.rights & AUTH_TAGS))
        return AZ_AUTHORIZATION_PERMISSION_MISMATCH;
    l->metadata = include & 1u << INCLUDE_METADATA;
    l->uncommitted =
        include & 1u << INCLUDE_UNCOMMITTED && l->r.granted.kind != AUTH_ANONYMOUS; /* P2 */
    l->copy = include & 1u << INCLUDE_COPY;
    l->snapshots = include & 1u << INCLUDE_SNAPSHOTS;
    return AZ_OK;
}

static enum az_error list_from(struct list_blobs *l, struct span *culprit)
{
    struct span start = list_text(&l->r.target, SPAN("startfrom"), l->r.http->arena);

    *culprit = SPAN("marker");
    l->marker = target_param(&l->r.target, SPAN("marker"));
    if (l->marker.len)
        return list_marker_parse(l->marker, l->r.http->arena, &l->from);
    l->from = start.len ? start : SPAN(""); /* inclusive, and of the first page only */
    return AZ_OK;
}

static enum az_error list_inputs(struct list_blobs *l, struct span *culprit)
{
    const struct target *t = &l->r.target;
    enum az_error error;

    l->prefix = list_text(t, SPAN("prefix"), l->r.http->arena);
    l->delimiter = list_text(t, SPAN("delimiter"), l->r.http->arena);
    l->has_max = target_param(t, SPAN("maxresults")).len > 0;
    *culprit = SPAN("endBefore");
    if (target_param(t, SPAN("endbefore")).len) /* only an Arrow listing has it */
        return AZ_UNSUPPORTED_QUERY_PARAMETER;
    *culprit = SPAN("maxresults");
    error = list_max_parse(t, &l->max);
    if (!error)
        error = list_include(l, culprit);
    return error ? error : list_from(l, culprit);
}

struct next list_blobs_start(struct op *op)
{
    struct list_blobs *l = LIST_BLOBS(op);
    struct span culprit = {NULL, 0};
    enum az_error error = list_inputs(l, &culprit);

    if (error)
        return fail_query(&l->r, error, culprit);
    return emit_begin(&l->r, IOBUF_64K, GO(list_open));
}

static struct next list_open(struct op *op)
{
    struct list_blobs *l = LIST_BLOBS(op);
    struct emit *e = l->r.emit;

    list_emit_head(&l->r, l->r.target.container);
    if (l->prefix.len)
        list_emit_name(e, SPAN("Prefix"), l->prefix);
    if (l->marker.len)
        list_emit_name(e, SPAN("Marker"), l->marker);
    if (l->has_max) {
        EMIT(e, "<MaxResults>");
        emit_u64(e, l->max);
        EMIT(e, "</MaxResults>");
    }
    if (l->delimiter.len)
        list_emit_name(e, SPAN("Delimiter"), l->delimiter);
    EMIT(e, "<Blobs>");
    if (!emit_keep_tail(e))
        return fail_errno(&l->r, -EBUSY);
    return GO(list_walk);
}

/* ---- one row: worker ---- */

static void element(struct emit *e, struct span open, struct span value, struct span close,
                    struct span empty)
{
    if (!value.len) {
        emit_span(e, empty);
        return;
    }
    emit_span(e, open);
    emit_xml_header(e, value);
    emit_span(e, close);
}
#define ELEMENT(e, tag, value)                                                                     \
    element(e, SPAN("<" tag ">"), value, SPAN("</" tag ">"), SPAN("<" tag " />"))

static void row_etag(struct emit *e, uint64_t etag)
{
    static const char hex[] = "0123456789ABCDEF";
    char text[18] = "0x";

    for (unsigned i = 0; i < 16; i++)
        text[2 + i] = hex[etag >> 4 * (15 - i) & 15];
    emit_bytes(e, text, sizeof(text));
}

static void row_content(struct emit *e, const struct blob_record *b)
{
    EMIT(e, "<Content-Length>");
    emit_u64(e, b->length);
    EMIT(e, "</Content-Length>");
    ELEMENT(e, "Content-Type", b->content_type);
    ELEMENT(e, "Content-Encoding", b->content_encoding);
    ELEMENT(e, "Content-Language", b->content_language);
    EMIT(e, "<Content-CRC64 />");
    if (b->content_md5.len) {
        EMIT(e, "<Content-MD5>");
        emit_base64(e, b->content_md5);
        EMIT(e, "</Content-MD5>");
    } else {
        EMIT(e, "<Content-MD5 />");
    }
    ELEMENT(e, "Cache-Control", b->cache_control);
    ELEMENT(e, "Content-Disposition", b->content_disposition);
}

static void row_type(struct emit *e, const struct blob_record *b)
{
    if (b->type == BLOB_APPEND)
        EMIT(e, "<BlobType>AppendBlob</BlobType>");
    else if (b->type == BLOB_PAGE)
        EMIT(e, "<x-ms-blob-sequence-number>0</x-ms-blob-sequence-number><BlobType>PageBlob</"
                "BlobType>");
    else
        EMIT(e, "<BlobType>BlockBlob</BlobType>");
}

static void row_tier(struct emit *e, const struct blob_record *b)
{
    struct tier_shown shown = tier_shown(b);

    if (!shown.name.len)
        return;
    EMIT(e, "<AccessTier>");
    emit_span(e, shown.name);
    EMIT(e, "</AccessTier>");
    if (shown.inferred)
        EMIT(e, "<AccessTierInferred>true</AccessTierInferred>");
    if (shown.changed_ns) {
        EMIT(e, "<AccessTierChangeTime>");
        emit_date(e, shown.changed_ns);
        EMIT(e, "</AccessTierChangeTime>");
    }
    if (shown.archive_status.len) {
        EMIT(e, "<ArchiveStatus>");
        emit_span(e, shown.archive_status);
        EMIT(e, "</ArchiveStatus>");
    }
}

static void row_copy(struct emit *e, const struct blob_record *b)
{
    EMIT(e, "<CopyId>");
    emit_xml_header(e, b->copy_id);
    EMIT(e, "</CopyId><CopyStatus>success</CopyStatus><CopySource>");
    emit_xml_header(e, b->copy_source);
    EMIT(e, "</CopySource><CopyProgress>");
    emit_u64(e, b->length);
    EMIT(e, "/");
    emit_u64(e, b->length);
    EMIT(e, "</CopyProgress><CopyCompletionTime>");
    emit_date(e, b->copied_ns);
    EMIT(e, "</CopyCompletionTime>");
}

static void row_snapshot(struct emit *e, uint64_t snapshot)
{
    char id[ISO8601_BYTES + 1];

    iso8601_print((int64_t)(snapshot * ISO8601_TICK_NS), id);
    EMIT(e, "<Snapshot>");
    emit_bytes(e, id, ISO8601_BYTES);
    EMIT(e, "</Snapshot>");
}

static void row_blob(struct list_blobs *l, const struct list_row *row)
{
    const struct blob_record *b = row->record;
    struct emit *e = l->r.emit;

    EMIT(e, "<Blob>");
    list_emit_name(e, SPAN("Name"), row->name);
    if (b->snapshot)
        row_snapshot(e, b->snapshot);
    EMIT(e, "<Properties><Creation-Time>");
    emit_date(e, b->created_ns ? b->created_ns : b->modified_ns);
    EMIT(e, "</Creation-Time><Last-Modified>");
    emit_date(e, b->modified_ns);
    EMIT(e, "</Last-Modified><Etag>");
    row_etag(e, b->etag);
    EMIT(e, "</Etag>");
    row_content(e, b);
    row_type(e, b);
    row_tier(e, b);
    if (!b->snapshot)
        emit_lease(&l->r, l->r.target.container, row->name, &b->lease, b->cloud_lease, e);
    if (l->copy && b->copy_id.len)
        row_copy(e, b);
    EMIT(e, "<ServerEncrypted>true</ServerEncrypted>");
    if (b->sealed)
        EMIT(e, "<Sealed>true</Sealed>");
    if (b->tags.len || b->tags_unknown) {
        EMIT(e, "<TagCount>");
        emit_u64(e, tags_count(b->tags) + b->tags_unknown);
        EMIT(e, "</TagCount>");
    }
    EMIT(e, "</Properties>");
    if (l->metadata)
        list_emit_metadata(e, b->metadata, b->metadata_count);
    if (l->tags && b->tags.len)
        tags_emit(e, b->tags);
    EMIT(e, "<OrMetadata /></Blob>");
}

/* Blocks were put, nothing was committed: it has a name and no content. */
static void row_uncommitted(struct list_blobs *l, const struct list_row *row)
{
    struct emit *e = l->r.emit;

    EMIT(e, "<Blob>");
    list_emit_name(e, SPAN("Name"), row->name);
    EMIT(e,
         "<Properties><Content-Length>0</Content-Length><Content-Type>application/octet-stream</"
         "Content-Type>"
         "<Content-Encoding /><Content-Language /><Content-CRC64 /><Content-MD5 /><Cache-Control />"
         "<Content-Disposition /><BlobType>BlockBlob</BlobType><LeaseStatus>unlocked</LeaseStatus>"
         "<LeaseState>available</LeaseState><ServerEncrypted>true</ServerEncrypted></Properties>");
    EMIT(e, "<OrMetadata /></Blob>");
}

static int list_row(void *arg, const struct list_row *row)
{
    struct list_blobs *l = arg;
    struct emit *e = l->r.emit;
    struct emit_mark mark = emit_mark(e);

    if (l->tags && row->record && row->record->tags_unknown)
        return TAGS_UNKNOWN;
    if (!row->record && !row->uncommitted) {
        EMIT(e, "<BlobPrefix>");
        list_emit_name(e, SPAN("Name"), row->name);
        EMIT(e, "</BlobPrefix>");
    } else if (row->uncommitted) {
        row_uncommitted(l, row);
    } else {
        row_blob(l, row);
    }
    if (!emit_keep_tail(e)) {
        emit_rewind(e, mark);
        l->next = arena_copy(l->r.http->arena, row->place);
        return PAGE_FULL;
    }
    l->rows++;
    return 0;
}

static int list_job(void *arg) /* worker */
{
    struct list_blobs *l = arg;
    struct list_query query = {.container = l->r.name.container,
                               .prefix = l->prefix,
                               .delimiter = l->delimiter,
                               .from = l->from,
                               .max = (unsigned)(l->max - l->rows),
                               .uncommitted = l->uncommitted,
                               .snapshots = l->snapshots,
                               .offline = l->offline};

    list_end_done(&l->end);
    l->end = (struct list_end){0};
    return cache_list(l->r.api->conf.cache, &query, list_row, l, &l->end);
}

/* ---- the page ---- */

static struct next list_walk(struct op *op)
{
    struct list_blobs *l = LIST_BLOBS(op);

    worker_run(l->r.api->conf.workers, list_job, l, &op->done);
    return AWAIT(list_walked);
}

/* A page that has no row yet gives its buffer back while the cloud is asked: warm reads need it. */
static void list_put_off(struct list_blobs *l)
{
    if (l->rows)
        return;
    emit_done(l->r.emit);
    l->r.emit = NULL;
}

static struct next list_go_on(struct list_blobs *l)
{
    return l->r.emit ? GO(list_walk) : emit_begin(&l->r, IOBUF_64K, GO(list_open));
}

/* What the box does not know ends the page, or is asked for. */
static struct next list_gap(struct list_blobs *l)
{
    struct request *r = &l->r;

    l->from = arena_copy(r->http->arena, l->end.gap.from);
    if (!request_has_cloud(r)) {
        l->offline = true; /* there is nobody to ask: what is known is all there is */
        return GO(list_walk);
    }
    if (l->rounds++ == CLOUD_ROUNDS_MAX) {
        if (!l->from.len) /* no marker says "from the first name" */
            return fail_errno(r, -EBUSY);
        l->next = l->from;
        return GO(list_end);
    }
    list_put_off(l);
    r->asked_cloud = true;
    upstream_list(r->api->conf.upstream, &l->end.gap, &r->op.done);
    return AWAIT(list_asked);
}

static struct next list_walked(struct op *op)
{
    struct list_blobs *l = LIST_BLOBS(op);

    switch (op->done.err) {
    case 0:
        if (l->end.next.base)
            l->next = arena_copy(l->r.http->arena, l->end.next);
        return GO(list_end);
    case PAGE_FULL:
        return l->rows ? GO(list_end)
                       : fail_errno(&l->r, -EBUSY); /* not even one row: no buffers */
    case TAGS_UNKNOWN:
        return fail(&l->r, AZ_TAGS_NOT_KNOWN);
    case -ENODATA:
        return list_gap(l);
    default:
        return fail_errno(&l->r, op->done.err);
    }
}

static struct next list_asked(struct op *op)
{
    struct list_blobs *l = LIST_BLOBS(op);

    switch (op->done.err) {
    case 0:
    case -ESTALE: /* the box learned something newer meanwhile */
        return list_go_on(l);
    case -ENOENT:
        return fail(&l->r, AZ_CONTAINER_NOT_FOUND);
    case -EHOSTUNREACH:
    case -ETIMEDOUT:
        if (l->r.contract->offline != OFFLINE_SERVE)
            return fail_errno(&l->r, -EHOSTUNREACH);
        l->offline = l->r.stale = true;
        return list_go_on(l);
    default:
        return fail_errno(&l->r, op->done.err);
    }
}

static struct next list_end(struct op *op)
{
    struct list_blobs *l = LIST_BLOBS(op);
    struct request *r = &l->r;
    struct emit *e = r->emit;

    EMIT(e, "</Blobs>");
    if (l->next.base) {
        EMIT(e, "<NextMarker>");
        emit_span(e, list_marker_make(l->next, r->http->arena));
        EMIT(e, "</NextMarker>");
    } else {
        EMIT(e, "<NextMarker />");
    }
    EMIT(e, "</EnumerationResults>");
    answer_add(r, SPAN("x-hearth-cache"),
               r->stale         ? SPAN("stale")
               : r->asked_cloud ? SPAN("miss")
                                : SPAN("hit"));
    return answer_emitted(r, 200);
}

void list_blobs_done(struct request *r)
{
    list_end_done(&container_of(r, struct list_blobs, r)->end);
}
