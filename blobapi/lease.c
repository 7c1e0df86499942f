/* blobapi/lease.c - the state machine of leases (lease.h). */
#include "blobapi/lease.h"

#include <string.h>

/* ---- the state now ---- */

bool lease_has_end(const struct lease *lease)
{
    return lease->kind == LEASE_KIND_BREAKING ||
           (lease->kind == LEASE_KIND_HELD && lease->period_ns != LEASE_INFINITE);
}

struct lease_now lease_now(const struct lease *lease, uint64_t began_ns, uint64_t now_ns)
{
    uint64_t ran_ns = now_ns > began_ns ? now_ns - began_ns : 0, left_ns = 0;

    if (lease_has_end(lease) && ran_ns < lease->period_ns)
        left_ns = lease->period_ns - ran_ns;
    switch (lease->kind) {
    case LEASE_KIND_NONE:
        break;
    case LEASE_KIND_HELD:
        if (!lease_has_end(lease))
            return (struct lease_now){.state = LEASE_LEASED, .infinite = true};
        return (struct lease_now){.state = left_ns ? LEASE_LEASED : LEASE_EXPIRED,
                                  .left_ns = left_ns};
    case LEASE_KIND_BREAKING:
        return (struct lease_now){.state = left_ns ? LEASE_BREAKING : LEASE_BROKEN,
                                  .left_ns = left_ns};
    case LEASE_KIND_BROKEN:
        return (struct lease_now){.state = LEASE_BROKEN};
    }
    return (struct lease_now){.state = LEASE_AVAILABLE};
}

struct span lease_state_name(enum lease_state state)
{
    switch (state) {
    case LEASE_LEASED:
        return SPAN("leased");
    case LEASE_EXPIRED:
        return SPAN("expired");
    case LEASE_BREAKING:
        return SPAN("breaking");
    case LEASE_BROKEN:
        return SPAN("broken");
    default:
        return SPAN("available");
    }
}

/* ---- ids ---- */

static int digit_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A template of the spelling: 'd' is a digit, anything else itself ('x' of either case). */
static const char *const id_forms[] = {
    "dddddddddddddddddddddddddddddddd",
    "dddddddd-dddd-dddd-dddd-dddddddddddd",
    "{dddddddd-dddd-dddd-dddd-dddddddddddd}",
    "(dddddddd-dddd-dddd-dddd-dddddddddddd)",
    "{0xdddddddd,0xdddd,0xdddd,{0xdd,0xdd,0xdd,0xdd,0xdd,0xdd,0xdd,0xdd}}",
};

static bool id_fits(struct span text, const char *form, unsigned char ret[LEASE_ID_BYTES])
{
    unsigned digits = 0;

    if (text.len != strlen(form))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        int digit = digit_of(text.base[i]);

        if (form[i] != 'd') {
            if (text.base[i] != form[i] && !(form[i] == 'x' && text.base[i] == 'X'))
                return false;
            continue;
        }
        if (digit < 0)
            return false;
        ret[digits / 2] = (unsigned char)(digits % 2 ? ret[digits / 2] << 4 | digit : digit);
        digits++;
    }
    return true;
}

int lease_id_parse(struct span text, unsigned char ret[LEASE_ID_BYTES])
{
    for (unsigned i = 0; i < countof(id_forms); i++)
        if (id_fits(text, id_forms[i], ret))
            return 0;
    return -EINVAL;
}

static bool same_id(const struct lease *lease, const unsigned char id[LEASE_ID_BYTES])
{
    return lease->kind != LEASE_KIND_NONE && memcmp(lease->id, id, LEASE_ID_BYTES) == 0;
}

/* ---- actions ---- */

static enum az_error acquire(const struct lease *lease, const struct lease_now *now,
                             const struct lease_asked *asked, struct lease_outcome *ret)
{
    bool same = same_id(lease, asked->proposed);

    if (now->state == LEASE_BREAKING)
        return same ? AZ_LEASE_IS_BREAKING_AND_CANNOT_BE_ACQUIRED : AZ_LEASE_ALREADY_PRESENT;
    if (now->state == LEASE_LEASED && !same)
        return AZ_LEASE_ALREADY_PRESENT;
    ret->effect = LEASE_ANOTHER;
    ret->lease = (struct lease){.kind = LEASE_KIND_HELD, .period_ns = asked->period_ns};
    memcpy(ret->lease.id, asked->proposed, LEASE_ID_BYTES);
    return AZ_OK;
}

/* An expired one too: had anybody written or leased since, it would not be here any more. */
static enum az_error renew(const struct lease *lease, const struct lease_now *now,
                           const struct lease_asked *asked, struct lease_outcome *ret)
{
    if (!same_id(lease, asked->id))
        return AZ_LEASE_ID_MISMATCH_WITH_LEASE_OPERATION;
    if (now->state == LEASE_BREAKING || now->state == LEASE_BROKEN)
        return AZ_LEASE_IS_BROKEN_AND_CANNOT_BE_RENEWED;
    ret->effect = now->infinite ? LEASE_AS_IT_IS : LEASE_RENEWED;
    return AZ_OK;
}

/* A change whose answer was lost comes again: then the proposed id is the id already. */
static enum az_error change(const struct lease *lease, const struct lease_now *now,
                            const struct lease_asked *asked, struct lease_outcome *ret)
{
    bool done = same_id(lease, asked->proposed);

    if (!lease_is_locked(now))
        return AZ_LEASE_NOT_PRESENT_WITH_LEASE_OPERATION;
    if (!done && !same_id(lease, asked->id))
        return AZ_LEASE_ID_MISMATCH_WITH_LEASE_OPERATION;
    if (now->state == LEASE_BREAKING)
        return AZ_LEASE_IS_BREAKING_AND_CANNOT_BE_CHANGED;
    if (done)
        return AZ_OK;
    ret->effect = LEASE_ANOTHER;
    memcpy(ret->lease.id, asked->proposed, LEASE_ID_BYTES); /* its period goes on */
    return AZ_OK;
}

static enum az_error release(const struct lease *lease, const struct lease_asked *asked,
                             struct lease_outcome *ret)
{
    if (!same_id(lease, asked->id))
        return AZ_LEASE_ID_MISMATCH_WITH_LEASE_OPERATION;
    ret->effect = LEASE_ANOTHER;
    ret->lease = (struct lease){.kind = LEASE_KIND_NONE};
    return AZ_OK;
}

/* Never later than it would end anyhow. Without a period: when it ends; one without end, at once.
 */
static enum az_error break_it(const struct lease_now *now, const struct lease_asked *asked,
                              struct lease_outcome *ret)
{
    uint64_t end_ns = now->infinite ? 0 : now->left_ns;

    if (now->state == LEASE_AVAILABLE)
        return AZ_LEASE_NOT_PRESENT_WITH_LEASE_OPERATION;
    if (asked->has_break)
        end_ns = now->infinite ? asked->break_ns : MIN(asked->break_ns, now->left_ns);
    ret->left_ns = end_ns;
    if (now->state == LEASE_BROKEN || (now->state == LEASE_BREAKING && end_ns == now->left_ns))
        return AZ_OK;
    ret->effect = LEASE_ANOTHER;
    ret->lease.kind = end_ns ? LEASE_KIND_BREAKING : LEASE_KIND_BROKEN;
    ret->lease.period_ns = end_ns;
    ret->lease.serial = 0;
    return AZ_OK;
}

enum az_error lease_act(const struct lease *lease, const struct lease_now *now,
                        const struct lease_asked *asked, struct lease_outcome *ret)
{
    *ret = (struct lease_outcome){.effect = LEASE_AS_IT_IS, .lease = *lease};
    switch (asked->action) {
    case LEASE_ACQUIRE:
        return acquire(lease, now, asked, ret);
    case LEASE_RENEW:
        return renew(lease, now, asked, ret);
    case LEASE_CHANGE:
        return change(lease, now, asked, ret);
    case LEASE_RELEASE:
        return release(lease, asked, ret);
    case LEASE_BREAK:
        return break_it(now, asked, ret);
    }
    return AZ_INTERNAL_ERROR;
}

/* ---- use ---- */

enum az_error lease_check(const struct lease *lease, const struct lease_now *now,
                          const struct lease_use *use)
{
    bool locked = lease && lease_is_locked(now);

    if (use->rule == LEASE_RULE_IGNORED)
        return AZ_OK;
    if (!use->has_id)
        return locked && use->rule != LEASE_RULE_READ ? AZ_LEASE_ID_MISSING : AZ_OK;
    if (!lease || now->state == LEASE_AVAILABLE)
        return use->of_container ? AZ_LEASE_NOT_PRESENT_WITH_CONTAINER_OPERATION
                                 : AZ_LEASE_NOT_PRESENT_WITH_BLOB_OPERATION;
    if (!same_id(lease, use->id))
        return use->of_container ? AZ_LEASE_ID_MISMATCH_WITH_CONTAINER_OPERATION
                                 : AZ_LEASE_ID_MISMATCH_WITH_BLOB_OPERATION;
    return locked ? AZ_OK : AZ_LEASE_LOST;
}

struct lease lease_written(const struct lease *lease, const struct lease_now *now)
{
    return lease_is_locked(now) ? *lease : (struct lease){.kind = LEASE_KIND_NONE};
}
