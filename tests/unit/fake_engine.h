/* tests/unit/fake_engine.h - cache.h and upstream.h in memory, for tests of the dialect alone:
 * every answer the engine may give can be asked for, also those a real one gives once a year.
 * Defines the functions (a test binary that includes it does not link the engine), so one include
 * per binary.
 *
 * Counts references: engine.live is 0 when everything has been given back. */
#ifndef TESTS_FAKE_ENGINE_H
#define TESTS_FAKE_ENGINE_H

#include "base/clock.h"
#include "base/crc64.h"
#include "blobapi/blobapi.h"

#define ROWS_MAX 64

struct object {
    struct span bytes;
    uint64_t crc64;
};
struct blob {
    struct name name;
    struct blob_record record;
    struct span bytes;
    const struct block_ref *ids;
    struct piece *pieces;
    size_t piece_count;
};
struct container {
    struct container_record record;
};
struct staged {
    struct span blob, id;
    struct object *object;
};
struct tx {
    struct span name;
    bool of_container, put, gone;
    struct blob *blob;
    struct container *container;
};
struct writer {
    char *bytes;
    size_t len;
};
struct reader {
    struct blob *blob;
    struct range range;
    uint64_t at;
    enum read_for why;
};

static struct engine {
    struct arena *arena; /* all of it lives here until the test ends */
    struct container *containers[ROWS_MAX];
    unsigned container_count;
    struct blob *blobs[ROWS_MAX]; /* in name order */
    unsigned blob_count;
    struct staged staged[ROWS_MAX];
    unsigned staged_count;
    uint64_t ticks;
    int live; /* references, writers, readers, turns */
    /* what goes otherwise than usual */
    bool cold;      /* nothing in memory: cache_lookup_hot gives nothing */
    int unknown;    /* not 0: what is not there answers with that (-ENODATA) */
    int blocks_err; /* of tx_blocks */
    unsigned turns; /* changes open */
    int commit_err, stage_err, writer_err, read_err, settle_err, list_err;
    unsigned writer_err_times, read_err_times; /* of the read error, 0: always */
    unsigned slice_bytes;                      /* the reader's, 0: 64 KiB */
    bool unchecked;                            /* slices are still to be confirmed */
    uint64_t gap_at;     /* not 0: bytes from there on are absent until filled */
    uint64_t evicted_at; /* not 0: and every turn finds them absent again */
    unsigned settles, uploads;
    enum upload_kind uploaded;
    bool create_only;
    unsigned leases; /* granted; their serials count up from 1 */
    uint64_t lease_began_ns[ROWS_MAX];
} engine;

static struct cloud {
    int open_err, revalidate_err, fill_err, list_err, container_err;
    const char *body;   /* of the blob that open gives */
    const char *newer;  /* body of another version, which a revalidation gives; NULL: the same */
    bool fills_nothing; /* a fill ends well, the gap stays */
    unsigned opens, revalidates, unheard, fills, lists, container_opens;
    struct range filled; /* the last gap it was asked for */
    int forward_err;
    struct forwarded forwarded; /* what it answers to a forwarded request */
    unsigned forwards;
    struct forward forward; /* the last one, kept */
    uint64_t doubt;         /* of every name */
    int doubt_err;
    unsigned doubt_asks;
    unsigned unsent;    /* so many times it has still to hear of a name */
    unsigned list_held; /* 64 KiB buffers in use while it was asked for a list */
} cloud;

static struct span keep(struct span s)
{
    return s.len ? arena_copy(engine.arena, s) : s;
}

static struct blob_record keep_record(const struct blob_record *from)
{
    struct blob_record r = *from;
    struct pair *metadata = arena_alloc(engine.arena, (r.metadata_count + 1) * sizeof(*metadata));
    struct span *spans[] = {
        &r.content_type,  &r.content_encoding, &r.content_language, &r.content_disposition,
        &r.cache_control, &r.content_md5,      &r.cloud_etag,       &r.tags};

    for (unsigned i = 0; i < countof(spans); i++)
        *spans[i] = keep(*spans[i]);
    for (unsigned i = 0; i < r.metadata_count; i++)
        metadata[i] = (struct pair){keep(r.metadata[i].name), keep(r.metadata[i].value)};
    r.metadata = metadata;
    return r;
}

/* ---- what accounts have set: nothing ---- */

struct service *cache_service(struct cache *cache, const struct account *account)
{
    return NULL;
}

const struct service_record *service_record(const struct service *service)
{
    abort();
}

struct service *service_unref(struct service *service)
{
    return NULL;
}

void cache_put_service(struct cache *cache, const struct account *account, struct service *from,
                       const struct service_record *record, struct completion *done)
{
    completion_post(done, engine.commit_err);
}

/* ---- containers ---- */

static struct container *engine_container(struct span name)
{
    for (unsigned i = 0; i < engine.container_count; i++)
        if (span_eq(engine.containers[i]->record.name, name))
            return engine.containers[i];
    return NULL;
}

int cache_container(struct cache *cache, uint32_t account, struct span name, struct container **ret)
{
    struct container *c = engine_container(name);

    if (!c)
        return engine.unknown ? engine.unknown : -ENOENT;
    engine.live++;
    *ret = c;
    return 0;
}

const struct container_record *container_record(const struct container *container)
{
    return &container->record;
}

struct container *container_unref(struct container *container)
{
    engine.live -= container != NULL;
    return NULL;
}

int cache_containers(struct cache *cache, uint32_t account, struct span prefix, struct span from,
                     int (*row)(void *arg, const struct container_record *record), void *arg,
                     bool *complete)
{
    *complete = !engine.unknown;
    for (unsigned i = 0; i < engine.container_count; i++) {
        struct span name = engine.containers[i]->record.name;

        if (span_starts(name, prefix) && span_cmp(name, from) >= 0 &&
            row(arg, &engine.containers[i]->record))
            break;
    }
    return 0;
}

/* ---- versions ---- */

static struct blob *engine_blob(struct span name)
{
    for (unsigned i = 0; i < engine.blob_count; i++)
        if (span_eq(engine.blobs[i]->name.blob, name))
            return engine.blobs[i];
    return NULL;
}

static void engine_remove(struct span name)
{
    for (unsigned i = 0; i < engine.blob_count; i++)
        if (span_eq(engine.blobs[i]->name.blob, name)) {
            engine.blob_count--;
            memmove(engine.blobs + i, engine.blobs + i + 1,
                    (engine.blob_count - i) * sizeof(*engine.blobs));
        }
}

static void engine_add(struct blob *blob)
{
    unsigned i = 0;

    engine_remove(blob->name.blob);
    assert(engine.blob_count < ROWS_MAX);
    while (i < engine.blob_count && span_cmp(engine.blobs[i]->name.blob, blob->name.blob) < 0)
        i++;
    memmove(engine.blobs + i + 1, engine.blobs + i,
            (engine.blob_count - i) * sizeof(*engine.blobs));
    engine.blobs[i] = blob;
    engine.blob_count++;
}

static void engine_name(uint64_t *etag, int64_t *modified_ns)
{
    *etag = 0x1000 + ++engine.ticks;
    *modified_ns = 1700000000LL * 1000000000 + (int64_t)engine.ticks;
}

/* A blob that is there, as after its Put. */
static inline struct blob *engine_put(struct span name, struct span bytes)
{
    struct blob *blob = arena_zalloc(engine.arena, sizeof(*blob));

    blob->name.blob = keep(name);
    blob->bytes = keep(bytes);
    blob->record = (struct blob_record){.type = BLOB_BLOCK,
                                        .length = bytes.len,
                                        .content_type = SPAN("text/plain"),
                                        .durability = DURABILITY_LOCAL};
    engine_name(&blob->record.etag, &blob->record.modified_ns);
    blob->record.created_ns = blob->record.modified_ns;
    engine_add(blob);
    return blob;
}

struct blob *cache_lookup_hot(struct cache *cache, const struct name *name)
{
    struct blob *blob = engine.cold ? NULL : engine_blob(name->blob);

    return blob ? blob_ref(blob) : NULL;
}

void cache_lookup(struct cache *cache, const struct name *name, struct blob **ret,
                  struct completion *done)
{
    struct blob *blob = engine_blob(name->blob);

    if (blob)
        *ret = blob_ref(blob);
    completion_post(done, blob ? 0 : engine.unknown ? engine.unknown : -ENOENT);
}

const struct blob_record *blob_record(const struct blob *blob)
{
    return &blob->record;
}

struct blob *blob_ref(struct blob *blob)
{
    engine.live++;
    return blob;
}

struct blob *blob_unref(struct blob *blob)
{
    engine.live--;
    return NULL;
}

/* ---- read ---- */

struct reader *cache_reader_open(struct blob *blob, struct range range, enum read_for why)
{
    struct reader *reader = arena_zalloc(engine.arena, sizeof(*reader));

    assert(range.len && range.start + range.len <= blob->bytes.len);
    *reader = (struct reader){blob_ref(blob), range, range.start, why};
    return reader;
}

void reader_next(struct reader *reader, struct slice *ret, struct completion *done)
{
    uint64_t end = reader->range.start + reader->range.len,
             n = engine.slice_bytes ? engine.slice_bytes : 65536;
    struct iobuf *buf;

    if (reader->why == READ_KEEP) /* passes what is there */
        reader->at = engine.gap_at ? MIN(MAX(reader->at, engine.gap_at), end) : end;
    if (engine.read_err || (engine.gap_at && reader->at >= engine.gap_at && reader->at < end)) {
        completion_post(done, engine.read_err ? engine.read_err : -ENODATA);
        if (engine.read_err_times && !--engine.read_err_times)
            engine.read_err = 0;
        return;
    }
    if (reader->why == READ_KEEP)
        return completion_post(done, 0);
    buf = iobuf_try(IOBUF_64K);
    assert(buf);
    n = MIN(n, end - reader->at);
    memcpy(buf->base, reader->blob->bytes.base + reader->at, n);
    reader->at += n;
    *ret = (struct slice){buf, {buf->base, n}, !engine.unchecked};
    completion_post(done, 0);
}

struct range reader_gap(const struct reader *reader)
{
    return (struct range){reader->at, reader->range.start + reader->range.len - reader->at};
}

void reader_settle(struct reader *reader, struct completion *done)
{
    engine.settles++;
    completion_post(done, engine.settle_err);
}

struct reader *reader_close(struct reader *reader)
{
    if (reader)
        blob_unref(reader->blob);
    return NULL;
}

/* ---- write ---- */

int cache_writer_open(struct cache *cache, const struct write_opts *opts, struct writer **ret)
{
    if (engine.writer_err && engine.writer_err_times) {
        engine.writer_err_times--;
        return engine.writer_err;
    }
    engine.live++;
    *ret = xcalloc(1, sizeof(**ret));
    return 0;
}

void writer_buffer(struct writer *writer, struct iobuf **ret, struct completion *done)
{
    iobuf_get(IOBUF_64K, ret, done);
}

void writer_push(struct writer *writer, struct iobuf *buf)
{
    writer->bytes = xrealloc(writer->bytes, writer->len + buf->used);
    memcpy(writer->bytes + writer->len, buf->base, buf->used);
    writer->len += buf->used;
    iobuf_unref(buf);
}

struct writer *writer_abort(struct writer *writer)
{
    if (!writer)
        return NULL;
    engine.live--;
    free(writer->bytes);
    free(writer);
    return NULL;
}

void writer_finish(struct writer *writer, struct object **ret, struct completion *done)
{
    struct object *object = arena_zalloc(engine.arena, sizeof(*object));

    object->bytes = arena_copy(engine.arena, span_from(writer->bytes, writer->len));
    object->crc64 = crc64(0, writer->bytes, writer->len);
    writer_abort(writer);
    engine.live++;
    *ret = object;
    completion_post(done, 0);
}

uint64_t object_crc64(const struct object *object)
{
    return object->crc64;
}

struct object *object_unref(struct object *object)
{
    engine.live--;
    return NULL;
}

/* ---- change ---- */

static void begin(struct span name, bool of_container, struct tx **ret, struct completion *done)
{
    if (engine.evicted_at)
        engine.gap_at = engine.evicted_at;
    *ret = arena_zalloc(engine.arena, sizeof(**ret));
    **ret = (struct tx){.name = keep(name), .of_container = of_container};
    engine.live++;
    engine.turns++;
    completion_post(done, 0);
}

void cache_begin(struct cache *cache, const struct name *name, struct tx **ret,
                 struct completion *done)
{
    begin(name->blob, false, ret, done);
}

void cache_begin_container(struct cache *cache, uint32_t account, struct span name, struct tx **ret,
                           struct completion *done)
{
    begin(name, true, ret, done);
}

int tx_current(struct tx *tx, struct blob **ret)
{
    *ret = engine_blob(tx->name);
    return *ret ? 0 : engine.unknown ? engine.unknown : -ENOENT;
}

int tx_current_container(struct tx *tx, struct container **ret)
{
    *ret = engine_container(tx->name);
    return *ret ? 0 : engine.unknown ? engine.unknown : -ENOENT;
}

bool tx_has_staged(struct tx *tx)
{
    for (unsigned i = 0; i < engine.staged_count; i++)
        if (span_eq(engine.staged[i].blob, tx->name))
            return true;
    return false;
}

static struct object *find_staged(struct span blob, struct span id)
{
    for (unsigned i = 0; i < engine.staged_count; i++)
        if (span_eq(engine.staged[i].blob, blob) && span_eq(engine.staged[i].id, id))
            return engine.staged[i].object;
    return NULL;
}

static struct object *find_committed(struct span blob, struct span id)
{
    struct blob *current = engine_blob(blob);

    for (size_t i = 0; current && current->ids && i < current->piece_count; i++)
        if (span_eq(current->ids[i].id, id))
            return current->pieces[i].object;
    return NULL;
}

/* The committed block's bytes, if some are absent. */
static bool absent_block(struct span blob, const struct object *object, struct piece *ret)
{
    struct blob *current = engine_blob(blob);
    uint64_t start = 0;

    for (size_t i = 0; engine.gap_at && current && i < current->piece_count; i++) {
        uint64_t end = start + current->pieces[i].length;

        if (current->pieces[i].object == object && end > engine.gap_at) {
            *ret = (struct piece){NULL, start, end - start};
            return true;
        }
        start = end;
    }
    return false;
}

static int give_back_absent(struct tx *tx, size_t n, struct piece *ret)
{
    bool any = false;

    for (size_t i = 0; i < n; i++)
        any |= absent_block(tx->name, ret[i].object, &(struct piece){0});
    for (size_t i = 0; any && i < n; i++) {
        engine.live--;
        if (!absent_block(tx->name, ret[i].object, &ret[i]))
            ret[i] = (struct piece){0};
    }
    return any ? -ENODATA : 0;
}

void tx_blocks(struct tx *tx, const struct block_ref *blocks, size_t n, struct piece *ret,
               size_t *bad, struct completion *done)
{
    if (engine.blocks_err)
        return completion_post(done, engine.blocks_err);
    for (size_t i = 0; i < n; i++) {
        struct object *o =
            blocks[i].source == BLOCK_COMMITTED ? NULL : find_staged(tx->name, blocks[i].id);

        if (!o && blocks[i].source != BLOCK_UNCOMMITTED)
            o = find_committed(tx->name, blocks[i].id);
        if (!o) {
            engine.live -= (int)i;
            *bad = i;
            completion_post(done, -ENOENT);
            return;
        }
        ret[i] = (struct piece){o, 0, o->bytes.len};
        engine.live++;
    }
    completion_post(done, give_back_absent(tx, n, ret));
}

static void put_ids(struct blob *blob, const struct block_ref *blocks, size_t n)
{
    struct block_ref *ids = arena_alloc(engine.arena, (n + 1) * sizeof(*ids));

    for (size_t i = 0; i < n; i++)
        ids[i] = (struct block_ref){blocks[i].source, keep(blocks[i].id)};
    blob->ids = ids;
}

void tx_put(struct tx *tx, struct blob_record *record, const struct piece *pieces, size_t n,
            const struct block_ref *blocks, bool drop_staged)
{
    struct blob *blob = arena_zalloc(engine.arena, sizeof(*blob));
    char *bytes = NULL;
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        bytes = arena_grow(engine.arena, bytes, len, len + pieces[i].length + 1);
        memcpy(bytes + len, pieces[i].object->bytes.base + pieces[i].offset, pieces[i].length);
        len += pieces[i].length;
        engine.live--;
    }
    engine_name(&record->etag, &record->modified_ns);
    record->created_ns = record->created_ns ? record->created_ns : record->modified_ns;
    record->length = len;
    record->committed_blocks = blocks ? (uint32_t)n : 0;
    record->durability = DURABILITY_LOCAL;
    record->sole = true;
    blob->name.blob = tx->name;
    blob->record = keep_record(record);
    blob->bytes = span_from(bytes, len);
    blob->pieces = arena_alloc(engine.arena, (n + 1) * sizeof(*pieces));
    if (n)
        memcpy(blob->pieces, pieces, n * sizeof(*pieces));
    blob->piece_count = n;
    if (blocks)
        put_ids(blob, blocks, n);
    tx->blob = blob;
    tx->put = drop_staged;
}

bool blob_is_shared(const struct blob *blob)
{
    return blob->ids || !blob->bytes.len; /* as if all other bodies were located */
}

void tx_copied(struct tx *tx, const struct blob *source)
{
}

void tx_copy(struct tx *tx, struct blob_record *record, struct blob *source,
             struct completion *done)
{
    if (engine.gap_at && source->bytes.len > engine.gap_at)
        return completion_post(done, -ENODATA);
    engine.live += (int)source->piece_count;
    tx_put(tx, record, source->pieces, source->piece_count, source->ids, true);
    completion_post(done, 0);
}

void tx_append(struct tx *tx, struct blob_record *record, const struct piece *piece)
{
    const struct blob *current = engine_blob(tx->name);
    struct piece *pieces = arena_alloc(engine.arena, (current->piece_count + 1) * sizeof(*pieces));
    uint32_t blocks = current->record.committed_blocks + 1;

    if (current->piece_count)
        memcpy(pieces, current->pieces, current->piece_count * sizeof(*pieces));
    pieces[current->piece_count] = *piece;
    engine.live += (int)current->piece_count;
    tx_put(tx, record, pieces, current->piece_count + 1, NULL, false);
    tx->blob->record.committed_blocks = record->committed_blocks = blocks;
}

void tx_describe(struct tx *tx, struct blob_record *record)
{
    tx->blob = arena_alloc(engine.arena, sizeof(*tx->blob));
    *tx->blob = *engine_blob(tx->name);
    engine_name(&record->etag, &record->modified_ns);
    tx->blob->record = keep_record(record);
}

void tx_amend(struct tx *tx, const struct blob_record *amended)
{
    struct blob_record record;

    tx->blob = arena_alloc(engine.arena, sizeof(*tx->blob));
    *tx->blob = *engine_blob(tx->name);
    record = tx->blob->record;
    record.tags = amended->tags;
    record.tags_unknown = amended->tags_unknown;
    record.access_tier = amended->access_tier;
    record.access_tier_changed_ns = amended->access_tier_changed_ns;
    tx->blob->record = keep_record(&record);
}

void tx_delete(struct tx *tx)
{
    tx->gone = true;
}

/* Snapshots: test_snapshots.c, over the real engine, and tests/api. Here there is none. */
bool blob_is_copied(const struct blob *blob)
{
    return false;
}

int tx_snapshot(struct tx *tx, const struct snapshot_spec *spec, struct snapshot_made *ret)
{
    abort();
}

void tx_find_snapshot(struct tx *tx, uint64_t snapshot, struct blob **ret, struct completion *done)
{
    completion_post(done, -ENOENT);
}

void tx_delete_snapshot(struct tx *tx)
{
    abort();
}

void tx_delete_snapshots(struct tx *tx)
{
}

void tx_put_container(struct tx *tx, struct container_record *record)
{
    uint64_t tick;

    tx->container = arena_alloc(engine.arena, sizeof(*tx->container));
    engine_name(&record->etag, &record->modified_ns);
    tick = engine.ticks;
    record->id = record->id ? record->id : tick;
    tx->container->record = *record;
    tx->container->record.name = keep(record->name);
    tx->container->record.metadata =
        keep_record(&(struct blob_record){.metadata = record->metadata,
                                          .metadata_count = record->metadata_count})
            .metadata;
}

void tx_delete_container(struct tx *tx)
{
    tx->gone = true;
}

/* ---- leases ---- */

uint64_t cache_lease_began(struct cache *cache, const struct lease *lease)
{
    return lease->serial < ROWS_MAX ? engine.lease_began_ns[lease->serial] : 0;
}

void cache_lease_renew(struct cache *cache, const struct lease *lease)
{
    assert(engine.turns); /* in the name's order */
    engine.lease_began_ns[lease->serial] = clock_mono_ns();
}

void tx_lease(struct tx *tx, struct lease *lease)
{
    if (lease->kind != LEASE_KIND_NONE && !lease->serial) {
        lease->serial = ++engine.leases;
        assert(lease->serial < ROWS_MAX);
        cache_lease_renew(NULL, lease);
    }
    if (tx->of_container) {
        tx->container = arena_alloc(engine.arena, sizeof(*tx->container));
        *tx->container = *engine_container(tx->name);
        tx->container->record.lease = *lease;
        return;
    }
    tx->blob = arena_alloc(engine.arena, sizeof(*tx->blob));
    *tx->blob = *engine_blob(tx->name);
    tx->blob->record.lease = *lease;
}

void tx_upload(struct tx *tx, const struct upload_spec *spec)
{
    engine.uploads++;
    engine.uploaded = spec->kind;
    engine.create_only = spec->create_only;
}

static void commit_container(struct tx *tx)
{
    struct container *old = engine_container(tx->name);

    if (tx->gone)
        for (unsigned i = 0; i < engine.container_count; i++)
            if (engine.containers[i] == old)
                engine.containers[i] = engine.containers[--engine.container_count];
    if (tx->container && old)
        *old = *tx->container;
    else if (tx->container)
        engine.containers[engine.container_count++] = tx->container;
}

static void commit_blob(struct tx *tx)
{
    if (tx->gone)
        engine_remove(tx->name);
    if (tx->blob)
        engine_add(tx->blob);
    for (unsigned i = 0; (tx->gone || tx->put) && i < engine.staged_count;)
        if (span_eq(engine.staged[i].blob, tx->name))
            engine.staged[i] = engine.staged[--engine.staged_count], engine.live--;
        else
            i++;
}

void cache_commit(struct tx *tx, struct completion *done)
{
    engine.live--;
    engine.turns--;
    if (!engine.commit_err && tx->of_container)
        commit_container(tx);
    else if (!engine.commit_err)
        commit_blob(tx);
    completion_post(done, engine.commit_err);
}

void cache_rollback(struct tx *tx, struct completion *done)
{
    engine.live--;
    engine.turns--;
    completion_post(done, 0);
}

void cache_stage(struct cache *cache, const struct name *name, struct span id,
                 struct object *object, struct completion *done)
{
    if (engine.stage_err) {
        engine.live--;
        completion_post(done, engine.stage_err);
        return;
    }
    for (unsigned i = 0; i < engine.staged_count; i++)
        if (span_eq(engine.staged[i].blob, name->blob) && span_eq(engine.staged[i].id, id))
            engine.staged[i] = engine.staged[--engine.staged_count], engine.live--;
    engine.staged[engine.staged_count++] = (struct staged){keep(name->blob), keep(id), object};
    completion_post(done, 0);
}

int cache_list_blocks(struct cache *cache, const struct name *name, struct blob *blob,
                      int (*committed)(void *arg, const struct block_row *row),
                      int (*uncommitted)(void *arg, const struct block_row *row), void *arg)
{
    int err = 0;

    for (size_t i = 0; !err && blob && blob->ids && i < blob->piece_count; i++)
        err = committed(arg, &(struct block_row){blob->ids[i].id, blob->pieces[i].length});
    for (unsigned i = 0; !err && i < engine.staged_count; i++)
        if (span_eq(engine.staged[i].blob, name->blob))
            err = uncommitted(
                arg, &(struct block_row){engine.staged[i].id, engine.staged[i].object->bytes.len});
    return err;
}

/* ---- list ---- */

static struct span list_prefix_of(const struct list_query *q, struct span name)
{
    struct span rest = span_skip(name, q->prefix.len);
    const char *hit =
        q->delimiter.len ? memmem(rest.base, rest.len, q->delimiter.base, q->delimiter.len) : NULL;

    return hit ? span_from(name.base, (size_t)(hit - name.base) + q->delimiter.len)
               : (struct span){NULL, 0};
}

int cache_list(struct cache *cache, const struct list_query *q,
               int (*row)(void *arg, const struct list_row *row), void *arg, struct list_end *ret)
{
    struct span last = {NULL, 0};
    unsigned rows = 0;

    if (engine.list_err && !q->offline) {
        ret->gap = (struct list_gap){q->container, q->prefix, q->delimiter, q->from};
        return engine.list_err;
    }
    for (unsigned i = 0; i < engine.blob_count; i++) {
        struct blob *b = engine.blobs[i];
        struct span prefix =
            span_starts(b->name.blob, q->prefix) ? list_prefix_of(q, b->name.blob) : last;
        struct list_row r = {prefix.base ? prefix : b->name.blob, prefix.base ? NULL : &b->record,
                             false};
        int err;

        if (!span_starts(b->name.blob, q->prefix) || span_cmp(r.name, q->from) < 0 ||
            (last.base && span_eq(last, r.name)))
            continue;
        if (rows++ == q->max) {
            ret->next = arena_copy(engine.arena, r.name);
            return 0;
        }
        last = r.name;
        err = row(arg, &r);
        if (err)
            return err;
    }
    return 0;
}

void list_end_done(struct list_end *end)
{
    *end = (struct list_end){0};
}

#include "tests/unit/fake_upstream.h" /* of the engine and the cloud above */

#endif
