/* blobapi/source_external.c - a copy source that is not this box's: begun to be read, and what its
 * server says when it may not be. See source.h. */
#include "blobapi/source.h"

#include "base/log.h"

static struct next source_opened(struct op *op);

struct next source_external_find(struct request *r, struct source *s)
{
    struct external_spec spec = {
        .url = s->elsewhere,
        .authorization = exchange_header(r->http, SPAN("x-ms-copy-source-authorization")),
        .range = s->range,
    };
    struct span rest;

    if (spec.authorization.len &&
        !span_eq_nocase(span_cut(spec.authorization, ' ', &rest), SPAN("Bearer")))
        return fail_header(r, AZ_INVALID_HEADER_VALUE, SPAN("x-ms-copy-source-authorization"));
    s->external = external_close(s->external);
    external_open(r->api->conf.upstream, &spec, &s->external, &r->op.done);
    return AWAIT(source_opened);
}

/* Our status is the source's where there is such a one; what it said stands beside. */
static enum az_error refusal_of(int status)
{
    switch (status) {
    case 401:
        return AZ_COPY_SOURCE_UNAUTHENTICATED;
    case 403:
        return AZ_COPY_SOURCE_FORBIDDEN;
    case 404:
        return AZ_CANNOT_VERIFY_COPY_SOURCE;
    case 409:
        return AZ_COPY_SOURCE_CONFLICT;
    case 412:
        return AZ_SOURCE_CONDITION_NOT_MET;
    case 416:
        return AZ_INVALID_RANGE;
    default:
        return status >= 500 || status == 429 || status == 408 ? AZ_COPY_SOURCE_UNREACHABLE
                                                               : AZ_COPY_SOURCE_REFUSED;
    }
}

static struct next source_refused(struct request *r, const struct external_head *head)
{
    r->source_status = head->status;
    r->source_code = head->code;
    request_detail(r, SPAN("CopySourceStatusCode"),
                   arena_printf(r->http->arena, "%d", head->status));
    if (head->code.len)
        request_detail(r, SPAN("CopySourceErrorCode"), head->code);
    return fail(r, refusal_of(head->status));
}

static struct next source_unreachable(struct request *r, int err)
{
    switch (err) {
    case -ECANCELED:
        return cut(r);
    case -EINVAL:
        return fail_source_input(r, AZ_INVALID_HEADER_VALUE, SPAN("x-ms-copy-source"));
    case -EACCES:
    case -EPERM:
        log_warn_limited("a copy source is not allowed: see copy_sources and copy_source_networks",
                         KV_SPAN("source", r->source->url),
                         KV_STR("why", err == -EPERM ? "its address" : "its origin"));
        return fail(r, AZ_COPY_SOURCE_EXTERNAL);
    case -EPROTO:
        return fail(r, AZ_COPY_SOURCE_REFUSED);
    case -EBUSY:
        return fail_errno(r, err);
    default:
        return fail(r, AZ_COPY_SOURCE_UNREACHABLE);
    }
}

static struct next source_opened(struct op *op)
{
    struct request *r = REQUEST(op);
    struct source *s = r->source;
    const struct external_head *head = external_head(s->external);
    enum az_error error;

    if (op->done.err)
        return source_unreachable(r, op->done.err);
    if (head->status != 200 && head->status != 206)
        return source_refused(r, head);
    error = source_verdict(r, s);
    return error ? fail(r, error) : s->after;
}
