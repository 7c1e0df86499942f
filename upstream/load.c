/* upstream/load.c - bytes of a version into one buffer, by the cache's reader on this thread's I/O
 * ring. The reader has checked them against their stored checksums; the CRC taken here goes with
 * them to Azure. */
#include "upstream/internal.h"

#include "base/crc64.h"

#define LOAD(o) container_of(o, struct load, op)

static struct next load_buffer(struct op *op);
static struct next load_open(struct op *op);
static struct next load_next(struct op *op);
static struct next load_have(struct op *op);

static struct next load_buffer(struct op *op)
{
    struct load *load = LOAD(op);

    buffer_get(load->upstream->buffers, load->range.len, &load->buffer, &op->done);
    return AWAIT(load_open);
}

static struct next load_open(struct op *op)
{
    struct load *load = LOAD(op);

    load->reader = cache_reader_open(load->blob, load->range, READ_UPLOAD);
    return GO(load_next);
}

static struct next load_next(struct op *op)
{
    struct load *load = LOAD(op);

    if (load->buffer->used == load->range.len)
        return FINISH;
    reader_next(load->reader, &load->slice, &op->done);
    return AWAIT(load_have);
}

static struct next load_have(struct op *op)
{
    struct load *load = LOAD(op);
    struct span bytes = load->slice.bytes;

    if (op->done.err) {
        load->err = op->done.err;
        return FINISH;
    }
    assert(bytes.len <= load->range.len - load->buffer->used);
    memcpy(load->buffer->base + load->buffer->used, bytes.base, bytes.len);
    load->crc64 = crc64(load->crc64, bytes.base, bytes.len);
    load->buffer->used += bytes.len;
    load->slice = slice_unref(load->slice);
    return GO(load_next);
}

static void load_over(struct op *op)
{
    struct load *load = LOAD(op);

    load->reader = reader_close(load->reader);
    completion_post(load->done, load->err);
}

void load_start(struct load *load, struct upstream *upstream, struct blob *blob, struct range range,
                struct completion *done)
{
    *load = (struct load){.upstream = upstream, .blob = blob, .range = range, .done = done};
    op_init(&load->op, client_loop(upstream->client), load_over);
    op_start(&load->op, GO(load_buffer));
}

void load_done(struct load *load)
{
    if (load->buffer)
        buffer_put(load->upstream->buffers, load->buffer);
    load->buffer = NULL;
}
