/* Permits that are taken and given back while the limit moves and a dead worker is reaped. Each has a claim: a permit
   that is claimed twice was given out twice. Prints calls, permits given out twice, and what is held in the end. */
#include "threads.h"
#include "shared/hold.h"

enum { CALLS = 20000, PERMITS = 12, ROOM = 16, DEAD = 9 };

static rs_permits *permits;
static rs_word32 claim[ROOM];
static rs_word64 calls, twice;

static void *work(void *at)
{
    uint32_t index[ROOM], me = (uint32_t)(uintptr_t)at;
    rs_member member = member_of(me);
    rs_hold hold;
    rs_hold_init(&hold, permits, &member, index, ROOM);
    rs_hold_owner(&hold);
    for (uint32_t i = 0; i < CALLS; i++) {
        uint32_t weight = 1 + i % 3;
        if (rs_hold_take(&hold, weight) == weight) {
            for (uint32_t k = 0; k < hold.held; k++)
                atomic_fetch_add(&twice, atomic_exchange(&claim[hold.index[k]], me + 1) != 0);
            atomic_fetch_add(&calls, 1);
            for (uint32_t k = 0; k < hold.held; k++)
                atomic_store(&claim[hold.index[k]], 0);
            rs_hold_give(&hold, weight);
        }
        if (me == 0 && i % 50 == 0)
            rs_permits_set_limit(permits, i % 100 ? PERMITS : PERMITS / 2);
        if (me == 1 && i % 50 == 0)
            rs_shared_permits_reap(permits, rs_permits_size(ROOM), DEAD);
    }
    return NULL;
}

int main(void)
{
    permits = zeroes(rs_permits_size(ROOM));
    rs_permits_begin(permits, PERMITS);
    run(work);
    printf("calls %d\ntwice %d\nheld %u\n", (int)calls, (int)twice, rs_permits_held(permits, 0, ROOM));
    return 0;
}
