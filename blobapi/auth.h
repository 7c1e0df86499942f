/* blobapi/auth.h - who sent this request, and what does that allow: SharedKey, SharedKeyLite,
 * account, service and user delegation SAS, bearer tokens, verified here without asking anyone.
 *
 * auth_check is one call between dispatch and everything else, on the loop: one HMAC in the common
 * case, no allocation beyond the request's arena but for tokens (JSON). Compares are constant-time.
 * Secrets are never logged; what failed is told in *ret_detail, as the service tells it in
 * AuthenticationErrorDetail. Files: auth.c (which scheme, what it grants), auth_shared_key.c,
 * auth_sas.c, auth_bearer.c. */
#ifndef BLOBAPI_AUTH_H
#define BLOBAPI_AUTH_H

#include <sys/socket.h>

#include "blobapi/errors.h"
#include "blobapi/exchange.h"
#include "blobapi/identity.h"
#include "blobapi/target.h"
#include "cache/cache.h"

/* The letters of a SAS's sp. */
enum auth_right {
    AUTH_READ = 1 << 0,             /* r */
    AUTH_ADD = 1 << 1,              /* a: append */
    AUTH_CREATE = 1 << 2,           /* c: write a new blob, not overwrite one */
    AUTH_WRITE = 1 << 3,            /* w */
    AUTH_DELETE = 1 << 4,           /* d */
    AUTH_DELETE_VERSION = 1 << 5,   /* x */
    AUTH_DELETE_PERMANENT = 1 << 6, /* y */
    AUTH_LIST = 1 << 7,             /* l */
    AUTH_TAGS = 1 << 8,             /* t */
    AUTH_FILTER = 1 << 9,           /* f: find blobs by tags */
    AUTH_MOVE = 1 << 10,            /* m */
    AUTH_EXECUTE = 1 << 11,         /* e */
    AUTH_IMMUTABILITY = 1 << 12,    /* i */
    AUTH_UPDATE = 1 << 13,          /* u: queues and tables; account SAS carry it */
    AUTH_PROCESS = 1 << 14,         /* p: likewise */
    AUTH_ALL = (1 << 15) - 1,       /* what an account key has */
    AUTH_DELEGATE = 1 << 15,        /* get a user delegation key; tokens only */
};
/* Any of the letters, e.g. "cw"; unknown ones are ignored. */
uint32_t auth_rights(struct span letters);

enum auth_resource { AUTH_SERVICE, AUTH_CONTAINER, AUTH_OBJECT }; /* srt: s, c, o */

/* What an operation needs: any one of the rights. 0: not with that kind of SAS at all. */
struct auth_need {
    enum auth_resource resource;
    uint32_t account_sas, service_sas;
    uint32_t token; /* the same for bearer tokens */
};

enum auth_kind {
    AUTH_BY_KEY,
    AUTH_BY_ACCOUNT_SAS,
    AUTH_BY_SERVICE_SAS,
    AUTH_BY_DELEGATION_SAS,
    AUTH_BY_TOKEN,
    AUTH_ANONYMOUS
};

/* rscc, rscd, rsce, rscl, rsct: what GET and HEAD answer instead of the stored header. base NULL:
 * absent. */
struct auth_overrides {
    struct span cache_control, content_disposition, content_encoding, content_language,
        content_type;
};

/* The result. */
struct granted {
    enum auth_kind kind;
    uint32_t
        rights; /* all that the credentials allow. AUTH_CREATE without AUTH_WRITE must not
                 * overwrite: AZ_UNAUTHORIZED_BLOB_OVERWRITE, judged by the handler when it knows */
    struct span
        version; /* sv of a SAS, the version to run under when x-ms-version is absent; else empty */
    struct auth_overrides overrides;
    struct span oid, tenant; /* of a token's subject */
};

struct auth_request {
    struct span method;
    const struct target *target; /* account set */
    const struct header *headers;
    unsigned header_count;
    const struct sockaddr *peer; /* for sip; NULL: unknown, then sip refuses */
    bool tls;
    struct span
        version;    /* what it runs under if its headers do not say: a batch's part; else empty */
    int64_t now_ns; /* wall clock */
    struct arena *arena;
    struct identity *identity; /* NULL: no tokens, no user delegation, nothing revoked */
    struct auth_need need;
    const struct access_policy *policies; /* of the target's container: what si may name */
    unsigned policy_count;
};

/* AZ_OK: *ret is filled. Else one of
 * AZ_NO_AUTHENTICATION_INFORMATION (401, no credentials), AZ_INVALID_BEARER_TOKEN (401): answer
 * with WWW-Authenticate: AUTH_CHALLENGE; AZ_INVALID_AUTHENTICATION_INFO (400, the Authorization
 * header is not of the form "scheme account:signature"); AZ_AUTHENTICATION_FAILED (signature, time,
 * malformed SAS) and the AZ_AUTHORIZATION_* mismatches (403). *ret_detail: a sentence for
 * AuthenticationErrorDetail, empty when there is none. */
enum az_error auth_check(const struct auth_request *request, struct granted *ret,
                         struct span *ret_detail) must_check;

#define AUTH_CHALLENGE                                                                             \
    SPAN("Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize "     \
         "resource_id=https://storage.azure.com")

#endif
