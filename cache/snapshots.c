/* cache/snapshots.c - see snapshots.h. What is made or deleted is decided under the name's turn:
 * the last ordered version says what there is, the rows say the rest.
 *
 * Content is named by its manifest, and goes with the last row that names it (N6). Snapshots that
 * share one stand side by side in time, the newest beside the name's own version, if that still has
 * it. So whether a snapshot is the last one to name its content is told by its neighbours and the
 * name's row; these are read when nothing of the name is under way. The other way round, whether
 * the content of an overwritten version stays, its row says itself (snapshots.share): the committer
 * reads nothing. A snapshot of an append blob is the beginning of the manifest that grows on (N11),
 * and keeps all of it. */
#include "cache/snapshots.h"

#include "base/date.h"
#include "cache/metrics.h"

bool blob_is_copied(const struct blob *blob)
{
    return blob->located;
}

/* ---- looking one up ---- */

struct finding {
    struct cache *cache;
    uint64_t container, snapshot;
    struct span blob; /* owned */
    struct blob *found, **ret;
    struct completion step, *done;
};

static int read_row(struct cache *cache, uint64_t container, struct span blob, uint64_t snapshot,
                    struct blob **ret)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct index_value value;
    int err;

    key_version(&key, container, blob, snapshot);
    err = index_get(cache->index, NULL, FAM_VERSIONS, row_span(&key), &value);
    if (err)
        return err;
    err = blob_load(cache, NULL, container, blob, value.bytes, ret);
    index_value_done(&value);
    return err == -ENOENT ? -EAGAIN : err; /* its content went between two reads */
}

/* The name's row first: it counts that one, or the row is garbage. */
static int find_once(struct finding *f)
{
    struct blob *base = names_get(f->cache, f->container, f->blob);
    int err = base ? 0 : names_load(f->cache, NULL, f->container, f->blob, &base);

    if (!err)
        err = names_judge(f->cache, f->container, f->blob, base);
    if (!err && !snapshot_counts(&base->record, f->snapshot))
        err = -ENOENT;
    if (!err)
        err = read_row(f->cache, f->container, f->blob, f->snapshot, &f->found);
    blob_unref(base);
    return err;
}

static int find(void *arg) /* worker */
{
    struct finding *f = arg;
    int err = -EAGAIN;

    for (unsigned i = 0; err == -EAGAIN && i < LOAD_TRIES_MAX; i++)
        err = find_once(f);
    return err == -EAGAIN ? -EIO : err;
}

static void found(struct completion *step)
{
    struct finding *f = container_of(step, struct finding, step);
    struct completion *done = f->done;
    int err = step->err;

    if (!err)
        *f->ret = TAKE(f->found);
    blob_unref(f->found);
    free((char *)f->blob.base);
    free(f);
    completion_post(done, err);
}

void snapshot_lookup(struct cache *cache, const struct name *name, struct blob **ret,
                     struct completion *done)
{
    struct finding *f;
    uint64_t snapshot;
    char *copy;

    if (iso8601_ticks_parse(name->snapshot, &snapshot) < 0)
        return completion_post(done, -EINVAL);
    f = xcalloc(1, sizeof(*f));
    copy = xmalloc(name->blob.len);
    memcpy(copy, name->blob.base, name->blob.len);
    *f = (struct finding){.cache = cache,
                          .container = name->container,
                          .snapshot = snapshot,
                          .blob = span_from(copy, name->blob.len),
                          .ret = ret,
                          .done = done,
                          .step = {.fn = found, .loop = done->loop}};
    worker_run(cache->workers, find, f, &f->step);
}

/* ---- taking one ---- */

static struct blob *version_with(const struct tx *tx, const struct blob_record *record)
{
    return blob_with_record(tx->current, record);
}

/* Its own content, or that of the version it is taken of. */
static struct blob *snapshot_blob(const struct tx *tx, const struct snapshot_spec *spec,
                                  const struct blob_record *record)
{
    if (!tx->current->located)
        return version_with(tx, record);
    return blob_new(tx->cache, &(struct blob_parts){.container = tx->container,
                                                    .name = tx->name,
                                                    .state = BLOB_LIVE,
                                                    .record = record,
                                                    .manifest = cache_tick(tx->cache),
                                                    .located = true,
                                                    .pieces = &spec->copy,
                                                    .piece_count = 1});
}

int tx_snapshot(struct tx *tx, const struct snapshot_spec *spec, struct snapshot_made *ret)
{
    struct blob_record snapshot, base;

    assert(tx->what == TX_NOTHING && blob_is_there(tx->current));
    if (tx->current->state != BLOB_LIVE ||
        (tx->current->located && !(spec->copied && blob_same_content(spec->copied, tx->current))))
        return -ESTALE;
    base = snapshot = tx->current->record;
    memset(&snapshot.snapshots, 0, sizeof(snapshot.snapshots));
    memset(&snapshot.lease, 0, sizeof(snapshot.lease)); /* there is none on one */
    snapshot.snapshot = cache_tick(tx->cache);
    if (spec->metadata) {
        snapshot.metadata = spec->metadata;
        snapshot.metadata_count = spec->metadata_count;
        snapshot.etag = TICK_ETAG(snapshot.snapshot);
        snapshot.modified_ns = (int64_t)(snapshot.snapshot * TICK_NS);
    }
    if (!base.snapshots.count++)
        base.snapshots.since = snapshot.snapshot;
    base.snapshots.share = tx->current->manifest && !tx->current->located;
    tx->what = TX_SNAPSHOTS;
    tx->snapshot = snapshot_blob(tx, spec, &snapshot);
    tx->blob = version_with(tx, &base);
    *ret = (struct snapshot_made){snapshot.snapshot, snapshot.etag, snapshot.modified_ns};
    STAT_INC(snapshots_made);
    return 0;
}

/* ---- deleting ---- */

struct choosing { /* which one is to go, and what of it stays */
    struct tx *tx;
    uint64_t snapshot;
    struct blob **ret;
    struct completion step, *done;
};

static int neighbour(struct choosing *c, struct span value, struct row_space *space,
                     uint64_t *manifest)
{
    struct blob_row row;
    int err = blob_row_decode(value, &row, space);

    if (!err)
        *manifest = row.manifest;
    return err ? -EIO : 0;
}

/* Manifests of the snapshot before and the one after: 0, there is none or it has none. */
static int neighbours(struct choosing *c, uint64_t *before, uint64_t *after, bool *newest)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    const struct tx *tx = c->tx;
    struct index_iter *iter;
    uint64_t container, number;
    struct span blob;
    int err = 0;

    *before = *after = 0;
    *newest = true;
    key_version(&from, tx->container, tx->name, tx->current->record.snapshots.since);
    key_version(&to, tx->container, tx->name, VERSION_ETAGS);
    iter = index_iter_new(tx->cache->index, NULL, FAM_VERSIONS, row_span(&from), row_span(&to));
    for (; !err && *newest && index_iter_valid(iter); index_iter_next(iter)) {
        if (key_version_decode(index_iter_key(iter), &container, &blob, &number) < 0) {
            err = -EIO;
        } else if (number < c->snapshot) {
            err = neighbour(c, index_iter_value(iter), &space, before);
        } else if (number > c->snapshot) {
            err = neighbour(c, index_iter_value(iter), &space, after);
            *newest = false;
        }
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int choose(void *arg) /* worker; nothing of the name is under way */
{
    struct choosing *c = arg;
    struct tx *tx = c->tx;
    const struct blob *base = tx->current;
    uint64_t before, after, own;
    bool newest;
    int err = read_row(tx->cache, tx->container, tx->name, c->snapshot, &tx->snapshot);

    if (!err)
        err = neighbours(c, &before, &after, &newest);
    if (err)
        return err == -EAGAIN ? -EIO : err;
    own = tx->snapshot->manifest;
    tx->snapshot_alone = own && own != before && own != after && own != base->manifest;
    tx->snapshots_share =
        newest ? base->manifest && before == base->manifest : base->record.snapshots.share;
    *c->ret = tx->snapshot;
    return 0;
}

static void settled(struct completion *step)
{
    struct choosing *c = container_of(step, struct choosing, step);

    if (step->err)
        return completion_post(c->done, step->err);
    worker_run(c->tx->cache->workers, choose, c, c->done);
}

void tx_find_snapshot(struct tx *tx, uint64_t snapshot, struct blob **ret, struct completion *done)
{
    struct choosing *c;

    if (!blob_is_there(tx->current) || !snapshot_counts(&tx->current->record, snapshot))
        return completion_post(done, -ENOENT);
    c = xmalloc(sizeof(*c));
    free(tx->resolving);
    tx->resolving = c; /* the tx's: a full queue of the workers never calls choose */
    *c = (struct choosing){.tx = tx,
                           .snapshot = snapshot,
                           .ret = ret,
                           .done = done,
                           .step = {.fn = settled, .loop = done->loop}};
    order_settle(tx, &c->step);
}

void tx_delete_snapshot(struct tx *tx)
{
    struct blob_record record;

    assert(tx->what == TX_NOTHING && tx->snapshot);
    record = tx->current->record;
    record.snapshots.count--;
    record.snapshots.share = tx->snapshots_share;
    if (!record.snapshots.count)
        record.snapshots.since = 0;
    tx->what = TX_SNAPSHOTS;
    tx->snapshot_goes = true;
    tx->blob = version_with(tx, &record);
}

void tx_delete_snapshots(struct tx *tx)
{
    struct blob_record record;

    assert(tx->what == TX_NOTHING && blob_is_there(tx->current));
    record = tx->current->record;
    snapshots_drop(tx, cache_tick(tx->cache));
    memset(&record.snapshots, 0, sizeof(record.snapshots));
    tx->what = TX_SNAPSHOTS;
    tx->blob = version_with(tx, &record);
}

/* ---- for tx.c ---- */

void snapshots_follow(const struct tx *tx, struct blob_record *record)
{
    record->snapshot = 0;
    memset(&record->snapshots, 0, sizeof(record->snapshots));
    if (blob_is_there(tx->current))
        record->snapshots = tx->current->record.snapshots;
}

void snapshots_drop(struct tx *tx, uint64_t tick)
{
    if (blob_is_there(tx->current) && tx->current->record.snapshots.count)
        tx->snapshots_drop = tick;
}

static void put_snapshot(struct tx *tx, struct span key)
{
    _cleanup_(row_bytes_done) struct row_bytes value = {0};
    struct blob *snapshot = tx->snapshot;

    if (snapshot->located)
        object_link_record(tx->change, snapshot->pieces[0].object, &snapshot->name,
                           blob_object_state(&snapshot->record));
    blob_row_of(snapshot, &value);
    change_put(tx->change, FAM_VERSIONS, key, row_span(&value));
}

void snapshots_build(struct tx *tx)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    if (tx->what == TX_SNAPSHOTS && tx->snapshot) {
        key_version(&key, tx->container, tx->name, tx->snapshot->record.snapshot);
        if (!tx->snapshot_goes)
            put_snapshot(tx, row_span(&key));
        else
            change_delete(tx->change, FAM_VERSIONS, row_span(&key));
        if (tx->snapshot_goes && tx->snapshot_alone)
            blob_drop_content(tx->change, tx->snapshot);
    }
    if (!tx->snapshots_drop)
        return;
    key_version(&key, tx->container, tx->name, tx->snapshots_drop);
    reaper_add_snapshots(tx->change, tx->cache, row_span(&key));
}
