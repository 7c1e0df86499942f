/* cache/accounts.h - whose rows are whose: accounts of the configuration against those the index
 * was written for. Private to cache/. Main thread, start only. */
#ifndef CACHE_ACCOUNTS_H
#define CACHE_ACCOUNTS_H

#include "cache/internal.h"

/* After containers are loaded, before uploads are. Refuses, in words, a configuration under which
 * what waits for one cloud would be lost or go to another one. */
int accounts_judge(struct cache *cache, char **why) must_check;
/* The log takes changes: writes down the configuration's accounts, before anything is done in their
 * name. */
int accounts_bind(struct cache *cache) must_check;

#endif
