/* Goal: Put Block List uses committed blocks again whose bytes were evicted: they come back from
 * the cloud first, only they, and nothing is acknowledged that is not on the devices. Method:
 * requests from memory over the real engine on simulated devices; the cloud is this file's
 * upstream_fill. */
#include "tests/unit/unit.h"

#include <sched.h>

#include "blobapi/blobapi.h"
#include "cache/content.h"
#include "tests/support/cachebox.h"
#include "tests/support/fake_exchange.h"

#define A_BYTES ((5u << 20) + 12345) /* two extents */
#define B_BYTES 100000u
#define C_BYTES 1000u /* a small record */
#define D_BYTES 70000u

static const struct contract contracts[] = {{.id = 1,
                                             .pattern = SPAN("*"),
                                             .write = WRITE_BACK,
                                             .order = ORDER_LATEST_WINS,
                                             .copies = 1,
                                             .md5 = true,
                                             .fresh_ns = 60 * NS_PER_SEC,
                                             .absent_ns = 10 * NS_PER_SEC}};
static const struct account account_rows[] = {{.id = BOX_CLOUD,
                                               .name = SPAN("cloud"),
                                               .key = {SPAN("secret")},
                                               .contracts = contracts,
                                               .contract_count = 1,
                                               .upstream.endpoint = SPAN("http://cloud")}};
static const struct accounts accounts = {account_rows, 1};

/* ---- the cloud ---- */

static struct cloud {
    struct span content; /* of the one blob it has */
    int err;
    unsigned asked;
    uint64_t sent;
} cloud;

static struct box {
    struct cachebox *box;
    struct blobapi *api;
    struct arena *arena;
    struct fake_answer answer;
    uint64_t container;
} box;

static void give(struct fill *fill)
{
    struct range range = fill_range(fill);
    int err;

    for (uint64_t at = 0; at < range.len; at += UNIT_BYTES) {
        struct span unit =
            span_from(cloud.content.base + range.start + at, MIN(UNIT_BYTES, range.len - at));

        while ((err = fill_append(fill, unit)) == -EAGAIN)
            sched_yield(); /* until others have been stored */
        assert_int_equal(err, 0);
    }
    cloud.sent += range.len;
    fill_end(fill, 0, NULL);
}

void upstream_fill(struct upstream *upstream, struct blob *blob, struct range gap,
                   struct completion *done)
{
    uint64_t at = gap.start, end = gap.start + gap.len;
    struct fill *fill;

    cloud.asked++;
    while (!cloud.err && at < end) {
        int err = cache_fill_begin(blob, (struct range){at, end - at}, &fill);

        at += UNIT_BYTES;
        if (err == -EALREADY || err == -EEXIST)
            continue;
        assert_int_equal(err, 0);
        at = fill_range(fill).start + fill_range(fill).len;
        give(fill);
    }
    completion_post(done, cloud.err);
}

void upstream_open(struct upstream *upstream, const struct name *name, struct range first,
                   struct blob **ret, struct completion *done)
{
    completion_post(done, -EHOSTUNREACH);
}

void upstream_revalidate(struct upstream *upstream, struct blob *held, uint64_t budget_ns,
                         struct blob **ret, struct completion *done)
{
    completion_post(done, -EHOSTUNREACH);
}

void upstream_open_container(struct upstream *upstream, uint32_t account, struct span name,
                             struct completion *done)
{
    completion_post(done, -EHOSTUNREACH);
}

void upstream_list(struct upstream *upstream, const struct list_gap *gap, struct completion *done)
{
    completion_post(done, -EHOSTUNREACH);
}

void upstream_list_containers(struct upstream *upstream, uint32_t account, struct completion *done)
{
    completion_post(done, -EHOSTUNREACH);
}

void upstream_ask_doubtful(struct upstream *upstream, const struct doubtful *of, uint64_t doubt,
                           uint64_t budget_ns, struct blob **ret, struct completion *done)
{
    completion_post(done, -EHOSTUNREACH);
}

void upstream_forward(struct upstream *upstream, const struct forward *forward,
                      struct forwarded *ret, struct completion *done)
{
    completion_post(done, -EHOSTUNREACH);
}

void forwarded_done(struct forwarded *forwarded)
{
}

/* ---- a box ---- */

static void api_open(void)
{
    assert_int_equal(blobapi_open(&(struct blobapi_conf){box.box->cache, (struct upstream *)&cloud,
                                                         &accounts, box.box->workers},
                                  &box.api),
                     0);
}

static int setup(void **state)
{
    cloud = (struct cloud){0};
    cachebox_accounts = &accounts;
    box.box = cachebox_new(3);
    box.arena = arena_new();
    box.container = box_container(box.box, BOX_CLOUD, "ctr");
    api_open();
    return 0;
}

static int teardown(void **state)
{
    fake_answer_done(&box.answer);
    box.api = blobapi_close(box.api);
    cachebox_free(box.box);
    box.arena = arena_free(box.arena);
    cachebox_accounts = NULL;
    return 0;
}

static int ask(const char *method, const char *target, const char *headers, struct span body)
{
    struct span sas = fake_sas(box.arena, SPAN("cloud"), SPAN("secret"), "rwdlac");
    struct fake_request request = {.method = method, .headers = headers, .body = body};

    request.target = arena_printf(box.arena, "/cloud/ctr/%s%c%.*s", target,
                                  strchr(target, '?') ? '&' : '?', SPAN_FMT(sas))
                         .base;
    fake_answer_done(&box.answer);
    fake_exchange_run(blobapi_start, box.api, box.box->poll, &request, &box.answer);
    return box.answer.status;
}

static int put_list(const char *list)
{
    return ask("PUT", "b?comp=blocklist", "", span_of(list));
}

#define A_B_C                                                                                      \
    "<BlockList><Latest>QQ==</Latest><Latest>Qg==</Latest><Latest>Qw==</Latest></BlockList>"

static struct span pattern(size_t n, unsigned seed)
{
    char *bytes = arena_alloc(box.arena, n + 1);

    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)((i * 2654435761u + seed) >> 13);
    return span_from(bytes, n);
}

static struct span joined(const struct span *spans, size_t n)
{
    size_t len = 0, at = 0;
    char *bytes;

    for (size_t i = 0; i < n; i++)
        len += spans[i].len;
    bytes = arena_alloc(box.arena, len);
    for (size_t i = 0; i < n; at += spans[i++].len)
        memcpy(bytes + at, spans[i].base, spans[i].len);
    return span_from(bytes, len);
}

static void confirm_uploads(void)
{
    struct upload_result confirmed = {
        .end = UPLOAD_CONFIRMED, .cloud_etag = SPAN("\"1\""), .cloud_modified_ns = 1};
    struct upload *upload;
    uint64_t retry_ns;

    while (cache_upload_next(box.box->cache, BOX_CLOUD, &upload, &retry_ns) == 0) {
        cache_upload_end(box.box->cache, upload, &confirmed, box_done(box.box));
        assert_int_equal(box_wait(box.box), 0);
    }
}

/* Extents of one piece, from `first` on; once the reaper has dropped what was staged. */
static void evict(size_t piece, uint32_t first)
{
    struct change *change = change_new();
    const struct piece *pieces;
    struct object *object;
    struct extent extent;
    struct blob *blob;

    assert_int_equal(box_lookup(box.box, box.container, "b", &blob), 0);
    assert_true(blob_pieces(blob, &pieces) > piece);
    object = pieces[piece].object;
    for (unsigned i = 0; i < 5000 && object_state(object) != OBJECT_CLEAN; i++)
        loop_poll_once(box.box->poll, 1);
    for (uint32_t i = first; i < object->cell_count; i++)
        evict_extent(change, object, i);
    change->done = box_done(box.box);
    commit_submit(box.box->cache->committer, change);
    assert_int_equal(box_wait(box.box), 0);
    for (uint32_t i = first; i < object->cell_count; i++)
        assert_false(object_extent(object, i, &extent));
    blob_unref(blob);
}

/* "b" of three blocks, in the cloud. */
static void put_blob(struct span a, struct span b, struct span c)
{
    assert_int_equal(ask("PUT", "b?comp=block&blockid=QQ==", "", a), 201);
    assert_int_equal(ask("PUT", "b?comp=block&blockid=Qg==", "", b), 201);
    assert_int_equal(ask("PUT", "b?comp=block&blockid=Qw==", "", c), 201);
    assert_int_equal(put_list(A_B_C), 201);
    confirm_uploads();
    cloud.content = joined((struct span[]){a, b, c}, 3);
}

static void assert_got(struct span want)
{
    assert_int_equal(ask("GET", "b", "", SPAN("")), 200);
    assert_true(box.answer.whole);
    assert_int_equal(box.answer.body_len, want.len);
    assert_memory_equal(box.answer.body, want.base, want.len);
}

/* ---- tests ---- */

static void test_refill__evicted_blocks_come_back_and_are_kept(void **state)
{
    struct span a = pattern(A_BYTES, 1), b = pattern(B_BYTES, 2), c = pattern(C_BYTES, 3),
                d = pattern(D_BYTES, 4);
    struct span want = joined((struct span[]){a, d, c, b, a}, 5);
    struct cachebox *image;
    struct blob *blob;
    size_t len;
    char *got;
    int err;

    put_blob(a, b, c);
    for (size_t i = 0; i < 3; i++)
        evict(i, 0);
    assert_int_equal(ask("PUT", "b?comp=block&blockid=RA==", "", d), 201);
    assert_int_equal(
        put_list("<BlockList><Latest>QQ==</Latest><Uncommitted>RA==</Uncommitted>"
                 "<Committed>Qw==</Committed><Latest>Qg==</Latest><Latest>QQ==</Latest>"
                 "</BlockList>"),
        201);
    assert_int_equal(cloud.sent, cloud.content.len); /* each byte once */
    cloud.err = -EHOSTUNREACH;                       /* it is not needed from now on */
    image = cachebox_crash(box.box, 1);              /* what was acknowledged is durable here */
    assert_int_equal(box_lookup(image, box.container, "b", &blob), 0);
    got = box_read(image, blob, &len, &err);
    if (!got)
        fail_msg("after a crash: %s", strerror(-err));
    assert_int_equal(len, want.len);
    assert_memory_equal(got, want.base, len);
    free(got);
    blob_unref(blob);
    cachebox_free(image);
    loop_enter(loop_poll_loop(box.box->poll));
    assert_got(want);
    assert_true(cache_stats(box.box->cache).dirty_bytes > 0); /* owed to the cloud again */
}

static void test_refill__only_what_is_absent_and_used_is_fetched(void **state)
{
    struct span a = pattern(A_BYTES, 1), b = pattern(B_BYTES, 2), c = pattern(C_BYTES, 3);

    put_blob(a, b, c);
    evict(0, 1);
    evict(1, 0);
    assert_int_equal(put_list("<BlockList><Latest>Qw==</Latest><Latest>QQ==</Latest></BlockList>"),
                     201);
    assert_int_equal(cloud.sent, A_BYTES - EXTENT_BYTES_MAX);
    assert_got(joined((struct span[]){c, a}, 2));
}

static void test_refill__a_silent_cloud_is_an_answer_and_holds_nobody(void **state)
{
    struct span a = pattern(A_BYTES, 1), b = pattern(B_BYTES, 2), c = pattern(C_BYTES, 3);

    put_blob(a, b, c);
    evict(0, 0);
    cloud.err = -EHOSTUNREACH;
    assert_int_equal(put_list(A_B_C), 503);
    assert_int_equal(cloud.asked, 1);
    assert_int_equal(ask("PUT", "b?comp=metadata", "x-ms-meta-n: v\n", SPAN("")), 200);
    confirm_uploads();
    cloud.err = 0;
    assert_int_equal(put_list(A_B_C), 201);
    assert_got(cloud.content);
}

/* Copy Blob of what is partly in the cloud only: fetched once, then the new name needs no cloud, a
 * crash after its 202 included. The old one's delete waits for it. */
static void test_copy__of_a_partly_resident_blob_is_whole(void **state)
{
    struct span a = pattern(A_BYTES, 1), b = pattern(B_BYTES, 2), c = pattern(C_BYTES, 3);
    struct span source = SPAN("x-ms-copy-source: http://cloud.box.test/ctr/b?"), sas;
    struct cachebox *before;
    struct upload *upload;
    uint64_t retry_ns;
    const char *header;

    put_blob(a, b, c);
    evict(0, 1);
    evict(1, 0);
    sas = fake_sas(box.arena, SPAN("cloud"), SPAN("secret"), "r");
    header = arena_printf(box.arena, "%.*s%.*s\n", SPAN_FMT(source), SPAN_FMT(sas)).base;
    assert_int_equal(ask("PUT", "new", header, SPAN("")), 202);
    assert_int_equal(cloud.sent, A_BYTES - EXTENT_BYTES_MAX + B_BYTES); /* each byte once */
    cloud.err = -EHOSTUNREACH;
    assert_int_equal(ask("DELETE", "b", "", SPAN("")), 202);
    box.api = blobapi_close(box.api);
    before = box.box;
    box.box = cachebox_crash(before, 5);
    cachebox_free(before);
    loop_enter(loop_poll_loop(box.box->poll));
    api_open();
    assert_int_equal(ask("GET", "new", "", SPAN("")), 200);
    assert_int_equal(box.answer.body_len, cloud.content.len);
    assert_memory_equal(box.answer.body, cloud.content.base, cloud.content.len);
    assert_int_equal(cache_upload_next(box.box->cache, BOX_CLOUD, &upload, &retry_ns), 0);
    assert_int_equal(upload->kind, UPLOAD_CONTENT);
    assert_int_equal(cache_upload_next(box.box->cache, BOX_CLOUD, &(struct upload *){0}, &retry_ns),
                     -EAGAIN);
    cache_upload_end(box.box->cache, upload, &(struct upload_result){.end = UPLOAD_RETRY},
                     box_done(box.box));
    assert_int_equal(box_wait(box.box), 0);
}

/* Silent cloud, source in it only: 503, nobody's turn is held, and the source stays what it was. */
static void test_copy__without_the_cloud_is_refused_whole(void **state)
{
    struct span a = pattern(A_BYTES, 1), b = pattern(B_BYTES, 2), c = pattern(C_BYTES, 3);
    struct span sas = fake_sas(box.arena, SPAN("cloud"), SPAN("secret"), "r");
    const char *header =
        arena_printf(box.arena, "x-ms-copy-source: http://cloud.box.test/ctr/b?%.*s\n",
                     SPAN_FMT(sas))
            .base;

    put_blob(a, b, c);
    evict(0, 1);
    cloud.err = -EHOSTUNREACH;
    assert_int_equal(ask("PUT", "new", header, SPAN("")), 503);
    assert_int_equal(ask("PUT", "new?comp=block&blockid=QQ==", header, SPAN("")), 503);
    assert_int_equal(ask("HEAD", "new", "", SPAN("")), 503); /* nobody knows of one */
    cloud.err = 0;
    assert_int_equal(ask("PUT", "new", header, SPAN("")), 202);
    assert_int_equal(ask("GET", "new", "x-ms-range: bytes=5242880-5242999\n", SPAN("")), 206);
    assert_memory_equal(box.answer.body, cloud.content.base + 5242880, 120);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copy__of_a_partly_resident_blob_is_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_copy__without_the_cloud_is_refused_whole, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_refill__evicted_blocks_come_back_and_are_kept, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_refill__only_what_is_absent_and_used_is_fetched, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_refill__a_silent_cloud_is_an_answer_and_holds_nobody,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
