/* base/bytes.h - integers in byte strings: little-endian in stored values, big-endian in keys (so
 * that byte order is number order). Pure. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_PAIR(name, bits, to, from)                                                           \
    static inline void name##_put(void *at, uint##bits##_t v)                                      \
    {                                                                                              \
        v = to(v);                                                                                 \
        memcpy(at, &v, sizeof(v));                                                                 \
    }                                                                                              \
    static inline uint##bits##_t name##_get(const void *at)                                        \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
                                                                                                   \
        memcpy(&v, at, sizeof(v));                                                                 \
        return from(v);                                                                            \
    }

BYTES_PAIR(le16, 16, htole16, le16toh)
BYTES_PAIR(le32, 32, htole32, le32toh)
BYTES_PAIR(le64, 64, htole64, le64toh)
BYTES_PAIR(be16, 16, htobe16, be16toh)
BYTES_PAIR(be32, 32, htobe32, be32toh)
BYTES_PAIR(be64, 64, htobe64, be64toh)

#undef BYTES_PAIR

#endif
