/* cache/service.h - what an account has set for its whole Blob service (Set Blob Service
 * Properties), as it is kept. Pure but for services.c, whose functions stand in cache.h. Spans are
 * borrowed from whoever gives the record. */
#ifndef CACHE_SERVICE_H
#define CACHE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

#define CORS_RULES_MAX 5

/* Logging, HourMetrics, MinuteMetrics: kept and shown, nothing is logged or measured by them. */
enum analytics_flag { /* stored */
                      ANALYTICS_READ = 1,
                      ANALYTICS_WRITE = 2,
                      ANALYTICS_DELETE = 4,
                      ANALYTICS_ENABLED = 8,
                      ANALYTICS_INCLUDE_APIS = 16,
};
struct analytics {
    struct span version;
    uint32_t flags;
    uint32_t retention_days; /* 0: no retention policy is enabled */
};

struct cors_rule { /* lists with commas, as they were given */
    struct span origins, methods, allowed_headers, exposed_headers;
    uint32_t max_age_s;
};

struct delete_retention { /* soft delete of blobs */
    bool enabled;
    bool permanent_delete; /* AllowPermanentDelete */
    uint32_t days;         /* 1 to 365 when enabled */
};

struct website {
    bool enabled;
    struct span index_document, error_document, default_index_path; /* empty: not given */
};

struct service_record {
    struct span default_version; /* DefaultServiceVersion; empty: none */
    struct analytics logging, hour_metrics, minute_metrics;
    struct cors_rule cors[CORS_RULES_MAX];
    unsigned cors_count;
    struct delete_retention delete_retention;
    struct website website;
};
/* Of an account that has never set any. */
struct service_record service_record_default(void);

#endif
