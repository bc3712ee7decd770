/* Calls in the order in which they began, though they end in another: failures return at once, successes take their time.
 *
 * Calls are numbered as they begin. A span reaches from one call, or an earlier-begun failure, to the latest-begun one that
 * has ended since, so those in it that have not ended are its length less those that have: three counters, and no call is
 * kept. Numbers wrap; what is compared is less than 2^31 calls apart.
 *
 * No Python.h; the owner locks.
 */
#ifndef RS_SPAN_H
#define RS_SPAN_H
#include <stdint.h>

typedef struct rs_span {
    int64_t since_ns;                       /* when its first call ended */
    uint32_t first, last;                   /* numbers */
    uint32_t ended, failed;                 /* of those from `first` on */
    uint32_t on;
} rs_span;

static inline int rs_span_before(uint32_t number, uint32_t other) { return (int32_t)(number - other) < 0; }

/* Begin with a call that is about to be added. */
static inline void rs_span_begin(rs_span *span, uint32_t number, int64_t now_ns)
{
    *span = (rs_span){.since_ns = now_ns, .first = number, .last = number, .on = 1};
}

/* A call has ended, in whatever way. Of those that began before the first, one that failed is the first from now on: calls
 * that begin together fail in any order. */
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
}

/* How many calls began in it. */
static inline uint64_t rs_span_calls(const rs_span *span) { return (uint64_t)(span->last - span->first) + 1; }

/* How many of them may still be under way, when *inflight* calls are in all: one that ended before the span counts too. */
static inline int64_t rs_span_pending(const rs_span *span, int64_t inflight)
{
    int64_t pending = (int64_t)rs_span_calls(span) - span->ended;
    if (!span->on || pending < 0)
        return 0;
    return pending < inflight ? pending : inflight;
}
#endif
