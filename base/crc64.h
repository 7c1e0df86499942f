/* base/crc64.h - CRC-64/NVME, the x-ms-content-crc64 of the Blob service and the checksum of every
 * byte on our devices. Polynomial 0x9A6C9329AC4BC9B5 (reflected), init and xorout all ones.
 * Check value of "123456789": 0xAE8B14860A799888. Header form: base64 of 8 bytes little-endian.
 * The kernel (table, PCLMUL, VPCLMULQDQ) is chosen from the CPU before main(). Pure; any thread. */
#ifndef BASE_CRC64_H
#define BASE_CRC64_H

#include <stddef.h>
#include <stdint.h>

/* Continues crc (0 for the first piece) over more bytes. */
uint64_t crc64(uint64_t crc, const void *base, size_t bytes);
/* crc64 of A followed by B, from crc64(A), crc64(B) and B's length; O(log length). */
uint64_t crc64_combine(uint64_t crc_a, uint64_t crc_b, uint64_t bytes_b);
/* "table", "pclmul" or "vpclmul"; tests may force one (NULL: by CPU). -ENOTSUP if the CPU lacks it.
 */
const char *crc64_kernel(void);
int crc64_force(const char *kernel) __attribute__((warn_unused_result));

#endif
