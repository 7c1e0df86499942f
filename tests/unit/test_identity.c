/* Grants and their grammar, where a bearer token may come from, the files behind it while they
 * change, and what a refusal leaves behind. What tokens may say is tested on the wire
 * (tests/api/test_identity.py). Keys are made here, in a folder of the test's own. */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

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

/* ---- a tenant of the test's own ---- */

#define TENANT  "11111111-2222-3333-4444-555555555555"
#define TRAINER "aaaaaaaa-0000-0000-0000-000000000001"
#define NOW_NS  (1800000000 * (int64_t)NS_PER_SEC)

struct world {
    char folder[64];
    EVP_PKEY *key;
    struct arena *arena;
    struct identity_grant grant;
    struct identity_conf conf;
    struct identity *identity;
    struct account account, other;
    struct span token;
};

static const char *path_of(struct world *w, const char *name)
{
    return arena_printf(w->arena, "%s/%s", w->folder, name).base;
}

/* Renamed into place, as the header of watched.h asks. */
static void file_put(struct world *w, const char *name, const char *text)
{
    const char *made = path_of(w, "made");
    int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    assert_int_equal(rename(made, path_of(w, name)), 0);
}

static struct span base64url(struct world *w, struct span bytes)
{
    char *text = arena_alloc(w->arena, BASE64_BYTES(bytes.len) + 1);
    size_t len = base64_encode(bytes, text);

    while (len && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
    return span_from(text, len);
}

static const char *key_set(struct world *w)
{
    unsigned char point[65];
    size_t len;

    assert_int_equal(EVP_PKEY_get_octet_string_param(w->key, OSSL_PKEY_PARAM_PUB_KEY, point,
                                                     sizeof(point), &len),
                     1);
    return arena_printf(w->arena,
                        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"e\","
                        "\"x\":\"%.*s\",\"y\":\"%.*s\"}]}",
                        SPAN_FMT(base64url(w, span_from(point + 1, 32))),
                        SPAN_FMT(base64url(w, span_from(point + 33, 32))))
        .base;
}

static struct span token_of(struct world *w, const char *oid)
{
    struct span head = base64url(w, SPAN("{\"alg\":\"ES256\",\"kid\":\"e\"}"));
    struct span claims = base64url(
        w, arena_printf(w->arena,
                        "{\"iss\":\"https://sts.windows.net/" TENANT "/\",\"tid\":\"" TENANT
                        "\",\"aud\":\"a\",\"exp\":1800000600,\"oid\":\"%s\"}",
                        oid));
    struct span text = arena_printf(w->arena, "%.*s.%.*s", SPAN_FMT(head), SPAN_FMT(claims));
    unsigned char der[128], pair[64];
    const unsigned char *at = der;
    size_t len = sizeof(der);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    ECDSA_SIG *signature;

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, w->key), 1);
    assert_int_equal(EVP_DigestSign(ctx, der, &len, (const unsigned char *)text.base, text.len), 1);
    EVP_MD_CTX_free(ctx);
    signature = d2i_ECDSA_SIG(NULL, &at, (long)len);
    BN_bn2binpad(ECDSA_SIG_get0_r(signature), pair, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(signature), pair + 32, 32);
    ECDSA_SIG_free(signature);
    return arena_printf(w->arena, "%.*s.%.*s", SPAN_FMT(text),
                        SPAN_FMT(base64url(w, span_from(pair, sizeof(pair)))));
}

static int world_new(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    static const struct span audience = SPAN("a");

    w->arena = arena_new();
    strcpy(w->folder, "/tmp/test_identity.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    w->key = EVP_EC_gen("P-256");
    assert_non_null(w->key);
    w->account = (struct account){.id = 1, .name = SPAN("acct")};
    w->other = (struct account){.id = 2, .name = SPAN("other")};
    w->conf = (struct identity_conf){.tenant = SPAN(TENANT),
                                     .jwks = path_of(w, "jwks"),
                                     .audiences = {&audience, 1},
                                     .revoked = path_of(w, "revoked"),
                                     .delegation_keys = path_of(w, "keys"),
                                     .data = w->folder,
                                     .grants = &w->grant,
                                     .grant_count = 1};
    file_put(w, "jwks", key_set(w));
    file_put(w, "revoked", "");
    file_put(w, "keys", "");
    *state = w;
    return 0;
}

static void world_open(struct world *w)
{
    char *why;

    assert_int_equal(identity_open(&w->conf, &w->identity, &why), 0);
}

static int world_free(void **state)
{
    static const char *const names[] = {"jwks", "revoked", "keys", "made", "delegation.secret"};
    struct world *w = *state;

    w->identity = identity_close(w->identity);
    EVP_PKEY_free(w->key);
    for (unsigned i = 0; i < countof(names); i++)
        unlink(path_of(w, names[i]));
    assert_int_equal(rmdir(w->folder), 0);
    arena_free(w->arena);
    free(w);
    return 0;
}

static enum az_error judge(struct world *w, struct arena *arena, struct span token)
{
    struct subject subject;
    struct span detail;

    return identity_token(w->identity, &w->account, token, NOW_NS, arena, &subject, &detail);
}

/* ---- tokens ---- */

/* What lies in the queue is what SSL_get_error of the next connection on this thread goes by. */
static void test_tokens__a_bad_one_leaves_no_error_for_others(void **state)
{
    struct world *w = *state;
    struct span good = token_of(w, TRAINER);
    char *bad = arena_alloc(w->arena, good.len);
    struct jwks *keys = NULL;

    world_open(w);
    memcpy(bad, good.base, good.len);
    bad[good.len - 20] = bad[good.len - 20] == 'A' ? 'B' : 'A';
    assert_int_equal(judge(w, w->arena, span_from(bad, good.len)), AZ_INVALID_BEARER_TOKEN);
    assert_int_equal(ERR_peek_error(), 0);
    assert_int_equal(judge(w, w->arena, good), AZ_OK);
    /* no point of the curve */
    assert_int_equal(
        jwks_parse(SPAN("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"e\",\"x\":"
                        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"y\":"
                        "\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}"),
                   &keys),
        -EBADMSG);
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_tokens__a_signature_seen_counts_for_its_key_set_only(void **state)
{
    struct world *w = *state;
    struct span token = token_of(w, TRAINER);

    world_open(w);
    assert_int_equal(judge(w, w->arena, token), AZ_OK);
    assert_int_equal(judge(w, w->arena, token), AZ_OK);
    EVP_PKEY_free(w->key);
    w->key = EVP_EC_gen("P-256");
    file_put(w, "jwks", key_set(w));
    assert_int_equal(judge(w, w->arena, token), AZ_INVALID_BEARER_TOKEN);
    assert_int_equal(judge(w, w->arena, token_of(w, TRAINER)), AZ_OK);
}

/* ---- files that change ---- */

static void test_watched__a_file_unreadable_for_a_moment_is_read_later(void **state)
{
    struct world *w = *state;
    struct rlimit limit, none;

    world_open(w);
    assert_false(revoked_subject(w->identity, SPAN(TRAINER)));
    file_put(w, "revoked", "subject " TRAINER "\n");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_false(revoked_subject(w->identity, SPAN(TRAINER))); /* it cannot be known */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    assert_true(revoked_subject(w->identity, SPAN(TRAINER)));
}

static void test_watched__a_file_anybody_may_write_is_refused(void **state)
{
    struct world *w = *state;
    char *why;

    assert_int_equal(chmod(w->conf.jwks, 0666), 0);
    assert_int_equal(identity_open(&w->conf, &w->identity, &why), -EACCES);
    assert_non_null(strstr(why, "anybody may write it"));
    free(why);
    assert_int_equal(chmod(w->conf.jwks, 0644), 0);
    world_open(w);
    file_put(w, "revoked", "subject " TRAINER "\n");
    assert_true(revoked_subject(w->identity, SPAN(TRAINER)));
    file_put(w, "revoked", "");
    assert_int_equal(chmod(w->conf.revoked, 0666), 0);
    assert_true(revoked_subject(w->identity, SPAN(TRAINER)));
    assert_int_equal(chmod(w->conf.revoked, 0600), 0);
    assert_false(revoked_subject(w->identity, SPAN(TRAINER)));
}

static void test_revoked__in_whatever_case_and_length(void **state)
{
    struct world *w = *state;
    const struct delegation name = {
        .oid = SPAN("a-NAME-longer-than-the-thirty-six-letters-of-a-guid"), .start_s = 5};

    file_put(w, "revoked",
             "subject AAAAAAAA-0000-0000-0000-000000000001\n"
             "key A-name-LONGER-than-the-thirty-six-letters-of-a-GUID 1970-01-01T00:00:05Z\n");
    world_open(w);
    assert_true(revoked_subject(w->identity, SPAN(TRAINER)));
    assert_true(revoked_delegation(w->identity, &name));
}

#define ROUNDS 200

static void *judge_always(void *arg)
{
    struct world *w = arg;
    struct arena *arena = arena_new();
    enum az_error error = AZ_OK;

    for (unsigned i = 0; i < ROUNDS && error == AZ_OK; i++) {
        error = judge(w, arena, w->token);
        arena_reset(arena);
    }
    arena_free(arena);
    return error == AZ_OK ? NULL : w;
}

/* Keys and revocations come anew under many readers: no token that is good is refused. */
static void test_watched__many_read_what_changes(void **state)
{
    struct world *w = *state;
    pthread_t threads[3];
    void *failed;

    world_open(w);
    w->token = token_of(w, TRAINER);
    for (unsigned i = 0; i < countof(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, judge_always, w), 0);
    for (unsigned i = 0; i < ROUNDS / 4; i++) {
        file_put(w, "jwks", key_set(w));
        file_put(w, "revoked", i % 2 ? "subject nobody\n" : "");
    }
    for (unsigned i = 0; i < countof(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

/* ---- user delegation keys ---- */

static const struct delegation trainers = {.oid = SPAN(TRAINER),
                                           .tenant = SPAN(TENANT),
                                           .start_s = 1767225600,
                                           .expiry_s = 1798761600,
                                           .service = SPAN("b"),
                                           .version = SPAN("2022-11-02")};

static void test_delegation__keys_of_the_file_are_of_one_account(void **state)
{
    struct world *w = *state;
    unsigned char key[DELEGATION_KEY_BYTES_MAX];
    size_t len;

    file_put(w, "keys", "acct " TRAINER " " TENANT " 2026-01-01 2027-01-01 b 2022-11-02 AAAA\n");
    world_open(w);
    assert_true(delegation_key(w->identity, &w->account, &trainers, key, &len));
    assert_int_equal(len, 3);
    assert_true(delegation_key(w->identity, &w->other, &trainers, key, &len));
    assert_int_equal(len, 32); /* the box's own, which nobody was given */
}

static void test_delegation__own_keys_differ_in_every_part_of_their_name(void **state)
{
    struct world *w = *state;
    struct delegation others[] = {trainers, trainers, trainers, trainers, trainers, trainers};
    unsigned char key[32], other[32];

    world_open(w);
    others[0].oid = SPAN("aaaaaaaa-0000-0000-0000-000000000002");
    others[1].tenant = SPAN("11111111-2222-3333-4444-555555555556");
    others[2].start_s++;
    others[3].expiry_s++;
    others[4].version = SPAN("2022-11-03");
    others[5].delegated_tenant = SPAN("x");
    delegation_derive(w->identity, &w->account, &trainers, key);
    for (unsigned i = 0; i < countof(others); i++) {
        delegation_derive(w->identity, &w->account, &others[i], other);
        assert_memory_not_equal(key, other, sizeof(key));
    }
    delegation_derive(w->identity, &w->other, &trainers, other);
    assert_memory_not_equal(key, other, sizeof(key));
    others[0].oid = SPAN("AAAAAAAA-0000-0000-0000-000000000001");
    delegation_derive(w->identity, &w->account, &others[0], other);
    assert_memory_equal(key, other, sizeof(key));
}

static void test_delegation__secret_is_shared_without_tokens_and_never_short(void **state)
{
    struct world *w = *state;
    unsigned char key[32], again[DELEGATION_KEY_BYTES_MAX];
    char *why;
    size_t len;

    w->conf.delegation_secret = SPAN("a secret of many bytes, shared by boxes");
    world_open(w);
    delegation_derive(w->identity, &w->account, &trainers, key);
    w->identity = identity_close(w->identity);
    w->conf.jwks = NULL;
    world_open(w);
    assert_true(delegation_key(w->identity, &w->account, &trainers, again, &len));
    assert_memory_equal(key, again, sizeof(key));
    w->identity = identity_close(w->identity);
    w->conf.delegation_secret = SPAN("short");
    assert_int_equal(identity_open(&w->conf, &w->identity, &why), -EINVAL);
    assert_non_null(strstr(why, "delegation_secret"));
    free(why);
}

#define T(test) cmocka_unit_test_setup_teardown(test, world_new, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grants__grammar),
        cmocka_unit_test(test_bearer__http_is_for_loopback_only),
        T(test_tokens__a_bad_one_leaves_no_error_for_others),
        T(test_tokens__a_signature_seen_counts_for_its_key_set_only),
        T(test_watched__a_file_unreadable_for_a_moment_is_read_later),
        T(test_watched__a_file_anybody_may_write_is_refused),
        T(test_revoked__in_whatever_case_and_length),
        T(test_watched__many_read_what_changes),
        T(test_delegation__keys_of_the_file_are_of_one_account),
        T(test_delegation__own_keys_differ_in_every_part_of_their_name),
        T(test_delegation__secret_is_shared_without_tokens_and_never_short),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
