/* Preloaded into a process under test: makes calls on the database's files fail, and moves the wall clock.
   It reads its orders from a file that the harness maps too, so they change while the process runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct orders {
    int64_t clock_offset_ns; /* added to CLOCK_REALTIME */
    int32_t calls;           /* bits of the calls that fail; 0: none */
    int32_t skip;            /* let so many of them pass first */
    int32_t count;           /* then fail so many; -1: all */
    int32_t error;
    int32_t failed;          /* told back: how many did */
};

enum { CALL_WRITE = 1, CALL_SYNC = 2, CALL_OPEN = 4, CALL_TRUNCATE = 8, CALL_READ = 16 };

static volatile struct orders *orders;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("FAULT_SHIM");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) orders = at;
}

static int is_database(const char *path) { return path && strstr(path, "edge.db") != NULL; }

static int due(int call) {
    if (!orders || !(orders->calls & call)) return 0;
    if (__sync_fetch_and_sub(&orders->skip, 1) > 0) return 0;
    if (orders->count >= 0 && __sync_fetch_and_sub(&orders->count, 1) <= 0) {
        orders->count = 0;
        return 0;
    }
    __sync_fetch_and_add(&orders->failed, 1);
    errno = orders->error;
    return 1;
}

static int due_on(int call, int fd) {
    if (!orders || !(orders->calls & call)) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_database(path) && due(call);
}

#define NEXT(name) static __typeof__(&name) next; if (!next) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *buf, size_t size) {
    NEXT(write);
    return due_on(CALL_WRITE, fd) ? -1 : next(fd, buf, size);
}
ssize_t pwrite(int fd, const void *buf, size_t size, off_t at) {
    NEXT(pwrite);
    return due_on(CALL_WRITE, fd) ? -1 : next(fd, buf, size, at);
}
ssize_t pwrite64(int fd, const void *buf, size_t size, off64_t at) {
    NEXT(pwrite64);
    return due_on(CALL_WRITE, fd) ? -1 : next(fd, buf, size, at);
}
ssize_t pread(int fd, void *buf, size_t size, off_t at) {
    NEXT(pread);
    return due_on(CALL_READ, fd) ? -1 : next(fd, buf, size, at);
}
ssize_t pread64(int fd, void *buf, size_t size, off64_t at) {
    NEXT(pread64);
    return due_on(CALL_READ, fd) ? -1 : next(fd, buf, size, at);
}
int fsync(int fd) {
    NEXT(fsync);
    return due_on(CALL_SYNC, fd) ? -1 : next(fd);
}
int fdatasync(int fd) {
    NEXT(fdatasync);
    return due_on(CALL_SYNC, fd) ? -1 : next(fd);
}
int ftruncate(int fd, off_t size) {
    NEXT(ftruncate);
    return due_on(CALL_TRUNCATE, fd) ? -1 : next(fd, size);
}
int ftruncate64(int fd, off64_t size) {
    NEXT(ftruncate64);
    return due_on(CALL_TRUNCATE, fd) ? -1 : next(fd, size);
}
int open(const char *path, int flags, ...) {
    NEXT(open);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_database(path) && due(CALL_OPEN) ? -1 : next(path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    NEXT(open64);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return is_database(path) && due(CALL_OPEN) ? -1 : next(path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(clock_gettime);
    int status = next(clock, now);
    if (status == 0 && orders && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = now->tv_sec * 1000000000LL + now->tv_nsec + orders->clock_offset_ns;
        now->tv_sec = ns / 1000000000LL;
        now->tv_nsec = ns % 1000000000LL;
    }
    return status;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *into) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (into) *into = precise.tv_sec;
    return precise.tv_sec;
}
