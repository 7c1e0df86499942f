/* blobapi/service_properties.c - Get and Set Blob Service Properties. CORS rules, the default
 * version and soft delete count here; logging, metrics and the static website are kept and shown
 * only. With a cloud behind they are its promise (design section 5) and go there (forward.c). */
#include "blobapi/handlers.h"

#define SET_SERVICE(op)        container_of(REQUEST(op), struct set_service, r)
#define SET_SERVICE_ROUNDS_MAX 8 /* others that set them at the same moment */

static struct next properties_emit(struct op *op);
static struct next set_service_read(struct op *op);
static struct next set_service_put(struct op *op);
static struct next set_service_ended(struct op *op);

struct service *request_service(const struct request *r)
{
    if (!r->account || !account_is_local(r->account))
        return NULL;
    return cache_service(r->api->conf.cache, r->account);
}

struct delete_retention request_delete_retention(const struct request *r)
{
    struct service *service = request_service(r);
    struct delete_retention retention = {0};

    if (service)
        retention = service_record(service)->delete_retention;
    service_unref(service);
    return retention;
}

struct next service_properties_start(struct op *op)
{
    return emit_begin(REQUEST(op), IOBUF_4K, GO(properties_emit));
}

static struct next properties_emit(struct op *op)
{
    struct request *r = REQUEST(op);
    struct service *service = request_service(r);
    struct service_record record = service ? *service_record(service) : service_record_default();

    service_document_emit(r->emit, &record, r->version);
    service_unref(service);
    return answer_emitted(r, 200);
}

struct next set_service_start(struct op *op)
{
    return receive_document(REQUEST(op), GO(set_service_read));
}

static struct next set_service_read(struct op *op)
{
    struct set_service *s = SET_SERVICE(op);
    struct xml_fault fault;
    enum az_error error =
        service_document_parse(document_text(&s->r), s->r.http->arena, &s->document, &fault);

    document_drop(&s->r);
    return error ? fail_xml(&s->r, &fault) : GO(set_service_put);
}

/* Parts that are not given stay, so it is made of what is there, and made anew when that changes
 * meanwhile. */
static struct next set_service_put(struct op *op)
{
    struct set_service *s = SET_SERVICE(op);
    struct cache *cache = s->r.api->conf.cache;
    struct service_record record;

    service_unref(s->from);
    s->from = cache_service(cache, s->r.account);
    record = s->from ? *service_record(s->from) : service_record_default();
    service_document_apply(&s->document, &record);
    cache_put_service(cache, s->r.account, s->from, &record, &op->done);
    return AWAIT(set_service_ended);
}

static struct next set_service_ended(struct op *op)
{
    struct set_service *s = SET_SERVICE(op);

    if (op->done.err == -ESTALE)
        return ++s->rounds < SET_SERVICE_ROUNDS_MAX ? GO(set_service_put)
                                                    : fail_errno(&s->r, -EBUSY);
    return op->done.err ? fail_errno(&s->r, op->done.err) : answer_empty(&s->r, 202);
}

void set_service_done(struct request *r)
{
    struct set_service *s = container_of(r, struct set_service, r);

    s->from = service_unref(s->from);
}
