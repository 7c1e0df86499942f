/* blobapi/conditions.h - the conditional headers of a request and their verdict on a version.
 *
 * Parsed once at the head of a request, judged where the operation knows the version: on the last
 * durable one for reads, on the last ordered one inside a change. A version has two names: the ETag
 * the box gave it and the one the cloud gave it; either matches. Dates compare in whole seconds.
 * Pure; any thread. */
#ifndef BLOBAPI_CONDITIONS_H
#define BLOBAPI_CONDITIONS_H

#include "base/arena.h"
#include "base/util.h"
#include "blobapi/errors.h"
#include "blobapi/exchange.h"
#include "blobapi/tag_expression.h"

#define CONDITION_ETAGS_MAX 64 /* in one header */

enum condition_rule {
    CONDITIONS_NONE,           /* ignored, as the service does */
    CONDITIONS_READ,           /* 304 and 412 */
    CONDITIONS_WRITE,          /* 412; If-None-Match: * on an existing blob 412 */
    CONDITIONS_CREATE,         /* as write, but If-None-Match: * on an existing blob is 409 */
    CONDITIONS_DATES,          /* containers: If-(Un)Modified-Since only */
    CONDITIONS_MODIFIED_SINCE, /* Set Container Metadata */
    CONDITIONS_TAGS,           /* x-ms-if-tags, and the others as x-ms-blob-if-...; as write */
};

struct condition_etags {
    const struct span *at; /* without quotes */
    unsigned count;
    bool any; /* "*" */
};

struct conditions {
    enum condition_rule rule;
    struct condition_etags match, none_match; /* neither any nor count: the header is absent */
    bool has_modified_since, has_unmodified_since;
    int64_t modified_since_s, unmodified_since_s;
    const struct tag_expression *tags; /* x-ms-if-tags; NULL: absent */
};

/* AZ_OK, AZ_INVALID_HEADER_VALUE (date, too many ETags),
 * AZ_MULTIPLE_CONDITION_HEADERS_NOT_SUPPORTED, AZ_CONDITION_HEADERS_NOT_SUPPORTED,
 * AZ_UNSATISFIABLE_CONDITION (If-None-Match: * on a read). *ret_culprit: the header's name. */
enum az_error conditions_parse(const struct header *headers, unsigned header_count,
                               enum condition_rule rule, struct arena *arena,
                               struct conditions *ret, struct span *ret_culprit) must_check;

/* What they are judged on. */
struct condition_subject {
    uint64_t etag;          /* the local name, ETAG_FMT */
    struct span cloud_etag; /* the cloud's, quoted; empty: none */
    int64_t modified_ns;
    struct span tags; /* as in struct blob_record; known whole */
};
/* subject NULL: the blob or container does not exist (staged blocks alone count as that).
 * AZ_OK; AZ_CONDITION_NOT_MET_READ (304); AZ_CONDITION_NOT_MET (412); AZ_BLOB_ALREADY_EXISTS (409).
 * A read of what does not exist is AZ_OK here: its 404 is the handler's. */
enum az_error conditions_judge(const struct conditions *conditions,
                               const struct condition_subject *subject) must_check;
/* True when the verdict can depend on whether and as what the name exists. */
bool conditions_given(const struct conditions *conditions);
/* If-None-Match: * and nothing else. */
bool conditions_create_only(const struct conditions *conditions);

#endif
