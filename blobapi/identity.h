/* blobapi/identity.h - who Entra ID says somebody is, what this box lets them do, and who has been
 * shut out: bearer tokens, user delegation keys, revocations. All of it is judged here, from files,
 * so that it works with the WAN down. Any thread, unless it says otherwise.
 *
 * Rights come from `grants` lines of accounts (identity_grant_parse), never from the token alone.
 * A user delegation SAS names its subject by oid only, so only oid: lines count for it, and only
 * who has one gets a key. Files: identity.c (tokens, rights), delegation.c, revoked.c, watched.c,
 * jwt.c, jwks.c. */
#ifndef BLOBAPI_IDENTITY_H
#define BLOBAPI_IDENTITY_H

#include "blobapi/errors.h"
#include "blobapi/jwt.h"
#include "cache/contract.h"

#define TOKEN_LEEWAY_S 60 /* how far clocks may be apart */

enum subject_kind { SUBJECT_OID, SUBJECT_APP, SUBJECT_ROLE, SUBJECT_GROUP, SUBJECT_SCOPE };

/* "oid:GUID ckpt-* racwdl": this subject may do that in containers of these names. */
struct identity_grant {
    uint32_t account;
    enum subject_kind kind;
    struct span subject, containers; /* containers "*": the account itself too */
    uint32_t rights;                 /* enum auth_right, AUTH_DELEGATE */
};
/* SUBJECT CONTAINERS RIGHTS: oid:, appid:, role:, group: or scope: with its value; a pattern of
 * names; letters of a SAS's sp, or reader, contributor, owner, delegator as Azure's roles. Borrows
 * text; account is left alone. NULL, or what is wrong. */
const char *identity_grant_parse(struct span text, struct identity_grant *ret) must_check;

struct identity_conf {       /* lives as long as the identity */
    struct span tenant;      /* empty: no tokens and no user delegation */
    const char *jwks;        /* path; NULL: no tokens */
    struct jwt_list issuers; /* none: Entra's two of the tenant */
    struct jwt_list audiences;
    bool storage_audience; /* Azure Storage's own too: tokens that also open real accounts */
    const char *revoked, *delegation_keys; /* paths; NULL: none */
    struct span delegation_secret;         /* empty: made once, in data */
    const char *data;                      /* folder */
    const struct identity_grant *grants;
    unsigned grant_count;
};
struct identity;
/* Main thread. -errno with *why malloc'ed. */
int identity_open(const struct identity_conf *conf, struct identity **ret, char **why) must_check;
struct identity *identity_close(struct identity *identity); /* NULL is fine */

/* What 401 answers say in WWW-Authenticate; identity may be NULL. */
struct span identity_challenge(const struct identity *identity);

struct subject {
    struct span oid, tenant, app;
    struct jwt_list roles, groups, scopes;
};
/* AZ_OK, or AZ_INVALID_BEARER_TOKEN with *ret_detail. account: whose own Azure host name may be the
 * audience, with storage_audience. */
enum az_error identity_token(struct identity *identity, const struct account *account,
                             struct span token, int64_t now_ns, struct arena *arena,
                             struct subject *ret, struct span *ret_detail) must_check;
/* What grants lines give it there. container empty: the account itself. */
uint32_t identity_rights(const struct identity *identity, uint32_t account, struct span container,
                         const struct subject *subject);
bool identity_knows_oid(const struct identity *identity, uint32_t account, struct span oid);
bool identity_is_tenant(const struct identity *identity, struct span tenant);

/* ---- delegation.c ---- */

#define DELEGATION_DAYS_MAX 7

struct delegation { /* what names a user delegation key */
    struct span oid, tenant;
    int64_t start_s, expiry_s; /* since 1970 */
    struct span service, version, delegated_tenant;
};
#define DELEGATION_KEY_BYTES_MAX 64
/* The key of that name: one from the file, else the one this box derives (ret_len 32). False: no
 * such key here. */
bool delegation_key(struct identity *identity, const struct account *account,
                    const struct delegation *name, unsigned char ret[DELEGATION_KEY_BYTES_MAX],
                    size_t *ret_len);
/* The box's own: the same each time, so nothing is stored. */
void delegation_derive(const struct identity *identity, const struct account *account,
                       const struct delegation *name, unsigned char ret[32]);

/* ---- revoked.c ---- */

/* signature: a SAS's sig, base64. */
bool revoked_signature(struct identity *identity, struct span signature);
bool revoked_subject(struct identity *identity, struct span oid);
bool revoked_delegation(struct identity *identity, const struct delegation *name);

#endif
