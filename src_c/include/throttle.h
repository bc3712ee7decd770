/* How much of the load a dependency is spared that fails in part, and what runs of equal outcomes prove.
 *
 * The share of calls that pass is what succeeds of those *sent*, over what has to: above the limit of failures it falls
 * with the successes, and is 0 only where nothing succeeds. A ratio to all calls *asked for* (Google, Site Reliability
 * Engineering, chapter 21) has no such rest: what it refuses lowers its own ratio, and the calls that would have
 * succeeded are refused with the others.
 *
 * Calls that are under way for too long count as failures while they last (`rs_overdue`): otherwise one that hangs is
 * seen when its timeout ends it, and until then all go the same way. Two half-periods are enough to tell, and no call
 * is followed: one that was begun before both is overdue.
 *
 * No Python.h; the owner locks.
 */
#ifndef RS_THROTTLE_H
#define RS_THROTTLE_H
#include <math.h>
#include <stdint.h>

#define RS_THROTTLE_CHANCE (-13.8155)   /* log of 1 in 1,000,000: what is less likely than that is no chance */
#define RS_THROTTLE_PRIOR 0.25          /* of one call, before the first: ten equal outcomes are enough for a new breaker */
#define RS_THROTTLE_RELIEF 0.8          /* it ends below this share of the limit, so that it does not flutter there */

/* What is sure of the ratio of *bad* calls to *total*, which is above 0: so many standard errors less than what was seen. */
static inline double rs_throttle_sure(uint64_t bad, uint64_t total, double errors)
{
    double ratio = (double)bad / (double)total;
    return ratio - errors * sqrt(ratio * (1.0 - ratio) / (double)total);
}

/* The share of calls that may pass when *bad* of *total* have failed, in [0, 1]. Only what is sure is held against the
 * dependency: one standard error of the ratio is in its favour. */
static inline double rs_throttle_share(uint64_t bad, uint64_t total, double limit)
{
    if (total == 0 || limit >= 1.0)
        return 1.0;
    double sure = rs_throttle_sure(bad, total, 1.0);
    return sure <= limit ? 1.0 : (1.0 - sure) / (1.0 - limit);
}

/* Do *run* equal outcomes at the end of *total*, of which *equal* are like them, prove that things have changed? */
static inline int rs_throttle_proof(int64_t run, uint64_t equal, uint64_t total)
{
    double others = equal > (uint64_t)run ? (double)(equal - (uint64_t)run) : 0.0;
    double before = total > (uint64_t)run ? (double)(total - (uint64_t)run) : 0.0;
    return (double)run * log((others + RS_THROTTLE_PRIOR) / (before + 1.0)) <= RS_THROTTLE_CHANCE;
}

typedef struct rs_overdue {
    uint64_t young, old, overdue;       /* calls under way: begun in this half-period, in the one before, earlier */
    uint64_t answered, answered_before; /* successes that came in this half-period, in the one before */
    int64_t number;                     /* of the half-period, from 1; 0 is that of calls that are not followed */
    int64_t end_ns;                     /* of the half-period */
} rs_overdue;

/* Forget all that is under way: what was begun before is not followed any more. */
static inline void rs_overdue_reset(rs_overdue *o)
{
    o->young = o->old = o->overdue = 0;
    o->answered = o->answered_before = 0;
    o->number += 2;
}

/* Go on to the half-period of *now_ns*; the next one ends *after_ns* from now. */
static inline void rs_overdue_turn(rs_overdue *o, int64_t now_ns, int64_t after_ns)
{
    int longer = o->number > 0 && now_ns - o->end_ns >= after_ns;  /* nobody came for a whole one */
    o->overdue += longer ? o->old + o->young : o->old;
    o->old = longer ? 0 : o->young;
    o->young = 0;
    o->answered_before = longer ? 0 : o->answered;
    o->answered = 0;
    o->number += longer ? 2 : 1;
    o->end_ns = now_ns + after_ns;
}

/* A call begins; the result goes with it to its end. */
static inline int64_t rs_overdue_begin(rs_overdue *o)
{
    o->young++;
    return o->number;
}

/* A call ends that began in half-period *number*. */
static inline void rs_overdue_end(rs_overdue *o, int64_t number)
{
    if (number == o->number)
        o->young--;
    else if (number == o->number - 1)
        o->old--;
    else
        o->overdue--;
}

/* Has nothing succeeded for as long as an overdue call takes? */
static inline int rs_overdue_silent(const rs_overdue *o)
{
    return o->answered == 0 && o->answered_before == 0;
}
#endif
