/* A disk that misbehaves on request, put between a program and the C library with LD_PRELOAD.
 *
 * DISK_RECORD names a file: after every sync that succeeded, it gets a line "INODE SIZE", what of that
 * file has surely reached the disk. DISK_CONTROL names a file that is read at every call:
 *   lie    syncs succeed and do nothing
 *   eio    syncs fail with EIO
 *   full   writes to regular files fail with ENOSPC
 *   slow N every sync takes N milliseconds longer
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t (*real_write)(int, const void *, size_t);

static void control(char *mode, size_t size) {
    mode[0] = 0;
    const char *path = getenv("DISK_CONTROL");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return;
    ssize_t n = read(fd, mode, size - 1);
    mode[n > 0 ? n : 0] = 0;
    close(fd);
}

static ssize_t plain_write(int fd, const void *bytes, size_t size) {
    if (!real_write) real_write = dlsym(RTLD_NEXT, "write");
    return real_write(fd, bytes, size);
}

static int synced(int fd, const char *name) {
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    char mode[32];
    control(mode, sizeof mode);
    if (!strncmp(mode, "lie", 3)) return 0;
    if (!strncmp(mode, "eio", 3)) {
        errno = EIO;
        return -1;
    }
    if (!strncmp(mode, "slow ", 5)) usleep(1000 * atoi(mode + 5));
    struct stat before;
    int known = fstat(fd, &before);
    int result = real(fd);
    const char *path = getenv("DISK_RECORD");
    if (result == 0 && known == 0 && path) {
        int record = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (record >= 0) {
            char line[64];
            int n = snprintf(line, sizeof line, "%llu %lld\n", (unsigned long long)before.st_ino,
                             (long long)before.st_size);
            plain_write(record, line, n);
            close(record);
        }
    }
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }

static int is_full(int fd) {
    struct stat it;
    if (fd <= 2 || fstat(fd, &it) != 0 || !S_ISREG(it.st_mode)) return 0;
    char mode[32];
    control(mode, sizeof mode);
    return !strncmp(mode, "full", 4);
}

#define REFUSE_WHEN_FULL(fd) \
    if (is_full(fd)) {       \
        errno = ENOSPC;      \
        return -1;           \
    }

ssize_t write(int fd, const void *bytes, size_t size) {
    REFUSE_WHEN_FULL(fd)
    return plain_write(fd, bytes, size);
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    REFUSE_WHEN_FULL(fd)
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
    return real(fd, bytes, size, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t at) {
    REFUSE_WHEN_FULL(fd)
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite64");
    return real(fd, bytes, size, at);
}
