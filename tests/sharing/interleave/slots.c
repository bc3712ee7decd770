/* Slots of a fleet on lease: calls of two processes while the courier gives some up, dies, and is followed: shared/slots.h.
 *
 * mutant: swap
 * mutant: shared/slots.h: if (rs_atomic_read(&cell->terms) != terms) => if (0)
 * mutant: shared/slots.h: || rs_slots_used(cell, hold->room) <= bounds.limit => || 1
 * mutant: shared/slots.h: found.kept = rs_slots_more(kept, found.used); => found.kept = kept;
 * mutant: shared/slots.h: uint32_t turn = rs_slots_turn(terms) + 1 => uint32_t turn = rs_slots_turn(terms)
 * mutant: shared/slots.h: if (rs_atomic_load(&cell->courier.seq) != ask) => if (0)
 * mutant: shared/slots.h: case RS_SLOTS_CLOSED: return 0; => case RS_SLOTS_CLOSED: return capacity;
 */
#include "interleave.h"
#include "shared/slots.h"

enum { CAPACITY = 2, ROOM = 3, WORKERS = 3, END_NS = 10 * RS_SLOTS_UNIT_NS };

static struct {
    rs_roll roll;
    rs_worker workers[WORKERS];
    union {
        rs_slots slots;
        char bytes[sizeof(rs_slots) + sizeof(rs_permits) + ROOM * RS_LINE];
    } cell;
    rs_member member[WORKERS];
    rs_hold hold[WORKERS];
    uint32_t index[WORKERS][ROOM];
    uint32_t believes[WORKERS]; /* slots that calls of a living process have */
    uint32_t others;            /* ... and that the store has given to other hosts */
    uint64_t seq;               /* the latest ask that the store has had */
    int64_t now;
    uint32_t late;
} all;

static void set_up(uint32_t allotment)
{
    memset(&all, 0, sizeof all);
    all.cell.slots.capacity = CAPACITY;
    all.cell.slots.courier.at_ns = all.cell.slots.courier.peers = 1;
    all.cell.slots.down = RS_SLOTS_CLOSED;
    all.cell.slots.terms = rs_slots_word(allotment, 0, END_NS);
    all.others = CAPACITY - allotment;
    for (uint32_t i = 0; i < WORKERS; i++) {
        all.roll.living |= UINT64_C(1) << i;
        all.member[i] = (rs_member){.roll = &all.roll, .workers = all.workers, .owner = rs_owner(i, 1), .slot = i};
        rs_hold_init(&all.hold[i], rs_slots_permits(&all.cell.slots), &all.member[i], all.index[i], ROOM);
        (void)rs_hold_owner(&all.hold[i]);
    }
}

static uint32_t believed(void) { return all.believes[0] + all.believes[1] + all.believes[2]; }

static const char *within_the_capacity(void)
{
    if (all.late)
        return "without a lease, and closed, no call is admitted";
    return believed() + all.others <= CAPACITY ? NULL : "G1: slots in use are never more than the capacity";
}

INTERLEAVE_APART static uint32_t take(int me, uint32_t wanted)
{
    int64_t now = all.now;
    uint32_t found = rs_slots_take(&all.cell.slots, &all.hold[me], now, wanted);
    if (found < wanted)
        return 0;
    all.believes[me] += wanted;
    all.late += now >= END_NS;
    return 1;
}

/* What the store does with an ask: the slots that are not kept go to others. It takes none back, and drops a late ask. */
static int reaches_the_store(uint64_t seq, uint32_t kept)
{
    if (seq <= all.seq)
        return 0;
    all.seq = seq;
    if (all.others < CAPACITY - kept)
        all.others = CAPACITY - kept;
    return 1;
}

/* Ask to keep this number, and take the answer. *given_up*: what is given up no other host wants so far. */
INTERLEAVE_APART static void exchange(uint32_t keep, int given_up)
{
    uint64_t seq = rs_atomic_add(&all.cell.slots.courier.seq, 1) + 1;
    rs_slots_found found = rs_slots_open(&all.cell.slots, ROOM, all.now, keep);
    if (!reaches_the_store(seq, given_up ? CAPACITY : found.kept))
        return;
    uint32_t allotment = CAPACITY - all.others;
    rs_slots_grant(&all.cell.slots, seq, found.terms, allotment, END_NS, 1, 0);
}

/* A process takes slots while the courier gives up all but one. */
static void give_up(int me)
{
    if (me == 1) {
        exchange(1, 0);
        return;
    }
    take(me, 1);
    take(me, 1);
}

/* The same with two processes, one of which may not have seen the terms; the courier is as quick as can be. */
static void lower(int me)
{
    if (me < 2) {
        take(me, 1);
        return;
    }
    rs_atomic_store(&all.cell.slots.terms, rs_slots_word(1, 1, END_NS));
    uint32_t used = 0;
    for (uint32_t i = 0; i < ROOM; i++)
        used += *rs_permit(rs_slots_permits(&all.cell.slots), i) != 0;
    reaches_the_store(1, rs_slots_more(1, used));
}

/* An answer that comes after another courier has asked counts for nothing. */
static void follow(int me) { exchange(1, me == 0); }

static const char *leased_once(void)
{
    uint32_t allotment = rs_slots_allotment(all.cell.slots.terms);
    return allotment + all.others <= CAPACITY ? NULL : "what has gone to others is not on lease here";
}

/* One of three slots is in use above a bound of two: of two processes one may take another. */
static void share_what_is_left(int me) { take(me, 1); }

static void set_up_lowered(void)
{
    set_up(CAPACITY);
    rs_slots_permits(&all.cell.slots)->bounds = rs_bounds_word((rs_bounds){.limit = CAPACITY, .reach = 3});
    *rs_permit(rs_slots_permits(&all.cell.slots), 2) = rs_owner(2, 1);
    all.believes[2] = 1;
}

/* The lease ends while calls begin. */
static void outlive(int me)
{
    if (me < 2) {
        take(me, 1);
        return;
    }
    interleave_step();
    all.now = END_NS;
}

int main(void)
{
    set_up(CAPACITY);
    INTERLEAVE(.name = "one takes while slots are given up", .memory = &all, .size = sizeof all, .workers = 2,
               .run = give_up, .always = within_the_capacity);
    set_up(CAPACITY);
    INTERLEAVE(.name = "two take, one by terms of before", .memory = &all, .size = sizeof all, .workers = 3,
               .run = lower, .always = within_the_capacity);
    set_up_lowered();
    INTERLEAVE(.name = "one slot is left below a lowered bound", .memory = &all, .size = sizeof all, .workers = 2,
               .run = share_what_is_left, .always = within_the_capacity);
    set_up(CAPACITY);
    INTERLEAVE(.name = "a late answer", .memory = &all, .size = sizeof all, .workers = 2, .run = follow,
               .always = leased_once, .deaths = 1);
    set_up(CAPACITY);
    INTERLEAVE(.name = "a lease ends", .memory = &all, .size = sizeof all, .workers = 3, .run = outlive,
               .always = within_the_capacity, .immortal = 1 << 2);
    return interleave_failed;
}
