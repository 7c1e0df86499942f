/* tests/unit/committer_fixture.h - a committer over one simulated device or two, for test_commit.c
 * and test_fence.c. */
#ifndef TESTS_COMMITTER_FIXTURE_H
#define TESTS_COMMITTER_FIXTURE_H

#include "tests/unit/unit.h"

#include "base/log.h"
#include "tests/support/logbox.h"

static inline void quiet(void *arg, const char *line)
{
}

static inline int setup(void **state)
{
    struct logbox *box = logbox_new(1, 1);

    log_set_sink(quiet, NULL);
    logbox_open_ok(box);
    *state = box;
    return 0;
}

static inline int setup_two(void **state)
{
    struct logbox *box = logbox_new(2, 1);

    log_set_sink(quiet, NULL);
    logbox_open_ok(box);
    *state = box;
    return 0;
}

static inline int teardown(void **state)
{
    logbox_free(*state);
    return 0;
}

static inline void expect(struct logbox *box, const char *key, const char *value)
{
    _cleanup_(freep) char *got = logbox_get(box, key);

    if (!value)
        assert_null(got);
    else if (!got)
        fail_msg("%s is absent", key);
    else
        assert_string_equal(got, value);
}

/* One device block of a slab: 0 header page, 1 head, 2 cut record, then a block per lonely change.
 */
static inline void corrupt_block(struct logbox *box, const char *device, unsigned slab,
                                 unsigned block)
{
    io_sim_corrupt(box->sim, device, (2u << 20) + slab * (65ull << 20) + block * 4096 + 70, 1);
}

static inline void expect_refused(struct logbox *box, const char *words)
{
    char *why = NULL;

    assert_int_not_equal(logbox_open(box, &why), 0);
    if (!strstr(why, words))
        fail_msg("refused with other words: %s", why);
    free(why);
}

#endif
