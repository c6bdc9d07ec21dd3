/* A disk that fails at one write of our choosing: preloaded, it stands between a program and the C library.
 *
 * TL_FAIL_UNDER  the folder whose files count
 * fail_at(n, e)  from the n-th write below on every write fails with errno e (n = 0: none does)
 * writes()       how many writes there were since
 * TL_FAIL_AT, TL_FAIL_WITH  the same for a program that is started so
 *
 * A write is whatever changes what is on the disk: write, pwrite, fsync, rename, mkdir, and open to create. Memory maps
 * write without a call; their room is checked before.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static long count, first;
static int with_errno;
static long room; /* writes that succeed once more after a file was deleted, as on a disk that was full */

void fail_at(long n, int number) { count = room = 0; first = n; with_errno = number; }

__attribute__((constructor)) static void begin(void) {
    const char *n = getenv("TL_FAIL_AT"), *number = getenv("TL_FAIL_WITH");
    if (n && number) fail_at(atol(n), atoi(number));
}

long writes(void) { return count; }

static int ours(const char *path) {
    const char *under = getenv("TL_FAIL_UNDER");
    return under && path && strncmp(path, under, strlen(under)) == 0;
}

static int ours_open(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return ours(path);
}

static int fails(void) {
    long now = __sync_add_and_fetch(&count, 1);
    if (!first || now < first) return 0;
    if (room > 0 && with_errno != EIO) { room--; return 0; }
    errno = with_errno;
    return 1;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    return ours_open(fd) && fails() ? -1 : real(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int many) {
    REAL(writev);
    return ours_open(fd) && fails() ? -1 : real(fd, parts, many);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    REAL(pwrite);
    return ours_open(fd) && fails() ? -1 : real(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    return ours_open(fd) && fails() ? -1 : real(fd, data, size, at);
}
int fsync(int fd) {
    REAL(fsync);
    return ours_open(fd) && fails() ? -1 : real(fd);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    return ours_open(fd) && fails() ? -1 : real(fd);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    return ours(to) && fails() ? -1 : real(from, to);
}
int unlink(const char *path) {
    REAL(unlink);
    int done = real(path);
    if (done == 0 && ours(path) && strstr(path, "/reserve")) room = 4;
    return done;
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    return ours(path) && fails() ? -1 : real(path, mode);
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        return flags & O_CREAT && ours(path) && access(path, F_OK) != 0 && fails() ? -1 : real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)
