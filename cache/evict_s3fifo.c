/* cache/evict_s3fifo.c - S3-FIFO over extents by bytes (SOSP'23): see evict_policy.h. Pure memory.
 */
#include "cache/evict_policy.h"

#include "base/util.h"

#define USES_MAX    3
#define SMALL_SHARE 10 /* the small queue's part of all bytes: one in so many */
#define GHOSTS      (1 << 14)

enum { QUEUE_NONE, QUEUE_SMALL, QUEUE_MAIN };

struct queue {
    struct evict_item *newest, *oldest;
    uint64_t bytes;
};

struct s3fifo {
    struct evict_policy policy;
    struct queue small, main;
    uint64_t ghost[GHOSTS]; /* by hash: a later ghost overwrites an earlier one of the same place */
};

static struct s3fifo *s3fifo_of(struct evict_policy *policy)
{
    return container_of(policy, struct s3fifo, policy);
}

static void queue_push(struct queue *queue, struct evict_item *item, uint8_t kind)
{
    item->queue = kind;
    item->before = queue->newest;
    item->after = NULL;
    if (queue->newest)
        queue->newest->after = item;
    else
        queue->oldest = item;
    queue->newest = item;
    queue->bytes += item->length;
}

static struct evict_item *queue_remove(struct queue *queue, struct evict_item *item)
{
    *(item->before ? &item->before->after : &queue->oldest) = item->after;
    *(item->after ? &item->after->before : &queue->newest) = item->before;
    item->before = item->after = NULL;
    item->queue = QUEUE_NONE;
    queue->bytes -= item->length;
    return item;
}

static uint64_t ghost_hash(const struct evict_item *item)
{
    uint64_t h =
        item->id.counter * 0x9E3779B97F4A7C15ULL ^ ((uint64_t)item->index << 32) ^ item->id.epoch;

    h *= 0xD6E8FEB86659FD93ULL;
    return (h ^ h >> 31) | 1; /* 0: no ghost */
}

static void s3fifo_add(struct evict_policy *policy, struct evict_item *item)
{
    struct s3fifo *self = s3fifo_of(policy);
    uint64_t hash = ghost_hash(item), *ghost = &self->ghost[hash / 2 % GHOSTS];

    item->uses = 0;
    if (*ghost == hash) {
        *ghost = 0;
        queue_push(&self->main, item, QUEUE_MAIN);
    } else {
        queue_push(&self->small, item, QUEUE_SMALL);
    }
}

static void s3fifo_use(struct evict_policy *policy, struct evict_item *item)
{
    item->uses = (uint8_t)MIN(item->uses + 1, USES_MAX);
}

static void s3fifo_remove(struct evict_policy *policy, struct evict_item *item)
{
    struct s3fifo *self = s3fifo_of(policy);

    queue_remove(item->queue == QUEUE_MAIN ? &self->main : &self->small, item);
}

static struct evict_item *small_victim(struct s3fifo *self)
{
    struct evict_item *item = queue_remove(&self->small, self->small.oldest);
    uint64_t hash;

    if (item->uses) {
        item->uses = 0;
        queue_push(&self->main, item, QUEUE_MAIN);
        return NULL;
    }
    hash = ghost_hash(item);
    self->ghost[hash / 2 % GHOSTS] = hash;
    return item;
}

static struct evict_item *main_victim(struct s3fifo *self)
{
    struct evict_item *item = queue_remove(&self->main, self->main.oldest);

    if (!item->uses)
        return item;
    item->uses--;
    queue_push(&self->main, item, QUEUE_MAIN);
    return NULL;
}

/* Each round gives a victim, moves an item from small to main or takes one use away: it ends. */
static struct evict_item *s3fifo_victim(struct evict_policy *policy)
{
    struct s3fifo *self = s3fifo_of(policy);
    struct evict_item *item = NULL;

    while (!item && (self->small.oldest || self->main.oldest)) {
        uint64_t all = self->small.bytes + self->main.bytes;
        bool small =
            self->small.oldest && (!self->main.oldest || self->small.bytes > all / SMALL_SHARE);

        item = small ? small_victim(self) : main_victim(self);
    }
    return item;
}

static void s3fifo_free(struct evict_policy *policy)
{
    free(s3fifo_of(policy));
}

static const struct evict_policy_ops s3fifo_ops = {
    .name = "s3fifo",
    .add = s3fifo_add,
    .use = s3fifo_use,
    .remove = s3fifo_remove,
    .victim = s3fifo_victim,
    .free = s3fifo_free,
};

struct evict_policy *evict_s3fifo_new(void)
{
    struct s3fifo *self = xcalloc(1, sizeof(*self));

    self->policy.ops = &s3fifo_ops;
    return &self->policy;
}
