/* cache/reaper.c - what is referred to no more: link rows, object rows, manifest rows and slots go
 * here, in bounded changes, on the keeper's thread. What is to be done stands in FAM_META, put
 * there by the change that dropped the reference, and goes with the last change that did it: a
 * crash in between does some of it again, which finds nothing left and changes nothing.
 *
 * Nobody but the reaper touches the rows of a dropped manifest or generation, so an iterator's
 * snapshot of them stays true while it works. That nobody needs an object any more is judged by
 * link.c. */
#include "cache/content.h"

#include "base/bytes.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/metrics.h"
#include "cache/record.h"

#define REAP_CHANGE_BYTES (256u << 10) /* submitted when about so much is gathered */
#define REAP_UNLINK_BYTES 80           /* entries of one link and one object row */
#define REAP_EXTENT_BYTES 60
#define REAP_EXTENTS_MAX                                                                           \
    2048                       /* an object with more is thinned first: it is clean cloud content  \
                                */
#define REAP_KEYS_MAX      256 /* looked up in one go */
#define REAP_KEY_BYTES_MAX (BLOB_NAME_BYTES_MAX + 64)
#define ORPHAN_USER        UINT64_MAX /* links nothing: unlinking it drops what has no links */

struct reaper { /* filled at start, emptied by the keeper */
    struct object_id *orphans;
    unsigned orphan_count, orphan_room;
    uint64_t *guarded;
    unsigned guarded_count, guarded_room;
};

/* ---- a change being gathered ---- */

struct reap {
    struct cache *cache;
    struct change *change;
    size_t bytes;
};

static int reap_flush(struct reap *reap)
{
    struct change *change = TAKE(reap->change);
    int err;

    reap->change = change_new();
    reap->bytes = 0;
    FAILPOINT("reap_gathered");
    err = keeper_commit(reap->cache->content->keeper, change);
    FAILPOINT("reap_committed");
    return err;
}

static int reap_grown(struct reap *reap, size_t bytes)
{
    reap->bytes += bytes;
    if (keeper_stopping(reap->cache->content->keeper))
        return -ECANCELED;
    return reap->bytes > REAP_CHANGE_BYTES ? reap_flush(reap) : 0;
}

static unsigned object_extents_present(struct object *object, unsigned from, unsigned max,
                                       unsigned *ret)
{
    unsigned n = 0;

    SCOPED_LOCK(&object->lock);
    for (unsigned i = from; i < object->cell_count && n < max; i++)
        if (object->cells[i])
            ret[n++] = i;
    return n;
}

/* Takes extents out of an object whose rows would not fit one change. */
static int reap_thin(struct reap *reap, struct object *object)
{
    unsigned *present = xcalloc(REAP_EXTENTS_MAX, sizeof(*present));
    unsigned n, from = 0;
    int err = 0;

    while (!err && (n = object_extents_present(object, from, REAP_EXTENTS_MAX, present)) ==
                       REAP_EXTENTS_MAX) {
        for (unsigned i = 0; i < n; i++)
            evict_extent(reap->change, object, present[i]);
        from = present[n - 1] + 1;
        err = reap_flush(reap);
    }
    free(present);
    return err;
}

static int reap_unlink(struct reap *reap, struct object_id id, uint64_t user)
{
    struct object *object;
    size_t bytes;
    int err = object_get(reap->cache, id, &object);

    if (err == -ENOENT)
        return 0; /* done before a crash */
    if (err < 0)
        return err;
    if (object->cell_count > REAP_EXTENTS_MAX)
        err = reap_thin(reap, object);
    object_unlink(reap->change, object, user);
    bytes =
        REAP_UNLINK_BYTES + (size_t)MIN(object->cell_count, REAP_EXTENTS_MAX) * REAP_EXTENT_BYTES;
    object = object_unref(object);
    STAT_INC(reaped_links);
    return err ? err : reap_grown(reap, bytes);
}

static int reap_delete(struct reap *reap, enum family family, struct span key)
{
    change_delete(reap->change, family, key);
    return reap_grown(reap, key.len + 16);
}

/* Calls fn for every row of the family whose key starts with prefix. */
static int reap_each(struct reap *reap, enum family family, struct span prefix,
                     int (*fn)(struct reap *, struct span key, struct span value, uint64_t arg),
                     uint64_t arg)
{
    struct index_iter *iter =
        index_iter_new(reap->cache->index, NULL, family, prefix, (struct span){0});
    int err = 0;

    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        if (!span_starts(index_iter_key(iter), prefix))
            break;
        err = fn(reap, index_iter_key(iter), index_iter_value(iter), arg);
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

/* ---- manifests, staged blocks, containers ---- */

static int reap_manifest_row(struct reap *reap, struct span key, struct span value,
                             uint64_t manifest)
{
    struct manifest_piece piece;
    size_t cursor = 0;
    int more = 0, err = 0;

    while (!err && (more = manifest_row_next(value, &cursor, &piece)) > 0)
        err = reap_unlink(reap, piece.object, manifest);
    if (err || more < 0)
        return err ? err : more;
    return reap_delete(reap, FAM_MANIFESTS, key);
}

static int reap_manifest(struct reap *reap, uint64_t manifest)
{
    char prefix[8];

    be64_put(prefix, manifest);
    return reap_each(reap, FAM_MANIFESTS, (struct span){prefix, sizeof(prefix)}, reap_manifest_row,
                     manifest);
}

static int reap_staged_row(struct reap *reap, struct span key, struct span value, uint64_t unused)
{
    struct staged_row row;
    uint64_t container, generation;
    struct span blob, id;
    int err = key_staged_decode(key, &container, &blob, &generation, &id);

    if (!err && id.len) {
        err = staged_row_decode(value, &row);
        if (!err)
            err = reap_unlink(reap, row.object, row.user);
    }
    return err ? err : reap_delete(reap, FAM_BLOCKS, key);
}

static int reap_located(struct reap *reap, const struct blob_row *row)
{
    struct record_body body = blob_row_body(row, 0, SPAN("")); /* nobody fetches it again */
    struct object *object;
    int err = object_get_record(reap->cache, NULL, &body, &object);

    if (err < 0)
        return err;
    object_unlink_record(reap->change, object);
    object = object_unref(object);
    return 0;
}

/* A blob of a deleted container: its manifest is dropped in the change that drops the row. */
static int reap_blob_row(struct reap *reap, struct span key, struct span value, uint64_t family)
{
    struct row_space space = {0};
    struct blob_row row;
    int err = blob_row_decode(value, &row, &space);

    if (!err && row.located)
        err = reap_located(reap, &row);
    if (!err && row.manifest)
        reaper_add(reap->change, reap->cache, row.manifest);
    row_space_done(&space);
    return err ? err : reap_delete(reap, (enum family)family, key);
}

static int reap_container(struct reap *reap, uint64_t container)
{
    char prefix[8];
    struct span of_container = {prefix, sizeof(prefix)};
    int err;

    be64_put(prefix, container);
    err = reap_each(reap, FAM_BLOBS, of_container, reap_blob_row, FAM_BLOBS);
    if (!err)
        err = reap_each(reap, FAM_VERSIONS, of_container, reap_blob_row, FAM_VERSIONS);
    if (!err)
        err = reap_each(reap, FAM_BLOCKS, of_container, reap_staged_row, 0);
    return err;
}

/* ---- snapshots that went all at once ---- */

/* Content is shared by neighbours only: of one name it was that of its own version for one stretch
 * of time. So it stays if the next row or the name's own version has it; whoever has it then drops
 * it when that goes, and a manifest dropped twice is dropped once (B11). */
static int reap_manifest_of(struct cache *cache, struct span key, uint64_t *ret)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    struct index_value value;
    struct blob_row row;
    int err = index_get(cache->index, NULL, FAM_BLOBS, key, &value);

    *ret = 0;
    if (err)
        return err == -ENOENT ? 0 : err;
    err = blob_row_decode(value.bytes, &row, &space);
    if (!err)
        *ret = row.manifest;
    index_value_done(&value);
    return err;
}

static int reap_snapshot(struct reap *reap, struct index_iter *iter, uint64_t kept)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct blob_row row, next = {0};
    int err;

    row_add(&key, index_iter_key(iter).base, index_iter_key(iter).len);
    row_add(&value, index_iter_value(iter).base, index_iter_value(iter).len);
    index_iter_next(iter);
    err = index_iter_valid(iter) ? blob_row_decode(index_iter_value(iter), &next, &space)
                                 : index_iter_err(iter);
    if (!err)
        err = blob_row_decode(row_span(&value), &row, &space);
    if (!err && row.located)
        err = reap_located(reap, &row);
    else if (!err && row.manifest && row.manifest != kept && row.manifest != next.manifest)
        reaper_add(reap->change, reap->cache, row.manifest);
    return err ? err : reap_delete(reap, FAM_VERSIONS, row_span(&key));
}

static int reap_snapshots(struct reap *reap, struct span up_to)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};
    struct index_iter *iter;
    uint64_t container, number, kept;
    struct span blob;
    int err = key_version_decode(up_to, &container, &blob, &number);

    if (!err)
        err = reap_manifest_of(reap->cache, span_from(up_to.base, up_to.len - VERSION_TAIL_BYTES),
                               &kept);
    if (err)
        return err;
    key_version(&from, container, blob, 0);
    key_version(&to, container, blob, VERSION_ETAGS);
    iter = index_iter_new(reap->cache->index, NULL, FAM_VERSIONS, row_span(&from), row_span(&to));
    while (!err && index_iter_valid(iter) && span_cmp(index_iter_key(iter), up_to) <= 0)
        err = reap_snapshot(reap, iter, kept);
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

/* ---- the list of what is to be done ---- */

struct reap_keys {
    unsigned count;
    struct {
        size_t len;
        char bytes[REAP_KEY_BYTES_MAX];
    } at[REAP_KEYS_MAX];
};

static int reap_keys_of(struct cache *cache, char kind, struct reap_keys *keys)
{
    struct span prefix = {&kind, 1};
    struct index_iter *iter =
        index_iter_new(cache->index, NULL, FAM_META, prefix, (struct span){0});
    int err;

    keys->count = 0;
    for (; index_iter_valid(iter) && keys->count < REAP_KEYS_MAX; index_iter_next(iter)) {
        struct span key = index_iter_key(iter);

        if (!span_starts(key, prefix))
            break;
        assert(key.len <= REAP_KEY_BYTES_MAX);
        keys->at[keys->count].len = key.len;
        memcpy(keys->at[keys->count++].bytes, key.base, key.len);
    }
    err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int reap_key(struct reap *reap, struct span key)
{
    struct span rest = span_skip(key, 1);
    int err = 0;

    switch (key.base[0]) {
    case META_DROP_MANIFEST:
    case META_GUARD_MANIFEST:
        err = rest.len == 8 ? reap_manifest(reap, be64_get(rest.base)) : -EBADMSG;
        break;
    case META_DROP_CONTAINER:
        err = rest.len == 8 ? reap_container(reap, be64_get(rest.base)) : -EBADMSG;
        break;
    case META_DROP_SNAPSHOTS:
        err = reap_snapshots(reap, rest);
        break;
    case META_DROP_BLOCKS:
        err = reap_each(reap, FAM_BLOCKS, rest, reap_staged_row, 0);
        break;
    }
    if (err)
        return err;
    change_delete(reap->change, FAM_META, key);
    return reap_flush(reap);
}

static int reap_all(struct reap *reap, char kind, struct reap_keys *keys)
{
    int err;

    do {
        err = reap_keys_of(reap->cache, kind, keys);
        for (unsigned i = 0; !err && i < keys->count; i++)
            err = reap_key(reap, (struct span){keys->at[i].bytes, keys->at[i].len});
    } while (!err && keys->count);
    return err;
}

static int reap_left_over(struct reap *reap, struct reaper *reaper)
{
    int err = 0;

    for (; !err && reaper->orphan_count; reaper->orphan_count--)
        err = reap_unlink(reap, reaper->orphans[reaper->orphan_count - 1], ORPHAN_USER);
    for (; !err && reaper->guarded_count; reaper->guarded_count--) {
        char key[9] = {META_GUARD_MANIFEST};

        be64_put(key + 1, reaper->guarded[reaper->guarded_count - 1]);
        err = reap_key(reap, (struct span){key, sizeof(key)});
    }
    return err ? err : reap_flush(reap);
}

void reaper_run(struct cache *cache)
{
    static const char kinds[] = {META_DROP_MANIFEST, META_DROP_BLOCKS, META_DROP_SNAPSHOTS,
                                 META_DROP_CONTAINER,
                                 META_DROP_MANIFEST}; /* the two before add manifests */
    struct reap_keys *keys = xmalloc(sizeof(*keys));
    struct reap reap = {.cache = cache, .change = change_new()};
    int err = reap_left_over(&reap, cache->content->reaper);

    for (unsigned i = 0; !err && i < countof(kinds); i++)
        err = reap_all(&reap, kinds[i], keys);
    if (err && err != -ECANCELED)
        log_error("dropped content could not be freed; tried again at the next drop or start",
                  KV_ERR(err));
    change_free(reap.change);
    free(keys);
}

/* ---- start ---- */

struct reaper *reaper_new(void)
{
    return xcalloc(1, sizeof(struct reaper));
}

struct reaper *reaper_free(struct reaper *reaper)
{
    if (!reaper)
        return NULL;
    free(reaper->orphans);
    free(reaper->guarded);
    free(reaper);
    return NULL;
}

void reaper_orphan(struct cache *cache, struct object_id id)
{
    struct reaper *reaper = cache->content->reaper;

    if (reaper->orphan_count == reaper->orphan_room) {
        reaper->orphan_room = reaper->orphan_room ? reaper->orphan_room * 2 : 16;
        reaper->orphans = xrealloc(reaper->orphans, reaper->orphan_room * sizeof(*reaper->orphans));
    }
    reaper->orphans[reaper->orphan_count++] = id;
}

int reaper_load(struct cache *cache)
{
    struct reaper *reaper = cache->content->reaper;
    char kind = META_GUARD_MANIFEST;
    struct index_iter *iter =
        index_iter_new(cache->index, NULL, FAM_META, (struct span){&kind, 1}, (struct span){0});
    int err;

    for (; index_iter_valid(iter); index_iter_next(iter)) {
        struct span key = index_iter_key(iter);

        if (key.base[0] != kind || key.len != 9)
            break;
        if (reaper->guarded_count == reaper->guarded_room) {
            reaper->guarded_room = reaper->guarded_room ? reaper->guarded_room * 2 : 16;
            reaper->guarded =
                xrealloc(reaper->guarded, reaper->guarded_room * sizeof(*reaper->guarded));
        }
        reaper->guarded[reaper->guarded_count++] = be64_get(key.base + 1);
    }
    err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

/* ---- within the change that drops ---- */

struct reap_hook {
    struct change_hook hook;
    struct cache *cache;
};

static void reap_end(struct change_hook *base, int err)
{
    struct reap_hook *hook = container_of(base, struct reap_hook, hook);

    if (!err)
        keeper_call(hook->cache->content->keeper, KEEP_REAP);
    free(hook);
}

static void reap_later(struct change *change, struct cache *cache, struct span key)
{
    struct reap_hook *hook = xcalloc(1, sizeof(*hook));

    change_put(change, FAM_META, key, SPAN("\1"));
    hook->hook.end = reap_end;
    hook->cache = cache;
    change_add_hook(change, &hook->hook);
}

static struct span key_u64(char kind, uint64_t number, char ret[9])
{
    ret[0] = kind;
    be64_put(ret + 1, number);
    return (struct span){ret, 9};
}

void reaper_add(struct change *change, struct cache *cache, uint64_t manifest)
{
    char key[9];

    reap_later(change, cache, key_u64(META_DROP_MANIFEST, manifest, key));
}

void reaper_add_container(struct change *change, struct cache *cache, uint64_t container)
{
    char key[9];

    reap_later(change, cache, key_u64(META_DROP_CONTAINER, container, key));
}

static void reap_later_of(struct change *change, struct cache *cache, char kind, struct span rest)
{
    char key[REAP_KEY_BYTES_MAX];

    assert(rest.len < sizeof(key));
    key[0] = kind;
    memcpy(key + 1, rest.base, rest.len);
    reap_later(change, cache, (struct span){key, rest.len + 1});
}

void reaper_add_staged(struct change *change, struct cache *cache, struct span prefix)
{
    reap_later_of(change, cache, META_DROP_BLOCKS, prefix);
}

void reaper_add_snapshots(struct change *change, struct cache *cache, struct span key)
{
    reap_later_of(change, cache, META_DROP_SNAPSHOTS, key);
}

void reaper_guard(struct change *change, struct cache *cache, uint64_t manifest)
{
    char key[9];

    change_put(change, FAM_META, key_u64(META_GUARD_MANIFEST, manifest, key), SPAN("\1"));
}

void reaper_unguard(struct change *change, struct cache *cache, uint64_t manifest)
{
    char key[9];

    change_delete(change, FAM_META, key_u64(META_GUARD_MANIFEST, manifest, key));
}
