/* blobapi/metrics.h - the metrics of this folder, see metrics.def. */
#ifndef BLOBAPI_METRICS_H
#define BLOBAPI_METRICS_H

#define METRICS_DEF "blobapi/metrics.def"
#include "base/metrics_declare.h"
#undef METRICS_DEF

#endif
