/* The three implementations of cache/io.h: the same cases over each, then what only the simulated
 * one can do: power cuts, failures, mutants. */
#include "tests/unit/unit.h"

#include "base/log.h"
#include "cache/io.h"
#include "cache/io_file.h"
#include "tests/support/tempdir.h"

#define DEVICE_BYTES (8u << 20)
#define REQUESTS     600 /* more than a ring holds */

struct rig {
    const struct io_ops *ops;
    struct io_sim *sim; /* or NULL */
    struct loop_poll *poll;
    struct loop *loop;
    char *dir, *path;
    struct io *io;
};

static void log_nowhere(void *arg, const char *line)
{
}

static void rig_open(struct rig *rig)
{
    assert_int_equal(rig->ops->open(rig->ops, rig->path, DEVICE_BYTES, &rig->io), 0);
}

static struct rig rig_new(const struct io_ops *ops)
{
    struct rig rig = {.ops = ops, .poll = loop_poll_new()};

    log_set_sink(log_nowhere, NULL);
    if (!ops) {
        rig.sim = io_sim_new(1);
        rig.ops = io_sim_ops(rig.sim);
    }
    rig.loop = loop_poll_loop(rig.poll);
    loop_enter(rig.loop);
    rig.dir = tempdir_new("io");
    rig.path = tempdir_path(rig.dir, "device");
    rig_open(&rig);
    assert_int_equal(rig.ops->attach(rig.ops, rig.loop), 0);
    return rig;
}

static void rig_free(struct rig *rig)
{
    rig->ops->detach(rig->ops, rig->loop);
    rig->io->ops->close(rig->io);
    io_sim_free(rig->sim);
    loop_enter(NULL);
    loop_poll_free(rig->poll);
    tempdir_free(rig->dir);
    free(rig->path);
}

static char *pattern(unsigned char seed, size_t bytes)
{
    char *p = xaligned(IO_ALIGN, bytes);

    for (size_t i = 0; i < bytes; i++)
        p[i] = (char)(seed + i / 512 * 7 + i);
    return p;
}

static int run(struct rig *rig, struct io_request *request)
{
    struct awaited awaited;

    request->done = awaited_init(&awaited, rig->loop);
    rig->io->ops->submit(rig->io, request);
    assert_false(awaited.fired); /* O2 */
    return loop_await(rig->poll, &awaited);
}

static void case_round_trip(struct rig *rig)
{
    _cleanup_(freep) char *out = pattern(3, IO_BYTES_MAX), *in = pattern(0, IO_BYTES_MAX);
    struct io_request write = {.write = true, .vecs = 2, .offset = 4096};
    struct io_request read = {.vecs = 1, .offset = 4096, .vec = {{in, IO_BYTES_MAX}}};

    write.vec[0] = (struct iovec){out, 8192};
    write.vec[1] = (struct iovec){out + 8192, IO_BYTES_MAX - 8192};
    assert_int_equal(run(rig, &write), 0);
    assert_int_equal(run(rig, &read), 0);
    assert_memory_equal(in, out, IO_BYTES_MAX);
    memset(in, 0, IO_BYTES_MAX);
    assert_int_equal(rig->io->ops->read(rig->io, in, IO_BYTES_MAX, 4096), 0);
    assert_memory_equal(in, out, IO_BYTES_MAX);
    assert_int_equal(rig->io->ops->flush(rig->io), 0);
}

static void case_unwritten_is_zero(struct rig *rig)
{
    _cleanup_(freep) char *in = pattern(9, 4096);

    assert_int_equal(rig->io->ops->read(rig->io, in, 4096, DEVICE_BYTES - 4096), 0);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(in[i], 0);
}

static void case_survives_reopen(struct rig *rig)
{
    _cleanup_(freep) char *out = pattern(5, 4096), *in = pattern(0, 4096);

    assert_int_equal(rig->io->ops->write(rig->io, out, 4096, 65536), 0);
    assert_int_equal(rig->io->ops->flush(rig->io), 0);
    rig->io->ops->close(rig->io);
    rig_open(rig);
    assert_int_equal(rig->io->ops->read(rig->io, in, 4096, 65536), 0);
    assert_memory_equal(in, out, 4096);
}

struct many {
    struct io_request request;
    struct completion done;
    unsigned *left;
};

static void many_done(struct completion *done)
{
    struct many *many = container_of(done, struct many, done);

    assert_int_equal(done->err, 0);
    (*many->left)--;
}

/* More than the ring takes at once: the rest waits its turn, nothing is lost. */
static void case_many_at_once(struct rig *rig)
{
    _cleanup_(freep) char *out = pattern(1, REQUESTS * 4096), *in = pattern(0, REQUESTS * 4096);
    _cleanup_(freep) struct many *many = xcalloc(REQUESTS, sizeof(*many));
    unsigned left;

    for (int write = 1; write >= 0; write--) {
        left = REQUESTS;
        for (unsigned i = 0; i < REQUESTS; i++) {
            many[i] = (struct many){.left = &left};
            many[i].done = (struct completion){.fn = many_done, .loop = rig->loop};
            many[i].request = (struct io_request){
                .done = &many[i].done, .write = write, .vecs = 1, .offset = i * 4096};
            many[i].request.vec[0] = (struct iovec){(write ? out : in) + i * 4096, 4096};
            rig->io->ops->submit(rig->io, &many[i].request);
        }
        while (left > 0)
            loop_poll_once(rig->poll, 1000);
    }
    assert_memory_equal(in, out, REQUESTS * 4096);
}

static void run_cases(const struct io_ops *ops)
{
    static void (*const cases[])(struct rig *) = {case_round_trip, case_unwritten_is_zero,
                                                  case_survives_reopen, case_many_at_once};

    for (unsigned i = 0; i < countof(cases); i++) {
        struct rig rig = rig_new(ops);

        cases[i](&rig);
        rig_free(&rig);
    }
}

static void test_io__io_uring_serves_all_cases(void **state)
{
    if (io_ops_auto() != &io_uring_ops)
        skip();
    run_cases(&io_uring_ops);
}

static void test_io__blocking_serves_all_cases(void **state)
{
    run_cases(&io_blocking_ops);
}

static void test_io__simulated_serves_all_cases(void **state)
{
    run_cases(NULL);
}

static void test_io__a_device_is_opened_by_one_only(void **state)
{
    struct rig rig = rig_new(&io_blocking_ops);
    struct io *second = NULL;

    io_lock_patience_ms = 20;
    assert_int_equal(rig.ops->open(rig.ops, rig.path, DEVICE_BYTES, &second), -EBUSY);
    assert_int_equal(rig.ops->open(rig.ops, "/dev/null", DEVICE_BYTES, &second), -ENXIO);
    assert_int_equal(rig.ops->open(rig.ops, rig.dir, DEVICE_BYTES, &second), -EISDIR);
    assert_null(second);
    rig_free(&rig);
}

/* The one who has it ends as soon as somebody waits for it. */
static void ends(void *arg, const char *line)
{
    struct io **holder = arg;

    assert_non_null(strstr(line, "device is in use"));
    (*holder)->ops->close(*holder);
    *holder = NULL;
}

static void test_io__who_comes_while_another_ends_waits(void **state)
{
    struct rig rig = rig_new(&io_blocking_ops);
    struct io *second = NULL;

    io_lock_patience_ms = 60000;
    log_set_sink(ends, &rig.io);
    assert_int_equal(rig.ops->open(rig.ops, rig.path, DEVICE_BYTES, &second), 0);
    assert_null(rig.io);
    rig.io = second;
    rig_free(&rig);
}

static void test_io__a_missing_device_node_is_not_made(void **state)
{
    struct io *io = NULL;

    assert_int_equal(
        io_blocking_ops.open(&io_blocking_ops, "/dev/hearth-test-none", DEVICE_BYTES, &io),
        -ENOENT);
    assert_int_not_equal(access("/dev/hearth-test-none", F_OK), 0);
}

static void test_io__what_is_there_is_opened_to_read_only(void **state)
{
    struct rig rig = rig_new(&io_blocking_ops);
    _cleanup_(freep) char *in = pattern(0, 4096), *absent = xasprintf("%s.absent", rig.path);

    rig.io->ops->close(rig.io);
    assert_int_equal(rig.ops->open(rig.ops, absent, 0, &rig.io), -ENOENT);
    assert_int_equal(rig.ops->open(rig.ops, rig.path, 0, &rig.io), 0);
    assert_int_equal(rig.io->bytes, DEVICE_BYTES);
    assert_int_equal(rig.ops->read(rig.io, in, 4096, DEVICE_BYTES - 4096), 0);
    assert_int_equal(rig.ops->write(rig.io, in, 4096, 0), -EBADF);
    rig_free(&rig);
}

static void test_io__a_short_file_is_a_short_transfer(void **state)
{
    struct rig rig = rig_new(&io_blocking_ops);
    _cleanup_(freep) char *in = pattern(0, 8192);

    assert_int_equal(truncate(rig.path, DEVICE_BYTES - 4096), 0);
    assert_int_equal(rig.ops->read(rig.io, in, 8192, DEVICE_BYTES - 8192), -EIO);
    rig_free(&rig);
}

/* ---- simulated: power cuts ---- */

static void sim_write(struct rig *rig, unsigned char seed, uint64_t offset)
{
    _cleanup_(freep) char *out = pattern(seed, 4096);

    assert_int_equal(rig->ops->write(rig->io, out, 4096, offset), 0);
}

static bool sim_holds(struct rig *rig, unsigned char seed, uint64_t offset)
{
    _cleanup_(freep) char *out = pattern(seed, 4096), *in = pattern(0, 4096);

    assert_int_equal(rig->ops->read(rig->io, in, 4096, offset), 0);
    return memcmp(in, out, 4096) == 0;
}

static void sim_cut(struct rig *rig, uint64_t seed)
{
    _cleanup_(freep) char *in = pattern(0, 4096);

    io_sim_crash(rig->sim, seed);
    assert_int_equal(rig->ops->read(rig->io, in, 4096, 0), -EIO); /* handles die with the power */
    rig->io->ops->close(rig->io);
    rig_open(rig);
}

static void test_io_sim__a_cut_keeps_what_was_flushed(void **state)
{
    struct rig rig = rig_new(NULL);

    sim_write(&rig, 1, 4096);
    assert_int_equal(rig.ops->flush(rig.io), 0);
    sim_cut(&rig, 7);
    assert_true(sim_holds(&rig, 1, 4096));
    rig_free(&rig);
}

/* Over many seeds each outcome of two unflushed versions over a flushed one is seen. */
static void test_io_sim__a_cut_keeps_drops_reorders_and_tears(void **state)
{
    unsigned old = 0, first = 0, second = 0, torn = 0;

    for (uint64_t seed = 0; seed < 100; seed++) {
        struct rig rig = rig_new(NULL);

        sim_write(&rig, 1, 4096);
        assert_int_equal(rig.ops->flush(rig.io), 0);
        sim_write(&rig, 2, 4096);
        sim_write(&rig, 3, 4096);
        assert_true(sim_holds(&rig, 3, 4096));
        sim_cut(&rig, seed);
        if (sim_holds(&rig, 1, 4096))
            old++;
        else if (sim_holds(&rig, 2, 4096))
            first++;
        else if (sim_holds(&rig, 3, 4096))
            second++;
        else
            torn++;
        rig_free(&rig);
    }
    assert_true(old > 5 && first > 5 && second > 5 && torn > 5);
}

/* A write whose completion the loop has not run is not covered by a flush made meanwhile. */
static void test_io_sim__a_flush_covers_completed_writes_only(void **state)
{
    unsigned kept = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct rig rig = rig_new(NULL);
        _cleanup_(freep) char *out = pattern(2, 4096);
        struct awaited awaited;
        struct io_request write = {.write = true, .vecs = 1, .vec = {{out, 4096}}};

        write.done = awaited_init(&awaited, rig.loop);
        rig.ops->submit(rig.io, &write);
        assert_int_equal(rig.ops->flush(rig.io), 0);
        io_sim_crash(rig.sim, seed);
        assert_int_equal(loop_await(rig.poll, &awaited), -EIO);
        rig.io->ops->close(rig.io);
        rig_open(&rig);
        kept += sim_holds(&rig, 2, 0);
        rig_free(&rig);
    }
    assert_true(kept > 0 && kept < 40);
}

static void test_io_sim__the_same_seed_gives_the_same_state(void **state)
{
    _cleanup_(freep) char *a = pattern(0, 65536), *b = pattern(1, 65536);

    for (int i = 0; i < 2; i++) {
        struct rig rig = rig_new(NULL);

        for (unsigned p = 0; p < 16; p++)
            sim_write(&rig, (unsigned char)(p + 1), p * 4096);
        sim_cut(&rig, 11);
        assert_int_equal(rig.ops->read(rig.io, i ? a : b, 65536, 0), 0);
        rig_free(&rig);
    }
    assert_memory_equal(a, b, 65536);
}

static void test_io_sim__a_clone_goes_its_own_way(void **state)
{
    struct rig rig = rig_new(NULL), copy = rig;

    sim_write(&rig, 1, 0);
    assert_int_equal(rig.ops->flush(rig.io), 0);
    copy.sim = io_sim_clone(rig.sim);
    copy.ops = io_sim_ops(copy.sim);
    rig_open(&copy);
    sim_write(&rig, 2, 0);
    assert_true(sim_holds(&copy, 1, 0));
    assert_true(sim_holds(&rig, 2, 0));
    copy.io->ops->close(copy.io);
    io_sim_free(copy.sim);
    rig_free(&rig);
}

/* ---- simulated: failures, mutants, damage ---- */

static void test_io_sim__the_nth_operation_fails(void **state)
{
    struct rig rig = rig_new(NULL);
    _cleanup_(freep) char *out = pattern(2, 4096);
    struct io_request write = {.write = true, .vecs = 1, .vec = {{out, 4096}}};

    io_sim_fail(rig.sim, IO_SIM_WRITE, 2, -ENOSPC);
    assert_int_equal(run(&rig, &write), 0);
    write.offset = 4096;
    assert_int_equal(run(&rig, &write), -ENOSPC);
    assert_false(sim_holds(&rig, 2, 4096));
    assert_int_equal(run(&rig, &write), 0);
    assert_int_equal(io_sim_count(rig.sim, IO_SIM_WRITE), 3);
    io_sim_fail(rig.sim, IO_SIM_READ, 1, -EIO);
    assert_int_equal(rig.ops->read(rig.io, out, 4096, 0), -EIO);
    rig_free(&rig);
}

static void test_io_sim__a_failed_flush_fails_for_ever(void **state)
{
    struct rig rig = rig_new(NULL);

    io_sim_fail(rig.sim, IO_SIM_FLUSH, 1, -EIO);
    assert_int_equal(rig.ops->flush(rig.io), -EIO);
    assert_int_equal(rig.ops->flush(rig.io), -EIO);
    rig_free(&rig);
}

static void test_io_sim__a_skipped_flush_makes_nothing_durable(void **state)
{
    unsigned kept = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct rig rig = rig_new(NULL);

        sim_write(&rig, 2, 0);
        io_sim_skip_flush(rig.sim, 1);
        assert_int_equal(rig.ops->flush(rig.io), 0);
        sim_cut(&rig, seed);
        kept += sim_holds(&rig, 2, 0);
        rig_free(&rig);
    }
    assert_true(kept < 40);
}

static void test_io_sim__corruption_flips_the_bits_asked_for(void **state)
{
    struct rig rig = rig_new(NULL);
    _cleanup_(freep) char *out = pattern(2, 4096), *in = pattern(0, 4096);

    sim_write(&rig, 2, 4096);
    io_sim_corrupt(rig.sim, rig.path, 4096 + 100, 0x41);
    assert_int_equal(rig.ops->read(rig.io, in, 4096, 4096), 0);
    out[100] ^= 0x41;
    assert_memory_equal(in, out, 4096);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_io__io_uring_serves_all_cases),
        cmocka_unit_test(test_io__blocking_serves_all_cases),
        cmocka_unit_test(test_io__simulated_serves_all_cases),
        cmocka_unit_test(test_io__a_device_is_opened_by_one_only),
        cmocka_unit_test(test_io__who_comes_while_another_ends_waits),
        cmocka_unit_test(test_io__a_missing_device_node_is_not_made),
        cmocka_unit_test(test_io__what_is_there_is_opened_to_read_only),
        cmocka_unit_test(test_io__a_short_file_is_a_short_transfer),
        cmocka_unit_test(test_io_sim__a_cut_keeps_what_was_flushed),
        cmocka_unit_test(test_io_sim__a_cut_keeps_drops_reorders_and_tears),
        cmocka_unit_test(test_io_sim__a_flush_covers_completed_writes_only),
        cmocka_unit_test(test_io_sim__the_same_seed_gives_the_same_state),
        cmocka_unit_test(test_io_sim__a_clone_goes_its_own_way),
        cmocka_unit_test(test_io_sim__the_nth_operation_fails),
        cmocka_unit_test(test_io_sim__a_failed_flush_fails_for_ever),
        cmocka_unit_test(test_io_sim__a_skipped_flush_makes_nothing_durable),
        cmocka_unit_test(test_io_sim__corruption_flips_the_bits_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
