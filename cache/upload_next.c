/* cache/upload_next.c - whose turn it is to go to the cloud, and how an upload ends (uploads.h).
 *
 * order = safe, per scope: the frozen batch goes phase by phase (new blobs, overwrites, markers,
 * deletes); a phase begins when nothing of an earlier one is left, in whatever state. New blobs of
 * the open batch go at once. When the frozen batch is empty the open one freezes (U4). Of one name
 * only the oldest entry may go (U2); a blob waits for the create of its container, the delete of a
 * container for what is in flight to it (U5); what takes content away waits for copies of it
 * (U9, upload_lineage.c). Upstream's threads and workers. */
#include "cache/upload_queue.h"

#include "base/failpoint.h"
#include "base/log.h"
#include "cache/ask.h"
#include "cache/names.h"
#include "cache/metrics.h"

#define LOOK_MAX        512 /* entries of a line looked at per call */
#define FAILED_RETRY_NS (1 * NS_PER_SEC)

/* An upload as given out; the public part first. */
struct upload_out {
    struct upload upload;
    struct cache *cache;
    char *cloud_etag;
    size_t cloud_etag_len;
    int64_t cloud_modified_ns, ended_ns;
    bool confirmed, held;
    struct tx *tx;
    struct completion begun, *done;
};

void uploads_wake(struct cache *cache)
{
    void (*wake)(void *arg);
    void *arg;

    pthread_mutex_lock(&cache->uploads->lock);
    wake = cache->uploads->wake;
    arg = cache->uploads->wake_arg;
    pthread_mutex_unlock(&cache->uploads->lock);
    if (wake)
        wake(arg);
}

void cache_uploads_watch(struct cache *cache, void (*wake)(void *arg), void *arg)
{
    SCOPED_LOCK(&cache->uploads->lock);
    cache->uploads->wake = wake;
    cache->uploads->wake_arg = arg;
}

/* ---- whose turn, lock held ---- */

static void delayed_back(struct uploads *uploads, uint32_t account, uint64_t *retry_ns)
{
    uint64_t now = clock_mono_ns();
    struct upload_entry *next;

    for (struct upload_entry *at = uploads->delayed.head; at; at = next) {
        next = at->line_next;
        if (at->row.account != account)
            continue;
        if (at->due_ns > now) {
            *retry_ns = MIN(*retry_ns, at->due_ns - now);
            continue;
        }
        line_remove(at);
        at->state = UPLOAD_WAITING;
        upload_stand(uploads, at);
    }
}

static bool create_pending(const struct uploads *uploads, uint64_t container)
{
    for (const struct upload_entry *at = uploads->creates; at; at = at->create_next)
        if (at->row.container == container)
            return true;
    return false;
}

static struct upload_entry *ready_of_line(struct uploads *uploads, struct upload_line *line)
{
    struct upload_entry *next, *awaited;
    unsigned looked = 0;

    for (struct upload_entry *at = line->head; at && looked < LOOK_MAX; at = next, looked++) {
        next = at->line_next;
        if ((awaited = upload_awaited(uploads, at))) {
            line_remove(at);
            line_add(&awaited->waiters, at);
        } else if (uploads->creates && create_pending(uploads, at->row.container)) {
            line_remove(at);
            line_add(&uploads->blocked, at);
        } else if (at->durable) {
            return at;
        }
    }
    return NULL;
}

static unsigned left_of(const struct upload_scope *scope, uint64_t batch)
{
    unsigned n = 0;

    for (unsigned phase = 0; phase < PHASES; phase++)
        n += scope->left[batch & 1][phase];
    return n;
}

static struct upload_entry *ready_of_scope(struct uploads *uploads, struct upload_scope *scope)
{
    unsigned phase = 0, place;
    struct upload_entry *entry;

    if (!left_of(scope, scope->frozen)) {
        if (!left_of(scope, scope->frozen + 1))
            return NULL;
        scope->frozen++;
    }
    place = scope->frozen & 1;
    while (!scope->left[place][phase])
        phase++;
    if ((entry = ready_of_line(uploads, &scope->line[place][phase])))
        return entry;
    return ready_of_line(uploads, &scope->line[!place][PHASE_NEW]);
}

static bool flying_to(const struct uploads *uploads, uint64_t container)
{
    for (unsigned i = 0; i < UPLOAD_BUCKETS; i++)
        for (const struct upload_entry *at = uploads->names[i]; at; at = at->hash_next)
            if (at->row.container == container && at->row.blob.len && at->state == UPLOAD_FLYING)
                return true;
    return false;
}

/* `late`: also a delete that copies elsewhere should come before. */
static struct upload_entry *ready_container(const struct uploads *uploads, uint32_t account,
                                            bool late)
{
    for (struct upload_entry *at = uploads->containers.head; at; at = at->line_next)
        if (at->row.account == account && at->durable && (late || !upload_awaited(uploads, at)) &&
            !(at->row.kind == UPLOAD_CONTAINER_DELETE && flying_to(uploads, at->row.container)))
            return at;
    return NULL;
}

/* The scope that had its turn goes behind the others: a busy one does not starve them. */
static void scope_last(struct uploads *uploads, struct upload_scope **at)
{
    struct upload_scope *scope = *at;

    *at = scope->next;
    while (*at)
        at = &(*at)->next;
    scope->next = NULL;
    *at = scope;
}

static struct upload_entry *ready_of_account(struct uploads *uploads, uint32_t account)
{
    struct upload_entry *entry;

    for (struct upload_scope **at = &uploads->scopes; *at; at = &(*at)->next)
        if ((*at)->account == account && (entry = ready_of_scope(uploads, *at))) {
            scope_last(uploads, at);
            return entry;
        }
    return NULL;
}

/* A container's delete that waits for a copy, and the copy for a phase in which something waits for
 * a new container of the deleted one's name: nobody moves any more, the delete goes first. Not
 * while anything can still end, and not for a copy of another account, whose turns are not known
 * here. */
static bool in_a_circle(const struct uploads *uploads, uint32_t account)
{
    for (const struct upload_entry *at = uploads->copies; at; at = at->copy.next)
        if (at->row.account != account)
            return false;
    for (unsigned i = 0; i < UPLOAD_BUCKETS; i++)
        for (const struct upload_entry *at = uploads->names[i]; at; at = at->hash_next)
            if (at->row.account == account && (at->state != UPLOAD_WAITING || !at->durable))
                return false;
    return true;
}

static struct upload_entry *late_container(const struct uploads *uploads, uint32_t account)
{
    struct upload_entry *entry = uploads->copies ? ready_container(uploads, account, true) : NULL;

    return entry && in_a_circle(uploads, account) ? entry : NULL;
}

static struct upload_entry *take_ready(struct uploads *uploads, uint32_t account,
                                       uint64_t *retry_ns)
{
    struct upload_entry *entry;

    *retry_ns = UINT64_MAX;
    delayed_back(uploads, account, retry_ns);
    entry = ready_container(uploads, account, false);
    if (!entry)
        entry = ready_of_account(uploads, account);
    if (!entry)
        entry = late_container(uploads, account);
    if (!entry)
        return NULL;
    line_remove(entry);
    entry->state = UPLOAD_FLYING;
    entry->tried = true;
    entry->attempts++;
    return entry;
}

/* ---- giving it out ---- */

static int load_version(struct cache *cache, const struct upload_entry *entry, struct blob **ret)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct blob *blob = names_get(cache, entry->row.container, entry->row.blob);
    struct index_value value;
    int err = 0;

    if (!blob)
        err = names_load(cache, NULL, entry->row.container, entry->row.blob, &blob);
    if (!err && blob->state == BLOB_LIVE && blob->record.etag == entry->row.etag) {
        *ret = blob;
        return 0;
    }
    if (!err)
        blob_unref(blob);
    key_version(&key, entry->row.container, entry->row.blob, entry->row.etag);
    err = index_get(cache->index, NULL, FAM_VERSIONS, row_span(&key), &value);
    if (err)
        return err;
    err = blob_load(cache, NULL, entry->row.container, entry->row.blob, value.bytes, ret);
    index_value_done(&value);
    return err;
}

/* Between the two looks it may have moved from one place to the other. */
static int pin_version(struct cache *cache, const struct upload_entry *entry, struct blob **ret)
{
    int err = -ENOENT;

    if (entry->row.kind == UPLOAD_DELETE || upload_of_container(entry))
        return 0;
    for (unsigned i = 0; i < LOAD_TRIES_MAX && err == -ENOENT; i++)
        err = load_version(cache, entry, ret);
    return err;
}

static struct upload *upload_new(struct cache *cache, struct upload_entry *entry)
{
    struct upload_out *out = xcalloc(1, sizeof(*out));

    out->cache = cache;
    out->upload = (struct upload){
        .seq = entry->seq,
        .kind = entry->row.kind,
        .account = entry->row.account,
        .contract = entry->contract,
        .container = entry->row.container_name,
        .name = {.container = entry->row.container, .blob = entry->row.blob},
        .base = entry->row.base == ROW_BASE_ETAG     ? BASE_ETAG
                : entry->row.base == ROW_BASE_ABSENT ? BASE_ABSENT
                                                     : BASE_ANY,
        .base_etag = entry->row.base_etag,
        .attempts = entry->attempts,
        .entry = entry,
    };
    return &out->upload;
}

static struct upload_out *out_of(struct upload *upload)
{
    return container_of(upload, struct upload_out, upload);
}

static void upload_free(struct upload *upload)
{
    struct upload_out *out = out_of(upload);

    blob_unref(upload->blob);
    container_unref(upload->described);
    free(out->cloud_etag);
    free(out);
}

int cache_upload_next(struct cache *cache, uint32_t account, struct upload **ret,
                      uint64_t *retry_ns)
{
    struct upload_entry *entry;
    struct upload *upload;
    int err;

    pthread_mutex_lock(&cache->uploads->lock);
    entry = take_ready(cache->uploads, account, retry_ns);
    pthread_mutex_unlock(&cache->uploads->lock);
    if (!entry)
        return -EAGAIN;
    upload = upload_new(cache, entry);
    err = pin_version(cache, entry, &upload->blob);
    if (err < 0) {
        log_error("a version to be uploaded cannot be read", KV_UINT("seq", entry->seq),
                  KV_SPAN("blob", entry->row.blob), KV_ERR(err));
        cache_upload_end(cache, upload,
                         &(struct upload_result){.end = UPLOAD_HELD,
                                                 .reason = SPAN("its content cannot be read")},
                         NULL);
        return -EAGAIN;
    }
    if (upload_of_container(entry))
        upload->described = containers_get(cache, account, entry->row.container_name);
    *ret = upload;
    return 0;
}

/* ---- its end ---- */

static void entry_back(struct uploads *uploads, struct upload_entry *entry, uint64_t after_ns)
{
    entry->state = UPLOAD_DELAYED;
    entry->due_ns = clock_mono_ns() + after_ns;
    line_add(&uploads->delayed, entry);
}

void upload_finish(struct cache *cache, struct upload *upload, int err)
{
    struct uploads *uploads = cache->uploads;
    struct upload_entry *entry = upload->entry;

    if (err && !entry->dropped) {
        if (!entry->queued)
            upload_enter(uploads, entry);
        entry_back(uploads, entry, FAILED_RETRY_NS);
    } else {
        struct upload_entry *next;

        if (entry->queued)
            upload_leave(uploads, entry);
        next = upload_oldest(cache, upload_key_container(entry), upload_key_name(entry));
        if (next) /* from here on this one cannot come back before it */
            upload_stand(uploads, next);
        upload_entry_free(entry);
    }
    upload_free(upload);
}

static int row_decide(struct change *change)
{
    struct upload *upload = change->arg;
    struct uploads *uploads = out_of(upload)->cache->uploads;

    SCOPED_LOCK(&uploads->lock);
    if (upload->entry->dropped)
        upload_delete_row(change, upload->entry);
    return 0;
}

/* Up to here the entry was flying: nobody else ends it. */
static void row_published(struct change *change, uint64_t commit, int err)
{
    struct upload *upload = change->arg;
    struct cache *cache = out_of(upload)->cache;

    pthread_mutex_lock(&cache->uploads->lock);
    if (upload->entry->dropped) {
        upload_finish(cache, upload, 0);
    } else if (out_of(upload)->held) {
        upload->entry->state = UPLOAD_STOPPED;
        upload_free(upload);
    } else { /* its container's delete has failed after all */
        upload_finish(cache, upload, -EIO);
    }
    pthread_mutex_unlock(&cache->uploads->lock);
    uploads_wake(cache);
}

static struct change *row_change(struct upload *upload, struct completion *done)
{
    struct change *change = change_new();

    change->decide = row_decide;
    change->publish = row_published;
    change->arg = upload;
    change->done = done;
    return change;
}

/* Its container is gone: nothing of it counts any more. */
static void end_dropped(struct cache *cache, struct upload *upload, struct completion *done)
{
    commit_submit(cache->committer, row_change(upload, done));
}

static void end_held(struct cache *cache, struct upload *upload, struct span reason,
                     struct completion *done)
{
    struct change *change = row_change(upload, done);
    struct upload_entry *entry = upload->entry;

    log_warn("an upload is held", KV_UINT("seq", entry->seq),
             KV_SPAN("container", entry->row.container_name), KV_SPAN("blob", entry->row.blob),
             KV_SPAN("reason", reason));
    pthread_mutex_lock(&cache->uploads->lock);
    free(entry->held);
    entry->held = xmalloc(reason.len);
    memcpy(entry->held, reason.base, reason.len);
    entry->row.held = span_from(entry->held, reason.len);
    out_of(upload)->held = true;
    upload_put_row(change, entry);
    pthread_mutex_unlock(&cache->uploads->lock);
    commit_submit(cache->committer, change);
}

static void end_retry(struct cache *cache, struct upload *upload, uint64_t after_ns,
                      struct completion *done)
{
    bool dropped;

    pthread_mutex_lock(&cache->uploads->lock);
    dropped = upload->entry->dropped;
    if (!dropped)
        entry_back(cache->uploads, upload->entry, after_ns);
    pthread_mutex_unlock(&cache->uploads->lock);
    if (dropped)
        return end_dropped(cache, upload, done);
    upload_free(upload);
    if (done)
        completion_post(done, 0);
    uploads_wake(cache);
}

/* ---- confirmed or superseded: a change of the name, in its order ---- */

/* The version was amended since it was sent: an entry that says so follows, or is about to. */
static bool amended_since(struct upload_out *out, const struct tx *tx)
{
    struct upload_entry *entry = out->upload.entry;
    const struct blob *sent = out->upload.blob;

    if (sent && (!span_eq(sent->record.tags, tx->current->record.tags) ||
                 sent->record.access_tier != tx->current->record.access_tier))
        return true;
    SCOPED_LOCK(&out->cache->uploads->lock);
    return entry->name_next && entry->name_next->row.etag == entry->row.etag;
}

static void adopt_content(struct upload_out *out, struct tx *tx)
{
    struct blob_record record = tx->current->record;

    record.durability = amended_since(out, tx) ? DURABILITY_LOCAL : DURABILITY_CLOUD;
    record.cloud_etag = tx->ended_etag;
    record.cloud_modified_ns = out->cloud_modified_ns;
    record.checked_ns = out->ended_ns;
    tx_adopt(tx, blob_with_record(tx->current, &record));
}

static void adopt_delete(struct upload_out *out, struct tx *tx)
{
    struct blob_record record = tx->current->record;
    struct blob *blob;

    record.checked_ns = out->ended_ns;
    blob = blob_with_record(tx->current, &record);
    blob->confirmed = true;
    tx_adopt(tx, blob);
    /* An older question may still bring an answer from before the delete: the tombstone outlives
     * it. */
    tx->forget = !asks_running(out->cache, tx->container, tx->name);
}

/* An answer that came without an ETag: sent it is, but nothing could be fetched or checked again.
 */
static bool is_nameless(const struct upload_out *out)
{
    return out->upload.kind != UPLOAD_DELETE && !out->cloud_etag_len;
}

/* A superseded version goes, if it still is the name's: the cloud's counts, and is asked for. */
static void end_blob(struct upload_out *out, struct tx *tx)
{
    const struct upload_entry *entry = out->upload.entry;
    struct blob *current = tx->current;
    bool is_current = current && current->record.etag == entry->row.etag;

    if (is_current && (!out->confirmed || is_nameless(out)))
        tx_unknown(tx);
    else if (is_current && entry->row.kind == UPLOAD_DELETE)
        adopt_delete(out, tx);
    else if (is_current)
        adopt_content(out, tx);
    else if (current)
        tx_adopt(tx, blob_ref(current));
    else
        tx_forget(tx);
}

static void end_container(struct upload_out *out, struct tx *tx)
{
    const struct upload_entry *entry = out->upload.entry;
    struct container *current = tx->current_container;
    bool same = out->confirmed && current && current->record.id == entry->row.container;
    struct container_record record;

    if (!current || (same && entry->row.kind == UPLOAD_CONTAINER_DELETE && current->tombstone))
        return tx_forget(tx);
    record = current->record;
    if (same && entry->row.kind != UPLOAD_CONTAINER_DELETE) {
        record.in_cloud = true;
        record.checked_ns = out->ended_ns;
    }
    tx_adopt_container(tx,
                       container_new(out->cache, &record, current->tombstone, current->unknown));
}

static void end_begun(struct completion *begun)
{
    struct upload_out *out = container_of(begun, struct upload_out, begun);
    struct tx *tx = out->tx;

    if (begun->err) {
        struct completion *done = out->done;
        int err = begun->err;

        end_retry(out->cache, &out->upload, FAILED_RETRY_NS, NULL);
        if (done)
            completion_post(done, err);
        return;
    }
    tx->ended = &out->upload;
    tx->confirmed = out->confirmed;
    tx->ended_etag = span_from(out->cloud_etag, out->cloud_etag_len);
    if (tx->container == CONTAINER_NAMES)
        end_container(out, tx);
    else
        end_blob(out, tx);
    FAILPOINT("upload_confirmed");
    cache_commit(tx, out->done);
}

static void end_done(struct upload_out *out, const struct upload_result *result,
                     struct completion *done)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    const struct upload_entry *entry = out->upload.entry;

    out->confirmed = result->end == UPLOAD_CONFIRMED;
    out->cloud_modified_ns = result->cloud_modified_ns;
    out->ended_ns = clock_wall_ns();
    out->cloud_etag_len = result->cloud_etag.len;
    out->cloud_etag = xmalloc(result->cloud_etag.len);
    if (result->cloud_etag.len)
        memcpy(out->cloud_etag, result->cloud_etag.base, result->cloud_etag.len);
    out->done = done;
    out->begun = (struct completion){.fn = end_begun, .loop = done->loop};
    if (upload_of_container(entry)) {
        key_container(&key, entry->row.account, entry->row.container_name);
        order_begin(out->cache, CONTAINER_NAMES, row_span(&key), entry->row.account, &out->tx,
                    &out->begun);
    } else {
        order_begin(out->cache, entry->row.container, entry->row.blob, 0, &out->tx, &out->begun);
    }
}

void cache_upload_end(struct cache *cache, struct upload *upload,
                      const struct upload_result *result, struct completion *done)
{
    bool dropped;

    pthread_mutex_lock(&cache->uploads->lock);
    dropped = upload->entry->dropped;
    pthread_mutex_unlock(&cache->uploads->lock);
    if (dropped)
        return end_dropped(cache, upload, done);
    switch (result->end) {
    case UPLOAD_RETRY:
        STAT_INC(uploads_retried);
        return end_retry(cache, upload, result->retry_after_ns, done);
    case UPLOAD_HELD:
        STAT_INC(uploads_held);
        return end_held(cache, upload, result->reason, done);
    case UPLOAD_CONFIRMED:
        STAT_INC(uploads_confirmed);
        return end_done(out_of(upload), result, done);
    case UPLOAD_SUPERSEDED:
        return end_done(out_of(upload), result, done);
    }
}

/* ---- open, start, close ---- */

static int load_row(struct cache *cache, struct span key, struct span value)
{
    struct uploads *uploads = cache->uploads;
    const struct account *account;
    struct upload_entry *entry;
    struct upload_scope *scope;
    struct container *in;
    struct upload_row row;
    uint64_t seq;

    if (key_upload_decode(key, &seq) < 0 || upload_row_decode(value, &row) < 0)
        return -EBADMSG;
    account = account_by_id(cache->conf.accounts, row.account);
    if (!account)
        return -EBADMSG; /* accounts_judge has refused this start */
    /* An account without a cloud for now keeps its entries: nobody asks for them. */
    if (row.blob.len && cache_container_by_id(cache, row.container, &in) < 0) {
        uploads->stale = xrealloc(uploads->stale, (uploads->stale_count + 1) * sizeof(uint64_t));
        uploads->stale[uploads->stale_count++] = seq;
        return 0;
    }
    if (row.blob.len)
        container_unref(in);
    entry = upload_entry_new(cache, seq, &row, contract_for(account, row.container_name, row.blob));
    entry->durable = entry->tried = true;
    scope = upload_scope(uploads, row.account, entry->contract);
    if (!left_of(scope, 0) && !left_of(scope, 1))
        scope->frozen = row.batch; /* rows come by seq: the first is of the older batch */
    entry->row.batch = MIN(MAX(row.batch, scope->frozen), scope->frozen + 1);
    if (entry->contract->order == ORDER_LATEST_WINS)
        entry->row.batch = scope->frozen;
    upload_set_phase(uploads, entry);
    upload_enter(uploads, entry);
    return 0;
}

int uploads_open(struct cache *cache)
{
    struct index_iter *iter;
    int err = 0;

    cache->uploads = xcalloc(1, sizeof(*cache->uploads));
    pthread_mutex_init(&cache->uploads->lock, NULL);
    iter = index_iter_new(cache->index, NULL, FAM_UPLOADS, SPAN(""), SPAN(""));
    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = load_row(cache, index_iter_key(iter), index_iter_value(iter));
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

void uploads_start(struct cache *cache)
{
    struct uploads *uploads = cache->uploads;
    struct change *change = NULL;

    for (size_t i = 0; i < uploads->stale_count; i++) {
        _cleanup_(row_bytes_done) struct row_bytes key = {0};

        if (!change)
            change = change_new();
        key_upload(&key, uploads->stale[i]);
        change_delete(change, FAM_UPLOADS, row_span(&key));
        if (change_bytes(change) > CHANGE_BYTES_MAX / 2)
            commit_submit(cache->committer, TAKE(change));
    }
    if (change)
        commit_submit(cache->committer, change);
    uploads->stale_count = 0;
}

struct uploads_stats uploads_stats(struct cache *cache)
{
    struct uploads *uploads = cache->uploads;
    struct uploads_stats stats = {0};
    int64_t oldest = INT64_MAX;

    SCOPED_LOCK(&uploads->lock);
    for (unsigned i = 0; uploads->count && i < UPLOAD_BUCKETS; i++)
        for (struct upload_entry *head = uploads->names[i]; head; head = head->hash_next)
            for (struct upload_entry *at = head; at; at = at->name_next) {
                stats.flying += at->state == UPLOAD_FLYING;
                stats.held += at->state == UPLOAD_STOPPED;
                oldest = MIN(oldest, at->row.queued_ns);
            }
    stats.waiting = uploads->count - stats.flying - stats.held;
    if (uploads->count && clock_wall_ns() > oldest)
        stats.oldest_ns = (uint64_t)(clock_wall_ns() - oldest);
    return stats;
}

void uploads_close(struct cache *cache)
{
    struct uploads *uploads = TAKE(cache->uploads);

    if (!uploads)
        return;
    for (unsigned i = 0; i < UPLOAD_BUCKETS; i++)
        for (struct upload_entry *head = uploads->names[i], *next_head; head; head = next_head) {
            next_head = head->hash_next;
            for (struct upload_entry *at = head, *next; at; at = next) {
                next = at->name_next;
                upload_entry_free(at);
            }
        }
    while (uploads->scopes) {
        struct upload_scope *next = uploads->scopes->next;

        free(uploads->scopes);
        uploads->scopes = next;
    }
    free(uploads->stale);
    pthread_mutex_destroy(&uploads->lock);
    free(uploads);
}
