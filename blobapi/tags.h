/* blobapi/tags.h - a blob's tags: read from a header or from XML, as stored (cache/tags.h), as XML.
 * Pure but for tags_header. */
#ifndef BLOBAPI_TAGS_H
#define BLOBAPI_TAGS_H

#include "base/arena.h"
#include "blobapi/emit.h"
#include "blobapi/errors.h"
#include "cache/tags.h"

#define TAGS_MAX            10
#define TAG_KEY_BYTES_MAX   128
#define TAG_VALUE_BYTES_MAX 256
#define TAGS_XML_BYTES_MAX  KIB(64)

struct request;

/* Letters, digits, space and + - . / : = _ within the lengths. */
bool tag_key_fits(struct span key);
bool tag_value_fits(struct span value);

bool tags_find(struct span tags, struct span key, struct span *ret_value);
void tag_emit(struct emit *e, struct pair tag);
void tags_emit(struct emit *e, struct span tags); /* <Tags><TagSet>... */

/* x-ms-tags: key=value&..., form-encoded. AZ_OK, AZ_EMPTY_TAG_NAME, AZ_DUPLICATE_TAG_NAMES,
 * AZ_TAGS_TOO_LARGE (number, lengths), AZ_INVALID_TAGS (characters, form). */
enum az_error tags_parse(struct span text, struct arena *arena, struct span *ret) must_check;
/* The request's x-ms-tags by tags_parse; *culprit is set where it is wrong. */
enum az_error tags_header(struct request *r, struct span *ret, struct span *culprit);

/* The body of Set Blob Tags, piece by piece. */
struct tags_reader;
struct tags_reader *tags_reader_open(struct arena *arena);
void tags_reader_feed(struct tags_reader *reader, struct span text); /* errors stick */
enum az_error tags_reader_finish(struct tags_reader *reader, struct span *ret) must_check;
struct tags_reader *tags_reader_close(struct tags_reader *reader); /* NULL is fine */

#endif
