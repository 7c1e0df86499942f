/* blobapi/errors.c - the table of errors.def, and the one place where errno becomes an answer. */
#include "blobapi/errors.h"

#include "base/util.h"

static const struct row {
    int status;
    struct span code, message;
} rows[AZ_ERRORS] = {
    [AZ_OK] = {200, SPAN("OK"), SPAN("OK")},
#define AZ_ERROR(name, status, code, message) [AZ_##name] = {status, SPAN(code), SPAN(message)},
#include "blobapi/errors.def"
#undef AZ_ERROR
};

static const struct row *row_of(enum az_error error)
{
    assert(error < AZ_ERRORS);
    return &rows[error];
}

int az_status(enum az_error error)
{
    return row_of(error)->status;
}

struct span az_code(enum az_error error)
{
    return row_of(error)->code;
}

struct span az_message(enum az_error error)
{
    return row_of(error)->message;
}

enum az_error az_from_errno(int err)
{
    switch (-err) {
    case 0:
        return AZ_OK;
    case ENOENT:
        return AZ_BLOB_NOT_FOUND;
    case EEXIST:
        return AZ_BLOB_ALREADY_EXISTS;
    case EINVAL:
    case EBADMSG:
        return AZ_INVALID_INPUT;
    case EFBIG:
    case EMSGSIZE:
        return AZ_REQUEST_BODY_TOO_LARGE;
    case EACCES: /* the cloud refuses the box, not the client: the client may come back */
    case EAGAIN:
    case EBUSY:
    case ECANCELED:
    case EDQUOT:
    case EHOSTUNREACH:
    case EIO: /* a device was fenced: nothing was acknowledged */
    case ENODATA:
    case ENOSPC:
    case EPROTO:
    case EROFS:
    case ESTALE:
        return AZ_SERVER_BUSY;
    case ETIMEDOUT:
        return AZ_OPERATION_TIMED_OUT;
    default: /* EUCLEAN among them: damaged bytes are never papered over */
        return AZ_INTERNAL_ERROR;
    }
}
