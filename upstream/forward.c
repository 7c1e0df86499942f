/* upstream/forward.c - a client's request as it is, Azure's answer as the answer (design section
 * 7), for what is the cloud's to promise.
 *
 * A question (GET, HEAD) is asked again when its answer is cut; both are when our credential has
 * been renewed since: a refusal of it changes nothing there.
 * Steps: send -> answered [-> send]. */
#include "upstream/internal.h"

#include "upstream/metrics.h"

#define FORWARD_QUESTIONS_MAX 3

struct forwarding {
    struct op op;
    struct upstream *upstream;
    struct remote *remote;
    struct call *call;
    struct forward *forward; /* the call's, taken over */
    struct wan wan;
    struct span body; /* of the answer, in the request's arena */
    size_t body_room;
    unsigned attempts;
    bool refreshed;
};
#define FORWARDING(o) container_of(o, struct forwarding, op)

static struct next forward_send(struct op *op);
static struct next forward_answered(struct op *op);

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

/* ---- the request ---- */

static bool is_question(const struct forward *forward)
{
    return forward->method == FORWARD_GET || forward->method == FORWARD_HEAD;
}

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

static struct next forward_end(struct forwarding *f, int err)
{
    call_answer(TAKE(f->call), err, NULL);
    return FINISH;
}

static struct next forward_give(struct forwarding *f)
{
    const struct wan_answer *answer = &f->wan.answer;
    struct forwarded *ret = xcalloc(1, sizeof(*ret));

    ret->arena = arena_new();
    ret->status = answer->status;
    ret->headers = pairs_copy(ret->arena, answer->headers, answer->header_count);
    ret->header_count = answer->header_count;
    ret->body = arena_copy(ret->arena, f->body);
    f->call->forwarded = ret;
    return forward_end(f, 0);
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
    if (!is_question(f->forward) && wan_was_sent(&f->wan))
        return forward_end(f, -EINPROGRESS);
    if (err == -EFBIG || err == -EBUSY)
        return forward_end(f, err);
    if (!is_question(f->forward))
        return forward_end(f, -EHOSTUNREACH);
    if (err == -ECONNRESET && ++f->attempts < FORWARD_QUESTIONS_MAX && !f->upstream->stopping)
        return GO(forward_send);
    return forward_end(f, -EHOSTUNREACH);
}

static struct next forward_answered(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    if (op->done.err)
        return forward_lost(f, op->done.err);
    if (!credential_refused(&f->wan.answer))
        return forward_give(f);
    if (!f->refreshed && wan_secret_renewed(&f->wan)) {
        f->refreshed = true;
        return GO(forward_send);
    }
    return forward_end(f, -EACCES);
}

/* ---- begin and end ---- */

static void forwarding_free(struct op *op)
{
    struct forwarding *f = FORWARDING(op);

    assert(!f->call);
    wan_done(&f->wan);
    forward_free(f->forward);
    f->upstream->active--;
    free(f);
}

static void forward_call(struct call *call) /* upstream thread */
{
    struct remote *remote = upstream_remote(call->upstream, call->forward->account);
    struct forwarding *f;

    if (!remote) {
        call_answer(call, -ENOENT, NULL);
        return;
    }
    f = xcalloc(1, sizeof(*f));
    f->upstream = call->upstream;
    f->remote = remote;
    f->call = call;
    f->forward = TAKE(call->forward);
    f->upstream->active++;
    op_init(&f->op, client_loop(f->upstream->client), forwarding_free);
    op_start(&f->op, GO(forward_send));
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
