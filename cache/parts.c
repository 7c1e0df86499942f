/* cache/parts.c - changes in several records (parts.h): counted by a hook on each part. */
#include "cache/parts.h"

struct parts {
    _Atomic unsigned refs;
    unsigned submitted; /* the builder's, until it submits the last */
    unsigned ordered;   /* committer thread */
    bool spoiled;       /* likewise */
};

struct part_hook {
    struct change_hook hook;
    struct parts *parts; /* a reference */
};

struct parts *parts_new(void)
{
    struct parts *parts = xcalloc(1, sizeof(*parts));

    parts->refs = 1;
    return parts;
}

struct parts *parts_ref(struct parts *parts)
{
    atomic_fetch_add(&parts->refs, 1);
    return parts;
}

struct parts *parts_unref(struct parts *parts)
{
    if (parts && atomic_fetch_sub(&parts->refs, 1) == 1)
        free(parts);
    return NULL;
}

static void part_ordered(struct change_hook *base, struct change *change)
{
    container_of(base, struct part_hook, hook)->parts->ordered++;
}

static void part_ended(struct change_hook *base, int err)
{
    struct part_hook *hook = container_of(base, struct part_hook, hook);

    if (err)
        hook->parts->spoiled = true;
    parts_unref(hook->parts);
    free(hook);
}

void parts_add(struct parts *parts, struct change *change)
{
    struct part_hook *hook = xcalloc(1, sizeof(*hook));

    hook->hook = (struct change_hook){.order = part_ordered, .end = part_ended};
    hook->parts = parts_ref(parts);
    parts->submitted++;
    change_add_hook(change, &hook->hook);
}

void parts_spoil(struct parts *parts)
{
    parts->spoiled = true;
}

bool parts_whole(const struct parts *parts)
{
    return parts->ordered == parts->submitted && !parts->spoiled;
}
