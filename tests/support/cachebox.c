#include "tests/support/cachebox.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/date.h"
#include "base/iobuf.h"
#include "cache/names.h"
#include "cache/store.h"
#include "tests/support/tempdir.h"

#define DEVICE_SLABS 8
#define DEVICE_BYTES ((2u << 20) + DEVICE_SLABS * (65u << 20))

static const struct span markers[] = {{"latest", 6}, {"*.metadata", 10}};
#define BACK(n, p, o)                                                                              \
    {                                                                                              \
        .id = n, .pattern = {p, sizeof(p) - 1}, .write = WRITE_BACK, .order = o, .copies = 1,      \
        .markers = markers, .marker_count = 2, .fresh_ns = 60 * NS_PER_SEC,                        \
        .absent_ns = 10 * NS_PER_SEC                                                               \
    }
static const struct contract local[] = {
    {.id = 1, .pattern = {"*", 1}, .write = WRITE_LOCAL, .copies = 1}};
static const struct contract cloud[] = {
    BACK(2, "safe/*", ORDER_SAFE),
    BACK(3, "free/*", ORDER_LATEST_WINS),
    {.id = 4,
     .pattern = {"deny/*", 6},
     .write = WRITE_DENY,
     .copies = 1,
     .fresh_ns = 60 * NS_PER_SEC,
     .absent_ns = 10 * NS_PER_SEC},
    BACK(5, "*", ORDER_SAFE),
};
static const struct account account_rows[] = {
    {.id = BOX_LOCAL, .name = {"local", 5}, .contracts = local, .contract_count = 1},
    {.id = BOX_CLOUD,
     .name = {"cloud", 5},
     .contracts = cloud,
     .contract_count = 4,
     .upstream.endpoint = {"http://cloud", 12}},
};
static const struct accounts accounts = {account_rows, 2};
const struct accounts *cachebox_accounts;

/* ---- life ---- */

static const struct device_conf devices[] = {
    {{"d0", 2}, {"d0", 2}, DEVICE_BYTES},
    {{"d1", 2}, {"d1", 2}, DEVICE_BYTES},
    {{"d2", 2}, {"d2", 2}, DEVICE_BYTES},
};

static struct cache_conf conf_of(struct cachebox *box)
{
    return (struct cache_conf){
        .data = span_of(box->dir),
        .devices = devices,
        .device_count = box->devices,
        .accounts = cachebox_accounts ? cachebox_accounts : &accounts,
        .memory_tier_bytes = 1 << 20,
        .index_cache_bytes = 8 << 20,
        .workers = box->workers,
        .io_ops = box->io_ops ? box->io_ops : io_sim_ops(box->sim),
    };
}

int cachebox_try_open(struct cachebox *box, char **why)
{
    struct cache_conf conf = conf_of(box);
    int err = cache_open(&conf, &box->cache, why);

    return err ? err : cache_attach_loop(box->cache, loop_poll_loop(box->poll));
}

void cachebox_open(struct cachebox *box)
{
    char *why = NULL;

    if (cachebox_try_open(box, &why)) {
        fprintf(stderr, "cache does not open: %s\n", why);
        abort();
    }
}

static void print_line(void *arg, const char *line)
{
    fprintf(stderr, "check: %s\n", line);
}

int cachebox_check_elsewhere(struct cachebox *box)
{
    struct io_sim *empty = io_sim_new(1);
    struct cache_conf conf = conf_of(box);
    int findings;

    cachebox_close(box);
    conf.io_ops = io_sim_ops(empty);
    findings = cache_check(&conf, print_line, NULL);
    assert(io_sim_count(empty, IO_SIM_WRITE) == 0);
    cachebox_open(box);
    io_sim_free(empty);
    return findings;
}

int cachebox_close_and_check(struct cachebox *box)
{
    struct cache_conf conf = conf_of(box);

    cachebox_close(box);
    return cache_check(&conf, print_line, NULL);
}

int cachebox_check(struct cachebox *box)
{
    int findings = cachebox_close_and_check(box);

    cachebox_open(box);
    return findings;
}

void cachebox_fill_small_slabs(struct cachebox *box)
{
    struct slab_store *slabs = box->cache->slabs;
    SCOPED_LOCK(&slabs->lock);

    for (unsigned i = 0; i < slabs->device_count; i++) {
        struct device *device = &slabs->device[i];

        if (device->small_slab != UINT32_MAX && device->slabs[device->small_slab].live)
            device->small_slab = UINT32_MAX;
    }
}

void cachebox_close(struct cachebox *box)
{
    if (!box->cache)
        return;
    cache_detach_loop(box->cache, loop_poll_loop(box->poll));
    box->cache = cache_close(box->cache);
}

static struct cachebox *box_make(struct io_sim *sim, unsigned count)
{
    static bool pools;
    struct cachebox *box = xcalloc(1, sizeof(*box));

    if (!pools && iobuf_pools_open(&(struct iobuf_pools_conf){{1 << 20, 4 << 20, 8 << 20}}))
        abort();
    pools = true;
    assert(count >= 1 && count <= countof(devices));
    box->devices = count;
    box->sim = sim;
    box->dir = tempdir_new("cachebox");
    box->workers = workers_new(2, "test");
    box->poll = loop_poll_new();
    loop_enter(loop_poll_loop(box->poll));
    return box;
}

struct cachebox *cachebox_make(uint64_t seed, unsigned count)
{
    return box_make(io_sim_new(seed), count);
}

struct cachebox *cachebox_new(uint64_t seed)
{
    struct cachebox *box = cachebox_make(seed, 1);

    cachebox_open(box);
    return box;
}

void cachebox_index_copy(struct cachebox *box, const char *to)
{
    _cleanup_(freep) char *from = tempdir_path(box->dir, "index");

    tempdir_copy(from, to);
}

struct cachebox *cachebox_from(struct io_sim *sim, const char *index, unsigned count)
{
    struct cachebox *box = box_make(sim, count);
    _cleanup_(freep) char *to = tempdir_path(box->dir, "index");

    tempdir_copy(index, to);
    return box;
}

static struct cachebox *box_crashed(struct cachebox *box, uint64_t seed) /* not opened */
{
    struct cachebox *image = box_make(NULL, box->devices);
    _cleanup_(freep) char *to = tempdir_path(image->dir, "index");

    cachebox_index_copy(box, to); /* first: an index may be behind its log, never ahead */
    image->sim = io_sim_clone(box->sim);
    io_sim_crash(image->sim, seed);
    return image;
}

int cachebox_check_crashed(struct cachebox *box, uint64_t seed)
{
    struct cachebox *image = box_crashed(box, seed);
    struct cache_conf conf = conf_of(image);
    _cleanup_(freep) char *index = tempdir_path(image->dir, "index");
    _cleanup_(freep) char *copy = tempdir_path(image->dir, "check");
    uint64_t before = tempdir_signature(index);
    uint64_t writes = io_sim_count(image->sim, IO_SIM_WRITE);
    int findings = cache_check(&conf, print_line, NULL);

    assert(tempdir_signature(index) == before && access(copy, F_OK) < 0);
    assert(io_sim_count(image->sim, IO_SIM_WRITE) == writes);
    cachebox_free(image);
    loop_enter(loop_poll_loop(box->poll));
    return findings;
}

int cachebox_try_crash(struct cachebox *box, uint64_t seed, struct cachebox **ret, char **why)
{
    struct cachebox *image = box_crashed(box, seed);
    int err = cachebox_try_open(image, why);

    if (err)
        cachebox_free(image);
    else
        *ret = image;
    return err;
}

struct cachebox *cachebox_crash(struct cachebox *box, uint64_t seed)
{
    struct cachebox *image;
    char *why = NULL;

    if (cachebox_try_crash(box, seed, &image, &why)) {
        fprintf(stderr, "cache does not open after a cut: %s\n", why);
        abort();
    }
    return image;
}

struct cachebox *cachebox_free(struct cachebox *box)
{
    cachebox_close(box);
    workers_free(box->workers);
    loop_enter(NULL);
    loop_poll_free(box->poll);
    io_sim_free(box->sim);
    tempdir_free(box->dir);
    free(box);
    return NULL;
}

struct completion *box_done(struct cachebox *box)
{
    loop_enter(loop_poll_loop(box->poll)); /* another box may have been used meanwhile */
    return awaited_init(&box->awaited, loop_poll_loop(box->poll));
}

int box_wait(struct cachebox *box)
{
    return loop_await(box->poll, &box->awaited);
}

/* ---- containers ---- */

const struct contract *box_contract(uint32_t account, const char *container, const char *blob)
{
    return contract_for(account_by_id(&accounts, account), span_of(container), span_of(blob));
}

struct name box_name(uint64_t container, const char *blob)
{
    return (struct name){.container = container, .blob = span_of(blob)};
}

static void upload_if_back(struct tx *tx, enum upload_kind kind, uint32_t account,
                           const char *container, const char *blob)
{
    const struct contract *contract = box_contract(account, container, blob);

    if (contract->write == WRITE_BACK)
        tx_upload(tx, &(struct upload_spec){kind, contract});
}

uint64_t box_container(struct cachebox *box, uint32_t account, const char *name)
{
    struct container_record record = {0};
    struct tx *tx;

    cache_begin_container(box->cache, account, span_of(name), &tx, box_done(box));
    if (box_wait(box))
        abort();
    tx_put_container(tx, &record);
    upload_if_back(tx, UPLOAD_CONTAINER_CREATE, account, name, "");
    cache_commit(tx, box_done(box));
    if (box_wait(box))
        abort();
    return record.id;
}

int box_delete_container(struct cachebox *box, uint32_t account, const char *name)
{
    struct container *container;
    struct tx *tx;
    int err;

    cache_begin_container(box->cache, account, span_of(name), &tx, box_done(box));
    if ((err = box_wait(box)))
        return err;
    if ((err = tx_current_container(tx, &container))) {
        cache_rollback(tx, box_done(box));
        return box_wait(box) ? -EIO : err;
    }
    tx_delete_container(tx);
    upload_if_back(tx, UPLOAD_CONTAINER_DELETE, account, name, "");
    cache_commit(tx, box_done(box));
    return box_wait(box);
}

/* ---- bytes ---- */

struct object *box_object(struct cachebox *box, const void *base, size_t len)
{
    struct write_opts opts = {.contract = &local[0], .bytes = (int64_t)len};
    struct writer *writer;
    struct object *object;
    const char *at = base;

    if (cache_writer_open(box->cache, &opts, &writer))
        abort();
    while (len) {
        struct iobuf *buf;
        uint32_t n;

        writer_buffer(writer, &buf, box_done(box));
        if (box_wait(box))
            abort();
        n = (uint32_t)MIN(len, buf->size);
        memcpy(buf->base, at, n);
        buf->used = n;
        at += n;
        len -= n;
        writer_push(writer, buf);
    }
    writer_finish(writer, &object, box_done(box));
    if (box_wait(box))
        abort();
    return object;
}

char *box_read(struct cachebox *box, struct blob *blob, size_t *len, int *err)
{
    uint64_t length = blob_record(blob)->length, have = 0;
    char *bytes = xmalloc(length + 1);
    struct reader *reader =
        length ? cache_reader_open(blob, (struct range){0, length}, READ_CLIENT) : NULL;

    *err = 0;
    while (have < length && !*err) {
        struct slice slice = {0};

        reader_next(reader, &slice, box_done(box));
        *err = box_wait(box);
        if (*err)
            break;
        memcpy(bytes + have, slice.bytes.base, slice.bytes.len);
        have += slice.bytes.len;
        slice = slice_unref(slice);
    }
    if (reader && !*err) {
        reader_settle(reader, box_done(box));
        *err = box_wait(box);
    }
    reader_close(reader);
    bytes[have] = 0;
    *len = have;
    if (!*err)
        return bytes;
    free(bytes);
    return NULL;
}

/* ---- blobs ---- */

int box_put_bytes(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
                  const char *blob, const void *base, size_t len, uint64_t *etag)
{
    struct blob_record record = {.type = BLOB_BLOCK, .content_type = SPAN("text/plain")};
    struct name name = box_name(id, blob);
    struct piece piece = {0};
    struct tx *tx;
    int err;

    if (len) {
        piece.object = box_object(box, base, len);
        piece.length = len;
        record.content_crc64 = object_crc64(piece.object);
        record.has_crc64 = true;
    }
    cache_begin(box->cache, &name, &tx, box_done(box));
    if ((err = box_wait(box))) {
        object_unref(piece.object);
        return err;
    }
    tx_put(tx, &record, &piece, len ? 1 : 0, NULL, true);
    upload_if_back(tx, UPLOAD_CONTENT, account, container, blob);
    cache_commit(tx, box_done(box));
    if (etag)
        *etag = record.etag;
    return box_wait(box);
}

int box_put(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
            const char *blob, const char *text, uint64_t *etag)
{
    return box_put_bytes(box, account, container, id, blob, text, strlen(text), etag);
}

static void copy_bytes(struct cachebox *box, struct tx *tx, struct blob_record *record,
                       struct blob *source)
{
    struct piece piece = {0};
    size_t len;
    int err;
    char *bytes = box_read(box, source, &len, &err);

    assert(!err);
    piece.object = box_object(box, bytes, len);
    piece.length = len;
    tx_put(tx, record, &piece, 1, NULL, true);
    tx_copied(tx, source);
    free(bytes);
}

int box_copy(struct cachebox *box, struct blob *source, uint32_t account, const char *container,
             uint64_t id, const char *blob)
{
    struct blob_record record = *blob_record(source);
    struct name name = box_name(id, blob);
    struct tx *tx;
    int err;

    record.created_ns = 0;
    cache_begin(box->cache, &name, &tx, box_done(box));
    if ((err = box_wait(box)))
        return err;
    if (blob_is_shared(source)) {
        tx_copy(tx, &record, source, box_done(box));
        err = box_wait(box);
    } else {
        copy_bytes(box, tx, &record, source);
    }
    if (err) {
        cache_rollback(tx, box_done(box));
        (void)box_wait(box);
        return err;
    }
    upload_if_back(tx, UPLOAD_CONTENT, account, container, blob);
    cache_commit(tx, box_done(box));
    return box_wait(box);
}

int box_delete(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
               const char *blob)
{
    struct name name = box_name(id, blob);
    struct tx *tx;
    int err;

    cache_begin(box->cache, &name, &tx, box_done(box));
    if ((err = box_wait(box)))
        return err;
    tx_delete(tx);
    upload_if_back(tx, UPLOAD_DELETE, account, container, blob);
    cache_commit(tx, box_done(box));
    return box_wait(box);
}

/* ---- snapshots ---- */

static struct piece copy_of(struct cachebox *box, struct blob *blob)
{
    size_t len;
    int err;
    _cleanup_(freep) char *bytes = box_read(box, blob, &len, &err);

    if (err)
        abort();
    return (struct piece){box_object(box, bytes, len), 0, len};
}

int box_snapshot(struct cachebox *box, uint64_t id, const char *blob, uint64_t *snapshot)
{
    struct name name = box_name(id, blob);
    struct snapshot_spec spec = {0};
    struct snapshot_made made;
    struct blob *current;
    struct tx *tx;
    int err;

    cache_begin(box->cache, &name, &tx, box_done(box));
    if (box_wait(box))
        abort();
    err = tx_current(tx, &current);
    if (err) {
        cache_rollback(tx, box_done(box));
        return box_wait(box) ? -EIO : err;
    }
    if (blob_is_copied(current)) {
        spec.copied = current;
        spec.copy = copy_of(box, current);
    }
    if (tx_snapshot(tx, &spec, &made))
        abort();
    if (snapshot)
        *snapshot = made.snapshot;
    cache_commit(tx, box_done(box));
    return box_wait(box);
}

int box_delete_snapshot(struct cachebox *box, uint64_t id, const char *blob, uint64_t snapshot)
{
    struct name name = box_name(id, blob);
    struct blob *found;
    struct tx *tx;
    int err;

    cache_begin(box->cache, &name, &tx, box_done(box));
    if (box_wait(box))
        abort();
    tx_find_snapshot(tx, snapshot, &found, box_done(box));
    err = box_wait(box);
    if (err) {
        cache_rollback(tx, box_done(box));
        return box_wait(box) ? -EIO : err;
    }
    tx_delete_snapshot(tx);
    cache_commit(tx, box_done(box));
    return box_wait(box);
}

int box_delete_snapshots(struct cachebox *box, uint64_t id, const char *blob)
{
    struct name name = box_name(id, blob);
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    if (box_wait(box))
        abort();
    tx_delete_snapshots(tx);
    cache_commit(tx, box_done(box));
    return box_wait(box);
}

int box_lookup_snapshot(struct cachebox *box, uint64_t id, const char *blob, uint64_t snapshot,
                        struct blob **ret)
{
    char text[ISO8601_BYTES + 1];
    struct name name = box_name(id, blob);

    iso8601_print((int64_t)(snapshot * ISO8601_TICK_NS), text);
    name.snapshot = span_of(text);
    *ret = NULL;
    cache_lookup(box->cache, &name, ret, box_done(box));
    return box_wait(box);
}

int box_lookup(struct cachebox *box, uint64_t id, const char *blob, struct blob **ret)
{
    struct name name = box_name(id, blob);

    if ((*ret = cache_lookup_hot(box->cache, &name)))
        return 0;
    cache_lookup(box->cache, &name, ret, box_done(box));
    return box_wait(box);
}

int box_expect(struct cachebox *box, uint64_t id, const char *blob, const char *text)
{
    struct blob *found;
    size_t len;
    char *bytes;
    int err = box_lookup(box, id, blob, &found);

    if (err)
        return err;
    bytes = box_read(box, found, &len, &err);
    if (!err && (len != strlen(text) || memcmp(bytes, text, len) != 0))
        err = -EBADE;
    free(bytes);
    blob_unref(found);
    return err;
}

/* ---- blocks ---- */

int box_stage(struct cachebox *box, uint64_t id, const char *blob, const char *block,
              const char *text)
{
    struct name name = box_name(id, blob);
    struct object *object = box_object(box, text, strlen(text));

    cache_stage(box->cache, &name, span_of(block), object, box_done(box));
    return box_wait(box);
}

static size_t parse_refs(const char *refs, struct block_ref *ret)
{
    struct span rest = span_of(refs);
    size_t n = 0;

    while (rest.len) {
        struct span one = span_cut(rest, ',', &rest);

        ret[n].source = one.base[0] == 'L'   ? BLOCK_LATEST
                        : one.base[0] == 'C' ? BLOCK_COMMITTED
                                             : BLOCK_UNCOMMITTED;
        ret[n++].id = span_skip(one, 2);
    }
    return n;
}

int box_commit_blocks(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
                      const char *blob, const char *refs, size_t *bad)
{
    struct blob_record record = {.type = BLOB_BLOCK};
    struct name name = box_name(id, blob);
    struct block_ref blocks[64];
    struct piece pieces[64];
    size_t n = parse_refs(refs, blocks);
    struct tx *tx;
    int err;

    cache_begin(box->cache, &name, &tx, box_done(box));
    if ((err = box_wait(box)))
        return err;
    tx_blocks(tx, blocks, n, pieces, bad, box_done(box));
    if ((err = box_wait(box))) {
        cache_rollback(tx, box_done(box));
        return box_wait(box) ? -EIO : err;
    }
    tx_put(tx, &record, pieces, n, blocks, true);
    upload_if_back(tx, UPLOAD_CONTENT, account, container, blob);
    cache_commit(tx, box_done(box));
    return box_wait(box);
}
