/* cache/doubt.h - names in doubt: the cloud is being asked to change them, or was, and what it has
 * now is not known here (design section 7, `through`). Private to cache/. Invariants:
 * cache/README.md Q1-Q3.
 *
 * A mark is a row of FAM_META, durable before anything is sent. Its number changes whenever what
 * was asked before says nothing of the name any more; a question that carries the number it has
 * when what was under way is over takes the mark away with what it learned, in one change. */
#ifndef CACHE_DOUBT_H
#define CACHE_DOUBT_H

#include "cache/internal.h"

#define DOUBTS_MAX 65536 /* marks; more: -EBUSY */

int doubts_open(struct cache *cache); /* reads the marks */
void doubts_close(struct cache *cache);
/* Committer thread, in decide: the mark's row goes with this change, if that number is still its
 * and what was under way is over. container: CONTAINER_NAMES for a container's own. */
bool doubts_order_lift(struct cache *cache, struct change *change, uint64_t container,
                       struct span name, uint64_t number);
/* Committer thread, when the change it went with has been published, or failed. */
void doubts_lifted(struct cache *cache, uint64_t container, struct span name, uint64_t number,
                   int err);
/* The mark alone, over or not (nothing has happened): done is 0 also when it has another number by
 * now. done NULL: nobody waits. */
void doubts_lift_alone(struct cache *cache, uint64_t container, struct span name, uint64_t number,
                       bool over, struct completion *done);

#endif
