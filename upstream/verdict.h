/* upstream/verdict.h - one table: (operation, HTTP status, error code) -> what to do next. Pure. */
#ifndef UPSTREAM_VERDICT_H
#define UPSTREAM_VERDICT_H

#include "base/span.h"

enum upload_operation {
    OP_CONTENT = 1 << 0, /* Put Blob */
    OP_BLOCK = 1 << 1,
    OP_BLOCK_LIST = 1 << 2, /* Get Block List */
    OP_COMMIT = 1 << 3,     /* Put Block List */
    OP_PROPERTIES = 1 << 4,
    OP_METADATA = 1 << 5,
    OP_DELETE = 1 << 6,
    OP_CONTAINER_CREATE = 1 << 7,
    OP_CONTAINER_DELETE = 1 << 8,
    OP_CONTAINER_METADATA = 1 << 9,
    OP_HEAD = 1 << 10, /* proof of a lost answer; the version before it is amended */
    OP_TAGS = 1 << 11,
    OP_TIER = 1 << 12,
    OP_ANY = (1 << 13) - 1,
};

enum verdict {
    VERDICT_DONE,
    VERDICT_RETRY,
    VERDICT_WAIT,
    VERDICT_RECONNECT,
    VERDICT_RESTAGE,
    VERDICT_CONFLICT,
    VERDICT_HELD,
};

enum verdict verdict_of(enum upload_operation operation, int status, struct span code);
const char *verdict_name(enum verdict verdict);

#endif
