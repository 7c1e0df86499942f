/* cache/commit_tail.c - at start: which of the last records have their bytes? Main thread, blocks.
 *
 * Only records whose flush is not known finished are asked about. A row that a later record of the
 * tail puts or deletes again will not be there after replay, and its bytes may have been given to
 * others by then: it must not cut the log. But what counts as later depends on the cut, so: judge
 * with the end as it is; the first record that fails moves the end before it; judge again until
 * none fails. */
#include "cache/commit_internal.h"

#include "base/arena.h"
#include "base/log.h"
#include "cache/entry.h"

struct tail_row {
    uint64_t number;
    struct entry entry;
    bool superseded;
};

struct tail {
    const struct committer_conf *conf;
    uint64_t flushed;
    struct arena *arena;
    struct tail_row *rows;
    size_t count, room;
    struct log_chain
        *chain; /* where the chain stands after each record of the tail, and before it */
    size_t chains, chain_room;
    uint32_t *slots; /* hash table of rows: index + 1 */
    size_t slot_mask;
};

/* ---- gathering ---- */

static void add_chain(struct tail *tail, const struct log_chain *chain)
{
    if (tail->chains == tail->chain_room) {
        tail->chain_room = MAX(tail->chain_room * 2, (size_t)64);
        tail->chain = xrealloc(tail->chain, tail->chain_room * sizeof(*tail->chain));
    }
    tail->chain[tail->chains++] = *chain;
}

static void add_row(struct tail *tail, uint64_t number, const struct entry *entry)
{
    struct tail_row row = {.number = number, .entry = *entry};

    row.entry.key = arena_copy(tail->arena, entry->key);
    row.entry.value = arena_copy(tail->arena, entry->value);
    if (tail->count == tail->room) {
        tail->room = MAX(tail->room * 2, (size_t)256);
        tail->rows = xrealloc(tail->rows, tail->room * sizeof(*tail->rows));
    }
    tail->rows[tail->count++] = row;
}

static int gather(void *arg, const struct log_record *record)
{
    struct tail *tail = arg;
    struct entry entry;
    size_t cursor = 0;
    struct log_chain chain = tail->chain[tail->chains - 1];

    chain.epoch = record->epoch;
    chain.last = record->number;
    chain.crc = record->crc;
    if (record->number <= tail->flushed)
        tail->chains = 0; /* still before the tail */
    add_chain(tail, &chain);
    if (record->kind == LOG_CHANGE && record->number > tail->flushed)
        while (entry_next(record->entries, &cursor, &entry) == 1)
            add_row(tail, record->number, &entry);
    return 0;
}

/* ---- what later records make of earlier rows ---- */

static uint64_t row_hash(const struct entry *entry)
{
    uint64_t hash = 0xcbf29ce484222325ull ^ entry->family;

    for (size_t i = 0; i < entry->key.len; i++)
        hash = (hash ^ (uint8_t)entry->key.base[i]) * 0x100000001b3ull;
    return hash ^ hash >> 32;
}

/* true: a row of that key was seen (later in the log); else it is now. */
static bool seen(struct tail *tail, size_t i)
{
    const struct entry *entry = &tail->rows[i].entry, *other;
    size_t slot = row_hash(entry) & tail->slot_mask;

    for (; tail->slots[slot]; slot = (slot + 1) & tail->slot_mask) {
        other = &tail->rows[tail->slots[slot] - 1].entry;
        if (other->family == entry->family && span_eq(other->key, entry->key))
            return true;
    }
    tail->slots[slot] = (uint32_t)i + 1;
    return false;
}

static bool in_later_range(const struct tail *tail, size_t i, size_t end)
{
    const struct entry *entry = &tail->rows[i].entry;

    for (size_t j = i + 1; j < end; j++) {
        const struct entry *range = &tail->rows[j].entry;

        if (range->kind == ENTRY_DELETE_RANGE && range->family == entry->family &&
            span_cmp(range->key, entry->key) <= 0 && span_cmp(entry->key, range->value) < 0)
            return true;
    }
    return false;
}

static size_t rows_until(const struct tail *tail, uint64_t last)
{
    size_t end = tail->count;

    while (end && tail->rows[end - 1].number > last)
        end--;
    return end;
}

static void mark(struct tail *tail, uint64_t last)
{
    size_t end = rows_until(tail, last);
    bool ranges = false;

    memset(tail->slots, 0, (tail->slot_mask + 1) * sizeof(*tail->slots));
    for (size_t i = end; i-- > 0;) {
        struct tail_row *row = &tail->rows[i];

        row->superseded = row->entry.kind != ENTRY_DELETE_RANGE && seen(tail, i);
        if (ranges && !row->superseded)
            row->superseded = in_later_range(tail, i, end);
        ranges |= row->entry.kind == ENTRY_DELETE_RANGE;
    }
}

/* ---- judging ---- */

/* 0: all bytes up to `last` are there; else the number of the first record that lacks some. */
static uint64_t first_bad(struct tail *tail, uint64_t last)
{
    size_t end = rows_until(tail, last);

    mark(tail, last);
    for (size_t i = 0; i < end; i++) {
        const struct tail_row *row = &tail->rows[i];
        int err = tail->conf->check_bytes(tail->conf->check_arg, &row->entry, row->superseded);

        if (!err)
            continue;
        log_warn("the commit log is cut: bytes of an unfinished change are not whole",
                 KV_UINT("change", row->number), KV_ERR(err));
        return row->number;
    }
    return 0;
}

static void judge(struct tail *tail, struct log_chain *end)
{
    uint64_t bad;
    size_t slots = 64;

    while (slots < 2 * tail->count)
        slots *= 2;
    tail->slots = xcalloc(slots, sizeof(*tail->slots));
    tail->slot_mask = slots - 1;
    while ((bad = first_bad(tail, end->last))) {
        while (tail->chains > 1 && tail->chain[tail->chains - 1].last >= bad)
            tail->chains--;
        *end = tail->chain[tail->chains - 1];
    }
}

int commit_tail_check(const struct committer_conf *conf, const struct log_path *path,
                      uint64_t flushed, struct log_chain *end)
{
    struct tail tail = {.conf = conf, .flushed = flushed};
    struct log_chain begin = *end;
    struct log_end ignored;
    int err;

    if (!conf->check_bytes || flushed >= end->last)
        return 0;
    begin.epoch = path->slab[0].head.epoch;
    begin.last = path->slab[0].head.first - 1;
    begin.crc = path->slab[0].head.prev_crc;
    tail.arena = arena_new();
    add_chain(&tail, &begin);
    err = log_path_walk(path, gather, &tail, &ignored);
    if (!err)
        judge(&tail, end);
    arena_free(tail.arena);
    free(tail.rows);
    free(tail.chain);
    free(tail.slots);
    return err;
}
