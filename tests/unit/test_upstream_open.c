/* Goal: an unknown name costs one request however many wait; its head teaches the cache, its body
 * fills it; refusals become errors and knowledge. */
#include "tests/unit/upstream_run.h"

#define BLOB_BYTES 300000

static char blob_bytes[BLOB_BYTES];

struct cloud {
    int status; /* of GET and HEAD; 0: serve the blob */
    const char *code;
    uint64_t length;
    bool crc, no_features; /* no_features: refuses CRC64 as Azurite does */
    size_t cut_at;         /* of the first GET */
    int corrupt_at;
    bool stall;
};

static uint64_t span_number(struct span s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.len && s.base[i] >= '0' && s.base[i] <= '9'; i++)
        n = n * 10 + (uint64_t)(s.base[i] - '0');
    return n;
}

static void serve(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    struct cloud *c = arg;
    struct span range = fake_header(request, "x-ms-range"), last;
    bool head = strcmp(request->method, "HEAD") == 0;
    uint64_t start = 0, end = c->length;
    size_t n = 0;

    ret->no_body = head;
    if (c->status) {
        ret->status = c->status;
        snprintf(ret->headers, sizeof(ret->headers), "x-ms-error-code: %s\r\n", c->code);
        return;
    }
    if (c->no_features && fake_header(request, "x-ms-range-get-content-crc64").base) {
        ret->status = 500;
        strcpy(ret->headers, "x-ms-error-code: FeatureNotSupported\r\n");
        return;
    }
    if (span_eq(fake_header(request, "if-none-match"), SPAN("\"0x8D1\""))) {
        ret->status = 304;
        return;
    }
    ret->status = 200;
    if (range.base) {
        ret->status = 206;
        start = span_number(span_skip(range, 6));
        span_cut(range, '-', &last);
        end = MIN(span_number(last) + 1, c->length);
        if (start >= c->length) {
            ret->status = 416;
            snprintf(ret->headers, sizeof(ret->headers), "x-ms-error-code: InvalidRange\r\n");
            return;
        }
        n += (size_t)snprintf(ret->headers + n, sizeof(ret->headers) - n,
                              "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)start,
                              (unsigned long long)end - 1, (unsigned long long)c->length);
    }
    n +=
        (size_t)snprintf(ret->headers + n, sizeof(ret->headers) - n,
                         "ETag: \"0x8D1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                         "x-ms-blob-type: BlockBlob\r\nContent-Type: text/x\r\nx-ms-meta-K: v\r\n");
    if (c->crc && fake_header(request, "x-ms-range-get-content-crc64").base) {
        uint64_t crc = htole64(crc64(0, blob_bytes + start, end - start));
        char text[16];

        n += (size_t)snprintf(ret->headers + n, sizeof(ret->headers) - n,
                              "x-ms-content-crc64: %.*s\r\n",
                              (int)base64_encode(span_from(&crc, 8), text), text);
    }
    ret->body = blob_bytes + start;
    ret->body_len = end - start;
    ret->cut_at = c->cut_at;
    ret->corrupt_at = c->corrupt_at;
    ret->stall = c->stall;
    if (!head)
        c->cut_at = 0, c->corrupt_at = 0;
}

static const struct name name = {.container = 7, .blob = SPAN("dir/a b")};

static int open_once(struct run *run, struct range first, struct blob **ret)
{
    struct awaited wait;

    upstream_open(run->upstream, &name, first, ret, awaited_init(&wait, run->loop));
    return loop_await(run->poll, &wait);
}

static void start(struct run *run, struct cloud *cloud)
{
    for (size_t i = 0; i < sizeof(blob_bytes); i++)
        blob_bytes[i] = (char)(i * 7 + (i >> 8));
    fake_fills_ok = fake_fills_failed = 0;
    run_open(run, serve, cloud);
}

static void test_upstream_open__one_get_yields_properties_and_bytes(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .crc = true};
    struct blob *blob = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){70000, 100}, &blob), 0);
    assert_int_equal(blob_record(blob)->length, BLOB_BYTES);
    assert_span_equal(blob_record(blob)->cloud_etag, "\"0x8D1\"");
    assert_span_equal(blob_record(blob)->content_type, "text/x");
    assert_int_equal(blob_record(blob)->metadata_count, 1);
    assert_span_equal(blob_record(blob)->metadata[0].name, "K");
    RUN_UNTIL(fake_fills_ok == 1);
    assert_memory_equal(blob->content + UNIT_BYTES, blob_bytes + UNIT_BYTES, UNIT_BYTES);
    assert_int_equal(blob->unit[0], 0);
    assert_int_equal(blob->unit[1], 2);
    assert_int_equal(blob->unit[2], 0);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", ""), 1);
    assert_int_equal(fake_cloud_count(run.cloud, "HEAD", ""), 0);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_open__many_wait_for_one_request(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .crc = true, .stall = true};
    struct blob *blobs[20] = {0};
    struct awaited waits[20];
    struct run run;

    start(&run, &cloud);
    for (unsigned i = 0; i < 20; i++)
        upstream_open(run.upstream, &name, (struct range){0, BLOB_BYTES}, &blobs[i],
                      awaited_init(&waits[i], run.loop));
    RUN_UNTIL(fake_cloud_count(run.cloud, "GET", "") == 1);
    fake_cloud_release(run.cloud);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(loop_await(run.poll, &waits[i]), 0);
        blob_unref(blobs[i]);
    }
    RUN_UNTIL(fake_fills_ok == 1);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", ""), 1);
    run_close(&run);
}

static void test_upstream_open__who_comes_late_is_given_what_the_others_got(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .crc = true};
    struct blob *blob = NULL, *again = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, 10}, &blob), 0);
    run.cache->hot = blob; /* looked before that, calls after it */
    assert_int_equal(open_once(&run, (struct range){0, 10}, &again), 0);
    assert_ptr_equal(again, blob);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", ""), 1);
    blob_unref(again);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_open__empty_blob_takes_a_head(void **state)
{
    struct cloud cloud = {.length = 0};
    struct blob *blob = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, 10}, &blob), 0);
    assert_int_equal(blob_record(blob)->length, 0);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", ""), 1);
    assert_int_equal(fake_cloud_count(run.cloud, "HEAD", ""), 1);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_open__absence_is_learned(void **state)
{
    struct cloud cloud = {.status = 404, .code = "BlobNotFound"};
    struct blob *blob = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, 10}, &blob), -ENOENT);
    assert_null(blob);
    assert_int_equal(run.cache->learned_count, 1);
    assert_null(run.cache->learned[0].known);
    cloud.code = "ContainerNotFound";
    assert_int_equal(open_once(&run, (struct range){0, 10}, &blob), -ENOENT);
    assert_int_equal(run.cache->container_absent, 1);
    run_close(&run);
}

static void test_upstream_open__refusals_have_their_errors(void **state)
{
    struct cloud cloud = {.status = 403, .code = "AuthenticationFailed"};
    struct blob *blob = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, 10}, &blob), -EACCES);
    cloud.status = 400; /* a secret that was read half written */
    cloud.code = "InvalidAuthenticationInfo";
    assert_int_equal(open_once(&run, (struct range){0, 10}, &blob), -EACCES);
    cloud.status = 404; /* not the service's: nothing is learned */
    cloud.code = "";
    assert_int_equal(open_once(&run, (struct range){0, 10}, &blob), -EPROTO);
    assert_int_equal(run.cache->learned_count, 0);
    cloud.status = 503;
    cloud.code = "ServerBusy";
    assert_int_equal(open_once(&run, (struct range){0, 0}, &blob), -EHOSTUNREACH);
    assert_true(fake_cloud_count(run.cloud, "HEAD", "") > 1); /* it was tried again */
    cloud.status = 200;                                       /* without a single header */
    assert_int_equal(open_once(&run, (struct range){0, 0}, &blob), -EPROTO);
    cloud.status = 0;
    cloud.length = BLOB_BYTES;
    run.cache->learn_err = -ESTALE;
    assert_int_equal(open_once(&run, (struct range){0, 0}, &blob), -ESTALE);
    assert_null(blob);
    run_close(&run);
}

static void test_upstream_open__weaker_checks_when_the_cloud_refuses_crc64(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .no_features = true};
    struct blob *blob = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, BLOB_BYTES}, &blob), 0);
    RUN_UNTIL(fake_fills_ok == 1);
    assert_memory_equal(blob->content, blob_bytes, BLOB_BYTES);
    blob_unref(blob);
    assert_int_equal(open_once(&run, (struct range){0, BLOB_BYTES}, &blob), 0);
    RUN_UNTIL(fake_fills_ok == 2);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", ""), 3); /* refused once only */
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_open__a_cut_body_goes_on_where_it_was_cut(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .crc = true, .cut_at = 100000};
    struct blob *blob = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, BLOB_BYTES}, &blob), 0);
    RUN_UNTIL(fake_fills_ok == 1);
    assert_memory_equal(blob->content, blob_bytes, BLOB_BYTES);
    assert_span_equal(fake_header(fake_cloud_request(run.cloud, "GET", "", 1), "if-match"),
                      "\"0x8D1\"");
    assert_true(span_starts(fake_header(fake_cloud_request(run.cloud, "GET", "", 1), "x-ms-range"),
                            SPAN("bytes=100000-")));
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_open__a_wrong_byte_never_fills(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .crc = true, .corrupt_at = 12345};
    struct blob *blob = NULL;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, BLOB_BYTES}, &blob), 0);
    RUN_UNTIL(fake_fills_failed == 1);
    assert_int_equal(fake_fill_err, -EIO);
    assert_int_equal(fake_fills_ok, 0);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_open__revalidates_without_bytes_and_within_its_budget(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .crc = true};
    struct blob *blob = NULL, *newer = NULL;
    struct awaited wait;
    struct run run;

    start(&run, &cloud);
    assert_int_equal(open_once(&run, (struct range){0, 0}, &blob), 0);
    upstream_revalidate(run.upstream, blob, 5 * NS_PER_SEC, &newer, awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), 0);
    assert_span_equal(blob_record(newer)->cloud_etag, "\"0x8D1\"");
    assert_true(blob_record(newer)->checked_ns >= blob_record(blob)->checked_ns);
    blob_unref(newer);
    newer = NULL;
    cloud.stall = true;                              /* an answer that comes too late */
    ((char *)blob->record.cloud_etag.base)[4] = '0'; /* another version than the cloud's */
    upstream_revalidate(run.upstream, blob, 20 * NS_PER_MS, &newer, awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), -ETIMEDOUT);
    assert_null(newer);
    for (unsigned i = 0; i < 1000; i++) /* nobody waits: they hold nothing */
        upstream_revalidate(run.upstream, blob, 0, NULL, NULL);
    RUN_UNTIL(atomic_load(&run.upstream->calls) == 1); /* the one above */
    fake_cloud_release(run.cloud);
    RUN_UNTIL(run.cache->learned_count == 3); /* the cache learns it all the same */
    blob_unref(blob);
    run_close(&run);
}

struct canceller {
    struct completion done;
    bool fired;
};

static void on_cancelled(struct completion *done)
{
    container_of(done, struct canceller, done)->fired = true;
}

static void test_upstream_open__a_cancelled_caller_hears_at_once(void **state)
{
    struct cloud cloud = {.length = BLOB_BYTES, .crc = true, .stall = true};
    struct blob *blob = NULL;
    struct canceller c = {0};
    struct run run;

    start(&run, &cloud);
    c.done = (struct completion){.fn = on_cancelled, .loop = run.loop};
    upstream_open(run.upstream, &name, (struct range){0, 10}, &blob, &c.done);
    RUN_UNTIL(fake_cloud_count(run.cloud, "GET", "") == 1);
    c.done.cancel(&c.done);
    loop_poll_until(run.poll, &c.fired);
    assert_int_equal(c.done.err, -ECANCELED);
    fake_cloud_release(run.cloud);
    RUN_UNTIL(run.cache->learned_count == 1);
    loop_poll_once(run.poll, 200);
    assert_null(blob);
    run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upstream_open__one_get_yields_properties_and_bytes),
        cmocka_unit_test(test_upstream_open__many_wait_for_one_request),
        cmocka_unit_test(test_upstream_open__who_comes_late_is_given_what_the_others_got),
        cmocka_unit_test(test_upstream_open__empty_blob_takes_a_head),
        cmocka_unit_test(test_upstream_open__absence_is_learned),
        cmocka_unit_test(test_upstream_open__refusals_have_their_errors),
        cmocka_unit_test(test_upstream_open__weaker_checks_when_the_cloud_refuses_crc64),
        cmocka_unit_test(test_upstream_open__a_cut_body_goes_on_where_it_was_cut),
        cmocka_unit_test(test_upstream_open__a_wrong_byte_never_fills),
        cmocka_unit_test(test_upstream_open__revalidates_without_bytes_and_within_its_budget),
        cmocka_unit_test(test_upstream_open__a_cancelled_caller_hears_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
