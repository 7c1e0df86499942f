/* Goal: what is the cloud's to answer is judged here, sent on without the client's credentials and
 * relayed as it came; in a scope of this box alone, and without a cloud, it is not. Method: as
 * test_dialect_cloud.c. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLOUD_TEST(test_forward__answers_are_relayed),
        CLOUD_TEST(test_forward__errors_are_relayed),
        CLOUD_TEST(test_forward__judged_here_first),
        CLOUD_TEST(test_forward__not_without_a_cloud),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
