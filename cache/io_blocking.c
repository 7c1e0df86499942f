/* cache/io_blocking.c - io.h by pread and pwrite: the fallback where io_uring is refused, and the
 * plain form to compare against. submit() hands the request to a few threads of its own, so that
 * loops never block; the threads live as long as the first open device until exit. */
#include "cache/io_file.h"

#include "base/worker.h"

#define IO_THREADS 8 /* how many requests of all loops run at once */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static struct workers *threads;
static unsigned open_count;

static int blocking_open(const struct io_ops *ops, const char *path, uint64_t bytes,
                         struct io **ret)
{
    int err = io_file_open(ops, path, bytes, ret);

    if (err < 0)
        return err;
    SCOPED_LOCK(&lock);
    if (open_count++ == 0)
        threads = workers_new(IO_THREADS, "io");
    return 0;
}

static void blocking_close(struct io *io)
{
    SCOPED_LOCK(&lock);

    io_file_close(io);
    if (--open_count == 0)
        threads = workers_free(threads);
}

static int request_run(void *arg)
{
    struct io_request *request = arg;
    int fd = container_of(request->io, struct io_file, io)->fd;
    ssize_t n;

    do {
        n = request->write ? pwritev(fd, request->vec, (int)request->vecs, (off_t)request->offset)
                           : preadv(fd, request->vec, (int)request->vecs, (off_t)request->offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return (size_t)n == io_request_bytes(request) ? 0 : -EIO;
}

static void blocking_submit(struct io *io, struct io_request *request)
{
    io_request_assert(io, request);
    request->io = io;
    worker_run(threads, request_run, request, request->done);
}

static int blocking_attach(const struct io_ops *ops, struct loop *loop)
{
    return 0;
}

static void blocking_detach(const struct io_ops *ops, struct loop *loop)
{
}

const struct io_ops io_blocking_ops = {
    .name = "blocking",
    .open = blocking_open,
    .submit = blocking_submit,
    .read = io_file_read,
    .write = io_file_write,
    .flush = io_file_flush,
    .close = blocking_close,
    .attach = blocking_attach,
    .detach = blocking_detach,
};
