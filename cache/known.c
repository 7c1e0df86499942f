/* cache/known.c - listing knowledge (known.h).
 *
 * A range row: container, prefix, delimiter, from -> to, as of. Flat knowledge (no delimiter) of
 * any shorter prefix answers every listing below it; knowledge of a level answers that level only.
 * Rows of one (prefix, delimiter) never overlap: known_put cuts what it covers. */
#include "cache/known.h"

#include "cache/names.h"

#define KNOWN_COVERED_MAX                                                                          \
    64 /* ranges of before that go one by one; more: by one entry, so that a change stays small */
#define KNOWN_PREFIXES_MAX                                                                         \
    64 /* shorter prefixes tried: one per '/' of the asked one, and the empty one */

void span_after_prefix(struct span s, struct row_bytes *ret)
{
    ret->used = 0;
    row_add(ret, s.base, s.len);
    while (ret->used && (uint8_t)ret->base[ret->used - 1] == 0xff)
        ret->used--;
    if (ret->used)
        ret->base[ret->used - 1]++;
}

/* ---- one (prefix, delimiter) ---- */

struct range_at {
    struct row_bytes from, to;
    bool to_end;
    int64_t as_of_ns;
};

static void range_done(struct range_at *range)
{
    row_bytes_done(&range->from);
    row_bytes_done(&range->to);
}

static int read_range(struct index_iter *iter, struct range_at *ret)
{
    struct span prefix, delimiter, from;
    enum known_kind kind;
    struct known_row row;
    uint64_t container;

    if (key_known_decode(index_iter_key(iter), &kind, &container, &prefix, &delimiter, &from) < 0 ||
        known_row_decode(index_iter_value(iter), &row) < 0)
        return -EBADMSG;
    ret->from.used = ret->to.used = 0;
    row_add(&ret->from, from.base, from.len);
    row_add(&ret->to, row.to.base, row.to.len);
    ret->to_end = row.to_end;
    ret->as_of_ns = row.as_of_ns;
    return 0;
}

/* Follows ranges that touch, as far as they are fresh: they stand in order and never overlap (L4).
 */
static int known_in(struct cache *cache, const struct index_view *view, uint64_t container,
                    struct span prefix, struct span delimiter, struct span from, int64_t oldest_ns,
                    struct known_until *ret)
{
    _cleanup_(row_bytes_done) struct row_bytes lower = {0}, upper = {0}, at = {0};
    _cleanup_(range_done) struct range_at range = {0};
    int64_t now = clock_wall_ns();
    struct index_iter *iter;
    int err = 0, known = 0;

    row_add(&at, from.base, from.len);
    key_known(&lower, KNOWN_RANGE, container, prefix, delimiter, SPAN(""));
    span_after_prefix(row_span(&lower), &upper);
    iter = index_iter_new(cache->index, view, FAM_KNOWN, row_span(&lower), row_span(&upper));
    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        err = read_range(iter, &range);
        if (err || span_cmp(row_span(&range.from), row_span(&at)) > 0)
            break;
        if (!range.to_end && span_cmp(row_span(&range.to), row_span(&at)) <= 0)
            continue;
        if (range.as_of_ns < oldest_ns || range.as_of_ns > now)
            break;
        known = 1;
        ret->to_end = range.to_end;
        ret->to.used = at.used = 0;
        row_add(&ret->to, range.to.base, range.to.used);
        row_add(&at, range.to.base, range.to.used);
        if (range.to_end)
            break;
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : known;
}

int known_from(struct cache *cache, const struct index_view *view, uint64_t container,
               struct span prefix, struct span delimiter, struct span from, int64_t oldest_ns,
               struct known_until *ret)
{
    size_t len = prefix.len;
    int known = 0;

    ret->by_level = delimiter.len > 0;
    if (delimiter.len)
        known = known_in(cache, view, container, prefix, delimiter, from, oldest_ns, ret);
    if (known)
        return known;
    ret->by_level = false;
    for (unsigned i = 0; i < KNOWN_PREFIXES_MAX; i++) {
        const char *slash;

        known = known_in(cache, view, container, span_from(prefix.base, len), SPAN(""), from,
                         oldest_ns, ret);
        if (known || !len)
            return known;
        slash = len > 1 ? memrchr(prefix.base, '/', len - 1) : NULL;
        len = slash ? (size_t)(slash - prefix.base) + 1 : 0;
    }
    return 0;
}

bool known_absent(struct cache *cache, uint64_t container, struct span name)
{
    const struct contract *contract = cache_contract(cache, container, name);
    struct known_until until = {0};
    const char *slash;
    int known = 0;
    size_t len;

    if (!contract)
        return false;
    slash = memrchr(name.base, '/', name.len);
    len = slash ? (size_t)(slash - name.base) + 1 : 0;
    known = known_from(cache, NULL, container, span_from(name.base, len), SPAN("/"), name,
                       clock_wall_ns() - (int64_t)contract->absent_ns, &until);
    row_bytes_done(&until.to);
    return known > 0;
}

/* ---- writing ---- */

static void put_range(struct change *change, uint64_t container, struct span prefix,
                      struct span delimiter, struct span from, const struct known_row *row)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};

    key_known(&key, KNOWN_RANGE, container, prefix, delimiter, from);
    known_row_encode(&value, row);
    change_put(change, FAM_KNOWN, row_span(&key), row_span(&value));
}

struct range_put {
    struct change *change;
    uint64_t container;
    struct span prefix, delimiter, from, to;
};

static bool range_within(const struct range_put *put, const struct range_at *old)
{
    return span_cmp(row_span(&old->from), put->from) >= 0 &&
           (!put->to.base || (!old->to_end && span_cmp(row_span(&old->to), put->to) <= 0));
}

/* What is left of a range when [from, to) is taken out of it. */
static void cut_range(const struct range_put *put, const struct range_at *old)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct known_row row = {
        .to_end = old->to_end, .to = row_span(&old->to), .as_of_ns = old->as_of_ns};
    bool before = span_cmp(row_span(&old->from), put->from) < 0;
    bool behind = put->to.base && (old->to_end || span_cmp(row_span(&old->to), put->to) > 0);

    if (!old->to_end && span_cmp(row_span(&old->to), put->from) <= 0)
        return;
    if (behind)
        put_range(put->change, put->container, put->prefix, put->delimiter, put->to, &row);
    if (before) {
        row.to_end = false;
        row.to = put->from;
        put_range(put->change, put->container, put->prefix, put->delimiter, row_span(&old->from),
                  &row);
        return;
    }
    key_known(&key, KNOWN_RANGE, put->container, put->prefix, put->delimiter, row_span(&old->from));
    change_delete(put->change, FAM_KNOWN, row_span(&key));
}

int known_put(struct cache *cache, struct change *change, uint64_t container, struct span prefix,
              struct span delimiter, struct span from, struct span to, int64_t as_of_ns)
{
    struct range_put put = {change, container, prefix, delimiter, from, to};
    _cleanup_(row_bytes_done) struct row_bytes lower = {0}, upper = {0};
    _cleanup_(range_done) struct range_at old = {0};
    struct index_iter *iter;
    unsigned covered = 0;
    int err = 0;

    key_known(&lower, KNOWN_RANGE, container, prefix, delimiter, SPAN(""));
    key_known(&upper, KNOWN_RANGE, container, prefix, delimiter, to);
    if (!to.base)
        span_after_prefix(row_span(&lower), &upper);
    iter = index_iter_new(cache->index, NULL, FAM_KNOWN, row_span(&lower), row_span(&upper));
    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        err = read_range(iter, &old);
        if (err)
            break;
        if (range_within(&put, &old) && ++covered >= KNOWN_COVERED_MAX) {
            if (covered == KNOWN_COVERED_MAX) /* this one and all that begin up to `to` */
                change_delete_range(change, FAM_KNOWN, index_iter_key(iter), row_span(&upper));
            continue;
        }
        cut_range(&put, &old);
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    if (!err)
        put_range(change, container, prefix, delimiter, from,
                  &(struct known_row){.to_end = !to.base, .to = to, .as_of_ns = as_of_ns});
    return err;
}

void known_forget(struct change *change, uint64_t container)
{
    _cleanup_(row_bytes_done) struct row_bytes from = {0}, to = {0};

    key_known(&from, KNOWN_RANGE, container, SPAN(""), SPAN(""), SPAN(""));
    key_known(&to, KNOWN_RANGE, container + 1, SPAN(""), SPAN(""), SPAN(""));
    change_delete_range(change, FAM_KNOWN, row_span(&from), row_span(&to));
}
