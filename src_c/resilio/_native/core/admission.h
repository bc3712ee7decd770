/* What the calls of an admission do otherwise. */
#ifndef RS_ADMISSION_H
#define RS_ADMISSION_H
#include "call.h"

#define RS_HOLDS_FOR_ADMISSION 2    /* rs_pipeline.holds: the holder is one */

int rs_is_whole_below(PyObject *response, long fails_from);
int rs_held_answered(CallObject *call, PyObject *answer);
PyObject *rs_held_over(CallObject *call, PyObject *value, PyObject *error);
void rs_held_refused(CallObject *call);
int rs_is_exchange(PyObject *holder);
int rs_exchange_is_whole(PyObject *holder);
int rs_exchange_add(PyObject *module);

PySendResult rs_admission_answered(CallObject *call, PyObject *value, PyObject **result);
void rs_admission_tell(rs_end *end, PyObject *admission, PyObject *permit);
void rs_admission_refused(CallObject *call);
/* Is a request sent in another way: within a guarded call, or when there are news? -1 with an exception. *news*: or NULL. */
static inline int rs_goes_aside(PyObject *news, unsigned *seen)
{
    return *rs_ambient() ? 1 : news ? rs_has_news(seen, news) : 0;
}

/* What was given for an attribute; None stands for none. */
static inline void rs_keep_given(PyObject **field, PyObject *value)
{
    Py_XSETREF(*field, value == Py_None ? NULL : Py_NewRef(value));
}
#endif
