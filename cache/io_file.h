/* cache/io_file.h - an open file or block device and the calls on it that block. Shared by the two
 * implementations of io.h that use the kernel; private to them. */
#ifndef CACHE_IO_FILE_H
#define CACHE_IO_FILE_H

#include <pthread.h>

#include "cache/io.h"

struct io_file {
    struct io io;
    int fd;
    pthread_mutex_t flush_lock; /* one flush at a time: see io_file_flush */
};

/* How long an open waits for a device that is in use; tests set it. */
extern unsigned io_lock_patience_ms;

int io_file_open(const struct io_ops *ops, const char *path, uint64_t bytes,
                 struct io **ret) must_check;
int io_file_read(struct io *io, void *into, uint32_t bytes, uint64_t offset) must_check;
int io_file_write(struct io *io, const void *from, uint32_t bytes, uint64_t offset) must_check;
int io_file_flush(struct io *io) must_check;
void io_file_close(struct io *io);

#endif
