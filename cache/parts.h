/* cache/parts.h - something too big for one record goes in several changes; what makes it visible
 * is in the last one, which is refused unless all before it were ordered and none has failed. A
 * part that is refused never has its hooks ordered, a voided one is ended before anything later is
 * decided: so the count is exact. Private to cache/. */
#ifndef CACHE_PARTS_H
#define CACHE_PARTS_H

#include "cache/commit.h"

struct parts;

struct parts *parts_new(void); /* a reference */
struct parts *parts_ref(struct parts *parts);
struct parts *parts_unref(struct parts *parts); /* NULL is fine */
/* The builder's, before it submits the part. */
void parts_add(struct parts *parts, struct change *change);
/* Committer thread: what stands in the last change would not be true. */
void parts_spoil(struct parts *parts);
/* Committer thread, in the last change's decide. */
bool parts_whole(const struct parts *parts);

#endif
