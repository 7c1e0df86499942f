/* base/digest.h - HMAC-SHA256 and MD5 by OpenSSL, constant-time compare. Any thread. */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/span.h"
#include "base/util.h"

#define SHA256_BYTES 32
#define MD5_BYTES    16

void hmac_sha256(struct span key, struct span text, unsigned char ret[SHA256_BYTES]);

struct md5; /* one running MD5 */
struct md5 *md5_new(void);
struct md5 *md5_free(struct md5 *md5); /* NULL is fine; returns NULL */
void md5_add(struct md5 *md5, struct span bytes);
void md5_end(struct md5 *md5, unsigned char ret[MD5_BYTES]); /* then starts over */

bool equal_constant_time(struct span a, struct span b); /* of secrets; lengths may be seen */

#endif
