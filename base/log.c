#include "base/log.h"

#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/util.h"

#define METRICS_DEF "base/log.def"
#include "base/metrics_declare.h"
#include "base/metrics_define.h"

#define LINE_BYTES_MAX 2048 /* longer lines are cut */

enum log_level log_level_min = LOG_INFO;
_Atomic int log_wait_ms = 1000;
static void (*line_sink)(void *arg, const char *line);
static void *line_sink_arg;

struct line {
    char text[LINE_BYTES_MAX];
    size_t used;
};

static __attribute__((format(printf, 2, 3))) void line_add(struct line *line, const char *format,
                                                           ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(line->text + line->used, sizeof(line->text) - line->used, format, args);
    va_end(args);
    if (n > 0)
        line->used = MIN(line->used + (size_t)n, sizeof(line->text) - 2);
}

/* Quoted when it holds anything that would break key=value or the line. */
static void line_add_span(struct line *line, struct span s)
{
    bool plain = s.len > 0;

    for (size_t i = 0; plain && i < s.len; i++)
        plain = s.base[i] > ' ' && s.base[i] < 127 && s.base[i] != '"' && s.base[i] != '\\';
    if (plain) {
        line_add(line, "%.*s", SPAN_FMT(s));
        return;
    }
    line_add(line, "\"");
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.base[i];

        if (c < ' ' || c >= 127 || c == '"' || c == '\\')
            line_add(line, "\\x%02x", c);
        else
            line_add(line, "%c", c);
    }
    line_add(line, "\"");
}

static void line_add_kv(struct line *line, const struct log_kv *kv)
{
    char words[128];

    line_add(line, " %s=", kv->key);
    switch (kv->kind) {
    case LOG_KV_INT:
        line_add(line, "%lld", (long long)kv->i);
        break;
    case LOG_KV_UINT:
        line_add(line, "%llu", (unsigned long long)kv->u);
        break;
    case LOG_KV_ERR:
        line_add_span(line, span_of(strerror_r((int)-kv->i, words, sizeof(words))));
        break;
    default:
        line_add_span(line, kv->s);
    }
}

static void line_add_time(struct line *line)
{
    int64_t now = clock_wall_ns();
    time_t seconds = (time_t)(now / (int64_t)NS_PER_SEC);
    struct tm tm;
    char text[32];

    gmtime_r(&seconds, &tm);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    line_add(line, "%s.%03dZ", text, (int)(now / (int64_t)NS_PER_MS % 1000));
}

static void line_make(struct line *line, enum log_level level, const char *message,
                      const struct log_kv *kv)
{
    static const char *const words[] = {"debug", "info", "warning", "error"};

    line_add_time(line);
    line_add(line, " %s ", words[level]);
    line_add_span(line, span_of(message));
    for (; kv->kind != LOG_KV_END; kv++)
        line_add_kv(line, kv);
}

/* Standard error may be a pipe, socket or terminal that nobody reads. It is asked first, and not
 * made non-blocking, since others share it: where it takes anything, it takes a line. */
static bool line_put(struct line *line)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

    line->text[line->used++] = '\n';
    return poll(&out, 1, log_wait_ms) == 1 && write(STDERR_FILENO, line->text, line->used) > 0;
}

/* What was left out is said before the next line that finds room. */
static void line_write(struct line *line)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint64_t dropped;

    SCOPED_LOCK(&lock);
    if (dropped) {
        struct line notice = {.used = 0};

        line_make(&notice, LOG_WARN, "log messages dropped",
                  (const struct log_kv[]){KV_UINT("messages", dropped), {0}});
        if (line_put(&notice))
            dropped = 0;
    }
    if (dropped || !line_put(line)) {
        dropped++;
        STAT_INC(log_messages_dropped);
    }
}

void log_write(enum log_level level, const char *message, const struct log_kv *kv)
{
    struct line line = {.used = 0};

    line_make(&line, level, message, kv);
    if (line_sink)
        line_sink(line_sink_arg, line.text);
    else
        line_write(&line);
}

bool log_limit_pass(struct log_limit *limit)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    SCOPED_LOCK(&lock);
    uint64_t now = clock_mono_ns();

    if (limit->last_ns && now - limit->last_ns < NS_PER_SEC) {
        limit->suppressed++;
        return false;
    }
    limit->last_ns = now;
    limit->suppressed_before = limit->suppressed;
    limit->suppressed = 0;
    return true;
}

void log_set_sink(void (*sink)(void *arg, const char *line), void *arg)
{
    line_sink = sink;
    line_sink_arg = arg;
}
