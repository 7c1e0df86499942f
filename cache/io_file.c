/* cache/io_file.c - opens devices and does what blocks on them. Any thread.
 *
 * O_DIRECT is asked for by a flag on the open descriptor; a file system that has none (tmpfs)
 * refuses and is used through the page cache, with one warning: durable all the same, since we
 * flush. */
#include "cache/io_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"

#define LOCK_STEP_MS 10
unsigned io_lock_patience_ms = 10000;

void io_request_assert(const struct io *io, const struct io_request *request)
{
    size_t bytes = io_request_bytes(request);

    assert(request->vecs > 0 && request->vecs <= IO_VECS_MAX);
    assert(bytes > 0 && bytes <= IO_BYTES_MAX && request->offset % IO_ALIGN == 0);
    assert(request->offset + bytes <= io->bytes);
    for (unsigned i = 0; i < request->vecs; i++) {
        assert((uintptr_t)request->vec[i].iov_base % IO_ALIGN == 0);
        assert(request->vec[i].iov_len % IO_ALIGN == 0);
    }
}

static int size_file(int fd, const struct stat *st, uint64_t bytes)
{
    if ((uint64_t)st->st_size >= bytes)
        return 0;
    return ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
}

static int size_block_device(int fd, uint64_t bytes)
{
    uint64_t have;

    if (ioctl(fd, BLKGETSIZE64, &have) < 0)
        return -errno;
    return have < bytes ? -EFBIG : 0;
}

static int size_found(int fd, const struct stat *st, uint64_t *ret)
{
    if (S_ISREG(st->st_mode))
        *ret = (uint64_t)st->st_size;
    else if (ioctl(fd, BLKGETSIZE64, ret) < 0)
        return -errno;
    *ret -= *ret % IO_ALIGN;
    return 0;
}

static int size_set(int fd, const struct stat *st, uint64_t bytes)
{
    return S_ISREG(st->st_mode) ? size_file(fd, st, bytes) : size_block_device(fd, bytes);
}

/* Requests of a killed process that the kernel still has in hand keep its lock for moments after
 * its end: who starts at once waits for them, so that a restart after a crash just works. */
static int file_lock(int fd, const char *path)
{
    const struct timespec step = {.tv_nsec = LOCK_STEP_MS * 1000000L};

    for (unsigned waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; waited_ms += LOCK_STEP_MS) {
        if (errno != EWOULDBLOCK)
            return -errno;
        if (waited_ms >= io_lock_patience_ms)
            return -EBUSY;
        if (!waited_ms)
            log_info("device is in use: waiting for who ends", KV_STR("path", path));
        nanosleep(&step, NULL);
    }
    return 0;
}

/* *bytes 0: as long as it is. */
static int file_prepare(int fd, const char *path, uint64_t *bytes, bool *ret_sparse)
{
    struct stat st;
    int err;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return -ENXIO;
    err = file_lock(fd, path);
    if (err < 0)
        return err;
    err = *bytes ? size_set(fd, &st, *bytes) : size_found(fd, &st, bytes);
    if (err < 0)
        return err;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT) < 0)
        log_warn("device has no O_DIRECT: the page cache is used too", KV_STR("path", path));
    *ret_sparse = S_ISREG(st.st_mode);
    return 0;
}

/* A missing device node must not become a file in the memory of devtmpfs. */
static bool may_create(const char *path)
{
    return strncmp(path, "/dev/", 5) != 0 || strncmp(path, "/dev/shm/", 9) == 0;
}

int io_file_open(const struct io_ops *ops, const char *path, uint64_t bytes, struct io **ret)
{
    int how = !bytes ? O_RDONLY : may_create(path) ? O_RDWR | O_CREAT : O_RDWR;
    _cleanup_(fd_close) int fd = open(path, how | O_CLOEXEC, 0600);
    struct io_file *file;
    bool sparse = false;
    int err;

    if (fd < 0)
        return -errno;
    err = file_prepare(fd, path, &bytes, &sparse);
    if (err < 0)
        return err;
    file = xcalloc(1, sizeof(*file));
    file->io = (struct io){.ops = ops, .bytes = bytes, .sparse = sparse};
    file->fd = fd_take(&fd);
    pthread_mutex_init(&file->flush_lock, NULL);
    *ret = &file->io;
    return 0;
}

int io_file_read(struct io *io, void *into, uint32_t bytes, uint64_t offset)
{
    int fd = container_of(io, struct io_file, io)->fd;
    ssize_t n;

    do {
        n = pread(fd, into, bytes, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return n == (ssize_t)bytes ? 0 : -EIO;
}

int io_file_write(struct io *io, const void *from, uint32_t bytes, uint64_t offset)
{
    int fd = container_of(io, struct io_file, io)->fd;
    ssize_t n;

    do {
        n = pwrite(fd, from, bytes, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    return n == (ssize_t)bytes ? 0 : -EIO;
}

/* The kernel reports what it could not write to one caller of the descriptor: a flush that ended
 * well beside a failing one says nothing, so there is never one beside another. */
int io_file_flush(struct io *io)
{
    struct io_file *file = container_of(io, struct io_file, io);
    SCOPED_LOCK(&file->flush_lock);

    if (!atomic_load(&io->flush_failed) && fdatasync(file->fd) < 0)
        atomic_store(&io->flush_failed, true);
    return atomic_load(&io->flush_failed) ? -EIO : 0;
}

void io_file_close(struct io *io)
{
    struct io_file *file = container_of(io, struct io_file, io);

    close(file->fd);
    pthread_mutex_destroy(&file->flush_lock);
    free(file);
}
