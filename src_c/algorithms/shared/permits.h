/* Permits that the workers of a host share: a table of words, each of them free or with its holder's owner word.
 *
 *   line 0   bounds      limit 24 | reach 24 | number of the change 16, read-mostly
 *   line 1   waiting     a bit for each worker whose calls wait
 *   then     permits     a line each up to 256, dense above: what one worker holds the others need not write
 *
 * Invariants, at every instruction and whatever worker dies there:
 *
 *   P1  never more permits are held than the limit, or than the limit before it was lowered
 *   P2  what a dead worker held is free once it is reaped
 *   P3  no permit is lost: the count is the words themselves
 *
 * Memory of zeroes is a table without a limit, in which nothing can be taken. Permits from the limit on are not taken.
 * Those that are still held there after it was lowered count: until they end, a call is admitted only if fewer than the
 * limit are held in all. That takes a look at all of them, so it is done only while the limit is below `reach`: at and
 * above the higher of the two nothing is held.
 */
#ifndef RS_SHARED_PERMITS_H
#define RS_SHARED_PERMITS_H
#include "member.h"

#define RS_PERMIT_LINES 256u /* permits that have a line of their own */
#define RS_PERMITS_A_LINE (RS_LINE / (uint32_t)sizeof(uint32_t))

typedef struct rs_permits {
    _Alignas(RS_LINE) rs_word64 bounds;
    _Alignas(RS_LINE) rs_word64 waiting; /* bit i: calls of the worker in slot i wait */
    _Alignas(RS_LINE) rs_word32 word[];
} rs_permits;

#define RS_PERMITS_MOST 0xffffffu

typedef struct rs_bounds {
    uint32_t limit, reach; /* limit 0: not set yet */
    uint32_t change;       /* a limit that is there again is another one */
} rs_bounds;

/* Bytes of a table of *room* permits. */
static inline size_t rs_permits_size(uint32_t room)
{
    uint32_t lines = room < RS_PERMIT_LINES ? room : RS_PERMIT_LINES;
    return sizeof(rs_permits) + (size_t)RS_LINE * (lines + (room - lines + RS_PERMITS_A_LINE - 1) / RS_PERMITS_A_LINE);
}

/* The permits of a table of this size in bytes, at least as many as it was made for. */
static inline uint32_t rs_permits_room(size_t size)
{
    uint32_t lines = size > sizeof(rs_permits) ? (uint32_t)((size - sizeof(rs_permits)) / RS_LINE) : 0;
    return lines <= RS_PERMIT_LINES ? lines : RS_PERMIT_LINES + (lines - RS_PERMIT_LINES) * RS_PERMITS_A_LINE;
}

static inline rs_word32 *rs_permit(rs_permits *permits, uint32_t i)
{
    return &permits->word[i < RS_PERMIT_LINES ? i * RS_PERMITS_A_LINE : RS_PERMIT_LINES * (RS_PERMITS_A_LINE - 1) + i];
}

static inline rs_bounds rs_bounds_of(uint64_t word)
{
    uint32_t limit = (uint32_t)word & RS_PERMITS_MOST, reach = (uint32_t)(word >> 24) & RS_PERMITS_MOST;
    return (rs_bounds){limit, reach, (uint32_t)(word >> 48)};
}

static inline uint64_t rs_bounds_word(rs_bounds bounds)
{
    return bounds.limit | (uint64_t)bounds.reach << 24 | (uint64_t)bounds.change << 48;
}

static inline uint32_t rs_permits_most(uint32_t limit) { return limit < RS_PERMITS_MOST ? limit : RS_PERMITS_MOST; }

static inline rs_bounds rs_permits_bounds(rs_permits *permits)
{
    return rs_bounds_of(rs_atomic_load(&permits->bounds));
}

/* Set the limit of a table that has none. The first worker's counts: all of them have the same stock. */
static inline void rs_permits_begin(rs_permits *permits, uint32_t limit)
{
    uint64_t unset = 0;
    if (rs_atomic_load(&permits->bounds) == 0)
        (void)rs_atomic_swap(&permits->bounds, &unset, rs_bounds_word((rs_bounds){.limit = rs_permits_most(limit)}));
}

/* Move the limit; return the bounds with it. Held permits stay held. */
static inline uint64_t rs_permits_set_limit(rs_permits *permits, uint32_t limit)
{
    uint64_t seen = rs_atomic_load(&permits->bounds), moved;
    limit = rs_permits_most(limit);
    do {
        rs_bounds before = rs_bounds_of(seen);
        if (before.limit == limit)
            return seen;
        moved = rs_bounds_word((rs_bounds){.limit = limit,
                                           .reach = before.reach > before.limit ? before.reach : before.limit,
                                           .change = (before.change + 1) & 0xffff});
    } while (!rs_atomic_swap(&permits->bounds, &seen, moved));
    return moved;
}

/* How many of the permits from *first* to *end* are held. */
static inline uint32_t rs_permits_held(rs_permits *permits, uint32_t first, uint32_t end)
{
    uint32_t held = 0;
    for (uint32_t i = first; i < end; i++)
        held += rs_atomic_load(rs_permit(permits, i)) != 0;
    return held;
}

/* All that are held, those above a lowered limit included. */
static inline uint32_t rs_permits_used(rs_permits *permits)
{
    rs_bounds bounds = rs_permits_bounds(permits);
    return rs_permits_held(permits, 0, bounds.limit > bounds.reach ? bounds.limit : bounds.reach);
}

/* How many more may be taken, of a limit that was lowered. */
static inline uint32_t rs_permits_left(rs_permits *permits, rs_bounds bounds)
{
    uint32_t limit = bounds.limit, above = rs_permits_held(permits, limit, bounds.reach);
    if (above == 0) { /* from now on there is nothing to look for, unless the limit moves again */
        uint64_t seen = rs_bounds_word(bounds);
        bounds.reach = limit;
        (void)rs_atomic_swap(&permits->bounds, &seen, rs_bounds_word(bounds));
        return limit;
    }
    uint32_t held = above + rs_permits_held(permits, 0, limit);
    return held < limit ? limit - held : 0;
}

/* Free what the worker in *slot* held. It is dead: the caller has the lock of its slot. */
static inline void rs_shared_permits_reap(rs_permits *permits, size_t size, uint32_t slot)
{
    uint32_t room = rs_permits_room(size);
    (void)rs_atomic_and(&permits->waiting, ~(UINT64_C(1) << slot));
    for (uint32_t i = 0; i < room; i++) {
        uint32_t owner = rs_atomic_load(rs_permit(permits, i));
        if (owner != 0 && rs_owner_slot(owner) == slot)
            (void)rs_atomic_swap(rs_permit(permits, i), &owner, 0);
    }
}
#endif
