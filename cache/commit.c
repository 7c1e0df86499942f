/* cache/commit.c - the committer: batches of changes to records, flush rounds, apply, publish,
 * answer.
 *
 * One committer thread does everything in order; a flusher thread per device only calls flush.
 * While a round is being flushed the committer goes on ordering and writing what arrives: that is
 * the next round. So a round covers exactly what was completely written before its flush began
 * (C3). Surprise: a refused change waits in its round like the others, since its refusal may rest
 * on a change before it that is not durable yet. */
#include "cache/commit_internal.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/entry.h"
#include "cache/metrics.h"

#define INDEX_BYTES_MAX   MIB(64) /* records since the index was flushed */
#define INDEX_COMMITS_MAX 100000u
#define INDEX_WRITTEN_MAX (2 * SLAB_PAYLOAD_BYTES) /* of log: lonely changes fill a page each */

/* ---- the end of a change ---- */

static void change_finish(struct change *change, int err)
{
    struct completion *done = change->done;

    change_end(change, change->number, err);
    if (err)
        STAT_INC(commit_refused);
    STAT_OBSERVE(commit_seconds, clock_mono_ns() - change->queued_ns);
    if (done)
        completion_post(done, err);
    change_free(change);
}

static void changes_finish(struct change_list *list, int err)
{
    struct change *change;

    while ((change = change_list_take(list)))
        change_finish(change, change->err ? change->err : err);
}

/* Nothing of them has happened: undone newest first, since each was ordered on what those before it
 * had left, then told oldest first, as ever. */
static void changes_fail(struct change_list *list, int err)
{
    change_list_reverse(list);
    for (struct change *change = list->first; change; change = change->next)
        change_end_hooks(change, change->err ? change->err : err);
    change_list_reverse(list);
    changes_finish(list, err);
}

void committer_fatal(struct committer *c, const char *format, ...)
{
    char why[512];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    if (!atomic_exchange(&c->dead, true) && c->conf.fatal)
        c->conf.fatal(c->conf.fatal_arg, why);
}

/* ---- flushers ---- */

static void *flusher_main(void *arg)
{
    struct flusher *f = arg;
    struct committer *c = f->committer;
    struct io *io = slab_device_io(c->conf.slabs, f->device);
    uint64_t bit = 1ull << f->device;
    int err;

    pthread_setname_np(pthread_self(), "flusher");
    pthread_mutex_lock(&c->lock);
    for (;;) {
        while (!(c->flush_wanted & bit) && !c->flushers_stop)
            pthread_cond_wait(&c->flush, &c->lock);
        if (!(c->flush_wanted & bit))
            break;
        pthread_mutex_unlock(&c->lock);
        err = io->ops->flush(io);
        pthread_mutex_lock(&c->lock);
        c->flush_wanted &= ~bit;
        if (err)
            c->flush_failed |= bit;
        if (--c->flush_pending == 0)
            pthread_cond_broadcast(&c->work);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* Lock held. Hands what is written to the flushers. A round of refusals only has nothing to flush.
 */
static void round_start(struct committer *c)
{
    uint64_t devices = 0;

    c->flushing = c->written;
    c->written = (struct round){.chain = c->flushing.chain};
    if (c->flushing.records) {
        /* C3: these writes were complete before; what comes from now on is the next round's. */
        devices = atomic_exchange(&c->dirty, 0) | log_devices(c->log);
        devices &= ~atomic_load(&c->fenced);
    }
    c->flush_running = true;
    c->flush_failed = 0;
    c->flush_wanted = devices;
    c->flush_pending = (unsigned)__builtin_popcountll(devices);
    c->flush_begun_ns = clock_mono_ns();
    pthread_cond_broadcast(&c->flush);
}

/* ---- failure ---- */

static uint64_t healthy_devices(struct committer *c)
{
    uint64_t all = c->device_count == 64 ? UINT64_MAX : (1ull << c->device_count) - 1;

    return all & ~atomic_load(&c->fenced);
}

static void fence(struct committer *c, uint64_t devices)
{
    for (unsigned d = 0; d < c->device_count; d++)
        if (devices >> d & 1 && !(atomic_fetch_or(&c->fenced, 1ull << d) >> d & 1)) {
            slab_device_fence(c->conf.slabs, d);
            log_error("device fenced: a write or flush failed; nothing more is written to it",
                      KV_UINT("device", d));
        }
}

/* Goes on behind the last durable record in a new epoch, on the devices that are left. */
static int epoch_next(struct committer *c)
{
    uint64_t devices;
    int err = -EIO;

    while ((devices = healthy_devices(c))) {
        atomic_fetch_add(&c->epoch, 1);
        err = log_begin_epoch(c->log, &c->durable, atomic_load(&c->epoch), devices,
                              atomic_load(&c->fenced));
        if (!err || !log_failed(c->log))
            break;
        fence(c, log_failed(c->log));
    }
    if (!devices)
        err = -EIO;
    if (!err && (err = answered_write(c)))
        return err;
    if (err)
        return err;
    c->durable = log_chain(c->log);
    keepers_kick_index(c); /* a new copy has nothing older: soon it need not */
    return 0;
}

/* No flush is running. Everything unanswered fails, after a cut record has made it void (C5). */
static void round_failed(struct committer *c, uint64_t devices)
{
    struct change_list failed = {0};

    fence(c, devices);
    if (!atomic_load(&c->dead) && epoch_next(c))
        committer_fatal(c, "no device is left that can hold the commit log: nothing can be made "
                           "durable; check the devices, then start again");
    change_list_move(&failed, &c->flushing.changes);
    change_list_move(&failed, &c->written.changes);
    change_list_move(&failed, &c->taken);
    pthread_mutex_lock(&c->lock);
    change_list_move(&failed, &c->queue);
    c->room = LOG_HAS_ROOM;
    pthread_mutex_unlock(&c->lock);
    c->flushing = c->written = (struct round){.chain = c->durable};
    atomic_store(&c->ordered, c->durable.last);
    changes_fail(&failed, -EIO);
}

/* ---- a finished round ---- */

static int round_apply(struct committer *c, struct round *round)
{
    struct entry entry;
    size_t cursor;

    if (!round->records)
        return 0;
    for (struct change *change = round->changes.first; change; change = change->next)
        for (cursor = 0; !change->err && change_next(change, &cursor, &entry);)
            index_batch_add(c->conf.index, change->number, &entry);
    return index_batch_write(c->conf.index, round->chain.last);
}

static void index_kick_if_due(struct committer *c, const struct round *round)
{
    uint64_t written = log_written(c->log);

    c->index_bytes += round->bytes;
    c->index_commits += round->records;
    if (log_wants_next(c->log))
        keepers_kick_log(c);
    if (c->index_bytes < INDEX_BYTES_MAX && c->index_commits < INDEX_COMMITS_MAX &&
        written - c->index_written < INDEX_WRITTEN_MAX)
        return;
    c->index_bytes = c->index_commits = 0;
    c->index_written = written;
    keepers_kick_index(c);
}

static void round_publish(struct committer *c, struct round *round)
{
    uint64_t records = round->records;
    bool dead;

    if (!atomic_load(&c->dead) && round_apply(c, round))
        committer_fatal(c, "the index failed: %s; the commit log has everything, so start again",
                        index_error(c->conf.index));
    FAILPOINT("round_applied");
    dead = atomic_load(&c->dead);
    if (!dead)
        atomic_store(&c->last, round->chain.last);
    atomic_fetch_add(&c->commits, records);
    atomic_fetch_add(&c->groups, records != 0);
    STAT_ADD(commits, records);
    STAT_ADD(commit_groups, records != 0);
    changes_finish(&round->changes, dead ? -EIO : 0);
    FAILPOINT("round_answered");
    index_kick_if_due(c, round);
    if (records)
        keepers_kick_answered(c);
}

/* Lock held, dropped meanwhile. */
static void round_finished(struct committer *c)
{
    uint64_t failed = c->flush_failed;
    struct round round = c->flushing;

    c->flush_running = false;
    STAT_OBSERVE(commit_flush_seconds, clock_mono_ns() - c->flush_begun_ns);
    if (failed) {
        pthread_mutex_unlock(&c->lock);
        round_failed(c, failed);
    } else {
        c->durable = round.chain;
        c->flushing = (struct round){0};
        if (c->written.changes.first && !c->failing)
            round_start(c); /* the next flush runs while this round is applied and answered */
        pthread_mutex_unlock(&c->lock);
        FAILPOINT("round_flushed");
        round_publish(c, &round);
    }
    pthread_mutex_lock(&c->lock);
}

/* ---- a batch ---- */

/* A fenced device is flushed no more. What was written to it before the fence and is not in a
 * record yet was covered by the flush that failed, or by none: it can never be made durable. */
static int change_judge(struct committer *c, struct change *change)
{
    uint64_t fenced = atomic_load(&c->fenced);

    if (fenced && change_devices(change) & fenced)
        return -EIO;
    return change_order(change);
}

/* Orders one change: a record in the log's buffer, or a refusal. */
static void change_write(struct committer *c, struct change *change)
{
    const struct entry_buffer *entries = change->entries;

    change->number = log_chain(c->log).last + 1;
    change->err = change_judge(c, change);
    if (change->err >= 0) {
        change->err = 0;
        assert(entries->used <= LOG_ENTRY_BYTES_MAX);
        log_add(c->log, span_from(entries->base, entries->used), entries->count, c->durable.last);
        atomic_store(&c->ordered, change->number);
        c->written.records++;
        c->written.bytes += entries->used;
    }
    change_list_add(&c->written.changes, change);
}

static int batch_write(struct committer *c)
{
    struct change *change;
    int err;

    while (log_batch_bytes(c->log) < LOG_BATCH_BYTES_MAX && (change = change_list_take(&c->taken)))
        change_write(c, change);
    c->written.chain = log_chain(c->log);
    err = log_batch_write(c->log);
    FAILPOINT("batch_written");
    return err;
}

/* The log is as long as it may be: wait until the index is on disk and old log is free. Refuses
 * what was taken when that has been tried and did not help. */
static void batch_no_room(struct committer *c)
{
    struct change *change;
    bool refuse;

    pthread_mutex_lock(&c->lock);
    refuse = c->room == LOG_FULL_TRIED && !c->flush_running;
    c->room = refuse ? LOG_HAS_ROOM : LOG_FULL;
    pthread_mutex_unlock(&c->lock);
    if (!refuse) {
        keepers_kick_index(c);
        return;
    }
    log_warn_limited("the commit log is full and cannot be freed: changes are refused");
    while ((change = change_list_take(&c->taken))) {
        change->err = -ENOSPC;
        change_list_add(&c->written.changes, change);
    }
}

/* Lock held, dropped meanwhile. A round at the flushers is ended as what it is; the rest fails. */
static void batch_failed(struct committer *c)
{
    uint64_t failed;

    c->failing = true; /* what is written may lack this batch's bytes: it is not flushed any more */
    while (c->flush_pending)
        pthread_cond_wait(&c->work, &c->lock);
    failed = c->flush_running ? c->flush_failed : 0;
    if (c->flush_running && !failed)
        round_finished(c);
    c->flush_running = c->failing = false;
    pthread_mutex_unlock(&c->lock);
    round_failed(c, failed | log_failed(c->log));
    pthread_mutex_lock(&c->lock);
}

/* Lock held, dropped meanwhile. */
static void batch(struct committer *c)
{
    int err;

    change_list_move(&c->taken, &c->queue);
    pthread_mutex_unlock(&c->lock);
    err = atomic_load(&c->dead) ? -EIO : log_reserve(c->log);
    if (err == -ENOSPC)
        batch_no_room(c);
    else if (!err)
        err = batch_write(c);
    pthread_mutex_lock(&c->lock);
    if (!err)
        c->room = LOG_HAS_ROOM;
    else if (err != -ENOSPC)
        batch_failed(c);
}

static void *committer_main(void *arg)
{
    struct committer *c = arg;

    pthread_setname_np(pthread_self(), "committer");
    pthread_mutex_lock(&c->lock);
    for (;;) {
        if (c->flush_running && !c->flush_pending)
            round_finished(c);
        else if ((c->taken.first || c->queue.first) && c->room != LOG_FULL &&
                 c->written.bytes < LOG_ROUND_BYTES_MAX)
            batch(c);
        else if (!c->flush_running && c->written.changes.first)
            round_start(c);
        else if (c->stopping && !c->flush_running && !c->taken.first && !c->queue.first)
            break;
        else
            pthread_cond_wait(&c->work, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ---- threads and the calls ---- */

int committer_run(struct committer *c)
{
    c->written.chain = c->durable;
    for (unsigned d = 0; d < c->device_count; d++) {
        c->flusher[d] = (struct flusher){.committer = c, .device = d};
        if (pthread_create(&c->flusher[d].thread, NULL, flusher_main, &c->flusher[d]))
            abort(); /* as when memory is out: nothing can be served */
    }
    return -pthread_create(&c->thread, NULL, committer_main, c);
}

void committer_stop(struct committer *c)
{
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    pthread_cond_broadcast(&c->work);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->thread, NULL);
    pthread_mutex_lock(&c->lock);
    c->flushers_stop = true;
    pthread_cond_broadcast(&c->flush);
    pthread_mutex_unlock(&c->lock);
    for (unsigned d = 0; d < c->device_count; d++)
        pthread_join(c->flusher[d].thread, NULL);
}

void commit_submit(struct committer *committer, struct change *change)
{
    change->queued_ns = clock_mono_ns();
    pthread_mutex_lock(&committer->lock);
    assert(committer->serving && !committer->stopping);
    change_list_add(&committer->queue, change);
    pthread_cond_signal(&committer->work);
    pthread_mutex_unlock(&committer->lock);
}

uint64_t commit_last(const struct committer *committer)
{
    return atomic_load(&committer->last);
}

uint64_t commit_ordered(const struct committer *committer)
{
    return atomic_load(&committer->ordered);
}

uint32_t commit_epoch(const struct committer *committer)
{
    return atomic_load(&committer->epoch);
}

void commit_wrote(struct committer *committer, unsigned device)
{
    atomic_fetch_or(&committer->dirty, 1ull << device);
}

struct committer_stats committer_stats(const struct committer *committer)
{
    struct log_usage usage = log_usage(committer->log);

    return (struct committer_stats){
        .commits = atomic_load(&committer->commits),
        .groups = atomic_load(&committer->groups),
        .log_bytes = usage.bytes,
        .log_slabs = usage.slabs,
        .applied_persisted = atomic_load(&committer->applied_persisted),
        .fenced = atomic_load(&committer->fenced),
        .dead = atomic_load(&committer->dead),
    };
}
