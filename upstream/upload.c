/* upstream/upload.c - one entry of the write-back queue: one request (or many blocks and a commit),
 * sorted by the verdict table, and the outcome told to the cache. Nothing is lost here: whatever
 * happens, the entry is confirmed, goes back to the queue, or is held where operators see it.
 *
 * Steps: begin -> [load ->] answered -> end -> told; blocks.c and prove.c put theirs in between. */
#include "upstream/upload.h"

#include "base/clock.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "base/text.h"
#include "upstream/metrics.h"

#define RETRY_PAUSE_MIN_NS  (100 * NS_PER_MS)
#define RETRY_PAUSE_MAX_NS  (30 * NS_PER_SEC)
#define WAIT_PAUSE_MIN_NS   NS_PER_SEC
#define WAIT_PAUSE_MAX_NS   (60 * NS_PER_SEC)
#define SECRET_PAUSE_MIN_NS NS_PER_SEC
#define SECRET_PAUSE_MAX_NS (30 * NS_PER_SEC)

static struct next upload_begin(struct op *op);
static struct next content_send(struct op *op);
static struct next upload_answered(struct op *op);
static struct next upload_done(struct op *op);
static struct next upload_end(struct op *op);
static struct next upload_told(struct op *op);

/* ---- building requests ---- */

static void add_condition(struct sending *s)
{
    const struct upload *u = s->upload;

    if (s->unconditional)
        return;
    if (u->base == BASE_ABSENT)
        wan_header(&s->wan, SPAN("If-None-Match"), SPAN("*"));
    else if (u->base == BASE_ETAG)
        wan_header(&s->wan, SPAN("If-Match"), u->base_etag);
}

void sending_request(struct sending *s, enum upload_operation operation, enum wan_method method,
                     bool conditional)
{
    s->operation = operation;
    wan_init(&s->wan, s->remote, method, WAN_UPLOAD);
    wan_path(&s->wan, s->upload->container, s->upload->name.blob);
    if (conditional)
        add_condition(s);
}

/* beside_md5: the request carries x-ms-blob-content-md5, which the service checks as well. */
void sending_crc(struct sending *s, struct wan *wan, uint64_t crc, bool beside_md5)
{
    char text[BASE64_BYTES(8)];

    if (s->remote->upload_crc64_refused || (beside_md5 && s->remote->one_checksum))
        return;
    crc = htole64(crc);
    wan->sent_crc = true;
    wan->sent_both = beside_md5;
    wan_header(wan, SPAN("x-ms-content-crc64"),
               span_from(text, base64_encode(span_from(&crc, 8), text)));
}

static struct next send_blob_change(struct sending *s, enum upload_operation operation,
                                    const char *comp)
{
    const struct blob_record *record = blob_record(s->upload->blob);

    sending_request(s, operation, WAN_PUT, true);
    wan_query(&s->wan, "comp", span_of(comp));
    if (operation == OP_PROPERTIES)
        record_to_headers(&s->wan, record);
    else
        metadata_to_headers(&s->wan, record->metadata, record->metadata_count);
    wan_start(&s->wan, &s->op.done);
    return AWAIT(upload_answered);
}

static struct next send_delete(struct sending *s)
{
    if (s->upload->base == BASE_ABSENT) { /* the cloud never had it */
        s->result.end = UPLOAD_CONFIRMED;
        return GO(upload_end);
    }
    sending_request(s, OP_DELETE, WAN_DELETE, true);
    wan_header(&s->wan, SPAN("x-ms-delete-snapshots"), SPAN("include"));
    wan_start(&s->wan, &s->op.done);
    return AWAIT(upload_answered);
}

static struct next send_container(struct sending *s, enum upload_operation operation)
{
    const struct container_record *record =
        s->upload->described ? container_record(s->upload->described) : NULL;

    sending_request(s, operation, operation == OP_CONTAINER_DELETE ? WAN_DELETE : WAN_PUT, false);
    wan_query(&s->wan, "restype", SPAN("container"));
    if (operation == OP_CONTAINER_METADATA)
        wan_query(&s->wan, "comp", SPAN("metadata"));
    if (record && operation != OP_CONTAINER_DELETE)
        metadata_to_headers(&s->wan, record->metadata, record->metadata_count);
    if (record && operation == OP_CONTAINER_CREATE && record->public_access.len)
        wan_header(&s->wan, SPAN("x-ms-blob-public-access"), record->public_access);
    wan_start(&s->wan, &s->op.done);
    return AWAIT(upload_answered);
}

static struct next begin_content(struct sending *s)
{
    uint64_t length = blob_record(s->upload->blob)->length;

    if (length > s->upstream->conf.block_bytes || s->as_blocks)
        return blocks_start(s);
    load_start(&s->load, s->upstream, s->upload->blob, (struct range){0, length}, &s->op.done);
    return AWAIT(content_send);
}

/* ---- steps ---- */

static struct next upload_begin(struct op *op)
{
    struct sending *s = SENDING(op);

    switch (s->upload->kind) {
    case UPLOAD_CONTENT:
        return begin_content(s);
    case UPLOAD_PROPERTIES:
        return send_blob_change(s, OP_PROPERTIES, "properties");
    case UPLOAD_METADATA:
        return send_blob_change(s, OP_METADATA, "metadata");
    case UPLOAD_TAGS:
    case UPLOAD_TIER:
        return amend_start(s);
    case UPLOAD_DELETE:
        return send_delete(s);
    case UPLOAD_CONTAINER_CREATE:
        return send_container(s, OP_CONTAINER_CREATE);
    case UPLOAD_CONTAINER_DELETE:
        return send_container(s, OP_CONTAINER_DELETE);
    case UPLOAD_CONTAINER_METADATA:
        return send_container(s, OP_CONTAINER_METADATA);
    default: /* written by a newer version of this box: its entries are kept, not guessed at */
        return sending_held(s, SPAN("this version does not send changes of this kind"));
    }
}

struct next upload_resend(struct sending *s)
{
    load_done(&s->load);
    return GO(upload_begin);
}

static struct next content_send(struct op *op)
{
    struct sending *s = SENDING(op);
    const struct blob_record *record = blob_record(s->upload->blob);

    if (op->done.err == -EUCLEAN)
        return sending_held(s, SPAN("the content is damaged on the device"));
    if (op->done.err)
        return sending_retry(s, SPAN("the content cannot be read"), 0);
    sending_request(s, OP_CONTENT, WAN_PUT, true);
    wan_header(&s->wan, SPAN("x-ms-blob-type"), SPAN("BlockBlob"));
    record_to_headers(&s->wan, record);
    metadata_to_headers(&s->wan, record->metadata, record->metadata_count);
    tags_to_header(&s->wan, record->tags);
    access_tier_to_header(&s->wan, record);
    sending_crc(s, &s->wan, s->load.crc64, record->content_md5.len > 0);
    s->wan.body = span_from(s->load.buffer->base, s->load.buffer->used);
    wan_start(&s->wan, &op->done);
    return AWAIT(upload_answered);
}

static struct next upload_answered(struct op *op)
{
    return sending_judge(SENDING(op), op->done.err, GO(upload_done));
}

static struct next upload_done(struct op *op)
{
    return sending_confirmed(SENDING(op));
}

/* ---- what an answer means ---- */

/* Requests in parallel may all be refused for it: what counts is what this one carried. */
bool sending_crc_refused(struct sending *s, const struct wan *wan)
{
    struct span code = wan->answer.code;
    bool both = span_eq(code, SPAN("BothCrc64AndMd5HeaderPresent"));

    if (!wan->sent_crc)
        return false;
    if (both && wan->sent_both) { /* Azurite counts the MD5 to be stored */
        s->remote->one_checksum = true;
        return true;
    }
    if (!both && !span_eq(code, SPAN("UnsupportedHeader")) &&
        !span_eq(code, SPAN("FeatureNotSupported")))
        return false;
    if (!s->remote->upload_crc64_refused)
        log_info("the cloud takes no CRC64 with uploads",
                 KV_SPAN("account", s->remote->account->name));
    s->remote->upload_crc64_refused = true;
    return true;
}

static struct next judge_credential(struct sending *s, struct span reason)
{
    bool changed = wan_secret_renewed(&s->wan);

    if (!changed)
        log_warn_limited("the cloud refuses our credential for uploads",
                         KV_SPAN("account", s->remote->account->name), KV_SPAN("answer", reason));
    return sending_retry(
        s, reason,
        changed ? RETRY_PAUSE_MIN_NS
                : backoff_ns(s->upload->attempts, SECRET_PAUSE_MIN_NS, SECRET_PAUSE_MAX_NS));
}

struct next sending_decide(struct sending *s, enum verdict verdict, struct span reason,
                           uint64_t after_ns, struct next done)
{
    switch (verdict) {
    case VERDICT_DONE:
        return done;
    case VERDICT_RETRY:
        return sending_retry(s, reason, after_ns);
    case VERDICT_WAIT:
        return sending_retry(s, reason,
                             backoff_ns(s->upload->attempts, WAIT_PAUSE_MIN_NS, WAIT_PAUSE_MAX_NS));
    case VERDICT_RECONNECT:
        return judge_credential(s, reason);
    case VERDICT_RESTAGE:
        return ++s->restages < RESTAGES_MAX ? blocks_start(s) : sending_retry(s, reason, 0);
    case VERDICT_CONFLICT:
        return prove_start(s);
    default:
        return sending_held(s, reason);
    }
}

struct next sending_judge(struct sending *s, int wan_err, struct next done)
{
    struct span reason = arena_copy(s->arena, answer_reason(&s->wan, wan_err));
    const struct wan_answer *answer = &s->wan.answer;

    if (wan_err)
        return sending_retry(s, reason, 0);
    if (sending_crc_refused(s, &s->wan))
        return upload_resend(s);
    /* A client may say any MD5 with Put Block List, and the service keeps it; Put Blob would check
     * it. */
    if (s->operation == OP_CONTENT && span_eq(answer->code, SPAN("Md5Mismatch"))) {
        s->as_blocks = true;
        return upload_resend(s);
    }
    return sending_decide(s, verdict_of(s->operation, answer->status, answer->code), reason,
                          answer_retry_after_ns(&s->wan), done);
}

/* ---- ends ---- */

struct next sending_confirmed(struct sending *s)
{
    FAILPOINT("upload_answered");
    s->result.end = UPLOAD_CONFIRMED;
    s->result.etag = arena_copy(s->arena, wan_answer_header(&s->wan.answer, SPAN("etag")));
    s->result.modified_ns = answer_modified_ns(&s->wan);
    return GO(upload_end);
}

struct next sending_retry(struct sending *s, struct span reason, uint64_t after_ns)
{
    s->result.end = UPLOAD_RETRY;
    s->result.reason = reason;
    s->result.retry_after_ns =
        after_ns ? after_ns
                 : backoff_ns(s->upload->attempts, RETRY_PAUSE_MIN_NS, RETRY_PAUSE_MAX_NS);
    if (s->remote->breaker.state != BREAKER_CLOSED) /* the breaker paces them all together */
        s->result.retry_after_ns = RETRY_PAUSE_MIN_NS;
    return GO(upload_end);
}

struct next sending_held(struct sending *s, struct span reason)
{
    s->result.end = UPLOAD_HELD;
    s->result.reason = reason;
    log_warn("an upload is held", KV_SPAN("account", s->remote->account->name),
             KV_SPAN("container", s->upload->container), KV_SPAN("blob", s->upload->name.blob),
             KV_SPAN("why", reason));
    return GO(upload_end);
}

struct next sending_superseded(struct sending *s)
{
    s->result.end = UPLOAD_SUPERSEDED;
    return GO(upload_end);
}

static void count_result(const struct sending *s)
{
    switch (s->result.end) {
    case UPLOAD_CONFIRMED:
        STAT_INC(upstream_uploads_confirmed);
        break;
    case UPLOAD_RETRY:
        STAT_INC(upstream_uploads_retried);
        atomic_fetch_add_explicit(&s->remote->stats.retries, 1, memory_order_relaxed);
        break;
    case UPLOAD_HELD:
        STAT_INC(upstream_uploads_held);
        break;
    case UPLOAD_SUPERSEDED:
        STAT_INC(upstream_uploads_superseded);
        break;
    }
}

static struct next upload_end(struct op *op)
{
    struct sending *s = SENDING(op);
    const struct upload_result result = {
        .end = s->result.end,
        .cloud_etag = s->result.etag,
        .cloud_modified_ns = s->result.modified_ns,
        .retry_after_ns = s->result.retry_after_ns,
        .reason = s->result.reason,
    };

    count_result(s);
    load_done(&s->load);
    if (s->result.end == UPLOAD_SUPERSEDED)
        s->theirs = (struct name){.container = s->upload->name.container,
                                  .blob = arena_copy(s->arena, s->upload->name.blob)};
    cache_upload_end(s->upstream->conf.cache, TAKE(s->upload), &result, &op->done);
    return AWAIT(upload_told);
}

static struct next upload_told(struct op *op)
{
    struct sending *s = SENDING(op);

    FAILPOINT("upload_recorded");
    if (s->theirs.container)
        open_refresh(s->upstream, &s->theirs);
    if (op->done.err) /* the entry stands as it was and comes again after a restart */
        log_error("an upload's outcome cannot be recorded", KV_ERR(op->done.err));
    return FINISH;
}

static void sending_free(struct op *op)
{
    struct sending *s = SENDING(op);
    struct pump *pump = s->pump;

    assert(!s->upload);
    blocks_free(s->blocks);
    staged_list_free(s->proof);
    load_done(&s->load);
    wan_done(&s->wan);
    arena_free(s->arena);
    s->upstream->active--;
    free(s);
    pump_upload_over(pump);
}

void upload_start(struct upstream *upstream, struct remote *remote, struct pump *pump,
                  struct upload *upload)
{
    struct sending *s = xcalloc(1, sizeof(*s));

    s->upstream = upstream;
    s->remote = remote;
    s->pump = pump;
    s->upload = upload;
    s->arena = arena_new();
    upstream->active++;
    op_init(&s->op, client_loop(upstream->client), sending_free);
    op_start(&s->op, GO(upload_begin));
}
