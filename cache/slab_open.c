/* cache/slab_open.c - opens the devices and binds them to their box, or says in words why not;
 * writes superblocks. Main thread at start and end; slab_super_write: one caller at a time is let
 * in.
 *
 * A box is in use once slab_super_write was called; until then its superblocks say `fresh`, and a
 * start that finds only fresh ones formats again, so that a crash in the middle of formatting is no
 * dead end. 1 format: both copies on every device, fresh, flushed one after the other 2 the index
 * is bound to super_state.index_uuid (cache.c), the log writes its first records 3
 * slab_super_write: not fresh any more; from now on devices and index belong together A device
 * added later gets its superblock before the others' tables name it. */
#include "cache/store.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define DISCARD_HINT "; `hearth format --discard` starts empty and forgets what they hold"

struct found { /* one configured device */
    char *path;
    struct io *io;
    struct super super;
    bool blank;
};

struct opening {
    const struct slab_conf *conf;
    struct found found[DEVICES_MAX];
    struct slab_store *store;
    char **why;
};

static int __attribute__((format(printf, 3, 4)))
refuse(struct opening *o, int err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (vasprintf(o->why, format, args) < 0)
        abort();
    va_end(args);
    return err;
}

static bool uuid_eq(const uint64_t a[2], const uint64_t b[2])
{
    return a[0] == b[0] && a[1] == b[1];
}

static bool uuid_is_zero(const uint64_t a[2])
{
    return a[0] == 0 && a[1] == 0;
}

static void uuid_copy(uint64_t to[2], const uint64_t from[2])
{
    to[0] = from[0];
    to[1] = from[1];
}

/* ---- 1: what is there ---- */

static int device_open(struct opening *o, unsigned i)
{
    const struct device_conf *conf = &o->conf->devices[i];
    struct found *f = &o->found[i];
    uint64_t bytes = conf->bytes / IO_ALIGN * IO_ALIGN;
    int err;

    f->path = xasprintf("%.*s", SPAN_FMT(conf->path));
    if (bytes < DEVICE_FIRST_SLAB + (uint64_t)DEVICE_SLABS_MIN * SLAB_STRIDE_BYTES)
        return refuse(o, -EINVAL, "device %s: size must be at least %u MiB", f->path,
                      (DEVICE_FIRST_SLAB + DEVICE_SLABS_MIN * SLAB_STRIDE_BYTES) >> 20);
    err = o->conf->io_ops->open(o->conf->io_ops, f->path, o->conf->read_only ? 0 : bytes, &f->io);
    if (err == -ENXIO)
        return refuse(o, err, "device %s: neither a file nor a block device", f->path);
    if (err == -EFBIG)
        return refuse(o, err, "device %s: smaller than the configured %" PRIu64 " MiB", f->path,
                      bytes >> 20);
    if (err == -EBUSY)
        return refuse(o, err, "device %s: in use by another process: is this box running already?",
                      f->path);
    if (err < 0)
        return refuse(o, err, "device %s: cannot open: %s", f->path, strerror(-err));
    f->io->bytes = MIN(f->io->bytes, bytes);
    return 0;
}

static int device_identify(struct opening *o, struct found *f)
{
    int err = o->conf->format_discard ? -ENODATA : super_read(f->io, &f->super);

    switch (err) {
    case 0:
        return 0;
    case -ENODATA:
        f->blank = true;
        return 0;
    case -EMEDIUMTYPE:
        return refuse(o, err, "device %s: holds data that is not Hearth's" DISCARD_HINT, f->path);
    case -EUCLEAN:
        return refuse(o, err, "device %s: both superblock copies are damaged" DISCARD_HINT,
                      f->path);
    case -EPROTONOSUPPORT:
        return refuse(o, err,
                      "device %s: format version %" PRIu32 " is not known to this program (%u is)",
                      f->path, f->super.format, SUPER_FORMAT);
    default:
        return refuse(o, err, "device %s: cannot read the superblock: %s", f->path, strerror(-err));
    }
}

/* ---- 2: do they fit ---- */

static int device_judge(struct opening *o, const struct found *f, const struct super *box)
{
    const struct super *s = &f->super;

    if (!uuid_eq(s->state.box_uuid, box->state.box_uuid))
        return refuse(o, -EXDEV,
                      "device %s: belongs to another box than the other devices" DISCARD_HINT,
                      f->path);
    if (s->incompat & ~SUPER_INCOMPAT)
        return refuse(o, -EPROTONOSUPPORT,
                      "device %s: has features this program does not know (0x%" PRIx64 ")", f->path,
                      s->incompat & ~SUPER_INCOMPAT);
    if (s->ro_compat & ~SUPER_RO_COMPAT)
        return refuse(o, -EPROTONOSUPPORT,
                      "device %s: may only be read by this program (features 0x%" PRIx64 ")",
                      f->path, s->ro_compat & ~SUPER_RO_COMPAT);
    if (s->bytes > f->io->bytes)
        return refuse(o, -EINVAL, "device %s: shrank from %" PRIu64 " to %" PRIu64 " bytes",
                      f->path, s->bytes, f->io->bytes);
    if (s->device >= box->device_count || !uuid_eq(s->device_uuid, box->devices[s->device]))
        return refuse(o, -EXDEV, "device %s: the box does not know it (number %u)", f->path,
                      s->device);
    return 0;
}

static int index_judge(struct opening *o, const struct super *box)
{
    const uint64_t *index = o->conf->index_uuid;

    if (uuid_eq(index, box->state.index_uuid))
        return 0;
    if (uuid_is_zero(index))
        return refuse(
            o, -ENOTUNIQ,
            "the devices are in use but the index is new: bring back the data folder" DISCARD_HINT);
    return refuse(o, -ENOTUNIQ,
                  "the index belongs to other devices: data folder and devices must come "
                  "from one box" DISCARD_HINT);
}

static void device_place(struct opening *o, struct found *f, unsigned number)
{
    struct device *d = &o->store->device[number];

    d->path = TAKE(f->path);
    d->io = TAKE(f->io);
    d->slab_count = (uint32_t)((d->io->bytes - DEVICE_FIRST_SLAB) / SLAB_STRIDE_BYTES);
    d->slabs = xcalloc(d->slab_count, sizeof(*d->slabs));
    uuid_copy(d->uuid, o->store->super.devices[number]);
}

static int devices_bind(struct opening *o, const struct super *box)
{
    struct slab_store *store = o->store;
    int err = index_judge(o, box);

    store->super = *box;
    store->device_count = box->device_count;
    for (unsigned i = 0; err == 0 && i < o->conf->device_count; i++) {
        struct found *f = &o->found[i];

        if (f->blank)
            continue;
        err = device_judge(o, f, box);
        if (err == 0 && store->device[f->super.device].io)
            err = refuse(o, -EEXIST, "device %s: is a copy of %s", f->path,
                         store->device[f->super.device].path);
        if (err == 0)
            device_place(o, f, f->super.device);
    }
    for (unsigned i = 0; err == 0 && i < box->device_count; i++)
        if (!store->device[i].io)
            err = refuse(o, -ENODEV, "device number %u of %u is missing from the configuration", i,
                         box->device_count);
    return err;
}

/* ---- 3: new boxes, new devices, superblocks ---- */

static void uuid_new(uint64_t uuid[2])
{
    random_fill(uuid, 2 * sizeof(uuid[0]));
}

static int device_super_write(struct slab_store *store, unsigned number)
{
    struct device *d = &store->device[number];
    struct super super = store->super;
    int err;

    super.device = (uint16_t)number;
    super.bytes = d->io->bytes;
    uuid_copy(super.device_uuid, d->uuid);
    err = super_write(d->io, &super);
    return err ? err : d->io->ops->flush(d->io);
}

/* Every device is tried whatever happens to another: one that is fenced must not keep the rest
 * back. */
static int supers_write(struct slab_store *store)
{
    int err = 0;

    store->super.sequence++;
    for (unsigned i = 0; i < store->device_count; i++) {
        int one = store->device[i].fenced ? 0 : device_super_write(store, i);

        err = err ? err : one;
    }
    return err;
}

static void device_add(struct opening *o, struct found *f)
{
    struct slab_store *store = o->store;
    unsigned number = store->super.device_count++;

    uuid_new(store->super.devices[number]);
    store->device_count = store->super.device_count;
    device_place(o, f, number);
}

static int devices_format(struct opening *o)
{
    struct super *super = &o->store->super;

    *super =
        (struct super){.format = SUPER_FORMAT, .compat = SUPER_COMPAT, .role = SUPER_ROLE_DATA};
    super->state.fresh = true;
    uuid_new(super->state.box_uuid);
    uuid_copy(super->state.index_uuid, o->conf->index_uuid);
    if (uuid_is_zero(super->state.index_uuid))
        uuid_new(super->state.index_uuid);
    super->state.node = (uint32_t)random_u64() | 1; /* never 0 */
    for (unsigned i = 0; i < o->conf->device_count; i++)
        device_add(o, &o->found[i]);
    return supers_write(o->store); /* one copy; devices_open writes the other */
}

static int devices_extend(struct opening *o)
{
    int err = 0;

    for (unsigned i = 0; err == 0 && i < o->conf->device_count; i++) {
        if (!o->found[i].blank)
            continue;
        if (o->store->super.device_count == DEVICES_MAX)
            return refuse(o, -E2BIG, "a box has had %u devices: no number left for %s", DEVICES_MAX,
                          o->found[i].path);
        device_add(o, &o->found[i]);
        o->store->super.sequence++;
        err = device_super_write(o->store, o->store->device_count - 1); /* before any names it */
        if (err == 0)
            err = supers_write(o->store);
    }
    return err;
}

/* The newest superblock of all; NULL: none is in use (formatting was not finished, or never begun).
 */
static const struct super *box_find(const struct opening *o)
{
    const struct super *box = NULL;

    for (unsigned i = 0; i < o->conf->device_count; i++) {
        const struct super *s = &o->found[i].super;
        bool ours = !s->state.fresh || uuid_eq(s->state.index_uuid, o->conf->index_uuid);

        if (!o->found[i].blank && ours && (!box || s->sequence > box->sequence))
            box = s;
    }
    return box;
}

/* A configuration that does not fit the box must not make it fit. */
static int nothing_to_make(struct opening *o, const struct super *box)
{
    for (unsigned i = 0; o->conf->read_only && i < o->conf->device_count; i++)
        if (!box || o->found[i].blank)
            return refuse(o, -ENODATA, "device %s: no box is using it", o->found[i].path);
    return 0;
}

static int devices_open(struct opening *o)
{
    const struct super *box;
    int err = 0;

    for (unsigned i = 0; err == 0 && i < o->conf->device_count; i++)
        err = device_open(o, i);
    for (unsigned i = 0; err == 0 && i < o->conf->device_count; i++)
        err = device_identify(o, &o->found[i]);
    if (err < 0)
        return err;
    box = box_find(o);
    err = nothing_to_make(o, box);
    if (err < 0)
        return err;
    if (!box && !uuid_is_zero(o->conf->index_uuid) && !o->conf->format_discard)
        return refuse(o, -ENOTUNIQ,
                      "the index belongs to devices that are not here, these are "
                      "empty" DISCARD_HINT);
    err = box ? devices_bind(o, box) : devices_format(o);
    if (err == 0)
        err = box ? devices_extend(o) : supers_write(o->store);
    if (err < 0 && !*o->why)
        return refuse(o, err, "cannot write superblocks: %s", strerror(-err));
    return err;
}

static void opening_done(struct opening *o)
{
    for (unsigned i = 0; i < o->conf->device_count; i++) {
        free(o->found[i].path);
        if (o->found[i].io)
            o->found[i].io->ops->close(o->found[i].io);
    }
}

static struct slab_store *store_new(const struct slab_conf *conf)
{
    struct slab_store *store = xcalloc(1, sizeof(*store));

    store->io_ops = conf->io_ops;
    store->workers = conf->workers;
    store->waiting_last = &store->waiting;
    pthread_mutex_init(&store->lock, NULL);
    pthread_mutex_init(&store->super_lock, NULL);
    pthread_cond_init(&store->job_ended, NULL);
    return store;
}

static void device_close(struct device *device)
{
    for (uint32_t i = 0; device->slabs && i < device->slab_count; i++)
        free(device->slabs[i].map);
    free(device->slabs);
    free(device->path);
    if (device->io)
        device->io->ops->close(device->io);
}

static void job_stop(struct slab_store *store)
{
    SCOPED_LOCK(&store->lock);

    store->stopping = true;
    while (store->job_running)
        pthread_cond_wait(&store->job_ended, &store->lock);
}

int slab_store_open(const struct slab_conf *conf, struct slab_store **ret, char **why)
{
    struct opening o = {.conf = conf, .why = why};
    int err;

    *why = NULL;
    if (conf->device_count < 1 || conf->device_count > DEVICES_MAX)
        return refuse(&o, -EINVAL, "1 to %u devices are needed, not %u", DEVICES_MAX,
                      conf->device_count);
    o.store = store_new(conf);
    err = devices_open(&o);
    for (unsigned i = 0; err == 0 && i < o.store->device_count; i++)
        slab_headers_load(o.store, i);
    opening_done(&o);
    if (err < 0) {
        slab_store_close(o.store, false);
        return err;
    }
    o.store->lanes = small_lanes_new(o.store);
    o.store->extent_pages = extent_pages_new();
    *ret = o.store;
    return 0;
}

struct slab_store *slab_store_close(struct slab_store *store, bool clean)
{
    if (!store)
        return NULL;
    job_stop(store);
    assert(!store->waiting);
    store->super.state.clean = clean;
    if (clean && supers_write(store) < 0)
        log_error(
            "cannot mark the devices as closed in order: the next start checks the log's end");
    small_lanes_free(store->lanes);
    extent_pages_free(store->extent_pages);
    for (unsigned i = 0; i < store->device_count; i++)
        device_close(&store->device[i]);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->super_lock);
    pthread_cond_destroy(&store->job_ended);
    free(store);
    return NULL;
}

const struct super_state *slab_super(const struct slab_store *store)
{
    return &store->super.state;
}

int slab_super_write(struct slab_store *store, const struct super_state *state)
{
    SCOPED_LOCK(&store->super_lock);
    struct super_state *mine = &store->super.state;

    uuid_copy(mine->index_uuid, state->index_uuid);
    mine->epoch = state->epoch;
    mine->answered = state->answered;
    mine->clean = mine->fresh = false;
    return supers_write(store);
}
