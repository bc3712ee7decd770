/* The slots of a fleet's bulkhead that one host, or one process, has on lease from the store; its workers take them
 * from a table of permits behind it (permits.h).
 *
 *     terms     allotment 20 | turn 8 | end 36, in units of 10 ms since the region's epoch; 0: no call and no ask yet
 *     missed    slots that calls wanted and did not get since the last ask
 *     waiting   ... and that calls wait for, reported since then by the queues of all processes
 *
 * The terms alone decide how many slots calls may have. The limit of the table follows them: each call sets it before it
 * takes. From `end` on no exchange has succeeded for the time of a lease, so the store is away: then the limit is a share
 * of the capacity, all of it, or none, as the policy wants it. No thread has to run for that.
 *
 * G1  Slots that calls have are never more than those that the store was asked to keep, or has granted since. A slot in
 *     use is never taken back: an allotment that shrinks only admits no more calls until enough have ended.
 *
 * A worker takes a permit and then reads the terms; the courier lowers the terms and then counts the permits. Swaps, and
 * reads by rs_atomic_read, are in one order for all: so the courier counts the permit, or the worker gives it back. While
 * calls have slots above a lowered bound, a worker counts all after it has taken one: two that take at once may be one
 * too many.
 *
 * An answer counts only for the latest ask, also if another process makes the trips since: no number has been drawn after
 * that of the ask, and the turn, which counts those that have been begun, is the same. No Python.h.
 */
#ifndef RS_SHARED_SLOTS_H
#define RS_SHARED_SLOTS_H
#include "courier.h"
#include "hold.h"

#define RS_SLOTS_MOST 0xfffffu /* slots of a fleet */
#define RS_SLOTS_UNIT_NS INT64_C(10000000)
#define RS_SLOTS_GRACE_NS INT64_C(1000000000) /* for which the first answer is waited for */

/* What calls get when the store is away. */
typedef enum { RS_SLOTS_LOCAL = 0, RS_SLOTS_OPEN = 1, RS_SLOTS_CLOSED = 2 } rs_slots_down;

typedef struct rs_slots {
    rs_courier courier;
    _Alignas(RS_LINE) rs_word64 terms;
    rs_word32 capacity; /* of the fleet; 0: not set yet */
    rs_word32 peers;    /* askers, as far as is known without an answer; 0: 1 */
    rs_word32 down;     /* rs_slots_down */
    rs_word32 eager;    /* 1: other askers may wait for a slot that is given back */
    rs_word32 left;     /* slots that no asker had at the latest answer; 0 after one that is lost */
    rs_word64 ends_us;  /* when the lease of the latest answer ends, by the store's clock */
    _Alignas(RS_LINE) rs_word64 missed;
    rs_word64 waiting;
} rs_slots;

/* What the courier finds in the cell when it asks. */
typedef struct rs_slots_found {
    uint64_t terms;           /* an answer counts as long as they stand */
    uint32_t kept;            /* calls have them, or may have until the answer comes */
    uint32_t sure;            /* of them by a lease that has not ended */
    uint32_t used, capacity;  /* slots that calls have, and those of the fleet */
    uint64_t missed, waiting; /* since the last ask */
    uint64_t ends_us;         /* of the lease, by the store's clock; 0: there is none, or it has ended */
} rs_slots_found;

static inline rs_permits *rs_slots_permits(rs_slots *cell) { return (rs_permits *)(cell + 1); }
static inline size_t rs_slots_size(uint32_t room) { return sizeof(rs_slots) + rs_permits_size(room); }

static inline uint64_t rs_slots_word(uint32_t allotment, uint32_t turn, int64_t end_ns)
{
    return allotment | (uint64_t)(turn & 0xff) << 20 | (uint64_t)(end_ns / RS_SLOTS_UNIT_NS) << 28;
}

static inline uint32_t rs_slots_allotment(uint64_t terms) { return (uint32_t)terms & RS_SLOTS_MOST; }
static inline uint32_t rs_slots_turn(uint64_t terms) { return (uint32_t)(terms >> 20) & 0xff; }
static inline int64_t rs_slots_end_ns(uint64_t terms) { return (int64_t)(terms >> 28) * RS_SLOTS_UNIT_NS; }

/* Before the first answer one call may pass, for a time: its host has a slot that the store does not know of. */
static inline uint64_t rs_slots_first(uint32_t turn, int64_t now_ns)
{
    return rs_slots_word(1, turn, now_ns + RS_SLOTS_GRACE_NS);
}

/* The slots of one of all askers, at least 1. */
static inline uint32_t rs_slots_share(rs_slots *cell)
{
    uint32_t heard = rs_atomic_load(&cell->courier.peers), peers = heard ? heard : rs_atomic_load(&cell->peers);
    uint32_t share = rs_atomic_load(&cell->capacity) / (peers ? peers : 1);
    return share ? share : 1;
}

/* The slots that calls may have at this time, by these terms. */
static inline uint32_t rs_slots_bound(rs_slots *cell, uint64_t terms, int64_t now_ns)
{
    uint32_t capacity = rs_atomic_load(&cell->capacity), allotment = terms ? rs_slots_allotment(terms) : 1;
    if (terms == 0 || now_ns < rs_slots_end_ns(terms))
        return allotment < capacity ? allotment : capacity;
    switch (rs_atomic_load(&cell->down)) {
    case RS_SLOTS_OPEN: return capacity;
    case RS_SLOTS_CLOSED: return 0;
    default: return rs_slots_share(cell);
    }
}

static inline uint32_t rs_slots_more(uint32_t one, uint32_t other) { return one > other ? one : other; }

/* Slots that calls have, those above the bound included, of a table of *room*. */
static inline uint32_t rs_slots_used(rs_slots *cell, uint32_t room)
{
    rs_permits *permits = rs_slots_permits(cell);
    rs_bounds bounds = rs_bounds_of(rs_atomic_read(&permits->bounds));
    uint32_t used = 0, end = rs_slots_more(bounds.limit, bounds.reach);
    for (uint32_t i = 0; i < end && i < room; i++)
        used += rs_atomic_read(rs_permit(permits, i)) != 0;
    return used;
}

/* ---- calls ------------------------------------------------------------------------------------------------------- */

/* The terms of now; the first call begins them. */
static inline uint64_t rs_slots_terms(rs_slots *cell, int64_t now_ns)
{
    uint64_t terms = rs_atomic_load(&cell->terms), first = rs_slots_first(0, now_ns);
    return terms != 0 || !rs_atomic_swap(&cell->terms, &terms, first) ? terms : first;
}

/* 1 if slots that have been taken by these terms and bounds are the fleet's. */
static inline int rs_slots_count(rs_slots *cell, const rs_hold *hold, uint64_t terms, rs_bounds bounds)
{
    if (rs_atomic_read(&cell->terms) != terms)
        return 0;
    return bounds.reach <= bounds.limit || rs_slots_used(cell, hold->room) <= bounds.limit;
}

/* Take *wanted* slots, all or none; return how many were free, at most *wanted*. There is an owner word. */
static inline uint32_t rs_slots_take(rs_slots *cell, rs_hold *hold, int64_t now_ns, uint32_t wanted)
{
    for (;;) {
        uint64_t terms = rs_slots_terms(cell, now_ns);
        uint64_t word = rs_permits_set_limit(hold->permits, rs_slots_bound(cell, terms, now_ns));
        rs_bounds bounds = rs_hold_within(hold, rs_bounds_of(word));
        uint32_t found = rs_hold_take_within(hold, wanted, bounds);
        if (found < wanted || rs_slots_count(cell, hold, terms, bounds))
            return found;
        rs_hold_give_back(hold, wanted);
    }
}

/* Count *n* slots that a call has wanted and not got. */
static inline void rs_slots_miss(rs_slots *cell, rs_member *me, uint32_t n)
{
    rs_atomic_add(&cell->missed, n);
    rs_courier_ring(&cell->courier, me);
}

/* The number of the next ask. */
static inline uint64_t rs_slots_next(rs_slots *cell) { return rs_atomic_load(&cell->courier.seq) + 1; }

/* Count what calls wait for, for the ask of this number: *n* more, or *all* that this process's calls wait for, if they
   have not been counted for it. *reported*: the ask for which they were, of this process. 1: there is something. */
static inline int rs_slots_wait_for(rs_slots *cell, uint64_t *reported, uint64_t ask, uint64_t n, uint64_t all)
{
    uint64_t more = *reported != ask ? all : n;
    *reported = ask;
    if (more != 0)
        rs_atomic_add(&cell->waiting, more);
    return more != 0;
}

/* 1 if the store had *n* slots at its latest answer that no asker had. */
static inline int rs_slots_are_left(rs_slots *cell, int64_t n) { return n <= (int64_t)rs_atomic_load(&cell->left); }

/* The same of a call that does not wait, as in shadow mode: others that found no slot since the last ask come first. */
static inline int rs_slots_were_left(rs_slots *cell, int64_t n)
{
    return rs_slots_are_left(cell, n + (int64_t)rs_atomic_load(&cell->missed));
}

/* A slot has been given back, and no call here waits for it. */
static inline void rs_slots_left(rs_slots *cell, rs_member *me)
{
    if (rs_atomic_load(&cell->eager))
        rs_courier_ring(&cell->courier, me);
}

/* ---- the courier ------------------------------------------------------------------------------------------------- */

/* The slots to be kept without a lease: those that calls have, and those that they may take until the answer comes. */
static inline uint32_t rs_slots_kept_alone(rs_slots *cell, uint64_t terms, int64_t now_ns)
{
    uint32_t bound = rs_slots_bound(cell, terms, now_ns), share = rs_slots_share(cell);
    if (now_ns >= rs_slots_end_ns(terms) && rs_atomic_load(&cell->courier.peers) == 0)
        return 0; /* no answer has come yet: all may be taken here, and by the others too */
    return bound < share ? bound : share;
}

/* Begin anew with a lease that has ended while no process of the host asked for it: 1; 0: it has not. Such a lease shows
   nothing about the store, which is there as for a host that is new: the first call begins the terms, whenever it
   comes. */
static inline int rs_slots_begin_anew(rs_slots *cell, int64_t now_ns)
{
    uint64_t terms = rs_atomic_load(&cell->terms);
    if (terms == 0 || now_ns < rs_slots_end_ns(terms))
        return 0;
    rs_atomic_store(&cell->courier.at_ns, 0); /* no answer stands */
    return rs_atomic_swap(&cell->terms, &terms, 0);
}

/* Begin an ask: give up what exceeds *keep* and is not in use. */
static inline rs_slots_found rs_slots_open(rs_slots *cell, uint32_t room, int64_t now_ns, uint32_t keep)
{
    rs_slots_found found = {.capacity = rs_atomic_load(&cell->capacity)};
    uint32_t used = rs_slots_used(cell, room), kept;
    uint64_t terms = rs_atomic_load(&cell->terms);
    int stands;
    do {
        uint32_t turn = rs_slots_turn(terms) + 1, allotment = rs_slots_allotment(terms);
        stands = now_ns < rs_slots_end_ns(terms) && rs_atomic_load(&cell->courier.at_ns) != 0;
        kept = !stands || allotment < rs_slots_more(keep, used) ? allotment : rs_slots_more(keep, used);
        found.terms = terms ? rs_slots_word(kept, turn, rs_slots_end_ns(terms)) : rs_slots_first(turn, now_ns);
    } while (!rs_atomic_swap(&cell->terms, &terms, found.terms));
    found.sure = stands ? kept : 0;
    found.ends_us = stands ? rs_atomic_load(&cell->ends_us) : 0;
    if (!stands)
        kept = rs_slots_kept_alone(cell, found.terms, now_ns);
    found.used = rs_slots_used(cell, room);
    found.kept = rs_slots_more(kept, found.used);
    found.missed = rs_atomic_and(&cell->missed, 0);
    found.waiting = rs_atomic_and(&cell->waiting, 0);
    return found;
}

/* Note what the store had at an answer; *left*: 0 if the answer is lost, so that no call waits for the next one. Before the
   first answer it is taken to have all. */
static inline void rs_slots_note(rs_slots *cell, uint32_t left) { rs_atomic_store(&cell->left, left); }

/* Take the answer to the ask of this number, which left these terms: 1, or 0 with nothing changed, as another courier has
   begun to ask since. *ends_us*: when the lease ends by the store's clock. */
static inline int rs_slots_grant(rs_slots *cell, uint64_t ask, uint64_t terms, uint32_t allotment, int64_t end_ns,
                                 uint64_t ends_us, int eager)
{
    if (rs_atomic_load(&cell->courier.seq) != ask)
        return 0;
    rs_atomic_store(&cell->eager, (uint32_t)eager);
    rs_atomic_store(&cell->ends_us, ends_us);
    return rs_atomic_swap(&cell->terms, &terms, rs_slots_word(allotment, rs_slots_turn(terms), end_ns));
}

/* No answer has ever come, and none is to be expected: calls get now what they get without a store. */
static inline void rs_slots_give_up(rs_slots *cell, uint64_t terms)
{
    (void)rs_atomic_swap(&cell->terms, &terms, rs_slots_word(0, rs_slots_turn(terms), RS_SLOTS_UNIT_NS));
}
#endif
