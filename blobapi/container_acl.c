/* blobapi/container_acl.c - Get and Set Container ACL: public access and stored access policies,
 * for the account's key only. Of what a cloud has they are its promise and go there (forward.c). */
#include "blobapi/handlers.h"

#define CHANGE(op) container_of(REQUEST(op), struct container_change, r)

static struct next acl_emitting(struct op *op);
static struct next acl_read(struct op *op);
static struct next acl_judged(struct op *op);
static struct next acl_done(struct op *op);

/* ---- get ---- */

struct next get_container_acl_start(struct op *op)
{
    struct request *r = REQUEST(op);
    enum az_error error = lease_verdict(r, &container_record(r->container)->lease);

    if (error)
        return fail(r, error);
    return emit_begin(r, IOBUF_64K, GO(acl_emitting));
}

static struct next acl_emitting(struct op *op)
{
    struct request *r = REQUEST(op);
    const struct container_record *c = container_record(r->container);

    acl_emit(r->emit, c->policies, c->policy_count);
    answer_etag(r, c->etag);
    answer_date(r, SPAN("Last-Modified"), c->modified_ns);
    if (c->public_access.len)
        answer_add(r, SPAN("x-ms-blob-public-access"), c->public_access);
    return answer_emitted(r, 200);
}

/* ---- set: both parts are replaced, what is not given is none ---- */

struct next set_container_acl_start(struct op *op)
{
    struct container_change *c = CHANGE(op);
    struct span culprit;
    enum az_error error = access_input(&c->r, &c->record.public_access, &culprit);

    if (error)
        return culprit.len ? fail_header(&c->r, error, culprit) : fail(&c->r, error);
    return receive_document(&c->r, GO(acl_read));
}

static struct next acl_read(struct op *op)
{
    struct container_change *c = CHANGE(op);
    struct acl_document *document = arena_zalloc(c->r.http->arena, sizeof(*document));
    struct xml_fault fault;
    enum az_error error = acl_parse(document_text(&c->r), c->r.http->arena, document, &fault);

    document_drop(&c->r);
    if (error)
        return fail_xml(&c->r, &fault);
    c->record.policies = document->policies;
    c->record.policy_count = document->count;
    return container_change(&c->r, GO(acl_judged));
}

static struct next acl_judged(struct op *op)
{
    struct container_change *c = CHANGE(op);
    struct container_record given = c->record;
    enum az_error error = container_verdict(&c->r);

    if (error)
        return change_refuse(&c->r, error);
    c->record = *container_record(c->r.ordered);
    c->record.public_access = given.public_access;
    c->record.policies = given.policies;
    c->record.policy_count = given.policy_count;
    tx_put_container(c->r.tx, &c->record);
    return container_commit(c, UPLOAD_CONTAINER_ACL, GO(acl_done));
}

static struct next acl_done(struct op *op)
{
    struct container_change *c = CHANGE(op);

    answer_etag(&c->r, c->record.etag);
    answer_date(&c->r, SPAN("Last-Modified"), c->record.modified_ns);
    return answer_empty(&c->r, 200);
}
