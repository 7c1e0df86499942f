/* upstream/credential.c - SharedKey (Blob service, 2015-02-21 and later) and SAS towards the cloud.
 *
 * String to sign: reference blob-api-surface.md section 2. The service sorts x-ms-* names as .NET's
 * culture compare does; so do we, else metadata such as a_b beside ab is refused. */
#include "upstream/credential.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/text.h"

#define SECRET_BYTES_MAX 4096

struct credential {
    const struct account *account;
    struct span user;              /* whose key */
    char secret[SECRET_BYTES_MAX]; /* key decoded, or SAS without '?' */
    size_t secret_bytes;
    unsigned generation; /* of the secret: counts changes */
    struct stat seen;    /* of secret_file when it was last read */
};

/* ---- string to sign ---- */

struct text {
    struct arena *arena;
    char *base;
    size_t len, room;
};

static void text_add(struct text *text, struct span s)
{
    if (text->len + s.len > text->room) {
        size_t room = MAX(1024, (text->len + s.len) * 2);

        text->base = arena_grow(text->arena, text->base, text->room, room);
        text->room = room;
    }
    if (s.len)
        memcpy(text->base + text->len, s.base, s.len);
    text->len += s.len;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
}

static void text_add_lower(struct text *text, struct span s)
{
    text_add(text, s);
    for (size_t i = text->len - s.len; i < text->len; i++)
        text->base[i] = lower(text->base[i]);
}

/* Sort weight: hyphens count only when all else is equal, '_' stands before digits, those before
 * letters. */
static int weight(char c)
{
    c = lower(c);
    if (c == '-')
        return 0;
    if (c == '_')
        return 1;
    return c >= '0' && c <= '9' ? 2 + c - '0' : 100 + (unsigned char)c;
}

static int compare_hyphens(struct span a,
                           struct span b) /* the one whose hyphen stands later is first */
{
    for (size_t i = 0; i < a.len && i < b.len; i++)
        if ((a.base[i] == '-') != (b.base[i] == '-'))
            return a.base[i] == '-' ? 1 : -1;
    return 0;
}

static int compare_names(struct span a, struct span b)
{
    size_t i = 0, k = 0;

    for (;;) {
        while (i < a.len && !weight(a.base[i]))
            i++;
        while (k < b.len && !weight(b.base[k]))
            k++;
        if (i == a.len || k == b.len)
            break;
        if (weight(a.base[i]) != weight(b.base[k]))
            return weight(a.base[i]) - weight(b.base[k]);
        i++;
        k++;
    }
    if (i < a.len || k < b.len)
        return i < a.len ? 1 : -1;
    return compare_hyphens(a, b);
}

static int compare_headers(const void *a, const void *b)
{
    return compare_names(((const struct pair *)a)->name, ((const struct pair *)b)->name);
}

static int compare_query(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    int c = span_cmp(x->name, y->name);

    return c ? c : span_cmp(x->value, y->value);
}

static bool is_ms_header(struct span name)
{
    return name.len > 5 && span_eq_nocase((struct span){name.base, 5}, SPAN("x-ms-"));
}

static void add_canonical_headers(struct text *text, const struct signable *what)
{
    struct pair *sorted = arena_alloc(text->arena, (what->header_count + 1) * sizeof(*sorted));
    unsigned n = 0;

    for (unsigned i = 0; i < what->header_count; i++)
        if (is_ms_header(what->headers[i].name))
            sorted[n++] = what->headers[i];
    qsort(sorted, n, sizeof(*sorted), compare_headers);
    for (unsigned i = 0; i < n; i++) {
        text_add_lower(text, sorted[i].name);
        text_add(text, SPAN(":"));
        text_add(text, span_trim(sorted[i].value));
        text_add(text, SPAN("\n"));
    }
}

static struct span lower_copy(struct arena *arena, struct span s)
{
    char *copy = arena_alloc(arena, s.len + 1);

    for (size_t i = 0; i < s.len; i++)
        copy[i] = lower(s.base[i]);
    return span_from(copy, s.len);
}

static void add_canonical_resource(struct text *text, struct span account,
                                   const struct signable *what)
{
    struct pair *sorted = arena_alloc(text->arena, (what->query_count + 1) * sizeof(*sorted));

    text_add(text, SPAN("/"));
    text_add(text, account);
    text_add(text, what->path.len ? what->path : SPAN("/"));
    for (unsigned i = 0; i < what->query_count; i++) /* startFrom is signed as startfrom */
        sorted[i] =
            (struct pair){lower_copy(text->arena, what->query[i].name), what->query[i].value};
    qsort(sorted, what->query_count, sizeof(*sorted), compare_query);
    for (unsigned i = 0; i < what->query_count; i++) {
        bool repeated = i && span_eq(sorted[i].name, sorted[i - 1].name);

        text_add(text, repeated ? SPAN(",") : SPAN("\n"));
        if (!repeated) {
            text_add(text, sorted[i].name);
            text_add(text, SPAN(":"));
        }
        text_add(text, sorted[i].value);
    }
}

static struct span header_of(const struct signable *what, struct span name)
{
    for (unsigned i = 0; i < what->header_count; i++)
        if (span_eq_nocase(what->headers[i].name, name))
            return span_trim(what->headers[i].value);
    return (struct span){NULL, 0};
}

static struct text string_to_sign(struct arena *arena, struct span account,
                                  const struct signable *what)
{
    static const char *const before_length[] = {"content-encoding", "content-language"};
    static const char *const after_length[] = {
        "content-md5",   "content-type",        "date", "if-modified-since", "if-match",
        "if-none-match", "if-unmodified-since", "range"};
    struct text text = {.arena = arena};

    text_add(&text, what->method);
    text_add(&text, SPAN("\n"));
    for (unsigned i = 0; i < countof(before_length); i++) {
        text_add(&text, header_of(what, span_of(before_length[i])));
        text_add(&text, SPAN("\n"));
    }
    if (what->body_bytes)
        text_add(&text, arena_printf(arena, "%llu", (unsigned long long)what->body_bytes));
    text_add(&text, SPAN("\n"));
    for (unsigned i = 0; i < countof(after_length); i++) {
        text_add(&text, header_of(what, span_of(after_length[i])));
        text_add(&text, SPAN("\n"));
    }
    add_canonical_headers(&text, what);
    add_canonical_resource(&text, account, what);
    return text;
}

struct span shared_key_sign(struct arena *arena, struct span account, struct span key,
                            const struct signable *what)
{
    struct text text = string_to_sign(arena, account, what);
    unsigned char mac[SHA256_BYTES];
    char encoded[BASE64_BYTES(SHA256_BYTES) + 1];

    hmac_sha256(key, span_from(text.base, text.len), mac);
    encoded[base64_encode(span_from(mac, sizeof(mac)), encoded)] = 0;
    return arena_printf(arena, "SharedKey %.*s:%s", SPAN_FMT(account), encoded);
}

/* ---- where the secret comes from ---- */

static void credential_set(struct credential *credential, struct span secret)
{
    credential->secret_bytes = MIN(secret.len, sizeof(credential->secret));
    memcpy(credential->secret, secret.base, credential->secret_bytes);
}

static struct span trim_text(struct span s) /* white space and a SAS's '?' around it */
{
    while (s.len && strchr(" \t\r\n", s.base[s.len - 1]))
        s.len--;
    while (s.len && strchr(" \t\r\n?", s.base[0]))
        s = span_skip(s, 1);
    return s;
}

/* A file caught half-written fails to decode (or is refused once more) and is read again next time.
 */
static bool credential_take(struct credential *credential, struct span text)
{
    char key[SECRET_BYTES_MAX];
    size_t n = 0;

    text = trim_text(text);
    if (!text.len)
        return false;
    if (credential->account->upstream.auth == UPSTREAM_SHARED_KEY) {
        if (base64_decode(text, key, &n))
            return false;
        text = span_from(key, n);
    }
    if (span_eq(text, span_from(credential->secret, credential->secret_bytes)))
        return false;
    credential_set(credential, text);
    credential->generation++;
    explicit_bzero(key, sizeof(key));
    return true;
}

bool credential_refresh(struct credential *credential)
{
    _cleanup_(freep) char *path = NULL;
    _cleanup_(fd_close) int fd = -1;
    char text[SECRET_BYTES_MAX];
    struct stat now;
    bool changed = false;
    ssize_t n;

    if (!credential->account->upstream.secret_file.len)
        return false;
    path = xasprintf("%.*s", SPAN_FMT(credential->account->upstream.secret_file));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &now) < 0)
        return false; /* the secret we have may still do; the refusal that led here is reported */
    if (now.st_ino == credential->seen.st_ino && now.st_size == credential->seen.st_size &&
        now.st_mtim.tv_sec == credential->seen.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == credential->seen.st_mtim.tv_nsec)
        return false;
    credential->seen = now;
    n = read(fd, text, sizeof(text));
    if (n > 0)
        changed = credential_take(credential, span_from(text, (size_t)n));
    explicit_bzero(text, sizeof(text));
    if (changed)
        log_info("credential of the cloud read again",
                 KV_SPAN("account", credential->account->name));
    return changed;
}

struct credential *credential_new(const struct account *account)
{
    struct credential *credential = xcalloc(1, sizeof(*credential));
    bool sas = account->upstream.auth == UPSTREAM_SAS;

    credential->account = account;
    credential->user = account->upstream.account.len ? account->upstream.account : account->name;
    credential_set(credential, sas ? trim_text(account->upstream.sas) : account->upstream.key);
    return credential;
}

struct credential *credential_free(struct credential *credential)
{
    if (credential)
        explicit_bzero(credential, sizeof(*credential));
    free(credential);
    return NULL;
}

unsigned credential_generation(const struct credential *credential)
{
    return credential->generation;
}

struct span credential_sas(const struct credential *credential)
{
    if (credential->account->upstream.auth != UPSTREAM_SAS)
        return (struct span){NULL, 0};
    return span_from(credential->secret, credential->secret_bytes);
}

struct span credential_sign(const struct credential *credential, struct arena *arena,
                            const struct signable *what)
{
    if (credential->account->upstream.auth == UPSTREAM_SAS)
        return (struct span){NULL, 0};
    return shared_key_sign(arena, credential->user,
                           span_from(credential->secret, credential->secret_bytes), what);
}
