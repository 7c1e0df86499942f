/* cache/verify.c - at start: are the bytes that a record refers to whole? Asked for records whose
 * flush is not known finished, before anything is applied; the first that is not cuts the log
 * (design 3). Bytes of clean content were never owed a flush: their checksum decides when they are
 * read.
 *
 * A row that a later record replaces or deletes does not count, its space may be others' by now;
 * but links do whatever became of them: who dropped one may have taken another on the same extents.
 * Rows of one object stand together in a record, in any order: its extents are kept until a link
 * row says that somebody needs them. Main thread, blocks. */
#include "cache/verify.h"

#include "base/log.h"
#include "cache/content.h"
#include "cache/record.h"

struct verify *verify_new(struct cache *cache)
{
    struct verify *verify = xcalloc(1, sizeof(*verify));

    verify->cache = cache;
    return verify;
}

struct verify *verify_free(struct verify *verify)
{
    if (verify) {
        free(verify->extents);
        free(verify);
    }
    return NULL;
}

static int check_extent(struct verify *verify, struct object_id id, const struct extent *extent)
{
    _cleanup_(freep) char *into = NULL;
    int err;

    if (!extent->length)
        return 0;
    into = aligned_alloc(IO_ALIGN, ALIGN_UP(extent->length, IO_ALIGN));
    if (!into)
        abort();
    err =
        extent_read_now(verify->cache->slabs, extent, id, (struct range){0, extent->length}, into);
    if (err)
        log_warn("bytes of the last changes before the stop are not whole: they are cut",
                 KV_UINT("device", extent->at.device), KV_UINT("slab", extent->at.slab),
                 KV_ERR(err));
    return err;
}

static int needed(struct verify *verify, struct object_id id)
{
    int err = 0;

    verify->needed = true;
    for (size_t i = 0; i < verify->count && !err; i++)
        err = check_extent(verify, id, &verify->extents[i]);
    verify->count = 0;
    return err;
}

static int keep(struct verify *verify, const struct extent *extent)
{
    if (verify->needed)
        return check_extent(verify, verify->id, extent);
    if (verify->count == verify->room) {
        verify->room = verify->room ? verify->room * 2 : 16;
        verify->extents = xrealloc(verify->extents, verify->room * sizeof(*verify->extents));
    }
    verify->extents[verify->count++] = *extent;
    return 0;
}

static int check_object_row(struct verify *verify, const struct entry *entry, bool superseded)
{
    struct object_id id;
    enum object_row row;
    uint64_t number;
    struct extent extent;

    if (object_key_decode(entry->key, &id, &row, &number) < 0)
        return -EBADMSG;
    if (!object_id_eq(id, verify->id)) {
        verify->id = id;
        verify->needed = false;
        verify->count = 0;
    }
    if (row == ROW_LINK)
        return entry->value.len && entry->value.base[entry->value.len - 1] != OBJECT_CLEAN
                   ? needed(verify, id)
                   : 0;
    if (row != ROW_EXTENT || superseded || extent_row_decode(entry->value, &extent) < 0)
        return 0;
    return keep(verify, &extent);
}

static int check_blob_row(struct verify *verify, const struct entry *entry)
{
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row row;

    if (blob_row_decode(entry->value, &row, &space) < 0)
        return -EBADMSG;
    if (!row.located || row.object_state == OBJECT_CLEAN || !row.extent.at.generation)
        return 0;
    return check_extent(verify, row.object, &row.extent);
}

int verify_entry(void *arg, const struct entry *entry, bool superseded)
{
    struct verify *verify = arg;

    if (entry->kind != ENTRY_PUT)
        return 0;
    if (entry->family == FAM_OBJECTS)
        return check_object_row(verify, entry, superseded);
    if (superseded || (entry->family != FAM_BLOBS && entry->family != FAM_VERSIONS))
        return 0;
    return check_blob_row(verify, entry);
}
