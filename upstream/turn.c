/* upstream/turn.c - see turn.h. */
#include "upstream/turn.h"

static struct turn **holder_of(struct turns *turns, struct span key)
{
    uint64_t h = 0xCBF29CE484222325ULL; /* FNV-1a */
    struct turn **at;

    for (size_t i = 0; i < key.len; i++)
        h = (h ^ (uint8_t)key.base[i]) * 0x100000001B3ULL;
    at = &turns->bucket[(h ^ h >> 32) % TURN_BUCKETS];
    while (*at && !span_eq((*at)->key, key))
        at = &(*at)->next;
    return at;
}

static void grant(struct turn *turn)
{
    struct completion *done = turn->done;

    turn->done = NULL;
    turn->taken = true;
    completion_post(done, 0);
}

void turn_take(struct turns *turns, struct turn *turn, struct span key, struct completion *done)
{
    struct turn **slot = holder_of(turns, key), *holder = *slot, **end;

    assert(!turn->taken && !turn->done);
    *turn = (struct turn){.key = key, .done = done};
    if (!holder) {
        *slot = turn;
        return grant(turn);
    }
    if (holder->waiting == TURN_WAITING_MAX) {
        turn->done = NULL;
        return completion_post(done, -EBUSY);
    }
    for (end = &holder->line; *end; end = &(*end)->next)
        ;
    *end = turn;
    holder->waiting++;
}

void turn_give_up(struct turns *turns, struct turn *turn, int err)
{
    struct turn *holder = *holder_of(turns, turn->key), **at = &holder->line;
    struct completion *done = turn->done;

    assert(done && !turn->taken);
    while (*at != turn)
        at = &(*at)->next;
    *at = turn->next;
    holder->waiting--;
    turn->done = NULL;
    completion_post(done, err);
}

void turn_leave(struct turns *turns, struct turn *turn)
{
    struct turn **slot, *heir;

    if (!turn->taken)
        return;
    slot = holder_of(turns, turn->key);
    assert(*slot == turn);
    turn->taken = false;
    heir = turn->line;
    *slot = turn->next;
    if (!heir)
        return;
    heir->line = heir->next;
    heir->waiting = turn->waiting - 1;
    heir->next = *slot;
    *slot = heir;
    grant(heir);
}
