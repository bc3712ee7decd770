/* The clock that all of resilio reads: int64 nanoseconds that agree with time.monotonic().
 *
 * A read is a scaled time stamp counter (10 ns) where the processor and the kernel vouch for it, and clock_gettime
 * (24 ns) elsewhere. Virtual time wins over both. There is one clock for the process, owned by the module
 * resilio._native.clock; other modules get it by rs_clock_import() when they are initialised.
 *
 * The fast path is a seqlock read of an anchor (counter, ns, scale) that is good for 100 ms; all else is in
 * clock_source.h, behind `slow`. Reads of one thread never go backwards, except when virtual time begins, ends or is
 * set back. Reads of two threads may be a few nanoseconds out of order: gates clamp a negative step to zero.
 */
#ifndef RS_CLOCK_H
#define RS_CLOCK_H
#include <Python.h>
#include <stdatomic.h>
#include <stdint.h>
#if defined(__x86_64__)
#define RS_CLOCK_TSC_POSSIBLE 1
/* As __rdtsc(); <x86intrin.h> would add fifty thousand lines to each file. */
#define RS_CLOCK_COUNTER() __builtin_ia32_rdtsc()
#endif

enum { /* bits of mode; 0 is clock_gettime */
       RS_CLOCK_TSC = 1,
       RS_CLOCK_VIRTUAL = 2,
       RS_CLOCK_CALIBRATING = 4 /* still clock_gettime, while the counter's rate is measured */
};

typedef struct rs_clock rs_clock;
struct rs_clock { /* one cache line */
    _Atomic uint32_t mode;
    _Atomic uint32_t sequence; /* odd while the anchor is being moved */
    _Atomic uint64_t anchor_ticks;
    _Atomic int64_t anchor_ns;
    _Atomic uint64_t scale; /* ns a tick, in 2^-32 */
    _Atomic uint64_t limit; /* ticks for which an anchor is valid; ticks * scale stays below 2^64 */
    _Atomic int64_t virtual_ns;
    int64_t (*slow)(rs_clock *);
};

#define RS_CLOCK_LOAD(field) atomic_load_explicit(&(field), memory_order_relaxed)

#ifdef RS_CLOCK_TSC_POSSIBLE
/* Read the counter into *ns: 1, or 0 if the anchor is too old or being moved. */
static inline int rs_clock_read_tsc(rs_clock *clock, int64_t *ns)
{
    uint32_t sequence = atomic_load_explicit(&clock->sequence, memory_order_acquire);
    uint64_t ticks = RS_CLOCK_COUNTER() - RS_CLOCK_LOAD(clock->anchor_ticks);
    uint64_t limit = RS_CLOCK_LOAD(clock->limit);
    *ns = RS_CLOCK_LOAD(clock->anchor_ns) + (int64_t)(ticks * RS_CLOCK_LOAD(clock->scale) >> 32);
    atomic_thread_fence(memory_order_acquire);
    /* One by one: for a whole chain the compiler does not see the direction of each link. */
    return __builtin_expect(ticks < limit, 1) && __builtin_expect((sequence & 1) == 0, 1)
           && __builtin_expect(RS_CLOCK_LOAD(clock->sequence) == sequence, 1);
}
#endif

/* Now, in nanoseconds. Never fails; needs neither the GIL nor a lock. */
static inline int64_t rs_clock_now(rs_clock *clock)
{
#ifdef RS_CLOCK_TSC_POSSIBLE
    int64_t ns;
    if (__builtin_expect(RS_CLOCK_LOAD(clock->mode) == RS_CLOCK_TSC, 1)
        && __builtin_expect(rs_clock_read_tsc(clock, &ns), 1))
        return ns;
#endif
    return clock->slow(clock);
}

/* The process's clock; NULL with an exception if its module cannot be imported. Call it once, keep the pointer. */
static inline rs_clock *rs_clock_import(void)
{
    rs_clock *clock = NULL;
    PyObject *module = PyImport_ImportModule("resilio._native.clock");
    PyObject *capsule = module ? PyObject_GetAttrString(module, "_CLOCK") : NULL;
    if (capsule)
        clock = (rs_clock *)PyCapsule_GetPointer(capsule, "resilio._native.clock._CLOCK");
    Py_XDECREF(capsule);
    Py_XDECREF(module);
    return clock;
}
#endif
