#include "tests/support/io_tap.h"

#define FIRST_SLAB   (2u << 20)
#define SLAB_STRIDE  (65u << 20)
#define RECORDS_FROM (2u * IO_ALIGN) /* in a log slab: behind header page and head */

struct tap_io {
    struct io io;
    struct io_tap *tap;
    struct io *inner;
};

/* A thread that has just written a superblock flushes for that, whatever else is unflushed. */
static _Thread_local bool wrote_super;

static struct tap_io *tap_of(struct io *io)
{
    return container_of(io, struct tap_io, io);
}

/* Log slabs are the first ones of a short run. */
static bool is_log_record(uint64_t offset)
{
    return offset >= FIRST_SLAB && (offset - FIRST_SLAB) / SLAB_STRIDE < 2 &&
           (offset - FIRST_SLAB) % SLAB_STRIDE >= RECORDS_FROM &&
           (offset - FIRST_SLAB) % SLAB_STRIDE < SLAB_STRIDE - IO_ALIGN;
}

static int tap_read(struct io *io, void *into, uint32_t bytes, uint64_t offset)
{
    struct tap_io *t = tap_of(io);

    return t->inner->ops->read(t->inner, into, bytes, offset);
}

static int tap_write(struct io *io, const void *from, uint32_t bytes, uint64_t offset)
{
    struct tap_io *t = tap_of(io);
    int err;

    wrote_super = offset < FIRST_SLAB;
    t->tap->before(t->tap->arg, TAP_WRITE, 0);
    err = t->inner->ops->write(t->inner, from, bytes, offset);
    if (is_log_record(offset))
        atomic_store(&t->tap->log_written, true);
    return err;
}

static int tap_flush(struct io *io)
{
    struct tap_io *t = tap_of(io);
    bool log = !wrote_super && atomic_exchange(&t->tap->log_written, false);
    uint64_t number = log ? atomic_fetch_add(&t->tap->log_flushes, 1) + 1 : 0;
    int err = 0;

    t->tap->before(t->tap->arg, TAP_FLUSH, number);
    if (!number || number != t->tap->log_flush_skip)
        err = t->inner->ops->flush(t->inner);
    if (err)
        atomic_store(&io->flush_failed, true);
    return err;
}

static void tap_submit(struct io *io, struct io_request *request)
{
    struct tap_io *t = tap_of(io);

    if (request->write)
        t->tap->before(t->tap->arg, TAP_WRITE, 0);
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
