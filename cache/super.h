/* cache/super.h - the superblock: who a device is and which box it belongs to. Pure encoding and
 * the blocking read and write of its two copies; binding devices to a box is in slab_open.c. Bytes:
 * cache/FORMAT.md. */
#ifndef CACHE_SUPER_H
#define CACHE_SUPER_H

#include "cache/io.h"
#include "cache/slab.h"

#define SUPER_BYTES         4096u
#define SUPER_COPY_DISTANCE (1u << 20) /* copy 0 at 0, copy 1 here */
#define SUPER_FORMAT        1u
#define SUPER_COMPAT        ((uint64_t)0) /* feature bits this program knows */
#define SUPER_RO_COMPAT     ((uint64_t)0)
#define SUPER_INCOMPAT      ((uint64_t)0)

enum super_role { SUPER_ROLE_DATA = 1 }; /* slabs of all kinds */

struct super {
    uint32_t format; /* version of everything on the device */
    uint64_t compat, ro_compat, incompat;
    uint64_t sequence; /* of the box: each write of superblocks has the next one */
    uint64_t device_uuid[2];
    uint16_t device; /* number, never reused */
    uint8_t role;
    uint64_t bytes; /* size the device was opened with */
    struct super_state state;
    uint16_t device_count;            /* numbers given out so far */
    uint64_t devices[DEVICES_MAX][2]; /* their uuids */
};

void super_encode(const struct super *super, void *page);
/* -ENODATA all zeros; -EMEDIUMTYPE not a superblock of ours; -EUCLEAN damaged; -EPROTONOSUPPORT
 * another format version (then ret->format is set). */
int super_decode(const void *page, struct super *ret) must_check;
/* Blocking. The newer good copy; errors as super_decode when there is none, of the copy that says
 * most. */
int super_read(struct io *io, struct super *ret) must_check;
/* Blocking. Overwrites the older copy (by super->sequence); not flushed. */
int super_write(struct io *io, const struct super *super) must_check;

#endif
