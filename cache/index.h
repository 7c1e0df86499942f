/* cache/index.h - the view of the commit log: RocksDB column families behind a small key-value
 * seam. <rocksdb/c.h> is included by index.c only. Reads block (worker, start, committer); with
 * INDEX_HOT they never do. Writes come from the committer and replay only (one thread at a time),
 * by index_apply or index_batch_*. -EIO: index_error() holds RocksDB's words.
 *
 * Each family holds, under the empty key, `applied`: the number of the last commit it has. It is
 * written with every batch, so each family is by itself a prefix of the log (design section 3).
 * Gets and iterators never show that key. */
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
const char *family_name(enum family family);

/* One absolute statement about one key. A commit record is a list of these; `apply` is nothing but
 * writing them in order, so replay is idempotent. Keys are 1..65535 bytes. */
enum entry_kind { ENTRY_PUT = 1, ENTRY_DELETE = 2, ENTRY_DELETE_RANGE = 3 /* key <= k < value */ };
struct entry {
    enum family family;
    enum entry_kind kind;
    struct span key, value;
};

struct index;
struct index_view; /* a snapshot across all families */
/* In place of a view, for gets: the newest, from memory only; -EAGAIN when a device would have to
 * be read. Any thread, loops too. */
#define INDEX_HOT ((const struct index_view *)&index_hot)
extern const char index_hot;
struct index_iter;
struct index_value { /* pinned bytes; index_value_done */
    struct span bytes;
    void *pinned;
};

struct index_conf {
    const char *path;
    uint64_t cache_bytes; /* block cache; memtables take up to a quarter of it beside it, at least
                             16 MiB */
};
/* Opens or creates. On failure *why says in words what to do (malloc'ed). */
int index_open(const struct index_conf *conf, struct index **ret, char **why) must_check;
struct index *index_close(struct index *index); /* flushes; NULL is fine */
/* A copy of an index that is not open, to open in its place: what never changes is linked. `to` is
 * a path in the same file system. -ENOENT. */
int index_copy(const char *from, const char *to, char **why) must_check;
/* Removes an index that is not open (hearth format --discard). Absent is fine. */
int index_discard(const char *path, char **why) must_check;
/* First error seen; "" when there was none. Any thread. */
const char *index_error(const struct index *index);
/* Binds the index to its box: zeros until index_bind. */
void index_uuid(const struct index *index, uint64_t ret[2]);
int index_bind(struct index *index, const uint64_t uuid[2]) must_check;

/* -ENOENT absent. view NULL: newest, by blocking reads. */
int index_get(struct index *index, const struct index_view *view, enum family family,
              struct span key, struct index_value *ret) must_check;
void index_value_done(struct index_value *value); /* zeroed or done already is fine */

struct index_view *index_view_new(struct index *index);
struct index_view *index_view_free(struct index *index, struct index_view *view);
/* Keys in [lower, upper); upper empty: to the family's end. view NULL: as of now. Stands on the
 * first key at once. One thread at a time. */
struct index_iter *index_iter_new(struct index *index, const struct index_view *view,
                                  enum family family, struct span lower, struct span upper);
struct index_iter *index_iter_free(struct index_iter *iter);
bool index_iter_valid(struct index_iter *iter); /* false at the end or on error */
int index_iter_err(struct index_iter *iter);    /* 0 or -EIO */
void index_iter_next(struct index_iter *iter);
void index_iter_seek(struct index_iter *iter, struct span key); /* first key >= key */
struct span index_iter_key(struct index_iter *iter);            /* until next/seek/free */
struct span index_iter_value(struct index_iter *iter);

/* Committer and replay. Applies the entries of commit `number`; a family that has this commit
 * already skips them; `applied` becomes number in every family. All of it is visible at once. */
int index_apply(struct index *index, uint64_t number, const struct entry *entries,
                size_t n) must_check;
/* The same for several commits with rising numbers in one batch. */
void index_batch_add(struct index *index, uint64_t number, const struct entry *entry);
int index_batch_write(struct index *index, uint64_t number) must_check;

uint64_t index_applied(struct index *index,
                       enum family family); /* in memory; committer and replay */
/* On disk, smallest of all families. Any thread. */
int index_applied_persisted(struct index *index, uint64_t *ret_smallest) must_check;
int index_flush(struct index *index) must_check; /* memtables of all families to disk; blocks */

#endif
