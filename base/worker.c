#include "base/worker.h"

#include <stdio.h>

struct job {
    int (*fn)(void *arg);
    void *arg;
    struct completion *done;
    struct job *next;
};

struct workers {
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t more;
    struct job *first, **last;
    unsigned queued;
    bool stopping;
    unsigned count;
    pthread_t threads[];
};

static struct job *job_take(struct workers *workers) /* NULL: stopping and nothing left */
{
    SCOPED_LOCK(&workers->lock);
    struct job *job;

    while (!workers->first && !workers->stopping)
        pthread_cond_wait(&workers->more, &workers->lock);
    job = workers->first;
    if (!job)
        return NULL;
    workers->first = job->next;
    if (!workers->first)
        workers->last = &workers->first;
    workers->queued--;
    return job;
}

static void *worker_main(void *arg)
{
    struct job *job;

    while ((job = job_take(arg))) {
        int err = job->fn(job->arg);

        if (job->done)
            completion_post(job->done, err);
        free(job);
    }
    return NULL;
}

struct workers *workers_new(unsigned threads, const char *name)
{
    struct workers *workers = xcalloc(1, sizeof(*workers) + threads * sizeof(pthread_t));
    char text[16];

    workers->last = &workers->first;
    workers->count = threads;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->more, NULL);
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&workers->threads[i], NULL, worker_main, workers))
            abort();
        snprintf(text, sizeof(text), "%.9s-%u", name, i % 10000);
        pthread_setname_np(workers->threads[i], text);
    }
    return workers;
}

struct workers *workers_free(struct workers *workers)
{
    if (!workers)
        return NULL;
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->more);
    pthread_mutex_unlock(&workers->lock);
    for (unsigned i = 0; i < workers->count; i++)
        pthread_join(workers->threads[i], NULL);
    pthread_mutex_destroy(&workers->lock);
    pthread_cond_destroy(&workers->more);
    free(workers);
    return NULL;
}

void worker_run(struct workers *workers, int (*fn)(void *arg), void *arg, struct completion *done)
{
    struct job *job = xmalloc(sizeof(*job));
    bool full;

    *job = (struct job){fn, arg, done, NULL};
    pthread_mutex_lock(&workers->lock);
    full = workers->queued >= WORKER_QUEUE_MAX && done;
    if (!full) {
        *workers->last = job;
        workers->last = &job->next;
        workers->queued++;
        pthread_cond_signal(&workers->more);
    }
    pthread_mutex_unlock(&workers->lock);
    if (full) {
        free(job);
        completion_post(done, -EBUSY);
    }
}
