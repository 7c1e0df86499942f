/* Commit records and log slab heads from hostile bytes: as they are, and with magic, size and CRC
 * made right so that the fields behind them are reached. What decodes must say the same when
 * encoded again. */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc64.h"
#include "cache/entry.h"
#include "cache/log_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct span entries)
{
    struct entry entry;
    size_t cursor = 0;
    volatile char last;

    while (entry_next(entries, &cursor, &entry) == 1) {
        if (entry.key.len)
            last = entry.key.base[entry.key.len - 1];
        if (entry.value.len)
            last = entry.value.base[entry.value.len - 1];
    }
    (void)last;
}

/* What was decoded says the same when encoded again. */
static void encode_again(const struct log_record *record)
{
    char *again = xmalloc(record->size);
    struct log_record second;

    log_record_encode(record, again);
    if (log_record_decode(span_from(again, record->size), &second) ||
        second.number != record->number || second.epoch != record->epoch ||
        !span_eq(second.entries, record->entries))
        abort();
    free(again);
}

static void decode(const char *bytes, size_t size)
{
    struct log_record record = {0};
    struct log_chain chain = {0};
    int err = log_record_decode(span_from(bytes, size), &record);

    if (err == -EMSGSIZE && (record.size <= size || record.size > LOG_RECORD_BYTES_MAX))
        abort();
    if (err)
        return;
    if (record.size > size)
        abort();
    encode_again(&record);
    (void)log_chain_step(&chain, record.box, &record);
}

static void decode_made_right(const uint8_t *data, size_t size)
{
    uint32_t entries = (uint32_t)size - 16, whole = log_record_size(entries);
    char *bytes = calloc(1, whole);

    memcpy(bytes + 4, data, 16);
    memcpy(bytes + 64, data + 16, entries);
    le32_put(bytes, 0x63655248);
    bytes[4] = 1;
    bytes[5] = (char)(1 + (data[1] & 1));
    le32_put(bytes + 8, whole);
    le32_put(bytes + 12, entries);
    le32_put(bytes + 20, data[0] & 7); /* entry count */
    le64_put(bytes + whole - 8, crc64(0, bytes, whole - 8));
    decode(bytes, whole);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct log_head head;

    walk(span_from(data, size));
    decode((const char *)data, size);
    if (size >= LOG_HEAD_BYTES)
        (void)!log_head_decode(data, &head);
    if (size >= 16 && size < 65536)
        decode_made_right(data, size);
    return 0;
}
