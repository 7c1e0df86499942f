#include "blobapi/md5_chain.h"

#include "base/loop.h"

/* The loop appends, one worker job at a time removes. The job drains what is there and ends; its
 * completion, back on the loop, starts another if more has come. So the chain is freed by the loop
 * alone: at once when no job runs, else by that completion. */
struct md5_chain {
    struct workers *workers;
    struct md5 *md5;
    struct completion ran; /* of the job */
    bool running, closed;  /* loop only; closed is told to the job by `abandoned` */
    pthread_mutex_t lock;  /* guards what follows */
    struct iobuf *queue[MD5_CHAIN_MAX];
    unsigned first, count; /* a buffer counts until it is hashed */
    bool abandoned;
    struct completion *waiter;
    unsigned waiter_waiting;
};

static struct iobuf *chain_first(struct md5_chain *chain, bool *abandoned)
{
    SCOPED_LOCK(&chain->lock);

    *abandoned = chain->abandoned;
    return chain->count ? chain->queue[chain->first] : NULL;
}

static void chain_hashed(struct md5_chain *chain)
{
    SCOPED_LOCK(&chain->lock);

    chain->first = (chain->first + 1) % MD5_CHAIN_MAX;
    chain->count--;
    if (chain->waiter && chain->count <= chain->waiter_waiting)
        completion_post(TAKE(chain->waiter), 0);
}

static int chain_job(void *arg) /* worker */
{
    struct md5_chain *chain = arg;
    struct iobuf *buf;
    bool abandoned;

    while ((buf = chain_first(chain, &abandoned))) {
        if (!abandoned)
            md5_add(chain->md5, span_from(buf->base, buf->used));
        chain_hashed(chain);
        iobuf_unref(buf);
    }
    return 0;
}

static void chain_free(struct md5_chain *chain)
{
    while (chain->count) {
        iobuf_unref(chain->queue[chain->first]);
        chain->first = (chain->first + 1) % MD5_CHAIN_MAX;
        chain->count--;
    }
    chain->md5 = md5_free(chain->md5);
    pthread_mutex_destroy(&chain->lock);
    free(chain);
}

static void chain_ran(struct completion *ran)
{
    struct md5_chain *chain = container_of(ran, struct md5_chain, ran);

    if (ran->err == -EBUSY)
        (void)chain_job(chain); /* the workers' queue is full: hash here, slow but right */
    chain->running = false;
    if (chain->closed) {
        loop_release(ran->loop);
        chain_free(chain);
    } else if (md5_chain_waiting(chain)) {
        chain->running = true;
        worker_run(chain->workers, chain_job, chain, &chain->ran);
    }
}

struct md5_chain *md5_chain_open(struct workers *workers, struct loop *loop)
{
    struct md5_chain *chain = xcalloc(1, sizeof(*chain));

    chain->workers = workers;
    chain->md5 = md5_new();
    chain->ran = (struct completion){.fn = chain_ran, .loop = loop};
    pthread_mutex_init(&chain->lock, NULL);
    return chain;
}

void md5_chain_push(struct md5_chain *chain, struct iobuf *buf)
{
    pthread_mutex_lock(&chain->lock);
    assert(chain->count < MD5_CHAIN_MAX);
    chain->queue[(chain->first + chain->count) % MD5_CHAIN_MAX] = iobuf_ref(buf);
    chain->count++;
    pthread_mutex_unlock(&chain->lock);
    if (chain->running)
        return;
    chain->running = true;
    worker_run(chain->workers, chain_job, chain, &chain->ran);
}

unsigned md5_chain_waiting(const struct md5_chain *chain)
{
    struct md5_chain *c = (struct md5_chain *)chain;
    SCOPED_LOCK(&c->lock);

    return c->count;
}

void md5_chain_wait(struct md5_chain *chain, unsigned waiting, struct completion *done)
{
    SCOPED_LOCK(&chain->lock);

    assert(!chain->waiter);
    if (chain->count <= waiting) {
        completion_post(done, 0);
        return;
    }
    chain->waiter = done;
    chain->waiter_waiting = waiting;
}

void md5_chain_end(struct md5_chain *chain, unsigned char ret[MD5_BYTES])
{
    md5_end(chain->md5, ret);
}

struct md5_chain *md5_chain_close(struct md5_chain *chain)
{
    if (!chain)
        return NULL;
    chain->closed = true;
    pthread_mutex_lock(&chain->lock);
    chain->abandoned = true;
    assert(!chain->waiter); /* the op has come back from its await (O5) */
    pthread_mutex_unlock(&chain->lock);
    if (chain->running)
        loop_hold(chain->ran.loop); /* chain_ran is to come */
    else
        chain_free(chain);
    return NULL;
}
