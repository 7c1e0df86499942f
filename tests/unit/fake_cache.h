/* tests/unit/fake_cache.h - the few cache_* calls upstream makes, on plain memory: what was taught
 * can be looked at, what is asked for can be scripted. Definitions: include in the one file of a
 * test binary. Its functions stand in for the engine's, which the linker then leaves out of the
 * archive. */
#ifndef TESTS_FAKE_CACHE_H
#define TESTS_FAKE_CACHE_H

#include "base/clock.h"
#include "base/crc64.h"
#include "cache/cache.h"

#define FAKE_NAMES_MAX   256
#define FAKE_UPLOADS_MAX 256
#define FAKE_UNITS_MAX   1024

struct container {
    struct container_record record;
};

struct object {
    unsigned number;
};

struct blob {
    _Atomic int refs;
    struct name name;
    struct blob_record record;
    char *content; /* of record.length bytes; units present say which are there */
    unsigned char unit[FAKE_UNITS_MAX]; /* 0 absent, 1 being filled, 2 there */
    struct piece pieces[8];
    size_t piece_count;
};

struct fill {
    struct blob *blob;
    struct range range;
    uint64_t at;
    void (*resume)(void *arg);
    void *arg;
};

struct reader {
    struct blob *blob;
    struct range range;
};

struct cache {
    pthread_mutex_t lock;
    struct container ctr;
    /* learn */
    struct {
        char blob[256];
        struct blob *known; /* NULL: absent */
    } learned[FAKE_NAMES_MAX];
    unsigned learned_count, container_learned, container_absent, containers_end;
    bool unlisted; /* the container is not on the cloud's list */
    int learn_err;
    struct blob *hot; /* what a name has become known as meanwhile */
    _Atomic int asks;
    /* listing */
    unsigned pages;
    struct {
        char from[256], to[256];
        bool to_end;
        unsigned rows, prefixes;
        char names[64][256];
    } page[64];
    /* fills */
    unsigned fills, fill_failures, fill_pauses, pause_every;
    int fill_end_err;
    /* uploads */
    struct upload *queue[FAKE_UPLOADS_MAX];
    unsigned queued, taken;
    struct {
        uint64_t seq;
        enum upload_end end;
        char etag[128], reason[256];
        uint64_t retry_after_ns;
    } outcome[FAKE_UPLOADS_MAX];
    _Atomic unsigned outcomes;
    void (*wake)(void *arg);
    void *wake_arg;
    bool requeue_retries;
    int read_err;
    /* doubt: of one name at a time */
    struct doubtful doubtful; /* to be found at the start: set before */
    uint64_t doubt, doubts;
    bool over;
    _Atomic unsigned marks, drops, lifts;
    _Atomic bool unsent_uploads;
};

struct blob *blob_ref(struct blob *blob);

static struct span fake_dup(struct span s)
{
    char *copy = xmalloc(s.len + 1);

    if (s.len)
        memcpy(copy, s.base, s.len);
    copy[s.len] = 0;
    return span_from(copy, s.len);
}

static struct cache *fake_cache_new(void)
{
    struct cache *cache = xcalloc(1, sizeof(*cache));

    pthread_mutex_init(&cache->lock, NULL);
    cache->ctr.record = (struct container_record){.id = 7, .account = 1, .name = SPAN("ctr")};
    return cache;
}

/* ---- names ---- */

int cache_attach_loop(struct cache *cache, struct loop *loop)
{
    return 0;
}

void cache_detach_loop(struct cache *cache, struct loop *loop)
{
}

int cache_container_by_id(struct cache *cache, uint64_t id, struct container **ret)
{
    if (id != cache->ctr.record.id)
        return -ENOENT;
    *ret = &cache->ctr;
    return 0;
}

const struct container_record *container_record(const struct container *container)
{
    return &container->record;
}

struct blob *cache_lookup_hot(struct cache *cache, const struct name *name)
{
    return cache->hot ? blob_ref(cache->hot) : NULL;
}

struct container *container_unref(struct container *container)
{
    return NULL;
}

static struct blob *fake_blob_new(const struct name *name, const struct blob_record *record)
{
    struct blob *blob = xcalloc(1, sizeof(*blob));
    struct pair *metadata = xcalloc(record->metadata_count + 1, sizeof(*metadata));

    blob->refs = 1;
    blob->name = (struct name){.container = name->container, .blob = fake_dup(name->blob)};
    blob->record = *record;
    blob->record.cloud_etag = fake_dup(record->cloud_etag);
    blob->record.content_type = fake_dup(record->content_type);
    blob->record.content_md5 = fake_dup(record->content_md5);
    for (unsigned i = 0; i < record->metadata_count; i++)
        metadata[i] =
            (struct pair){fake_dup(record->metadata[i].name), fake_dup(record->metadata[i].value)};
    blob->record.metadata = metadata;
    blob->content = xcalloc(1, record->length + 1);
    assert(record->length <= (uint64_t)FAKE_UNITS_MAX * UNIT_BYTES);
    return blob;
}

struct blob *blob_ref(struct blob *blob)
{
    blob->refs++;
    return blob;
}

struct blob *blob_unref(struct blob *blob)
{
    if (--blob->refs)
        return NULL;
    for (unsigned i = 0; i < blob->record.metadata_count; i++) {
        free((char *)blob->record.metadata[i].name.base);
        free((char *)blob->record.metadata[i].value.base);
    }
    free((void *)blob->record.metadata);
    free((char *)blob->record.cloud_etag.base);
    free((char *)blob->record.content_type.base);
    free((char *)blob->record.content_md5.base);
    free((char *)blob->name.blob.base);
    free(blob->content);
    free(blob);
    return NULL;
}

const struct blob_record *blob_record(const struct blob *blob)
{
    return &blob->record;
}

const struct name *blob_name(const struct blob *blob)
{
    return &blob->name;
}

size_t blob_pieces(const struct blob *blob, const struct piece **ret)
{
    *ret = blob->pieces;
    return blob->piece_count;
}

void object_id_bytes(const struct object *object, unsigned char ret[OBJECT_ID_BYTES])
{
    memset(ret, (int)object->number, OBJECT_ID_BYTES);
}

void cache_box_uuid(const struct cache *cache, uint64_t ret[2])
{
    ret[0] = 0x1111;
    ret[1] = 0x2222;
}

static void fake_cache_free(struct cache *cache)
{
    for (unsigned i = 0; i < cache->learned_count; i++)
        if (cache->learned[i].known)
            blob_unref(cache->learned[i].known);
    assert(!atomic_load(&cache->asks));
    free(cache);
}

/* ---- doubt ---- */

static void fake_learned(struct cache *cache, const struct asked *asked) /* lock held */
{
    if (!asked->doubt || asked->doubt != cache->doubt || !cache->over || cache->learn_err)
        return;
    cache->doubt = 0;
    cache->lifts++;
}

uint64_t cache_doubt(struct cache *cache, const struct doubtful *of)
{
    SCOPED_LOCK(&cache->lock);
    return cache->doubt;
}

void cache_doubt_begin(struct cache *cache, const struct doubtful *of, struct completion *done)
{
    SCOPED_LOCK(&cache->lock);
    cache->doubt = ++cache->doubts;
    cache->over = false;
    cache->marks++;
    completion_post(done, 0);
}

uint64_t cache_doubt_over(struct cache *cache, const struct doubtful *of)
{
    SCOPED_LOCK(&cache->lock);
    cache->over = true;
    return cache->doubt = ++cache->doubts;
}

void cache_doubt_drop(struct cache *cache, const struct doubtful *of)
{
    SCOPED_LOCK(&cache->lock);
    cache->doubt = 0;
    cache->drops++;
}

int cache_doubts(struct cache *cache, uint32_t account,
                 void (*each)(void *arg, const struct doubtful *of), void *arg)
{
    if (!cache->doubtful.account)
        return 0;
    cache->doubt = ++cache->doubts;
    each(arg, &cache->doubtful);
    return 1;
}

bool cache_uploads_of(struct cache *cache, const struct doubtful *of, struct span container)
{
    return cache->unsent_uploads;
}

/* ---- learning ---- */

struct asked cache_ask(struct cache *cache, const struct name *name)
{
    atomic_fetch_add(&cache->asks, 1);
    return (struct asked){.mono_ns = clock_mono_ns(), .wall_ns = clock_wall_ns()};
}

void cache_ask_end(struct cache *cache, struct asked *asked)
{
    atomic_fetch_sub(&cache->asks, 1);
}

void cache_learn(struct cache *cache, const struct name *name, const struct asked *asked,
                 const struct blob_record *cloud, struct blob **ret, struct completion *done)
{
    SCOPED_LOCK(&cache->lock);
    unsigned n = cache->learned_count++;

    assert(n < FAKE_NAMES_MAX);
    snprintf(cache->learned[n].blob, sizeof(cache->learned[n].blob), "%.*s", SPAN_FMT(name->blob));
    cache->learned[n].known = cloud ? fake_blob_new(name, cloud) : NULL;
    if (cloud && !cache->learn_err)
        *ret = blob_ref(cache->learned[n].known);
    fake_learned(cache, asked);
    completion_post(done, cache->learn_err);
}

void cache_learn_container(struct cache *cache, uint32_t account, struct span name,
                           const struct asked *asked, const struct container_record *cloud,
                           struct completion *done)
{
    SCOPED_LOCK(&cache->lock);
    if (cloud)
        cache->container_learned++;
    else
        cache->container_absent++;
    fake_learned(cache, asked);
    completion_post(done, 0);
}

int cache_container_unlisted(struct cache *cache, uint32_t account, const struct asked *asked,
                             struct span after, struct container **ret)
{
    SCOPED_LOCK(&cache->lock);
    if (!cache->unlisted || after.len)
        return -ENOENT;
    *ret = &cache->ctr;
    return 0;
}

void cache_learn_containers_end(struct cache *cache, uint32_t account, const struct asked *asked)
{
    cache->containers_end++;
}

void cache_learn_list(struct cache *cache, const struct list_gap *gap, const struct asked *asked,
                      const struct learned_row *rows, size_t n, struct span to,
                      struct completion *done)
{
    SCOPED_LOCK(&cache->lock);
    unsigned p = cache->pages++;

    assert(p < 64 && n <= 64);
    snprintf(cache->page[p].from, 256, "%.*s", SPAN_FMT(gap->from));
    snprintf(cache->page[p].to, 256, "%.*s", SPAN_FMT(to));
    cache->page[p].to_end = !to.base;
    for (size_t i = 0; i < n; i++) {
        snprintf(cache->page[p].names[i], 256, "%.*s", SPAN_FMT(rows[i].name));
        cache->page[p].prefixes += !rows[i].cloud;
        cache->page[p].rows++;
    }
    completion_post(done, 0);
}

/* ---- fills ---- */

int cache_fill_begin(struct blob *blob, struct range want, struct fill **ret)
{
    unsigned unit = (unsigned)(want.start / UNIT_BYTES), end = unit;
    unsigned extent_end =
        (unsigned)((want.start / EXTENT_BYTES_MAX + 1) * EXTENT_BYTES_MAX / UNIT_BYTES);
    struct fill *fill;

    if (blob->unit[unit])
        return blob->unit[unit] == 1 ? -EALREADY : -EEXIST;
    while (end < extent_end && (uint64_t)end * UNIT_BYTES < want.start + want.len &&
           !blob->unit[end])
        blob->unit[end++] = 1;
    fill = xcalloc(1, sizeof(*fill));
    fill->blob = blob_ref(blob);
    fill->range.start = (uint64_t)unit * UNIT_BYTES;
    fill->range.len = MIN((uint64_t)end * UNIT_BYTES, blob->record.length) - fill->range.start;
    *ret = fill;
    return 0;
}

struct range fill_range(const struct fill *fill)
{
    return fill->range;
}

struct fill_source fill_source(const struct fill *fill)
{
    return (struct fill_source){fill->blob->name.container, fill->blob->name.blob,
                                fill->blob->record.cloud_etag, fill->range};
}

static unsigned fake_appends;

int fill_append(struct fill *fill, struct span bytes)
{
    static unsigned pause_every = 3;

    if (fill->at + bytes.len > fill->range.len)
        return -EFBIG;
    if (!bytes.len) /* its buffers are granted at once here */
        return 0;
    if (fill->resume && ++fake_appends % pause_every == 0) { /* resumed by "another thread" soon */
        fill->resume(fill->arg);
        return -EAGAIN;
    }
    memcpy(fill->blob->content + fill->range.start + fill->at, bytes.base, bytes.len);
    fill->at += bytes.len;
    return 0;
}

void fill_on_resume(struct fill *fill, void (*resume)(void *arg), void *arg)
{
    fill->resume = resume;
    fill->arg = arg;
}

static _Atomic unsigned fake_fills_ok, fake_fills_failed;
static _Atomic int fake_fill_err;
static const struct cache *fake_fill_watch; /* set: how much it had learned when a fill failed */
static _Atomic unsigned fake_fill_learned;

void fill_end(struct fill *fill, int err, const uint64_t *crc)
{
    unsigned first = (unsigned)(fill->range.start / UNIT_BYTES);
    unsigned count = (unsigned)((fill->range.len + UNIT_BYTES - 1) / UNIT_BYTES);

    if (!err) {
        assert(fill->at == fill->range.len);
        assert(!crc || *crc == crc64(0, fill->blob->content + fill->range.start, fill->range.len));
        fake_fills_ok++;
    } else {
        fake_fill_err = err;
        fake_fill_learned = fake_fill_watch ? fake_fill_watch->learned_count : 0;
        fake_fills_failed++;
    }
    for (unsigned i = first; i < first + count; i++)
        fill->blob->unit[i] = err ? 0 : 2;
    blob_unref(fill->blob);
    free(fill);
}

/* ---- uploads ---- */

void cache_uploads_watch(struct cache *cache, void (*wake)(void *arg), void *arg)
{
    SCOPED_LOCK(&cache->lock);
    cache->wake = wake;
    cache->wake_arg = arg;
}

int cache_upload_next(struct cache *cache, uint32_t account, struct upload **ret,
                      uint64_t *retry_ns)
{
    SCOPED_LOCK(&cache->lock);
    if (cache->taken == cache->queued)
        return -EAGAIN;
    *ret = cache->queue[cache->taken++];
    return 0;
}

__attribute__((unused)) static void fake_queue(struct cache *cache, struct upload *upload)
{
    SCOPED_LOCK(&cache->lock);
    assert(cache->queued < FAKE_UPLOADS_MAX);
    cache->queue[cache->queued++] = upload;
    if (cache->wake)
        cache->wake(cache->wake_arg);
}

void cache_upload_end(struct cache *cache, struct upload *upload,
                      const struct upload_result *result, struct completion *done)
{
    SCOPED_LOCK(&cache->lock);
    unsigned n = cache->outcomes;

    cache->outcome[n].seq = upload->seq;
    cache->outcome[n].end = result->end;
    cache->outcome[n].retry_after_ns = result->retry_after_ns;
    snprintf(cache->outcome[n].etag, 128, "%.*s", SPAN_FMT(result->cloud_etag));
    snprintf(cache->outcome[n].reason, 256, "%.*s", SPAN_FMT(result->reason));
    cache->outcomes++; /* the test looks without the lock */
    upload->attempts++;
    if (result->end == UPLOAD_RETRY && cache->requeue_retries)
        cache->queue[cache->queued++] = upload;
    completion_post(done, 0);
}

struct reader *cache_reader_open(struct blob *blob, struct range range, enum read_for why)
{
    struct reader *reader = xcalloc(1, sizeof(*reader));

    *reader = (struct reader){blob, range};
    return reader;
}

void reader_next(struct reader *reader, struct slice *ret, struct completion *done)
{
    uint64_t n = MIN(reader->range.len, UNIT_BYTES);

    *ret = (struct slice){.bytes = span_from(reader->blob->content + reader->range.start, n)};
    reader->range.start += n;
    reader->range.len -= n;
    completion_post(done, reader->blob->unit[0] == 9 ? -EUCLEAN : 0);
}

struct reader *reader_close(struct reader *reader)
{
    free(reader);
    return NULL;
}

#endif
