/* A structured body: the first byte is the size of the pieces it comes in, the next two the length
 * its headers speak of, the rest the body. What decodes is what its checksums say, in one piece
 * too. */
#include <stdlib.h>

#include "base/crc64.h"
#include "blobapi/structured.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct structured_in in;
    size_t piece, content, n, out = 0;
    char *body;

    if (size < 3)
        return 0;
    piece = data[0] + 1u;
    content = data[1] | (size_t)data[2] << 8;
    n = size - 3;
    body = malloc(n + 1);
    if (n)
        memcpy(body, data + 3, n);
    structured_in_init(&in, n, content);
    for (size_t at = 0; at < n; at += piece) {
        size_t got;

        if (structured_decode(&in, body + at, MIN(piece, n - at), &got) < 0)
            goto out;
        assert(got <= MIN(piece, n - at));
        memmove(body + out, body + at, got);
        out += got;
    }
    if (in.region == STRUCTURED_WHOLE) {
        assert(out == content && structured_lengths_fit(n, content));
        assert(in.crc64 == crc64(0, body, out));
    }
out:
    free(body);
    return 0;
}
