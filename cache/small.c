/* cache/small.c - small objects: records of many objects share one device write (a run).
 *
 * One lane per device. A run holds what came while the run before it was being written; no timer,
 * so a lone object never waits for company. Whichever loop finds the lane idle starts the run; the
 * loop that reaps a run starts the next one, also for other loops' records. Records are copied into
 * the lane's own buffer, which is what lets them share a write; bodies are at most 64 KiB. Runs are
 * written once, 4 KiB-aligned; records in them 64-byte aligned; the rest of a page is zeros. */
#include "cache/store.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc64.h"
#include "cache/metrics.h"
#include "cache/small.h"

#define RECORD_MAGIC 0x4c4d5348u /* "HSML" */

enum { /* byte offsets, see FORMAT.md */
       AT_MAGIC = 0,
       AT_LENGTH = 4,
       AT_BOX = 8,
       AT_NODE = 16,
       AT_EPOCH = 20,
       AT_COUNTER = 24,
       AT_SLAB = 32,
       AT_GENERATION = 36,
       AT_OFFSET = 40,
       AT_DEVICE = 44,
       AT_PAYLOAD_CRC = 48,
       AT_CRC = 56,
};
static_assert(AT_CRC + 8 == SMALL_HEADER_BYTES, "record header");

struct lane {
    struct slab_store *store;
    unsigned device;
    pthread_mutex_t lock; /* guards pending and busy */
    struct small_write *pending, **pending_last;
    bool busy;
    /* of the loop that runs it, while busy */
    struct small_write *run;
    uint32_t run_bytes, run_live;
    char *buf; /* IO_BYTES_MAX */
    struct io_request request;
    struct completion io_done;
};

struct small_lanes {
    unsigned count;
    _Atomic unsigned turn;
    struct lane lane[];
};

static void record_encode(const struct slab_store *store, const struct small_write *w, char *to)
{
    memset(to, 0, SMALL_HEADER_BYTES);
    le32_put(to + AT_MAGIC, RECORD_MAGIC);
    le32_put(to + AT_LENGTH, (uint32_t)w->bytes.len);
    le64_put(to + AT_BOX, store->super.state.box_uuid[0]);
    le32_put(to + AT_NODE, w->id.node);
    le32_put(to + AT_EPOCH, w->id.epoch);
    le64_put(to + AT_COUNTER, w->id.counter);
    le32_put(to + AT_SLAB, w->at.slab);
    le32_put(to + AT_GENERATION, w->at.generation);
    le32_put(to + AT_OFFSET, w->at.offset);
    le16_put(to + AT_DEVICE, w->at.device);
    le64_put(to + AT_PAYLOAD_CRC, w->crc);
    le64_put(to + AT_CRC, crc64(0, to, AT_CRC));
    memcpy(to + SMALL_HEADER_BYTES, w->bytes.base, w->bytes.len);
    memset(to + SMALL_HEADER_BYTES + w->bytes.len, 0,
           small_bytes((uint32_t)w->bytes.len) - SMALL_HEADER_BYTES - w->bytes.len);
}

bool small_record_is(const struct slab_store *store, const char *record,
                     const struct extent *extent, struct object_id id)
{
    return le32_get(record + AT_MAGIC) == RECORD_MAGIC &&
           le64_get(record + AT_CRC) == crc64(0, record, AT_CRC) &&
           le64_get(record + AT_BOX) == store->super.state.box_uuid[0] &&
           le32_get(record + AT_NODE) == id.node && le32_get(record + AT_EPOCH) == id.epoch &&
           le64_get(record + AT_COUNTER) == id.counter &&
           le32_get(record + AT_LENGTH) == extent->length &&
           le32_get(record + AT_SLAB) == extent->at.slab &&
           le32_get(record + AT_GENERATION) == extent->at.generation &&
           le32_get(record + AT_OFFSET) == extent->at.offset &&
           le16_get(record + AT_DEVICE) == extent->at.device;
}

/* ---- a run ---- */

/* false: nothing is pending and the lane is idle; from then on it is another loop's, so the caller
 * may not look at it any more. */
static bool run_gather(struct lane *lane)
{
    SCOPED_LOCK(&lane->lock);
    struct small_write **last = &lane->run;

    lane->run_live = 0;
    while (lane->pending) {
        struct small_write *w = lane->pending;

        if (lane->run_live + small_bytes((uint32_t)w->bytes.len) > IO_BYTES_MAX)
            break;
        lane->run_live += small_bytes((uint32_t)w->bytes.len);
        lane->pending = w->next;
        *last = w;
        last = &w->next;
    }
    *last = NULL;
    if (!lane->pending)
        lane->pending_last = &lane->pending;
    lane->run_bytes = ALIGN_UP(lane->run_live, IO_ALIGN);
    return lane->busy = lane->run != NULL;
}

static void run_end(struct lane *lane, int err)
{
    struct small_write *w = TAKE(lane->run);

    while (w) {
        struct small_write *next = w->next; /* w is its owner's again once posted */

        if (err == 0) {
            *w->ret = (struct extent){.at = w->at, .length = (uint32_t)w->bytes.len, .present = 1};
            w->ret->crc[0] = w->crc;
        }
        completion_post(w->done, err);
        w = next;
    }
}

static void run_place(struct lane *lane, struct location at)
{
    uint32_t pos = 0;

    for (struct small_write *w = lane->run; w; w = w->next) {
        w->at = at;
        w->at.offset += pos;
        record_encode(lane->store, w, lane->buf + pos);
        pos += small_bytes((uint32_t)w->bytes.len);
    }
    memset(lane->buf + pos, 0, lane->run_bytes - pos);
}

static void lane_next(struct lane *lane);

static void lane_written(struct completion *done)
{
    struct lane *lane = container_of(done, struct lane, io_done);

    slab_wrote(lane->store, &lane->run->at, done->err);
    for (struct small_write *w = done->err ? lane->run : NULL; w; w = w->next)
        slab_free(lane->store, &w->at, (uint32_t)w->bytes.len);
    run_end(lane, done->err);
    lane_next(lane);
}

static void lane_write(struct lane *lane, struct location at)
{
    struct io *io = lane->store->device[lane->device].io;

    run_place(lane, at);
    lane->io_done = (struct completion){.fn = lane_written, .loop = loop_current()};
    lane->request = (struct io_request){.done = &lane->io_done, .vecs = 1, .write = true};
    lane->request.vec[0] = (struct iovec){lane->buf, lane->run_bytes};
    lane->request.offset = slab_offset(lane->store, at.device, at.slab) + at.offset;
    STAT_INC(small_runs);
    STAT_ADD(device_written_bytes, lane->run_bytes);
    io->ops->submit(io, &lane->request);
}

static void lane_place(struct lane *lane); /* the run is gathered; waits for a slab if it must */

static void lane_slab_ready(struct completion *done)
{
    struct lane *lane = container_of(done, struct lane, io_done);

    if (done->err == 0) {
        lane_place(lane);
        return;
    }
    run_end(lane, done->err);
    lane_next(lane);
}

static void lane_place(struct lane *lane)
{
    struct location at;
    int err = slab_alloc_run(lane->store, lane->device, lane->run_bytes, lane->run_live, &at);

    if (err == -EAGAIN) {
        lane->io_done = (struct completion){.fn = lane_slab_ready, .loop = loop_current()};
        slab_wait_run(lane->store, lane->device, &lane->io_done);
    } else if (err < 0) {
        lane->io_done = (struct completion){.fn = lane_slab_ready, .loop = loop_current()};
        completion_post(&lane->io_done, err); /* not from here: run_end's callers expect O2 */
    } else {
        lane_write(lane, at);
    }
}

static void lane_next(struct lane *lane)
{
    if (run_gather(lane))
        lane_place(lane);
    else
        loop_release(loop_current());
}

void small_write_start(struct slab_store *store, struct small_write *write)
{
    struct small_lanes *lanes = store->lanes;
    unsigned turn = atomic_fetch_add_explicit(&lanes->turn, 1, memory_order_relaxed);
    struct lane *lane = &lanes->lane[space_small_device(store, turn)];
    bool idle;

    assert(write->bytes.len > 0 && write->bytes.len <= SMALL_BYTES_MAX && loop_current());
    pthread_mutex_lock(&lane->lock);
    write->next = NULL;
    *lane->pending_last = write;
    lane->pending_last = &write->next;
    idle = !lane->busy;
    lane->busy = true;
    pthread_mutex_unlock(&lane->lock);
    if (!idle)
        return;
    loop_hold(loop_current()); /* until the lane is idle: it may write for others */
    lane_next(lane);
}

struct small_lanes *small_lanes_new(struct slab_store *store)
{
    struct small_lanes *lanes =
        xcalloc(1, sizeof(*lanes) + store->device_count * sizeof(lanes->lane[0]));

    lanes->count = store->device_count;
    for (unsigned i = 0; i < lanes->count; i++) {
        struct lane *lane = &lanes->lane[i];

        lane->store = store;
        lane->device = i;
        lane->pending_last = &lane->pending;
        lane->buf = xaligned(IO_ALIGN, IO_BYTES_MAX);
        memset(lane->buf, 0, IO_BYTES_MAX); /* touched now, not in a request */
        pthread_mutex_init(&lane->lock, NULL);
    }
    return lanes;
}

struct small_lanes *small_lanes_free(struct small_lanes *lanes)
{
    for (unsigned i = 0; lanes && i < lanes->count; i++) {
        assert(!lanes->lane[i].busy);
        free(lanes->lane[i].buf);
        pthread_mutex_destroy(&lanes->lane[i].lock);
    }
    free(lanes);
    return NULL;
}
