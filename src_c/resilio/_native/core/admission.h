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
#endif
