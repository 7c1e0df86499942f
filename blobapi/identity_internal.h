/* blobapi/identity_internal.h - between identity.c, delegation.c and revoked.c. */
#ifndef BLOBAPI_IDENTITY_INTERNAL_H
#define BLOBAPI_IDENTITY_INTERNAL_H

#include "base/digest.h"
#include "blobapi/identity.h"
#include "blobapi/watched.h"

/* Tokens whose signature has been checked, by keyed hash: a small direct-mapped table. */
#define TOKENS_SEEN 1024
struct token_seen {
    unsigned char hash[SHA256_BYTES];
    unsigned generation; /* of the key set it was checked with */
};

struct identity {
    const struct identity_conf *conf;
    struct span challenge; /* in arena */
    struct arena *arena;
    struct watched jwks, delegation_keys, revoked;
    unsigned char secret[64];
    size_t secret_bytes; /* 0: the box gives out no keys */
    pthread_mutex_t seen_lock;
    unsigned char seen_key[SHA256_BYTES];
    struct token_seen seen[TOKENS_SEEN];
};

/* delegation.c: the box's secret, configured or kept in the data folder. */
int delegation_secret_open(struct identity *identity, char **why) must_check;
int delegation_keys_parse(struct span text, void **ret) must_check;
void delegation_keys_drop(void *keys);
/* revoked.c */
int revoked_parse(struct span text, void **ret) must_check;
void revoked_drop(void *revoked);

/* Next line of text without its comment, trimmed; false at the end. */
bool line_next(struct span *text, struct span *ret);
/* Next word of a line; base NULL when there is none. */
struct span word_next(struct span *line);

#endif
