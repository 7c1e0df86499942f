/* blobapi/watched.h - a small file whose meaning is kept in memory and read anew when the file
 * changes: key sets, revocations, delegation keys.
 *
 * Every hold asks the file system once (one stat, under 1 us), so that a change counts from the
 * next request on; a changed file is read on the loop that notices (files are small and local). A
 * file that cannot be read or understood, or that anybody may write, leaves what was known before,
 * and a line in the log. Reading holds up who asks meanwhile: 1 ms for 1 000 lines.
 * Writers should rename a whole file into place. Any thread. */
#ifndef BLOBAPI_WATCHED_H
#define BLOBAPI_WATCHED_H

#include <sys/stat.h>

#include "base/span.h"
#include "base/util.h"

struct watched {
    char *path; /* NULL: not configured; it then holds nothing */
    size_t bytes_max;
    bool secret; /* refused when others can read it; any file when anybody may write it */
    /* 0 and a value, or -errno. */
    int (*parse)(struct span text, void **ret);
    void (*drop)(void *value); /* NULL is fine */

    bool opened;
    pthread_rwlock_t lock;
    struct stat seen;
    void *value;
    unsigned generation; /* of value */
};

/* Sets the last fields up and reads the file: 0, or -errno with *why malloc'ed. */
int watched_open(struct watched *watched, char **why) must_check;
void watched_close(struct watched *watched); /* all zeros is fine */
/* What the file says by now; NULL when not configured. Until the release. */
const void *watched_hold(struct watched *watched);
void watched_release(struct watched *watched);

#endif
