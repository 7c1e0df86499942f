/* upstream/metrics.c - see base/metrics.h */
#include "upstream/metrics.h"
#include "base/metrics_define.h"
