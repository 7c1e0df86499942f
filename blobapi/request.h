/* blobapi/request.h - what every handler shares: one client request on its way through the dialect.
 * Private to blobapi/. Loop thread, except where a field says worker.
 *
 * A request is one op in the arena of its exchange. The router (router.c) parses the target, finds
 * the row of operations.def, allocates that row's state (struct request is its first member) and
 * starts the common steps; the last of them goes on with the row's own first step. Handlers end in
 * one of return answer_empty(r, status)   return fail(r, AZ_...)   return cut(r)   or FINISH after
 * their last send.
 *
 * Sub-routines of steps take the step to go on with as `after`: find_blob (find.c), change_begin
 * and change_commit (change.c), receive_body (receive.c), send_emitted (respond.c); change_refill
 * (refill.c) goes back to change_begin's. */
#ifndef BLOBAPI_REQUEST_H
#define BLOBAPI_REQUEST_H

#include "blobapi/auth.h"
#include "blobapi/blobapi.h"
#include "blobapi/conditions.h"
#include "blobapi/emit.h"
#include "blobapi/errors.h"
#include "blobapi/exchange.h"
#include "blobapi/lease.h"
#include "blobapi/structured.h"
#include "blobapi/target.h"

#define PUT_BLOB_BYTES_MAX     MIB(5000)
#define PUT_BLOCK_BYTES_MAX    MIB(4000)
#define APPEND_BLOCK_BYTES_MAX MIB(100)
#define REQUEST_ID_BYTES       36
#define KEY_INFO_BYTES_MAX     4096 /* Get User Delegation Key */

struct request;

/* ---- the operation table (operations.def, router.c) ---- */

enum operation_id {
#define OPERATION(id, ...) OPERATION_##id,
#include "blobapi/operations.def"
#undef OPERATION
    OPERATIONS
};
enum method {
    METHOD_GET = 1,
    METHOD_HEAD = 2,
    METHOD_PUT = 4,
    METHOD_DELETE = 8,
    METHOD_POST = 16,
    METHOD_OPTIONS = 32
};
enum level { LEVEL_SERVICE = 1, LEVEL_CONTAINER = 2, LEVEL_BLOB = 4 };
#define LEVEL_ANY (LEVEL_SERVICE | LEVEL_CONTAINER | LEVEL_BLOB)
/* Which of several operations with the same method and comp: by headers. Rows stand in this order.
 */
enum when {
    WHEN_ALWAYS,
    WHEN_PUT_FROM_URL, /* x-ms-blob-type and x-ms-copy-source */
    WHEN_COPY_SYNC,    /* x-ms-copy-source and x-ms-requires-sync: true */
    WHEN_COPY_SOURCE,  /* x-ms-copy-source */
    WHEN_BLOCK_BLOB,   /* x-ms-blob-type: BlockBlob */
    WHEN_APPEND_BLOB,
    WHEN_PAGE_BLOB,
};
enum body_rule {
    BODY_NONE,   /* ignored if small, drained by the driver */
    BODY_XML,    /* (or multipart) up to body_max bytes, read by the handler into memory */
    BODY_STREAM, /* Content-Length needed (411), body_max bytes at most (413) */
};
/* Public access a container needs for who has no credentials; blob is less than container. */
enum anonymous { ANONYMOUS_NEVER, ANONYMOUS_BLOB, ANONYMOUS_CONTAINER };
/* Who answers, and what a change asks of the contract. On accounts without a cloud, and in scopes
 * that never leave the box, what the cloud promises elsewhere is answered by the row's handler. */
enum promise {
    PROMISE_NONE,
    PROMISE_CHANGE,     /* a change acknowledged here */
    PROMISE_CLOUD_READ, /* the cloud answers, always */
    PROMISE_CLOUD,      /* a change that the cloud makes, always */
    PROMISE_LEASE,      /* the cloud, if the contract says lease = cloud */
};

struct operation {
    struct span name; /* as Microsoft's documents call it; log and metrics */
    unsigned methods, levels;
    struct span restype, comp; /* empty: the parameter is absent */
    enum when when;
    struct span account_sas,
        service_sas; /* letters, any of which is enough; empty: not with that kind */
    enum body_rule body;
    uint64_t body_max;
    enum condition_rule conditions;
    enum promise promise;
    enum lease_rule lease;
    enum anonymous anonymous;
    size_t state_bytes;                  /* of the struct that begins with struct request */
    struct next (*start)(struct op *op); /* NULL: not served */
    void (*done)(struct request *r);     /* gives back what the state holds; NULL: nothing */
    enum az_error refusal;               /* what answers it when not served */
    struct span refusal_names;           /* the header or query parameter it speaks of */
};
extern const struct operation operations[OPERATIONS];

/* ---- one answer's headers ---- */

#define ANSWER_HEADERS_ROOM 40 /* enough for all but blobs with metadata; it doubles */
struct answer {
    struct header *headers;
    unsigned count, room;
};

/* ---- inputs that several operations have in common (inputs.c) ---- */

#define METADATA_BYTES_MAX 8192
#define METADATA_PAIRS_MAX 512 /* 8 KiB of names and values cannot be more worth having */
struct content_inputs { /* x-ms-blob-*; Put Blob falls back to the plain header. Empty: unset */
    struct span type, encoding, language, disposition, cache_control;
    struct span md5; /* 16 bytes or empty: x-ms-blob-content-md5 */
};
struct hash_inputs { /* of this request's body */
    bool has_md5, has_crc64;
    unsigned char md5[16];
    uint64_t crc64;
};

enum change_needs {
    CHANGE_PLAIN,      /* an overwrite: asks the cloud only if conditions depend on it */
    CHANGE_NEEDS_BLOB, /* 404 without one */
    CHANGE_OR_STAGED,  /* 404 without one, unless it has uncommitted blocks */
};

struct request {
    struct op op;
    struct exchange *http;
    struct blobapi *api;
    const struct operation *operation;
    struct target target;
    const struct account *account;
    const struct contract *contract; /* of container/blob, or of container/ */
    struct container *container;     /* a reference, once found */
    struct name name;
    struct conditions conditions;
    struct lease_use lease; /* what the operation asks of a lease, and x-ms-lease-id */
    struct granted granted; /* what the credentials allow */
    uint64_t started_ns;
    char id[REQUEST_ID_BYTES]; /* x-ms-request-id */
    struct span version;       /* x-ms-version of the answer */
    bool structured;           /* x-ms-structured-body: the body comes, or the answer goes, so */
    uint64_t content_bytes;    /* of the body, without what structures it */
    bool head_only;            /* HEAD: headers, no body */
    bool whole;                /* the answer is complete: keep the connection */
    bool head_sent;
    int status;

    /* answer (respond.c) */
    struct answer answer;
    enum az_error error;
    struct span culprit;            /* what no row fits for */
    struct span error_detail[3][2]; /* further elements of the error's XML */
    unsigned error_details;
    int source_status; /* what a copy source would have answered; 0: the error is not its */
    struct span source_code;
    struct emit *emit;     /* a body in buffers, given back by request_free */
    struct next emit_next; /* after emit_begin */
    struct iobuf *buf;     /* the one buffer being filled or awaited */

    /* find.c */
    struct blob *blob; /* a reference */
    int found;         /* 0, -ENOENT, or why it cannot be known */
    bool asked_cloud, stale;
    bool learned;   /* the version came with this request: a miss; revalidated it is a hit */
    uint64_t doubt; /* the number of the name's mark under which it was asked for */
    bool refetch;   /* ask the cloud even if what is known is fresh; find_blob clears it */
    unsigned asks;  /* rounds to the cloud, bounded by FIND_ROUNDS_MAX */
    struct range first;
    struct blob *newer;     /* what a revalidation gave */
    struct next find_after; /* each sub-routine of steps has its own place to go on */

    /* change.c */
    struct tx *tx;
    enum change_needs needs;
    unsigned change_rounds;
    bool taken_absent; /* asked within this change and told so, or silent and create-only */
    struct container
        *ordered; /* within a container's change: its last ordered record, or NULL; the tx's */
    struct next change_after;

    struct next gate_after; /* lease_use.c */

    struct refill *refill;         /* refill.c */
    struct source *source;         /* source.c */
    struct forward_state *forward; /* forward.c */
    struct transfer *transfer;     /* transfer.c */

    /* receive.c */
    struct receive *receive;
    struct next receive_after;

    struct timer timer; /* request_sleep */
};
#define REQUEST(op_) container_of((op_), struct request, op)

/* ---- router.c ---- */
struct blobapi {
    struct blobapi_conf conf;
    _Atomic unsigned waiting_for_space;
    _Atomic uint64_t batch_bytes;      /* of batches' bodies, batch.c */
    _Atomic unsigned transfers;        /* of large bodies, transfer.c */
    _Atomic unsigned receives;         /* of bodies from elsewhere, likewise */
    _Atomic uint64_t *silent_until_ns; /* per account, as in conf.accounts (find.c) */
};
/* The row for a method and target; NULL: *error (and for a query parameter or header, its name)
 * says why. */
const struct operation *operation_find(const struct exchange *http, const struct target *target,
                                       enum az_error *error, struct span *culprit);
/* Posts op.done after that time. Cancellable. */
void request_sleep(struct request *r, uint64_t ns);

/* ---- access.c: what a container's ACL says ---- */
/* Of a target whose SAS names a stored access policy (si): its container, a reference; else NULL.
 */
struct container *access_policies(const struct blobapi *api, const struct target *target,
                                  struct auth_request *check);
/* For a request without credentials: does the target's container let anybody do that? */
enum az_error access_anonymous(const struct blobapi *api, const struct target *target,
                               enum anonymous need, struct granted *ret);
/* The same of a whole request; its refusal depends on the version it speaks. */
enum az_error access_anonymous_request(struct request *r);
/* x-ms-blob-public-access of a request: "", "container" or "blob". */
enum az_error access_input(const struct request *r, struct span *ret, struct span *culprit);

/* ---- respond.c ---- */
void request_id_make(char ret[REQUEST_ID_BYTES]);
struct next fail(struct request *r, enum az_error error);
/* The same, with the header, query parameter or other element the error's XML names. */
struct next fail_header(struct request *r, enum az_error error, struct span name);
struct next fail_query(struct request *r, enum az_error error, struct span name);
struct next fail_detail(struct request *r, enum az_error error, struct span element,
                        struct span text);
struct next fail_errno(struct request *r, int err); /* logs what is a fault of ours */
struct next cut(struct request *r); /* the head is out: only a cut can still say "failed" */
/* The XML of r->error into r->emit. */
void error_emit(struct request *r);
/* Adds an element to the error that is about to be told. */
void request_detail(struct request *r, struct span element, struct span text);

void answer_add(struct request *r, struct span name, struct span value);
void answer_add_text(struct request *r, struct span name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void answer_date(struct request *r, struct span name, int64_t wall_ns);
void answer_etag(struct request *r, uint64_t etag);
void answer_u64(struct request *r, struct span name, uint64_t n);
void answer_base64(struct request *r, struct span name, struct span bytes);
void answer_crc64(struct request *r, uint64_t crc64);
void answer_metadata(struct request *r, const struct pair *pairs, unsigned n);
void answer_ok(struct request *r, int status,
               int64_t body_bytes); /* the head; body_bytes as in struct response */
struct next answer_empty(struct request *r, int status); /* a whole answer without body */
/* Makes r->emit with a first buffer of that class, then goes on. */
struct next emit_begin(struct request *r, enum iobuf_class class, struct next then);
/* Sends what r->emit holds as an XML body with that status, and ends the request. */
struct next answer_emitted(struct request *r, int status);

/* ---- inputs.c: AZ_OK, or the error; *culprit then is the header it speaks of, or empty ---- */
enum az_error metadata_inputs(struct request *r, const struct pair **ret, unsigned *ret_n);
/* with_plain: the ordinary headers count where the x-ms-blob- form is absent (Put Blob). */
enum az_error content_inputs(struct request *r, bool with_plain, struct content_inputs *ret,
                             struct span *culprit);
enum az_error hash_inputs(struct request *r, struct hash_inputs *ret, struct span *culprit);
/* Likewise of a copy source: x-ms-source-content-md5, -crc64. */
enum az_error source_hash_inputs(struct request *r, struct hash_inputs *ret, struct span *culprit);
/* x-ms-structured-body where the operation reads or sends one (refused elsewhere): sets
 * r->structured and r->content_bytes (the body's, before). */
enum az_error structured_inputs(struct request *r, struct span *culprit);
/* x-ms-copy-source-tag-option: COPY. */
bool tags_are_copied(const struct request *r);
/* Headers of features that are not served: silently leaving one out would be a wrong success. */
enum az_error unserved_inputs(struct request *r, struct span *culprit);

/* ---- forward.c: what the cloud answers (PROMISE_CLOUD...) ---- */
/* Has the account a cloud, and does that have what this request speaks of? */
bool request_scope_in_cloud(const struct request *r);
/* Is this operation the cloud's here? */
bool request_forwards(const struct request *r);
/* Sends the request on as it is and answers with what the cloud answers. The router calls it for
 * rows with a promise; a handler may for what its own judgement leaves to the cloud (archive),
 * before it has read the body or begun a change. */
struct next forward_start(struct op *op);
void forward_done(struct request *r); /* op->free; any state */

/* ---- find.c: the version a request speaks of ---- */
#define FIND_ROUNDS_MAX 3
/* Sets r->blob, r->found (0, -ENOENT, or the errno why it cannot be known) and r->stale.
 * first: the bytes the caller will read, asked for along with the properties of an unknown name. */
struct next find_blob(struct request *r, struct range first, struct next after);
/* The same for r->container by the target's name. */
struct next find_container(struct request *r, struct next after);
bool request_has_cloud(const struct request *r);
struct name request_name(const struct request *r); /* of the target, in the container found */

/* ---- change.c: one change, from its turn to durable ---- */
/* Begins and judges conditions and rights on the last ordered version: r->blob is it afterwards,
 * NULL if there is none. */
struct next change_begin(struct request *r, enum change_needs needs, struct next after);
/* For who has rolled back: its turn and judgement once more, at once, or when the cloud was asked
 * about the name. */
struct next change_again(struct request *r);
struct next change_ask_again(struct request *r);
/* Within the change: the blob's snapshots do not let it become one of another type (409). */
bool change_forbidden_type(const struct request *r, enum blob_type type);
/* A refusal that rests on what change_begin found; leaves when that is durable. */
struct next change_refuse(struct request *r, enum az_error error);
/* Adds the upload entry where the contract asks for one, commits, goes on when durable. */
struct next change_commit(struct request *r, enum upload_kind kind, struct next after);
/* Early refusal at the head, before a body is read: conditions on what is known by now. What has
 * expired is asked for again here; the change then judges what that taught. */
struct next change_preview(struct request *r, enum change_needs needs, struct next after);
void change_drop(struct request *r); /* op->free: rolls back what is still open */
/* Conditions on that version (NULL: there is none). */
enum az_error request_judge(const struct request *r, const struct blob *blob);

/* ---- lease_use.c: leases as requests meet them ---- */
/* Else the cloud does, and what it told last is all that is known of one. */
bool leases_granted_here(const struct account *account, const struct contract *contract);
struct lease_now lease_now_of(const struct request *r, const struct account *account,
                              const struct contract *contract, const struct lease *lease);
/* Lease Blob, Lease Container: who may only delete may only break. */
bool lease_permitted(const struct request *r);
/* Sets r->lease. AZ_OK or AZ_INVALID_HEADER_VALUE. */
enum az_error lease_id_input(struct request *r, struct span *culprit);
/* May the operation, as far as that lease goes (NULL: what it would be of is not there)? A 412. */
enum az_error lease_verdict(const struct request *r, const struct lease *lease);
enum az_error lease_verdict_blob(const struct request *r); /* on r->blob, or NULL */
/* The verdict for who writes without a change (Put Block), on what is published. Leaves r->blob
 * NULL, as it was. */
struct next lease_gate(struct request *r, struct next after);
/* What the next version of r->blob has of its lease: a writer sets it in the record. */
struct lease lease_kept(const struct request *r);
/* x-ms-lease-* of the request's blob or container: of ours, or where leases are the cloud's, as
 * told. */
void lease_headers(struct request *r, const struct lease *lease, enum cloud_lease told);
/* The same in a list's row; any thread. blob empty: the container's own. */
void emit_lease(const struct request *r, struct span container, struct span blob,
                const struct lease *lease, enum cloud_lease told, struct emit *e);

/* ---- refill.c: bytes that a change needs and only the cloud has ---- */
struct refill {
    struct blob *from;   /* another version than r->blob, whose bytes are kept; the caller's */
    struct next changed; /* and where to go when the cloud has another one by now */
    const struct piece *pieces; /* as tx_blocks left them: those with a length are absent */
    size_t count, at;
    unsigned rounds;
    struct range run;      /* of r->blob: absent ones in a row, being kept */
    struct reader *reader; /* of it */
    struct slice nothing;
    uint64_t gap; /* start of the last one asked for */
    unsigned asks;
};
/* Rolls the change back, brings the bytes onto the devices, begins again as change_begin did. */
struct next change_refill(struct request *r, struct refill *refill);
void refill_done(struct request *r); /* op->free; any state */

/* ---- document.c: a small XML body, whole in r->buf ---- */
#define DOCUMENT_BYTES_MAX KIB(64)
struct xml_fault { /* what an XML body was refused for; node, value: empty when they say nothing */
    enum az_error error;
    struct span node, value;
};
/* Reads the whole body (operation->body_max, at most DOCUMENT_BYTES_MAX) and checks it against
 * Content-MD5 and x-ms-content-crc64. */
struct next receive_document(struct request *r, struct next after);
struct span document_text(const struct request *r); /* valid until document_drop */
void document_drop(struct request *r);
struct next fail_xml(struct request *r, const struct xml_fault *fault);

/* ---- receive.c: a body into an object ---- */
struct receive {
    struct hash_inputs want;
    bool want_md5; /* compute it even if none was given */
    bool staged;
    uint64_t received;
    struct object *object; /* a reference; NULL for an empty body */
    unsigned char md5[16];
    uint64_t crc64;
    struct writer *writer;
    struct md5_chain *chain;
    uint64_t space_deadline_ns;
    struct structured_in structured; /* when r->structured */
    uint32_t decoded;                /* of the buffer being filled */
};
/* Receives the whole body, decoded if it is structured, and checks it against want; fails the
 * request where it does not fit. */
struct next receive_body(struct request *r, struct receive *receive, struct next after);
void receive_done(struct request *r); /* op->free; any state */

#endif
