/* cache/log.c - appending to the commit log: batches of records to the copies, slab by slab in
 * step.
 *
 * Committer thread, except what log.h says; the lock guards the list of segments and the slabs
 * taken ahead. Records are encoded into one buffer and leave it at 4 KiB boundaries in writes of at
 * most IO_BYTES_MAX. */
#include "cache/log.h"

#include "base/failpoint.h"
#include "cache/metrics.h"

#define BUFFER_BYTES (ALIGN_UP(LOG_RECORD_BYTES_MAX, IO_ALIGN) + 2 * IO_BYTES_MAX)
/* Room that a batch may need: its records, the last one beyond the limit, padding of each write. */
#define BATCH_ROOM            (LOG_BATCH_BYTES_MAX + 2 * BUFFER_BYTES)
#define LOG_SLABS_MAX_DEFAULT 64u /* 4 GiB */

struct log_segment { /* one slab per copy */
    uint64_t first;
    bool begun; /* its epoch's cut record, in it, was flushed */
    unsigned copies;
    struct {
        unsigned device;
        uint32_t slab;
    } copy[LOG_COPIES_MAX];
};

struct log_copy {
    unsigned device;
    struct io *io;
    uint64_t base; /* of the slab being written */
};

struct log_next { /* a slab taken, to be written when the one in use is full */
    bool taken;
    uint32_t slab, generation;
};

struct log_store {
    struct slab_store *slabs;
    uint64_t box;
    struct log_copy copy[LOG_COPIES_MAX];
    unsigned copies;
    struct log_chain chain;
    uint64_t sequence; /* of the slab being written */
    uint32_t position; /* in it: where the buffer will go; slab_bytes() when there is none */
    char *buffer;
    uint32_t used;
    uint64_t batch_bytes, written;
    uint64_t failed; /* bit per device */
    bool broken;     /* a write of this batch failed */
    uint64_t slabs_max;
    _Atomic uint64_t devices; /* bit per copy's device */
    pthread_mutex_t lock;     /* guards all below */
    struct log_next next[DEVICES_MAX];
    struct log_segment *segments;
    unsigned segment_count, segment_room;
};

/* ---- segments ---- */

static void segment_add(struct log_store *log, const struct log_segment *segment)
{
    SCOPED_LOCK(&log->lock);
    if (log->segment_count == log->segment_room) {
        log->segment_room = log->segment_room ? log->segment_room * 2 : 16;
        log->segments = xrealloc(log->segments, log->segment_room * sizeof(*log->segments));
    }
    log->segments[log->segment_count++] = *segment;
    STAT_SET(log_bytes, (uint64_t)log->segment_count * slab_bytes());
}

static void segment_begun(struct log_store *log)
{
    SCOPED_LOCK(&log->lock);
    log->segments[log->segment_count - 1].begun = true;
}

static void segment_give(struct log_store *log, const struct log_segment *segment)
{
    for (unsigned i = 0; i < segment->copies; i++)
        slab_give_log(log->slabs, segment->copy[i].device, segment->copy[i].slab);
}

/* Slabs that were turned to behind the chain's end hold void records only. The next one takes their
 * place in the sequence: a start goes back from it and must not meet a slab that the chain never
 * reaches. Nothing in them was answered, so they are free at once. */
static void segments_void(struct log_store *log, uint64_t last)
{
    SCOPED_LOCK(&log->lock);
    while (log->segment_count && log->segments[log->segment_count - 1].first > last + 1) {
        segment_give(log, &log->segments[--log->segment_count]);
        log->sequence--;
    }
}

void log_trim(struct log_store *log, uint64_t persisted, uint64_t durable)
{
    unsigned n = 0;
    const struct log_segment *next;

    SCOPED_LOCK(&log->lock);
    for (; n + 1 < log->segment_count; n++) {
        next = &log->segments[n + 1];
        if (next->first > persisted + 1)
            break;
        if (next->first > durable && !next->begun)
            break; /* C7: the slab after it may not be on the device yet */
        segment_give(log, &log->segments[n]);
    }
    log->segment_count -= n;
    memmove(log->segments, log->segments + n, log->segment_count * sizeof(*log->segments));
    STAT_SET(log_bytes, (uint64_t)log->segment_count * slab_bytes());
}

struct log_usage log_usage(struct log_store *log)
{
    SCOPED_LOCK(&log->lock);
    return (struct log_usage){log->segment_count, log->slabs_max,
                              (uint64_t)log->segment_count * slab_bytes()};
}

/* ---- device writes ---- */

static void copy_failed(struct log_store *log, const struct log_copy *copy)
{
    log->failed |= 1ull << copy->device;
    log->broken = true;
}

static void copy_write(struct log_store *log, struct log_copy *copy, const char *from,
                       uint32_t bytes, uint64_t at)
{
    uint32_t n;

    for (uint32_t done = 0; done < bytes; done += n) {
        n = MIN(IO_BYTES_MAX, bytes - done);
        if (copy->io->ops->write(copy->io, from + done, n, copy->base + at + done)) {
            copy_failed(log, copy);
            return;
        }
    }
}

static void put_out(struct log_store *log)
{
    uint32_t bytes = ALIGN_UP(log->used, IO_ALIGN);

    if (log->broken)
        log->used = 0; /* the batch fails as a whole */
    if (!log->used)
        return;
    memset(log->buffer + log->used, 0, bytes - log->used);
    for (unsigned i = 0; i < log->copies; i++)
        copy_write(log, &log->copy[i], log->buffer, bytes, log->position);
    STAT_ADD(log_written_bytes, bytes);
    log->written += bytes;
    log->position += bytes;
    log->used = 0;
}

static void write_head(struct log_store *log, struct log_copy *copy, uint32_t generation,
                       uint64_t flushed)
{
    _cleanup_(freep) char *block = aligned_alloc(IO_ALIGN, LOG_HEAD_BYTES);
    struct log_head head = {.generation = generation,
                            .epoch = log->chain.epoch,
                            .box = log->box,
                            .sequence = log->sequence,
                            .first = log->chain.last + 1,
                            .prev_crc = log->chain.crc,
                            .flushed = flushed,
                            .fenced = log->chain.fenced};

    log_head_encode(&head, block);
    copy_write(log, copy, block, LOG_HEAD_BYTES, IO_ALIGN);
}

static struct log_next next_use(struct log_store *log, unsigned device)
{
    SCOPED_LOCK(&log->lock);
    struct log_next next = log->next[device];

    assert(next.taken);
    log->next[device].taken = false;
    return next;
}

/* Goes on in the slabs that were taken. */
static void turn(struct log_store *log, uint64_t flushed)
{
    struct log_segment segment = {.first = log->chain.last + 1, .copies = log->copies};

    put_out(log);
    log->sequence++;
    for (unsigned i = 0; i < log->copies; i++) {
        struct log_copy *copy = &log->copy[i];
        struct log_next next = next_use(log, copy->device);

        copy->base = slab_offset(log->slabs, copy->device, next.slab);
        segment.copy[i].device = copy->device;
        segment.copy[i].slab = next.slab;
        write_head(log, copy, next.generation, flushed);
    }
    log->position = IO_ALIGN + LOG_HEAD_BYTES;
    segment_add(log, &segment);
    FAILPOINT("log_slab_begun");
}

/* ---- slabs taken ahead ---- */

static bool next_taken(struct log_store *log, unsigned device)
{
    SCOPED_LOCK(&log->lock);
    return log->next[device].taken;
}

/* Blocks for a flush, or for as long as writing a slab takes. */
static int next_take(struct log_store *log, unsigned device)
{
    struct log_next next = {.taken = true};
    bool surplus;
    int err;

    if (next_taken(log, device))
        return 0;
    err = slab_take_log(log->slabs, device, &next.slab, &next.generation);
    if (err)
        return err;
    FAILPOINT("log_slab_taken");
    pthread_mutex_lock(&log->lock);
    surplus = log->next[device].taken; /* committer and indexer took one each */
    if (!surplus)
        log->next[device] = next;
    pthread_mutex_unlock(&log->lock);
    if (surplus)
        slab_give_log(log->slabs, device, next.slab);
    return 0;
}

static int take_next(struct log_store *log)
{
    int err = 0;

    for (unsigned i = 0; i < log->copies && !err; i++) {
        err = next_take(log, log->copy[i].device);
        if (err && err != -ENOSPC)
            copy_failed(log, &log->copy[i]);
    }
    return err;
}

bool log_wants_next(struct log_store *log)
{
    bool taken = true;

    for (unsigned i = 0; i < log->copies; i++)
        taken = taken && next_taken(log, log->copy[i].device);
    return !taken && log->position > slab_bytes() / 2 && log_usage(log).slabs < log->slabs_max;
}

void log_take_ahead(struct log_store *log)
{
    uint64_t devices = atomic_load(&log->devices);

    for (unsigned d = 0; d < DEVICES_MAX; d++)
        if (devices >> d & 1 && next_take(log, d))
            return; /* the committer will meet the same, and handle it */
}

/* ---- adding ---- */

int log_reserve(struct log_store *log)
{
    log->batch_bytes = 0;
    if (slab_bytes() - log->position >= BATCH_ROOM)
        return 0;
    if (log_usage(log).slabs >= log->slabs_max)
        return -ENOSPC;
    return take_next(log);
}

static void add_record(struct log_store *log, struct log_record *record)
{
    uint32_t size = log_record_size(record->entries.len);
    bool known;

    if (log->position + ALIGN_UP(log->used + size, IO_ALIGN) > slab_bytes())
        turn(log, record->flushed);
    if (log->used + size > BUFFER_BYTES)
        put_out(log);
    record->box = log->box;
    record->prev_crc = log->chain.crc;
    record->crc = log_record_encode(record, log->buffer + log->used);
    known = log_chain_step(&log->chain, log->box, record);
    assert(known);
    log->used += size;
    log->batch_bytes += size;
    if (log->used >= IO_BYTES_MAX)
        put_out(log);
}

void log_add(struct log_store *log, struct span entries, uint32_t entry_count, uint64_t flushed)
{
    struct log_record record = {.kind = LOG_CHANGE,
                                .epoch = log->chain.epoch,
                                .entry_count = entry_count,
                                .number = log->chain.last + 1,
                                .flushed = flushed,
                                .entries = entries};

    add_record(log, &record);
}

int log_batch_write(struct log_store *log)
{
    put_out(log);
    return log->broken ? -EIO : 0;
}

uint64_t log_batch_bytes(const struct log_store *log)
{
    return log->batch_bytes;
}

uint64_t log_written(const struct log_store *log)
{
    return log->written;
}

struct log_chain log_chain(const struct log_store *log)
{
    return log->chain;
}

uint64_t log_devices(const struct log_store *log)
{
    uint64_t devices = 0;

    for (unsigned i = 0; i < log->copies; i++)
        devices |= 1ull << log->copy[i].device;
    return devices;
}

uint64_t log_failed(const struct log_store *log)
{
    return log->failed;
}

/* ---- epochs, open and close ---- */

static void choose_copies(struct log_store *log, uint64_t devices)
{
    unsigned count = slab_device_count(log->slabs);

    log->copies = 0;
    for (unsigned d = 0; d < count && log->copies < LOG_COPIES_MAX; d++)
        if (devices >> d & 1)
            log->copy[log->copies++] =
                (struct log_copy){.device = d, .io = slab_device_io(log->slabs, d)};
    atomic_store(&log->devices, log_devices(log));
}

int log_begin_epoch(struct log_store *log, const struct log_chain *end, uint32_t epoch,
                    uint64_t devices, uint64_t fenced)
{
    struct log_record cut = {
        .kind = LOG_CUT, .epoch = epoch, .number = end->last, .fenced = fenced};
    int err;

    choose_copies(log, devices);
    log->chain = *end;
    log->used = 0;
    log->broken = false;
    log->failed = 0;
    cut.flushed = end->last;
    segments_void(log, end->last);
    if ((err = take_next(log)))
        return err;
    log->chain.epoch = epoch;
    log->chain.fenced = fenced;
    turn(log, end->last);
    add_record(log, &cut);
    err = log_batch_write(log);
    for (unsigned i = 0; i < log->copies && !err; i++)
        if (log->copy[i].io->ops->flush(log->copy[i].io)) {
            copy_failed(log, &log->copy[i]);
            err = -EIO;
        }
    if (!err)
        segment_begun(log);
    return err;
}

static uint64_t slabs_allowed(struct slab_store *slabs, uint64_t bytes_max)
{
    uint64_t n = bytes_max / slab_bytes();

    if (!bytes_max) {
        n = LOG_SLABS_MAX_DEFAULT;
        for (unsigned d = 0; d < slab_device_count(slabs); d++)
            n = MIN(n, slab_count(slabs, d) / 8);
    }
    return MAX(n, LOG_SLABS_MIN);
}

struct log_store *log_new(struct slab_store *slabs, uint64_t box, uint64_t bytes_max,
                          const struct log_path *keep)
{
    struct log_store *log = xcalloc(1, sizeof(*log));

    log->slabs = slabs;
    log->box = box;
    log->slabs_max = slabs_allowed(slabs, bytes_max);
    log->position = slab_bytes();
    log->buffer = aligned_alloc(IO_ALIGN, BUFFER_BYTES);
    assert(log->buffer);
    pthread_mutex_init(&log->lock, NULL);
    for (unsigned i = 0; i < keep->count; i++) {
        struct log_segment segment = {.first = keep->slab[i].head.first, .copies = 1};

        segment.begun = true; /* found there */
        segment.copy[0].device = keep->device;
        segment.copy[0].slab = keep->slab[i].slab;
        segment_add(log, &segment);
        slab_mark_log(slabs, keep->device, keep->slab[i].slab);
        log->sequence = keep->slab[i].head.sequence;
    }
    return log;
}

struct log_store *log_free(struct log_store *log)
{
    if (!log)
        return NULL;
    pthread_mutex_destroy(&log->lock);
    free(log->segments);
    free(log->buffer);
    free(log);
    return NULL;
}
