/* What a gate adds to its own count and queue if its permits are the host's (shared/hold.h), or a fleet's (shared/slots.h).
 *
 * A permit that another worker gives back wakes no call here. So one waiter of each worker, the asker, is polled after
 * 0.5, 1, 2 and then every 4 ms, and asks for all calls that wait here. Their order is kept; between workers it is
 * random.
 *
 * A worker whose calls end gives their permits to its own queue, at once. So that it does not keep them forever while
 * the calls of others wait, it leaves to them what exceeds its share: the limit, divided by the workers with a queue.
 */
#ifndef RS_HOST_PERMITS_H
#define RS_HOST_PERMITS_H
#include "shared/slots.h"
#include "waiters.h"
#include <stdlib.h>

#define RS_ASK_NS INT64_C(500000)          /* before the first question; doubled after each that found nothing, */
#define RS_ASK_STEPS 3                     /* so often at most */
#define RS_ASK_ALONE_NS INT64_C(250000000) /* no other worker lives: a permit may be a dead one's */

typedef struct rs_host {
    rs_hold hold;
    rs_waiter *asker;   /* NULL: no call waits */
    int64_t ask_ns;     /* when it asks */
    uint64_t announced; /* this worker's bit among those whose calls wait, or 0 */
    uint64_t random;
    uint32_t step;
    uint32_t index[]; /* of `hold` */
} rs_host;

/* NULL: no memory. */
static inline rs_host *rs_host_new(rs_permits *permits, rs_member *member, uint32_t room)
{
    rs_host *host = (rs_host *)calloc(1, sizeof(rs_host) + room * sizeof(uint32_t));
    if (host == NULL)
        return NULL;
    rs_hold_init(&host->hold, permits, member, host->index, room);
    host->random = (uint64_t)(uintptr_t)host | 1;
    return host;
}

/* Give back all that is held, and the place among those whose calls wait. */
static inline void rs_host_free(rs_host *host)
{
    if (host == NULL)
        return;
    rs_hold_give(&host->hold, host->hold.held);
    rs_atomic_and(&host->hold.permits->waiting, ~host->announced);
    free(host);
}

/* In the child of a fork: the permits and the queue are the parent's. */
static inline void rs_host_forget(rs_host *host)
{
    rs_hold_forget(&host->hold);
    host->asker = NULL;
    host->announced = 0;
}

/* The host's limit; 0: this worker has no slot and gets none, so that its calls are the process's own. A process that
   reads it does not become a worker. */
static inline uint32_t rs_host_limit(const rs_host *host)
{
    const rs_member *me = host->hold.member;
    int is_apart = atomic_load_explicit(&me->owner, memory_order_relaxed) == 0
                   && __atomic_load_n(&me->join, __ATOMIC_RELAXED) == NULL;
    return is_apart ? 0 : rs_hold_bounds(&host->hold).limit;
}

/* ---- permits --------------------------------------------------------------------------------------------------- */

/* Take *wanted* permits, all or none, for a gate whose calls have *used*. Return how many were free, at most *wanted*;
   -1: this worker has no slot, the process's own count decides. */
static inline int64_t rs_host_take(rs_host *host, int64_t used, int64_t wanted)
{
    rs_hold *hold = &host->hold;
    if (rs_hold_owner(hold) == 0)
        return -1;
    int64_t over = (int64_t)hold->held - used;  /* of a call that has just ended */
    if (over > 0 && rs_hold_is_lowered(hold)) { /* so these permits may be too many */
        rs_hold_give(hold, (uint32_t)over);
        over = 0;
    }
    if (over <= 0)
        return wanted > hold->room ? 0 : rs_hold_take(hold, (uint32_t)wanted);
    if (over >= wanted)
        return wanted;
    return wanted > hold->room ? over : over + rs_hold_take(hold, (uint32_t)(wanted - over));
}

/* Give back what exceeds the permits that the gate's calls have. */
static inline void rs_host_give(rs_host *host, int64_t used)
{
    if ((int64_t)host->hold.held > used)
        rs_hold_give(&host->hold, (uint32_t)((int64_t)host->hold.held - used));
}

/* The same of a fleet's slots. */
static inline int64_t rs_host_take_slots(rs_host *host, rs_slots *cell, int64_t now_ns, int64_t used, int64_t wanted)
{
    rs_hold *hold = &host->hold;
    if (rs_hold_owner(hold) == 0)
        return -1;
    rs_host_give(host, used); /* of a call that has just ended: the allotment may have shrunk */
    return wanted > hold->room ? 0 : rs_slots_take(cell, hold, now_ns, (uint32_t)wanted);
}

/* 1: leave returned permits to the calls of other workers. */
static inline int rs_host_yields(const rs_host *host, int64_t used)
{
    uint64_t others = rs_atomic_load(&host->hold.permits->waiting) & ~host->announced;
    return others != 0 && (used + 1) * (__builtin_popcountll(others) + 1) > (int64_t)rs_hold_bounds(&host->hold).limit;
}

/* ---- the queue ------------------------------------------------------------------------------------------------- */

/* Set the time of the next question. */
static inline void rs_host_ask_later(rs_host *host, int64_t now_ns)
{
    int64_t wait_ns = RS_ASK_NS << host->step;
    host->step += host->step < RS_ASK_STEPS;
    if (rs_member_peers(host->hold.member) == 1)
        wait_ns = RS_ASK_ALONE_NS;
    host->random ^= host->random << 13;
    host->random ^= host->random >> 7;
    host->random ^= host->random << 17;
    host->ask_ns = now_ns + wait_ns * 3 / 4 + (int64_t)(host->random % (uint64_t)(wait_ns / 2));
}

/* A call has been queued. */
static inline void rs_host_queued(rs_host *host, rs_waiter *waiter, int64_t now_ns)
{
    uint32_t owner = rs_hold_owner(&host->hold);
    if (host->announced == 0 && owner != 0) {
        host->announced = UINT64_C(1) << rs_owner_slot(owner);
        (void)rs_atomic_or(&host->hold.permits->waiting, host->announced);
    }
    if (host->asker == NULL) {
        host->asker = waiter;
        host->step = 0;
        rs_host_ask_later(host, now_ns);
    }
}

/* Set when the queued call of *slot* is polled: at its deadline, or to ask. */
static inline void rs_host_wait(const rs_host *host, rs_slot *slot, const rs_waiter *waiter)
{
    slot->wake_ns = waiter->deadline_ns;
    slot->flags &= (uint8_t)~RS_ASKS;
    if (host->asker == waiter && host->ask_ns < waiter->deadline_ns) {
        slot->wake_ns = host->ask_ns;
        slot->flags |= RS_ASKS;
    }
}

static inline int rs_host_asks(const rs_host *host, const rs_waiter *waiter, int64_t now_ns)
{
    return host->asker == waiter && now_ns >= host->ask_ns;
}

/* The asker has asked for all that wait. */
static inline void rs_host_asked(rs_host *host, int found, int64_t now_ns)
{
    if (found)
        host->step = 0;
    rs_host_ask_later(host, now_ns);
}

/* A call has left the queue. The next to ask is the one that stays longest, so that few calls are woken for it. */
static inline void rs_host_unqueued(rs_gate *gate, rs_host *host, const rs_queue *queue, const rs_waiter *waiter,
                                    int newest_first)
{
    if (queue->head == NULL && host->announced != 0) {
        (void)rs_atomic_and(&host->hold.permits->waiting, ~host->announced);
        host->announced = 0;
    }
    if (host->asker != waiter)
        return;
    host->asker = newest_first ? queue->head : queue->tail;
    if (host->asker != NULL)
        rs_gate_wake(gate, host->asker);
}
#endif
