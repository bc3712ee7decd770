/* Permit: a run held by hand. It ends exactly once; if dropped, it is ignored. Its Python
   interface is in permit_type.c. */
#include "call/permit.h"

/* Take the run over from an owner that keeps its own reference to the pipeline. */
PyObject *rs_permit_new(rs_run *run)
{
    PermitObject *self = PyObject_GC_NewVar(PermitObject, &rs_PermitType, Py_MAX(run->n, 1));
    if (self == NULL) {
        rs_run_cancel(run, run->base, 0, rs_clock_now(rs_clk));
        return NULL;
    }
    self->weakrefs = NULL;
    self->ended = self->by_hand = 0;
    self->failed = self->ignored = 0;
    self->noted = self->inside = NULL;
    self->seat = NULL;
    self->frame = (rs_frame){NULL, NULL, NULL};
    self->run = *run;
    self->run.route = NULL; /* it stays with the run, which is not repeated through the permit */
    self->run.around = NULL;
    rs_run_unviewed(&self->run);
    self->pipe = (rs_pipeline *)Py_NewRef((PyObject *)run->pipe);
    for (int i = 0; i < run->n; i++)
        self->slots[i] = run->slots[i];
    self->run.slots = self->slots;
    rs_run_hold(run, 0);
    run->ledger = NULL;
    run->lent = 0;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* Mark *given* as a permit that its caller must end; NULL and rejections pass through. */
PyObject *rs_permit_by_hand(PyObject *given)
{
    if (given && Py_IS_TYPE(given, &rs_PermitType))
        ((PermitObject *)given)->by_hand = 1;
    return given;
}

/* A permit for the stages from *first* on, which the run holds no more. *counts*: the permit takes over the
   run's time; the answer came *now*. */
PyObject *rs_permit_of_part(rs_run *run, int first, int counts, int64_t now)
{
    rs_run part = *run;
    part.slots = run->slots + first;
    part.base = 0;
    part.n = (int16_t)(run->n - first);
    rs_run_unviewed(&part);
    rs_run_hold(run, first);
    if (counts) {
        run->ledger = NULL;
        rs_ledger_go(&part, RS_BODY, now);
    }
    else {
        part.ledger = NULL;
        part.inside = part.lent = 1; /* its time is reported with the run's */
    }
    PyObject *permit = rs_permit_new(&part);
    if (permit == NULL)
        rs_ledger_drop(&part.ledger);
    return permit;
}

/* ---- its end ------------------------------------------------------------------------------------------------- */

/* Count at its gates that the holder has dropped it. */
static void count_abandoned(const rs_run *run)
{
    for (int i = run->base; i < run->n && run->epoch == rs_epoch; i++) {
        rs_gate_lock(run->slots[i].gate);
        run->slots[i].gate->counters.abandoned++;
        rs_gate_unlock(run->slots[i].gate);
    }
}

#define JUDGED 64 /* slots that fit into a mask; a pipeline has at most 17 */

static inline int bit(uint64_t of, int i) { return i < JUDGED && of >> i & 1; }

/* The verdict of the gate at *i*: the two bits are the outcome's number. */
static inline int judged(const PermitObject *self, int i) { return bit(self->failed, i) | bit(self->ignored, i) << 1; }

/* Settle each slot as its answer was judged, innermost first, one by one. *cut*: the rest was never read, so outcomes
   other than failures and refusals are ignored. */
static void settle_as_judged(PermitObject *self, int cut, int in_finaliser)
{
    rs_run *run = &self->run;
    int base = run->base;
    uint8_t inside = run->inside;
    int64_t now = rs_clock_now(rs_clk);
    for (int i = run->n - 1; i >= base; i--) {
        run->base = (int16_t)i;
        run->inside = (uint8_t)(inside || i > base); /* its time is reported once, with the outermost */
        int outcome = judged(self, i);
        PyObject *subject = self->noted || outcome == RS_SUCCESS ? self->noted : Py_None;
        rs_run_settle(run, cut && outcome == RS_SUCCESS ? RS_IGNORED : outcome, subject, in_finaliser, now);
    }
}

PyObject *rs_permit_has_ended(void)
{
    return PyErr_Format(PyExc_RuntimeError, "this permit has ended already: a permit ends exactly once");
}

static inline int begins_to_end(PermitObject *self) { return !__atomic_exchange_n(&self->ended, 1, __ATOMIC_ACQ_REL); }

int rs_permit_close(PermitObject *self, rs_permit_step end, PyObject *argument)
{
    if (!begins_to_end(self)) {
        rs_permit_has_ended();
        return 0;
    }
    RS_ALONE(self);
    end(self, argument);
    RS_NOT_ALONE();
    return 1;
}

void rs_permit_do(PermitObject *self, rs_permit_step step, PyObject *argument)
{
    RS_ALONE(self);
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        step(self, argument);
    RS_NOT_ALONE();
}

PyObject *rs_permit_settle(PermitObject *self, int outcome)
{
    if (!begins_to_end(self))
        return rs_permit_has_ended();
    RS_ALONE(self);
    rs_run_settle(&self->run, outcome, NULL, 0, rs_clock_now(rs_clk));
    RS_NOT_ALONE();
    Py_RETURN_NONE;
}

static void end_raised(PermitObject *self, PyObject *error)
{
    PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    rs_run_raised(&self->run, rs_clock_now(rs_clk));
    PyErr_Clear();
}

PyObject *rs_permit_raised(PermitObject *self, PyObject *error)
{
    if (!PyExceptionInstance_Check(error))
        return PyErr_Format(PyExc_TypeError, "raised: takes an exception, not %R", error);
    return rs_permit_close(self, end_raised, error) ? Py_NewRef(Py_None) : NULL;
}

int rs_permit_end_as(PermitObject *self, rs_permit_end how)
{
    if (!begins_to_end(self))
        return 0;
    RS_ALONE(self);
    if (how == RS_ABANDON)
        count_abandoned(&self->run);
    settle_as_judged(self, how != RS_COMPLETE, how == RS_ABANDON);
    RS_NOT_ALONE();
    return 1;
}

/* End a permit that was dropped, or whose block will never be left. */
void rs_permit_drop(PyObject *permit)
{
    if (Py_IS_TYPE(permit, &rs_PermitType))
        rs_permit_end_as((PermitObject *)permit, RS_ABANDON);
}

/* ---- the verdict on its answer -------------------------------------------------------------------------------- */

/* Keep the Retry-After of a failed or refused answer, where a gate may use it when the answer has ended. */
static void note(PermitObject *self, PyObject *value)
{
    static PyObject *noted;
    PyObject *hook = rs_hook("kept_retry_after", &noted), *found = hook ? PyObject_CallOneArg(hook, value) : NULL;
    if (found == NULL)
        rs_drop_error();
    else if (found == Py_None)
        Py_DECREF(found);
    else
        Py_XSETREF(self->noted, found);
}

static void take_answer(PermitObject *self, PyObject *value)
{
    int64_t now = rs_clock_now(rs_clk);
    for (int i = self->run.base; i < Py_MIN(self->run.n, JUDGED); i++) {
        rs_slot *slot = &self->run.slots[i];
        int judges = RS_UNLIKELY(rs_judges_values(self->pipe, slot->gate));
        int outcome = judges ? Py_MAX(rs_ask_judge(self->pipe, slot->gate, 1, value), RS_SUCCESS) : RS_SUCCESS;
        if (RS_UNLIKELY((outcome & RS_FAILURE) && slot->gate->on_trip && self->noted == NULL))
            note(self, value);
        self->failed |= (uint64_t)(outcome & 1) << i;
        self->ignored |= (uint64_t)(outcome >> 1) << i;
        if (outcome != RS_SUCCESS && slot->first_ns == 0)
            slot->first_ns = now; /* not by first_item, where a gate may count it as a success */
    }
    rs_run_first_item(&self->run, now);
}

void rs_permit_judge(PermitObject *self, PyObject *value) { rs_permit_do(self, take_answer, value); }

/* ---- for streams -------------------------------------------------------------------------------------------- */

/* Stages that work without a clock record no start: record it now, so that a stream's time is reported. */
void rs_permit_clock(PyObject *permit)
{
    rs_run *run = &((PermitObject *)permit)->run;
    for (int i = run->base; i < run->n; i++)
        if (run->slots[i].admitted_ns == 0)
            run->slots[i].admitted_ns = rs_clock_now(rs_clk);
}

/* Return 1 for a permit, 0 with an exception otherwise. */
int rs_is_permit(PyObject *around)
{
    if (Py_IS_TYPE(around, &rs_PermitType))
        return 1;
    PyErr_Format(PyExc_TypeError, "around: must be the permit of the stage around, not %R", around);
    return 0;
}

/* Let a stage inside the one that holds *permit* write into its ledger, if that permit is still held, and keep away from
   where earlier attempts of the stream have been. */
void rs_permit_lend(PyObject *permit, rs_run *to)
{
    PermitObject *self = (PermitObject *)permit;
    RS_ALONE(self);
    if (!__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        rs_ledger_lend(&self->run, to);
    to->route = rs_route_of_stream(&self->run);
    RS_NOT_ALONE();
}

/* Return 1 if a further attempt of the stream goes to an endpoint that none has been to. */
int rs_permit_has_untried(PyObject *permit)
{
    PermitObject *self = (PermitObject *)permit;
    int found;
    RS_ALONE(self);
    found = rs_run_has_untried(&self->run, RS_MAX_GATES, rs_clock_now(rs_clk));
    RS_NOT_ALONE();
    return found;
}

/* ---- for blocks --------------------------------------------------------------------------------------------- */

/* End it as its block ends, unless the user has ended it. -1 with an exception. */
int rs_permit_leave(PyObject *permit, PyObject *error)
{
    PermitObject *self = (PermitObject *)permit;
    if (__atomic_load_n(&self->ended, __ATOMIC_ACQUIRE))
        return 0;
    PyObject *done = error ? rs_permit_raised(self, error) : rs_permit_settle(self, RS_SUCCESS);
    Py_XDECREF(done);
    return done ? 0 : -1;
}
