/* Goal: every entry ends confirmed, back in the queue, or held, and what the cloud holds then is
 * the version; lost answers are proved, blocks are never sent twice for nothing. The cloud is a
 * blob of a few fields. */
#include "tests/unit/upstream_run.h"

#define LARGE_BYTES (1000u << 10) /* four blocks of 256 KiB, the last one short */

struct mini { /* one blob, guarded by the fake cloud's lock */
    bool there;
    unsigned version;
    size_t length;
    char md5[32], type[64], meta[64];
    char committed[16][80], staged[16][80];
    size_t staged_bytes[16], committed_bytes[16];
    unsigned committed_count, staged_count;
    bool conditions_first; /* If-Match of a blob that is not there is 412, not 404 */
    /* script */
    const char *fail_method, *fail_target; /* the next such request fails */
    int fail_status;                       /* 0: executed, but the answer is lost */
    const char *fail_headers;
    const char *fail_with; /* only those that carry this header */
    unsigned fail_count;
};

static void copy(char *into, size_t room, struct span s)
{
    snprintf(into, room, "%.*s", SPAN_FMT(s));
}

static void take_headers(struct mini *m, const struct fake_request *r)
{
    if (!strstr(r->target, "comp=metadata"))
        copy(m->type, sizeof(m->type), fake_header(r, "x-ms-blob-content-type"));
    if (!strstr(r->target, "comp=properties"))
        copy(m->meta, sizeof(m->meta), fake_header(r, "x-ms-meta-k"));
    m->there = true;
    m->version++;
}

static bool put_blob(struct mini *m, const struct fake_request *r)
{
    struct span want = fake_header(r, "x-ms-blob-content-md5");
    struct md5 *md5 = md5_new();
    unsigned char sum[MD5_BYTES];

    md5_add(md5, span_from(r->body, r->body_len));
    md5_end(md5, sum);
    md5_free(md5);
    m->md5[base64_encode(span_from(sum, sizeof(sum)), m->md5)] = 0;
    if (want.len && !span_eq(want, span_of(m->md5)))
        return false;
    m->length = r->body_len;
    m->committed_count = m->staged_count = 0;
    take_headers(m, r);
    return true;
}

static void put_block(struct mini *m, const struct fake_request *r)
{
    struct span id = span_of(strstr(r->target, "blockid=") + 8);
    char plain[128];
    size_t n = 0;

    assert_int_equal(percent_decode(id, plain, &n), 0);
    assert_int_equal(n, BASE64_BYTES(44));
    copy(m->staged[m->staged_count], 80, span_from(plain, n));
    m->staged_bytes[m->staged_count++] = r->body_len;
}

static bool commit(struct mini *m, const struct fake_request *r)
{
    const char *at = r->body;

    r->body[r->body_len] = 0;
    m->committed_count = 0;
    m->length = 0;
    while ((at = strstr(at, "<Latest>"))) {
        struct span rest, id = span_cut(span_of(at + 8), '<', &rest);
        unsigned i = 0;

        while (i < m->staged_count && !span_eq(span_of(m->staged[i]), id))
            i++;
        if (i == m->staged_count)
            return false;
        copy(m->committed[m->committed_count], 80, id);
        m->committed_bytes[m->committed_count++] = m->staged_bytes[i];
        m->length += m->staged_bytes[i];
        at += 8;
    }
    m->staged_count = 0;
    copy(m->md5, sizeof(m->md5), fake_header(r, "x-ms-blob-content-md5"));
    take_headers(m, r);
    return true;
}

static char *print_list(char *at, const char *name, char ids[16][80], const size_t *bytes,
                        unsigned n)
{
    at += sprintf(at, "<%s>", name);
    for (unsigned i = 0; i < n; i++)
        at += sprintf(at, "<Block><Name>%s</Name><Size>%zu</Size></Block>", ids[i], bytes[i]);
    return at + sprintf(at, "</%s>", name);
}

static void get_list(struct mini *m, const struct fake_request *r, struct fake_answer *ret)
{
    bool committed = strstr(r->target, "=committed") != NULL, all = strstr(r->target, "=all");
    char *xml = xmalloc(8192), *at = xml;

    if (!m->there && !m->staged_count) {
        ret->status = 404;
        strcpy(ret->headers, "x-ms-error-code: BlobNotFound\r\n");
        free(xml);
        return;
    }
    at += sprintf(at, "<BlockList>");
    if (committed || all)
        at =
            print_list(at, "CommittedBlocks", m->committed, m->committed_bytes, m->committed_count);
    if (!committed)
        at = print_list(at, "UncommittedBlocks", m->staged, m->staged_bytes, m->staged_count);
    at += sprintf(at, "</BlockList>");
    ret->status = 200;
    ret->body = xml;
    ret->body_len = (size_t)(at - xml);
    ret->free_body = true;
    snprintf(ret->headers, sizeof(ret->headers), "ETag: \"v%u\"\r\n", m->version);
}

static void head(struct mini *m, struct fake_answer *ret)
{
    ret->no_body = true;
    ret->status = m->there ? 200 : 404;
    ret->body_len = m->length;
    if (!m->there) {
        strcpy(ret->headers, "x-ms-error-code: BlobNotFound\r\n");
        return;
    }
    snprintf(ret->headers, sizeof(ret->headers),
             "ETag: \"v%u\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: %s\r\n"
             "x-ms-blob-type: BlockBlob\r\nContent-MD5: %s\r\nx-ms-meta-k: %s\r\n",
             m->version, m->type, m->md5, m->meta);
}

/* Fails the condition? Fills in the answer. */
static bool refused(struct mini *m, const struct fake_request *r, struct fake_answer *ret)
{
    struct span match = fake_header(r, "if-match");
    char etag[32];

    snprintf(etag, sizeof(etag), "\"v%u\"", m->version);
    if (m->there && span_eq(fake_header(r, "if-none-match"), SPAN("*"))) {
        ret->status = 409;
        strcpy(ret->headers, "x-ms-error-code: BlobAlreadyExists\r\n");
        return true;
    }
    if (match.len && (!m->there || !span_eq(match, span_of(etag)))) {
        ret->status = 412;
        strcpy(ret->headers, "x-ms-error-code: ConditionNotMet\r\n");
        return true;
    }
    return false;
}

static void change(struct mini *m, const struct fake_request *r, struct fake_answer *ret)
{
    ret->status = 201;
    if (strstr(r->target, "comp=tags")) {
        ret->status = 204; /* and no ETag */
        return;
    }
    if (strstr(r->target, "comp=block&"))
        put_block(m, r);
    else if (refused(m, r, ret))
        return;
    else if (strstr(r->target, "comp=blocklist")) {
        if (!commit(m, r)) {
            ret->status = 400;
            strcpy(ret->headers, "x-ms-error-code: InvalidBlockList\r\n");
            return;
        }
    } else if (strstr(r->target, "comp="))
        take_headers(m, r);
    else if (!strstr(r->target, "restype=") && !put_blob(m, r)) {
        ret->status = 400;
        strcpy(ret->headers, "x-ms-error-code: Md5Mismatch\r\n");
        return;
    }
    snprintf(ret->headers, sizeof(ret->headers),
             "ETag: \"v%u\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", m->version);
}

static void answer(struct mini *m, const struct fake_request *r, struct fake_answer *ret)
{
    if (strcmp(r->method, "HEAD") == 0 && m->there && refused(m, r, ret))
        ret->no_body = true;
    else if (strcmp(r->method, "HEAD") == 0)
        head(m, ret);
    else if (strcmp(r->method, "GET") == 0)
        get_list(m, r, ret);
    else if (strcmp(r->method, "PUT") == 0)
        change(m, r, ret);
    else if (!m->there && !m->conditions_first) {
        ret->status = 404;
        strcpy(ret->headers, "x-ms-error-code: BlobNotFound\r\n");
    } else if (!refused(m, r, ret)) {
        m->there = false;
        ret->status = 202;
    }
}

static void serve(void *arg, const struct fake_request *r, struct fake_answer *ret)
{
    struct mini *m = arg;
    bool fails = m->fail_count && strcmp(r->method, m->fail_method) == 0 &&
                 strstr(r->target, m->fail_target) &&
                 (!m->fail_with || fake_header(r, m->fail_with).base);

    m->fail_count -= fails;
    if (!fails || !m->fail_status)
        answer(m, r, ret);
    if (fails) {
        ret->status = m->fail_status;
        ret->body_len = 0;
        snprintf(ret->headers, sizeof(ret->headers), "%s", m->fail_headers ? m->fail_headers : "");
    }
}

/* ---- entries ---- */

static struct contract contract;
static struct object objects[4] = {{1}, {2}, {3}, {4}};

static struct blob *version_of(size_t bytes, unsigned seed)
{
    static const struct pair metadata[] = {{SPAN("k"), SPAN("value")}};
    const struct name name = {.container = 7, .blob = SPAN("dir/b")};
    const struct blob_record record = {.type = BLOB_BLOCK,
                                       .length = bytes,
                                       .content_type = SPAN("text/x"),
                                       .metadata = metadata,
                                       .metadata_count = 1};
    struct blob *blob = fake_blob_new(&name, &record);

    for (size_t i = 0; i < bytes; i++)
        blob->content[i] = (char)(i * 13 + seed + (i >> 9));
    blob->piece_count = 4;
    for (unsigned i = 0; i < 4; i++)
        blob->pieces[i] = (struct piece){&objects[i], 0, (bytes + 3) / 4};
    return blob;
}

static struct upload *entry(enum upload_kind kind, struct blob *blob, int base, const char *etag)
{
    static uint64_t seq;
    struct upload *u = xcalloc(1, sizeof(*u));

    *u = (struct upload){.seq = ++seq,
                         .kind = kind,
                         .account = 1,
                         .contract = &contract,
                         .container = SPAN("ctr"),
                         .name = {.container = 7, .blob = SPAN("dir/b")},
                         .blob = blob,
                         .base = base,
                         .base_etag = span_of(etag)};
    return u;
}

static void run_one(struct run *run, struct upload *upload)
{
    unsigned before = run->cache->outcomes;

    fake_queue(run->cache, upload);
    RUN_UNTIL(run->cache->outcomes == before + 1);
}

#define LAST(run) ((run)->cache->outcome[(run)->cache->outcomes - 1])

static void test_upload__small_content_is_one_put_with_all_it_has(void **state)
{
    struct mini mini = {0};
    struct blob *blob = version_of(1000, 1);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ABSENT, "");
    const struct fake_request *put;
    uint64_t crc = htole64(crc64(0, blob->content, 1000));
    char text[BASE64_BYTES(8) + 1];
    struct run run;

    run_open(&run, serve, &mini);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_string_equal(LAST(&run).etag, "\"v1\"");
    put = fake_cloud_request(run.cloud, "PUT", "/acct/ctr/dir/b", 0);
    assert_memory_equal(put->body, blob->content, 1000);
    assert_span_equal(fake_header(put, "if-none-match"), "*");
    assert_span_equal(fake_header(put, "x-ms-blob-type"), "BlockBlob");
    assert_span_equal(fake_header(put, "x-ms-blob-content-type"), "text/x");
    assert_span_equal(fake_header(put, "x-ms-meta-k"), "value");
    text[base64_encode(span_from(&crc, 8), text)] = 0;
    assert_span_equal(fake_header(put, "x-ms-content-crc64"), text);
    blob_unref(blob);
    free(u);
    run_close(&run);
}

static void test_upload__any_md5_a_block_list_was_given_is_kept(void **state)
{
    struct mini mini = {0};
    struct blob *blob = version_of(1000, 11);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ABSENT, "");
    struct run run;

    free((char *)blob->record.content_md5.base);
    blob->record.content_md5 =
        span_from(strdup("sixteen bytes...."), MD5_BYTES); /* not of the bytes */
    run_open(&run, serve, &mini);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_int_equal(mini.committed_count, 1);
    assert_int_equal(mini.length, 1000);
    assert_string_equal(mini.md5, "c2l4dGVlbiBieXRlcy4uLg==");
    blob_unref(blob);
    free(u);
    run_close(&run);
}

static void test_upload__large_content_is_blocks_and_a_commit(void **state)
{
    struct mini mini = {0};
    struct blob *blob = version_of(LARGE_BYTES, 2);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ETAG, "\"v5\"");
    struct run run;

    mini.there = true;
    mini.version = 5;
    run_open(&run, serve, &mini);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_string_equal(LAST(&run).etag, "\"v6\"");
    assert_int_equal(mini.length, LARGE_BYTES);
    assert_int_equal(mini.committed_count, 4);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", "comp=block&"), 4);
    assert_string_equal(mini.meta, "value");
    blob_unref(blob);
    free(u);
    run_close(&run);
}

static void test_upload__goes_on_with_the_blocks_the_cloud_lists(void **state)
{
    struct mini mini = {.fail_method = "PUT",
                        .fail_target = "comp=blocklist",
                        .fail_status = 503,
                        .fail_headers = "Retry-After: 7\r\n",
                        .fail_count = 1};
    struct blob *blob = version_of(LARGE_BYTES, 3);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ANY, "");
    struct run run;

    run_open(&run, serve, &mini);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_RETRY);
    assert_true(LAST(&run).retry_after_ns == 7 * NS_PER_SEC);
    assert_int_equal(mini.staged_count, 4);
    mini.staged_count = 3; /* the service has dropped one */
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", "comp=block&"), 5);
    assert_int_equal(mini.length, LARGE_BYTES);
    blob_unref(blob);
    free(u);
    run_close(&run);
}

/* Buffers are few and all accounts share them: the queue waits, not a block that has one. */
static void test_upload__a_long_retry_after_of_a_block_is_waited_out_in_the_queue(void **state)
{
    struct mini mini = {.fail_method = "PUT",
                        .fail_target = "comp=block&",
                        .fail_status = 503,
                        .fail_headers = "Retry-After: 60\r\n",
                        .fail_count = 1};
    struct blob *blob = version_of(LARGE_BYTES, 14);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ANY, "");
    struct run run;

    run_open(&run, serve, &mini);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_RETRY);
    assert_true(LAST(&run).retry_after_ns == 60 * NS_PER_SEC);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    blob_unref(blob);
    free(u);
    run_close(&run);
}

/* The next one goes without the checksum, so a cloud that refuses it for ever is not asked for
 * ever. */
static void test_upload__a_refused_checksum_of_a_block_is_left_out(void **state)
{
    struct mini mini = {.fail_method = "PUT",
                        .fail_target = "comp=block&",
                        .fail_status = 400,
                        .fail_headers = "x-ms-error-code: BothCrc64AndMd5HeaderPresent\r\n",
                        .fail_with = "x-ms-content-crc64",
                        .fail_count = 100};
    struct blob *blob = version_of(LARGE_BYTES, 16);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ANY, "");
    struct run run;

    run_open(&run, serve, &mini);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_int_equal(mini.committed_count, 4);
    assert_in_range(mini.fail_count, 96, 99); /* those that were on their way */
    blob_unref(blob);
    free(u);
    run_close(&run);
}

static void test_upload__foreign_blocks_of_the_same_place_are_not_ours(void **state)
{
    struct mini mini = {0};
    struct blob *old = version_of(LARGE_BYTES, 4), *new = version_of(LARGE_BYTES, 5);
    struct upload *a = entry(UPLOAD_CONTENT, old, BASE_ANY, "");
    struct upload *b = entry(UPLOAD_CONTENT, new, BASE_ANY, "");
    struct run run;

    mini.fail_method = "PUT", mini.fail_target = "comp=blocklist";
    mini.fail_status = 503, mini.fail_count = 1;
    run_open(&run, serve, &mini);
    run_one(&run, a); /* four blocks of the old bytes lie there */
    run_one(&run, b);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", "comp=block&"), 8);
    blob_unref(old);
    blob_unref(new);
    free(a);
    free(b);
    run_close(&run);
}

static void test_upload__a_lost_answer_is_proved(void **state)
{
    static const size_t sizes[] = {1000, LARGE_BYTES};

    for (unsigned i = 0; i < countof(sizes); i++) {
        struct mini mini = {.fail_method = "PUT",
                            .fail_target = sizes[i] == 1000 ? "/b" : "comp=blocklist",
                            .fail_count = 1};
        struct blob *blob = version_of(sizes[i], 6);
        struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ABSENT, "");
        struct run run;

        run_open(&run, serve, &mini);
        run_one(&run, u); /* executed, but nobody said so */
        assert_int_equal(mini.version, 1);
        if (LAST(&run).end == UPLOAD_RETRY) /* on a kept connection curl itself has sent it again */
            run_one(&run, u);
        assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
        assert_string_equal(LAST(&run).etag, "\"v1\"");
        assert_int_equal(mini.version, 1); /* not written again */
        blob_unref(blob);
        free(u);
        run_close(&run);
    }
}

/* Azurite answers 412 where the service answers 404. A foreign blob in the place is a conflict. */
static void test_upload__a_lost_answer_to_a_delete_is_proved(void **state)
{
    struct mini mini = {.conditions_first = true};
    struct upload *done = entry(UPLOAD_DELETE, NULL, BASE_ETAG, "\"v1\"");
    struct upload *foreign = entry(UPLOAD_DELETE, NULL, BASE_ETAG, "\"v1\"");
    struct run run;

    run_open(&run, serve, &mini);
    run_one(&run, done);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    run_close(&run);
    mini = (struct mini){.there = true, .version = 4};
    run_open(&run, serve, &mini);
    run_one(&run, foreign);
    assert_int_equal(LAST(&run).end, UPLOAD_HELD);
    assert_non_null(strstr(LAST(&run).reason, "\"v4\""));
    assert_true(mini.there);
    free(done);
    free(foreign);
    run_close(&run);
}

/* A commit without a condition would be executed again, after all blocks were sent again. */
static void test_upload__a_lost_commit_is_found_before_a_block_is_sent(void **state)
{
    struct mini mini = {0};
    struct blob *blob = version_of(LARGE_BYTES, 15), *renamed = version_of(LARGE_BYTES, 15);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ANY, "");
    struct upload *again = entry(UPLOAD_CONTENT, blob, BASE_ANY, ""); /* as after a restart */
    struct upload *other = entry(UPLOAD_CONTENT, renamed, BASE_ANY, "");
    struct run run;

    free((char *)renamed->record.content_type.base);
    renamed->record.content_type = fake_dup(SPAN("text/other"));
    run_open(&run, serve, &mini);
    run_one(&run, u);
    run_one(&run, again);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_string_equal(LAST(&run).etag, "\"v1\"");
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", "comp=block&"), 4);
    assert_int_equal(fake_cloud_count(run.cloud, "PUT", "comp=blocklist"), 1);
    run_one(&run, other); /* the same bytes, described differently: a version of its own */
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_string_equal(LAST(&run).etag, "\"v2\"");
    assert_string_equal(mini.type, "text/other");
    blob_unref(blob);
    blob_unref(renamed);
    free(u);
    free(again);
    free(other);
    run_close(&run);
}

/* Somebody else's blob of the same length, type and metadata stands there. */
static void conflict(enum contract_conflict policy, size_t bytes, struct mini *mini,
                     struct run *run)
{
    struct blob *blob = version_of(bytes, 7);
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ETAG, "\"v3\"");

    *mini = (struct mini){.there = true, .version = 4, .length = bytes};
    strcpy(mini->type, "text/x");
    strcpy(mini->meta, "value");
    strcpy(mini->md5, "AAAAAAAAAAAAAAAAAAAAAA==");
    contract.conflict = policy;
    run_open(run, serve, mini);
    run_one(run, u);
    blob_unref(blob);
    free(u);
}

static void test_upload__a_conflict_is_held(void **state)
{
    struct mini mini;
    struct run run;

    conflict(CONFLICT_HOLD, 1000, &mini, &run);
    assert_int_equal(LAST(&run).end, UPLOAD_HELD);
    assert_non_null(strstr(LAST(&run).reason, "\"v4\""));
    assert_int_equal(mini.version, 4);
    run_close(&run);
    conflict(CONFLICT_HOLD, LARGE_BYTES, &mini, &run);
    assert_int_equal(LAST(&run).end, UPLOAD_HELD);
    assert_int_equal(mini.version, 4);
    run_close(&run);
}

static void test_upload__a_conflict_is_ours_or_theirs_by_contract(void **state)
{
    struct mini mini;
    struct run run;

    conflict(CONFLICT_OURS, 1000, &mini, &run);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_int_equal(mini.version, 5);
    run_close(&run);
    conflict(CONFLICT_OURS, LARGE_BYTES, &mini, &run);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_int_equal(mini.version, 5);
    run_close(&run);
    conflict(CONFLICT_THEIRS, 1000, &mini, &run);
    assert_int_equal(LAST(&run).end, UPLOAD_SUPERSEDED);
    assert_int_equal(mini.version, 4);
    RUN_UNTIL(run.cache->learned_count == 1); /* and the cache hears of it */
    run_close(&run);
    contract.conflict = CONFLICT_HOLD;
}

static void test_upload__deletes_and_properties(void **state)
{
    struct mini mini = {.there = true, .version = 2};
    struct blob *blob = version_of(1000, 8);
    struct upload *properties = entry(UPLOAD_PROPERTIES, blob, BASE_ETAG, "\"v2\"");
    struct upload *metadata = entry(UPLOAD_METADATA, blob, BASE_ETAG, "\"v3\"");
    struct upload *delete = entry(UPLOAD_DELETE, NULL, BASE_ETAG, "\"v4\"");
    struct upload *again = entry(UPLOAD_DELETE, NULL, BASE_ETAG, "\"v4\"");
    struct upload *never = entry(UPLOAD_DELETE, NULL, BASE_ABSENT, "");
    struct run run;

    run_open(&run, serve, &mini);
    run_one(&run, properties);
    assert_string_equal(LAST(&run).etag, "\"v3\"");
    assert_span_equal(fake_header(fake_cloud_request(run.cloud, "PUT", "comp=properties", 0),
                                  "x-ms-blob-content-type"),
                      "text/x");
    run_one(&run, metadata);
    assert_string_equal(LAST(&run).etag, "\"v4\"");
    run_one(&run, delete);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_false(mini.there);
    run_one(&run, again); /* 404: already so */
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    run_one(&run, never);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_int_equal(fake_cloud_count(run.cloud, "DELETE", ""), 2);
    blob_unref(blob);
    free(properties);
    free(metadata);
    free(delete);
    free(again);
    free(never);
    run_close(&run);
}

static void set_md5(struct blob *blob, const char *sixteen)
{
    free((char *)blob->record.content_md5.base);
    blob->record.content_md5 = span_from(strdup(sixteen), MD5_BYTES);
}

/* Shards of a checkpoint are equally long and described alike: an overwrite by somebody else must
 * not pass for our own change of properties, or old and new bytes would be mixed. */
static void test_upload__another_content_is_no_proof_of_a_change_of_properties(void **state)
{
    static const enum upload_kind kinds[] = {UPLOAD_PROPERTIES, UPLOAD_METADATA};
    static const char *const md5s[] = {NULL, "sixteen bytes...."};

    for (unsigned i = 0; i < 4; i++) {
        struct mini mini = {.there = true, .version = 4, .length = LARGE_BYTES};
        struct blob *blob = version_of(LARGE_BYTES, 12);
        struct upload *u = entry(kinds[i / 2], blob, BASE_ETAG, "\"v3\"");
        struct run run;

        if (md5s[i % 2])
            set_md5(blob, md5s[i % 2]);
        strcpy(mini.type, "text/x");
        strcpy(mini.meta, "value");
        strcpy(mini.md5, "AAAAAAAAAAAAAAAAAAAAAA==");
        run_open(&run, serve, &mini);
        run_one(&run, u);
        /* Where bytes cannot be told it is the cloud's version, as described as ours. */
        assert_int_equal(LAST(&run).end, md5s[i % 2] ? UPLOAD_HELD : UPLOAD_SUPERSEDED);
        blob_unref(blob);
        free(u);
        run_close(&run);
    }
}

static void test_upload__a_lost_change_of_properties_is_proved(void **state)
{
    static const size_t sizes[] = {1000, LARGE_BYTES}; /* by MD5, by our blocks */

    for (unsigned i = 0; i < countof(sizes); i++) {
        struct mini mini = {0};
        struct blob *blob = version_of(sizes[i], 13);
        struct upload *content = entry(UPLOAD_CONTENT, blob, BASE_ABSENT, "");
        struct upload *u = entry(UPLOAD_PROPERTIES, blob, BASE_ETAG, "\"v1\"");
        struct md5 *md5 = md5_new();
        char sum[MD5_BYTES + 1] = {0};
        struct run run;

        md5_add(md5, span_from(blob->content, sizes[i]));
        md5_end(md5, (unsigned char *)sum);
        md5_free(md5);
        if (sizes[i] == 1000) {
            free((char *)blob->record.content_md5.base);
            blob->record.content_md5 = fake_dup(span_from(sum, MD5_BYTES));
        }
        run_open(&run, serve, &mini);
        run_one(&run, content);
        assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
        mini.fail_method = "PUT", mini.fail_target = "comp=properties", mini.fail_count = 1;
        run_one(&run, u);
        if (LAST(&run).end == UPLOAD_RETRY)
            run_one(&run, u);
        assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
        assert_string_equal(LAST(&run).etag, "\"v2\"");
        assert_int_equal(mini.version, 2);
        blob_unref(blob);
        free(content);
        free(u);
        run_close(&run);
    }
}

static void test_upload__tags_are_sent_to_the_version_they_belong_to(void **state)
{
    struct mini mini = {.there = true, .version = 5};
    struct blob *blob = version_of(1000, 12);
    struct upload *u = entry(UPLOAD_TAGS, blob, BASE_ETAG, "\"v5\"");
    static const char want[] =
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Tags><TagSet><Tag><Key>a</Key>"
        "<Value>1 2</Value></Tag><Tag><Key>b</Key><Value></Value></Tag></TagSet></Tags>";
    const struct fake_request *put;
    struct run run;

    blob->record.tags = SPAN("a\0001 2\0b\0\0");
    run_open(&run, serve, &mini);
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_string_equal(LAST(&run).etag, "\"v5\""); /* it stays */
    put = fake_cloud_request(run.cloud, "PUT", "comp=tags", 0);
    assert_int_equal(put->body_len, sizeof(want) - 1);
    assert_memory_equal(put->body, want, sizeof(want) - 1);
    free(u);
    mini.version = 7; /* somebody wrote another one */
    u = entry(UPLOAD_TAGS, blob, BASE_ETAG, "\"v5\"");
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_HELD);
    assert_null(fake_cloud_request(run.cloud, "PUT", "comp=tags", 1));
    free(u);
    contract.conflict = CONFLICT_OURS;
    u = entry(UPLOAD_TAGS, blob, BASE_ETAG, "\"v5\"");
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_SUPERSEDED);
    contract.conflict = CONFLICT_HOLD;
    free(u);
    blob->record.tags = (struct span){NULL, 0};
    blob_unref(blob);
    run_close(&run);
}

static void test_upload__refusals_wait_or_are_held(void **state)
{
    static const struct {
        int status;
        const char *headers;
        enum upload_end want;
    } rows[] = {
        {403, "x-ms-error-code: AuthenticationFailed\r\n", UPLOAD_RETRY},
        {400, "x-ms-error-code: InvalidAuthenticationInfo\r\n", UPLOAD_RETRY},
        {404, "Server: gateway\r\n", UPLOAD_RETRY},
        {412, "x-ms-error-code: LeaseIdMissing\r\n", UPLOAD_RETRY},
        {429, "", UPLOAD_RETRY},
        {400, "x-ms-error-code: InvalidMetadata\r\n", UPLOAD_HELD},
        {409, "x-ms-error-code: BlobImmutableDueToPolicy\r\n", UPLOAD_HELD},
    };
    struct blob *blob = version_of(1000, 9);
    struct mini mini = {.fail_method = "PUT", .fail_target = "/b"};
    struct upload *u = entry(UPLOAD_CONTENT, blob, BASE_ANY, "");
    struct run run;

    run_open(&run, serve, &mini);
    for (unsigned i = 0; i < countof(rows); i++) {
        mini.fail_status = rows[i].status;
        mini.fail_headers = rows[i].headers;
        mini.fail_count = 1;
        run_one(&run, u);
        assert_int_equal(LAST(&run).end, rows[i].want);
        assert_true(rows[i].want == UPLOAD_HELD || LAST(&run).retry_after_ns > 0);
        assert_true(strlen(LAST(&run).reason) >= 3);
    }
    assert_int_equal(mini.version, 0);
    blob->unit[0] = 9; /* the reader finds damage */
    run_one(&run, u);
    assert_int_equal(LAST(&run).end, UPLOAD_HELD);
    blob_unref(blob);
    free(u);
    run_close(&run);
}

static void test_upload__the_queue_survives_an_outage(void **state)
{
    struct mini mini = {.fail_method = "PUT", .fail_target = "/b", .fail_count = 6};
    struct blob *blob = version_of(1000, 10);
    struct upload *u[5];
    unsigned confirmed = 0;
    struct run run;

    run_open(&run, serve, &mini);
    run.cache->requeue_retries = true;
    for (unsigned i = 0; i < 5; i++)
        fake_queue(run.cache, u[i] = entry(UPLOAD_CONTENT, blob, BASE_ANY, ""));
    for (uint64_t end = clock_mono_ns() + 10 * NS_PER_SEC;
         confirmed < 5 && clock_mono_ns() < end;) {
        confirmed = 0;
        for (unsigned i = 0; i < run.cache->outcomes; i++)
            confirmed += run.cache->outcome[i].end == UPLOAD_CONFIRMED;
        usleep(1000);
    }
    assert_int_equal(confirmed, 5);
    assert_true(fake_cloud_count(run.cloud, "PUT", "") <= 5 + 6);
    for (unsigned i = 0; i < 5; i++)
        free(u[i]);
    blob_unref(blob);
    run_close(&run);
}

static void test_upload__containers(void **state)
{
    struct mini mini = {0};
    struct upload *create = entry(UPLOAD_CONTAINER_CREATE, NULL, BASE_ANY, "");
    struct upload *delete = entry(UPLOAD_CONTAINER_DELETE, NULL, BASE_ANY, "");
    struct upload *unknown = entry(UPLOAD_SEAL, NULL, BASE_ANY, "");
    struct run run;

    create->name.blob = delete->name.blob = (struct span){NULL, 0};
    run_open(&run, serve, &mini);
    create->described = &run.cache->ctr;
    run_one(&run, create);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    assert_string_equal(fake_cloud_request(run.cloud, "PUT", "", 0)->target,
                        "/acct/ctr?restype=container");
    mini.fail_method = "DELETE", mini.fail_target = "restype=", mini.fail_status = 404;
    mini.fail_headers = "Server: gateway\r\n", mini.fail_count = 1;
    run_one(&run, delete); /* 404, but not the service's */
    assert_int_equal(LAST(&run).end, UPLOAD_RETRY);
    mini.fail_headers = "x-ms-error-code: ContainerNotFound\r\n", mini.fail_count = 1;
    run_one(&run, delete);
    assert_int_equal(LAST(&run).end, UPLOAD_CONFIRMED);
    run_one(&run, unknown);
    assert_int_equal(LAST(&run).end, UPLOAD_HELD);
    free(create);
    free(delete);
    free(unknown);
    run_close(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload__small_content_is_one_put_with_all_it_has),
        cmocka_unit_test(test_upload__any_md5_a_block_list_was_given_is_kept),
        cmocka_unit_test(test_upload__large_content_is_blocks_and_a_commit),
        cmocka_unit_test(test_upload__goes_on_with_the_blocks_the_cloud_lists),
        cmocka_unit_test(test_upload__a_long_retry_after_of_a_block_is_waited_out_in_the_queue),
        cmocka_unit_test(test_upload__a_refused_checksum_of_a_block_is_left_out),
        cmocka_unit_test(test_upload__foreign_blocks_of_the_same_place_are_not_ours),
        cmocka_unit_test(test_upload__a_lost_answer_is_proved),
        cmocka_unit_test(test_upload__a_lost_answer_to_a_delete_is_proved),
        cmocka_unit_test(test_upload__a_lost_commit_is_found_before_a_block_is_sent),
        cmocka_unit_test(test_upload__a_conflict_is_held),
        cmocka_unit_test(test_upload__a_conflict_is_ours_or_theirs_by_contract),
        cmocka_unit_test(test_upload__deletes_and_properties),
        cmocka_unit_test(test_upload__another_content_is_no_proof_of_a_change_of_properties),
        cmocka_unit_test(test_upload__a_lost_change_of_properties_is_proved),
        cmocka_unit_test(test_upload__tags_are_sent_to_the_version_they_belong_to),
        cmocka_unit_test(test_upload__refusals_wait_or_are_held),
        cmocka_unit_test(test_upload__the_queue_survives_an_outage),
        cmocka_unit_test(test_upload__containers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
