/* blobapi/handlers.h - the first step and the state of each operation that is served; one file
 * each. */
#ifndef BLOBAPI_HANDLERS_H
#define BLOBAPI_HANDLERS_H

#include "blobapi/batch_run.h"
#include "blobapi/block_list.h"
#include "blobapi/range.h"
#include "blobapi/request.h"
#include "blobapi/source.h"
#include "blobapi/transfer.h"

/* ---- what several share ---- */

/* blob_headers.c: the headers of Get Blob and Get Blob Properties but for length, range and hashes.
 */
void blob_headers(struct request *r, const struct blob *blob);
/* x-hearth-cache, -durability, -age; missed: bytes or properties came from the cloud for this
 * request. */
void hearth_headers(struct request *r, const struct blob_record *record, bool missed);
/* The content is the cloud's: its blocks and its tier are not known here. */
bool content_learned(const struct blob_record *record);
/* As the cloud told, where leases are its. */
struct lease_told {
    struct span state, status, duration; /* duration empty: none is told */
};
struct lease_told lease_told(const struct contract *contract, enum cloud_lease lease);
/* x-ms-lease-* of the request's blob or container. */
void lease_headers(struct request *r, enum cloud_lease lease);
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
struct next delete_start(struct op *op);

struct put_blob {
    struct request r;
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
struct next put_block_url_start(struct op *op);
void put_block_url_done(struct request *r);

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
    bool properties; /* the source's go along */
    bool by_reference;
};
struct next copy_start(struct op *op);
void copy_done(struct request *r);
struct next abort_copy_start(struct op *op);

struct put_block_list {
    struct request r;
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

struct list_blobs {
    struct request r;
    struct span prefix, delimiter, marker;
    struct span from; /* the next row that may appear; malloc'ed by the cache or in the arena */
    uint64_t max;
    bool metadata, uncommitted, copy;
    bool has_max;
    bool offline;
    unsigned rounds; /* to the cloud */
    unsigned rows;
    struct list_end end;
    struct span next; /* NextMarker's name; in the arena */
};
struct next list_blobs_start(struct op *op);
void list_blobs_done(struct request *r);

#endif
