/* cache/list.c - List Blobs over one index snapshot: the names of a container merged with prefixes
 * the cloud listed and with names that only have uncommitted blocks. Worker threads.
 *
 * Three sources in name order, each showing its next entry: rows of FAM_BLOBS (tombstones skipped),
 * stubs of FAM_KNOWN, staged names. With a delimiter an entry that has it behind the prefix stands
 * for its common prefix, and every source skips to behind that: one seek per result row. Snapshots
 * of a name stand before it, if asked for: those its row counts. What the cloud may have is given
 * only as far as listing knowledge reaches (L1); from there on the caller asks the cloud. */
#include "cache/known.h"
#include "cache/names.h"
#include "cache/stage.h"
#include "cache/metrics.h"

#include "base/bytes.h"

struct lister {
    struct cache *cache;
    const struct list_query *query;
    struct index_view *view;
    struct index_iter *blobs, *stubs; /* stubs NULL: none wanted */
    struct index_iter *snapshots;     /* opened at the first name that has some */
    struct span resume;               /* the name from whose middle the listing goes on */
    uint64_t resume_at;               /* its snapshots before that time were given */
    struct row_space space;
    struct blob_row row; /* of the entry `blobs` stands at */
    struct row_space snapshot_space;
    struct blob_row snapshot; /* and `snapshots` */
    struct span *staged;      /* names, owned */
    size_t staged_count, staged_at;
    struct row_bytes key;  /* scratch */
    struct row_bytes skip; /* where the last common prefix that was passed ends */
    unsigned rows;
    int64_t oldest; /* knowledge may not be from before */
};

enum source { FROM_NONE, FROM_BLOBS, FROM_STUBS, FROM_STAGED };
struct candidate {
    enum source source;
    struct span name;   /* as a name or stub, full */
    struct span prefix; /* common prefix it stands for; base NULL: itself */
};

/* ---- sources ---- */

static struct span common_prefix(const struct lister *l, struct span name)
{
    struct span rest = span_skip(name, l->query->prefix.len), delimiter = l->query->delimiter;
    const char *hit = delimiter.len && rest.base
                          ? memmem(rest.base, rest.len, delimiter.base, delimiter.len)
                          : NULL;

    if (!hit)
        return (struct span){NULL, 0};
    return span_from(name.base, (size_t)(hit - name.base) + delimiter.len);
}

static int show_blob(struct lister *l, struct span *ret)
{
    uint64_t container;
    struct span name;

    for (; index_iter_valid(l->blobs); index_iter_next(l->blobs)) {
        if (key_blob_decode(index_iter_key(l->blobs), &container, &name) < 0 ||
            blob_row_decode(index_iter_value(l->blobs), &l->row, &l->space) < 0)
            return -EIO;
        if (!span_starts(name, l->query->prefix))
            return 0;
        if (l->row.state != BLOB_TOMBSTONE) {
            *ret = name;
            return 1;
        }
    }
    return index_iter_err(l->blobs);
}

static int show_stub(struct lister *l, struct span *ret)
{
    struct span prefix, delimiter;
    enum known_kind kind;
    uint64_t container;

    if (!l->stubs)
        return 0;
    if (!index_iter_valid(l->stubs))
        return index_iter_err(l->stubs);
    if (key_known_decode(index_iter_key(l->stubs), &kind, &container, &prefix, &delimiter, ret) < 0)
        return -EIO;
    return 1;
}

static int next_candidate(struct lister *l, struct candidate *ret)
{
    struct span name = {NULL, 0};
    int more = show_blob(l, &name);

    *ret = (struct candidate){0};
    if (more > 0)
        *ret = (struct candidate){.source = FROM_BLOBS, .name = name};
    if (more >= 0)
        more = show_stub(l, &name);
    if (more > 0 && (!ret->source || span_cmp(name, ret->name) < 0))
        *ret = (struct candidate){.source = FROM_STUBS, .name = name};
    if (more < 0)
        return more;
    if (l->staged_at < l->staged_count) {
        name = l->staged[l->staged_at];
        if (!ret->source || span_cmp(name, ret->name) < 0)
            *ret = (struct candidate){.source = FROM_STAGED, .name = name};
    }
    if (ret->source)
        ret->prefix = common_prefix(l, ret->name);
    return 0;
}

static void seek(struct lister *l, struct span name) /* names before it are done */
{
    const struct list_query *q = l->query;

    key_blob(&l->key, q->container, name);
    index_iter_seek(l->blobs, row_span(&l->key));
    if (l->stubs) {
        key_known(&l->key, KNOWN_STUB, q->container, q->prefix, q->delimiter, name);
        index_iter_seek(l->stubs, row_span(&l->key));
    }
    while (l->staged_at < l->staged_count && span_cmp(l->staged[l->staged_at], name) < 0)
        l->staged_at++;
}

static void pass(struct lister *l, const struct candidate *c)
{
    if (c->prefix.base) {
        span_after_prefix(c->prefix, &l->skip);
        return seek(l, row_span(&l->skip));
    }
    if (l->staged_at < l->staged_count && span_eq(l->staged[l->staged_at], c->name))
        l->staged_at++; /* listed as a blob, or just now */
    if (c->source == FROM_BLOBS)
        index_iter_next(l->blobs);
    else if (c->source == FROM_STUBS)
        index_iter_next(l->stubs);
}

/* ---- snapshots of a name, before it in time order ---- */

static struct span span_dup(struct span s)
{
    char *copy = xmalloc(s.len + 1);

    if (s.len)
        memcpy(copy, s.base, s.len);
    return span_from(copy, s.len);
}

static bool shows_snapshots(const struct lister *l, const struct candidate *c)
{
    return l->query->snapshots && c->source == FROM_BLOBS && !c->prefix.base &&
           l->row.record.snapshots.count;
}

/* A row's place is its name, or within a name that has snapshots the key its row would have. */
static struct span place_of(struct lister *l, struct span name, uint64_t number)
{
    key_version(&l->key, l->query->container, name, number);
    return span_skip(row_span(&l->key), sizeof(uint64_t));
}

static struct span split_place(struct span place, struct lister *l)
{
    const char *end = place.len ? memchr(place.base, 0, place.len) : NULL;
    struct span name = end ? span_from(place.base, (size_t)(end - place.base)) : place;

    if (!end || place.len != name.len + VERSION_TAIL_BYTES)
        return name;
    l->resume = name;
    l->resume_at = be64_get(end + 1);
    return name;
}

static uint64_t snapshots_from(const struct lister *l, struct span name)
{
    uint64_t since = l->row.record.snapshots.since;

    return span_eq(name, l->resume) ? MAX(since, l->resume_at) : since;
}

static void seek_snapshot(struct lister *l, struct span name, uint64_t number)
{
    _cleanup_(row_bytes_done) struct row_bytes end = {0};

    key_version(&l->key, l->query->container, name, number);
    if (l->snapshots)
        return index_iter_seek(l->snapshots, row_span(&l->key));
    key_blob(&end, l->query->container + 1, SPAN(""));
    l->snapshots =
        index_iter_new(l->cache->index, l->view, FAM_VERSIONS, row_span(&l->key), row_span(&end));
}

/* 1: *number and l->snapshot are the next one of that name. */
static int next_snapshot(struct lister *l, struct span name, uint64_t *number)
{
    uint64_t container;
    struct span of;

    if (!index_iter_valid(l->snapshots))
        return index_iter_err(l->snapshots);
    if (key_version_decode(index_iter_key(l->snapshots), &container, &of, number) < 0)
        return -EIO;
    if (!span_eq(of, name) || *number >= VERSION_ETAGS)
        return 0;
    if (blob_row_decode(index_iter_value(l->snapshots), &l->snapshot, &l->snapshot_space) < 0)
        return -EIO;
    return 1;
}

static bool page_ends(struct lister *l, struct span name, uint64_t number, struct list_end *ret)
{
    if (l->rows < l->query->max)
        return false;
    ret->next = span_dup(place_of(l, name, number));
    return true;
}

/* 0, also when the page ends among them: ret->next is set. Else row's own result, or -errno. */
static int give_snapshots(struct lister *l, const struct candidate *c,
                          int (*row)(void *arg, const struct list_row *row), void *arg,
                          struct list_end *ret)
{
    uint64_t number = snapshots_from(l, c->name);
    int more = 0, err;

    if (number < VERSION_ETAGS) { /* else only the name itself is left */
        seek_snapshot(l, c->name, number);
        more = next_snapshot(l, c->name, &number);
    }
    for (; more > 0; more = next_snapshot(l, c->name, &number)) {
        if (page_ends(l, c->name, number, ret))
            return 0;
        l->rows++;
        err = row(arg, &(struct list_row){.name = c->name,
                                          .record = &l->snapshot.record,
                                          .place = place_of(l, c->name, number)});
        if (err)
            return err;
        index_iter_next(l->snapshots);
    }
    if (!more)
        (void)page_ends(l, c->name, UINT64_MAX, ret);
    return more;
}

/* ---- rows ---- */

static int give(struct lister *l, const struct candidate *c,
                int (*row)(void *arg, const struct list_row *row), void *arg)
{
    static const struct blob_record uncommitted = {.type = BLOB_BLOCK};
    struct list_row give = {.name = c->name, .place = c->name};

    l->rows++;
    if (shows_snapshots(l, c))
        give.place = place_of(l, c->name, UINT64_MAX);
    if (c->prefix.base)
        give.name = give.place = c->prefix;
    else if (c->source == FROM_BLOBS)
        give.record = &l->row.record;
    else if (c->source == FROM_STAGED) {
        give.record = &uncommitted;
        give.uncommitted = true;
    }
    return row(arg, &give);
}

static int give_entry(struct lister *l, const struct candidate *c,
                      int (*row)(void *arg, const struct list_row *row), void *arg,
                      struct list_end *ret)
{
    int err = shows_snapshots(l, c) ? give_snapshots(l, c, row, arg, ret) : 0;

    return err || ret->next.base ? err : give(l, c, row, arg);
}

static int gap_at(const struct lister *l, struct span prefix, struct span from,
                  struct list_end *ret)
{
    ret->gap = (struct list_gap){
        .container = l->query->container,
        .prefix = span_dup(prefix),
        .delimiter = span_dup(l->query->delimiter),
        .from = span_dup(from),
    };
    return -ENODATA;
}

/* ---- stubs ---- */

static int any_row(struct lister *l, enum family family, struct span lower, struct span upper,
                   bool *any)
{
    struct index_iter *iter = index_iter_new(l->cache->index, l->view, family, lower, upper);
    int err;

    *any = index_iter_valid(iter);
    err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int any_below(struct lister *l, struct span stub, bool *names, bool *stubs)
{
    _cleanup_(row_bytes_done) struct row_bytes lower = {0}, upper = {0}, end = {0};
    const struct list_query *q = l->query;
    int err;

    span_after_prefix(stub, &end);
    key_blob(&lower, q->container, stub);
    key_blob(&upper, q->container, row_span(&end));
    err = any_row(l, FAM_BLOBS, row_span(&lower), row_span(&upper), names);
    if (err)
        return err;
    key_known(&lower, KNOWN_STUB, q->container, stub, q->delimiter, SPAN(""));
    span_after_prefix(row_span(&lower), &upper);
    return any_row(l, FAM_KNOWN, row_span(&lower), row_span(&upper), stubs);
}

/* The cloud listed the prefix, and no name below it lives here. If names below it were deleted
 * here, what the cloud has below it must be known to say whether any is left: 1 show it, 0 hide it.
 */
static int stub_shows(struct lister *l, struct span stub, struct list_end *ret)
{
    struct known_until until = {0};
    bool names, stubs;
    int err = any_below(l, stub, &names, &stubs), known;

    if (err || stubs || l->query->offline)
        return err ? err : 1;
    known = known_from(l->cache, l->view, l->query->container, stub, l->query->delimiter, stub,
                       l->oldest, &until);
    if (known > 0 && !until.to_end)
        known = names ? gap_at(l, stub, row_span(&until.to), ret) : 1;
    else if (known == 0)
        known = names ? gap_at(l, stub, stub, ret) : 1;
    else if (known > 0)
        known = 0;
    row_bytes_done(&until.to);
    return known;
}

/* Does the candidate make a row? Blobs below a stub make it one. */
static int shows(struct lister *l, const struct candidate *c, struct list_end *ret)
{
    uint64_t container;
    struct span name;

    if (c->source != FROM_STUBS)
        return 1;
    if (l->staged_at < l->staged_count && span_starts(l->staged[l->staged_at], c->name))
        return 1;
    if (index_iter_valid(l->blobs) &&
        key_blob_decode(index_iter_key(l->blobs), &container, &name) == 0 &&
        span_starts(name, c->name))
        return 1;
    return stub_shows(l, c->name, ret);
}

/* Where the listing goes on when knowledge ends: it may end within a prefix that was given. */
static struct span known_end(const struct lister *l, const struct known_until *until)
{
    struct span to = row_span(&until->to), skip = row_span(&l->skip);

    return span_cmp(to, skip) < 0 ? skip : to;
}

static int walk(struct lister *l, const struct known_until *until,
                int (*row)(void *arg, const struct list_row *row), void *arg, struct list_end *ret)
{
    for (;;) {
        struct candidate c;
        int err = next_candidate(l, &c);
        bool beyond = !until->to_end && (!c.source || span_cmp(c.name, row_span(&until->to)) >= 0);

        if (err)
            return err;
        if (l->rows == l->query->max) {
            if (beyond)
                ret->next = span_dup(known_end(l, until));
            else if (c.source)
                ret->next = span_dup(c.prefix.base ? c.prefix : c.name);
            return 0;
        }
        if (beyond)
            return gap_at(l, l->query->prefix, known_end(l, until), ret);
        if (!c.source)
            return 0;
        err = shows(l, &c, ret);
        if (err > 0)
            err = give_entry(l, &c, row, arg, ret);
        if (err || ret->next.base)
            return err;
        pass(l, &c);
    }
}

/* ---- a listing ---- */

/* Oldest time knowledge may be from: as the most demanding line says that a name below the prefix
 * may fall under. INT64_MAX: none is needed, all such names are ours. */
static int64_t oldest_allowed(struct cache *cache, const struct list_query *q,
                              const struct container *in)
{
    const struct account *account = account_by_id(cache->conf.accounts, in->record.account);
    const struct contract *contract;
    uint64_t fresh_ns = UINT64_MAX;
    bool cloud = false;
    unsigned at = 0;

    if (!account || !in->record.in_cloud || !contract_container_in_cloud(account, in->record.name))
        return INT64_MAX;
    while ((contract = contract_below(account, in->record.name, q->prefix, &at))) {
        if (contract->write == WRITE_LOCAL)
            continue;
        cloud = true;
        if (contract->fresh != FRESH_EXCLUSIVE)
            fresh_ns = MIN(fresh_ns, contract->fresh_ns ? contract->fresh_ns : FRESH_DEFAULT_NS);
    }
    if (!cloud)
        return INT64_MAX;
    return q->offline || fresh_ns == UINT64_MAX ? INT64_MIN : clock_wall_ns() - (int64_t)fresh_ns;
}

/* How far the listing may go. 0 or -errno; -ENODATA: the gap is at `from`. */
static int reach(struct lister *l, const struct container *in, struct span from,
                 struct known_until *until, struct list_end *ret)
{
    int64_t oldest = oldest_allowed(l->cache, l->query, in);
    int known;

    l->oldest = oldest;
    if (oldest == INT64_MAX) {
        until->to_end = true;
        return 0;
    }
    known = known_from(l->cache, l->view, l->query->container, l->query->prefix,
                       l->query->delimiter, from, oldest, until);
    if (known < 0)
        return known;
    if (known == 0 && l->query->offline) { /* what there is, with a hole the caller knows of */
        until->to_end = true;
        until->by_level = l->query->delimiter.len;
        return 0;
    }
    return known ? 0 : gap_at(l, l->query->prefix, from, ret);
}

static void open_sources(struct lister *l, struct span from, bool stubs)
{
    _cleanup_(row_bytes_done) struct row_bytes lower = {0}, upper = {0};
    const struct list_query *q = l->query;
    struct span start = from, prefix;

    key_blob(&lower, q->container, from);
    key_blob(&upper, q->container + 1, SPAN(""));
    l->blobs =
        index_iter_new(l->cache->index, l->view, FAM_BLOBS, row_span(&lower), row_span(&upper));
    if (stubs) {
        /* Going on from within a common prefix: its stub still counts. */
        if (from.len >= q->prefix.len && (prefix = common_prefix(l, from)).base)
            start = prefix;
        key_known(&lower, KNOWN_STUB, q->container, q->prefix, q->delimiter, SPAN(""));
        span_after_prefix(row_span(&lower), &upper);
        key_known(&lower, KNOWN_STUB, q->container, q->prefix, q->delimiter, start);
        l->stubs =
            index_iter_new(l->cache->index, l->view, FAM_KNOWN, row_span(&lower), row_span(&upper));
    }
    if (q->uncommitted)
        l->staged = stage_names(l->cache, q->container, from, &l->staged_count);
    for (size_t i = l->staged_count; i && !span_starts(l->staged[i - 1], q->prefix); i--)
        free((char *)l->staged[--l->staged_count].base);
}

static void lister_done(struct lister *l)
{
    if (l->blobs)
        index_iter_free(l->blobs);
    if (l->stubs)
        index_iter_free(l->stubs);
    if (l->snapshots)
        index_iter_free(l->snapshots);
    row_space_done(&l->snapshot_space);
    for (size_t i = 0; i < l->staged_count; i++)
        free((char *)l->staged[i].base);
    free(l->staged);
    row_space_done(&l->space);
    row_bytes_done(&l->key);
    row_bytes_done(&l->skip);
    index_view_free(l->cache->index, l->view);
}

int cache_list(struct cache *cache, const struct list_query *query,
               int (*row)(void *arg, const struct list_row *row), void *arg, struct list_end *ret)
{
    struct list_query q = *query;
    struct lister l = {.cache = cache, .query = &q};
    struct span from = split_place(query->from, &l);
    struct known_until until = {0};
    struct container *in;
    int err;

    *ret = (struct list_end){0};
    if (span_cmp(from, q.prefix) < 0)
        from = q.prefix;
    if (q.prefix.len > BLOB_NAME_BYTES_MAX)
        return 0; /* no name is that long, and no key of FAM_KNOWN has room for it */
    if (q.delimiter.len > BLOB_NAME_BYTES_MAX)
        q.delimiter = SPAN(""); /* likewise */
    if (cache_container_by_id(cache, query->container, &in) < 0)
        return -ENOENT;
    l.view = index_view_new(cache->index);
    err = reach(&l, in, from, &until, ret);
    if (!err) {
        open_sources(&l, from, until.by_level);
        err = walk(&l, &until, row, arg, ret);
    }
    lister_done(&l);
    row_bytes_done(&until.to);
    container_unref(in);
    if (err == -ENODATA)
        STAT_INC(list_gaps);
    else
        STAT_INC(list_pages);
    return err;
}

void list_end_done(struct list_end *end)
{
    free((char *)end->next.base);
    free((char *)end->gap.prefix.base);
    free((char *)end->gap.delimiter.base);
    free((char *)end->gap.from.base);
    *end = (struct list_end){0};
}
