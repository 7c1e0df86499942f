/* blobapi/listing.h - what List Blobs and List Containers share: query parameters, markers, XML.
 * Pure. */
#ifndef BLOBAPI_LISTING_H
#define BLOBAPI_LISTING_H

#include "blobapi/request.h"

#define LIST_ROWS_MAX 5000 /* more asked for: clamped, not refused */

/* A text parameter, decoded as a form is: '+' is a space, as Go clients write it (a plus is %2B in
 * all of them). base NULL when absent. */
struct span list_text(const struct target *target, struct span name, struct arena *arena);

/* maxresults= into *ret (1 to LIST_ROWS_MAX); the error otherwise. */
enum az_error list_max_parse(const struct target *target, uint64_t *ret) must_check;

/* Include list: a bit per name of `names`, in their order. AZ_INVALID_QUERY_PARAMETER_VALUE: a name
 * that is not there. */
enum az_error list_include_parse(struct span include, const struct span *names, unsigned n,
                                 uint32_t *ret) must_check;

/* Opaque continuation: "2!<length>!<base64url of the next row's name>": survives a '+' that a
 * client fails to encode. AZ_INVALID_QUERY_PARAMETER_VALUE: not of that form; AZ_INVALID_INPUT: cut
 * short. */
struct span list_marker_make(struct span next, struct arena *arena);
enum az_error list_marker_parse(struct span marker, struct arena *arena,
                                struct span *ret) must_check;

/* <Name>, or <Name Encoded="true"> with all of it percent-encoded when it holds what XML cannot. */
void list_emit_name(struct emit *e, struct span tag, struct span name);
/* <?xml ...><EnumerationResults ServiceEndpoint="..."> and, with a container, its attribute. */
void list_emit_head(struct request *r, struct span container);
void list_emit_metadata(struct emit *e, const struct pair *pairs, unsigned n);

#endif
