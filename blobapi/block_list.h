/* blobapi/block_list.h - the body of Put Block List, read as it arrives.
 *
 * Fed piece by piece, so that a 6 MiB list is never in memory as text. One thread at a time; does
 * not block (about 10 ms per MiB). */
#ifndef BLOBAPI_BLOCK_LIST_H
#define BLOBAPI_BLOCK_LIST_H

#include "base/arena.h"
#include "base/span.h"
#include "cache/cache.h"

/* Longest legal list: 50 000 x <Uncommitted>88 characters</Uncommitted> and white space. */
#define BLOCK_LIST_BYTES_MAX (8u << 20)
#define BLOCK_ID_BYTES_MAX   64

struct block_list;
struct block_list *block_list_open(struct arena *arena); /* entries and ids live in the arena */
/* 0; -EBADMSG not well-formed, a DTD, or an element a block list does not have; -EINVAL an id that
 * is not base64 of 1 to 64 bytes; -E2BIG more than BLOCKS_COMMITTED_MAX entries. Sticks. */
int block_list_feed(struct block_list *list, struct span text) must_check;
/* After the last piece: the entries in order. */
int block_list_finish(struct block_list *list, const struct block_ref **ret,
                      size_t *ret_n) must_check;
struct block_list *block_list_close(struct block_list *list); /* NULL is fine */

/* base64 of 1 to BLOCK_ID_BYTES_MAX bytes, else -EINVAL. Also the blockid= of Put Block. */
int block_id_decode(struct span text, char ret[BLOCK_ID_BYTES_MAX], size_t *ret_len) must_check;

#endif
