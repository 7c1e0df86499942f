/* cache/fields.h - values as a format byte and tagged fields; what record.c and rows.c of record.h
 * share. Private to these. Pure. */
#ifndef CACHE_FIELDS_H
#define CACHE_FIELDS_H

#include "base/bytes.h"
#include "cache/record.h"

/* Tags of fields: stored, so never renumbered. One space per row kind; those of records are shared.
 */
enum tag {
    TAG_TYPE = 1,
    TAG_LENGTH,
    TAG_ETAG,
    TAG_CREATED,
    TAG_MODIFIED,
    TAG_CONTENT_TYPE,
    TAG_CONTENT_ENCODING,
    TAG_CONTENT_LANGUAGE,
    TAG_CONTENT_DISPOSITION,
    TAG_CACHE_CONTROL,
    TAG_MD5,
    TAG_CRC64,
    TAG_METADATA,
    TAG_BLOCKS,
    TAG_CONTRACT,
    TAG_DURABILITY,
    TAG_SOLE,
    TAG_CLOUD_ETAG,
    TAG_CLOUD_MODIFIED,
    TAG_CHECKED,
    TAG_STATE,
    TAG_MANIFEST,
    TAG_LOCATED,
    TAG_CONFIRMED,
    TAG_ID,
    TAG_PUBLIC_ACCESS,
    TAG_IN_CLOUD,
    TAG_OBJECT,
    TAG_STAGED,
    TAG_KIND,
    TAG_ACCOUNT,
    TAG_CONTAINER,
    TAG_CONTAINER_NAME,
    TAG_BLOB,
    TAG_BATCH,
    TAG_BASE,
    TAG_BASE_ETAG,
    TAG_QUEUED,
    TAG_HELD,
    TAG_TO,
    TAG_AS_OF,
    TAG_USER,
    TAG_NAME,
    TAG_ENDPOINT,
    TAG_BODY_ETAG,
    TAG_LINEAGE = 90,
    TAG_COPY_ID,
    TAG_COPY_SOURCE,
    TAG_COPIED,
    TAG_REMOVES,
    TAG_BLOB_TAGS = 100,
    TAG_TAGS_UNKNOWN,
    TAG_ACCESS_TIER = 105,
    TAG_ACCESS_TIER_INFERRED,
    TAG_ACCESS_TIER_CHANGED,
    TAG_REHYDRATING,
    TAG_LEASE = 110, /* four in a row: field_lease */
    TAG_SNAPSHOT = 120,
    TAG_SNAPSHOTS,
    TAG_SNAPSHOTS_SINCE,
    TAG_SNAPSHOTS_SHARE,
    TAG_SEALED = 140,
    TAG_POLICIES = 160,
    TAG_CONTAINER_LEASE = 165,
    TAG_SERVICE_VERSION = 170,
    TAG_SERVICE_ANALYTICS,
    TAG_SERVICE_CORS,
    TAG_SERVICE_DELETE_RETENTION,
    TAG_SERVICE_WEBSITE,
    TAG_CLOUD_LEASE = 175,
    TAG_DOUBT_ACCOUNT,
    TAG_DOUBT_SINCE,
};
#define LEASE_TAGS 4

/* ---- writing ---- */
void add_u8(struct row_bytes *bytes, uint8_t v);
void add_varint(struct row_bytes *bytes, uint64_t v);
void add_object_id(struct row_bytes *row, const struct object_id *id);
void field(struct row_bytes *row, enum tag tag, struct span value);
void field_span(struct row_bytes *row, enum tag tag, struct span value); /* empty: absent */
void field_u64(struct row_bytes *row, enum tag tag, uint64_t v);         /* 0: absent */
void field_time(struct row_bytes *row, enum tag tag, int64_t ns);        /* 0: absent */
void field_fixed(struct row_bytes *row, enum tag tag, uint64_t v);       /* present even when 0 */
void add_counted(struct row_bytes *row, struct span value);
void field_metadata(struct row_bytes *row, const struct pair *pairs, unsigned count);
/* Kind, id, period, serial under first and the three tags behind it; none: absent. */
void field_lease(struct row_bytes *row, enum tag first, const struct lease *lease);

/* ---- reading: each takes from the front of rest or reads a whole value; 0 or -EBADMSG. Inline: a
 * page of a list decodes 5 000 rows of a dozen fields ---- */
static inline must_check int take(struct span *rest, size_t len, struct span *ret)
{
    if (rest->len < len)
        return -EBADMSG;
    *ret = span_from(rest->base, len);
    *rest = span_skip(*rest, len);
    return 0;
}

int take_long_varint(struct span *rest, uint64_t *ret) must_check;
static inline must_check int take_varint(struct span *rest, uint64_t *ret)
{
    if (!rest->len || (rest->base[0] & 0x80))
        return take_long_varint(rest, ret);
    *ret = (uint8_t)rest->base[0];
    *rest = span_skip(*rest, 1);
    return 0;
}

static inline must_check int take_counted(struct span *rest,
                                          struct span *ret) /* varint length, bytes */
{
    uint64_t len;

    if (take_varint(rest, &len) < 0 || len > rest->len)
        return -EBADMSG;
    return take(rest, len, ret);
}

int take_u64(struct span *rest, uint64_t *ret) must_check; /* big-endian */
int take_object_id(struct span *rest, struct object_id *ret) must_check;

static inline must_check int as_u64(struct span value, uint64_t *ret)
{
    return take_varint(&value, ret) < 0 || value.len ? -EBADMSG : 0;
}

static inline must_check int as_u32(struct span value, uint32_t *ret)
{
    uint64_t v;

    if (as_u64(value, &v) < 0 || v > UINT32_MAX)
        return -EBADMSG;
    *ret = (uint32_t)v;
    return 0;
}

static inline must_check int as_fixed(struct span value, uint64_t *ret)
{
    if (value.len != 8)
        return -EBADMSG;
    *ret = le64_get(value.base);
    return 0;
}

static inline must_check int as_time(struct span value, int64_t *ret)
{
    uint64_t v;

    if (as_fixed(value, &v) < 0)
        return -EBADMSG;
    *ret = (int64_t)v;
    return 0;
}

static inline must_check int as_span(struct span value, struct span *ret)
{
    *ret = value;
    return 0;
}

static inline must_check int as_bool(struct span value, bool *ret)
{
    *ret = true;
    return value.len == 1 ? 0 : -EBADMSG;
}

int as_lease(unsigned which, struct span value, struct lease *ret) must_check; /* tag - first */
int as_metadata(struct span value, struct row_space *space, const struct pair **ret,
                unsigned *ret_count) must_check;

/* A value being decoded. Newer versions add fields at the end, so what is unknown is everything
 * from the first unknown tag on (R1). */
struct fields {
    struct span rest, value;
    const char *tag_at;
    uint8_t tag;
};
int fields_begin(struct fields *f, struct span value) must_check;
struct span fields_unknown(const struct fields *f);
static inline must_check int fields_next(struct fields *f) /* 1, 0 at the end, -EBADMSG */
{
    if (!f->rest.len)
        return 0;
    f->tag_at = f->rest.base;
    f->tag = (uint8_t)f->rest.base[0];
    f->rest = span_skip(f->rest, 1);
    return take_counted(&f->rest, &f->value) < 0 ? -EBADMSG : 1;
}

/* Runs a decoder over every field; -ENOENT from it starts the unknown ones. */
#define DECODE_FIELDS(value, row, one)                                                             \
    struct fields f;                                                                               \
    int err = fields_begin(&f, value);                                                             \
                                                                                                   \
    while (!err && (err = fields_next(&f)) > 0)                                                    \
        if ((err = (one)) == -ENOENT) {                                                            \
            (row)->unknown = fields_unknown(&f);                                                   \
            err = 0;                                                                               \
            break;                                                                                 \
        }                                                                                          \
    if (err)                                                                                       \
    return -EBADMSG

#endif
