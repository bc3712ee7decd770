/* Admission: gates in front of a client's hook, that is given a request and what sends it. Its calls are those of held.c, with the
 * admission as their holder: one for all, so that nothing is made for a request but its call, and a permit where there is more
 * to come of the answer. What a call ends with is told to two functions: an answer to `hold`, with the permit, and what was
 * raised to `settle`, a refusal too, without one.
 */
#include "admission.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    rs_pipeline *pipe;              /* NULL: all is sent by `aside` */
    PyObject *hold, *settle;
    PyObject *aside;                /* what sends in its place within a guarded call, or when there are news; or NULL */
    PyObject *news;                 /* tells whether there is something to be told first, or NULL */
    unsigned abandoned;             /* how much was when it was asked */
    long fails_from;                /* the least status that is a failure: what is below and whole ends with its call; 0: ask `hold` */
} AdmissionObject;

static PyObject *name_connection, *name_content, *name_exception, *name_status;

static inline AdmissionObject *admission_of(CallObject *call) { return (AdmissionObject *)call->args[call->nargs + 1]; }

/* ---- how its calls end ---------------------------------------------------------------------------------------- */

/* Is this attribute None? 0 if there is none of that name. */
static int is_none(PyObject *object, PyObject *name)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (RS_UNLIKELY(value == NULL))
        PyErr_Clear();
    Py_XDECREF(value);
    return value == Py_None;
}

/* Has a response of aiohttp's ended well with its head, as short ones do? Asked by the attributes behind the properties, which
   are Python; where those are called otherwise `hold` is asked, which goes by the properties. Its status then, or 0. */
int rs_is_whole_below(PyObject *response, long fails_from)
{
    if (!is_none(response, name_connection))
        return 0;
    PyObject *status = PyObject_GetAttr(response, name_status);
    long said = status && PyLong_Check(status) ? PyLong_AsLong(status) : fails_from;
    PyObject *content = said > 0 && said < fails_from ? PyObject_GetAttr(response, name_content) : NULL;
    int whole = content && (content == Py_None || is_none(content, name_exception));
    PyErr_Clear();
    Py_XDECREF(status);
    Py_XDECREF(content);
    return whole ? (int)said : 0;
}

PyObject *rs_is_whole(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2 || !PyLong_Check(args[1]))
        return PyErr_Format(PyExc_TypeError, "is_whole takes a response and the least status that fails");
    return PyBool_FromLong(rs_is_whole_below(args[0], PyLong_AsLong(args[1])));
}

/* Hand an answer over with its permit. NULL with an exception. */
static PyObject *hand_over(CallObject *call, PyObject *answer)
{
    PyObject *permit = rs_permit_new(&call->run), *args[3] = {NULL, permit, answer};
    PyObject *done = permit ? PyObject_Vectorcall(admission_of(call)->hold, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL) : NULL;
    Py_XDECREF(permit);
    return done;
}

/* What sends has answered *value* (stolen). */
PySendResult rs_admission_answered(CallObject *call, PyObject *value, PyObject **result)
{
    AdmissionObject *self = admission_of(call);
    call->running = 1;              /* a listener or `hold` may know this call: it must not drive it */
    if (RS_LIKELY(self->fails_from && rs_is_whole_below(value, self->fails_from)))
        rs_run_returned(&call->run, value, rs_clock_now(rs_clk));
    else {
        PyObject *done = hand_over(call, value);
        if (RS_UNLIKELY(done == NULL))
            Py_CLEAR(value);
        Py_XDECREF(done);
    }
    PyObject *error = RS_LIKELY(value != NULL) ? NULL : rs_take_error();
    return rs_call_finish(call, value, error, RS_SUCCESS, result);
}

/* Settle *error* (stolen). Returns what is to be raised in its place, or itself. */
static PyObject *settled(AdmissionObject *self, PyObject *permit, PyObject *error, PyObject *request)
{
    PyObject *args[4] = {NULL, permit ? permit : Py_None, error, request};
    PyObject *other = PyObject_Vectorcall(self->settle, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (other && other != Py_None && !PyExceptionInstance_Check(other)) {
        PyErr_Format(PyExc_TypeError, "settle: must answer with None or an exception, not %R", other);
        Py_CLEAR(other);
    }
    if (other == Py_None) {
        Py_DECREF(other);
        return error;
    }
    Py_DECREF(error);
    return other ? other : rs_take_error();
}

/* The call has raised, or what sends was nothing to be awaited, in the midst of which its permit is taken out. */
void rs_admission_tell(rs_end *end, PyObject *admission, PyObject *permit)
{
    if (end->value) {
        PyErr_Format(PyExc_TypeError, "what sends must be awaitable, not %R", end->value);
        Py_CLEAR(end->value);
        end->error = rs_take_error();
    }
    end->error = settled((AdmissionObject *)admission, permit, end->error, end->request->args[0]);
}

/* The call was refused: that is pending. */
void rs_admission_refused(CallObject *call)
{
    rs_raise_error(settled(admission_of(call), NULL, rs_take_error(), call->args[1]));
}

/* ---- the admission -------------------------------------------------------------------------------------------- */

/* admission(request, send): what awaits send(request) with a permit. Not within a guarded call, which wants to know what it
   waits for, and may be a copy. */
static PyObject *admission_call(AdmissionObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (RS_UNLIKELY(PyVectorcall_NARGS(nargsf) != 2 || kwnames))
        return PyErr_Format(PyExc_TypeError, "takes a request and what sends it");
    if (self->aside) {
        int aside = self->pipe == NULL ? 1 : rs_goes_aside(self->news, &self->abandoned);
        if (RS_UNLIKELY(aside))
            return aside < 0 ? NULL : PyObject_Vectorcall(self->aside, args, 2, NULL);
    }
    if (RS_UNLIKELY(self->pipe == NULL))
        return PyErr_Format(PyExc_RuntimeError, "this admission has no gates: its __init__ has not run");
    PyObject *call = rs_call_new(self->pipe, args[1], args, 1, NULL, RS_MODE_RAISE, NULL);
    if (RS_LIKELY(call != NULL))
        rs_call_keep_holder((CallObject *)call, (PyObject *)self);
    return call;
}

static PyObject *admission_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    AdmissionObject *self = (AdmissionObject *)type->tp_alloc(type, 0);
    if (self)
        self->vectorcall = (vectorcallfunc)admission_call;
    return (PyObject *)self;
}

/* A pipeline of the gates of the one that *begin* is the method of. NULL with an exception. */
static rs_pipeline *pipe_of(PyObject *begin)
{
    PyObject *from = PyCFunction_Check(begin) ? PyCFunction_GET_SELF(begin) : NULL;
    if (from == NULL || !PyObject_TypeCheck(from, &rs_PipelineType) || ((rs_pipeline *)from)->strategies)
        return (rs_pipeline *)PyErr_Format(PyExc_TypeError, "begin: must be the method _begin of a pipeline of gates, not %R", begin);
    PyObject *judges = ((rs_pipeline *)from)->judges;
    rs_pipeline *pipe = (rs_pipeline *)PyObject_CallFunction((PyObject *)&rs_PipelineType, "OOO", ((rs_pipeline *)from)->gates, Py_True,
                                                             judges ? judges : Py_None);
    if (pipe)
        pipe->holds = RS_HOLDS_FOR_ADMISSION;
    return pipe;
}

static int admission_init(AdmissionObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"begin", "hold", "settle", "aside", "news", "fails_from", NULL};
    PyObject *begin, *hold, *settle, *aside = Py_None, *news = Py_None;
    rs_pipeline *pipe = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OOl:Admission", names, &begin, &hold, &settle, &aside, &news,
                                     &self->fails_from))
        return -1;
    if (begin != Py_None && (pipe = pipe_of(begin)) == NULL)
        return -1;
    rs_keep_given(&self->aside, aside);
    rs_keep_given(&self->news, news);
    Py_XSETREF(self->hold, Py_NewRef(hold));        /* before what lets somebody in */
    Py_XSETREF(self->settle, Py_NewRef(settle));
    Py_XSETREF(self->pipe, pipe);
    return 0;
}

static int admission_traverse(AdmissionObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pipe);
    Py_VISIT(self->hold);
    Py_VISIT(self->settle);
    Py_VISIT(self->aside);
    Py_VISIT(self->news);
    return 0;
}

/* Not what calls under way will ask for. */
static int admission_clear(AdmissionObject *self)
{
    Py_CLEAR(self->aside);
    Py_CLEAR(self->news);
    Py_CLEAR(self->pipe);
    return 0;
}

static void admission_dealloc(AdmissionObject *self)
{
    PyObject_GC_UnTrack(self);
    admission_clear(self);
    Py_CLEAR(self->hold);
    Py_CLEAR(self->settle);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject AdmissionType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Admission",
    .tp_basicsize = sizeof(AdmissionObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Admission(begin, hold, settle, aside=None, news=None, fails_from=0)\n--\n\n"
              "The gates in front of a client's requests, and what becomes of their permits.",
    .tp_new = admission_new,
    .tp_init = (initproc)admission_init,
    .tp_dealloc = (destructor)admission_dealloc,
    .tp_traverse = (traverseproc)admission_traverse,
    .tp_clear = (inquiry)admission_clear,
    .tp_vectorcall_offset = offsetof(AdmissionObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

int rs_admission_add(PyObject *module)
{
    name_connection = PyUnicode_InternFromString("_connection");
    name_content = PyUnicode_InternFromString("content");
    name_exception = PyUnicode_InternFromString("_exception");
    name_status = PyUnicode_InternFromString("status");
    return name_connection && name_content && name_exception && name_status ? PyModule_AddType(module, &AdmissionType) : -1;
}
