/* cache/commit_internal.h - the committer from inside. Private to commit.c, commit_start.c,
 * commit_tail.c and commit_keeper.c.
 *
 * Life of a change:
 *   1 queued    commit_submit: at the end of `queue`
 *   2 taken     the committer thread moved the queue to `taken`
 *   3 ordered   decide and hooks agreed; it has a number and is in a record (or is refused: err)
 *   4 written   its batch is on the devices, not flushed; in the round `written`
 *   5 flushing  the flush that covers it runs; in the round `flushing`
 *   6 applied to the index, published, answered, freed - in the order of numbers, refused ones in
 * place A failed write or flush takes all of 1-5 to the answer -EIO, behind a cut record where one
 * can still be written. */
#ifndef CACHE_COMMIT_INTERNAL_H
#define CACHE_COMMIT_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "cache/commit.h"
#include "cache/log.h"

struct change_list {
    struct change *first, **tail;
};

/* What one flush round makes durable. */
struct round {
    struct change_list changes;
    struct log_chain chain; /* after its last record */
    uint64_t records, bytes;
};

struct flusher { /* one per device */
    struct committer *committer;
    unsigned device;
    pthread_t thread;
};

struct committer {
    struct committer_conf conf;
    struct log_store *log;
    uint64_t box;
    bool serving;
    pthread_t thread, indexer, keeper;
    struct flusher flusher[DEVICES_MAX];
    unsigned device_count;

    /* any thread */
    _Atomic uint64_t last, ordered,
        dirty; /* dirty: bit per device written since its last flush began */
    _Atomic uint64_t applied_persisted, commits, groups, fenced;
    _Atomic uint32_t epoch;
    _Atomic bool dead;

    /* committer thread */
    struct change_list taken;
    struct round written, flushing;
    struct log_chain durable; /* end of the last finished round */
    uint64_t index_bytes, index_commits,
        index_written; /* since the indexer was last kicked; written: then */

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t work;  /* the committer waits */
    pthread_cond_t flush; /* flushers wait */
    struct change_list queue;
    bool stopping, flushers_stop;
    bool flush_running;                  /* a round is at the flushers */
    bool failing;                        /* no round is started */
    uint64_t flush_wanted, flush_failed; /* bit per device */
    unsigned flush_pending;
    uint64_t flush_begun_ns;
    enum { LOG_HAS_ROOM, LOG_FULL, LOG_FULL_TRIED } room;

    /* commit_keeper.c: eventfds, so that waiting needs no clock */
    int index_fd, answered_fd, stop_fd;
    _Atomic bool answered_kicked, index_due, log_due;
    _Atomic uint64_t answered; /* what the superblocks say */
    pthread_mutex_t super_lock;
};

static inline void change_list_add(struct change_list *list, struct change *change)
{
    change->next = NULL;
    if (!list->first)
        list->tail = &list->first;
    *list->tail = change;
    list->tail = &change->next;
}

static inline void change_list_move(struct change_list *to, struct change_list *from)
{
    if (!from->first)
        return;
    if (!to->first)
        to->tail = &to->first;
    *to->tail = from->first;
    to->tail = from->tail;
    *from = (struct change_list){0};
}

static inline void change_list_reverse(struct change_list *list)
{
    struct change_list reversed = {0};
    struct change *change, *next;

    for (change = list->first; change; change = next) {
        next = change->next;
        if (!reversed.first)
            reversed.tail = &change->next;
        change->next = reversed.first;
        reversed.first = change;
    }
    *list = reversed;
}

static inline struct change *change_list_take(struct change_list *list)
{
    struct change *change = list->first;

    if (change)
        list->first = change->next;
    return change;
}

/* commit.c */
void committer_fatal(struct committer *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int committer_run(struct committer *c) must_check; /* starts committer and flushers */
void committer_stop(struct committer *c);          /* finishes what is queued, joins them */
/* commit_tail.c: moves *end back before the first record behind `flushed` whose bytes are not
 * whole. */
int commit_tail_check(const struct committer_conf *conf, const struct log_path *path,
                      uint64_t flushed, struct log_chain *end) must_check;
/* commit_keeper.c */
int keepers_open(struct committer *c) must_check; /* descriptors */
void keepers_close(struct committer *c);
int keepers_run(struct committer *c) must_check;
void keepers_stop(struct committer *c);
void keepers_kick_index(struct committer *c); /* any thread */
void keepers_kick_log(struct committer *c);   /* the next log slab is wanted */
void keepers_kick_answered(struct committer *c);
/* Flushes the index and frees the log behind it. */
int index_checkpoint(struct committer *c) must_check;
int answered_write(struct committer *c) must_check; /* superblocks: epoch and answered */

#endif
