/* base/text.c - base64, percent-encoding, hex, GUIDs, UTF-8. */
#include "base/text.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char hex_digits[] = "0123456789ABCDEF";

size_t base64_encode(struct span bytes, char *ret)
{
    const unsigned char *in = (const unsigned char *)bytes.base;
    char *out = ret;

    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t n = MIN(bytes.len - i, 3);
        uint32_t v = (uint32_t)in[i] << 16;

        v |= n > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        v |= n > 2 ? in[i + 2] : 0;
        *out++ = base64_digits[v >> 18];
        *out++ = base64_digits[v >> 12 & 63];
        *out++ = n > 1 ? base64_digits[v >> 6 & 63] : '=';
        *out++ = n > 2 ? base64_digits[v & 63] : '=';
    }
    return (size_t)(out - ret);
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* The 24 bits of four digits, of which the last `pad` are '='. -1: not base64, or bits lost in
 * padding. */
static int base64_quad(const char *q, unsigned pad)
{
    int v = 0;

    for (unsigned i = 0; i < 4; i++) {
        int digit = i >= 4 - pad ? 0 : base64_value(q[i]);

        if (digit < 0)
            return -1;
        v = v << 6 | digit;
    }
    return v & ((1 << 8 * pad) - 1) ? -1 : v;
}

int base64_decode(struct span text, void *ret, size_t *ret_len)
{
    unsigned char *out = ret;
    size_t n = 0;

    if (text.len % 4)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i += 4) {
        const char *q = text.base + i;
        unsigned pad = i + 4 < text.len ? 0 : q[3] != '=' ? 0 : q[2] != '=' ? 1 : 2;
        int v = base64_quad(q, pad);

        if (v < 0)
            return -EINVAL;
        for (unsigned k = 0; k < 3 - pad; k++)
            out[n++] = (unsigned char)(v >> (16 - 8 * k));
    }
    *ret_len = n;
    return 0;
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

size_t percent_encode(struct span s, const char *keep, char *ret)
{
    char *out = ret;

    for (size_t i = 0; i < s.len; i++) {
        char c = s.base[i];

        if (is_unreserved(c) || (c && strchr(keep, c))) {
            *out++ = c;
            continue;
        }
        *out++ = '%';
        *out++ = hex_digits[(unsigned char)c >> 4];
        *out++ = hex_digits[c & 15];
    }
    return (size_t)(out - ret);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int percent_decode(struct span s, char *ret, size_t *ret_len)
{
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++) {
        int high, low;

        if (s.base[i] != '%') {
            ret[n++] = s.base[i];
            continue;
        }
        high = i + 2 < s.len ? hex_value(s.base[i + 1]) : -1;
        low = i + 2 < s.len ? hex_value(s.base[i + 2]) : -1;
        if (high < 0 || low < 0)
            return -EINVAL;
        ret[n++] = (char)(high << 4 | low);
        i += 2;
    }
    *ret_len = n;
    return 0;
}

void hex_encode(struct span bytes, char *ret)
{
    for (size_t i = 0; i < bytes.len; i++) {
        unsigned char c = (unsigned char)bytes.base[i];

        ret[2 * i] = "0123456789abcdef"[c >> 4];
        ret[2 * i + 1] = "0123456789abcdef"[c & 15];
    }
}

int hex_decode(struct span text, void *ret, size_t *ret_len)
{
    unsigned char *out = ret;

    if (text.len % 2)
        return -EINVAL;
    for (size_t i = 0; i < text.len; i++)
        if (hex_value(text.base[i]) < 0)
            return -EINVAL;
    for (size_t i = 0; i < text.len / 2; i++)
        out[i] =
            (unsigned char)(hex_value(text.base[2 * i]) << 4 | hex_value(text.base[2 * i + 1]));
    *ret_len = text.len / 2;
    return 0;
}

void guid_print(const unsigned char guid[16], char ret[GUID_BYTES + 1])
{
    char *at = ret;

    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        hex_encode(span_from(guid + i, 1), at);
        at += 2;
    }
    *at = '\0';
}

int guid_parse(struct span text, unsigned char ret[16])
{
    unsigned char guid[16];
    size_t len;

    if (text.len == GUID_BYTES + 2 && text.base[0] == '{' && text.base[GUID_BYTES + 1] == '}')
        text = span_from(text.base + 1, GUID_BYTES);
    if (text.len != GUID_BYTES)
        return -EINVAL;
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            if (text.base[0] != '-')
                return -EINVAL;
            text = span_skip(text, 1);
        }
        if (hex_decode(span_from(text.base, 2), guid + i, &len) < 0)
            return -EINVAL;
        text = span_skip(text, 2);
    }
    memcpy(ret, guid, sizeof(guid));
    return 0;
}

/* Length of the well-formed sequence at the head of s, 0 if there is none. */
static size_t utf8_sequence(struct span s)
{
    const unsigned char *at = (const unsigned char *)s.base;
    size_t len = at[0] < 0x80 ? 1 : at[0] < 0xC2 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;

    if (len == 0 || len > s.len || at[0] > 0xF4)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    if ((at[0] == 0xE0 && at[1] < 0xA0) ||
        (at[0] == 0xED && at[1] > 0x9F) || /* overlong, surrogate */
        (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F)) /* overlong, > 10FFFF */
        return 0;
    return len;
}

int utf8_units(struct span text, size_t *ret_units)
{
    size_t units = 0;

    while (text.len) {
        size_t len = utf8_sequence(text);

        if (len == 0)
            return -EINVAL;
        units += len == 4 ? 2 : 1;
        text = span_skip(text, len);
    }
    *ret_units = units;
    return 0;
}
