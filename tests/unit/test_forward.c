/* Goal: a forwarded request reaches the cloud as it is but for our credential, once if it changes
 * anything; what comes back is the answer, bounded. The cloud is scripted. */
#include "tests/unit/upstream_run.h"

struct script {
    struct fake_answer answer;
    unsigned lose, refuse; /* so many answers are lost, or refuse our credential */
};

static void serve(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    struct script *s = arg;

    if (s->lose) {
        s->lose--;
        ret->status = 0;
        return;
    }
    *ret = s->answer;
    if (s->refuse) {
        s->refuse--;
        *ret = (struct fake_answer){.status = 403};
        strcpy(ret->headers, "x-ms-error-code: AuthenticationFailed\r\n");
    }
}

static int forward(struct run *run, const struct forward *forward, struct forwarded *ret)
{
    struct awaited awaited;

    upstream_forward(run->upstream, forward, ret, awaited_init(&awaited, run->loop));
    return loop_await(run->poll, &awaited);
}

static const struct pair acl_query[] = {{SPAN("restype"), SPAN("container")},
                                        {SPAN("comp"), SPAN("acl")}};
static const struct pair acl_headers[] = {{SPAN("x-ms-version"), SPAN("2020-10-02")},
                                          {SPAN("if-modified-since"), SPAN("then")}};
static const struct forward acl = {.account = 1,
                                   .method = FORWARD_GET,
                                   .container = SPAN("ctr"),
                                   .query = acl_query,
                                   .query_count = 2,
                                   .headers = acl_headers,
                                   .header_count = 2};

static void script(struct script *s, int status, const char *headers, const char *body)
{
    *s = (struct script){.answer = {.status = status, .body = body, .body_len = strlen(body)}};
    strcpy(s->answer.headers, headers);
}

static void test_forward__request_and_answer_as_they_are(void **state)
{
    const struct fake_request *request;
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 409, "x-ms-error-code: LeaseAlreadyPresent\r\n", "<Error/>");
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &acl, &ret), 0);
    assert_int_equal(ret.status, 409);
    assert_true(span_eq(ret.body, SPAN("<Error/>")));
    request = fake_cloud_request(run.cloud, "GET", "/acct/ctr?restype=container&comp=acl", 0);
    assert_non_null(request);
    assert_true(span_eq(fake_header(request, "x-ms-version"), SPAN("2020-10-02")));
    assert_true(span_eq(fake_header(request, "If-Modified-Since"), SPAN("then")));
    assert_true(span_starts(fake_header(request, "Authorization"), SPAN("SharedKey acct:")));
    forwarded_done(&ret);
    run_close(&run);
}

static void test_forward__a_question_is_asked_again(void **state)
{
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 200, "", "x");
    s.lose = 2;
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &acl, &ret), 0);
    assert_int_equal(ret.status, 200);
    forwarded_done(&ret);
    run_close(&run);
}

static void test_forward__a_change_is_sent_once(void **state)
{
    struct forward set = acl;
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    set.method = FORWARD_PUT;
    set.body = SPAN("<SignedIdentifiers/>");
    script(&s, 200, "", "");
    run_open(&run, serve, &s);
    for (unsigned i = 0; i < 3; i++) { /* a kept connection would be tried, and curl send again */
        assert_int_equal(forward(&run, &acl, &ret), 0);
        forwarded_done(&ret);
        s.lose = 1;
        assert_int_equal(forward(&run, &set, &ret), -EINPROGRESS);
        assert_int_equal(fake_cloud_count(run.cloud, "PUT", "comp=acl"), 1 + i);
        assert_int_equal(fake_cloud_request(run.cloud, "PUT", "", i)->body_len, set.body.len);
    }
    run_close(&run);
}

static void test_forward__our_own_credential_is_not_the_clients(void **state)
{
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 200, "", "");
    s.refuse = 1;
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &acl, &ret), -EACCES);
    assert_null(ret.arena);
    run_close(&run);
}

static void test_forward__an_answer_is_bounded(void **state)
{
    char *body = xcalloc(1, FORWARD_ANSWER_BYTES_MAX + 1);
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 200, "", "");
    s.answer.body = body;
    s.answer.body_len = FORWARD_ANSWER_BYTES_MAX;
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &acl, &ret), 0);
    assert_int_equal(ret.body.len, FORWARD_ANSWER_BYTES_MAX);
    forwarded_done(&ret);
    s.answer.body_len++;
    assert_int_equal(forward(&run, &acl, &ret), -EFBIG);
    run_close(&run);
    free(body);
}

static void test_forward__nobody_there(void **state)
{
    struct forward set = acl;
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    set.method = FORWARD_PUT;
    script(&s, 200, "", "");
    run_open(&run, serve, &s);
    run.cloud = fake_cloud_free(run.cloud);
    for (unsigned i = 0; i < 5; i++) { /* by the breaker, in the end */
        assert_int_equal(forward(&run, &set, &ret), -EHOSTUNREACH);
        assert_int_equal(forward(&run, &acl, &ret), -EHOSTUNREACH);
    }
    run.cloud = fake_cloud_new(serve, &s);
    run_close(&run);
}

static void on_cancelled(struct completion *done)
{
    done->queued = NULL;
}

static void test_forward__a_client_that_leaves_leaves_the_request(void **state)
{
    struct forward set = acl;
    struct forwarded ret = {0};
    struct completion done;
    struct script s;
    struct run run;

    set.method = FORWARD_PUT;
    script(&s, 200, "", "");
    s.answer.stall = true;
    run_open(&run, serve, &s);
    done = (struct completion){.fn = on_cancelled, .loop = run.loop};
    upstream_forward(run.upstream, &set, &ret, &done);
    RUN_UNTIL(fake_cloud_count(run.cloud, "PUT", "") == 1);
    done.cancel(&done);
    loop_poll_once(run.poll, 0);
    assert_int_equal(done.err, -ECANCELED);
    fake_cloud_release(run.cloud);
    run_close(&run);
    assert_null(ret.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward__request_and_answer_as_they_are),
        cmocka_unit_test(test_forward__a_question_is_asked_again),
        cmocka_unit_test(test_forward__a_change_is_sent_once),
        cmocka_unit_test(test_forward__our_own_credential_is_not_the_clients),
        cmocka_unit_test(test_forward__an_answer_is_bounded),
        cmocka_unit_test(test_forward__nobody_there),
        cmocka_unit_test(test_forward__a_client_that_leaves_leaves_the_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
