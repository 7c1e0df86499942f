#include "tests/support/tempdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/util.h"

char *tempdir_new(const char *name)
{
    const char *root = getenv("TMPDIR");
    char *path;

    if (!root) /* memory where there is some: RocksDB syncs a lot */
        root = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
    path = xasprintf("%s/hearth-%s-XXXXXX", root, name);

    if (!mkdtemp(path))
        abort();
    return path;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    return remove(path);
}

char *tempdir_free(char *path)
{
    if (path)
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
    return NULL;
}

char *tempdir_path(const char *dir, const char *file)
{
    return xasprintf("%s/%s", dir, file);
}

/* false: the file is gone. */
static bool copy_file(const char *from, const char *to)
{
    _cleanup_(fd_close) int in = open(from, O_RDONLY | O_CLOEXEC);
    _cleanup_(fd_close) int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (out < 0)
        abort();
    while (in >= 0 && sendfile(out, in, NULL, 1 << 20) > 0)
        ;
    return in >= 0;
}

static bool copy_once(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    struct dirent *entry;
    bool whole = true;

    if (!dir || mkdir(to, 0700))
        abort();
    while (whole && (entry = readdir(dir))) {
        _cleanup_(freep) char *a = tempdir_path(from, entry->d_name);
        _cleanup_(freep) char *b = tempdir_path(to, entry->d_name);

        whole = entry->d_type != DT_REG || copy_file(a, b);
    }
    closedir(dir);
    return whole;
}

uint64_t tempdir_signature(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    struct stat st;
    uint64_t sum = 0;

    while (dir && (entry = readdir(dir))) {
        _cleanup_(freep) char *file = tempdir_path(path, entry->d_name);

        if (!stat(file, &st) && S_ISREG(st.st_mode))
            sum += st.st_ino * 0x9E3779B97F4A7C15ull + (uint64_t)st.st_size * 31 +
                   (uint64_t)st.st_mtim.tv_nsec;
    }
    if (dir)
        closedir(dir);
    return sum;
}

void tempdir_copy(const char *from, const char *to)
{
    uint64_t before;

    for (;;) {
        before = tempdir_signature(from);
        if (copy_once(from, to) && tempdir_signature(from) == before)
            return;
        tempdir_free(xstrdup(to));
    }
}
