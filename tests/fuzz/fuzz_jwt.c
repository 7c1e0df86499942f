/* A key set (first line) and a token (the rest) from any bytes; lines of the small files go the
 * same way. Nothing may crash, and what is taken for a token has a key's name and a signature over
 * what stands before it. */
#include <stdlib.h>

#include "blobapi/identity_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *arena = arena_new();
    struct span rest, first = span_cut(span_from(data, size), '\n', &rest);
    struct identity_grant grant = {0};
    struct jwks *jwks = NULL;
    void *value;
    struct jwt jwt;

    if (jwt_parse(rest, arena, &jwt) == 0) {
        if (!jwt.kid.len || !jwt.signature.len || jwt.signed_text.len >= rest.len)
            abort();
        if (jwks_parse(first, &jwks) == 0)
            (void)!jwks_verify(jwks, &jwt);
    }
    jwks_free(jwks);
    if (revoked_parse(span_from(data, size), &value) == 0)
        revoked_drop(value);
    if (delegation_keys_parse(span_from(data, size), &value) == 0)
        delegation_keys_drop(value);
    if (!identity_grant_parse(first, &grant) && !grant.rights)
        abort();
    arena_free(arena);
    return 0;
}
