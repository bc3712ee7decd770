/* A retry budget: tokens that successes pay in and that retries and hedges take out.
 *
 * A success deposits `ratio`, up to `cap`; a withdrawal takes 1. So in a total outage retries are limited to the tokens
 * saved and lent. Where half of the attempts fail, as slowly as others succeed, the load is at most 1 / (1 - ratio / 2)
 * times the original in the long run.
 *
 * Calls in flight lend: a burst may spend the deposits that they will make if all succeed. So the balance may be a debt
 * of at most `ratio` times their number. Successes pay it back before anything is saved. So in the long run a debt adds
 * no retry, and in a total outage it adds only what the calls in flight lend, once. Debts decay as savings do. While
 * the dependency is well, calls that were in flight within the last second lend too: when the last failures of a batch
 * return, few calls are left.
 *
 * The price of a retry is the cost of the failed attempt to the dependency: its share of a success's latency, at least
 * 1/20. An immediate rejection costs next to nothing, and its retry adds no work; a timeout costs the full token. This
 * holds while calls succeed at all: above seven failures in ten recent attempts the price rises, to 1 at nine in ten. A
 * retry that the dependency asked for (Retry-After) takes a quarter, however quick the rejection was: a rejection that
 * names a time is deliberate. For a Retry-After above one second the price falls in proportion.
 *
 * A dependency is well while fewer than 44 in 100 of some 512 attempts fail, and the caller's successes take no longer
 * than before. Then failures count as chance, and a retry is as good as a first attempt. When a call succeeds after
 * retries, three times their price comes back, since it pays for other calls that do not succeed. The reserve then has
 * no gap: each success leaves one retry. Retries count among the attempts, so retries that cannot succeed soon end this
 * state. Where a half fails slowly, as in an overload, nothing comes back.
 *
 * The recent attempts are some 32, or as many as there are calls in flight, up to 1024: the failures of
 * a batch return first, or last.
 *
 * Where nothing answers, savings are kept: only the reserve permits the retry of a slow failure. That is so when three
 * attempts of other calls have failed since the last success, and as many as there are calls in flight. In an outage
 * the retry could not succeed, and the callee may work on it afterwards.
 *
 * The reserve is a floor: it permits a withdrawal that the balance does not cover if the last one, however paid, is
 * `reserve_gap_ns` ago. Only a success since its last use arms it. An unarmed reserve, multiplied by many small
 * clients, would keep an outage alive forever; one on top of the balance would add that much load.
 *
 * If a fleet shares it, the reserve is one for all its hosts: a withdrawal from it takes a token of the fleet's rate too,
 * which is leased as that of a rate limit (shared/lease.h). What a success here has earned is not asked for: the savings,
 * and the reserve without a gap while the dependency is well.
 *
 * No Python.h; the owner locks. The amounts, their decay, and the parts of a host: budget_state.h.
 */
#ifndef RS_BUDGET_H
#define RS_BUDGET_H
#include "budget_state.h"

/* At a twentieth, a server that sheds at once got 1.94 times the calls at a load of 1.5; at a quarter it gets 1.27. A
 * quarter for all quick rejections would lose those of half of the replicas: .68 for .925 (computed). */
#define RS_BUDGET_ASKED_FOR INT64_C(250000000) /* a withdrawal for a Retry-After of up to a second */
#define RS_BUDGET_LEAST INT64_C(50000000)      /* the least price of any other withdrawal */
#define RS_BUDGET_SERVES INT64_C(700000000)    /* up to this failure share, cheap failures have cheap retries */
#define RS_BUDGET_IS_DOWN INT64_C(900000000)   /* from this failure share on, no retry is cheap */
/* Where 40 % fail slowly .92 are answered (naive .94). Where a half does nothing comes back, and the load is 1.05 (R6).
 * Failed retries are attempts: where all calls of two tenants of five fail, they reach it at 1.1 x the calls. */
#define RS_BUDGET_IS_WELL INT64_C(440000000) /* below this failure share, failures count as chance */
/* Into an outage of 11 s, 200 small clients send some 2,850 requests; 3,100 if savings always pay, 2,510 behind the
 * breaker alone. With two failures it is no less: those retries are in flight already. */
#define RS_BUDGET_MUTE 3 /* failures of other calls in a row: no savings pay for slow ones */
/* A call that fails three times loses two tokens if once its price comes back. Twice is enough on average below a half,
 * but some four of a cap of five are out in waits: .90 to .91 where 40 % fail. Three times: .92. */
#define RS_BUDGET_COMES_BACK 3 /* times the price of the call's retries */
/* log2 of the attempts that `failing` and `steady` average after a while, if few calls are in flight; and at most. The
 * standard error of a share of 512 is 1.6 %. Of 32 it is 6 %: half of the time 40 % would pass for a half. */
#define RS_BUDGET_LATEST 5
#define RS_BUDGET_STEADY 9
#define RS_BUDGET_MOST 10
/* How long a call lends after a withdrawal saw it in flight. Without it .979 of a batch of 313 were answered. */
#define RS_BUDGET_LENDS_NS INT64_C(1000000000)

/* How far *share* is from *none* on the way to *all*, 0 to 1. */
static inline int64_t rs_budget_part(int64_t share, int64_t none, int64_t all)
{
    if (share >= none)
        return 0;
    return share <= all ? RS_BUDGET_ONE
                        : (int64_t)((double)(none - share) / (double)(none - all) * (double)RS_BUDGET_ONE);
}

static inline int64_t rs_budget_times(int64_t amount, int64_t part)
{
    return (int64_t)((double)amount * ((double)part / (double)RS_BUDGET_ONE));
}

/* log2 of the number of attempts to average, from the attempts *seen* and the calls *underway*. */
static inline uint8_t rs_budget_memory(uint64_t seen, uint64_t underway, uint8_t first, uint8_t later)
{
    uint8_t bits = first;
    while (bits < RS_BUDGET_MOST && seen >> bits && (bits < later || underway >> bits))
        bits++;
    return bits;
}

/* Count a failed attempt, with *underway* calls in flight. */
static inline void rs_budget_failed(rs_budget *b, int64_t underway)
{
    uint64_t seen = b->deposits + b->failures++;
    b->row += b->success_ns != RS_BUDGET_LONG_AGO; /* of a callee that has answered before */
    b->memory = rs_budget_memory(seen, (uint64_t)underway, RS_BUDGET_FIRST, RS_BUDGET_LATEST);
    b->steady_memory = rs_budget_memory(seen, (uint64_t)underway, RS_BUDGET_FIRST_STEADY, RS_BUDGET_STEADY);
    b->failing += (RS_BUDGET_ONE - b->failing) >> b->memory;
    b->steady += (RS_BUDGET_ONE - b->steady) >> b->steady_memory;
}

/* Return 1 if the failure share is low enough to be chance. */
static inline int rs_budget_is_well(const rs_budget *b) { return b->steady < RS_BUDGET_IS_WELL; }

/* Return 1 if nothing answers: a row of failures, also of other calls, and one for each of the *underway* calls. *own*:
 * failures of the call itself; *price*: of its retry, a token if the failure was slow. */
static inline int rs_budget_is_mute(const rs_budget *b, int64_t price, int64_t underway, int64_t own)
{
    return price >= RS_BUDGET_ONE && b->row - own >= RS_BUDGET_MUTE && b->row >= underway;
}

/* Price of a retry. *share*: cost of the failed attempt relative to a success, 0 to 1; *asked_ns*: the
 * Retry-After, 0 for none. */
static inline int64_t rs_budget_price(const rs_budget *b, int64_t share, int64_t asked_ns)
{
    if (asked_ns > INT64_C(1000000000)) /* a call that returns in a minute adds little load in any second */
        return (int64_t)((double)RS_BUDGET_ASKED_FOR * 1e9 / (double)asked_ns);
    if (asked_ns > 0)
        return RS_BUDGET_ASKED_FOR;
    int64_t serves = rs_budget_part(b->failing, RS_BUDGET_IS_DOWN, RS_BUDGET_SERVES);
    int64_t price = RS_BUDGET_ONE - rs_budget_times(RS_BUDGET_ONE - share, serves);
    return price > RS_BUDGET_LEAST ? price : RS_BUDGET_LEAST;
}

/* Repay a call that succeeded, as quickly as usual, after retries that took *taken* together. */
static inline void rs_budget_repay(rs_budget *b, int64_t taken)
{
    if (taken <= 0 || !rs_budget_is_well(b))
        return;
    rs_budget_add(b, RS_BUDGET_COMES_BACK * taken);
    b->repaid++;
}

/* Deposit for a success: at most one for each logical call. */
static inline void rs_budget_deposit(rs_budget *b, int64_t now_ns)
{
    rs_budget_age(b, now_ns);
    if (rs_budget_is_shared(b)) {
        rs_budget_note_time(b, now_ns);
        rs_reserve_arm(b->host->cell);
    }
    rs_budget_add(b, b->ratio);
    b->failing -= b->failing >> b->memory;
    b->steady -= b->steady >> b->steady_memory;
    b->success_ns = now_ns;
    b->armed = 1;
    b->row = 0;
    b->deposits++;
}

/* Take a token of the fleet's reserve, and return 1; without a fleet there is always one. */
static inline int rs_budget_ask_fleet(rs_budget *b, int64_t now_ns)
{
    const int64_t cost = RS_TOKEN_MILLIONTHS;
    if (b->fleet == NULL)
        return 1;
    rs_member_owner(b->fleet->member);
    if (rs_rates_take(b->fleet, now_ns, &cost))
        return 1;
    rs_rates_miss(b->fleet, &cost);
    return 0;
}

/* Take the reserve and return 1 if a success has armed it and the last withdrawal is a gap ago; *well* waives the gap.
 * Otherwise return 0. After the clock stepped back the gap begins anew now, since the old time may be years ahead. */
static inline int rs_budget_take_reserve(rs_budget *b, int64_t now_ns, int well)
{
    if (!b->armed || b->reserve_gap_ns == RS_BUDGET_NEVER)
        return 0;
    if (now_ns < b->reserve_ns)
        b->reserve_ns = now_ns;
    if (!well && (now_ns - b->reserve_ns < b->reserve_gap_ns || !rs_budget_ask_fleet(b, now_ns)))
        return 0;
    b->armed = 0;
    b->reserved++;
    return 1;
}

/* The same of the host's reserve. */
static inline int rs_budget_take_reserve_of_host(rs_budget *b, int64_t now_ns, int well)
{
    rs_budget_of_host *host = b->host;
    uint32_t tick = rs_savings_tick(host->now_ns, RS_SAVINGS_TICK_NS);
    int asks = b->fleet != NULL && !well;
    if (asks && !rs_reserve_is_there(&host->rule, rs_atomic_load(&host->cell->reserve), tick, 0))
        return 0;
    if (asks && !rs_budget_ask_fleet(b, now_ns))
        return 0;
    if (rs_reserve_take(host->cell, &host->rule, host->now_ns, well)) {
        b->reserved++;
        return 1;
    }
    if (asks) /* another worker was faster */
        rs_rates_give_back(b->fleet, 0, now_ns, RS_TOKEN_MILLIONTHS);
    return 0;
}

/* Pay *price* from the host's savings, and what they lack by a debt of at most *room*, unless they are *mute*; or from
   the reserve. */
static inline int rs_budget_take_shared(rs_budget *b, int64_t now_ns, int64_t price, int64_t room, int well, int mute)
{
    rs_budget_of_host *host = b->host;
    rs_budget_note_time(b, now_ns);
    int64_t least = price - (room > 0 ? room : 0);
    int64_t taken = mute ? -1 : rs_savings_take(host->cell, &host->rule, price, least, host->now_ns);
    if (taken >= 0) {
        b->balance -= price - taken;
        rs_reserve_note(host->cell, host->now_ns);
        return 1;
    }
    return rs_budget_take_reserve_of_host(b, now_ns, well);
}

/* Withdraw *price* and return 1, or return 0. *lenders*: calls in flight; *quick*: the caller's
 * successes are as quick as usual; *mute*: from rs_budget_is_mute. */
static inline int rs_budget_take(rs_budget *b, int64_t now_ns, int64_t price, int64_t lenders, int quick, int mute)
{
    int well = quick && !mute && rs_budget_is_well(b);
    rs_budget_age(b, now_ns);
    if (lenders >= b->lenders || now_ns < b->lent_ns || now_ns - b->lent_ns > RS_BUDGET_LENDS_NS) {
        b->lenders = lenders;
        b->lent_ns = now_ns;
    }
    int64_t lend = well ? b->lenders : lenders;
    if (rs_budget_is_shared(b)) {
        if (!rs_budget_take_shared(b, now_ns, price, b->balance + b->ratio * lend, well, mute)) {
            b->rejected++;
            return 0;
        }
    }
    else if (!mute && (b->balance >= price || b->balance - price >= -b->ratio * lend))
        b->balance -= price;
    else if (!rs_budget_take_reserve(b, now_ns, well)) {
        b->rejected++;
        return 0;
    }
    b->reserve_ns = now_ns;
    b->withdrawals++;
    return 1;
}

/* Return the unused *price* of a withdrawal to the balance, even if the reserve paid it. A
   surplus refund changes nothing. */
static inline void rs_budget_put_back(rs_budget *b, int64_t price)
{
    if (b->refunds == b->withdrawals)
        return;
    rs_budget_add(b, price);
    b->refunds++;
}
#endif
