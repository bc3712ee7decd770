/* A retry budget: tokens that successes pay in and that retries and hedges take out.
 *
 * A success deposits `ratio`, up to `cap`; a withdrawal takes 1. So a dependency that fails for all gets at most
 * 1 / (1 - ratio * (1 - failing)) times its load in the long run, and nothing but what is saved and lent in a total outage.
 *
 * Calls under way lend: a burst may spend what they will pay in if all of them succeed, so the balance may be a debt of at
 * most `ratio` times their number. It is paid back by successes before anything is saved, so in the long run a debt adds no
 * retry, and once in a total outage as many as there were calls under way to lend. Debts decay as savings do.
 *
 * A retry that the dependency asked for (Retry-After) takes a quarter: the dependency decides when it comes.
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
#define RS_BUDGET_ASKED_FOR INT64_C(250000000)     /* one that the dependency asked for */
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
    uint64_t deposits, withdrawals, reserved, refused, refunds;     /* reserved: of the withdrawals, by the reserve */
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

/* A success: at most one for each logical call. */
static inline void rs_budget_deposit(rs_budget *b, int64_t now_ns)
{
    rs_budget_age(b, now_ns);
    int64_t balance = b->balance + b->ratio;
    b->balance = balance < b->cap ? balance : b->cap;
    b->armed = 1;
    b->deposits++;
}

/* 1 and takes the reserve if a success has armed it and the last withdrawal is a gap ago, 0 if not. After the clock
 * stepped back the gap begins anew: from then, and not from a time that may be years off. */
static inline int rs_budget_take_reserve(rs_budget *b, int64_t now_ns)
{
    if (!b->armed || b->reserve_gap_ns == RS_BUDGET_NEVER)
        return 0;
    if (now_ns < b->reserve_ns)
        b->reserve_ns = now_ns;
    if (now_ns - b->reserve_ns < b->reserve_gap_ns)
        return 0;
    b->armed = 0;
    b->reserved++;
    return 1;
}

/* 1: the caller may make what costs *price*; 0: it may not. *lenders*: calls under way. */
static inline int rs_budget_take(rs_budget *b, int64_t now_ns, int64_t price, int64_t lenders)
{
    rs_budget_age(b, now_ns);
    if (b->balance >= price || b->balance - price >= -b->ratio * lenders)
        b->balance -= price;
    else if (!rs_budget_take_reserve(b, now_ns)) {
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
    return rs_budget_take(b, now_ns, RS_BUDGET_ONE, 0);
}

/* What was taken for *price* was not used: put it back, whichever it came from. One too many changes nothing. */
static inline void rs_budget_put_back(rs_budget *b, int64_t price)
{
    if (b->refunds == b->withdrawals)
        return;
    int64_t balance = b->balance + price;
    b->balance = balance < b->cap ? balance : b->cap;
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
