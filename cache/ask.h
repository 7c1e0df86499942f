/* cache/ask.h - questions to the cloud that are under way, and what changed meanwhile: an answer
 * that was overtaken is not applied (design 6, "late answers"). Private to cache/. */
#ifndef CACHE_ASK_H
#define CACHE_ASK_H

#include "cache/internal.h"

#define ASK_CHANGED_MAX                                                                            \
    65536 /* names a listing's question keeps; more: its whole answer is stale */

int asks_open(struct cache *cache);
void asks_close(struct cache *cache);
/* The same for what that question's own answer changed: it does not overtake itself. */
void asks_answered(struct cache *cache, uint64_t ticket, uint64_t container, struct span blob);
#define ASK_CONTAINERS 0 /* as container: the account and name of one; asked for as their list */

/* Committer thread: that name was committed or confirmed in this place of the order. */
void asks_changed(struct cache *cache, uint64_t container, struct span blob);
/* Committer thread: what a listing of the container says may lack a name. */
void asks_overtaken(struct cache *cache, uint64_t container);
/* Did anything happen to what was asked for? Of a listing: to that name. */
bool asks_stale(struct cache *cache, uint64_t ticket);
bool asks_row_stale(struct cache *cache, uint64_t ticket, struct span blob);
/* The id it was asked under; ASK_CONTAINERS: by name only. */
uint64_t asks_container(struct cache *cache, uint64_t ticket);
/* Is any question under way whose answer could speak of that name? */
bool asks_running(struct cache *cache, uint64_t container, struct span blob);

#endif
