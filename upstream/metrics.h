/* upstream/metrics.h - see base/metrics.h */
#define METRICS_DEF "upstream/metrics.def"
#include "base/metrics_declare.h"
