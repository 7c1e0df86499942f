/* upstream/amend.c - an entry that changes something of a version the cloud has, and not its ETag:
 * tags, access tier. The service takes no If-Match with it, so the version is looked at first; what
 * is overwritten between the two requests gets what was meant for the one before.
 *
 * Steps: start (HEAD) -> headed -> answered -> done. Sent twice it says the same: a lost answer
 * needs no proof. */
#include "upstream/upload.h"

#include <stdio.h>

#include "cache/tags.h"

static struct next amend_headed(struct op *op);
static struct next amend_send(struct op *op);
static struct next amend_answered(struct op *op);
static struct next amend_done(struct op *op);

bool upload_amends(const struct upload *upload)
{
    return upload->kind == UPLOAD_TAGS || upload->kind == UPLOAD_TIER;
}

struct next amend_start(struct sending *s)
{
    if (s->upload->base == BASE_ABSENT) /* the version was superseded before it arrived */
        return sending_superseded(s);
    sending_request(s, OP_HEAD, WAN_HEAD, true);
    wan_start(&s->wan, &s->op.done);
    return AWAIT(amend_headed);
}

static struct next amend_headed(struct op *op)
{
    return sending_judge(SENDING(op), op->done.err, GO(amend_send));
}

/* None of a tag's bytes means anything to XML. */
static struct span tags_xml(struct arena *arena, struct span tags)
{
    static const char head[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?><Tags><TagSet>",
                      row[] = "<Tag><Key></Key><Value></Value></Tag>", tail[] = "</TagSet></Tags>";
    size_t room = sizeof(head) + tags_count(tags) * sizeof(row) + tags.len + sizeof(tail);
    char *xml = arena_alloc(arena, room);
    size_t n = (size_t)snprintf(xml, room, "%s", head);
    struct pair tag;

    while (tags_next(&tags, &tag))
        n += (size_t)snprintf(xml + n, room - n, "<Tag><Key>%.*s</Key><Value>%.*s</Value></Tag>",
                              SPAN_FMT(tag.name), SPAN_FMT(tag.value));
    n += (size_t)snprintf(xml + n, room - n, "%s", tail);
    return span_from(xml, n);
}

static struct next amend_send(struct op *op)
{
    struct sending *s = SENDING(op);

    s->headed_etag = arena_copy(s->arena, wan_answer_header(&s->wan.answer, SPAN("etag")));
    s->headed_modified_ns = answer_modified_ns(&s->wan);
    if (s->upload->kind == UPLOAD_TIER) {
        sending_request(s, OP_TIER, WAN_PUT, false);
        wan_query(&s->wan, "comp", SPAN("tier"));
        access_tier_to_header(&s->wan, blob_record(s->upload->blob));
    } else {
        sending_request(s, OP_TAGS, WAN_PUT, false);
        wan_query(&s->wan, "comp", SPAN("tags"));
        s->wan.body = tags_xml(s->wan.arena, blob_record(s->upload->blob)->tags);
    }
    wan_start(&s->wan, &op->done);
    return AWAIT(amend_answered);
}

static struct next amend_answered(struct op *op)
{
    return sending_judge(SENDING(op), op->done.err, GO(amend_done));
}

static struct next amend_done(struct op *op)
{
    struct sending *s = SENDING(op);
    struct next end = sending_confirmed(s);

    s->result.etag = s->headed_etag; /* its own answer names none */
    s->result.modified_ns = s->headed_modified_ns;
    return end;
}
