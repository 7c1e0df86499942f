#include "blobapi/metrics.h"

#define METRICS_DEF "blobapi/metrics.def"
#include "base/metrics_define.h"
