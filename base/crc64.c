/* base/crc64.c - CRC-64/NVME by table, PCLMULQDQ or VPCLMULQDQ.
 *
 * Everything here works on the reflected register: bit 63 stands for x^0. The carry-less kernels
 * keep N registers of 128 bits and move each over the bytes in between ("fold by D bits") with two
 * products: its low half, which holds the higher powers, times x^(D+63), its high half times
 * x^(D-1), both mod P; a product of two reflected values is one power short, hence the -1. At the
 * end one register is left, which is an equivalent message of 16 bytes and goes through the table.
 * Tables and fold constants are computed before main() and never change: any thread. What may
 * surprise: the 256-bit form is used also where AVX-512 is to be had. It is within the memory
 * bandwidth of a core and does not cost the clock anything. */
#include "base/crc64.h"

#include "base/span.h"
#include "base/util.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define POLY 0x9A6C9329AC4BC9B5ULL
#define X0   (1ULL << 63) /* the polynomial 1 */

struct fold {
    uint64_t low, high; /* factors of the register's low and high half */
};

static uint64_t table[8][256]; /* table[k][b]: byte b followed by k zero bytes */
static uint64_t x_power[67];   /* x^(2^k) mod P; 67: 8 times any 64-bit length */

/* a * b mod P, 64 steps. */
static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;

    for (; b; b <<= 1) {
        if (b & X0)
            product ^= a;
        a = (a >> 1) ^ (a & 1 ? POLY : 0);
    }
    return product;
}

/* x^n mod P */
static uint64_t power(uint64_t n)
{
    uint64_t product = X0;

    for (unsigned k = 0; n; k++, n >>= 1)
        if (n & 1)
            product = multiply(product, x_power[k]);
    return product;
}

static void tables_make(void)
{
    for (unsigned b = 0; b < 256; b++) {
        uint64_t r = b;

        for (unsigned bit = 0; bit < 8; bit++)
            r = (r >> 1) ^ (r & 1 ? POLY : 0);
        table[0][b] = r;
    }
    for (unsigned k = 1; k < 8; k++)
        for (unsigned b = 0; b < 256; b++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xff];
    x_power[0] = X0 >> 1;
    for (unsigned k = 1; k < countof(x_power); k++)
        x_power[k] = multiply(x_power[k - 1], x_power[k - 1]);
}

static uint64_t load64(const unsigned char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* All kernels take and return the bare register, without the inversion at both ends. */
static uint64_t update_table(uint64_t r, const unsigned char *at, size_t bytes)
{
    for (; bytes >= 8; at += 8, bytes -= 8) {
        r ^= load64(at);
        r = table[7][r & 0xff] ^ table[6][r >> 8 & 0xff] ^ table[5][r >> 16 & 0xff] ^
            table[4][r >> 24 & 0xff] ^ table[3][r >> 32 & 0xff] ^ table[2][r >> 40 & 0xff] ^
            table[1][r >> 48 & 0xff] ^ table[0][r >> 56];
    }
    for (; bytes; at++, bytes--)
        r = (r >> 8) ^ table[0][(r ^ *at) & 0xff];
    return r;
}

#if defined(__x86_64__)

#define TARGET_PCLMUL  __attribute__((target("pclmul,sse4.1")))
#define TARGET_VPCLMUL __attribute__((target("vpclmulqdq,pclmul,avx2")))
#define PCLMUL_BYTES   64  /* 4 registers of 128 bits */
#define VPCLMUL_BYTES  256 /* 8 registers of 256 bits */

static struct fold fold_128, fold_256, fold_512, fold_2048; /* by distance in bits */

static struct fold fold_make(unsigned bits)
{
    return (struct fold){.low = power(bits + 63), .high = power(bits - 1)};
}

TARGET_PCLMUL static inline __m128i constant_128(struct fold k)
{
    return _mm_set_epi64x((long long)k.high, (long long)k.low);
}

TARGET_PCLMUL static inline __m128i fold_x(__m128i r, __m128i k, __m128i next)
{
    return _mm_xor_si128(
        _mm_xor_si128(_mm_clmulepi64_si128(r, k, 0x00), _mm_clmulepi64_si128(r, k, 0x11)), next);
}

TARGET_PCLMUL static inline __m128i load_x(const unsigned char *at)
{
    return _mm_loadu_si128((const __m128i *)(const void *)at);
}

/* What is left: one register, then fewer than 16 bytes and those of its own, by table. */
TARGET_PCLMUL static uint64_t finish_x(__m128i r, const unsigned char *at, size_t bytes)
{
    const __m128i k = constant_128(fold_128);
    unsigned char last[16];

    for (; bytes >= 16; at += 16, bytes -= 16)
        r = fold_x(r, k, load_x(at));
    _mm_storeu_si128((__m128i *)(void *)last, r);
    return update_table(update_table(0, last, sizeof(last)), at, bytes);
}

TARGET_PCLMUL static uint64_t update_pclmul(uint64_t r, const unsigned char *at, size_t bytes)
{
    const __m128i far = constant_128(fold_512), near = constant_128(fold_128);
    __m128i a, b, c, d;

    if (bytes < PCLMUL_BYTES)
        return update_table(r, at, bytes);
    a = _mm_xor_si128(load_x(at), _mm_set_epi64x(0, (long long)r));
    b = load_x(at + 16);
    c = load_x(at + 32);
    d = load_x(at + 48);
    for (at += PCLMUL_BYTES, bytes -= PCLMUL_BYTES; bytes >= PCLMUL_BYTES;
         at += PCLMUL_BYTES, bytes -= PCLMUL_BYTES) {
        a = fold_x(a, far, load_x(at));
        b = fold_x(b, far, load_x(at + 16));
        c = fold_x(c, far, load_x(at + 32));
        d = fold_x(d, far, load_x(at + 48));
    }
    return finish_x(fold_x(fold_x(fold_x(a, near, b), near, c), near, d), at, bytes);
}

TARGET_VPCLMUL static inline __m256i fold_y(__m256i r, __m256i k, __m256i next)
{
    return _mm256_xor_si256(_mm256_xor_si256(_mm256_clmulepi64_epi128(r, k, 0x00),
                                             _mm256_clmulepi64_epi128(r, k, 0x11)),
                            next);
}

TARGET_VPCLMUL static inline __m256i load_y(const unsigned char *at)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)at);
}

TARGET_VPCLMUL static inline __m256i constant_256(struct fold k)
{
    return _mm256_broadcastsi128_si256(constant_128(k));
}

TARGET_VPCLMUL static uint64_t update_vpclmul(uint64_t r, const unsigned char *at, size_t bytes)
{
    const __m256i far = constant_256(fold_2048), near = constant_256(fold_256);
    __m256i v[8], sum;

    if (bytes < VPCLMUL_BYTES)
        return update_pclmul(r, at, bytes);
    for (unsigned i = 0; i < 8; i++)
        v[i] = load_y(at + 32 * i);
    v[0] = _mm256_xor_si256(v[0], _mm256_set_epi64x(0, 0, 0, (long long)r));
    for (at += VPCLMUL_BYTES, bytes -= VPCLMUL_BYTES; bytes >= VPCLMUL_BYTES;
         at += VPCLMUL_BYTES, bytes -= VPCLMUL_BYTES) {
#pragma GCC unroll 8
        for (unsigned i = 0; i < 8; i++)
            v[i] = fold_y(v[i], far, load_y(at + 32 * i));
    }
    sum = v[0];
    for (unsigned i = 1; i < 8; i++)
        sum = fold_y(sum, near, v[i]);
    return finish_x(fold_x(_mm256_castsi256_si128(sum), constant_128(fold_128),
                           _mm256_extracti128_si256(sum, 1)),
                    at, bytes);
}

#endif

struct kernel {
    const char *name;
    uint64_t (*update)(uint64_t r, const unsigned char *at, size_t bytes);
    bool supported;
};

static struct kernel kernels[] = {
/* best first */
#if defined(__x86_64__)
    {"vpclmul", update_vpclmul, false},
    {"pclmul", update_pclmul, false},
#endif
    {"table", update_table, true},
};
static const struct kernel *chosen;

static const struct kernel *kernel_best(void)
{
    for (size_t i = 0;; i++)
        if (kernels[i].supported)
            return &kernels[i];
}

__attribute__((constructor)) static void crc64_setup(void)
{
    tables_make();
#if defined(__x86_64__)
    fold_128 = fold_make(128);
    fold_256 = fold_make(256);
    fold_512 = fold_make(512);
    fold_2048 = fold_make(2048);
    __builtin_cpu_init();
    kernels[1].supported = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
    kernels[0].supported = kernels[1].supported && __builtin_cpu_supports("vpclmulqdq") &&
                           __builtin_cpu_supports("avx2");
#endif
    chosen = kernel_best();
}

uint64_t crc64(uint64_t crc, const void *base, size_t bytes)
{
    return ~chosen->update(~crc, base, bytes);
}

uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t bytes_b)
{
    uint64_t shift = X0;

    /* x^(8 n) by the bits of n, so that 8 n need not fit. The inversions at both ends cancel out.
     */
    for (unsigned k = 3; bytes_b; k++, bytes_b >>= 1)
        if (bytes_b & 1)
            shift = multiply(shift, x_power[k]);
    return multiply(crc_a, shift) ^ crc_b;
}

const char *crc64_kernel(void)
{
    return chosen->name;
}

int crc64_force(const char *kernel)
{
    if (!kernel) {
        chosen = kernel_best();
        return 0;
    }
    for (size_t i = 0; i < countof(kernels); i++)
        if (kernels[i].supported && strcmp(kernels[i].name, kernel) == 0) {
            chosen = &kernels[i];
            return 0;
        }
    return -ENOTSUP;
}
