/* blobapi/tag_expression.h - what x-ms-if-tags and Find Blobs by Tags say, parsed and judged. Pure;
 * any thread.
 *
 *   any    := all { OR all }      all := one { AND one }
 *   one    := ( any ) | key op value
 *   key    := "any tag key", or a word of letters, digits and _ that begins with no digit
 *   op     := = <> < <= > >=                value := 'text'
 *
 * Keywords in any case; text compares bytewise. A key the blob does not have: <> holds, nothing
 * else does. */
#ifndef BLOBAPI_TAG_EXPRESSION_H
#define BLOBAPI_TAG_EXPRESSION_H

#include "base/arena.h"
#include "base/span.h"
#include "base/util.h"

#define TAG_EXPRESSION_DEPTH_MAX                                                                   \
    16 /* of parentheses; judging recurses no deeper than thrice that */

struct tag_expression;

/* 0, or -EINVAL: no sentence of the grammar. *ret is in the arena and has spans of text. */
int tag_expression_parse(struct span text, struct arena *arena,
                         const struct tag_expression **ret) must_check;
/* tags: as in struct blob_record. */
bool tag_expression_judge(const struct tag_expression *e, struct span tags);

/* `where` of Find Blobs by Tags: comparisons joined by AND, no <>, no parentheses; @container =
 * 'name' at most once. *ret: NULL when nothing else is said; *ret_container: empty when it is not.
 * -EINVAL. */
int tag_filter_parse(struct span text, struct arena *arena, const struct tag_expression **ret,
                     struct span *ret_container) must_check;
/* Is the key one that the filter compares? */
bool tag_filter_names(const struct tag_expression *e, struct span key);

#endif
