/* cache/tx.c - one change of one name: begin, judge, put or delete, commit (cache.h "change").
 *
 *   cache_begin -> order.c grants the turn -> the owner judges tx_current -> tx_put/... builds the
 * new version in memory -> cache_commit: rows are built (on a worker when there are many),
 * submitted, the turn goes on -> committer: tx_decide, record, flush, index -> tx_publish -> the
 * owner's done. */
#include "cache/ask.h"
#include "cache/doubt.h"
#include "cache/known.h"
#include "cache/names.h"
#include "cache/order.h"
#include "cache/parts.h"
#include "cache/snapshots.h"
#include "cache/stage.h"
#include "cache/uploads.h"

#define PART_BYTES        (CHANGE_BYTES_MAX / 2) /* of rows built; links and object rows come on top */
#define PART_PIECES       2048
#define INLINE_PIECES_MAX 64 /* more: rows are built on a worker */

/* ---- ticks ---- */

uint64_t cache_tick(struct cache *cache)
{
    uint64_t now = (uint64_t)clock_wall_ns() / TICK_NS, last = atomic_load(&cache->tick), next;

    do
        next = MAX(now, last + 1);
    while (!atomic_compare_exchange_weak(&cache->tick, &last, next));
    return next;
}

struct tick_hook {
    struct change_hook hook;
    struct cache *cache;
    uint64_t covered;
};

/* In commit order the row only rises, whoever was built first. */
static void tick_order(struct change_hook *base, struct change *change)
{
    struct tick_hook *hook = container_of(base, struct tick_hook, hook);
    _cleanup_(row_bytes_done) struct row_bytes value = {0};

    hook->covered = MAX(hook->covered, hook->cache->tick_ordered);
    hook->cache->tick_ordered = hook->covered;
    meta_u64_encode(&value, hook->covered);
    change_put(change, FAM_META, META_TICK, row_span(&value));
}

static void tick_covered(struct change_hook *base, int err)
{
    struct tick_hook *hook = container_of(base, struct tick_hook, hook);
    uint64_t durable = atomic_load(&hook->cache->tick_durable);

    while (!err && durable < hook->covered &&
           !atomic_compare_exchange_weak(&hook->cache->tick_durable, &durable, hook->covered))
        ;
    free(hook);
}

void tick_cover(struct change *change, struct cache *cache, uint64_t tick)
{
    struct tick_hook *hook;

    if (tick <= atomic_load(&cache->tick_durable))
        return;
    hook = xcalloc(1, sizeof(*hook));
    hook->hook = (struct change_hook){.order = tick_order, .end = tick_covered};
    hook->cache = cache;
    hook->covered = tick + TICK_RANGE;
    change_add_hook(change, &hook->hook);
}

/* ---- begin and judge ---- */

static bool name_fits(struct span blob)
{
    return blob.len && blob.len <= BLOB_NAME_BYTES_MAX && !memchr(blob.base, 0, blob.len);
}

void cache_begin(struct cache *cache, const struct name *name, struct tx **ret,
                 struct completion *done)
{
    if (!name_fits(name->blob))
        return completion_post(done, -EINVAL);
    order_begin(cache, name->container, name->blob, 0, ret, done);
}

void cache_begin_container(struct cache *cache, uint32_t account, struct span name, struct tx **ret,
                           struct completion *done)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    if (!name_fits(name))
        return completion_post(done, -EINVAL);
    key_container(&key, account, name);
    order_begin(cache, CONTAINER_NAMES, row_span(&key), account, ret, done);
}

static struct span container_name(const struct tx *tx)
{
    return span_skip(tx->name, 4);
}

int tx_current(struct tx *tx, struct blob **ret)
{
    int err;

    if (tx->rests_on && !tx->current)
        return tx->rests_unknown ? -ENODATA : -ENOENT; /* a queued change has deleted it */
    err = names_judge(tx->cache, tx->container, tx->name, tx->current);
    if (!err)
        *ret = tx->current;
    return err;
}

int tx_current_container(struct tx *tx, struct container **ret)
{
    int err;

    if (tx->rests_on && !tx->current_container)
        return -ENOENT;
    err = containers_judge(tx->cache, tx->account, container_name(tx), tx->current_container);
    if (!err)
        *ret = tx->current_container;
    return err;
}

bool tx_has_staged(struct tx *tx)
{
    return stage_exists(tx->cache, tx->container, tx->name);
}

/* ---- what is put ---- */

/* The new local name of what this tx makes. */
static uint64_t name_version(struct tx *tx, uint64_t *etag, int64_t *modified_ns)
{
    uint64_t tick = cache_tick(tx->cache);

    *etag = TICK_ETAG(tick);
    *modified_ns = (int64_t)(tick * TICK_NS);
    return tick;
}

static void name_record(struct tx *tx, struct blob_record *record)
{
    const struct contract *contract = cache_contract(tx->cache, tx->container, tx->name);
    struct container *in;

    (void)name_version(tx, &record->etag, &record->modified_ns);
    if (!record->created_ns)
        record->created_ns = record->modified_ns;
    record->contract = contract ? contract->id : 0;
    if (blob_is_there(tx->current)) /* it lasts over versions; asked for again when it matters */
        record->cloud_lease = tx->current->record.cloud_lease;
    record->sole = contract && contract->write == WRITE_LOCAL;
    if (cache_container_by_id(tx->cache, tx->container, &in) == 0) {
        const struct account *account = account_by_id(tx->cache->conf.accounts, in->record.account);

        record->sole |= !account || account_is_local(account);
        container_unref(in);
    }
    record->durability = DURABILITY_LOCAL;
    record->cloud_etag = (struct span){NULL, 0};
    record->cloud_modified_ns = record->checked_ns = 0;
    snapshots_follow(tx, record);
}

/* A Put Blob body in a small slab that no other record locates. */
static bool can_locate(enum blob_type type, const struct piece *pieces, size_t n,
                       const struct block_ref *blocks)
{
    return type == BLOB_BLOCK && !blocks && n == 1 && pieces[0].object->small &&
           pieces[0].offset == 0 && pieces[0].length == pieces[0].object->length;
}

void tx_put(struct tx *tx, struct blob_record *record, const struct piece *pieces, size_t n,
            const struct block_ref *blocks, bool drop_staged)
{
    bool has_ids = blocks && record->type != BLOB_APPEND;
    struct span *ids = has_ids ? xmalloc(n * sizeof(*ids)) : NULL;

    assert(tx->what == TX_NOTHING && tx->container != CONTAINER_NAMES);
    name_record(tx, record);
    record->snapshots.share = false; /* its content is new */
    record->length = 0;
    record->committed_blocks = blocks || record->type == BLOB_APPEND ? (uint32_t)n : 0;
    for (size_t i = 0; i < n; i++) {
        record->length += pieces[i].length;
        if (ids)
            ids[i] = blocks[i].id;
    }
    tx->what = TX_PUT;
    tx->drop_staged = drop_staged;
    tx->blob = blob_new(tx->cache, &(struct blob_parts){
                                       .container = tx->container,
                                       .name = tx->name,
                                       .state = BLOB_LIVE,
                                       .record = record,
                                       .manifest = n ? cache_tick(tx->cache) : 0,
                                       .lineage = tx->reuses ? blob_lineage(tx->current) : 0,
                                       .located = can_locate(record->type, pieces, n, blocks),
                                       .pieces = pieces,
                                       .piece_count = n,
                                       .ids = ids,
                                   });
    free(ids);
}

void tx_append(struct tx *tx, struct blob_record *record, const struct piece *piece)
{
    const struct blob *current = tx->current;

    assert(tx->what == TX_NOTHING && current && current->state == BLOB_LIVE &&
           current->record.type == BLOB_APPEND && piece->length);
    name_record(tx, record);
    record->length = current->record.length + piece->length;
    record->committed_blocks = (uint32_t)current->piece_count + 1;
    record->has_crc64 = false; /* of another content */
    tx->what = TX_APPEND;
    tx->blob =
        blob_with_piece(current, record, current->manifest ? 0 : cache_tick(tx->cache), piece);
}

struct blob *tx_cloud_blob(struct tx *tx, const struct blob_record *record)
{
    struct piece piece = {NULL, 0, record->length};
    size_t n = record->length ? 1 : 0;

    if (n)
        piece.object = object_new_cloud(tx->cache, record->length, tx->container, tx->name,
                                        record->cloud_etag);
    return blob_new(tx->cache, &(struct blob_parts){
                                   .container = tx->container,
                                   .name = tx->name,
                                   .state = BLOB_LIVE,
                                   .record = record,
                                   .manifest = n ? cache_tick(tx->cache) : 0,
                                   .pieces = &piece,
                                   .piece_count = n,
                               });
}

void tx_describe(struct tx *tx, struct blob_record *record)
{
    struct blob *content;

    assert(tx->what == TX_NOTHING && blob_is_there(tx->current));
    content = tx->current->state == BLOB_CLOUD ? tx_cloud_blob(tx, &tx->current->record)
                                               : blob_ref(tx->current);
    name_record(tx, record);
    record->length = content->record.length;
    tx->what = TX_DESCRIBE;
    tx->blob = blob_with_record(content, record);
    if (!tx->blob->manifest) /* an empty one is known by its first ETag */
        tx->blob->lineage = blob_lineage(content);
    blob_unref(content);
}

void tx_amend(struct tx *tx, const struct blob_record *amended)
{
    struct blob_record record;
    struct blob *content;

    assert(tx->what == TX_NOTHING && blob_is_there(tx->current));
    record = tx->current->record;
    record.tags = amended->tags;
    record.tags_unknown = amended->tags_unknown;
    record.access_tier = amended->access_tier;
    record.access_tier_inferred = amended->access_tier_inferred;
    record.access_tier_changed_ns = amended->access_tier_changed_ns;
    record.rehydrating = amended->rehydrating;
    content = tx->current->state == BLOB_CLOUD ? tx_cloud_blob(tx, &tx->current->record)
                                               : blob_ref(tx->current);
    if (record.cloud_etag.len)
        record.durability = DURABILITY_LOCAL; /* the content is clean still: blob_body_etag */
    tx->what = TX_DESCRIBE;
    tx->blob = blob_with_record(content, &record);
    blob_unref(content);
}

void tx_delete(struct tx *tx)
{
    struct blob_record record = {0};
    uint64_t tick;

    assert(tx->what == TX_NOTHING && tx->container != CONTAINER_NAMES);
    tick = name_version(tx, &record.etag, &record.modified_ns);
    snapshots_drop(tx, tick);
    tx->what = TX_DELETE;
    tx->drop_staged = true;
    tx->blob = blob_new(tx->cache, &(struct blob_parts){.container = tx->container,
                                                        .name = tx->name,
                                                        .state = BLOB_TOMBSTONE,
                                                        .record = &record});
}

void tx_adopt(struct tx *tx, struct blob *blob)
{
    assert(tx->what == TX_NOTHING);
    tx->what = TX_ADOPT;
    tx->blob = blob;
}

void tx_adopt_container(struct tx *tx, struct container *container)
{
    assert(tx->what == TX_NOTHING && tx->container == CONTAINER_NAMES);
    tx->what = TX_ADOPT;
    tx->described = container;
}

void tx_forget(struct tx *tx)
{
    assert(tx->what == TX_NOTHING);
    tx->what = TX_ADOPT;
    tx->forget = true;
}

void tx_unknown(struct tx *tx)
{
    tx_forget(tx);
    tx->unknown = true;
}

void tx_put_container(struct tx *tx, struct container_record *record)
{
    struct container *old = tx->current_container;
    bool same = old && !old->tombstone && (!record->id || record->id == old->record.id);

    assert(tx->what == TX_NOTHING && tx->container == CONTAINER_NAMES);
    (void)name_version(tx, &record->etag, &record->modified_ns);
    if (!record->id)
        record->id = same ? old->record.id : cache_tick(tx->cache);
    record->account = tx->account;
    record->name = container_name(tx);
    record->in_cloud = same && old->record.in_cloud;
    tx->what = TX_PUT_CONTAINER;
    tx->described = container_new(tx->cache, record, false, same ? old->unknown : SPAN(""));
}

void tx_delete_container(struct tx *tx)
{
    struct container_record record;

    assert(tx->what == TX_NOTHING && tx->current_container && !tx->current_container->tombstone);
    record = tx->current_container->record;
    (void)name_version(tx, &record.etag, &record.modified_ns);
    tx->what = TX_DELETE_CONTAINER;
    tx->described = container_new(tx->cache, &record, true, SPAN(""));
}

void tx_lease(struct tx *tx, struct lease *lease)
{
    struct blob_record record;
    struct container *in = tx->current_container;
    struct container_record described;

    if (lease->kind != LEASE_KIND_NONE && !lease->serial) {
        lease->serial = cache_tick(tx->cache);
        cache_lease_renew(tx->cache, lease);
    }
    if (tx->container == CONTAINER_NAMES) {
        described = in->record;
        described.lease = *lease;
        tx_adopt_container(tx, container_new(tx->cache, &described, in->tombstone, in->unknown));
        return;
    }
    record = tx->current->record;
    record.lease = *lease;
    tx_adopt(tx, blob_with_record(tx->current, &record));
}

void tx_upload(struct tx *tx, const struct upload_spec *spec)
{
    tx->uploads = true;
    tx->upload = *spec;
}

/* ---- rows of a version ---- */

static struct change *next_change(struct tx *tx) /* the part built so far goes, invisible as yet */
{
    struct blob *blob = tx->blob;

    if (!tx->guarded) {
        reaper_guard(tx->change, tx->cache, blob->manifest);
        tx->guarded = blob->manifest;
        tx->parts = parts_new();
    }
    parts_add(tx->parts, tx->change);
    commit_submit(tx->cache->committer, TAKE(tx->change));
    return tx->change = change_new();
}

static void put_manifest_row(struct tx *tx, uint64_t start, const struct row_bytes *row)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    key_manifest(&key, tx->blob->manifest, start);
    change_put(tx->change, FAM_MANIFESTS, row_span(&key), row_span(row));
}

/* What a piece that is used again may add to the change when it is ordered: what it is now may be
 * another thing then. */
static size_t restated_bytes(const struct tx *tx, struct object *object)
{
    return tx->reuses ? (size_t)object->cell_count * RESTATED_EXTENT_BYTES : 0;
}

static void build_manifest(struct tx *tx)
{
    _cleanup_(row_bytes_done) struct row_bytes row = {0};
    struct blob *blob = tx->blob; /* nobody else's yet */
    enum object_state state = blob_object_state(&blob->record);
    uint64_t start = 0, at = 0;
    size_t restated = 0;

    blob->row_first = 0;
    manifest_row_begin(&row);
    for (size_t i = 0; i < blob->piece_count; i++) {
        const struct piece *piece = &blob->pieces[i];
        bool row_full;

        restated += restated_bytes(tx, piece->object);
        row_full = (i + 1) % MANIFEST_ROW_PIECES == 0 || i + 1 == blob->piece_count ||
                   restated > PART_BYTES;
        manifest_row_add(&row, &(struct manifest_piece){
                                   .object = piece->object->id,
                                   .offset = piece->offset,
                                   .length = piece->length,
                                   .block = blob->ids ? blob->ids[i] : (struct span){NULL, 0},
                               });
        object_link(tx->change, piece->object, blob->manifest, state);
        at += piece->length;
        if (!row_full)
            continue;
        put_manifest_row(tx, start, &row);
        start = at;
        manifest_row_begin(&row);
        if (i + 1 < blob->piece_count)
            blob->row_first = i + 1;
        if (i + 1 < blob->piece_count &&
            ((i + 1) % PART_PIECES == 0 || change_bytes(tx->change) + restated > PART_BYTES)) {
            next_change(tx);
            restated = 0;
        }
    }
}

/* The last row with the new piece, or a new one that begins with it. */
static void build_append(struct tx *tx)
{
    _cleanup_(row_bytes_done) struct row_bytes row = {0};
    const struct blob *blob = tx->blob;
    const struct piece *last = &blob->pieces[blob->piece_count - 1];
    uint64_t start = blob->record.length;

    manifest_row_begin(&row);
    for (size_t i = blob->row_first; i < blob->piece_count; i++) {
        const struct piece *piece = &blob->pieces[i];

        start -= piece->length;
        manifest_row_add(&row, &(struct manifest_piece){.object = piece->object->id,
                                                        .offset = piece->offset,
                                                        .length = piece->length});
    }
    put_manifest_row(tx, start, &row);
    object_link(tx->change, last->object, blob->manifest, blob_object_state(&blob->record));
}

static void build_blob(struct tx *tx)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct blob *blob = tx->blob;
    bool fresh =
        blob && blob->manifest &&
        !(tx->current && blob_same_content(tx->current, blob)); /* content not linked yet */

    if (fresh && blob->located)
        object_link_record(tx->change, blob->pieces[0].object, &blob->name,
                           blob_object_state(&blob->record));
    else if (fresh)
        build_manifest(tx);
    else if (blob && tx->what == TX_APPEND)
        build_append(tx);
    if (tx->guarded)
        reaper_unguard(tx->change, tx->cache, tx->guarded);
    snapshots_build(tx);
    key_blob(&key, tx->container, tx->name);
    if (tx->current && tx->current->record.cloud_etag.len && tx->what != TX_ADOPT)
        change_delete(tx->change, FAM_FRESH, row_span(&key)); /* of a version that is no more */
    if (!blob || tx->forget || blob->state == BLOB_ABSENT) {
        change_delete(tx->change, FAM_BLOBS, row_span(&key));
        return;
    }
    blob_row_of(blob, &value);
    change_put(tx->change, FAM_BLOBS, row_span(&key), row_span(&value));
}

static void build_container(struct tx *tx)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct container *container = tx->described;

    key_container(&key, tx->account, container_name(tx));
    if (!container || tx->forget) {
        change_delete(tx->change, FAM_CONTAINERS, row_span(&key));
        return;
    }
    container_row_encode(&value, &(struct container_row){.tombstone = container->tombstone,
                                                         .record = container->record,
                                                         .unknown = container->unknown});
    change_put(tx->change, FAM_CONTAINERS, row_span(&key), row_span(&value));
}

/* ---- the committer's part ---- */

/* Does anything but the name itself still need what it was? Else its content goes. */
static void dispose_current(struct tx *tx, struct change *change)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct blob *old = tx->current;

    if (!old || old->state != BLOB_LIVE || (tx->blob && tx->blob->record.etag == old->record.etag))
        return;
    if (uploads_need_version(tx->cache, tx->container, tx->name, old->record.etag)) {
        key_version(&key, tx->container, tx->name, old->record.etag);
        blob_row_of(old, &value);
        change_put(change, FAM_VERSIONS, row_span(&key), row_span(&value));
    } else if (!(tx->blob && blob_same_content(tx->blob, old)) && !old->record.snapshots.share &&
               !uploads_need_content(tx->cache, tx->container, tx->name, old->manifest)) {
        blob_drop_content(change, old);
    }
}

/* The tombstone of a name the cloud never had, or does not have any more. */
static void decide_tombstone(struct tx *tx, struct change *change)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    if (tx->what != TX_DELETE || (tx->uploads && !tx->cancelled))
        return;
    tx->forget = true;
    key_blob(&key, tx->container, tx->name);
    change_delete(change, FAM_BLOBS, row_span(&key));
}

/* The cloud has something of that name, and no row says so: no range may say that it was all told,
 * also none that is being learned. Of the whole container, which needs no look and one entry: it
 * happens when somebody else wrote there, and costs a listing. */
static void forget_ranges(struct tx *tx, struct change *change)
{
    known_forget(change, tx->container);
    asks_overtaken(tx->cache, tx->container);
}

static int decide_blob(struct tx *tx, struct change *change)
{
    int err;

    if (!containers_alive_ordered(tx->cache, tx->container))
        return -ENOENT;
    if (tx->ask && asks_stale(tx->cache, tx->ask))
        return -ESTALE;
    if (tx->reuses && !blob_make_whole(tx->blob))
        return -EBUSY; /* evicted since they were found */
    if ((err = uploads_order(tx, change)) < 0)
        return err;
    asks_changed(tx->cache, tx->container, tx->name);
    if (tx->unknown)
        forget_ranges(tx, change);
    decide_tombstone(tx, change);
    dispose_current(tx, change);
    if (tx->drop_staged)
        stage_drop(tx->cache, change, tx->container, tx->name);
    return 0;
}

/* Ranges, stubs and times of a container that goes: no learned page is applied to it any more. */
static void forget_knowledge(struct change *change, uint64_t container)
{
    static const enum known_kind kinds[] = {KNOWN_RANGE, KNOWN_STUB};
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};

    for (unsigned i = 0; i < countof(kinds); i++) {
        key_known(&from, kinds[i], container, SPAN(""), SPAN(""), SPAN(""));
        key_known(&to, kinds[i], container + 1, SPAN(""), SPAN(""), SPAN(""));
        change_delete_range(change, FAM_KNOWN, row_span(&from), row_span(&to));
    }
    key_blob(&from, container, SPAN(""));
    key_blob(&to, container + 1, SPAN(""));
    change_delete_range(change, FAM_FRESH, row_span(&from), row_span(&to));
}

static void drop_container(struct tx *tx, struct change *change)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    uint64_t id = tx->current_container->record.id;

    containers_order_gone(tx->cache, id, true);
    reaper_add_container(change, tx->cache, id);
    forget_knowledge(change, id);
    if (tx->uploads && !tx->cancelled)
        return;
    tx->forget = true;
    key_container(&key, tx->account, container_name(tx));
    change_delete(change, FAM_CONTAINERS, row_span(&key));
}

static bool drops_container(const struct tx *tx)
{
    const struct container *old = tx->current_container;

    return old && !old->tombstone &&
           (!tx->described || tx->described->tombstone ||
            tx->described->record.id != old->record.id);
}

/* The cloud said that it is not there, and since then something came into it (N4). */
static bool came_to_life(const struct tx *tx)
{
    uint64_t id;

    if (tx->what != TX_ADOPT || tx->ended || !drops_container(tx))
        return false;
    id = tx->current_container->record.id;
    return uploads_have_container(tx->cache, id) || stage_any_in(tx->cache, id);
}

static int decide_container(struct tx *tx, struct change *change)
{
    int err;

    if (came_to_life(tx))
        return -ESTALE;
    if (tx->ask && asks_row_stale(tx->cache, tx->ask, tx->name))
        return -ESTALE;
    if ((err = uploads_order(tx, change)) < 0)
        return err;
    asks_changed(tx->cache, ASK_CONTAINERS, tx->name);
    if (drops_container(tx))
        drop_container(tx, change);
    return 0;
}

static int tx_decide(struct change *change)
{
    struct tx *tx = change->arg;
    int err;

    if (order_refused(tx) || (tx->parts && !parts_whole(tx->parts)))
        return -EIO;
    err = tx->container == CONTAINER_NAMES ? decide_container(tx, change) : decide_blob(tx, change);
    if (!err) {
        order_agreed(tx);
        tx->lifts =
            tx->doubt && doubts_order_lift(tx->cache, change, tx->container, tx->name, tx->doubt);
    }
    return err;
}

static void publish_blob(struct tx *tx)
{
    struct blob_record record;
    struct blob *absent;

    if (!tx->blob) {
        names_forget(tx->cache, tx->container, tx->name);
    } else if (!tx->forget) {
        names_publish(tx->cache, tx->blob);
    } else { /* certainly absent, for the contract's time */
        record = tx->blob->record;
        record.checked_ns = clock_wall_ns();
        absent = blob_with_record(tx->blob, &record);
        absent->state = BLOB_ABSENT;
        names_publish(tx->cache, absent);
        blob_unref(absent);
    }
}

static void publish_container(struct tx *tx, int err)
{
    struct container *old = tx->current_container;

    if (drops_container(tx)) {
        if (!err)
            stage_forget_container(tx->cache, old->record.id);
    }
    if (!err && tx->described && !tx->forget)
        containers_publish(tx->cache, tx->described);
    else if (!err)
        containers_forget(tx->cache, tx->account, container_name(tx));
    if (!drops_container(tx))
        return;
    if (!err)
        names_forget_container(tx->cache, old->record.id);
    containers_order_gone(tx->cache, old->record.id,
                          false); /* the table says so itself, or it lives */
}

static void drop_guarded(struct tx *tx) /* parts were written, the change that shows them failed */
{
    struct change *change;

    if (!tx->guarded)
        return;
    change = change_new();
    reaper_add(change, tx->cache, tx->guarded);
    reaper_unguard(change, tx->cache, tx->guarded);
    commit_submit(tx->cache->committer, change);
}

static void tx_drop(struct tx *tx)
{
    if (atomic_fetch_sub(&tx->refs, 1) == 1)
        tx_free(tx);
}

static void tx_publish(struct change *change, uint64_t commit, int err)
{
    struct tx *tx = change->arg;

    if (tx->container == CONTAINER_NAMES)
        publish_container(tx, err);
    else if (!err)
        publish_blob(tx);
    if (err)
        drop_guarded(tx);
    if (tx->lifts) /* behind what was learned: nobody sees the old one unmarked */
        doubts_lifted(tx->cache, tx->container, tx->name, tx->doubt, err);
    uploads_ended(tx, err);
    order_ended(tx, err);
    tx_drop(tx);
}

/* ---- commit ---- */

static int commit_build(void *arg)
{
    struct tx *tx = arg;

    tx->change = change_new();
    if (tx->container == CONTAINER_NAMES)
        build_container(tx);
    else
        build_blob(tx);
    tick_cover(tx->change, tx->cache, atomic_load(&tx->cache->tick));
    tx->change->decide = tx_decide;
    tx->change->publish = tx_publish;
    tx->change->arg = tx;
    tx->change->done = tx->done;
    atomic_store(&tx->refs, 2);
    order_queued(tx);
    commit_submit(tx->cache->committer, TAKE(tx->change));
    order_leave(tx);
    tx_drop(tx);
    return 0;
}

void cache_commit(struct tx *tx, struct completion *done)
{
    assert(tx->what != TX_NOTHING);
    tx->done = done;
    if (tx->what != TX_APPEND && tx->blob && tx->blob->piece_count > INLINE_PIECES_MAX)
        cache_run(tx->cache, commit_build, tx);
    else
        commit_build(tx);
}

void cache_rollback(struct tx *tx, struct completion *done)
{
    order_await_rest(tx, done);
}
