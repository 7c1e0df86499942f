/* blobapi/jwt.c - reads a token: three base64url parts, two of them JSON. Pure. */
#include "blobapi/jwt.h"

#include <jansson.h>

#include "base/text.h"

#define JSON_FLAGS JSON_REJECT_DUPLICATES

int base64url_decode(struct span text, struct arena *arena, void *ret, size_t *ret_len)
{
    size_t padded = (text.len + 3) / 4 * 4;
    char *copy = arena_alloc(arena, padded + 1);

    if (text.len % 4 == 1 || !text.len)
        return -EINVAL;
    for (size_t i = 0; i < padded; i++) {
        char c = i < text.len ? text.base[i] : '=';

        if (i < text.len && (c == '+' || c == '/' || c == '='))
            return -EINVAL;
        copy[i] = c;
        if (c == '-')
            copy[i] = '+';
        else if (c == '_')
            copy[i] = '/';
    }
    return base64_decode(span_from(copy, padded), ret, ret_len);
}

static struct span part_decode(struct span part, struct arena *arena)
{
    char *bytes = arena_alloc(arena, part.len + 4);
    size_t len;

    if (base64url_decode(part, arena, bytes, &len) < 0)
        return (struct span){NULL, 0};
    return span_from(bytes, len);
}

static json_t *part_json(struct span part, struct arena *arena)
{
    struct span text = part_decode(part, arena);
    json_t *json = text.base ? json_loadb(text.base, text.len, JSON_FLAGS, NULL) : NULL;

    if (json && !json_is_object(json)) {
        json_decref(json);
        json = NULL;
    }
    return json;
}

static struct span text_copy(const json_t *json, struct arena *arena)
{
    return json_is_string(json)
               ? arena_copy(arena, span_from(json_string_value(json), json_string_length(json)))
               : (struct span){NULL, 0};
}

static struct span member(const json_t *object, const char *name, struct arena *arena)
{
    return text_copy(json_object_get(object, name), arena);
}

/* One text or an array of them. -EBADMSG: anything else, or too many. */
static int list_read(const json_t *json, struct arena *arena, struct jwt_list *ret)
{
    size_t n = json_is_array(json) ? json_array_size(json) : 1;
    struct span *list;

    if (!json)
        return 0;
    if (n > JWT_LIST_MAX)
        return -EBADMSG;
    list = arena_alloc(arena, n * sizeof(*list));
    for (size_t i = 0; i < n; i++) {
        list[i] = text_copy(json_is_array(json) ? json_array_get(json, i) : json, arena);
        if (!list[i].base)
            return -EBADMSG;
    }
    *ret = (struct jwt_list){list, (unsigned)n};
    return 0;
}

/* scp: names with spaces between them. */
static int scopes_read(struct span text, struct arena *arena, struct jwt_list *ret)
{
    struct span *list = arena_alloc(arena, JWT_LIST_MAX * sizeof(*list));
    unsigned n = 0;

    while (text.len) {
        struct span word = span_cut(text, ' ', &text);

        if (n == JWT_LIST_MAX)
            return -EBADMSG;
        if (word.len)
            list[n++] = word;
    }
    *ret = (struct jwt_list){list, n};
    return 0;
}

static int time_read(const json_t *json, int64_t *ret)
{
    if (!json)
        return 0;
    if (!json_is_integer(json))
        return -EBADMSG;
    *ret = json_integer_value(json);
    return 0;
}

static int header_read(const json_t *header, struct arena *arena, struct jwt *jwt)
{
    struct span alg = member(header, "alg", arena);

    if (span_eq(alg, SPAN("RS256")))
        jwt->alg = JWT_RS256;
    else if (span_eq(alg, SPAN("ES256")))
        jwt->alg = JWT_ES256;
    else
        return -EBADMSG;
    jwt->kid = member(header, "kid", arena);
    /* crit names extensions that must be understood; none is */
    return jwt->kid.len && !json_object_get(header, "crit") ? 0 : -EBADMSG;
}

static int claims_read(const json_t *claims, struct arena *arena, struct jwt *jwt)
{
    jwt->issuer = member(claims, "iss", arena);
    jwt->tenant = member(claims, "tid", arena);
    jwt->oid = member(claims, "oid", arena);
    jwt->app = member(claims, "appid", arena);
    if (!jwt->app.base)
        jwt->app = member(claims, "azp", arena);
    jwt->not_before_s = INT64_MIN;
    jwt->expires_s = INT64_MIN;
    if (list_read(json_object_get(claims, "aud"), arena, &jwt->audiences) < 0 ||
        list_read(json_object_get(claims, "roles"), arena, &jwt->roles) < 0 ||
        list_read(json_object_get(claims, "groups"), arena, &jwt->groups) < 0 ||
        scopes_read(member(claims, "scp", arena), arena, &jwt->scopes) < 0 ||
        time_read(json_object_get(claims, "exp"), &jwt->expires_s) < 0 ||
        time_read(json_object_get(claims, "nbf"), &jwt->not_before_s) < 0)
        return -EBADMSG;
    return json_is_integer(json_object_get(claims, "exp")) ? 0 : -EBADMSG;
}

int jwt_parse(struct span token, struct arena *arena, struct jwt *ret)
{
    struct span rest, header, claims;
    struct jwt jwt = {0};
    json_t *header_json, *claims_json;
    int err = -EBADMSG;

    if (token.len > JWT_BYTES_MAX)
        return -EBADMSG;
    header = span_cut(token, '.', &rest);
    claims = span_cut(rest, '.', &rest);
    if (!rest.len || memchr(rest.base, '.', rest.len))
        return -EBADMSG;
    jwt.signed_text = span_from(token.base, (size_t)(rest.base - token.base) - 1);
    jwt.signature = part_decode(rest, arena);
    header_json = part_json(header, arena);
    claims_json = part_json(claims, arena);
    if (header_json && claims_json && jwt.signature.len &&
        header_read(header_json, arena, &jwt) == 0)
        err = claims_read(claims_json, arena, &jwt);
    json_decref(header_json);
    json_decref(claims_json);
    if (err == 0)
        *ret = jwt;
    return err;
}
