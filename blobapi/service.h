/* blobapi/service.h - what an account has set for its Blob service, as requests ask for it; the XML
 * of Set and Get Blob Service Properties. */
#ifndef BLOBAPI_SERVICE_H
#define BLOBAPI_SERVICE_H

#include "base/arena.h"
#include "blobapi/request.h"

#define CORS_BYTES_MAX      2048 /* of all rules without their XML */
#define CORS_ITEMS_MAX      64   /* origins, or headers, of a rule */
#define CORS_PREFIXES_MAX   2    /* of the headers, those that end with '*' */
#define CORS_ITEM_BYTES_MAX 256
#define RETENTION_DAYS_MAX  365

/* ---- service_xml.c: pure ---- */

enum service_part { /* root elements: what is not in a document stays as it was */
                    SERVICE_LOGGING = 1,
                    SERVICE_HOUR_METRICS = 2,
                    SERVICE_MINUTE_METRICS = 4,
                    SERVICE_CORS = 8,
                    SERVICE_VERSION = 16,
                    SERVICE_DELETE_RETENTION = 32,
                    SERVICE_WEBSITE = 64,
};
struct service_document {
    unsigned parts; /* enum service_part: those given */
    struct service_record record;
};
/* A Set Blob Service Properties body. AZ_OK, or fault->error. Spans lie in the arena. */
enum az_error service_document_parse(struct span text, struct arena *arena,
                                     struct service_document *ret,
                                     struct xml_fault *fault) must_check;
/* YYYY-MM-DD; any date, since clients are newer than servers. */
bool version_fits(struct span v);
/* What the parts given change in the rest. */
void service_document_apply(const struct service_document *document, struct service_record *record);
void service_document_emit(struct emit *e, const struct service_record *record,
                           struct span version);

/* ---- service_properties.c ---- */

/* What the request's account has set: a reference, or NULL: nothing, or its cloud keeps that. */
struct service *request_service(const struct request *r);
/* Soft delete of blobs as the account wants it now; all zeros where it does not. */
struct delete_retention request_delete_retention(const struct request *r);

/* ---- cors.c ---- */

/* Access-Control-* and Vary of an answer that is about to leave. */
void cors_headers(struct request *r, bool has_length);

#endif
