/* server/wire.c - see wire.h. */
#include "server/wire.h"

#include <errno.h>
#include <limits.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>

#define TLS_RECORD_BYTES 16384u

/* ---- TLS ---- */

/* What a failed SSL call means; 0 only for reads: the peer has said it is done. */
static int tls_error(struct wire *wire, int result, bool reading)
{
    switch (SSL_get_error(wire->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        return -EAGAIN;
    case SSL_ERROR_WANT_WRITE:
        wire->read_wants_write = reading;
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return reading ? 0 : -EPIPE;
    case SSL_ERROR_SYSCALL:
        return errno ? -errno : -ECONNRESET;
    default:
        return -EPROTO;
    }
}

static ssize_t tls_recv(struct wire *wire, void *into, size_t bytes, int (*fn)(SSL *, void *, int))
{
    int n;

    ERR_clear_error();
    errno = 0;
    wire->read_wants_write = false;
    n = fn(wire->ssl, into, (int)MIN(bytes, (size_t)INT_MAX));
    return n > 0 ? n : tls_error(wire, n, true);
}

/* Small pieces (a head and a small body) share a record: one encryption, one packet. */
static struct iovec tls_gather(const struct iovec *iov, unsigned n, char *room)
{
    size_t used = 0;

    if (n == 1 || iov[0].iov_len >= TLS_RECORD_BYTES)
        return (struct iovec){iov[0].iov_base, MIN(iov[0].iov_len, (size_t)WIRE_TLS_SEND_MAX)};
    for (unsigned i = 0; i < n && used < TLS_RECORD_BYTES; i++) {
        size_t take = MIN(iov[i].iov_len, TLS_RECORD_BYTES - used);

        memcpy(room + used, iov[i].iov_base, take);
        used += take;
    }
    return (struct iovec){room, used};
}

static ssize_t tls_send(struct wire *wire, const struct iovec *iov, unsigned n)
{
    static __thread char room[TLS_RECORD_BYTES];
    struct iovec all = tls_gather(iov, n, room);
    int sent;

    ERR_clear_error();
    errno = 0;
    sent = SSL_write(wire->ssl, all.iov_base, (int)all.iov_len);
    return sent > 0 ? sent : tls_error(wire, sent, false);
}

static int tls_files(SSL_CTX *ctx, const char *cert, const char *key)
{
    if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return -EINVAL;
    return 0;
}

/* AES-128-GCM first: the fastest of the strong ones here. No ALPN: a client that offers h2 gets
 * HTTP/1.1. Moving buffers: a retried write may have been gathered again. */
static void tls_settings(SSL_CTX *ctx)
{
    SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_ciphersuites(
        ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"hearth", 6);
}

int wire_tls_context(const char *cert, const char *key, SSL_CTX **ret, const char **why)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (!ctx)
        return -ENOMEM;
    tls_settings(ctx);
    ERR_clear_error();
    if (tls_files(ctx, cert, key)) {
        *why = ERR_reason_error_string(ERR_peek_error());
        SSL_CTX_free(ctx);
        return -EINVAL;
    }
    *ret = ctx;
    return 0;
}

/* ---- both ---- */

int wire_open(struct wire *wire, int fd, SSL_CTX *tls)
{
    *wire = (struct wire){.fd = fd};
    if (!tls)
        return 0;
    wire->ssl = SSL_new(tls);
    if (!wire->ssl || SSL_set_fd(wire->ssl, fd) != 1) {
        wire_close(wire);
        return -ENOMEM;
    }
    SSL_set_accept_state(wire->ssl);
    return 0;
}

void wire_close(struct wire *wire)
{
    SSL_free(wire->ssl);
    wire->ssl = NULL;
}

int wire_handshake(struct wire *wire)
{
    int n, err;

    if (!wire->ssl)
        return 0;
    ERR_clear_error();
    errno = 0;
    wire->read_wants_write = false;
    n = SSL_do_handshake(wire->ssl);
    if (n == 1)
        return 0;
    err = tls_error(wire, n, true);
    return err == -EAGAIN ? err : -EPROTO;
}

ssize_t wire_recv(struct wire *wire, void *into, size_t bytes)
{
    ssize_t n;

    if (wire->ssl)
        return tls_recv(wire, into, bytes, SSL_read);
    do
        n = recv(wire->fd, into, bytes, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

ssize_t wire_peek(struct wire *wire)
{
    ssize_t n;
    char byte;

    if (wire->ssl)
        return tls_recv(wire, &byte, 1, SSL_peek);
    do
        n = recv(wire->fd, &byte, 1, MSG_PEEK);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

bool wire_pending(const struct wire *wire)
{
    return wire->ssl && SSL_pending(wire->ssl) > 0;
}

ssize_t wire_send(struct wire *wire, const struct iovec *iov, unsigned n)
{
    struct msghdr message = {.msg_iov = (struct iovec *)iov, .msg_iovlen = n};
    ssize_t sent;

    if (wire->ssl)
        return tls_send(wire, iov, n);
    do
        sent = sendmsg(wire->fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

void wire_finish(struct wire *wire)
{
    if (wire->ssl) {
        ERR_clear_error();
        (void)SSL_shutdown(wire->ssl); /* a peer that does not read it sees the FIN */
    }
    (void)shutdown(wire->fd, SHUT_WR); /* ENOTCONN: it is gone already */
}
