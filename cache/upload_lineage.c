/* cache/upload_lineage.c - which entries of the queue wait for which because of copies (U9): what
 * is deleted or overwritten in the cloud stays there until every copy of it that was ordered before
 * has arrived. Copy + delete is a rename, and whoever loses the box in between has one of the
 * names.
 *
 * A version says its lineage: the manifest that its bytes come from in the end, through copies of
 * copies. An entry that brings content says it too; one that takes content away says the lineage of
 * what it takes. All of it is in the rows, so a restart waits for the same. Only what was ordered
 * before is waited for, which keeps the waiting free of circles: entries of one name and batches go
 * by order too, and within a batch whoever waits here stands in the last phase, for which no other
 * waits. Under uploads->lock. */
#include "cache/upload_queue.h"

static uint64_t lineage_of(const struct upload_entry *entry)
{
    const struct upload_row *row = &entry->row;

    return row->lineage ? row->lineage : row->content ? row->content : row->etag; /* blob_lineage */
}

static bool brings_content(const struct upload_entry *entry)
{
    return entry->row.kind == UPLOAD_CONTENT && !upload_of_container(entry);
}

static bool same_name(const struct upload_entry *a, const struct upload_entry *b)
{
    return a->row.container == b->row.container && span_eq(a->row.blob, b->row.blob);
}

static unsigned bucket_of(uint64_t lineage)
{
    return (unsigned)(lineage * 0x9E3779B97F4A7C15ULL >> 48);
}
static_assert(UPLOAD_BUCKETS == 1 << 16, "bucket_of");

/* A container goes with all that is in it: what of that was copied out is not looked up, any copy
 * that lies elsewhere counts. */
static struct upload_entry *awaited_by_container(const struct uploads *uploads,
                                                 const struct upload_entry *entry)
{
    if (entry->row.kind != UPLOAD_CONTAINER_DELETE)
        return NULL;
    for (struct upload_entry *at = uploads->copies; at; at = at->copy.next)
        if (at->seq < entry->seq && at->row.container != entry->row.container)
            return at;
    return NULL;
}

struct upload_entry *upload_awaited(const struct uploads *uploads, const struct upload_entry *entry)
{
    if (upload_of_container(entry))
        return awaited_by_container(uploads, entry);
    if (!entry->row.removes)
        return NULL;
    for (struct upload_entry *at = uploads->brings[bucket_of(entry->row.removes)]; at;
         at = at->brings.next)
        if (lineage_of(at) == entry->row.removes && at->seq < entry->seq && !same_name(at, entry))
            return at;
    return NULL;
}

static bool is_awaited_by_container(const struct uploads *uploads, const struct upload_entry *entry)
{
    for (const struct upload_entry *at = uploads->containers.head; at; at = at->line_next)
        if (at->row.kind == UPLOAD_CONTAINER_DELETE && at->seq > entry->seq &&
            at->row.container != entry->row.container)
            return true;
    return false;
}

bool upload_is_awaited(const struct uploads *uploads, const struct upload_entry *entry)
{
    uint64_t lineage = lineage_of(entry);

    if (!brings_content(entry))
        return false;
    if (entry->row.lineage && is_awaited_by_container(uploads, entry))
        return true;
    for (struct upload_entry *at = uploads->removes[bucket_of(lineage)]; at; at = at->removes.next)
        if (at->row.removes == lineage && at->seq > entry->seq && !same_name(at, entry))
            return true;
    return false;
}

/* ---- in and out of the lists; each list links through one member ---- */

#define LIST_ADD(head, entry, link)                                                                \
    do {                                                                                           \
        (entry)->link.next = *(head);                                                              \
        (entry)->link.at = (head);                                                                 \
        if (*(head))                                                                               \
            (*(head))->link.at = &(entry)->link.next;                                              \
        *(head) = (entry);                                                                         \
    } while (0)

#define LIST_REMOVE(entry, link)                                                                   \
    do {                                                                                           \
        if (!(entry)->link.at)                                                                     \
            break;                                                                                 \
        *(entry)->link.at = (entry)->link.next;                                                    \
        if ((entry)->link.next)                                                                    \
            (entry)->link.next->link.at = (entry)->link.at;                                        \
        (entry)->link.at = NULL;                                                                   \
    } while (0)

void upload_lineage_enter(struct uploads *uploads, struct upload_entry *entry)
{
    if (entry->row.removes)
        LIST_ADD(&uploads->removes[bucket_of(entry->row.removes)], entry, removes);
    if (!brings_content(entry))
        return;
    LIST_ADD(&uploads->brings[bucket_of(lineage_of(entry))], entry, brings);
    if (entry->row.lineage)
        LIST_ADD(&uploads->copies, entry, copy);
}

void upload_lineage_leave(struct uploads *uploads, struct upload_entry *entry)
{
    struct upload_entry *waiter;

    LIST_REMOVE(entry, removes);
    LIST_REMOVE(entry, brings);
    LIST_REMOVE(entry, copy);
    while ((waiter = entry->waiters.head)) { /* each looks again for whom else it waits */
        line_remove(waiter);
        upload_stand(uploads, waiter);
    }
}
