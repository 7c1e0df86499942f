/* The memory tier: what is put can be had until something else is worth more, within the budget,
 * and bytes stay as long as a reader holds them. */
#include "tests/unit/unit.h"

#include "cache/content.h"

static struct object_id id_of(uint64_t n)
{
    return (struct object_id){1, 1, n};
}

static char *bytes_of(uint64_t n)
{
    static char bytes[UNIT_BYTES];

    memset(bytes, (int)(n * 7 + 1), sizeof(bytes));
    return bytes;
}

static void put(struct tier *tier, uint64_t n, size_t len)
{
    tier_put(tier, id_of(n), 0, (struct span){bytes_of(n), len});
}

static bool has(struct tier *tier, uint64_t n, size_t len)
{
    struct slice slice;

    if (!tier_get(tier, id_of(n), 0, &slice))
        return false;
    assert_int_equal(slice.bytes.len, len);
    assert_memory_equal(slice.bytes.base, bytes_of(n), len);
    assert_true(slice.checked);
    slice_unref(slice);
    return true;
}

static void test_tier__gives_what_was_put(void **state)
{
    static const size_t lengths[] = {1, 4096, 4097, 8192, 20000, 32768, 65535, 65536};
    struct tier *tier;

    assert_int_equal(tier_open(MIB(4), &tier), 0);
    for (unsigned i = 0; i < countof(lengths); i++)
        put(tier, i, lengths[i]);
    for (unsigned i = 0; i < countof(lengths); i++)
        assert_true(has(tier, i, lengths[i]));
    assert_false(has(tier, 99, 1));
    tier_close(tier);
}

static void test_tier__stays_within_its_budget(void **state)
{
    struct tier *tier;

    assert_int_equal(tier_open(MIB(2), &tier), 0);
    for (unsigned i = 0; i < 2000; i++) {
        put(tier, i, 1 + i * 997 % UNIT_BYTES);
        assert_true(tier_stats(tier).used_bytes <= MIB(2));
    }
    assert_true(tier_stats(tier).used_bytes > MIB(1));
    tier_close(tier);
}

static void test_tier__used_ones_outlive_a_scan(void **state)
{
    struct tier *tier;
    unsigned kept = 0;

    assert_int_equal(tier_open(MIB(4), &tier), 0);
    for (unsigned i = 0; i < 16; i++)
        put(tier, i, UNIT_BYTES);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 16; i++)
            assert_true(has(tier, i, UNIT_BYTES));
    for (unsigned i = 100; i < 400; i++) /* each once: five times the budget */
        put(tier, i, UNIT_BYTES);
    for (unsigned i = 0; i < 16; i++)
        kept += has(tier, i, UNIT_BYTES);
    assert_int_equal(kept, 16);
    tier_close(tier);
}

static void test_tier__held_bytes_stay(void **state)
{
    struct tier *tier;
    struct slice slice;

    assert_int_equal(tier_open(MIB(1), &tier), 0);
    put(tier, 5, UNIT_BYTES);
    assert_true(tier_get(tier, id_of(5), 0, &slice));
    for (unsigned i = 100; i < 300; i++)
        put(tier, i, UNIT_BYTES);
    assert_memory_equal(slice.bytes.base, bytes_of(5), UNIT_BYTES);
    slice_unref(slice);
    tier_close(tier);
}

/* Frames go from class to class: many small ones, then large ones, then small ones. */
static void test_tier__sizes_change_over_time(void **state)
{
    struct tier *tier;
    unsigned kept = 0;

    assert_int_equal(tier_open(MIB(1), &tier), 0);
    for (unsigned i = 0; i < 256; i++)
        put(tier, i, 4096);
    assert_int_equal(tier_stats(tier).used_bytes, MIB(1));
    for (unsigned i = 1000; i < 1032; i++)
        put(tier, i, UNIT_BYTES);
    for (unsigned i = 1000; i < 1032; i++)
        kept += has(tier, i, UNIT_BYTES);
    assert_true(kept >= 8);
    for (unsigned i = 2000; i < 2512; i++)
        put(tier, i, 4096);
    assert_true(has(tier, 2511, 4096));
    assert_true(tier_stats(tier).used_bytes > MIB(1) / 2);
    tier_close(tier);
}

static void test_tier__none_keeps_nothing(void **state)
{
    struct tier *tier;

    assert_int_equal(tier_open(0, &tier), 0);
    put(tier, 1, 100);
    assert_false(has(tier, 1, 100));
    tier_close(tier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tier__gives_what_was_put),
        cmocka_unit_test(test_tier__stays_within_its_budget),
        cmocka_unit_test(test_tier__used_ones_outlive_a_scan),
        cmocka_unit_test(test_tier__held_bytes_stay),
        cmocka_unit_test(test_tier__sizes_change_over_time),
        cmocka_unit_test(test_tier__none_keeps_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
