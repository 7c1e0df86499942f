/* server/http_head.c - see http_head.h. First the alphabet, then the request line, one header line,
 * what single headers mean, and the whole head. A refusal is recorded by refuse() where it is
 * found. */
#include "server/http_head.h"

#include <errno.h>

#define REFUSE_FRAMING(text) refuse(why, 400, "InvalidHeaderValue", text)

static int refuse(struct http_refusal *why, int status, const char *code, const char *message)
{
    *why = (struct http_refusal){status, code, message};
    return -EBADMSG;
}

/* ---- the alphabet of RFC 9110 ---- */

static bool is_token_char(unsigned char c)
{
    static const char others[] = "!#$%&'*+-.^_`|~";

    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr(others, c));
}

static bool is_token(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_token_char((unsigned char)s.base[i]))
            return false;
    return s.len > 0;
}

static bool is_field_value(struct span s) /* tab, space, visible, and bytes above ASCII */
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.base[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

static bool is_target(struct span s) /* bytes above ASCII pass: sloppy clients send raw UTF-8 */
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.base[i] <= 0x20 || s.base[i] == 0x7f)
            return false;
    return s.len > 0;
}

static bool
is_host(struct span s) /* reg-name, IPv4, [IPv6], port: enough to be safe in paths and logs */
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.base[i];

        if (c <= 0x20 || c >= 0x7f || strchr("/\\?#@\"<>^`{|},", c))
            return false;
    }
    return true;
}

/* ---- the request line ---- */

/* http://host/path?query: the host replaces what the Host header says (RFC 9112, 3.2.2). */
static int split_absolute(struct http_head *head, struct http_refusal *why)
{
    struct span rest = span_skip(head->target, head->target.base[4] == ':' ? 7 : 8);
    const char *slash = memchr(rest.base, '/', rest.len);

    if (!slash || slash == rest.base)
        return refuse(why, 400, "RequestUrlFailedToParse",
                      "The url in the request could not be parsed.");
    head->host = span_from(rest.base, (size_t)(slash - rest.base));
    head->target = span_skip(rest, head->host.len);
    if (!is_host(head->host))
        return refuse(why, 400, "RequestUrlFailedToParse",
                      "The url in the request could not be parsed.");
    return 0;
}

static bool is_absolute(struct span target)
{
    return (target.len > 7 && span_eq_nocase(span_from(target.base, 7), SPAN("http://"))) ||
           (target.len > 8 && span_eq_nocase(span_from(target.base, 8), SPAN("https://")));
}

static int parse_version(struct span version, struct http_head *head, struct http_refusal *why)
{
    head->http11 = span_eq(version, SPAN("HTTP/1.1"));
    if (head->http11 || span_eq(version, SPAN("HTTP/1.0")))
        return 0;
    if (span_starts(version, SPAN("HTTP/")) && version.len == 8)
        return refuse(why, 505, "InvalidInput",
                      "HTTP Version Not Supported: only HTTP/1.0 and HTTP/1.1 are served.");
    return refuse(why, 400, "InvalidInput", "The request line is not that of an HTTP/1.1 request.");
}

static int parse_request_line(struct span line, struct http_head *head, struct http_refusal *why)
{
    struct span rest, version;

    head->method = span_cut(line, ' ', &rest);
    head->target = span_cut(rest, ' ', &version);
    if (!is_token(head->method) || head->method.len > HTTP_METHOD_BYTES_MAX)
        return refuse(why, 400, "InvalidHttpVerb", "The HTTP verb specified is invalid.");
    if (parse_version(version, head, why))
        return -EBADMSG;
    if (!is_target(head->target))
        return refuse(why, 400, "RequestUrlFailedToParse",
                      "The url in the request could not be parsed.");
    if (is_absolute(head->target))
        return split_absolute(head, why);
    if (head->target.base[0] != '/' && !span_eq(head->target, SPAN("*")))
        return refuse(why, 400, "RequestUrlFailedToParse",
                      "The url in the request could not be parsed.");
    return 0;
}

/* ---- headers ---- */

static void lower_case(struct span name, char *ret)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];

        ret[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
    }
}

static int parse_header(struct span line, char *lower, struct header *ret, struct http_refusal *why)
{
    struct span value, name = span_cut(line, ':', &value);

    if (!value.base)
        return refuse(why, 400, "InvalidInput", "A header line has no colon.");
    if (!is_token(name)) /* also: folded lines, spaces before the colon, empty names */
        return refuse(why, 400, "InvalidInput",
                      "A header name has a character that is not allowed.");
    if (!is_field_value(value))
        return REFUSE_FRAMING("A header value has a character that is not allowed.");
    lower_case(name, lower);
    *ret = (struct header){.name = {lower, name.len}, .value = span_trim(value), .sent_name = name};
    return 0;
}

/* What the framing headers said; each may come once. */
struct framing {
    bool host, length, coding;
};

static int take_host(struct http_head *head, struct framing *seen, struct span value,
                     struct http_refusal *why)
{
    if (seen->host)
        return REFUSE_FRAMING("The Host header occurs twice.");
    if (!is_host(value))
        return REFUSE_FRAMING("The Host header is malformed.");
    seen->host = true;
    if (!head->host.base)
        head->host = value;
    return 0;
}

static int take_length(struct http_head *head, struct framing *seen, struct span value,
                       struct http_refusal *why)
{
    uint64_t bytes;

    if (seen->length)
        return REFUSE_FRAMING("Content-Length occurs twice.");
    if (span_to_u64(value, &bytes) < 0 || bytes > INT64_MAX)
        return REFUSE_FRAMING("Content-Length is not a number of bytes.");
    seen->length = true;
    head->body_bytes = (int64_t)bytes;
    return 0;
}

static int take_coding(struct http_head *head, struct framing *seen, struct span value,
                       struct http_refusal *why)
{
    if (seen->coding || !head->http11 || !span_eq_nocase(value, SPAN("chunked")))
        return REFUSE_FRAMING("Transfer-Encoding may only be one chunked, in HTTP/1.1.");
    seen->coding = true;
    return 0;
}

static void take_connection(struct http_head *head, struct span value)
{
    while (value.base) {
        struct span rest, option = span_trim(span_cut(value, ',', &rest));

        if (span_eq_nocase(option, SPAN("close")))
            head->keep_alive = false;
        value = rest;
    }
}

static int take_expect(struct http_head *head, struct span value, struct http_refusal *why)
{
    if (!span_eq_nocase(value, SPAN("100-continue")))
        return refuse(why, 417, "InvalidHeaderValue", "Only Expect: 100-continue is understood.");
    head->expect_continue = head->http11;
    return 0;
}

static int take_header(struct http_head *head, struct framing *seen, const struct header *h,
                       struct http_refusal *why)
{
    switch (h->name.len) {
    case 4:
        return span_eq(h->name, SPAN("host")) ? take_host(head, seen, h->value, why) : 0;
    case 6:
        return span_eq(h->name, SPAN("expect")) ? take_expect(head, h->value, why) : 0;
    case 10:
        if (span_eq(h->name, SPAN("connection")))
            take_connection(head, h->value);
        return 0;
    case 14:
        return span_eq(h->name, SPAN("content-length")) ? take_length(head, seen, h->value, why)
                                                        : 0;
    case 17:
        return span_eq(h->name, SPAN("transfer-encoding")) ? take_coding(head, seen, h->value, why)
                                                           : 0;
    default:
        return 0;
    }
}

static int check_framing(struct http_head *head, const struct framing *seen,
                         struct http_refusal *why)
{
    if (seen->length && seen->coding)
        return REFUSE_FRAMING("Content-Length and Transfer-Encoding exclude each other.");
    if (head->http11 && !seen->host)
        return refuse(why, 400, "MissingRequiredHeader", "The Host header is missing.");
    if (seen->coding)
        head->body_bytes = -1;
    return 0;
}

/* ---- the whole head ---- */

static struct span
next_line(struct span *text) /* every line ends in CRLF: http_head_end saw to it */
{
    struct span line = span_cut(*text, '\n', text);

    line.len--;
    return line;
}

size_t http_head_blank(struct span in)
{
    size_t n = 0;

    while (n + 1 < in.len && in.base[n] == '\r' && in.base[n + 1] == '\n')
        n += 2;
    return n;
}

ssize_t http_head_end(struct span in, size_t *scanned, struct http_refusal *why)
{
    const char *from = in.base + *scanned, *end = in.base + in.len, *lf;

    if (in.len && !is_token_char((unsigned char)in.base[0]) && in.base[0] != '\r')
        return refuse(why, 400, "InvalidInput", "This is not the start of an HTTP/1.1 request.");
    while (from < end && (lf = memchr(from, '\n', (size_t)(end - from)))) {
        if (lf == in.base || lf[-1] != '\r')
            return refuse(why, 400, "InvalidInput", "A line of the head does not end in CRLF.");
        if (lf - in.base >= 2 && lf[-2] == '\n')
            return lf + 1 - in.base <= HTTP_HEAD_BYTES_MAX
                       ? lf + 1 - in.base
                       : refuse(why, 400, "InvalidInput",
                                "The request head is larger than 64 KiB.");
        from = lf + 1;
    }
    *scanned = in.len;
    if (in.len >= HTTP_HEAD_BYTES_MAX)
        return refuse(why, 400, "InvalidInput", "The request head is larger than 64 KiB.");
    return 0;
}

int http_head_parse(struct span text, char *lower, struct header *room, struct http_head *ret,
                    struct http_refusal *why)
{
    struct http_head head = {.headers = room};
    struct framing seen = {0};

    if (parse_request_line(next_line(&text), &head, why))
        return -EBADMSG;
    head.keep_alive = head.http11;
    for (struct span line = next_line(&text); line.len; line = next_line(&text)) {
        struct header *h = &room[head.header_count];

        if (head.header_count++ == HTTP_HEADERS_MAX)
            return refuse(why, 400, "InvalidInput", "The request has more than 100 headers.");
        if (parse_header(line, lower, h, why) || take_header(&head, &seen, h, why))
            return -EBADMSG;
        lower += h->name.len;
    }
    if (check_framing(&head, &seen, why))
        return -EBADMSG;
    *ret = head;
    return 0;
}
