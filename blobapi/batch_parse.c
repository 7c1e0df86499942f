/* blobapi/batch_parse.c - the body of Blob Batch, cut into its parts line by line.
 *
 * One pass over the lines, so that no body makes the search for its boundary slow. Lines end in
 * CRLF; a CR or LF anywhere else is a control character and refused with the others, so that no
 * header of a part can be smuggled past its signature. */
#include "blobapi/batch_parse.h"

#include <errno.h>

enum delimiter { DELIMITER_NONE, DELIMITER_NEXT, DELIMITER_LAST };

/* ---- characters ---- */

static bool is_token(char c) /* RFC 9110, 5.6.2 */
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token_text(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_token(s.base[i]))
            return false;
    return s.len > 0;
}

static bool is_field_text(struct span s) /* no control character but the tab */
{
    for (size_t i = 0; i < s.len; i++)
        if (((unsigned char)s.base[i] < ' ' && s.base[i] != '\t') || s.base[i] == 0x7f)
            return false;
    return true;
}

static bool is_target_text(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.base[i] <= ' ' || s.base[i] == 0x7f)
            return false;
    return s.len > 0 && s.base[0] == '/';
}

/* ---- lines ---- */

/* The next line without its CRLF; the last one may have none. false: there is no further one. */
static bool line_next(struct span *rest, struct span *line)
{
    const char *end = rest->len ? memmem(rest->base, rest->len, "\r\n", 2) : NULL;

    if (!rest->len)
        return false;
    line->base = rest->base;
    line->len = end ? (size_t)(end - rest->base) : rest->len;
    *rest = span_skip(*rest, line->len + (end ? 2 : 0));
    return true;
}

static enum delimiter delimiter_of(struct span line, struct span boundary)
{
    if (!span_starts(line, SPAN("--")) || !span_starts(span_skip(line, 2), boundary))
        return DELIMITER_NONE;
    line = span_trim(span_skip(line, 2 + boundary.len));
    if (!line.len)
        return DELIMITER_NEXT;
    return span_eq(line, SPAN("--")) ? DELIMITER_LAST : DELIMITER_NONE;
}

/* Everything up to the next delimiter line; the CRLF before it belongs to the delimiter. */
static enum delimiter part_next(struct span *rest, struct span boundary, struct span *part)
{
    const char *start = rest->base;
    struct span line;

    while (line_next(rest, &line)) {
        enum delimiter delimiter = delimiter_of(line, boundary);

        if (delimiter == DELIMITER_NONE)
            continue;
        *part = span_from(start, (size_t)(line.base - start));
        if (part->len)
            part->len -= 2;
        return delimiter;
    }
    return DELIMITER_NONE;
}

/* ---- one part ---- */

static int header_read(struct span line, struct arena *arena, struct header *ret)
{
    const char *colon = memchr(line.base, ':', line.len);
    struct span value, name = span_cut(line, ':', &value);
    char *lower;

    if (!colon || !is_token_text(name) || !is_field_text(value)) /* a folded line is none either */
        return -EBADMSG;
    lower = arena_alloc(arena, name.len);
    for (size_t i = 0; i < name.len; i++)
        lower[i] = (char)(name.base[i] >= 'A' && name.base[i] <= 'Z' ? name.base[i] + 'a' - 'A'
                                                                     : name.base[i]);
    *ret = (struct header){span_from(lower, name.len), span_trim(value), name};
    return 0;
}

/* Headers up to the empty line. Without one they end with the part: the CRLF that would have been
 * the empty line is the delimiter's. */
static int headers_read(struct span *rest, struct arena *arena, const struct header **ret,
                        unsigned *ret_n)
{
    struct header at[BATCH_PART_HEADERS_MAX];
    struct span line;
    unsigned n = 0;
    struct header *copy;

    while (line_next(rest, &line) && line.len) {
        if (n == countof(at) || header_read(line, arena, &at[n]) < 0)
            return -EBADMSG;
        n++;
    }
    copy = arena_alloc(arena, (n + 1) * sizeof(*copy));
    for (unsigned i = 0; i < n; i++)
        copy[i] = at[i];
    *ret = copy;
    *ret_n = n;
    return 0;
}

static int request_line_read(struct span line, struct batch_part *part)
{
    struct span version;

    part->method = span_cut(line, ' ', &version);
    part->target = span_cut(version, ' ', &version);
    return is_token_text(part->method) && is_target_text(part->target) &&
                   span_eq(version, SPAN("HTTP/1.1"))
               ? 0
               : -EBADMSG;
}

/* The part's own headers: it must say that it is a request (so a nested batch is none). */
static int envelope_read(struct span *text, struct arena *arena, struct batch_part *part)
{
    const struct header *headers = NULL;
    unsigned n = 0;
    bool http = false;
    int err = headers_read(text, arena, &headers, &n);

    for (unsigned i = 0; !err && i < n; i++) {
        struct span parameters, type = span_cut(headers[i].value, ';', &parameters);

        if (span_eq(headers[i].name, SPAN("content-type")))
            http = span_eq_nocase(span_trim(type), SPAN("application/http"));
        else if (span_eq(headers[i].name, SPAN("content-id")))
            part->content_id = headers[i].value;
    }
    return err ? err : http ? 0 : -EBADMSG;
}

static int part_read(struct span text, struct arena *arena, struct batch_part *part)
{
    struct span line;
    int err = envelope_read(&text, arena, part);

    if (err)
        return err;
    if (!line_next(&text, &line) || request_line_read(line, part) < 0)
        return -EBADMSG;
    err = headers_read(&text, arena, &part->headers, &part->header_count);
    if (err)
        return err;
    while (line_next(&text, &line)) /* neither operation has a body; empty lines are no body */
        if (line.len)
            return -EBADMSG;
    return 0;
}

/* ---- the whole ---- */

int batch_boundary(struct span content_type, struct span *ret)
{
    struct span rest, type = span_cut(content_type, ';', &rest);

    if (!span_eq_nocase(span_trim(type), SPAN("multipart/mixed")))
        return -EINVAL;
    while (rest.len) {
        struct span value, parameter = span_cut(rest, ';', &rest);
        struct span name = span_trim(span_cut(parameter, '=', &value));

        if (!span_eq_nocase(name, SPAN("boundary")))
            continue;
        value = span_trim(value);
        if (value.len >= 2 && value.base[0] == '"' && value.base[value.len - 1] == '"')
            value = span_from(value.base + 1, value.len - 2);
        if (!value.len || value.len > BATCH_BOUNDARY_BYTES_MAX || !is_field_text(value) ||
            memchr(value.base, '"', value.len))
            return -EINVAL;
        *ret = value;
        return 0;
    }
    return -EINVAL;
}

int batch_parse(struct span body, struct span boundary, struct arena *arena,
                const struct batch_part **ret, unsigned *ret_n)
{
    struct batch_part *parts;
    struct span text;
    unsigned n = 0;
    enum delimiter delimiter = part_next(&body, boundary, &text); /* before the first: preamble */

    if (delimiter == DELIMITER_NONE)
        return -EBADMSG;
    parts = arena_zalloc(arena, BATCH_PARTS_MAX * sizeof(*parts));
    while (delimiter == DELIMITER_NEXT) {
        delimiter = part_next(&body, boundary, &text);
        if (delimiter == DELIMITER_NONE)
            return -EBADMSG; /* cut short: nothing of it is run */
        if (delimiter == DELIMITER_LAST && !n && !text.len)
            return -ENODATA;
        if (n == BATCH_PARTS_MAX)
            return -E2BIG;
        if (part_read(text, arena, &parts[n]) < 0)
            return -EBADMSG;
        n++;
    }
    if (!n)
        return -ENODATA;
    *ret = parts;
    *ret_n = n;
    return 0;
}
