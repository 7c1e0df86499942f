/* cache/blob.c - descriptors: one version's record and content in memory, made from a change or a
 * row. Immutable once made; the last reference, on any thread, drops its objects. */
#include "cache/names.h"

#include <stdatomic.h>

#include "base/log.h"

/* ---- copying a record with all its spans into one piece of memory ---- */

struct copier {
    char *at;
};

static struct span copy_span(struct copier *copier, struct span s)
{
    struct span copy = span_from(copier->at, s.len);

    if (!s.len)
        return (struct span){NULL, 0};
    memcpy(copier->at, s.base, s.len);
    copier->at += s.len;
    return copy;
}

static size_t record_bytes(const struct blob_record *r)
{
    size_t bytes = r->content_type.len + r->content_encoding.len + r->content_language.len +
                   r->content_disposition.len + r->cache_control.len + r->content_md5.len +
                   r->cloud_etag.len + r->copy_id.len + r->copy_source.len + r->tags.len +
                   r->metadata_count * sizeof(struct pair);

    for (unsigned i = 0; i < r->metadata_count; i++)
        bytes += r->metadata[i].name.len + r->metadata[i].value.len;
    return bytes;
}

/* pairs: room for the metadata, aligned. */
static void record_copy(struct copier *copier, struct pair *pairs, const struct blob_record *from,
                        struct blob_record *ret)
{
    *ret = *from;
    ret->content_type = copy_span(copier, from->content_type);
    ret->content_encoding = copy_span(copier, from->content_encoding);
    ret->content_language = copy_span(copier, from->content_language);
    ret->content_disposition = copy_span(copier, from->content_disposition);
    ret->cache_control = copy_span(copier, from->cache_control);
    ret->content_md5 = copy_span(copier, from->content_md5);
    ret->cloud_etag = copy_span(copier, from->cloud_etag);
    ret->copy_id = copy_span(copier, from->copy_id);
    ret->copy_source = copy_span(copier, from->copy_source);
    ret->tags = copy_span(copier, from->tags);
    for (unsigned i = 0; i < from->metadata_count; i++)
        pairs[i] = (struct pair){copy_span(copier, from->metadata[i].name),
                                 copy_span(copier, from->metadata[i].value)};
    ret->metadata = pairs;
}

static size_t ids_bytes(const struct span *ids, size_t n)
{
    size_t bytes = ids ? n * sizeof(*ids) : 0;

    for (size_t i = 0; ids && i < n; i++)
        bytes += ids[i].len;
    return bytes;
}

/* ---- pieces ----
 *
 * Versions that differ in their records only hold one list together, and so do those of an append
 * blob, each of which is the beginning of the next: an append adds at the list's end, if the
 * version it is made from has all of it, and else (a former one failed, no room) to a copy. Who has
 * the name's turn alone adds; others look at no more than their version's first pieces. */

struct piece_list *piece_list_new(const struct piece *pieces, size_t count, size_t room)
{
    struct piece_list *list = xmalloc(sizeof(*list) + room * sizeof(*pieces));

    list->refs = 1;
    list->count = count;
    list->room = room;
    if (count)
        memcpy(list->at, pieces, count * sizeof(*pieces));
    return list;
}

static struct piece_list *list_ref(struct piece_list *list)
{
    if (list)
        atomic_fetch_add_explicit(&list->refs, 1, memory_order_relaxed);
    return list;
}

static void list_unref(struct piece_list *list)
{
    if (!list || atomic_fetch_sub_explicit(&list->refs, 1, memory_order_acq_rel) > 1)
        return;
    for (size_t i = 0; i < list->count; i++)
        object_unref(list->at[i].object);
    free(list);
}

/* A list that has room behind the version's pieces. A reference. */
static struct piece_list *list_to_append(const struct blob *blob)
{
    struct piece_list *list = blob->list;

    if (list && list->count == blob->piece_count && list->count < list->room)
        return list_ref(list);
    for (size_t i = 0; i < blob->piece_count; i++)
        object_ref(blob->pieces[i].object);
    return piece_list_new(blob->pieces, blob->piece_count, MAX(blob->piece_count * 2, (size_t)4));
}

/* What a piece keeps in memory besides: its object, as if all its extents were there. */
static size_t piece_bytes(const struct piece *piece)
{
    return sizeof(*piece) + sizeof(struct object) +
           piece->object->cell_count * (sizeof(struct cell *) + sizeof(struct cell));
}

static size_t pieces_bytes(const struct piece *pieces, size_t n)
{
    size_t bytes = 0;

    for (size_t i = 0; i < n; i++)
        bytes += piece_bytes(&pieces[i]);
    return bytes;
}

/* ---- a version ---- */

/* list: taken; its first parts->piece_count are the version's. */
static struct blob *blob_make(struct cache *cache, const struct blob_parts *parts,
                              struct piece_list *list, size_t content_bytes)
{
    size_t bytes = sizeof(struct blob) + record_bytes(parts->record) + parts->name.len +
                   parts->body_etag.len + parts->unknown.len +
                   ids_bytes(parts->ids, parts->piece_count);
    struct blob *blob = xcalloc(1, bytes);
    struct pair *pairs = (struct pair *)(void *)(blob + 1);
    struct span *ids = (struct span *)(void *)(pairs + parts->record->metadata_count);
    struct copier copier = {(char *)(ids + (parts->ids ? parts->piece_count : 0))};

    blob->refs = 1;
    blob->cache = cache;
    blob->state = parts->state;
    blob->manifest = parts->manifest;
    blob->lineage = parts->lineage;
    blob->located = parts->located;
    blob->confirmed = parts->confirmed;
    blob->name =
        (struct name){.container = parts->container, .blob = copy_span(&copier, parts->name)};
    record_copy(&copier, pairs, parts->record, &blob->record);
    blob->body_etag = copy_span(&copier, parts->body_etag);
    blob->unknown = copy_span(&copier, parts->unknown);
    if (parts->ids) {
        for (size_t i = 0; i < parts->piece_count; i++)
            ids[i] = copy_span(&copier, parts->ids[i]);
        blob->ids = ids;
    }
    blob->list = list;
    blob->pieces = list ? list->at : NULL;
    blob->piece_count = parts->piece_count;
    blob->row_first = parts->row_first;
    blob->content_bytes = content_bytes;
    blob->bytes = bytes + content_bytes;
    blob->hash = names_hash(cache, parts->container, parts->name);
    return blob;
}

struct blob *blob_new(struct cache *cache, const struct blob_parts *parts)
{
    size_t n = parts->piece_count;

    return blob_make(cache, parts, n ? piece_list_new(parts->pieces, n, n) : NULL,
                     pieces_bytes(parts->pieces, n));
}

/* A version that was only described anew has the body of the one before it. */
struct span blob_body_etag(const struct blob *blob)
{
    struct span etag = blob->record.cloud_etag;

    return etag.len ? etag : blob->body_etag;
}

static struct blob_parts parts_of(const struct blob *blob, const struct blob_record *record)
{
    return (struct blob_parts){
        .container = blob->name.container,
        .name = blob->name.blob,
        .state = blob->state,
        .record = record,
        .manifest = blob->manifest,
        .lineage = blob->lineage,
        .located = blob->located,
        .confirmed = blob->confirmed,
        .body_etag = blob_body_etag(blob),
        .piece_count = blob->piece_count,
        .row_first = blob->row_first,
        .ids = blob->ids,
        .unknown = blob->unknown,
    };
}

struct blob *blob_with_record(const struct blob *blob, const struct blob_record *record)
{
    struct blob_parts parts = parts_of(blob, record);

    return blob_make(blob->cache, &parts, list_ref(blob->list), blob->content_bytes);
}

struct blob *blob_with_piece(const struct blob *blob, const struct blob_record *record,
                             uint64_t manifest, const struct piece *piece)
{
    struct blob_parts parts = parts_of(blob, record);
    struct piece_list *list = list_to_append(blob);

    assert(!blob->located && !blob->ids);
    list->at[list->count++] = *piece;
    parts.piece_count++;
    if (blob->piece_count - blob->row_first >= MANIFEST_ROW_PIECES)
        parts.row_first = blob->piece_count;
    if (!blob->manifest) {
        parts.manifest = manifest;
        parts.lineage = 0;
    }
    return blob_make(blob->cache, &parts, list, blob->content_bytes + piece_bytes(piece));
}

/* ---- from rows ---- */

struct loading {
    struct piece *pieces;
    size_t count, room;
    size_t row_first;
    uint64_t left; /* bytes still wanted */
};

static void loading_done(struct loading *loading)
{
    for (size_t i = 0; i < loading->count; i++)
        object_unref(loading->pieces[i].object);
    free(loading->pieces);
}

static void loading_add(struct loading *loading, struct object *object, uint64_t offset,
                        uint64_t length)
{
    if (loading->count == loading->room) {
        loading->room = loading->room ? loading->room * 2 : 4;
        loading->pieces = xrealloc(loading->pieces, loading->room * sizeof(*loading->pieces));
    }
    loading->pieces[loading->count++] = (struct piece){object, offset, length};
    loading->left -= MIN(loading->left, length);
}

static int load_manifest_row(struct cache *cache, struct span value, struct loading *loading)
{
    struct manifest_piece piece;
    struct object *object;
    size_t cursor = 0;
    int err = 0;

    loading->row_first = loading->count;
    while (loading->left && (err = manifest_row_next(value, &cursor, &piece)) > 0) {
        if ((err = object_get(cache, piece.object, &object)) < 0)
            return err;
        loading_add(loading, object, piece.offset, piece.length);
    }
    return MIN(err, 0);
}

static int load_manifest(struct cache *cache, const struct index_view *view, uint64_t manifest,
                         struct loading *loading)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};
    struct index_iter *iter;
    int err = 0;

    key_manifest(&from, manifest, 0);
    key_manifest(&to, manifest + 1, 0);
    iter = index_iter_new(cache->index, view, FAM_MANIFESTS, row_span(&from), row_span(&to));
    for (; !err && loading->left && index_iter_valid(iter); index_iter_next(iter))
        err = load_manifest_row(cache, index_iter_value(iter), loading);
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int load_located(struct cache *cache, const struct index_view *view, uint64_t container,
                        struct span name, const struct blob_row *row, struct loading *loading)
{
    struct record_body body = blob_row_body(row, container, name);
    struct object *object;
    int err = object_get_record(cache, view == INDEX_HOT ? view : NULL, &body, &object);

    if (!err)
        loading_add(loading, object, 0, row->record.length);
    return err;
}

static bool length_fits(const struct loading *loading, uint64_t length)
{
    for (size_t i = 0; i < loading->count; i++)
        length -= loading->pieces[i].length;
    return length == 0;
}

int blob_load(struct cache *cache, const struct index_view *view, uint64_t container,
              struct span name, struct span value, struct blob **ret)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    _cleanup_(loading_done) struct loading loading = {0};
    struct blob_row row;
    int err = blob_row_decode(value, &row, &space);

    /* An append blob's manifest may have grown since the row was written. */
    loading.left = !err && row.record.type == BLOB_APPEND ? row.record.length : UINT64_MAX;
    if (!err && row.located)
        err = load_located(cache, view, container, name, &row, &loading);
    else if (!err && row.manifest && view == INDEX_HOT)
        err = -EAGAIN; /* rows upon rows: not for a loop */
    else if (!err && row.manifest)
        err = load_manifest(cache, view, row.manifest, &loading);
    if (!err && row.state == BLOB_LIVE && !length_fits(&loading, row.record.length))
        err = -ENOENT; /* rows of the manifest were reaped between two reads */
    if (err)
        return err;
    *ret = blob_new(cache, &(struct blob_parts){
                               .container = container,
                               .name = name,
                               .state = row.state,
                               .record = &row.record,
                               .manifest = row.manifest,
                               .lineage = row.lineage,
                               .located = row.located,
                               .confirmed = row.confirmed,
                               .body_etag = row.body_etag,
                               .pieces = loading.pieces,
                               .piece_count = loading.count,
                               .row_first = loading.row_first,
                               .unknown = row.unknown,
                           });
    loading.count = 0; /* the references are the blob's */
    return 0;
}

/* ---- to rows ---- */

enum object_state blob_object_state(const struct blob_record *record)
{
    if (record->sole)
        return OBJECT_SOLE;
    return record->durability == DURABILITY_CLOUD ? OBJECT_CLEAN : OBJECT_DIRTY;
}

/* What the row says of the body: where it is, and whether the cloud has it, which a record that was
 * described since does not tell. Without a row of its own (evicted, or fetched again since) it is
 * nowhere: generation 0. */
static void locate(const struct blob *blob, struct blob_row *row)
{
    struct object *object = blob->pieces[0].object;

    row->object = object->id;
    row->object_state = blob_body_etag(blob).len ? OBJECT_CLEAN : blob_object_state(&blob->record);
    if (!object_placed(object, &row->extent))
        row->extent = (struct extent){.length = (uint32_t)blob->record.length};
}

void blob_row_of(const struct blob *blob, struct row_bytes *ret)
{
    struct blob_row row = {
        .state = blob->state,
        .record = blob->record,
        .manifest = blob->manifest,
        .lineage = blob->lineage,
        .located = blob->located,
        .confirmed = blob->confirmed,
        .unknown = blob->unknown,
    };

    if (!blob->record.cloud_etag.len)
        row.body_etag = blob->body_etag;
    if (blob->located)
        locate(blob, &row);
    blob_row_encode(ret, &row);
}

bool blob_is_there(const struct blob *blob)
{
    return blob && (blob->state == BLOB_LIVE || blob->state == BLOB_CLOUD);
}

uint64_t blob_lineage(const struct blob *blob)
{
    if (blob->state != BLOB_LIVE)
        return 0;
    if (blob->lineage || blob->manifest)
        return blob->lineage ? blob->lineage : blob->manifest;
    return blob->record.etag; /* an empty one; no manifest looks like that */
}

bool blob_same_content(const struct blob *a, const struct blob *b)
{
    return a->manifest && a->manifest == b->manifest;
}

void blob_drop_content(struct change *change, struct blob *blob)
{
    if (blob->located)
        object_unlink_record(change, blob->pieces[0].object);
    else if (blob->manifest)
        reaper_add(change, blob->cache, blob->manifest);
}

/* ---- what everyone may ask of one ---- */

const struct blob_record *blob_record(const struct blob *blob)
{
    return &blob->record;
}

const struct name *blob_name(const struct blob *blob)
{
    return &blob->name;
}

size_t blob_pieces(const struct blob *blob, const struct piece **ret)
{
    *ret = blob->pieces;
    return blob->piece_count;
}

struct blob *blob_ref(struct blob *blob)
{
    atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

struct blob *blob_unref(struct blob *blob)
{
    if (!blob || atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) > 1)
        return NULL;
    list_unref(blob->list);
    free(blob);
    return NULL;
}
