/* server/http_answer.c - the text of answers: response heads, and the error document the driver
 * sends where no exchange exists to do it. */
#include "server/http.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"

#define HEAD_FIXED_MAX 256 /* status line without reason, Date, Connection, framing, empty line */

struct text {
    char *at;
};

static void put(struct text *text, struct span s)
{
    if (s.len)
        memcpy(text->at, s.base, s.len);
    text->at += s.len;
}

#define EACH_BYTE(c) (0x0101010101010101ULL * (c))

/* Has none of these 8 bytes to be replaced? May say no to a tab: the careful way decides. */
static bool is_clean(const char *at)
{
    uint64_t x, del;

    memcpy(&x, at, sizeof(x));
    del = x ^ EACH_BYTE(0x7f);
    return !((((x - EACH_BYTE(0x20)) & ~x) | ((del - EACH_BYTE(1)) & ~del)) & EACH_BYTE(0x80));
}

/* Header values may come from clients (metadata, rscd of a SAS): none may start a line of its own.
 */
static void put_value(struct text *text, struct span s)
{
    size_t i = 0;

    for (; s.len - i >= 8 && is_clean(s.base + i); i += 8)
        memcpy(text->at + i, s.base + i, 8);
    for (; i < s.len; i++) {
        unsigned char c = (unsigned char)s.base[i];

        text->at[i] = (c < 0x20 && c != '\t') || c == 0x7f ? '?' : (char)c;
    }
    text->at += s.len;
}

static void put_number(struct text *text, uint64_t n)
{
    text->at += sprintf(text->at, "%llu", (unsigned long long)n);
}

static size_t head_room(const struct response *response)
{
    size_t room = HEAD_FIXED_MAX + response->reason.len;

    for (unsigned i = 0; i < response->header_count; i++)
        room += response->headers[i].name.len + response->headers[i].value.len + 4;
    return room;
}

static void put_framing(struct text *text, const struct response *response,
                        const struct http_answer *how)
{
    if (how->chunked) {
        put(text, SPAN("Transfer-Encoding: chunked\r\n"));
        return;
    }
    if (response->body_bytes < 0 || response->status == 204 ||
        (response->status == 304 && response->body_bytes == 0))
        return;
    put(text, SPAN("Content-Length: "));
    put_number(text, (uint64_t)response->body_bytes);
    put(text, SPAN("\r\n"));
}

struct span http_answer_head(struct arena *arena, const struct response *response,
                             const struct http_answer *how)
{
    char *base = arena_alloc(arena, head_room(response));
    struct text text = {base};

    put(&text, SPAN("HTTP/1.1 "));
    put_number(&text, (unsigned)response->status);
    put(&text, SPAN(" "));
    put_value(&text, response->reason);
    put(&text, SPAN("\r\n"));
    put_framing(&text, response, how);
    for (unsigned i = 0; i < response->header_count; i++) {
        put_value(&text, response->headers[i].name);
        put(&text, SPAN(": "));
        put_value(&text, response->headers[i].value);
        put(&text, SPAN("\r\n"));
    }
    put(&text, SPAN("Date: "));
    put(&text, span_of(how->date));
    put(&text, how->keep_alive ? SPAN("\r\n\r\n") : SPAN("\r\nConnection: close\r\n\r\n"));
    return span_from(base, (size_t)(text.at - base));
}

/* ---- what the driver says by itself ---- */

struct span http_request_id(struct arena *arena)
{
    uint64_t a = random_u64(), b = random_u64();

    return arena_printf(arena, "%08x-%04x-4%03x-%04x-%012llx", (unsigned)(a >> 32),
                        (unsigned)(a >> 16) & 0xffff, (unsigned)a & 0xfff,
                        0x8000 | ((unsigned)(b >> 48) & 0x3fff),
                        (unsigned long long)(b & 0xffffffffffffULL));
}

struct span http_error_body(struct arena *arena, const struct http_refusal *why,
                            struct span request_id)
{
    int64_t now = clock_wall_ns();
    time_t seconds = (time_t)(now / (int64_t)NS_PER_SEC);
    struct tm tm;
    char time[32];

    gmtime_r(&seconds, &tm);
    strftime(time, sizeof(time), "%Y-%m-%dT%H:%M:%S", &tm);
    return arena_printf(
        arena,
        "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code>"
        "<Message>%s\nRequestId:%.*s\nTime:%s.%07dZ</Message></Error>",
        why->code, why->message, SPAN_FMT(request_id), time,
        (int)(now % (int64_t)NS_PER_SEC / 100));
}

const char *http_date_now(struct http_loop *loop)
{
    int64_t now = clock_wall_ns(), second = now / (int64_t)NS_PER_SEC;

    if (second != loop->date_s) {
        loop->date_s = second;
        http_date_print(now, loop->date);
    }
    return loop->date;
}
