/* What a call's time is spent on. The exclusive ones add up to its wall time; what was wasted runs beside them. */
#ifndef RS_SEGMENTS_H
#define RS_SEGMENTS_H

typedef enum {
    RS_OWN = 0,                     /* resilio: strategies that decide, gates asked again */
    RS_QUEUE = 1,                   /* waiting for a permit */
    RS_RATE_LIMIT = 2,              /* waiting for tokens */
    RS_ATTEMPT = 3,                 /* the function, as far as nobody says more */
    RS_CONNECT = 4,
    RS_FIRST_BYTE = 5,
    RS_BODY = 6,
    RS_RETRY_SLEEP = 7,
    RS_HEDGE = 8,                   /* the delay before the copy that won, and waits for copies */
    RS_FALLBACK = 9,
    RS_SEGMENTS = 10,               /* so many are exclusive */
    RS_WASTED = 10,                 /* copies that lost, and primaries that copies have beaten */
    RS_SPENT = 11                   /* cells of an array that has all of them */
} rs_segment;
#endif
