/* cache/check.c - walks the index and what it refers to: every version has its whole content, every
 * object its extents and a user, every slot one owner, every upload its version; then every byte
 * that exists nowhere else against its checksum (clean ones too: a mismatch there is only a miss,
 * and said so). Main thread, blocks; nothing is changed. */
#include "cache/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/bytes.h"
#include "cache/content.h"
#include "cache/names.h"
#include "cache/snapshots.h"
#include "cache/uploads.h"

struct check {
    struct cache *cache;
    void (*report)(void *arg, const char *line);
    void *arg;
    int findings;
    char *page;          /* of one extent */
    uint64_t *manifests; /* that somebody names, or that the reaper has on its list */
    size_t manifest_count, manifest_room;
};

static void name_manifest(struct check *c, uint64_t manifest)
{
    if (c->manifest_count == c->manifest_room) {
        c->manifest_room = c->manifest_room ? c->manifest_room * 2 : 1024;
        c->manifests = xrealloc(c->manifests, c->manifest_room * sizeof(*c->manifests));
    }
    c->manifests[c->manifest_count++] = manifest;
}

static void __attribute__((format(printf, 2, 3))) find(struct check *c, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    c->report(c->arg, line);
    c->findings++;
}

#define PRIOBJ          "%" PRIu32 ".%" PRIu32 ".%" PRIu64
#define OBJ_ARGS(id)    (id).node, (id).epoch, (id).counter
#define NAME_ARGS(c, n) (c), SPAN_FMT(n)

static int each(struct check *c, enum family family,
                int (*row)(struct check *c, struct span key, struct span value))
{
    struct index_iter *iter =
        index_iter_new(c->cache->index, NULL, family, (struct span){0}, (struct span){0});
    int err = 0;

    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = row(c, index_iter_key(iter), index_iter_value(iter));
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int has_row(struct check *c, enum family family, struct span key)
{
    struct index_value value;
    int err = index_get(c->cache->index, NULL, family, key, &value);

    if (!err)
        index_value_done(&value);
    return err == -ENOENT ? 0 : err ? err : 1;
}

/* ---- manifests that nobody names ---- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static int named_by_version(struct check *c, struct span key, struct span value)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row row;

    if (key.len && blob_row_decode(value, &row, &space) == 0 && row.manifest)
        name_manifest(c, row.manifest);
    return 0;
}

static int named_by_reaper(struct check *c, struct span key, struct span value)
{
    if (key.len == 9 && (key.base[0] == META_DROP_MANIFEST || key.base[0] == META_GUARD_MANIFEST))
        name_manifest(c, be64_get(key.base + 1));
    return 0;
}

static int check_named(struct check *c, struct span key, struct span value)
{
    uint64_t manifest;

    if (key.len != 16)
        return 0;
    manifest = be64_get(key.base);
    if (!c->manifest_count ||
        !bsearch(&manifest, c->manifests, c->manifest_count, sizeof(manifest), by_value))
        find(c, "manifest %" PRIu64 ": nothing names it", manifest);
    return 0;
}

static int check_manifests(struct check *c)
{
    int err = each(c, FAM_BLOBS, named_by_version);

    if (!err)
        err = each(c, FAM_VERSIONS, named_by_version);
    if (!err)
        err = each(c, FAM_META, named_by_reaper);
    if (c->manifest_count)
        qsort(c->manifests, c->manifest_count, sizeof(*c->manifests), by_value);
    return err ? err : each(c, FAM_MANIFESTS, check_named);
}

/* ---- versions ---- */

static int check_piece(struct check *c, uint64_t manifest, const struct manifest_piece *piece)
{
    struct object_key link = object_key(piece->object, ROW_LINK, manifest);
    struct object *object;
    int err = object_get(c->cache, piece->object, &object);

    if (err == -ENOENT) {
        find(c, "manifest %" PRIu64 ": object " PRIOBJ " is missing", manifest,
             OBJ_ARGS(piece->object));
        return 0;
    }
    if (err)
        return err;
    if (piece->offset + piece->length > object->length)
        find(c, "manifest %" PRIu64 ": a piece lies outside object " PRIOBJ, manifest,
             OBJ_ARGS(piece->object));
    object_unref(object);
    err = has_row(c, FAM_OBJECTS, object_key_span(&link));
    if (err == 0)
        find(c, "manifest %" PRIu64 ": object " PRIOBJ " does not know of it", manifest,
             OBJ_ARGS(piece->object));
    return MIN(err, 0);
}

/* Sums the manifest's pieces. */
static int check_manifest(struct check *c, uint64_t manifest, uint64_t *length)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};
    struct index_iter *iter;
    int err = 0;

    *length = 0;
    key_manifest(&from, manifest, 0);
    key_manifest(&to, manifest + 1, 0);
    iter = index_iter_new(c->cache->index, NULL, FAM_MANIFESTS, row_span(&from), row_span(&to));
    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        struct manifest_piece piece;
        size_t cursor = 0;

        if (be64_get(index_iter_key(iter).base + 8) != *length)
            find(c, "manifest %" PRIu64 ": a row is missing before offset %" PRIu64, manifest,
                 be64_get(index_iter_key(iter).base + 8));
        while (!err && (err = manifest_row_next(index_iter_value(iter), &cursor, &piece)) > 0) {
            err = check_piece(c, manifest, &piece);
            *length += piece.length;
        }
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

/* Is the slot marked as that object's? A clean body may have left it to another. 1, 0 or -errno. */
static int has_slot(struct check *c, const struct location *at, struct object_id id)
{
    struct index_value value;
    struct space_row row;
    char key[SPACE_KEY_BYTES];
    int err;

    space_key_encode(at, key);
    err = index_get(c->cache->index, NULL, FAM_SPACE, span_from(key, sizeof(key)), &value);
    if (err)
        return err == -ENOENT ? 0 : err;
    err = space_row_decode(span_from(key, sizeof(key)), value.bytes, &row);
    index_value_done(&value);
    return !err && object_id_eq(row.id, id) && row.at.generation == at->generation;
}

static int check_located(struct check *c, uint64_t container, struct span name,
                         const struct blob_row *row)
{
    int there;

    if (!row->extent.at.generation)
        return 0; /* evicted */
    there = has_slot(c, &row->extent.at, row->object);
    if (there < 0)
        return there;
    if (!there && row->object_state != OBJECT_CLEAN)
        find(c, "blob %" PRIu64 "/%.*s: the slot of its body is not marked",
             NAME_ARGS(container, name));
    if (there && extent_read_now(c->cache->slabs, &row->extent, row->object,
                                 (struct range){0, row->extent.length}, c->page))
        find(c, "blob %" PRIu64 "/%.*s: its body is damaged", NAME_ARGS(container, name));
    return 0;
}

/* former: not the name's any more, so its manifest may have grown since if it is an append blob's.
 */
static int check_version(struct check *c, uint64_t container, struct span name, struct span value,
                         bool former)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row row;
    uint64_t length;
    int err;

    if (blob_row_decode(value, &row, &space) < 0) {
        find(c, "blob %" PRIu64 "/%.*s: its row is malformed", NAME_ARGS(container, name));
        return 0;
    }
    if (row.state != BLOB_LIVE)
        return 0;
    if (row.located)
        return check_located(c, container, name, &row);
    err = check_manifest(c, row.manifest, &length);
    if (!err && length != row.record.length &&
        !(former && row.record.type == BLOB_APPEND && length > row.record.length))
        find(c, "blob %" PRIu64 "/%.*s: %" PRIu64 " bytes of content, the record says %" PRIu64,
             NAME_ARGS(container, name), length, row.record.length);
    return err;
}

static bool container_gone(struct check *c, uint64_t id)
{
    struct container *in;

    if (cache_container_by_id(c->cache, id, &in) < 0)
        return true; /* the reaper is at its rows */
    container_unref(in);
    return false;
}

/* ---- snapshots ---- */

static bool same_place(const struct location *a, const struct location *b)
{
    return a->device == b->device && a->slab == b->slab && a->generation == b->generation &&
           a->offset == b->offset;
}

static int get_record(struct check *c, uint64_t container, struct span name,
                      struct row_space *space, struct blob_row *ret)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct index_value value;
    int err;

    *ret = (struct blob_row){0};
    key_blob(&key, container, name);
    err = index_get(c->cache->index, NULL, FAM_BLOBS, row_span(&key), &value);
    if (err)
        return err == -ENOENT ? 0 : err;
    (void)!blob_row_decode(value.bytes, ret, space); /* said elsewhere */
    index_value_done(&value);
    return 0;
}

/* The reaper has it on its list: all up to a time that is not before its own. 1, 0 or -errno. */
static int reaped_later(struct check *c, uint64_t container, struct span name, uint64_t number)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0}, version = {0};
    bool any;

    for (unsigned i = 0; i < 2; i++) {
        struct row_bytes *key = i ? &to : &from;

        key_version(&version, container, name, i ? VERSION_ETAGS : number);
        row_add(key, &(char){META_DROP_SNAPSHOTS}, 1);
        row_add(key, version.base, version.used);
    }
    struct index_iter *iter =
        index_iter_new(c->cache->index, NULL, FAM_META, row_span(&from), row_span(&to));
    int err;

    any = index_iter_valid(iter);
    err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : any;
}

static int check_snapshot(struct check *c, uint64_t container, struct span name, uint64_t number,
                          struct span value)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row base;
    int err = get_record(c, container, name, &space, &base), later;

    if (err)
        return err;
    if (base.state == BLOB_LIVE && snapshot_counts(&base.record, number))
        return check_version(c, container, name, value, true);
    later = reaped_later(c, container, name, number);
    if (later == 0)
        find(c, "snapshot %" PRIu64 " of %" PRIu64 "/%.*s: nothing counts it", number,
             NAME_ARGS(container, name));
    return MIN(later, 0);
}

/* What the name's row says of its snapshots against their rows. */
static int check_snapshots(struct check *c, uint64_t container, struct span name,
                           const struct blob_row *base)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct index_iter *iter;
    struct blob_row row = {0};
    unsigned count = 0;
    int err;

    key_version(&from, container, name, base->record.snapshots.since);
    key_version(&to, container, name, VERSION_ETAGS);
    iter = index_iter_new(c->cache->index, NULL, FAM_VERSIONS, row_span(&from), row_span(&to));
    for (; index_iter_valid(iter); index_iter_next(iter), count++)
        (void)!blob_row_decode(index_iter_value(iter), &row, &space); /* said elsewhere */
    err = index_iter_err(iter);
    index_iter_free(iter);
    if (!err && count != base->record.snapshots.count)
        find(c, "blob %" PRIu64 "/%.*s: %u snapshots, its row says %" PRIu32,
             NAME_ARGS(container, name), count, base->record.snapshots.count);
    if (!err && base->record.snapshots.share != (row.manifest && row.manifest == base->manifest))
        find(c, "blob %" PRIu64 "/%.*s: its row is wrong on whether a snapshot has its content",
             NAME_ARGS(container, name));
    return err;
}

/* A located body of a snapshot. 1: it lies there. */
static int snapshot_lies_at(struct check *c, const struct space_row *at)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct index_iter *iter;
    struct blob_row row;
    int err, found = 0;

    key_version(&from, at->container, at->blob, 0);
    key_version(&to, at->container, at->blob, VERSION_ETAGS);
    iter = index_iter_new(c->cache->index, NULL, FAM_VERSIONS, row_span(&from), row_span(&to));
    for (; !found && index_iter_valid(iter); index_iter_next(iter))
        found = blob_row_decode(index_iter_value(iter), &row, &space) == 0 && row.located &&
                same_place(&row.extent.at, &at->at);
    err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : found;
}

static int check_name(struct check *c, uint64_t container, struct span name, struct span value)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row row;
    int err = check_version(c, container, name, value, false);

    if (err || blob_row_decode(value, &row, &space) < 0)
        return err;
    return row.record.snapshots.count || row.record.snapshots.share
               ? check_snapshots(c, container, name, &row)
               : 0;
}

static int check_blob_row(struct check *c, struct span key, struct span value)
{
    uint64_t container;
    struct span name;

    if (key_blob_decode(key, &container, &name) < 0)
        return 0; /* the family's own first key */
    return container_gone(c, container) ? 0 : check_name(c, container, name, value);
}

static int check_version_row(struct check *c, struct span key, struct span value)
{
    uint64_t container, number;
    struct span name;

    if (key_version_decode(key, &container, &name, &number) < 0 || container_gone(c, container))
        return 0;
    if (number < VERSION_ETAGS)
        return check_snapshot(c, container, name, number, value);
    if (!uploads_need_version(c->cache, container, name, number))
        find(c, "version of %" PRIu64 "/%.*s: nothing is to be done with it",
             NAME_ARGS(container, name));
    return check_version(c, container, name, value, true);
}

static int check_upload_row(struct check *c, struct span key, struct span value)
{
    _cleanup_(row_bytes_done) struct row_bytes version = {0}, blob = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct index_value found;
    struct upload_row row;
    struct blob_row current = {0};
    uint64_t seq;
    int err;

    if (key_upload_decode(key, &seq) < 0)
        return 0;
    if (upload_row_decode(value, &row) < 0) {
        find(c, "upload %" PRIu64 ": its row is malformed", seq);
        return 0;
    }
    if (!row.blob.len || row.kind == UPLOAD_DELETE || container_gone(c, row.container))
        return 0;
    key_blob(&blob, row.container, row.blob);
    err = index_get(c->cache->index, NULL, FAM_BLOBS, row_span(&blob), &found);
    if (!err) {
        (void)!blob_row_decode(found.bytes, &current, &space); /* said elsewhere */
        index_value_done(&found);
    }
    if (err && err != -ENOENT)
        return err;
    if (current.record.etag == row.etag)
        return 0;
    key_version(&version, row.container, row.blob, row.etag);
    err = has_row(c, FAM_VERSIONS, row_span(&version));
    if (err == 0)
        find(c, "upload %" PRIu64 ": the version it refers to is missing", seq);
    return MIN(err, 0);
}

static int check_staged_row(struct check *c, struct span key, struct span value)
{
    uint64_t container, generation;
    struct staged_row row;
    struct object *object;
    struct span blob, id;
    int err;

    if (!key.len)
        return 0;
    if (key_staged_decode(key, &container, &blob, &generation, &id) < 0 ||
        staged_row_decode(value, &row) < 0) {
        find(c, "a staged block's row is malformed");
        return 0;
    }
    err = object_get(c->cache, row.object, &object);
    if (err == -ENOENT)
        find(c, "staged block of %" PRIu64 "/%.*s: its object is missing",
             NAME_ARGS(container, blob));
    else if (!err)
        object_unref(object);
    return err == -ENOENT ? 0 : err;
}

/* ---- objects and space ---- */

static int check_extent_row(struct check *c, struct object_id id, struct span value)
{
    char key[SPACE_KEY_BYTES];
    struct extent extent;
    int there;

    if (extent_row_decode(value, &extent) < 0) {
        find(c, "object " PRIOBJ ": a row is malformed", OBJ_ARGS(id));
        return 0;
    }
    space_key_encode(&extent.at, key);
    there = has_row(c, FAM_SPACE, span_from(key, sizeof(key)));
    if (there == 0)
        find(c, "object " PRIOBJ ": the slot of extent %" PRIu32 " is not marked", OBJ_ARGS(id),
             extent.index);
    return MIN(there, 0);
}

static bool is_whole(const struct extent *extent)
{
    uint32_t units = (extent->length + UNIT_BYTES - 1) / UNIT_BYTES;

    return units && (units == 64 || (extent->present >> units) == 0) &&
           extent->present == (units == 64 ? UINT64_MAX : (1ULL << units) - 1);
}

/* Bytes of clean content were never owed a flush: after a cut some rows tell of ones that never
 * arrived. That is a miss, and no finding. */
static void check_extent_bytes(struct check *c, struct object *object, const struct extent *extent)
{
    if (!is_whole(extent) || object_state(object) == OBJECT_CLEAN)
        return;
    if (extent_read_now(c->cache->slabs, extent, object->id, (struct range){0, extent->length},
                        c->page))
        find(c, "object " PRIOBJ ": extent %u is damaged", OBJ_ARGS(object->id), extent->index);
}

static void check_bytes(struct check *c, struct object *object)
{
    struct extent extent;

    for (unsigned i = 0; i < object->cell_count; i++)
        if (object_extent(object, i, &extent))
            check_extent_bytes(c, object, &extent);
        else if (object_state(object) != OBJECT_CLEAN)
            find(c, "object " PRIOBJ ": extent %u is missing", OBJ_ARGS(object->id), i);
}

static int check_object_row(struct check *c, struct span key, struct span value)
{
    struct object_id id;
    enum object_row row;
    uint64_t number;
    struct object *object;
    int err;

    if (object_key_decode(key, &id, &row, &number) < 0)
        return 0;
    if (row == ROW_EXTENT)
        return check_extent_row(c, id, value);
    if (row != ROW_OBJECT)
        return 0;
    err = object_get(c->cache, id, &object);
    if (err)
        return err;
    if (!object->link_count)
        find(c, "object " PRIOBJ ": nothing refers to it", OBJ_ARGS(id));
    check_bytes(c, object);
    object_unref(object);
    return 0;
}

static int check_record_slot(struct check *c, const struct space_row *row)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row blob = {0};
    struct index_value value;
    int err;

    key_blob(&key, row->container, row->blob);
    err = index_get(c->cache->index, NULL, FAM_BLOBS, row_span(&key), &value);
    if (!err) {
        (void)!blob_row_decode(value.bytes, &blob, &space);
        index_value_done(&value);
    }
    if (err && err != -ENOENT)
        return err;
    if (blob.located && same_place(&blob.extent.at, &row->at))
        return 0;
    err = snapshot_lies_at(c, row);
    if (err)
        return MIN(err, 0);
    if (!uploads_have(c->cache, row->container, row->blob) && !container_gone(c, row->container))
        find(c, "slot %u/%" PRIu32 "/%" PRIu32 ": its blob lies elsewhere", row->at.device,
             row->at.slab, row->at.offset);
    return 0;
}

static int check_space_row(struct check *c, struct span key, struct span value)
{
    struct object *object;
    struct space_row row;
    struct extent extent;
    int err;

    if (!key.len)
        return 0;
    if (space_row_decode(key, value, &row) < 0) {
        find(c, "a slot's row is malformed");
        return 0;
    }
    if (row.kind == SPACE_RECORD)
        return check_record_slot(c, &row);
    err = object_get(c->cache, row.id, &object);
    if (err == -ENOENT) {
        find(c, "slot %u/%" PRIu32 "/%" PRIu32 ": its object " PRIOBJ " is missing", row.at.device,
             row.at.slab, row.at.offset, OBJ_ARGS(row.id));
        return 0;
    }
    if (err)
        return err;
    if (!object_extent(object, row.index, &extent) || !same_place(&extent.at, &row.at))
        find(c, "slot %u/%" PRIu32 "/%" PRIu32 ": object " PRIOBJ " lies elsewhere", row.at.device,
             row.at.slab, row.at.offset, OBJ_ARGS(row.id));
    object_unref(object);
    return 0;
}

int check_walk(struct cache *cache, void (*report)(void *arg, const char *line), void *arg)
{
    static const struct {
        enum family family;
        int (*row)(struct check *c, struct span key, struct span value);
    } walks[] = {
        {FAM_BLOBS, check_blob_row},     {FAM_VERSIONS, check_version_row},
        {FAM_UPLOADS, check_upload_row}, {FAM_BLOCKS, check_staged_row},
        {FAM_OBJECTS, check_object_row}, {FAM_SPACE, check_space_row},
    };
    struct check c = {.cache = cache, .report = report, .arg = arg};
    int err = 0;

    c.page = aligned_alloc(IO_ALIGN, EXTENT_BYTES_MAX);
    if (!c.page)
        abort();
    for (unsigned i = 0; i < countof(walks) && !err; i++)
        err = each(&c, walks[i].family, walks[i].row);
    if (!err)
        err = check_manifests(&c);
    free(c.manifests);
    free(c.page);
    return err ? err : c.findings;
}
