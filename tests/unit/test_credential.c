/* Goal: our signatures equal those of five real clients, captured on the wire; secrets follow their
 * file. */
#include "tests/unit/unit.h"
#include <jansson.h>

#include "base/text.h"
#include "upstream/credential.h"

#define VECTORS "tests/support/test-vectors.json"

static json_t *vectors;

static int setup(void **state)
{
    json_error_t why;

    vectors = json_load_file(VECTORS, 0, &why);
    if (!vectors)
        fprintf(stderr, "%s: %s\n", VECTORS, why.text);
    return vectors ? 0 : -1;
}

static int teardown(void **state)
{
    json_decref(vectors);
    return 0;
}

static void add_query(struct arena *arena, struct signable *what, struct span query)
{
    struct pair *pairs = arena_zalloc(arena, 16 * sizeof(*pairs));

    what->query = pairs;
    while (query.len) {
        struct span value, part = span_cut(query, '&', &query), name = span_cut(part, '=', &value);
        char *text = arena_alloc(arena, value.len + 1);
        size_t n = 0;

        assert_true(what->query_count < 16);
        assert_int_equal(percent_decode(value, text, &n), 0);
        pairs[what->query_count++] = (struct pair){name, span_from(text, n)};
    }
}

static struct span add_headers(struct arena *arena, struct signable *what, json_t *headers)
{
    struct pair *pairs = arena_zalloc(arena, (json_array_size(headers) + 1) * sizeof(*pairs));
    struct span authorization = {NULL, 0};
    json_t *row;
    size_t i;

    what->headers = pairs;
    json_array_foreach(headers, i, row)
    {
        struct span name = span_of(json_string_value(json_array_get(row, 0)));
        struct span value = span_of(json_string_value(json_array_get(row, 1)));

        if (span_eq_nocase(name, SPAN("authorization")))
            authorization = value;
        else if (span_eq_nocase(name, SPAN("content-length")))
            assert_int_equal(span_to_u64(value, &what->body_bytes), 0);
        else
            pairs[what->header_count++] = (struct pair){name, value};
    }
    return authorization;
}

static void test_credential__signs_as_five_clients_do(void **state)
{
    json_t *list = json_object_get(vectors, "sharedKey"), *row;
    struct span key_text = span_of(json_string_value(json_object_get(vectors, "key")));
    char key[128];
    size_t i, key_len = 0;

    assert_int_equal(base64_decode(key_text, key, &key_len), 0);
    assert_true(json_array_size(list) > 40);
    json_array_foreach(list, i, row)
    {
        struct arena *arena = arena_new();
        struct span query, target = span_of(json_string_value(json_object_get(row, "target"))),
                           want, got;
        struct signable what = {0};

        what.method = span_of(json_string_value(json_object_get(row, "method")));
        what.path = span_cut(target, '?', &query);
        add_query(arena, &what, query);
        want = add_headers(arena, &what, json_object_get(row, "headers"));
        got = shared_key_sign(arena, SPAN("devstoreaccount1"), span_from(key, key_len), &what);
        if (!span_eq(got, want))
            fail_msg("vector %zu: %.*s %.*s", i, SPAN_FMT(what.method), SPAN_FMT(target));
        arena_free(arena);
    }
}

/* Same headers in both orders must sign alike, whatever order they were added in; a_b stands before
 * ab, and a hyphen counts last. */
static void test_credential__sorts_names_as_the_service_does(void **state)
{
    const struct pair a[] = {{SPAN("x-ms-meta-ab"), SPAN("1")},
                             {SPAN("x-ms-meta-a_b"), SPAN("2")},
                             {SPAN("x-ms-meta-a1"), SPAN("3")},
                             {SPAN("x-ms-metab"), SPAN("4")}};
    const struct pair b[] = {a[1], a[2], a[0], a[3]};
    struct arena *arena = arena_new();
    struct signable x = {
        .method = SPAN("PUT"), .path = SPAN("/c/b"), .headers = a, .header_count = 4};
    struct signable y = x;

    y.headers = b;
    assert_true(span_eq(shared_key_sign(arena, SPAN("acct"), SPAN("key"), &x),
                        shared_key_sign(arena, SPAN("acct"), SPAN("key"), &y)));
    arena_free(arena);
}

/* Parameters are signed by lower-case names, and in the order of these: List Blobs has startFrom.
 */
static void test_credential__signs_parameters_in_lower_case(void **state)
{
    const struct pair sent[] = {{SPAN("restype"), SPAN("container")},
                                {SPAN("startFrom"), SPAN("Dir/A")},
                                {SPAN("Comp"), SPAN("list")}};
    const struct pair meant[] = {{SPAN("comp"), SPAN("list")},
                                 {SPAN("restype"), SPAN("container")},
                                 {SPAN("startfrom"), SPAN("Dir/A")}};
    struct arena *arena = arena_new();
    struct signable x = {
        .method = SPAN("GET"), .path = SPAN("/c"), .query = sent, .query_count = 3};
    struct signable y = x;

    y.query = meant;
    assert_true(span_eq(shared_key_sign(arena, SPAN("acct"), SPAN("key"), &x),
                        shared_key_sign(arena, SPAN("acct"), SPAN("key"), &y)));
    arena_free(arena);
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void test_credential__reads_its_file_again_when_it_changed(void **state)
{
    char path[] = "/tmp/hearth-sas-XXXXXX";
    int fd = mkstemp(path);
    struct account account = {.name = SPAN("acct")};
    struct credential *credential;

    assert_true(fd >= 0);
    close(fd);
    write_file(path, "?sv=1&sig=one\n");
    account.upstream.auth = UPSTREAM_SAS;
    account.upstream.sas = SPAN("sv=1&sig=one");
    account.upstream.secret_file = span_of(path);
    credential = credential_new(&account);
    assert_false(credential_refresh(credential)); /* same text */
    assert_true(span_eq(credential_sas(credential), SPAN("sv=1&sig=one")));
    write_file(path, "  sv=1&sig=another \n");
    assert_true(credential_refresh(credential));
    assert_true(span_eq(credential_sas(credential), SPAN("sv=1&sig=another")));
    assert_false(credential_refresh(credential));
    write_file(path, "");
    assert_false(credential_refresh(credential)); /* caught half-written: keeps what it has */
    unlink(path);
    assert_false(credential_refresh(credential));
    assert_true(span_eq(credential_sas(credential), SPAN("sv=1&sig=another")));
    credential_free(credential);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_credential__signs_as_five_clients_do),
        cmocka_unit_test(test_credential__sorts_names_as_the_service_does),
        cmocka_unit_test(test_credential__signs_parameters_in_lower_case),
        cmocka_unit_test(test_credential__reads_its_file_again_when_it_changed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
