/* The savings of a retry budget, which the workers of a host have together. Each lends to its own calls.
 *
 *     savings   amount 32 | tick 32: the tokens saved, and up to when they have decayed
 *     reserve   armed 1 | tick 32: the last withdrawal, and whether a success has come since the reserve was used
 *
 * In normal times the savings are full: a success loads the words and stores nothing, except once a tick, when some
 * have decayed. The unit of an amount is 1e-6 tokens, or a larger one if more than 4000 can be saved. Times count ticks
 * of at least 2^20 ns since the region's epoch. A worker that is killed between a withdrawal and its refund costs that.
 * No Python.h.
 */
#ifndef RS_SHARED_BUDGET_H
#define RS_SHARED_BUDGET_H
#include <math.h>
#include "member.h"

#define RS_SAVINGS_ONE INT64_C(1000000000) /* a token, in the amounts of this interface, as in budget.h */
#define RS_SAVINGS_TICKS 1024              /* decay steps a time constant */
#define RS_SAVINGS_TICK_NS (INT64_C(1) << 20)

typedef struct rs_shared_budget {
    _Alignas(RS_LINE) rs_word64 savings; /* 0: untouched, so `initial` */
    rs_word64 reserve;
} rs_shared_budget;

/* The options, the same for all workers that have the cell. Amounts are in 1e-9 tokens. */
typedef struct rs_savings_rule {
    int64_t cap, initial;
    int64_t unit;    /* of an amount in a word */
    int64_t tick_ns; /* at which they are seen to decay; INT64_MAX: never */
    double step;     /* a tick as a share of the time constant */
    int64_t gap_ns;  /* between a withdrawal and a use of the reserve; INT64_MAX: no reserve */
} rs_savings_rule;

/* *decay_ns*: 1/1024 of the time constant. */
static inline rs_savings_rule rs_savings_rule_of(int64_t cap, int64_t initial, int64_t decay_ns, int64_t gap_ns)
{
    int64_t unit = cap <= 4000 * RS_SAVINGS_ONE ? RS_SAVINGS_ONE / 1000000 : RS_SAVINGS_ONE / 1000;
    int64_t tick_ns = decay_ns < RS_SAVINGS_TICK_NS ? RS_SAVINGS_TICK_NS : decay_ns;
    return (rs_savings_rule){cap,   initial, unit, tick_ns, (double)tick_ns / (double)decay_ns / RS_SAVINGS_TICKS,
                             gap_ns};
}

/* A tick of 31 bits, behind a bit that is always set: a word that holds one is never 0. */
static inline uint32_t rs_savings_tick(uint64_t now_ns, int64_t tick_ns)
{
    return (uint32_t)(now_ns / (uint64_t)tick_ns) | 1u << 31;
}

/* The ticks from one to another, negative if that was before it. */
static inline int32_t rs_savings_passed(uint32_t from, uint32_t to) { return (int32_t)((to - from) << 1) / 2; }

/* The savings at a tick: those above `initial` decay. */
static inline int64_t rs_savings_at(const rs_savings_rule *rule, uint64_t word, uint32_t tick)
{
    if (word == 0)
        return rule->initial;
    int64_t saved = (int64_t)(uint32_t)(word >> 32) * rule->unit, above = saved - rule->initial;
    int32_t passed = rs_savings_passed((uint32_t)word, tick);
    if (above <= 0 || passed <= 0)
        return saved;
    return rule->initial + (int64_t)((double)above * exp((double)passed * -rule->step));
}

static inline uint64_t rs_savings_word(const rs_savings_rule *rule, int64_t saved, uint32_t tick)
{
    saved = saved < rule->cap ? saved : rule->cap;
    return (uint64_t)(saved / rule->unit) << 32 | tick;
}

/* Add *amount*, up to the cap. No store if they are full. */
static inline void rs_savings_add(rs_shared_budget *cell, const rs_savings_rule *rule, int64_t amount, uint64_t now_ns)
{
    uint64_t word = rs_atomic_load(&cell->savings), next;
    uint32_t tick = rs_savings_tick(now_ns, rule->tick_ns);
    do {
        int64_t saved = rs_savings_at(rule, word, tick);
        if (saved > rule->cap - rule->unit)
            return;
        next = rs_savings_word(rule, saved + amount, tick);
    } while (next != word && !rs_atomic_swap(&cell->savings, &word, next));
}

/* Take *amount*, or all if at least *least* is saved, and return what was taken; otherwise -1. */
static inline int64_t rs_savings_take(rs_shared_budget *cell, const rs_savings_rule *rule, int64_t amount,
                                      int64_t least, uint64_t now_ns)
{
    uint64_t word = rs_atomic_load(&cell->savings), next;
    uint32_t tick = rs_savings_tick(now_ns, rule->tick_ns);
    int64_t taken;
    do {
        int64_t saved = rs_savings_at(rule, word, tick);
        taken = saved < amount ? saved : amount;
        if (taken < least)
            return -1;
        next = rs_savings_word(rule, saved - taken, tick); /* rounded down: less than a unit is lost */
    } while (!rs_atomic_swap(&cell->savings, &word, next));
    return taken;
}

/* ---- the reserve --------------------------------------------------------------------------------------------- */

#define RS_RESERVE_ARMED (UINT64_C(1) << 32)

/* A success arms it: a store only after it was used. */
static inline void rs_reserve_arm(rs_shared_budget *cell)
{
    if (!(rs_atomic_load(&cell->reserve) & RS_RESERVE_ARMED))
        rs_atomic_or(&cell->reserve, RS_RESERVE_ARMED);
}

/* Note a withdrawal, however it was paid: the gap begins anew. */
static inline void rs_reserve_note(rs_shared_budget *cell, uint64_t now_ns)
{
    uint64_t word = rs_atomic_load(&cell->reserve), next;
    do
        next = (word & RS_RESERVE_ARMED) | rs_savings_tick(now_ns, RS_SAVINGS_TICK_NS);
    while (next != word && !rs_atomic_swap(&cell->reserve, &word, next));
}

/* 1 if a success has armed it and the last withdrawal is a gap ago; *well* waives the gap. */
static inline int rs_reserve_is_there(const rs_savings_rule *rule, uint64_t word, uint32_t tick, int well)
{
    int64_t passed = rs_savings_passed((uint32_t)word, tick);
    int long_ago = (uint32_t)word == 0 || passed < -1024 || passed * RS_SAVINGS_TICK_NS >= rule->gap_ns;
    if (!(word & RS_RESERVE_ARMED) || (!well && !long_ago))
        return 0;
    return rule->gap_ns != INT64_MAX;
}

/* Use it, and return 1, if it is there. */
static inline int rs_reserve_take(rs_shared_budget *cell, const rs_savings_rule *rule, uint64_t now_ns, int well)
{
    uint64_t word = rs_atomic_load(&cell->reserve);
    uint32_t tick = rs_savings_tick(now_ns, RS_SAVINGS_TICK_NS);
    do {
        if (!rs_reserve_is_there(rule, word, tick, well))
            return 0;
    } while (!rs_atomic_swap(&cell->reserve, &word, tick));
    return 1;
}

static inline size_t rs_shared_budget_size(void) { return sizeof(rs_shared_budget); }
#endif
