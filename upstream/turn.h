/* upstream/turn.h - changes of one name that the cloud makes go one at a time, in order of coming;
 * a bounded number waits. Upstream thread only. */
#ifndef UPSTREAM_TURN_H
#define UPSTREAM_TURN_H

#include "base/op.h"
#include "base/span.h"

#define TURN_WAITING_MAX 64 /* for one name */
#define TURN_BUCKETS     1024

/* In its owner's op, zeroed; the key is the owner's until turn_leave. */
struct turn {
    struct span key;
    struct completion *done; /* waiting */
    struct turn *next;       /* of the bucket: who has a turn; of the line: who waits */
    struct turn *line;       /* of who has it */
    unsigned waiting;
    bool taken;
};
struct turns {
    struct turn *bucket[TURN_BUCKETS];
};
/* done: 0 it is this one's turn; -EBUSY too many wait. */
void turn_take(struct turns *turns, struct turn *turn, struct span key, struct completion *done);
/* Waiting, and not any more: done is posted with err. */
void turn_give_up(struct turns *turns, struct turn *turn, int err);
void turn_leave(struct turns *turns, struct turn *turn); /* not taken: fine */

#endif
