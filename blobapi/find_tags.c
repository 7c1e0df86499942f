/* blobapi/find_tags.c - Find Blobs by Tags, of an account or of one container. There is no index of
 * tags: a worker walks the rows in order of container and name. A page ends after FIND_LOOKED_MAX
 * rows that were looked at, found or not, or FIND_CONTAINERS_MAX containers, with a marker, as the
 * service's may: with few rows or none. What a cloud has is not known whole, so an account with one
 * is refused. */
#include "blobapi/handlers.h"
#include "blobapi/listing.h"

#define FIND_TAGS(op)       container_of(REQUEST(op), struct find_tags, r)
#define FIND_LOOKED_MAX     100000
#define FIND_CONTAINERS_MAX 10000
#define PAGE_FULL           1 /* what a row answers to end the page before it */

static struct next find_emit(struct op *op);
static struct next find_walked(struct op *op);

/* ---- what is asked for ---- */

/* The marker is of "container/blob", where the page goes on. */
static enum az_error find_from(struct find_tags *f)
{
    struct span at, blob;
    enum az_error error;

    f->marker = target_param(&f->r.target, SPAN("marker"));
    if (!f->marker.len)
        return AZ_OK;
    error = list_marker_parse(f->marker, f->r.http->arena, &at);
    if (error)
        return error;
    f->from_container = span_cut(at, '/', &blob);
    if (!blob.base)
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    f->from = blob;
    return AZ_OK;
}

static enum az_error find_where(struct find_tags *f)
{
    f->where = list_text(&f->r.target, SPAN("where"), f->r.http->arena);
    if (!f->where.len)
        return AZ_MISSING_REQUIRED_QUERY_PARAMETER;
    if (tag_filter_parse(f->where, f->r.http->arena, &f->filter, &f->within) < 0)
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    /* in a container there is no other to name */
    return f->within.len && f->r.target.container.len ? AZ_INVALID_QUERY_PARAMETER_VALUE : AZ_OK;
}

struct next find_tags_start(struct op *op)
{
    struct find_tags *f = FIND_TAGS(op);
    struct request *r = &f->r;
    enum az_error error;

    if (request_has_cloud(r))
        return fail_query(r, AZ_UNSUPPORTED_QUERY_PARAMETER, SPAN("comp"));
    error = find_where(f);
    if (error)
        return fail_query(r, error, SPAN("where"));
    f->has_max = target_param(&r->target, SPAN("maxresults")).len > 0;
    error = list_max_parse(&r->target, &f->max);
    if (error)
        return fail_query(r, error, SPAN("maxresults"));
    f->from_container = f->from = SPAN("");
    error = find_from(f);
    return error ? fail_query(r, error, SPAN("marker")) : emit_begin(r, IOBUF_64K, GO(find_emit));
}

/* ---- one row: worker ---- */

static void find_row_emit(struct find_tags *f, const struct list_row *row)
{
    struct span tags = row->record->tags;
    struct emit *e = f->r.emit;
    struct pair tag;

    EMIT(e, "<Blob>");
    list_emit_name(e, SPAN("Name"), row->name);
    list_emit_name(e, SPAN("ContainerName"), f->from_container);
    EMIT(e, "<Tags><TagSet>");
    while (tags_next(&tags, &tag))
        if (!f->filter || tag_filter_names(f->filter, tag.name))
            tag_emit(e, tag);
    EMIT(e, "</TagSet></Tags></Blob>");
}

static void find_stop(struct find_tags *f, struct span blob)
{
    f->next =
        arena_printf(f->r.http->arena, "%.*s/%.*s", SPAN_FMT(f->from_container), SPAN_FMT(blob));
}

static int find_row(void *arg, const struct list_row *row)
{
    struct find_tags *f = arg;
    struct emit *e = f->r.emit;
    struct emit_mark mark = emit_mark(e);

    if (f->looked >= FIND_LOOKED_MAX) {
        find_stop(f, row->name);
        return PAGE_FULL;
    }
    f->looked++;
    if (!row->record || !row->record->tags.len ||
        (f->filter && !tag_expression_judge(f->filter, row->record->tags)))
        return 0;
    if (f->rows < f->max)
        find_row_emit(f, row);
    if (f->rows == f->max || !emit_keep_tail(e)) {
        emit_rewind(e, mark);
        find_stop(f, row->name);
        return PAGE_FULL;
    }
    f->rows++;
    return 0;
}

static int find_in(struct find_tags *f, uint64_t container)
{
    for (;;) {
        struct list_query query = {
            .container = container, .from = f->from, .max = LIST_ROWS_MAX, .offline = true};
        int err;

        list_end_done(&f->end);
        f->end = (struct list_end){0};
        err = cache_list(f->r.api->conf.cache, &query, find_row, f, &f->end);
        if (err || !f->end.next.base)
            return err;
        f->from = arena_copy(f->r.http->arena, f->end.next);
    }
}

/* ---- the containers: worker ---- */

struct containers {
    struct find_tags *f;
    struct found_container {
        struct span name;
        uint64_t id;
    } * at;
    size_t count, room;
    struct span next; /* what there was no place for any more */
};

static int take_container(void *arg, const struct container_record *record)
{
    struct containers *c = arg;
    struct arena *arena = c->f->r.http->arena;
    size_t room = c->room ? c->room * 2 : 64;

    if (c->f->within.len && !span_eq(record->name, c->f->within))
        return PAGE_FULL; /* they come in order of names, from that one on */
    if (c->count == FIND_CONTAINERS_MAX) {
        c->next = arena_copy(arena, record->name);
        return PAGE_FULL;
    }
    if (c->count == c->room) {
        c->at = arena_grow(arena, c->at, c->room * sizeof(*c->at), room * sizeof(*c->at));
        c->room = room;
    }
    c->at[c->count++] = (struct found_container){arena_copy(arena, record->name), record->id};
    return 0;
}

static int find_everywhere(struct find_tags *f)
{
    struct containers c = {.f = f};
    struct span from = span_cmp(f->from_container, f->within) < 0 ? f->within : f->from_container;
    bool complete = false;
    int err = cache_containers(f->r.api->conf.cache, f->r.account->id, SPAN(""), from,
                               take_container, &c, &complete);

    if (err < 0)
        return err;
    for (size_t i = 0; i < c.count; i++) {
        if (!span_eq(c.at[i].name, f->from_container))
            f->from = SPAN("");
        f->from_container = c.at[i].name;
        if ((err = find_in(f, c.at[i].id)))
            return err;
    }
    if (!c.next.base)
        return 0;
    f->from_container = c.next;
    find_stop(f, SPAN(""));
    return PAGE_FULL;
}

static int find_job(void *arg) /* worker */
{
    struct find_tags *f = arg;

    if (!f->r.container)
        return find_everywhere(f);
    f->from_container = f->r.target.container;
    return find_in(f, f->r.name.container);
}

/* ---- the page ---- */

static struct next find_emit(struct op *op)
{
    struct find_tags *f = FIND_TAGS(op);
    struct emit *e = f->r.emit;

    list_emit_head(&f->r, f->r.target.container);
    EMIT(e, "<Where>");
    emit_xml(e, f->where);
    EMIT(e, "</Where>");
    if (f->has_max) {
        EMIT(e, "<MaxResults>");
        emit_u64(e, f->max);
        EMIT(e, "</MaxResults>");
    }
    EMIT(e, "<Blobs>");
    if (!emit_keep_tail(e))
        return fail_errno(&f->r, -EBUSY);
    worker_run(f->r.api->conf.workers, find_job, f, &op->done);
    return AWAIT(find_walked);
}

static struct next find_walked(struct op *op)
{
    struct find_tags *f = FIND_TAGS(op);
    struct emit *e = f->r.emit;

    if (op->done.err && op->done.err != PAGE_FULL)
        return fail_errno(&f->r, op->done.err);
    EMIT(e, "</Blobs>");
    if (f->next.base) {
        EMIT(e, "<NextMarker>");
        emit_span(e, list_marker_make(f->next, f->r.http->arena));
        EMIT(e, "</NextMarker>");
    } else {
        EMIT(e, "<NextMarker />");
    }
    EMIT(e, "</EnumerationResults>");
    return answer_emitted(&f->r, 200);
}

void find_tags_done(struct request *r)
{
    list_end_done(&container_of(r, struct find_tags, r)->end);
}
