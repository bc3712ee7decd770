/* A token bucket as one number: the generic cell rate algorithm, in integers.
 *
 * `tat`, the theoretical arrival time, is when the bucket will be full again. A withdrawal of n tokens
 * moves it by n intervals:
 *
 *     granted  <=>  max(tat, now) + n * interval <= now + burst * interval
 *
 * So a decision is an addition and a comparison, nothing has to tick, and the time until a rejected cost fits is exact.
 *
 * Times are 128-bit fixed point, 64 bits of nanoseconds and 64 bits of fraction. Whole nanoseconds would not suffice:
 * 90000 tokens a minute are one every 666666.67 ns, and rounding that is a rate error of 5e-7; at 1e9 a second nothing
 * is left. With the fraction the long-run rate is that of the interval. The interval's own error is 1.1e-16 (a double
 * division), or below 2^-64 ns (rounded down) when amount and period are whole numbers.
 *
 * A clock that goes backwards stands still instead: nothing extra is granted. No Python.h; the owner locks. Source:
 * ITU-T I.371, the virtual scheduling form.
 */
#ifndef RS_GCRA_H
#define RS_GCRA_H
#include <math.h>
#include <stdint.h>

#define RS_GCRA_NEVER INT64_MAX                /* more tokens than the bucket can hold: no wait helps */
#define RS_GCRA_MAX_SPAN_NS (INT64_C(1) << 60) /* 36 years: the longest time to fill an empty bucket */

typedef __int128 rs_fixed; /* 2^-64 ns */

typedef struct rs_gcra { /* pairs: an __int128 would need an alignment that Python's allocator lacks */
    uint64_t tat_fraction, interval_fraction, span_fraction;
    int64_t tat_ns;      /* full again at */
    int64_t interval_ns; /* time that one token is worth */
    int64_t span_ns;     /* burst * interval */
    int64_t burst;
    int64_t now_ns; /* the latest time seen */
} rs_gcra;

static inline rs_fixed rs_fixed_make(int64_t ns, uint64_t fraction)
{
    return (rs_fixed)(((unsigned __int128)(uint64_t)ns << 64) | fraction);
}

static inline rs_fixed rs_gcra_tat(const rs_gcra *gcra) { return rs_fixed_make(gcra->tat_ns, gcra->tat_fraction); }
static inline rs_fixed rs_gcra_span(const rs_gcra *gcra) { return rs_fixed_make(gcra->span_ns, gcra->span_fraction); }
static inline rs_fixed rs_gcra_interval(const rs_gcra *gcra)
{
    return rs_fixed_make(gcra->interval_ns, gcra->interval_fraction);
}

static inline void rs_gcra_set_tat(rs_gcra *gcra, rs_fixed tat)
{
    gcra->tat_ns = (int64_t)(tat >> 64);
    gcra->tat_fraction = (uint64_t)tat;
}

/* The time that *n* tokens are worth, at most RS_GCRA_MAX_SPAN_NS. */
static inline rs_fixed rs_gcra_cost(const rs_gcra *gcra, int64_t n)
{
    if (n == 1)
        return rs_gcra_interval(gcra);
    if (n <= gcra->burst)
        return rs_gcra_interval(gcra) * n;
    rs_fixed limit = rs_fixed_make(RS_GCRA_MAX_SPAN_NS, 0);
    return n > limit / rs_gcra_interval(gcra) ? limit : rs_gcra_interval(gcra) * n;
}

/* The time, from now on, at which the bucket is full. Moves the clock on. */
static inline rs_fixed rs_gcra_begin(rs_gcra *gcra, int64_t now_ns, rs_fixed *now)
{
    if (now_ns > gcra->now_ns)
        gcra->now_ns = now_ns;
    *now = rs_fixed_make(gcra->now_ns, 0);
    rs_fixed tat = rs_gcra_tat(gcra);
    return tat > *now ? tat : *now;
}

/* The interval of *amount* tokens in *period_ns*; 0 if it is not positive, or out of range. */
static inline rs_fixed rs_gcra_interval_of(double amount, int64_t period_ns)
{
    if (!(amount > 0) || period_ns <= 0)
        return 0;
    if (amount < 9.0e18 && amount == floor(amount))
        return (rs_fixed)(((unsigned __int128)(uint64_t)period_ns << 64) / (uint64_t)amount);
    double ns = (double)period_ns / amount;
    if (!(ns < (double)RS_GCRA_MAX_SPAN_NS))
        return 0;
    double whole = floor(ns);
    return rs_fixed_make((int64_t)whole, (uint64_t)((ns - whole) * 18446744073709551616.0));
}

/* Set rate and burst, leaving tat alone. 0, or -1 if out of range: then nothing has changed. */
static inline int rs_gcra_set_rate(rs_gcra *gcra, double amount, int64_t period_ns, int64_t burst)
{
    rs_fixed interval = rs_gcra_interval_of(amount, period_ns);
    if (interval <= 0 || burst < 1 || burst > rs_fixed_make(RS_GCRA_MAX_SPAN_NS, 0) / interval)
        return -1;
    rs_fixed span = interval * burst;
    gcra->interval_ns = (int64_t)(interval >> 64);
    gcra->interval_fraction = (uint64_t)interval;
    gcra->span_ns = (int64_t)(span >> 64);
    gcra->span_fraction = (uint64_t)span;
    gcra->burst = burst;
    return 0;
}

/* Fill the bucket. */
static inline void rs_gcra_fill(rs_gcra *gcra, int64_t now_ns)
{
    rs_fixed now;
    rs_gcra_begin(gcra, now_ns, &now);
    rs_gcra_set_tat(gcra, now);
}

/* *amount* tokens every *period_ns*, at most *burst* at once; full. 0, or -1 if out of range. */
static inline int rs_gcra_init(rs_gcra *gcra, double amount, int64_t period_ns, int64_t burst, int64_t now_ns)
{
    gcra->now_ns = now_ns;
    rs_gcra_set_tat(gcra, rs_fixed_make(now_ns, 0));
    return rs_gcra_set_rate(gcra, amount, period_ns, burst);
}

/* The whole tokens available now, with the time worth of the rest in *part (0 <= part <
   interval); negative while in debt. */
static inline int64_t rs_gcra_tokens(rs_gcra *gcra, int64_t now_ns, rs_fixed *part)
{
    rs_fixed now, tat = rs_gcra_begin(gcra, now_ns, &now);
    rs_fixed left = now + rs_gcra_span(gcra) - tat, interval = rs_gcra_interval(gcra), whole = left / interval;
    *part = left - whole * interval;
    if (*part < 0) {
        *part += interval;
        whole--;
    }
    return whole > INT64_MIN ? (int64_t)whole : INT64_MIN;
}

static inline int64_t rs_gcra_available(rs_gcra *gcra, int64_t now_ns)
{
    rs_fixed part;
    return rs_gcra_tokens(gcra, now_ns, &part);
}

/* Nanoseconds until *n* tokens are available: 0 if they are, RS_GCRA_NEVER if n > burst. */
static inline int64_t rs_gcra_wait(rs_gcra *gcra, int64_t now_ns, int64_t n)
{
    if (n <= 0)
        return 0;
    if (n > gcra->burst)
        return RS_GCRA_NEVER;
    rs_fixed now, tat = rs_gcra_begin(gcra, now_ns, &now);
    rs_fixed wait = tat + rs_gcra_cost(gcra, n) - rs_gcra_span(gcra) - now;
    return wait <= 0 ? 0 : (int64_t)((wait + UINT64_MAX) >> 64);
}

/* Take *n* tokens if they are available: 1, or 0 with nothing changed. Zero tokens are free of charge. */
static inline int rs_gcra_take(rs_gcra *gcra, int64_t now_ns, int64_t n)
{
    if (n <= 0)
        return 1;
    if (n > gcra->burst)
        return 0;
    rs_fixed now, tat = rs_gcra_begin(gcra, now_ns, &now) + rs_gcra_cost(gcra, n);
    if (tat > now + rs_gcra_span(gcra))
        return 0;
    rs_gcra_set_tat(gcra, tat);
    return 1;
}

/* Take *n* tokens unconditionally: a negative balance is a debt that later callers wait out. A debt is at most 73 years
 * deep, however often this is called. */
static inline void rs_gcra_debit(rs_gcra *gcra, int64_t now_ns, int64_t n)
{
    if (n <= 0)
        return;
    rs_fixed now, tat = rs_gcra_begin(gcra, now_ns, &now) + rs_gcra_cost(gcra, n);
    rs_fixed limit = now + 2 * rs_fixed_make(RS_GCRA_MAX_SPAN_NS, 0);
    rs_gcra_set_tat(gcra, tat < limit ? tat : limit);
}

/* Reserve *n* future tokens: return the nanoseconds until they may be used. RS_GCRA_NEVER if n
   > burst, with nothing changed. */
static inline int64_t rs_gcra_reserve(rs_gcra *gcra, int64_t now_ns, int64_t n)
{
    int64_t wait = rs_gcra_wait(gcra, now_ns, n);
    if (wait != RS_GCRA_NEVER)
        rs_gcra_debit(gcra, now_ns, n);
    return wait;
}

/* Put *n* tokens back, up to burst: any tat in the past is a full bucket. */
static inline void rs_gcra_give_back(rs_gcra *gcra, int64_t n)
{
    if (n <= 0)
        return;
    rs_fixed tat = rs_gcra_tat(gcra) - rs_gcra_cost(gcra, n), now = rs_fixed_make(gcra->now_ns, 0);
    rs_gcra_set_tat(gcra, tat > now ? tat : now);
}

/* Have no tokens before *until_ns*; a deeper debt stays. At most as long as a debt may be. */
static inline void rs_gcra_hold(rs_gcra *gcra, int64_t now_ns, int64_t until_ns)
{
    rs_fixed now, tat = rs_gcra_begin(gcra, now_ns, &now), limit = now + 2 * rs_fixed_make(RS_GCRA_MAX_SPAN_NS, 0);
    rs_fixed held = rs_fixed_make(until_ns, 0) + rs_gcra_span(gcra);
    held = held < limit ? held : limit;
    rs_gcra_set_tat(gcra, held > tat ? held : tat);
}

/* Change rate and burst and keep the tokens, up to the new burst; a debt stays. 0, or -1 with nothing changed. */
static inline int rs_gcra_reconfigure(rs_gcra *gcra, double amount, int64_t period_ns, int64_t burst, int64_t now_ns)
{
    rs_gcra next = *gcra;
    rs_fixed part;
    int64_t whole = rs_gcra_tokens(&next, now_ns, &part);
    if (rs_gcra_set_rate(&next, amount, period_ns, burst) < 0)
        return -1;
    rs_fixed missing = 0;
    if (whole < burst) {
        double fraction = (double)part / (double)rs_gcra_interval(gcra);
        missing = rs_gcra_cost(&next, whole < burst - INT64_MAX ? INT64_MAX : burst - whole);
        missing -= (rs_fixed)(fraction * (double)rs_gcra_interval(&next));
    }
    rs_gcra_set_tat(&next, rs_fixed_make(next.now_ns, 0) + missing);
    *gcra = next;
    return 0;
}
#endif
