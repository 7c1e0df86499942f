/* blobapi/source.c - see source.h. While the source is looked for, the request wears its name: what
 * find.c reads and sets is swapped for the source's, and swapped back before anything else happens.
 */
#include "blobapi/handlers.h"

#include "base/clock.h"
#include "base/date.h"

static struct next source_container(struct op *op);
static struct next source_blob(struct op *op);
static struct next source_found(struct op *op);

/* ---- inputs ---- */

/* Each would change what is read or what comes of it. */
static enum az_error source_unserved(struct request *r, struct span *culprit)
{
    static const struct span headers[] = {
        SPAN("x-ms-source-encryption-key"),
        SPAN("x-ms-source-encryption-key-sha256"),
        SPAN("x-ms-source-encryption-algorithm"),
        SPAN("x-ms-seal-blob"),
    };

    for (unsigned i = 0; i < countof(headers); i++)
        if (exchange_header(r->http, headers[i]).len) {
            *culprit = headers[i];
            return AZ_UNSUPPORTED_HEADER;
        }
    return AZ_OK;
}

/* x-ms-source-if-match is judged as If-Match of a write is, on the source. */
static enum az_error source_conditions(struct request *r, struct conditions *ret,
                                       struct span *culprit)
{
    const struct span prefix = SPAN("x-ms-source-");
    struct header *headers =
        arena_alloc(r->http->arena, (r->http->header_count + 1) * sizeof(*headers));
    unsigned n = 0;

    for (unsigned i = 0; i < r->http->header_count; i++) {
        if (!span_starts(r->http->headers[i].name, SPAN("x-ms-source-if-")))
            continue;
        headers[n] = r->http->headers[i];
        headers[n].name = span_eq(headers[n].name, SPAN("x-ms-source-if-tags"))
                              ? SPAN("x-ms-if-tags")
                              : span_skip(headers[n].name, prefix.len);
        n++;
    }
    return conditions_parse(headers, n, CONDITIONS_WRITE, r->http->arena, ret, culprit);
}

/* "host:80" of http is "host". */
static struct span without_default_port(struct span host, bool tls)
{
    struct span port = tls ? SPAN(":443") : SPAN(":80");

    if (host.len > port.len && span_eq(span_skip(host, host.len - port.len), port))
        host.len -= port.len;
    return host;
}

static bool is_host_asked(const struct source_asked *asked, struct span host, bool tls)
{
    return span_eq_nocase(without_default_port(host, tls),
                          without_default_port(asked->host, asked->tls));
}

static bool scheme_cut(struct span *url, bool *tls)
{
    const struct span schemes[] = {SPAN("http://"), SPAN("https://")};

    for (unsigned i = 0; i < countof(schemes); i++)
        if (url->len > schemes[i].len &&
            span_eq_nocase(span_from(url->base, schemes[i].len), schemes[i])) {
            *url = span_skip(*url, schemes[i].len);
            *tls = i == 1;
            return true;
        }
    return false;
}

/* Its id stands in the URL that is kept; those of a cloud are not known here. */
static enum az_error source_snapshot(struct source *s, struct arena *arena)
{
    struct span snapshot = target_param(&s->target, SPAN("snapshot"));
    uint64_t time;

    if (!snapshot.len)
        return AZ_OK;
    if (!s->target.account || !account_is_local(s->target.account))
        return AZ_UNSUPPORTED_HEADER;
    if (iso8601_ticks_parse(snapshot, &time) < 0)
        return AZ_INVALID_HEADER_VALUE;
    s->url = arena_printf(arena, "%.*s?snapshot=%.*s", SPAN_FMT(s->url), SPAN_FMT(snapshot));
    return AZ_OK;
}

/* Told apart before anything is looked up: a host that is not this box's is never read from. A name
 * that is an account's or an alias counts as ours on any port, as it does in a Host. */
static enum az_error source_target(const struct source_asked *asked, struct span host,
                                   struct span path, struct arena *arena, struct source *s)
{
    enum az_error error = target_parse(asked->accounts, host, path, arena, &s->target);

    if (!(s->target.account && !s->target.path_style) && !is_host_asked(asked, host, s->tls))
        return AZ_COPY_SOURCE_EXTERNAL;
    if (error == AZ_RESOURCE_NOT_FOUND) /* no such account here */
        return AZ_COPY_SOURCE_EXTERNAL;
    if (error || !s->target.account || !s->target.container.len || !s->target.blob.len)
        return AZ_INVALID_HEADER_VALUE;
    if (target_param(&s->target, SPAN("versionid")).len)
        return AZ_UNSUPPORTED_HEADER; /* none are kept here yet */
    return source_snapshot(s, arena);
}

enum az_error source_url_parse(const struct source_asked *asked, struct span url,
                               struct arena *arena, struct source *ret)
{
    struct span rest = url, query;
    const char *slash;

    if (!url.len || url.len > SOURCE_URL_BYTES_MAX || memchr(url.base, '#', url.len) ||
        !scheme_cut(&rest, &ret->tls) || !(slash = memchr(rest.base, '/', rest.len)) ||
        slash == rest.base)
        return AZ_INVALID_HEADER_VALUE;
    ret->url = span_cut(url, '?', &query);
    if (!emit_xml_fits(ret->url)) /* it will stand in lists */
        return AZ_INVALID_HEADER_VALUE;
    return source_target(asked, span_from(rest.base, (size_t)(slash - rest.base)),
                         span_skip(rest, (size_t)(slash - rest.base)), arena, ret);
}

enum az_error source_inputs(struct request *r, struct source *s, struct span *culprit)
{
    struct source_asked asked = {r->api->conf.accounts, r->http->host, r->http->tls};
    enum az_error error = source_unserved(r, culprit);

    if (!error)
        error = source_conditions(r, &s->conditions, culprit);
    if (error)
        return error;
    *culprit = SPAN("x-ms-copy-source");
    error = source_url_parse(&asked, exchange_header(r->http, *culprit), r->http->arena, s);
    if (error == AZ_COPY_SOURCE_EXTERNAL && r->api->conf.copies_from_elsewhere) {
        s->elsewhere = exchange_header(r->http, *culprit);
        error = AZ_OK;
    }
    if (!error)
        *culprit = (struct span){NULL, 0};
    return error;
}

struct next fail_source_input(struct request *r, enum az_error error, struct span culprit)
{
    if (!culprit.len)
        return fail(r, error);
    if (!span_eq(culprit, SPAN("x-ms-copy-source")))
        return fail_header(r, error, culprit);
    request_detail(r, SPAN("HeaderName"), culprit);
    return fail(r, error);
}

/* ---- refusals that speak of the source ---- */

static struct next fail_source(struct request *r, enum az_error error, enum az_error source)
{
    r->source_status = az_status(source);
    r->source_code = az_code(source);
    request_detail(r, SPAN("CopySourceStatusCode"),
                   arena_printf(r->http->arena, "%d", r->source_status));
    request_detail(r, SPAN("CopySourceErrorCode"), r->source_code);
    request_detail(r, SPAN("CopySourceErrorMessage"), az_message(source));
    return fail(r, error);
}

static struct next fail_unauthorized(struct request *r, enum az_error source)
{
    return fail_source(
        r, az_status(source) == 401 ? AZ_COPY_SOURCE_UNAUTHENTICATED : AZ_COPY_SOURCE_FORBIDDEN,
        source);
}

/* ---- rights ---- */

static bool source_needs_tags(const struct request *r)
{
    return tags_are_copied(r) || exchange_header(r->http, SPAN("x-ms-source-if-tags")).len;
}

/* As a Get of the URL would be judged, with that token, if any, in Authorization. Its bytes came
 * over the request's connection, a SAS would travel as its URL says. */
static enum az_error source_authorized(struct request *r, struct source *s, struct span token)
{
    const struct header headers[] = {{SPAN("x-ms-version"), r->version},
                                     {SPAN("authorization"), token}};
    struct span detail = {NULL, 0}, rest;
    struct granted granted;
    struct container *container;
    enum az_error error;
    struct auth_request check = {.method = SPAN("GET"),
                                 .target = &s->target,
                                 .headers = headers,
                                 .header_count = token.len ? 2 : 1,
                                 .peer = r->http->peer,
                                 .tls = s->tls && (!token.len || r->http->tls),
                                 .now_ns = clock_wall_ns(),
                                 .arena = r->http->arena,
                                 .identity = r->api->conf.identity,
                                 .need = {AUTH_OBJECT, AUTH_READ, AUTH_READ, AUTH_READ}};

    if (token.len && !span_eq_nocase(span_cut(token, ' ', &rest), SPAN("Bearer")))
        return AZ_INVALID_AUTHENTICATION_INFO; /* a key's signature is not for a source */
    container = access_policies(r->api, &s->target, &check);
    error = auth_check(&check, &granted, &detail);
    container_unref(container);
    if (error == AZ_NO_AUTHENTICATION_INFORMATION)
        error = access_anonymous(r->api, &s->target, ANONYMOUS_BLOB, &granted) ? error : AZ_OK;
    return !error && source_needs_tags(r) && !(granted.rights & AUTH_TAGS)
               ? AZ_AUTHORIZATION_PERMISSION_MISMATCH
               : error;
}

/* Within its account Copy Blob needs no word about the source: a key may read it anyway, a token's
 * subject is judged on it. */
static enum az_error source_rights(struct request *r, struct source *s, bool implied)
{
    struct span token = exchange_header(r->http, SPAN("x-ms-copy-source-authorization"));

    implied = implied && s->target.account == r->account && !token.len &&
              !target_find(&s->target, SPAN("sig"));
    if (implied && r->granted.kind == AUTH_BY_KEY)
        return AZ_OK;
    if (implied && r->granted.kind == AUTH_BY_TOKEN)
        token = exchange_header(r->http, SPAN("authorization"));
    return source_authorized(r, s, token);
}

/* ---- the version ---- */

#define SWAP(a, b)                                                                                 \
    do {                                                                                           \
        __typeof__(a) swapped = (a);                                                               \
        (a) = (b);                                                                                 \
        (b) = swapped;                                                                             \
    } while (0)

static void sides_swap(struct request *r, struct source_side *side)
{
    SWAP(r->target, side->target);
    SWAP(r->account, side->account);
    SWAP(r->contract, side->contract);
    SWAP(r->container, side->container);
    SWAP(r->name, side->name);
    SWAP(r->blob, side->blob);
    SWAP(r->asked_cloud, side->asked_cloud);
    SWAP(r->stale, side->stale);
    SWAP(r->learned, side->learned);
    SWAP(r->refetch, side->refetch);
}

static void side_drop(struct source_side *side)
{
    side->container = side->container ? container_unref(side->container) : NULL;
    side->blob = side->blob ? blob_unref(side->blob) : NULL;
}

static struct next source_look(struct request *r, struct source *s, bool refetch)
{
    s->blob = s->blob ? blob_unref(s->blob) : NULL;
    s->other = (struct source_side){
        .target = s->target,
        .account = s->target.account,
        .contract = contract_for(s->target.account, s->target.container, s->target.blob),
        .refetch = refetch};
    sides_swap(r, &s->other);
    return find_container(r, GO(source_container));
}

struct next source_find(struct request *r, struct source *s, bool implied, struct next after)
{
    enum az_error error;

    r->source = s;
    s->after = after;
    if (s->elsewhere.len)
        return source_external_find(r, s);
    error = source_rights(r, s, implied);
    if (error)
        return fail_unauthorized(r, error);
    return source_look(r, s, false);
}

struct next source_find_again(struct request *r, struct source *s, struct next after)
{
    bool changes_on = s->changes++ == SOURCE_CHANGES_MAX;

    s->after = after;
    if (s->elsewhere.len)
        return changes_on ? fail(r, AZ_COPY_SOURCE_UNREACHABLE) : source_external_find(r, s);
    if (changes_on)
        return fail_errno(r, -ESTALE);
    return source_look(r, s, true); /* what is known here looks fresh and is not */
}

/* The request is itself again. */
static struct next source_missing(struct request *r, enum az_error error)
{
    int found = r->found;

    sides_swap(r, &r->source->other);
    side_drop(&r->source->other);
    if (found == -ENOENT)
        return fail_source(r, AZ_CANNOT_VERIFY_COPY_SOURCE, error);
    return found == -ECANCELED ? cut(r) : fail_errno(r, found);
}

static struct next source_container(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->found)
        return source_missing(r, AZ_CONTAINER_NOT_FOUND);
    r->name = request_name(r);
    return GO(source_blob);
}

static struct next source_blob(struct op *op)
{
    return find_blob(REQUEST(op), (struct range){0, 0}, GO(source_found));
}

/* Copy Blob makes a blob of the source's type, which has to be one that is served where it goes;
 * what reads bytes reads any's. */
static bool type_fits(const struct request *r, enum blob_type type)
{
    if (type == BLOB_BLOCK || r->operation == &operations[OPERATION_PUT_BLOB_FROM_URL] ||
        r->operation == &operations[OPERATION_PUT_BLOCK_FROM_URL] ||
        r->operation == &operations[OPERATION_APPEND_BLOCK_FROM_URL])
        return true;
    return type == BLOB_APPEND && r->operation == &operations[OPERATION_COPY_BLOB] &&
           append_is_served(r);
}

const struct blob_record *source_record(const struct source *s)
{
    return s->blob ? blob_record(s->blob) : &external_head(s->external)->record;
}

/* A source needs no lease; but who names one in the request must hold it. */
static enum az_error source_lease_verdict(const struct request *r, const struct source *s)
{
    const struct account *account = s->target.account;
    struct lease_use use = {.rule = LEASE_RULE_READ, .has_id = true};
    struct lease_now now = {.state = LEASE_AVAILABLE};
    struct span text = exchange_header(r->http, SPAN("x-ms-source-lease-id"));

    if (!text.len)
        return AZ_OK;
    if (lease_id_parse(text, use.id) < 0)
        return AZ_INVALID_HEADER_VALUE;
    if (!s->blob) /* elsewhere: not a lease of ours */
        return lease_check(NULL, NULL, &use);
    now = lease_now_of(r, account, contract_for(account, s->target.container, s->target.blob),
                       &blob_record(s->blob)->lease);
    return lease_check(&blob_record(s->blob)->lease, &now, &use);
}

enum az_error source_verdict(const struct request *r, const struct source *s)
{
    const struct blob_record *b = source_record(s);
    struct condition_subject subject = {b->etag, b->cloud_etag, b->modified_ns, b->tags};
    enum az_error error;

    if (s->conditions.tags && (b->tags_unknown || !s->blob))
        return AZ_TAGS_NOT_KNOWN;
    if (conditions_judge(&s->conditions, &subject) != AZ_OK)
        return AZ_SOURCE_CONDITION_NOT_MET;
    error = source_lease_verdict(r, s);
    if (error)
        return error;
    return type_fits(r, b->type) ? AZ_OK : AZ_INVALID_SOURCE_BLOB_TYPE;
}

static struct next source_found(struct op *op)
{
    struct request *r = REQUEST(op);
    struct source *s = r->source;
    enum az_error error;

    if (r->found)
        return source_missing(r, AZ_BLOB_NOT_FOUND);
    s->blob = TAKE(r->blob);
    sides_swap(r, &s->other);
    side_drop(&s->other);
    error = source_verdict(r, s);
    return error ? fail(r, error) : s->after;
}

void source_done(struct request *r, struct source *s)
{
    side_drop(&s->other); /* the request's own references go with it, whichever it wears */
    s->blob = s->blob ? blob_unref(s->blob) : NULL;
    s->external = external_close(s->external);
}
