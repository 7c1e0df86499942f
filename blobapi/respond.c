/* blobapi/respond.c - answers: the headers all share, errors with their XML, bodies from buffers.
 * Loop thread. Header values live in the request's arena or outlive it; the driver copies the head.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/date.h"
#include "base/log.h"
#include "base/text.h"
#include "blobapi/metrics.h"
#include "blobapi/request.h"
#include "blobapi/service.h"

#define ANSWER_SLICES          16  /* given to the driver at once */
#define RETRY_AFTER            "2" /* seconds, with 503: the slowest client waits 15 by itself */
#define HEX_DIGITS             "0123456789abcdef"
#define ERROR_DETAIL_BYTES_MAX 512 /* of what a client sent us and we send back */
#define CLIENT_ID_MAX          1024

/* ---- header values ---- */

void answer_add(struct request *r, struct span name, struct span value)
{
    struct answer *a = &r->answer;

    if (a->count == a->room) {
        unsigned room = a->room ? a->room * 2 : ANSWER_HEADERS_ROOM;

        a->headers = arena_grow(r->http->arena, a->headers, a->room * sizeof(*a->headers),
                                room * sizeof(*a->headers));
        a->room = room;
    }
    a->headers[a->count++] = (struct header){.name = name, .value = value};
}

void answer_add_text(struct request *r, struct span name, const char *format, ...)
{
    char text[256];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    assert(n >= 0 && (size_t)n < sizeof(text));
    answer_add(r, name, arena_copy(r->http->arena, span_from(text, (size_t)n)));
}

void answer_date(struct request *r, struct span name, int64_t wall_ns)
{
    char *text = arena_alloc(r->http->arena, HTTP_DATE_BYTES + 1);

    http_date_print(wall_ns, text);
    answer_add(r, name, span_from(text, HTTP_DATE_BYTES));
}

static char *hex_digits(char *at, uint64_t v, unsigned digits, const char *alphabet)
{
    for (unsigned i = 0; i < digits; i++)
        at[i] = alphabet[v >> 4 * (digits - 1 - i) & 15];
    return at + digits;
}

/* ETAG_FMT by hand: printf costs more than the rest of a small hit's headers. */
void answer_etag(struct request *r, uint64_t etag)
{
    char *text = arena_alloc(r->http->arena, 20);

    memcpy(text, "\"0x", 3);
    hex_digits(text + 3, etag, 16, "0123456789ABCDEF");
    text[19] = '"';
    answer_add(r, SPAN("ETag"), span_from(text, 20));
}

void answer_u64(struct request *r, struct span name, uint64_t n)
{
    char *text = arena_alloc(r->http->arena, 20), *at = text + 20;

    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    answer_add(r, name, span_from(at, (size_t)(text + 20 - at)));
}

void answer_base64(struct request *r, struct span name, struct span bytes)
{
    char *text = arena_alloc(r->http->arena, BASE64_BYTES(bytes.len));

    answer_add(r, name, span_from(text, base64_encode(bytes, text)));
}

void answer_crc64(struct request *r, uint64_t crc64)
{
    uint64_t little = htole64(crc64);

    answer_base64(r, SPAN("x-ms-content-crc64"), span_from(&little, sizeof(little)));
}

/* Lower-case prefix on the wire, whatever the name's case: Python compares it as a literal. */
void answer_metadata(struct request *r, const struct pair *pairs, unsigned n)
{
    static const char prefix[] = "x-ms-meta-";

    for (unsigned i = 0; i < n; i++) {
        size_t bytes = sizeof(prefix) - 1 + pairs[i].name.len;
        char *name = arena_alloc(r->http->arena, bytes);

        memcpy(name, prefix, sizeof(prefix) - 1);
        memcpy(name + sizeof(prefix) - 1, pairs[i].name.base, pairs[i].name.len);
        answer_add(r, span_from(name, bytes), pairs[i].value);
    }
}

/* ---- what every answer has ---- */

static uint64_t id_state_next(void)
{
    static _Thread_local uint64_t
        state; /* splitmix64 from a random start: an id need not be secret */
    uint64_t z;

    if (!state)
        state = random_u64();
    z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void request_id_make(char ret[REQUEST_ID_BYTES])
{
    uint64_t a = id_state_next(), b = id_state_next();
    char *at = hex_digits(ret, a >> 32, 8, HEX_DIGITS);

    *at = '-';
    at = hex_digits(at + 1, a >> 16 & 0xffff, 4, HEX_DIGITS);
    *at = '-';
    at = hex_digits(at + 1, (a & 0x0fff) | 0x4000, 4, HEX_DIGITS);
    *at = '-';
    at = hex_digits(at + 1, (b >> 48 & 0x3fff) | 0x8000, 4, HEX_DIGITS);
    *at = '-';
    hex_digits(at + 1, b & 0xffffffffffffu, 12, HEX_DIGITS);
}

static bool visible_ascii(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.base[i] < 0x20 || (unsigned char)s.base[i] > 0x7e)
            return false;
    return true;
}

static void answer_common(struct request *r)
{
    struct span client_id = exchange_header(r->http, SPAN("x-ms-client-request-id"));

    answer_add(r, SPAN("Server"), SPAN("Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0"));
    answer_add(r, SPAN("x-ms-request-id"), span_from(r->id, REQUEST_ID_BYTES));
    answer_add(r, SPAN("x-ms-version"), r->version);
    if (client_id.base && client_id.len <= CLIENT_ID_MAX && visible_ascii(client_id))
        answer_add(r, SPAN("x-ms-client-request-id"), client_id);
}

static void answer_head(struct request *r, int status, struct span reason, int64_t body_bytes)
{
    struct response response;

    assert(!r->head_sent);
    answer_common(r);
    cors_headers(r, body_bytes >= 0);
    response = (struct response){.status = status,
                                 .reason = reason,
                                 .headers = r->answer.headers,
                                 .header_count = r->answer.count,
                                 .body_bytes = body_bytes};
    r->http->ops->head(r->http, &response);
    r->head_sent = true;
    r->status = status;
}

static struct span reason_of(int status)
{
    switch (status) {
    case 200:
        return SPAN("OK");
    case 201:
        return SPAN("Created");
    case 202:
        return SPAN("Accepted");
    case 206:
        return SPAN("Partial Content");
    default:
        return SPAN("");
    }
}

void answer_ok(struct request *r, int status, int64_t body_bytes)
{
    answer_head(r, status, reason_of(status), body_bytes);
}

struct next answer_empty(struct request *r, int status)
{
    answer_ok(r, status, 0);
    r->whole = true;
    return FINISH;
}

/* ---- bodies from buffers ---- */

static struct next respond_sent(struct op *op);
static struct next respond_send(struct op *op)
{
    struct request *r = REQUEST(op);
    struct slice slices[ANSWER_SLICES];
    unsigned n = emit_take(r->emit, slices, ANSWER_SLICES);

    if (!n) {
        r->whole = true;
        return FINISH;
    }
    r->http->ops->send(r->http, slices, n, &op->done);
    return AWAIT(respond_sent);
}

static struct next respond_sent(struct op *op)
{
    return op->done.err ? cut(REQUEST(op)) : GO(respond_send);
}

struct next answer_emitted(struct request *r, int status)
{
    if (r->emit->full) /* something is missing: no buffers, later */
        return fail_errno(r, -EBUSY);
    answer_add(r, SPAN("Content-Type"), SPAN("application/xml"));
    answer_ok(r, status, (int64_t)emit_length(r->emit));
    if (r->head_only) {
        r->whole = true;
        return FINISH;
    }
    return GO(respond_send);
}

static struct next respond_buffer_got(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return cut(r);
    r->emit = arena_alloc(r->http->arena, sizeof(*r->emit));
    emit_init(r->emit, TAKE(r->buf));
    return GO(r->emit_next.step);
}

struct next emit_begin(struct request *r, enum iobuf_class class, struct next then)
{
    assert(!r->emit && !r->buf);
    r->emit_next = then;
    iobuf_get(class, &r->buf, &r->op.done);
    return AWAIT(respond_buffer_got);
}

/* ---- errors ---- */

static void error_details_emit(struct request *r, struct emit *e)
{
    for (unsigned i = 0; i < r->error_details; i++) {
        EMIT(e, "<");
        emit_span(e, r->error_detail[i][0]);
        EMIT(e, ">");
        emit_xml(e, r->error_detail[i][1]);
        EMIT(e, "</");
        emit_span(e, r->error_detail[i][0]);
        EMIT(e, ">");
    }
}

/* Three lines in Message: SDKs split there. The BOM is the service's. */
void error_emit(struct request *r)
{
    struct emit *e = r->emit;
    char now[ISO8601_BYTES + 1];

    iso8601_print(clock_wall_ns(), now);
    EMIT(e, "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>");
    emit_span(e, az_code(r->error));
    EMIT(e, "</Code><Message>");
    emit_xml(e, az_message(r->error));
    EMIT(e, "\nRequestId:");
    emit_bytes(e, r->id, REQUEST_ID_BYTES);
    EMIT(e, "\nTime:");
    emit_bytes(e, now, ISO8601_BYTES);
    EMIT(e, "</Message>");
    error_details_emit(r, e);
    EMIT(e, "</Error>");
}

static void error_headers(struct request *r)
{
    r->answer.count = 0; /* what a handler had gathered for its success is not true */
    answer_add(r, SPAN("x-ms-error-code"), az_code(r->error));
    if (az_status(r->error) == 503)
        answer_add(r, SPAN("Retry-After"), SPAN(RETRY_AFTER));
    if (r->error == AZ_INVALID_RANGE && r->blob)
        answer_add_text(r, SPAN("Content-Range"), "bytes */%" PRIu64, blob_record(r->blob)->length);
    if (r->source_status) {
        answer_u64(r, SPAN("x-ms-copy-source-status-code"), (uint64_t)r->source_status);
        answer_add(r, SPAN("x-ms-copy-source-error-code"), r->source_code);
    } else if (az_status(r->error) == 401) {
        answer_add(r, SPAN("WWW-Authenticate"), identity_challenge(r->api->conf.identity));
    }
}

static struct next respond_error_body(struct op *op)
{
    struct request *r = REQUEST(op);

    error_emit(r);
    error_headers(r);
    answer_add(r, SPAN("Content-Type"), SPAN("application/xml"));
    answer_head(r, az_status(r->error), az_message(r->error), (int64_t)emit_length(r->emit));
    return GO(respond_send);
}

static void answer_drop(struct request *r) /* a body begun for a success */
{
    if (r->emit)
        emit_done(r->emit);
    r->emit = NULL;
}

static struct next respond_error(struct op *op)
{
    struct request *r = REQUEST(op);
    int status = az_status(r->error);

    if (status >= 500)
        STAT_INC(blobapi_faults);
    else if (status >= 400)
        STAT_INC(blobapi_refusals);
    if (!r->head_only && status != 304) {
        answer_drop(r);
        r->buf = iobuf_unref(r->buf);
        return emit_begin(r, IOBUF_4K, GO(respond_error_body));
    }
    error_headers(r);
    answer_head(r, status, az_message(r->error), 0);
    r->whole = true;
    return FINISH;
}

struct next fail(struct request *r, enum az_error error)
{
    assert(!r->head_sent);
    r->error = error;
    return GO(respond_error);
}

/* Not within a character: half of one would make the XML malformed. */
static struct span detail_cut(struct span text)
{
    size_t len = MIN(text.len, (size_t)ERROR_DETAIL_BYTES_MAX);

    while (len && len < text.len && ((unsigned char)text.base[len] & 0xC0) == 0x80)
        len--;
    return span_from(text.base, len);
}

void request_detail(struct request *r, struct span element, struct span text)
{
    if (r->error_details == countof(r->error_detail))
        return;
    text = detail_cut(text);
    r->error_detail[r->error_details][0] = element;
    r->error_detail[r->error_details++][1] = text;
}

struct next fail_detail(struct request *r, enum az_error error, struct span element,
                        struct span text)
{
    request_detail(r, element, text);
    return fail(r, error);
}

struct next fail_header(struct request *r, enum az_error error, struct span name)
{
    struct span value = exchange_header(r->http, name);

    request_detail(r, SPAN("HeaderName"), name);
    if (value.base && emit_xml_fits(value))
        request_detail(r, SPAN("HeaderValue"), value);
    return fail(r, error);
}

struct next fail_query(struct request *r, enum az_error error, struct span name)
{
    struct span value = target_param(&r->target, name);

    request_detail(r, SPAN("QueryParameterName"), name);
    if (value.base && emit_xml_fits(value))
        request_detail(r, SPAN("QueryParameterValue"), value);
    return fail(r, error);
}

struct next fail_errno(struct request *r, int err)
{
    enum az_error error = az_from_errno(err);

    if (az_status(error) >= 500)
        log_warn_limited("request failed", KV_SPAN("operation", r->operation->name),
                         KV_SPAN("id", span_from(r->id, REQUEST_ID_BYTES)), KV_ERR(err));
    return fail(r, error);
}

struct next cut(struct request *r)
{
    r->whole = false;
    return FINISH;
}
