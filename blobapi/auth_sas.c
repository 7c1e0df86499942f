/* blobapi/auth_sas.c - shared access signatures: what was signed, and whether it covers this
 * request.
 *
 * The string to sign has grown with the service's versions; each generation is a row of `layouts`,
 * newest first within its kind. Fields are joined by newlines and absent ones are empty lines, so a
 * trailing newline is an empty field at the end. */
#include "blobapi/auth_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/date.h"

#define OLDEST_VERSION            SPAN("2015-04-05")
#define OLDEST_DELEGATION_VERSION SPAN("2018-11-09")

static const struct span param_names[SAS_PARAMS] = {
    [SAS_SV] = SPAN("sv"),         [SAS_SS] = SPAN("ss"),       [SAS_SRT] = SPAN("srt"),
    [SAS_SPR] = SPAN("spr"),       [SAS_ST] = SPAN("st"),       [SAS_SE] = SPAN("se"),
    [SAS_SIP] = SPAN("sip"),       [SAS_SI] = SPAN("si"),       [SAS_SP] = SPAN("sp"),
    [SAS_SR] = SPAN("sr"),         [SAS_SIG] = SPAN("sig"),     [SAS_SES] = SPAN("ses"),
    [SAS_RSCC] = SPAN("rscc"),     [SAS_RSCD] = SPAN("rscd"),   [SAS_RSCE] = SPAN("rsce"),
    [SAS_RSCL] = SPAN("rscl"),     [SAS_RSCT] = SPAN("rsct"),   [SAS_SKOID] = SPAN("skoid"),
    [SAS_SKTID] = SPAN("sktid"),   [SAS_SKT] = SPAN("skt"),     [SAS_SKE] = SPAN("ske"),
    [SAS_SKS] = SPAN("sks"),       [SAS_SKV] = SPAN("skv"),     [SAS_SKDUTID] = SPAN("skdutid"),
    [SAS_SAOID] = SPAN("saoid"),   [SAS_SUOID] = SPAN("suoid"), [SAS_SCID] = SPAN("scid"),
    [SAS_SDUOID] = SPAN("sduoid"), [SAS_SDD] = SPAN("sdd"),
};

#define RESPONSE_FIELDS SAS_RSCC, SAS_RSCD, SAS_RSCE, SAS_RSCL, SAS_RSCT
#define KEY_FIELDS      SAS_SKOID, SAS_SKTID, SAS_SKT, SAS_SKE, SAS_SKS, SAS_SKV
#define AGENT_FIELDS    SAS_SAOID, SAS_SUOID, SAS_SCID

static const struct layout {
    enum sas_kind kind;
    struct span since; /* smallest sv */
    enum sas_field fields[32];
    unsigned count;
} layouts[] = {
#define LAYOUT(kind, since, ...)                                                                   \
    {                                                                                              \
        kind, SPAN(since), {__VA_ARGS__},                                                          \
            sizeof((enum sas_field[]){__VA_ARGS__}) / sizeof(enum sas_field)                       \
    }
    LAYOUT(SAS_KIND_ACCOUNT, "2020-12-06", SAS_ACCOUNT, SAS_SP, SAS_SS, SAS_SRT, SAS_ST, SAS_SE,
           SAS_SIP, SAS_SPR, SAS_SV, SAS_SES, SAS_EMPTY),
    LAYOUT(SAS_KIND_ACCOUNT, "2015-04-05", SAS_ACCOUNT, SAS_SP, SAS_SS, SAS_SRT, SAS_ST, SAS_SE,
           SAS_SIP, SAS_SPR, SAS_SV, SAS_EMPTY),
    LAYOUT(SAS_KIND_SERVICE, "2020-12-06", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, SAS_SI, SAS_SIP,
           SAS_SPR, SAS_SV, SAS_SR, SAS_TIME, SAS_SES, RESPONSE_FIELDS),
    LAYOUT(SAS_KIND_SERVICE, "2018-11-09", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, SAS_SI, SAS_SIP,
           SAS_SPR, SAS_SV, SAS_SR, SAS_TIME, RESPONSE_FIELDS),
    LAYOUT(SAS_KIND_SERVICE, "2015-04-05", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, SAS_SI, SAS_SIP,
           SAS_SPR, SAS_SV, RESPONSE_FIELDS),
    /* signed headers and signed query: two empty lines as long as there are none */
    LAYOUT(SAS_KIND_DELEGATION, "2026-04-06", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, KEY_FIELDS,
           AGENT_FIELDS, SAS_SKDUTID, SAS_SDUOID, SAS_SIP, SAS_SPR, SAS_SV, SAS_SR, SAS_TIME,
           SAS_SES, SAS_EMPTY, SAS_EMPTY, RESPONSE_FIELDS),
    LAYOUT(SAS_KIND_DELEGATION, "2025-07-05", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, KEY_FIELDS,
           AGENT_FIELDS, SAS_SKDUTID, SAS_SDUOID, SAS_SIP, SAS_SPR, SAS_SV, SAS_SR, SAS_TIME,
           SAS_SES, RESPONSE_FIELDS),
    LAYOUT(SAS_KIND_DELEGATION, "2020-12-06", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, KEY_FIELDS,
           AGENT_FIELDS, SAS_SIP, SAS_SPR, SAS_SV, SAS_SR, SAS_TIME, SAS_SES, RESPONSE_FIELDS),
    LAYOUT(SAS_KIND_DELEGATION, "2020-02-10", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, KEY_FIELDS,
           AGENT_FIELDS, SAS_SIP, SAS_SPR, SAS_SV, SAS_SR, SAS_TIME, RESPONSE_FIELDS),
    LAYOUT(SAS_KIND_DELEGATION, "2015-04-05", SAS_SP, SAS_ST, SAS_SE, SAS_RESOURCE, KEY_FIELDS,
           SAS_SIP, SAS_SPR, SAS_SV, SAS_SR, SAS_TIME, RESPONSE_FIELDS),
#undef LAYOUT
};

/* ---- reading ---- */

static enum az_error refuse(struct span *ret_detail, struct span detail)
{
    *ret_detail = detail;
    return AZ_AUTHENTICATION_FAILED;
}

static void params_collect(const struct target *target, struct span fields[SAS_FIELDS])
{
    for (unsigned i = 0; i < target->param_count; i++) {
        const struct query_param *p = &target->params[i];

        if (p->name.len < 2 || (p->name.base[0] != 's' && p->name.base[0] != 'r'))
            continue;
        for (unsigned f = 0; f < SAS_PARAMS; f++)
            if (p->name.base[1] == param_names[f].base[1] && !fields[f].base &&
                span_eq(p->name, param_names[f]))
                fields[f] = p->value;
    }
}

/* "2020-12-06": as many digits, so that versions order as text. */
static bool version_valid(struct span sv)
{
    int64_t day;

    return sv.len == 10 && iso8601_parse(sv, &day) == 0 && span_cmp(sv, OLDEST_VERSION) >= 0;
}

/* The first `depth` segments of the blob's name; base NULL if it has fewer. */
static struct span directory_of(struct span blob, struct span depth)
{
    uint64_t want, have = 0;

    if (span_to_u64(depth, &want) < 0 || want == 0)
        return (struct span){NULL, 0};
    for (size_t i = 0; i <= blob.len; i++)
        if ((i == blob.len || blob.base[i] == '/') && ++have == want)
            return span_from(blob.base, i);
    return (struct span){NULL, 0};
}

/* /blob/account/container[/below] */
static struct span resource_text(const struct target *target, struct span below,
                                 struct arena *arena)
{
    struct signed_text text = {.room = target->account->name.len + target->container.len +
                                       below.len + sizeof("/blob///")};

    text.at = arena_alloc(arena, text.room);
    signed_add(&text, SPAN("/blob/"));
    signed_add(&text, target->account->name);
    signed_add(&text, SPAN("/"));
    signed_add(&text, target->container);
    signed_add(&text, below.len ? SPAN("/") : SPAN(""));
    signed_add(&text, below);
    return signed_span(&text);
}

/* What sr says the SAS is for, in terms of this request; false if the request is about nothing of
 * that kind. */
static bool resource_set(const struct target *target, struct arena *arena, struct sas *sas)
{
    struct span sr = sas->fields[SAS_SR], below = target->blob;

    if (!target->container.len)
        return false;
    if (span_eq(sr, SPAN("bs")))
        sas->fields[SAS_TIME] = target_param(target, SPAN("snapshot"));
    else if (span_eq(sr, SPAN("bv")))
        sas->fields[SAS_TIME] = target_param(target, SPAN("versionid"));
    else if (span_eq(sr, SPAN("d")))
        below = directory_of(target->blob, sas->fields[SAS_SDD]);
    else if (!span_eq(sr, SPAN("b")) && !span_eq(sr, SPAN("c")))
        return false;
    if ((sr.len == 2 && !sas->fields[SAS_TIME].len) || (!span_eq(sr, SPAN("c")) && !below.len))
        return false;
    sas->fields[SAS_RESOURCE] =
        resource_text(target, span_eq(sr, SPAN("c")) ? (struct span){NULL, 0} : below, arena);
    return true;
}

/* Clients that read '+' as a space have sent one. */
static struct span plus_restored(struct span sig, struct arena *arena)
{
    char *copy;

    if (!sig.len || !memchr(sig.base, ' ', sig.len))
        return sig;
    copy = arena_alloc(arena, sig.len);
    for (size_t i = 0; i < sig.len; i++)
        copy[i] = sig.base[i] == ' ' ? '+' : sig.base[i];
    return span_from(copy, sig.len);
}

enum az_error sas_parse(const struct target *target, struct arena *arena, struct sas *ret,
                        struct span *ret_detail)
{
    struct sas sas = {.kind = SAS_KIND_SERVICE};

    params_collect(target, sas.fields);
    if (!version_valid(sas.fields[SAS_SV]))
        return refuse(ret_detail, SPAN("sv is missing or not a supported version."));
    sas.fields[SAS_SIG] = plus_restored(sas.fields[SAS_SIG], arena);
    sas.fields[SAS_ACCOUNT] = target->account->name;
    if (sas.fields[SAS_SS].base || sas.fields[SAS_SRT].base)
        sas.kind = SAS_KIND_ACCOUNT;
    else if (sas.fields[SAS_SKOID].base)
        sas.kind = SAS_KIND_DELEGATION;
    if (sas.kind == SAS_KIND_DELEGATION &&
        span_cmp(sas.fields[SAS_SV], OLDEST_DELEGATION_VERSION) < 0)
        return refuse(ret_detail, SPAN("User delegation SAS are not supported in this version."));
    if (sas.kind != SAS_KIND_ACCOUNT && !resource_set(target, arena, &sas))
        return refuse(ret_detail, SPAN("The signed resource (sr) does not cover this request."));
    *ret = sas;
    return AZ_OK;
}

static const struct layout *layout_of(const struct sas *sas)
{
    const struct layout *layout = layouts;

    while (layout->kind != sas->kind || span_cmp(sas->fields[SAS_SV], layout->since) < 0)
        layout++; /* ends: the last row of each kind takes every version that version_valid lets
                     through */
    return layout;
}

struct span sas_string_to_sign(const struct sas *sas, struct arena *arena)
{
    const struct layout *layout = layout_of(sas);
    struct signed_text text = {0};

    for (unsigned i = 0; i < layout->count; i++)
        text.room += sas->fields[layout->fields[i]].len + 1;
    text.at = arena_alloc(arena, text.room);
    for (unsigned i = 0; i < layout->count; i++) {
        signed_add(&text, sas->fields[layout->fields[i]]);
        if (i + 1 < layout->count)
            signed_add(&text, SPAN("\n"));
    }
    return signed_span(&text);
}

/* ---- judging ---- */

static enum az_error time_check(const struct sas *sas, int64_t now_ns, struct span *ret_detail)
{
    int64_t start = INT64_MIN, end;

    if (sas->fields[SAS_ST].len && iso8601_parse(sas->fields[SAS_ST], &start) < 0)
        return refuse(ret_detail, SPAN("st is not a valid date."));
    if (iso8601_parse(sas->fields[SAS_SE], &end) < 0)
        return refuse(ret_detail, SPAN("se is missing or not a valid date."));
    if (now_ns < start || now_ns >= end)
        return refuse(ret_detail, SPAN("Signature not valid in the specified time frame."));
    return AZ_OK;
}

/* Both families as IPv6, so that an IPv4 client on an IPv6 socket is found in an IPv4 range. */
static bool address_parse(struct span text, unsigned char ret[16])
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    char copy[INET6_ADDRSTRLEN] = "";

    if (text.len == 0 || text.len >= sizeof(copy))
        return false;
    memcpy(copy, text.base, text.len);
    memcpy(ret, mapped, sizeof(mapped));
    return inet_pton(AF_INET, copy, ret + sizeof(mapped)) == 1 ||
           inet_pton(AF_INET6, copy, ret) == 1;
}

static bool address_of_peer(const struct sockaddr *peer, unsigned char ret[16])
{
    char text[INET6_ADDRSTRLEN];
    const void *address;

    if (!peer || (peer->sa_family != AF_INET && peer->sa_family != AF_INET6))
        return false;
    address = peer->sa_family == AF_INET
                  ? (const void *)&((const struct sockaddr_in *)(const void *)peer)->sin_addr
                  : (const void *)&((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr;
    return inet_ntop(peer->sa_family, address, text, sizeof(text)) &&
           address_parse(span_of(text), ret);
}

static enum az_error source_check(const struct sas *sas, const struct sockaddr *peer,
                                  struct span *ret_detail)
{
    unsigned char low[16], high[16], address[16];
    struct span last, first = span_cut(sas->fields[SAS_SIP], '-', &last);

    if (!sas->fields[SAS_SIP].len)
        return AZ_OK;
    if (!address_parse(first, low) || !address_parse(last.base ? last : first, high))
        return refuse(ret_detail, SPAN("sip is not an IP address or range."));
    if (!address_of_peer(peer, address) || memcmp(address, low, 16) < 0 ||
        memcmp(address, high, 16) > 0)
        return AZ_AUTHORIZATION_SOURCE_IP_MISMATCH;
    return AZ_OK;
}

static enum az_error protocol_check(const struct sas *sas, bool tls, struct span *ret_detail)
{
    struct span spr = sas->fields[SAS_SPR];

    if (!spr.len || span_eq(spr, SPAN("https,http")) || span_eq(spr, SPAN("http,https")))
        return AZ_OK;
    if (!span_eq(spr, SPAN("https")))
        return refuse(ret_detail, SPAN("spr is neither https nor https,http."));
    return tls ? AZ_OK : AZ_AUTHORIZATION_PROTOCOL_MISMATCH;
}

static bool has_letter(struct span letters, char letter)
{
    return letters.len && memchr(letters.base, letter, letters.len);
}

static enum az_error rights_check(const struct sas *sas, const struct auth_need *need,
                                  uint32_t rights)
{
    bool account = sas->kind == SAS_KIND_ACCOUNT;
    uint32_t enough = account ? need->account_sas : need->service_sas;

    if (account && !has_letter(sas->fields[SAS_SS], 'b'))
        return AZ_AUTHORIZATION_SERVICE_MISMATCH;
    if (account && !has_letter(sas->fields[SAS_SRT], "sco"[need->resource]))
        return AZ_AUTHORIZATION_RESOURCE_TYPE_MISMATCH;
    if (!enough)
        return AZ_AUTHORIZATION_FAILURE;
    return rights & enough ? AZ_OK : AZ_AUTHORIZATION_PERMISSION_MISMATCH;
}

static struct granted grant(const struct sas *sas, uint32_t rights)
{
    struct granted granted = {
        .kind = AUTH_BY_ACCOUNT_SAS, .rights = rights, .version = sas->fields[SAS_SV]};

    if (sas->kind == SAS_KIND_ACCOUNT) /* it does not sign the overrides */
        return granted;
    granted.kind = sas->kind == SAS_KIND_DELEGATION ? AUTH_BY_DELEGATION_SAS : AUTH_BY_SERVICE_SAS;
    granted.overrides = (struct auth_overrides){
        .cache_control = sas->fields[SAS_RSCC],
        .content_disposition = sas->fields[SAS_RSCD],
        .content_encoding = sas->fields[SAS_RSCE],
        .content_language = sas->fields[SAS_RSCL],
        .content_type = sas->fields[SAS_RSCT],
    };
    return granted;
}

/* URL builders of Go and .NET write a space as '+'. Only the signature can tell it from a '+' that
 * was meant; the fields are then what it was made of. */
static bool fields_spaced(const struct auth_request *request, struct sas *sas)
{
    bool any = false;

    for (unsigned i = 0; i < request->target->param_count; i++) {
        const struct query_param *p = &request->target->params[i];

        for (unsigned f = 0; f < SAS_PARAMS; f++)
            if (p->value.base && sas->fields[f].base == p->value.base &&
                memchr(p->value.base, '+', p->value.len)) {
                sas->fields[f] = query_param_spaced(p, request->arena);
                any = true;
            }
    }
    return any;
}

/* By the account's key; the rights left are all. By a user's, whose own rights bound it. */
static enum az_error signature_check(const struct auth_request *request, const struct sas *sas,
                                     uint32_t *ret_rights, struct span *ret_detail)
{
    *ret_rights = AUTH_ALL;
    if (sas->kind == SAS_KIND_DELEGATION)
        return delegation_check(request, sas, ret_rights, ret_detail);
    return signature_matches(request->target->account, sas_string_to_sign(sas, request->arena),
                             sas->fields[SAS_SIG])
               ? AZ_OK
               : refuse(ret_detail, SPAN("Signature did not match."));
}

static enum az_error sas_signed(const struct auth_request *request, struct sas *sas,
                                uint32_t *ret_rights, struct span *ret_detail)
{
    struct span signature = sas->fields[SAS_SIG]; /* its '+' were restored already */
    enum az_error error = signature_check(request, sas, ret_rights, ret_detail);

    if (error == AZ_OK || !fields_spaced(request, sas))
        return error;
    sas->fields[SAS_SIG] = signature;
    return signature_check(request, sas, ret_rights, ret_detail);
}

static const struct access_policy *policy_find(const struct auth_request *request, struct span id)
{
    for (unsigned i = 0; i < request->policy_count; i++)
        if (span_eq(request->policies[i].id, id))
            return &request->policies[i];
    return NULL;
}

/* A stored access policy says what the token leaves out; what both say, nobody means. Only after
 * the signature, which is over the token as it is. */
static enum az_error policy_apply(const struct auth_request *request, struct sas *sas,
                                  struct span *ret_detail)
{
    const struct access_policy *policy;

    if (!sas->fields[SAS_SI].len)
        return AZ_OK;
    if (sas->kind != SAS_KIND_SERVICE)
        return refuse(ret_detail, SPAN("si is valid with a service SAS only."));
    policy = policy_find(request, sas->fields[SAS_SI]);
    if (!policy)
        return refuse(ret_detail, SPAN("There is no stored access policy of that name."));
    if ((policy->start.len && sas->fields[SAS_ST].len) ||
        (policy->expiry.len && sas->fields[SAS_SE].len) ||
        (policy->permission.len && sas->fields[SAS_SP].len))
        return refuse(ret_detail, SPAN("st, se and sp must not be given where the stored access "
                                       "policy gives them."));
    if (policy->start.len)
        sas->fields[SAS_ST] = policy->start;
    if (policy->expiry.len)
        sas->fields[SAS_SE] = policy->expiry;
    if (policy->permission.len)
        sas->fields[SAS_SP] = policy->permission;
    if (!sas->fields[SAS_SP].len)
        return refuse(ret_detail,
                      SPAN("sp is missing, and the stored access policy gives no permission."));
    return AZ_OK;
}

enum az_error sas_check(const struct auth_request *request, struct granted *ret,
                        struct span *ret_detail)
{
    struct sas sas;
    enum az_error error = sas_parse(request->target, request->arena, &sas, ret_detail);
    uint32_t rights, bound;

    if (error != AZ_OK)
        return error;
    if ((error = sas_signed(request, &sas, &bound, ret_detail)) != AZ_OK)
        return error;
    if (revoked_signature(request->identity, sas.fields[SAS_SIG]))
        return refuse(ret_detail, SPAN("The signature has been revoked."));
    if ((error = policy_apply(request, &sas, ret_detail)) != AZ_OK)
        return error;
    rights = auth_rights(sas.fields[SAS_SP]) & bound;
    if ((error = time_check(&sas, request->now_ns, ret_detail)) != AZ_OK ||
        (error = source_check(&sas, request->peer, ret_detail)) != AZ_OK ||
        (error = protocol_check(&sas, request->tls, ret_detail)) != AZ_OK ||
        (error = rights_check(&sas, &request->need, rights)) != AZ_OK)
        return error;
    *ret = grant(&sas, rights);
    return AZ_OK;
}
