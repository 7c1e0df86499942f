/* base/text.h - the encodings HTTP and the Blob service share: base64, percent, RFC 1123 dates.
 * Pure; any thread. Decoders return -EINVAL and leave their outputs untouched on bad input. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/span.h"
#include "base/util.h"

#define BASE64_BYTES(n) (((n) + 2) / 3 * 4)
/* Writes BASE64_BYTES(bytes.len) characters, no terminator; returns that count. */
size_t base64_encode(struct span bytes, char *ret);
/* Strict: padded, canonical. ret has room for text.len / 4 * 3 bytes. */
int base64_decode(struct span text, void *ret, size_t *ret_len) must_check;

/* Everything but RFC 3986 unreserved characters and those of keep ("/" in paths) becomes %XX.
 * ret has room for 3 * s.len; returns the length written. */
size_t percent_encode(struct span s, const char *keep, char *ret);
/* %XX once; '+' stays. ret has room for s.len and may be s.base. -EINVAL: '%' without two hex
 * digits. */
int percent_decode(struct span s, char *ret, size_t *ret_len) must_check;

#define HTTP_DATE_BYTES 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */
void http_date_print(int64_t wall_ns,
                     char ret[HTTP_DATE_BYTES + 1]); /* whole seconds, rounded down */
int http_date_parse(struct span s, int64_t *ret_ns) must_check;

/* Lower-case hex of bytes, no terminator. */
void hex_encode(struct span bytes, char *ret);

#endif
