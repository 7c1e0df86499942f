/* base/util.h - cleanup attributes, checked allocation, container_of. Any thread.
 * A failed small allocation aborts (style page, "Memory"): no caller checks for it. */
#ifndef BASE_UTIL_H
#define BASE_UTIL_H

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#define container_of(ptr, type, member)                                                            \
    ((type *)(void *)((char *)(ptr) - __builtin_offsetof(type, member)))
#define countof(a)     (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)      ((a) < (b) ? (a) : (b))
#define MAX(a, b)      ((a) > (b) ? (a) : (b))
#define KIB(n)         ((uint64_t)(n) << 10)
#define MIB(n)         ((uint64_t)(n) << 20)
#define GIB(n)         ((uint64_t)(n) << 30)
#define ALIGN_UP(n, a) (((n) + (a)-1) / (a) * (a))
#define must_check     __attribute__((warn_unused_result))

#define _cleanup_(fn) __attribute__((cleanup(fn)))
/* Hands a pointer over and clears the variable, so that its cleanup does nothing. */
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        typeof(p) _taken = (p);                                                                    \
        (p) = NULL;                                                                                \
        _taken;                                                                                    \
    })

static inline void *xmalloc(size_t bytes)
{
    void *p = malloc(bytes ? bytes : 1);

    if (!p)
        abort();
    return p;
}

static inline void *xcalloc(size_t n, size_t bytes)
{
    void *p = calloc(n ? n : 1, bytes ? bytes : 1);

    if (!p)
        abort();
    return p;
}

static inline void *xrealloc(void *old, size_t bytes)
{
    void *p = realloc(old, bytes ? bytes : 1);

    if (!p)
        abort();
    return p;
}

static inline void *xaligned(size_t align,
                             size_t bytes) /* not cleared; for buffers outside the pools */
{
    void *p;

    if (posix_memalign(&p, align, bytes))
        abort();
    return p;
}

char *xstrdup(const char *text);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

static inline void freep(void *p) /* _cleanup_(freep) char *x */
{
    free(*(void **)p);
}

static inline void fd_close(int *fd) /* _cleanup_(fd_close) int fd = -1 */
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static inline int fd_take(int *fd) /* hands it over: its cleanup does nothing */
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

static inline pthread_mutex_t *scoped_lock_(pthread_mutex_t *m)
{
    pthread_mutex_lock(m);
    return m;
}

static inline void scoped_unlock_(pthread_mutex_t **m)
{
    pthread_mutex_unlock(*m);
}

#define SCOPED_LOCK_NAME2(line) scoped_lock_line_##line
#define SCOPED_LOCK_NAME(line)  SCOPED_LOCK_NAME2(line)
/* Holds the mutex until the end of the enclosing block. */
#define SCOPED_LOCK(m)                                                                             \
    _cleanup_(scoped_unlock_) pthread_mutex_t *SCOPED_LOCK_NAME(__LINE__)                          \
        __attribute__((unused)) = scoped_lock_(m)

#endif
