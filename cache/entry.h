/* cache/entry.h - the entries of a change as bytes: what a commit record carries. Pure; any thread.
 *
 * One entry: family u8, kind u8, key bytes u16, value bytes u32 (little-endian), key, value. No
 * padding. The key is never empty: the empty key of each family is index.c's. cache/FORMAT.md
 * "Entries". */
#ifndef CACHE_ENTRY_H
#define CACHE_ENTRY_H

#include "base/span.h"
#include "base/util.h"
#include "cache/index.h"

#define ENTRY_HEAD_BYTES    8u
#define ENTRY_KEY_BYTES_MAX 65535u

struct entry_buffer {
    char *base;
    size_t used, room;
    uint32_t count;
};

void entry_append(struct entry_buffer *buffer, const struct entry *entry);
void entry_buffer_done(struct entry_buffer *buffer);
/* 1: *ret borrows from bytes and *cursor has moved past it; 0: the end; -EBADMSG: malformed, also
 * for families and kinds this version does not know. */
int entry_next(struct span bytes, size_t *cursor, struct entry *ret) must_check;

#endif
