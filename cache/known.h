/* cache/known.h - listing knowledge: for which ranges of names the cloud's list is known, and when
 * it was so (design 6). Rows of FAM_KNOWN; worker threads. Private to cache/. Invariants:
 * cache/README.md L1-L4. */
#ifndef CACHE_KNOWN_H
#define CACHE_KNOWN_H

#include "cache/internal.h"
#include "cache/record.h"

#define FRESH_DEFAULT_NS (60 * NS_PER_SEC) /* of lines that are not `bounded` */

/* How far from `from` on the list with that prefix and delimiter is known and fresh enough:
 * > 0 known up to *to (to_end: to the end of the prefix); 0: `from` itself is not. */
struct known_until {
    bool to_end;
    struct row_bytes to;
    bool by_level; /* known with this very delimiter: names below prefixes are not; see stubs */
};
int known_from(struct cache *cache, const struct index_view *view, uint64_t container,
               struct span prefix, struct span delimiter, struct span from, int64_t oldest_ns,
               struct known_until *ret) must_check;
/* The cloud's list is known there, fresh, and the name was not on it (no row). */
bool known_absent(struct cache *cache, uint64_t container, struct span name);
/* Entries that say [from, to) is known as of then, and nothing else about it. to.base NULL: the
 * end. */
int known_put(struct cache *cache, struct change *change, uint64_t container, struct span prefix,
              struct span delimiter, struct span from, struct span to, int64_t as_of_ns) must_check;
/* One entry: no range of the container is known any more. */
void known_forget(struct change *change, uint64_t container);
/* Successor of all names that start with s: *ret empty when there is none. */
void span_after_prefix(struct span s, struct row_bytes *ret);

#endif
