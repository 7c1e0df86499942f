/* tests/unit/unit.h - cmocka with the headers it wants, in the order it wants them. */
#ifndef TESTS_UNIT_H
#define TESTS_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_span_equal(s, literal)                                                              \
    do {                                                                                           \
        struct span span_ = (s);                                                                   \
        assert_int_equal(span_.len, strlen(literal));                                              \
        assert_memory_equal(span_.base, literal, strlen(literal));                                 \
    } while (0)

#endif
