/* server/config_value.c - values of appliance.conf: grammar and ranges. Pure but for config_secret.
 */
#include "server/config_value.h"

#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/text.h"

#define SECRET_BYTES_MAX 16384

#define CONF(section, key, kind, fallback, allowed, example, help)                                 \
    {CONFIG_##section, #key, CONFIG_##kind, fallback, allowed, example, help},
const struct config_row config_rows[] = {
#include "server/config.def"
};
#undef CONF
const unsigned config_row_count = countof(config_rows);

struct unit {
    const char *name;
    uint64_t factor;
};

static int parse_with_unit(const char *text, const struct unit *units, uint64_t *ret)
{
    char *end;
    unsigned long long n;
    uint64_t value;

    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno)
        return -EINVAL;
    while (*end == ' ')
        end++;
    for (; units->name; units++)
        if (strcasecmp(end, units->name) == 0) {
            if (__builtin_mul_overflow(n, units->factor, &value))
                return -EINVAL;
            *ret = value;
            return 0;
        }
    return -EINVAL;
}

int config_parse_size(const char *text, uint64_t *ret)
{
    static const struct unit units[] = {
        {"", 1},         {"B", 1},           {"KiB", KIB(1)},       {"MiB", MIB(1)},
        {"GiB", GIB(1)}, {"TiB", GIB(1024)}, {"PiB", GIB(1 << 20)}, {"K", KIB(1)},
        {"M", MIB(1)},   {"G", GIB(1)},      {"T", GIB(1024)},      {"kB", 1000},
        {"MB", 1000000}, {"GB", 1000000000}, {"TB", 1000000000000}, {NULL, 0},
    };

    return parse_with_unit(text, units, ret);
}

int config_parse_duration(const char *text, uint64_t *ret_ns)
{
    static const struct unit units[] = {
        {"ms", NS_PER_MS},        {"s", NS_PER_SEC},         {"m", 60 * NS_PER_SEC},
        {"h", 3600 * NS_PER_SEC}, {"d", 86400 * NS_PER_SEC}, {NULL, 0},
    };

    return parse_with_unit(text, units, ret_ns);
}

int config_parse_fresh(const char *text, enum contract_fresh *ret, uint64_t *ret_ns)
{
    static const struct {
        const char *word;
        enum contract_fresh fresh;
    } words[] = {
        {"strict", FRESH_STRICT}, {"immutable", FRESH_IMMUTABLE}, {"exclusive", FRESH_EXCLUSIVE}};

    for (unsigned i = 0; i < countof(words); i++)
        if (strcmp(text, words[i].word) == 0) {
            *ret = words[i].fresh;
            *ret_ns = 0;
            return 0;
        }
    if (strncmp(text, "bounded ", 8) != 0 || config_parse_duration(text + 8, ret_ns) < 0)
        return -EINVAL;
    *ret = FRESH_BOUNDED;
    return 0;
}

int config_choice(const char *allowed, const char *value, bool *served)
{
    struct span rest = span_of(allowed), want = span_of(value);

    for (int i = 0; rest.base; i++) {
        struct span word = span_cut(rest, '|', &rest);
        bool is_served = word.len == 0 || word.base[0] != '!';

        if (span_eq(is_served ? word : span_skip(word, 1), want)) {
            *served = is_served;
            return i;
        }
    }
    return -EINVAL;
}

static char *not_served(const struct config_row *row, const char *value)
{
    return xasprintf("%s = %s is not served yet by this version", row->key, value);
}

static char *check_choice(const struct config_row *row, const char *value)
{
    char words[256], *to = words;
    bool served;

    if (config_choice(row->allowed, value, &served) >= 0)
        return served ? NULL : not_served(row, value);
    for (const char *from = row->allowed; *from && to < words + sizeof(words) - 4; from++)
        if (*from == '|')
            to = stpcpy(to, ", ");
        else if (*from != '!')
            *to++ = *from;
    *to = 0;
    return xasprintf("%s = %s: must be one of %s", row->key, value, words);
}

static int parse_number(enum config_kind kind, const char *text, uint64_t *ret)
{
    switch (kind) {
    case CONFIG_SIZE:
        return config_parse_size(text, ret);
    case CONFIG_DURATION:
        return config_parse_duration(text, ret);
    default:
        return span_to_u64(span_of(text), ret);
    }
}

static char *check_number(const struct config_row *row, const char *value)
{
    static const char *const forms[] = {[CONFIG_SIZE] = "a size such as 64GiB",
                                        [CONFIG_DURATION] =
                                            "a time such as 50ms, 60s, 5m, 1h or 7d",
                                        [CONFIG_COUNT] = "a number"};
    uint64_t v, min, max;
    char low[32];
    const char *dots = strstr(row->allowed, "..");

    if (parse_number(row->kind, value, &v) < 0)
        return xasprintf("%s = %s: must be %s", row->key, value, forms[row->kind]);
    if (!dots)
        return NULL;
    snprintf(low, sizeof(low), "%.*s", (int)(dots - row->allowed), row->allowed);
    if (parse_number(row->kind, low, &min) < 0 || parse_number(row->kind, dots + 2, &max) < 0)
        abort(); /* config.def is wrong: test_config walks it */
    if (v < min || v > max)
        return xasprintf("%s = %s: must be from %s to %s", row->key, value, low, dots + 2);
    return NULL;
}

static char *check_address(const struct config_row *row, const char *value)
{
    const char *colon = strrchr(value, ':');
    uint64_t port;

    if (!colon || colon == value || span_to_u64(span_of(colon + 1), &port) < 0 || port > 65535)
        return xasprintf("%s = %s: must be host:port, for example %s", row->key, value,
                         row->example);
    return NULL;
}

static char *check_fresh(const struct config_row *row, const char *value)
{
    enum contract_fresh fresh;
    uint64_t ns;

    if (config_parse_fresh(value, &fresh, &ns) < 0)
        return xasprintf("%s = %s: must be \"bounded TIME\", immutable, strict or exclusive",
                         row->key, value);
    return fresh == FRESH_STRICT || fresh == FRESH_EXCLUSIVE ? not_served(row, value) : NULL;
}

char *config_value_check(const struct config_row *row, const char *value)
{
    if (strcmp(row->allowed, "!") == 0 && strcmp(value, row->fallback) != 0)
        return not_served(row, value);
    switch (row->kind) {
    case CONFIG_SIZE:
    case CONFIG_DURATION:
    case CONFIG_COUNT:
        return check_number(row, value);
    case CONFIG_CHOICE:
        return check_choice(row, value);
    case CONFIG_ADDRESS:
        return check_address(row, value);
    case CONFIG_BOOL:
        if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
            return xasprintf("%s = %s: must be yes or no", row->key, value);
        return NULL;
    default:
        return strcmp(row->key, "fresh") == 0 ? check_fresh(row, value) : NULL;
    }
}

static int secret_read(const char *path, char *text, size_t bytes, char **why)
{
    _cleanup_(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    ssize_t n;

    if (fd < 0 || fstat(fd, &st) < 0) {
        *why = xasprintf("cannot read %s: %s", path, strerror(errno));
        return -errno;
    }
    if (st.st_mode & 077) {
        *why = xasprintf("%s holds a secret and others can read it: chmod 600 %s", path, path);
        return -EACCES;
    }
    n = read(fd, text, bytes - 1);
    if (n <= 0) {
        *why = xasprintf("%s is empty or cannot be read", path);
        return -EINVAL;
    }
    if (n == (ssize_t)bytes - 1) {
        *why = xasprintf("%s is too long for a secret", path);
        return -EFBIG;
    }
    text[n] = 0;
    return 0;
}

int config_secret(struct arena *arena, const char *value, bool base64, struct span *ret, char **why)
{
    char text[SECRET_BYTES_MAX];
    unsigned char *bytes;
    size_t len;

    if (strncmp(value, "file:", 5) == 0) {
        int err = secret_read(value + 5, text, sizeof(text), why);

        if (err < 0)
            return err;
    } else {
        snprintf(text, sizeof(text), "%s", value);
    }
    len = strlen(text);
    while (len && isspace((unsigned char)text[len - 1]))
        text[--len] = 0;
    if (!base64) {
        *ret = arena_copy(arena, (struct span){text, len});
        return 0;
    }
    bytes = arena_alloc(arena, len + 1);
    if (base64_decode((struct span){text, len}, bytes, &len) < 0 || len == 0) {
        *why = xasprintf("the key is not base64");
        return -EINVAL;
    }
    *ret = span_from(bytes, len);
    return 0;
}
