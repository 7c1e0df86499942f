/* Goal: requests and answers over real sockets are byte-exact and framed right in every form a
 * client may choose. Method: the fixture's handlers behind a real listener, a raw client; nothing
 * here waits for time to pass. */
#include "tests/unit/server_fixture.h"

#define PUT(target, headers) "PUT " target " HTTP/1.1\r\nHost: a\r\n" headers "\r\n"
#define GET(target)          "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"

static int open_plain(void **state)
{
    fixture_open((struct server_conf){0});
    return 0;
}

static int close_server(void **state)
{
    fixture_close();
    return 0;
}

static void expect_pattern(const struct answer *a, size_t bytes)
{
    assert_int_equal(a->body_len, bytes);
    for (size_t i = 0; i < bytes; i++)
        if (a->body[i] != pattern(i))
            fail_msg("byte %zu is wrong", i);
}

static void test_server__get_answers_with_date_and_length(void **state)
{
    struct answer a;
    int fd = client();

    client_say(fd, GET("/bytes/5"));
    client_answer(fd, &a);
    assert_int_equal(a.status, 200);
    assert_non_null(answer_header(&a, "HTTP/1.1 200 Because\r\n"));
    assert_non_null(answer_header(&a, "\r\nx-test: /bytes/5\r\n"));
    assert_non_null(answer_header(&a, "\r\nDate: "));
    assert_non_null(answer_header(&a, " GMT\r\n"));
    assert_null(answer_header(&a, "Connection:"));
    expect_pattern(&a, 5);
    free(a.body);
    close(fd);
}

static void test_server__large_answers_are_exact_and_keep_alive(void **state)
{
    static const char *const targets[] = {GET("/bytes/0"), GET("/bytes/4096"), GET("/bytes/65537"),
                                          GET("/bytes/9000000")};
    static const size_t sizes[] = {0, 4096, 65537, 9000000};
    struct answer a;
    int fd = client();

    for (int i = 0; i < 4; i++) {
        client_say(fd, targets[i]);
        client_answer(fd, &a);
        expect_pattern(&a, sizes[i]);
        free(a.body);
    }
    close(fd);
    eventually(fix.ended == 4);
    assert_int_equal(fix.whole, 4);
}

static void test_server__pipelined_requests_are_answered_in_order(void **state)
{
    static char text[100000];
    struct answer a;
    size_t n = 0;
    int fd = client();

    for (int i = 0; i < 500; i++)
        n += (size_t)sprintf(text + n,
                             i % 5
                                 ? "GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n"
                                 : "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n%04d",
                             i);
    client_send(fd, span_from(text, n));
    for (int i = 0; i < 500; i++) {
        client_answer(fd, &a);
        assert_int_equal(a.status, 200);
        if (i % 5)
            expect_pattern(&a, (size_t)i);
        else
            assert_int_equal(atoi(a.body), i);
        free(a.body);
    }
    close(fd);
}

static void put_and_compare(int fd, const char *target, size_t bytes, size_t piece)
{
    char *body = xmalloc(bytes), head[200];
    struct answer a;

    for (size_t i = 0; i < bytes; i++)
        body[i] = (char)(i * 7 >> 4);
    sprintf(head, "PUT %s HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", target, bytes);
    client_say(fd, head);
    for (size_t at = 0; at < bytes; at += piece)
        client_send(fd, span_from(body + at, MIN(piece, bytes - at)));
    client_answer(fd, &a);
    assert_int_equal(a.status, 200);
    assert_int_equal(a.body_len, bytes);
    assert_memory_equal(a.body, body, bytes);
    free(a.body);
    free(body);
}

static void test_server__put_bodies_arrive_exact_through_small_buffers(void **state)
{
    int fd = client();

    put_and_compare(fd, "/echo", 1, 1);
    put_and_compare(fd, "/echo", 4096, 4096);
    put_and_compare(fd, "/echo", 4097, 100);
    put_and_compare(fd, "/echo", 3000000, 100000);
    put_and_compare(fd, "/peek", 100000, 3333);
    close(fd);
    eventually(fix.whole == 5);
}

static void test_server__a_request_may_arrive_byte_by_byte(void **state)
{
    static const char text[] = "\r\n" PUT("/echo", "Content-Length: 5\r\n") "hello";
    int fd = client();

    for (size_t i = 0; i + 1 < sizeof(text); i++)
        client_send(fd, span_from(text + i, 1));
    client_expect(fd, 200, "hello");
    close(fd);
}

static void test_server__chunked_bodies_are_decoded(void **state)
{
    static const char text[] = "5\r\nhello\r\n1;x=y\r\n \r\n5\r\nworld\r\n0\r\nT: 1\r\n\r\n";
    int fd = client();

    client_say(fd, PUT("/echo", "Transfer-Encoding: chunked\r\n") "0\r\n\r\n");
    client_expect(fd, 200, "");
    for (size_t piece = 1; piece < sizeof(text); piece++) {
        client_say(fd, PUT("/echo", "Transfer-Encoding: chunked\r\n"));
        for (size_t at = 0; at + 1 < sizeof(text); at += piece)
            client_send(fd, span_from(text + at, MIN(piece, sizeof(text) - 1 - at)));
        client_expect(fd, 200, "hello world");
    }
    close(fd);
}

static void test_server__large_chunks_are_decoded(void **state)
{
    size_t bytes = 1000000;
    char *text = xmalloc(bytes + 100);
    size_t n = (size_t)sprintf(text, "%zx\r\n", bytes);
    struct answer a;
    int fd = client();

    for (size_t i = 0; i < bytes; i++)
        text[n + i] = pattern(i);
    strcpy(text + n + bytes, "\r\n3\r\nend\r\n0\r\n\r\n");
    client_say(fd, PUT("/echo", "Transfer-Encoding: chunked\r\n"));
    client_send(fd, span_from(text, n + bytes + 17));
    client_answer(fd, &a);
    assert_int_equal(a.body_len, bytes + 3);
    a.body_len = bytes;
    expect_pattern(&a, bytes);
    free(a.body);
    free(text);
    close(fd);
}

static void test_server__broken_chunks_are_told_to_the_handler(void **state)
{
    int fd = client();

    client_say(fd, PUT("/echo", "Transfer-Encoding: chunked\r\n") "5\r\nhelloX");
    client_expect(fd, 400, "");
    client_expect_closed(fd);
    close(fd);
    assert_int_equal(fix.read_err, -EBADMSG);
}

static void test_server__answers_without_length_are_chunked(void **state)
{
    struct answer a;
    int fd = client();

    client_say(fd, GET("/chunked/65541"));
    client_head(fd, &a);
    assert_non_null(answer_header(&a, "\r\nTransfer-Encoding: chunked\r\n"));
    assert_null(answer_header(&a, "Content-Length"));
    client_body(fd, &a, 7 + 65536 + 2 + 3 + 5 + 2 + 5);
    assert_memory_equal(a.body, "10000\r\n", 7);
    assert_int_equal(a.body[7 + 65535], pattern(65535));
    assert_memory_equal(a.body + 7 + 65536, "\r\n5\r\n", 5);
    assert_memory_equal(a.body + 7 + 65536 + 10, "\r\n0\r\n\r\n", 7);
    free(a.body);
    client_say(fd, GET("/bytes/0"));
    client_expect(fd, 200, "");
    close(fd);
}

static void test_server__http10_gets_the_body_up_to_the_end(void **state)
{
    struct answer a;
    int fd = client();

    client_say(fd, "GET /chunked/5 HTTP/1.0\r\n\r\n");
    client_head(fd, &a);
    assert_null(answer_header(&a, "Transfer-Encoding"));
    assert_non_null(answer_header(&a, "\r\nConnection: close\r\n"));
    client_body(fd, &a, 5);
    expect_pattern(&a, 5);
    client_expect_closed(fd);
    free(a.body);
    close(fd);
}

static void test_server__connection_close_is_honoured(void **state)
{
    int fd = client();

    client_say(fd, "GET /bytes/0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET("/bytes/0"));
    client_expect(fd, 200, "");
    client_expect_closed(fd);
    close(fd);
    assert_int_equal(fix.started, 1);
}

static void test_server__head_and_304_and_204_have_no_body(void **state)
{
    struct answer a;
    int fd = client();

    client_say(fd, "HEAD /bytes/70000 HTTP/1.1\r\nHost: a\r\n\r\n" GET("/status/304")
                       GET("/status/204") GET("/status/201"));
    client_head(fd, &a);
    assert_non_null(answer_header(&a, "\r\nContent-Length: 70000\r\n"));
    client_head(fd, &a);
    assert_int_equal(a.status, 304);
    assert_null(answer_header(&a, "Content-Length"));
    client_head(fd, &a);
    assert_int_equal(a.status, 204);
    assert_null(answer_header(&a, "Content-Length"));
    client_head(fd, &a);
    assert_int_equal(a.status, 201);
    assert_non_null(answer_header(&a, "\r\nContent-Length: 0\r\n"));
    close(fd);
}

static void test_server__header_values_cannot_start_a_line(void **state)
{
    struct answer a;
    int fd = client();

    client_say(fd, GET("/inject"));
    client_head(fd, &a);
    assert_null(answer_header(&a, "\nInjected"));
    assert_non_null(
        answer_header(&a, "\r\nx-test: a long value\tis \xc3\xa4 ???Injected: yes, also ?\r\n"));
    close(fd);
}

static void test_server__malformed_heads_get_the_services_error(void **state)
{
    struct answer a;
    int fd = client();

    client_say(fd,
               "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nrest");
    client_answer(fd, &a);
    assert_int_equal(a.status, 400);
    assert_non_null(answer_header(&a, "\r\nx-ms-error-code: InvalidHeaderValue\r\n"));
    assert_non_null(answer_header(&a, "\r\nx-ms-request-id: "));
    assert_non_null(answer_header(&a, "\r\nConnection: close\r\n"));
    assert_memory_equal(a.body,
                        "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>"
                        "InvalidHeaderValue</Code><Message>Content-Length occurs twice.\n",
                        98);
    assert_non_null(strstr(a.body, "Z</Message></Error>"));
    client_expect_closed(fd);
    free(a.body);
    close(fd);
    assert_int_equal(fix.started, 0);
}

static void test_server__continue_comes_only_with_the_first_read(void **state)
{
    static char body[10001];
    struct answer a;
    char byte;
    int fd = client();

    memset(body, 'x', sizeof(body) - 1); /* three reads */
    client_say(fd, PUT("/hold", "Content-Length: 10000\r\nExpect: 100-continue\r\n"));
    eventually(atomic_load(&fix.held));
    assert_int_equal(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
    hold_release();
    client_head(fd, &a);
    assert_int_equal(a.status, 100);
    for (int i = 0; i < 10000; i += 1000) {
        int64_t before = STAT_READ(server_received_bytes);

        client_send(fd, span_from(body, 1000));
        eventually(STAT_READ(server_received_bytes) == before + 1000);
    }
    client_expect(fd, 200, body);
    client_say(fd, GET("/bytes/0"));
    client_expect(fd, 200, "");
    close(fd);
}

static void test_server__a_refused_expectation_closes(void **state)
{
    struct answer a;
    int fd = client();

    client_say(fd, PUT("/early", "Content-Length: 5\r\nExpect: 100-continue\r\n"));
    client_answer(fd, &a);
    assert_int_equal(a.status, 403);
    assert_non_null(answer_header(&a, "\r\nConnection: close\r\n"));
    client_expect_closed(fd);
    free(a.body);
    close(fd);
}

static void test_server__an_early_error_is_readable_behind_a_big_body(void **state)
{
    size_t bytes = MIB(32);
    char *body = xcalloc(1, bytes);
    int fd = client();

    client_say(fd, PUT("/early", "Content-Length: 33554432\r\n"));
    client_send(fd, span_from(body, bytes)); /* would fail at a reset */
    client_expect(fd, 403, "");
    client_expect_closed(fd);
    free(body);
    close(fd);
}

static void test_server__a_small_unread_body_keeps_the_connection(void **state)
{
    char *body = xcalloc(1, 500000);
    int fd = client();

    client_say(fd, PUT("/early", "Content-Length: 500000\r\n"));
    client_send(fd, span_from(body, 250000));
    client_expect(fd, 403, "");
    client_send(fd, span_from(body, 250000));
    client_say(fd, GET("/bytes/0"));
    client_expect(fd, 200, "");
    free(body);
    close(fd);
}

static void test_server__a_vanished_client_cancels_what_waits(void **state)
{
    int fd = client();

    client_say(fd, GET("/wait"));
    eventually(fix.started == 1);
    close(fd);
    eventually(fix.ended == 1);
    assert_int_equal(fix.cancelled, 1);
    assert_int_equal(fix.whole, 0);
}

static void test_server__a_client_vanished_in_its_body_cancels(void **state)
{
    int fd = client();

    client_say(fd, PUT("/echo", "Content-Length: 5\r\n") "hel");
    eventually(fix.started == 1);
    close(fd);
    eventually(fix.ended == 1);
    assert_int_equal(fix.cancelled, 1);
}

static void test_server__a_client_vanished_in_the_answer_cancels(void **state)
{
    int fd = client();

    client_say(fd, GET("/flood"));
    eventually(fix.started == 1);
    close(fd);
    eventually(fix.ended == 1);
    assert_int_equal(fix.whole, 0);
}

#define plain_test(f) cmocka_unit_test_setup_teardown(f, open_plain, close_server)
int main(void)
{
    const struct CMUnitTest tests[] = {
        plain_test(test_server__get_answers_with_date_and_length),
        plain_test(test_server__large_answers_are_exact_and_keep_alive),
        plain_test(test_server__pipelined_requests_are_answered_in_order),
        plain_test(test_server__put_bodies_arrive_exact_through_small_buffers),
        plain_test(test_server__a_request_may_arrive_byte_by_byte),
        plain_test(test_server__chunked_bodies_are_decoded),
        plain_test(test_server__large_chunks_are_decoded),
        plain_test(test_server__broken_chunks_are_told_to_the_handler),
        plain_test(test_server__answers_without_length_are_chunked),
        plain_test(test_server__http10_gets_the_body_up_to_the_end),
        plain_test(test_server__connection_close_is_honoured),
        plain_test(test_server__head_and_304_and_204_have_no_body),
        plain_test(test_server__header_values_cannot_start_a_line),
        plain_test(test_server__malformed_heads_get_the_services_error),
        plain_test(test_server__continue_comes_only_with_the_first_read),
        plain_test(test_server__a_refused_expectation_closes),
        plain_test(test_server__an_early_error_is_readable_behind_a_big_body),
        plain_test(test_server__a_small_unread_body_keeps_the_connection),
        plain_test(test_server__a_vanished_client_cancels_what_waits),
        plain_test(test_server__a_client_vanished_in_its_body_cancels),
        plain_test(test_server__a_client_vanished_in_the_answer_cancels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
