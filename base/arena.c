#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/util.h"

#define CHUNK_BYTES 4096

struct chunk {
    struct chunk *next; /* older */
    size_t room, used;
    char bytes[] __attribute__((aligned(16)));
};

struct arena {
    struct chunk *newest;
};

static struct chunk *chunk_new(size_t room)
{
    struct chunk *chunk = xmalloc(sizeof(*chunk) + room);

    *chunk = (struct chunk){.room = room};
    return chunk;
}

struct arena *arena_new(void)
{
    struct arena *arena = xmalloc(sizeof(*arena));

    arena->newest = chunk_new(CHUNK_BYTES);
    return arena;
}

struct arena *arena_free(struct arena *arena)
{
    if (!arena)
        return NULL;
    for (struct chunk *chunk = arena->newest, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(arena);
    return NULL;
}

void arena_reset(struct arena *arena)
{
    while (arena->newest->next) {
        struct chunk *newest = arena->newest;

        arena->newest = newest->next;
        free(newest);
    }
    arena->newest->used = 0;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    struct chunk *chunk = arena->newest;
    size_t need = ALIGN_UP(bytes ? bytes : 1, 16);

    if (chunk->room - chunk->used < need) {
        chunk = chunk_new(MAX(need, (size_t)CHUNK_BYTES));
        chunk->next = arena->newest;
        arena->newest = chunk;
    }
    chunk->used += need;
    return chunk->bytes + chunk->used - need;
}

void *arena_zalloc(struct arena *arena, size_t bytes)
{
    return memset(arena_alloc(arena, bytes), 0, bytes);
}

struct span arena_copy(struct arena *arena, struct span s)
{
    char *copy = arena_alloc(arena, s.len + 1);

    if (s.len)
        memcpy(copy, s.base, s.len);
    copy[s.len] = 0;
    return (struct span){copy, s.len};
}

struct span arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args, again;
    char *text;
    int n;

    va_start(args, format);
    va_copy(again, args);
    n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    text = arena_alloc(arena, (size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return (struct span){text, (size_t)n};
}

void *arena_grow(struct arena *arena, void *old, size_t old_bytes, size_t bytes)
{
    struct chunk *chunk = arena->newest;
    size_t old_need = ALIGN_UP(old_bytes ? old_bytes : 1, 16), need = ALIGN_UP(bytes, 16);
    void *copy;

    if (old && (char *)old + old_need == chunk->bytes + chunk->used &&
        chunk->room - (chunk->used - old_need) >= need) {
        chunk->used = chunk->used - old_need + need;
        return old;
    }
    copy = arena_alloc(arena, bytes);
    if (old)
        memcpy(copy, old, MIN(old_bytes, bytes));
    return copy;
}
