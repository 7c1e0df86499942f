/* blobapi/acl_xml.c - SignedIdentifiers: what Set Container ACL sends and Get Container ACL shows.
 * Pure. */
#include "base/date.h"
#include "base/text.h"
#include "base/xml.h"
#include "blobapi/handlers.h"

#define IDENTIFIER_UNITS_MAX 64                       /* characters of an Id */
#define PERMISSION_LETTERS   SPAN("racwdxyltmeiofup") /* of any kind of SAS and service */

struct acl_texts {
    struct arena *arena;
    struct acl_document *document;
    struct xml_fault *fault;
    unsigned given; /* fields of the identifier at hand */
};

static int fault_at(struct acl_texts *t, enum az_error error, struct span node, struct span value)
{
    *t->fault = (struct xml_fault){error, arena_copy(t->arena, node), arena_copy(t->arena, value)};
    return -EINVAL;
}

static int bad_value(struct acl_texts *t, struct span node, struct span value)
{
    return fault_at(t, AZ_INVALID_XML_NODE_VALUE, node, value);
}

static struct access_policy *policy_at_hand(struct acl_texts *t)
{
    return &t->document->policies[t->document->count - 1];
}

/* Where an element's text goes; NULL: it has none of its own. */
static struct span *field_of(struct acl_texts *t, struct xml *xml, struct span name)
{
    bool in_policy = xml_depth(xml) == 3 && span_eq(xml_above(xml, 1), SPAN("AccessPolicy"));

    if (xml_depth(xml) == 2 && span_eq(name, SPAN("Id")))
        return &policy_at_hand(t)->id;
    if (in_policy && span_eq(name, SPAN("Start")))
        return &policy_at_hand(t)->start;
    if (in_policy && span_eq(name, SPAN("Expiry")))
        return &policy_at_hand(t)->expiry;
    if (in_policy && span_eq(name, SPAN("Permission")))
        return &policy_at_hand(t)->permission;
    return NULL;
}

static int identifier_opens(struct acl_texts *t, struct span name)
{
    if (!span_eq(name, SPAN("SignedIdentifier")))
        return fault_at(t, AZ_UNSUPPORTED_XML_NODE, name, SPAN(""));
    if (t->document->count == ACCESS_POLICIES_MAX)
        return fault_at(t, AZ_INVALID_XML_DOCUMENT, name, SPAN(""));
    t->document->policies[t->document->count++] = (struct access_policy){0};
    return 0;
}

static int acl_opens(void *arg, struct xml *xml, struct span name, const char *const *attributes)
{
    struct acl_texts *t = arg;
    struct span *field;

    (void)attributes; /* namespaces and the like say nothing here */
    switch (xml_depth(xml)) {
    case 0:
        return span_eq(name, SPAN("SignedIdentifiers")) ? 0 : -EBADMSG;
    case 1:
        return identifier_opens(t, name);
    default:
        field = field_of(t, xml, name);
        if (field && field->base) /* twice: which of them is meant? */
            return fault_at(t, AZ_INVALID_XML_DOCUMENT, name, SPAN(""));
        return field || (xml_depth(xml) == 2 && span_eq(name, SPAN("AccessPolicy")))
                   ? 0
                   : fault_at(t, AZ_UNSUPPORTED_XML_NODE, name, SPAN(""));
    }
}

static struct span xml_trimmed(struct span s)
{
    while (s.len && memchr(" \t\r\n", s.base[0], 4))
        s = span_skip(s, 1);
    while (s.len && memchr(" \t\r\n", s.base[s.len - 1], 4))
        s.len--;
    return s;
}

/* As the service shows it, in 100 ns; a year that does not fit stays as it was given. */
static int time_field(struct acl_texts *t, struct span name, struct span text, struct span *ret)
{
    char *shown;
    int64_t ns;

    if (iso8601_parse(text, &ns) < 0)
        return bad_value(t, name, text);
    if (ns == INT64_MIN || ns == INT64_MAX) {
        *ret = arena_copy(t->arena, text);
        return 0;
    }
    shown = arena_alloc(t->arena, ISO8601_BYTES + 1);
    iso8601_print(ns, shown);
    *ret = span_from(shown, ISO8601_BYTES);
    return 0;
}

static int permission_field(struct acl_texts *t, struct span text, struct span *ret)
{
    for (size_t i = 0; i < text.len; i++)
        if (!memchr(PERMISSION_LETTERS.base, text.base[i], PERMISSION_LETTERS.len))
            return bad_value(t, SPAN("Permission"), text);
    *ret = arena_copy(t->arena, text);
    return 0;
}

static int id_field(struct acl_texts *t, struct span text, struct span *ret)
{
    size_t units;

    if (!text.len || utf8_units(text, &units) < 0 || units > IDENTIFIER_UNITS_MAX)
        return bad_value(t, SPAN("Id"), text);
    for (unsigned i = 0; i + 1 < t->document->count; i++)
        if (span_eq(t->document->policies[i].id, text))
            return bad_value(t, SPAN("Id"), text);
    *ret = arena_copy(t->arena, text);
    return 0;
}

static int acl_ends(void *arg, struct xml *xml, struct span name, struct span text)
{
    struct acl_texts *t = arg;
    struct span *field = xml_depth(xml) >= 2 ? field_of(t, xml, name) : NULL;
    struct span said = xml_trimmed(text);

    if (!field && said.len)
        return -EBADMSG;
    if (xml_depth(xml) == 1 && !policy_at_hand(t)->id.len)
        return fault_at(t, AZ_MISSING_REQUIRED_XML_NODE, SPAN("Id"), SPAN(""));
    if (!field)
        return 0;
    if (field == &policy_at_hand(t)->id)
        return id_field(t, text, field); /* white space is part of it */
    if (field == &policy_at_hand(t)->permission)
        return permission_field(t, said, field);
    if (!said.len) { /* <Expiry />: not given */
        *field = SPAN("");
        return 0;
    }
    return time_field(t, name, said, field);
}

/* No body at all names no identifier. */
enum az_error acl_parse(struct span text, struct arena *arena, struct acl_document *ret,
                        struct xml_fault *fault)
{
    static const struct xml_ops ops = {acl_opens, acl_ends};
    struct acl_texts texts = {.arena = arena, .document = ret, .fault = fault};
    struct xml *xml;
    int err;

    *ret = (struct acl_document){.count = 0};
    if (!text.len)
        return AZ_OK;
    *fault = (struct xml_fault){.error = AZ_INVALID_XML_DOCUMENT};
    xml = xml_new(&ops, &texts);
    err = xml_feed(xml, text);
    if (!err)
        err = xml_end(xml);
    xml_free(xml);
    return err ? fault->error : AZ_OK;
}

static void emit_given(struct emit *e, struct span name, struct span text)
{
    if (!text.len)
        return;
    EMIT(e, "<");
    emit_span(e, name);
    EMIT(e, ">");
    emit_xml(e, text);
    EMIT(e, "</");
    emit_span(e, name);
    EMIT(e, ">");
}

void acl_emit(struct emit *e, const struct access_policy *policies, unsigned count)
{
    EMIT(e, "<?xml version=\"1.0\" encoding=\"utf-8\"?>");
    if (!count) {
        EMIT(e, "<SignedIdentifiers />");
        return;
    }
    EMIT(e, "<SignedIdentifiers>");
    for (unsigned i = 0; i < count; i++) {
        EMIT(e, "<SignedIdentifier>");
        emit_given(e, SPAN("Id"), policies[i].id);
        EMIT(e, "<AccessPolicy>");
        emit_given(e, SPAN("Start"), policies[i].start);
        emit_given(e, SPAN("Expiry"), policies[i].expiry);
        emit_given(e, SPAN("Permission"), policies[i].permission);
        EMIT(e, "</AccessPolicy></SignedIdentifier>");
    }
    EMIT(e, "</SignedIdentifiers>");
}
