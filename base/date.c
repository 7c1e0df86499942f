/* base/date.c - see date.h. Own arithmetic on the proleptic Gregorian calendar: timegm, strptime
 * and gmtime depend on locale or take the 31st of November, and printf shows in a profile of small
 * reads. */
#include "base/date.h"

#include "base/clock.h"
#include "base/util.h"

#define YEAR_MIN 1677
#define YEAR_MAX 2262

struct civil {
    int64_t year;
    unsigned month, day, hour, minute, second; /* month and day from 1 */
};

static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char day_names[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */

/* Days since 1970-01-01; years are counted from March so that the leap day comes last. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static struct civil civil_from_seconds(int64_t seconds)
{
    int64_t days = seconds / 86400 - (seconds % 86400 < 0);
    unsigned in_day = (unsigned)(seconds - days * 86400);
    int64_t z = days + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);

    return (struct civil){.year = yoe + era * 400 + (month <= 2),
                          .month = month,
                          .day = (unsigned)(doy - (153 * mp + 2) / 5 + 1),
                          .hour = in_day / 3600,
                          .minute = in_day / 60 % 60,
                          .second = in_day % 60};
}

static bool civil_valid(const struct civil *c)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = c->year % 4 == 0 && (c->year % 100 != 0 || c->year % 400 == 0);

    return c->month >= 1 && c->month <= 12 && c->day >= 1 &&
           c->day <= days[c->month - 1] + (unsigned)(c->month == 2 && leap) && c->hour < 24 &&
           c->minute < 60 && c->second < 60;
}

static int64_t civil_seconds(const struct civil *c)
{
    return days_from_civil(c->year, c->month, c->day) * 86400 + c->hour * 3600 + c->minute * 60 +
           c->second;
}

/* 64 bits of nanoseconds reach 292 years from 1970; what is outside is clamped: "9999-12-31" is a
 * common way to say never. */
static int64_t civil_ns(const struct civil *c, int64_t zone_seconds)
{
    if (c->year >= YEAR_MAX)
        return INT64_MAX;
    if (c->year <= YEAR_MIN)
        return INT64_MIN;
    return (civil_seconds(c) - zone_seconds) * (int64_t)NS_PER_SEC;
}

static int64_t seconds_of(int64_t ns) /* rounded down */
{
    return ns / (int64_t)NS_PER_SEC - (ns % (int64_t)NS_PER_SEC < 0);
}

static char *put_digits(char *at, unsigned digits, uint64_t value)
{
    for (unsigned i = digits; i > 0; i--, value /= 10)
        at[i - 1] = (char)('0' + value % 10);
    return at + digits;
}

static char *put_text(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

/* Exactly `digits` digits at the head of *s, which moves on. */
static bool take_digits(struct span *s, unsigned digits, unsigned *ret)
{
    unsigned value = 0;

    if (s->len < digits)
        return false;
    for (unsigned i = 0; i < digits; i++) {
        if (s->base[i] < '0' || s->base[i] > '9')
            return false;
        value = value * 10 + (unsigned)(s->base[i] - '0');
    }
    *s = span_skip(*s, digits);
    *ret = value;
    return true;
}

static bool take(struct span *s, struct span literal)
{
    if (!span_starts(*s, literal))
        return false;
    *s = span_skip(*s, literal.len);
    return true;
}

/* A name of three letters out of a run of such names; *ret counts from 0. */
static bool take_name(struct span *s, const char *names, unsigned count, unsigned *ret)
{
    for (unsigned i = 0; s->len >= 3 && i < count; i++)
        if (memcmp(s->base, names + 3 * i, 3) == 0) {
            *s = span_skip(*s, 3);
            *ret = i;
            return true;
        }
    return false;
}

void http_date_print(int64_t wall_ns, char ret[HTTP_DATE_BYTES + 1])
{
    int64_t seconds = seconds_of(wall_ns), days = seconds / 86400 - (seconds % 86400 < 0);
    struct civil c = civil_from_seconds(seconds);
    char *at = put_text(ret, day_names + 3 * ((days % 7 + 7) % 7), 3);

    at = put_digits(put_text(at, ", ", 2), 2, c.day);
    at = put_text(put_text(at, " ", 1), month_names + 3 * (c.month - 1), 3);
    at = put_digits(put_text(at, " ", 1), 4, (uint64_t)c.year);
    at = put_digits(put_text(at, " ", 1), 2, c.hour);
    at = put_digits(put_text(at, ":", 1), 2, c.minute);
    at = put_digits(put_text(at, ":", 1), 2, c.second);
    memcpy(at, " GMT", 5);
}

int http_date_parse(struct span text, int64_t *ret_ns)
{
    struct civil c;
    unsigned weekday, year;

    if (!take_name(&text, day_names, 7, &weekday) || !take(&text, SPAN(", ")) ||
        !take_digits(&text, 2, &c.day) || !take(&text, SPAN(" ")) ||
        !take_name(&text, month_names, 12, &c.month) || !take(&text, SPAN(" ")) ||
        !take_digits(&text, 4, &year) || !take(&text, SPAN(" ")) ||
        !take_digits(&text, 2, &c.hour) || !take(&text, SPAN(":")) ||
        !take_digits(&text, 2, &c.minute) || !take(&text, SPAN(":")) ||
        !take_digits(&text, 2, &c.second) || !span_eq(text, SPAN(" GMT")))
        return -EINVAL;
    c.month++;
    c.year = year;
    if (!civil_valid(&c))
        return -EINVAL;
    *ret_ns = civil_ns(&c, 0);
    return 0;
}

void iso8601_print(int64_t wall_ns, char ret[ISO8601_BYTES + 1])
{
    int64_t seconds = seconds_of(wall_ns);
    struct civil c = civil_from_seconds(seconds);
    char *at = put_digits(ret, 4, (uint64_t)c.year);

    at = put_digits(put_text(at, "-", 1), 2, c.month);
    at = put_digits(put_text(at, "-", 1), 2, c.day);
    at = put_digits(put_text(at, "T", 1), 2, c.hour);
    at = put_digits(put_text(at, ":", 1), 2, c.minute);
    at = put_digits(put_text(at, ":", 1), 2, c.second);
    at = put_digits(put_text(at, ".", 1), 7,
                    (uint64_t)(wall_ns - seconds * (int64_t)NS_PER_SEC) / 100);
    memcpy(at, "Z", 2);
}

/* ".f" of 1 to 9 digits, or nothing. */
static bool take_fraction(struct span *s, int64_t *ret_ns)
{
    int64_t ns = 0;
    unsigned digits = 0, digit;

    if (take(s, SPAN("."))) {
        for (; digits < 9 && take_digits(s, 1, &digit); digits++)
            ns = ns * 10 + digit;
        if (digits == 0)
            return false;
        for (; digits < 9; digits++)
            ns *= 10;
    }
    *ret_ns = ns;
    return true;
}

/* "Z" or "+hh:mm", and nothing after it. */
static bool take_zone(struct span *s, int64_t *ret_seconds)
{
    unsigned hours, minutes;
    int64_t sign;

    if (span_eq(*s, SPAN("Z"))) {
        *ret_seconds = 0;
        return true;
    }
    sign = take(s, SPAN("+")) ? 1 : take(s, SPAN("-")) ? -1 : 0;
    if (!sign || !take_digits(s, 2, &hours) || !take(s, SPAN(":")) ||
        !take_digits(s, 2, &minutes) || s->len || hours > 14 || minutes > 59)
        return false;
    *ret_seconds = sign * (int64_t)(hours * 3600 + minutes * 60);
    return true;
}

int iso8601_parse(struct span text, int64_t *ret_ns)
{
    struct civil c = {0};
    int64_t ns = 0, zone = 0;
    unsigned year;

    if (!take_digits(&text, 4, &year) || !take(&text, SPAN("-")) ||
        !take_digits(&text, 2, &c.month) || !take(&text, SPAN("-")) ||
        !take_digits(&text, 2, &c.day))
        return -EINVAL;
    if (text.len) {
        if (!take(&text, SPAN("T")) || !take_digits(&text, 2, &c.hour) || !take(&text, SPAN(":")) ||
            !take_digits(&text, 2, &c.minute))
            return -EINVAL;
        if (take(&text, SPAN(":")) &&
            (!take_digits(&text, 2, &c.second) || !take_fraction(&text, &ns)))
            return -EINVAL;
        if (!take_zone(&text, &zone))
            return -EINVAL;
    }
    c.year = year;
    if (!civil_valid(&c))
        return -EINVAL;
    *ret_ns = civil_ns(&c, zone) + (c.year > YEAR_MIN && c.year < YEAR_MAX ? ns : 0);
    return 0;
}

int iso8601_ticks_parse(struct span text, uint64_t *ret)
{
    int64_t ns;

    if (text.len != ISO8601_BYTES || text.base[ISO8601_BYTES - 1] != 'Z' ||
        iso8601_parse(text, &ns) < 0 || ns <= 0 || ns == INT64_MAX)
        return -EINVAL;
    *ret = (uint64_t)ns / ISO8601_TICK_NS;
    return 0;
}
