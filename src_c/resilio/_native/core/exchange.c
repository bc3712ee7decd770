/* Exchange: one request of a client through strategies, and the holder of its calls (held.c); Exchanges, what makes them.
 *
 * A request may be sent several times, and has several answers then, of which its caller gets one at most. So what is held of
 * each is noted here, until the call is over for whoever awaits it, in whatever way: then the others are let go of.
 *
 * Each try is a call of what sends the request. To know when there is a connection, the exchange stands for the request's own
 * `send` until that is called: no frame, and no closure, is made for a try.
 */
#include "admission.h"

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;      /* send(connection) */
    PyObject *owner;                /* the client's, or NULL */
    PyObject *request;              /* NULL: it is the subclass's own */
    PyObject *sender;               /* what sends it once, awaited */
    PyObject *shown;                /* the request as strategies see it, or what stands for it */
    PyObject *send;                 /* what the request was sent by; NULL: by the method of its class */
    PyObject *leases;               /* what is held of the answers; NULL or None: nothing */
    long fails_from;                /* the least status of an answer that is looked at though it is whole; 0: none is looked at */
    char hooked;                    /* it stands for the request's `send` */
    char over;                      /* nobody awaits it any more */
} ExchangeObject;

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    rs_pipeline *pipe;
    PyTypeObject *kind;             /* derived from Exchange */
    PyObject *owner;
    PyObject *methods;              /* set of those which may be sent again without a body; or NULL: whatever may be */
    PyObject *aside, *news;         /* as those of an admission */
    unsigned abandoned;
    long fails_from;
} ExchangesObject;

static PyTypeObject ExchangeType, ExchangesType;
static PyObject *name_body, *name_expect, *name_finish, *name_headers, *name_look_at, *name_method, *name_send, *name_sent,
    *name_stand_in, *name_told;

static int holds_nothing(const ExchangeObject *self) { return self->leases == NULL || self->leases == Py_None; }

int rs_is_exchange(PyObject *holder) { return PyObject_TypeCheck(holder, &ExchangeType); }

/* Is there nothing to be held of an answer, which its caller gets? */
int rs_exchange_is_whole(PyObject *holder)
{
    ExchangeObject *self = (ExchangeObject *)holder;
    return !self->over && holds_nothing(self);
}

/* ---- its end -------------------------------------------------------------------------------------------------- */

/* From now on it is whoever asks first who unhooks it, in whatever thread. */
static int was_hooked(ExchangeObject *self) { return __atomic_exchange_n(&self->hooked, 0, __ATOMIC_ACQ_REL); }

/* The request is sent by what it was sent by before. That, a new reference; NULL with an exception. Once: by who was_hooked. */
static PyObject *unhook(ExchangeObject *self)
{
    PyObject *send = self->send;
    self->send = NULL;
    if (RS_UNLIKELY(PyObject_SetAttr(self->request, name_send, send) < 0))      /* NULL: deletes it */
        Py_CLEAR(send);
    else if (send == NULL)
        send = PyObject_GetAttr(self->request, name_send);
    return send;
}

/* It is over for whoever awaits it, who gets *answer*; NULL: nothing. Keeps a pending exception. */
static void end(ExchangeObject *self, PyObject *answer)
{
    PyObject *type, *value, *traceback;
    if (self->over)
        return;
    self->over = 1;
    if (RS_LIKELY(!self->hooked && holds_nothing(self)))
        return;
    PyErr_Fetch(&type, &value, &traceback);
    if (was_hooked(self)) {
        Py_XDECREF(unhook(self));
        rs_drop_error();
    }
    PyObject *done = PyObject_CallMethodOneArg((PyObject *)self, name_finish, answer ? answer : Py_None);
    if (done == NULL)
        rs_drop_error();
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

/* The exchange that is the holder of a call, which was not begun inside of another; NULL: there is none. */
static ExchangeObject *exchange_of(const CallObject *call)
{
    PyObject *holder = call->total > call->nargs && !call->run.inside ? call->args[call->nargs + 1] : NULL;
    return holder && rs_is_exchange(holder) ? (ExchangeObject *)holder : NULL;
}

/* The call lets go of its arguments: it is over, if it was not before. *collected*: no code may run that might know it. */
void rs_held_let_go(CallObject *call, int collected)
{
    ExchangeObject *self = exchange_of(call);
    if (self && collected)
        self->over = 1;
    else if (self)
        end(self, NULL);
}

/* *error* (stolen) as the users of the client know errors. */
static PyObject *told(ExchangeObject *self, PyObject *error)
{
    PyObject *other = PyObject_CallMethodOneArg((PyObject *)self, name_told, error);
    if (other && !PyExceptionInstance_Check(other)) {
        PyErr_Format(PyExc_TypeError, "told: must answer with an exception, not %R", other);
        Py_CLEAR(other);
    }
    Py_DECREF(error);
    return other ? other : rs_take_error();
}

/* The call returns *value*, or raises *error* (stolen). What is to be raised. */
PyObject *rs_held_over(CallObject *call, PyObject *value, PyObject *error)
{
    ExchangeObject *self = exchange_of(call);
    if (self == NULL)
        return error;
    if (RS_UNLIKELY(error != NULL))
        error = told(self, error);
    end(self, value);
    return error;
}

/* The call was refused before anything was begun: that is pending. */
void rs_held_refused(CallObject *call)
{
    ExchangeObject *self = exchange_of(call);
    if (call->pipe->holds == RS_HOLDS_FOR_ADMISSION)
        rs_admission_refused(call);
    else if (self)
        rs_raise_error(told(self, rs_take_error()));
}

/* ---- a try ---------------------------------------------------------------------------------------------------- */

/* The function of the call has answered: what is not whole and good is looked at. 0 with an exception. */
int rs_held_answered(CallObject *call, PyObject *answer)
{
    PyObject *holder = call->args[call->nargs + 1];
    call->run.status = 0;
    if (call->run.n != call->pipe->n || !rs_is_exchange(holder))       /* a fallback's, perhaps */
        return 1;
    ExchangeObject *self = (ExchangeObject *)holder;
    if (RS_LIKELY(!self->over && self->fails_from))
        call->run.status = (int16_t)rs_is_whole_below(answer, self->fails_from);
    if (RS_LIKELY(call->run.status || self->fails_from == 0))
        return 1;
    rs_call_enter(call);
    PyObject *done = PyObject_CallMethodOneArg(holder, name_look_at, answer);
    rs_call_leave(call);
    call->running = 1;
    Py_XDECREF(done);
    return done != NULL;
}

/* send(connection), in place of the request's own. */
static PyObject *exchange_call(ExchangeObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (RS_UNLIKELY(!self->hooked))
        return PyErr_Format(PyExc_RuntimeError, "this request has been sent");
    rs_phase_all(RS_FIRST_BYTE);
    PyObject *done = self->shown == self->request ? Py_NewRef(Py_None) : PyObject_CallMethodNoArgs(self->shown, name_sent);
    PyObject *send = NULL, *sent = NULL;
    if (done && !was_hooked(self))
        PyErr_SetString(PyExc_RuntimeError, "this request has been sent");
    else if (done)
        send = unhook(self);
    if (send)
        sent = PyObject_Vectorcall(send, args, nargsf, kwnames);
    Py_XDECREF(done);
    Py_XDECREF(send);
    return sent;
}

/* From now on it stands for the request's `send`. -1 with an exception. */
static int hook(ExchangeObject *self)
{
    PyObject *send = PyObject_GetAttr(self->request, name_send), *usual = NULL;
    if (send == NULL)
        return -1;
    if (RS_LIKELY(PyMethod_Check(send)) && (usual = PyObject_GetAttr((PyObject *)Py_TYPE(self->request), name_send)) == NULL)
        PyErr_Clear();
    if (RS_LIKELY(usual && PyMethod_GET_FUNCTION(send) == usual))
        Py_CLEAR(send);                 /* there would be a cycle: each knows the other */
    Py_XDECREF(usual);
    if (RS_UNLIKELY(PyObject_SetAttr(self->request, name_send, (PyObject *)self) < 0)) {
        Py_XDECREF(send);
        return -1;
    }
    self->send = send;
    __atomic_store_n(&self->hooked, 1, __ATOMIC_RELEASE);
    return 0;
}

/* attempt(shown): what awaits that the request is sent once. */
static PyObject *exchange_attempt(ExchangeObject *self, PyObject *unused)
{
    if (RS_UNLIKELY(self->sender == NULL))
        return PyErr_Format(PyExc_NotImplementedError, "attempt: is for subclasses to say");
    rs_phase_all(RS_CONNECT);
    if (!self->hooked && hook(self) < 0)
        return NULL;
    return PyObject_CallOneArg(self->sender, self->request);
}

static PyObject *exchange_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    ExchangeObject *self = (ExchangeObject *)type->tp_alloc(type, 0);
    if (self)
        self->vectorcall = (vectorcallfunc)exchange_call;
    return (PyObject *)self;
}

static int exchange_traverse(ExchangeObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->owner);
    Py_VISIT(self->request);
    Py_VISIT(self->sender);
    Py_VISIT(self->shown);
    Py_VISIT(self->send);
    Py_VISIT(self->leases);
    return 0;
}

static int exchange_clear(ExchangeObject *self)
{
    self->hooked = 0;
    Py_CLEAR(self->owner);
    Py_CLEAR(self->request);
    Py_CLEAR(self->sender);
    Py_CLEAR(self->shown);
    Py_CLEAR(self->send);
    Py_CLEAR(self->leases);
    return 0;
}

static void exchange_dealloc(ExchangeObject *self)
{
    PyObject_GC_UnTrack(self);
    exchange_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMethodDef exchange_methods[] = {
    {"attempt", (PyCFunction)exchange_attempt, METH_O,
     "attempt($self, shown, /)\n--\n\nSend the request once, awaited; what is shown of it is told when there is a connection."},
    {NULL}};
static PyMemberDef exchange_members[] = {
    {"fails_from", T_LONG, offsetof(ExchangeObject, fails_from), 0,
     "The least status of an answer that is looked at though it is whole; 0: none is looked at."},
    {"leases", T_OBJECT, offsetof(ExchangeObject, leases), 0, "What is held of the answers, or None."},
    {"over", T_BOOL, offsetof(ExchangeObject, over), 0, "Whether nobody awaits it any more."},
    {"owner", T_OBJECT, offsetof(ExchangeObject, owner), READONLY, "The client's."},
    {"request", T_OBJECT, offsetof(ExchangeObject, request), READONLY, "The request."},
    {"sender", T_OBJECT, offsetof(ExchangeObject, sender), READONLY, "What sends it once, awaited."},
    {"shown", T_OBJECT, offsetof(ExchangeObject, shown), READONLY, "The request as strategies see it."},
    {NULL}};

static PyTypeObject ExchangeType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Exchange",
    .tp_basicsize = sizeof(ExchangeObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "A request, which may be sent several times.",
    .tp_new = exchange_new,
    .tp_dealloc = (destructor)exchange_dealloc,
    .tp_traverse = (traverseproc)exchange_traverse,
    .tp_clear = (inquiry)exchange_clear,
    .tp_vectorcall_offset = offsetof(ExchangeObject, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_methods = exchange_methods,
    .tp_members = exchange_members,
};

/* ---- what makes them ------------------------------------------------------------------------------------------ */

/* May it be sent again whatever happens to it: is its method one of these, and has it no body? By the attributes behind those of a
   request of aiohttp. -1 with an exception. */
static int is_replayable(PyObject *request, PyObject *methods)
{
    PyObject *body = PyObject_GetAttr(request, name_body), *method = body == Py_None ? PyObject_GetAttr(request, name_method) : NULL;
    PyObject *headers = method ? PyObject_GetAttr(request, name_headers) : NULL;
    int may = headers ? PySet_Contains(methods, method) : 0;
    if (may > 0)
        may = (may = PySequence_Contains(headers, name_expect)) < 0 ? may : !may;
    Py_XDECREF(body);
    Py_XDECREF(method);
    Py_XDECREF(headers);
    if (RS_UNLIKELY(PyErr_Occurred() != NULL))
        PyErr_Clear();                  /* whoever is asked instead meets it again */
    return may > 0;
}

static ExchangeObject *exchange_of_request(ExchangesObject *self, PyObject *request, PyObject *sender)
{
    ExchangeObject *made = (ExchangeObject *)self->kind->tp_alloc(self->kind, 0);
    if (made == NULL)
        return NULL;
    made->vectorcall = (vectorcallfunc)exchange_call;
    made->owner = Py_NewRef(self->owner);
    made->request = Py_NewRef(request);
    made->sender = Py_NewRef(sender);
    made->fails_from = self->fails_from;
    if (RS_LIKELY(self->methods == NULL || is_replayable(request, self->methods)))
        made->shown = Py_NewRef(request);
    else if ((made->shown = PyObject_CallMethodNoArgs((PyObject *)made, name_stand_in)) == NULL)
        Py_CLEAR(made);
    return made;
}

/* exchanges(request, sender): what awaits that the request is sent through the strategies. */
static PyObject *exchanges_call(ExchangesObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    if (RS_UNLIKELY(PyVectorcall_NARGS(nargsf) != 2 || kwnames))
        return PyErr_Format(PyExc_TypeError, "takes a request and what sends it");
    if (self->aside) {
        int aside = rs_goes_aside(self->news, &self->abandoned);
        if (RS_UNLIKELY(aside))
            return aside < 0 ? NULL : PyObject_Vectorcall(self->aside, args, 2, NULL);
    }
    if (RS_UNLIKELY(self->pipe == NULL))
        return PyErr_Format(PyExc_RuntimeError, "there is no pipeline: its __init__ has not run");
    ExchangeObject *exchange = exchange_of_request(self, args[0], args[1]);
    PyObject *call = exchange ? rs_held_call(self->pipe, (PyObject *)exchange, exchange->shown) : NULL;
    Py_XDECREF((PyObject *)exchange);
    return call;
}

static PyObject *exchanges_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    ExchangesObject *self = (ExchangesObject *)type->tp_alloc(type, 0);
    if (self)
        self->vectorcall = (vectorcallfunc)exchanges_call;
    return (PyObject *)self;
}

static int exchanges_init(ExchangesObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pipeline", "kind", "owner", "methods", "fails_from", "aside", "news", NULL};
    PyObject *pipe, *kind, *owner, *methods, *aside = Py_None, *news = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!OOl|OO:Exchanges", names, &rs_PipelineType, &pipe, &PyType_Type, &kind, &owner,
                                     &methods, &self->fails_from, &aside, &news))
        return -1;
    if (!((rs_pipeline *)pipe)->holds || !PyType_IsSubtype((PyTypeObject *)kind, &ExchangeType)
        || (methods != Py_None && !PyAnySet_Check(methods))) {
        PyErr_SetString(PyExc_TypeError, "takes a pipeline that holds, a class derived from Exchange, and a set of methods or None");
        return -1;
    }
    rs_keep_given(&self->aside, aside);
    rs_keep_given(&self->news, news);
    rs_keep_given(&self->methods, methods);
    Py_XSETREF(self->kind, (PyTypeObject *)Py_NewRef(kind));
    Py_XSETREF(self->owner, Py_NewRef(owner));
    Py_XSETREF(self->pipe, (rs_pipeline *)Py_NewRef(pipe));         /* last: it lets somebody in */
    return 0;
}

static int exchanges_traverse(ExchangesObject *self, visitproc visit, void *arg)
{
    Py_VISIT(self->pipe);
    Py_VISIT(self->kind);
    Py_VISIT(self->owner);
    Py_VISIT(self->methods);
    Py_VISIT(self->aside);
    Py_VISIT(self->news);
    return 0;
}

static int exchanges_clear(ExchangesObject *self)
{
    Py_CLEAR(self->pipe);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->aside);
    Py_CLEAR(self->news);
    return 0;
}

static void exchanges_dealloc(ExchangesObject *self)
{
    PyObject_GC_UnTrack(self);
    exchanges_clear(self);
    Py_CLEAR(self->kind);
    Py_CLEAR(self->methods);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyTypeObject ExchangesType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Exchanges",
    .tp_basicsize = sizeof(ExchangesObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_doc = "Exchanges(pipeline, kind, owner, methods, fails_from, aside=None, news=None)\n--\n\n"
              "Sends a client's requests through strategies, each by an exchange of that kind.",
    .tp_new = exchanges_new,
    .tp_init = (initproc)exchanges_init,
    .tp_dealloc = (destructor)exchanges_dealloc,
    .tp_traverse = (traverseproc)exchanges_traverse,
    .tp_clear = (inquiry)exchanges_clear,
    .tp_vectorcall_offset = offsetof(ExchangesObject, vectorcall),
    .tp_call = PyVectorcall_Call,
};

int rs_exchange_add(PyObject *module)
{
    struct { PyObject **at; const char *name; } names[] = {
        {&name_body, "_body"}, {&name_expect, "expect"}, {&name_finish, "finish"}, {&name_headers, "headers"},
        {&name_look_at, "look_at"}, {&name_method, "method"}, {&name_send, "send"}, {&name_sent, "sent"}, {&name_stand_in, "stand_in"},
        {&name_told, "told"}};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if ((*names[i].at = PyUnicode_InternFromString(names[i].name)) == NULL)
            return -1;
    return PyModule_AddType(module, &ExchangeType) < 0 ? -1 : PyModule_AddType(module, &ExchangesType);
}
