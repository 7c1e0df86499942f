/* cache/service_row.c - properties of a Blob service <-> their row (record.h). Pure. */
#include "cache/fields.h"

struct service_record service_record_default(void)
{
    const struct analytics none = {.version = SPAN("1.0")};

    return (struct service_record){.logging = none, .hour_metrics = none, .minute_metrics = none};
}

void key_service(struct row_bytes *ret, uint32_t account)
{
    ret->used = 0;
    add_u8(ret, META_SERVICE);
    row_add_u32(ret, account);
}

/* ---- writing ---- */

static void add_analytics(struct row_bytes *row, const struct analytics *a)
{
    add_counted(row, a->version);
    add_varint(row, a->flags);
    add_varint(row, a->retention_days);
}

static void field_analytics(struct row_bytes *row, const struct service_record *r)
{
    _cleanup_(row_bytes_done) struct row_bytes body = {0};

    add_analytics(&body, &r->logging);
    add_analytics(&body, &r->hour_metrics);
    add_analytics(&body, &r->minute_metrics);
    field(row, TAG_SERVICE_ANALYTICS, row_span(&body));
}

static void field_cors(struct row_bytes *row, const struct service_record *r)
{
    _cleanup_(row_bytes_done) struct row_bytes body = {0};

    for (unsigned i = 0; i < r->cors_count; i++) {
        const struct cors_rule *rule = &r->cors[i];

        add_counted(&body, rule->origins);
        add_counted(&body, rule->methods);
        add_counted(&body, rule->allowed_headers);
        add_counted(&body, rule->exposed_headers);
        add_varint(&body, rule->max_age_s);
    }
    field_span(row, TAG_SERVICE_CORS, row_span(&body));
}

static void field_website(struct row_bytes *row, const struct website *website)
{
    _cleanup_(row_bytes_done) struct row_bytes body = {0};

    add_varint(&body, website->enabled);
    add_counted(&body, website->index_document);
    add_counted(&body, website->error_document);
    add_counted(&body, website->default_index_path);
    field(row, TAG_SERVICE_WEBSITE, row_span(&body));
}

void service_row_encode(struct row_bytes *ret, const struct service_row *row)
{
    _cleanup_(row_bytes_done) struct row_bytes retention = {0};
    const struct service_record *r = &row->record;

    ret->used = 0;
    add_u8(ret, ROW_FORMAT);
    field_span(ret, TAG_SERVICE_VERSION, r->default_version);
    field_analytics(ret, r);
    field_cors(ret, r);
    add_varint(&retention, r->delete_retention.enabled);
    add_varint(&retention, r->delete_retention.permanent_delete);
    add_varint(&retention, r->delete_retention.days);
    field(ret, TAG_SERVICE_DELETE_RETENTION, row_span(&retention));
    field_website(ret, &r->website);
    row_add(ret, row->unknown.base, row->unknown.len);
}

/* ---- reading ---- */

static int take_u32(struct span *rest, uint32_t *ret)
{
    uint64_t v;

    if (take_varint(rest, &v) < 0 || v > UINT32_MAX)
        return -EBADMSG;
    *ret = (uint32_t)v;
    return 0;
}

static int take_bool(struct span *rest, bool *ret)
{
    uint32_t v;

    if (take_u32(rest, &v) < 0 || v > 1)
        return -EBADMSG;
    *ret = v;
    return 0;
}

static int take_analytics(struct span *rest, struct analytics *ret)
{
    if (take_counted(rest, &ret->version) < 0 || take_u32(rest, &ret->flags) < 0 ||
        take_u32(rest, &ret->retention_days) < 0)
        return -EBADMSG;
    return 0;
}

static int as_analytics(struct span value, struct service_record *r)
{
    if (take_analytics(&value, &r->logging) < 0 || take_analytics(&value, &r->hour_metrics) < 0 ||
        take_analytics(&value, &r->minute_metrics) < 0 || value.len)
        return -EBADMSG;
    return 0;
}

static int as_cors(struct span value, struct service_record *r)
{
    r->cors_count = 0;
    while (value.len) {
        struct cors_rule *rule = &r->cors[r->cors_count];

        if (r->cors_count == CORS_RULES_MAX || take_counted(&value, &rule->origins) < 0 ||
            take_counted(&value, &rule->methods) < 0 ||
            take_counted(&value, &rule->allowed_headers) < 0 ||
            take_counted(&value, &rule->exposed_headers) < 0 ||
            take_u32(&value, &rule->max_age_s) < 0)
            return -EBADMSG;
        r->cors_count++;
    }
    return 0;
}

static int as_delete_retention(struct span value, struct delete_retention *ret)
{
    if (take_bool(&value, &ret->enabled) < 0 || take_bool(&value, &ret->permanent_delete) < 0 ||
        take_u32(&value, &ret->days) < 0 || value.len)
        return -EBADMSG;
    return 0;
}

static int as_website(struct span value, struct website *ret)
{
    if (take_bool(&value, &ret->enabled) < 0 || take_counted(&value, &ret->index_document) < 0 ||
        take_counted(&value, &ret->error_document) < 0 ||
        take_counted(&value, &ret->default_index_path) < 0 || value.len)
        return -EBADMSG;
    return 0;
}

static int decode_service_field(const struct fields *f, struct service_record *r)
{
    switch (f->tag) {
    case TAG_SERVICE_VERSION:
        return as_span(f->value, &r->default_version);
    case TAG_SERVICE_ANALYTICS:
        return as_analytics(f->value, r);
    case TAG_SERVICE_CORS:
        return as_cors(f->value, r);
    case TAG_SERVICE_DELETE_RETENTION:
        return as_delete_retention(f->value, &r->delete_retention);
    case TAG_SERVICE_WEBSITE:
        return as_website(f->value, &r->website);
    default:
        return -ENOENT;
    }
}

int service_row_decode(struct span value, struct service_row *ret)
{
    struct service_row row = {.record = service_record_default()};

    DECODE_FIELDS(value, &row, decode_service_field(&f, &row.record));
    *ret = row;
    return 0;
}
