/* Facts about the build of the compiled core, for `resilio doctor`, from the compiler's macros. */
#include "core.h"

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#if defined(__clang__)
#define COMPILER "Clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "GCC " __VERSION__
#elif defined(_MSC_VER)
#define COMPILER "MSVC " TEXT(_MSC_VER)
#else
#define COMPILER "an unknown compiler"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(CYTHON_TRACE_NOGIL) && CYTHON_TRACE_NOGIL
#define TRACED 1
#else
#define TRACED 0
#endif

#ifdef __OPTIMIZE__
#define OPTIMISED 1
#else
#define OPTIMISED 0
#endif

#ifdef Py_GIL_DISABLED
#define FREE_THREADED 1
#else
#define FREE_THREADED 0
#endif

PyObject *rs_build_facts(PyObject *module, PyObject *unused)
{
    return Py_BuildValue("{ss ss sO sO sO sO}", "compiler", COMPILER, "python", PY_VERSION, "free_threaded",
                         FREE_THREADED ? Py_True : Py_False, "optimised", OPTIMISED ? Py_True : Py_False, "traced",
                         TRACED ? Py_True : Py_False, "sanitized", SANITIZED ? Py_True : Py_False);
}
