/* blobapi/range.h - Range and x-ms-range of a read. Pure; any thread. */
#ifndef BLOBAPI_RANGE_H
#define BLOBAPI_RANGE_H

#include "base/span.h"
#include "base/util.h"
#include "blobapi/errors.h"
#include "blobapi/exchange.h"

#define RANGE_HASH_BYTES_MAX (4u << 20) /* of x-ms-range-get-content-md5 and -crc64 */

struct range_request {
    bool given; /* a well-formed range; malformed and multiple ones count as absent: 200 with all
                   bytes */
    bool open;  /* "bytes=a-" */
    uint64_t first, last; /* last is inclusive; UINT64_MAX when open */
    bool md5, crc64;      /* asked for the hash of the range */
};

/* "bytes=a-b" or "bytes=a-"; 0, or -EINVAL with *ret untouched. Suffixes ("bytes=-n") are not the
 * service's. */
int range_parse(struct span text, struct range_request *ret);
/* x-ms-range wins over Range. AZ_OK, or AZ_INVALID_HEADER_VALUE: a hash asked for without a range,
 * both hashes, a value that is neither true nor false. *ret_culprit: the header's name. */
enum az_error range_request_parse(const struct header *headers, unsigned header_count,
                                  struct range_request *ret, struct span *ret_culprit) must_check;
/* Cuts it to the blob: *ret is what to send (all when none was given). AZ_OK, AZ_INVALID_RANGE
 * (416: the first byte is not in the blob; so every range of an empty one), AZ_OUT_OF_RANGE_INPUT
 * (400: a hash over more than 4 MiB). */
enum az_error range_resolve(const struct range_request *request, uint64_t blob_bytes,
                            struct range *ret) must_check;

#endif
