/* cache/filler.c - the thread that puts ended fills on the devices, one after another, and hands
 * out the buffers that fills may hold.
 *
 * Buffers: half of the 512 KiB pool is the fills'. A fill keeps what it received until it has
 * ended, so fills that each hold a part and wait for more could wait for ever; therefore all
 * buffers of a fill are granted at once, in order of asking, and no fill may ask for more than
 * there are. One-unit fills hold one 64 KiB buffer and wait for none.
 *
 * Fills of clean objects need no flush: the row is committed and nobody waits. After a crash a row
 * may point to bytes that never arrived; their checksum decides, a mismatch is a miss (reader.c).
 */
#include "cache/fill.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/loop.h"
#include "cache/metrics.h"

#define FILLER_SLEEP_MS 1000 /* every call wakes the loop */
#define FILLER_QUEUE_MAX                                                                           \
    256 /* ended fills waiting for the devices; more are served once and not kept */
#define FILLER_ROOM_WAIT_MS 1000

struct filler {
    struct cache *cache;
    struct loop_poll *poll;
    pthread_t thread;
    bool running;
    _Atomic bool stop;
    pthread_mutex_t lock;    /* guards what follows */
    bool storing;            /* what ended well is taken */
    unsigned budget, in_use; /* 512 KiB buffers */
    struct fill *asking, **asking_last;
    struct fill *ended, **ended_last;
    unsigned ended_count;
    bool no_room;           /* filler's thread: the last one waited in vain */
    struct fill *wanting;   /* filler's thread: fills waiting for a buffer */
    _Atomic unsigned wants; /* of them and those on the way there */
};

/* ---- buffers ---- */

static unsigned fill_need(const struct fill *fill)
{
    return fill->class == IOBUF_512K ? fill->buf_count : 0;
}

unsigned filler_buffers_max(const struct filler *filler)
{
    return filler->budget;
}

void filler_ask(struct filler *filler, struct fill *fill)
{
    SCOPED_LOCK(&filler->lock);
    if (!fill_need(fill) ||
        (!filler->asking && filler->in_use + fill_need(fill) <= filler->budget)) {
        filler->in_use += fill_need(fill);
        fill->granted =
            true; /* nobody else knows the fill's lock yet, and readers do not look at it */
        return;
    }
    *filler->asking_last = fill;
    filler->asking_last = &fill->queued;
}

static void asking_drop(struct filler *filler, struct fill *fill)
{
    struct fill **at = &filler->asking;

    while (*at && *at != fill)
        at = &(*at)->queued;
    if (!*at)
        return;
    *at = fill->queued;
    if (!*at)
        filler->asking_last = at;
}

static bool fill_ref_alive(struct fill *fill)
{
    uint32_t refs = atomic_load(&fill->refs);

    while (refs)
        if (atomic_compare_exchange_weak(&fill->refs, &refs, refs + 1))
            return true;
    return false; /* on its way to filler_give */
}

static struct fill *asking_grant(struct filler *filler)
{
    struct fill *fill;

    while ((fill = filler->asking)) {
        if (filler->in_use + fill_need(fill) > filler->budget)
            return NULL;
        asking_drop(filler, fill);
        if (!fill_ref_alive(fill))
            continue;
        filler->in_use += fill_need(fill);
        return fill;
    }
    return NULL;
}

/* Its buffers are back, if it has ended or was granted them. Then others may have become possible.
 * A grant that is on its way is given back by the last reference. */
void filler_give(struct filler *filler, struct fill *fill)
{
    struct fill *next;
    bool granted;

    pthread_mutex_lock(&fill->lock);
    granted = fill->granted;
    fill->granted = false;
    pthread_mutex_unlock(&fill->lock);
    pthread_mutex_lock(&filler->lock);
    if (granted)
        filler->in_use -= fill_need(fill);
    else
        asking_drop(filler, fill);
    next = asking_grant(filler);
    pthread_mutex_unlock(&filler->lock);
    while (next) {
        pthread_mutex_lock(&next->lock);
        next->granted = true;
        pthread_mutex_unlock(&next->lock);
        fill_resume(next);
        fill_unref(next);
        pthread_mutex_lock(&filler->lock);
        next = asking_grant(filler);
        pthread_mutex_unlock(&filler->lock);
    }
}

static struct filler *filler_of(const struct fill *fill)
{
    return fill->object->cache->content->filler;
}

static void on_got(struct completion *done)
{
    struct fill *fill = container_of(done, struct fill, got);
    struct filler *filler = filler_of(fill);
    struct fill **at = &filler->wanting;

    while (*at != fill)
        at = &(*at)->wanting_next;
    *at = fill->wanting_next;
    filler->wants--;
    pthread_mutex_lock(&fill->lock);
    fill->short_of_buffer = false;
    if (!done->err)
        fill->spare = TAKE(fill->arriving);
    pthread_mutex_unlock(&fill->lock);
    if (!done->err)
        fill_resume(fill);
    fill_unref(fill);
}

static void on_want(struct completion *done)
{
    struct fill *fill = container_of(done, struct fill, want);
    struct filler *filler = filler_of(fill);

    fill->wanting_next = filler->wanting;
    filler->wanting = fill;
    fill->got = (struct completion){.fn = on_got, .loop = done->loop};
    if (filler->stop)
        completion_post(&fill->got, -ECANCELED);
    else
        iobuf_get(fill->class, &fill->arriving, &fill->got);
}

/* The fills have ended by now; what they still wait for would hold them, and a buffer, for ever. */
static void wants_cancel(struct filler *filler)
{
    for (struct fill *fill = filler->wanting; fill; fill = fill->wanting_next) {
        void (*cancel)(struct completion *) = fill->got.cancel;

        if (cancel)
            cancel(&fill->got);
    }
    while (filler->wants)
        loop_poll_once(filler->poll, FILLER_SLEEP_MS);
}

void filler_want_buffer(struct filler *filler, struct fill *fill)
{
    fill_ref(fill);
    filler->wants++;
    fill->want = (struct completion){.fn = on_want, .loop = loop_poll_loop(filler->poll)};
    completion_post(&fill->want, 0);
}

/* ---- storing: filler's thread ---- */

static uint32_t extent_length(const struct fill *fill)
{
    return (uint32_t)MIN(fill->object->length - (uint64_t)fill->index * EXTENT_BYTES_MAX,
                         (uint64_t)EXTENT_BYTES_MAX);
}

static struct cell *object_cell(struct object *object, uint32_t index)
{
    SCOPED_LOCK(&object->lock);
    return object->cells[index] ? cell_ref(object->cells[index]) : NULL;
}

struct room_wait {
    struct timer timer;
    struct slab_store *slabs;
    struct awaited awaited;
};

static void room_timer_fired(struct timer *timer)
{
    struct room_wait *wait = container_of(timer, struct room_wait, timer);

    slab_wait_cancel(wait->slabs, &wait->awaited.done);
}

/* Eviction was asked for by the refusal; without it every reader that has not taken its bytes yet
 * would pay for them again. Fills behind this one need room too, so they do not wait again when it
 * had none. */
static bool store_room_wait(struct filler *filler, uint64_t given, uint64_t *until_ns)
{
    struct loop *loop = loop_poll_loop(filler->poll);
    struct slab_store *slabs = filler->cache->slabs;
    struct room_wait wait = {.timer.fn = room_timer_fired, .slabs = slabs};
    uint64_t now = clock_mono_ns();

    if (*until_ns == 0)
        *until_ns = now + FILLER_ROOM_WAIT_MS * NS_PER_MS;
    if (filler->no_room || filler->stop || now >= *until_ns ||
        content_stats(filler->cache).clean_bytes == 0)
        return false;
    timer_start(loop, &wait.timer, *until_ns - now);
    slab_wait_free(slabs, given, awaited_init(&wait.awaited, loop));
    (void)loop_await(filler->poll, &wait.awaited); /* the next try tells */
    timer_stop(loop, &wait.timer);
    return true;
}

/* A new extent, waiting for a slab to be prepared or for eviction if need be. */
static int store_open(struct filler *filler, struct fill *fill, struct extent_write **ret)
{
    struct slab_store *slabs = filler->cache->slabs;
    struct awaited awaited;
    uint64_t until_ns = 0;
    int err, waited = 0;

    do {
        uint64_t given = slab_given(slabs);

        err = extent_write_open(slabs, fill->object->id, fill->index, extent_length(fill), ret);
        if (err == -EAGAIN) {
            slab_wait_large(slabs, awaited_init(&awaited, loop_poll_loop(filler->poll)));
            waited = loop_await(filler->poll, &awaited);
        } else if (err != -ENOSPC || !store_room_wait(filler, given, &until_ns)) {
            break;
        }
    } while (!waited);
    filler->no_room = err == -ENOSPC;
    return err;
}

static int store_write(struct filler *filler, struct fill *fill, struct extent_write *write)
{
    struct loop *loop = loop_poll_loop(filler->poll);
    uint32_t first = (uint32_t)(fill->start % EXTENT_BYTES_MAX);
    struct extent_piece pieces[EXTENT_UNITS_MAX];
    struct awaited awaited[EXTENT_UNITS_MAX], sealed;
    int err = 0;

    for (unsigned i = 0; i < fill->buf_count; i++) {
        uint32_t at = i * IOBUF_BYTES(fill->class);
        struct span bytes = {fill->bufs[i]->base, MIN(IOBUF_BYTES(fill->class), fill->length - at)};

        extent_write_units(write, &pieces[i], first + at, bytes, awaited_init(&awaited[i], loop));
    }
    for (unsigned i = 0; i < fill->buf_count; i++) {
        int one = loop_await(filler->poll, &awaited[i]);

        err = err ? err : one;
    }
    if (err)
        return err;
    extent_write_seal(write, extent_length(fill), awaited_init(&sealed, loop));
    return loop_await(filler->poll, &sealed);
}

/* Readers see the units from now on; stores run one after another, so no one else adds cells or
 * units. */
static void store_publish(struct fill *fill, struct cell *cell, const struct extent *extent,
                          bool fresh)
{
    struct object *object = fill->object;
    unsigned first = (unsigned)(fill->start % EXTENT_BYTES_MAX / UNIT_BYTES);
    unsigned units = (unsigned)((fill->length + UNIT_BYTES - 1) / UNIT_BYTES);

    SCOPED_LOCK(&object->lock);
    for (unsigned i = first; i < first + units; i++) {
        cell->extent.crc[i] = extent->crc[i];
        cell->extent.present |= 1ULL << i;
    }
    if (fresh)
        object_set_cell(object, fill->index, cell_ref(cell));
}

struct store_hook {
    struct change_hook hook;
    struct object *object; /* references */
    struct cell *cell;
};

static void store_order(struct change_hook *base, struct change *change)
{
    struct store_hook *hook = container_of(base, struct store_hook, hook);
    struct object *object = hook->object;

    SCOPED_LOCK(&object->lock);
    if (object->rows && !object_is_located(object) &&
        object->cells[hook->cell->extent.index] == hook->cell)
        change_put_extent(change, object, &hook->cell->extent);
}

static void store_tell_evict(struct object *object, const struct cell *cell)
{
    SCOPED_LOCK(&object->lock);
    if (object->known && object->cells[cell->extent.index] == cell)
        evict_know(object->cache->content->evict, object->id, &cell->extent);
}

static void store_end(struct change_hook *base, int err)
{
    struct store_hook *hook = container_of(base, struct store_hook, hook);

    if (!err) {
        store_tell_evict(hook->object, hook->cell); /* known before it counts as clean */
        object_settled(hook->object);
    }
    hook->cell = cell_unref(hook->cell);
    hook->object = object_unref(hook->object);
    free(hook);
}

/* Nobody waits for it (design 4). An object without rows gets them, and those of its extents, when
 * it is linked. */
void object_commit_extent(struct object *object, struct cell *cell)
{
    struct change *change;
    struct store_hook *hook;

    pthread_mutex_lock(&object->lock);
    if (!object->rows) {
        pthread_mutex_unlock(&object->lock);
        return;
    }
    pthread_mutex_unlock(&object->lock);
    change = change_new();
    hook = xcalloc(1, sizeof(*hook));
    hook->hook = (struct change_hook){.order = store_order, .end = store_end};
    hook->object = object_ref(object);
    hook->cell = cell_ref(cell);
    change_add_hook(change, &hook->hook);
    commit_submit(object->cache->committer, change);
}

static int store_fill(struct filler *filler, struct fill *fill)
{
    struct slab_store *slabs = filler->cache->slabs;
    struct cell *cell = object_cell(fill->object, fill->index);
    struct extent_write *write;
    struct extent extent;
    bool fresh = !cell;
    int err = 0;

    if (!fresh && !cell_takes_units(cell)) {
        err = -ESTALE;
    } else if (!fresh) {
        pthread_mutex_lock(&fill->object->lock);
        extent = cell->extent;
        pthread_mutex_unlock(&fill->object->lock);
        write = extent_write_reopen(slabs, fill->object->id, &extent);
    } else {
        err = store_open(filler, fill, &write);
    }
    if (!err) {
        err = store_write(filler, fill, write);
        if (err)
            extent_write_failed(write, err);
        if (err)
            write = extent_write_abort(write);
    }
    if (err && !fresh && !cell_takes_units(cell)) /* also since just now: a write failed */
        object_commit_eviction(fill->object, fill->index);
    if (err) {
        cell_unref(cell);
        return err;
    }
    extent = extent_write_end(write);
    if (fresh) {
        cell = cell_new(slabs, &extent);
        cell->extent.present = 0;
    }
    store_publish(fill, cell, &extent, fresh);
    FAILPOINT("fill_stored");
    if (object_state(fill->object) != OBJECT_CLEAN) /* they are owed to the cloud again */
        commit_wrote(filler->cache->committer, extent.at.device);
    object_commit_extent(fill->object, cell);
    cell_unref(cell);
    return 0;
}

static struct fill *ended_pop(struct filler *filler)
{
    struct fill *fill;

    SCOPED_LOCK(&filler->lock);
    fill = filler->ended;
    if (!fill)
        return NULL;
    filler->ended = fill->queued;
    if (!filler->ended)
        filler->ended_last = &filler->ended;
    filler->ended_count--;
    return fill;
}

static void fill_done(struct fill *fill)
{
    fill_leave_object(fill);
    fill_release(fill);
    fill_unref(fill);
}

void filler_store(struct filler *filler, struct fill *fill)
{
    struct loop *loop = loop_poll_loop(filler->poll);
    bool taken;

    fill->queued = NULL;
    pthread_mutex_lock(&filler->lock);
    taken = filler->storing && filler->ended_count < FILLER_QUEUE_MAX;
    if (taken) {
        *filler->ended_last = fill;
        filler->ended_last = &fill->queued;
        filler->ended_count++;
    }
    pthread_mutex_unlock(&filler->lock);
    if (taken) {
        loop->ops->wake(loop);
        return;
    }
    STAT_INC(fills_not_kept);
    fill_done(fill);
}

static void filler_store_all(struct filler *filler)
{
    struct fill *fill;

    while (!filler->stop && (fill = ended_pop(filler))) {
        int err = store_fill(filler, fill);

        if (err)
            STAT_INC(fills_not_kept);
        if (err && err != -ENOSPC && err != -ESTALE) /* eviction knows of the first */
            log_warn_limited("bytes from the cloud could not be kept", KV_ERR(err));
        fill_done(fill);
    }
}

static void filler_store_nothing(struct filler *filler)
{
    struct fill *fill;

    pthread_mutex_lock(&filler->lock);
    filler->storing = false;
    pthread_mutex_unlock(&filler->lock);
    while ((fill = ended_pop(filler)))
        fill_done(fill);
}

static void *filler_main(void *arg)
{
    struct filler *filler = arg;
    struct loop *loop = loop_poll_loop(filler->poll);
    const struct io_ops *ops = slab_io_ops(filler->cache->slabs);

    pthread_setname_np(pthread_self(), "filler");
    loop_enter(loop);
    if (ops->attach && ops->attach(ops, loop) < 0) {
        log_error("the fill thread has no I/O ring: nothing read from the cloud is kept");
        filler_store_nothing(filler);
    }
    while (!filler->stop) {
        filler_store_all(filler);
        loop_poll_once(filler->poll, FILLER_SLEEP_MS);
    }
    wants_cancel(filler);
    if (ops->detach)
        ops->detach(ops, loop);
    loop_enter(NULL);
    return NULL;
}

/* ---- open, close: main thread ---- */

struct filler *filler_new(struct cache *cache)
{
    struct filler *filler = xcalloc(1, sizeof(*filler));

    filler->cache = cache;
    filler->poll = loop_poll_new();
    filler->budget = (unsigned)MAX(iobuf_pool_stats(IOBUF_512K).total / 2, 1);
    filler->asking_last = &filler->asking;
    filler->ended_last = &filler->ended;
    pthread_mutex_init(&filler->lock, NULL);
    return filler;
}

int filler_start(struct filler *filler)
{
    int err;

    filler->storing = true;
    err = pthread_create(&filler->thread, NULL, filler_main, filler);
    filler->running = !err;
    if (err)
        filler_store_nothing(filler);
    return -err;
}

void filler_stop(struct filler *filler)
{
    struct loop *loop = loop_poll_loop(filler->poll);

    if (!filler->running)
        return;
    filler->stop = true;
    loop->ops->wake(loop);
    pthread_join(filler->thread, NULL);
    filler->running = false;
    filler_store_nothing(filler);
}

struct filler *filler_free(struct filler *filler)
{
    if (!filler)
        return NULL;
    assert(!filler->running && !filler->asking && !filler->in_use);
    loop_poll_free(filler->poll);
    pthread_mutex_destroy(&filler->lock);
    free(filler);
    return NULL;
}
