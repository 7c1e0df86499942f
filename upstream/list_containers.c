/* upstream/list_containers.c - all pages of List Containers into the cache, one container after
 * another, then the absence of those it no longer names; only then the cache may take the account's
 * containers as known. Single flight per account. */
#include "upstream/internal.h"

#include "base/clock.h"
#include "upstream/list_page.h"
#include "upstream/metrics.h"

#define ROSTER_ATTEMPTS_MAX 4
#define ROSTER_PAGES_MAX    1000
#define ROSTER_PAUSE_MIN_NS (50 * NS_PER_MS)
#define ROSTER_PAUSE_MAX_NS NS_PER_SEC

struct roster {
    struct op op;
    struct flight flight;
    struct remote *remote;
    uint32_t account;
    struct arena *arena;
    struct span marker;
    struct asked asked; /* of the first page: what was created since is not contradicted */
    bool asking;
    struct wan wan;
    struct list_page *page;
    size_t next;          /* container of the page to be learned */
    struct span unlisted; /* the last one that was learned as absent */
    struct timer pause;
    unsigned attempts, pages;
    bool refreshed;
};
#define ROSTER(o) container_of(o, struct roster, op)

static struct next roster_send(struct op *op);
static struct next roster_answered(struct op *op);
static struct next roster_learn(struct op *op);
static struct next roster_learned(struct op *op);
static struct next roster_forget(struct op *op);
static struct next roster_forgotten(struct op *op);

static int roster_body(struct wan *wan, struct span bytes)
{
    return list_page_feed(container_of(wan, struct roster, wan)->page, bytes);
}

static struct next roster_send(struct op *op)
{
    struct roster *r = ROSTER(op);

    list_page_free(r->page);
    r->page = list_page_new();
    wan_init(&r->wan, r->remote, WAN_GET, WAN_READ);
    wan_path(&r->wan, SPAN(""), SPAN(""));
    wan_query(&r->wan, "comp", SPAN("list"));
    wan_query(&r->wan, "include", SPAN("metadata"));
    if (r->marker.len)
        wan_query(&r->wan, "marker", r->marker);
    r->wan.on_body = roster_body;
    if (!r->asking)
        r->asked = cache_ask(r->flight.upstream->conf.cache, &(struct name){.container = 0});
    r->asking = true;
    STAT_INC(upstream_lists);
    wan_start(&r->wan, &op->done);
    return AWAIT(roster_answered);
}

static struct next roster_end(struct roster *r, int err)
{
    flight_answer(&r->flight, err, NULL);
    return FINISH;
}

static void pause_over(struct timer *timer)
{
    completion_post(&container_of(timer, struct roster, pause)->op.done, 0);
}

static struct next roster_refused(struct roster *r, int wan_err)
{
    int err = -EPROTO;

    switch (read_turn(&r->wan, wan_err, &r->refreshed, &err)) {
    case READ_TURN_AGAIN:
        return GO(roster_send);
    case READ_TURN_LATER:
        if (++r->attempts == ROSTER_ATTEMPTS_MAX || r->flight.upstream->stopping)
            return roster_end(r, err);
        timer_start(r->op.done.loop, &r->pause,
                    backoff_ns(r->attempts - 1, ROSTER_PAUSE_MIN_NS, ROSTER_PAUSE_MAX_NS));
        return AWAIT(roster_send);
    default:
        return roster_end(r, err);
    }
}

static struct next roster_answered(struct op *op)
{
    struct roster *r = ROSTER(op);
    bool below;

    if (op->done.err || !wan_answer_ok(&r->wan.answer))
        return roster_refused(r, op->done.err);
    if (list_page_end(r->page, SPAN(""), &below))
        return roster_end(r, -EPROTO);
    r->next = 0;
    return GO(roster_learn);
}

static struct next roster_page_done(struct roster *r)
{
    if (!list_page_marker(r->page).len)
        return GO(roster_forget);
    if (++r->pages == ROSTER_PAGES_MAX)
        return roster_end(r, -EPROTO);
    r->attempts = 0; /* they are of a page */
    r->marker = arena_copy(r->arena, list_page_marker(r->page));
    return GO(roster_send);
}

static struct next roster_learn(struct op *op)
{
    struct roster *r = ROSTER(op);
    const struct container_record *rows;
    struct container_record record;
    size_t n;

    rows = list_page_containers(r->page, &n);
    if (r->next == n)
        return roster_page_done(r);
    record = rows[r->next++];
    record.account = r->account;
    record.checked_ns = r->asked.wall_ns;
    cache_learn_container(r->flight.upstream->conf.cache, r->account, record.name, &r->asked,
                          &record, &op->done);
    return AWAIT(roster_learned);
}

static struct next roster_learned(struct op *op)
{
    if (op->done.err && op->done.err != -ESTALE) /* stale: what is here is newer, and known */
        return roster_end(ROSTER(op), op->done.err);
    return GO(roster_learn);
}

/* Deleted in the cloud by somebody else, as far as nothing of ours is newer. */
static struct next roster_forget(struct op *op)
{
    struct roster *r = ROSTER(op);
    struct cache *cache = r->flight.upstream->conf.cache;
    struct container *gone;

    if (cache_container_unlisted(cache, r->account, &r->asked, r->unlisted, &gone)) {
        cache_learn_containers_end(cache, r->account, &r->asked);
        return roster_end(r, 0);
    }
    r->unlisted = arena_copy(r->arena, container_record(gone)->name);
    container_unref(gone);
    cache_learn_container(cache, r->account, r->unlisted, &r->asked, NULL, &op->done);
    return AWAIT(roster_forgotten);
}

static struct next roster_forgotten(struct op *op)
{
    if (op->done.err && op->done.err != -ESTALE)
        return roster_end(ROSTER(op), op->done.err);
    return GO(roster_forget);
}

static void roster_free(struct op *op)
{
    struct roster *r = ROSTER(op);

    if (r->asking)
        cache_ask_end(r->flight.upstream->conf.cache, &r->asked);
    list_page_free(r->page);
    wan_done(&r->wan);
    arena_free(r->arena);
    flight_done(&r->flight);
    free(r);
}

static void roster_call(struct call *call) /* upstream thread */
{
    struct upstream *upstream = call->upstream;
    struct flight_key key = {.kind = 'a', .number = call->account};
    struct remote *remote = upstream_remote(upstream, call->account);
    struct roster *r;

    if (!remote) {
        call_answer(call, -ENOENT, NULL);
        return;
    }
    if (flight_join(upstream, &key, call))
        return;
    r = xcalloc(1, sizeof(*r));
    r->remote = remote;
    r->account = call->account;
    r->arena = arena_new();
    r->pause.fn = pause_over;
    flight_init(&r->flight, upstream, &key, call);
    op_init(&r->op, client_loop(upstream->client), roster_free);
    op_start(&r->op, GO(roster_send));
}

void upstream_list_containers(struct upstream *upstream, uint32_t account, struct completion *done)
{
    struct call *call = call_new(upstream, roster_call, done);

    if (!call)
        return;
    call->account = account;
    call_start(call, 0);
}
