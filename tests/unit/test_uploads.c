/* The write-back queue: per blob order and bases, batches and phases of order = safe, merging,
 * cancelling, container barriers, confirmations, retries, held entries, restart and crash. */
#include "tests/unit/queue_fixture.h"

#include "cache/content.h"
#include "tests/support/io_tap.h"

static const char *take_all(void)
{
    return queue_take(true);
}

static void end_first(enum upload_end end, const char *etag)
{
    queue_end_first(end, etag);
}

static uint64_t ready_container(const char *name) /* created and in the cloud */
{
    uint64_t id = box_container(box, BOX_CLOUD, name);

    (void)take_all();
    confirm_all();
    return id;
}

static int setup(void **state)
{
    queue_open(cachebox_new(1));
    return 0;
}

static int teardown(void **state)
{
    queue_close();
    return 0;
}

static void test_container__is_a_barrier_for_its_blobs(void **state)
{
    uint64_t id = box_container(box, BOX_CLOUD, "safe");

    put(id, "safe", "a", "1");
    assert_string_equal(take_all(), "+/safe ");
    assert_string_equal(take_all(), "");
    end_first(UPLOAD_CONFIRMED, "");
    assert_string_equal(take_all(), "a! ");
    assert_int_equal(out[0]->blob != NULL, 1);
    confirm_all();
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 0);
}

static void test_confirmed__is_told_to_the_record_and_is_the_next_base(void **state)
{
    uint64_t id = ready_container("free"), etag;
    struct blob *found;

    assert_int_equal(box_put(box, BOX_CLOUD, "free", id, "a", "one", &etag), 0);
    assert_string_equal(take_all(), "a ");
    put(id, "free", "a", "two");
    assert_string_equal(take_all(), ""); /* one of a name in flight */
    end_first(UPLOAD_CONFIRMED, "\"0x8D1\"");
    assert_int_equal(box_lookup(box, id, "a", &found), 0);
    assert_int_equal(blob_record(found)->durability, DURABILITY_LOCAL);
    blob_unref(found);
    assert_string_equal(take_all(), "a=\"0x8D1\" ");
    assert_true(blob_record(out[0]->blob)->length == 3);
    end_first(UPLOAD_CONFIRMED, "\"0x8D2\"");
    assert_int_equal(box_lookup(box, id, "a", &found), 0);
    assert_int_equal(blob_record(found)->durability, DURABILITY_CLOUD);
    assert_span_equal(blob_record(found)->cloud_etag, "\"0x8D2\"");
    blob_unref(found);
    put(id, "free", "a", "three");
    assert_string_equal(take_all(), "a=\"0x8D2\" ");
    confirm_all();
    assert_int_equal(box_expect(box, id, "a", "three"), 0);
}

/* Between its order and its end a confirmation may still fail: then the entry comes back. */
static struct upload *given_at_flush;

static void take_at_flush(void *arg, const struct io_tap_event *event)
{
    uint64_t retry_ns;

    if (event->flush != TAP_LOG || given_at_flush)
        return;
    if (cache_upload_next(box->cache, BOX_CLOUD, &given_at_flush, &retry_ns) < 0)
        given_at_flush = NULL;
}

static void test_confirmed__lets_the_next_of_the_name_go_when_it_is_durable(void **state)
{
    struct upload_result yes = {.end = UPLOAD_CONFIRMED, .cloud_etag = SPAN("\"e\"")};
    static struct io_tap tap; /* the box outlives the test */
    uint64_t id;

    box = cachebox_free(box);
    box = cachebox_make(1, 2);
    io_tap_init(&tap, io_sim_ops(box->sim));
    box->io_ops = &tap.ops;
    cachebox_open(box);
    cache_uploads_watch(box->cache, queue_wake, NULL);
    id = ready_container("free");
    put(id, "free", "a", "1");
    assert_string_equal(take_all(), "a ");
    put(id, "free", "a", "2");
    given_at_flush = NULL;
    tap.before = take_at_flush;
    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    cache_upload_end(box->cache, out[0], &yes, box_done(box));
    assert_int_equal(box_wait(box), -EIO);
    out_count = 0;
    assert_null(given_at_flush);
    tap.before = NULL;
    assert_string_equal(take_all(), ""); /* it waits for its second try, and what follows for it */
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 2);
    assert_int_equal(cache_stats(box->cache).uploads_in_flight, 0);
}

static void test_upload__reads_its_version_though_the_name_went_on(void **state)
{
    uint64_t id = ready_container("free");
    char *text = xmalloc(100001), *bytes;
    size_t len;
    int err;

    memset(text, 'q', 100000);
    text[100000] = 0;
    put(id, "free", "a", text);
    put(id, "free", "s", "small one");
    assert_string_equal(take_all(), "a s ");
    put(id, "free", "a", "two");
    assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "s"), 0);
    for (unsigned i = 0; i < 2; i++) { /* once held, once found again after a restart */
        bytes = box_read(box, out[0]->blob, &len, &err);
        assert_int_equal(err, 0);
        assert_int_equal(len, 100000);
        free(bytes);
        bytes = box_read(box, out[1]->blob, &len, &err);
        assert_int_equal(err, 0);
        assert_string_equal(bytes, "small one");
        free(bytes);
        end_first(UPLOAD_RETRY, NULL);
        end_first(UPLOAD_RETRY, NULL);
        cachebox_close(box);
        cachebox_open(box);
        assert_string_equal(take_all(), "a s ");
    }
    end_first(UPLOAD_CONFIRMED, "\"1\"");
    end_first(UPLOAD_CONFIRMED, "\"2\"");
    assert_string_equal(take_all(), "a=\"1\" -s=\"2\" ");
    confirm_all();
    assert_int_equal(box_expect(box, id, "a", "two"), 0);
    assert_int_equal(box_expect(box, id, "s", ""), -ENOENT);
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 0);
    free(text);
}

static void test_open_batch__newer_replaces_and_delete_cancels(void **state)
{
    uint64_t id = box_container(box, BOX_CLOUD, "safe");

    put(id, "safe", "a", "1");
    put(id, "safe", "a", "22");
    put(id, "safe", "gone", "1");
    assert_int_equal(box_delete(box, BOX_CLOUD, "safe", id, "gone"), 0);
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 2); /* the container and one a */
    assert_string_equal(take_all(), "+/safe ");
    confirm_all();
    assert_string_equal(take_all(), "a! ");
    assert_int_equal(blob_record(out[0]->blob)->length, 2);
    confirm_all();
    assert_int_equal(box_expect(box, id, "gone", ""), -ENOENT);
}

static void test_safe__phases_and_batches(void **state)
{
    uint64_t id = box_container(box, BOX_CLOUD, "safe");

    put(id, "safe", "old", "1");
    put(id, "safe", "stale", "1");
    (void)take_all();
    confirm_all();
    assert_string_equal(take_all(), "old! stale! ");
    confirm_all();

    put(id, "safe", "latest", "1"); /* a marker of an unknown name */
    assert_int_equal(box_delete(box, BOX_CLOUD, "safe", id, "stale"), 0);
    put(id, "safe", "old", "2");
    assert_string_equal(take_all(), "old=\"e\" "); /* overwrites before markers before deletes */
    put(id, "safe", "latest", "2");                /* the frozen one is not replaced */
    put(id, "safe", "old", "3");
    assert_string_equal(take_all(), "");
    confirm_all();
    assert_string_equal(take_all(), "latest ");
    assert_int_equal(blob_record(out[0]->blob)->length, 1);
    confirm_all();
    assert_string_equal(take_all(), "-stale=\"e\" ");
    assert_string_equal(take_all(), "");
    confirm_all();
    assert_string_equal(take_all(), "old=\"e\" ");
    confirm_all();
    assert_string_equal(take_all(), "latest=\"e\" ");
    confirm_all();
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 0);
}

static void test_safe__new_blobs_of_the_open_batch_flow(void **state)
{
    uint64_t id = box_container(box, BOX_CLOUD, "safe");

    put(id, "safe", "first", "1");
    assert_string_equal(take_all(), "+/safe ");
    put(id, "safe", "1.metadata", "m");
    confirm_all();
    assert_string_equal(take_all(), "first! "); /* the marker waits for it */
    /* The container is in the cloud now: names nobody has heard of may be there; not so after a
     * delete. */
    end_first(UPLOAD_CONFIRMED, "\"f\"");
    assert_string_equal(take_all(), "1.metadata! ");
    assert_int_equal(box_delete(box, BOX_CLOUD, "safe", id, "first"), 0);
    confirm_all();
    assert_string_equal(take_all(), "-first=\"f\" ");
    confirm_all();
    put(id, "safe", "1.metadata", "n");
    put(id, "safe", "first", "again"); /* certainly absent */
    assert_string_equal(take_all(), "first! ");
    put(id, "safe", "2.metadata", "m");
    assert_string_equal(take_all(), "");
    confirm_all();
    assert_string_equal(take_all(), "1.metadata=\"e\" ");
    confirm_all();
    assert_string_equal(take_all(), "2.metadata ");
    confirm_all();
}

static void test_held__stops_later_phases_and_says_so_after_a_restart(void **state)
{
    uint64_t id = ready_container("safe");

    put(id, "safe", "a", "1");
    put(id, "safe", "latest", "1");
    assert_string_equal(take_all(), "a ");
    end_first(UPLOAD_HELD, NULL);
    assert_string_equal(take_all(), "");
    assert_int_equal(cache_stats(box->cache).uploads_held, 1);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(cache_stats(box->cache).uploads_held, 1);
    assert_string_equal(take_all(), "");
    assert_int_equal(box_expect(box, id, "a", "1"), 0);
}

/* Its container is deleted while that it is held is being made durable. */
static void learn_all(uint64_t id, const char *name, const char *etag) /* the whole list: one */
{
    struct name all = {.container = id};
    struct list_gap gap = {id, SPAN(""), SPAN(""), SPAN("")};
    struct asked asked = cache_ask(box->cache, &all);
    struct blob_record record = {.type = BLOB_BLOCK, .length = 7, .cloud_etag = span_of(etag)};

    cache_learn_list(box->cache, &gap, &asked, &(struct learned_row){span_of(name), &record}, 1,
                     (struct span){NULL, 0}, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_ask_end(box->cache, &asked);
}

static int no_row(void *arg, const struct list_row *row)
{
    return -EBADE;
}

/* conflict = theirs: what is here goes, what the cloud has is asked for and taken. */
static void learn_all_late(uint64_t id, struct asked *asked, const char *name, int want)
{
    struct list_gap gap = {id, SPAN(""), SPAN(""), SPAN("")};
    struct blob_record record = {.type = BLOB_BLOCK, .length = 7, .cloud_etag = SPAN("\"theirs\"")};

    cache_learn_list(box->cache, &gap, asked, &(struct learned_row){span_of(name), &record}, 1,
                     (struct span){NULL, 0}, box_done(box));
    assert_int_equal(box_wait(box), want);
    cache_ask_end(box->cache, asked);
}

/* A page that was asked for before would put a range over a name that has no row: a blob of the
 * cloud that is answered 404 and missing from lists. */
static void test_superseded__overtakes_a_listing_under_way(void **state)
{
    static const struct {
        enum upload_end end;
        const char *etag;
    } ends[] = {{UPLOAD_SUPERSEDED, NULL}, {UPLOAD_CONFIRMED, ""}};
    uint64_t id = ready_container("free");
    struct name all = {.container = id};

    for (unsigned i = 0; i < countof(ends); i++) {
        struct asked asked;
        struct blob *blob;

        put(id, "free", "x", "ours");
        (void)take_all();
        asked = cache_ask(box->cache, &all);
        end_first(ends[i].end, ends[i].etag);
        learn_all_late(id, &asked, "x", -ESTALE);
        assert_int_equal(box_lookup(box, id, "x", &blob), -ENODATA);
        asked = cache_ask(box->cache, &all); /* asked again it is there */
        learn_all_late(id, &asked, "x", 0);
        assert_int_equal(box_lookup(box, id, "x", &blob), 0);
        assert_int_equal(blob_record(blob)->length, 7);
        blob_unref(blob);
    }
}

static void test_superseded__the_clouds_version_counts(void **state)
{
    uint64_t id = ready_container("free");
    struct list_query query = {.container = id, .prefix = SPAN(""), .max = 9};
    struct name name = box_name(id, "a");
    struct list_end end;
    struct blob *blob;

    for (unsigned deleted = 0; deleted < 2; deleted++) {
        struct blob_record theirs = {
            .type = BLOB_BLOCK, .length = 9, .cloud_etag = SPAN("\"theirs\"")};
        struct asked asked;

        learn_all(id, "a", "\"old\"");
        if (deleted)
            assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "a"), 0);
        else
            put(id, "free", "a", "ours");
        assert_string_equal(take_all(), deleted ? "-a=\"old\" " : "a=\"old\" ");
        end_first(UPLOAD_SUPERSEDED, NULL);
        assert_int_equal(box_lookup(box, id, "a", &blob), -ENODATA);
        assert_int_equal(cache_list(box->cache, &query, no_row, NULL, &end), -ENODATA);
        list_end_done(&end);
        assert_int_equal(cachebox_check(box), 0);
        assert_int_equal(box_lookup(box, id, "a", &blob), -ENODATA);
        asked = cache_ask(box->cache, &name);
        blob = NULL;
        cache_learn(box->cache, &name, &asked, &theirs, &blob, box_done(box));
        assert_int_equal(box_wait(box), 0);
        cache_ask_end(box->cache, &asked);
        assert_int_equal(blob_record(blob)->length, 9);
        blob_unref(blob);
        assert_int_equal(cache_stats(box->cache).dirty_bytes, 0);
    }
}

/* More names wait behind a held entry of their own than are looked at in one go. */
/* A proxy that strips the ETag: the bytes are in the cloud, under a version nobody can name. */
static void test_confirmed__without_an_etag_is_asked_for(void **state)
{
    uint64_t id = ready_container("free");
    struct blob *blob;

    put(id, "free", "a", "1");
    assert_string_equal(take_all(), "a ");
    put(id, "free", "a", "2");
    end_first(UPLOAD_CONFIRMED, "");
    assert_int_equal(box_expect(box, id, "a", "2"), 0);
    assert_string_equal(take_all(), "a ");
    end_first(UPLOAD_CONFIRMED, "");
    assert_int_equal(box_lookup(box, id, "a", &blob), -ENODATA);
    assert_int_equal(cache_stats(box->cache).dirty_bytes, 0);
    put(id, "free", "a", "3");
    assert_string_equal(take_all(), "a ");
    confirm_all();
    assert_int_equal(box_expect(box, id, "a", "3"), 0);
}

static void test_scopes__take_turns(void **state)
{
    uint64_t safe = ready_container("safe"), other = ready_container("free");

    put(safe, "safe", "a", "1");
    put(safe, "safe", "b", "1");
    put(safe, "safe", "c", "1");
    put(other, "free", "x", "1");
    put(other, "free", "y", "1");
    take_all();
    assert_int_equal(out_count, 5);
    for (unsigned i = 0; i + 1 < 4; i++) /* not one scope after another */
        assert_true(out[i]->name.container != out[i + 1]->name.container);
    confirm_all();
}

static void test_held__of_many_names_does_not_hide_what_can_go(void **state)
{
    uint64_t id = ready_container("free");
    char name[16];

    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 600; i++) {
            snprintf(name, sizeof(name), "n%u", i);
            put(id, "free", name, "1");
            if (round)
                continue;
            (void)take_all();
            end_first(UPLOAD_HELD, NULL);
        }
    put(id, "free", "last", "1");
    assert_string_equal(take_all(), "last ");
    confirm_all();
    assert_int_equal(cache_stats(box->cache).uploads_held, 600);
    cachebox_close(box);
    cachebox_open(box);
    put(id, "free", "last", "2");
    assert_string_equal(take_all(), "last=\"e\" ");
    confirm_all();
}

/* They were delayed, then written again: each comes back behind its own second entry. */
static void test_retry__of_many_names_comes_back(void **state)
{
    uint64_t id = ready_container("free");
    struct upload_result retry = {.end = UPLOAD_RETRY};
    struct upload *upload;
    uint64_t retry_ns;
    unsigned sent = 0;
    char name[16];

    for (unsigned i = 0; i < 600; i++) {
        snprintf(name, sizeof(name), "n%u", i);
        put(id, "free", name, "1");
        assert_int_equal(cache_upload_next(box->cache, BOX_CLOUD, &upload, &retry_ns), 0);
        retry.retry_after_ns = 3600ull * 1000000000;
        cache_upload_end(box->cache, upload, &retry, box_done(box));
        assert_int_equal(box_wait(box), 0);
        put(id, "free", name, "2");
    }
    put(id, "free", "x", "1");
    assert_string_equal(take_all(), "x ");
    confirm_all();
    cachebox_close(box); /* delays are not kept */
    cachebox_open(box);
    while (cache_upload_next(box->cache, BOX_CLOUD, &upload, &retry_ns) == 0) {
        struct upload_result done = {.end = UPLOAD_CONFIRMED, .cloud_etag = SPAN("\"e\"")};

        cache_upload_end(box->cache, upload, &done, box_done(box));
        assert_int_equal(box_wait(box), 0);
        sent++;
    }
    assert_int_equal(sent, 1200);
}

static void test_held__ends_with_its_container(void **state)
{
    struct upload_result held = {.end = UPLOAD_HELD, .reason = SPAN("403 no")};

    for (unsigned i = 0; i < 20; i++) {
        char name[16];
        struct awaited ended;
        struct tx *tx;
        uint64_t id;

        snprintf(name, sizeof(name), "c%u", i);
        id = ready_container(name);
        put(id, name, "a", "1");
        assert_string_equal(take_all(), "a ");
        cache_begin_container(box->cache, BOX_CLOUD, span_of(name), &tx, box_done(box));
        assert_int_equal(box_wait(box), 0);
        tx_delete_container(tx);
        tx_upload(
            tx, &(struct upload_spec){UPLOAD_CONTAINER_DELETE, box_contract(BOX_CLOUD, name, "")});
        cache_commit(tx, box_done(box));
        cache_upload_end(box->cache, out[--out_count], &held,
                         awaited_init(&ended, loop_poll_loop(box->poll)));
        assert_int_equal(box_wait(box), 0);
        assert_int_equal(loop_await(box->poll, &ended), 0);
        assert_int_equal(cache_stats(box->cache).uploads_held, 0);
        (void)take_all();
        assert_int_equal(out_count, 1);
        confirm_all();
        assert_int_equal(cache_stats(box->cache).uploads_waiting, 0);
    }
}

static void test_retry__comes_back_and_is_not_replaced(void **state)
{
    uint64_t id = ready_container("safe");

    put(id, "safe", "a", "1");
    assert_string_equal(take_all(), "a ");
    end_first(UPLOAD_RETRY, NULL);
    put(id, "safe", "a", "22"); /* the cloud may have seen the first */
    assert_string_equal(take_all(), "a ");
    assert_int_equal(out[0]->attempts, 2);
    assert_int_equal(blob_record(out[0]->blob)->length, 1);
    confirm_all();
    assert_string_equal(take_all(), "a=\"e\" ");
    confirm_all();
}

static void test_delete__leaves_a_tombstone_until_it_is_confirmed(void **state)
{
    uint64_t id = ready_container("free");
    struct name name = box_name(id, "a");
    struct blob_record old = {.type = BLOB_BLOCK, .length = 1, .cloud_etag = SPAN("\"1\"")};
    struct asked asked;
    struct blob *blob = NULL;

    put(id, "free", "a", "1");
    (void)take_all();
    end_first(UPLOAD_CONFIRMED, "\"1\"");
    asked = cache_ask(box->cache, &name); /* a slow question from before the delete */
    assert_int_equal(box_delete(box, BOX_CLOUD, "free", id, "a"), 0);
    assert_string_equal(take_all(), "-a=\"1\" ");
    confirm_all();
    assert_int_equal(box_lookup(box, id, "a", &blob), -ENOENT);
    cache_learn(box->cache, &name, &asked, &old, &blob, box_done(box));
    assert_int_equal(box_wait(box), -ESTALE);
    cache_ask_end(box->cache, &asked);
    assert_int_equal(box_lookup(box, id, "a", &blob), -ENOENT);
}

static void test_container_delete__supersedes_its_entries(void **state)
{
    uint64_t id = ready_container("safe"), again;

    put(id, "safe", "a", "1");
    put(id, "safe", "b", "1");
    assert_string_equal(take_all(), "a b ");
    put(id, "safe", "c", "1");
    assert_int_equal(box_delete_container(box, BOX_CLOUD, "safe"), 0);
    assert_string_equal(take_all(), ""); /* waits for what flies */
    again = box_container(box, BOX_CLOUD, "safe");
    put(again, "safe", "n", "1");
    confirm_all();
    assert_string_equal(take_all(), "-/safe ");
    confirm_all();
    assert_string_equal(take_all(), "+/safe! ");
    confirm_all();
    assert_string_equal(take_all(), "n! ");
    confirm_all();
    assert_int_equal(cache_stats(box->cache).uploads_waiting, 0);
    assert_int_equal(box_expect(box, again, "n", "1"), 0);
}

static void test_queue__survives_a_crash(void **state)
{
    uint64_t id = ready_container("safe");
    struct cachebox *here = box, *image;

    put(id, "safe", "a", "1");
    put(id, "safe", "latest", "1");
    assert_string_equal(take_all(), "a ");
    put(id, "safe", "a", "22");
    for (uint64_t seed = 0; seed < 3; seed++) {
        struct upload *held = out[0];

        image = cachebox_crash(here, seed);
        box = image;
        out_count = 0;
        assert_string_equal(take_all(), "a ");
        assert_int_equal(blob_record(out[0]->blob)->length, 1);
        confirm_all();
        assert_string_equal(take_all(), "latest ");
        confirm_all();
        assert_string_equal(take_all(), "a=\"e\" ");
        confirm_all();
        assert_int_equal(cache_stats(box->cache).uploads_waiting, 0);
        assert_int_equal(cachebox_check(image), 0);
        cachebox_free(image);
        box = here;
        out[0] = held;
        out_count = 1;
    }
    loop_enter(loop_poll_loop(box->poll));
}

static void test_properties__go_with_content_that_has_not_gone(void **state)
{
    uint64_t id = ready_container("safe");
    const struct contract *contract = box_contract(BOX_CLOUD, "safe", "a");
    struct name name = box_name(id, "a");

    put(id, "safe", "a", "1");
    for (unsigned i = 0; i < 2; i++) { /* before and after the content is in the cloud */
        struct blob_record record;
        struct blob *current;
        struct tx *tx;

        cache_begin(box->cache, &name, &tx, box_done(box));
        assert_int_equal(box_wait(box), 0);
        assert_int_equal(tx_current(tx, &current), 0);
        record = *blob_record(current);
        record.content_type = SPAN("x/y");
        tx_describe(tx, &record);
        tx_upload(tx, &(struct upload_spec){UPLOAD_PROPERTIES, contract});
        cache_commit(tx, box_done(box));
        assert_int_equal(box_wait(box), 0);
        assert_string_equal(take_all(), i ? "p:a=\"e\" " : "a ");
        assert_span_equal(blob_record(out[0]->blob)->content_type, "x/y");
        confirm_all();
    }
    assert_int_equal(box_expect(box, id, "a", "1"), 0);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(box_expect(box, id, "a", "1"), 0);
}

static void describe(uint64_t id, const char *blob)
{
    struct name name = box_name(id, blob);
    struct blob_record record;
    struct blob *current;
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_current(tx, &current), 0);
    record = *blob_record(current);
    record.content_type = SPAN("x/y");
    tx_describe(tx, &record);
    tx_upload(tx, &(struct upload_spec){UPLOAD_PROPERTIES, box_contract(BOX_CLOUD, "safe", blob)});
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
}

static void evict_body(uint64_t id, const char *blob)
{
    struct change *change = change_new();
    const struct piece *pieces;
    struct blob *found;

    assert_int_equal(box_lookup(box, id, blob, &found), 0);
    assert_int_equal(blob_pieces(found, &pieces), 1);
    evict_extent(change, pieces[0].object, 0);
    change->done = box_done(box);
    commit_submit(box->cache->committer, change);
    assert_int_equal(box_wait(box), 0);
    blob_unref(found);
}

static bool is_there(uint64_t id, const char *blob) /* else it can be fetched; compaction may run */
{
    struct blob *found;
    size_t len;
    int err;

    assert_int_equal(box_lookup(box, id, blob, &found), 0);
    free(box_read(box, found, &len, &err));
    assert_true(!err || err == -ENODATA);
    blob_unref(found);
    return !err;
}

/* The cloud has the body, whatever was said of its properties since: it may be evicted, and is a
 * miss then, not a place that others may have by now. */
static void test_properties__of_a_body_that_is_evicted(void **state)
{
    uint64_t id = ready_container("safe");

    for (unsigned i = 0; i < 4; i++) {
        const char *blob = (const char *[]){"stays", "before", "after", "between"}[i];

        put(id, "safe", blob, "body");
        assert_int_equal(strlen(take_all()) > 0, 1);
        confirm_all();
        if (i == 1)
            evict_body(id, blob);
        describe(id, blob);
        if (i == 2)
            evict_body(id, blob);
        if (i == 3) { /* two versions without an ETag of the cloud */
            evict_body(id, blob);
            describe(id, blob);
        }
        for (unsigned k = 0; k < 2; k++) { /* while it is owed, and when it is not */
            assert_true(is_there(id, blob) <= !i);
            cachebox_close(box);
            cachebox_open(box);
            cache_uploads_watch(box->cache, queue_wake, NULL);
            assert_true(is_there(id, blob) <= !i);
            assert_int_equal(cachebox_check(box), 0);
            cache_uploads_watch(box->cache, queue_wake, NULL);
            (void)take_all();
            confirm_all();
        }
        put(id, "safe", blob, "other");
        (void)take_all();
        confirm_all();
        (void)is_there(id, blob);
        assert_int_equal(cachebox_check(box), 0);
        cache_uploads_watch(box->cache, queue_wake, NULL);
    }
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
static void tag(uint64_t id, const char *blob, struct span tags)
{
    struct name name = box_name(id, blob);
    struct blob *current;
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_current(tx, &current), 0);
    tx_amend(tx, &(struct blob_record){.tags = tags});
    tx_upload(tx, &(struct upload_spec){UPLOAD_TAGS, box_contract(BOX_CLOUD, "free", blob)});
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
}

static void expect_tags(uint64_t id, const char *blob, struct span tags, enum durability durability,
                        uint64_t etag)
{
    struct blob *found;

    assert_int_equal(box_lookup(box, id, blob, &found), 0);
    assert_true(span_eq(blob_record(found)->tags, tags));
    assert_int_equal(blob_record(found)->durability, durability);
    assert_true(blob_record(found)->etag == etag);
    blob_unref(found);
}

/* One version with other tags: they go with the content that has not gone, else behind it, and only
 * what the cloud has whole is durable there. */
static void test_tags__of_the_same_version_follow_its_content(void **state)
{
    static const struct span one = SPAN("a\0001\0"), two = SPAN("a\0002\0"),
                             three = SPAN("a\0003\0");
    uint64_t id = ready_container("free"), etag;
    struct blob *found;

    put(id, "free", "a", "1");
    assert_int_equal(box_lookup(box, id, "a", &found), 0);
    etag = blob_record(found)->etag;
    blob_unref(found);
    assert_string_equal(take_all(), "a ");
    tag(id, "a", one); /* behind what flies */
    assert_string_equal(take_all(), "");
    queue_end_first(UPLOAD_CONFIRMED, "\"c\"");
    expect_tags(id, "a", one, DURABILITY_LOCAL, etag);
    tag(id, "a", two); /* in its place or behind it */
    assert_string_equal(take_all(), "t:a=\"c\" ");
    tag(id, "a", three);
    queue_end_first(UPLOAD_CONFIRMED, "\"c\"");
    expect_tags(id, "a", three, DURABILITY_LOCAL, etag);
    cachebox_close(box);
    cachebox_open(box);
    expect_tags(id, "a", three, DURABILITY_LOCAL, etag);
    assert_string_equal(take_all(), "t:a=\"c\" ");
    assert_true(span_eq(blob_record(out[0]->blob)->tags, three));
    confirm_all();
    expect_tags(id, "a", three, DURABILITY_CLOUD, etag);
    assert_int_equal(box_expect(box, id, "a", "1"), 0);
}

/* Written while its scope had no cloud: what describes it now has to bring it. */
static void test_tags__of_what_was_never_sent_bring_it(void **state)
{
    static const struct span one = SPAN("a\0001\0");
    uint64_t id = ready_container("free"), etag;

    assert_int_equal(box_put(box, BOX_LOCAL, "free", id, "old", "kept", &etag), 0);
    assert_string_equal(take_all(), "");
    tag(id, "old", one);
    assert_int_not_equal(strlen(take_all()), 0);
    assert_int_equal(out[0]->kind, UPLOAD_CONTENT);
    confirm_all();
    expect_tags(id, "old", one, DURABILITY_CLOUD, etag);
    assert_int_equal(box_expect(box, id, "old", "kept"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_container__is_a_barrier_for_its_blobs),
        CASE(test_tags__of_what_was_never_sent_bring_it),
        CASE(test_confirmed__is_told_to_the_record_and_is_the_next_base),
        CASE(test_confirmed__lets_the_next_of_the_name_go_when_it_is_durable),
        CASE(test_upload__reads_its_version_though_the_name_went_on),
        CASE(test_open_batch__newer_replaces_and_delete_cancels),
        CASE(test_safe__phases_and_batches),
        CASE(test_safe__new_blobs_of_the_open_batch_flow),
        CASE(test_held__stops_later_phases_and_says_so_after_a_restart),
        CASE(test_superseded__the_clouds_version_counts),
        CASE(test_superseded__overtakes_a_listing_under_way),
        CASE(test_confirmed__without_an_etag_is_asked_for),
        CASE(test_scopes__take_turns),
        CASE(test_held__of_many_names_does_not_hide_what_can_go),
        CASE(test_retry__of_many_names_comes_back),
        CASE(test_held__ends_with_its_container),
        CASE(test_retry__comes_back_and_is_not_replaced),
        CASE(test_delete__leaves_a_tombstone_until_it_is_confirmed),
        CASE(test_container_delete__supersedes_its_entries),
        CASE(test_queue__survives_a_crash),
        CASE(test_properties__go_with_content_that_has_not_gone),
        CASE(test_properties__of_a_body_that_is_evicted),
        CASE(test_tags__of_the_same_version_follow_its_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
