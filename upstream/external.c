/* upstream/external.c - see external.h.
 *
 *   caller's loop                         upstream thread
 *   external_open  --begin-->             the op: send, over, (pause, send)*
 *   done posted    <----------            at the first head
 *   external_read  --wanted-->            bytes go from curl into the buffer; what does not fit
 * waits done posted    <----------            in `carry`, and curl with it (WAN_PAUSE)
 *   external_close --closed-->            ends the op if it runs; the later of the two frees
 *
 * All state is the upstream thread's; a call leaves its arguments in asked_*, which its hop takes.
 */
#include "upstream/external.h"

#include "base/clock.h"
#include "base/log.h"
#include "upstream/internal.h"
#include "upstream/metrics.h"

#define EXTERNAL_ATTEMPTS_MAX 5 /* in a row that brought nothing */
#define EXTERNAL_PAUSE_MIN_NS (100 * NS_PER_MS)
#define EXTERNAL_PAUSE_MAX_NS (2 * NS_PER_SEC)

struct external {
    struct op op;
    struct upstream *upstream;
    struct remote *remote;
    struct wan wan;
    struct arena *arena;
    struct origin_url url;
    struct span authorization;
    struct range range;
    struct external_head head;
    struct completion *asked_done; /* the caller's loop's, on their way to `done` and `into` */
    struct iobuf *asked_into;
    struct completion *done; /* of the call that waits */
    struct iobuf *into;
    struct completion begin, wanted, quit, closed;
    bool quitting, running, is_closed;
    bool told;         /* external_open has been answered */
    uint64_t at, end;  /* of the source; at: taken so far, carried ones too */
    uint64_t at_begun; /* of this attempt */
    unsigned attempts;
    struct timer pause;
    bool over; /* nothing more will come from curl */
    int err;   /* then: why */
    char *carry;
    size_t carry_at, carry_len, carry_room;
};
#define EXTERNAL(o) container_of(o, struct external, op)

static struct next external_send(struct op *op);
static struct next external_over(struct op *op);
static struct next external_again(struct op *op);

/* ---- answering the caller ---- */

static void answer(struct external *x, int err)
{
    struct completion *done = x->done;

    x->into = NULL;
    x->done = NULL;
    if (done)
        completion_post(done, err);
}

static void carry_give(struct external *x)
{
    size_t n = MIN(x->carry_len, (size_t)(x->into->size - x->into->used));

    if (!n)
        return;
    memcpy(x->into->base + x->into->used, x->carry + x->carry_at, n);
    x->into->used += (uint32_t)n;
    x->carry_at += n;
    x->carry_len -= n;
}

/* What the waiting read gets by now: a full buffer, the end, or nothing yet. */
static void reader_tell(struct external *x)
{
    if (!x->into)
        return;
    if (x->into->used == x->into->size)
        answer(x, 0);
    else if (x->over && !x->carry_len)
        answer(x, x->err);
}

/* ---- curl's callbacks ---- */

/* The first head is copied: the request's arena is the attempt's. */
static void head_keep(struct external *x)
{
    struct blob_record *r = &x->head.record;
    struct pair *pairs = arena_alloc(x->arena, (r->metadata_count + 1) * sizeof(*pairs));
    struct span *spans[] = {&r->content_type,        &r->content_encoding, &r->content_language,
                            &r->content_disposition, &r->cache_control,    &r->content_md5,
                            &r->cloud_etag};

    for (size_t i = 0; i < countof(spans); i++)
        *spans[i] = arena_copy(x->arena, *spans[i]);
    for (unsigned i = 0; i < r->metadata_count; i++)
        pairs[i] = (struct pair){arena_copy(x->arena, r->metadata[i].name),
                                 arena_copy(x->arena, r->metadata[i].value)};
    r->metadata = pairs;
}

/* Exactly: whoever asked has room for no more. */
static bool is_range_asked(const struct external *x)
{
    const struct range *got = &x->head.range;
    uint64_t length = x->head.record.length;

    return x->wan.answer.status == 206 && got->start == x->range.start && got->start < length &&
           got->len == MIN(x->range.len, length - got->start);
}

static int head_first(struct external *x)
{
    int err = answer_external(&x->wan, &x->head.record, &x->head.range);

    if (err)
        return err;
    if (x->range.len && !is_range_asked(x))
        return -EPROTO; /* it does not know ranges */
    head_keep(x);
    x->head.status = x->wan.answer.status;
    x->at = x->at_begun = x->head.range.start;
    x->end = x->head.range.start + x->head.range.len;
    x->told = true;
    answer(x, 0);
    return 0;
}

static int head_further(struct external *x)
{
    struct blob_record record;
    struct range range;
    int err = answer_external(&x->wan, &record, &range);

    if (err)
        return err;
    if (!span_eq(record.cloud_etag, x->head.record.cloud_etag) ||
        record.length != x->head.record.length)
        return -ESTALE;
    return range.start == x->at && range.start + range.len == x->end ? 0 : -EPROTO;
}

static void on_head(struct wan *wan)
{
    struct external *x = container_of(wan, struct external, wan);

    if (wan_answer_ok(&wan->answer))
        x->err = x->told ? head_further(x) : head_first(x);
}

static void carry_keep(struct external *x, struct span bytes)
{
    if (bytes.len > x->carry_room) {
        free(x->carry);
        x->carry_room = MAX(bytes.len, (size_t)CURL_BUFFER_BYTES);
        x->carry = xmalloc(x->carry_room);
    }
    if (bytes.len)
        memcpy(x->carry, bytes.base, bytes.len);
    x->carry_at = 0;
    x->carry_len = bytes.len;
}

static int on_body(struct wan *wan, struct span bytes)
{
    struct external *x = container_of(wan, struct external, wan);
    size_t n;

    if (x->err)
        return x->err;
    if (!x->into || x->carry_len)
        return WAN_PAUSE;
    if (bytes.len > x->end - x->at)
        return -EPROTO;
    n = MIN(bytes.len, (size_t)(x->into->size - x->into->used));
    memcpy(x->into->base + x->into->used, bytes.base, n);
    x->into->used += (uint32_t)n;
    carry_keep(x, span_skip(bytes, n));
    x->at += bytes.len;
    reader_tell(x);
    return 0;
}

/* ---- origins: a remote each, kept while there is room ---- */

static int origin_take(struct upstream *upstream, struct span text, struct remote **ret)
{
    const struct remote_conf conf = {
        .connections = EXTERNAL_CONNECTIONS,
        .connect_timeout_ms = upstream->conf.connect_timeout_ms,
        .stall_timeout_ms = upstream->conf.stall_timeout_ms,
    };
    struct external_origin *idle = NULL;

    for (unsigned i = 0; i < UPSTREAM_ORIGINS_MAX; i++) {
        struct external_origin *origin = &upstream->origins[i];

        if (origin->remote && span_eq(origin->remote->origin, text)) {
            origin->users++;
            *ret = origin->remote;
            return 0;
        }
        if (!origin->users && (!idle || idle->remote)) /* rather one never used */
            idle = origin;
    }
    if (!idle)
        return -EBUSY;
    remote_free(idle->remote);
    idle->remote = remote_new_external(text, upstream->client, &conf, upstream->conf.copy_policy);
    idle->users = 1;
    *ret = idle->remote;
    return 0;
}

static void origin_give_back(struct upstream *upstream, const struct remote *remote)
{
    for (unsigned i = 0; i < UPSTREAM_ORIGINS_MAX; i++)
        if (upstream->origins[i].remote == remote)
            upstream->origins[i].users--;
}

/* ---- the op ---- */

static struct next external_end(struct external *x, int err)
{
    x->over = true;
    x->err = err;
    if (!x->told) {
        x->told = true;
        answer(x, err);
    }
    reader_tell(x);
    return FINISH;
}

static void external_range(struct external *x)
{
    struct range range = x->told ? (struct range){x->at, x->end - x->at} : x->range;
    unsigned long long first = range.start, last = range.start + range.len - 1;

    if (range.len == UINT64_MAX)
        wan_header(&x->wan, SPAN("Range"), arena_printf(x->wan.arena, "bytes=%llu-", first));
    else if (range.len)
        wan_header(&x->wan, SPAN("Range"),
                   arena_printf(x->wan.arena, "bytes=%llu-%llu", first, last));
}

static struct next external_send(struct op *op)
{
    struct external *x = EXTERNAL(op);
    struct wan *wan = &x->wan;

    if (x->upstream->stopping || x->quitting)
        return external_end(x, x->quitting ? -ECANCELED : -EHOSTUNREACH);
    x->err = 0;
    wan_init(wan, x->remote, WAN_GET, WAN_READ);
    wan->path = x->url.path;
    if (x->authorization.len)
        wan_header(wan, SPAN("Authorization"), x->authorization);
    if (x->told)
        wan_header(wan, SPAN("If-Match"), x->head.record.cloud_etag);
    external_range(x);
    x->at_begun = x->at;
    wan->on_head = on_head;
    wan->on_body = on_body;
    wan_start(wan, &op->done);
    return AWAIT(external_over);
}

static void pause_over(struct timer *timer)
{
    completion_post(&container_of(timer, struct external, pause)->op.done, 0);
}

static struct next external_later(struct external *x, int err)
{
    if (x->at > x->at_begun)
        x->attempts = 0;
    if (++x->attempts == EXTERNAL_ATTEMPTS_MAX || x->upstream->stopping || x->quitting ||
        (x->told && !x->head.record.cloud_etag.len)) /* nothing says that it is the same still */
        return external_end(x, err);
    timer_start(x->op.done.loop, &x->pause,
                backoff_ns(x->attempts - 1, EXTERNAL_PAUSE_MIN_NS, EXTERNAL_PAUSE_MAX_NS));
    return AWAIT(external_again);
}

static struct next external_again(struct op *op)
{
    return GO(external_send);
}

static struct next external_refused(struct external *x)
{
    int status = x->wan.answer.status;

    if (x->told) /* in the middle of it */
        return status >= 500 || status == 429
                   ? external_later(x, -ECONNRESET)
                   : external_end(x, status == 412 || status == 404 || status == 416 ? -ESTALE
                                                                                     : -ECONNRESET);
    x->head.status = status;
    x->head.code = arena_copy(x->arena, x->wan.answer.code);
    return external_end(x, 0);
}

static struct next external_over(struct op *op)
{
    struct external *x = EXTERNAL(op);
    int err = op->done.err;

    if (x->quitting)
        return external_end(x, -ECANCELED);
    if (x->err)
        return external_end(x, x->err);
    if (x->wan.address_refused)
        return external_end(x, -EPERM);
    if (!err && !wan_answer_ok(&x->wan.answer))
        return external_refused(x);
    if (!err && x->at == x->end)
        return external_end(x, 0);
    if (!err)
        return external_end(x, -EPROTO);
    if (err == -ECONNRESET || (x->told && is_wan_failure(err)))
        return external_later(x, err);
    return external_end(x, err);
}

static void external_unref(struct external *x)
{
    if (x->running || !x->is_closed)
        return;
    wan_done(&x->wan);
    free(x->carry);
    arena_free(x->arena);
    free(x);
}

static void external_free(struct op *op)
{
    struct external *x = EXTERNAL(op);

    x->running = false;
    origin_give_back(x->upstream, x->remote);
    x->upstream->active--;
    external_unref(x);
}

/* ---- what comes from the caller's loop ---- */

static void begun(struct completion *begin)
{
    struct external *x = container_of(begin, struct external, begin);
    int err = origin_take(x->upstream, x->url.text, &x->remote);

    x->done = x->asked_done;
    if (err) {
        external_end(x, err);
        return;
    }
    x->running = true;
    x->upstream->active++;
    op_init(&x->op, client_loop(x->upstream->client), external_free);
    op_start(&x->op, GO(external_send));
}

static void wanted(struct completion *hop)
{
    struct external *x = container_of(hop, struct external, wanted);

    x->done = x->asked_done;
    x->into = x->asked_into;
    carry_give(x);
    reader_tell(x);
    if (x->into && x->running && !x->carry_len)
        wan_resume(&x->wan);
}

static void quit(struct external *x)
{
    x->quitting = true;
    if (!x->running)
        return;
    if (x->pause.slot) {
        timer_stop(x->op.done.loop, &x->pause);
        completion_post(&x->op.done, 0);
    } else {
        wan_cancel(&x->wan);
    }
}

static void cancelled(struct completion *hop)
{
    struct external *x = container_of(hop, struct external, quit);

    quit(x);
    answer(x, -ECANCELED); /* its end finds nobody */
}

static void closed(struct completion *hop)
{
    struct external *x = container_of(hop, struct external, closed);

    x->is_closed = true;
    quit(x);
    external_unref(x);
}

/* ---- the caller's loop ---- */

static void on_cancel(struct completion *done)
{
    completion_post(&((struct external *)done->callee)->quit, 0);
}

static void hop_init(struct external *x, struct completion *hop, void (*fn)(struct completion *))
{
    *hop = (struct completion){.fn = fn, .loop = client_loop(x->upstream->client)};
}

static void wait_for(struct external *x, struct completion *done)
{
    x->asked_done = done;
    done->cancel = on_cancel;
    done->callee = x;
}

static int url_judge(struct external *x, struct span url)
{
    const struct copy_policy *policy = x->upstream->conf.copy_policy;

    if (origin_url_parse(url, x->arena, &x->url))
        return -EINVAL;
    return copy_origin_allowed(policy, &x->url.origin) ? 0 : -EACCES;
}

void external_open(struct upstream *upstream, const struct external_spec *spec,
                   struct external **ret, struct completion *done)
{
    struct external *x = xcalloc(1, sizeof(*x));
    int err;

    x->upstream = upstream;
    x->arena = arena_new();
    x->authorization = arena_copy(x->arena, spec->authorization);
    x->range = spec->range;
    x->pause.fn = pause_over;
    hop_init(x, &x->begin, begun);
    hop_init(x, &x->wanted, wanted);
    hop_init(x, &x->quit, cancelled);
    hop_init(x, &x->closed, closed);
    *ret = x;
    err = url_judge(x, arena_copy(x->arena, spec->url));
    if (err) {
        completion_post(done, err);
        return;
    }
    wait_for(x, done);
    completion_post(&x->begin, 0);
}

const struct external_head *external_head(const struct external *x)
{
    return &x->head;
}

void external_read(struct external *x, struct iobuf *into, struct completion *done)
{
    x->asked_into = into;
    wait_for(x, done);
    completion_post(&x->wanted, 0);
}

struct external *external_close(struct external *x)
{
    if (x)
        completion_post(&x->closed, 0);
    return NULL;
}
