/* server/http_head.h - the request head: from bytes to a checked request line and headers. Pure: no
 * socket, no allocation, no h2o; any thread. tests/fuzz/fuzz_http_head.c feeds it.
 *
 * Framing is strict, because a head that two programs read differently is a smuggled request: lines
 * end in CRLF, header names are tokens right before the colon, no folding, one Content-Length or
 * one `Transfer-Encoding: chunked`, never both, exactly one Host in HTTP/1.1. */
#ifndef SERVER_HTTP_HEAD_H
#define SERVER_HTTP_HEAD_H

#include "base/span.h"
#include "base/util.h"
#include "blobapi/exchange.h"

#define HTTP_HEAD_BYTES_MAX   65536u
#define HTTP_HEADERS_MAX      100u
#define HTTP_METHOD_BYTES_MAX 32u

struct http_head {
    struct span method, target,
        host; /* target: path and query, without http://host of absolute form */
    bool http11;
    struct header *headers;
    unsigned header_count;
    int64_t body_bytes; /* Content-Length; 0: none; -1: chunked */
    bool keep_alive;    /* what the client wants */
    bool expect_continue;
};

/* Why a head is not served; code is one of the service's. */
struct http_refusal {
    int status;
    const char *code, *message;
};

/* Empty lines before a request line, which are skipped. */
size_t http_head_blank(struct span in);
/* Looks for the end of a head that starts at in.base, from *scanned on (0 at first; kept up to
 * date). Length of the head with its empty line; 0: more is needed; -EBADMSG: it can only be
 * refused. */
ssize_t http_head_end(struct span in, size_t *scanned, struct http_refusal *why) must_check;
/* Parses a whole head. `lower` has room for as many bytes and receives the lower-case names; `room`
 * holds HTTP_HEADERS_MAX headers; the result points into both and into text. -EBADMSG: see why. */
int http_head_parse(struct span text, char *lower, struct header *room, struct http_head *ret,
                    struct http_refusal *why) must_check;

#endif
