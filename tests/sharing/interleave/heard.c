/* What calls of another process report to the courier of a fleet's cell is heard: it asks, or they ring again.
 *
 * mutant: -DRINGS_FIRST
 * mutant: -DNEVER_HUSHES
 * mutant: -DHUSHES_LAST
 * mutant: shared/courier.h: rs_bell_ring(&me->workers[rs_owner_slot(owner) % RS_WORKERS].bell); => (void)0;
 */
#include "interleave.h"
#include "shared/rates.h"

#define TOKEN RS_TOKEN_MILLIONTHS
enum { CALLER = 0, COURIER = 1, WORKERS = 2 };

static struct {
    rs_courier head;
    rs_roll roll;
    rs_worker worker[WORKERS];
    rs_leased lease;
    rs_shared_pause pause;
    rs_member member[WORKERS];
    rs_host_rates host[WORKERS];
    int is_heard; /* the call that waits is asked for */
} all;

static const int64_t COST[RS_HOST_RATES] = {TOKEN};

/* A call finds no token, and is rejected. */
static INTERLEAVE_APART void be_rejected(int me)
{
    if (rs_rates_take(&all.host[me], 0, COST))
        return;
#ifdef RINGS_FIRST
    rs_courier_ring(&all.head, &all.member[me]);
    rs_draw_miss(&all.host[me].rate[0].draw, TOKEN);
#else
    rs_rates_miss(&all.host[me], COST);
#endif
}

/* A call finds no token, and waits for an answer that brings it one. */
static INTERLEAVE_APART void be_queued(int me)
{
    int64_t place[RS_HOST_RATES];
    if (rs_rates_take(&all.host[me], 0, COST))
        return;
    rs_rates_line_up(&all.host[me], COST, place);
    INTERLEAVE_AWAIT(all.is_heard);
    rs_rates_fall_out(&all.host[me], COST, 0);
}

static INTERLEAVE_APART int lacks(void) { return rs_leased_lacks(&all.lease); }

/* As the tie of a limit asks; the answer brings what calls wait for. */
static INTERLEAVE_APART void ask(void)
{
    rs_courier_hush(&all.head);
    rs_lease_found found = rs_draw_open(&all.host[COURIER].rate[0].draw, 0, 0);
    rs_atomic_add(&all.head.seq, 1);
    if (found.waiting && !all.is_heard) {
        rs_atomic_add(&all.lease.purse, (uint64_t)found.waiting);
        all.is_heard = 1;
    }
}

/* As the tie of a limit looks whether there is something to ask for. */
static INTERLEAVE_APART int look(void)
{
#ifdef HUSHES_LAST
    int found = lacks();
    rs_courier_hush(&all.head);
    return found;
#else
    if (lacks())
        return 1;
    if (rs_atomic_load(&all.head.rings) == 0)
        return 0;
#ifndef NEVER_HUSHES
    rs_courier_hush(&all.head);
#endif
    return lacks();
#endif
}

static INTERLEAVE_APART void wait_for_the_bell(void)
{
    rs_word32 *bell = rs_member_bell(&all.member[COURIER]);
    INTERLEAVE_AWAIT(*bell != 0);
    rs_member_wait(&all.member[COURIER], 1); /* returns at once: it has rung */
}

static void work(void)
{
    for (;;)
        if (look())
            ask();
        else
            wait_for_the_bell();
}

static void reject(int me)
{
    if (me == COURIER)
        work();
    for (int i = 0; i < 3; i++)
        be_rejected(me);
}

static void queue(int me)
{
    if (me == COURIER)
        work();
    be_rejected(me);
    be_queued(me);
}

static const char *all_is_heard(void)
{
    return rs_leased_lacks(&all.lease) ? "what calls have reported is heard" : NULL;
}

int main(void)
{
    for (int i = 0; i < WORKERS; i++) {
        uint32_t slot = (uint32_t)i;
        all.worker[i].epoch = 1;
        all.roll.living |= UINT64_C(1) << i;
        all.member[i] = (rs_member){.roll = &all.roll, .workers = all.worker, .owner = rs_owner(slot, 1), .slot = slot};
        all.host[i].courier = &all.head;
        all.host[i].member = &all.member[i];
        all.host[i].pause = &all.pause.until;
        rs_rates_add_lease(&all.host[i], TOKEN, 1000, 8 * TOKEN, TOKEN, RS_DOWN_LOCAL);
        rs_draw_begin(&all.host[i].rate[0].draw, &all.lease, 1);
    }
    all.head.owner = rs_owner(COURIER, 1);
    all.lease.expires_ns = 1000;
    INTERLEAVE(.name = "calls are rejected", .memory = &all, .size = sizeof all, .workers = WORKERS, .run = reject,
               .at_end = all_is_heard, .immortal = 1 << COURIER);
    INTERLEAVE(.name = "calls wait", .memory = &all, .size = sizeof all, .workers = WORKERS, .run = queue,
               .at_end = all_is_heard, .immortal = 1 << COURIER);
    return interleave_failed;
}
