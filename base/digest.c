/* base/digest.c - see digest.h. OpenSSL fails here only for want of memory: abort, like xmalloc. */
#include "base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

void hmac_sha256(struct span key, struct span text, unsigned char ret[SHA256_BYTES])
{
    unsigned len = SHA256_BYTES;

    if (!HMAC(EVP_sha256(), key.base, (int)key.len, (const unsigned char *)text.base, text.len, ret,
              &len))
        abort();
}

static void md5_begin(EVP_MD_CTX *ctx)
{
    if (!EVP_DigestInit_ex(ctx, EVP_md5(), NULL))
        abort();
}

struct md5 *md5_new(void)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();

    if (!ctx)
        abort();
    md5_begin(ctx);
    return (struct md5 *)ctx;
}

struct md5 *md5_free(struct md5 *md5)
{
    EVP_MD_CTX_free((EVP_MD_CTX *)md5);
    return NULL;
}

void md5_add(struct md5 *md5, struct span bytes)
{
    if (!EVP_DigestUpdate((EVP_MD_CTX *)md5, bytes.base, bytes.len))
        abort();
}

void md5_end(struct md5 *md5, unsigned char ret[MD5_BYTES])
{
    if (!EVP_DigestFinal_ex((EVP_MD_CTX *)md5, ret, NULL))
        abort();
    md5_begin((EVP_MD_CTX *)md5);
}

bool equal_constant_time(struct span a, struct span b)
{
    return a.len == b.len && CRYPTO_memcmp(a.base, b.base, a.len) == 0;
}
