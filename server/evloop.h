/* server/evloop.h - a base/loop.h loop that sleeps in h2o's event loop. Owned by one thread.
 * The connections' sockets are h2o sockets on `h2o`; descriptors of others (io_uring's eventfd)
 * come in by loop_ops.watch. */
#ifndef SERVER_EVLOOP_H
#define SERVER_EVLOOP_H

#include <h2o.h>

#include "base/loop.h"

struct evloop_watch;

struct evloop {
    struct loop loop;
    h2o_loop_t *h2o;
    int wake_fd; /* eventfd, written by wake */
    struct evloop_watch *watches;
    uint64_t turn; /* rounds so far; what is fair is measured per turn */
};

int evloop_open(struct evloop *ev) must_check; /* the owner's thread; enters the loop */
void evloop_close(struct evloop *ev);          /* leaves it; watches and sockets are gone */
void evloop_turn(
    struct evloop *ev); /* sleeps if nothing is ready, dispatches, runs what is ready */

#endif
