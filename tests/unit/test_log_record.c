/* Commit records and slab heads as bytes, and what continues a chain. */
#include "tests/unit/unit.h"

#include "cache/entry.h"
#include "cache/log_record.h"

static struct entry_buffer some_entries(void)
{
    struct entry_buffer buffer = {0};

    entry_append(&buffer, &(struct entry){FAM_BLOBS, ENTRY_PUT, SPAN("a"), SPAN("12345")});
    entry_append(&buffer, &(struct entry){FAM_META, ENTRY_DELETE, SPAN("b"), {0}});
    return buffer;
}

static struct log_record make(struct entry_buffer *buffer)
{
    return (struct log_record){.kind = LOG_CHANGE,
                               .epoch = 3,
                               .entry_count = buffer->count,
                               .box = 7,
                               .number = 11,
                               .prev_crc = 99,
                               .flushed = 9,
                               .entries = {buffer->base, buffer->used}};
}

static void test_record__round_trip(void **state)
{
    struct entry_buffer buffer = some_entries();
    struct log_record record = make(&buffer), got;
    char bytes[256];
    uint32_t size = log_record_size(buffer.used);
    uint64_t crc = log_record_encode(&record, bytes);

    assert_int_equal(size % LOG_RECORD_ALIGN, 0);
    assert_int_equal(log_record_decode(span_from(bytes, sizeof(bytes)), &got), 0);
    assert_int_equal(got.size, size);
    assert_int_equal(got.crc, crc);
    assert_int_equal(got.number, 11);
    assert_int_equal(got.prev_crc, 99);
    assert_int_equal(got.flushed, 9);
    assert_int_equal(got.entry_count, 2);
    assert_true(span_eq(got.entries, record.entries));
    entry_buffer_done(&buffer);
}

static void test_record__cut_without_entries_keeps_its_mask(void **state)
{
    struct log_record cut = {.kind = LOG_CUT, .epoch = 4, .number = 11, .fenced = 5}, got;
    char bytes[128];

    log_record_encode(&cut, bytes);
    assert_int_equal(log_record_decode(span_from(bytes, sizeof(bytes)), &got), 0);
    assert_int_equal(got.kind, LOG_CUT);
    assert_int_equal(got.fenced, 5);
}

static void test_record__any_flipped_bit_is_seen(void **state)
{
    struct entry_buffer buffer = some_entries();
    struct log_record record = make(&buffer), got;
    char bytes[256];
    uint32_t size = log_record_size(buffer.used);

    log_record_encode(&record, bytes);
    for (uint32_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (char)(1 << bit % 8);
        assert_int_not_equal(log_record_decode(span_from(bytes, size), &got), 0);
        bytes[bit / 8] ^= (char)(1 << bit % 8);
    }
    assert_int_equal(log_record_decode(span_from(bytes, size), &got), 0);
    entry_buffer_done(&buffer);
}

static void test_record__short_bytes_say_how_much_is_needed(void **state)
{
    struct entry_buffer buffer = some_entries();
    struct log_record record = make(&buffer), got;
    char bytes[256];

    log_record_encode(&record, bytes);
    assert_int_equal(log_record_decode(span_from(bytes, LOG_RECORD_HEAD_BYTES - 1), &got),
                     -ENODATA);
    assert_int_equal(log_record_decode(span_from(bytes, LOG_RECORD_HEAD_BYTES), &got), -EMSGSIZE);
    assert_int_equal(got.size, log_record_size(buffer.used));
    memset(bytes, 0, sizeof(bytes));
    assert_int_equal(log_record_decode(span_from(bytes, sizeof(bytes)), &got), -ENODATA);
    entry_buffer_done(&buffer);
}

static void test_head__round_trip_and_damage(void **state)
{
    struct log_head head = {.generation = 2,
                            .epoch = 3,
                            .box = 7,
                            .sequence = 5,
                            .first = 12,
                            .prev_crc = 42,
                            .flushed = 8,
                            .fenced = 2},
                    got;
    char bytes[LOG_HEAD_BYTES];

    log_head_encode(&head, bytes);
    assert_int_equal(log_head_decode(bytes, &got), 0);
    assert_memory_equal(&got, &head, sizeof(head));
    bytes[100] ^= 1;
    assert_int_equal(log_head_decode(bytes, &got), -EBADMSG);
}

static void test_chain__takes_the_next_record_only(void **state)
{
    const struct log_chain start = {.epoch = 3, .last = 10, .crc = 99};
    struct log_record next = {.kind = LOG_CHANGE,
                              .epoch = 3,
                              .box = 7,
                              .number = 11,
                              .prev_crc = 99,
                              .crc = 1234,
                              .flushed = 6};
    struct log_record wrong[6];
    struct log_chain chain = start;

    for (size_t i = 0; i < countof(wrong); i++)
        wrong[i] = next;
    wrong[0].box = 8;
    wrong[1].epoch = 2; /* void: of an epoch before the cut */
    wrong[2].epoch = 4; /* a new epoch starts with a cut */
    wrong[3].number = 12;
    wrong[4].number = 10;
    wrong[5].prev_crc = 98;
    for (size_t i = 0; i < countof(wrong); i++) {
        assert_false(log_chain_step(&chain, 7, &wrong[i]));
        assert_memory_equal(&chain, &start, sizeof(chain));
    }
    assert_true(log_chain_step(&chain, 7, &next));
    assert_int_equal(chain.last, 11);
    assert_int_equal(chain.crc, 1234);
    assert_int_equal(chain.flushed, 6);
}

static void test_chain__cut_starts_an_epoch(void **state)
{
    struct log_chain chain = {.epoch = 3, .last = 10, .crc = 99};
    struct log_record cut = {
        .kind = LOG_CUT, .epoch = 4, .box = 7, .number = 9, .prev_crc = 99, .crc = 55, .fenced = 2};
    struct log_head head = {.epoch = 4, .box = 7, .first = 11, .prev_crc = 99};

    assert_true(log_chain_joins(&chain, 7, &head));
    assert_false(log_chain_joins(&chain, 8, &head));
    assert_false(log_chain_step(&chain, 7, &cut)); /* names another last number */
    cut.number = 10;
    assert_true(log_chain_step(&chain, 7, &cut));
    assert_int_equal(chain.epoch, 4);
    assert_int_equal(chain.last, 10);
    assert_int_equal(chain.fenced, 2);
    assert_false(log_chain_joins(&chain, 7, &head)); /* the cut stands between */
    head.epoch = 3;
    head.prev_crc = 55;
    assert_false(log_chain_joins(&chain, 7, &head)); /* an older epoch never follows */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record__round_trip),
        cmocka_unit_test(test_record__cut_without_entries_keeps_its_mask),
        cmocka_unit_test(test_record__any_flipped_bit_is_seen),
        cmocka_unit_test(test_record__short_bytes_say_how_much_is_needed),
        cmocka_unit_test(test_head__round_trip_and_damage),
        cmocka_unit_test(test_chain__takes_the_next_record_only),
        cmocka_unit_test(test_chain__cut_starts_an_epoch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
