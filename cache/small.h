/* cache/small.h - small records as extent.c reads them; writing is small_write_start of slab.h. */
#ifndef CACHE_SMALL_H
#define CACHE_SMALL_H

#include "cache/slab.h"

/* Is this (SMALL_HEADER_BYTES of) record header the one of that extent of that object? */
bool small_record_is(const struct slab_store *store, const char *record,
                     const struct extent *extent, struct object_id id);

#endif
