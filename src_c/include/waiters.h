/* The waiter queue: a doubly linked list in arrival order. Enqueue, remove and wake are O(1).
 *
 * A waiter is a Python object of core that parks one call in its own loop or thread. Gates link it and mark it; core
 * parks, wakes and frees it. Lock held for every function here. A granted waiter keeps its grant until its call polls
 * it (takes it) or cancels (gives it back): no permit is lost in between. If its event loop is closed, core cancels for
 * it, and the permit goes to the next waiter.
 */
#ifndef RS_WAITERS_H
#define RS_WAITERS_H
#include "gate.h"

typedef enum {
    RS_WAITER_IDLE = 0,
    RS_WAITER_QUEUED = 1,
    RS_WAITER_GRANTED = 2,
    RS_WAITER_REJECTED = 3
} rs_waiter_state;

#define RS_NEAR 3

struct rs_waiter {
    PyObject_HEAD
    rs_waiter *prev, *next;
    rs_waiter *next_woken;      /* gate->woken: to wake after the lock is released */
    PyObject *waker;            /* callable, set by the backend while parked; NULL otherwise */
    rs_gate *gate;              /* where it waits or has waited, owned; set by core */
    union {                     /* the gate's own data beyond the amount */
        struct rs_claim *claim; /* of a rate limit, owned: the cost in all rates */
        uint64_t task;          /* of load shedding: its hash */
    };
    const void *near[RS_NEAR]; /* addresses that the call needs first when it resumes, to be prefetched */
    int64_t amount;            /* weight or cost requested */
    int64_t deadline_ns;       /* give up at; RS_NEVER */
    int64_t enqueued_ns;
    int64_t expires_ns; /* the call's own deadline, 0: none; set by core. No grant after it */
    uint8_t state;      /* rs_waiter_state */
    uint8_t reason;     /* with REJECTED: index into ops->reasons */
    uint8_t notified;   /* a wake-up is due or delivered */
    uint8_t woken;      /* linked in gate->woken */
    uint8_t waiting;    /* set by core until its call has polled it to the end or cancelled. Gate's lock held */
    uint32_t epoch;     /* with `waiting`: a queue from before a fork is gone */
};

typedef struct rs_queue {
    rs_waiter *head, *tail;
    int64_t length;
    int64_t amount; /* sum of the amounts queued */
} rs_queue;

#define RS_EXPIRED                                                                                                     \
    UINT8_MAX /* with REJECTED, in place of a reason: its deadline has passed. Core rejects the call
*/

static inline int rs_waiter_expired(const rs_waiter *waiter, int64_t now_ns)
{
    return waiter->expires_ns != 0 && now_ns >= waiter->expires_ns;
}

static inline void rs_queue_push(rs_queue *queue, rs_waiter *waiter, int64_t now_ns)
{
    waiter->prev = queue->tail;
    waiter->next = NULL;
    if (queue->tail)
        queue->tail->next = waiter;
    else
        queue->head = waiter;
    queue->tail = waiter;
    queue->length++;
    queue->amount += waiter->amount;
    waiter->state = RS_WAITER_QUEUED;
    waiter->enqueued_ns = now_ns;
}

static inline void rs_queue_remove(rs_queue *queue, rs_waiter *waiter)
{
    if (waiter->prev)
        waiter->prev->next = waiter->next;
    else
        queue->head = waiter->next;
    if (waiter->next)
        waiter->next->prev = waiter->prev;
    else
        queue->tail = waiter->prev;
    waiter->prev = waiter->next = NULL;
    queue->length--;
    queue->amount -= waiter->amount;
    waiter->state = RS_WAITER_IDLE;
}

/* Poll *waiter* soon, in its own loop or thread: after a grant, a rejection, or when its wake_ns has become earlier. */
static inline void rs_gate_wake(rs_gate *gate, rs_waiter *waiter)
{
    if (waiter->woken)
        return;
    waiter->woken = 1;
    Py_INCREF((PyObject *)waiter);
    waiter->next_woken = gate->woken;
    gate->woken = waiter;
}
#endif
