/* What core offers to strategies, which are modules of their own. */
#include "call.h"

static int outer(const rs_run *run, const rs_gate_ops *kind, int (*ask)(rs_gate *, rs_slot *, void *), void *context)
{
    for (const rs_frame *frame = *rs_ambient(); frame; frame = frame->outer) {
        if (frame->run == run)
            continue;
        if (RS_UNLIKELY(frame->run->detached != rs_detached) && rs_detached_from(frame->run))
            break;                          /* those further out began earlier still */
        for (int i = frame->run->n - 1; i >= frame->run->base; i--) {
            rs_slot *slot = &frame->run->slots[i];
            int answer = slot->gate->ops == kind ? ask(slot->gate, slot, context) : 0;
            if (answer)
                return answer;
        }
    }
    return 0;
}

static rs_gate *outside(PyObject *call, int stage, const char *kind)
{
    const rs_run *run = &((CallObject *)call)->run;
    for (int i = stage - 1; i >= 0; i--) {      /* below its base too: it may be inside of another */
        rs_gate *gate = i >= run->base && i < run->n ? run->slots[i].gate : run->pipe->gate[i];
        if (gate->ops->resolve == NULL && strcmp(gate->ops->kind, kind) == 0)
            return gate;
    }
    return NULL;
}

static int64_t deadline_ns(void) { return rs_deadline_ns(); }

static int64_t deadline_of(PyObject *call, int stage) { return rs_run_deadline(&((CallObject *)call)->run, stage); }

static int64_t now_ns(void) { return rs_clock_now(rs_clk); }

static int replayable(const rs_request *request)
{
    Py_ssize_t total = request->nargs + (request->kwnames ? PyTuple_GET_SIZE(request->kwnames) : 0);
    for (Py_ssize_t i = 0; i < total; i++) {
        PyTypeObject *type = Py_TYPE(request->args[i]);
        if (PyIter_Check(request->args[i]) || PyCoro_CheckExact(request->args[i]) || (type->tp_as_async && type->tp_as_async->am_anext))
            return 0;
    }
    return 1;
}

const rs_core_api rs_api = {outer, outside, deadline_ns, deadline_of, now_ns, rs_may_block, replayable, rs_deadline_make, rs_deadline_forget,
                             &rs_priority_count, rs_priority_here, rs_phase_all, rs_permit_answered, rs_permit_end_as};
