/* cache/commit_keeper.c - what follows behind the commits: the index goes to disk and old log is
 * freed (indexer thread); the superblocks say up to where was answered (keeper thread).
 *
 * Both block on devices and never hold the committer up, except when the log is full. */
#include "cache/commit_internal.h"

#include <poll.h>
#include <sys/eventfd.h>

#include "base/failpoint.h"
#include "base/log.h"

#define INDEX_LAG_MS    60000 /* between index flushes while there are commits */
#define ANSWERED_LAG_MS 500   /* superblocks follow what was answered by less than a second */

static void kick(int fd)
{
    (void)!eventfd_write(fd, 1); /* fails only when it is kicked 2^64 times over */
}

/* Waits for a kick of fd (-1: none is expected) or the time. false: stop. */
static bool keeper_wait(struct committer *c, int fd, int ms, bool *ret_late)
{
    struct pollfd fds[2] = {{.fd = c->stop_fd, .events = POLLIN}, {.fd = fd, .events = POLLIN}};
    eventfd_t count;
    int n;

    while ((n = poll(fds, 2, ms)) < 0)
        assert(errno == EINTR);
    if (fds[1].revents)
        (void)!eventfd_read(fd, &count);
    *ret_late = n == 0;
    return !fds[0].revents;
}

int index_checkpoint(struct committer *c)
{
    uint64_t persisted;
    int err = index_flush(c->conf.index);

    if (!err)
        err = index_applied_persisted(c->conf.index, &persisted);
    if (err)
        return err;
    atomic_store(&c->applied_persisted, persisted);
    FAILPOINT("index_flushed");
    log_trim(c->log, persisted, atomic_load(&c->last));
    FAILPOINT("log_trimmed");
    return 0;
}

static bool room_asked(struct committer *c)
{
    SCOPED_LOCK(&c->lock);
    return c->room == LOG_FULL;
}

static void room_tried(struct committer *c)
{
    SCOPED_LOCK(&c->lock);
    if (c->room == LOG_FULL)
        c->room = LOG_FULL_TRIED;
    pthread_cond_broadcast(&c->work);
}

static void *indexer_main(void *arg)
{
    struct committer *c = arg;
    bool due, asked;

    pthread_setname_np(pthread_self(), "indexer");
    while (keeper_wait(c, c->index_fd, INDEX_LAG_MS, &due)) {
        due = atomic_exchange(&c->index_due, false) || due;
        if (atomic_exchange(&c->log_due, false))
            log_take_ahead(c->log);
        if (!due)
            continue;
        asked = room_asked(c); /* else what is asked for from now on is the next run's to try */
        if (atomic_load(&c->last) > atomic_load(&c->applied_persisted) && index_checkpoint(c))
            committer_fatal(c,
                            "the index failed: %s; the commit log has everything, so start again",
                            index_error(c->conf.index));
        if (asked)
            room_tried(c);
    }
    return NULL;
}

int answered_write(struct committer *c)
{
    SCOPED_LOCK(&c->super_lock);
    struct super_state state = *slab_super(c->conf.slabs);
    int err;

    state.epoch = atomic_load(&c->epoch);
    state.answered = atomic_load(&c->last);
    FAILPOINT("super_before");
    err = slab_super_write(c->conf.slabs, &state);
    FAILPOINT("super_written");
    if (!err)
        atomic_store(&c->answered, state.answered);
    return err;
}

static void *keeper_main(void *arg)
{
    struct committer *c = arg;
    bool late;

    pthread_setname_np(pthread_self(), "superblocks");
    while (keeper_wait(c, c->answered_fd, -1, &late) &&
           keeper_wait(c, -1, ANSWERED_LAG_MS, &late)) {
        atomic_store(&c->answered_kicked, false);
        if (atomic_load(&c->answered) < atomic_load(&c->last) && answered_write(c))
            log_error("superblocks cannot be written: the bound of what was answered stays behind");
    }
    return NULL;
}

int keepers_open(struct committer *c)
{
    c->index_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->answered_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    c->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return c->index_fd < 0 || c->answered_fd < 0 || c->stop_fd < 0 ? -EMFILE : 0;
}

void keepers_close(struct committer *c)
{
    fd_close(&c->index_fd);
    fd_close(&c->answered_fd);
    fd_close(&c->stop_fd);
}

int keepers_run(struct committer *c)
{
    int err = pthread_create(&c->indexer, NULL, indexer_main, c);

    return err ? -err : -pthread_create(&c->keeper, NULL, keeper_main, c);
}

void keepers_stop(struct committer *c)
{
    kick(c->stop_fd);
    pthread_join(c->indexer, NULL);
    pthread_join(c->keeper, NULL);
}

void keepers_kick_index(struct committer *c)
{
    atomic_store(&c->index_due, true);
    kick(c->index_fd);
}

void keepers_kick_log(struct committer *c)
{
    atomic_store(&c->log_due, true);
    kick(c->index_fd);
}

void keepers_kick_answered(struct committer *c)
{
    if (!atomic_exchange(&c->answered_kicked, true))
        kick(c->answered_fd);
}
