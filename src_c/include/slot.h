/* A slot: the share of one call in one gate.
 *
 * Core owns all of it except one union, in which the gate keeps its state until the call ends. Each kind of gate has
 * its own member there. Before `admit` sets a member it is undefined, except for the fields set by `prepare` or core.
 */
#ifndef RS_SLOT_H
#define RS_SLOT_H
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rs_gate rs_gate;
typedef struct rs_waiter rs_waiter;
struct rs_claim;

/* State of a slot. Core sets HELD, WAITING and EMPTY; a gate sets SHADOW itself. */
typedef enum {
    RS_SLOT_EMPTY = 0,
    RS_SLOT_WAITING = 1,
    RS_SLOT_HELD = 2,
    RS_SLOT_SHADOW = 3 /* enforcement would have rejected: passes, holds nothing, teaches nothing */
} rs_slot_state;

/* 20 bytes, so that `state` shares a word with the last four: each slot is part of every call. Every member is
   nevertheless aligned to its own size. RS_SLOT_AT makes a pointer to a member of eight bytes, since the
   compiler cannot know that. */
#define RS_OF_SLOT __attribute__((packed, aligned(4)))
#define RS_SLOT_AT(slot, member) ((void *)((char *)(slot) + offsetof(rs_slot, member)))

typedef struct rs_slot {
    rs_gate *gate; /* the gate of this slot; set by core */
    union {
        struct RS_OF_SLOT rs_of_breaker {
            uint64_t generation; /* of the breaker at admission: results of an older one are dropped */
            union {
                int64_t followed; /* the half-period in which a tracked call began (throttle.h), or 0 */
                uint64_t lease;   /* of a probe of a breaker that the host shares */
            };
            uint32_t number; /* of a probe its lease, otherwise of the call; 0: passed in shadow mode */
        } breaker;
        struct RS_OF_SLOT rs_of_bulkhead {
            int64_t weight; /* permits taken, or to take */
        } bulkhead;
        struct RS_OF_SLOT rs_of_limiter {
            struct rs_claim *claim; /* the cost in all rates, owned; NULL: `cost`, or the default cost */
            int64_t cost;           /* in the first rate */
            uint32_t version;       /* of the configuration; before `admit` 0: the default cost */
        } limiter;
        struct RS_OF_SLOT rs_of_adaptive {
            uint64_t generation; /* of the learned state */
            int64_t inflight;    /* calls when this one was admitted */
            uint32_t flags;
        } adaptive;
        struct RS_OF_SLOT rs_of_shedder {
            uint64_t task; /* hash, salted once the call has a place; 0: none */
            union {
                uint64_t tenant; /* hash, until the call has a place in the queue or a permit */
                int64_t place;   /* from then on */
            };
            uint32_t level : 8;     /* its class */
            uint32_t inflight : 24; /* calls when this one was admitted */
        } shedder;
        struct RS_OF_SLOT rs_of_custom {
            PyObject *call; /* owned, from `admit` on; NULL: none */
        } custom;
        struct RS_OF_SLOT rs_of_strategy { /* of every strategy before `prepare`; set by core */
            int64_t deadline_ns;           /* of the inner part, or RS_NEVER */
            uint32_t before;               /* slots of this run before it */
        } strategy;
        struct RS_OF_SLOT rs_of_retry {
            int64_t deadline_ns;  /* as of every strategy */
            uint32_t before;      /* as of every strategy */
            uint8_t paid_outside; /* a retry around this one deposits for the call */
            uint8_t measures;     /* a success gives the latency of an attempt */
        } retry;
        struct RS_OF_SLOT rs_of_hedge {
            int64_t deadline_ns; /* as of every strategy */
            uint32_t before;     /* as of every strategy */
            uint8_t raced;       /* the call has a copy of its caller's context, so it may have copies */
            uint8_t judged;      /* the primary's outcome was learned, or the race that runs it learns it */
        } hedge;
        struct RS_OF_SLOT rs_of_timeout {
            int64_t total_ns;   /* allowed for this call */
            int64_t expired_ns; /* when it was interrupted */
            uint32_t ours;      /* it was interrupted by this stage */
        } timeout;
        struct RS_OF_SLOT rs_of_deadline {
            PyObject *value;  /* the ambient deadline that was set, owned; NULL: none */
            PyObject *before; /* the one before it, owned; NULL: none */
        } deadline;
        struct RS_OF_SLOT rs_of_seat {
            uint8_t place; /* of the endpoint in its pool */
        } seat;
    };
    uint8_t state;       /* rs_slot_state */
    uint8_t flags;       /* RS_RESOLVED to RS_OWN_WAY; 0 before `prepare` unless resolved */
    int64_t admitted_ns; /* set by core */
    int64_t first_ns;    /* first item of a stream, 0 if none; set by core */
    int64_t wake_ns;     /* with WAIT: latest time to poll, RS_NEVER for no limit; set by the gate */
    rs_waiter *waiter;   /* owned by core; made by core before `admit` returns to a WAIT, see waiters.h */
    PyObject *extra;     /* a strategy's own, owned; core drops it when the stage is left */
} rs_slot;
/* `resolve` found `gate` for this call, which owns a reference to its keeper or to the gate; set by core. */
#define RS_RESOLVED 1u
#define RS_TO_UNDO 2u /* call `leave` though `extra` is NULL; set by `prepare`, cleared by a gate's `admit` */
#define RS_LEFT 4u    /* ignored because the caller left: cancelled from outside, or out of time; set by core */
#define RS_ASKS 8u    /* with WAIT: `wake_ns` is when to ask again, and the wait ends at the waiter's `deadline_ns` */
#define RS_PROBES 16u /* of a breaker: this call is the probe of its fleet */
/* Of a strategy: the function was called inside of it, by an attempt that has ended, or by one of several at once. */
#define RS_REACHED 32u
/* Of a strategy: what ends next inside of it is no call by this run, but its own awaitable, its handler, or Python, which
   runs the inner part; set by core. */
#define RS_OWN_WAY 64u

_Static_assert(sizeof(void *) != 8 || sizeof(rs_slot) == 72, "a slot is nine words");
#endif
