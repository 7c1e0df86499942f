/* Goal: each answer to a write is sorted as design section 7 says; nothing unknown is ever "done".
 */
#include "tests/unit/unit.h"

#include "base/util.h"
#include "upstream/verdict.h"

static void test_verdict__table_of_design_7(void **state)
{
    static const struct {
        enum upload_operation operation;
        int status;
        const char *code;
        enum verdict want;
    } rows[] = {
        {OP_CONTENT, 201, "", VERDICT_DONE},
        {OP_COMMIT, 201, "", VERDICT_DONE},
        {OP_DELETE, 202, "", VERDICT_DONE},
        {OP_DELETE, 404, "BlobNotFound", VERDICT_DONE},
        {OP_DELETE, 404, "ContainerNotFound", VERDICT_DONE},
        {OP_DELETE, 404, "", VERDICT_RETRY},
        {OP_CONTAINER_DELETE, 404, "ContainerNotFound", VERDICT_DONE},
        {OP_CONTAINER_DELETE, 404, "", VERDICT_RETRY},
        {OP_CONTENT, 400, "InvalidAuthenticationInfo", VERDICT_RECONNECT},
        {OP_BLOCK, 400, "InvalidBlobOrBlock", VERDICT_WAIT},
        {OP_BLOCK, 400, "InvalidBlockId", VERDICT_WAIT},
        {OP_CONTAINER_CREATE, 409, "ContainerAlreadyExists", VERDICT_DONE},
        {OP_CONTAINER_CREATE, 409, "ContainerBeingDeleted", VERDICT_WAIT},
        {OP_CONTAINER_DELETE, 409, "ContainerBeingDeleted", VERDICT_DONE},
        {OP_CONTENT, 412, "LeaseIdMissing", VERDICT_WAIT},
        {OP_CONTENT, 412, "ConditionNotMet", VERDICT_CONFLICT},
        {OP_CONTENT, 409, "BlobAlreadyExists", VERDICT_CONFLICT},
        {OP_COMMIT, 409, "BlobAlreadyExists", VERDICT_CONFLICT},
        {OP_DELETE, 412, "ConditionNotMet", VERDICT_CONFLICT},
        {OP_METADATA, 404, "BlobNotFound", VERDICT_CONFLICT},
        {OP_COMMIT, 400, "InvalidBlockList", VERDICT_RESTAGE},
        {OP_BLOCK, 400, "Crc64Mismatch", VERDICT_RETRY},
        {OP_CONTENT, 400, "Md5Mismatch", VERDICT_HELD},
        {OP_BLOCK, 500, "InternalError", VERDICT_RETRY},
        {OP_BLOCK, 503, "ServerBusy", VERDICT_RETRY},
        {OP_BLOCK, 429, "", VERDICT_RETRY},
        {OP_BLOCK, 408, "", VERDICT_RETRY},
        {OP_CONTENT, 403, "AuthenticationFailed", VERDICT_RECONNECT},
        {OP_CONTENT, 401, "NoAuthenticationInformation", VERDICT_RECONNECT},
        {OP_CONTENT, 409, "SnapshotsPresent", VERDICT_HELD},
        {OP_CONTENT, 409, "BlobImmutableDueToPolicy", VERDICT_HELD},
        {OP_CONTENT, 400, "InvalidMetadata", VERDICT_HELD},
        {OP_CONTENT, 404, "ContainerNotFound", VERDICT_HELD},
        {OP_CONTENT, 413, "RequestBodyTooLarge", VERDICT_HELD},
        {OP_CONTENT, 301, "", VERDICT_HELD},
    };

    for (size_t i = 0; i < countof(rows); i++) {
        enum verdict got = verdict_of(rows[i].operation, rows[i].status, span_of(rows[i].code));

        if (got != rows[i].want)
            fail_msg("row %zu: %d %s is %s", i, rows[i].status, rows[i].code, verdict_name(got));
    }
}

static void test_verdict__only_success_and_known_rows_are_done(void **state)
{
    for (int status = 300; status < 600; status++)
        for (unsigned op = 1; op < OP_ANY; op <<= 1)
            assert_true(verdict_of(op, status, SPAN("SomethingNew")) != VERDICT_DONE &&
                        verdict_of(op, status, SPAN("")) != VERDICT_DONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdict__table_of_design_7),
        cmocka_unit_test(test_verdict__only_success_and_known_rows_are_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
