#include "blobapi/tags.h"

#include "base/text.h"
#include "base/xml.h"
#include "blobapi/request.h"

/* ---- one tag ---- */

static bool tag_bytes_fit(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.base[i];
        bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');

        if (!alnum && (!c || !strchr(" +-./:=_", c)))
            return false;
    }
    return true;
}

bool tag_key_fits(struct span key)
{
    return key.len && key.len <= TAG_KEY_BYTES_MAX && tag_bytes_fit(key);
}

bool tag_value_fits(struct span value)
{
    return value.len <= TAG_VALUE_BYTES_MAX && tag_bytes_fit(value);
}

/* ---- as stored ---- */

bool tags_find(struct span tags, struct span key, struct span *ret_value)
{
    struct pair tag;

    while (tags_next(&tags, &tag))
        if (span_eq(tag.name, key)) {
            *ret_value = tag.value;
            return true;
        }
    return false;
}

void tag_emit(struct emit *e, struct pair tag)
{
    EMIT(e, "<Tag><Key>");
    emit_xml(e, tag.name);
    EMIT(e, "</Key><Value>");
    emit_xml(e, tag.value);
    EMIT(e, "</Value></Tag>");
}

void tags_emit(struct emit *e, struct span tags)
{
    struct pair tag;

    EMIT(e, "<Tags><TagSet>");
    while (tags_next(&tags, &tag))
        tag_emit(e, tag);
    EMIT(e, "</TagSet></Tags>");
}

/* ---- a set being made ---- */

struct tag_set {
    struct pair at[TAGS_MAX]; /* in order of keys */
    unsigned count;
};

static enum az_error set_add(struct tag_set *set, struct pair tag)
{
    unsigned i = set->count;

    if (!tag.name.len)
        return AZ_EMPTY_TAG_NAME;
    if (tag.name.len > TAG_KEY_BYTES_MAX || tag.value.len > TAG_VALUE_BYTES_MAX)
        return AZ_TAGS_TOO_LARGE;
    if (!tag_key_fits(tag.name) || !tag_value_fits(tag.value))
        return AZ_INVALID_TAGS;
    for (unsigned j = 0; j < set->count; j++)
        if (span_eq(set->at[j].name, tag.name))
            return AZ_DUPLICATE_TAG_NAMES;
    if (set->count == TAGS_MAX)
        return AZ_TAGS_TOO_LARGE;
    for (; i && span_cmp(set->at[i - 1].name, tag.name) > 0; i--)
        set->at[i] = set->at[i - 1];
    set->at[i] = tag;
    set->count++;
    return AZ_OK;
}

static struct span set_stored(const struct tag_set *set, struct arena *arena)
{
    size_t bytes = 0;
    char *base, *at;

    for (unsigned i = 0; i < set->count; i++)
        bytes += set->at[i].name.len + set->at[i].value.len + 2;
    if (!bytes)
        return (struct span){NULL, 0};
    base = at = arena_zalloc(arena, bytes);
    for (unsigned i = 0; i < set->count; i++) {
        struct pair tag = set->at[i];

        memcpy(at, tag.name.base, tag.name.len);
        at += tag.name.len + 1;
        if (tag.value.len)
            memcpy(at, tag.value.base, tag.value.len);
        at += tag.value.len + 1;
    }
    return span_from(base, bytes);
}

/* ---- the header ---- */

static int form_decode(struct span text, struct arena *arena, struct span *ret)
{
    char *spaced = arena_alloc(arena, text.len + 1), *to = arena_alloc(arena, text.len + 1);
    size_t len;

    for (size_t i = 0; i < text.len; i++)
        spaced[i] = text.base[i] == '+' ? ' ' : text.base[i]; /* as .NET writes a space */
    if (percent_decode(span_from(spaced, text.len), to, &len) < 0)
        return -EINVAL;
    *ret = span_from(to, len);
    return 0;
}

enum az_error tags_parse(struct span text, struct arena *arena, struct span *ret)
{
    struct tag_set set = {.count = 0};
    enum az_error error;

    while (text.len) {
        struct span value, part = span_cut(text, '&', &text), key = span_cut(part, '=', &value);
        struct pair tag;

        if (key.len == part.len) /* no "=" */
            return AZ_INVALID_TAGS;
        if (form_decode(key, arena, &tag.name) < 0 || form_decode(value, arena, &tag.value) < 0)
            return AZ_INVALID_TAGS;
        error = set_add(&set, tag);
        if (error)
            return error;
    }
    *ret = set_stored(&set, arena);
    return AZ_OK;
}

enum az_error tags_header(struct request *r, struct span *ret, struct span *culprit)
{
    *culprit = SPAN("x-ms-tags");
    return tags_parse(exchange_header(r->http, *culprit), r->http->arena, ret);
}

/* ---- the body ---- */

struct tags_reader {
    struct xml *xml;
    struct arena *arena;
    struct tag_set set;
    struct pair tag; /* being read; base NULL: not come yet */
    bool has_set;
    enum az_error error;
    int err;
};

static int tags_opens(void *arg, struct xml *xml, struct span name, const char *const *attributes)
{
    static const char *const path[] = {"Tags", "TagSet", "Tag"};
    struct tags_reader *t = arg;
    unsigned depth = xml_depth(xml);

    (void)attributes;
    if (depth < countof(path)) {
        if (depth == 1)
            t->has_set = true;
        if (depth == 2)
            t->tag = (struct pair){0};
        return span_eq(name, span_of(path[depth])) ? 0 : -EBADMSG;
    }
    if (depth > countof(path))
        return -EBADMSG;
    return (span_eq(name, SPAN("Key")) && !t->tag.name.base) ||
                   (span_eq(name, SPAN("Value")) && !t->tag.value.base)
               ? 0
               : -EBADMSG;
}

static int tags_ends(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct tags_reader *t = arg;
    bool key = span_eq(name, SPAN("Key"));

    if (xml_depth(xml) == 3) {
        *(key ? &t->tag.name : &t->tag.value) = text.len ? arena_copy(t->arena, text) : SPAN("");
        return 0;
    }
    if (xml_depth(xml) != 2)
        return 0;
    if (!t->tag.name.base || !t->tag.value.base)
        return -EBADMSG;
    t->error = set_add(&t->set, t->tag);
    return t->error ? -EINVAL : 0;
}

struct tags_reader *tags_reader_open(struct arena *arena)
{
    static const struct xml_ops ops = {tags_opens, tags_ends};
    struct tags_reader *t = xcalloc(1, sizeof(*t));

    t->arena = arena;
    t->xml = xml_new(&ops, t);
    return t;
}

void tags_reader_feed(struct tags_reader *t, struct span text)
{
    if (!t->err)
        t->err = xml_feed(t->xml, text);
}

enum az_error tags_reader_finish(struct tags_reader *t, struct span *ret)
{
    if (!t->err)
        t->err = xml_end(t->xml);
    if (t->error)
        return t->error;
    if (t->err || !t->has_set)
        return AZ_INVALID_XML_DOCUMENT;
    *ret = set_stored(&t->set, t->arena);
    return AZ_OK;
}

struct tags_reader *tags_reader_close(struct tags_reader *t)
{
    if (!t)
        return NULL;
    t->xml = xml_free(t->xml);
    free(t);
    return NULL;
}
