/* base/loop_poll.c - a loop over poll(2): tests, tools, simple threads. */
#include "base/loop.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#define WATCHES_MAX 64

struct watch {
    int fd;
    void (*fn)(void *arg);
    void *arg;
};

struct loop_poll {
    struct loop loop;
    int wake_fd;
    struct watch watches[WATCHES_MAX];
    unsigned watch_count;
};

static void poll_wake(struct loop *loop)
{
    struct loop_poll *self = container_of(loop, struct loop_poll, loop);

    (void)eventfd_write(self->wake_fd, 1); /* only fails when the counter is full: awake anyway */
}

static void poll_watch(struct loop *loop, int fd, void (*fn)(void *arg), void *arg)
{
    struct loop_poll *self = container_of(loop, struct loop_poll, loop);

    assert(self->watch_count < WATCHES_MAX);
    self->watches[self->watch_count++] = (struct watch){fd, fn, arg};
}

static void poll_unwatch(struct loop *loop, int fd)
{
    struct loop_poll *self = container_of(loop, struct loop_poll, loop);

    for (unsigned i = 0; i < self->watch_count; i++)
        if (self->watches[i].fd == fd) {
            self->watches[i] = self->watches[--self->watch_count];
            return;
        }
}

static const struct loop_ops poll_ops = {poll_wake, poll_watch, poll_unwatch};

static void awaited_fire(struct completion *done)
{
    container_of(done, struct awaited, done)->fired = true;
}

struct loop_poll *loop_poll_new(void)
{
    struct loop_poll *self = xcalloc(1, sizeof(*self));

    loop_init(&self->loop, &poll_ops);
    self->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(self->wake_fd >= 0);
    return self;
}

struct loop_poll *loop_poll_free(struct loop_poll *self)
{
    if (!self)
        return NULL;
    loop_done(&self->loop);
    close(self->wake_fd);
    free(self);
    return NULL;
}

struct loop *loop_poll_loop(struct loop_poll *self)
{
    return &self->loop;
}

void loop_poll_once(struct loop_poll *self, int max_ms)
{
    struct pollfd fds[WATCHES_MAX + 1] = {{.fd = self->wake_fd, .events = POLLIN}};
    struct watch watches[WATCHES_MAX];
    eventfd_t ignored;
    unsigned n;

    if (loop_run_ready(&self->loop))
        max_ms = 0; /* what the caller waits for may have just happened */
    n = self->watch_count;
    for (unsigned i = 0; i < n; i++) {
        watches[i] = self->watches[i];
        fds[i + 1] = (struct pollfd){.fd = watches[i].fd, .events = POLLIN};
    }
    if (poll(fds, n + 1, loop_timeout_ms(&self->loop, max_ms)) > 0) {
        if (fds[0].revents)
            (void)eventfd_read(self->wake_fd, &ignored); /* EAGAIN: somebody else's wake, fine */
        for (unsigned i = 0; i < n; i++)
            if (fds[i + 1].revents)
                watches[i].fn(watches[i].arg);
    }
    loop_run_ready(&self->loop);
}

void loop_poll_until(struct loop_poll *self, const bool *finished)
{
    while (!*(volatile const bool *)finished)
        loop_poll_once(self, 1000);
}

struct completion *awaited_init(struct awaited *awaited, struct loop *loop)
{
    *awaited = (struct awaited){.done = {.fn = awaited_fire, .loop = loop}};
    return &awaited->done;
}

int loop_await(struct loop_poll *self, struct awaited *awaited)
{
    loop_poll_until(self, &awaited->fired);
    return awaited->done.err;
}
