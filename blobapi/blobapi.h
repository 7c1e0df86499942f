/* blobapi/blobapi.h - the Blob REST dialect: open it once, then the server starts each request with
 * blobapi_start (exchange.h). */
#ifndef BLOBAPI_BLOBAPI_H
#define BLOBAPI_BLOBAPI_H

#include "base/worker.h"
#include "blobapi/exchange.h"
#include "blobapi/identity.h"
#include "cache/cache.h"
#include "upstream/upstream.h"

struct blobapi_conf {
    struct cache *cache;
    struct upstream *upstream; /* NULL: no account has one */
    const struct accounts *accounts;
    struct workers *workers;
    struct identity *identity;  /* NULL: as in struct auth_request */
    bool copies_from_elsewhere; /* the upstream has a copy_policy */
};
int blobapi_open(const struct blobapi_conf *conf,
                 struct blobapi **ret) must_check;  /* main thread */
struct blobapi *blobapi_close(struct blobapi *api); /* loops have stopped; NULL is fine */

#endif
