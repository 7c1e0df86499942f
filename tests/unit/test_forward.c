/* Goal: a forwarded request reaches the cloud as it is but for our credential, once if it changes
 * anything; what comes back is the answer, bounded. The cloud is scripted. */
#include "tests/unit/upstream_run.h"

struct script {
    struct fake_answer answer;
    unsigned lose, refuse; /* so many answers are lost, or refuse our credential */
    int head_status;       /* of questions about a name, if it is another */
};
#define HEAD_OF_A_BLOB                                                                             \
    "ETag: \"v1\"\r\nx-ms-blob-type: BlockBlob\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 "       \
    "GMT\r\n"

static void serve(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    struct script *s = arg;

    if (s->lose) {
        s->lose--;
        ret->status = 0;
        return;
    }
    *ret = s->answer;
    if (s->head_status && request->method[0] == 'H')
        ret->status = s->head_status;
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
    set.wait_ns = 10 * NS_PER_SEC;
    script(&s, 200, HEAD_OF_A_BLOB, "");
    run_open(&run, serve, &s);
    for (unsigned i = 0; i < 3; i++) { /* a kept connection would be tried, and curl send again */
        assert_int_equal(forward(&run, &acl, &ret), 0);
        forwarded_done(&ret);
        s.lose = 1;
        assert_int_equal(forward(&run, &set, &ret), -EINPROGRESS);
        assert_int_equal(fake_cloud_count(run.cloud, "PUT", "comp=acl"), 1 + i);
        assert_int_equal(fake_cloud_request(run.cloud, "PUT", "", i)->body_len, set.body.len);
        RUN_UNTIL(run.cache->lifts == i + 1);
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

/* ---- changes of names the box knows ---- */

static const struct pair lease_query[] = {{SPAN("comp"), SPAN("lease")}};
static const struct forward lease = {.account = 1,
                                     .method = FORWARD_PUT,
                                     .container = SPAN("ctr"),
                                     .blob = SPAN("b"),
                                     .container_id = 7,
                                     .query = lease_query,
                                     .query_count = 1,
                                     .wait_ns = NS_PER_SEC};

static void test_forward__a_change_is_known_when_it_is_answered(void **state)
{
    struct forward container = lease;
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 201, HEAD_OF_A_BLOB, "");
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &lease, &ret), 0);
    assert_int_equal(ret.status, 201);
    forwarded_done(&ret);
    assert_int_equal(run.cache->marks, 1);
    assert_int_equal(run.cache->lifts, 1);
    assert_int_equal(fake_cloud_count(run.cloud, "HEAD", "/acct/ctr/b"), 1);
    assert_null(fake_header(fake_cloud_request(run.cloud, "HEAD", "", 0), "if-none-match").base);
    container.blob = (struct span){NULL, 0};
    assert_int_equal(forward(&run, &container, &ret), 0);
    forwarded_done(&ret);
    assert_int_equal(run.cache->lifts, 2);
    assert_int_equal(fake_cloud_count(run.cloud, "HEAD", "restype=container"), 1);
    run_close(&run);
}

static void test_forward__a_refusal_leaves_no_doubt(void **state)
{
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 409, "x-ms-error-code: LeaseAlreadyPresent\r\n", "<Error/>");
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &lease, &ret), 0);
    assert_int_equal(ret.status, 409);
    forwarded_done(&ret);
    RUN_UNTIL(run.cache->drops == 1);
    assert_int_equal(fake_cloud_count(run.cloud, "HEAD", ""), 0);
    s.refuse = 1;
    assert_int_equal(forward(&run, &lease, &ret), -EACCES);
    RUN_UNTIL(run.cache->drops == 2);
    run_close(&run);
}

static void test_forward__a_lost_answer_is_proved_and_not_sent_again(void **state)
{
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 201, HEAD_OF_A_BLOB, "");
    s.lose = 4; /* the change's, and the first questions' */
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &lease, &ret), -EINPROGRESS);
    RUN_UNTIL(run.cache->lifts == 1);
    assert_int_equal(run.cache->drops, 0);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", ""), 1);
    assert_int_equal(forward(&run, &lease, &ret), 0); /* its turn comes again */
    forwarded_done(&ret);
    run_close(&run);
}

static void test_forward__a_failure_of_the_service_is_proved(void **state)
{
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 500, HEAD_OF_A_BLOB, "");
    s.head_status = 200;
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &lease, &ret), 0);
    assert_int_equal(ret.status, 500);
    forwarded_done(&ret);
    assert_int_equal(run.cache->lifts, 1);
    run_close(&run);
}

static void test_forward__a_mark_of_an_earlier_run_is_proved(void **state)
{
    const struct doubtful of = {.account = 1, .container = 7, .name = SPAN("b")};
    struct script s;
    struct run run;

    script(&s, 200, HEAD_OF_A_BLOB, "");
    run_open_doubtful(&run, serve, &s, &of);
    RUN_UNTIL(run.cache->lifts == 1);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", ""), 0);
    run_close(&run);
}

static void test_forward__waits_for_what_the_cloud_has_not_heard(void **state)
{
    struct forward hasty = lease;
    struct forwarded ret = {0};
    struct awaited awaited;
    struct script s;
    struct run run;

    script(&s, 201, HEAD_OF_A_BLOB, "");
    run_open(&run, serve, &s);
    run.cache->unsent_uploads = true;
    hasty.wait_ns = NS_PER_MS;
    assert_int_equal(forward(&run, &hasty, &ret), -ETIMEDOUT);
    hasty.wait_ns = 60 * NS_PER_SEC;
    upstream_forward(run.upstream, &hasty, &ret, awaited_init(&awaited, run.loop));
    run.cache->unsent_uploads = false;
    assert_int_equal(loop_await(run.poll, &awaited), 0);
    assert_int_equal(run.cache->marks, 1);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", ""), 1);
    forwarded_done(&ret);
    run_close(&run);
}

static void test_forward__one_at_a_time_and_not_too_many(void **state)
{
    struct forwarded ret[TURN_WAITING_MAX + 2] = {0};
    struct awaited awaited[TURN_WAITING_MAX + 2];
    struct forward patient = lease;
    unsigned refused = 0;
    struct script s;
    struct run run;

    script(&s, 201, HEAD_OF_A_BLOB, "");
    s.answer.stall = true;
    run_open(&run, serve, &s);
    patient.wait_ns = 60 * NS_PER_SEC;
    for (unsigned i = 0; i < countof(ret); i++)
        upstream_forward(run.upstream, &patient, &ret[i], awaited_init(&awaited[i], run.loop));
    assert_int_equal(loop_await(run.poll, &awaited[countof(ret) - 1]), -EBUSY);
    RUN_UNTIL(fake_cloud_count(run.cloud, "PUT", "") == 1);
    s.answer.stall = false;
    fake_cloud_release(run.cloud);
    for (unsigned i = 0; i + 1 < countof(ret); i++) {
        refused += loop_await(run.poll, &awaited[i]) != 0;
        forwarded_done(&ret[i]);
    }
    assert_int_equal(refused, 0);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", ""), TURN_WAITING_MAX + 1);
    run_close(&run);
}

static void test_forward__a_stop_leaves_the_doubt(void **state)
{
    struct forwarded ret = {0};
    struct script s;
    struct run run;

    script(&s, 201, HEAD_OF_A_BLOB, "");
    s.lose = 1000;
    run_open(&run, serve, &s);
    assert_int_equal(forward(&run, &lease, &ret), -EINPROGRESS);
    upstream_stop(run.upstream, NS_PER_SEC);
    assert_true(run.cache->doubt != 0);
    run_close(&run);
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
        cmocka_unit_test(test_forward__a_change_is_known_when_it_is_answered),
        cmocka_unit_test(test_forward__a_refusal_leaves_no_doubt),
        cmocka_unit_test(test_forward__a_lost_answer_is_proved_and_not_sent_again),
        cmocka_unit_test(test_forward__a_failure_of_the_service_is_proved),
        cmocka_unit_test(test_forward__a_mark_of_an_earlier_run_is_proved),
        cmocka_unit_test(test_forward__waits_for_what_the_cloud_has_not_heard),
        cmocka_unit_test(test_forward__one_at_a_time_and_not_too_many),
        cmocka_unit_test(test_forward__a_stop_leaves_the_doubt),
        cmocka_unit_test(test_forward__nobody_there),
        cmocka_unit_test(test_forward__a_client_that_leaves_leaves_the_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
