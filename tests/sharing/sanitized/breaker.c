/* Rows that are written and added up, a state that changes, probes, and a budget. Prints changes of state, probes, those
   that met another one, and the tokens that were taken of a budget of 100. */
#include "threads.h"
#include "shared/breaker_rows.h"
#include "shared/budget.h"

enum { CALLS = 20000, TOKENS = 100, DEAD = 9 };

static rs_shared_breaker *cell;
static rs_shared_budget *budget;
static rs_word64 changes, probes, probing, together, tokens;

static const rs_shared_rule rule = {.failure_rate = 0.5, .slow_rate = 2, .min_calls = 10, .consecutive = 10,
                                    .patience_ns = INT64_MAX, .by_rate = 1};

/* A probe of the half-open state: it closes, or opens until the next tick. */
static void probe(uint32_t me, uint64_t word, uint32_t i, int64_t now_ns)
{
    int64_t wait_ns;
    uint64_t lease = rs_shared_lease(me, i, word, rs_shared_tick(now_ns) + 1000);
    int place = rs_shared_lease_take(cell, lease, word, now_ns, 1, 1, &wait_ns);
    if (place < 0)
        return;
    atomic_fetch_add(&probes, 1);
    atomic_fetch_add(&together, atomic_fetch_add(&probing, 1) != 0);
    lease = rs_shared_lease_extend(cell, (uint32_t)place, lease, rs_shared_tick(now_ns) + 2000);
    atomic_fetch_sub(&probing, 1);
    rs_shared_probed(cell, &word, i % 3 != 0, 2, rs_shared_tick(now_ns), 0, 1);
    rs_shared_lease_free(cell, (uint32_t)place, lease);
}

static void call(uint32_t me, uint64_t word, uint32_t i, int64_t now_ns)
{
    rs_shared_row *row = &cell->row[me];
    if (rs_atomic_load(&row->generation) != rs_shared_generation(word) + 1)
        rs_shared_row_begin(row, word);
    rs_atomic_store(&row->calls, rs_shared_pair(i, 1));
    rs_atomic_store(&row->begun_ns, (uint64_t)now_ns);
    if (i % 64 == 0)
        rs_atomic_store(&row->good_ns, (uint64_t)now_ns);
    rs_atomic_store(&row->counts, rs_shared_counts(i % 30, i % 20, 0));
    rs_shared_row_fail(row, (uint64_t)now_ns - i % 8, (uint64_t)now_ns, rs_shared_pair(1 + i % 8, 0), 0);
    rs_shared_sum sum = rs_shared_add_up(cell, rs_atomic_load(&roll.living), word, 0, 0);
    if (rs_shared_judge(&sum, &rule, (uint64_t)now_ns) != RS_SHARED_STAYS) {
        rs_atomic_store(&cell->trip, rs_shared_trip(word, 10.0));
        atomic_fetch_add(&changes, rs_shared_change(cell, &word, rs_shared_next(word, RS_SHARED_OPEN, 1, 0, 0)));
    }
}

static void *work(void *at)
{
    uint32_t me = (uint32_t)(uintptr_t)at;
    rs_savings_rule saves = rs_savings_rule_of(TOKENS * RS_SAVINGS_ONE, TOKENS * RS_SAVINGS_ONE, INT64_MAX, 1);
    for (uint32_t i = 1; i <= CALLS; i++) {
        int64_t now_ns = (int64_t)i << 12;
        uint64_t word = rs_atomic_load(&cell->word);
        if (rs_shared_state(word) == RS_SHARED_CLOSED)
            call(me, word, i, now_ns);
        else if (rs_shared_state(word) == RS_SHARED_OPEN)
            rs_shared_change(cell, &word, rs_shared_next(word, RS_SHARED_HALF_OPEN, 2, 0, 0));
        else
            probe(me, word, i, now_ns);
        if (me == 1 && i % 50 == 0)
            rs_shared_breaker_reap(cell, DEAD);
        atomic_fetch_add(&tokens, rs_savings_take(budget, &saves, RS_SAVINGS_ONE, RS_SAVINGS_ONE, (uint64_t)now_ns) > 0);
        rs_reserve_arm(budget);
        rs_reserve_note(budget, (uint64_t)now_ns);
        rs_reserve_take(budget, &saves, (uint64_t)now_ns, 1);
    }
    return NULL;
}

int main(void)
{
    cell = zeroes(sizeof *cell);
    budget = zeroes(sizeof *budget);
    run(work);
    printf("changes %d\nprobes %d\ntogether %d\ntokens %d\n", (int)changes, (int)probes, (int)together, (int)tokens);
    return 0;
}
