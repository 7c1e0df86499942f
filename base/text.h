/* base/text.h - the encodings HTTP and the Blob service share: base64, percent, hex,
 * GUIDs, UTF-8 (dates: base/date.h).
 * Pure; any thread. Decoders return -EINVAL and leave their outputs untouched on bad input. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/date.h"
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

/* Lower-case hex of bytes, no terminator. */
void hex_encode(struct span bytes, char *ret);
int hex_decode(struct span text, void *ret, size_t *ret_len) must_check; /* room for text.len / 2 */

#define GUID_BYTES 36
void guid_print(const unsigned char guid[16], char ret[GUID_BYTES + 1]); /* lower-case */
int guid_parse(struct span text, unsigned char ret[16]) must_check; /* 8-4-4-4-12, also in braces */

/* -EINVAL unless well-formed: no surrogates, no overlong forms. Length in UTF-16 units, in which
 * the service counts names. */
int utf8_units(struct span text, size_t *ret_units) must_check;

#endif
