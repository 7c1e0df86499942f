#include "tests/support/fake_exchange.h"

#include "base/digest.h"
#include "base/text.h"

#define SEND_SLICES_MAX 16 /* the driver's HTTP_SEND_SLICES_MAX */

struct fake {
    struct exchange http;
    const struct fake_request *request;
    struct fake_answer *answer;
    struct span unread;
    struct header headers[128];
    unsigned calls;
    bool busy;
    struct completion leave; /* posted once per turn until the client leaves or has its answer */
    unsigned turns;
    bool left;
};

static struct fake *fake_of(struct exchange *http)
{
    return container_of(http, struct fake, http);
}

static bool client_gone(struct fake *fake)
{
    return fake->request->cancel_after && ++fake->calls >= fake->request->cancel_after;
}

static void finish_call(struct fake *fake, struct completion *done, int err)
{
    if (err == -ECANCELED)
        fake->http.op->cancelled = true; /* what op_cancel leaves when nothing has to be told */
    completion_post(done, err);
}

static void fake_read(struct exchange *http, struct iobuf *into, struct completion *done)
{
    struct fake *fake = fake_of(http);
    size_t n, limit = fake->request->bytes_a_read ? fake->request->bytes_a_read : SIZE_MAX;

    assert(!fake->answer->ended);
    assert(!fake->request->may_wait || fake->request->may_wait());
    fake->answer->read_called = true;
    if (client_gone(fake)) {
        finish_call(fake, done, -ECANCELED);
        return;
    }
    if (into) {
        n = MIN(fake->unread.len, MIN(limit, (size_t)(into->size - into->used)));
        if (n)
            memcpy(into->base + into->used, fake->unread.base, n);
        into->used += (uint32_t)n;
        fake->unread = span_skip(fake->unread, n);
        http->body_ended = fake->unread.len == 0;
    }
    finish_call(fake, done, 0);
}

static void fake_head(struct exchange *http, const struct response *response)
{
    struct fake_answer *a = fake_of(http)->answer;

    assert(!a->status && response->header_count <= countof(a->headers));
    a->status = response->status;
    a->reason = arena_copy(a->arena, response->reason);
    a->body_bytes = response->body_bytes;
    a->header_count = response->header_count;
    for (unsigned i = 0; i < response->header_count; i++)
        a->headers[i] = (struct header){.name = arena_copy(a->arena, response->headers[i].name),
                                        .value = arena_copy(a->arena, response->headers[i].value)};
}

static void take_body(struct fake_answer *a, struct span bytes)
{
    if (a->body_len + bytes.len > a->body_room) {
        a->body_room = MAX(a->body_len + bytes.len, a->body_room * 2);
        a->body = xrealloc(a->body, a->body_room);
    }
    memcpy(a->body + a->body_len, bytes.base, bytes.len);
    a->body_len += bytes.len;
}

static void fake_send(struct exchange *http, const struct slice *slices, unsigned n,
                      struct completion *done)
{
    struct fake *fake = fake_of(http);
    bool gone = client_gone(fake);

    assert(fake->answer->status && !fake->answer->ended && n <= SEND_SLICES_MAX);
    assert(!fake->request->may_wait || fake->request->may_wait());
    for (unsigned i = 0; i < n; i++) {
        if (!gone)
            take_body(fake->answer, slices[i].bytes);
        slice_unref(slices[i]);
    }
    finish_call(fake, done, gone ? -ECANCELED : 0);
}

static void fake_end(struct exchange *http, bool whole)
{
    struct fake *fake = fake_of(http);

    assert(!fake->answer->ended);
    fake->answer->ended = true;
    fake->answer->whole = whole && fake->answer->status;
    http->arena = arena_free(http->arena);
}

static const struct exchange_ops fake_ops = {fake_read, fake_head, fake_send, fake_end};

/* What op_cancel finds at every point between two completions of this loop. */
static void fake_leave(struct completion *leave)
{
    struct fake *fake = container_of(leave, struct fake, leave);

    fake->left = fake->answer->ended || ++fake->turns > fake->request->leave_after;
    if (!fake->left)
        completion_post(leave, 0);
    else if (!fake->answer->ended)
        op_cancel(fake->http.op);
}

static struct span lower(struct arena *arena, struct span s)
{
    struct span copy = arena_copy(arena, s);

    for (size_t i = 0; i < copy.len; i++)
        if (copy.base[i] >= 'A' && copy.base[i] <= 'Z')
            ((char *)copy.base)[i] |= 0x20;
    return copy;
}

static void fake_headers(struct fake *fake, struct span text)
{
    while (text.base && text.len) {
        struct span line = span_cut(text, '\n', &text), value, name = span_cut(line, ':', &value);

        assert(fake->http.header_count < countof(fake->headers));
        if (span_eq_nocase(name, SPAN("Host")))
            fake->http.host = span_trim(value);
        fake->headers[fake->http.header_count++] = (struct header){
            .name = lower(fake->http.arena, name), .value = span_trim(value), .sent_name = name};
    }
}

void fake_exchange_run(void (*start)(struct exchange *), struct blobapi *api,
                       struct loop_poll *poll, const struct fake_request *request,
                       struct fake_answer *ret)
{
    static struct sockaddr_storage peer = {.ss_family = AF_INET};
    struct fake fake = {.request = request, .answer = ret, .unread = request->body};

    *ret = (struct fake_answer){.arena = arena_new()};
    fake.http = (struct exchange){.ops = &fake_ops,
                                  .api = api,
                                  .loop = loop_poll_loop(poll),
                                  .arena = arena_new(),
                                  .method = span_of(request->method),
                                  .target = span_of(request->target),
                                  .host = SPAN("127.0.0.1:10000"),
                                  .headers = fake.headers,
                                  .peer = (struct sockaddr *)&peer};
    fake_headers(&fake, span_of(request->headers));
    fake.http.body_bytes = request->chunked ? -1
                           : request->claim ? request->claim
                                            : (int64_t)request->body.len;
    fake.http.body_ended = fake.http.body_bytes == 0;
    if (fake.http.body_bytes >= 0)
        fake.headers[fake.http.header_count++] = (struct header){
            .name = SPAN("content-length"),
            .value = arena_printf(fake.http.arena, "%lld", (long long)fake.http.body_bytes)};
    fake.left = !request->leave_after;
    fake.leave = (struct completion){.fn = fake_leave, .loop = fake.http.loop};
    if (!fake.left)
        completion_post(&fake.leave, 0);
    start(&fake.http);
    loop_poll_until(poll, &ret->ended);
    loop_poll_until(poll, &fake.left);
}

void fake_answer_done(struct fake_answer *answer)
{
    free(answer->body);
    answer->body = NULL;
    answer->arena = arena_free(answer->arena);
}

struct span fake_answer_header(const struct fake_answer *answer, const char *name)
{
    for (unsigned i = 0; i < answer->header_count; i++)
        if (span_eq_nocase(answer->headers[i].name, span_of(name)))
            return answer->headers[i].value;
    return (struct span){NULL, 0};
}

struct span fake_sas(struct arena *arena, struct span account, struct span key, const char *rights)
{
    struct span text = arena_printf(
        arena, "%.*s\n%s\nb\nsco\n\n2099-01-01T00:00:00Z\n\nhttps,http\n2022-11-02\n\n",
        SPAN_FMT(account), rights);
    unsigned char mac[SHA256_BYTES];
    char base64[BASE64_BYTES(SHA256_BYTES)], escaped[3 * sizeof(base64)];
    size_t len;

    hmac_sha256(key, text, mac);
    len = percent_encode(span_from(base64, base64_encode(span_from(mac, sizeof(mac)), base64)), "",
                         escaped);
    return arena_printf(
        arena,
        "sv=2022-11-02&ss=b&srt=sco&sp=%s&se=2099-01-01T00%%3A00%%3A00Z&spr=https,http&sig=%.*s",
        rights, (int)len, escaped);
}
