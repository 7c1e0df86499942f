/* Goal: a gap comes over the WAN once, in parallel runs, each checked; faults reach the readers,
 * and a version that is gone makes the name be asked for again. */
#include "tests/unit/upstream_run.h"

#define BLOB_BYTES (10u << 20)

static char *blob_bytes;

struct cloud {
    bool gone, busy_once, corrupt, ignores_if_match;
    unsigned cuts, stalls;
};

static uint64_t number(struct span s)
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
    uint64_t start, end, crc;
    char text[16];

    if (strcmp(request->method, "HEAD") == 0) { /* what is there now */
        ret->status = 404;
        ret->no_body = true;
        strcpy(ret->headers, "x-ms-error-code: BlobNotFound\r\n");
        return;
    }
    if (c->gone || c->busy_once) {
        ret->status = c->gone ? 412 : 503;
        c->busy_once = false;
        strcpy(ret->headers, "x-ms-error-code: ConditionNotMet\r\n");
        return;
    }
    start = number(span_skip(range, 6));
    span_cut(range, '-', &last);
    end = MIN(number(last) + 1, BLOB_BYTES);
    crc = htole64(crc64(0, blob_bytes + start, end - start));
    ret->status = 206;
    snprintf(ret->headers, sizeof(ret->headers),
             "Content-Range: bytes %llu-%llu/%u\r\nETag: \"%s\"\r\nx-ms-content-crc64: %.*s\r\n",
             (unsigned long long)start, (unsigned long long)end - 1, BLOB_BYTES,
             c->ignores_if_match ? "0x8D2" : "0x8D1", (int)base64_encode(span_from(&crc, 8), text),
             text);
    ret->body = blob_bytes + start;
    ret->body_len = end - start;
    if (c->cuts) {
        c->cuts--;
        ret->cut_at = (end - start) / 3 + 1;
    }
    if (c->stalls) {
        c->stalls--;
        ret->stall_at =
            700; /* curl looks at the speed of the last seconds: few bytes, found soon */
    }
    ret->corrupt_at = c->corrupt ? 77 : 0;
}

static struct blob *cold_blob(void)
{
    const struct name name = {.container = 7, .blob = SPAN("b")};
    const struct blob_record record = {
        .type = BLOB_BLOCK, .length = BLOB_BYTES, .cloud_etag = SPAN("\"0x8D1\"")};

    return fake_blob_new(&name, &record);
}

static int fill_once(struct run *run, struct blob *blob, struct range gap)
{
    struct awaited wait;

    upstream_fill(run->upstream, blob, gap, awaited_init(&wait, run->loop));
    return loop_await(run->poll, &wait);
}

static void start(struct run *run, struct cloud *cloud)
{
    fake_fills_ok = fake_fills_failed = 0;
    fake_fill_err = 0;
    run_open(run, serve, cloud);
}

static unsigned bytes_out(struct run *run)
{
    return (unsigned)upstream_stats(run->upstream, 1).bytes_in;
}

static void test_upstream_fill__a_gap_comes_once_in_checked_runs(void **state)
{
    struct cloud cloud = {0};
    struct blob *blob = cold_blob();
    struct run run;

    start(&run, &cloud);
    assert_int_equal(fill_once(&run, blob, (struct range){0, UINT64_MAX}), 0);
    assert_int_equal(fill_once(&run, blob, (struct range){1000, 5000000}), 0); /* another reader */
    RUN_UNTIL(fake_fills_ok == 3);                                             /* 4 + 4 + 2 MiB */
    assert_memory_equal(blob->content, blob_bytes, BLOB_BYTES);
    assert_int_equal(bytes_out(&run), BLOB_BYTES);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_fill__fetches_only_the_units_of_the_gap(void **state)
{
    struct cloud cloud = {0};
    struct blob *blob = cold_blob();
    struct run run;

    start(&run, &cloud);
    assert_int_equal(fill_once(&run, blob, (struct range){100000, 50000}), 0);
    RUN_UNTIL(fake_fills_ok == 1);
    assert_int_equal(bytes_out(&run), 2 * UNIT_BYTES);
    assert_span_equal(fake_header(fake_cloud_request(run.cloud, "GET", "", 0), "x-ms-range"),
                      "bytes=65536-196607");
    assert_int_equal(fill_once(&run, blob, (struct range){100000, 1}), 0); /* there */
    assert_int_equal(fake_cloud_count(run.cloud, "GET", ""), 1);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_fill__cuts_and_busy_answers_are_got_over(void **state)
{
    struct cloud cloud = {.cuts = 5, .busy_once = true};
    struct blob *blob = cold_blob();
    struct run run;

    start(&run, &cloud);
    assert_int_equal(fill_once(&run, blob, (struct range){0, 4 << 20}), 0);
    RUN_UNTIL(fake_fills_ok == 1);
    assert_memory_equal(blob->content, blob_bytes, 4 << 20);
    assert_int_equal(bytes_out(&run), 4 << 20); /* what had come is not fetched again */
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_fill__a_stalled_body_goes_on_once(void **state)
{
    struct cloud cloud = {.stalls = 1};
    struct blob *blob = cold_blob();
    struct run run;

    start(&run, &cloud);
    assert_int_equal(fill_once(&run, blob, (struct range){0, 1 << 20}), 0);
    RUN_UNTIL(fake_fills_ok == 1);
    assert_memory_equal(blob->content, blob_bytes, 1 << 20);
    assert_int_equal(bytes_out(&run), 1 << 20);
    cloud.stalls = 2;
    assert_int_equal(fill_once(&run, blob, (struct range){1 << 20, 1 << 20}), 0);
    RUN_UNTIL(fake_fills_failed == 1);
    assert_int_equal(fake_fill_err, -EHOSTUNREACH);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_fill__a_wrong_byte_fails_the_run(void **state)
{
    struct cloud cloud = {.corrupt = true};
    struct blob *blob = cold_blob();
    struct run run;

    start(&run, &cloud);
    assert_int_equal(fill_once(&run, blob, (struct range){0, 100}), 0);
    RUN_UNTIL(fake_fills_failed == 1);
    assert_int_equal(fake_fill_err, -EIO);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_fill__another_version_is_stale_and_asked_for(void **state)
{
    struct cloud cloud = {.gone = true};
    struct blob *blob = cold_blob();
    struct run run;

    start(&run, &cloud);
    fake_fill_watch = run.cache;
    assert_int_equal(fill_once(&run, blob, (struct range){0, 100}), 0);
    RUN_UNTIL(fake_fills_failed == 1);
    assert_int_equal(fake_fill_err, -ESTALE);
    assert_int_equal(fake_fill_learned, 1); /* a reader that looks again finds it */
    assert_null(run.cache->learned[0].known);
    fake_fill_watch = NULL;
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_fill__bytes_of_another_version_are_not_taken(void **state)
{
    struct cloud cloud = {.ignores_if_match = true};
    struct blob *blob = cold_blob();
    struct run run;

    start(&run, &cloud);
    assert_int_equal(fill_once(&run, blob, (struct range){0, 100}), 0);
    RUN_UNTIL(fake_fills_failed == 1);
    assert_int_equal(fake_fill_err, -ESTALE);
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_fill__nobody_there_fails_within_bounds(void **state)
{
    struct cloud cloud = {0};
    struct blob *blob = cold_blob();
    struct run run;
    int err = 0;

    start(&run, &cloud);
    run.account.upstream.endpoint = SPAN("http://127.0.0.1:1/acct");
    upstream_close(run.upstream, 0);
    assert_int_equal(upstream_open_all(&(struct upstream_conf){.cache = run.cache,
                                                               .accounts = &run.accounts,
                                                               .workers = run.workers},
                                       &run.upstream),
                     0);
    for (unsigned i = 1; i <= BREAKER_FAILURES && !err; i++) {
        err = fill_once(&run, blob, (struct range){0, 100});
        RUN_UNTIL(err || fake_fills_failed == i);
    }
    assert_int_equal(fake_fill_err, -EHOSTUNREACH);
    assert_int_equal(fill_once(&run, blob, (struct range){0, 100}), -EHOSTUNREACH); /* at once */
    blob_unref(blob);
    run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upstream_fill__a_gap_comes_once_in_checked_runs),
        cmocka_unit_test(test_upstream_fill__fetches_only_the_units_of_the_gap),
        cmocka_unit_test(test_upstream_fill__cuts_and_busy_answers_are_got_over),
        cmocka_unit_test(test_upstream_fill__a_stalled_body_goes_on_once),
        cmocka_unit_test(test_upstream_fill__a_wrong_byte_fails_the_run),
        cmocka_unit_test(test_upstream_fill__another_version_is_stale_and_asked_for),
        cmocka_unit_test(test_upstream_fill__bytes_of_another_version_are_not_taken),
        cmocka_unit_test(test_upstream_fill__nobody_there_fails_within_bounds),
    };

    blob_bytes = xmalloc(BLOB_BYTES);
    for (size_t i = 0; i < BLOB_BYTES; i++)
        blob_bytes[i] = (char)(i * 31 >> 5);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
