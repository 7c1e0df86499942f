/* cache/metrics.c - defines the rows of metrics.def. */
#include "cache/metrics.h"

#include "base/metrics_define.h"
