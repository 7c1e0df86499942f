/* cache/log_record.h - commit records and log slab heads as bytes. Pure; any thread; never reads
 * past what it is given. The bytes are in cache/FORMAT.md "The commit log".
 *
 * Records form a chain: each holds the CRC of the one before it. A position in the chain is a
 * struct log_chain; log_chain_step says whether a record is the next one. */
#ifndef CACHE_LOG_RECORD_H
#define CACHE_LOG_RECORD_H

#include "base/span.h"
#include "base/util.h"
#include "cache/commit.h"
#include "cache/io.h"

#define LOG_RECORD_HEAD_BYTES 64u
#define LOG_RECORD_ALIGN      8u
#define LOG_ENTRY_BYTES_MAX   (2u * CHANGE_BYTES_MAX)
#define LOG_RECORD_BYTES_MAX  (LOG_RECORD_HEAD_BYTES + LOG_ENTRY_BYTES_MAX + 8u)
#define LOG_HEAD_BYTES        IO_ALIGN /* the head of a log slab */

enum log_record_kind {
    LOG_CHANGE = 1, /* entries of one change; number is the one after the last */
    LOG_CUT = 2,    /* first of an epoch: numbers above `number` of older epochs are void */
};
struct log_record {
    enum log_record_kind kind;
    uint32_t epoch, entry_count;
    uint64_t box;      /* low half of the box's uuid */
    uint64_t number;   /* commit number; a cut's: the last good one */
    uint64_t prev_crc; /* of the record before it */
    uint64_t
        flushed; /* all records up to here, and their bytes, were flushed before this was written */
    uint64_t fenced; /* a cut's: bit per device that holds nothing trusted */
    struct span entries;
    uint64_t crc;  /* decoded only */
    uint32_t size; /* decoded only: bytes of the whole record */
};
uint32_t log_record_size(size_t entry_bytes); /* whole record, a multiple of LOG_RECORD_ALIGN */
/* Writes log_record_size(entries.len) bytes; returns the record's CRC. */
uint64_t log_record_encode(const struct log_record *record, void *into);
/* 0 and *ret borrows from bytes; -ENODATA: no record starts here; -EMSGSIZE: *ret->size bytes are
 * needed to tell; -EBADMSG: damaged. Entries are checked too. */
int log_record_decode(struct span bytes, struct log_record *ret) must_check;

/* First block of a log slab. */
struct log_head {
    uint32_t generation; /* of the slab, as its header has it */
    uint32_t epoch;      /* of the records in here */
    uint64_t box;
    uint64_t sequence; /* of log slabs: one more than the slab before it in the chain */
    uint64_t first;    /* number of the first change in here */
    uint64_t prev_crc; /* of the last record before this slab */
    uint64_t flushed;
    uint64_t fenced; /* bit per device: the slab with the cut record may be gone */
};
void log_head_encode(const struct log_head *head, void *into);          /* LOG_HEAD_BYTES */
int log_head_decode(const void *from, struct log_head *ret) must_check; /* -EBADMSG */

/* Where the chain stands. */
struct log_chain {
    uint32_t epoch;
    uint64_t last, crc; /* number and CRC of the last record */
    uint64_t flushed;   /* highest seen */
    uint64_t fenced;
};
/* Is it the next record of this box's chain? Then moves on. */
bool log_chain_step(struct log_chain *chain, uint64_t box, const struct log_record *record);
/* Does a slab with this head continue the chain from here? */
bool log_chain_joins(const struct log_chain *chain, uint64_t box, const struct log_head *head);

#endif
