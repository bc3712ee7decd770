/* A circuit breaker of all workers of a host: they share evidence, and one word holds the state.
 *
 *     word      state 3 | reason 4 | re-openings 5 | generation 20 | time 32: every change is one compare-and-swap
 *     leases    the probes under way, each with its owner, its generation and its end
 *     rows      two lines for each worker, which it alone writes: its calls, its window, its failures in a row
 *
 * A worker that is killed at any instruction leaves a legal word, a lease that its reaper frees, and a row that is no
 * longer read. The time is the end of the open time, of a forced one (0: none) or of a ramp (0: none); while half open
 * it is the number of probes that have succeeded. It counts ticks of 2^20 ns, wraps after 52 days, and is compared by
 * its difference to now, so at most half of that lies ahead. Other times are ns since the region's epoch.
 *
 * One worker's evidence weighs no more than that of all others together: a worker whose own network fails opens the
 * breaker for itself, by its own rule, and for no other. No Python.h.
 */
#ifndef RS_SHARED_BREAKER_H
#define RS_SHARED_BREAKER_H
#include <stddef.h>
#include <math.h>
#include "member.h"

#ifndef RS_SHARED_PLACES
#define RS_SHARED_PLACES 16 /* leases; fewer in a test */
#endif
#define RS_SHARED_CLOSED 0u /* states of which the law knows; the others are the gate's */
#define RS_SHARED_OPEN 1u
#define RS_SHARED_HALF_OPEN 2u
#define RS_SHARED_REOPENINGS 31u           /* counted at most */
#define RS_SHARED_TICK 20                  /* log2 of ns */
#define RS_SHARED_AHEAD (INT64_C(1) << 50) /* ns: the longest time that the word can hold */

/* Of one worker. The first line is written by every call, the second by failures. */
typedef struct rs_shared_row {
    _Alignas(RS_LINE) rs_word64 calls;             /* number of the call that began last 32 | calls under way 32 */
    rs_word64 begun_ns;                            /* when it began */
    rs_word64 good_ns;                             /* when the successful call that began last began */
    rs_word64 counts;                              /* its part of the host's window: total 21 | failed 21 | slow 21 */
    rs_word32 generation;                          /* in which it was seen, plus one; 0: not in use */
    _Alignas(RS_LINE) rs_word64 first_ns, last_ns; /* when the first and the last of the row's failures began */
    rs_word64 run;                                 /* failures in a row 32 | of them callers that left 32 */
    rs_word64 flying; /* number of the last one 32 | calls that began in the row and are under way 32 */
} rs_shared_row;

typedef struct rs_shared_breaker {
    _Alignas(RS_LINE) rs_word64 word;
    rs_word64 trip;                                      /* what opened it, measured: a float 32 | generation 32 */
    _Alignas(RS_LINE) rs_word64 lease[RS_SHARED_PLACES]; /* slot + 1 8 | generation 20 | number 4 | end 32; 0: free */
    rs_shared_row row[RS_WORKERS];
} rs_shared_breaker;

/* ---- the word ------------------------------------------------------------------------------------------------ */

static inline uint64_t rs_shared_word(uint32_t state, uint32_t reason, uint32_t reopened, uint32_t generation,
                                      uint32_t until)
{
    return (uint64_t)(state | reason << 3 | reopened << 7 | (generation & 0xfffffu) << 12) << 32 | until;
}

static inline uint32_t rs_shared_state(uint64_t word) { return (uint32_t)(word >> 32) & 7; }
static inline uint32_t rs_shared_reason(uint64_t word) { return (uint32_t)(word >> 35) & 15; }
static inline uint32_t rs_shared_reopened(uint64_t word) { return (uint32_t)(word >> 39) & 31; }
static inline uint32_t rs_shared_generation(uint64_t word) { return (uint32_t)(word >> 44); }
static inline uint32_t rs_shared_until(uint64_t word) { return (uint32_t)word; }

/* The word of the next generation. */
static inline uint64_t rs_shared_next(uint64_t word, uint32_t state, uint32_t reason, uint32_t reopened, uint32_t until)
{
    reopened = reopened < RS_SHARED_REOPENINGS ? reopened : RS_SHARED_REOPENINGS;
    return rs_shared_word(state, reason, reopened, rs_shared_generation(word) + 1, until);
}

static inline uint32_t rs_shared_tick(int64_t ns) { return (uint32_t)((uint64_t)ns >> RS_SHARED_TICK); }

/* The tick of *ns* or, if it lies between two, the one after; never 0, which means "none". */
static inline uint32_t rs_shared_tick_after(int64_t ns)
{
    uint32_t tick = rs_shared_tick(ns + (INT64_C(1) << RS_SHARED_TICK) - 1);
    return tick ? tick : 1;
}

/* Nanoseconds from *now_ns* to a tick; negative if it is past. */
static inline int64_t rs_shared_left(uint32_t tick, int64_t now_ns)
{
    return (int64_t)(int32_t)(tick - rs_shared_tick(now_ns)) * (INT64_C(1) << RS_SHARED_TICK)
           - (now_ns & ((INT64_C(1) << RS_SHARED_TICK) - 1));
}

/* Change the state from *seen* to *next*: 1. If another worker was first: 0, and *seen* is what it is now. */
static inline int rs_shared_change(rs_shared_breaker *cell, uint64_t *seen, uint64_t next)
{
    if (!rs_atomic_swap(&cell->word, seen, next))
        return 0;
    *seen = next;
    return 1;
}

/* Apply the result of a probe of the half-open state *seen*. A failed one opens until *until*; a good one closes if it
 * is the last of *closing* needed, with a ramp until *ramp* or 0. Return 1 if this call has changed the state. */
static inline int rs_shared_probed(rs_shared_breaker *cell, uint64_t *seen, int good, uint32_t closing, uint32_t until,
                                   uint32_t ramp, uint32_t why)
{
    uint64_t round = *seen >> 32, next;
    do {
        uint32_t proven = rs_shared_until(*seen) + 1;
        if (*seen >> 32 != round)
            return 0; /* another probe has ended the round */
        if (!good)
            next = rs_shared_next(*seen, RS_SHARED_OPEN, why, rs_shared_reopened(*seen) + 1, until);
        else if (proven >= closing)
            next = rs_shared_next(*seen, RS_SHARED_CLOSED, why, 0, ramp);
        else
            next = (*seen & ~(uint64_t)UINT32_MAX) | proven;
    } while (!rs_shared_change(cell, seen, next));
    return next >> 32 != round;
}

/* What has opened it, measured, and in which generation. */
static inline uint64_t rs_shared_trip(uint64_t word, double measured)
{
    union {
        float value;
        uint32_t bits;
    } as = {(float)measured};
    return (uint64_t)as.bits << 32 | rs_shared_generation(word);
}

/* The same, read; NaN if it belongs to another generation. */
static inline double rs_shared_tripped(uint64_t word, uint64_t trip)
{
    union {
        uint32_t bits;
        float value;
    } as = {(uint32_t)(trip >> 32)};
    return (uint32_t)trip == rs_shared_generation(word) ? (double)as.value : NAN;
}

/* ---- leases -------------------------------------------------------------------------------------------------- */

static inline int rs_shared_lease_holds(uint64_t lease, uint64_t word, int64_t now_ns)
{
    return lease != 0 && ((uint32_t)lease >> 8 & 0xfffffu) == rs_shared_generation(word)
           && rs_shared_left((uint32_t)(lease >> 32), now_ns) > 0;
}

static inline uint64_t rs_shared_lease(uint32_t slot, uint32_t number, uint64_t word, uint32_t until)
{
    return (uint64_t)until << 32 | (number & 15u) << 28 | rs_shared_generation(word) << 8 | (slot + 1);
}

/* Free the lease *mine*; without effect if it has lapsed and its place is another's. Return 1 if it was freed. */
static inline int rs_shared_lease_free(rs_shared_breaker *cell, uint32_t place, uint64_t mine)
{
    return place < RS_SHARED_PLACES && rs_atomic_swap(&cell->lease[place], &mine, 0);
}

/* 1 if the round of the half-open state *word* has ended. */
static inline int rs_shared_is_over(rs_shared_breaker *cell, uint64_t word)
{
    return rs_atomic_load(&cell->word) >> 32 != word >> 32;
}

/* Take one of the first *most* places, unless *places* are taken, with the lease *mine*: the place. Otherwise -1, and
 * *wait_ns* is the time until the next lease ends. A worker that was stopped since it saw the state *word* takes none:
 * in a later round it would not know the leases of others for what they are. A probe gives its lease back after its
 * verdict, so nothing is taken in between. */
static inline int rs_shared_lease_take(rs_shared_breaker *cell, uint64_t mine, uint64_t word, int64_t now_ns,
                                       uint32_t places, uint32_t most, int64_t *wait_ns)
{
    uint64_t seen[RS_SHARED_PLACES];
    uint32_t taken = 0;
    *wait_ns = INT64_MAX;
    for (uint32_t i = 0; i < RS_SHARED_PLACES; i++) {
        seen[i] = rs_atomic_load(&cell->lease[i]);
        if (rs_shared_lease_holds(seen[i], word, now_ns)) {
            int64_t left = rs_shared_left((uint32_t)(seen[i] >> 32), now_ns);
            *wait_ns = left < *wait_ns ? left : *wait_ns;
            taken++;
        }
    }
    if (rs_shared_is_over(cell, word))
        return -1; /* what was seen may be the leases of a later round */
    for (uint32_t i = 0; taken < places && i < most; i++)
        if (!rs_shared_lease_holds(seen[i], word, now_ns) && rs_atomic_swap(&cell->lease[i], &seen[i], mine)) {
            if (!rs_shared_is_over(cell, word))
                return (int)i;
            rs_shared_lease_free(cell, i, mine); /* it has no holder: the round ended before it began */
            return -1;
        }
    return -1;
}

/* Let the lease *mine* end at *until*; return the new lease, or 0 if it is lost. */
static inline uint64_t rs_shared_lease_extend(rs_shared_breaker *cell, uint32_t place, uint64_t mine, uint32_t until)
{
    uint64_t longer = (uint64_t)until << 32 | (uint32_t)mine;
    return place < RS_SHARED_PLACES && rs_atomic_swap(&cell->lease[place], &mine, longer) ? longer : 0;
}

/* ---- what the region needs ----------------------------------------------------------------------------------- */

static inline size_t rs_shared_breaker_size(void) { return sizeof(rs_shared_breaker); }

/* 1 if a worker has a slot, or takes one at its next call. */
static inline int rs_shared_may_join(const rs_member *me)
{
    return __atomic_load_n(&me->owner, __ATOMIC_RELAXED) != 0 || __atomic_load_n(&me->join, __ATOMIC_RELAXED) != NULL;
}

/* Free the leases of a dead worker, and take its row out of the sums. */
static inline void rs_shared_breaker_reap(void *body, uint32_t slot)
{
    rs_shared_breaker *cell = (rs_shared_breaker *)body;
    rs_atomic_store(&cell->row[slot].generation, 0);
    rs_atomic_store(&cell->row[slot].calls, 0);
    for (uint32_t i = 0; i < RS_SHARED_PLACES; i++) {
        uint64_t lease = rs_atomic_load(&cell->lease[i]);
        if (((uint32_t)lease & 0xff) == slot + 1)
            rs_atomic_swap(&cell->lease[i], &lease, 0);
    }
}
#endif
