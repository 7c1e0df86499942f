/* blobapi/source.h - x-ms-copy-source: which version of this box it names, and whether whoever asks
 * may read it; or where else it lies, when the configuration allows that. Sub-routine of steps;
 * loop thread. A URL is matched against the names of this box first.
 *
 * A source in the box is looked for as a Get would: the newest version, dirty or not, from the
 * cloud where the box does not know. It is pinned, whatever becomes of its name. One elsewhere is
 * begun to be read (source_external.c): its head is the record, its bytes follow when they are
 * asked for. */
#ifndef BLOBAPI_SOURCE_H
#define BLOBAPI_SOURCE_H

#include "blobapi/request.h"
#include "upstream/external.h"

#define SOURCE_URL_BYTES_MAX 8192
#define SOURCE_CHANGES_MAX   3 /* the cloud had another version when its bytes were asked for */

/* What find.c works on: one side is the request's own, the other the source's. */
struct source_side {
    struct target target;
    const struct account *account;
    const struct contract *contract;
    struct container *container; /* a reference */
    struct name name;
    struct blob *blob; /* a reference */
    bool asked_cloud, stale, learned, refetch;
};

struct source {
    struct span url; /* as sent, without its query (that may be a secret) but for a snapshot's id */
    bool tls;
    struct target target;
    struct conditions conditions; /* x-ms-source-if-* */
    struct range range;           /* of it that will be read, if elsewhere; len 0: all */
    struct blob *blob;            /* the version found; a reference. NULL: it is elsewhere */
    struct span elsewhere;        /* the URL with its query; empty: it is in the box */
    struct external *external;    /* being read */
    unsigned changes;
    struct source_side other; /* while looking: the request's; else empty */
    struct next after;
};

/* By what this box is known: its accounts' names and aliases, and the Host it was asked by. */
struct source_asked {
    const struct accounts *accounts;
    struct span host;
    bool tls;
};
/* Pure: sets url, tls and target. AZ_OK; AZ_INVALID_HEADER_VALUE: not the URL of a blob;
 * AZ_COPY_SOURCE_EXTERNAL: not of this box; AZ_UNSUPPORTED_HEADER: of a version, or a cloud's
 * snapshot. */
enum az_error source_url_parse(const struct source_asked *asked, struct span url,
                               struct arena *arena, struct source *ret) must_check;
/* The headers. AZ_OK, or what fail_source_input tells. */
enum az_error source_inputs(struct request *r, struct source *source, struct span *culprit);
/* Like fail_header, but never says a URL: it may hold a signature. */
struct next fail_source_input(struct request *r, enum az_error error, struct span culprit);
/* Judges rights, finds it, judges conditions and type; source->blob is it afterwards. Fails the
 * request where it may not be read or is not there. implied: the request's own key or token is
 * enough within its account (Copy Blob). */
struct next source_find(struct request *r, struct source *source, bool implied, struct next after);
/* What is known of it. */
const struct blob_record *source_record(const struct source *source);
/* Its bytes were refused by the cloud, which has another version: looks again. -ESTALE after
 * SOURCE_CHANGES_MAX times. */
struct next source_find_again(struct request *r, struct source *source, struct next after);
/* source_external.c's: opens it, fails the request where that fails. */
struct next source_external_find(struct request *r, struct source *source);
enum az_error source_verdict(const struct request *r, const struct source *source);
void source_done(struct request *r, struct source *source); /* op->free; any state */

#endif
