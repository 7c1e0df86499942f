/* cache/accounts.c - an account's rows are found by its number, which comes from its name
 * (account_id). META_ACCOUNT rows say whose a number is and which cloud its records speak of, so
 * that an edited configuration neither loses the queue nor shows one cloud's ETags to another. */
#include "cache/accounts.h"

#include "base/log.h"
#include "cache/names.h"

/* What of an endpoint names the cloud account: without its scheme. */
static struct span cloud_of(struct span endpoint)
{
    for (size_t i = 0; i + 2 < endpoint.len; i++)
        if (memcmp(endpoint.base + i, "://", 3) == 0)
            return span_skip(endpoint, i + 3);
    return endpoint;
}

static bool same_cloud(struct span a, struct span b)
{
    return span_eq_nocase(cloud_of(a), cloud_of(b));
}

static int count_uploads(struct cache *cache, uint32_t account, unsigned *ret)
{
    struct index_iter *iter = index_iter_new(cache->index, NULL, FAM_UPLOADS, SPAN(""), SPAN(""));
    struct upload_row row;
    int err = 0;

    *ret = 0;
    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        err = upload_row_decode(index_iter_value(iter), &row);
        *ret += !err && row.account == account;
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err;
}

static int judge_absent(const struct account_row *row, unsigned uploads, char **why)
{
    if (!uploads) {
        log_warn("an account is not configured any more; what it has here stays",
                 KV_SPAN("account", row->name));
        return 0;
    }
    *why = xasprintf("account %.*s is not configured any more, and %u uploads wait for its cloud: "
                     "put it back, at least until they are sent",
                     SPAN_FMT(row->name), uploads);
    return -EINVAL;
}

/* What waits for an account of which no row says whose it is: the box is older than these rows. The
 * containers are what its owner may know it by. */
static int judge_unnamed(struct cache *cache, char **why)
{
    struct index_iter *iter = index_iter_new(cache->index, NULL, FAM_UPLOADS, SPAN(""), SPAN(""));
    struct upload_row row;
    unsigned uploads;
    int err = 0;

    for (; !err && !*why && index_iter_valid(iter); index_iter_next(iter)) {
        err = upload_row_decode(index_iter_value(iter), &row);
        if (err || account_by_id(cache->conf.accounts, row.account))
            continue;
        err = count_uploads(cache, row.account, &uploads);
        if (!err)
            *why = xasprintf("the account with container %.*s (number %u: this data folder is "
                             "older than its list of names) is not configured any more, and %u "
                             "uploads wait for its cloud: put it back, at least until they are "
                             "sent",
                             SPAN_FMT(row.container_name), row.account, uploads);
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : *why ? -EINVAL : 0;
}

static int judge_moved(const struct account *account, const struct account_row *row,
                       unsigned uploads, unsigned containers, char **why)
{
    if (!uploads && !containers)
        return 0;
    *why = xasprintf(
        "account %.*s: its cloud was %.*s and is now to be %.*s, but %u containers and "
        "%u waiting uploads here belong to the former. If it is the same cloud at a "
        "new address, say formerly = \"%.*s\" in its upstream; else give the other "
        "cloud an account or a data folder and devices of its own",
        SPAN_FMT(account->name), SPAN_FMT(row->endpoint), SPAN_FMT(account->upstream.endpoint),
        containers, uploads, SPAN_FMT(row->endpoint));
    return -EINVAL;
}

static int judge(struct cache *cache, uint32_t id, const struct account_row *row, char **why)
{
    const struct account *account = account_by_id(cache->conf.accounts, id);
    unsigned containers = containers_count(cache, id), uploads;
    int err = count_uploads(cache, id, &uploads);

    if (err)
        return err;
    if (!account)
        return containers || uploads ? judge_absent(row, uploads, why) : 0;
    if (!span_eq(account->name, row->name)) { /* one in 4 billion: but then rows would be shared */
        *why = xasprintf("accounts %.*s and %.*s cannot be told apart in one box: rename one",
                         SPAN_FMT(account->name), SPAN_FMT(row->name));
        return -EINVAL;
    }
    if (account_is_local(account) && uploads)
        log_warn("uploads wait for an account that has no upstream now",
                 KV_SPAN("account", row->name), KV_UINT("uploads", uploads));
    if (account_is_local(account) || !row->endpoint.len ||
        same_cloud(account->upstream.endpoint, row->endpoint) ||
        same_cloud(account->upstream.formerly, row->endpoint))
        return 0;
    return judge_moved(account, row, uploads, containers, why);
}

int accounts_judge(struct cache *cache, char **why)
{
    char prefix = META_ACCOUNT;
    struct index_iter *iter =
        index_iter_new(cache->index, NULL, FAM_META, span_from(&prefix, 1), SPAN("b"));
    struct account_row row;
    uint32_t id;
    int err = 0;

    for (; !err && index_iter_valid(iter); index_iter_next(iter)) {
        err = key_account_decode(index_iter_key(iter), &id);
        if (!err)
            err = account_row_decode(index_iter_value(iter), &row);
        if (!err)
            err = judge(cache, id, &row, why);
    }
    if (!err)
        err = index_iter_err(iter);
    index_iter_free(iter);
    return err ? err : judge_unnamed(cache, why);
}

/* An account that has lost its upstream keeps the endpoint in its row: its records still speak of
 * that cloud. */
static int bind(struct cache *cache, struct change *change, const struct account *account)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct account_row row = {account->name, account->upstream.endpoint}, old;
    struct index_value found;
    int err;

    key_account(&key, account->id);
    err = index_get(cache->index, NULL, FAM_META, row_span(&key), &found);
    if (err && err != -ENOENT)
        return err;
    if (!err) {
        bool kept = account_row_decode(found.bytes, &old) == 0 &&
                    (account_is_local(account) || span_eq(old.endpoint, row.endpoint));

        index_value_done(&found);
        if (kept)
            return 0;
    }
    account_row_encode(&value, &row);
    change_put(change, FAM_META, row_span(&key), row_span(&value));
    return 0;
}

int accounts_bind(struct cache *cache)
{
    struct change *change = change_new();
    int err = 0;

    for (unsigned i = 0; !err && i < cache->conf.accounts->count; i++)
        err = bind(cache, change, &cache->conf.accounts->at[i]);
    if (err || !change_bytes(change)) {
        change_free(change);
        return err;
    }
    commit_submit(cache->committer, change);
    return 0;
}
