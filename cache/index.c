/* cache/index.c - the index on RocksDB: one column family each, WAL off, `applied` in every family.
 *
 * Any thread may read. Batches are built and written by one thread (committer, or replay before
 * it). Surprises: atomic_flush is off on purpose (not safe in 7.8 beside compact_range, checkpoint
 * and flush_cf), so after a crash families may be at different commits; replay brings them level.
 * Level-0 and pending-compaction stalls are out of reach: back-pressure is the log's length. */
#include "cache/index.h"

#include <dirent.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/failpoint.h"
#include "cache/metrics.h"

#define APPLIED_KEY        "" /* the empty key, first of each family; no entry may use it */
#define APPLIED_BYTES      9u /* format byte, number le64 */
#define APPLIED_FORMAT     1
#define UUID_KEY           "index" /* FAM_META */
#define UUID_BYTES         17u     /* format byte, uuid */
#define MEMTABLE_BYTES_MIN MIB(16)
#define FAMILY_MEMTABLE    MIB(64)
#define FAMILY_MEMTABLES   8
#define NEVER              (1 << 30) /* files in level 0 */

enum { TIER_ALL = 0, TIER_MEMORY = 1, TIER_PERSISTED = 2 }; /* RocksDB's ReadTier */

struct index {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_block_based_table_options_t *table_options;
    rocksdb_cache_t *block_cache;
    rocksdb_column_family_handle_t *family[FAM_COUNT];
    rocksdb_readoptions_t *read, *read_hot, *read_persisted;
    rocksdb_writeoptions_t *write;
    rocksdb_flushoptions_t *flush;
    rocksdb_writebatch_t *batch; /* the one writer's */
    uint64_t applied[FAM_COUNT]; /* the one writer's */
    uint64_t uuid[2];
    _Atomic(char *) error; /* the first one stays */
};

struct index_iter {
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *read;
    struct index *index;
    char *bounds; /* RocksDB keeps pointers into it */
};

static const char *const family_names[FAM_COUNT] = {
    [FAM_META] = "default",
    [FAM_CONTAINERS] = "containers",
    [FAM_BLOBS] = "blobs",
    [FAM_VERSIONS] = "versions",
    [FAM_FRESH] = "fresh",
    [FAM_BLOCKS] = "blocks",
    [FAM_MANIFESTS] = "manifests",
    [FAM_OBJECTS] = "objects",
    [FAM_SPACE] = "space",
    [FAM_UPLOADS] = "uploads",
    [FAM_UPLOAD_NAMES] = "upload_names",
    [FAM_KNOWN] = "known",
    [FAM_OWED] = "owed",
};

const char *family_name(enum family family)
{
    return family == FAM_META ? "meta" : family_names[family];
}

/* Keeps RocksDB's words (malloc'ed) if they are the first, so that index_error's pointer stays
 * good. */
static int index_fail(struct index *index, char *words)
{
    char *none = NULL;

    if (!atomic_compare_exchange_strong(&index->error, &none, words))
        rocksdb_free(words);
    return -EIO;
}

const char *index_error(const struct index *index)
{
    const char *words = atomic_load(&index->error);

    return words ? words : "";
}

/* ---- open and close ---- */

static rocksdb_block_based_table_options_t *table_options_new(rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

    rocksdb_block_based_options_set_format_version(table, 5);
    rocksdb_block_based_options_set_block_size(table, 16 << 10);
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_ribbon_hybrid(10.0, 1));
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(table, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(table, 1);
    rocksdb_block_based_options_set_pin_top_level_index_and_filter(table, 1);
    return table;
}

static void options_no_stalls(rocksdb_options_t *options)
{
    rocksdb_options_set_level0_file_num_compaction_trigger(options, 4);
    rocksdb_options_set_level0_slowdown_writes_trigger(options, NEVER);
    rocksdb_options_set_level0_stop_writes_trigger(options, NEVER);
    rocksdb_options_set_soft_pending_compaction_bytes_limit(options, 0);
    rocksdb_options_set_hard_pending_compaction_bytes_limit(options, 0);
    rocksdb_options_set_max_write_buffer_number(options, FAMILY_MEMTABLES);
}

static rocksdb_options_t *options_new(const struct index_conf *conf,
                                      rocksdb_block_based_table_options_t *table)
{
    rocksdb_options_t *options = rocksdb_options_create();

    rocksdb_options_set_create_if_missing(options, 1);
    rocksdb_options_set_create_missing_column_families(options, 1);
    rocksdb_options_set_paranoid_checks(options, 1);
    rocksdb_options_set_max_open_files(options, -1); /* table readers stay: hot gets need them */
    rocksdb_options_set_max_background_jobs(options, 4);
    rocksdb_options_set_bytes_per_sync(options, MIB(1));
    rocksdb_options_set_skip_stats_update_on_db_open(options, 1);
    rocksdb_options_set_stats_dump_period_sec(options, 0);
    rocksdb_options_set_info_log_level(options, 2); /* warnings */
    rocksdb_options_set_keep_log_file_num(options, 4);
    rocksdb_options_set_db_write_buffer_size(options,
                                             MAX(conf->cache_bytes / 4, MEMTABLE_BYTES_MIN));
    rocksdb_options_set_write_buffer_size(options, FAMILY_MEMTABLE);
    rocksdb_options_set_arena_block_size(options, 64 << 10); /* most families are small */
    rocksdb_options_set_level_compaction_dynamic_level_bytes(options, 1);
    rocksdb_options_set_compression(options, rocksdb_lz4_compression);
    rocksdb_options_set_bottommost_compression(options, rocksdb_zstd_compression);
    rocksdb_options_set_block_based_table_factory(options, table);
    options_no_stalls(options);
    return options;
}

static rocksdb_readoptions_t *read_options_new(int tier)
{
    rocksdb_readoptions_t *read = rocksdb_readoptions_create();

    rocksdb_readoptions_set_verify_checksums(read, 1);
    rocksdb_readoptions_set_read_tier(read, tier);
    return read;
}

static struct index *index_new(const struct index_conf *conf)
{
    struct index *index = xcalloc(1, sizeof(*index));

    index->block_cache = rocksdb_cache_create_lru(MAX(conf->cache_bytes, MIB(8)));
    index->table_options = table_options_new(index->block_cache);
    index->options = options_new(conf, index->table_options);
    index->read = read_options_new(TIER_ALL);
    index->read_hot = read_options_new(TIER_MEMORY);
    index->read_persisted = read_options_new(TIER_PERSISTED);
    index->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(index->write, 1);
    index->flush = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(index->flush, 1);
    index->batch = rocksdb_writebatch_create();
    return index;
}

struct index *index_close(struct index *index)
{
    if (!index)
        return NULL;
    if (index->db) {
        int err = index_flush(index);

        (void)err; /* what is not flushed, the log has */
        for (int f = 0; f < FAM_COUNT; f++)
            rocksdb_column_family_handle_destroy(index->family[f]);
        rocksdb_close(index->db);
    }
    rocksdb_writebatch_destroy(index->batch);
    rocksdb_flushoptions_destroy(index->flush);
    rocksdb_writeoptions_destroy(index->write);
    rocksdb_readoptions_destroy(index->read);
    rocksdb_readoptions_destroy(index->read_hot);
    rocksdb_readoptions_destroy(index->read_persisted);
    rocksdb_options_destroy(index->options);
    rocksdb_block_based_options_destroy(index->table_options);
    rocksdb_cache_destroy(index->block_cache);
    rocksdb_free(atomic_load(&index->error));
    free(index);
    return NULL;
}

/* *ret = 0 when the family has none (a new one). */
static int read_applied(struct index *index, rocksdb_readoptions_t *how, enum family family,
                        uint64_t *ret)
{
    char *err = NULL;
    size_t len;
    rocksdb_pinnableslice_t *pin =
        rocksdb_get_pinned_cf(index->db, how, index->family[family], APPLIED_KEY, 0, &err);
    const char *value;
    uint64_t number = 0;
    bool good = true;

    if (err)
        return index_fail(index, err);
    if (pin) {
        value = rocksdb_pinnableslice_value(pin, &len);
        good = len == APPLIED_BYTES && value[0] == APPLIED_FORMAT;
        number = good ? le64_get(value + 1) : 0;
        rocksdb_pinnableslice_destroy(pin);
    }
    if (!good)
        return index_fail(index, xasprintf("family %s: malformed applied", family_name(family)));
    *ret = number;
    return 0;
}

static int read_uuid(struct index *index)
{
    struct index_value value;
    int err = index_get(index, NULL, FAM_META, SPAN(UUID_KEY), &value);

    if (err)
        return err == -ENOENT ? 0 : err;
    if (value.bytes.len == UUID_BYTES)
        memcpy(index->uuid, value.bytes.base + 1, sizeof(index->uuid));
    else
        err = index_fail(index, xasprintf("malformed index uuid"));
    index_value_done(&value);
    return err;
}

static int index_load(struct index *index)
{
    int err = read_uuid(index);

    for (int f = 0; f < FAM_COUNT && !err; f++)
        err = read_applied(index, index->read, f, &index->applied[f]);
    return err;
}

int index_open(const struct index_conf *conf, struct index **ret, char **why)
{
    struct index *index = index_new(conf);
    const rocksdb_options_t *options[FAM_COUNT];
    char *err = NULL;

    for (int f = 0; f < FAM_COUNT; f++)
        options[f] = index->options;
    index->db = rocksdb_open_column_families(index->options, conf->path, FAM_COUNT, family_names,
                                             options, index->family, &err);
    if (err)
        (void)index_fail(index, err);
    if (!index->db || index_load(index)) {
        *why = xasprintf("index %s cannot be opened: %s", conf->path, index_error(index));
        index_close(index);
        return -EIO;
    }
    *ret = index;
    return 0;
}

int index_discard(const char *path, char **why)
{
    rocksdb_options_t *options = rocksdb_options_create();
    char *err = NULL;

    rocksdb_destroy_db(options, path, &err);
    rocksdb_options_destroy(options);
    if (err) {
        *why = xasprintf("index %s cannot be removed: %s", path, err);
        rocksdb_free(err);
        return -EIO;
    }
    return 0;
}

/* ---- a copy ---- */

static int file_copy(const char *from, const char *to)
{
    _cleanup_(fd_close) int in = open(from, O_RDONLY | O_CLOEXEC);
    _cleanup_(fd_close) int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ssize_t n = in < 0 || out < 0 ? -1 : 1;

    while (n > 0)
        n = sendfile(out, in, NULL, MIB(16));
    return n < 0 ? -errno : 0;
}

/* Tables are written once; the lock and the text logs are of who has it open. */
static int entry_copy(const char *folder, const char *to, const char *name)
{
    _cleanup_(freep) char *from = xasprintf("%s/%s", folder, name);
    _cleanup_(freep) char *into = xasprintf("%s/%s", to, name);
    const char *dot = strrchr(name, '.');

    if (name[0] == '.' || strcmp(name, "LOCK") == 0 || strncmp(name, "LOG", 3) == 0)
        return 0;
    if (dot && strcmp(dot, ".sst") == 0 && link(from, into) == 0)
        return 0;
    return file_copy(from, into);
}

static void dir_done(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

int index_copy(const char *from, const char *to, char **why)
{
    _cleanup_(dir_done) DIR *dir = opendir(from);
    struct dirent *entry;
    int err = !dir || mkdir(to, 0700) < 0 ? -errno : 0;

    while (!err && dir && (entry = readdir(dir)))
        err = entry_copy(from, to, entry->d_name);
    if (err < 0)
        *why = xasprintf("index %s cannot be copied to %s: %s", from, to, strerror(-err));
    return err;
}

void index_uuid(const struct index *index, uint64_t ret[2])
{
    memcpy(ret, index->uuid, sizeof(index->uuid));
}

int index_bind(struct index *index, const uint64_t uuid[2])
{
    char value[UUID_BYTES] = {1};
    char *err = NULL;

    memcpy(value + 1, uuid, sizeof(index->uuid));
    rocksdb_put_cf(index->db, index->write, index->family[FAM_META], UUID_KEY, strlen(UUID_KEY),
                   value, sizeof(value), &err);
    if (!err)
        rocksdb_flush_cf(index->db, index->flush, index->family[FAM_META], &err);
    if (err)
        return index_fail(index, err);
    memcpy(index->uuid, uuid, sizeof(index->uuid));
    return 0;
}

/* ---- reads ---- */

static int value_from(rocksdb_pinnableslice_t *pin, struct index_value *ret)
{
    size_t len;

    if (!pin)
        return -ENOENT;
    ret->bytes.base = rocksdb_pinnableslice_value(pin, &len);
    ret->bytes.len = len;
    ret->pinned = pin;
    return 0;
}

const char index_hot;

/* How to read it. *ret_own: to be destroyed by the caller. */
static rocksdb_readoptions_t *read_options_of(struct index *index, const struct index_view *view,
                                              rocksdb_readoptions_t **ret_own)
{
    *ret_own = NULL;
    if (view == INDEX_HOT) {
        STAT_INC(index_gets_hot);
        return index->read_hot;
    }
    STAT_INC(index_gets);
    if (!view)
        return index->read;
    *ret_own = read_options_new(TIER_ALL);
    rocksdb_readoptions_set_snapshot(*ret_own, (const rocksdb_snapshot_t *)view);
    return *ret_own;
}

int index_get(struct index *index, const struct index_view *view, enum family family,
              struct span key, struct index_value *ret)
{
    rocksdb_readoptions_t *own, *how = read_options_of(index, view, &own);
    rocksdb_pinnableslice_t *pin;
    char *err = NULL;

    assert(key.len);
    pin = rocksdb_get_pinned_cf(index->db, how, index->family[family], key.base, key.len, &err);
    if (own)
        rocksdb_readoptions_destroy(own);
    if (!err)
        return value_from(pin, ret);
    if (view != INDEX_HOT || strncmp(err, "Result incomplete", 17) != 0)
        return index_fail(index, err);
    rocksdb_free(err);
    return -EAGAIN;
}

void index_value_done(struct index_value *value)
{
    if (value->pinned)
        rocksdb_pinnableslice_destroy(value->pinned);
    *value = (struct index_value){0};
}

struct index_view *index_view_new(struct index *index)
{
    return (struct index_view *)(uintptr_t)rocksdb_create_snapshot(index->db);
}

struct index_view *index_view_free(struct index *index, struct index_view *view)
{
    if (view)
        rocksdb_release_snapshot(index->db, (const rocksdb_snapshot_t *)view);
    return NULL;
}

struct index_iter *index_iter_new(struct index *index, const struct index_view *view,
                                  enum family family, struct span lower, struct span upper)
{
    struct index_iter *iter = xcalloc(1, sizeof(*iter));
    size_t lower_bytes =
        MAX(lower.len, 1); /* the byte 0 comes right after the empty key: hides it */

    iter->index = index;
    iter->bounds = xcalloc(1, lower_bytes + upper.len);
    iter->read = read_options_new(TIER_ALL);
    if (lower.len)
        memcpy(iter->bounds, lower.base, lower.len);
    rocksdb_readoptions_set_iterate_lower_bound(iter->read, iter->bounds, lower_bytes);
    if (upper.len) {
        memcpy(iter->bounds + lower_bytes, upper.base, upper.len);
        rocksdb_readoptions_set_iterate_upper_bound(iter->read, iter->bounds + lower_bytes,
                                                    upper.len);
    }
    if (view)
        rocksdb_readoptions_set_snapshot(iter->read, (const rocksdb_snapshot_t *)view);
    iter->it = rocksdb_create_iterator_cf(index->db, iter->read, index->family[family]);
    rocksdb_iter_seek_to_first(iter->it);
    return iter;
}

struct index_iter *index_iter_free(struct index_iter *iter)
{
    if (!iter)
        return NULL;
    rocksdb_iter_destroy(iter->it);
    rocksdb_readoptions_destroy(iter->read);
    free(iter->bounds);
    free(iter);
    return NULL;
}

bool index_iter_valid(struct index_iter *iter)
{
    return rocksdb_iter_valid(iter->it);
}

int index_iter_err(struct index_iter *iter)
{
    char *err = NULL;

    rocksdb_iter_get_error(iter->it, &err);
    return err ? index_fail(iter->index, err) : 0;
}

void index_iter_next(struct index_iter *iter)
{
    rocksdb_iter_next(iter->it);
}

void index_iter_seek(struct index_iter *iter, struct span key)
{
    rocksdb_iter_seek(iter->it, key.len ? key.base : "", key.len);
}

struct span index_iter_key(struct index_iter *iter)
{
    struct span key;

    key.base = rocksdb_iter_key(iter->it, &key.len);
    return key;
}

struct span index_iter_value(struct index_iter *iter)
{
    struct span value;

    value.base = rocksdb_iter_value(iter->it, &value.len);
    return value;
}

/* ---- apply ---- */

void index_batch_add(struct index *index, uint64_t number, const struct entry *entry)
{
    rocksdb_column_family_handle_t *family = index->family[entry->family];
    struct span key = entry->key, value = entry->value;

    if (index->applied[entry->family] >= number)
        return;
    switch (entry->kind) {
    case ENTRY_PUT:
        rocksdb_writebatch_put_cf(index->batch, family, key.base, key.len, value.base, value.len);
        break;
    case ENTRY_DELETE:
        rocksdb_writebatch_delete_cf(index->batch, family, key.base, key.len);
        break;
    case ENTRY_DELETE_RANGE: /* also over the empty key: `applied` is put again at the batch's end
                              */
        rocksdb_writebatch_delete_range_cf(index->batch, family, key.len ? key.base : "", key.len,
                                           value.base, value.len);
        break;
    }
}

int index_batch_write(struct index *index, uint64_t number)
{
    char applied[APPLIED_BYTES] = {APPLIED_FORMAT};
    char *err = NULL;

    le64_put(applied + 1, number);
    for (int f = 0; f < FAM_COUNT; f++)
        if (index->applied[f] < number)
            rocksdb_writebatch_put_cf(index->batch, index->family[f], APPLIED_KEY, 0, applied,
                                      sizeof(applied));
    rocksdb_write(index->db, index->write, index->batch, &err);
    rocksdb_writebatch_clear(index->batch);
    if (err)
        return index_fail(index, err);
    FAILPOINT("index_batch_written");
    for (int f = 0; f < FAM_COUNT; f++)
        index->applied[f] = MAX(index->applied[f], number);
    return 0;
}

int index_apply(struct index *index, uint64_t number, const struct entry *entries, size_t n)
{
    for (size_t i = 0; i < n; i++)
        index_batch_add(index, number, &entries[i]);
    return index_batch_write(index, number);
}

uint64_t index_applied(struct index *index, enum family family)
{
    return index->applied[family];
}

int index_applied_persisted(struct index *index, uint64_t *ret_smallest)
{
    uint64_t number, smallest = UINT64_MAX;
    int err;

    for (int f = 0; f < FAM_COUNT; f++) {
        if ((err = read_applied(index, index->read_persisted, f, &number)))
            return err;
        smallest = MIN(smallest, number);
    }
    *ret_smallest = smallest;
    return 0;
}

int index_flush(struct index *index)
{
    char *err = NULL;

    STAT_INC(index_flushes);
    for (int f = 0; f < FAM_COUNT; f++) {
        rocksdb_flush_cf(index->db, index->flush, index->family[f], &err);
        if (err)
            return index_fail(index, err);
        FAILPOINT("index_family_flushed");
    }
    return 0;
}
