#include "blobapi/listing.h"

#include "base/text.h"

struct span list_text(const struct target *target, struct span name, struct arena *arena)
{
    const struct query_param *p = target_find(target, name);

    return p ? query_param_spaced(p, arena) : (struct span){NULL, 0};
}

static bool all_digits(struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.base[i] < '0' || s.base[i] > '9')
            return false;
    return s.len > 0;
}

enum az_error list_max_parse(const struct target *target, uint64_t *ret)
{
    const struct query_param *p = target_find(target, SPAN("maxresults"));
    struct span digits;
    uint64_t n;

    *ret = LIST_ROWS_MAX;
    if (!p || !p->value.len)
        return AZ_OK;
    digits = p->value.base[0] == '-' ? span_skip(p->value, 1) : p->value;
    if (!all_digits(digits))
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    if (digits.len != p->value.len)
        return AZ_OUT_OF_RANGE_QUERY_PARAMETER_VALUE;
    if (span_to_u64(digits, &n) < 0)
        n = LIST_ROWS_MAX; /* beyond 64 bits is more than enough, too */
    if (n == 0)
        return AZ_OUT_OF_RANGE_QUERY_PARAMETER_VALUE;
    *ret = MIN(n, (uint64_t)LIST_ROWS_MAX);
    return AZ_OK;
}

static int include_bit(struct span word, const struct span *names, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (span_eq_nocase(word, names[i]))
            return (int)i;
    return -1;
}

enum az_error list_include_parse(struct span include, const struct span *names, unsigned n,
                                 uint32_t *ret)
{
    uint32_t bits = 0;

    while (include.base) {
        struct span word = span_trim(span_cut(include, ',', &include));
        int bit = include_bit(word, names, n);

        if (!word.len)
            continue; /* "include=" is tolerated */
        if (bit < 0)
            return AZ_INVALID_QUERY_PARAMETER_VALUE;
        bits |= 1u << bit;
    }
    *ret = bits;
    return AZ_OK;
}

/* base64url without padding: '-' and '_' need no escape in a query, and no '+' can become a space.
 */
static void to_url_alphabet(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        text[i] = text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i];
}

struct span list_marker_make(struct span next, struct arena *arena)
{
    char *text = arena_alloc(arena, BASE64_BYTES(next.len));
    size_t len = base64_encode(next, text);

    while (len && text[len - 1] == '=')
        len--;
    to_url_alphabet(text, len);
    return arena_printf(arena, "2!%zu!%.*s", next.len, (int)len, text);
}

static int from_url_alphabet(struct span text, struct arena *arena, struct span *ret)
{
    size_t padded = ALIGN_UP(text.len, 4), len;
    char *base64 = arena_alloc(arena, padded + 1), *name = arena_alloc(arena, padded + 1);

    for (size_t i = 0; i < padded; i++) {
        char c = i < text.len ? text.base[i] : '=';

        if (c == '+' || c == '/')
            return -EINVAL;
        base64[i] = c == '-' ? '+' : c == '_' ? '/' : c;
    }
    if (base64_decode(span_from(base64, padded), name, &len) < 0)
        return -EINVAL;
    *ret = span_from(name, len);
    return 0;
}

enum az_error list_marker_parse(struct span marker, struct arena *arena, struct span *ret)
{
    struct span rest, length = {NULL, 0}, text = {NULL, 0}, version = span_cut(marker, '!', &rest),
                      name;
    uint64_t bytes;

    if (rest.base)
        length = span_cut(rest, '!', &text);
    if (!span_eq(version, SPAN("2")) || !text.base || span_to_u64(length, &bytes) < 0)
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    if (bytes == 0 || bytes > BLOB_NAME_BYTES_MAX)
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    if (text.len < (bytes * 4 + 2) / 3)
        return AZ_INVALID_INPUT; /* cut short on its way */
    if (from_url_alphabet(text, arena, &name) < 0 || name.len != bytes)
        return AZ_INVALID_QUERY_PARAMETER_VALUE;
    *ret = name;
    return AZ_OK;
}

void list_emit_name(struct emit *e, struct span tag, struct span name)
{
    bool encoded = !emit_xml_fits(name); /* U+FFFE and U+FFFF are UTF-8 but no XML */

    EMIT(e, "<");
    emit_span(e, tag);
    if (encoded) {
        EMIT(e, " Encoded=\"true\">");
        emit_percent(e, name);
    } else {
        EMIT(e, ">");
        emit_xml(e, name);
    }
    EMIT(e, "</");
    emit_span(e, tag);
    EMIT(e, ">");
}

void list_emit_head(struct request *r, struct span container)
{
    struct emit *e = r->emit;

    EMIT(e, "<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"");
    emit_span(e, r->http->tls ? SPAN("https://") : SPAN("http://"));
    emit_xml(e, r->http->host);
    EMIT(e, "/");
    if (r->target.path_style) {
        emit_xml(e, r->account->name);
        EMIT(e, "/");
    }
    EMIT(e, "\"");
    if (container.len) {
        EMIT(e, " ContainerName=\"");
        emit_xml(e, container);
        EMIT(e, "\"");
    }
    EMIT(e, ">");
}

/* Names are C# identifiers (inputs.c), so each is an XML name; what the cloud taught may be
 * anything. */
static bool xml_name_fits(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.base[i], lower = c | 0x20;

        if (!(lower >= 'a' && lower <= 'z') && c != '_' &&
            (i == 0 || ((c < '0' || c > '9') && c != '-')))
            return false;
    }
    return name.len > 0;
}

void list_emit_metadata(struct emit *e, const struct pair *pairs, unsigned n)
{
    if (!n) {
        EMIT(e, "<Metadata />");
        return;
    }
    EMIT(e, "<Metadata>");
    for (unsigned i = 0; i < n; i++) {
        bool fits = xml_name_fits(pairs[i].name);
        struct span tag = fits ? pairs[i].name : SPAN("x-ms-invalid-name");

        EMIT(e, "<");
        emit_span(e, tag);
        EMIT(e, ">");
        emit_xml_header(e, fits ? pairs[i].value : pairs[i].name);
        EMIT(e, "</");
        emit_span(e, tag);
        EMIT(e, ">");
    }
    EMIT(e, "</Metadata>");
}
