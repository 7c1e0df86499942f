/* Goal: an account with a cloud asks it when an answer depends on it and only then, serves stale or
 * refuses as its contract says, and its changes carry upload entries. Method: as test_dialect.c,
 * with a cloud that is told what to answer. */
#include <inttypes.h>

#include "tests/unit/dialect.h"

/* ---- an account with a cloud ---- */

static void test_cloud__changes_carry_uploads_where_the_contract_says_so(void **state)
{
    put("/far/ctr/b", "x");
    assert_int_equal(engine.uploads, 1);
    assert_int_equal(engine.uploaded, UPLOAD_CONTENT);
    ASK("PUT", "/far/ctr/b?comp=metadata", "", 200, NULL);
    assert_int_equal(engine.uploaded, UPLOAD_METADATA);
    ASK("PUT", "/far/ctr/b?comp=properties", "", 200, NULL);
    assert_int_equal(engine.uploaded, UPLOAD_PROPERTIES);
    ASK("DELETE", "/far/ctr/b", "", 202, NULL);
    assert_int_equal(engine.uploaded, UPLOAD_DELETE);
    assert_int_equal(engine.uploads, 4);
    put("/far/kvs/b", "x"); /* write = local */
    ask_body("PUT", "/far/ctr/c?comp=block&blockid=QQ==", "", "x");
    assert_int_equal(engine.uploads, 4);
    ASK("DELETE", "/far/ctr?restype=container", "", 202, NULL);
    assert_int_equal(engine.uploaded, UPLOAD_CONTAINER_DELETE);
    ASK("DELETE", "/far/kvs?restype=container", "", 202, NULL); /* only local lines match in it */
    assert_int_equal(engine.uploads, 5);
    assert_int_equal(cloud.opens, 0);
}

/* Never a success the cloud does not hear of; where nothing goes there it is this box's own. */
static void test_cloud__append_blobs_are_for_local_scopes(void **state)
{
    ASK("PUT", "/far/ctr/b", "x-ms-blob-type: AppendBlob\n", 400, "UnsupportedHeader");
    ask_body("PUT", "/far/ctr/b?comp=appendblock", "", "x");
    assert_answer(400, "UnsupportedQueryParameter");
    ASK("PUT", "/far/ctr/b?comp=seal", "", 400, "UnsupportedQueryParameter");
    assert_int_equal(engine.uploads, 0);
    ASK("PUT", "/far/kvs/b", "x-ms-blob-type: AppendBlob\n", 201, NULL);
    assert_int_equal(ask_body("PUT", "/far/kvs/b?comp=appendblock", "", "x"), 201);
    ASK("PUT", "/far/kvs/b?comp=seal", "", 200, NULL);
    assert_int_equal(engine.uploads, 0);
    ASK("GET", "/far/kvs/b", "", 200, NULL);
    ASK("PUT", "/far/kvs/b?comp=appendblock", "", 400, "InvalidHeaderValue");
}

static void test_cloud__unknown_names_are_asked_for(void **state)
{
    engine.unknown = -ENODATA;
    cloud.body = "from afar";
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_string_equal(body_text(), "from afar");
    assert_header("x-hearth-cache", "miss");
    assert_header("x-hearth-durability", "cloud");
    assert_header("x-ms-access-tier", NULL); /* not ours to say */
    ASK("GET", "/far/ctr?restype=container&comp=list", "", 200, NULL);
    assert_body_lacks("<AccessTier>");
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_header("x-hearth-cache", "hit");
    assert_int_equal(cloud.opens, 1);
    cloud.open_err = -EHOSTUNREACH;
    ASK("GET", "/far/ctr/c", "", 503, "ServerBusy");
    cloud.open_err = -ENOENT;
    ASK("GET", "/far/ctr/c", "", 404, "BlobNotFound");
    engine.unknown = -ENODATA;
    cloud.container_err = -ENOENT;
    ASK("GET", "/far/elsewhere/c", "", 404, "ContainerNotFound");
    assert_int_equal(cloud.container_opens, 1);
    ASK("PUT", "/far/elsewhere?restype=container", "", 201, NULL);
    assert_int_equal(engine.uploaded, UPLOAD_CONTAINER_CREATE);
    cloud.container_err = -EHOSTUNREACH;
    ASK("PUT", "/far/elsewhere2?restype=container", "", 503, "ServerBusy");
}

static void test_cloud__only_what_depends_on_a_name_asks(void **state)
{
    engine.unknown = -ENODATA;
    put("/far/ctr/b", "x"); /* a plain overwrite does not */
    assert_int_equal(cloud.opens, 0);
    cloud.open_err = -EHOSTUNREACH;
    ask_body("PUT", "/far/ctr/c", BLOCK_BLOB "If-Match: \"0x1\"\n", "x");
    assert_answer(503, "ServerBusy");
    ASK("DELETE", "/far/ctr/c", "", 503, "ServerBusy");
    ask_body("PUT", "/far/ctr/new", BLOCK_BLOB "If-None-Match: *\n", "x");
    assert_answer(201, NULL); /* the cloud judges the create-only when it is back */
    assert_true(engine.create_only);
    cloud.open_err = 0;
    ask_body("PUT", "/far/ctr/c", BLOCK_BLOB "If-None-Match: *\n", "x");
    assert_answer(409, "BlobAlreadyExists");
    ASK("DELETE", "/far/ctr/d", "", 202, NULL);
    cloud.open_err = -ENOENT;
    engine.unknown = -ENODATA;
    ask_body("PUT", "/far/ctr/e", BLOCK_BLOB "If-None-Match: *\n", "x");
    assert_answer(201, NULL);
}

static void test_cloud__expired_is_revalidated_or_stale(void **state)
{
    struct blob *b = engine_put(SPAN("b"), SPAN("old"));

    b->record.durability = DURABILITY_CLOUD;
    b->record.cloud_etag = SPAN("\"0x8D\"");
    b->record.checked_ns = clock_wall_ns() - 61 * (int64_t)NS_PER_SEC;
    cloud.revalidate_err = -ETIMEDOUT;
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_header("x-hearth-cache", "stale");
    assert_true(fake_answer_header(&answer, "x-hearth-age").len > 0);
    assert_int_equal(cloud.unheard, 0);
    ASK("GET", "/far/ctr/b", "", 200,
        NULL); /* a cloud that was silent a moment ago is not waited for */
    assert_header("x-hearth-cache", "stale");
    assert_int_equal(cloud.unheard, 1);
    ASK("GET", "/far/strict/b", "", 503, "ServerBusy"); /* offline = fail */
    cloud.revalidate_err = 0;
    ASK("HEAD", "/far/strict/b", "", 200, NULL);
    b->record.checked_ns = 1;
    ASK("HEAD", "/far/ctr/b", "", 200, NULL); /* it answers again */
    assert_int_equal(cloud.unheard, 1);
    assert_int_equal(cloud.revalidates, 5);
    assert_header("x-hearth-cache", "hit"); /* no byte and no property came from there */
    ASK("HEAD", "/far/ctr/b", "", 200, NULL);
    assert_int_equal(cloud.revalidates, 5); /* it is fresh now */
    b->record.checked_ns = clock_wall_ns() + 60 * (int64_t)NS_PER_SEC;
    ASK("HEAD", "/far/ctr/b", "", 200, NULL);
    assert_int_equal(cloud.revalidates, 6); /* a time to come counts as expired */
    b->record.checked_ns = 1;
    cloud.revalidate_err = -ENOENT;
    ASK("GET", "/far/ctr/b", "", 404, "BlobNotFound");
    engine_add(b);
    b->record.durability = DURABILITY_LOCAL; /* not uploaded yet: newer than the cloud's */
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_int_equal(cloud.revalidates, 7);
}

static void test_cloud__gaps_are_filled(void **state)
{
    static char body[200001];

    memset(body, 'x', sizeof(body) - 1);
    engine_put(SPAN("b"), span_of(body));
    engine.gap_at = 70000;
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_int_equal(answer.body_len, 200000);
    assert_int_equal(cloud.fills, 1);
}

static struct blob *put_clean(const char *name, const char *bytes)
{
    struct blob *b = engine_put(span_of(name), span_of(bytes));

    b->record.durability = DURABILITY_CLOUD;
    b->record.cloud_etag = SPAN("\"0x8D\"");
    b->record.checked_ns = clock_wall_ns();
    return b;
}

static void test_cloud__changes_of_expired_versions_ask_first(void **state)
{
    static const struct {
        const char *method, *target;
    } changes[] = {{"DELETE", "/far/ctr/b"},
                   {"PUT", "/far/ctr/b?comp=metadata"},
                   {"PUT", "/far/ctr/b?comp=properties"}};

    for (size_t i = 0; i < countof(changes); i++) {
        struct blob *b = put_clean("b", "old");
        const char *match =
            arena_printf(engine.arena, "If-Match: \"0x%016" PRIX64 "\"\n", b->record.etag).base;

        b->record.checked_ns = 1;
        cloud.newer = "replaced in the cloud";
        ASK(changes[i].method, changes[i].target, match, 412, "ConditionNotMet");
        put_clean("b", "old")->record.checked_ns = 1;
        cloud.newer = NULL;
        cloud.revalidate_err = -ENOENT;
        ASK(changes[i].method, changes[i].target, "", 404, "BlobNotFound");
        cloud.revalidate_err = 0;
    }
    assert_int_equal(cloud.revalidates, 2 * countof(changes));
    put_clean("b", "x");
    ASK("DELETE", "/far/ctr/b", "", 202, NULL);
    assert_int_equal(cloud.revalidates, 2 * countof(changes)); /* fresh: nobody is asked */
    ask_body("PUT", "/far/ctr/s?comp=block&blockid=QQ==", "", "AAA");
    ASK("DELETE", "/far/ctr/s", "", 202, NULL); /* uncommitted only: seen by the change alone */
}

/* Whoever appends takes the list for all there is: an empty one would cut the blob to what is new.
 */
static void test_cloud__its_block_lists_are_not_empty_but_unknown(void **state)
{
    engine.unknown = -ENODATA;
    cloud.body = "of a hundred blocks";
    ASK("GET", "/far/ctr/b?comp=blocklist", "", 400, "UnsupportedQueryParameter");
    assert_body_has("<QueryParameterName>blocklisttype</QueryParameterName>");
    ASK("GET", "/far/ctr/b?comp=blocklist&blocklisttype=all", "", 400, "UnsupportedQueryParameter");
    ask_body("PUT", "/far/ctr/b?comp=block&blockid=QQ==", "", "AAA");
    ASK("GET", "/far/ctr/b?comp=blocklist&blocklisttype=uncommitted", "", 200, NULL);
    assert_body_has("<Name>QQ==</Name>");
    put("/far/ctr/b", "ours"); /* one body, no blocks */
    ASK("GET", "/far/ctr/b?comp=blocklist", "", 200, NULL);
    assert_body_has("<CommittedBlocks />");
    cloud.body = "";
    ASK("GET", "/far/ctr/c?comp=blocklist", "", 200, NULL);
}

static void test_cloud__another_version_there_is_answered(void **state)
{
    put_clean("b", "old");
    engine.read_err = -ESTALE; /* what a fill says of a 412 */
    engine.read_err_times = 1;
    cloud.newer = "new version";
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_string_equal(body_text(), "new version");
    assert_header("x-hearth-cache", "miss");
    assert_int_equal(cloud.revalidates, 1); /* although what was known was fresh */

    put_clean("c", "old");
    engine.read_err = -ESTALE;
    engine.read_err_times = 1;
    cloud.revalidate_err = -ENOENT;
    ASK("GET", "/far/ctr/c", "", 404, "BlobNotFound");

    put_clean("d", "old");
    engine.read_err = -ESTALE;
    engine.read_err_times = 0;
    cloud.revalidate_err = 0;
    cloud.newer = NULL;
    ASK("GET", "/far/ctr/d", "", 503,
        "ServerBusy"); /* the cloud contradicts itself: not for ever */
    assert_in_range(cloud.revalidates, 3, 8);
}

static void test_cloud__a_fill_that_fails_is_an_answer(void **state)
{
    put_clean("b", "bytes of b");
    engine.gap_at = 1;
    cloud.fills_nothing = true;
    ask("GET", "/far/ctr/b", "x-ms-range: bytes=4-\n");
    assert_answer(503, "ServerBusy");
    assert_in_range(cloud.fills, 1, 8);
    cloud.fill_err = -EHOSTUNREACH;
    ask("GET", "/far/ctr/b", "x-ms-range: bytes=4-\n");
    assert_answer(503, "ServerBusy");
    engine.gap_at = 0;
    engine.read_err = -EACCES; /* the cloud refuses the box, not the client */
    ASK("GET", "/far/ctr/b", "", 503, "ServerBusy");
}

/* ---- committed blocks that were evicted ---- */

#define A_AND_B "<BlockList><Latest>QQ==</Latest><Latest>Qg==</Latest></BlockList>"

/* "AAABBB" of two blocks, in the cloud, of which only the first bytes are here. */
static struct blob *commit_blocks(const char *name, uint64_t here)
{
    const char *target = arena_printf(engine.arena, "/far/ctr/%s", name).base;
    struct blob *b;

    ask_body("PUT", arena_printf(engine.arena, "%s?comp=block&blockid=QQ==", target).base, "",
             "AAA");
    ask_body("PUT", arena_printf(engine.arena, "%s?comp=block&blockid=Qg==", target).base, "",
             "BBB");
    ask_body("PUT", arena_printf(engine.arena, "%s?comp=blocklist", target).base, "", A_AND_B);
    assert_answer(201, NULL);
    b = engine_blob(span_of(name));
    b->record.durability = DURABILITY_CLOUD;
    b->record.cloud_etag = SPAN("\"0x8D\"");
    b->record.checked_ns = clock_wall_ns();
    engine.gap_at = here;
    cloud.fills = cloud.revalidates = 0;
    return b;
}

static void put_list(const char *name, const char *headers, const char *list)
{
    ask_body("PUT", arena_printf(engine.arena, "/far/ctr/%s?comp=blocklist", name).base, headers,
             list);
}

static void test_cloud__evicted_blocks_come_back_before_they_are_used_again(void **state)
{
    commit_blocks("b", 4);
    ask_body("PUT", "/far/ctr/b?comp=block&blockid=Qw==", "", "CCC");
    put_list("b", "",
             "<BlockList><Latest>QQ==</Latest><Committed>Qg==</Committed><Latest>Qw==</Latest>"
             "<Latest>QQ==</Latest></BlockList>");
    assert_answer(201, NULL);
    assert_int_equal(cloud.fills, 1);
    assert_int_equal(cloud.filled.start, 4); /* not what is here, nor what is not used */
    assert_int_equal(cloud.filled.len, 2);
    ASK("GET", "/far/ctr/b", "", 200, NULL);
    assert_string_equal(body_text(), "AAABBBCCCAAA");

    commit_blocks("c", 4);
    put_list("c", "", "<BlockList><Latest>QQ==</Latest></BlockList>");
    assert_answer(201, NULL);
    assert_int_equal(cloud.fills, 0);
    commit_blocks("d", 1); /* both, as one run */
    put_list("d", "", A_AND_B);
    assert_answer(201, NULL);
    assert_int_equal(cloud.fills, 1);
    assert_int_equal(cloud.filled.len, 5);
    commit_blocks("e", 1); /* a list that is refused costs no transfer */
    put_list("e", "", "<BlockList><Latest>QQ==</Latest><Latest>Wg==</Latest></BlockList>");
    assert_answer(400, "InvalidBlockList");
    assert_int_equal(cloud.fills, 0);
}

static void test_cloud__evicted_blocks_that_do_not_come_are_an_answer(void **state)
{
    commit_blocks("b", 1);
    cloud.fill_err = -EHOSTUNREACH;
    cloud.fills_nothing = true;
    put_list("b", "", A_AND_B);
    assert_answer(503, "ServerBusy");
    assert_int_equal(cloud.fills, 1);
    cloud.fill_err = 0; /* they come and do not stay */
    put_list("b", "", A_AND_B);
    assert_answer(503, "ServerBusy");
    assert_in_range(cloud.fills, 2, 8);
    cloud.fills_nothing = false;
    cloud.fills = 0;
    engine.evicted_at = 1; /* they stay until the turn comes */
    put_list("b", "", A_AND_B);
    assert_answer(503, "ServerBusy");
    assert_in_range(cloud.fills, 2, 8);
    engine.evicted_at = 0;
    put_list("b", "", A_AND_B);
    assert_answer(201, NULL);
}

static void test_cloud__evicted_blocks_of_a_replaced_blob_are_no_blocks(void **state)
{
    struct blob *b = commit_blocks("b", 1);
    const char *match =
        arena_printf(engine.arena, "If-Match: \"0x%016" PRIX64 "\"\n", b->record.etag).base;

    engine.read_err = -ESTALE; /* what a fill says of a 412 */
    engine.read_err_times = 1;
    cloud.newer = "another";
    put_list("b", "", A_AND_B);
    assert_answer(400, "InvalidBlockList");
    assert_int_equal(cloud.revalidates, 1);
    engine_add(b);
    engine.gap_at = engine.read_err_times = 1;
    engine.read_err = -ESTALE;
    put_list("b", match, A_AND_B); /* the condition is judged on the new version as well */
    assert_answer(412, "ConditionNotMet");
    engine_add(b);
    engine.gap_at = engine.read_err_times = 1;
    engine.read_err = -ESTALE;
    cloud.revalidate_err = -ENOENT;
    put_list("b", "", A_AND_B);
    assert_answer(400, "InvalidBlockList");
    engine_add(b);
    engine.gap_at = 1;
    engine.read_err = -ESTALE; /* the cloud contradicts itself: not for ever */
    engine.read_err_times = 0;
    cloud.newer = NULL;
    cloud.revalidate_err = cloud.revalidates = 0;
    put_list("b", "", A_AND_B);
    assert_answer(503, "ServerBusy");
    assert_in_range(cloud.revalidates, 2, 8);
}

static void test_cloud__lists_ask_for_what_is_not_known(void **state)
{
    engine_put(SPAN("b"), SPAN("x"));
    engine.list_err = -ENODATA;
    ASK("GET", "/far/ctr?restype=container&comp=list", "", 200, NULL);
    assert_int_equal(cloud.lists, 1);
    assert_int_equal(cloud.list_held, 0); /* the WAN may be slow */
    assert_header("x-hearth-cache", "miss");
    assert_body_has("<Blobs><Blob><Name>b</Name>");
    engine.list_err = -ENODATA;
    cloud.list_err = -EHOSTUNREACH;
    ASK("GET", "/far/ctr?restype=container&comp=list", "", 200, NULL);
    assert_header("x-hearth-cache", "stale");
    assert_body_has("<Name>b</Name>");
    ASK("GET", "/far/strict?restype=container&comp=list", "", 503, "ServerBusy");
    ASK("GET", "/far?comp=list", "", 200, NULL);
    engine.list_err = -ENODATA;
    cloud.list_err = -ESTALE; /* each answer overtaken: there is no marker for the very beginning */
    ASK("GET", "/far/ctr?restype=container&comp=list", "", 503, "ServerBusy");
    ASK("GET", "/far/ctr?restype=container&comp=list&prefix=b", "", 503, "ServerBusy");
    ASK("GET", "/far/ctr?restype=container&comp=list&marker=2!1!YQ", "", 200, NULL);
    assert_body_has("<Blobs></Blobs><NextMarker>2!1!YQ</NextMarker>");
}

/* Azure's promise (design section 5): neither kept here nor shown as if nothing were set. */
static void test_cloud__its_service_properties_are_its_own(void **state)
{
    cloud.forwarded = (struct forwarded){.status = 200, .body = SPAN("theirs")};
    ASK("GET", "/far?restype=service&comp=properties", "", 200, NULL);
    assert_string_equal(body_text(), "theirs");
    cloud.forwarded = (struct forwarded){.status = 202};
    ask_body("PUT", "/far?restype=service&comp=properties", "", "<StorageServiceProperties />");
    assert_answer(202, NULL);
    assert_int_equal(cloud.forwards, 2);
    ask_body("PUT", "/far-secondary?restype=service&comp=properties", "", "<a/>");
    assert_answer(403, "InsufficientAccountPermissions");
    ASK("GET", "/far/ctr?restype=container&comp=acl", "", 403, "AuthorizationFailure");
    ASK("OPTIONS", "/far/ctr/b", "origin: http://a\naccess-control-request-method: GET\n", 403,
        "CorsPreflightFailure");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLOUD_TEST(test_cloud__changes_carry_uploads_where_the_contract_says_so),
        CLOUD_TEST(test_cloud__append_blobs_are_for_local_scopes),
        CLOUD_TEST(test_cloud__unknown_names_are_asked_for),
        CLOUD_TEST(test_cloud__only_what_depends_on_a_name_asks),
        CLOUD_TEST(test_cloud__expired_is_revalidated_or_stale),
        CLOUD_TEST(test_cloud__gaps_are_filled),
        CLOUD_TEST(test_cloud__changes_of_expired_versions_ask_first),
        CLOUD_TEST(test_cloud__its_block_lists_are_not_empty_but_unknown),
        CLOUD_TEST(test_cloud__another_version_there_is_answered),
        CLOUD_TEST(test_cloud__a_fill_that_fails_is_an_answer),
        CLOUD_TEST(test_cloud__evicted_blocks_come_back_before_they_are_used_again),
        CLOUD_TEST(test_cloud__evicted_blocks_that_do_not_come_are_an_answer),
        CLOUD_TEST(test_cloud__evicted_blocks_of_a_replaced_blob_are_no_blocks),
        CLOUD_TEST(test_cloud__its_service_properties_are_its_own),
        CLOUD_TEST(test_cloud__lists_ask_for_what_is_not_known),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
