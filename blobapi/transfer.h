/* blobapi/transfer.h - bytes of a copy's source into new objects: of a version of this box whose
 * content cannot be shared (bodies located by their record, ranges, hashes to be checked), or of a
 * source elsewhere. Sub-routine of steps; loop thread. */
#ifndef BLOBAPI_TRANSFER_H
#define BLOBAPI_TRANSFER_H

#include "base/digest.h"
#include "blobapi/md5_chain.h"
#include "blobapi/request.h"

struct transfer {
    /* the caller's */
    struct blob *from;         /* its reference is the caller's, who keeps it until the end */
    struct external *external; /* instead of it; opened for the range, the caller's likewise */
    struct range range;        /* of it; not empty */
    uint64_t object_max;       /* bytes of one object; more become several */
    bool staged, want_md5;
    struct next changed; /* where to go when the cloud has another version by now */
    /* what came of it: an array in the arena, a reference each, until the caller takes them */
    struct piece *pieces;
    size_t count, room;
    unsigned char md5[16];

    uint64_t done;                     /* bytes pushed */
    uint64_t object_start, object_end; /* of the one being written */
    struct reader *reader;
    struct slice slice; /* read, not written yet */
    char *small;        /* a small body on its way; in the arena */
    size_t small_len;
    struct writer *writer;
    struct md5_chain *chain;
    unsigned asks;             /* of one gap, without a byte having come */
    _Atomic unsigned *counted; /* among those of its kind under way; NULL: not */
    uint64_t deadline_ns;
    struct next after;
};

/* Reads the range once and writes it: back-pressure is the writer's. Fails the request where that
 * fails; object pieces are the caller's afterwards. */
struct next transfer_run(struct request *r, struct transfer *transfer, struct next after);
void transfer_done(struct request *r,
                   struct transfer *transfer); /* op->free, or again; any state */

#endif
