/* Goal: the body of Put Block List is read as clients write it and refused where it is not one.
 * Method: documents in one piece and cut at every byte. */
#include "tests/unit/unit.h"

#include "base/text.h"
#include "blobapi/block_list.h"

struct parsed {
    struct arena *arena;
    const struct block_ref *at;
    size_t n;
    int err;
};

static struct parsed parse_cut(struct span text, size_t cut)
{
    struct parsed p = {.arena = arena_new()};
    struct block_list *list = block_list_open(p.arena);

    p.err = block_list_feed(list, span_from(text.base, cut));
    if (!p.err)
        p.err = block_list_feed(list, span_skip(text, cut));
    if (!p.err)
        p.err = block_list_finish(list, &p.at, &p.n);
    block_list_close(list);
    return p;
}

static int parse_err(const char *text)
{
    struct parsed p = parse_cut(span_of(text), 0);

    arena_free(p.arena);
    return p.err;
}

static void test_block_list__entries_come_in_order(void **state)
{
    static const char text[] =
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<BlockList>\n <Latest>QUFB</Latest>"
        "<Committed> QkI= </Committed>\n<Uncommitted>Qw==</Uncommitted></BlockList>\n";

    for (size_t cut = 0; cut < sizeof(text); cut++) {
        struct parsed p = parse_cut(span_of(text), MIN(cut, sizeof(text) - 1));

        assert_int_equal(p.err, 0);
        assert_int_equal(p.n, 3);
        assert_int_equal(p.at[0].source, BLOCK_LATEST);
        assert_true(span_eq(p.at[0].id, SPAN("AAA")));
        assert_int_equal(p.at[1].source, BLOCK_COMMITTED);
        assert_true(span_eq(p.at[1].id, SPAN("BB")));
        assert_int_equal(p.at[2].source, BLOCK_UNCOMMITTED);
        assert_true(span_eq(p.at[2].id, SPAN("C")));
        arena_free(p.arena);
    }
}

static void test_block_list__may_be_empty(void **state)
{
    assert_int_equal(parse_err("<BlockList></BlockList>"), 0);
    assert_int_equal(parse_err("<BlockList/>"), 0);
    assert_int_equal(parse_err("<?xml version='1.0'?><BlockList />"), 0);
}

static void test_block_list__refuses_what_is_no_list(void **state)
{
    assert_int_equal(parse_err(""), -EBADMSG);
    assert_int_equal(parse_err("x"), -EBADMSG);
    assert_int_equal(parse_err("<BlockList>"), -EBADMSG);
    assert_int_equal(parse_err("<Blocks></Blocks>"), -EBADMSG);
    assert_int_equal(parse_err("<BlockList><Block>QUFB</Block></BlockList>"), -EBADMSG);
    assert_int_equal(parse_err("<BlockList><Latest><b>QUFB</b></Latest></BlockList>"), -EBADMSG);
    assert_int_equal(parse_err("<BlockList>text</BlockList>"), -EBADMSG);
    assert_int_equal(parse_err("<!DOCTYPE BlockList [<!ENTITY a \"b\">]><BlockList/>"), -EBADMSG);
    assert_int_equal(parse_err("<BlockList/><BlockList/>"), -EBADMSG);
}

static void test_block_list__refuses_ids_no_block_can_have(void **state)
{
    char id[65] = {0}, text[256], base64[128];
    size_t len = base64_encode(span_from(id, 65), base64);

    assert_int_equal(parse_err("<BlockList><Latest></Latest></BlockList>"), -EINVAL);
    assert_int_equal(parse_err("<BlockList><Latest>QUF</Latest></BlockList>"), -EINVAL);
    assert_int_equal(parse_err("<BlockList><Latest>Q!==</Latest></BlockList>"), -EINVAL);
    snprintf(text, sizeof(text), "<BlockList><Latest>%.*s</Latest></BlockList>", (int)len, base64);
    assert_int_equal(parse_err(text), -EINVAL);
    len = base64_encode(span_from(id, 64), base64);
    snprintf(text, sizeof(text), "<BlockList><Latest>%.*s</Latest></BlockList>", (int)len, base64);
    assert_int_equal(parse_err(text), 0);
}

static int parse_many(unsigned n, const char *entry)
{
    struct arena *arena = arena_new();
    struct block_list *list = block_list_open(arena);
    const struct block_ref *at;
    size_t got = 0;
    int err = block_list_feed(list, SPAN("<BlockList>"));

    for (unsigned i = 0; !err && i < n; i++)
        err = block_list_feed(list, span_of(entry));
    if (!err)
        err = block_list_feed(list, SPAN("</BlockList>"));
    if (!err)
        err = block_list_finish(list, &at, &got);
    assert_true(err || got == n);
    block_list_close(list);
    arena_free(arena);
    return err;
}

static void test_block_list__holds_50000_and_no_more(void **state)
{
    assert_int_equal(parse_many(BLOCKS_COMMITTED_MAX, "<Latest>QUFB</Latest>"), 0);
    assert_int_equal(parse_many(BLOCKS_COMMITTED_MAX, "\r\n    <Latest>QUFB</Latest>"), 0);
    assert_int_equal(parse_many(BLOCKS_COMMITTED_MAX + 1, "<Latest>QUFB</Latest>"), -E2BIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block_list__entries_come_in_order),
        cmocka_unit_test(test_block_list__may_be_empty),
        cmocka_unit_test(test_block_list__refuses_what_is_no_list),
        cmocka_unit_test(test_block_list__refuses_ids_no_block_can_have),
        cmocka_unit_test(test_block_list__holds_50000_and_no_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
