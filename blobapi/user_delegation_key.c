/* blobapi/user_delegation_key.c - Get User Delegation Key: a key for SAS in a token's subject's
 * name, derived here and not stored (delegation.c). */
#include "base/clock.h"
#include "base/date.h"
#include "base/text.h"
#include "base/xml.h"
#include "blobapi/handlers.h"

#define KEY_OP(op) container_of(REQUEST(op), struct user_delegation_key, r)
#define DAY_S      86400

static struct next key_receive(struct op *op);
static struct next key_waited(struct op *op);
static struct next key_buffered(struct op *op);
static struct next key_read(struct op *op);
static struct next key_judge(struct op *op);
static struct next key_emit(struct op *op);

static int on_element(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct user_delegation_key *k = arg;
    struct span *field = NULL;

    if (xml_depth(xml) == 0)
        return span_eq(name, SPAN("KeyInfo")) ? 0 : -EBADMSG;
    if (span_eq(name, SPAN("Start")))
        field = &k->start;
    else if (span_eq(name, SPAN("Expiry")))
        field = &k->expiry;
    else if (span_eq(name, SPAN("DelegatedUserTid")))
        field = &k->delegated_tenant;
    if (field && xml_depth(xml) == 1)
        *field = arena_copy(k->r.http->arena, text);
    return 0;
}

struct next user_delegation_key_start(struct op *op)
{
    static const struct xml_ops ops = {.end = on_element};
    struct user_delegation_key *k = KEY_OP(op);

    /* A SAS names its subject by oid only: a key that grants by role would open nothing. */
    if (!identity_knows_oid(k->r.api->conf.identity, k->r.account->id, k->r.granted.oid))
        return fail_detail(&k->r, AZ_AUTHORIZATION_PERMISSION_MISMATCH,
                           SPAN("AuthenticationErrorDetail"),
                           SPAN("User delegation needs a grant to the subject itself (oid:)."));
    k->xml = xml_new(&ops, k);
    return GO(key_receive);
}

static struct next key_receive(struct op *op)
{
    struct request *r = REQUEST(op);

    if (r->http->body_ended)
        return GO(key_judge);
    r->http->ops->read(r->http, NULL, &op->done); /* a silent client holds no buffer */
    return AWAIT(key_waited);
}

static struct next key_waited(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return op->done.err == -EBADMSG ? fail(r, AZ_INVALID_INPUT) : cut(r);
    if (r->http->body_ended)
        return GO(key_judge);
    iobuf_get(IOBUF_4K, &r->buf, &op->done);
    return AWAIT(key_buffered);
}

static struct next key_buffered(struct op *op)
{
    struct request *r = REQUEST(op);

    if (op->done.err)
        return cut(r);
    r->http->ops->read(r->http, r->buf, &op->done);
    return AWAIT(key_read);
}

static struct next key_read(struct op *op)
{
    struct user_delegation_key *k = KEY_OP(op);
    struct request *r = &k->r;
    int err;

    if (op->done.err)
        return op->done.err == -EBADMSG ? fail(r, AZ_INVALID_INPUT) : cut(r);
    k->received += r->buf->used;
    if (k->received > KEY_INFO_BYTES_MAX) /* chunked: no length said so before */
        return fail(r, AZ_REQUEST_BODY_TOO_LARGE);
    err = xml_feed(k->xml, span_from(r->buf->base, r->buf->used));
    r->buf = iobuf_unref(r->buf);
    return err ? fail(r, AZ_INVALID_XML_DOCUMENT) : GO(key_receive);
}

static struct next bad_node(struct request *r, struct span name, struct span value)
{
    request_detail(r, SPAN("XmlNodeName"), name);
    return fail_detail(r, AZ_INVALID_XML_NODE_VALUE, SPAN("XmlNodeValue"), value);
}

static struct next key_judge(struct op *op)
{
    struct user_delegation_key *k = KEY_OP(op);
    struct request *r = &k->r;
    int64_t now = clock_wall_ns(), start = now, expiry, second = (int64_t)NS_PER_SEC;
    unsigned char guid[16];

    if (xml_end(k->xml) < 0)
        return fail(r, AZ_INVALID_XML_DOCUMENT);
    if (!k->expiry.len)
        return fail_detail(r, AZ_MISSING_REQUIRED_XML_NODE, SPAN("XmlNodeName"), SPAN("Expiry"));
    if (k->start.len && iso8601_parse(k->start, &start) < 0)
        return bad_node(r, SPAN("Start"), k->start);
    if (iso8601_parse(k->expiry, &expiry) < 0 || expiry <= now || expiry <= start ||
        expiry / second - now / second > DELEGATION_DAYS_MAX * DAY_S)
        return bad_node(r, SPAN("Expiry"), k->expiry);
    if (k->delegated_tenant.len && guid_parse(k->delegated_tenant, guid) < 0)
        return bad_node(r, SPAN("DelegatedUserTid"), k->delegated_tenant);
    k->name = (struct delegation){.oid = r->granted.oid,
                                  .tenant = r->granted.tenant,
                                  .start_s = start / second,
                                  .expiry_s = expiry / second,
                                  .service = SPAN("b"),
                                  .version = r->version,
                                  .delegated_tenant = k->delegated_tenant};
    return emit_begin(r, IOBUF_4K, GO(key_emit));
}

static void element(struct emit *e, struct span name, struct span text)
{
    EMIT(e, "<");
    emit_span(e, name);
    EMIT(e, ">");
    emit_xml(e, text);
    EMIT(e, "</");
    emit_span(e, name);
    EMIT(e, ">");
}

static void element_time(struct emit *e, struct span name, int64_t seconds)
{
    char text[ISO8601_BYTES + 1];

    iso8601_print(seconds * (int64_t)NS_PER_SEC, text);
    text[19] = 'Z'; /* whole seconds: what SDKs write into skt and ske */
    element(e, name, span_from(text, 20));
}

static struct next key_emit(struct op *op)
{
    struct user_delegation_key *k = KEY_OP(op);
    struct emit *e = k->r.emit;
    unsigned char key[DELEGATION_KEY_BYTES_MAX];

    delegation_derive(k->r.api->conf.identity, k->r.account, &k->name, key);
    EMIT(e, "<?xml version=\"1.0\" encoding=\"utf-8\"?><UserDelegationKey>");
    element(e, SPAN("SignedOid"), k->name.oid);
    element(e, SPAN("SignedTid"), k->name.tenant);
    element_time(e, SPAN("SignedStart"), k->name.start_s);
    element_time(e, SPAN("SignedExpiry"), k->name.expiry_s);
    element(e, SPAN("SignedService"), k->name.service);
    element(e, SPAN("SignedVersion"), k->name.version);
    if (k->name.delegated_tenant.len)
        element(e, SPAN("SignedDelegatedUserTid"), k->name.delegated_tenant);
    EMIT(e, "<Value>");
    emit_base64(e, span_from(key, 32));
    EMIT(e, "</Value></UserDelegationKey>");
    explicit_bzero(key, sizeof(key));
    return answer_emitted(&k->r, 200);
}

void user_delegation_key_done(struct request *r)
{
    struct user_delegation_key *k = container_of(r, struct user_delegation_key, r);

    k->xml = xml_free(k->xml);
}
