/* cache/order.h - FIFO order of changes per name, and struct tx, one change of one name. Private to
 * cache/. Invariants: cache/README.md N1-N4. */
#ifndef CACHE_ORDER_H
#define CACHE_ORDER_H

#include "cache/internal.h"

#define ORDER_SHARDS     64
#define ORDER_BUCKETS    256   /* names under change per shard before chains grow */
#define NAME_WAITING_MAX 10000 /* changes waiting for one name */

struct order;
struct upload_entry;

enum tx_what {
    TX_NOTHING,
    TX_PUT,
    TX_APPEND,
    TX_DESCRIBE, /* new properties, same content */
    TX_ADOPT,    /* same version: what was learned or confirmed of it */
    TX_DELETE,
    TX_SNAPSHOTS, /* same version; snapshots of the name came or went */
    TX_PUT_CONTAINER,
    TX_DELETE_CONTAINER,
};

/* One change of one name. Before commit its owner's, then the committer's. */
struct tx {
    struct cache *cache;
    uint64_t container; /* CONTAINER_NAMES: a container, name is account and name */
    struct span name;   /* owned */
    uint64_t hash;
    uint32_t account; /* of a container change */
    struct order *order;
    struct tx *next; /* waiting */
    struct tx **ret; /* until granted */
    struct completion *begun;
    struct completion unread; /* its name cannot be read: ends on begun's loop */

    struct blob *current; /* last ordered version, any state; NULL none */
    struct container *current_container;
    uint64_t rests_on;  /* serial of the change `current` comes from; 0: durable */
    bool rests_unknown; /* and that one forgot the name: nobody here knows what the cloud has */
    uint64_t serial;    /* own place, once queued */

    enum tx_what what;
    struct blob *blob;           /* what is to be published */
    struct container *described; /* likewise */
    bool forget;                 /* nothing stays: no row, no tombstone */
    bool unknown;                /* and what the cloud has is not known here */
    bool drop_staged;
    bool reuses;    /* committed blocks: bytes that may lie in the cloud only */
    bool uploads;   /* upload below counts */
    bool cancelled; /* decided: the cloud need not hear of it */
    struct upload_spec upload;
    struct upload_entry *entry;    /* made by the queue when ordered */
    struct upload_entry *replaced; /* taken off the queue by this change; back if it fails */
    struct upload *ended;          /* this upload has ended: confirmed or superseded */
    bool confirmed;
    struct span ended_etag; /* what the cloud calls it now; the upload's memory */
    uint64_t doubt;         /* number of the mark that goes with what was learned; 0: none */
    bool lifts;             /* decided: it goes */
    uint64_t ask;           /* ticket: refuse with -ESTALE if anything happened since; 0: none */
    uint64_t guarded;       /* manifest rows already submitted */
    struct parts *parts;    /* those; NULL: all in one change */
    _Atomic unsigned refs;  /* once committed: the committer's and the submitter's */
    struct completion *done;
    struct change *change;
    void *resolving;                    /* blocks.c, snapshots.c: what its worker is given */
    struct blob *snapshot;              /* made by it, or found to be deleted */
    bool snapshot_goes, snapshot_alone; /* deleted; and nothing else has its content */
    bool snapshots_share;               /* of the version that stays, without it */
    uint64_t snapshots_drop;            /* all up to that time go; 0: none */
};
#define CONTAINER_NAMES                                                                            \
    UINT64_MAX /* no container has this id: names of containers are ordered under it */

/* cache_begin without its checks: for learned and confirmed changes too. */
void order_begin(struct cache *cache, uint64_t container, struct span name, uint32_t account,
                 struct tx **ret, struct completion *done);
/* Holding the turn: the change will be submitted next; what it makes is what the next one sees. */
void order_queued(struct tx *tx);
void order_leave(struct tx *tx);          /* gives the turn on */
bool order_refused(const struct tx *tx);  /* committer: what it rests on does not hold (N3) */
void order_agreed(const struct tx *tx);   /* committer: it was decided, and is what it says */
void order_ended(struct tx *tx, int err); /* committer: after publishing */
/* A change of a name that takes no turn (a page that was learned); committer, in decide. False:
 * somebody has the turn, or something is queued; *undecided: that may end without a change. Else
 * what it makes (NULL: the name is gone) is what the next one is judged on, as after order_queued
 * and order_agreed; order_unclaim ends it. */
struct order_claim {
    struct order *order;
    uint64_t hash, serial;
};
bool order_claim(struct cache *cache, uint64_t container, struct span name, struct blob *blob,
                 struct order_claim *ret, bool *undecided) must_check;
void order_unclaim(struct cache *cache, const struct order_claim *claim, int err);
/* done when the change the tx rests on has ended; the turn stays the tx's. -EIO: it failed. */
void order_settle(struct tx *tx, struct completion *done);
/* The same; consumes the tx */
void order_await_rest(struct tx *tx, struct completion *done);
struct tx *tx_free(struct tx *tx);

int orders_open(struct cache *cache);
void orders_close(struct cache *cache);

/* ---- tx.c ---- */

/* What was learned or confirmed: the blob (any state, its reference is taken) is the name's from
 * now on, under the local name it carries. Content that is not durable yet is linked as its record
 * says. */
void tx_adopt(struct tx *tx, struct blob *blob);
void tx_adopt_container(struct tx *tx, struct container *container); /* likewise */
void tx_forget(struct tx *tx); /* the name has no row any more */
/* Nor does the box know what the cloud has under the name: whoever needs it asks. */
void tx_unknown(struct tx *tx);
/* Object of a cloud version nobody has opened yet, as content of a new version with that record. */
struct blob *tx_cloud_blob(struct tx *tx, const struct blob_record *record);

#endif
