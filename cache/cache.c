/* cache/cache.c - opens and closes the parts of the engine in order; stats. Main thread, blocks.
 *
 * Start: index -> devices, bound to it -> log: chain, tail, replay -> what is in use, tables in
 * memory -> space is served -> cut record, threads -> background work. Close goes the other way;
 * whoever calls it has stopped the loops. */
#include "cache/accounts.h"
#include "cache/ask.h"
#include "cache/check.h"
#include "cache/content.h"
#include "cache/doubt.h"
#include "cache/names.h"
#include "cache/order.h"
#include "cache/stage.h"
#include "cache/uploads.h"
#include "cache/verify.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

/* ---- work that nobody waits for ---- */

struct cache_job {
    struct cache *cache;
    int (*fn)(void *arg);
    void *arg;
};

static int job_run(void *arg)
{
    struct cache_job *job = arg;
    struct cache *cache = job->cache;

    job->fn(job->arg);
    free(job);
    pthread_mutex_lock(&cache->jobs_lock);
    if (--cache->jobs == 0)
        pthread_cond_broadcast(&cache->jobs_done);
    pthread_mutex_unlock(&cache->jobs_lock);
    return 0;
}

void cache_run(struct cache *cache, int (*fn)(void *arg), void *arg)
{
    struct cache_job *job = xmalloc(sizeof(*job));

    *job = (struct cache_job){cache, fn, arg};
    pthread_mutex_lock(&cache->jobs_lock);
    cache->jobs++;
    pthread_mutex_unlock(&cache->jobs_lock);
    worker_run(cache->workers, job_run, job, NULL);
}

static void jobs_end(struct cache *cache)
{
    atomic_store(&cache->closing, true);
    pthread_mutex_lock(&cache->jobs_lock);
    while (cache->jobs)
        pthread_cond_wait(&cache->jobs_done, &cache->jobs_lock);
    pthread_mutex_unlock(&cache->jobs_lock);
}

/* ---- open ---- */

static const struct io_ops *io_of(const struct cache_conf *conf)
{
    if (conf->io_ops)
        return conf->io_ops;
    switch (conf->io) {
    case CACHE_IO_URING:
        return &io_uring_ops;
    case CACHE_IO_BLOCKING:
        return &io_blocking_ops;
    case CACHE_IO_AUTO:
        break;
    }
    return io_ops_auto();
}

static char *data_path(const struct cache *cache, const char *name)
{
    return xasprintf("%.*s/%s", SPAN_FMT(cache->conf.data), name);
}

static int open_index(struct cache *cache, char **why)
{
    _cleanup_(freep) char *folder = xasprintf("%.*s", SPAN_FMT(cache->conf.data));
    _cleanup_(freep) char *path = data_path(cache, "index");
    struct index_conf conf = {.path = path, .cache_bytes = cache->conf.index_cache_bytes};

    if (mkdir(folder, 0700) < 0 && errno != EEXIST) {
        int err = -errno;

        *why = xasprintf("the data folder %s cannot be made: %s", folder, strerror(-err));
        return err;
    }
    if (cache->conf.format_discard) {
        int err = index_discard(path, why);

        if (err)
            return err;
    }
    return index_open(&conf, &cache->index, why);
}

static int open_slabs(struct cache *cache, bool read_only, char **why)
{
    struct slab_conf conf = {
        .devices = cache->conf.devices,
        .device_count = cache->conf.device_count,
        .io_ops = io_of(&cache->conf),
        .format_discard = cache->conf.format_discard,
        .read_only = read_only,
        .workers = cache->workers,
    };

    index_uuid(cache->index, conf.index_uuid);
    return slab_store_open(&conf, &cache->slabs, why);
}

static struct committer_conf log_conf(struct cache *cache, struct verify *verify)
{
    return (struct committer_conf){
        .slabs = cache->slabs,
        .index = cache->index,
        .check_bytes = verify_entry,
        .check_arg = verify,
        .fatal = cache->conf.fatal,
        .fatal_arg = cache->conf.fatal_arg,
    };
}

static int open_log(struct cache *cache, char **why)
{
    struct verify *verify = verify_new(cache);
    struct committer_conf conf = log_conf(cache, verify);
    int err = committer_open(&conf, &cache->committer, why);

    verify_free(verify);
    return err;
}

static int load_tick(struct cache *cache)
{
    struct index_value value;
    uint64_t tick = 0;
    int err = index_get(cache->index, NULL, FAM_META, META_TICK, &value);

    if (!err) {
        err = meta_u64_decode(value.bytes, &tick);
        index_value_done(&value);
    }
    if (err && err != -ENOENT)
        return err;
    atomic_store(&cache->tick, tick);
    atomic_store(&cache->tick_durable, tick);
    return 0;
}

static int load_tables(struct cache *cache, char **why)
{
    int err = content_open(cache, &cache->content);

    if (!err)
        err = content_load(cache);
    if (!err)
        err = load_tick(cache);
    if (!err)
        err = names_open(cache);
    if (!err)
        err = orders_open(cache);
    if (!err)
        err = asks_open(cache);
    if (!err)
        err = containers_open(cache);
    if (!err)
        err = services_open(cache);
    if (!err)
        err = doubts_open(cache);
    if (!err)
        err = stages_open(cache);
    if (!err)
        err = accounts_judge(cache, why);
    if (!err)
        err = uploads_open(cache);
    if (!err)
        leases_open(cache); /* the periods of leases begin when everything else is there */
    return err;
}

/* What is durable, in memory; nothing runs yet and nothing was written to the devices. */
static int load(struct cache *cache, char **why)
{
    int err = open_log(cache, why);

    if (err)
        return err;
    err = load_tables(cache, why);
    if (err && !*why)
        *why = xasprintf("the index cannot be read: %s (%s)", strerror(-err),
                         index_error(cache->index));
    return err;
}

static int serve(struct cache *cache, char **why)
{
    int err;

    slab_store_serve(cache->slabs);
    err = committer_serve(cache->committer, why);
    if (err)
        return err;
    cache->serving = true;
    keeper_on_tick(cache->content->keeper, stages_sweep);
    err = accounts_bind(cache);
    if (!err)
        err = content_start(cache);
    if (err) {
        *why = xasprintf("background work cannot start: %s", strerror(-err));
        return err;
    }
    uploads_start(cache);
    return 0;
}

static struct cache *cache_new(const struct cache_conf *conf)
{
    struct cache *cache = xcalloc(1, sizeof(*cache));

    cache->conf = *conf;
    cache->workers = conf->workers;
    pthread_mutex_init(&cache->jobs_lock, NULL);
    pthread_cond_init(&cache->jobs_done, NULL);
    return cache;
}

int cache_open(const struct cache_conf *conf, struct cache **ret, char **why)
{
    struct cache *cache = cache_new(conf);
    int err;

    *why = NULL;
    err = open_index(cache, why);
    if (!err)
        err = open_slabs(cache, false, why);
    if (!err)
        err = load(cache, why);
    if (!err)
        err = serve(cache, why);
    if (err) {
        if (!*why)
            *why = xasprintf("%s", strerror(-err));
        cache_close(cache);
        return err;
    }
    *ret = cache;
    return 0;
}

struct cache *cache_close(struct cache *cache)
{
    bool clean;

    if (!cache)
        return NULL;
    jobs_end(cache);
    if (cache->content)
        content_stop(cache);
    clean = cache->serving && !committer_stats(cache->committer).dead;
    cache->committer = committer_close(cache->committer);
    uploads_close(cache);
    doubts_close(cache);
    stages_close(cache);
    orders_close(cache);
    names_close(cache);
    containers_close(cache);
    leases_close(cache);
    services_close(cache);
    asks_close(cache);
    cache->content = content_close(cache->content);
    cache->index = index_close(cache->index);
    if (cache->slabs)
        slab_store_close(cache->slabs, clean);
    pthread_mutex_destroy(&cache->jobs_lock);
    pthread_cond_destroy(&cache->jobs_done);
    free(cache);
    return NULL;
}

/* ---- hearth check ---- */

/* The log is replayed before the index is looked at: into a copy, so that the box's own stays as it
 * is. Tables are linked, not copied. */
static int open_index_copy(struct cache *cache, const char *path, char **why)
{
    _cleanup_(freep) char *index = data_path(cache, "index");
    struct index_conf conf = {.path = path, .cache_bytes = cache->conf.index_cache_bytes};
    int err = index_discard(path, why); /* of a check that was killed */

    if (!err)
        err = index_copy(index, path, why);
    return err ? err : index_open(&conf, &cache->index, why);
}

static int check_log(struct cache *cache, void (*report)(void *arg, const char *line), void *arg)
{
    struct verify *verify = verify_new(cache);
    struct committer_conf conf = log_conf(cache, verify);
    int findings = committer_check(&conf, report, arg);

    verify_free(verify);
    return findings;
}

int cache_check(const struct cache_conf *conf, void (*report)(void *arg, const char *line),
                void *arg)
{
    struct cache *cache = cache_new(conf);
    _cleanup_(freep) char *copy = data_path(cache, "check");
    _cleanup_(freep) char *why = NULL, *left = NULL;
    int findings = 0, err;

    cache->conf.format_discard = false;
    err = open_index_copy(cache, copy, &why);
    if (!err)
        err = open_slabs(cache, true, &why);
    if (!err)
        err = findings = check_log(cache, report, arg);
    if (err >= 0)
        err = load(cache, &why);
    if (!err) {
        err = check_walk(cache, report, arg);
        findings += MAX(err, 0);
    }
    if (err < 0)
        report(arg, why ? why : strerror(-err));
    cache_close(cache);
    if (index_discard(copy, &left) < 0)
        report(arg, left);
    return err < 0 ? err : findings;
}

int cache_attach_loop(struct cache *cache, struct loop *loop)
{
    const struct io_ops *ops = slab_io_ops(cache->slabs);

    return ops->attach ? ops->attach(ops, loop) : 0;
}

void cache_detach_loop(struct cache *cache, struct loop *loop)
{
    const struct io_ops *ops = slab_io_ops(cache->slabs);

    if (ops->detach)
        ops->detach(ops, loop);
}

void cache_box_uuid(const struct cache *cache, uint64_t ret[2])
{
    memcpy(ret, slab_super(cache->slabs)->box_uuid, 2 * sizeof(uint64_t));
}

struct cache_stats cache_stats(struct cache *cache)
{
    struct slab_space space = slab_space(cache->slabs);
    struct content_stats content = content_stats(cache);
    struct committer_stats log = committer_stats(cache->committer);
    struct uploads_stats uploads = uploads_stats(cache);

    return (struct cache_stats){
        .device_bytes = space.bytes,
        .free_bytes = space.free_bytes,
        .clean_bytes = content.clean_bytes,
        .dirty_bytes = content.dirty_bytes,
        .staged_bytes = content.staged_bytes,
        .sole_bytes = content.sole_bytes,
        .uploads_waiting = uploads.waiting,
        .uploads_in_flight = uploads.flying,
        .uploads_held = uploads.held,
        .oldest_upload_ns = uploads.oldest_ns,
        .commits = log.commits,
        .applied = log.applied_persisted,
        .log_bytes = log.log_bytes,
        .read_only = log.fenced || log.dead,
    };
}
