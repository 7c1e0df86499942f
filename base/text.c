/* base/text.c - base64, percent-encoding, RFC 1123 dates, hex. */
#include "base/text.h"

#include <stdio.h>
#include <time.h>

#include "base/clock.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char hex_digits[] = "0123456789ABCDEF";
static const char *const day_names[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const month_names[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

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
    const char *hit = c ? strchr(base64_digits, c) : NULL;

    return hit ? (int)(hit - base64_digits) : -1;
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

void http_date_print(int64_t wall_ns, char ret[HTTP_DATE_BYTES + 1])
{
    time_t seconds = wall_ns / (int64_t)NS_PER_SEC - (wall_ns % (int64_t)NS_PER_SEC < 0);
    char text[64];
    struct tm tm;

    gmtime_r(&seconds, &tm);
    snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", day_names[tm.tm_wday],
             tm.tm_mday, month_names[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
             tm.tm_sec);
    memcpy(ret, text, HTTP_DATE_BYTES);
    ret[HTTP_DATE_BYTES] = 0;
}

static int date_number(const char *at, unsigned digits)
{
    int v = 0;

    for (unsigned i = 0; i < digits; i++) {
        if (at[i] < '0' || at[i] > '9')
            return -1;
        v = v * 10 + (at[i] - '0');
    }
    return v;
}

static int month_index(const char *at)
{
    for (int i = 0; i < 12; i++)
        if (memcmp(at, month_names[i], 3) == 0)
            return i;
    return -1;
}

/* The weekday is not checked against the date: peers get it wrong and nothing rests on it. */
int http_date_parse(struct span s, int64_t *ret_ns)
{
    struct tm tm = {0};

    if (s.len != HTTP_DATE_BYTES || memcmp(s.base + 3, ", ", 2) || memcmp(s.base + 25, " GMT", 4) ||
        s.base[7] != ' ' || s.base[11] != ' ' || s.base[16] != ' ' || s.base[19] != ':' ||
        s.base[22] != ':')
        return -EINVAL;
    tm.tm_mday = date_number(s.base + 5, 2);
    tm.tm_mon = month_index(s.base + 8);
    tm.tm_year = date_number(s.base + 12, 4) - 1900;
    tm.tm_hour = date_number(s.base + 17, 2);
    tm.tm_min = date_number(s.base + 20, 2);
    tm.tm_sec = date_number(s.base + 23, 2);
    if (tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_mon < 0 || tm.tm_year < -300 || tm.tm_hour < 0 ||
        tm.tm_hour > 23 || tm.tm_min < 0 || tm.tm_min > 59 || tm.tm_sec < 0 || tm.tm_sec > 60)
        return -EINVAL;
    *ret_ns = (int64_t)timegm(&tm) * (int64_t)NS_PER_SEC;
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
