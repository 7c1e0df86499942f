/* blobapi/batch_run.c - see batch_run.h.
 *
 * What runs is counted in `running`; `done` is posted when nothing is, and not before: the whole's
 * op must not end while a part refers to its memory. Parts are started in turns of the loop, never
 * from within the end of another one, and a turn that has taken long pauses, since what a part
 * costs (the signatures it may have to be compared with) is its sender's choice.
 *
 * A part's path comes with the account's name or, from Python's SDK, without it. What is signed is
 * the path as written either way, so the form without it is read as host style is. */
#include "blobapi/batch_run.h"

#include "base/clock.h"

#define TURN_NS  (2 * NS_PER_MS) /* a loop's other connections wait that long for parts to start */
#define PAUSE_NS (1 * NS_PER_MS)

/* ---- a part of the answer ---- */

struct growing {
    struct arena *arena;
    char *at;
    size_t len, room;
};

static void put(struct growing *text, struct span s)
{
    if (text->room - text->len < s.len) {
        size_t room = MAX(text->room * 2, text->len + s.len);

        text->at = arena_grow(text->arena, text->at, text->room, room);
        text->room = room;
    }
    if (s.len)
        memcpy(text->at + text->len, s.base, s.len);
    text->len += s.len;
}

static void put_header(struct growing *text, struct span name, struct span value)
{
    put(text, name);
    put(text, SPAN(": "));
    put(text, value);
    put(text, SPAN("\r\n"));
}

/* Up to the last header; parts name the server without the front that a connection has. */
static void put_head(struct growing *text, const struct batch_run *run, struct span content_id,
                     const struct response *response)
{
    put(text, SPAN("--"));
    put(text, run->boundary);
    put(text, SPAN("\r\nContent-Type: application/http\r\n"));
    if (content_id.base)
        put_header(text, SPAN("Content-ID"), content_id);
    put(text, SPAN("\r\nHTTP/1.1 "));
    put(text, arena_printf(text->arena, "%d ", response->status));
    put(text, response->reason);
    put(text, SPAN("\r\n"));
    for (unsigned i = 0; i < response->header_count; i++)
        put_header(text, response->headers[i].name,
                   span_eq(response->headers[i].name, SPAN("Server"))
                       ? SPAN("Windows-Azure-Blob/1.0")
                       : response->headers[i].value);
}

/* Without a body, the empty line after the headers is the CRLF that belongs to the delimiter. */
static void put_body(struct growing *text, struct span body)
{
    if (body.len)
        put_header(text, SPAN("Content-Length"), arena_printf(text->arena, "%zu", body.len));
    put(text, SPAN("\r\n"));
    put(text, body);
    if (body.len)
        put(text, SPAN("\r\n"));
}

static struct growing growing(const struct batch_run *run)
{
    return (struct growing){.arena = run->whole->http->arena};
}

struct span batch_part_text(const struct batch_run *run, struct span content_id,
                            const struct response *response, struct span body)
{
    struct growing text = growing(run);

    put_head(&text, run, content_id, response);
    put_body(&text, body);
    return span_from(text.at, text.len);
}

/* ---- the exchange of a part ---- */

static void run_kick(struct batch_run *run)
{
    if (run->kicked)
        return;
    run->kicked = true;
    completion_post(&run->turn, 0);
}

static struct batch_slot *slot_of(struct exchange *http)
{
    return container_of(http, struct batch_slot, http);
}

static void part_read(struct exchange *http, struct iobuf *into, struct completion *done)
{
    completion_post(done, 0); /* no part has a body */
}

static void part_head(struct exchange *http, const struct response *response)
{
    struct batch_slot *slot = slot_of(http);
    struct growing text = growing(slot->run);

    put_head(&text, slot->run, slot->run->parts[slot->part].content_id, response);
    slot->head = span_from(text.at, text.len);
}

static void part_send(struct exchange *http, const struct slice *slices, unsigned n,
                      struct completion *done)
{
    struct batch_slot *slot = slot_of(http);
    struct growing text = growing(slot->run);

    put(&text, slot->body);
    for (unsigned i = 0; i < n; i++) {
        put(&text, slices[i].bytes);
        slice_unref(slices[i]);
    }
    slot->body = span_from(text.at, text.len);
    completion_post(done, 0);
}

/* Ended without an answer and not because the client left: what became of it is not known. */
static struct span answer_unknown(const struct batch_slot *slot)
{
    struct header code = {.name = SPAN("x-ms-error-code"), .value = az_code(AZ_INTERNAL_ERROR)};
    struct response response = {.status = az_status(AZ_INTERNAL_ERROR),
                                .reason = az_message(AZ_INTERNAL_ERROR),
                                .headers = &code,
                                .header_count = 1};

    return batch_part_text(slot->run, slot->run->parts[slot->part].content_id, &response, SPAN(""));
}

static void part_end(struct exchange *http, bool whole)
{
    struct batch_slot *slot = slot_of(http);
    struct growing text = growing(slot->run);

    if (whole && slot->head.len) {
        put(&text, slot->head);
        put_body(&text, slot->body);
        slot->run->answers[slot->part] = span_from(text.at, text.len);
    } else {
        slot->run->answers[slot->part] = answer_unknown(slot);
    }
    http->arena = arena_free(http->arena);
    slot->run->running--;
    run_kick(slot->run);
}

static const struct exchange_ops part_ops = {part_read, part_head, part_send, part_end};

/* ---- what a part asks for ---- */

static void header_inherit(struct exchange *http, struct span name, struct span value)
{
    struct header *headers = arena_alloc(http->arena, (http->header_count + 1) * sizeof(*headers));

    for (unsigned i = 0; i < http->header_count; i++)
        headers[i] = http->headers[i];
    headers[http->header_count++] = (struct header){.name = name, .value = value};
    http->headers = headers;
}

/* All of the whole's query but what says that it is a batch. */
static void query_inherit(const struct target *whole, const struct target *part,
                          struct exchange *http)
{
    const char *before = part->query.base ? "&" : "?";

    for (unsigned i = 0; i < whole->param_count; i++) {
        const struct query_param *p = &whole->params[i];

        if (!param_is_plain(p->name) || span_eq(p->name, SPAN("comp")) ||
            span_eq(p->name, SPAN("restype")) || span_eq(p->name, SPAN("timeout")))
            continue;
        http->target = arena_printf(http->arena, "%.*s%s%.*s=%.*s", SPAN_FMT(http->target), before,
                                    SPAN_FMT(p->name), SPAN_FMT(p->raw));
        before = "&";
    }
}

/* A part without credentials goes under the whole's token or SAS: who has one of these could have
 * written it into each part. A signature by key covers one request and no other. */
static void credentials_inherit(const struct request *whole, const struct target *target,
                                struct exchange *http)
{
    struct span rest, authorization = exchange_header(whole->http, SPAN("authorization"));
    bool bearer = span_eq_nocase(span_cut(authorization, ' ', &rest), SPAN("Bearer"));

    if (exchange_header(http, SPAN("authorization")).base || target_find(target, SPAN("sig")) ||
        (authorization.base && !bearer))
        return;
    if (bearer)
        header_inherit(http, SPAN("authorization"), authorization);
    if (target_find(&whole->target, SPAN("sig")))
        query_inherit(&whole->target, target, http);
}

static struct exchange part_exchange(const struct batch_run *run, unsigned part,
                                     struct arena *arena)
{
    const struct exchange *whole = run->whole->http;
    const struct batch_part *p = &run->parts[part];

    return (struct exchange){.ops = &part_ops,
                             .api = whole->api,
                             .loop = whole->loop,
                             .arena = arena,
                             .method = p->method,
                             .target = p->target,
                             .host = whole->host,
                             .headers = p->headers,
                             .header_count = p->header_count,
                             .peer = whole->peer,
                             .tls = whole->tls,
                             .version = run->whole->version,
                             .body_ended = true};
}

/* Does the part's path, read with that host, name a blob the whole may speak of? */
static bool part_reads(const struct batch_run *run, const struct exchange *http, struct span host,
                       struct target *ret)
{
    const struct target *whole = &run->whole->target;
    enum az_error error =
        target_parse(http->api->conf.accounts, host, http->target, http->arena, ret);

    return error == AZ_OK && ret->account == whole->account && ret->secondary == whole->secondary &&
           ret->blob.len && (!whole->container.len || span_eq(ret->container, whole->container));
}

/* With the account's name first: a path that can be read so is meant so. */
static bool part_reads_either(const struct batch_run *run, struct exchange *http,
                              struct target *ret)
{
    if (part_reads(run, http, http->host, ret))
        return true;
    http->host = run->bare_host;
    return run->whole->target.path_style && part_reads(run, http, http->host, ret);
}

enum az_error batch_run_judge(struct batch_run *run)
{
    const struct operation *first = NULL;
    struct arena *arena = arena_new();
    enum az_error error = AZ_OK;

    run->bare_host =
        arena_printf(run->whole->http->arena, "%.*s%s.batch", SPAN_FMT(run->whole->account->name),
                     run->whole->target.secondary ? "-secondary" : "");
    for (unsigned i = 0; !error && i < run->count; i++) {
        struct exchange http = part_exchange(run, i, arena);
        const struct operation *operation = NULL;
        struct target target;
        struct span culprit;

        if (part_reads_either(run, &http, &target))
            operation = operation_find(&http, &target, &error, &culprit);
        if (operation != &operations[OPERATION_DELETE_BLOB] &&
            operation != &operations[OPERATION_SET_BLOB_TIER])
            error = AZ_INVALID_INPUT;
        else if (first && operation != first)
            error = AZ_ALL_BATCH_SUB_REQUESTS_SHOULD_BE_SAME_API;
        first = operation;
        arena_reset(arena);
    }
    arena_free(arena);
    return error;
}

/* ---- running ---- */

static void part_start(struct batch_run *run, unsigned part)
{
    struct batch_slot *slot = run->slots;
    struct target target;

    while (slot->http.arena)
        slot++;
    *slot = (struct batch_slot){.run = run, .part = part};
    slot->http = part_exchange(run, part, arena_new());
    (void)part_reads_either(run, &slot->http, &target); /* it did when it was judged */
    credentials_inherit(run->whole, &target, &slot->http);
    run->running++;
    blobapi_start(&slot->http);
}

static void run_feed(struct batch_run *run)
{
    uint64_t until = clock_mono_ns() + TURN_NS;

    if (run->pause.slot)
        return;
    while (!run->cancelled && run->started < run->count && run->running < BATCH_RUNNING_MAX) {
        part_start(run, run->started++);
        if (clock_mono_ns() >= until) {
            timer_start(run->whole->http->loop, &run->pause, PAUSE_NS);
            return;
        }
    }
    if (!run->running && !run->kicked)
        completion_post(run->done, run->cancelled ? -ECANCELED : 0);
}

static void run_turn(struct completion *turn)
{
    struct batch_run *run = container_of(turn, struct batch_run, turn);

    run->kicked = false;
    run_feed(run);
}

static void run_paused(struct timer *pause)
{
    run_feed(container_of(pause, struct batch_run, pause));
}

static void run_cancel(struct completion *done)
{
    struct batch_run *run = done->callee;

    run->cancelled = true;
    timer_stop(run->whole->http->loop, &run->pause);
    for (unsigned i = 0; i < BATCH_RUNNING_MAX; i++)
        if (run->slots[i].http.op)
            op_cancel(run->slots[i].http.op);
    run_kick(run);
}

void batch_run_start(struct batch_run *run, struct completion *done)
{
    run->turn = (struct completion){.fn = run_turn, .loop = run->whole->http->loop};
    run->pause.fn = run_paused;
    run->done = done;
    done->cancel = run_cancel;
    done->callee = run;
    run_kick(run);
}
