/* cache/commit_start.c - the committer's start and end: finds the log, judges its tail, replays,
 * and opens the new epoch. Main thread, blocking. design.md section 3 "Start".
 *
 * In order: 1 every device is flushed once, so that what is read is what stays (a killed process
 * leaves bytes in the device's cache) 2 the chain is walked; of two copies the longer one counts,
 * if the index lacks nothing before it 3 the bytes that records behind the last known flush refer
 * to are checked; the first failure cuts 4 replay 5 (serve) cut record of the new epoch, flushed 6
 * superblocks name the epoch. */
#include "cache/commit_internal.h"

#include <inttypes.h>

#include "base/failpoint.h"
#include "base/log.h"
#include "cache/entry.h"

#define REPLAY_BATCH_BYTES (4u << 20)
#define START_SLABS_KEPT   3 /* log slabs found at start; more: the index is flushed and they go */

struct start {
    struct committer *c;
    const struct super_state *super;
    struct log_path path;       /* the copy that counts */
    struct log_end end;         /* of it */
    uint64_t unflushed, unread; /* bit per device; unread: its copy of the log */
    uint32_t epoch_max;
    uint64_t applied_min, applied_max;
    uint64_t replay_bytes, replayed, replay_last;
    char **why;
};

#define REFUSE(s, ...) (*(s)->why = xasprintf(__VA_ARGS__), -EINVAL)

/* ---- finding ---- */

/* A device that fails here may be a fenced one: judged when the log has said so. */
static void flush_all(struct start *s)
{
    struct io *io;

    for (unsigned d = 0; d < s->c->device_count; d++) {
        io = slab_device_io(s->c->conf.slabs, d);
        if (io->ops->flush(io))
            s->unflushed |= 1ull << d;
    }
}

/* Of copies of one epoch each has all that was answered in it, but one that became a copy with it
 * begins there: what the index lacks may stand in the other only. */
static bool covers_index(const struct start *s, const struct log_path *path)
{
    return path->slab[0].head.first <= s->applied_min + 1;
}

static bool is_better(const struct start *s, const struct log_path *path, const struct log_end *end)
{
    if (!s->path.count)
        return true;
    if (end->chain.epoch != s->end.chain.epoch)
        return end->chain.epoch > s->end.chain.epoch;
    if (covers_index(s, path) != covers_index(s, &s->path))
        return covers_index(s, path);
    return end->chain.last > s->end.chain.last;
}

/* Takes the device's log if it is better than the one held. */
static int consider(struct start *s, unsigned device)
{
    struct log_path path;
    struct log_end end;
    int err = log_path_find(s->c->conf.slabs, device, s->c->box, &path);

    if (err)
        return err;
    s->epoch_max = MAX(s->epoch_max, path.epoch_max);
    if (!path.count)
        return 0;
    log_path_trim(&path, s->applied_min + 1);
    err = log_path_walk(&path, NULL, NULL, &end);
    if (err || !is_better(s, &path, &end)) {
        log_path_done(&path);
        return err;
    }
    log_path_done(&s->path);
    s->path = path;
    s->end = end;
    return 0;
}

/* Does the log that was found have all that was answered? Each copy has. */
static bool reaches_answered(const struct start *s)
{
    return s->path.count && s->end.chain.epoch >= s->super->epoch &&
           s->end.chain.last >= s->super->answered;
}

static int find(struct start *s)
{
    uint64_t failed;

    flush_all(s);
    for (unsigned d = 0; d < s->c->device_count; d++)
        if (consider(s, d))
            s->unread |= 1ull << d;
    failed = s->unflushed & ~s->end.chain.fenced;
    if (!reaches_answered(s))
        failed |= s->unread & ~s->end.chain.fenced;
    if (failed)
        return REFUSE(s, "device number %d cannot be flushed or read: check it, then start again",
                      __builtin_ctzll(failed));
    if (s->unread)
        log_error("a copy of the commit log cannot be read: another one is whole",
                  KV_UINT("device", (unsigned)__builtin_ctzll(s->unread)));
    if (!s->path.count)
        s->end.chain.epoch = s->super->epoch;
    return 0;
}

/* ---- refusals ---- */

static bool uuid_zero(const uint64_t uuid[2])
{
    return !uuid[0] && !uuid[1];
}

static int judge_index(struct start *s)
{
    uint64_t uuid[2];
    uint64_t oldest = s->path.count ? s->path.slab[0].head.first : 1;

    index_uuid(s->c->conf.index, uuid);
    if (!uuid_zero(uuid) && memcmp(uuid, s->super->index_uuid, sizeof(uuid)) != 0)
        return REFUSE(s, "the index belongs to other devices: give the data folder and the devices "
                         "that belong together");
    if (s->applied_max > s->end.chain.last)
        return REFUSE(s,
                      "the index is ahead of the commit log (it has change %" PRIu64
                      ", the log ends at %" PRIu64 "): the devices have lost what was durable",
                      s->applied_max, s->end.chain.last);
    if (s->applied_min + 1 < oldest && uuid_zero(uuid))
        return REFUSE(s,
                      "the index is new but the devices hold contents: give the data folder that "
                      "belongs to them, or forget them with `hearth format --discard`");
    if (s->applied_min + 1 < oldest)
        return REFUSE(s,
                      "the index is behind the oldest record kept (it has change %" PRIu64
                      ", the log begins at %" PRIu64 "): give the newest copy of the data folder",
                      s->applied_min, oldest);
    return uuid_zero(uuid) ? index_bind(s->c->conf.index, s->super->index_uuid) : 0;
}

static int judge_log(struct start *s)
{
    const struct log_chain *end = &s->end.chain;

    if (s->end.damaged)
        return REFUSE(s,
                      "the commit log is damaged behind change %" PRIu64
                      ": later records that were durable cannot be reached",
                      end->last);
    if (end->last < s->super->answered)
        return REFUSE(s,
                      "the commit log ends at change %" PRIu64 " but %" PRIu64
                      " was answered: the devices have lost what was durable",
                      end->last, s->super->answered);
    if (end->epoch < s->super->epoch)
        return REFUSE(s,
                      "the commit log ends in epoch %u but epoch %u was served: the devices have "
                      "lost what was durable",
                      end->epoch, s->super->epoch);
    return 0;
}

/* ---- the tail, replay ---- */

/* What was answered was flushed, whether or not a later record had the time to say so. */
static int tail_check(struct start *s)
{
    uint64_t flushed = MAX(s->end.chain.flushed, s->super->answered);

    return s->path.count ? commit_tail_check(&s->c->conf, &s->path, flushed, &s->end.chain) : 0;
}

static int replay_record(void *arg, const struct log_record *record)
{
    struct start *s = arg;
    struct index *index = s->c->conf.index;
    struct entry entry;
    size_t cursor = 0;

    if (record->kind != LOG_CHANGE || record->number <= s->applied_min)
        return 0;
    if (record->number > s->end.chain.last)
        return -ECANCELED; /* cut */
    while (entry_next(record->entries, &cursor, &entry) == 1)
        index_batch_add(index, record->number, &entry);
    s->replayed++;
    s->replay_last = record->number;
    s->replay_bytes += record->entries.len;
    if (s->replay_bytes < REPLAY_BATCH_BYTES)
        return 0;
    s->replay_bytes = 0;
    return index_batch_write(index, record->number);
}

static int replay(struct start *s)
{
    struct log_end end;
    int err;

    if (s->end.chain.last == s->applied_min)
        return 0;
    err = log_path_walk(&s->path, replay_record, s, &end);
    if (err == -ECANCELED)
        err = 0;
    if (!err)
        err = index_batch_write(s->c->conf.index, s->replay_last);
    /* With a second copy the log before this epoch is on one device only: it must not be needed. */
    if (!err && s->c->device_count > 1)
        err = index_flush(s->c->conf.index);
    log_info("commit log replayed", KV_UINT("changes", s->replayed),
             KV_UINT("last", s->end.chain.last));
    return err;
}

/* ---- open, serve, close ---- */

static struct committer *committer_new(const struct committer_conf *conf)
{
    struct committer *c = xcalloc(1, sizeof(*c));

    c->conf = *conf;
    c->device_count = slab_device_count(conf->slabs);
    c->box = slab_super(conf->slabs)->box_uuid[0];
    c->index_fd = c->answered_fd = c->stop_fd = -1;
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->super_lock, NULL);
    pthread_cond_init(&c->work, NULL);
    pthread_cond_init(&c->flush, NULL);
    return c;
}

static void committer_free(struct committer *c)
{
    log_free(c->log);
    keepers_close(c);
    pthread_cond_destroy(&c->flush);
    pthread_cond_destroy(&c->work);
    pthread_mutex_destroy(&c->super_lock);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

/* Slabs behind the end hold nothing that counts. */
static void start_take_log(struct start *s)
{
    struct committer *c = s->c;

    while (s->path.count && s->path.slab[s->path.count - 1].head.first > s->end.chain.last + 1)
        s->path.count--;
    c->log = log_new(c->conf.slabs, c->box, c->conf.log_bytes_max, &s->path);
    c->durable = s->end.chain;
    atomic_store(&c->epoch, MAX(MAX(s->end.chain.epoch, s->super->epoch), s->epoch_max) + 1);
    atomic_store(&c->last, s->end.chain.last);
    atomic_store(&c->ordered, s->end.chain.last);
    atomic_store(&c->fenced, s->end.chain.fenced);
    for (unsigned d = 0; d < c->device_count; d++)
        if (s->end.chain.fenced >> d & 1)
            slab_device_fence(c->conf.slabs, d);
}

static int start_run(struct start *s)
{
    int err = find(s);

    if (!err)
        err = judge_log(s);
    if (!err)
        err = tail_check(s);
    if (!err)
        err = judge_index(s);
    if (!err)
        err = replay(s);
    if (!err)
        start_take_log(s);
    if (err && !*s->why)
        *s->why = xasprintf("the commit log cannot be replayed: %s", index_error(s->c->conf.index));
    return err;
}

static void start_applied(struct start *s)
{
    s->applied_min = UINT64_MAX;
    for (int f = 0; f < FAM_COUNT; f++) {
        s->applied_min = MIN(s->applied_min, index_applied(s->c->conf.index, f));
        s->applied_max = MAX(s->applied_max, index_applied(s->c->conf.index, f));
    }
}

int committer_open(const struct committer_conf *conf, struct committer **ret, char **why)
{
    struct start start = {.super = slab_super(conf->slabs), .why = why};
    int err;

    *why = NULL;
    start.c = committer_new(conf);
    start_applied(&start);
    err = keepers_open(start.c);
    if (err)
        *why = xasprintf("no file descriptors are left");
    else
        err = start_run(&start);
    log_path_done(&start.path);
    if (err) {
        committer_free(start.c);
        return err;
    }
    *ret = start.c;
    return 0;
}

int committer_serve(struct committer *committer, char **why)
{
    struct committer *c = committer;
    uint64_t all = c->device_count == 64 ? UINT64_MAX : (1ull << c->device_count) - 1;
    int err = 0;

    /* Each start takes a slab for its epoch: a box that crashes again and again before the
     * indexer's time must not fill its devices with log. */
    if (log_usage(c->log).slabs > START_SLABS_KEPT)
        err = index_checkpoint(c);
    if (!err)
        err = log_begin_epoch(c->log, &c->durable, atomic_load(&c->epoch),
                              all & ~atomic_load(&c->fenced), atomic_load(&c->fenced));
    FAILPOINT("epoch_begun");
    if (!err)
        err = answered_write(c);
    if (err) {
        *why =
            xasprintf("the commit log cannot be written (%s): check the devices, then start again",
                      err == -ENOSPC ? "no free slab" : "device error");
        return err;
    }
    c->durable = log_chain(c->log);
    c->serving = true;
    if (committer_run(c) || keepers_run(c))
        abort(); /* no threads: as when memory is out */
    return 0;
}

struct committer *committer_close(struct committer *committer)
{
    struct committer *c = committer;

    if (!c)
        return NULL;
    if (c->serving) {
        committer_stop(c);
        keepers_stop(c);
        if (!atomic_load(&c->dead) && (index_checkpoint(c) || answered_write(c)))
            log_error(
                "closing: the index or the superblocks could not be written; the log has all");
    }
    committer_free(c);
    return NULL;
}

/* ---- hearth check ---- */

static int check_device(struct start *s, unsigned device,
                        void (*report)(void *arg, const char *line), void *arg)
{
    struct log_path path;
    struct log_end end;
    int findings = 0, err = log_path_find(s->c->conf.slabs, device, s->c->box, &path);

    /* A copy that a cut left shorter than the other ends below the epoch after it: not needed. */
    if (!err && path.count) {
        log_path_trim(&path, s->applied_min + 1);
        err = log_path_walk(&path, NULL, NULL, &end);
    }
    if (!err && path.count && end.damaged) {
        _cleanup_(freep) char *line =
            xasprintf("log: device %u: damaged behind change %" PRIu64, device, end.chain.last);
        report(arg, line);
        findings++;
    }
    log_path_done(&path);
    return err ? err : findings;
}

int committer_check(const struct committer_conf *conf, void (*report)(void *arg, const char *line),
                    void *arg)
{
    char *why = NULL;
    struct start s = {.super = slab_super(conf->slabs), .why = &why};
    int findings = 0, r = 0;

    s.c = committer_new(conf);
    start_applied(&s);
    for (unsigned d = 0; d < s.c->device_count && r >= 0; d++) {
        r = check_device(&s, d, report, arg);
        findings += MAX(r, 0);
    }
    if (r >= 0 && !find(&s) && (judge_log(&s) || tail_check(&s)))
        findings++;
    if (why) {
        report(arg, why);
        free(why);
        findings += r >= 0 && !findings;
    }
    log_path_done(&s.path);
    committer_free(s.c);
    return r < 0 ? r : findings;
}
