/* blobapi/router.c - from a request's head to its operation: target, row of the table, version,
 * credentials, contract, container; then the row's own first step. Loop thread.
 *
 * Everything that can be refused without the body is refused here, before the first read, so that a
 * client that waits for 100 Continue sends nothing for nothing (D2). Order of the checks: surface
 * section 3. */
#include "base/clock.h"
#include "base/log.h"
#include "blobapi/handlers.h"
#include "blobapi/metrics.h"
#include "blobapi/service.h"

#define VERSION_DEFAULT SPAN("2026-10-06") /* what the tables were read from */
#define SLOW_REQUEST_NS (2 * NS_PER_SEC)   /* worth a line with its trail */

const struct operation operations[OPERATIONS] = {
#define SERVED(start_, state_, done_) .start = start_, .state_bytes = sizeof(state_), .done = done_
#define LEASE(rule_)                  .lease = LEASE_RULE_##rule_
#define REFUSED(error_, names_)                                                                    \
    .state_bytes = sizeof(struct request), .refusal = error_, .refusal_names = SPAN(names_)
#define OPERATION(id_, name_, methods_, levels_, restype_, comp_, when_, account_sas_,             \
                  service_sas_, body_, body_max_, conditions_, promise_, ...)                      \
    [OPERATION_##id_] = {.name = SPAN(name_),                                                      \
                         .methods = methods_,                                                      \
                         .levels = levels_,                                                        \
                         .restype = SPAN(restype_),                                                \
                         .comp = SPAN(comp_),                                                      \
                         .when = when_,                                                            \
                         .account_sas = SPAN(account_sas_),                                        \
                         .service_sas = SPAN(service_sas_),                                        \
                         .body = body_,                                                            \
                         .body_max = body_max_,                                                    \
                         .conditions = conditions_,                                                \
                         .promise = promise_,                                                      \
                         __VA_ARGS__},
#include "blobapi/operations.def"
#undef OPERATION
#undef REFUSED
#undef LEASE
#undef SERVED
};
/* Stands for the operation of a request that names none. */
static const struct operation no_operation = {.name = SPAN("Unknown"),
                                              .state_bytes = sizeof(struct request)};

/* ---- dispatch ---- */

static unsigned method_of(struct span text)
{
    static const struct {
        struct span text;
        enum method method;
    } methods[] = {{SPAN("GET"), METHOD_GET},   {SPAN("PUT"), METHOD_PUT},
                   {SPAN("HEAD"), METHOD_HEAD}, {SPAN("DELETE"), METHOD_DELETE},
                   {SPAN("POST"), METHOD_POST}, {SPAN("OPTIONS"), METHOD_OPTIONS}};

    for (unsigned i = 0; i < countof(methods); i++)
        if (span_eq(text, methods[i].text))
            return methods[i].method;
    return 0;
}

static unsigned level_of(const struct target *target)
{
    return target->blob.len ? LEVEL_BLOB : target->container.len ? LEVEL_CONTAINER : LEVEL_SERVICE;
}

static bool when_fits(const struct exchange *http, enum when when)
{
    struct span type = exchange_header(http, SPAN("x-ms-blob-type"));
    bool source = exchange_header(http, SPAN("x-ms-copy-source")).len > 0;

    switch (when) {
    case WHEN_ALWAYS:
        return true;
    case WHEN_PUT_FROM_URL:
        return source && type.len;
    case WHEN_COPY_SYNC:
        return source &&
               span_eq_nocase(exchange_header(http, SPAN("x-ms-requires-sync")), SPAN("true"));
    case WHEN_COPY_SOURCE:
        return source;
    case WHEN_BLOCK_BLOB:
        return span_eq_nocase(type, SPAN("BlockBlob"));
    case WHEN_APPEND_BLOB:
        return span_eq_nocase(type, SPAN("AppendBlob"));
    case WHEN_PAGE_BLOB:
        return span_eq_nocase(type, SPAN("PageBlob"));
    }
    return false;
}

struct asked_for { /* what a request line asks for */
    unsigned method, level;
    struct span restype, comp;
};

static bool resource_fits(const struct operation *o, const struct asked_for *a)
{
    return (o->levels & a->level) && span_eq_nocase(o->restype, a->restype) &&
           span_eq_nocase(o->comp, a->comp);
}

/* No row fits: what is wrong, from the outside in. */
static enum az_error misfit(const struct exchange *http, const struct asked_for *a,
                            struct span *culprit)
{
    bool resource = false, method = false;

    *culprit = (struct span){NULL, 0};
    for (unsigned i = 0; i < OPERATIONS; i++)
        if (resource_fits(&operations[i], a)) {
            resource = true;
            method |= (operations[i].methods & a->method) != 0;
        }
    if (!a->method || (resource && !method))
        return AZ_UNSUPPORTED_HTTP_VERB;
    if (resource) { /* only Put Blob depends on more than the request line */
        *culprit = SPAN("x-ms-blob-type");
        return exchange_header(http, *culprit).len ? AZ_INVALID_HEADER_VALUE
                                                   : AZ_MISSING_REQUIRED_HEADER;
    }
    *culprit = a->comp.len ? SPAN("comp") : SPAN("restype");
    return AZ_INVALID_QUERY_PARAMETER_VALUE;
}

const struct operation *operation_find(const struct exchange *http, const struct target *target,
                                       enum az_error *error, struct span *culprit)
{
    struct asked_for a = {method_of(http->method), level_of(target),
                          target_param(target, SPAN("restype")),
                          target_param(target, SPAN("comp"))};

    if (a.method == METHOD_OPTIONS) /* whatever the URL asks for besides */
        return &operations[OPERATION_PREFLIGHT];
    for (unsigned i = 0; i < OPERATIONS; i++)
        if ((operations[i].methods & a.method) && resource_fits(&operations[i], &a) &&
            when_fits(http, operations[i].when))
            return &operations[i];
    *error = misfit(http, &a, culprit);
    return NULL;
}

/* ---- the steps all requests share ---- */

static struct next route_misfit(struct op *op);
static struct next route_version(struct op *op);
static struct next route_syntax(struct op *op);
static struct next route_body(struct op *op);
static struct next route_auth(struct op *op);
static struct next route_promise(struct op *op);
static struct next route_container(struct op *op);
static struct next route_found(struct op *op);

/* Names a header or a query parameter by how it is written. */
static struct next fail_named(struct request *r, enum az_error error, struct span culprit)
{
    if (!culprit.len)
        return fail(r, error);
    return error == AZ_INVALID_QUERY_PARAMETER_VALUE || error == AZ_UNSUPPORTED_QUERY_PARAMETER
               ? fail_query(r, error, culprit)
               : fail_header(r, error, culprit);
}

static struct next route_misfit(struct op *op)
{
    struct request *r = REQUEST(op);

    return fail_named(r, r->error, r->culprit);
}

/* The account's, where it has set one. A SAS's own comes before it (route_auth). */
static void version_default(struct request *r)
{
    struct service *service = request_service(r);

    if (service && service_record(service)->default_version.len)
        r->version = arena_copy(r->http->arena, service_record(service)->default_version);
    service_unref(service);
}

static struct next route_version(struct op *op)
{
    struct request *r = REQUEST(op);
    struct span asked = r->http->version;

    if (!asked.len)
        asked = exchange_header(r->http, SPAN("x-ms-version"));
    if (!asked.len)
        asked = target_param(&r->target, SPAN("api-version"));
    if (asked.len && !version_fits(asked))
        return fail_header(r, AZ_INVALID_HEADER_VALUE, SPAN("x-ms-version"));
    if (asked.len)
        r->version = asked;
    else
        version_default(r);
    if (r->operation == &operations[OPERATION_PREFLIGHT]) /* browsers send no credentials with it */
        return r->operation->start(op);
    return r->operation == &no_operation ? GO(route_misfit) : GO(route_syntax);
}

static struct next route_syntax(struct op *op)
{
    struct request *r = REQUEST(op);
    struct span culprit = {NULL, 0};
    enum az_error error;

    if (r->target.container.len)
        r->contract = contract_for(r->account, r->target.container, r->target.blob);
    r->content_bytes = r->http->body_bytes > 0 ? (uint64_t)r->http->body_bytes : 0;
    if (request_forwards(r))
        return GO(route_body); /* the cloud judges the rest, x-ms-lease-id too */
    if (!r->operation->start)
        return GO(route_auth); /* whatever else it says, it will be refused */
    error = unserved_inputs(r, &culprit);
    if (!error)
        error = structured_inputs(r, &culprit);
    if (!error)
        error = lease_id_input(r, &culprit);
    if (!error)
        error = conditions_parse(r->http->headers, r->http->header_count, r->operation->conditions,
                                 r->http->arena, &r->conditions, &culprit);
    return error ? fail_named(r, error, culprit) : GO(route_body);
}

static struct next route_body(struct op *op)
{
    struct request *r = REQUEST(op);
    const struct operation *o = r->operation;

    if (o->body == BODY_STREAM && r->http->body_bytes <= 0 &&
        !exchange_header(r->http, SPAN("content-length"))
             .len) /* also when there is no body at all */
        return fail(r, AZ_MISSING_CONTENT_LENGTH_HEADER);
    if (o->body != BODY_NONE && r->content_bytes > o->body_max)
        return fail_detail(r, AZ_REQUEST_BODY_TOO_LARGE, SPAN("MaxLimit"),
                           arena_printf(r->http->arena, "%llu", (unsigned long long)o->body_max));
    return GO(route_auth);
}

static enum auth_resource auth_resource_of(const struct target *target)
{
    return target->blob.len ? AUTH_OBJECT : target->container.len ? AUTH_CONTAINER : AUTH_SERVICE;
}

/* What writes or judges tags needs the right to them besides. */
static bool tag_rights_missing(const struct request *r)
{
    return !(r->granted.rights & AUTH_TAGS) &&
           (exchange_header(r->http, SPAN("x-ms-tags")).len || tags_are_copied(r) ||
            exchange_header(r->http, SPAN("x-ms-if-tags")).len);
}

static struct next route_auth(struct op *op)
{
    struct request *r = REQUEST(op);
    const struct operation *o = r->operation;
    struct span detail = {NULL, 0};
    struct auth_request check = {.method = r->http->method,
                                 .target = &r->target,
                                 .headers = r->http->headers,
                                 .header_count = r->http->header_count,
                                 .peer = r->http->peer,
                                 .tls = r->http->tls,
                                 .version = r->http->version,
                                 .now_ns = clock_wall_ns(),
                                 .arena = r->http->arena,
                                 .identity = r->api->conf.identity,
                                 .need = {auth_resource_of(&r->target), auth_rights(o->account_sas),
                                          auth_rights(o->service_sas),
                                          o == &operations[OPERATION_GET_USER_DELEGATION_KEY]
                                              ? AUTH_DELEGATE
                                              : auth_rights(o->account_sas)}};
    struct container *container = access_policies(r->api, &r->target, &check);
    enum az_error error = auth_check(&check, &r->granted, &detail);

    container_unref(container);
    if (error == AZ_NO_AUTHENTICATION_INFORMATION)
        error = access_anonymous_request(r);
    if (error && detail.len)
        return fail_detail(r, error, SPAN("AuthenticationErrorDetail"), detail);
    if (!error && (o->start || request_forwards(r)) && tag_rights_missing(r))
        error = AZ_AUTHORIZATION_PERMISSION_MISMATCH;
    if (error)
        return fail(r, error);
    if (!r->http->version.len && !exchange_header(r->http, SPAN("x-ms-version")).len &&
        r->granted.version.len)
        r->version = r->granted.version;
    return o->start || request_forwards(r) ? GO(route_promise)
                                           : fail_named(r, o->refusal, o->refusal_names);
}

/* What the cloud reads must be what was judged here: names that are written in one way only, each
 * once, and no other container than the target's. */
static struct next route_forward(struct request *r)
{
    const struct target *t = &r->target;
    struct span deleted = exchange_header(r->http, SPAN("x-ms-deleted-container-name"));

    for (unsigned i = 0; i < t->param_count; i++)
        if (!param_is_plain(t->params[i].name) ||
            target_find(t, t->params[i].name) != &t->params[i])
            return fail(r, AZ_INVALID_QUERY_PARAMETER_VALUE);
    if (r->operation == &operations[OPERATION_UNDELETE_CONTAINER] && deleted.len &&
        !span_eq(deleted, t->container))
        return fail_header(r, AZ_INVALID_HEADER_VALUE, SPAN("x-ms-deleted-container-name"));
    return GO(forward_start);
}

static struct next route_start(struct request *r)
{
    if (!request_forwards(r))
        return r->operation->start(&r->op);
    if (r->operation->promise == PROMISE_LEASE && !lease_permitted(r))
        return fail(r, AZ_AUTHORIZATION_PERMISSION_MISMATCH); /* the cloud knows our rights only */
    return route_forward(r);
}

/* Forwarded, of a container that is not there yet. */
static bool makes_container(const struct request *r)
{
    return r->operation == &operations[OPERATION_UNDELETE_CONTAINER];
}

/* 403 AuthorizationPermissionMismatch for a read-only scope: blobfuse2 makes EACCES of it, azcopy
 * and the SDKs neither retry it nor take it for a wrong key. */
static struct next route_promise(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->target.secondary && r->operation->promise == PROMISE_CLOUD)
        return fail(r, AZ_INSUFFICIENT_ACCOUNT_PERMISSIONS);
    /* Get Account Information speaks of the account whatever path it is asked on. */
    if (!r->target.container.len || r->operation == &operations[OPERATION_ACCOUNT_INFO])
        return route_start(r);
    if (r->operation->promise == PROMISE_NONE || r->operation->promise == PROMISE_CLOUD_READ)
        return GO(route_container);
    if (r->target.secondary)
        return fail(r, AZ_INSUFFICIENT_ACCOUNT_PERMISSIONS);
    if (r->contract->write == WRITE_DENY)
        return fail_detail(
            r, AZ_AUTHORIZATION_PERMISSION_MISMATCH, SPAN("AuthenticationErrorDetail"),
            SPAN("This scope is read-only in this cache (its contract says write = deny)."));
    return r->target.blob.len || (request_forwards(r) && !makes_container(r))
               ? GO(route_container)
               : route_start(r); /* changes find their own */
}

static struct next route_container(struct op *op)
{
    return find_container(REQUEST(op), GO(route_found));
}

static struct next route_found(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->found == -ENOENT)
        return fail(r, AZ_CONTAINER_NOT_FOUND);
    if (r->found)
        return fail_errno(r, r->found);
    r->name = request_name(r);
    return route_start(r);
}

/* ---- begin and end ---- */

static void request_slow(const struct request *r, uint64_t took_ns)
{
    char trail[512];
    size_t len = trail_print(&r->op.trail, trail, sizeof(trail));

    log_warn_limited("slow request", KV_SPAN("operation", r->operation->name),
                     KV_SPAN("id", span_from(r->id, REQUEST_ID_BYTES)), KV_INT("status", r->status),
                     KV_UINT("ms", took_ns / NS_PER_MS), KV_SPAN("trail", span_from(trail, len)));
}

static void request_free(struct op *op)
{
    struct request *r = REQUEST(op);
    struct exchange *http = r->http;
    uint64_t took_ns = clock_mono_ns() - r->started_ns;

    if (r->operation->done)
        r->operation->done(r);
    receive_done(r);
    refill_done(r);
    forward_done(r);
    change_drop(r);
    if (r->emit)
        emit_done(r->emit);
    r->buf = iobuf_unref(r->buf);
    r->blob = r->blob ? blob_unref(r->blob) : NULL;
    r->newer = r->newer ? blob_unref(r->newer) : NULL;
    r->container = r->container ? container_unref(r->container) : NULL;
    STAT_OBSERVE(blobapi_request_seconds, took_ns);
    if (took_ns > SLOW_REQUEST_NS)
        request_slow(r, took_ns);
    http->op = NULL;
    http->ops->end(http, r->whole && !op->cancelled);
}

static struct request *request_new(struct exchange *http, const struct operation *o)
{
    struct request *r = arena_zalloc(http->arena, o->state_bytes);

    op_init(&r->op, http->loop, request_free);
    r->http = http;
    r->api = http->api;
    r->operation = o;
    r->started_ns = clock_mono_ns();
    r->version = VERSION_DEFAULT;
    r->head_only = span_eq(http->method, SPAN("HEAD"));
    request_id_make(r->id);
    http->op = &r->op;
    STAT_INC(blobapi_requests);
    return r;
}

void blobapi_start(struct exchange *http)
{
    struct target target = {0};
    struct span culprit = {NULL, 0};
    const struct operation *o = NULL;
    enum az_error error =
        target_parse(http->api->conf.accounts, http->host, http->target, http->arena, &target);
    struct request *r;

    if (!error)
        o = operation_find(http, &target, &error, &culprit);
    r = request_new(http, o ? o : &no_operation);
    r->target = target;
    r->account = target.account;
    r->error = error;
    r->culprit = culprit;
    op_start(&r->op, GO(route_version));
}

static void sleep_ended(struct timer *timer)
{
    completion_post(&container_of(timer, struct request, timer)->op.done, 0);
}

static void sleep_cancel(struct completion *done)
{
    struct request *r = done->callee;

    timer_stop(r->http->loop, &r->timer);
    completion_post(done, -ECANCELED);
}

void request_sleep(struct request *r, uint64_t ns)
{
    r->timer.fn = sleep_ended;
    r->op.done.cancel = sleep_cancel;
    r->op.done.callee = r;
    timer_start(r->http->loop, &r->timer, ns);
}

int blobapi_open(const struct blobapi_conf *conf, struct blobapi **ret)
{
    struct blobapi *api = xcalloc(1, sizeof(*api));

    api->conf = *conf;
    api->silent_until_ns = xcalloc(conf->accounts->count, sizeof(*api->silent_until_ns));
    *ret = api;
    return 0;
}

struct blobapi *blobapi_close(struct blobapi *api)
{
    if (api)
        free(api->silent_until_ns);
    free(api);
    return NULL;
}
