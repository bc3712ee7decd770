/* The state of a retry budget: its options, its balance, and what time, a host and a fork do to it.
 *
 * Savings above `initial` decay with a time constant: successes of an hour ago do not pay for a storm now, and a client
 * with one call an hour has the balance of a new client.
 *
 * Amounts are integers of 1e-9: ten deposits of 0.1 are exactly 1, unlike in doubles. The decay comes in whole ticks of
 * 1/1024 of the time constant. So a deposit is an addition and two comparisons, and exp() is called at most once a
 * tick. The balance is never more than 0.1 % above the continuous decay, and the ticks do not add up an error in time.
 *
 * If the host shares it (shared/budget.h), savings and reserve are the host's. `balance` is then this worker's debt, 0 or
 * below: each worker lends to its own calls, and pays back before it saves. Prices go by what the worker itself has seen.
 *
 * A clock that goes backwards decays nothing. Payments and prices: budget.h. No Python.h; the owner locks.
 */
#ifndef RS_BUDGET_STATE_H
#define RS_BUDGET_STATE_H
#include <math.h>
#include <stdint.h>
#include "shared/budget.h"
#include "shared/rates.h"

#define RS_BUDGET_ONE INT64_C(1000000000)        /* a withdrawal */
#define RS_BUDGET_FIRST 3                        /* log2 of the attempts that `failing` averages in a new budget */
#define RS_BUDGET_FIRST_STEADY 7                 /* the same of `steady` */
#define RS_BUDGET_TICKS 1024                     /* decay steps a time constant */
#define RS_BUDGET_NEVER INT64_MAX                /* as tick_ns: no decay; as reserve_gap_ns: no reserve */
#define RS_BUDGET_LONG_AGO (-(INT64_C(1) << 62)) /* as reserve_ns: none yet */

/* A worker's part in the budget of a host. */
typedef struct rs_budget_of_host {
    rs_shared_budget *cell;
    rs_member *member;
    rs_savings_rule rule;
    uint64_t now_ns; /* since the region's epoch, as seen last */
    int on;          /* the worker has a slot */
} rs_budget_of_host;

typedef struct rs_budget {
    rs_budget_of_host *host; /* NULL: the process's own */
    rs_host_rates *fleet;    /* the reserve of a fleet, one rate; NULL: none */
    int64_t balance;         /* up to cap; below 0: a debt to calls in flight */
    int64_t ratio;           /* of a deposit */
    int64_t cap;
    int64_t initial;
    int64_t tick_ns;
    int64_t aged_ns;          /* the decay is applied up to here */
    int64_t reserve_gap_ns;   /* between a withdrawal and a use of the reserve */
    int64_t reserve_ns;       /* the last withdrawal: the gap begins here */
    int64_t failing;          /* failure share of the recent attempts, some 2^memory; at first a half */
    int64_t steady;           /* the same over more attempts, some 2^steady_memory */
    int64_t success_ns;       /* the last deposit */
    int64_t lenders, lent_ns; /* most calls in flight at a withdrawal in the last second, and its time */
    uint64_t deposits, withdrawals, reserved, rejected, refunds; /* reserved: withdrawals by the reserve */
    uint64_t failures, repaid;                                   /* failed attempts; calls repaid for their retries */
    int64_t row;                                                 /* failures since the last success */
    uint8_t memory, steady_memory;
    uint8_t armed; /* a success since the reserve was last used */
} rs_budget;

/* Convert tokens to the fixed-point integer. */
static inline int64_t rs_budget_amount(double tokens) { return (int64_t)(tokens * (double)RS_BUDGET_ONE + 0.5); }

/* Apply the decay of *passed_ns*, at least a tick; a negative value means that the clock
   stepped back, and is followed. */
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

/* Whether savings are the host's now. A worker that has lost its slot goes on like a new client. */
static inline int rs_budget_is_shared(rs_budget *b)
{
    if (__builtin_expect(b->host == NULL, 1))
        return 0;
    int on = rs_member_owner(b->host->member) != 0;
    if (on != b->host->on) {
        b->host->on = on;
        b->balance = b->balance < 0 ? b->balance : on ? 0 : b->initial;
    }
    return on;
}

static inline void rs_budget_note_time(rs_budget *b, int64_t now_ns)
{
    int64_t passed_ns = now_ns - b->host->member->epoch_ns;
    b->host->now_ns = passed_ns > 0 ? (uint64_t)passed_ns : 0;
}

static inline void rs_budget_add(rs_budget *b, int64_t amount)
{
    int64_t balance = b->balance + amount;
    if (rs_budget_is_shared(b)) {
        if (balance > 0)
            rs_savings_add(b->host->cell, &b->host->rule, balance, b->host->now_ns);
        balance = balance < 0 ? balance : 0;
    }
    b->balance = balance < b->cap ? balance : b->cap;
}

/* The balance now, in tokens. */
static inline double rs_budget_balance(rs_budget *b, int64_t now_ns)
{
    rs_budget_age(b, now_ns);
    int64_t saved = 0;
    if (rs_budget_is_shared(b)) {
        rs_budget_note_time(b, now_ns);
        saved = rs_savings_at(&b->host->rule, rs_atomic_load(&b->host->cell->savings),
                              rs_savings_tick(b->host->now_ns, b->host->rule.tick_ns));
    }
    return (double)(saved + b->balance) / (double)RS_BUDGET_ONE;
}

/* Reset to a new budget: `initial` tokens, the reserve ready as soon as a success arms it. The counters stay. */
static inline void rs_budget_reset(rs_budget *b, int64_t now_ns)
{
    b->balance = b->initial;
    if (rs_budget_is_shared(b)) {
        b->balance = 0;
        rs_atomic_store(&b->host->cell->reserve, 0);
        rs_atomic_store(&b->host->cell->savings, 0);
    }
    b->aged_ns = now_ns;
    b->reserve_ns = RS_BUDGET_LONG_AGO;
    b->lenders = 0;
    b->failing = b->steady = RS_BUDGET_ONE / 2;
    b->memory = RS_BUDGET_FIRST;
    b->steady_memory = RS_BUDGET_FIRST_STEADY;
    b->success_ns = RS_BUDGET_LONG_AGO;
    b->row = 0;
    b->armed = 0;
}

/* Return 1 if the budget will decide like a new one: its balance is within a thousandth of a token of a new one's, and
 * the gap after the last withdrawal is over. (Three successes that pay a third each pay a billionth less than was
 * spent.) It may still be armed: replacing it by a new one forfeits one use of the reserve. */
static inline int rs_budget_is_new(rs_budget *b, int64_t now_ns)
{
    rs_budget_age(b, now_ns);
    int64_t above = b->balance - b->initial;
    if (above <= -RS_BUDGET_ONE / 1000 || above >= RS_BUDGET_ONE / 1000)
        return 0;
    return b->reserve_gap_ns == RS_BUDGET_NEVER || now_ns - b->reserve_ns >= b->reserve_gap_ns;
}

/* In the child of a fork: become another client, with at most the balance of a new one. */
static inline void rs_budget_forget(rs_budget *b)
{
    b->balance = b->balance < 0 ? 0 : b->balance < b->initial ? b->balance : b->initial;
    b->armed = 0;
    b->lenders = b->row = 0;
    b->refunds = b->withdrawals; /* refunds in flight are the parent's */
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
