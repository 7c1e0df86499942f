/* cache/log_read.c - finding the log on a device, walking its chain, telling a tail from damage.
 * Start and `hearth check`: blocking, one thread. */
#include "cache/log.h"

/* How far behind the end of the chain flushed records are looked for. Between a lost record and the
 * first that says it was flushed are the rest of its round and the next one, which was written
 * while the flush ran. */
#define SCAN_BYTES        (2 * (LOG_ROUND_BYTES_MAX + LOG_BATCH_BYTES_MAX))
#define READER_BYTES      (ALIGN_UP(LOG_RECORD_BYTES_MAX, IO_ALIGN) + 2 * IO_BYTES_MAX)
#define LOG_PAYLOAD_START (IO_ALIGN + LOG_HEAD_BYTES) /* in a slab: header page, head */

/* ---- bytes of one slab ---- */

struct slab_reader {
    struct io *io;
    uint64_t base; /* of the slab on the device */
    uint32_t end, pos;
    char *buf;
    uint32_t buf_at, buf_len; /* offsets in the slab, multiples of IO_ALIGN */
    int err;
};

static void slab_reader_init(struct slab_reader *reader, const struct log_path *path, uint32_t slab)
{
    *reader = (struct slab_reader){
        .io = slab_device_io(path->slabs, path->device),
        .base = slab_offset(path->slabs, path->device, slab),
        .end = slab_bytes(),
        .pos = LOG_PAYLOAD_START,
        .buf = aligned_alloc(IO_ALIGN, READER_BYTES),
    };
    assert(reader->buf);
}

static void slab_reader_done(struct slab_reader *reader)
{
    free(reader->buf);
}

/* At least `need` bytes from pos on, fewer at the slab's end; empty after a read error. */
static struct span slab_need(struct slab_reader *reader, uint32_t need)
{
    uint32_t want = MIN(need, reader->end - reader->pos), n;

    if (reader->pos < reader->buf_at || reader->pos >= reader->buf_at + reader->buf_len) {
        reader->buf_at = reader->pos / IO_ALIGN * IO_ALIGN;
        reader->buf_len = 0;
    } else if (reader->pos + want > reader->buf_at + reader->buf_len) {
        uint32_t skip = (reader->pos - reader->buf_at) / IO_ALIGN * IO_ALIGN;

        memmove(reader->buf, reader->buf + skip, reader->buf_len - skip);
        reader->buf_at += skip;
        reader->buf_len -= skip;
    }
    while (reader->buf_at + reader->buf_len < reader->pos + want && !reader->err) {
        n = MIN(IO_BYTES_MAX, reader->end - reader->buf_at - reader->buf_len);
        reader->err = reader->io->ops->read(reader->io, reader->buf + reader->buf_len, n,
                                            reader->base + reader->buf_at + reader->buf_len);
        reader->buf_len += n;
    }
    if (reader->err)
        return (struct span){0};
    return span_from(reader->buf + (reader->pos - reader->buf_at),
                     reader->buf_at + reader->buf_len - reader->pos);
}

static int slab_record(struct slab_reader *reader, struct log_record *ret)
{
    int err = log_record_decode(slab_need(reader, LOG_RECORD_HEAD_BYTES), ret);

    if (err == -EMSGSIZE)
        err = log_record_decode(slab_need(reader, ret->size), ret);
    return reader->err ? reader->err : err;
}

/* The record at pos, or behind the padding of the group that ends there. */
static int slab_next(struct slab_reader *reader, struct log_record *ret)
{
    int err = slab_record(reader, ret);

    if (err == -ENODATA && reader->pos % IO_ALIGN) {
        reader->pos = ALIGN_UP(reader->pos, IO_ALIGN);
        err = slab_record(reader, ret);
    }
    return err;
}

/* ---- finding ---- */

static int slab_compare(const void *a, const void *b)
{
    const struct log_head *x = &((const struct log_slab *)a)->head;
    const struct log_head *y = &((const struct log_slab *)b)->head;

    if (x->sequence != y->sequence)
        return x->sequence < y->sequence ? -1 : 1;
    return (x->epoch > y->epoch) - (x->epoch < y->epoch);
}

/* 1: *ret is a log slab of this box that was written to. */
static int slab_look(struct log_path *path, uint32_t slab, char *block, struct log_slab *ret)
{
    struct io *io = slab_device_io(path->slabs, path->device);
    enum slab_kind kind;
    uint32_t generation;
    int err = slab_header_read(path->slabs, path->device, slab, &kind, &generation);

    if (err == -EIO)
        return err;
    if (err || kind != SLAB_LOG)
        return 0;
    if ((err = io->ops->read(io, block, LOG_HEAD_BYTES,
                             slab_offset(path->slabs, path->device, slab) + IO_ALIGN)))
        return err;
    if (log_head_decode(block, &ret->head) || ret->head.generation != generation ||
        ret->head.box != path->box)
        return 0; /* taken, not written to yet */
    ret->slab = slab;
    return 1;
}

static int slabs_collect(struct log_path *path)
{
    uint32_t slabs = slab_count(path->slabs, path->device);
    _cleanup_(freep) char *block = aligned_alloc(IO_ALIGN, LOG_HEAD_BYTES);
    struct log_slab found = {0};
    unsigned room = 0;
    int r;

    for (uint32_t i = 0; i < slabs; i++) {
        if ((r = slab_look(path, i, block, &found)) < 0)
            return r;
        if (!r)
            continue;
        if (path->count == room) {
            room = room ? room * 2 : 16;
            path->slab = xrealloc(path->slab, room * sizeof(*path->slab));
        }
        path->slab[path->count++] = found;
        path->epoch_max = MAX(path->epoch_max, found.head.epoch);
    }
    return 0;
}

/* Slabs are sorted by (sequence, epoch). Keeps the chain that leads to the newest one. */
static void path_choose(struct log_path *path)
{
    unsigned newest = 0, kept, i;
    uint64_t want;

    for (i = 1; i < path->count; i++)
        if (path->slab[i].head.epoch >= path->slab[newest].head.epoch)
            newest = i;
    if (!path->count)
        return;
    /* Going back, the last of each sequence has its highest epoch; chosen ones move to the end. */
    kept = newest;
    want = path->slab[newest].head.sequence - 1;
    for (i = newest; i-- > 0;)
        if (path->slab[i].head.sequence == want) {
            path->slab[--kept] = path->slab[i];
            want--;
        } else if (path->slab[i].head.sequence < want) {
            break;
        }
    path->count = newest - kept + 1;
    memmove(path->slab, path->slab + kept, path->count * sizeof(*path->slab));
}

int log_path_find(struct slab_store *slabs, unsigned device, uint64_t box, struct log_path *ret)
{
    struct log_path path = {.slabs = slabs, .device = device, .box = box};
    int err = slabs_collect(&path);

    if (err) {
        log_path_done(&path);
        return err;
    }
    if (path.count)
        qsort(path.slab, path.count, sizeof(*path.slab), slab_compare);
    path_choose(&path);
    *ret = path;
    return 0;
}

void log_path_done(struct log_path *path)
{
    free(path->slab);
    path->slab = NULL;
    path->count = 0;
}

void log_path_trim(struct log_path *path, uint64_t from)
{
    unsigned skip = 0;

    while (skip + 1 < path->count && path->slab[skip + 1].head.first <= from)
        skip++;
    path->count -= skip;
    memmove(path->slab, path->slab + skip, path->count * sizeof(*path->slab));
}

/* ---- walking ---- */

/* Does a record behind the chain's end say that the next number was flushed? */
static int scan_slab(struct slab_reader *reader, uint64_t box, const struct log_chain *chain,
                     uint32_t *left, bool *ret)
{
    uint32_t limit;
    struct log_record record;
    int err;

    reader->pos = ALIGN_UP(reader->pos, IO_ALIGN);
    limit = MIN(reader->end, reader->pos + *left);
    *left -= limit - reader->pos;
    for (; reader->pos < limit && !*ret; reader->pos += IO_ALIGN) {
        err = slab_record(reader, &record);
        if (reader->err)
            return reader->err;
        if (!err && record.box == box && record.epoch == chain->epoch &&
            record.flushed > chain->last)
            *ret = true;
    }
    return 0;
}

static int path_damaged(const struct log_path *path, struct slab_reader *reader,
                        struct log_end *end)
{
    struct slab_reader next;
    uint32_t left = SCAN_BYTES;
    int err = scan_slab(reader, path->box, &end->chain, &left, &end->damaged);

    for (unsigned i = end->slab + 1; i < path->count; i++)
        if (path->slab[i].head.flushed > end->chain.last ||
            path->slab[i].head.epoch > end->chain.epoch)
            end->damaged = true;
    for (unsigned i = end->slab + 1; i < path->count && !err && !end->damaged && left; i++) {
        slab_reader_init(&next, path, path->slab[i].slab);
        err = scan_slab(&next, path->box, &end->chain, &left, &end->damaged);
        slab_reader_done(&next);
    }
    return err;
}

/* 1: goes on in the next slab; 0: the chain ends here. */
static int walk_slab(const struct log_path *path, struct log_end *end, struct slab_reader *reader,
                     int (*visit)(void *arg, const struct log_record *record), void *arg)
{
    const struct log_head *next =
        end->slab + 1 < path->count ? &path->slab[end->slab + 1].head : NULL;
    struct log_record record;
    int r;

    for (;;) {
        if (next && log_chain_joins(&end->chain, path->box, next)) {
            end->chain.epoch = next->epoch;
            end->chain.flushed = MAX(end->chain.flushed, next->flushed);
            end->chain.fenced |= next->fenced; /* C5: for ever */
            return 1;
        }
        r = slab_next(reader, &record);
        if (reader->err)
            return reader->err;
        if (r || !log_chain_step(&end->chain, path->box, &record))
            return 0;
        if (visit && (r = visit(arg, &record)) < 0)
            return r;
        reader->pos += record.size;
    }
}

int log_path_walk(const struct log_path *path,
                  int (*visit)(void *arg, const struct log_record *record), void *arg,
                  struct log_end *ret)
{
    struct log_end end = {0};
    struct slab_reader reader;
    int r = 1;

    assert(path->count);
    end.chain = (struct log_chain){.epoch = path->slab[0].head.epoch,
                                   .last = path->slab[0].head.first - 1,
                                   .crc = path->slab[0].head.prev_crc,
                                   .flushed = path->slab[0].head.flushed,
                                   .fenced = path->slab[0].head.fenced};
    for (; r == 1; end.slab += r == 1) {
        slab_reader_init(&reader, path, path->slab[end.slab].slab);
        r = walk_slab(path, &end, &reader, visit, arg);
        if (r == 0)
            r = path_damaged(path, &reader, &end);
        slab_reader_done(&reader);
    }
    if (!r)
        *ret = end;
    return r;
}
