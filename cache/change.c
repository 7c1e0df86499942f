/* cache/change.c - the hooks of a change: parts of the cache that want to be told when the change
 * they added entries to is ordered, and how it ended. */
#include "cache/commit.h"

void change_add_hook(struct change *change, struct change_hook *hook)
{
    struct change_hook **tail = &change->hooks;

    if (change->hooks_tail)
        tail = change->hooks_tail;
    hook->next = NULL;
    *tail = hook;
    change->hooks_tail = &hook->next;
}

uint64_t change_devices(const struct change *change)
{
    uint64_t devices = 0;

    for (struct change_hook *hook = change->hooks; hook; hook = hook->next)
        if (hook->devices)
            devices |= hook->devices(hook);
    return devices;
}

int change_order(struct change *change)
{
    int err = change->decide ? change->decide(change) : 0;

    if (err < 0)
        return err;
    for (struct change_hook *hook = change->hooks; hook; hook = hook->next)
        if (hook->order)
            hook->order(hook, change);
    return 0;
}

static struct change_hook *hooks_reversed(struct change_hook *hook)
{
    struct change_hook *reversed = NULL, *next;

    for (; hook; hook = next) {
        next = hook->next;
        hook->next = reversed;
        reversed = hook;
    }
    return reversed;
}

void change_end_hooks(struct change *change, int err)
{
    /* What failed is undone backwards: what one hook found is what the hook before it left. */
    struct change_hook *hook = err < 0 ? hooks_reversed(change->hooks) : change->hooks, *next;

    change->hooks = NULL;
    change->hooks_tail = NULL;
    for (; hook; hook = next) {
        next = hook->next;
        hook->end(hook, err);
    }
}

void change_end(struct change *change, uint64_t commit, int err)
{
    change_end_hooks(change, err);
    if (change->publish)
        change->publish(change, commit, err);
}
