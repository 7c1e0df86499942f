/* cache/tags.h - the stored form of a blob's tags: key, 0, value, 0 of each in order of keys;
 * empty: none. Keys and values hold no 0. Pure; any thread. */
#ifndef CACHE_TAGS_H
#define CACHE_TAGS_H

#include <string.h>

#include "cache/cache.h"

static inline bool tags_take(struct span *rest, struct span *ret)
{
    const char *end = rest->len ? memchr(rest->base, 0, rest->len) : NULL;

    if (!end)
        return false;
    *ret = span_from(rest->base, (size_t)(end - rest->base));
    *rest = span_skip(*rest, ret->len + 1);
    return true;
}

/* The next of *rest, which begins as a stored value; false at the end. */
static inline bool tags_next(struct span *rest, struct pair *ret)
{
    return tags_take(rest, &ret->name) && tags_take(rest, &ret->value);
}

static inline unsigned tags_count(struct span tags)
{
    struct pair tag;
    unsigned n = 0;

    while (tags_next(&tags, &tag))
        n++;
    return n;
}

#endif
