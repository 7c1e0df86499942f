/* upstream/remote.h - the cloud behind one account: where it is, its breaker, its connections and
 * what it has shown that it can do. Upstream thread only, but the stats. */
#ifndef UPSTREAM_REMOTE_H
#define UPSTREAM_REMOTE_H

#include <stdatomic.h>

#include "upstream/breaker.h"
#include "upstream/client.h"
#include "upstream/credential.h"
#include "upstream/network.h"
#include "upstream/wan.h"

#define AZURE_VERSION          "2023-11-03" /* startFrom, CRC64 both ways; Azurite knows it */
#define REMOTE_CONNECTIONS_DEF 32
#define CURL_BUFFER_BYTES      (256L << 10) /* a connection has one to send, one to receive */
#define REMOTE_READS_RESERVED  4            /* connections uploads leave to reads */
/* ... and reads to uploads: cold reading may go on for hours, and the dirty mark fills meanwhile.
 */
#define REMOTE_UPLOADS_RESERVED 4
#define CONNECT_TIMEOUT_DEF_MS  5000
#define STALL_TIMEOUT_DEF_MS    30000

/* How a fetched range is proved, best first; a cloud that refuses one is asked for the next. */
enum range_check { RANGE_CRC64, RANGE_MD5, RANGE_LENGTH };

struct remote_conf {
    unsigned connections;
    uint64_t connect_timeout_ms, stall_timeout_ms;
};

struct upstream;

struct remote {
    struct upstream *upstream;     /* whose; NULL in tests of requests alone */
    const struct account *account; /* of a copy source: `own`, named by its origin */
    struct account *own;
    const struct copy_policy *policy; /* where it may be connected to; NULL: anywhere */
    struct client *client;
    struct credential *credential;
    struct remote_conf conf;
    struct breaker breaker;
    uint64_t lost_ns;   /* monotonic: the breaker has opened last; 0: never */
    struct span origin; /* scheme://host[:port] */
    struct span base;   /* path of the endpoint, "" or /account */
    char *ca_file;      /* NULL: the system's */
    enum range_check range_check;
    bool upload_crc64_refused, start_from_ignored;
    bool one_checksum; /* it takes x-ms-blob-content-md5 for a second checksum beside the CRC */
    struct {
        struct wan *head, **tail;
        unsigned count;
    } waiting[WAN_PRIORITIES];
    struct wan *running;
    unsigned running_count, running_uploads;
    void (*on_online)(void *arg); /* the breaker has closed again */
    void *on_online_arg;
    struct {
        _Atomic bool online;
        _Atomic uint64_t requests, errors, bytes_in, bytes_out, retries;
    } stats;
};

struct remote *remote_new(const struct account *account, struct client *client,
                          const struct remote_conf *conf);
/* A copy source's server: no credential. The policy outlives it. */
struct remote *remote_new_external(struct span origin, struct client *client,
                                   const struct remote_conf *conf,
                                   const struct copy_policy *policy);
struct remote *remote_free(struct remote *remote); /* no request may be started; NULL is fine */
/* The cloud did not give the check that was asked for: the next weaker one from now on. */
void remote_lower_check(struct remote *remote, enum range_check asked);
void remote_cancel_all(struct remote *remote); /* shutdown: every started request ends */

/* Nobody was reached, or not to the end; else what came made no sense, or we ended it. */
bool is_wan_failure(int err);

/* wan.c's. */
void remote_queue(struct remote *remote, struct wan *request);
void remote_ended(struct remote *remote, struct wan *request, int err);
void remote_forget(struct remote *remote, struct wan *request); /* a waiting one is cancelled */

#endif
