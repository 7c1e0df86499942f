/* blobapi/lease.h - the lease of a blob or container: what state it is in, what an action makes of
 * it, what it lets an operation do. Pure; any thread.
 *
 * Source: surface section 5, whose two tables are lease_act and lease_check. What is stored
 * (struct lease, cache.h) does not change when time passes: leased becomes expired and breaking
 * becomes broken by looking at the clock. */
#ifndef BLOBAPI_LEASE_H
#define BLOBAPI_LEASE_H

#include "base/span.h"
#include "base/util.h"
#include "blobapi/errors.h"
#include "cache/cache.h"

#define LEASE_ID_BYTES      16
#define LEASE_SECONDS_MIN   15
#define LEASE_SECONDS_MAX   60
#define LEASE_BREAK_MAX     60 /* seconds */
#define LEASE_ID_TEXT_BYTES 36

enum lease_state { LEASE_AVAILABLE, LEASE_LEASED, LEASE_EXPIRED, LEASE_BREAKING, LEASE_BROKEN };

/* A lease at one moment. */
struct lease_now {
    enum lease_state state;
    bool infinite;    /* leased, without end */
    uint64_t left_ns; /* leased and finite, or breaking: above 0; else 0 */
};
/* began_ns: of its period (cache_lease_began), on the clock of now_ns; read only if the lease has
 * an end. */
struct lease_now lease_now(const struct lease *lease, uint64_t began_ns, uint64_t now_ns);
bool lease_has_end(const struct lease *lease); /* its state depends on the clock */
static inline bool lease_is_locked(const struct lease_now *now)
{
    return now->state == LEASE_LEASED || now->state == LEASE_BREAKING;
}
struct span lease_state_name(enum lease_state state); /* as headers and lists have it */

/* A GUID in any of the spellings the service takes: 32 digits, with hyphens, and that in {} or ();
 * {0x00000000,0x0000,0x0000,{0x00,...}}. 0 or -EINVAL. Case does not matter. */
int lease_id_parse(struct span text, unsigned char ret[LEASE_ID_BYTES]) must_check;

/* ---- actions: x-ms-lease-action ---- */

enum lease_action { LEASE_ACQUIRE, LEASE_RENEW, LEASE_CHANGE, LEASE_RELEASE, LEASE_BREAK };
struct lease_asked {
    enum lease_action action;
    unsigned char id[LEASE_ID_BYTES];       /* renew, change, release */
    unsigned char proposed[LEASE_ID_BYTES]; /* acquire (a new one if none was given), change */
    uint64_t period_ns;                     /* acquire: or LEASE_INFINITE */
    bool has_break;
    uint64_t break_ns; /* break, with has_break */
};
enum lease_effect {
    LEASE_AS_IT_IS,
    LEASE_RENEWED, /* its period begins anew; nothing is stored */
    LEASE_ANOTHER, /* `lease` is to be stored */
};
struct lease_outcome {
    enum lease_effect effect;
    struct lease lease; /* serial 0: its period begins when it is stored */
    uint64_t left_ns;   /* break: until it is broken */
};
/* AZ_OK, or the 409 of that cell. */
enum az_error lease_act(const struct lease *lease, const struct lease_now *now,
                        const struct lease_asked *asked, struct lease_outcome *ret) must_check;

/* ---- use: x-ms-lease-id on every other operation ---- */

/* What an operation asks of the lease; its column in operations.def. */
enum lease_rule {
    LEASE_RULE_NONE, /* the row says nothing: judged as a write. Only rows not served may */
    LEASE_RULE_IGNORED,
    LEASE_RULE_READ,  /* an id that is given must be the right one */
    LEASE_RULE_WRITE, /* and while it is locked one must be given */
};
struct lease_use {
    enum lease_rule rule;
    bool of_container;
    bool has_id;
    unsigned char id[LEASE_ID_BYTES];
};
/* lease NULL: what it would be of does not exist. AZ_OK or a 412. */
enum az_error lease_check(const struct lease *lease, const struct lease_now *now,
                          const struct lease_use *use) must_check;
/* What a write of the blob leaves of it: one that has ended is gone. */
struct lease lease_written(const struct lease *lease, const struct lease_now *now);

#endif
