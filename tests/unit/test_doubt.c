/* Goal: a mark is there from before a request leaves until what became of the name is learned, over
 * power cuts too, and goes with what was learned in one change; what was asked earlier neither
 * takes it away nor is learned. Method: a whole cache on simulated devices. */
#include "tests/unit/unit.h"

#include "tests/support/cachebox.h"

static struct doubtful blob_of(uint64_t container, const char *name)
{
    return (struct doubtful){BOX_CLOUD, container, span_of(name)};
}

static const struct doubtful ctr = {.account = BOX_CLOUD, .name = SPAN("free")};

static struct cachebox *crashed(struct cachebox *box, uint64_t seed)
{
    struct cachebox *after = cachebox_crash(box, seed);

    cachebox_free(box);
    return after;
}

static int begin(struct cachebox *box, const struct doubtful *of)
{
    cache_doubt_begin(box->cache, of, box_done(box));
    return box_wait(box);
}

/* The cloud's answer to a question asked now under that number. */
static struct asked ask(struct cachebox *box, uint64_t container, const char *name, uint64_t doubt)
{
    struct name of = box_name(container, name);
    struct asked asked = cache_ask(box->cache, &of);

    asked.doubt = doubt;
    return asked;
}

static int learn(struct cachebox *box, uint64_t container, const char *name, struct asked *asked,
                 const char *etag)
{
    struct name of = box_name(container, name);
    struct blob_record record = {.type = BLOB_BLOCK,
                                 .length = 3,
                                 .cloud_etag = etag ? span_of(etag) : SPAN(""),
                                 .cloud_modified_ns = 1000,
                                 .checked_ns = asked->wall_ns};
    struct blob *blob = NULL;
    int err;

    cache_learn(box->cache, &of, asked, etag ? &record : NULL, &blob, box_done(box));
    err = box_wait(box);
    if (blob)
        blob_unref(blob);
    cache_ask_end(box->cache, asked);
    return err;
}

static void gather(void *arg, const struct doubtful *of)
{
    *(struct doubtful *)arg = *of;
}

static void test_doubt__goes_with_what_is_learned(void **state)
{
    static const char *const told[] = {"\"v1\"", "\"v1\"", "\"v2\"", NULL, NULL};
    struct cachebox *box = cachebox_new(1);
    uint64_t id = box_container(box, BOX_CLOUD, "free");
    struct doubtful of = blob_of(id, "b");
    struct asked asked;

    for (unsigned i = 0; i < countof(told); i++) { /* other, same, other, gone, gone already */
        uint64_t open, over;

        assert_int_equal(cache_doubt(box->cache, &of), 0);
        assert_int_equal(begin(box, &of), 0);
        open = cache_doubt(box->cache, &of);
        assert_true(open != 0);
        asked = ask(box, id, "b", open); /* under way still: says nothing of the outcome */
        assert_int_equal(learn(box, id, "b", &asked, told[i]), 0);
        assert_int_equal(cache_doubt(box->cache, &of), open);
        asked = ask(box, id, "b", open);
        over = cache_doubt_over(box->cache, &of);
        assert_true(over != open);
        assert_int_equal(learn(box, id, "b", &asked, told[i]), -ESTALE); /* asked before */
        asked = ask(box, id, "b", 0); /* of one who knows nothing of it */
        assert_int_equal(learn(box, id, "b", &asked, told[i]), 0);
        assert_int_equal(cache_doubt(box->cache, &of), over);
        asked = ask(box, id, "b", over);
        assert_int_equal(learn(box, id, "b", &asked, told[i]), 0);
        assert_int_equal(cache_doubt(box->cache, &of), 0);
    }
    box = crashed(box, 2);
    assert_int_equal(cache_doubts(box->cache, BOX_CLOUD, gather, NULL), 0);
    cachebox_free(box);
}

static void test_doubt__is_there_after_a_power_cut(void **state)
{
    struct cachebox *box = cachebox_new(3);
    uint64_t id = box_container(box, BOX_CLOUD, "free");
    struct doubtful of = blob_of(id, "b/ü"), found = {0};

    assert_int_equal(begin(box, &of), 0);
    box = crashed(box, 4);
    assert_true(cache_doubt(box->cache, &of) != 0);
    assert_int_equal(cache_doubts(box->cache, BOX_LOCAL, gather, &found), 0);
    assert_int_equal(cache_doubts(box->cache, BOX_CLOUD, gather, &found), 1);
    assert_true(span_eq(found.name, of.name) && found.container == id);
    cache_doubt_drop(box->cache, &of);
    assert_int_equal(begin(box, &ctr), 0); /* behind it in the log */
    assert_int_equal(cache_doubt(box->cache, &of), 0);
    box = crashed(box, 5);
    assert_int_equal(cache_doubts(box->cache, BOX_CLOUD, gather, &found), 1);
    assert_true(span_eq(found.name, SPAN("free")) && !found.container);
    assert_int_equal(cachebox_check(box), 0);
    assert_true(cache_doubt(box->cache, &ctr) != 0);
    cachebox_free(box);
}

static void test_doubt__another_request_keeps_it(void **state)
{
    struct cachebox *box = cachebox_new(6);
    uint64_t id = box_container(box, BOX_CLOUD, "free"), first, second;
    struct doubtful of = blob_of(id, "b");
    struct asked asked;

    assert_int_equal(begin(box, &of), 0);
    first = cache_doubt_over(box->cache, &of);
    asked = ask(box, id, "b", first);
    assert_int_equal(begin(box, &of), 0);
    assert_int_equal(learn(box, id, "b", &asked, "\"v1\""), 0); /* true, but not the last word */
    second = cache_doubt(box->cache, &of);
    assert_true(second != 0 && second != first);
    box = crashed(box, 7);
    assert_true(cache_doubt(box->cache, &of) != 0);
    cachebox_free(box);
}

/* What is lifted and marked again at once has its row behind the deletion. */
static void test_doubt__marked_again_while_it_is_lifted(void **state)
{
    struct cachebox *box = cachebox_new(8);
    uint64_t id = box_container(box, BOX_CLOUD, "free");
    struct doubtful of = blob_of(id, "b");

    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(begin(box, &of), 0);
        cache_doubt_drop(box->cache, &of);
        assert_int_equal(begin(box, &of), 0);
        box = crashed(box, 9 + i);
        assert_true(cache_doubt(box->cache, &of) != 0);
    }
    cachebox_free(box);
}

static int learn_container(struct cachebox *box, uint64_t doubt, int64_t modified_ns)
{
    struct container_record record = {.modified_ns = modified_ns};
    struct asked asked = cache_ask(box->cache, &(struct name){0});
    int err;

    asked.doubt = doubt;
    cache_learn_container(box->cache, BOX_CLOUD, SPAN("free"), &asked, modified_ns ? &record : NULL,
                          box_done(box));
    err = box_wait(box);
    cache_ask_end(box->cache, &asked);
    return err;
}

static void test_doubt__of_a_container(void **state)
{
    static const int64_t told[] = {5000, 5000, 6000, 0, 0, 7000}; /* 0: gone */
    struct cachebox *box = cachebox_new(10);

    for (unsigned i = 0; i < countof(told); i++) {
        assert_int_equal(begin(box, &ctr), 0);
        assert_int_equal(learn_container(box, cache_doubt(box->cache, &ctr), told[i]), 0);
        assert_true(cache_doubt(box->cache, &ctr) != 0);
        assert_int_equal(learn_container(box, cache_doubt_over(box->cache, &ctr), told[i]), 0);
        assert_int_equal(cache_doubt(box->cache, &ctr), 0);
    }
    box = crashed(box, 11);
    assert_int_equal(cache_doubt(box->cache, &ctr), 0);
    cachebox_free(box);
}

static void test_doubt__what_the_cloud_has_to_hear(void **state)
{
    struct cachebox *box = cachebox_new(11);
    uint64_t id = box_container(box, BOX_CLOUD, "free");
    struct doubtful of = blob_of(id, "b"), other = blob_of(id + 1, "b");

    assert_true(cache_uploads_of(box->cache, &of, SPAN("free"))); /* its container */
    assert_false(cache_uploads_of(box->cache, &of, SPAN("safe")));
    assert_int_equal(box_put(box, BOX_CLOUD, "free", id, "b", "x", NULL), 0);
    assert_true(cache_uploads_of(box->cache, &of, SPAN("safe")));
    assert_false(cache_uploads_of(box->cache, &other, SPAN("safe")));
    cachebox_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubt__goes_with_what_is_learned),
        cmocka_unit_test(test_doubt__is_there_after_a_power_cut),
        cmocka_unit_test(test_doubt__another_request_keeps_it),
        cmocka_unit_test(test_doubt__marked_again_while_it_is_lifted),
        cmocka_unit_test(test_doubt__of_a_container),
        cmocka_unit_test(test_doubt__what_the_cloud_has_to_hear),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
