/* tests/support/fake_cloud.c - see fake_cloud.h. One thread accepts, one per connection serves. */
#include "tests/support/fake_cloud.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/util.h"

#define CONNECTIONS_MAX 256

struct fake_cloud {
    fake_handler *handler;
    void *arg;
    int listener;
    char endpoint[64];
    pthread_t acceptor;
    pthread_mutex_t lock;
    pthread_cond_t released;
    unsigned releases;
    bool closing;
    struct connection {
        struct fake_cloud *cloud;
        pthread_t thread;
        int fd;
        unsigned number;
    } connections[CONNECTIONS_MAX];
    unsigned connection_count;
    struct fake_request *requests[FAKE_REQUESTS_MAX];
    unsigned request_count;
};

static bool read_head(int fd, char *head, size_t *used)
{
    while (!memmem(head, *used, "\r\n\r\n", 4)) {
        ssize_t n = *used < FAKE_HEAD_MAX - 1 ? recv(fd, head + *used, 1, 0) : 0;

        if (n <= 0)
            return false;
        *used += (size_t)n;
    }
    head[*used] = 0;
    return true;
}

struct span fake_header(const struct fake_request *request, const char *name)
{
    struct span rest = span_of(request->head), line, value;

    while (rest.len) {
        line = span_trim(span_cut(rest, '\n', &rest));
        if (line.len && line.base[line.len - 1] == '\r')
            line.len--;
        if (span_eq_nocase(span_cut(line, ':', &value), span_of(name)) && value.base)
            return span_trim(value);
    }
    return (struct span){NULL, 0};
}

static bool read_body(int fd, struct fake_request *request)
{
    struct span length = fake_header(request, "content-length");
    uint64_t bytes = 0;
    size_t at = 0;

    if (length.len && span_to_u64(length, &bytes))
        return false;
    request->body = xmalloc(bytes + 1);
    while (at < bytes) {
        ssize_t n = recv(fd, request->body + at, bytes - at, 0);

        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    request->body_len = bytes;
    return true;
}

static struct fake_request *read_request(int fd)
{
    struct fake_request *request = xcalloc(1, sizeof(*request));
    size_t used = 0;

    if (read_head(fd, request->head, &used) &&
        sscanf(request->head, "%15s %4095s", request->method, request->target) == 2 &&
        read_body(fd, request))
        return request;
    free(request->body);
    free(request);
    return NULL;
}

static bool send_all(int fd, const char *base, size_t len)
{
    while (len) {
        ssize_t n = send(fd, base, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        base += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_answer(int fd, const struct fake_answer *answer)
{
    size_t cut_at = answer->cut_at ? answer->cut_at : answer->stall_at;
    size_t len = cut_at ? MIN(cut_at, answer->body_len) : answer->body_len;
    char head[8192];
    bool ok;
    int n;

    if (!answer->status)
        return false;
    n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n",
                 answer->status, answer->body_len, answer->headers);
    ok = send_all(fd, head, (size_t)n);
    if (answer->no_body || !len || !ok)
        return ok && !answer->cut_at;
    if (answer->corrupt_at) {
        char *copy = xmalloc(len);

        memcpy(copy, answer->body, len);
        copy[answer->corrupt_at - 1] ^= 4;
        ok = send_all(fd, copy, len);
        free(copy);
    } else {
        ok = send_all(fd, answer->body, len);
    }
    return ok && !answer->cut_at;
}

static void stand_still(struct fake_cloud *cloud) /* lock held */
{
    for (unsigned seen = cloud->releases; seen == cloud->releases && !cloud->closing;)
        pthread_cond_wait(&cloud->released, &cloud->lock);
}

static void answer_of(struct fake_cloud *cloud, struct fake_request *request,
                      struct fake_answer *answer)
{
    SCOPED_LOCK(&cloud->lock);
    if (cloud->request_count < FAKE_REQUESTS_MAX)
        cloud->requests[cloud->request_count++] = request;
    cloud->handler(cloud->arg, request, answer);
    if (answer->stall)
        stand_still(cloud);
}

static void *serve(void *arg)
{
    struct connection *connection = arg;
    struct fake_request *request;
    bool more = true;

    while (more && (request = read_request(connection->fd))) {
        struct fake_answer answer = {.status = 500};

        request->connection = connection->number;
        answer_of(connection->cloud, request, &answer);
        more = send_answer(connection->fd, &answer);
        if (answer.stall_at) {
            SCOPED_LOCK(&connection->cloud->lock);
            stand_still(connection->cloud);
            more = false;
        }
        if (answer.free_body)
            free((void *)answer.body);
    }
    shutdown(connection->fd, SHUT_RDWR);
    return NULL;
}

static void *accept_all(void *arg)
{
    struct fake_cloud *cloud = arg;

    for (;;) {
        int fd = accept(cloud->listener, NULL, NULL);
        struct connection *connection;

        if (fd < 0)
            return NULL;
        SCOPED_LOCK(&cloud->lock);
        if (cloud->closing || cloud->connection_count == CONNECTIONS_MAX) {
            close(fd);
            continue;
        }
        connection = &cloud->connections[cloud->connection_count];
        *connection =
            (struct connection){.cloud = cloud, .fd = fd, .number = cloud->connection_count++};
        pthread_create(&connection->thread, NULL, serve, connection);
    }
}

struct fake_cloud *fake_cloud_new(fake_handler *handler, void *arg)
{
    struct fake_cloud *cloud = xcalloc(1, sizeof(*cloud));
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);

    cloud->handler = handler;
    cloud->arg = arg;
    pthread_mutex_init(&cloud->lock, NULL);
    pthread_cond_init(&cloud->released, NULL);
    cloud->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(cloud->listener, (struct sockaddr *)&at, sizeof(at)) || listen(cloud->listener, 64) ||
        getsockname(cloud->listener, (struct sockaddr *)&at, &len))
        abort();
    snprintf(cloud->endpoint, sizeof(cloud->endpoint), "http://127.0.0.1:%u/acct",
             (unsigned)ntohs(at.sin_port));
    pthread_create(&cloud->acceptor, NULL, accept_all, cloud);
    return cloud;
}

void fake_cloud_release(struct fake_cloud *cloud)
{
    SCOPED_LOCK(&cloud->lock);
    cloud->releases++;
    pthread_cond_broadcast(&cloud->released);
}

static void close_begin(struct fake_cloud *cloud)
{
    SCOPED_LOCK(&cloud->lock);
    cloud->closing = true;
    pthread_cond_broadcast(&cloud->released);
    shutdown(cloud->listener, SHUT_RDWR);
    for (unsigned i = 0; i < cloud->connection_count; i++)
        shutdown(cloud->connections[i].fd, SHUT_RDWR);
}

struct fake_cloud *fake_cloud_free(struct fake_cloud *cloud)
{
    close_begin(cloud);
    pthread_join(cloud->acceptor, NULL);
    for (unsigned i = 0; i < cloud->connection_count; i++) {
        pthread_join(cloud->connections[i].thread, NULL);
        close(cloud->connections[i].fd);
    }
    close(cloud->listener);
    for (unsigned i = 0; i < cloud->request_count; i++) {
        free(cloud->requests[i]->body);
        free(cloud->requests[i]);
    }
    free(cloud);
    return NULL;
}

const char *fake_cloud_endpoint(const struct fake_cloud *cloud)
{
    return cloud->endpoint;
}

const struct fake_request *fake_cloud_request(struct fake_cloud *cloud, const char *method,
                                              const char *target_part, unsigned nth)
{
    SCOPED_LOCK(&cloud->lock);
    for (unsigned i = 0; i < cloud->request_count; i++)
        if (strcmp(cloud->requests[i]->method, method) == 0 &&
            strstr(cloud->requests[i]->target, target_part) && nth-- == 0)
            return cloud->requests[i];
    return NULL;
}

unsigned fake_cloud_count(struct fake_cloud *cloud, const char *method, const char *target_part)
{
    unsigned n = 0;

    while (fake_cloud_request(cloud, method, target_part, n))
        n++;
    return n;
}
