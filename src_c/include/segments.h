/* The segments of a call's time. The exclusive ones add up to its wall time; wasted time runs beside them. */
#ifndef RS_SEGMENTS_H
#define RS_SEGMENTS_H

typedef enum {
    RS_OWN = 0,        /* resilio: deciding strategies, rechecked gates */
    RS_QUEUE = 1,      /* waiting for a permit */
    RS_RATE_LIMIT = 2, /* waiting for tokens */
    RS_ATTEMPT = 3,    /* the function, unless a phase is reported */
    RS_CONNECT = 4,
    RS_FIRST_BYTE = 5,
    RS_BODY = 6,
    RS_RETRY_SLEEP = 7,
    RS_HEDGE = 8, /* the delay before the copy that won, and waits for copies */
    RS_FALLBACK = 9,
    RS_SEGMENTS = 10, /* number of exclusive segments */
    RS_WASTED = 10,   /* copies that lost, and primaries that lost to copies */
    RS_SPENT = 11     /* length of an array of all of them */
} rs_segment;
#endif
