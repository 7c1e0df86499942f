/* cache/link.c - who refers to an object: link rows and the object's own rows, decided in commit
 * order.
 *
 * Every call here adds a hook to a change. Its `order` runs on the committer's thread when the
 * change gets its place in the log and alone reads and changes object->links and object->rows; so
 * "does anybody still need it" is answered by memory, and the two races that matter cannot happen:
 *   A copy by reference against the reaper. 1 the reaper sees one link left and decides to drop the
 * object; 2 a copy links it; 3 the reaper's change deletes the rows under the copy. Here the
 * decision of 1 is made in 3's place in the order: either the copy's link is ordered before it and
 * the object stays, or after it, then the copy finds rows == false and writes them all again. The
 * slots are still there: the copy's change holds a reference, and only the last one gives slots
 * back. A clean-up against a new need. 1 an upload is confirmed: link u becomes clean; 2 meanwhile
 * a second link made the object dirty. The object's state is that of the neediest link, whatever
 * the order. If a change fails, `end` undoes what `order` did: a failed group fails all queued
 * after it, so nobody has built on it. */
#include "cache/content.h"

enum link_op { LINK_ADD, LINK_DROP, LINK_CLEAN };

struct link_hook {
    struct change_hook hook;
    enum link_op op;
    struct object *object; /* a reference */
    uint64_t user;
    enum object_state state;
    struct name who;             /* LINK_ADD of a record: blob is malloc'ed */
    struct object_origin origin; /* LINK_CLEAN; after order: the former one, for undo */
    /* undo: */
    bool ordered, found, wrote_rows, dropped_rows;
    enum object_state old;
};

/* ---- the set of links; object's lock held ---- */

static struct object_link_row *link_place(struct object *object, uint64_t user)
{
    unsigned low = 0, high = object->link_count;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (object->links[middle].user < user)
            low = middle + 1;
        else
            high = middle;
    }
    return object->links + low;
}

static bool link_found(const struct object *object, const struct object_link_row *at, uint64_t user)
{
    return at < object->links + object->link_count && at->user == user;
}

void object_add_link(struct object *object, uint64_t user, enum object_state state)
{
    struct object_link_row *at;

    if (object->link_count == object->link_room) {
        object->link_room = object->link_room ? object->link_room * 2 : 2;
        object->links = xrealloc(object->links, object->link_room * sizeof(*object->links));
    }
    at = link_place(object, user);
    if (link_found(object, at, user)) {
        at->state = state;
        return;
    }
    memmove(at + 1, at, (size_t)(object->links + object->link_count - at) * sizeof(*at));
    *at = (struct object_link_row){user, state};
    object->link_count++;
}

static void object_drop_link(struct object *object, uint64_t user)
{
    struct object_link_row *at = link_place(object, user);

    if (!link_found(object, at, user))
        return;
    object->link_count--;
    memmove(at, at + 1, (size_t)(object->links + object->link_count - at) * sizeof(*at));
}

enum object_state object_state_locked(const struct object *object)
{
    enum object_state state = OBJECT_CLEAN;

    for (unsigned i = 0; i < object->link_count; i++)
        state = MAX(state, object->links[i].state);
    return state;
}

/* ---- rows of an object; lock held ---- */

static void put_object_row(struct change *change, const struct object *object)
{
    struct object_key key = object_key(object->id, ROW_OBJECT, 0);
    struct span row = object_row_encode(object);

    change_put(change, FAM_OBJECTS, object_key_span(&key), row);
    free((void *)row.base);
}

static void put_link_row(struct change *change, const struct object *object, uint64_t user,
                         enum object_state state)
{
    struct object_key key = object_key(object->id, ROW_LINK, user);
    char value = (char)state;

    change_put(change, FAM_OBJECTS, object_key_span(&key), (struct span){&value, 1});
}

void change_put_needs(struct change *change, const struct object *object)
{
    for (unsigned i = 0; i < object->link_count; i++)
        if (object->links[i].state != OBJECT_CLEAN)
            put_link_row(change, object, object->links[i].user, object->links[i].state);
}

static void put_record_space(struct change *change, const struct object *object,
                             const struct name *who, enum object_state state)
{
    const struct extent *extent = &object->cells[0]->extent;
    struct space_row row = {.at = extent->at,
                            .length = extent->length,
                            .id = object->id,
                            .kind = SPACE_RECORD,
                            .state = state,
                            .container = who->container,
                            .blob = who->blob};
    char key[SPACE_KEY_BYTES];
    struct span value = space_row_encode(&row);

    space_key_encode(&extent->at, key);
    change_put(change, FAM_SPACE, (struct span){key, sizeof(key)}, value);
    free((void *)value.base);
}

static void put_rows(struct change *change, const struct object *object)
{
    put_object_row(change, object);
    for (unsigned i = 0; i < object->cell_count; i++)
        if (object->cells[i])
            change_put_extent(change, object, &object->cells[i]->extent);
}

static void delete_rows(struct change *change, const struct object *object, bool record)
{
    struct object_key key = object_key(object->id, ROW_OBJECT, 0);

    if (record && object->cells[0])
        change_delete_space(change, &object->cells[0]->extent.at);
    if (record)
        return;
    change_delete(change, FAM_OBJECTS, object_key_span(&key));
    for (unsigned i = 0; i < object->cell_count; i++)
        if (object->cells[i])
            change_delete_extent(change, object, &object->cells[i]->extent);
}

static void slots_mutant(const struct object *object, enum slot_mutant when)
{
    for (unsigned i = 0; i < object->cell_count; i++)
        cell_mutant(object->cells[i], when);
}

/* ---- committer's thread: order and undo; lock held ---- */

static void order_add(struct link_hook *hook, struct change *change)
{
    struct object *object = hook->object;
    struct object_link_row *at = link_place(object, hook->user);
    bool again = object->rows && hook->state != OBJECT_CLEAN &&
                 object_state_locked(object) == OBJECT_CLEAN; /* its extents were nobody's loss */

    hook->found = link_found(object, at, hook->user);
    if (hook->found)
        hook->old = at->state;
    hook->wrote_rows = !object->rows;
    object_add_link(object, hook->user, hook->state);
    if (hook->user == LINK_RECORD) {
        object->rows = object->cells[0] != NULL;
        if (object->rows)
            put_record_space(change, object, &hook->who, hook->state);
        return;
    }
    if (hook->wrote_rows || again)
        put_rows(change, object);
    object->rows = true;
    put_link_row(change, object, hook->user, hook->state);
}

static void undo_add(struct link_hook *hook)
{
    if (hook->found)
        object_add_link(hook->object, hook->user, hook->old);
    else
        object_drop_link(hook->object, hook->user);
    if (hook->wrote_rows)
        hook->object->rows = false;
}

static void order_drop(struct link_hook *hook, struct change *change)
{
    struct object *object = hook->object;
    struct object_link_row *at = link_place(object, hook->user);
    struct object_key key = object_key(object->id, ROW_LINK, hook->user);
    bool record = hook->user == LINK_RECORD;

    hook->found = link_found(object, at, hook->user);
    if (hook->found)
        hook->old = at->state;
    object_drop_link(object, hook->user);
    if (!record)
        change_delete(change, FAM_OBJECTS, object_key_span(&key));
    hook->dropped_rows = object->rows && !object->link_count;
    if (hook->dropped_rows) {
        delete_rows(change, object, record);
        object->rows = false;
        slots_mutant(object, SLOT_WHEN_ORDERED);
    }
}

static void undo_drop(struct link_hook *hook)
{
    if (hook->found)
        object_add_link(hook->object, hook->user, hook->old);
    if (hook->dropped_rows)
        hook->object->rows = true;
}

static void swap_origin(struct link_hook *hook)
{
    struct object_origin former = hook->object->origin;

    hook->object->origin = hook->origin;
    hook->origin = former;
}

static void order_clean(struct link_hook *hook, struct change *change)
{
    struct object *object = hook->object;
    struct object_link_row *at = link_place(object, hook->user);

    hook->found = link_found(object, at, hook->user);
    if (!hook->found) /* dropped meanwhile */
        return;
    hook->old = at->state;
    at->state = OBJECT_CLEAN;
    swap_origin(hook);
    if (!object->rows)
        return;
    if (hook->user == LINK_RECORD) {
        struct name who = {.container = object->origin.container, .blob = object->origin.blob};

        put_record_space(change, object, &who, OBJECT_CLEAN);
        return;
    }
    put_object_row(change, object);
    put_link_row(change, object, hook->user, OBJECT_CLEAN);
}

static void undo_clean(struct link_hook *hook)
{
    if (!hook->found)
        return;
    object_add_link(hook->object, hook->user, hook->old);
    swap_origin(hook);
}

/* Bytes of clean content are owed no flush; those of an object with rows that was not clean are
 * durable. Fills of clean ones were not flushed: who makes one dirty needs its devices (blocks.c).
 */
static uint64_t link_devices(struct change_hook *base)
{
    struct link_hook *hook = container_of(base, struct link_hook, hook);
    struct object *object = hook->object;
    uint64_t devices = 0;

    SCOPED_LOCK(&object->lock);
    if (hook->op != LINK_ADD || hook->state == OBJECT_CLEAN ||
        (object->rows && object_state_locked(object) != OBJECT_CLEAN))
        return 0;
    for (unsigned i = 0; i < object->cell_count; i++)
        if (object->cells[i])
            devices |= 1ull << object->cells[i]->extent.at.device;
    return devices;
}

static void link_order(struct change_hook *base, struct change *change)
{
    struct link_hook *hook = container_of(base, struct link_hook, hook);

    SCOPED_LOCK(&hook->object->lock);
    hook->ordered = true;
    switch (hook->op) {
    case LINK_ADD:
        order_add(hook, change);
        return;
    case LINK_DROP:
        order_drop(hook, change);
        return;
    case LINK_CLEAN:
        order_clean(hook, change);
        return;
    }
}

static void link_undo(struct link_hook *hook)
{
    SCOPED_LOCK(&hook->object->lock);
    switch (hook->op) {
    case LINK_ADD:
        undo_add(hook);
        return;
    case LINK_DROP:
        undo_drop(hook);
        return;
    case LINK_CLEAN:
        undo_clean(hook);
        return;
    }
}

static void link_end(struct change_hook *base, int err)
{
    struct link_hook *hook = container_of(base, struct link_hook, hook);

    if (err < 0 && hook->ordered)
        link_undo(hook);
    else if (!err)
        object_settled(hook->object);
    if (!err && hook->dropped_rows)
        slots_mutant(hook->object, SLOT_UNDER_READERS);
    hook->object = object_unref(hook->object); /* B4: slots of a dropped object, not before */
    free((void *)hook->who.blob.base);
    origin_done(&hook->origin);
    free(hook);
}

static struct link_hook *link_hook_add(struct change *change, struct object *object,
                                       enum link_op op, uint64_t user)
{
    struct link_hook *hook = xcalloc(1, sizeof(*hook));

    hook->hook =
        (struct change_hook){.devices = link_devices, .order = link_order, .end = link_end};
    hook->op = op;
    hook->object = object_ref(object);
    hook->user = user;
    change_add_hook(change, &hook->hook);
    return hook;
}

/* ---- what others call ---- */

void object_link(struct change *change, struct object *object, uint64_t user,
                 enum object_state state)
{
    assert(user != LINK_RECORD);
    link_hook_add(change, object, LINK_ADD, user)->state = state;
}

void object_unlink(struct change *change, struct object *object, uint64_t user)
{
    assert(user != LINK_RECORD);
    link_hook_add(change, object, LINK_DROP, user);
}

void object_set_clean(struct change *change, struct object *object, uint64_t user,
                      const struct object_origin *origin)
{
    struct link_hook *hook = link_hook_add(change, object, LINK_CLEAN, user);

    assert(origin->etag.len);
    hook->origin = origin_copy(origin);
}

void object_link_record(struct change *change, struct object *object, const struct name *who,
                        enum object_state state)
{
    struct link_hook *hook = link_hook_add(change, object, LINK_ADD, LINK_RECORD);

    assert(object->small && object->cell_count == 1);
    hook->state = state;
    hook->who = (struct name){.container = who->container,
                              .blob = {strndup(who->blob.base, who->blob.len), who->blob.len}};
}

void object_unlink_record(struct change *change, struct object *object)
{
    link_hook_add(change, object, LINK_DROP, LINK_RECORD);
}
