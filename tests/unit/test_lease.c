/* Goal: every cell of the lease tables (surface section 5): what an action makes of each state,
 * what each state lets an operation do. Method: the pure functions over all states x actions x ids,
 * the tables written out here as the reference has them; then time, and the five spellings of an
 * id. */
#include "tests/unit/unit.h"

#include "base/clock.h"
#include "blobapi/lease.h"

#define SECONDS(n) ((n)*NS_PER_SEC)
#define BEGAN_NS   SECONDS(1000)
#define NOW_NS     SECONDS(1010) /* 10 s of every period have passed */

/* ---- states, each with the id X where it has one ---- */

enum { AVAILABLE, FIXED, INFINITE, BREAKING, BROKEN, EXPIRED, RUN_OUT, STATES };
#define X 'x'
#define Y 'y'
#define Z 'z'

static struct lease lease_of(unsigned state)
{
    static const struct lease leases[STATES] = {
        [AVAILABLE] = {.kind = LEASE_KIND_NONE},
        [FIXED] = {.kind = LEASE_KIND_HELD, .period_ns = SECONDS(30), .serial = 7},
        [INFINITE] = {.kind = LEASE_KIND_HELD, .period_ns = LEASE_INFINITE, .serial = 7},
        [BREAKING] = {.kind = LEASE_KIND_BREAKING, .period_ns = SECONDS(20), .serial = 7},
        [BROKEN] = {.kind = LEASE_KIND_BROKEN, .serial = 7},
        [EXPIRED] = {.kind = LEASE_KIND_HELD, .period_ns = SECONDS(10), .serial = 7},
        [RUN_OUT] = {.kind = LEASE_KIND_BREAKING, .period_ns = SECONDS(10), .serial = 7},
    };
    struct lease lease = leases[state];

    if (lease.kind != LEASE_KIND_NONE)
        memset(lease.id, X, sizeof(lease.id));
    return lease;
}

static const enum lease_state states_are[STATES] = {
    [AVAILABLE] = LEASE_AVAILABLE, [FIXED] = LEASE_LEASED,  [INFINITE] = LEASE_LEASED,
    [BREAKING] = LEASE_BREAKING,   [BROKEN] = LEASE_BROKEN, [EXPIRED] = LEASE_EXPIRED,
    [RUN_OUT] = LEASE_BROKEN,
};

static struct lease_now now_of(const struct lease *lease)
{
    return lease_now(lease, BEGAN_NS, NOW_NS);
}

static void test_lease__is_what_the_clock_says(void **state)
{
    for (unsigned s = 0; s < STATES; s++) {
        struct lease lease = lease_of(s);
        struct lease_now now = now_of(&lease);

        assert_int_equal(now.state, states_are[s]);
        assert_int_equal(now.infinite, s == INFINITE);
        assert_int_equal(now.left_ns, s == FIXED ? SECONDS(20) : s == BREAKING ? SECONDS(10) : 0);
    }
}

static void test_lease__ends_with_its_last_nanosecond(void **state)
{
    struct lease fixed = lease_of(FIXED), breaking = lease_of(BREAKING);

    assert_int_equal(lease_now(&fixed, BEGAN_NS, BEGAN_NS + SECONDS(30) - 1).state, LEASE_LEASED);
    assert_int_equal(lease_now(&fixed, BEGAN_NS, BEGAN_NS + SECONDS(30)).state, LEASE_EXPIRED);
    assert_int_equal(lease_now(&breaking, BEGAN_NS, BEGAN_NS + SECONDS(20) - 1).state,
                     LEASE_BREAKING);
    assert_int_equal(lease_now(&breaking, BEGAN_NS, BEGAN_NS + SECONDS(20)).state, LEASE_BROKEN);
    assert_int_equal(lease_now(&fixed, BEGAN_NS + 1, BEGAN_NS).left_ns, SECONDS(30));
}

/* ---- actions ---- */

struct cell {
    enum az_error error;
    enum lease_effect effect;
    enum lease_state state; /* afterwards */
    unsigned left;          /* seconds, afterwards; of infinite ones 0 */
    char id;                /* afterwards */
};
#define NO(code)                                                                                   \
    {                                                                                              \
        .error = AZ_##code                                                                         \
    }
#define SAME(state_, left_)                                                                        \
    {                                                                                              \
        AZ_OK, LEASE_AS_IT_IS, LEASE_##state_, left_, X                                            \
    }
#define AGAIN(left_)                                                                               \
    {                                                                                              \
        AZ_OK, LEASE_RENEWED, LEASE_LEASED, left_, X                                               \
    }
#define NEW(state_, left_, id)                                                                     \
    {                                                                                              \
        AZ_OK, LEASE_ANOTHER, LEASE_##state_, left_, id                                            \
    }
#define MISMATCH     NO(LEASE_ID_MISMATCH_WITH_LEASE_OPERATION)
#define NOT_PRESENT  NO(LEASE_NOT_PRESENT_WITH_LEASE_OPERATION)
#define PRESENT      NO(LEASE_ALREADY_PRESENT)
#define NOT_ACQUIRED NO(LEASE_IS_BREAKING_AND_CANNOT_BE_ACQUIRED)
#define NOT_CHANGED  NO(LEASE_IS_BREAKING_AND_CANNOT_BE_CHANGED)
#define NOT_RENEWED  NO(LEASE_IS_BROKEN_AND_CANNOT_BE_RENEWED)

static const struct {
    const char *name;
    enum lease_action action;
    char id, proposed;
    unsigned period;  /* 0: infinite */
    int break_period; /* -1: none */
    struct cell cells[STATES];
} actions[] = {
    /* clang-format off */
    /*                                        available            fixed, 20 s left     infinite             breaking, 10 s left  broken               expired              broken by time */
    {"acquire X 15",  LEASE_ACQUIRE, 0, X, 15, -1,
        {NEW(LEASED, 15, X),  NEW(LEASED, 15, X),  NEW(LEASED, 15, X),  NOT_ACQUIRED,        NEW(LEASED, 15, X),  NEW(LEASED, 15, X),  NEW(LEASED, 15, X)}},
    {"acquire X inf", LEASE_ACQUIRE, 0, X, 0, -1,
        {NEW(LEASED, 0, X),   NEW(LEASED, 0, X),   NEW(LEASED, 0, X),   NOT_ACQUIRED,        NEW(LEASED, 0, X),   NEW(LEASED, 0, X),   NEW(LEASED, 0, X)}},
    {"acquire Y 60",  LEASE_ACQUIRE, 0, Y, 60, -1,
        {NEW(LEASED, 60, Y),  PRESENT,             PRESENT,             PRESENT,             NEW(LEASED, 60, Y),  NEW(LEASED, 60, Y),  NEW(LEASED, 60, Y)}},
    {"renew X",       LEASE_RENEW, X, 0, 0, -1,
        {MISMATCH,            AGAIN(30),           SAME(LEASED, 0),     NOT_RENEWED,         NOT_RENEWED,         AGAIN(10),           NOT_RENEWED}},
    {"renew Y",       LEASE_RENEW, Y, 0, 0, -1,
        {MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH}},
    {"change X to Y", LEASE_CHANGE, X, Y, 0, -1,
        {NOT_PRESENT,         NEW(LEASED, 20, Y),  NEW(LEASED, 0, Y),   NOT_CHANGED,         NOT_PRESENT,         NOT_PRESENT,         NOT_PRESENT}},
    {"change Y to X", LEASE_CHANGE, Y, X, 0, -1,
        {NOT_PRESENT,         SAME(LEASED, 20),    SAME(LEASED, 0),     NOT_CHANGED,         NOT_PRESENT,         NOT_PRESENT,         NOT_PRESENT}},
    {"change Y to Z", LEASE_CHANGE, Y, Z, 0, -1,
        {NOT_PRESENT,         MISMATCH,            MISMATCH,            MISMATCH,            NOT_PRESENT,         NOT_PRESENT,         NOT_PRESENT}},
    {"release X",     LEASE_RELEASE, X, 0, 0, -1,
        {MISMATCH,            NEW(AVAILABLE, 0, 0), NEW(AVAILABLE, 0, 0), NEW(AVAILABLE, 0, 0), NEW(AVAILABLE, 0, 0), NEW(AVAILABLE, 0, 0), NEW(AVAILABLE, 0, 0)}},
    {"release Y",     LEASE_RELEASE, Y, 0, 0, -1,
        {MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH,            MISMATCH}},
    {"break",         LEASE_BREAK, 0, 0, 0, -1,
        {NOT_PRESENT,         NEW(BREAKING, 20, X), NEW(BROKEN, 0, X),  SAME(BREAKING, 10),  SAME(BROKEN, 0),     NEW(BROKEN, 0, X),   SAME(BROKEN, 0)}},
    {"break 0",       LEASE_BREAK, 0, 0, 0, 0,
        {NOT_PRESENT,         NEW(BROKEN, 0, X),   NEW(BROKEN, 0, X),   NEW(BROKEN, 0, X),   SAME(BROKEN, 0),     NEW(BROKEN, 0, X),   SAME(BROKEN, 0)}},
    {"break 5",       LEASE_BREAK, 0, 0, 0, 5,
        {NOT_PRESENT,         NEW(BREAKING, 5, X), NEW(BREAKING, 5, X), NEW(BREAKING, 5, X), SAME(BROKEN, 0),     NEW(BROKEN, 0, X),   SAME(BROKEN, 0)}},
    {"break 60",      LEASE_BREAK, 0, 0, 0, 60,
        {NOT_PRESENT,         NEW(BREAKING, 20, X), NEW(BREAKING, 60, X), SAME(BREAKING, 10), SAME(BROKEN, 0),    NEW(BROKEN, 0, X),   SAME(BROKEN, 0)}},
    /* clang-format on */
};

/* When the outcome's period began: a new one and a renewed one now, any other when it did. */
static struct lease_now after(const struct lease_outcome *o)
{
    bool anew = o->effect == LEASE_RENEWED || (o->effect == LEASE_ANOTHER && !o->lease.serial);

    return lease_now(&o->lease, anew ? NOW_NS : BEGAN_NS, NOW_NS);
}

static void check_cell(unsigned a, unsigned s)
{
    const struct cell *want = &actions[a].cells[s];
    struct lease lease = lease_of(s);
    struct lease_now now = now_of(&lease), then;
    struct lease_asked asked = {
        .action = actions[a].action,
        .period_ns = actions[a].period ? SECONDS(actions[a].period) : LEASE_INFINITE,
        .has_break = actions[a].break_period >= 0,
        .break_ns = actions[a].break_period > 0 ? SECONDS((unsigned)actions[a].break_period) : 0};
    struct lease_outcome outcome;
    enum az_error error;

    memset(asked.id, actions[a].id, sizeof(asked.id));
    memset(asked.proposed, actions[a].proposed, sizeof(asked.proposed));
    error = lease_act(&lease, &now, &asked, &outcome);
    if (error != want->error)
        fail_msg("%s of state %u: %.*s", actions[a].name, s, SPAN_FMT(az_code(error)));
    if (error)
        return;
    then = after(&outcome);
    if (outcome.effect != want->effect || then.state != want->state ||
        then.left_ns != SECONDS(want->left) ||
        outcome.lease.id[0] != (unsigned char)(want->state == LEASE_AVAILABLE ? 0 : want->id))
        fail_msg("%s of state %u: effect %d, state %d, left %llu", actions[a].name, s,
                 outcome.effect, then.state, (unsigned long long)then.left_ns);
    if (asked.action == LEASE_BREAK)
        assert_int_equal(outcome.left_ns, then.left_ns);
}

static void test_lease__actions(void **state)
{
    for (unsigned a = 0; a < countof(actions); a++)
        for (unsigned s = 0; s < STATES; s++)
            check_cell(a, s);
}

/* ---- use ---- */

#define OK       AZ_OK
#define MISSING  AZ_LEASE_ID_MISSING
#define NO_LEASE AZ_LEASE_NOT_PRESENT_WITH_BLOB_OPERATION
#define WRONG    AZ_LEASE_ID_MISMATCH_WITH_BLOB_OPERATION
#define LOST     AZ_LEASE_LOST

static const struct {
    enum lease_rule rule;
    char id; /* 0: none given */
    enum az_error want[STATES];
} uses[] = {
    /* clang-format off */
    {LEASE_RULE_READ,  0, {OK,       OK,      OK,      OK,      OK,    OK,    OK}},
    {LEASE_RULE_READ,  X, {NO_LEASE, OK,      OK,      OK,      LOST,  LOST,  LOST}},
    {LEASE_RULE_READ,  Y, {NO_LEASE, WRONG,   WRONG,   WRONG,   WRONG, WRONG, WRONG}},
    {LEASE_RULE_WRITE, 0, {OK,       MISSING, MISSING, MISSING, OK,    OK,    OK}},
    {LEASE_RULE_WRITE, X, {NO_LEASE, OK,      OK,      OK,      LOST,  LOST,  LOST}},
    {LEASE_RULE_WRITE, Y, {NO_LEASE, WRONG,   WRONG,   WRONG,   WRONG, WRONG, WRONG}},
    {LEASE_RULE_NONE,  0, {OK,       MISSING, MISSING, MISSING, OK,    OK,    OK}},
    {LEASE_RULE_IGNORED, 0, {OK,     OK,      OK,      OK,      OK,    OK,    OK}},
    {LEASE_RULE_IGNORED, Y, {OK,     OK,      OK,      OK,      OK,    OK,    OK}},
    /* clang-format on */
};

static enum az_error of_container(enum az_error error)
{
    return error == NO_LEASE ? AZ_LEASE_NOT_PRESENT_WITH_CONTAINER_OPERATION
           : error == WRONG  ? AZ_LEASE_ID_MISMATCH_WITH_CONTAINER_OPERATION
                             : error;
}

static void test_lease__use(void **state)
{
    for (unsigned u = 0; u < countof(uses); u++)
        for (unsigned s = 0; s < STATES; s++) {
            struct lease lease = lease_of(s);
            struct lease_now now = now_of(&lease);
            struct lease_use use = {.rule = uses[u].rule, .has_id = uses[u].id};

            memset(use.id, uses[u].id, sizeof(use.id));
            if (lease_check(&lease, &now, &use) != uses[u].want[s])
                fail_msg("use %u of state %u", u, s);
            use.of_container = true;
            assert_int_equal(lease_check(&lease, &now, &use), of_container(uses[u].want[s]));
        }
}

static void test_lease__of_nothing_is_not_present(void **state)
{
    for (unsigned u = 0; u < countof(uses); u++) {
        struct lease_use use = {.rule = uses[u].rule, .has_id = uses[u].id};
        bool named = uses[u].id && uses[u].rule != LEASE_RULE_IGNORED;

        assert_int_equal(lease_check(NULL, NULL, &use), named ? NO_LEASE : OK);
    }
}

static void test_lease__a_write_ends_what_has_ended(void **state)
{
    for (unsigned s = 0; s < STATES; s++) {
        struct lease lease = lease_of(s);
        struct lease_now now = now_of(&lease);
        struct lease kept = lease_written(&lease, &now);
        bool locked = s == FIXED || s == INFINITE || s == BREAKING;

        assert_int_equal(kept.kind, locked ? lease.kind : LEASE_KIND_NONE);
        assert_int_equal(kept.serial, locked ? 7 : 0);
    }
}

/* ---- ids ---- */

static void test_lease_id__has_five_spellings(void **state)
{
    static const char *const same[] = {
        "ca761232ed4211cebacd00aa0057b223",
        "CA761232-ED42-11CE-BACD-00AA0057B223",
        "{CA761232-ED42-11CE-BACD-00AA0057B223}",
        "(ca761232-ed42-11ce-bacd-00aa0057b223)",
        "{0xCA761232,0xED42,0x11CE,{0xBA,0xCD,0x00,0xAA,0x00,0x57,0xB2,0x23}}",
    };
    static const char *const none[] = {
        "",
        "x",
        "ca761232ed4211cebacd00aa0057b22",
        "ca761232ed4211cebacd00aa0057b2233",
        "ca761232ed4211cebacd00aa0057b22g",
        "ca761232-ed42-11ce-bacd-00aa0057b22",
        "(CA761232-ED42-11CE-BACD-00AA0057B223}",
        "CA761232ED42-11CE-BACD-00AA-0057B223",
        "{0xCA761232,0xED42,0x11CE,{0xBA,0xCD,0x00,0xAA,0x00,0x57,0xB2,0x2}}",
    };
    unsigned char first[LEASE_ID_BYTES], id[LEASE_ID_BYTES];

    assert_int_equal(lease_id_parse(span_of(same[0]), first), 0);
    assert_int_equal(first[0], 0xca);
    assert_int_equal(first[15], 0x23);
    for (unsigned i = 1; i < countof(same); i++) {
        memset(id, 0, sizeof(id));
        assert_int_equal(lease_id_parse(span_of(same[i]), id), 0);
        assert_memory_equal(id, first, sizeof(id));
    }
    for (unsigned i = 0; i < countof(none); i++)
        assert_int_equal(lease_id_parse(span_of(none[i]), id), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lease__is_what_the_clock_says),
        cmocka_unit_test(test_lease__ends_with_its_last_nanosecond),
        cmocka_unit_test(test_lease__actions),
        cmocka_unit_test(test_lease__use),
        cmocka_unit_test(test_lease__of_nothing_is_not_present),
        cmocka_unit_test(test_lease__a_write_ends_what_has_ended),
        cmocka_unit_test(test_lease_id__has_five_spellings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
