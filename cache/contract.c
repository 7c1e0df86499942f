/* cache/contract.c - patterns and the first contract that matches. Pure; any thread. */
#include "cache/contract.h"

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

/* Can the pattern match some text that starts with container and '/'? *all: it matches every one.
 */
static bool matches_inside(struct span pattern, struct span container, bool *all)
{
    *all = false;
    for (size_t i = 0; i <= container.len; i++) {
        char c = i < container.len ? container.base[i] : '/';

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
    *all = pattern.len == container.len + 2 && pattern.base[pattern.len - 1] == '*';
    return true;
}

bool contract_container_in_cloud(const struct account *account, struct span container)
{
    bool all = false;

    if (account_is_local(account))
        return false;
    for (unsigned i = 0; i < account->contract_count && !all; i++)
        if (matches_inside(account->contracts[i].pattern, container, &all) &&
            account->contracts[i].write != WRITE_LOCAL)
            return true;
    return false;
}

bool contract_container_holds_local(const struct account *account, struct span container)
{
    bool all = false;

    for (unsigned i = 0; i < account->contract_count && !all; i++)
        if (matches_inside(account->contracts[i].pattern, container, &all) &&
            account->contracts[i].write == WRITE_LOCAL)
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
