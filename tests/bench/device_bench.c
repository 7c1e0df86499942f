/* The device path without HTTP, log and index: how fast bodies reach a device durably and extents
 * come back verified. Prints one line: what, MB/s, CPU seconds per GB. tests/bench/device_vs_fio
 * runs it beside fio. usage: device_bench write|read FOLDER [STREAMS] [SECONDS] */
#include "tests/support/stand_in_objects.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/store.h"

#define DEVICE_SLABS  34 /* 2.2 GB; four are the log's */
#define BODY_BYTES    (8u << 20)
#define STREAMS_MAX   64
#define READ_SET      400 /* extents of 4 MiB read in turn: 1.7 GB */
#define READ_PARALLEL 8   /* 512 KiB each: as many bytes under way as fio's 4 of 1 MiB */

struct stream {
    struct bench *bench;
    struct op op;
    struct writer *writer;
    struct iobuf *buf;
    struct object *object, *before; /* before: the last durable one; its place is used again */
    uint32_t pushed;
    struct stream *flush_next;
};

struct reading {
    struct bench *bench;
    struct extent_read read;
    struct completion done;
    struct slice slice;
};

struct bench {
    struct slab_store *store;
    struct cache cache;
    struct loop_poll *poll;
    struct loop *loop;
    struct workers *workers;
    uint64_t end_ns, bytes;
    unsigned running;
    /* flushes in groups, as the committer does: who waits while one runs shares the next */
    struct stream *flush_waiting, *flush_running;
    struct completion flushed;
    struct extent extents[READ_SET];
    struct object *objects[READ_SET];
    uint64_t read_next;
};

static void die(const char *what, int err)
{
    fprintf(stderr, "device_bench: %s: %s\n", what, strerror(-err));
    exit(1);
}

/* ---- write: (buffer, push) x 16, finish, flush ---- */

static struct next put_buffer(struct op *op);
static struct next put_push(struct op *op);
static struct next put_written(struct op *op);
static struct next put_durable(struct op *op);

static struct stream *stream_of(struct op *op)
{
    return container_of(op, struct stream, op);
}

static struct next put_open(struct op *op)
{
    struct stream *s = stream_of(op);
    struct write_opts opts = {.bytes = BODY_BYTES};
    int err;

    if (clock_mono_ns() >= s->bench->end_ns)
        return FINISH;
    s->pushed = 0;
    err = cache_writer_open(&s->bench->cache, &opts, &s->writer);
    if (err < 0)
        die("open", err);
    return GO(put_buffer);
}

static struct next put_buffer(struct op *op)
{
    struct stream *s = stream_of(op);

    if (s->pushed == BODY_BYTES) {
        writer_finish(TAKE(s->writer), &s->object, &op->done);
        return AWAIT(put_written);
    }
    writer_buffer(s->writer, &s->buf, &op->done);
    return AWAIT(put_push);
}

static struct next put_push(struct op *op)
{
    struct stream *s = stream_of(op);

    if (op->done.err < 0)
        die("buffer", op->done.err);
    s->buf->used = s->buf->size; /* whatever is in it: the socket's copy is not measured here */
    s->pushed += s->buf->used;
    writer_push(s->writer, TAKE(s->buf));
    return GO(put_buffer);
}

static int flush_run(void *arg)
{
    struct io *io = slab_device_io(arg, 0);

    return io->ops->flush(io);
}

static void flush_start(struct bench *b)
{
    b->flush_running = TAKE(b->flush_waiting);
    worker_run(b->workers, flush_run, b->store, &b->flushed);
}

static void flush_done(struct completion *done)
{
    struct bench *b = container_of(done, struct bench, flushed);
    struct stream *s = TAKE(b->flush_running);

    while (s) {
        struct stream *next = s->flush_next;

        completion_post(&s->op.done, done->err);
        s = next;
    }
    if (b->flush_waiting)
        flush_start(b);
}

static struct next put_written(struct op *op)
{
    struct stream *s = stream_of(op);

    if (op->done.err < 0)
        die("write", op->done.err);
    s->flush_next = s->bench->flush_waiting;
    s->bench->flush_waiting = s;
    if (!s->bench->flush_running)
        flush_start(s->bench);
    return AWAIT(put_durable);
}

static struct next put_durable(struct op *op)
{
    struct stream *s = stream_of(op);

    if (op->done.err < 0)
        die("flush", op->done.err);
    s->bench->bytes += BODY_BYTES;
    object_unref(s->before);
    s->before = TAKE(s->object);
    return GO(put_open);
}

static void stream_end(struct op *op)
{
    struct stream *s = stream_of(op);

    s->before = object_unref(s->before);
    s->bench->running--;
}

static void bench_write(struct bench *b, unsigned streams)
{
    static struct stream stream[STREAMS_MAX];

    b->flushed = (struct completion){.fn = flush_done, .loop = b->loop};
    b->running = streams;
    for (unsigned i = 0; i < streams; i++) {
        stream[i].bench = b;
        op_init(&stream[i].op, b->loop, stream_end);
        op_start(&stream[i].op, GO(put_open));
    }
    while (b->running > 0)
        loop_poll_once(b->poll, 1000);
}

/* ---- read ---- */

static void read_next(struct reading *r)
{
    struct bench *b = r->bench;
    uint64_t at = b->read_next % (READ_SET * (uint64_t)EXTENT_BYTES_MAX);
    const struct object *object = b->objects[at / EXTENT_BYTES_MAX];

    if (clock_mono_ns() >= b->end_ns) {
        b->running--;
        return;
    }
    b->read_next += IO_BYTES_MAX;
    r->read = (struct extent_read){.store = b->store,
                                   .extent = b->extents[at / EXTENT_BYTES_MAX],
                                   .id = object->id,
                                   .want = {at % EXTENT_BYTES_MAX, IO_BYTES_MAX},
                                   .ret = &r->slice,
                                   .done = &r->done};
    extent_read_start(&r->read);
}

static void read_is_done(struct completion *done)
{
    struct reading *r = container_of(done, struct reading, done);

    if (done->err < 0)
        die("read", done->err);
    r->bench->bytes += r->slice.bytes.len;
    r->slice = slice_unref(r->slice);
    read_next(r);
}

static struct object *extent_put(struct bench *b, unsigned i)
{
    struct write_opts opts = {.bytes = EXTENT_BYTES_MAX};
    struct writer *w;
    struct awaited awaited;
    struct object *object;
    int err = cache_writer_open(&b->cache, &opts, &w);

    for (uint32_t at = 0; err == 0 && at < EXTENT_BYTES_MAX; at += IO_BYTES_MAX) {
        struct iobuf *buf;

        writer_buffer(w, &buf, awaited_init(&awaited, b->loop));
        err = loop_await(b->poll, &awaited);
        if (err == 0) {
            memset(buf->base, (int)i, buf->size);
            buf->used = buf->size;
            writer_push(w, buf);
        }
    }
    if (err < 0)
        die("prepare the read set", err);
    writer_finish(w, &object, awaited_init(&awaited, b->loop));
    err = loop_await(b->poll, &awaited);
    if (err < 0)
        die("prepare the read set", err);
    return object;
}

static void read_set_write(struct bench *b)
{
    for (unsigned i = 0; i < READ_SET; i++) {
        b->objects[i] = extent_put(b, i);
        b->extents[i] = container_of(b->objects[i], struct kept, object)->extents[0];
    }
    if (flush_run(b->store) < 0)
        die("flush", -EIO);
}

static void bench_read(struct bench *b)
{
    static struct reading reading[READ_PARALLEL];

    b->running = READ_PARALLEL;
    for (unsigned i = 0; i < READ_PARALLEL; i++) {
        reading[i].bench = b;
        reading[i].done = (struct completion){.fn = read_is_done, .loop = b->loop};
        read_next(&reading[i]);
    }
    while (b->running > 0)
        loop_poll_once(b->poll, 1000);
}

/* ---- ---- */

static void store_open(struct bench *b, const char *folder)
{
    char *path = xasprintf("%s/device_bench.slab", folder), *why;
    struct device_conf device = {SPAN("bench"), span_of(path),
                                 DEVICE_FIRST_SLAB + DEVICE_SLABS * (uint64_t)SLAB_STRIDE_BYTES};
    struct slab_conf conf = {.devices = &device,
                             .device_count = 1,
                             .io_ops = io_ops_auto(),
                             .format_discard = true,
                             .workers = b->workers};
    bool busy = true;

    if (slab_store_open(&conf, &b->store, &why) < 0) {
        fprintf(stderr, "device_bench: %s\n", why);
        exit(1);
    }
    slab_store_serve(b->store);
    while (busy) { /* until every block of the file was written once */
        pthread_mutex_lock(&b->store->lock);
        busy = b->store->job_running;
        pthread_mutex_unlock(&b->store->lock);
        usleep(1000);
    }
    b->cache.slabs = b->store;
    free(path);
}

static double cpu_seconds(void)
{
    struct rusage use;

    getrusage(RUSAGE_SELF, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    static const struct iobuf_pools_conf pools = {{64 << 12, 64 << 16, 128 << 19}};
    static struct bench b;
    unsigned streams = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    unsigned seconds = argc > 4 ? (unsigned)atoi(argv[4]) : 5;
    bool reads = argc > 1 && strcmp(argv[1], "read") == 0;
    uint64_t start_ns;
    double cpu, took;

    if (argc < 3 || streams < 1 || streams > STREAMS_MAX || iobuf_pools_open(&pools) < 0) {
        fprintf(stderr, "usage: device_bench write|read FOLDER [STREAMS] [SECONDS]\n");
        return 2;
    }
    b.poll = loop_poll_new();
    b.loop = loop_poll_loop(b.poll);
    b.workers = workers_new(2, "bench");
    loop_enter(b.loop);
    store_open(&b, argv[2]);
    if (slab_io_ops(b.store)->attach(slab_io_ops(b.store), b.loop) < 0)
        die("attach", -EIO);
    if (reads)
        read_set_write(&b);
    start_ns = clock_mono_ns();
    cpu = cpu_seconds();
    b.end_ns = start_ns + seconds * NS_PER_SEC;
    if (reads)
        bench_read(&b);
    else
        bench_write(&b, streams);
    took = (double)(clock_mono_ns() - start_ns) / 1e9;
    printf("%s %.0f MB/s %.3f CPU-s/GB\n", argv[1], (double)b.bytes / took / 1e6,
           (cpu_seconds() - cpu) / ((double)b.bytes / 1e9));
    return 0;
}
