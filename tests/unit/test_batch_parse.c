/* Goal: the body of Blob Batch is read as each client writes it and refused where it is none.
 * Method: bodies in the shapes of the Python and JS SDKs, object_store and OpenDAL; one of them cut
 * short at every byte. */
#include "tests/unit/unit.h"

#include "blobapi/batch_parse.h"

#define ENVELOPE "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
#define PART(id, path)                                                                             \
    ENVELOPE "Content-ID: " id "\r\n\r\nDELETE " path " HTTP/1.1\r\nContent-Length: 0\r\n"         \
             "Authorization: SharedKey a:b=\r\n\r\n"

struct parsed {
    struct arena *arena;
    const struct batch_part *at;
    unsigned n;
    int err;
};

static struct parsed parse(struct span body, const char *boundary)
{
    struct parsed p = {.arena = arena_new()};

    p.err = batch_parse(body, span_of(boundary), p.arena, &p.at, &p.n);
    return p;
}

static int parse_err(const char *body)
{
    struct parsed p = parse(span_of(body), "b");

    arena_free(p.arena);
    return p.err;
}

static void assert_span(struct span got, const char *want)
{
    assert_int_equal(got.len, strlen(want));
    assert_memory_equal(got.base, want, got.len);
}

static void test_batch__parts_come_in_order(void **state)
{
    struct parsed p = parse(SPAN("--b\r\n" PART("0", "/acct/c/x%20y?a=b") "\r\n--b\r\n" PART(
                                "one", "/c/z") "\r\n--b--\r\n"),
                            "b");

    assert_int_equal(p.err, 0);
    assert_int_equal(p.n, 2);
    assert_span(p.at[0].content_id, "0");
    assert_span(p.at[0].method, "DELETE");
    assert_span(p.at[0].target, "/acct/c/x%20y?a=b");
    assert_int_equal(p.at[0].header_count, 2);
    assert_span(p.at[0].headers[1].name, "authorization");
    assert_span(p.at[0].headers[1].sent_name, "Authorization");
    assert_span(p.at[0].headers[1].value, "SharedKey a:b=");
    assert_span(p.at[1].content_id, "one");
    assert_span(p.at[1].target, "/c/z");
    arena_free(p.arena);
}

/* A preamble, no Content-ID, no header, no empty line before the delimiter, an epilogue. */
static void test_batch__reads_what_is_optional_either_way(void **state)
{
    static const char *const bodies[] = {
        "\r\n--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\n\r\n--b--",
        "preamble\r\n--b \t\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\n--b--\r\nepilogue",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\n\r\n\r\n\r\n--b--\r\n",
        "--bc\r\n--b\r\ncontent-type: Application/HTTP; msgtype=request\r\n\r\n"
        "DELETE /c/z HTTP/1.1\r\n\r\n--b--",
    };

    for (unsigned i = 0; i < countof(bodies); i++) {
        struct parsed p = parse(span_of(bodies[i]), "b");

        assert_int_equal(p.err, 0);
        assert_int_equal(p.n, 1);
        assert_null(p.at[0].content_id.base);
        assert_span(p.at[0].target, "/c/z");
        assert_int_equal(p.at[0].header_count, 0);
        arena_free(p.arena);
    }
}

static void test_batch__one_cut_short_is_none(void **state)
{
    static const char whole[] = "--b\r\n" PART("0", "/c/x") "--b\r\n" PART("1", "/c/y") "--b--";

    assert_int_equal(parse_err(whole), 0);
    for (size_t len = 0; len < sizeof(whole) - 1; len++) {
        struct parsed p = parse(span_from(whole, len), "b");

        assert_int_equal(p.err, -EBADMSG);
        arena_free(p.arena);
    }
}

static void test_batch__refuses_what_is_no_batch(void **state)
{
    static const char *const bad[] = {
        "",
        "--b\r\n\r\nDELETE /c/z HTTP/1.1\r\n\r\n--b--",            /* no envelope */
        "--b\r\nContent-Type: multipart/mixed; boundary=i\r\n\r\n" /* nested */
        "DELETE /c/z HTTP/1.1\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\n--b--", /* no request */
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.0\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE c/z HTTP/1.1\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE http://h/c/z HTTP/1.1\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/a z HTTP/1.1\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\nno colon\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\na: b\r\n folded\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\na: b\nc: d\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\na : b\r\n\r\n--b--",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\n\r\nbody\r\n--b--",
        "--b\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\n\r\n--b\r\n",
        "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\n\r\n--b\r\n--b--", /* an empty part */
    };

    for (unsigned i = 0; i < countof(bad); i++)
        assert_int_equal(parse_err(bad[i]), -EBADMSG);
    assert_int_equal(parse_err("--b--"), -ENODATA);
    assert_int_equal(parse_err("--b\r\n--b--\r\n"), -ENODATA);
    assert_int_equal(parse_err("--b\r\n\r\n--b--\r\n"), -ENODATA);
}

static int parse_many(unsigned n)
{
    static const char part[] = "--b\r\n" ENVELOPE "\r\nDELETE /c/z HTTP/1.1\r\n\r\n";
    char *text = xcalloc(n + 1, sizeof(part));
    struct parsed p;

    for (unsigned i = 0; i < n; i++)
        memcpy(text + i * (sizeof(part) - 1), part, sizeof(part) - 1);
    memcpy(text + n * (sizeof(part) - 1), "--b--", 5);
    p = parse(span_of(text), "b");
    assert_int_equal(p.n, p.err ? 0 : n);
    arena_free(p.arena);
    free(text);
    return p.err;
}

static void test_batch__holds_256_parts_and_no_more(void **state)
{
    assert_int_equal(parse_many(BATCH_PARTS_MAX), 0);
    assert_int_equal(parse_many(BATCH_PARTS_MAX + 1), -E2BIG);
}

static void test_batch__boundary_as_clients_write_it(void **state)
{
    static const struct {
        const char *type, *boundary; /* NULL: refused */
    } cases[] = {
        {"multipart/mixed; boundary=batch_3c6e-1", "batch_3c6e-1"},   /* Python, JS */
        {"multipart/mixed; boundary=batch_a+b/c==", "batch_a+b/c=="}, /* object_store */
        {"Multipart/Mixed;charset=x; BOUNDARY=\"opendal-1\"", "opendal-1"},
        {"multipart/mixed", NULL},
        {"multipart/mixed; boundary=", NULL},
        {"multipart/mixed; boundary=\"\"", NULL},
        {"multipart/form-data; boundary=a", NULL},
        {"application/http", NULL},
        {"", NULL},
        {"multipart/mixed; boundary="
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
         NULL},
    };

    for (unsigned i = 0; i < countof(cases); i++) {
        struct span got = {NULL, 0};
        int err = batch_boundary(span_of(cases[i].type), &got);

        assert_int_equal(err, cases[i].boundary ? 0 : -EINVAL);
        if (cases[i].boundary)
            assert_span(got, cases[i].boundary);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch__parts_come_in_order),
        cmocka_unit_test(test_batch__reads_what_is_optional_either_way),
        cmocka_unit_test(test_batch__one_cut_short_is_none),
        cmocka_unit_test(test_batch__refuses_what_is_no_batch),
        cmocka_unit_test(test_batch__holds_256_parts_and_no_more),
        cmocka_unit_test(test_batch__boundary_as_clients_write_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
