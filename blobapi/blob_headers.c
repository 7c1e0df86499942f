/* blobapi/blob_headers.c - how a version looks in headers, and what stands between finding it and
 * showing it. On the path of every small hit: no printf, no allocation beyond the request's arena.
 */
#include "base/clock.h"
#include "blobapi/handlers.h"

static void header_if(struct request *r, struct span name, struct span stored, struct span override)
{
    struct span value = override.base ? override : stored; /* rscc and the like, of a SAS */

    if (value.len)
        answer_add(r, name, value);
}

static void content_headers(struct request *r, const struct blob_record *b)
{
    const struct auth_overrides *o = &r->granted.overrides;

    header_if(r, SPAN("Content-Type"),
              b->content_type.len ? b->content_type : SPAN("application/octet-stream"),
              o->content_type);
    header_if(r, SPAN("Content-Encoding"), b->content_encoding, o->content_encoding);
    header_if(r, SPAN("Content-Language"), b->content_language, o->content_language);
    header_if(r, SPAN("Content-Disposition"), b->content_disposition, o->content_disposition);
    header_if(r, SPAN("Cache-Control"), b->cache_control, o->cache_control);
}

static struct span type_name(enum blob_type type)
{
    switch (type) {
    case BLOB_APPEND:
        return SPAN("AppendBlob");
    case BLOB_PAGE:
        return SPAN("PageBlob");
    default:
        return SPAN("BlockBlob");
    }
}

static struct span durability_name(enum durability durability)
{
    switch (durability) {
    case DURABILITY_CLOUD:
        return SPAN("cloud");
    case DURABILITY_MIRRORED:
        return SPAN("mirrored");
    default:
        return SPAN("local");
    }
}

void hearth_headers(struct request *r, const struct blob_record *b, bool missed)
{
    int64_t age_ns = clock_wall_ns() - b->checked_ns;

    answer_add(r, SPAN("x-hearth-cache"),
               r->stale ? SPAN("stale")
               : missed ? SPAN("miss")
                        : SPAN("hit"));
    answer_add(r, SPAN("x-hearth-durability"), durability_name(b->durability));
    if (b->cloud_etag.len && b->checked_ns && age_ns >= 0)
        answer_u64(r, SPAN("x-hearth-age"), (uint64_t)age_ns / NS_PER_SEC);
}

/* Put Block List notes how many blocks there are, Put Blob the CRC of its one body; what was
 * learned has neither. */
bool content_learned(const struct blob_record *b)
{
    return b->length && !b->committed_blocks && !b->has_crc64;
}

static void copy_headers(struct request *r, const struct blob_record *b)
{
    if (!b->copy_id.len)
        return;
    answer_add(r, SPAN("x-ms-copy-id"), b->copy_id);
    answer_add(r, SPAN("x-ms-copy-source"), b->copy_source);
    answer_add(r, SPAN("x-ms-copy-status"), SPAN("success"));
    answer_add_text(r, SPAN("x-ms-copy-progress"), "%llu/%llu", (unsigned long long)b->length,
                    (unsigned long long)b->length);
    answer_date(r, SPAN("x-ms-copy-completion-time"), b->copied_ns);
}

void blob_headers(struct request *r, const struct blob *blob)
{
    const struct blob_record *b = blob_record(blob);

    content_headers(r, b);
    answer_date(r, SPAN("Last-Modified"), b->modified_ns);
    answer_add(r, SPAN("Accept-Ranges"), SPAN("bytes"));
    answer_etag(r, b->etag);
    answer_date(r, SPAN("x-ms-creation-time"), b->created_ns ? b->created_ns : b->modified_ns);
    if (!b->snapshot) /* no lease is ever on one */
        lease_headers(r, &b->lease, b->cloud_lease);
    answer_add(r, SPAN("x-ms-blob-type"), type_name(b->type));
    if (b->type == BLOB_APPEND && !content_learned(b)) /* the cloud's number is not known here */
        answer_u64(r, SPAN("x-ms-blob-committed-block-count"), b->committed_blocks);
    if (b->sealed)
        answer_add(r, SPAN("x-ms-blob-sealed"), SPAN("true"));
    answer_add(r, SPAN("x-ms-server-encrypted"), SPAN("true"));
    tier_headers(r, b);
    copy_headers(r, b);
    if (b->tags.len || b->tags_unknown)
        answer_u64(r, SPAN("x-ms-tag-count"), tags_count(b->tags) + b->tags_unknown);
    answer_metadata(r, b->metadata, b->metadata_count);
}

void written_headers(struct request *r, const struct blob_record *b)
{
    answer_etag(r, b->etag);
    answer_date(r, SPAN("Last-Modified"), b->modified_ns);
    answer_add(r, SPAN("x-ms-request-server-encrypted"), SPAN("true"));
    answer_add(r, SPAN("x-hearth-durability"), durability_name(b->durability));
}

enum az_error read_verdict(struct request *r)
{
    enum az_error error;

    if (r->found)
        return az_from_errno(r->found);
    error = lease_verdict_blob(r);
    return error ? error : request_judge(r, r->blob);
}

void record_describe(struct blob_record *record, const struct content_inputs *content,
                     const struct pair *metadata, unsigned metadata_count)
{
    record->content_type = content->type.len ? content->type : SPAN("application/octet-stream");
    record->content_encoding = content->encoding;
    record->content_language = content->language;
    record->content_disposition = content->disposition;
    record->cache_control = content->cache_control;
    record->content_md5 = content->md5;
    record->metadata = metadata;
    record->metadata_count = metadata_count;
}

struct blob_record record_new(const struct request *r)
{
    /* an overwrite keeps the creation time and the lease; length, names and durability are the
     * cache's to say */
    return (struct blob_record){.type = BLOB_BLOCK,
                                .created_ns = r->blob ? blob_record(r->blob)->created_ns : 0,
                                .lease = lease_kept(r)};
}
