/* base/log.h - structured log: one line, time, level, message, key=value, to standard error.
 * Any thread; while log_wait_ms is 0 it never waits for whoever reads standard error: lines that
 * find no room are dropped, counted and told of later. The layer that handles an error logs it,
 * once; library code returns it instead. Secrets (keys, sig= values, tokens) never go into a value.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_kv {
    const char *key;
    enum { LOG_KV_END, LOG_KV_INT, LOG_KV_UINT, LOG_KV_STR, LOG_KV_ERR } kind;
    union {
        int64_t i;
        uint64_t u;
        struct span s;
    };
};
#define KV_INT(k, v)  ((struct log_kv){.key = (k), .kind = LOG_KV_INT, .i = (v)})
#define KV_UINT(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_UINT, .u = (v)})
#define KV_SPAN(k, v) ((struct log_kv){.key = (k), .kind = LOG_KV_STR, .s = (v)})
#define KV_STR(k, v)  ((struct log_kv){.key = (k), .kind = LOG_KV_STR, .s = span_of(v)})
#define KV_ERR(v)                                                                                  \
    ((struct log_kv){.key = "error", .kind = LOG_KV_ERR, .i = (v)}) /* -errno as words */

extern enum log_level log_level_min;
/* How long a line waits for room: not at all while serving, a second at start and end, where the
 * last words are the ones that matter. */
extern _Atomic int log_wait_ms;
void log_write(enum log_level level, const char *message, const struct log_kv *kv);

#define LOG_AT(level, message, ...)                                                                \
    do {                                                                                           \
        if ((level) >= log_level_min)                                                              \
            log_write(level, message, (const struct log_kv[]){__VA_ARGS__ __VA_OPT__(, ){0}});     \
    } while (0)
#define log_debug(message, ...) LOG_AT(LOG_DEBUG, message, __VA_ARGS__)
#define log_info(message, ...)  LOG_AT(LOG_INFO, message, __VA_ARGS__)
#define log_warn(message, ...)  LOG_AT(LOG_WARN, message, __VA_ARGS__)
#define log_error(message, ...) LOG_AT(LOG_ERROR, message, __VA_ARGS__)
/* The same, at most once a second per call site; the next line says how many were left out. */
#define log_warn_limited(message, ...)                                                             \
    do {                                                                                           \
        static struct log_limit limit_;                                                            \
        if (log_limit_pass(&limit_))                                                               \
            LOG_AT(LOG_WARN, message,                                                              \
                   __VA_ARGS__ __VA_OPT__(, ) KV_UINT("suppressed", limit_.suppressed_before));    \
    } while (0)
struct log_limit {
    uint64_t last_ns;
    uint64_t suppressed, suppressed_before;
};
bool log_limit_pass(struct log_limit *limit);

/* Tests only: receives each line instead of standard error. */
void log_set_sink(void (*sink)(void *arg, const char *line), void *arg);

#endif
