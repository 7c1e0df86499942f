/* Goal: requests reach the cloud as built and signed, answers come back streamed, every start ends
 * in one post whatever the network does. Against the scripted cloud, on the client's own loop. */
#include "tests/unit/unit.h"

#include <dlfcn.h>
#include <netdb.h>
#include <semaphore.h>

#include "base/clock.h"
#include "tests/support/fake_cloud.h"
#include "upstream/remote.h"

struct run {
    struct fake_cloud *cloud;
    struct client *client;
    struct remote *remote;
    struct account account;
    struct fake_answer answer; /* what the cloud says */
    int drop_first;            /* close the connection this many times first */
};

struct wait {
    struct completion done;
    unsigned fired;
};

static void handle(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    struct run *run = arg;

    *ret = run->answer;
    if (run->drop_first-- > 0)
        ret->status = 0;
}

static void run_open(struct run *run, const char *endpoint)
{
    *run = (struct run){.answer = {.status = 200}};
    run->cloud = fake_cloud_new(handle, run);
    run->client = client_new(8);
    run->account = (struct account){.name = SPAN("acct")};
    run->account.upstream.endpoint = span_of(endpoint ? endpoint : fake_cloud_endpoint(run->cloud));
    run->account.upstream.auth = UPSTREAM_SHARED_KEY;
    run->account.upstream.key = SPAN("secret");
    loop_enter(client_loop(run->client));
    run->remote = remote_new(&run->account, run->client,
                             &(struct remote_conf){.connections = 6, .stall_timeout_ms = 1000});
}

static void run_close(struct run *run)
{
    remote_free(run->remote);
    client_free(run->client);
    loop_enter(NULL);
    fake_cloud_free(run->cloud);
}

static void on_done(struct completion *done)
{
    container_of(done, struct wait, done)->fired++;
}

static void wait_init(struct run *run, struct wait *wait)
{
    *wait = (struct wait){.done = {.fn = on_done, .loop = client_loop(run->client)}};
}

static int wait_for(struct run *run, struct wait *wait)
{
    uint64_t give_up = clock_mono_ns() + 10 * NS_PER_SEC;

    while (!wait->fired && clock_mono_ns() < give_up)
        client_round(run->client, 50);
    assert_int_equal(wait->fired, 1);
    return wait->done.err;
}

static char received[1 << 20];
static size_t received_len;
static unsigned pauses;

static int take(struct wan *request, struct span bytes)
{
    assert_true(received_len + bytes.len <= sizeof(received));
    memcpy(received + received_len, bytes.base, bytes.len);
    received_len += bytes.len;
    return 0;
}

static void test_client__sends_what_was_built_and_signed(void **state)
{
    struct run run;
    struct wan request = {0};
    struct wait wait;
    const struct fake_request *seen;

    run_open(&run, NULL);
    run.answer.status = 201;
    strcpy(run.answer.headers, "ETag: \"0x1\"\r\nx-ms-meta-Key: v\r\n");
    wan_init(&request, run.remote, WAN_PUT, WAN_UPLOAD);
    wan_path(&request, SPAN("ctr"), SPAN("/a b//../%+\xc3\xa9"));
    wan_query(&request, "comp", SPAN("block"));
    wan_query(&request, "blockid", SPAN("a+/="));
    wan_header(&request, SPAN("x-ms-meta-empty"), SPAN(""));
    request.body = SPAN("hello");
    wait_init(&run, &wait);
    wan_start(&request, &wait.done);
    assert_int_equal(wait_for(&run, &wait), 0);
    assert_int_equal(request.answer.status, 201);
    assert_span_equal(wan_answer_header(&request.answer, SPAN("etag")), "\"0x1\"");
    assert_span_equal(wan_answer_header(&request.answer, SPAN("X-MS-META-KEY")), "v");
    seen = fake_cloud_request(run.cloud, "PUT", "", 0);
    assert_string_equal(seen->target,
                        "/acct/ctr//a%20b//../%25%2B%C3%A9?comp=block&blockid=a%2B%2F%3D");
    assert_span_equal(span_from(seen->body, seen->body_len), "hello");
    assert_true(span_starts(fake_header(seen, "authorization"), SPAN("SharedKey acct:")));
    assert_non_null(fake_header(seen, "x-ms-meta-empty").base);
    assert_null(fake_header(seen, "expect").base);
    wan_done(&request);
    run_close(&run);
}

static void test_client__streams_and_reuses_connections(void **state)
{
    static char body[700000];
    struct run run;
    struct wan request = {0};
    struct wait wait;

    run_open(&run, NULL);
    memset(body, 'x', sizeof(body));
    run.answer.body = body;
    run.answer.body_len = sizeof(body);
    for (int i = 0; i < 3; i++) {
        received_len = 0;
        wan_init(&request, run.remote, WAN_GET, WAN_READ);
        wan_path(&request, SPAN("ctr"), SPAN("b"));
        request.on_body = take;
        wait_init(&run, &wait);
        wan_start(&request, &wait.done);
        assert_int_equal(wait_for(&run, &wait), 0);
        assert_int_equal(received_len, sizeof(body));
        assert_int_equal(request.answer.body_bytes, sizeof(body));
        assert_int_equal(fake_cloud_request(run.cloud, "GET", "", (unsigned)i)->connection, 0);
    }
    wan_done(&request);
    run_close(&run);
}

static int take_after_three_pauses(struct wan *request, struct span bytes)
{
    return pauses++ < 3 ? WAN_PAUSE : take(request, bytes);
}

static void test_client__pauses_and_gives_the_same_bytes_again(void **state)
{
    static char body[300000];
    struct run run;
    struct wan request = {0};
    struct wait wait;

    run_open(&run, NULL);
    for (size_t i = 0; i < sizeof(body); i++)
        body[i] = (char)(i * 31 >> 3);
    run.answer.body = body;
    run.answer.body_len = sizeof(body);
    received_len = pauses = 0;
    wan_init(&request, run.remote, WAN_GET, WAN_READ);
    wan_path(&request, SPAN("ctr"), SPAN("b"));
    request.on_body = take_after_three_pauses;
    wait_init(&run, &wait);
    wan_start(&request, &wait.done);
    while (!wait.fired) {
        client_round(run.client, 5);
        wan_resume(&request);
    }
    assert_int_equal(wait.done.err, 0);
    assert_int_equal(received_len, sizeof(body));
    assert_memory_equal(received, body, sizeof(body));
    wan_done(&request);
    run_close(&run);
}

static int refuse(struct wan *request, struct span bytes)
{
    return -ESTALE;
}

static int refuse_after_a_pause(struct wan *request, struct span bytes)
{
    return pauses++ ? -ESTALE : WAN_PAUSE;
}

static void test_client__a_refusal_after_a_pause_ends_it_at_once(void **state)
{
    struct run run;
    struct wan request = {0};
    struct wait wait;

    run_open(&run, NULL);
    run.answer.body = "0123456789";
    run.answer.body_len = 10;
    pauses = 0;
    wan_init(&request, run.remote, WAN_GET, WAN_READ);
    wan_path(&request, SPAN("ctr"), SPAN("b"));
    request.on_body = refuse_after_a_pause;
    wait_init(&run, &wait);
    wan_start(&request, &wait.done);
    while (!pauses)
        client_round(run.client, 5);
    wan_resume(&request);
    assert_int_equal(request.state, WAN_IDLE);
    assert_int_equal(wait_for(&run, &wait), -ESTALE);
    assert_int_equal(pauses, 2);
    wan_done(&request);
    run_close(&run);
}

static int one_get(struct run *run, struct wan *request, int (*on_body)(struct wan *, struct span))
{
    struct wait wait;

    wan_init(request, run->remote, WAN_GET, WAN_READ);
    wan_path(request, SPAN("ctr"), SPAN("b"));
    request->on_body = on_body;
    wait_init(run, &wait);
    wan_start(request, &wait.done);
    return wait_for(run, &wait);
}

static void test_client__every_fault_has_its_error(void **state)
{
    struct run run;
    struct wan request = {0};

    run_open(&run, NULL);
    run.answer.body = "0123456789";
    run.answer.body_len = 10;
    assert_int_equal(one_get(&run, &request, refuse), -ESTALE);
    run.answer.cut_at = 4;
    assert_int_equal(one_get(&run, &request, NULL), -ECONNRESET);
    run.answer.cut_at = 0;
    run.answer.status = 412;
    strcpy(run.answer.headers, "x-ms-error-code: ConditionNotMet\r\n");
    assert_int_equal(one_get(&run, &request, refuse), 0); /* bodies of errors are not given */
    assert_int_equal(request.answer.status, 412);
    assert_span_equal(request.answer.code, "ConditionNotMet");
    run.answer.status = 0;
    assert_int_equal(one_get(&run, &request, NULL), -ECONNRESET);
    run.answer.stall = true;
    assert_int_equal(one_get(&run, &request, NULL), -ETIMEDOUT);
    wan_done(&request);
    run_close(&run);
}

static void test_client__refuses_at_once_when_nobody_is_there_and_recovers(void **state)
{
    struct run run;
    struct wan request = {0};

    run_open(&run, NULL);
    run.drop_first = BREAKER_FAILURES;
    for (int i = 0; i < BREAKER_FAILURES; i++)
        assert_int_equal(one_get(&run, &request, NULL), -ECONNRESET);
    assert_int_equal(one_get(&run, &request, NULL), -EHOSTUNREACH);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", ""), BREAKER_FAILURES);
    assert_false(atomic_load(&run.remote->stats.online));
    run.remote->breaker.until_ns = 0; /* the pause is over */
    assert_int_equal(one_get(&run, &request, NULL), 0);
    assert_true(atomic_load(&run.remote->stats.online));
    wan_done(&request);
    run_close(&run);
}

static void test_client__a_probe_makes_a_connection_of_its_own(void **state)
{
    struct run run;
    struct wan request = {0};

    run_open(&run, NULL);
    assert_int_equal(one_get(&run, &request, NULL), 0);
    for (int i = 0; i < BREAKER_FAILURES; i++)
        breaker_failed(&run.remote->breaker);
    run.remote->breaker.until_ns = 0;
    assert_int_equal(one_get(&run, &request, NULL), 0); /* the kept one may be dead */
    assert_int_equal(fake_cloud_request(run.cloud, "GET", "", 1)->connection, 1);
    wan_done(&request);
    run_close(&run);
}

/* Many requests are refused when a secret is replaced; the first that looks reads the file. */
static void test_client__a_new_secret_counts_for_all_that_were_refused(void **state)
{
    char path[] = "/tmp/hearth-key-XXXXXX";
    struct wan one = {0}, two = {0};
    int fd = mkstemp(path);
    struct run run;

    assert_int_equal(write(fd, "c2VjcmV0\n", 9), 9); /* "secret", as it is */
    run_open(&run, NULL);
    run.account.upstream.secret_file = span_of(path);
    run.answer.status = 403;
    assert_int_equal(one_get(&run, &one, NULL), 0);
    assert_int_equal(one_get(&run, &two, NULL), 0);
    assert_false(wan_secret_renewed(&one));
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, "b3RoZXIh\n", 9, 0), 9);
    assert_true(wan_secret_renewed(&one));
    assert_true(wan_secret_renewed(&two));
    assert_int_equal(one_get(&run, &two, NULL), 0);
    assert_false(wan_secret_renewed(&two));
    close(fd);
    unlink(path);
    wan_done(&one);
    wan_done(&two);
    run_close(&run);
}

static void test_client__uploads_leave_room_for_reads(void **state)
{
    struct run run;
    struct wan uploads[10] = {0}, read = {0};
    struct wait waits[10], wait;

    run_open(&run, NULL);
    run.answer.stall = true;
    for (unsigned i = 0; i < countof(uploads); i++) {
        wan_init(&uploads[i], run.remote, WAN_PUT, WAN_UPLOAD);
        wan_path(&uploads[i], SPAN("ctr"), SPAN("b"));
        wait_init(&run, &waits[i]);
        wan_start(&uploads[i], &waits[i].done);
    }
    assert_int_equal(run.remote->running_uploads, 6 - REMOTE_READS_RESERVED);
    wan_init(&read, run.remote, WAN_GET, WAN_READ);
    wan_path(&read, SPAN("ctr"), SPAN("b"));
    wait_init(&run, &wait);
    wan_start(&read, &wait.done);
    assert_int_equal(read.state, WAN_RUNNING);
    remote_cancel_all(run.remote);
    assert_int_equal(wait_for(&run, &wait), -ECANCELED);
    for (unsigned i = 0; i < countof(uploads); i++) {
        assert_int_equal(wait_for(&run, &waits[i]), -ECANCELED);
        wan_done(&uploads[i]);
    }
    wan_done(&read);
    run_close(&run);
}

static void test_client__reads_leave_room_for_uploads(void **state)
{
    struct run run;
    struct wan reads[10] = {0}, upload = {0};
    struct wait waits[10], wait;

    run_open(&run, NULL);
    run.answer.stall = true;
    for (unsigned i = 0; i < countof(reads); i++) {
        wan_init(&reads[i], run.remote, WAN_GET, WAN_READ);
        wan_path(&reads[i], SPAN("ctr"), SPAN("b"));
        wait_init(&run, &waits[i]);
        wan_start(&reads[i], &waits[i].done);
    }
    assert_int_equal(run.remote->running_count, 6 - REMOTE_UPLOADS_RESERVED);
    wan_init(&upload, run.remote, WAN_PUT, WAN_UPLOAD);
    wan_path(&upload, SPAN("ctr"), SPAN("b"));
    wait_init(&run, &wait);
    wan_start(&upload, &wait.done);
    assert_int_equal(upload.state, WAN_RUNNING);
    remote_cancel_all(run.remote);
    assert_int_equal(wait_for(&run, &wait), -ECANCELED);
    for (unsigned i = 0; i < countof(reads); i++) {
        assert_int_equal(wait_for(&run, &waits[i]), -ECANCELED);
        wan_done(&reads[i]);
    }
    wan_done(&upload);
    run_close(&run);
}

static void test_client__no_connection_is_unreachable(void **state)
{
    struct run run;
    struct wan request = {0};

    run_open(&run, "http://127.0.0.1:1/acct");
    assert_int_equal(one_get(&run, &request, NULL), -EHOSTUNREACH);
    assert_true(strlen(request.failure) > 0);
    wan_done(&request);
    run_close(&run);
}

/* The resolver as curl sees it: one name is never answered, until the test has seen enough. */
static sem_t resolver_asked, resolver_goes, resolver_gone;

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **ret)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

    if (node && strcmp(node, "never.test") == 0) {
        sem_post(&resolver_asked);
        sem_wait(&resolver_goes);
        sem_post(&resolver_gone);
        return EAI_AGAIN;
    }
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(node, service, hints, ret);
}

static void *resolver_release(void *arg) /* what a bug would wait for: not for ever */
{
    struct timespec end;
    bool *late = arg;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 8;
    *late = sem_timedwait(&resolver_gone, &end) != 0;
    for (int i = 0; *late && i < 2; i++)
        sem_post(&resolver_goes);
    return NULL;
}

static void test_client__a_silent_name_server_does_not_hold_the_thread(void **state)
{
    struct run run;
    struct wan request = {0};
    struct wait wait;
    pthread_t watchdog;
    bool late = false;

    sem_init(&resolver_asked, 0, 0);
    sem_init(&resolver_goes, 0, 0);
    sem_init(&resolver_gone, 0, 0);
    run_open(&run, "http://never.test/acct");
    run.remote->conf.connect_timeout_ms = 50;
    pthread_create(&watchdog, NULL, resolver_release, &late);
    assert_int_equal(one_get(&run, &request, NULL), -ETIMEDOUT);
    wan_init(&request, run.remote, WAN_GET, WAN_READ);
    wait_init(&run, &wait);
    wan_start(&request, &wait.done);
    sem_wait(&resolver_asked); /* the first look-up's */
    while (sem_trywait(&resolver_asked))
        client_round(run.client, 1);
    wan_cancel(&request);
    assert_int_equal(wait_for(&run, &wait), -ECANCELED);
    sem_post(&resolver_goes);
    sem_post(&resolver_goes);
    pthread_join(watchdog, NULL);
    assert_false(late);
    sem_wait(&resolver_gone); /* the other thread of curl's */
    wan_done(&request);
    run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_client__sends_what_was_built_and_signed),
        cmocka_unit_test(test_client__streams_and_reuses_connections),
        cmocka_unit_test(test_client__pauses_and_gives_the_same_bytes_again),
        cmocka_unit_test(test_client__a_refusal_after_a_pause_ends_it_at_once),
        cmocka_unit_test(test_client__every_fault_has_its_error),
        cmocka_unit_test(test_client__refuses_at_once_when_nobody_is_there_and_recovers),
        cmocka_unit_test(test_client__a_probe_makes_a_connection_of_its_own),
        cmocka_unit_test(test_client__a_new_secret_counts_for_all_that_were_refused),
        cmocka_unit_test(test_client__uploads_leave_room_for_reads),
        cmocka_unit_test(test_client__reads_leave_room_for_uploads),
        cmocka_unit_test(test_client__no_connection_is_unreachable),
        cmocka_unit_test(test_client__a_silent_name_server_does_not_hold_the_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
