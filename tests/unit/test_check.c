/* `hearth check` on simulated devices: it answers on whatever a stop or a kill left, and what it
 * looked at is as it was before. */
#include "tests/unit/unit.h"

#include "base/log.h"
#include "tests/support/cachebox.h"

static void quiet(void *arg, const char *line)
{
}

static int setup(void **state)
{
    struct cachebox *box = cachebox_new(1);

    log_set_sink(quiet, NULL);
    *state = box;
    return 0;
}

static int teardown(void **state)
{
    cachebox_free(*state);
    return 0;
}

/* The last changes are not known to be flushed: the check asks for their bytes as a start does. */
static void test_check__a_killed_box_is_clean(void **state)
{
    struct cachebox *box = *state;
    static char large[200000];
    uint64_t id = box_container(box, BOX_LOCAL, "c");
    char name[16];

    memset(large, 'l', sizeof(large) - 1);
    for (unsigned i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "blob%u", i);
        assert_int_equal(box_put(box, BOX_LOCAL, "c", id, name, i % 2 ? "small" : large, NULL), 0);
        assert_int_equal(cachebox_check_crashed(box, i), 0);
    }
    assert_int_equal(cachebox_check(box), 0);
}

static void test_check__a_wrong_configuration_is_refused_not_formatted(void **state)
{
    struct cachebox *box = *state;
    uint64_t id = box_container(box, BOX_LOCAL, "c");

    assert_int_equal(box_put(box, BOX_LOCAL, "c", id, "blob", "text", NULL), 0);
    assert_int_equal(cachebox_check_elsewhere(box), -ENOENT);
    assert_int_equal(box_expect(box, id, "blob", "text"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_check__a_killed_box_is_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(test_check__a_wrong_configuration_is_refused_not_formatted,
                                        setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
