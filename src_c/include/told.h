/* What cost functions said of a call, between a gate's `prepare` and its `admit`.
 *
 * The two follow each other in one thread, but a call that is refused is not settled: kept here what they said is nobody's
 * to free. A few places, because a finaliser in between may run a guarded call of its own.
 */
#ifndef RS_TOLD_H
#define RS_TOLD_H
#include <stdint.h>
#include "buckets.h"

#define RS_TOLD 4

typedef struct rs_told {
    const void *slot;                       /* of the call */
    uint32_t version;                       /* of the configuration that the functions belong to */
    int64_t cost[RS_MOST_RATES];
} rs_told;

static _Thread_local rs_told rs_told_ring[RS_TOLD];
static _Thread_local unsigned rs_told_next;

static inline rs_told *rs_told_new(const void *slot)
{
    rs_told *told = &rs_told_ring[rs_told_next++ % RS_TOLD];
    told->slot = slot;
    return told;
}

/* The latest of *slot*, or NULL. */
static inline rs_told *rs_told_of(const void *slot)
{
    for (unsigned i = 1; i <= RS_TOLD; i++)
        if (rs_told_ring[(rs_told_next - i) % RS_TOLD].slot == slot)
            return &rs_told_ring[(rs_told_next - i) % RS_TOLD];
    return NULL;
}
#endif
