/* server/config.h - appliance.conf and command line -> struct config. Main thread, start only. */
#ifndef SERVER_CONFIG_H
#define SERVER_CONFIG_H

#include <stdio.h>

#include "base/log.h"
#include "base/util.h"
#include "blobapi/identity.h"
#include "cache/cache.h"
#include "upstream/network.h"

enum config_io { CONFIG_IO_AUTO, CONFIG_IO_URING, CONFIG_IO_BLOCKING };

struct config { /* spans and strings live until config_free */
    char *listen, *admin, *data;
    char *tls_cert, *tls_key; /* NULL: plain HTTP */
    uint64_t memory;
    unsigned loops, workers, connections_max; /* loops 0: one per core that may be used */
    enum config_io io;
    enum log_level log_level;
    bool access_log;
    uint64_t head_timeout_ns, body_idle_timeout_ns, write_stall_timeout_ns, keepalive_timeout_ns;
    uint64_t drain_timeout_ns, staged_ttl_ns;
    struct device_conf *devices;
    unsigned device_count;
    struct accounts accounts;
    struct identity_conf identity;
    struct copy_policy copy_policy;
    struct arena *arena;
};

/* overrides: "key=value" of top-level keys (-o). On failure *why holds one line per error, each
 * with file, line, what is wrong and what is allowed (malloc'ed). -EINVAL, or -errno of the file.
 */
int config_load(const char *path, const char *const *overrides, unsigned n, struct config **ret,
                char **why) must_check;
struct config *config_free(struct config *config); /* NULL is fine */
/* appliance.conf.example. */
void config_print_example(FILE *out);

/* "64MiB", "4GB", "100"; "50ms", "60s", "5m", "1h", "7d". -EINVAL. */
int config_parse_size(const char *text, uint64_t *ret) must_check;
int config_parse_duration(const char *text, uint64_t *ret_ns) must_check;

#endif
