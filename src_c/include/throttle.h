/* How much load to spare a dependency that fails in part, and when a run of equal outcomes proves a change.
 *
 * The share of calls that may pass is the success ratio of the calls *sent*, divided by the required ratio. Above the
 * limit of failures it falls with the successes, and is 0 only where nothing succeeds. A ratio to all calls *asked for*
 * (Google, Site Reliability Engineering, chapter 21) has no such equilibrium: its rejections lower its own ratio, and
 * calls that would have succeeded are rejected with the others.
 *
 * Calls in flight for too long count as failures while they last (`rs_overdue`). Otherwise a hanging call shows only
 * when its timeout ends it, and until then all calls hang alike. Two half-periods suffice, and no call is tracked: a
 * call begun before both is overdue.
 *
 * No Python.h; the owner locks.
 */
#ifndef RS_THROTTLE_H
#define RS_THROTTLE_H
#include <math.h>
#include <stdint.h>

/* Log of 1 in 1,000,000: anything less likely is not chance. Ten failures in a row may be: where half of 100 calls a
 * second fail, they come every 20 s. */
#define RS_THROTTLE_CHANCE (-13.8155)
#define RS_THROTTLE_PRIOR 0.25 /* of one call, before the first: ten equal outcomes suffice in a new breaker */
#define RS_THROTTLE_RELIEF 0.8 /* throttling ends below this share of the limit, to avoid flutter */

/* Lower bound on the ratio of *bad* calls to *total* (> 0): *errors* standard errors below the observed ratio. */
static inline double rs_throttle_sure(uint64_t bad, uint64_t total, double errors)
{
    double ratio = (double)bad / (double)total;
    return ratio - errors * sqrt(ratio * (1.0 - ratio) / (double)total);
}

/* The share of calls that may pass after *bad* of *total* failed, in [0, 1]. One standard error of the ratio is in
 * favour of the dependency. */
static inline double rs_throttle_share(uint64_t bad, uint64_t total, double limit)
{
    if (total == 0 || limit >= 1.0)
        return 1.0;
    double sure = rs_throttle_sure(bad, total, 1.0);
    return sure <= limit ? 1.0 : (1.0 - sure) / (1.0 - limit);
}

/* Return 1 if the last *run* equal outcomes prove a change; *equal* of the *total* outcomes are like them. */
static inline int rs_throttle_proof(int64_t run, uint64_t equal, uint64_t total)
{
    double others = equal > (uint64_t)run ? (double)(equal - (uint64_t)run) : 0.0;
    double before = total > (uint64_t)run ? (double)(total - (uint64_t)run) : 0.0;
    return (double)run * log((others + RS_THROTTLE_PRIOR) / (before + 1.0)) <= RS_THROTTLE_CHANCE;
}

typedef struct rs_overdue {
    uint64_t young, old, overdue;       /* calls in flight: begun in this half-period, in the one before, earlier */
    uint64_t answered, answered_before; /* successes of this half-period, and of the one before */
    int64_t number;                     /* of the half-period, from 1; 0: of calls that are not tracked */
    int64_t end_ns;                     /* of the half-period */
} rs_overdue;

/* Forget the calls in flight: they are not tracked any more. */
static inline void rs_overdue_reset(rs_overdue *o)
{
    o->young = o->old = o->overdue = 0;
    o->answered = o->answered_before = 0;
    o->number += 2;
}

/* Move on to the half-period of *now_ns*; the next one ends *after_ns* from now. */
static inline void rs_overdue_turn(rs_overdue *o, int64_t now_ns, int64_t after_ns)
{
    int longer = o->number > 0 && now_ns - o->end_ns >= after_ns; /* a whole half-period without a call */
    o->overdue += longer ? o->old + o->young : o->old;
    o->old = longer ? 0 : o->young;
    o->young = 0;
    o->answered_before = longer ? 0 : o->answered;
    o->answered = 0;
    o->number += longer ? 2 : 1;
    o->end_ns = now_ns + after_ns;
}

/* Begin a call; its end needs the number returned. */
static inline int64_t rs_overdue_begin(rs_overdue *o)
{
    o->young++;
    return o->number;
}

/* End a call that began in half-period *number*. */
static inline void rs_overdue_end(rs_overdue *o, int64_t number)
{
    if (number == o->number)
        o->young--;
    else if (number == o->number - 1)
        o->old--;
    else
        o->overdue--;
}

/* Return 1 if no call has succeeded for as long as an overdue call takes. */
static inline int rs_overdue_silent(const rs_overdue *o) { return o->answered == 0 && o->answered_before == 0; }
#endif
