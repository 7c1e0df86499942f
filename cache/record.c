/* cache/record.c - rows of blobs and versions <-> structs (record.h); the other families are in
 * record_rows.c. */
#include "cache/fields.h"

#include "base/bytes.h"

#define LOCATED_BYTES (16 + 2 + 4 + 4 + 4 + 4 + 8 + 1)

static void field_located(struct row_bytes *row, const struct blob_row *blob)
{
    _cleanup_(row_bytes_done) struct row_bytes body = {0};
    char at[26];

    add_object_id(&body, &blob->object);
    le16_put(at, blob->extent.at.device);
    le32_put(at + 2, blob->extent.at.slab);
    le32_put(at + 6, blob->extent.at.generation);
    le32_put(at + 10, blob->extent.at.offset);
    le32_put(at + 14, blob->extent.length);
    le64_put(at + 18, blob->extent.crc[0]);
    row_add(&body, at, sizeof(at));
    add_u8(&body, (uint8_t)blob->object_state);
    field(row, TAG_LOCATED, row_span(&body));
}

static int as_located(struct span value, struct blob_row *ret)
{
    struct span at;

    if (value.len != LOCATED_BYTES || take_object_id(&value, &ret->object) < 0 ||
        take(&value, 27, &at) < 0)
        return -EBADMSG;
    ret->extent = (struct extent){
        .at = {le16_get(at.base), le32_get(at.base + 2), le32_get(at.base + 6),
               le32_get(at.base + 10)},
        .length = le32_get(at.base + 14),
        .crc = {le64_get(at.base + 18)},
        .present = 1,
    };
    ret->object_state = (uint8_t)at.base[26];
    ret->located = true;
    return ret->extent.length > SMALL_BYTES_MAX || ret->object_state > OBJECT_SOLE ? -EBADMSG : 0;
}

/* ---- blobs ---- */

void key_blob(struct row_bytes *ret, uint64_t container, struct span blob)
{
    ret->used = 0;
    row_add_u64(ret, container);
    row_add(ret, blob.base, blob.len);
}

int key_blob_decode(struct span key, uint64_t *container, struct span *blob)
{
    if (take_u64(&key, container) < 0)
        return -EBADMSG;
    *blob = key;
    return 0;
}

void key_version(struct row_bytes *ret, uint64_t container, struct span blob, uint64_t number)
{
    key_blob(ret, container, blob);
    add_u8(ret, 0);
    row_add_u64(ret, number);
}

int key_version_decode(struct span key, uint64_t *container, struct span *blob, uint64_t *number)
{
    if (take_u64(&key, container) < 0 || key.len < VERSION_TAIL_BYTES ||
        key.base[key.len - VERSION_TAIL_BYTES])
        return -EBADMSG;
    *blob = span_from(key.base, key.len - VERSION_TAIL_BYTES);
    *number = be64_get(key.base + blob->len + 1);
    return 0;
}

static void encode_headers(struct row_bytes *row, const struct blob_record *r)
{
    field_span(row, TAG_CONTENT_TYPE, r->content_type);
    field_span(row, TAG_CONTENT_ENCODING, r->content_encoding);
    field_span(row, TAG_CONTENT_LANGUAGE, r->content_language);
    field_span(row, TAG_CONTENT_DISPOSITION, r->content_disposition);
    field_span(row, TAG_CACHE_CONTROL, r->cache_control);
    field_span(row, TAG_MD5, r->content_md5);
    if (r->has_crc64)
        field_fixed(row, TAG_CRC64, r->content_crc64);
    field_metadata(row, r->metadata, r->metadata_count);
}

void blob_row_encode(struct row_bytes *ret, const struct blob_row *row)
{
    const struct blob_record *r = &row->record;

    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    field_u64(ret, TAG_STATE, row->state);
    field_u64(ret, TAG_TYPE, r->type);
    field_u64(ret, TAG_LENGTH, r->length);
    field_time(ret, TAG_ETAG, (int64_t)r->etag);
    field_time(ret, TAG_CREATED, r->created_ns);
    field_time(ret, TAG_MODIFIED, r->modified_ns);
    encode_headers(ret, r);
    field_u64(ret, TAG_BLOCKS, r->committed_blocks);
    field_u64(ret, TAG_CONTRACT, r->contract);
    field_u64(ret, TAG_DURABILITY, r->durability);
    field_u64(ret, TAG_SOLE, r->sole);
    field_span(ret, TAG_CLOUD_ETAG, r->cloud_etag);
    field_time(ret, TAG_CLOUD_MODIFIED, r->cloud_modified_ns);
    field_time(ret, TAG_CHECKED, r->checked_ns);
    field_time(ret, TAG_MANIFEST, (int64_t)row->manifest);
    if (row->located)
        field_located(ret, row);
    field_u64(ret, TAG_CONFIRMED, row->confirmed);
    field_span(ret, TAG_BODY_ETAG, row->body_etag);
    field_time(ret, TAG_LINEAGE, (int64_t)row->lineage);
    field_span(ret, TAG_COPY_ID, r->copy_id);
    field_span(ret, TAG_COPY_SOURCE, r->copy_source);
    field_time(ret, TAG_COPIED, r->copied_ns);
    field_span(ret, TAG_BLOB_TAGS, r->tags);
    field_u64(ret, TAG_TAGS_UNKNOWN, r->tags_unknown);
    field_u64(ret, TAG_ACCESS_TIER, r->access_tier);
    field_u64(ret, TAG_ACCESS_TIER_INFERRED, r->access_tier_inferred);
    field_time(ret, TAG_ACCESS_TIER_CHANGED, r->access_tier_changed_ns);
    field_u64(ret, TAG_REHYDRATING, r->rehydrating);
    field_lease(ret, TAG_LEASE, &r->lease);
    field_time(ret, TAG_SNAPSHOT, (int64_t)r->snapshot);
    field_u64(ret, TAG_SNAPSHOTS, r->snapshots.count);
    field_time(ret, TAG_SNAPSHOTS_SINCE, (int64_t)r->snapshots.since);
    field_u64(ret, TAG_SNAPSHOTS_SHARE, r->snapshots.share);
    field_u64(ret, TAG_SEALED, r->sealed);
    field_u64(ret, TAG_CLOUD_LEASE, r->cloud_lease);
    row_add(ret, row->unknown.base, row->unknown.len);
}

static int decode_later_field(const struct fields *f, struct blob_record *r)
{
    switch ((enum tag)f->tag) {
    case TAG_BLOB_TAGS:
        return as_span(f->value, &r->tags);
    case TAG_TAGS_UNKNOWN:
        return as_u32(f->value, &r->tags_unknown);
    case TAG_ACCESS_TIER:
        return as_u32(f->value, (uint32_t *)&r->access_tier);
    case TAG_ACCESS_TIER_INFERRED:
        return as_bool(f->value, &r->access_tier_inferred);
    case TAG_ACCESS_TIER_CHANGED:
        return as_time(f->value, &r->access_tier_changed_ns);
    case TAG_REHYDRATING:
        return as_u32(f->value, (uint32_t *)&r->rehydrating);
    case TAG_SNAPSHOT:
        return as_fixed(f->value, &r->snapshot);
    case TAG_SNAPSHOTS:
        return as_u32(f->value, &r->snapshots.count);
    case TAG_SNAPSHOTS_SINCE:
        return as_fixed(f->value, &r->snapshots.since);
    case TAG_SNAPSHOTS_SHARE:
        return as_bool(f->value, &r->snapshots.share);
    case TAG_SEALED:
        return as_bool(f->value, &r->sealed);
    case TAG_CLOUD_LEASE:
        return as_u32(f->value, (uint32_t *)&r->cloud_lease);
    default:
        return f->tag < TAG_LEASE ? -ENOENT : as_lease(f->tag - TAG_LEASE, f->value, &r->lease);
    }
}

/* One switch: the order of its cases is that of the tags. */
static int decode_blob_field(const struct fields *f, struct blob_row *row, struct row_space *space)
{
    struct blob_record *r = &row->record;

    switch ((enum tag)f->tag) {
    case TAG_TYPE:
        return as_u32(f->value, (uint32_t *)&r->type);
    case TAG_LENGTH:
        return as_u64(f->value, &r->length);
    case TAG_ETAG:
        return as_fixed(f->value, &r->etag);
    case TAG_CREATED:
        return as_time(f->value, &r->created_ns);
    case TAG_MODIFIED:
        return as_time(f->value, &r->modified_ns);
    case TAG_CONTENT_TYPE:
        return as_span(f->value, &r->content_type);
    case TAG_CONTENT_ENCODING:
        return as_span(f->value, &r->content_encoding);
    case TAG_CONTENT_LANGUAGE:
        return as_span(f->value, &r->content_language);
    case TAG_CONTENT_DISPOSITION:
        return as_span(f->value, &r->content_disposition);
    case TAG_CACHE_CONTROL:
        return as_span(f->value, &r->cache_control);
    case TAG_MD5:
        return as_span(f->value, &r->content_md5);
    case TAG_CRC64:
        r->has_crc64 = true;
        return as_fixed(f->value, &r->content_crc64);
    case TAG_METADATA:
        return as_metadata(f->value, space, &r->metadata, &r->metadata_count);
    case TAG_BLOCKS:
        return as_u32(f->value, &r->committed_blocks);
    case TAG_CONTRACT:
        return as_u32(f->value, &r->contract);
    case TAG_DURABILITY:
        return as_u32(f->value, (uint32_t *)&r->durability);
    case TAG_SOLE:
        return as_bool(f->value, &r->sole);
    case TAG_CLOUD_ETAG:
        return as_span(f->value, &r->cloud_etag);
    case TAG_CLOUD_MODIFIED:
        return as_time(f->value, &r->cloud_modified_ns);
    case TAG_CHECKED:
        return as_time(f->value, &r->checked_ns);
    case TAG_STATE:
        return as_u32(f->value, (uint32_t *)&row->state);
    case TAG_MANIFEST:
        return as_fixed(f->value, &row->manifest);
    case TAG_LOCATED:
        return as_located(f->value, row);
    case TAG_CONFIRMED:
        return as_bool(f->value, &row->confirmed);
    case TAG_BODY_ETAG:
        return as_span(f->value, &row->body_etag);
    case TAG_LINEAGE:
        return as_fixed(f->value, &row->lineage);
    case TAG_COPY_ID:
        return as_span(f->value, &r->copy_id);
    case TAG_COPY_SOURCE:
        return as_span(f->value, &r->copy_source);
    case TAG_COPIED:
        return as_time(f->value, &r->copied_ns);
    default:
        return decode_later_field(f, r);
    }
}

int blob_row_decode(struct span value, struct blob_row *ret, struct row_space *space)
{
    /* All but the body's extent: half a KiB that few rows have would be most of what a row costs.
     */
    memset(ret, 0, offsetof(struct blob_row, extent));
    ret->object_state = OBJECT_CLEAN;
    ret->confirmed = false;
    ret->lineage = 0;
    ret->body_etag = (struct span){NULL, 0};
    ret->unknown = (struct span){NULL, 0};
    DECODE_FIELDS(value, ret, decode_blob_field(&f, ret, space));
    return ret->state < BLOB_LIVE || ret->state > BLOB_CLOUD ? -EBADMSG : 0;
}

struct record_body blob_row_body(const struct blob_row *row, uint64_t container, struct span name)
{
    struct span etag = row->record.cloud_etag;

    assert(row->located);
    return (struct record_body){
        .id = row->object,
        .crc64 = row->record.content_crc64,
        .extent = row->extent,
        .state = row->object_state,
        .origin = {.container = container, .blob = name, .etag = etag.len ? etag : row->body_etag},
    };
}
