/* Credentials: every captured request and SAS of tests/support/test-vectors.json, then each rule by
 * requests that this file signs itself from a string to sign written out in full. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <jansson.h>

#include "base/date.h"
#include "base/text.h"
#include "blobapi/auth_internal.h"

#define DATE_TEXT   "Sun, 22 Nov 2026 10:00:00 GMT"
#define HEADERS_MAX 32

static json_t *vectors;
static unsigned char key_bytes[96];
static struct account account_rows[2];
static const struct accounts accounts = {account_rows, 2};
static struct arena *arena;

/* ---- one request under test ---- */

static struct header headers[HEADERS_MAX];
static struct target target;
static struct auth_request request;
static struct granted granted;
static struct span detail;

static struct span field(json_t *object, const char *name)
{
    return span_of(json_string_value(json_object_get(object, name)));
}

static int group_setup(void **unused)
{
    size_t len;

    vectors = json_load_file("tests/support/test-vectors.json", 0, NULL);
    assert_non_null(vectors);
    assert_int_equal(base64_decode(field(vectors, "key"), key_bytes, &len), 0);
    account_rows[0] = (struct account){.id = 1, .name = field(vectors, "account")};
    account_rows[0].key[0] = span_from(key_bytes, len);
    account_rows[1] = (struct account){
        .id = 2, .name = SPAN("acct"), .key = {SPAN("first key"), SPAN("second key")}};
    return 0;
}

static int group_teardown(void **unused)
{
    json_decref(vectors);
    return 0;
}

static int setup(void **unused)
{
    arena = arena_new();
    memset(&granted, 0, sizeof(granted));
    return 0;
}

static int teardown(void **unused)
{
    arena = arena_free(arena);
    return 0;
}

static int64_t at(const char *date)
{
    int64_t ns = 0;

    assert_int_equal(http_date_parse(span_of(date), &ns), 0);
    return ns;
}

static void request_start(const char *method, struct span text)
{
    assert_int_equal(target_parse(&accounts, SPAN("127.0.0.1"), text, arena, &target), AZ_OK);
    request = (struct auth_request){.method = span_of(method),
                                    .target = &target,
                                    .headers = headers,
                                    .now_ns = at(DATE_TEXT),
                                    .arena = arena,
                                    .need = {AUTH_OBJECT, AUTH_READ, AUTH_READ}};
}

static void request_header(struct span name, struct span value)
{
    char *lower = arena_alloc(arena, name.len);

    for (size_t i = 0; i < name.len; i++)
        lower[i] =
            (char)(name.base[i] >= 'A' && name.base[i] <= 'Z' ? name.base[i] | 32 : name.base[i]);
    assert_true(request.header_count < HEADERS_MAX);
    headers[request.header_count++] = (struct header){span_from(lower, name.len), span_trim(value)};
}

static enum az_error check(void)
{
    return auth_check(&request, &granted, &detail);
}

static struct span hmac_text(struct span key, struct span text)
{
    unsigned char mac[SHA256_BYTES];
    char *coded = arena_alloc(arena, BASE64_BYTES(SHA256_BYTES));

    hmac_sha256(key, text, mac);
    return span_from(coded, base64_encode(span_from(mac, sizeof(mac)), coded));
}

/* ---- SharedKey ---- */

static void captured_request_load(json_t *captured)
{
    size_t i;
    json_t *pair;

    request_start(json_string_value(json_object_get(captured, "method")),
                  field(captured, "target"));
    json_array_foreach(json_object_get(captured, "headers"), i, pair)
    {
        request_header(span_of(json_string_value(json_array_get(pair, 0))),
                       span_of(json_string_value(json_array_get(pair, 1))));
    }
    for (unsigned h = 0; h < request.header_count; h++)
        if (span_eq(headers[h].name, SPAN("x-ms-date")))
            assert_int_equal(http_date_parse(headers[h].value, &request.now_ns), 0);
}

static void test_shared_key__all_captured_requests_pass(void **unused)
{
    size_t i;
    json_t *captured;

    assert_int_equal(json_array_size(json_object_get(vectors, "sharedKey")), 53);
    json_array_foreach(json_object_get(vectors, "sharedKey"), i, captured)
    {
        captured_request_load(captured);
        if (check() != AZ_OK)
            fail_msg("request %zu: %.*s", i, SPAN_FMT(field(captured, "target")));
        assert_int_equal(granted.kind, AUTH_BY_KEY);
        assert_int_equal(granted.rights, AUTH_ALL);
    }
}

/* Each captured request with one byte of its target, method or any signed header changed. */
static void test_shared_key__any_change_is_noticed(void **unused)
{
    size_t i;
    json_t *captured;

    json_array_foreach(json_object_get(vectors, "sharedKey"), i, captured)
    {
        captured_request_load(captured);
        request.method = SPAN("PATCH");
        assert_int_equal(check(), AZ_AUTHENTICATION_FAILED);
        captured_request_load(captured);
        target.path = arena_printf(arena, "%.*sx", SPAN_FMT(target.path));
        assert_int_equal(check(), AZ_AUTHENTICATION_FAILED);
        captured_request_load(captured);
        for (unsigned h = 0; h < request.header_count; h++) {
            struct header kept = headers[h];

            if (!span_starts(kept.name, SPAN("x-ms-")) && !span_starts(kept.name, SPAN("if-")) &&
                !span_eq(kept.name, SPAN("content-type")))
                continue;
            headers[h].value = arena_printf(arena, "%.*sx", SPAN_FMT(kept.value));
            assert_int_equal(check(), AZ_AUTHENTICATION_FAILED);
            headers[h] = kept;
        }
        assert_int_equal(check(), AZ_OK);
    }
}

/* A request for account "acct" with headers ("name: value", NULL at the end), signed over `text`.
 */
static enum az_error check_signed(const char *scheme, const char *key, const char *method,
                                  const char *path, const char *const *lines, const char *text)
{
    request_start(method, span_of(path));
    for (; *lines; lines++) {
        struct span value, name = span_cut(span_of(*lines), ':', &value);

        request_header(name, value);
    }
    request_header(SPAN("Authorization"),
                   arena_printf(arena, "%s acct:%.*s", scheme,
                                SPAN_FMT(hmac_text(span_of(key), span_of(text)))));
    return check();
}

#define LINES(...)  ((const char *const[]){__VA_ARGS__, NULL})
#define XMS_DATE    "x-ms-date: " DATE_TEXT
#define XMS_VERSION "x-ms-version: 2021-10-04"
#define XMS_SIGNED  "x-ms-date:" DATE_TEXT "\nx-ms-version:2021-10-04\n"

static void test_shared_key__either_key_signs(void **unused)
{
    const char *text = "GET\n\n\n\n\n\n\n\n\n\n\n\n" XMS_SIGNED "/acct/acct/ctr/b";

    assert_int_equal(check_signed("SharedKey", "first key", "GET", "/acct/ctr/b",
                                  LINES(XMS_DATE, XMS_VERSION), text),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "second key", "GET", "/acct/ctr/b",
                                  LINES(XMS_DATE, XMS_VERSION), text),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "third key", "GET", "/acct/ctr/b",
                                  LINES(XMS_DATE, XMS_VERSION), text),
                     AZ_AUTHENTICATION_FAILED);
    assert_true(detail.len > 0);
    /* an account without key2 must not take the empty key */
    account_rows[1].key[1] = (struct span){NULL, 0};
    assert_int_equal(
        check_signed("SharedKey", "", "GET", "/acct/ctr/b", LINES(XMS_DATE, XMS_VERSION), text),
        AZ_AUTHENTICATION_FAILED);
    account_rows[1].key[1] = SPAN("second key");
}

static void test_shared_key__both_sort_orders(void **unused)
{
    const char *const *lines =
        LINES(XMS_DATE, "x-ms-meta-ab: 1", "x-ms-meta-a_b: 2", "x-ms-meta-a-b: 3", "x-ms-meta-a: 4",
              "x-ms-meta-a1: 5", XMS_VERSION);
    const char *bytewise = "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" DATE_TEXT
                           "\nx-ms-meta-a:4\nx-ms-meta-a-b:3\nx-ms-meta-a1:5\nx-ms-meta-a_b:2\n"
                           "x-ms-meta-ab:1\nx-ms-version:2021-10-04\n/acct/acct/ctr/b";
    const char *culture = "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" DATE_TEXT
                          "\nx-ms-meta-a:4\nx-ms-meta-a_b:2\nx-ms-meta-a1:5\nx-ms-meta-ab:1\n"
                          "x-ms-meta-a-b:3\nx-ms-version:2021-10-04\n/acct/acct/ctr/b";
    const char *neither = "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" DATE_TEXT
                          "\nx-ms-meta-a:4\nx-ms-meta-ab:1\nx-ms-meta-a_b:2\nx-ms-meta-a1:5\n"
                          "x-ms-meta-a-b:3\nx-ms-version:2021-10-04\n/acct/acct/ctr/b";

    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b", lines, bytewise),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b", lines, culture),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b", lines, neither),
                     AZ_AUTHENTICATION_FAILED);
}

static void test_shared_key__repeated_and_empty_headers(void **unused)
{
    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b",
                                  LINES(XMS_DATE, "x-ms-a: 2", "x-ms-a: 1", "x-ms-b:", XMS_VERSION),
                                  "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-a:2,1\nx-ms-b:\n" XMS_SIGNED
                                  "/acct/acct/ctr/b"),
                     AZ_OK);
}

static void test_shared_key__date_may_be_signed_or_not(void **unused)
{
    const char *const *both = LINES("Date: " DATE_TEXT, XMS_DATE, XMS_VERSION);
    const char *const *plain = LINES("Date: " DATE_TEXT, XMS_VERSION);

    assert_int_equal(check_signed("SharedKey", "first key", "GET", "/acct/ctr/b", both,
                                  "GET\n\n\n\n\n\n" DATE_TEXT "\n\n\n\n\n\n" XMS_SIGNED
                                  "/acct/acct/ctr/b"),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "first key", "GET", "/acct/ctr/b", both,
                                  "GET\n\n\n\n\n\n\n\n\n\n\n\n" XMS_SIGNED "/acct/acct/ctr/b"),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "first key", "GET", "/acct/ctr/b", plain,
                                  "GET\n\n\n\n\n\n" DATE_TEXT
                                  "\n\n\n\n\n\nx-ms-version:2021-10-04\n/acct/acct/ctr/b"),
                     AZ_OK);
    assert_int_equal(
        check_signed("SharedKey", "first key", "GET", "/acct/ctr/b", plain,
                     "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-version:2021-10-04\n/acct/acct/ctr/b"),
        AZ_AUTHENTICATION_FAILED);
}

static void test_shared_key__standard_headers_and_their_swap(void **unused)
{
    const char *const *lines = LINES(
        "Content-Encoding: gzip", "Content-Language: de", "Content-Length: 5", "Content-MD5: m",
        "Content-Type: t", "If-Modified-Since: a", "If-Match: b", "If-None-Match: c",
        "If-Unmodified-Since: d", "Range: bytes=1-2", XMS_DATE, XMS_VERSION);

    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b", lines,
                                  "PUT\ngzip\nde\n5\nm\nt\n\na\nb\nc\nd\nbytes=1-2\n" XMS_SIGNED
                                  "/acct/acct/ctr/b"),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b", lines,
                                  "PUT\nde\ngzip\n5\nm\nt\n\na\nb\nc\nd\nbytes=1-2\n" XMS_SIGNED
                                  "/acct/acct/ctr/b"),
                     AZ_OK);
}

static void test_shared_key__length_zero_depends_on_version(void **unused)
{
    const char *empty = "PUT\n\n\n\n\n\n\n\n\n\n\n\n" XMS_SIGNED "/acct/acct/ctr/b";
    const char *zero = "PUT\n\n\n0\n\n\n\n\n\n\n\n\n" XMS_SIGNED "/acct/acct/ctr/b";
    const char *old = "PUT\n\n\n0\n\n\n\n\n\n\n\n\nx-ms-date:" DATE_TEXT
                      "\nx-ms-version:2014-02-14\n/acct/acct/ctr/b";

    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b",
                                  LINES("Content-Length: 0", XMS_DATE, XMS_VERSION), empty),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b",
                                  LINES("Content-Length: 0", XMS_DATE, XMS_VERSION), zero),
                     AZ_AUTHENTICATION_FAILED);
    assert_int_equal(check_signed("SharedKey", "first key", "PUT", "/acct/ctr/b",
                                  LINES("Content-Length: 0", XMS_DATE, "x-ms-version: 2014-02-14"),
                                  old),
                     AZ_OK);
}

static void test_shared_key__resource_forms(void **unused)
{
    static const struct {
        const char *sent, *resource;
        bool good;
    } rows[] = {
        {"/acct/ctr?restype=container&comp=list&prefix=a%2Fb&Include=z,a",
         "/acct/acct/ctr\ncomp:list\ninclude:z,a\nprefix:a/b\nrestype:container", true},
        {"/acct/ctr?b=2&a=2&b=1", "/acct/acct/ctr\na:2\nb:1,2", true},
        {"/acct/ctr?prefix=a+b", "/acct/acct/ctr\nprefix:a+b", true},
        {"/acct/ctr?prefix=a+b", "/acct/acct/ctr\nprefix:a b", true},
        {"/acct/ctr?prefix=a+b", "/acct/acct/ctr\nprefix:a%2Bb", false},
        {"/acct/ctr/a%2Cb%20c", "/acct/acct/ctr/a%2Cb%20c", true},
        {"/acct/ctr/a%2Cb%20c", "/acct/acct/ctr/a,b%20c", true},
        {"/acct/ctr/a,b%20c", "/acct/acct/ctr/a%2Cb%20c", true},
        {"/acct/ctr/a%2fb", "/acct/acct/ctr/a/b", true},
        {"/acct/ctr/a%2Cb%20c", "/acct/acct/ctr/a,b c", false},
        {"/acct-secondary/ctr/b", "/acct/acct-secondary/ctr/b", true},
        {"/acct-secondary/ctr/b", "/acct/acct/ctr/b", true},
        {"/acct/ctr/b", "/acct/acct-secondary/ctr/b", false},
        {"/acct/ctr/b", "/acct/ctr/b", false},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        struct span text =
            arena_printf(arena, "GET\n\n\n\n\n\n\n\n\n\n\n\n" XMS_SIGNED "%s", rows[i].resource);
        enum az_error error = check_signed("SharedKey", "first key", "GET", rows[i].sent,
                                           LINES(XMS_DATE, XMS_VERSION), text.base);

        if (error != (rows[i].good ? AZ_OK : AZ_AUTHENTICATION_FAILED))
            fail_msg("%s as %s", rows[i].sent, rows[i].resource);
    }
}

static void test_shared_key_lite__its_own_string(void **unused)
{
    const char *const *lines =
        LINES("Content-MD5: m", "Content-Type: t", "Content-Length: 5", XMS_DATE, XMS_VERSION);

    assert_int_equal(check_signed("SharedKeyLite", "first key", "PUT",
                                  "/acct/ctr/b?comp=metadata&timeout=3", lines,
                                  "PUT\nm\nt\n\n" XMS_SIGNED "/acct/acct/ctr/b?comp=metadata"),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKeyLite", "second key", "GET", "/acct/ctr/b?timeout=3",
                                  LINES("Date: " DATE_TEXT),
                                  "GET\n\n\n" DATE_TEXT "\n/acct/acct/ctr/b"),
                     AZ_OK);
    assert_int_equal(check_signed("SharedKey", "first key", "PUT",
                                  "/acct/ctr/b?comp=metadata&timeout=3", lines,
                                  "PUT\nm\nt\n\n" XMS_SIGNED "/acct/acct/ctr/b?comp=metadata"),
                     AZ_AUTHENTICATION_FAILED);
}

static void test_shared_key__skew_is_fifteen_minutes(void **unused)
{
    static const int64_t minutes[] = {0, 14, -14, 16, -16, 600};
    const char *text = "GET\n\n\n\n\n\n\n\n\n\n\n\n" XMS_SIGNED "/acct/acct/ctr/b";

    for (size_t i = 0; i < countof(minutes); i++) {
        assert_int_equal(check_signed("SharedKey", "first key", "GET", "/acct/ctr/b",
                                      LINES(XMS_DATE, XMS_VERSION), text),
                         AZ_OK);
        request.now_ns += minutes[i] * 60 * 1000000000;
        assert_int_equal(check(),
                         minutes[i] <= 15 && minutes[i] >= -15 ? AZ_OK : AZ_AUTHENTICATION_FAILED);
    }
    assert_int_equal(
        check_signed("SharedKey", "first key", "GET", "/acct/ctr/b", LINES(XMS_VERSION),
                     "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-version:2021-10-04\n/acct/acct/ctr/b"),
        AZ_AUTHENTICATION_FAILED);
}

static void test_auth__malformed_authorization_headers(void **unused)
{
    static const struct {
        const char *value;
        enum az_error error;
    } rows[] = {
        {"", AZ_INVALID_AUTHENTICATION_INFO},
        {"SharedKey", AZ_INVALID_AUTHENTICATION_INFO},
        {"SharedKey ", AZ_INVALID_AUTHENTICATION_INFO},
        {"SharedKey acct", AZ_INVALID_AUTHENTICATION_INFO},
        {"SharedKey acct:", AZ_INVALID_AUTHENTICATION_INFO},
        {"SharedKey :abc", AZ_INVALID_AUTHENTICATION_INFO},
        {"Basic YTpi", AZ_INVALID_AUTHENTICATION_INFO},
        {"SharedKey acct:abc", AZ_AUTHENTICATION_FAILED},
        {"SharedKey acct:!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!=", AZ_AUTHENTICATION_FAILED},
        {"SharedKey other:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", AZ_AUTHENTICATION_FAILED},
        {"Bearer abc", AZ_INVALID_BEARER_TOKEN},
        {"bearer abc", AZ_INVALID_BEARER_TOKEN},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        request_start("GET", SPAN("/acct/ctr/b"));
        request_header(SPAN("x-ms-date"), SPAN(DATE_TEXT));
        request_header(SPAN("Authorization"), span_of(rows[i].value));
        if (check() != rows[i].error)
            fail_msg("%s", rows[i].value);
    }
    request_start("GET", SPAN("/acct/ctr/b"));
    assert_int_equal(check(), AZ_NO_AUTHENTICATION_INFORMATION);
}

/* ---- SAS ---- */

/* The query of a vector's parameters, percent-encoded, with its signature. */
static struct span vector_query(json_t *vector)
{
    struct span query = SPAN("");
    const char *name;
    json_t *value;

    json_object_foreach(json_object_get(vector, "params"), name, value)
    {
        char *coded = arena_alloc(arena, 3 * json_string_length(value));
        size_t len = percent_encode(span_of(json_string_value(value)), "", coded);

        query = arena_printf(arena, "%.*s%s=%.*s&", SPAN_FMT(query), name, (int)len, coded);
    }
    return query;
}

static void vector_start(json_t *vector)
{
    char *path = arena_alloc(arena, 300), *sig = arena_alloc(arena, 200);
    struct span blob = field(vector, "blob"), container = field(vector, "container");
    size_t len;

    if (!container.len) /* an account SAS: any container */
        container = SPAN("anything"), blob = SPAN("at/all");
    len = percent_encode(blob, "/", path);
    path = (char *)(uintptr_t)arena_printf(arena, "/%.*s/%.*s/%.*s?%.*ssig=%.*s",
                                           SPAN_FMT(field(vectors, "account")), SPAN_FMT(container),
                                           (int)len, path, SPAN_FMT(vector_query(vector)),
                                           (int)percent_encode(field(vector, "sig"), "", sig), sig)
               .base;
    request_start("GET", span_of(path));
    request.now_ns = at("Sun, 01 Mar 2026 10:00:00 GMT");
}

static struct sockaddr *peer_of(const char *address)
{
    static struct sockaddr_in v4;
    static struct sockaddr_in6 v6;

    v4.sin_family = AF_INET;
    v6.sin6_family = AF_INET6;
    if (inet_pton(AF_INET, address, &v4.sin_addr) == 1)
        return (struct sockaddr *)(void *)&v4;
    assert_int_equal(inet_pton(AF_INET6, address, &v6.sin6_addr), 1);
    return (struct sockaddr *)(void *)&v6;
}

static void test_sas__all_vectors(void **unused)
{
    size_t i;
    json_t *vector;

    assert_int_equal(json_array_size(json_object_get(vectors, "sas")), 19);
    json_array_foreach(json_object_get(vectors, "sas"), i, vector)
    {
        struct span key = account_rows[0].key[0];
        unsigned char delegation_key[64];
        struct sas sas;
        size_t len;

        vector_start(vector);
        request.peer = peer_of("1.2.3.5");
        assert_int_equal(sas_parse(&target, arena, &sas, &detail), AZ_OK);
        if (sas.kind == SAS_KIND_DELEGATION) {
            assert_int_equal(base64_decode(field(vector, "delegationKey"), delegation_key, &len),
                             0);
            key = span_from(delegation_key, len);
        }
        if (!span_eq(hmac_text(key, sas_string_to_sign(&sas, arena)), field(vector, "sig")))
            fail_msg("vector %zu", i);
        assert_int_equal(check(),
                         sas.kind == SAS_KIND_DELEGATION ? AZ_AUTHENTICATION_FAILED : AZ_OK);
        if (sas.kind == SAS_KIND_DELEGATION)
            assert_true(span_starts(detail, SPAN("User delegation SAS")));
        else
            assert_true(span_eq(granted.version, sas.fields[SAS_SV]));
    }
}

/* A service SAS on acct/ctr/d/b (or what `path` says), key1, the fields after sv given as query and
 * as lines. */
struct sas_case {
    const char *path;  /* without query */
    const char *query; /* sv, sp, ... encoded */
    const char *text;  /* string to sign */
};

static enum az_error check_sas(struct sas_case c)
{
    char sig[200];
    size_t len = percent_encode(hmac_text(SPAN("first key"), span_of(c.text)), "", sig);

    request_start("GET", arena_printf(arena, "%s?%s&sig=%.*s", c.path, c.query, (int)len, sig));
    return check();
}

#define SE      "2026-12-31T00:00:00Z"
#define SE_CODE "2026-12-31T00:00:00Z"
/* sv 2020-12-06, sr=b */
#define BLOB_QUERY(sp) "sv=2020-12-06&sr=b&se=" SE_CODE "&sp=" sp
#define BLOB_TEXT(sp, st, sip, spr)                                                                \
    sp "\n" st "\n" SE "\n/blob/acct/ctr/d/b\n\n" sip "\n" spr "\n2020-12-06\nb\n\n\n\n\n\n\n"

static void test_sas__scope(void **unused)
{
    static const struct {
        struct sas_case c;
        enum az_error error;
    } rows[] = {
        {{"/acct/ctr/d/b", BLOB_QUERY("r"), BLOB_TEXT("r", "", "", "")}, AZ_OK},
        {{"/acct-secondary/ctr/d/b", BLOB_QUERY("r"), BLOB_TEXT("r", "", "", "")}, AZ_OK},
        {{"/acct/ctr/d%2Fb", BLOB_QUERY("r"), BLOB_TEXT("r", "", "", "")}, AZ_OK},
        {{"/acct/ctr/d/c", BLOB_QUERY("r"), BLOB_TEXT("r", "", "", "")}, AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr", BLOB_QUERY("r"), BLOB_TEXT("r", "", "", "")}, AZ_AUTHENTICATION_FAILED},
        {{"/acct", BLOB_QUERY("r"), BLOB_TEXT("r", "", "", "")}, AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr/d/b", BLOB_QUERY("r"), BLOB_TEXT("rw", "", "", "")}, AZ_AUTHENTICATION_FAILED},
        /* directory: two levels deep, anything below */
        {{"/acct/ctr/d/e/f/g", "sv=2020-12-06&sr=d&sdd=2&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/e\n\n\n\n2020-12-06\nd\n\n\n\n\n\n\n"},
         AZ_OK},
        {{"/acct/ctr/d/x/f/g", "sv=2020-12-06&sr=d&sdd=2&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/e\n\n\n\n2020-12-06\nd\n\n\n\n\n\n\n"},
         AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr/d", "sv=2020-12-06&sr=d&sdd=2&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/e\n\n\n\n2020-12-06\nd\n\n\n\n\n\n\n"},
         AZ_AUTHENTICATION_FAILED},
        /* snapshot */
        {{"/acct/ctr/d/b", "snapshot=S&sv=2020-12-06&sr=bs&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nbs\nS\n\n\n\n\n\n"},
         AZ_OK},
        {{"/acct/ctr/d/b", "snapshot=T&sv=2020-12-06&sr=bs&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nbs\nS\n\n\n\n\n\n"},
         AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr/d/b", "sv=2020-12-06&sr=bs&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nbs\n\n\n\n\n\n\n"},
         AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr/d/b", "versionid=V&sv=2020-12-06&sr=bv&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nbv\nV\n\n\n\n\n\n"},
         AZ_OK},
        /* unknown kinds of resource, policies, delegation */
        {{"/acct/ctr/d/b", "sv=2020-12-06&sr=q&se=" SE_CODE "&sp=r",
          "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nq\n\n\n\n\n\n\n"},
         AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr/d/b", "sv=2020-12-06&sr=b&si=policy",
          "\n\n\n/blob/acct/ctr/d/b\npolicy\n\n\n2020-12-06\nb\n\n\n\n\n\n\n"},
         AZ_AUTHENTICATION_FAILED},
        /* versions */
        {{"/acct/ctr/d/b", "sv=2014-02-14&sr=b&se=" SE_CODE "&sp=r", ""}, AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr/d/b", "sv=9&sr=b&se=" SE_CODE "&sp=r", ""}, AZ_AUTHENTICATION_FAILED},
        {{"/acct/ctr/d/b", "sr=b&se=" SE_CODE "&sp=r", ""}, AZ_AUTHENTICATION_FAILED},
    };

    for (size_t i = 0; i < countof(rows); i++)
        if (check_sas(rows[i].c) != rows[i].error)
            fail_msg("row %zu: %.*s", i, SPAN_FMT(detail));
}

static void test_sas__time_window(void **unused)
{
    static const struct {
        const char *st, *st_query, *now;
        bool good;
    } rows[] = {
        {"", "", "Wed, 30 Dec 2026 23:59:59 GMT", true},
        {"", "", "Thu, 31 Dec 2026 00:00:00 GMT", false},
        {"2026-11-22T10:00:00Z", "&st=2026-11-22T10%3A00%3A00Z", "Sun, 22 Nov 2026 10:00:00 GMT",
         true},
        {"2026-11-22T10:00:00Z", "&st=2026-11-22T10%3A00%3A00Z", "Sun, 22 Nov 2026 09:59:59 GMT",
         false},
        {"2026-11-22", "&st=2026-11-22", "Sun, 22 Nov 2026 00:00:00 GMT", true},
        {"2026-11-22T09:00Z", "&st=2026-11-22T09%3A00Z", "Sun, 22 Nov 2026 09:00:00 GMT", true},
        {"soon", "&st=soon", "Sun, 22 Nov 2026 09:00:00 GMT", false},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        struct span text = arena_printf(
            arena, "r\n%s\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nb\n\n\n\n\n\n\n",
            rows[i].st);
        struct span query = arena_printf(arena, BLOB_QUERY("r") "%s", rows[i].st_query);

        (void)check_sas((struct sas_case){"/acct/ctr/d/b", query.base, text.base});
        request.now_ns = at(rows[i].now);
        if (check() != (rows[i].good ? AZ_OK : AZ_AUTHENTICATION_FAILED))
            fail_msg("row %zu: %.*s", i, SPAN_FMT(detail));
    }
    assert_int_equal(check_sas((struct sas_case){
                         "/acct/ctr/d/b", "sv=2020-12-06&sr=b&sp=r",
                         "r\n\n\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nb\n\n\n\n\n\n\n"}),
                     AZ_AUTHENTICATION_FAILED);
}

static void test_sas__source_address(void **unused)
{
    static const struct {
        const char *sip, *peer;
        enum az_error error;
    } rows[] = {
        {"10.0.0.5", "10.0.0.5", AZ_OK},
        {"10.0.0.5", "10.0.0.6", AZ_AUTHORIZATION_SOURCE_IP_MISMATCH},
        {"10.0.0.5", "::ffff:10.0.0.5", AZ_OK},
        {"10.0.0.5-10.0.1.9", "10.0.1.0", AZ_OK},
        {"10.0.0.5-10.0.1.9", "10.0.1.10", AZ_AUTHORIZATION_SOURCE_IP_MISMATCH},
        {"10.0.0.5-10.0.1.9", "::1", AZ_AUTHORIZATION_SOURCE_IP_MISMATCH},
        {"10.0.0.5", NULL, AZ_AUTHORIZATION_SOURCE_IP_MISMATCH},
        {"10.0.0", "10.0.0.5", AZ_AUTHENTICATION_FAILED},
        {"10.0.0.1-", "10.0.0.5", AZ_AUTHENTICATION_FAILED},
        {"everywhere", "10.0.0.5", AZ_AUTHENTICATION_FAILED},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        struct span text = arena_printf(
            arena, "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n%s\n\n2020-12-06\nb\n\n\n\n\n\n\n",
            rows[i].sip);
        struct span query = arena_printf(arena, BLOB_QUERY("r") "&sip=%s", rows[i].sip);

        (void)check_sas((struct sas_case){"/acct/ctr/d/b", query.base, text.base});
        request.peer = rows[i].peer ? peer_of(rows[i].peer) : NULL;
        if (check() != rows[i].error)
            fail_msg("%s from %s", rows[i].sip, rows[i].peer);
    }
}

static void test_sas__protocol(void **unused)
{
    static const struct {
        const char *spr;
        bool tls;
        enum az_error error;
    } rows[] = {
        {"https", true, AZ_OK},
        {"https", false, AZ_AUTHORIZATION_PROTOCOL_MISMATCH},
        {"https,http", false, AZ_OK},
        {"http,https", true, AZ_OK},
        {"http", false, AZ_AUTHENTICATION_FAILED},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        struct span text = arena_printf(
            arena, "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n%s\n2020-12-06\nb\n\n\n\n\n\n\n",
            rows[i].spr);
        struct span query = arena_printf(arena, BLOB_QUERY("r") "&spr=%s", rows[i].spr);

        (void)check_sas((struct sas_case){"/acct/ctr/d/b", query.base, text.base});
        request.tls = rows[i].tls;
        if (check() != rows[i].error)
            fail_msg("%s", rows[i].spr);
    }
}

static void test_sas__service_rights(void **unused)
{
    const struct sas_case create = {"/acct/ctr/d/b", BLOB_QUERY("cr"), BLOB_TEXT("cr", "", "", "")};

    assert_int_equal(check_sas(create), AZ_OK);
    assert_int_equal(granted.kind, AUTH_BY_SERVICE_SAS);
    assert_int_equal(granted.rights, AUTH_CREATE | AUTH_READ);
    request.need = (struct auth_need){AUTH_OBJECT, 0, AUTH_CREATE | AUTH_WRITE};
    assert_int_equal(check(), AZ_OK);
    request.need = (struct auth_need){AUTH_OBJECT, AUTH_ALL, AUTH_WRITE};
    assert_int_equal(check(), AZ_AUTHORIZATION_PERMISSION_MISMATCH);
    request.need = (struct auth_need){AUTH_CONTAINER, AUTH_ALL, 0};
    assert_int_equal(check(), AZ_AUTHORIZATION_FAILURE);
}

static void test_sas__account_rights(void **unused)
{
    static const struct {
        const char *ss, *srt;
        struct auth_need need;
        enum az_error error;
    } rows[] = {
        {"b", "sco", {AUTH_OBJECT, AUTH_WRITE | AUTH_CREATE, 0}, AZ_OK},
        {"bqtf", "o", {AUTH_OBJECT, AUTH_WRITE, 0}, AZ_OK},
        {"qtf", "sco", {AUTH_OBJECT, AUTH_WRITE, 0}, AZ_AUTHORIZATION_SERVICE_MISMATCH},
        {"b", "sc", {AUTH_OBJECT, AUTH_WRITE, 0}, AZ_AUTHORIZATION_RESOURCE_TYPE_MISMATCH},
        {"b", "o", {AUTH_CONTAINER, AUTH_WRITE, 0}, AZ_AUTHORIZATION_RESOURCE_TYPE_MISMATCH},
        {"b", "co", {AUTH_SERVICE, AUTH_WRITE, 0}, AZ_AUTHORIZATION_RESOURCE_TYPE_MISMATCH},
        {"b", "sco", {AUTH_OBJECT, AUTH_READ, AUTH_WRITE}, AZ_AUTHORIZATION_PERMISSION_MISMATCH},
        {"b", "sco", {AUTH_CONTAINER, 0, AUTH_WRITE}, AZ_AUTHORIZATION_FAILURE},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        struct span text = arena_printf(arena, "acct\nwd\n%s\n%s\n\n" SE "\n\n\n2020-12-06\n\n",
                                        rows[i].ss, rows[i].srt);
        struct span query = arena_printf(arena, "sv=2020-12-06&ss=%s&srt=%s&se=" SE_CODE "&sp=wd",
                                         rows[i].ss, rows[i].srt);

        (void)check_sas((struct sas_case){"/acct/ctr/d/b", query.base, text.base});
        request.need = rows[i].need;
        if (check() != rows[i].error)
            fail_msg("row %zu", i);
    }
}

static void test_sas__overrides(void **unused)
{
    const char *query = BLOB_QUERY("r") "&rscc=no-cache&rscd=a%3Bb&rsce=gzip&rscl=de&rsct=text%2Fx";
    const char *text =
        "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nb\n\n\nno-cache\na;b\ngzip\nde\ntext/x";
    const char *account = "sv=2020-12-06&ss=b&srt=o&se=" SE_CODE "&sp=r&rsct=text%2Fx";

    assert_int_equal(check_sas((struct sas_case){"/acct/ctr/d/b", query, text}), AZ_OK);
    assert_true(span_eq(granted.overrides.cache_control, SPAN("no-cache")));
    assert_true(span_eq(granted.overrides.content_disposition, SPAN("a;b")));
    assert_true(span_eq(granted.overrides.content_encoding, SPAN("gzip")));
    assert_true(span_eq(granted.overrides.content_language, SPAN("de")));
    assert_true(span_eq(granted.overrides.content_type, SPAN("text/x")));
    assert_int_equal(check_sas((struct sas_case){"/acct/ctr/d/b", account,
                                                 "acct\nr\nb\no\n\n" SE "\n\n\n2020-12-06\n\n"}),
                     AZ_OK);
    assert_null(granted.overrides.content_type.base);
}

/* rscd=attachment; filename="a b+c" as Go's url.Values and .NET write it into a query. */
static void test_sas__plus_for_a_space_in_a_value(void **unused)
{
    const char *text = "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nb\n\n\n\n"
                       "attachment; filename=\"a b+c\"\n\n\n";
    static const char *const values[] = {"attachment;+filename=%22a+b%2Bc%22",
                                         "attachment%3B+filename%3D%22a%20b%2Bc%22",
                                         "attachment%3B%20filename%3D%22a%20b+c%22"};

    for (size_t i = 0; i < countof(values); i++) {
        const char *query = arena_printf(arena, BLOB_QUERY("r") "&rscd=%s", values[i]).base;

        assert_int_equal(check_sas((struct sas_case){"/acct/ctr/d/b", query, text}), AZ_OK);
        assert_true(
            span_eq(granted.overrides.content_disposition, SPAN("attachment; filename=\"a b+c\"")));
    }
    assert_int_equal(
        check_sas((struct sas_case){"/acct/ctr/d/b", BLOB_QUERY("r") "&rscd=a+b",
                                    "r\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\n"
                                    "b\n\n\n\na-b\n\n\n"}),
        AZ_AUTHENTICATION_FAILED);
}

/* A signature with '+' reaches us as %2B, as '+', or as a space. */
static void test_sas__plus_in_the_signature(void **unused)
{
    unsigned seen = 0;

    for (unsigned n = 0; n < 200 && seen < 3; n++) {
        struct span sp = arena_printf(arena, "r%u", n);
        struct span text = arena_printf(
            arena, "%.*s\n\n" SE "\n/blob/acct/ctr/d/b\n\n\n\n2020-12-06\nb\n\n\n\n\n\n\n",
            SPAN_FMT(sp));
        struct span sig = hmac_text(SPAN("first key"), text);
        char coded[200];

        if (!memchr(sig.base, '+', sig.len))
            continue;
        seen++;
        request_start("GET", arena_printf(arena, "/acct/ctr/d/b?" BLOB_QUERY("%.*s") "&sig=%.*s",
                                          SPAN_FMT(sp), SPAN_FMT(sig)));
        assert_int_equal(check(), AZ_OK);
        request_start("GET",
                      arena_printf(arena, "/acct/ctr/d/b?" BLOB_QUERY("%.*s") "&sig=%.*s",
                                   SPAN_FMT(sp), (int)percent_encode(sig, "", coded), coded));
        assert_int_equal(check(), AZ_OK);
        for (size_t i = 0; i < sig.len; i++)
            coded[i] = sig.base[i] == '+' ? ' ' : sig.base[i];
        request_start("GET", arena_printf(arena, "/acct/ctr/d/b?" BLOB_QUERY("%.*s") "&sig=%.*s",
                                          SPAN_FMT(sp), (int)sig.len, coded));
        assert_int_equal(check(), AZ_OK);
    }
    assert_int_equal(seen, 3);
}

static void test_sas__missing_or_bad_signatures(void **unused)
{
    static const char *const bad[] = {
        "&sig=", "&sig=abc", "&sig", "&sig=47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFU%3D",
        "&sig=47DEQpj8HBSa%2B%2FTImW%2B5JCeuQeRkm5NMpJWZG3hSuFUAAAA%3D"};

    for (size_t i = 0; i < countof(bad); i++) {
        request_start("GET", arena_printf(arena, "/acct/ctr/d/b?" BLOB_QUERY("r") "%s", bad[i]));
        assert_int_equal(check(), AZ_AUTHENTICATION_FAILED);
    }
    request_start("GET", SPAN("/acct/ctr/d/b?" BLOB_QUERY("r")));
    assert_int_equal(check(), AZ_NO_AUTHENTICATION_INFORMATION);
}

static void test_rights__letters(void **unused)
{
    assert_int_equal(auth_rights(SPAN("racwdxyltfmeiup")), AUTH_ALL);
    assert_int_equal(auth_rights(SPAN("l")), AUTH_LIST);
    assert_int_equal(auth_rights(SPAN("y")), AUTH_DELETE_PERMANENT);
    assert_int_equal(auth_rights(SPAN("p")), AUTH_PROCESS);
    assert_int_equal(auth_rights(SPAN("?R ")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        T(test_shared_key__all_captured_requests_pass),
        T(test_shared_key__any_change_is_noticed),
        T(test_shared_key__either_key_signs),
        T(test_shared_key__both_sort_orders),
        T(test_shared_key__repeated_and_empty_headers),
        T(test_shared_key__date_may_be_signed_or_not),
        T(test_shared_key__standard_headers_and_their_swap),
        T(test_shared_key__length_zero_depends_on_version),
        T(test_shared_key__resource_forms),
        T(test_shared_key_lite__its_own_string),
        T(test_shared_key__skew_is_fifteen_minutes),
        T(test_auth__malformed_authorization_headers),
        T(test_sas__all_vectors),
        T(test_sas__scope),
        T(test_sas__time_window),
        T(test_sas__source_address),
        T(test_sas__protocol),
        T(test_sas__service_rights),
        T(test_sas__account_rights),
        T(test_sas__overrides),
        T(test_sas__plus_for_a_space_in_a_value),
        T(test_sas__plus_in_the_signature),
        T(test_sas__missing_or_bad_signatures),
        T(test_rights__letters),
#undef T
    };

    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
