from resilio._native.core import Permit

cdef object _success = Permit.success       # found once
cdef type _Permit = Permit

cdef extern from "Python.h":
    object PyObject_CallOneArg(object, object)


cpdef settle(permit, long status):
    """End a permit as the status says: a fault of the server is a failure, a fault of the client is neither."""
    if status < 400:
        if type(permit) is _Permit:
            PyObject_CallOneArg(_success, permit)
        else:
            permit.success()
    elif status < 500:
        permit.ignore()
    else:
        permit.failure()
