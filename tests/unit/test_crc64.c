/* CRC-64/NVME: the published check values, and every kernel this CPU has against a bit-by-bit
 * model over random lengths, alignments and splits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/crc64.h"
#include "base/span.h"
#include "base/util.h"

#define BUFFER_BYTES 8192

static const char *const kernel_names[] = {"table", "pclmul", "vpclmul"};
static uint64_t state = 88172645463325252ULL;

static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static uint64_t model(const unsigned char *at, size_t bytes)
{
    uint64_t r = ~0ULL;

    for (size_t i = 0; i < bytes; i++) {
        r ^= at[i];
        for (unsigned bit = 0; bit < 8; bit++)
            r = (r >> 1) ^ (r & 1 ? 0x9A6C9329AC4BC9B5ULL : 0);
    }
    return ~r;
}

static unsigned char *random_buffer(void)
{
    static unsigned char buffer[BUFFER_BYTES];

    for (size_t i = 0; i < sizeof(buffer); i++)
        buffer[i] = (unsigned char)rnd();
    return buffer;
}

static int restore_kernel(void **unused)
{
    return crc64_force(NULL);
}

static void test_crc64__published_values(void **unused)
{
    for (size_t i = 0; i < countof(kernel_names); i++) {
        if (crc64_force(kernel_names[i]) < 0)
            continue;
        assert_int_equal(crc64(0, "123456789", 9), 0xAE8B14860A799888ULL);
        assert_int_equal(crc64(0, NULL, 0), 0);
        /* base64 of the little-endian bytes: PPzLtEWEL4w= */
        assert_int_equal(crc64(0, "a", 1), 0x8C2F8445B4CBFC3CULL);
    }
}

static void test_crc64__every_kernel_agrees_with_the_model(void **unused)
{
    unsigned char *buffer = random_buffer();
    unsigned tried = 0;

    for (size_t i = 0; i < countof(kernel_names); i++) {
        if (crc64_force(kernel_names[i]) < 0)
            continue;
        assert_string_equal(crc64_kernel(), kernel_names[i]);
        tried++;
        for (size_t bytes = 0; bytes < 700; bytes++)
            assert_int_equal(crc64(0, buffer + bytes % 67, bytes),
                             model(buffer + bytes % 67, bytes));
        for (unsigned round = 0; round < 100; round++) {
            size_t start = rnd() % 128, bytes = rnd() % (BUFFER_BYTES - start);

            assert_int_equal(crc64(0, buffer + start, bytes), model(buffer + start, bytes));
        }
    }
    assert_true(tried >= 1);
}

static void test_crc64__continues_over_pieces(void **unused)
{
    unsigned char *buffer = random_buffer();

    for (size_t i = 0; i < countof(kernel_names); i++) {
        if (crc64_force(kernel_names[i]) < 0)
            continue;
        for (unsigned round = 0; round < 100; round++) {
            size_t bytes = rnd() % BUFFER_BYTES, cut = rnd() % (bytes + 1);

            assert_int_equal(crc64(crc64(0, buffer, cut), buffer + cut, bytes - cut),
                             model(buffer, bytes));
        }
    }
}

static void test_crc64__combine_is_concatenation(void **unused)
{
    unsigned char *buffer = random_buffer();

    for (unsigned round = 0; round < 200; round++) {
        size_t bytes = rnd() % BUFFER_BYTES, cut = rnd() % (bytes + 1);
        uint64_t a = crc64(0, buffer, cut), b = crc64(0, buffer + cut, bytes - cut);

        assert_int_equal(crc64_combine(a, b, bytes - cut), crc64(0, buffer, bytes));
    }
    assert_int_equal(crc64_combine(0x1234, 0, 0), 0x1234);
}

/* Lengths nobody would hash in a test: (a + b) + c and a + (b + c) must be the same. */
static void test_crc64__combine_is_associative_for_huge_lengths(void **unused)
{
    for (unsigned round = 0; round < 200; round++) {
        uint64_t a = rnd(), b = rnd(), c = rnd(), bytes_b = rnd() >> 1, bytes_c = rnd() >> 1;

        assert_int_equal(crc64_combine(crc64_combine(a, b, bytes_b), c, bytes_c),
                         crc64_combine(a, crc64_combine(b, c, bytes_c), bytes_b + bytes_c));
    }
}

static void test_crc64__unknown_kernel_is_refused(void **unused)
{
    assert_int_equal(crc64_force("abacus"), -ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_crc64__published_values, restore_kernel),
        cmocka_unit_test_teardown(test_crc64__every_kernel_agrees_with_the_model, restore_kernel),
        cmocka_unit_test_teardown(test_crc64__continues_over_pieces, restore_kernel),
        cmocka_unit_test(test_crc64__combine_is_concatenation),
        cmocka_unit_test(test_crc64__combine_is_associative_for_huge_lengths),
        cmocka_unit_test(test_crc64__unknown_kernel_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
