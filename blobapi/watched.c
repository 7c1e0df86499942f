/* blobapi/watched.c - see watched.h. */
#include "blobapi/watched.h"

#include <fcntl.h>
#include <openssl/crypto.h>

#include "base/log.h"

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_mode == b->st_mode;
}

static ssize_t read_whole(int fd, char *text, size_t room)
{
    size_t used = 0;
    ssize_t n = 0;

    while (used < room && (n = read(fd, text + used, room - used)) > 0)
        used += (size_t)n;
    return n < 0 ? -errno : (ssize_t)used;
}

static int value_read(struct watched *w, void **ret, struct stat *ret_seen)
{
    _cleanup_(fd_close) int fd = open(w->path, O_RDONLY | O_CLOEXEC);
    char *text;
    ssize_t n;
    int err;

    if (fd < 0 || fstat(fd, ret_seen) < 0)
        return -errno;
    if (ret_seen->st_mode & (w->secret ? 077 : S_IWOTH))
        return -EACCES;
    text = xmalloc(w->bytes_max + 1);
    n = read_whole(fd, text, w->bytes_max + 1);
    if (n >= 0 && (size_t)n > w->bytes_max)
        n = -EFBIG;
    err = n < 0 ? (int)n : w->parse(span_from(text, (size_t)n), ret);
    OPENSSL_cleanse(text, n > 0 ? (size_t)n : 0);
    free(text);
    return err;
}

/* It will be refused until it changes; anything else (no descriptor left, the moment between two
 * renames) may be over at the next look, and a revocation must not be lost to it. */
static bool is_final(int err)
{
    return err == -EBADMSG || err == -EFBIG || err == -EACCES;
}

static void value_renew(struct watched *w, const struct stat *now)
{
    struct stat seen = *now;
    void *value = NULL;
    int err = 0;

    pthread_rwlock_wrlock(&w->lock);
    if (!same_file(now, &w->seen)) {
        err = value_read(w, &value, &seen);
        if (err == 0 || is_final(err))
            w->seen = seen;
        if (err == 0) {
            w->drop(w->value);
            w->value = value;
            w->generation++;
            log_info("file read again", KV_STR("path", w->path));
        }
    }
    pthread_rwlock_unlock(&w->lock);
    if (err < 0)
        log_warn_limited("a changed file cannot be used; what it said before still counts",
                         KV_STR("path", w->path), KV_ERR(err));
}

int watched_open(struct watched *w, char **why)
{
    int err;

    pthread_rwlock_init(&w->lock, NULL);
    w->opened = true;
    if (!w->path)
        return 0;
    err = value_read(w, &w->value, &w->seen);
    if (err == -EACCES && w->secret)
        *why = xasprintf("%s holds secrets: it must be readable by its owner only (chmod 600)",
                         w->path);
    else if (err == -EACCES)
        *why = xasprintf("cannot read %s, or anybody may write it (chmod o-w)", w->path);
    else if (err == -EBADMSG)
        *why = xasprintf("%s cannot be understood", w->path);
    else if (err < 0)
        *why = xasprintf("cannot read %s: %s", w->path, strerror(-err));
    return err;
}

void watched_close(struct watched *w)
{
    if (w->opened)
        pthread_rwlock_destroy(&w->lock);
    if (w->drop)
        w->drop(w->value);
    free(w->path);
    w->opened = false;
    w->path = NULL;
    w->value = NULL;
}

const void *watched_hold(struct watched *w)
{
    struct stat now;
    bool same;

    if (!w->path) {
        pthread_rwlock_rdlock(&w->lock);
        return NULL;
    }
    if (stat(w->path, &now) == 0) { /* gone for a moment, or for good: what was known counts */
        pthread_rwlock_rdlock(&w->lock);
        same = same_file(&now, &w->seen);
        pthread_rwlock_unlock(&w->lock);
        if (!same)
            value_renew(w, &now);
    }
    pthread_rwlock_rdlock(&w->lock);
    return w->value;
}

void watched_release(struct watched *w)
{
    pthread_rwlock_unlock(&w->lock);
}
