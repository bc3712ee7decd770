/* A shared sliding window: shared/window.h.
 *
 * mutant: swap
 * mutant: shared/window.h: (int64_t)entry - 1 + rule->period_ns <= now_ns => (int64_t)entry - 1 + rule->period_ns / 2 <= now_ns
 * mutant: shared/window.h: rs_atomic_add(&window->holes, 1); => ;
 * mutant: shared/window.h: rs_window_give_back(window, rule, now_ns, i); => ;
 * mutant: shared/window.h: if (next >= *seen) => if (1)
 */
#include "interleave.h"
#include "shared/window.h"

#define MOMENTS 3

static const int64_t clock_of[MOMENTS] = {5, 9, 15}; /* a period is 10 */
static rs_window_rule rule = {.period_ns = 10, .limit = 2};

static struct {
    rs_shared_window window;
    rs_word64 entries[8];
    uint32_t moment;
    int64_t admitted[MOMENTS]; /* net of what was given back */
    int64_t given_back;
    uint32_t busy; /* bit i: worker i has read the clock, and acts by it */
} all;

INTERLEAVE_APART static uint32_t take(int me, int64_t n)
{
    interleave_step();
    all.busy |= 1u << me;
    uint32_t now = all.moment;
    int taken = rs_window_take(&all.window, &rule, clock_of[now], n);
    all.admitted[now] += taken ? n : 0;
    all.busy &= ~(1u << me);
    return taken ? now : MOMENTS;
}

INTERLEAVE_APART static void give_back(uint32_t then)
{
    if (then == MOMENTS)
        return;
    all.admitted[then]--; /* from here on another call may have it */
    all.given_back++;
    rs_window_give_back(&all.window, &rule, clock_of[then], 1);
}

/* Time passes between calls only: one that acts by a clock read a period ago is none of the window's. */
static void pass_time(void)
{
    for (int i = 1; i < MOMENTS; i++) {
        INTERLEAVE_AWAIT(all.busy == 0);
        all.moment++;
    }
}

/* Without a clock: a worker that dies takes one entry with it at most, and the others go on. */
static void take_two(int me)
{
    take(me, 1);
    take(me, 2 - me);
}

static const char *one_is_lost(void)
{
    int64_t free = rs_window_available(&all.window, &rule, clock_of[0]);
    return free + all.admitted[0] >= rule.limit - 1 ? NULL : "a dead worker takes one entry with it at most";
}

/* W1 */
static const char *bound_holds(void)
{
    for (int s = 0; s < MOMENTS; s++) {
        int64_t sum = 0;
        for (int e = s; e < MOMENTS && clock_of[e] - clock_of[s] < rule.period_ns; e++)
            if ((sum += all.admitted[e]) > rule.limit)
                return "at most the limit is admitted in any period";
    }
    return NULL;
}

static void take_in_time(int me)
{
    if (me == 2)
        return pass_time();
    take(me, me + 1);
    if (me == 0)
        take(me, 1);
}

static void take_and_give_back(int me)
{
    uint32_t then = take(me, 1);
    if (me == 0)
        return give_back(then);
    take(me, 1);
    take(me, 2);
}

/* W2: without time, and after all have ended, what fits is what is free. */
static const char *nothing_is_lost(void)
{
    int64_t free = rs_window_available(&all.window, &rule, clock_of[0]);
    if (free + all.admitted[0] != rule.limit)
        return "what is not taken is free";
    for (int64_t i = 0; i < free; i++)
        if (!rs_window_take(&all.window, &rule, clock_of[0], 1))
            return "what is free can be taken";
    return NULL;
}

/* One call made at each of two times; then, a period after the first, exactly one more fits. */
static void take_in_turn(int me)
{
    if (me == 1)
        pass_time();
    take(me, 1);
}

static const char *one_has_left(void)
{
    return rs_window_available(&all.window, &rule, clock_of[all.moment]) + all.admitted[1] + all.admitted[2] >= 1
               ? bound_holds()
               : "a call leaves the window after one period";
}

int main(void)
{
    INTERLEAVE(.name = "two take in time, one of them two at once", .memory = &all, .size = sizeof all, .workers = 3,
               .run = take_in_time, .always = bound_holds);
    rule.limit = 3;
    INTERLEAVE(.name = "two take, one gives back", .memory = &all, .size = sizeof all, .workers = 2,
               .run = take_and_give_back, .always = bound_holds, .at_end = nothing_is_lost);
    rule.limit = 2;
    INTERLEAVE(.name = "two take, one dies", .memory = &all, .size = sizeof all, .workers = 2, .run = take_two,
               .always = bound_holds, .at_end = one_is_lost, .deaths = 1);
    INTERLEAVE(.name = "calls leave the window", .memory = &all, .size = sizeof all, .workers = 3, .run = take_in_turn,
               .always = bound_holds, .at_end = one_has_left);
    return interleave_failed;
}
