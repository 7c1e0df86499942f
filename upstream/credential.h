/* upstream/credential.h - how our requests to the cloud are signed. Upstream thread only.
 * Secrets never leave this file but as a signature or a SAS in a URL, and URLs are never logged. */
#ifndef UPSTREAM_CREDENTIAL_H
#define UPSTREAM_CREDENTIAL_H

#include "base/arena.h"
#include "cache/cache.h"

/* What SharedKey signs. Spans as sent; query values decoded. */
struct signable {
    struct span method, path;
    const struct pair *query;
    unsigned query_count;
    const struct pair *headers; /* x-ms-date among them */
    unsigned header_count;
    uint64_t body_bytes;
};
/* Authorization's value, in the arena. Pure. */
struct span shared_key_sign(struct arena *arena, struct span account, struct span key,
                            const struct signable *what);

struct credential;
struct credential *credential_new(const struct account *account);
struct credential *credential_free(struct credential *credential); /* NULL is fine */
/* Reads the secret's file again if it changed since. True: the secret is another one now. Blocks
 * for the length of a small read: called after a refusal and now and then, not per request. */
bool credential_refresh(struct credential *credential);
unsigned
credential_generation(const struct credential *credential); /* grows with each new secret */
/* SAS to append to the query; empty when requests are signed. */
struct span credential_sas(const struct credential *credential);
/* Authorization's value; empty under SAS. */
struct span credential_sign(const struct credential *credential, struct arena *arena,
                            const struct signable *what);

#endif
