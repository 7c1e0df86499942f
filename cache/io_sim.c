/* cache/io_sim.c - simulated devices: what a power cut leaves of writes that were not flushed.
 *
 * A file keeps two tables of 4 KiB pages: `now` is what reads see, `durable` what surely survives.
 * A write adds one `pending` version per page: 1 submit: the version is pending, in flight; a cut
 * may leave it, no flush covers it 2 the loop runs the request's own completion: the version is in
 * `now`, complete; done is posted 3 flush: complete versions move to `durable`, in order (The calls
 * that block do 1 and 2 at once.) A cut draws for each page among its durable and all pending
 * versions, for the page as a whole or for each 512 bytes: that is keep, drop, tear, reorder. Pages
 * are shared between tables and clones and never change once written. Any thread: one mutex. */
#include "cache/io.h"

#include <string.h>

#define SECTOR_BYTES 512u
#define SIM_FILES    16
#define CHUNK_PAGES  512u
#define SIM_VERSIONS                                                                               \
    64 /* of one page between two flushes that a cut draws from; older ones are kept */

struct page {
    _Atomic unsigned refs;
    char bytes[IO_ALIGN];
};

struct pending {
    struct sim_file *file;
    uint64_t page_no;
    struct page *page;
    struct io_request *request; /* in flight only */
    struct pending *next;
};
struct pending_list { /* oldest first */
    struct pending *first, **last;
};

struct chunk { /* of a file's two tables; NULL page: zeros */
    struct page *now[CHUNK_PAGES], *durable[CHUNK_PAGES];
};

struct sim_file {
    char *name; /* NULL: unused place */
    uint64_t bytes, chunk_count;
    struct chunk **chunks; /* NULL: never written; so a clone costs what was written */
};

struct io_sim {
    struct io_ops ops;
    pthread_mutex_t lock; /* guards all below */
    uint64_t seed, power; /* power: cuts so far; handles of an earlier one are dead */
    struct sim_file files[SIM_FILES];
    struct pending_list in_flight, complete;
    uint64_t count[IO_SIM_KINDS], fail_at[IO_SIM_KINDS];
    int fail_err[IO_SIM_KINDS];
    uint64_t skip_flush_at;
    bool skip_flush_all;
};

struct sim_io {
    struct io io;
    struct io_sim *sim;
    struct sim_file *file;
    uint64_t power;
    bool read_only;
};

static uint64_t draw(uint64_t *state) /* splitmix64 */
{
    uint64_t z = (*state += 0x9E3779B97F4A7C15ULL);

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
}

static struct page *page_new(const void *bytes)
{
    struct page *page = xmalloc(sizeof(*page));

    atomic_init(&page->refs, 1);
    memcpy(page->bytes, bytes, IO_ALIGN);
    return page;
}

static struct page *page_ref(struct page *page)
{
    if (page)
        atomic_fetch_add(&page->refs, 1);
    return page;
}

static void page_unref(struct page *page)
{
    if (page && atomic_fetch_sub(&page->refs, 1) == 1)
        free(page);
}

static void page_set(struct page **place, struct page *page) /* takes the reference */
{
    page_unref(*place);
    *place = page;
}

static const char *page_bytes(const struct page *page)
{
    static const char zeros[IO_ALIGN];

    return page ? page->bytes : zeros;
}

static struct chunk *chunk_of(const struct sim_file *file, uint64_t page_no) /* or NULL */
{
    return file->chunks[page_no / CHUNK_PAGES];
}

static struct chunk *chunk_need(struct sim_file *file, uint64_t page_no)
{
    struct chunk **place = &file->chunks[page_no / CHUNK_PAGES];

    if (!*place)
        *place = xcalloc(1, sizeof(**place));
    return *place;
}

static struct page **page_now(struct sim_file *file, uint64_t page_no)
{
    return &chunk_need(file, page_no)->now[page_no % CHUNK_PAGES];
}

static struct page **page_durable(struct sim_file *file, uint64_t page_no)
{
    return &chunk_need(file, page_no)->durable[page_no % CHUNK_PAGES];
}

static const char *bytes_now(const struct sim_file *file, uint64_t page_no)
{
    const struct chunk *chunk = chunk_of(file, page_no);

    return page_bytes(chunk ? chunk->now[page_no % CHUNK_PAGES] : NULL);
}

static struct pending *pending_take(struct pending_list *list, struct pending **at)
{
    struct pending *p = *at;

    *at = p->next;
    if (!*at)
        list->last = at;
    p->next = NULL;
    return p;
}

static void pending_append(struct pending_list *list, struct pending *p)
{
    *list->last = p;
    list->last = &p->next;
}

static void pending_free(struct pending *p)
{
    page_unref(p->page);
    free(p);
}

static void pending_add(struct pending_list *list, struct sim_file *file, uint64_t page_no,
                        struct page *page, struct io_request *request)
{
    struct pending *p = xmalloc(sizeof(*p));

    *p = (struct pending){file, page_no, page, request, NULL};
    pending_append(list, p);
}

static int count_op(struct io_sim *sim,
                    enum io_sim_kind kind) /* lock held; the failure that was asked for */
{
    return ++sim->count[kind] == sim->fail_at[kind] ? sim->fail_err[kind] : 0;
}

static int handle_check(const struct sim_io *h) /* lock held */
{
    return h->power == h->sim->power ? 0 : -EIO;
}

static void pages_read(const struct sim_file *file, char *into, size_t bytes, uint64_t offset)
{
    for (size_t at = 0; at < bytes; at += IO_ALIGN)
        memcpy(into + at, bytes_now(file, (offset + at) / IO_ALIGN), IO_ALIGN);
}

static void pages_write(struct sim_io *h, const char *from, size_t bytes, uint64_t offset,
                        struct io_request *request)
{
    for (size_t at = 0; at < bytes; at += IO_ALIGN) {
        uint64_t page_no = (offset + at) / IO_ALIGN;
        struct page *page = page_new(from + at);

        if (!request)
            page_set(page_now(h->file, page_no), page_ref(page));
        pending_add(request ? &h->sim->in_flight : &h->sim->complete, h->file, page_no, page,
                    request);
    }
}

static int sim_read(struct io *io, void *into, uint32_t bytes, uint64_t offset)
{
    struct sim_io *h = container_of(io, struct sim_io, io);
    SCOPED_LOCK(&h->sim->lock);
    int err = handle_check(h);

    assert(bytes % IO_ALIGN == 0 && offset % IO_ALIGN == 0 && offset + bytes <= io->bytes);
    if (err == 0)
        err = count_op(h->sim, IO_SIM_READ);
    if (err == 0)
        pages_read(h->file, into, bytes, offset);
    return err;
}

static int sim_write(struct io *io, const void *from, uint32_t bytes, uint64_t offset)
{
    struct sim_io *h = container_of(io, struct sim_io, io);
    SCOPED_LOCK(&h->sim->lock);
    int err = h->read_only ? -EBADF : handle_check(h);

    assert(bytes % IO_ALIGN == 0 && offset % IO_ALIGN == 0 && offset + bytes <= io->bytes);
    if (err == 0)
        err = count_op(h->sim, IO_SIM_WRITE);
    if (err == 0)
        pages_write(h, from, bytes, offset, NULL);
    return err;
}

static bool flush_skipped(struct io_sim *sim) /* lock held */
{
    return sim->skip_flush_all || sim->count[IO_SIM_FLUSH] == sim->skip_flush_at;
}

static int sim_flush(struct io *io)
{
    struct sim_io *h = container_of(io, struct sim_io, io);
    SCOPED_LOCK(&h->sim->lock);
    int err = handle_check(h);
    struct pending_list *list = &h->sim->complete;

    if (err == 0)
        err = count_op(h->sim, IO_SIM_FLUSH);
    if (err < 0)
        atomic_store(&io->flush_failed, true);
    if (atomic_load(&io->flush_failed))
        return -EIO;
    if (flush_skipped(h->sim))
        return 0;
    for (struct pending **at = &list->first; *at;) {
        struct pending *p = *at;

        if (p->file != h->file) {
            at = &p->next;
            continue;
        }
        page_set(page_durable(p->file, p->page_no), page_ref(p->page));
        pending_free(pending_take(list, at));
    }
    return 0;
}

/* The write completes (or, err < 0, never happened). Lock held. */
static void write_end(struct sim_io *h, struct io_request *request, int err)
{
    struct pending_list *list = &h->sim->in_flight;

    for (struct pending **at = &list->first; *at;) {
        struct pending *p = *at;

        if (p->request != request) {
            at = &p->next;
            continue;
        }
        p = pending_take(list, at);
        if (err < 0) {
            pending_free(p);
            continue;
        }
        page_set(page_now(p->file, p->page_no), page_ref(p->page));
        pending_append(&h->sim->complete, p);
    }
}

static int request_end(struct sim_io *h, struct io_request *request)
{
    SCOPED_LOCK(&h->sim->lock);
    int err = handle_check(h);
    uint64_t at = request->offset;

    if (err == 0)
        err = count_op(h->sim, request->write ? IO_SIM_WRITE : IO_SIM_READ);
    if (request->write) {
        write_end(h, request, err);
        return err;
    }
    for (unsigned i = 0; err == 0 && i < request->vecs; i++) {
        pages_read(h->file, request->vec[i].iov_base, request->vec[i].iov_len, at);
        at += request->vec[i].iov_len;
    }
    return err;
}

static void request_run(struct completion *own)
{
    struct io_request *request = container_of(own, struct io_request, own);

    completion_post(request->done,
                    request_end(container_of(request->io, struct sim_io, io), request));
}

static void sim_submit(struct io *io, struct io_request *request)
{
    struct sim_io *h = container_of(io, struct sim_io, io);
    uint64_t at = request->offset;

    io_request_assert(io, request);
    request->io = io;
    request->own = (struct completion){.fn = request_run, .loop = request->done->loop};
    pthread_mutex_lock(&h->sim->lock);
    for (unsigned i = 0; request->write && handle_check(h) == 0 && i < request->vecs; i++) {
        pages_write(h, request->vec[i].iov_base, request->vec[i].iov_len, at, request);
        at += request->vec[i].iov_len;
    }
    pthread_mutex_unlock(&h->sim->lock);
    completion_post(&request->own, 0);
}

static void sim_close(struct io *io)
{
    free(container_of(io, struct sim_io, io));
}

static int sim_attach(const struct io_ops *ops, struct loop *loop)
{
    return 0;
}

static void sim_detach(const struct io_ops *ops, struct loop *loop)
{
}

static struct sim_file *file_find(struct io_sim *sim,
                                  const char *name) /* or an unused place; NULL: full */
{
    for (unsigned i = 0; i < SIM_FILES; i++)
        if (!sim->files[i].name || strcmp(sim->files[i].name, name) == 0)
            return &sim->files[i];
    return NULL;
}

static void file_extend(struct sim_file *file, uint64_t bytes)
{
    uint64_t count = (bytes / IO_ALIGN + CHUNK_PAGES - 1) / CHUNK_PAGES;

    file->bytes = MAX(file->bytes, bytes);
    if (count <= file->chunk_count)
        return;
    file->chunks = xrealloc(file->chunks, count * sizeof(*file->chunks));
    memset(file->chunks + file->chunk_count, 0,
           (count - file->chunk_count) * sizeof(*file->chunks));
    file->chunk_count = count;
}

static int sim_open(const struct io_ops *ops, const char *path, uint64_t bytes, struct io **ret)
{
    struct io_sim *sim = container_of(ops, struct io_sim, ops);
    SCOPED_LOCK(&sim->lock);
    struct sim_file *file = file_find(sim, path);
    struct sim_io *h;

    if (!file)
        return -ENOSPC;
    if (!file->name && !bytes)
        return -ENOENT;
    if (!file->name)
        file->name = xstrdup(path);
    file_extend(file, bytes);
    h = xcalloc(1, sizeof(*h));
    h->read_only = !bytes;
    h->io = (struct io){.ops = ops, .bytes = bytes ? bytes : file->bytes};
    h->sim = sim;
    h->file = file;
    h->power = sim->power;
    *ret = &h->io;
    return 0;
}

/* What the cut leaves of one page: `choices[0]` is durable, the others pending versions. */
static struct page *page_after_cut(struct page *const *choices, unsigned n, uint64_t *state)
{
    struct page *torn;

    if (draw(state) % 3) /* most pages are whole; a third of them mixed by sectors */
        return page_ref(choices[draw(state) % n]);
    torn = page_new(page_bytes(choices[0]));
    for (unsigned at = 0; at < IO_ALIGN; at += SECTOR_BYTES)
        memcpy(torn->bytes + at, page_bytes(choices[draw(state) % n]) + at, SECTOR_BYTES);
    return torn;
}

static void page_versions(struct pending_list *list, const struct sim_file *file, uint64_t page_no,
                          struct page **choices, unsigned *n)
{
    for (struct pending **at = &list->first; *at;) {
        struct pending *p = *at;

        if (p->file != file || p->page_no != page_no) {
            at = &p->next;
            continue;
        }
        if (*n < SIM_VERSIONS)
            choices[(*n)++] = page_ref(p->page);
        pending_free(pending_take(list, at));
    }
}

static void page_cut(struct io_sim *sim, struct sim_file *file, uint64_t page_no, uint64_t *state)
{
    struct page *choices[SIM_VERSIONS] = {page_ref(*page_durable(file, page_no))};
    unsigned n = 1;

    page_versions(&sim->complete, file, page_no, choices, &n);
    page_versions(&sim->in_flight, file, page_no, choices, &n);
    page_set(page_durable(file, page_no), page_after_cut(choices, n, state));
    for (unsigned i = 0; i < n; i++)
        page_unref(choices[i]);
}

static void list_cut(struct io_sim *sim, struct pending_list *list, uint64_t *state)
{
    while (list->first)
        page_cut(sim, list->first->file, list->first->page_no, state);
}

static void file_free(struct sim_file *file)
{
    for (uint64_t c = 0; c < file->chunk_count; c++) {
        for (unsigned i = 0; file->chunks[c] && i < CHUNK_PAGES; i++) {
            page_unref(file->chunks[c]->now[i]);
            page_unref(file->chunks[c]->durable[i]);
        }
        free(file->chunks[c]);
    }
    free(file->name);
    free(file->chunks);
}

static void file_copy(struct sim_file *to, const struct sim_file *from)
{
    to->name = xstrdup(from->name);
    file_extend(to, from->bytes);
    for (uint64_t c = 0; c < from->chunk_count; c++) {
        if (!from->chunks[c])
            continue;
        to->chunks[c] = xmalloc(sizeof(*to->chunks[c]));
        for (unsigned i = 0; i < CHUNK_PAGES; i++) {
            to->chunks[c]->now[i] = page_ref(from->chunks[c]->now[i]);
            to->chunks[c]->durable[i] = page_ref(from->chunks[c]->durable[i]);
        }
    }
}

/* What reads see is what the cut left. */
static void file_cut(struct sim_file *file)
{
    for (uint64_t c = 0; c < file->chunk_count; c++)
        for (unsigned i = 0; file->chunks[c] && i < CHUNK_PAGES; i++)
            page_set(&file->chunks[c]->now[i], page_ref(file->chunks[c]->durable[i]));
}

struct io_sim *io_sim_new(uint64_t seed)
{
    struct io_sim *sim = xcalloc(1, sizeof(*sim));

    sim->ops = (struct io_ops){
        .name = "simulated",
        .open = sim_open,
        .submit = sim_submit,
        .read = sim_read,
        .write = sim_write,
        .flush = sim_flush,
        .close = sim_close,
        .attach = sim_attach,
        .detach = sim_detach,
    };
    pthread_mutex_init(&sim->lock, NULL);
    sim->seed = seed;
    sim->in_flight.last = &sim->in_flight.first;
    sim->complete.last = &sim->complete.first;
    return sim;
}

static void list_free(struct pending_list *list)
{
    while (list->first)
        pending_free(pending_take(list, &list->first));
}

struct io_sim *io_sim_free(struct io_sim *sim)
{
    if (!sim)
        return NULL;
    list_free(&sim->in_flight);
    list_free(&sim->complete);
    for (unsigned i = 0; i < SIM_FILES; i++)
        file_free(&sim->files[i]);
    pthread_mutex_destroy(&sim->lock);
    free(sim);
    return NULL;
}

const struct io_ops *io_sim_ops(struct io_sim *sim)
{
    return &sim->ops;
}

void io_sim_crash(struct io_sim *sim, uint64_t seed)
{
    SCOPED_LOCK(&sim->lock);
    uint64_t state = sim->seed ^ seed;

    list_cut(sim, &sim->complete, &state);
    list_cut(sim, &sim->in_flight, &state);
    for (unsigned f = 0; f < SIM_FILES; f++)
        file_cut(&sim->files[f]);
    sim->power++;
}

static void list_copy(struct io_sim *to_sim, struct pending_list *to, const struct io_sim *from_sim,
                      const struct pending_list *from)
{
    static struct io_request lost; /* what is in flight never completes in the copy */

    for (struct pending *p = from->first; p; p = p->next)
        pending_add(to, &to_sim->files[p->file - from_sim->files], p->page_no, page_ref(p->page),
                    p->request ? &lost : NULL);
}

struct io_sim *io_sim_clone(struct io_sim *sim)
{
    struct io_sim *copy = io_sim_new(sim->seed);
    SCOPED_LOCK(&sim->lock);

    for (unsigned f = 0; f < SIM_FILES && sim->files[f].name; f++)
        file_copy(&copy->files[f], &sim->files[f]);
    list_copy(copy, &copy->complete, sim, &sim->complete);
    list_copy(copy, &copy->in_flight, sim, &sim->in_flight);
    return copy;
}

void io_sim_fail(struct io_sim *sim, enum io_sim_kind kind, uint64_t nth, int err)
{
    SCOPED_LOCK(&sim->lock);

    sim->fail_at[kind] = err ? sim->count[kind] + nth : 0;
    sim->fail_err[kind] = err;
}

void io_sim_skip_flush(struct io_sim *sim, uint64_t nth)
{
    SCOPED_LOCK(&sim->lock);

    sim->skip_flush_all = nth == 0;
    sim->skip_flush_at = nth ? sim->count[IO_SIM_FLUSH] + nth : 0;
}

uint64_t io_sim_count(struct io_sim *sim, enum io_sim_kind kind)
{
    SCOPED_LOCK(&sim->lock);

    return sim->count[kind];
}

void io_sim_corrupt(struct io_sim *sim, const char *path, uint64_t offset, uint8_t mask)
{
    SCOPED_LOCK(&sim->lock);
    struct sim_file *file = file_find(sim, path);
    struct page **places[] = {page_now(file, offset / IO_ALIGN),
                              page_durable(file, offset / IO_ALIGN)};

    for (unsigned i = 0; i < countof(places); i++) {
        struct page *page = page_new(page_bytes(*places[i]));

        page->bytes[offset % IO_ALIGN] ^= (char)mask;
        page_set(places[i], page);
    }
}
