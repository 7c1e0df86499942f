/* blobapi/jwt.h - what an Entra ID access token says, and whether a key of a key set signed it.
 *
 * Parsing is pure and bounded: JWT_BYTES_MAX of token, JWT_LIST_MAX entries a claim; a claim or
 * header name that occurs twice is refused, so that no two readers can see different tokens. The
 * algorithm is that of the key, never the token's wish: RS256 with an RSA key, ES256 with one on
 * P-256, nothing else (no none, no HMAC). Any thread.
 * Source: RFC 7515, 7517, 7519; Microsoft's access token claims reference. */
#ifndef BLOBAPI_JWT_H
#define BLOBAPI_JWT_H

#include "base/arena.h"
#include "base/util.h"

#define JWT_BYTES_MAX  16384
#define JWT_LIST_MAX   256
#define JWKS_BYTES_MAX KIB(256)
#define JWKS_KEYS_MAX  64

enum jwt_alg { JWT_RS256, JWT_ES256 };

struct jwt_list {
    const struct span *at;
    unsigned count;
};

/* In the arena; a text that is absent has base NULL. Not yet trusted: see jwks_verify. */
struct jwt {
    enum jwt_alg alg;
    struct span kid;
    struct span issuer, tenant, oid, app; /* iss, tid, oid, appid or azp */
    struct jwt_list audiences, roles, groups, scopes;
    int64_t not_before_s, expires_s; /* since 1970; nbf defaults to INT64_MIN */
    struct span signed_text, signature;
};

/* 0; -EBADMSG: not a token of that form. */
int jwt_parse(struct span token, struct arena *arena, struct jwt *ret) must_check;

/* RFC 7515 base64url: no padding, canonical. ret has room for text.len bytes. -EINVAL. */
int base64url_decode(struct span text, struct arena *arena, void *ret, size_t *ret_len) must_check;

/* A set of public keys. Immutable. */
struct jwks;
/* A JSON Web Key Set; keys of other kinds and uses in it are passed over. 0; -EBADMSG: no key set,
 * or no usable key in it. */
int jwks_parse(struct span text, struct jwks **ret) must_check;
struct jwks *jwks_free(struct jwks *jwks); /* NULL is fine; returns NULL */
/* True if the key that the token names signed it. About 30 us for RS256. */
bool jwks_verify(const struct jwks *jwks, const struct jwt *token);

#endif
