/* A request's credentials from any bytes: first line the query, then one header per line
 * ("name:value"). Nothing may crash, and nobody who lacks the key gets in. */
#include <stdlib.h>

#include "blobapi/auth_internal.h"

#define HEADERS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct account account = {
    .id = 1, .name = SPAN("acct"), .key = {SPAN("what the fuzzer cannot know"), SPAN("nor this")}};
static const struct accounts accounts = {&account, 1};

static unsigned headers_read(struct span text, struct header headers[HEADERS_MAX])
{
    unsigned n = 0;

    for (struct span rest = text; rest.len && n < HEADERS_MAX; n++) {
        struct span line = span_cut(rest, '\n', &rest);

        headers[n] = (struct header){0};
        headers[n].name = span_cut(line, ':', &headers[n].value);
        headers[n].value = span_trim(headers[n].value);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct header headers[HEADERS_MAX];
    struct arena *arena = arena_new();
    struct span rest, query = span_cut(span_from(data, size), '\n', &rest), detail;
    struct span text = arena_printf(arena, "/acct/ctr/d/b?%.*s", SPAN_FMT(query));
    struct target target;
    struct granted granted;

    if (target_parse(&accounts, SPAN("127.0.0.1"), text, arena, &target) == AZ_OK) {
        struct auth_request request = {.method = SPAN("GET"),
                                       .target = &target,
                                       .headers = headers,
                                       .header_count = headers_read(rest, headers),
                                       .now_ns = 1795341600000000000, /* 2026-11-22T10:00:00Z */
                                       .arena = arena,
                                       .need = {AUTH_OBJECT, AUTH_READ, AUTH_READ}};
        struct sas sas;

        if (sas_parse(&target, arena, &sas, &detail) == AZ_OK &&
            sas_string_to_sign(&sas, arena).len < 8)
            abort(); /* every layout has that many newlines at least */
        if (auth_check(&request, &granted, &detail) == AZ_OK)
            abort();
    }
    arena_free(arena);
    return 0;
}
