/* Goal: what an account sets for its service comes back byte for byte, survives a restart and a
 * power cut, is never half lost when two set it at once, and keeps fields of a newer version.
 * Method: rows as pure values, then the engine on simulated devices. */
#include "tests/unit/unit.h"

#include "cache/fields.h"
#include "cache/names.h"
#include "tests/support/cachebox.h"

static struct cachebox *box;

static struct service_record full(void)
{
    struct service_record r = service_record_default();

    r.default_version = SPAN("2019-12-12");
    r.logging.flags = ANALYTICS_READ | ANALYTICS_DELETE;
    r.logging.retention_days = 7;
    r.hour_metrics = (struct analytics){SPAN("2.0"), ANALYTICS_ENABLED, 365};
    r.cors[0] = (struct cors_rule){SPAN("*"), SPAN("GET"), SPAN("x-*"), SPAN(""), 3600};
    r.cors[1] = (struct cors_rule){SPAN("http://a"), SPAN("PUT"), SPAN(""), SPAN("ETag"), 0};
    r.cors_count = 2;
    r.delete_retention = (struct delete_retention){true, true, 9};
    r.website = (struct website){true, SPAN("index.html"), SPAN("404.html"), SPAN("")};
    return r;
}

static void assert_full(const struct service_record *r)
{
    assert_span_equal(r->default_version, "2019-12-12");
    assert_int_equal(r->logging.flags, ANALYTICS_READ | ANALYTICS_DELETE);
    assert_int_equal(r->logging.retention_days, 7);
    assert_span_equal(r->logging.version, "1.0");
    assert_span_equal(r->hour_metrics.version, "2.0");
    assert_int_equal(r->hour_metrics.retention_days, 365);
    assert_int_equal(r->minute_metrics.flags, 0);
    assert_int_equal(r->cors_count, 2);
    assert_span_equal(r->cors[0].allowed_headers, "x-*");
    assert_int_equal(r->cors[0].max_age_s, 3600);
    assert_span_equal(r->cors[1].exposed_headers, "ETag");
    assert_true(r->delete_retention.enabled && r->delete_retention.permanent_delete);
    assert_int_equal(r->delete_retention.days, 9);
    assert_true(r->website.enabled);
    assert_span_equal(r->website.error_document, "404.html");
}

static void test_row__comes_back_with_what_a_newer_version_added(void **state)
{
    _cleanup_(row_bytes_done) struct row_bytes value = {0}, again = {0};
    struct service_row row = {.record = full()}, got;

    service_row_encode(&value, &row);
    row_add(&value, "\xf0\x03new", 5);
    assert_int_equal(service_row_decode(row_span(&value), &got), 0);
    assert_full(&got.record);
    service_row_encode(&again, &got);
    assert_int_equal(again.used, value.used);
    assert_memory_equal(again.base, value.base, value.used);
}

static void test_row__damage_is_refused_not_read_beyond(void **state)
{
    _cleanup_(row_bytes_done) struct row_bytes value = {0};
    struct service_row row = {.record = full()}, got;

    service_row_encode(&value, &row);
    random_seed(3);
    for (unsigned i = 0; i < 20000; i++) {
        size_t len = random_u64() % (value.used + 1);
        _cleanup_(freep) char *copy = xmalloc(len); /* exact: ASan sees a read past it */

        memcpy(copy, value.base, len);
        for (unsigned k = 0; len && k < i % 4; k++)
            copy[random_u64() % len] ^= (char)random_u64();
        (void)!service_row_decode(span_from(copy, len), &got);
    }
}

/* ---- the engine ---- */

static const struct account *account(void)
{
    return account_by_id(box->cache->conf.accounts, BOX_LOCAL);
}

static int put(struct service *from, const struct service_record *record)
{
    cache_put_service(box->cache, account(), from, record, box_done(box));
    return box_wait(box);
}

static void test_engine__is_there_after_a_restart_and_after_a_cut(void **state)
{
    struct service_record record = full();
    struct service *service;
    struct cachebox *before;

    box = before = cachebox_new(1);
    assert_null(cache_service(box->cache, account()));
    assert_int_equal(put(NULL, &record), 0);
    box = cachebox_crash(before, 2);
    cachebox_free(before);
    service = cache_service(box->cache, account());
    assert_full(service_record(service));
    record = *service_record(service);
    record.delete_retention.days = 10;
    assert_int_equal(put(service, &record), 0);
    assert_int_equal(service_record(service)->delete_retention.days,
                     9); /* whoever reads it still */
    service_unref(service);
    cachebox_close(box);
    cachebox_open(box);
    service = cache_service(box->cache, account());
    assert_int_equal(service_record(service)->delete_retention.days, 10);
    assert_span_equal(service_record(service)->website.index_document, "index.html");
    service_unref(service);
    assert_int_equal(cachebox_check(box), 0);
    cachebox_free(box);
}

static void test_engine__a_change_made_of_what_is_gone_is_refused(void **state)
{
    struct service_record record = full();
    struct service *first, *second;

    box = cachebox_new(1);
    assert_int_equal(put(NULL, &record), 0);
    assert_int_equal(put(NULL, &record), -ESTALE);
    first = cache_service(box->cache, account());
    record.cors_count = 0;
    assert_int_equal(put(first, &record), 0);
    assert_int_equal(put(first, &record), -ESTALE);
    second = cache_service(box->cache, account());
    assert_int_equal(service_record(second)->cors_count, 0);
    assert_int_equal(put(second, &record), 0);
    service_unref(first);
    service_unref(second);
    cachebox_free(box);
}

static void test_engine__a_newer_versions_fields_stay_through_a_change(void **state)
{
    _cleanup_(row_bytes_done) struct row_bytes key = {0}, value = {0};
    struct service_row row = {.record = full(), .unknown = SPAN("\xf0\x03new")}, got;
    struct change *change = change_new();
    struct service *service;
    struct index_value found;

    box = cachebox_new(1);
    key_service(&key, BOX_LOCAL);
    service_row_encode(&value, &row);
    change_put(change, FAM_META, row_span(&key), row_span(&value));
    change->done = box_done(box);
    commit_submit(box->cache->committer, change);
    assert_int_equal(box_wait(box), 0);
    cachebox_close(box);
    cachebox_open(box);
    service = cache_service(box->cache, account());
    assert_int_equal(put(service, service_record(service)), 0);
    service_unref(service);
    assert_int_equal(index_get(box->cache->index, NULL, FAM_META, row_span(&key), &found), 0);
    assert_int_equal(service_row_decode(found.bytes, &got), 0);
    assert_span_equal(got.unknown, "\xf0\x03new");
    index_value_done(&found);
    cachebox_free(box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row__comes_back_with_what_a_newer_version_added),
        cmocka_unit_test(test_row__damage_is_refused_not_read_beyond),
        cmocka_unit_test(test_engine__is_there_after_a_restart_and_after_a_cut),
        cmocka_unit_test(test_engine__a_change_made_of_what_is_gone_is_refused),
        cmocka_unit_test(test_engine__a_newer_versions_fields_stay_through_a_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
