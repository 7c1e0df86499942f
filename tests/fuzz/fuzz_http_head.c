/* tests/fuzz/fuzz_http_head.c - libFuzzer target: the head parser and the chunk decoder on any
 * bytes. The input is cut in two places by its first bytes, so that resumed scans are walked too;
 * whole and in pieces must agree, and what a head says must lie within it. */
#include <stdlib.h>

#include "server/http_body.h"
#include "server/http_head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct span whole, struct span part)
{
    if (part.base && (part.base < whole.base || part.base + part.len > whole.base + whole.len))
        abort();
}

static void check_head(struct span text, const struct http_head *head)
{
    inside(text, head->method);
    inside(text, head->target);
    inside(text, head->host);
    if (!head->target.len || head->header_count > HTTP_HEADERS_MAX || head->body_bytes < -1)
        abort();
    for (unsigned i = 0; i < head->header_count; i++) {
        const struct header *h = &head->headers[i];

        inside(text, h->value);
        inside(text, h->sent_name);
        if (!span_eq_nocase(h->name, h->sent_name) || memchr(h->value.base, '\n', h->value.len))
            abort();
    }
}

static ssize_t end_in_pieces(struct span in, size_t cut, struct http_refusal *why)
{
    size_t scanned = 0;
    ssize_t n = http_head_end(span_from(in.base, MIN(cut, in.len)), &scanned, why);

    return n ? n : http_head_end(in, &scanned, why);
}

static void feed_body(struct span in)
{
    struct http_body body;
    ssize_t n = 0;

    http_body_init(&body, -1);
    while (in.len && !body.ended) {
        size_t data;

        n = http_body_framing(&body, in);
        if (n < 0)
            return;
        in = span_skip(in, (size_t)n);
        data = MIN(in.len, body.left);
        http_body_took(&body, data);
        in = span_skip(in, data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct header room[HTTP_HEADERS_MAX];
    static char lower[HTTP_HEAD_BYTES_MAX];
    struct http_refusal why = {0};
    struct http_head head;
    struct span in, text;
    size_t scanned = 0;
    ssize_t whole, pieces;
    char *copy;

    if (size < 1)
        return 0;
    copy = malloc(size); /* exact size: an overrun by one is seen */
    memcpy(copy, data, size);
    in = span_skip(span_from(copy, size), 1);
    in = span_skip(in, http_head_blank(in));
    whole = http_head_end(in, &scanned, &why);
    pieces = end_in_pieces(in, data[0], &why);
    if (whole != pieces && !(whole > 0 && pieces > 0))
        abort();
    text = span_from(in.base, whole > 0 ? (size_t)whole : 0);
    if (whole > 0 && http_head_parse(text, lower, room, &head, &why) == 0)
        check_head(text, &head);
    feed_body(in);
    free(copy);
    return 0;
}
