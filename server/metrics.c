/* server/metrics.c - defines what server/metrics.def lists. */
#include "server/metrics.h"

#include "base/metrics_define.h"
