#include "blobapi/emit.h"

#include "base/text.h"
#include "base/util.h"

/* emit.h says what this is. The buffers of a struct emit are full, but for the last. */

static void emit_open(struct emit *e, struct iobuf *buf)
{
    e->bufs[e->count++] = buf;
    e->at = buf->base;
    e->end = buf->base + buf->size;
}

void emit_init(struct emit *e, struct iobuf *first)
{
    *e = (struct emit){.limit = EMIT_BUFS_USUAL};
    emit_open(e, first);
}

void emit_done(struct emit *e)
{
    while (e->count)
        iobuf_unref(e->bufs[--e->count]);
    e->spare = iobuf_unref(e->spare);
}

static void emit_close_buf(struct emit *e)
{
    struct iobuf *last = e->bufs[e->count - 1];

    last->used = (uint32_t)(e->at - last->base);
}

static struct iobuf *emit_buf(const struct emit *e)
{
    struct iobuf *buf = e->large ? iobuf_try(IOBUF_512K) : NULL;

    return buf ? buf : iobuf_try(IOBUF_64K);
}

static bool emit_next(struct emit *e)
{
    struct iobuf *next = e->spare ? TAKE(e->spare) : e->count < e->limit ? emit_buf(e) : NULL;

    if (!next) {
        e->full = true;
        return false;
    }
    emit_close_buf(e);
    emit_open(e, next);
    return true;
}

void emit_bytes_across(struct emit *e, const void *base, size_t len)
{
    const char *from = base;

    while (len && !e->full) {
        size_t n = MIN(len, (size_t)(e->end - e->at));

        memcpy(e->at, from, n);
        e->at += n;
        from += n;
        len -= n;
        if (len)
            emit_next(e);
    }
}

static struct span xml_entity(unsigned char c)
{
    switch (c) {
    case '&':
        return SPAN("&amp;");
    case '<':
        return SPAN("&lt;");
    case '>':
        return SPAN("&gt;");
    case '"':
        return SPAN("&quot;");
    default:
        return SPAN("&#xD;");
    }
}

void emit_xml(struct emit *e, struct span text)
{
    static const bool special[256] = {['&'] = 1, ['<'] = 1, ['>'] = 1, ['"'] = 1, ['\r'] = 1};
    size_t plain = 0;

    for (size_t i = 0; i < text.len; i++) {
        if (!special[(unsigned char)text.base[i]])
            continue;
        emit_bytes(e, text.base + plain, i - plain);
        emit_span(e, xml_entity((unsigned char)text.base[i]));
        plain = i + 1;
    }
    if (text.len > plain)
        emit_bytes(e, text.base + plain, text.len - plain);
}

/* Visible ASCII and spaces: nearly every header. */
static bool plain_ascii(struct span text)
{
    unsigned odd = 0;

    for (size_t i = 0; i < text.len; i++)
        odd |= (unsigned char)text.base[i] < 0x20 || (unsigned char)text.base[i] > 0x7e;
    return !odd;
}

bool emit_xml_fits(struct span text)
{
    size_t units;

    if (plain_ascii(text))
        return true;
    if (utf8_units(text, &units) < 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];

        if (c < 0x20 && c != '\t')
            return false;
        if (c == 0xEF && (unsigned char)text.base[i + 1] == 0xBF && /* three bytes, as checked */
            (unsigned char)text.base[i + 2] >= 0xBE)
            return false; /* U+FFFE, U+FFFF */
    }
    return true;
}

void emit_xml_header(struct emit *e, struct span text)
{
    if (emit_xml_fits(text)) {
        emit_xml(e, text);
        return;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];

        if (c >= 0x80)
            emit_bytes(e, (char[2]){(char)(0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))}, 2);
        else if (c >= 0x20)
            emit_xml(e, span_from(text.base + i, 1));
        else
            EMIT(e, "?");
    }
}

void emit_u64(struct emit *e, uint64_t n)
{
    char digits[20], *at = digits + sizeof(digits);

    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    emit_bytes(e, at, (size_t)(digits + sizeof(digits) - at));
}

void emit_date(struct emit *e, int64_t wall_ns)
{
    char text[HTTP_DATE_BYTES + 1];

    http_date_print(wall_ns, text);
    emit_bytes(e, text, HTTP_DATE_BYTES);
}

void emit_base64(struct emit *e, struct span bytes)
{
    char text[64]; /* 48 bytes at a time: whole groups of three, so only the end is padded */

    while (bytes.len) {
        size_t n = MIN(bytes.len, (size_t)48);

        emit_bytes(e, text, base64_encode(span_from(bytes.base, n), text));
        bytes = span_skip(bytes, n);
    }
}

void emit_percent(struct emit *e, struct span text)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.base[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_' || c == '.' || c == '~';

        if (plain)
            emit_bytes(e, &c, 1);
        else
            emit_bytes(e, (char[3]){'%', hex[c >> 4], hex[c & 15]}, 3);
    }
}

struct emit_mark emit_mark(const struct emit *e)
{
    return (struct emit_mark){e->count, (uint32_t)(e->at - e->bufs[e->count - 1]->base)};
}

void emit_rewind(struct emit *e, struct emit_mark mark)
{
    assert(mark.count >= 1 && mark.count <= e->count);
    while (e->count > mark.count) {
        struct iobuf *freed = e->bufs[--e->count];

        if (e->spare)
            iobuf_unref(freed);
        else
            e->spare = freed; /* the row had used up what the tail was promised */
    }
    e->at = e->bufs[e->count - 1]->base + mark.used;
    e->end = e->bufs[e->count - 1]->base + e->bufs[e->count - 1]->size;
    e->full = false;
}

bool emit_keep_tail(struct emit *e)
{
    if (e->full)
        return false;
    if (!e->spare && (size_t)(e->end - e->at) < EMIT_TAIL_ROOM && e->count < e->limit)
        e->spare = iobuf_try(IOBUF_64K);
    return e->spare || (size_t)(e->end - e->at) >= EMIT_TAIL_ROOM;
}

uint64_t emit_length(const struct emit *e)
{
    uint64_t bytes = e->count ? (uint64_t)(e->at - e->bufs[e->count - 1]->base) : 0;

    for (unsigned i = 0; i + 1 < e->count; i++)
        bytes += e->bufs[i]->used;
    return bytes;
}

unsigned emit_take(struct emit *e, struct slice *ret, unsigned n)
{
    unsigned taken = MIN(n, e->count);

    if (!taken)
        return 0;
    emit_close_buf(e);
    for (unsigned i = 0; i < taken; i++)
        ret[i] = (struct slice){e->bufs[i], {e->bufs[i]->base, e->bufs[i]->used}, true};
    e->count -= taken;
    memmove(e->bufs, e->bufs + taken, e->count * sizeof(*e->bufs));
    return taken;
}
