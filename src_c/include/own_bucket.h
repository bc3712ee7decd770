/* A token bucket in the memory of one process, exact to the fraction of a nanosecond; the owner locks.
 *
 * Amounts are times: a token is worth the interval between two, and what has come in is the time itself. They are
 * 128-bit fixed point, 64 bits of nanoseconds and 64 bits of fraction. Whole nanoseconds would not suffice: 90000
 * tokens a minute are one every 666666.67 ns, and rounding that is a rate error of 5e-7; at 1e9 a second nothing is
 * left. With the fraction the long-run rate is that of the interval. The interval's own error is 1.1e-16 (a double
 * division), or below 2^-64 ns (rounded down) when amount and period are whole numbers.
 *
 * A clock that goes backwards stands still instead: nothing extra is granted. No Python.h.
 */
#ifndef RS_OWN_BUCKET_H
#define RS_OWN_BUCKET_H
#include <math.h>
#include <stdint.h>

#define RS_OWN_MAX_SPAN_NS (INT64_C(1) << 60) /* 36 years: the longest time to fill an empty bucket */
#define RS_OWN_NS ((__int128)1 << 64)

typedef __int128 rs_ticks __attribute__((aligned(8))); /* 2^-64 ns; aligned as Python's allocator does */

typedef struct rs_own_tokens {
    rs_ticks interval; /* what one token is worth */
    rs_ticks burst;    /* what a full bucket is worth */
    int64_t most;      /* tokens that it holds */
} rs_own_tokens;

/* All zeroes but for its tokens: full. */
typedef struct rs_own_bucket {
    rs_ticks taken; /* full again at */
    rs_own_tokens tokens;
    int64_t now_ns; /* the latest time seen */
} rs_own_bucket;

static inline rs_ticks rs_own_in(const rs_own_tokens *tokens, int64_t now_ns)
{
    (void)tokens;
    return now_ns * RS_OWN_NS;
}

static inline int64_t rs_own_when(const rs_own_tokens *tokens, rs_ticks ticks)
{
    (void)tokens;
    return (int64_t)((ticks + UINT64_MAX) >> 64);
}

#define RS_CELL(name) rs_own_##name
#define RS_AMOUNT rs_ticks
#define RS_WORD rs_ticks
#define RS_SEEN rs_ticks
#define RS_LOAD(word) (*(word))
#define RS_SWAP(word, seen, value) ((void)(seen), *(word) = (value), 1)
#define RS_DEEPEST (2 * RS_OWN_MAX_SPAN_NS * RS_OWN_NS) /* 73 years, however often debts are made */
#include "shared/token_bucket.h"

/* The latest time seen. */
static inline int64_t rs_own_now(rs_own_bucket *bucket, int64_t now_ns)
{
    if (now_ns > bucket->now_ns)
        bucket->now_ns = now_ns;
    return bucket->now_ns;
}

/* What *n* tokens are worth, at most RS_OWN_MAX_SPAN_NS. */
static inline rs_ticks rs_own_ticks(const rs_own_tokens *tokens, int64_t n)
{
    rs_ticks limit = RS_OWN_MAX_SPAN_NS * RS_OWN_NS;
    if (n == 1)
        return tokens->interval;
    return n > tokens->most && n > limit / tokens->interval ? limit : tokens->interval * n;
}

/* The interval of *amount* tokens in *period_ns*; 0 if it is not positive, or out of range. */
static inline rs_ticks rs_own_interval(double amount, int64_t period_ns)
{
    if (!(amount > 0) || period_ns <= 0)
        return 0;
    if (amount < 9.0e18 && amount == floor(amount))
        return (rs_ticks)(((unsigned __int128)(uint64_t)period_ns << 64) / (uint64_t)amount);
    double ns = (double)period_ns / amount;
    if (!(ns < (double)RS_OWN_MAX_SPAN_NS))
        return 0;
    return (int64_t)floor(ns) * RS_OWN_NS + (uint64_t)((ns - floor(ns)) * 18446744073709551616.0);
}

/* *amount* tokens every *period_ns*, at most *burst* at once. 0, or -1 if out of range: then nothing has changed. */
static inline int rs_own_set_rate(rs_own_tokens *tokens, double amount, int64_t period_ns, int64_t burst)
{
    rs_ticks interval = rs_own_interval(amount, period_ns);
    if (interval <= 0 || burst < 1 || burst > RS_OWN_MAX_SPAN_NS * RS_OWN_NS / interval)
        return -1;
    *tokens = (rs_own_tokens){interval, interval * burst, burst};
    return 0;
}

/* Fill the bucket. */
static inline void rs_own_fill(rs_own_bucket *bucket, int64_t now_ns)
{
    bucket->taken = rs_own_in(&bucket->tokens, rs_own_now(bucket, now_ns));
}

/* Nanoseconds until *n* tokens are available. *n* may exceed the burst: the sum for several calls. */
static inline int64_t rs_bucket_wait(rs_own_bucket *bucket, int64_t now_ns, int64_t n)
{
    return rs_own_wait(&bucket->taken, &bucket->tokens, rs_own_now(bucket, now_ns), rs_own_ticks(&bucket->tokens, n));
}

static inline int rs_bucket_take(rs_own_bucket *bucket, int64_t now_ns, int64_t n)
{
    return rs_own_take(&bucket->taken, &bucket->tokens, rs_own_now(bucket, now_ns), rs_own_ticks(&bucket->tokens, n));
}

static inline void rs_bucket_debit(rs_own_bucket *bucket, int64_t now_ns, int64_t n)
{
    rs_own_debit(&bucket->taken, &bucket->tokens, rs_own_now(bucket, now_ns), rs_own_ticks(&bucket->tokens, n));
}

/* Whole tokens available; negative while in debt. */
static inline int64_t rs_own_whole(rs_own_bucket *bucket, int64_t now_ns)
{
    rs_ticks left = rs_own_available(&bucket->taken, &bucket->tokens, rs_own_now(bucket, now_ns));
    rs_ticks whole = left / bucket->tokens.interval - (left % bucket->tokens.interval < 0);
    return whole > INT64_MIN ? (int64_t)whole : INT64_MIN;
}

/* Put back what *n* tokens are worth, up to the burst. */
static inline void rs_own_give_back(rs_own_bucket *bucket, int64_t n)
{
    rs_ticks taken = bucket->taken - rs_own_ticks(&bucket->tokens, n), now = rs_own_in(&bucket->tokens, bucket->now_ns);
    if (n > 0)
        bucket->taken = taken > now ? taken : now;
}

/* Change rate and burst, which are in range, and keep the tokens, up to the new burst; a debt stays. */
static inline void rs_own_reconfigure(rs_own_bucket *bucket, double amount, int64_t period_ns, int64_t burst,
                                      int64_t now_ns)
{
    rs_ticks interval = bucket->tokens.interval;
    rs_ticks part = rs_own_available(&bucket->taken, &bucket->tokens, rs_own_now(bucket, now_ns)) % interval;
    int64_t whole = rs_own_whole(bucket, now_ns);
    rs_own_set_rate(&bucket->tokens, amount, period_ns, burst);
    rs_own_fill(bucket, now_ns);
    if (whole < burst) {
        bucket->taken += rs_own_ticks(&bucket->tokens, whole < burst - INT64_MAX ? INT64_MAX : burst - whole);
        double fraction = (double)(part < 0 ? part + interval : part) / (double)interval;
        bucket->taken -= (rs_ticks)(fraction * (double)bucket->tokens.interval);
    }
}
#endif
