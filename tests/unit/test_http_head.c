/* Goal: every malformed head is refused with the right status, every good one is taken apart
 * exactly; the result does not depend on how the bytes arrive. Method: tables, fed whole and byte
 * by byte. */
#include "tests/unit/unit.h"

#include "server/http_head.h"

struct parsed {
    struct http_head head;
    struct http_refusal why;
    struct header room[HTTP_HEADERS_MAX];
    char lower[2 * HTTP_HEAD_BYTES_MAX];
};

/* 0, -EAGAIN (more is needed), -EBADMSG; `step` bytes at a time. */
static int feed(struct span text, size_t step, struct parsed *ret)
{
    size_t scanned = 0, have = 0;
    ssize_t n = 0;

    while (!n && have < text.len) {
        have = MIN(text.len, have + step);
        n = http_head_end(span_from(text.base, have), &scanned, &ret->why);
    }
    if (n <= 0)
        return n ? (int)n : -EAGAIN;
    return http_head_parse(span_from(text.base, (size_t)n), ret->lower, ret->room, &ret->head,
                           &ret->why);
}

static void expect_refused(struct span text, int status, const char *code)
{
    static struct parsed p;

    for (size_t step = 1; step <= text.len; step += text.len > 2000 ? 1000 : 1) {
        if (feed(text, step, &p) != -EBADMSG)
            fail_msg("served: %.*s", (int)MIN(text.len, 80u), text.base);
        if (p.why.status != status || strcmp(p.why.code, code) || !p.why.message)
            fail_msg("%d %s for: %.*s", p.why.status, p.why.code, (int)MIN(text.len, 80u),
                     text.base);
    }
}

#define H "Host: a\r\n"
static const struct {
    int status;
    const char *code, *text;
} refused[] = {
    /* request line */
    {400, "InvalidInput", "\x16\x03\x01\x02"},
    {400, "InvalidInput", " GET / HTTP/1.1\r\n" H "\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\n" H "\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\r\nHost: a\n\n"},
    {400, "InvalidInput", "GET /\r\n" H "\r\n"},
    {400, "InvalidInput", "GET  / HTTP/1.1\r\n" H "\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1 \r\n" H "\r\n"},
    {400, "InvalidInput", "GET / http/1.1\r\n" H "\r\n"},
    {400, "InvalidInput", "GET /a b HTTP/1.1\r\n" H "\r\n"},
    {400, "InvalidHttpVerb", "G@T / HTTP/1.1\r\n" H "\r\n"},
    {400, "InvalidHttpVerb", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1\r\n" H "\r\n"},
    {505, "InvalidInput", "GET / HTTP/1.2\r\n" H "\r\n"},
    {505, "InvalidInput", "GET / HTTP/0.9\r\n" H "\r\n"},
    {505, "InvalidInput", "PRI * HTTP/2.0\r\n\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.10\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "GET index HTTP/1.1\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "GET /\x01 HTTP/1.1\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "GET /\x7f HTTP/1.1\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "GET /a\tb HTTP/1.1\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "CONNECT a:80 HTTP/1.1\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "GET http://a HTTP/1.1\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "GET http:///a HTTP/1.1\r\n" H "\r\n"},
    {400, "RequestUrlFailedToParse", "GET http://u@a/ HTTP/1.1\r\n" H "\r\n"},
    /* header lines */
    {400, "InvalidInput", "GET / HTTP/1.1\r\n" H "no colon\r\n\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\r\n" H "X : 1\r\n\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\r\n" H ": 1\r\n\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\r\n" H "X: 1\r\n folded\r\n\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\r\n" H "X: 1\r\n\tfolded: 2\r\n\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\r\n" H "X\xc3\xa4: 1\r\n\r\n"},
    {400, "InvalidInput", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\n" H "X: \x01\r\n\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\n" H "X: \x7f\r\n\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\n" H "X: 1\r\r\n\r\n"},
    /* host */
    {400, "MissingRequiredHeader", "GET / HTTP/1.1\r\n\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\n" H H "\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
    {400, "InvalidHeaderValue", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
    /* framing */
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 2\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Content-Length: 1 2\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"},
    {400, "InvalidHeaderValue",
     "PUT / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
     "chunked\r\n\r\n"},
    {400, "InvalidHeaderValue", "PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {417, "InvalidHeaderValue", "PUT / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n"},
};

static void test_http_head__malformed_heads_are_refused(void **state)
{
    for (size_t i = 0; i < countof(refused); i++)
        expect_refused(span_of(refused[i].text), refused[i].status, refused[i].code);
}

static void test_http_head__nul_bytes_are_refused(void **state)
{
    expect_refused(SPAN("GET /\0 HTTP/1.1\r\n" H "\r\n"), 400, "RequestUrlFailedToParse");
    expect_refused(SPAN("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"), 400, "InvalidHeaderValue");
    expect_refused(SPAN("GET / HTTP/1.1\r\n" H "X\0: a\r\n\r\n"), 400, "InvalidInput");
}

static void test_http_head__limits_are_exact(void **state)
{
    static char text[HTTP_HEAD_BYTES_MAX + 100];
    static struct parsed p;
    size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n" H "X: ");

    memset(text + n, 'a', sizeof(text) - n);
    memcpy(text + HTTP_HEAD_BYTES_MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(feed(span_from(text, HTTP_HEAD_BYTES_MAX), 4096, &p), 0);
    memset(text + HTTP_HEAD_BYTES_MAX - 4, 'a', 4);
    memcpy(text + HTTP_HEAD_BYTES_MAX - 3, "\r\n\r\n", 4);
    expect_refused(span_from(text, HTTP_HEAD_BYTES_MAX + 1), 400, "InvalidInput");
    memset(text + n, 'a', sizeof(text) - n); /* never ends */
    expect_refused(span_from(text, sizeof(text)), 400, "InvalidInput");
}

static void test_http_head__a_hundred_headers_fit(void **state)
{
    static char text[8192];
    static struct parsed p;
    size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n" H);

    for (int i = 1; i < 100; i++)
        n += (size_t)sprintf(text + n, "X-%d: %d\r\n", i, i);
    strcpy(text + n, "\r\n");
    assert_int_equal(feed(span_of(text), 8192, &p), 0);
    assert_int_equal(p.head.header_count, 100);
    strcpy(text + n, "Y: 1\r\n\r\n");
    expect_refused(span_of(text), 400, "InvalidInput");
}

static void test_http_head__a_put_is_taken_apart(void **state)
{
    static const struct span text = {
        "PUT /acc/c/a%2Fb//..?comp=block&sig=%2B HTTP/1.1\r\nHOST: Acc.Blob:10000\r\n"
        "x-ms-meta-MixedCase:  v a l\t \r\nContent-LENGTH: 8388608\r\nExpect: "
        "100-Continue\r\nEmpty:\r\n\r\n"
        "body",
        0};
    static struct parsed p;
    struct span whole = span_of(text.base);

    for (size_t step = 1; step < whole.len; step++) {
        assert_int_equal(feed(whole, step, &p), 0);
        assert_true(span_eq(p.head.method, SPAN("PUT")));
        assert_true(span_eq(p.head.target, SPAN("/acc/c/a%2Fb//..?comp=block&sig=%2B")));
        assert_true(span_eq(p.head.host, SPAN("Acc.Blob:10000")));
        assert_int_equal(p.head.header_count, 5);
        assert_true(span_eq(p.head.headers[0].name, SPAN("host")));
        assert_true(span_eq(p.head.headers[1].name, SPAN("x-ms-meta-mixedcase")));
        assert_true(span_eq(p.head.headers[1].sent_name, SPAN("x-ms-meta-MixedCase")));
        assert_true(span_eq(p.head.headers[1].value, SPAN("v a l")));
        assert_int_equal(p.head.headers[4].value.len, 0);
        assert_int_equal(p.head.body_bytes, 8388608);
        assert_true(p.head.http11 && p.head.keep_alive && p.head.expect_continue);
    }
}

static const struct {
    const char *text;
    const char *target, *host;
    int64_t body_bytes;
    bool keep_alive, expect;
} served[] = {
    {"GET / HTTP/1.0\r\n\r\n", "/", NULL, 0, false, false},
    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\n\r\n", "/", NULL, 0,
     false, false},
    {"GET / HTTP/1.1\r\nHost:\r\n\r\n", "/", "", 0, true, false},
    {"GET / HTTP/1.1\r\nhost: [::1]:80\r\nConnection: CLOSE\r\n\r\n", "/", "[::1]:80", 0, false,
     false},
    {"GET / HTTP/1.1\r\n" H "Connection: x, close , y\r\n\r\n", "/", "a", 0, false, false},
    {"GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\n\r\n", "/", "a", 0, true, false},
    {"GET http://b:1/c?d HTTP/1.1\r\n" H "\r\n", "/c?d", "b:1", 0, true, false},
    {"GET HTTPS://b/c HTTP/1.1\r\n" H "\r\n", "/c", "b", 0, true, false},
    {"OPTIONS * HTTP/1.1\r\n" H "\r\n", "*", "a", 0, true, false},
    {"PUT /\xc3\xa4 HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n", "/\xc3\xa4", "a", -1,
     true, false},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 9223372036854775807\r\nExpect: 100-continue\r\n\r\n",
     "/", "a", INT64_MAX, true, true},
    {"PUT / HTTP/1.1\r\n" H "Content-Length: 000\r\nX: caf\xc3\xa9\r\n\r\n", "/", "a", 0, true,
     false},
};

static void test_http_head__good_heads_are_served(void **state)
{
    static struct parsed p;

    for (size_t i = 0; i < countof(served); i++)
        for (size_t step = 1; step < 40; step++) {
            assert_int_equal(feed(span_of(served[i].text), step, &p), 0);
            assert_true(span_eq(p.head.target, span_of(served[i].target)));
            assert_true(span_eq(p.head.host, span_of(served[i].host)));
            assert_int_equal(p.head.body_bytes, served[i].body_bytes);
            assert_int_equal(p.head.keep_alive, served[i].keep_alive);
            assert_int_equal(p.head.expect_continue, served[i].expect);
        }
}

static void test_http_head__half_a_head_asks_for_more(void **state)
{
    static struct parsed p;
    struct span text = SPAN("GET / HTTP/1.1\r\n" H "\r\n");

    for (size_t n = 1; n < text.len; n++)
        assert_int_equal(feed(span_from(text.base, n), n, &p), -EAGAIN);
}

static void test_http_head__blank_lines_are_counted(void **state)
{
    assert_int_equal(http_head_blank(SPAN("\r\n\r\nGET")), 4);
    assert_int_equal(http_head_blank(SPAN("\r")), 0);
    assert_int_equal(http_head_blank(SPAN("\r\n\r")), 2);
    assert_int_equal(http_head_blank(SPAN("\n\r\n")), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_head__malformed_heads_are_refused),
        cmocka_unit_test(test_http_head__nul_bytes_are_refused),
        cmocka_unit_test(test_http_head__limits_are_exact),
        cmocka_unit_test(test_http_head__a_hundred_headers_fit),
        cmocka_unit_test(test_http_head__a_put_is_taken_apart),
        cmocka_unit_test(test_http_head__good_heads_are_served),
        cmocka_unit_test(test_http_head__half_a_head_asks_for_more),
        cmocka_unit_test(test_http_head__blank_lines_are_counted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
