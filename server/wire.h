/* server/wire.h - bytes to and from a non-blocking TCP socket, plain or through TLS. Loop thread.
 *
 * TLS runs OpenSSL on the descriptor itself (SSL_set_fd) and not through h2o's memory BIOs:
 * received bytes are decrypted straight into the caller's buffer, nothing is queued per connection,
 * and kTLS stays possible. */
#ifndef SERVER_WIRE_H
#define SERVER_WIRE_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "base/util.h"

#define WIRE_TLS_SEND_MAX 262144u /* bytes encrypted by one call, so that others get their turn */

struct wire {
    int fd;
    SSL *ssl;              /* NULL: plain */
    bool read_wants_write; /* TLS: the last -EAGAIN of a read waits for room to write */
};

int wire_open(struct wire *wire, int fd,
              SSL_CTX *tls) must_check; /* tls NULL: plain. Takes no fd on failure */
void wire_close(struct wire *wire);     /* frees the TLS state; the descriptor is the caller's */
int wire_handshake(struct wire *wire) must_check; /* 0, -EAGAIN (either direction), -EPROTO */

/* Bytes; 0: the peer has closed; -EAGAIN; negative errno. */
ssize_t wire_recv(struct wire *wire, void *into, size_t bytes) must_check;
/* Like wire_recv of one byte, which stays. */
ssize_t wire_peek(struct wire *wire) must_check;
bool wire_pending(const struct wire *wire); /* received bytes that no readiness will announce */
/* Bytes taken by the kernel, maybe not all; -EAGAIN; negative errno. A call after -EAGAIN begins
 * with the same bytes. */
ssize_t wire_send(struct wire *wire, const struct iovec *iov, unsigned n) must_check;
void wire_finish(struct wire *wire); /* no more will be sent: close_notify, FIN */

/* A server context for TLS 1.2 and up. -EINVAL: the files do not fit; *why says what OpenSSL says.
 */
int wire_tls_context(const char *cert, const char *key, SSL_CTX **ret, const char **why) must_check;

#endif
