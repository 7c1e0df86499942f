/* base/arena.h - request-lifetime memory: many small pieces, freed at once. One thread at a time.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/span.h"

struct arena;

struct arena *arena_new(void);
struct arena *arena_free(struct arena *arena);        /* NULL is fine; returns NULL */
void arena_reset(struct arena *arena);                /* frees all pieces, keeps the first chunk */
void *arena_alloc(struct arena *arena, size_t bytes); /* 16-aligned, not cleared */
void *arena_zalloc(struct arena *arena, size_t bytes);
struct span arena_copy(struct arena *arena, struct span s); /* terminated, for C callers */
struct span arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Grows the newest piece in place when it can, else copies. old may be NULL. */
void *arena_grow(struct arena *arena, void *old, size_t old_bytes, size_t bytes);

#endif
