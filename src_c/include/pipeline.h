/* A pipeline: a fixed array of gates, outermost first. A policy is one, of its own gate. */
#ifndef RS_PIPELINE_H
#define RS_PIPELINE_H
#include "gate.h"

typedef struct rs_pipeline {
    PyObject_HEAD
    PyObject *gates;                /* tuple, keeps the array alive */
    rs_gate **gate;                 /* its items */
    int n;                          /* -1 until __init__ */
    uint8_t strategies;             /* some of them are; or there is a hook: ends are asked about */
    uint8_t timed;                  /* some of those have timers */
    uint8_t placed;                 /* some of those ask where they run */
    uint8_t timeless;               /* all of them are RS_NO_START */
    uint8_t used;                   /* a keyed policy's own: it was found by its key of late. Here, because who finds it counts its
                                       reference: another cache line would be another wait, for each look-up among many keys */
    PyObject *judges;               /* of a client's: tuple of its judges of errors and of answers, by rule from FAILING on; or NULL */
    PyObject *hand_over;            /* hook: what gates hold of a call may outlive it, hand_over.c; or NULL */
    PyObject *weakrefs;
} rs_pipeline;
#endif
