/* The permits that one gate of a process holds in a table of its host (permits.h).
 *
 * The permits of a process are all alike, so no call has one of its own: the gate counts its calls, and holds as many
 * permits. Calls that were admitted while the process had no slot have none; the gate then holds fewer.
 *
 * A permit is looked for among those given back last, whose lines are still in this processor's cache; then from this
 * worker's own part of the table on, so that workers meet late. All functions run under the gate's lock.
 */
#ifndef RS_SHARED_HOLD_H
#define RS_SHARED_HOLD_H
#include "permits.h"

typedef struct rs_hold {
    rs_permits *permits;
    rs_member *member;
    uint32_t *index; /* `room` numbers: [0, held) are held, [held, known) were given back, the latest first */
    uint32_t room, held, known;
    uint32_t owner; /* the word with which they were taken */
} rs_hold;

static inline void rs_hold_init(rs_hold *hold, rs_permits *permits, rs_member *member, uint32_t *index, uint32_t room)
{
    *hold = (rs_hold){.permits = permits, .member = member, .index = index, .room = room};
}

/* In the child of a fork: the permits are the parent's. */
static inline void rs_hold_forget(rs_hold *hold) { hold->held = hold->known = hold->owner = 0; }

/* These bounds within the room of the table; limit 0: none is set. */
static inline rs_bounds rs_hold_within(const rs_hold *hold, rs_bounds bounds)
{
    return (rs_bounds){bounds.limit < hold->room ? bounds.limit : hold->room,
                       bounds.reach < hold->room ? bounds.reach : hold->room, bounds.change};
}

/* The bounds in force. */
static inline rs_bounds rs_hold_bounds(const rs_hold *hold)
{
    return rs_hold_within(hold, rs_permits_bounds(hold->permits));
}

/* 1 if permits above a lowered limit may be held. */
static inline int rs_hold_is_lowered(const rs_hold *hold)
{
    rs_bounds bounds = rs_hold_bounds(hold);
    return bounds.reach > bounds.limit;
}

/* The worker has another owner word than when it took what it holds: it had lost its slot. Keep what has not been
   given to another worker meanwhile. */
static RS_SLOW void rs_hold_renew(rs_hold *hold, uint32_t owner)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < hold->held; i++) {
        uint32_t before = hold->owner;
        if (rs_atomic_swap(rs_permit(hold->permits, hold->index[i]), &before, owner))
            hold->index[kept++] = hold->index[i];
    }
    hold->held = hold->known = kept;
    hold->owner = owner;
}

/* This worker's owner word; 0: it has no slot, so its calls are the process's own. */
static inline uint32_t rs_hold_owner(rs_hold *hold)
{
    uint32_t owner = rs_member_owner(hold->member);
    if (owner != 0 && owner != hold->owner)
        rs_hold_renew(hold, owner);
    return owner;
}

static inline int rs_hold_take_at(rs_hold *hold, uint32_t i)
{
    rs_word32 *word = rs_permit(hold->permits, i);
    uint32_t seen = 0;
    return rs_atomic_load(word) == 0 && rs_atomic_swap(word, &seen, hold->owner);
}

/* Where this worker begins to look: the table in as many parts as there are workers. */
static inline uint32_t rs_hold_home(const rs_hold *hold, uint32_t limit)
{
    uint64_t living = rs_atomic_load(&hold->member->roll->living);
    uint64_t before = (UINT64_C(1) << rs_owner_slot(hold->owner)) - 1;
    uint64_t parts = (uint64_t)__builtin_popcountll(living | (before + 1));
    return (uint32_t)(limit * (uint64_t)__builtin_popcountll(living & before) / parts);
}

/* Take up to *wanted* permits, wherever they are free; return how many. */
static RS_SLOW uint32_t rs_hold_search(rs_hold *hold, uint32_t wanted, uint32_t limit)
{
    uint32_t found = 0, home = rs_hold_home(hold, limit);
    for (uint32_t k = 0; k < limit && found < wanted; k++) {
        uint32_t i = home + k < limit ? home + k : home + k - limit;
        if (rs_hold_take_at(hold, i)) {
            hold->index[hold->held++] = i;
            found++;
        }
    }
    hold->known = hold->held;
    return found;
}

static inline void rs_hold_give_back(rs_hold *hold, uint32_t many)
{
    while (many-- > 0) {
        uint32_t mine = hold->owner;
        hold->held--;
        (void)rs_atomic_swap(rs_permit(hold->permits, hold->index[hold->held]), &mine, 0);
    }
}

/* The slow part of rs_hold_take. */
static RS_SLOW uint32_t rs_hold_take_slowly(rs_hold *hold, uint32_t wanted, rs_bounds bounds)
{
    if (bounds.limit == 0)
        return 0;
    uint32_t left = bounds.reach > bounds.limit ? rs_permits_left(hold->permits, bounds) : bounds.limit;
    if (left < wanted)
        return left;
    uint32_t found = rs_hold_search(hold, wanted, bounds.limit);
    if (found < wanted)
        rs_hold_give_back(hold, found);
    return found;
}

/* Take *wanted* permits within these bounds, all or none; return how many were free, at most *wanted*. There is an owner
   word. */
static inline uint32_t rs_hold_take_within(rs_hold *hold, uint32_t wanted, rs_bounds bounds)
{
    if (wanted == 1 && bounds.reach <= bounds.limit && hold->held < hold->known
        && hold->index[hold->held] < bounds.limit && rs_hold_take_at(hold, hold->index[hold->held])) {
        hold->held++;
        return 1;
    }
    return rs_hold_take_slowly(hold, wanted, bounds);
}

static inline uint32_t rs_hold_take(rs_hold *hold, uint32_t wanted)
{
    return rs_hold_take_within(hold, wanted, rs_hold_bounds(hold));
}

/* Put a permit at or above the limit last, where it is given back first. */
static RS_SLOW void rs_hold_put_last(rs_hold *hold, uint32_t limit)
{
    for (uint32_t i = 0; i < hold->held; i++)
        if (hold->index[i] >= limit) {
            uint32_t last = hold->index[hold->held - 1];
            hold->index[hold->held - 1] = hold->index[i];
            hold->index[i] = last;
            return;
        }
}

/* Give back *many* of those held: first those above a lowered limit, then the latest. */
static inline void rs_hold_give(rs_hold *hold, uint32_t many)
{
    for (; many > 0; many--) {
        rs_bounds bounds = rs_hold_bounds(hold);
        if (bounds.reach > bounds.limit)
            rs_hold_put_last(hold, bounds.limit);
        rs_hold_give_back(hold, 1);
    }
}
#endif
