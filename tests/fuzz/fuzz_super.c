/* super_decode of arbitrary bytes: never out of bounds, and what it takes for good means what it
 * says (encoding it again gives the same fields). The checksum is put right in a second try, since
 * no mutation would ever find it. */
#include <string.h>

#include "base/bytes.h"
#include "base/crc64.h"
#include "cache/super.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *page)
{
    struct super super = {0}, again = {0};
    char copy[SUPER_BYTES];

    if (super_decode(page, &super) < 0)
        return;
    super_encode(&super, copy);
    if (super_decode(copy, &again) < 0 || memcmp(&super, &again, sizeof(super)) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char page[SUPER_BYTES] = {0};

    memcpy(page, data, size < SUPER_BYTES ? size : SUPER_BYTES);
    check(page);
    le64_put(page + SUPER_BYTES - 8, crc64(0, page, SUPER_BYTES - 8));
    check(page);
    return 0;
}
