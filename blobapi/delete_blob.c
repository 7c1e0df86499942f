/* blobapi/delete_blob.c - Delete Blob, also of a blob that only has uncommitted blocks. */
#include "blobapi/handlers.h"

static struct next delete_previewed(struct op *op);
static struct next delete_begun(struct op *op);
static struct next delete_done(struct op *op);

struct next delete_start(struct op *op)
{
    struct request *r = REQUEST(op);
    struct span snapshots = exchange_header(r->http, SPAN("x-ms-delete-snapshots"));

    /* No snapshots are kept here yet: "include" deletes what there is, "only" would delete nothing
     * and say it did. */
    if (snapshots.len && !span_eq_nocase(snapshots, SPAN("include")))
        return fail_header(r, AZ_UNSUPPORTED_HEADER, SPAN("x-ms-delete-snapshots"));
    if (target_param(&r->target, SPAN("deletetype")).len)
        return fail_query(r, AZ_UNSUPPORTED_QUERY_PARAMETER, SPAN("deletetype"));
    return change_preview(r, CHANGE_OR_STAGED, GO(delete_previewed));
}

static struct next delete_previewed(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_OR_STAGED, GO(delete_begun));
}

static struct next delete_begun(struct op *op)
{
    struct request *r = REQUEST(op);

    tx_delete(r->tx);
    return change_commit(r, UPLOAD_DELETE, GO(delete_done));
}

static struct next delete_done(struct op *op)
{
    struct request *r = REQUEST(op);

    answer_add(r, SPAN("x-ms-delete-type-permanent"), SPAN("true"));
    return answer_empty(r, 202);
}
