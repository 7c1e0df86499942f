/* server/metrics.h - the metrics of this folder, see base/metrics.h. */
#ifndef SERVER_METRICS_H
#define SERVER_METRICS_H

#define METRICS_DEF "server/metrics.def"
#include "base/metrics_declare.h"

#endif
