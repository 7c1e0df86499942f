/* cache/uploads.c - the write-back queue in commit order: entries are made, replaced and ended
 * here, on the committer's thread, and handed to upstream in upload_next.c. All under one lock.
 *
 * Life of an entry: 1 made by the change it uploads (uploads_order), waiting, not durable. 2
 * durable: it may be sent when its turn comes. 3 flying: upstream has it. 4 ended: confirmed or
 * superseded by a change of its own that also tells the record; or delayed (retry) or stopped
 * (held) and in the queue. A newer change of the name may replace it in 1 and 2, if it stands in
 * the open batch and was never tried: then what the cloud has is still the former base (U3). */
#include "cache/upload_queue.h"

#include "base/log.h"
#include "cache/names.h"
#include "cache/metrics.h"

/* ---- lines: doubly linked through line_at, so that an entry leaves any in O(1) ---- */

void line_add(struct upload_line *line, struct upload_entry *entry)
{
    assert(!entry->line_at);
    if (!line->tail)
        line->tail = &line->head;
    entry->line_next = NULL;
    entry->line_at = line->tail;
    *line->tail = entry;
    line->tail = &entry->line_next;
    entry->line = line;
}

void line_remove(struct upload_entry *entry)
{
    if (!entry->line_at)
        return;
    *entry->line_at = entry->line_next;
    if (entry->line_next)
        entry->line_next->line_at = entry->line_at;
    else
        entry->line->tail = entry->line_at;
    entry->line_at = NULL;
    entry->line_next = NULL;
}

/* ---- scopes ---- */

struct upload_scope *upload_scope(struct uploads *uploads, uint32_t account,
                                  const struct contract *contract)
{
    struct upload_scope *scope = uploads->scopes;

    while (scope && !(scope->account == account && scope->contract == contract))
        scope = scope->next;
    if (scope)
        return scope;
    scope = xcalloc(1, sizeof(*scope));
    scope->account = account;
    scope->contract = contract;
    scope->frozen = 1;
    scope->next = uploads->scopes;
    return uploads->scopes = scope;
}

bool upload_of_container(const struct upload_entry *entry)
{
    return entry->row.blob.len == 0;
}

struct upload_line *upload_line_of(struct uploads *uploads, const struct upload_entry *entry)
{
    struct upload_scope *scope;

    if (upload_of_container(entry))
        return &uploads->containers;
    scope = upload_scope(uploads, entry->row.account, entry->contract);
    return &scope->line[entry->row.batch & 1][entry->phase];
}

/* Is it the batch that still takes what comes? */
bool upload_is_open(const struct upload_scope *scope, const struct upload_entry *entry)
{
    return entry->row.batch != scope->frozen;
}

static void count(struct uploads *uploads, const struct upload_entry *entry, int by)
{
    uploads->count += (unsigned)by;
    if (!upload_of_container(entry))
        upload_scope(uploads, entry->row.account, entry->contract)
            ->left[entry->row.batch & 1][entry->phase] += (unsigned)by;
}

/* ---- entries of one name, oldest first; containers under account and name ---- */

static struct upload_entry **name_slot(struct uploads *uploads, uint64_t hash, uint64_t container,
                                       struct span blob)
{
    struct upload_entry **at = &uploads->names[hash % UPLOAD_BUCKETS];

    while (*at && !((*at)->hash == hash && upload_key_container(*at) == container &&
                    span_eq(upload_key_name(*at), blob)))
        at = &(*at)->hash_next;
    return at;
}

uint64_t upload_key_container(const struct upload_entry *entry)
{
    return upload_of_container(entry) ? entry->row.account : entry->row.container;
}

struct span upload_key_name(const struct upload_entry *entry)
{
    return upload_of_container(entry) ? entry->row.container_name : entry->row.blob;
}

struct upload_entry *upload_oldest(struct cache *cache, uint64_t container, struct span name)
{
    return *name_slot(cache->uploads, names_hash(cache, container, name), container, name);
}

static struct upload_entry *newest_of(struct upload_entry *oldest)
{
    while (oldest && oldest->name_next)
        oldest = oldest->name_next;
    return oldest;
}

/* Seq order within the name: an entry that comes back after a failure finds its old place. */
static void name_add(struct uploads *uploads, struct upload_entry *entry)
{
    struct upload_entry **slot =
        name_slot(uploads, entry->hash, upload_key_container(entry), upload_key_name(entry));
    struct upload_entry *head = *slot, *before = NULL;

    for (struct upload_entry *at = head; at && at->seq < entry->seq; at = at->name_next)
        before = at;
    entry->name_prev = before;
    entry->name_next = before ? before->name_next : head;
    if (entry->name_next)
        entry->name_next->name_prev = entry;
    if (before) {
        before->name_next = entry;
        return;
    }
    entry->hash_next = head ? TAKE(head->hash_next) : NULL;
    *slot = entry;
}

static void name_remove(struct uploads *uploads, struct upload_entry *entry)
{
    if (entry->name_next)
        entry->name_next->name_prev = entry->name_prev;
    if (entry->name_prev) {
        entry->name_prev->name_next = entry->name_next;
    } else {
        struct upload_entry **slot =
            name_slot(uploads, entry->hash, upload_key_container(entry), upload_key_name(entry));

        assert(*slot == entry);
        if (entry->name_next) {
            entry->name_next->hash_next = entry->hash_next;
            *slot = entry->name_next;
        } else {
            *slot = entry->hash_next;
        }
    }
    entry->name_next = entry->name_prev = entry->hash_next = NULL;
}

/* In a line stand those whose turn can come: behind an older one of the name an entry would only be
 * looked at in vain, and many of them would hide what could go (U2). */
void upload_stand(struct uploads *uploads, struct upload_entry *entry)
{
    if (entry->state == UPLOAD_WAITING && !entry->name_prev && !entry->line_at)
        line_add(upload_line_of(uploads, entry), entry);
}

void upload_enter(struct uploads *uploads, struct upload_entry *entry)
{
    name_add(uploads, entry);
    count(uploads, entry, 1);
    entry->queued = true;
    if (entry->row.kind == UPLOAD_CONTAINER_CREATE) {
        entry->create_next = uploads->creates;
        uploads->creates = entry;
    }
    if (entry->name_prev)
        entry->row.base = ROW_BASE_FORMER;
    if (entry->name_next) { /* this one is back before it */
        entry->name_next->row.base = ROW_BASE_FORMER;
        if (entry->name_next->state == UPLOAD_WAITING)
            line_remove(entry->name_next);
    }
    upload_lineage_enter(uploads, entry);
    upload_stand(uploads, entry);
}

static void create_left(struct uploads *uploads, struct upload_entry *create)
{
    struct upload_entry **at = &uploads->creates, *blocked;

    while (*at != create)
        at = &(*at)->create_next;
    *at = create->create_next;
    while (
        (blocked = uploads->blocked.head)) { /* each looks again whether its container is there */
        line_remove(blocked);
        upload_stand(uploads, blocked);
    }
}

/* The next of the name does not stand yet: this one may still come back (upload_finish). */
void upload_leave(struct uploads *uploads, struct upload_entry *entry)
{
    entry->queued = false;
    if (entry->row.kind == UPLOAD_CONTAINER_CREATE)
        create_left(uploads, entry);
    upload_lineage_leave(uploads, entry);
    name_remove(uploads, entry);
    count(uploads, entry, -1);
    line_remove(entry);
}

void upload_entry_free(struct upload_entry *entry)
{
    free(entry->base_etag);
    free(entry->held);
    free(entry);
}

static struct span copy_to(char **at, struct span s)
{
    struct span copy = span_from(*at, s.len);

    if (s.len)
        memcpy(*at, s.base, s.len);
    *at += s.len;
    return copy;
}

static struct span dup_to(char **owned, struct span s)
{
    free(*owned);
    *owned = xmalloc(s.len);
    if (s.len)
        memcpy(*owned, s.base, s.len);
    return span_from(*owned, s.len);
}

struct upload_entry *upload_entry_new(struct cache *cache, uint64_t seq,
                                      const struct upload_row *row, const struct contract *contract)
{
    size_t bytes = row->container_name.len + row->blob.len + row->unknown.len;
    struct upload_entry *entry = xcalloc(1, sizeof(*entry) + bytes);
    char *at = (char *)(entry + 1);

    entry->seq = seq;
    entry->row = *row;
    entry->row.container_name = copy_to(&at, row->container_name);
    entry->row.blob = copy_to(&at, row->blob);
    entry->row.unknown = copy_to(&at, row->unknown);
    entry->row.base_etag = dup_to(&entry->base_etag, row->base_etag);
    entry->row.held = dup_to(&entry->held, row->held);
    entry->contract = contract;
    entry->state = row->held.len ? UPLOAD_STOPPED : UPLOAD_WAITING;
    entry->hash = names_hash(cache, upload_key_container(entry), upload_key_name(entry));
    return entry;
}

void upload_put_row(struct change *change, const struct upload_entry *entry)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};

    key_upload(&key, entry->seq);
    upload_row_encode(&value, &entry->row);
    change_put(change, FAM_UPLOADS, row_span(&key), row_span(&value));
}

void upload_delete_row(struct change *change, const struct upload_entry *entry)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    key_upload(&key, entry->seq);
    change_delete(change, FAM_UPLOADS, row_span(&key));
}

/* ---- phases ---- */

/* What waits for another entry stands in the last phase: no other phase of the batch waits for it,
 * so that waiting never goes round in a circle (U9). */
static enum upload_phase own_phase(const struct uploads *uploads, const struct upload_entry *entry)
{
    if (entry->row.kind == UPLOAD_DELETE || upload_awaited(uploads, entry))
        return PHASE_DELETE;
    if (contract_is_marker(entry->contract, entry->row.blob))
        return PHASE_MARKER;
    return entry->row.base == ROW_BASE_ABSENT && entry->row.kind == UPLOAD_CONTENT
               ? PHASE_NEW
               : PHASE_OVERWRITE;
}

/* Entries of one blob in one batch stand in the latest phase among them. */
void upload_set_phase(struct uploads *uploads, struct upload_entry *entry)
{
    struct upload_entry *oldest;

    entry->phase = PHASE_NEW;
    if (upload_of_container(entry) || entry->contract->order == ORDER_LATEST_WINS)
        return;
    entry->phase = own_phase(uploads, entry);
    oldest = *name_slot(uploads, entry->hash, entry->row.container, entry->row.blob);
    for (struct upload_entry *at = oldest; at; at = at->name_next) {
        bool stood = at->line_at;

        if (at == entry || at->row.batch != entry->row.batch)
            continue;
        if (at->phase > entry->phase)
            entry->phase = at->phase;
        if (at->phase == entry->phase || at->state != UPLOAD_WAITING)
            continue;
        count(uploads, at, -1);
        line_remove(at);
        at->phase = entry->phase;
        count(uploads, at, 1);
        if (stood)
            upload_stand(uploads, at);
    }
}

/* ---- a change of a name joins the queue ---- */

static bool describing_kind(enum upload_kind kind)
{
    return kind == UPLOAD_PROPERTIES || kind == UPLOAD_METADATA || kind == UPLOAD_TAGS ||
           kind == UPLOAD_TIER;
}

static bool same_content_kind(enum upload_kind kind)
{
    return kind == UPLOAD_CONTENT || describing_kind(kind);
}

/* Can a newer change of the name take this entry's place? (U3) */
static bool replaceable(struct uploads *uploads, const struct upload_entry *entry,
                        const struct tx *tx)
{
    struct upload_scope *scope = upload_scope(uploads, entry->row.account, entry->contract);
    bool describes = describing_kind(tx->upload.kind);

    if (entry->tried || entry->state != UPLOAD_WAITING || upload_of_container(entry) ||
        entry->contract != tx->upload.contract || !tx->current ||
        entry->row.etag != tx->current->record.etag || upload_is_awaited(uploads, entry))
        return false;
    if (entry->contract->order == ORDER_SAFE && !upload_is_open(scope, entry))
        return false;
    if (!same_content_kind(entry->row.kind) && entry->row.kind != UPLOAD_DELETE)
        return false;
    /* Properties after content: the newer version's content says both. Two kinds of description:
     * both go. */
    return !describes || entry->row.kind == UPLOAD_CONTENT || entry->row.kind == tx->upload.kind;
}

static void base_of_current(const struct tx *tx, struct upload_row *row)
{
    const struct blob *current = tx->current;
    struct container *in;
    bool in_cloud = true;

    if (cache_container_by_id(tx->cache, tx->container, &in) == 0) {
        in_cloud = in->record.in_cloud;
        container_unref(in);
    }
    row->base = ROW_BASE_ANY; /* a plain overwrite of an unknown name does not ask */
    if (blob_is_there(current) && current->record.cloud_etag.len) {
        row->base = ROW_BASE_ETAG;
        row->base_etag = current->record.cloud_etag;
    } else if (!current ? !in_cloud || tx->upload.create_only
                        : current->state == BLOB_ABSENT || current->confirmed || !in_cloud) {
        row->base = ROW_BASE_ABSENT;
    }
}

/* What the cloud has no more under the name once this has arrived. */
static uint64_t lineage_removed(const struct tx *tx, enum upload_kind kind)
{
    bool takes = kind == UPLOAD_CONTENT || kind == UPLOAD_DELETE;

    return takes && tx->current ? blob_lineage(tx->current) : 0;
}

static struct upload_row row_of_tx(const struct tx *tx)
{
    struct upload_row row = {
        .kind = tx->upload.kind,
        .contract = tx->upload.contract->id,
        .queued_ns = clock_wall_ns(),
    };

    if (tx->blob) {
        row.container = tx->container;
        row.blob = tx->name;
        row.etag = tx->blob->record.etag;
        row.content = tx->blob->manifest;
        row.lineage = tx->blob->lineage;
    } else {
        row.container = tx->described->record.id;
        row.account = tx->account;
        row.container_name = tx->described->record.name;
        row.etag = tx->described->record.etag;
    }
    return row;
}

static void take_replaced(struct tx *tx, struct change *change, struct upload_entry *old)
{
    upload_delete_row(change, old);
    upload_leave(tx->cache->uploads, old);
    old->replaced_next = tx->replaced;
    tx->replaced = old;
    STAT_INC(uploads_replaced);
}

/* A container that goes takes all its entries along: rows beyond the first stay until the next
 * start finds no container for them. */
#define CONTAINER_ROWS_MAX 4096
static void supersede_container(struct tx *tx, struct change *change, uint64_t container)
{
    struct uploads *uploads = tx->cache->uploads;
    unsigned rows = 0;

    for (unsigned i = 0; i < UPLOAD_BUCKETS; i++)
        for (struct upload_entry *head = uploads->names[i], *next; head; head = next) {
            next = head->hash_next;
            for (struct upload_entry *at = head, *newer; at; at = newer) {
                newer = at->name_next;
                if (at->row.container != container || upload_of_container(at))
                    continue;
                if (at->state == UPLOAD_FLYING) {
                    at->dropped = true; /* leaves when it ends */
                    continue;
                }
                if (rows++ < CONTAINER_ROWS_MAX) {
                    take_replaced(tx, change, at);
                    continue;
                }
                upload_leave(uploads, at);
                at->replaced_next = tx->replaced;
                tx->replaced = at;
            }
        }
}

/* It does not go after all. */
static void supersede_undo(struct uploads *uploads, uint64_t container)
{
    for (unsigned i = 0; i < UPLOAD_BUCKETS; i++)
        for (struct upload_entry *at = uploads->names[i]; at; at = at->hash_next)
            if (at->row.container == container)
                at->dropped = false; /* only the oldest of a name flies */
}

/* Nothing of the container was ever sent and it is deleted: the cloud need not hear of it. */
static bool cancel_create(struct tx *tx, struct change *change, struct upload_entry *newest)
{
    if (!newest || newest->row.kind != UPLOAD_CONTAINER_CREATE || newest->tried ||
        newest->state != UPLOAD_WAITING || newest->name_prev)
        return false;
    take_replaced(tx, change, newest);
    tx->cancelled = true;
    return true;
}

static int add_entry(struct tx *tx, struct change *change, struct upload_row *row)
{
    struct uploads *uploads = tx->cache->uploads;
    struct upload_entry *entry;
    struct upload_scope *scope;

    if (uploads->count >= UPLOADS_MAX && row->kind != UPLOAD_CONTAINER_DELETE)
        return -ENOSPC; /* that one makes room, and has taken others off already */
    entry = upload_entry_new(tx->cache, cache_tick(tx->cache), row, tx->upload.contract);
    scope = upload_scope(uploads, row->account, tx->upload.contract);
    entry->row.batch = tx->upload.contract->order == ORDER_SAFE ? scope->frozen + 1 : scope->frozen;
    upload_set_phase(uploads, entry);
    upload_enter(uploads, entry);
    upload_put_row(change, entry);
    tick_cover(change, tx->cache, entry->seq);
    tx->entry = entry;
    STAT_INC(uploads_queued);
    return 0;
}

static int order_container(struct tx *tx, struct change *change)
{
    struct uploads *uploads = tx->cache->uploads;
    struct upload_row row = row_of_tx(tx);
    struct upload_entry *newest =
        newest_of(*name_slot(uploads, names_hash(tx->cache, tx->account, row.container_name),
                             tx->account, row.container_name));

    if (tx->upload.kind == UPLOAD_CONTAINER_DELETE) {
        supersede_container(tx, change, row.container);
        if (cancel_create(tx, change, newest))
            return 0;
    }
    row.base = newest ? ROW_BASE_FORMER : ROW_BASE_ANY;
    return add_entry(tx, change, &row);
}

/* Nothing of the version is in the cloud or on its way there: what describes it has to bring it. An
 * append blob cannot be brought: it stays here, as it was. */
static bool describes_unsent(const struct tx *tx, enum upload_kind kind)
{
    return describing_kind(kind) && blob_is_there(tx->current) && tx->current->state == BLOB_LIVE &&
           !tx->current->record.cloud_etag.len;
}

static int order_blob(struct tx *tx, struct change *change)
{
    struct uploads *uploads = tx->cache->uploads;
    struct upload_row row = row_of_tx(tx);
    struct upload_entry *newest = newest_of(*name_slot(uploads, tx->hash, tx->container, tx->name));
    struct container *in;

    if (cache_container_by_id(tx->cache, tx->container, &in) < 0)
        return -ENOENT;
    row.account = in->record.account;
    row.container_name = in->record.name;
    if (!newest && describes_unsent(tx, row.kind)) { /* its scope had no cloud before */
        tx->cancelled = tx->current->record.type == BLOB_APPEND;
        row.kind = UPLOAD_CONTENT;
    }
    row.removes = lineage_removed(tx, row.kind);
    if (newest && replaceable(uploads, newest, tx)) {
        if (same_content_kind(row.kind) && newest->row.kind == UPLOAD_CONTENT)
            row.kind = UPLOAD_CONTENT;
        row.base = newest->row.base;
        row.base_etag = newest->row.base_etag;
        if (!describing_kind(newest->row.kind))
            row.removes = newest->row.removes; /* what it was to take away is there still */
        take_replaced(tx, change, newest);
        if (row.kind == UPLOAD_DELETE && row.base == ROW_BASE_ABSENT)
            tx->cancelled = true;
    } else if (newest) {
        row.base = ROW_BASE_FORMER;
    } else {
        base_of_current(tx, &row);
        tx->cancelled |= row.kind == UPLOAD_DELETE && row.base == ROW_BASE_ABSENT;
    }
    if (!tx->cancelled) {
        int err = add_entry(tx, change, &row);

        container_unref(in);
        return err;
    }
    container_unref(in);
    return 0;
}

/* ---- an upload has ended ---- */

static void drop_version(struct tx *tx, struct change *change, struct blob *blob)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    const struct blob *current = tx->current;

    if (!blob || (current && current->record.etag == blob->record.etag) ||
        uploads_need_version_locked(tx->cache, tx->container, tx->name, blob->record.etag))
        return;
    key_version(&key, tx->container, tx->name, blob->record.etag);
    change_delete(change, FAM_VERSIONS, row_span(&key));
    if (!(current && blob_same_content(current, blob)) && !blob->record.snapshots.share &&
        !uploads_need_content_locked(tx->cache, tx->container, tx->name, blob->manifest))
        blob_drop_content(change, blob);
}

/* What the next entry of the name builds on is known now. */
static void resolve_former(struct tx *tx, struct change *change, struct upload_entry *next,
                           const struct upload_entry *ended)
{
    if (!next || next->row.base != ROW_BASE_FORMER)
        return;
    if (!tx->confirmed) { /* superseded: what that one was to build on */
        next->row.base = ended->row.base;
        next->row.base_etag = dup_to(&next->base_etag, ended->row.base_etag);
    } else if (ended->row.kind == UPLOAD_DELETE || ended->row.kind == UPLOAD_CONTAINER_DELETE) {
        next->row.base = ROW_BASE_ABSENT;
    } else if (!tx->ended_etag.len) {
        next->row.base = ROW_BASE_ANY;
    } else {
        next->row.base = ROW_BASE_ETAG;
        next->row.base_etag = dup_to(&next->base_etag, tx->ended_etag);
    }
    upload_put_row(change, next);
}

/* An object of which the blob has a part only cannot be fetched again from there. */
static void clean_pieces(struct tx *tx, struct change *change, struct blob *blob)
{
    struct object_origin origin = {
        .container = tx->container, .blob = tx->name, .etag = tx->ended_etag};

    for (size_t i = 0; i < blob->piece_count; i++) {
        const struct piece *piece = &blob->pieces[i];

        if (!piece->offset && piece->length == object_length(piece->object))
            object_set_clean(change, piece->object, blob->located ? 0 : blob->manifest, &origin);
        origin.offset += piece->length;
    }
}

static void order_ended_upload(struct tx *tx, struct change *change)
{
    struct uploads *uploads = tx->cache->uploads;
    struct upload_entry *entry = tx->ended->entry, *next = entry->name_next;
    struct blob *blob = tx->ended->blob;

    upload_delete_row(change, entry);
    upload_leave(uploads, entry);
    resolve_former(tx, change, next, entry);
    if (upload_of_container(entry))
        return;
    /* Clean only when nothing else that is still to be sent lies on the same bytes. */
    if (tx->confirmed && tx->ended_etag.len && blob && entry->row.kind != UPLOAD_DELETE &&
        !uploads_need_content_locked(tx->cache, tx->container, tx->name, blob->manifest))
        clean_pieces(tx, change, blob);
    drop_version(tx, change, blob);
}

int uploads_order(struct tx *tx, struct change *change)
{
    SCOPED_LOCK(&tx->cache->uploads->lock);
    if (tx->ended) {
        order_ended_upload(tx, change);
        return 0;
    }
    if (!tx->uploads) {
        if (tx->what == TX_DELETE_CONTAINER)
            supersede_container(tx, change, tx->current_container->record.id);
        return 0;
    }
    return tx->container == CONTAINER_NAMES ? order_container(tx, change) : order_blob(tx, change);
}

static void put_back(struct uploads *uploads, struct upload_entry *list)
{
    for (struct upload_entry *next; list; list = next) {
        next = TAKE(list->replaced_next);
        if (list->failed)
            upload_entry_free(list);
        else
            upload_enter(uploads, list);
    }
}

static void free_replaced(struct upload_entry *list)
{
    for (struct upload_entry *next; list; list = next) {
        next = list->replaced_next;
        upload_entry_free(list);
    }
}

void uploads_ended(struct tx *tx, int err)
{
    struct uploads *uploads = tx->cache->uploads;
    struct upload_entry *entry = tx->entry;

    bool undo = err && tx->what == TX_DELETE_CONTAINER;

    if (!entry && !tx->replaced && !tx->ended && !undo)
        return;
    pthread_mutex_lock(&uploads->lock);
    if (undo)
        supersede_undo(uploads, tx->described->record.id);
    if (entry && err) {
        entry->failed = true;
        if (entry->queued) { /* else a later change has taken it off, and frees it */
            upload_leave(uploads, entry);
            upload_entry_free(entry);
        }
    } else if (entry) {
        entry->durable = true;
    }
    if (err)
        put_back(uploads, TAKE(tx->replaced));
    else
        free_replaced(TAKE(tx->replaced));
    if (tx->ended)
        upload_finish(tx->cache, tx->ended, err);
    tx->ended = NULL;
    pthread_mutex_unlock(&uploads->lock);
    uploads_wake(tx->cache);
}

/* ---- who needs what ---- */

bool uploads_need_version_locked(struct cache *cache, uint64_t container, struct span blob,
                                 uint64_t etag)
{
    for (struct upload_entry *at = upload_oldest(cache, container, blob); at; at = at->name_next)
        if (at->row.etag == etag && at->row.kind != UPLOAD_DELETE)
            return true;
    return false;
}

bool uploads_need_content_locked(struct cache *cache, uint64_t container, struct span blob,
                                 uint64_t content)
{
    if (!content)
        return false;
    for (struct upload_entry *at = upload_oldest(cache, container, blob); at; at = at->name_next)
        if (at->row.content == content)
            return true;
    return false;
}

bool uploads_need_version(struct cache *cache, uint64_t container, struct span blob, uint64_t etag)
{
    SCOPED_LOCK(&cache->uploads->lock);
    return uploads_need_version_locked(cache, container, blob, etag);
}

bool uploads_need_content(struct cache *cache, uint64_t container, struct span blob,
                          uint64_t content)
{
    SCOPED_LOCK(&cache->uploads->lock);
    return uploads_need_content_locked(cache, container, blob, content);
}

bool uploads_have(struct cache *cache, uint64_t container, struct span blob)
{
    SCOPED_LOCK(&cache->uploads->lock);
    return upload_oldest(cache, container, blob);
}

bool uploads_have_container(struct cache *cache, uint64_t container)
{
    const struct uploads *uploads = cache->uploads;

    SCOPED_LOCK(&cache->uploads->lock);
    for (unsigned i = 0; uploads->count && i < UPLOAD_BUCKETS; i++)
        for (const struct upload_entry *at = uploads->names[i]; at; at = at->hash_next)
            if (at->row.container == container)
                return true;
    return false;
}
