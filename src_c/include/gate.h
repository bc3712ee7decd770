/* The contract between a pipeline and a gate.
 *
 * A gate admits calls and learns from how they end. It is a state machine without I/O: it never sleeps, spawns, logs or
 * reads a clock. The pipeline (core) does the rest: it takes the gate's lock, reads the clock, keeps the counters and
 * the latency histogram, raises rejections, parks the caller, wakes waiters and delivers events.
 *
 * Every operation below runs with the gate's lock held: C arithmetic only, no Python call, no allocation through
 * Python. `prepare` is the exception: it runs before, without the lock, and may call Python (a cost function).
 *
 *   A call's life at one gate:   prepare?  admit -> ADMITTED ................................ settle
 *                                          admit -> WAIT -> poll* -> ADMITTED ............... settle
 *                                                                    REJECTED
 *                                          admit -> REJECTED
 *     `cancel` replaces `settle` when the callee was never called (an inner rejection, a cancelled wait): it gives back
 *     everything, as if the gate had not been asked. `recheck` asks again after the call has waited at another gate.
 */
#ifndef RS_GATE_H
#define RS_GATE_H
#include <Python.h>
#include <stdint.h>
#include "rs_lock.h"
#include "loglinear.h"
#include "segments.h"
#include "slot.h"

#define RS_NEVER INT64_MAX                 /* a time that does not come */
#define RS_APART __attribute__((noinline)) /* slow part of a fast function: inlining costs each call saved registers */

typedef enum { RS_ADMITTED = 0, RS_WAIT = 1, RS_REJECTED = 2 } rs_verdict;
/* REFUSED: the server is up and did nothing. resilio/_failures/outcome_table.py has what each part does with each. */
typedef enum { RS_SUCCESS = 0, RS_FAILURE = 1, RS_IGNORED = 2, RS_REFUSED = 3 } rs_outcome;
/* Evidence of the health of the callee. */
static inline int rs_is_evidence(int outcome) { return outcome < RS_IGNORED; }
/* Another attempt or target may serve the call. */
static inline int rs_is_unserved(int outcome) { return outcome == RS_FAILURE || outcome == RS_REFUSED; }

/* Whose rule judges at a gate in a client's pipeline, which has rules of its own (pipeline.h).
   Elsewhere: the gate's own. */
typedef enum {
    RS_RULE_OWN = 0,     /* its own here too: its policy received one */
    RS_RULE_FAILING = 1, /* outcomes that show an unhealthy dependency */
    RS_RULE_DROPS = 2,   /* outcomes that show an overload; other failures are ignored */
    RS_RULE_DOUBT = 3,   /* answers that are neither success nor failure of this policy: ignored */
    RS_RULE_PLACED = 4   /* as failing, for an endpoint of a pool: answers from 400 on show nothing of it */
} rs_rule;

/* The choice of a pool's endpoint for one attempt: what the engine knows of the call, and what the pool has answered.
   A place is the index of an endpoint in its pool, and a bit in these masks. */
typedef struct rs_choice {
    uint64_t tried;    /* where earlier attempts of the call have been: chosen last */
    uint64_t rejected; /* whose gates have rejected this attempt: not chosen */
    uint64_t queues;   /* of these, where it may wait */
    uint64_t failed;   /* with asks: one of these must have failed; 0: one has */
    uint64_t key;      /* of a pool with affinity: the hash of the call's key; 0: none */
    int64_t now_ns;
    int16_t stage; /* the pool's first stage; -1: none reached yet */
    int16_t level; /* the rank of the level chosen for this attempt; -1: none yet */
    int8_t place;  /* answer: the one chosen; -1: none is left */
    uint8_t waits; /* all others have rejected it: it may wait */
    uint8_t hedge; /* a copy of a call in flight */
    uint8_t asks;  /* chooses nothing: place is not -1 if a further attempt would go where none has been */
} rs_choice;
#define RS_MOST_PLACES 64
#define RS_SEAT 255       /* the span of a gate that a pool's first stage resolves to */
#define RS_ALL_REJECTED 2 /* of a pool's first stage: index of its reason for that */

/* The call as its gates see it. */
typedef struct rs_request {
    PyObject *const *args; /* as in vectorcall: nargs positional, then the keyword values */
    Py_ssize_t nargs;
    PyObject *kwnames;   /* tuple or NULL */
    rs_waiter *waiter;   /* to enqueue if the gate returns WAIT. NULL: reject instead; if the
                                       caller can wait, core then makes a waiter and calls `admit` once
                                       more (nothing is counted twice) */
    int hedge;           /* a copy of a call in flight: sheddable, never waits, takes no probe lease */
    int64_t deadline_ns; /* after which the answer is useless; 0: never. Set by core where a wait is possible */
    PyObject *func;      /* the function to call, borrowed; NULL: a permit only */
    /* Where a strategy may store a copy of the caller's context, owned by the call; NULL: nowhere. */
    PyObject **context;
    rs_choice *choice; /* for `resolve` of a pool's first stage only */
} rs_request;

/* Which callers have one state together. */
typedef enum { RS_OF_PROCESS = 0, RS_OF_HOST = 1, RS_OF_FLEET = 2 } rs_scope;
static const char *const RS_SCOPES[] = {"process", "host", "fleet"};

/* Why a gate rejected the call; filled by the gate with REJECTED. */
typedef struct rs_rejection {
    int reason;      /* index into ops->reasons, or one of the two below */
    double measured; /* in the unit of limit; NaN: nothing to report */
    double limit;
    int64_t retry_after_ns; /* > 0, or -1 if unknown */
    rs_scope scope;         /* set by core: whose the state is that rejects, see `is_shared` */
} rs_rejection;
#define RS_WOULD_BLOCK -1         /* waiting would block this thread's event loop, or the queue is a parent process's */
#define RS_OUT_OF_TIME_TO_WAIT -2 /* "deadline"; measured: seconds needed (NaN: it has passed); limit: seconds left */

typedef struct rs_gate_ops {
    const char *kind;           /* "circuit_breaker" */
    const char *error;          /* name of the rejection's class in resilio.errors: "CircuitOpenError" */
    const char *const *reasons; /* NULL-terminated, closed set of labels */
    const char *const *states;  /* NULL-terminated names of states, for change records; NULL if stateless */
    int python;                 /* 1: admit, cancel and settle call Python, without the lock (PythonGate only) */

    int (*prepare)(rs_gate *, rs_slot *, const rs_request *); /* NULL: nothing; never raises */
    int (*admit)(rs_gate *, rs_slot *, const rs_request *, int64_t now_ns, rs_rejection *); /* rs_verdict */
    int (*poll)(rs_gate *, rs_slot *, int64_t now_ns, rs_rejection *);    /* NULL: the gate never returns WAIT */
    int (*recheck)(rs_gate *, rs_slot *, int64_t now_ns, rs_rejection *); /* ADMITTED, REJECTED; NULL: stands */
    /* WAITING or HELD. Of a waiter whose event loop is closed the slot has nothing but `waiter`. */
    void (*cancel)(rs_gate *, rs_slot *, int64_t now_ns);
    void (*settle)(rs_gate *, rs_slot *, int outcome, int64_t latency_ns, int64_t now_ns); /* HELD only */
    void (*first_item)(rs_gate *, rs_slot *, int64_t latency_ns, int64_t now_ns);          /* NULL: judged at the end */
    void (*forget)(rs_gate *, int64_t now_ns); /* after fork: nothing held, no waiters */
    /* If RS_TO_UNDO is still set: free the state left by `prepare`. Without the lock; NULL: nothing. */
    void (*leave)(rs_gate *, rs_slot *);
    const struct rs_strategy_ops *strategy; /* strategy.h; NULL: a gate */
    /* The gate for this call, and a new reference to its keeper, or to itself if it has none. NULL: the gate
       itself. *before*: the gate of the stage before in this run, of a pool's later stages that of the first, or NULL.
       Before `prepare`, without the lock; may call Python; never fails. */
    rs_gate *(*resolve)(rs_gate *, const rs_request *, rs_gate *before);
    int (*pristine)(rs_gate *, int64_t now_ns); /* 1: equals a new gate, counters aside; NULL: never */
    int segment; /* rs_segment of a wait here; of a strategy: of its own calls and awaits. 0: a queue, its own work */
    /* The share of calls, 0 to 1, that pass *now_ns*; *until_ns*: when that may change by itself. NULL: all. Lock held. */
    double (*share)(rs_gate *, int64_t now_ns, int64_t *until_ns);
    const struct rs_gate_ops *kept; /* the ops of which these are a copy with another `resolve`; or NULL */
    /* After a rejection: the rs_scope of the state that rejects; NULL: the process's. Lock held. */
    int (*is_shared)(const rs_gate *);
} rs_gate_ops;

/* A state change, recorded by the gate under its lock with rs_gate_change, delivered by core outside. */
typedef struct rs_change {
    int64_t at_ns;
    uint8_t from, to, reason; /* indices into ops->states, ops->reasons */
} rs_change;
#define RS_CHANGES 6
#define RS_REASONS 16                  /* at most, of one kind of gate */
#define RS_REJECTIONS (RS_REASONS + 2) /* reasons counted in `rejected`: those, and the two of every gate */

typedef struct rs_counters {
    uint64_t calls; /* received: admitted, rejected and would-reject */
    uint64_t successes, failures, ignored;
    uint64_t rejected, would_reject, would_wait;
    uint64_t cancelled; /* gave up before the callee was called */
    uint64_t abandoned; /* of those ignored: permits that their holder dropped without ending them */
    uint64_t refused;   /* of those ignored: the server was up and did nothing */
    int64_t inflight;   /* admitted and not yet settled, shadow passes excluded */
    int64_t queued;     /* waiting now */
} rs_counters;

struct rs_gate {
    PyObject_HEAD
    const rs_gate_ops *ops; /* set by the Cython class in __cinit__ */
    PyObject *policy;       /* the Python policy, or a weak reference to it; NULL until attached */
    PyObject *keeper;       /* borrowed; held by a call whose `resolve` returned this gate; NULL: the gate */
    PyObject *name;         /* str, or NULL while unnamed */
    PyObject *judge_error;  /* callable(exception) -> Outcome | int, or NULL: the rule of the design */
    PyObject *judge_value;  /* callable(result) -> Outcome | int, or NULL: success */
    /* The same in a client's pipeline, which knows what may be replayed; or NULL. */
    PyObject *replay_error, *replay_value;
    /* callable(gate, subject), after a failure that changed the state, and callable(gate, subject, outcome) after a
       refusal; of a pool's seat the latter after any end but a success. subject: error or value; or NULL. */
    PyObject *on_trip;
    PyObject *weakrefs;
    struct rs_warden *warden;       /* of the pool whose endpoint it belongs to; or NULL */
    PyObject *entry;                /* of a keyed policy: the entry whose key this gate serves; or NULL */
    rs_gate *prev, *next;           /* all live gates, for fork */
    uint8_t error_rule, value_rule; /* rs_rule */
    uint8_t span;                   /* of a pool's first stage: the number of its stages; RS_SEAT; otherwise 0 */
    uint8_t timeless;               /* RS_NO_START, RS_NO_LATENCY: clock readings that it does not need */
    rs_lock lock;
    rs_waiter *woken; /* to wake once the lock is released: rs_gate_wake in waiters.h pushes, core pops */
    uint32_t changes; /* records in change[], not yet delivered */
    uint32_t changes_lost;
    uint32_t listening;      /* RS_LISTEN_* */
    uint32_t enforce_share;  /* share of calls enforced, in 1 / 2^32; UINT32_MAX: all */
    uint32_t enforce_credit; /* error diffusion: exactly the share, no randomness */
    rs_change change[RS_CHANGES];
    rs_counters counters;
    int64_t spent_ns[RS_SPENT];       /* by the calls that began here, by segment; updated without the lock */
    int64_t waited_ns;                /* by all calls, here */
    uint64_t rejected[RS_REJECTIONS]; /* counters.rejected by reason: RS_REJECTED_AT */
    rs_histogram latency;             /* successes and failures */
};
/* Whom a gate asks before statistics let it reject all calls: a pool keeps enough of its endpoints. */
typedef struct rs_warden {
    int (*may_eject)(struct rs_warden *, int64_t run); /* the lock of the gate is held; *run*: see below */
} rs_warden;
/* *run*: the failures in a row because of which; 0: because of a rate. */
static inline int rs_gate_may_eject(const rs_gate *gate, int64_t run)
{
    return gate->warden == NULL || gate->warden->may_eject(gate->warden, run);
}
#define RS_REJECTED_AT(reason) ((reason) + 2 < 0 || (reason) >= RS_REASONS ? 1 : (reason) + 2)
#define RS_NO_START 1u   /* `admit` and the slot may get 0 for the time */
#define RS_NO_LATENCY 2u /* no latency is recorded, `settle` may get 0 for the time */
#define RS_LISTEN_REJECTED 1u
#define RS_LISTEN_SETTLED 2u
#define RS_LISTEN_RETRIED 4u
#define RS_LISTEN_GAVE_UP 8u
#define RS_LISTEN_HEDGE_STARTED 16u
#define RS_LISTEN_HEDGE_WON 32u
#define RS_LISTEN_LIMIT 64u

/* A call begins or ends. Lock held; a pool reads the number without it. */
static inline void rs_gate_inflight(rs_gate *gate, int64_t change)
{
    __atomic_store_n(&gate->counters.inflight, gate->counters.inflight + change, __ATOMIC_RELAXED);
}

/* Count the end of a call. Lock held. */
static inline void rs_gate_count_end(rs_gate *gate, int outcome)
{
    if (outcome == RS_SUCCESS)
        gate->counters.successes++;
    else if (outcome == RS_FAILURE)
        gate->counters.failures++;
    else {
        gate->counters.ignored++;
        gate->counters.refused += outcome == RS_REFUSED;
    }
}

/* Return 1 if this call is enforced. Lock held. */
static inline int rs_gate_enforced(rs_gate *gate)
{
    if (gate->enforce_share == UINT32_MAX)
        return 1;
    uint32_t before = gate->enforce_credit;
    gate->enforce_credit = before + gate->enforce_share;
    return gate->enforce_credit < before; /* wrapped: this call is in the share */
}

/* Count a rejection, and note whose state rejects. Lock held. */
static inline void rs_gate_count_rejection(rs_gate *gate, rs_rejection *why)
{
    gate->counters.rejected++;
    gate->rejected[RS_REJECTED_AT(why->reason)]++;
    why->scope = gate->ops->is_shared != NULL ? (rs_scope)gate->ops->is_shared(gate) : RS_OF_PROCESS;
}

static inline void rs_counters_add(rs_counters *into, const rs_counters *of)
{
    into->calls += of->calls;
    into->successes += of->successes;
    into->failures += of->failures;
    into->ignored += of->ignored;
    into->rejected += of->rejected;
    into->would_reject += of->would_reject;
    into->would_wait += of->would_wait;
    into->cancelled += of->cancelled;
    into->abandoned += of->abandoned;
    into->refused += of->refused;
    into->inflight += of->inflight;
    into->queued += of->queued;
}

/* Add the counts of *of* to a gate that only sums up and admits no calls, in one thread at a time. -1 without memory
   for the latencies, which are then counted as lost. */
static inline int rs_gate_add(rs_gate *into, rs_gate *of)
{
    rs_lock_acquire(&of->lock);
    rs_lock_acquire(&into->lock); /* always in this order: nothing is added to a gate that admits calls */
    rs_counters_add(&into->counters, &of->counters);
    for (int i = 0; i < RS_REJECTIONS; i++)
        into->rejected[i] += of->rejected[i];
    for (int i = 0; i < RS_SPENT; i++)
        into->spent_ns[i] += __atomic_load_n(&of->spent_ns[i], __ATOMIC_RELAXED);
    into->waited_ns += of->waited_ns;
    int failed = rs_histogram_merge(&into->latency, &of->latency);
    if (failed)
        rs_histogram_lose(&into->latency, of->latency.count + of->latency.lost);
    rs_lock_release(&into->lock);
    rs_lock_release(&of->lock);
    return failed;
}

#define RS_ENOUGH_FOR_A_MEDIAN 20

/* "Cannot finish": return 1 if a call that first waits *wait_ns* and then takes the median latency would miss its
   deadline. Fills *why*. A gate calls it before it queues a call. Lock held. */
static inline int rs_gate_cannot_finish(const rs_gate *gate, const rs_request *request, int64_t now_ns, int64_t wait_ns,
                                        rs_rejection *why)
{
    if (request->deadline_ns == 0)
        return 0;
    int64_t needed_ns = wait_ns, left_ns = request->deadline_ns - now_ns;
    if (gate->latency.count >= RS_ENOUGH_FOR_A_MEDIAN)
        needed_ns += rs_histogram_quantile(&gate->latency, 0.5);
    if (needed_ns <= left_ns)
        return 0;
    *why = (rs_rejection){RS_OUT_OF_TIME_TO_WAIT, (double)needed_ns / 1e9, (double)left_ns / 1e9, -1};
    return 1;
}

/* Record a state change. Lock held. */
static inline void rs_gate_change(rs_gate *gate, uint8_t from, uint8_t to, uint8_t reason, int64_t now_ns)
{
    if (gate->changes == RS_CHANGES) {
        gate->changes_lost++;
        return;
    }
    gate->change[gate->changes++] = (rs_change){now_ns, from, to, reason};
}
#endif
