/* base/failpoint.h - named places where a test ends the process as kill -9 does. Any thread.
 *
 * FAILPOINT("name") is nothing unless built with -DHEARTH_FAILPOINTS (the asan flavour only). Built
 * in, HEARTH_FAILPOINT="name:n" in the environment makes the nth hit of that name, over all
 * threads, end the process by SIGKILL: nothing is written, closed or answered after it. A name
 * stands at one place; tests/faults/test_kill.py finds them in the sources. */
#ifndef BASE_FAILPOINT_H
#define BASE_FAILPOINT_H

#ifdef HEARTH_FAILPOINTS
#define FAILPOINT(name) failpoint_hit(name)
void failpoint_hit(const char *name);
#else
#define FAILPOINT(name) ((void)0)
#endif

#endif
