/* blobapi/identity.c - is this token good, and what do the grants give its subject? */
#include "blobapi/identity_internal.h"

#include "base/clock.h"
#include "blobapi/auth.h"

#define STORAGE_AUDIENCE SPAN("https://storage.azure.com")

/* ---- lines of small files and of grants ---- */

bool line_next(struct span *text, struct span *ret)
{
    struct span unused;

    while (text->len) {
        struct span line = span_cut(*text, '\n', text);

        if (line.len && line.base[line.len - 1] == '\r')
            line.len--;
        *ret = span_trim(span_cut(line, '#', &unused));
        if (ret->len)
            return true;
    }
    return false;
}

struct span word_next(struct span *line)
{
    struct span word;

    *line = span_trim(*line);
    word = (struct span){line->base, 0};
    while (word.len < line->len && word.base[word.len] != ' ' && word.base[word.len] != '\t')
        word.len++;
    *line = span_trim(span_skip(*line, word.len));
    return word.len ? word : (struct span){NULL, 0};
}

static bool subject_parse(struct span text, struct identity_grant *grant)
{
    static const struct {
        struct span prefix;
        enum subject_kind kind;
    } kinds[] = {{SPAN("oid"), SUBJECT_OID},
                 {SPAN("appid"), SUBJECT_APP},
                 {SPAN("role"), SUBJECT_ROLE},
                 {SPAN("group"), SUBJECT_GROUP},
                 {SPAN("scope"), SUBJECT_SCOPE}};
    struct span kind = span_cut(text, ':', &grant->subject);

    for (unsigned i = 0; i < countof(kinds); i++)
        if (span_eq(kind, kinds[i].prefix)) {
            grant->kind = kinds[i].kind;
            return grant->subject.len > 0;
        }
    return false;
}

/* 0: neither a role nor letters. */
static uint32_t rights_parse(struct span text)
{
    uint32_t rights = 0;

    if (span_eq(text, SPAN("reader")))
        return auth_rights(SPAN("rl")) | AUTH_DELEGATE;
    if (span_eq(text, SPAN("contributor")))
        return auth_rights(SPAN("racwdxlme")) | AUTH_DELEGATE;
    if (span_eq(text, SPAN("owner")))
        return AUTH_ALL | AUTH_DELEGATE;
    if (span_eq(text, SPAN("delegator")))
        return AUTH_DELEGATE;
    for (size_t i = 0; i < text.len; i++) {
        uint32_t one = auth_rights(span_from(text.base + i, 1));

        if (!one)
            return 0;
        rights |= one;
    }
    return rights;
}

const char *identity_grant_parse(struct span text, struct identity_grant *ret)
{
    struct identity_grant grant = {.account = ret->account};
    struct span rest = text, who = word_next(&rest), rights;

    grant.containers = word_next(&rest);
    rights = word_next(&rest);
    if (!rights.base || rest.len)
        return "must be \"SUBJECT CONTAINERS RIGHTS\", such as \"role:Trainer ckpt-* racwdl\"";
    if (!subject_parse(who, &grant))
        return "the subject must be oid:, appid:, role:, group: or scope: with its value";
    grant.rights = rights_parse(rights);
    if (!grant.rights)
        return "rights must be letters of racwdxyltfmeip, or reader, contributor, owner, delegator";
    *ret = grant;
    return NULL;
}

/* ---- rights ---- */

static bool list_has(const struct jwt_list *list, struct span text)
{
    for (unsigned i = 0; i < list->count; i++)
        if (span_eq_nocase(list->at[i], text))
            return true;
    return false;
}

static bool grant_is_of(const struct identity_grant *grant, const struct subject *subject)
{
    switch (grant->kind) {
    case SUBJECT_OID:
        return span_eq_nocase(grant->subject, subject->oid);
    case SUBJECT_APP:
        return span_eq_nocase(grant->subject, subject->app);
    case SUBJECT_ROLE:
        return list_has(&subject->roles, grant->subject);
    case SUBJECT_GROUP:
        return list_has(&subject->groups, grant->subject);
    case SUBJECT_SCOPE:
        return list_has(&subject->scopes, grant->subject);
    }
    return false;
}

uint32_t identity_rights(const struct identity *identity, uint32_t account, struct span container,
                         const struct subject *subject)
{
    uint32_t rights = 0;

    for (unsigned i = 0; i < identity->conf->grant_count; i++) {
        const struct identity_grant *grant = &identity->conf->grants[i];
        bool there = container.len ? pattern_matches(grant->containers, container)
                                   : span_eq(grant->containers, SPAN("*"));

        if (grant->account == account && there && grant_is_of(grant, subject))
            rights |= grant->rights;
    }
    return rights;
}

bool identity_knows_oid(const struct identity *identity, uint32_t account, struct span oid)
{
    for (unsigned i = 0; i < identity->conf->grant_count; i++) {
        const struct identity_grant *grant = &identity->conf->grants[i];

        if (grant->account == account && grant->kind == SUBJECT_OID &&
            span_eq_nocase(grant->subject, oid))
            return true;
    }
    return false;
}

bool identity_is_tenant(const struct identity *identity, struct span tenant)
{
    return tenant.len && span_eq_nocase(identity->conf->tenant, tenant);
}

/* ---- tokens ---- */

static struct span slash_trimmed(struct span url)
{
    if (url.len && url.base[url.len - 1] == '/')
        url.len--;
    return url;
}

static bool issuer_fits(const struct identity_conf *conf, struct span issuer, struct arena *arena)
{
    if (conf->issuers.count) {
        for (unsigned i = 0; i < conf->issuers.count; i++)
            if (span_eq(conf->issuers.at[i], issuer))
                return true;
        return false;
    }
    return span_eq_nocase(issuer, arena_printf(arena, "https://sts.windows.net/%.*s/",
                                               SPAN_FMT(conf->tenant))) ||
           span_eq_nocase(issuer, arena_printf(arena, "https://login.microsoftonline.com/%.*s/v2.0",
                                               SPAN_FMT(conf->tenant)));
}

static bool audience_one_fits(const struct identity_conf *conf, const struct account *account,
                              struct span audience, struct arena *arena)
{
    audience = slash_trimmed(audience);
    for (unsigned i = 0; i < conf->audiences.count; i++)
        if (span_eq(slash_trimmed(conf->audiences.at[i]), audience))
            return true;
    return conf->storage_audience &&
           (span_eq(audience, STORAGE_AUDIENCE) ||
            span_eq(audience, arena_printf(arena, "https://%.*s.blob.core.windows.net",
                                           SPAN_FMT(account->name))));
}

static bool audience_fits(const struct identity_conf *conf, const struct account *account,
                          const struct jwt_list *audiences, struct arena *arena)
{
    for (unsigned i = 0; i < audiences->count; i++)
        if (audience_one_fits(conf, account, audiences->at[i], arena))
            return true;
    return false;
}

/* NULL: fine. The sentences are the service's. */
static const char *claims_wrong(const struct identity_conf *conf, const struct account *account,
                                const struct jwt *jwt, int64_t now_ns, struct arena *arena)
{
    int64_t now_s = now_ns / (int64_t)NS_PER_SEC;

    if (!issuer_fits(conf, jwt->issuer, arena) || !span_eq_nocase(jwt->tenant, conf->tenant))
        return "Issuer validation failed. Issuer did not match.";
    if (!audience_fits(conf, account, &jwt->audiences, arena))
        return "Audience validation failed. Audience did not match.";
    if (now_s + TOKEN_LEEWAY_S < jwt->not_before_s)
        return "Lifetime validation failed. The token is not yet valid.";
    if (now_s - TOKEN_LEEWAY_S >= jwt->expires_s)
        return "Lifetime validation failed. The token is expired.";
    return jwt->oid.len ? NULL : "The token names no subject (oid).";
}

static struct token_seen *seen_slot(struct identity *identity,
                                    const unsigned char hash[SHA256_BYTES])
{
    return &identity->seen[(hash[0] | hash[1] << 8) % TOKENS_SEEN];
}

static bool token_signed(struct identity *identity, struct span token, const struct jwt *jwt)
{
    const struct jwks *jwks = watched_hold(&identity->jwks);
    unsigned generation = identity->jwks.generation + 1; /* 0: an empty slot */
    unsigned char hash[SHA256_BYTES];
    struct token_seen *slot;
    bool good;

    hmac_sha256(span_from(identity->seen_key, sizeof(identity->seen_key)), token, hash);
    slot = seen_slot(identity, hash);
    pthread_mutex_lock(&identity->seen_lock);
    good = slot->generation == generation && memcmp(slot->hash, hash, sizeof(hash)) == 0;
    pthread_mutex_unlock(&identity->seen_lock);
    if (!good && jwks && jwks_verify(jwks, jwt)) {
        good = true;
        pthread_mutex_lock(&identity->seen_lock);
        memcpy(slot->hash, hash, sizeof(hash));
        slot->generation = generation;
        pthread_mutex_unlock(&identity->seen_lock);
    }
    watched_release(&identity->jwks);
    return good;
}

static enum az_error refuse(struct span *ret_detail, const char *why)
{
    *ret_detail = span_of(why);
    return AZ_INVALID_BEARER_TOKEN;
}

enum az_error identity_token(struct identity *identity, const struct account *account,
                             struct span token, int64_t now_ns, struct arena *arena,
                             struct subject *ret, struct span *ret_detail)
{
    struct jwt jwt;
    const char *wrong;

    if (!identity || !identity->jwks.path)
        return refuse(ret_detail, "Bearer tokens are not accepted here.");
    if (jwt_parse(token, arena, &jwt) < 0)
        return refuse(ret_detail, "The token is not a JWT signed with RS256 or ES256.");
    wrong = claims_wrong(identity->conf, account, &jwt, now_ns, arena);
    if (wrong)
        return refuse(ret_detail, wrong);
    if (!token_signed(identity, token, &jwt))
        return refuse(ret_detail, "Signature validation failed. Signature verification failed.");
    if (revoked_subject(identity, jwt.oid))
        return refuse(ret_detail, "The token has been revoked.");
    *ret = (struct subject){.oid = jwt.oid,
                            .tenant = jwt.tenant,
                            .app = jwt.app,
                            .roles = jwt.roles,
                            .groups = jwt.groups,
                            .scopes = jwt.scopes};
    return AZ_OK;
}

/* ---- open and close ---- */

static int key_set_parse(struct span text, void **ret)
{
    struct jwks *jwks;
    int err = jwks_parse(text, &jwks);

    if (err == 0)
        *ret = jwks;
    return err;
}

static void key_set_drop(void *jwks)
{
    jwks_free(jwks);
}

struct span identity_challenge(const struct identity *identity)
{
    return identity ? identity->challenge : AUTH_CHALLENGE;
}

/* The audience a client should ask a token for is this site's own, where it has one. */
static void challenge_make(struct identity *identity)
{
    const struct identity_conf *conf = identity->conf;
    struct span audience =
        conf->audiences.count ? slash_trimmed(conf->audiences.at[0]) : STORAGE_AUDIENCE;

    identity->challenge = AUTH_CHALLENGE;
    if (conf->tenant.len)
        identity->challenge = arena_printf(
            identity->arena,
            "Bearer authorization_uri=https://login.microsoftonline.com/%.*s/oauth2/authorize "
            "resource_id=%.*s",
            SPAN_FMT(conf->tenant), SPAN_FMT(audience));
}

int identity_open(const struct identity_conf *conf, struct identity **ret, char **why)
{
    struct identity *identity = xcalloc(1, sizeof(*identity));
    /* without tokens it gives out none, but knows those of boxes that share its secret */
    bool gives_keys = conf->jwks || conf->delegation_secret.len;
    int err;

    *why = NULL;
    identity->conf = conf;
    identity->arena = arena_new();
    pthread_mutex_init(&identity->seen_lock, NULL);
    random_fill(identity->seen_key, sizeof(identity->seen_key));
    challenge_make(identity);
    identity->jwks = (struct watched){.path = conf->jwks ? xstrdup(conf->jwks) : NULL,
                                      .bytes_max = JWKS_BYTES_MAX,
                                      .parse = key_set_parse,
                                      .drop = key_set_drop};
    identity->delegation_keys =
        (struct watched){.path = conf->delegation_keys ? xstrdup(conf->delegation_keys) : NULL,
                         .bytes_max = MIB(1),
                         .secret = true,
                         .parse = delegation_keys_parse,
                         .drop = delegation_keys_drop};
    identity->revoked = (struct watched){.path = conf->revoked ? xstrdup(conf->revoked) : NULL,
                                         .bytes_max = MIB(4),
                                         .parse = revoked_parse,
                                         .drop = revoked_drop};
    if ((err = watched_open(&identity->jwks, why)) < 0 ||
        (err = watched_open(&identity->delegation_keys, why)) < 0 ||
        (err = watched_open(&identity->revoked, why)) < 0 ||
        (err = gives_keys ? delegation_secret_open(identity, why) : 0) < 0) {
        identity_close(identity);
        return err;
    }
    *ret = identity;
    return 0;
}

struct identity *identity_close(struct identity *identity)
{
    if (!identity)
        return NULL;
    watched_close(&identity->jwks);
    watched_close(&identity->delegation_keys);
    watched_close(&identity->revoked);
    arena_free(identity->arena);
    pthread_mutex_destroy(&identity->seen_lock);
    explicit_bzero(identity, sizeof(*identity));
    free(identity);
    return NULL;
}
