/* A region that this process has mapped, and the slot that it has there. No Python.h.
 *
 * A worker's slot i is the POSIX record lock on byte i of the region's file. The kernel drops it however the process
 * ends, a child of a fork does not inherit it, and process ids and their namespaces do not matter. One trap: closing
 * *any* descriptor of the file drops the locks of the process. So a process opens the file once, and looks at each beat
 * whether its descriptor is still that file: programs that turn into daemons close all.
 *
 * The lock is on the region's own file, not on one beside it: removing one of two files would leave workers that share
 * the memory and not the locks, and each would take the other's slots for those of the dead.
 */
#ifndef RS_SHARED_MAPPING_H
#define RS_SHARED_MAPPING_H
#include "platform.h"
#include "reap.h"
#include <errno.h>
#include <stdlib.h>
#ifdef RS_FILES_POSSIBLE
#include <fcntl.h>
#include <sys/stat.h>
#endif

#define RS_SILENCE_NS INT64_C(2000000000) /* a worker that has not beaten for so long leads no more */

/* Why a process does not share, though it has the region. */
typedef enum {
    RS_SHARES = 0,
    RS_NO_SLOT = 1,   /* all are taken */
    RS_NO_LOCKS = 2,  /* the file system has no record locks */
    RS_NO_THREAD = 3, /* for the housekeeper */
    RS_GONE = 4       /* the file has been removed or replaced */
} rs_trouble;

typedef struct rs_mapping rs_mapping;
struct rs_mapping {
    rs_member member; /* the first: `join` is called with it */
    rs_region *region;
    uint64_t reach; /* bytes of addresses: a file that grows is seen to grow */
    char *path;     /* NULL: a region of this process alone */
    int fd;
    uint64_t device, inode;
    uint32_t workers;  /* the slots to choose from */
    uint32_t joined;   /* 1: wants a slot, since its first shared call */
    rs_word32 trouble; /* rs_trouble */
    rs_word64 reaped;  /* dead workers found */
    rs_mapping *next;  /* of all that the housekeeper looks after */
};

#ifdef RS_FILES_POSSIBLE
/* F_WRLCK or F_UNLCK on the byte of a slot: 0, or -1 with errno. Never waits. */
static inline int rs_slot_lock(int fd, uint32_t slot, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
    return fcntl(fd, F_SETLK, &lock);
}

/* 1 if another process holds the lock of the slot. */
static inline int rs_slot_is_held(int fd, uint32_t slot)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
    return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static inline int rs_mapping_is_file(const struct stat *file, const rs_mapping *mapping)
{
    return (uint64_t)file->st_dev == mapping->device && (uint64_t)file->st_ino == mapping->inode;
}

static inline void rs_mapping_close(rs_mapping *mapping)
{
    if (mapping->fd >= 0)
        close(mapping->fd);
    mapping->fd = -1;
}
#else
/* Not here: no file is ever mapped (region_file.h), so each region has `path` NULL and a slot from the first. */
enum { F_WRLCK, F_UNLCK };
static inline int rs_slot_lock(int fd, uint32_t slot, short type)
{
    (void)fd, (void)slot, (void)type;
    errno = ENOSYS;
    return -1;
}
static inline int rs_slot_is_held(int fd, uint32_t slot)
{
    (void)fd, (void)slot;
    return 0;
}
static inline void rs_mapping_close(rs_mapping *mapping) { mapping->fd = -1; }
#endif

/* Become the owner of a slot whose lock this process holds: first free what its last owner held. */
static inline void rs_slot_enter(rs_member *me, rs_region *region, uint32_t slot, int64_t now_ns)
{
    rs_worker *worker = &region->worker[slot];
    rs_region_reap(region, slot);
    uint32_t epoch = rs_atomic_add(&worker->epoch, 1) + 1;
    rs_atomic_store(&worker->pid, rs_process_id());
    rs_atomic_store(&worker->since_ns, (uint64_t)(now_ns - me->epoch_ns));
    rs_atomic_store(&worker->beat_ns, (uint64_t)(now_ns - me->epoch_ns));
    rs_atomic_or(&region->roll.living, UINT64_C(1) << slot);
    me->slot = slot;
    rs_atomic_store(&me->owner, rs_owner(slot, epoch));
}

/* Free what the owner of a slot held, whose lock this process holds. */
static inline void rs_slot_clear(rs_region *region, uint32_t slot)
{
    rs_region_reap(region, slot);
    rs_atomic_and(&region->roll.living, ~(UINT64_C(1) << slot));
}

/* Take a free slot, the lowest: the owner word; 0: the process has no slot, and `trouble` is the reason. */
static inline uint32_t rs_mapping_take_slot(rs_mapping *mapping)
{
    rs_trouble trouble = RS_NO_SLOT;
    for (uint32_t slot = 0; slot < mapping->workers; slot++) {
        if (rs_slot_lock(mapping->fd, slot, F_WRLCK) == 0) {
            rs_slot_enter(&mapping->member, mapping->region, slot, rs_monotonic_ns());
            rs_atomic_store(&mapping->trouble, RS_SHARES);
            return rs_atomic_load(&mapping->member.owner);
        }
        if (errno != EACCES && errno != EAGAIN)
            trouble = RS_NO_LOCKS;
    }
    rs_atomic_store(&mapping->trouble, trouble);
    return 0;
}

/* Have no slot any more, for this reason. What the process holds of the region stays held: its calls may go on. */
static inline void rs_mapping_lose_slot(rs_mapping *mapping, rs_trouble trouble)
{
    rs_atomic_store(&mapping->member.owner, 0);
    rs_atomic_store(&mapping->trouble, trouble);
}

/* Give the slot back: what this process held is free at once. */
static inline void rs_mapping_leave(rs_mapping *mapping)
{
    uint32_t owner = rs_atomic_load(&mapping->member.owner);
    __atomic_store_n(&mapping->member.join, NULL, __ATOMIC_RELAXED);
    mapping->joined = 0;
    if (owner == 0)
        return;
    rs_atomic_store(&mapping->member.owner, 0);
    rs_slot_clear(mapping->region, rs_owner_slot(owner));
    if (mapping->path)
        rs_slot_lock(mapping->fd, rs_owner_slot(owner), F_UNLCK);
}

/* Free what the dead held; the number of dead workers. Any worker may do it, and die in the middle. */
static inline uint32_t rs_mapping_reap(rs_mapping *mapping)
{
    uint64_t living = rs_atomic_load(&mapping->region->roll.living);
    uint32_t owner = rs_atomic_load(&mapping->member.owner), dead = 0;
    for (uint32_t slot = 0; slot < RS_WORKERS; slot++) {
        int is_mine = owner != 0 && rs_owner_slot(owner) == slot;
        if (!(living >> slot & 1) || is_mine || rs_slot_lock(mapping->fd, slot, F_WRLCK) != 0)
            continue;
        rs_slot_clear(mapping->region, slot);
        rs_slot_lock(mapping->fd, slot, F_UNLCK);
        dead++;
    }
    rs_atomic_add(&mapping->reaped, dead);
    return dead;
}

/* 1 if the worker of this owner word lives and runs. */
static inline int rs_worker_runs(rs_region *region, uint32_t owner, int64_t now_ns)
{
    uint32_t slot = rs_owner_slot(owner);
    rs_worker *worker = &region->worker[slot % RS_WORKERS];
    int is_its_own = rs_owner(slot, rs_atomic_load(&worker->epoch)) == owner;
    int64_t beat_ns = (int64_t)rs_atomic_load(&worker->beat_ns);
    return is_its_own && rs_atomic_load(&region->roll.living) >> (slot % RS_WORKERS) & 1
           && now_ns - region->epoch_ns - beat_ns < RS_SILENCE_NS;
}

/* Take the roles that no running worker has. One swap decides; a worker that was stopped finds another's word there. */
static inline void rs_member_take_roles(rs_member *me, rs_region *region, int64_t now_ns)
{
    uint32_t owner = rs_atomic_load(&me->owner);
    for (int role = 0; owner != 0 && role < RS_ROLES; role++) {
        uint64_t seen = rs_atomic_load(&region->roll.lead[role]);
        if ((uint32_t)seen == 0 || ((uint32_t)seen != owner && !rs_worker_runs(region, (uint32_t)seen, now_ns)))
            rs_atomic_swap(&region->roll.lead[role], &seen, owner | ((seen >> 32) + 1) << 32);
    }
}

#ifdef RS_FILES_POSSIBLE
/* Open the file once more after another part of the program has closed the descriptor. -1: there is another file. */
static inline int rs_mapping_reopen(rs_mapping *mapping)
{
    struct stat file;
    int fd = open(mapping->path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &file) != 0 || !rs_mapping_is_file(&file, mapping))) {
        close(fd);
        fd = -1;
    }
    mapping->fd = fd;
    return fd < 0 ? -1 : 0;
}

/* Take the slot again that the descriptor's closing has lost, if no other worker has had it meanwhile: what this process
   holds stays its own. 1: it has it. */
static inline int rs_mapping_retake(rs_mapping *mapping, uint32_t owner)
{
    uint32_t slot = rs_owner_slot(owner);
    if (rs_slot_lock(mapping->fd, slot, F_WRLCK) != 0)
        return 0;
    if (rs_owner(slot, rs_atomic_load(&mapping->region->worker[slot].epoch)) != owner) {
        rs_slot_lock(mapping->fd, slot, F_UNLCK);
        return 0;
    }
    rs_atomic_or(&mapping->region->roll.living, UINT64_C(1) << slot);
    rs_atomic_store(&mapping->member.owner, owner);
    rs_atomic_store(&mapping->trouble, RS_SHARES);
    return 1;
}

/* What the housekeeper does for one region, four times a second. */
static inline void rs_mapping_keep(rs_mapping *mapping)
{
    struct stat file;
    if (!mapping->joined || rs_atomic_load(&mapping->trouble) == RS_GONE)
        return;
    /* A server that has given up its rights since may not see the directory any more: then the file is still there. */
    int is_seen = stat(mapping->path, &file) == 0;
    if (is_seen ? !rs_mapping_is_file(&file, mapping) : errno == ENOENT || errno == ENOTDIR) {
        rs_mapping_lose_slot(mapping, RS_GONE);
        return;
    }
    if (mapping->fd < 0 || fstat(mapping->fd, &file) != 0 || !rs_mapping_is_file(&file, mapping)) {
        uint32_t owner = rs_atomic_load(&mapping->member.owner);
        rs_mapping_lose_slot(mapping, RS_NO_SLOT);
        if (rs_mapping_reopen(mapping) < 0 || (owner && rs_mapping_retake(mapping, owner)))
            return;
    }
    if (rs_atomic_load(&mapping->member.owner) == 0 && rs_mapping_take_slot(mapping) == 0)
        return;
    int64_t now_ns = rs_monotonic_ns();
    rs_worker *mine = &mapping->region->worker[mapping->member.slot];
    rs_atomic_store(&mine->beat_ns, (uint64_t)(now_ns - mapping->region->epoch_ns));
    rs_mapping_reap(mapping);
    rs_member_take_roles(&mapping->member, mapping->region, now_ns);
}

#else
static inline void rs_mapping_keep(rs_mapping *mapping) { (void)mapping; }
#endif

static inline void rs_mapping_free(rs_mapping *mapping)
{
    if (mapping->region)
        rs_unmap(mapping->region, mapping->reach);
    rs_mapping_close(mapping);
    free(mapping->path);
    free(mapping);
}

/* A region of zeroes in memory of this process, for one or several members; NULL: no memory. No memory is set aside for
   what is not used: a process with many fleets could not be forked. */
static inline rs_mapping *rs_mapping_private(uint64_t size, int64_t epoch_ns, const uint64_t key[RS_HASH_KEY])
{
    rs_mapping *mapping = calloc(1, sizeof *mapping);
    void *memory = rs_zeroes(size);
    if (mapping == NULL || memory == NULL) {
        free(mapping);
        if (memory != NULL)
            rs_unmap(memory, size);
        return NULL;
    }
    mapping->region = memory;
    mapping->reach = size;
    mapping->fd = -1;
    mapping->workers = RS_WORKERS;
    rs_region_init(mapping->region, size, epoch_ns, key);
    mapping->member = (rs_member){
        .roll = &mapping->region->roll, .workers = mapping->region->worker, .epoch_ns = epoch_ns};
    return mapping;
}
#endif
