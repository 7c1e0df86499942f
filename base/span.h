/* base/span.h - a borrowed run of bytes, not terminated. Pure; any thread. */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct span {
    const char *base;
    size_t len;
};

/* A half-open run of bytes in a file or blob. */
struct range {
    uint64_t start, len;
};

/* A string literal (or any char array with a terminator) as a span. */
#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})
#define SPAN_FMT(s)   (int)(s).len, (s).base /* for "%.*s" */

static inline struct span span_of(const char *text) /* NULL gives the empty span */
{
    return (struct span){text, text ? strlen(text) : 0};
}

static inline struct span span_from(const void *base, size_t len)
{
    return (struct span){base, len};
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.base, b.base, a.len) == 0);
}

static inline bool span_eq_nocase(struct span a, struct span b) /* ASCII */
{
    return a.len == b.len && (a.len == 0 || strncasecmp(a.base, b.base, a.len) == 0);
}

static inline bool span_starts(struct span s, struct span prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.base, prefix.base, prefix.len) == 0);
}

/* Bytewise order, a prefix before what it starts: the order of RocksDB keys and of list rows. */
static inline int span_cmp(struct span a, struct span b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.base, b.base, n) : 0;

    return c ? c : (a.len > b.len) - (a.len < b.len);
}

static inline struct span span_skip(struct span s, size_t n) /* n <= s.len */
{
    return (struct span){s.base + n, s.len - n};
}

/* Cuts s at the first `at`: returns what stands before it, leaves what stands after it in *rest
 * (empty with base NULL when `at` does not occur). */
static inline struct span span_cut(struct span s, char at, struct span *rest)
{
    const char *hit = s.len ? memchr(s.base, at, s.len) : NULL;

    if (!hit) {
        *rest = (struct span){NULL, 0};
        return s;
    }
    *rest = (struct span){hit + 1, s.len - (size_t)(hit - s.base) - 1};
    return (struct span){s.base, (size_t)(hit - s.base)};
}

static inline struct span span_trim(struct span s) /* spaces and tabs */
{
    while (s.len && (s.base[0] == ' ' || s.base[0] == '\t'))
        s = span_skip(s, 1);
    while (s.len && (s.base[s.len - 1] == ' ' || s.base[s.len - 1] == '\t'))
        s.len--;
    return s;
}

/* Decimal digits only, no sign, no overflow. 0, or -EINVAL with *ret untouched. */
int span_to_u64(struct span s, uint64_t *ret) __attribute__((warn_unused_result));

#endif
