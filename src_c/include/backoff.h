/* How long to wait before an attempt: exponential, with or without jitter, or constant.
 *
 * `attempt` counts from 1, the wait after the first attempt; base * factor^(attempt - 1) is held under the cap in
 * doubles, where a huge attempt is infinity and no overflow. Results are from 0 to cap_ns.
 *
 *     full           anywhere from 0 to that
 *     equal          half of that, and anywhere up to the other half
 *     decorrelated   anywhere from base to three times the previous wait
 *
 * Random numbers come from a counter that threads advance atomically and a hash of it, so no lock is needed and no two
 * calls draw the same. No Python.h.
 * Sources: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015; Steele, Lea and Flood, "Fast splittable
 * pseudorandom number generators", 2014 (SplitMix64).
 */
#ifndef RS_BACKOFF_H
#define RS_BACKOFF_H
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct rs_random {
    _Atomic uint64_t state;
} rs_random;

enum { RS_BACKOFF_CONSTANT, RS_BACKOFF_EXPONENTIAL, RS_BACKOFF_FULL, RS_BACKOFF_EQUAL, RS_BACKOFF_DECORRELATED };

typedef struct rs_backoff {
    uint8_t kind;
    int64_t base_ns;   /* >= 0; > 0 unless constant */
    int64_t cap_ns;    /* >= base_ns */
    double factor;     /* >= 1 */
    double reach;      /* share of the remaining time, 0 to 1 */
    rs_random *random; /* shared, not owned */
} rs_backoff;

/* A random number in [0, 1). */
static inline double rs_random_uniform(rs_random *random)
{
    const uint64_t step = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = atomic_fetch_add_explicit(&random->state, step, memory_order_relaxed) + step;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ (z >> 31)) >> 11) * (1.0 / 9007199254740992.0);
}

/* Replace the state, and return the old one. */
static inline uint64_t rs_random_reseed(rs_random *random, uint64_t state)
{
    return atomic_exchange_explicit(&random->state, state, memory_order_relaxed);
}

static inline double rs_backoff_exponential(const rs_backoff *backoff, uint64_t attempt)
{
    double cap = (double)backoff->cap_ns;
    double ns = (double)backoff->base_ns * pow(backoff->factor, (double)(attempt > 1 ? attempt - 1 : 0));
    return ns < cap ? ns : cap;
}

/* The wait after *attempt*, in ns, from the random number *draw* in [0, 1). *previous_ns*: the wait before this one, 0
 * if none; used by the decorrelated form only. */
static inline int64_t rs_backoff_drawn(const rs_backoff *backoff, uint64_t attempt, int64_t previous_ns, double draw)
{
    double most, base = (double)backoff->base_ns, previous = (double)previous_ns, cap = (double)backoff->cap_ns;
    switch (backoff->kind) {
    case RS_BACKOFF_CONSTANT: return backoff->base_ns;
    case RS_BACKOFF_FULL: return (int64_t)(draw * rs_backoff_exponential(backoff, attempt));
    case RS_BACKOFF_EQUAL: return (int64_t)((0.5 + 0.5 * draw) * rs_backoff_exponential(backoff, attempt));
    case RS_BACKOFF_DECORRELATED:
        most = base + draw * (3.0 * (previous > base ? previous : base) - base);
        return (int64_t)(most < cap ? most : cap);
    default: return (int64_t)rs_backoff_exponential(backoff, attempt);
    }
}

/* The wait after *attempt*, in ns. */
static inline int64_t rs_backoff_delay(const rs_backoff *backoff, uint64_t attempt, int64_t previous_ns)
{
    return rs_backoff_drawn(backoff, attempt, previous_ns, rs_random_uniform(backoff->random));
}

/* A wait within the remaining time: at least half of its `reach` share. */
static inline int64_t rs_backoff_reach(const rs_backoff *backoff, int64_t left_ns)
{
    double most = backoff->reach * (double)left_ns, cap = (double)backoff->cap_ns;
    return (int64_t)((0.5 + 0.5 * rs_random_uniform(backoff->random)) * (most < cap ? most : cap));
}

/* The wait requested by the callee plus a random part, up to the same again and within *room_ns*. It is never early,
 * and spreads the callers that received the same request. */
static inline int64_t rs_backoff_spread(rs_random *random, int64_t asked_ns, int64_t room_ns)
{
    int64_t share = asked_ns < room_ns ? asked_ns : room_ns;
    return share > 0 ? asked_ns + (int64_t)(rs_random_uniform(random) * (double)share) : asked_ns;
}
#endif
