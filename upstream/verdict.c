/* upstream/verdict.c - verdict.def as a table, searched from the top. */
#include "upstream/verdict.h"

#include "base/util.h"

static const struct {
    unsigned operations;
    int status;
    const char *code;
    enum verdict verdict;
} rows[] = {
#define VERDICT(operations, status, code, verdict) {operations, status, code, VERDICT_##verdict},
#include "upstream/verdict.def"
#undef VERDICT
};

static const char *const names[] = {"done",    "retry",    "wait", "reconnect",
                                    "restage", "conflict", "held"};

static bool code_matches(const char *row, struct span code)
{
    return !*row || (*row == '-' ? !code.len : span_eq(code, span_of(row)));
}

static bool status_matches(int row, int status)
{
    return row == 0 || row == status || (row < 10 && row == status / 100);
}

enum verdict verdict_of(enum upload_operation operation, int status, struct span code)
{
    for (size_t i = 0; i < countof(rows); i++)
        if ((rows[i].operations & operation) && status_matches(rows[i].status, status) &&
            code_matches(rows[i].code, code))
            return rows[i].verdict;
    return VERDICT_HELD; /* not reached: the last row matches all */
}

const char *verdict_name(enum verdict verdict)
{
    return names[verdict];
}
