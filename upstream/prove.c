/* upstream/prove.c - a condition of ours failed: a foreign change, or our own success whose answer
 * was lost?
 *
 * Ours, when the cloud's blob is what this entry would have made of it: of a delete, that there is
 * none; else length, content headers and metadata are equal, and so are the bytes, also where the
 * entry changes none: by MD5, or because the committed list is exactly our ids. If it is not ours,
 * the contract says what happens: hold, ours (again, without the condition) or theirs. Steps:
 * start (HEAD) -> headed [-> list -> listed] -> proved or foreign. */
#include "upstream/upload.h"

#include "base/digest.h"
#include "base/log.h"
#include "upstream/metrics.h"

static struct next prove_headed(struct op *op);
static struct next prove_listed(struct op *op);
static struct next prove_list_parsed(struct op *op);

static bool same_text(struct span ours, struct span theirs)
{
    return span_eq(ours, theirs);
}

static bool same_type(struct span ours,
                      struct span theirs) /* the service fills in what was not sent */
{
    return same_text(ours, theirs) ||
           (!ours.len && span_eq(theirs, SPAN("application/octet-stream")));
}

static bool same_headers(const struct blob_record *ours, const struct blob_record *theirs)
{
    return same_type(ours->content_type, theirs->content_type) &&
           same_text(ours->content_encoding, theirs->content_encoding) &&
           same_text(ours->content_language, theirs->content_language) &&
           same_text(ours->content_disposition, theirs->content_disposition) &&
           same_text(ours->cache_control, theirs->cache_control);
}

static bool has_pair(const struct blob_record *record, const struct pair *pair)
{
    for (unsigned i = 0; i < record->metadata_count; i++)
        if (span_eq_nocase(record->metadata[i].name, pair->name))
            return span_eq(record->metadata[i].value, pair->value);
    return false;
}

static bool same_metadata(const struct blob_record *ours, const struct blob_record *theirs)
{
    if (ours->metadata_count != theirs->metadata_count)
        return false;
    for (unsigned i = 0; i < ours->metadata_count; i++)
        if (!has_pair(theirs, &ours->metadata[i]))
            return false;
    return true;
}

/* Put Blob: the service has computed an MD5 of what it got, whether we sent one or not. */
static bool same_bytes(struct sending *s, const struct blob_record *ours,
                       const struct blob_record *theirs)
{
    unsigned char sum[MD5_BYTES];
    struct md5 *md5;

    if (ours->length != theirs->length || theirs->content_md5.len != MD5_BYTES)
        return false;
    if (ours->content_md5.len == MD5_BYTES)
        return span_eq(ours->content_md5, theirs->content_md5);
    if (!s->load.buffer)
        return false;
    md5 = md5_new();
    md5_add(md5, span_from(s->load.buffer->base, s->load.buffer->used));
    md5_end(md5, sum);
    md5_free(md5);
    return span_eq(span_from(sum, MD5_BYTES), theirs->content_md5);
}

static bool same_description(const struct blob_record *ours, const struct blob_record *theirs)
{
    return ours->length == theirs->length && same_headers(ours, theirs) &&
           same_metadata(ours, theirs);
}

enum bytes { BYTES_SAME, BYTES_OTHER, BYTES_BY_BLOCKS };

/* A foreign overwrite may well have our length and headers: equal shards of a checkpoint have. */
static enum bytes compare_bytes(struct sending *s, const struct blob_record *theirs)
{
    const struct blob_record *ours = blob_record(s->upload->blob);

    if (s->upload->kind == UPLOAD_CONTENT && !s->blocks)
        return same_bytes(s, ours, theirs) ? BYTES_SAME : BYTES_OTHER;
    if (s->upload->kind == UPLOAD_CONTENT)
        return BYTES_BY_BLOCKS;
    if (!ours->length)
        return BYTES_SAME;
    if (!ours->content_md5.len)
        return BYTES_BY_BLOCKS;
    return span_eq(ours->content_md5, theirs->content_md5) ? BYTES_SAME : BYTES_OTHER;
}

/* ---- what follows ---- */

static struct next proved(struct sending *s)
{
    STAT_INC(upstream_uploads_proved);
    log_info("a lost answer was a success", KV_SPAN("blob", s->upload->name.blob));
    return sending_confirmed(s);
}

static struct next foreign(struct sending *s, struct span etag)
{
    enum contract_conflict policy =
        s->upload->contract ? s->upload->contract->conflict : CONFLICT_HOLD;

    if (s->looking)
        return blocks_go_on(s);
    /* What amends a version that the cloud has no more is void under `ours` as well. */
    if (policy == CONFLICT_THEIRS || (policy == CONFLICT_OURS && upload_amends(s->upload)))
        return sending_superseded(s);
    if (policy == CONFLICT_OURS && !s->unconditional && etag.len) {
        s->unconditional = true;
        return s->blocks ? blocks_commit(s) : upload_resend(s);
    }
    return sending_held(s,
                        arena_printf(s->arena, "conflict: the cloud has version %.*s",
                                     etag.len ? (int)etag.len : 4, etag.len ? etag.base : "none"));
}

struct next prove_start(struct sending *s)
{
    if (!s->upload->name.blob.len || upload_amends(s->upload))
        return foreign(s, SPAN("another"));
    sending_request(s, OP_HEAD, WAN_HEAD, false);
    wan_start(&s->wan, &s->op.done);
    return AWAIT(prove_headed);
}

static int list_body(struct wan *wan, struct span bytes)
{
    return staged_list_feed(container_of(wan, struct sending, wan)->proof, bytes);
}

static struct next prove_blocks(struct sending *s)
{
    staged_list_free(s->proof);
    s->proof = staged_list_new();
    sending_request(s, OP_BLOCK_LIST, WAN_GET, false);
    wan_query(&s->wan, "comp", SPAN("blocklist"));
    wan_query(&s->wan, "blocklisttype", SPAN("committed"));
    s->wan.on_body = list_body;
    wan_start(&s->wan, &s->op.done);
    return AWAIT(prove_listed);
}

static struct next prove_headed(struct op *op)
{
    struct sending *s = SENDING(op);
    struct blob_record theirs;

    if (op->done.err || s->wan.answer.status >= 500)
        return sending_retry(s, arena_copy(s->arena, answer_reason(&s->wan, op->done.err)), 0);
    if (answer_absent(&s->wan)) /* what a delete of ours leaves; some check If-Match first */
        return s->upload->kind == UPLOAD_DELETE ? proved(s) : foreign(s, (struct span){NULL, 0});
    if (!wan_answer_ok(&s->wan.answer))
        return sending_judge(s, 0, FINISH);
    if (answer_blob(&s->wan, &theirs))
        return sending_retry(s, SPAN("the cloud's answer makes no sense"), 0);
    s->headed_etag = arena_copy(s->arena, theirs.cloud_etag);
    if (s->upload->kind == UPLOAD_DELETE ||
        !same_description(blob_record(s->upload->blob), &theirs))
        return foreign(s, s->headed_etag);
    switch (compare_bytes(s, &theirs)) {
    case BYTES_SAME:
        return proved(s);
    case BYTES_BY_BLOCKS:
        return prove_blocks(s);
    default:
        return foreign(s, s->headed_etag);
    }
}

static struct next prove_listed(struct op *op)
{
    return sending_judge(SENDING(op), op->done.err, GO(prove_list_parsed));
}

static struct next prove_list_parsed(struct op *op) /* its ETag is of the blob it lists */
{
    struct sending *s = SENDING(op);
    struct span etag = wan_answer_header(&s->wan.answer, SPAN("etag"));
    const struct block_name *names;
    size_t n;

    if (staged_list_end(s->proof))
        return sending_retry(s, SPAN("the cloud's block list is broken"), 0);
    names = staged_list_get(s->proof, true, &n);
    if (!blocks_match(s, names,
                      n)) /* bytes cannot be told; what is described so already is the cloud's */
        return s->upload->kind == UPLOAD_CONTENT ? foreign(s, s->headed_etag)
                                                 : sending_superseded(s);
    if (!span_eq(etag, s->headed_etag))
        return sending_retry(s, SPAN("the cloud's version changed while it was looked at"), 0);
    return proved(s);
}
