/* Power cuts under a whole cache. Goal: whatever the instant, each name is its last acknowledged
 * version or an unacknowledged intent after it, whole; each acknowledged block is there; the cloud
 * can be brought to what is here by the queue alone; the consistency walk finds nothing. Method: a
 * seeded mix of Put Blob (located, one and several extents), Put Block, Put Block List, Delete and
 * uploads, up to three changes under way at once; at random instants index folder and devices are
 * copied, the devices cut, and the box opened again. HEARTH_CRASH_STATES=500 looks at that many
 * states. */
#include "tests/unit/unit.h"

#include <unistd.h>

#include "tests/support/cachebox.h"

#define NAMES       6
#define BLOCK_NAMES 4 /* names from here on are written by blocks, one operation at a time */
#define OPS_AT_ONCE 3
#define INTENTS_MAX 256
#define BLOCKS      3

struct intent { /* one change of one name, in begin order */
    char *text; /* NULL: a delete */
    bool acked;
};

struct model {
    struct intent intents[INTENTS_MAX];
    unsigned count;
    char *staged[BLOCKS];  /* acknowledged */
    char *staging[BLOCKS]; /* under way */
    bool changing;         /* a commit or delete is under way: blocks may be gone */
    char *cloud;           /* what the cloud has; NULL: nothing */
};

struct change_op {
    struct completion done;
    struct tx *tx;
    struct model *model;
    unsigned intent;
    struct piece piece;
    const char *name;
    bool busy, committing;
};

struct run {
    struct cachebox *box;
    uint64_t id, seed;
    struct model model[NAMES];
    struct change_op ops[OPS_AT_ONCE];
    unsigned version, looks, looks_max, cut;
};

static const char *const names[NAMES] = {"a", "b", "dir/c", "latest", "blocks/x", "blocks/y"};
static const char *const ids[BLOCKS] = {"a", "b", "c"};

static uint64_t rnd(struct run *run, uint64_t below)
{
    run->seed ^= run->seed << 13;
    run->seed ^= run->seed >> 7;
    run->seed ^= run->seed << 17;
    return run->seed % below;
}

static char *stamped(struct run *run, const char *name)
{
    static const size_t sizes[] = {30, 3000, 65500, 70000, 300000};
    size_t len = sizes[rnd(run, countof(sizes))], at = 0;
    char *text = xmalloc(len + 64);

    run->version++;
    while (at < len)
        at += (size_t)sprintf(text + at, "%s#%u@%zu;", name, run->version, at);
    return text;
}

static unsigned intend(struct model *model, char *text)
{
    assert_true(model->count < INTENTS_MAX);
    model->intents[model->count] = (struct intent){.text = text};
    return model->count++;
}

static void upload(struct tx *tx, enum upload_kind kind, const char *name)
{
    tx_upload(tx, &(struct upload_spec){kind, box_contract(BOX_CLOUD, "safe", name)});
}

/* ---- what a state must be ---- */

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static char *text_of(struct cachebox *box, struct blob *blob)
{
    size_t len;
    int err;
    char *text = box_read(box, blob, &len, &err);

    assert_int_equal(err, 0);
    return text;
}

static char *found_text(struct cachebox *box, uint64_t id, const char *name)
{
    struct blob *blob;
    char *text;
    int err = box_lookup(box, id, name, &blob);

    if (err == -ENOENT || err == -ENODATA) /* nothing here; the cloud is asked */
        return NULL;
    assert_int_equal(err, 0);
    text = text_of(box, blob);
    blob_unref(blob);
    return text;
}

/* The last acknowledged version, or an intent after it. */
static bool name_holds(const struct model *model, const char *text)
{
    bool ok = !model->count && !text;
    unsigned from = 0;

    for (unsigned i = 0; i < model->count; i++)
        if (model->intents[i].acked)
            from = i + 1;
    if (from == 0)
        ok = !text;
    else
        ok = same(model->intents[from - 1].text, text);
    for (unsigned i = from; i < model->count && !ok; i++)
        ok = same(model->intents[i].text, text);
    return ok;
}

struct seen {
    const struct model *model;
    bool found[BLOCKS], extra;
};

static int see_block(void *arg, const struct block_row *row)
{
    struct seen *seen = arg;
    unsigned i = (unsigned)(row->id.base[0] - 'a');
    const char *acked = seen->model->staged[i], *staging = seen->model->staging[i];

    assert_true(i < BLOCKS);
    if ((acked && row->bytes == strlen(acked)) || (staging && row->bytes == strlen(staging)))
        seen->found[i] = true;
    else
        seen->extra = true; /* dropped by a commit, or of another version */
    return 0;
}

static bool blocks_hold(struct cachebox *box, uint64_t id, const char *name,
                        const struct model *model)
{
    struct seen seen = {.model = model};
    struct name of = box_name(id, name);

    assert_int_equal(cache_list_blocks(box->cache, &of, NULL, NULL, see_block, &seen), 0);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (model->staged[i] && !model->changing && !seen.found[i])
            return false;
    return model->changing || !seen.extra;
}

static unsigned which_name(struct span name)
{
    for (unsigned i = 0; i < NAMES; i++)
        if (span_eq(name, span_of(names[i])))
            return i;
    abort();
}

static void send(struct cachebox *box, const struct upload *upload, char **cloud)
{
    char **at;

    if (!upload->name.blob.len)
        return;
    at = &cloud[which_name(upload->name.blob)];
    free(*at);
    *at = upload->blob ? text_of(box, upload->blob) : NULL;
}

static bool upload_one(struct cachebox *box, char **cloud)
{
    struct upload_result result = {.end = UPLOAD_CONFIRMED, .cloud_etag = SPAN("\"e\"")};
    struct upload *one;
    uint64_t retry_ns;

    if (cache_upload_next(box->cache, BOX_CLOUD, &one, &retry_ns) < 0)
        return false;
    send(box, one, cloud);
    cache_upload_end(box->cache, one, &result, box_done(box));
    return true;
}

static bool cloud_follows(struct cachebox *box, struct run *run, char *const *found)
{
    char *cloud[NAMES];
    bool ok = true;

    for (unsigned i = 0; i < NAMES; i++)
        cloud[i] = run->model[i].cloud ? xstrdup(run->model[i].cloud) : NULL;
    while (upload_one(box, cloud))
        assert_int_equal(box_wait(box), 0);
    for (unsigned i = 0; i < NAMES; i++) {
        ok &= same(cloud[i], found[i]);
        free(cloud[i]);
    }
    return ok && cache_stats(box->cache).uploads_waiting == 0;
}

/* A cut now: what is found after it? */
static bool state_holds(struct run *run)
{
    struct cachebox *image = cachebox_crash(run->box, run->cut * 7919 + 1);
    char *found[NAMES];
    bool ok = true;

    for (unsigned i = 0; i < NAMES; i++) {
        found[i] = found_text(image, run->id, names[i]);
        ok &= name_holds(&run->model[i], found[i]);
        ok &= blocks_hold(image, run->id, names[i], &run->model[i]);
    }
    ok &= cloud_follows(image, run, found);
    for (unsigned i = 0; i < NAMES; i++)
        free(found[i]);
    ok &= cachebox_check(image) == 0;
    cachebox_free(image);
    loop_enter(loop_poll_loop(run->box->poll));
    return ok;
}

static void look(struct run *run)
{
    if (rnd(run, 4) || run->looks == run->looks_max)
        return;
    run->looks++;
    run->cut++;
    usleep((useconds_t)rnd(run, 3000)); /* not a wait: another instant of the threads' work */
    assert_true(state_holds(run));
}

/* ---- operations ---- */

static void op_step(struct completion *done)
{
    struct change_op *op = container_of(done, struct change_op, done);
    struct intent *intent = &op->model->intents[op->intent];
    struct blob_record record = {.type = BLOB_BLOCK};

    assert_int_equal(done->err, 0);
    if (op->committing) {
        intent->acked = true;
        op->busy = false;
        return;
    }
    if (intent->text)
        tx_put(op->tx, &record, &op->piece, 1, NULL, true);
    else
        tx_delete(op->tx);
    upload(op->tx, intent->text ? UPLOAD_CONTENT : UPLOAD_DELETE, op->name);
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

static void start_change(struct run *run, unsigned which)
{
    char *text = rnd(run, 5) ? stamped(run, names[which]) : NULL;
    struct object *object = text ? box_object(run->box, text, strlen(text)) : NULL;
    struct name name = box_name(run->id, names[which]);
    struct change_op *op = free_op(run);

    *op = (struct change_op){.model = &run->model[which],
                             .intent = intend(&run->model[which], text),
                             .name = names[which],
                             .busy = true,
                             .done = {.fn = op_step, .loop = loop_poll_loop(run->box->poll)}};
    if (object)
        op->piece = (struct piece){object, 0, object_length(object)};
    cache_begin(run->box->cache, &name, &op->tx, &op->done);
    look(run);
}

static void stage_one(struct run *run, unsigned which)
{
    struct model *model = &run->model[which];
    struct name name = box_name(run->id, names[which]);
    unsigned block = (unsigned)rnd(run, BLOCKS);
    char *text = stamped(run, names[which]);
    struct object *object = box_object(run->box, text, strlen(text));

    model->staging[block] = text;
    cache_stage(run->box->cache, &name, span_of(ids[block]), object, box_done(run->box));
    look(run);
    assert_int_equal(box_wait(run->box), 0);
    free(model->staged[block]);
    model->staged[block] = text;
    model->staging[block] = NULL;
}

static size_t staged_list(struct model *model, struct block_ref *refs, char **ret_text)
{
    size_t n = 0, len = 0;

    for (unsigned i = 0; i < BLOCKS; i++)
        len += model->staged[i] ? strlen(model->staged[i]) : 0;
    *ret_text = xcalloc(1, len + 1);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (model->staged[i]) {
            refs[n++] = (struct block_ref){BLOCK_UNCOMMITTED, span_of(ids[i])};
            strcat(*ret_text, model->staged[i]);
        }
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
    char *text;
    size_t n = staged_list(model, refs, &text), bad;
    unsigned intent = intend(model, text);

    cache_begin(run->box->cache, &name, &tx, box_done(run->box));
    assert_int_equal(box_wait(run->box), 0);
    tx_blocks(tx, refs, n, pieces, &bad, box_done(run->box));
    assert_int_equal(box_wait(run->box), 0);
    tx_put(tx, &record, pieces, n, refs, true);
    upload(tx, UPLOAD_CONTENT, names[which]);
    model->changing = true;
    cache_commit(tx, box_done(run->box));
    look(run);
    assert_int_equal(box_wait(run->box), 0);
    model->intents[intent].acked = true;
    model->changing = false;
    for (unsigned i = 0; i < BLOCKS; i++) {
        free(model->staged[i]);
        model->staged[i] = NULL;
    }
}

static void upload_some(struct run *run)
{
    char *cloud[NAMES];
    bool any;

    for (unsigned i = 0; i < NAMES; i++)
        cloud[i] = run->model[i].cloud;
    any = upload_one(run->box, cloud);
    for (unsigned i = 0; i < NAMES; i++)
        run->model[i].cloud = cloud[i];
    if (!any)
        return;
    look(run);
    assert_int_equal(box_wait(run->box), 0);
}

static void step(struct run *run)
{
    uint64_t which = rnd(run, 10);

    if (which < BLOCK_NAMES)
        start_change(run, (unsigned)which);
    else if (which < 6)
        stage_one(run, BLOCK_NAMES + (unsigned)rnd(run, 2));
    else if (which < 8)
        commit_blocks(run, BLOCK_NAMES + (unsigned)rnd(run, 2));
    else
        upload_some(run);
}

/* ---- runs ---- */

static void run_end(struct run *run)
{
    for (unsigned i = 0; i < OPS_AT_ONCE; i++)
        while (run->ops[i].busy)
            loop_poll_once(run->box->poll, 10);
    for (unsigned i = 0; i < NAMES; i++) {
        for (unsigned k = 0; k < run->model[i].count; k++)
            free(run->model[i].intents[k].text);
        for (unsigned k = 0; k < BLOCKS; k++)
            free(run->model[i].staged[k]);
        free(run->model[i].cloud);
    }
    run->box = cachebox_free(run->box);
    free(run);
}

static struct run *run_new(uint64_t seed, unsigned looks)
{
    struct run *run = xcalloc(1, sizeof(*run));

    run->seed = seed * 0x9E3779B97F4A7C15ULL + 1;
    run->looks_max = looks;
    run->box = cachebox_new(seed);
    run->id = box_container(run->box, BOX_CLOUD, "safe");
    return run;
}

static unsigned states_wanted(void)
{
    const char *text = getenv("HEARTH_CRASH_STATES");

    return text ? (unsigned)atoi(text) : 20;
}

static void test_cut__at_any_instant_loses_nothing_acknowledged(void **state)
{
    unsigned left = states_wanted();

    for (uint64_t seed = 1; left; seed++) {
        struct run *run = run_new(seed, MIN(left, 10));

        for (unsigned i = 0; i < 100 && run->looks < run->looks_max; i++)
            step(run);
        left -= MIN(left, run->looks);
        run_end(run);
    }
}

static void test_cut__with_flushes_left_out_is_noticed(void **state)
{
    struct run *run = run_new(99, 0);
    bool noticed = false;

    io_sim_skip_flush(run->box->sim, 0);
    for (unsigned i = 0; i < 30 && !noticed; i++) {
        struct cachebox *image = NULL;
        char *why = NULL;

        step(run);
        if (i < 10)
            continue;
        run->cut++;
        if (cachebox_try_crash(run->box, run->cut, &image, &why)) {
            noticed = true; /* refused in words: the log ends below what was answered */
            free(why);
        }
        for (unsigned k = 0; image && k < NAMES; k++) {
            char *text = NULL;
            struct blob *blob;
            size_t len;
            int err = box_lookup(image, run->id, names[k], &blob);

            if (!err) {
                text = box_read(image, blob, &len, &err);
                blob_unref(blob);
            }
            noticed |=
                (err && err != -ENOENT && err != -ENODATA) || !name_holds(&run->model[k], text);
            free(text);
        }
        if (image)
            cachebox_free(image);
        loop_enter(loop_poll_loop(run->box->poll));
    }
    assert_true(noticed);
    run_end(run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut__at_any_instant_loses_nothing_acknowledged),
        cmocka_unit_test(test_cut__with_flushes_left_out_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
