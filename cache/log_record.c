/* cache/log_record.c - encoding, decoding and chaining of commit records. Pure. */
#include "cache/log_record.h"

#include "base/bytes.h"
#include "base/crc64.h"
#include "cache/entry.h"

#define RECORD_MAGIC   0x63655248u /* "HRec" */
#define HEAD_MAGIC     0x676f4c48u /* "HLog" */
#define RECORD_VERSION 1
#define CRC_BYTES      8u

/* ---- records ---- */

uint32_t log_record_size(size_t entry_bytes)
{
    assert(entry_bytes <= LOG_ENTRY_BYTES_MAX);
    return LOG_RECORD_HEAD_BYTES + (uint32_t)ALIGN_UP(entry_bytes, LOG_RECORD_ALIGN) + CRC_BYTES;
}

uint64_t log_record_encode(const struct log_record *record, void *into)
{
    uint8_t *at = into;
    uint32_t size = log_record_size(record->entries.len);
    uint64_t crc;

    memset(at, 0, LOG_RECORD_HEAD_BYTES);
    le32_put(at, RECORD_MAGIC);
    at[4] = RECORD_VERSION;
    at[5] = (uint8_t)record->kind;
    le32_put(at + 8, size);
    le32_put(at + 12, (uint32_t)record->entries.len);
    le32_put(at + 16, record->epoch);
    le32_put(at + 20, record->entry_count);
    le64_put(at + 24, record->box);
    le64_put(at + 32, record->number);
    le64_put(at + 40, record->prev_crc);
    le64_put(at + 48, record->flushed);
    le64_put(at + 56, record->fenced);
    if (record->entries.len)
        memcpy(at + LOG_RECORD_HEAD_BYTES, record->entries.base, record->entries.len);
    memset(at + LOG_RECORD_HEAD_BYTES + record->entries.len, 0,
           size - CRC_BYTES - LOG_RECORD_HEAD_BYTES - record->entries.len);
    crc = crc64(0, at, size - CRC_BYTES);
    le64_put(at + size - CRC_BYTES, crc);
    return crc;
}

static bool entries_valid(const struct log_record *record)
{
    struct entry entry;
    size_t cursor = 0;
    uint32_t count = 0;
    int found;

    while ((found = entry_next(record->entries, &cursor, &entry)) == 1)
        count++;
    return found == 0 && count == record->entry_count;
}

static void record_head_read(const uint8_t *at, struct log_record *ret)
{
    *ret = (struct log_record){
        .kind = at[5],
        .size = le32_get(at + 8),
        .entries = span_from(at + LOG_RECORD_HEAD_BYTES, le32_get(at + 12)),
        .epoch = le32_get(at + 16),
        .entry_count = le32_get(at + 20),
        .box = le64_get(at + 24),
        .number = le64_get(at + 32),
        .prev_crc = le64_get(at + 40),
        .flushed = le64_get(at + 48),
        .fenced = le64_get(at + 56),
    };
}

int log_record_decode(struct span bytes, struct log_record *ret)
{
    const uint8_t *at = (const uint8_t *)bytes.base;
    struct log_record record;

    if (bytes.len < LOG_RECORD_HEAD_BYTES || le32_get(at) != RECORD_MAGIC)
        return -ENODATA;
    record_head_read(at, &record);
    if (at[4] != RECORD_VERSION || record.entries.len > LOG_ENTRY_BYTES_MAX ||
        record.size != log_record_size(record.entries.len) ||
        (record.kind != LOG_CHANGE && record.kind != LOG_CUT))
        return -EBADMSG;
    if (bytes.len < record.size) {
        ret->size = record.size;
        return -EMSGSIZE;
    }
    record.crc = le64_get(at + record.size - CRC_BYTES);
    if (record.crc != crc64(0, at, record.size - CRC_BYTES) || !entries_valid(&record))
        return -EBADMSG;
    *ret = record;
    return 0;
}

/* ---- slab heads ---- */

void log_head_encode(const struct log_head *head, void *into)
{
    uint8_t *at = into;

    memset(at, 0, LOG_HEAD_BYTES);
    le32_put(at, HEAD_MAGIC);
    at[4] = RECORD_VERSION;
    le32_put(at + 8, head->generation);
    le32_put(at + 12, head->epoch);
    le64_put(at + 16, head->box);
    le64_put(at + 24, head->sequence);
    le64_put(at + 32, head->first);
    le64_put(at + 40, head->prev_crc);
    le64_put(at + 48, head->flushed);
    le64_put(at + 56, head->fenced);
    le64_put(at + LOG_HEAD_BYTES - CRC_BYTES, crc64(0, at, LOG_HEAD_BYTES - CRC_BYTES));
}

int log_head_decode(const void *from, struct log_head *ret)
{
    const uint8_t *at = from;

    if (le32_get(at) != HEAD_MAGIC || at[4] != RECORD_VERSION ||
        le64_get(at + LOG_HEAD_BYTES - CRC_BYTES) != crc64(0, at, LOG_HEAD_BYTES - CRC_BYTES))
        return -EBADMSG;
    *ret = (struct log_head){
        .generation = le32_get(at + 8),
        .epoch = le32_get(at + 12),
        .box = le64_get(at + 16),
        .sequence = le64_get(at + 24),
        .first = le64_get(at + 32),
        .prev_crc = le64_get(at + 40),
        .flushed = le64_get(at + 48),
        .fenced = le64_get(at + 56),
    };
    return 0;
}

/* ---- the chain ---- */

bool log_chain_step(struct log_chain *chain, uint64_t box, const struct log_record *record)
{
    if (record->box != box || record->prev_crc != chain->crc)
        return false;
    if (record->kind == LOG_CHANGE &&
        (record->epoch != chain->epoch || record->number != chain->last + 1))
        return false;
    if (record->kind == LOG_CUT && (record->epoch < chain->epoch || record->number != chain->last))
        return false;
    chain->epoch = record->epoch;
    chain->last = record->number;
    chain->crc = record->crc;
    chain->flushed = MAX(chain->flushed, record->flushed);
    if (record->kind == LOG_CUT)
        chain->fenced = record->fenced;
    return true;
}

bool log_chain_joins(const struct log_chain *chain, uint64_t box, const struct log_head *head)
{
    return head->box == box && head->epoch >= chain->epoch && head->first == chain->last + 1 &&
           head->prev_crc == chain->crc;
}
