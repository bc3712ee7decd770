/* Several rates from which a call takes together: from all of them or from none; and the next free time of a queue.
 *
 * A rate is a token bucket (own_bucket.h) or, if it has a log, an exact sliding window (sliding_log.h). A cost of zero
 * tokens is not free: it waits while a bucket is in debt. Where the host shares the rates, all that is counted is in its
 * cell (shared/rates.h), and the rates here are only read for their burst. No Python.h; the owner locks.
 */
#ifndef RS_BUCKETS_H
#define RS_BUCKETS_H
#include <string.h>
#include "own_bucket.h"
#include "sliding_log.h"
#include "shared/rates.h"

#define RS_MOST_RATES RS_HOST_RATES

typedef struct rs_buckets {
    int n;
    int logs;                            /* number of sliding windows */
    rs_own_bucket bucket[RS_MOST_RATES]; /* of a window only its `most` is used: its limit */
    rs_log *log[RS_MOST_RATES];          /* owned; NULL: a token bucket */
    rs_host_rates *host;                 /* owned; NULL: the rates are the process's own */
} rs_buckets;

/* The cost of one call, by rate: kept if it is not the default cost. */
typedef struct rs_claim {
    uint32_t version; /* of the configuration that the tokens belong to */
    int64_t plan_ns;  /* the time of its admission, planned or past */
    uint32_t turn;    /* of a fleet: the questions before it queued; a later one has asked for it */
    uint32_t place;   /* it waits with a place of the host's queue (rates.h); plan_ns is the place's; 0: it has none */
    int64_t cost[RS_MOST_RATES];
    int64_t line[RS_MOST_RATES]; /* its places among the calls that wait for a fleet's limit (lease_order.h) */
} rs_claim;

/* ---- one rate, of either kind -------------------------------------------------------------------------------- */

static inline int64_t rs_rate_wait(rs_buckets *buckets, int i, int64_t now_ns, int64_t n)
{
    if (buckets->host)
        return rs_rates_wait(buckets->host, i, now_ns, n, 0);
    return buckets->log[i] ? rs_log_wait(buckets->log[i], now_ns, n) : rs_bucket_wait(&buckets->bucket[i], now_ns, n);
}

static inline int64_t rs_rate_available(rs_buckets *buckets, int i, int64_t now_ns)
{
    if (buckets->host)
        return rs_rates_available(buckets->host, i, now_ns);
    return buckets->log[i] ? rs_log_available(buckets->log[i], now_ns) : rs_own_whole(&buckets->bucket[i], now_ns);
}

static inline void rs_rate_debit(rs_buckets *buckets, int i, int64_t now_ns, int64_t n)
{
    if (buckets->host)
        rs_rates_debit(buckets->host, i, now_ns, n);
    else if (buckets->log[i])
        rs_log_debit(buckets->log[i], now_ns, n);
    else
        rs_bucket_debit(&buckets->bucket[i], now_ns, n);
}

/* *taken_ns*: the latest time at which they may have been taken. */
static inline void rs_rate_give_back(rs_buckets *buckets, int i, int64_t taken_ns, int64_t n)
{
    if (buckets->host)
        rs_rates_give_back(buckets->host, i, taken_ns, n);
    else if (buckets->log[i])
        rs_log_give_back(buckets->log[i], taken_ns, n);
    else
        rs_own_give_back(&buckets->bucket[i], n);
}

static inline void rs_rate_hold(rs_buckets *buckets, int i, int64_t until_ns)
{
    if (buckets->log[i])
        rs_log_hold(buckets->log[i], until_ns);
    else
        rs_own_lower(&buckets->bucket[i].taken, &buckets->bucket[i].tokens, until_ns, 0);
}

static inline void rs_rate_fill(rs_buckets *buckets, int i, int64_t now_ns)
{
    if (buckets->log[i])
        rs_log_clear(buckets->log[i]);
    else
        rs_own_fill(&buckets->bucket[i], now_ns);
}

/* Lower the tokens to at most *left*. */
static inline void rs_rate_lower(rs_buckets *buckets, int i, int64_t now_ns, int64_t left)
{
    if (buckets->host)
        rs_rates_lower(buckets->host, i, now_ns, left);
    else
        rs_rate_debit(buckets, i, now_ns, rs_rate_available(buckets, i, now_ns) - left);
}

/* Set the tokens at *now_ns*, up to the rate's burst; a negative number is a debt. */
static inline void rs_rate_set(rs_buckets *buckets, int i, int64_t now_ns, int64_t tokens)
{
    rs_rate_fill(buckets, i, now_ns);
    if (tokens < buckets->bucket[i].tokens.most)
        rs_rate_debit(buckets, i, now_ns, buckets->bucket[i].tokens.most - tokens);
}

/* ---- all rates ----------------------------------------------------------------------------------------------- */

/* Nanoseconds until all rates have the call's cost; *tightest*: the one for which it waits longest. */
static inline int64_t rs_buckets_wait(rs_buckets *buckets, int64_t now_ns, const int64_t *cost, int *tightest)
{
    int64_t longest = 0;
    *tightest = 0;
    for (int i = 0; i < buckets->n; i++) {
        int64_t wait = rs_rate_wait(buckets, i, now_ns, cost[i]);
        if (wait > longest) {
            longest = wait;
            *tightest = i;
        }
    }
    return longest;
}

/* The same as below for a single token bucket; 0 as well if there are more rates. */
static inline int rs_buckets_take_at_once(rs_buckets *buckets, int64_t now_ns, int64_t cost)
{
    return buckets->n == 1 && !buckets->logs && rs_bucket_take(&buckets->bucket[0], now_ns, cost);
}

/* Take from all rates: 1; or 0 with nothing changed. */
static inline int rs_buckets_take(rs_buckets *buckets, int64_t now_ns, const int64_t *cost)
{
    if (buckets->host)
        return rs_rates_take(buckets->host, now_ns, cost);
    if (buckets->n == 1)
        return buckets->logs ? rs_log_take(buckets->log[0], now_ns, cost[0])
                             : rs_bucket_take(&buckets->bucket[0], now_ns, cost[0]);
    int tightest;
    if (rs_buckets_wait(buckets, now_ns, cost, &tightest) > 0)
        return 0;
    for (int i = 0; i < buckets->n; i++)
        if (buckets->log[i])
            rs_log_take(buckets->log[i], now_ns, cost[i]);
        else
            rs_bucket_debit(&buckets->bucket[i], now_ns, cost[i]);
    return 1;
}

/* The first bucket whose burst is below the cost, or -1. */
static inline int rs_buckets_too_small(const rs_buckets *buckets, const int64_t *cost)
{
    for (int i = 0; i < buckets->n; i++)
        if (cost[i] > buckets->bucket[i].tokens.most)
            return i;
    return -1;
}

/* The future of a queue: the token buckets as they will be after its last call. While the first call waits for one
 * bucket another one fills up and overflows, so a sum over the queue is wrong: the queue is simulated, call by call.
 * For a sliding window the queued calls, with their costs and times, are its future. */
typedef struct rs_plan {
    int64_t at_ns; /* when the last call is served */
    rs_own_bucket bucket[RS_MOST_RATES];
} rs_plan;

static inline void rs_plan_begin(rs_plan *plan, const rs_buckets *buckets, int64_t now_ns)
{
    plan->at_ns = now_ns;
    memcpy(plan->bucket, buckets->bucket, sizeof plan->bucket);
}

/* The time at which a call that queues now will have its tokens, from the token buckets alone. */
static inline int64_t rs_plan_next(const rs_plan *plan, const rs_buckets *buckets, int64_t now_ns, const int64_t *cost)
{
    int64_t start = plan->at_ns > now_ns ? plan->at_ns : now_ns, longest = 0;
    for (int i = 0; i < buckets->n; i++) {
        rs_own_bucket bucket = plan->bucket[i]; /* reading moves a bucket's clock on */
        int64_t wait = buckets->log[i] ? 0 : rs_bucket_wait(&bucket, start, cost[i]);
        longest = wait > longest ? wait : longest;
    }
    return start + longest;
}

/* Add a call to the queue, to be served at *at_ns*. */
static inline void rs_plan_add(rs_plan *plan, const rs_buckets *buckets, int64_t at_ns, const int64_t *cost)
{
    plan->at_ns = at_ns;
    for (int i = 0; i < buckets->n; i++)
        if (!buckets->log[i])
            rs_bucket_debit(&plan->bucket[i], at_ns, cost[i]);
}
#endif
