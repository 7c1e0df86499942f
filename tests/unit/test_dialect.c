/* Goal: Put, Get, Delete and what all requests share answer as the service does, whatever the
 * engine says: status, code, headers, body, what is stored, and nothing kept. Method: requests from
 * memory over an engine in memory. */
#include "tests/unit/dialect.h"

/* ---- all requests ---- */

static void test_dialect__every_answer_has_the_common_headers(void **state)
{
    ASK("GET", "/acct/ctr/none", "x-ms-client-request-id: abc-1\nx-ms-version: 2099-01-01\n", 404,
        "BlobNotFound");
    assert_header("x-ms-client-request-id", "abc-1");
    assert_header("x-ms-version", "2099-01-01"); /* newer than we know: accepted */
    assert_header("Content-Type", "application/xml");
    assert_int_equal(answer.body_bytes, answer.body_len);
    assert_memory_equal(answer.body, "\xef\xbb\xbf<?xml", 8);
    assert_body_has("<Message>The specified blob does not exist.\nRequestId:");
    assert_true(span_eq(answer.reason, SPAN("The specified blob does not exist.")));
    put("/acct/ctr/b", "x");
    ASK("GET", "/acct/ctr/b", "x-ms-client-request-id: abc-2\n", 200, NULL);
    assert_header("x-ms-client-request-id", "abc-2");
}

static void test_dialect__error_details_stay_xml(void **state)
{
    char *value = arena_alloc(engine.arena, 2001);

    for (unsigned i = 0; i < 2000; i += 2)
        memcpy(value + i, "\xc3\xa9", 2);
    value[2000] = 0;
    ASK("GET", arena_printf(engine.arena, "/acct?comp=list&maxresults=a%s", value).base, "", 400,
        "InvalidQueryParameterValue");
    assert_body_has("\xc3\xa9</QueryParameterValue>");
}

static void test_dialect__head_errors_have_no_body(void **state)
{
    ASK("HEAD", "/acct/ctr/none", "", 404, "BlobNotFound");
    assert_int_equal(answer.body_len, 0);
}

static const struct {
    const char *method, *target, *headers;
    int status;
    const char *code;
} bad_requests[] = {
    {"GET", "/acct/ctr/b", "x-ms-version: yesterday\n", 400, "InvalidHeaderValue"},
    {"PATCH", "/acct/ctr/b", "", 405, "UnsupportedHttpVerb"},
    {"POST", "/acct/ctr/b", "", 405, "UnsupportedHttpVerb"},
    {"DELETE", "/acct/ctr/b?comp=block", "", 405, "UnsupportedHttpVerb"},
    {"OPTIONS", "/acct/ctr/b", "origin: http://a\naccess-control-request-method: GET\n", 403,
     "CorsPreflightFailure"},
    {"OPTIONS", "/acct/ctr/b", "origin: http://a\n", 400, "InvalidHeaderValue"},
    {"GET", "/acct/ctr/b?comp=nonsense", "", 400, "InvalidQueryParameterValue"},
    {"GET", "/acct/ctr?restype=nonsense", "", 400, "InvalidQueryParameterValue"},
    {"GET", "/nobody/ctr/b", "", 404, "ResourceNotFound"},
    {"GET", "/acct/missing/b", "", 404, "ContainerNotFound"},
    {"GET", "/acct/missing?restype=container", "", 404, "ContainerNotFound"},
    {"GET", "/acct/UPPER/b", "", 400, "InvalidResourceName"},
    {"GET", "/acct/ctr/b%zz", "", 400, "InvalidUri"},
    {"PUT", "/acct/ctr/b", "", 400, "MissingRequiredHeader"},
    {"PUT", "/acct/ctr/b", "x-ms-blob-type: Blob\n", 400, "InvalidHeaderValue"},
    {"PUT", "/acct/ctr/b", "x-ms-blob-type: PageBlob\n", 400, "UnsupportedHeader"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-copy-source: http://x/y\n", 400,
     "CannotVerifyCopySource"},
    {"PUT", "/acct/ctr/b", "x-ms-copy-source: http://x/y\n", 400, "CannotVerifyCopySource"},
    {"PUT", "/acct/ctr/b?comp=lease", "", 400, "MissingRequiredHeader"},
    {"PUT", "/acct/ctr/b?comp=expiry", "", 400, "UnsupportedQueryParameter"},
    {"GET", "/acct/ctr/b", "x-ms-lease-id: 1\n", 400, "InvalidHeaderValue"},
    {"PUT", "/acct/ctr/b?comp=snapshot", "", 404, "BlobNotFound"},
    {"PUT", "/acct/ctr/b?snapshot=2020-01-01T00:00:00.0000000Z", BLOCK_BLOB, 400,
     "InvalidOperation"},
    {"PUT", "/acct/ctr/none?comp=tags", "", 404, "BlobNotFound"},
    {"GET", "/acct/ctr/none?comp=tags", "", 404, "BlobNotFound"},
    {"POST", "/acct?comp=batch&restype=container", "", 400, "MissingRequiredHeader"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-structured-body: XSM/1.0; properties=crc64\n", 400,
     "MissingRequiredHeader"},
    {"HEAD", "/acct/ctr/b", "x-ms-structured-body: XSM/1.0; properties=crc64\n", 400,
     "UnsupportedHeader"},
    {"PUT", "/acct/ctr/b?comp=metadata", "x-ms-structured-body: XSM/1.0; properties=crc64\n", 400,
     "UnsupportedHeader"},
    {"GET", "/acct/ctr/b", "x-ms-structured-body: XSM/2.0; properties=crc64\n", 400,
     "InvalidHeaderValue"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-tags: a!=b\n", 400, "InvalidTag"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-access-tier: warm\n", 400, "InvalidBlobTier"},
    {"GET", "/acct/ctr/b?snapshot=2020-01-01T00:00:00.0000000Z", "", 404, "BlobNotFound"},
    {"GET", "/acct/ctr/b?snapshot=2020-01-01", "", 400, "InvalidQueryParameterValue"},
    {"GET", "/acct/ctr?restype=container&comp=list&snapshot=2020-01-01T00:00:00.0000000Z", "", 400,
     "UnsupportedQueryParameter"},
    {"GET", "/acct/ctr/b?versionid=2020-01-01T00:00:00.0000000Z", "", 400,
     "UnsupportedQueryParameter"},
    {"GET", "/acct?restype=service&comp=stats", "", 400, "InvalidQueryParameterValue"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "Content-MD5: AAAA\n", 400, "InvalidMd5"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "Content-MD5: not base64 at all!!\n", 400, "InvalidMd5"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-blob-content-md5: AAAA\n", 400, "InvalidMd5"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-blob-content-disposition: caf\xe9\n", 400,
     "InvalidHeaderValue"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "Content-Type: \xef\xbf\xbf\n", 400, "InvalidHeaderValue"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-content-crc64: AAAA\n", 400, "InvalidHeaderValue"},
    {"PUT", "/acct/ctr/b",
     BLOCK_BLOB "x-ms-content-crc64: AAAAAAAAAAA=\nContent-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\n", 400,
     "BothCrc64AndMd5HeaderPresent"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-meta-: v\n", 400, "EmptyMetadataKey"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-meta-1a: v\n", 400, "InvalidMetadata"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-meta-a-b: v\n", 400, "InvalidMetadata"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-meta-a: v\nx-ms-meta-A: w\n", 400, "InvalidMetadata"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-meta-a: \xc3\xa9\n", 400, "InvalidMetadata"},
    {"PUT", "/acct/ctr/b", BLOCK_BLOB "If-Match: \"a\"\nIf-None-Match: *\n", 400,
     "MultipleConditionHeadersNotSupported"},
    {"PUT", "/acct/ctr/b?comp=block", "", 400, "MissingRequiredQueryParameter"},
    {"PUT", "/acct/ctr/b?comp=block&blockid=*", "", 400, "InvalidQueryParameterValue"},
    {"PUT", "/acct/ctr/b?comp=block&blockid=QQ==", "", 400, "InvalidHeaderValue"}, /* no bytes */
    {"PUT", "/acct/ctr/b?comp=blocklist", "", 400, "InvalidXmlDocument"},
    {"GET", "/acct/ctr/b?comp=blocklist&blocklisttype=some", "", 400, "InvalidQueryParameterValue"},
    {"GET", "/acct/ctr?restype=container&comp=list&maxresults=0", "", 400,
     "OutOfRangeQueryParameterValue"},
    {"GET", "/acct/ctr?restype=container&comp=list&marker=x", "", 400,
     "InvalidQueryParameterValue"},
    {"GET", "/acct/ctr?restype=container&comp=list&marker=2!9!YQ", "", 400, "InvalidInput"},
    {"GET", "/acct/ctr?restype=container&comp=list&include=permissions", "", 400,
     "InvalidQueryParameterValue"},
    {"GET", "/acct/ctr?restype=container&comp=list&include=snapshots&delimiter=/", "", 400,
     "InvalidQueryParameterValue"},
    {"GET", "/acct/ctr?restype=container&comp=list&endBefore=a", "", 400,
     "UnsupportedQueryParameter"},
    {"GET", "/acct?comp=list&marker=x", "", 400, "InvalidQueryParameterValue"},
    {"PUT", "/acct/new?restype=container", "x-ms-blob-public-access: blob\n", 409,
     "PublicAccessNotPermitted"},
    {"PUT", "/acct/ctr?restype=container", "", 409, "ContainerAlreadyExists"},
    {"PUT", "/acct-secondary/ctr/b", BLOCK_BLOB, 403, "InsufficientAccountPermissions"},
    {"PUT", "/acct/read/b", BLOCK_BLOB, 403, "AuthorizationPermissionMismatch"},
    {"DELETE", "/acct/ctr/none", "", 404, "BlobNotFound"},
    {"PUT", "/acct/ctr/none?comp=metadata", "", 404, "BlobNotFound"},
    {"PUT", "/acct/ctr/none?comp=properties", "", 404, "BlobNotFound"},
    {"GET", "/acct/ctr/none?comp=blocklist", "", 404, "BlobNotFound"},
    {"DELETE", "/acct/missing?restype=container", "", 404, "ContainerNotFound"},
};

static void test_dialect__bad_requests(void **state)
{
    for (size_t i = 0; i < countof(bad_requests); i++) {
        ask(bad_requests[i].method, bad_requests[i].target, bad_requests[i].headers);
        if (answer.status != bad_requests[i].status ||
            !span_eq(fake_answer_header(&answer, "x-ms-error-code"), span_of(bad_requests[i].code)))
            fail_msg("%s %s %s: %d %s", bad_requests[i].method, bad_requests[i].target,
                     bad_requests[i].headers, answer.status, body_text());
        assert_answer(bad_requests[i].status, bad_requests[i].code);
        assert_int_equal(engine.blob_count, 0);
    }
}

static void test_dialect__who_may_not_is_told_first(void **state)
{
    run(&(struct fake_request){.method = "GET", .target = "/acct/ctr/b", .headers = ""});
    assert_answer(409, "PublicAccessNotPermitted");
    run(&(struct fake_request){.method = "PUT", .target = "/acct/ctr/b?comp=lease", .headers = ""});
    assert_answer(401, "NoAuthenticationInformation");
    assert_true(fake_answer_header(&answer, "WWW-Authenticate").len > 0);
    sas = fake_sas(engine.arena, SPAN("acct"), SPAN("wrong"), "rwdlact");
    ASK("GET", "/acct/ctr/b", "", 403, "AuthenticationFailed");
    sas = fake_sas(engine.arena, SPAN("acct"), SPAN("secret"), "r");
    ASK("PUT", "/acct/ctr/b", BLOCK_BLOB, 403, "AuthorizationPermissionMismatch");
}

static void test_dialect__refuses_before_it_reads_a_body(void **state)
{
    static const struct fake_request requests[] = {
        {.method = "PUT", .target = "/acct/ctr/b", .headers = BLOCK_BLOB, .chunked = true},
        {.method = "PUT", .target = "/acct/ctr/b", .headers = BLOCK_BLOB, .claim = 6LL << 30},
        {.method = "PUT",
         .target = "/acct/ctr/b?comp=block&blockid=QQ==",
         .headers = "",
         .claim = 6LL << 30},
        {.method = "PUT", .target = "/acct/none/b", .headers = BLOCK_BLOB, .claim = 100},
        {.method = "PUT", .target = "/acct/read/b", .headers = BLOCK_BLOB, .claim = 100},
        {.method = "PUT",
         .target = "/acct/ctr/there",
         .headers = BLOCK_BLOB "If-None-Match: *\n",
         .claim = 100},
        {.method = "PUT",
         .target = "/acct/ctr/b",
         .headers = BLOCK_BLOB "If-Match: *\n",
         .claim = 100},
        {.method = "PUT",
         .target = "/acct/ctr/b?comp=blocklist",
         .headers = "",
         .claim = 100 << 20},
    };
    static const struct {
        int status;
        const char *code;
    } want[] = {{411, "MissingContentLengthHeader"},
                {413, "RequestBodyTooLarge"},
                {413, "RequestBodyTooLarge"},
                {404, "ContainerNotFound"},
                {403, "AuthorizationPermissionMismatch"},
                {409, "BlobAlreadyExists"},
                {412, "ConditionNotMet"},
                {413, "RequestBodyTooLarge"}};

    put("/acct/ctr/there", "x");
    for (size_t i = 0; i < countof(requests); i++) {
        struct fake_request request = requests[i];

        request.target = with_sas(request.target);
        run(&request);
        assert_answer(want[i].status, want[i].code);
        assert_false(answer.read_called);
    }
    assert_body_has("<MaxLimit>");
}

/* ---- Put Blob, Get Blob ---- */

static void test_put_blob__stores_what_was_sent(void **state)
{
    ask_body("PUT", "/acct/ctr/dir/b%20c",
             BLOCK_BLOB
             "Content-Type: text/x\nx-ms-blob-cache-control: no\nx-ms-meta-Key: Va Lue\n",
             "hello");
    assert_answer(201, NULL);
    assert_header("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==");
    assert_header("x-ms-content-crc64", "V0JSBnCFdzM=");
    assert_header("x-ms-request-server-encrypted", "true");
    assert_header("x-hearth-durability", "local");
    assert_int_equal(answer.body_bytes, 0);
    assert_int_equal(fake_answer_header(&answer, "ETag").len, 20);
    assert_int_equal(engine.uploads, 0); /* a local account */

    ask("GET", "/acct/ctr/dir/b%20c", "");
    assert_answer(200, NULL);
    assert_string_equal(body_text(), "hello");
    assert_header("Content-Type", "text/x");
    assert_header("Cache-Control", "no");
    assert_header("x-ms-meta-Key", "Va Lue");
    assert_header("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==");
    assert_header("Accept-Ranges", "bytes");
    assert_header("x-ms-blob-type", "BlockBlob");
    assert_header("x-ms-lease-status", "unlocked");
    assert_header("x-ms-lease-state", "available");
    assert_header("x-ms-server-encrypted", "true");
    assert_header("x-hearth-cache", "hit");
    assert_header("Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT");
    assert_header("x-ms-creation-time", "Tue, 14 Nov 2023 22:13:20 GMT");
    assert_header("Content-Encoding", NULL);

    ask("HEAD", "/acct/ctr/dir/b%20c", "x-ms-range: bytes=1-2\n");
    assert_answer(200, NULL);
    assert_int_equal(answer.body_bytes, 5);
    assert_int_equal(answer.body_len, 0);
    assert_header("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==");
    assert_header("x-ms-access-tier", "Hot");
}

static void test_put_blob__metadata_prefix_is_lower_case(void **state)
{
    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB "X-MS-Meta-Some_Key: v\n", "x");
    ask("HEAD", "/acct/ctr/b", "");
    for (unsigned i = 0; i < answer.header_count; i++)
        if (span_starts(answer.headers[i].name, SPAN("x-ms-meta-"))) {
            assert_true(span_eq(answer.headers[i].name, SPAN("x-ms-meta-Some_Key")));
            return;
        }
    fail_msg("no metadata");
}

static void test_put_blob__hashes_are_checked(void **state)
{
    static const struct {
        const char *headers;
        int status;
        const char *code;
    } cases[] = {
        {"Content-MD5: XUFAKrxLKna5cZ2REBfFkg==\n", 201, NULL},
        {"Content-MD5: 1B2M2Y8AsgTpgAmY7PhCfg==\n", 400, "Md5Mismatch"},
        {"x-ms-blob-content-md5: XUFAKrxLKna5cZ2REBfFkg==\n", 201, NULL},
        {"x-ms-blob-content-md5: 1B2M2Y8AsgTpgAmY7PhCfg==\n", 400, "Md5Mismatch"},
        {"x-ms-content-crc64: V0JSBnCFdzM=\n", 201, NULL},
        {"x-ms-content-crc64: AAAAAAAAAAA=\n", 400, "Crc64Mismatch"},
    };

    for (size_t i = 0; i < countof(cases); i++) {
        const char *headers = arena_printf(engine.arena, BLOCK_BLOB "%s", cases[i].headers).base;

        engine.blob_count = 0;
        ask_body("PUT", "/acct/ctr/b", headers, "hello");
        assert_answer(cases[i].status, cases[i].code);
        assert_int_equal(engine.blob_count, cases[i].status == 201);
    }
}

static void test_put_blob__large_bodies_are_hashed_beside(void **state)
{
    size_t n = 3 * 1024 * 1024 + 5;
    char *body = malloc(n);
    unsigned char md5[16];
    char want[BASE64_BYTES(16) + 1] = {0};
    struct md5 *m = md5_new();

    for (size_t i = 0; i < n; i++)
        body[i] = (char)(i * 7 + i / 1000);
    md5_add(m, span_from(body, n));
    md5_end(m, md5);
    md5_free(m);
    base64_encode(span_from(md5, 16), want);
    run(&(struct fake_request){.method = "PUT",
                               .target = with_sas("/acct/ctr/b"),
                               .headers = BLOCK_BLOB,
                               .body = {body, n}});
    assert_answer(201, NULL);
    assert_header("Content-MD5", want);
    ask("GET", "/acct/ctr/b", "");
    assert_int_equal(answer.body_len, n);
    assert_memory_equal(answer.body, body, n);
    free(body);
}

static void test_put_blob__contract_may_leave_the_md5_out(void **state)
{
    ask_body("PUT", "/acct/nomd5/b", BLOCK_BLOB, "hello");
    assert_answer(201, NULL);
    assert_header("Content-MD5", NULL);
    ask("HEAD", "/acct/nomd5/b", "");
    assert_header("Content-MD5", NULL);
    ask_body("PUT", "/acct/nomd5/b", BLOCK_BLOB "Content-MD5: XUFAKrxLKna5cZ2REBfFkg==\n", "hello");
    assert_header("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==");
}

static void test_put_blob__empty(void **state)
{
    put("/acct/ctr/b", "");
    assert_header("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==");
    assert_header("x-ms-content-crc64", "AAAAAAAAAAA=");
    ASK("GET", "/acct/ctr/b", "", 200, NULL);
    assert_int_equal(answer.body_bytes, 0);
    ASK("GET", "/acct/ctr/b", "x-ms-range: bytes=0-\n", 416, "InvalidRange");
    assert_header("Content-Range", "bytes */0");
}

static void test_put_blob__overwrite_needs_the_right(void **state)
{
    sas = fake_sas(engine.arena, SPAN("acct"), SPAN("secret"), "c");
    put("/acct/ctr/b", "1");
    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB, "2");
    assert_answer(403, "UnauthorizedBlobOverwrite");
    assert_true(span_eq(engine.blobs[0]->bytes, SPAN("1")));
}

static void test_put_blob__conditions(void **state)
{
    const char *etag;

    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB "If-None-Match: *\n", "1");
    assert_answer(201, NULL);
    etag = arena_printf(engine.arena, BLOCK_BLOB "If-Match: %.*s\n",
                        SPAN_FMT(fake_answer_header(&answer, "ETag")))
               .base;
    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB "If-None-Match: *\n", "2");
    assert_answer(409, "BlobAlreadyExists");
    ask_body("PUT", "/acct/ctr/b", etag, "2");
    assert_answer(201, NULL);
    ask_body("PUT", "/acct/ctr/b", etag, "3");
    assert_answer(412, "ConditionNotMet");
    ask_body("PUT", "/acct/ctr/none", BLOCK_BLOB "If-Match: *\n", "3");
    assert_answer(412, "ConditionNotMet");
    ask_body("PUT", "/acct/ctr/b",
             BLOCK_BLOB "x-ms-lease-id: 5f5ff6d0-0000-4000-8000-000000000000\n", "3");
    assert_answer(412, "LeaseNotPresentWithBlobOperation");
    assert_true(span_eq(engine.blobs[0]->bytes, SPAN("2")));
}

static void test_put_blob__keeps_the_creation_time(void **state)
{
    int64_t created;

    put("/acct/ctr/b", "1");
    created = engine.blobs[0]->record.created_ns;
    put("/acct/ctr/b", "2");
    assert_int_equal(engine.blobs[0]->record.created_ns, created);
    assert_true(engine.blobs[0]->record.modified_ns > created);
}

static void test_put_blob__full_box_makes_it_wait_then_says_busy(void **state)
{
    engine.writer_err = -ENOSPC;
    engine.writer_err_times = 2;
    put("/acct/ctr/b", "x");
    engine.writer_err = -EDQUOT;
    engine.writer_err_times = 1;
    ask_body("PUT", "/acct/ctr/c", BLOCK_BLOB, "x");
    assert_answer(503, "ServerBusy");
    assert_true(fake_answer_header(&answer, "Retry-After").len > 0);
}

static void test_put_blob__failed_commit_changes_nothing(void **state)
{
    engine.commit_err = -EIO;
    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB, "x");
    assert_answer(503, "ServerBusy");
    engine.commit_err = -ENOENT;
    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB, "x");
    assert_answer(404, "ContainerNotFound");
    assert_int_equal(engine.blob_count, 0);
}

#define HELLO                                                                                      \
    "\x01\x2c\0\0\0\0\0\0\0\x01\0\x01\0\x01\0\x05\0\0\0\0\0\0\0hello"                              \
    "\x57\x42\x52\x06\x70\x85\x77\x33\x57\x42\x52\x06\x70\x85\x77\x33"

/* What was answered, decoded; its length, or what the decoder says. */
static int64_t structured_answer(const char **ret)
{
    struct structured_in in;
    struct span length = fake_answer_header(&answer, "x-ms-structured-content-length");
    char *copy = (char *)arena_copy(engine.arena, span_from(answer.body, answer.body_len)).base;
    uint64_t content = 0;
    size_t n = 0;
    int err;

    assert_header("x-ms-structured-body", STRUCTURED_TYPE);
    assert_int_equal(span_to_u64(length, &content), 0);
    structured_in_init(&in, (uint64_t)answer.body_bytes, content);
    err = structured_decode(&in, copy, answer.body_len, &n);
    *ret = copy;
    return err ? err : in.region == STRUCTURED_WHOLE ? (int64_t)n : -EAGAIN;
}

static void test_get_blob__structured(void **state)
{
    static char body[200000];
    const char *got, *asked = "x-ms-structured-body: XSM/1.0;  Properties=CRC64\n";

    for (size_t i = 0; i + 1 < sizeof(body); i++)
        body[i] = (char)('a' + i % 23);
    put("/acct/ctr/b", body);
    put("/acct/ctr/empty", "");
    for (unsigned n = 0; n < 4;
         n++) { /* slices of several sizes, confirmed at once or at the end */
        engine.slice_bytes = n & 1 ? 4000 : 0;
        engine.unchecked = n & 2;
        ASK("GET", "/acct/ctr/b", asked, 200, NULL);
        assert_int_equal(structured_answer(&got), sizeof(body) - 1);
        assert_memory_equal(got, body, sizeof(body) - 1);
        ask("GET", "/acct/ctr/b",
            arena_printf(engine.arena, "%sx-ms-range: bytes=100-299\n", asked).base);
        assert_answer(206, NULL);
        assert_header("Content-Range", "bytes 100-299/199999");
        assert_int_equal(structured_answer(&got), 200);
        assert_memory_equal(got, body + 100, 200);
        ask("GET", "/acct/ctr/b", /* all of it withheld, in as many slices as a send takes */
            arena_printf(engine.arena, "%sx-ms-range: bytes=0-63999\n", asked).base);
        assert_int_equal(structured_answer(&got), 64000);
        assert_memory_equal(got, body, 64000);
    }
    engine.settle_err = -EUCLEAN; /* what came last is never sent, the checksums neither */
    ask("GET", "/acct/ctr/b", asked);
    assert_false(answer.whole);
    assert_int_equal(structured_answer(&got), -EAGAIN);
    engine.settle_err = 0;
    ASK("GET", "/acct/ctr/empty", asked, 200, NULL);
    assert_int_equal(structured_answer(&got), 0);
    ASK("GET", "/acct/ctr/b",
        "x-ms-structured-body: XSM/1.0; properties=crc64\n"
        "x-ms-range: bytes=0-9\nx-ms-range-get-content-md5: true\n",
        400, "UnsupportedHeader");
}

/* They are of the content: a block of 4000 MiB may come with what structures it. */
static void test_dialect__structured_limits(void **state)
{
    static const struct {
        uint64_t content, segments;
        int status;
        const char *code;
    } cases[] = {{MIB(4000), 1000, 400, "InvalidInput"}, /* accepted; then nothing comes */
                 {MIB(4000) + 1, 1001, 413, "RequestBodyTooLarge"}};

    for (unsigned i = 0; i < countof(cases); i++) {
        run(&(struct fake_request){
            .method = "PUT",
            .target = with_sas("/acct/ctr/b?comp=block&blockid=QQ=="),
            .headers = arena_printf(engine.arena,
                                    "x-ms-structured-body: " STRUCTURED_TYPE
                                    "\nx-ms-structured-content-length: %llu\n",
                                    (unsigned long long)cases[i].content)
                           .base,
            .body = SPAN(""),
            .claim = (int64_t)(cases[i].content + 21 + 18 * cases[i].segments)});
        assert_answer(cases[i].status, cases[i].code);
        assert_int_equal(answer.read_called, cases[i].status == 400);
    }
}

static void test_dialect__client_gone_at_any_call_leaves_nothing(void **state)
{
    static char body[200000];
    const char *list = "<BlockList><Latest>QQ==</Latest></BlockList>";
    unsigned staged;

    memset(body, 'x', sizeof(body) - 1);
    put("/acct/ctr/big", body);
    for (unsigned n = 1; n < 12; n++) {
        const struct fake_request requests[] = {
            {.method = "PUT",
             .target = with_sas("/acct/ctr/b"),
             .headers = BLOCK_BLOB,
             .body = SPAN("hello"),
             .cancel_after = n},
            {.method = "PUT",
             .target = with_sas("/acct/ctr/b"),
             .headers = BLOCK_BLOB,
             .body = {body, 199999},
             .cancel_after = n},
            {.method = "PUT",
             .target = with_sas("/acct/ctr/b?comp=block&blockid=QQ=="),
             .headers = "",
             .body = SPAN("A"),
             .cancel_after = n},
            {.method = "PUT",
             .target = with_sas("/acct/ctr/b?comp=blocklist"),
             .headers = "",
             .body = span_of(list),
             .cancel_after = n},
            {.method = "GET",
             .target = with_sas("/acct/ctr/big"),
             .headers = "",
             .cancel_after = n},
            {.method = "GET",
             .target = with_sas("/acct/ctr/big"),
             .headers = "x-ms-structured-body: " STRUCTURED_TYPE "\n",
             .cancel_after = n},
            {.method = "PUT",
             .target = with_sas("/acct/ctr/b"),
             .headers = BLOCK_BLOB "x-ms-structured-body: " STRUCTURED_TYPE
                                   "\nx-ms-structured-content-length: 5\n",
             .body = SPAN(HELLO),
             .bytes_a_read = 6,
             .cancel_after = n},
            {.method = "GET",
             .target = with_sas("/acct/ctr?restype=container&comp=list"),
             .headers = "",
             .cancel_after = n},
            {.method = "GET",
             .target = with_sas("/acct/ctr/none"),
             .headers = "",
             .cancel_after = n},
        };

        for (size_t i = 0; i < countof(requests); i++) {
            run(&requests[i]);
            loop_run_ready(loop_poll_loop(poll_loop)); /* what was dropped comes back */
            staged = engine.staged_count;
            assert_int_equal(engine.live, staged);
        }
    }
}

static void test_get_blob__ranges(void **state)
{
    static const struct {
        const char *headers;
        int status;
        const char *range, *body;
    } cases[] = {
        {"x-ms-range: bytes=0-0\n", 206, "bytes 0-0/10", "0"},
        {"x-ms-range: bytes=2-5\nRange: bytes=0-0\n", 206, "bytes 2-5/10", "2345"},
        {"Range: bytes=7-\n", 206, "bytes 7-9/10", "789"},
        {"Range: bytes=0-99\n", 206, "bytes 0-9/10", "0123456789"},
        {"Range: bytes=-3\n", 200, NULL, "0123456789"},
        {"Range: bytes=1-2,4-5\n", 200, NULL, "0123456789"},
        {"Range: nonsense\n", 200, NULL, "0123456789"},
    };

    put("/acct/ctr/b", "0123456789");
    for (size_t i = 0; i < countof(cases); i++) {
        ask("GET", "/acct/ctr/b", cases[i].headers);
        assert_answer(cases[i].status, NULL);
        assert_header("Content-Range", cases[i].range);
        assert_string_equal(body_text(), cases[i].body);
        assert_header("Content-MD5", cases[i].range ? NULL : "eB5eJF1ptWaXm4bijSPyxw==");
        assert_header("x-ms-blob-content-md5", cases[i].range ? "eB5eJF1ptWaXm4bijSPyxw==" : NULL);
    }
    ASK("GET", "/acct/ctr/b", "Range: bytes=10-\n", 416, "InvalidRange");
    assert_header("Content-Range", "bytes */10");
}

static void test_get_blob__range_hashes(void **state)
{
    put("/acct/ctr/b", "xhellox");
    ask("GET", "/acct/ctr/b", "x-ms-range: bytes=1-5\nx-ms-range-get-content-md5: true\n");
    assert_answer(206, NULL);
    assert_header("Content-MD5", "XUFAKrxLKna5cZ2REBfFkg==");
    assert_string_equal(body_text(), "hello");
    ask("GET", "/acct/ctr/b", "x-ms-range: bytes=1-5\nx-ms-range-get-content-crc64: true\n");
    assert_answer(206, NULL);
    assert_header("x-ms-content-crc64", "V0JSBnCFdzM=");
    ASK("GET", "/acct/ctr/b", "x-ms-range-get-content-md5: true\n", 400, "InvalidHeaderValue");
}

/* Holding what is hashed while waiting for more buffers is how many of them would wait for ever. */
static void test_get_blob__a_range_hash_holds_one_buffer(void **state)
{
    static const char *const headers[] = {
        "x-ms-range: bytes=1-400000\nx-ms-range-get-content-md5: true\n",
        "x-ms-range: bytes=1-400000\nx-ms-range-get-content-crc64: true\n"};
    const size_t n = 400000;
    struct iobuf *taken[128];
    char *body = arena_alloc(engine.arena, n + 8), md5_text[BASE64_BYTES(16) + 1] = {0};
    unsigned char md5[16];
    struct md5 *m = md5_new();
    uint64_t little;
    char crc_text[BASE64_BYTES(8) + 1] = {0};
    unsigned held = 0;

    for (size_t i = 0; i < n + 1; i++)
        body[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    engine_put(SPAN("b"), span_from(body, n + 1));
    md5_add(m, span_from(body + 1, n));
    md5_end(m, md5);
    md5_free(m);
    base64_encode(span_from(md5, 16), md5_text);
    little = htole64(crc64(0, body + 1, n));
    base64_encode(span_from(&little, 8), crc_text);
    while (held < countof(taken) && (taken[held] = iobuf_try(IOBUF_64K)))
        held++;
    iobuf_unref(taken[--held]);
    for (size_t i = 0; i < countof(headers); i++) {
        ask("GET", "/acct/ctr/b", headers[i]);
        assert_answer(206, NULL);
        assert_header("Content-MD5", i ? NULL : md5_text);
        assert_header("x-ms-content-crc64", i ? crc_text : NULL);
        assert_int_equal(answer.body_len, n);
        assert_memory_equal(answer.body, body + 1, n);
    }
    while (held)
        iobuf_unref(taken[--held]);
    engine.unchecked =
        true; /* bytes on their way from the cloud: nothing leaves before they settle */
    engine.settle_err = -EUCLEAN;
    ASK("GET", "/acct/ctr/b", headers[0], 500, "InternalError");
}

static void test_get_blob__conditions(void **state)
{
    const char *match, *none_match;
    struct span etag;

    put("/acct/ctr/b", "x");
    etag = keep(fake_answer_header(&answer, "ETag"));
    match = arena_printf(engine.arena, "If-Match: %.*s\n", SPAN_FMT(etag)).base;
    none_match = arena_printf(engine.arena, "If-None-Match: %.*s\n", SPAN_FMT(etag)).base;
    ASK("GET", "/acct/ctr/b", match, 200, NULL);
    ASK("GET", "/acct/ctr/b", "If-Match: \"0x0\"\n", 412, "ConditionNotMet");
    ASK("GET", "/acct/ctr/b", none_match, 304, "ConditionNotMet");
    assert_int_equal(answer.body_len, 0);
    assert_int_equal(answer.body_bytes, 0);
    assert_header("ETag", NULL);
    ASK("HEAD", "/acct/ctr/b", none_match, 304, "ConditionNotMet");
    ASK("GET", "/acct/ctr/none", "If-Match: *\n", 404, "BlobNotFound");
    ASK("GET", "/acct/ctr/b", "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:20 GMT\n", 200, NULL);
    ASK("GET", "/acct/ctr/b", "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT\n", 412,
        "ConditionNotMet");
}

static void test_get_blob__many_slices_in_order(void **state)
{
    put("/acct/ctr/b", "0123456789abcdef0123456789abcdef0123456789abcdef");
    engine.slice_bytes = 7;
    ask("GET", "/acct/ctr/b", "x-ms-range: bytes=1-46\n");
    assert_string_equal(body_text(), "123456789abcdef0123456789abcdef0123456789abcde");
    engine.cold = true; /* by the index */
    ask("GET", "/acct/ctr/b", "");
    assert_string_equal(body_text(), "0123456789abcdef0123456789abcdef0123456789abcdef");
}

static void test_get_blob__fails_whole_or_is_cut(void **state)
{
    static char body[200001];

    memset(body, 'x', sizeof(body) - 1);
    put("/acct/ctr/b", body);
    engine.read_err = -EUCLEAN; /* before the first byte: a proper error */
    ASK("GET", "/acct/ctr/b", "", 500, "InternalError");
    engine.read_err = 0;
    engine.gap_at = 100000; /* after: only a cut can say so */
    cloud.fill_err = -EHOSTUNREACH;
    ask("GET", "/acct/ctr/b", "");
    assert_int_equal(answer.status, 200);
    assert_false(answer.whole);
    assert_true(answer.body_len < 200000);
}

static void test_get_blob__end_waits_until_all_is_checked(void **state)
{
    static char body[200001];

    memset(body, 'x', sizeof(body) - 1);
    put("/acct/ctr/b", body);
    engine.unchecked = true;
    engine.slice_bytes = 30000;
    ASK("GET", "/acct/ctr/b", "", 200, NULL);
    assert_int_equal(engine.settles, 1);
    assert_int_equal(answer.body_len, 200000);
    engine.settle_err = -EUCLEAN;
    ask("GET", "/acct/ctr/b", "");
    assert_false(answer.whole);
    assert_int_equal(answer.body_len, 200000 - 65536);
    ASK("GET", "/acct/ctr/b", "x-ms-range: bytes=0-9\n", 500,
        "InternalError"); /* nothing had left */
}

/* ---- Delete, metadata, properties ---- */

static void test_delete_blob__once(void **state)
{
    put("/acct/ctr/b", "x");
    ASK("DELETE", "/acct/ctr/b", "If-Match: \"0x0\"\n", 412, "ConditionNotMet");
    ASK("DELETE", "/acct/ctr/b", "x-ms-delete-snapshots: all\n", 400, "InvalidHeaderValue");
    ASK("DELETE", "/acct/ctr/b?snapshot=2020-01-01T00:00:00.0000000Z",
        "x-ms-delete-snapshots: only\n", 400, "InvalidOperation");
    ASK("DELETE", "/acct/ctr/b?snapshot=2020-01-01T00:00:00.0000000Z", "", 404, "BlobNotFound");
    ASK("DELETE", "/acct/ctr/b", "x-ms-delete-snapshots: include\n", 202, NULL);
    assert_header("x-ms-delete-type-permanent", "true");
    ASK("DELETE", "/acct/ctr/b", "", 404, "BlobNotFound");
    ask_body("PUT", "/acct/ctr/u?comp=block&blockid=QQ==", "", "block");
    ASK("DELETE", "/acct/ctr/u", "", 202, NULL); /* uncommitted blocks alone are enough */
    assert_int_equal(engine.staged_count, 0);
}

static void test_metadata__is_replaced_as_a_whole(void **state)
{
    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB "x-ms-meta-a: 1\nx-ms-blob-content-type: t/x\n", "x");
    ASK("PUT", "/acct/ctr/b?comp=metadata", "x-ms-meta-b: 2\n", 200, NULL);
    assert_int_equal(fake_answer_header(&answer, "ETag").len, 20);
    ASK("GET", "/acct/ctr/b?comp=metadata", "", 200, NULL);
    assert_header("x-ms-meta-a", NULL);
    assert_header("x-ms-meta-b", "2");
    ASK("HEAD", "/acct/ctr/b", "", 200, NULL);
    assert_header("Content-Type", "t/x");
    ASK("PUT", "/acct/ctr/b?comp=properties", "x-ms-blob-content-language: de\n", 200, NULL);
    ASK("HEAD", "/acct/ctr/b", "", 200, NULL);
    assert_header("Content-Type", "application/octet-stream"); /* what is left out is cleared */
    assert_header("Content-Language", "de");
    assert_header("Content-MD5", NULL);
    assert_header("x-ms-meta-b", "2");
}

static void test_append__ends_at_50_000_blocks(void **state)
{
    ASK("PUT", "/acct/ctr/log", "x-ms-blob-type: AppendBlob\n", 201, NULL);
    engine_blob(SPAN("log"))->record.committed_blocks = 49999;
    assert_int_equal(ask_body("PUT", "/acct/ctr/log?comp=appendblock", "", "last"), 201);
    assert_header("x-ms-blob-committed-block-count", "50000");
    ask_body("PUT", "/acct/ctr/log?comp=appendblock", "", "more");
    assert_answer(409, "BlockCountExceedsLimit");
    assert_body_has("committed block count cannot exceed the maximum limit of 50,000");
    ASK("GET", "/acct/ctr/log", "", 200, NULL);
    assert_string_equal(body_text(), "last");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dialect__every_answer_has_the_common_headers),
        TEST(test_dialect__error_details_stay_xml),
        TEST(test_dialect__head_errors_have_no_body),
        TEST(test_dialect__bad_requests),
        TEST(test_dialect__who_may_not_is_told_first),
        TEST(test_dialect__refuses_before_it_reads_a_body),
        TEST(test_put_blob__stores_what_was_sent),
        TEST(test_put_blob__metadata_prefix_is_lower_case),
        TEST(test_put_blob__hashes_are_checked),
        TEST(test_put_blob__large_bodies_are_hashed_beside),
        TEST(test_put_blob__contract_may_leave_the_md5_out),
        TEST(test_put_blob__empty),
        TEST(test_put_blob__overwrite_needs_the_right),
        TEST(test_put_blob__conditions),
        TEST(test_put_blob__keeps_the_creation_time),
        TEST(test_put_blob__full_box_makes_it_wait_then_says_busy),
        TEST(test_put_blob__failed_commit_changes_nothing),
        TEST(test_dialect__client_gone_at_any_call_leaves_nothing),
        TEST(test_dialect__structured_limits),
        TEST(test_get_blob__structured),
        TEST(test_get_blob__ranges),
        TEST(test_get_blob__range_hashes),
        TEST(test_get_blob__a_range_hash_holds_one_buffer),
        TEST(test_get_blob__conditions),
        TEST(test_get_blob__many_slices_in_order),
        TEST(test_get_blob__fails_whole_or_is_cut),
        TEST(test_get_blob__end_waits_until_all_is_checked),
        TEST(test_delete_blob__once),
        TEST(test_metadata__is_replaced_as_a_whole),
        TEST(test_append__ends_at_50_000_blocks),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
