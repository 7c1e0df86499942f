/* Space: allocation, generations, the rule that a slab's generation is durable before its use,
 * fullness and giving back, what a start makes of marks. Simulated devices, no workers:
 * deterministic. */
#include "tests/unit/unit.h"

#include <semaphore.h>

#include "base/log.h"
#include "cache/store.h"
#include "tests/support/devices.h"

#define SLABS 8u
#define DATA_SLABS                                                                                 \
    (SLABS - 4 - 1) /* for large extents: four are the log's, one is for small records */

static void log_nowhere(void *arg, const char *line)
{
}

static void assert_same_place(const struct location *a, const struct location *b)
{
    assert_int_equal(a->device, b->device);
    assert_int_equal(a->slab, b->slab);
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->offset, b->offset);
}

static struct devices serve(unsigned count, unsigned slabs)
{
    struct devices d;

    log_set_sink(log_nowhere, NULL);
    devices_init(&d, count, slabs);
    devices_serve(&d);
    return d;
}

static unsigned fill_large(struct slab_store *store, uint32_t length, struct location *ret,
                           unsigned max)
{
    unsigned n = 0;

    while (n < max && slab_alloc_large(store, length, &ret[n]) == 0)
        n++;
    return n;
}

static void test_slab__sixteen_full_extents_fit_a_slab(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at[17];

    assert_int_equal(fill_large(d.store, EXTENT_BYTES_MAX, at, 17), 17);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(at[i].slab, at[0].slab);
        assert_int_equal(at[i].offset, 4096 + i * (EXTENT_BYTES_MAX + 4096));
    }
    assert_int_not_equal(at[16].slab, at[0].slab);
    devices_done(&d);
}

static void test_slab__extents_never_overlap(void **state)
{
    struct devices d = serve(1, SLABS);
    static struct {
        struct location at;
        uint32_t length;
    } live[400];
    unsigned count = 0;
    uint64_t draw = 88172645463325252ULL;

    for (int i = 0; i < 4000; i++) {
        draw ^= draw << 13, draw ^= draw >> 7, draw ^= draw << 17;
        if (draw % 3 && count < countof(live)) {
            live[count].length = 1 + (uint32_t)(draw >> 8) % EXTENT_BYTES_MAX / (1 + draw % 5 * 40);
            if (slab_alloc_large(d.store, live[count].length, &live[count].at) == 0)
                count++; /* map_set asserts that no block is taken twice */
        } else if (count > 0) {
            unsigned k = (unsigned)(draw >> 20) % count;

            slab_free(d.store, &live[k].at, live[k].length);
            live[k] = live[--count];
        }
    }
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = 0; k < i; k++)
            assert_true(
                live[i].at.slab != live[k].at.slab ||
                live[i].at.offset >= live[k].at.offset + large_blocks(live[k].length) * 4096 ||
                live[k].at.offset >= live[i].at.offset + large_blocks(live[i].length) * 4096);
    devices_done(&d);
}

static void test_slab__full_says_so_and_goes_on_when_freed(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at[200], again;
    uint64_t free_at_start = slab_space(d.store).free_bytes;
    unsigned n = fill_large(d.store, EXTENT_BYTES_MAX, at, countof(at));

    assert_int_equal(n, 16 * DATA_SLABS);
    assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &again), -ENOSPC);
    slab_free(d.store, &at[20], EXTENT_BYTES_MAX);
    assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &again), 0);
    assert_same_place(&again, &at[20]);
    for (unsigned i = 0; i < n; i++)
        slab_free(d.store, &at[i], EXTENT_BYTES_MAX);
    assert_int_equal(slab_space(d.store).free_bytes, free_at_start);
    assert_int_equal(fill_large(d.store, EXTENT_BYTES_MAX, at, countof(at)), n);
    devices_done(&d);
}

static void test_slab__the_log_finds_slabs_when_data_is_full(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at[200];
    uint32_t slab[5], generation;

    fill_large(d.store, EXTENT_BYTES_MAX, at, countof(at));
    for (unsigned i = 0; i < 5; i++) /* its own and what nobody has taken yet */
        assert_int_equal(slab_take_log(d.store, 0, &slab[i], &generation), 0);
    assert_int_equal(slab_take_log(d.store, 0, &slab[0], &generation), -ENOSPC);
    slab_give_log(d.store, 0, slab[2]);
    assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &at[0]),
                     -ENOSPC); /* still the log's */
    assert_int_equal(slab_take_log(d.store, 0, &slab[1], &generation), 0);
    assert_int_equal(slab[1], slab[2]);
    assert_int_equal(generation, 2);
    devices_done(&d);
}

static void test_slab__trim_gives_the_tail_back(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location first, second;

    assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &first), 0);
    slab_trim(d.store, &first, EXTENT_BYTES_MAX, 10000);
    assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &second), 0);
    assert_int_equal(second.offset, first.offset + 4 * 4096);
    slab_free(d.store, &first, 10000);
    slab_free(d.store, &second, EXTENT_BYTES_MAX);
    devices_done(&d);
}

static void test_slab__small_slab_is_free_when_nothing_lives_in_it(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at[129], next;
    struct location hand = {0};
    uint32_t generation;
    enum slab_kind kind;

    for (unsigned i = 0; i < 129;
         i++) /* 512 KiB runs of one record: 129 fill the slab, the next opens another */
        assert_int_equal(slab_alloc_run(d.store, 0, 512 << 10, small_bytes(65536), &at[i]), 0);
    assert_false(slab_small_next(d.store, UINT64_MAX, &hand)); /* it is open */
    assert_int_equal(slab_alloc_run(d.store, 0, 512 << 10, small_bytes(100), &next), 0);
    assert_int_not_equal(next.slab, at[0].slab);
    for (unsigned i = 0; i < 128; i++)
        slab_free(d.store, &at[i], 65536);
    for (unsigned i = 0; i < 2; i++) { /* round and round */
        assert_true(slab_small_next(d.store, 70000, &hand));
        assert_int_equal(hand.slab, at[0].slab);
    }
    assert_false(slab_small_next(d.store, 60000, &hand));
    assert_int_equal(slab_kind_at(d.store, &at[128]), SLAB_SMALL);
    slab_free(d.store, &at[128], 65536);
    assert_int_equal(slab_kind_at(d.store, &at[128]), SLAB_FREE);
    assert_int_equal(slab_header_read(d.store, 0, at[0].slab, &kind, &generation), 0);
    assert_int_equal(generation, 1);
    devices_done(&d);
}

static void test_slab__emptying_what_takes_nothing_would_be_no_room(void **state)
{
    struct devices d = serve(2, SLABS);
    struct location at, failed = {0}, hand = {0};
    unsigned count = 0;

    for (unsigned device = 0; device < 2; device++)
        for (unsigned i = 0; i < 130; i++) { /* one slab, and another is opened */
            assert_int_equal(slab_alloc_run(d.store, device, 512 << 10, small_bytes(65536), &at),
                             0);
            if (device == 0 && i == 0)
                failed = at;
        }
    assert_true(slab_small_next(d.store, UINT64_MAX, &hand) && slab_takes(d.store, &hand));
    slab_wrote(d.store, &failed, -EIO);
    assert_false(slab_takes(d.store, &failed));
    for (; count < 3 && slab_small_next(d.store, UINT64_MAX, &hand); count++)
        assert_int_equal(hand.device, 1);
    assert_int_equal(count, 3);
    slab_device_fence(d.store, 1);
    assert_false(slab_small_next(d.store, UINT64_MAX, &hand));
    devices_done(&d);
}

/* Large extents leave small records a share; those may also have slabs that ran empty. */
static void test_slab__small_records_have_a_share(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location run, at[200];
    unsigned n = fill_large(d.store, EXTENT_BYTES_MAX, at, countof(at)), runs = 0;

    while (slab_alloc_run(d.store, 0, 512 << 10, 512 << 10, &run) == 0)
        runs++;
    assert_int_equal(runs, 129);
    for (unsigned i = 0; i < n; i++)
        slab_free(d.store, &at[i], EXTENT_BYTES_MAX);
    assert_int_equal(slab_alloc_run(d.store, 0, 4096, 128, &run), 0);
    assert_int_equal(run.generation, 2);
    assert_int_equal(slab_kind_at(d.store, &run), SLAB_SMALL);
    devices_done(&d);
}

/* S4: whatever a cut leaves, no slab was used under a generation that the device does not know. */
static void test_slab__generation_is_durable_before_use(void **state)
{
    for (uint64_t seed = 0; seed < 30; seed++) {
        struct devices d = serve(1, SLABS);
        struct location large, small;
        uint32_t log, log_generation, generation;
        enum slab_kind kind;

        assert_int_equal(slab_alloc_large(d.store, 5000, &large), 0);
        assert_int_equal(slab_alloc_run(d.store, 0, 4096, 128, &small), 0);
        assert_int_equal(slab_take_log(d.store, 0, &log, &log_generation), 0);
        io_sim_crash(d.sim, seed);
        devices_close(&d, false);
        assert_int_equal(devices_open(&d), 0);
        assert_int_equal(slab_header_read(d.store, 0, large.slab, &kind, &generation), 0);
        assert_int_equal(kind, SLAB_LARGE);
        assert_int_equal(generation, large.generation);
        assert_int_equal(slab_header_read(d.store, 0, small.slab, &kind, &generation), 0);
        assert_int_equal(kind, SLAB_SMALL);
        assert_int_equal(slab_header_read(d.store, 0, log, &kind, &generation), 0);
        assert_int_equal(kind, SLAB_LOG);
        assert_int_equal(generation, log_generation);
        devices_done(&d);
    }
}

/* The generation that a slab of that kind was used under, and the one a start finds after a cut. */
static bool header_lost(enum slab_kind kind, uint64_t seed, bool flushed)
{
    struct devices d = serve(1, SLABS);
    struct location at = {0};
    enum slab_kind found;
    uint32_t generation;
    bool lost;

    if (!flushed)
        io_sim_skip_flush(d.sim, 0);
    if (kind == SLAB_LARGE)
        assert_int_equal(slab_alloc_large(d.store, 5000, &at), 0);
    else if (kind == SLAB_SMALL)
        assert_int_equal(slab_alloc_run(d.store, 0, 4096, 128, &at), 0);
    else
        assert_int_equal(slab_take_log(d.store, 0, &at.slab, &at.generation), 0);
    io_sim_crash(d.sim, seed);
    devices_close(&d, false);
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_header_read(d.store, 0, at.slab, &found, &generation), 0);
    lost = found != kind || generation != at.generation;
    devices_done(&d);
    return lost;
}

/* The mutants of the test above: without its flush some cut shows an older generation, whatever the
 * slab is for. */
static void test_slab__each_kind_needs_its_headers_flush(void **state)
{
    for (enum slab_kind kind = SLAB_LARGE; kind <= SLAB_LOG; kind++) {
        unsigned lost = 0;

        for (uint64_t seed = 0; seed < 30; seed++) {
            assert_false(header_lost(kind, seed, true));
            lost += header_lost(kind, seed, false);
        }
        assert_true(lost > 0);
    }
}

static void test_slab__marks_are_what_a_start_keeps(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location keep, drop, small, stale, again;
    uint32_t log, other_log, generation;

    assert_int_equal(slab_alloc_large(d.store, 100000, &keep), 0);
    assert_int_equal(slab_alloc_large(d.store, 100000, &drop), 0);
    assert_int_equal(slab_alloc_run(d.store, 0, 4096, small_bytes(700), &small), 0);
    assert_int_equal(slab_take_log(d.store, 0, &log, &generation), 0);
    assert_int_equal(slab_take_log(d.store, 0, &other_log, &generation), 0);
    devices_close(&d, true);
    assert_int_equal(devices_open(&d), 0);
    assert_true(slab_super(d.store)->clean);
    assert_false(slab_super(d.store)->fresh);
    stale = keep;
    stale.generation++;
    assert_int_equal(slab_mark_extent(d.store, &keep, 100000), 0);
    assert_int_equal(slab_mark_extent(d.store, &keep, 100000), -EEXIST);
    assert_int_equal(slab_mark_extent(d.store, &stale, 100000), -ESTALE);
    assert_int_equal(slab_mark_extent(d.store, &small, 700), 0);
    slab_mark_log(d.store, 0, log);
    slab_store_serve(d.store);
    assert_int_equal(slab_alloc_large(d.store, 100000, &again), 0);
    assert_same_place(&again, &drop);
    assert_int_equal(slab_take_log(d.store, 0, &log, &generation), 0);
    assert_int_equal(log, other_log);
    assert_int_equal(generation, 2);
    slab_free(d.store, &small, 700);
    assert_int_equal(slab_kind_at(d.store, &small), SLAB_SMALL); /* it is the one in use */
    devices_done(&d);
}

/* Behind the last live record. A box that starts often would else run out of slabs. */
static void test_slab__a_start_goes_on_in_the_emptiest_small_slab(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location full, dead, live, next;

    assert_int_equal(slab_alloc_run(d.store, 0, 512 << 10, small_bytes(65536), &live), 0);
    do {
        full = live;
        assert_int_equal(slab_alloc_run(d.store, 0, 512 << 10, small_bytes(65536), &live), 0);
    } while (live.slab == full.slab);
    assert_int_equal(slab_alloc_run(d.store, 0, 8192, small_bytes(5000), &live), 0);
    assert_int_equal(slab_alloc_run(d.store, 0, 4096, small_bytes(100), &dead), 0);
    for (unsigned start = 0; start < 3 * SLABS; start++) {
        devices_close(&d, false);
        assert_int_equal(devices_open(&d), 0);
        assert_int_equal(slab_mark_extent(d.store, &full, 65536), 0);
        assert_int_equal(slab_mark_extent(d.store, &live, 5000), 0);
        slab_store_serve(d.store);
        assert_int_equal(slab_alloc_run(d.store, 0, 4096, small_bytes(100), &next), 0);
        assert_same_place(&next, &dead);
    }
    devices_done(&d);
}

/* Before marks are known the log can be continued all the same. */
static void test_slab__log_finds_a_slab_before_serving(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at[200];
    uint32_t slab, generation;

    fill_large(d.store, EXTENT_BYTES_MAX, at, countof(at));
    devices_close(&d, false);
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_take_log(d.store, 0, &slab, &generation), 0);
    assert_int_equal(generation, 1);
    devices_done(&d);
}

static void test_slab__one_bad_header_copy_costs_nothing(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at, next;

    assert_int_equal(slab_alloc_large(d.store, 5000, &at), 0);
    devices_close(&d, false);
    io_sim_corrupt(d.sim, "slab0", slab_device_offset(at.slab) + 33, 0xff);
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_mark_extent(d.store, &at, 5000), 0);
    devices_close(&d, false);
    io_sim_corrupt(d.sim, "slab0", slab_device_offset(at.slab + 1) - 4096 + 33, 0xff);
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_mark_extent(d.store, &at, 5000), -ESTALE);
    slab_store_serve(d.store);
    for (unsigned i = 0; slab_alloc_large(d.store, EXTENT_BYTES_MAX, &next) == 0; i++)
        assert_int_not_equal(next.slab, at.slab); /* a slab of unknown generation is not used */
    devices_done(&d);
}

static void test_slab__devices_take_turns(void **state)
{
    struct devices d = serve(2, SLABS);
    struct location at;
    unsigned count[2] = {0};

    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &at), 0);
        count[at.device]++;
    }
    assert_int_equal(count[0], 20);
    slab_device_fence(d.store, 0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &at), 0);
        assert_int_equal(at.device, 1);
    }
    devices_done(&d);
}

static void test_slab__a_failed_flush_fences_the_device(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at;

    io_sim_fail(d.sim, IO_SIM_FLUSH, 1, -EIO);
    assert_int_equal(slab_alloc_large(d.store, 5000, &at), -ENOSPC);
    assert_int_equal(slab_space(d.store).free_bytes, 0);
    assert_int_equal(slab_device_io(d.store, 0)->ops->flush(slab_device_io(d.store, 0)), -EIO);
    devices_done(&d);
}

struct low {
    unsigned told[SLAB_LOG], refused[SLAB_LOG];
};

static void count_low(void *arg, enum slab_kind kind, bool refused)
{
    struct low *low = arg;

    low->told[kind]++;
    low->refused[kind] += refused;
}

static void test_slab__tells_when_room_runs_low(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at[200];
    struct low low = {0};

    slab_on_low(d.store, (unsigned)(slab_space(d.store).bytes / (40 << 20) + 1), count_low, &low);
    for (unsigned i = 0; i < 38; i++)
        assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &at[i]), 0);
    assert_int_equal(low.told[SLAB_LARGE], 0);
    fill_large(d.store, EXTENT_BYTES_MAX, at, countof(at));
    assert_true(low.told[SLAB_LARGE] >= 10 && low.refused[SLAB_LARGE] >= 1);
    assert_int_equal(low.told[SLAB_SMALL], 0);
    devices_done(&d);
}

/* Told once when the last slab is opened, then each time there is none. */
static void test_slab__tells_when_small_records_have_their_last_slab(void **state)
{
    struct devices d = serve(1, SLABS);
    struct location at;
    struct low low = {0};
    uint64_t room = slab_small_room(d.store);

    slab_on_low(d.store, 0, count_low, &low);
    while (slab_alloc_run(d.store, 0, 512 << 10, 512 << 10, &at) == 0) {
        assert_true(slab_small_room(d.store) < room);
        room = slab_small_room(d.store);
        assert_int_equal(low.told[SLAB_SMALL], room < slab_bytes() ? 1 : 0);
    }
    assert_int_equal(low.told[SLAB_SMALL], 2);
    assert_int_equal(low.refused[SLAB_SMALL], 1);
    assert_int_equal(low.told[SLAB_LARGE], 0);
    devices_done(&d);
}

/* ---- with a worker: allocations do not wait ---- */

static int hold_worker(void *arg)
{
    sem_wait(arg);
    return 0;
}

static void test_slab__waiting_ends_when_a_slab_is_ready(void **state)
{
    struct devices d;
    sem_t may_prepare; /* before that nothing can be ready, so that the first allocation waits */
    struct loop_poll *poll = loop_poll_new();
    struct location at;
    unsigned waits = 0, n = 0;
    int err;

    log_set_sink(log_nowhere, NULL);
    devices_init(&d, 1, SLABS);
    d.slab_conf.workers = workers_new(1, "prepare");
    sem_init(&may_prepare, 0, 0);
    worker_run(d.slab_conf.workers, hold_worker, &may_prepare, NULL);
    loop_enter(loop_poll_loop(poll));
    devices_serve(&d);
    while ((err = slab_alloc_large(d.store, EXTENT_BYTES_MAX, &at)) != -ENOSPC) {
        struct awaited awaited;

        n += err == 0;
        if (err == 0)
            continue;
        assert_int_equal(err, -EAGAIN);
        if (!waits++)
            sem_post(&may_prepare);
        slab_wait_large(d.store, awaited_init(&awaited, loop_poll_loop(poll)));
        assert_false(awaited.fired);
        (void)loop_await(poll, &awaited);
    }
    assert_true(waits > 0);
    assert_int_equal(n, 16 * DATA_SLABS);
    devices_done(&d);
    workers_free(d.slab_conf.workers);
    sem_destroy(&may_prepare);
    loop_enter(NULL);
    loop_poll_free(poll);
}

struct held_worker {
    sem_t held, go_on;
};

static int hold_worker_told(void *arg)
{
    struct held_worker *held = arg;

    sem_post(&held->held);
    sem_wait(&held->go_on);
    return 0;
}

/* A lane writes to its own device: another one's slab would only let it ask again and again. */
static void test_slab__a_lane_waits_for_its_own_device(void **state)
{
    struct devices d;
    struct held_worker held;
    struct loop_poll *poll = loop_poll_new();
    struct awaited awaited;
    struct location at;

    log_set_sink(log_nowhere, NULL);
    devices_init(&d, 2, SLABS);
    d.slab_conf.workers = workers_new(1, "prepare");
    sem_init(&held.held, 0, 0);
    sem_init(&held.go_on, 0, 0);
    loop_enter(loop_poll_loop(poll));
    devices_serve(&d);
    worker_run(d.slab_conf.workers, hold_worker_told, &held, NULL);
    sem_wait(&held.held); /* slabs are ready on both by now */
    while (slab_alloc_run(d.store, 0, 512 << 10, 512 << 10, &at) == 0)
        continue;
    slab_wait_run(d.store, 0, awaited_init(&awaited, loop_poll_loop(poll)));
    loop_run_ready(loop_poll_loop(poll));
    assert_false(awaited.fired);
    assert_int_equal(slab_alloc_run(d.store, 1, 512 << 10, 512 << 10, &at), 0);
    sem_post(&held.go_on);
    assert_int_equal(loop_await(poll, &awaited), 0);
    devices_done(&d);
    workers_free(d.slab_conf.workers);
    sem_destroy(&held.held);
    sem_destroy(&held.go_on);
    loop_enter(NULL);
    loop_poll_free(poll);
}

/* What is given back between a refused allocation and the wait counts. */
static void test_slab__a_wait_for_room_misses_nothing(void **state)
{
    struct devices d = serve(1, SLABS);
    struct loop_poll *poll = loop_poll_new();
    struct location at = {0}, last;
    struct awaited awaited;
    uint64_t given;

    loop_enter(loop_poll_loop(poll));
    do {
        given = slab_given(d.store);
        last = at;
    } while (slab_alloc_large(d.store, EXTENT_BYTES_MAX, &at) == 0);
    slab_free(d.store, &last, EXTENT_BYTES_MAX);
    slab_wait_free(d.store, given, awaited_init(&awaited, loop_poll_loop(poll)));
    assert_int_equal(loop_await(poll, &awaited), 0);
    slab_wait_free(d.store, slab_given(d.store), awaited_init(&awaited, loop_poll_loop(poll)));
    loop_poll_once(poll, 0);
    assert_false(awaited.fired);
    slab_wait_cancel(d.store, &awaited.done);
    assert_int_equal(loop_await(poll, &awaited), -ECANCELED);
    slab_wait_cancel(d.store, &awaited.done); /* it has ended */
    devices_done(&d);
    loop_enter(NULL);
    loop_poll_free(poll);
}

/* Allocates until nothing comes any more. */
static unsigned take_all(struct devices *d, struct loop_poll *poll, enum slab_kind kind,
                         struct location *at, unsigned max)
{
    unsigned n = 0;
    int err;

    do {
        struct awaited awaited;

        assert_true(n < max);
        err = kind == SLAB_LARGE ? slab_alloc_large(d->store, EXTENT_BYTES_MAX, &at[n])
                                 : slab_alloc_run(d->store, 0, 512 << 10, 512 << 10, &at[n]);
        n += err == 0;
        if (err != -EAGAIN)
            continue;
        if (kind == SLAB_LARGE)
            slab_wait_large(d->store, awaited_init(&awaited, loop_poll_loop(poll)));
        else
            slab_wait_run(d->store, 0, awaited_init(&awaited, loop_poll_loop(poll)));
        (void)loop_await(poll, &awaited);
    } while (err != -ENOSPC);
    return n;
}

/* 1 a small record finds an empty large slab and waits until it is turned over; 2 a large extent
 * takes it; 3 nothing can come any more: the one that waits is told. */
static void test_slab__waiting_ends_when_others_took_the_slab(void **state)
{
    struct devices d;
    struct loop_poll *poll = loop_poll_new();
    struct location at[1000], small[1000];
    struct awaited awaited;
    sem_t may_prepare;
    unsigned n;

    log_set_sink(log_nowhere, NULL);
    devices_init(&d, 1, SLABS);
    d.slab_conf.workers = workers_new(1, "prepare");
    sem_init(&may_prepare, 0, 0);
    loop_enter(loop_poll_loop(poll));
    devices_serve(&d);
    n = take_all(&d, poll, SLAB_LARGE, at, countof(at));
    (void)take_all(&d, poll, SLAB_SMALL, small, countof(small));
    assert_int_equal(take_all(&d, poll, SLAB_LARGE, at + n, countof(at) - n), 0);
    worker_run(d.slab_conf.workers, hold_worker, &may_prepare, NULL);
    for (unsigned i = 1; i < n; i++)
        if (at[i].slab == at[0].slab)
            slab_free(d.store, &at[i], EXTENT_BYTES_MAX);
    slab_free(d.store, &at[0], EXTENT_BYTES_MAX);
    assert_int_equal(slab_alloc_run(d.store, 0, 512 << 10, 512 << 10, &small[0]), -EAGAIN);
    slab_wait_run(d.store, 0, awaited_init(&awaited, loop_poll_loop(poll)));
    assert_int_equal(slab_alloc_large(d.store, EXTENT_BYTES_MAX, &at[0]), 0);
    sem_post(&may_prepare);
    assert_int_equal(loop_await(poll, &awaited), 0);
    assert_int_equal(slab_alloc_run(d.store, 0, 512 << 10, 512 << 10, &small[0]), -ENOSPC);
    devices_done(&d);
    workers_free(d.slab_conf.workers);
    sem_destroy(&may_prepare);
    loop_enter(NULL);
    loop_poll_free(poll);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slab__sixteen_full_extents_fit_a_slab),
        cmocka_unit_test(test_slab__extents_never_overlap),
        cmocka_unit_test(test_slab__full_says_so_and_goes_on_when_freed),
        cmocka_unit_test(test_slab__the_log_finds_slabs_when_data_is_full),
        cmocka_unit_test(test_slab__trim_gives_the_tail_back),
        cmocka_unit_test(test_slab__small_slab_is_free_when_nothing_lives_in_it),
        cmocka_unit_test(test_slab__emptying_what_takes_nothing_would_be_no_room),
        cmocka_unit_test(test_slab__small_records_have_a_share),
        cmocka_unit_test(test_slab__generation_is_durable_before_use),
        cmocka_unit_test(test_slab__each_kind_needs_its_headers_flush),
        cmocka_unit_test(test_slab__marks_are_what_a_start_keeps),
        cmocka_unit_test(test_slab__a_start_goes_on_in_the_emptiest_small_slab),
        cmocka_unit_test(test_slab__log_finds_a_slab_before_serving),
        cmocka_unit_test(test_slab__one_bad_header_copy_costs_nothing),
        cmocka_unit_test(test_slab__devices_take_turns),
        cmocka_unit_test(test_slab__a_failed_flush_fences_the_device),
        cmocka_unit_test(test_slab__tells_when_room_runs_low),
        cmocka_unit_test(test_slab__tells_when_small_records_have_their_last_slab),
        cmocka_unit_test(test_slab__waiting_ends_when_a_slab_is_ready),
        cmocka_unit_test(test_slab__a_lane_waits_for_its_own_device),
        cmocka_unit_test(test_slab__a_wait_for_room_misses_nothing),
        cmocka_unit_test(test_slab__waiting_ends_when_others_took_the_slab),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
