/* base/digest.c - see digest.h. OpenSSL fails here only for want of memory: abort, like xmalloc.
 * HMAC (RFC 2104) goes through the plain SHA-256 functions: they are marked deprecated in favour of
 * EVP, but EVP allocates and looks its algorithm up for each call, several times the cost of
 * hashing a string to sign, on a path taken by each request. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/digest.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

_Static_assert(SHA256_BYTES == SHA256_DIGEST_LENGTH, "one SHA-256");

static void pad_start(SHA256_CTX *hash, const unsigned char key[SHA256_CBLOCK], unsigned char pad)
{
    unsigned char block[SHA256_CBLOCK];

    for (size_t i = 0; i < sizeof(block); i++)
        block[i] = key[i] ^ pad;
    SHA256_Init(hash);
    SHA256_Update(hash, block, sizeof(block));
    OPENSSL_cleanse(block, sizeof(block));
}

void hmac_sha256(struct span key, struct span text, unsigned char ret[SHA256_BYTES])
{
    unsigned char block[SHA256_CBLOCK] = {0}, inner[SHA256_BYTES];
    SHA256_CTX hash;

    if (key.len > sizeof(block))
        SHA256((const unsigned char *)key.base, key.len, block);
    else if (key.len)
        memcpy(block, key.base, key.len);
    pad_start(&hash, block, 0x36);
    SHA256_Update(&hash, text.base, text.len);
    SHA256_Final(inner, &hash);
    pad_start(&hash, block, 0x5c);
    SHA256_Update(&hash, inner, sizeof(inner));
    SHA256_Final(ret, &hash);
    OPENSSL_cleanse(block, sizeof(block));
    OPENSSL_cleanse(&hash, sizeof(hash));
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
