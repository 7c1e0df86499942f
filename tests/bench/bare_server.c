/* tests/bench/bare_server.c - the least a server can do, as the yardstick of discard_server: a
 * thread per connection, blocking reads of the body into one reused buffer, a constant answer. No
 * timers, no limits, no checks. usage: bare_server; prints "port N", serves until killed. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/util.h"

#define BUFFER_BYTES 524288

static const char answer[] = "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

/* Bytes of body still to come after what was read, or -1. */
static ssize_t read_head(int fd, char *buffer)
{
    size_t have = 0;

    for (;;) {
        ssize_t n = recv(fd, buffer + have, 16384 - have, 0);
        char *end, *length;

        if (n <= 0)
            return -1;
        have += (size_t)n;
        buffer[have] = 0;
        end = strstr(buffer, "\r\n\r\n");
        length = strcasestr(buffer, "\r\nContent-Length: ");
        if (end)
            return (length ? atoll(length + 18) : 0) - (ssize_t)(buffer + have - (end + 4));
    }
}

static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char *buffer = aligned_alloc(4096, BUFFER_BYTES);
    ssize_t left;

    memset(buffer, 0, BUFFER_BYTES);
    while ((left = read_head(fd, buffer)) >= 0) {
        while (left > 0) {
            ssize_t n = recv(fd, buffer, MIN(left, BUFFER_BYTES), 0);

            if (n <= 0)
                break;
            left -= n;
        }
        if (left || send(fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL) < 0)
            break;
    }
    close(fd);
    free(buffer);
    return NULL;
}

int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

    if (bind(fd, (struct sockaddr *)&at, len) || listen(fd, 1024) ||
        getsockname(fd, (struct sockaddr *)&at, &len))
        return 1;
    printf("port %u\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int conn = accept(fd, NULL, NULL);
        pthread_t thread;

        setsockopt(conn, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (conn < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)conn))
            return 1;
        pthread_detach(thread);
    }
}
