/* base/metrics_declare.h - see base/metrics.h; includes METRICS_DEF once. No include guard: each
 * folder's metrics.h includes it for its own table. */
#include "base/metrics.h"

#define COUNTER(name, help)   extern struct metric metric_##name;
#define GAUGE(name, help)     extern struct metric metric_##name;
#define HISTOGRAM(name, help) extern struct metric metric_##name;
#include METRICS_DEF
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
