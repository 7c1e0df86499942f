#include "tests/support/io_tap.h"

#include <string.h>

#include "cache/slab.h"

#define FIRST_SLAB   (2u << 20)
#define SLAB_STRIDE  (65u << 20)
#define RECORDS_FROM (2u * IO_ALIGN) /* in a log slab: behind header page and head */
#define KIND_AT      26              /* in a slab header */
#define SLABS_MAX    64

struct tap_io {
    struct io io;
    struct io_tap *tap;
    struct io *inner;
    unsigned device;
    _Atomic uint8_t kind[SLABS_MAX]; /* of the last header written by this handle */
    _Atomic bool has_log;
};

static _Thread_local bool does_io;
/* What the thread's flush of the device will be for. */
static _Thread_local enum io_tap_flush wrote[TAP_DEVICES];

const char *io_tap_name(enum io_tap_flush flush)
{
    static const char *const names[TAP_FLUSHES] = {
        [TAP_NONE] = "none",
        [TAP_START] = "start",
        [TAP_SUPER] = "superblock",
        [TAP_SLAB_LARGE] = "header of a large slab",
        [TAP_SLAB_SMALL] = "header of a small slab",
        [TAP_SLAB_LOG] = "header of a log slab",
        [TAP_EPOCH] = "cut record",
        [TAP_LOG] = "round, device with log",
        [TAP_DATA] = "round, device with data only",
    };

    return names[flush];
}

static struct tap_io *tap_of(struct io *io)
{
    return container_of(io, struct tap_io, io);
}

static enum io_tap_flush header_of(struct tap_io *t, const char *page, unsigned slab)
{
    static const enum io_tap_flush of_kind[] = {TAP_NONE, TAP_SLAB_LARGE, TAP_SLAB_SMALL,
                                                TAP_SLAB_LOG};
    uint8_t kind = (uint8_t)page[KIND_AT];

    assert(slab < SLABS_MAX && kind <= SLAB_LOG);
    atomic_store(&t->kind[slab], kind);
    return of_kind[kind];
}

/* What a write is, as far as the flush behind it goes; others leave it as it is. */
static void note_write(struct tap_io *t, const char *from, uint64_t offset)
{
    unsigned slab = offset < FIRST_SLAB ? 0 : (unsigned)((offset - FIRST_SLAB) / SLAB_STRIDE);
    uint64_t in_slab = offset < FIRST_SLAB ? 0 : (offset - FIRST_SLAB) % SLAB_STRIDE;

    does_io = true;
    if (offset < FIRST_SLAB)
        wrote[t->device] = TAP_SUPER;
    else if (in_slab == 0 || in_slab == SLAB_STRIDE - IO_ALIGN)
        wrote[t->device] = header_of(t, from, slab);
    else if (atomic_load(&t->kind[slab]) == SLAB_LOG && in_slab >= RECORDS_FROM) {
        wrote[t->device] = TAP_EPOCH;
        atomic_store(&t->has_log, true);
    }
}

static void tell_write(struct tap_io *t)
{
    struct io_tap_event event = {.kind = TAP_WRITE, .device = t->device};

    if (t->tap->before)
        t->tap->before(t->tap->arg, &event);
}

static int tap_read(struct io *io, void *into, uint32_t bytes, uint64_t offset)
{
    struct tap_io *t = tap_of(io);

    does_io = true;
    return t->inner->ops->read(t->inner, into, bytes, offset);
}

static int tap_write(struct io *io, const void *from, uint32_t bytes, uint64_t offset)
{
    struct tap_io *t = tap_of(io);

    note_write(t, from, offset);
    tell_write(t);
    return t->inner->ops->write(t->inner, from, bytes, offset);
}

static enum io_tap_flush classify(struct tap_io *t)
{
    enum io_tap_flush mine = wrote[t->device];

    wrote[t->device] = TAP_NONE;
    if (!does_io)
        return atomic_load(&t->has_log) ? TAP_LOG : TAP_DATA;
    return mine ? mine : TAP_START;
}

static bool is_skipped(struct io_tap *tap, const struct io_tap_event *event)
{
    const struct io_tap_skip *skip = &tap->skip;

    return skip->flush && skip->flush == event->flush &&
           (!skip->devices || skip->devices >> event->device & 1) &&
           (!skip->number || skip->number == event->number);
}

static int tap_flush(struct io *io)
{
    struct tap_io *t = tap_of(io);
    struct io_tap_event event = {.kind = TAP_FLUSH, .flush = classify(t), .device = t->device};
    int err = 0;

    event.number = atomic_fetch_add(&t->tap->flushes[event.flush], 1) + 1;
    event.skipped = is_skipped(t->tap, &event);
    atomic_fetch_add(&t->tap->skipped, event.skipped);
    if (t->tap->before)
        t->tap->before(t->tap->arg, &event);
    if (!event.skipped)
        err = t->inner->ops->flush(t->inner);
    if (err)
        atomic_store(&io->flush_failed, true);
    return err;
}

static void tap_submit(struct io *io, struct io_request *request)
{
    struct tap_io *t = tap_of(io);

    does_io = true;
    if (request->write)
        tell_write(t);
    t->inner->ops->submit(t->inner, request);
}

static int tap_open(const struct io_ops *ops, const char *path, uint64_t bytes, struct io **ret)
{
    struct io_tap *tap = container_of(ops, struct io_tap, ops);
    struct tap_io *t = xcalloc(1, sizeof(*t));
    int err = tap->inner->open(tap->inner, path, bytes, &t->inner);

    if (err) {
        free(t);
        return err;
    }
    t->io = (struct io){.ops = ops, .bytes = t->inner->bytes, .sparse = t->inner->sparse};
    t->tap = tap;
    t->device = (unsigned)(path[strlen(path) - 1] - '0');
    assert(t->device < TAP_DEVICES);
    wrote[t->device] = TAP_NONE;
    *ret = &t->io;
    return 0;
}

static void tap_close(struct io *io)
{
    struct tap_io *t = tap_of(io);

    t->inner->ops->close(t->inner);
    free(t);
}

static int tap_attach(const struct io_ops *ops, struct loop *loop)
{
    return 0;
}

static void tap_detach(const struct io_ops *ops, struct loop *loop)
{
}

void io_tap_init(struct io_tap *tap, const struct io_ops *inner)
{
    *tap = (struct io_tap){.inner = inner};
    tap->ops = (struct io_ops){.name = "tap",
                               .open = tap_open,
                               .submit = tap_submit,
                               .read = tap_read,
                               .write = tap_write,
                               .flush = tap_flush,
                               .close = tap_close,
                               .attach = tap_attach,
                               .detach = tap_detach};
}
