/* blobapi/revoked.c - what no longer counts, by a file that is read again when it changes.
 *
 * One a line: `sas SIGNATURE` (sig= of a SAS, as it is or percent-encoded), `subject OID` (its
 * tokens, and SAS made with its delegation keys), `key OID [START]` (its delegation keys, or the
 * one that starts then), `keys` (every delegation key). A line of no such form is told in the log
 * and makes the file unusable: what was revoked before stays so. */
#include "base/clock.h"
#include "base/text.h"
#include "blobapi/identity_internal.h"

#define ENTRIES_MAX     65536
#define ENTRY_BYTES_MIN 6 /* "key a" and its line end */

enum entry_kind { ENTRY_SAS, ENTRY_SUBJECT, ENTRY_KEY, ENTRY_KEY_STARTING };

struct entry { /* in byte order of what follows */
    unsigned char what[SHA256_BYTES];
};
struct revoked {
    struct entry *at; /* sorted */
    size_t count;
    bool all_keys;
};

/* Of any length, into one: which kind it is and what it says. */
static void entry_make(enum entry_kind kind, struct span text, int64_t start_s, struct entry *ret)
{
    unsigned char key[1 + sizeof(start_s)];

    key[0] = (unsigned char)kind;
    memcpy(key + 1, &start_s, sizeof(start_s));
    hmac_sha256(span_from(key, sizeof(key)), text, ret->what);
}

/* In whatever case: a SAS's skoid is written by whoever holds the key. */
static void entry_oid(enum entry_kind kind, struct span oid, int64_t start_s, struct entry *ret)
{
    _cleanup_(freep) char *lower = xmalloc(oid.len + 1);

    for (size_t i = 0; i < oid.len; i++)
        lower[i] =
            (char)(oid.base[i] >= 'A' && oid.base[i] <= 'Z' ? oid.base[i] | 32 : oid.base[i]);
    entry_make(kind, span_from(lower, oid.len), start_s, ret);
}

static int sas_line(struct span signature, struct entry *ret)
{
    unsigned char bytes[SHA256_BYTES + 1];
    char text[3 * BASE64_BYTES(SHA256_BYTES)];
    size_t len;

    if (!signature.len || signature.len > sizeof(text) ||
        percent_decode(signature, text, &len) < 0 || len != BASE64_BYTES(SHA256_BYTES) ||
        base64_decode(span_from(text, len), bytes, &len) < 0)
        return -EBADMSG;
    entry_make(ENTRY_SAS, span_from(bytes, len), 0, ret);
    return 0;
}

static int key_line(struct span oid, struct span start, struct entry *ret)
{
    int64_t ns = 0;

    if (!oid.len || (start.base && iso8601_parse(start, &ns) < 0))
        return -EBADMSG;
    entry_oid(start.base ? ENTRY_KEY_STARTING : ENTRY_KEY, oid, ns / (int64_t)NS_PER_SEC, ret);
    return 0;
}

static int line_read(struct span line, struct revoked *revoked)
{
    struct span word = word_next(&line), what = word_next(&line), start = word_next(&line);
    struct entry *entry = &revoked->at[revoked->count];

    if (line.len || revoked->count == ENTRIES_MAX)
        return -EBADMSG;
    if (span_eq(word, SPAN("keys")) && !what.base) {
        revoked->all_keys = true;
        return 0;
    }
    revoked->count++;
    if (span_eq(word, SPAN("key")))
        return key_line(what, start, entry);
    if (start.base)
        return -EBADMSG;
    if (span_eq(word, SPAN("sas")))
        return sas_line(what, entry);
    if (!span_eq(word, SPAN("subject")) || !what.len)
        return -EBADMSG;
    entry_oid(ENTRY_SUBJECT, what, 0, entry);
    return 0;
}

static int entry_cmp(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct entry));
}

void revoked_drop(void *value)
{
    struct revoked *revoked = value;

    if (revoked)
        free(revoked->at);
    free(revoked);
}

int revoked_parse(struct span text, void **ret)
{
    struct revoked *revoked = xcalloc(1, sizeof(*revoked));
    struct span line;
    int err = 0;

    revoked->at = xcalloc(MIN(text.len / ENTRY_BYTES_MIN, ENTRIES_MAX) + 2, sizeof(*revoked->at));
    while (err == 0 && line_next(&text, &line))
        err = line_read(line, revoked);
    if (err < 0) {
        revoked_drop(revoked);
        return err;
    }
    qsort(revoked->at, revoked->count, sizeof(*revoked->at), entry_cmp);
    revoked->at = xrealloc(revoked->at, (revoked->count + 1) * sizeof(*revoked->at));
    *ret = revoked;
    return 0;
}

static bool has(const struct revoked *revoked, const struct entry *entry)
{
    return revoked && bsearch(entry, revoked->at, revoked->count, sizeof(*entry), entry_cmp);
}

bool revoked_signature(struct identity *identity, struct span signature)
{
    struct entry entry;
    bool hit;

    if (!identity || !identity->revoked.path || sas_line(signature, &entry) < 0)
        return false;
    hit = has(watched_hold(&identity->revoked), &entry);
    watched_release(&identity->revoked);
    return hit;
}

bool revoked_subject(struct identity *identity, struct span oid)
{
    struct entry entry;
    bool hit;

    if (!identity->revoked.path)
        return false;
    entry_oid(ENTRY_SUBJECT, oid, 0, &entry);
    hit = has(watched_hold(&identity->revoked), &entry);
    watched_release(&identity->revoked);
    return hit;
}

bool revoked_delegation(struct identity *identity, const struct delegation *name)
{
    const struct revoked *revoked;
    struct entry any, one;
    bool hit;

    if (!identity->revoked.path)
        return false;
    entry_oid(ENTRY_KEY, name->oid, 0, &any);
    entry_oid(ENTRY_KEY_STARTING, name->oid, name->start_s, &one);
    revoked = watched_hold(&identity->revoked);
    hit = revoked && (revoked->all_keys || has(revoked, &any) || has(revoked, &one));
    watched_release(&identity->revoked);
    return hit;
}
