/* cache/record_rows.c - rows of the families beside blobs <-> structs (record.h). */
#include "cache/fields.h"

#include "base/bytes.h"

/* ---- fresh ---- */

void fresh_row_encode(struct row_bytes *ret, const struct fresh_row *row)
{
    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    row_add_u64(ret, (uint64_t)row->checked_ns);
    row_add_u64(ret, row->etag);
}

int fresh_row_decode(struct span value, struct fresh_row *ret)
{
    if (value.len < 17 || value.base[0] != ROW_FORMAT)
        return -EBADMSG;
    *ret = (struct fresh_row){(int64_t)be64_get(value.base + 1), be64_get(value.base + 9)};
    return 0;
}

/* ---- manifests ---- */

void key_manifest(struct row_bytes *ret, uint64_t manifest, uint64_t start)
{
    ret->used = 0;
    row_add_u64(ret, manifest);
    row_add_u64(ret, start);
}

void manifest_row_begin(struct row_bytes *ret)
{
    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
}

void manifest_row_add(struct row_bytes *ret, const struct manifest_piece *piece)
{
    add_object_id(ret, &piece->object);
    add_varint(ret, piece->offset);
    add_varint(ret, piece->length);
    add_varint(ret, piece->block.len);
    row_add(ret, piece->block.base, piece->block.len);
    add_varint(ret, piece->cloud.len);
    row_add(ret, piece->cloud.base, piece->cloud.len);
}

int manifest_row_next(struct span value, size_t *cursor, struct manifest_piece *ret)
{
    struct manifest_piece piece;
    struct span rest;

    if (*cursor == 0) {
        if (!value.len || value.base[0] != ROW_FORMAT)
            return -EBADMSG;
        *cursor = 1;
    }
    if (*cursor >= value.len)
        return 0;
    rest = span_skip(value, *cursor);
    if (take_object_id(&rest, &piece.object) < 0 || take_varint(&rest, &piece.offset) < 0 ||
        take_varint(&rest, &piece.length) < 0 || take_counted(&rest, &piece.block) < 0 ||
        take_counted(&rest, &piece.cloud) < 0)
        return -EBADMSG;
    *cursor = value.len - rest.len;
    *ret = piece;
    return 1;
}

/* ---- blocks ---- */

void key_stage(struct row_bytes *ret, uint64_t container, struct span blob, uint64_t generation)
{
    key_version(ret, container, blob, generation);
}

void key_staged(struct row_bytes *ret, uint64_t container, struct span blob, uint64_t generation,
                uint64_t tick, struct span id)
{
    key_stage(ret, container, blob, generation);
    row_add_u64(ret, tick);
    row_add(ret, id.base, id.len);
}

int key_staged_decode(struct span key, uint64_t *container, struct span *blob, uint64_t *generation,
                      struct span *id)
{
    struct span rest, name;
    const char *nul;
    uint64_t tick;

    if (take_u64(&key, container) < 0 || !(nul = key.len ? memchr(key.base, 0, key.len) : NULL))
        return -EBADMSG;
    name = span_from(key.base, (size_t)(nul - key.base));
    rest = span_skip(key, name.len + 1);
    if (take_u64(&rest, generation) < 0 || take_u64(&rest, &tick) < 0)
        return -EBADMSG;
    *blob = name;
    *id = rest;
    return 0;
}

void staged_row_encode(struct row_bytes *ret, const struct staged_row *row)
{
    _cleanup_(row_bytes_done) struct row_bytes id = {0};

    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    add_object_id(&id, &row->object);
    field(ret, TAG_OBJECT, row_span(&id));
    field_u64(ret, TAG_LENGTH, row->length);
    field_u64(ret, TAG_USER, row->user);
    field_time(ret, TAG_STAGED, row->staged_ns);
    row_add(ret, row->unknown.base, row->unknown.len);
}

static int decode_staged_field(const struct fields *f, struct staged_row *row)
{
    struct span value = f->value;

    switch (f->tag) {
    case TAG_OBJECT:
        return take_object_id(&value, &row->object);
    case TAG_LENGTH:
        return as_u64(value, &row->length);
    case TAG_USER:
        return as_u64(value, &row->user);
    case TAG_STAGED:
        return as_time(value, &row->staged_ns);
    default:
        return -ENOENT;
    }
}

int staged_row_decode(struct span value, struct staged_row *ret)
{
    struct staged_row row = {0};

    DECODE_FIELDS(value, &row, decode_staged_field(&f, &row));
    *ret = row;
    return 0;
}

/* ---- containers ---- */

void key_container(struct row_bytes *ret, uint32_t account, struct span name)
{
    ret->used = 0;
    row_add_u32(ret, account);
    row_add(ret, name.base, name.len);
}

int key_container_decode(struct span key, uint32_t *account, struct span *name)
{
    if (key.len < 4)
        return -EBADMSG;
    *account = be32_get(key.base);
    *name = span_skip(key, 4);
    return 0;
}

static void field_policies(struct row_bytes *row, const struct container_record *r)
{
    _cleanup_(row_bytes_done) struct row_bytes body = {0};

    for (unsigned i = 0; i < r->policy_count; i++) {
        add_counted(&body, r->policies[i].id);
        add_counted(&body, r->policies[i].start);
        add_counted(&body, r->policies[i].expiry);
        add_counted(&body, r->policies[i].permission);
    }
    field_span(row, TAG_POLICIES, row_span(&body));
}

static int as_policies(struct span value, struct row_space *space, struct container_record *r)
{
    unsigned n = 0;

    for (; value.len; n++) {
        struct access_policy *policy = &space->policies[n];

        if (n == ACCESS_POLICIES_MAX || take_counted(&value, &policy->id) < 0 ||
            take_counted(&value, &policy->start) < 0 || take_counted(&value, &policy->expiry) < 0 ||
            take_counted(&value, &policy->permission) < 0)
            return -EBADMSG;
    }
    r->policies = space->policies;
    r->policy_count = n;
    return 0;
}

void container_row_encode(struct row_bytes *ret, const struct container_row *row)
{
    const struct container_record *r = &row->record;

    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    field_u64(ret, TAG_STATE, row->tombstone ? BLOB_TOMBSTONE : BLOB_LIVE);
    field_u64(ret, TAG_ID, r->id);
    field_time(ret, TAG_ETAG, (int64_t)r->etag);
    field_time(ret, TAG_MODIFIED, r->modified_ns);
    field_metadata(ret, r->metadata, r->metadata_count);
    field_span(ret, TAG_PUBLIC_ACCESS, r->public_access);
    field_u64(ret, TAG_IN_CLOUD, r->in_cloud);
    field_time(ret, TAG_CHECKED, r->checked_ns);
    field_policies(ret, r);
    field_lease(ret, TAG_CONTAINER_LEASE, &r->lease);
    field_u64(ret, TAG_CLOUD_LEASE, r->cloud_lease);
    row_add(ret, row->unknown.base, row->unknown.len);
}

static int decode_container_field(const struct fields *f, struct container_row *row,
                                  struct row_space *space)
{
    struct container_record *r = &row->record;
    uint32_t state = 0;

    switch (f->tag) {
    case TAG_STATE:
        if (as_u32(f->value, &state) < 0)
            return -EBADMSG;
        row->tombstone = state == BLOB_TOMBSTONE;
        return 0;
    case TAG_ID:
        return as_u64(f->value, &r->id);
    case TAG_ETAG:
        return as_fixed(f->value, &r->etag);
    case TAG_MODIFIED:
        return as_time(f->value, &r->modified_ns);
    case TAG_METADATA:
        return as_metadata(f->value, space, &r->metadata, &r->metadata_count);
    case TAG_PUBLIC_ACCESS:
        return as_span(f->value, &r->public_access);
    case TAG_IN_CLOUD:
        return as_bool(f->value, &r->in_cloud);
    case TAG_CHECKED:
        return as_time(f->value, &r->checked_ns);
    case TAG_POLICIES:
        return as_policies(f->value, space, r);
    case TAG_CLOUD_LEASE:
        return as_u32(f->value, (uint32_t *)&r->cloud_lease);
    default:
        return f->tag < TAG_CONTAINER_LEASE
                   ? -ENOENT
                   : as_lease(f->tag - TAG_CONTAINER_LEASE, f->value, &r->lease);
    }
}

int container_row_decode(struct span value, struct container_row *ret, struct row_space *space)
{
    struct container_row row = {0};

    DECODE_FIELDS(value, &row, decode_container_field(&f, &row, space));
    *ret = row;
    return 0;
}

/* ---- uploads ---- */

void key_upload(struct row_bytes *ret, uint64_t seq)
{
    ret->used = 0;
    row_add_u64(ret, seq);
}

int key_upload_decode(struct span key, uint64_t *seq)
{
    return take_u64(&key, seq) < 0 || key.len ? -EBADMSG : 0;
}

void upload_row_encode(struct row_bytes *ret, const struct upload_row *row)
{
    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    field_u64(ret, TAG_KIND, row->kind);
    field_u64(ret, TAG_ACCOUNT, row->account);
    field_u64(ret, TAG_CONTRACT, row->contract);
    field_u64(ret, TAG_CONTAINER, row->container);
    field_span(ret, TAG_CONTAINER_NAME, row->container_name);
    field_span(ret, TAG_BLOB, row->blob);
    field_time(ret, TAG_ETAG, (int64_t)row->etag);
    field_u64(ret, TAG_MANIFEST, row->content);
    field_u64(ret, TAG_BATCH, row->batch);
    field_u64(ret, TAG_BASE, row->base);
    field_span(ret, TAG_BASE_ETAG, row->base_etag);
    field_time(ret, TAG_QUEUED, row->queued_ns);
    field_span(ret, TAG_HELD, row->held);
    field_time(ret, TAG_LINEAGE, (int64_t)row->lineage);
    field_time(ret, TAG_REMOVES, (int64_t)row->removes);
    row_add(ret, row->unknown.base, row->unknown.len);
}

static int decode_upload_field(const struct fields *f, struct upload_row *row)
{
    switch (f->tag) {
    case TAG_KIND:
        return as_u32(f->value, (uint32_t *)&row->kind);
    case TAG_ACCOUNT:
        return as_u32(f->value, &row->account);
    case TAG_CONTRACT:
        return as_u32(f->value, &row->contract);
    case TAG_CONTAINER:
        return as_u64(f->value, &row->container);
    case TAG_CONTAINER_NAME:
        return as_span(f->value, &row->container_name);
    case TAG_BLOB:
        return as_span(f->value, &row->blob);
    case TAG_ETAG:
        return as_fixed(f->value, &row->etag);
    case TAG_MANIFEST:
        return as_u64(f->value, &row->content);
    case TAG_BATCH:
        return as_u64(f->value, &row->batch);
    case TAG_BASE:
        return as_u32(f->value, (uint32_t *)&row->base);
    case TAG_BASE_ETAG:
        return as_span(f->value, &row->base_etag);
    case TAG_QUEUED:
        return as_time(f->value, &row->queued_ns);
    case TAG_HELD:
        return as_span(f->value, &row->held);
    case TAG_LINEAGE:
        return as_fixed(f->value, &row->lineage);
    case TAG_REMOVES:
        return as_fixed(f->value, &row->removes);
    default:
        return -ENOENT;
    }
}

int upload_row_decode(struct span value, struct upload_row *ret)
{
    struct upload_row row = {0};

    DECODE_FIELDS(value, &row, decode_upload_field(&f, &row));
    if (row.kind == 0 || row.base > ROW_BASE_FORMER)
        return -EBADMSG;
    *ret = row;
    return 0;
}

void upload_name_encode(struct row_bytes *ret, uint64_t seq)
{
    meta_u64_encode(ret, seq);
}

int upload_name_decode(struct span value, uint64_t *seq)
{
    return meta_u64_decode(value, seq);
}

/* ---- known ---- */

void key_known(struct row_bytes *ret, enum known_kind kind, uint64_t container, struct span prefix,
               struct span delimiter, struct span from)
{
    char at[2];

    ret->used = 0;
    add_u8(ret, (uint8_t)kind);
    row_add_u64(ret, container);
    be16_put(at, (uint16_t)prefix.len);
    row_add(ret, at, 2);
    row_add(ret, prefix.base, prefix.len);
    be16_put(at, (uint16_t)delimiter.len);
    row_add(ret, at, 2);
    row_add(ret, delimiter.base, delimiter.len);
    row_add(ret, from.base, from.len);
}

static int take_counted16(struct span *rest, struct span *ret)
{
    struct span at;

    if (take(rest, 2, &at) < 0)
        return -EBADMSG;
    return take(rest, be16_get(at.base), ret);
}

int key_known_decode(struct span key, enum known_kind *kind, uint64_t *container,
                     struct span *prefix, struct span *delimiter, struct span *from)
{
    struct span at;

    if (take(&key, 1, &at) < 0 || take_u64(&key, container) < 0 ||
        take_counted16(&key, prefix) < 0 || take_counted16(&key, delimiter) < 0)
        return -EBADMSG;
    *kind = (uint8_t)at.base[0];
    *from = key;
    return 0;
}

void known_row_encode(struct row_bytes *ret, const struct known_row *row)
{
    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    field_time(ret, TAG_AS_OF, row->as_of_ns);
    if (!row->to_end)
        field(ret, TAG_TO, row->to);
    row_add(ret, row->unknown.base, row->unknown.len);
}

static int decode_known_field(const struct fields *f, struct known_row *row)
{
    switch (f->tag) {
    case TAG_AS_OF:
        return as_time(f->value, &row->as_of_ns);
    case TAG_TO:
        row->to_end = false;
        return as_span(f->value, &row->to);
    default:
        return -ENOENT;
    }
}

int known_row_decode(struct span value, struct known_row *ret)
{
    struct known_row row = {.to_end = true};

    DECODE_FIELDS(value, &row, decode_known_field(&f, &row));
    *ret = row;
    return 0;
}

/* ---- meta ---- */

void meta_u64_encode(struct row_bytes *ret, uint64_t v)
{
    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    row_add_u64(ret, v);
}

int meta_u64_decode(struct span value, uint64_t *ret)
{
    if (value.len < 9 || value.base[0] != ROW_FORMAT)
        return -EBADMSG;
    *ret = be64_get(value.base + 1);
    return 0;
}

void key_account(struct row_bytes *ret, uint32_t account)
{
    ret->used = 0;
    add_u8(ret, META_ACCOUNT);
    row_add_u32(ret, account);
}

int key_account_decode(struct span key, uint32_t *account)
{
    if (key.len != 5 || key.base[0] != META_ACCOUNT)
        return -EBADMSG;
    *account = be32_get(key.base + 1);
    return 0;
}

void account_row_encode(struct row_bytes *ret, const struct account_row *row)
{
    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    field_span(ret, TAG_NAME, row->name);
    field_span(ret, TAG_ENDPOINT, row->endpoint);
}

static int decode_account_field(const struct fields *f, struct account_row *row)
{
    switch (f->tag) {
    case TAG_NAME:
        return as_span(f->value, &row->name);
    case TAG_ENDPOINT:
        return as_span(f->value, &row->endpoint);
    default:
        return -ENOENT;
    }
}

int account_row_decode(struct span value, struct account_row *ret)
{
    struct {
        struct account_row row;
        struct span unknown; /* a later version's: the row is written anew from the configuration */
    } at = {0};
    DECODE_FIELDS(value, &at, decode_account_field(&f, &at.row));

    *ret = at.row;
    return 0;
}

/* ---- doubt ---- */

void key_doubt(struct row_bytes *ret, uint64_t container, struct span name)
{
    ret->used = 0;
    add_u8(ret, META_DOUBT);
    row_add_u64(ret, container);
    row_add(ret, name.base, name.len);
}

int key_doubt_decode(struct span key, uint64_t *container, struct span *name)
{
    if (key.len < 10 || key.base[0] != META_DOUBT)
        return -EBADMSG;
    key = span_skip(key, 1);
    if (take_u64(&key, container) < 0)
        return -EBADMSG;
    *name = key;
    return 0;
}

void doubt_row_encode(struct row_bytes *ret, const struct doubt_row *row)
{
    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    field_u64(ret, TAG_DOUBT_ACCOUNT, row->account);
    field_time(ret, TAG_DOUBT_SINCE, row->since_ns);
}

static int decode_doubt_field(const struct fields *f, struct doubt_row *row)
{
    switch (f->tag) {
    case TAG_DOUBT_ACCOUNT:
        return as_u32(f->value, &row->account);
    case TAG_DOUBT_SINCE:
        return as_time(f->value, &row->since_ns);
    default:
        return -ENOENT;
    }
}

int doubt_row_decode(struct span value, struct doubt_row *ret)
{
    struct {
        struct doubt_row row;
        struct span unknown; /* the row is never written again, only anew */
    } at = {0};
    DECODE_FIELDS(value, &at, decode_doubt_field(&f, &at.row));

    *ret = at.row;
    return 0;
}
