/* blobapi/service_xml.c - StorageServiceProperties: read in two passes, texts first, then what they
 * say, so that it does not matter in which order they stand. */
#include "blobapi/service.h"

#include "base/text.h"
#include "base/xml.h"

bool version_fits(struct span v)
{
    static const char form[] = "dddd-dd-dd";

    if (v.len != sizeof(form) - 1)
        return false;
    for (size_t i = 0; i < v.len; i++)
        if (form[i] == 'd' ? v.base[i] < '0' || v.base[i] > '9' : v.base[i] != form[i])
            return false;
    return true;
}

#define ROOT_DEPTH 0
#define PART_DEPTH 1

/* ---- texts ---- */

enum leaf {
    LOGGING_VERSION,
    LOGGING_DELETE,
    LOGGING_READ,
    LOGGING_WRITE,
    LOGGING_RETENTION_ENABLED,
    LOGGING_RETENTION_DAYS,
    HOUR_VERSION,
    HOUR_ENABLED,
    HOUR_INCLUDE_APIS,
    HOUR_RETENTION_ENABLED,
    HOUR_RETENTION_DAYS,
    MINUTE_VERSION,
    MINUTE_ENABLED,
    MINUTE_INCLUDE_APIS,
    MINUTE_RETENTION_ENABLED,
    MINUTE_RETENTION_DAYS,
    DEFAULT_VERSION,
    DELETE_ENABLED,
    DELETE_DAYS,
    DELETE_PERMANENT,
    WEBSITE_ENABLED,
    WEBSITE_INDEX,
    WEBSITE_ERROR,
    WEBSITE_DEFAULT_INDEX,
    LEAVES,
};
static const struct leaf_row {
    struct span part, group, name; /* group: the element between them, or empty */
} leaf_rows[LEAVES] = {
#define RETENTION SPAN("RetentionPolicy")
    [LOGGING_VERSION] = {SPAN("Logging"), SPAN(""), SPAN("Version")},
    [LOGGING_DELETE] = {SPAN("Logging"), SPAN(""), SPAN("Delete")},
    [LOGGING_READ] = {SPAN("Logging"), SPAN(""), SPAN("Read")},
    [LOGGING_WRITE] = {SPAN("Logging"), SPAN(""), SPAN("Write")},
    [LOGGING_RETENTION_ENABLED] = {SPAN("Logging"), RETENTION, SPAN("Enabled")},
    [LOGGING_RETENTION_DAYS] = {SPAN("Logging"), RETENTION, SPAN("Days")},
    [HOUR_VERSION] = {SPAN("HourMetrics"), SPAN(""), SPAN("Version")},
    [HOUR_ENABLED] = {SPAN("HourMetrics"), SPAN(""), SPAN("Enabled")},
    [HOUR_INCLUDE_APIS] = {SPAN("HourMetrics"), SPAN(""), SPAN("IncludeAPIs")},
    [HOUR_RETENTION_ENABLED] = {SPAN("HourMetrics"), RETENTION, SPAN("Enabled")},
    [HOUR_RETENTION_DAYS] = {SPAN("HourMetrics"), RETENTION, SPAN("Days")},
    [MINUTE_VERSION] = {SPAN("MinuteMetrics"), SPAN(""), SPAN("Version")},
    [MINUTE_ENABLED] = {SPAN("MinuteMetrics"), SPAN(""), SPAN("Enabled")},
    [MINUTE_INCLUDE_APIS] = {SPAN("MinuteMetrics"), SPAN(""), SPAN("IncludeAPIs")},
    [MINUTE_RETENTION_ENABLED] = {SPAN("MinuteMetrics"), RETENTION, SPAN("Enabled")},
    [MINUTE_RETENTION_DAYS] = {SPAN("MinuteMetrics"), RETENTION, SPAN("Days")},
    [DEFAULT_VERSION] = {SPAN("DefaultServiceVersion"), SPAN(""), SPAN("")},
    [DELETE_ENABLED] = {SPAN("DeleteRetentionPolicy"), SPAN(""), SPAN("Enabled")},
    [DELETE_DAYS] = {SPAN("DeleteRetentionPolicy"), SPAN(""), SPAN("Days")},
    [DELETE_PERMANENT] = {SPAN("DeleteRetentionPolicy"), SPAN(""), SPAN("AllowPermanentDelete")},
    [WEBSITE_ENABLED] = {SPAN("StaticWebsite"), SPAN(""), SPAN("Enabled")},
    [WEBSITE_INDEX] = {SPAN("StaticWebsite"), SPAN(""), SPAN("IndexDocument")},
    [WEBSITE_ERROR] = {SPAN("StaticWebsite"), SPAN(""), SPAN("ErrorDocument404Path")},
    [WEBSITE_DEFAULT_INDEX] = {SPAN("StaticWebsite"), SPAN(""), SPAN("DefaultIndexDocumentPath")},
#undef RETENTION
};
enum cors_leaf {
    CORS_ORIGINS,
    CORS_METHODS,
    CORS_ALLOWED_HEADERS,
    CORS_EXPOSED_HEADERS,
    CORS_MAX_AGE,
    CORS_LEAVES
};
static const struct span cors_names[CORS_LEAVES] = {SPAN("AllowedOrigins"), SPAN("AllowedMethods"),
                                                    SPAN("AllowedHeaders"), SPAN("ExposedHeaders"),
                                                    SPAN("MaxAgeInSeconds")};
static const struct span part_names[] = {
    SPAN("Logging"),       SPAN("HourMetrics"),           SPAN("MinuteMetrics"),
    SPAN("Cors"),          SPAN("DefaultServiceVersion"), SPAN("DeleteRetentionPolicy"),
    SPAN("StaticWebsite"),
}; /* as the bits of enum service_part */

struct service_texts {
    struct arena *arena;
    struct xml_fault *fault;
    unsigned parts;
    struct span leaves[LEAVES]; /* base NULL: not given */
    struct span cors[CORS_RULES_MAX][CORS_LEAVES];
    unsigned cors_count;
};

static int fault_at(struct service_texts *t, enum az_error error, struct span node,
                    struct span value)
{
    *t->fault = (struct xml_fault){error, arena_copy(t->arena, node), arena_copy(t->arena, value)};
    return -EINVAL;
}

static int part_of(struct span name)
{
    for (unsigned i = 0; i < countof(part_names); i++)
        if (span_eq(name, part_names[i]))
            return 1 << i;
    return 0;
}

static struct span part_above(struct xml *xml)
{
    return xml_above(xml, xml_depth(xml) - PART_DEPTH);
}

/* Where the text of the element at hand goes; NULL: it has none of its own. */
static struct span *leaf_of(struct service_texts *t, struct xml *xml, struct span name)
{
    unsigned depth = xml_depth(xml);
    struct span part = depth >= PART_DEPTH ? part_above(xml) : SPAN("");
    struct span group = depth == PART_DEPTH + 2 ? xml_above(xml, 1) : SPAN("");

    if (span_eq(part, SPAN("Cors")) && span_eq(group, SPAN("CorsRule")))
        for (unsigned i = 0; i < CORS_LEAVES; i++)
            if (span_eq(name, cors_names[i]))
                return &t->cors[t->cors_count - 1][i];
    for (unsigned i = 0; i < LEAVES; i++) {
        const struct leaf_row *row = &leaf_rows[i];
        bool at_part = !row->name.len && depth == PART_DEPTH;
        bool below = row->name.len && span_eq(row->group, group) && span_eq(row->name, name) &&
                     depth == (group.len ? PART_DEPTH + 2 : PART_DEPTH + 1);

        if (span_eq(row->part, part) && (at_part || below))
            return &t->leaves[i];
    }
    return NULL;
}

static int part_opens(struct service_texts *t, struct span name)
{
    int part = part_of(name);

    if (!part)
        return fault_at(t, AZ_UNSUPPORTED_XML_NODE, name, SPAN(""));
    if (t->parts & (unsigned)part) /* twice: which of them is meant? */
        return fault_at(t, AZ_INVALID_XML_DOCUMENT, name, SPAN(""));
    t->parts |= (unsigned)part;
    return 0;
}

/* RetentionPolicy or CorsRule. */
static int group_opens(struct service_texts *t, struct xml *xml, struct span name)
{
    struct span part = part_above(xml);

    if (xml_depth(xml) != PART_DEPTH + 1)
        return fault_at(t, AZ_UNSUPPORTED_XML_NODE, name, SPAN(""));
    if (span_eq(part, SPAN("Cors")) && span_eq(name, SPAN("CorsRule"))) {
        if (t->cors_count == CORS_RULES_MAX)
            return fault_at(t, AZ_INVALID_XML_DOCUMENT, name, SPAN(""));
        t->cors_count++;
        return 0;
    }
    for (unsigned i = 0; i < LEAVES; i++)
        if (span_eq(leaf_rows[i].part, part) && leaf_rows[i].group.len &&
            span_eq(leaf_rows[i].group, name))
            return 0;
    return fault_at(t, AZ_UNSUPPORTED_XML_NODE, name, SPAN(""));
}

static int service_opens(void *arg, struct xml *xml, struct span name,
                         const char *const *attributes)
{
    struct service_texts *t = arg;
    struct span *leaf;

    (void)attributes; /* namespaces and the like say nothing here */
    if (xml_depth(xml) == ROOT_DEPTH)
        return span_eq(name, SPAN("StorageServiceProperties")) ? 0 : -EBADMSG;
    leaf = leaf_of(t, xml, name);
    if (leaf && leaf->base)
        return fault_at(t, AZ_INVALID_XML_DOCUMENT, name, SPAN(""));
    if (xml_depth(xml) == PART_DEPTH)
        return part_opens(t, name);
    return leaf ? 0 : group_opens(t, xml, name);
}

static struct span xml_trimmed(struct span s)
{
    while (s.len && memchr(" \t\r\n", s.base[0], 4))
        s = span_skip(s, 1);
    while (s.len && memchr(" \t\r\n", s.base[s.len - 1], 4))
        s.len--;
    return s;
}

static int service_ends(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct service_texts *t = arg;
    struct span *leaf = leaf_of(t, xml, name), said = xml_trimmed(text);

    if (!leaf)
        return said.len ? -EBADMSG : 0;
    *leaf = arena_copy(t->arena, said);
    return 0;
}

/* ---- what they say ---- */

static enum az_error bad_value(struct xml_fault *fault, struct span node, struct span value)
{
    *fault = (struct xml_fault){AZ_INVALID_XML_NODE_VALUE, node, value};
    return fault->error;
}

static enum az_error missing(struct xml_fault *fault, struct span node)
{
    *fault = (struct xml_fault){AZ_MISSING_REQUIRED_XML_NODE, node, SPAN("")};
    return fault->error;
}

static struct span leaf_name(enum leaf leaf)
{
    return leaf_rows[leaf].name.len ? leaf_rows[leaf].name : leaf_rows[leaf].part;
}

/* required or not; *ret stays as it is when it is not given. */
static enum az_error leaf_bool(const struct service_texts *t, enum leaf leaf, bool required,
                               bool *ret)
{
    struct span text = t->leaves[leaf];

    if (!text.base)
        return required ? missing(t->fault, leaf_name(leaf)) : AZ_OK;
    if (!span_eq_nocase(text, SPAN("true")) && !span_eq_nocase(text, SPAN("false")))
        return bad_value(t->fault, leaf_name(leaf), text);
    *ret = span_eq_nocase(text, SPAN("true"));
    return AZ_OK;
}

/* A policy of Enabled and Days; the days of one that is not enabled say nothing. */
static enum az_error leaf_retention(const struct service_texts *t, enum leaf enabled,
                                    enum leaf days, bool required, uint32_t *ret_days)
{
    bool on = false;
    uint64_t n = 0;
    enum az_error error = leaf_bool(t, enabled, required || t->leaves[days].base, &on);

    if (error || !on)
        return error;
    if (!t->leaves[days].base)
        return missing(t->fault, leaf_name(days));
    if (span_to_u64(t->leaves[days], &n) < 0 || n < 1 || n > RETENTION_DAYS_MAX)
        return bad_value(t->fault, leaf_name(days), t->leaves[days]);
    *ret_days = (uint32_t)n;
    return AZ_OK;
}

static enum az_error version_judge(const struct service_texts *t, enum leaf leaf, bool required,
                                   struct span *ret)
{
    struct span text = t->leaves[leaf];

    if (!text.base && required)
        return missing(t->fault, leaf_name(leaf));
    if (!text.base)
        text = SPAN("1.0");
    if (!text.len || text.len > 8) /* "1.0", "2.0" */
        return bad_value(t->fault, leaf_name(leaf), text);
    for (size_t i = 0; i < text.len; i++)
        if (text.base[i] != '.' && (text.base[i] < '0' || text.base[i] > '9'))
            return bad_value(t->fault, leaf_name(leaf), text);
    *ret = text;
    return AZ_OK;
}

static enum az_error logging_judge(const struct service_texts *t, struct analytics *ret)
{
    bool del = false, read = false, write = false;
    enum az_error error = version_judge(t, LOGGING_VERSION, true, &ret->version);

    if (!error)
        error = leaf_bool(t, LOGGING_DELETE, true, &del);
    if (!error)
        error = leaf_bool(t, LOGGING_READ, true, &read);
    if (!error)
        error = leaf_bool(t, LOGGING_WRITE, true, &write);
    ret->flags =
        (read ? ANALYTICS_READ : 0) | (write ? ANALYTICS_WRITE : 0) | (del ? ANALYTICS_DELETE : 0);
    return error ? error
                 : leaf_retention(t, LOGGING_RETENTION_ENABLED, LOGGING_RETENTION_DAYS, true,
                                  &ret->retention_days);
}

/* first: HOUR_VERSION or MINUTE_VERSION, whose leaves follow in the same order. */
static enum az_error metrics_judge(const struct service_texts *t, enum leaf first,
                                   struct analytics *ret)
{
    bool enabled = false, apis = false;
    enum az_error error = version_judge(t, first, false, &ret->version);

    if (!error)
        error = leaf_bool(t, first + HOUR_ENABLED - HOUR_VERSION, true, &enabled);
    if (!error)
        error = leaf_bool(t, first + HOUR_INCLUDE_APIS - HOUR_VERSION, enabled, &apis);
    ret->flags = (enabled ? ANALYTICS_ENABLED : 0) | (enabled && apis ? ANALYTICS_INCLUDE_APIS : 0);
    return error ? error
                 : leaf_retention(t, first + HOUR_RETENTION_ENABLED - HOUR_VERSION,
                                  first + HOUR_RETENTION_DAYS - HOUR_VERSION, false,
                                  &ret->retention_days);
}

static bool visible(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.base[i] < 0x20 || (unsigned char)s.base[i] > 0x7e)
            return false;
    return true;
}

/* A comma list of a rule; prefixes: '*' at an item's end counts as one. */
static bool list_fits(struct span list, bool prefixes)
{
    unsigned items = 0, starred = 0;

    if (!visible(list))
        return false;
    while (list.len) {
        struct span item = span_trim(span_cut(list, ',', &list));

        if (!item.len || item.len > CORS_ITEM_BYTES_MAX)
            return false;
        starred += prefixes && item.base[item.len - 1] == '*';
        items++;
    }
    return items - starred <= CORS_ITEMS_MAX && starred <= CORS_PREFIXES_MAX;
}

static bool methods_fit(struct span list)
{
    static const struct span methods[] = {SPAN("DELETE"), SPAN("GET"),     SPAN("HEAD"),
                                          SPAN("MERGE"),  SPAN("OPTIONS"), SPAN("PATCH"),
                                          SPAN("POST"),   SPAN("PUT")};

    while (list.len) {
        struct span item = span_trim(span_cut(list, ',', &list));
        unsigned i = 0;

        while (i < countof(methods) && !span_eq(item, methods[i]))
            i++;
        if (i == countof(methods))
            return false;
    }
    return true;
}

static enum az_error cors_rule_judge(const struct service_texts *t, const struct span texts[],
                                     struct cors_rule *ret)
{
    uint64_t age;

    for (unsigned i = 0; i < CORS_LEAVES; i++)
        if (!texts[i].base)
            return missing(t->fault, cors_names[i]);
    for (unsigned i = 0; i < CORS_MAX_AGE; i++) {
        bool needed = i == CORS_ORIGINS || i == CORS_METHODS;

        if ((needed && !texts[i].len) || !list_fits(texts[i], !needed) ||
            (i == CORS_METHODS && !methods_fit(texts[i])))
            return bad_value(t->fault, cors_names[i], texts[i]);
    }
    if (span_to_u64(texts[CORS_MAX_AGE], &age) < 0 || age > INT32_MAX)
        return bad_value(t->fault, cors_names[CORS_MAX_AGE], texts[CORS_MAX_AGE]);
    *ret = (struct cors_rule){texts[CORS_ORIGINS], texts[CORS_METHODS], texts[CORS_ALLOWED_HEADERS],
                              texts[CORS_EXPOSED_HEADERS], (uint32_t)age};
    return AZ_OK;
}

static enum az_error cors_judge(const struct service_texts *t, struct service_record *ret)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < t->cors_count; i++) {
        enum az_error error = cors_rule_judge(t, t->cors[i], &ret->cors[i]);

        if (error)
            return error;
        for (unsigned leaf = 0; leaf < CORS_LEAVES; leaf++)
            bytes += t->cors[i][leaf].len;
    }
    ret->cors_count = t->cors_count;
    return bytes > CORS_BYTES_MAX ? bad_value(t->fault, SPAN("Cors"), SPAN("")) : AZ_OK;
}

static enum az_error default_version_judge(const struct service_texts *t, struct span *ret)
{
    struct span text = t->leaves[DEFAULT_VERSION];

    if (text.len && !version_fits(text))
        return bad_value(t->fault, leaf_name(DEFAULT_VERSION), text);
    *ret = text;
    return AZ_OK;
}

static enum az_error delete_judge(const struct service_texts *t, struct delete_retention *ret)
{
    enum az_error error = leaf_retention(t, DELETE_ENABLED, DELETE_DAYS, true, &ret->days);

    ret->enabled = ret->days > 0;
    return error ? error : leaf_bool(t, DELETE_PERMANENT, false, &ret->permanent_delete);
}

static enum az_error website_judge(const struct service_texts *t, struct website *ret)
{
    enum az_error error = leaf_bool(t, WEBSITE_ENABLED, true, &ret->enabled);

    if (error || !ret->enabled) /* what it would name is dropped, as the service does */
        return error;
    for (enum leaf leaf = WEBSITE_INDEX; leaf <= WEBSITE_DEFAULT_INDEX; leaf++)
        if (t->leaves[leaf].len > 255)
            return bad_value(t->fault, leaf_name(leaf), t->leaves[leaf]);
    if (t->leaves[WEBSITE_INDEX].len && t->leaves[WEBSITE_DEFAULT_INDEX].len) /* one or the other */
        return bad_value(t->fault, leaf_name(WEBSITE_DEFAULT_INDEX),
                         t->leaves[WEBSITE_DEFAULT_INDEX]);
    ret->index_document = t->leaves[WEBSITE_INDEX];
    ret->error_document = t->leaves[WEBSITE_ERROR];
    ret->default_index_path = t->leaves[WEBSITE_DEFAULT_INDEX];
    return AZ_OK;
}

static enum az_error parts_judge(const struct service_texts *t, struct service_record *ret)
{
    enum az_error error = AZ_OK;

    if (t->parts & SERVICE_LOGGING)
        error = logging_judge(t, &ret->logging);
    if (!error && (t->parts & SERVICE_HOUR_METRICS))
        error = metrics_judge(t, HOUR_VERSION, &ret->hour_metrics);
    if (!error && (t->parts & SERVICE_MINUTE_METRICS))
        error = metrics_judge(t, MINUTE_VERSION, &ret->minute_metrics);
    if (!error && (t->parts & SERVICE_CORS))
        error = cors_judge(t, ret);
    if (!error && (t->parts & SERVICE_VERSION))
        error = default_version_judge(t, &ret->default_version);
    if (!error && (t->parts & SERVICE_DELETE_RETENTION))
        error = delete_judge(t, &ret->delete_retention);
    if (!error && (t->parts & SERVICE_WEBSITE))
        error = website_judge(t, &ret->website);
    return error;
}

enum az_error service_document_parse(struct span text, struct arena *arena,
                                     struct service_document *ret, struct xml_fault *fault)
{
    static const struct xml_ops ops = {service_opens, service_ends};
    struct service_texts texts = {.arena = arena, .fault = fault};
    struct xml *xml = xml_new(&ops, &texts);
    int err;

    *fault = (struct xml_fault){.error = AZ_INVALID_XML_DOCUMENT};
    err = xml_feed(xml, text);
    if (!err)
        err = xml_end(xml);
    xml_free(xml);
    if (err)
        return fault->error;
    *ret = (struct service_document){.parts = texts.parts};
    return parts_judge(&texts, &ret->record);
}

void service_document_apply(const struct service_document *document, struct service_record *record)
{
    const struct service_record *given = &document->record;

    if (document->parts & SERVICE_LOGGING)
        record->logging = given->logging;
    if (document->parts & SERVICE_HOUR_METRICS)
        record->hour_metrics = given->hour_metrics;
    if (document->parts & SERVICE_MINUTE_METRICS)
        record->minute_metrics = given->minute_metrics;
    if (document->parts & SERVICE_CORS) {
        memcpy(record->cors, given->cors, sizeof(record->cors));
        record->cors_count = given->cors_count;
    }
    if (document->parts & SERVICE_VERSION)
        record->default_version = given->default_version;
    if (document->parts & SERVICE_DELETE_RETENTION)
        record->delete_retention = given->delete_retention;
    if (document->parts & SERVICE_WEBSITE)
        record->website = given->website;
}

/* ---- writing ---- */

static void emit_element(struct emit *e, struct span name, struct span text)
{
    EMIT(e, "<");
    emit_span(e, name);
    EMIT(e, ">");
    emit_xml(e, text);
    EMIT(e, "</");
    emit_span(e, name);
    EMIT(e, ">");
}

static void emit_bool(struct emit *e, struct span name, bool v)
{
    emit_element(e, name, v ? SPAN("true") : SPAN("false"));
}

static void emit_number(struct emit *e, struct span name, uint64_t n)
{
    EMIT(e, "<");
    emit_span(e, name);
    EMIT(e, ">");
    emit_u64(e, n);
    EMIT(e, "</");
    emit_span(e, name);
    EMIT(e, ">");
}

static void emit_retention(struct emit *e, uint32_t days)
{
    EMIT(e, "<RetentionPolicy>");
    emit_bool(e, SPAN("Enabled"), days > 0);
    if (days)
        emit_number(e, SPAN("Days"), days);
    EMIT(e, "</RetentionPolicy>");
}

static void emit_logging(struct emit *e, const struct analytics *a)
{
    EMIT(e, "<Logging>");
    emit_element(e, SPAN("Version"), a->version);
    emit_bool(e, SPAN("Read"), a->flags & ANALYTICS_READ);
    emit_bool(e, SPAN("Write"), a->flags & ANALYTICS_WRITE);
    emit_bool(e, SPAN("Delete"), a->flags & ANALYTICS_DELETE);
    emit_retention(e, a->retention_days);
    EMIT(e, "</Logging>");
}

static void emit_metrics(struct emit *e, const struct analytics *a)
{
    emit_element(e, SPAN("Version"), a->version);
    emit_bool(e, SPAN("Enabled"), a->flags & ANALYTICS_ENABLED);
    if (a->flags & ANALYTICS_ENABLED)
        emit_bool(e, SPAN("IncludeAPIs"), a->flags & ANALYTICS_INCLUDE_APIS);
    emit_retention(e, a->retention_days);
}

static void emit_cors(struct emit *e, const struct service_record *r)
{
    if (!r->cors_count) {
        EMIT(e, "<Cors />");
        return;
    }
    EMIT(e, "<Cors>");
    for (unsigned i = 0; i < r->cors_count; i++) {
        EMIT(e, "<CorsRule>");
        emit_element(e, cors_names[CORS_METHODS], r->cors[i].methods);
        emit_element(e, cors_names[CORS_ORIGINS], r->cors[i].origins);
        emit_element(e, cors_names[CORS_ALLOWED_HEADERS], r->cors[i].allowed_headers);
        emit_element(e, cors_names[CORS_EXPOSED_HEADERS], r->cors[i].exposed_headers);
        emit_number(e, cors_names[CORS_MAX_AGE], r->cors[i].max_age_s);
        EMIT(e, "</CorsRule>");
    }
    EMIT(e, "</Cors>");
}

static void emit_delete_retention(struct emit *e, const struct delete_retention *d)
{
    EMIT(e, "<DeleteRetentionPolicy>");
    emit_bool(e, SPAN("Enabled"), d->enabled);
    if (d->enabled)
        emit_number(e, SPAN("Days"), d->days);
    if (d->enabled && d->permanent_delete)
        emit_bool(e, SPAN("AllowPermanentDelete"), true);
    EMIT(e, "</DeleteRetentionPolicy>");
}

static void emit_website(struct emit *e, const struct website *w)
{
    const struct span texts[] = {w->index_document, w->error_document, w->default_index_path};

    EMIT(e, "<StaticWebsite>");
    emit_bool(e, SPAN("Enabled"), w->enabled);
    for (unsigned i = 0; i < countof(texts); i++)
        if (texts[i].len)
            emit_element(e, leaf_name(WEBSITE_INDEX + i), texts[i]);
    EMIT(e, "</StaticWebsite>");
}

/* Each part since the version of the service that brought it. */
void service_document_emit(struct emit *e, const struct service_record *r, struct span version)
{
    EMIT(e, "<?xml version=\"1.0\" encoding=\"utf-8\"?><StorageServiceProperties>");
    emit_logging(e, &r->logging);
    EMIT(e, "<HourMetrics>");
    emit_metrics(e, &r->hour_metrics);
    EMIT(e, "</HourMetrics><MinuteMetrics>");
    emit_metrics(e, &r->minute_metrics);
    EMIT(e, "</MinuteMetrics>");
    emit_cors(e, r);
    if (r->default_version.len)
        emit_element(e, SPAN("DefaultServiceVersion"), r->default_version);
    if (span_cmp(version, SPAN("2017-07-29")) >= 0)
        emit_delete_retention(e, &r->delete_retention);
    if (span_cmp(version, SPAN("2018-03-28")) >= 0)
        emit_website(e, &r->website);
    EMIT(e, "</StorageServiceProperties>");
}
