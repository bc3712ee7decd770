/* Whether a pool has somewhere else to go for a call that has failed. Its lock is held. */
#ifndef RS_POOL_UNTRIED_H
#define RS_POOL_UNTRIED_H
#include "pool.h"

/* Return 1 if one of these places has failed the latest call that ended there. */
static inline int rs_pool_failed(const rs_pool *pool, uint64_t places)
{
    int failed = 0;
    for (uint64_t left = places & pool->places; left; left &= left - 1)
        failed |= __atomic_load_n(&pool->seat[rs_first(left)]->failed, __ATOMIC_RELAXED);
    return failed;
}

/* The places that no attempt of the call has been to, and whose gates would let it pass. */
static inline uint64_t rs_pool_untried(const rs_pool *pool, const rs_choice *choice)
{
    uint64_t open = pool->places & ~pool->drained & ~pool->ejected & ~choice->tried;
    for (uint64_t left = open; left; left &= left - 1) {
        const rs_seat *seat = pool->seat[rs_first(left)];
        int is_probed = pool->due & rs_bit(seat->place) && rs_seat_inflight(seat) > 0;
        if (is_probed || __atomic_load_n(&seat->hold_ns, __ATOMIC_RELAXED) > choice->now_ns)
            open &= ~rs_bit(seat->place);
    }
    return open;
}

/* Return 1 if the next attempt goes to one of these: where calls do not spill, whichever level it draws. */
static inline int rs_pool_has_untried(const rs_pool *pool, const rs_choice *choice)
{
    uint64_t open = rs_pool_untried(pool, choice);
    if (choice->failed && !rs_pool_failed(pool, choice->failed))
        return 0;
    for (int level = 0; level < pool->levels.n && !pool->spill; level++)
        if (pool->levels.load[level] && !(open & pool->of_level[level]))
            return 0;
    return open != 0;
}
#endif
