/* Goal: a lease is the engine's as a version's properties are: durable, through uploads, what the
 * cloud says and crashes, under the same ETag; the begin of its period is memory's. Method: a box
 * on simulated devices under a clock of the test's own. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "tests/support/cachebox.h"

static _Atomic uint64_t ahead_ns;
static uint64_t mono(void *arg)
{
    return 5000 * NS_PER_SEC + ahead_ns;
}
static int64_t wall(void *arg)
{
    return 1800000000 * (int64_t)NS_PER_SEC + (int64_t)ahead_ns;
}

static struct cachebox *box;

static int setup(void **state)
{
    static const struct clock_source source = {mono, wall, NULL};

    clock_set_source(&source);
    box = cachebox_new(9);
    return 0;
}

static int teardown(void **state)
{
    assert_int_equal(cachebox_check(box), 0);
    box = cachebox_free(box);
    return 0;
}

static void crash(uint64_t seed)
{
    struct cachebox *image = cachebox_crash(box, seed);

    cachebox_free(box);
    box = image;
}

static void pass(unsigned seconds)
{
    ahead_ns += seconds * NS_PER_SEC;
}

static struct lease held(unsigned seconds)
{
    struct lease lease = {.kind = LEASE_KIND_HELD,
                          .period_ns = seconds ? seconds * NS_PER_SEC : LEASE_INFINITE};

    memset(lease.id, 'x', sizeof(lease.id));
    return lease;
}

static void grant(uint64_t id, const char *blob, struct lease *lease)
{
    struct name name = box_name(id, blob);
    struct blob *current;
    struct tx *tx = NULL;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_current(tx, &current), 0);
    tx_lease(tx, lease);
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
}

static void grant_container(uint32_t account, const char *container, struct lease *lease)
{
    struct container *current;
    struct tx *tx = NULL;

    cache_begin_container(box->cache, account, span_of(container), &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_current_container(tx, &current), 0);
    tx_lease(tx, lease);
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
}

/* The record as published; its spans are of no use. */
static struct blob_record record_of(uint64_t id, const char *blob)
{
    struct blob_record record;
    struct blob *found;

    assert_int_equal(box_lookup(box, id, blob, &found), 0);
    record = *blob_record(found);
    blob_unref(found);
    return record;
}

static void assert_lease(struct lease got, const struct lease *want)
{
    assert_int_equal(got.kind, want->kind);
    assert_int_equal(got.period_ns, want->period_ns);
    assert_int_equal(got.serial, want->serial);
    assert_memory_equal(got.id, want->id, sizeof(got.id));
}

static uint64_t began_s(const struct lease *lease)
{
    return cache_lease_began(box->cache, lease) / NS_PER_SEC;
}

/* ---- durable ---- */

static void test_leases__are_durable_under_the_same_etag(void **state)
{
    uint64_t id = box_container(box, BOX_LOCAL, "c"), etag, began;
    struct lease lease = held(30), none = {.kind = LEASE_KIND_NONE};
    struct blob_record record;

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "content", &etag), 0);
    grant(id, "b", &lease);
    began = began_s(&lease);
    record = record_of(id, "b");
    assert_int_equal(record.etag, etag);
    assert_lease(record.lease, &lease);
    pass(100);
    assert_int_equal(began_s(&lease), began);
    crash(3);
    record = record_of(id, "b");
    assert_int_equal(record.etag, etag);
    assert_lease(record.lease, &lease);
    assert_int_equal(began_s(&lease), began + 100); /* its whole period again */
    assert_int_equal(box_expect(box, id, "b", "content"), 0);
    grant(id, "b", &none);
    crash(4);
    assert_int_equal(record_of(id, "b").lease.kind, LEASE_KIND_NONE);
    assert_int_equal(record_of(id, "b").etag, etag);
}

static void test_leases__of_containers_are_durable(void **state)
{
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct lease lease = held(0);
    struct container *found;
    uint64_t etag;

    assert_int_equal(cache_container(box->cache, BOX_LOCAL, SPAN("c"), &found), 0);
    etag = container_record(found)->etag;
    container_unref(found);
    grant_container(BOX_LOCAL, "c", &lease);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(cache_container(box->cache, BOX_LOCAL, SPAN("c"), &found), 0);
        assert_int_equal(container_record(found)->id, id);
        assert_int_equal(container_record(found)->etag, etag);
        assert_lease(container_record(found)->lease, &lease);
        container_unref(found);
        crash(3 + i);
    }
    assert_int_equal(box_delete_container(box, BOX_LOCAL, "c"), 0);
    box_container(box, BOX_LOCAL, "c");
    assert_int_equal(cache_container(box->cache, BOX_LOCAL, SPAN("c"), &found), 0);
    assert_int_equal(container_record(found)->lease.kind, LEASE_KIND_NONE);
    container_unref(found);
}

/* ---- time ---- */

static void test_leases__renewals_are_memorys(void **state)
{
    uint64_t id = box_container(box, BOX_LOCAL, "c"), began;
    struct lease lease = held(15), other = held(15);

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "x", NULL), 0);
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "other", "x", NULL), 0);
    grant(id, "b", &lease);
    grant(id, "other", &other);
    began = began_s(&lease);
    assert_true(lease.serial != other.serial);
    pass(10);
    cache_lease_renew(box->cache, &lease);
    assert_int_equal(began_s(&lease), began + 10);
    assert_int_equal(began_s(&other), began);
    pass(1000);
    for (unsigned i = 0; i < 5000; i++) { /* sweeps every chain */
        struct lease one = held(15);

        one.serial = 1000000 + i;
        cache_lease_renew(box->cache, &one);
    }
    assert_true(began_s(&lease) + 15 <= mono(NULL) / NS_PER_SEC); /* forgotten, and passed still */
    cache_lease_renew(box->cache, &lease);
    assert_int_equal(began_s(&lease), began + 1010);
}

/* ---- the cloud ---- */

static void test_leases__outlive_the_upload_under_way(void **state)
{
    uint64_t id = box_container(box, BOX_CLOUD, "free"), retry_ns;
    struct upload_result yes = {.end = UPLOAD_CONFIRMED, .cloud_etag = SPAN("\"e\"")};
    struct lease lease = held(30);
    struct upload *upload;
    unsigned sent = 0;

    assert_int_equal(box_put(box, BOX_CLOUD, "free", id, "b", "x", NULL), 0);
    while (cache_upload_next(box->cache, BOX_CLOUD, &upload, &retry_ns) == 0) {
        if (upload->blob)
            grant(id, "b", &lease);
        cache_upload_end(box->cache, upload, &yes, box_done(box));
        assert_int_equal(box_wait(box), 0);
        sent++;
    }
    assert_int_equal(sent, 2); /* container and blob: the lease is nobody's to hear of */
    assert_int_equal(record_of(id, "b").durability, DURABILITY_CLOUD);
    assert_lease(record_of(id, "b").lease, &lease);
    crash(3);
    assert_lease(record_of(id, "b").lease, &lease);
    assert_int_equal(box_expect(box, id, "b", "x"), 0);
}

static uint64_t learned_container(const char *container)
{
    struct name all = {0};
    struct asked asked = cache_ask(box->cache, &all);
    struct container_record record = {.modified_ns = (int64_t)ahead_ns + 5};
    struct container *found;
    uint64_t id;

    cache_learn_container(box->cache, BOX_CLOUD, span_of(container), &asked, &record,
                          box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(cache_container(box->cache, BOX_CLOUD, span_of(container), &found), 0);
    id = container_record(found)->id;
    container_unref(found);
    return id;
}

static void learn(uint64_t id, const char *etag) /* NULL: absent */
{
    struct name name = box_name(id, "b");
    struct asked asked = cache_ask(box->cache, &name);
    struct blob_record record = {
        .type = BLOB_BLOCK, .length = 7, .cloud_modified_ns = 1700000000000000000};
    struct blob *blob = NULL;

    if (etag)
        record.cloud_etag = span_of(etag);
    cache_learn(box->cache, &name, &asked, etag ? &record : NULL, &blob, box_done(box));
    assert_int_equal(box_wait(box), 0);
    blob_unref(blob);
    cache_ask_end(box->cache, &asked);
}

static void learn_page(uint64_t id, const char *etag)
{
    struct name all = {.container = id};
    struct asked asked = cache_ask(box->cache, &all);
    struct list_gap gap = {id, SPAN(""), SPAN(""), SPAN("")};
    struct blob_record record = {.type = BLOB_BLOCK,
                                 .length = 8,
                                 .cloud_etag = span_of(etag),
                                 .cloud_modified_ns = 1700000000000000000};
    struct learned_row row = {SPAN("b"), &record};

    cache_learn_list(box->cache, &gap, &asked, &row, 1, (struct span){NULL, 0}, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
}

static void test_leases__stay_with_the_name_whoever_writes_in_the_cloud(void **state)
{
    uint64_t id = learned_container("deny");
    struct lease lease = held(30);

    learn(id, "\"1\"");
    grant(id, "b", &lease);
    learn(id, "\"1\""); /* the same, checked again */
    assert_lease(record_of(id, "b").lease, &lease);
    learn(id, "\"2\"");
    assert_lease(record_of(id, "b").lease, &lease);
    learn_page(id, "\"3\"");
    assert_int_equal(record_of(id, "b").length, 8);
    assert_lease(record_of(id, "b").lease, &lease);
    grant(id, "b", &lease); /* of one that was only listed */
    crash(3);
    assert_lease(record_of(id, "b").lease, &lease);
    learn(id, NULL);
    learn(id, "\"4\"");
    assert_int_equal(record_of(id, "b").lease.kind, LEASE_KIND_NONE); /* it ended with the blob */
}

static void test_leases__of_containers_stay_when_the_cloud_is_asked(void **state)
{
    struct lease lease = held(0);
    struct container *found;

    learned_container("deny");
    grant_container(BOX_CLOUD, "deny", &lease);
    pass(1);
    learned_container("deny"); /* with another time */
    assert_int_equal(cache_container(box->cache, BOX_CLOUD, SPAN("deny"), &found), 0);
    assert_lease(container_record(found)->lease, &lease);
    container_unref(found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
        TEST(test_leases__are_durable_under_the_same_etag),
        TEST(test_leases__of_containers_are_durable),
        TEST(test_leases__renewals_are_memorys),
        TEST(test_leases__outlive_the_upload_under_way),
        TEST(test_leases__stay_with_the_name_whoever_writes_in_the_cloud),
        TEST(test_leases__of_containers_stay_when_the_cloud_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
