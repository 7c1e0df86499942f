/* What an edited configuration means for what is in the box: accounts by name, clouds that change,
 * the queue of an account whose upstream or section went. */
#include "tests/unit/unit.h"

#include "cache/names.h"
#include "tests/support/cachebox.h"

static struct cachebox *box;
static uint64_t id; /* of the cloud account's container "free" */

static const struct contract back[] = {{.id = 1,
                                        .pattern = {"*", 1},
                                        .write = WRITE_BACK,
                                        .order = ORDER_LATEST_WINS,
                                        .copies = 1,
                                        .fresh_ns = 1000000000}};
static const struct contract local[] = {
    {.id = 1, .pattern = {"*", 1}, .write = WRITE_LOCAL, .copies = 1}};

static struct account with_cloud(const char *endpoint, const char *formerly)
{
    return (struct account){.id = BOX_CLOUD,
                            .name = SPAN("cloud"),
                            .contracts = endpoint ? back : local,
                            .contract_count = 1,
                            .upstream.endpoint = span_of(endpoint ? endpoint : ""),
                            .upstream.formerly = span_of(formerly)};
}

/* Closes, and opens with these accounts: 0 or the refusal, whose words must hold `want`. */
static int reopen(const struct account *rows, unsigned n, const char *want)
{
    struct accounts accounts = {rows, n};
    _cleanup_(freep) char *why = NULL;
    int err;

    cachebox_close(box);
    cachebox_accounts = &accounts;
    err = cachebox_try_open(box, &why);
    if (err)
        box->cache = NULL;
    if (err ? !want || !strstr(why, want) : want != NULL)
        fail_msg("wanted %s, got %d %s", want ? want : "a start", err, why ? why : "");
    cachebox_close(box);
    cachebox_accounts = NULL;
    return err;
}

static unsigned waiting(void)
{
    return (unsigned)cache_stats(box->cache).uploads_waiting;
}

static void confirm_all(void)
{
    struct upload_result result = {.end = UPLOAD_CONFIRMED, .cloud_etag = SPAN("\"e\"")};
    struct upload *upload;
    uint64_t retry_ns;

    while (cache_upload_next(box->cache, BOX_CLOUD, &upload, &retry_ns) == 0) {
        cache_upload_end(box->cache, upload, &result, box_done(box));
        assert_int_equal(box_wait(box), 0);
    }
}

static int setup(void **state)
{
    box = cachebox_new(1);
    id = box_container(box, BOX_CLOUD, "free");
    assert_int_equal(box_put(box, BOX_CLOUD, "free", id, "a", "text", NULL), 0);
    assert_int_equal(waiting(), 2);
    return 0;
}

static int teardown(void **state)
{
    box = cachebox_free(box);
    return 0;
}

static void test_queue__stays_while_its_account_has_no_upstream(void **state)
{
    struct account account = with_cloud(NULL, "");

    assert_int_equal(reopen(&account, 1, NULL), 0);
    cachebox_open(box);
    assert_int_equal(waiting(), 2);
    confirm_all();
    assert_int_equal(waiting(), 0);
    assert_int_equal(box_expect(box, id, "a", "text"), 0);
    assert_int_equal(cachebox_check(box), 0);
}

static void test_account__with_waiting_uploads_may_not_go(void **state)
{
    struct account other = with_cloud("http://cloud", "");

    other.id = 77;
    other.name = SPAN("other");
    assert_int_equal(reopen(&other, 1, "account cloud is not configured any more, and 2 uploads"),
                     -EINVAL);
    cachebox_open(box);
    assert_int_equal(waiting(), 2);
    confirm_all();
    assert_int_equal(reopen(&other, 1, NULL),
                     0); /* with nothing waiting it may: what it has stays */
    cachebox_open(box);
    assert_int_equal(box_expect(box, id, "a", "text"), 0);
}

/* A box of a version that kept no names of accounts. */
static void forget_names(void)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0};
    struct change *change = change_new();

    key_account(&key, BOX_CLOUD);
    change_delete(change, FAM_META, row_span(&key));
    change->done = box_done(box);
    commit_submit(box->cache->committer, change);
    assert_int_equal(box_wait(box), 0);
}

static void test_account__without_a_name_is_refused_in_words(void **state)
{
    struct account other = with_cloud("http://cloud", "");

    other.id = 77;
    other.name = SPAN("other");
    forget_names();
    assert_int_equal(reopen(&other, 1, "the account with container free (number 2"), -EINVAL);
    assert_int_equal(reopen(&other, 1, "is not configured any more, and 2 uploads wait"), -EINVAL);
    cachebox_open(box);
    assert_int_equal(waiting(), 2);
}

static void test_cloud__may_not_become_another_one(void **state)
{
    struct account moved = with_cloud("https://real", ""), none = with_cloud(NULL, "");

    assert_int_equal(reopen(&moved, 1, "account cloud: its cloud was http://cloud"), -EINVAL);
    cachebox_open(box);
    confirm_all(); /* the records still speak of the former's ETags */
    assert_int_equal(reopen(&moved, 1, "formerly = \"http://cloud\""), -EINVAL);
    assert_int_equal(reopen(&none, 1, NULL), 0); /* the way round by "none" is closed too */
    assert_int_equal(reopen(&moved, 1, "its cloud was http://cloud"), -EINVAL);
}

static void test_cloud__may_move(void **state)
{
    struct account https = with_cloud("https://cloud", ""),
                   moved = with_cloud("https://real", "http://cloud"),
                   there = with_cloud("https://real", "");

    assert_int_equal(reopen(&https, 1, NULL), 0);
    assert_int_equal(reopen(&moved, 1, NULL), 0);
    assert_int_equal(reopen(&there, 1, NULL), 0); /* said once, written down */
    assert_int_equal(reopen(&https, 1, "its cloud was https://real"), -EINVAL);
}

static void test_account_id__comes_from_the_name(void **state)
{
    assert_int_equal(account_id(SPAN("contoso")), account_id(SPAN("contoso")));
    assert_int_not_equal(account_id(SPAN("contoso")), account_id(SPAN("contosp")));
    assert_int_equal(account_id(SPAN("devstoreaccount1")),
                     0x43858654); /* stored: may never change */
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_queue__stays_while_its_account_has_no_upstream),
        CASE(test_account__with_waiting_uploads_may_not_go),
        CASE(test_account__without_a_name_is_refused_in_words),
        CASE(test_cloud__may_not_become_another_one),
        CASE(test_cloud__may_move),
        cmocka_unit_test(test_account_id__comes_from_the_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
