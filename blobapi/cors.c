/* blobapi/cors.c - what browsers ask before and want to see in an answer: the CORS rules an account
 * has set, first match counts. Preflight needs no credentials; the request itself is judged by its
 * own, whatever the rules say. Loop thread. */
#include "blobapi/handlers.h"

/* ---- rules ---- */

/* Is one of the list's items `item`? Of headers, one that ends with '*' stands for all it begins;
 * their case says nothing. */
static bool list_has_header(struct span list, struct span header)
{
    while (list.len) {
        struct span item = span_trim(span_cut(list, ',', &list));

        if (item.len && item.base[item.len - 1] == '*') {
            item.len--;
            if (header.len >= item.len && span_eq_nocase(span_from(header.base, item.len), item))
                return true;
        } else if (span_eq_nocase(item, header)) {
            return true;
        }
    }
    return false;
}

static bool list_has(struct span list, struct span text)
{
    while (list.len)
        if (span_eq(span_trim(span_cut(list, ',', &list)), text))
            return true;
    return false;
}

static bool allows_all(const struct cors_rule *rule)
{
    return list_has(rule->origins, SPAN("*"));
}

/* Exactly, as the service does; a '*' in a host stands for every name below it. */
static bool allows_origin(const struct cors_rule *rule, struct span origin)
{
    struct span list = rule->origins;

    while (list.len)
        if (pattern_matches(span_trim(span_cut(list, ',', &list)), origin))
            return true;
    return false;
}

static bool allows_headers(const struct cors_rule *rule, struct span list)
{
    while (list.len) {
        struct span header = span_trim(span_cut(list, ',', &list));

        if (header.len && !list_has_header(rule->allowed_headers, header))
            return false;
    }
    return true;
}

/* ---- preflight ---- */

static const struct cors_rule *preflight_rule(const struct request *r,
                                              const struct service_record *record)
{
    struct span origin = exchange_header(r->http, SPAN("origin"));
    struct span method = exchange_header(r->http, SPAN("access-control-request-method"));
    struct span headers = exchange_header(r->http, SPAN("access-control-request-headers"));

    for (unsigned i = 0; i < record->cors_count; i++)
        if (allows_origin(&record->cors[i], origin) && list_has(record->cors[i].methods, method) &&
            allows_headers(&record->cors[i], headers))
            return &record->cors[i];
    return NULL;
}

struct next preflight_start(struct op *op)
{
    struct request *r = REQUEST(op);
    struct span needed[] = {SPAN("origin"), SPAN("access-control-request-method")};
    struct span headers = exchange_header(r->http, SPAN("access-control-request-headers"));
    const struct cors_rule *rule;
    struct service *service;
    uint32_t max_age_s = 0;
    bool allowed;

    for (unsigned i = 0; i < countof(needed); i++)
        if (!exchange_header(r->http, needed[i]).len)
            return fail_header(r, AZ_MISSING_CORS_HEADER, needed[i]);
    service = request_service(r);
    rule = service ? preflight_rule(r, service_record(service)) : NULL;
    if ((allowed = rule != NULL))
        max_age_s = rule->max_age_s;
    service_unref(service);
    if (!allowed)
        return fail_detail(r, AZ_CORS_PREFLIGHT_FAILURE, SPAN("MessageDetails"),
                           SPAN("No CORS rules matches this request"));
    answer_add(r, SPAN("Access-Control-Allow-Origin"), exchange_header(r->http, needed[0]));
    answer_add(r, SPAN("Access-Control-Allow-Methods"), exchange_header(r->http, needed[1]));
    if (headers.len)
        answer_add(r, SPAN("Access-Control-Allow-Headers"), headers);
    answer_u64(r, SPAN("Access-Control-Max-Age"), max_age_s);
    answer_add(r, SPAN("Access-Control-Allow-Credentials"), SPAN("true"));
    return answer_empty(r, 200);
}

/* ---- answers ---- */

struct exposed { /* a comma list under construction */
    struct arena *arena;
    char *at;
    size_t len, room;
};

static void exposed_add(struct exposed *e, struct span name)
{
    size_t more = name.len + 1;

    if (list_has_header(span_from(e->at, e->len), name))
        return;
    if (!e->at || e->len + more > e->room) {
        size_t room = MAX(e->room * 2, e->len + more + 256);

        e->at = arena_grow(e->arena, e->at, e->room, room);
        e->room = room;
    }
    if (e->len)
        e->at[e->len++] = ',';
    if (name.len)
        memcpy(e->at + e->len, name.base, name.len);
    e->len += name.len;
}

/* The answer's own headers that the rule exposes, by the names they go out under, then what it
 * names besides: a browser compares with this list, it knows no prefixes where credentials are
 * sent. */
static struct span exposed_headers(struct request *r, struct span rule, bool has_length)
{
    struct exposed e = {.arena = r->http->arena};
    struct span framing[] = {has_length ? SPAN("Content-Length") : SPAN("Transfer-Encoding"),
                             SPAN("Date")};

    for (unsigned i = 0; i < r->answer.count; i++)
        if (list_has_header(rule, r->answer.headers[i].name))
            exposed_add(&e, r->answer.headers[i].name);
    for (unsigned i = 0; i < countof(framing); i++)
        if (list_has_header(rule, framing[i]))
            exposed_add(&e, framing[i]);
    while (rule.len) {
        struct span item = span_trim(span_cut(rule, ',', &rule));

        if (item.len && item.base[item.len - 1] != '*')
            exposed_add(&e, item);
    }
    return span_from(e.at, e.len);
}

static void rule_headers(struct request *r, const struct cors_rule *rule, struct span origin,
                         bool has_length)
{
    struct span exposed = exposed_headers(r, rule->exposed_headers, has_length);

    if (exposed.len)
        answer_add(r, SPAN("Access-Control-Expose-Headers"), exposed);
    answer_add(r, SPAN("Access-Control-Allow-Origin"), allows_all(rule) ? SPAN("*") : origin);
    if (!allows_all(rule))
        answer_add(r, SPAN("Access-Control-Allow-Credentials"), SPAN("true"));
}

/* Without an Origin only a rule for all of them counts; what may be cached (GET, HEAD) then says
 * that it depends on the Origin, unless it does not. */
void cors_headers(struct request *r, bool has_length)
{
    struct service *service =
        r->operation == &operations[OPERATION_PREFLIGHT] ? NULL : request_service(r);
    struct span origin = exchange_header(r->http, SPAN("origin"));
    const struct service_record *record;
    const struct cors_rule *rule = NULL;

    if (!service)
        return;
    record = service_record(service);
    for (unsigned i = 0; !rule && i < record->cors_count; i++)
        if ((origin.len ? allows_origin(&record->cors[i], origin) : allows_all(&record->cors[i])) &&
            list_has(record->cors[i].methods, r->http->method))
            rule = &record->cors[i];
    if (rule)
        rule_headers(r, rule, origin, has_length);
    if (record->cors_count && !(rule && allows_all(rule)) &&
        (r->head_only || span_eq(r->http->method, SPAN("GET"))))
        answer_add(r, SPAN("Vary"), SPAN("Origin"));
    service_unref(service);
}
