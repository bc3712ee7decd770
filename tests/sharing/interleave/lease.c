/* Tokens on lease from a fleet's store, their courier, and the share without a store: shared/lease.h.
 *
 * mutant: swap
 * mutant: add
 * mutant: shared/lease.h: int64_t least = n - rs_word_signed(&lease->credit) => int64_t least = -9 * n
 * mutant: shared/lease.h: return rs_draw_take_alone(draw, now_ns, n); => (void)0;
 * mutant: -DOFFERS_WITHOUT_TAKING
 */
#include "interleave.h"
#include "shared/lease.h"

#define TOKEN RS_TOKEN_MILLIONTHS
enum { EXPIRES = 10, CREDIT = 1 };

static struct {
    rs_leased lease;
    rs_draw draw[2];                              /* of two processes */
    int64_t granted, offered, taken, alone, debt; /* whole tokens; a debt on its way to the store is not counted yet */
    int64_t now;
} all;

/* P1. What a call takes it takes out before it is counted; a grant is counted before it is put in. */
static const char *bound_holds(void)
{
    int64_t purse = (int64_t)all.lease.purse / TOKEN;
    if (purse < -CREDIT)
        return "the debt is at most the credit";
    if (all.taken > all.granted - all.offered + CREDIT + all.debt)
        return "what was granted and not been offered is taken, and the credit";
    return purse <= all.granted - all.offered - all.taken + all.debt ? NULL : "nothing is in the purse twice";
}

static const char *nothing_is_lost(void)
{
    return (int64_t)all.lease.purse == (all.granted - all.offered - all.taken) * TOKEN ? NULL : "nothing is lost";
}

INTERLEAVE_APART static void take(int me, int64_t now_ns)
{
    int low = 0;
    if (rs_draw_take(&all.draw[me], now_ns, TOKEN, &low))
        all.taken++;
}

INTERLEAVE_APART static void offer(void)
{
    all.debt = CREDIT;
    rs_lease_found found = rs_draw_open(&all.draw[0], 0, TOKEN);
#ifdef OFFERS_WITHOUT_TAKING
    rs_atomic_add(&all.lease.purse, (uint64_t)found.left);
#endif
    all.offered += found.left / TOKEN;
    all.debt = 0;
}

INTERLEAVE_APART static void grant(int64_t tokens, int64_t expires_ns)
{
    rs_lease_terms terms = {.grant = tokens * TOKEN, .credit = CREDIT * TOKEN, .expires_ns = expires_ns, .peers = 2};
    all.granted += tokens;
    rs_draw_grant(&all.draw[0], &terms);
}

static void draw_on_it(int me)
{
    if (me == 2) {
        offer();
        grant(2, EXPIRES);
        return;
    }
    take(me, 0);
    if (me == 0)
        take(me, 0);
}

/* One gives back what it took while the courier offers the purse. */
static void give_back(int me)
{
    if (me == 2)
        return offer();
    int low = 0;
    if (!rs_draw_take(&all.draw[me], 0, TOKEN, &low))
        return;
    all.taken++;
    if (me == 1) {
        all.taken--;
        rs_draw_give_back(&all.draw[me], 0, TOKEN);
    }
}

static const char *nothing_comes_from_nothing(void)
{
    int64_t purse = (int64_t)all.lease.purse / TOKEN;
    return purse <= all.granted - all.offered - all.taken + all.debt ? NULL : "nothing is in the purse twice";
}

/* Calls of two processes around the end of the lease, and a clock: from then on they draw on the share alone. */
static void outlive(int me)
{
    if (me == 2) {
        interleave_step();
        all.now = EXPIRES + 4; /* four tokens have come in: two for each of two askers */
        return;
    }
    for (int i = 0; i < 2; i++) {
        interleave_step();
        int64_t now = all.now;
        int low = 0;
        if (rs_draw_take(&all.draw[me], now, TOKEN, &low)) {
            if (now >= EXPIRES)
                all.alone++;
            else
                all.taken++;
        }
    }
}

static const char *the_share_holds(void)
{
    return all.alone <= 2 ? bound_holds() : "without a store at most the share of what has come in is taken";
}

static void begin(int64_t purse, uint64_t peers)
{
    memset(&all, 0, sizeof all);
    for (int i = 0; i < 2; i++) {
        all.draw[i] = (rs_draw){.amount = TOKEN, .period_ns = 1, .burst = 8 * TOKEN, .least = TOKEN};
        rs_draw_begin(&all.draw[i], &all.lease, peers);
    }
    all.granted = purse;
    all.lease.purse = (uint64_t)(purse * TOKEN);
    all.lease.credit = CREDIT * TOKEN;
    all.lease.expires_ns = EXPIRES;
    all.lease.peers = peers;
    const rs_tokens *tokens = &all.draw[0].tokens; /* the share begins empty */
    all.lease.own.taken = (uint64_t)(rs_tokens_in(tokens, EXPIRES) + tokens->burst);
}

int main(void)
{
    begin(2, 2);
    INTERLEAVE(.name = "two draw while the courier exchanges", .memory = &all, .size = sizeof all, .workers = 3,
               .run = draw_on_it, .always = bound_holds, .at_end = nothing_is_lost);
    INTERLEAVE(.name = "the same, and one dies", .memory = &all, .size = sizeof all, .workers = 3, .run = draw_on_it,
               .always = bound_holds, .deaths = 1);
    INTERLEAVE(.name = "one gives back", .memory = &all, .size = sizeof all, .workers = 3, .run = give_back,
               .always = nothing_comes_from_nothing, .at_end = nothing_is_lost);
    INTERLEAVE(.name = "a lease ends", .memory = &all, .size = sizeof all, .workers = 3, .run = outlive,
               .always = the_share_holds, .deaths = 1, .immortal = 1 << 2);
    return interleave_failed;
}
