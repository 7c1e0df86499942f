/* blobapi/jwks.c - public keys out of a JSON Web Key Set, and signatures checked with them by
 * OpenSSL.
 *
 * OpenSSL keeps what failed in a queue of the thread, and SSL_get_error takes whatever lies there
 * for its own connection's: a bad token would cut another client's TLS on the same loop. So every
 * way out of here leaves the queue empty. */
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include "blobapi/jwt.h"

#define RSA_BITS_MIN  2048
#define RSA_BITS_MAX  8192 /* bounds what one verification may cost */
#define P256_BYTES    32
#define KEY_BYTES_MAX (RSA_BITS_MAX / 8 + 8)

struct jwks_key {
    struct span kid;
    enum jwt_alg alg;
    EVP_PKEY *key;
};
struct jwks {
    struct arena *arena; /* kids */
    struct jwks_key keys[JWKS_KEYS_MAX];
    unsigned count;
};

static struct span json_text(const json_t *object, const char *name)
{
    const json_t *json = json_object_get(object, name);

    return json ? span_of(json_string_value(json)) : (struct span){NULL, 0};
}

/* A base64url member; false if there is none or it is longer than any key. */
static bool json_bytes(const json_t *object, const char *name, struct arena *arena,
                       unsigned char ret[KEY_BYTES_MAX], size_t *ret_len)
{
    struct span text = json_text(object, name);

    return text.len && text.len <= KEY_BYTES_MAX / 3 * 4 &&
           base64url_decode(text, arena, ret, ret_len) == 0;
}

static EVP_PKEY *key_make(const char *type, OSSL_PARAM_BLD *build)
{
    OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;

    if (!params || !ctx)
        abort();
    if (EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);
    ERR_clear_error();
    return key;
}

static EVP_PKEY *rsa_key(const json_t *json, struct arena *arena)
{
    unsigned char n[KEY_BYTES_MAX], e[KEY_BYTES_MAX];
    size_t n_len, e_len;
    OSSL_PARAM_BLD *build;
    BIGNUM *modulus, *exponent;
    EVP_PKEY *key = NULL;

    if (!json_bytes(json, "n", arena, n, &n_len) || !json_bytes(json, "e", arena, e, &e_len) ||
        e_len > 8)
        return NULL;
    build = OSSL_PARAM_BLD_new();
    modulus = BN_bin2bn(n, (int)n_len, NULL);
    exponent = BN_bin2bn(e, (int)e_len, NULL);
    if (!build || !modulus || !exponent)
        abort();
    if (BN_num_bits(modulus) >= RSA_BITS_MIN && BN_num_bits(modulus) <= RSA_BITS_MAX &&
        BN_is_odd(exponent) && BN_num_bits(exponent) > 1 &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus) &&
        OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent))
        key = key_make("RSA", build);
    BN_free(modulus);
    BN_free(exponent);
    OSSL_PARAM_BLD_free(build);
    return key;
}

static EVP_PKEY *p256_key(const json_t *json, struct arena *arena)
{
    unsigned char x[KEY_BYTES_MAX], y[KEY_BYTES_MAX], point[1 + 2 * P256_BYTES] = {4};
    size_t x_len, y_len;
    OSSL_PARAM_BLD *build;
    EVP_PKEY *key = NULL;

    if (!span_eq(json_text(json, "crv"), SPAN("P-256")) ||
        !json_bytes(json, "x", arena, x, &x_len) || !json_bytes(json, "y", arena, y, &y_len) ||
        x_len != P256_BYTES || y_len != P256_BYTES)
        return NULL;
    memcpy(point + 1, x, P256_BYTES);
    memcpy(point + 1 + P256_BYTES, y, P256_BYTES);
    build = OSSL_PARAM_BLD_new();
    if (!build)
        abort();
    if (OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) &&
        OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)))
        key = key_make("EC", build);
    OSSL_PARAM_BLD_free(build);
    return key;
}

static void key_add(struct jwks *jwks, const json_t *json)
{
    struct span kid = json_text(json, "kid"), type = json_text(json, "kty");
    struct span use = json_text(json, "use"), alg = json_text(json, "alg");
    bool rsa = span_eq(type, SPAN("RSA"));
    EVP_PKEY *key;

    if (jwks->count == JWKS_KEYS_MAX || !kid.len || (!rsa && !span_eq(type, SPAN("EC"))) ||
        (use.base && !span_eq(use, SPAN("sig"))) ||
        (alg.base && !span_eq(alg, rsa ? SPAN("RS256") : SPAN("ES256"))))
        return;
    key = rsa ? rsa_key(json, jwks->arena) : p256_key(json, jwks->arena);
    if (key)
        jwks->keys[jwks->count++] = (struct jwks_key){
            .kid = arena_copy(jwks->arena, kid), .alg = rsa ? JWT_RS256 : JWT_ES256, .key = key};
}

int jwks_parse(struct span text, struct jwks **ret)
{
    json_t *json = text.len <= JWKS_BYTES_MAX ? json_loadb(text.base ? text.base : "", text.len,
                                                           JSON_REJECT_DUPLICATES, NULL)
                                              : NULL;
    json_t *keys = json_object_get(json, "keys"), *one;
    struct jwks *jwks = xcalloc(1, sizeof(*jwks));
    size_t i;

    jwks->arena = arena_new();
    json_array_foreach(keys, i, one)
    {
        key_add(jwks, one);
    }
    json_decref(json);
    if (!jwks->count) {
        jwks_free(jwks);
        return -EBADMSG;
    }
    *ret = jwks;
    return 0;
}

struct jwks *jwks_free(struct jwks *jwks)
{
    if (!jwks)
        return NULL;
    for (unsigned i = 0; i < jwks->count; i++)
        EVP_PKEY_free(jwks->keys[i].key);
    arena_free(jwks->arena);
    free(jwks);
    return NULL;
}

/* A token holds r and s as they are, OpenSSL wants them in DER. malloc'ed by OpenSSL; NULL: not
 * such a pair. */
static unsigned char *ecdsa_der(struct span signature, size_t *ret_len)
{
    const unsigned char *bytes = (const unsigned char *)signature.base;
    unsigned char *der = NULL;
    ECDSA_SIG *pair;
    BIGNUM *r, *s;
    int len;

    if (signature.len != 2 * P256_BYTES)
        return NULL;
    pair = ECDSA_SIG_new();
    r = BN_bin2bn(bytes, P256_BYTES, NULL);
    s = BN_bin2bn(bytes + P256_BYTES, P256_BYTES, NULL);
    if (!pair || !r || !s || !ECDSA_SIG_set0(pair, r, s))
        abort();
    len = i2d_ECDSA_SIG(pair, &der);
    ECDSA_SIG_free(pair);
    *ret_len = len > 0 ? (size_t)len : 0;
    return len > 0 ? der : NULL;
}

static bool key_verify(EVP_PKEY *key, struct span text, const unsigned char *signature, size_t len)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good;

    if (!ctx)
        abort();
    good = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
           EVP_DigestVerify(ctx, signature, len, (const unsigned char *)text.base, text.len) == 1;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    return good;
}

bool jwks_verify(const struct jwks *jwks, const struct jwt *token)
{
    for (unsigned i = 0; i < jwks->count; i++) {
        const struct jwks_key *key = &jwks->keys[i];
        const unsigned char *signature = (const unsigned char *)token->signature.base;
        unsigned char *der = NULL;
        size_t len = token->signature.len;
        bool good;

        if (key->alg != token->alg || !span_eq(key->kid, token->kid))
            continue;
        if (token->alg == JWT_ES256)
            signature = der = ecdsa_der(token->signature, &len);
        good = signature && key_verify(key->key, token->signed_text, signature, len);
        OPENSSL_free(der);
        if (good)
            return true;
    }
    return false;
}
