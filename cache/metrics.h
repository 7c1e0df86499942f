/* cache/metrics.h - the engine's metrics; the rows are in metrics.def, grouped per file. */
#ifndef CACHE_METRICS_H
#define CACHE_METRICS_H

#define METRICS_DEF "cache/metrics.def"
#include "base/metrics_declare.h"

#endif
