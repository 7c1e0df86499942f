/* blobapi/conditions.c - parsing and judging of If-* headers. */
#include "blobapi/conditions.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/date.h"
#include "cache/cache.h"

/* ---- parsing ---- */

/* One ETag off the head of *list; quotes are taken off where they are there. Commas inside quotes
 * count as text; W/"x" stays as it is and so never matches: the service has no weak tags. */
static struct span etag_take(struct span *list)
{
    struct span rest, etag;
    const char *close;

    if (list->len && list->base[0] == '"' &&
        (close = memchr(list->base + 1, '"', list->len - 1)) != NULL) {
        etag = span_from(list->base + 1, (size_t)(close - list->base) - 1);
        span_cut(span_skip(*list, (size_t)(close - list->base) + 1), ',', &rest);
    } else {
        etag = span_trim(span_cut(*list, ',', &rest));
    }
    *list = span_trim(rest);
    return etag;
}

/* Adds a header's ETags to those of earlier headers of the name. */
static enum az_error etags_add(struct span list, struct arena *arena, struct condition_etags *etags)
{
    struct span *at = (struct span *)(uintptr_t)etags->at; /* ours, from the arena */

    list = span_trim(list);
    while (list.len) {
        struct span etag = etag_take(&list);

        if (span_eq(etag, SPAN("*"))) {
            etags->any = true;
            continue;
        }
        if (etags->count == CONDITION_ETAGS_MAX)
            return AZ_INVALID_HEADER_VALUE;
        at = arena_grow(arena, at, etags->count * sizeof(*at), (etags->count + 1) * sizeof(*at));
        at[etags->count++] = etag;
        etags->at = at;
    }
    return AZ_OK;
}

static enum az_error date_set(struct span text, bool *has, int64_t *ret_s)
{
    int64_t ns;

    if (!text.len)
        return AZ_OK; /* an empty header counts as absent */
    if (http_date_parse(text, &ns) < 0)
        return AZ_INVALID_HEADER_VALUE;
    *has = true;
    *ret_s = ns / (int64_t)NS_PER_SEC;
    return AZ_OK;
}

static enum az_error tags_read(struct span text, struct arena *arena, struct conditions *c)
{
    if (text.len && tag_expression_parse(text, arena, &c->tags) < 0)
        return AZ_INVALID_HEADER_VALUE;
    return AZ_OK;
}

static enum az_error header_read(const struct header *header, struct arena *arena,
                                 struct conditions *c)
{
    const struct span of_tags = SPAN("x-ms-blob-");
    struct span name = header->name;

    if (span_eq(name, SPAN("x-ms-if-tags")))
        return tags_read(header->value, arena, c);
    if (c->rule == CONDITIONS_TAGS) /* the plain ones mean nothing there */
        name = span_starts(name, of_tags) ? span_skip(name, of_tags.len) : SPAN("");
    if (span_eq(name, SPAN("if-match")))
        return etags_add(header->value, arena, &c->match);
    if (span_eq(name, SPAN("if-none-match")))
        return etags_add(header->value, arena, &c->none_match);
    if (span_eq(name, SPAN("if-modified-since")))
        return date_set(header->value, &c->has_modified_since, &c->modified_since_s);
    if (span_eq(name, SPAN("if-unmodified-since")))
        return date_set(header->value, &c->has_unmodified_since, &c->unmodified_since_s);
    return AZ_OK;
}

static bool etags_given(const struct condition_etags *etags)
{
    return etags->any || etags->count;
}

/* Which of the headers may stand together. */
static enum az_error combination_check(const struct conditions *c)
{
    bool match = etags_given(&c->match), none_match = etags_given(&c->none_match);
    unsigned count = (unsigned)match + none_match + c->has_modified_since + c->has_unmodified_since;

    switch (c->rule) {
    case CONDITIONS_NONE:
    case CONDITIONS_TAGS:
        return AZ_OK;
    case CONDITIONS_READ:
        return c->none_match.any ? AZ_UNSATISFIABLE_CONDITION : AZ_OK;
    case CONDITIONS_WRITE:
    case CONDITIONS_CREATE:
        if (count < 2 || (count == 2 && none_match && c->has_modified_since) ||
            (count == 2 && match && c->has_unmodified_since))
            return AZ_OK;
        return AZ_MULTIPLE_CONDITION_HEADERS_NOT_SUPPORTED;
    case CONDITIONS_DATES:
        return match || none_match ? AZ_CONDITION_HEADERS_NOT_SUPPORTED : AZ_OK;
    case CONDITIONS_MODIFIED_SINCE:
        return count > c->has_modified_since ? AZ_CONDITION_HEADERS_NOT_SUPPORTED : AZ_OK;
    }
    return AZ_INTERNAL_ERROR;
}

enum az_error conditions_parse(const struct header *headers, unsigned header_count,
                               enum condition_rule rule, struct arena *arena,
                               struct conditions *ret, struct span *ret_culprit)
{
    struct conditions c = {.rule = rule};
    enum az_error error = AZ_OK;

    *ret_culprit = (struct span){NULL, 0};
    for (unsigned i = 0; rule != CONDITIONS_NONE && i < header_count; i++) {
        if (!span_starts(headers[i].name, SPAN("if-")) &&
            !span_starts(headers[i].name, SPAN("x-ms-if-")) &&
            !span_starts(headers[i].name, SPAN("x-ms-blob-if-")))
            continue;
        error = header_read(&headers[i], arena, &c);
        if (error != AZ_OK) {
            *ret_culprit = headers[i].name;
            return error;
        }
    }
    error = combination_check(&c);
    if (error == AZ_UNSATISFIABLE_CONDITION)
        *ret_culprit = SPAN("If-None-Match");
    if (error == AZ_OK)
        *ret = c;
    return error;
}

bool conditions_given(const struct conditions *c)
{
    return etags_given(&c->match) || etags_given(&c->none_match) || c->has_modified_since ||
           c->has_unmodified_since || c->tags;
}

bool conditions_create_only(const struct conditions *c)
{
    return c->none_match.any && !etags_given(&c->match) && !c->has_modified_since &&
           !c->has_unmodified_since && !c->tags;
}

/* ---- judging ---- */

static bool etags_match(const struct condition_etags *etags,
                        const struct condition_subject *subject)
{
    char text[32];
    struct span local, cloud = subject->cloud_etag;

    if (etags->any)
        return true;
    local = span_from(text, (size_t)snprintf(text, sizeof(text), ETAG_FMT, subject->etag));
    local = span_from(text + 1, local.len - 2); /* without quotes */
    if (cloud.len >= 2 && cloud.base[0] == '"')
        cloud = span_from(cloud.base + 1, cloud.len - 2);
    for (unsigned i = 0; i < etags->count; i++)
        if (span_eq(etags->at[i], local) || (cloud.len && span_eq(etags->at[i], cloud)))
            return true;
    return false;
}

/* If-Match and If-Unmodified-Since: both have to hold. */
static bool still_as_known(const struct conditions *c, const struct condition_subject *subject,
                           int64_t modified_s)
{
    if (etags_given(&c->match) && !etags_match(&c->match, subject))
        return false;
    return !c->has_unmodified_since || modified_s <= c->unmodified_since_s;
}

/* If-None-Match and If-Modified-Since: it is enough if one of those given holds. */
static bool other_than_known(const struct conditions *c, const struct condition_subject *subject,
                             int64_t modified_s)
{
    bool etags = etags_given(&c->none_match);

    if (!etags && !c->has_modified_since)
        return true;
    if (c->none_match.any) /* "*" means that nothing may be there, whatever a date says */
        return false;
    return (etags && !etags_match(&c->none_match, subject)) ||
           (c->has_modified_since && modified_s > c->modified_since_s);
}

enum az_error conditions_judge(const struct conditions *c, const struct condition_subject *subject)
{
    int64_t modified_s;

    if (!subject && c->rule == CONDITIONS_CREATE && c->tags &&
        !tag_expression_judge(c->tags, (struct span){NULL, 0}))
        return AZ_CONDITION_NOT_MET; /* what is not there has no tags */
    if (!subject)
        return c->rule != CONDITIONS_READ && etags_given(&c->match) ? AZ_CONDITION_NOT_MET : AZ_OK;
    if (c->tags && !tag_expression_judge(c->tags, subject->tags))
        return AZ_CONDITION_NOT_MET;
    modified_s = subject->modified_ns / (int64_t)NS_PER_SEC;
    if (!still_as_known(c, subject, modified_s))
        return AZ_CONDITION_NOT_MET;
    if (other_than_known(c, subject, modified_s))
        return AZ_OK;
    if (c->rule == CONDITIONS_READ)
        return AZ_CONDITION_NOT_MET_READ;
    return c->rule == CONDITIONS_CREATE && c->none_match.any ? AZ_BLOB_ALREADY_EXISTS
                                                             : AZ_CONDITION_NOT_MET;
}
