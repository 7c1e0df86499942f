/* cache/uploads.h - the write-back queue: which changes the cloud still has to get, and whose turn
 * it is. All entries are in memory and in FAM_UPLOADS. Private to cache/. Invariants:
 * cache/README.md U1-U8. */
#ifndef CACHE_UPLOADS_H
#define CACHE_UPLOADS_H

#include "cache/order.h"
#include "cache/record.h"

#define UPLOADS_MAX                                                                                \
    (4u << 20) /* entries: about 400 bytes of memory each. More: changes get -ENOSPC */

/* Phases of a batch in order = safe; containers stand outside of batches. */
enum upload_phase { PHASE_NEW, PHASE_OVERWRITE, PHASE_MARKER, PHASE_DELETE, PHASES };

struct upload_line {
    struct upload_entry *head, **tail;
};

/* A place in a doubly linked list. */
struct upload_link {
    struct upload_entry *next, **at; /* at NULL: in none */
};

struct upload_entry {
    uint64_t seq;
    struct upload_row row; /* spans into memory */
    const struct contract *contract;
    uint64_t hash;
    enum upload_phase phase;
    enum { UPLOAD_WAITING, UPLOAD_FLYING, UPLOAD_DELAYED, UPLOAD_STOPPED /* held */ } state;
    bool queued;  /* in the tables */
    bool durable; /* its change is: may be sent */
    bool tried;   /* the cloud may have seen it: never replaced any more */
    bool dropped; /* its container is gone: ends without effect */
    bool failed;  /* the change that made it failed */
    unsigned attempts;
    uint64_t due_ns; /* of UPLOAD_DELAYED, monotonic */
    struct upload_line *line;
    struct upload_entry *line_next, **line_at;  /* the line it stands in */
    struct upload_entry *name_next, *name_prev; /* older to newer entries of the name */
    struct upload_entry *hash_next;             /* heads of names (oldest entries) */
    struct upload_entry *create_next;
    struct upload_link brings, removes; /* by the lineage it brings and takes away */
    struct upload_link copy;            /* of uploads->copies */
    struct upload_line waiters;         /* those that may not go before this one has arrived (U9) */
    struct upload_entry *replaced_next; /* in tx->replaced */
    char *base_etag;                    /* owned, when set after it was made */
    char *held;
};

int uploads_open(struct cache *cache); /* reads FAM_UPLOADS */
/* Serving: rows of entries that came to nothing go. */
void uploads_start(struct cache *cache);
void uploads_close(struct cache *cache);
/* Committer thread, in decide: what the tx means for the queue, as entries of its change. 0,
 * -ENOSPC. Sets tx->cancelled when nothing need be told to the cloud. */
int uploads_order(struct tx *tx, struct change *change) must_check;
void uploads_ended(struct tx *tx, int err); /* publish */
/* As ordered. Does an entry refer to that version, to that content, to the name at all? */
bool uploads_need_version(struct cache *cache, uint64_t container, struct span blob, uint64_t etag);
bool uploads_need_content(struct cache *cache, uint64_t container, struct span blob,
                          uint64_t content);
bool uploads_have_container(struct cache *cache, uint64_t container); /* any entry of it or in it */
bool uploads_have(struct cache *cache, uint64_t container, struct span blob);

struct uploads_stats {
    uint64_t waiting, flying, held, oldest_ns;
};
struct uploads_stats uploads_stats(struct cache *cache);

#endif
