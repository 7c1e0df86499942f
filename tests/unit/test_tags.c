/* Goal: tags are read as clients write them and refused where the service refuses them; an
 * x-ms-if-tags holds exactly where its grammar says so. Method: pure calls on texts. */
#include "tests/unit/unit.h"

#include "blobapi/tags.h"
#include "blobapi/tag_expression.h"

static struct arena *arena;

static int setup(void **state)
{
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    arena = arena_free(arena);
    return 0;
}

static int judge(const char *text, const char *header) /* -EINVAL: not parsed */
{
    const struct tag_expression *e;
    struct span tags;

    assert_int_equal(tags_parse(span_of(header), arena, &tags), AZ_OK);
    if (tag_expression_parse(span_of(text), arena, &e) < 0)
        return -1;
    return tag_expression_judge(e, tags);
}

static void test_tags__header_is_kept_in_order_of_keys(void **state)
{
    static const char want[] = "a b\0c+\0z\0";
    struct span tags, value;

    assert_int_equal(tags_parse(SPAN("z=&a+b=c%2B"), arena, &tags), AZ_OK);
    assert_true(span_eq(tags, span_from(want, sizeof(want))));
    assert_int_equal(tags_count(tags), 2);
    assert_true(tags_find(tags, SPAN("z"), &value));
    assert_int_equal(value.len, 0);
    assert_false(tags_find(tags, SPAN("c+"), &value)); /* a value is no key */
}

static void test_tags__limits(void **state)
{
    char key[130 + 2];
    struct span tags;

    memset(key, 'k', sizeof(key));
    key[128] = '=';
    assert_int_equal(tags_parse(span_from(key, 129), arena, &tags), AZ_OK);
    key[128] = 'k', key[129] = '=';
    assert_int_equal(tags_parse(span_from(key, 130), arena, &tags), AZ_TAGS_TOO_LARGE);
    assert_int_equal(tags_parse(SPAN("a=&b=&c=&d=&e=&f=&g=&h=&i=&j="), arena, &tags), AZ_OK);
    assert_int_equal(tags_parse(SPAN("a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&k="), arena, &tags),
                     AZ_TAGS_TOO_LARGE);
    assert_int_equal(tags_parse(SPAN("a=1&a=2"), arena, &tags), AZ_DUPLICATE_TAG_NAMES);
    assert_int_equal(tags_parse(SPAN("=1"), arena, &tags), AZ_EMPTY_TAG_NAME);
    assert_int_equal(tags_parse(SPAN("a"), arena, &tags), AZ_INVALID_TAGS);
    assert_int_equal(tags_parse(SPAN("a=%00"), arena, &tags), AZ_INVALID_TAGS);
    assert_int_equal(tags_parse(SPAN("a=!"), arena, &tags), AZ_INVALID_TAGS);
}

static void test_tags__expressions(void **state)
{
    static const struct {
        const char *text;
        int want;
    } cases[] = {
        {"a = '1'", 1},
        {"\"a\"='1'", 1},
        {"a <> '1'", 0},
        {"none <> '1'", 1},
        {"none >= ''", 0},
        {"a < '2' and a <= '1' AND a > '0' AND a >= '1'", 1},
        {"a = '2' AND b = '2' OR a = '1'", 1}, /* AND binds closer */
        {"a = '1' OR a = '2' AND b = 'x'", 1},
        {"(a = '1' OR a = '2') AND b = 'x'", 0},
        {"\"with space\" = 'v w'", 1},
        {"", -1},
        {"a", -1},
        {"a = 1", -1},
        {"a = '1", -1},
        {"1a = '1'", -1},
        {"a = '1' AND", -1},
        {"(a = '1'", -1},
        {"a = '1')", -1},
        {"a = '1' b = '2'", -1},
        {"@container = 'c'", -1},
        {"((((((((((((((((a = '1'))))))))))))))))", 1},
        {"(((((((((((((((((a = '1')))))))))))))))))", -1},
    };

    for (unsigned i = 0; i < countof(cases); i++)
        if (judge(cases[i].text, "a=1&b=2&with+space=v+w") != cases[i].want)
            fail_msg("%s", cases[i].text);
}

static void test_tags__filters(void **state)
{
    static const struct {
        const char *text;
        int want;
        const char *container;
    } cases[] = {
        {"a = '1'", 1, ""},
        {"\"a\" >= '0' and b < '3' AND a <= '1'", 1, ""},
        {"a > '1'", 0, ""},
        {"none >= ''", 0, ""},
        {"@container = 'ctr' AND a = '1'", 1, "ctr"},
        {"a = '1' AND @container='ctr'", 1, "ctr"},
        {"@container = 'ctr'", 1, "ctr"},
        {"", -1, ""},
        {"a <> '1'", -1, ""},
        {"a = '1' OR b = '2'", -1, ""},
        {"(a = '1')", -1, ""},
        {"@container > 'c'", -1, ""},
        {"@container = ''", -1, ""},
        {"@container = 'a' AND @container = 'b'", -1, ""},
        {"@other = 'a'", -1, ""},
        {"a = '1' AND", -1, ""},
        {"a = '1' b = '2'", -1, ""},
    };
    struct span tags, container;

    assert_int_equal(tags_parse(SPAN("a=1&b=2"), arena, &tags), AZ_OK);
    for (unsigned i = 0; i < countof(cases); i++) {
        const struct tag_expression *e;
        int got = tag_filter_parse(span_of(cases[i].text), arena, &e, &container);

        if (!got)
            got = !e || tag_expression_judge(e, tags);
        else
            got = -1;
        if (got != cases[i].want || (got >= 0 && !span_eq(container, span_of(cases[i].container))))
            fail_msg("%s", cases[i].text);
    }
}

static enum az_error read_xml(const char *text, size_t cut, struct span *ret)
{
    struct tags_reader *reader = tags_reader_open(arena);
    enum az_error error;

    tags_reader_feed(reader, span_from(text, cut));
    tags_reader_feed(reader, span_of(text + cut));
    error = tags_reader_finish(reader, ret);
    tags_reader_close(reader);
    return error;
}

static void test_tags__bodies(void **state)
{
#define BODY(x)   "<Tags><TagSet>" x "</TagSet></Tags>"
#define TAG(k, v) "<Tag><Key>" k "</Key><Value>" v "</Value></Tag>"
    static const char two[] = BODY(TAG("b", "") "\n" TAG("a", "1"));
    struct span tags = {NULL, 0}, value;

    for (size_t cut = 0; cut < sizeof(two); cut++) {
        assert_int_equal(read_xml(two, cut, &tags), AZ_OK);
        assert_int_equal(tags_count(tags), 2);
        assert_true(tags_find(tags, SPAN("a"), &value) && span_eq(value, SPAN("1")));
    }
    assert_int_equal(read_xml("<Tags><TagSet /></Tags>", 0, &tags), AZ_OK);
    assert_int_equal(tags.len, 0);
    assert_int_equal(read_xml("<Tags></Tags>", 0, &tags), AZ_INVALID_XML_DOCUMENT);
    assert_int_equal(read_xml("", 0, &tags), AZ_INVALID_XML_DOCUMENT);
    assert_int_equal(read_xml(BODY("<Tag><Key>a</Key></Tag>"), 0, &tags), AZ_INVALID_XML_DOCUMENT);
    assert_int_equal(read_xml(BODY(TAG("a", "1") TAG("a", "2")), 0, &tags), AZ_DUPLICATE_TAG_NAMES);
    assert_int_equal(read_xml(BODY(TAG("", "1")), 0, &tags), AZ_EMPTY_TAG_NAME);
}

int main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(test_tags__header_is_kept_in_order_of_keys),
        T(test_tags__limits),
        T(test_tags__expressions),
        T(test_tags__filters),
        T(test_tags__bodies),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
