/* blobapi/auth.c - which scheme signed this request; what the schemes share. */
#include "blobapi/auth_internal.h"

#include "base/text.h"

void signed_add(struct signed_text *text, struct span piece)
{
    assert(text->room - text->len >= piece.len);
    if (piece.len)
        memcpy(text->at + text->len, piece.base, piece.len);
    text->len += piece.len;
}

bool signature_matches(const struct account *account, struct span text, struct span signature)
{
    unsigned char given[SHA256_BYTES + 1], mac[SHA256_BYTES];
    size_t len;

    if (signature.len != BASE64_BYTES(SHA256_BYTES) || base64_decode(signature, given, &len) < 0)
        return false;
    for (size_t i = 0; i < countof(account->key); i++) {
        if (!account->key[i].len)
            continue;
        hmac_sha256(account->key[i], text, mac);
        if (equal_constant_time(span_from(given, len), span_from(mac, sizeof(mac))))
            return true;
    }
    return false;
}

uint32_t auth_rights(struct span letters)
{
    static const char order[] = "racwdxyltfmeiup"; /* as enum auth_right */
    uint32_t rights = 0;

    for (size_t i = 0; i < letters.len; i++) {
        const char *hit = memchr(order, letters.base[i], sizeof(order) - 1);

        rights |= hit ? 1u << (hit - order) : 0;
    }
    return rights;
}

static struct span header_value(const struct auth_request *request, struct span name)
{
    for (unsigned i = 0; i < request->header_count; i++)
        if (span_eq(request->headers[i].name, name))
            return request->headers[i].value;
    return (struct span){NULL, 0};
}

enum az_error auth_check(const struct auth_request *request, struct granted *ret,
                         struct span *ret_detail)
{
    struct span authorization = header_value(request, SPAN("authorization")), credentials;
    struct span scheme = span_cut(authorization, ' ', &credentials);
    bool lite = span_eq(scheme, SPAN("SharedKeyLite"));
    enum az_error error;

    *ret_detail = (struct span){NULL, 0};
    if (!authorization.base && target_find(request->target, SPAN("sig")))
        return sas_check(request, ret, ret_detail);
    if (!authorization.base)
        return AZ_NO_AUTHENTICATION_INFORMATION;
    if (span_eq_nocase(scheme, SPAN("Bearer"))) {
        *ret_detail = SPAN("Bearer tokens are not accepted here.");
        return AZ_INVALID_BEARER_TOKEN;
    }
    if (!lite && !span_eq(scheme, SPAN("SharedKey")))
        return AZ_INVALID_AUTHENTICATION_INFO;
    error = shared_key_check(request, span_trim(credentials), lite, ret_detail);
    if (error == AZ_OK)
        *ret = (struct granted){.kind = AUTH_BY_KEY, .rights = AUTH_ALL};
    return error;
}
