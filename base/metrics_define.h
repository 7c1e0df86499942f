/* base/metrics_define.h - see base/metrics.h; defines and registers the metrics of METRICS_DEF. */
#include "base/metrics.h"

#define METRIC_DEFINE(n, h, k)                                                                     \
    struct metric metric_##n = {.name = #n, .help = h, .kind = k};                                 \
    __attribute__((constructor)) static void metric_register_##n(void)                             \
    {                                                                                              \
        metric_register(&metric_##n);                                                              \
    }
#define COUNTER(name, help)   METRIC_DEFINE(name, help, METRIC_COUNTER)
#define GAUGE(name, help)     METRIC_DEFINE(name, help, METRIC_GAUGE)
#define HISTOGRAM(name, help) METRIC_DEFINE(name, help, METRIC_HISTOGRAM)
#include METRICS_DEF
#undef COUNTER
#undef GAUGE
#undef HISTOGRAM
#undef METRIC_DEFINE
