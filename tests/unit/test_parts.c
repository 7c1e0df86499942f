/* Changes in several parts: the last one may count on the others only if all were ordered and none
 * has failed. The test plays the committer. */
#include "tests/unit/unit.h"

#include "cache/parts.h"

static struct change *part(struct parts *parts)
{
    struct change *change = change_new();

    parts_add(parts, change);
    return change;
}

static void end(struct change *change, int err)
{
    change_end(change, 1, err);
    change_free(change);
}

static void test_parts__are_whole_when_all_were_ordered(void **state)
{
    struct parts *parts = parts_new();
    struct change *first = part(parts), *second = part(parts);

    assert_int_equal(change_order(first), 0);
    assert_false(parts_whole(parts));
    assert_int_equal(change_order(second), 0);
    assert_true(parts_whole(parts)); /* durable or not: what fails the one fails what comes later */
    end(first, 0);
    end(second, 0);
    assert_true(parts_whole(parts));
    parts_unref(parts);
}

static void test_parts__are_not_when_one_was_refused(void **state)
{
    struct parts *parts = parts_new();
    struct change *first = part(parts), *second = part(parts);

    assert_int_equal(change_order(second), 0); /* the first: no room in the log, never ordered */
    assert_false(parts_whole(parts));
    end(first, -ENOSPC);
    end(second, 0);
    assert_false(parts_whole(parts));
    parts_unref(parts);
}

static void test_parts__are_not_when_one_was_voided(void **state)
{
    struct parts *parts = parts_new();
    struct change *first = part(parts), *second;

    assert_int_equal(change_order(first), 0);
    end(first, -EIO); /* its round failed; the builder goes on */
    second = part(parts);
    assert_int_equal(change_order(second), 0);
    assert_false(parts_whole(parts));
    parts_unref(parts); /* the part holds its own */
    end(second, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts__are_whole_when_all_were_ordered),
        cmocka_unit_test(test_parts__are_not_when_one_was_refused),
        cmocka_unit_test(test_parts__are_not_when_one_was_voided),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
