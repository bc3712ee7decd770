/* The file of a region, opened so that nothing is trusted that is not ours. No Python.h.
 *
 * A new one is made under another name, allocated whole (a full tmpfs is an error here, not SIGBUS later), filled in,
 * and published by link(2): it is either absent or complete. An old one is taken only if it is a regular file of this
 * user that no other may write to. It must be a region, on a file system of this machine. A file that a boot has outlived is
 * replaced: its workers are gone.
 */
#ifndef RS_SHARED_REGION_FILE_H
#define RS_SHARED_REGION_FILE_H
#include "mapping.h"
#include <stdio.h>
#ifdef __linux__
#include <sys/random.h>
#include <sys/vfs.h>
#endif

#define RS_OPEN_ATTEMPTS 100
#define RS_REPLACING_BYTE 128 /* locked by the process that replaces a file of before the boot */

typedef enum {
    RS_OPENED = 0,
    RS_OPEN_FAILED = 1,     /* errno */
    RS_OPEN_FOREIGN = 2,    /* not a regular file of this user that no other may write to */
    RS_OPEN_REMOTE = 3,     /* on a network file system, or an unknown one */
    RS_OPEN_NO_REGION = 4,  /* another program's */
    RS_OPEN_OTHER_TIME = 5, /* of another time namespace */
    RS_OPEN_AGAIN = 6,      /* it has been replaced meanwhile */
    RS_OPEN_UNSUPPORTED = 7 /* this system has not what it takes */
} rs_open_result;

#ifdef __linux__

/* File systems whose maps and record locks all processes of this machine share. */
static inline int rs_is_local(int fd)
{
    static const uint32_t local[] = {0x01021994 /* tmpfs */,   0x858458f6 /* ramfs */, 0xEF53 /* ext2, 3, 4 */,
                                     0x58465342 /* xfs */,     0x9123683E /* btrfs */, 0xF2F52010 /* f2fs */,
                                     0x794c7630 /* overlay */, 0x2fc12fc1 /* zfs */,   0xca451a4e /* bcachefs */};
    struct statfs about;
    if (fstatfs(fd, &about) != 0)
        return 0;
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        if ((uint32_t)about.f_type == local[i])
            return 1;
    return 0;
}

/* The kernel's id of this boot; zeroes if there is none. */
static inline void rs_boot_id(uint8_t boot[16])
{
    char text[40] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC), digits = 0;
    memset(boot, 0, 16);
    if (fd < 0)
        return;
    ssize_t size = read(fd, text, sizeof text - 1);
    close(fd);
    for (ssize_t i = 0; i < size && digits < 32; i++) {
        int c = text[i], value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (value >= 0) {
            boot[digits / 2] = (uint8_t)(boot[digits / 2] << 4 | value);
            digits++;
        }
    }
}

/* By how much CLOCK_MONOTONIC is moved in this time namespace. */
static inline int64_t rs_time_offset_ns(void)
{
    long long s = 0, ns = 0;
    FILE *file = fopen("/proc/self/timens_offsets", "re");
    if (file == NULL)
        return 0;
    int known = fscanf(file, "monotonic %lld %lld", &s, &ns) == 2;
    fclose(file);
    return known ? (int64_t)s * INT64_C(1000000000) + ns : 0;
}

static inline rs_open_result rs_mapping_map(rs_mapping *mapping, int fd, const struct stat *file)
{
    uint64_t size = (uint64_t)file->st_size, reach = size > RS_REGION_REACH ? size : RS_REGION_REACH;
    void *memory = mmap(NULL, (size_t)reach, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (memory == MAP_FAILED)
        return RS_OPEN_FAILED;
    mapping->region = memory;
    mapping->reach = reach;
    mapping->fd = fd;
    mapping->device = file->st_dev;
    mapping->inode = file->st_ino;
    return RS_OPENED;
}

static inline void rs_mapping_unmap(rs_mapping *mapping)
{
    munmap(mapping->region, mapping->reach);
    mapping->region = NULL;
    mapping->fd = -1;
}

/* The name of a file that is being made. */
static inline int rs_name_new(char *name, size_t size, const char *path)
{
    uint32_t number;
    if (getrandom(&number, sizeof number, 0) != sizeof number)
        return -1;
    return snprintf(name, size, "%s.%08x.new", path, number) < (int)size ? 0 : -1;
}

static inline rs_open_result rs_region_fill(rs_mapping *mapping, int fd, uint64_t size)
{
    struct stat file;
    uint64_t key[RS_HASH_KEY];
    if (!rs_is_local(fd))
        return RS_OPEN_REMOTE;
    int failed = posix_fallocate(fd, 0, (off_t)size);
    if (failed) {
        errno = failed;
        return RS_OPEN_FAILED;
    }
    if (fchmod(fd, 0600) != 0 || fstat(fd, &file) != 0 || getrandom(key, sizeof key, 0) != sizeof key)
        return RS_OPEN_FAILED;
    rs_open_result result = rs_mapping_map(mapping, fd, &file);
    if (result == RS_OPENED) {
        rs_boot_id(mapping->region->boot);
        mapping->region->time_offset_ns = rs_time_offset_ns();
        rs_region_init(mapping->region, size, rs_monotonic_ns(), key);
    }
    return result;
}

/* Make a region and publish it: by link(2), or in the place of *stale*. RS_OPEN_AGAIN: another process was faster. */
static inline rs_open_result rs_region_make(rs_mapping *mapping, uint64_t size, int stale)
{
    char name[4096];
    struct stat there, old;
    if (size == 0) { /* none is to be made */
        errno = ENOENT;
        return RS_OPEN_FAILED;
    }
    if (rs_name_new(name, sizeof name, mapping->path) < 0)
        return RS_OPEN_FAILED;
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), done = 0;
    if (fd < 0)
        return RS_OPEN_FAILED;
    rs_open_result result = rs_region_fill(mapping, fd, size);
    if (result == RS_OPENED && stale < 0)
        done = link(name, mapping->path) == 0;
    else if (result == RS_OPENED) /* under the lock on the old file, which only one process can have */
        done = stat(mapping->path, &there) == 0 && fstat(stale, &old) == 0 && there.st_ino == old.st_ino
               && there.st_dev == old.st_dev && rename(name, mapping->path) == 0;
    int why = errno;
    unlink(name);
    if (done)
        return RS_OPENED;
    if (mapping->region)
        rs_mapping_unmap(mapping);
    close(fd);
    errno = why;
    return result != RS_OPENED ? result : stale >= 0 || why == EEXIST ? RS_OPEN_AGAIN : RS_OPEN_FAILED;
}

/* The file of before the boot, replaced by one process; the others look again. */
static inline rs_open_result rs_region_replace(rs_mapping *mapping, int stale, uint64_t size)
{
    if (rs_slot_lock(stale, RS_REPLACING_BYTE, F_WRLCK) != 0)
        return RS_OPEN_AGAIN;
    return rs_region_make(mapping, size, stale);
}

static inline rs_open_result rs_region_check(rs_mapping *mapping)
{
    uint8_t boot[16];
    struct stat file;
    uint64_t size = rs_region_size(mapping->region); /* first: while another worker lets it grow, the file is larger */
    if (fstat(mapping->fd, &file) != 0 || !rs_region_is_one(mapping->region, size, (uint64_t)file.st_size))
        return RS_OPEN_NO_REGION;
    rs_boot_id(boot);
    if (memcmp(boot, mapping->region->boot, sizeof boot) != 0)
        return RS_OPEN_AGAIN; /* it is to be replaced */
    return mapping->region->time_offset_ns == rs_time_offset_ns() ? RS_OPENED : RS_OPEN_OTHER_TIME;
}

/* Map the file that is there. */
static inline rs_open_result rs_region_take(rs_mapping *mapping, uint64_t size)
{
    struct stat file;
    int fd = open(mapping->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return errno == ELOOP ? RS_OPEN_FOREIGN : RS_OPEN_FAILED;
    rs_open_result result = RS_OPEN_FAILED;
    if (fstat(fd, &file) == 0) {
        int is_ours = S_ISREG(file.st_mode) && file.st_uid == geteuid() && (file.st_mode & 022) == 0;
        result = !is_ours ? RS_OPEN_FOREIGN : !rs_is_local(fd) ? RS_OPEN_REMOTE : RS_OPENED;
    }
    if (result == RS_OPENED && (uint64_t)file.st_size <= sizeof(rs_region))
        result = RS_OPEN_NO_REGION;
    if (result == RS_OPENED && (result = rs_mapping_map(mapping, fd, &file)) == RS_OPENED
        && (result = rs_region_check(mapping)) != RS_OPENED) {
        rs_mapping_unmap(mapping);
        if (result == RS_OPEN_AGAIN)
            result = rs_region_replace(mapping, fd, size);
    }
    if (mapping->fd != fd) {
        int why = errno;
        close(fd);
        errno = why;
    }
    return result;
}

/* Open the region at this path, or make one of *size* bytes, if that is not 0. The caller has made sure that this process does not have
   the file open already: its slot would be lost when either descriptor is closed. NULL: *result is the reason, with errno. */
static inline rs_mapping *rs_mapping_open(const char *path, uint64_t size, uint32_t workers, rs_open_result *result)
{
    rs_mapping *mapping = calloc(1, sizeof *mapping);
    *result = RS_OPEN_FAILED;
    if (mapping == NULL || (mapping->path = strdup(path)) == NULL) {
        free(mapping);
        return NULL;
    }
    mapping->fd = -1;
    mapping->workers = workers;
    for (int i = 0; i < RS_OPEN_ATTEMPTS; i++) {
        *result = rs_region_take(mapping, size);
        if (*result == RS_OPEN_FAILED && errno == ENOENT)
            *result = rs_region_make(mapping, size, -1);
        if (*result != RS_OPEN_AGAIN)
            break;
        rs_rest_ns(1000000);
    }
    if (*result != RS_OPENED) {
        int why = errno;
        rs_mapping_free(mapping);
        errno = why;
        return NULL;
    }
    mapping->member = (rs_member){
        .roll = &mapping->region->roll, .workers = mapping->region->worker, .epoch_ns = mapping->region->epoch_ns};
    return mapping;
}

/* Let a region have *more* bytes beside those in use: 1, or 0 if it may not, or if there is no memory. The file grows
   first, so a worker that dies in between leaves bytes that are not used yet; and all have mapped it so far. */
static inline int rs_mapping_grow(rs_mapping *mapping, uint64_t more)
{
    struct stat file;
    uint64_t size = rs_region_size(mapping->region), wanted = rs_atomic_load(&mapping->region->used) + more;
    wanted = (wanted + RS_REGION_PAGE - 1) / RS_REGION_PAGE * RS_REGION_PAGE;
    if (mapping->path == NULL || more > mapping->reach || wanted > mapping->reach || fstat(mapping->fd, &file) != 0
        || !rs_mapping_is_file(&file, mapping) || posix_fallocate(mapping->fd, 0, (off_t)wanted) != 0)
        return 0;
    while (size < wanted && !rs_atomic_swap(&mapping->region->size, &size, wanted))
        ;
    return 1;
}
#else /* macOS has no /dev/shm and no posix_fallocate, and Windows no record locks that its processes lose */
static inline rs_mapping *rs_mapping_open(const char *path, uint64_t size, uint32_t workers, rs_open_result *result)
{
    (void)path, (void)size, (void)workers;
    *result = RS_OPEN_UNSUPPORTED;
    return NULL;
}

static inline int rs_mapping_grow(rs_mapping *mapping, uint64_t more)
{
    (void)mapping, (void)more;
    return 0;
}
#endif
#endif
