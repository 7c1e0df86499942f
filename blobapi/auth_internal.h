/* blobapi/auth_internal.h - between auth.c and its schemes; tests reach the parts. Pure; any
 * thread. */
#ifndef BLOBAPI_AUTH_INTERNAL_H
#define BLOBAPI_AUTH_INTERNAL_H

#include "base/digest.h"
#include "blobapi/auth.h"

/* A string to sign under construction: room is counted before, so nothing can be cut. */
struct signed_text {
    char *at;
    size_t len, room;
};

void signed_add(struct signed_text *text, struct span piece);
static inline struct span signed_span(const struct signed_text *text)
{
    return span_from(text->at, text->len);
}

/* True if signature is base64 of the text's HMAC under key1 or key2 of the account. */
bool signature_matches_key(struct span key, struct span text, struct span signature);
bool signature_matches(const struct account *account, struct span text, struct span signature);

struct sas;
/* auth.c: the value of a (lower-case) header, base NULL when absent. */
struct span auth_header(const struct auth_request *request, struct span name);
/* auth_bearer.c: credentials is what follows "Bearer ". */
enum az_error bearer_check(const struct auth_request *request, struct span credentials,
                           struct granted *ret, struct span *ret_detail) must_check;
/* Whose token it is, rights left aside. */
enum az_error bearer_subject(const struct auth_request *request, struct span credentials,
                             struct subject *ret, struct span *ret_detail) must_check;
/* The key of a user delegation SAS matches its signature, it is in its time, and nobody concerned
 * is revoked; *ret_rights: what the grants give the one who delegated. */
enum az_error delegation_check(const struct auth_request *request, const struct sas *sas,
                               uint32_t *ret_rights, struct span *ret_detail) must_check;

/* auth_shared_key.c: credentials are what follows the scheme's name, "account:signature". */
enum az_error shared_key_check(const struct auth_request *request, struct span credentials,
                               bool lite, struct span *ret_detail) must_check;

/* ---- auth_sas.c ---- */

/* Query parameters of a SAS, then what its string to sign holds besides. */
enum sas_field {
    SAS_SV,
    SAS_SS,
    SAS_SRT,
    SAS_SPR,
    SAS_ST,
    SAS_SE,
    SAS_SIP,
    SAS_SI,
    SAS_SP,
    SAS_SR,
    SAS_SIG,
    SAS_SES,
    SAS_RSCC,
    SAS_RSCD,
    SAS_RSCE,
    SAS_RSCL,
    SAS_RSCT,
    SAS_SKOID,
    SAS_SKTID,
    SAS_SKT,
    SAS_SKE,
    SAS_SKS,
    SAS_SKV,
    SAS_SKDUTID,
    SAS_SAOID,
    SAS_SUOID,
    SAS_SCID,
    SAS_SDUOID,
    SAS_SDD,
    SAS_PARAMS,
    SAS_ACCOUNT = SAS_PARAMS, /* the account's name */
    SAS_RESOURCE,             /* /blob/account/container[/blob] */
    SAS_TIME,                 /* snapshot or version id, where sr speaks of one */
    SAS_EMPTY,                /* an empty line */
    SAS_FIELDS
};
enum sas_kind { SAS_KIND_ACCOUNT, SAS_KIND_SERVICE, SAS_KIND_DELEGATION };
struct sas {
    enum sas_kind kind;
    struct span fields[SAS_FIELDS]; /* decoded; base NULL: absent */
};

/* Fields out of a target that has a sig; AZ_AUTHENTICATION_FAILED when they make no SAS of a known
 * kind. */
enum az_error sas_parse(const struct target *target, struct arena *arena, struct sas *ret,
                        struct span *ret_detail) must_check;
/* What was signed, for its kind and sv (which sas_parse has checked). */
struct span sas_string_to_sign(const struct sas *sas, struct arena *arena);
enum az_error sas_check(const struct auth_request *request, struct granted *ret,
                        struct span *ret_detail) must_check;

#endif
