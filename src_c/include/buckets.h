/* Several token buckets that a call takes from together: of all of them, or of none; and what comes next in a queue.
 *
 * Unlike in gcra.h a cost of no tokens is not free: it waits while a bucket is in debt. No Python.h; the owner locks.
 */
#ifndef RS_BUCKETS_H
#define RS_BUCKETS_H
#include <string.h>
#include "gcra.h"

#define RS_MOST_RATES 8

typedef struct rs_buckets {
    int n;
    rs_gcra bucket[RS_MOST_RATES];
} rs_buckets;

/* Nanoseconds until *n* tokens are there. May be more than the bucket ever holds: the sum of what several calls take. */
static inline int64_t rs_bucket_wait(rs_gcra *bucket, int64_t now_ns, int64_t n)
{
    rs_fixed now, tat = rs_gcra_begin(bucket, now_ns, &now);
    rs_fixed wait = tat + rs_gcra_cost(bucket, n) - rs_gcra_span(bucket) - now;
    return wait <= 0 ? 0 : (int64_t)((wait + UINT64_MAX) >> 64);
}

static inline int rs_bucket_take(rs_gcra *bucket, int64_t now_ns, int64_t n)
{
    rs_fixed now, tat = rs_gcra_begin(bucket, now_ns, &now) + rs_gcra_cost(bucket, n);
    if (tat > now + rs_gcra_span(bucket))
        return 0;
    rs_gcra_set_tat(bucket, tat);
    return 1;
}

/* Nanoseconds until all have what the call costs. */
static inline int64_t rs_buckets_wait(rs_buckets *buckets, int64_t now_ns, const int64_t *cost)
{
    int64_t longest = 0;
    for (int i = 0; i < buckets->n; i++) {
        int64_t wait = rs_bucket_wait(&buckets->bucket[i], now_ns, cost[i]);
        longest = wait > longest ? wait : longest;
    }
    return longest;
}

static inline void rs_buckets_debit(rs_buckets *buckets, int64_t now_ns, const int64_t *cost)
{
    for (int i = 0; i < buckets->n; i++)
        rs_gcra_debit(&buckets->bucket[i], now_ns, cost[i]);
}

/* Take of all: 1; or 0, and nothing changes. */
static inline int rs_buckets_take(rs_buckets *buckets, int64_t now_ns, const int64_t *cost)
{
    if (buckets->n == 1)
        return rs_bucket_take(&buckets->bucket[0], now_ns, cost[0]);
    if (rs_buckets_wait(buckets, now_ns, cost) > 0)
        return 0;
    rs_buckets_debit(buckets, now_ns, cost);
    return 1;
}

static inline void rs_buckets_give_back(rs_buckets *buckets, const int64_t *cost)
{
    for (int i = 0; i < buckets->n; i++)
        rs_gcra_give_back(&buckets->bucket[i], cost[i]);
}

/* The first bucket that never holds as much, or -1. */
static inline int rs_buckets_too_small(const rs_buckets *buckets, const int64_t *cost)
{
    for (int i = 0; i < buckets->n; i++)
        if (cost[i] > buckets->bucket[i].burst)
            return i;
    return -1;
}

/* The bucket that keeps the call waiting for longest. */
static inline int rs_buckets_tightest(rs_buckets *buckets, int64_t now_ns, const int64_t *cost)
{
    int tightest = 0;
    int64_t longest = -1;
    for (int i = 0; i < buckets->n; i++) {
        int64_t wait = rs_bucket_wait(&buckets->bucket[i], now_ns, cost[i]);
        if (wait > longest) {
            longest = wait;
            tightest = i;
        }
    }
    return tightest;
}

/* The future of a queue: the buckets as they will be when the last in it has been served. While the first waits for one
 * bucket another fills up and runs over, so no sum over the queue tells it; it is played through, call by call. */
typedef struct rs_plan {
    int64_t at_ns;                          /* when the last is served */
    rs_buckets buckets;
} rs_plan;

static inline void rs_plan_begin(rs_plan *plan, const rs_buckets *buckets, int64_t now_ns)
{
    plan->at_ns = now_ns;
    memcpy(&plan->buckets, buckets, sizeof(rs_buckets));
}

/* When a call that queues now will be served. */
static inline int64_t rs_plan_next(const rs_plan *plan, int64_t now_ns, const int64_t *cost)
{
    int64_t start = plan->at_ns > now_ns ? plan->at_ns : now_ns;
    rs_buckets buckets = plan->buckets;     /* looking moves a bucket's clock on */
    return start + rs_buckets_wait(&buckets, start, cost);
}

/* It queues, and will be served at *at_ns*. */
static inline void rs_plan_add(rs_plan *plan, int64_t at_ns, const int64_t *cost)
{
    plan->at_ns = at_ns;
    rs_buckets_debit(&plan->buckets, at_ns, cost);
}
#endif
