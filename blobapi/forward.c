/* blobapi/forward.c - operations that are the cloud's to answer: the client's request is sent on as
 * it is, the cloud's answer is the answer (design sections 5 and 7).
 *
 * The client has been judged here. What goes on is the request without its credentials and what is
 * of its connection only; names of versions are put into the cloud's words where a condition uses
 * ours, and back. What is relayed: status, headers, body; x-ms-request-id is ours, which our log
 * knows, and the cloud's stands beside it (x-hearth-cloud-request-id). Steps: start [-> waited ->
 * buffered -> read] -> known -> answered. */
#include <inttypes.h>

#include "base/clock.h"
#include "base/date.h"
#include "blobapi/handlers.h"

#define FORWARD_TIMEOUT_DEF_SEC 30
#define FORWARD_TIMEOUT_MAX_SEC 300

#define FORWARD_PAUSE_NS (20 * NS_PER_MS)

struct forward_state {
    struct forward request;
    struct forwarded answer;
    uint64_t deadline_ns; /* of what is waited for before it leaves; monotonic */
};

static struct next forward_waited(struct op *op);
static struct next forward_buffered(struct op *op);
static struct next forward_read(struct op *op);
static struct next forward_know(struct op *op);
static struct next forward_looked_up(struct op *op);
static struct next forward_known(struct op *op);
static struct next forward_answered(struct op *op);
static struct next forward_emit(struct op *op);

/* ---- whose it is ---- */

/* What a scope keeps to itself the cloud has never heard of. */
bool request_scope_in_cloud(const struct request *r)
{
    if (!request_has_cloud(r))
        return false;
    if (r->target.blob.len)
        return r->contract->write != WRITE_LOCAL;
    return !r->target.container.len || contract_container_in_cloud(r->account, r->target.container);
}

bool request_forwards(const struct request *r)
{
    if (!request_scope_in_cloud(r))
        return false;
    switch (r->operation->promise) {
    case PROMISE_CLOUD_READ:
    case PROMISE_CLOUD:
        return true;
    case PROMISE_LEASE:
        return r->contract->lease == LEASE_CLOUD;
    default:
        return false;
    }
}

/* timeout=, in seconds; what the service takes when none is given. */
static uint64_t request_timeout_ns(const struct request *r)
{
    uint64_t seconds;

    if (span_to_u64(target_param(&r->target, SPAN("timeout")), &seconds))
        seconds = FORWARD_TIMEOUT_DEF_SEC;
    return MIN(seconds, (uint64_t)FORWARD_TIMEOUT_MAX_SEC) * NS_PER_SEC;
}

static struct next forward_failed(struct request *r, int err);

/* ---- the body ---- */

/* It is small (FORWARD_BODY_BYTES_MAX is one buffer) and kept, so that it can be signed and sent
 * without the client. A body that is as long as a scope's blobs may be is another matter: it will
 * have to flow. */
static_assert(FORWARD_BODY_BYTES_MAX == 65536u, "one buffer of IOBUF_64K");
static_assert(DOCUMENT_BYTES_MAX <= FORWARD_BODY_BYTES_MAX, "what a row takes can be sent on");

struct next forward_start(struct op *op)
{
    struct request *r = REQUEST(op);

    r->forward = arena_zalloc(r->http->arena, sizeof(*r->forward));
    r->forward->deadline_ns = clock_mono_ns() + request_timeout_ns(r);
    if (r->operation->body == BODY_NONE || r->http->body_ended)
        return GO(forward_know);
    r->http->ops->read(r->http, NULL, &op->done); /* a silent client holds no buffer */
    return AWAIT(forward_waited);
}

static struct next forward_body_failed(struct request *r, int err)
{
    return err == -EBADMSG ? fail(r, AZ_INVALID_INPUT) : cut(r);
}

static struct next forward_waited(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return forward_body_failed(r, op->done.err);
    if (r->http->body_ended)
        return GO(forward_know);
    iobuf_get(IOBUF_64K, &r->buf, &op->done);
    return AWAIT(forward_buffered);
}

static struct next forward_buffered(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return cut(r);
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(forward_read);
}

static struct next forward_read(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return forward_body_failed(r, op->done.err);
    if (!r->http->body_ended) /* chunked: nobody said how long it is */
        return fail_detail(r, AZ_REQUEST_BODY_TOO_LARGE, SPAN("MaxLimit"), SPAN("65536"));
    r->forward->request.body = arena_copy(r->http->arena, span_from(r->buf->base, r->buf->used));
    r->buf = iobuf_unref(r->buf);
    return GO(forward_know);
}

/* ---- the request as the cloud gets it ---- */

/* Parameters of a SAS, and api-version, which becomes a header. */
static bool is_query_ours(struct span name)
{
    static const char *const names[] = {
        "sv",  "ss",  "srt",  "sp",   "se",    "st",    "spr",  "sip",        "sr",
        "sig", "si",  "sdd",  "ses",  "srk",   "epk",   "spk",  "skoid",      "sktid",
        "skt", "ske", "sks",  "skv",  "saoid", "suoid", "scid", "sduoid",     "skdutid",
        "srh", "srq", "rscc", "rscd", "rsce",  "rscl",  "rsct", "api-version"};

    for (size_t i = 0; i < countof(names); i++)
        if (span_eq(name, span_of(names[i])))
            return true;
    return false;
}

static bool is_header_the_clouds(struct span name)
{
    static const char *const plain[] = {
        "if-match",    "if-none-match", "if-modified-since", "if-unmodified-since",
        "content-md5", "content-type",  "content-encoding",  "content-language"};
    static const char *const ours[] = {"x-ms-date", "x-ms-version"};

    for (size_t i = 0; i < countof(ours); i++)
        if (span_eq(name, span_of(ours[i])))
            return false;
    if (span_starts(name, SPAN("x-ms-copy-source"))) /* of no operation that goes on: a secret */
        return false;
    for (size_t i = 0; i < countof(plain); i++)
        if (span_eq(name, span_of(plain[i])))
            return true;
    return span_starts(name, SPAN("x-ms-"));
}

/* ---- conditions: our names of a version, and its times, mean nothing over there ---- */

static struct span etag_abroad(struct request *r, const struct blob_record *record,
                               struct span value)
{
    struct span ours = arena_printf(r->http->arena, ETAG_FMT, record->etag);

    if (span_eq(value, ours) || span_eq(value, span_from(ours.base + 1, ours.len - 2)))
        return record->cloud_etag;
    return value;
}

/* A date on the same side of the version's time there as the client's is of its time here. */
static struct span date_abroad(struct request *r, const struct blob_record *record,
                               struct span value)
{
    const int64_t second = (int64_t)NS_PER_SEC;
    char *text;
    int64_t ns;

    if (http_date_parse(value, &ns) || !record->cloud_modified_ns)
        return value;
    if (ns / second >= record->modified_ns / second)
        ns = MAX(ns, record->cloud_modified_ns);
    else
        ns = MIN(ns, record->cloud_modified_ns - second);
    text = arena_alloc(r->http->arena, HTTP_DATE_BYTES + 1);
    http_date_print(ns, text);
    return span_from(text, HTTP_DATE_BYTES);
}

static struct span value_abroad(struct request *r, const struct header *header)
{
    const struct blob_record *record = r->blob ? blob_record(r->blob) : NULL;

    if (!record || !record->cloud_etag.len || !span_starts(header->name, SPAN("if-")))
        return header->value;
    return span_eq(header->name, SPAN("if-match")) || span_eq(header->name, SPAN("if-none-match"))
               ? etag_abroad(r, record, header->value)
               : date_abroad(r, record, header->value);
}

static bool is_conditional(const struct request *r)
{
    for (unsigned i = 0; i < r->http->header_count; i++)
        if (span_starts(r->http->headers[i].name, SPAN("if-")))
            return true;
    return false;
}

/* ---- the rest of it ---- */

static void forward_query(struct request *r, struct forward *f)
{
    struct pair *query = arena_alloc(r->http->arena, (r->target.param_count + 1) * sizeof(*query));

    for (unsigned i = 0; i < r->target.param_count; i++)
        if (!is_query_ours(r->target.params[i].name))
            query[f->query_count++] =
                (struct pair){r->target.params[i].name, r->target.params[i].value};
    f->query = query;
}

static void forward_headers(struct request *r, struct forward *f)
{
    const struct exchange *http = r->http;
    struct pair *headers = arena_alloc(http->arena, (http->header_count + 1) * sizeof(*headers));
    struct span version = exchange_header(http, SPAN("x-ms-version"));

    if (!version.len)
        version = target_param(&r->target, SPAN("api-version"));
    if (!version.len)
        version = r->granted.version; /* a SAS's */
    for (unsigned i = 0; i < http->header_count; i++) {
        const struct header *h = &http->headers[i];

        if (is_header_the_clouds(h->name))
            headers[f->header_count++] = (struct pair){h->name, value_abroad(r, h)};
    }
    if (version.len)
        headers[f->header_count++] = (struct pair){SPAN("x-ms-version"), version};
    f->headers = headers;
}

static enum forward_method forward_method_of(const struct request *r)
{
    if (r->head_only)
        return FORWARD_HEAD;
    if (span_eq(r->http->method, SPAN("GET")))
        return FORWARD_GET;
    return span_eq(r->http->method, SPAN("DELETE")) ? FORWARD_DELETE : FORWARD_PUT;
}

static struct next forward_know(struct op *op) /* what the box calls the version */
{
    struct request *r = REQUEST(op);

    if (!r->target.blob.len)
        return GO(forward_known);
    r->blob = r->blob ? blob_unref(r->blob) : NULL;
    cache_lookup(r->api->conf.cache, &r->name, &r->blob, &op->done);
    return AWAIT(forward_looked_up);
}

/* A version that the cloud has not got yet has no name there: a condition waits for it. */
static struct next forward_looked_up(struct op *op)
{
    struct request *r = REQUEST(op);

    if (!is_conditional(r) || !r->blob || blob_record(r->blob)->cloud_etag.len)
        return GO(forward_known);
    if (clock_mono_ns() >= r->forward->deadline_ns)
        return forward_failed(r, -ETIMEDOUT);
    request_sleep(r, FORWARD_PAUSE_NS);
    return AWAIT(forward_know);
}

static struct next forward_known(struct op *op) /* or not: then conditions are not ours either */
{
    struct request *r = REQUEST(op);
    struct forward *f = &r->forward->request;

    f->account = r->account->id;
    f->method = forward_method_of(r);
    f->container = r->target.container;
    f->blob = r->target.blob;
    f->container_id = r->name.container;
    f->wait_ns = r->forward->deadline_ns - MIN(clock_mono_ns(), r->forward->deadline_ns);
    forward_query(r, f);
    forward_headers(r, f);
    upstream_forward(r->api->conf.upstream, f, &r->forward->answer, &op->done);
    return AWAIT(forward_answered);
}

/* ---- the answer ---- */

/* The driver's, ours (answer_common), or written anew. */
static bool is_header_kept_back(struct span name)
{
    static const char *const names[] = {"connection",
                                        "keep-alive",
                                        "transfer-encoding",
                                        "content-length",
                                        "trailer",
                                        "upgrade",
                                        "proxy-authenticate",
                                        "te",
                                        "date",
                                        "server",
                                        "x-ms-request-id",
                                        "x-ms-version",
                                        "x-ms-client-request-id",
                                        "www-authenticate",
                                        "content-type"};

    for (size_t i = 0; i < countof(names); i++)
        if (span_eq_nocase(name, span_of(names[i])))
            return true;
    return false;
}

static struct span answer_value(const struct forwarded *answer, struct span name)
{
    for (unsigned i = 0; i < answer->header_count; i++)
        if (span_eq_nocase(answer->headers[i].name, name))
            return answer->headers[i].value;
    return (struct span){NULL, 0};
}

/* After what has been done was learned: what a HEAD says now. */
static uint64_t container_etag(const struct request *r)
{
    struct container *container;
    uint64_t etag;

    if (r->target.blob.len || !r->target.container.len ||
        cache_container(r->api->conf.cache, r->account->id, r->target.container, &container))
        return 0;
    etag = container_record(container)->etag;
    container_unref(container);
    return etag;
}

/* The version this answer speaks of, if the box has a name of its own for it. */
static const struct blob_record *named_here(const struct request *r)
{
    const struct blob_record *record = r->blob ? blob_record(r->blob) : NULL;
    struct span etag = answer_value(&r->forward->answer, SPAN("etag"));

    return record && etag.len && span_eq(record->cloud_etag, etag) ? record : NULL;
}

static void relay_headers(struct request *r)
{
    const struct forwarded *answer = &r->forward->answer;
    const struct blob_record *here = named_here(r);
    uint64_t etag = here ? here->etag : container_etag(r);
    struct span id = answer_value(answer, SPAN("x-ms-request-id"));

    for (unsigned i = 0; i < answer->header_count; i++) {
        struct span name = answer->headers[i].name;

        if (is_header_kept_back(name))
            continue;
        if (etag && span_eq_nocase(name, SPAN("etag")))
            answer_etag(r, etag);
        else if (here && span_eq_nocase(name, SPAN("last-modified")))
            answer_date(r, SPAN("Last-Modified"), here->modified_ns);
        else
            answer_add(r, name, answer->headers[i].value);
    }
    if (id.len)
        answer_add(r, SPAN("x-hearth-cloud-request-id"), id);
}

static struct next forward_failed(struct request *r, int err)
{
    switch (err) {
    case -EINPROGRESS: /* what the service says when it cannot tell either */
        return fail_detail(r, AZ_OPERATION_TIMED_OUT, SPAN("Detail"),
                           SPAN("The cloud was asked and its answer was lost: whether it has done "
                                "this is being found out."));
    case -ETIMEDOUT:
        return fail_detail(r, AZ_SERVER_BUSY, SPAN("Detail"),
                           SPAN("Earlier changes of this name have not reached the cloud within "
                                "the request's timeout."));
    case -EACCES:
        return fail_detail(r, AZ_SERVER_BUSY, SPAN("Detail"),
                           SPAN("The cloud refuses this cache's own credential."));
    case -EHOSTUNREACH:
        return fail_detail(r, AZ_SERVER_BUSY, SPAN("Detail"),
                           SPAN("This operation is the cloud's to answer, and the cloud does not "
                                "answer now."));
    default:
        return fail_errno(r, err);
    }
}

static struct next forward_answered(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return forward_failed(r, op->done.err);
    if (r->target.blob.len) { /* what it has made was learned meanwhile */
        r->blob = r->blob ? blob_unref(r->blob) : NULL;
        r->blob = cache_lookup_hot(r->api->conf.cache, &r->name);
    }
    relay_headers(r);
    if (!r->forward->answer.body.len || r->head_only || r->forward->answer.status == 304)
        return answer_empty(r, r->forward->answer.status);
    return emit_begin(r, IOBUF_4K, GO(forward_emit));
}

static struct next forward_emit(struct op *op)
{
    struct request *r = REQUEST(op);

    emit_span(r->emit, r->forward->answer.body);
    return answer_emitted(r, r->forward->answer.status);
}

void forward_done(struct request *r)
{
    if (r->forward)
        forwarded_done(&r->forward->answer);
}
