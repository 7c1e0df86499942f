/* blobapi/batch_parse.h - the body of Blob Batch: multipart/mixed, each part one HTTP request.
 *
 * Reads what clients write (surface section 1, "Batch"); what a part asks for is judged where it is
 * run. Pure; any thread; does not block (a body has 4 MiB at most). What is returned lies in the
 * arena or points into what was passed in. */
#ifndef BLOBAPI_BATCH_PARSE_H
#define BLOBAPI_BATCH_PARSE_H

#include "base/arena.h"
#include "base/util.h"
#include "blobapi/exchange.h"

#define BATCH_PARTS_MAX          256
#define BATCH_BYTES_MAX          MIB(4)
#define BATCH_BOUNDARY_BYTES_MAX 70 /* RFC 2046, 5.1.1 */
#define BATCH_PART_HEADERS_MAX   64

struct batch_part {
    struct span content_id;     /* as written, to be echoed; base NULL: the part has none */
    struct span method, target; /* target: path and query exactly as written */
    const struct header *headers;
    unsigned header_count;
};

/* The boundary out of the Content-Type of the whole, quoted or not. -EINVAL: not multipart/mixed,
 * no boundary, or one that no line can hold. */
int batch_boundary(struct span content_type, struct span *ret) must_check;
/* The parts in the order sent, at least one. -EBADMSG: not such a body (also a truncated one);
 * -ENODATA: no part in it; -E2BIG: more than BATCH_PARTS_MAX. */
int batch_parse(struct span body, struct span boundary, struct arena *arena,
                const struct batch_part **ret, unsigned *ret_n) must_check;

#endif
