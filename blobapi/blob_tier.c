/* blobapi/blob_tier.c - access tiers: what a request says of one, how it is shown, Set Blob Tier.
 *
 * Setting one changes neither ETag nor times. In this box an archived blob comes back at once when
 * another tier is set (202, as from the service): its bytes were never anywhere else. With a cloud
 * behind, archive is the cloud's promise: neither entered nor left here. */
#include "base/clock.h"
#include "blobapi/handlers.h"
#include "cache/access_tier.h"

#define SET_TIER(op) container_of(REQUEST(op), struct set_tier, r)

static struct next tier_previewed(struct op *op);
static struct next tier_begun(struct op *op);
static struct next tier_set(struct op *op);

/* ---- inputs ---- */

static bool goes_to_cloud(const struct request *r)
{
    return request_has_cloud(r) && r->contract->write == WRITE_BACK;
}

static enum az_error priority_input(struct request *r, struct span *culprit)
{
    struct span priority = exchange_header(r->http, SPAN("x-ms-rehydrate-priority"));

    *culprit = SPAN("x-ms-rehydrate-priority");
    return !priority.len || span_eq_nocase(priority, SPAN("Standard")) ||
                   span_eq_nocase(priority, SPAN("High"))
               ? AZ_OK
               : AZ_INVALID_HEADER_VALUE;
}

enum az_error tier_inputs(struct request *r, enum access_tier *ret, struct span *culprit)
{
    struct span name = exchange_header(r->http, SPAN("x-ms-access-tier"));
    enum az_error error = priority_input(r, culprit);

    if (error)
        return error;
    *ret = access_tier_of(name);
    *culprit = SPAN("x-ms-access-tier");
    if (name.len && !*ret)
        return AZ_INVALID_BLOB_TIER;
    return *ret == ACCESS_TIER_ARCHIVE && goes_to_cloud(r) ? AZ_UNSUPPORTED_HEADER : AZ_OK;
}

void record_set_tier(struct blob_record *record, enum access_tier tier)
{
    record->access_tier = tier;
    record->access_tier_inferred = false;
    record->access_tier_changed_ns = tier ? clock_wall_ns() : 0;
    record->rehydrating = ACCESS_TIER_NONE;
}

/* ---- how it is shown ---- */

struct tier_shown tier_shown(const struct blob_record *b)
{
    struct tier_shown shown = {.name = access_tier_name(b->access_tier),
                               .inferred = b->access_tier_inferred,
                               .changed_ns = b->access_tier_changed_ns};

    if (b->access_tier == ACCESS_TIER_NONE && b->type == BLOB_BLOCK && !content_learned(b)) {
        shown.name = SPAN("Hot"); /* what was written here and not said; the cloud's is not known */
        shown.inferred = true;
    }
    if (b->rehydrating == ACCESS_TIER_HOT)
        shown.archive_status = SPAN("rehydrate-pending-to-hot");
    else if (b->rehydrating == ACCESS_TIER_COOL)
        shown.archive_status = SPAN("rehydrate-pending-to-cool");
    else if (b->rehydrating == ACCESS_TIER_COLD)
        shown.archive_status = SPAN("rehydrate-pending-to-cold");
    return shown;
}

void tier_headers(struct request *r, const struct blob_record *b)
{
    struct tier_shown shown = tier_shown(b);

    if (!shown.name.len)
        return;
    answer_add(r, SPAN("x-ms-access-tier"), shown.name);
    if (shown.inferred)
        answer_add(r, SPAN("x-ms-access-tier-inferred"), SPAN("true"));
    if (shown.archive_status.len)
        answer_add(r, SPAN("x-ms-archive-status"), shown.archive_status);
    if (shown.changed_ns)
        answer_date(r, SPAN("x-ms-access-tier-change-time"), shown.changed_ns);
}

enum az_error tier_verdict(const struct blob_record *b)
{
    return b->access_tier == ACCESS_TIER_ARCHIVE ? AZ_BLOB_ARCHIVED : AZ_OK;
}

/* ---- Set Blob Tier ---- */

struct next set_tier_start(struct op *op)
{
    struct set_tier *s = SET_TIER(op);
    struct span culprit = {NULL, 0};
    enum az_error error = tier_inputs(&s->r, &s->tier, &culprit);

    if (!error && !s->tier)
        error = AZ_MISSING_REQUIRED_HEADER;
    if (error)
        return fail_header(&s->r, error, culprit);
    return change_preview(&s->r, CHANGE_NEEDS_BLOB, GO(tier_previewed));
}

static struct next tier_previewed(struct op *op)
{
    return change_begin(REQUEST(op), CHANGE_NEEDS_BLOB, GO(tier_begun));
}

static struct next tier_begun(struct op *op)
{
    struct set_tier *s = SET_TIER(op);
    struct request *r = &s->r;
    struct blob_record record = *blob_record(r->blob);

    if (record.type != BLOB_BLOCK)
        return change_refuse(r, AZ_INVALID_BLOB_TYPE);
    s->rehydrates = tier_verdict(&record) && s->tier != ACCESS_TIER_ARCHIVE;
    if (tier_verdict(&record) && goes_to_cloud(r))
        return change_refuse(r, AZ_TIER_IS_THE_CLOUDS);
    if (record.access_tier != s->tier || record.access_tier_inferred)
        record_set_tier(&record, s->tier);
    tx_amend(r->tx, &record);
    return change_commit(r, UPLOAD_TIER, GO(tier_set));
}

static struct next tier_set(struct op *op)
{
    return answer_empty(REQUEST(op), SET_TIER(op)->rehydrates ? 202 : 200);
}
