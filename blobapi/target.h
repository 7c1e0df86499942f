/* blobapi/target.h - what a request is about: account, container, blob and query out of the request
 * target and Host as sent.
 *
 * The path is percent-decoded once, then cut at '/': account (path style), container, and all the
 * rest is the blob's name, byte for byte: "//", "." and "..", a leading '/', and a '%2F' that was
 * sent as "%252F" stay as they are. azcopy depends on the order: it sends "/ctr%2Fname" to hosts it
 * takes for host style. Pure; any thread. Everything a target points to lies in the arena or in
 * what was passed in. */
#ifndef BLOBAPI_TARGET_H
#define BLOBAPI_TARGET_H

#include "base/arena.h"
#include "base/span.h"
#include "base/util.h"
#include "blobapi/errors.h"
#include "cache/contract.h"

#define TARGET_PARAMS_MAX      64 /* query parameters of one request */
#define CONTAINER_BYTES_MIN    3
#define CONTAINER_BYTES_MAX    63
#define BLOB_NAME_UNITS_MAX    1024 /* UTF-16 units, as the service counts */
#define BLOB_NAME_SEGMENTS_MAX 254

struct query_param {
    struct span name; /* decoded, lower-case */
    struct span
        value; /* decoded; '+' stays '+'; no control characters. len 0 for "name" and "name=" */
    struct span raw; /* the value as sent */
};

struct target {
    const struct account *account;
    bool path_style;                  /* the account came from the path, not from Host */
    bool secondary;                   /* account name with "-secondary": read only */
    struct span container;            /* empty: the account itself */
    struct span blob;                 /* empty: the container itself */
    struct span path;                 /* raw, as sent, without the query: what SharedKey signs */
    struct span query;                /* raw, without '?'; empty if there is none */
    const struct query_param *params; /* in the order sent */
    unsigned param_count;
};

/* Host style if host (without port) is an alias, or "ACCOUNT.anything" with a known account; else
 * path style. A blob without a container segment is in $root (host style only, without restype).
 * AZ_INVALID_URI: not UTF-8, a broken escape, no leading '/'. AZ_RESOURCE_NOT_FOUND: no such
 * account. AZ_REQUEST_URL_FAILED_TO_PARSE: a broken escape in the query, or too many parameters.
 * AZ_INVALID_QUERY_PARAMETER_VALUE: a value that is not UTF-8 or holds a control character.
 * AZ_OUT_OF_RANGE_INPUT: length of a name. AZ_INVALID_RESOURCE_NAME: characters of a name.
 * On an error *ret is filled as far as parsing came (account NULL or not), for the log. */
enum az_error target_parse(const struct accounts *accounts, struct span host, struct span target,
                           struct arena *arena, struct target *ret) must_check;

/* First parameter of that (lower-case) name, decoded; base NULL when absent. */
struct span target_param(const struct target *target, struct span name);
/* The same with the raw form beside it; NULL when absent. */
const struct query_param *target_find(const struct target *target, struct span name);
/* Letters, digits, '-', '_', '.', '$' only: written anew, such a name cannot become another. */
bool param_is_plain(struct span name);

/* The value with '+' read as a space, as forms and some URL builders write it. */
struct span query_param_spaced(const struct query_param *param, struct arena *arena);

/* The service's rules for new and old names alike; also for names out of headers (copy source).
 * AZ_OK, AZ_OUT_OF_RANGE_INPUT, AZ_INVALID_RESOURCE_NAME, AZ_INVALID_URI (not UTF-8). */
enum az_error container_name_check(struct span name);
enum az_error blob_name_check(struct span name);

#endif
