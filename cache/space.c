/* cache/space.c - who may write where: extents in large slabs (a bitmap of 4 KiB blocks each), runs
 * in small ones (appended). Any thread; one lock; nothing here waits for a device, except where a
 * store without workers prepares slabs in the allocating call.
 *
 * A freed block or slab is used again as soon as somebody asks: that the record dropping the last
 * reference is durable and readers are gone was the duty of whoever called slab_free (S5). */
#include "cache/store.h"

#include "base/log.h"

#define LOG_SHARE          8 /* one slab in so many is kept for the log, within these bounds: log.h's */
#define LOG_RESERVE_MIN    4 /* but no more than half of a tiny device */
#define LOG_RESERVE_MAX    64
#define SMALL_SHARE        16 /* likewise for small records, so that large extents never take all */
#define SMALL_RESERVE_MAX  16
#define MOVE_SLABS_MIN     9 /* devices with fewer keep none for compaction */
#define PREPARE_TRIES_MAX  4 /* without workers */
#define WRITE_FAILURES_MAX 4 /* in a row: the device, not a bad block */

static uint32_t minus(uint32_t a, uint32_t b)
{
    return a > b ? a - b : 0;
}

/* Eviction frees extents, seldom whole slabs: without a share of their own small records would find
 * no slab on a device that large extents have filled once. Compaction needs a place for what it
 * moves before it can free one: without a slab of its own a device whose small slabs are all nearly
 * empty would stay so. */
uint32_t space_slabs(const struct device *device, enum slab_kind kind)
{
    uint32_t free = device->use_count[USE_FREE] + device->use_count[USE_UNWRITTEN];
    uint32_t small = device->data[SLAB_SMALL] + device->ready[SLAB_SMALL];

    free = minus(free, minus(device->log_reserve, device->use_count[USE_LOG]));
    free = minus(free, device->move_reserve);
    return kind == SLAB_LARGE ? minus(free, minus(device->small_reserve, small)) : free;
}

void space_wake(struct slab_store *store)
{
    struct completion *done = store->waiting;

    atomic_fetch_add(&store->given, 1);
    store->waiting = NULL;
    store->waiting_last = &store->waiting;
    while (done) {
        struct completion *next = done->queued;

        completion_post(done, 0);
        done = next;
    }
}

static uint64_t device_free_bytes(const struct device *device)
{
    uint64_t slabs = space_slabs(device, SLAB_LARGE) + device->ready[SLAB_LARGE];

    if (!device_takes(device))
        return 0;
    return (slabs * SLAB_USABLE_BLOCKS + device->large_free_blocks) * IO_ALIGN;
}

/* Of devices on which nothing is placed any more nothing counts: what is freed there is no room. */
static struct slab_space space_sums(const struct slab_store *store)
{
    struct slab_space sums = {0};

    for (unsigned i = 0; i < store->device_count; i++) {
        const struct device *d = &store->device[i];
        uint64_t usable = d->slab_count - d->use_count[USE_BAD];
        uint64_t reserved = MAX(d->log_reserve, d->use_count[USE_LOG]);

        if (!device_takes(d))
            continue;
        sums.free_bytes += device_free_bytes(d);
        sums.bytes += usable * SLAB_USABLE_BLOCKS * IO_ALIGN;
        sums.reserved_bytes += reserved * SLAB_USABLE_BLOCKS * IO_ALIGN;
    }
    return sums;
}

static bool space_is_low(const struct slab_store *store)
{
    struct slab_space sums = space_sums(store);

    return store->low_share && sums.free_bytes < sums.bytes / store->low_share;
}

/* ---- the map of a large slab ---- */

static void map_set(struct slab *slab, uint32_t block, uint32_t blocks, bool taken)
{
    for (uint32_t i = block; i < block + blocks; i++) {
        assert((bool)(slab->map[i / 64] >> i % 64 & 1) ==
               !taken); /* nothing is given or freed twice */
        slab->map[i / 64] ^= 1ULL << i % 64;
    }
    slab->free_blocks += taken ? -blocks : blocks;
}

static void map_need(struct slab *slab)
{
    if (slab->map)
        return;
    slab->map = xcalloc(SLAB_MAP_WORDS, sizeof(*slab->map));
    slab->map[0] |= 1; /* the header and its second copy */
    slab->map[SLAB_MAP_WORDS - 1] |= 1ULL << 63;
}

static bool map_clear(const struct slab *slab, uint32_t block, uint32_t blocks)
{
    if (block == 0 || (uint64_t)block + blocks > SLAB_BLOCKS - 1)
        return false;
    for (uint32_t i = block; i < block + blocks; i++)
        if (slab->map[i / 64] >> i % 64 & 1)
            return false;
    return true;
}

static uint32_t map_find(const struct slab *slab, uint32_t blocks) /* 0: no such run */
{
    uint32_t run = 0;

    for (uint32_t i = 0; i < SLAB_BLOCKS; i++) {
        uint64_t word = slab->map[i / 64];

        if (i % 64 == 0 && (word == 0 || word == ~0ULL)) { /* a whole word at once */
            run = word ? 0 : run + 64;
            i += 63;
        } else {
            run = word >> i % 64 & 1 ? 0 : run + 1;
        }
        if (run >= blocks)
            return i + 1 - run;
    }
    return 0;
}

/* ---- extents ---- */

static bool slab_is(const struct slab *slab, enum slab_use use, enum slab_kind kind)
{
    return slab->use == use && slab->kind == kind;
}

static uint32_t slab_take(struct slab *slab, uint32_t blocks) /* 0: no room */
{
    uint32_t block;

    if (slab->retired || slab->run_max < blocks || slab->free_blocks < blocks)
        return 0;
    map_need(slab);
    block = map_find(slab, blocks);
    if (block)
        map_set(slab, block, blocks, true);
    else
        slab->run_max = blocks - 1;
    return block;
}

static bool ready_open(struct device *device, enum slab_kind kind, uint32_t *ret)
{
    for (uint32_t i = 0; device->ready[kind] && i < device->slab_count; i++) {
        if (!slab_is(&device->slabs[i], USE_READY, kind))
            continue;
        slab_set_use(device, &device->slabs[i], USE_DATA);
        device->wanted[kind] = false;
        *ret = i;
        return true;
    }
    return false;
}

static uint32_t large_find(struct device *device, uint32_t blocks, uint32_t *ret_slab) /* 0: none */
{
    uint32_t block = 0;

    for (uint32_t n = 0; blocks <= device->run_max && n < device->slab_count; n++) {
        uint32_t i = (device->large_slab + n) % device->slab_count;

        if (slab_is(&device->slabs[i], USE_DATA, SLAB_LARGE))
            block = slab_take(&device->slabs[i], blocks);
        if (block) {
            *ret_slab = i;
            return block;
        }
    }
    device->run_max = MIN(device->run_max, blocks - 1);
    return 0;
}

static bool slab_may_come(const struct device *device, enum slab_kind kind)
{
    return device_takes(device) && (space_slabs(device, kind) || device->use_count[USE_PREPARING] ||
                                    device->ready[SLAB_LARGE] || device->ready[kind]);
}

void space_give_up(struct slab_store *store)
{
    bool any = false;

    for (unsigned i = 0; i < store->device_count; i++)
        for (enum slab_kind kind = SLAB_LARGE; kind <= SLAB_SMALL; kind++) {
            struct device *device = &store->device[i];

            if (!device->wanted[kind] || slab_may_come(device, kind))
                continue;
            device->wanted[kind] = false;
            any = true;
        }
    if (any)
        space_wake(store); /* they ask again and are refused */
}

/* -EAGAIN: one may become ready; somebody is told to prepare it. */
static int slab_want(struct slab_store *store, struct device *device, enum slab_kind kind)
{
    if (!slab_may_come(device, kind))
        return -ENOSPC;
    device->wanted[kind] = true;
    slab_prepare_kick(store);
    return -EAGAIN;
}

static int large_alloc(struct slab_store *store, unsigned number, uint32_t blocks,
                       struct location *ret)
{
    struct device *d = &store->device[number];
    uint32_t slab = 0, block = device_takes(d) ? large_find(d, blocks, &slab) : 0;

    if (!block && device_takes(d) && ready_open(d, SLAB_LARGE, &slab)) {
        d->large_free_blocks += d->slabs[slab].free_blocks;
        d->run_max = SLAB_BLOCKS;
        block = slab_take(&d->slabs[slab], blocks);
        slab_prepare_kick(store);
    }
    if (!block)
        return slab_want(store, d, SLAB_LARGE);
    d->large_slab = slab;
    d->large_free_blocks -= blocks;
    *ret = (struct location){(uint16_t)number, slab, d->slabs[slab].generation, block * IO_ALIGN};
    return 0;
}

/* Devices take turns; one with less than half the room of the roomiest is passed over while that
 * lasts. */
static int large_alloc_any(struct slab_store *store, uint32_t blocks, struct location *ret)
{
    uint64_t most = 0;
    int err = -ENOSPC;

    for (unsigned i = 0; i < store->device_count; i++)
        most = MAX(most, device_free_bytes(&store->device[i]));
    for (unsigned i = 0; i < 2 * store->device_count; i++) {
        unsigned number = (store->turn + i) % store->device_count;
        bool first_round = i < store->device_count;
        int one;

        if (first_round && device_free_bytes(&store->device[number]) < most / 2)
            continue;
        one = large_alloc(store, number, blocks, ret);
        if (one == 0) {
            store->turn = (number + 1) % store->device_count;
            return 0;
        }
        if (one == -EAGAIN)
            err = one;
    }
    return err;
}

/* ---- small runs ---- */

static void small_close(struct device *device)
{
    struct slab *slab = &device->slabs[device->small_slab];

    device->small_slab = UINT32_MAX;
    if (slab->live == 0)
        slab_set_use(device, slab, slab->retired ? USE_BAD : USE_FREE);
}

static int run_alloc(struct slab_store *store, unsigned number, uint32_t bytes, uint32_t live,
                     struct location *ret)
{
    struct device *d = &store->device[number];
    struct slab *slab;

    if (d->small_slab != UINT32_MAX && d->slabs[d->small_slab].next + bytes > slab_bytes())
        small_close(d);
    if (!device_takes(d) ||
        (d->small_slab == UINT32_MAX && !ready_open(d, SLAB_SMALL, &d->small_slab)))
        return slab_want(store, d, SLAB_SMALL);
    slab = &d->slabs[d->small_slab];
    *ret = (struct location){(uint16_t)number, d->small_slab, slab->generation, slab->next};
    slab->next += bytes;
    slab->live += live;
    slab_prepare_kick(store);
    return 0;
}

/* Besides the slab that is open. */
static uint32_t small_slabs_left(const struct device *d)
{
    return device_takes(d)
               ? d->ready[SLAB_SMALL] + d->ready[SLAB_LARGE] + space_slabs(d, SLAB_SMALL)
               : 0;
}

static bool small_is_low(const struct slab_store *store)
{
    for (unsigned i = 0; i < store->device_count; i++)
        if (small_slabs_left(&store->device[i]) || store->device[i].use_count[USE_PREPARING])
            return false;
    return true;
}

unsigned space_small_device(struct slab_store *store, unsigned turn)
{
    SCOPED_LOCK(&store->lock);

    assert(store->device_count > 0);
    for (unsigned i = 0; i < store->device_count; i++) {
        const struct device *d = &store->device[(turn + i) % store->device_count];

        if (small_slabs_left(d) || (device_takes(d) && d->small_slab != UINT32_MAX))
            return (turn + i) % store->device_count;
    }
    return turn % store->device_count;
}

/* ---- giving back ---- */

static void large_give(struct device *device, struct slab *slab, uint32_t block, uint32_t blocks)
{
    map_set(slab, block, blocks, false);
    if (slab->retired) {
        if (slab->free_blocks == SLAB_USABLE_BLOCKS)
            slab_set_use(device, slab, USE_BAD);
        return;
    }
    slab->run_max = device->run_max = SLAB_BLOCKS;
    device->large_free_blocks += blocks;
    if (slab->free_blocks == SLAB_USABLE_BLOCKS) {
        device->large_free_blocks -= SLAB_USABLE_BLOCKS;
        slab_set_use(device, slab,
                     USE_READY); /* as good as prepared: no location names its blocks */
    }
}

static void small_give(struct device *device, struct slab *slab, uint32_t bytes)
{
    assert(slab->live >= bytes);
    slab->live -= bytes;
    if (slab->live == 0 && slab - device->slabs != device->small_slab)
        slab_set_use(device, slab, slab->retired ? USE_BAD : USE_FREE);
}

static struct slab *slab_current(const struct slab_store *store, const struct location *at)
{
    struct slab *slab = store_slab(store, at);

    return slab && slab->use == USE_DATA && slab->generation == at->generation ? slab : NULL;
}

/* ---- start ---- */

static int large_mark(struct slab *slab, uint32_t block, uint32_t blocks)
{
    map_need(slab);
    if (!map_clear(slab, block, blocks))
        return -EEXIST;
    map_set(slab, block, blocks, true);
    return 0;
}

int slab_mark_extent(struct slab_store *store, const struct location *at, uint32_t length)
{
    SCOPED_LOCK(&store->lock);
    struct slab *slab = slab_current(store, at);
    uint32_t end;

    assert(!store->serving);
    if (!slab)
        return -ESTALE;
    if (slab->kind == SLAB_LARGE)
        return large_mark(slab, at->offset / IO_ALIGN, large_blocks(length));
    if ((uint64_t)slab->live + small_bytes(length) > slab_bytes())
        return -EEXIST;
    slab->live += small_bytes(length);
    end = ALIGN_UP(at->offset + small_bytes(length), IO_ALIGN);
    slab->next = MAX(slab->next, MIN(end, slab_bytes()));
    return 0;
}

void slab_mark_log(struct slab_store *store, unsigned device, uint32_t slab)
{
    SCOPED_LOCK(&store->lock);

    assert(!store->serving && store->device[device].slabs[slab].use == USE_LOG);
    store->device[device].slabs[slab].live = 1;
}

static void slab_settle(struct device *device, struct slab *slab) /* by what was marked */
{
    bool large = slab->use == USE_DATA && slab->kind == SLAB_LARGE;

    if (slab->use != USE_DATA && slab->use != USE_LOG)
        return;
    if (large && slab->free_blocks < SLAB_USABLE_BLOCKS)
        device->large_free_blocks += slab->free_blocks;
    else if (large || slab->live == 0)
        slab_set_use(device, slab, USE_FREE);
}

static uint32_t log_reserve(uint32_t slabs)
{
    return MIN(MAX(slabs / LOG_SHARE, MIN(LOG_RESERVE_MIN, slabs / 2)), LOG_RESERVE_MAX);
}

/* The small slab with the most room behind its last live record goes on being appended to. Else
 * each start would leave one behind with next to nothing in it, and what lives there may not be
 * able to leave (compact.c): a box that starts often would run out of slabs. What stands behind the
 * last live record is dead for good: the log was cut, and a record says which object it is. */
static uint32_t small_emptiest(const struct device *device)
{
    uint32_t best = UINT32_MAX;

    for (uint32_t i = 0; i < device->slab_count; i++)
        if (slab_is(&device->slabs[i], USE_DATA, SLAB_SMALL) &&
            (best == UINT32_MAX || device->slabs[i].next < device->slabs[best].next))
            best = i;
    return best;
}

void slab_store_serve(struct slab_store *store)
{
    SCOPED_LOCK(&store->lock);

    for (unsigned i = 0; i < store->device_count; i++) {
        struct device *d = &store->device[i];

        for (uint32_t s = 0; s < d->slab_count; s++)
            slab_settle(d, &d->slabs[s]);
        d->log_reserve = log_reserve(d->slab_count);
        d->small_reserve = MIN(MAX(d->slab_count / SMALL_SHARE, 1), SMALL_RESERVE_MAX);
        d->move_kept = d->move_reserve = d->slab_count >= MOVE_SLABS_MIN;
        d->small_slab = small_emptiest(d);
        d->run_max = SLAB_BLOCKS;
    }
    store->serving = true;
    slab_prepare_kick(store);
}

/* ---- the calls ---- */

static void tell_low(struct slab_store *store, enum slab_kind kind, bool refused)
{
    void (*fn)(void *arg, enum slab_kind kind, bool refused) = NULL;
    void *arg = NULL;

    pthread_mutex_lock(&store->lock);
    for (unsigned i = 0; i < store->device_count; i++)
        if (device_takes(&store->device[i])) { /* else room that is made is of no use */
            fn = store->low_fn;
            arg = store->low_arg;
        }
    pthread_mutex_unlock(&store->lock);
    if (fn)
        fn(arg, kind, refused);
}

int slab_alloc_large(struct slab_store *store, uint32_t length, struct location *ret)
{
    uint32_t blocks = large_blocks(length);
    bool low;
    int err;

    assert(store->serving && length > 0 && length <= EXTENT_BYTES_MAX);
    pthread_mutex_lock(&store->lock);
    err = large_alloc_any(store, blocks, ret);
    for (int i = 0; err == -EAGAIN && !store->workers && i < PREPARE_TRIES_MAX; i++)
        err = slab_prepare_now(store) ? large_alloc_any(store, blocks, ret) : -ENOSPC;
    low = err == -ENOSPC || space_is_low(store);
    pthread_mutex_unlock(&store->lock);
    if (low)
        tell_low(store, SLAB_LARGE, err == -ENOSPC);
    return err;
}

int slab_alloc_run(struct slab_store *store, unsigned device, uint32_t bytes, uint32_t live,
                   struct location *ret)
{
    bool low;
    int err;

    assert(store->serving && bytes % IO_ALIGN == 0 && live <= bytes);
    pthread_mutex_lock(&store->lock);
    err = run_alloc(store, device, bytes, live, ret);
    for (int i = 0; err == -EAGAIN && !store->workers && i < PREPARE_TRIES_MAX; i++)
        err = slab_prepare_now(store) ? run_alloc(store, device, bytes, live, ret) : -ENOSPC;
    low = err == -ENOSPC || (!err && ret->offset == SLAB_HEADER_BYTES && small_is_low(store));
    pthread_mutex_unlock(&store->lock);
    if (low)
        tell_low(store, SLAB_SMALL, err == -ENOSPC);
    return err;
}

void slab_trim(struct slab_store *store, const struct location *at, uint32_t asked, uint32_t length)
{
    SCOPED_LOCK(&store->lock);
    struct slab *slab = slab_current(store, at);
    uint32_t keep = large_blocks(length), give = large_blocks(asked) - keep;

    if (!slab || give == 0)
        return;
    assert(slab->kind == SLAB_LARGE);
    large_give(&store->device[at->device], slab, at->offset / IO_ALIGN + keep, give);
}

void slab_free(struct slab_store *store, const struct location *at, uint32_t length)
{
    SCOPED_LOCK(&store->lock);
    struct slab *slab = slab_current(store, at);

    if (!slab) /* its slab went BAD or is from another life: nothing to give back */
        return;
    if (slab->kind == SLAB_LARGE)
        large_give(&store->device[at->device], slab, at->offset / IO_ALIGN, large_blocks(length));
    else
        small_give(&store->device[at->device], slab, small_bytes(length));
    space_wake(store);
    slab_prepare_kick(store);
}

static void slab_retire(struct device *device, struct slab *slab)
{
    uint32_t number = (uint32_t)(slab - device->slabs);

    slab->retired = true;
    if (slab->kind == SLAB_LARGE)
        device->large_free_blocks -= slab->free_blocks;
    else if (number == device->small_slab)
        small_close(device);
    log_error("a write failed: nothing more is placed in its slab until the next start",
              KV_STR("device", device->path), KV_UINT("slab", number));
}

void slab_wrote(struct slab_store *store, const struct location *at, int err)
{
    struct device *device = &store->device[at->device];
    struct slab *slab;

    if (err == 0) {
        if (atomic_load_explicit(&device->write_failures, memory_order_relaxed))
            atomic_store(&device->write_failures, 0);
        return;
    }
    SCOPED_LOCK(&store->lock);
    slab = slab_current(store, at);
    if (!slab || slab->retired)
        return; /* other writes of a body that has failed */
    slab_retire(device, slab);
    if (atomic_fetch_add(&device->write_failures, 1) + 1 < WRITE_FAILURES_MAX || device->failing)
        return;
    device->failing = true;
    log_error(
        "writes fail one after the other: nothing more is placed on the device until the next "
        "start",
        KV_STR("device", device->path));
}

void slab_wait_cancel(struct slab_store *store, struct completion *done)
{
    struct completion **at;
    bool found;

    pthread_mutex_lock(&store->lock);
    for (at = &store->waiting; *at && *at != done;)
        at = &(*at)->queued;
    found = *at;
    if (found) {
        *at = done->queued;
        if (!*at)
            store->waiting_last = at;
    }
    pthread_mutex_unlock(&store->lock);
    if (found)
        completion_post(done, -ECANCELED);
}

static void wait_add(struct slab_store *store, struct completion *done) /* lock held */
{
    done->queued = NULL;
    *store->waiting_last = done;
    store->waiting_last = &done->queued;
}

/* On devices `first` up to `end`: those that the allocation asked. */
static void slab_wait(struct slab_store *store, enum slab_kind kind, unsigned first, unsigned end,
                      struct completion *done)
{
    SCOPED_LOCK(&store->lock);
    bool ready = false;
    int err = -ENOSPC;

    for (unsigned i = first; i < end; i++) {
        ready |= device_takes(&store->device[i]) && store->device[i].ready[kind] > 0;
        if (slab_want(store, &store->device[i], kind) == -EAGAIN)
            err = 0;
    }
    if (ready || err < 0) {
        completion_post(done, err);
        return;
    }
    wait_add(store, done);
}

void slab_wait_large(struct slab_store *store, struct completion *done)
{
    slab_wait(store, SLAB_LARGE, 0, store->device_count, done);
}

void slab_wait_run(struct slab_store *store, unsigned device, struct completion *done)
{
    slab_wait(store, SLAB_SMALL, device, device + 1, done);
}

uint64_t slab_given(const struct slab_store *store)
{
    return atomic_load(&store->given);
}

void slab_wait_free(struct slab_store *store, uint64_t given, struct completion *done)
{
    SCOPED_LOCK(&store->lock);

    if (store->given == given)
        wait_add(store, done);
    else
        completion_post(done, 0);
}

enum slab_kind slab_kind_at(const struct slab_store *store, const struct location *at)
{
    SCOPED_LOCK((pthread_mutex_t *)&store->lock);
    const struct slab *slab = slab_current(store, at);

    return slab ? slab->kind : SLAB_FREE;
}

static bool may_place(const struct device *device, const struct slab *slab)
{
    return device_takes(device) && !slab->retired;
}

bool slab_takes(const struct slab_store *store, const struct location *at)
{
    SCOPED_LOCK((pthread_mutex_t *)&store->lock);
    const struct slab *slab = slab_current(store, at);

    return slab && may_place(&store->device[at->device], slab);
}

static bool small_closed(const struct device *device, uint32_t slab, uint64_t live_max)
{
    return slab_is(&device->slabs[slab], USE_DATA, SLAB_SMALL) && slab != device->small_slab &&
           may_place(device, &device->slabs[slab]) && device->slabs[slab].live <= live_max;
}

bool slab_small_next(struct slab_store *store, uint64_t live_max, struct location *at)
{
    SCOPED_LOCK(&store->lock);
    struct location next = *at;
    uint64_t left = 0;

    for (unsigned i = 0; i < store->device_count; i++)
        left += store->device[i].slab_count;
    for (; left; left--) {
        if (++next.slab >= store->device[next.device].slab_count) {
            next.slab = 0;
            next.device = (uint16_t)((next.device + 1) % store->device_count);
        }
        if (!small_closed(&store->device[next.device], next.slab, live_max))
            continue;
        next.generation = store->device[next.device].slabs[next.slab].generation;
        *at = next;
        return true;
    }
    return false;
}

bool slab_lend(struct slab_store *store, unsigned device)
{
    SCOPED_LOCK(&store->lock);
    struct device *d = &store->device[device];

    if (!device_takes(d) || !d->move_reserve)
        return false;
    d->move_reserve = 0;
    if (!space_slabs(d, SLAB_SMALL))
        d->move_reserve = d->move_kept; /* it is taken */
    return !d->move_reserve;
}

uint64_t slab_small_room(const struct slab_store *store)
{
    SCOPED_LOCK((pthread_mutex_t *)&store->lock);
    uint64_t room = 0;

    for (unsigned i = 0; i < store->device_count; i++) {
        const struct device *d = &store->device[i];

        room += (uint64_t)small_slabs_left(d) * (slab_bytes() - SLAB_HEADER_BYTES);
        if (device_takes(d) && d->small_slab != UINT32_MAX)
            room += slab_bytes() - d->slabs[d->small_slab].next;
    }
    return room;
}

struct slab_space slab_space(const struct slab_store *store)
{
    SCOPED_LOCK((pthread_mutex_t *)&store->lock);

    return space_sums(store);
}

void slab_on_low(struct slab_store *store, unsigned share,
                 void (*fn)(void *arg, enum slab_kind kind, bool refused), void *arg)
{
    SCOPED_LOCK(&store->lock);

    store->low_share = share;
    store->low_fn = fn;
    store->low_arg = arg;
}
