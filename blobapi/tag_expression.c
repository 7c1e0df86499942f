/* blobapi/tag_expression.c - recursive descent; a node holds its parts as a list, so that only
 * parentheses make it deep. */
#include "blobapi/tag_expression.h"

#include <errno.h>

#include "blobapi/tags.h"

enum tag_node { NODE_ANY, NODE_ALL, NODE_COMPARE };
enum tag_compare { COMPARE_EQ, COMPARE_NE, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE };

struct tag_expression {
    enum tag_node node;
    struct tag_expression *first, *next; /* parts; next part of the parent */
    enum tag_compare compare;
    struct span key, value;
};

struct parse {
    struct span rest;
    struct arena *arena;
    unsigned depth;
};

static int parse_any(struct parse *p, struct tag_expression **ret);

static bool word_byte(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static void skip_spaces(struct parse *p)
{
    while (p->rest.len && memchr(" \t", p->rest.base[0], 2))
        p->rest = span_skip(p->rest, 1);
}

static struct span word(struct parse *p)
{
    size_t n = 0;
    struct span text;

    skip_spaces(p);
    while (n < p->rest.len && word_byte(p->rest.base[n], n == 0))
        n++;
    text = span_from(p->rest.base, n);
    p->rest = span_skip(p->rest, n);
    return text;
}

static bool keyword(struct parse *p, struct span want)
{
    struct span before = p->rest;

    if (span_eq_nocase(word(p), want))
        return true;
    p->rest = before;
    return false;
}

static bool mark(struct parse *p, struct span want)
{
    skip_spaces(p);
    if (!span_starts(p->rest, want))
        return false;
    p->rest = span_skip(p->rest, want.len);
    return true;
}

static int quoted(struct parse *p, char quote, struct span *ret)
{
    const char *end;

    skip_spaces(p);
    if (!p->rest.len || p->rest.base[0] != quote)
        return -EINVAL;
    p->rest = span_skip(p->rest, 1);
    end = p->rest.len ? memchr(p->rest.base, quote, p->rest.len) : NULL;
    if (!end)
        return -EINVAL;
    *ret = span_from(p->rest.base, (size_t)(end - p->rest.base));
    p->rest = span_skip(p->rest, ret->len + 1);
    return 0;
}

static int compare_sign(struct parse *p, enum tag_compare *ret)
{
    static const struct {
        struct span text;
        enum tag_compare compare;
    } signs[] = {/* longer ones first */
                 {SPAN("<>"), COMPARE_NE}, {SPAN("<="), COMPARE_LE}, {SPAN(">="), COMPARE_GE},
                 {SPAN("<"), COMPARE_LT},  {SPAN(">"), COMPARE_GT},  {SPAN("="), COMPARE_EQ}};

    for (unsigned i = 0; i < countof(signs); i++)
        if (mark(p, signs[i].text)) {
            *ret = signs[i].compare;
            return 0;
        }
    return -EINVAL;
}

static int compare_key(struct parse *p, struct tag_expression *e)
{
    skip_spaces(p);
    if (p->rest.len && p->rest.base[0] == '"')
        return quoted(p, '"', &e->key) < 0 || !tag_key_fits(e->key) ? -EINVAL : 0;
    e->key = word(p);
    return tag_key_fits(e->key) ? 0 : -EINVAL;
}

static int parse_compare(struct parse *p, struct tag_expression **ret)
{
    struct tag_expression *e = *ret = arena_zalloc(p->arena, sizeof(*e));

    e->node = NODE_COMPARE;
    if (compare_key(p, e) < 0 || compare_sign(p, &e->compare) < 0 || quoted(p, '\'', &e->value) < 0)
        return -EINVAL;
    return tag_value_fits(e->value) ? 0 : -EINVAL;
}

static int parse_one(struct parse *p, struct tag_expression **ret)
{
    int err;

    if (!mark(p, SPAN("(")))
        return parse_compare(p, ret);
    if (p->depth++ == TAG_EXPRESSION_DEPTH_MAX)
        return -EINVAL;
    err = parse_any(p, ret);
    p->depth--;
    return err || !mark(p, SPAN(")")) ? -EINVAL : 0;
}

static int parse_all(struct parse *p, struct tag_expression **ret)
{
    struct tag_expression *e = *ret = arena_zalloc(p->arena, sizeof(*e)), **at = &e->first;

    e->node = NODE_ALL;
    do {
        if (parse_one(p, at) < 0)
            return -EINVAL;
        at = &(*at)->next;
    } while (keyword(p, SPAN("AND")));
    return 0;
}

static int parse_any(struct parse *p, struct tag_expression **ret)
{
    struct tag_expression *e = *ret = arena_zalloc(p->arena, sizeof(*e)), **at = &e->first;

    e->node = NODE_ANY;
    do {
        if (parse_all(p, at) < 0)
            return -EINVAL;
        at = &(*at)->next;
    } while (keyword(p, SPAN("OR")));
    return 0;
}

int tag_expression_parse(struct span text, struct arena *arena, const struct tag_expression **ret)
{
    struct parse p = {.rest = text, .arena = arena};
    struct tag_expression *e;

    if (parse_any(&p, &e) < 0)
        return -EINVAL;
    skip_spaces(&p);
    if (p.rest.len)
        return -EINVAL;
    *ret = e;
    return 0;
}

/* ---- the filter ---- */

static int filter_container(struct parse *p, struct span *container)
{
    enum tag_compare compare;

    return container->base || !span_eq_nocase(word(p), SPAN("container")) ||
                   compare_sign(p, &compare) < 0 || compare != COMPARE_EQ ||
                   quoted(p, '\'', container) < 0 || !container->len
               ? -EINVAL
               : 0;
}

int tag_filter_parse(struct span text, struct arena *arena, const struct tag_expression **ret,
                     struct span *ret_container)
{
    struct parse p = {.rest = text, .arena = arena};
    struct tag_expression *e = arena_zalloc(arena, sizeof(*e)), **at = &e->first;
    struct span container = {NULL, 0};

    e->node = NODE_ALL;
    do {
        if (mark(&p, SPAN("@"))) {
            if (filter_container(&p, &container) < 0)
                return -EINVAL;
            continue; /* to the AND */
        }
        if (parse_compare(&p, at) < 0 || (*at)->compare == COMPARE_NE)
            return -EINVAL;
        at = &(*at)->next;
    } while (keyword(&p, SPAN("AND")));
    skip_spaces(&p);
    if (p.rest.len)
        return -EINVAL;
    *ret = e->first ? e : NULL;
    *ret_container = container;
    return 0;
}

bool tag_filter_names(const struct tag_expression *e, struct span key)
{
    for (const struct tag_expression *part = e->first; part; part = part->next)
        if (span_eq(part->key, key))
            return true;
    return false;
}

/* ---- judging ---- */

static bool compare_judge(const struct tag_expression *e, struct span tags)
{
    struct span value = {NULL, 0};
    int order;

    if (!tags_find(tags, e->key, &value))
        return e->compare == COMPARE_NE;
    order = span_cmp(value, e->value);
    switch (e->compare) {
    case COMPARE_EQ:
        return order == 0;
    case COMPARE_NE:
        return order != 0;
    case COMPARE_LT:
        return order < 0;
    case COMPARE_LE:
        return order <= 0;
    case COMPARE_GT:
        return order > 0;
    case COMPARE_GE:
        return order >= 0;
    }
    return false;
}

bool tag_expression_judge(const struct tag_expression *e, struct span tags)
{
    if (e->node == NODE_COMPARE)
        return compare_judge(e, tags);
    for (const struct tag_expression *part = e->first; part; part = part->next)
        if (tag_expression_judge(part, tags) != (e->node == NODE_ALL))
            return e->node == NODE_ANY;
    return e->node == NODE_ALL;
}
