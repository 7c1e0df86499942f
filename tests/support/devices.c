#include "tests/support/devices.h"

#include <assert.h>
#include <string.h>

static const char *const paths[] = {"slab0", "slab1", "slab2", "slab3"};

void devices_init(struct devices *devices, unsigned count, unsigned slabs)
{
    *devices = (struct devices){.sim = io_sim_new(1)};
    for (unsigned i = 0; i < count; i++)
        devices->conf[i] =
            (struct device_conf){span_of(paths[i]), span_of(paths[i]), DEVICES_BYTES(slabs)};
    devices->slab_conf = (struct slab_conf){
        .devices = devices->conf, .device_count = count, .io_ops = io_sim_ops(devices->sim)};
}

int devices_open(struct devices *devices)
{
    int err;

    free(TAKE(devices->why));
    devices->slab_conf.devices = devices->conf; /* the struct may have been copied since */
    err = slab_store_open(&devices->slab_conf, &devices->store, &devices->why);
    if (err == 0)
        memcpy(devices->slab_conf.index_uuid, slab_super(devices->store)->index_uuid,
               sizeof(devices->slab_conf.index_uuid));
    return err;
}

void devices_serve(struct devices *devices)
{
    struct super_state state;
    int err = devices_open(devices);

    assert(err == 0);
    state = *slab_super(devices->store);
    state.epoch++;
    err = slab_super_write(devices->store, &state);
    assert(err == 0);
    slab_store_serve(devices->store);
}

void devices_close(struct devices *devices, bool clean)
{
    devices->store = slab_store_close(devices->store, clean);
}

void devices_done(struct devices *devices)
{
    devices_close(devices, false);
    free(TAKE(devices->why));
    io_sim_free(devices->sim);
}
