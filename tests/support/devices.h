/* tests/support/devices.h - a slab store on simulated devices for unit tests: opened, cut, opened
 * again. */
#ifndef TESTS_DEVICES_H
#define TESTS_DEVICES_H

#include "cache/io.h"
#include "cache/slab.h"

#define DEVICES_SLAB_BYTES   (65ull << 20)
#define DEVICES_BYTES(slabs) ((2ull << 20) + (slabs)*DEVICES_SLAB_BYTES)

struct devices {
    struct io_sim *sim;
    struct device_conf conf[4];
    struct slab_conf slab_conf;
    struct slab_store *store; /* NULL: closed */
    char *why;                /* of the last refusal */
};

/* `count` devices of `slabs` slabs; not opened. No workers: everything is deterministic. */
void devices_init(struct devices *devices, unsigned count, unsigned slabs);
int devices_open(struct devices *devices);   /* binds the index to what the first open made */
void devices_serve(struct devices *devices); /* open (asserted), nothing marked, serving, in use */
void devices_close(struct devices *devices, bool clean);
void devices_done(struct devices *devices); /* closes, frees */

#endif
