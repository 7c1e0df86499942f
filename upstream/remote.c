/* upstream/remote.c - which requests of an account run now, and what their ends say of the WAN. */
#include "upstream/remote.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "upstream/metrics.h"

static void endpoint_split(struct remote *remote)
{
    struct span all = remote->account->upstream.endpoint;
    const char *host = all.len ? memmem(all.base, all.len, "://", 3) : NULL;
    const char *end = all.base + all.len, *slash;

    host = host ? host + 3 : all.base;
    slash = host < end ? memchr(host, '/', (size_t)(end - host)) : NULL;
    if (!slash)
        slash = end;
    remote->origin = span_from(all.base, (size_t)(slash - all.base));
    remote->base = span_from(slash, (size_t)(end - slash));
}

struct remote *remote_new(const struct account *account, struct client *client,
                          const struct remote_conf *conf)
{
    struct remote *remote = xcalloc(1, sizeof(*remote));

    remote->account = account;
    remote->client = client;
    remote->conf = *conf;
    if (!remote->conf.connections)
        remote->conf.connections = REMOTE_CONNECTIONS_DEF;
    remote->conf.connections =
        MAX(remote->conf.connections, MAX(REMOTE_READS_RESERVED, REMOTE_UPLOADS_RESERVED) + 1);
    if (!remote->conf.connect_timeout_ms)
        remote->conf.connect_timeout_ms = CONNECT_TIMEOUT_DEF_MS;
    if (!remote->conf.stall_timeout_ms)
        remote->conf.stall_timeout_ms = STALL_TIMEOUT_DEF_MS;
    remote->credential = credential_new(account);
    for (unsigned i = 0; i < WAN_PRIORITIES; i++)
        remote->waiting[i].tail = &remote->waiting[i].head;
    if (account->upstream.ca_file.len)
        remote->ca_file = xasprintf("%.*s", SPAN_FMT(account->upstream.ca_file));
    endpoint_split(remote);
    atomic_store(&remote->stats.online, true);
    return remote;
}

struct remote *remote_new_external(struct span origin, struct client *client,
                                   const struct remote_conf *conf, const struct copy_policy *policy)
{
    struct account *own = xcalloc(1, sizeof(*own));
    struct remote *remote;

    own->name = own->upstream.endpoint = span_of(xasprintf("%.*s", SPAN_FMT(origin)));
    own->upstream.auth = UPSTREAM_SAS;
    own->upstream.sas = SPAN("");
    remote = remote_new(own, client, conf);
    remote->own = own;
    remote->policy = policy;
    return remote;
}

struct remote *remote_free(struct remote *remote)
{
    if (!remote)
        return NULL;
    assert(!remote->running_count);
    credential_free(remote->credential);
    free(remote->ca_file);
    if (remote->own)
        free((char *)remote->own->name.base);
    free(remote->own);
    free(remote);
    return NULL;
}

static void waiting_add(struct remote *remote, struct wan *request)
{
    request->next = NULL;
    *remote->waiting[request->priority].tail = request;
    remote->waiting[request->priority].tail = &request->next;
    remote->waiting[request->priority].count++;
}

static struct wan *waiting_take(struct remote *remote, enum wan_priority priority)
{
    struct wan *request = remote->waiting[priority].head;

    remote->waiting[priority].head = request->next;
    if (!request->next)
        remote->waiting[priority].tail = &remote->waiting[priority].head;
    remote->waiting[priority].count--;
    return request;
}

void remote_forget(struct remote *remote, struct wan *request)
{
    struct wan **at = &remote->waiting[request->priority].head;

    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
    if (!request->next)
        remote->waiting[request->priority].tail = at;
    remote->waiting[request->priority].count--;
}

static void running_remove(struct remote *remote, struct wan *request)
{
    struct wan **at = &remote->running;

    while (*at != request)
        at = &(*at)->next;
    *at = request->next;
    remote->running_count--;
    remote->running_uploads -= request->priority == WAN_UPLOAD;
}

static void run(struct remote *remote, struct wan *request)
{
    if (!breaker_admit(&remote->breaker)) {
        snprintf(request->failure, sizeof(request->failure),
                 "no connection to the cloud for a while");
        wan_end(request, -EHOSTUNREACH);
        return;
    }
    request->state = WAN_RUNNING;
    request->next = remote->running;
    remote->running = request;
    remote->running_count++;
    remote->running_uploads += request->priority == WAN_UPLOAD;
    wan_send(request);
}

static bool may_run(const struct remote *remote, enum wan_priority priority)
{
    if (!remote->waiting[priority].count || remote->running_count >= remote->conf.connections)
        return false;
    if (priority == WAN_UPLOAD)
        return remote->running_uploads < remote->conf.connections - REMOTE_READS_RESERVED;
    return remote->running_count - remote->running_uploads <
           remote->conf.connections - REMOTE_UPLOADS_RESERVED;
}

static void remote_pump(struct remote *remote)
{
    for (unsigned p = 0; p < WAN_PRIORITIES; p++)
        while (may_run(remote, p))
            run(remote, waiting_take(remote, p));
}

void remote_queue(struct remote *remote, struct wan *request)
{
    if (remote->waiting[request->priority].count == WAN_WAITING_MAX) {
        wan_end(request, -EBUSY);
        return;
    }
    waiting_add(remote, request);
    remote_pump(remote);
}

bool is_wan_failure(int err)
{
    return err == -EHOSTUNREACH || err == -ETIMEDOUT || err == -ECONNRESET;
}

static void breaker_told(struct remote *remote, const struct wan *request, int err)
{
    bool was_closed = remote->breaker.state == BREAKER_CLOSED;

    if (request->head_done) /* an answer's head came: somebody is there, however the body went */
        breaker_answered(&remote->breaker);
    else if (is_wan_failure(err))
        breaker_failed(&remote->breaker);
    else
        breaker_abandoned(&remote->breaker);
    atomic_store(&remote->stats.online, remote->breaker.state == BREAKER_CLOSED);
    if (was_closed == (remote->breaker.state == BREAKER_CLOSED))
        return;
    if (was_closed && remote->breaker.state == BREAKER_OPEN) {
        remote->lost_ns = clock_mono_ns();
        log_warn("the cloud does not answer", KV_SPAN("account", remote->account->name),
                 KV_STR("why", request->failure));
        STAT_GAUGE_ADD(upstream_breakers_open, 1);
    } else if (remote->breaker.state == BREAKER_CLOSED) {
        log_info("the cloud answers again", KV_SPAN("account", remote->account->name));
        STAT_GAUGE_ADD(upstream_breakers_open, -1);
        if (remote->on_online)
            remote->on_online(remote->on_online_arg);
    }
}

static void count_end(struct remote *remote, const struct wan *request, int err)
{
    int class = request->answer.status / 100;

    STAT_OBSERVE(upstream_request_seconds, clock_mono_ns() - request->started_ns);
    if (err)
        STAT_INC(upstream_answers_none);
    else if (class == 5 || request->answer.status == 429)
        STAT_INC(upstream_answers_5xx);
    else if (class == 4)
        STAT_INC(upstream_answers_4xx);
    else
        STAT_INC(upstream_answers_ok);
    if (err || class == 5)
        atomic_fetch_add_explicit(&remote->stats.errors, 1, memory_order_relaxed);
}

/* A post of ours may start the next request only after this one is out of the way: pump last. */
void remote_ended(struct remote *remote, struct wan *request, int err)
{
    if (request->state != WAN_RUNNING)
        return;
    running_remove(remote, request);
    count_end(remote, request, err);
    breaker_told(remote, request, err);
    remote_pump(remote);
}

void remote_lower_check(struct remote *remote, enum range_check asked)
{
    static const char *const names[] = {"CRC64", "MD5", "length and ETag"};

    if (remote->range_check != asked || asked == RANGE_LENGTH)
        return; /* others asked in parallel and have lowered it already */
    remote->range_check++;
    log_info("fetched ranges are proved less well than asked for",
             KV_SPAN("account", remote->account->name), KV_STR("asked", names[asked]),
             KV_STR("now", names[remote->range_check]));
}

void remote_cancel_all(struct remote *remote) /* waiting ones first: an end lets the next one run */
{
    for (unsigned p = 0; p < WAN_PRIORITIES; p++)
        while (remote->waiting[p].head)
            wan_cancel(remote->waiting[p].head);
    while (remote->running)
        wan_cancel(remote->running);
}
