/* Whether an endpoint of a pool may be ejected. The pool's lock is held.
 *
 * By statistics only so much of the weight goes, and never the last endpoint. A row of failures goes beyond that if it is
 * no chance: at the rate at which the other endpoints fail that are left; or, where nothing seems to work, if the row of
 * all calls is none, whatever share of them failed before. Otherwise failures that all endpoints share would eject them
 * one by one, since each has such rows. What they cannot share is no chance within a few calls.
 */
#ifndef RS_POOL_EJECT_H
#define RS_POOL_EJECT_H
#include "pool.h"
#include "throttle.h"

#define RS_POOL_ROWS 20.0 /* rows of failures that count for the mean */
#define RS_POOL_DOUBT 0.6 /* the share of failures that a pool may begin to have: 27 in a row are no chance then */

/* A call has failed. */
static inline void rs_pool_count_failure(rs_pool *pool) { rs_put(&pool->row, pool->row + 1.0); }

/* A call has succeeded, which ends the row of all endpoints. Without the lock: one row more or less is no matter. */
static inline void rs_pool_count_success(rs_pool *pool)
{
    double row = rs_peek(&pool->row), mean = rs_peek(&pool->mean_row);
    if (row == 0.0 && mean == 0.0)
        return;
    mean += (row - mean) / RS_POOL_ROWS;
    rs_put(&pool->mean_row, mean > 1e-3 ? mean : 0.0);
    rs_put(&pool->row, 0.0);
}

/* Return 1 if nothing works: no success for so long is no chance. */
static inline int rs_pool_is_dead(const rs_pool *pool)
{
    double mean = rs_peek(&pool->mean_row), rate = mean / (mean + 1.0);
    return (rs_peek(&pool->row) + 1.0) * log(rate > RS_POOL_DOUBT ? rate : RS_POOL_DOUBT)
           <= RS_THROTTLE_CHANCE; /* the last is not in it */
}

/* Return 1 if *run* failures of an endpoint in a row are no chance at the rate at which those fail that are left. */
static inline int rs_pool_is_alone(const rs_pool *pool, const rs_seat *seat, int64_t run)
{
    uint64_t row = (uint64_t)run, failed = 0, ended = 0;
    int others = 0;
    for (uint64_t left = pool->places; left; left &= left - 1) {
        const rs_seat *one = pool->seat[rs_first(left)];
        if (one == seat || one->share == 0.0)
            continue;
        others++;
        ended += (uint64_t)__builtin_popcount(__atomic_load_n(&one->latest, __ATOMIC_RELAXED));
        failed += (uint64_t)__builtin_popcount(__atomic_load_n(&one->failures, __ATOMIC_RELAXED));
    }
    return others && rs_throttle_proof(run, row + failed, row + ended);
}

/* Return 1 if a breaker may eject this endpoint. *run*: its failures in a row; 0: by a rate. One that has no others beside
   it is its own breaker's alone. */
static inline int rs_pool_may_eject(rs_pool *pool, const rs_seat *seat, int64_t run)
{
    double out = seat->weight, whole = 0.0;
    int others = 0, in_use = 0;
    if (!rs_pool_has(pool, seat))
        return 1;
    for (uint64_t left = pool->places & ~pool->drained; left; left &= left - 1) {
        const rs_seat *one = pool->seat[rs_first(left)];
        int is_out = one->share == 0.0 || pool->leaving & rs_bit(one->place);
        whole += one->weight;
        in_use += one != seat;
        out += one != seat && is_out ? one->weight : 0.0;
        others += one != seat && !is_out;
    }
    int is_bounded = !others || out > pool->max_ejected * whole * (1.0 + 1e-9);
    if (is_bounded && !(run && (in_use == 0 || rs_pool_is_alone(pool, seat, run) || rs_pool_is_dead(pool))))
        return 0;
    pool->leaving |= rs_bit(seat->place);
    return 1;
}
#endif
