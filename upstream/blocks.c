/* upstream/blocks.c - a large content as blocks under ids of ours, a few at once, then one commit.
 *
 * A block's id says which bytes it is: {magic, box, object, offset in it, CRC-64}. So what an
 * earlier attempt, or the run before a restart, has staged can be told from anything else, and is
 * not sent again: each attempt first asks for the list. A block counts as sent when the cloud has
 * answered for it in this attempt or lists it as uncommitted with that id and size. If the
 * committed ones are ours, a commit's answer was lost, perhaps with a restart: that is proved
 * before a byte is sent.
 *
 * Steps: start (list) -> listed -> stage (parts run) -> commit -> committed. A part is an op of its
 * own: load -> loaded -> send -> answered. */
#include "upstream/upload.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/failpoint.h"
#include "base/text.h"

#define BLOCK_MAGIC        "Hth1"
#define BLOCK_PLACE_BYTES  (4 + 8 + OBJECT_ID_BYTES + 8) /* of an id: all but the CRC */
#define BLOCK_PAUSE_MIN_NS (200 * NS_PER_MS)
#define BLOCK_PAUSE_MAX_NS (5 * NS_PER_SEC)

struct block_id {
    char bytes[BLOCK_ID_BYTES];
};

/* Where a version's bytes lie; asked in ascending order. */
struct places {
    const struct blob *blob;
    size_t piece;
    uint64_t piece_start;
};

struct blocks {
    uint64_t length, block_bytes;
    size_t count, next;
    struct block_id *ids;
    bool *known; /* id computed */
    unsigned running;
    bool awaited; /* the sending waits for a part to end */
    struct staged_list *there;
    enum verdict verdict; /* of the first part that failed; DONE: none */
    struct span reason;
    uint64_t after_ns;
    struct places places; /* parts start in order */
};

struct part {
    struct op op;
    struct sending *s;
    size_t index;
    struct load load;
    struct wan wan;
    struct timer pause;
    unsigned attempts;
};
#define PART(o) container_of(o, struct part, op)

static struct next blocks_listed(struct op *op);
static struct next blocks_list_parsed(struct op *op);
static struct next blocks_stage(struct op *op);
static struct next blocks_committed(struct op *op);
static struct next blocks_confirmed(struct op *op);
static struct next part_load(struct op *op);
static struct next part_loaded(struct op *op);
static struct next part_send(struct op *op);
static struct next part_answered(struct op *op);

/* ---- ids ---- */

/* All of an id but its CRC. False: located by its record alone, so only the CRC tells it. */
static bool place_print(const struct cache *cache, struct places *places, uint64_t start, char *at)
{
    const struct piece *pieces;
    size_t n = blob_pieces(places->blob, &pieces);
    uint64_t box[2], offset = 0;
    unsigned char object[OBJECT_ID_BYTES] = {0};

    while (places->piece < n && places->piece_start + pieces[places->piece].length <= start)
        places->piece_start += pieces[places->piece++].length;
    if (places->piece < n) {
        object_id_bytes(pieces[places->piece].object, object);
        offset = htole64(pieces[places->piece].offset + (start - places->piece_start));
    }
    static_assert(BLOCK_ID_BYTES == BLOCK_PLACE_BYTES + 8, "one length for all");
    cache_box_uuid(cache, box);
    memcpy(at, BLOCK_MAGIC, 4);
    memcpy(at + 4, box, 8);
    memcpy(at + 12, object, OBJECT_ID_BYTES);
    memcpy(at + 12 + OBJECT_ID_BYTES, &offset, 8);
    return places->piece < n;
}

/* ---- parts ---- */

static uint64_t part_bytes(const struct blocks *b, size_t index)
{
    return MIN(b->block_bytes, b->length - index * b->block_bytes);
}

static void part_id(struct part *p)
{
    struct blocks *b = p->s->blocks;
    uint64_t crc = htole64(p->load.crc64);

    memcpy(b->ids[p->index].bytes + BLOCK_PLACE_BYTES, &crc, 8);
    b->known[p->index] = true;
}

static struct span id_span(const struct blocks *b, size_t index)
{
    return span_from(b->ids[index].bytes, BLOCK_ID_BYTES);
}

static struct next part_load(struct op *op)
{
    struct part *p = PART(op);
    struct blocks *b = p->s->blocks;
    struct range range = {p->index * b->block_bytes, part_bytes(b, p->index)};

    if (b->known[p->index] && staged_list_has(b->there, id_span(b, p->index), range.len))
        return FINISH;
    load_start(&p->load, p->s->upstream, p->s->upload->blob, range, &op->done);
    return AWAIT(part_loaded);
}

static struct next part_failed(struct part *p, enum verdict verdict, struct span reason,
                               uint64_t after_ns)
{
    struct blocks *b = p->s->blocks;

    if (b->verdict == VERDICT_DONE) {
        b->verdict = verdict;
        b->reason = arena_copy(p->s->arena, reason);
        b->after_ns = after_ns;
    }
    return FINISH;
}

static struct next part_loaded(struct op *op)
{
    struct part *p = PART(op);
    struct blocks *b = p->s->blocks;

    if (op->done.err == -EUCLEAN)
        return part_failed(p, VERDICT_HELD, SPAN("the content is damaged on the device"), 0);
    if (op->done.err)
        return part_failed(p, VERDICT_RETRY, SPAN("the content cannot be read"), 0);
    part_id(p);
    if (staged_list_has(b->there, id_span(b, p->index), part_bytes(b, p->index)))
        return FINISH;
    return GO(part_send);
}

static struct next part_send(struct op *op)
{
    struct part *p = PART(op);
    struct sending *s = p->s;
    char id[BASE64_BYTES(BLOCK_ID_BYTES)];

    if (s->blocks->verdict != VERDICT_DONE) /* another part has failed for good: no use */
        return FINISH;
    wan_init(&p->wan, s->remote, WAN_PUT, WAN_UPLOAD);
    wan_path(&p->wan, s->upload->container, s->upload->name.blob);
    wan_query(&p->wan, "comp", SPAN("block"));
    wan_query(&p->wan, "blockid", span_from(id, base64_encode(id_span(s->blocks, p->index), id)));
    sending_crc(s, &p->wan, p->load.crc64, false);
    p->wan.body = span_from(p->load.buffer->base, p->load.buffer->used);
    wan_start(&p->wan, &op->done);
    return AWAIT(part_answered);
}

static void part_pause_over(struct timer *timer)
{
    completion_post(&container_of(timer, struct part, pause)->op.done, 0);
}

/* A lost answer to Put Block is no matter: the same id with the same bytes again. A part that
 * sleeps keeps its buffer, of which all accounts together have few: a longer pause is the queue's.
 */
static struct next part_again(struct part *p, struct span reason, uint64_t after_ns)
{
    struct sending *s = p->s;

    if (++p->attempts == BLOCK_ATTEMPTS_MAX || s->remote->breaker.state != BREAKER_CLOSED ||
        s->upstream->stopping || after_ns > BLOCK_PAUSE_MAX_NS)
        return part_failed(p, VERDICT_RETRY, reason, after_ns);
    atomic_fetch_add_explicit(&s->remote->stats.retries, 1, memory_order_relaxed);
    if (!after_ns)
        after_ns = backoff_ns(p->attempts - 1, BLOCK_PAUSE_MIN_NS, BLOCK_PAUSE_MAX_NS);
    timer_start(p->op.done.loop, &p->pause, after_ns);
    return AWAIT(part_send);
}

static struct next part_answered(struct op *op)
{
    struct part *p = PART(op);
    const struct wan_answer *answer = &p->wan.answer;
    struct span reason = answer_reason(&p->wan, op->done.err);
    uint64_t after_ns = answer_retry_after_ns(&p->wan);
    enum verdict verdict;

    if (op->done.err)
        return part_again(p, reason, 0);
    if (sending_crc_refused(p->s, &p->wan))
        return GO(part_send);
    verdict = verdict_of(OP_BLOCK, answer->status, answer->code);
    if (verdict == VERDICT_RETRY)
        return part_again(p, reason, after_ns);
    return verdict == VERDICT_DONE ? FINISH : part_failed(p, verdict, reason, after_ns);
}

static void part_free(struct op *op)
{
    struct part *p = PART(op);
    struct blocks *b = p->s->blocks;

    b->running--;
    if (b->awaited) {
        b->awaited = false;
        completion_post(&p->s->op.done, 0);
    }
    load_done(&p->load);
    wan_done(&p->wan);
    free(p);
}

static void part_start(struct sending *s)
{
    struct part *p = xcalloc(1, sizeof(*p));

    p->s = s;
    p->index = s->blocks->next++;
    p->pause.fn = part_pause_over;
    if (!s->blocks->known[p->index])
        (void)place_print(s->upstream->conf.cache, &s->blocks->places,
                          p->index * s->blocks->block_bytes, s->blocks->ids[p->index].bytes);
    s->blocks->running++;
    op_init(&p->op, s->op.done.loop, part_free);
    op_start(&p->op, GO(part_load));
}

/* ---- the whole ---- */

static struct blocks *blocks_new(struct sending *s)
{
    struct blocks *b = xcalloc(1, sizeof(*b));
    uint64_t least;

    b->length = blob_record(s->upload->blob)->length;
    least = (b->length + BLOCKS_COMMITTED_MAX - 1) / BLOCKS_COMMITTED_MAX;
    b->block_bytes = s->upstream->conf.block_bytes;
    if (least > b->block_bytes) { /* beyond 390 GiB at 8 MiB: such a block does not fit a buffer */
        free(b);
        return NULL;
    }
    b->count = (size_t)((b->length + b->block_bytes - 1) / b->block_bytes);
    b->ids = xcalloc(b->count, sizeof(*b->ids));
    b->known = xcalloc(b->count, sizeof(*b->known));
    return b;
}

void blocks_free(struct blocks *blocks)
{
    if (!blocks)
        return;
    staged_list_free(blocks->there);
    free(blocks->ids);
    free(blocks->known);
    free(blocks);
}

static int list_body(struct wan *wan, struct span bytes)
{
    return staged_list_feed(container_of(wan, struct sending, wan)->blocks->there, bytes);
}

struct next blocks_start(struct sending *s)
{
    struct blocks *b = s->blocks ? s->blocks : blocks_new(s);

    if (!b)
        return sending_held(s, SPAN("longer than 50 000 blocks of the configured size"));
    s->blocks = b;
    b->next = 0;
    b->places = (struct places){.blob = s->upload->blob};
    b->verdict = VERDICT_DONE;
    staged_list_free(b->there);
    b->there = staged_list_new();
    sending_request(s, OP_BLOCK_LIST, WAN_GET, false);
    wan_query(&s->wan, "comp", SPAN("blocklist"));
    wan_query(&s->wan, "blocklisttype", SPAN("all"));
    s->wan.on_body = list_body;
    wan_start(&s->wan, &s->op.done);
    return AWAIT(blocks_listed);
}

static struct next blocks_listed(struct op *op)
{
    return sending_judge(SENDING(op), op->done.err, GO(blocks_list_parsed));
}

static struct next blocks_list_parsed(struct op *op)
{
    struct sending *s = SENDING(op);
    const struct block_name *names;
    size_t n;

    if (s->wan.answer.status == 200 && staged_list_end(s->blocks->there))
        return sending_retry(s, SPAN("the cloud's block list is broken"), 0);
    names = staged_list_get(s->blocks->there, true, &n);
    s->looking = blocks_match(s, names, n);
    return s->looking ? prove_start(s) : GO(blocks_stage);
}

struct next blocks_go_on(struct sending *s)
{
    s->looking = false;
    return GO(blocks_stage);
}

static struct next blocks_stage(struct op *op)
{
    struct sending *s = SENDING(op);
    struct blocks *b = s->blocks;

    while (b->running < BLOCKS_PARALLEL && b->next < b->count && b->verdict == VERDICT_DONE)
        part_start(s);
    if (b->running) {
        b->awaited = true;
        return AWAIT(blocks_stage);
    }
    if (b->verdict != VERDICT_DONE)
        return sending_decide(s, b->verdict, b->reason, b->after_ns, FINISH);
    return blocks_commit(s);
}

static struct span commit_xml(struct sending *s)
{
    static const char head[] = "<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>",
                      open[] = "<Latest>", close[] = "</Latest>", tail[] = "</BlockList>";
    const struct blocks *b = s->blocks;
    size_t row = strlen(open) + BASE64_BYTES(BLOCK_ID_BYTES) + strlen(close);
    char *xml = arena_alloc(s->wan.arena, sizeof(head) + b->count * row + sizeof(tail)), *at = xml;

    at = mempcpy(at, head, strlen(head));
    for (size_t i = 0; i < b->count; i++) {
        at = mempcpy(at, open, strlen(open));
        at += base64_encode(id_span(b, i), at);
        at = mempcpy(at, close, strlen(close));
    }
    at = mempcpy(at, tail, strlen(tail));
    return span_from(xml, (size_t)(at - xml));
}

struct next blocks_commit(struct sending *s)
{
    const struct blob_record *record = blob_record(s->upload->blob);

    FAILPOINT("upload_blocks_sent");
    sending_request(s, OP_COMMIT, WAN_PUT, true);
    wan_query(&s->wan, "comp", SPAN("blocklist"));
    record_to_headers(&s->wan, record);
    metadata_to_headers(&s->wan, record->metadata, record->metadata_count);
    tags_to_header(&s->wan, record->tags);
    access_tier_to_header(&s->wan, record);
    s->wan.body = commit_xml(s);
    wan_start(&s->wan, &s->op.done);
    return AWAIT(blocks_committed);
}

static struct next blocks_committed(struct op *op)
{
    return sending_judge(SENDING(op), op->done.err, GO(blocks_confirmed));
}

static struct next blocks_confirmed(struct op *op)
{
    return sending_confirmed(SENDING(op));
}

bool blocks_match(const struct sending *s, const struct block_name *names, size_t count)
{
    struct places places = {.blob = s->upload->blob};
    const struct blocks *b = s->blocks;
    uint64_t length = blob_record(places.blob)->length, bytes = s->upstream->conf.block_bytes;

    if (!length || count != (length + bytes - 1) / bytes)
        return false;
    for (size_t i = 0; i < count; i++) {
        char place[BLOCK_PLACE_BYTES];
        bool placed = place_print(s->upstream->conf.cache, &places, i * bytes, place);
        bool known = b && b->known[i];

        if (names[i].bytes != MIN(bytes, length - i * bytes) || names[i].id.len != BLOCK_ID_BYTES ||
            (!placed && !known) || memcmp(names[i].id.base, place, sizeof(place)) != 0 ||
            (known && !span_eq(names[i].id, id_span(b, i))))
            return false;
    }
    return true;
}
