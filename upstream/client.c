/* upstream/client.c - the loop of an upstream thread: completions and timers, then curl's
 * transfers, then sleep in curl_multi_poll, which curl_multi_wakeup ends from any thread. */
#include "upstream/client.h"

#include <curl/curl.h>

#include "base/clock.h"
#include "base/util.h"

#define EASY_KEPT_MAX 64

struct watch {
    int fd;
    void (*fn)(void *arg);
    void *arg;
};

struct client {
    struct loop loop;
    CURLM *multi;
    struct watch watches[CLIENT_WATCH_MAX];
    unsigned watch_count;
    CURL *easies[EASY_KEPT_MAX]; /* idle handles: each keeps parsed options and DNS, not connections
                                  */
    unsigned easy_count;
};

static struct client *client_of(struct loop *loop)
{
    return container_of(loop, struct client, loop);
}

static void client_wake(struct loop *loop)
{
    (void)curl_multi_wakeup(client_of(loop)->multi); /* fails only without a poll to wake */
}

static void client_watch(struct loop *loop, int fd, void (*fn)(void *arg), void *arg)
{
    struct client *client = client_of(loop);

    assert(client->watch_count < CLIENT_WATCH_MAX);
    client->watches[client->watch_count++] = (struct watch){fd, fn, arg};
}

static void client_unwatch(struct loop *loop, int fd)
{
    struct client *client = client_of(loop);

    for (unsigned i = 0; i < client->watch_count; i++)
        if (client->watches[i].fd == fd) {
            client->watches[i] = client->watches[--client->watch_count];
            return;
        }
}

static const struct loop_ops client_loop_ops = {
    .wake = client_wake,
    .watch = client_watch,
    .unwatch = client_unwatch,
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;

static void curl_begin(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct client *client_new(unsigned connections_max)
{
    struct client *client = xcalloc(1, sizeof(*client));

    pthread_once(&curl_once, curl_begin);
    loop_init(&client->loop, &client_loop_ops);
    client->multi = curl_multi_init();
    if (!client->multi) {
        free(client);
        return NULL;
    }
    /* Who runs how many is remote.c's business; curl only keeps what they leave open. */
    curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)connections_max);
    curl_multi_setopt(client->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    return client;
}

struct client *client_free(struct client *client)
{
    if (!client)
        return NULL;
    while (client->easy_count)
        curl_easy_cleanup(client->easies[--client->easy_count]);
    curl_multi_cleanup(client->multi);
    loop_done(&client->loop);
    free(client);
    return NULL;
}

struct loop *client_loop(struct client *client)
{
    return &client->loop;
}

static void client_reap(struct client *client)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(client->multi, &left))) {
        char *request = NULL;
        CURLcode code = message->data.result; /* message dies with curl_multi_remove_handle */

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
        wan_transfer_ended((struct wan *)(void *)request, (int)code);
    }
}

/* fn may unwatch its own descriptor: the last watch then stands in its place and is seen next
 * round. */
static void client_dispatch(struct client *client, const struct curl_waitfd *fds, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        for (unsigned k = 0; fds[i].revents && k < client->watch_count; k++)
            if (client->watches[k].fd == fds[i].fd) {
                client->watches[k].fn(client->watches[k].arg);
                break;
            }
}

void client_round(struct client *client, int max_ms)
{
    struct curl_waitfd fds[CLIENT_WATCH_MAX];
    unsigned count = client->watch_count;
    int running;

    loop_run_ready(&client->loop);
    curl_multi_perform(client->multi, &running);
    client_reap(client);
    loop_run_ready(&client->loop); /* what the transfers posted, before any sleep */
    for (unsigned i = 0; i < count; i++)
        fds[i] = (struct curl_waitfd){.fd = client->watches[i].fd, .events = CURL_WAIT_POLLIN};
    curl_multi_poll(client->multi, fds, count, loop_timeout_ms(&client->loop, max_ms), NULL);
    client_dispatch(client, fds, count);
}

void *client_easy_get(struct client *client)
{
    CURL *easy;

    if (client->easy_count)
        return client->easies[--client->easy_count];
    easy = curl_easy_init();
    if (!easy)
        abort();
    return easy;
}

void client_easy_put(struct client *client, void *easy)
{
    if (client->easy_count == EASY_KEPT_MAX) {
        curl_easy_cleanup(easy);
        return;
    }
    curl_easy_reset(easy);
    client->easies[client->easy_count++] = easy;
}

int client_add(struct client *client, void *easy)
{
    return curl_multi_add_handle(client->multi, easy) == CURLM_OK ? 0 : -EIO;
}

void client_remove(struct client *client, void *easy)
{
    curl_multi_remove_handle(client->multi, easy);
}
