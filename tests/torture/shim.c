/* Stands between the program and the C library, and lets it meet what a machine may do to it: an instant to die at, a disk
 * that fails or is full, a write that is torn in two, a clock that is wrong or jumps.
 *
 * TORTURE_RULES    one rule a line: CALL PART AFTER TIMES ACTION
 *                  CALL    open, read, write, sync, truncate
 *                  PART    of the path, "-" any
 *                  AFTER   how many such calls are let through first
 *                  TIMES   how many are struck then, 0 all of them
 *                  ACTION  signal:N, torn:N (half of a write, then the signal), errno:N, clock:SECONDS
 * TORTURE_CLOCK    seconds that the program's clock is ahead of the machine's
 * TORTURE_REPORT   a file that gets a line with the number of a rule each time it strikes
 *
 * Calls are counted by the rules that match them, so that the same program meets its end at the same place again.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MOST 16

struct rule {
    char call[12], part[64], action[12];
    long after, times;
    double value;
    atomic_long seen;
};

static struct rule rules[MOST];
static int count;
static int report = -1;
static _Atomic double ahead;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("TORTURE_RULES"), *clock = getenv("TORTURE_CLOCK"), *path = getenv("TORTURE_REPORT");
    if (clock) ahead = atof(clock);
    if (path) report = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    while (text && *text && count < MOST) {
        struct rule *rule = &rules[count];
        if (sscanf(text, "%11s %63s %ld %ld %11[a-z]:%lf", rule->call, rule->part, &rule->after, &rule->times,
                   rule->action, &rule->value) == 6)
            count++;
        text = strchr(text, '\n');
        if (text) text++;
    }
}

/* Return what the call comes to: 0 nothing, else the errno; `torn` is set to the signal that is to follow half of a write. */
static int strike(const char *call, const char *path, int fd, int *torn) {
    char link[32], name[PATH_MAX] = "";
    int outcome = 0;
    for (int each = 0; each < count; each++) {
        struct rule *rule = &rules[each];
        if (strcmp(rule->call, call)) continue;
        if (strcmp(rule->part, "-")) {
            if (!path && !*name) {
                snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
                long length = syscall(SYS_readlinkat, AT_FDCWD, link, name, sizeof name - 1);
                name[length > 0 ? length : 0] = 0;
            }
            if (!strstr(path ? path : name, rule->part)) continue;
        }
        long seen = atomic_fetch_add(&rule->seen, 1);
        if (seen < rule->after || (rule->times && seen >= rule->after + rule->times)) continue;
        if (report >= 0) {
            char line[16];
            int length = snprintf(line, sizeof line, "%d\n", each);
            syscall(SYS_write, report, line, length);
        }
        if (!strcmp(rule->action, "clock")) ahead = ahead + rule->value;
        else if (!strcmp(rule->action, "errno")) outcome = (int)rule->value;
        else if (!strcmp(rule->action, "torn") && torn) *torn = (int)rule->value;
        else syscall(SYS_kill, syscall(SYS_getpid), (int)rule->value);
    }
    return outcome;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define REFUSE(call, path, fd) \
    do { \
        int error = strike(call, path, fd, NULL); \
        if (error) { \
            errno = error; \
            return -1; \
        } \
    } while (0)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        int mode = va_arg(list, int); \
        va_end(list); \
        REFUSE("open", path, -1); \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        va_list list; \
        va_start(list, flags); \
        int mode = va_arg(list, int); \
        va_end(list); \
        REFUSE("open", path, -1); \
        return real(folder, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define PREAD(name, offset_type) \
    ssize_t name(int fd, void *into, size_t size, offset_type offset) { \
        REAL(name); \
        REFUSE("read", NULL, fd); \
        return real(fd, into, size, offset); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define PWRITE(name, offset_type) \
    ssize_t name(int fd, const void *from, size_t size, offset_type offset) { \
        REAL(name); \
        int torn = 0, error = strike("write", NULL, fd, &torn); \
        if (torn) { \
            real(fd, from, size / 2, offset); \
            syscall(SYS_kill, syscall(SYS_getpid), torn); \
        } \
        if (error) { \
            errno = error; \
            return -1; \
        } \
        return real(fd, from, size, offset); \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *from, size_t size) {
    REAL(write);
    REFUSE("write", NULL, fd);
    return real(fd, from, size);
}

#define SYNC(name) \
    int name(int fd) { \
        REAL(name); \
        REFUSE("sync", NULL, fd); \
        return real(fd); \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, length_type) \
    int name(int fd, length_type length) { \
        REAL(name); \
        REFUSE("truncate", NULL, fd); \
        return real(fd, length); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int clock_gettime(clockid_t which, struct timespec *time) {
    REAL(clock_gettime);
    int answer = real(which, time);
    double by = ahead;
    if (!answer && by != 0 && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
        long long whole = (long long)by;
        time->tv_sec += whole;
        time->tv_nsec += (long)((by - (double)whole) * 1e9);
        if (time->tv_nsec >= 1000000000) time->tv_sec++, time->tv_nsec -= 1000000000;
        if (time->tv_nsec < 0) time->tv_sec--, time->tv_nsec += 1000000000;
    }
    return answer;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
    time->tv_sec = exact.tv_sec;
    time->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (into) *into = exact.tv_sec;
    return exact.tv_sec;
}
