/* A run: the stages that one call holds of a pipeline, and what the engine does with them.
 *
 * A part of core.h, which includes it after the macros that it needs.
 */
#ifndef RS_RUN_H
#define RS_RUN_H
#include "clock.h"
#include "engine/ledger.h"
#include "pipeline.h"
#include "strategy.h"

/* Where the attempts and copies of one call have been in a pool: attempt by attempt, so that calls of one attempt do not
   avoid each other. Shared by the run with the strategies and those inside of them. */
typedef struct rs_route {
    rs_lock lock;
    int refs;
    uint32_t attempt; /* the latest */
    uint64_t now;     /* its places, those of copies included */
    uint64_t before;  /* those of earlier attempts */
    rs_gate *pool;    /* the first stage of that pool, owned; or NULL */
} rs_route;

/* What all runs of a stage's inner part have in common, if Python runs it: those of one attempt and of its copies. */
typedef struct rs_around {
    int refs;
    int calls;       /* runs that have begun, and have not ended without a call of the function */
    PyObject *seat;  /* the gate of the endpoint chosen by a run around these, owned; or NULL */
    int64_t told_ns; /* no further one begins before: a server has named this time; 0: none has */
} rs_around;

typedef struct rs_run {
    rs_pipeline *pipe; /* owned by the owner of the run */
    rs_slot *slots;
    uint32_t epoch;          /* rs_epoch at admission: a run from before a fork is dropped */
    int16_t base;            /* its first stage: earlier ones belong to the call around this one */
    int16_t n;               /* stages from base to here are held; equals base once settled or cancelled */
    int16_t cursor;          /* the gate that returned WAIT or REJECTED, or the strategy that delegates */
    int16_t interrupt_stage; /* the stage that has the call cancelled */
    uint8_t interrupt;       /* its reason: rs_interrupt */
    uint8_t place;           /* rs_place */
    uint8_t hedge;           /* a copy of a call in flight */
    uint8_t inside;          /* part of another call: its time is not counted here */
    uint8_t lent;            /* the ledger is that of a permit around, of the same stream */
    int8_t verdict;          /* an rs_outcome forced by current().fail(), or -1 */
    uint32_t attempt;        /* how often a strategy has run the inner part again */
    uint32_t detached;       /* rs_detached when deadline_ns was found */
    int64_t deadline_ns;     /* by which the inner part must have ended, RS_NEVER without a deadline */
    rs_ledger *ledger;       /* owned; NULL: all of its time is the attempt */
    uint16_t lane;           /* of the ledger, if it is that of a call around */
    rs_route *route;         /* owned, or NULL: one attempt so far, or no pool */
    rs_around *around;       /* owned, or NULL: no stages of its pipeline are around it */
#ifdef Py_GIL_DISABLED
    rs_lock *viewed; /* the lock of the view that current() gave of it, or NULL */
#endif
} rs_run;

/* What a run inside of a stage has of the call around. */
typedef struct rs_inside {
    rs_ledger *ledger; /* of the call around, or a copy's own; or NULL */
    rs_route *route;   /* or NULL */
    rs_around *around; /* or NULL */
    uint32_t attempt;  /* as current().attempt counts them */
    int hedge;
    uint16_t lane;
} rs_inside;

void rs_run_enter(rs_run *run, const rs_inside *inside); /* the run holds references of its own */
void rs_run_leave(rs_run *run);                          /* and drops them */
int rs_run_visit(const rs_run *run, visitproc visit, void *arg);

/* What a call holds of a gate that was resolved for it. */
static inline PyObject *rs_keeper_of(const rs_gate *gate) { return gate->keeper ? gate->keeper : (PyObject *)gate; }

/* Hold the stages up to *n*. A thread that asks the run's view meanwhile is waited for: it may use those held before. */
static inline void rs_run_hold(rs_run *run, int n)
{
#ifdef Py_GIL_DISABLED
    if (RS_UNLIKELY(run->viewed != NULL)) {
        rs_lock_acquire(run->viewed);
        run->n = (int16_t)n;
        rs_lock_release(run->viewed);
        return;
    }
#endif
    run->n = (int16_t)n;
}

/* The run is another's copy, of which no view was given. */
static inline void rs_run_unviewed(rs_run *run)
{
#ifdef Py_GIL_DISABLED
    run->viewed = NULL;
#endif
}

static inline rs_run rs_run_of(rs_pipeline *pipe, rs_slot *slots, int base, uint32_t epoch)
{
    return (rs_run){.pipe = pipe,
                    .slots = slots,
                    .epoch = epoch,
                    .deadline_ns = RS_NEVER,
                    .base = (int16_t)base,
                    .n = (int16_t)base,
                    .verdict = -1,
                    .inside = (uint8_t)(base != 0)};
}

/* 0: unknown. Stages that all work without a clock, like a fallback alone, record no start; they have no ledger. */
static inline int64_t rs_run_began(const rs_run *run)
{
    return run->n > run->base ? run->slots[run->base].admitted_ns : 0;
}

extern uint32_t rs_epoch;
extern int rs_pools; /* is there any pipeline with a pool? */

/* One admission through a pool. Without `gate` it needs no end. */
typedef struct rs_elsewhere {
    rs_choice choice;
    rs_gate *gate;    /* with the rejection that ends the soonest, whose keeper this owns; NULL: none has rejected it */
    rs_rejection why; /* its reason */
} rs_elsewhere;

rs_around *rs_around_new(rs_run *run); /* for the runs inside of a stage; NULL without memory */
rs_around *rs_around_keep(rs_around *around);
void rs_around_drop(rs_around **around);
int rs_around_visit(const rs_around *around, visitproc visit, void *arg);
void rs_around_begin(rs_around *around);                  /* a run inside begins */
void rs_around_tell(rs_around *around, int64_t until_ns); /* no further run begins before */
int rs_around_called(const rs_around *around); /* 0: no run inside has called the function, nor will one in progress */

rs_route *rs_route_share(rs_run *run); /* for a run inside: a new reference, or NULL */
rs_route *rs_route_keep(rs_route *route);
rs_route *rs_route_of_stream(rs_run *run);
void rs_route_drop(rs_route **route);
rs_gate *rs_run_seat(const rs_run *run); /* of the endpoint chosen for this call, borrowed; or NULL */
rs_gate *rs_run_before(const rs_run *run, int at);
rs_gate *rs_run_choose(rs_run *run, int stage, const rs_request *request, int64_t now, rs_elsewhere *away);
int rs_run_has_untried(const rs_run *run, int stage, int64_t now);
int rs_run_go_elsewhere(rs_run *run, int at, const rs_request *request, int may_wait, int64_t now,
                        const rs_rejection *why, rs_elsewhere *away);
int rs_run_all_rejected(rs_run *run, int64_t now, rs_rejection *why, rs_elsewhere *away);
void rs_elsewhere_end(rs_elsewhere *away);

/* Count the time of a run that ended at *now*, while its outermost stage is still held. Not NULL: a
   slow call for rs_ledger_slow. */
static inline PyObject *rs_run_count(rs_run *run, int64_t now)
{
    if (RS_UNLIKELY(run->ledger != NULL))
        return rs_ledger_close(run, now);
    int64_t began = run->slots[0].admitted_ns, took = now - began;
    if (RS_UNLIKELY(run->inside || began == 0 || took < 0))
        return NULL;
    RS_SPEND(run->slots[0].gate, RS_ATTEMPT, took);
    return RS_UNLIKELY(took >= rs_slow_ns) ? rs_ledger_slow_attempt(run->slots[0].gate, took) : NULL;
}
extern int rs_bypass_count, rs_no_wait_count;
extern rs_clock *rs_clk;

int rs_run_admit(rs_run *run, const rs_request *request, int first, int may_wait, int64_t now, rs_rejection *why);
int rs_run_reject(rs_run *run, int at, int64_t now, const rs_rejection *why);
int rs_run_admit_elsewhere(rs_run *run, int at, const rs_request *request, int64_t now, rs_rejection *why,
                           int *verdict);
int rs_run_resume(rs_run *run, const rs_request *request, int64_t now, rs_rejection *why);
int rs_run_wait_sync(rs_run *run, const rs_request *request, rs_rejection *why);
void rs_run_give_back(rs_run *run, int floor, int in_finaliser, int64_t now);
void rs_run_cancel(rs_run *run, int floor, int in_finaliser, int64_t now);
void rs_run_drop(rs_run *run, int called, int in_finaliser, int64_t now);
void rs_run_uncalled(rs_run *run);
int rs_run_called(rs_run *run, rs_end *end);
int rs_run_floor(const rs_run *run, int at);
void rs_run_forget_rejected(rs_run *run);
int rs_ask_judge(const rs_pipeline *pipe, rs_gate *gate, int of_value, PyObject *subject);
/* Return 1 if this gate judges answers in this pipeline. */
static inline int rs_judges_values(const rs_pipeline *pipe, const rs_gate *gate)
{
    return RS_UNLIKELY(gate->judge_value != NULL)
           || RS_UNLIKELY(pipe->judges && (gate->value_rule || gate->replay_value));
}
#define RS_JUDGES 8 /* of a client: the judges of errors and of answers, by rule */
int rs_judge_error(const rs_run *run, int stage, PyObject *error, int64_t now);
int rs_gate_judge(rs_gate *gate, PyObject *inner, PyObject *value, PyObject *error);
int rs_judge_exception(const rs_pipeline *pipe, rs_gate *gate, PyObject *error);
int rs_judge_out_of_time(rs_slot *slot, int64_t now); /* of an attempt that a deadline has ended */
int rs_run_outward(rs_run *run, rs_end *end);
int rs_run_succeeded(rs_run *run);
void rs_end_load(rs_end *end, PyObject *value);
/* The server has answered and served nothing, as by a 404: a success, but no evidence about a pool's endpoint. */
#define RS_UNSERVED 4
void rs_run_settle(rs_run *run, int outcome, PyObject *subject, int in_finaliser, int64_t now);
int rs_run_returned(rs_run *run, PyObject *value, int64_t now);
int rs_run_raised(rs_run *run, int64_t now);
void rs_run_first_item(rs_run *run, int64_t now);
int rs_run_note_first_item(rs_run *run, int64_t now, rs_gate **changed);
void rs_gates_deliver(rs_gate **changed, int n);
int rs_run_bypassed(void);
int64_t rs_wait_now(const rs_run *run);
int rs_skips_waits(void);
int rs_place_here(void);
#endif
