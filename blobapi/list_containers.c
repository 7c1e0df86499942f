/* blobapi/list_containers.c - List Containers: all are described in memory, so a page is written on
 * the loop. The cloud's are asked for when they are not all known; silent, the known ones are shown
 * as stale. */
#include <inttypes.h>
#include <stdio.h>

#include "blobapi/handlers.h"
#include "blobapi/listing.h"

#define LIST_CONTAINERS(op) container_of(REQUEST(op), struct list_containers, r)
#define PAGE_FULL           1

static struct next containers_check(struct op *op);
static struct next containers_asked(struct op *op);
static struct next containers_open(struct op *op);

/* The marker is the service's: /account/container. */
static enum az_error containers_from(struct list_containers *l)
{
    struct span name = l->marker, account;

    l->from = SPAN("");
    if (!l->marker.len)
        return AZ_OK;
    if (name.base[0] != '/')
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    account = span_cut(span_skip(name, 1), '/', &name);
    if (!span_eq(account, l->r.account->name) || !name.len || name.len > CONTAINER_BYTES_MAX)
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    l->from = name;
    return AZ_OK;
}

static enum az_error containers_inputs(struct list_containers *l, struct span *culprit)
{
    /* no container is kept after its delete, none is the system's: nothing is left out */
    static const struct span names[] = {SPAN("metadata"), SPAN("deleted"), SPAN("system")};
    uint32_t include = 0;
    enum az_error error;

    l->prefix = target_param(&l->r.target, SPAN("prefix"));
    l->marker = target_param(&l->r.target, SPAN("marker"));
    *culprit = SPAN("maxresults");
    error = list_max_parse(&l->r.target, &l->max);
    if (error)
        return error;
    *culprit = SPAN("include");
    error = list_include_parse(target_param(&l->r.target, SPAN("include")), names, countof(names),
                               &include);
    if (error)
        return error;
    l->metadata = include & 1;
    *culprit = SPAN("marker");
    return containers_from(l);
}

struct next list_containers_start(struct op *op)
{
    struct list_containers *l = LIST_CONTAINERS(op);
    struct span culprit = {NULL, 0};
    enum az_error error = containers_inputs(l, &culprit);

    return error ? fail_query(&l->r, error, culprit) : GO(containers_check);
}

static int stop_at_once(void *arg, const struct container_record *record)
{
    return PAGE_FULL;
}

static struct next containers_check(struct op *op)
{
    struct list_containers *l = LIST_CONTAINERS(op);
    struct request *r = &l->r;
    bool complete = false;
    int err = cache_containers(r->api->conf.cache, r->account->id, l->prefix, l->from, stop_at_once,
                               NULL, &complete);

    if (err < 0)
        return fail_errno(r, err);
    if (complete || !request_has_cloud(r))
        return emit_begin(r, IOBUF_64K, GO(containers_open));
    r->asked_cloud = true;
    upstream_list_containers(r->api->conf.upstream, r->account->id, &op->done);
    return AWAIT(containers_asked);
}

static struct next containers_asked(struct op *op)
{
    struct request *r = REQUEST(op);

    r->stale = op->done.err == -EHOSTUNREACH || op->done.err == -ETIMEDOUT;
    if (op->done.err && !r->stale && op->done.err != -ESTALE)
        return fail_errno(r, op->done.err);
    return emit_begin(r, IOBUF_64K, GO(containers_open));
}

static void container_row_emit(struct list_containers *l, const struct container_record *c)
{
    struct emit *e = l->r.emit;
    char etag[24];
    int len = snprintf(etag, sizeof(etag), ETAG_FMT, c->etag);

    EMIT(e, "<Container>");
    list_emit_name(e, SPAN("Name"), c->name);
    EMIT(e, "<Properties><Last-Modified>");
    emit_date(e, c->modified_ns);
    EMIT(e, "</Last-Modified><Etag>");
    emit_bytes(e, etag, (size_t)len); /* quoted, unlike a blob's */
    EMIT(e, "</Etag>");
    emit_lease(&l->r, c->name, SPAN(""), &c->lease, c->cloud_lease, e);
    if (c->public_access.len) {
        EMIT(e, "<PublicAccess>");
        emit_xml(e, c->public_access);
        EMIT(e, "</PublicAccess>");
    }
    EMIT(e, "<DefaultEncryptionScope>$account-encryption-key</DefaultEncryptionScope>"
            "<DenyEncryptionScopeOverride>false</DenyEncryptionScopeOverride>"
            "<HasImmutabilityPolicy>false</HasImmutabilityPolicy><HasLegalHold>false</HasLegalHold>"
            "<ImmutableStorageWithVersioningEnabled>false</ImmutableStorageWithVersioningEnabled></"
            "Properties>");
    if (l->metadata)
        list_emit_metadata(e, c->metadata, c->metadata_count);
    EMIT(e, "</Container>");
}

static int container_row(void *arg, const struct container_record *c)
{
    struct list_containers *l = arg;
    struct emit *e = l->r.emit;
    struct emit_mark mark = emit_mark(e);

    if (l->rows < l->max)
        container_row_emit(l, c);
    if (l->rows == l->max || !emit_keep_tail(e)) {
        emit_rewind(e, mark);
        l->next = arena_copy(l->r.http->arena, c->name);
        return PAGE_FULL;
    }
    l->rows++;
    return 0;
}

static void containers_head(struct list_containers *l)
{
    struct emit *e = l->r.emit;

    list_emit_head(&l->r, (struct span){NULL, 0});
    if (l->prefix.len)
        list_emit_name(e, SPAN("Prefix"), l->prefix);
    if (l->marker.len)
        list_emit_name(e, SPAN("Marker"), l->marker);
    if (target_param(&l->r.target, SPAN("maxresults")).len) {
        EMIT(e, "<MaxResults>");
        emit_u64(e, l->max);
        EMIT(e, "</MaxResults>");
    }
    EMIT(e, "<Containers>");
}

static struct next containers_open(struct op *op)
{
    struct list_containers *l = LIST_CONTAINERS(op);
    struct request *r = &l->r;
    bool complete = false;
    int err;

    containers_head(l);
    if (!emit_keep_tail(r->emit))
        return fail_errno(r, -EBUSY);
    err = cache_containers(r->api->conf.cache, r->account->id, l->prefix, l->from, container_row, l,
                           &complete);
    if (err < 0)
        return fail_errno(r, err);
    if (l->next.base && !l->rows)
        return fail_errno(r, -EBUSY); /* not even one row: no buffers */
    EMIT(r->emit, "</Containers>");
    if (l->next.base) {
        EMIT(r->emit, "<NextMarker>/");
        emit_xml(r->emit, r->account->name);
        EMIT(r->emit, "/");
        emit_xml(r->emit, l->next);
        EMIT(r->emit, "</NextMarker>");
    } else {
        EMIT(r->emit, "<NextMarker />");
    }
    EMIT(r->emit, "</EnumerationResults>");
    return answer_emitted(r, 200);
}
