/* cache/evict_policy.h - the seam behind which eviction classes will come: which clean extent goes
 * next. A policy keeps items in orders of its own; evict.c owns them, finds them by extent and
 * holds one lock around every call. Private to evict*.c. */
#ifndef CACHE_EVICT_POLICY_H
#define CACHE_EVICT_POLICY_H

#include "cache/slab.h"

struct evict_item { /* one clean extent that can be fetched again */
    struct object_id id;
    uint32_t index, length;
    uint8_t uses, queue; /* the policy's */
    struct evict_item *before, *after;
    struct evict_item *hash_next; /* evict.c's */
};

struct evict_policy {
    const struct evict_policy_ops *ops;
};
struct evict_policy_ops {
    const char *name;
    void (*add)(struct evict_policy *policy, struct evict_item *item);
    void (*use)(struct evict_policy *policy, struct evict_item *item);
    void (*remove)(struct evict_policy *policy, struct evict_item *item);
    struct evict_item *(*victim)(struct evict_policy *policy); /* removed; NULL: nothing left */
    void (*free)(struct evict_policy *policy);
};

/* S3-FIFO: a small queue that most pass through once, a main queue with two-bit counters, and the
 * names of what left the small one unused (ghosts), which enter the main queue if they come back.
 */
struct evict_policy *evict_s3fifo_new(void);

#endif
