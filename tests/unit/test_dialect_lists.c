/* Goal: blocks, lists, containers and the account answer as the service does. Method: as
 * test_dialect.c. */
#include "tests/unit/dialect.h"

/* ---- blocks ---- */

static void test_blocks__are_committed_in_the_order_of_the_list(void **state)
{
    ask_body("PUT", "/acct/ctr/b?comp=block&blockid=QQ==", "", "AAA");
    assert_answer(201, NULL);
    assert_int_equal(fake_answer_header(&answer, "x-ms-content-crc64").len, 12);
    assert_header("Content-MD5", NULL);
    assert_header("ETag", NULL);
    ask_body("PUT", "/acct/ctr/b?comp=block&blockid=Qg%3D%3D",
             "Content-MD5: nR7SR6X+NwCLqQnz9Qyk4A==\n", "xx");
    assert_answer(400, "Md5Mismatch");
    ask_body("PUT", "/acct/ctr/b?comp=block&blockid=Qg%3D%3D", "", "BB");
    ASK("GET", "/acct/ctr/b", "", 404, "BlobNotFound"); /* uncommitted is not there */
    ASK("GET", "/acct/ctr/b?comp=blocklist&blocklisttype=all", "", 200, NULL);
    assert_body_has(
        "<CommittedBlocks /><UncommittedBlocks><Block><Name>QQ==</Name><Size>3</Size></Block>");
    assert_header("ETag", NULL);

    ask_body("PUT", "/acct/ctr/b?comp=blocklist",
             "x-ms-blob-content-type: t/y\nContent-Type: application/xml\nx-ms-meta-k: v\n",
             "<BlockList><Latest>Qg==</Latest><Latest>QQ==</Latest><Uncommitted>Qg==</"
             "Uncommitted></BlockList>");
    assert_answer(201, NULL);
    assert_header("Content-MD5", NULL);
    assert_int_equal(fake_answer_header(&answer, "x-ms-content-crc64").len, 12);
    assert_int_equal(engine.staged_count, 0);
    ASK("GET", "/acct/ctr/b", "", 200, NULL);
    assert_string_equal(body_text(), "BBAAABB");
    assert_header("Content-Type", "t/y");
    assert_header("Content-MD5", NULL);
    assert_header("x-ms-meta-k", "v");
    ASK("GET", "/acct/ctr/b?comp=blocklist", "", 200, NULL);
    assert_body_has(
        "<BlockList><CommittedBlocks><Block><Name>Qg==</Name><Size>2</Size></Block><Block>");
    assert_body_lacks("Uncommitted");
    assert_header("x-ms-blob-content-length", "7");
    ASK("GET", "/acct/ctr/b?comp=blocklist&blocklisttype=uncommitted", "", 200, NULL);
    assert_body_has("<BlockList><UncommittedBlocks /></BlockList>");
}

static void test_blocks__bad_lists_change_nothing(void **state)
{
    static const struct {
        const char *body, *code;
    } cases[] = {{"<BlockList><Latest>Qg==</Latest></BlockList>", "InvalidBlockList"},
                 {"<BlockList><Committed>QQ==</Committed></BlockList>", "InvalidBlockList"},
                 {"<BlockList><Latest>!</Latest></BlockList>", "InvalidBlockList"},
                 {"<BlockList><Latest>QQ==</Latest>", "InvalidXmlDocument"},
                 {"hello", "InvalidXmlDocument"}};

    ask_body("PUT", "/acct/ctr/b?comp=block&blockid=QQ==", "", "AAA");
    for (size_t i = 0; i < countof(cases); i++) {
        ask_body("PUT", "/acct/ctr/b?comp=blocklist", "", cases[i].body);
        assert_answer(400, cases[i].code);
        assert_int_equal(engine.staged_count, 1);
        assert_int_equal(engine.blob_count, 0);
    }
    ask_body("PUT", "/acct/ctr/b?comp=blocklist", "If-Match: *\n", "<BlockList/>");
    assert_answer(412, "ConditionNotMet");
    ask_body("PUT", "/acct/ctr/b?comp=blocklist", "If-None-Match: *\n", "<BlockList/>");
    assert_answer(201, NULL);
    ask_body("PUT", "/acct/ctr/b?comp=blocklist", "If-None-Match: *\n", "<BlockList/>");
    assert_answer(409, "BlobAlreadyExists");
    ASK("GET", "/acct/ctr/b", "", 200, NULL);
    assert_int_equal(answer.body_bytes, 0);
}

static void test_blocks__a_silent_client_holds_no_buffer(void **state)
{
    struct iobuf *taken[128];
    unsigned n = 0;

    while (n < countof(taken) && (taken[n] = iobuf_try(IOBUF_64K)))
        n++;
    run(&(struct fake_request){.method = "PUT", /* waits for the client, not for a buffer */
                               .target = with_sas("/acct/ctr/b?comp=blocklist"),
                               .headers = "",
                               .body = SPAN("<BlockList/>"),
                               .cancel_after = 1});
    assert_true(answer.read_called);
    assert_false(answer.whole);
    while (n)
        iobuf_unref(taken[--n]);
}

static void test_blocks__what_the_engine_refuses(void **state)
{
    static const struct {
        int err, status;
        const char *code;
    } cases[] = {{-EINVAL, 400, "InvalidBlobOrBlock"},
                 {-E2BIG, 409, "BlockCountExceedsLimit"},
                 {-EEXIST, 409, "InvalidBlobType"},
                 {-ENOENT, 404, "ContainerNotFound"},
                 {-EIO, 503, "ServerBusy"}};

    engine.blocks_err = -EBUSY; /* no worker has time: the name's turn goes on before the answer */
    ask_body("PUT", "/acct/ctr/b?comp=blocklist", "",
             "<BlockList><Latest>QQ==</Latest></BlockList>");
    assert_answer(503, "ServerBusy");
    for (size_t i = 0; i < countof(cases); i++) {
        engine.stage_err = cases[i].err;
        ask_body("PUT", "/acct/ctr/b?comp=block&blockid=QQ==", "", "AAA");
        assert_answer(cases[i].status, cases[i].code);
    }
}

/* ---- lists ---- */

static void test_list_blobs__pages_and_prefixes(void **state)
{
    static const char *const names[] = {"a", "d/1", "d/2", "d0", "e&f", "z"};
    char target[512];

    for (size_t i = 0; i < countof(names); i++)
        engine_put(span_of(names[i]), SPAN("12345"));
    ASK("GET", "/acct/ctr?restype=container&comp=list", "Host: 127.0.0.1:1\n", 200, NULL);
    assert_body_has(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults "
        "ServiceEndpoint=\"http://127.0.0.1:1/acct/\" "
        "ContainerName=\"ctr\"><Blobs><Blob><Name>a</Name>"
        "<Properties><Creation-Time>Tue, 14 Nov 2023 22:13:20 "
        "GMT</Creation-Time><Last-Modified>Tue, 14 Nov 2023 22:13:20 GMT</Last-Modified><Etag>0x");
    assert_body_has(
        "</Etag><Content-Length>5</Content-Length><Content-Type>text/plain</"
        "Content-Type><Content-Encoding /><Content-Language /><Content-CRC64 /><Content-MD5 />"
        "<Cache-Control /><Content-Disposition /><BlobType>BlockBlob</BlobType>");
    assert_body_has("<Name>e&amp;f</Name>");
    assert_body_has("<OrMetadata /></Blob></Blobs><NextMarker /></EnumerationResults>");
    assert_body_lacks("<Metadata");
    ASK("GET", "/acct/ctr?restype=container&comp=list&delimiter=/&maxresults=2&include=metadata",
        "", 200, NULL);
    assert_body_has(
        "<MaxResults>2</MaxResults><Delimiter>/</Delimiter><Blobs><Blob><Name>a</Name>");
    assert_body_has("<Metadata />");
    assert_body_has(
        "<BlobPrefix><Name>d/</Name></BlobPrefix></Blobs><NextMarker>2!2!ZDA</NextMarker>");
    snprintf(target, sizeof(target),
             "/acct/ctr?restype=container&comp=list&delimiter=%%2F&maxresults=2&marker=2!2!ZDA");
    ASK("GET", target, "", 200, NULL);
    assert_body_has("<Marker>2!2!ZDA</Marker><MaxResults>2</MaxResults>");
    assert_body_has("<Name>d0</Name>");
    assert_body_lacks("<Name>d/</Name>");
    ASK("GET", "/acct/ctr?restype=container&comp=list&prefix=d/&startFrom=d/2", "", 200, NULL);
    assert_body_has("<Prefix>d/</Prefix>");
    assert_body_lacks("<Name>d/1</Name>");
    assert_body_has("<Name>d/2</Name>");
    ASK("GET", "/acct/ctr?restype=container&comp=list&prefix=none", "", 200, NULL);
    assert_body_has("<Blobs></Blobs><NextMarker />");
    engine.blobs[0]->record.content_disposition = SPAN("caf\xe9"); /* as a cloud may have it */
    ASK("GET", "/acct/ctr?restype=container&comp=list", "", 200, NULL);
    assert_body_has("<Content-Disposition>caf\xc3\xa9</Content-Disposition>");
}

static void test_list_blobs__ends_a_page_early_rather_than_short(void **state)
{
    struct iobuf *taken[128];
    unsigned n = 0, rows = 0;
    const char *at;

    for (unsigned i = 0; i < 60; i++) { /* about 3 KiB of text each */
        struct blob *b =
            engine_put(arena_printf(engine.arena, "blob-%03u-%01000d", i, 0), SPAN("x"));

        b->record.content_type = arena_printf(engine.arena, "%02000d", 0);
    }
    while (n < countof(taken) && (taken[n] = iobuf_try(IOBUF_64K)))
        n++;
    iobuf_unref(taken[--n]); /* one is left, for a page of 180 KiB */
    ASK("GET", "/acct/ctr?restype=container&comp=list", "", 200, NULL);
    assert_body_has("</Blobs><NextMarker>2!");
    for (at = body_text(); (at = strstr(at, "<Blob>")); at++)
        rows++;
    assert_in_range(rows, 10, 25);
    while (n)
        iobuf_unref(taken[--n]);
}

/* A head that crosses into a buffer nobody has is an answer for later, not the end of the process.
 */
static void test_lists__head_longer_than_there_are_buffers(void **state)
{
    static const char *const targets[] = {"/acct/ctr?restype=container&comp=list&prefix=",
                                          "/acct?comp=list&prefix="};
    struct iobuf *taken[128];
    char *quotes = arena_alloc(engine.arena, 12001);
    unsigned n = 0;

    memset(quotes, '"', 12000);
    quotes[12000] = 0;
    while (n < countof(taken) && (taken[n] = iobuf_try(IOBUF_64K)))
        n++;
    iobuf_unref(taken[--n]);
    for (size_t i = 0; i < countof(targets); i++)
        ASK("GET", arena_printf(engine.arena, "%s%s", targets[i], quotes).base, "", 503,
            "ServerBusy");
    while (n)
        iobuf_unref(taken[--n]);
    for (size_t i = 0; i < countof(targets); i++)
        ASK("GET", arena_printf(engine.arena, "%s%s", targets[i], quotes).base, "", 200, NULL);
}

static void test_list_containers__pages(void **state)
{
    add_container("other");
    engine.containers[0]->record.metadata_count = 0;
    ASK("GET", "/acct?comp=list&maxresults=2", "", 200, NULL);
    assert_body_has(
        "<EnumerationResults "
        "ServiceEndpoint=\"http://127.0.0.1:10000/acct/\"><MaxResults>2</"
        "MaxResults><Containers><Container><Name>ctr</Name><Properties><Last-Modified>");
    assert_body_has("<Etag>\"0x");
    assert_body_has("<NextMarker>/acct/nomd5</NextMarker>");
    ASK("GET", "/acct?comp=list&marker=/acct/other&prefix=o", "", 200, NULL);
    assert_body_has("<Name>other</Name>");
    assert_body_has("</Containers><NextMarker />");
}

/* ---- containers, account ---- */

static void test_containers__life(void **state)
{
    ASK("PUT", "/acct/new?restype=container", "x-ms-meta-Owner: me\n", 201, NULL);
    assert_int_equal(fake_answer_header(&answer, "ETag").len, 20);
    ASK("GET", "/acct/new?restype=container", "", 200, NULL);
    assert_header("x-ms-meta-Owner", "me");
    assert_header("x-ms-lease-state", "available");
    assert_header("x-ms-has-legal-hold", "false");
    ASK("PUT", "/acct/new?restype=container&comp=metadata", "x-ms-meta-b: 2\n", 200, NULL);
    ASK("HEAD", "/acct/new?restype=container&comp=metadata", "", 200, NULL);
    assert_header("x-ms-meta-owner", NULL);
    assert_header("x-ms-meta-b", "2");
    assert_header("x-ms-lease-state", NULL);
    ASK("DELETE", "/acct/new?restype=container",
        "If-Unmodified-Since: Tue, 14 Nov 2000 22:13:20 GMT\n", 412, "ConditionNotMet");
    ASK("DELETE", "/acct/new?restype=container", "If-Match: *\n", 400,
        "ConditionHeadersNotSupported");
    engine.commit_err = -ENOENT; /* deleted by another meanwhile */
    ASK("DELETE", "/acct/new?restype=container", "", 404, "ContainerNotFound");
    ASK("PUT", "/acct/new?restype=container&comp=metadata", "", 404, "ContainerNotFound");
    engine.commit_err = -EEXIST;
    ASK("PUT", "/acct/newer?restype=container", "", 409, "ContainerAlreadyExists");
    engine.commit_err = 0;
    ASK("DELETE", "/acct/new?restype=container", "", 202, NULL);
    ASK("GET", "/acct/new?restype=container", "", 404, "ContainerNotFound");
}

static void test_account__info_and_properties(void **state)
{
    static const char *const targets[] = {
        "/acct?restype=account&comp=properties", "/acct/?restype=account&comp=properties",
        "/acct/ctr?restype=account&comp=properties", "/acct/ctr/b?restype=account&comp=properties",
        "/acct/none?restype=account&comp=properties"};

    for (size_t i = 0; i < countof(targets); i++) {
        ASK(i % 2 ? "GET" : "HEAD", targets[i], "", 200, NULL);
        assert_header("x-ms-account-kind", "StorageV2");
        assert_header("x-ms-is-hns-enabled", "false");
    }
    ASK("GET", "/acct?restype=service&comp=properties", "", 200, NULL);
    assert_body_has("<StorageServiceProperties>");
}

static void test_account__properties_that_others_set_meanwhile(void **state)
{
    const char *target = "/acct?restype=service&comp=properties";

    assert_int_equal(ask_body("PUT", target, "", "<StorageServiceProperties />"), 202);
    engine.commit_err = -ESTALE; /* again and again */
    ask_body("PUT", target, "", "<StorageServiceProperties />");
    assert_answer(503, "ServerBusy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_account__properties_that_others_set_meanwhile),
        TEST(test_blocks__are_committed_in_the_order_of_the_list),
        TEST(test_blocks__bad_lists_change_nothing),
        TEST(test_blocks__a_silent_client_holds_no_buffer),
        TEST(test_blocks__what_the_engine_refuses),
        TEST(test_list_blobs__pages_and_prefixes),
        TEST(test_list_blobs__ends_a_page_early_rather_than_short),
        TEST(test_lists__head_longer_than_there_are_buffers),
        TEST(test_list_containers__pages),
        TEST(test_containers__life),
        TEST(test_account__info_and_properties),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
