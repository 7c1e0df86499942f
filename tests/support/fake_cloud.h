/* tests/support/fake_cloud.h - a scripted HTTP server on threads of its own: what it answers, a
 * test's function decides per request; it can cut, drop and stall. Records every request. */
#ifndef TESTS_FAKE_CLOUD_H
#define TESTS_FAKE_CLOUD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/span.h"

#define FAKE_REQUESTS_MAX 1024
#define FAKE_HEAD_MAX     16384

struct fake_request {
    char method[16], target[4096]; /* target as sent */
    char head[FAKE_HEAD_MAX];      /* header lines as sent */
    char *body;
    size_t body_len;
    unsigned connection; /* which, from 0: tells reuse */
};

struct fake_answer {
    int status;         /* 0: close without an answer */
    char headers[4096]; /* each "Name: value\r\n"; Content-Length is added */
    const char *body;   /* static, or malloc'ed with free_body */
    size_t body_len;
    bool free_body, no_body; /* no_body: length says body_len, nothing follows (HEAD) */
    size_t cut_at;           /* close after this many bytes of the body; 0: whole */
    int corrupt_at;          /* flip a bit of this byte, 1-based; 0: none */
    size_t stall_at;         /* stand still after this many bytes of the body, like stall; 0: no */
    bool stall;              /* answer nothing until fake_cloud_release or the end */
};

struct fake_cloud;
typedef void fake_handler(void *arg, const struct fake_request *request, struct fake_answer *ret);

struct fake_cloud *fake_cloud_new(fake_handler *handler,
                                  void *arg); /* one handler call at a time */
struct fake_cloud *fake_cloud_free(struct fake_cloud *cloud);
void fake_cloud_release(struct fake_cloud *cloud);               /* lets stalled answers go */
const char *fake_cloud_endpoint(const struct fake_cloud *cloud); /* http://127.0.0.1:PORT/acct */
unsigned fake_cloud_count(struct fake_cloud *cloud, const char *method, const char *target_part);
/* The nth request of that kind, NULL: there was none. Valid until free. */
const struct fake_request *fake_cloud_request(struct fake_cloud *cloud, const char *method,
                                              const char *target_part, unsigned nth);
/* Value of a header in a recorded request, trimmed; base NULL: absent. */
struct span fake_header(const struct fake_request *request, const char *name);

#endif
