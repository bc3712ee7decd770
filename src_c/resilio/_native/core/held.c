/* Calls whose holder gets what gates hold of them: of a client's request, which is answered by its headers, while what comes then
 * takes most of the time, and may fail.
 *
 * Strategies go by the headers. Neighbouring gates, that were admitted as one, are left as one: with a permit, which the holder
 * puts with the answer until that has ended, or settles by what an error says. Of an answer that is whole there is nothing to
 * hold: its gates are settled as those of any call, and no permit is made.
 *
 * The holder is the argument after those of the function: it lives, and is seen by the collector, as they do. One that is an
 * Exchange is told when its call is over for whoever awaits it, in whatever way, and says how an error is raised.
 */
#include "admission.h"

static PyObject *name_attempt, *name_hold, *name_leases, *name_settle;

/* The call has room: one argument by position, and none by name. */
void rs_call_keep_holder(CallObject *self, PyObject *holder)
{
    self->args[++self->total] = Py_NewRef(holder);
}

PyObject *rs_held_call(rs_pipeline *pipe, PyObject *holder, PyObject *request)
{
    PyObject *attempt = PyObject_GetAttr(holder, name_attempt);
    PyObject *call = attempt ? rs_call_new(pipe, attempt, &request, 1, NULL, RS_MODE_RAISE, NULL) : NULL;
    Py_XDECREF(attempt);
    if (RS_LIKELY(call != NULL))
        rs_call_keep_holder((CallObject *)call, holder);
    return call;
}

/* Is there nothing to be held of its answer? */
int rs_held_is_whole(PyObject *holder)
{
    if (rs_is_exchange(holder))
        return rs_exchange_is_whole(holder);
    PyObject *leases = PyObject_GetAttr(holder, name_leases);
    if (RS_UNLIKELY(leases == NULL))
        rs_drop_error();
    Py_XDECREF(leases);
    return leases == Py_None;
}

/* Tell the holder how the call has ended; NULL for the permit: what is pending comes in place of it. Within the call: a stage of
   it may have sent the cancellation that is to be judged. */
void rs_held_tell(rs_end *end, PyObject *holder, PyObject *permit)
{
    CallObject *call = (CallObject *)end->call;
    PyObject *args[3] = {holder, permit, end->error ? end->error : end->value}, *done = NULL;
    if (permit && call->pipe->holds == RS_HOLDS_FOR_ADMISSION) {
        rs_admission_tell(end, holder, permit);
        return;
    }
    if (permit) {
        rs_call_enter(call);
        done = PyObject_VectorcallMethod(end->error ? name_settle : name_hold, args, 3, NULL);
        rs_call_leave(call);
        call->running = 1;
    }
    if (RS_UNLIKELY(done == NULL)) {
        Py_CLEAR(end->value);
        Py_XSETREF(end->error, rs_take_error());
    }
    Py_XDECREF(done);
}

int rs_held_add(PyObject *module)
{
    name_attempt = PyUnicode_InternFromString("attempt");
    name_hold = PyUnicode_InternFromString("hold");
    name_leases = PyUnicode_InternFromString("leases");
    name_settle = PyUnicode_InternFromString("settle");
    return name_attempt && name_hold && name_leases && name_settle ? rs_exchange_add(module) : -1;
}
