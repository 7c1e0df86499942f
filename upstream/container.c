/* upstream/container.c - an unknown container: Get Container Properties, single flight. */
#include "upstream/internal.h"

#include "base/clock.h"

#define CONTAINER_ATTEMPTS_MAX 4
#define CONTAINER_PAUSE_MIN_NS (50 * NS_PER_MS)
#define CONTAINER_PAUSE_MAX_NS NS_PER_SEC

struct lookup {
    struct op op;
    struct flight flight;
    struct remote *remote;
    struct span name; /* owned */
    uint32_t account;
    uint64_t doubt; /* the number its mark had; 0: none */
    struct asked asked;
    bool asking;
    struct wan wan;
    struct timer pause;
    unsigned attempts;
    bool refreshed;
    int err; /* to tell once what was learned is durable */
};
#define LOOKUP(o) container_of(o, struct lookup, op)

static struct next lookup_send(struct op *op);
static struct next lookup_answered(struct op *op);
static struct next lookup_learned(struct op *op);

static struct next lookup_send(struct op *op)
{
    struct lookup *l = LOOKUP(op);
    struct cache *cache = l->flight.upstream->conf.cache;

    wan_init(&l->wan, l->remote, WAN_HEAD, WAN_READ);
    wan_path(&l->wan, l->name, SPAN(""));
    wan_query(&l->wan, "restype", SPAN("container"));
    if (l->asking)
        cache_ask_end(cache, &l->asked);
    l->asked = cache_ask(cache, &(struct name){.container = 0});
    l->asked.doubt = l->doubt;
    l->asking = true;
    wan_start(&l->wan, &op->done);
    return AWAIT(lookup_answered);
}

static struct next lookup_end(struct lookup *l, int err)
{
    flight_answer(&l->flight, err, NULL);
    return FINISH;
}

static struct next lookup_learn(struct lookup *l, const struct container_record *record)
{
    l->err = record ? 0 : -ENOENT;
    cache_learn_container(l->flight.upstream->conf.cache, l->account, l->name, &l->asked, record,
                          &l->op.done);
    return AWAIT(lookup_learned);
}

static void pause_over(struct timer *timer)
{
    completion_post(&container_of(timer, struct lookup, pause)->op.done, 0);
}

static struct next lookup_later(struct lookup *l, int err)
{
    if (++l->attempts == CONTAINER_ATTEMPTS_MAX || l->flight.upstream->stopping)
        return lookup_end(l, err);
    timer_start(l->op.done.loop, &l->pause,
                backoff_ns(l->attempts - 1, CONTAINER_PAUSE_MIN_NS, CONTAINER_PAUSE_MAX_NS));
    return AWAIT(lookup_send);
}

static struct next lookup_answered(struct op *op)
{
    struct lookup *l = LOOKUP(op);
    struct container_record record;
    int wan_err = op->done.err, err = -EPROTO;

    if (!wan_err && answer_absent(&l->wan))
        return lookup_learn(l, NULL);
    if (!wan_err && wan_answer_ok(&l->wan.answer)) {
        if (answer_container(&l->wan, &record))
            return lookup_end(l, -EPROTO);
        record.account = l->account;
        record.name = l->name;
        record.checked_ns = l->asked.wall_ns;
        return lookup_learn(l, &record);
    }
    switch (read_turn(&l->wan, wan_err, &l->refreshed, &err)) {
    case READ_TURN_AGAIN:
        return GO(lookup_send);
    case READ_TURN_LATER:
        return lookup_later(l, err);
    default:
        return lookup_end(l, err);
    }
}

static struct next lookup_learned(struct op *op)
{
    struct lookup *l = LOOKUP(op);

    return lookup_end(l, op->done.err ? op->done.err : l->err);
}

static void lookup_free(struct op *op)
{
    struct lookup *l = LOOKUP(op);

    if (l->asking)
        cache_ask_end(l->flight.upstream->conf.cache, &l->asked);
    wan_done(&l->wan);
    flight_done(&l->flight);
    free((char *)l->name.base);
    free(l);
}

static void lookup_join(struct call *call, const struct flight_key *key)
{
    struct upstream *upstream = call->upstream;
    struct remote *remote = upstream_remote(upstream, call->account);
    struct lookup *l;

    if (!remote) {
        call_answer(call, -ENOENT, NULL);
        return;
    }
    if (flight_join(upstream, key, call))
        return;
    l = xcalloc(1, sizeof(*l));
    l->remote = remote;
    l->account = call->account;
    l->doubt = call->doubt;
    l->pause.fn = pause_over;
    flight_init(&l->flight, upstream, key, call);
    l->name = call_take_text(call, 0);
    op_init(&l->op, client_loop(upstream->client), lookup_free);
    op_start(&l->op, GO(lookup_send));
}

static void container_call(struct call *call) /* upstream thread */
{
    lookup_join(
        call, &(struct flight_key){.kind = 'c', .number = call->account, .part = {call->text[0]}});
}

void container_doubt_call(struct call *call)
{
    struct span number = span_from((const char *)&call->doubt, sizeof(call->doubt));

    lookup_join(call, &(struct flight_key){
                          .kind = 'D', .number = call->account, .part = {call->text[0], number}});
}

void upstream_open_container(struct upstream *upstream, uint32_t account, struct span name,
                             struct completion *done)
{
    struct call *call = call_new(upstream, container_call, done);

    if (!call)
        return;
    call->account = account;
    call_set_text(call, 0, name);
    call_start(call, 0);
}
