/* upstream/upload.h - one entry of the write-back queue on its way; shared by upload.c (which
 * request, what the answer means, how it ends), blocks.c (large contents), amend.c (tags) and
 * prove.c (lost answers). */
#ifndef UPSTREAM_UPLOAD_H
#define UPSTREAM_UPLOAD_H

#include "upstream/internal.h"
#include "upstream/verdict.h"

#define BLOCKS_PARALLEL    4
#define BLOCK_ATTEMPTS_MAX 5
#define BLOCK_ID_BYTES     44
#define RESTAGES_MAX       3

/* Get Block List into names and sizes (staged_list.c). */
struct block_name {
    struct span id; /* decoded */
    uint64_t bytes;
};
struct staged_list;
struct staged_list *staged_list_new(void);
struct staged_list *staged_list_free(struct staged_list *list);
int staged_list_feed(struct staged_list *list, struct span bytes) must_check;
int staged_list_end(struct staged_list *list) must_check; /* uncommitted ones are sorted by id */
const struct block_name *staged_list_get(const struct staged_list *list, bool committed,
                                         size_t *ret_count);
bool staged_list_has(const struct staged_list *list, struct span id,
                     uint64_t bytes); /* uncommitted */

struct blocks;

struct sending {
    struct op op;
    struct upstream *upstream;
    struct remote *remote;
    struct pump *pump;
    struct upload *upload;
    struct arena *arena;             /* what outlives one request */
    enum upload_operation operation; /* of the request in flight */
    bool as_blocks;                  /* though it is small */
    bool unconditional;              /* conflict = ours: the base no longer counts */
    bool looking;                    /* proves before it sends: no condition has failed */
    struct wan wan;
    struct load load;
    struct blocks *blocks;
    struct staged_list *proof; /* committed, prove.c */
    struct span headed_etag;   /* of the version looked at: prove.c, amend.c */
    int64_t headed_modified_ns;
    unsigned restages;
    struct name theirs; /* superseded: what to ask the cloud for afterwards */
    struct {
        enum upload_end end;
        struct span etag, reason; /* arena */
        int64_t modified_ns;
        uint64_t retry_after_ns;
    } result;
};
#define SENDING(o) container_of(o, struct sending, op)

/* Starts a request of this entry: path, and the condition its base asks for when `conditional`. */
void sending_request(struct sending *s, enum upload_operation operation, enum wan_method method,
                     bool conditional);
void sending_crc(struct sending *s, struct wan *wan, uint64_t crc, bool beside_md5);
/* Ends of an entry. */
struct next sending_confirmed(struct sending *s); /* by the answer in s->wan */
struct next sending_retry(struct sending *s, struct span reason, uint64_t after_ns);
struct next sending_superseded(struct sending *s); /* theirs stands */
struct next sending_held(struct sending *s, struct span reason);
/* What the answer (or its lack) means; done is the caller's step after success. */
struct next sending_judge(struct sending *s, int wan_err, struct next done);
struct next sending_decide(struct sending *s, enum verdict verdict, struct span reason,
                           uint64_t after_ns, struct next done);
/* Was it the checksum header it refused? Then it is not sent again, and the request may be
 * repeated. */
bool sending_crc_refused(struct sending *s, const struct wan *wan);
/* amend.c: a change that leaves the version's ETag. It has no conditions of its own, so the version
 * is looked at first. */
bool upload_amends(const struct upload *upload);
struct next amend_start(struct sending *s);
/* A condition failed, or our blocks are committed: was it our own success? */
struct next prove_start(struct sending *s);
/* blocks.c: stage all blocks, then commit. */
struct next blocks_start(struct sending *s);
struct next blocks_commit(struct sending *s);
struct next blocks_go_on(struct sending *s); /* the committed blocks are ours, the rest is not */
void blocks_free(struct blocks *blocks);     /* NULL is fine */
/* Are these committed blocks, in order, exactly those this version goes up as? Objects never
 * change, so box, object and offset tell without reading a byte; where a CRC is known it counts as
 * well. */
bool blocks_match(const struct sending *s, const struct block_name *names, size_t count);
struct next upload_resend(struct sending *s); /* from the beginning, in the same attempt */

#endif
