/* Goal: leases as requests meet them where only a clock or a cloud brings the case about: expired
 * and broken by time, renewals, what a contract with a cloud refuses. The states that requests
 * alone bring about are tests/api/test_leases.py's. Method: requests from memory over an engine in
 * memory, under a clock of the test's own. */
#include "tests/unit/dialect.h"

#define X "1f1f0000-0000-4000-8000-000000000001"
#define Y "2e2e0000-0000-4000-8000-000000000002"

static uint64_t passed_ns; /* since the tests began */
static int64_t wall_start_ns;

static uint64_t test_mono(void *arg)
{
    return NS_PER_SEC + passed_ns;
}

static int64_t test_wall(void *arg)
{
    return wall_start_ns + (int64_t)passed_ns;
}

static int setup_clock(void **state)
{
    static const struct clock_source source = {test_mono, test_wall, NULL};

    wall_start_ns = clock_wall_ns();
    clock_set_source(&source);
    return setup_all(state);
}

static int teardown_clock(void **state)
{
    int err = teardown_all(state);

    clock_set_source(NULL);
    return err;
}

static void pass(unsigned seconds)
{
    passed_ns += seconds * NS_PER_SEC;
}

static void act(const char *target, const char *headers, int status, const char *code)
{
    const char *sep = strchr(target, '?') ? "&" : "?";

    ASK("PUT", arena_printf(engine.arena, "%s%scomp=lease", target, sep).base, headers, status,
        code);
}
#define ACQUIRE(seconds, id)                                                                       \
    "x-ms-lease-action: acquire\nx-ms-lease-duration: " seconds "\nx-ms-proposed-lease-id: " id "\n"
#define RENEW(id)   "x-ms-lease-action: renew\nx-ms-lease-id: " id "\n"
#define RELEASE(id) "x-ms-lease-action: release\nx-ms-lease-id: " id "\n"
#define BREAK       "x-ms-lease-action: break\n"
#define HOLDING(id) "x-ms-lease-id: " id "\n"

static void assert_shown(const char *target, const char *status, const char *state,
                         const char *duration)
{
    ASK("HEAD", target, "", 200, NULL);
    assert_header("x-ms-lease-status", status);
    assert_header("x-ms-lease-state", state);
    assert_header("x-ms-lease-duration", duration);
}

/* ---- the table ---- */

static void test_leases__every_row_that_is_served_has_a_rule(void **state)
{
    for (unsigned i = 0; i < OPERATIONS; i++)
        if (operations[i].start && (operations[i].levels & (LEVEL_CONTAINER | LEVEL_BLOB)) &&
            operations[i].lease == LEASE_RULE_NONE)
            fail_msg("operations.def: %.*s says nothing of leases", SPAN_FMT(operations[i].name));
}

/* ---- expired ---- */

static const struct use {
    const char *method, *query, *headers, *body;
    bool write, gone; /* a write makes an expired lease available */
    int status;
} uses[] = {
    {"GET", "", "", "", false, false, 200},
    {"HEAD", "", "", "", false, false, 200},
    {"GET", "?comp=metadata", "", "", false, false, 200},
    {"GET", "?comp=blocklist", "", "", false, false, 200},
    {"PUT", "", BLOCK_BLOB, "new", true, false, 201},
    {"PUT", "?comp=blocklist", "", "<BlockList></BlockList>", true, false, 201},
    {"PUT", "?comp=properties", "", "", true, false, 200},
    {"PUT", "?comp=metadata", "x-ms-meta-a: b\n", "", true, false, 200},
    {"PUT", "?comp=block&blockid=QUFB", "", "x", false, false, 201},
    {"DELETE", "", "", "", true, true, 202},
};

static void use_expired(const struct use *u)
{
    const char *target = arena_printf(engine.arena, "/acct/ctr/b%s", u->query).base;
    const char *ids[] = {HOLDING(X), HOLDING(Y)};

    put("/acct/ctr/b", "old");
    act("/acct/ctr/b", ACQUIRE("15", X), 201, NULL);
    pass(15);
    assert_shown("/acct/ctr/b", "unlocked", "expired", NULL);
    for (unsigned i = 0; i < countof(ids); i++) {
        ask_body(u->method, target, arena_printf(engine.arena, "%s%s", u->headers, ids[i]).base,
                 u->body);
        assert_answer(412, i ? "LeaseIdMismatchWithBlobOperation" : "LeaseLost");
    }
    assert_shown("/acct/ctr/b", "unlocked", "expired", NULL);
    ask_body(u->method, target, u->headers, u->body);
    assert_answer(u->status, NULL);
    if (!u->gone)
        assert_shown("/acct/ctr/b", "unlocked", u->write ? "available" : "expired", NULL);
    act("/acct/ctr/b", RENEW(X),
        u->gone    ? 404
        : u->write ? 409
                   : 200,
        u->gone    ? "BlobNotFound"
        : u->write ? "LeaseIdMismatchWithLeaseOperation"
                   : NULL);
    if (!u->write)
        act("/acct/ctr/b", RELEASE(X), 200, NULL);
}

static void test_leases__expired_ones_hold_nobody(void **state)
{
    for (unsigned i = 0; i < countof(uses); i++)
        use_expired(&uses[i]);
}

static void test_leases__expired_ones_can_be_taken(void **state)
{
    put("/acct/ctr/b", "x");
    act("/acct/ctr/b", ACQUIRE("15", X), 201, NULL);
    pass(14);
    act("/acct/ctr/b", ACQUIRE("-1", Y), 409, "LeaseAlreadyPresent");
    pass(1);
    act("/acct/ctr/b", BREAK, 202, NULL);
    assert_header("x-ms-lease-time", "0");
    assert_shown("/acct/ctr/b", "unlocked", "broken", NULL);
    act("/acct/ctr/b", ACQUIRE("-1", Y), 201, NULL);
    act("/acct/ctr/b", RENEW(X), 409, "LeaseIdMismatchWithLeaseOperation");
    pass(100000);
    assert_shown("/acct/ctr/b", "locked", "leased", "infinite");
}

/* ---- time ---- */

static void test_leases__renewing_begins_the_period_anew(void **state)
{
    put("/acct/ctr/b", "x");
    act("/acct/ctr/b", ACQUIRE("15", X), 201, NULL);
    for (unsigned i = 0; i < 3; i++) {
        pass(10);
        act("/acct/ctr/b", RENEW(X), 200, NULL);
        assert_header("x-ms-lease-id", X);
    }
    pass(14);
    assert_shown("/acct/ctr/b", "locked", "leased", "fixed");
    pass(20);
    assert_shown("/acct/ctr/b", "unlocked", "expired", NULL);
    act("/acct/ctr/b", RENEW(X), 200, NULL); /* nobody has written or leased it since */
    assert_shown("/acct/ctr/b", "locked", "leased", "fixed");
    act("/acct/ctr/b", ACQUIRE("60", X), 201, NULL); /* the same holder, another period */
    pass(59);
    assert_shown("/acct/ctr/b", "locked", "leased", "fixed");
}

static void test_leases__breaking_ends_by_time(void **state)
{
    put("/acct/ctr/b", "x");
    act("/acct/ctr/b", ACQUIRE("60", X), 201, NULL);
    pass(20);
    act("/acct/ctr/b", BREAK, 202, NULL);
    assert_header("x-ms-lease-time", "40");
    pass(39);
    assert_shown("/acct/ctr/b", "locked", "breaking", NULL);
    ASK("PUT", "/acct/ctr/b?comp=metadata", "", 412, "LeaseIdMissing");
    act("/acct/ctr/b", BREAK, 202, NULL);
    assert_header("x-ms-lease-time", "1");
    pass(1);
    assert_shown("/acct/ctr/b", "unlocked", "broken", NULL);
    act("/acct/ctr/b", RENEW(X), 409, "LeaseIsBrokenAndCannotBeRenewed");
    ASK("PUT", "/acct/ctr/b?comp=metadata", HOLDING(X), 412, "LeaseLost");
    ASK("PUT", "/acct/ctr/b?comp=metadata", "", 200, NULL);
    assert_shown("/acct/ctr/b", "unlocked", "available", NULL);
}

static void test_leases__of_containers_end_by_time_too(void **state)
{
    const char *ctr = "/acct/ctr?restype=container";

    act(ctr, ACQUIRE("15", X), 201, NULL);
    ASK("DELETE", ctr, "", 412, "LeaseIdMissing");
    ASK("PUT", "/acct/ctr?restype=container&comp=metadata", "", 200, NULL);
    assert_shown(ctr, "locked", "leased", "fixed");
    pass(15);
    assert_shown(ctr, "unlocked", "expired", NULL);
    ASK("PUT", "/acct/ctr?restype=container&comp=metadata", HOLDING(X), 412, "LeaseLost");
    act(ctr, RENEW(X), 200, NULL);
    assert_shown(ctr, "locked", "leased", "fixed");
    pass(15);
    ASK("DELETE", ctr, "", 202, NULL);
}

/* ---- what is told when ---- */

static void test_leases__what_is_not_in_memory_is_judged_too(void **state)
{
    put("/acct/ctr/b", "x");
    act("/acct/ctr/b", ACQUIRE("60", X), 201, NULL);
    engine.cold = true; /* as after a start: read from the index */
    ask_body("PUT", "/acct/ctr/b?comp=block&blockid=QUFB", "", "y");
    assert_answer(412, "LeaseIdMissing");
    assert_int_equal(engine.staged_count, 0);
    ask_body("PUT", "/acct/ctr/b?comp=block&blockid=QUFB", HOLDING(X), "y");
    assert_answer(201, NULL);
    ask_body("PUT", "/acct/ctr/b", BLOCK_BLOB, "y"); /* not seen at the head: within the change */
    assert_answer(412, "LeaseIdMissing");
}

static void test_leases__a_failed_commit_grants_nothing(void **state)
{
    put("/acct/ctr/b", "x");
    engine.commit_err = -EIO;
    act("/acct/ctr/b", ACQUIRE("60", X), 503, "ServerBusy");
    engine.commit_err = 0;
    assert_shown("/acct/ctr/b", "unlocked", "available", NULL);
    engine.commit_err = -ENOENT;
    act("/acct/ctr/b", ACQUIRE("60", X), 404, "ContainerNotFound");
}

/* ---- with a cloud ---- */

static void test_leases__the_clouds_are_not_granted_here(void **state)
{
    put("/far/ctr/b", "x");
    cloud.forwarded = (struct forwarded){.status = 201};
    act("/far/ctr/b", ACQUIRE("60", X), 201, NULL);
    act("/far/ctr?restype=container", ACQUIRE("60", X), 201, NULL);
    assert_int_equal(cloud.forwards, 2);
    assert_int_equal(engine.leases, 0);
    ASK("GET", "/far/ctr/b", HOLDING(X), 412, "LeaseNotPresentWithBlobOperation");
    /* one of before the contract said so: it holds nobody, and the next write forgets it */
    engine.blobs[0]->record.lease =
        (struct lease){.kind = LEASE_KIND_HELD, .period_ns = LEASE_INFINITE, .serial = 1};
    assert_shown("/far/ctr/b", "unlocked", "available", NULL);
    ask_body("PUT", "/far/ctr/b?comp=block&blockid=QUFB", "", "y");
    assert_answer(201, NULL);
    put("/far/ctr/b", "y");
    assert_int_equal(engine.blobs[0]->record.lease.kind, LEASE_KIND_NONE);
}

/* The cloud knows the box's rights, not the client's. */
static void test_leases__of_the_cloud_need_their_right_here(void **state)
{
    put("/far/ctr/b", "x");
    sas = fake_sas(engine.arena, SPAN("far"), SPAN("secret"), "d");
    cloud.forwarded = (struct forwarded){.status = 202};
    act("/far/ctr/b", ACQUIRE("60", X), 403, "AuthorizationPermissionMismatch");
    act("/far/ctr/b", "", 403, "AuthorizationPermissionMismatch");
    assert_int_equal(cloud.forwards, 0);
    act("/far/ctr/b", BREAK, 202, NULL);
    assert_int_equal(cloud.forwards, 1);
}

static void test_leases__of_the_cloud_are_shown_as_it_told(void **state)
{
    static const struct {
        enum cloud_lease told;
        const char *status, *state, *duration;
    } rows[] = {{CLOUD_LEASE_NONE, "unlocked", "available", NULL},
                {CLOUD_LEASE_FIXED, "locked", "leased", "fixed"},
                {CLOUD_LEASE_INFINITE, "locked", "leased", "infinite"},
                {CLOUD_LEASE_EXPIRED, "unlocked", "expired", NULL},
                {CLOUD_LEASE_BREAKING, "locked", "breaking", NULL},
                {CLOUD_LEASE_BROKEN, "unlocked", "broken", NULL},
                {CLOUD_LEASE_BROKEN + 1, "unlocked", "available", NULL}}; /* of a newer version */

    put("/far/ctr/b", "x");
    put("/far/held/c", "x");
    for (size_t i = 0; i < countof(rows); i++) {
        engine_blob(SPAN("b"))->record.cloud_lease = rows[i].told;
        engine_blob(SPAN("c"))->record.cloud_lease = rows[i].told;
        assert_shown("/far/ctr/b", rows[i].status, rows[i].state, rows[i].duration);
        assert_shown("/far/held/c", "unlocked", "available", NULL);
    }
}

static void test_leases__local_ones_with_a_cloud_are_not_uploaded(void **state)
{
    put("/far/held/b", "x");
    assert_int_equal(engine.uploads, 1);
    act("/far/held/b", ACQUIRE("60", X), 201, NULL);
    act("/far/held?restype=container", ACQUIRE("60", Y), 201, NULL);
    act("/far/held/b", RENEW(X), 200, NULL);
    assert_int_equal(engine.uploads, 1);
    assert_shown("/far/held/b", "locked", "leased", "fixed");
    ask_body("PUT", "/far/held/b", BLOCK_BLOB, "y");
    assert_answer(412, "LeaseIdMissing");
    ask_body("PUT", "/far/held/b", BLOCK_BLOB HOLDING(X), "y");
    assert_answer(201, NULL);
    assert_int_equal(engine.uploads, 2);
    assert_shown("/far/held/b", "locked", "leased", "fixed");
}

static void test_leases__of_what_only_the_cloud_knows(void **state)
{
    engine.unknown = -ENODATA;
    cloud.body = "there";
    act("/far/held/b", ACQUIRE("60", X), 201, NULL);
    assert_int_equal(cloud.opens, 1);
    assert_shown("/far/held/b", "locked", "leased", "fixed");
    cloud.open_err = -EHOSTUNREACH;
    act("/far/held/other", ACQUIRE("60", X), 503, "ServerBusy");
    cloud.open_err = -ENOENT;
    act("/far/held/other", ACQUIRE("60", X), 404, "BlobNotFound");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leases__every_row_that_is_served_has_a_rule),
        TEST(test_leases__expired_ones_hold_nobody),
        TEST(test_leases__expired_ones_can_be_taken),
        TEST(test_leases__renewing_begins_the_period_anew),
        TEST(test_leases__breaking_ends_by_time),
        TEST(test_leases__of_containers_end_by_time_too),
        TEST(test_leases__what_is_not_in_memory_is_judged_too),
        TEST(test_leases__a_failed_commit_grants_nothing),
        CLOUD_TEST(test_leases__the_clouds_are_not_granted_here),
        CLOUD_TEST(test_leases__of_the_cloud_need_their_right_here),
        CLOUD_TEST(test_leases__of_the_cloud_are_shown_as_it_told),
        CLOUD_TEST(test_leases__local_ones_with_a_cloud_are_not_uploaded),
        CLOUD_TEST(test_leases__of_what_only_the_cloud_knows),
    };

    return cmocka_run_group_tests(tests, setup_clock, teardown_clock);
}
