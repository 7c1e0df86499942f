/* Grants and their grammar, and where a bearer token may come from. What tokens say is tested on
 * the wire, with keys made there (tests/api/test_identity.py). */
#include "tests/unit/unit.h"

#include <arpa/inet.h>

#include "blobapi/auth_internal.h"
#include "blobapi/identity_internal.h"

static void test_grants__grammar(void **state)
{
    struct identity_grant grant = {.account = 7};

    assert_null(identity_grant_parse(SPAN(" oid:A  ckpt-*\tracwdl "), &grant));
    assert_int_equal(grant.account, 7);
    assert_int_equal(grant.kind, SUBJECT_OID);
    assert_span_equal(grant.containers, "ckpt-*");
    assert_int_equal(grant.rights, auth_rights(SPAN("racwdl")));
    assert_null(identity_grant_parse(SPAN("role:Any * delegator"), &grant));
    assert_int_equal(grant.rights, AUTH_DELEGATE);
    assert_non_null(identity_grant_parse(SPAN(""), &grant));
    assert_non_null(identity_grant_parse(SPAN("oid:A *"), &grant));
    assert_non_null(identity_grant_parse(SPAN("oid: * r"), &grant));
    assert_non_null(identity_grant_parse(SPAN("user:A * r"), &grant));
    assert_non_null(identity_grant_parse(SPAN("oid:A * rz"), &grant));
    assert_non_null(identity_grant_parse(SPAN("oid:A * r more"), &grant));
}

static enum az_error bearer_from(const char *address, bool tls, struct span *detail)
{
    static struct identity_conf conf;
    static struct identity identity = {.conf = &conf}; /* takes no tokens: 401 once asked */
    struct sockaddr_in peer = {.sin_family = AF_INET};
    struct account account = {.id = 1, .name = SPAN("acct")};
    struct target target = {.account = &account};
    struct header header = {.name = SPAN("authorization"), .value = SPAN("Bearer a.b.c")};
    struct auth_request request = {.target = &target,
                                   .headers = &header,
                                   .header_count = 1,
                                   .peer = (const struct sockaddr *)&peer,
                                   .tls = tls,
                                   .identity = &identity};
    struct granted granted;

    assert_int_equal(inet_pton(AF_INET, address, &peer.sin_addr), 1);
    return auth_check(&request, &granted, detail);
}

static void test_bearer__http_is_for_loopback_only(void **state)
{
    struct span detail;

    assert_int_equal(bearer_from("10.0.0.1", false, &detail), AZ_AUTHENTICATION_FAILED);
    assert_span_equal(detail, "Authentication scheme Bearer is not allowed with HTTP.");
    assert_int_equal(bearer_from("10.0.0.1", true, &detail), AZ_INVALID_BEARER_TOKEN);
    assert_int_equal(bearer_from("127.0.0.9", false, &detail), AZ_INVALID_BEARER_TOKEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grants__grammar),
        cmocka_unit_test(test_bearer__http_is_for_loopback_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
