/* The contract between a call and a strategy: a stage that runs what is inside of it, once, again, or otherwise.
 *
 * A strategy is a gate (gate.h) whose ops point at one of these. Going inward it is admitted as a gate is, by an `admit`
 * that neither waits nor refuses, if it has one; it may set `slot->wake_ns`. Going outward it is settled as a gate is. In between:
 *
 *   `ended` is asked when what is inside has raised, was refused, or returned what the stage's judge calls a failure. It
 *   runs without the lock and may call Python; on an error of its own it reports, and lets pass what there was.
 *   `expired` is asked, in a callback of the event loop, when `slot->wake_ns` has come while the call is suspended. It may
 *   set the next `wake_ns`. Without the lock; may call Python.
 *   `leave` undoes what `slot->extra` stands for, if there is one, or what RS_TO_UNDO says, when the stage is left in whatever
 *   way. Without the lock.
 *   `delegates` says whether this stage is run in Python here, which is not asked on asyncio: there all is inline. By its
 *   method `run(rest)` in a thread, `arun(rest)` in a task; what that returns or raises is what the inside has returned or raised, and `ended` is asked as ever.
 *
 * Between two strategies, and between one and the function, gates are admitted all or nothing; a refusal there is an
 * exception for the strategy outside of them, and `called` tells it that the callee was not.
 */
#ifndef RS_STRATEGY_H
#define RS_STRATEGY_H
#include "gate.h"

typedef enum {
    RS_PASS = 0,                    /* go on outward with what is in the rs_end, which may have been replaced */
    RS_AGAIN = 1,                   /* from the next stage inward once more, at `resume_ns` */
    RS_CALL = 2,                    /* call `target` straight, with `argument` or the call's own arguments */
    RS_AWAIT = 3                    /* await `target`; not in a thread */
} rs_next;

typedef enum { RS_IN_THREAD = 0, RS_ON_ASYNCIO = 1, RS_ON_TRIO = 2 } rs_place;

/* Why resilio itself has cancelled a call: what the gates inside learn from it. */
typedef enum { RS_UNINTERRUPTED = 0, RS_TIMED_OUT = 1, RS_OUT_OF_TIME = 2, RS_SUPERSEDED = 3 } rs_interrupt;

/* How what is inside of a stage has ended, and what the stage answers. References are owned by this record. */
typedef struct rs_end {
    PyObject *value;                /* what it returned; NULL: it raised */
    PyObject *error;                /* what it raised, normalised; NULL: it returned */
    int64_t now_ns;
    int64_t deadline_ns;            /* by which what is begun once more must have ended, RS_NEVER if nobody outside says */
    int64_t resume_ns;              /* answer, RS_AGAIN: when; now_ns for at once */
    PyObject *target;               /* answer, RS_CALL and RS_AWAIT */
    PyObject *argument;             /* answer, RS_CALL: the one argument; NULL: the call's own */
    PyObject *call;                 /* the Call; NULL in a thread */
    struct rs_run *run;             /* opaque to strategies but for the functions of rs_core_api */
    int16_t stage;                  /* which stage of the run is asked */
    int8_t outcome;                 /* rs_outcome by the stage's judges; answer: how it is counted there */
    uint8_t called;                 /* 0: refused inside */
    uint8_t fired;                  /* rs_interrupt: this stage had the call cancelled, and nobody else did */
    uint8_t cancelled;              /* somebody else has had the task cancelled meanwhile */
    uint8_t place;                  /* rs_place */
    const rs_request *request;      /* the call's arguments */
    PyObject *func;                 /* the function, borrowed */
} rs_end;

typedef struct rs_strategy_ops {
    int (*ended)(rs_gate *, rs_slot *, rs_end *);                               /* rs_next */
    int (*expired)(rs_gate *, rs_slot *, PyObject *call, int stage, int64_t now_ns);    /* rs_interrupt; NULL: has no timer */
    void (*leave)(rs_gate *, rs_slot *);                                        /* NULL: nothing to undo */
    int (*delegates)(rs_gate *, rs_slot *, int place);                          /* NULL: never */
    int sets_deadline;              /* `slot->wake_ns`, as `admit` leaves it, is a deadline for all that the call does inside */
    int (*label)(rs_gate *, rs_slot *);         /* rs_interrupt: has this stage, which delegated, had the call cancelled? NULL: no */
} rs_strategy_ops;

/* What core offers to strategies: the capsule resilio._native.core._api. */
typedef struct rs_core_api {
    /* Ask the retry scopes outside of this run, innermost first, until *ask* answers other than 0. */
    int (*outer)(const struct rs_run *, const rs_gate_ops *kind, int (*ask)(rs_gate *, rs_slot *, void *), void *context);
    /* The nearest stage of this kind outside of *stage* of this call. NULL: there is none. */
    rs_gate *(*outside)(PyObject *call, int stage, const char *kind);
    int64_t (*deadline_ns)(void);   /* the ambient deadline, RS_NEVER if there is none */
    int64_t (*now_ns)(void);
    int (*may_block)(void);         /* may this thread sleep: does it run no event loop? -1 with an exception */
    /* 0: an argument, other than the `self` of *func*, is or holds an iterator, a file, a coroutine: gone once used. *at_once*:
     * it is to be used by two at a time. */
    int (*replayable)(const rs_request *, PyObject *func, int at_once);
    /* An ambient deadline to set in a context, upon the value before, or None. New reference; NULL with an exception. */
    PyObject *(*deadline)(int64_t until_ns, int64_t allowed_ns, PyObject *before);
    void (*forget)(PyObject *deadline);     /* it is over, and nobody could take it out of its context: it never passes */
    /* Priorities that some context may hold. 0: nobody need ask. */
    const int *priorities;
    /* The ambient priority, an index into resilio's classes, -1 if there is none; *task* becomes the hash of its task, 0 for none. */
    int (*priority)(uint64_t *task);
    /* What a result of a Rest, or else an Exception, says to the gate around it: rs_outcome, by the judges of the gate there. */
    int (*judge)(rs_gate *, PyObject *rest, PyObject *value, PyObject *error);
} rs_core_api;
#endif
