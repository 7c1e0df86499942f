/* cache/index.h - the view of the commit log: RocksDB column families behind a small key-value seam.
 * <rocksdb/c.h> is included by index.c only. Reads block (worker, start, committer); a memory-only get
 * never does. Writes come from the committer and replay only, through index_apply.
 * -EIO: index_error() holds RocksDB's words. */
#ifndef CACHE_INDEX_H
#define CACHE_INDEX_H

#include "base/span.h"
#include "base/util.h"

enum family { /* stored in records: never renumbered. Keys and values: cache/FORMAT.md */
    FAM_META = 0,
    FAM_CONTAINERS = 1,
    FAM_BLOBS = 2,
    FAM_VERSIONS = 3,
    FAM_FRESH = 4,
    FAM_BLOCKS = 5,
    FAM_MANIFESTS = 6,
    FAM_OBJECTS = 7,
    FAM_SPACE = 8,
    FAM_UPLOADS = 9,
    FAM_UPLOAD_NAMES = 10,
    FAM_KNOWN = 11,
    FAM_OWED = 12,
    FAM_COUNT
};

/* One absolute statement about one key. A commit record is a list of these; `apply` is nothing but
 * writing them in order, so replay is idempotent. */
enum entry_kind { ENTRY_PUT = 1, ENTRY_DELETE = 2, ENTRY_DELETE_RANGE = 3 /* key <= k < value */ };
struct entry {
    enum family family;
    enum entry_kind kind;
    struct span key, value;
};

struct index;
struct index_view; /* a snapshot across all families */
struct index_iter;
struct index_value { /* pinned bytes; index_value_done */
    struct span bytes;
    void *pinned;
};

struct index_conf {
    const char *path;
    uint64_t cache_bytes;
};
int index_open(const struct index_conf *conf, struct index **ret, char **why) must_check;
struct index *index_close(struct index *index);
const char *index_error(const struct index *index);

/* -ENOENT absent. view NULL: newest. */
int index_get(struct index *index, const struct index_view *view, enum family family, struct span key,
              struct index_value *ret) must_check;
/* Memory only: -EWOULDBLOCK when a read would be needed. */
int index_get_hot(struct index *index, enum family family, struct span key, struct index_value *ret) must_check;
void index_value_done(struct index_value *value);

struct index_view *index_view_new(struct index *index);
struct index_view *index_view_free(struct index *index, struct index_view *view);
/* Keys in [lower, upper); upper empty: to the family's end. view NULL: as of now. */
struct index_iter *index_iter_new(struct index *index, const struct index_view *view, enum family family,
                                  struct span lower, struct span upper);
struct index_iter *index_iter_free(struct index_iter *iter);
bool index_iter_valid(struct index_iter *iter); /* false at the end or on error */
int index_iter_err(struct index_iter *iter);    /* 0 or -EIO */
void index_iter_next(struct index_iter *iter);
void index_iter_seek(struct index_iter *iter, struct span key); /* first key >= key */
struct span index_iter_key(struct index_iter *iter);   /* until next/seek/free */
struct span index_iter_value(struct index_iter *iter);

/* Committer and replay. Applies the entries of commit `number` to all families whose applied number is
 * below it and sets `applied` in every family. `families_from[f]`: replay skips what f already has. */
int index_apply(struct index *index, uint64_t number, const struct entry *entries, size_t n) must_check;
uint64_t index_applied(struct index *index, enum family family);           /* in memory */
int index_applied_persisted(struct index *index, uint64_t *ret_smallest) must_check; /* on disk, all families */
int index_flush(struct index *index) must_check; /* memtables of all families to disk; blocks */

#endif
