/* The savings of a host's retry budget: three workers pay in and take out.
 *
 * mutant: swap
 * mutant: shared/budget.h: rs_savings_word(rule, saved - taken, tick) => rs_savings_word(rule, saved, tick)
 * mutant: shared/budget.h: if (!(word & RS_RESERVE_ARMED) || (!well && !long_ago)) => if (!well && !long_ago)
 */
#include "interleave.h"
#include "shared/budget.h"

#define ONE RS_SAVINGS_ONE

static struct {
    rs_shared_budget cell;
    int64_t added, taken;
    int reserved, armed;
} all;

static rs_savings_rule rule(void) { return rs_savings_rule_of(5 * ONE, 2 * ONE, ONE, ONE); }

/* One pays in a token, two take one and a half each, of two. */
static void save_or_take(int me)
{
    rs_savings_rule of = rule();
    if (me == 0) {
        all.added += ONE; /* before it is seen: a death may keep it from coming */
        rs_savings_add(&all.cell, &of, ONE, 1);
        return;
    }
    int64_t taken = rs_savings_take(&all.cell, &of, ONE * 3 / 2, ONE * 3 / 2, 1);
    all.taken += taken > 0 ? taken : 0;
}

static const char *none_is_spent_twice(void)
{
    return all.taken <= 2 * ONE + all.added ? NULL : "no more is taken than was saved";
}

static const char *none_is_lost(void)
{
    rs_savings_rule of = rule();
    int64_t left = rs_savings_at(&of, all.cell.savings, rs_savings_tick(1, of.tick_ns));
    return left == 2 * ONE + all.added - all.taken ? NULL : "what is left is what was saved and not taken";
}

/* A success arms the reserve once; three calls want it. */
static void use_the_reserve(int me)
{
    rs_savings_rule of = rule();
    if (me == 0) {
        all.armed = 1;
        rs_reserve_arm(&all.cell);
        return;
    }
    if (rs_reserve_take(&all.cell, &of, (uint64_t)ONE * 60, 0))
        all.reserved++;
}

static const char *one_success_is_one_use(void)
{
    return all.reserved <= all.armed ? NULL : "a success permits one use of the reserve";
}

int main(void)
{
    INTERLEAVE(.name = "savings", .memory = &all, .size = sizeof all, .workers = 3, .run = save_or_take,
               .always = none_is_spent_twice, .at_end = none_is_lost, .deaths = 0);
    INTERLEAVE(.name = "savings of the dead", .memory = &all, .size = sizeof all, .workers = 3, .run = save_or_take,
               .always = none_is_spent_twice, .deaths = 2);
    INTERLEAVE(.name = "the reserve", .memory = &all, .size = sizeof all, .workers = 3, .run = use_the_reserve,
               .always = one_success_is_one_use, .deaths = 1);
    return interleave_failed;
}
