/* upstream/listing.c - one page of List Blobs into the cache, for a gap that begins at any name.
 *
 * The cloud goes on from opaque markers, the cache from names. Three ways to get to gap.from, in
 * order:
 *   1 startFrom= (a service that knows it); one that ignores it shows by rows below it, and is not
 *     asked again
 *   2 the marker the cloud gave with the page that ended there (kept in a table, may be gone). A
 *     marker may stand for the next name as of then, and what was created before that name since
 *     would be missed: it is used while it is young
 *   3 page by page from the beginning; what is passed is learned too
 * Steps: send -> answered -> learned, again while the page ends before gap.from or brought no rows.
 */
#include "upstream/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "upstream/list_page.h"
#include "upstream/metrics.h"

#define LIST_ATTEMPTS_MAX 4
#define LIST_PAGES_MAX                                                                             \
    20000 /* of one walk: a cloud that gives empty pages for ever is not followed */
#define LIST_PAUSE_MIN_NS (50 * NS_PER_MS)
#define LIST_PAUSE_MAX_NS NS_PER_SEC
#define MARKERS_MAX       1024
#define MARKER_AGE_MAX_NS (10 * NS_PER_SEC)

/* ---- markers: direct-mapped; a lost one costs a walk, never an error ---- */

struct markers {
    struct marker {
        char *key, *text;
        size_t key_bytes, text_bytes;
        uint64_t since_ns; /* monotonic */
    } at[MARKERS_MAX];
};

struct markers *markers_new(void)
{
    return xcalloc(1, sizeof(struct markers));
}

struct markers *markers_free(struct markers *markers)
{
    if (!markers)
        return NULL;
    for (unsigned i = 0; i < MARKERS_MAX; i++) {
        free(markers->at[i].key);
        free(markers->at[i].text);
    }
    free(markers);
    return NULL;
}

static struct marker *marker_at(struct markers *markers, struct span key)
{
    uint64_t hash = 0xcbf29ce484222325ULL;

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.base[i]) * 0x100000001b3ULL;
    return &markers->at[(hash ^ hash >> 32) % MARKERS_MAX];
}

static struct span marker_get(struct markers *markers, struct span key)
{
    struct marker *m = marker_at(markers, key);

    if (!m->key || !span_eq(span_from(m->key, m->key_bytes), key) ||
        clock_mono_ns() - m->since_ns > MARKER_AGE_MAX_NS)
        return (struct span){NULL, 0};
    return span_from(m->text, m->text_bytes);
}

static void *dup_bytes(struct span s)
{
    char *copy = xmalloc(s.len + 1);

    memcpy(copy, s.base, s.len);
    return copy;
}

static void marker_put(struct markers *markers, struct span key, struct span text)
{
    struct marker *m = marker_at(markers, key);

    free(m->key);
    free(m->text);
    *m = (struct marker){dup_bytes(key), dup_bytes(text), key.len, text.len, clock_mono_ns()};
}

/* ---- the page ---- */

struct listing {
    struct op op;
    struct flight flight;
    struct remote *remote;
    struct list_gap gap; /* owned */
    struct arena *arena;
    struct span container, page_from, marker;
    bool start_from; /* this request asks with startFrom=page_from */
    struct asked asked;
    bool asking;
    struct wan wan;
    struct list_page *page;
    struct timer pause;
    unsigned attempts, pages;
    bool refreshed, restarted;
    struct span to; /* of the page just learned */
};
#define LISTING(o) container_of(o, struct listing, op)

static struct next listing_send(struct op *op);
static struct next listing_answered(struct op *op);
static struct next listing_learned(struct op *op);

/* Container ids are of the box, not of an account. `from` may end in a NUL: "a" and what follows
 * it are two places. */
static struct span marker_key(struct listing *l, struct span from)
{
    struct flight_key key = {
        .kind = 'm', .number = l->gap.container, .part = {l->gap.prefix, l->gap.delimiter, from}};

    return flight_key_print(&key, l->arena);
}

static int listing_body(struct wan *wan, struct span bytes)
{
    struct listing *l = container_of(wan, struct listing, wan);

    return list_page_feed(l->page, bytes);
}

static struct next listing_send(struct op *op)
{
    struct listing *l = LISTING(op);
    struct cache *cache = l->flight.upstream->conf.cache;
    struct wan *wan = &l->wan;

    list_page_free(l->page);
    l->page = list_page_new();
    wan_init(wan, l->remote, WAN_GET, WAN_READ);
    wan_path(wan, l->container, SPAN(""));
    wan_query(wan, "restype", SPAN("container"));
    wan_query(wan, "comp", SPAN("list"));
    wan_query(wan, "include", SPAN("metadata"));
    if (l->gap.prefix.len)
        wan_query(wan, "prefix", l->gap.prefix);
    if (l->gap.delimiter.len)
        wan_query(wan, "delimiter", l->gap.delimiter);
    if (l->marker.len)
        wan_query(wan, "marker", l->marker);
    else if (l->start_from)
        wan_query(wan, "startFrom", l->page_from);
    wan->on_body = listing_body;
    if (l->asking)
        cache_ask_end(cache, &l->asked);
    l->asked = cache_ask(cache, &(struct name){.container = l->gap.container});
    l->asking = true;
    STAT_INC(upstream_lists);
    wan_start(wan, &op->done);
    return AWAIT(listing_answered);
}

static struct next listing_end(struct listing *l, int err)
{
    flight_answer(&l->flight, err, NULL);
    return FINISH;
}

/* Pages stand for ranges: the first one begins where nothing of the prefix can be before. */
static void listing_from_start(struct listing *l)
{
    l->marker = (struct span){NULL, 0};
    l->page_from = l->gap.prefix;
    l->start_from = false;
}

/* startFrom is inclusive, and no URL may hold a NUL: from "the first name after a" it is "a". */
static struct span without_nul(struct span from)
{
    return span_from(from.base, from.len - (from.len && !from.base[from.len - 1]));
}

static void listing_place(struct listing *l)
{
    l->page_from = l->gap.from;
    l->marker = (struct span){NULL, 0};
    l->start_from = false;
    if (span_cmp(l->gap.from, l->gap.prefix) <= 0)
        return; /* the beginning: the first page has it */
    if (!l->remote->start_from_ignored) {
        l->page_from = without_nul(l->gap.from);
        l->start_from = true;
        return;
    }
    l->marker =
        arena_copy(l->arena, marker_get(l->flight.upstream->markers, marker_key(l, l->gap.from)));
    if (!l->marker.len)
        listing_from_start(l);
}

static struct next listing_learn(struct listing *l)
{
    struct list_gap gap = l->gap;
    const struct learned_row *rows;
    size_t n;

    rows = list_page_rows(l->page, &n);
    for (size_t i = 0; i < n; i++)
        if (rows[i].cloud)
            ((struct blob_record *)rows[i].cloud)->checked_ns = l->asked.wall_ns;
    gap.from = l->page_from;
    l->to = list_page_to(l->page);
    cache_learn_list(l->flight.upstream->conf.cache, &gap, &l->asked, rows, n, l->to, &l->op.done);
    return AWAIT(listing_learned);
}

/* A page without rows but with a marker stands for nothing yet. */
static struct next listing_empty(struct listing *l)
{
    if (++l->pages == LIST_PAGES_MAX)
        return listing_end(l, -EPROTO);
    l->marker = arena_copy(l->arena, list_page_marker(l->page));
    return GO(listing_send);
}

static struct next listing_parsed(struct listing *l)
{
    bool below;
    size_t n;
    int err = list_page_end(l->page, l->page_from, &below);

    if (err)
        return listing_end(l, -EPROTO);
    if (below && l->start_from) { /* ignored: this was the first page of all */
        l->remote->start_from_ignored = true;
        listing_place(l);
        return GO(listing_send);
    }
    (void)list_page_rows(l->page, &n);
    if (!n && list_page_marker(l->page).len)
        return listing_empty(l);
    return listing_learn(l);
}

static void pause_over(struct timer *timer)
{
    completion_post(&container_of(timer, struct listing, pause)->op.done, 0);
}

static struct next listing_later(struct listing *l, int err)
{
    if (++l->attempts == LIST_ATTEMPTS_MAX || l->flight.upstream->stopping)
        return listing_end(l, err);
    timer_start(l->op.done.loop, &l->pause,
                backoff_ns(l->attempts - 1, LIST_PAUSE_MIN_NS, LIST_PAUSE_MAX_NS));
    return AWAIT(listing_send);
}

static struct next listing_answered(struct op *op)
{
    struct listing *l = LISTING(op);
    int wan_err = op->done.err, status = l->wan.answer.status, err = -EPROTO;

    if (!wan_err && wan_answer_ok(&l->wan.answer))
        return listing_parsed(l);
    if (!wan_err && answer_absent(&l->wan))
        return listing_end(l, -ENOENT); /* the container's own lookup will learn it */
    if (!wan_err && status == 400 && (l->marker.len || l->start_from) && !l->restarted) {
        l->restarted = true; /* the marker has expired, or no URL may say this name */
        listing_from_start(l);
        return GO(listing_send);
    }
    switch (read_turn(&l->wan, wan_err, &l->refreshed, &err)) {
    case READ_TURN_AGAIN:
        return GO(listing_send);
    case READ_TURN_LATER:
        return listing_later(l, err);
    default:
        return listing_end(l, err);
    }
}

static struct next listing_learned(struct op *op)
{
    struct listing *l = LISTING(op);

    if (op->done.err || !l->to.base)
        return listing_end(l, op->done.err);
    marker_put(l->flight.upstream->markers, marker_key(l, l->to), list_page_marker(l->page));
    if (span_cmp(l->to, l->gap.from) > 0)
        return listing_end(l, 0);
    if (++l->pages == LIST_PAGES_MAX)
        return listing_end(l, -EPROTO);
    l->attempts = 0; /* they are of a page: a long walk over a lossy WAN ends as well */
    l->page_from = arena_copy(l->arena, l->to);
    l->marker = arena_copy(l->arena, list_page_marker(l->page));
    return GO(listing_send);
}

static void listing_free(struct op *op)
{
    struct listing *l = LISTING(op);

    if (l->asking)
        cache_ask_end(l->flight.upstream->conf.cache, &l->asked);
    list_page_free(l->page);
    wan_done(&l->wan);
    arena_free(l->arena);
    flight_done(&l->flight);
    free(l);
}

/* ---- starting ---- */

static void listing_start(struct upstream *upstream, const struct flight_key *key,
                          struct container *container, struct remote *remote, struct call *call)
{
    struct listing *l = xcalloc(1, sizeof(*l));

    l->remote = remote;
    l->arena = arena_new();
    l->gap = (struct list_gap){.container = key->number,
                               .prefix = arena_copy(l->arena, key->part[0]),
                               .delimiter = arena_copy(l->arena, key->part[1]),
                               .from = arena_copy(l->arena, key->part[2])};
    l->container = arena_copy(l->arena, container_record(container)->name);
    l->pause.fn = pause_over;
    flight_init(&l->flight, upstream, key, call);
    op_init(&l->op, client_loop(upstream->client), listing_free);
    listing_place(l);
    op_start(&l->op, GO(listing_send));
}

static void list_call(struct call *call) /* upstream thread */
{
    struct upstream *upstream = call->upstream;
    struct flight_key key = {.kind = 'l',
                             .number = call->name.container,
                             .part = {call->text[0], call->text[1], call->text[2]}};
    struct container *container;
    struct remote *remote;
    int err;

    if (flight_join(upstream, &key, call))
        return;
    err = cache_container_by_id(upstream->conf.cache, key.number, &container);
    if (err) {
        call_answer(call, err, NULL);
        return;
    }
    remote = upstream_remote(upstream, container_record(container)->account);
    if (remote)
        listing_start(upstream, &key, container, remote, call);
    else
        call_answer(call, -ENOENT, NULL);
    container_unref(container);
}

void upstream_list(struct upstream *upstream, const struct list_gap *gap, struct completion *done)
{
    struct call *call = call_new(upstream, list_call, done);

    if (!call)
        return;
    call->name.container = gap->container;
    call_set_text(call, 0, gap->prefix);
    call_set_text(call, 1, gap->delimiter);
    call_set_text(call, 2, gap->from);
    call_start(call, 0);
}
