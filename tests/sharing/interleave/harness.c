/* The interleaver itself: what it has to find in three small algorithms.
 *
 * mutant: add
 * mutant: swap
 * mutant: -DWITH_A_LOCK
 * mutant: -DWITHOUT_REAPING
 */
#include "interleave.h"

static struct {
    rs_word32 count, owner;
    uint32_t counted, holders;
} all;

/* A counter: the word is what was counted, however often a worker dies. */
static void count(int me)
{
    (void)me;
    for (int i = 0; i < 2; i++) {
        rs_atomic_add(&all.count, 1);
        all.counted++;
    }
}

static const char *none_is_lost(void) { return all.count == all.counted ? NULL : "the word is what was counted"; }

/* One permit, with its owner in it. With a lock, a worker waits for the owner. */
static void hold(int me)
{
    uint32_t free_ = 0;
#ifdef WITH_A_LOCK
    while (!rs_atomic_swap(&all.owner, &free_, (uint32_t)me + 1))
        free_ = 0;
#else
    if (!rs_atomic_swap(&all.owner, &free_, (uint32_t)me + 1))
        return;
#endif
    all.holders++;
    interleave_step();
    all.holders--;
    rs_atomic_store(&all.owner, 0);
}

static void free_of(int dead)
{
#ifdef WITHOUT_REAPING
    dead = -1;
#endif
    if (rs_atomic_load(&all.owner) == (uint32_t)dead + 1 && dead >= 0) {
        all.holders = 0;
        rs_atomic_store(&all.owner, 0);
    }
}

static const char *one_holds(void) { return all.holders <= 1 ? NULL : "one worker holds the permit"; }
static const char *it_is_free(void) { return all.owner == 0 ? NULL : "the permit is free at the end"; }

int main(void)
{
    INTERLEAVE(.name = "a counter", .memory = &all, .size = sizeof all, .workers = 3, .run = count,
               .always = none_is_lost, .deaths = 2);
    INTERLEAVE(.name = "a permit", .memory = &all, .size = sizeof all, .workers = 3, .run = hold, .reap = free_of,
               .always = one_holds, .at_end = it_is_free, .deaths = 1);
    return interleave_failed;
}
