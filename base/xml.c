/* base/xml.c - expat behind xml.h; the only file that includes it.
 *
 * Each open element has a frame {name, text so far}; text and name buffers of a frame are reused by
 * the next element at that depth, so that a listing of 5 000 rows allocates a few dozen times. */
#include "base/xml.h"

#include <expat.h>

struct text {
    char *base;
    size_t len, room;
};

struct frame {
    struct text name, text;
};

struct xml {
    const struct xml_ops *ops;
    void *arg;
    XML_Parser parser;
    struct frame frames[XML_DEPTH_MAX];
    unsigned open; /* frames in use */
    int err;
};

static void text_append(struct text *text, const char *base, size_t len)
{
    if (text->len + len > text->room) {
        text->room = MAX(text->len + len, MAX(64, text->room * 2));
        text->base = xrealloc(text->base, text->room);
    }
    if (len)
        memcpy(text->base + text->len, base, len);
    text->len += len;
}

static void xml_fail(struct xml *xml, int err)
{
    if (!xml->err)
        xml->err = err;
    XML_StopParser(xml->parser, XML_FALSE);
}

/* Line breaks and indentation between children say nothing; of 50 000 they would not fit. */
static void drop_indentation(struct text *text)
{
    for (size_t i = 0; i < text->len; i++)
        if (!memchr(" \t\r\n", text->base[i], 4))
            return;
    text->len = 0;
}

static void on_start(void *arg, const XML_Char *name, const XML_Char **attributes)
{
    struct xml *xml = arg;
    struct frame *frame = &xml->frames[xml->open];
    int err = 0;

    if (xml->err)
        return;
    if (xml->open == XML_DEPTH_MAX) {
        xml_fail(xml, -EBADMSG);
        return;
    }
    if (xml->open)
        drop_indentation(&frame[-1].text);
    frame->name.len = frame->text.len = 0;
    text_append(&frame->name, name, strlen(name));
    xml->open++;
    if (xml->ops->start)
        err = xml->ops->start(xml->arg, xml, span_of(name), (const char *const *)attributes);
    if (err)
        xml_fail(xml, err);
}

static void on_end(void *arg, const XML_Char *name)
{
    struct xml *xml = arg;
    struct frame *frame = &xml->frames[xml->open - 1];
    int err = 0;

    if (xml->err)
        return;
    if (xml->ops->end)
        err = xml->ops->end(xml->arg, xml, span_of(name),
                            span_from(frame->text.base, frame->text.len));
    xml->open--;
    if (err)
        xml_fail(xml, err);
}

static void on_text(void *arg, const XML_Char *base, int len)
{
    struct xml *xml = arg;
    struct text *text;

    if (xml->err || !xml->open)
        return;
    text = &xml->frames[xml->open - 1].text;
    if (text->len + (size_t)len > XML_TEXT_BYTES_MAX)
        xml_fail(xml, -EBADMSG);
    else
        text_append(text, base, (size_t)len);
}

static void on_doctype(void *arg, const XML_Char *name, const XML_Char *system,
                       const XML_Char *public, int internal)
{
    xml_fail(arg, -EBADMSG);
}

static int xml_parse(struct xml *xml, struct span bytes, bool last)
{
    while (!xml->err) {
        int n = (int)MIN(bytes.len, (size_t)1 << 30);
        bool end = last && (size_t)n == bytes.len;

        if (XML_Parse(xml->parser, bytes.base, n, end) != XML_STATUS_OK && !xml->err)
            xml->err = -EBADMSG;
        bytes = span_skip(bytes, (size_t)n);
        if (!bytes.len)
            break;
    }
    return xml->err;
}

struct xml *xml_new(const struct xml_ops *ops, void *arg)
{
    struct xml *xml = xcalloc(1, sizeof(*xml));

    xml->ops = ops;
    xml->arg = arg;
    xml->parser = XML_ParserCreate(NULL);
    if (!xml->parser)
        abort();
    XML_SetUserData(xml->parser, xml);
    XML_SetElementHandler(xml->parser, on_start, on_end);
    XML_SetCharacterDataHandler(xml->parser, on_text);
    XML_SetStartDoctypeDeclHandler(xml->parser, on_doctype);
    return xml;
}

struct xml *xml_free(struct xml *xml)
{
    if (!xml)
        return NULL;
    XML_ParserFree(xml->parser);
    for (unsigned i = 0; i < XML_DEPTH_MAX; i++) {
        free(xml->frames[i].name.base);
        free(xml->frames[i].text.base);
    }
    free(xml);
    return NULL;
}

int xml_feed(struct xml *xml, struct span bytes)
{
    return bytes.len ? xml_parse(xml, bytes, false) : xml->err;
}

int xml_end(struct xml *xml)
{
    return xml_parse(xml, (struct span){"", 0}, true);
}

unsigned xml_depth(const struct xml *xml)
{
    return xml->open - 1;
}

struct span xml_above(const struct xml *xml, unsigned up)
{
    const struct text *name;

    if (up + 1 > xml->open)
        return (struct span){NULL, 0};
    name = &xml->frames[xml->open - 1 - up].name;
    return span_from(name->base, name->len);
}
