/* Goal: upstream and the real cache agree: what is written reaches the cloud and is confirmed, what
 * the cloud has is read through byte for byte, over an outage and with other versions appearing. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "base/crc64.h"
#include "base/text.h"
#include "tests/support/cachebox.h"
#include "tests/support/fake_cloud.h"
#include "upstream/upstream.h"

#define NAMES_MAX 16

/* A cloud of a few blobs; guarded by the fake cloud's lock. */
struct store {
    struct {
        char path[256];
        char *bytes;
        size_t len;
        unsigned version; /* 0: absent */
    } at[NAMES_MAX];
    unsigned count, version;
    char *former[2 * NAMES_MAX]; /* the cloud's thread may be sending one still */
    unsigned former_count;
    bool down;
};

static int find(struct store *s, const char *target)
{
    struct span path = span_of(target), query;

    path = span_cut(path, '?', &query);
    for (unsigned i = 0; i < s->count; i++)
        if (span_eq(path, span_of(s->at[i].path)))
            return (int)i;
    assert_true(s->count < NAMES_MAX);
    snprintf(s->at[s->count].path, sizeof(s->at[0].path), "%.*s", SPAN_FMT(path));
    return (int)s->count++;
}

static void store_put(struct store *s, const char *path, const char *bytes, size_t len)
{
    int i = find(s, path);

    assert_true(s->former_count < countof(s->former));
    s->former[s->former_count++] = s->at[i].bytes;
    s->at[i].bytes = xmalloc(len + 1);
    memcpy(s->at[i].bytes, bytes, len);
    s->at[i].len = len;
    s->at[i].version = ++s->version;
}

static uint64_t number(struct span s)
{
    uint64_t n = 0;

    for (size_t i = 0; i < s.len && s.base[i] >= '0' && s.base[i] <= '9'; i++)
        n = n * 10 + (uint64_t)(s.base[i] - '0');
    return n;
}

static void get(struct store *s, int i, const struct fake_request *r, struct fake_answer *ret)
{
    struct span range = fake_header(r, "x-ms-range"), last, match = fake_header(r, "if-match");
    uint64_t start = 0, end = s->at[i].len, crc;
    char text[16], etag[16];
    size_t n;

    snprintf(etag, sizeof(etag), "\"v%u\"", s->at[i].version);
    ret->no_body = r->method[0] == 'H';
    if (!s->at[i].version || (match.len && !span_eq(match, span_of(etag)))) {
        ret->status = s->at[i].version ? 412 : 404;
        sprintf(ret->headers, "x-ms-error-code: %s\r\n",
                s->at[i].version ? "ConditionNotMet" : "BlobNotFound");
        return;
    }
    ret->status = 200;
    n = (size_t)sprintf(ret->headers,
                        "ETag: %s\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                        "x-ms-blob-type: BlockBlob\r\nContent-Type: text/x\r\n",
                        etag);
    if (range.base) {
        ret->status = 206;
        start = number(span_skip(range, 6));
        span_cut(range, '-', &last);
        end = MIN(number(last) + 1, s->at[i].len);
        crc = htole64(crc64(0, s->at[i].bytes + start, end - start));
        sprintf(ret->headers + n,
                "Content-Range: bytes %llu-%llu/%zu\r\nx-ms-content-crc64: %.*s\r\n",
                (unsigned long long)start, (unsigned long long)end - 1, s->at[i].len,
                (int)base64_encode(span_from(&crc, 8), text), text);
    }
    ret->body = s->at[i].bytes + start;
    ret->body_len = end - start;
}

static void serve(void *arg, const struct fake_request *r, struct fake_answer *ret)
{
    struct store *s = arg;
    int i = find(s, r->target);

    ret->status = 201;
    if (s->down) {
        ret->status = 0;
        return;
    }
    if (r->method[0] == 'G' || r->method[0] == 'H') {
        get(s, i, r, ret);
        return;
    }
    if (r->method[0] == 'D') {
        ret->status = s->at[i].version ? 202 : 404;
        s->at[i].version = 0;
        return;
    }
    if (!strstr(r->target, "restype="))
        store_put(s, r->target, r->body, r->body_len);
    sprintf(ret->headers, "ETag: \"v%u\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
            s->at[i].version);
}

struct run {
    struct cachebox *box;
    struct fake_cloud *cloud;
    struct store store;
    struct account account;
    struct accounts accounts;
    struct upstream *upstream;
    uint64_t container;
};

static void run_start(struct run *run)
{
    run->account = (struct account){.id = BOX_CLOUD, .name = SPAN("cloud")};
    run->account.upstream.endpoint = span_of(fake_cloud_endpoint(run->cloud));
    run->account.upstream.key = SPAN("secret");
    run->accounts = (struct accounts){&run->account, 1};
    assert_int_equal(upstream_open_all(&(struct upstream_conf){.cache = run->box->cache,
                                                               .accounts = &run->accounts,
                                                               .workers = run->box->workers,
                                                               .stall_timeout_ms = 1000},
                                       &run->upstream),
                     0);
}

static void run_open(struct run *run)
{
    *run = (struct run){.box = cachebox_new(1)};
    run->cloud = fake_cloud_new(serve, &run->store);
    run->container = box_container(run->box, BOX_CLOUD, "free");
    run_start(run);
}

static void run_close(struct run *run)
{
    run->upstream = upstream_close(run->upstream, 2 * NS_PER_SEC);
    loop_poll_once(run->box->poll, 0);
    cachebox_free(run->box);
    fake_cloud_free(run->cloud);
    for (unsigned i = 0; i < run->store.count; i++)
        free(run->store.at[i].bytes);
    for (unsigned i = 0; i < run->store.former_count; i++)
        free(run->store.former[i]);
}

static bool drained(struct run *run)
{
    struct cache_stats stats = cache_stats(run->box->cache);

    loop_poll_once(run->box->poll, 1);
    return !stats.uploads_waiting && !stats.uploads_in_flight;
}

static void wait_drained(struct run *run)
{
    uint64_t give_up = clock_mono_ns() + 10 * NS_PER_SEC;

    while (!drained(run) && clock_mono_ns() < give_up)
        ;
    assert_true(drained(run));
}

static void assert_stored(struct run *run, const char *path, const char *text)
{
    int i = find(&run->store, path);

    assert_true(run->store.at[i].version > 0);
    assert_int_equal(run->store.at[i].len, strlen(text));
    assert_memory_equal(run->store.at[i].bytes, text, strlen(text));
}

static void test_upstream_cache__what_is_written_is_confirmed(void **state)
{
    struct blob *blob = NULL;
    struct run run;

    run_open(&run);
    assert_int_equal(box_put(run.box, BOX_CLOUD, "free", run.container, "a b", "one", NULL), 0);
    assert_int_equal(box_put(run.box, BOX_CLOUD, "free", run.container, "a b", "two", NULL), 0);
    assert_int_equal(box_put(run.box, BOX_CLOUD, "free", run.container, "c", "three", NULL), 0);
    wait_drained(&run);
    assert_stored(&run, "/acct/free/a%20b", "two");
    assert_stored(&run, "/acct/free/c", "three");
    assert_int_equal(box_lookup(run.box, run.container, "c", &blob), 0);
    assert_int_equal(blob_record(blob)->durability, DURABILITY_CLOUD);
    assert_true(blob_record(blob)->cloud_etag.len > 0);
    blob_unref(blob);
    assert_int_equal(box_delete(run.box, BOX_CLOUD, "free", run.container, "c"), 0);
    wait_drained(&run);
    assert_int_equal(run.store.at[find(&run.store, "/acct/free/c")].version, 0);
    assert_int_equal(cache_stats(run.box->cache).uploads_held, 0);
    run_close(&run);
}

static void test_upstream_cache__an_outage_delays_and_loses_nothing(void **state)
{
    struct run run;
    char name[16];

    run_open(&run);
    wait_drained(&run);
    run.store.down = true;
    for (int i = 0; i < 8; i++) {
        sprintf(name, "n%d", i);
        assert_int_equal(box_put(run.box, BOX_CLOUD, "free", run.container, name, name, NULL), 0);
    }
    for (int i = 0; i < 30; i++)
        loop_poll_once(run.box->poll, 10);
    assert_false(drained(&run));
    run.store.down = false;
    wait_drained(&run);
    for (int i = 0; i < 8; i++) {
        char path[64];

        sprintf(name, "n%d", i);
        sprintf(path, "/acct/free/n%d", i);
        assert_stored(&run, path, name);
    }
    run_close(&run);
}

/* Reads a version as the dialect does: fills what is absent. */
static char *read_through(struct run *run, struct blob *blob)
{
    uint64_t length = blob_record(blob)->length, at = 0;
    struct reader *reader = cache_reader_open(blob, (struct range){0, length}, READ_CLIENT);
    char *bytes = xmalloc(length + 1);

    while (at < length) {
        struct slice slice = {0};
        int err;

        reader_next(reader, &slice, box_done(run->box));
        err = box_wait(run->box);
        if (err == -ENODATA) {
            upstream_fill(run->upstream, blob, reader_gap(reader), box_done(run->box));
            assert_int_equal(box_wait(run->box), 0);
            continue;
        }
        assert_int_equal(err, 0);
        memcpy(bytes + at, slice.bytes.base, slice.bytes.len);
        at += slice.bytes.len;
        slice_unref(slice);
    }
    reader_settle(reader, box_done(run->box));
    assert_int_equal(box_wait(run->box), 0);
    reader_close(reader);
    return bytes;
}

static void test_upstream_cache__reads_through_once(void **state)
{
    size_t len = (9u << 20) + 12345;
    char *bytes = xmalloc(len), *got;
    struct blob *blob = NULL;
    struct name name;
    uint64_t before;
    struct run run;

    for (size_t i = 0; i < len; i++)
        bytes[i] = (char)(i * 17 >> 6);
    run_open(&run);
    wait_drained(&run);
    name = box_name(run.container, "big");
    store_put(&run.store, "/acct/free/big", bytes, len);
    assert_int_equal(box_lookup(run.box, run.container, "big", &blob), -ENODATA);
    upstream_open(run.upstream, &name, (struct range){0, len}, &blob, box_done(run.box));
    assert_int_equal(box_wait(run.box), 0);
    got = read_through(&run, blob);
    assert_memory_equal(got, bytes, len);
    free(got);
    before = upstream_stats(run.upstream, BOX_CLOUD).bytes_in;
    assert_int_equal(before, len);
    got = read_through(&run, blob); /* warm */
    assert_memory_equal(got, bytes, len);
    free(got);
    assert_int_equal(upstream_stats(run.upstream, BOX_CLOUD).bytes_in, before);
    blob_unref(blob);
    free(bytes);
    run_close(&run);
}

static void test_upstream_cache__absence_and_revalidation(void **state)
{
    struct blob *blob = NULL, *newer = NULL;
    struct name name;
    struct run run;

    run_open(&run);
    wait_drained(&run);
    name = box_name(run.container, "x");
    upstream_open(run.upstream, &name, (struct range){0, 10}, &blob, box_done(run.box));
    assert_int_equal(box_wait(run.box), -ENOENT);
    assert_int_equal(box_lookup(run.box, run.container, "x", &blob), -ENOENT);
    store_put(&run.store, "/acct/free/x", "first", 5);
    upstream_open(run.upstream, &name, (struct range){0, 10}, &blob, box_done(run.box));
    assert_int_equal(box_wait(run.box), 0);
    store_put(&run.store, "/acct/free/x", "second", 6);
    upstream_revalidate(run.upstream, blob, 5 * NS_PER_SEC, &newer, box_done(run.box));
    assert_int_equal(box_wait(run.box), 0);
    assert_int_equal(blob_record(newer)->length, 6);
    assert_true(blob_record(newer)->etag != blob_record(blob)->etag);
    blob_unref(blob);
    blob = newer;
    free(read_through(&run, blob));
    blob_unref(blob);
    run_close(&run);
}

static void test_upstream_cache__the_queue_goes_on_after_a_restart(void **state)
{
    struct run run;

    run_open(&run);
    wait_drained(&run);
    run.store.down = true;
    assert_int_equal(box_put(run.box, BOX_CLOUD, "free", run.container, "late", "bytes", NULL), 0);
    run.upstream = upstream_close(run.upstream, 0);
    cachebox_close(run.box);
    cachebox_open(run.box);
    run.store.down = false;
    run_start(&run);
    wait_drained(&run);
    assert_stored(&run, "/acct/free/late", "bytes");
    run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upstream_cache__what_is_written_is_confirmed),
        cmocka_unit_test(test_upstream_cache__an_outage_delays_and_loses_nothing),
        cmocka_unit_test(test_upstream_cache__reads_through_once),
        cmocka_unit_test(test_upstream_cache__absence_and_revalidation),
        cmocka_unit_test(test_upstream_cache__the_queue_goes_on_after_a_restart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
