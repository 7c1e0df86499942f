/* Goal: body data comes out the same however its bytes arrive; broken framing is refused at the
 * byte that breaks it. Method: each text split into pieces of every size. */
#include "tests/unit/unit.h"

#include "server/http_body.h"

struct decoded {
    char data[4096];
    size_t len, used; /* used: of the input, framing and data */
    bool ended;
};

/* Runs the decoder over pieces of at most `step` bytes, as http_io.c does. 0 or -EBADMSG. */
static int decode(struct span text, int64_t body_bytes, size_t step, struct decoded *ret)
{
    struct http_body body;

    *ret = (struct decoded){0};
    http_body_init(&body, body_bytes);
    while (ret->used < text.len && !body.ended) {
        struct span piece = span_from(text.base + ret->used, MIN(step, text.len - ret->used));
        ssize_t n = http_body_framing(&body, piece);

        if (n < 0)
            return (int)n;
        ret->used += (size_t)n;
        piece = span_skip(piece, (size_t)n);
        piece.len = MIN(piece.len, body.left);
        memcpy(ret->data + ret->len, piece.base, piece.len);
        ret->len += piece.len;
        ret->used += piece.len;
        http_body_took(&body, piece.len);
    }
    ret->ended = body.ended;
    return 0;
}

static const struct {
    const char *text, *data;
} good[] = {
    {"0\r\n\r\n", ""},
    {"5\r\nhello\r\n0\r\n\r\n", "hello"},
    {"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"},
    {"b\r\nhello world\r\n0\r\n\r\n", "hello world"},
    {"B;name=value;x=\"y z\"\r\nhello world\r\n00;last\r\n\r\n", "hello world"},
    {"000000000000005\r\n\r\n\r\n0\r\n0\r\n\r\n", "\r\n\r\n0"},
    {"1\r\na\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n", "a"},
};

static void test_http_body__chunks_decode_however_they_arrive(void **state)
{
    struct decoded d;

    for (size_t i = 0; i < countof(good); i++) {
        struct span text = span_of(good[i].text);

        for (size_t step = 1; step <= text.len; step++) {
            assert_int_equal(decode(text, -1, step, &d), 0);
            assert_true(d.ended);
            assert_int_equal(d.used, text.len);
            assert_true(span_eq(span_from(d.data, d.len), span_of(good[i].data)));
        }
    }
}

static void test_http_body__what_follows_the_end_is_not_touched(void **state)
{
    struct decoded d;
    struct span text = SPAN("1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n");

    for (size_t step = 1; step <= text.len; step++) {
        assert_int_equal(decode(text, -1, step, &d), 0);
        assert_true(d.ended);
        assert_int_equal(d.used, 11);
    }
}

static void test_http_body__a_cut_body_has_not_ended(void **state)
{
    struct decoded d;
    struct span text = SPAN("5;x\r\nhello\r\n0\r\nT: 1\r\n\r\n");

    for (size_t n = 0; n < text.len; n++) {
        assert_int_equal(decode(span_from(text.base, n), -1, 1, &d), 0);
        assert_false(d.ended);
    }
}

static const char *const bad[] = {
    "\r\n",
    "x\r\n",
    " 5\r\nhello\r\n",
    "5 \r\nhello\r\n",
    "0x5\r\nhello\r\n",
    "-1\r\n",
    "5\nhello\r\n",
    "5\rhello\r\n",
    "5\r\nhello0\r\n\r\n",
    "5\r\nhello\n0\r\n\r\n",
    "5\r\nhello\r0\r\n\r\n",
    ";x\r\n",
    "5;\x01\r\nhello\r\n",
    "5;a\nb\r\nhello\r\n",
    "1000000000000000\r\n",
    "0000000000000005\r\nhello\r\n",
    "ffffffffffffffff\r\n",
    "0\r\n\n",
    "0\r\nT: 1\n\r\n",
    "0\r\nT: \x01\r\n\r\n",
    "0\r\n\rx",
};

static void test_http_body__broken_chunks_are_refused(void **state)
{
    struct decoded d;

    for (size_t i = 0; i < countof(bad); i++)
        for (size_t step = 1; step <= strlen(bad[i]); step++)
            if (decode(span_of(bad[i]), -1, step, &d) != -EBADMSG)
                fail_msg("accepted: %s", bad[i]);
}

static void test_http_body__extensions_and_trailers_are_bounded(void **state)
{
    static char text[HTTP_TRAILERS_MAX + 100];
    struct decoded d;

    memset(text, 'a', sizeof(text));
    memcpy(text, "5;", 2);
    assert_int_equal(decode(span_from(text, HTTP_CHUNK_LINE_MAX), -1, 64, &d), 0);
    assert_int_equal(decode(span_from(text, HTTP_CHUNK_LINE_MAX + 10), -1, 64, &d), -EBADMSG);
    memcpy(text, "0\r\n", 3);
    assert_int_equal(decode(span_from(text, HTTP_TRAILERS_MAX), -1, 64, &d), 0);
    assert_int_equal(decode(span_from(text, HTTP_TRAILERS_MAX + 10), -1, 64, &d), -EBADMSG);
}

static void test_http_body__content_length_counts(void **state)
{
    struct decoded d;
    struct span text = SPAN("hello worldGET /");

    for (size_t step = 1; step <= text.len; step++) {
        assert_int_equal(decode(text, 11, step, &d), 0);
        assert_true(d.ended);
        assert_int_equal(d.used, 11);
        assert_true(span_eq(span_from(d.data, d.len), SPAN("hello world")));
    }
    assert_int_equal(decode(text, 0, 1, &d), 0);
    assert_true(d.ended);
    assert_int_equal(decode(text, 17, 1, &d), 0);
    assert_false(d.ended);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_http_body__chunks_decode_however_they_arrive),
        cmocka_unit_test(test_http_body__what_follows_the_end_is_not_touched),
        cmocka_unit_test(test_http_body__a_cut_body_has_not_ended),
        cmocka_unit_test(test_http_body__broken_chunks_are_refused),
        cmocka_unit_test(test_http_body__extensions_and_trailers_are_bounded),
        cmocka_unit_test(test_http_body__content_length_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
