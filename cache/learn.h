/* cache/learn.h - what learn.c and learn_list.c share. Private to these. */
#ifndef CACHE_LEARN_H
#define CACHE_LEARN_H

#include "cache/internal.h"

/* The local name and state of a version that came from the cloud. */
void learn_local_name(struct cache *cache, const struct contract *contract, int64_t checked_ns,
                      struct blob_record *record);

#endif
