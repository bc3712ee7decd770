/* As much of Python as the headers of a pool name, for a program without it: a lock is the system's. */
#ifndef STUB_PYTHON_H
#define STUB_PYTHON_H
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define Py_GIL_DISABLED 1
typedef ssize_t Py_ssize_t;
typedef struct {
    Py_ssize_t references;
} PyObject;
#define PyObject_HEAD PyObject ob_base;
typedef struct {
    pthread_mutex_t system;
} PyMutex;
static inline void PyMutex_Lock(PyMutex *lock) { pthread_mutex_lock(&lock->system); }
static inline void PyMutex_Unlock(PyMutex *lock) { pthread_mutex_unlock(&lock->system); }
#define PyMem_RawMalloc malloc
#define PyMem_RawCalloc calloc
#define PyMem_RawFree free
#endif
