/* blobapi/delegation.c - user delegation keys: the box's own, derived from a secret and their name,
 * and Azure's, from a file.
 *
 * Own keys are HMAC-SHA256(secret, name): the same each time, so they need no storage, survive a
 * restart and verify with the WAN down. Times enter as seconds, since SDKs write them anew.
 * File: one key a line, `account oid tid start expiry service version value [delegated-tid]`: the
 * account it was got from, then the fields of Azure's answer to Get User Delegation Key. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/text.h"
#include "blobapi/identity_internal.h"

#define SECRET_FILE  "delegation.secret"
#define SECRET_BYTES 32
#define KEYS_MAX     4096
#define KEY_LINE_MIN 32 /* two dates and six words */

struct known_key {
    struct span account;
    struct delegation name;
    unsigned char value[DELEGATION_KEY_BYTES_MAX];
    size_t value_len;
};
struct known_keys {
    struct arena *arena;
    struct known_key *at;
    size_t count, room;
};

/* ---- Azure's ---- */

static int time_word(struct span text, int64_t *ret_s)
{
    int64_t ns;

    if (iso8601_parse(text, &ns) < 0)
        return -EBADMSG;
    *ret_s = ns / (int64_t)NS_PER_SEC;
    return 0;
}

static int key_line(struct span line, struct arena *arena, struct known_key *ret)
{
    struct delegation *name = &ret->name;
    struct span value;

    ret->account = arena_copy(arena, word_next(&line));
    name->oid = arena_copy(arena, word_next(&line));
    name->tenant = arena_copy(arena, word_next(&line));
    if (time_word(word_next(&line), &name->start_s) < 0 ||
        time_word(word_next(&line), &name->expiry_s) < 0)
        return -EBADMSG;
    name->service = arena_copy(arena, word_next(&line));
    name->version = arena_copy(arena, word_next(&line));
    value = word_next(&line);
    name->delegated_tenant = arena_copy(arena, word_next(&line));
    if (!value.len || value.len > BASE64_BYTES(DELEGATION_KEY_BYTES_MAX - 2) || line.len ||
        base64_decode(value, ret->value, &ret->value_len) < 0)
        return -EBADMSG;
    return 0;
}

void delegation_keys_drop(void *value)
{
    struct known_keys *keys = value;

    if (!keys)
        return;
    explicit_bzero(keys->at, keys->room * sizeof(*keys->at));
    free(keys->at);
    arena_free(keys->arena);
    free(keys);
}

int delegation_keys_parse(struct span text, void **ret)
{
    struct known_keys *keys = xcalloc(1, sizeof(*keys));
    struct span line;
    int err = 0;

    keys->arena = arena_new();
    keys->room = MIN(text.len / KEY_LINE_MIN, KEYS_MAX) + 1;
    keys->at = xcalloc(keys->room, sizeof(*keys->at));
    while (err == 0 && line_next(&text, &line)) {
        err =
            keys->count < keys->room ? key_line(line, keys->arena, &keys->at[keys->count]) : -EFBIG;
        keys->count += err == 0;
    }
    if (err < 0)
        delegation_keys_drop(keys);
    else
        *ret = keys;
    return err;
}

static bool name_eq(const struct delegation *a, const struct delegation *b)
{
    return span_eq_nocase(a->oid, b->oid) && span_eq_nocase(a->tenant, b->tenant) &&
           a->start_s == b->start_s && a->expiry_s == b->expiry_s &&
           span_eq(a->service, b->service) && span_eq(a->version, b->version) &&
           span_eq_nocase(a->delegated_tenant, b->delegated_tenant);
}

static bool key_from_file(struct identity *identity, const struct account *account,
                          const struct delegation *name,
                          unsigned char ret[DELEGATION_KEY_BYTES_MAX], size_t *ret_len)
{
    const struct known_keys *keys = watched_hold(&identity->delegation_keys);
    bool found = false;

    for (size_t i = 0; keys && i < keys->count && !found; i++)
        if (span_eq(keys->at[i].account, account->name) && name_eq(&keys->at[i].name, name)) {
            memcpy(ret, keys->at[i].value, keys->at[i].value_len);
            *ret_len = keys->at[i].value_len;
            found = true;
        }
    watched_release(&identity->delegation_keys);
    return found;
}

/* ---- the box's own ---- */

static void lower_in_place(struct span text)
{
    char *at = (char *)text.base;

    for (size_t i = 0; i < text.len; i++)
        if (at[i] >= 'A' && at[i] <= 'Z')
            at[i] = (char)(at[i] | 32);
}

void delegation_derive(const struct identity *identity, const struct account *account,
                       const struct delegation *name, unsigned char ret[32])
{
    struct arena *arena = arena_new();
    struct span text = arena_printf(
        arena, "hearth user delegation key 1\n%.*s\n%.*s\n%.*s\n%lld\n%lld\n%.*s\n%.*s\n%.*s",
        SPAN_FMT(account->name), SPAN_FMT(name->oid), SPAN_FMT(name->tenant),
        (long long)name->start_s, (long long)name->expiry_s, SPAN_FMT(name->service),
        SPAN_FMT(name->version), SPAN_FMT(name->delegated_tenant));

    lower_in_place(text);
    hmac_sha256(span_from(identity->secret, identity->secret_bytes), text, ret);
    arena_free(arena);
}

static bool field_fits(struct span text) /* no line ends: names must not run into one another */
{
    return text.len <= 128 && !(text.len && memchr(text.base, '\n', text.len));
}

bool delegation_key(struct identity *identity, const struct account *account,
                    const struct delegation *name, unsigned char ret[DELEGATION_KEY_BYTES_MAX],
                    size_t *ret_len)
{
    if (key_from_file(identity, account, name, ret, ret_len))
        return true;
    if (!identity->secret_bytes || !field_fits(name->oid) || !field_fits(name->tenant) ||
        !field_fits(name->service) || !field_fits(name->version) ||
        !field_fits(name->delegated_tenant))
        return false;
    delegation_derive(identity, account, name, ret);
    *ret_len = SHA256_BYTES;
    return true;
}

/* ---- the secret ---- */

static int secret_read(struct identity *identity, const char *path)
{
    _cleanup_(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (st.st_mode & 077)
        return -EACCES;
    if (read(fd, identity->secret, SECRET_BYTES) != SECRET_BYTES || st.st_size != SECRET_BYTES)
        return -EBADMSG;
    identity->secret_bytes = SECRET_BYTES;
    return 0;
}

/* Whole and durable under its name before a key made of it is given out. */
static int secret_make(const char *folder, const char *path)
{
    _cleanup_(freep) char *made = xasprintf("%s.new", path);
    _cleanup_(fd_close) int fd = open(made, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    _cleanup_(fd_close) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned char secret[SECRET_BYTES];
    ssize_t n;

    if (fd < 0 || dir < 0 || fchmod(fd, 0600) < 0)
        return -errno;
    random_fill(secret, sizeof(secret));
    n = write(fd, secret, sizeof(secret));
    explicit_bzero(secret, sizeof(secret));
    if (n != SECRET_BYTES)
        return n < 0 ? -errno : -ENOSPC;
    return fsync(fd) < 0 || rename(made, path) < 0 || fsync(dir) < 0 ? -errno : 0;
}

int delegation_secret_open(struct identity *identity, char **why)
{
    const struct identity_conf *conf = identity->conf;
    _cleanup_(freep) char *path = xasprintf("%s/" SECRET_FILE, conf->data ? conf->data : ".");
    int err;

    if (conf->delegation_secret.len) {
        if (conf->delegation_secret.len < SECRET_BYTES) {
            *why = xasprintf("delegation_secret has fewer than %d bytes", SECRET_BYTES);
            return -EINVAL;
        }
        hmac_sha256(conf->delegation_secret, SPAN("hearth delegation secret"), identity->secret);
        identity->secret_bytes = SHA256_BYTES;
        return 0;
    }
    err = secret_read(identity, path);
    if (err == -ENOENT) {
        err = secret_make(conf->data ? conf->data : ".", path);
        if (err == 0)
            err = secret_read(identity, path);
    }
    if (err < 0)
        *why = xasprintf("%s: %s (it must be 32 bytes that only its owner can read)", path,
                         strerror(-err));
    return err;
}
