/* cache/io_uring.c - io.h by one io_uring per loop; the loop watches the ring's eventfd.
 *
 * What a round of the loop submits is gathered and sent by one system call before it sleeps
 * (ring_submit is a loop hook). At most RING_IN_FLIGHT_MAX requests are in the kernel per loop;
 * more wait in order in `waiting`: the completion ring can then never overflow, and callers bound
 * how many they start. Buffers are not registered: RLIMIT_MEMLOCK is too small for the pools on
 * many machines, and it gains a tenth only. Flushes never go through the ring: they would stall
 * what stands behind. */
#include "cache/io_file.h"

#include <liburing.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/log.h"

#define RING_ENTRIES       256
#define RING_IN_FLIGHT_MAX 512 /* the completion ring's size: twice the entries */

struct ring {
    struct io_uring uring;
    struct loop *loop;
    struct loop_hook hook;
    int event_fd;
    unsigned in_flight, unsent;
    struct io_request *waiting, **waiting_last;
};

static const unsigned ring_flags[] = {
    /* best first; older kernels grant less */
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_COOP_TASKRUN,
    0,
};

static int ring_init(struct io_uring *uring)
{
    int err = -EINVAL;

    for (unsigned i = 0; err == -EINVAL && i < countof(ring_flags); i++)
        err = io_uring_queue_init(RING_ENTRIES, uring, ring_flags[i]);
    return err;
}

/* -EBUSY, -EAGAIN: the kernel is short of something; what was not taken stays for the next try. */
static void ring_enter(struct ring *ring)
{
    int sent = io_uring_submit(&ring->uring);

    if (sent > 0)
        ring->unsent -= MIN((unsigned)sent, ring->unsent);
}

static struct io_uring_sqe *ring_entry(struct ring *ring) /* NULL: nothing more now */
{
    struct io_uring_sqe *sqe;

    if (ring->in_flight == RING_IN_FLIGHT_MAX)
        return NULL;
    sqe = io_uring_get_sqe(&ring->uring);
    if (sqe)
        return sqe;
    ring_enter(ring);
    return io_uring_get_sqe(&ring->uring);
}

static bool ring_send(struct ring *ring, struct io_request *request)
{
    int fd = container_of(request->io, struct io_file, io)->fd;
    struct io_uring_sqe *sqe = ring_entry(ring);

    if (!sqe)
        return false;
    if (request->write)
        io_uring_prep_writev(sqe, fd, request->vec, request->vecs, request->offset);
    else
        io_uring_prep_readv(sqe, fd, request->vec, request->vecs, request->offset);
    io_uring_sqe_set_data(sqe, request);
    ring->in_flight++;
    ring->unsent++;
    return true;
}

static void ring_wait(struct ring *ring, struct io_request *request)
{
    request->queued = NULL;
    *ring->waiting_last = request;
    ring->waiting_last = &request->queued;
}

static void ring_send_waiting(struct ring *ring)
{
    struct io_request *request;

    while ((request = ring->waiting) && ring_send(ring, request)) {
        ring->waiting = request->queued;
        if (!ring->waiting)
            ring->waiting_last = &ring->waiting;
    }
}

static void ring_submit(struct loop_hook *hook) /* before the loop sleeps */
{
    struct ring *ring = container_of(hook, struct ring, hook);

    ring_send_waiting(ring);
    if (ring->unsent)
        ring_enter(ring);
    if (ring->unsent)
        (void)eventfd_write(ring->event_fd, 1); /* the coming sleep is a short one, then again */
}

static void request_end(struct ring *ring, struct io_request *request, int res)
{
    ring->in_flight--;
    if (res == -EAGAIN || res == -EINTR) { /* the kernel did nothing and asks for another try */
        ring_wait(ring, request);
        return;
    }
    if (res >= 0)
        res = (size_t)res == io_request_bytes(request) ? 0 : -EIO;
    completion_post(request->done, res);
}

static void ring_reap(void *arg) /* the eventfd is readable */
{
    struct ring *ring = arg;
    struct io_uring_cqe *cqe;
    eventfd_t ignored;

    (void)eventfd_read(ring->event_fd, &ignored); /* level is reset first: nothing is missed */
    (void)io_uring_get_events(&ring->uring);      /* DEFER_TASKRUN: completions are made here */
    while (io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
        struct io_request *request = io_uring_cqe_get_data(cqe);
        int res = cqe->res;

        io_uring_cqe_seen(&ring->uring, cqe);
        request_end(ring, request, res);
    }
}

static void uring_submit(struct io *io, struct io_request *request)
{
    struct ring *ring = request->done->loop->io;

    assert(ring && loop_is_mine(ring->loop));
    io_request_assert(io, request);
    request->io = io;
    if (ring->waiting || !ring_send(ring, request))
        ring_wait(ring, request);
}

static int uring_attach(const struct io_ops *ops, struct loop *loop)
{
    struct ring *ring = xcalloc(1, sizeof(*ring));
    int err = ring_init(&ring->uring);

    if (err < 0) {
        free(ring);
        return err;
    }
    ring->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    err = ring->event_fd < 0 ? -errno : io_uring_register_eventfd(&ring->uring, ring->event_fd);
    if (err < 0) {
        fd_close(&ring->event_fd);
        io_uring_queue_exit(&ring->uring);
        free(ring);
        return err;
    }
    ring->loop = loop;
    ring->waiting_last = &ring->waiting;
    ring->hook.fn = ring_submit;
    loop->io = ring;
    loop_add_hook(loop, &ring->hook);
    loop->ops->watch(loop, ring->event_fd, ring_reap, ring);
    return 0;
}

static void hook_remove(struct loop *loop, struct loop_hook *hook)
{
    struct loop_hook **at = &loop->hooks;

    while (*at != hook)
        at = &(*at)->next;
    *at = hook->next;
}

static void uring_detach(const struct io_ops *ops, struct loop *loop)
{
    struct ring *ring = loop->io;

    if (!ring)
        return;
    assert(loop_is_mine(loop) && ring->in_flight == 0 && !ring->waiting);
    loop->ops->unwatch(loop, ring->event_fd);
    hook_remove(loop, &ring->hook);
    io_uring_queue_exit(&ring->uring);
    close(ring->event_fd);
    free(ring);
    loop->io = NULL;
}

const struct io_ops io_uring_ops = {
    .name = "io_uring",
    .open = io_file_open,
    .submit = uring_submit,
    .read = io_file_read,
    .write = io_file_write,
    .flush = io_file_flush,
    .close = io_file_close,
    .attach = uring_attach,
    .detach = uring_detach,
};

const struct io_ops *io_ops_auto(void)
{
    struct io_uring uring;
    int err = ring_init(&uring);

    if (err < 0) {
        log_warn("io_uring refused: blocking I/O on threads instead", KV_ERR(err));
        return &io_blocking_ops;
    }
    io_uring_queue_exit(&uring);
    return &io_uring_ops;
}
