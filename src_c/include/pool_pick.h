/* How a pool values its endpoints, and picks one of a level: two at random, and of these the cheaper one.
 *
 * The cost of an endpoint is its latency times the calls that it would have, over its weight. The latency is a peak EWMA:
 * a longer one is taken at once, shorter ones slowly. A failed call counts as if it had taken long: so an endpoint that
 * fails fast does not look fast. Of other calls, only one that was served shows how fast an endpoint is: the others count
 * as the median of the pool, at least, or as failures if their share is far above that of the other endpoints.
 *
 * Source: Finagle's peak EWMA; the power of two choices (Mitzenmacher); the price of a failure was found in simulation.
 */
#ifndef RS_POOL_PICK_H
#define RS_POOL_PICK_H
#include <stdint.h>
#include "gate.h"

/* The time constant of the latencies: a slow endpoint is forgiven within seconds (Finagle's is 10 s). */
#define RS_POOL_DECAY_NS 3e9
/* A failure counts as this many medians of the pool's latencies: a second is little to a model and long to a cache. */
#define RS_POOL_PRICE 30.0
#define RS_POOL_UNSERVED 0.03125  /* the weight of the latest call in the share of calls that were not served */
#define RS_POOL_FAR_ABOVE 0.4     /* four deviations of that share, where half of the calls are not served */
#define RS_POOL_LATEST 0xFFFFFu   /* bits of the calls by which the failure rate of an endpoint is known */
#define RS_POOL_HOLD_NS 100000000 /* after a refusal that does not say for how long; doubles from one to the next */
#define RS_POOL_HOLD_MOST_NS 5000000000
#define RS_POOL_FORGIVEN_NS 5000000000 /* so long after the latest call the price of its failure is over */

/* An endpoint as its pool sees it; in the memory of its gate. */
typedef struct rs_seat {
    rs_gate *gate;     /* its own gate, which has this in its memory */
    double latency_ns; /* peak EWMA, with the prices of failures; 0: nothing is known */
    double good_ns;    /* the same of successes alone */
    int64_t stamp_ns;  /* when they were right */
    int64_t joined_ns; /* since when it warms up; 0: it is warm */
    int64_t hold_ns;   /* until when it has asked to be left alone */
    int64_t look_ns;   /* while it is ejected: when its gates are asked again */
    double unserved;   /* the share of its latest calls that were answered and not served, like those of a 404 */
    double share;      /* of calls that its gates let pass */
    double weight;
    uint64_t name;     /* the hash of its name, for affinity */
    uint32_t latest;   /* a bit for each of its latest calls that succeeded or failed */
    uint32_t failures; /* and for each of these that failed */
    uint8_t place;     /* its index in the pool */
    uint8_t level;     /* the rank of its level */
    uint8_t zone;      /* the number of its zone, 0: none */
    uint8_t owes;      /* it was ejected: its first success ends the price of its failures */
    uint8_t failed;    /* the latest call that ended there has failed, or was refused */
    uint8_t refusals;  /* holds since the latest success that no answer has asked for */
} rs_seat;

/* exp(-x) for x >= 0, to 1e-4. */
static inline double rs_decay(double x)
{
    if (!(x < 40.0))
        return 0.0;
    double y = x * 1.4426950408889634; /* 2^-y = 2^-whole * 2^-part */
    int64_t whole = (int64_t)y;
    double part = y - (double)whole;
    double power = 1.0 + part * (-0.69312 + part * (0.23976 + part * (-0.05405 + part * 0.00741)));
    union {
        uint64_t bits;
        double value;
    } scale = {(uint64_t)(1023 - whole) << 52};
    return power * scale.value;
}

/* What a call that ends writes under the lock of its seat, a pick reads without it. */
static inline double rs_peek(const double *value)
{
    double seen;
    __atomic_load(value, &seen, __ATOMIC_RELAXED);
    return seen;
}

static inline void rs_put(double *value, double new) { __atomic_store(value, &new, __ATOMIC_RELAXED); }

/* The endpoint has asked to be left alone until then. Its lock is held. */
static inline void rs_seat_hold(rs_seat *seat, int64_t until_ns)
{
    if (until_ns > seat->hold_ns)
        __atomic_store_n(&seat->hold_ns, until_ns, __ATOMIC_RELAXED);
}

/* The endpoint has refused a call, without a Retry-After. Calls that were in flight then do not extend the hold. */
static inline void rs_seat_hold_refused(rs_seat *seat, int64_t now_ns)
{
    if (now_ns < seat->hold_ns)
        return;
    int64_t hold_ns = seat->refusals < 6 ? (int64_t)RS_POOL_HOLD_NS << seat->refusals++ : RS_POOL_HOLD_MOST_NS;
    rs_seat_hold(seat, now_ns + (hold_ns < RS_POOL_HOLD_MOST_NS ? hold_ns : RS_POOL_HOLD_MOST_NS));
}

static inline double rs_seat_left(const rs_seat *seat, int64_t now_ns)
{
    int64_t age = now_ns - __atomic_load_n(&seat->stamp_ns, __ATOMIC_RELAXED);
    return age > 0 ? rs_decay((double)age / RS_POOL_DECAY_NS) : 1.0;
}

/* Return 1 if the latest call to an endpoint has failed, long ago: now it may show that it is well. */
static inline int rs_seat_is_forgiven(const rs_seat *seat, int64_t now_ns)
{
    return __atomic_load_n(&seat->failed, __ATOMIC_RELAXED)
           && now_ns - __atomic_load_n(&seat->stamp_ns, __ATOMIC_RELAXED) > RS_POOL_FORGIVEN_NS;
}

static inline int64_t rs_seat_inflight(const rs_seat *seat)
{
    return __atomic_load_n(&seat->gate->counters.inflight, __ATOMIC_RELAXED);
}

/* The cost of one more call. Nothing known: free, but for one call at a time. */
static inline double rs_seat_cost(const rs_seat *seat, int64_t now_ns)
{
    int64_t inflight = rs_seat_inflight(seat);
    double latency_ns = rs_peek(&seat->latency_ns);
    if (latency_ns == 0.0 || rs_seat_is_forgiven(seat, now_ns))
        return inflight > 0 ? 1e18 * (double)(1 + inflight) : 0.0;
    return latency_ns * rs_seat_left(seat, now_ns) * (double)(inflight + 1) / seat->weight;
}

static inline double rs_peak(double before, double left, double sample)
{
    return sample > before * left ? sample : before * left + sample * (1.0 - left);
}

/* A call has succeeded or failed. Its lock is held. */
static inline void rs_seat_count(rs_seat *seat, int failed)
{
    __atomic_store_n(&seat->latest, (seat->latest << 1 | 1u) & RS_POOL_LATEST, __ATOMIC_RELAXED);
    __atomic_store_n(&seat->failures, (seat->failures << 1 | (failed != 0)) & RS_POOL_LATEST, __ATOMIC_RELAXED);
}

/* A call has ended. *price_ns*: a failed one counts as at least that. */
static inline void rs_seat_learn(rs_seat *seat, int outcome, double took_ns, double price_ns, int64_t now_ns)
{
    double left = rs_seat_left(seat, now_ns), latency_ns = seat->latency_ns;
    took_ns = took_ns > 1.0 ? took_ns : 1.0;
    if (outcome == RS_REFUSED) { /* its answer has the time to come back, and nothing of latency */
        __atomic_store_n(&seat->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    if (outcome == RS_IGNORED) { /* no answer, but it took at least that long */
        if (latency_ns == 0.0 || took_ns <= latency_ns * left)
            return;
        latency_ns = took_ns;
    }
    else if (outcome == RS_FAILURE)
        latency_ns = rs_peak(latency_ns, left, took_ns > price_ns ? took_ns : price_ns);
    else {
        int anew = seat->owes || rs_seat_is_forgiven(seat, now_ns);
        latency_ns = rs_peak(anew ? 0.0 : latency_ns, left, took_ns);
        rs_put(&seat->good_ns, rs_peak(anew ? 0.0 : seat->good_ns, left, took_ns));
        seat->owes = seat->refusals = 0;
        if (seat->unserved != 0.0)
            rs_put(&seat->unserved, seat->unserved * (1.0 - RS_POOL_UNSERVED));
    }
    if (outcome != RS_IGNORED)
        __atomic_store_n(&seat->failed, outcome == RS_FAILURE, __ATOMIC_RELAXED);
    rs_put(&seat->latency_ns, latency_ns);
    __atomic_store_n(&seat->stamp_ns, now_ns, __ATOMIC_RELAXED);
}

/* A call counts as this latency, whatever it took. */
static inline void rs_seat_charge(rs_seat *seat, double price_ns, int64_t now_ns)
{
    rs_put(&seat->latency_ns, rs_peak(seat->latency_ns, rs_seat_left(seat, now_ns), price_ns));
    __atomic_store_n(&seat->stamp_ns, now_ns, __ATOMIC_RELAXED);
}
#endif
