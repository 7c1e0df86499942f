/* base/date.h - the two date forms of the Blob protocol. Pure, independent of locale and time zone;
 * any thread. Times are nanoseconds since 1970; parsers return -EINVAL and leave *ret untouched. */
#ifndef BASE_DATE_H
#define BASE_DATE_H

#include "base/span.h"

#define HTTP_DATE_BYTES 29 /* "Sun, 06 Nov 1994 08:49:37 GMT" */
#define ISO8601_BYTES   28 /* "2026-09-05T11:30:58.5247267Z": the service's precision of 100 ns */

void http_date_print(int64_t wall_ns,
                     char ret[HTTP_DATE_BYTES + 1]); /* whole seconds, rounded down */
/* The weekday is not checked against the date: peers get it wrong and nothing rests on it. */
int http_date_parse(struct span text, int64_t *ret_ns) __attribute__((warn_unused_result));

void iso8601_print(int64_t wall_ns,
                   char ret[ISO8601_BYTES + 1]); /* snapshots, versions, error times */
/* YYYY-MM-DD, YYYY-MM-DDThh:mm, ...:ss and ...:ss.f (1 to 9 digits); with a time also Z or +hh:mm.
 * Years that do not fit are clamped to INT64_MIN or INT64_MAX. */
int iso8601_parse(struct span text, int64_t *ret_ns) __attribute__((warn_unused_result));
/* The form that iso8601_print gives, in ticks of 100 ns: ids of snapshots and versions. */
#define ISO8601_TICK_NS 100
int iso8601_ticks_parse(struct span text, uint64_t *ret) __attribute__((warn_unused_result));

#endif
