/* cache/contract.h - accounts and contracts as configured (design section 5). Filled once by
 * server/config.c, read-only afterwards, outlives everything that points to it. Any thread. */
#ifndef CACHE_CONTRACT_H
#define CACHE_CONTRACT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/span.h"

enum contract_write { WRITE_THROUGH, WRITE_BACK, WRITE_LOCAL, WRITE_DENY };
enum contract_fresh { FRESH_BOUNDED, FRESH_STRICT, FRESH_IMMUTABLE, FRESH_EXCLUSIVE };
enum contract_offline { OFFLINE_SERVE, OFFLINE_FAIL };
enum contract_order { ORDER_SAFE, ORDER_LATEST_WINS };
enum contract_conflict { CONFLICT_HOLD, CONFLICT_OURS, CONFLICT_THEIRS };
enum contract_lease { LEASE_CLOUD, LEASE_LOCAL };
enum contract_class { CLASS_DEFAULT, CLASS_CHECKPOINT, CLASS_DATASET, CLASS_KV };
enum contract_crash { CRASH_KEEP, CRASH_DISCARD };

/* One `contract "pattern" { ... }` line: a scope and what is promised in it. */
struct contract {
    uint32_t id;         /* place in the configuration, process-wide, from 1 */
    struct span pattern; /* over container/blob; '*' also matches '/' */
    enum contract_write write;
    enum contract_fresh fresh;
    uint64_t fresh_ns; /* of FRESH_BOUNDED */
    enum contract_offline offline;
    enum contract_order order;
    enum contract_conflict conflict;
    enum contract_lease lease;
    enum contract_class class;
    enum contract_crash crash;
    unsigned copies;
    bool evict_sole;              /* evict = yes */
    bool md5;                     /* Put Blob computes Content-MD5 */
    uint64_t ttl_ns, quota_bytes; /* 0: none */
    uint64_t absent_ns;           /* how long a known absence counts */
    const struct span *markers;
    unsigned marker_count;
};

enum upstream_auth { UPSTREAM_SHARED_KEY, UPSTREAM_SAS };

struct account {
    uint32_t id; /* account_id(name): what the index knows it by */
    struct span name;
    struct span key[2];         /* decoded; key[1] empty when there is one only */
    const struct span *aliases; /* host names, lower-case, without port */
    unsigned alias_count;
    bool public_access;               /* its containers may be made public */
    const struct contract *contracts; /* first match wins; never empty: the last one matches all */
    unsigned contract_count;
    struct {                  /* the cloud behind it; endpoint empty: a local account */
        struct span endpoint; /* scheme://host[:port][/account], no trailing '/' */
        struct span formerly; /* what endpoint was before, when the same cloud has moved */
        enum upstream_auth auth;
        struct span account, key; /* SharedKey; account defaults to name */
        struct span sas;          /* without '?' */
        struct span secret_file;  /* where key or sas was read from: read again when it changes;
                                     empty: inline */
        struct span ca_file;      /* private CA, empty: the system's */
    } upstream;
};

struct accounts {
    const struct account *at;
    unsigned count;
};

/* Never 0. From the name alone, so that it means the same whatever else is configured, and where.
 */
uint32_t account_id(struct span name);
const struct account *account_by_name(const struct accounts *accounts, struct span name);
const struct account *account_by_alias(const struct accounts *accounts, struct span host);
const struct account *account_by_id(const struct accounts *accounts, uint32_t id);
static inline bool account_is_local(const struct account *account)
{
    return account->upstream.endpoint.len == 0;
}

/* '*' matches any run of bytes, '/' too; everything else itself. */
bool pattern_matches(struct span pattern, struct span text);
/* The first contract whose pattern matches container/blob (blob empty: the line matching
 * "container/"). Never NULL: configuration without a last "*" gets one appended. */
const struct contract *contract_for(const struct account *account, struct span container,
                                    struct span blob);
/* Of that account only; NULL: the configuration has changed since it was written down. */
const struct contract *contract_by_id(const struct account *account, uint32_t id);
/* Lines that can be the first to match a name of the container that starts with prefix, in order;
 * *at starts at 0. NULL: no more. */
const struct contract *contract_below(const struct account *account, struct span container,
                                      struct span prefix, unsigned *at);
/* Does a line that can match inside the container send anything to the cloud? (design section 5) */
bool contract_container_in_cloud(const struct account *account, struct span container);
/* Does one that can match inside keep blobs that exist nowhere else? */
bool contract_container_holds_local(const struct account *account, struct span container);
/* Patterns without '/' match the last segment. */
bool contract_is_marker(const struct contract *contract, struct span blob);

#endif
