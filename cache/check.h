/* cache/check.h - the consistency walker of `hearth check`. Private to cache/. */
#ifndef CACHE_CHECK_H
#define CACHE_CHECK_H

#include "cache/internal.h"

/* A loaded cache that does not serve. Number of findings or -errno; report gets a line of each. */
int check_walk(struct cache *cache, void (*report)(void *arg, const char *line),
               void *arg) must_check;

#endif
