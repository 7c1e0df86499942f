/* tests/unit/dialect.h - blobapi over fake_engine.h: two accounts, a request as one call, and what
 * every answer must have. One include per test binary, before cmocka, which makes `fail` a macro.
 */
#ifndef TESTS_DIALECT_H
#define TESTS_DIALECT_H

#include "tests/unit/fake_engine.h"
#include "tests/support/fake_exchange.h"

#include "base/digest.h"
#include "blobapi/request.h"
#include "base/text.h"
#include "tests/unit/unit.h"

static const struct contract contracts[] = {
    {.id = 1, .pattern = SPAN("read/*"), .write = WRITE_DENY, .md5 = true},
    {.id = 2, .pattern = SPAN("nomd5/*"), .write = WRITE_LOCAL},
    {.id = 3, .pattern = SPAN("*"), .write = WRITE_LOCAL, .md5 = true},
};
static const struct contract cloud_contracts[] = {
    {.id = 4,
     .pattern = SPAN("strict/*"),
     .write = WRITE_BACK,
     .md5 = true,
     .fresh_ns = 60 * NS_PER_SEC,
     .offline = OFFLINE_FAIL},
    {.id = 5, .pattern = SPAN("kvs/*"), .write = WRITE_LOCAL, .md5 = true, .lease = LEASE_LOCAL},
    {.id = 7, .pattern = SPAN("held/*"), .write = WRITE_BACK, .md5 = true, .lease = LEASE_LOCAL},
    {.id = 8, .pattern = SPAN("denied/*"), .write = WRITE_DENY},
    {.id = 6, .pattern = SPAN("*"), .write = WRITE_BACK, .md5 = true, .fresh_ns = 60 * NS_PER_SEC},
};
static const struct account account_rows[] = {
    {.id = 1,
     .name = SPAN("acct"),
     .key = {SPAN("secret")},
     .contracts = contracts,
     .contract_count = countof(contracts)},
    {.id = 2,
     .name = SPAN("far"),
     .key = {SPAN("secret")},
     .contracts = cloud_contracts,
     .contract_count = countof(cloud_contracts),
     .upstream = {.endpoint = SPAN("https://far.example")}},
};
static const struct accounts accounts = {account_rows, countof(account_rows)};

static struct loop_poll *poll_loop;
static struct workers *workers;
static struct blobapi *api;
static struct fake_answer answer;
static struct span sas;

static inline int setup_all(void **state)
{
    struct blobapi_conf conf = {.accounts = &accounts, .upstream = (struct upstream *)&cloud};

    assert_int_equal(iobuf_pools_open(&(struct iobuf_pools_conf){{MIB(1), MIB(4), MIB(4)}}), 0);
    poll_loop = loop_poll_new();
    loop_enter(loop_poll_loop(poll_loop));
    conf.workers = workers = workers_new(2, "test");
    return blobapi_open(&conf, &api);
}

static inline int teardown_all(void **state)
{
    api = blobapi_close(api);
    workers = workers_free(workers);
    loop_run_ready(loop_poll_loop(poll_loop)); /* what abandoned work has posted */
    loop_enter(NULL);
    poll_loop = loop_poll_free(poll_loop);
    iobuf_pools_close(); /* asserts that every buffer came back */
    return 0;
}

static inline void add_container(const char *name)
{
    struct tx tx = {.name = span_of(name), .of_container = true};

    tx_put_container(&tx, &(struct container_record){.account = 1, .name = span_of(name)});
    commit_container(&tx);
}

static inline int setup(void **state)
{
    engine = (struct engine){.arena = arena_new()};
    cloud = (struct cloud){.body = ""};
    add_container("ctr");
    add_container("read");
    add_container("nomd5");
    sas = fake_sas(engine.arena, SPAN("acct"), SPAN("secret"), "rwdlact");
    return 0;
}

static inline int teardown(void **state)
{
    unsigned staged = engine.staged_count;

    fake_answer_done(&answer);
    engine.arena = arena_free(engine.arena);
    assert_int_equal(engine.live, staged);
    return 0;
}

/* ---- asking ---- */

static inline bool nothing_is_held(void) /* D4; and no place in the queue for space */
{
    return !engine.turns && !atomic_load(&api->waiting_for_space);
}

static inline void run(const struct fake_request *request)
{
    struct fake_request checked = *request;

    checked.may_wait = nothing_is_held;
    fake_answer_done(&answer);
    fake_exchange_run(blobapi_start, api, poll_loop, &checked, &answer);
}

static inline const char *with_sas(const char *target)
{
    return arena_printf(engine.arena, "%s%c%.*s", target, strchr(target, '?') ? '&' : '?',
                        SPAN_FMT(sas))
        .base;
}

static inline int ask_body(const char *method, const char *target, const char *headers,
                           const char *body)
{
    run(&(struct fake_request){
        .method = method, .target = with_sas(target), .headers = headers, .body = span_of(body)});
    return answer.status;
}

static inline int ask(const char *method, const char *target, const char *headers)
{
    return ask_body(method, target, headers, "");
}

static inline void assert_header(const char *name, const char *want)
{
    struct span value = fake_answer_header(&answer, name);
    char got[512];

    snprintf(got, sizeof(got), "%.*s", SPAN_FMT(value));
    if (!want && value.base)
        fail_msg("%s: %s", name, got);
    if (want)
        assert_string_equal(got, want);
}

static inline const char *body_text(void)
{
    return arena_copy(engine.arena, span_from(answer.body, answer.body_len)).base;
}

static inline void assert_body_has(const char *part)
{
    if (!strstr(body_text(), part))
        fail_msg("no %s in %s", part, body_text());
}

static inline void assert_body_lacks(const char *part)
{
    if (strstr(body_text(), part))
        fail_msg("%s in %s", part, body_text());
}

/* Status and code of the last answer, and all that every answer has. */
static inline void assert_answer(int status, const char *code)
{
    assert_int_equal(answer.status, status);
    assert_true(answer.whole);
    assert_header("x-ms-error-code", code);
    assert_header("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0");
    assert_int_equal(fake_answer_header(&answer, "x-ms-request-id").len, 36);
    assert_int_equal(fake_answer_header(&answer, "x-ms-version").len, 10);
    if (code && answer.body_len)
        assert_body_has(code);
}
#define ASK(method, target, headers, status, code)                                                 \
    do {                                                                                           \
        ask(method, target, headers);                                                              \
        assert_answer(status, code);                                                               \
    } while (0)

#define BLOCK_BLOB "x-ms-blob-type: BlockBlob\n"

static inline void put(const char *target, const char *body)
{
    assert_int_equal(ask_body("PUT", target, BLOCK_BLOB, body), 201);
}

static inline int setup_cloud(void **state)
{
    setup(state);
    add_container("strict");
    add_container("kvs");
    add_container("held");
    sas = fake_sas(engine.arena, SPAN("far"), SPAN("secret"), "rwdlac");
    return 0;
}

#define TEST(fn)       cmocka_unit_test_setup_teardown(fn, setup, teardown)
#define CLOUD_TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_cloud, teardown)

#endif
