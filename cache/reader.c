/* cache/reader.c - one version's bytes in order: from the memory tier, the devices, or a running
 * fill. One loop's thread; the struct may outlive reader_close until its outstanding I/O has ended.
 *
 * A row of slots runs ahead of what was handed out: each is one piece of an extent being read (or
 * read, or found in memory). What is absent stops the row: when all slots are handed out, the
 * reader takes the bytes of a running fill as they arrive, or reports the gap. Damage of clean
 * content is a miss: its units become absent, the row is thrown away and started again at the same
 * byte. */
#include "cache/fill.h"

#include "base/log.h"
#include "base/loop.h"
#include "cache/metrics.h"

#define READ_SLOTS       4 /* pieces of up to IO_BYTES_MAX read ahead, the one awaited included */
#define READ_AHEAD_SPARE 4 /* read ahead only while one in so many 512 KiB buffers is free */
#define READ_GAP_MAX     MIB(64)
#define SMALL_KEPT_MAX                                                                             \
    UNIT_BYTES /* objects up to here enter the memory tier at their first read                     \
                */

enum slot_state { SLOT_READING, SLOT_READY, SLOT_FAILED };

struct reader_slot {
    struct reader *reader;
    enum slot_state state;
    int err;
    uint64_t length;
    struct object *object; /* the blob's reference */
    uint64_t at;           /* of the object */
    struct cell *cell;     /* a reference while reading */
    struct slice slice;
    struct extent_read read;
    struct completion done;
};

struct reader {
    struct blob *blob;
    struct cache *cache;
    struct loop *loop; /* known from the first call on */
    enum read_for why;
    uint64_t next, ahead, end; /* of the blob: handed out up to, slots up to, stop at */
    const struct piece *pieces;
    size_t piece_count, piece; /* the piece `ahead` lies in, and where it starts */
    uint64_t piece_start;
    struct reader_slot slots[READ_SLOTS];
    unsigned first, count, reading;
    bool again;        /* throw the row away when nothing is being read any more */
    bool closed;       /* free when nothing is outstanding */
    struct slice *ret; /* of the waiting reader_next */
    struct completion *waiting, *settling;
    struct range gap;
    struct fill *joined[READ_SLOTS + 1]; /* fills whose bytes were handed out unchecked */
    unsigned joined_count;
    int failed; /* one of them */
    int missed; /* what came of a fill that the waiting call slept for and has no bytes of */
    struct fill *watched; /* reference while `waiter` is armed or its wake is on its way */
    bool stale;           /* it was watched for a call that was cancelled */
    struct fill_waiter waiter;
};

/* ---- positions ---- */

static void reader_seek(struct reader *reader, uint64_t at)
{
    if (at < reader->piece_start)
        reader->piece = reader->piece_start = 0;
    while (reader->piece < reader->piece_count &&
           at - reader->piece_start >= reader->pieces[reader->piece].length)
        reader->piece_start += reader->pieces[reader->piece++].length;
    reader->ahead = at;
}

/* Where `ahead` lies: the object, its byte, and how many follow in this extent, piece and range. */
static uint64_t reader_place(struct reader *reader, struct object **ret_object, uint64_t *ret_at)
{
    const struct piece *piece = &reader->pieces[reader->piece];
    uint64_t in_piece = reader->ahead - reader->piece_start;
    uint64_t at = piece->offset + in_piece;

    *ret_object = piece->object;
    *ret_at = at;
    return MIN(MIN(piece->length - in_piece, reader->end - reader->ahead),
               EXTENT_BYTES_MAX - at % EXTENT_BYTES_MAX);
}

static struct cell *cell_at(const struct object *object, uint64_t at) /* object's lock held */
{
    uint64_t index = at / EXTENT_BYTES_MAX;

    return index < object->cell_count ? object->cells[index] : NULL;
}

/* Bytes from `at` that lie in units present there, at most one device piece. Object's lock held. */
static uint64_t present_length(const struct cell *cell, uint64_t at, uint64_t max)
{
    uint64_t in_extent = at % EXTENT_BYTES_MAX;
    unsigned first = (unsigned)(in_extent / UNIT_BYTES), unit = first;

    while (unit < EXTENT_UNITS_MAX && unit - first < IO_BYTES_MAX / UNIT_BYTES &&
           cell->extent.present >> unit & 1)
        unit++;
    if (unit == first)
        return 0;
    return MIN(max, (uint64_t)unit * UNIT_BYTES - in_extent);
}

/* ---- slots ---- */

static struct reader_slot *slot_at(struct reader *reader, unsigned i)
{
    return &reader->slots[(reader->first + i) % READ_SLOTS];
}

static struct reader_slot *slot_add(struct reader *reader, struct object *object, uint64_t at,
                                    uint64_t length)
{
    struct reader_slot *slot = slot_at(reader, reader->count++);

    slot->reader = reader;
    slot->err = 0;
    slot->object = object;
    slot->at = at;
    slot->length = length;
    slot->slice = (struct slice){0};
    reader_seek(reader, reader->ahead + length);
    return slot;
}

static bool slot_from_tier(struct reader *reader, struct object *object, uint64_t at, uint64_t max)
{
    struct slice unit;
    struct reader_slot *slot;
    uint64_t skip = at % UNIT_BYTES;

    if ((reader->why != READ_CLIENT && reader->why != READ_AGAIN) ||
        !tier_get(reader->cache->content->tier, object->id, (uint32_t)(at / UNIT_BYTES), &unit))
        return false;
    STAT_INC(tier_hits);
    slot = slot_add(reader, object, at, MIN(max, unit.bytes.len - skip));
    unit.bytes = (struct span){unit.bytes.base + skip, slot->length};
    slot->slice = unit;
    slot->state = SLOT_READY;
    return true;
}

/* What a client has read twice (small objects: once) is kept in memory, by whole units. */
static void slot_keep(struct reader_slot *slot)
{
    struct content *content = slot->reader->cache->content;
    uint64_t in_extent = slot->at % EXTENT_BYTES_MAX;
    unsigned first = (unsigned)(in_extent / UNIT_BYTES);
    const char *base = slot->slice.bytes.base - in_extent % UNIT_BYTES;
    uint64_t last = in_extent + slot->length - 1;

    evict_touch(content->evict, slot->object->id, slot->cell->extent.index);
    for (unsigned unit = first; unit <= last / UNIT_BYTES; unit++, base += UNIT_BYTES) {
        uint64_t bit = 1ULL << unit;
        uint32_t length = slot->cell->extent.length - unit * UNIT_BYTES;

        if (slot->object->length > SMALL_KEPT_MAX &&
            !(atomic_fetch_or_explicit(&slot->cell->read_once, bit, memory_order_relaxed) & bit))
            continue;
        tier_put(content->tier, slot->object->id,
                 (uint32_t)(slot->at / EXTENT_BYTES_MAX * EXTENT_UNITS_MAX) + unit,
                 (struct span){base, MIN(length, UNIT_BYTES)});
    }
}

/* ---- damage ---- */

static bool object_refillable(struct object *object)
{
    SCOPED_LOCK(&object->lock);
    return object->origin.etag.len && object_state_locked(object) == OBJECT_CLEAN;
}

/* B8: what exists elsewhere is a miss, what does not is kept from everyone and shouted about. */
static int slot_damaged(struct reader_slot *slot)
{
    struct object *object = slot->object;
    unsigned first = (unsigned)(slot->read.want.start / UNIT_BYTES);
    uint64_t last = slot->read.want.start + slot->length - 1;

    if (!object_refillable(object)) {
        STAT_INC(content_quarantined);
        log_error("bytes that exist nowhere else cannot be read",
                  KV_UINT("epoch", object->id.epoch), KV_UINT("object", object->id.counter),
                  KV_UINT("offset", slot->at), KV_ERR(slot->err));
        return slot->err == -ESTALE ? -EUCLEAN : slot->err;
    }
    STAT_INC(content_damaged);
    log_warn_limited("damaged bytes of clean content will be fetched again",
                     KV_UINT("object", object->id.counter), KV_UINT("offset", slot->at),
                     KV_ERR(slot->err));
    pthread_mutex_lock(&object->lock);
    for (unsigned unit = first; unit <= last / UNIT_BYTES; unit++)
        slot->cell->extent.present &= ~(1ULL << unit);
    pthread_mutex_unlock(&object->lock);
    if (cell_takes_units(slot->cell))
        object_commit_extent(object, slot->cell);
    else
        object_commit_eviction(object, slot->cell->extent.index);
    return 0;
}

static void reader_pump(struct reader *reader);

static void slot_read(struct completion *done)
{
    struct reader_slot *slot = container_of(done, struct reader_slot, done);
    struct reader *reader = slot->reader;

    reader->reading--;
    slot->err = done->err;
    slot->state = done->err ? SLOT_FAILED : SLOT_READY;
    if (!done->err && slot->slice.bytes.len > slot->length)
        slot->slice.bytes.len = slot->length;
    if (!done->err && reader->why == READ_CLIENT && !reader->closed)
        slot_keep(slot);
    if ((done->err == -EUCLEAN || done->err == -ESTALE || done->err == -EIO) && !reader->closed) {
        slot->err = slot_damaged(slot);
        reader->again |= !slot->err;
    }
    slot->cell = cell_unref(slot->cell);
    reader_pump(reader);
}

/* Object's lock held since its units were seen to be present: damage that another reader finds from
 * now on does not change what this one reads. */
static struct reader_slot *slot_from_device(struct reader *reader, struct object *object,
                                            uint64_t at, uint64_t length, struct cell *cell)
{
    struct reader_slot *slot = slot_add(reader, object, at, length);

    slot->state = SLOT_READING;
    slot->cell = cell_ref(cell);
    slot->done = (struct completion){.fn = slot_read, .loop = reader->loop};
    slot->read = (struct extent_read){.done = &slot->done,
                                      .store = reader->cache->slabs,
                                      .extent = cell->extent,
                                      .id = object->id,
                                      .want = {at % EXTENT_BYTES_MAX, length},
                                      .ret = &slot->slice};
    return slot;
}

/* Starts the next slot; false: what `ahead` needs is absent. */
static bool slot_start(struct reader *reader)
{
    struct object *object;
    struct reader_slot *slot = NULL;
    struct cell *cell;
    uint64_t at, max = reader_place(reader, &object, &at), length = 0;

    if (slot_from_tier(reader, object, at, max))
        return true;
    pthread_mutex_lock(&object->lock);
    cell = cell_at(object, at);
    if (cell)
        length = present_length(cell, at, max);
    if (length)
        slot = slot_from_device(reader, object, at, length, cell);
    pthread_mutex_unlock(&object->lock);
    if (!slot)
        return false;
    STAT_INC(device_reads);
    reader->reading++;
    extent_read_start(&slot->read);
    return true;
}

static bool may_read_ahead(void)
{
    struct iobuf_stats stats = iobuf_pool_stats(IOBUF_512K);

    return stats.free > stats.total / READ_AHEAD_SPARE;
}

static void reader_fill_slots(struct reader *reader)
{
    while (reader->count < READ_SLOTS && reader->ahead < reader->end &&
           (!reader->count || may_read_ahead()))
        if (!slot_start(reader))
            return;
}

/* READ_KEEP: `next` goes on to the first absent byte. */
static void reader_pass(struct reader *reader)
{
    struct object *object;
    struct cell *cell;
    uint64_t at, max, length = 1;

    while (length && reader->next < reader->end) {
        max = reader_place(reader, &object, &at);
        pthread_mutex_lock(&object->lock);
        cell = cell_at(object, at);
        length = cell ? present_length(cell, at, max) : 0;
        pthread_mutex_unlock(&object->lock);
        reader_seek(reader, reader->next + length);
        reader->next = reader->ahead;
    }
}

static void reader_drop_slots(struct reader *reader)
{
    assert(!reader->reading);
    for (; reader->count; reader->count--) {
        struct reader_slot *slot = slot_at(reader, 0);

        slot->slice = slice_unref(slot->slice);
        reader->first = (reader->first + 1) % READ_SLOTS;
    }
}

/* ---- answers ---- */

static void reader_answer(struct reader *reader, int err)
{
    struct completion *done = reader->waiting;

    reader->waiting = NULL;
    completion_post(done, err);
}

static void reader_give(struct reader *reader, struct slice slice)
{
    reader->next += slice.bytes.len;
    *reader->ret = slice;
    reader_answer(reader, 0);
}

static void reader_give_slot(struct reader *reader)
{
    struct reader_slot *slot = slot_at(reader, 0);
    struct slice slice = slot->slice;

    if (slot->state == SLOT_FAILED) {
        reader_answer(reader, slot->err);
        return;
    }
    slot->slice = (struct slice){0};
    reader->first = (reader->first + 1) % READ_SLOTS;
    reader->count--;
    reader_give(reader, slice);
    reader_fill_slots(reader); /* the devices work while the socket does */
}

/* ---- fills ---- */

/* Drops fills that have ended well; remembers a failure. */
static void joined_prune(struct reader *reader)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < reader->joined_count; i++) {
        int outcome = fill_outcome(reader->joined[i]);

        if (outcome == -EINPROGRESS) {
            reader->joined[kept++] = reader->joined[i];
            continue;
        }
        reader->failed = reader->failed ? reader->failed : outcome;
        fill_unref(reader->joined[i]);
    }
    reader->joined_count = kept;
}

static bool joined_has(const struct reader *reader, const struct fill *fill)
{
    for (unsigned i = 0; i < reader->joined_count; i++)
        if (reader->joined[i] == fill)
            return true;
    return false;
}

/* Why the fill failed; 0: it has not. It is in no list any more: who does not ask it here would
 * only see a gap, have it fetched again, and so for ever. */
static int fill_failure(struct fill *fill)
{
    int outcome = fill_outcome(fill);

    return outcome == -EINPROGRESS ? 0 : outcome;
}

static void reader_woken(struct completion *wake)
{
    struct fill_waiter *waiter = container_of(wake, struct fill_waiter, wake);
    struct reader *reader = container_of(waiter, struct reader, waiter);

    if (reader->waiting && !reader->stale)
        reader->missed = fill_failure(reader->watched);
    reader->stale = false;
    reader->watched = fill_unref(reader->watched);
    reader_pump(reader);
}

/* Sleeps until there are bytes at `at` of the fill, or its end. false: look again now. */
static bool reader_watch(struct reader *reader, struct fill *fill, uint64_t at)
{
    if (reader->watched)
        return true; /* a former wake is still on its way */
    reader->waiter =
        (struct fill_waiter){.wake = {.fn = reader_woken, .loop = reader->loop}, .at = at};
    if (!fill_wait(fill, &reader->waiter))
        return false;
    reader->watched = fill_ref(fill);
    return true;
}

static void reader_unwatch(struct reader *reader)
{
    if (reader->watched && fill_unwait(reader->watched, &reader->waiter))
        reader->watched = fill_unref(reader->watched);
}

/* The bytes at `next` from a running fill. true: look again now. */
static bool reader_take(struct reader *reader, struct fill *fill, uint64_t at, uint64_t max)
{
    struct slice slice;
    int err;

    if (reader->joined_count == countof(reader->joined) && !joined_has(reader, fill)) {
        bool asleep = reader_watch(reader, reader->joined[0], FILL_ENDED);

        joined_prune(reader);
        return !asleep;
    }
    err = fill_take(fill, at, max, &slice);
    if (err == -EAGAIN) {
        if (reader_watch(reader, fill, at))
            return false;
        err = fill_failure(fill);
        if (!err)
            return true;
    }
    if (err == -EEXIST)
        return true;
    if (err < 0) {
        reader_answer(reader, err);
        return false;
    }
    if (!slice.checked && !joined_has(reader, fill))
        reader->joined[reader->joined_count++] = fill_ref(fill);
    reader_seek(reader, reader->next + slice.bytes.len);
    reader_give(reader, slice);
    return false;
}

/* READ_KEEP: sleeps until the fill's bytes are on a device or will not be. true: look again now. */
static bool reader_await(struct reader *reader, struct fill *fill)
{
    int err;

    if (reader_watch(reader, fill, FILL_LEFT))
        return false;
    err = fill_failure(fill);
    if (err)
        reader_answer(reader, err);
    return !err;
}

/* Absent bytes from `next` on that nobody fetches. */
static void reader_find_gap(struct reader *reader, struct object *object, uint64_t at)
{
    const struct piece *piece = &reader->pieces[reader->piece];
    uint64_t stop = MIN(reader->end - reader->next, READ_GAP_MAX), length = 0;

    stop = MIN(stop, piece->offset + piece->length - at);
    SCOPED_LOCK(&object->lock);
    while (length < stop) {
        uint64_t here = at + length;
        const struct cell *cell = object->cells[here / EXTENT_BYTES_MAX];

        if ((cell && present_length(cell, here, 1)) || fill_running(object, here))
            break;
        length = MIN(stop, length + UNIT_BYTES - here % UNIT_BYTES);
    }
    reader->gap = (struct range){reader->next, length};
}

/* No slot: what is at `next` is absent or being fetched. true: look again now. */
static bool reader_absent(struct reader *reader)
{
    struct object *object;
    struct fill *fill;
    bool refillable, again;
    uint64_t at, max = reader_place(reader, &object, &at);

    pthread_mutex_lock(&object->lock);
    fill = fill_find(object, at);
    refillable = object->origin.etag.len > 0;
    pthread_mutex_unlock(&object->lock);
    if (fill) {
        again = reader->why == READ_KEEP ? reader_await(reader, fill)
                                         : reader_take(reader, fill, at, max);
        fill_unref(fill);
        return again;
    }
    if (!refillable) {
        log_error("content without a source is absent", KV_UINT("object", object->id.counter));
        reader_answer(reader, -EUCLEAN);
        return false;
    }
    reader_find_gap(reader, object, at);
    if (!reader->gap.len) /* it came between the two looks */
        return true;
    reader_answer(reader, -ENODATA);
    return false;
}

/* ---- what drives it ---- */

/* Tries to answer reader_next. true: try again. */
static bool reader_step(struct reader *reader)
{
    if (reader->failed) {
        reader_answer(reader, reader->failed);
        return false;
    }
    if (reader->missed) {
        reader_answer(reader, reader->missed);
        reader->missed = 0;
        return false;
    }
    if (reader->again)
        return false; /* its slots are still being read */
    if (reader->why == READ_KEEP)
        reader_pass(reader);
    else
        reader_fill_slots(reader);
    if (reader->count) {
        if (slot_at(reader, 0)->state != SLOT_READING)
            reader_give_slot(reader);
        return false;
    }
    if (reader->next == reader->end) {
        reader_give(reader, (struct slice){.checked = true});
        return false;
    }
    return reader_absent(reader);
}

static void reader_try_settle(struct reader *reader)
{
    struct completion *done = reader->settling;

    while (!reader->failed && reader->joined_count) {
        if (reader_watch(reader, reader->joined[0], FILL_ENDED))
            return;
        joined_prune(reader);
    }
    reader->settling = NULL;
    completion_post(done, reader->failed);
}

static void reader_free(struct reader *reader)
{
    reader_drop_slots(reader);
    for (unsigned i = 0; i < reader->joined_count; i++)
        fill_unref(reader->joined[i]);
    blob_unref(reader->blob);
    if (reader->loop)
        loop_release(reader->loop);
    free(reader);
}

static void reader_pump(struct reader *reader)
{
    if (reader->closed) {
        if (!reader->reading && !reader->watched)
            reader_free(reader);
        return;
    }
    joined_prune(reader);
    if (reader->again && !reader->reading) {
        reader_drop_slots(reader);
        reader_seek(reader, reader->next);
        reader->again = false;
    }
    if (reader->settling)
        reader_try_settle(reader);
    while (reader->waiting && reader_step(reader))
        continue;
}

static void reader_cancel(struct completion *done)
{
    struct reader *reader = done->callee;

    assert(done == reader->waiting || done == reader->settling);
    reader->waiting = reader->settling = NULL;
    reader_unwatch(reader);
    reader->stale = reader->watched;
    completion_post(done, -ECANCELED);
}

static void reader_begin(struct reader *reader, struct completion *done)
{
    assert(!reader->waiting && !reader->settling && !reader->closed);
    reader->loop = done->loop;
    done->callee = reader;
    done->cancel = reader_cancel;
}

struct reader *cache_reader_open(struct blob *blob, struct range range, enum read_for why)
{
    struct reader *reader = xcalloc(1, sizeof(*reader));

    assert(range.start + range.len <= blob_record(blob)->length);
    reader->blob = blob_ref(blob);
    reader->cache = blob->cache;
    reader->why = why;
    reader->next = range.start;
    reader->end = range.start + range.len;
    reader->piece_count = blob_pieces(blob, &reader->pieces);
    reader_seek(reader, range.start);
    return reader;
}

void reader_next(struct reader *reader, struct slice *ret, struct completion *done)
{
    reader_begin(reader, done);
    reader->ret = ret;
    reader->waiting = done;
    reader_pump(reader);
}

struct range reader_gap(const struct reader *reader)
{
    return reader->gap;
}

void reader_settle(struct reader *reader, struct completion *done)
{
    reader_begin(reader, done);
    reader->settling = done;
    reader_pump(reader);
}

struct reader *reader_close(struct reader *reader)
{
    if (!reader)
        return NULL;
    assert(!reader->waiting && !reader->settling);
    reader_unwatch(reader);
    reader->closed = true;
    if (reader->loop) /* device reads under way end on it */
        loop_hold(reader->loop);
    reader_pump(reader);
    return NULL;
}
