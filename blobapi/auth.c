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

bool signature_matches_key(struct span key, struct span text, struct span signature)
{
    unsigned char given[SHA256_BYTES + 1], mac[SHA256_BYTES];
    size_t len;

    if (!key.len || signature.len != BASE64_BYTES(SHA256_BYTES) ||
        base64_decode(signature, given, &len) < 0)
        return false;
    hmac_sha256(key, text, mac);
    return equal_constant_time(span_from(given, len), span_from(mac, sizeof(mac)));
}

bool signature_matches(const struct account *account, struct span text, struct span signature)
{
    for (size_t i = 0; i < countof(account->key); i++)
        if (signature_matches_key(account->key[i], text, signature))
            return true;
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

struct span auth_header(const struct auth_request *request, struct span name)
{
    for (unsigned i = 0; i < request->header_count; i++)
        if (span_eq(request->headers[i].name, name))
            return request->headers[i].value;
    return (struct span){NULL, 0};
}

enum az_error auth_check(const struct auth_request *request, struct granted *ret,
                         struct span *ret_detail)
{
    struct span authorization = auth_header(request, SPAN("authorization")), credentials;
    struct span scheme = span_cut(authorization, ' ', &credentials);
    bool lite = span_eq(scheme, SPAN("SharedKeyLite"));
    enum az_error error;

    *ret_detail = (struct span){NULL, 0};
    /* a SAS for one user (sduoid) comes with that user's token beside it */
    if (target_find(request->target, SPAN("sig")) &&
        (!authorization.base || target_find(request->target, SPAN("sduoid"))))
        return sas_check(request, ret, ret_detail);
    if (!authorization.base)
        return AZ_NO_AUTHENTICATION_INFORMATION;
    if (span_eq_nocase(scheme, SPAN("Bearer")))
        return bearer_check(request, span_trim(credentials), ret, ret_detail);
    if (!lite && !span_eq(scheme, SPAN("SharedKey")))
        return AZ_INVALID_AUTHENTICATION_INFO;
    error = shared_key_check(request, span_trim(credentials), lite, ret_detail);
    if (error == AZ_OK && request->need.token == AUTH_DELEGATE) {
        *ret_detail = SPAN("Only authentication scheme Bearer is supported.");
        return AZ_AUTHENTICATION_FAILED;
    }
    if (error == AZ_OK)
        *ret = (struct granted){.kind = AUTH_BY_KEY, .rights = AUTH_ALL};
    return error;
}
