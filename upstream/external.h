/* upstream/external.h - a copy source that is not this box's: one ranged GET of a URL elsewhere,
 * read once and in order, with back-pressure.
 *
 * external_open, external_read until less than a buffer comes, external_close: calls of the
 * caller's loop, one at a time (O1). A body that is cut goes on where it stopped, by If-Match on
 * the ETag it began with; a source without an ETag, or with another one by then, ends it. Redirects
 * are not followed: a 3xx is the source's answer. Where may be connected to is network.h's.
 *
 * Errors: -EINVAL no URL; -EACCES its origin is not allowed; -EPERM it is, but its addresses are
 * not; -EHOSTUNREACH, -ETIMEDOUT nobody answers; -ECONNRESET cut for good; -ESTALE it has changed
 * in mid-body; -EPROTO it makes no sense (no length, more than it said); -EBUSY too many sources at
 * once (UPSTREAM_ORIGINS_MAX); -ECANCELED. */
#ifndef UPSTREAM_EXTERNAL_H
#define UPSTREAM_EXTERNAL_H

#include "upstream/upstream.h"

#define EXTERNAL_CONNECTIONS 32 /* to one of them */

struct external;

struct external_spec {
    struct span url;           /* as the client sent it */
    struct span authorization; /* empty: none */
    struct range range;        /* len 0: all of it; UINT64_MAX: to its end */
};
/* What its head says. Spans until external_close. */
struct external_head {
    int status;                /* 200, 206; else its refusal, and nothing to read */
    struct span code;          /* x-ms-error-code of a refusal, or empty */
    struct blob_record record; /* length: of the whole; cloud_etag as text, or empty */
    struct range range;        /* what the body brings */
};
/* done: at the head, whatever it says, or with an error. Sets done->cancel. *ret is to be closed in
 * any case, but not before done. */
void external_open(struct upstream *upstream, const struct external_spec *spec,
                   struct external **ret, struct completion *done);
const struct external_head *external_head(const struct external *external);
/* Fills into from used on; done when it is full or the body has ended (head.range says where). Sets
 * done->cancel: into is the callee's until done. */
void external_read(struct external *external, struct iobuf *into, struct completion *done);
struct external *external_close(struct external *external); /* never waits; NULL is fine */

#endif
