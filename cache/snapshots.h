/* cache/snapshots.h - snapshots of a name, within a change of it and looked up. Private to cache/.
 *
 * Rows of FAM_VERSIONS under their time. A name's own version says how many there are and since
 * when (blob_record.snapshots); a row that is older is garbage the reaper has not come to yet. So
 * all of them go with one row, and whoever looks one up or lists them asks the name's row first. */
#ifndef CACHE_SNAPSHOTS_H
#define CACHE_SNAPSHOTS_H

#include "cache/names.h"
#include "cache/order.h"

/* Those that count of a name with that row: */
static inline bool snapshot_counts(const struct blob_record *base, uint64_t snapshot)
{
    return base->snapshots.count && snapshot >= base->snapshots.since;
}

/* name->snapshot is set. As cache_lookup. */
void snapshot_lookup(struct cache *cache, const struct name *name, struct blob **ret,
                     struct completion *done);

/* ---- for tx.c ---- */

/* The name keeps its snapshots when its own version is put or described. */
void snapshots_follow(const struct tx *tx, struct blob_record *record);
/* All there are go with this change. */
void snapshots_drop(struct tx *tx, uint64_t tick);
void snapshots_build(struct tx *tx); /* the rows of what this change does to them */

#endif
