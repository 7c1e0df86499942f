/* blobapi/range.c - byte ranges, as the service reads them. */
#include "blobapi/range.h"

#include <errno.h>

int range_parse(struct span text, struct range_request *ret)
{
    struct span unit = SPAN("bytes="), last_text, first_text;
    uint64_t first, last = UINT64_MAX;

    if (text.len < unit.len || !span_eq_nocase(span_from(text.base, unit.len), unit))
        return -EINVAL;
    first_text = span_cut(span_skip(text, unit.len), '-', &last_text);
    if (!last_text.base || span_to_u64(first_text, &first) < 0)
        return -EINVAL;
    if (last_text.len && (span_to_u64(last_text, &last) < 0 || last < first))
        return -EINVAL;
    ret->given = true;
    ret->open = !last_text.len;
    ret->first = first;
    ret->last = last;
    return 0;
}

/* "true" and "false" in any case; an empty value counts as absent. */
static bool flag_parse(struct span text, bool *ret)
{
    if (text.len && !span_eq_nocase(text, SPAN("true")) && !span_eq_nocase(text, SPAN("false")))
        return false;
    *ret = span_eq_nocase(text, SPAN("true"));
    return true;
}

enum az_error range_request_parse(const struct header *headers, unsigned header_count,
                                  struct range_request *ret, struct span *ret_culprit)
{
    struct range_request request = {0};
    struct span plain = {NULL, 0}, ms = {NULL, 0};

    for (unsigned i = 0; i < header_count; i++) {
        struct span name = headers[i].name, value = headers[i].value;

        if (span_eq(name, SPAN("range")))
            plain = value;
        else if (span_eq(name, SPAN("x-ms-range")))
            ms = value;
        else if ((span_eq(name, SPAN("x-ms-range-get-content-md5")) &&
                  !flag_parse(value, &request.md5)) ||
                 (span_eq(name, SPAN("x-ms-range-get-content-crc64")) &&
                  !flag_parse(value, &request.crc64))) {
            *ret_culprit = name;
            return AZ_INVALID_HEADER_VALUE;
        }
    }
    range_parse(ms.len ? ms : plain, &request); /* malformed: as if absent */
    if ((request.md5 && request.crc64) || ((request.md5 || request.crc64) && !request.given)) {
        *ret_culprit =
            request.md5 ? SPAN("x-ms-range-get-content-md5") : SPAN("x-ms-range-get-content-crc64");
        return AZ_INVALID_HEADER_VALUE;
    }
    *ret = request;
    return AZ_OK;
}

enum az_error range_resolve(const struct range_request *request, uint64_t blob_bytes,
                            struct range *ret)
{
    uint64_t end;

    if (!request->given) {
        *ret = (struct range){0, blob_bytes};
        return AZ_OK;
    }
    if (request->first >= blob_bytes)
        return AZ_INVALID_RANGE;
    end = request->last < blob_bytes - 1 ? request->last + 1 : blob_bytes;
    if ((request->md5 || request->crc64) &&
        (request->open ? end - request->first > RANGE_HASH_BYTES_MAX
                       : request->last - request->first >= RANGE_HASH_BYTES_MAX))
        return AZ_OUT_OF_RANGE_INPUT;
    *ret = (struct range){request->first, end - request->first};
    return AZ_OK;
}
