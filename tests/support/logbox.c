#include "tests/support/logbox.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/tempdir.h"

#define DEVICE_SLABS 8
#define DEVICE_BYTES ((2u << 20) + DEVICE_SLABS * (65u << 20))

static void on_fatal(void *arg, const char *why)
{
    struct logbox *box = arg;

    box->fatal = xstrdup(why);
}

static struct logbox *box_make(unsigned devices)
{
    struct logbox *box = xcalloc(1, sizeof(*box));

    box->devices = devices;
    box->dir = tempdir_new("logbox");
    box->index_path = tempdir_path(box->dir, "index");
    box->poll = loop_poll_new();
    loop_enter(loop_poll_loop(box->poll));
    return box;
}

struct logbox *logbox_new(unsigned devices, uint64_t seed)
{
    struct logbox *box = box_make(devices);

    box->sim = io_sim_new(seed);
    return box;
}

struct logbox *logbox_from(struct io_sim *sim, const char *index, const struct committer_conf *conf,
                           unsigned devices)
{
    struct logbox *box = box_make(devices);

    box->conf = *conf;
    box->sim = sim;
    tempdir_copy(index, box->index_path);
    return box;
}

struct logbox *logbox_image(struct logbox *box)
{
    return logbox_from(io_sim_clone(box->sim), box->index_path, &box->conf, box->devices);
}

void logbox_index_copy(struct logbox *box, const char *to)
{
    tempdir_copy(box->index_path, to);
}

void logbox_index_restore(struct logbox *box, const char *from)
{
    tempdir_free(xstrdup(box->index_path));
    tempdir_copy(from, box->index_path);
}

static int open_slabs(struct logbox *box, char **why)
{
    struct device_conf devices[DEVICES_MAX];
    struct slab_conf conf = {
        .devices = devices,
        .device_count = box->devices,
        .io_ops = box->io_ops ? box->io_ops : io_sim_ops(box->sim),
    };
    char paths[DEVICES_MAX][24];

    for (unsigned d = 0; d < box->devices; d++) {
        snprintf(paths[d], sizeof(paths[d]), "device%u", d);
        devices[d] = (struct device_conf){span_of(paths[d]), span_of(paths[d]), DEVICE_BYTES};
    }
    index_uuid(box->index, conf.index_uuid);
    return slab_store_open(&conf, &box->slabs, why);
}

static int open_all(struct logbox *box, char **why)
{
    struct index_conf index = {.path = box->index_path, .cache_bytes = 8 << 20};
    int err = index_open(&index, &box->index, why);

    if (!err)
        err = open_slabs(box, why);
    if (err)
        return err;
    box->conf.slabs = box->slabs;
    box->conf.index = box->index;
    box->conf.fatal = on_fatal;
    box->conf.fatal_arg = box;
    err = committer_open(&box->conf, &box->committer, why);
    if (err)
        return err;
    slab_store_serve(box->slabs);
    return committer_serve(box->committer, why);
}

int logbox_open(struct logbox *box, char **why)
{
    int err = open_all(box, why);

    if (err)
        logbox_close(box, false);
    return err;
}

void logbox_open_ok(struct logbox *box)
{
    char *why = NULL;

    if (logbox_open(box, &why)) {
        fprintf(stderr, "box does not open: %s\n", why);
        abort();
    }
    free(why);
}

void logbox_close(struct logbox *box, bool clean)
{
    box->committer = committer_close(box->committer);
    box->slabs = slab_store_close(box->slabs, clean);
    box->index = index_close(box->index);
}

struct logbox *logbox_free(struct logbox *box)
{
    if (!box)
        return NULL;
    logbox_close(box, false);
    loop_poll_free(box->poll);
    io_sim_free(box->sim);
    tempdir_free(box->dir);
    free(box->index_path);
    free(box->fatal);
    free(box);
    return NULL;
}

struct change *logbox_change(const char *key, const char *value)
{
    struct change *change = change_new();

    if (value)
        change_put(change, FAM_BLOBS, span_of(key), span_of(value));
    else
        change_delete(change, FAM_BLOBS, span_of(key));
    return change;
}

int logbox_commit(struct logbox *box, struct change *change)
{
    struct awaited awaited;

    loop_enter(loop_poll_loop(box->poll));
    change->done = awaited_init(&awaited, loop_poll_loop(box->poll));
    commit_submit(box->committer, change);
    return loop_await(box->poll, &awaited);
}

int logbox_put(struct logbox *box, const char *key, const char *value)
{
    return logbox_commit(box, logbox_change(key, value));
}

char *logbox_get(struct logbox *box, const char *key)
{
    struct index_value value;
    char *copy;

    if (index_get(box->index, NULL, FAM_BLOBS, span_of(key), &value))
        return NULL;
    copy = strndup(value.bytes.base, value.bytes.len);
    index_value_done(&value);
    return copy;
}
