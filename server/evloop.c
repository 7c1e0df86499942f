/* server/evloop.c - see evloop.h. h2o's own timeouts are not used: they follow the wall clock,
 * which may step; base's timers do not. */
#include "server/evloop.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "base/util.h"

#define SLEEP_MAX_MS 10000

struct evloop_watch {
    struct evloop_watch *next;
    h2o_socket_t *sock;
    int fd;
    void (*fn)(void *arg);
    void *arg;
};

static void on_watch(h2o_socket_t *sock, const char *err)
{
    struct evloop_watch *watch = sock->data;

    watch->fn(watch->arg);
}

static void evloop_watch(struct loop *loop, int fd, void (*fn)(void *arg), void *arg)
{
    struct evloop *ev = container_of(loop, struct evloop, loop);
    struct evloop_watch *watch = xcalloc(1, sizeof(*watch));

    *watch = (struct evloop_watch){.next = ev->watches, .fd = fd, .fn = fn, .arg = arg};
    ev->watches = watch;
    watch->sock = h2o_evloop_socket_create(ev->h2o, fd, H2O_SOCKET_FLAG_DONT_READ);
    watch->sock->data = watch;
    h2o_socket_read_start(watch->sock, on_watch);
}

/* h2o closes what it owns, and the descriptor is not ours: export takes it back. */
static void watch_free(struct evloop_watch *watch)
{
    h2o_socket_export_t back;

    h2o_socket_read_stop(watch->sock);
    if (h2o_socket_export(watch->sock, &back) == 0)
        h2o_buffer_dispose(&back.input);
    free(watch);
}

static void evloop_unwatch(struct loop *loop, int fd)
{
    struct evloop *ev = container_of(loop, struct evloop, loop);

    for (struct evloop_watch **at = &ev->watches; *at; at = &(*at)->next) {
        struct evloop_watch *watch = *at;

        if (watch->fd != fd)
            continue;
        *at = watch->next;
        watch_free(watch);
        return;
    }
}

static void evloop_wake(struct loop *loop)
{
    struct evloop *ev = container_of(loop, struct evloop, loop);
    uint64_t one = 1;

    if (write(ev->wake_fd, &one, sizeof(one)) < 0)
        assert(errno == EAGAIN); /* the counter is full: it is awake */
}

static void on_wake(void *arg)
{
    struct evloop *ev = arg;
    uint64_t count;

    if (read(ev->wake_fd, &count, sizeof(count)) < 0)
        assert(errno == EAGAIN);
}

static const struct loop_ops evloop_ops = {
    .wake = evloop_wake, .watch = evloop_watch, .unwatch = evloop_unwatch};

void evloop_turn(struct evloop *ev)
{
    ev->turn++;
    (void)h2o_evloop_run(ev->h2o, loop_timeout_ms(&ev->loop, SLEEP_MAX_MS)); /* -1: a signal */
    loop_run_ready(&ev->loop); /* last, so that the caller sees a stop before the next sleep */
}

int evloop_open(struct evloop *ev)
{
    *ev = (struct evloop){.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (ev->wake_fd < 0)
        return -errno;
    ev->h2o = h2o_evloop_create();
    loop_init(&ev->loop, &evloop_ops);
    loop_enter(&ev->loop);
    evloop_watch(&ev->loop, ev->wake_fd, on_wake, ev);
    return 0;
}

void evloop_close(struct evloop *ev)
{
    evloop_unwatch(&ev->loop, ev->wake_fd);
    assert(!ev->watches);
    loop_run_ready(&ev->loop);
    (void)h2o_evloop_run(ev->h2o, 0); /* frees the sockets closed last */
    h2o_evloop_destroy(ev->h2o);
    close(ev->wake_fd);
    loop_enter(NULL);
    loop_done(&ev->loop);
}
