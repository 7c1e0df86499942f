/* cache/learn_list.c - a page of the cloud's list: rows of clean blobs, names that vanished,
 * prefixes, and the range that is known from now on. A worker compares the page with the index; the
 * committer applies what nothing has happened to since the question; the range comes with the last
 * change (L3). */
#include "cache/ask.h"
#include "cache/known.h"
#include "cache/learn.h"
#include "cache/names.h"
#include "cache/order.h"
#include "cache/parts.h"
#include "cache/uploads.h"
#include "cache/metrics.h"

#define ACTIONS_BYTES (CHANGE_BYTES_MAX / 4) /* decide appends what they come to */
#define BUILT_BYTES   (CHANGE_BYTES_MAX / 2) /* a change of a page that is built so far goes */

struct action { /* one name: its new row (len 0: it goes) and the content that goes */
    struct action *next;
    struct span name, value;
    uint64_t manifest;
    struct object *located;
    struct blob *blob; /* what the new row says */
    struct order_claim claim;
    bool applied, was_there;
    char bytes[];
};

struct page {
    struct cache *cache;
    struct list_gap gap; /* owned spans */
    struct span to;      /* owned; base NULL: to the end */
    struct asked asked;
    struct blob **rows; /* copies of the page's rows; a prefix has state BLOB_ABSENT */
    size_t count;
    struct completion *done;
};

struct batch { /* of one change */
    struct cache *cache;
    uint64_t container, ticket;
    struct action *actions, **tail;
    size_t bytes;
    struct parts *parts;
    bool last; /* the range is in it, and no action: when it is refused nobody rests on it */
};

/* ---- the committer's part ---- */

/* Is the name free for what the page says? What is newer here stays. A turn that ends without a
 * change would leave no row of a blob that the cloud has: then the range must not say so. */
static bool claim(const struct batch *batch, struct action *at)
{
    bool undecided;

    if (asks_row_stale(batch->cache, batch->ticket, at->name) ||
        uploads_have(batch->cache, batch->container, at->name))
        return false;
    at->applied =
        order_claim(batch->cache, batch->container, at->name, at->blob, &at->claim, &undecided);
    if (!at->applied && undecided && at->value.len && !at->was_there)
        parts_spoil(batch->parts);
    return at->applied;
}

static void apply(struct batch *batch, struct change *change, struct action *at)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    key_blob(&key, batch->container, at->name);
    if (at->value.len)
        change_put(change, FAM_BLOBS, row_span(&key), at->value);
    else
        change_delete(change, FAM_BLOBS, row_span(&key));
    if (at->was_there)
        change_delete(change, FAM_FRESH, row_span(&key));
    if (at->manifest)
        reaper_add(change, batch->cache, at->manifest);
    if (at->located)
        object_unlink_record(change, at->located);
    asks_answered(batch->cache, batch->ticket, batch->container, at->name);
}

/* Readers find the index first, then whoever waits for the name goes on. */
static void release(struct batch *batch, int err)
{
    for (struct action *at = batch->actions; at; at = at->next) {
        if (!at->applied)
            continue;
        if (!err)
            names_forget(batch->cache, batch->container, at->name);
        order_unclaim(batch->cache, &at->claim, err);
        at->applied = false;
    }
}

static int batch_decide(struct change *change)
{
    struct batch *batch = change->arg;

    if (!containers_alive_ordered(batch->cache, batch->container))
        return -ENOENT;
    if (asks_stale(batch->cache, batch->ticket))
        return -ESTALE;
    for (struct action *at = batch->actions; at; at = at->next)
        if (claim(batch, at))
            apply(batch, change, at);
    return batch->last && !parts_whole(batch->parts) ? -ESTALE : 0;
}

static void batch_publish(struct change *change, uint64_t commit, int err)
{
    struct batch *batch = change->arg;
    struct action *next;

    release(batch, err);
    for (struct action *at = batch->actions; at; at = next) {
        next = at->next;
        object_unref(at->located);
        blob_unref(at->blob);
        free(at);
    }
    parts_unref(batch->parts);
    free(batch);
}

/* ---- the changes of a page, on a worker ---- */

struct compare {
    struct page *page;
    struct parts *parts;
    struct batch *batch;   /* what the committer decides of the change being built */
    struct change *change; /* likewise: what is built already */
    struct row_space space;
};

static void part_begin(struct compare *c)
{
    struct batch *batch = xcalloc(1, sizeof(*batch));

    batch->cache = c->page->cache;
    batch->container = c->page->gap.container;
    batch->ticket = c->page->asked.ticket;
    batch->tail = &batch->actions;
    batch->parts = parts_ref(c->parts);
    c->batch = batch;
    c->change = change_new();
    c->change->decide = batch_decide;
    c->change->publish = batch_publish;
    c->change->arg = batch;
}

static void part_submit(struct compare *c)
{
    struct cache *cache = c->page->cache;

    tick_cover(c->change, cache, atomic_load(&cache->tick));
    commit_submit(cache->committer, TAKE(c->change));
}

static void part_end(struct compare *c)
{
    parts_add(c->parts, c->change);
    part_submit(c);
    part_begin(c);
}

/* The change being built is full enough: another one goes on. */
static void part_next(struct compare *c)
{
    if (c->batch->bytes >= ACTIONS_BYTES || change_bytes(c->change) >= BUILT_BYTES)
        part_end(c);
}

/* ---- comparing ---- */

static int add_action(struct compare *c, struct span name, struct span value,
                      const struct blob_row *new, const struct blob_row *old)
{
    struct action *action = xcalloc(1, sizeof(*action) + name.len + value.len);
    struct batch *batch = c->batch;

    memcpy(action->bytes, name.base, name.len);
    action->name = span_from(action->bytes, name.len);
    if (value.len) {
        memcpy(action->bytes + name.len, value.base, value.len);
        action->value = span_from(action->bytes + name.len, value.len);
    }
    if (old && old->state == BLOB_LIVE && old->located) {
        struct record_body body = blob_row_body(old, batch->container, name);
        int err = object_get_record(c->page->cache, NULL, &body, &action->located);

        if (err) {
            free(action);
            return err;
        }
    } else if (old && old->state == BLOB_LIVE) {
        action->manifest = old->manifest;
    }
    action->was_there = old;
    if (new)
        action->blob = blob_new(c->page->cache, &(struct blob_parts){.container = batch->container,
                                                                     .name = name,
                                                                     .state = new->state,
                                                                     .record = &new->record});
    *batch->tail = action;
    batch->tail = &action->next;
    batch->bytes += name.len + value.len + 64;
    part_next(c);
    return 0;
}

static int add_row(struct compare *c, const struct blob *row, const struct blob_row *old)
{
    const struct page *page = c->page;
    const struct contract *contract =
        cache_contract(page->cache, page->gap.container, row->name.blob);
    _cleanup_(row_bytes_done) struct row_bytes value = {0};
    struct blob_row new = {.state = BLOB_CLOUD, .record = row->record};

    if (!contract || contract->write == WRITE_LOCAL)
        return 0; /* a name of that kind is never the cloud's */
    learn_local_name(page->cache, contract, page->asked.wall_ns, &new.record);
    if (old && old->state != BLOB_TOMBSTONE)
        new.record.lease = old->record.lease; /* of the name, whoever writes to it */
    blob_row_encode(&value, &new);
    return add_action(c, row->name.blob, row_span(&value), &new, old);
}

/* May what the cloud says replace this row? */
static bool is_clean(const struct blob_row *row)
{
    if (row->state == BLOB_TOMBSTONE)
        return row->confirmed;
    return row->state == BLOB_CLOUD ||
           (row->record.cloud_etag.len && row->record.durability == DURABILITY_CLOUD);
}

static int compare_name(struct compare *c, struct span name, const struct blob_row *old,
                        const struct blob *row)
{
    if (!is_clean(old))
        return 0;
    if (row && old->state != BLOB_TOMBSTONE &&
        span_eq(old->record.cloud_etag, row->record.cloud_etag))
        return 0; /* the version that is here */
    if (row)
        return add_row(c, row, old);
    return add_action(c, name, SPAN(""), NULL, old); /* a tombstone too: the range says it now */
}

static bool is_prefix(const struct blob *row)
{
    return row->state == BLOB_ABSENT;
}

/* Walks the index and the page side by side, both in name order. */
static int compare_all(struct compare *c)
{
    const struct page *page = c->page;
    _cleanup_(row_bytes_done) struct row_bytes lower = {0}, upper = {0};
    struct index_iter *iter;
    size_t i = 0;
    int err = 0;

    key_blob(&lower, page->gap.container, page->gap.from);
    key_blob(&upper, page->gap.container + 1, SPAN(""));
    if (page->to.base)
        key_blob(&upper, page->gap.container, page->to);
    iter = index_iter_new(page->cache->index, NULL, FAM_BLOBS, row_span(&lower), row_span(&upper));
    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        struct blob_row old;
        uint64_t container;
        struct span name;

        if (key_blob_decode(index_iter_key(iter), &container, &name) < 0 ||
            blob_row_decode(index_iter_value(iter), &old, &c->space) < 0) {
            err = -EIO;
            break;
        }
        if (!span_starts(name, page->gap.prefix))
            break;
        for (; !err && i < page->count && span_cmp(page->rows[i]->name.blob, name) < 0; i++) {
            if (is_prefix(page->rows[i]) && span_starts(name, page->rows[i]->name.blob))
                break; /* names below it are not on this page */
            if (!is_prefix(page->rows[i]))
                err = add_row(c, page->rows[i], NULL);
        }
        if (err)
            break;
        if (i < page->count && is_prefix(page->rows[i]) &&
            span_starts(name, page->rows[i]->name.blob))
            continue;
        if (i < page->count && !is_prefix(page->rows[i]) && span_eq(page->rows[i]->name.blob, name))
            err = compare_name(c, name, &old, page->rows[i++]);
        else
            err = compare_name(c, name, &old, NULL);
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    for (; !err && i < page->count; i++)
        if (!is_prefix(page->rows[i]))
            err = add_row(c, page->rows[i], NULL);
    return err;
}

/* ---- prefixes ---- */

static int page_row_cmp(const void *name, const void *row)
{
    return span_cmp(*(const struct span *)name, (*(struct blob *const *)row)->name.blob);
}

static bool page_has_prefix(const struct page *page, struct span name)
{
    struct blob *const *row =
        page->count ? bsearch(&name, page->rows, page->count, sizeof(struct blob *), page_row_cmp)
                    : NULL;

    return row && is_prefix(*row);
}

static int forget_stubs(struct compare *c)
{
    const struct page *page = c->page;
    const struct list_gap *gap = &page->gap;
    _cleanup_(row_bytes_done) struct row_bytes lower = {0}, upper = {0};
    struct span prefix, delimiter, name;
    struct index_iter *iter;
    enum known_kind kind;
    uint64_t container;
    int err = 0;

    key_known(&lower, KNOWN_STUB, gap->container, gap->prefix, gap->delimiter, SPAN(""));
    span_after_prefix(row_span(&lower), &upper);
    key_known(&lower, KNOWN_STUB, gap->container, gap->prefix, gap->delimiter, gap->from);
    if (page->to.base)
        key_known(&upper, KNOWN_STUB, gap->container, gap->prefix, gap->delimiter, page->to);
    iter = index_iter_new(page->cache->index, NULL, FAM_KNOWN, row_span(&lower), row_span(&upper));
    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        err = key_known_decode(index_iter_key(iter), &kind, &container, &prefix, &delimiter, &name);
        if (err || page_has_prefix(page, name))
            continue; /* it is put again */
        change_delete(c->change, FAM_KNOWN, index_iter_key(iter));
        part_next(c);
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

/* Spread over as many changes as they need: what the range of before says stays true meanwhile. */
static int put_stubs(struct compare *c)
{
    const struct page *page = c->page;
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    int err = page->gap.delimiter.len ? forget_stubs(c) : 0;

    known_row_encode(&value, &(struct known_row){.to_end = true, .as_of_ns = page->asked.wall_ns});
    for (size_t i = 0; i < page->count && !err; i++) {
        if (!is_prefix(page->rows[i]))
            continue;
        key_known(&key, KNOWN_STUB, page->gap.container, page->gap.prefix, page->gap.delimiter,
                  page->rows[i]->name.blob);
        change_put(c->change, FAM_KNOWN, row_span(&key), row_span(&value));
        part_next(c);
    }
    return err;
}

/* ---- the call ---- */

static void page_free(struct page *page)
{
    for (size_t i = 0; i < page->count; i++)
        blob_unref(page->rows[i]);
    free(page->rows);
    free((char *)page->gap.prefix.base);
    free((char *)page->gap.delimiter.base);
    free((char *)page->gap.from.base);
    free((char *)page->to.base);
    free(page);
}

static int build_page(struct compare *c)
{
    const struct page *page = c->page;
    int err = compare_all(c);

    if (!err && c->batch->actions)
        part_end(c); /* names hold whether the range is refused or not */
    if (!err)
        err = put_stubs(c);
    if (!err)
        err = known_put(page->cache, c->change, page->gap.container, page->gap.prefix,
                        page->gap.delimiter, page->gap.from, page->to, page->asked.wall_ns);
    return err;
}

static int learn_page(void *arg) /* worker */
{
    struct page *page = arg;
    struct compare c = {.page = page, .parts = parts_new()};
    struct completion *done = page->done;
    int err;

    part_begin(&c);
    err = build_page(&c);
    row_space_done(&c.space);
    if (err) {
        batch_publish(c.change, 0, err);
        change_free(c.change);
        completion_post(done, err);
    } else {
        c.batch->last = true;
        c.change->done = done;
        STAT_INC(learned_pages);
        part_submit(&c);
    }
    parts_unref(c.parts);
    page_free(page);
    return 0;
}

static struct span span_dup(struct span s)
{
    char *copy;

    if (!s.base)
        return s;
    copy = xmalloc(s.len + 1);
    memcpy(copy, s.base, s.len);
    return span_from(copy, s.len);
}

void cache_learn_list(struct cache *cache, const struct list_gap *gap, const struct asked *asked,
                      const struct learned_row *rows, size_t n, struct span to,
                      struct completion *done)
{
    static const struct blob_record none;
    struct page *page = xcalloc(1, sizeof(*page));

    page->cache = cache;
    page->gap = (struct list_gap){gap->container, span_dup(gap->prefix), span_dup(gap->delimiter),
                                  span_dup(gap->from)};
    page->to = span_dup(to);
    page->asked = *asked;
    page->rows = xcalloc(n, sizeof(struct blob *));
    page->count = n;
    page->done = done;
    for (size_t i = 0; i < n; i++)
        page->rows[i] = blob_new(cache, &(struct blob_parts){
                                            .container = gap->container,
                                            .name = rows[i].name,
                                            .state = rows[i].cloud ? BLOB_CLOUD : BLOB_ABSENT,
                                            .record = rows[i].cloud ? rows[i].cloud : &none,
                                        });
    cache_run(cache, learn_page, page);
}
