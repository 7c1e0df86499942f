/* upstream/upstream.c - the upstream thread: start, rounds, stop. */
#include "upstream/internal.h"

#include "base/clock.h"
#include "base/log.h"

#define ROUND_MS_MAX     200
#define CLOSE_ROUND_MS   10
#define CONNECTIONS_KEPT 128

struct remote *upstream_remote(struct upstream *upstream, uint32_t account)
{
    for (unsigned i = 0; i < upstream->conf.accounts->count; i++)
        if (upstream->conf.accounts->at[i].id == account)
            return upstream->remotes[i];
    return NULL;
}

static void remotes_cancel(struct upstream *upstream)
{
    for (unsigned i = 0; i < upstream->conf.accounts->count; i++)
        if (upstream->remotes[i])
            remote_cancel_all(upstream->remotes[i]);
    for (unsigned i = 0; i < UPSTREAM_ORIGINS_MAX; i++)
        if (upstream->origins[i].remote)
            remote_cancel_all(upstream->origins[i].remote);
}

static void pumps_wake(struct completion *wake)
{
    struct upstream *upstream = container_of(wake, struct upstream, wake);

    atomic_store(&upstream->waking, false); /* before the look: what comes later wakes again */
    for (unsigned i = 0; i < upstream->conf.accounts->count; i++)
        if (upstream->pumps[i])
            pump_wake(upstream->pumps[i]);
}

static void uploads_ready(void *arg) /* any thread */
{
    struct upstream *upstream = arg;

    if (!atomic_exchange(&upstream->waking, true))
        completion_post(&upstream->wake, 0);
}

static void pumps_stop(struct upstream *upstream)
{
    for (unsigned i = 0; i < upstream->conf.accounts->count; i++)
        if (upstream->pumps[i])
            pump_stop(upstream->pumps[i]);
}

/* What runs may end within the grace; then requests are cancelled and their ops end by that. What
 * they were about is in the cache's queue, or asked for again. */
static void upstream_wind_down(struct upstream *upstream)
{
    uint64_t deadline = clock_mono_ns() + atomic_load(&upstream->grace_ns);

    upstream->stopping = true;
    cache_uploads_watch(upstream->conf.cache, NULL, NULL);
    pumps_stop(upstream);
    client_round(upstream->client, 0); /* calls on their way to us are answered */
    while (upstream->active && clock_mono_ns() < deadline)
        client_round(upstream->client, CLOSE_ROUND_MS);
    while (upstream->active) {
        remotes_cancel(upstream);
        client_round(upstream->client, CLOSE_ROUND_MS);
    }
}

static void *upstream_main(void *arg)
{
    struct upstream *upstream = arg;
    struct loop *loop = client_loop(upstream->client);
    int err;

    pthread_setname_np(pthread_self(), "upstream");
    loop_enter(loop);
    err = cache_attach_loop(upstream->conf.cache, loop);
    upstream->start_err = err;
    sem_post(&upstream->started);
    if (!err) {
        cache_uploads_watch(upstream->conf.cache, uploads_ready, upstream);
        uploads_ready(upstream); /* what waited through the restart */
        while (!atomic_load(&upstream->stop))
            client_round(upstream->client, ROUND_MS_MAX);
        upstream_wind_down(upstream);
        while (loop->held) /* readers closed with device reads under way (cache_detach_loop) */
            client_round(upstream->client, ROUND_MS_MAX);
        loop_run_ready(loop);
        cache_detach_loop(upstream->conf.cache, loop);
    }
    loop_enter(NULL);
    return NULL;
}

static struct upstream *upstream_free(struct upstream *upstream)
{
    for (unsigned i = 0; i < upstream->conf.accounts->count; i++) {
        pump_free(upstream->pumps[i]);
        remote_free(upstream->remotes[i]);
    }
    for (unsigned i = 0; i < UPSTREAM_ORIGINS_MAX; i++)
        remote_free(upstream->origins[i].remote);
    free(upstream->pumps);
    free(upstream->remotes);
    markers_free(upstream->markers);
    buffers_free(upstream->buffers);
    client_free(upstream->client);
    free(upstream);
    return NULL;
}

static void remotes_new(struct upstream *upstream)
{
    const struct remote_conf conf = {
        .connections = upstream->conf.connections,
        .connect_timeout_ms = upstream->conf.connect_timeout_ms,
        .stall_timeout_ms = upstream->conf.stall_timeout_ms,
    };

    for (unsigned i = 0; i < upstream->conf.accounts->count; i++) {
        const struct account *account = &upstream->conf.accounts->at[i];

        if (account_is_local(account))
            continue;
        upstream->remotes[i] = remote_new(account, upstream->client, &conf);
        upstream->remotes[i]->upstream = upstream;
        upstream->pumps[i] = pump_new(upstream, upstream->remotes[i]);
    }
}

uint64_t upstream_memory(const struct accounts *accounts)
{
    uint64_t remotes = 0;

    for (unsigned i = 0; i < accounts->count; i++)
        remotes += !account_is_local(&accounts->at[i]);
    return remotes ? UPLOAD_BUFFERS_LARGE * BLOCK_BYTES_DEF +
                         (uint64_t)UPLOAD_BUFFERS_SMALL * UPLOAD_SMALL_BYTES +
                         remotes * REMOTE_CONNECTIONS_DEF * 2 * CURL_BUFFER_BYTES
                   : 0;
}

int upstream_open_all(const struct upstream_conf *conf, struct upstream **ret)
{
    struct upstream *upstream = xcalloc(1, sizeof(*upstream));

    upstream->conf = *conf;
    sem_init(&upstream->started, 0, 0);
    if (!upstream->conf.block_bytes)
        upstream->conf.block_bytes = BLOCK_BYTES_DEF;
    upstream->conf.block_bytes = MAX(upstream->conf.block_bytes, BLOCK_BYTES_MIN);
    upstream->remotes = xcalloc(conf->accounts->count, sizeof(*upstream->remotes));
    upstream->pumps = xcalloc(conf->accounts->count, sizeof(*upstream->pumps));
    upstream->markers = markers_new();
    upstream->client = client_new(CONNECTIONS_KEPT);
    if (!upstream->client) {
        upstream_free(upstream);
        return -EIO;
    }
    upstream->buffers = buffers_new(upstream->conf.block_bytes);
    upstream->wake = (struct completion){.fn = pumps_wake, .loop = client_loop(upstream->client)};
    remotes_new(upstream);
    if (pthread_create(&upstream->thread, NULL, upstream_main, upstream)) {
        upstream_free(upstream);
        return -EAGAIN;
    }
    sem_wait(&upstream->started);
    if (upstream->start_err) {
        int err = upstream->start_err;

        pthread_join(upstream->thread, NULL);
        upstream_free(upstream);
        return err;
    }
    *ret = upstream;
    return 0;
}

void upstream_stop(struct upstream *upstream, uint64_t grace_ns)
{
    if (atomic_load(&upstream->stop))
        return;
    atomic_store(&upstream->grace_ns, grace_ns);
    atomic_store(&upstream->stop, true);
    client_loop(upstream->client)->ops->wake(client_loop(upstream->client));
    pthread_join(upstream->thread, NULL);
}

struct upstream *upstream_close(struct upstream *upstream, uint64_t grace_ns)
{
    struct loop *caller = loop_current();

    if (!upstream)
        return NULL;
    upstream_stop(upstream, grace_ns);
    loop_enter(client_loop(upstream->client)); /* copy sources closed after the thread had gone */
    loop_run_ready(client_loop(upstream->client));
    loop_enter(caller);
    return upstream_free(upstream);
}

struct upstream_stats upstream_stats(struct upstream *upstream, uint32_t account)
{
    struct remote *remote = upstream_remote(upstream, account);

    if (!remote)
        return (struct upstream_stats){.online = true};
    return (struct upstream_stats){
        .online = atomic_load(&remote->stats.online),
        .requests = atomic_load(&remote->stats.requests),
        .errors = atomic_load(&remote->stats.errors),
        .bytes_in = atomic_load(&remote->stats.bytes_in),
        .bytes_out = atomic_load(&remote->stats.bytes_out),
        .retries = atomic_load(&remote->stats.retries),
    };
}
