/* cache/entry.c - entries of a change: encoding, decoding, and the change_* calls that build them.
 * Pure memory; any thread, one at a time per change. */
#include "cache/entry.h"

#include "base/bytes.h"
#include "cache/commit.h"

void entry_append(struct entry_buffer *buffer, const struct entry *entry)
{
    size_t need = ENTRY_HEAD_BYTES + entry->key.len + entry->value.len;
    uint8_t *at;

    assert(entry->family < FAM_COUNT && entry->key.len <= ENTRY_KEY_BYTES_MAX);
    assert(entry->key.len || entry->kind == ENTRY_DELETE_RANGE);
    assert(entry->value.len <= UINT32_MAX);
    if (buffer->used + need > buffer->room) {
        buffer->room = MAX(buffer->used + need, MAX(buffer->room * 2, (size_t)256));
        buffer->base = xrealloc(buffer->base, buffer->room);
    }
    at = (uint8_t *)buffer->base + buffer->used;
    at[0] = (uint8_t)entry->family;
    at[1] = (uint8_t)entry->kind;
    le16_put(at + 2, (uint16_t)entry->key.len);
    le32_put(at + 4, (uint32_t)entry->value.len);
    if (entry->key.len)
        memcpy(at + ENTRY_HEAD_BYTES, entry->key.base, entry->key.len);
    if (entry->value.len)
        memcpy(at + ENTRY_HEAD_BYTES + entry->key.len, entry->value.base, entry->value.len);
    buffer->used += need;
    buffer->count++;
}

void entry_buffer_done(struct entry_buffer *buffer)
{
    free(buffer->base);
    *buffer = (struct entry_buffer){0};
}

static bool entry_valid(const struct entry *entry)
{
    if ((unsigned)entry->family >= FAM_COUNT)
        return false;
    switch (entry->kind) {
    case ENTRY_PUT:
        return entry->key.len > 0;
    case ENTRY_DELETE:
        return entry->key.len > 0 && entry->value.len == 0;
    case ENTRY_DELETE_RANGE:
        return entry->value.len > 0;
    }
    return false;
}

int entry_next(struct span bytes, size_t *cursor, struct entry *ret)
{
    const uint8_t *at = (const uint8_t *)bytes.base + *cursor;
    size_t left = bytes.len - *cursor;
    struct entry entry;

    if (!left)
        return 0;
    if (left < ENTRY_HEAD_BYTES)
        return -EBADMSG;
    entry.family = at[0];
    entry.kind = at[1];
    entry.key = span_from(at + ENTRY_HEAD_BYTES, le16_get(at + 2));
    entry.value = span_from(entry.key.base + entry.key.len, le32_get(at + 4));
    if (left - ENTRY_HEAD_BYTES < entry.key.len ||
        left - ENTRY_HEAD_BYTES - entry.key.len < entry.value.len || !entry_valid(&entry))
        return -EBADMSG;
    *cursor += ENTRY_HEAD_BYTES + entry.key.len + entry.value.len;
    *ret = entry;
    return 1;
}

struct change *change_new(void)
{
    struct change *change = xcalloc(1, sizeof(*change));

    change->entries = xcalloc(1, sizeof(*change->entries));
    return change;
}

struct change *change_free(struct change *change)
{
    if (!change)
        return NULL;
    change_end_hooks(change,
                     -ECANCELED); /* of a change never submitted; else there are none left */
    entry_buffer_done(change->entries);
    free(change->entries);
    free(change);
    return NULL;
}

static void change_append(struct change *change, enum family family, enum entry_kind kind,
                          struct span key, struct span value)
{
    struct entry entry = {.family = family, .kind = kind, .key = key, .value = value};

    entry_append(change->entries, &entry);
}

void change_put(struct change *change, enum family family, struct span key, struct span value)
{
    change_append(change, family, ENTRY_PUT, key, value);
}

void change_delete(struct change *change, enum family family, struct span key)
{
    change_append(change, family, ENTRY_DELETE, key, (struct span){0});
}

void change_delete_range(struct change *change, enum family family, struct span from,
                         struct span to)
{
    assert(to.len > 0);
    change_append(change, family, ENTRY_DELETE_RANGE, from, to);
}

size_t change_bytes(const struct change *change)
{
    return change->entries->used;
}

bool change_next(const struct change *change, size_t *cursor, struct entry *ret)
{
    struct span bytes = {change->entries->base, change->entries->used};
    int found = entry_next(bytes, cursor, ret);

    assert(found >= 0);
    return found == 1;
}
