/* A pipeline: a fixed array of gates, outermost first. A policy is a pipeline with its own gate. */
#ifndef RS_PIPELINE_H
#define RS_PIPELINE_H
#include "gate.h"

typedef struct rs_pipeline {
    PyObject_HEAD
    PyObject *gates;     /* tuple, keeps the array alive */
    rs_gate **gate;      /* its items */
    int n;               /* -1 until __init__ */
    uint8_t strategies;  /* there are strategies, or a hook: ends go through rs_run_outward */
    uint8_t timed;       /* some strategies have timers */
    uint8_t placed;      /* some strategies need the kind of event loop */
    uint8_t timeless;    /* all of them are RS_NO_START */
    int8_t pool;         /* the first stage of its pool; -1: there is none */
    uint8_t used;        /* of a keyed policy: it was looked up recently. Kept here since a
                                       look-up counts a reference: another cache line would cost another
                                       wait, for each look-up among many keys */
    PyObject *judges;    /* of a client's: tuple of judges of errors and of answers, by rule from FAILING on; or NULL */
    PyObject *hand_over; /* hook for permits that may outlive their call, hand_over.c; or NULL */
    PyObject *weakrefs;
} rs_pipeline;
#endif
