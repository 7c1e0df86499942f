/* tests/support/fake_exchange.h - HTTP exchanges from memory: a request goes in as text, the answer
 * comes out whole. Keeps the driver's rules: calls complete later (O2), one at a time, 16 slices a
 * send. */
#ifndef TESTS_FAKE_EXCHANGE_H
#define TESTS_FAKE_EXCHANGE_H

#include "blobapi/blobapi.h"

struct fake_answer {
    bool ended, whole;
    bool read_called; /* the body was asked for: a client waiting for 100 Continue would have got it
                       */
    int status;
    struct span reason;
    struct header headers[128]; /* names as they went out */
    unsigned header_count;
    int64_t body_bytes; /* as announced */
    char *body;         /* what was sent */
    size_t body_len, body_room;
    struct arena *arena;
};

struct fake_request {
    const char *method, *target;
    const char *headers; /* "Name: value\n..." */
    struct span body;    /* Content-Length is its length, unless: */
    bool chunked;
    int64_t claim;          /* not 0: Content-Length says that, the body never comes */
    size_t bytes_a_read;    /* 0: as much as fits */
    bool (*may_wait)(void); /* asserted whenever the client is waited for */
    unsigned cancel_after;  /* not 0: the client is gone at its nth call (read or send) */
    unsigned
        leave_after; /* not 0: it leaves between completions, when that many turns have passed */
};

/* Starts it (blobapi_start, handed in so that tests of other folders need not link the dialect) and
 * runs the loop until it has ended. Free with fake_answer_done. */
void fake_exchange_run(void (*start)(struct exchange *), struct blobapi *api,
                       struct loop_poll *poll, const struct fake_request *request,
                       struct fake_answer *ret);
void fake_answer_done(struct fake_answer *answer);
/* By any case; base NULL when absent. */
struct span fake_answer_header(const struct fake_answer *answer, const char *name);

/* An account SAS for everything, signed with that key: "sv=...&sig=...". In the arena. */
struct span fake_sas(struct arena *arena, struct span account, struct span key, const char *rights);

#endif
