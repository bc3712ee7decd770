/* Objects that a loop keeps alive for us: tasks that a timer will interrupt.
 *
 * asyncio refers to its tasks weakly. A waiting task that is referenced only by the objects that it waits for would be
 * collected while it waits. `asyncio.timeout` prevents that, because the loop's timer refers to the task; the timers of
 * a wheel do not. So the loop gets an attribute that refers to the tasks while their timers are armed. The attribute
 * dies with the loop. A dropped call removes its task: the list holds tasks, never calls.
 */
#include "core.h"
#include "timers/loop_wheel.h"
#include "timers/keeper.h"

typedef struct rs_keeper {
    PyObject_HEAD
    rs_keep head;       /* of a ring */
    WheelObject *wheel; /* finds this keeper without a look-up in the loop; owned, NULL before the first use */
    rs_lock lock;
    uint32_t epoch;
} KeeperObject;

/* Another thread may have been inside the list when the process forked: it is left alone. */
static int is_left_alone(const KeeperObject *self)
{
#ifdef Py_GIL_DISABLED
    return self->epoch != rs_wheel_epoch;
#else
    return 0;
#endif
}

static KeeperObject *keeper_new(void)
{
    KeeperObject *self = PyObject_GC_New(KeeperObject, &rs_KeeperType);
    if (self == NULL)
        return NULL;
    memset((char *)self + sizeof(PyObject), 0, sizeof(KeeperObject) - sizeof(PyObject));
    self->head.prev = self->head.next = &self->head;
    self->epoch = rs_wheel_epoch;
    PyObject_GC_Track(self);
    return self;
}

static int keeper_traverse(KeeperObject *self, visitproc visit, void *arg)
{
    for (rs_keep *node = self->head.next; node != &self->head && !is_left_alone(self); node = node->next)
        Py_VISIT(node->kept);
    Py_VISIT(self->wheel);
    return 0;
}

/* Unlink a node from the ring and return its object; NULL: another thread was faster. */
static PyObject *unlink_node(KeeperObject *self, rs_keep *node)
{
    PyObject *kept = NULL;
    if (is_left_alone(self))
        return NULL;
    rs_lock_acquire(&self->lock);
    if (node == NULL)
        node = self->head.next;
    if (node->next && node != &self->head) {
        node->prev->next = node->next;
        node->next->prev = node->prev;
        node->prev = node->next = NULL;
        kept = node->kept;
        node->kept = NULL;
    }
    rs_lock_release(&self->lock);
    return kept;
}

/* Let this wheel find it, and no other one: a loop that runs in another thread later on gets another wheel there. */
static void be_found_by(KeeperObject *self, WheelObject *wheel)
{
    WheelObject *before = self->wheel;
    if (before)
        before->keeper = NULL;
    if (wheel)
        wheel->keeper = self;
    self->wheel = (WheelObject *)Py_XNewRef((PyObject *)wheel);
    Py_XDECREF((PyObject *)before);
}

static int keeper_clear(KeeperObject *self)
{
    PyObject *kept;
    while ((kept = unlink_node(self, NULL)) != NULL)
        Py_DECREF(kept);
    be_found_by(self, NULL);
    return 0;
}

/* The ring is empty now, since each node holds a reference. */
static void keeper_dealloc(KeeperObject *self)
{
    PyObject_GC_UnTrack(self);
    be_found_by(self, NULL);
    PyObject_GC_Del(self);
}

PyTypeObject rs_KeeperType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "resilio._native.core.Keeper",
    .tp_basicsize = sizeof(KeeperObject),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_doc = "Tasks that a loop keeps alive because a timer will interrupt them.",
    .tp_traverse = (traverseproc)keeper_traverse,
    .tp_clear = (inquiry)keeper_clear,
    .tp_dealloc = (destructor)keeper_dealloc,
};

static PyObject *attribute_name(void)
{
    static PyObject *name;
    return name ? name : (name = PyUnicode_InternFromString("_resilio_keeper"));
}

/* The loop's own keeper, a new reference; NULL with an exception, usually for a loop that allows no attributes. */
static KeeperObject *keeper_of(PyObject *loop)
{
    PyObject *name = attribute_name(), *found = name ? PyObject_GetAttr(loop, name) : NULL;
    if (RS_LIKELY(found && Py_TYPE(found) == &rs_KeeperType && !is_left_alone((KeeperObject *)found)))
        return (KeeperObject *)found;
    Py_XDECREF(found);
    PyErr_Clear();
    KeeperObject *made = name ? keeper_new() : NULL;
    if (made && PyObject_SetAttr(loop, name, (PyObject *)made) < 0)
        Py_CLEAR(made);
    return made;
}

void rs_keep_begin(rs_keep *node, PyObject *loop, WheelObject *wheel, PyObject *kept)
{
    KeeperObject *self = wheel && wheel->keeper ? (KeeperObject *)Py_NewRef((PyObject *)wheel->keeper)
                                                : keeper_of(loop);
    if (self == NULL) {
        rs_drop_error();
        return;
    }
    if (RS_UNLIKELY(wheel && wheel->keeper != self))
        be_found_by(self, wheel);
    node->keeper = (PyObject *)self;
    node->kept = Py_NewRef(kept);
    rs_lock_acquire(&self->lock);
    node->prev = self->head.prev;
    node->next = &self->head;
    node->prev->next = self->head.prev = node;
    rs_lock_release(&self->lock);
}

void rs_keep_end(rs_keep *node)
{
    KeeperObject *self = (KeeperObject *)node->keeper;
    if (self == NULL)
        return;
    PyObject *kept = unlink_node(self, node);
    node->keeper = NULL;
    Py_XDECREF(kept);
    Py_DECREF((PyObject *)self);
}
