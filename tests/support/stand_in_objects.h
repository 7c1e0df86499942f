/* tests/support/stand_in_objects.h - cache/writer.c with objects and a committer that are only what
 * the writer needs of them: for tests and benches of the device path without log and index. Include
 * it once, before other headers of cache/. */
#ifndef TESTS_STAND_IN_OBJECTS_H
#define TESTS_STAND_IN_OBJECTS_H

#define object_id_next    stand_in_object_id_next
#define object_new        stand_in_object_new
#define object_add_extent stand_in_object_add_extent
#define object_unref      stand_in_object_unref
#define commit_wrote      stand_in_commit_wrote
#define content_stats     stand_in_content_stats
#include "cache/writer.c"

#define KEPT_EXTENTS_MAX 8

struct kept { /* a stand-in object; object.c's own fields are not used */
    struct object object;
    struct extent extents[KEPT_EXTENTS_MAX];
    unsigned count;
};

static unsigned objects_alive;
static uint64_t wrote; /* bit per device the committer was told of */
static struct content_stats content_is;

struct object_id object_id_next(struct cache *cache)
{
    static uint64_t counter;

    return (struct object_id){7, 1, ++counter};
}

struct object *object_new(struct cache *cache, struct object_id id)
{
    struct kept *kept = xcalloc(1, sizeof(*kept));

    kept->object.cache = cache;
    kept->object.id = id;
    objects_alive++;
    return &kept->object;
}

void object_add_extent(struct object *object, const struct extent *extent)
{
    struct kept *kept = container_of(object, struct kept, object);

    assert(extent->index == kept->count && kept->count < KEPT_EXTENTS_MAX); /* in order */
    kept->extents[kept->count++] = *extent;
    object->length += extent->length;
}

struct object *object_unref(struct object *object)
{
    struct kept *kept = object ? container_of(object, struct kept, object) : NULL;

    if (!kept)
        return NULL;
    for (unsigned i = 0; i < kept->count; i++)
        slab_free(object->cache->slabs, &kept->extents[i].at, kept->extents[i].length);
    objects_alive--;
    free(kept);
    return NULL;
}

struct content_stats content_stats(struct cache *cache)
{
    return content_is;
}

void commit_wrote(struct committer *committer, unsigned device)
{
    wrote |= 1ULL << device;
}

#endif
