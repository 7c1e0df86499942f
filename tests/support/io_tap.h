/* tests/support/io_tap.h - a wrapper around simulated devices that is told before each write and
 * flush and counts what each flush was for. */
#ifndef TESTS_IO_TAP_H
#define TESTS_IO_TAP_H

#include <stdatomic.h>

#include "cache/io.h"

enum io_tap_kind { TAP_WRITE, TAP_FLUSH };
struct io_tap {
    struct io_ops ops;
    const struct io_ops *inner;
    /* Any thread, before the operation; flushes of log records only are numbered from 1, others 0.
     */
    void (*before)(void *arg, enum io_tap_kind kind, uint64_t log_flush);
    void *arg;
    uint64_t log_flush_skip; /* mutant: this log flush reports success and does nothing */
    _Atomic uint64_t log_flushes;
    _Atomic bool log_written; /* since the last flush */
};
void io_tap_init(struct io_tap *tap, const struct io_ops *inner);

#endif
