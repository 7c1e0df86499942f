/* upstream/answer.c - heads of the cloud's answers as records, and records as headers of our
 * uploads. */
#include "upstream/internal.h"

#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/text.h"
#include "cache/access_tier.h"
#include "cache/tags.h"

#define META_PREFIX         SPAN("x-ms-meta-")
#define RETRY_AFTER_MAX_SEC 300

static struct span get(const struct wan *wan, const char *name)
{
    return wan_answer_header(&wan->answer, span_of(name));
}

static int get_date(const struct wan *wan, const char *name, int64_t *ret)
{
    return http_date_parse(get(wan, name), ret);
}

static struct span get_md5(const struct wan *wan)
{
    struct span text = get(wan, "x-ms-blob-content-md5");
    char *bytes = arena_alloc(wan->arena, 32);
    size_t n = 0;

    if (!text.len && wan->answer.status == 200) /* of a 206 it is the range's */
        text = get(wan, "content-md5");
    if (text.len != BASE64_BYTES(MD5_BYTES) || base64_decode(text, bytes, &n) || n != MD5_BYTES)
        return (struct span){NULL, 0};
    return span_from(bytes, n);
}

static unsigned get_metadata(const struct wan *wan, const struct pair **ret)
{
    const struct wan_answer *answer = &wan->answer;
    struct pair *pairs = arena_alloc(wan->arena, (answer->header_count + 1) * sizeof(*pairs));
    unsigned n = 0;

    for (unsigned i = 0; i < answer->header_count; i++) {
        struct span name = answer->headers[i].name;

        if (name.len > META_PREFIX.len &&
            span_eq_nocase((struct span){name.base, META_PREFIX.len}, META_PREFIX))
            pairs[n++] = (struct pair){span_skip(name, META_PREFIX.len), answer->headers[i].value};
    }
    *ret = pairs;
    return n;
}

static uint32_t get_tag_count(const struct wan *wan)
{
    uint64_t n;

    return span_to_u64(get(wan, "x-ms-tag-count"), &n) < 0 ? 0 : (uint32_t)MIN(n, UINT32_MAX);
}

static void get_access_tier(const struct wan *wan, struct blob_record *record)
{
    record->access_tier = access_tier_of(get(wan, "x-ms-access-tier"));
    record->access_tier_inferred =
        record->access_tier && span_eq_nocase(get(wan, "x-ms-access-tier-inferred"), SPAN("true"));
    record->rehydrating = access_tier_rehydrating(get(wan, "x-ms-archive-status"));
    (void)get_date(wan, "x-ms-access-tier-change-time", &record->access_tier_changed_ns);
}

static int get_type(const struct wan *wan, enum blob_type *ret)
{
    struct span type = get(wan, "x-ms-blob-type");

    if (span_eq_nocase(type, SPAN("BlockBlob")))
        *ret = BLOB_BLOCK;
    else if (span_eq_nocase(type, SPAN("AppendBlob")))
        *ret = BLOB_APPEND;
    else if (span_eq_nocase(type, SPAN("PageBlob")))
        *ret = BLOB_PAGE;
    else
        return -EPROTO;
    return 0;
}

enum cloud_lease answer_lease(struct span state, struct span duration)
{
    if (span_eq(state, SPAN("leased")))
        return span_eq(duration, SPAN("infinite")) ? CLOUD_LEASE_INFINITE : CLOUD_LEASE_FIXED;
    if (span_eq(state, SPAN("expired")))
        return CLOUD_LEASE_EXPIRED;
    if (span_eq(state, SPAN("breaking")))
        return CLOUD_LEASE_BREAKING;
    return span_eq(state, SPAN("broken")) ? CLOUD_LEASE_BROKEN : CLOUD_LEASE_NONE;
}

static enum cloud_lease get_lease(const struct wan *wan)
{
    return answer_lease(get(wan, "x-ms-lease-state"), get(wan, "x-ms-lease-duration"));
}

/* "bytes 0-99/1000" */
static int content_range(struct span text, struct range *ret, uint64_t *total)
{
    struct span first, last, all;
    uint64_t a, b, n;

    if (!span_starts(text, SPAN("bytes ")))
        return -EPROTO;
    first = span_cut(span_skip(text, 6), '-', &last);
    last = span_cut(last, '/', &all);
    if (span_to_u64(first, &a) || span_to_u64(last, &b) || span_to_u64(all, &n) || b < a || n <= b)
        return -EPROTO;
    *ret = (struct range){a, b - a + 1};
    *total = n;
    return 0;
}

int answer_range(const struct wan *wan, struct range *ret, uint64_t *total)
{
    uint64_t bytes;

    if (wan->answer.status == 206)
        return content_range(get(wan, "content-range"), ret, total);
    if (span_to_u64(get(wan, "content-length"), &bytes))
        return -EPROTO;
    *ret = (struct range){0, bytes};
    *total = bytes;
    return 0;
}

int64_t answer_modified_ns(const struct wan *wan)
{
    int64_t ns = 0;

    (void)get_date(wan, "last-modified", &ns); /* absent: 0, unknown */
    return ns;
}

static void answer_content(const struct wan *wan, struct blob_record *record)
{
    record->content_type = get(wan, "content-type");
    record->content_encoding = get(wan, "content-encoding");
    record->content_language = get(wan, "content-language");
    record->content_disposition = get(wan, "content-disposition");
    record->cache_control = get(wan, "cache-control");
    record->content_md5 = get_md5(wan);
    record->metadata_count = get_metadata(wan, &record->metadata);
}

int answer_blob(const struct wan *wan, struct blob_record *ret)
{
    struct blob_record record = {.durability = DURABILITY_CLOUD};
    struct range range;

    record.cloud_etag = get(wan, "etag");
    if (!record.cloud_etag.len || get_type(wan, &record.type) ||
        answer_range(wan, &range, &record.length) ||
        get_date(wan, "last-modified", &record.cloud_modified_ns))
        return -EPROTO;
    record.modified_ns = record.created_ns = record.cloud_modified_ns;
    (void)get_date(wan, "x-ms-creation-time", &record.created_ns); /* old servers lack it */
    answer_content(wan, &record);
    record.cloud_lease = get_lease(wan);
    record.tags_unknown = get_tag_count(wan);
    get_access_tier(wan, &record);
    *ret = record;
    return 0;
}

/* A server that does not say how long a body is could cut it unseen: refused. */
int answer_external(const struct wan *wan, struct blob_record *ret, struct range *ret_range)
{
    struct blob_record record = {.type = BLOB_BLOCK, .durability = DURABILITY_CLOUD};
    struct span type = get(wan, "x-ms-blob-type");

    if (answer_range(wan, ret_range, &record.length) || (type.len && get_type(wan, &record.type)))
        return -EPROTO;
    record.cloud_etag = get(wan, "etag");
    record.modified_ns = record.cloud_modified_ns = answer_modified_ns(wan);
    answer_content(wan, &record);
    *ret = record;
    return 0;
}

int answer_container(const struct wan *wan, struct container_record *ret)
{
    struct container_record record = {.in_cloud = true};

    if (get_date(wan, "last-modified", &record.modified_ns))
        return -EPROTO;
    record.public_access = get(wan, "x-ms-blob-public-access");
    record.cloud_lease = get_lease(wan);
    record.metadata_count = get_metadata(wan, &record.metadata);
    *ret = record;
    return 0;
}

uint64_t answer_retry_after_ns(const struct wan *wan)
{
    uint64_t seconds;

    if (span_to_u64(get(wan, "retry-after"), &seconds))
        return 0;
    return MIN(seconds, RETRY_AFTER_MAX_SEC) * NS_PER_SEC;
}

struct span answer_reason(struct wan *wan, int err)
{
    if (err)
        return arena_printf(wan->arena, "%s", *wan->failure ? wan->failure : strerror(-err));
    return arena_printf(wan->arena, "%d %.*s", wan->answer.status, SPAN_FMT(wan->answer.code));
}

/* The service's own word: a gateway on the way or a wrong endpoint says 404 too, and what is absent
 * here is forgotten. */
bool answer_absent(const struct wan *wan)
{
    static const char *const codes[] = {"BlobNotFound", "ContainerNotFound", "ResourceNotFound"};

    for (size_t i = 0; wan->answer.status == 404 && i < countof(codes); i++)
        if (span_eq(wan->answer.code, span_of(codes[i])))
            return true;
    return false;
}

static bool refuses_check(const struct wan *wan) /* Azurite: 500 FeatureNotSupported */
{
    static const char *const codes[] = {"FeatureNotSupported", "UnsupportedHeader",
                                        "InvalidHeaderValue"};

    for (size_t i = 0; i < countof(codes); i++)
        if (span_eq(wan->answer.code, span_of(codes[i])))
            return true;
    return false;
}

static bool refuses_credential(const struct wan *wan)
{
    int status = wan->answer.status;

    return status == 401 || status == 403 ||
           (status == 400 && span_eq(wan->answer.code, SPAN("InvalidAuthenticationInfo")));
}

enum read_turn read_turn(struct wan *wan, int wan_err, bool *refreshed, int *err)
{
    struct remote *remote = wan->remote;
    int status = wan->answer.status;

    if (wan_err) {
        if (is_wan_failure(wan_err))
            *err = -EHOSTUNREACH; /* served from what is known: only an outage may be */
        else
            *err = wan_err == -ECANCELED || wan_err == -EBUSY ? wan_err : -EPROTO;
        return wan_err == -ECONNRESET ? READ_TURN_LATER : READ_TURN_FAIL;
    }
    if (refuses_credential(wan)) {
        *err = -EACCES;
        if (!*refreshed && wan_secret_renewed(wan)) {
            *refreshed = true;
            return READ_TURN_AGAIN;
        }
        log_warn_limited("the cloud refuses our credential",
                         KV_SPAN("account", remote->account->name),
                         KV_SPAN("code", wan->answer.code));
        return READ_TURN_FAIL;
    }
    if (wan->asked_check && refuses_check(wan)) {
        remote_lower_check(remote, wan->asked_kind);
        return READ_TURN_AGAIN;
    }
    *err = status >= 500 || status == 429 || status == 408 ? -EHOSTUNREACH : -EPROTO;
    return *err == -EHOSTUNREACH ? READ_TURN_LATER : READ_TURN_FAIL;
}

/* ---- towards the cloud ---- */

void metadata_to_headers(struct wan *wan, const struct pair *metadata, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        wan_header(wan, arena_printf(wan->arena, "x-ms-meta-%.*s", SPAN_FMT(metadata[i].name)),
                   metadata[i].value);
}

/* As a form: name=value&... */
void tags_to_header(struct wan *wan, struct span tags)
{
    char *text = arena_alloc(wan->arena, tags.len * 3 + 1), *at = text;
    struct pair tag;

    while (tags_next(&tags, &tag)) {
        if (at != text)
            *at++ = '&';
        at += percent_encode(tag.name, "", at);
        *at++ = '=';
        at += percent_encode(tag.value, "", at);
    }
    if (at != text)
        wan_header(wan, SPAN("x-ms-tags"), span_from(text, (size_t)(at - text)));
}

void access_tier_to_header(struct wan *wan, const struct blob_record *record)
{
    if (record->access_tier && !record->access_tier_inferred)
        wan_header(wan, SPAN("x-ms-access-tier"), access_tier_name(record->access_tier));
}

void record_to_headers(struct wan *wan, const struct blob_record *record)
{
    const struct {
        struct span name, value;
    } rows[] = {
        {SPAN("x-ms-blob-content-type"), record->content_type},
        {SPAN("x-ms-blob-content-encoding"), record->content_encoding},
        {SPAN("x-ms-blob-content-language"), record->content_language},
        {SPAN("x-ms-blob-content-disposition"), record->content_disposition},
        {SPAN("x-ms-blob-cache-control"), record->cache_control},
    };
    char md5[BASE64_BYTES(MD5_BYTES)];

    for (size_t i = 0; i < countof(rows); i++)
        if (rows[i].value.len)
            wan_header(wan, rows[i].name, rows[i].value);
    if (record->content_md5.len == MD5_BYTES)
        wan_header(wan, SPAN("x-ms-blob-content-md5"),
                   span_from(md5, base64_encode(record->content_md5, md5)));
}
