/* tests/support/tempdir.h - folders of a test's own: made under TMPDIR, copied, removed. */
#ifndef TESTS_TEMPDIR_H
#define TESTS_TEMPDIR_H

#include <stdint.h>

char *tempdir_new(const char *name); /* malloc'ed path */
char *tempdir_free(char *path);      /* removes the folder and all in it; NULL is fine */
/* Files only; `to` is made. Starts over while another thread changes the folder (a live index). */
void tempdir_copy(const char *from, const char *to);
/* Changes whenever a file in it comes, goes or is written to. */
uint64_t tempdir_signature(const char *path);
char *tempdir_path(const char *dir, const char *file); /* malloc'ed */

#endif
