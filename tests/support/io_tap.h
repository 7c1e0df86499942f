/* tests/support/io_tap.h - a wrapper around simulated devices that is told before each write and
 * flush, knows what each flush is for, and leaves flushes out (mutants).
 *
 * Each place of the engine that flushes has a class, told by what its thread wrote to the device
 * since it last flushed it: a superblock, a slab's header, a cut record, nothing. Flushers never
 * read or write. Devices are numbered by the last character of their path. */
#ifndef TESTS_IO_TAP_H
#define TESTS_IO_TAP_H

#include <stdatomic.h>

#include "cache/io.h"

#define TAP_DEVICES 4

enum io_tap_kind { TAP_WRITE, TAP_FLUSH };
enum io_tap_flush {
    TAP_NONE,       /* no flush */
    TAP_START,      /* commit_start.c: what a killed process left in the device's cache */
    TAP_SUPER,      /* slab_open.c: a superblock */
    TAP_SLAB_LARGE, /* slab.c: a slab's header, by the kind it becomes */
    TAP_SLAB_SMALL,
    TAP_SLAB_LOG,
    TAP_EPOCH, /* log.c: the cut record that begins an epoch */
    TAP_LOG,   /* commit.c: a round, on a device that has the log (and data) */
    TAP_DATA,  /* commit.c: a round, on a device that has only data */
    TAP_FLUSHES
};
const char *io_tap_name(enum io_tap_flush flush);

struct io_tap_event {
    enum io_tap_kind kind;
    enum io_tap_flush flush;
    unsigned device;
    uint64_t number; /* of flushes of that class, from 1 */
    bool skipped;
};
/* Mutant: these flushes report success and do nothing. flush TAP_NONE: none. */
struct io_tap_skip {
    enum io_tap_flush flush;
    unsigned devices; /* bit per device; 0: all */
    uint64_t number;  /* 0: all */
};
struct io_tap {
    struct io_ops ops;
    const struct io_ops *inner;
    void (*before)(void *arg, const struct io_tap_event *event); /* any thread; may be NULL */
    void *arg;
    struct io_tap_skip skip;
    _Atomic uint64_t flushes[TAP_FLUSHES], skipped;
};
void io_tap_init(struct io_tap *tap, const struct io_ops *inner);

#endif
