/* A test harness in one header, for C99 and later and for C++.
 *
 * A test is a function; RUN calls it and counts it as failed when a CHECK in it failed. CHECKs belong to the
 * main thread: other threads leave what they found where the main thread can check it after joining them. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "onceflight.h"

/* Longer than any test takes on the slowest machine under valgrind: only a hang gets there. */
#define HANG_SECONDS 300

static int check_passed, check_failed, check_broken;

#define CHECK(condition) \
    check_that((condition) ? 1 : 0, #condition, __FILE__, __LINE__)

/* A result code, told by name when it is another. */
#define EXPECT(code, call) \
    check_code((code), (call), #call, __FILE__, __LINE__)

/* What the rest of the test stands on: no point in going on without it. */
#define REQUIRE(condition)                                                  \
    do {                                                                    \
        if (!check_that((condition) ? 1 : 0, #condition, __FILE__, __LINE__)) { \
            fflush(NULL);                                                   \
            _exit(2);                                                       \
        }                                                                   \
    } while (0)

#define RUN(test) check_run(#test, test)

static inline int check_that(int holds, const char *what, const char *file, int line)
{
    if (!holds) {
        check_broken++;
        fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    }
    return holds;
}

static inline int check_code(int32_t expected, int32_t actual, const char *what, const char *file, int line)
{
    if (expected == actual)
        return 1;
    check_broken++;
    fprintf(stderr, "%s:%d: %s: expected %s (%" PRId32 "), got %s (%" PRId32 ")\n", file, line, what,
            onceflight_err_name(expected), expected, onceflight_err_name(actual), actual);
    return 0;
}

static inline void check_run(const char *name, void (*test)(void))
{
    int before = check_broken;
    alarm(HANG_SECONDS);
    test();
    alarm(0);
    if (check_broken == before) {
        check_passed++;
    } else {
        check_failed++;
        printf("  FAILED %s\n", name);
    }
    fflush(NULL);
}

static inline int check_done(const char *program)
{
    printf("%s: %d passed, %d failed\n", program, check_passed, check_failed);
    return check_failed == 0 ? 0 : 1;
}

#endif
