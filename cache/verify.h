/* cache/verify.h - the bytes behind the log's last records, checked at start. Private to cache/. */
#ifndef CACHE_VERIFY_H
#define CACHE_VERIFY_H

#include "cache/internal.h"

struct verify {
    struct cache *cache;
    struct object_id id; /* whose rows are being looked at */
    bool needed;         /* a link row of it said so */
    struct extent *extents;
    size_t count, room;
};
struct verify *verify_new(struct cache *cache);
struct verify *verify_free(struct verify *verify); /* NULL is fine */
/* committer_conf.check_bytes; arg: the verify. */
int verify_entry(void *arg, const struct entry *entry, bool superseded);

#endif
