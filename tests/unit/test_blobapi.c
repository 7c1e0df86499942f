/* Goal: the dialect over the real engine: what is put is got, byte for byte, also by blocks, by
 * ranges, after a restart; lists show it; two accounts do not see each other. Method: requests from
 * memory, the engine on simulated devices with its index in a folder of the test's own. */
#include "blobapi/blobapi.h"
#include "tests/support/fake_exchange.h"
#include "tests/support/tempdir.h"

#include "base/digest.h"
#include "base/text.h"
#include "cache/io.h"
#include "tests/support/devices.h"
#include "tests/unit/unit.h"

static const struct contract contracts[] = {
    {.id = 1, .pattern = SPAN("*"), .write = WRITE_LOCAL, .md5 = true}};
static const struct account account_rows[] = {
    {.id = 1,
     .name = SPAN("acct"),
     .key = {SPAN("secret")},
     .contracts = contracts,
     .contract_count = 1},
    {.id = 2,
     .name = SPAN("other"),
     .key = {SPAN("secret")},
     .contracts = contracts,
     .contract_count = 1},
};
static const struct accounts accounts = {account_rows, countof(account_rows)};

static struct box {
    struct io_sim *sim;
    char *dir;
    struct loop_poll *poll;
    struct workers *workers;
    struct cache *cache;
    struct blobapi *api;
    struct arena *arena;
    struct fake_answer answer;
} box;

static void box_fatal(void *arg, const char *why)
{
    fail_msg("fatal: %s", why);
}

static void box_open(void)
{
    struct device_conf device = {SPAN("slab0"), SPAN("slab0"), DEVICES_BYTES(12)};
    struct cache_conf conf = {.data = span_of(box.dir),
                              .devices = &device,
                              .device_count = 1,
                              .accounts = &accounts,
                              .memory_tier_bytes = MIB(16),
                              .index_cache_bytes = MIB(8),
                              .io_ops = io_sim_ops(box.sim),
                              .fatal = box_fatal};
    struct blobapi_conf api = {.accounts = &accounts};
    char *why = NULL;

    box.poll = loop_poll_new();
    loop_enter(loop_poll_loop(box.poll));
    api.workers = conf.workers = box.workers = workers_new(2, "test");
    if (cache_open(&conf, &box.cache, &why) < 0)
        fail_msg("%s", why);
    assert_int_equal(cache_attach_loop(box.cache, loop_poll_loop(box.poll)), 0);
    api.cache = box.cache;
    assert_int_equal(blobapi_open(&api, &box.api), 0);
}

static void box_close(void)
{
    box.api = blobapi_close(box.api);
    cache_detach_loop(box.cache, loop_poll_loop(box.poll));
    box.cache = cache_close(box.cache);
    box.workers = workers_free(box.workers);
    loop_run_ready(loop_poll_loop(box.poll));
    loop_enter(NULL);
    box.poll = loop_poll_free(box.poll);
}

static int setup(void **state)
{
    box.arena = arena_new();
    box.dir = tempdir_new("blobapi");
    box.sim = io_sim_new(1);
    assert_int_equal(iobuf_pools_open(&(struct iobuf_pools_conf){{MIB(1), MIB(8), MIB(32)}}), 0);
    box_open();
    return 0;
}

static int teardown(void **state)
{
    fake_answer_done(&box.answer);
    box_close();
    iobuf_pools_close();
    box.sim = io_sim_free(box.sim);
    box.dir = tempdir_free(box.dir);
    box.arena = arena_free(box.arena);
    return 0;
}

static int ask_bytes(const char *method, const char *target, const char *headers, struct span body)
{
    struct span account = span_from(target + 1, strcspn(target + 1, "/?"));
    struct span sas = fake_sas(box.arena, account, SPAN("secret"), "rwdlac");
    struct fake_request request = {
        .method = method,
        .target = arena_printf(box.arena, "%s%c%.*s", target, strchr(target, '?') ? '&' : '?',
                               SPAN_FMT(sas))
                      .base,
        .headers = headers,
        .body = body,
    };

    fake_answer_done(&box.answer);
    fake_exchange_run(blobapi_start, box.api, box.poll, &request, &box.answer);
    return box.answer.status;
}

static int ask(const char *method, const char *target, const char *headers)
{
    return ask_bytes(method, target, headers, SPAN(""));
}

#define BLOCK_BLOB "x-ms-blob-type: BlockBlob\n"

static struct span pattern(size_t n, unsigned seed)
{
    char *bytes = arena_alloc(box.arena, n + 1);

    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)((i * 2654435761u + seed) >> 13);
    return span_from(bytes, n);
}

static void assert_got(const char *target, struct span want)
{
    int status = ask("GET", target, "");

    if (status != 200 || !box.answer.whole ||
        !span_eq(span_from(box.answer.body, box.answer.body_len), want))
        fail_msg("%s: %d, %zu bytes of %zu, %.*s", target, status, box.answer.body_len, want.len,
                 status == 200 ? 0 : (int)box.answer.body_len, box.answer.body);
}

static const char *body_text(void)
{
    return arena_copy(box.arena, span_from(box.answer.body, box.answer.body_len)).base;
}

static const char *created(const char *container)
{
    const char *target = arena_printf(box.arena, "/acct/%s?restype=container", container).base;

    assert_int_equal(ask("PUT", target, ""), 201);
    return target;
}

static void test_blobapi__what_is_put_is_got_also_after_a_restart(void **state)
{
    static const size_t sizes[] = {0,     1,       4096,          65536,
                                   65537, 1 << 20, (4 << 20) + 1, (9 << 20) + 12345};

    created("ctr");
    for (size_t i = 0; i < countof(sizes); i++) {
        const char *target = arena_printf(box.arena, "/acct/ctr/size/%zu", sizes[i]).base;

        assert_int_equal(
            ask_bytes("PUT", target, BLOCK_BLOB "x-ms-meta-N: v\n", pattern(sizes[i], (unsigned)i)),
            201);
        assert_got(target, pattern(sizes[i], (unsigned)i));
    }
    box_close();
    box_open();
    for (size_t i = 0; i < countof(sizes); i++) {
        const char *target = arena_printf(box.arena, "/acct/ctr/size/%zu", sizes[i]).base;

        assert_got(target, pattern(sizes[i], (unsigned)i));
        assert_true(span_eq(fake_answer_header(&box.answer, "x-ms-meta-N"), SPAN("v")));
        assert_true(span_eq(fake_answer_header(&box.answer, "x-ms-access-tier"), SPAN("Hot")));
        target = arena_printf(box.arena, "%s?comp=blocklist", target).base;
        assert_int_equal(ask("GET", target, ""), 200); /* put here: known to have no blocks */
    }
}

static void test_blobapi__ranges_of_a_large_blob(void **state)
{
    size_t n = (5 << 20) + 77;
    struct span all = pattern(n, 3);

    created("ctr");
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b", BLOCK_BLOB, all), 201);
    for (unsigned i = 0; i < 40; i++) {
        size_t first = i * 131071 % n, last = MIN(first + i * 40009, n - 1);
        const char *range =
            arena_printf(box.arena, "x-ms-range: bytes=%zu-%zu\n", first, last).base;

        assert_int_equal(ask("GET", "/acct/ctr/b", range), 206);
        assert_true(box.answer.whole);
        assert_int_equal(box.answer.body_len, last - first + 1);
        assert_memory_equal(box.answer.body, all.base + first, last - first + 1);
    }
}

/* The service's limit, with ids as long as they may be: its answer is larger than what a small box
 * has in 64 KiB buffers. */
static void test_blobapi__the_longest_block_list_is_answered(void **state)
{
    enum { BLOCKS = 50000, HELD = 120, ROW_BYTES = 130 };
    static const char id[] =
        "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQQ==";
    const char *block = arena_printf(box.arena, "/acct/ctr/b?comp=block&blockid=%s", id).base;
    const char *row = arena_printf(box.arena, "<Latest>%s</Latest>", id).base;
    struct iobuf *held[HELD];
    size_t n = strlen(row), len = sizeof("<BlockList>") - 1;
    char *list = arena_alloc(box.arena, BLOCKS * n + 64);

    created("ctr");
    assert_int_equal(ask_bytes("PUT", block, "", SPAN("x")), 201);
    memcpy(list, "<BlockList>", len);
    for (unsigned i = 0; i < BLOCKS; i++, len += n)
        memcpy(list + len, row, n);
    memcpy(list + len, "</BlockList>", sizeof("</BlockList>") - 1);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=blocklist", "",
                               span_from(list, len + sizeof("</BlockList>") - 1)),
                     201);
    for (unsigned i = 0; i < HELD; i++)
        assert_non_null(held[i] = iobuf_try(IOBUF_64K));
    assert_int_equal(ask("GET", "/acct/ctr/b?comp=blocklist", ""), 200);
    assert_true(box.answer.whole && box.answer.body_len > (size_t)BLOCKS * ROW_BYTES);
    for (unsigned i = 0; i < HELD; i++)
        iobuf_unref(held[i]);
}

static void test_blobapi__blocks_make_one_blob(void **state)
{
    struct span a = pattern(3 << 20, 1), b = pattern(100, 2), c = pattern((1 << 20) + 1, 3);
    char *want = arena_alloc(box.arena, a.len + b.len + c.len + b.len);
    size_t n = 0;

    created("ctr");
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=block&blockid=Qw==", "", c), 201);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=block&blockid=QQ==", "", b), 201);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=block&blockid=QQ==", "", a),
                     201); /* the last wins */
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=block&blockid=Qg==", "", b), 201);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=block&blockid=QUFB", "", b),
                     400); /* another length */
    assert_int_equal(ask("GET", "/acct/ctr/b?comp=blocklist&blocklisttype=all", ""), 200);
    assert_non_null(strstr(
        body_text(),
        "<CommittedBlocks /><UncommittedBlocks><Block><Name>QQ==</Name><Size>3145728</Size></Block>"
        "<Block><Name>Qg==</Name>"));
    assert_int_equal(
        ask_bytes("PUT", "/acct/ctr/b?comp=blocklist", "",
                  SPAN("<BlockList><Latest>QQ==</Latest><Latest>Qg==</Latest><Latest>Qw==</"
                       "Latest><Latest>Qg==</Latest></BlockList>")),
        201);
    for (unsigned i = 0; i < 4; i++) {
        struct span piece = i == 0 ? a : i == 2 ? c : b;

        memcpy(want + n, piece.base, piece.len);
        n += piece.len;
    }
    assert_got("/acct/ctr/b", span_from(want, n));
    /* committed blocks may be used again, what is not named goes */
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=blocklist", "",
                               SPAN("<BlockList><Committed>Qg==</Committed></BlockList>")),
                     201);
    assert_got("/acct/ctr/b", b);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b?comp=blocklist", "",
                               SPAN("<BlockList><Committed>QQ==</Committed></BlockList>")),
                     400);
    assert_got("/acct/ctr/b", b);
    assert_int_equal(ask("GET", "/acct/ctr/b?comp=blocklist", ""), 200);
    assert_non_null(strstr(
        body_text(),
        "<CommittedBlocks><Block><Name>Qg==</Name><Size>100</Size></Block></CommittedBlocks>"));
}

static void test_blobapi__overwrite_describe_delete(void **state)
{
    struct span etag;

    created("ctr");
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b", BLOCK_BLOB, SPAN("one")), 201);
    etag = arena_copy(box.arena, fake_answer_header(&box.answer, "ETag"));
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b", BLOCK_BLOB "If-None-Match: *\n", SPAN("two")),
                     409);
    assert_int_equal(
        ask_bytes("PUT", "/acct/ctr/b",
                  arena_printf(box.arena, BLOCK_BLOB "If-Match: %.*s\n", SPAN_FMT(etag)).base,
                  SPAN("two")),
        201);
    assert_int_equal(
        ask_bytes("PUT", "/acct/ctr/b",
                  arena_printf(box.arena, BLOCK_BLOB "If-Match: %.*s\n", SPAN_FMT(etag)).base,
                  SPAN("three")),
        412);
    assert_got("/acct/ctr/b", SPAN("two"));
    assert_int_equal(ask("PUT", "/acct/ctr/b?comp=metadata", "x-ms-meta-k: v\n"), 200);
    assert_int_equal(ask("PUT", "/acct/ctr/b?comp=properties", "x-ms-blob-content-type: a/b\n"),
                     200);
    assert_got("/acct/ctr/b", SPAN("two"));
    assert_true(span_eq(fake_answer_header(&box.answer, "x-ms-meta-k"), SPAN("v")));
    assert_true(span_eq(fake_answer_header(&box.answer, "Content-Type"), SPAN("a/b")));
    assert_int_equal(ask("DELETE", "/acct/ctr/b", ""), 202);
    assert_int_equal(ask("GET", "/acct/ctr/b", ""), 404);
    assert_int_equal(ask("DELETE", "/acct/ctr/b", ""), 404);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/u?comp=block&blockid=QQ==", "", SPAN("x")), 201);
    assert_int_equal(ask("DELETE", "/acct/ctr/u", ""), 202);
    assert_int_equal(ask("GET", "/acct/ctr/u?comp=blocklist&blocklisttype=all", ""), 404);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned n = 0;

    for (; (text = strstr(text, part)); text++)
        n++;
    return n;
}

static const char *next_marker(void)
{
    const char *at = strstr(body_text(), "<NextMarker>"), *end = at ? strchr(at + 12, '<') : NULL;

    return at ? arena_copy(box.arena, span_from(at + 12, (size_t)(end - at - 12))).base : NULL;
}

static void test_blobapi__pages_of_a_listing_are_complete(void **state)
{
    const char *target = created("ctr"), *marker = "";
    unsigned blobs = 0, prefixes = 0, pages = 0;

    for (unsigned i = 0; i < 60; i++) {
        const char *name = arena_printf(box.arena, "/acct/ctr/%s%02u",
                                        i % 3   ? ""
                                        : i % 2 ? "dir/"
                                                : "dir+e%2Ff/",
                                        i)
                               .base;

        assert_int_equal(ask_bytes("PUT", name, BLOCK_BLOB, SPAN("x")), 201);
    }
    do {
        const char *page =
            arena_printf(box.arena, "%s&comp=list&maxresults=7&delimiter=/&marker=%s", target,
                         marker)
                .base;

        assert_int_equal(ask("GET", page, ""), 200);
        assert_in_range(count_of(body_text(), "<Name>"), 1, 7);
        blobs += count_of(body_text(), "<Blob>");
        prefixes += count_of(body_text(), "<BlobPrefix>");
        marker = next_marker();
        pages++;
    } while (marker);
    assert_int_equal(blobs, 40);
    assert_int_equal(prefixes, 2);
    assert_int_equal(pages, 6);
    assert_int_equal(
        ask("GET", arena_printf(box.arena, "%s&comp=list&prefix=dir/", target).base, ""), 200);
    assert_int_equal(count_of(body_text(), "<Blob>"), 10);
    assert_int_equal(
        ask("GET", arena_printf(box.arena, "%s&comp=list&prefix=dir%%2Be/", target).base, ""), 200);
    assert_int_equal(count_of(body_text(), "<Blob>"), 10);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/zz?comp=block&blockid=QQ==", "", SPAN("x")), 201);
    assert_int_equal(ask("GET", arena_printf(box.arena, "%s&comp=list&prefix=zz", target).base, ""),
                     200);
    assert_int_equal(count_of(body_text(), "<Blob>"), 0);
    assert_int_equal(
        ask("GET",
            arena_printf(box.arena, "%s&comp=list&prefix=zz&include=uncommittedblobs", target).base,
            ""),
        200);
    assert_int_equal(count_of(body_text(), "<Blob>"), 1);
    assert_int_equal(count_of(body_text(), "<Last-Modified>"),
                     0); /* it has no version, so no date */
    assert_int_equal(count_of(body_text(), "<Etag>"), 0);
}

/* 4 MiB from the device with two buffers left: a request that held what it hashed would wait for
 * ever. */
static void test_blobapi__a_hashed_range_needs_few_buffers(void **state)
{
    size_t n = 4 << 20;
    struct span all = pattern(n + 10, 5);
    struct iobuf *taken[128];
    unsigned held = 0;
    unsigned char md5[16];
    char want[BASE64_BYTES(16)];
    struct md5 *m = md5_new();

    md5_add(m, span_from(all.base + 5, n));
    md5_end(m, md5);
    md5_free(m);
    base64_encode(span_from(md5, 16), want);
    created("ctr");
    assert_int_equal(ask_bytes("PUT", "/acct/ctr/b", BLOCK_BLOB, all), 201);
    while (held < countof(taken) && (taken[held] = iobuf_try(IOBUF_512K)))
        held++;
    iobuf_unref(taken[--held]);
    iobuf_unref(taken[--held]);
    assert_int_equal(ask("GET", "/acct/ctr/b",
                         arena_printf(box.arena,
                                      "x-ms-range: bytes=5-%zu\n"
                                      "x-ms-range-get-content-md5: true\n",
                                      n + 4)
                             .base),
                     206);
    assert_true(box.answer.whole);
    assert_true(span_eq(fake_answer_header(&box.answer, "Content-MD5"), span_from(want, 24)));
    assert_int_equal(box.answer.body_len, n);
    assert_memory_equal(box.answer.body, all.base + 5, n);
    while (held)
        iobuf_unref(taken[--held]);
}

static void test_blobapi__containers_and_accounts_are_apart(void **state)
{
    created("ctr1");
    created("ctr2");
    assert_int_equal(ask("PUT", "/acct/ctr1?restype=container", ""), 409);
    assert_int_equal(ask_bytes("PUT", "/acct/ctr1/b", BLOCK_BLOB, SPAN("one")), 201);
    assert_int_equal(ask("GET", "/acct/ctr2/b", ""), 404);
    assert_int_equal(ask("GET", "/other/ctr1/b", ""), 404);
    assert_int_equal(ask("GET", "/acct?comp=list", ""), 200);
    assert_int_equal(count_of(body_text(), "<Container>"), 2);
    assert_int_equal(ask("GET", "/other?comp=list", ""), 200);
    assert_int_equal(count_of(body_text(), "<Container>"), 0);
    assert_int_equal(ask("DELETE", "/acct/ctr1?restype=container", ""), 202);
    assert_int_equal(ask("GET", "/acct/ctr1/b", ""), 404);
    created("ctr1"); /* another container of the same name: empty */
    assert_int_equal(ask("GET", "/acct/ctr1/b", ""), 404);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_blobapi__what_is_put_is_got_also_after_a_restart,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(test_blobapi__ranges_of_a_large_blob, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blobapi__a_hashed_range_needs_few_buffers, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_blobapi__the_longest_block_list_is_answered, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_blobapi__blocks_make_one_blob, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blobapi__overwrite_describe_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blobapi__pages_of_a_listing_are_complete, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_blobapi__containers_and_accounts_are_apart, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
