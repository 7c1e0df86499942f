/* blobapi/auth_shared_key.c - SharedKey and SharedKeyLite.
 *
 * Clients do not agree on the string to sign: two sort orders of x-ms- headers, Date beside
 * x-ms-date signed or not, Content-Language before Content-Encoding, '+' in a query read as a
 * space, paths encoded again on the way, "-secondary" in the path or not. Each such choice is one
 * dimension of `struct form`, present only when it makes a difference for this request; the usual
 * form is tried first, and all others before the request is refused. They all describe the same
 * request, so none lets anybody in who has no key. */
#include "blobapi/auth_internal.h"

#include "base/clock.h"
#include "base/date.h"
#include "base/text.h"

/* Of text to sign, all forms of one request together: 128 forms of 8 KiB. A stranger with a 64 KiB
 * head and every choice open would cost the loop 40 ms otherwise. */
#define FORMS_BYTES_MAX MIB(1)
#define SKEW_MAX_NS     (15 * 60 * (int64_t)NS_PER_SEC)
#define XMS_MAX                                                                                    \
    256 /* x-ms- headers of one request; above, the rest of them is not signed and it fails */

enum standard { /* in the order they are signed */
                CONTENT_ENCODING,
                CONTENT_LANGUAGE,
                CONTENT_LENGTH,
                CONTENT_MD5,
                CONTENT_TYPE,
                DATE,
                IF_MODIFIED_SINCE,
                IF_MATCH,
                IF_NONE_MATCH,
                IF_UNMODIFIED_SINCE,
                RANGE,
                STANDARDS
};
static const struct span standard_names[STANDARDS] = {
    [CONTENT_ENCODING] = SPAN("content-encoding"),
    [CONTENT_LANGUAGE] = SPAN("content-language"),
    [CONTENT_LENGTH] = SPAN("content-length"),
    [CONTENT_MD5] = SPAN("content-md5"),
    [CONTENT_TYPE] = SPAN("content-type"),
    [DATE] = SPAN("date"),
    [IF_MODIFIED_SINCE] = SPAN("if-modified-since"),
    [IF_MATCH] = SPAN("if-match"),
    [IF_NONE_MATCH] = SPAN("if-none-match"),
    [IF_UNMODIFIED_SINCE] = SPAN("if-unmodified-since"),
    [RANGE] = SPAN("range"),
};

/* What the string to sign is made of, gathered once. */
struct parts {
    const struct auth_request *request;
    bool lite;
    struct span standard[STANDARDS];
    const struct header **bytewise, **culture; /* x-ms- headers in both orders */
    unsigned xms_count;
    struct span xms_date, version;
    const struct query_param **params; /* sorted by name, then value */
    struct span paths[4];              /* as sent, then other spellings of it */
    unsigned path_count;
    char *text; /* room for any form */
    size_t room;
};

/* One way to write the string to sign. */
struct form {
    unsigned path;
    bool culture_order, without_date, language_first, plus_is_space, zero_length;
};

/* ---- sort orders ---- */

/* First level of the .NET culture order over what a header name may hold. '-' and '\'' have no
 * weight there; they only break ties: where names differ in one, the name that has it comes later.
 */
static int culture_rank(char c)
{
    static const char order[] = "!#$%&*.^_`|~+0123456789abcdefghijklmnopqrstuvwxyz";
    const char *hit = memchr(order, c, sizeof(order) - 1);

    return hit ? (int)(hit - order) + 1 : 0;
}

static int culture_tie(struct span a, struct span b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++)
        if (a.base[i] != b.base[i]) {
            bool light_a = !culture_rank(a.base[i]), light_b = !culture_rank(b.base[i]);

            return light_a != light_b ? (light_a ? 1 : -1) : a.base[i] - b.base[i];
        }
    return (a.len > b.len) - (a.len < b.len);
}

static int culture_cmp(struct span a, struct span b)
{
    size_t i = 0, k = 0;

    for (;;) {
        int rank_a, rank_b;

        while (i < a.len && !culture_rank(a.base[i]))
            i++;
        while (k < b.len && !culture_rank(b.base[k]))
            k++;
        rank_a = i < a.len ? culture_rank(a.base[i++]) : 0;
        rank_b = k < b.len ? culture_rank(b.base[k++]) : 0;
        if (rank_a != rank_b)
            return rank_a - rank_b;
        if (rank_a == 0)
            return culture_tie(a, b);
    }
}

/* Stable, so that repeated headers keep the order in which they are joined. */
static const struct header **headers_sorted(const struct parts *parts, const struct header **from,
                                            int (*cmp)(struct span, struct span))
{
    const struct header **sorted =
        arena_alloc(parts->request->arena, parts->xms_count * sizeof(const struct header *));

    for (unsigned n = 0; n < parts->xms_count; n++) {
        unsigned at = n;

        for (; at > 0 && cmp(sorted[at - 1]->name, from[n]->name) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = from[n];
    }
    return sorted;
}

static void params_sort(struct parts *parts)
{
    const struct target *target = parts->request->target;

    parts->params = arena_alloc(parts->request->arena,
                                target->param_count * sizeof(const struct query_param *));
    for (unsigned n = 0; n < target->param_count; n++) {
        const struct query_param *param = &target->params[n];
        unsigned at = n;

        for (; at > 0; at--) {
            int c = span_cmp(parts->params[at - 1]->name, param->name);

            if (c < 0 || (c == 0 && span_cmp(parts->params[at - 1]->value, param->value) <= 0))
                break;
            parts->params[at] = parts->params[at - 1];
        }
        parts->params[at] = param;
    }
}

/* ---- gathering ---- */

static void standard_set(struct parts *parts, const struct header *header)
{
    for (unsigned s = 0; s < STANDARDS; s++)
        if (!parts->standard[s].base && span_eq(header->name, standard_names[s]))
            parts->standard[s] = header->value;
}

static void headers_gather(struct parts *parts)
{
    const struct auth_request *request = parts->request;
    const struct header *xms[XMS_MAX];
    unsigned count = 0;

    parts->version = request->version;
    for (unsigned i = 0; i < request->header_count; i++) {
        const struct header *header = &request->headers[i];

        if (!span_starts(header->name, SPAN("x-ms-"))) {
            standard_set(parts, header);
            continue;
        }
        if (count < XMS_MAX)
            xms[count++] = header;
        if (span_eq(header->name, SPAN("x-ms-date")))
            parts->xms_date = header->value;
        else if (span_eq(header->name, SPAN("x-ms-version")))
            parts->version = header->value;
    }
    parts->xms_count = count;
    parts->bytewise = headers_sorted(parts, xms, span_cmp);
    parts->culture = headers_sorted(parts, xms, culture_cmp);
}

static void path_add(struct parts *parts, struct span path)
{
    for (unsigned i = 0; i < parts->path_count; i++)
        if (span_eq(parts->paths[i], path))
            return;
    parts->paths[parts->path_count++] = path;
}

/* As sent; encoded anew, with and without the characters a path may hold plain; without
 * "-secondary". */
static void paths_gather(struct parts *parts)
{
    static const char *const keeps[] = {"/", "/!$&'()*+,;=:@"};
    const struct target *target = parts->request->target;
    struct span sent = target->path, name = target->account->name;
    char *plain = arena_alloc(parts->request->arena, sent.len), *coded;
    size_t len;

    path_add(parts, sent);
    if (percent_decode(sent, plain, &len) < 0)
        return; /* a target that did not parse never gets here */
    for (size_t i = 0; i < countof(keeps); i++) {
        coded = arena_alloc(parts->request->arena, 3 * len);
        path_add(parts, span_from(coded, percent_encode(span_from(plain, len), keeps[i], coded)));
    }
    if (target->secondary && target->path_style) {
        struct span below = span_skip(sent, 1 + name.len + strlen("-secondary"));

        path_add(parts,
                 arena_printf(parts->request->arena, "/%.*s%.*s", SPAN_FMT(name), SPAN_FMT(below)));
    }
}

/* An upper bound for every form. */
static void room_count(struct parts *parts)
{
    const struct auth_request *request = parts->request;

    parts->room = request->method.len + request->target->account->name.len + 64;
    for (unsigned i = 0; i < request->header_count; i++)
        parts->room += request->headers[i].name.len + request->headers[i].value.len + 2;
    for (unsigned i = 0; i < request->target->param_count; i++)
        parts->room += request->target->params[i].name.len + request->target->params[i].raw.len + 2;
    parts->room += 3 * request->target->path.len;
    parts->text = arena_alloc(request->arena, parts->room);
}

/* ---- writing ---- */

static void add_line(struct signed_text *text, struct span value)
{
    signed_add(text, value);
    signed_add(text, SPAN("\n"));
}

static void add_standard(const struct parts *parts, const struct form *form,
                         struct signed_text *text)
{
    for (unsigned s = 0; s < STANDARDS; s++) {
        struct span value = parts->standard[s];

        if (form->language_first && s <= CONTENT_LANGUAGE)
            value = parts->standard[CONTENT_LANGUAGE - s];
        if (s == CONTENT_LENGTH && span_eq(value, SPAN("0")) && !form->zero_length)
            value.len = 0;
        if (s == DATE && form->without_date)
            value.len = 0;
        if (!parts->lite || s == CONTENT_MD5 || s == CONTENT_TYPE || s == DATE)
            add_line(text, value);
    }
}

static void add_headers(const struct parts *parts, const struct form *form,
                        struct signed_text *text)
{
    const struct header **sorted = form->culture_order ? parts->culture : parts->bytewise;

    for (unsigned i = 0; i < parts->xms_count; i++) {
        bool again = i > 0 && span_eq(sorted[i]->name, sorted[i - 1]->name);
        bool more = i + 1 < parts->xms_count && span_eq(sorted[i]->name, sorted[i + 1]->name);

        if (!again) {
            signed_add(text, sorted[i]->name);
            signed_add(text, SPAN(":"));
        }
        signed_add(text, sorted[i]->value);
        signed_add(text, more ? SPAN(",") : SPAN("\n"));
    }
}

static void add_value(const struct query_param *param, bool plus_is_space, struct signed_text *text)
{
    size_t len;

    if (!plus_is_space) {
        signed_add(text, param->value);
        return;
    }
    assert(text->room - text->len >= param->raw.len);
    for (size_t i = 0; i < param->raw.len; i++)
        text->at[text->len + i] = param->raw.base[i] == '+' ? ' ' : param->raw.base[i];
    if (percent_decode(span_from(text->at + text->len, param->raw.len), text->at + text->len,
                       &len) == 0)
        text->len += len;
}

static void add_resource(const struct parts *parts, const struct form *form,
                         struct signed_text *text)
{
    unsigned count = parts->request->target->param_count;

    signed_add(text, SPAN("/"));
    signed_add(text, parts->request->target->account->name);
    signed_add(text, parts->paths[form->path]);
    for (unsigned i = 0; i < count && !parts->lite; i++) {
        if (i > 0 && span_eq(parts->params[i]->name, parts->params[i - 1]->name)) {
            signed_add(text, SPAN(","));
        } else {
            signed_add(text, SPAN("\n"));
            signed_add(text, parts->params[i]->name);
            signed_add(text, SPAN(":"));
        }
        add_value(parts->params[i], form->plus_is_space, text);
    }
    if (parts->lite && target_find(parts->request->target, SPAN("comp"))) {
        signed_add(text, SPAN("?comp="));
        signed_add(text, target_param(parts->request->target, SPAN("comp")));
    }
}

static struct span string_to_sign(const struct parts *parts, const struct form *form)
{
    struct signed_text text = {.at = parts->text, .room = parts->room};

    add_line(&text, parts->request->method);
    add_standard(parts, form, &text);
    add_headers(parts, form, &text);
    add_resource(parts, form, &text);
    return signed_span(&text);
}

/* ---- judging ---- */

static bool orders_differ(const struct parts *parts)
{
    for (unsigned i = 0; i < parts->xms_count; i++)
        if (parts->bytewise[i] != parts->culture[i])
            return true;
    return false;
}

static bool query_has_plus(const struct target *target)
{
    return target->query.len && memchr(target->query.base, '+', target->query.len);
}

/* Before 2015-02-21 a Content-Length of 0 was signed as "0"; no version means an old one. */
static bool length_is_doubtful(const struct parts *parts)
{
    return span_eq(parts->standard[CONTENT_LENGTH], SPAN("0")) &&
           span_cmp(parts->version, SPAN("2015-02-21")) < 0;
}

static bool any_form_matches(const struct parts *parts, struct span signature)
{
    const struct target *target = parts->request->target;
    /* a choice is worth two rounds where it makes a difference; the usual one is false */
    unsigned orders = orders_differ(parts),
             dates = parts->standard[DATE].len && parts->xms_date.len,
             languages =
                 parts->standard[CONTENT_ENCODING].len && parts->standard[CONTENT_LANGUAGE].len,
             pluses = query_has_plus(target), lengths = length_is_doubtful(parts);
    struct form form = {0};
    size_t left = FORMS_BYTES_MAX;

    for (unsigned choice = 0; choice < 32; choice++) {
        form.culture_order = choice & 1;
        form.without_date = choice & 2;
        form.language_first = choice & 4;
        form.plus_is_space = choice & 8;
        form.zero_length = choice & 16;
        if (choice & ~(orders | dates << 1 | languages << 2 | pluses << 3 | lengths << 4))
            continue;
        for (form.path = 0; form.path < parts->path_count; form.path++) {
            struct span text = string_to_sign(parts, &form);

            if (text.len > left)
                return false;
            left -= text.len;
            if (signature_matches(target->account, text, signature))
                return true;
        }
    }
    return false;
}

static enum az_error date_check(const struct parts *parts, struct span *ret_detail)
{
    struct span date = parts->xms_date.len ? parts->xms_date : parts->standard[DATE];
    int64_t now = parts->request->now_ns, at;

    if (http_date_parse(date, &at) < 0) {
        *ret_detail = SPAN("x-ms-date or Date is missing or not an RFC 1123 date.");
        return AZ_AUTHENTICATION_FAILED;
    }
    if (at < now - SKEW_MAX_NS || at > now + SKEW_MAX_NS) {
        *ret_detail = SPAN("The date in the request is more than 15 minutes off.");
        return AZ_AUTHENTICATION_FAILED;
    }
    return AZ_OK;
}

enum az_error shared_key_check(const struct auth_request *request, struct span credentials,
                               bool lite, struct span *ret_detail)
{
    struct parts parts = {.request = request, .lite = lite};
    struct span signature, name = span_cut(credentials, ':', &signature);
    enum az_error error;

    if (!name.len || !signature.len)
        return AZ_INVALID_AUTHENTICATION_INFO;
    if (!span_eq(name, request->target->account->name)) {
        *ret_detail = SPAN("The account of the Authorization header is not that of the request.");
        return AZ_AUTHENTICATION_FAILED;
    }
    headers_gather(&parts);
    error = date_check(&parts, ret_detail);
    if (error != AZ_OK)
        return error;
    params_sort(&parts);
    paths_gather(&parts);
    room_count(&parts);
    if (any_form_matches(&parts, signature))
        return AZ_OK;
    *ret_detail =
        SPAN("The MAC signature found in the HTTP request is not the same as any computed "
             "signature.");
    return AZ_AUTHENTICATION_FAILED;
}
