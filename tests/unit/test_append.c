/* Append blobs in the engine. Goal: each version is the one before it and the piece that was
 * appended, also after a restart, a crash, a failed append and beside readers of older versions;
 * what an append writes does not grow with the blob; all of it goes with the blob.
 *
 * Method: a whole cache on simulated devices (cachebox), the index's manifest rows looked at
 * directly; each test ends with the consistency walk. */
#include "tests/unit/unit.h"

#include <semaphore.h>

#include "base/log.h"
#include "cache/content.h"
#include "cache/metrics.h"
#include "cache/names.h"
#include "tests/support/cachebox.h"
#include "tests/support/io_tap.h"

#define CONTAINER "c"

static int create(struct cachebox *box, uint64_t id, const char *blob)
{
    struct blob_record record = {.type = BLOB_APPEND};
    struct name name = box_name(id, blob);
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_put(tx, &record, NULL, 0, NULL, true);
    cache_commit(tx, box_done(box));
    return box_wait(box);
}

/* Queued: done when it is durable. */
static void append_queued(struct cachebox *box, uint64_t id, const char *blob, const char *text,
                          struct awaited *done)
{
    struct piece piece = {box_object(box, text, strlen(text)), 0, strlen(text)};
    struct name name = box_name(id, blob);
    struct blob_record record;
    struct blob *current;
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_current(tx, &current), 0);
    record = *blob_record(current);
    tx_append(tx, &record, &piece);
    assert_true(record.length == blob_record(current)->length + piece.length);
    cache_commit(tx, awaited_init(done, loop_poll_loop(box->poll)));
}

static int append(struct cachebox *box, uint64_t id, const char *blob, const char *text)
{
    struct awaited done;

    append_queued(box, id, blob, text, &done);
    return loop_await(box->poll, &done);
}

static const char *line_of(unsigned i)
{
    static char text[32];

    sprintf(text, "line %05u;", i);
    return text;
}
#define LINE_BYTES 11

static char *lines_of(unsigned n)
{
    char *text = xmalloc(n * LINE_BYTES + 1);

    text[0] = 0;
    for (unsigned i = 0; i < n; i++)
        strcpy(text + (size_t)i * LINE_BYTES, line_of(i));
    return text;
}

static void assert_lines(struct cachebox *box, uint64_t id, const char *blob, unsigned n)
{
    _cleanup_(freep) char *want = lines_of(n);
    struct blob *got;

    assert_int_equal(box_expect(box, id, blob, want), 0);
    assert_int_equal(box_lookup(box, id, blob, &got), 0);
    assert_int_equal(blob_record(got)->committed_blocks, n);
    blob_unref(got);
}

/* Rows of all manifests, and the pieces in the largest. */
static unsigned manifest_rows(struct cachebox *box, unsigned *largest)
{
    struct index_iter *iter =
        index_iter_new(box->cache->index, NULL, FAM_MANIFESTS, (struct span){0}, (struct span){0});
    unsigned rows = 0;

    *largest = 0;
    for (; index_iter_valid(iter); index_iter_next(iter)) {
        struct manifest_piece piece;
        size_t cursor = 0;
        unsigned pieces = 0;

        if (index_iter_key(iter).len != 16)
            continue;
        while (manifest_row_next(index_iter_value(iter), &cursor, &piece) > 0)
            pieces++;
        *largest = MAX(*largest, pieces);
        rows++;
    }
    index_iter_free(iter);
    return rows;
}

static struct cachebox *box_with(const char *blob, unsigned lines, uint64_t *id)
{
    struct cachebox *box = cachebox_new(11);

    *id = box_container(box, BOX_LOCAL, CONTAINER);
    assert_int_equal(create(box, *id, blob), 0);
    for (unsigned i = 0; i < lines; i++)
        assert_int_equal(append(box, *id, blob, line_of(i)), 0);
    return box;
}

/* The 1 200th writes no more than the 100th or so: a row of at most 512 pieces. */
static void test_append__writes_one_row_however_long_the_blob_is(void **state)
{
    uint64_t id;
    int64_t before;
    unsigned largest;
    struct cachebox *box = box_with("log", 1200, &id);

    assert_int_equal(manifest_rows(box, &largest), 3);
    assert_int_equal(largest, MANIFEST_ROW_PIECES);
    assert_lines(box, id, "log", 1200);
    before = metric_read(&metric_log_written_bytes);
    assert_int_equal(append(box, id, "log", line_of(1200)), 0);
    assert_in_range(metric_read(&metric_log_written_bytes) - before, 4096, 32768);
    assert_int_equal(cachebox_check(box), 0);
    assert_lines(box, id, "log", 1201);
    assert_int_equal(append(box, id, "log", line_of(1201)), 0); /* read from rows again */
    assert_int_equal(manifest_rows(box, &largest), 3);
    assert_lines(box, id, "log", 1202);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_append__goes_on_at_each_edge_of_a_row_after_a_restart(void **state)
{
    static const unsigned edges[] = {511, 512, 513, 1024};
    uint64_t id;
    unsigned at = 0, largest;
    struct cachebox *box = box_with("log", 0, &id);

    for (unsigned i = 0; i < countof(edges); i++) {
        for (; at < edges[i]; at++)
            assert_int_equal(append(box, id, "log", line_of(at)), 0);
        cachebox_close(box);
        cachebox_open(box);
        assert_lines(box, id, "log", at);
    }
    assert_int_equal(append(box, id, "log", line_of(at)), 0);
    assert_int_equal(manifest_rows(box, &largest), 3);
    assert_int_equal(largest, MANIFEST_ROW_PIECES);
    assert_lines(box, id, "log", at + 1);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_append__queued_ones_are_built_on_each_other(void **state)
{
    struct awaited done[8];
    uint64_t id;
    struct cachebox *box = box_with("log", 0, &id), *image;

    for (unsigned i = 0; i < countof(done); i++)
        append_queued(box, id, "log", line_of(i), &done[i]);
    for (unsigned i = 0; i < countof(done); i++)
        assert_int_equal(loop_await(box->poll, &done[i]), 0);
    assert_lines(box, id, "log", countof(done));
    image = cachebox_crash(box, 3);
    assert_lines(image, id, "log", countof(done));
    assert_int_equal(cachebox_check(image), 0);
    cachebox_free(image);
    cachebox_free(box);
}

static void test_append__leaves_older_versions_to_their_readers(void **state)
{
    _cleanup_(freep) char *want = lines_of(5), *got = NULL;
    uint64_t id;
    struct cachebox *box = box_with("log", 5, &id);
    struct blob *old;
    size_t len;
    int err;

    assert_int_equal(box_lookup(box, id, "log", &old), 0);
    for (unsigned i = 5; i < 20; i++)
        assert_int_equal(append(box, id, "log", line_of(i)), 0);
    assert_int_equal(create(box, id, "log"), 0); /* and what it was is dropped */
    got = box_read(box, old, &len, &err);
    assert_non_null(got);
    assert_string_equal(got, want);
    blob_unref(old);
    assert_int_equal(append(box, id, "log", line_of(0)), 0);
    assert_lines(box, id, "log", 1);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void wait_until_free(struct cachebox *box, uint64_t bytes)
{
    unsigned largest;

    for (unsigned i = 0;
         i < 2000 && (cache_stats(box->cache).sole_bytes > bytes || manifest_rows(box, &largest));
         i++)
        loop_poll_once(box->poll, 5);
    assert_int_equal(manifest_rows(box, &largest), 0);
    assert_true(cache_stats(box->cache).sole_bytes <= bytes);
}

static void test_append__all_goes_with_the_blob(void **state)
{
    uint64_t id, before;
    struct cachebox *box = cachebox_new(12);

    id = box_container(box, BOX_LOCAL, CONTAINER);
    before = cache_stats(box->cache).sole_bytes;
    assert_int_equal(create(box, id, "log"), 0);
    for (unsigned i = 0; i < 600; i++)
        assert_int_equal(append(box, id, "log", line_of(i)), 0);
    assert_true(cache_stats(box->cache).sole_bytes > before);
    assert_int_equal(box_delete(box, BOX_LOCAL, CONTAINER, id, "log"), 0);
    wait_until_free(box, before);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

/* Both have rows of their own from the copy on. */
static void test_append__a_copy_grows_apart(void **state)
{
    uint64_t id;
    struct cachebox *box = box_with("log", 513, &id);
    struct blob_record record;
    struct name name = box_name(id, "copy");
    struct blob *source;
    struct tx *tx;

    assert_int_equal(box_lookup(box, id, "log", &source), 0);
    assert_true(blob_is_shared(source));
    record = *blob_record(source);
    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    tx_copy(tx, &record, source, box_done(box));
    assert_int_equal(box_wait(box), 0);
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    blob_unref(source);
    assert_int_equal(append(box, id, "copy", line_of(513)), 0);
    assert_int_equal(append(box, id, "copy", line_of(514)), 0);
    assert_lines(box, id, "log", 513);
    assert_lines(box, id, "copy", 515);
    assert_int_equal(box_delete(box, BOX_LOCAL, CONTAINER, id, "log"), 0);
    cachebox_close(box);
    cachebox_open(box);
    assert_lines(box, id, "copy", 515);
    assert_int_equal(append(box, id, "copy", line_of(515)), 0);
    assert_lines(box, id, "copy", 516);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_append__a_small_first_piece_has_rows(void **state)
{
    uint64_t id;
    struct cachebox *box = box_with("log", 1, &id);
    struct blob *blob;

    assert_int_equal(box_lookup(box, id, "log", &blob), 0);
    assert_false(blob->located); /* a body in the record has no rows to go on with */
    blob_unref(blob);
    cachebox_close(box);
    cachebox_open(box);
    assert_int_equal(append(box, id, "log", line_of(1)), 0);
    assert_lines(box, id, "log", 2);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static sem_t flush_gate;
static _Atomic bool flush_held;

static void hold_flush(void *arg, const struct io_tap_event *event)
{
    if (event->flush != TAP_LOG || !flush_held)
        return;
    sem_wait(&flush_gate);
    sem_post(&flush_gate); /* the other device's */
}

/* They are in the list of pieces that the version before them holds; the next one is not built on
 * them. */
static void test_append__ones_that_failed_are_not_there(void **state)
{
    struct cachebox *box = cachebox_make(13, 2);
    struct awaited done[2]; /* the list has room for one more */
    struct io_tap tap;
    uint64_t id;

    io_tap_init(&tap, io_sim_ops(box->sim));
    tap.before = hold_flush;
    box->io_ops = &tap.ops;
    cachebox_open(box);
    id = box_container(box, BOX_LOCAL, CONTAINER);
    assert_int_equal(create(box, id, "log"), 0);
    for (unsigned i = 0; i < 5; i++) /* room for more is behind the fifth */
        assert_int_equal(append(box, id, "log", line_of(i)), 0);
    sem_init(&flush_gate, 0, 0);
    flush_held = true;
    io_sim_fail(box->sim, IO_SIM_FLUSH, 1, -EIO);
    for (unsigned i = 0; i < countof(done); i++)
        append_queued(box, id, "log", "never", &done[i]);
    sem_post(&flush_gate);
    for (unsigned i = 0; i < countof(done); i++)
        assert_int_equal(loop_await(box->poll, &done[i]), -EIO);
    flush_held = false;
    assert_lines(box, id, "log", 5);
    for (unsigned tries = 0; append(box, id, "log", line_of(5)); tries++)
        assert_true(tries < 10); /* its bytes may lie on the device that failed */
    assert_lines(box, id, "log", 6);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_append__sealed_survives_a_restart(void **state)
{
    uint64_t id;
    struct cachebox *box = box_with("log", 3, &id), *image;
    struct name name = box_name(id, "log");
    struct blob_record record;
    struct blob *current;
    struct tx *tx;

    cache_begin(box->cache, &name, &tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    assert_int_equal(tx_current(tx, &current), 0);
    record = *blob_record(current);
    record.sealed = true;
    tx_describe(tx, &record);
    cache_commit(tx, box_done(box));
    assert_int_equal(box_wait(box), 0);
    image = cachebox_crash(box, 5);
    assert_int_equal(box_lookup(image, id, "log", &current), 0);
    assert_true(blob_record(current)->sealed && blob_record(current)->type == BLOB_APPEND);
    blob_unref(current);
    assert_lines(image, id, "log", 3);
    assert_int_equal(cachebox_check(image), 0);
    cachebox_free(image);
    cachebox_free(box);
}

static void quiet(void *arg, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append__writes_one_row_however_long_the_blob_is),
        cmocka_unit_test(test_append__goes_on_at_each_edge_of_a_row_after_a_restart),
        cmocka_unit_test(test_append__queued_ones_are_built_on_each_other),
        cmocka_unit_test(test_append__leaves_older_versions_to_their_readers),
        cmocka_unit_test(test_append__all_goes_with_the_blob),
        cmocka_unit_test(test_append__a_copy_grows_apart),
        cmocka_unit_test(test_append__a_small_first_piece_has_rows),
        cmocka_unit_test(test_append__ones_that_failed_are_not_there),
        cmocka_unit_test(test_append__sealed_survives_a_restart),
    };

    log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
