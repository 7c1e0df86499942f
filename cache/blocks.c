/* cache/blocks.c - block lists: client ids to pieces (Put Block List) and back (Get Block List).
 * Blocks of the committed list come from the version's ids in memory, else from its manifest rows;
 * uncommitted ones from stage.c. */
#include "cache/content.h"
#include "cache/names.h"
#include "cache/order.h"
#include "cache/stage.h"

/* ---- the committed list of a version ---- */

struct committed {
    struct span *ids; /* beside the blob's pieces */
    size_t count;
    struct row_bytes bytes; /* what they point into, when read from rows */
};

static void committed_done(struct committed *committed)
{
    free(committed->ids);
    row_bytes_done(&committed->bytes);
}

static int read_row(struct span value, struct committed *committed, size_t max)
{
    struct manifest_piece piece;
    size_t cursor = 0;
    int more;

    while ((more = manifest_row_next(value, &cursor, &piece)) > 0) {
        if (committed->count == max)
            return -EBADMSG;
        row_add(&committed->bytes, piece.block.base, piece.block.len);
        committed->ids[committed->count++] = (struct span){NULL, piece.block.len};
    }
    return more;
}

/* -ENOENT: the version was dropped meanwhile and the reaper was here. */
static int read_ids(struct cache *cache, const struct blob *blob, struct committed *committed)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};
    struct index_iter *iter;
    const char *at;
    int err = 0;

    key_manifest(&from, blob->manifest, 0);
    key_manifest(&to, blob->manifest + 1, 0);
    iter = index_iter_new(cache->index, NULL, FAM_MANIFESTS, row_span(&from), row_span(&to));
    for (; !err && index_iter_valid(iter); index_iter_next(iter))
        err = read_row(index_iter_value(iter), committed, blob->piece_count);
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    if (!err && committed->count != blob->piece_count)
        err = -ENOENT;
    at = committed->bytes.base;
    for (size_t i = 0; !err && i < committed->count; i++) {
        committed->ids[i].base = at;
        at += committed->ids[i].len;
    }
    return err;
}

static int committed_of(struct cache *cache, const struct blob *blob, struct committed *ret)
{
    *ret = (struct committed){0};
    if (!blob || blob->state != BLOB_LIVE || !blob->record.committed_blocks || !blob->piece_count ||
        blob->record.type == BLOB_APPEND)
        return 0; /* what is appended has no ids, and a former version not all of the rows */
    ret->ids = xcalloc(blob->piece_count, sizeof(*ret->ids));
    if (!blob->ids)
        return read_ids(cache, blob, ret);
    memcpy(ret->ids, blob->ids, blob->piece_count * sizeof(*ret->ids));
    ret->count = blob->piece_count;
    return 0;
}

/* ---- content that is used again (design 3: it is made whole, durable and dirty first) ---- */

/* Clean extents may have been evicted, or filled and never flushed. */
static bool object_whole(struct object *object, uint64_t *devices)
{
    SCOPED_LOCK(&object->lock);
    for (unsigned i = 0; i < object->cell_count; i++) {
        const struct cell *cell = object->cells[i];
        unsigned units;

        if (!cell)
            return false;
        units = (cell->extent.length + UNIT_BYTES - 1) / UNIT_BYTES;
        if (cell->extent.present != (units == 64 ? UINT64_MAX : (1ULL << units) - 1))
            return false;
        *devices |= 1ULL << cell->extent.at.device;
    }
    return true;
}

bool blob_make_whole(struct blob *blob)
{
    uint64_t devices = 0;

    for (size_t i = 0; i < blob->piece_count; i++)
        if (!object_whole(blob->pieces[i].object, &devices))
            return false;
    for (unsigned device = 0; devices; device++, devices >>= 1)
        if (devices & 1)
            commit_wrote(blob->cache->committer, device);
    return true;
}

/* ---- Put Block List ---- */

struct by_id { /* committed blocks, sorted */
    struct span id;
    size_t index;
    uint64_t start; /* of the blob */
};

struct resolving {
    struct tx *tx;
    const struct block_ref *blocks;
    size_t n;
    struct piece *ret;
    size_t *bad;
    struct by_id *sorted;
    size_t sorted_count;
    bool absent; /* an entry is of bytes that are not here */
};

static int by_id_cmp(const void *a, const void *b)
{
    const struct by_id *x = a, *y = b;
    int c = span_cmp(x->id, y->id);

    return c ? c : (x->index > y->index) - (x->index < y->index);
}

static int sort_committed(struct resolving *r, struct committed *committed)
{
    int err = committed_of(r->tx->cache, r->tx->current, committed);
    uint64_t start = 0;

    if (err || !committed->count)
        return err;
    r->sorted = xcalloc(committed->count, sizeof(*r->sorted));
    r->sorted_count = committed->count;
    for (size_t i = 0; i < committed->count; start += r->tx->current->pieces[i++].length)
        r->sorted[i] = (struct by_id){committed->ids[i], i, start};
    qsort(r->sorted, r->sorted_count, sizeof(*r->sorted), by_id_cmp);
    return 0;
}

static int resolve_committed(struct resolving *r, struct span id, struct piece *ret)
{
    size_t low = 0, high = r->sorted_count;
    const struct piece *piece;
    uint64_t devices = 0;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (span_cmp(r->sorted[middle].id, id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == r->sorted_count || !span_eq(r->sorted[low].id, id))
        return -ENOENT;
    piece = &r->tx->current->pieces[r->sorted[low].index];
    if (!object_whole(piece->object, &devices)) {
        *ret = (struct piece){NULL, r->sorted[low].start, piece->length};
        r->absent = true;
        return 0;
    }
    r->tx->reuses = true;
    *ret = (struct piece){object_ref(piece->object), piece->offset, piece->length};
    return 0;
}

static int resolve_staged(struct resolving *r, struct span id, struct piece *ret)
{
    struct staged_block block;
    int err = -ENOENT;

    for (unsigned i = 0; i < 2 && err == -ENOENT; i++) { /* put again between the two looks? */
        if (!stage_find(r->tx->cache, r->tx->container, r->tx->name, id, &block))
            return -ENOENT;
        err = object_get(r->tx->cache, block.object, &ret->object);
    }
    ret->offset = 0;
    ret->length = block.length;
    return err == -ENOENT ? -EIO : err; /* a staged block's object is there as long as its row */
}

static int resolve(struct resolving *r, const struct block_ref *block, struct piece *ret)
{
    int err = -ENOENT;

    if (block->source != BLOCK_COMMITTED)
        err = resolve_staged(r, block->id, ret);
    if (err == -ENOENT && block->source != BLOCK_UNCOMMITTED)
        err = resolve_committed(r, block->id, ret);
    return err;
}

static void give_back(struct resolving *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!r->ret[i].object) /* absent: it says which bytes */
            continue;
        object_unref(r->ret[i].object);
        r->ret[i] = (struct piece){0};
    }
}

/* An entry that is nowhere refuses the list; only without one is what is absent worth fetching. */
static int resolve_all(void *arg) /* worker */
{
    struct resolving *r = arg;
    _cleanup_(committed_done) struct committed committed;
    int err = sort_committed(r, &committed);
    size_t i;

    for (i = 0; i < r->n && !err; i++)
        err = resolve(r, &r->blocks[i], &r->ret[i]);
    if (err && i) { /* entry i - 1 failed; those before it hold references */
        *r->bad = i - 1;
        give_back(r, i - 1);
    } else if (!err && r->absent) {
        give_back(r, r->n);
        err = -ENODATA;
    }
    free(r->sorted);
    return err;
}

void tx_blocks(struct tx *tx, const struct block_ref *blocks, size_t n, struct piece *ret,
               size_t *bad, struct completion *done)
{
    struct resolving *r = xcalloc(1, sizeof(*r));

    free(tx->resolving);
    tx->resolving = r; /* the tx's: a full queue of the workers never calls resolve_all */
    *r = (struct resolving){.tx = tx, .blocks = blocks, .n = n, .ret = ret, .bad = bad};
    worker_run(tx->cache->workers, resolve_all, r, done);
}

/* ---- a copy by reference ---- */

/* One change restates the extents of each object it makes dirty again: what one Put Blob can bring
 * fits, a larger body that was learned from the cloud does not. */
#define SHARED_EXTENTS_MAX 1400

bool blob_is_shared(const struct blob *blob)
{
    for (size_t i = 0; i < blob->piece_count; i++)
        if (blob->pieces[i].object->cell_count > SHARED_EXTENTS_MAX)
            return false;
    return !blob->located;
}

void tx_copied(struct tx *tx, const struct blob *source)
{
    assert(tx->what == TX_PUT);
    tx->blob->lineage = blob_lineage(source);
}

struct copying {
    struct tx *tx;
    struct blob_record *record;
    struct blob *source; /* the caller's reference */
};

static void copy_put(const struct copying *c, const struct committed *ids)
{
    const struct blob *source = c->source;
    struct piece *pieces = xmalloc(source->piece_count * sizeof(*pieces));
    struct block_ref *blocks = ids->count ? xcalloc(ids->count, sizeof(*blocks)) : NULL;

    for (size_t i = 0; i < source->piece_count; i++) {
        pieces[i] = source->pieces[i];
        object_ref(pieces[i].object);
    }
    for (size_t i = 0; i < ids->count; i++)
        blocks[i] = (struct block_ref){BLOCK_COMMITTED, ids->ids[i]};
    tx_put(c->tx, c->record, pieces, source->piece_count, blocks, true);
    c->tx->blob->located = false; /* what is shared has rows of its own, however small it is */
    c->tx->reuses = source->piece_count > 0;
    tx_copied(c->tx, source);
    free(blocks);
    free(pieces);
}

static int copy_all(void *arg) /* worker */
{
    struct copying *c = arg;
    _cleanup_(committed_done) struct committed ids = {0};
    uint64_t devices = 0;
    int err;

    for (size_t i = 0; i < c->source->piece_count; i++)
        if (!object_whole(c->source->pieces[i].object, &devices))
            return -ENODATA;
    err = committed_of(c->tx->cache, c->source, &ids);
    if (!err)
        copy_put(c, &ids);
    return err;
}

void tx_copy(struct tx *tx, struct blob_record *record, struct blob *source,
             struct completion *done)
{
    struct copying *c = xmalloc(sizeof(*c));

    assert(blob_is_shared(source));
    free(tx->resolving);
    tx->resolving = c; /* the tx's: a full queue of the workers never calls copy_all */
    *c = (struct copying){tx, record, source};
    worker_run(tx->cache->workers, copy_all, c, done);
}

/* ---- Get Block List ---- */

int cache_list_blocks(struct cache *cache, const struct name *name, struct blob *blob,
                      int (*committed)(void *arg, const struct block_row *row),
                      int (*uncommitted)(void *arg, const struct block_row *row), void *arg)
{
    _cleanup_(committed_done) struct committed list = {0};
    int err = committed ? committed_of(cache, blob, &list) : 0;

    for (size_t i = 0; i < list.count && !err; i++)
        err = committed(arg, &(struct block_row){list.ids[i], blob->pieces[i].length});
    if (!err && uncommitted)
        err = stage_list(cache, name->container, name->blob, uncommitted, arg);
    return err;
}
