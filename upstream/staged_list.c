/* upstream/staged_list.c - the cloud's block list, read as it arrives. */
#include "upstream/upload.h"

#include "base/text.h"
#include "base/xml.h"

#define BLOCK_NAMES_MAX (BLOCKS_COMMITTED_MAX + BLOCKS_STAGED_MAX)

struct names {
    struct block_name *at;
    size_t count, room;
};

struct staged_list {
    struct xml *xml;
    struct arena *arena;
    struct names names[2]; /* uncommitted, committed */
    struct block_name block;
};

static int add_block(struct staged_list *list, bool committed)
{
    struct names *names = &list->names[committed];

    if (names->count == BLOCK_NAMES_MAX || !list->block.id.len)
        return -EBADMSG;
    if (names->count == names->room) {
        size_t room = names->room ? names->room * 2 : 64;

        names->at = arena_grow(list->arena, names->at, names->room * sizeof(*names->at),
                               room * sizeof(*names->at));
        names->room = room;
    }
    names->at[names->count++] = list->block;
    list->block = (struct block_name){0};
    return 0;
}

static int on_end(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct staged_list *list = arg;
    size_t n = 0;

    if (xml_depth(xml) == 2 && span_eq(name, SPAN("Block")))
        return add_block(list, span_eq(xml_above(xml, 1), SPAN("CommittedBlocks")));
    if (xml_depth(xml) != 3)
        return 0;
    if (span_eq(name, SPAN("Size")))
        return span_to_u64(text, &list->block.bytes) ? -EBADMSG : 0;
    if (span_eq(name, SPAN("Name"))) {
        char *id = arena_alloc(list->arena, text.len + 1);

        if (base64_decode(text, id, &n))
            return -EBADMSG;
        list->block.id = span_from(id, n);
    }
    return 0;
}

static const struct xml_ops list_ops = {.end = on_end};

struct staged_list *staged_list_new(void)
{
    struct staged_list *list = xcalloc(1, sizeof(*list));

    list->arena = arena_new();
    list->xml = xml_new(&list_ops, list);
    return list;
}

struct staged_list *staged_list_free(struct staged_list *list)
{
    if (!list)
        return NULL;
    xml_free(list->xml);
    arena_free(list->arena);
    free(list);
    return NULL;
}

int staged_list_feed(struct staged_list *list, struct span bytes)
{
    return xml_feed(list->xml, bytes);
}

static int compare_ids(const void *a, const void *b)
{
    return span_cmp(((const struct block_name *)a)->id, ((const struct block_name *)b)->id);
}

int staged_list_end(struct staged_list *list)
{
    int err = xml_end(list->xml);

    if (!err && list->names[0].count)
        qsort(list->names[0].at, list->names[0].count, sizeof(struct block_name), compare_ids);
    return err;
}

const struct block_name *staged_list_get(const struct staged_list *list, bool committed,
                                         size_t *ret_count)
{
    *ret_count = list->names[committed].count;
    return list->names[committed].at;
}

bool staged_list_has(const struct staged_list *list, struct span id, uint64_t bytes)
{
    const struct block_name key = {.id = id}, *hit;

    if (!list || !list->names[0].count)
        return false;
    hit = bsearch(&key, list->names[0].at, list->names[0].count, sizeof(key), compare_ids);
    return hit && hit->bytes == bytes;
}
