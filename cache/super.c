/* cache/super.c - superblock bytes. Two copies, 1 MiB apart; a write goes to copy `sequence % 2`,
 * so the newest good one is never overwritten: a torn or lost write leaves the one before it. */
#include "cache/super.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc64.h"

#define SUPER_MAGIC "HRTHSUPR"

enum { /* byte offsets, see FORMAT.md */
       AT_MAGIC = 0,
       AT_FORMAT = 8,
       AT_ROLE = 12,
       AT_FLAGS = 13,
       AT_DEVICE = 14,
       AT_COMPAT = 16,
       AT_RO_COMPAT = 24,
       AT_INCOMPAT = 32,
       AT_SEQUENCE = 40,
       AT_BOX = 48,
       AT_INDEX = 64,
       AT_DEVICE_UUID = 80,
       AT_BYTES = 96,
       AT_NODE = 104,
       AT_EPOCH = 108,
       AT_ANSWERED = 112,
       AT_DEVICE_COUNT = 120,
       AT_DEVICES = 128,
       AT_CRC = SUPER_BYTES - 8,
};
static_assert(AT_DEVICES + DEVICES_MAX * 16 <= AT_CRC, "device table fits");

enum { FLAG_CLEAN = 1, FLAG_FRESH = 2 };

static void uuid_put(char *at, const uint64_t uuid[2])
{
    le64_put(at, uuid[0]);
    le64_put(at + 8, uuid[1]);
}

static void uuid_get(const char *at, uint64_t uuid[2])
{
    uuid[0] = le64_get(at);
    uuid[1] = le64_get(at + 8);
}

void super_encode(const struct super *super, void *page)
{
    char *p = page;

    memset(p, 0, SUPER_BYTES);
    memcpy(p + AT_MAGIC, SUPER_MAGIC, 8);
    le32_put(p + AT_FORMAT, super->format);
    p[AT_ROLE] = (char)super->role;
    p[AT_FLAGS] =
        (char)((super->state.clean ? FLAG_CLEAN : 0) | (super->state.fresh ? FLAG_FRESH : 0));
    le16_put(p + AT_DEVICE, super->device);
    le64_put(p + AT_COMPAT, super->compat);
    le64_put(p + AT_RO_COMPAT, super->ro_compat);
    le64_put(p + AT_INCOMPAT, super->incompat);
    le64_put(p + AT_SEQUENCE, super->sequence);
    uuid_put(p + AT_BOX, super->state.box_uuid);
    uuid_put(p + AT_INDEX, super->state.index_uuid);
    uuid_put(p + AT_DEVICE_UUID, super->device_uuid);
    le64_put(p + AT_BYTES, super->bytes);
    le32_put(p + AT_NODE, super->state.node);
    le32_put(p + AT_EPOCH, super->state.epoch);
    le64_put(p + AT_ANSWERED, super->state.answered);
    le16_put(p + AT_DEVICE_COUNT, super->device_count);
    for (unsigned i = 0; i < super->device_count; i++)
        uuid_put(p + AT_DEVICES + i * 16, super->devices[i]);
    le64_put(p + AT_CRC, crc64(0, p, AT_CRC));
}

static void fields_get(const char *p, struct super *ret)
{
    ret->role = (uint8_t)p[AT_ROLE];
    ret->device = le16_get(p + AT_DEVICE);
    ret->compat = le64_get(p + AT_COMPAT);
    ret->ro_compat = le64_get(p + AT_RO_COMPAT);
    ret->incompat = le64_get(p + AT_INCOMPAT);
    ret->sequence = le64_get(p + AT_SEQUENCE);
    uuid_get(p + AT_BOX, ret->state.box_uuid);
    uuid_get(p + AT_INDEX, ret->state.index_uuid);
    uuid_get(p + AT_DEVICE_UUID, ret->device_uuid);
    ret->bytes = le64_get(p + AT_BYTES);
    ret->state.node = le32_get(p + AT_NODE);
    ret->state.epoch = le32_get(p + AT_EPOCH);
    ret->state.answered = le64_get(p + AT_ANSWERED);
    ret->state.clean = p[AT_FLAGS] & FLAG_CLEAN;
    ret->state.fresh = p[AT_FLAGS] & FLAG_FRESH;
    ret->device_count = le16_get(p + AT_DEVICE_COUNT);
}

static bool all_zero(const char *p, size_t bytes)
{
    return p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0;
}

int super_decode(const void *page, struct super *ret)
{
    const char *p = page;
    struct super super = {0};

    if (memcmp(p + AT_MAGIC, SUPER_MAGIC, 8) != 0 && all_zero(p, AT_CRC))
        return all_zero(p, SUPER_BYTES) ? -ENODATA : -EUCLEAN; /* the first write, torn */
    if (memcmp(p + AT_MAGIC, SUPER_MAGIC, 8) != 0)
        return -EMEDIUMTYPE;
    if (le64_get(p + AT_CRC) != crc64(0, p, AT_CRC))
        return -EUCLEAN;
    super.format = le32_get(p + AT_FORMAT);
    if (super.format != SUPER_FORMAT) {
        ret->format = super.format;
        return -EPROTONOSUPPORT;
    }
    fields_get(p, &super);
    if (super.device_count > DEVICES_MAX || super.device >= super.device_count ||
        super.role != SUPER_ROLE_DATA)
        return -EUCLEAN;
    for (unsigned i = 0; i < super.device_count; i++)
        uuid_get(p + AT_DEVICES + i * 16, super.devices[i]);
    *ret = super;
    return 0;
}

/* Of two copies that are no superblock: what must be told. Formatting writes both copies, one after
 * the other: a damaged one beside zeros is a first format that was cut, so the device is blank. */
static int worse(int a, int b)
{
    static const int order[] = {-EPROTONOSUPPORT, -EMEDIUMTYPE, -ENODATA, -EUCLEAN};

    for (unsigned i = 0; i < countof(order); i++)
        if (a == order[i] || b == order[i])
            return order[i];
    return a;
}

static int copies_judge(struct io *io, char *page, struct super *ret)
{
    struct super copy[2] = {{0}};
    int err[2], unread = 0;

    for (int i = 0; i < 2; i++) {
        err[i] = io->ops->read(io, page, SUPER_BYTES, (uint64_t)i * SUPER_COPY_DISTANCE);
        unread = err[i] ? err[i] : unread;
        if (!err[i])
            err[i] = super_decode(page, &copy[i]);
    }
    if (unread && err[0] && err[1])
        return unread; /* nobody knows what the device holds: it is not blank */
    if (err[0] == -EPROTONOSUPPORT || err[1] == -EPROTONOSUPPORT || (err[0] && err[1])) {
        ret->format = err[0] == -EPROTONOSUPPORT ? copy[0].format : copy[1].format;
        return worse(err[0], err[1]);
    }
    *ret = err[1] || (!err[0] && copy[0].sequence > copy[1].sequence) ? copy[0] : copy[1];
    return 0;
}

int super_read(struct io *io, struct super *ret)
{
    _cleanup_(freep) char *page = xaligned(IO_ALIGN, SUPER_BYTES);

    return copies_judge(io, page, ret);
}

int super_write(struct io *io, const struct super *super)
{
    _cleanup_(freep) char *page = xaligned(IO_ALIGN, SUPER_BYTES);

    super_encode(super, page);
    return io->ops->write(io, page, SUPER_BYTES, super->sequence % 2 * SUPER_COPY_DISTANCE);
}
