/* server/http_body.h - where the request body's data lies among the bytes that follow a head: by
 * Content-Length or by chunks. Pure; copies nothing; any thread.
 *
 * Use: http_body_framing() eats what is not data at the front of the input; then body->left bytes
 * of data follow (http_body_took() as they are taken), or body->ended, or more input is needed. */
#ifndef SERVER_HTTP_BODY_H
#define SERVER_HTTP_BODY_H

#include "base/span.h"
#include "base/util.h"

#define HTTP_CHUNK_LINE_MAX   1024u /* size and extensions of one chunk */
#define HTTP_TRAILERS_MAX     8192u /* bytes of trailers, which nobody reads */
#define HTTP_CHUNK_DIGITS_MAX 15u   /* of the hexadecimal size */

enum http_body_state {
    BODY_LENGTH,       /* Content-Length: left says how much is to come */
    BODY_SIZE,         /* in the hexadecimal digits of a chunk's size */
    BODY_EXTENSION,    /* after ; up to the CR */
    BODY_SIZE_LF,      /* LF of the size line */
    BODY_DATA,         /* in a chunk: left says how much is to come */
    BODY_DATA_CR,      /* CR after a chunk's data */
    BODY_DATA_LF,      /* and its LF */
    BODY_TRAILER_LINE, /* first byte of a trailer line, or of the empty one */
    BODY_TRAILER,      /* in a trailer line */
    BODY_TRAILER_LF,   /* LF of a trailer line */
    BODY_LAST_LF,      /* LF of the empty line: the end */
    BODY_OVER,
};

struct http_body {
    enum http_body_state state;
    bool ended;
    uint64_t left;               /* data bytes that may be taken now */
    uint64_t size;               /* of the chunk, while its digits come in */
    unsigned line_bytes, digits; /* of the size line; line_bytes also of all trailers */
};

void http_body_init(struct http_body *body, int64_t body_bytes); /* as struct exchange has it */
/* Bytes of `in` that were framing; -EBADMSG. Stops where data begins. */
ssize_t http_body_framing(struct http_body *body, struct span in) must_check;
void http_body_took(struct http_body *body, uint64_t bytes); /* bytes <= left */

#endif
