/* server/main.c - the process: command line, start order, signals, stop order.
 *
 * Parts start in the order they lean on each other and stop in reverse:
 *   buffers, workers -> cache (replays, serves nothing yet) -> upstream -> blobapi -> server;
 * only the server's loops outlive the upstream thread, which posts to them until it has ended. */
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/iobuf.h"
#include "base/log.h"
#include "blobapi/blobapi.h"
#include "server/config.h"
#include "server/server.h"

#define EXIT_USAGE    2
#define EXIT_DAMAGE   70 /* durable truth and its view part: start again, the log replays */
#define OVERRIDES_MAX 64
/* Descriptors that are no client's: index, cloud, devices, loops, admin port, clients turned away.
 * Under a low limit half of it must do, but less than this is not enough to work at all. */
#define FILES_BESIDE   1024
#define FILES_MIN      512       /* in words in run() */
#define LOG_WAIT_MS    1000      /* for standard error, when nothing is served */
#define LOG_PIPE_BYTES (1 << 20) /* what a pipe there may hold: a burst is not dropped */

struct options {
    const char *conf;
    const char *overrides[OVERRIDES_MAX];
    unsigned override_count;
    bool check_only, discard;
};

struct appliance {
    struct config *config;
    struct workers *workers;
    struct cache *cache;
    struct upstream *upstream;
    struct identity *identity;
    struct blobapi *api;
    struct server *server;
    _Atomic bool serving;
};

static const char help[] =
    "usage: hearth -c appliance.conf [-o key=value]...   serve until SIGTERM\n"
    "       hearth --check -c appliance.conf             validate the configuration and exit\n"
    "       hearth check -c appliance.conf               walk index and log of a stopped box\n"
    "       hearth format --discard -c appliance.conf    forget everything the devices hold\n"
    "       hearth --example                             print an annotated appliance.conf\n"
    "\n"
    "  -c, --config FILE   configuration (required)\n"
    "  -o KEY=VALUE        override a top-level key, e.g. -o listen=127.0.0.1:10000; repeatable\n"
    "      --check         validate and exit: 0 valid, 2 not\n"
    "      --version       print the version\n"
    "  -h, --help          print this\n"
    "\n"
    "SIGTERM lets running requests finish (drain_timeout) and stops; a second one ends at once.\n"
    "Exit codes: 0 stopped in order, 1 start failed, 2 bad usage or configuration, 70 stopped to "
    "protect data.\n";

static void on_fatal(void *arg, const char *why)
{
    log_wait_ms = LOG_WAIT_MS;
    log_error("stopping: what is durable can no longer be shown or kept in step",
              KV_STR("why", why));
    _exit(EXIT_DAMAGE);
}

/* ---- what connections may cost ---- */

/* Idle, the kernel's part not counted (design section 9). */
static uint64_t connection_bytes(const struct config *config)
{
    return config->tls_cert ? KIB(32) : KIB(8);
}

static void connections_lower(struct config *config, uint64_t fit, const char *why)
{
    if (config->connections_max > fit) {
        log_warn("fewer connections than connections_max", KV_UINT("connections", fit),
                 KV_UINT("connections_max", config->connections_max), KV_STR("why", why));
        config->connections_max = (unsigned)fit;
    }
}

/* As many as half of `memory` and the limit of open files let live: the index and the sockets to
 * the cloud must find a descriptor when the clients have theirs. */
static int connections_fit(struct config *config)
{
    struct rlimit files;
    uint64_t beside;

    connections_lower(config, config->memory / 2 / connection_bytes(config),
                      "they may take half of memory");
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return -errno;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0)
        log_warn("cannot raise the limit of open files", KV_ERR(-errno));
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return -errno;
    if (files.rlim_cur < FILES_MIN)
        return -EMFILE;
    beside = MIN(FILES_BESIDE, files.rlim_cur / 2);
    connections_lower(config, files.rlim_cur - beside, "the limit of open files (ulimit -n)");
    return 0;
}

/* Before the rest: connections, the buffers to the cloud, what eviction knows of the devices. */
static uint64_t memory_taken(const struct config *config)
{
    return config->connections_max * connection_bytes(config) + upstream_memory(&config->accounts) +
           cache_book_bytes(config->devices, config->device_count);
}

/* What of `memory` is left: half of it at least. Each of the rest has its part of it; what
 * these leave is tables, descriptors in use and the allocator's own. */
static uint64_t memory_left(const struct config *config)
{
    return config->memory - MIN(memory_taken(config), config->memory / 2);
}

static void memory_check(const struct config *config)
{
    if (memory_taken(config) > config->memory / 2)
        log_warn("memory may be exceeded: raise it, or lower connections_max",
                 KV_UINT("memory", config->memory),
                 KV_UINT("connections_cloud_and_devices", memory_taken(config)));
}

static int buffers_open(uint64_t memory)
{
    const struct iobuf_pools_conf pools = {
        .bytes = {[IOBUF_4K] = memory / 64, [IOBUF_64K] = memory / 16, [IOBUF_512K] = memory / 5}};

    return iobuf_pools_open(&pools);
}

static struct cache_conf cache_conf_of(const struct appliance *box)
{
    const struct config *config = box->config;
    static const int io[] = {CACHE_IO_AUTO, CACHE_IO_URING, CACHE_IO_BLOCKING};

    return (struct cache_conf){
        .data = span_of(config->data),
        .devices = config->devices,
        .device_count = config->device_count,
        .accounts = &config->accounts,
        .memory_tier_bytes =
            memory_left(config) * 8 / 25, /* names take a quarter of it beside it */
        .index_cache_bytes = memory_left(config) / 8,
        .staged_ttl_ns = config->staged_ttl_ns,
        .workers = box->workers,
        .io = io[config->io],
        .fatal = on_fatal,
    };
}

static bool any_upstream(const struct accounts *accounts)
{
    for (unsigned i = 0; i < accounts->count; i++)
        if (!account_is_local(&accounts->at[i]))
            return true;
    return false;
}

/* ---- what the server asks of the rest ---- */

static int on_attach(void *arg, struct loop *loop)
{
    struct appliance *box = arg;

    return cache_attach_loop(box->cache, loop);
}

static void on_detach(void *arg, struct loop *loop)
{
    struct appliance *box = arg;

    cache_detach_loop(box->cache, loop);
}

static bool on_ready(void *arg)
{
    struct appliance *box = arg;

    return atomic_load(&box->serving);
}

static char *on_status(void *arg, size_t *ret_len)
{
    struct appliance *box = arg;
    const struct cache_stats s = cache_stats(box->cache);
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);

    if (!out)
        abort();
    fprintf(out, "devices      %" PRIu64 " MiB, %" PRIu64 " MiB free%s\n", s.device_bytes >> 20,
            s.free_bytes >> 20, s.read_only ? ", READ-ONLY: a device failed" : "");
    fprintf(out,
            "bytes        %" PRIu64 " MiB clean, %" PRIu64 " MiB dirty, %" PRIu64
            " MiB staged, %" PRIu64 " MiB only here\n",
            s.clean_bytes >> 20, s.dirty_bytes >> 20, s.staged_bytes >> 20, s.sole_bytes >> 20);
    fprintf(out,
            "uploads      %" PRIu64 " waiting, %" PRIu64 " in flight, %" PRIu64
            " held; oldest %" PRIu64 " s\n",
            s.uploads_waiting, s.uploads_in_flight, s.uploads_held,
            (uint64_t)(s.oldest_upload_ns / NS_PER_SEC));
    fprintf(out, "commit log   %" PRIu64 " commits, %" PRIu64 " MiB\n", s.commits,
            s.log_bytes >> 20);
    for (unsigned i = 0; box->upstream && i < box->config->accounts.count; i++) {
        const struct account *account = &box->config->accounts.at[i];
        struct upstream_stats u;

        if (account_is_local(account))
            continue;
        u = upstream_stats(box->upstream, account->id);
        fprintf(out, "cloud        %.*s: %s, %" PRIu64 " requests, %" PRIu64 " errors\n",
                SPAN_FMT(account->name), u.online ? "online" : "OFFLINE", u.requests, u.errors);
    }
    fclose(out);
    return text;
}

static void on_finished(void *arg, const struct exchange *exchange,
                        const struct server_outcome *outcome)
{
    log_info("request", KV_SPAN("method", exchange->method), KV_INT("status", outcome->status),
             KV_UINT("bytes_in", outcome->bytes_in), KV_UINT("bytes_out", outcome->bytes_out),
             KV_UINT("us", outcome->duration_ns / 1000), KV_INT("whole", outcome->whole),
             KV_SPAN("path", span_cut(exchange->target, '?',
                                      &(struct span){0}))); /* the query may hold sig= */
}

/* ---- start and stop ---- */

static int start_failed(const char *what, const char *why, int err)
{
    log_error("cannot start", KV_STR("part", what), KV_STR("why", why ? why : strerror(-err)));
    return err;
}

static int upstream_start(struct appliance *box)
{
    const struct upstream_conf conf = {.cache = box->cache,
                                       .accounts = &box->config->accounts,
                                       .workers = box->workers,
                                       .copy_policy = &box->config->copy_policy};
    bool needed = any_upstream(&box->config->accounts) || box->config->copy_policy.origin_count;

    return needed ? upstream_open_all(&conf, &box->upstream) : 0;
}

static int server_start(struct appliance *box, const char **why)
{
    const struct config *config = box->config;
    const struct server_conf conf = {
        .listen = config->listen,
        .admin = config->admin,
        .loops = config->loops,
        .tls_cert = config->tls_cert,
        .tls_key = config->tls_key,
        .limits = {.connections_max = config->connections_max,
                   .head_ms = config->head_timeout_ns / NS_PER_MS,
                   .body_idle_ms = config->body_idle_timeout_ns / NS_PER_MS,
                   .write_stall_ms = config->write_stall_timeout_ns / NS_PER_MS,
                   .keep_alive_ms = config->keepalive_timeout_ns / NS_PER_MS},
        .api = box->api,
        .start = blobapi_start,
        .finished = config->access_log ? on_finished : NULL,
        .attach = on_attach,
        .detach = on_detach,
        .ready = on_ready,
        .status = on_status,
        .arg = box,
    };

    return server_open(&conf, &box->server, why);
}

static int start(struct appliance *box)
{
    const struct cache_conf cache_conf = cache_conf_of(box);
    const struct blobapi_conf api_conf = {.accounts = &box->config->accounts,
                                          .workers = box->workers,
                                          .copies_from_elsewhere =
                                              box->config->copy_policy.origin_count > 0};
    struct blobapi_conf api = api_conf;
    _cleanup_(freep) char *why = NULL;
    const char *server_why = NULL;
    int err = cache_open(&cache_conf, &box->cache, &why);

    if (err < 0)
        return start_failed("cache", why, err);
    err = upstream_start(box);
    if (err < 0)
        return start_failed("upstream", NULL, err);
    free(TAKE(why));
    err = identity_open(&box->config->identity, &box->identity, &why);
    if (err < 0)
        return start_failed("identity", why, err);
    api.identity = box->identity;
    api.cache = box->cache;
    api.upstream = box->upstream;
    err = blobapi_open(&api, &box->api);
    if (err < 0)
        return start_failed("blobapi", NULL, err);
    err = server_start(box, &server_why);
    if (err < 0)
        return start_failed("server", server_why, err);
    atomic_store(&box->serving, true);
    log_info("serving", KV_STR("version", HEARTH_VERSION),
             KV_UINT("port", server_port(box->server)),
             KV_UINT("admin_port", server_admin_port(box->server)));
    log_wait_ms = 0;
    return 0;
}

/* Clients go first, their loops last: an answer of the cloud whose client has gone, or did not wait
 * for it (a revalidation over its budget), still comes back to the loop it was asked on. Until the
 * loops end the admin port answers on them, from what is left. */
static void stop(struct appliance *box)
{
    if (box->server)
        server_drain(box->server, 0);
    if (box->upstream)
        upstream_stop(box->upstream, 2 * NS_PER_SEC);
    box->server = server_close(box->server);
    box->upstream = upstream_close(box->upstream, 0);
    box->api = blobapi_close(box->api);
    box->identity = identity_close(box->identity);
    if (box->cache)
        box->cache = cache_close(box->cache);
}

static sigset_t stop_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

/* The first SIGTERM drains; from then on the default action, the end, is what a second one gets. */
static void wait_and_drain(struct appliance *box)
{
    const sigset_t set = stop_signals();
    int got;

    while (sigwait(&set, &got) != 0)
        ;
    log_info("draining; a second signal ends at once", KV_INT("signal", got));
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    atomic_store(&box->serving, false);
    server_drain(box->server, box->config->drain_timeout_ns);
    log_wait_ms = LOG_WAIT_MS;
}

/* Before any thread is there: only main takes them, in wait_and_drain, also what came in the start.
 */
static void signals_take(void)
{
    const sigset_t set = stop_signals();

    signal(SIGPIPE, SIG_IGN); /* h2o and OpenSSL write to sockets that may be gone */
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int serve(struct appliance *box)
{
    int err;

    (void)fcntl(STDERR_FILENO, F_SETPIPE_SZ, LOG_PIPE_BYTES);
    err = start(box);

    if (err == 0)
        wait_and_drain(box);
    stop(box);
    if (err == 0)
        log_info("stopped");
    return err < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void on_finding(void *arg, const char *line)
{
    puts(line);
}

static int run_check(struct appliance *box)
{
    const struct cache_conf conf = cache_conf_of(box);
    int findings = cache_check(&conf, on_finding, NULL);

    if (findings < 0) {
        fprintf(stderr, "hearth check: %s\n", strerror(-findings));
        return EXIT_FAILURE;
    }
    printf("%d findings\n", findings);
    return findings ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_format(struct appliance *box)
{
    struct cache_conf conf = cache_conf_of(box);
    _cleanup_(freep) char *why = NULL;
    int err;

    conf.format_discard = true;
    err = cache_open(&conf, &box->cache, &why);
    if (err < 0) {
        fprintf(stderr, "hearth format: %s\n", why ? why : strerror(-err));
        return EXIT_FAILURE;
    }
    box->cache = cache_close(box->cache);
    puts("formatted: devices and index are empty");
    return EXIT_SUCCESS;
}

/* ---- command line ---- */

static int usage_error(const char *what)
{
    fprintf(stderr, "hearth: %s\n%s", what, help);
    return EXIT_USAGE;
}

enum { OPTION_CHECK = 256, OPTION_VERSION, OPTION_EXAMPLE, OPTION_DISCARD };

/* -1: go on; else the exit code. */
static int options_parse(int argc, char **argv, struct options *options)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"check", no_argument, NULL, OPTION_CHECK},
                                          {"version", no_argument, NULL, OPTION_VERSION},
                                          {"example", no_argument, NULL, OPTION_EXAMPLE},
                                          {"discard", no_argument, NULL, OPTION_DISCARD},
                                          {0}};
    int c;

    while ((c = getopt_long(argc, argv, "c:o:h", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            options->conf = optarg;
            break;
        case 'o':
            if (options->override_count == OVERRIDES_MAX)
                return usage_error("too many -o");
            options->overrides[options->override_count++] = optarg;
            break;
        case OPTION_CHECK:
            options->check_only = true;
            break;
        case OPTION_DISCARD:
            options->discard = true;
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_SUCCESS;
        case OPTION_VERSION:
            puts("hearth " HEARTH_VERSION);
            return EXIT_SUCCESS;
        case OPTION_EXAMPLE:
            config_print_example(stdout);
            return EXIT_SUCCESS;
        default:
            return EXIT_USAGE;
        }
    }
    return options->conf ? -1 : usage_error("which configuration? -c appliance.conf");
}

static int run(const char *command, const struct options *options, struct appliance *box)
{
    int code;

    log_level_min = box->config->log_level;
    if (!command)
        signals_take();
    if (!command && connections_fit(box->config) < 0)
        return start_failed("files",
                            "the limit of open files is below 512: raise it (ulimit -n 65536)",
                            -EMFILE),
               EXIT_FAILURE;
    if (!command)
        memory_check(box->config);
    if (buffers_open(memory_left(box->config)) < 0)
        return start_failed("buffers", "not enough memory: lower `memory`", -ENOMEM), EXIT_FAILURE;
    box->workers = workers_new(box->config->workers, "worker");
    if (!command)
        code = serve(box);
    else if (strcmp(command, "check") == 0)
        code = run_check(box);
    else if (!options->discard)
        code = usage_error("format needs --discard: it forgets everything the devices hold");
    else
        code = run_format(box);
    workers_free(box->workers);
    iobuf_pools_close();
    return code;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct appliance box = {0};
    _cleanup_(freep) char *why = NULL;
    int code = options_parse(argc, argv, &options);
    const char *command = optind < argc ? argv[optind] : NULL;

    if (code >= 0)
        return code;
    if (command && strcmp(command, "check") != 0 && strcmp(command, "format") != 0)
        return usage_error("unknown command");
    if (config_load(options.conf, options.overrides, options.override_count, &box.config, &why) <
        0) {
        fprintf(stderr, "%s\n", why);
        return EXIT_USAGE;
    }
    if (options.check_only) {
        puts("the configuration is valid");
        config_free(box.config);
        return EXIT_SUCCESS;
    }
    code = run(command, &options, &box);
    config_free(box.config);
    return code;
}
