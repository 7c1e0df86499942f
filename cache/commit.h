/* cache/commit.h - every change is a commit record: ordered, written to log slabs, made durable by
 * one flush round per group, applied to the index, published, answered - in that order (design
 * section 4).
 *
 * One committer thread, one flusher thread per device, pipelined: a group is what arrived while the
 * previous one was being flushed. Invariants: cache/README.md C1-C9. */
#ifndef CACHE_COMMIT_H
#define CACHE_COMMIT_H

#include "base/op.h"
#include "base/span.h"
#include "cache/index.h"
#include "cache/slab.h"

struct committer;
struct log_store; /* log.h */

/* One atomic change being made. Build it on any thread, submit it once; then it is the committer's
 * until `done` fires. */
struct change {
    struct entry_buffer *entries; /* encoded, change_put and change_delete append */
    /* Committer thread, before the record is written: judges what only the newest ordered state can
     * tell (container alive, quota) and may append entries. < 0 refuses: nothing changes. May be
     * NULL. */
    int (*decide)(struct change *change);
    /* Committer thread, after the record is durable and applied (err 0), or failed (err < 0; state
     * as before). Publishes descriptors; must not block. May be NULL. */
    void (*publish)(struct change *change, uint64_t commit, int err);
    void *arg;                               /* decide's and publish's */
    struct change_hook *hooks, **hooks_tail; /* change_add_hook */
    struct completion *done;                 /* posted after publish; NULL: nobody waits */
    /* The committer's. number: the commit number it has if it is not refused, from decide on. */
    uint64_t number;
    uint64_t queued_ns;
    int err;
    struct change *next;
};

/* What a part of the cache that added entries wants to be told of the change they went into. */
struct change_hook {
    /* Committer thread, before decide: bit per device with bytes that this change would be the
     * first to make durable. May be NULL: none. */
    uint64_t (*devices)(struct change_hook *hook);
    /* Committer thread, in commit order, after change->decide has agreed, before the record is
     * written: may append entries, cannot refuse. May be NULL. */
    void (*order)(struct change_hook *hook, struct change *change);
    /* Committer thread, before publish: 0 durable and applied, < 0 failed or refused (also before
     * order). change_free of a change never submitted calls it on that thread with -ECANCELED.
     * Once; frees. */
    void (*end)(struct change_hook *hook, int err);
    struct change_hook *next;
};
/* In the order added. Adding is the builder's; the rest is the committer's and change_free's
 * (change.c). */
void change_add_hook(struct change *change, struct change_hook *hook);
uint64_t change_devices(const struct change *change);
int change_order(struct change *change) must_check; /* decide, then the hooks: 0 or the refusal */
void change_end_hooks(struct change *change, int err);
void change_end(struct change *change, uint64_t commit, int err); /* the hooks' end, then publish */

struct change *change_new(void);
struct change *change_free(struct change *change); /* not while submitted; NULL is fine */
void change_put(struct change *change, enum family family, struct span key, struct span value);
void change_delete(struct change *change, enum family family, struct span key);
void change_delete_range(struct change *change, enum family family, struct span from,
                         struct span to);
size_t change_bytes(
    const struct change *change);   /* a record is at most CHANGE_BYTES_MAX: split bigger ones */
#define CHANGE_BYTES_MAX (1u << 20) /* as built; decide and hooks may add as much again */
/* Walks entries; *cursor starts at 0; false at the end. */
bool change_next(const struct change *change, size_t *cursor, struct entry *ret);

struct committer_conf {
    struct slab_store *slabs;
    struct index *index;
    uint64_t log_bytes_max; /* 0: an eighth of the smallest device; at least 4 slabs */
    /* Start only: are the bytes that this entry refers to whole? Asked in log order, before
     * anything is applied, for the entries of records whose flush is not known finished.
     * superseded: a later entry puts or deletes the same key, so after replay this row is not there
     * and its bytes need not be. The first error cuts the log before that record; then earlier
     * entries may be asked again. NULL: nothing is asked. */
    int (*check_bytes)(void *arg, const struct entry *entry, bool superseded);
    void *check_arg;
    void (*fatal)(void *arg,
                  const char *why); /* no device left, or the index failed after durability */
    void *fatal_arg;
};
/* Start has two halves, since space is known only when the index is. committer_open finds the log,
 * checks the chain and the tail, decides the cut, replays into the index and marks log slabs as
 * used (design section 3 "Start"). Then the caller walks the index, marks what it refers to and
 * calls slab_store_serve. committer_serve writes the cut record of the new epoch, flushed, and
 * starts the threads; changes may be submitted from then on. Blocking, main thread; on failure *why
 * in words. */
int committer_open(const struct committer_conf *conf, struct committer **ret,
                   char **why) must_check;
int committer_serve(struct committer *committer, char **why) must_check;
/* Finishes what is queued, flushes the index, frees the log behind it. Also before serve. NULL is
 * fine */
struct committer *committer_close(struct committer *committer);
/* `hearth check` on a stopped box: walks the log's chain, writes nothing; report gets a line per
 * finding. Number of findings or -errno. */
int committer_check(const struct committer_conf *conf, void (*report)(void *arg, const char *line),
                    void *arg) must_check;
/* Any thread. Changes are ordered as submitted. The change is freed after `done` was posted. */
void commit_submit(struct committer *committer, struct change *change);
uint64_t commit_last(const struct committer *committer);    /* newest durable number; any thread */
uint64_t commit_ordered(const struct committer *committer); /* newest given out; any thread */
/* Of this run, known from committer_open on; object ids carry it. Any thread. */
uint32_t commit_epoch(const struct committer *committer);
/* Tells that data was written to a device and its flush is owed to the next group (writer.c, after
 * each completed write). Any thread. */
void commit_wrote(struct committer *committer, unsigned device);
struct committer_stats {
    uint64_t commits, groups, log_bytes, log_slabs, applied_persisted;
    uint64_t fenced; /* bit per device */
    bool dead;       /* nothing can be made durable any more: every change fails with -EIO */
};
struct committer_stats committer_stats(const struct committer *committer);

#endif
