/* Goal: a batch's parts run as requests of their own and leave nothing behind, whenever the client
 * leaves, whatever a part costs, and however many other batches there are. Method: requests from
 * memory over an engine in memory; clients leave between any two completions; the clock is the
 * test's. What parts answer, byte for byte: tests/api/test_batch.py. */
#include "tests/unit/dialect.h"

#include "base/clock.h"

#define MULTIPART "Content-Type: multipart/mixed; boundary=b\n"

static const char *part(const char *line)
{
    return arena_printf(engine.arena,
                        "--b\r\nContent-Type: application/http\r\nContent-ID: 0\r\n\r\n%s "
                        "HTTP/1.1\r\n\r\n\r\n",
                        line)
        .base;
}

/* Deletes of /acct/ctr/0 .. n - 1, each under the account's SAS. */
static const char *deletes(unsigned n)
{
    const char *body = "";

    for (unsigned i = 0; i < n; i++) {
        const char *target = arena_printf(engine.arena, "/acct/ctr/%u", i).base;
        const char *line = arena_printf(engine.arena, "DELETE %s", with_sas(target)).base;

        body = arena_printf(engine.arena, "%s%s", body, part(line)).base;
    }
    return arena_printf(engine.arena, "%s--b--\r\n", body).base;
}

static void put_many(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put(arena_printf(engine.arena, "/acct/ctr/%u", i).base, "x");
}

static unsigned count_of(const char *text, const char *what)
{
    unsigned n = 0;

    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

static unsigned still_there(unsigned n)
{
    unsigned there = 0;

    for (unsigned i = 0; i < n; i++)
        there += ask("HEAD", arena_printf(engine.arena, "/acct/ctr/%u", i).base, "") == 200;
    return there;
}

/* However far it came, a part was run whole or not at all, and the next batch does the rest. */
static void test_batch__the_client_leaves_at_any_point(void **state)
{
    enum { PARTS = 40 }; /* more than run at once */
    struct fake_request request = {
        .method = "POST", .target = with_sas("/acct?comp=batch"), .headers = MULTIPART};
    const char *body = deletes(PARTS);
    unsigned turns = 0, between = 0;

    request.body = span_of(body);
    do {
        unsigned there;

        put_many(PARTS);
        request.leave_after = ++turns;
        run(&request);
        assert_int_equal(atomic_load(&api->batch_bytes), 0);
        assert_true(!answer.whole || answer.body_len > 0);
        if (answer.whole)
            break;
        there = still_there(PARTS);
        between += there > 0 && there < PARTS;
        assert_int_equal(ask_body("POST", "/acct?comp=batch", MULTIPART, body), 202);
        assert_int_equal(count_of(body_text(), "HTTP/1.1 202 Accepted"), there);
        assert_int_equal(count_of(body_text(), "HTTP/1.1 404 "), PARTS - there);
    } while (turns < 2000);
    assert_true(answer.whole && between > 0);
    assert_int_equal(still_there(PARTS), 0);
}

static void test_batch__the_client_leaves_at_any_call(void **state)
{
    bool whole = false;
    unsigned there;

    for (unsigned n = 1; n < 30 && !whole; n++) {
        put_many(3);
        run(&(struct fake_request){.method = "POST",
                                   .target = with_sas("/acct?comp=batch"),
                                   .headers = MULTIPART,
                                   .body = span_of(deletes(3)),
                                   .bytes_a_read = 100,
                                   .cancel_after = n});
        assert_int_equal(atomic_load(&api->batch_bytes), 0);
        whole = answer.whole;
        there = still_there(3); /* it left while it sent its body, or when it was answered */
        assert_true(there == 0 || (there == 3 && !whole));
    }
}

static uint64_t leaping_ns, leap_ns;

static uint64_t leaping_mono(void *arg)
{
    return leaping_ns += leap_ns;
}

static int64_t leaping_wall(void *arg)
{
    return (int64_t)1900000000 * NS_PER_SEC;
}

static const struct clock_source leaping = {.wall_ns = leaping_wall, .mono_ns = leaping_mono};

/* Each look at the clock finds that a turn of the loop is over. */
static void test_batch__parts_that_cost_much_start_one_by_one(void **state)
{
    leap_ns = 3 * NS_PER_MS;
    put_many(20);
    clock_set_source(&leaping);
    ask_body("POST", "/acct?comp=batch", MULTIPART, deletes(20));
    clock_set_source(NULL);
    assert_answer(202, NULL);
    assert_int_equal(count_of(body_text(), "HTTP/1.1 202 Accepted"), 20);
    assert_int_equal(still_there(20), 0);
}

static void test_batch__waits_for_room_then_is_told_to_come_back(void **state)
{
    leap_ns = NS_PER_SEC;
    put_many(1);
    atomic_store(&api->batch_bytes, MIB(16));
    clock_set_source(&leaping);
    ask_body("POST", "/acct?comp=batch", MULTIPART, deletes(1));
    clock_set_source(NULL);
    assert_answer(503, "ServerBusy");
    assert_true(!answer.read_called);
    assert_int_equal(atomic_load(&api->batch_bytes), MIB(16));
    atomic_store(&api->batch_bytes, 0);
    assert_int_equal(still_there(1), 1);
}

/* A part's fault is its own, also when it is the engine's. */
static void test_batch__an_engine_fault_is_the_parts_answer(void **state)
{
    put_many(2);
    engine.commit_err = -EIO;
    assert_int_equal(ask_body("POST", "/acct?comp=batch", MULTIPART, deletes(2)), 202);
    assert_int_equal(count_of(body_text(), "HTTP/1.1 503 "), 2);
    assert_body_has("<Code>ServerBusy</Code>");
    engine.commit_err = 0;
    assert_int_equal(still_there(2), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_batch__the_client_leaves_at_any_point, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_batch__the_client_leaves_at_any_call, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batch__parts_that_cost_much_start_one_by_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_batch__waits_for_room_then_is_told_to_come_back, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_batch__an_engine_fault_is_the_parts_answer, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
