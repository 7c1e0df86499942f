/* blobapi/handlers.h - the first step and the state of each operation that is served; one file
 * each. */
#ifndef BLOBAPI_HANDLERS_H
#define BLOBAPI_HANDLERS_H

#include "blobapi/batch_run.h"
#include "blobapi/block_list.h"
#include "blobapi/range.h"
#include "blobapi/request.h"
#include "blobapi/service.h"
#include "blobapi/source.h"
#include "blobapi/transfer.h"
#include "blobapi/tags.h"

/* ---- what several share ---- */

/* blob_headers.c: the headers of Get Blob and Get Blob Properties but for length, range and hashes.
 */
void blob_headers(struct request *r, const struct blob *blob);
/* x-hearth-cache, -durability, -age; missed: bytes or properties came from the cloud for this
 * request. */
void hearth_headers(struct request *r, const struct blob_record *record, bool missed);
/* The content is the cloud's: its blocks and its tier are not known here. */
bool content_learned(const struct blob_record *record);
/* What writes answer: ETag, Last-Modified, x-ms-request-server-encrypted, x-hearth-durability. */
void written_headers(struct request *r, const struct blob_record *record);
/* find_blob's result as a read wants it: not found, conditions and lease judged. 0: go on. */
enum az_error read_verdict(struct request *r);
/* A record with these headers and metadata; the rest is the caller's. */
void record_describe(struct blob_record *record, const struct content_inputs *content,
                     const struct pair *metadata, unsigned metadata_count);
/* A new version's record; content and headers are the caller's, the rest the cache's. */
struct blob_record record_new(const struct request *r);

/* ---- account ---- */
struct next account_info_start(struct op *op);
struct next service_properties_start(struct op *op);
struct next preflight_start(struct op *op);

struct set_service {
    struct request r;
    struct service_document document;
    struct service *from; /* what the change is made of; a reference */
    unsigned rounds;
};
struct next set_service_start(struct op *op);
void set_service_done(struct request *r);

struct user_delegation_key {
    struct request r;
    struct xml *xml;
    uint64_t received;
    struct span start, expiry, delegated_tenant; /* as asked; in the arena */
    struct delegation name;
};
struct next user_delegation_key_start(struct op *op);
void user_delegation_key_done(struct request *r);

struct list_containers {
    struct request r;
    struct span prefix, marker, from;
    uint64_t max;
    bool metadata;
    bool asked;       /* the cloud's containers have been asked for */
    struct span next; /* the first container of the next page; in the arena */
    unsigned rows;
};
struct next list_containers_start(struct op *op);

#define BATCH_BOUNDARY "batchresponse_" /* object_store looks for it */
struct batch {
    struct request r;
    struct span boundary; /* of the request */
    char *text;           /* the body; malloc'ed */
    size_t len, room;
    uint64_t reserved, deadline_ns; /* of api->batch_bytes */
    struct batch_run run;
    unsigned at; /* the part being sent; run.count: the closing delimiter */
    struct span closing;
};
struct next batch_start(struct op *op);
void batch_done(struct request *r);

/* ---- containers ---- */
struct container_change {
    struct request r;
    struct container_record record;
};
struct next create_container_start(struct op *op);
struct next delete_container_start(struct op *op);
struct next set_container_metadata_start(struct op *op);
struct next get_container_start(struct op *op);
struct lease_request { /* Lease Container, Lease Blob */
    struct request r;
    struct lease_asked asked;
    struct lease_outcome outcome;
    struct span id_text;         /* the id it has afterwards, as the client writes it */
    char made[REQUEST_ID_BYTES]; /* one of ours, where none was proposed */
    uint64_t etag;
    int64_t modified_ns;
};
struct next lease_start(struct op *op);
struct next get_container_acl_start(struct op *op);
struct next set_container_acl_start(struct op *op);

/* container.c: a change of one, from its turn to durable. judged finds r->ordered set. */
struct next container_change(struct request *r, struct next judged);
/* Existence, lease, conditions by date: what a change of an existing container has in common. */
enum az_error container_verdict(const struct request *r);
struct next container_commit(struct container_change *c, enum upload_kind kind, struct next after);

/* acl_xml.c: the identifiers of a Set Container ACL body; texts lie in the arena. */
struct acl_document {
    struct access_policy policies[ACCESS_POLICIES_MAX];
    unsigned count;
};
enum az_error acl_parse(struct span text, struct arena *arena, struct acl_document *ret,
                        struct xml_fault *fault) must_check;
void acl_emit(struct emit *e, const struct access_policy *policies, unsigned count);

/* ---- blobs ---- */
struct get_blob {
    struct request r;
    struct range_request asked;
    struct range range; /* what is sent */
    struct reader *reader;
    struct slice slice; /* the one just read */
    uint64_t given;     /* bytes the reader gave */
    struct slice *held; /* read, not sent: the withheld end */
    unsigned held_count, held_room, held_sent;
    bool unchecked; /* some bytes given are still to be confirmed */
    bool missed;
    unsigned restarts; /* the cloud's version changed before anything was sent */
    unsigned refills;  /* asked of the cloud since the reader last gave anything */
    bool hashing;      /* first pass over the range: for its hash, nothing is sent */
    struct md5 *hash;  /* running; NULL when no MD5 is asked for */
    unsigned char md5[16];
    uint64_t crc64;
    struct structured_out structured; /* when r.structured; begins with the head */
};
struct next get_start(struct op *op);
void get_done(struct request *r);
struct next head_start(struct op *op);

struct delete_blob {
    struct request r;
    enum { DELETE_BASE, DELETE_INCLUDE, DELETE_ONLY } snapshots; /* x-ms-delete-snapshots */
    uint64_t snapshot;  /* the one that is to go; 0: the blob itself */
    struct blob *found; /* that one; the change's */
};
struct next delete_start(struct op *op);

struct snapshot_blob {
    struct request r;
    struct blob *copied; /* the version whose bytes `transfer` copies; a reference */
    struct transfer transfer;
    const struct pair *metadata;
    unsigned metadata_count;
    unsigned rounds; /* it was overwritten while its bytes were copied */
    struct snapshot_made made;
};
struct next snapshot_start(struct op *op);
void snapshot_done(struct request *r);

struct put_blob {
    struct request r;
    enum access_tier tier;
    struct receive receive;
    struct blob_record record;
    struct content_inputs content;
    struct piece piece;
};
struct next put_blob_start(struct op *op);

struct put_block {
    struct request r;
    struct receive receive;
    char id[BLOCK_ID_BYTES_MAX];
    size_t id_len;
};
struct next put_block_start(struct op *op);

/* blockid= of the query. AZ_OK, or the error that fail_query tells of it. */
enum az_error block_id_input(const struct request *r, char ret[BLOCK_ID_BYTES_MAX],
                             size_t *ret_len);
/* 400 as the service says it of a block without bytes. */
struct next fail_empty_block(struct request *r);
/* What cache_stage came to. md5 NULL: none was asked for. */
struct next put_block_answer(struct request *r, int err, const unsigned char *md5, uint64_t crc64);
struct put_block_url {
    struct request r;
    struct source source;
    struct transfer transfer;
    struct hash_inputs want;
    struct range_request range;
    uint64_t crc64;
    char id[BLOCK_ID_BYTES_MAX];
    size_t id_len;
};
/* The source, its range and hash of a block from a URL; AZ_OK, or what fail_source_input tells. */
enum az_error block_url_inputs(struct request *r, struct source *source,
                               struct range_request *range, struct hash_inputs *want,
                               struct span *culprit);
struct next put_block_url_start(struct op *op);
void put_block_url_done(struct request *r);

/* Is what becomes of an append blob this box's alone? Elsewhere it is refused. */
bool append_is_served(const struct request *r);
struct put_append { /* Put Blob of an append blob */
    struct request r;
    struct blob_record record;
    struct content_inputs content;
};
struct next put_append_start(struct op *op);

struct append_conditions { /* x-ms-blob-condition-appendpos, -maxsize */
    bool has_position, has_max;
    uint64_t position, bytes_max;
};
enum az_error append_conditions(struct request *r, struct append_conditions *ret,
                                struct span *culprit);
struct append_block { /* Append Block, Append Block From URL */
    struct request r;
    struct append_conditions conditions;
    struct hash_inputs want;
    struct receive receive;
    struct source source;
    struct transfer transfer;
    struct range_request range;
    struct piece piece; /* a reference, until tx_append takes it */
    struct blob_record record;
    uint64_t offset, crc64;
    unsigned char md5[16];
};
struct next append_block_start(struct op *op);
void append_block_done(struct request *r);
struct seal_blob {
    struct request r;
    struct append_conditions conditions;
    struct blob_record record;
};
struct next seal_start(struct op *op);

struct copy_blob { /* Copy Blob, Copy Blob From URL, Put Blob From URL */
    struct request r;
    struct source source;
    struct transfer transfer;
    struct refill refill;
    struct piece all; /* for refill: the whole source */
    struct hash_inputs want;
    struct blob_record record;
    struct content_inputs content;
    const struct pair *metadata;
    unsigned metadata_count;
    struct span tags;
    bool properties; /* the source's go along */
    bool copies_tags;
    enum access_tier tier;
    bool by_reference;
};
struct next copy_start(struct op *op);
void copy_done(struct request *r);
struct next abort_copy_start(struct op *op);

struct put_block_list {
    struct request r;
    enum access_tier tier;
    struct hash_inputs want;
    struct block_list *parser;
    struct md5 *md5;
    unsigned char md5_got[16];
    uint64_t crc64, received;
    const struct block_ref *blocks;
    size_t count, bad;
    struct piece *pieces; /* references, until tx_put takes them */
    struct refill refill;
    struct blob_record record;
    struct content_inputs content;
};
struct next put_block_list_start(struct op *op);
void put_block_list_done(struct request *r);

struct get_block_list {
    struct request r;
    bool committed, uncommitted; /* which sections are asked for */
    bool committed_open, committed_ended, uncommitted_open;
    bool staged; /* there are uncommitted blocks, asked for or not */
};
struct next get_block_list_start(struct op *op);

struct describe_blob {
    struct request r;
    struct blob_record record;
    struct content_inputs content;
    const struct pair *metadata;
    unsigned metadata_count;
};
struct next set_properties_start(struct op *op);
struct next set_metadata_start(struct op *op);
struct next get_metadata_start(struct op *op);

struct find_tags { /* Find Blobs by Tags, of an account or a container */
    struct request r;
    struct span where, marker, within; /* within: @container */
    const struct tag_expression *filter;
    uint64_t max, rows, looked;
    bool has_max;
    struct span from_container, from; /* the next row to be looked at */
    struct span next;                 /* likewise where the page ends; base NULL: nothing is left */
    struct list_end end;
};
struct next find_tags_start(struct op *op);
void find_tags_done(struct request *r);

struct set_tier {
    struct request r;
    enum access_tier tier;
    bool rehydrates;
};
struct next set_tier_start(struct op *op);
/* x-ms-access-tier (absent: ACCESS_TIER_NONE) and x-ms-rehydrate-priority. */
enum az_error tier_inputs(struct request *r, enum access_tier *ret, struct span *culprit);
void record_set_tier(struct blob_record *record, enum access_tier tier);
struct tier_shown {
    struct span name; /* empty: not known, nothing is shown */
    bool inferred;
    int64_t changed_ns;         /* 0: not shown */
    struct span archive_status; /* empty: none */
};
struct tier_shown tier_shown(const struct blob_record *b);
void tier_headers(struct request *r, const struct blob_record *b);
enum az_error tier_verdict(const struct blob_record *b); /* AZ_BLOB_ARCHIVED: no bytes of it */

struct set_tags {
    struct request r;
    struct hash_inputs want;
    struct md5 *md5;
    uint64_t crc64, received;
    struct tags_reader *reader;
    struct span tags;
};
struct next set_tags_start(struct op *op);
void set_tags_done(struct request *r);
struct next get_tags_start(struct op *op);

struct list_blobs {
    struct request r;
    struct span prefix, delimiter, marker;
    struct span from; /* the next row that may appear; malloc'ed by the cache or in the arena */
    uint64_t max;
    bool metadata, uncommitted, copy, snapshots, tags;
    bool has_max;
    bool offline;
    unsigned rounds; /* to the cloud */
    unsigned rows;
    struct list_end end;
    struct span next; /* NextMarker's place; in the arena */
};
struct next list_blobs_start(struct op *op);
void list_blobs_done(struct request *r);

#endif
