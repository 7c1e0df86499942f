/* Superblocks and binding: bytes, the two copies under power cuts, and every refusal with its
 * words. */
#include "tests/unit/unit.h"

#include "base/crc64.h"
#include "base/bytes.h"
#include "base/log.h"
#include "cache/store.h"
#include "tests/support/devices.h"
#include "tests/support/io_tap.h"

#define SLABS 4u

static void log_nowhere(void *arg, const char *line)
{
}

static int group_setup(void **state)
{
    log_set_sink(log_nowhere, NULL);
    return 0;
}

static struct super example(void)
{
    struct super super = {
        .format = SUPER_FORMAT, .sequence = 9, .device_uuid = {3, 4}, .device = 1};

    super.role = SUPER_ROLE_DATA;
    super.bytes = DEVICES_BYTES(4);
    super.state = (struct super_state){{1, 2}, {5, 6}, 77, 3, 123456789, true, false};
    super.device_count = 2;
    super.devices[0][0] = 8;
    super.devices[1][1] = 4;
    return super;
}

static void test_super__what_is_encoded_is_decoded(void **state)
{
    char page[SUPER_BYTES];
    struct super in = example(), out = {0};

    super_encode(&in, page);
    assert_int_equal(super_decode(page, &out), 0);
    assert_memory_equal(&in, &out, sizeof(in));
}

static void test_super__any_flipped_bit_is_damage(void **state)
{
    char page[SUPER_BYTES];
    struct super in = example(), out = {0};

    super_encode(&in, page);
    for (unsigned bit = 0; bit < SUPER_BYTES * 8; bit += 37) {
        page[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_not_equal(super_decode(page, &out), 0);
        page[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(out.sequence, 0); /* untouched on failure */
}

static void test_super__blank_foreign_and_newer_are_told_apart(void **state)
{
    char page[SUPER_BYTES] = {0};
    struct super in = example(), out = {0};

    assert_int_equal(super_decode(page, &out), -ENODATA);
    page[1000] = 1;
    assert_int_equal(super_decode(page, &out), -EMEDIUMTYPE);
    in.format = SUPER_FORMAT + 1;
    super_encode(&in, page);
    assert_int_equal(super_decode(page, &out), -EPROTONOSUPPORT);
    assert_int_equal(out.format, SUPER_FORMAT + 1);
}

/* ---- binding ---- */

#define assert_refused(d, words)                                                                   \
    do {                                                                                           \
        assert_true(devices_open(d) < 0);                                                          \
        assert_null((d)->store);                                                                   \
        if (!strstr((d)->why, words))                                                              \
            fail_msg("\"%s\" does not say \"%s\"", (d)->why, words);                               \
    } while (0)

static void start(struct devices *d, unsigned count)
{
    devices_init(d, count, SLABS);
    devices_serve(d);
    devices_close(d, false);
}

static void super_patch(struct devices *d, const char *path, void (*patch)(struct super *super))
{
    const struct io_ops *ops = io_sim_ops(d->sim);
    struct super super;
    struct io *io;

    assert_int_equal(ops->open(ops, path, DEVICES_BYTES(SLABS), &io), 0);
    assert_int_equal(super_read(io, &super), 0);
    super.sequence++;
    patch(&super);
    assert_int_equal(super_write(io, &super), 0);
    ops->close(io);
}

static void test_super__state_survives(void **state)
{
    struct devices d;
    struct super_state now;

    devices_init(&d, 2, SLABS);
    assert_int_equal(devices_open(&d), 0);
    assert_true(slab_super(d.store)->fresh);
    now = *slab_super(d.store);
    assert_int_not_equal(now.node, 0);
    now.epoch = 5;
    now.answered = 1234567890123;
    assert_int_equal(slab_super_write(d.store, &now), 0);
    assert_false(slab_super(d.store)->fresh);
    devices_close(&d, true);
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_super(d.store)->epoch, 5);
    assert_int_equal(slab_super(d.store)->answered, 1234567890123);
    assert_true(slab_super(d.store)->clean);
    assert_memory_equal(slab_super(d.store)->box_uuid, now.box_uuid, sizeof(now.box_uuid));
    assert_int_equal(slab_super_write(d.store, &now), 0);
    devices_close(&d, false);
    assert_int_equal(devices_open(&d), 0);
    assert_false(slab_super(d.store)->clean);
    devices_done(&d);
}

/* Whatever a cut leaves of a write that was not flushed, the state is the old one or the new one.
 */
static void test_super__a_cut_leaves_old_or_new(void **state)
{
    unsigned seen_old = 0, seen_new = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct devices d;
        struct super_state now;

        start(&d, 1);
        assert_int_equal(devices_open(&d), 0);
        now = *slab_super(d.store);
        now.answered = 10;
        assert_int_equal(slab_super_write(d.store, &now), 0);
        now.answered = 20;
        io_sim_skip_flush(d.sim, 0);
        assert_int_equal(slab_super_write(d.store, &now), 0);
        devices_close(&d, false);
        io_sim_crash(d.sim, seed);
        assert_int_equal(devices_open(&d), 0);
        now = *slab_super(d.store);
        assert_true(now.answered == 10 || now.answered == 20);
        seen_old += now.answered == 10;
        seen_new += now.answered == 20;
        devices_done(&d);
    }
    assert_true(seen_old > 0 && seen_new > 0);
}

/* Formatting that was cut anywhere is done again by the next start. */
static void test_super__a_cut_while_formatting_is_no_dead_end(void **state)
{
    for (uint64_t nth = 1; nth <= 4; nth++)
        for (uint64_t seed = 0; seed < 15; seed++) {
            struct devices d;

            devices_init(&d, 2, SLABS);
            io_sim_fail(d.sim, IO_SIM_WRITE, nth, -EIO);
            assert_true(devices_open(&d) < 0);
            io_sim_crash(d.sim, seed);
            assert_int_equal(devices_open(&d), 0);
            assert_true(slab_super(d.store)->fresh);
            devices_done(&d);
        }
}

/* ---- flushes: every cut while superblocks are written, and without one flush or all ---- */

#define CUTS_MAX 64

struct cuts {
    struct devices d;
    struct io_tap tap;
    struct io_sim *sim[CUTS_MAX];
    uint64_t answered[CUTS_MAX], index_uuid[CUTS_MAX][2]; /* by then */
    unsigned count;
    uint64_t written;
};

static void cut_before(void *arg, const struct io_tap_event *event)
{
    struct cuts *cuts = arg;

    assert_true(cuts->count < CUTS_MAX);
    cuts->answered[cuts->count] = cuts->written;
    memcpy(cuts->index_uuid[cuts->count], cuts->d.slab_conf.index_uuid,
           sizeof(cuts->index_uuid[0]));
    cuts->sim[cuts->count++] = io_sim_clone(cuts->d.sim);
}

static void cuts_write(struct cuts *cuts, uint64_t answered)
{
    struct super_state now = *slab_super(cuts->d.store);

    now.answered = answered;
    assert_int_equal(slab_super_write(cuts->d.store, &now), 0);
    cuts->written = answered;
}

/* Two new devices, or one in use to which another is added, or two in use; a few states are
 * written. */
enum cuts_of { FORMATTING, ADDING, WRITING };

static void cuts_take(struct cuts *cuts, enum cuts_of what, struct io_tap_skip skip)
{
    struct devices two;

    if (what == FORMATTING)
        devices_init(&cuts->d, 2, SLABS);
    else
        start(&cuts->d, what == ADDING ? 1 : 2);
    devices_init(&two, 2, SLABS);
    cuts->d.conf[1] = two.conf[1];
    devices_done(&two);
    cuts->d.slab_conf.device_count = 2;
    io_tap_init(&cuts->tap, io_sim_ops(cuts->d.sim));
    cuts->tap.before = cut_before;
    cuts->tap.arg = cuts;
    cuts->tap.skip = skip;
    cuts->d.slab_conf.io_ops = &cuts->tap.ops;
    assert_int_equal(devices_open(&cuts->d), 0);
    for (uint64_t answered = 1; answered <= 4; answered++)
        cuts_write(cuts, answered * 10);
    cut_before(cuts, NULL);
    devices_close(&cuts->d, false);
}

static bool cut_is_bad(struct cuts *cuts, unsigned i, uint64_t seed)
{
    struct devices image = cuts->d;
    bool bad;

    image.sim = io_sim_clone(cuts->sim[i]);
    image.why = NULL;
    image.slab_conf.io_ops = io_sim_ops(image.sim);
    memcpy(image.slab_conf.index_uuid, cuts->index_uuid[i], sizeof(cuts->index_uuid[i]));
    io_sim_crash(image.sim, seed);
    bad = devices_open(&image) < 0;
    if (!bad)
        bad = slab_super(image.store)->answered < cuts->answered[i] ||
              slab_device_count(image.store) != 2;
    devices_done(&image);
    return bad;
}

static unsigned bad_cuts(enum cuts_of what, struct io_tap_skip skip)
{
    struct cuts *cuts = xcalloc(1, sizeof(*cuts));
    unsigned bad = 0;

    cuts_take(cuts, what, skip);
    for (unsigned i = 0; i < cuts->count; i++) {
        for (uint64_t seed = 0; seed < 30; seed++)
            bad += cut_is_bad(cuts, i, seed);
        io_sim_free(cuts->sim[i]);
    }
    devices_done(&cuts->d);
    free(cuts);
    return bad;
}

static void test_super__its_flush_is_needed(void **state)
{
    static const struct io_tap_skip none = {0}, all = {.flush = TAP_SUPER},
                                    first = {.flush = TAP_SUPER, .number = 1};

    assert_int_equal(bad_cuts(FORMATTING, none), 0);
    assert_int_equal(bad_cuts(WRITING, none), 0);
    assert_true(bad_cuts(WRITING, all) > 0); /* a state that was written is lost, or both copies */
    assert_int_equal(bad_cuts(ADDING, none), 0);
    assert_true(bad_cuts(ADDING, first) > 0); /* tables name a device that knows nothing of it */
}

static void test_super__order_in_the_configuration_is_free(void **state)
{
    struct devices d;
    struct device_conf first;

    start(&d, 2);
    first = d.conf[0];
    d.conf[0] = d.conf[1];
    d.conf[1] = first;
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_device_count(d.store), 2);
    assert_string_equal(d.store->device[0].path, "slab0");
    devices_done(&d);
}

static void test_super__a_device_can_be_added(void **state)
{
    struct devices d, more;

    start(&d, 1);
    devices_init(&more, 2, SLABS);
    d.conf[1] = more.conf[1];
    devices_done(&more);
    d.slab_conf.device_count = 2;
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_device_count(d.store), 2);
    devices_close(&d, false);
    assert_int_equal(devices_open(&d), 0); /* it is part of the box now ... */
    devices_close(&d, false);
    d.slab_conf.device_count = 1;
    assert_refused(&d, "device number 1 of 2 is missing"); /* ... so it is missed */
    devices_done(&d);
}

/* Adding that failed or was cut anywhere is gone on with by the next start. */
static void test_super__a_cut_while_adding_is_no_dead_end(void **state)
{
    for (uint64_t nth = 1; nth <= 3; nth++)
        for (uint64_t seed = 0; seed < 15; seed++) {
            struct devices d, more;

            start(&d, 1);
            devices_init(&more, 2, SLABS);
            d.conf[1] = more.conf[1];
            devices_done(&more);
            d.slab_conf.device_count = 2;
            io_sim_fail(d.sim, IO_SIM_WRITE, nth, -EIO);
            assert_true(devices_open(&d) < 0);
            io_sim_crash(d.sim, seed);
            assert_int_equal(devices_open(&d), 0);
            assert_int_equal(slab_device_count(d.store), 2);
            devices_done(&d);
        }
}

static void test_super__refuses_another_boxs_device(void **state)
{
    struct devices a, b;
    struct io *io;
    struct super super;
    const struct io_ops *ops;

    start(&a, 1);
    start(&b, 1);
    ops = io_sim_ops(b.sim);
    assert_int_equal(ops->open(ops, "slab0", DEVICES_BYTES(SLABS), &io), 0);
    assert_int_equal(super_read(io, &super), 0);
    ops->close(io);
    ops = io_sim_ops(a.sim); /* b's superblock on a's second device */
    assert_int_equal(ops->open(ops, "slab1", DEVICES_BYTES(SLABS), &io), 0);
    super.sequence = 1;
    assert_int_equal(super_write(io, &super), 0);
    ops->close(io);
    a.conf[1] = a.conf[0];
    a.conf[1].path = span_of("slab1");
    a.slab_conf.device_count = 2;
    assert_refused(&a, "slab1: belongs to another box");
    devices_done(&a);
    devices_done(&b);
}

static void patch_incompat(struct super *super)
{
    super->incompat = 0x10;
}

static void patch_ro_compat(struct super *super)
{
    super->ro_compat = 0x20;
}

static void patch_format(struct super *super)
{
    super->format = 9;
}

static void patch_bytes(struct super *super)
{
    super->bytes += 4096;
}

static void patch_compat(struct super *super)
{
    super->compat = 0x40;
}

static void test_super__refuses_what_it_does_not_know(void **state)
{
    static const struct {
        void (*patch)(struct super *super);
        const char *words;
    } cases[] = {
        {patch_incompat, "features this program does not know (0x10)"},
        {patch_ro_compat, "may only be read by this program (features 0x20)"},
        {patch_format, "format version 9 is not known"},
        {patch_bytes, "shrank from"},
        {patch_compat, NULL},
    };

    for (unsigned i = 0; i < countof(cases); i++) {
        struct devices d;

        start(&d, 1);
        super_patch(&d, "slab0", cases[i].patch);
        if (cases[i].words)
            assert_refused(&d, cases[i].words);
        else
            assert_int_equal(devices_open(&d), 0);
        devices_done(&d);
    }
}

static void test_super__refuses_a_foreign_or_new_index(void **state)
{
    struct devices d;

    start(&d, 1);
    d.slab_conf.index_uuid[0]++;
    assert_refused(&d, "the index belongs to other devices");
    d.slab_conf.index_uuid[0] = d.slab_conf.index_uuid[1] = 0;
    assert_refused(&d, "hearth format --discard");
    d.slab_conf.format_discard = true;
    assert_int_equal(devices_open(&d), 0);
    assert_true(slab_super(d.store)->fresh);
    devices_done(&d);
    devices_init(&d, 1, SLABS);
    d.slab_conf.index_uuid[0] = 5;
    assert_refused(&d, "these are empty");
    devices_done(&d);
}

static void test_super__refuses_somebody_elses_data(void **state)
{
    struct devices d;
    struct io *io;

    devices_init(&d, 1, SLABS);
    assert_int_equal(
        d.slab_conf.io_ops->open(d.slab_conf.io_ops, "slab0", DEVICES_BYTES(SLABS), &io), 0);
    io->ops->close(io);
    io_sim_corrupt(d.sim, "slab0", 1080, 0x53);
    assert_refused(&d, "holds data that is not Hearth's");
    d.slab_conf.format_discard = true;
    assert_int_equal(devices_open(&d), 0);
    devices_done(&d);
}

static void test_super__refuses_when_both_copies_are_damaged(void **state)
{
    struct devices d;

    start(&d, 1);
    io_sim_corrupt(d.sim, "slab0", 200, 1);
    assert_int_equal(devices_open(&d), 0); /* the other copy serves */
    devices_close(&d, false);
    io_sim_corrupt(d.sim, "slab0", SUPER_COPY_DISTANCE + 200, 1);
    assert_refused(&d, "both superblock copies are damaged");
    devices_done(&d);
}

static void test_super__one_unreadable_page_does_not_stop_the_start(void **state)
{
    struct devices d;
    struct super_state now;
    uint64_t reads, nth = 1;

    start(&d, 1);
    assert_int_equal(devices_open(&d), 0);
    now = *slab_super(d.store);
    assert_int_equal(slab_super_write(d.store, &now), 0); /* both copies are in use */
    devices_close(&d, false);
    do {
        reads = io_sim_count(d.sim, IO_SIM_READ);
        io_sim_fail(d.sim, IO_SIM_READ, nth, -EIO);
        assert_int_equal(devices_open(&d), 0);
        assert_false(slab_super(d.store)->fresh);
        reads = io_sim_count(d.sim, IO_SIM_READ) - reads;
        devices_close(&d, false);
    } while (nth++ < reads);
    io_sim_fail(d.sim, IO_SIM_READ, 0, 0);
    io_sim_corrupt(d.sim, "slab0", 200, 1);
    io_sim_fail(d.sim, IO_SIM_READ, 2, -EIO); /* the good copy: nothing is known of the device */
    assert_refused(&d, "cannot read the superblock");
    devices_done(&d);
}

static void test_super__refuses_impossible_configurations(void **state)
{
    struct devices d;

    devices_init(&d, 1, SLABS);
    d.conf[0].bytes = 1 << 20;
    assert_refused(&d, "size must be at least 262 MiB");
    d.slab_conf.device_count = 0;
    assert_refused(&d, "1 to 64 devices");
    devices_done(&d);
    start(&d, 2);
    d.conf[1] = d.conf[0];
    assert_refused(&d, "is a copy of");
    devices_done(&d);
}

/* Old slab headers and extents mean nothing to the box that comes after them. */
static void test_super__discarding_forgets_the_slabs(void **state)
{
    struct devices d;
    struct location at;
    enum slab_kind kind;
    uint32_t generation;

    devices_init(&d, 1, 8);
    devices_serve(&d);
    assert_int_equal(slab_alloc_large(d.store, 5000, &at), 0);
    devices_close(&d, false);
    d.slab_conf.format_discard = true;
    assert_int_equal(devices_open(&d), 0);
    assert_int_equal(slab_mark_extent(d.store, &at, 5000), -ESTALE);
    assert_int_equal(slab_header_read(d.store, 0, at.slab, &kind, &generation), 0);
    assert_int_equal(kind, SLAB_FREE);
    devices_done(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_super__what_is_encoded_is_decoded),
        cmocka_unit_test(test_super__any_flipped_bit_is_damage),
        cmocka_unit_test(test_super__blank_foreign_and_newer_are_told_apart),
        cmocka_unit_test(test_super__state_survives),
        cmocka_unit_test(test_super__a_cut_leaves_old_or_new),
        cmocka_unit_test(test_super__a_cut_while_formatting_is_no_dead_end),
        cmocka_unit_test(test_super__its_flush_is_needed),
        cmocka_unit_test(test_super__order_in_the_configuration_is_free),
        cmocka_unit_test(test_super__a_device_can_be_added),
        cmocka_unit_test(test_super__a_cut_while_adding_is_no_dead_end),
        cmocka_unit_test(test_super__refuses_another_boxs_device),
        cmocka_unit_test(test_super__refuses_what_it_does_not_know),
        cmocka_unit_test(test_super__refuses_a_foreign_or_new_index),
        cmocka_unit_test(test_super__refuses_somebody_elses_data),
        cmocka_unit_test(test_super__refuses_when_both_copies_are_damaged),
        cmocka_unit_test(test_super__one_unreadable_page_does_not_stop_the_start),
        cmocka_unit_test(test_super__refuses_impossible_configurations),
        cmocka_unit_test(test_super__discarding_forgets_the_slabs),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
