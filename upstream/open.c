/* upstream/open.c - an unknown or expired name: one ranged GET that yields the properties and the
 * first bytes, or a HEAD. Single flight; callers go on at its head, the body then runs into a fill.
 *
 * Steps: send -> headed -> learned -> body -> end; a refusal goes back to send or to settle
 * (absence is learned too). The op awaits two things of one GET, its head and its end, so both are
 * noted and `wake` resumes the op only where it waits for that one. */
#include "upstream/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "upstream/metrics.h"

#define OPEN_ATTEMPTS_MAX 4
#define OPEN_PAUSE_MIN_NS (50 * NS_PER_MS)
#define OPEN_PAUSE_MAX_NS NS_PER_SEC

enum open_event { EVENT_NONE, EVENT_HEAD, EVENT_OVER };

struct open {
    struct op op;
    struct flight flight;
    struct remote *remote;
    struct arena *arena; /* name, container's name */
    struct name name;
    uint32_t account;
    struct span container;
    struct blob *held; /* revalidate: what we have */
    uint64_t doubt;    /* the number its mark had when this was asked for; 0: none */
    struct range first;
    struct asked asked;
    bool asking;
    struct wan wan;
    struct completion over; /* the request's end */
    enum open_event awaits;
    bool headed, ended;
    int wan_err;
    struct sink *sink, *later;
    bool sink_ready; /* body bytes may go on: into the sink, or nowhere without one */
    struct blob *blob;
    struct timer pause;
    unsigned attempts;
    bool refreshed, no_range;
    int err;
};
#define OPEN(o) container_of(o, struct open, op)

static struct next open_send(struct op *op);
static struct next open_headed(struct op *op);
static struct next open_learned(struct op *op);
static struct next open_body(struct op *op);
static struct next open_settled(struct op *op);
static struct next open_end(struct open *o, int err);

/* ---- the request's two events ---- */

static void open_wake(struct open *o, enum open_event what)
{
    if (o->awaits != what && !(o->awaits == EVENT_HEAD && what == EVENT_OVER))
        return;
    o->awaits = EVENT_NONE;
    completion_post(&o->op.done, 0);
}

static void on_head(struct wan *wan)
{
    struct open *o = container_of(wan, struct open, wan);

    if (!wan_answer_ok(&wan->answer))
        return; /* what a refusal means is decided when it is over */
    o->headed = true;
    open_wake(o, EVENT_HEAD);
}

static int on_body(struct wan *wan, struct span bytes)
{
    struct open *o = container_of(wan, struct open, wan);

    if (!o->sink_ready)
        return WAN_PAUSE;
    return o->sink ? sink_take(o->sink, wan, bytes) : -ECANCELED;
}

static void on_over(struct completion *over)
{
    struct open *o = container_of(over, struct open, over);

    o->ended = true;
    o->wan_err = over->err;
    open_wake(o, EVENT_OVER);
}

/* ---- steps ---- */

/* The first extent's part of what is wanted, in whole units: one fill, one checksum. */
static struct range first_units(struct range first)
{
    uint64_t start = first.start / UNIT_BYTES * UNIT_BYTES, end;
    uint64_t extent_end = (start / EXTENT_BYTES_MAX + 1) * EXTENT_BYTES_MAX;

    end = first.len > extent_end - first.start ? extent_end
                                               : ALIGN_UP(first.start + first.len, UNIT_BYTES);
    return (struct range){start, end - start};
}

static bool open_with_bytes(const struct open *o)
{
    return o->first.len && !o->no_range && !o->held;
}

static struct next open_send(struct op *op)
{
    struct open *o = OPEN(op);
    struct range r = first_units(o->first);
    struct wan *wan = &o->wan;

    o->headed = o->ended = o->sink_ready = false;
    wan_init(wan, o->remote, open_with_bytes(o) ? WAN_GET : WAN_HEAD, WAN_READ);
    wan_path(wan, o->container, o->name.blob);
    if (o->held && !blob_record(o->held)->cloud_lease) /* a 304 does not tell of it */
        wan_header(wan, SPAN("If-None-Match"), blob_record(o->held)->cloud_etag);
    if (open_with_bytes(o)) {
        wan_header(wan, SPAN("x-ms-range"),
                   arena_printf(wan->arena, "bytes=%llu-%llu", (unsigned long long)r.start,
                                (unsigned long long)(r.start + r.len - 1)));
        sink_ask_check(NULL, wan);
    }
    wan->on_head = on_head;
    wan->on_body = on_body;
    o->awaits = EVENT_HEAD;
    if (o->asking) /* a repetition: what counts is when the answer was asked for */
        cache_ask_end(o->flight.upstream->conf.cache, &o->asked);
    o->asked = cache_ask(o->flight.upstream->conf.cache, &o->name);
    o->asked.doubt = o->doubt;
    o->asking = true;
    wan_start(wan, &o->over);
    return AWAIT(open_headed);
}

static struct next open_learn(struct open *o, const struct blob_record *record)
{
    struct cache *cache = o->flight.upstream->conf.cache;

    cache_learn(cache, &o->name, &o->asked, record, &o->blob, &o->op.done);
    return record ? AWAIT(open_learned) : AWAIT(open_settled);
}

static struct next open_absent(struct open *o)
{
    struct cache *cache = o->flight.upstream->conf.cache;

    o->err = -ENOENT;
    if (!span_eq(o->wan.answer.code, SPAN("ContainerNotFound")))
        return open_learn(o, NULL);
    cache_learn_container(cache, o->account, o->container, &o->asked, NULL, &o->op.done);
    return AWAIT(open_settled);
}

static void pause_over(struct timer *timer)
{
    completion_post(&container_of(timer, struct open, pause)->op.done, 0);
}

static struct next open_refused(struct open *o)
{
    int err = -EPROTO;

    switch (read_turn(&o->wan, o->wan_err, &o->refreshed, &err)) {
    case READ_TURN_AGAIN:
        return GO(open_send);
    case READ_TURN_LATER:
        if (++o->attempts == OPEN_ATTEMPTS_MAX || o->flight.upstream->stopping)
            return open_end(o, err);
        atomic_fetch_add_explicit(&o->remote->stats.retries, 1, memory_order_relaxed);
        timer_start(o->op.done.loop, &o->pause,
                    backoff_ns(o->attempts - 1, OPEN_PAUSE_MIN_NS, OPEN_PAUSE_MAX_NS));
        return AWAIT(open_send);
    default:
        return open_end(o, err);
    }
}

static struct next open_headed(struct op *op)
{
    struct open *o = OPEN(op);
    struct blob_record record;
    int status = o->wan.answer.status;

    if (o->headed) {
        if (answer_blob(&o->wan, &record))
            return open_end(o, -EPROTO);
        record.checked_ns = o->asked.wall_ns;
        return open_learn(o, &record);
    }
    if (!o->wan_err && status == 304 && o->held) {
        record = *blob_record(o->held);
        record.checked_ns = o->asked.wall_ns;
        return open_learn(o, &record);
    }
    if (!o->wan_err && answer_absent(&o->wan))
        return open_absent(o);
    if (!o->wan_err && status == 416 && open_with_bytes(o)) {
        o->no_range = true; /* empty, or shorter than what was asked for */
        return GO(open_send);
    }
    return open_refused(o);
}

/* The callers go on; what they read joins the fill that begins here. */
static void open_begin_fill(struct open *o)
{
    struct range got;
    uint64_t total;

    o->sink_ready = true;
    if (!open_with_bytes(o) || answer_range(&o->wan, &got, &total) || !got.len)
        return;
    if (sink_new(o->flight.upstream, o->blob, got, &o->sink)) {
        o->sink = NULL; /* present or being fetched, or no room: the body is not needed */
        return;
    }
    o->err = sink_head(o->sink, &o->wan);
    if (o->err)
        sink_end(TAKE(o->sink), o->err);
    else if (!sink_has_room(o->sink))
        o->later = TAKE(o->sink); /* the body is let go and fetched when its turn comes */
}

static struct next open_learned(struct op *op)
{
    struct open *o = OPEN(op);

    if (op->done.err)
        return open_end(o, op->done.err);
    open_begin_fill(o);
    flight_answer(&o->flight, 0, o->blob);
    wan_resume(&o->wan);
    if (o->ended)
        return GO(open_body);
    o->awaits = EVENT_OVER;
    return AWAIT(open_body);
}

/* A body that was cut goes on from there as a fetch of its own. */
static struct next open_body(struct op *op)
{
    struct open *o = OPEN(op);

    if (o->later)
        fetch_start(o->remote, TAKE(o->later), NULL, NULL);
    if (!o->sink)
        return FINISH;
    if (sink_complete(o->sink) || o->flight.upstream->stopping)
        sink_end(TAKE(o->sink), o->flight.upstream->stopping ? -EHOSTUNREACH : 0);
    else
        fetch_start(o->remote, TAKE(o->sink), NULL, NULL);
    return FINISH;
}

static struct next
open_settled(struct op *op) /* absence is learned, or something newer stands there */
{
    return open_end(OPEN(op), op->done.err ? op->done.err : -ENOENT);
}

static struct next open_end(struct open *o, int err)
{
    flight_answer(&o->flight, err, NULL);
    return FINISH;
}

/* A GET that nobody needs any more may still run: it is cancelled and its end awaited. */
static void open_release(struct completion *over);

static void open_free(struct op *op)
{
    struct open *o = OPEN(op);

    if (o->wan.state != WAN_IDLE) {
        o->over.fn = open_release;
        wan_cancel(&o->wan);
        return;
    }
    if (!o->ended && o->wan.arena) { /* its end is posted but has not been seen yet */
        o->over.fn = open_release;
        return;
    }
    open_release(&o->over);
}

static void open_release(struct completion *over)
{
    struct open *o = container_of(over, struct open, over);

    if (o->asking)
        cache_ask_end(o->flight.upstream->conf.cache, &o->asked);
    if (o->flight.listed)
        flight_answer(&o->flight, -ECANCELED, NULL);
    assert(!o->later);
    if (o->sink)
        sink_end(o->sink, -ECANCELED);
    if (o->blob)
        blob_unref(o->blob);
    if (o->held)
        blob_unref(o->held);
    wan_done(&o->wan);
    arena_free(o->arena);
    flight_done(&o->flight);
    free(o);
}

/* ---- starting ---- */

static int open_place(struct open *o, struct upstream *upstream)
{
    struct container *container;
    int err = cache_container_by_id(upstream->conf.cache, o->name.container, &container);

    if (err)
        return err;
    o->account = container_record(container)->account;
    o->container = arena_copy(o->arena, container_record(container)->name);
    container_unref(container);
    o->remote = upstream_remote(upstream, o->account);
    return o->remote ? 0 : -ENOENT;
}

static void open_start(struct upstream *upstream, const struct flight_key *key,
                       const struct name *name, struct range first, struct blob *held,
                       struct call *call)
{
    struct open *o = xcalloc(1, sizeof(*o));
    int err;

    o->arena = arena_new();
    o->doubt = call ? call->doubt : 0;
    o->name = (struct name){.container = name->container, .blob = arena_copy(o->arena, name->blob)};
    o->first = first;
    o->held = held ? blob_ref(held) : NULL;
    o->over = (struct completion){.fn = on_over, .loop = client_loop(upstream->client)};
    o->pause.fn = pause_over;
    flight_init(&o->flight, upstream, key, call);
    op_init(&o->op, client_loop(upstream->client), open_free);
    err = open_place(o, upstream);
    if (err) {
        flight_answer(&o->flight, err, NULL);
        o->ended = true;
        open_free(&o->op);
        return;
    }
    STAT_INC(upstream_opens);
    op_start(&o->op, GO(open_send));
}

/* Once per name, and not at all while the breaker waits: who asked has its answer already. */
static void revalidate_unheard(struct call *call, const struct flight_key *key)
{
    struct upstream *upstream = call->upstream;
    struct remote *remote = upstream_remote_of(upstream, call->held);

    if (remote && !breaker_wait_ns(&remote->breaker) && !flight_join(upstream, key, NULL))
        open_start(upstream, key, &call->name, call->range, call->held, NULL);
    call_answer(call, 0, NULL);
}

static void open_call(struct call *call) /* upstream thread */
{
    const struct name *name = &call->name;
    struct flight_key key = {
        .kind = call->held ? 'r' : 'o', .number = name->container, .part = {name->blob}};
    struct blob *known;

    if (name->snapshot.len || name->version.len) { /* the cache learns base versions only */
        call_answer(call, -EOPNOTSUPP, NULL);
        return;
    }
    if (call->unheard) {
        revalidate_unheard(call, &key);
        return;
    }
    if (flight_join(call->upstream, &key, call))
        return;
    /* Unknown when the caller looked, known now: the flight it meant to join has just landed. */
    known = call->held ? NULL : cache_lookup_hot(call->upstream->conf.cache, name);
    if (known)
        call_answer(call, 0, known);
    else
        open_start(call->upstream, &key, name, call->range, call->held, call);
}

static void refresh(struct upstream *upstream, const struct name *name, struct call *call)
{
    struct flight_key key = {.kind = 'o', .number = name->container, .part = {name->blob}};

    if (!flight_join(upstream, &key, call))
        open_start(upstream, &key, name, (struct range){0, 0}, NULL, call);
}

void open_refresh(struct upstream *upstream, const struct name *name)
{
    if (!upstream->stopping)
        refresh(upstream, name, NULL);
}

static void refresh_call(struct call *call) /* upstream thread */
{
    refresh(call->upstream, &call->name, call);
}

void open_ask_again(struct upstream *upstream, const struct name *name, struct completion *done)
{
    struct call *call = call_new(upstream, refresh_call, done);

    if (!call)
        return;
    call_set_name(call, name);
    call_start(call, 0);
}

/* What was asked under an earlier number says nothing: not the same flight. */
static void doubt_call(struct call *call) /* upstream thread */
{
    const struct name *name = &call->name;
    struct flight_key key = {
        .kind = 'd',
        .number = name->container,
        .part = {name->blob, span_from((const char *)&call->doubt, sizeof(call->doubt))}};

    if (!flight_join(call->upstream, &key, call))
        open_start(call->upstream, &key, name, (struct range){0, 0}, NULL, call);
}

void upstream_ask_doubtful(struct upstream *upstream, const struct doubtful *of, uint64_t doubt,
                           uint64_t budget_ns, struct blob **ret, struct completion *done)
{
    struct call *call = call_new(upstream, of->container ? doubt_call : container_doubt_call, done);

    if (!call)
        return;
    call->ret = ret;
    call->doubt = doubt;
    call->account = of->account;
    if (of->container)
        call_set_name(call, &(struct name){.container = of->container, .blob = of->name});
    else
        call_set_text(call, 0, of->name);
    call_start(call, budget_ns);
}

void upstream_open(struct upstream *upstream, const struct name *name, struct range first,
                   struct blob **ret, struct completion *done)
{
    struct call *call = call_new(upstream, open_call, done);

    if (!call)
        return;
    call->ret = ret;
    call->range = first;
    call_set_name(call, name);
    call_start(call, 0);
}

void upstream_revalidate(struct upstream *upstream, struct blob *held, uint64_t budget_ns,
                         struct blob **ret, struct completion *done)
{
    struct call *call = call_new(upstream, open_call, done);

    if (!call)
        return;
    call->ret = ret;
    call->held = blob_ref(held);
    call_set_name(call, blob_name(held));
    call_start(call, budget_ns);
}
