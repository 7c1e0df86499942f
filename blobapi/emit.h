/* blobapi/emit.h - an answer's body as text in I/O buffers: XML of lists, block lists and errors.
 *
 * One thread at a time, worker or loop; never blocks. The first buffer is the caller's, the next
 * ones are taken with iobuf_try, of 64 KiB; what has no pages goes on in 512 KiB where there are
 * any: those are a fifth of memory, so the longest answer fits the smallest box that is idle. When
 * there are no more (the pool is empty or `limit` is
 * reached) `full` is set and what does not fit is dropped: the caller goes back to its mark and
 * ends the page there. What may surprise: text crosses from one buffer to the next at any byte. */
#ifndef BLOBAPI_EMIT_H
#define BLOBAPI_EMIT_H

#include "base/iobuf.h"
#include "base/span.h"

#define EMIT_BUFS_USUAL 128 /* of 64 KiB: 8 MiB; what can be paged ends there */
#define EMIT_BUFS_MAX                                                                              \
    352 /* 22 MiB of 64 KiB: a block list is whole, 150 000 rows of up to 140 bytes */
#define EMIT_TAIL_ROOM 8192

struct emit {
    struct iobuf *bufs[EMIT_BUFS_MAX];
    unsigned count;
    char *at, *end;      /* in bufs[count - 1] */
    struct iobuf *spare; /* promised to the tail by emit_keep_tail */
    unsigned limit;      /* buffers it may take: EMIT_BUFS_USUAL, or what its owner sets */
    bool large;          /* 512 KiB where there are any */
    bool full;
};
struct emit_mark {
    unsigned count;
    uint32_t used;
};

void emit_init(struct emit *e, struct iobuf *first); /* takes the reference */
void emit_done(struct emit *e);                      /* gives all buffers back; all zeros is fine */

void emit_bytes_across(struct emit *e, const void *base, size_t len); /* over a buffer's end */
/* Inline: most text is literals of a length the compiler knows. */
static inline void emit_bytes(struct emit *e, const void *base, size_t len)
{
    if ((size_t)(e->end - e->at) < len) {
        emit_bytes_across(e, base, len);
        return;
    }
    if (len)
        memcpy(e->at, base, len);
    e->at += len;
}
static inline void emit_span(struct emit *e, struct span s)
{
    emit_bytes(e, s.base, s.len);
}
#define EMIT(e, literal) emit_bytes(e, "" literal, sizeof(literal) - 1)
void emit_xml(struct emit *e, struct span text); /* & < > " and CR written as XML wants them */
/* Well-formed UTF-8 of characters XML can hold. */
bool emit_xml_fits(struct span text);
/* Text nobody has checked, as headers the cloud taught: what does not fit is taken for Latin-1. */
void emit_xml_header(struct emit *e, struct span text);
void emit_u64(struct emit *e, uint64_t n);
void emit_date(struct emit *e, int64_t wall_ns); /* RFC 1123 */
void emit_base64(struct emit *e, struct span bytes);
void emit_percent(struct emit *e, struct span text); /* all but unreserved characters as %XX */

/* Where a row began, to go back to when it does not fit. Going back clears full and keeps what was
 * promised to the tail. */
struct emit_mark emit_mark(const struct emit *e);
void emit_rewind(struct emit *e, struct emit_mark mark);
/* After each row: false when the row did not fit or leaves no room for EMIT_TAIL_ROOM bytes of
 * closing tags and next marker; rewind it and end there. After true, that much always fits. */
bool emit_keep_tail(struct emit *e);

uint64_t emit_length(const struct emit *e);
/* Moves up to n buffers out as slices, oldest first; returns how many. Nothing may be emitted
 * after. */
unsigned emit_take(struct emit *e, struct slice *ret, unsigned n);

#endif
