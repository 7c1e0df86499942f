/* cache/extent.c - large extents written unit by unit, and verified reads of extents and small
 * records.
 *
 * Each 64 KiB unit has its CRC-64/NVME in the extent's row (struct extent). The header page in
 * front of the payload says on the device who the extent is, for checks and rebuilds; reads do not
 * need it: what the row's checksums match is what was written for it. A small record's header is
 * read with its payload and compared. Writes: one loop; reads: extent_read_start on its loop,
 * extent_read_now anywhere. */
#include "cache/store.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc64.h"
#include "cache/metrics.h"
#include "cache/small.h"

#define EXTENT_MAGIC "HRTHEXTN"

enum { /* byte offsets, see FORMAT.md */
       AT_MAGIC = 0,
       AT_BOX = 8,
       AT_DEVICE = 24,
       AT_SLAB = 28,
       AT_GENERATION = 32,
       AT_OFFSET = 36,
       AT_NODE = 40,
       AT_EPOCH = 44,
       AT_COUNTER = 48,
       AT_INDEX = 56,
       AT_LENGTH = 60,
       AT_PRESENT = 64,
       AT_UNITS = 72,
       AT_CRC = AT_UNITS + 8 * EXTENT_UNITS_MAX,
};

struct extent_write {
    struct slab_store *store;
    struct object_id id;
    struct extent extent;
    uint32_t asked; /* length allocated for */
    bool reopened;
    char *page; /* the header's */
    struct io_request request;
    struct extent_write *next;
};

/* Header pages live with their extent_write, kept for the next one: as many as were ever written at
 * once, which the callers' buffers bound. */
struct extent_pages {
    pthread_mutex_t lock;
    struct extent_write *free;
};

struct extent_pages *extent_pages_new(void)
{
    struct extent_pages *pages = xcalloc(1, sizeof(*pages));

    pthread_mutex_init(&pages->lock, NULL);
    return pages;
}

struct extent_pages *extent_pages_free(struct extent_pages *pages)
{
    while (pages && pages->free) {
        struct extent_write *write = pages->free;

        pages->free = write->next;
        free(write->page);
        free(write);
    }
    if (pages)
        pthread_mutex_destroy(&pages->lock);
    free(pages);
    return NULL;
}

static struct extent_write *write_new(struct slab_store *store, struct object_id id)
{
    struct extent_pages *pages = store->extent_pages;
    struct extent_write *write;
    char *page;

    pthread_mutex_lock(&pages->lock);
    write = pages->free;
    if (write)
        pages->free = write->next;
    pthread_mutex_unlock(&pages->lock);
    page = write ? write->page : xaligned(IO_ALIGN, IO_ALIGN);
    write = write ? write : xmalloc(sizeof(*write));
    *write = (struct extent_write){.store = store, .id = id, .page = page};
    return write;
}

static struct extent_write *write_free(struct extent_write *write)
{
    struct extent_pages *pages = write->store->extent_pages;
    SCOPED_LOCK(&pages->lock);

    write->next = pages->free;
    pages->free = write;
    return NULL;
}

static uint64_t payload_offset(struct slab_store *store, const struct location *at)
{
    return slab_offset(store, at->device, at->slab) + at->offset + IO_ALIGN;
}

static void header_encode(const struct extent_write *write)
{
    const struct extent *e = &write->extent;
    char *p = write->page;

    memset(p, 0, IO_ALIGN);
    memcpy(p + AT_MAGIC, EXTENT_MAGIC, 8);
    le64_put(p + AT_BOX, write->store->super.state.box_uuid[0]);
    le64_put(p + AT_BOX + 8, write->store->super.state.box_uuid[1]);
    le16_put(p + AT_DEVICE, e->at.device);
    le32_put(p + AT_SLAB, e->at.slab);
    le32_put(p + AT_GENERATION, e->at.generation);
    le32_put(p + AT_OFFSET, e->at.offset);
    le32_put(p + AT_NODE, write->id.node);
    le32_put(p + AT_EPOCH, write->id.epoch);
    le64_put(p + AT_COUNTER, write->id.counter);
    le32_put(p + AT_INDEX, e->index);
    le32_put(p + AT_LENGTH, e->length);
    le64_put(p + AT_PRESENT, e->present);
    for (unsigned i = 0; i < EXTENT_UNITS_MAX; i++)
        le64_put(p + AT_UNITS + 8 * i, e->crc[i]);
    le64_put(p + AT_CRC, crc64(0, p, AT_CRC));
}

/* ---- writing ---- */

int extent_write_open(struct slab_store *store, struct object_id id, uint32_t index,
                      uint32_t length, struct extent_write **ret)
{
    struct extent_write *write;
    struct location at;
    int err = slab_alloc_large(store, length, &at);

    if (err < 0)
        return err;
    write = write_new(store, id);
    write->extent.at = at;
    write->extent.index = index;
    write->extent.length = write->asked = length;
    *ret = write;
    return 0;
}

struct extent_write *extent_write_reopen(struct slab_store *store, struct object_id id,
                                         const struct extent *extent)
{
    struct extent_write *write = write_new(store, id);

    write->extent = *extent;
    write->asked = extent->length;
    write->reopened = true;
    return write;
}

void extent_write_units(struct extent_write *write, struct extent_piece *piece, uint32_t offset,
                        struct span bytes, struct completion *done)
{
    struct extent *e = &write->extent;
    struct io *io = write->store->device[e->at.device].io;
    size_t padded = ALIGN_UP(bytes.len, IO_ALIGN);

    assert(offset % UNIT_BYTES == 0 && bytes.len > 0 && offset + bytes.len <= write->asked);
    for (size_t at = 0; at < bytes.len; at += UNIT_BYTES) {
        unsigned unit = (unsigned)((offset + at) / UNIT_BYTES);

        e->crc[unit] = crc64(0, bytes.base + at, MIN(UNIT_BYTES, bytes.len - at));
        e->present |= 1ULL << unit;
    }
    memset((char *)bytes.base + bytes.len, 0, padded - bytes.len);
    piece->request = (struct io_request){.done = done, .vecs = 1, .write = true};
    piece->request.vec[0] = (struct iovec){(char *)bytes.base, padded};
    piece->request.offset = payload_offset(write->store, &e->at) + offset;
    STAT_ADD(device_written_bytes, padded);
    io->ops->submit(io, &piece->request);
}

void extent_write_seal(struct extent_write *write, uint32_t length, struct completion *done)
{
    struct io *io = write->store->device[write->extent.at.device].io;

    assert(length > 0 && length <= write->asked);
    write->extent.length = length;
    header_encode(write);
    write->request = (struct io_request){.done = done, .vecs = 1, .write = true};
    write->request.vec[0] = (struct iovec){write->page, IO_ALIGN};
    write->request.offset = payload_offset(write->store, &write->extent.at) - IO_ALIGN;
    STAT_ADD(device_written_bytes, IO_ALIGN);
    io->ops->submit(io, &write->request);
}

struct extent extent_write_end(struct extent_write *write)
{
    struct extent extent = write->extent;

    slab_wrote(write->store, &extent.at, 0);
    if (!write->reopened)
        slab_trim(write->store, &extent.at, write->asked, extent.length);
    write_free(write);
    return extent;
}

void extent_write_failed(struct extent_write *write, int err)
{
    slab_wrote(write->store, &write->extent.at, err);
}

struct extent_write *extent_write_abort(struct extent_write *write)
{
    if (!write)
        return NULL;
    if (!write->reopened)
        slab_free(write->store, &write->extent.at, write->asked);
    return write_free(write);
}

const struct extent *extent_write_peek(const struct extent_write *write)
{
    return &write->extent;
}

/* ---- reading ---- */

static int plan_small(const struct extent *e, struct extent_plan *plan)
{
    plan->small = true;
    plan->skip = e->at.offset % IO_ALIGN;
    plan->device_offset -= plan->skip;
    plan->bytes = ALIGN_UP(plan->skip + SMALL_HEADER_BYTES + e->length, IO_ALIGN);
    plan->units = 1;
    return e->length <= SMALL_BYTES_MAX && e->at.offset % SMALL_ALIGN == 0 ? 0 : -EUCLEAN;
}

static int plan_large(const struct extent *e, struct extent_plan *plan)
{
    uint32_t base, end;

    plan->first_unit = plan->start / UNIT_BYTES;
    base = plan->first_unit * UNIT_BYTES;
    plan->end = MIN(plan->end, base + IO_BYTES_MAX);
    plan->units = (plan->end - 1) / UNIT_BYTES + 1 - plan->first_unit;
    end = MIN(base + plan->units * UNIT_BYTES, e->length);
    plan->bytes = ALIGN_UP(end - base, IO_ALIGN);
    plan->device_offset += IO_ALIGN + base;
    for (unsigned i = 0; i < plan->units; i++)
        if (!(e->present >> (plan->first_unit + i) & 1))
            return -ENODATA;
    return e->length <= EXTENT_BYTES_MAX ? 0 : -EUCLEAN;
}

static int plan_read(const struct slab_store *store, const struct extent *e, struct range want,
                     struct extent_plan *ret)
{
    enum slab_kind kind = slab_kind_at(store, &e->at);
    struct extent_plan plan = {.start = (uint32_t)want.start,
                               .end = (uint32_t)(want.start + want.len)};
    int err;

    assert(want.len > 0 && want.start + want.len <= e->length);
    if (kind == SLAB_FREE)
        return -ESTALE;
    plan.device_offset = slab_offset(store, e->at.device, e->at.slab) + e->at.offset;
    err = kind == SLAB_SMALL ? plan_small(e, &plan) : plan_large(e, &plan);
    if (err == 0 && plan.device_offset + plan.bytes >
                        slab_offset(store, e->at.device, e->at.slab) + slab_bytes())
        err = -EUCLEAN; /* a damaged row */
    if (err == 0)
        *ret = plan;
    return err;
}

/* The payload byte `start` within what was read; NULL: it is not what was written. */
static const char *plan_verify(const struct slab_store *store, const struct extent *e,
                               struct object_id id, const struct extent_plan *plan,
                               const char *bytes)
{
    uint32_t base = plan->first_unit * UNIT_BYTES;
    const char *payload = bytes + plan->skip;

    if (plan->small) {
        if (!small_record_is(store, payload, e, id))
            return NULL;
        payload += SMALL_HEADER_BYTES;
    }
    for (unsigned i = 0; i < plan->units; i++) {
        uint32_t from = i * UNIT_BYTES, len = MIN(UNIT_BYTES, e->length - base - from);

        if (crc64(0, payload + from, len) != e->crc[plan->first_unit + i])
            return NULL;
    }
    return payload + (plan->start - base);
}

/* 0: *ret points to the verified bytes. A slab that got a new use meanwhile explains any damage. */
static int plan_check(const struct slab_store *store, const struct extent *e, struct object_id id,
                      const struct extent_plan *plan, const char *bytes, const char **ret)
{
    const char *from = plan_verify(store, e, id, plan, bytes);

    if (slab_kind_at(store, &e->at) == SLAB_FREE)
        return -ESTALE;
    if (!from) {
        STAT_INC(device_checksum_errors);
        return -EUCLEAN;
    }
    *ret = from;
    return 0;
}

static void read_done(struct completion *io_done)
{
    struct extent_read *read = container_of(io_done, struct extent_read, io_done);
    const struct extent_plan *plan = &read->plan;
    const char *from = NULL;
    int err = io_done->err;

    if (err == 0)
        err = plan_check(read->store, &read->extent, read->id, plan, read->buf->base, &from);
    if (err == 0)
        *read->ret =
            (struct slice){TAKE(read->buf), span_from(from, plan->end - plan->start), true};
    read->buf = iobuf_unref(read->buf);
    completion_post(read->done, err);
}

static void read_submit(struct completion *io_done) /* the buffer is there */
{
    struct extent_read *read = container_of(io_done, struct extent_read, io_done);
    struct io *io = read->store->device[read->extent.at.device].io;

    if (io_done->err < 0) {
        completion_post(read->done, io_done->err);
        return;
    }
    read->buf->used = read->plan.bytes;
    read->io_done.fn = read_done;
    read->request = (struct io_request){.done = &read->io_done, .vecs = 1};
    read->request.vec[0] = (struct iovec){read->buf->base, read->plan.bytes};
    read->request.offset = read->plan.device_offset;
    STAT_ADD(device_read_bytes, read->plan.bytes);
    io->ops->submit(io, &read->request);
}

void extent_read_start(struct extent_read *read)
{
    uint32_t *bytes = &read->plan.bytes;
    int err = plan_read(read->store, &read->extent, read->want, &read->plan);

    read->buf = NULL;
    if (err < 0) {
        completion_post(read->done, err);
        return;
    }
    read->io_done = (struct completion){.fn = read_submit, .loop = read->done->loop};
    iobuf_get(*bytes <= IOBUF_BYTES(IOBUF_4K)    ? IOBUF_4K
              : *bytes <= IOBUF_BYTES(IOBUF_64K) ? IOBUF_64K
                                                 : IOBUF_512K,
              &read->buf, &read->io_done);
}

int extent_read_now(struct slab_store *store, const struct extent *extent, struct object_id id,
                    struct range want, void *into)
{
    _cleanup_(freep) char *buf =
        xaligned(IO_ALIGN, IO_BYTES_MAX); /* no loop here to wait for a pool */
    char *to = into;

    while (want.len > 0) {
        struct extent_plan plan = {0};
        const char *from = NULL;
        int err = plan_read(store, extent, want, &plan);
        struct io *io;

        if (err < 0) /* also a damaged row that names no device of ours */
            return err;
        io = store->device[extent->at.device].io;
        err = io->ops->read(io, buf, plan.bytes, plan.device_offset);
        if (err == 0)
            err = plan_check(store, extent, id, &plan, buf, &from);
        if (err < 0)
            return err;
        assert(from && plan.end > plan.start);
        memcpy(to, from, plan.end - plan.start);
        to += plan.end - plan.start;
        want.start = plan.end;
        want.len -= plan.end - plan.start;
    }
    return 0;
}
