/* upstream/client.h - one thread of HTTP/1.1 to the cloud: a curl multi handle that is a struct
 * loop too.
 *
 * The thread that calls client_round owns the loop; ops, timers and completions run between curl's
 * own callbacks, never inside them. */
#ifndef UPSTREAM_CLIENT_H
#define UPSTREAM_CLIENT_H

#include "base/loop.h"

#define CLIENT_WATCH_MAX                                                                           \
    16 /* descriptors beside curl's: the I/O ring's eventfd and a few spare                        \
        */

struct client;

struct client *client_new(unsigned connections_max); /* NULL: curl cannot start */
struct client *client_free(struct client *client);   /* no request may be running; NULL is fine */
struct loop *client_loop(struct client *client);
/* Owner's thread, after loop_enter: completions, transfers, then sleeps at most max_ms. */
void client_round(struct client *client, int max_ms);

/* wan.c's side. */
struct wan;
void *client_easy_get(struct client *client); /* a CURL *, clean */
void client_easy_put(struct client *client, void *easy);
int client_add(struct client *client, void *easy) must_check; /* -EIO */
void client_remove(struct client *client, void *easy);
/* How a transfer is told it is over; from client_round. */
void wan_transfer_ended(struct wan *request, int curl_code);

#endif
