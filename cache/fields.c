/* cache/fields.c - byte strings, varints and tagged fields: what rows are made of. */
#include "cache/fields.h"

#include "base/bytes.h"

/* ---- byte strings ---- */

void row_bytes_done(struct row_bytes *bytes)
{
    free(bytes->base);
    *bytes = (struct row_bytes){0};
}

void row_space_done(struct row_space *space)
{
    free(space->pairs);
    *space = (struct row_space){0};
}

void row_add(struct row_bytes *bytes, const void *base, size_t len)
{
    if (!len)
        return;
    if (bytes->used + len > bytes->room) {
        bytes->room = MAX(bytes->room * 2, bytes->used + len + 128);
        bytes->base = xrealloc(bytes->base, bytes->room);
    }
    memcpy(bytes->base + bytes->used, base, len);
    bytes->used += len;
}

void add_u8(struct row_bytes *bytes, uint8_t v)
{
    row_add(bytes, &v, 1);
}

void row_add_u32(struct row_bytes *bytes, uint32_t v)
{
    char at[4];

    be32_put(at, v);
    row_add(bytes, at, sizeof(at));
}

void row_add_u64(struct row_bytes *bytes, uint64_t v)
{
    char at[8];

    be64_put(at, v);
    row_add(bytes, at, sizeof(at));
}

static size_t varint_put(char at[10], uint64_t v)
{
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        at[n++] = (char)(v | 0x80);
    at[n++] = (char)v;
    return n;
}

void add_varint(struct row_bytes *bytes, uint64_t v)
{
    char at[10];

    row_add(bytes, at, varint_put(at, v));
}

void add_counted(struct row_bytes *row, struct span value)
{
    add_varint(row, value.len);
    row_add(row, value.base, value.len);
}

int take_long_varint(struct span *rest, uint64_t *ret)
{
    uint64_t v = 0;

    for (unsigned i = 0; i < 10 && i < rest->len; i++) {
        uint8_t byte = (uint8_t)rest->base[i];

        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (!(byte & 0x80)) {
            *rest = span_skip(*rest, i + 1);
            *ret = v;
            return 0;
        }
    }
    return -EBADMSG;
}

int take_u64(struct span *rest, uint64_t *ret)
{
    struct span at;

    if (take(rest, 8, &at) < 0)
        return -EBADMSG;
    *ret = be64_get(at.base);
    return 0;
}

/* ---- fields ---- */

void field(struct row_bytes *row, enum tag tag, struct span value)
{
    add_u8(row, (uint8_t)tag);
    add_varint(row, value.len);
    row_add(row, value.base, value.len);
}

void field_span(struct row_bytes *row, enum tag tag, struct span value) /* empty: absent */
{
    if (value.len)
        field(row, tag, value);
}

void field_u64(struct row_bytes *row, enum tag tag, uint64_t v) /* 0: absent */
{
    char at[10];

    if (v)
        field(row, tag, span_from(at, varint_put(at, v)));
}

void field_fixed(struct row_bytes *row, enum tag tag, uint64_t v) /* present even when 0 */
{
    char at[8];

    le64_put(at, v);
    field(row, tag, span_from(at, 8));
}

void field_time(struct row_bytes *row, enum tag tag, int64_t ns)
{
    if (ns)
        field_fixed(row, tag, (uint64_t)ns);
}

int fields_begin(struct fields *f, struct span value)
{
    if (value.len < 1 || value.base[0] != ROW_FORMAT)
        return -EBADMSG;
    *f = (struct fields){.rest = span_skip(value, 1)};
    return 0;
}

struct span fields_unknown(const struct fields *f)
{
    return span_from(f->tag_at, (size_t)(f->rest.base + f->rest.len - f->tag_at));
}

/* ---- metadata, object ids, locations ---- */

void field_metadata(struct row_bytes *row, const struct pair *pairs, unsigned count)
{
    _cleanup_(row_bytes_done) struct row_bytes body = {0};

    for (unsigned i = 0; i < count; i++) {
        add_varint(&body, pairs[i].name.len);
        row_add(&body, pairs[i].name.base, pairs[i].name.len);
        add_varint(&body, pairs[i].value.len);
        row_add(&body, pairs[i].value.base, pairs[i].value.len);
    }
    field_span(row, TAG_METADATA, row_span(&body));
}

void field_lease(struct row_bytes *row, enum tag first, const struct lease *lease)
{
    if (lease->kind == LEASE_KIND_NONE)
        return;
    field_u64(row, first, lease->kind);
    field(row, first + 1, span_from((const char *)lease->id, sizeof(lease->id)));
    field_time(row, first + 2, (int64_t)lease->period_ns);
    field_time(row, first + 3, (int64_t)lease->serial);
}

int as_lease(unsigned which, struct span value, struct lease *ret)
{
    uint32_t kind;

    switch (which) {
    case 0:
        if (as_u32(value, &kind) < 0 || kind > LEASE_KIND_BROKEN)
            return -EBADMSG;
        ret->kind = kind;
        return 0;
    case 1:
        if (value.len != sizeof(ret->id))
            return -EBADMSG;
        memcpy(ret->id, value.base, value.len);
        return 0;
    case 2:
        return as_fixed(value, &ret->period_ns);
    case 3:
        return as_fixed(value, &ret->serial);
    default:
        return -ENOENT;
    }
}

int as_metadata(struct span value, struct row_space *space, const struct pair **ret,
                unsigned *ret_count)
{
    unsigned n = 0;

    while (value.len) {
        if (n == METADATA_PAIRS_MAX)
            return -EBADMSG;
        if (n == space->room) {
            space->room = space->room ? space->room * 2 : 16;
            space->pairs = xrealloc(space->pairs, space->room * sizeof(*space->pairs));
        }
        if (take_counted(&value, &space->pairs[n].name) < 0 ||
            take_counted(&value, &space->pairs[n].value) < 0)
            return -EBADMSG;
        n++;
    }
    *ret = space->pairs;
    *ret_count = n;
    return 0;
}

void add_object_id(struct row_bytes *row, const struct object_id *id)
{
    row_add_u32(row, id->node);
    row_add_u32(row, id->epoch);
    row_add_u64(row, id->counter);
}

int take_object_id(struct span *rest, struct object_id *ret)
{
    struct span at;

    if (take(rest, 16, &at) < 0)
        return -EBADMSG;
    *ret = (struct object_id){be32_get(at.base), be32_get(at.base + 4), be64_get(at.base + 8)};
    return 0;
}
