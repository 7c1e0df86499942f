/* Goal: what a service SAS that names a stored access policy (si) is worth: each field from the
 * token or from the policy, from both never, and nothing about policies for who has no key.
 * Method: auth_check on requests signed here, policies given beside them. */
#include "blobapi/auth_internal.h"

#include "base/text.h"
#include "tests/unit/unit.h"

#define NOW 1795341600000000000 /* 2026-11-22T10:00:00Z */
#define SE  "2026-12-31T00:00:00Z"

static const struct account account = {.id = 1, .name = SPAN("acct"), .key = {SPAN("secret")}};
static const struct accounts accounts = {&account, 1};
static struct arena *arena;
static struct span detail;

static struct span signature(struct span key, struct span text)
{
    unsigned char mac[SHA256_BYTES];
    char base64[BASE64_BYTES(SHA256_BYTES)];
    char *sig = arena_alloc(arena, 3 * sizeof(base64));

    hmac_sha256(key, text, mac);
    base64_encode(span_from(mac, sizeof(mac)), base64);
    return span_from(sig, percent_encode(span_from(base64, sizeof(base64)), "", sig));
}

/* Get Blob of acct/ctr/b with a container's SAS of policy "pol". */
static enum az_error check(const char *key, const char *st, const char *se, const char *sp,
                           const struct access_policy *policies, unsigned count)
{
    struct span text = arena_printf(
        arena, "%s\n%s\n%s\n/blob/acct/ctr\npol\n\n\n2020-12-06\nc\n\n\n\n\n\n\n", sp, st, se);
    struct span query =
        arena_printf(arena, "/acct/ctr/b?sv=2020-12-06&sr=c&si=pol&st=%s&se=%s&sp=%s&sig=%.*s", st,
                     se, sp, SPAN_FMT(signature(span_of(key), text)));
    struct target target;
    struct auth_request request = {.method = SPAN("GET"),
                                   .target = &target,
                                   .now_ns = NOW,
                                   .arena = arena,
                                   .need = {AUTH_OBJECT, AUTH_READ, AUTH_READ},
                                   .policies = policies,
                                   .policy_count = count};
    struct granted granted;

    assert_int_equal(target_parse(&accounts, SPAN("127.0.0.1"), query, arena, &target), AZ_OK);
    return auth_check(&request, &granted, &detail);
}

static const struct row {
    const char *st, *se, *sp; /* of the token */
    struct access_policy policy;
    enum az_error error;
    const char *detail;
} rows[] = {
#define POLICY(start, expiry, permission)                                                          \
    {                                                                                              \
        SPAN("pol"), SPAN(start), SPAN(expiry), SPAN(permission)                                   \
    }
    {"", "", "", POLICY("", SE, "rw"), AZ_OK, ""},
    {"", SE, "", POLICY("", "", "r"), AZ_OK, ""},
    {"", SE, "r", POLICY("2026-01-01", "", ""), AZ_OK, ""},
    {"2026-01-01", "", "r", POLICY("", SE, ""), AZ_OK, ""},
    {"", SE, "r", POLICY("", "", ""), AZ_OK, ""},
    {"", "", "", POLICY("", SE, "wl"), AZ_AUTHORIZATION_PERMISSION_MISMATCH, ""},
    {"", "", "", POLICY("2030-01-01", "2031-01-01", "r"), AZ_AUTHENTICATION_FAILED, "time frame"},
    {"", "", "", POLICY("", "2020-01-01", "r"), AZ_AUTHENTICATION_FAILED, "time frame"},
    {"2026-01-01", "", "", POLICY("2026-01-01", SE, "r"), AZ_AUTHENTICATION_FAILED, "must not"},
    {"", SE, "", POLICY("", SE, "r"), AZ_AUTHENTICATION_FAILED, "must not"},
    {"", "", "r", POLICY("", SE, "r"), AZ_AUTHENTICATION_FAILED, "must not"},
    {"", "", "r", POLICY("", "", ""), AZ_AUTHENTICATION_FAILED, "se is missing"},
    {"", "", "", POLICY("", SE, ""), AZ_AUTHENTICATION_FAILED, "sp is missing"},
#undef POLICY
};

static void test_policy__each_field_from_one_of_both(void **state)
{
    for (size_t i = 0; i < countof(rows); i++) {
        const struct row *row = &rows[i];
        struct access_policy policies[] = {{SPAN("other"), SPAN(""), SPAN(SE), SPAN("r")},
                                           row->policy};

        if (check("secret", row->st, row->se, row->sp, policies, 2) != row->error ||
            (*row->detail && !strstr(detail.base, row->detail)))
            fail_msg("row %zu: %.*s", i, SPAN_FMT(detail));
    }
}

static void test_policy__its_name_is_exact(void **state)
{
    struct access_policy policy = {SPAN("POL"), SPAN(""), SPAN(SE), SPAN("r")};

    assert_int_equal(check("secret", "", "", "", &policy, 1), AZ_AUTHENTICATION_FAILED);
    assert_non_null(strstr(detail.base, "no stored access policy"));
    assert_int_equal(check("secret", "", SE, "r", NULL, 0), AZ_AUTHENTICATION_FAILED);
}

static void test_policy__is_looked_at_after_the_signature(void **state) /* C5 */
{
    struct access_policy policy = {SPAN("pol"), SPAN(""), SPAN(SE), SPAN("r")};

    assert_int_equal(check("guess", "", "", "", &policy, 1), AZ_AUTHENTICATION_FAILED);
    assert_span_equal(detail, "Signature did not match.");
    assert_int_equal(check("guess", "", "", "", NULL, 0), AZ_AUTHENTICATION_FAILED);
    assert_span_equal(detail, "Signature did not match.");
}

static int setup(void **state)
{
    arena = arena_new();
    return 0;
}

static int teardown(void **state)
{
    arena = arena_free(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_policy__each_field_from_one_of_both),
        cmocka_unit_test(test_policy__its_name_is_exact),
        cmocka_unit_test(test_policy__is_looked_at_after_the_signature),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
