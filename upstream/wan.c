/* upstream/wan.c - builds, signs and runs one request on a curl easy handle.
 *
 * curl's callbacks run inside client_round; they only copy, count and call the two hooks. What ends
 * a request is always a post, so no op is resumed from within curl. */
#include "upstream/wan.h"

#include <curl/curl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/text.h"
#include "upstream/client.h"
#include "upstream/metrics.h"
#include "upstream/remote.h"

#define DNS_KEPT_SECONDS 300L
/* Slower is a stall: a body that trickles keeps buffers and readers for days. */
#define BODY_BYTES_PER_SECOND_MIN 1024L

static const struct span method_names[] = {SPAN("GET"), SPAN("HEAD"), SPAN("PUT"), SPAN("DELETE")};

/* ---- building ---- */

void wan_init(struct wan *request, struct remote *remote, enum wan_method method,
              enum wan_priority priority)
{
    struct arena *arena = request->arena;

    assert(request->state == WAN_IDLE);
    if (arena)
        arena_reset(arena);
    else
        arena = arena_new();
    *request =
        (struct wan){.remote = remote, .arena = arena, .method = method, .priority = priority};
}

void wan_done(struct wan *request)
{
    assert(request->state == WAN_IDLE);
    request->arena = arena_free(request->arena);
}

static struct span encode(struct arena *arena, struct span s, const char *keep)
{
    char *text = arena_alloc(arena, s.len * 3 + 1);

    return span_from(text, percent_encode(s, keep, text));
}

void wan_path(struct wan *request, struct span container, struct span blob)
{
    struct span encoded = encode(request->arena, blob, "/");

    request->path = arena_printf(request->arena, "%.*s/%.*s%s%.*s", SPAN_FMT(request->remote->base),
                                 SPAN_FMT(container), blob.len ? "/" : "", SPAN_FMT(encoded));
}

static void pair_add(struct arena *arena, struct pair **pairs, unsigned *count, unsigned room,
                     struct pair pair)
{
    if (*count == room) /* room grows by doubling, told by the count itself: 8, 16, 32... */
        *pairs =
            arena_grow(arena, *pairs, room * sizeof(pair), (room ? room * 2 : 8) * sizeof(pair));
    (*pairs)[(*count)++] = pair;
}

static unsigned pair_room(unsigned count) /* of an array that holds count pairs */
{
    unsigned room = 8;

    while (room < count)
        room *= 2;
    return count ? room : 0;
}

void wan_query(struct wan *request, const char *name, struct span value)
{
    struct pair pair = {span_of(name), arena_copy(request->arena, value)};

    pair_add(request->arena, &request->query, &request->query_count,
             pair_room(request->query_count), pair);
}

void wan_header(struct wan *request, struct span name, struct span value)
{
    struct pair pair = {arena_copy(request->arena, name), arena_copy(request->arena, value)};

    pair_add(request->arena, &request->headers, &request->header_count,
             pair_room(request->header_count), pair);
}

struct span wan_answer_header(const struct wan_answer *answer, struct span name)
{
    for (unsigned i = 0; i < answer->header_count; i++)
        if (span_eq_nocase(answer->headers[i].name, name))
            return answer->headers[i].value;
    return (struct span){NULL, 0};
}

/* ---- curl's callbacks ---- */

static void
head_reset(struct wan *request) /* an interim answer (100) is followed by another head */
{
    request->answer = (struct wan_answer){0};
}

static void head_complete(struct wan *request)
{
    long status = 0;

    curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200)
        return;
    request->head_done = true;
    request->answer.status = (int)status;
    request->answer.code = wan_answer_header(&request->answer, SPAN("x-ms-error-code"));
    if (request->on_head)
        request->on_head(request);
}

static size_t on_header(char *base, size_t size, size_t n, void *arg)
{
    struct wan *request = arg;
    struct span line = span_from(base, size * n), value;
    struct pair *headers = (struct pair *)request->answer.headers;
    struct pair pair;

    request->head_bytes += line.len;
    if (request->head_bytes > ANSWER_HEAD_BYTES_MAX)
        return 0;
    while (line.len && (line.base[line.len - 1] == '\n' || line.base[line.len - 1] == '\r'))
        line.len--;
    if (span_starts(line, SPAN("HTTP/"))) {
        head_reset(request);
        return size * n;
    }
    if (!line.len) {
        head_complete(request);
        return size * n;
    }
    pair.name = arena_copy(request->arena, span_cut(line, ':', &value));
    pair.value = arena_copy(request->arena, span_trim(value));
    pair_add(request->arena, &headers, &request->answer.header_count,
             pair_room(request->answer.header_count), pair);
    request->answer.headers = headers;
    return size * n;
}

static size_t on_receive(char *base, size_t size, size_t n, void *arg)
{
    struct wan *request = arg;
    size_t bytes = size * n;
    int rc = 0;

    if (request->abort_err) /* curl asks once more after a refusal in wan_resume */
        return 0;
    if (request->on_body && (request->any_body || wan_answer_ok(&request->answer)))
        rc = request->on_body(request, span_from(base, bytes));
    if (rc == WAN_PAUSE) {
        request->paused = true;
        return CURL_WRITEFUNC_PAUSE;
    }
    request->answer.body_bytes += bytes;
    atomic_fetch_add_explicit(&request->remote->stats.bytes_in, bytes, memory_order_relaxed);
    STAT_ADD(upstream_bytes_in, bytes);
    request->abort_err = rc;
    return rc ? 0 : bytes;
}

static size_t on_send(char *into, size_t size, size_t n, void *arg)
{
    struct wan *request = arg;
    size_t bytes = MIN(size * n, request->body.len - request->body_sent);

    if (bytes)
        memcpy(into, request->body.base + request->body_sent, bytes);
    request->body_sent += bytes;
    atomic_fetch_add_explicit(&request->remote->stats.bytes_out, bytes, memory_order_relaxed);
    STAT_ADD(upstream_bytes_out, bytes);
    return bytes;
}

static int on_seek(void *arg, curl_off_t offset,
                   int origin) /* a kept connection had died: send again */
{
    struct wan *request = arg;

    if (origin != SEEK_SET || offset < 0 || (size_t)offset > request->body.len)
        return CURL_SEEKFUNC_FAIL;
    request->body_sent = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static int on_connected(void *arg, char *ip, char *local_ip, int port, int local_port)
{
    ((struct wan *)arg)->connected = true;
    return CURL_PREREQFUNC_OK;
}

/* What is given up is not to arrive later, out of a buffer of the kernel's that nobody owns any
 * more: closing resets. */
static int on_sockopt(void *arg, curl_socket_t fd, curlsocktype purpose)
{
    const struct linger reset = {.l_onoff = 1};

    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)); /* as it was, then */
    return CURL_SOCKOPT_OK;
}

/* ---- sending ---- */

static bool has_header(const struct wan *request, struct span name)
{
    for (unsigned i = 0; i < request->header_count; i++)
        if (span_eq_nocase(request->headers[i].name, name))
            return true;
    return false;
}

static void wan_sign(struct wan *request)
{
    struct signable what;
    struct span authorization;
    char date[HTTP_DATE_BYTES + 1];

    request->signed_with = credential_generation(request->remote->credential);
    http_date_print(clock_wall_ns(), date);
    wan_header(request, SPAN("x-ms-date"), span_of(date));
    if (!has_header(request, SPAN("x-ms-version"))) /* a client's, forwarded */
        wan_header(request, SPAN("x-ms-version"), SPAN(AZURE_VERSION));
    what = (struct signable){
        .method = method_names[request->method],
        .path = request->path,
        .query = request->query,
        .query_count = request->query_count,
        .headers = request->headers,
        .header_count = request->header_count,
        .body_bytes = request->body.len,
    };
    authorization = credential_sign(request->remote->credential, request->arena, &what);
    if (authorization.len)
        wan_header(request, SPAN("Authorization"), authorization);
}

bool wan_secret_renewed(const struct wan *request)
{
    struct credential *credential = request->remote->credential;

    return request->signed_with != credential_generation(credential) ||
           credential_refresh(credential);
}

static struct span wan_url(struct wan *request)
{
    struct arena *arena = request->arena;
    struct span sas = credential_sas(request->remote->credential);
    struct span url =
        arena_printf(arena, "%.*s%.*s", SPAN_FMT(request->remote->origin), SPAN_FMT(request->path));
    const char *mark = "?";

    for (unsigned i = 0; i < request->query_count; i++) {
        struct span value = encode(arena, request->query[i].value, "");

        url = arena_printf(arena, "%.*s%s%.*s=%.*s", SPAN_FMT(url), mark,
                           SPAN_FMT(request->query[i].name), SPAN_FMT(value));
        mark = "&";
    }
    if (sas.len)
        url = arena_printf(arena, "%.*s%s%.*s", SPAN_FMT(url), mark, SPAN_FMT(sas));
    return url; /* arena_printf terminates */
}

static struct curl_slist *header_list(struct wan *request)
{
    /* No 100-continue round trip, no content type curl would invent. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");

    for (unsigned i = 0; i < request->header_count; i++) {
        const struct pair *h = &request->headers[i];
        struct span line =
            h->value.len
                ? arena_printf(request->arena, "%.*s: %.*s", SPAN_FMT(h->name), SPAN_FMT(h->value))
                : arena_printf(request->arena, "%.*s;",
                               SPAN_FMT(h->name)); /* curl's "empty value" */

        list = curl_slist_append(list, line.base);
    }
    return list;
}

static void set_method(struct wan *request)
{
    CURL *easy = request->easy;

    if (request->method == WAN_HEAD)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else if (request->method == WAN_DELETE)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "DELETE");
    if (request->method != WAN_PUT)
        return;
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body.len);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
    curl_easy_setopt(easy, CURLOPT_READDATA, request);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, request);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, CURL_BUFFER_BYTES);
}

/* Judged here, after the name server's answer: a name says nothing of where it leads. */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct wan *request = arg;

    if (!copy_address_allowed(request->remote->policy, &address->addr)) {
        request->address_refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static void set_transport(struct wan *request)
{
    const struct remote_conf *conf = &request->remote->conf;
    CURL *easy = request->easy;

    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");      /* no surprise from the environment */
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L); /* ".." and "//" are legal in blob names */
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, CURL_BUFFER_BYTES);
    /* A name server that does not answer costs its resolver thread, not ours: without it curl joins
     * that thread when the connect timeout is over, and all accounts stand meanwhile. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, DNS_KEPT_SECONDS);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)conf->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT,
                     request->method == WAN_GET ? BODY_BYTES_PER_SECOND_MIN : 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)((conf->stall_timeout_ms + 999) / 1000));
    if (request->remote->policy) {
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, request);
    }
    if (request->remote->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, request->remote->ca_file);
}

/* After an outage kept connections may be dead without a word (a firewall has forgotten them) and
 * would cost a stall each: the probe makes its own, and none from before is used again. */
static void set_freshness(struct wan *request)
{
    const struct remote *remote = request->remote;
    uint64_t since_ns = clock_mono_ns() - remote->lost_ns;

    if (remote->breaker.state == BREAKER_PROBING || request->once)
        curl_easy_setopt(request->easy, CURLOPT_FRESH_CONNECT, 1L);
    if (remote->lost_ns)
        curl_easy_setopt(request->easy, CURLOPT_MAXLIFETIME_CONN,
                         (long)MAX(since_ns / NS_PER_SEC, 1));
}

static void set_callbacks(struct wan *request)
{
    CURL *easy = request->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_receive);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->failure);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, request);
    curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_sockopt);
}

void wan_send(struct wan *request)
{
    struct client *client = request->remote->client;

    request->started_ns = clock_mono_ns();
    wan_sign(request);
    request->easy = client_easy_get(client);
    set_transport(request);
    set_freshness(request);
    set_method(request);
    set_callbacks(request);
    request->header_list = header_list(request);
    curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->header_list);
    curl_easy_setopt(request->easy, CURLOPT_URL, wan_url(request).base);
    atomic_fetch_add_explicit(&request->remote->stats.requests, 1, memory_order_relaxed);
    STAT_INC(upstream_requests);
    if (client_add(client, request->easy))
        wan_end(request, -EIO);
}

/* ---- ending ---- */

static int transport_error(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return -EHOSTUNREACH;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return -ECONNRESET;
    default:
        return -EPROTO;
    }
}

/* Back to idle, its connection and handle given up. */
static void wan_release(struct wan *request)
{
    if (!request->easy)
        return;
    client_remove(request->remote->client, request->easy);
    client_easy_put(request->remote->client, request->easy);
    request->easy = NULL;
    curl_slist_free_all(request->header_list);
    request->header_list = NULL;
}

void wan_end(struct wan *request, int err)
{
    struct completion *done = request->done;

    wan_release(request);
    request->done = NULL;
    remote_ended(request->remote, request, err);
    request->state = WAN_IDLE;
    completion_post(done, err);
}

void wan_transfer_ended(struct wan *request, int curl_code)
{
    int err = transport_error((CURLcode)curl_code);

    if (request->abort_err)
        err = request->abort_err;
    /* An early refusal closes while we still send: the answer counts, not the broken pipe. */
    else if (err == -ECONNRESET && request->head_done && request->answer.status >= 300)
        err = 0;
    else if (!err && !request->head_done)
        err = -EPROTO;
    wan_end(request, err);
}

void wan_start(struct wan *request, struct completion *done)
{
    assert(request->state == WAN_IDLE && loop_is_mine(done->loop));
    request->done = done;
    request->state = WAN_WAITING;
    remote_queue(request->remote, request);
}

void wan_resume(struct wan *request)
{
    if (request->state != WAN_RUNNING || !request->paused)
        return;
    request->paused = false;
    /* Gives the bytes again; the next round goes on. Refused now, curl would drop them and go on.
     */
    if (curl_easy_pause(request->easy, CURLPAUSE_CONT) != CURLE_OK)
        wan_end(request, request->abort_err ? request->abort_err : -ECONNRESET);
}

void wan_cancel(struct wan *request)
{
    if (request->state == WAN_IDLE)
        return;
    if (request->state == WAN_WAITING)
        remote_forget(request->remote, request);
    wan_end(request, -ECANCELED);
}
