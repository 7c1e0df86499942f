/* tests/support/cachebox.h - a whole cache on simulated devices with a loop of its own, and calls
 * that wait: what unit tests of cache/ drive it with. One at a time per thread. */
#ifndef TESTS_CACHEBOX_H
#define TESTS_CACHEBOX_H

#include "base/loop.h"
#include "cache/cache.h"
#include "cache/io.h"

/* Accounts of every cachebox. LOCAL has no upstream. CLOUD has one, and contracts: "safe" write =
 * back, order = safe, markers latest and *.metadata; "free" the same, latest-wins; "deny"; "*"
 * back. */
#define BOX_LOCAL 1
#define BOX_CLOUD 2

/* What the next open is configured with; NULL: the above. */
extern const struct accounts *cachebox_accounts;

struct cachebox {
    struct io_sim *sim;
    unsigned devices;
    const struct io_ops *io_ops; /* NULL: the simulation's own */
    char *dir;
    struct workers *workers;
    struct loop_poll *poll;
    struct cache *cache;
    struct awaited awaited;
};

struct cachebox *cachebox_new(uint64_t seed);                    /* opened */
struct cachebox *cachebox_make(uint64_t seed, unsigned devices); /* not opened; up to 3 devices */
/* The same from a simulation (taken over) and a copy of an index folder. */
struct cachebox *cachebox_from(struct io_sim *sim, const char *index, unsigned devices);
void cachebox_index_copy(struct cachebox *box, const char *to); /* as it is on disk */
struct cachebox *cachebox_free(struct cachebox *box);
void cachebox_close(struct cachebox *box); /* in order */
void cachebox_open(struct cachebox *box);
/* 0, or -errno with the words (malloc'ed). */
int cachebox_try_open(struct cachebox *box, char **why);
/* The devices lose what was not flushed; the index folder stays as it was on disk a moment before.
 */
struct cachebox *cachebox_crash(struct cachebox *box, uint64_t seed);

/* The same, where the open may be refused: 0, or -errno with the words (malloc'ed). */
int cachebox_try_crash(struct cachebox *box, uint64_t seed, struct cachebox **ret, char **why);
/* `hearth check` on the box as it is now: closes it, checks, opens it again. Number of findings,
 * printed. */
int cachebox_check(struct cachebox *box);
/* As if the slabs that take small records were full: a start goes on in them, so it closes none. */
void cachebox_fill_small_slabs(struct cachebox *box);
int cachebox_close_and_check(struct cachebox *box); /* and leaves it closed */
/* The same with devices that are not there. */
int cachebox_check_elsewhere(struct cachebox *box);
/* The same on what a crash would leave now; the box goes on. Asserts that the check changed
 * nothing. */
int cachebox_check_crashed(struct cachebox *box, uint64_t seed);

/* done for one start call, then its result. */
struct completion *box_done(struct cachebox *box);
int box_wait(struct cachebox *box);

uint64_t box_container(struct cachebox *box, uint32_t account,
                       const char *name); /* creates; its id */
int box_delete_container(struct cachebox *box, uint32_t account, const char *name);
const struct contract *box_contract(uint32_t account, const char *container, const char *blob);
struct name box_name(uint64_t container, const char *blob);

struct object *box_object(struct cachebox *box, const void *base, size_t len);
/* Put Blob with an upload if the contract says so. *etag may be NULL. */
int box_put(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
            const char *blob, const char *text, uint64_t *etag);
int box_put_bytes(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
                  const char *blob, const void *base, size_t len, uint64_t *etag);
int box_delete(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
               const char *blob);
/* Copy Blob, as blobapi does it: by reference where it can. -ENODATA: bytes of it are absent. */
int box_copy(struct cachebox *box, struct blob *source, uint32_t account, const char *container,
             uint64_t id, const char *blob);
/* Snapshot Blob, as blobapi does it; -ENOENT: there is no blob. */
int box_snapshot(struct cachebox *box, uint64_t id, const char *blob, uint64_t *snapshot);
int box_delete_snapshot(struct cachebox *box, uint64_t id, const char *blob, uint64_t snapshot);
int box_delete_snapshots(struct cachebox *box, uint64_t id, const char *blob); /* the blob stays */
int box_lookup_snapshot(struct cachebox *box, uint64_t id, const char *blob, uint64_t snapshot,
                        struct blob **ret);
int box_lookup(struct cachebox *box, uint64_t id, const char *blob, struct blob **ret);
/* Bytes of a version, malloc'ed; NULL: reading failed with *err. */
char *box_read(struct cachebox *box, struct blob *blob, size_t *len, int *err);
/* Lookup and read; 0 when the content is that text. */
int box_expect(struct cachebox *box, uint64_t id, const char *blob, const char *text);
int box_stage(struct cachebox *box, uint64_t id, const char *blob, const char *block,
              const char *text);
/* refs: "L:id,U:id,C:id"; -ENOENT with *bad. */
int box_commit_blocks(struct cachebox *box, uint32_t account, const char *container, uint64_t id,
                      const char *blob, const char *refs, size_t *bad);

#endif
