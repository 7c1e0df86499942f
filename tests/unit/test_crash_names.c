/* Power cuts under a whole cache. Goal: whatever the instant, each name is its last acknowledged
 * version or an unacknowledged intent after it, whole; each acknowledged block is there; the cloud
 * can be brought to what is here by the queue alone; the consistency walk finds nothing.
 *
 * Method: a seeded mix of Put Blob (located, one and several extents), Put Block, Put Block List,
 * Append Block (in a local container), Delete, uploads, reads (what was evicted is filled from the
 * cloud), with eviction and compaction in the background and up to three changes under way at once;
 * a restart in the middle. The devices are cloned before a device write or flush of any thread - of
 * all of them an even sample is kept - together with what was acknowledged by then. Each clone is
 * cut with several seeds, each with another copy of the index folder from before it, and opened
 * again. One device and two in turn. HEARTH_LONG=1 looks at five times as many states. */
#include "tests/unit/unit.h"

#include "base/crc64.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/metrics.h"
#include "cache/store.h"
#include "tests/support/cachebox.h"
#include "tests/support/io_tap.h"
#include "tests/support/tempdir.h"

#define NAMES        8
#define BLOCK_NAMES  4 /* names from here on are written by blocks, one operation at a time */
#define APPEND_NAMES 6 /* names from here on are append blobs of a local container */
#define OPS_AT_ONCE  2 /* and one that is waited for */
#define INTENTS_MAX  256
#define TEXTS_MAX    1024
#define BLOCKS       3
#define CAPTURES_MAX 32
#define COPIES_MAX   8
#define PAIRS        2  /* states per capture: seed and copy of the index */
#define STEPS        40 /* per boot */

/* What must be found: of one name. */
struct view {
    unsigned count, acked;       /* intents; the last acknowledged one is acked - 1 */
    const char *staged[BLOCKS];  /* acknowledged */
    const char *staging[BLOCKS]; /* under way */
    bool changing;               /* a commit or delete is under way: blocks may be gone */
    const char *cloud;           /* what the cloud has; NULL: nothing */
};

struct model {
    const char *intents[INTENTS_MAX]; /* changes of one name, in begin order; NULL: a delete */
    struct view now;
};

struct capture {
    struct io_sim *sim;
    struct view view[NAMES];
    unsigned copies;
};

struct change_op {
    struct completion done;
    struct tx *tx;
    struct run *run;
    struct model *model;
    unsigned intent;
    struct piece piece;
    const char *name;
    bool busy, committing, append;
};

struct run {
    struct cachebox *box;
    struct io_tap tap;
    uint64_t id, local, seed;
    struct change_op ops[OPS_AT_ONCE];
    unsigned version;
    char *texts[TEXTS_MAX]; /* all that were ever written; the number is the cloud's ETag */
    unsigned text_count;
    pthread_mutex_t lock; /* guards all below: captures are taken on any thread */
    struct model model[NAMES];
    bool capturing;
    struct capture capture[CAPTURES_MAX];
    unsigned captures, captures_max;
    uint64_t events, draw;
    char *copy[COPIES_MAX];
    unsigned copies, copy_boot;
};

static const char *const names[NAMES] = {"a",        "b",        "dir/c", "latest",
                                         "blocks/x", "blocks/y", "log/x", "log/y"};
static const char *const ids[BLOCKS] = {"a", "b", "c"};

static uint64_t container_of_name(const struct run *run, const char *name)
{
    return strncmp(name, "log/", 4) == 0 ? run->local : run->id;
}

static uint64_t rnd_of(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state % below;
}

static uint64_t rnd(struct run *run, uint64_t below)
{
    return rnd_of(&run->seed, below);
}

static const char *keep_text(struct run *run, char *text)
{
    assert_true(run->text_count < TEXTS_MAX);
    return run->texts[run->text_count++] = text;
}

static const char *stamped(struct run *run, const char *name)
{
    static const size_t sizes[] = {30, 3000, 65500, 70000, 300000};
    size_t len = sizes[rnd(run, countof(sizes))], at = 0;
    char *text = xmalloc(len + 64);

    run->version++;
    while (at < len)
        at += (size_t)sprintf(text + at, "%s#%u@%zu;", name, run->version, at);
    return keep_text(run, text);
}

static unsigned intend(struct run *run, struct model *model, const char *text)
{
    SCOPED_LOCK(&run->lock);
    assert_true(model->now.count < INTENTS_MAX);
    model->intents[model->now.count] = text;
    return model->now.count++;
}

static void upload(struct tx *tx, enum upload_kind kind, const char *name)
{
    tx_upload(tx, &(struct upload_spec){kind, box_contract(BOX_CLOUD, "safe", name)});
}

/* ---- captures ---- */

/* An even sample of all events: the nth is kept with captures_max / n, in some former one's place.
 */
static void before_io(void *arg, const struct io_tap_event *event)
{
    struct run *run = arg;
    struct capture *c;
    uint64_t place;

    SCOPED_LOCK(&run->lock);
    if (!run->capturing)
        return;
    place = run->captures < run->captures_max ? run->captures : rnd_of(&run->draw, run->events + 1);
    run->events++;
    if (place >= run->captures_max)
        return;
    run->captures = MAX(run->captures, (unsigned)place + 1);
    c = &run->capture[place];
    io_sim_free(c->sim);
    c->sim = io_sim_clone(run->box->sim);
    c->copies = run->copies;
    for (unsigned i = 0; i < NAMES; i++)
        c->view[i] = run->model[i].now;
}

static void copy_index(struct run *run)
{
    _cleanup_(freep) char *name = xasprintf("copy%u", run->copies);
    char *copy;

    if (run->copies == COPIES_MAX)
        return;
    copy = tempdir_path(run->box->dir, name);
    cachebox_index_copy(run->box, copy);
    SCOPED_LOCK(&run->lock);
    run->copy[run->copies++] = copy;
}

/* ---- reading, as a client would: what is absent is filled from the cloud ---- */

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void feed(struct cachebox *box, struct fill *fill, const char *bytes, uint64_t len)
{
    for (uint64_t at = 0, n; at < len;) {
        n = MIN(len - at, (uint64_t)40000);
        if (fill_append(fill, (struct span){bytes + at, n}) == -EAGAIN)
            loop_poll_once(box->poll, 1);
        else
            at += n;
    }
}

static void fill_gap(struct run *run, struct cachebox *box, struct blob *blob, struct range gap)
{
    struct fill_source source;
    struct fill *fill;
    const char *text;
    uint64_t crc;

    if (cache_fill_begin(blob, gap, &fill)) {
        loop_poll_once(box->poll, 1); /* it is there, or comes */
        return;
    }
    source = fill_source(fill);
    text = run->texts[atoi(source.etag.base + 1)] + source.bytes.start;
    crc = crc64(0, text, source.bytes.len);
    feed(box, fill, text, source.bytes.len);
    fill_end(fill, 0, &crc);
}

/* NULL: an error, or bytes that nobody wrote come out as such. */
static char *text_of(struct run *run, struct cachebox *box, struct blob *blob)
{
    uint64_t length = blob_record(blob)->length, at = 0;
    struct reader *reader =
        length ? cache_reader_open(blob, (struct range){0, length}, READ_CLIENT) : NULL;
    char *text = xcalloc(1, length + 1);
    int err = 0;

    while (at < length && (!err || err == -ENODATA)) {
        struct slice slice = {0};

        reader_next(reader, &slice, box_done(box));
        err = box_wait(box);
        if (err == -ENODATA)
            fill_gap(run, box, blob, reader_gap(reader));
        if (err)
            continue;
        memcpy(text + at, slice.bytes.base, slice.bytes.len);
        at += slice.bytes.len;
        slice_unref(slice);
    }
    if (reader && !err) {
        reader_settle(reader, box_done(box));
        err = box_wait(box);
    }
    reader_close(reader);
    if (!err)
        return text;
    free(text);
    return NULL;
}

/* ---- what a state must be ---- */

static int find_text(struct run *run, struct cachebox *box, const char *name, char **ret)
{
    struct blob *blob;
    int err = box_lookup(box, container_of_name(run, name), name, &blob);

    *ret = NULL;
    if (err == -ENOENT || err == -ENODATA) /* nothing here; the cloud is asked */
        return 0;
    if (err)
        return err;
    *ret = text_of(run, box, blob);
    blob_unref(blob);
    return *ret ? 0 : -EIO;
}

/* The last acknowledged version, or an intent after it. */
static bool name_holds(const struct model *model, const struct view *view, const char *text)
{
    bool ok = view->acked ? same(model->intents[view->acked - 1], text) : !text;

    for (unsigned i = view->acked; i < view->count && !ok; i++)
        ok = same(model->intents[i], text);
    return ok;
}

struct seen {
    const struct view *view;
    bool found[BLOCKS], extra;
};

static int see_block(void *arg, const struct block_row *row)
{
    struct seen *seen = arg;
    unsigned i = (unsigned)(row->id.base[0] - 'a');
    const char *acked = seen->view->staged[i], *staging = seen->view->staging[i];

    assert_true(i < BLOCKS);
    if ((acked && row->bytes == strlen(acked)) || (staging && row->bytes == strlen(staging)))
        seen->found[i] = true;
    else
        seen->extra = true; /* dropped by a commit, or of another version */
    return 0;
}

static bool blocks_hold(struct run *run, struct cachebox *box, const char *name,
                        const struct view *view)
{
    struct seen seen = {.view = view};
    struct name of = box_name(container_of_name(run, name), name);

    if (cache_list_blocks(box->cache, &of, NULL, NULL, see_block, &seen))
        return false;
    for (unsigned i = 0; i < BLOCKS; i++)
        if (view->staged[i] && !view->changing && !seen.found[i])
            return false;
    return view->changing || !seen.extra;
}

static unsigned which_name(struct span name)
{
    for (unsigned i = 0; i < NAMES; i++)
        if (span_eq(name, span_of(names[i])))
            return i;
    abort();
}

/* -1: nobody wrote that. */
static int text_number(struct run *run, const char *text)
{
    for (unsigned i = 0; text && i < run->text_count; i++)
        if (strcmp(run->texts[i], text) == 0)
            return (int)i;
    return -1;
}

/* Starts the end of one upload: box_wait. cloud[which] is what the cloud has then. 0: there is
 * none; -1: its bytes are not what was written. */
static int upload_one(struct run *run, struct cachebox *box, const char **cloud)
{
    struct upload_result result = {.end = UPLOAD_CONFIRMED};
    _cleanup_(freep) char *text = NULL, *etag = NULL;
    struct upload *one;
    uint64_t retry_ns;
    int number = 0;

    if (cache_upload_next(box->cache, BOX_CLOUD, &one, &retry_ns) < 0)
        return 0;
    if (one->blob) {
        text = text_of(run, box, one->blob);
        number = text_number(run, text);
    }
    if (one->name.blob.len && number >= 0) {
        SCOPED_LOCK(&run->lock);
        cloud[which_name(one->name.blob)] = one->blob ? run->texts[number] : NULL;
    }
    etag = xasprintf("\"%d\"", number);
    result.cloud_etag = span_of(etag);
    cache_upload_end(box->cache, one, &result, box_done(box));
    return number < 0 ? box_wait(box), -1 : 1;
}

static bool cloud_follows(struct run *run, struct cachebox *box, const struct capture *c,
                          char *const *found)
{
    const char *cloud[NAMES];
    bool ok = true;
    int n;

    for (unsigned i = 0; i < NAMES; i++)
        cloud[i] = c->view[i].cloud;
    while ((n = upload_one(run, box, cloud)))
        if (n < 0 || box_wait(box))
            return false;
    for (unsigned i = 0; i < APPEND_NAMES; i++)
        ok &= same(cloud[i], found[i]);
    return ok && cache_stats(box->cache).uploads_waiting == 0;
}

static char *judge_names(struct run *run, struct cachebox *image, const struct capture *c,
                         char **found)
{
    for (unsigned i = 0; i < NAMES; i++) {
        int err = find_text(run, image, names[i], &found[i]);

        if (err)
            return xasprintf("%s cannot be read: %d", names[i], err);
        if (!name_holds(&run->model[i], &c->view[i], found[i]))
            return xasprintf("%s is %.20s, %u of %u were acknowledged", names[i],
                             found[i] ? found[i] : "absent", c->view[i].acked, c->view[i].count);
        if (!blocks_hold(run, image, names[i], &c->view[i]))
            return xasprintf("the staged blocks of %s are not those that were acknowledged",
                             names[i]);
    }
    return cloud_follows(run, image, c, found) ? NULL
                                               : xstrdup("the cloud does not become the same");
}

/* NULL, or what is wrong with the state that the cut leaves. */
static char *judge(struct run *run, const struct capture *c, const char *copy, uint64_t seed)
{
    struct cachebox *image = cachebox_from(io_sim_clone(c->sim), copy, run->box->devices);
    char *found[NAMES] = {0}, *why = NULL;

    io_sim_crash(image->sim, seed);
    if (!cachebox_try_open(image, &why))
        why = judge_names(run, image, c, found);
    if (!why && cachebox_close_and_check(image) != 0)
        why = xstrdup("the walk finds something");
    for (unsigned i = 0; i < NAMES; i++)
        free(found[i]);
    cachebox_free(image);
    return why;
}

/* With two devices a start makes the log before it unneeded, since that is on one device only. */
static const char *any_copy(const struct run *run, const struct capture *c, uint64_t n)
{
    unsigned first = run->box->devices > 1 && c->copies > run->copy_boot ? run->copy_boot : 0;

    return run->copy[first + n % (c->copies - first)];
}

/* ---- operations ---- */

static void op_step(struct completion *done)
{
    struct change_op *op = container_of(done, struct change_op, done);
    const char *text = op->model->intents[op->intent];
    struct blob_record record = {.type = BLOB_BLOCK};

    assert_int_equal(done->err, 0);
    if (op->committing) {
        SCOPED_LOCK(&op->run->lock);
        op->model->now.acked = MAX(op->model->now.acked, op->intent + 1);
        op->busy = false;
        return;
    }
    if (op->append)
        record.type = BLOB_APPEND;
    if (text && op->append && *text)
        tx_append(op->tx, &record, &op->piece);
    else if (text)
        tx_put(op->tx, &record, &op->piece, *text ? 1 : 0, NULL, true);
    else
        tx_delete(op->tx);
    if (!op->append)
        upload(op->tx, text ? UPLOAD_CONTENT : UPLOAD_DELETE, op->name);
    op->committing = true;
    cache_commit(op->tx, &op->done);
}

static struct change_op *free_op(struct run *run)
{
    for (;;) {
        for (unsigned i = 0; i < OPS_AT_ONCE; i++)
            if (!run->ops[i].busy)
                return &run->ops[i];
        loop_poll_once(run->box->poll, 10);
    }
}

static void ops_wait(struct run *run)
{
    for (unsigned i = 0; i < OPS_AT_ONCE; i++)
        while (run->ops[i].busy)
            loop_poll_once(run->box->poll, 10);
}

static void start_change(struct run *run, unsigned which)
{
    const char *text = rnd(run, 5) ? stamped(run, names[which]) : NULL;
    struct object *object = text ? box_object(run->box, text, strlen(text)) : NULL;
    struct name name = box_name(run->id, names[which]);
    struct change_op *op = free_op(run);

    *op = (struct change_op){.run = run,
                             .model = &run->model[which],
                             .intent = intend(run, &run->model[which], text),
                             .name = names[which],
                             .busy = true,
                             .done = {.fn = op_step, .loop = loop_poll_loop(run->box->poll)}};
    if (object)
        op->piece = (struct piece){object, 0, object_length(object)};
    cache_begin(run->box->cache, &name, &op->tx, &op->done);
}

/* What the intent before it makes, and a bit more; else an empty one is made, or it is deleted. */
static void start_append(struct run *run, unsigned which)
{
    struct model *model = &run->model[which];
    const char *before = model->now.count ? model->intents[model->now.count - 1] : NULL;
    const char *text = before && rnd(run, 8) == 0 ? NULL : keep_text(run, xstrdup(""));
    struct name name = box_name(run->local, names[which]);
    struct change_op *op;
    struct object *object = NULL;

    if (before && text) {
        const char *bit = stamped(run, names[which]);

        text = keep_text(run, xasprintf("%s%s", before, bit));
        object = box_object(run->box, bit, strlen(bit));
    }
    op = free_op(run);
    *op = (struct change_op){.run = run,
                             .model = model,
                             .intent = intend(run, model, text),
                             .name = names[which],
                             .append = true,
                             .busy = true,
                             .done = {.fn = op_step, .loop = loop_poll_loop(run->box->poll)}};
    if (object)
        op->piece = (struct piece){object, 0, object_length(object)};
    cache_begin(run->box->cache, &name, &op->tx, &op->done);
}

static void stage_one(struct run *run, unsigned which)
{
    struct view *now = &run->model[which].now;
    struct name name = box_name(run->id, names[which]);
    unsigned block = (unsigned)rnd(run, BLOCKS);
    const char *text = stamped(run, names[which]);
    struct object *object = box_object(run->box, text, strlen(text));

    pthread_mutex_lock(&run->lock);
    now->staging[block] = text;
    pthread_mutex_unlock(&run->lock);
    cache_stage(run->box->cache, &name, span_of(ids[block]), object, box_done(run->box));
    assert_int_equal(box_wait(run->box), 0);
    SCOPED_LOCK(&run->lock);
    now->staged[block] = text;
    now->staging[block] = NULL;
}

static size_t staged_list(struct run *run, const struct view *now, struct block_ref *refs,
                          const char **ret_text)
{
    size_t n = 0, len = 0;
    char *text;

    for (unsigned i = 0; i < BLOCKS; i++)
        len += now->staged[i] ? strlen(now->staged[i]) : 0;
    text = xcalloc(1, len + 1);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (now->staged[i]) {
            refs[n++] = (struct block_ref){BLOCK_UNCOMMITTED, span_of(ids[i])};
            strcat(text, now->staged[i]);
        }
    *ret_text = keep_text(run, text);
    return n;
}

static void commit_blocks(struct run *run, unsigned which)
{
    struct model *model = &run->model[which];
    struct name name = box_name(run->id, names[which]);
    struct blob_record record = {.type = BLOB_BLOCK};
    struct block_ref refs[BLOCKS];
    struct piece pieces[BLOCKS];
    struct tx *tx;
    const char *text;
    size_t n = staged_list(run, &model->now, refs, &text), bad;
    unsigned intent = intend(run, model, text);

    cache_begin(run->box->cache, &name, &tx, box_done(run->box));
    assert_int_equal(box_wait(run->box), 0);
    tx_blocks(tx, refs, n, pieces, &bad, box_done(run->box));
    assert_int_equal(box_wait(run->box), 0);
    tx_put(tx, &record, pieces, n, refs, true);
    upload(tx, UPLOAD_CONTENT, names[which]);
    pthread_mutex_lock(&run->lock);
    model->now.changing = true;
    pthread_mutex_unlock(&run->lock);
    cache_commit(tx, box_done(run->box));
    assert_int_equal(box_wait(run->box), 0);
    SCOPED_LOCK(&run->lock);
    model->now.acked = intent + 1;
    model->now.changing = false;
    memset(model->now.staged, 0, sizeof(model->now.staged));
}

static bool upload_some(struct run *run)
{
    const char *cloud[NAMES];
    int any;

    for (unsigned i = 0; i < NAMES; i++)
        cloud[i] = run->model[i].now.cloud;
    any = upload_one(run, run->box, cloud);
    pthread_mutex_lock(&run->lock);
    for (unsigned i = 0; i < NAMES; i++)
        run->model[i].now.cloud = cloud[i];
    pthread_mutex_unlock(&run->lock);
    assert_true(any >= 0);
    if (any)
        assert_int_equal(box_wait(run->box), 0);
    return any;
}

static void read_one(struct run *run, unsigned which)
{
    struct view before =
        run->model[which].now; /* what is acknowledged meanwhile may be read or not */
    char *text;

    assert_int_equal(find_text(run, run->box, names[which], &text), 0);
    assert_true(name_holds(&run->model[which], &before, text));
    free(text);
}

/* As when room is low: what is clean goes. */
static void evict(struct run *run)
{
    struct slab_store *slabs = run->box->cache->slabs;

    slabs->low_fn(slabs->low_arg, SLAB_LARGE, true);
}

static void step(struct run *run)
{
    uint64_t which = rnd(run, 18);

    if (which < BLOCK_NAMES)
        start_change(run, (unsigned)which);
    else if (which < 6)
        stage_one(run, BLOCK_NAMES + (unsigned)rnd(run, 2));
    else if (which < 8)
        commit_blocks(run, BLOCK_NAMES + (unsigned)rnd(run, 2));
    else if (which < 11)
        upload_some(run);
    else if (which < 12)
        evict(run);
    else if (which < 13)
        keeper_call(run->box->cache->content->keeper, KEEP_COMPACT);
    else if (which < 17)
        start_append(run, APPEND_NAMES + (unsigned)rnd(run, 2));
    else
        read_one(run, (unsigned)rnd(run, NAMES));
}

/* ---- runs ---- */

static struct run *run_new(uint64_t seed, unsigned devices, unsigned captures)
{
    struct run *run = xcalloc(1, sizeof(*run));

    assert_true(captures <= CAPTURES_MAX);
    pthread_mutex_init(&run->lock, NULL);
    run->seed = seed * 0x9E3779B97F4A7C15ULL + 1;
    run->draw = run->seed + 1;
    run->captures_max = captures;
    run->box = cachebox_make(seed, devices);
    io_tap_init(&run->tap, io_sim_ops(run->box->sim));
    run->tap.before = before_io;
    run->tap.arg = run;
    run->box->io_ops = &run->tap.ops;
    cachebox_open(run->box);
    run->id = box_container(run->box, BOX_CLOUD, "safe");
    run->local = box_container(run->box, BOX_LOCAL, "logs");
    copy_index(run);
    return run;
}

static void run_free(struct run *run)
{
    for (unsigned i = 0; i < run->captures; i++)
        io_sim_free(run->capture[i].sim);
    for (unsigned i = 0; i < run->text_count; i++)
        free(run->texts[i]);
    for (unsigned i = 0; i < run->copies; i++)
        free(run->copy[i]);
    run->box = cachebox_free(run->box);
    pthread_mutex_destroy(&run->lock);
    free(run);
}

static void run_boot(struct run *run)
{
    for (unsigned i = 0; i < STEPS; i++) {
        step(run);
        if (rnd(run, 12) == 0) {
            assert_int_equal(index_flush(run->box->cache->index), 0);
            copy_index(run);
        }
    }
}

/* Half of the restarts find everything uploaded, so that sparse slabs can be emptied. */
static void run_restart(struct run *run)
{
    bool all = rnd(run, 2);

    ops_wait(run);
    while (all && upload_some(run))
        ;
    cachebox_close(run->box);
    copy_index(run);
    run->copy_boot = run->copies - 1;
    cachebox_open(run->box);
    cachebox_fill_small_slabs(run->box);
    keeper_call(run->box->cache->content->keeper, KEEP_COMPACT);
}

static struct run *run_make(uint64_t seed, unsigned devices, unsigned captures,
                            struct io_tap_skip skip)
{
    struct run *run = run_new(seed, devices, captures);

    run->tap.skip = skip;
    run->capturing = true;
    run_boot(run);
    run_restart(run);
    run_boot(run);
    ops_wait(run);
    run->capturing = false;
    return run;
}

static bool is_long(void)
{
    const char *text = getenv("HEARTH_LONG");

    return text && strcmp(text, "1") == 0;
}

/* Judges all captures; NULL: no violation. */
static char *judge_run(struct run *run, uint64_t seed, unsigned *states)
{
    char *why = NULL, *where = NULL;

    for (unsigned i = 0; i < run->captures && !why; i++)
        for (unsigned pair = 0; pair < PAIRS && !why; pair++) {
            const struct capture *c = &run->capture[i];

            why = judge(run, c, any_copy(run, c, i + pair), seed * 7919 + i * 31 + pair);
            if (why)
                where = xasprintf("run %llu, capture %u, pair %u: %s", (unsigned long long)seed, i,
                                  pair, why);
            ++*states;
        }
    free(why);
    return where;
}

static void test_cut__at_any_instant_loses_nothing_acknowledged(void **state)
{
    unsigned wanted = is_long() ? 500 : 100, states = 0;
    uint64_t events = 0;

    for (uint64_t seed = 1; states < wanted; seed++) {
        struct run *run = run_make(seed, 1 + (unsigned)seed % 2, is_long() ? CAPTURES_MAX : 13,
                                   (struct io_tap_skip){0});
        char *why = judge_run(run, seed, &states);

        if (why)
            fail_msg("%s", why);
        events += run->events;
        run_free(run);
    }
    print_message(
        "%u crash states of %llu writes and flushes; evicted %lld, compacted %lld, "
        "filled %lld\n",
        states, (unsigned long long)events, (long long)metric_read(&metric_evicted_extents),
        (long long)metric_read(&metric_compacted_records), (long long)metric_read(&metric_fills));
    assert_true(states >= wanted);
    assert_true(metric_read(&metric_evicted_extents) > 0 && metric_read(&metric_fills) > 0);
    assert_true(metric_read(&metric_compacted_records) > 0);
}

/* A place that does not flush is caught; with three devices the third has no log. */
static void test_cut__rounds_need_their_flushes(void **state)
{
    static const struct {
        unsigned devices;
        struct io_tap_skip skip;
    } mutants[] = {{1, {.flush = TAP_LOG}}, {3, {.flush = TAP_DATA}}};

    for (unsigned i = 0; i < countof(mutants); i++) {
        _cleanup_(freep) char *why = NULL;
        unsigned states = 0;

        for (uint64_t seed = 1; seed <= 8 && !why; seed++) {
            struct run *run = run_make(seed, mutants[i].devices, 13, mutants[i].skip);

            why = judge_run(run, seed, &states);
            run_free(run);
        }
        print_message("no flush: %s: %s\n", io_tap_name(mutants[i].skip.flush),
                      why ? why : "nothing is lost");
        assert_non_null(why);
    }
}

static void quiet(void *arg, const char *line)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut__at_any_instant_loses_nothing_acknowledged),
        cmocka_unit_test(test_cut__rounds_need_their_flushes),
    };

    log_set_sink(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
