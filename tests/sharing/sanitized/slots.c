/* Slots of a fleet that calls take and give back while a courier gives some up and gets them again. The slots that are not
   kept go to others, who use them until they are asked for. Prints calls, the times when there were too many, and trips. */
#include "threads.h"
#include "shared/slots.h"

enum { CALLS = 20000, CAPACITY = 6, ROOM = 8, END_NS = 2000000000 };

static rs_slots *cell;
static rs_word64 calls, over, trips;
static rs_word32 used, others; /* slots in use here, and elsewhere */

static void begin(void)
{
    uint32_t here = atomic_fetch_add(&used, 1) + 1;
    atomic_fetch_add(&over, here + atomic_load(&others) > CAPACITY);
    atomic_fetch_add(&calls, 1);
}

static void *call(uint32_t me)
{
    uint32_t index[ROOM];
    rs_member member = member_of(me);
    rs_hold hold;
    rs_hold_init(&hold, rs_slots_permits(cell), &member, index, ROOM);
    rs_hold_owner(&hold);
    for (uint32_t i = 0; i < CALLS; i++) {
        if (rs_slots_take(cell, &hold, 0, 1) != 1) {
            rs_slots_miss(cell, &member, 1);
            continue;
        }
        begin();
        atomic_fetch_sub(&used, 1);
        rs_hold_give(&hold, 1);
        rs_slots_left(cell, &member);
    }
    return NULL;
}

static void *make_trips(uint32_t me)
{
    rs_member member = member_of(me);
    for (uint32_t i = 0; i < CALLS / 10; i++) {
        rs_courier_claim(&cell->courier, &member, 0, 0);
        uint64_t seq = rs_atomic_add(&cell->courier.seq, 1) + 1;
        rs_slots_found found = rs_slots_open(cell, ROOM, 0, i % CAPACITY);
        atomic_store(&others, CAPACITY - found.kept);
        atomic_fetch_add(&trips, 1);
        atomic_store(&others, 0);
        rs_slots_grant(cell, seq, found.terms, CAPACITY, END_NS, 1, i % 2);
    }
    return NULL;
}

static void *work(void *at)
{
    uint32_t me = (uint32_t)(uintptr_t)at;
    return me == 0 ? make_trips(me) : call(me);
}

int main(void)
{
    cell = zeroes(rs_slots_size(ROOM));
    cell->capacity = CAPACITY;
    cell->courier.at_ns = cell->courier.peers = 1;
    cell->terms = rs_slots_word(CAPACITY, 0, END_NS);
    run(work);
    printf("calls %d\nover %d\ntrips %d\nheld %u\n", (int)calls, (int)over, (int)trips, rs_slots_used(cell, ROOM));
    return 0;
}
