/* cache/contract.c - patterns and the first contract that matches. Pure; any thread. */
#include "cache/contract.h"

#include "base/crc64.h"
#include "base/util.h"

bool pattern_matches(struct span pattern, struct span text)
{
    size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0;

    /* Greedy with one way back: only the last '*' seen can need to take more. */
    while (t < text.len) {
        if (p < pattern.len && pattern.base[p] == '*') {
            star = p++;
            star_text = t;
        } else if (p < pattern.len && pattern.base[p] == text.base[t]) {
            p++, t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.base[p] == '*')
        p++;
    return p == pattern.len;
}

/* The text of container and '/' and blob without joining them: at most one '*' run per call is
 * tried. */
static bool matches_joined(struct span pattern, struct span container, struct span blob)
{
    char text[4096];
    size_t len = container.len + 1 + blob.len;
    _cleanup_(freep) char *heap = len > sizeof(text) ? xmalloc(len) : NULL;
    char *at = heap ? heap : text;

    memcpy(at, container.base, container.len);
    at[container.len] = '/';
    if (blob.len)
        memcpy(at + container.len + 1, blob.base, blob.len);
    return pattern_matches(pattern, span_from(at, len));
}

const struct contract *contract_for(const struct account *account, struct span container,
                                    struct span blob)
{
    for (unsigned i = 0; i < account->contract_count; i++)
        if (matches_joined(account->contracts[i].pattern, container, blob))
            return &account->contracts[i];
    return &account->contracts[account->contract_count - 1]; /* "*": configuration appends it */
}

const struct contract *contract_by_id(const struct account *account, uint32_t id)
{
    for (unsigned i = 0; i < account->contract_count; i++)
        if (account->contracts[i].id == id)
            return &account->contracts[i];
    return NULL;
}

/* Can the pattern match some name of the container that starts with prefix? *all: it matches every
 * one. */
static bool matches_below(struct span pattern, struct span container, struct span prefix, bool *all)
{
    size_t len = container.len + 1 + prefix.len;

    *all = false;
    for (size_t i = 0; i < len; i++) {
        char c = i < container.len    ? container.base[i]
                 : i == container.len ? '/'
                                      : prefix.base[i - container.len - 1];

        if (i >= pattern.len)
            return false;
        if (pattern.base[i] == '*') {
            *all = i + 1 == pattern.len;
            return true; /* a '*' here may take the rest; what follows it may still miss: asked in
                            vain */
        }
        if (pattern.base[i] != c)
            return false;
    }
    *all = pattern.len == len + 1 && pattern.base[len] == '*';
    return true;
}

const struct contract *contract_below(const struct account *account, struct span container,
                                      struct span prefix, unsigned *at)
{
    bool all = false;

    while (*at < account->contract_count) {
        const struct contract *contract = &account->contracts[(*at)++];

        if (!matches_below(contract->pattern, container, prefix, &all))
            continue;
        if (all)
            *at = account->contract_count; /* none behind it is the first to match */
        return contract;
    }
    return NULL;
}

bool contract_container_in_cloud(const struct account *account, struct span container)
{
    const struct contract *contract;
    unsigned at = 0;

    if (account_is_local(account))
        return false;
    while ((contract = contract_below(account, container, SPAN(""), &at)))
        if (contract->write != WRITE_LOCAL)
            return true;
    return false;
}

bool contract_container_holds_local(const struct account *account, struct span container)
{
    const struct contract *contract;
    unsigned at = 0;

    while ((contract = contract_below(account, container, SPAN(""), &at)))
        if (contract->write == WRITE_LOCAL)
            return true;
    return false;
}

bool contract_is_marker(const struct contract *contract, struct span blob)
{
    const char *slash = blob.len ? memrchr(blob.base, '/', blob.len) : NULL;
    struct span last = slash ? span_skip(blob, (size_t)(slash - blob.base) + 1) : blob;

    for (unsigned i = 0; i < contract->marker_count; i++) {
        struct span pattern = contract->markers[i];
        bool whole = pattern.len && memchr(pattern.base, '/', pattern.len);

        if (pattern_matches(pattern, whole ? blob : last))
            return true;
    }
    return false;
}

uint32_t account_id(struct span name)
{
    uint32_t id = (uint32_t)crc64(0, name.base, name.len);

    return id ? id : 1;
}

const struct account *account_by_name(const struct accounts *accounts, struct span name)
{
    for (unsigned i = 0; i < accounts->count; i++)
        if (span_eq(accounts->at[i].name, name))
            return &accounts->at[i];
    return NULL;
}

const struct account *account_by_alias(const struct accounts *accounts, struct span host)
{
    for (unsigned i = 0; i < accounts->count; i++)
        for (unsigned k = 0; k < accounts->at[i].alias_count; k++)
            if (span_eq_nocase(accounts->at[i].aliases[k], host))
                return &accounts->at[i];
    return NULL;
}

const struct account *account_by_id(const struct accounts *accounts, uint32_t id)
{
    for (unsigned i = 0; i < accounts->count; i++)
        if (accounts->at[i].id == id)
            return &accounts->at[i];
    return NULL;
}
