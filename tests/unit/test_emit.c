/* Goal: text comes out of an emit as it went in, over buffer borders, and a row that does not fit
 * leaves no trace. Method: a small pool, so that it runs out. */
#include "tests/unit/unit.h"

#include "blobapi/emit.h"

static int open_pools(void **state)
{
    return iobuf_pools_open(&(struct iobuf_pools_conf){{0}}); /* four buffers of each class */
}

static int close_pools(void **state)
{
    iobuf_pools_close();
    return 0;
}

static size_t text_of(struct emit *e, char *ret, size_t room)
{
    struct slice slices[8];
    unsigned n = emit_take(e, slices, 8);
    size_t len = 0;

    for (unsigned i = 0; i < n; i++) {
        assert_true(len + slices[i].bytes.len <= room);
        memcpy(ret + len, slices[i].bytes.base, slices[i].bytes.len);
        len += slices[i].bytes.len;
        slice_unref(slices[i]);
    }
    return len;
}

static void assert_emits(void (*fn)(struct emit *), const char *want)
{
    char text[512];
    struct emit e;
    size_t len;

    emit_init(&e, iobuf_try(IOBUF_4K));
    fn(&e);
    assert_int_equal(emit_length(&e), strlen(want));
    len = text_of(&e, text, sizeof(text) - 1);
    text[len] = 0;
    assert_string_equal(text, want);
    emit_done(&e);
}

static void emit_all_forms(struct emit *e)
{
    emit_xml(e, SPAN("a<b>&\"c\"\r'd"));
    EMIT(e, "|");
    emit_u64(e, 0);
    emit_u64(e, UINT64_MAX);
    EMIT(e, "|");
    emit_date(e, 784111777LL * 1000000000 + 999999999);
    EMIT(e, "|");
    emit_base64(e, SPAN("ab"));
    emit_base64(e, SPAN("0123456789012345678901234567890123456789012345678"));
    EMIT(e, "|");
    emit_percent(e, SPAN("a/b ~\xff"));
}

static void test_emit__writes_each_form(void **state)
{
    assert_emits(
        emit_all_forms,
        "a&lt;b&gt;&amp;&quot;c&quot;&#xD;'d|018446744073709551615|Sun, 06 Nov 1994 08:49:37 GMT|"
        "YWI=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3OA==|a%2Fb%20~%FF");
}

static void emit_headers(struct emit *e)
{
    emit_xml_header(e, SPAN("a<b"));
    emit_xml_header(e, SPAN("|caf\xc3\xa9|caf"));
    emit_xml_header(e, SPAN("\xe9<\x01>|"));
    emit_xml_header(e, SPAN("\xef\xbf\xbf"));
}

static void test_emit__headers_are_xml_whatever_they_hold(void **state)
{
    assert_emits(emit_headers, "a&lt;b|caf\xc3\xa9|caf\xc3\xa9&lt;?&gt;|\xc3\xaf\xc2\xbf\xc2\xbf");
    assert_true(emit_xml_fits(SPAN("\xef\xbf\xbd\t")));
    assert_false(emit_xml_fits(SPAN("\xef\xbf\xbe")));
    assert_false(emit_xml_fits(SPAN("\xef\xbf")));
}

static void test_emit__crosses_buffers_at_any_byte(void **state)
{
    static char text[200000];
    struct emit e;
    size_t n = 0;

    emit_init(&e, iobuf_try(IOBUF_4K));
    for (unsigned i = 0; i < 9999; i++) {
        char digits[8];
        int len = snprintf(digits, sizeof(digits), "%u,", i);

        emit_bytes(&e, digits, (size_t)len);
        n += (size_t)len;
    }
    assert_false(e.full);
    assert_int_equal(emit_length(&e), n);
    assert_int_equal(text_of(&e, text, sizeof(text)), n);
    assert_memory_equal(text, "0,1,2,3,", 8);
    assert_memory_equal(text + n - 10, "9997,9998,", 10);
    emit_done(&e);
}

static void test_emit__row_that_does_not_fit_leaves_no_trace(void **state)
{
    static char row[50000], text[300000];
    struct emit e;
    unsigned rows = 0;
    size_t len;

    memset(row, 'r', sizeof(row));
    emit_init(&e, iobuf_try(IOBUF_4K));
    for (;;) {
        struct emit_mark mark = emit_mark(&e);

        emit_bytes(&e, row, sizeof(row));
        if (!emit_keep_tail(&e)) {
            emit_rewind(&e, mark);
            break;
        }
        rows++;
    }
    assert_true(rows >= 4); /* 4 KiB and three or four buffers of 64 KiB */
    memset(row, 't', EMIT_TAIL_ROOM);
    emit_bytes(&e, row, EMIT_TAIL_ROOM); /* promised */
    assert_false(e.full);
    len = text_of(&e, text, sizeof(text));
    assert_int_equal(len, rows * sizeof(row) + EMIT_TAIL_ROOM);
    assert_int_equal(text[rows * sizeof(row) - 1], 'r');
    assert_int_equal(text[rows * sizeof(row)], 't');
    emit_done(&e);
}

static void test_emit__a_row_gives_the_tail_its_buffer_back(void **state)
{
    static char row[70000];
    struct iobuf *taken[64];
    struct emit_mark mark;
    unsigned n = 0;
    struct emit e;

    emit_init(&e, iobuf_try(IOBUF_4K));
    assert_true(emit_keep_tail(&e)); /* 4 KiB are no room: a buffer is set aside */
    while (n < countof(taken) && (taken[n] = iobuf_try(IOBUF_64K)))
        n++;
    mark = emit_mark(&e);
    emit_bytes(&e, row, sizeof(row)); /* takes it, and needs more than there is */
    assert_false(emit_keep_tail(&e));
    emit_rewind(&e, mark);
    emit_bytes(&e, row, EMIT_TAIL_ROOM);
    assert_false(e.full);
    emit_done(&e);
    while (n)
        iobuf_unref(taken[--n]);
}

static void test_emit__gives_all_buffers_back(void **state)
{
    for (unsigned class = 0; class < IOBUF_CLASSES; class ++) {
        struct iobuf_stats s = iobuf_pool_stats(class);

        assert_int_equal(s.total, s.free);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emit__writes_each_form),
        cmocka_unit_test(test_emit__headers_are_xml_whatever_they_hold),
        cmocka_unit_test(test_emit__crosses_buffers_at_any_byte),
        cmocka_unit_test(test_emit__row_that_does_not_fit_leaves_no_trace),
        cmocka_unit_test(test_emit__a_row_gives_the_tail_its_buffer_back),
        cmocka_unit_test(test_emit__gives_all_buffers_back),
    };

    return cmocka_run_group_tests(tests, open_pools, close_pools);
}
