/* cache/upload_queue.h - what uploads.c (entries, in commit order) and upload_next.c (turns, ends)
 * share. Private to these two. Everything here is under uploads->lock. */
#ifndef CACHE_UPLOAD_QUEUE_H
#define CACHE_UPLOAD_QUEUE_H

#include "cache/uploads.h"

#define UPLOAD_BUCKETS 65536

/* One contract line of one account: order = safe is kept within. Two batches live at a time, frozen
 * and frozen + 1; places in the arrays go by the batch's last bit. */
struct upload_scope {
    uint32_t account;
    const struct contract *contract;
    uint64_t frozen;
    struct upload_line line[2][PHASES]; /* waiting ones, the oldest of each name only */
    unsigned left[2][PHASES]; /* all that have not ended: waiting, flying, delayed, held */
    struct upload_scope *next;
};

struct uploads {
    pthread_mutex_t lock;
    struct upload_entry *names[UPLOAD_BUCKETS]; /* oldest entry of each name */
    struct upload_scope *scopes;
    struct upload_line containers; /* waiting ones of containers */
    struct upload_line delayed;
    struct upload_line blocked;   /* of containers whose create is still to be confirmed */
    struct upload_entry *creates; /* of containers, in any state */
    /* by lineage, in any state: those that bring content of it, those that take it away */
    struct upload_entry *brings[UPLOAD_BUCKETS], *removes[UPLOAD_BUCKETS];
    struct upload_entry *copies; /* newest first */
    unsigned count;
    uint64_t *stale; /* seqs of rows found at start that came to nothing */
    size_t stale_count;
    void (*wake)(void *arg);
    void *wake_arg;
};

void upload_stand(struct uploads *uploads, struct upload_entry *entry);
void line_add(struct upload_line *line, struct upload_entry *entry);
void line_remove(struct upload_entry *entry);
struct upload_scope *upload_scope(struct uploads *uploads, uint32_t account,
                                  const struct contract *contract);
/* upload_lineage.c. In commit order: the entry that this one has to wait for, since it brings
 * elsewhere what this one takes away in the cloud; NULL: none (U9). */
struct upload_entry *upload_awaited(const struct uploads *uploads,
                                    const struct upload_entry *entry);
/* Is there one that waits for it? Then it stays what it is. */
bool upload_is_awaited(const struct uploads *uploads, const struct upload_entry *entry);
void upload_lineage_enter(struct uploads *uploads, struct upload_entry *entry);
void upload_lineage_leave(struct uploads *uploads, struct upload_entry *entry);

bool upload_of_container(const struct upload_entry *entry);
struct upload_line *upload_line_of(struct uploads *uploads, const struct upload_entry *entry);
bool upload_is_open(const struct upload_scope *scope, const struct upload_entry *entry);
uint64_t upload_key_container(const struct upload_entry *entry);
struct span upload_key_name(const struct upload_entry *entry);
struct upload_entry *upload_oldest(struct cache *cache, uint64_t container, struct span name);
void upload_enter(struct uploads *uploads, struct upload_entry *entry);
void upload_leave(struct uploads *uploads, struct upload_entry *entry);
struct upload_entry *upload_entry_new(struct cache *cache, uint64_t seq,
                                      const struct upload_row *row,
                                      const struct contract *contract);
void upload_entry_free(struct upload_entry *entry);
void upload_set_phase(struct uploads *uploads, struct upload_entry *entry);
void upload_put_row(struct change *change, const struct upload_entry *entry);
void upload_delete_row(struct change *change, const struct upload_entry *entry);
bool uploads_need_version_locked(struct cache *cache, uint64_t container, struct span blob,
                                 uint64_t etag);
bool uploads_need_content_locked(struct cache *cache, uint64_t container, struct span blob,
                                 uint64_t content);

/* upload_next.c */
void upload_finish(struct cache *cache, struct upload *upload,
                   int err);            /* its end is durable or failed */
void uploads_wake(struct cache *cache); /* no lock held */

#endif
