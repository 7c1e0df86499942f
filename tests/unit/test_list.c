/* Listings: order, prefix, delimiter, paging, tombstones, uncommitted names; for a cloud: gaps,
 * pages that are learned, names that vanish, stubs, freshness. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "cache/names.h"
#include "tests/support/cachebox.h"

struct listed {
    char text[4096];
    unsigned limit; /* rows after which row() stops the listing; 0: none */
    struct list_end end;
    int err;
};

static int add_row(void *arg, const struct list_row *row)
{
    struct listed *l = arg;
    size_t at = strlen(l->text);

    snprintf(l->text + at, sizeof(l->text) - at, "%.*s%s ", SPAN_FMT(row->name),
             row->uncommitted ? "?"
             : row->record    ? ""
                              : "*");
    return 0;
}

static const char *list_from(struct cachebox *box, struct listed *l, uint64_t id,
                             const char *prefix, const char *delimiter, const char *from,
                             unsigned max)
{
    struct list_query query = {.container = id,
                               .prefix = span_of(prefix),
                               .delimiter = span_of(delimiter),
                               .from = span_of(from),
                               .max = max,
                               .uncommitted = true};

    list_end_done(&l->end);
    l->text[0] = 0;
    l->err = cache_list(box->cache, &query, add_row, l, &l->end);
    return l->text;
}

static void put(struct cachebox *box, uint64_t id, const char *name)
{
    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, name, name, NULL), 0);
}

static void test_list__rows_prefixes_and_pages(void **state)
{
    static const char *const names[] = {"a", "a/x/1", "a/x/2", "a/y", "a-b", "a0", "b/1", "c"};
    struct cachebox *box = cachebox_new(1);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct listed l = {0};

    for (unsigned i = 0; i < countof(names); i++)
        put(box, id, names[i]);
    assert_int_equal(box_stage(box, id, "b/0", "id", "x"), 0);
    assert_int_equal(box_stage(box, id, "c", "id", "x"), 0); /* a blob anyway */
    assert_int_equal(box_delete(box, BOX_LOCAL, "c", id, "a0"), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100),
                        "a a-b a/x/1 a/x/2 a/y b/0? b/1 c ");
    assert_int_equal(l.err, 0);
    assert_null(l.end.next.base);
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "a a-b a/* b/* c ");
    assert_string_equal(list_from(box, &l, id, "a/", "/", "", 100), "a/x/* a/y ");
    assert_string_equal(list_from(box, &l, id, "a/x", "", "", 100), "a/x/1 a/x/2 ");
    assert_string_equal(list_from(box, &l, id, "b/", "", "", 100), "b/0? b/1 ");
    assert_string_equal(list_from(box, &l, id, "", "/", "", 3), "a a-b a/* ");
    assert_span_equal(l.end.next, "b/");
    assert_string_equal(list_from(box, &l, id, "", "/", "b/", 1), "b/* ");
    assert_span_equal(l.end.next, "c");
    assert_string_equal(list_from(box, &l, id, "", "", "a/x/2", 2), "a/x/2 a/y ");
    assert_span_equal(l.end.next, "b/0");
    assert_string_equal(list_from(box, &l, id, "", "", "zzz", 2), "");
    list_from(box, &l, id + 99, "", "", "", 1);
    assert_int_equal(l.err, -ENOENT);
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_list__is_the_same_after_a_restart(void **state)
{
    struct cachebox *box = cachebox_new(2);
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    struct listed l = {0};
    char name[16];

    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "d%u/f%u", i % 4, i);
        put(box, id, name);
    }
    cachebox_close(box);
    cachebox_open(box);
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "d0/* d1/* d2/* d3/* ");
    assert_string_equal(list_from(box, &l, id, "d3/f3", "", "", 100),
                        "d3/f3 d3/f31 d3/f35 d3/f39 ");
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* ---- with a cloud ---- */

static uint64_t learned_container(struct cachebox *box, const char *name)
{
    struct name all = {0};
    struct asked asked = cache_ask(box->cache, &all);
    struct container_record record = {.etag = 1, .modified_ns = 5};
    struct container *container;
    uint64_t id;

    cache_learn_container(box->cache, BOX_CLOUD, span_of(name), &asked, &record, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(cache_container(box->cache, BOX_CLOUD, span_of(name), &container), 0);
    id = container_record(container)->id;
    container_unref(container);
    return id;
}

/* A page as words: name@etag, or a prefix with a star behind it. */
static int learn_page(struct cachebox *box, uint64_t id, const char *prefix, const char *delimiter,
                      const char *from, const char *page, const char *to, const struct asked *asked)
{
    struct learned_row rows[32];
    struct blob_record records[32];
    struct list_gap gap = {id, span_of(prefix), span_of(delimiter), span_of(from)};
    struct span rest = span_of(page);
    size_t n = 0;

    while (rest.len) {
        struct span one = span_cut(rest, ' ', &rest), etag;

        one = span_cut(one, '@', &etag);
        records[n] = (struct blob_record){.type = BLOB_BLOCK,
                                          .length = 7,
                                          .cloud_etag = etag.len ? etag : SPAN("\"1\""),
                                          .cloud_modified_ns = 1700000000000000000};
        rows[n] = (struct learned_row){one, &records[n]};
        if (one.base[one.len - 1] == '*')
            rows[n] = (struct learned_row){span_from(one.base, one.len - 1), NULL};
        n++;
    }
    cache_learn_list(box->cache, &gap, asked, rows, n, to ? span_of(to) : (struct span){NULL, 0},
                     box_done(box));
    return box_wait(box);
}

static int learn_now(struct cachebox *box, uint64_t id, const char *prefix, const char *delimiter,
                     const char *from, const char *page, const char *to)
{
    struct name all = {.container = id};
    struct asked asked = cache_ask(box->cache, &all);
    int err = learn_page(box, id, prefix, delimiter, from, page, to, &asked);

    cache_ask_end(box->cache, &asked);
    return err;
}

static void test_cloud__a_listing_needs_knowledge_and_goes_on_where_it_ends(void **state)
{
    struct cachebox *box = cachebox_new(3);
    uint64_t id = learned_container(box, "deny");
    struct listed l = {0};

    list_from(box, &l, id, "", "", "", 100);
    assert_int_equal(l.err, -ENODATA);
    assert_int_equal(l.end.gap.from.len, 0);
    assert_int_equal(learn_now(box, id, "", "", "", "a b", "c"), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "a b ");
    assert_int_equal(l.err, -ENODATA);
    assert_span_equal(l.end.gap.from, "c");
    assert_string_equal(list_from(box, &l, id, "", "", "", 2), "a b ");
    assert_int_equal(l.err, 0); /* a page that is full needs no more */
    assert_span_equal(l.end.next, "c");
    assert_int_equal(learn_now(box, id, "", "", "c", "c d/1", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "a b c d/1 ");
    assert_int_equal(l.err, 0);
    /* Flat knowledge answers levels and prefixes below it. */
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "a b c d/* ");
    assert_string_equal(list_from(box, &l, id, "d/", "", "", 100), "d/1 ");
    assert_int_equal(l.err, 0);
    cachebox_close(box);
    cachebox_open(box);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "a b c d/1 ");
    assert_int_equal(l.err, 0);
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__a_level_is_known_with_its_stubs(void **state)
{
    struct cachebox *box = cachebox_new(4);
    uint64_t id = learned_container(box, "deny");
    struct listed l = {0};

    assert_int_equal(learn_now(box, id, "", "/", "", "a d/* e/* z", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "a d/* e/* z ");
    assert_int_equal(l.err, 0);
    assert_string_equal(list_from(box, &l, id, "", "/", "d/", 2), "d/* e/* ");
    list_from(box, &l, id, "", "", "", 100);
    assert_int_equal(l.err, -ENODATA); /* flat: what lies below d/ is not known */
    list_from(box, &l, id, "d/", "/", "", 100);
    assert_int_equal(l.err, -ENODATA);
    assert_int_equal(learn_now(box, id, "d/", "/", "d/", "d/1 d/2", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "d/", "/", "", 100), "d/1 d/2 ");
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "a d/* e/* z ");
    assert_int_equal(learn_now(box, id, "", "/", "", "a z", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100),
                        "a z "); /* d/1 and d/2 vanished */
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__a_stub_goes_with_the_last_name_below_it(void **state)
{
    struct cachebox *box = cachebox_new(7);
    uint64_t id = learned_container(box, "free");
    struct listed l = {0};

    assert_int_equal(learn_now(box, id, "", "/", "", "a d/* e/*", NULL), 0);
    assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "d/1"), 0);
    /* Is anything left below d/? Only the cloud knows: it is asked for that prefix. */
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "a ");
    assert_int_equal(l.err, -ENODATA);
    assert_span_equal(l.end.gap.prefix, "d/");
    assert_span_equal(l.end.gap.from, "d/");
    assert_int_equal(learn_now(box, id, "d/", "/", "d/", "d/1 d/2", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "/", "d/", 100), "d/* e/* ");
    assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "d/2"), 0);
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "a e/* ");
    assert_int_equal(l.err, 0);
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__names_vanish_and_change_and_ours_stay(void **state)
{
    struct cachebox *box = cachebox_new(5);
    uint64_t id = learned_container(box, "free");
    struct listed l = {0};
    struct blob *before, *after;

    assert_int_equal(learn_now(box, id, "", "", "", "a b c d", NULL), 0);
    assert_int_equal(box_lookup(box, id, "a", &before), 0);
    assert_int_equal(blob_record(before)->length, 7);
    assert_int_equal(box_put(box, BOX_CLOUD, "free", id, "b", "mine", NULL), 0);
    assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "c"), 0);
    assert_int_equal(learn_now(box, id, "", "", "", "a@\"2\" c d e", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "a b d e ");
    assert_int_equal(box_expect(box, id, "b", "mine"), 0);
    assert_int_equal(box_lookup(box, id, "c", &after), -ENOENT);
    assert_int_equal(box_lookup(box, id, "a", &after), 0);
    assert_true(blob_record(after)->etag != blob_record(before)->etag);
    assert_span_equal(blob_record(after)->cloud_etag, "\"2\"");
    blob_unref(before);
    blob_unref(after);
    assert_int_equal(learn_now(box, id, "", "", "", "e", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "b e ");
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__an_overtaken_page_leaves_the_changed_name_alone(void **state)
{
    struct cachebox *box = cachebox_new(6);
    uint64_t id = learned_container(box, "free");
    struct name all = {.container = id}, one = box_name(id, "x");
    struct listed l = {0};
    struct asked asked = cache_ask(box->cache, &all), asked_one = cache_ask(box->cache, &one);
    struct blob_record old = {.type = BLOB_BLOCK, .length = 7, .cloud_etag = SPAN("\"old\"")};
    struct blob *ret = NULL;

    assert_int_equal(box_put(box, BOX_CLOUD, "free", id, "x", "mine", NULL), 0);
    assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "x"), 0);
    assert_int_equal(learn_page(box, id, "", "", "", "w x y", NULL, &asked), 0);
    cache_learn(box->cache, &one, &asked_one, &old, &ret, box_done(box));
    assert_int_equal(box_wait(box), -ESTALE);
    cache_ask_end(box->cache, &asked);
    cache_ask_end(box->cache, &asked_one);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "w y ");
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__a_prefix_is_given_once_though_knowledge_ends_within_it(void **state)
{
    struct cachebox *box = cachebox_new(12);
    uint64_t id = learned_container(box, "deny");
    struct listed l = {0};

    assert_int_equal(learn_now(box, id, "", "", "", "a d/a d/m", "d/n"), 0);
    assert_string_equal(list_from(box, &l, id, "", "/", "", 100), "a d/* ");
    assert_int_equal(l.err, -ENODATA);
    assert_span_equal(l.end.gap.from, "d0");
    assert_string_equal(list_from(box, &l, id, "", "/", "", 2), "a d/* ");
    assert_int_equal(l.err, 0);
    assert_span_equal(l.end.next, "d0");
    assert_int_equal(learn_now(box, id, "", "/", "d0", "e/* z", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "/", "d0", 100), "e/* z ");
    assert_int_equal(l.err, 0);
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__a_prefix_no_name_can_have_is_an_empty_list(void **state)
{
    struct cachebox *box = cachebox_new(13);
    uint64_t id = learned_container(box, "deny");
    char *text = xmalloc(40001);
    struct listed l = {0};

    memset(text, 'p', 40000);
    text[40000] = 0;
    assert_string_equal(list_from(box, &l, id, text, "/", "", 100), "");
    assert_int_equal(l.err, 0);
    assert_null(l.end.next.base);
    assert_int_equal(learn_now(box, id, "", "", "", "a b", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", text, "", 100), "a b ");
    assert_int_equal(l.err, 0);
    free(text);
    list_end_done(&l.end);
    cachebox_free(box);
}

/* Somebody has the turn of a name that is not here yet and may let it go without a change. */
static void test_cloud__a_page_that_cannot_say_a_name_is_not_taken(void **state)
{
    struct cachebox *box = cachebox_new(10);
    uint64_t id = learned_container(box, "free");
    struct name name = box_name(id, "x");
    struct listed l = {0};
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(learn_now(box, id, "", "", "", "w x y", NULL), -ESTALE);
    list_from(box, &l, id, "", "", "", 100);
    assert_int_equal(l.err, -ENODATA);
    cache_rollback(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(learn_now(box, id, "", "", "", "w x y", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "w x y ");
    assert_int_equal(l.err, 0);
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* What a page says of other names counts though its range does not: a change that begins when the
 * page is ordered may rest on it already, and is not to fail for it. */
static void test_cloud__a_page_that_is_not_taken_takes_no_name_back(void **state)
{
    struct cachebox *box = cachebox_new(14);
    uint64_t id = learned_container(box, "free");
    struct name held = box_name(id, "x");
    struct span name = SPAN("w");
    struct blob *found = NULL;
    struct tx *tx;

    cache_begin(box->cache, &held, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(learn_now(box, id, "", "", "", "w x y", NULL), -ESTALE);
    assert_int_equal(names_load(box->cache, NULL, id, name, &found), 0);
    assert_int_equal(found->state, BLOB_CLOUD);
    blob_unref(found);
    cache_rollback(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__an_answer_overtaken_by_a_page_is_not_taken(void **state)
{
    struct cachebox *box = cachebox_new(11);
    uint64_t id = learned_container(box, "deny");
    struct name one = box_name(id, "x");
    struct asked asked = cache_ask(box->cache, &one);
    struct blob_record old = {.type = BLOB_BLOCK, .length = 7, .cloud_etag = SPAN("\"old\"")};
    struct blob *ret = NULL;

    assert_int_equal(learn_now(box, id, "", "", "", "w x@\"new\" y", NULL), 0);
    cache_learn(box->cache, &one, &asked, &old, &ret, box_done(box));
    assert_int_equal(box_wait(box), -ESTALE);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(box_lookup(box, id, "x", &ret), 0);
    assert_span_equal(blob_record(ret)->cloud_etag, "\"new\"");
    blob_unref(ret);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

#define MANY_PREFIXES 5000
static int count_row(void *arg, const struct list_row *row)
{
    ++*(unsigned *)arg;
    return 0;
}

/* Every prefix of first..last-1 in a name of its own of 1 000 bytes. */
static int learn_prefixes(struct cachebox *box, uint64_t id, unsigned first, unsigned last)
{
    struct learned_row *rows = xcalloc(MANY_PREFIXES, sizeof(*rows));
    char *names = xmalloc(MANY_PREFIXES * 1000);
    struct list_gap gap = {id, SPAN(""), SPAN("/"), SPAN("")};
    struct asked asked = cache_ask(box->cache, &(struct name){.container = id});
    int err;

    memset(names, 'p', MANY_PREFIXES * 1000);
    for (unsigned i = first; i < last; i++) {
        char *name = names + (size_t)(i - first) * 1000, number[8];

        snprintf(number, sizeof(number), "%05u", i);
        memcpy(name, number, 5);
        name[999] = '/';
        rows[i - first] = (struct learned_row){span_from(name, 1000), NULL};
    }
    cache_learn_list(box->cache, &gap, &asked, rows, last - first, (struct span){NULL, 0},
                     box_done(box));
    err = box_wait(box);
    cache_ask_end(box->cache, &asked);
    free(rows);
    free(names);
    return err;
}

static unsigned count_prefixes(struct cachebox *box, uint64_t id)
{
    struct list_query query = {.container = id,
                               .prefix = SPAN(""),
                               .delimiter = SPAN("/"),
                               .from = SPAN(""),
                               .max = 20000};
    struct list_end end;
    unsigned n = 0;

    assert_int_equal(cache_list(box->cache, &query, count_row, &n, &end), 0);
    list_end_done(&end);
    return n;
}

static void test_cloud__a_page_of_many_long_prefixes_is_learned_in_parts(void **state)
{
    struct cachebox *box = cachebox_new(8);
    uint64_t id = learned_container(box, "deny");

    assert_int_equal(learn_prefixes(box, id, 0, MANY_PREFIXES), 0);
    assert_int_equal(count_prefixes(box, id), MANY_PREFIXES);
    assert_int_equal(learn_prefixes(box, id, 0, MANY_PREFIXES), 0);
    assert_int_equal(count_prefixes(box, id), MANY_PREFIXES);
    assert_int_equal(learn_prefixes(box, id, 4000, 9000), 0); /* 4 000 vanished, as many are new */
    assert_int_equal(count_prefixes(box, id), MANY_PREFIXES);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_cloud__a_page_over_many_small_ranges_replaces_them(void **state)
{
    struct cachebox *box = cachebox_new(9);
    uint64_t id = learned_container(box, "deny");
    struct listed l = {0};

    for (unsigned i = 0; i < 100; i++) {
        char from[8], to[8];

        snprintf(from, sizeof(from), "%03u", i);
        snprintf(to, sizeof(to), "%03u", i + 1);
        assert_int_equal(learn_now(box, id, "", "", from, from, to), 0);
    }
    assert_int_equal(learn_now(box, id, "", "", "0005", "001", "0995"), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "000", 100), "000 001 ");
    assert_int_equal(l.err, -ENODATA);
    assert_span_equal(l.end.gap.from, "100");
    assert_int_equal(learn_now(box, id, "", "", "", "", NULL), 0);
    assert_string_equal(list_from(box, &l, id, "", "", "", 100), "");
    assert_int_equal(l.err, 0);
    list_end_done(&l.end);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list__rows_prefixes_and_pages),
        cmocka_unit_test(test_list__is_the_same_after_a_restart),
        cmocka_unit_test(test_cloud__a_listing_needs_knowledge_and_goes_on_where_it_ends),
        cmocka_unit_test(test_cloud__a_level_is_known_with_its_stubs),
        cmocka_unit_test(test_cloud__a_stub_goes_with_the_last_name_below_it),
        cmocka_unit_test(test_cloud__names_vanish_and_change_and_ours_stay),
        cmocka_unit_test(test_cloud__an_overtaken_page_leaves_the_changed_name_alone),
        cmocka_unit_test(test_cloud__a_prefix_is_given_once_though_knowledge_ends_within_it),
        cmocka_unit_test(test_cloud__a_prefix_no_name_can_have_is_an_empty_list),
        cmocka_unit_test(test_cloud__a_page_that_cannot_say_a_name_is_not_taken),
        cmocka_unit_test(test_cloud__a_page_that_is_not_taken_takes_no_name_back),
        cmocka_unit_test(test_cloud__an_answer_overtaken_by_a_page_is_not_taken),
        cmocka_unit_test(test_cloud__a_page_of_many_long_prefixes_is_learned_in_parts),
        cmocka_unit_test(test_cloud__a_page_over_many_small_ranges_replaces_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
