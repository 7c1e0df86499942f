/* upstream/call.h - a caller on some loop that waits for something of the upstream thread, and
 * flights: requests to the cloud that any number of callers wait for.
 *
 *   caller's loop                      upstream thread
 *   call_new, call_start  --forth-->   begin(call): joins or starts a flight
 *   done posted           <--back---   call_answer
 *
 * Only the caller's loop touches `done`, so cancel and budget need no lock: they post at once and
 * leave the flight running; its answer then finds nobody and is dropped (the cache has learned it
 * all the same). */
#ifndef UPSTREAM_CALL_H
#define UPSTREAM_CALL_H

#include <stdatomic.h>

#include "base/arena.h"
#include "base/loop.h"
#include "cache/cache.h"

struct upstream;
struct flight;
struct forward;
struct forwarded;

struct call {
    struct upstream *upstream;
    struct completion *done; /* caller's loop: NULL when it has been posted */
    struct blob **ret;
    struct forwarded *ret_forwarded;
    struct timer budget;
    struct completion forth, back;
    _Atomic bool gone;                /* the caller has cancelled: what was not sent need not be */
    bool unheard;                     /* nobody ever waited; `done` is the caller's loop's alone */
    void (*begin)(struct call *call); /* upstream thread */
    struct call *next;                /* of its flight */
    struct blob *blob;                /* the result, a reference */
    /* arguments, owned */
    struct name name;
    struct blob *held;
    struct range range;
    uint32_t account;
    struct span text[3]; /* container name; or a gap's prefix, delimiter, from */
    uint64_t doubt;      /* the number of the name's mark */
    struct forward *forward;
    struct forwarded *forwarded; /* its result, until it is given to the caller */
};

/* Caller's loop. NULL: too many wait, done is posted with -EBUSY. done NULL: nobody waits; such
 * calls come at the speed of reads, so they leave most of the room to others and are answered at
 * once. */
#define CALLS_UNHEARD_MAX (UPSTREAM_CALLS_MAX / 16)
struct call *call_new(struct upstream *upstream, void (*begin)(struct call *),
                      struct completion *done);
void call_set_name(struct call *call, const struct name *name);
void call_set_text(struct call *call, unsigned i, struct span text);
struct span call_take_text(struct call *call, unsigned i); /* malloc'ed, the taker frees */
void call_start(struct call *call, uint64_t budget_ns);    /* 0: none */
/* Upstream thread; once per call; takes the reference. */
void call_answer(struct call *call, int err, struct blob *blob);

/* Single flight: what asks the same has the same key. Upstream thread. */
#define FLIGHT_BUCKETS 4096
struct flight {
    struct upstream *upstream;
    char *key;
    size_t key_bytes;
    struct flight *hash_next;
    struct call *calls, **calls_tail;
    bool listed; /* may still be joined */
};
struct flights {
    struct flight *bucket[FLIGHT_BUCKETS];
};
/* The key as bytes; spans are told apart by their lengths. */
struct flight_key {
    char kind;
    uint64_t number;
    struct span part[4];
};
struct span flight_key_print(const struct flight_key *key, struct arena *arena);
bool flight_join(struct upstream *upstream, const struct flight_key *key, struct call *call);
/* call may be NULL: nobody waits (yet). */
void flight_init(struct flight *flight, struct upstream *upstream, const struct flight_key *key,
                 struct call *call);
/* Answers all and lets nobody join any more. A reference of blob's per call is taken here. */
void flight_answer(struct flight *flight, int err, struct blob *blob);
void flight_done(struct flight *flight); /* answered */

#endif
