/* blobapi/batch_run.h - the parts of a Blob Batch, each as a request of its own.
 *
 * A part is an exchange over memory: it passes the router and its operation's handler as any
 * request does, with its own credentials, contract and answer; what it answers is kept as the text
 * of one part of the whole's answer. Several run at once, so that the committer makes their changes
 * durable in a few groups. Loop thread of the whole. Private to blobapi/. */
#ifndef BLOBAPI_BATCH_RUN_H
#define BLOBAPI_BATCH_RUN_H

#include "blobapi/batch_parse.h"
#include "blobapi/request.h"

#define BATCH_RUNNING_MAX 32

struct batch_run;
struct batch_slot {       /* one part that is running */
    struct exchange http; /* arena NULL: the slot is free */
    struct batch_run *run;
    unsigned part;
    struct span head, body; /* its answer so far, in the whole's arena */
};
struct batch_run {
    /* set by its owner, unchanged while it runs */
    struct request *whole;
    const struct batch_part *parts;
    unsigned count;
    struct span boundary; /* of the answer */
    struct span *answers; /* count of them; filled as parts end, in the whole's arena */

    struct span bare_host; /* reads a path without the account's name */
    unsigned started, running;
    bool cancelled;
    bool kicked;            /* `turn` is posted */
    struct completion turn; /* goes on with parts that have not started */
    struct timer pause;     /* likewise, when other connections have had theirs */
    struct completion *done;
    struct batch_slot slots[BATCH_RUNNING_MAX];
};

/* Before anything runs: are all parts the same one of Delete Blob and Set Blob Tier, on blobs that
 * a batch of this target may speak of? AZ_OK; AZ_INVALID_INPUT;
 * AZ_ALL_BATCH_SUB_REQUESTS_SHOULD_BE_SAME_API. */
enum az_error batch_run_judge(struct batch_run *run);
/* Runs all; done when the last has ended: 0, then each part has its answer. Cancellable: what runs
 * is cancelled and awaited, the rest not begun, -ECANCELED. */
void batch_run_start(struct batch_run *run, struct completion *done);
/* One part of an answer: the delimiter, the envelope (content_id base NULL: without), status line,
 * headers, body. In the arena. */
struct span batch_part_text(const struct batch_run *run, struct span content_id,
                            const struct response *response, struct span body);

#endif
