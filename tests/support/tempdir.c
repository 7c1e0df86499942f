#include "tests/support/tempdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "base/util.h"

char *tempdir_new(const char *name)
{
    const char *root = getenv("TMPDIR");
    char *path = xasprintf("%s/hearth-%s-XXXXXX", root ? root : "/tmp", name);

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

static void copy_file(const char *from, const char *to)
{
    _cleanup_(fd_close) int in = open(from, O_RDONLY | O_CLOEXEC);
    _cleanup_(fd_close) int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (in < 0 || out < 0)
        abort();
    while (sendfile(out, in, NULL, 1 << 20) > 0)
        ;
}

void tempdir_copy(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    struct dirent *entry;

    if (!dir || mkdir(to, 0700))
        abort();
    while ((entry = readdir(dir))) {
        if (entry->d_type != DT_REG)
            continue;
        _cleanup_(freep) char *a = tempdir_path(from, entry->d_name);
        _cleanup_(freep) char *b = tempdir_path(to, entry->d_name);
        copy_file(a, b);
    }
    closedir(dir);
}
