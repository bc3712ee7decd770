/* The contract between a call and a strategy: a stage that decides how its inner part is run,
 * for example more than once.
 *
 * A strategy is a gate (gate.h) whose ops point at an rs_strategy_ops. Inward it is admitted like a gate, by an
 * `admit` that neither waits nor rejects, if it has one. `admit` may set `slot->wake_ns`. Outward it is settled
 * like a gate. In between:
 *
 *   `ended` is called when the inner part has raised, was rejected, or returned a value that the stage's judge calls a
 *   failure. It runs without the lock and may call Python. On an error of its own it reports the error and passes the
 *   inner result on.
 *   `expired` is called in a callback of the event loop when `slot->wake_ns` has come while the call is suspended. It
 *   may set the next `wake_ns`. It runs without the lock and may call Python.
 *   `leave` undoes the effects of `slot->extra`, if set, or of RS_TO_UNDO, whenever the stage is left. Without the
 *   lock.
 *   `delegates` returns 1 if Python runs this stage here. It is not called on asyncio, where all stages are inline. In
 *   a thread the stage's method `run(inner)` is used, in a task `arun(inner)`. Its result or exception counts as that
 *   of the inner part, and `ended` is called as usual.
 *
 * Gates between two strategies, or between a strategy and the function, are admitted all or nothing. A rejection there
 * reaches the strategy outside them as an exception, with `called` = 0.
 */
#ifndef RS_STRATEGY_H
#define RS_STRATEGY_H
#include "gate.h"

typedef enum {
    RS_PASS = 0,  /* go on outward with the result in the rs_end, which may have been replaced */
    RS_AGAIN = 1, /* run the next stages inward again, at `resume_ns` */
    RS_CALL = 2,  /* call `target` directly, with `argument` or the call's own arguments */
    RS_AWAIT = 3  /* await `target`; not in a thread */
} rs_next;

typedef enum { RS_IN_THREAD = 0, RS_ON_ASYNCIO = 1, RS_ON_TRIO = 2 } rs_place;

/* Why resilio itself has cancelled a call. The gates inside judge by it. */
typedef enum { RS_UNINTERRUPTED = 0, RS_TIMED_OUT = 1, RS_OUT_OF_TIME = 2, RS_SUPERSEDED = 3 } rs_interrupt;

/* How the inner part of a stage has ended, and the stage's answer. This record owns its references. */
typedef struct rs_end {
    PyObject *value; /* the value returned; NULL: it raised */
    PyObject *error; /* the exception raised, normalised; NULL: it returned */
    int64_t now_ns;
    int64_t deadline_ns;       /* by which a further attempt must have ended; RS_NEVER if no outer deadline */
    int64_t resume_ns;         /* answer, RS_AGAIN: when; now_ns for at once */
    PyObject *target;          /* answer, RS_CALL and RS_AWAIT */
    PyObject *argument;        /* answer, RS_CALL: the one argument; NULL: the call's own */
    PyObject *call;            /* the Call; NULL in a thread */
    int16_t stage;             /* index of the stage that is asked */
    int8_t outcome;            /* rs_outcome by the stage's judges; answer: the outcome to count there */
    uint8_t called;            /* 0: rejected inside */
    uint8_t fired;             /* rs_interrupt: this stage alone had the call cancelled */
    uint8_t cancelled;         /* another party has meanwhile had the task cancelled */
    uint8_t place;             /* rs_place */
    uint8_t untried;           /* a further attempt goes to another endpoint of a pool inside, to which none has been */
    const rs_request *request; /* the call's arguments */
    PyObject *func;            /* the function, borrowed */
} rs_end;

typedef struct rs_strategy_ops {
    int (*ended)(rs_gate *, rs_slot *, rs_end *);                                    /* rs_next */
    int (*expired)(rs_gate *, rs_slot *, PyObject *call, int stage, int64_t now_ns); /* rs_interrupt; NULL: no timer */
    void (*leave)(rs_gate *, rs_slot *);                                             /* NULL: nothing to undo */
    int (*delegates)(rs_gate *, rs_slot *, int place);                               /* NULL: never */
    void (*told)(rs_slot *, int64_t now_ns, int64_t until_ns); /* an attempt inside waits until then; NULL: no matter */
    int sets_deadline; /* `slot->wake_ns`, as `admit` leaves it, is a deadline for all work inside */
    int fails_raised;  /* a stream or permit that raises what its rules let pass has failed, as `ended` says of calls */
    /* rs_interrupt with which this delegating stage had the call cancelled; NULL: none. */
    int (*label)(rs_gate *, rs_slot *);
} rs_strategy_ops;

/* The functions of core for strategies: the capsule resilio._native.core._api. */
typedef struct rs_core_api {
    /* Ask the gates of a kind in the calls around, innermost first, until *ask* answers other than 0. Strategies run
     * outside their own call. *beyond*, or NULL: set to 1 before those that are asked from inside of a pool's endpoint. */
    int (*outer)(const rs_gate_ops *kind, int (*ask)(rs_gate *, rs_slot *, void *), void *context, int *beyond);
    /* The nearest stage of this kind outside of *stage* of this call. NULL: there is none. */
    rs_gate *(*outside)(PyObject *call, int stage, const char *kind);
    int64_t (*deadline_ns)(void); /* the ambient deadline, RS_NEVER if there is none */
    int64_t (*now_ns)(void);
    int (*may_block)(void); /* may this thread sleep, having no running event loop? -1 with an exception */
    /* 0: an argument, other than the `self` of *func*, is or holds an iterator, a file or a coroutine, which one use
     * exhausts. *at_once*: two copies use it concurrently. */
    int (*replayable)(const rs_request *, PyObject *func, int at_once);
    /* An ambient deadline to set in a context, on top of *before*, the former value or None. New
       reference; NULL with an exception. */
    PyObject *(*deadline)(int64_t until_ns, int64_t allowed_ns, PyObject *before);
    void (*forget)(PyObject *deadline); /* it has ended but cannot be removed from its context: it never passes */
    /* Number of priorities that some context may hold. 0: no look-up is needed. */
    const int *priorities;
    /* The ambient priority, an index into resilio's classes, -1 if there is none; *task* becomes the
       hash of its task, 0 for none. */
    int (*priority)(uint64_t *task);
    /* An attempt of this call, or of one inside of it (NULL), waits until then, for the server has named a time: the
     * strategies around start no other before it. */
    void (*told)(PyObject *call, int64_t now_ns, int64_t until_ns);
    /* The rs_outcome of an InnerCall's result, or of an Exception, for the gate around it, by that gate's judges. */
    int (*judge)(rs_gate *, PyObject *inner, PyObject *value, PyObject *error);
} rs_core_api;
#endif
