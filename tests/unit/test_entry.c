/* Entries of a change: what goes in comes out, and malformed bytes are told from it. */
#include "tests/unit/unit.h"

#include "cache/commit.h"
#include "cache/entry.h"

static void test_entry__round_trip(void **state)
{
    struct change *change = change_new();
    char big[70000];
    struct entry entry;
    size_t cursor = 0;

    memset(big, 'v', sizeof(big));
    change_put(change, FAM_BLOBS, SPAN("key"), span_from(big, sizeof(big)));
    change_put(change, FAM_META, SPAN("empty"), (struct span){0});
    change_delete(change, FAM_UPLOADS, SPAN("gone"));
    change_delete_range(change, FAM_KNOWN, (struct span){0}, SPAN("z"));

    assert_true(change_next(change, &cursor, &entry));
    assert_int_equal(entry.family, FAM_BLOBS);
    assert_int_equal(entry.kind, ENTRY_PUT);
    assert_span_equal(entry.key, "key");
    assert_int_equal(entry.value.len, sizeof(big));
    assert_memory_equal(entry.value.base, big, sizeof(big));
    assert_true(change_next(change, &cursor, &entry));
    assert_span_equal(entry.key, "empty");
    assert_int_equal(entry.value.len, 0);
    assert_true(change_next(change, &cursor, &entry));
    assert_int_equal(entry.kind, ENTRY_DELETE);
    assert_span_equal(entry.key, "gone");
    assert_true(change_next(change, &cursor, &entry));
    assert_int_equal(entry.kind, ENTRY_DELETE_RANGE);
    assert_int_equal(entry.key.len, 0);
    assert_span_equal(entry.value, "z");
    assert_false(change_next(change, &cursor, &entry));
    assert_int_equal(cursor, change_bytes(change));
    change_free(change);
}

static int walk(const uint8_t *bytes, size_t len)
{
    struct entry entry;
    size_t cursor = 0;
    int found;

    while ((found = entry_next(span_from(bytes, len), &cursor, &entry)) == 1)
        ;
    return found;
}

static void test_entry__malformed_is_refused(void **state)
{
    /* family, kind, key bytes, value bytes */
    static const struct {
        uint8_t bytes[12];
        size_t len;
    } bad[] = {
        {{FAM_BLOBS, ENTRY_PUT, 1, 0, 0, 0, 0}, 7},                 /* short head */
        {{FAM_BLOBS, ENTRY_PUT, 2, 0, 0, 0, 0, 0, 'k'}, 9},         /* key past the end */
        {{FAM_BLOBS, ENTRY_PUT, 1, 0, 2, 0, 0, 0, 'k', 'v'}, 10},   /* value past the end */
        {{FAM_BLOBS, ENTRY_PUT, 1, 0, 255, 255, 255, 255, 'k'}, 9}, /* value past any end */
        {{FAM_COUNT, ENTRY_PUT, 1, 0, 0, 0, 0, 0, 'k'}, 9},         /* unknown family */
        {{FAM_BLOBS, 0, 1, 0, 0, 0, 0, 0, 'k'}, 9},                 /* unknown kind */
        {{FAM_BLOBS, 4, 1, 0, 0, 0, 0, 0, 'k'}, 9},
        {{FAM_BLOBS, ENTRY_PUT, 0, 0, 1, 0, 0, 0, 'v'}, 9},          /* the key `applied` has */
        {{FAM_BLOBS, ENTRY_DELETE, 1, 0, 1, 0, 0, 0, 'k', 'v'}, 10}, /* delete with a value */
        {{FAM_BLOBS, ENTRY_DELETE_RANGE, 1, 0, 0, 0, 0, 0, 'k'}, 9}, /* range without an end */
    };

    for (size_t i = 0; i < countof(bad); i++)
        assert_int_equal(walk(bad[i].bytes, bad[i].len), -EBADMSG);
    assert_int_equal(walk((const uint8_t[]){FAM_BLOBS, ENTRY_PUT, 1, 0, 0, 0, 0, 0, 'k'}, 9), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entry__round_trip),
        cmocka_unit_test(test_entry__malformed_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
