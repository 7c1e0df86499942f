/* upstream/network.h: which origins and addresses a copy may be read from. */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "upstream/network.h"

static struct network network(const char *text)
{
    struct network n;

    assert_int_equal(network_parse(span_of(text), &n), 0);
    return n;
}

static bool allowed(const struct copy_policy *policy, const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return copy_address_allowed(policy, (const struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return copy_address_allowed(policy, (const struct sockaddr *)&v6);
}

static void test_network__only_public_addresses(void **state)
{
    static const char *const closed[] = {"0.0.0.0",
                                         "10.0.0.1",
                                         "10.255.255.255",
                                         "100.64.0.1",
                                         "127.0.0.1",
                                         "127.255.0.1",
                                         "169.254.169.254",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.168.1.1",
                                         "198.18.0.1",
                                         "224.0.0.1",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "::ffff:10.0.0.1",
                                         "::ffff:127.0.0.1",
                                         "::7f00:1",
                                         "fc00::1",
                                         "fd12:3456::1",
                                         "fe80::1",
                                         "fec0::1",
                                         "ff02::1",
                                         "64:ff9b::a00:1",
                                         "2001:db8::1",
                                         "2002:7f00:1::1",
                                         "2001::1"};
    static const char *const open[] = {
        "1.1.1.1",    "20.60.1.1",     "100.63.0.1",   "100.128.0.1", "172.15.0.1",
        "172.32.0.1", "223.255.255.1", "2603:1030::1", "2a00::1",     "::ffff:20.60.1.1"};
    const struct copy_policy none = {0};

    for (size_t i = 0; i < countof(closed); i++)
        if (allowed(&none, closed[i]))
            fail_msg("%s is open", closed[i]);
    for (size_t i = 0; i < countof(open); i++)
        if (!allowed(&none, open[i]))
            fail_msg("%s is closed", open[i]);
}

static void test_network__what_is_allowed_by_network(void **state)
{
    struct network networks[] = {network("10.1.0.0/16"), network("fd00::/8"), network("127.0.0.1")};
    struct copy_policy policy = {.networks = networks, .network_count = countof(networks)};

    assert_true(allowed(&policy, "10.1.2.3"));
    assert_false(allowed(&policy, "10.2.0.1"));
    assert_true(allowed(&policy, "::ffff:10.1.2.3"));
    assert_true(allowed(&policy, "fd12::1"));
    assert_false(allowed(&policy, "fc00::1"));
    assert_true(allowed(&policy, "127.0.0.1"));
    assert_false(allowed(&policy, "127.0.0.2"));
    assert_true(allowed(&policy, "1.1.1.1"));
}

static void test_network__what_is_none(void **state)
{
    static const char *const bad[] = {
        "",           "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/",    "10.0.0/8",
        "fd00::/129", "fd00::1/8",   "host",       "10.0.0.0/8/8", "10.0.0.0/-1"};
    struct network n;

    for (size_t i = 0; i < countof(bad); i++)
        if (network_parse(span_of(bad[i]), &n) != -EINVAL)
            fail_msg("\"%s\" is taken", bad[i]);
}

static bool matches(const char *pattern, const char *url)
{
    struct arena *arena = arena_new();
    struct origin origin;
    struct origin_url parsed;
    struct copy_policy policy = {.origins = &origin, .origin_count = 1};
    bool ret;

    assert_int_equal(origin_parse(span_of(pattern), arena, &origin), 0);
    assert_int_equal(origin_url_parse(span_of(url), arena, &parsed), 0);
    ret = copy_origin_allowed(&policy, &parsed.origin);
    arena_free(arena);
    return ret;
}

static void test_origin__matches(void **state)
{
    const char *azure = "https://*.blob.core.windows.net";

    assert_true(matches(azure, "https://acct.blob.core.windows.net/c/b?sig=x"));
    assert_true(matches(azure, "https://ACCT.Blob.core.windows.net:443/c/b"));
    assert_true(matches(azure, "https://a.b.blob.core.windows.net/"));
    assert_false(matches(azure, "https://blob.core.windows.net/c"));
    assert_false(matches(azure, "http://acct.blob.core.windows.net/c"));
    assert_false(matches(azure, "https://acct.blob.core.windows.net:8443/c"));
    assert_false(matches(azure, "https://acct.blob.core.windows.net.evil.example/c"));
    assert_false(matches(azure, "https://evilblob.core.windows.net/c"));
    assert_true(matches("http://10.1.2.3:9000", "http://10.1.2.3:9000/x"));
    assert_true(matches("http://[fd00::1]:9000", "http://[fd00::1]:9000/x"));
    assert_false(matches("http://10.1.2.3:9000", "http://10.1.2.3/x"));
}

static void test_origin__a_url_that_two_parsers_could_read_differently(void **state)
{
    static const char *const bad[] = {
        "http://user@host/x",   "http://a@b:80/x",   "http://host",
        "http://host\\@evil/x", "http://ho st/x",    "http://host/x y",
        "http://host/x#y",      "http://host%2f/x",  "http:///x",
        "ftp://host/x",         "http://host:/x",    "http://host:0/x",
        "http://host:65536/x",  "http://host:80a/x", "http://[::1/x",
        "http://[::1]x/x",      "http://::1/x",      "http://.host/x",
        "http://host./x",       "http://ho\tst/x",   "http://h\xc3\xb6st/x",
        "http://host/\r\nX: y", "//host/x",          "http://*.host/x",
        "http://[127.0.0.1]/x"};
    struct arena *arena = arena_new();
    struct origin_url url;

    for (size_t i = 0; i < countof(bad); i++)
        if (origin_url_parse(span_of(bad[i]), arena, &url) != -EINVAL)
            fail_msg("\"%s\" is taken", bad[i]);
    assert_int_equal(origin_url_parse(SPAN("HTTP://Host:8080/a//b?c=d&e=%2F"), arena, &url), 0);
    assert_true(span_eq(url.text, SPAN("http://host:8080")));
    assert_true(span_eq(url.path, SPAN("/a//b?c=d&e=%2F")));
    arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network__only_public_addresses),
        cmocka_unit_test(test_network__what_is_allowed_by_network),
        cmocka_unit_test(test_network__what_is_none),
        cmocka_unit_test(test_origin__matches),
        cmocka_unit_test(test_origin__a_url_that_two_parsers_could_read_differently),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
