/* upstream/fetch.c - one range of one cloud version into its fill: GETs with If-Match, continued
 * where a cut left them, until the sink is complete or hopeless. Nobody waits for it but the fill's
 * readers. */
#include "upstream/internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "upstream/metrics.h"

#define FETCH_ATTEMPTS_MAX 5
#define FETCH_PAUSE_MIN_NS (100 * NS_PER_MS)
#define FETCH_PAUSE_MAX_NS (2 * NS_PER_SEC)

struct fetch {
    struct op op;
    struct upstream *upstream;
    struct remote *remote;
    struct sink *sink;
    struct wan wan;
    struct timer pause;
    unsigned attempts;       /* in a row that brought nothing */
    uint64_t left_bytes;     /* before this attempt */
    bool refreshed, stalled; /* stalled: once in mid-body already */
    int err;
    void (*over)(void *arg, int err);
    void *arg;
};
#define FETCH(o) container_of(o, struct fetch, op)

static struct next fetch_ready(struct op *op);
static struct next fetch_send(struct op *op);
static struct next fetch_answered(struct op *op);
static struct next fetch_again(struct op *op);
static struct next fetch_known(struct op *op);
static struct next fetch_end(struct fetch *f, int err);

static void fetch_head(struct wan *wan)
{
    struct fetch *f = container_of(wan, struct fetch, wan);

    f->err = wan_answer_ok(&wan->answer) ? sink_head(f->sink, wan) : 0;
}

static int fetch_body(struct wan *wan, struct span bytes)
{
    struct fetch *f = container_of(wan, struct fetch, wan);

    return f->err ? f->err : sink_take(f->sink, wan, bytes);
}

static struct next fetch_ready(struct op *op)
{
    sink_await(FETCH(op)->sink, &op->done);
    return AWAIT(fetch_send);
}

static struct next fetch_send(struct op *op)
{
    struct fetch *f = FETCH(op);
    struct fill_source source = sink_source(f->sink);
    struct range left = sink_left(f->sink);
    struct container *container = NULL;
    struct wan *wan = &f->wan;

    if (f->upstream->stopping)
        return fetch_end(f, -EHOSTUNREACH);
    if (cache_container_by_id(f->upstream->conf.cache, source.container, &container))
        return fetch_end(f, -ESTALE); /* the container went meanwhile */
    f->left_bytes = left.len;
    wan_init(wan, f->remote, WAN_GET, WAN_READ);
    wan_path(wan, container_record(container)->name, source.blob);
    container_unref(container);
    wan_header(wan, SPAN("If-Match"), source.etag);
    wan_header(wan, SPAN("x-ms-range"),
               arena_printf(wan->arena, "bytes=%llu-%llu", (unsigned long long)left.start,
                            (unsigned long long)(left.start + left.len - 1)));
    sink_ask_check(f->sink, wan);
    wan->on_head = fetch_head;
    wan->on_body = fetch_body;
    wan_start(wan, &op->done);
    return AWAIT(fetch_answered);
}

static void fetch_pause_over(struct timer *timer)
{
    completion_post(&container_of(timer, struct fetch, pause)->op.done, 0);
}

static struct next fetch_later(struct fetch *f, int err)
{
    if (sink_left(f->sink).len < f->left_bytes)
        f->attempts = 0;
    if (++f->attempts == FETCH_ATTEMPTS_MAX || f->upstream->stopping)
        return fetch_end(f, err);
    atomic_fetch_add_explicit(&f->remote->stats.retries, 1, memory_order_relaxed);
    timer_start(f->op.done.loop, &f->pause,
                backoff_ns(f->attempts - 1, FETCH_PAUSE_MIN_NS, FETCH_PAUSE_MAX_NS));
    return AWAIT(fetch_again);
}

static struct next fetch_again(struct op *op)
{
    return GO(fetch_send);
}

/* The version is gone. Readers that hear of it look again at once, so the new one must be known
 * before: the fill ends when the name has been asked for, whatever came of that. */
static struct next fetch_stale(struct fetch *f)
{
    struct fill_source source = sink_source(f->sink);
    struct name name = {.container = source.container, .blob = source.blob};

    open_ask_again(f->upstream, &name, &f->op.done);
    return AWAIT(fetch_known);
}

static struct next fetch_known(struct op *op)
{
    return fetch_end(FETCH(op), -ESTALE);
}

/* A body that stands still goes on over a new connection like one that was cut, but only once: a
 * stall has cost its readers half a minute already. */
static bool fetch_stalled(struct fetch *f, int wan_err)
{
    bool first = wan_err == -ETIMEDOUT && !f->stalled && sink_left(f->sink).len < f->left_bytes;

    f->stalled |= first;
    return first;
}

static struct next fetch_answered(struct op *op)
{
    struct fetch *f = FETCH(op);
    int wan_err = op->done.err, status = f->wan.answer.status, err = -EPROTO;

    if (f->err == -ESTALE)
        return fetch_stale(f);
    if (f->err)
        return fetch_end(f, f->err);
    if (!wan_err && wan_answer_ok(&f->wan.answer))
        return fetch_end(f, 0);
    if (!wan_err && (status == 412 || status == 404 || status == 416))
        return fetch_stale(f);
    if (wan_err && f->wan.head_done && wan_err != -ECONNRESET && wan_err != -ETIMEDOUT)
        return fetch_end(f, wan_err); /* the fill itself refused */
    if (fetch_stalled(f, wan_err))
        return fetch_later(f, -EHOSTUNREACH);
    switch (read_turn(&f->wan, wan_err, &f->refreshed, &err)) {
    case READ_TURN_AGAIN:
        return GO(fetch_send);
    case READ_TURN_LATER:
        return fetch_later(f, err);
    default:
        return fetch_end(f, err);
    }
}

static struct next fetch_end(struct fetch *f, int err)
{
    f->err = sink_end(TAKE(f->sink), err);
    return FINISH;
}

static void fetch_free(struct op *op)
{
    struct fetch *f = FETCH(op);

    if (f->sink)
        f->err = sink_end(f->sink, -ECANCELED);
    wan_done(&f->wan);
    f->upstream->active--;
    if (f->over)
        f->over(f->arg, f->err);
    free(f);
}

void fetch_start(struct remote *remote, struct sink *sink, void (*over)(void *arg, int err),
                 void *arg)
{
    struct fetch *f = xcalloc(1, sizeof(*f));

    f->upstream = remote->upstream;
    f->remote = remote;
    f->sink = sink;
    sink_detach(sink); /* an open's request may have begun it */
    f->over = over;
    f->arg = arg;
    f->pause.fn = fetch_pause_over;
    f->upstream->active++;
    op_init(&f->op, client_loop(remote->client), fetch_free);
    op_start(&f->op, GO(fetch_ready));
}
