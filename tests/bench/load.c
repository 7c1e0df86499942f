/* tests/bench/load.c - HTTP/1.1 load generator: N keep-alive connections, each sending its next
 * request when the answer to the last one is complete. Answers are counted, not copied (MSG_TRUNC),
 * so that it stays cheap beside the server.
 *
 * usage: load [options] http://HOST:PORT/TARGET
 *   -c N         connections (16)              -t N     threads (1)
 *   -m METHOD    GET, PUT, HEAD, DELETE (GET)  -s N     body bytes of a PUT (0)
 *   -d SECONDS   how long (5)                  -n N     or how many requests
 *   -H 'A: b'    more headers, repeatable      -w N     numbers wrap at N (never)
 *   -p PID       server process whose CPU time is taken too
 *   -r SEED      numbers in random order below -w
 * {n} in the target becomes the request's number, 8 digits. Signed requests: put a SAS into the
 * target. Prints one JSON object. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/span.h"
#include "base/util.h"

#define HEAD_MAX       8192
#define THREADS_MAX    64
#define BUCKETS        (64 * 16) /* latency in ns: power of two, then 16 steps each */
#define RECV_BYTES     65536
#define ANSWER_MAX     (256 << 10)
#define BODY_PIECE_MAX (4 << 20)

struct options {
    unsigned connections, threads, header_len;
    const char *method, *target;
    char host[256], headers[4096];
    struct addrinfo *address;
    uint64_t body_bytes, requests, wrap, random;
    double seconds;
    int pid;
};

struct worker {
    const struct options *o;
    pthread_t thread;
    int epoll;
    unsigned live;
    uint64_t requests, errors, refused, bytes, latency[BUCKETS], max_ns;
};

struct conn {
    struct worker *worker;
    int fd;
    char head[HEAD_MAX];
    size_t head_len, sent, in_len; /* sent: of head and body */
    uint64_t started_ns, answer_left;
    bool reading_body, wants_write;
    char in[HEAD_MAX];
};

static char *body; /* BODY_PIECE_MAX, sent again and again */
static _Atomic uint64_t number, issued;
static uint64_t until_ns;

/* ---- latency ---- */

static unsigned bucket_of(uint64_t ns)
{
    unsigned power = 63 - (unsigned)__builtin_clzll(ns | 16);

    return (power - 4) * 16 + (unsigned)((ns >> (power - 4)) & 15) + 16;
}

static double bucket_us(unsigned bucket)
{
    unsigned power = (bucket - 16) / 16 + 4;

    return (double)((16 + (bucket - 16) % 16 + 0.5) * (double)(1ULL << (power - 4))) / 1000;
}

static double percentile_us(const uint64_t *latency, uint64_t total, double part)
{
    uint64_t seen = 0;

    for (unsigned i = 16; i < BUCKETS; i++) {
        seen += latency[i];
        if (seen && (double)seen >= part * (double)total)
            return bucket_us(i);
    }
    return 0;
}

/* ---- one request ---- */

static uint64_t next_number(const struct options *o)
{
    uint64_t n = atomic_fetch_add(&number, 1);

    if (o->random)
        n = (n + o->random) * 0x9E3779B97F4A7C15ULL >> 20;
    return o->wrap ? n % o->wrap : n;
}

static void request_build(struct conn *c)
{
    const struct options *o = c->worker->o;
    const char *at = strstr(o->target, "{n}");
    int n = snprintf(c->head, HEAD_MAX, "%s %.*s", o->method,
                     at ? (int)(at - o->target) : (int)strlen(o->target), o->target);

    if (at)
        n += snprintf(c->head + n, HEAD_MAX - (size_t)n, "%08llu%s",
                      (unsigned long long)next_number(o), at + 3);
    n += snprintf(c->head + n, HEAD_MAX - (size_t)n, " HTTP/1.1\r\nHost: %s\r\n%s", o->host,
                  o->headers);
    if (o->body_bytes || !strcmp(o->method, "PUT"))
        n += snprintf(c->head + n, HEAD_MAX - (size_t)n, "Content-Length: %llu\r\n",
                      (unsigned long long)o->body_bytes);
    n += snprintf(c->head + n, HEAD_MAX - (size_t)n, "\r\n");
    if ((size_t)n >= sizeof(c->head)) {
        fprintf(stderr, "load: the request head is too long\n");
        exit(2);
    }
    c->head_len = (size_t)n;
}

static bool is_over(const struct options *o)
{
    if (o->requests)
        return atomic_fetch_add(&issued, 1) >= o->requests;
    return clock_mono_ns() >= until_ns;
}

static void conn_want(struct conn *c, bool write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};

    if (c->wants_write != write)
        epoll_ctl(c->worker->epoll, EPOLL_CTL_MOD, c->fd, &event);
    c->wants_write = write;
}

static void conn_end(struct conn *c, bool failed)
{
    c->worker->errors += failed;
    c->worker->live--;
    close(c->fd);
    free(c);
}

static bool conn_send(struct conn *c) /* false: the connection is gone */
{
    uint64_t total = c->head_len + c->worker->o->body_bytes;

    while (c->sent < total) {
        size_t of_head = c->sent < c->head_len ? c->head_len - c->sent : 0;
        uint64_t at = c->sent - (c->head_len - of_head);
        struct iovec iov[] = {{c->head + c->sent * (of_head > 0), of_head},
                              {body, MIN(c->worker->o->body_bytes - at, (uint64_t)BODY_PIECE_MAX)}};
        struct msghdr message = {.msg_iov = of_head ? iov : iov + 1, .msg_iovlen = of_head ? 2 : 1};
        ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) {
            conn_end(c, true);
            return false;
        }
        c->sent += (size_t)n;
    }
    conn_want(c, c->sent < total);
    return true;
}

static bool conn_next(struct conn *c)
{
    if (is_over(c->worker->o)) {
        conn_end(c, false);
        return false;
    }
    request_build(c);
    c->sent = c->in_len = 0;
    c->reading_body = false;
    c->started_ns = clock_mono_ns();
    return conn_send(c);
}

static void request_done(struct conn *c)
{
    uint64_t ns = clock_mono_ns() - c->started_ns;
    struct worker *w = c->worker;

    w->requests++;
    w->bytes += w->o->body_bytes;
    w->latency[bucket_of(ns)]++;
    w->max_ns = MAX(w->max_ns, ns);
}

/* ---- answers ---- */

static bool answer_head(struct conn *c) /* false: more is needed, or it is nonsense */
{
    char *end, *length;
    int status;

    c->in[c->in_len] = 0;
    end = strstr(c->in, "\r\n\r\n");
    if (!end || sscanf(c->in, "HTTP/1.1 %d", &status) != 1)
        return false;
    length = strcasestr(c->in, "\r\nContent-Length: ");
    c->worker->refused += status < 200 || status > 299;
    c->answer_left =
        length && strcmp(c->worker->o->method, "HEAD") ? strtoull(length + 18, NULL, 10) : 0;
    c->worker->bytes += c->answer_left;
    c->answer_left -= MIN(c->answer_left, c->in_len - (size_t)(end + 4 - c->in));
    c->reading_body = true;
    return true;
}

static ssize_t conn_recv(struct conn *c)
{
    ssize_t n;

    if (c->reading_body)
        n = recv(c->fd, NULL, MIN(c->answer_left, (uint64_t)ANSWER_MAX), MSG_TRUNC);
    else
        n = recv(c->fd, c->in + c->in_len, HEAD_MAX - 1 - c->in_len, 0);
    if (n <= 0)
        return n;
    if (c->reading_body)
        c->answer_left -= (uint64_t)n;
    else
        c->in_len += (size_t)n;
    return n;
}

static bool conn_read(struct conn *c) /* false: the connection is gone */
{
    for (;;) {
        ssize_t n = conn_recv(c);

        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0) {
            conn_end(c, true);
            return false;
        }
        if (!c->reading_body && !answer_head(c))
            continue;
        if (c->answer_left)
            continue;
        if (c->sent < c->head_len + c->worker->o->body_bytes) { /* refused early */
            conn_end(c, true);
            return false;
        }
        request_done(c);
        return conn_next(c);
    }
}

/* ---- threads ---- */

static void conn_open(struct worker *w)
{
    struct conn *c = xcalloc(1, sizeof(*c));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;

    c->worker = w;
    c->fd = socket(w->o->address->ai_family, SOCK_STREAM, 0);
    if (connect(c->fd, w->o->address->ai_addr, w->o->address->ai_addrlen)) {
        perror("load: connect");
        exit(1);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(w->epoll, EPOLL_CTL_ADD, c->fd, &event);
    w->live++;
    (void)conn_next(c);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct epoll_event events[64];
    unsigned mine = w->o->connections / w->o->threads;

    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (unsigned i = 0; i < MAX(mine, 1u); i++)
        conn_open(w);
    while (w->live) {
        int n = epoll_wait(w->epoll, events, countof(events), 1000);

        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;

            if ((events[i].events & EPOLLOUT) && !conn_send(c))
                continue;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                (void)conn_read(c);
        }
    }
    return NULL;
}

/* ---- the run ---- */

static double cpu_of(int pid) /* user + system seconds; 0 without a pid */
{
    char path[64], text[1024] = "";
    unsigned long user = 0, system = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    f = pid ? fopen(path, "r") : NULL;
    if (!f)
        return 0;
    if (fread(text, 1, sizeof(text) - 1, f) > 0 && strrchr(text, ')'))
        sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &system);
    fclose(f);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double cpu_of_self(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void print_result(const struct worker *all, double seconds, double self_cpu,
                         double server_cpu)
{
    double gb = (double)all->bytes / 1e9, n = (double)MAX(all->requests, 1ULL);

    printf("{\"requests\": %llu, \"errors\": %llu, \"not_2xx\": %llu, \"seconds\": %.3f, "
           "\"rps\": %.1f, \"gb_s\": %.3f, \"p50_us\": %.0f, \"p90_us\": %.0f, \"p99_us\": %.0f, "
           "\"p999_us\": %.0f, \"max_us\": %.0f, \"client_cpu_s\": %.2f, \"server_cpu_s\": %.2f, "
           "\"server_us_per_request\": %.2f, \"server_cpu_s_per_gb\": %.3f}\n",
           (unsigned long long)all->requests, (unsigned long long)all->errors,
           (unsigned long long)all->refused, seconds, n / seconds, gb / seconds,
           percentile_us(all->latency, all->requests, 0.5),
           percentile_us(all->latency, all->requests, 0.9),
           percentile_us(all->latency, all->requests, 0.99),
           percentile_us(all->latency, all->requests, 0.999), (double)all->max_ns / 1000, self_cpu,
           server_cpu, server_cpu * 1e6 / n, gb > 0 ? server_cpu / gb : 0);
}

static void add_up(struct worker *all, const struct worker *w)
{
    all->requests += w->requests;
    all->errors += w->errors;
    all->refused += w->refused;
    all->bytes += w->bytes;
    all->max_ns = MAX(all->max_ns, w->max_ns);
    for (unsigned i = 0; i < BUCKETS; i++)
        all->latency[i] += w->latency[i];
}

static void run(const struct options *o)
{
    static struct worker workers[THREADS_MAX], all;
    double self_cpu = cpu_of_self(), server_cpu = cpu_of(o->pid);
    uint64_t start_ns = clock_mono_ns();

    until_ns = start_ns + (uint64_t)(o->seconds * (double)NS_PER_SEC);
    for (unsigned i = 0; i < o->threads; i++) {
        workers[i].o = o;
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]))
            abort();
    }
    for (unsigned i = 0; i < o->threads; i++) {
        pthread_join(workers[i].thread, NULL);
        add_up(&all, &workers[i]);
    }
    print_result(&all, (double)(clock_mono_ns() - start_ns) / 1e9, cpu_of_self() - self_cpu,
                 cpu_of(o->pid) - server_cpu);
    exit(all.errors || !all.requests ? 1 : 0);
}

/* ---- options ---- */

static int usage(void)
{
    fprintf(stderr,
            "usage: load [-c N] [-t N] [-m METHOD] [-s BYTES] [-d SECONDS | -n N] [-H HEADER]... "
            "[-w N] [-r SEED] [-p PID] http://HOST:PORT/TARGET\n");
    return 2;
}

static int parse_url(const char *url, struct options *o)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    char name[256];
    const char *slash;
    char *port;

    if (strncmp(url, "http://", 7) || !(slash = strchr(url + 7, '/')) ||
        (size_t)(slash - url - 7) >= sizeof(o->host))
        return -EINVAL;
    memcpy(o->host, url + 7, (size_t)(slash - url - 7));
    strcpy(name, o->host);
    port = strrchr(name, ':');
    if (port)
        *port++ = 0;
    o->target = slash;
    return getaddrinfo(name, port ? port : "80", &hints, &o->address) ? -EINVAL : 0;
}

static void add_header(struct options *o, const char *header)
{
    int n =
        snprintf(o->headers + o->header_len, sizeof(o->headers) - o->header_len, "%s\r\n", header);

    o->header_len += (unsigned)n;
    if (o->header_len >= sizeof(o->headers))
        exit(usage());
}

static int parse_option(struct options *o, int c)
{
    switch (c) {
    case 'c':
        o->connections = (unsigned)atoi(optarg);
        return 0;
    case 't':
        o->threads = MIN(MAX((unsigned)atoi(optarg), 1u), (unsigned)THREADS_MAX);
        return 0;
    case 'm':
        o->method = optarg;
        return 0;
    case 's':
        o->body_bytes = strtoull(optarg, NULL, 10);
        return 0;
    case 'd':
        o->seconds = atof(optarg);
        return 0;
    case 'n':
        o->requests = strtoull(optarg, NULL, 10);
        return 0;
    case 'w':
        o->wrap = strtoull(optarg, NULL, 10);
        return 0;
    case 'r':
        o->random = strtoull(optarg, NULL, 10);
        return 0;
    case 'p':
        o->pid = atoi(optarg);
        return 0;
    case 'H':
        add_header(o, optarg);
        return 0;
    default:
        return -EINVAL;
    }
}

int main(int argc, char **argv)
{
    struct options o = {.connections = 16, .threads = 1, .method = "GET", .seconds = 5};
    int c;

    while ((c = getopt(argc, argv, "c:t:m:s:d:n:w:r:p:H:")) != -1)
        if (parse_option(&o, c))
            return usage();
    if (optind + 1 != argc || parse_url(argv[optind], &o))
        return usage();
    body = xmalloc(BODY_PIECE_MAX);
    for (unsigned i = 0; i < BODY_PIECE_MAX; i++)
        body[i] = (char)(i * 31 >> 5);
    run(&o);
}
