/* blobapi/inputs.c - the headers several operations read the same way: metadata, content headers,
 * hashes of the body, and those of features that are not served. Pure but for the request's arena.
 */
#include "base/date.h"
#include "base/text.h"
#include "blobapi/request.h"
#include "blobapi/tags.h"

#define METADATA_PREFIX SPAN("x-ms-meta-")

static bool letter_or_underscore(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

/* A C# identifier, as the service wants names; ASCII, since a header can hold nothing else. */
static bool metadata_name_fits(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.base[i];

        if (!letter_or_underscore(c) && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return true;
}

static bool metadata_value_fits(struct span value)
{
    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.base[i] < 0x20 || (unsigned char)value.base[i] > 0x7e)
            return false;
    return true;
}

static bool metadata_has(const struct pair *pairs, unsigned n, struct span name)
{
    for (unsigned i = 0; i < n; i++)
        if (span_eq_nocase(pairs[i].name, name))
            return true;
    return false;
}

static enum az_error metadata_one(const struct header *h, struct pair *pairs, unsigned n,
                                  size_t *bytes)
{
    struct span sent = h->sent_name.len == h->name.len ? h->sent_name : h->name;
    struct span name = span_skip(sent, METADATA_PREFIX.len);

    if (!name.len)
        return AZ_EMPTY_METADATA_KEY;
    if (!metadata_name_fits(name) || !metadata_value_fits(h->value) || metadata_has(pairs, n, name))
        return AZ_INVALID_METADATA;
    *bytes += name.len + h->value.len;
    if (n == METADATA_PAIRS_MAX || *bytes > METADATA_BYTES_MAX)
        return AZ_METADATA_TOO_LARGE;
    pairs[n] = (struct pair){name, h->value};
    return AZ_OK;
}

static unsigned metadata_count(const struct exchange *http)
{
    unsigned n = 0;

    for (unsigned i = 0; i < http->header_count; i++)
        n += span_starts(http->headers[i].name, METADATA_PREFIX);
    return n;
}

enum az_error metadata_inputs(struct request *r, const struct pair **ret, unsigned *ret_n)
{
    unsigned room = MIN(metadata_count(r->http), METADATA_PAIRS_MAX + 1), n = 0;
    struct pair *pairs = room ? arena_alloc(r->http->arena, room * sizeof(*pairs)) : NULL;
    size_t bytes = 0;

    for (unsigned i = 0; i < r->http->header_count; i++) {
        const struct header *h = &r->http->headers[i];
        enum az_error error;

        if (!span_starts(h->name, METADATA_PREFIX))
            continue;
        error = metadata_one(h, pairs, n, &bytes);
        if (error)
            return error;
        n++;
    }
    *ret = pairs;
    *ret_n = n;
    return AZ_OK;
}

/* Base64 of exactly n bytes. */
static bool fixed_base64(struct span text, void *ret, size_t n)
{
    unsigned char bytes[32];
    size_t len;

    if (text.len > BASE64_BYTES(sizeof(bytes) - 8) || base64_decode(text, bytes, &len) < 0 ||
        len != n)
        return false;
    memcpy(ret, bytes, n);
    return true;
}

/* The value of the x-ms-blob- form or, with_plain, of the ordinary header. It will stand in lists:
 * what XML cannot hold would make a whole page unreadable. */
static enum az_error either(struct request *r, bool with_plain, struct span ours, struct span plain,
                            struct span *ret, struct span *culprit)
{
    *culprit = ours;
    *ret = exchange_header(r->http, ours);
    if (!ret->base && with_plain) {
        *culprit = plain;
        *ret = exchange_header(r->http, plain);
    }
    return emit_xml_fits(*ret) ? AZ_OK : AZ_INVALID_HEADER_VALUE;
}

/* An empty header is an unset one: rclone sends them all (and signs them). */
enum az_error content_inputs(struct request *r, bool with_plain, struct content_inputs *ret,
                             struct span *culprit)
{
    const struct {
        struct span ours, plain, *ret;
    } texts[] = {
        {SPAN("x-ms-blob-content-type"), SPAN("content-type"), &ret->type},
        {SPAN("x-ms-blob-content-encoding"), SPAN("content-encoding"), &ret->encoding},
        {SPAN("x-ms-blob-content-language"), SPAN("content-language"), &ret->language},
        {SPAN("x-ms-blob-content-disposition"), SPAN("content-disposition"), &ret->disposition},
        {SPAN("x-ms-blob-cache-control"), SPAN("cache-control"), &ret->cache_control},
    };
    struct span md5 = exchange_header(r->http, SPAN("x-ms-blob-content-md5"));
    enum az_error error;
    char *raw;

    for (unsigned i = 0; i < countof(texts); i++) {
        error = either(r, with_plain, texts[i].ours, texts[i].plain, texts[i].ret, culprit);
        if (error)
            return error;
    }
    ret->md5 = (struct span){NULL, 0};
    if (!md5.len)
        return AZ_OK;
    raw = arena_alloc(r->http->arena, 16);
    *culprit = SPAN("x-ms-blob-content-md5");
    if (!fixed_base64(md5, raw, 16))
        return AZ_INVALID_MD5;
    ret->md5 = span_from(raw, 16);
    return AZ_OK;
}

static enum az_error hashes_of(struct request *r, struct span md5_name, struct span crc_name,
                               struct hash_inputs *ret, struct span *culprit)
{
    struct span md5 = exchange_header(r->http, md5_name), crc = exchange_header(r->http, crc_name);
    uint64_t little;

    if (md5.len && crc.len)
        return AZ_BOTH_CRC64_AND_MD5_HEADER_PRESENT;
    *culprit = span_eq(md5_name, SPAN("content-md5")) ? SPAN("Content-MD5") : md5_name;
    ret->has_md5 = md5.len > 0;
    if (ret->has_md5 && !fixed_base64(md5, ret->md5, sizeof(ret->md5)))
        return AZ_INVALID_MD5;
    *culprit = crc_name;
    ret->has_crc64 = crc.len > 0;
    if (ret->has_crc64 && !fixed_base64(crc, &little, sizeof(little)))
        return AZ_INVALID_HEADER_VALUE;
    if (ret->has_crc64)
        ret->crc64 = le64toh(little);
    return AZ_OK;
}

enum az_error hash_inputs(struct request *r, struct hash_inputs *ret, struct span *culprit)
{
    return hashes_of(r, SPAN("content-md5"), SPAN("x-ms-content-crc64"), ret, culprit);
}

enum az_error source_hash_inputs(struct request *r, struct hash_inputs *ret, struct span *culprit)
{
    return hashes_of(r, SPAN("x-ms-source-content-md5"), SPAN("x-ms-source-content-crc64"), ret,
                     culprit);
}

/* Snapshots are read and deleted, never written. Those of the cloud are not known here. */
static enum az_error version_inputs(const struct request *r, struct span *culprit)
{
    struct span snapshot = target_param(&r->target, SPAN("snapshot"));
    uint64_t time;

    *culprit = SPAN("versionid");
    if (target_param(&r->target, *culprit).len)
        return AZ_UNSUPPORTED_QUERY_PARAMETER;
    *culprit = SPAN("snapshot");
    if (snapshot.len && (!r->target.blob.len || request_has_cloud(r)))
        return AZ_UNSUPPORTED_QUERY_PARAMETER;
    if (snapshot.len && iso8601_ticks_parse(snapshot, &time) < 0)
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    *culprit = (struct span){NULL, 0};
    return snapshot.len && !(r->operation->methods & (METHOD_GET | METHOD_HEAD | METHOD_DELETE))
               ? AZ_INVALID_OPERATION
               : AZ_OK;
}

bool tags_are_copied(const struct request *r)
{
    return span_eq_nocase(exchange_header(r->http, SPAN("x-ms-copy-source-tag-option")),
                          SPAN("COPY"));
}

/* Where the operation documents them. */
static bool tag_headers_served(struct request *r, struct span *culprit)
{
    const enum condition_rule rule = r->operation->conditions;
    bool judges = rule == CONDITIONS_READ || rule == CONDITIONS_WRITE ||
                  rule == CONDITIONS_CREATE || rule == CONDITIONS_TAGS;

    *culprit = SPAN("x-ms-tags");
    if (exchange_header(r->http, *culprit).len && rule != CONDITIONS_CREATE)
        return false;
    *culprit = SPAN("x-ms-if-tags");
    return !exchange_header(r->http, *culprit).len || judges;
}

/* What creates a block blob, and its own operation. */
static bool takes_tier(const struct operation *o)
{
    return o == &operations[OPERATION_SET_BLOB_TIER] ||
           (o->conditions == CONDITIONS_CREATE && o != &operations[OPERATION_PUT_APPEND_BLOB]);
}

/* Each would change what is stored or returned. */
enum az_error unserved_inputs(struct request *r, struct span *culprit)
{
    static const struct span headers[] = {
        SPAN("x-ms-encryption-key"),
        SPAN("x-ms-encryption-key-sha256"),
        SPAN("x-ms-encryption-algorithm"),
        SPAN("x-ms-encryption-scope"),
        SPAN("x-ms-immutability-policy-mode"),
        SPAN("x-ms-immutability-policy-until-date"),
        SPAN("x-ms-legal-hold"),
        SPAN("x-ms-blob-content-length"),
        SPAN("x-ms-sequence-number-action"),
        SPAN("x-ms-blob-sequence-number"),
    };

    *culprit = SPAN("x-ms-access-tier");
    if (exchange_header(r->http, *culprit).len && !takes_tier(r->operation))
        return AZ_UNSUPPORTED_HEADER;
    if (!tag_headers_served(r, culprit))
        return AZ_UNSUPPORTED_HEADER;
    for (unsigned i = 0; i < countof(headers); i++)
        if (exchange_header(r->http, headers[i]).len) {
            *culprit = headers[i];
            return AZ_UNSUPPORTED_HEADER;
        }
    return version_inputs(r, culprit);
}

/* Both ways a hash of the body would have to say which body. No SDK sends one along. */
static enum az_error structured_hashes(const struct request *r, struct span *culprit)
{
    static const struct span headers[] = {
        SPAN("content-md5"),
        SPAN("x-ms-content-crc64"),
        SPAN("x-ms-range-get-content-md5"),
        SPAN("x-ms-range-get-content-crc64"),
    };

    for (unsigned i = 0; i < countof(headers); i++)
        if (exchange_header(r->http, headers[i]).len) {
            *culprit = headers[i];
            return AZ_UNSUPPORTED_HEADER;
        }
    return AZ_OK;
}

static bool structured_type_fits(struct span value)
{
    struct span properties, version = span_cut(value, ';', &properties);

    return span_eq_nocase(span_trim(version), SPAN("XSM/1.0")) &&
           span_eq_nocase(span_trim(properties), SPAN("properties=crc64"));
}

enum az_error structured_inputs(struct request *r, struct span *culprit)
{
    const struct operation *o = r->operation;
    struct span value = exchange_header(r->http, SPAN("x-ms-structured-body")), length;

    if (!value.len)
        return AZ_OK;
    *culprit = SPAN("x-ms-structured-body");
    if (o->body != BODY_STREAM && o != &operations[OPERATION_GET_BLOB])
        return AZ_UNSUPPORTED_HEADER;
    if (!structured_type_fits(value))
        return AZ_INVALID_HEADER_VALUE;
    r->structured = true;
    if (o->body != BODY_STREAM || !exchange_header(r->http, SPAN("content-length")).len) /* 411 */
        return structured_hashes(r, culprit);
    *culprit = SPAN("x-ms-structured-content-length");
    length = exchange_header(r->http, *culprit);
    if (!length.len)
        return AZ_MISSING_REQUIRED_HEADER;
    if (span_to_u64(length, &r->content_bytes) < 0 ||
        !structured_lengths_fit((uint64_t)r->http->body_bytes, r->content_bytes))
        return AZ_INVALID_HEADER_VALUE;
    return structured_hashes(r, culprit);
}
