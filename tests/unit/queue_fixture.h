/* tests/unit/queue_fixture.h - a box with its write-back queue, and the test as its upstream:
 * entries are taken in words, held in flight, and ended. */
#ifndef TESTS_UNIT_QUEUE_FIXTURE_H
#define TESTS_UNIT_QUEUE_FIXTURE_H

#include "tests/support/cachebox.h"
#include "tests/unit/unit.h"

static struct cachebox *box;
static struct upload *out[16]; /* given out, in the order they were */
static unsigned out_count;

static void queue_wake(void *arg)
{
}

static inline void queue_open(struct cachebox *opened) /* takes it */
{
    box = opened;
    cache_uploads_watch(box->cache, queue_wake, NULL);
    out_count = 0;
}

/* What is out goes back before the close. */
static inline void queue_close(void)
{
    struct upload_result result = {.end = UPLOAD_RETRY};

    while (out_count) {
        cache_upload_end(box->cache, out[--out_count], &result, box_done(box));
        (void)box_wait(box);
    }
    assert_int_equal(cachebox_check(box), 0);
    box = cachebox_free(box);
}

static inline const char *queue_kind(const struct upload *upload)
{
    return upload->kind == UPLOAD_CONTENT            ? ""
           : upload->kind == UPLOAD_DELETE           ? "-"
           : upload->kind == UPLOAD_CONTAINER_CREATE ? "+/"
           : upload->kind == UPLOAD_CONTAINER_DELETE ? "-/"
           : upload->kind == UPLOAD_METADATA         ? "m:"
           : upload->kind == UPLOAD_TAGS             ? "t:"
                                                     : "p:";
}

/* What may go now, as words kind:name, with bases where asked for; all of it is flying afterwards.
 */
static inline const char *queue_take(bool with_bases)
{
    static const char *const bases[] = {"", "!", "="};
    static char text[2048];
    struct upload *upload;
    uint64_t retry_ns;

    text[0] = 0;
    while (cache_upload_next(box->cache, BOX_CLOUD, &upload, &retry_ns) == 0) {
        struct span name = upload->name.blob.len ? upload->name.blob : upload->container;
        struct span etag = with_bases ? upload->base_etag : SPAN("");
        size_t at = strlen(text);

        snprintf(text + at, sizeof(text) - at, "%s%.*s%s%.*s ", queue_kind(upload), SPAN_FMT(name),
                 with_bases ? bases[upload->base] : "", SPAN_FMT(etag));
        assert_true(out_count < countof(out));
        out[out_count++] = upload;
    }
    return text;
}

static inline void queue_end_first(enum upload_end end, const char *etag)
{
    struct upload_result result = {.end = end,
                                   .cloud_etag = span_of(etag),
                                   .cloud_modified_ns = 1,
                                   .retry_after_ns = 0,
                                   .reason = SPAN("403 no")};

    assert_true(out_count > 0);
    cache_upload_end(box->cache, out[0], &result, box_done(box));
    assert_int_equal(box_wait(box), 0);
    memmove(out, out + 1, --out_count * sizeof(out[0]));
}

static inline void confirm_all(void)
{
    while (out_count)
        queue_end_first(UPLOAD_CONFIRMED, "\"e\"");
}

static inline void put(uint64_t id, const char *container, const char *blob, const char *text)
{
    assert_int_equal(box_put(box, BOX_CLOUD, container, id, blob, text, NULL), 0);
}

#endif
