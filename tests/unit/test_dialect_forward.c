/* Goal: what is the cloud's to answer is judged here, sent on without the client's credentials and
 * relayed as it came; in a scope of this box alone, and without a cloud, it is not. Method: as
 * test_dialect_cloud.c. */
#include <inttypes.h>

#include "tests/unit/dialect.h"

static struct span sent(const struct pair *pairs, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (span_eq(pairs[i].name, span_of(name)))
            return pairs[i].value;
    return (struct span){NULL, 0};
}

static void assert_sent(const char *name, const char *want)
{
    struct span value = sent(cloud.forward.headers, cloud.forward.header_count, name);

    assert_int_equal(value.base != NULL, want != NULL);
    if (want)
        assert_true(span_eq(value, span_of(want)));
}

static void answer_with(int status, const struct pair *headers, unsigned n, const char *body)
{
    cloud.forwarded = (struct forwarded){
        .status = status, .headers = headers, .header_count = n, .body = span_of(body)};
}

static void test_forward__answers_are_relayed(void **state)
{
    static const struct pair headers[] = {{SPAN("x-ms-request-id"), SPAN("theirs")},
                                          {SPAN("Content-Type"), SPAN("application/xml")},
                                          {SPAN("Transfer-Encoding"), SPAN("chunked")},
                                          {SPAN("Server"), SPAN("Azurite")},
                                          {SPAN("x-ms-new"), SPAN("kept")}};

    answer_with(200, headers, countof(headers), "<StorageServiceStats/>");
    ASK("GET", "/far?restype=service&comp=stats&timeout=5",
        "x-ms-client-request-id: c1\nx-ms-date: then\nx-ms-version: 2021-08-06\nAccept: x\n", 200,
        NULL);
    assert_string_equal(body_text(), "<StorageServiceStats/>");
    assert_header("x-ms-new", "kept");
    assert_header("x-hearth-cloud-request-id", "theirs");
    assert_header("Transfer-Encoding", NULL);
    assert_header("x-ms-version", "2021-08-06");
    assert_header("x-ms-client-request-id", "c1");
    assert_int_equal(cloud.forward.method, FORWARD_GET);
    assert_int_equal(cloud.forward.account, 2);
    assert_int_equal(cloud.forward.query_count, 3); /* nothing of the SAS */
    assert_true(span_eq(sent(cloud.forward.query, 3, "timeout"), SPAN("5")));
    assert_sent("x-ms-version", "2021-08-06");
    assert_sent("x-ms-client-request-id", "c1");
    assert_sent("x-ms-date", NULL);
    assert_sent("accept", NULL);
    assert_sent("host", NULL);
}

static void test_forward__errors_are_relayed(void **state)
{
    static const struct pair headers[] = {{SPAN("x-ms-error-code"), SPAN("InvalidInput")}};

    answer_with(400, headers, 1, "<Error><Code>InvalidInput</Code></Error>");
    ASK("GET", "/far?restype=service&comp=stats", "", 400, "InvalidInput");
    assert_string_equal(body_text(), "<Error><Code>InvalidInput</Code></Error>");
    cloud.forward_err = -EHOSTUNREACH;
    ASK("GET", "/far?restype=service&comp=stats", "", 503, "ServerBusy");
    assert_body_has("the cloud does not answer now");
    assert_header("Retry-After", "2");
    cloud.forward_err = -EACCES;
    ASK("GET", "/far?restype=service&comp=properties", "", 503, "ServerBusy");
    assert_body_has("own credential");
    cloud.forward_err = -EINPROGRESS;
    ASK("GET", "/far?restype=service&comp=properties", "", 500, "OperationTimedOut");
}

static void test_forward__judged_here_first(void **state)
{
    sas = fake_sas(engine.arena, SPAN("far"), SPAN("wrong"), "rwdlac");
    ASK("GET", "/far?restype=service&comp=stats", "", 403, "AuthenticationFailed");
    sas = fake_sas(engine.arena, SPAN("far"), SPAN("secret"), "l");
    ASK("GET", "/far?restype=service&comp=stats", "", 403, "AuthorizationPermissionMismatch");
    assert_int_equal(cloud.forwards, 0);
}

static void test_forward__not_without_a_cloud(void **state)
{
    sas = fake_sas(engine.arena, SPAN("acct"), SPAN("secret"), "rwdlac");
    ASK("GET", "/acct?restype=service&comp=stats", "", 400, "InvalidQueryParameterValue");
    ASK("GET", "/acct?restype=service&comp=properties", "", 200, NULL);
    assert_int_equal(cloud.forwards, 0);
}

/* ---- changes ---- */

static void test_forward__leases_are_the_clouds_where_the_contract_says_so(void **state)
{
    static const struct pair headers[] = {{SPAN("x-ms-lease-id"), SPAN("id")},
                                          {SPAN("ETag"), SPAN("\"0x8DCLOUD\"")}};
    struct blob *b = engine_put(SPAN("b"), SPAN("x"));
    char own[64];

    b->record.cloud_etag = SPAN("\"0x8DCLOUD\"");
    snprintf(own, sizeof(own), "If-Match: " ETAG_FMT "\n", b->record.etag);
    answer_with(201, headers, 2, "");
    ASK("PUT", "/far/ctr/b?comp=lease&timeout=7", own, 201, NULL);
    assert_header("x-ms-lease-id", "id");
    assert_true(cloud.forward.method == FORWARD_PUT && cloud.forward.container_id != 0);
    assert_in_range(cloud.forward.wait_ns, 1, 7 * NS_PER_SEC);
    assert_sent("if-match", "\"0x8DCLOUD\""); /* ours means nothing there */
    snprintf(own, sizeof(own), ETAG_FMT, b->record.etag);
    assert_header("ETag", own); /* nor theirs here */
    ASK("PUT", "/far/ctr?restype=container&comp=lease", "x-ms-lease-action: break\n", 201, NULL);
    assert_int_equal(cloud.forward.container_id,
                     container_record(engine_container(SPAN("ctr")))->id);
    assert_sent("x-ms-lease-action", "break");
    assert_int_equal(cloud.forwards, 2);
    ASK("PUT", "/far/kvs/b?comp=lease", "", 400, "MissingRequiredHeader"); /* write = local */
    ASK("PUT", "/far/kvs?restype=container&comp=lease", "", 400, "MissingRequiredHeader");
    ASK("PUT", "/far/held/b?comp=lease", "", 400, "MissingRequiredHeader"); /* lease = local */
    assert_int_equal(cloud.forwards, 2);
}

static void test_forward__times_of_here_are_put_into_those_of_there(void **state)
{
    struct blob *b = engine_put(SPAN("b"), SPAN("x"));

    b->record.cloud_etag = SPAN("\"0x8DCLOUD\"");
    b->record.modified_ns = 784111777LL * (int64_t)NS_PER_SEC;       /* 08:49:37 */
    b->record.cloud_modified_ns = 784111797LL * (int64_t)NS_PER_SEC; /* arrived at 08:49:57 */
    answer_with(201, NULL, 0, "");
    ASK("PUT", "/far/ctr/b?comp=lease", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\n", 201,
        NULL);
    assert_sent("if-unmodified-since", "Sun, 06 Nov 1994 08:49:57 GMT");
    ASK("PUT", "/far/ctr/b?comp=lease", "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\n", 201,
        NULL);
    assert_sent("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT");
    ASK("PUT", "/far/ctr/b?comp=lease", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\n", 201,
        NULL);
    assert_sent("if-modified-since", "Sun, 06 Nov 1994 08:49:57 GMT");
    ASK("PUT", "/far/ctr/b?comp=lease", "If-Modified-Since: Sun, 06 Nov 1994 09:00:00 GMT\n", 201,
        NULL);
    assert_sent("if-modified-since", "Sun, 06 Nov 1994 09:00:00 GMT");
}

static void test_forward__a_condition_waits_for_the_versions_name_there(void **state)
{
    engine_put(SPAN("b"), SPAN("x")); /* and the cloud has not got it */
    answer_with(201, NULL, 0, "");
    ASK("PUT", "/far/ctr/b?comp=lease&timeout=0", "If-Match: \"0x1\"\n", 503, "ServerBusy");
    assert_body_has("have not reached the cloud");
    assert_int_equal(cloud.forwards, 0);
    ASK("PUT", "/far/ctr/b?comp=lease&timeout=0", "", 201, NULL); /* upstream waits */
}

static void test_forward__what_is_promised_goes_through(void **state)
{
    answer_with(200, NULL, 0, "");
    sas = fake_sas(engine.arena, SPAN("far"), SPAN("secret"), "rwdlaci");
    ASK("PUT", "/far/ctr/b?comp=undelete", "", 200, NULL);
    ASK("PUT", "/far/ctr/b?comp=legalhold&versionid=1", "x-ms-legal-hold: true\n", 200, NULL);
    assert_true(
        span_eq(sent(cloud.forward.query, cloud.forward.query_count, "versionid"), SPAN("1")));
    ASK("DELETE", "/far/ctr/b?comp=immutabilityPolicies", "", 200, NULL);
    assert_int_equal(cloud.forward.method, FORWARD_DELETE);
    ASK("PUT", "/far/nowhere?restype=container&comp=undelete", "", 200, NULL);
    ask_body("PUT", "/far?restype=service&comp=properties", "Content-Type: application/xml\n",
             "<a/>");
    assert_answer(200, NULL);
    assert_true(span_eq(cloud.forward.body, SPAN("<a/>")));
    assert_sent("content-type", "application/xml");
    assert_int_equal(cloud.forwards, 5);
    ASK("PUT", "/far/nowhere/b?comp=undelete", "", 404, "ContainerNotFound");
    cloud.forward_err = -ETIMEDOUT;
    ASK("PUT", "/far/ctr/b?comp=undelete", "", 503, "ServerBusy");
    assert_body_has("have not reached the cloud");
    cloud.forward_err = -EINPROGRESS;
    ASK("PUT", "/far/ctr/b?comp=undelete", "", 500, "OperationTimedOut");
}

static void test_forward__bodies_are_bounded(void **state)
{
    char *big = arena_zalloc(engine.arena, FORWARD_BODY_BYTES_MAX + 2);

    memset(big, 'x', FORWARD_BODY_BYTES_MAX + 1);
    answer_with(202, NULL, 0, "");
    ask_body("PUT", "/far?restype=service&comp=properties", "", big);
    assert_answer(413, "RequestBodyTooLarge");
    run(&(struct fake_request){.method = "PUT",
                               .target = with_sas("/far?restype=service&comp=properties"),
                               .headers = "",
                               .body = span_of(big),
                               .chunked = true});
    assert_answer(413, "RequestBodyTooLarge");
    assert_int_equal(cloud.forwards, 0);
    big[FORWARD_BODY_BYTES_MAX] = 0;
    ask_body("PUT", "/far?restype=service&comp=properties", "", big);
    assert_answer(202, NULL);
    assert_int_equal(cloud.forward.body.len, FORWARD_BODY_BYTES_MAX);
}

static void test_forward__a_read_only_scope_stays_so(void **state)
{
    add_container("denied");
    ASK("PUT", "/far/denied/b?comp=lease", "", 403, "AuthorizationPermissionMismatch");
    assert_int_equal(cloud.forwards, 0);
}

/* ---- names in doubt ---- */

static void test_forward__a_name_in_doubt_is_asked_for(void **state)
{
    struct blob *b = engine_put(SPAN("b"), SPAN("old"));

    b->record.durability = DURABILITY_CLOUD;
    b->record.cloud_etag = SPAN("\"0x8D\"");
    b->record.checked_ns = clock_wall_ns();
    cloud.doubt = 1;
    cloud.newer = "new";
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_string_equal(body_text(), "new");
    assert_int_equal(cloud.doubt_asks, 1);
    b = engine_put(SPAN("b"), SPAN("old"));
    b->record.durability = DURABILITY_CLOUD;
    b->record.cloud_etag = SPAN("\"0x8D\"");
    b->record.checked_ns = clock_wall_ns();
    cloud.doubt_err = -EHOSTUNREACH;
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_header("x-hearth-cache", "stale");
    ASK("GET", "/far/strict/b", "", 503, "ServerBusy");   /* offline = fail */
    ASK("GET", "/far/ctr/absent", "", 503, "ServerBusy"); /* it may be there by now */
    b->record.durability = DURABILITY_LOCAL;
    ASK("GET", "/far/strict/b", "", 200, NULL); /* newer than anything the cloud has */
    ASK("GET", "/far/ctr?restype=container", "", 200, NULL);
    ASK("GET", "/far/strict?restype=container", "", 503, "ServerBusy");
    cloud.doubt_err = -ENOENT;
    ASK("GET", "/far/ctr/absent", "", 404, "BlobNotFound");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLOUD_TEST(test_forward__answers_are_relayed),
        CLOUD_TEST(test_forward__errors_are_relayed),
        CLOUD_TEST(test_forward__judged_here_first),
        CLOUD_TEST(test_forward__not_without_a_cloud),
        CLOUD_TEST(test_forward__leases_are_the_clouds_where_the_contract_says_so),
        CLOUD_TEST(test_forward__times_of_here_are_put_into_those_of_there),
        CLOUD_TEST(test_forward__a_condition_waits_for_the_versions_name_there),
        CLOUD_TEST(test_forward__what_is_promised_goes_through),
        CLOUD_TEST(test_forward__bodies_are_bounded),
        CLOUD_TEST(test_forward__a_read_only_scope_stays_so),
        CLOUD_TEST(test_forward__a_name_in_doubt_is_asked_for),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
