/* blobapi/errors.h - the errors the dialect answers with; errors.def is the table. Pure; any
 * thread. */
#ifndef BLOBAPI_ERRORS_H
#define BLOBAPI_ERRORS_H

#include "base/span.h"

enum az_error {
    AZ_OK,
#define AZ_ERROR(name, status, code, message) AZ_##name,
#include "blobapi/errors.def"
#undef AZ_ERROR
    AZ_ERRORS
};

int az_status(enum az_error error);
struct span az_code(enum az_error error);    /* of x-ms-error-code and <Code> */
struct span az_message(enum az_error error); /* one line; also the reason phrase */

/* What an errno of cache or upstream means where the operation has nothing more exact to say.
 * 0 gives AZ_OK. Unknown: AZ_INTERNAL_ERROR. */
enum az_error az_from_errno(int err);

#endif
