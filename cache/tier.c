/* cache/tier.c - hot bytes in memory: verified units of objects, copied once into memory of the
 * tier's own and handed out by reference, so that I/O buffers are never held by what is merely hot.
 * Any thread.
 *
 * The budget is cut into shards, a shard into frames of one unit, a frame into slots of one size
 * class (4 KiB .. 64 KiB). Within a shard S3-FIFO decides: most units pass the small queue once;
 * used there again they go to the main queue, where two-bit counters give them further rounds;
 * ghosts of what left the small queue unused enter the main queue at once. A dropped unit's slot is
 * free when its last reader is done with it, so a shard may stay full for a moment: then a unit is
 * not kept. */
#include <sys/mman.h>

#include "cache/content.h"
#include "cache/metrics.h"

#define TIER_SHARDS     16
#define SHARD_BYTES_MIN (1u << 20)
#define SLOT_BYTES_MIN  4096u
#define SLOT_CLASSES    5
#define FRAME_SLOTS_MAX (UNIT_BYTES / SLOT_BYTES_MIN)
#define USES_MAX        3
#define SMALL_SHARE     10
#define DROPS_PER_PUT   32 /* units dropped at most to make room for one */
#define NO_FRAME        UINT32_MAX
#define EMPTY_FRAMES    SLOT_CLASSES /* list of frames of no class */

static_assert((SLOT_BYTES_MIN << (SLOT_CLASSES - 1)) == UNIT_BYTES, "classes end at a unit");

enum { QUEUE_NONE, QUEUE_SMALL, QUEUE_MAIN, QUEUES };

struct tier_entry {
    struct iobuf
        buf; /* what slices refer to; the tier holds one reference while it is in the table */
    struct tier_shard *shard;
    struct object_id id;
    uint32_t unit, frame;
    uint8_t slot, uses, queue;
    struct tier_entry *hash_next, *before, *after; /* before: older */
};

struct frame {
    uint8_t class;
    uint16_t free;          /* bit per slot */
    uint32_t before, after; /* in its class's list of frames with a free slot, or the empty ones */
};

struct tier_shard {
    pthread_mutex_t lock; /* guards all below */
    char *memory;
    struct frame *frames;
    uint32_t frame_count;
    uint32_t with_room[SLOT_CLASSES + 1]; /* heads of lists */
    struct tier_entry **buckets;
    uint32_t bucket_count;
    struct {
        struct tier_entry *oldest, *newest;
        uint64_t bytes;
    } queue[QUEUES];
    uint64_t *ghosts; /* by hash, as many as buckets */
    uint64_t used_bytes;
};

struct tier {
    char *memory;
    uint64_t bytes;
    unsigned shard_count;
    struct tier_shard shards[TIER_SHARDS];
};

/* ---- frames and slots; lock held ---- */

static void frame_list_add(struct tier_shard *shard, unsigned list, uint32_t index)
{
    struct frame *frame = &shard->frames[index];

    frame->before = NO_FRAME;
    frame->after = shard->with_room[list];
    if (frame->after != NO_FRAME)
        shard->frames[frame->after].before = index;
    shard->with_room[list] = index;
}

static void frame_list_remove(struct tier_shard *shard, unsigned list, uint32_t index)
{
    struct frame *frame = &shard->frames[index];

    if (frame->before != NO_FRAME)
        shard->frames[frame->before].after = frame->after;
    else
        shard->with_room[list] = frame->after;
    if (frame->after != NO_FRAME)
        shard->frames[frame->after].before = frame->before;
}

static unsigned slot_class(size_t bytes)
{
    unsigned class = 0;

    while ((SLOT_BYTES_MIN << class) < bytes)
        class ++;
    return class;
}

static uint16_t frame_all_free(unsigned class)
{
    return (uint16_t)((1u << (FRAME_SLOTS_MAX >> class)) - 1);
}

static bool slot_take(struct tier_shard *shard, unsigned class, struct tier_entry *entry)
{
    uint32_t index = shard->with_room[class];
    struct frame *frame;

    if (index == NO_FRAME) {
        index = shard->with_room[EMPTY_FRAMES];
        if (index == NO_FRAME)
            return false;
        frame_list_remove(shard, EMPTY_FRAMES, index);
        shard->frames[index].class = (uint8_t) class;
        shard->frames[index].free = frame_all_free(class);
        frame_list_add(shard, class, index);
    }
    frame = &shard->frames[index];
    entry->frame = index;
    entry->slot = (uint8_t)__builtin_ctz(frame->free);
    frame->free &= (uint16_t)(frame->free - 1);
    if (!frame->free)
        frame_list_remove(shard, class, index);
    entry->buf.size = SLOT_BYTES_MIN << class;
    entry->buf.base = shard->memory + (uint64_t)index * UNIT_BYTES + entry->slot * entry->buf.size;
    shard->used_bytes += entry->buf.size;
    return true;
}

static void slot_give(struct tier_shard *shard, const struct tier_entry *entry)
{
    struct frame *frame = &shard->frames[entry->frame];

    if (!frame->free)
        frame_list_add(shard, frame->class, entry->frame);
    frame->free |= (uint16_t)(1u << entry->slot);
    shard->used_bytes -= entry->buf.size;
    if (frame->free == frame_all_free(frame->class)) {
        frame_list_remove(shard, frame->class, entry->frame);
        frame_list_add(shard, EMPTY_FRAMES, entry->frame);
    }
}

/* The last reference is gone: readers', or the tier's when it dropped the unit. */
static void entry_release(struct iobuf *buf)
{
    struct tier_entry *entry = container_of(buf, struct tier_entry, buf);
    struct tier_shard *shard = entry->shard;

    pthread_mutex_lock(&shard->lock);
    slot_give(shard, entry);
    pthread_mutex_unlock(&shard->lock);
    free(entry);
}

/* ---- table and queues; lock held ---- */

static uint64_t unit_hash(struct object_id id, uint32_t unit)
{
    uint64_t h = object_id_hash(id) ^ (unit * 0xD6E8FEB86659FD93ULL);

    h *= 0x9E3779B97F4A7C15ULL;
    return (h ^ h >> 32) | 1; /* 0: no ghost */
}

static struct tier_shard *shard_of(struct tier *tier, uint64_t hash)
{
    return &tier->shards[(hash >> 48) % tier->shard_count];
}

static struct tier_entry **entry_place(struct tier_shard *shard, uint64_t hash, struct object_id id,
                                       uint32_t unit)
{
    struct tier_entry **place = &shard->buckets[(hash >> 1) % shard->bucket_count];

    while (*place && ((*place)->unit != unit || !object_id_eq((*place)->id, id)))
        place = &(*place)->hash_next;
    return place;
}

static void queue_push(struct tier_shard *shard, struct tier_entry *entry, uint8_t queue)
{
    entry->queue = queue;
    entry->before = shard->queue[queue].newest;
    entry->after = NULL;
    if (entry->before)
        entry->before->after = entry;
    else
        shard->queue[queue].oldest = entry;
    shard->queue[queue].newest = entry;
    shard->queue[queue].bytes += entry->buf.size;
}

static struct tier_entry *queue_pop(struct tier_shard *shard, uint8_t queue)
{
    struct tier_entry *entry = shard->queue[queue].oldest;

    shard->queue[queue].oldest = entry->after;
    if (entry->after)
        entry->after->before = NULL;
    else
        shard->queue[queue].newest = NULL;
    shard->queue[queue].bytes -= entry->buf.size;
    return entry;
}

/* One round: gives a victim, moves one from small to main, or takes one use from one in main. */
static struct tier_entry *queue_round(struct tier_shard *shard)
{
    uint64_t all = shard->queue[QUEUE_SMALL].bytes + shard->queue[QUEUE_MAIN].bytes;
    bool small =
        shard->queue[QUEUE_SMALL].oldest &&
        (!shard->queue[QUEUE_MAIN].oldest || shard->queue[QUEUE_SMALL].bytes > all / SMALL_SHARE);
    struct tier_entry *entry = queue_pop(shard, small ? QUEUE_SMALL : QUEUE_MAIN);
    uint64_t hash = unit_hash(entry->id, entry->unit);

    if (entry->uses) {
        entry->uses = small ? 0 : (uint8_t)(entry->uses - 1);
        queue_push(shard, entry, QUEUE_MAIN);
        return NULL;
    }
    if (small)
        shard->ghosts[(hash >> 1) % shard->bucket_count] = hash;
    *entry_place(shard, hash, entry->id, entry->unit) = entry->hash_next;
    return entry;
}

static struct tier_entry *shard_victim(struct tier_shard *shard)
{
    struct tier_entry *entry = NULL;

    while (!entry && (shard->queue[QUEUE_SMALL].oldest || shard->queue[QUEUE_MAIN].oldest))
        entry = queue_round(shard);
    return entry;
}

/* ---- what readers call ---- */

bool tier_get(struct tier *tier, struct object_id id, uint32_t unit, struct slice *ret)
{
    uint64_t hash = unit_hash(id, unit);
    struct tier_shard *shard;
    struct tier_entry *entry;

    if (!tier->shard_count)
        return false;
    shard = shard_of(tier, hash);
    SCOPED_LOCK(&shard->lock);
    entry = *entry_place(shard, hash, id, unit);
    if (!entry)
        return false;
    entry->uses = (uint8_t)MIN(entry->uses + 1, USES_MAX);
    *ret = (struct slice){.buf = iobuf_ref(&entry->buf),
                          .bytes = {entry->buf.base, entry->buf.used},
                          .checked = true};
    return true;
}

/* Room for the entry, by dropping others. Dropped ones are unreferenced without the lock, since the
 * last reference takes it. */
static bool shard_make_room(struct tier_shard *shard, unsigned class, struct tier_entry *entry)
{
    for (int i = 0; i <= DROPS_PER_PUT; i++) {
        struct tier_entry *victim = NULL;
        bool taken;

        pthread_mutex_lock(&shard->lock);
        taken = slot_take(shard, class, entry);
        if (!taken)
            victim = shard_victim(shard);
        pthread_mutex_unlock(&shard->lock);
        if (taken)
            return true;
        if (!victim)
            return false;
        STAT_INC(tier_dropped);
        iobuf_unref(&victim->buf);
    }
    return false;
}

static bool shard_insert(struct tier_shard *shard, uint64_t hash, struct tier_entry *entry)
{
    uint64_t *ghost = &shard->ghosts[(hash >> 1) % shard->bucket_count];
    struct tier_entry **place;
    bool seen;

    SCOPED_LOCK(&shard->lock);
    seen = *ghost == hash;
    place = entry_place(shard, hash, entry->id, entry->unit);
    if (*place)
        return false;
    *place = entry;
    if (seen)
        *ghost = 0;
    queue_push(shard, entry, seen ? QUEUE_MAIN : QUEUE_SMALL);
    return true;
}

static bool tier_has(struct tier_shard *shard, uint64_t hash, struct object_id id, uint32_t unit)
{
    SCOPED_LOCK(&shard->lock);
    return *entry_place(shard, hash, id, unit) != NULL;
}

void tier_put(struct tier *tier, struct object_id id, uint32_t unit, struct span bytes)
{
    uint64_t hash = unit_hash(id, unit);
    struct tier_shard *shard;
    struct tier_entry *entry;

    assert(bytes.len && bytes.len <= UNIT_BYTES);
    if (!tier->shard_count || tier_has(shard_of(tier, hash), hash, id, unit))
        return;
    shard = shard_of(tier, hash);
    entry = xcalloc(1, sizeof(*entry));
    entry->shard = shard;
    entry->id = id;
    entry->unit = unit;
    entry->buf.refs = 1;
    entry->buf.release = entry_release;
    if (!shard_make_room(shard, slot_class(bytes.len), entry)) {
        free(entry);
        return;
    }
    memcpy(entry->buf.base, bytes.base, bytes.len);
    entry->buf.used = (uint32_t)bytes.len;
    if (shard_insert(shard, hash, entry))
        STAT_INC(tier_kept);
    else
        iobuf_unref(&entry->buf);
}

struct tier_stats tier_stats(struct tier *tier)
{
    struct tier_stats stats = {.bytes = tier->bytes};

    for (unsigned i = 0; i < tier->shard_count; i++) {
        SCOPED_LOCK(&tier->shards[i].lock);
        stats.used_bytes += tier->shards[i].used_bytes;
    }
    return stats;
}

/* ---- open, close ---- */

static void shard_open(struct tier_shard *shard, char *memory, uint32_t frames)
{
    pthread_mutex_init(&shard->lock, NULL);
    shard->memory = memory;
    shard->frame_count = frames;
    shard->frames = xcalloc(frames, sizeof(*shard->frames));
    shard->bucket_count = frames * 4 + 1;
    shard->buckets = xcalloc(shard->bucket_count, sizeof(*shard->buckets));
    shard->ghosts = xcalloc(shard->bucket_count, sizeof(*shard->ghosts));
    for (unsigned i = 0; i <= SLOT_CLASSES; i++)
        shard->with_room[i] = NO_FRAME;
    for (uint32_t i = frames; i-- > 0;)
        frame_list_add(shard, EMPTY_FRAMES, i);
}

static void shard_close(struct tier_shard *shard)
{
    struct tier_entry *entry;

    while ((entry = shard_victim(shard)))
        iobuf_unref(&entry->buf);
    assert(!shard->used_bytes);
    free(shard->frames);
    free(shard->buckets);
    free(shard->ghosts);
    pthread_mutex_destroy(&shard->lock);
}

int tier_open(uint64_t bytes, struct tier **ret)
{
    struct tier *tier = xcalloc(1, sizeof(*tier));
    unsigned shards = (unsigned)MIN(TIER_SHARDS, MAX(bytes / SHARD_BYTES_MIN, 1));
    uint64_t frames = bytes / shards / UNIT_BYTES;

    tier->bytes = frames * shards * UNIT_BYTES;
    if (tier->bytes) {
        tier->memory = mmap(NULL, tier->bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (tier->memory == MAP_FAILED) {
            free(tier);
            return -ENOMEM;
        }
        (void)madvise(tier->memory, tier->bytes, MADV_HUGEPAGE); /* where to be had */
        tier->shard_count = shards;
    }
    for (unsigned i = 0; i < tier->shard_count; i++)
        shard_open(&tier->shards[i], tier->memory + i * frames * UNIT_BYTES, (uint32_t)frames);
    *ret = tier;
    return 0;
}

struct tier *tier_close(struct tier *tier)
{
    if (!tier)
        return NULL;
    for (unsigned i = 0; i < tier->shard_count; i++)
        shard_close(&tier->shards[i]);
    if (tier->memory)
        munmap(tier->memory, tier->bytes);
    free(tier);
    return NULL;
}
