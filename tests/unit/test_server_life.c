/* Goal: what ends a connection other than its client (timers, limits, drain), TLS, and the admin
 * port. Method: tiny configured times; each test waits for the effect, and a wrong timer never
 * brings it. */
#include "tests/unit/server_fixture.h"

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
#define NEVER_MS    600000

/* All timers out of reach but those a test sets. */
static void open_with(struct server_limits limits)
{
    limits.head_ms = limits.head_ms ? limits.head_ms : NEVER_MS;
    limits.body_idle_ms = limits.body_idle_ms ? limits.body_idle_ms : NEVER_MS;
    limits.write_stall_ms = limits.write_stall_ms ? limits.write_stall_ms : NEVER_MS;
    limits.keep_alive_ms = limits.keep_alive_ms ? limits.keep_alive_ms : NEVER_MS;
    limits.linger_ms = limits.linger_ms ? limits.linger_ms : NEVER_MS;
    fixture_open((struct server_conf){.limits = limits});
}

/* ---- timers ---- */

static void test_server__a_slow_head_times_out(void **state)
{
    int64_t before = STAT_READ(server_timeouts_head);
    int fd;

    open_with((struct server_limits){.head_ms = 20});
    fd = client();
    client_say(fd, "GET / HT");
    client_expect_closed(fd);
    close(fd);
    assert_int_equal(STAT_READ(server_timeouts_head), before + 1);
    fixture_close();
}

static void test_server__trickling_bytes_do_not_extend_the_head(void **state)
{
    int fd;

    open_with((struct server_limits){.head_ms = 50});
    fd = client();
    for (int i = 0; i < 10000 && send(fd, "G", 1, MSG_NOSIGNAL) == 1; i++)
        poll(NULL, 0, 1); /* the pace of the client, not a wait for the server */
    assert_int_equal(send(fd, "G", 1, MSG_NOSIGNAL), -1);
    close(fd);
    fixture_close();
}

static void test_server__an_idle_connection_times_out(void **state)
{
    int64_t before = STAT_READ(server_timeouts_idle);
    int fd;

    open_with((struct server_limits){.keep_alive_ms = 20});
    fd = client();
    client_say(fd, GET("/bytes/0"));
    client_expect(fd, 200, "");
    client_expect_closed(fd);
    close(fd);
    assert_int_equal(STAT_READ(server_timeouts_idle), before + 1);
    fixture_close();
}

static void test_server__a_stalled_body_is_told_to_the_handler(void **state)
{
    int fd;

    open_with((struct server_limits){.body_idle_ms = 20});
    fd = client();
    client_say(fd, "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    client_expect(fd, 408, "");
    client_expect_closed(fd);
    close(fd);
    assert_int_equal(fix.read_err, -ETIMEDOUT);
    fixture_close();
}

/* Real time plus what the test adds. */
static _Atomic uint64_t ahead_ns;

static uint64_t ahead_mono(void *arg)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SEC + (uint64_t)now.tv_nsec + ahead_ns;
}

static int64_t ahead_wall(void *arg)
{
    return (int64_t)ahead_mono(arg);
}

static const struct clock_source ahead = {.mono_ns = ahead_mono, .wall_ns = ahead_wall};

/* Sends pieces of a body a minute apart, where two minutes are over the limit. */
static void send_slowly(int fd, const char *body, size_t piece, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        int64_t before = STAT_READ(server_received_bytes);

        ahead_ns += 60 * NS_PER_SEC;
        client_send(fd, span_from(body + i * piece, piece));
        eventually(STAT_READ(server_received_bytes) == before + (int64_t)piece);
    }
}

static void test_server__64_KiB_of_a_body_restart_its_timer(void **state)
{
    _cleanup_(freep) char *body = xmalloc(MIB(1) / 4 + 1);
    int fd;

    memset(body, 'x', MIB(1) / 4);
    body[MIB(1) / 4] = 0;
    clock_set_source(&ahead);
    open_with((struct server_limits){.body_idle_ms = 100000});
    fd = client();
    client_say(fd, "PUT /bulk HTTP/1.1\r\nHost: a\r\nContent-Length: 262144\r\n\r\n");
    eventually(fix.started == 1);
    send_slowly(fd, body, 65536, 4);
    client_expect(fd, 200, body);
    close(fd);
    fixture_close();
    clock_set_source(NULL);
}

static void test_server__bytes_that_trickle_do_not(void **state)
{
    int fd;

    clock_set_source(&ahead);
    open_with((struct server_limits){.body_idle_ms = 100000});
    fd = client();
    client_say(fd, "PUT /bulk HTTP/1.1\r\nHost: a\r\nContent-Length: 262144\r\n\r\n");
    eventually(fix.started == 1);
    send_slowly(fd, "h", 1, 1);
    ahead_ns +=
        120 * NS_PER_SEC; /* over the limit whenever within the minute before the wait began */
    client_say(fd, "i");
    client_expect(fd, 408, "");
    close(fd);
    assert_int_equal(fix.read_err, -ETIMEDOUT);
    fixture_close();
    clock_set_source(NULL);
}

static void test_server__a_client_that_takes_nothing_times_out(void **state)
{
    int fd;

    open_with((struct server_limits){.write_stall_ms = 30});
    fd = client();
    client_say(fd, GET("/flood"));
    eventually(fix.ended == 1);
    assert_int_equal(fix.send_err, -ETIMEDOUT);
    assert_int_equal(fix.whole, 0);
    close(fd);
    fixture_close();
}

static void test_server__the_outcome_counts_a_body_that_came_with_its_head(void **state)
{
    static const char request[] = "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    int fd;

    open_with((struct server_limits){0});
    fd = client();
    client_say(fd, request);
    client_expect(fd, 200, "hello");
    eventually(fix.ended == 1);
    assert_int_equal(fix.bytes_in, sizeof(request) - 1);
    close(fd);
    fixture_close();
}

static void test_server__a_handler_at_work_is_not_timed(void **state)
{
    int fd;

    open_with((struct server_limits){
        .head_ms = 10, .body_idle_ms = 10, .write_stall_ms = 10, .keep_alive_ms = 500});
    fd = client();
    client_say(fd, "PUT /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    eventually(atomic_load(&fix.held));
    poll(NULL, 0, 50); /* longer than each timer that must not run */
    hold_release();
    client_expect(fd, 200, "hi");
    close(fd);
    fixture_close();
}

static void test_server__a_lingering_client_is_cut(void **state)
{
    int fd;

    open_with((struct server_limits){.linger_ms = 20});
    fd = client();
    client_say(fd, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    client_expect(fd, 200, "");
    eventually(STAT_READ(server_connections) == 0); /* the client never closed */
    close(fd);
    fixture_close();
}

static void test_server__a_client_that_still_sends_may_go_on_for_a_while(void **state)
{
    int64_t before = STAT_READ(server_dropped_bytes);
    int fd;

    clock_set_source(&ahead);
    open_with((struct server_limits){.linger_ms = 100000, .body_idle_ms = 150000});
    fd = client();
    client_say(fd, "PUT /early HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n");
    client_expect(fd, 403, "");
    client_expect_closed(fd); /* its FIN: the server lingers by now */
    for (int i = 1; i <= 2; i++) {
        ahead_ns += 60 * NS_PER_SEC; /* twice is over linger_ms */
        client_say(fd, "x");
        eventually(STAT_READ(server_dropped_bytes) == before + i);
    }
    assert_int_equal(STAT_READ(server_connections), 1);
    ahead_ns += 60 * NS_PER_SEC; /* over what a body may pause */
    client_say(fd, "x");
    eventually(STAT_READ(server_connections) == 0);
    close(fd);
    fixture_close();
    clock_set_source(NULL);
}

static void test_server__a_small_unread_body_may_come_slowly(void **state)
{
    int fd;

    clock_set_source(&ahead);
    open_with((struct server_limits){.linger_ms = 100000, .body_idle_ms = 1000000});
    fd = client();
    client_say(fd, "PUT /early HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    client_expect(fd, 403, "");
    for (int i = 0; i < 5; i++) {
        int64_t before = STAT_READ(server_received_bytes);

        ahead_ns += 60 * NS_PER_SEC;
        client_say(fd, "x");
        eventually(STAT_READ(server_received_bytes) == before + 1);
    }
    client_say(fd, GET("/bytes/0"));
    client_expect(fd, 200, "");
    close(fd);
    fixture_close();
    clock_set_source(NULL);
}

/* ---- limits ---- */

static void test_server__one_connection_too_many_gets_503(void **state)
{
    struct answer a;
    int first, second;

    open_with((struct server_limits){.connections_max = 1});
    first = client();
    client_say(first, GET("/bytes/0"));
    client_expect(first, 200, "");
    second = client();
    client_say(second, GET("/bytes/0"));
    client_answer(second, &a);
    assert_int_equal(a.status, 503);
    assert_int_equal(fix.last_status, 503); /* told, before the answer left */
    assert_int_equal(fix.ended, 2);
    assert_non_null(answer_header(&a, "\r\nx-ms-error-code: ServerBusy\r\n"));
    assert_non_null(answer_header(&a, "\r\nRetry-After: 1\r\n"));
    client_expect_closed(second);
    free(a.body);
    client_say(first, GET("/bytes/0"));
    client_expect(first, 200, "");
    close(second);
    close(first);
    eventually(STAT_READ(server_connections) == 0);
    first = client();
    client_say(first, GET("/bytes/0"));
    client_expect(first, 200, "");
    close(first);
    fixture_close();
}

static void test_server__connections_spread_over_the_loops(void **state)
{
    int fds[8];

    open_with((struct server_limits){0});
    for (int i = 0; i < 8; i++) {
        fds[i] = client();
        client_say(fds[i], GET("/bytes/0"));
        client_expect(fds[i], 200, "");
    }
    assert_int_equal(fix.loops_used, 2);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    fixture_close();
}

/* ---- drain ---- */

static void *drain_in_background(void *arg)
{
    server_drain(fix.server, *(uint64_t *)arg);
    return NULL;
}

static void test_server__drain_lets_running_exchanges_end(void **state)
{
    uint64_t grace_ns = 60 * NS_PER_SEC;
    pthread_t drainer;
    struct answer a;
    int busy, idle;

    open_with((struct server_limits){0});
    idle = client();
    client_say(idle, GET("/bytes/0"));
    client_expect(idle, 200, "");
    busy = client();
    client_say(busy, "PUT /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    eventually(atomic_load(&fix.held));
    pthread_create(&drainer, NULL, drain_in_background, &grace_ns);
    client_expect_closed(idle); /* so the drain has begun */
    hold_release();
    client_answer(busy, &a);
    assert_int_equal(a.status, 200);
    assert_non_null(answer_header(&a, "\r\nConnection: close\r\n"));
    client_expect_closed(busy);
    close(busy);
    close(idle);
    pthread_join(drainer, NULL);
    assert_int_equal(fix.whole, 2);
    free(a.body);
    fixture_close();
}

static void test_server__after_its_grace_drain_cancels(void **state)
{
    int fd;

    open_with((struct server_limits){0});
    fd = client();
    client_say(fd, GET("/wait"));
    eventually(fix.started == 1);
    server_drain(fix.server, 0);
    assert_int_equal(fix.cancelled, 1);
    assert_int_equal(recv(fd, &(char){0}, 1, 0), -1); /* reset: nobody takes this for an answer */
    close(fd);
    fixture_close();
}

static struct timer holding;
static struct loop *held_loop;
static bool ended_held;

static void holding_over(struct timer *timer)
{
    loop_release(held_loop);
}

static int attach_holds(void *arg, struct loop *loop)
{
    held_loop = loop;
    loop_hold(loop);
    holding.fn = holding_over;
    timer_start(loop, &holding, 20 * NS_PER_MS);
    return 0;
}

static void detach_notes(void *arg, struct loop *loop)
{
    ended_held = loop->held;
}

/* Aborted uploads have device writes under way that no connection waits for. */
static void test_server__a_loop_ends_when_it_is_not_held(void **state)
{
    struct server_conf conf = {
        .listen = "127.0.0.1:0", .loops = 1, .attach = attach_holds, .detach = detach_notes};
    struct server *server = NULL;
    const char *why;

    ended_held = true;
    assert_int_equal(server_open(&conf, &server, &why), 0);
    server_close(server);
    assert_false(ended_held);
}

static int attach_fails(void *arg, struct loop *loop)
{
    return ++*(int *)arg == 2 ? -ENOMEM : 0;
}

static void count_detach(void *arg, struct loop *loop)
{
    ++((int *)arg)[1];
}

static void test_server__a_loop_that_cannot_start_fails_open(void **state)
{
    int counts[2] = {0};
    struct server_conf conf = {.listen = "127.0.0.1:0",
                               .loops = 3,
                               .attach = attach_fails,
                               .detach = count_detach,
                               .arg = counts};
    struct server *server = NULL;
    const char *why;

    assert_int_equal(server_open(&conf, &server, &why), -ENOMEM);
    assert_null(server);
    assert_string_equal(why, "cannot start the loop threads");
    assert_int_equal(counts[1], 1);
    conf.listen = "127.0.0.1";
    assert_int_equal(server_open(&conf, &server, &why), -EINVAL);
    conf.listen = "127.0.0.1:0";
    conf.tls_cert = conf.tls_key = "/nonexistent";
    assert_int_equal(server_open(&conf, &server, &why), -EINVAL);
}

/* ---- admin port ---- */

static bool not_ready(void *arg)
{
    return false;
}

static char *some_status(void *arg, size_t *ret_len)
{
    *ret_len = 7;
    return xstrdup("fine 42");
}

static void test_server__the_admin_port_tells(void **state)
{
    struct answer a;
    int fd;

    fixture_open(
        (struct server_conf){.admin = "127.0.0.1:0", .ready = not_ready, .status = some_status});
    fd = client_to(server_admin_port(fix.server));
    client_say(fd, GET("/healthz") GET("/readyz") GET("/nothing") GET("/?x=y") GET("/metrics"));
    client_expect(fd, 200, "ok\n");
    client_expect(fd, 503, "not ready\n");
    client_expect(fd, 404, "no such page\n");
    client_answer(fd, &a);
    assert_non_null(strstr(a.body, "fine 42"));
    free(a.body);
    client_answer(fd, &a);
    assert_non_null(strstr(a.body, "\nhearth_server_connections 1\n"));
    free(a.body);
    client_say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    client_expect(fd, 405, "only GET and HEAD\n");
    close(fd);
    fixture_close();
}

/* ---- TLS ---- */

static char tls_cert[64], tls_key[64];

static void tls_files_make(void) /* a throwaway self-signed certificate */
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    FILE *f;

    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_sign(cert, key, EVP_sha256());
    strcpy(tls_cert, "/tmp/hearth-cert-XXXXXX");
    strcpy(tls_key, "/tmp/hearth-key-XXXXXX");
    f = fdopen(mkstemp(tls_cert), "w");
    PEM_write_X509(f, cert);
    fclose(f);
    f = fdopen(mkstemp(tls_key), "w");
    PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
    fclose(f);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static SSL *tls_client(SSL_CTX *ctx)
{
    SSL *ssl = SSL_new(ctx);

    SSL_set_fd(ssl, client());
    SSL_set_mode(ssl, SSL_MODE_AUTO_RETRY);
    return ssl;
}

static void tls_client_free(SSL *ssl)
{
    close(SSL_get_fd(ssl));
    SSL_free(ssl);
}

static void tls_read(SSL *ssl, char *into, size_t bytes)
{
    for (size_t have = 0; have < bytes;) {
        int n = SSL_read(ssl, into + have, (int)(bytes - have));

        if (n <= 0)
            fail_msg("TLS answer ends after %zu of %zu", have, bytes);
        have += (size_t)n;
    }
}

static void tls_echo(SSL *ssl, size_t bytes)
{
    char *body = xmalloc(bytes), *back = xmalloc(bytes), head[4096] = "";
    size_t len = 0;

    for (size_t i = 0; i < bytes; i++)
        body[i] = (char)(i * 13 >> 3);
    sprintf(head, "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", bytes);
    assert_int_equal(SSL_write(ssl, head, (int)strlen(head)), strlen(head));
    assert_int_equal(SSL_write(ssl, body, (int)bytes), bytes);
    memset(head, 0, sizeof(head));
    while (!strstr(head, "\r\n\r\n"))
        tls_read(ssl, head + len++, 1);
    assert_memory_equal(head, "HTTP/1.1 200", 12);
    tls_read(ssl, back, bytes);
    assert_memory_equal(back, body, bytes);
    free(body);
    free(back);
}

static void test_server__tls_round_trips_are_exact(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

    tls_files_make();
    SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\2h2\10http/1.1", 12);
    fixture_open((struct server_conf){.tls_cert = tls_cert, .tls_key = tls_key});
    for (int i = 0; i < 2; i++) {
        SSL *ssl;

        SSL_CTX_set_max_proto_version(ctx, versions[i]);
        ssl = tls_client(ctx);
        assert_int_equal(SSL_connect(ssl), 1);
        tls_echo(ssl, 1);
        tls_echo(ssl, 20000);
        tls_echo(ssl, 3000000);
        SSL_shutdown(ssl);
        tls_client_free(ssl);
    }
    eventually(STAT_READ(server_connections) == 0);
    fixture_close();
    SSL_CTX_free(ctx);
    unlink(tls_cert);
    unlink(tls_key);
}

static void test_server__old_tls_and_plain_text_are_refused(void **state)
{
    int64_t before = STAT_READ(server_tls_failures);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;
    int fd;

    tls_files_make();
    SSL_CTX_set_min_proto_version(ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(ctx, TLS1_1_VERSION);
    SSL_CTX_set_security_level(ctx, 0);
    fixture_open((struct server_conf){.tls_cert = tls_cert, .tls_key = tls_key});
    ssl = tls_client(ctx);
    assert_int_equal(SSL_connect(ssl), -1);
    tls_client_free(ssl);
    fd = client();
    client_say(fd, GET("/"));
    eventually(STAT_READ(server_tls_failures) == before + 2);
    close(fd);
    assert_int_equal(fix.started, 0);
    fixture_close();
    SSL_CTX_free(ctx);
    unlink(tls_cert);
    unlink(tls_key);
}

static void test_server__a_tls_client_that_leaves_cancels(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;

    tls_files_make();
    fixture_open((struct server_conf){.tls_cert = tls_cert, .tls_key = tls_key});
    ssl = tls_client(ctx);
    assert_int_equal(SSL_connect(ssl), 1);
    assert_true(SSL_write(ssl, GET("/wait"), sizeof(GET("/wait")) - 1) > 0);
    eventually(fix.started == 1);
    SSL_shutdown(ssl);
    tls_client_free(ssl);
    eventually(fix.cancelled == 1);
    fixture_close();
    SSL_CTX_free(ctx);
    unlink(tls_cert);
    unlink(tls_key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server__a_slow_head_times_out),
        cmocka_unit_test(test_server__trickling_bytes_do_not_extend_the_head),
        cmocka_unit_test(test_server__an_idle_connection_times_out),
        cmocka_unit_test(test_server__a_stalled_body_is_told_to_the_handler),
        cmocka_unit_test(test_server__64_KiB_of_a_body_restart_its_timer),
        cmocka_unit_test(test_server__bytes_that_trickle_do_not),
        cmocka_unit_test(test_server__a_client_that_takes_nothing_times_out),
        cmocka_unit_test(test_server__the_outcome_counts_a_body_that_came_with_its_head),
        cmocka_unit_test(test_server__a_handler_at_work_is_not_timed),
        cmocka_unit_test(test_server__a_lingering_client_is_cut),
        cmocka_unit_test(test_server__a_client_that_still_sends_may_go_on_for_a_while),
        cmocka_unit_test(test_server__a_small_unread_body_may_come_slowly),
        cmocka_unit_test(test_server__one_connection_too_many_gets_503),
        cmocka_unit_test(test_server__connections_spread_over_the_loops),
        cmocka_unit_test(test_server__drain_lets_running_exchanges_end),
        cmocka_unit_test(test_server__after_its_grace_drain_cancels),
        cmocka_unit_test(test_server__a_loop_ends_when_it_is_not_held),
        cmocka_unit_test(test_server__a_loop_that_cannot_start_fails_open),
        cmocka_unit_test(test_server__the_admin_port_tells),
        cmocka_unit_test(test_server__tls_round_trips_are_exact),
        cmocka_unit_test(test_server__old_tls_and_plain_text_are_refused),
        cmocka_unit_test(test_server__a_tls_client_that_leaves_cancels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
