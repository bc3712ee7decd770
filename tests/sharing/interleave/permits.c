/* Permits of a host: never more than there are, none lost, whatever worker dies where.
 *
 * mutant: swap
 * mutant: shared/hold.h: if (found < wanted) => if (0)
 * mutant: shared/hold.h: rs_atomic_load(word) == 0 && rs_atomic_swap(word, &seen, hold->owner) => (rs_atomic_store(word, hold->owner), (void)seen, 1)
 * mutant: shared/hold.h: (void)rs_atomic_swap(rs_permit(hold->permits, hold->index[hold->held]), &mine, 0); => (void)mine;
 * mutant: shared/permits.h: if (above == 0) => if (1)
 * mutant: shared/permits.h: rs_owner_slot(owner) == slot => rs_owner_slot(owner) == slot + 1
 */
#include "interleave.h"
#include "shared/hold.h"

#define ROOM 3u /* at most */
#define WORKERS 3 /* at most */

static struct {
    rs_roll roll;
    union {
        rs_permits permits;
        char bytes[sizeof(rs_permits) + ROOM * RS_LINE];
    } table;
    rs_worker workers[WORKERS];
    rs_member member[WORKERS];
    rs_hold hold[WORKERS];
    uint32_t index[WORKERS][ROOM];
    uint32_t believes[WORKERS]; /* permits that a living worker knows to hold */
    uint32_t room, most;        /* permits; those that may be held */
    uint32_t begun, too_many;   /* of the case in which the limit is lowered */
} all;

static void set_up(uint32_t room, uint32_t limit)
{
    memset(&all, 0, sizeof all);
    all.room = room;
    all.most = limit;
    for (uint32_t i = 0; i < WORKERS; i++) {
        all.roll.living |= UINT64_C(1) << i;
        all.member[i] = (rs_member){.roll = &all.roll, .workers = all.workers, .owner = rs_owner(i, 1), .slot = i};
        rs_hold_init(&all.hold[i], &all.table.permits, &all.member[i], all.index[i], room);
        (void)rs_hold_owner(&all.hold[i]);
    }
    all.table.permits.bounds = limit;
}

/* ---- witnesses ------------------------------------------------------------------------------------------------- */

static uint32_t words(void)
{
    uint32_t held = 0;
    for (uint32_t i = 0; i < all.room; i++)
        held += *rs_permit(&all.table.permits, i) != 0;
    return held;
}

static uint32_t believed(void) { return all.believes[0] + all.believes[1] + all.believes[2]; }

static const char *within_the_limit(void)
{
    if (words() > all.most)
        return "P1: never more permits are held than the limit";
    if (all.too_many)
        return "after the limit was lowered a call is admitted only if fewer are held";
    return believed() <= words() ? NULL : "P1: no permit is held twice";
}

static const char *nothing_is_lost(void) { return words() == believed() ? NULL : "P2, P3: the words are what is held"; }

static void reap(int dead)
{
    all.believes[dead] = 0;
    rs_shared_permits_reap(&all.table.permits, rs_permits_size(all.room), (uint32_t)dead);
}

/* ---- what workers do ------------------------------------------------------------------------------------------- */

static uint32_t take(int me, uint32_t wanted)
{
    uint32_t found = rs_hold_take(&all.hold[me], wanted);
    if (found == wanted)
        all.believes[me] += wanted;
    return found == wanted;
}

static void give(int me, uint32_t many)
{
    all.believes[me] -= many;
    rs_hold_give(&all.hold[me], many);
}

static void take_and_give(int me)
{
    if (take(me, 1)) {
        interleave_step();
        give(me, 1);
    }
}

static void take_twice(int me)
{
    take_and_give(me);
    if (take(me, 1)) /* most likely the one that was given back */
        give(me, 1);
}

/* The second one takes two or none. */
static void take_by_weight(int me)
{
    uint32_t weight = me == 1 ? 2 : 1;
    if (take(me, weight)) {
        interleave_step();
        give(me, weight);
    }
}

/* The second one lowers the limit from 2 to 1, and raises it again. */
static void take_while_it_moves(int me)
{
    if (me == 0) {
        take_twice(me);
        return;
    }
    rs_permits_set_limit(&all.table.permits, 1);
    rs_permits_set_limit(&all.table.permits, 2);
}

/* The first one has taken both permits when the second one lowers the limit to one. */
static void take_below_a_lowered_limit(int me)
{
    if (me == 0) {
        take(0, 1);
        take(0, 1);
        all.index[0][0] = 1; /* taken in the other order, so that it gives the lower one back first */
        all.index[0][1] = 0;
        all.begun = 1;
        give(0, 1);
        give(0, 1);
        return;
    }
    INTERLEAVE_AWAIT(all.begun);
    rs_permits_set_limit(&all.table.permits, 1);
    if (take(1, 1)) {
        all.too_many = words() > 1;
        give(1, 1);
    }
}

/* The first one finds that it has lost its slot while it held a permit; another worker has it now. */
static void lose_the_slot(int me)
{
    if (me == 0 && take(me, 1)) {
        all.believes[0] = 0; /* it is not counted on any more */
        rs_shared_permits_reap(&all.table.permits, rs_permits_size(all.room), 0);
        all.member[0].owner = rs_owner(3, 1);
        all.member[0].slot = 3;
        (void)rs_hold_owner(&all.hold[0]);
        rs_hold_give(&all.hold[0], all.hold[0].held);
    }
    else if (me != 0)
        take_and_give(me);
}

int main(void)
{
    set_up(1, 1);
    INTERLEAVE(.name = "three workers, one permit", .memory = &all, .size = sizeof all, .workers = 3,
               .run = take_and_give, .always = within_the_limit, .at_end = nothing_is_lost);
    INTERLEAVE(.name = "a death beside another worker", .memory = &all, .size = sizeof all, .workers = 2,
               .run = take_twice, .reap = reap, .always = within_the_limit, .at_end = nothing_is_lost, .deaths = 2);
    set_up(2, 2);
    INTERLEAVE(.name = "two permits, taken again", .memory = &all, .size = sizeof all, .workers = 2, .run = take_twice,
               .reap = reap, .always = within_the_limit, .at_end = nothing_is_lost, .deaths = 2);
    set_up(2, 2);
    INTERLEAVE(.name = "the limit was lowered", .memory = &all, .size = sizeof all, .workers = 2,
               .run = take_below_a_lowered_limit, .always = within_the_limit, .at_end = nothing_is_lost);
    INTERLEAVE(.name = "one takes two or none", .memory = &all, .size = sizeof all, .workers = 2,
               .run = take_by_weight, .reap = reap, .always = within_the_limit, .at_end = nothing_is_lost, .deaths = 1);
    INTERLEAVE(.name = "the limit moves", .memory = &all, .size = sizeof all, .workers = 2, .run = take_while_it_moves,
               .reap = reap, .always = within_the_limit, .at_end = nothing_is_lost, .deaths = 1);
    INTERLEAVE(.name = "a slot is lost", .memory = &all, .size = sizeof all, .workers = 2, .run = lose_the_slot,
               .reap = reap, .always = within_the_limit, .at_end = nothing_is_lost, .deaths = 1);
    return interleave_failed;
}
