/* cache/rows.c - keys and values of FAM_OBJECTS and FAM_SPACE. Pure; any thread. Every value starts
 * with a format byte; integers are big-endian in keys, little-endian in values. cache/FORMAT.md
 * "Objects". */
#include "cache/content.h"

#include "base/bytes.h"

#define ROW_FORMAT        1
#define OBJECT_FLAG_CRC   0x01
#define OBJECT_FLAG_SMALL 0x02
#define OBJECT_ROW_HEAD   38 /* before the origin's names */
#define EXTENT_ROW_HEAD   27
#define SPACE_ROW_HEAD    30
#define ID_BYTES          16

static void id_encode(struct object_id id, char *at)
{
    be32_put(at, id.node);
    be32_put(at + 4, id.epoch);
    be64_put(at + 8, id.counter);
}

static struct object_id id_decode(const char *at)
{
    return (struct object_id){be32_get(at), be32_get(at + 4), be64_get(at + 8)};
}

struct object_key object_prefix(struct object_id id)
{
    struct object_key key = {.len = ID_BYTES};

    id_encode(id, key.bytes);
    return key;
}

struct object_key object_key(struct object_id id, enum object_row row, uint64_t number)
{
    struct object_key key = object_prefix(id);

    key.bytes[key.len++] = (char)row;
    if (row == ROW_EXTENT) {
        be32_put(key.bytes + key.len, (uint32_t)number);
        key.len += 4;
    } else if (row == ROW_LINK) {
        be64_put(key.bytes + key.len, number);
        key.len += 8;
    }
    return key;
}

int object_key_decode(struct span key, struct object_id *id, enum object_row *row, uint64_t *number)
{
    const char *rest = key.base + ID_BYTES + 1;

    if (key.len < ID_BYTES + 1)
        return -EBADMSG;
    *row = (enum object_row)(uint8_t)key.base[ID_BYTES];
    *id = id_decode(key.base);
    if (*row == ROW_OBJECT && key.len == ID_BYTES + 1)
        *number = 0;
    else if (*row == ROW_EXTENT && key.len == ID_BYTES + 5)
        *number = be32_get(rest);
    else if (*row == ROW_LINK && key.len == ID_BYTES + 9)
        *number = be64_get(rest);
    else
        return -EBADMSG;
    return 0;
}

struct span object_key_span(const struct object_key *key)
{
    return (struct span){key->bytes, key->len};
}

struct span object_row_encode(const struct object *object)
{
    struct span blob = object->origin.blob, etag = object->origin.etag;
    size_t bytes = OBJECT_ROW_HEAD + blob.len + etag.len;
    char *at = xmalloc(bytes);

    at[0] = ROW_FORMAT;
    at[1] =
        (char)((object->has_crc64 ? OBJECT_FLAG_CRC : 0) | (object->small ? OBJECT_FLAG_SMALL : 0));
    le64_put(at + 2, object->length);
    le64_put(at + 10, object->crc64);
    le64_put(at + 18, object->origin.container);
    le64_put(at + 26, object->origin.offset);
    le16_put(at + 34, (uint16_t)blob.len);
    le16_put(at + 36, (uint16_t)etag.len);
    if (blob.len)
        memcpy(at + OBJECT_ROW_HEAD, blob.base, blob.len);
    if (etag.len)
        memcpy(at + OBJECT_ROW_HEAD + blob.len, etag.base, etag.len);
    return (struct span){at, bytes};
}

int object_row_decode(struct span row, struct object *object)
{
    const char *at = row.base;
    size_t blob, etag;

    if (row.len < OBJECT_ROW_HEAD || at[0] != ROW_FORMAT)
        return -EBADMSG;
    blob = le16_get(at + 34);
    etag = le16_get(at + 36);
    if (row.len < OBJECT_ROW_HEAD + blob + etag)
        return -EBADMSG;
    object->has_crc64 = at[1] & OBJECT_FLAG_CRC;
    object->small = at[1] & OBJECT_FLAG_SMALL;
    object->length = le64_get(at + 2);
    object->crc64 = le64_get(at + 10);
    object_set_origin(object, &(struct object_origin){
                                  .container = le64_get(at + 18),
                                  .blob = {at + OBJECT_ROW_HEAD, blob},
                                  .etag = {at + OBJECT_ROW_HEAD + blob, etag},
                                  .offset = le64_get(at + 26),
                              });
    return 0;
}

static unsigned extent_units(const struct extent *extent)
{
    return (extent->length + UNIT_BYTES - 1) / UNIT_BYTES;
}

size_t extent_row_encode(const struct extent *extent, char ret[EXTENT_ROW_MAX])
{
    unsigned units = extent_units(extent);

    ret[0] = ROW_FORMAT;
    le16_put(ret + 1, extent->at.device);
    le32_put(ret + 3, extent->at.slab);
    le32_put(ret + 7, extent->at.generation);
    le32_put(ret + 11, extent->at.offset);
    le32_put(ret + 15, extent->length);
    le64_put(ret + 19, extent->present);
    for (unsigned i = 0; i < units; i++)
        le64_put(ret + EXTENT_ROW_HEAD + 8 * i, extent->crc[i]);
    return EXTENT_ROW_HEAD + 8 * units;
}

int extent_row_decode(struct span row, struct extent *ret)
{
    const char *at = row.base;
    struct extent extent = {0};

    if (row.len < EXTENT_ROW_HEAD || at[0] != ROW_FORMAT)
        return -EBADMSG;
    extent.at = (struct location){.device = le16_get(at + 1),
                                  .slab = le32_get(at + 3),
                                  .generation = le32_get(at + 7),
                                  .offset = le32_get(at + 11)};
    extent.length = le32_get(at + 15);
    extent.present = le64_get(at + 19);
    if (!extent.length || extent.length > EXTENT_BYTES_MAX ||
        row.len < EXTENT_ROW_HEAD + 8 * (size_t)extent_units(&extent))
        return -EBADMSG;
    for (unsigned i = 0; i < extent_units(&extent); i++)
        extent.crc[i] = le64_get(at + EXTENT_ROW_HEAD + 8 * i);
    *ret = extent;
    return 0;
}

void space_key_encode(const struct location *at, char ret[SPACE_KEY_BYTES])
{
    be16_put(ret, at->device);
    be32_put(ret + 2, at->slab);
    be32_put(ret + 6, at->offset);
}

struct span space_row_encode(const struct space_row *row)
{
    size_t tail = row->kind == SPACE_RECORD ? 9 + row->blob.len : 0;
    char *at = xmalloc(SPACE_ROW_HEAD + tail);

    at[0] = ROW_FORMAT;
    at[1] = (char)row->kind;
    le32_put(at + 2, row->length);
    le32_put(at + 6, row->at.generation);
    id_encode(row->id, at + 10);
    le32_put(at + 26, row->index);
    if (tail) {
        at[30] = (char)row->state;
        le64_put(at + 31, row->container);
        memcpy(at + 39, row->blob.base, row->blob.len);
    }
    return (struct span){at, SPACE_ROW_HEAD + tail};
}

int space_row_decode(struct span key, struct span value, struct space_row *ret)
{
    const char *at = value.base;
    struct space_row row = {0};

    if (key.len != SPACE_KEY_BYTES || value.len < SPACE_ROW_HEAD || at[0] != ROW_FORMAT)
        return -EBADMSG;
    row.at = (struct location){.device = be16_get(key.base),
                               .slab = be32_get(key.base + 2),
                               .offset = be32_get(key.base + 6),
                               .generation = le32_get(at + 6)};
    row.kind = (enum space_kind)(uint8_t)at[1];
    row.length = le32_get(at + 2);
    row.id = id_decode(at + 10);
    row.index = le32_get(at + 26);
    if (row.kind < SPACE_LARGE || row.kind > SPACE_RECORD)
        return -EBADMSG;
    if (row.kind == SPACE_RECORD) {
        if (value.len < SPACE_ROW_HEAD + 9 || (uint8_t)at[30] > OBJECT_SOLE)
            return -EBADMSG;
        row.state = (enum object_state)(uint8_t)at[30];
        row.container = le64_get(at + 31);
        row.blob = span_skip(value, 39);
    }
    *ret = row;
    return 0;
}

void change_put_extent(struct change *change, const struct object *object,
                       const struct extent *extent)
{
    struct object_key key = object_key(object->id, ROW_EXTENT, extent->index);
    struct space_row row = {.at = extent->at,
                            .length = extent->length,
                            .index = extent->index,
                            .id = object->id,
                            .kind = object->small ? SPACE_SMALL : SPACE_LARGE};
    char value[EXTENT_ROW_MAX], where[SPACE_KEY_BYTES];
    struct span space = space_row_encode(&row);

    change_put(change, FAM_OBJECTS, object_key_span(&key),
               (struct span){value, extent_row_encode(extent, value)});
    space_key_encode(&extent->at, where);
    change_put(change, FAM_SPACE, (struct span){where, sizeof(where)}, space);
    free((void *)space.base);
}

void change_delete_space(struct change *change, const struct location *at)
{
    char key[SPACE_KEY_BYTES];

    space_key_encode(at, key);
    change_delete(change, FAM_SPACE, (struct span){key, sizeof(key)});
}

void change_delete_extent(struct change *change, const struct object *object,
                          const struct extent *extent)
{
    struct object_key key = object_key(object->id, ROW_EXTENT, extent->index);

    change_delete(change, FAM_OBJECTS, object_key_span(&key));
    change_delete_space(change, &extent->at);
}
