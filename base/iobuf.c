/* base/iobuf.c - one pool per size class: a lock, a free list, and who waits for a buffer, in
 * order. A buffer given back while somebody waits goes straight to the first waiter, so nobody
 * starves. */
#include "base/iobuf.h"

#include <string.h>
#include <sys/mman.h>

struct waiter {
    struct completion *done;
    struct iobuf **ret;
    struct waiter *next;
};

struct pool {
    pthread_mutex_t lock; /* guards all below */
    char *memory;
    uint64_t mapped;
    struct iobuf *bufs;
    uint64_t count, free_count, waiting;
    struct iobuf *free;
    struct waiter *first, **last;
};

static struct pool pools[IOBUF_CLASSES];

/* Mapped and touched now: a page fault in a request costs more than the request (design section 9).
 */
static char *memory_map(uint64_t bytes)
{
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return NULL;
    (void)madvise(memory, bytes, MADV_HUGEPAGE); /* where to be had */
    for (uint64_t at = 0; at < bytes; at += IOBUF_ALIGN)
        ((volatile char *)memory)[at] = 0;
    return memory;
}

static int pool_open(struct pool *pool, enum iobuf_class class, uint64_t bytes)
{
    uint32_t size = IOBUF_BYTES(class);
    uint64_t count = MAX(bytes / size, 4);
    char *memory = memory_map(count * size);

    if (!memory)
        return -ENOMEM;
    *pool = (struct pool){
        .memory = memory, .mapped = count * size, .count = count, .free_count = count};
    pthread_mutex_init(&pool->lock, NULL);
    pool->last = &pool->first;
    pool->bufs = xcalloc(count, sizeof(*pool->bufs));
    for (uint64_t i = count; i-- > 0;) {
        struct iobuf *buf = &pool->bufs[i];

        *buf = (struct iobuf){.base = memory + i * size,
                              .size = size,
                              .class = (uint8_t) class,
                              .free_next = pool->free};
        pool->free = buf;
    }
    return 0;
}

static void buf_hand_out(struct iobuf *buf)
{
    atomic_store_explicit(&buf->refs, 1, memory_order_relaxed);
    buf->used = 0;
    buf->free_next = NULL;
}

static struct iobuf *pool_pop(struct pool *pool) /* lock held */
{
    struct iobuf *buf = pool->free;

    if (!buf)
        return NULL;
    pool->free = buf->free_next;
    pool->free_count--;
    buf_hand_out(buf);
    return buf;
}

static struct waiter *waiter_pop(struct pool *pool) /* lock held */
{
    struct waiter *waiter = pool->first;

    if (!waiter)
        return NULL;
    pool->first = waiter->next;
    if (!pool->first)
        pool->last = &pool->first;
    pool->waiting--;
    return waiter;
}

static void buf_give_back(struct iobuf *buf)
{
    struct pool *pool = &pools[buf->class];
    struct waiter *waiter;

    pthread_mutex_lock(&pool->lock);
    waiter = waiter_pop(pool);
    if (!waiter) {
        buf->free_next = pool->free;
        pool->free = buf;
        pool->free_count++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!waiter)
        return;
    buf_hand_out(buf);
    *waiter->ret = buf;
    completion_post(waiter->done, 0);
    free(waiter);
}

/* The waiter may have been served already by another thread: then the post is on its way. */
static void waiter_cancel(struct completion *done)
{
    struct pool *pool = done->callee;
    struct waiter **at, *waiter = NULL;

    pthread_mutex_lock(&pool->lock);
    for (at = &pool->first; *at && (*at)->done != done;)
        at = &(*at)->next;
    if (*at) {
        waiter = *at;
        *at = waiter->next;
        if (!*at)
            pool->last = at;
        pool->waiting--;
    }
    pthread_mutex_unlock(&pool->lock);
    if (waiter)
        completion_post(done, -ECANCELED);
    free(waiter);
}

int iobuf_pools_open(const struct iobuf_pools_conf *conf)
{
    for (unsigned class = 0; class < IOBUF_CLASSES; class ++)
        if (pool_open(&pools[class], class, conf->bytes[class]) < 0) {
            while (class -- > 0)
                (void)munmap(pools[class].memory, pools[class].mapped);
            return -ENOMEM;
        }
    return 0;
}

void iobuf_pools_close(void)
{
    for (unsigned class = 0; class < IOBUF_CLASSES; class ++) {
        struct pool *pool = &pools[class];

        assert(pool->free_count == pool->count && !pool->first);
        munmap(pool->memory, pool->mapped);
        free(pool->bufs);
        pthread_mutex_destroy(&pool->lock);
        *pool = (struct pool){0};
    }
}

struct iobuf *iobuf_try(enum iobuf_class class)
{
    struct pool *pool = &pools[class];
    SCOPED_LOCK(&pool->lock);

    return pool_pop(pool);
}

void iobuf_get(enum iobuf_class class, struct iobuf **ret, struct completion *done)
{
    struct pool *pool = &pools[class];
    struct iobuf *buf;

    pthread_mutex_lock(&pool->lock);
    buf = pool->first ? NULL : pool_pop(pool); /* no overtaking */
    if (!buf) {
        struct waiter *waiter = xmalloc(sizeof(*waiter));

        *waiter = (struct waiter){done, ret, NULL};
        done->callee = pool;
        done->cancel = waiter_cancel;
        *pool->last = waiter;
        pool->last = &waiter->next;
        pool->waiting++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (buf) {
        *ret = buf;
        completion_post(done, 0);
    }
}

struct iobuf *iobuf_ref(struct iobuf *buf)
{
    atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
    return buf;
}

struct iobuf *iobuf_unref(struct iobuf *buf)
{
    if (buf && atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) == 1) {
        if (buf->release)
            buf->release(buf);
        else
            buf_give_back(buf);
    }
    return NULL;
}

struct iobuf_stats iobuf_pool_stats(enum iobuf_class class)
{
    struct pool *pool = &pools[class];
    SCOPED_LOCK(&pool->lock);

    return (struct iobuf_stats){pool->count, pool->free_count, pool->waiting};
}

struct slice slice_ref(struct slice s)
{
    if (s.buf)
        iobuf_ref(s.buf);
    return s;
}

struct slice slice_unref(struct slice s)
{
    iobuf_unref(s.buf);
    return (struct slice){0};
}
