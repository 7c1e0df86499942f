/* upstream/list_page.c - listing XML into records. Shape: reference blob-api-surface.md section 7.
 * Elements we do not keep are passed over; a row that lacks what a HEAD would give (name, length,
 * ETag, time, type) makes the page -EBADMSG: half knowledge would be served as the truth. */
#include "upstream/list_page.h"

#include "upstream/internal.h"

#include <stdlib.h>

#include "base/digest.h"
#include "base/text.h"
#include "cache/access_tier.h"

struct list_page {
    struct xml *xml;
    struct arena *arena;
    struct learned_row *rows;
    struct container_record *containers;
    size_t row_count, row_room, container_count, container_room;
    struct span marker;
    /* the element being read */
    struct blob_record blob;
    struct container_record container;
    struct pair *metadata;
    unsigned metadata_count, metadata_room;
    struct span name;
    bool listing; /* the root is a listing's: else well-formed nonsense would be an empty one */
    bool encoded, skip; /* skip: a snapshot, version or deleted row; only base blobs are learned */
};

static struct span keep(struct list_page *page, struct span text)
{
    return text.len ? arena_copy(page->arena, text) : (struct span){NULL, 0};
}

/* ---- one row ---- */

static int keep_name(struct list_page *page, struct span text)
{
    char *decoded = arena_alloc(page->arena, text.len + 1);
    size_t n = text.len;

    if (page->encoded) {
        if (percent_decode(text, decoded, &n))
            return -EBADMSG;
    } else {
        memcpy(decoded, text.base, text.len);
    }
    page->name = span_from(decoded, n);
    return n ? 0 : -EBADMSG;
}

static void keep_metadata(struct list_page *page, struct span name, struct span text)
{
    if (page->metadata_count == page->metadata_room) {
        unsigned room = page->metadata_room ? page->metadata_room * 2 : 4;

        page->metadata =
            arena_grow(page->arena, page->metadata, page->metadata_room * sizeof(*page->metadata),
                       room * sizeof(*page->metadata));
        page->metadata_room = room;
    }
    page->metadata[page->metadata_count++] =
        (struct pair){keep(page, name), text.len ? keep(page, text) : SPAN("")};
}

static struct span quoted(struct list_page *page, struct span etag)
{
    if (!etag.len || etag.base[0] == '"')
        return keep(page, etag);
    return arena_printf(page->arena, "\"%.*s\"", SPAN_FMT(etag));
}

static struct span md5_bytes(struct list_page *page, struct span text)
{
    char *bytes = arena_alloc(page->arena, 32);
    size_t n = 0;

    if (text.len != BASE64_BYTES(MD5_BYTES) || base64_decode(text, bytes, &n) || n != MD5_BYTES)
        return (struct span){NULL, 0};
    return span_from(bytes, n);
}

static int keep_type(struct list_page *page, struct span text)
{
    if (span_eq(text, SPAN("BlockBlob")))
        page->blob.type = BLOB_BLOCK;
    else if (span_eq(text, SPAN("AppendBlob")))
        page->blob.type = BLOB_APPEND;
    else if (span_eq(text, SPAN("PageBlob")))
        page->blob.type = BLOB_PAGE;
    else
        return -EBADMSG;
    return 0;
}

static void keep_lease(enum cloud_lease *lease, struct span name, struct span text)
{
    if (span_eq(name, SPAN("LeaseState"))) /* the duration comes behind it */
        *lease = answer_lease(text, SPAN(""));
    else if (span_eq(name, SPAN("LeaseDuration")) && *lease == CLOUD_LEASE_FIXED)
        *lease = answer_lease(SPAN("leased"), text);
}

static bool keep_access_tier(struct blob_record *blob, struct span name, struct span text)
{
    int64_t changed_ns;

    if (span_eq(name, SPAN("AccessTier")))
        blob->access_tier = access_tier_of(text);
    else if (span_eq(name, SPAN("AccessTierInferred")))
        blob->access_tier_inferred = span_eq_nocase(text, SPAN("true"));
    else if (span_eq(name, SPAN("ArchiveStatus")))
        blob->rehydrating = access_tier_rehydrating(text);
    else if (span_eq(name, SPAN("AccessTierChangeTime")))
        blob->access_tier_changed_ns = http_date_parse(text, &changed_ns) < 0 ? 0 : changed_ns;
    else
        return false;
    return true;
}

static int keep_tag_count(struct list_page *page, struct span text)
{
    uint64_t n;

    if (span_to_u64(text, &n) < 0 || n > UINT32_MAX)
        return -EBADMSG;
    page->blob.tags_unknown = (uint32_t)n;
    return 0;
}

static int keep_blob_date_or_size(struct list_page *page, struct span name, struct span text)
{
    struct blob_record *blob = &page->blob;

    if (span_eq(name, SPAN("Last-Modified")))
        return http_date_parse(text, &blob->cloud_modified_ns) ? -EBADMSG : 0;
    if (span_eq(name, SPAN("Creation-Time")))
        return http_date_parse(text, &blob->created_ns) ? -EBADMSG : 0;
    if (span_eq(name, SPAN("Content-Length")))
        return span_to_u64(text, &blob->length) ? -EBADMSG : 0;
    keep_lease(&blob->cloud_lease, name, text);
    if (span_eq(name, SPAN("TagCount")))
        return keep_tag_count(page, text);
    if (keep_access_tier(blob, name, text))
        return 0;
    return span_eq(name, SPAN("BlobType")) ? keep_type(page, text) : 0;
}

static int keep_blob_property(struct list_page *page, struct span name, struct span text)
{
    struct blob_record *blob = &page->blob;
    const struct {
        struct span name, *into;
    } texts[] = {
        {SPAN("Content-Type"), &blob->content_type},
        {SPAN("Content-Encoding"), &blob->content_encoding},
        {SPAN("Content-Language"), &blob->content_language},
        {SPAN("Content-Disposition"), &blob->content_disposition},
        {SPAN("Cache-Control"), &blob->cache_control},
    };

    for (size_t i = 0; i < countof(texts); i++)
        if (span_eq(name, texts[i].name)) {
            *texts[i].into = keep(page, text);
            return 0;
        }
    if (span_eq(name, SPAN("Etag")))
        blob->cloud_etag = quoted(page, text);
    else if (span_eq(name, SPAN("Content-MD5")))
        blob->content_md5 = md5_bytes(page, text);
    else
        return keep_blob_date_or_size(page, name, text);
    return 0;
}

static void keep_container_property(struct list_page *page, struct span name, struct span text)
{
    if (span_eq(name, SPAN("PublicAccess")))
        page->container.public_access = keep(page, text);
    keep_lease(&page->container.cloud_lease, name, text);
    if (span_eq(name, SPAN("Last-Modified")) && http_date_parse(text, &page->container.modified_ns))
        page->container.modified_ns = 0; /* unknown */
}

/* ---- whole rows ---- */

static void *grow(struct arena *arena, void *rows, size_t count, size_t *room, size_t bytes)
{
    size_t old = *room;

    if (count < old)
        return rows;
    *room = old ? old * 2 : 64;
    return arena_grow(arena, rows, old * bytes, *room * bytes);
}

static int add_row(struct list_page *page, const struct blob_record *record)
{
    if (page->row_count == LIST_PAGE_ROWS_MAX)
        return -E2BIG;
    page->rows =
        grow(page->arena, page->rows, page->row_count, &page->row_room, sizeof(*page->rows));
    page->rows[page->row_count++] = (struct learned_row){page->name, record};
    return 0;
}

static int end_blob(struct list_page *page)
{
    struct blob_record *record;

    if (page->skip)
        return 0;
    if (!page->name.len || !page->blob.cloud_etag.len || !page->blob.type ||
        !page->blob.cloud_modified_ns)
        return -EBADMSG;
    record = arena_alloc(page->arena, sizeof(*record));
    *record = page->blob;
    record->durability = DURABILITY_CLOUD;
    record->modified_ns = record->cloud_modified_ns;
    if (!record->created_ns)
        record->created_ns = record->cloud_modified_ns;
    record->metadata = page->metadata;
    record->metadata_count = page->metadata_count;
    return add_row(page, record);
}

static int end_container(struct list_page *page)
{
    if (!page->name.len)
        return -EBADMSG;
    if (page->skip)
        return 0;
    if (page->container_count == LIST_PAGE_ROWS_MAX)
        return -E2BIG;
    page->containers = grow(page->arena, page->containers, page->container_count,
                            &page->container_room, sizeof(*page->containers));
    page->container.name = page->name;
    page->container.in_cloud = true;
    page->container.metadata = page->metadata;
    page->container.metadata_count = page->metadata_count;
    page->containers[page->container_count++] = page->container;
    return 0;
}

static bool is_row(struct span name)
{
    return span_eq(name, SPAN("Blob")) || span_eq(name, SPAN("BlobPrefix")) ||
           span_eq(name, SPAN("Container"));
}

static int on_start(void *arg, struct xml *xml, struct span name, const char *const *attributes)
{
    struct list_page *page = arg;

    if (xml_depth(xml) == 2 && is_row(name)) {
        page->blob = (struct blob_record){0};
        page->container = (struct container_record){0};
        page->name = (struct span){NULL, 0};
        page->metadata = NULL;
        page->metadata_count = page->metadata_room = 0;
        page->skip = false;
    }
    if (xml_depth(xml) == 3 && span_eq(name, SPAN("Name"))) {
        page->encoded = false;
        for (; attributes && *attributes; attributes += 2)
            page->encoded |= span_eq(span_of(attributes[0]), SPAN("Encoded")) &&
                             span_eq_nocase(span_of(attributes[1]), SPAN("true"));
    }
    return 0;
}

static int end_field(struct list_page *page, struct span name, struct span text)
{
    if (span_eq(name, SPAN("Name")))
        return keep_name(page, text);
    if (text.len && (span_eq(name, SPAN("Snapshot")) || span_eq(name, SPAN("VersionId"))))
        page->skip = true;
    if (span_eq(name, SPAN("Deleted")) && span_eq(text, SPAN("true")))
        page->skip = true;
    return 0;
}

static int end_inner(struct list_page *page, struct xml *xml, struct span name, struct span text)
{
    if (span_eq(xml_above(xml, 1), SPAN("Metadata"))) {
        keep_metadata(page, name, text);
        return 0;
    }
    if (!span_eq(xml_above(xml, 1), SPAN("Properties")))
        return 0;
    if (span_eq(xml_above(xml, 2), SPAN("Blob")))
        return keep_blob_property(page, name, text);
    if (span_eq(xml_above(xml, 2), SPAN("Container")))
        keep_container_property(page, name, text);
    return 0;
}

static int on_end(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct list_page *page = arg;

    switch (xml_depth(xml)) {
    case 0:
        page->listing = span_eq(name, SPAN("EnumerationResults"));
        return 0;
    case 1:
        if (span_eq(name, SPAN("NextMarker")))
            page->marker = keep(page, text);
        return 0;
    case 2:
        if (span_eq(name, SPAN("Blob")))
            return end_blob(page);
        if (span_eq(name, SPAN("BlobPrefix")))
            return page->name.len ? add_row(page, NULL) : -EBADMSG;
        return span_eq(name, SPAN("Container")) ? end_container(page) : 0;
    case 3:
        return end_field(page, name, text);
    case 4:
        return end_inner(page, xml, name, text);
    default:
        return 0;
    }
}

static const struct xml_ops page_ops = {.start = on_start, .end = on_end};

/* ---- the page ---- */

struct list_page *list_page_new(void)
{
    struct list_page *page = xcalloc(1, sizeof(*page));

    page->arena = arena_new();
    page->xml = xml_new(&page_ops, page);
    return page;
}

struct list_page *list_page_free(struct list_page *page)
{
    if (!page)
        return NULL;
    xml_free(page->xml);
    arena_free(page->arena);
    free(page);
    return NULL;
}

int list_page_feed(struct list_page *page, struct span bytes)
{
    return xml_feed(page->xml, bytes);
}

static int compare_rows(const void *a, const void *b)
{
    return span_cmp(((const struct learned_row *)a)->name, ((const struct learned_row *)b)->name);
}

int list_page_end(struct list_page *page, struct span from, bool *below)
{
    int err = xml_end(page->xml);
    size_t n = 0;

    *below = false;
    if (err || !page->listing)
        return err ? err : -EBADMSG;
    if (page->row_count)
        qsort(page->rows, page->row_count, sizeof(*page->rows), compare_rows);
    for (size_t i = 0; i < page->row_count; i++) {
        if (span_cmp(page->rows[i].name, from) < 0)
            *below = true;
        else if (!n || !span_eq(page->rows[n - 1].name, page->rows[i].name))
            page->rows[n++] = page->rows[i];
    }
    page->row_count = n;
    return 0;
}

const struct learned_row *list_page_rows(const struct list_page *page, size_t *ret_count)
{
    *ret_count = page->row_count;
    return page->rows;
}

const struct container_record *list_page_containers(const struct list_page *page, size_t *ret_count)
{
    *ret_count = page->container_count;
    return page->containers;
}

struct span list_page_marker(const struct list_page *page)
{
    return page->marker;
}

struct span list_page_to(struct list_page *page)
{
    const struct learned_row *last;
    char *to;
    size_t n;

    if (!page->marker.len || !page->row_count)
        return (struct span){NULL, 0};
    last = &page->rows[page->row_count - 1];
    n = last->name.len;
    to = arena_alloc(page->arena, n + 1);
    memcpy(to, last->name.base, n);
    if (last->cloud) { /* the first name after this one */
        to[n] = 0;
        return span_from(to, n + 1);
    }
    to[n -
       1]++; /* a prefix ends with its delimiter, never 0xff: all that starts with it is covered */
    return span_from(to, n);
}
