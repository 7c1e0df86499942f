#include "base/failpoint.h"

#ifdef HEARTH_FAILPOINTS

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static const char *wanted; /* "name:n"; NULL: none */
static size_t wanted_name_len;
static _Atomic long hits_left; /* the hit that takes it to 0 is the last */

static void read_environment(void)
{
    const char *text = getenv("HEARTH_FAILPOINT"), *colon = text ? strrchr(text, ':') : NULL;

    if (!colon)
        return;
    wanted_name_len = (size_t)(colon - text);
    atomic_store(&hits_left, strtol(colon + 1, NULL, 10));
    wanted = text;
}

void failpoint_hit(const char *name)
{
    pthread_once(&once, read_environment);
    if (!wanted || strlen(name) != wanted_name_len || memcmp(name, wanted, wanted_name_len) != 0 ||
        atomic_fetch_sub(&hits_left, 1) != 1)
        return;
    kill(getpid(), SIGKILL);
    for (;;) /* not one step further, however late the signal comes */
        pause();
}

#endif
