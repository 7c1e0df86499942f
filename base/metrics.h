/* base/metrics.h - counters, gauges and latency histograms from one table per folder.
 *
 * A folder lists its metrics in metrics.def:
 *     COUNTER(cache_hits, "Get Blob answered from the devices")
 *     GAUGE(cache_dirty_bytes, "Bytes that the cloud does not have yet")
 *     HISTOGRAM(commit_seconds, "Time from queued to durable")
 * metrics.h of the folder makes them usable, metrics.c of the folder defines them:
 *     // cache/metrics.h                          // cache/metrics.c
 *     #define METRICS_DEF "cache/metrics.def"     #include "cache/metrics.h"
 *     #include "base/metrics_declare.h"           #include "base/metrics_define.h"
 * Names come out as hearth_<name>, counters with _total. Any thread; a counter is per thread
 * and summed when read. */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

#define METRIC_SHARDS  16 /* a thread uses one of these; false sharing is bounded, not absent */
#define METRIC_BUCKETS 24 /* histogram: bucket i counts values <= 2^i microseconds */

struct metric {
    const char *name, *help;
    enum metric_kind kind;
    struct {
        _Atomic uint64_t value;
    } __attribute__((aligned(64))) shard[METRIC_SHARDS]; /* counter; gauge uses shard 0, as int64 */
    _Atomic uint64_t buckets[METRIC_BUCKETS + 1], sum_ns; /* histogram */
    struct metric *registered;                            /* list of all */
};

unsigned metric_shard(void);
void metric_register(struct metric *metric); /* by metrics_define.h's constructors */

#define STAT_INC(name) STAT_ADD(name, 1)
#define STAT_ADD(name, n)                                                                          \
    atomic_fetch_add_explicit(&metric_##name.shard[metric_shard()].value, (uint64_t)(n),           \
                              memory_order_relaxed)
#define STAT_SET(name, v)                                                                          \
    atomic_store_explicit(&metric_##name.shard[0].value, (uint64_t)(v), memory_order_relaxed)
#define STAT_GAUGE_ADD(name, n)                                                                    \
    atomic_fetch_add_explicit(&metric_##name.shard[0].value, (uint64_t)(n), memory_order_relaxed)
#define STAT_OBSERVE(name, ns) metric_observe(&metric_##name, ns)
#define STAT_READ(name)        metric_read(&metric_##name)

void metric_observe(struct metric *metric, uint64_t ns);
int64_t metric_read(const struct metric *metric); /* counter or gauge value; histogram: count */
/* All metrics as Prometheus text; malloc'ed, the caller frees. */
char *metrics_text(size_t *ret_len);

#endif
