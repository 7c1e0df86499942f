/* cache/slab.c - slab headers, and preparing slabs ahead of their use.
 *
 * A slab gets a new use only after its header with a raised generation is durable (S4). That costs
 * a flush, and a file's blocks are written once before (65 MiB), so it is done by one job on a
 * worker, which keeps a few slabs of each kind; allocations only take what is ready. When there is
 * nothing else to prepare the job writes what is UNWRITTEN, slab by slab. Without workers (tests)
 * the allocating call prepares, and blocks. */
#include "cache/store.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc64.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "cache/metrics.h"

#define SLAB_MAGIC "HRTHSLAB"

/* Slabs prepared ahead. At 3 GB/s one lasts 20 ms; small ones fill more slowly. */
static const uint32_t ready_ahead[] = {[SLAB_LARGE] = 2, [SLAB_SMALL] = 1};

enum { /* byte offsets, see FORMAT.md */
       AT_MAGIC = 0,
       AT_BOX = 8,
       AT_DEVICE = 24,
       AT_KIND = 26,
       AT_SLAB = 28,
       AT_GENERATION = 32,
       AT_CRC = 56,
       HEADER_BYTES = 64, /* below a sector: never torn */
};

uint64_t slab_device_offset(uint32_t slab)
{
    return DEVICE_FIRST_SLAB + (uint64_t)slab * SLAB_STRIDE_BYTES;
}

static uint64_t second_copy_offset(uint32_t slab)
{
    return slab_device_offset(slab + 1) - IO_ALIGN;
}

/* ---- headers ---- */

static void header_encode(const struct slab_store *store, unsigned device, uint32_t slab,
                          enum slab_kind kind, uint32_t generation, char *page)
{
    memset(page, 0, IO_ALIGN);
    memcpy(page + AT_MAGIC, SLAB_MAGIC, 8);
    le64_put(page + AT_BOX, store->super.state.box_uuid[0]);
    le64_put(page + AT_BOX + 8, store->super.state.box_uuid[1]);
    le16_put(page + AT_DEVICE, (uint16_t)device);
    page[AT_KIND] = (char)kind;
    le32_put(page + AT_SLAB, slab);
    le32_put(page + AT_GENERATION, generation);
    le64_put(page + AT_CRC, crc64(0, page, AT_CRC));
}

/* Both copies, so that a page gone bad does not cost the slab; not flushed. */
static int header_write(struct slab_store *store, unsigned device, uint32_t slab,
                        enum slab_kind kind, uint32_t generation)
{
    _cleanup_(freep) char *page = xaligned(IO_ALIGN, IO_ALIGN);
    struct io *io = store->device[device].io;
    int err;

    header_encode(store, device, slab, kind, generation, page);
    err = io->ops->write(io, page, IO_ALIGN, slab_device_offset(slab));
    return err ? err : io->ops->write(io, page, IO_ALIGN, second_copy_offset(slab));
}

/* 0 ours; -ESTALE another box's; -ENODATA no header was ever here; -EUCLEAN a damaged one. */
static int header_decode(const struct slab_store *store, unsigned device, uint32_t slab,
                         const char *page, struct slab *ret)
{
    if (memcmp(page + AT_MAGIC, SLAB_MAGIC, 8) != 0)
        return -ENODATA;
    if (le64_get(page + AT_CRC) != crc64(0, page, AT_CRC) || le32_get(page + AT_SLAB) != slab ||
        (uint8_t)page[AT_KIND] > SLAB_LOG)
        return -EUCLEAN;
    if (le64_get(page + AT_BOX) != store->super.state.box_uuid[0] ||
        le64_get(page + AT_BOX + 8) != store->super.state.box_uuid[1])
        return -ESTALE;
    if (le16_get(page + AT_DEVICE) != device)
        return -EUCLEAN;
    ret->kind = (uint8_t)page[AT_KIND];
    ret->generation = le32_get(page + AT_GENERATION);
    return 0;
}

static const enum slab_use use_of_kind[] = {USE_FREE, USE_DATA, USE_DATA, USE_LOG};

/* A copy that cannot be read is a damaged one. */
static int header_read(const struct slab_store *store, unsigned device, uint32_t slab,
                       uint64_t offset, char *page, struct slab *ret)
{
    struct io *io = store->device[device].io;

    if (io->ops->read(io, page, IO_ALIGN, offset) < 0)
        return -EUCLEAN;
    return header_decode(store, device, slab, page, ret);
}

/* A crash between the two copies' writes leaves the first one newer, or the flush never came and
 * either is right: nothing was placed under the new generation yet. */
static void header_load(struct slab_store *store, unsigned device, uint32_t slab, char *page)
{
    const struct io *io = store->device[device].io;
    struct slab *s = &store->device[device].slabs[slab];
    int found = header_read(store, device, slab, slab_device_offset(slab), page, s);

    if ((found == -EUCLEAN || found == -ENODATA) &&
        header_read(store, device, slab, second_copy_offset(slab), page, s) == 0)
        found = 0;
    if (found == 0)
        s->use = use_of_kind[s->kind];
    else if (found == -EUCLEAN && !store->super.state.fresh)
        s->use = USE_BAD;
    else
        s->use = found == -ENODATA && io->sparse ? USE_UNWRITTEN : USE_FREE;
}

void slab_headers_load(struct slab_store *store, unsigned device)
{
    _cleanup_(freep) char *page = xaligned(IO_ALIGN, IO_ALIGN);
    struct device *d = &store->device[device];

    for (uint32_t i = 0; i < d->slab_count; i++) {
        header_load(store, device, i, page);
        slab_clear(&d->slabs[i]);
        d->use_count[d->slabs[i].use]++;
        d->data[d->slabs[i].kind] += d->slabs[i].use == USE_DATA;
    }
    if (d->use_count[USE_BAD])
        log_error("damaged slab headers: these slabs are not used", KV_STR("device", d->path),
                  KV_UINT("slabs", d->use_count[USE_BAD]));
}

/* ---- use ---- */

void slab_set_use(struct device *device, struct slab *slab, enum slab_use use)
{
    device->use_count[slab->use]--;
    device->ready[slab->kind] -= slab->use == USE_READY;
    device->data[slab->kind] -= slab->use == USE_DATA;
    slab->use = (uint8_t)use;
    device->use_count[slab->use]++;
    device->ready[slab->kind] += slab->use == USE_READY;
    device->data[slab->kind] += slab->use == USE_DATA;
    if (use == USE_FREE)
        device->move_reserve = device->move_kept; /* it takes the place of one that was lent */
}

void slab_clear(struct slab *slab)
{
    free(slab->map);
    slab->map = NULL;
    slab->free_blocks = slab->run_max = SLAB_USABLE_BLOCKS;
    slab->live = 0;
    slab->next = SLAB_HEADER_BYTES;
}

/* ---- preparing ---- */

static int body_write(struct io *io,
                      uint32_t slab) /* zeros, so that later writes touch no metadata */
{
    _cleanup_(freep) char *zeros = xaligned(IO_ALIGN, IO_BYTES_MAX);
    int err = 0;

    memset(zeros, 0, IO_BYTES_MAX);
    for (uint64_t at = 0; err == 0 && at < SLAB_STRIDE_BYTES; at += IO_BYTES_MAX)
        err = io->ops->write(io, zeros, IO_BYTES_MAX, slab_device_offset(slab) + at);
    return err;
}

/* The slab is PREPARING: nobody else touches it. flush: it is to be used, not only written. */
static int slab_write(struct slab_store *store, unsigned device, uint32_t slab, bool body,
                      enum slab_kind kind, uint32_t generation)
{
    struct device *d = &store->device[device];
    int err = body ? body_write(d->io, slab) : 0;

    if (err == 0)
        err = header_write(store, device, slab, kind, generation);
    FAILPOINT("slab_header_written");
    if (err == 0 && kind != SLAB_FREE)
        err = d->io->ops->flush(d->io);
    FAILPOINT("slab_prepared");
    if (err < 0)
        log_warn_limited("cannot prepare a slab: it is not used", KV_STR("device", d->path),
                         KV_UINT("slab", slab), KV_ERR(err));
    return err;
}

/* Lock held, dropped during the I/O. kind SLAB_FREE: only writes the blocks. */
static int slab_prepare(struct slab_store *store, unsigned device, uint32_t slab,
                        enum slab_kind kind, enum slab_use use)
{
    struct device *d = &store->device[device];
    struct slab *s = &d->slabs[slab];
    bool body = s->use == USE_UNWRITTEN && d->io->sparse;
    uint32_t generation = s->generation + (kind != SLAB_FREE);
    int err;

    slab_set_use(d, s, USE_PREPARING);
    pthread_mutex_unlock(&store->lock);
    err = slab_write(store, device, slab, body, kind, generation);
    pthread_mutex_lock(&store->lock);
    if (err < 0) {
        slab_set_use(d, s, USE_BAD);
        space_wake(store);
        d->fenced = d->fenced || atomic_load(&d->io->flush_failed);
        return err;
    }
    if (kind != SLAB_FREE)
        STAT_INC(slabs_prepared);
    s->kind = (uint8_t)kind;
    s->generation = generation;
    slab_clear(s);
    slab_set_use(d, s, use);
    space_wake(store);
    return 0;
}

/* UINT32_MAX: none. */
static uint32_t slab_find(const struct device *device, enum slab_use use, bool log_kinds)
{
    if (!device->use_count[use])
        return UINT32_MAX;
    for (uint32_t i = 0; i < device->slab_count; i++) {
        bool log_kind = device->slabs[i].kind == SLAB_LOG || device->slabs[i].kind == SLAB_FREE;

        if (device->slabs[i].use == use && log_kind == log_kinds)
            return i;
    }
    return UINT32_MAX;
}

/* For data: first what was data, so that free slabs whose header already says free or log stay for
 * the log, which at start must find one before marks tell what data is dead. For the log: the other
 * way. */
static uint32_t slab_candidate(const struct device *device, bool log)
{
    uint32_t slab = slab_find(device, USE_FREE, log);

    if (slab == UINT32_MAX)
        slab = slab_find(device, USE_FREE, !log);
    if (slab == UINT32_MAX)
        slab = slab_find(device, USE_UNWRITTEN, true);
    return slab;
}

static uint32_t slab_ready_of_kind(const struct device *device, enum slab_kind kind)
{
    for (uint32_t i = 0; device->ready[kind] && i < device->slab_count; i++)
        if (device->slabs[i].use == USE_READY && device->slabs[i].kind == kind)
            return i;
    return UINT32_MAX;
}

/* The slab to make ready for `kind`. Small records that asked in vain get an empty large one; the
 * other way large extents leave small ones their share. */
static uint32_t slab_to_prepare(const struct device *device, enum slab_kind kind)
{
    uint32_t slab = UINT32_MAX;

    if (device->ready[kind] >= (device->wanted[kind] ? 1 : ready_ahead[kind]))
        return UINT32_MAX;
    if (space_slabs(device, kind) > 0)
        slab = slab_candidate(device, false);
    if (slab == UINT32_MAX && device->wanted[kind] && kind == SLAB_SMALL)
        slab = slab_ready_of_kind(device, SLAB_LARGE);
    return slab;
}

static bool device_prepare(struct slab_store *store, unsigned device)
{
    struct device *d = &store->device[device];
    static const enum slab_kind kinds[] = {SLAB_LARGE, SLAB_SMALL};

    if (!device_takes(d))
        return false;
    for (int wanted = 1; wanted >= 0; wanted--) /* what somebody waits for comes first */
        for (unsigned k = 0; k < countof(kinds); k++) {
            uint32_t slab =
                d->wanted[kinds[k]] >= wanted ? slab_to_prepare(d, kinds[k]) : UINT32_MAX;

            if (slab == UINT32_MAX)
                continue;
            (void)slab_prepare(store, device, slab, kinds[k],
                               USE_READY); /* logged; waiters try again */
            d->wanted[kinds[k]] = false;
            return true;
        }
    return false;
}

static bool device_write_ahead(struct slab_store *store, unsigned device)
{
    struct device *d = &store->device[device];
    uint32_t slab = slab_find(d, USE_UNWRITTEN, true);

    if (!device_takes(d) || slab == UINT32_MAX)
        return false;
    (void)slab_prepare(store, device, slab, SLAB_FREE, USE_FREE); /* logged */
    return true;
}

bool slab_prepare_now(struct slab_store *store)
{
    bool any = false;

    for (unsigned i = 0; i < store->device_count; i++)
        any |= device_prepare(store, i);
    for (unsigned i = 0; store->workers && !any && i < store->device_count; i++)
        any |= device_write_ahead(store, i);
    return any;
}

static int prepare_job(void *arg)
{
    struct slab_store *store = arg;
    SCOPED_LOCK(&store->lock);

    while (!store->stopping && slab_prepare_now(store))
        ;
    space_give_up(store);
    store->job_running = false;
    pthread_cond_broadcast(&store->job_ended);
    return 0;
}

static bool kind_needs_job(const struct device *device, enum slab_kind kind)
{
    return device->wanted[kind] ||
           (device->ready[kind] < ready_ahead[kind] && space_slabs(device, kind) > 0);
}

static bool device_needs_job(const struct device *device)
{
    return device_takes(device) &&
           (kind_needs_job(device, SLAB_LARGE) || kind_needs_job(device, SLAB_SMALL) ||
            device->use_count[USE_UNWRITTEN] > 0);
}

void slab_prepare_kick(struct slab_store *store)
{
    bool needed = false;

    if (!store->workers || !store->serving || store->job_running || store->stopping)
        return;
    for (unsigned i = 0; i < store->device_count; i++)
        needed |= device_needs_job(&store->device[i]);
    if (!needed)
        return;
    store->job_running = true;
    worker_run(store->workers, prepare_job, store, NULL);
}

/* ---- log slabs ---- */

int slab_take_log(struct slab_store *store, unsigned device, uint32_t *ret_slab,
                  uint32_t *ret_generation)
{
    struct device *d = &store->device[device];
    SCOPED_LOCK(&store->lock);
    uint32_t slab = slab_candidate(d, true);
    int err;

    if (d->fenced)
        return -EIO;
    if (slab == UINT32_MAX)
        slab = slab_ready_of_kind(d, d->ready[SLAB_LARGE] ? SLAB_LARGE : SLAB_SMALL);
    if (slab == UINT32_MAX)
        return -ENOSPC;
    err = slab_prepare(store, device, slab, SLAB_LOG, USE_LOG);
    if (err < 0)
        return err;
    *ret_slab = slab;
    *ret_generation = d->slabs[slab].generation;
    return 0;
}

void slab_give_log(struct slab_store *store, unsigned device, uint32_t slab)
{
    struct device *d = &store->device[device];
    SCOPED_LOCK(&store->lock);

    assert(d->slabs[slab].use == USE_LOG);
    slab_set_use(d, &d->slabs[slab], USE_FREE);
    space_wake(store);
    slab_prepare_kick(store);
}

int slab_header_read(struct slab_store *store, unsigned device, uint32_t slab, enum slab_kind *kind,
                     uint32_t *generation)
{
    const struct slab *s = &store->device[device].slabs[slab];
    SCOPED_LOCK(&store->lock);

    if (s->use == USE_BAD)
        return -EUCLEAN;
    *kind = s->kind;
    *generation = s->generation;
    return 0;
}

/* ---- what others ask ---- */

unsigned slab_device_count(const struct slab_store *store)
{
    return store->device_count;
}

struct io *slab_device_io(struct slab_store *store, unsigned device)
{
    return store->device[device].io;
}

const struct io_ops *slab_io_ops(const struct slab_store *store)
{
    return store->io_ops;
}

void slab_device_fence(struct slab_store *store, unsigned device)
{
    SCOPED_LOCK(&store->lock);

    store->device[device].fenced = true;
    space_wake(store);
}

uint32_t slab_count(const struct slab_store *store, unsigned device)
{
    return store->device[device].slab_count;
}

uint64_t slab_offset(const struct slab_store *store, unsigned device, uint32_t slab)
{
    assert(slab < store->device[device].slab_count);
    return slab_device_offset(slab);
}

uint32_t slab_bytes(void)
{
    return SLAB_STRIDE_BYTES - IO_ALIGN;
}
