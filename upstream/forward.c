/* upstream/forward.c - a client's request as it is, Azure's answer as the answer (design section
 * 7), for what is the cloud's to promise.
 *
 * A question (GET, HEAD) is asked again when its answer is cut. A change of a container or blob is
 * sent once: it takes its name's turn, waits until the cloud has heard what it has to hear of the
 * name before, and puts the name in doubt; all requests are repeated when our credential has been
 * renewed since, as a refusal of it changes nothing there. What then ends the doubt is a question
 * asked when the change is over: at once when it was answered (the client hears when that is known,
 * if it is soon); when the answer was lost, after the time in which it may still arrive, again and
 * again, and nothing is sent a second time. Marks of an earlier run are proved likewise.
 * Steps: begin [-> turn -> uploads -> marked] -> send -> answered [-> prove -> proved], or
 * resumed -> settle -> settled -> prove -> proved. */
#include "upstream/internal.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "upstream/metrics.h"

#define FORWARD_QUESTIONS_MAX 3
#define UPLOADS_PAUSE_MIN_NS  (10 * NS_PER_MS)
#define UPLOADS_PAUSE_MAX_NS  (250 * NS_PER_MS)
#define PROVE_PAUSE_MIN_NS    (100 * NS_PER_MS)
#define PROVE_PAUSE_MAX_NS    (10 * NS_PER_SEC)
#define PROVE_WAIT_NS         (2 * NS_PER_SEC) /* the client's, for what its change has made */
#define SETTLE_DEF_MS         5000

enum sleep { AWAKE, IN_LINE, PAUSING };

struct forwarding {
    struct op op;
    struct upstream *upstream;
    struct remote *remote;
    struct call *call;       /* NULL: answered, or a mark of an earlier run */
    struct forward *forward; /* the call's, taken over; NULL likewise */
    struct arena *arena;     /* what is below */
    struct doubtful of;      /* name empty: nothing the box knows anything of */
    struct turn turn;
    struct wan wan;
    struct span body; /* of the answer, in the request's arena */
    size_t body_room;
    unsigned attempts;
    bool refreshed, marked;
    bool doubted;         /* the mark was there before, of another one */
    uint64_t deadline_ns; /* of waiting; monotonic */
    uint64_t number;      /* the mark's, when the change was over */
    struct blob *blob;    /* what the proof has shown */
    struct timer pause, patience;
    enum sleep sleeping;           /* what forward_stop has to end */
    struct forwarding *next, **at; /* all of them */
};
#define FORWARDING(o) container_of(o, struct forwarding, op)

static struct next forward_begin(struct op *op);
static struct next forward_turn(struct op *op);
static struct next forward_uploads(struct op *op);
static struct next forward_marked(struct op *op);
static struct next forward_send(struct op *op);
static struct next forward_answered(struct op *op);
static struct next forward_prove(struct op *op);
static struct next forward_proved(struct op *op);
static struct next forward_resume_turn(struct op *op);
static struct next forward_resumed(struct op *op);
static struct next forward_settle(struct op *op);
static struct next forward_settled(struct op *op);

/* ---- arguments that outlive the caller ---- */

struct forward_copy {
    struct forward forward;
    struct arena *arena;
};

static const struct pair *pairs_copy(struct arena *arena, const struct pair *pairs, unsigned count)
{
    struct pair *copy = arena_alloc(arena, (count + 1) * sizeof(*copy));

    for (unsigned i = 0; i < count; i++)
        copy[i] =
            (struct pair){arena_copy(arena, pairs[i].name), arena_copy(arena, pairs[i].value)};
    return copy;
}

static struct forward *forward_copy(const struct forward *forward)
{
    struct arena *arena = arena_new();
    struct forward_copy *copy = xcalloc(1, sizeof(*copy));

    assert(forward->body.len <= FORWARD_BODY_BYTES_MAX);
    copy->arena = arena;
    copy->forward = *forward;
    copy->forward.container = arena_copy(arena, forward->container);
    copy->forward.blob = arena_copy(arena, forward->blob);
    copy->forward.query = pairs_copy(arena, forward->query, forward->query_count);
    copy->forward.headers = pairs_copy(arena, forward->headers, forward->header_count);
    copy->forward.body = arena_copy(arena, forward->body);
    return &copy->forward;
}

void forward_free(struct forward *forward)
{
    struct forward_copy *copy;

    if (!forward)
        return;
    copy = container_of(forward, struct forward_copy, forward);
    arena_free(copy->arena);
    free(copy);
}

void forwarded_done(struct forwarded *forwarded)
{
    arena_free(forwarded->arena);
    *forwarded = (struct forwarded){0};
}

/* ---- ends without a doubt left ---- */

static struct next forward_end(struct forwarding *f, int err)
{
    call_answer(TAKE(f->call), err, NULL);
    return FINISH;
}

/* Nothing has happened in the cloud. err 0: the call is answered. */
static struct next forward_unsent(struct forwarding *f, int err)
{
    if (f->marked && f->doubted) { /* but what an earlier one did is not known still */
        if (f->call)
            call_answer(TAKE(f->call), err, NULL);
        f->attempts = 0;
        f->number = cache_doubt_over(f->upstream->conf.cache, &f->of);
        turn_leave(f->upstream->turns, &f->turn);
        return GO(forward_prove);
    }
    if (f->marked)
        cache_doubt_drop(f->upstream->conf.cache, &f->of);
    return f->call ? forward_end(f, err) : FINISH;
}

/* ---- before a change leaves ---- */

static bool is_question(const struct forward *forward)
{
    return forward->method == FORWARD_GET || forward->method == FORWARD_HEAD;
}

static void pause_over(struct timer *timer)
{
    struct forwarding *f = container_of(timer, struct forwarding, pause);

    f->sleeping = AWAKE;
    completion_post(&f->op.done, 0);
}

static struct next forward_pause(struct forwarding *f, uint64_t ns, struct next then)
{
    f->sleeping = PAUSING;
    f->pause.fn = pause_over;
    timer_start(f->op.done.loop, &f->pause, ns);
    return then;
}

static void line_over(struct timer *timer)
{
    struct forwarding *f = container_of(timer, struct forwarding, pause);

    if (f->turn.done) /* else it has been granted, and the post is on its way */
        turn_give_up(f->upstream->turns, &f->turn, -ETIMEDOUT);
}

static void take_turn(struct forwarding *f)
{
    struct flight_key key = {.number = f->of.account, .part = {f->of.name}};

    key.part[1] = span_from((const char *)&f->of.container, sizeof(f->of.container));
    f->sleeping = IN_LINE;
    turn_take(f->upstream->turns, &f->turn, flight_key_print(&key, f->arena), &f->op.done);
}

static struct next forward_begin(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    if (is_question(f->forward) || !f->of.name.len)
        return GO(forward_send);
    f->deadline_ns = clock_mono_ns() + f->forward->wait_ns;
    f->pause.fn = line_over;
    timer_start(op->done.loop, &f->pause, f->forward->wait_ns);
    take_turn(f);
    return AWAIT(forward_turn);
}

static struct next forward_turn(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    timer_stop(op->done.loop, &f->pause);
    f->sleeping = AWAKE;
    return op->done.err ? forward_end(f, op->done.err) : GO(forward_uploads);
}

/* Nobody waits for it any more, or it cannot be sent: then no mark either. */
static int not_to_be_sent(const struct forwarding *f)
{
    if (atomic_load(&f->call->gone))
        return -ECANCELED;
    return f->upstream->stopping || breaker_wait_ns(&f->remote->breaker) ? -EHOSTUNREACH : 0;
}

static struct next forward_uploads(struct op *op)
{
    struct forwarding *f = FORWARDING(op);
    struct cache *cache = f->upstream->conf.cache;
    int err = not_to_be_sent(f);

    if (err)
        return forward_end(f, err);
    if (!cache_uploads_of(cache, &f->of, f->forward->container)) {
        f->attempts = 0;
        f->doubted = cache_doubt(cache, &f->of);
        cache_doubt_begin(cache, &f->of, &op->done);
        return AWAIT(forward_marked);
    }
    if (clock_mono_ns() >= f->deadline_ns)
        return forward_end(f, -ETIMEDOUT);
    return forward_pause(f, backoff_ns(f->attempts++, UPLOADS_PAUSE_MIN_NS, UPLOADS_PAUSE_MAX_NS),
                         AWAIT(forward_uploads));
}

static struct next forward_marked(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    if (op->done.err)
        return forward_end(f, op->done.err);
    FAILPOINT("forward_marked");
    f->marked = true;
    if (atomic_load(&f->call->gone))
        return forward_unsent(f, -ECANCELED);
    return GO(forward_send);
}

/* ---- the request ---- */

static int on_answer_body(struct wan *wan, struct span bytes)
{
    struct forwarding *f = container_of(wan, struct forwarding, wan);

    if (f->body.len + bytes.len > FORWARD_ANSWER_BYTES_MAX)
        return -EFBIG;
    if (f->body.len + bytes.len > f->body_room) {
        size_t room = MAX(f->body_room * 2, f->body.len + bytes.len);

        f->body.base = arena_grow(wan->arena, (char *)f->body.base, f->body_room, room);
        f->body_room = room;
    }
    memcpy((char *)f->body.base + f->body.len, bytes.base, bytes.len);
    f->body.len += bytes.len;
    return 0;
}

static struct next forward_send(struct op *op)
{
    static const enum wan_method methods[] = {WAN_GET, WAN_HEAD, WAN_PUT, WAN_DELETE};
    struct forwarding *f = FORWARDING(op);
    const struct forward *forward = f->forward;

    f->body = (struct span){NULL, 0};
    f->body_room = 0;
    wan_init(&f->wan, f->remote, methods[forward->method], WAN_READ); /* somebody waits for it */
    wan_path(&f->wan, forward->container, forward->blob);
    for (unsigned i = 0; i < forward->query_count; i++)
        wan_query(&f->wan, forward->query[i].name.base, forward->query[i].value);
    for (unsigned i = 0; i < forward->header_count; i++)
        wan_header(&f->wan, forward->headers[i].name, forward->headers[i].value);
    f->wan.body = forward->body;
    f->wan.any_body = true;
    f->wan.once = !is_question(forward);
    f->wan.on_body = on_answer_body;
    STAT_INC(upstream_forwards);
    wan_start(&f->wan, &op->done);
    return AWAIT(forward_answered);
}

/* ---- the answer ---- */

static void forward_give(struct forwarding *f)
{
    const struct wan_answer *answer = &f->wan.answer;
    struct forwarded *ret = xcalloc(1, sizeof(*ret));

    ret->arena = arena_new();
    ret->status = answer->status;
    ret->headers = pairs_copy(ret->arena, answer->headers, answer->header_count);
    ret->header_count = answer->header_count;
    ret->body = arena_copy(ret->arena, f->body);
    f->call->forwarded = ret;
    call_answer(TAKE(f->call), 0, NULL);
}

/* Ours, not the client's, which has been judged here; what it may not do is an answer. */
static bool credential_refused(const struct wan_answer *answer)
{
    static const char *const codes[] = {"AuthenticationFailed", "InvalidAuthenticationInfo",
                                        "NoAuthenticationInformation"};

    for (size_t i = 0; i < countof(codes); i++)
        if (span_eq(answer->code, span_of(codes[i])))
            return true;
    return answer->status == 401;
}

static struct next forward_lost(struct forwarding *f, int err)
{
    bool sent = wan_was_sent(&f->wan);

    if (!is_question(f->forward) && sent) {
        STAT_INC(upstream_forwards_lost);
        log_warn("the answer to a forwarded change was lost",
                 KV_SPAN("account", f->remote->account->name), KV_SPAN("name", f->of.name),
                 KV_STR("why", f->wan.failure));
        call_answer(TAKE(f->call), -EINPROGRESS, NULL);
        return f->marked ? GO(forward_settle) : FINISH;
    }
    if (err == -EFBIG || err == -EBUSY)
        return forward_unsent(f, err);
    if (is_question(f->forward) && err == -ECONNRESET && ++f->attempts < FORWARD_QUESTIONS_MAX &&
        !f->upstream->stopping)
        return GO(forward_send);
    return forward_unsent(f, -EHOSTUNREACH);
}

/* A refusal says that nothing was done; what the service failed at it may have begun. */
static bool nothing_done(int status)
{
    return status >= 400 && status < 500 && status != 408;
}

static void patience_over(struct timer *timer)
{
    struct forwarding *f = container_of(timer, struct forwarding, patience);

    if (f->call)
        forward_give(f);
}

static struct next forward_answered(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    if (op->done.err)
        return forward_lost(f, op->done.err);
    if (credential_refused(&f->wan.answer)) {
        if (f->refreshed || !wan_secret_renewed(&f->wan))
            return forward_unsent(f, -EACCES);
        f->refreshed = true;
        return GO(forward_send);
    }
    if (!f->marked || nothing_done(f->wan.answer.status)) {
        forward_give(f);
        return forward_unsent(f, 0);
    }
    FAILPOINT("forward_answered");
    f->number = cache_doubt_over(f->upstream->conf.cache, &f->of);
    turn_leave(f->upstream->turns, &f->turn); /* the next one may go, in doubt as the name is */
    f->patience.fn = patience_over;
    timer_start(op->done.loop, &f->patience, PROVE_WAIT_NS);
    return GO(forward_prove);
}

/* ---- what has become of it ---- */

static struct next forward_prove(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    upstream_ask_doubtful(f->upstream, &f->of, f->number, 0, &f->blob, &op->done);
    return AWAIT(forward_proved);
}

static struct next forward_over(struct forwarding *f)
{
    timer_stop(f->op.done.loop, &f->patience);
    if (f->call)
        forward_give(f);
    return FINISH;
}

static bool container_gone(const struct forwarding *f)
{
    struct container *container;

    if (!f->of.container)
        return false;
    if (cache_container_by_id(f->upstream->conf.cache, f->of.container, &container))
        return true;
    container_unref(container);
    return false;
}

static struct next forward_proved(struct op *op)
{
    struct forwarding *f = FORWARDING(op);
    struct cache *cache = f->upstream->conf.cache;

    if (f->blob)
        f->blob = blob_unref(f->blob);
    if (container_gone(f)) /* with all that was in it */
        cache_doubt_drop(cache, &f->of);
    else if (cache_doubt(cache, &f->of) == f->number) {
        if (f->upstream->stopping) /* the next run proves it */
            return forward_over(f);
        return forward_pause(f, backoff_ns(f->attempts++, PROVE_PAUSE_MIN_NS, PROVE_PAUSE_MAX_NS),
                             AWAIT(forward_prove));
    }
    if (!cache_doubt(cache, &f->of))
        STAT_INC(upstream_doubts_proved);
    return forward_over(f);
}

static struct next forward_resume_turn(struct op *op)
{
    take_turn(FORWARDING(op));
    return AWAIT(forward_resumed);
}

static struct next forward_resumed(struct op *op)
{
    FORWARDING(op)->sleeping = AWAKE;
    return op->done.err ? FINISH : GO(forward_settle);
}

static struct next forward_settle(struct op *op)
{
    struct forwarding *f = FORWARDING(op);
    uint64_t ms = f->upstream->conf.settle_ms;

    if (f->upstream->stopping)
        return FINISH;
    return forward_pause(f, (ms ? ms : SETTLE_DEF_MS) * NS_PER_MS, AWAIT(forward_settled));
}

static struct next forward_settled(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    if (f->upstream->stopping)
        return FINISH;
    f->attempts = 0;
    f->number = cache_doubt_over(f->upstream->conf.cache, &f->of);
    return GO(forward_prove);
}

/* ---- begin and end ---- */

static void forwarding_free(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    assert(!f->call && f->sleeping == AWAKE);
    turn_leave(f->upstream->turns, &f->turn);
    wan_done(&f->wan);
    forward_free(f->forward);
    arena_free(f->arena);
    *f->at = f->next;
    if (f->next)
        f->next->at = f->at;
    f->upstream->active--;
    free(f);
}

static struct forwarding *forwarding_new(struct upstream *upstream, struct remote *remote,
                                         const struct doubtful *of)
{
    struct forwarding *f = xcalloc(1, sizeof(*f));

    f->upstream = upstream;
    f->remote = remote;
    f->arena = arena_new();
    f->of = *of;
    f->of.name = arena_copy(f->arena, of->name);
    f->next = upstream->forwardings;
    f->at = &upstream->forwardings;
    if (f->next)
        f->next->at = &f->next;
    upstream->forwardings = f;
    upstream->active++;
    op_init(&f->op, client_loop(upstream->client), forwarding_free);
    return f;
}

static void forward_call(struct call *call) /* upstream thread */
{
    const struct forward *forward = call->forward;
    struct remote *remote = upstream_remote(call->upstream, forward->account);
    struct doubtful of = {.account = forward->account, .name = forward->container};
    struct forwarding *f;

    if (!remote) {
        call_answer(call, -ENOENT, NULL);
        return;
    }
    if (forward->blob.len)
        of = (struct doubtful){forward->account, forward->container_id, forward->blob};
    f = forwarding_new(call->upstream, remote, &of);
    f->call = call;
    f->forward = TAKE(call->forward);
    op_start(&f->op, GO(forward_begin));
}

void upstream_forward(struct upstream *upstream, const struct forward *forward,
                      struct forwarded *ret, struct completion *done)
{
    struct call *call = call_new(upstream, forward_call, done);

    if (!call)
        return;
    call->forward = forward_copy(forward);
    call->ret_forwarded = ret;
    call_start(call, 0);
}

struct resume {
    struct upstream *upstream;
    struct remote *remote;
};

static void resume_one(void *arg, const struct doubtful *of)
{
    const struct resume *resume = arg;
    struct forwarding *f = forwarding_new(resume->upstream, resume->remote, of);

    f->marked = true;
    op_start(&f->op, GO(forward_resume_turn));
}

void forward_resume(struct upstream *upstream)
{
    for (unsigned i = 0; i < upstream->conf.accounts->count; i++) {
        struct resume resume = {upstream, upstream->remotes[i]};
        int n;

        if (!resume.remote)
            continue;
        n = cache_doubts(upstream->conf.cache, resume.remote->account->id, resume_one, &resume);
        if (n)
            log_warn("changes that were forwarded are proved: their answers were not heard",
                     KV_SPAN("account", resume.remote->account->name), KV_INT("names", n));
    }
}

void forward_stop(struct upstream *upstream)
{
    for (struct forwarding *f = upstream->forwardings; f; f = f->next) {
        if (f->sleeping == PAUSING) {
            timer_stop(f->op.done.loop, &f->pause);
            pause_over(&f->pause);
        } else if (f->sleeping == IN_LINE && f->turn.done) {
            turn_give_up(upstream->turns, &f->turn, -EHOSTUNREACH);
        }
    }
}
