/* cache/access_tier.h - the names of access tiers, as headers and lists have them. Pure. */
#ifndef CACHE_ACCESS_TIER_H
#define CACHE_ACCESS_TIER_H

#include "cache/cache.h"

static inline struct span access_tier_name(enum access_tier tier)
{
    static const struct span names[] = {SPAN(""), SPAN("Hot"), SPAN("Cool"), SPAN("Cold"),
                                        SPAN("Archive")};

    return tier < countof(names) ? names[tier] : names[0];
}

/* ACCESS_TIER_NONE: none of these. */
static inline enum access_tier access_tier_of(struct span name)
{
    for (enum access_tier tier = ACCESS_TIER_HOT; tier <= ACCESS_TIER_ARCHIVE; tier++)
        if (span_eq_nocase(name, access_tier_name(tier)))
            return tier;
    return ACCESS_TIER_NONE;
}

/* "rehydrate-pending-to-hot" and the like. */
static inline enum access_tier access_tier_rehydrating(struct span status)
{
    const struct span prefix = SPAN("rehydrate-pending-to-");

    return span_starts(status, prefix) ? access_tier_of(span_skip(status, prefix.len))
                                       : ACCESS_TIER_NONE;
}

#endif
