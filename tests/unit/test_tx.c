/* One name's changes over a whole cache on simulated devices: what is answered is there, also after
 * a restart and a crash; conditions are judged on what is ordered; a refusal waits for what it
 * rests on. */
#include "tests/unit/unit.h"

#include "cache/order.h"
#include "tests/support/cachebox.h"

static char *text_of(size_t len, unsigned seed)
{
    char *text = xmalloc(len + 1);

    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + (i * 7 + i / 4096 + seed) % 26);
    text[len] = 0;
    return text;
}

static void test_put__is_read_back_small_and_large_and_empty(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 65536, 65537, 5u << 20};
    struct cachebox *box = cachebox_new(1);
    uint64_t id = box_container(box, BOX_LOCAL, "c");

    for (unsigned i = 0; i < countof(sizes); i++) {
        _cleanup_(freep) char *text = text_of(sizes[i], i);

        assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "blob", text, NULL), 0);
        assert_int_equal(box_expect(box, id, "blob", text), 0);
        cachebox_close(box);
        cachebox_open(box);
        assert_int_equal(box_expect(box, id, "blob", text), 0);
    }
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_put__survives_a_crash(void **state)
{
    struct cachebox *box = cachebox_new(2), *image;
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    _cleanup_(freep) char *large = text_of(300000, 3);

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "small", "tiny", NULL), 0);
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "large", large, NULL), 0);
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "gone", "x", NULL), 0);
    assert_int_equal(box_delete(box, BOX_LOCAL, "c", id, "gone"), 0);
    for (uint64_t seed = 0; seed < 4; seed++) {
        image = cachebox_crash(box, seed);
        assert_int_equal(box_expect(image, id, "small", "tiny"), 0);
        assert_int_equal(box_expect(image, id, "large", large), 0);
        assert_int_equal(box_expect(image, id, "gone", "x"), -ENOENT);
        assert_int_equal(cachebox_check(image), 0);
        cachebox_free(image);
    }
    loop_enter(loop_poll_loop(box->poll));
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_overwrite__gives_the_new_bytes_and_a_rising_etag(void **state)
{
    struct cachebox *box = cachebox_new(3);
    uint64_t id = box_container(box, BOX_LOCAL, "c"), first, second;
    struct blob *held;
    size_t len;
    char *bytes;
    int err;

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "one", &first), 0);
    assert_int_equal(box_lookup(box, id, "b", &held), 0);
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "two", &second), 0);
    assert_true(second > first);
    assert_int_equal(box_expect(box, id, "b", "two"), 0);
    bytes = box_read(box, held, &len, &err); /* a reference pins what was replaced */
    assert_int_equal(err, 0);
    assert_string_equal(bytes, "one");
    free(bytes);
    blob_unref(held);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_expect(box, id, "b", "two"), 0);
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "three", &first), 0);
    assert_true(first > second);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_delete__is_absent_and_stays_so(void **state)
{
    struct cachebox *box = cachebox_new(4);
    uint64_t id = box_container(box, BOX_LOCAL, "c");

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "one", NULL), 0);
    assert_int_equal(box_delete(box, BOX_LOCAL, "c", id, "b"), 0);
    assert_int_equal(box_expect(box, id, "b", "one"), -ENOENT);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_expect(box, id, "b", "one"), -ENOENT);
    assert_int_equal(box_expect(box, id, "never", "one"), -ENOENT);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_unknown__is_asked_for_only_where_there_is_a_cloud(void **state)
{
    struct cachebox *box = cachebox_new(5);
    uint64_t local = box_container(box, BOX_LOCAL, "c"), cloud = box_container(box, BOX_CLOUD, "d");
    struct container *container;

    assert_int_equal(box_expect(box, local, "x", ""), -ENOENT);
    /* Its create is not in the cloud yet: nobody else can have put anything there. */
    assert_int_equal(box_expect(box, cloud, "x", ""), -ENOENT);
    assert_int_equal(cache_container(box->cache, BOX_LOCAL, SPAN("nope"), &container), -ENOENT);
    assert_int_equal(cache_container(box->cache, BOX_CLOUD, SPAN("nope"), &container), -ENODATA);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* ---- order ---- */

struct begun {
    struct completion done;
    struct tx *tx;
    int fired;
    int err;
};

static void begun_fn(struct completion *done)
{
    struct begun *b = container_of(done, struct begun, done);

    b->fired++;
    b->err = done->err;
}

static void begin(struct cachebox *box, struct begun *b, uint64_t id, const char *blob)
{
    struct name name = box_name(id, blob);

    *b = (struct begun){.done = {.fn = begun_fn, .loop = loop_poll_loop(box->poll)}};
    cache_begin(box->cache, &name, &b->tx, &b->done);
}

static void spin(struct cachebox *box, const int *fired)
{
    while (!*fired)
        loop_poll_once(box->poll, 100);
}

static void test_begin__is_first_in_first_out(void **state)
{
    struct cachebox *box = cachebox_new(6);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct begun b[3];
    struct blob *current;

    for (unsigned i = 0; i < 3; i++)
        begin(box, &b[i], id, "b");
    spin(box, &b[0].fired);
    loop_poll_once(box->poll, 0);
    assert_int_equal(b[1].fired + b[2].fired, 0);
    for (unsigned i = 0; i < 3; i++) {
        struct blob_record record = {.type = BLOB_BLOCK};

        spin(box, &b[i].fired);
        assert_int_equal(b[i].err, 0);
        if (i + 1 < 3)
            assert_int_equal(b[i + 1].fired, 0);
        /* What was queued by the one before is judged on, though nothing waited for it. */
        assert_int_equal(tx_current(b[i].tx, &current), i ? 0 : -ENOENT);
        tx_put(b[i].tx, &record, NULL, 0, NULL, true);
        b[i].fired = 0;
        cache_commit(b[i].tx, &b[i].done);
    }
    for (unsigned i = 0; i < 3; i++)
        spin(box, &b[i].fired);
    assert_int_equal(b[2].err, 0);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_rollback__waits_for_what_it_rests_on(void **state)
{
    struct cachebox *box = cachebox_new(7);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct blob_record record = {.type = BLOB_BLOCK};
    struct name name = box_name(id, "b");
    struct begun put, refused;
    struct blob *current, *found;

    begin(box, &put, id, "b");
    spin(box, &put.fired);
    begin(box, &refused, id, "b");
    tx_put(put.tx, &record, NULL, 0, NULL, true);
    put.fired = 0;
    cache_commit(put.tx, &put.done);
    spin(box, &refused.fired);
    assert_int_equal(tx_current(refused.tx, &current), 0); /* If-None-Match: * fails here */
    refused.fired = 0;
    cache_rollback(refused.tx, &refused.done);
    spin(box, &refused.fired);
    assert_int_equal(refused.err, 0);
    found = cache_lookup_hot(box->cache, &name);
    assert_non_null(found); /* durable and published before the refusal leaves */
    blob_unref(found);
    spin(box, &put.fired);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* The test plays the committer: the second change is decided before the first has ended. */
static void test_order__refuses_what_rests_on_a_change_that_was_not_agreed_to(void **state)
{
    struct cachebox *box = cachebox_new(11);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct begun b[2];

    for (unsigned i = 0; i < 2; i++) {
        begin(box, &b[i], id, "b");
        spin(box, &b[i].fired);
        order_queued(b[i].tx);
        order_leave(b[i].tx);
    }
    assert_int_equal(b[1].tx->rests_on, b[0].tx->serial);
    assert_false(order_refused(b[0].tx));
    assert_true(order_refused(b[1].tx)); /* the first was refused, perhaps without a decision */
    order_agreed(b[0].tx);
    assert_false(order_refused(b[1].tx));
    order_ended(b[0].tx, -EIO); /* and now its round has failed */
    assert_true(order_refused(b[1].tx));
    order_ended(b[1].tx, -EIO);
    for (unsigned i = 0; i < 2; i++)
        tx_free(b[i].tx);
    cachebox_free(box);
}

/* A page that was learned takes no turn: it holds the name from its place in the order on. */
static void test_order__a_claim_is_what_the_next_turn_is_judged_on(void **state)
{
    struct cachebox *box = cachebox_new(12);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct order_claim claim;
    struct blob *found;
    bool undecided;
    struct begun b;

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "one", NULL), 0);
    assert_int_equal(box_lookup(box, id, "other", &found), -ENOENT);
    assert_int_equal(box_lookup(box, id, "b", &found), 0);
    for (unsigned failed = 0; failed < 2; failed++) {
        assert_true(
            order_claim(box->cache, id, SPAN("b"), failed ? NULL : found, &claim, &undecided));
        begin(box, &b, id, "b");
        spin(box, &b.fired);
        assert_ptr_equal(b.tx->current, failed ? NULL : found);
        assert_int_equal(b.tx->rests_on, claim.serial);
        assert_false(order_claim(box->cache, id, SPAN("b"), NULL, &claim, &undecided));
        assert_true(undecided);
        assert_false(order_refused(b.tx));
        order_unclaim(box->cache, &claim, failed ? -ESTALE : 0);
        assert_int_equal(order_refused(b.tx), failed);
        b.fired = 0;
        cache_rollback(b.tx, &b.done);
        spin(box, &b.fired);
    }
    blob_unref(found);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_begin__cancelled_leaves_the_line(void **state)
{
    struct cachebox *box = cachebox_new(8);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct begun b[3];

    for (unsigned i = 0; i < 3; i++)
        begin(box, &b[i], id, "b");
    spin(box, &b[0].fired);
    b[2].done.cancel(&b[2].done);
    spin(box, &b[2].fired);
    assert_int_equal(b[2].err, -ECANCELED);
    b[0].fired = 0;
    cache_rollback(b[0].tx, &b[0].done);
    spin(box, &b[0].fired);
    spin(box, &b[1].fired);
    assert_int_equal(b[1].err, 0);
    b[1].fired = 0;
    cache_rollback(b[1].tx, &b[1].done);
    spin(box, &b[1].fired);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_container__that_goes_takes_its_blobs_and_a_new_one_is_empty(void **state)
{
    struct cachebox *box = cachebox_new(9);
    uint64_t id = box_container(box, BOX_LOCAL, "c"), again;
    struct begun late;
    struct blob_record record = {.type = BLOB_BLOCK};

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "one", NULL), 0);
    begin(box, &late, id, "late");
    spin(box, &late.fired);
    assert_int_equal(box_delete_container(box, BOX_LOCAL, "c"), 0);
    tx_put(late.tx, &record, NULL, 0, NULL, true);
    late.fired = 0;
    cache_commit(late.tx, &late.done);
    spin(box, &late.fired);
    assert_int_equal(late.err, -ENOENT);
    assert_int_equal(box_expect(box, id, "b", "one"), -ENOENT);
    again = box_container(box, BOX_LOCAL, "c");
    assert_true(again != id);
    assert_int_equal(box_expect(box, again, "b", "one"), -ENOENT);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_expect(box, again, "b", "one"), -ENOENT);
    assert_int_equal(box_expect(box, id, "b", "one"), -ENOENT);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_describe__keeps_the_content(void **state)
{
    static const struct pair metadata = {{"k", 1}, {"v", 1}};
    struct cachebox *box = cachebox_new(10);
    uint64_t id = box_container(box, BOX_LOCAL, "c"), etag;
    struct blob_record record;
    struct begun b;
    struct blob *current, *found;

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "b", "body", &etag), 0);
    begin(box, &b, id, "b");
    spin(box, &b.fired);
    assert_int_equal(tx_current(b.tx, &current), 0);
    record = *blob_record(current);
    record.metadata = &metadata;
    record.metadata_count = 1;
    tx_describe(b.tx, &record);
    b.fired = 0;
    cache_commit(b.tx, &b.done);
    spin(box, &b.fired);
    assert_int_equal(b.err, 0);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_expect(box, id, "b", "body"), 0);
    assert_int_equal(box_lookup(box, id, "b", &found), 0);
    assert_true(blob_record(found)->etag > etag);
    assert_int_equal(blob_record(found)->metadata_count, 1);
    assert_span_equal(blob_record(found)->metadata[0].name, "k");
    blob_unref(found);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put__is_read_back_small_and_large_and_empty),
        cmocka_unit_test(test_put__survives_a_crash),
        cmocka_unit_test(test_overwrite__gives_the_new_bytes_and_a_rising_etag),
        cmocka_unit_test(test_delete__is_absent_and_stays_so),
        cmocka_unit_test(test_unknown__is_asked_for_only_where_there_is_a_cloud),
        cmocka_unit_test(test_begin__is_first_in_first_out),
        cmocka_unit_test(test_rollback__waits_for_what_it_rests_on),
        cmocka_unit_test(test_order__refuses_what_rests_on_a_change_that_was_not_agreed_to),
        cmocka_unit_test(test_order__a_claim_is_what_the_next_turn_is_judged_on),
        cmocka_unit_test(test_begin__cancelled_leaves_the_line),
        cmocka_unit_test(test_container__that_goes_takes_its_blobs_and_a_new_one_is_empty),
        cmocka_unit_test(test_describe__keeps_the_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
