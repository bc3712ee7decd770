/* resilio._native.core: guards, calls and the engine below them. */
#include "call/block.h"
#include "timers/timers.h"

rs_clock *rs_clk;
extern PyObject *rs_phase(PyObject *module, PyObject *name);
extern PyObject *rs_current(PyObject *module, PyObject *unused);
extern PyObject *rs_gate_calls(PyObject *module, PyObject *unused);
extern PyObject *rs_endpoint(PyObject *module, PyObject *const *args, Py_ssize_t nargs);
extern PyObject *rs_detach(PyObject *module, PyObject *unused);
extern PyObject *rs_ambient_deadline(PyObject *module, PyObject *unused);
extern PyObject *rs_ambient_priority(PyObject *module, PyObject *unused);
extern PyObject *rs_generator_of(PyObject *module, PyObject *frame);
extern PyObject *rs_build_facts(PyObject *module, PyObject *unused);

static PyObject *count(int *counter, int by)
{
    __atomic_add_fetch(counter, by, __ATOMIC_ACQ_REL);
    Py_RETURN_NONE;
}

static PyObject *bypass_enter(PyObject *module, PyObject *unused) { return count(&rs_bypass_count, 1); }
static PyObject *bypass_exit(PyObject *module, PyObject *unused) { return count(&rs_bypass_count, -1); }
static PyObject *no_wait_enter(PyObject *module, PyObject *unused) { return count(&rs_no_wait_count, 1); }
static PyObject *no_wait_exit(PyObject *module, PyObject *unused) { return count(&rs_no_wait_count, -1); }

static PyObject *slow_calls_above(PyObject *module, PyObject *seconds)
{
    double least = seconds == Py_None ? 0.0 : PyFloat_AsDouble(seconds);
    if (least == -1.0 && PyErr_Occurred())
        return NULL;
    __atomic_store_n(&rs_slow_ns, seconds == Py_None || !(least < 9e9) ? INT64_MAX : (int64_t)(least * 1e9),
                     __ATOMIC_RELAXED);
    Py_RETURN_NONE;
}

static PyObject *after_fork_in_child(PyObject *module, PyObject *unused)
{
    rs_gate_forget_all();
    rs_timers_after_fork();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"detach", rs_detach, METH_NOARGS, "detach()\n--\n\nBegin a detached block and return its number."},
    {"current", rs_current, METH_NOARGS,
     "current()\n--\n\nInnermost guarded call in flight in this task or thread; None outside of one."},
    {"gate_calls", rs_gate_calls, METH_NOARGS,
     "gate_calls()\n--\n\nReturn what gates written in Python keep of the calls in flight in this thread, as "
     "GateCall, innermost first."},
    {"endpoint", (PyCFunction)(void (*)(void))rs_endpoint, METH_FASTCALL,
     "endpoint(pipeline=None, /)\n--\n\n"
     "Endpoint that the innermost call in flight goes to, of this pipeline or of any; None without a pool."},
    {"phase", rs_phase, METH_O,
     "phase(name, /)\n--\n\n"
     "Count the time of the guarded calls in flight in this task or thread as phase *name* from now on.\n\n"
     "A phase ends with the next one, the last with the attempt. No effect outside of a call.\n\n"
     "Args:\n    name: \"connect\", \"first_byte\" or \"body\"; None: the attempt itself again.\n\n"
     "Raises:\n    TypeError: Not a string or None.\n    ValueError: Another name."},
    {"slow_calls_above", slow_calls_above, METH_O,
     "slow_calls_above(seconds, /)\n--\n\n"
     "Report calls of at least *seconds* to the hook report_slow_call; None: report none."},
    {"bypass_enter", bypass_enter, METH_NOARGS,
     "bypass_enter()\n--\n\nLet calls check if their context bypasses the gates, until bypass_exit."},
    {"bypass_exit", bypass_exit, METH_NOARGS, "bypass_exit()\n--\n\nUndo one bypass_enter."},
    {"no_wait_enter", no_wait_enter, METH_NOARGS,
     "no_wait_enter()\n--\n\nLet waits check if their context skips them, until no_wait_exit."},
    {"no_wait_exit", no_wait_exit, METH_NOARGS, "no_wait_exit()\n--\n\nUndo one no_wait_enter."},
    {"ambient_deadline", rs_ambient_deadline, METH_NOARGS,
     "ambient_deadline()\n--\n\nDeadline in effect in this context, or None."},
    {"seconds_left", rs_seconds_left, METH_NOARGS,
     "seconds_left()\n--\n\n"
     "Seconds to the deadline in effect in this context, 0.0 once it has passed; None without one."},
    {"ambient_priority", rs_ambient_priority, METH_NOARGS,
     "ambient_priority()\n--\n\nPriority in effect in this context, or None."},
    {"generator_of", rs_generator_of, METH_O,
     "generator_of(frame, /)\n--\n\n"
     "Generator, async generator or coroutine of a frame; None for the frame of a function."},
    {"is_one_shot", rs_is_one_shot, METH_O,
     "is_one_shot(value, /)\n--\n\n"
     "Return True if the value can be used once only (iterator, file, coroutine), or contains such a value."},
    {"_private_state", rs_private_report, METH_NOARGS,
     "_private_state()\n--\n\n"
     "State of each private name that the core knows: in use, failed, not applicable or unused so far."},
    {"_build_facts", rs_build_facts, METH_NOARGS,
     "_build_facts()\n--\n\n"
     "Return the compiler, the version of Python's headers, and if this build is free-threaded, optimised, traced "
     "(made\n"
     "for coverage: slow) and sanitized."},
    {"_after_fork_in_child", after_fork_in_child, METH_NOARGS, NULL},
    {NULL},
};

static int register_fork(PyObject *module)
{
    PyObject *forks = PyImport_ImportModule("resilio._support.after_fork"),
             *hook = PyObject_GetAttrString(module, "_after_fork_in_child");
    PyObject *done = forks && hook ? PyObject_CallMethod(forks, "in_child", "sO", "native", hook) : NULL;
    Py_XDECREF(forks);
    Py_XDECREF(hook);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static int exec_module(PyObject *module)
{
    PyTypeObject *types[] = {&rs_GateType,        &rs_WaiterType,          &rs_PipelineType,        &rs_GuardType,
                             &rs_CallType,        &rs_PermitType,          &rs_RejectionType,       &rs_ResultType,
                             &rs_CurrentCallType, &rs_AmbientDeadlineType, &rs_AmbientPriorityType, &rs_InnerCallType,
                             &rs_SegmentsType};
    if (rs_python_add(module) < 0 || rs_private_init() < 0 || (rs_clk = rs_clock_import()) == NULL
        || rs_greenlets_init() < 0)
        return -1;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (PyModule_AddType(module, types[i]) < 0)
            return -1;
    if (rs_timers_init(module) < 0 || rs_block_add(module) < 0 || rs_setting_add(module) < 0
        || rs_segments_add(module) < 0 || rs_answer_judge_add(module) < 0 || rs_hand_over_add(module) < 0
        || rs_defer_add(module) < 0)
        return -1;
    PyObject *api = PyCapsule_New((void *)&rs_api, "resilio._native.core._api", NULL);
    int added = api ? PyModule_AddObjectRef(module, "_api", api) : -1;
    Py_XDECREF(api);
    return added < 0 ? -1 : register_fork(module);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "resilio._native.core",
                                        .m_doc = "The guard and the call.", .m_methods = methods, .m_slots = slots};

PyMODINIT_FUNC PyInit_core(void) { return PyModuleDef_Init(&definition); }
