/* Goal: pages become ranges of names whatever the cloud's markers, order and abilities are. */
#include "tests/unit/upstream_run.h"
#include "upstream/list_page.h"

#define ROW                                                                                        \
    "<Blob><Name>%s</Name><Properties><Last-Modified>Sun, 06 Nov 1994 08:49:37 "                   \
    "GMT</Last-Modified>"                                                                          \
    "<Etag>0x8D1</Etag><Content-Length>5</Content-Length><Content-Type>t/x</Content-Type>"         \
    "<Content-MD5>FfGFd1ROVdNeSVQ3op73aQ==</Content-MD5><BlobType>BlockBlob</BlobType>"            \
    "</Properties><Metadata><Key>v&amp;w</Key></Metadata></Blob>"
#define HEAD "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults><Blobs>"
#define TAIL "</Blobs><NextMarker>%s</NextMarker></EnumerationResults>"

static struct list_page *parse(const char *xml, struct span from, int *err, bool *below)
{
    struct list_page *page = list_page_new();
    size_t len = strlen(xml);

    *err = 0;
    for (size_t i = 0; i < len && !*err; i += 7)
        *err = list_page_feed(page, span_from(xml + i, MIN(len - i, 7)));
    if (!*err)
        *err = list_page_end(page, from, below);
    return page;
}

static void test_upstream_list__a_row_is_what_a_head_would_give(void **state)
{
    char xml[4096];
    const struct learned_row *rows;
    struct list_page *page;
    bool below;
    size_t n;
    int err;

    snprintf(xml, sizeof(xml), HEAD ROW TAIL, "a&lt;b", "");
    page = parse(xml, SPAN(""), &err, &below);
    assert_int_equal(err, 0);
    rows = list_page_rows(page, &n);
    assert_int_equal(n, 1);
    assert_span_equal(rows[0].name, "a<b");
    assert_span_equal(rows[0].cloud->cloud_etag, "\"0x8D1\"");
    assert_int_equal(rows[0].cloud->length, 5);
    assert_int_equal(rows[0].cloud->content_md5.len, MD5_BYTES);
    assert_true(rows[0].cloud->cloud_modified_ns == 784111777LL * 1000000000);
    assert_int_equal(rows[0].cloud->metadata_count, 1);
    assert_span_equal(rows[0].cloud->metadata[0].name, "Key");
    assert_span_equal(rows[0].cloud->metadata[0].value, "v&w");
    assert_null(list_page_to(page).base);
    list_page_free(page);
}

static void test_upstream_list__prefixes_are_sorted_in_and_the_end_is_known(void **state)
{
    char xml[8192];
    const struct learned_row *rows;
    struct list_page *page;
    bool below;
    size_t n;
    int err;

    snprintf(
        xml, sizeof(xml),
        HEAD
        "<BlobPrefix><Name>m/</Name></BlobPrefix><BlobPrefix><Name>z/</Name></BlobPrefix>" ROW ROW
        "<Blob><Name Encoded=\"true\">b%%2Fc%%EF%%BF%%BE</Name><Snapshot>x</Snapshot></Blob>" TAIL,
        "a", "n", "opaque");
    page = parse(xml, SPAN("m"), &err, &below);
    assert_int_equal(err, 0);
    assert_true(below);
    rows = list_page_rows(page, &n);
    assert_int_equal(n, 3);
    assert_span_equal(rows[0].name, "m/");
    assert_null(rows[0].cloud);
    assert_span_equal(rows[1].name, "n");
    assert_span_equal(rows[2].name, "z/");
    assert_span_equal(list_page_to(page), "z0");
    assert_span_equal(list_page_marker(page), "opaque");
    list_page_free(page);
}

static void test_upstream_list__half_a_row_is_no_knowledge(void **state)
{
    static const char *const bad[] = {
        HEAD "<Blob><Name>a</Name></Blob></Blobs></EnumerationResults>",
        HEAD "<BlobPrefix></BlobPrefix></Blobs></EnumerationResults>",
        HEAD,
        "",
        "<html><body>Sign in to this network</body></html>", /* else an empty listing */
    };

    for (size_t i = 0; i < countof(bad); i++) {
        bool below;
        int err;
        struct list_page *page = parse(bad[i], SPAN(""), &err, &below);

        assert_int_equal(err, -EBADMSG);
        list_page_free(page);
    }
}

/* A cloud of names a0..a9, three a page, its markers opaque ("!3" before a3). */
struct cloud {
    bool knows_start_from, refuses_markers;
    bool lossy, lost; /* every other request is refused as busy */
};

static int first_of(struct cloud *c, const char *target)
{
    const char *marker = strstr(target, "marker=%21"), *start = strstr(target, "startFrom=a");

    if (marker)
        return marker[strlen("marker=%21")] - '0';
    return start && c->knows_start_from ? start[strlen("startFrom=a")] - '0' : 0;
}

static void serve(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    struct cloud *c = arg;
    int first = first_of(c, request->target), last = MIN(first + 3, 10);
    char *xml = xmalloc(16384), marker[16] = "";
    size_t n = (size_t)sprintf(xml, "%s", HEAD);

    if (c->lossy && (c->lost = !c->lost)) {
        ret->status = 503;
        free(xml);
        return;
    }
    if (c->refuses_markers && strstr(request->target, "marker=")) {
        c->refuses_markers = false;
        ret->status = 400;
        free(xml);
        return;
    }
    for (int i = first; i < last; i++) {
        char name[16];

        snprintf(name, sizeof(name), "a%d", i);
        n += (size_t)sprintf(xml + n, ROW, name);
    }
    if (last < 10)
        sprintf(marker, "!%d", last);
    n += (size_t)sprintf(xml + n, TAIL, marker);
    ret->status = 200;
    ret->body = xml;
    ret->body_len = n;
    ret->free_body = true;
}

static int list_at(struct run *run, struct span from)
{
    const struct list_gap gap = {
        .container = 7, .prefix = SPAN(""), .delimiter = SPAN(""), .from = from};
    struct awaited wait;

    upstream_list(run->upstream, &gap, awaited_init(&wait, run->loop));
    return loop_await(run->poll, &wait);
}

static int list_once(struct run *run, const char *from)
{
    return list_at(run, span_of(from));
}

#define AFTER_A2 span_from("a2", 3) /* and a NUL: the first name after it */

static void test_upstream_list__goes_on_by_the_clouds_marker(void **state)
{
    struct cloud cloud = {0};
    struct run run;

    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, ""), 0);
    assert_int_equal(run.cache->pages, 1);
    assert_int_equal(run.cache->page[0].rows, 3);
    assert_string_equal(run.cache->page[0].names[2], "a2");
    assert_false(run.cache->page[0].to_end);
    assert_string_equal(run.cache->page[0].to, "a2"); /* and a NUL */
    assert_int_equal(list_at(&run, AFTER_A2), 0);
    assert_int_equal(run.cache->pages, 2);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", "marker=%213"), 1);
    assert_string_equal(run.cache->page[1].names[0], "a3");
    run_close(&run);
}

/* The marker of the page that ended at a2 goes on after it: a gap at a2 itself is another place. */
static void test_upstream_list__a_marker_is_of_the_place_after_the_last_name(void **state)
{
    struct cloud cloud = {0};
    struct run run;

    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, ""), 0);
    assert_int_equal(list_once(&run, "a2"), 0);
    assert_string_equal(run.cache->page[1].names[0], "a0");
    assert_string_equal(run.cache->page[1].names[2], "a2");
    run_close(&run);
}

static _Atomic uint64_t later_ns;

static uint64_t mono_later(void *arg)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec + later_ns;
}

static int64_t wall_now(void *arg)
{
    return time(NULL) * (int64_t)NS_PER_SEC;
}

static void test_upstream_list__an_old_marker_is_not_used(void **state)
{
    const struct clock_source source = {mono_later, wall_now, NULL};
    struct cloud cloud = {0};
    struct run run;

    clock_set_source(&source);
    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, ""), 0);
    later_ns = 60 * NS_PER_SEC;
    assert_int_equal(list_at(&run, AFTER_A2), 0);
    assert_string_equal(run.cache->page[1].names[0], "a0"); /* from the start */
    run_close(&run);
    clock_set_source(NULL);
}

/* Asked where the service knows the name of the first row: that is never old. */
static void test_upstream_list__start_from_comes_before_a_marker(void **state)
{
    struct cloud cloud = {.knows_start_from = true};
    struct run run;

    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, ""), 0);
    assert_int_equal(list_at(&run, AFTER_A2), 0);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", "marker="), 0);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", "%00"), 0);
    assert_string_equal(run.cache->page[1].names[0], "a2");
    assert_string_equal(run.cache->page[1].names[2], "a4");
    run_close(&run);
}

static void test_upstream_list__uses_start_from_where_the_cloud_knows_it(void **state)
{
    struct cloud cloud = {.knows_start_from = true};
    struct run run;

    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, "a7"), 0);
    assert_int_equal(run.cache->pages, 1);
    assert_string_equal(run.cache->page[0].from, "a7");
    assert_string_equal(run.cache->page[0].names[0], "a7");
    assert_true(run.cache->page[0].to_end);
    run_close(&run);
}

static void test_upstream_list__walks_from_the_start_where_it_does_not(void **state)
{
    struct cloud cloud = {0};
    struct run run;

    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, "a7"), 0);
    assert_int_equal(run.cache->pages, 3); /* a0.., a3.., a6..: all learned on the way */
    assert_string_equal(run.cache->page[0].names[0], "a0");
    assert_string_equal(run.cache->page[2].names[0], "a6");
    assert_int_equal(fake_cloud_count(run.cloud, "GET", "startFrom"), 1);
    assert_int_equal(list_once(&run, "a95"), 0);
    assert_int_equal(fake_cloud_count(run.cloud, "GET", "startFrom"), 1); /* not asked again */
    run_close(&run);
}

static void test_upstream_list__a_long_walk_over_a_lossy_wan_ends(void **state)
{
    struct cloud cloud = {.lossy = true};
    struct run run;

    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, "a95"), 0); /* four pages, each refused once */
    assert_int_equal(run.cache->pages, 4);
    run_close(&run);
}

static void test_upstream_list__an_expired_marker_costs_a_walk(void **state)
{
    struct cloud cloud = {0};
    struct run run;

    run_open(&run, serve, &cloud);
    assert_int_equal(list_once(&run, ""), 0);
    cloud.refuses_markers = true;
    assert_int_equal(list_at(&run, AFTER_A2), 0);
    assert_string_equal(run.cache->page[run.cache->pages - 1].names[0], "a3");
    run_close(&run);
}

static void serve_nonsense(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    ret->status = 200;
    ret->body = HEAD "<Blob></Name>";
    ret->body_len = strlen(ret->body);
}

/* Else it would pass for an outage, and the part that is known for the whole list. */
static void test_upstream_list__nonsense_is_no_outage(void **state)
{
    struct run run;

    run_open(&run, serve_nonsense, NULL);
    assert_int_equal(list_once(&run, ""), -EPROTO);
    assert_int_equal(run.cache->pages, 0);
    run_close(&run);
}

static void serve_containers(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    static const char one[] =
        "<EnumerationResults><Containers><Container><Name>c1</Name><Properties><Etag>\"1\"</Etag>"
        "<Last-Modified>Sun, 06 Nov 1994 08:49:37 GMT</Last-Modified></Properties></Container>"
        "</Containers><NextMarker>/acct/c2</NextMarker></EnumerationResults>";
    static const char two[] =
        "<EnumerationResults><Containers><Container><Name>c2</Name><Properties>"
        "<PublicAccess>blob</PublicAccess></Properties><Metadata><a>b</a></Metadata></Container>"
        "</Containers><NextMarker/></EnumerationResults>";

    ret->status = 200;
    ret->body = strstr(request->target, "marker=") ? two : one;
    ret->body_len = strlen(ret->body);
}

static void test_upstream_list__containers_are_known_after_the_last_page(void **state)
{
    struct awaited wait;
    struct run run;

    run_open(&run, serve_containers, NULL);
    upstream_list_containers(run.upstream, 1, awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), 0);
    assert_int_equal(run.cache->container_learned, 2);
    assert_int_equal(run.cache->containers_end, 1);
    assert_int_equal(run.cache->container_absent, 0);
    assert_non_null(fake_cloud_request(run.cloud, "GET", "marker=%2Facct%2Fc2", 0));
    run.cache->unlisted = true;
    upstream_list_containers(run.upstream, 1, awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), 0);
    assert_int_equal(run.cache->container_absent, 1);
    assert_int_equal(run.cache->containers_end, 2);
    run_close(&run);
}

static void serve_container(void *arg, const struct fake_request *request, struct fake_answer *ret)
{
    ret->status = strstr(request->target, "/none") ? 404 : 200;
    ret->no_body = true;
    if (ret->status == 404)
        strcpy(ret->headers, strstr(request->target, "/none-here")
                                 ? "Server: gateway\r\n"
                                 : "x-ms-error-code: ContainerNotFound\r\n");
    else
        strcpy(ret->headers, "ETag: \"1\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
}

static void test_upstream_list__an_unknown_container_is_looked_up(void **state)
{
    struct awaited wait;
    struct run run;

    run_open(&run, serve_container, NULL);
    upstream_open_container(run.upstream, 1, SPAN("some"), awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), 0);
    assert_int_equal(run.cache->container_learned, 1);
    upstream_open_container(run.upstream, 1, SPAN("none"), awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), -ENOENT);
    assert_int_equal(run.cache->container_absent, 1);
    upstream_open_container(run.upstream, 1, SPAN("none-here"), awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), -EPROTO);
    assert_int_equal(run.cache->container_absent, 1); /* a 404 of somebody on the way */
    upstream_open_container(run.upstream, 99, SPAN("none"), awaited_init(&wait, run.loop));
    assert_int_equal(loop_await(run.poll, &wait), -ENOENT);
    run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upstream_list__a_row_is_what_a_head_would_give),
        cmocka_unit_test(test_upstream_list__prefixes_are_sorted_in_and_the_end_is_known),
        cmocka_unit_test(test_upstream_list__half_a_row_is_no_knowledge),
        cmocka_unit_test(test_upstream_list__goes_on_by_the_clouds_marker),
        cmocka_unit_test(test_upstream_list__a_marker_is_of_the_place_after_the_last_name),
        cmocka_unit_test(test_upstream_list__an_old_marker_is_not_used),
        cmocka_unit_test(test_upstream_list__start_from_comes_before_a_marker),
        cmocka_unit_test(test_upstream_list__uses_start_from_where_the_cloud_knows_it),
        cmocka_unit_test(test_upstream_list__walks_from_the_start_where_it_does_not),
        cmocka_unit_test(test_upstream_list__a_long_walk_over_a_lossy_wan_ends),
        cmocka_unit_test(test_upstream_list__an_expired_marker_costs_a_walk),
        cmocka_unit_test(test_upstream_list__nonsense_is_no_outage),
        cmocka_unit_test(test_upstream_list__containers_are_known_after_the_last_page),
        cmocka_unit_test(test_upstream_list__an_unknown_container_is_looked_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
