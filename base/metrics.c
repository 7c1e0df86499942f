#include "base/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static struct metric *registered; /* by constructors, before main: no lock */

unsigned metric_shard(void)
{
    static _Atomic unsigned threads;
    static __thread unsigned mine; /* 1-based */

    if (!mine)
        mine = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % METRIC_SHARDS + 1;
    return mine - 1;
}

void metric_register(struct metric *metric)
{
    metric->registered = registered;
    registered = metric;
}

void metric_observe(struct metric *metric, uint64_t ns)
{
    uint64_t us = (ns + 999) / 1000;
    unsigned bucket = us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(us - 1);

    if (bucket > METRIC_BUCKETS)
        bucket = METRIC_BUCKETS; /* the last one is +Inf */
    atomic_fetch_add_explicit(&metric->buckets[bucket], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->sum_ns, ns, memory_order_relaxed);
}

int64_t metric_read(const struct metric *metric)
{
    uint64_t sum = 0;

    if (metric->kind == METRIC_HISTOGRAM) {
        for (unsigned i = 0; i <= METRIC_BUCKETS; i++)
            sum += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        return (int64_t)sum;
    }
    for (unsigned i = 0; i < METRIC_SHARDS; i++)
        sum += atomic_load_explicit(&metric->shard[i].value, memory_order_relaxed);
    return (int64_t)sum;
}

static void print_histogram(FILE *out, const struct metric *metric)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < METRIC_BUCKETS; i++) {
        count += atomic_load_explicit(&metric->buckets[i], memory_order_relaxed);
        fprintf(out, "hearth_%s_bucket{le=\"%.6f\"} %" PRIu64 "\n", metric->name,
                (double)(1ULL << i) / 1e6, count);
    }
    count += atomic_load_explicit(&metric->buckets[METRIC_BUCKETS], memory_order_relaxed);
    fprintf(out, "hearth_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", metric->name, count);
    fprintf(out, "hearth_%s_sum %.9f\nhearth_%s_count %" PRIu64 "\n", metric->name,
            (double)atomic_load_explicit(&metric->sum_ns, memory_order_relaxed) / 1e9, metric->name,
            count);
}

static void print_metric(FILE *out, const struct metric *metric)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram"};
    const char *suffix = metric->kind == METRIC_COUNTER ? "_total" : "";

    fprintf(out, "# HELP hearth_%s%s %s\n", metric->name, suffix, metric->help);
    fprintf(out, "# TYPE hearth_%s%s %s\n", metric->name, suffix, kinds[metric->kind]);
    if (metric->kind == METRIC_HISTOGRAM)
        print_histogram(out, metric);
    else
        fprintf(out, "hearth_%s%s %" PRId64 "\n", metric->name, suffix, metric_read(metric));
}

char *metrics_text(size_t *ret_len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);

    if (!out)
        abort();
    for (const struct metric *metric = registered; metric; metric = metric->registered)
        print_metric(out, metric);
    fclose(out);
    return text;
}
