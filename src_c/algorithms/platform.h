/* What differs between systems, and nothing else does: locks, the clock, memory and files. No Python.h.
 *
 * lock     A mutex for code that runs without the GIL, renewed in a child of a fork.
 * clock    The monotonic time, and a rest.
 * mapping  Zeroed memory that is not set aside before it is used. RS_FILES_POSSIBLE: files of other processes can be
 *          mapped and their bytes locked (shared/mapping.h); without it a region is this process's alone.
 *
 * On Windows there is no fork. Python's time.monotonic() is the same counter from 3.13 on; before, it has steps of 16 ms.
 */
#ifndef RS_PLATFORM_H
#define RS_PLATFORM_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <malloc.h>
#include <windows.h>
#undef far
#undef near
#undef small

typedef SRWLOCK rs_mutex;
#define RS_MUTEX_FREE SRWLOCK_INIT
static inline void rs_mutex_lock(rs_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline void rs_mutex_unlock(rs_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void rs_mutex_renew(rs_mutex *mutex) { InitializeSRWLock(mutex); }

static inline void rs_at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
    (void)before, (void)in_parent, (void)in_child;
}

static inline int64_t rs_monotonic_ns(void)
{
    LARGE_INTEGER now, a_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&a_second);
    int64_t seconds = now.QuadPart / a_second.QuadPart, rest = now.QuadPart % a_second.QuadPart;
    return seconds * INT64_C(1000000000) + rest * INT64_C(1000000000) / a_second.QuadPart;
}

static inline void rs_rest_ns(int64_t ns) { Sleep((DWORD)((ns + 999999) / 1000000)); }
static inline uint32_t rs_process_id(void) { return GetCurrentProcessId(); }

static inline void *rs_aligned_alloc(size_t line, size_t size) { return _aligned_malloc(size, line); }
static inline void rs_aligned_free(void *memory) { _aligned_free(memory); }

static inline void *rs_zeroes(size_t size)
{
    return VirtualAlloc(NULL, size, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}
static inline void rs_unmap(void *memory, size_t size)
{
    (void)size;
    VirtualFree(memory, 0, MEM_RELEASE);
}
#else
#define RS_FILES_POSSIBLE 1
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef pthread_mutex_t rs_mutex;
#define RS_MUTEX_FREE PTHREAD_MUTEX_INITIALIZER
static inline void rs_mutex_lock(rs_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline void rs_mutex_unlock(rs_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void rs_mutex_renew(rs_mutex *mutex) { pthread_mutex_init(mutex, NULL); }

static inline void rs_at_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
    pthread_atfork(before, in_parent, in_child);
}

/* The clock of time.monotonic(). */
static inline int64_t rs_monotonic_ns(void)
{
    struct timespec now;
#ifdef __APPLE__
    clock_gettime(CLOCK_UPTIME_RAW, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline void rs_rest_ns(int64_t ns)
{
    struct timespec rest = {(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
    nanosleep(&rest, NULL);
}

static inline uint32_t rs_process_id(void) { return (uint32_t)getpid(); }

static inline void *rs_aligned_alloc(size_t line, size_t size) { return aligned_alloc(line, size); }
static inline void rs_aligned_free(void *memory) { free(memory); }

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
static inline void *rs_zeroes(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}
static inline void rs_unmap(void *memory, size_t size) { munmap(memory, size); }
#endif
#endif
