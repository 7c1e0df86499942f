/* blobapi/target.c - see target.h. What may surprise: a name is checked by the service's rules for
 * each request, not only when it is made, since nothing else can ever have been stored. */
#include "blobapi/target.h"

#include "base/text.h"

/* "a:1", "[::1]:1", "a" -> "a", "[::1]", "a" */
static struct span host_name(struct span host)
{
    const char *close = host.len && host.base[0] == '[' ? memchr(host.base, ']', host.len) : NULL;
    struct span port;

    if (close)
        return span_from(host.base, (size_t)(close - host.base) + 1);
    return span_cut(host, ':', &port);
}

/* By name, where "-secondary" may follow the account's own. */
static const struct account *account_named(const struct accounts *accounts, struct span name,
                                           bool *ret_secondary)
{
    const struct span suffix = SPAN("-secondary");
    const struct account *account = account_by_name(accounts, name);

    *ret_secondary = false;
    if (account || name.len <= suffix.len ||
        !span_eq(span_skip(name, name.len - suffix.len), suffix))
        return account;
    account = account_by_name(accounts, span_from(name.base, name.len - suffix.len));
    *ret_secondary = account != NULL;
    return account;
}

static struct span lower_case(struct span text, struct arena *arena)
{
    size_t i = 0;
    char *copy;

    while (i < text.len && !(text.base[i] >= 'A' && text.base[i] <= 'Z'))
        i++;
    if (i == text.len)
        return text;
    copy = arena_alloc(arena, text.len);
    for (size_t k = 0; k < text.len; k++)
        copy[k] =
            text.base[k] >= 'A' && text.base[k] <= 'Z' ? (char)(text.base[k] | 0x20) : text.base[k];
    return span_from(copy, text.len);
}

static bool is_ipv4(struct span host)
{
    for (size_t i = 0; i < host.len; i++)
        if (host.base[i] != '.' && (host.base[i] < '0' || host.base[i] > '9'))
            return false;
    return true;
}

static const struct account *account_of_host(const struct accounts *accounts, struct span host,
                                             struct arena *arena, bool *ret_secondary)
{
    struct span name = lower_case(host_name(host), arena), rest, label;
    const struct account *account = account_by_alias(accounts, name);

    *ret_secondary = false;
    if (account)
        return account;
    label = span_cut(name, '.', &rest);
    return rest.len && !is_ipv4(name) ? account_named(accounts, label, ret_secondary) : NULL;
}

/* Decoded text, in place where there is nothing to decode. */
static int decoded(struct span text, struct arena *arena, struct span *ret)
{
    size_t len;
    char *copy;

    if (!text.len || !memchr(text.base, '%', text.len)) {
        *ret = text;
        return 0;
    }
    copy = arena_alloc(arena, text.len);
    if (percent_decode(text, copy, &len) < 0)
        return -EINVAL;
    *ret = span_from(copy, len);
    return 0;
}

/* Values go into XML and headers of answers: text without control characters. */
static bool is_text(struct span value)
{
    size_t units;

    for (size_t i = 0; i < value.len; i++)
        if ((unsigned char)value.base[i] < 0x20 || value.base[i] == 0x7f)
            return false;
    return utf8_units(value, &units) == 0;
}

static enum az_error query_parse(struct target *target, struct arena *arena)
{
    struct query_param *params;
    struct span rest = target->query;
    unsigned count = 1;

    for (size_t i = 0; i < target->query.len; i++)
        count += target->query.base[i] == '&';
    if (count > TARGET_PARAMS_MAX)
        return AZ_REQUEST_URL_FAILED_TO_PARSE;
    params = arena_alloc(arena, count * sizeof(*params));
    target->params = params;
    while (rest.len) {
        struct span pair = span_cut(rest, '&', &rest), value, name = span_cut(pair, '=', &value);
        struct query_param *p = &params[target->param_count];

        if (!pair.len)
            continue;
        p->raw = value.base ? value : span_from(pair.base + pair.len, 0);
        if (decoded(name, arena, &p->name) < 0 || decoded(p->raw, arena, &p->value) < 0)
            return AZ_REQUEST_URL_FAILED_TO_PARSE;
        if (!is_text(p->value))
            return AZ_INVALID_QUERY_PARAMETER_VALUE;
        p->name = lower_case(p->name, arena);
        target->param_count++;
    }
    return AZ_OK;
}

/* "http://host/path" becomes "/path": what proxies send, and what a server has to take. */
static struct span origin_form(struct span target)
{
    static const struct span schemes[] = {SPAN("http://"), SPAN("https://")};

    for (size_t i = 0; i < countof(schemes); i++)
        if (span_starts(target, schemes[i])) {
            const char *slash =
                memchr(target.base + schemes[i].len, '/', target.len - schemes[i].len);

            return slash ? span_skip(target, (size_t)(slash - target.base)) : SPAN("/");
        }
    return target;
}

/* One segment off the head of a decoded path that starts with '/' or is empty. */
static struct span segment(struct span *path)
{
    struct span rest, name;

    if (!path->len)
        return span_from(path->base, 0);
    name = span_cut(span_skip(*path, 1), '/', &rest);
    *path = rest.base ? span_from(rest.base - 1, rest.len + 1) : span_from(name.base + name.len, 0);
    return name;
}

/* Host style has no room for "$root": "/name" is a blob there unless restype says container. */
static bool is_root_blob(const struct target *target)
{
    struct span restype = target_param(target, SPAN("restype"));

    return !target->path_style && target->container.len && !restype.base &&
           !span_eq(target->container, SPAN("$root")) &&
           !span_eq(target->container, SPAN("$web")) && !span_eq(target->container, SPAN("$logs"));
}

static enum az_error path_split(struct target *target, struct span path)
{
    enum az_error error;

    target->container = segment(&path);
    if (!path.len && is_root_blob(target)) {
        target->blob = target->container;
        target->container = SPAN("$root");
    } else if (path.len > 1) {
        target->blob = span_skip(path, 1);
    }
    if (!target->container.len)
        return target->blob.len ? AZ_INVALID_URI : AZ_OK;
    error = container_name_check(target->container);
    return error == AZ_OK && target->blob.len ? blob_name_check(target->blob) : error;
}

enum az_error target_parse(const struct accounts *accounts, struct span host, struct span target,
                           struct arena *arena, struct target *ret)
{
    struct span path;
    enum az_error error;

    *ret = (struct target){0};
    ret->path = span_cut(origin_form(target), '?', &ret->query);
    if (!ret->path.len || ret->path.base[0] != '/' || decoded(ret->path, arena, &path) < 0)
        return AZ_INVALID_URI;
    ret->account = account_of_host(accounts, host, arena, &ret->secondary);
    if (!ret->account) {
        struct span name = segment(&path);

        ret->path_style = true;
        if (!name.len)
            return AZ_INVALID_URI;
        ret->account = account_named(accounts, name, &ret->secondary);
        if (!ret->account)
            return AZ_RESOURCE_NOT_FOUND;
    }
    error = query_parse(ret, arena);
    return error == AZ_OK ? path_split(ret, path) : error;
}

const struct query_param *target_find(const struct target *target, struct span name)
{
    for (unsigned i = 0; i < target->param_count; i++)
        if (span_eq(target->params[i].name, name))
            return &target->params[i];
    return NULL;
}

bool param_is_plain(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr("-_.$", c))))
            return false;
    }
    return name.len;
}

struct span target_param(const struct target *target, struct span name)
{
    const struct query_param *param = target_find(target, name);

    return param ? param->value : (struct span){NULL, 0};
}

struct span query_param_spaced(const struct query_param *param, struct arena *arena)
{
    size_t len;
    char *text;

    if (!param->raw.len || !memchr(param->raw.base, '+', param->raw.len))
        return param->value;
    text = (char *)arena_copy(arena, param->raw).base;
    for (size_t i = 0; i < param->raw.len; i++)
        if (text[i] == '+')
            text[i] = ' ';
    if (percent_decode(span_from(text, param->raw.len), text, &len) < 0)
        return param->value; /* cannot be: target_parse has decoded it */
    return span_from(text, len);
}

enum az_error container_name_check(struct span name)
{
    size_t units;

    if (span_eq(name, SPAN("$root")) || span_eq(name, SPAN("$web")) || span_eq(name, SPAN("$logs")))
        return AZ_OK;
    if (utf8_units(name, &units) < 0)
        return AZ_INVALID_URI;
    if (units < CONTAINER_BYTES_MIN || units > CONTAINER_BYTES_MAX)
        return AZ_OUT_OF_RANGE_INPUT;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.base[i];
        bool inner = i > 0 && i < name.len - 1 && name.base[i - 1] != '-';

        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c == '-' && inner)))
            return AZ_INVALID_RESOURCE_NAME;
    }
    return AZ_OK;
}

enum az_error blob_name_check(struct span name)
{
    size_t units, segments = 1;

    if (utf8_units(name, &units) < 0)
        return AZ_INVALID_URI;
    if (units < 1 || units > BLOB_NAME_UNITS_MAX)
        return AZ_OUT_OF_RANGE_INPUT;
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.base[i];

        if (c < 0x20 || c == 0x7f)
            return AZ_INVALID_RESOURCE_NAME;
        segments += c == '/';
    }
    return segments > BLOB_NAME_SEGMENTS_MAX ? AZ_OUT_OF_RANGE_INPUT : AZ_OK;
}
