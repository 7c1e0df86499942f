/* base/xml.h - reads an XML document as it arrives: one call per element begun and ended.
 * A thin door to expat for block lists (blobapi) and listings (upstream). Documents with a DOCTYPE
 * are refused (entity bombs); depth and text have limits. One thread at a time; never blocks. */
#ifndef BASE_XML_H
#define BASE_XML_H

#include "base/span.h"
#include "base/util.h"

#define XML_DEPTH_MAX      16
#define XML_TEXT_BYTES_MAX (64u << 10) /* of one element */

struct xml;

/* Depth of the root is 0. A callback that returns non-zero ends the parse with that result. */
struct xml_ops {
    /* attributes: name, value, name, value, ..., NULL. May be NULL. */
    int (*start)(void *arg, struct xml *xml, struct span name, const char *const *attributes);
    /* text: what stood in the element itself, entities resolved; white space as sent, but
     * nothing of it before a child where there is nothing else. */
    int (*end)(void *arg, struct xml *xml, struct span name, struct span text);
};

struct xml *xml_new(const struct xml_ops *ops, void *arg);
struct xml *xml_free(struct xml *xml); /* NULL is fine; returns NULL */
/* 0; -EBADMSG: not well-formed, a DOCTYPE, or beyond a limit; else a callback's result. Sticks. */
int xml_feed(struct xml *xml, struct span bytes) must_check;
int xml_end(struct xml *xml) must_check; /* the document is over: -EBADMSG if it was not */

/* Within a callback: depth of the element, and the name `up` levels above it (1: its parent; empty
 * beyond the root). */
unsigned xml_depth(const struct xml *xml);
struct span xml_above(const struct xml *xml, unsigned up);

#endif
