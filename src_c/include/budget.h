/* A retry budget: tokens that successes pay in and that retries and hedges take out.
 *
 * A success deposits `ratio`, up to `cap`; a withdrawal takes 1. So a dependency that fails for all gets nothing but what is
 * saved and lent in a total outage, and where half of the attempts fail, as slowly as others succeed, at most
 * 1 / (1 - ratio / 2) times its load in the long run.
 *
 * Calls under way lend: a burst may spend what they will pay in if all of them succeed, so the balance may be a debt of at
 * most `ratio` times their number. It is paid back by successes before anything is saved, so in the long run a debt adds no
 * retry, and once in a total outage as many as there were calls under way to lend. Debts decay as savings do. While the
 * dependency is well, those that were under way in the last second lend too: of a batch whose failures return last few are
 * left then.
 *
 * The price of a retry is what the failed attempt has cost the dependency: the share of a success's time that it took, at
 * least 1/20. What is refused at once has cost next to nothing, and its retry adds no work to that of a call; what has
 * timed out has cost all. That holds while something is served: where more than seven in ten of the latest attempts fail the
 * price rises, to 1 at nine in ten. A retry that the dependency asked for (Retry-After) takes a quarter, however quick the
 * refusal was: one that names a time is no accident. Where it asks for more than a second, it takes less in proportion.
 *
 * A dependency is well while fewer than 44 in 100 of some 512 attempts fail, and the caller sees its successes take no longer
 * than they used to: then failures are taken for chance, and a retry is as good as a first attempt. What the retries of a
 * call have taken comes back threefold when it succeeds, since it pays for others that do not; and the reserve has no gap:
 * each success leaves one retry. Retries count among the attempts, so those that cannot succeed end that soon. Where a half
 * fails slowly, as in an overload, nothing comes back.
 *
 * The latest attempts are some 32, or as many as there are calls under way, up to 1024: those of a batch that fail come back
 * first, or last.
 *
 * What has been saved above `initial` decays with a time constant: successes of an hour ago do not pay for a storm now,
 * and who calls once an hour has what a new client has.
 *
 * The reserve is a floor: it lets a withdrawal through when the balance has none and the last one, whatever paid for
 * it, is `reserve_gap_ns` ago. It is armed only by a success since it was last used: an unarmed one, multiplied by many
 * small clients, keeps an outage alive for good, and one on top of what the balance pays adds that much load.
 *
 * Amounts are integers of 1e-9: ten deposits of 0.1 are 1, which in doubles they are not. The decay comes in whole ticks
 * of 1/1024 of the time constant, so a deposit is an addition and two comparisons, and exp() is called at most once a
 * tick; the balance is never more than 0.1 % above the continuous decay, and the ticks do not add up an error in time.
 *
 * A clock that goes backwards decays nothing. No Python.h; the owner locks.
 */
#ifndef RS_BUDGET_H
#define RS_BUDGET_H
#include <math.h>
#include <stdint.h>

#define RS_BUDGET_ONE INT64_C(1000000000)           /* a withdrawal */
#define RS_BUDGET_ASKED_FOR INT64_C(250000000)      /* one that the dependency asked for, within a second */
#define RS_BUDGET_LEAST INT64_C(50000000)           /* the least for any other */
#define RS_BUDGET_SERVES INT64_C(700000000)         /* up to this share that fails, cheap failures have cheap retries; */
#define RS_BUDGET_IS_DOWN INT64_C(900000000)        /* from this one on, none has */
#define RS_BUDGET_IS_WELL INT64_C(440000000)        /* below this share that fails, failures are chance's */
#define RS_BUDGET_COMES_BACK 3                      /* times what was taken */
#define RS_BUDGET_FIRST 3                           /* bits of the attempts that `failing` is of in a new one, */
#define RS_BUDGET_LATEST 5                          /* of those later, if fewer calls are under way, */
#define RS_BUDGET_MOST 10                           /* and of the most */
#define RS_BUDGET_FIRST_STEADY 7                    /* the same of `steady` */
#define RS_BUDGET_STEADY 9
#define RS_BUDGET_LENDS_NS INT64_C(1000000000)      /* how long a call that was under way goes on to lend */
#define RS_BUDGET_TICKS 1024                        /* decay steps a time constant */
#define RS_BUDGET_NEVER INT64_MAX                   /* as tick_ns: no decay; as reserve_gap_ns: no reserve */
#define RS_BUDGET_LONG_AGO (-(INT64_C(1) << 62))    /* as reserve_ns: none yet */

typedef struct rs_budget {
    int64_t balance;                        /* up to cap; below 0: a debt to calls under way */
    int64_t ratio;                          /* of a deposit */
    int64_t cap;
    int64_t initial;
    int64_t tick_ns;
    int64_t aged_ns;                        /* the decay is applied up to here */
    int64_t reserve_gap_ns;                 /* between a withdrawal and a use of the reserve */
    int64_t reserve_ns;                     /* the last withdrawal: the gap begins here */
    int64_t failing;                        /* share of the latest attempts that failed, of some 2^memory; at first a half */
    int64_t steady;                         /* the same of more, some 2^steady_memory */
    int64_t success_ns;                     /* the last deposit */
    int64_t lenders, lent_ns;               /* the most calls that were under way at a withdrawal, and when, in the last second */
    uint64_t deposits, withdrawals, reserved, refused, refunds;     /* reserved: of the withdrawals, by the reserve */
    uint64_t failures, repaid;              /* attempts that failed; calls to which something came back */
    uint8_t memory, steady_memory;
    uint8_t armed;                          /* a success since the reserve was last used */
} rs_budget;

/* An amount as the integer that is kept. */
static inline int64_t rs_budget_amount(double tokens) { return (int64_t)(tokens * (double)RS_BUDGET_ONE + 0.5); }

/* Apply the decay of *passed_ns*, at least a tick; below zero the clock stepped back, and is followed. */
static inline void rs_budget_decay(rs_budget *b, int64_t passed_ns)
{
    if (passed_ns < 0) {
        b->aged_ns += passed_ns;
        return;
    }
    int64_t ticks = passed_ns / b->tick_ns;
    b->aged_ns += ticks * b->tick_ns;
    int64_t stays = b->balance < 0 ? 0 : b->initial, above = b->balance - stays;
    if (above > 0 || b->balance < 0)
        b->balance = stays + (int64_t)((double)above * exp((double)ticks * (-1.0 / RS_BUDGET_TICKS)));
}

static inline void rs_budget_age(rs_budget *b, int64_t now_ns)
{
    int64_t passed_ns = now_ns - b->aged_ns;
    if (__builtin_expect((uint64_t)passed_ns >= (uint64_t)b->tick_ns, 0))
        rs_budget_decay(b, passed_ns);
}

/* How far *share* is from *none* on the way to *all*, 0 to 1. */
static inline int64_t rs_budget_part(int64_t share, int64_t none, int64_t all)
{
    if (share >= none)
        return 0;
    return share <= all ? RS_BUDGET_ONE : (int64_t)((double)(none - share) / (double)(none - all) * (double)RS_BUDGET_ONE);
}

static inline int64_t rs_budget_times(int64_t amount, int64_t part)
{
    return (int64_t)((double)amount * ((double)part / (double)RS_BUDGET_ONE));
}

static inline void rs_budget_add(rs_budget *b, int64_t amount)
{
    int64_t balance = b->balance + amount;
    b->balance = balance < b->cap ? balance : b->cap;
}

/* Bits of the attempts to remember of so many that were *seen*, while so many calls are under way. */
static inline uint8_t rs_budget_memory(uint64_t seen, uint64_t underway, uint8_t first, uint8_t later)
{
    uint8_t bits = first;
    while (bits < RS_BUDGET_MOST && seen >> bits && (bits < later || underway >> bits))
        bits++;
    return bits;
}

/* An attempt has failed, while so many calls were under way. */
static inline void rs_budget_failed(rs_budget *b, int64_t underway)
{
    uint64_t seen = b->deposits + b->failures++;
    b->memory = rs_budget_memory(seen, (uint64_t)underway, RS_BUDGET_FIRST, RS_BUDGET_LATEST);
    b->steady_memory = rs_budget_memory(seen, (uint64_t)underway, RS_BUDGET_FIRST_STEADY, RS_BUDGET_STEADY);
    b->failing += (RS_BUDGET_ONE - b->failing) >> b->memory;
    b->steady += (RS_BUDGET_ONE - b->steady) >> b->steady_memory;
}

/* Are failures those of chance, as far as their share says? */
static inline int rs_budget_is_well(const rs_budget *b) { return b->steady < RS_BUDGET_IS_WELL; }

/* What a retry costs after an attempt that has cost *share* of what a success costs, 0 to 1; *asked_ns*: what the dependency
 * has asked for, 0: nothing. */
static inline int64_t rs_budget_price(const rs_budget *b, int64_t share, int64_t asked_ns)
{
    if (asked_ns > INT64_C(1000000000))     /* of a call that comes back in a minute a server sees little in a second */
        return (int64_t)((double)RS_BUDGET_ASKED_FOR * 1e9 / (double)asked_ns);
    if (asked_ns > 0)
        return RS_BUDGET_ASKED_FOR;
    int64_t serves = rs_budget_part(b->failing, RS_BUDGET_IS_DOWN, RS_BUDGET_SERVES);
    int64_t price = RS_BUDGET_ONE - rs_budget_times(RS_BUDGET_ONE - share, serves);
    return price > RS_BUDGET_LEAST ? price : RS_BUDGET_LEAST;
}

/* A call has succeeded, as quickly as usual, after retries that took *taken* together. */
static inline void rs_budget_repay(rs_budget *b, int64_t taken)
{
    if (taken <= 0 || !rs_budget_is_well(b))
        return;
    rs_budget_add(b, RS_BUDGET_COMES_BACK * taken);
    b->repaid++;
}

/* A success: at most one for each logical call. */
static inline void rs_budget_deposit(rs_budget *b, int64_t now_ns)
{
    rs_budget_age(b, now_ns);
    rs_budget_add(b, b->ratio);
    b->failing -= b->failing >> b->memory;
    b->steady -= b->steady >> b->steady_memory;
    b->success_ns = now_ns;
    b->armed = 1;
    b->deposits++;
}

/* 1 and takes the reserve if a success has armed it and the last withdrawal is a gap ago, which does not matter if all is
 * *well*; 0 if not. After the clock stepped back the gap begins anew: from then, and not from a time that may be years off. */
static inline int rs_budget_take_reserve(rs_budget *b, int64_t now_ns, int well)
{
    if (!b->armed || b->reserve_gap_ns == RS_BUDGET_NEVER)
        return 0;
    if (now_ns < b->reserve_ns)
        b->reserve_ns = now_ns;
    if (!well && now_ns - b->reserve_ns < b->reserve_gap_ns)
        return 0;
    b->armed = 0;
    b->reserved++;
    return 1;
}

/* 1: the caller may make what costs *price*; 0: it may not. *lenders*: calls under way; *quick*: its successes are as quick
 * as usual. */
static inline int rs_budget_take(rs_budget *b, int64_t now_ns, int64_t price, int64_t lenders, int quick)
{
    int well = quick && rs_budget_is_well(b);
    rs_budget_age(b, now_ns);
    if (lenders >= b->lenders || now_ns < b->lent_ns || now_ns - b->lent_ns > RS_BUDGET_LENDS_NS) {
        b->lenders = lenders;
        b->lent_ns = now_ns;
    }
    int64_t lend = well ? b->lenders : lenders;
    if (b->balance >= price || b->balance - price >= -b->ratio * lend)
        b->balance -= price;
    else if (!rs_budget_take_reserve(b, now_ns, well)) {
        b->refused++;
        return 0;
    }
    b->reserve_ns = now_ns;
    b->withdrawals++;
    return 1;
}

/* 1: the caller may retry, or hedge; 0: it may not. */
static inline int rs_budget_withdraw(rs_budget *b, int64_t now_ns)
{
    return rs_budget_take(b, now_ns, RS_BUDGET_ONE, 0, 0);
}

/* What was taken for *price* was not used: put it back, whichever it came from. One too many changes nothing. */
static inline void rs_budget_put_back(rs_budget *b, int64_t price)
{
    if (b->refunds == b->withdrawals)
        return;
    rs_budget_add(b, price);
    b->refunds++;
}

static inline void rs_budget_refund(rs_budget *b) { rs_budget_put_back(b, RS_BUDGET_ONE); }

/* What is there now. */
static inline double rs_budget_balance(rs_budget *b, int64_t now_ns)
{
    rs_budget_age(b, now_ns);
    return (double)b->balance / (double)RS_BUDGET_ONE;
}

/* As new: `initial` tokens, the reserve at hand as soon as a success arms it. The counters stay. */
static inline void rs_budget_reset(rs_budget *b, int64_t now_ns)
{
    b->balance = b->initial;
    b->aged_ns = now_ns;
    b->reserve_ns = RS_BUDGET_LONG_AGO;
    b->lenders = 0;
    b->failing = b->steady = RS_BUDGET_ONE / 2;
    b->memory = RS_BUDGET_FIRST;
    b->steady_memory = RS_BUDGET_FIRST_STEADY;
    b->success_ns = RS_BUDGET_LONG_AGO;
    b->armed = 0;
}

/* Is what it will allow that of a new one? It has within a thousandth of a token what a new one has (three successes that
 * pay a third each pay a billionth less than what was spent), and the gap after the last withdrawal is over. It may still
 * be armed: whoever takes it for new gives away one use of the reserve. */
static inline int rs_budget_is_new(rs_budget *b, int64_t now_ns)
{
    rs_budget_age(b, now_ns);
    int64_t above = b->balance - b->initial;
    if (above <= -RS_BUDGET_ONE / 1000 || above >= RS_BUDGET_ONE / 1000)
        return 0;
    return b->reserve_gap_ns == RS_BUDGET_NEVER || now_ns - b->reserve_ns >= b->reserve_gap_ns;
}

/* In the child of a fork: another client, which starts with no more than one starts with. */
static inline void rs_budget_forget(rs_budget *b)
{
    b->balance = b->balance < 0 ? 0 : b->balance < b->initial ? b->balance : b->initial;
    b->armed = 0;
    b->lenders = 0;
    b->refunds = b->withdrawals;            /* those under way are the parent's */
}

/* Change the options and keep the balance, up to the new cap. The caller has checked: 0 <= initial <= cap, decay_ns > 0
 * or RS_BUDGET_NEVER, reserve >= 0 withdrawals a second. */
static inline void rs_budget_configure(rs_budget *b, double ratio, double cap, double initial, int64_t decay_ns,
                                       double reserve, int64_t now_ns)
{
    if (b->tick_ns)
        rs_budget_age(b, now_ns);
    b->ratio = rs_budget_amount(ratio);
    b->cap = rs_budget_amount(cap);
    b->initial = rs_budget_amount(initial);
    int64_t tick_ns = decay_ns / RS_BUDGET_TICKS;
    b->tick_ns = decay_ns == RS_BUDGET_NEVER ? RS_BUDGET_NEVER : tick_ns > 0 ? tick_ns : 1;
    b->aged_ns = now_ns;
    double gap_ns = reserve > 0 ? 1e9 / reserve : INFINITY;
    b->reserve_gap_ns = gap_ns < 1e18 ? (int64_t)gap_ns : RS_BUDGET_NEVER;
    b->balance = b->balance < b->cap ? b->balance : b->cap;
}
#endif
