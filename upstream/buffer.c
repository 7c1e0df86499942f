/* upstream/buffer.c - the buffers uploads are sent from: two sizes, a fixed number of each, waiters
 * in order. A caller holds one at a time per request and asks for none while it holds one, so
 * waiting always ends. */
#include "upstream/internal.h"

#include <sys/mman.h>

struct waiter {
    struct buffer **ret;
    struct completion *done;
    struct waiter *next;
};

struct shelf {
    struct buffer *free;
    struct buffer *all;
    char *memory;
    size_t bytes, count;
    struct waiter *waiters, **waiters_tail;
};

struct buffers {
    struct shelf small, large;
};

static void shelf_open(struct shelf *shelf, size_t bytes, size_t count)
{
    shelf->bytes = bytes;
    shelf->count = count;
    shelf->waiters_tail = &shelf->waiters;
    shelf->all = xcalloc(count, sizeof(*shelf->all));
    /* Touched when first used: a box that uploads little does not pay for all. */
    shelf->memory =
        mmap(NULL, bytes * count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shelf->memory == MAP_FAILED)
        abort();
    for (size_t i = 0; i < count; i++) {
        shelf->all[i] = (struct buffer){.base = shelf->memory + i * bytes, .room = bytes};
        shelf->all[i].next = shelf->free;
        shelf->free = &shelf->all[i];
    }
}

static void shelf_close(struct shelf *shelf)
{
    size_t n = 0;

    for (struct buffer *b = shelf->free; b; b = b->next)
        n++;
    assert(n == shelf->count && !shelf->waiters);
    munmap(shelf->memory, shelf->bytes * shelf->count);
    free(shelf->all);
}

struct buffers *buffers_new(uint64_t large_bytes)
{
    struct buffers *buffers = xcalloc(1, sizeof(*buffers));

    shelf_open(&buffers->small, UPLOAD_SMALL_BYTES, UPLOAD_BUFFERS_SMALL);
    shelf_open(&buffers->large, large_bytes, UPLOAD_BUFFERS_LARGE);
    return buffers;
}

struct buffers *buffers_free(struct buffers *buffers)
{
    if (!buffers)
        return NULL;
    shelf_close(&buffers->small);
    shelf_close(&buffers->large);
    free(buffers);
    return NULL;
}

static struct buffer *shelf_take(struct shelf *shelf)
{
    struct buffer *buffer = shelf->free;

    shelf->free = buffer->next;
    buffer->next = NULL;
    buffer->used = 0;
    return buffer;
}

void buffer_get(struct buffers *buffers, uint64_t bytes, struct buffer **ret,
                struct completion *done)
{
    struct shelf *shelf = bytes <= buffers->small.bytes ? &buffers->small : &buffers->large;
    struct waiter *waiter;

    assert(bytes <= shelf->bytes);
    if (shelf->free) {
        *ret = shelf_take(shelf);
        completion_post(done, 0);
        return;
    }
    waiter =
        xmalloc(sizeof(*waiter)); /* as many as uploads and their blocks in flight: both limited */
    *waiter = (struct waiter){ret, done, NULL};
    *shelf->waiters_tail = waiter;
    shelf->waiters_tail = &waiter->next;
}

void buffer_put(struct buffers *buffers, struct buffer *buffer)
{
    struct shelf *shelf;
    struct waiter *waiter;

    if (!buffer)
        return;
    shelf = buffer->room == buffers->small.bytes ? &buffers->small : &buffers->large;
    buffer->next = shelf->free;
    shelf->free = buffer;
    waiter = shelf->waiters;
    if (!waiter)
        return;
    shelf->waiters = waiter->next;
    if (!waiter->next)
        shelf->waiters_tail = &shelf->waiters;
    *waiter->ret = shelf_take(shelf);
    completion_post(waiter->done, 0);
    free(waiter);
}
