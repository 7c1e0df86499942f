/* blobapi/get_block_list.c - Get Block List: committed blocks in blob order, uncommitted ones in id
 * order. Rows come on a worker: 50 000 of them are read from the index. */
#include "blobapi/handlers.h"

#define GET_LIST(op) container_of(REQUEST(op), struct get_block_list, r)

static struct next blocks_found(struct op *op);
static struct next blocks_emit(struct op *op);
static struct next blocks_emitted(struct op *op);

static bool blocks_which(struct get_block_list *g, struct span type)
{
    g->committed =
        !type.len || span_eq_nocase(type, SPAN("committed")) || span_eq_nocase(type, SPAN("all"));
    g->uncommitted = span_eq_nocase(type, SPAN("uncommitted")) || span_eq_nocase(type, SPAN("all"));
    return g->committed || g->uncommitted;
}

struct next get_block_list_start(struct op *op)
{
    struct get_block_list *g = GET_LIST(op);

    if (!blocks_which(g, target_param(&g->r.target, SPAN("blocklisttype"))))
        return fail_query(&g->r, AZ_INVALID_QUERY_PARAMETER_VALUE, SPAN("blocklisttype"));
    return find_blob(&g->r, (struct range){0, 0}, GO(blocks_found));
}

static struct next blocks_found(struct op *op)
{
    struct request *r = REQUEST(op);
    enum az_error error;
    /* Staged blocks are ours alone: a silent cloud does not hide them from who resumes. */
    bool ours = r->found == -EHOSTUNREACH && !GET_LIST(op)->committed &&
                r->contract->offline == OFFLINE_SERVE;

    if (r->found && r->found != -ENOENT && !ours)
        return fail_errno(r, r->found);
    if (r->blob && blob_record(r->blob)->type != BLOB_BLOCK)
        return fail(r, AZ_INVALID_BLOB_TYPE);
    if (r->blob && (error = request_judge(r, r->blob)))
        return fail(r, error);
    if (r->blob && (error = tier_verdict(blob_record(r->blob))))
        return fail(r, error);
    if (r->blob && GET_LIST(op)->committed && content_learned(blob_record(r->blob)))
        return fail_query(r, AZ_UNSUPPORTED_QUERY_PARAMETER, SPAN("blocklisttype"));
    error = lease_verdict_blob(r);
    if (error)
        return fail(r, error);
    return emit_begin(r, IOBUF_64K, GO(blocks_emit));
}

static int block_row(struct emit *e, const struct block_row *row)
{
    EMIT(e, "<Block><Name>");
    emit_base64(e, row->id);
    EMIT(e, "</Name><Size>");
    emit_u64(e, row->bytes);
    EMIT(e, "</Size></Block>");
    return e->full ? -EBUSY : 0; /* no buffers: later */
}

/* Opens a section with its first row; "<CommittedBlocks />" when there is none. */
static int section_row(struct get_block_list *g, bool *open, const char *tag,
                       const struct block_row *row)
{
    if (!*open) {
        EMIT(g->r.emit, "<");
        emit_span(g->r.emit, span_of(tag));
        EMIT(g->r.emit, ">");
        *open = true;
    }
    return block_row(g->r.emit, row);
}

static void section_end(struct get_block_list *g, bool open, const char *tag)
{
    if (open)
        EMIT(g->r.emit, "</");
    else
        EMIT(g->r.emit, "<");
    emit_span(g->r.emit, span_of(tag));
    if (open)
        EMIT(g->r.emit, ">");
    else
        EMIT(g->r.emit, " />");
}

static int committed_row(void *arg, const struct block_row *row)
{
    struct get_block_list *g = arg;

    return g->committed ? section_row(g, &g->committed_open, "CommittedBlocks", row) : 0;
}

static void committed_end(struct get_block_list *g) /* all of them have come */
{
    if (g->committed && !g->committed_ended)
        section_end(g, g->committed_open, "CommittedBlocks");
    g->committed_ended = true;
}

static int uncommitted_row(void *arg, const struct block_row *row)
{
    struct get_block_list *g = arg;

    g->staged = true;
    committed_end(g);
    return g->uncommitted ? section_row(g, &g->uncommitted_open, "UncommittedBlocks", row) : 0;
}

static int blocks_job(void *arg) /* worker */
{
    struct get_block_list *g = arg;
    struct request *r = &g->r;
    int err;

    EMIT(r->emit, "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>");
    /* uncommitted blocks are the name's, not a snapshot's */
    err = cache_list_blocks(r->api->conf.cache, &r->name, r->blob, committed_row,
                            r->name.snapshot.len ? NULL : uncommitted_row, g);
    if (err)
        return err;
    committed_end(g);
    if (g->uncommitted)
        section_end(g, g->uncommitted_open, "UncommittedBlocks");
    EMIT(r->emit, "</BlockList>");
    return r->emit->full ? -EBUSY : 0;
}

static struct next blocks_emit(struct op *op)
{
    struct request *r = REQUEST(op);

    r->emit->limit = EMIT_BUFS_MAX; /* it has no pages: all of it or nothing */
    r->emit->large = true;
    worker_run(r->api->conf.workers, blocks_job, GET_LIST(op), &op->done);
    return AWAIT(blocks_emitted);
}

static struct next blocks_emitted(struct op *op)
{
    struct get_block_list *g = GET_LIST(op);
    struct request *r = &g->r;

    if (op->done.err)
        return fail_errno(r, op->done.err);
    if (!r->blob && !g->staged)
        return r->found == -ENOENT ? fail(r, AZ_BLOB_NOT_FOUND) : fail_errno(r, r->found);
    if (r->blob) {
        answer_etag(r, blob_record(r->blob)->etag);
        answer_date(r, SPAN("Last-Modified"), blob_record(r->blob)->modified_ns);
        answer_u64(r, SPAN("x-ms-blob-content-length"), blob_record(r->blob)->length);
    }
    return answer_emitted(r, 200);
}
