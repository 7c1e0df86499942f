/* blobapi/md5_chain.h - MD5 of a body while it arrives, off the loop: buffers go to a worker one
 * after the other, so that the loop receives the next while the last is hashed (MD5 runs at about
 * 0.65 GB/s). Loop thread. Bounded: at most MD5_CHAIN_MAX buffers wait; then the caller awaits
 * md5_chain_wait. */
#ifndef BLOBAPI_MD5_CHAIN_H
#define BLOBAPI_MD5_CHAIN_H

#include "base/digest.h"
#include "base/iobuf.h"
#include "base/worker.h"

#define MD5_CHAIN_MAX 4

struct md5_chain;
struct md5_chain *md5_chain_open(struct workers *workers, struct loop *loop);
void md5_chain_push(struct md5_chain *chain, struct iobuf *buf); /* takes a reference of its own */
/* Posts done when at most `waiting` buffers are not hashed yet. One call at a time; short, not
 * cancellable. */
void md5_chain_wait(struct md5_chain *chain, unsigned waiting, struct completion *done);
unsigned md5_chain_waiting(const struct md5_chain *chain);
void md5_chain_end(struct md5_chain *chain, unsigned char ret[MD5_BYTES]); /* after wait(0) */
struct md5_chain *
md5_chain_close(struct md5_chain *chain); /* any state; never waits; NULL is fine */

#endif
