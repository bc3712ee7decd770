/* Counters over calls in the order in which they began. They end in another order: failures return at once,
 * successes take their time.
 *
 * Calls are numbered as they begin. A span reaches from one call, or an earlier-begun failure, to the latest-begun call
 * that has ended since. So its calls still in flight are its length less those that have ended: three counters, and no
 * record of a call. Numbers wrap; compared numbers are less than 2^31 calls apart.
 *
 * No Python.h; the owner locks.
 */
#ifndef RS_SPAN_H
#define RS_SPAN_H
#include <stdint.h>

typedef struct rs_span {
    int64_t since_ns;       /* when its first call ended */
    uint32_t first, last;   /* numbers */
    uint32_t ended, failed; /* of the calls from `first` on */
    uint32_t beyond;        /* of the calls after `last`, those that have ended without evidence */
    uint32_t farthest;      /* the number of the latest of these */
    uint32_t on;
} rs_span;

static inline int rs_span_before(uint32_t number, uint32_t other) { return (int32_t)(number - other) < 0; }

/* Begin with a call that is about to be added. */
static inline void rs_span_begin(rs_span *span, uint32_t number, int64_t now_ns)
{
    *span = (rs_span){.since_ns = now_ns, .first = number, .last = number, .on = 1};
}

/* Add a call that has ended, in any way. A failure that began before `first` becomes the first: calls that begin
 * together fail in any order. */
static inline void rs_span_add(rs_span *span, uint32_t number, int failed)
{
    if (!span->on || (!failed && rs_span_before(number, span->first)))
        return;
    if (rs_span_before(number, span->first))
        span->first = number;
    if (rs_span_before(span->last, number))
        span->last = number;
    span->ended++;
    span->failed += failed != 0;
    if (span->beyond && !rs_span_before(span->last, span->farthest)) {
        span->ended += span->beyond;
        span->beyond = 0;
    }
}

/* Note a call that has ended without evidence: nothing waits for it. After `last` it makes the span no longer, since the
 * calls between began after all that has failed; once the span is as long, it counts as ended. */
static inline void rs_span_pass(rs_span *span, uint32_t number)
{
    if (!span->on || !rs_span_before(span->last, number)) {
        rs_span_add(span, number, 0);
        return;
    }
    if (span->beyond++ == 0 || rs_span_before(span->farthest, number))
        span->farthest = number;
}

/* The number of calls that began in it. */
static inline uint64_t rs_span_calls(const rs_span *span) { return (uint64_t)(span->last - span->first) + 1; }

/* The number of them that may still be in flight, when *inflight* calls are in flight in all: one that ended
   before the span counts too. */
static inline int64_t rs_span_pending(const rs_span *span, int64_t inflight)
{
    int64_t pending = (int64_t)rs_span_calls(span) - span->ended;
    if (!span->on || pending < 0)
        return 0;
    return pending < inflight ? pending : inflight;
}
#endif
