/* A worker's place in a region of shared memory, as the shared algorithms see it. No Python.h.
 *
 * A worker holds a slot. What it takes (permits, leases) carries its owner word: the slot and the number of times that
 * the slot has changed hands. So only what the dead worker held is freed for it. What a call gives back
 * it gives back by a compare-and-swap from the owner word that it took it with: a worker that has lost its slot (all
 * its descriptors were closed) may have been taken for dead meanwhile.
 */
#ifndef RS_SHARED_MEMBER_H
#define RS_SHARED_MEMBER_H
#include "atomics.h"
#include <stddef.h>

#define RS_WORKERS 64 /* slots of a region */
#define RS_LINE 64    /* bytes of a cache line */
#define RS_SLOT_BITS 8

/* What one worker of the region does for all. */
typedef enum { RS_LEARNER = 0, RS_ROLES = 2 } rs_role;

/* In shared memory, one line a worker. */
typedef struct rs_worker {
    _Alignas(RS_LINE) rs_word32 epoch; /* how often the slot has changed hands */
    rs_word32 pid;                     /* for people */
    rs_word64 since_ns, beat_ns;       /* since the region's epoch; `beat` four times a second */
    rs_word32 bell;                    /* 1: its courier's thread is wanted (courier.h) */
} rs_worker;

/* In shared memory, read-mostly: which slots have a living worker, and which of them has which role. */
typedef struct rs_roll {
    _Alignas(RS_LINE) rs_word64 living; /* bit i: slot i */
    rs_word64 lead[RS_ROLES];           /* owner word | term << 32; 0: never taken */
} rs_roll;

/* In the memory of one process. */
typedef struct rs_member rs_member;
struct rs_member {
    rs_roll *roll;
    rs_worker *workers;
    int64_t epoch_ns; /* the region's epoch, in the time of the gates: shared times are since it */
    rs_word32 owner;  /* the owner word; 0: no slot, the policy is then the process's own */
    uint32_t slot;    /* 0 to RS_WORKERS - 1, if there is an owner word */
    rs_word32 bell;   /* as that of a slot, for a courier that waits before there is one */
    /* Takes a slot, and returns the owner word, 0 if it got none; NULL: do not try. Without the GIL. */
    uint32_t (*join)(rs_member *);
};

static inline uint32_t rs_owner(uint32_t slot, uint32_t epoch) { return (slot + 1) | epoch << RS_SLOT_BITS; }

/* The slot of an owner word that is not 0. */
static inline uint32_t rs_owner_slot(uint32_t owner) { return (owner & ((1u << RS_SLOT_BITS) - 1)) - 1; }

/* The owner word to take something with. A process has no slot before its first shared call, nor after a fork: processes
   that make no calls are no workers. 0: the call is the process's own. */
static inline uint32_t rs_member_owner(rs_member *me)
{
    uint32_t owner = atomic_load_explicit(&me->owner, memory_order_relaxed);
    if (owner != 0)
        return owner;
    uint32_t (*join)(rs_member *) = __atomic_load_n(&me->join, __ATOMIC_RELAXED); /* another thread may join */
    return join == NULL ? 0 : join(me);
}

/* How many workers live, at least 1. */
static inline uint32_t rs_member_peers(const rs_member *me)
{
    uint32_t n = (uint32_t)__builtin_popcountll(rs_atomic_load(&me->roll->living));
    return n ? n : 1;
}

/* 1 if no worker lives but this one, or none. */
static inline int rs_member_is_alone(const rs_member *me)
{
    uint64_t living = rs_atomic_load(&me->roll->living);
    return (living & (living - 1)) == 0;
}

/* 1 if this worker has the role. Another takes it over if this one has died, or has not run for two seconds. */
static inline int rs_member_leads(rs_member *me, rs_role role)
{
    uint32_t owner = atomic_load_explicit(&me->owner, memory_order_relaxed);
    return owner != 0 && (uint32_t)rs_atomic_load(&me->roll->lead[role]) == owner;
}

typedef enum {
    RS_CELL_LIMIT = 1,
    RS_CELL_WINDOW = 2,
    RS_CELL_SPEND = 11, /* one word: the amount taken, as limit.h counts it */
    RS_CELL_KEYS = 3,
    RS_CELL_PERMITS = 4,
    RS_CELL_ADAPTIVE = 5,
    RS_CELL_BREAKER = 6,
    RS_CELL_BUDGET = 7,
    RS_CELL_LEASE = 8, /* from here on a fleet's: the body begins with rs_courier */
    RS_CELL_VERDICT = 9,
    RS_CELL_SLOTS = 10,
    RS_CELL_MONEY = 12,  /* a fleet's spend limit: the amount taken, and what its lease allows */
    RS_CELL_RESERVE = 13 /* of retry budgets: the body is that of a lease */
} rs_cell_kind;
#endif
