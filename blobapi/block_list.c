#include "blobapi/block_list.h"

#include "base/text.h"
#include "base/xml.h"

#define BLOCK_LIST_ROOM 256 /* entries the array begins with; it doubles */

struct block_list {
    struct xml *xml;
    struct arena *arena;
    struct block_ref *entries;
    size_t count, room;
};

static int block_source_of(struct span name, enum block_source *ret)
{
    if (span_eq(name, SPAN("Latest")))
        *ret = BLOCK_LATEST;
    else if (span_eq(name, SPAN("Committed")))
        *ret = BLOCK_COMMITTED;
    else if (span_eq(name, SPAN("Uncommitted")))
        *ret = BLOCK_UNCOMMITTED;
    else
        return -EBADMSG;
    return 0;
}

static int block_list_opens(void *arg, struct xml *xml, struct span name,
                            const char *const *attributes)
{
    enum block_source source;

    (void)arg, (void)attributes; /* namespaces and the like say nothing here */
    switch (xml_depth(xml)) {
    case 0:
        return span_eq(name, SPAN("BlockList")) ? 0 : -EBADMSG;
    case 1:
        return block_source_of(name, &source);
    default:
        return -EBADMSG;
    }
}

static void block_list_add(struct block_list *list, enum block_source source, struct span id)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : BLOCK_LIST_ROOM;

        list->entries = arena_grow(list->arena, list->entries, list->room * sizeof(*list->entries),
                                   room * sizeof(*list->entries));
        list->room = room;
    }
    list->entries[list->count++] = (struct block_ref){source, arena_copy(list->arena, id)};
}

static struct span trim_lines(struct span s) /* XML white space */
{
    while (s.len && memchr(" \t\r\n", s.base[0], 4))
        s = span_skip(s, 1);
    while (s.len && memchr(" \t\r\n", s.base[s.len - 1], 4))
        s.len--;
    return s;
}

static int block_list_ends(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct block_list *list = arg;
    enum block_source source;
    char id[BLOCK_ID_BYTES_MAX];
    size_t bytes;

    if (xml_depth(xml) == 0)
        return trim_lines(text).len ? -EBADMSG : 0;
    if (block_source_of(name, &source) < 0)
        return -EBADMSG;
    if (block_id_decode(trim_lines(text), id, &bytes) < 0)
        return -EINVAL;
    if (list->count == BLOCKS_COMMITTED_MAX)
        return -E2BIG;
    block_list_add(list, source, span_from(id, bytes));
    return 0;
}

struct block_list *block_list_open(struct arena *arena)
{
    static const struct xml_ops ops = {block_list_opens, block_list_ends};
    struct block_list *list = xcalloc(1, sizeof(*list));

    list->arena = arena;
    list->xml = xml_new(&ops, list);
    return list;
}

int block_list_feed(struct block_list *list, struct span text)
{
    return xml_feed(list->xml, text);
}

int block_list_finish(struct block_list *list, const struct block_ref **ret, size_t *ret_n)
{
    int err = xml_end(list->xml);

    if (err)
        return err;
    *ret = list->entries;
    *ret_n = list->count;
    return 0;
}

struct block_list *block_list_close(struct block_list *list)
{
    if (!list)
        return NULL;
    list->xml = xml_free(list->xml);
    free(list);
    return NULL;
}

int block_id_decode(struct span text, char ret[BLOCK_ID_BYTES_MAX], size_t *ret_len)
{
    char id[BASE64_BYTES(BLOCK_ID_BYTES_MAX) / 4 * 3];
    size_t len;

    if (text.len == 0 || text.len > BASE64_BYTES(BLOCK_ID_BYTES_MAX) ||
        base64_decode(text, id, &len) < 0 || len < 1 || len > BLOCK_ID_BYTES_MAX)
        return -EINVAL;
    memcpy(ret, id, len);
    *ret_len = len;
    return 0;
}
