/* What the calls of an admission do otherwise. */
#ifndef RS_ADMISSION_H
#define RS_ADMISSION_H
#include "call.h"

#define RS_HOLDS_FOR_ADMISSION 2    /* rs_pipeline.holds: the holder is one */

PySendResult rs_admission_answered(CallObject *call, PyObject *value, PyObject **result);
void rs_admission_tell(rs_end *end, PyObject *admission, PyObject *permit);
void rs_admission_refused(CallObject *call);
#endif
