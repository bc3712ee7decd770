/* The order of calls that wait for a lease, in all processes of its cell. A part of lease.h.
 *
 * A call that waits has a place: the sum of what all calls have asked for that came to wait up to it. It takes its tokens
 * once the purse holds those of all that wait before it. So what a grant does not bring to a call of this process stays in
 * the purse for those of others, which their own threads serve: the courier rings for them.
 *
 * A process that is dead or stopped leaves its places there, in front of all others after a while. Calls behind them
 * would take what comes in beyond their tokens, which would lie in the purse for ever. So where tokens have lain for half
 * a second, and none has been taken by a call with none before it, the order begins anew, and each process queues its
 * calls again. No Python.h.
 */
#ifndef RS_SHARED_LEASE_ORDER_H
#define RS_SHARED_LEASE_ORDER_H
#include "lease.h"

#define RS_LEASE_LAIN_NS INT64_C(500000000)
#define RS_LEASE_LOOK_NS (RS_LEASE_LAIN_NS / 4) /* where tokens lie for others: how often a call looks at them */

/* What all calls that wait have asked for. */
static inline int64_t rs_leased_queued(rs_leased *lease)
{
    int64_t queued = (int64_t)(rs_atomic_load(&lease->joined) - rs_atomic_load(&lease->gone));
    return queued > 0 ? queued : 0;
}

/* Let the order begin anew, at which all places are void. The count first: a place of the new order is behind it. */
static inline void rs_leased_reorder(rs_leased *lease)
{
    rs_atomic_store(&lease->gone, rs_atomic_load(&lease->joined));
    rs_atomic_add(&lease->order, 1);
}

/* A call has taken tokens that has none before it: those that lie here are on their way. */
static inline void rs_leased_moves(rs_leased *lease) { rs_atomic_store(&lease->lain_ns, 0); }

/* Tokens lie here for others: 1 if they have done so for long, and the order begins anew. The calls that wait look often:
   what none has seen for as long has not lain. */
static RS_SLOW int rs_leased_unblock(rs_leased *lease, int64_t now_ns)
{
    uint64_t since = rs_atomic_load(&lease->lain_ns);
    int64_t looked = (int64_t)rs_atomic_load(&lease->looked_ns);
    rs_atomic_store(&lease->looked_ns, (uint64_t)now_ns);
    if (since == 0 || now_ns - looked >= RS_LEASE_LAIN_NS) {
        (void)rs_atomic_swap(&lease->lain_ns, &since, (uint64_t)now_ns);
        return 0;
    }
    if (now_ns - (int64_t)since < RS_LEASE_LAIN_NS || !rs_atomic_swap(&lease->lain_ns, &since, 0))
        return 0;
    rs_leased_reorder(lease);
    return 1;
}

/* 1 if the order has begun anew: the places of this process's calls are void, and it takes others for them. */
static inline int rs_draw_is_new_order(rs_draw *draw)
{
    uint64_t order = rs_atomic_load(&draw->lease->order), mine = draw->order;
    draw->order = order;
    return order != mine;
}

/* Wait for *n* behind all calls that wait: the place. */
static inline int64_t rs_draw_join(rs_draw *draw, int64_t n)
{
    return (int64_t)rs_atomic_add(&draw->lease->joined, (uint64_t)n) + n;
}

/* Wait for *n* no more. *is_unasked*: without the tokens, which no question has asked for. A place of another order is
   void. */
static inline void rs_draw_leave(rs_draw *draw, int64_t n, int is_unasked)
{
    if (is_unasked)
        rs_atomic_add(&draw->lease->unasked, (uint64_t)n);
    if (draw->order == rs_atomic_load(&draw->lease->order))
        rs_atomic_add(&draw->lease->gone, (uint64_t)n);
}

/* What the calls ask for that wait before this place, of a call that waits for *n*. */
static inline int64_t rs_draw_before(rs_draw *draw, int64_t n, int64_t place)
{
    return n ? rs_later(place - n - rs_word_signed(&draw->lease->gone), 0) : 0;
}
#endif
