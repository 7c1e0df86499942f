/* upstream/fill.c - a reader's gap as runs of units, a few in parallel and no further ahead than a
 * limit.
 *
 * The caller is told as soon as the first run has begun: it then joins that fill in the cache. The
 * rest of the gap follows by itself, one run for each that ends, so that a sequential reader finds
 * its bytes on their way; a reader that gets to the end of what was begun asks again. */
#include "upstream/internal.h"

#define FILL_RUNS_PARALLEL 8 /* of one gap; 4 MiB each, so 32 MiB in flight */
#define FILL_AHEAD_BYTES_MAX                                                                       \
    (128ULL << 20) /* beyond the gap's start: a reader may be gone by then */

struct gap {
    struct upstream *upstream;
    struct remote *remote;
    struct blob *blob;
    uint64_t at, end;
    unsigned
        running; /* and one for whoever is in a function of this file: a fetch may end at once */
    bool failed;
};

static void gap_run(struct gap *gap);

static void gap_run_over(void *arg, int err)
{
    struct gap *gap = arg;

    gap->running--;
    if (err)
        gap->failed = true; /* readers have been told; who still wants the rest asks again */
    gap_run(gap);
}

/* The next run of the gap: 0 or why none could begin at gap->at. */
static int gap_next(struct gap *gap)
{
    struct range want = {gap->at, gap->end - gap->at};
    uint64_t unit_end = (gap->at / UNIT_BYTES + 1) * UNIT_BYTES;
    struct sink *sink;
    int err = sink_new(gap->upstream, gap->blob, want, &sink);

    if (err) { /* there already, or another's: the next unit */
        gap->at = MIN(unit_end, gap->end);
        return err == -EALREADY || err == -EEXIST ? 0 : err;
    }
    gap->at = MAX(unit_end, sink_blob_end(sink));
    gap->running++;
    fetch_start(gap->remote, sink, gap_run_over, gap);
    return 0;
}

static void gap_run(struct gap *gap)
{
    gap->running++;
    while (gap->at < gap->end && gap->running <= FILL_RUNS_PARALLEL && !gap->failed &&
           !gap->upstream->stopping)
        gap->failed |= gap_next(gap) != 0;
    if (--gap->running)
        return;
    blob_unref(gap->blob);
    gap->upstream->active--;
    free(gap);
}

struct remote *upstream_remote_of(struct upstream *upstream, const struct blob *blob)
{
    struct container *container;
    struct remote *remote;

    if (cache_container_by_id(upstream->conf.cache, blob_name(blob)->container, &container))
        return NULL;
    remote = upstream_remote(upstream, container_record(container)->account);
    container_unref(container);
    return remote;
}

static void fill_call(struct call *call) /* upstream thread */
{
    struct upstream *upstream = call->upstream;
    struct remote *remote = upstream_remote_of(upstream, call->held);
    uint64_t length = blob_record(call->held)->length;
    struct gap *gap;
    int err;

    if (!remote || breaker_wait_ns(&remote->breaker) || call->range.start >= length) {
        call_answer(call,
                    !remote                       ? -ENOENT
                    : call->range.start >= length ? -EINVAL
                                                  : -EHOSTUNREACH,
                    NULL);
        return;
    }
    gap = xcalloc(1, sizeof(*gap));
    gap->upstream = upstream;
    gap->remote = remote;
    gap->blob = blob_ref(call->held);
    gap->at = call->range.start;
    gap->end = gap->at + MIN(MIN(call->range.len, length - gap->at), FILL_AHEAD_BYTES_MAX);
    gap->running = 1;
    upstream->active++;
    err = gap_next(gap);
    gap->failed |= err != 0;
    call_answer(call, err, NULL);
    gap->running--;
    gap_run(gap);
}

void upstream_fill(struct upstream *upstream, struct blob *blob, struct range gap,
                   struct completion *done)
{
    struct call *call = call_new(upstream, fill_call, done);

    if (!call)
        return;
    call->held = blob_ref(blob);
    call->range = gap;
    call_start(call, 0);
}
