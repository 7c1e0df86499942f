/* Goal: elements and text come out whole however the document is cut, and limits hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/xml.h"

struct trace {
    char text[512];
    size_t used;
    int stop_at_name;
};

static int on_end(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct trace *t = arg;

    t->used += (size_t)snprintf(t->text + t->used, sizeof(t->text) - t->used, "%u%.*s/%.*s=%.*s;",
                                xml_depth(xml), SPAN_FMT(xml_above(xml, 1)), SPAN_FMT(name),
                                SPAN_FMT(text));
    return span_eq(name, SPAN("stop")) ? -ECANCELED : 0;
}

static const struct xml_ops ops = {.end = on_end};

static int run(struct trace *t, struct span document, size_t step)
{
    struct xml *xml = xml_new(&ops, t);
    int err = 0;

    *t = (struct trace){0};
    for (size_t i = 0; !err && i < document.len; i += step)
        err = xml_feed(xml, span_from(document.base + i, MIN(step, document.len - i)));
    if (!err)
        err = xml_end(xml);
    xml_free(xml);
    return err;
}

static void test_xml__same_elements_however_cut(void **state)
{
    struct span document = SPAN("<?xml version=\"1.0\"?><a><b>x&amp;&#xE9;y</b><c><d/></c>t</a>");
    struct trace t;

    for (size_t step = 1; step <= document.len; step++) {
        assert_int_equal(run(&t, document, step), 0);
        assert_string_equal(t.text, "1a/b=x&\xc3\xa9y;2c/d=;1a/c=;0/a=t;");
    }
}

static void test_xml__bad_documents_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&nope;</a>",
        "not xml",
        "<a>\x01</a>",
        "<!DOCTYPE a [<!ENTITY e \"xxxxxxxxxx\">]><a>&e;</a>",
    };
    struct trace t;

    for (size_t i = 0; i < countof(bad); i++)
        assert_int_equal(run(&t, span_of(bad[i]), 4), -EBADMSG);
}

static void test_xml__limits_hold(void **state)
{
    char deep[XML_DEPTH_MAX * 8 + 64] = "";
    char *big = xmalloc(XML_TEXT_BYTES_MAX + 64);
    struct trace t;
    size_t n = 0;

    for (int i = 0; i <= XML_DEPTH_MAX; i++)
        n += (size_t)snprintf(deep + n, sizeof(deep) - n, "<e>");
    for (int i = 0; i <= XML_DEPTH_MAX; i++)
        n += (size_t)snprintf(deep + n, sizeof(deep) - n, "</e>");
    assert_int_equal(run(&t, span_of(deep), n), -EBADMSG);
    memset(big, 'x', XML_TEXT_BYTES_MAX + 64);
    memcpy(big, "<a>", 3);
    memcpy(big + XML_TEXT_BYTES_MAX + 60, "</a>", 4);
    assert_int_equal(run(&t, span_from(big, XML_TEXT_BYTES_MAX + 64), 4096), -EBADMSG);
    free(big);
}

static void test_xml__a_callback_ends_the_parse(void **state)
{
    struct trace t;

    assert_int_equal(run(&t, SPAN("<a><stop/><b/></a>"), 3), -ECANCELED);
    assert_string_equal(t.text, "1a/stop=;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xml__same_elements_however_cut),
        cmocka_unit_test(test_xml__bad_documents_are_refused),
        cmocka_unit_test(test_xml__limits_hold),
        cmocka_unit_test(test_xml__a_callback_ends_the_parse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
