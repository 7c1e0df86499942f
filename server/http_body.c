/* server/http_body.c - see http_body.h. One byte of framing at a time: framing is a few bytes per
 * chunk, and any split of the input then works by itself. */
#include "server/http_body.h"

#include <errno.h>

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int size_byte(struct http_body *body, char c)
{
    int digit = hex_digit(c);

    if (digit >= 0) {
        body->size = body->size * 16 + (unsigned)digit;
        return ++body->digits > HTTP_CHUNK_DIGITS_MAX ? -EBADMSG : 0;
    }
    if (!body->digits || (c != ';' && c != '\r'))
        return -EBADMSG;
    body->state = c == ';' ? BODY_EXTENSION : BODY_SIZE_LF;
    return 0;
}

static int extension_byte(struct http_body *body, char c)
{
    if (c == '\r')
        body->state = BODY_SIZE_LF;
    else if ((unsigned char)c < 0x20 && c != '\t')
        return -EBADMSG;
    return ++body->line_bytes > HTTP_CHUNK_LINE_MAX ? -EBADMSG : 0;
}

static int trailer_byte(struct http_body *body, char c)
{
    if (c == '\r')
        body->state = body->state == BODY_TRAILER_LINE ? BODY_LAST_LF : BODY_TRAILER_LF;
    else if ((unsigned char)c < 0x20 && c != '\t')
        return -EBADMSG;
    else
        body->state = BODY_TRAILER;
    return ++body->line_bytes > HTTP_TRAILERS_MAX ? -EBADMSG : 0;
}

static int expect_byte(struct http_body *body, char c, char wanted, enum http_body_state next)
{
    body->state = next;
    return c == wanted ? 0 : -EBADMSG;
}

static int size_done(struct http_body *body, char c)
{
    body->line_bytes = 0;
    body->left = body->size;
    return expect_byte(body, c, '\n', body->left ? BODY_DATA : BODY_TRAILER_LINE);
}

static int size_begin(struct http_body *body, char c)
{
    body->digits = 0;
    body->size = 0;
    body->line_bytes = 0;
    return expect_byte(body, c, '\n', BODY_SIZE);
}

static int framing_byte(struct http_body *body, char c)
{
    switch (body->state) {
    case BODY_SIZE:
        return size_byte(body, c);
    case BODY_EXTENSION:
        return extension_byte(body, c);
    case BODY_SIZE_LF:
        return size_done(body, c);
    case BODY_DATA_CR:
        return expect_byte(body, c, '\r', BODY_DATA_LF);
    case BODY_DATA_LF:
        return size_begin(body, c);
    case BODY_TRAILER_LINE:
    case BODY_TRAILER:
        return trailer_byte(body, c);
    case BODY_TRAILER_LF:
        return expect_byte(body, c, '\n', BODY_TRAILER_LINE);
    case BODY_LAST_LF:
        body->ended = true;
        return expect_byte(body, c, '\n', BODY_OVER);
    default:
        return -EBADMSG; /* data and the end are not framing: the loop below never asks */
    }
}

static bool in_framing(const struct http_body *body)
{
    return body->state != BODY_LENGTH && body->state != BODY_DATA && body->state != BODY_OVER;
}

void http_body_init(struct http_body *body, int64_t body_bytes)
{
    *body = (struct http_body){.state = BODY_SIZE};
    if (body_bytes < 0)
        return;
    body->ended = body_bytes == 0;
    body->left = (uint64_t)body_bytes;
    body->state = body->ended ? BODY_OVER : BODY_LENGTH;
}

ssize_t http_body_framing(struct http_body *body, struct span in)
{
    size_t n = 0;

    while (n < in.len && in_framing(body))
        if (framing_byte(body, in.base[n++]))
            return -EBADMSG;
    return (ssize_t)n;
}

void http_body_took(struct http_body *body, uint64_t bytes)
{
    assert(bytes <= body->left);
    body->left -= bytes;
    if (body->left || !bytes)
        return;
    body->ended = body->state == BODY_LENGTH;
    body->state = body->ended ? BODY_OVER : BODY_DATA_CR;
}
