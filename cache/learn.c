/* cache/learn.c - what the cloud said of one name, applied in the name's order and only if nothing
 * happened to the name since the question (L5). A cloud row whose ETag is the recorded one is the
 * version that is here; any other is a new version with a local name of its own. */
#include "cache/learn.h"

#include "cache/ask.h"
#include "cache/doubt.h"
#include "cache/names.h"
#include "cache/order.h"
#include "cache/stage.h"
#include "cache/uploads.h"
#include "cache/metrics.h"

struct learn {
    struct cache *cache;
    uint64_t container;
    uint32_t account;
    struct span name; /* owned */
    struct asked asked;
    struct blob *cloud;          /* holds a copy of what the cloud said; NULL: absent */
    struct container *described; /* likewise, of a container */
    struct blob *blob, **ret;    /* what it comes to */
    struct tx *tx;
    struct completion step, *done;
};

static void learn_end(struct learn *l, int err)
{
    struct completion *done = l->done;

    if (!err)
        STAT_INC(learned_versions);
    else if (err == -ESTALE)
        STAT_INC(learned_stale);
    if (!err && l->ret)
        *l->ret = TAKE(l->blob);
    blob_unref(l->blob);
    blob_unref(l->cloud);
    container_unref(l->described);
    free((char *)l->name.base);
    free(l);
    completion_post(done, err);
}

static void committed(struct completion *done)
{
    learn_end(container_of(done, struct learn, step), done->err);
}

static void lift(struct completion *done)
{
    struct learn *l = container_of(done, struct learn, step);
    _cleanup_(row_bytes_done) struct row_bytes key = {0};

    if (done->err)
        return learn_end(l, done->err);
    l->step.fn = committed;
    if (!l->account)
        return doubts_lift_alone(l->cache, l->container, l->name, l->asked.doubt, true, &l->step);
    key_container(&key, l->account, l->name);
    doubts_lift_alone(l->cache, CONTAINER_NAMES, row_span(&key), l->asked.doubt, true, &l->step);
}

/* Nothing to make durable but that it is not in doubt any more; what was found is the answer. */
static void let_go(struct learn *l)
{
    l->step.fn = l->asked.doubt ? lift : committed;
    cache_rollback(l->tx, &l->step);
}

static void stale(struct completion *done)
{
    learn_end(container_of(done, struct learn, step), done->err ? done->err : -ESTALE);
}

static void refuse(struct learn *l)
{
    l->step.fn = stale;
    cache_rollback(l->tx, &l->step);
}

static void commit(struct learn *l, struct blob *blob)
{
    tx_adopt(l->tx, blob);
    if (blob->state == BLOB_LIVE)
        l->blob = blob_ref(blob);
    l->tx->ask = l->asked.ticket;
    l->tx->doubt = l->asked.doubt;
    l->step.fn = committed;
    cache_commit(l->tx, &l->step);
}

/* Is what is here newer than anything the cloud can say? */
static bool is_ours(struct learn *l)
{
    const struct blob *current = l->tx->current;

    if (l->tx->rests_on || asks_stale(l->cache, l->asked.ticket) ||
        uploads_have(l->cache, l->container, l->name))
        return true;
    if (!current)
        return false;
    if (current->state == BLOB_TOMBSTONE)
        return !current->confirmed;
    return current->state == BLOB_LIVE && !current->record.cloud_etag.len;
}

/* ---- absent ---- */

static void learn_absent(struct learn *l)
{
    struct blob_record record = {.checked_ns = l->asked.wall_ns};
    struct blob *current = l->tx->current;
    struct blob *absent = blob_new(l->cache, &(struct blob_parts){.container = l->container,
                                                                  .name = l->name,
                                                                  .state = BLOB_ABSENT,
                                                                  .record = &record});

    if (current && current->state != BLOB_ABSENT)
        return commit(l, absent);
    names_publish(l->cache, absent); /* the turn is ours: nobody else publishes the name now */
    blob_unref(absent);
    let_go(l);
}

/* ---- the same version: checked again ---- */

/* What changes in the cloud without a new ETag. The cloud says how many tags there are, not which:
 * those known here may have been replaced by as many others; a 304 says nothing, and comes with
 * what is held. True: it is another than before. */
static bool amend(struct blob_record *record, const struct blob_record *cloud)
{
    bool told = record->tags_unknown == cloud->tags_unknown && span_eq(record->tags, cloud->tags) &&
                record->access_tier == cloud->access_tier &&
                record->access_tier_inferred == cloud->access_tier_inferred &&
                record->rehydrating == cloud->rehydrating &&
                record->cloud_lease == cloud->cloud_lease;

    record->tags = cloud->tags;
    record->tags_unknown = cloud->tags_unknown;
    record->access_tier = cloud->access_tier;
    record->access_tier_inferred = cloud->access_tier_inferred;
    record->access_tier_changed_ns = cloud->access_tier_changed_ns;
    record->rehydrating = cloud->rehydrating;
    record->cloud_lease = cloud->cloud_lease;
    return !told;
}

static void write_fresh(struct learn *l, uint64_t etag)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct change *change = change_new();

    key_blob(&key, l->container, l->name);
    fresh_row_encode(&value, &(struct fresh_row){.checked_ns = l->asked.wall_ns, .etag = etag});
    change_put(change, FAM_FRESH, row_span(&key), row_span(&value));
    commit_submit(l->cache->committer, change); /* nobody waits: losing it costs one question */
}

static void learn_same(struct learn *l)
{
    struct blob *current = l->tx->current;
    struct blob_record record = current->record;
    bool amended;

    record.checked_ns = MAX(record.checked_ns, l->asked.wall_ns);
    amended = amend(&record, &l->cloud->record);
    if (current->state == BLOB_CLOUD)
        return commit(l, tx_cloud_blob(l->tx, &record));
    if (amended)
        return commit(l, blob_with_record(current, &record));
    l->blob = blob_with_record(current, &record);
    names_publish(l->cache, l->blob);
    write_fresh(l, record.etag);
    let_go(l);
}

/* ---- another version ---- */

void learn_local_name(struct cache *cache, const struct contract *contract, int64_t checked_ns,
                      struct blob_record *record)
{
    record->etag = TICK_ETAG(cache_tick(cache));
    record->modified_ns =
        record->cloud_modified_ns; /* clients that sync compare it with the cloud's */
    if (!record->created_ns)
        record->created_ns = record->modified_ns;
    record->contract = contract ? contract->id : 0;
    record->durability = DURABILITY_CLOUD;
    record->sole = false;
    record->checked_ns = checked_ns;
}

static void learn_other(struct learn *l)
{
    struct blob_record record = l->cloud->record;

    if (blob_is_there(l->tx->current))
        record.lease = l->tx->current->record.lease; /* of the name, whoever writes to it */

    learn_local_name(l->cache, cache_contract(l->cache, l->container, l->name), l->asked.wall_ns,
                     &record);
    commit(l, tx_cloud_blob(l->tx, &record));
}

static void begun(struct completion *done)
{
    struct learn *l = container_of(done, struct learn, step);
    const struct blob *current;

    if (done->err)
        return learn_end(l, done->err);
    current = l->tx->current;
    if (is_ours(l))
        refuse(l);
    else if (!l->cloud)
        learn_absent(l);
    else if (blob_is_there(current) &&
             span_eq(current->record.cloud_etag, l->cloud->record.cloud_etag))
        learn_same(l);
    else
        learn_other(l);
}

static struct learn *learn_new(struct cache *cache, struct span name, const struct asked *asked,
                               struct completion *done)
{
    struct learn *l = xcalloc(1, sizeof(*l));
    char *copy = xmalloc(name.len);

    memcpy(copy, name.base, name.len);
    l->cache = cache;
    l->name = span_from(copy, name.len);
    l->asked = *asked;
    l->done = done;
    l->step.loop = done->loop;
    return l;
}

void cache_learn(struct cache *cache, const struct name *name, const struct asked *asked,
                 const struct blob_record *cloud, struct blob **ret, struct completion *done)
{
    struct learn *l;

    if (!name->blob.len || name->blob.len > BLOB_NAME_BYTES_MAX)
        return completion_post(done, -EINVAL);
    l = learn_new(cache, name->blob, asked, done);
    l->container = name->container;
    l->ret = ret;
    if (cloud)
        l->cloud = blob_new(cache, &(struct blob_parts){.container = name->container,
                                                        .name = name->blob,
                                                        .state = BLOB_CLOUD,
                                                        .record = cloud});
    l->step.fn = begun;
    order_begin(cache, name->container, l->name, 0, &l->tx, &l->step);
}

/* ---- containers ---- */

static void commit_container(struct learn *l, const struct container_record *record)
{
    struct container *old = l->tx->current_container;

    tx_adopt_container(l->tx, container_new(l->cache, record, false,
                                            old && !old->tombstone ? old->unknown : SPAN("")));
    l->tx->ask = l->asked.ticket;
    l->tx->doubt = l->asked.doubt;
    l->step.fn = committed;
    cache_commit(l->tx, &l->step);
}

static void learn_container_known(struct learn *l, struct container *old)
{
    struct container_record record = old->record;
    struct container *checked;

    record.checked_ns = l->asked.wall_ns;
    record.cloud_lease = l->described->record.cloud_lease;
    if (!record.in_cloud || record.cloud_lease != old->record.cloud_lease ||
        record.modified_ns != l->described->record.modified_ns) {
        record.in_cloud = true;
        record.modified_ns = l->described->record.modified_ns;
        record.metadata = l->described->record.metadata;
        record.metadata_count = l->described->record.metadata_count;
        record.public_access = l->described->record.public_access;
        return commit_container(l, &record);
    }
    checked = container_new(l->cache, &record, false, old->unknown);
    containers_publish(l->cache, checked); /* the turn is ours */
    container_unref(checked);
    let_go(l);
}

static void learn_container_new(struct learn *l)
{
    struct container_record record = l->described->record;

    record.id = cache_tick(l->cache);
    record.account = l->account;
    record.etag = TICK_ETAG(cache_tick(l->cache));
    record.in_cloud = true;
    record.checked_ns = l->asked.wall_ns;
    commit_container(l, &record);
}

/* Is it the container that was asked for? One deleted and made again meanwhile has another id. */
static bool is_another(struct learn *l, const struct container *old)
{
    uint64_t id = asks_container(l->cache, l->asked.ticket);

    return id != ASK_CONTAINERS && id != old->record.id;
}

/* Acknowledged blobs or blocks that exist nowhere but here? */
static bool holds_ours(struct learn *l, const struct container *old)
{
    const struct account *account = account_by_id(l->cache->conf.accounts, l->account);

    return stage_any_in(l->cache, old->record.id) ||
           (account && contract_container_holds_local(account, old->record.name));
}

static void learn_container_absent(struct learn *l, struct container *old)
{
    struct container_record record;

    if (!old || !old->record.in_cloud || uploads_have_container(l->cache, old->record.id))
        return let_go(l); /* not there; or what is queued for it will say so itself */
    if (is_another(l, old))
        return refuse(l);
    record = old->record;
    if (holds_ours(l, old)) {
        record.in_cloud = false;
        return commit_container(l, &record);
    }
    tx_forget(l->tx);
    l->tx->ask = l->asked.ticket;
    l->tx->doubt = l->asked.doubt;
    l->step.fn = committed;
    cache_commit(l->tx, &l->step);
}

static void container_begun(struct completion *done)
{
    struct learn *l = container_of(done, struct learn, step);
    struct container *old;
    bool ours;

    if (done->err)
        return learn_end(l, done->err);
    old = l->tx->current_container;
    ours = l->tx->rests_on || asks_row_stale(l->cache, l->asked.ticket, l->tx->name) ||
           uploads_have(l->cache, l->account, l->name) || (old && old->tombstone);
    if (ours)
        return refuse(l);
    if (l->described)
        return old ? learn_container_known(l, old) : learn_container_new(l);
    learn_container_absent(l, old);
}

void cache_learn_container(struct cache *cache, uint32_t account, struct span name,
                           const struct asked *asked, const struct container_record *cloud,
                           struct completion *done)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct learn *l = learn_new(cache, name, asked, done);
    struct container_record record;

    l->account = account;
    if (cloud) {
        record = *cloud;
        record.account = account;
        record.name = name;
        l->described = container_new(cache, &record, false, SPAN(""));
    }
    key_container(&key, account, name);
    l->step.fn = container_begun;
    order_begin(cache, CONTAINER_NAMES, row_span(&key), account, &l->tx, &l->step);
}

void cache_learn_containers_end(struct cache *cache, uint32_t account, const struct asked *asked)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct change *change = change_new();

    containers_all_known(cache, account, asked->wall_ns);
    key_known(&key, KNOWN_CONTAINERS, account, SPAN(""), SPAN(""), SPAN(""));
    known_row_encode(&value, &(struct known_row){.to_end = true, .as_of_ns = asked->wall_ns});
    change_put(change, FAM_KNOWN, row_span(&key), row_span(&value));
    commit_submit(cache->committer, change);
}
