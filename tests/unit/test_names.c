/* Names under many loops at once. Goal: changes of one name form one chain, whoever makes them:
 * each is judged on the version the one before it made. Method: threads with loops of their own
 * change a few names, delete some, give some turns back, look some up; the ETags each saw and made
 * are chained at the end. */
#include "tests/unit/unit.h"

#include <pthread.h>

#include "cache/metrics.h"
#include "cache/names.h"
#include "tests/support/cachebox.h"

#define THREADS 4
#define OPS     150
#define NAMES   3

struct link { /* one committed change */
    unsigned name;
    uint64_t before, after; /* 0: absent */
};

struct actor {
    pthread_t thread;
    struct cachebox *box;
    uint64_t id, seed;
    struct loop_poll *poll;
    struct awaited awaited;
    struct link links[OPS];
    unsigned count;
    int failed;
};

static uint64_t rnd(struct actor *a, uint64_t below)
{
    a->seed ^= a->seed << 13;
    a->seed ^= a->seed >> 7;
    a->seed ^= a->seed << 17;
    return a->seed % below;
}

static struct completion *done(struct actor *a)
{
    return awaited_init(&a->awaited, loop_poll_loop(a->poll));
}

static int await(struct actor *a)
{
    return loop_await(a->poll, &a->awaited);
}

static const char *const names[NAMES] = {"x", "y", "dir/z"};

/* cmocka's asserts are for the main thread: failures are counted. */
static void change(struct actor *a, unsigned which)
{
    struct name name = box_name(a->id, names[which]);
    struct blob_record record = {.type = BLOB_BLOCK};
    struct link link = {.name = which};
    struct blob *current;
    struct tx *tx;

    cache_begin(a->box->cache, &name, &tx, done(a));
    a->failed += await(a) != 0;
    if (tx_current(tx, &current) == 0)
        link.before = blob_record(current)->etag;
    switch (rnd(a, 4)) {
    case 0:
        cache_rollback(tx, done(a));
        a->failed += await(a) != 0;
        return;
    case 1:
        tx_delete(tx);
        break;
    default:
        tx_put(tx, &record, NULL, 0, NULL, true);
        link.after = record.etag;
    }
    cache_commit(tx, done(a));
    a->failed += await(a) != 0;
    a->links[a->count++] = link;
}

static void look(struct actor *a, unsigned which)
{
    struct name name = box_name(a->id, names[which]);
    struct blob *blob = cache_lookup_hot(a->box->cache, &name);
    int err = 0;

    if (!blob) {
        cache_lookup(a->box->cache, &name, &blob, done(a));
        err = await(a);
    }
    if (!err)
        blob_unref(blob);
    else
        a->failed += err != -ENOENT;
}

static void *act(void *arg)
{
    struct actor *a = arg;

    a->poll = loop_poll_new();
    loop_enter(loop_poll_loop(a->poll));
    for (unsigned i = 0; i < OPS; i++) {
        unsigned which = (unsigned)rnd(a, NAMES);

        if (rnd(a, 4))
            change(a, which);
        else
            look(a, which);
    }
    loop_enter(NULL);
    loop_poll_free(a->poll);
    return NULL;
}

/* Every version but the last is the ground of exactly one change that followed it. */
static uint64_t follow(struct actor *actors, unsigned name)
{
    uint64_t at = 0, puts = 0, grounds = 0;

    for (unsigned t = 0; t < THREADS; t++)
        for (unsigned i = 0; i < actors[t].count; i++) {
            const struct link *link = &actors[t].links[i];
            unsigned followers = 0;

            if (link->name != name || !link->after)
                continue;
            puts++;
            for (unsigned u = 0; u < THREADS; u++)
                for (unsigned k = 0; k < actors[u].count; k++)
                    followers +=
                        actors[u].links[k].name == name && actors[u].links[k].before == link->after;
            assert_true(followers <= 1);
            grounds += followers;
            if (!followers)
                at = link->after;
        }
    assert_true(puts - grounds <= 1);
    return at; /* 0: absent at the end */
}

static void test_changes__of_one_name_form_one_chain_over_all_loops(void **state)
{
    struct cachebox *box = cachebox_new(1);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct actor *actors = xcalloc(THREADS, sizeof(*actors));
    struct blob *blob;

    for (unsigned t = 0; t < THREADS; t++) {
        actors[t] = (struct actor){.box = box, .id = id, .seed = t * 77 + 1};
        assert_int_equal(pthread_create(&actors[t].thread, NULL, act, &actors[t]), 0);
    }
    for (unsigned t = 0; t < THREADS; t++) {
        pthread_join(actors[t].thread, NULL);
        assert_int_equal(actors[t].failed, 0);
    }
    for (unsigned n = 0; n < NAMES; n++) {
        uint64_t last = follow(actors, n);

        assert_int_equal(box_lookup(box, id, names[n], &blob), last ? 0 : -ENOENT);
        if (last) {
            assert_int_equal(blob_record(blob)->etag, last);
            blob_unref(blob);
        }
    }
    free(actors);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_table__sheds_and_reads_again(void **state)
{
    struct cachebox *box = cachebox_new(2);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    static struct pair metadata = {{"k", 1}, {NULL, 0}};
    char *value = xcalloc(1, 8000), name[16];
    int64_t before = STAT_READ(lookups_index);

    metadata.value = span_from(value, 8000);
    for (unsigned i = 0; i < 4000; i++) { /* 32 MB of descriptors, 16 MB of table */
        struct blob_record record = {
            .type = BLOB_BLOCK, .metadata = &metadata, .metadata_count = 1};
        struct name of;
        struct tx *tx;

        snprintf(name, sizeof(name), "n%u", i);
        of = box_name(id, name);
        cache_begin(box->cache, &of, &tx, box_done(box));
        assert_int_equal(box_wait(box), 0);
        tx_put(tx, &record, NULL, 0, NULL, true);
        cache_commit(tx, box_done(box));
        assert_int_equal(box_wait(box), 0);
    }
    assert_true(STAT_READ(names_bytes) < 20 << 20);
    before = STAT_READ(lookups_index);
    for (unsigned i = 0; i < 4000; i += 100) {
        struct blob *blob;

        snprintf(name, sizeof(name), "n%u", i);
        assert_int_equal(box_lookup(box, id, name, &blob), 0);
        assert_int_equal(blob_record(blob)->metadata[0].value.len, 8000);
        blob_unref(blob);
    }
    assert_true(STAT_READ(lookups_index) > before);
    free(value);
    cachebox_free(box);
}

/* Looks it up with nothing of it in the table; returns how many reads might have blocked. */
static int64_t blocking_reads(struct cachebox *box, uint64_t id, const char *name, int expected)
{
    int64_t before = STAT_READ(index_gets);
    struct blob *blob;

    names_forget(box->cache, id, span_of(name));
    assert_int_equal(box_lookup(box, id, name, &blob), expected);
    if (!expected)
        blob_unref(blob);
    return STAT_READ(index_gets) - before;
}

static void test_lookup__leaves_the_loop_only_for_what_the_index_has_not_in_memory(void **state)
{
    struct cachebox *box = cachebox_new(2);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    static const char bytes[200000];

    assert_int_equal(box_put_bytes(box, BOX_LOCAL, "c", id, "small", bytes, 4096, NULL), 0);
    assert_int_equal(box_put_bytes(box, BOX_LOCAL, "c", id, "large", bytes, sizeof(bytes), NULL),
                     0);
    assert_int_equal(blocking_reads(box, id, "small", 0), 0);
    assert_int_equal(blocking_reads(box, id, "absent", -ENOENT), 0);
    assert_true(blocking_reads(box, id, "large", 0) > 0); /* manifest and extents: a worker's */
    cachebox_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes__of_one_name_form_one_chain_over_all_loops),
        cmocka_unit_test(test_table__sheds_and_reads_again),
        cmocka_unit_test(test_lookup__leaves_the_loop_only_for_what_the_index_has_not_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
