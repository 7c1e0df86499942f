/* server/listener.c - struct server: its loop threads, the acceptor, opening and draining.
 *
 * Threads: main opens, drains and closes. The acceptor takes connections off both ports and hands
 * each to the loop with the least open work (connections + running exchanges), by a completion.
 * Everything about a connection then happens on that loop. What main wants of a loop (drain,
 * cancel, stop) is a completion too; the acceptor ends before the first of them, so they arrive
 * after every hand-off. */
#include "server/server.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/admin.h"
#include "server/http.h"
#include "server/metrics.h"

#define LOOPS_MAX             256u
#define BACKLOG               1024
#define ACCEPTS_PER_ROUND     64
#define CONNECTIONS_OVER_MAX  128u /* these get a 503; above, the connection is just closed */
#define ADMIN_CONNECTIONS_MAX 64u
#define OUT_OF_FILES_PAUSE_MS 100
#define DRAIN_LOOK_MS         5

/* What main posts to a loop, each at most once. */
enum loop_message { LOOP_DRAIN, LOOP_CANCEL, LOOP_END, LOOP_MESSAGES };

struct server_loop {
    struct http_loop http;
    struct server *server;
    pthread_t thread;
    bool running, stop;
    struct completion messages[LOOP_MESSAGES];
};

struct listener {
    int fd;
    uint16_t port;
    struct http_service *service;
};

struct server {
    struct server_conf conf;
    struct http_service data, admin;
    struct listener listeners[2]; /* data, admin (fd -1: none) */
    pthread_t acceptor;
    bool accepting, drained;
    int stop_fd;
    unsigned loop_count;
    struct server_loop *loops;
    pthread_mutex_t lock; /* of started and start_err */
    pthread_cond_t changed;
    unsigned started;
    int start_err;
};

/* ---- loop threads ---- */

static void on_drain(struct completion *done)
{
    http_loop_drain(&container_of(done, struct server_loop, messages[LOOP_DRAIN])->http);
}

static void on_cancel(struct completion *done)
{
    http_loop_cancel(&container_of(done, struct server_loop, messages[LOOP_CANCEL])->http);
}

static void on_end(struct completion *done)
{
    container_of(done, struct server_loop, messages[LOOP_END])->stop = true;
}

static void loop_started(struct server *server, int err)
{
    SCOPED_LOCK(&server->lock);
    server->started++;
    if (err)
        server->start_err = err;
    pthread_cond_signal(&server->changed);
}

static int loop_attach(struct server_loop *loop)
{
    const struct server_conf *conf = &loop->server->conf;
    int err = http_loop_open(&loop->http);

    if (err || !conf->attach)
        return err;
    err = conf->attach(conf->arg, &loop->http.ev.loop);
    if (err)
        http_loop_close(&loop->http);
    return err;
}

static void *loop_main(void *arg)
{
    struct server_loop *loop = arg;
    const struct server_conf *conf = &loop->server->conf;
    int err = loop_attach(loop);

    loop_started(loop->server, err);
    if (err)
        return NULL;
    while (!loop->stop || loop->http.ev.loop.held)
        evloop_turn(&loop->http.ev);
    if (conf->detach)
        conf->detach(conf->arg, &loop->http.ev.loop);
    http_loop_close(&loop->http);
    return NULL;
}

static int loops_wait(struct server *server, unsigned count)
{
    SCOPED_LOCK(&server->lock);
    while (server->started < count)
        pthread_cond_wait(&server->changed, &server->lock);
    return server->start_err;
}

/* One after the other: a loop that could not start never has messages posted to it. */
static int loops_start(struct server *server)
{
    for (unsigned i = 0; i < server->loop_count; i++) {
        struct server_loop *loop = &server->loops[i];
        char name[16];
        int err;

        loop->server = server;
        err = -pthread_create(&loop->thread, NULL, loop_main, loop);
        if (err)
            return err;
        snprintf(name, sizeof(name), "loop-%u", i);
        (void)pthread_setname_np(loop->thread, name); /* only for ps and perf */
        err = loops_wait(server, i + 1);
        if (err) {
            pthread_join(loop->thread, NULL);
            return err;
        }
        loop->running = true;
    }
    return 0;
}

/* ---- the acceptor ---- */

struct hand_off {
    struct completion done;
    struct server_loop *to;
    struct http_service *service;
    struct sockaddr_storage peer;
    int fd;
    bool refuse;
};

static void on_hand_off(struct completion *done)
{
    struct hand_off *h = container_of(done, struct hand_off, done);

    http_accept(&h->to->http, h->service, h->fd, &h->peer, h->refuse);
    free(h);
}

static struct server_loop *least_work(struct server *server)
{
    struct server_loop *best = &server->loops[0];

    for (unsigned i = 1; i < server->loop_count; i++)
        if (atomic_load_explicit(&server->loops[i].http.work, memory_order_relaxed) <
            atomic_load_explicit(&best->http.work, memory_order_relaxed))
            best = &server->loops[i];
    return best;
}

static void hand_off(struct server *server, struct http_service *service, int fd,
                     const struct sockaddr_storage *peer)
{
    unsigned open = atomic_fetch_add_explicit(&service->connections, 1, memory_order_relaxed) + 1;
    unsigned max = service->limits.connections_max;
    struct hand_off *h;

    STAT_INC(server_connections_accepted);
    if (open > max)
        STAT_INC(server_connections_refused);
    if (open > max + CONNECTIONS_OVER_MAX) {
        atomic_fetch_sub_explicit(&service->connections, 1, memory_order_relaxed);
        close(fd);
        return;
    }
    h = xmalloc(sizeof(*h));
    *h = (struct hand_off){.to = least_work(server),
                           .service = service,
                           .peer = *peer,
                           .fd = fd,
                           .refuse = open > max};
    h->done = (struct completion){.fn = on_hand_off, .loop = &h->to->http.ev.loop};
    atomic_fetch_add_explicit(&h->to->http.work, 1, memory_order_relaxed);
    completion_post(&h->done, 0);
}

/* 0: none left for now; else the errno that stopped it. */
static int accept_some(struct server *server, struct listener *listener)
{
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t len = sizeof(peer);
        int on = 1, fd = accept4(listener->fd, (struct sockaddr *)&peer, &len,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0)
            return errno == EAGAIN || errno == ECONNABORTED || errno == EINTR ? 0 : -errno;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* only latency */
        hand_off(server, listener->service, fd, &peer);
    }
    return 0;
}

static void *acceptor_main(void *arg)
{
    struct server *server = arg;
    struct pollfd fds[] = {{server->stop_fd, POLLIN, 0},
                           {server->listeners[0].fd, POLLIN, 0},
                           {server->listeners[1].fd, POLLIN, 0}};

    for (;;) {
        int err = 0;

        (void)poll(fds, countof(fds), -1); /* signals are blocked here: it cannot fail */
        if (fds[0].revents)
            return NULL;
        for (unsigned i = 0; i < 2; i++)
            if (fds[i + 1].revents)
                err = err ? err : accept_some(server, &server->listeners[i]);
        if (err) { /* out of descriptors or memory: the backlog holds them meanwhile */
            log_warn_limited("accept failed", KV_ERR(err));
            (void)poll(fds, 1, OUT_OF_FILES_PAUSE_MS);
        }
    }
}

static int acceptor_start(struct server *server)
{
    int err = -pthread_create(&server->acceptor, NULL, acceptor_main, server);

    server->accepting = !err;
    if (!err)
        (void)pthread_setname_np(server->acceptor, "acceptor"); /* only for ps and perf */
    return err;
}

static void acceptor_stop(struct server *server)
{
    uint64_t one = 1;

    if (!server->accepting)
        return;
    if (write(server->stop_fd, &one, sizeof(one)) < 0)
        abort(); /* a fresh eventfd has room for a 1 */
    pthread_join(server->acceptor, NULL);
    server->accepting = false;
    for (unsigned i = 0; i < 2; i++)
        fd_close(&server->listeners[i].fd);
}

/* ---- ports ---- */

/* "host:port", "[v6]:port" -> addresses; -EINVAL */
static int address_parse(const char *text, struct addrinfo **ret)
{
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
                                   .ai_socktype = SOCK_STREAM};
    _cleanup_(freep) char *host = xstrdup(text);
    char *port = strrchr(host, ':'), *name = host;

    if (!port)
        return -EINVAL;
    *port++ = 0;
    if (name[0] == '[' && port[-2] == ']') {
        port[-2] = 0;
        name++;
    }
    return getaddrinfo(*name ? name : NULL, port, &hints, ret) ? -EINVAL : 0;
}

static int port_bind(int fd, const struct addrinfo *address, uint16_t *ret_port)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound = {.v6 = {0}};
    socklen_t len = sizeof(bound);
    int on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
        bind(fd, address->ai_addr, address->ai_addrlen) || listen(fd, BACKLOG) ||
        getsockname(fd, &bound.any, &len))
        return -errno;
    *ret_port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
    return 0;
}

static int port_open(struct listener *listener, const char *text) /* server_close closes the port */
{
    struct addrinfo *address;
    int err = address_parse(text, &address);

    if (err)
        return err;
    listener->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    err = listener->fd < 0 ? -errno : port_bind(listener->fd, address, &listener->port);
    freeaddrinfo(address);
    return err;
}

static int ports_open(struct server *server, const char **why)
{
    int err = port_open(&server->listeners[0], server->conf.listen);

    *why = "cannot listen on the data address";
    if (err || !server->conf.admin)
        return err;
    *why = "cannot listen on the admin address";
    return port_open(&server->listeners[1], server->conf.admin);
}

/* ---- open, drain, close ---- */

static struct server_limits limits_or_defaults(struct server_limits l)
{
    return (struct server_limits){
        .connections_max = l.connections_max ? l.connections_max : 10000,
        .head_ms = l.head_ms ? l.head_ms : 10 * 1000,
        .body_idle_ms = l.body_idle_ms ? l.body_idle_ms : 60 * 1000,
        .write_stall_ms = l.write_stall_ms ? l.write_stall_ms : 60 * 1000,
        .keep_alive_ms = l.keep_alive_ms ? l.keep_alive_ms : 120 * 1000,
        .linger_ms = l.linger_ms ? l.linger_ms : 5 * 1000,
        .drain_bytes = l.drain_bytes ? l.drain_bytes : MIB(1),
        .linger_bytes = l.linger_bytes ? l.linger_bytes : MIB(64),
    };
}

static unsigned cores(void) /* that this process may use */
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static struct server *server_new(const struct server_conf *conf)
{
    struct server *server = xcalloc(1, sizeof(*server));

    server->conf = *conf;
    server->data.conf = server->admin.conf = &server->conf;
    server->data.start = conf->start;
    server->admin.start = admin_start;
    server->data.limits = server->admin.limits = limits_or_defaults(conf->limits);
    server->admin.limits.connections_max = ADMIN_CONNECTIONS_MAX;
    server->listeners[0] = (struct listener){.fd = -1, .service = &server->data};
    server->listeners[1] = (struct listener){.fd = -1, .service = &server->admin};
    server->stop_fd = -1;
    server->loop_count = MIN(conf->loops ? conf->loops : cores(), LOOPS_MAX);
    server->loops = xcalloc(server->loop_count, sizeof(server->loops[0]));
    pthread_mutex_init(&server->lock, NULL);
    pthread_cond_init(&server->changed, NULL);
    return server;
}

static int server_begin(struct server *server, const char **why)
{
    const struct server_conf *conf = &server->conf;
    int err = 0;

    if (conf->tls_cert)
        err = wire_tls_context(conf->tls_cert, conf->tls_key, &server->data.tls, why);
    if (!err)
        err = ports_open(server, why);
    if (err)
        return err;
    *why = "cannot start the loop threads";
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    err = server->stop_fd < 0 ? -errno : loops_start(server);
    return err ? err : acceptor_start(server);
}

static void wait_for_connections(struct server *server, uint64_t at_most_ns)
{
    uint64_t until = clock_mono_ns() + at_most_ns;

    while (atomic_load(&server->data.connections) + atomic_load(&server->admin.connections) &&
           (at_most_ns == UINT64_MAX || clock_mono_ns() < until))
        (void)poll(NULL, 0, DRAIN_LOOK_MS);
}

static void loops_tell(struct server *server, enum loop_message message)
{
    static void (*const fns[])(struct completion *) = {
        [LOOP_DRAIN] = on_drain, [LOOP_CANCEL] = on_cancel, [LOOP_END] = on_end};

    for (unsigned i = 0; i < server->loop_count; i++) {
        struct server_loop *loop = &server->loops[i];

        if (!loop->running)
            continue;
        loop->messages[message] =
            (struct completion){.fn = fns[message], .loop = &loop->http.ev.loop};
        completion_post(&loop->messages[message], 0);
    }
}

uint16_t server_port(const struct server *server)
{
    return server->listeners[0].port;
}

uint16_t server_admin_port(const struct server *server)
{
    return server->listeners[1].port;
}

void server_drain(struct server *server, uint64_t grace_ns)
{
    if (server->drained)
        return;
    server->drained = true;
    acceptor_stop(server);
    atomic_store(&server->data.draining, true);
    atomic_store(&server->admin.draining, true);
    loops_tell(server, LOOP_DRAIN);
    wait_for_connections(server, grace_ns);
    loops_tell(server, LOOP_CANCEL);
    wait_for_connections(server, UINT64_MAX);
}

struct server *server_close(struct server *server)
{
    if (!server)
        return NULL;
    server_drain(server, 0);
    loops_tell(server, LOOP_END);
    for (unsigned i = 0; i < server->loop_count; i++)
        if (server->loops[i].running)
            pthread_join(server->loops[i].thread, NULL);
    for (unsigned i = 0; i < 2; i++)
        fd_close(&server->listeners[i].fd);
    fd_close(&server->stop_fd);
    SSL_CTX_free(server->data.tls);
    pthread_cond_destroy(&server->changed);
    pthread_mutex_destroy(&server->lock);
    free(server->loops);
    free(server);
    return NULL;
}

int server_open(const struct server_conf *conf, struct server **ret, const char **why)
{
    struct server *server = server_new(conf);
    sigset_t all, before;
    int err;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    err = server_begin(server, why);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) {
        server_close(server);
        return err;
    }
    *ret = server;
    return 0;
}
