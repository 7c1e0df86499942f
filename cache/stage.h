/* cache/stage.h - uncommitted blocks: every name that has some, in memory and in FAM_BLOCKS.
 * Private to cache/. A stage is one generation of one name's blocks: made by its first Put Block,
 * taken out whole by the change that commits or drops it. Invariants: cache/README.md N5, N6. */
#ifndef CACHE_STAGE_H
#define CACHE_STAGE_H

#include "cache/internal.h"

#define BLOCK_ID_BYTES_MAX 64
#define STAGED_ALL_MAX     (4u << 20) /* blocks of all names: about 150 bytes of memory each */

struct stage;

int stages_open(struct cache *cache); /* reads FAM_BLOCKS */
void stages_close(struct cache *cache);
/* Drops stages whose last block was put longer ago than staged_ttl. The keeper's thread: called
 * often, looks at once after a start and then every ten minutes. */
void stages_sweep(struct cache *cache);
bool stage_exists(struct cache *cache, uint64_t container, struct span blob);
bool stage_any_in(struct cache *cache, uint64_t container);
struct staged_block {
    struct object_id object;
    uint64_t length;
};
/* As ordered: what a commit ordered next would find. */
bool stage_find(struct cache *cache, uint64_t container, struct span blob, struct span id,
                struct staged_block *ret);
/* In id order; durable blocks only. row non-zero ends and is returned. */
int stage_list(struct cache *cache, uint64_t container, struct span blob,
               int (*row)(void *arg, const struct block_row *row), void *arg);
/* Names of the container with uncommitted blocks, from `from` on, in order; malloc'ed, names and
 * array. */
struct span *stage_names(struct cache *cache, uint64_t container, struct span from, size_t *ret_n);

/* Committer thread, in decide: the stage, if there is one, goes with this change. */
void stage_drop(struct cache *cache, struct change *change, uint64_t container, struct span blob);
/* Committer thread: all stages of a container that is deleted; their rows are the reaper's by
 * container. */
void stage_forget_container(struct cache *cache, uint64_t container);

#endif
