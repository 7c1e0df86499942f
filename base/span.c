#include "base/span.h"

#include <errno.h>

int span_to_u64(struct span s, uint64_t *ret)
{
    uint64_t v = 0;

    if (s.len == 0)
        return -EINVAL;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned char)s.base[i] - '0';

        if (digit > 9 || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, digit, &v))
            return -EINVAL;
    }
    *ret = v;
    return 0;
}
