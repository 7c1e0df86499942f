/* base/worker.h - threads for work that blocks, awaitable from a loop. */
#ifndef BASE_WORKER_H
#define BASE_WORKER_H

#include "base/op.h"

#define WORKER_QUEUE_MAX 65536 /* more: the call is posted with -EBUSY */

struct workers;
struct workers *workers_new(unsigned threads, const char *name);
struct workers *
workers_free(struct workers *workers); /* finishes what is queued, joins; NULL is fine */
/* Any thread. fn(arg) runs on a worker and its result is posted to done. done may be NULL. */
void worker_run(struct workers *workers, int (*fn)(void *arg), void *arg, struct completion *done);

#endif
