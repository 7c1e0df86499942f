/* tests/unit/fake_upstream.h - upstream.h of fake_engine.h, which includes it: what the cloud there
 * answers, and names in doubt. */
#ifndef TESTS_FAKE_UPSTREAM_H
#define TESTS_FAKE_UPSTREAM_H

void upstream_open(struct upstream *upstream, const struct name *name, struct range first,
                   struct blob **ret, struct completion *done)
{
    struct blob *blob;

    cloud.opens++;
    if (!cloud.open_err) {
        blob = engine_put(name->blob, span_of(cloud.body));
        blob->record.durability = DURABILITY_CLOUD;
        blob->record.cloud_etag = SPAN("\"0x8DCLOUD\"");
        blob->record.checked_ns = clock_wall_ns();
        *ret = blob_ref(blob);
    } /* absence is told, not remembered: an engine need not */
    completion_post(done, cloud.open_err);
}

void upstream_revalidate(struct upstream *upstream, struct blob *held, uint64_t budget_ns,
                         struct blob **ret, struct completion *done)
{
    cloud.revalidates++;
    cloud.unheard += !done;
    if (!done)
        return;
    if (!cloud.revalidate_err && cloud.newer) {
        *ret = blob_ref(engine_put(held->name.blob, span_of(cloud.newer)));
    } else if (!cloud.revalidate_err) {
        held->record.checked_ns = clock_wall_ns();
        *ret = blob_ref(held);
    }
    if (cloud.revalidate_err == -ENOENT)
        engine_remove(held->name.blob); /* learned */
    completion_post(done, cloud.revalidate_err);
}

void upstream_open_container(struct upstream *upstream, uint32_t account, struct span name,
                             struct completion *done)
{
    struct tx tx = {.name = name, .of_container = true};

    cloud.container_opens++;
    if (!cloud.container_err) {
        tx_put_container(&tx, &(struct container_record){.account = account, .name = name});
        commit_container(&tx);
    }
    completion_post(done, cloud.container_err);
}

void upstream_fill(struct upstream *upstream, struct blob *blob, struct range gap,
                   struct completion *done)
{
    assert(!engine.turns); /* D4 */
    cloud.fills++;
    cloud.filled = gap;
    if (!cloud.fills_nothing)
        engine.gap_at = 0;
    completion_post(done, cloud.fill_err);
}

void upstream_list(struct upstream *upstream, const struct list_gap *gap, struct completion *done)
{
    struct iobuf_stats bufs = iobuf_pool_stats(IOBUF_64K);

    cloud.lists++;
    cloud.list_held = (unsigned)(bufs.total - bufs.free);
    if (!cloud.list_err)
        engine.list_err = 0;
    completion_post(done, cloud.list_err);
}

void upstream_list_containers(struct upstream *upstream, uint32_t account, struct completion *done)
{
    cloud.lists++;
    if (!cloud.list_err)
        engine.unknown = 0;
    completion_post(done, cloud.list_err);
}

uint64_t cache_doubt(struct cache *cache, const struct doubtful *of)
{
    return cloud.doubt;
}

void upstream_ask_doubtful(struct upstream *upstream, const struct doubtful *of, uint64_t doubt,
                           uint64_t budget_ns, struct blob **ret, struct completion *done)
{
    assert(!engine.turns && doubt == cloud.doubt);
    cloud.doubt_asks++;
    if (!cloud.doubt_err && ret)
        *ret = blob_ref(engine_put(of->name, span_of(cloud.newer ? cloud.newer : "")));
    completion_post(done, cloud.doubt_err);
}

static struct pair *keep_pairs(const struct pair *pairs, unsigned n)
{
    struct pair *copy = arena_alloc(engine.arena, (n + 1) * sizeof(*copy));

    for (unsigned i = 0; i < n; i++)
        copy[i] = (struct pair){keep(pairs[i].name), keep(pairs[i].value)};
    return copy;
}

void upstream_forward(struct upstream *upstream, const struct forward *forward,
                      struct forwarded *ret, struct completion *done)
{
    assert(!engine.turns); /* D4 */
    cloud.forwards++;
    cloud.forward = *forward;
    cloud.forward.container = keep(forward->container);
    cloud.forward.blob = keep(forward->blob);
    cloud.forward.body = keep(forward->body);
    cloud.forward.query = keep_pairs(forward->query, forward->query_count);
    cloud.forward.headers = keep_pairs(forward->headers, forward->header_count);
    if (!cloud.forward_err)
        *ret = cloud.forwarded;
    completion_post(done, cloud.forward_err);
}

void forwarded_done(struct forwarded *forwarded)
{
}

#endif
