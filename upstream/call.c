/* upstream/call.c - see call.h. */
#include "upstream/call.h"

#include "upstream/internal.h"

/* ---- calls ---- */

static void call_free(struct call *call)
{
    if (call->held)
        blob_unref(call->held);
    free((char *)call->name.blob.base);
    for (unsigned i = 0; i < countof(call->text); i++)
        free((char *)call->text[i].base);
    if (call->forwarded)
        forwarded_done(call->forwarded);
    free(call->forwarded);
    forward_free(call->forward);
    free(call);
}

static void call_post(struct call *call, int err) /* caller's loop */
{
    struct completion *done = TAKE(call->done);

    timer_stop(done->loop, &call->budget);
    completion_post(done, err);
}

static void call_cancel(struct completion *done)
{
    struct call *call = done->callee;

    atomic_store(&call->gone, true);
    call_post(call, -ECANCELED);
}

static void call_over_budget(struct timer *timer)
{
    call_post(container_of(timer, struct call, budget), -ETIMEDOUT);
}

static void call_back(struct completion *back)
{
    struct call *call = container_of(back, struct call, back);

    if (call->done) {
        if (call->ret && call->blob)
            *call->ret = TAKE(call->blob);
        if (call->ret_forwarded && call->forwarded) {
            *call->ret_forwarded = *call->forwarded;
            *call->forwarded = (struct forwarded){0};
        }
        call_post(call, back->err);
    }
    if (call->blob)
        blob_unref(call->blob);
    call_free(call);
}

static void call_forth(struct completion *forth)
{
    struct call *call = container_of(forth, struct call, forth);

    if (call->upstream->stopping)
        call_answer(call, -EHOSTUNREACH, NULL);
    else
        call->begin(call);
}

struct call *call_new(struct upstream *upstream, void (*begin)(struct call *),
                      struct completion *done)
{
    struct call *call;

    if (atomic_fetch_add(&upstream->calls, 1) >= (done ? UPSTREAM_CALLS_MAX : CALLS_UNHEARD_MAX)) {
        atomic_fetch_sub(&upstream->calls, 1);
        if (done)
            completion_post(done, -EBUSY);
        return NULL;
    }
    call = xcalloc(1, sizeof(*call));
    call->upstream = upstream;
    call->begin = begin;
    call->done = done;
    call->unheard = !done;
    call->forth = (struct completion){.fn = call_forth, .loop = client_loop(upstream->client)};
    call->back = (struct completion){.fn = call_back, .loop = loop_current()};
    call->budget.fn = call_over_budget;
    return call;
}

static struct span span_dup(struct span s)
{
    char *copy;

    if (!s.base)
        return (struct span){NULL, 0};
    copy = xmalloc(s.len + 1);
    if (s.len)
        memcpy(copy, s.base, s.len);
    copy[s.len] = 0;
    return span_from(copy, s.len);
}

void call_set_name(struct call *call, const struct name *name)
{
    size_t b = name->blob.len, s = name->snapshot.len, v = name->version.len;
    char *copy = xmalloc(b + s + v + 1);

    call->name = (struct name){.container = name->container,
                               .blob = span_from(copy, b),
                               .snapshot = span_from(copy + b, s),
                               .version = span_from(copy + b + s, v)};
    memcpy(copy, name->blob.base, b);
    if (s)
        memcpy(copy + b, name->snapshot.base, s);
    if (v)
        memcpy(copy + b + s, name->version.base, v);
}

void call_set_text(struct call *call, unsigned i, struct span text)
{
    call->text[i] = span_dup(text);
}

struct span call_take_text(struct call *call, unsigned i)
{
    struct span text = call->text[i];

    call->text[i] = (struct span){NULL, 0};
    return text;
}

void call_start(struct call *call, uint64_t budget_ns)
{
    if (call->done) {
        call->done->cancel = call_cancel;
        call->done->callee = call;
        if (budget_ns)
            timer_start(call->done->loop, &call->budget, budget_ns);
    }
    completion_post(&call->forth, 0);
}

/* From here on the call belongs to its caller's loop, which may outlive us. */
void call_answer(struct call *call, int err, struct blob *blob)
{
    atomic_fetch_sub(&call->upstream->calls, 1);
    call->upstream = NULL;
    call->blob = blob;
    completion_post(&call->back, err);
}

/* ---- flights ---- */

static size_t key_print(const struct flight_key *key, char *text)
{
    char *at = text;

    *at++ = key->kind;
    memcpy(at, &key->number, sizeof(key->number));
    at += sizeof(key->number);
    for (unsigned i = 0; i < countof(key->part); i++) {
        uint32_t len = (uint32_t)key->part[i].len;

        memcpy(at, &len, sizeof(len));
        at += sizeof(len);
        if (len)
            memcpy(at, key->part[i].base, len);
        at += len;
    }
    return (size_t)(at - text);
}

static size_t key_room(const struct flight_key *key)
{
    size_t room = 1 + sizeof(key->number);

    for (unsigned i = 0; i < countof(key->part); i++)
        room += sizeof(uint32_t) + key->part[i].len;
    return room;
}

struct span flight_key_print(const struct flight_key *key, struct arena *arena)
{
    char *text = arena_alloc(arena, key_room(key));

    return span_from(text, key_print(key, text));
}

static struct flight **bucket_of(struct upstream *upstream, struct span key)
{
    uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a */

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ (unsigned char)key.base[i]) * 0x100000001b3ULL;
    return &upstream->flights.bucket[(hash ^ hash >> 32) % FLIGHT_BUCKETS];
}

static void flight_attach(struct flight *flight, struct call *call)
{
    call->next = NULL;
    *flight->calls_tail = call;
    flight->calls_tail = &call->next;
}

bool flight_join(struct upstream *upstream, const struct flight_key *key, struct call *call)
{
    _cleanup_(freep) char *text = xmalloc(key_room(key));
    struct span want = span_from(text, key_print(key, text));

    for (struct flight *f = *bucket_of(upstream, want); f; f = f->hash_next)
        if (span_eq(span_from(f->key, f->key_bytes), want)) {
            if (call)
                flight_attach(f, call);
            return true;
        }
    return false;
}

void flight_init(struct flight *flight, struct upstream *upstream, const struct flight_key *key,
                 struct call *call)
{
    struct flight **bucket;

    *flight = (struct flight){.upstream = upstream, .key = xmalloc(key_room(key)), .listed = true};
    flight->calls_tail = &flight->calls;
    flight->key_bytes = key_print(key, flight->key);
    bucket = bucket_of(upstream, span_from(flight->key, flight->key_bytes));
    flight->hash_next = *bucket;
    *bucket = flight;
    if (call)
        flight_attach(flight, call);
    upstream->active++;
}

static void flight_unlist(struct flight *flight)
{
    struct flight **at = bucket_of(flight->upstream, span_from(flight->key, flight->key_bytes));

    while (*at != flight)
        at = &(*at)->hash_next;
    *at = flight->hash_next;
    flight->listed = false;
}

void flight_answer(struct flight *flight, int err, struct blob *blob)
{
    struct call *call = flight->calls;

    if (flight->listed)
        flight_unlist(flight);
    flight->calls = NULL;
    flight->calls_tail = &flight->calls;
    while (call) {
        struct call *next = call->next;

        call_answer(call, err, blob ? blob_ref(blob) : NULL);
        call = next;
    }
}

void flight_done(struct flight *flight)
{
    assert(!flight->listed && !flight->calls);
    free(flight->key);
    flight->key = NULL;
    flight->upstream->active--;
}
