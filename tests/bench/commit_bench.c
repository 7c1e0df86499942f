/* commit_bench PATH [IN_FLIGHT] [SECONDS]: durable changes per second through the committer on a
 * real device file, with as many in flight as given, beside one fdatasync after each 4 KiB write.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/loop.h"
#include "cache/commit.h"

#define DEVICE_BYTES ((2ull << 20) + 16 * (65ull << 20))

struct client {
    struct completion done;
    struct committer *committer;
    uint64_t begun_ns;
    unsigned id;
};

static uint64_t finished, stop_at_ns, wait_ns;
static unsigned running;
static bool ended;

static void client_next(struct client *client)
{
    struct change *change = change_new();
    char key[32], value[200];
    int n = snprintf(key, sizeof(key), "client/%u/%llu", client->id, (unsigned long long)finished);

    memset(value, 'v', sizeof(value));
    change_put(change, FAM_BLOBS, span_from(key, (size_t)n), span_from(value, sizeof(value)));
    change->done = &client->done;
    client->begun_ns = clock_mono_ns();
    commit_submit(client->committer, change);
}

static void client_done(struct completion *done)
{
    struct client *client = container_of(done, struct client, done);
    uint64_t now = clock_mono_ns();

    finished++;
    wait_ns += now - client->begun_ns;
    if (now < stop_at_ns)
        client_next(client);
    else
        ended = --running == 0;
}

static double one_fdatasync_each(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
    char *page = xaligned(4096, 4096);
    uint64_t begun = clock_mono_ns(), n = 0;

    memset(page, 1, 4096);
    for (; clock_mono_ns() - begun < NS_PER_SEC; n++)
        if (pwrite(fd, page, 4096, (off_t)(n % 256) * 4096) != 4096 || fdatasync(fd))
            break;
    close(fd);
    free(page);
    return (double)n * 1e9 / (double)(clock_mono_ns() - begun);
}

static struct committer *box_open(const char *path, struct slab_store **slabs, struct index **index)
{
    char *why = NULL, *device = xasprintf("%s/device", path), *folder = xasprintf("%s/index", path);
    struct device_conf devices = {SPAN("device"), span_of(device), DEVICE_BYTES};
    struct slab_conf slab_conf = {
        .devices = &devices, .device_count = 1, .io_ops = &io_blocking_ops, .format_discard = true};
    struct index_conf index_conf = {.path = folder, .cache_bytes = 64 << 20};
    struct committer_conf conf = {0};
    struct committer *committer = NULL;

    if (index_open(&index_conf, index, &why) || slab_store_open(&slab_conf, slabs, &why))
        goto out;
    conf.slabs = *slabs;
    conf.index = *index;
    if (committer_open(&conf, &committer, &why))
        goto out;
    slab_store_serve(*slabs);
    if (committer_serve(committer, &why))
        committer = committer_close(committer);
out:
    if (!committer)
        fprintf(stderr, "%s\n", why);
    free(device);
    free(folder);
    return committer;
}

static void run(struct committer *committer, unsigned in_flight, unsigned seconds)
{
    struct loop_poll *poll = loop_poll_new();
    struct client *clients = xcalloc(in_flight, sizeof(*clients));
    struct committer_stats before = committer_stats(committer), after;

    loop_enter(loop_poll_loop(poll));
    stop_at_ns = clock_mono_ns() + seconds * NS_PER_SEC;
    running = in_flight;
    for (unsigned i = 0; i < in_flight; i++) {
        clients[i] = (struct client){.done = {.fn = client_done, .loop = loop_poll_loop(poll)},
                                     .committer = committer,
                                     .id = i};
        client_next(&clients[i]);
    }
    loop_poll_until(poll, &ended);
    after = committer_stats(committer);
    printf("%u in flight: %.0f changes/s, %.2f ms each, %.1f changes a flush\n", in_flight,
           (double)finished / seconds, (double)wait_ns / 1e6 / (double)finished,
           (double)(after.commits - before.commits) / (double)(after.groups - before.groups));
    free(clients);
    loop_poll_free(poll);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : ".";
    struct slab_store *slabs = NULL;
    struct index *index = NULL;
    struct committer *committer;
    char *file = xasprintf("%s/plain", path);

    printf("one fdatasync each: %.0f/s\n", one_fdatasync_each(file));
    free(file);
    committer = box_open(path, &slabs, &index);
    if (!committer)
        return 1;
    run(committer, argc > 2 ? (unsigned)atoi(argv[2]) : 64, argc > 3 ? (unsigned)atoi(argv[3]) : 3);
    committer_close(committer);
    slab_store_close(slabs, true);
    index_close(index);
    return 0;
}
