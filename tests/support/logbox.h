/* tests/support/logbox.h - a box without content: simulated devices, an index in a folder, the
 * committer. What a crash leaves is had by logbox_image; an image can be opened as often as wanted.
 */
#ifndef TESTS_LOGBOX_H
#define TESTS_LOGBOX_H

#include "base/loop.h"
#include "cache/commit.h"
#include "cache/io.h"

struct logbox {
    struct io_sim *sim;
    char *dir, *index_path;
    unsigned devices;
    const struct io_ops *io_ops; /* NULL: the simulation's own */
    struct committer_conf conf;  /* check_bytes and log_bytes_max are taken from here at open */
    struct slab_store *slabs;
    struct index *index;
    struct committer *committer;
    struct loop_poll *poll;
    char *fatal; /* what the committer said */
};

struct logbox *logbox_new(unsigned devices, uint64_t seed);
struct logbox *logbox_free(struct logbox *box);  /* closes what is open */
int logbox_open(struct logbox *box, char **why); /* all of it, up to serving */
void logbox_open_ok(struct logbox *box);
void logbox_close(struct logbox *box, bool clean);
/* A box with the devices as they are (clone) and the index folder as it is on disk now. */
struct logbox *logbox_image(struct logbox *box);
/* The same from a simulation (taken over) and a copy of an index folder. */
struct logbox *logbox_from(struct io_sim *sim, const char *index, const struct committer_conf *conf,
                           unsigned devices);
void logbox_index_copy(struct logbox *box, const char *to);
/* Replaces the (closed) box's index folder by a copy of that one. */
void logbox_index_restore(struct logbox *box, const char *from);

struct change *logbox_change(const char *key,
                             const char *value); /* puts a blob row; value NULL: deletes */
int logbox_commit(struct logbox *box, struct change *change); /* submits and waits */
int logbox_put(struct logbox *box, const char *key, const char *value);
char *logbox_get(struct logbox *box, const char *key); /* malloc'ed; NULL: absent */

#endif
