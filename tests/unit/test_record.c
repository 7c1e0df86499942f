/* Rows: what is encoded comes back, fields of a newer version survive, no bytes crash a decoder. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/clock.h"
#include "cache/record.h"

static const struct pair metadata[] = {{{"Epoch", 5}, {"12", 2}}, {{"empty", 5}, {NULL, 0}}};

static struct blob_row full_row(void)
{
    struct blob_row row = {
        .state = BLOB_LIVE,
        .record =
            {
                .type = BLOB_BLOCK,
                .length = 5000000000ULL,
                .etag = 0x1000000000000abcULL,
                .created_ns = 1700000000000000000,
                .modified_ns = 1700000000000000100,
                .content_type = SPAN("text/plain"),
                .content_encoding = SPAN("gzip"),
                .content_language = SPAN("en"),
                .content_disposition = SPAN("attachment"),
                .cache_control = SPAN("no-cache"),
                .content_md5 = SPAN("0123456789abcdef"),
                .content_crc64 = 0,
                .has_crc64 = true,
                .metadata = metadata,
                .metadata_count = 2,
                .committed_blocks = 7,
                .contract = 3,
                .durability = DURABILITY_CLOUD,
                .sole = true,
                .cloud_etag = SPAN("\"0x8D1\""),
                .cloud_modified_ns = 17,
                .checked_ns = 18,
                .lease = {.kind = LEASE_KIND_BREAKING,
                          .id = {1, 2, 3, [15] = 16},
                          .period_ns = LEASE_INFINITE,
                          .serial = 77},
                .sealed = true,
            },
        .manifest = 99,
        .located = true,
        .object = {1, 2, 3},
        .extent = {.at = {1, 2, 3, 4}, .length = 5, .crc = {6}, .present = 1},
        .object_state = OBJECT_DIRTY,
        .confirmed = true,
    };

    return row;
}

static void assert_span(struct span a, struct span b)
{
    assert_true(span_eq(a, b));
}

static void test_blob_row__comes_back_whole(void **state)
{
    _cleanup_(row_bytes_done) struct row_bytes value = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row row = full_row(), back;

    blob_row_encode(&value, &row);
    assert_int_equal(blob_row_decode(row_span(&value), &back, &space), 0);
    assert_int_equal(back.state, BLOB_LIVE);
    assert_int_equal(back.record.length, row.record.length);
    assert_int_equal(back.record.etag, row.record.etag);
    assert_int_equal(back.record.modified_ns, row.record.modified_ns);
    assert_span(back.record.content_md5, row.record.content_md5);
    assert_span(back.record.cloud_etag, row.record.cloud_etag);
    assert_true(back.record.has_crc64 && back.record.sole && back.located && back.confirmed);
    assert_true(back.record.sealed);
    assert_int_equal(back.record.metadata_count, 2);
    assert_span(back.record.metadata[0].name, SPAN("Epoch"));
    assert_int_equal(back.record.metadata[1].value.len, 0);
    assert_int_equal(back.manifest, 99);
    assert_int_equal(back.object.counter, 3);
    assert_int_equal(back.extent.at.generation, 3);
    assert_int_equal(back.extent.crc[0], 6);
    assert_int_equal(back.object_state, OBJECT_DIRTY);
    assert_int_equal(back.record.lease.kind, LEASE_KIND_BREAKING);
    assert_memory_equal(back.record.lease.id, row.record.lease.id, 16);
    assert_int_equal(back.record.lease.period_ns, LEASE_INFINITE);
    assert_int_equal(back.record.lease.serial, 77);
}

static void test_blob_row__unknown_fields_survive_a_rewrite(void **state)
{
    _cleanup_(row_bytes_done) struct row_bytes value = {0}, again = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row row = full_row(), back;

    blob_row_encode(&value, &row);
    row_add(&value, "\xf0\x03new", 5);
    assert_int_equal(blob_row_decode(row_span(&value), &back, &space), 0);
    assert_int_equal(back.unknown.len, 5);
    blob_row_encode(&again, &back);
    assert_span(row_span(&again), row_span(&value));
}

static void test_decoders__take_any_bytes(void **state)
{
    _cleanup_(row_bytes_done) struct row_bytes value = {0}, upload = {0}, manifest = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct blob_row row = full_row();
    struct upload_row entry = {.kind = UPLOAD_CONTENT, .blob = SPAN("a"), .held = SPAN("why")};
    struct manifest_piece piece = {.object = {1, 1, 1}, .length = 9, .block = SPAN("id")};
    struct access_policy policy = {SPAN("a"), SPAN("2026"), SPAN("2030"), SPAN("rl")};
    struct container_row with_policy = {.record = {.policies = &policy, .policy_count = 1}};
    _cleanup_(row_bytes_done) struct row_bytes acl = {0};

    container_row_encode(&acl, &with_policy);
    blob_row_encode(&value, &row);
    upload_row_encode(&upload, &entry);
    manifest_row_begin(&manifest);
    manifest_row_add(&manifest, &piece);
    random_seed(7);
    for (unsigned i = 0; i < 20000; i++) {
        struct row_bytes *all[] = {&value, &upload, &manifest, &acl}, *from = all[i % 4];
        size_t len = random_u64() % (from->used + 1), cursor = 0;
        _cleanup_(freep) char *copy = xmalloc(len); /* exact: ASan sees a read past it */
        struct container_row container;
        struct known_row known;
        struct staged_row staged;
        uint64_t n;
        struct span name, id;

        memcpy(copy, from->base, len);
        for (unsigned k = 0; len && k < i % 5; k++)
            copy[random_u64() % len] ^= (char)random_u64();
        (void)!blob_row_decode(span_from(copy, len), &row, &space);
        (void)!upload_row_decode(span_from(copy, len), &entry);
        (void)!container_row_decode(span_from(copy, len), &container, &space);
        (void)!known_row_decode(span_from(copy, len), &known);
        (void)!staged_row_decode(span_from(copy, len), &staged);
        (void)!key_staged_decode(span_from(copy, len), &n, &name, &n, &id);
        while (manifest_row_next(span_from(copy, len), &cursor, &piece) > 0)
            ;
    }
}

static void test_rows__come_back(void **state)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    _cleanup_(row_space_done) struct row_space space = {0};
    struct staged_row staged = {.object = {1, 2, 3}, .length = 8, .user = 5, .staged_ns = 6};
    static const struct access_policy policies[] = {
        {SPAN("a"), SPAN("2026-01-01"), SPAN(""), SPAN("rl")},
        {SPAN("b"), SPAN(""), SPAN("2030-01-01"), SPAN("")}};
    struct container_row container = {.tombstone = true,
                                      .record = {.id = 4,
                                                 .metadata = metadata,
                                                 .metadata_count = 2,
                                                 .public_access = SPAN("blob"),
                                                 .policies = policies,
                                                 .policy_count = countof(policies),
                                                 .in_cloud = true}};
    struct upload_row upload = {.kind = UPLOAD_DELETE,
                                .account = 1,
                                .contract = 2,
                                .container = 3,
                                .container_name = SPAN("c"),
                                .blob = SPAN("b"),
                                .etag = 9,
                                .batch = 4,
                                .base = ROW_BASE_ETAG,
                                .base_etag = SPAN("\"e\""),
                                .queued_ns = 5};
    struct known_row known = {.to = SPAN("m"), .as_of_ns = 77};
    uint64_t n, generation;
    struct span name, id, prefix, delimiter, from;
    enum known_kind kind;

    key_staged(&key, 1, SPAN("a/b"), 2, 3, SPAN("id\0x"));
    assert_int_equal(key_staged_decode(row_span(&key), &n, &name, &generation, &id), 0);
    assert_span(name, SPAN("a/b"));
    assert_span(id, SPAN("id\0x"));
    assert_int_equal(generation, 2);
    staged_row_encode(&value, &staged);
    assert_int_equal(staged_row_decode(row_span(&value), &staged), 0);
    assert_int_equal(staged.user, 5);
    assert_int_equal(staged.object.counter, 3);
    container_row_encode(&value, &container);
    assert_int_equal(container_row_decode(row_span(&value), &container, &space), 0);
    assert_true(container.tombstone && container.record.in_cloud);
    assert_int_equal(container.record.id, 4);
    assert_int_equal(container.record.policy_count, 2);
    assert_span(container.record.policies[0].permission, SPAN("rl"));
    assert_span(container.record.policies[1].id, SPAN("b"));
    assert_span(container.record.policies[1].expiry, SPAN("2030-01-01"));
    upload_row_encode(&value, &upload);
    assert_int_equal(upload_row_decode(row_span(&value), &upload), 0);
    assert_span(upload.base_etag, SPAN("\"e\""));
    assert_int_equal(upload.batch, 4);
    key_known(&key, KNOWN_RANGE, 8, SPAN("p/"), SPAN("/"), SPAN("p/x"));
    assert_int_equal(key_known_decode(row_span(&key), &kind, &n, &prefix, &delimiter, &from), 0);
    assert_int_equal(kind, KNOWN_RANGE);
    assert_span(from, SPAN("p/x"));
    known_row_encode(&value, &known);
    assert_int_equal(known_row_decode(row_span(&value), &known), 0);
    assert_true(!known.to_end && span_eq(known.to, SPAN("m")));
}

static void test_keys__order_is_the_order_of_lists(void **state)
{
    static const char *const names[] = {"a", "a/b", "a0", "b"};
    _cleanup_(row_bytes_done) struct row_bytes last = {0}, key = {0};

    key_blob(&last, 1, SPAN(""));
    for (unsigned i = 0; i < countof(names); i++) {
        key_blob(&key, 1, span_of(names[i]));
        assert_true(span_cmp(row_span(&last), row_span(&key)) < 0);
        key_blob(&last, 1, span_of(names[i]));
    }
    key_blob(&key, 2, SPAN(""));
    assert_true(span_cmp(row_span(&last), row_span(&key)) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blob_row__comes_back_whole),
        cmocka_unit_test(test_blob_row__unknown_fields_survive_a_rewrite),
        cmocka_unit_test(test_rows__come_back),
        cmocka_unit_test(test_keys__order_is_the_order_of_lists),
        cmocka_unit_test(test_decoders__take_any_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
