/* blobapi/auth_bearer.c - what a token's subject may do here: by its own token, or by a SAS signed
 * with its user delegation key. */
#include "blobapi/auth_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/clock.h"
#include "base/date.h"

#define OLDEST_VERSION SPAN("2017-11-09") /* that knows bearer tokens */

static enum az_error refuse(struct span *ret_detail, struct span detail)
{
    *ret_detail = detail;
    return AZ_AUTHENTICATION_FAILED;
}

/* Its bytes cross no wire: a proxy that ends TLS on this machine, tests. */
static bool from_loopback(const struct sockaddr *peer)
{
    const struct in6_addr *six;

    if (peer && peer->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)peer)->sin_addr.s_addr) >> 24 ==
               IN_LOOPBACKNET;
    if (!peer || peer->sa_family != AF_INET6)
        return false;
    six = &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(six) || (IN6_IS_ADDR_V4MAPPED(six) && six->s6_addr[12] == 127);
}

static struct span version_of(const struct auth_request *request)
{
    struct span version = request->version;

    if (!version.len)
        version = auth_header(request, SPAN("x-ms-version"));
    return version.len ? version : target_param(request->target, SPAN("api-version"));
}

enum az_error bearer_subject(const struct auth_request *request, struct span credentials,
                             struct subject *ret, struct span *ret_detail)
{
    if (request->identity && !request->tls && !from_loopback(request->peer))
        return refuse(ret_detail, SPAN("Authentication scheme Bearer is not allowed with HTTP."));
    return identity_token(request->identity, request->target->account, credentials, request->now_ns,
                          request->arena, ret, ret_detail);
}

enum az_error bearer_check(const struct auth_request *request, struct span credentials,
                           struct granted *ret, struct span *ret_detail)
{
    struct subject subject;
    enum az_error error = bearer_subject(request, credentials, &subject, ret_detail);
    const struct target *target = request->target;
    uint32_t rights;

    if (error != AZ_OK)
        return error;
    if (span_cmp(version_of(request), OLDEST_VERSION) < 0)
        return refuse(ret_detail,
                      SPAN("Authentication scheme Bearer is not supported in this version."));
    rights = identity_rights(request->identity, target->account->id, target->container, &subject);
    if (!(rights & request->need.token))
        return AZ_AUTHORIZATION_PERMISSION_MISMATCH;
    *ret = (struct granted){.kind = AUTH_BY_TOKEN,
                            .rights = rights & AUTH_ALL,
                            .oid = subject.oid,
                            .tenant = subject.tenant};
    return AZ_OK;
}

/* ---- user delegation SAS ---- */

static bool delegation_name(const struct sas *sas, struct delegation *ret)
{
    int64_t start, expiry;

    if (iso8601_parse(sas->fields[SAS_SKT], &start) < 0 ||
        iso8601_parse(sas->fields[SAS_SKE], &expiry) < 0)
        return false;
    *ret = (struct delegation){.oid = sas->fields[SAS_SKOID],
                               .tenant = sas->fields[SAS_SKTID],
                               .start_s = start / (int64_t)NS_PER_SEC,
                               .expiry_s = expiry / (int64_t)NS_PER_SEC,
                               .service = sas->fields[SAS_SKS],
                               .version = sas->fields[SAS_SKV],
                               .delegated_tenant = sas->fields[SAS_SKDUTID]};
    return true;
}

static bool delegation_signed(const struct auth_request *request, const struct sas *sas,
                              const struct delegation *name)
{
    unsigned char key[DELEGATION_KEY_BYTES_MAX];
    size_t len;
    bool good = delegation_key(request->identity, request->target->account, name, key, &len) &&
                signature_matches_key(span_from(key, len), sas_string_to_sign(sas, request->arena),
                                      sas->fields[SAS_SIG]);

    explicit_bzero(key, sizeof(key));
    return good;
}

/* sduoid: only together with that user's token. */
static enum az_error delegated_check(const struct auth_request *request, const struct sas *sas,
                                     struct span *ret_detail)
{
    struct span token, scheme = span_cut(auth_header(request, SPAN("authorization")), ' ', &token);
    struct span tenant = sas->fields[sas->fields[SAS_SKDUTID].len ? SAS_SKDUTID : SAS_SKTID];
    struct subject subject;
    enum az_error error;

    if (!sas->fields[SAS_SDUOID].len)
        return AZ_OK;
    if (!span_eq_nocase(scheme, SPAN("Bearer")))
        return refuse(ret_detail, SPAN("This SAS needs the token of its delegated user."));
    error = bearer_subject(request, span_trim(token), &subject, ret_detail);
    if (error == AZ_OK && (!span_eq_nocase(subject.oid, sas->fields[SAS_SDUOID]) ||
                           !span_eq_nocase(subject.tenant, tenant)))
        return refuse(ret_detail, SPAN("The token is not of this SAS's delegated user."));
    return error;
}

enum az_error delegation_check(const struct auth_request *request, const struct sas *sas,
                               uint32_t *ret_rights, struct span *ret_detail)
{
    int64_t now_s = request->now_ns / (int64_t)NS_PER_SEC;
    struct subject subject = {.oid = sas->fields[SAS_SKOID], .tenant = sas->fields[SAS_SKTID]};
    struct identity *identity = request->identity;
    struct delegation name;

    if (!identity)
        return refuse(ret_detail, SPAN("User delegation SAS are not accepted here."));
    if (!delegation_name(sas, &name) || !delegation_signed(request, sas, &name))
        return refuse(ret_detail, SPAN("Signature did not match."));
    if (sas->fields[SAS_SI].len) /* it is not signed */
        return refuse(ret_detail, SPAN("A user delegation SAS has no stored access policy (si)."));
    if (!identity_is_tenant(identity, name.tenant))
        return refuse(ret_detail, SPAN("The user delegation key is of another tenant."));
    if (!span_eq(name.service, SPAN("b")) || now_s < name.start_s || now_s >= name.expiry_s)
        return refuse(ret_detail, SPAN("The user delegation key is not valid now, or not here."));
    if (revoked_subject(identity, name.oid) || revoked_delegation(identity, &name))
        return refuse(ret_detail, SPAN("The user delegation key has been revoked."));
    if (sas->fields[SAS_SUOID].len) /* asks for a POSIX ACL to be looked at, and there is none */
        return refuse(ret_detail, SPAN("suoid needs a hierarchical namespace."));
    *ret_rights = identity_rights(identity, request->target->account->id,
                                  request->target->container, &subject) &
                  AUTH_ALL;
    return delegated_check(request, sas, ret_detail);
}
